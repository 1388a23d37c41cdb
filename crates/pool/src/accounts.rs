//! What a bundle's signers have to have.

use std::collections::{BTreeMap, BTreeSet};

use alloy_consensus::Transaction;
use alloy_primitives::{Address, U256};
use lockstep_primitives::{Bundle, ChainId, Leg, Place, Reason, Rejection, RevertMode};

use crate::Pool;

/// An account that signs transactions of a bundle.
pub type TxAccount = (ChainId, Address);

/// Nonce and balance of an account in the newest state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountView {
    /// The next nonce.
    pub nonce: u64,
    /// In wei.
    pub balance: U256,
}

/// The accounts that [`check_accounts`] needs to know.
pub fn accounts_of(bundle: &Bundle) -> BTreeSet<TxAccount> {
    bundle.legs.iter().flat_map(|leg| leg.txs().iter().map(|tx| (leg.chain(), tx.tx.signer()))).collect()
}

/// Refuses transactions that can never be valid, or that nothing known can make valid: a used nonce; a nonce gap that
/// neither earlier transactions of the bundle nor pending ones fill; a balance that is too small while no earlier
/// transaction of the bundle on that rollup and no pending payment to the signer can raise it.
///
/// Transactions that may be left out (`drop`) are not checked.
///
/// # Errors
/// The first such transaction.
pub fn check_accounts(bundle: &Bundle, accounts: &BTreeMap<TxAccount, AccountView>, pool: &Pool) -> Result<(), Rejection> {
    let mut earlier: BTreeSet<(ChainId, Address, u64)> = BTreeSet::new();
    let mut touched: BTreeSet<ChainId> = BTreeSet::new();
    for (index, leg) in bundle.legs.iter().enumerate() {
        let chain = leg.chain();
        for (position, tx) in leg.txs().iter().enumerate() {
            let signer = tx.tx.signer();
            if tx.mode != RevertMode::Drop
                && let Some(account) = accounts.get(&(chain, signer))
            {
                let at = |reason| Rejection::new(Place::tx(chain, index, position), reason);
                let nonce = tx.tx.nonce();
                if nonce < account.nonce {
                    return Err(at(Reason::NonceTooLow { signer, nonce, account: account.nonce }));
                }
                let filled = |nonce| earlier.contains(&(chain, signer, nonce)) || pool.has_nonce(chain, signer, nonce);
                // A gap wider than the pool can hold cannot be filled, so the walk is bounded.
                if nonce - account.nonce > pool.limits().bundles as u64 || !(account.nonce..nonce).all(filled) {
                    return Err(at(Reason::NonceTooHigh { signer, nonce, account: account.nonce }));
                }
                let cost = tx.tx.max_cost().unwrap_or(U256::MAX);
                if account.balance < cost && !touched.contains(&chain) && !pool.pays(chain, signer) {
                    return Err(at(Reason::InsufficientFunds { signer, balance: account.balance, cost }));
                }
            }
            earlier.insert((chain, signer, tx.tx.nonce()));
            touched.insert(chain);
        }
        if matches!(leg, Leg::Relay { .. }) {
            touched.insert(chain);
        }
    }
    Ok(())
}

/// Whom a transaction pays native assets to directly.
pub(crate) fn payee(tx: &lockstep_primitives::SignedTx) -> Option<Address> {
    tx.envelope().to().filter(|_| !tx.envelope().value().is_zero())
}

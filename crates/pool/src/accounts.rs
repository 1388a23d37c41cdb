//! What a bundle's signers have to have.

use std::collections::{BTreeMap, BTreeSet};

use alloy_consensus::Transaction;
use alloy_primitives::{Address, U256};
use lockstep_primitives::{Bundle, ChainId, Leg, LegTx, Place, Reason, Rejection, RevertMode};

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
/// neither earlier transactions of the bundle nor pending ones fill, nor their authorizations (EIP-7702), which use up nonces of
/// whoever signed them; a balance that is too small while no earlier transaction of the bundle on that rollup and no pending
/// payment to the signer can raise it.
///
/// A transaction that may be left out (`drop`) may be any of that, as long as one of the bundle's is not.
///
/// # Errors
/// The first such transaction.
pub fn check_accounts(bundle: &Bundle, accounts: &BTreeMap<TxAccount, AccountView>, pool: &Pool) -> Result<(), Rejection> {
    let mut seen = Seen::default();
    let mut valid = false;
    let mut droppable = None;
    for (index, leg) in bundle.legs.iter().enumerate() {
        let chain = leg.chain();
        for (position, tx) in leg.txs().iter().enumerate() {
            let account = accounts.get(&(chain, tx.tx.signer())).copied().unwrap_or_default();
            let checked = check_account(chain, tx, account, &seen, pool);
            let checked = checked.map_err(|reason| Rejection::new(Place::tx(chain, index, position), reason));
            match checked {
                Ok(()) => valid = true,
                Err(rejection) if tx.mode == RevertMode::Drop => droppable = droppable.or(Some(rejection)),
                Err(rejection) => return Err(rejection),
            }
            seen.nonces.insert((chain, tx.tx.signer(), tx.tx.nonce()));
            // They count even when the transaction reverts.
            seen.nonces.extend(tx.tx.authorities(chain).map(|(authority, nonce)| (chain, authority, nonce)));
            seen.rollups.insert(chain);
        }
        if matches!(leg, Leg::Relay { .. }) {
            seen.rollups.insert(chain);
        }
    }
    match droppable {
        Some(rejection) if !valid => Err(rejection),
        _ => Ok(()),
    }
}

/// What the bundle has done so far.
#[derive(Default)]
struct Seen {
    nonces: BTreeSet<(ChainId, Address, u64)>,
    rollups: BTreeSet<ChainId>,
}

fn check_account(chain: ChainId, tx: &LegTx, account: AccountView, seen: &Seen, pool: &Pool) -> Result<(), Reason> {
    let (signer, nonce) = (tx.tx.signer(), tx.tx.nonce());
    if nonce < account.nonce {
        return Err(Reason::NonceTooLow { signer, nonce, account: account.nonce });
    }
    let filled = |nonce| {
        seen.nonces.contains(&(chain, signer, nonce))
            || pool.has_nonce(chain, signer, nonce)
            || pool.has_authorization(chain, signer, nonce)
    };
    // A gap wider than the pool can hold cannot be filled, so the walk is bounded.
    let limits = pool.limits();
    let widest = limits.bundles.saturating_mul(limits.transactions.saturating_add(limits.authorizations)) as u64;
    if nonce - account.nonce > widest || !(account.nonce..nonce).all(filled) {
        return Err(Reason::NonceTooHigh { signer, nonce, account: account.nonce });
    }
    let cost = tx.tx.max_cost().unwrap_or(U256::MAX);
    if account.balance < cost && !seen.rollups.contains(&chain) && !pool.pays(chain, signer) {
        return Err(Reason::InsufficientFunds { signer, balance: account.balance, cost });
    }
    Ok(())
}

/// Whom a transaction pays native assets to directly.
pub(crate) fn payee(tx: &lockstep_primitives::SignedTx) -> Option<Address> {
    tx.envelope().to().filter(|_| !tx.envelope().value().is_zero())
}

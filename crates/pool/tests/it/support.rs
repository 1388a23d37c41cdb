//! What the tests of the pool share: two rollups, their heads, and small bundles on them.

use std::sync::Arc;

use alloy_consensus::{SignableTransaction, TxEip1559, TxEip7702, TxEnvelope};
use alloy_eips::eip7702::Authorization;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use lockstep_pool::{Head, Heads, Inserted, Kind, Limits, Pool};
use lockstep_primitives::{Bundle, ChainId, Place, Reason, Rejection, Replacement, SignedTx, TxRules};
use lockstep_testkit::{GENESIS_TIME, GWEI, JOVIAN, OSAKA, bundle, gwei, sign, sign_digest, transfer, user};

/// A rollup where one transaction may ask for less gas than the block has.
pub(crate) const ETH: ChainId = OSAKA;
/// The block that [`ETH`] is at.
pub(crate) const ETH_HEAD: u64 = 100;
/// The most gas that one transaction of [`ETH`] may ask for.
pub(crate) const ETH_TX_GAS: u64 = 1 << 24;
/// Another rollup.
pub(crate) const OP: ChainId = JOVIAN;
/// The block that [`OP`] is at.
pub(crate) const OP_HEAD: u64 = 200;
/// The most gas that one transaction of [`OP`] may ask for.
pub(crate) const OP_TX_GAS: u64 = 30_000_000;
/// A rollup that nobody serves.
pub(crate) const NOWHERE: ChainId = 4_242;
/// When everything happens, in Unix seconds.
pub(crate) const NOW: u64 = GENESIS_TIME;
/// Who is paid by [`pay`].
pub(crate) const PAYEE: Address = Address::repeat_byte(0x77);

/// Where the rollups are.
pub(crate) fn heads() -> Heads {
    heads_at(ETH_HEAD, OP_HEAD)
}

/// Where the rollups are later.
pub(crate) fn heads_at(eth: u64, op: u64) -> Heads {
    let head = |number, tx_gas_limit, rules| Head { number, timestamp: NOW, tx_gas_limit, base_fee: 0, rules };
    let osaka = TxRules { gas_cap: Some(ETH_TX_GAS), calldata_floor: true, blobs: true, set_code: true, max_init_code: 49_152 };
    let jovian = TxRules { gas_cap: None, blobs: false, ..osaka };
    [(ETH, head(eth, ETH_TX_GAS, osaka)), (OP, head(op, OP_TX_GAS, jovian))].into()
}

/// A user, by number.
pub(crate) fn address(number: usize) -> Address {
    user(number).address()
}

/// A small payment by a user.
pub(crate) fn pay(chain: ChainId, number: usize, nonce: u64) -> Arc<SignedTx> {
    pay_to(chain, number, nonce, PAYEE)
}

/// A small payment by a user to somebody.
pub(crate) fn pay_to(chain: ChainId, number: usize, nonce: u64, to: Address) -> Arc<SignedTx> {
    transfer(chain, user(number), nonce, to, gwei(1), GWEI)
}

/// A transaction by `sender` (user, nonce) that authorizes code for users (user, nonce, chain of the authorization).
pub(crate) fn authorizing(chain: ChainId, sender: (usize, u64), authorities: &[(usize, u64, ChainId)]) -> Arc<SignedTx> {
    let authorization = |(number, nonce, chain): &(usize, u64, ChainId)| {
        let authorization = Authorization { chain_id: U256::from(*chain), address: PAYEE, nonce: *nonce };
        let signature = sign_digest(user(*number), authorization.signature_hash());
        authorization.into_signed(signature)
    };
    let tx = TxEip7702 {
        chain_id: chain,
        nonce: sender.1,
        gas_limit: 1_000_000,
        max_fee_per_gas: 20 * GWEI,
        max_priority_fee_per_gas: GWEI,
        to: PAYEE,
        value: U256::ZERO,
        access_list: Default::default(),
        authorization_list: authorities.iter().map(authorization).collect(),
        input: Bytes::new(),
    };
    let signature = sign_digest(user(sender.0), tx.signature_hash());
    Arc::new(SignedTx::from_parts(TxEnvelope::from(tx.into_signed(signature)), address(sender.0)))
}

/// A bundle of one small payment.
pub(crate) fn single(chain: ChainId, number: usize, nonce: u64) -> Bundle {
    bundle().tx(chain, pay(chain, number, nonce)).build()
}

/// A small payment on [`ETH`] at these fees per gas, in wei.
pub(crate) fn priced(number: usize, nonce: u64, fee_cap: u128, tip: u128) -> Bundle {
    let tx = TxEip1559 {
        chain_id: ETH,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: fee_cap,
        max_priority_fee_per_gas: tip,
        to: TxKind::Call(PAYEE),
        value: gwei(1),
        access_list: Default::default(),
        input: Bytes::new(),
    };
    bundle().tx(ETH, sign(user(number), tx)).build()
}

/// The same bundle in a request that somebody signed.
pub(crate) fn signed_by(bundle: Bundle, signer: Address) -> Bundle {
    Bundle { signer: Some(signer), ..bundle }
}

/// The same bundle with a replacement identity.
pub(crate) fn replacing(bundle: Bundle, uuid: &str, nonce: u64) -> Bundle {
    Bundle { replacement: Some(Replacement { uuid: uuid.to_owned(), nonce }), ..bundle }
}

/// An empty pool with the usual bounds.
pub(crate) fn pool() -> Pool {
    Pool::new(Limits::default())
}

/// Inserts a bundle behind all others, now.
pub(crate) fn insert(pool: &mut Pool, bundle: &Bundle, kind: Kind) -> Result<Inserted, Rejection> {
    let sequence = pool.pending().last().map_or(0, |entry| entry.sequence + 1);
    pool.insert(Arc::new(bundle.clone()), kind, sequence, NOW)
}

/// Inserts a bundle that nothing speaks against and that replaces nothing.
pub(crate) fn hold(pool: &mut Pool, bundle: &Bundle) -> B256 {
    hold_as(pool, bundle, Kind::Bundle)
}

/// As [`hold`], as another kind.
pub(crate) fn hold_as(pool: &mut Pool, bundle: &Bundle, kind: Kind) -> B256 {
    let inserted = insert(pool, bundle, kind).expect("the pool takes it");
    assert_eq!(inserted, Inserted { hash: bundle.hash(), known: false, replaced: Vec::new() });
    inserted.hash
}

/// Inserts a bundle that takes the place of these.
pub(crate) fn replace(pool: &mut Pool, bundle: &Bundle, kind: Kind, mut replaced: Vec<B256>) -> B256 {
    replaced.sort_unstable();
    let inserted = insert(pool, bundle, kind).expect("the pool takes it");
    assert_eq!(inserted, Inserted { hash: bundle.hash(), known: false, replaced: replaced.clone() });
    assert!(replaced.iter().all(|hash| pool.get(*hash).is_none()), "what is replaced is gone");
    inserted.hash
}

/// The pending bundles in the order of admission.
pub(crate) fn pending(pool: &Pool) -> Vec<B256> {
    pool.pending().into_iter().map(|entry| entry.hash).collect()
}

/// Something is refused at this place for this reason, which has this code.
#[track_caller]
pub(crate) fn assert_refused<T: std::fmt::Debug + PartialEq>(
    result: Result<T, Rejection>,
    code: &str,
    place: Place,
    reason: Reason,
) {
    assert_eq!(reason.code(), code);
    assert_eq!(result, Err(Rejection::new(place, reason)));
}

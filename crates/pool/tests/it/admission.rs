//! What a bundle has to be by itself: one test for each rule of `check`.

use std::sync::Arc;

use alloy_consensus::{SignableTransaction, TxEip4844, TxEnvelope, TxLegacy};
use alloy_primitives::{B256, Bytes, TxKind, U256};
use lockstep_pool::{Limits, check};
use lockstep_primitives::{Asset, Bundle, Leg, Place, Reason, Rejection, Relay, RevertMode, SignedTx};
use lockstep_testkit::{Call, GWEI, bundle, gwei, sign_digest, user};

use crate::support::{
    ETH, ETH_HEAD, ETH_TX_GAS, NOW, NOWHERE, OP, OP_HEAD, OP_TX_GAS, PAYEE, address, assert_refused, heads, pay, priced, single,
};

fn checked(bundle: &Bundle) -> Result<(), Rejection> {
    checked_within(bundle, &Limits::default())
}

fn checked_within(bundle: &Bundle, limits: &Limits) -> Result<(), Rejection> {
    check(bundle, &heads(), NOW, limits)
}

/// A payment on ETH and one on OP.
fn on_both() -> Bundle {
    bundle().tx(ETH, pay(ETH, 0, 0)).tx(OP, pay(OP, 0, 0)).build()
}

/// The same signature on a legacy transaction that may or may not name its chain.
fn legacy(chain_id: Option<u64>) -> Arc<SignedTx> {
    let tx = TxLegacy {
        chain_id,
        nonce: 0,
        gas_price: 20 * GWEI,
        gas_limit: 21_000,
        to: TxKind::Call(PAYEE),
        value: gwei(1),
        input: Bytes::new(),
    };
    let signature = sign_digest(user(0), tx.signature_hash());
    Arc::new(SignedTx::from_parts(TxEnvelope::from(tx.into_signed(signature)), address(0)))
}

#[test]
fn a_bundle_that_uses_everything_is_let_in() {
    let everything = bundle()
        .txs(ETH, [(pay(ETH, 0, 0), RevertMode::Fail), (pay(ETH, 0, 1), RevertMode::Allow), (pay(ETH, 1, 0), RevertMode::Drop)])
        .relay(OP, 0, 0)
        .relay(OP, 0, 1)
        .tx(OP, pay(OP, 0, 0))
        .relay(ETH, 3, 0)
        .blocks(ETH, ETH_HEAD + 1, ETH_HEAD + 3)
        .blocks(OP, 0, u64::MAX)
        .timestamps(Some(NOW), Some(NOW + 10))
        .require(ETH, address(0), Asset::Native, U256::ZERO)
        .require(OP, address(0), Asset::Token(PAYEE), U256::from(1))
        .build();
    assert_eq!(checked(&everything), Ok(()));
}

#[test]
fn a_bundle_without_legs_is_refused() {
    assert_refused(checked(&Bundle::default()), "empty_bundle", Place::BUNDLE, Reason::EmptyBundle);
}

#[test]
fn too_many_legs_are_refused() {
    let limits = Limits { legs: 2, ..Limits::default() };
    let three = bundle().tx(ETH, pay(ETH, 0, 0)).tx(OP, pay(OP, 0, 0)).tx(ETH, pay(ETH, 0, 1)).build();
    let reason = Reason::TooManyLegs { count: 3, limit: 2 };
    assert_refused(checked_within(&three, &limits), "too_many_legs", Place::BUNDLE, reason);
    assert_eq!(checked_within(&on_both(), &limits), Ok(()), "as many as the limit are let in");
}

#[test]
fn too_many_transactions_are_refused_however_they_are_spread_over_legs() {
    let limits = Limits { transactions: 2, ..Limits::default() };
    let two_and_one =
        bundle().txs(ETH, [(pay(ETH, 0, 0), RevertMode::Fail), (pay(ETH, 0, 1), RevertMode::Fail)]).tx(OP, pay(OP, 0, 0)).build();
    let reason = Reason::TooManyTransactions { count: 3, limit: 2 };
    assert_refused(checked_within(&two_and_one, &limits), "too_many_transactions", Place::BUNDLE, reason);
    assert_eq!(checked_within(&on_both(), &limits), Ok(()), "as many as the limit are let in");
}

#[test]
fn too_many_bytes_are_refused() {
    let both = on_both();
    let bytes: usize = both.txs().map(|tx| tx.tx.raw().len()).sum();
    let limits = Limits { bytes: bytes - 1, ..Limits::default() };
    let reason = Reason::TooLarge { bytes, limit: bytes - 1 };
    assert_refused(checked_within(&both, &limits), "too_large", Place::BUNDLE, reason);
    assert_eq!(checked_within(&both, &Limits { bytes, ..limits }), Ok(()), "as many as the limit are let in");
}

#[test]
fn too_much_gas_is_refused() {
    let both = on_both();
    let gas: u64 = both.txs().map(|tx| tx.tx.gas_limit()).sum();
    let limits = Limits { gas: gas - 1, ..Limits::default() };
    let reason = Reason::TooMuchGas { gas, limit: gas - 1 };
    assert_refused(checked_within(&both, &limits), "too_much_gas", Place::BUNDLE, reason);
    assert_eq!(checked_within(&both, &Limits { gas, ..limits }), Ok(()), "as much as the limit is let in");
}

#[test]
fn too_many_requirements_are_refused() {
    let limits = Limits { requirements: 1, ..Limits::default() };
    let require = |count: usize| {
        (0..count)
            .fold(bundle().tx(ETH, pay(ETH, 0, 0)), |recipe, number| {
                recipe.require(ETH, address(number), Asset::Native, U256::ZERO)
            })
            .build()
    };
    let reason = Reason::TooManyRequirements { count: 2, limit: 1 };
    assert_refused(checked_within(&require(2), &limits), "too_many_requirements", Place::BUNDLE, reason);
    assert_eq!(checked_within(&require(1), &limits), Ok(()), "as many as the limit are let in");
}

#[test]
fn a_rollup_that_is_not_served_is_refused() {
    let elsewhere = bundle().tx(ETH, pay(ETH, 0, 0)).tx(NOWHERE, pay(NOWHERE, 0, 0)).build();
    assert_refused(checked(&elsewhere), "unknown_rollup", Place::leg(NOWHERE, 1), Reason::UnknownRollup);
    let relayed = bundle().tx(ETH, pay(ETH, 0, 0)).relay(NOWHERE, 0, 0).build();
    assert_refused(checked(&relayed), "unknown_rollup", Place::leg(NOWHERE, 1), Reason::UnknownRollup);
}

#[test]
fn a_relay_of_its_own_message_is_refused() {
    let own = bundle().tx(ETH, pay(ETH, 0, 0)).relay(OP, 1, 0).build();
    assert_refused(checked(&own), "relay_cycle", Place::leg(OP, 1), Reason::RelayCycle);
}

#[test]
fn a_relay_of_a_later_or_of_no_leg_is_refused() {
    let later = bundle().tx(ETH, pay(ETH, 0, 0)).relay(OP, 2, 0).tx(ETH, pay(ETH, 0, 1)).build();
    assert_refused(checked(&later), "relay_to_later_leg", Place::leg(OP, 1), Reason::RelayToLaterLeg { leg: 2 });
    let absent = bundle().tx(ETH, pay(ETH, 0, 0)).relay(OP, 9, 0).build();
    assert_refused(checked(&absent), "relay_to_later_leg", Place::leg(OP, 1), Reason::RelayToLaterLeg { leg: 9 });
}

#[test]
fn a_relay_to_the_rollup_that_emits_is_refused() {
    let same = bundle().tx(OP, pay(OP, 0, 0)).tx(ETH, pay(ETH, 0, 0)).relay(ETH, 1, 0).build();
    assert_refused(checked(&same), "relay_same_rollup", Place::leg(ETH, 2), Reason::RelaySameRollup(ETH));
}

#[test]
fn a_message_that_is_relayed_twice_is_refused() {
    let twice = bundle().tx(ETH, pay(ETH, 0, 0)).relay(OP, 0, 3).relay(OP, 0, 4).relay(OP, 0, 3).build();
    let reason = Reason::RelayTwice(Relay::Emitted { leg: 0, message: 3 });
    assert_refused(checked(&twice), "relay_twice", Place::leg(OP, 3), reason);
}

#[test]
fn a_leg_without_transactions_is_refused() {
    let mut empty = on_both();
    empty.legs.push(Leg::Txs { chain: ETH, txs: Vec::new() });
    assert_refused(checked(&empty), "empty_leg", Place::leg(ETH, 2), Reason::EmptyLeg);
}

#[test]
fn a_bundle_of_relays_alone_is_refused() {
    // The first relay has no leg before it, so that the bundle is refused before anybody looks for signatures.
    let relays = bundle().relay(OP, 0, 0).relay(ETH, 0, 0).build();
    assert_refused(checked(&relays), "relay_cycle", Place::leg(OP, 0), Reason::RelayCycle);
}

#[test]
fn a_transaction_that_could_be_replayed_on_every_rollup_is_refused() {
    let replayable = bundle().txs(ETH, [(pay(ETH, 1, 0), RevertMode::Fail), (legacy(None), RevertMode::Fail)]).build();
    let place = Place::tx(ETH, 0, 1);
    assert_refused(checked(&replayable), "unprotected_transaction", place, Reason::UnprotectedTransaction);
    assert_eq!(checked(&bundle().tx(ETH, legacy(Some(ETH))).build()), Ok(()));
}

#[test]
fn a_transaction_that_is_signed_for_another_rollup_is_refused() {
    let mixed_up =
        bundle().tx(OP, pay(OP, 0, 0)).txs(ETH, [(pay(ETH, 0, 0), RevertMode::Fail), (pay(OP, 0, 1), RevertMode::Drop)]).build();
    let reason = Reason::WrongChainId { signed: OP };
    assert_refused(checked(&mixed_up), "wrong_chain_id", Place::tx(ETH, 1, 1), reason);
}

#[test]
fn a_gas_limit_above_that_of_the_rollup_is_refused() {
    let asking = |chain, gas| bundle().tx(chain, Call::pay(PAYEE, gwei(1)).with_gas(gas).sign(chain, user(0), 0, GWEI)).build();
    let reason = Reason::GasLimitTooHigh { gas: ETH_TX_GAS + 1, limit: ETH_TX_GAS };
    assert_refused(checked(&asking(ETH, ETH_TX_GAS + 1)), "gas_limit_too_high", Place::tx(ETH, 0, 0), reason);
    let reason = Reason::GasLimitTooHigh { gas: OP_TX_GAS + 1, limit: OP_TX_GAS };
    assert_refused(checked(&asking(OP, OP_TX_GAS + 1)), "gas_limit_too_high", Place::tx(OP, 0, 0), reason);
    assert_eq!(checked(&asking(ETH, ETH_TX_GAS)), Ok(()));
    assert_eq!(checked(&asking(OP, ETH_TX_GAS + 1)), Ok(()), "each rollup has a limit of its own");
}

/// A blob transaction in its block form.
fn with_blob(chain: u64) -> Bundle {
    let tx = TxEip4844 {
        chain_id: chain,
        gas_limit: 21_000,
        max_fee_per_gas: 20 * GWEI,
        to: PAYEE,
        blob_versioned_hashes: vec![B256::with_last_byte(1)],
        max_fee_per_blob_gas: 1,
        ..TxEip4844::default()
    };
    let signature = sign_digest(user(0), tx.signature_hash());
    let envelope = TxEnvelope::from(tx.into_signed(signature));
    bundle().tx(chain, Arc::new(SignedTx::from_parts(envelope, address(0)))).build()
}

#[test]
fn a_blob_transaction_is_refused_where_blocks_hold_none() {
    assert_refused(checked(&with_blob(OP)), "blob_transaction", Place::tx(OP, 0, 0), Reason::BlobTransaction);
    assert_eq!(checked(&with_blob(ETH)), Ok(()));
}

#[test]
fn less_gas_than_a_transaction_costs_at_least_is_refused() {
    let calling = |data: &'static [u8], gas| {
        bundle().tx(ETH, Call::contract(PAYEE, Bytes::from_static(data), gas).sign(ETH, user(0), 0, GWEI)).build()
    };
    // Two zero bytes and one other are six tokens; each costs 10 gas by the floor, which is more than what calldata costs.
    let reason = Reason::GasBelowMinimum { gas: 21_059, minimum: 21_060 };
    assert_refused(checked(&calling(&[0, 0, 7], 21_059)), "gas_below_minimum", Place::tx(ETH, 0, 0), reason);
    assert_eq!(checked(&calling(&[0, 0, 7], 21_060)), Ok(()));
    let mut before = heads();
    before.get_mut(&ETH).expect("it is served").rules.calldata_floor = false;
    let checked = |gas| check(&calling(&[0, 0, 7], gas), &before, NOW, &Limits::default());
    let reason = Reason::GasBelowMinimum { gas: 21_023, minimum: 21_024 };
    assert_refused(checked(21_023), "gas_below_minimum", Place::tx(ETH, 0, 0), reason);
    assert_eq!(checked(21_024), Ok(()), "before Prague there is no floor");
}

#[test]
fn init_code_beyond_the_limit_is_refused() {
    let creating = |bytes: usize| {
        let tx = TxLegacy {
            chain_id: Some(ETH),
            gas_price: 20 * GWEI,
            gas_limit: 10_000_000,
            to: TxKind::Create,
            input: vec![0; bytes].into(),
            ..TxLegacy::default()
        };
        let signature = sign_digest(user(0), tx.signature_hash());
        let tx = SignedTx::from_parts(TxEnvelope::from(tx.into_signed(signature)), address(0));
        bundle().tx(ETH, Arc::new(tx)).build()
    };
    let reason = Reason::InitCodeTooLarge { bytes: 49_153, limit: 49_152 };
    assert_refused(checked(&creating(49_153)), "init_code_too_large", Place::tx(ETH, 0, 0), reason);
    assert_eq!(checked(&creating(49_152)), Ok(()));
}

#[test]
fn a_fee_cap_below_half_of_the_base_fee_is_refused() {
    let base_fee = 2_000_000_001;
    let mut heads = heads();
    heads.get_mut(&ETH).expect("it is served").base_fee = base_fee;
    let checked = |fee_cap| check(&priced(0, 0, fee_cap, 0), &heads, NOW, &Limits::default());
    let reason = Reason::FeeCapTooLow { cap: 999_999_999, base_fee };
    assert_refused(checked(999_999_999), "fee_cap_too_low", Place::tx(ETH, 0, 0), reason);
    assert_eq!(checked(1_000_000_000), Ok(()), "a base fee falls");
}

#[test]
fn the_same_transaction_twice_is_refused() {
    let tx = pay(ETH, 0, 0);
    let reason = Reason::DuplicateTransaction(tx.hash());
    let in_a_leg = bundle().txs(ETH, [(Arc::clone(&tx), RevertMode::Fail), (Arc::clone(&tx), RevertMode::Drop)]).build();
    assert_refused(checked(&in_a_leg), "duplicate_transaction", Place::tx(ETH, 0, 1), reason.clone());
    let in_two_legs = bundle().tx(ETH, Arc::clone(&tx)).tx(OP, pay(OP, 0, 0)).tx(ETH, tx).build();
    assert_refused(checked(&in_two_legs), "duplicate_transaction", Place::tx(ETH, 2, 0), reason);
}

#[test]
fn block_bounds_on_a_rollup_without_a_leg_are_refused() {
    for unused in [OP, NOWHERE] {
        let bounded = bundle().tx(ETH, pay(ETH, 0, 0)).blocks(unused, 0, u64::MAX).build();
        let place = Place::rollup(unused);
        assert_refused(checked(&bounded), "bounds_for_unused_rollup", place, Reason::BoundsForUnusedRollup);
    }
}

#[test]
fn an_empty_range_of_blocks_is_refused() {
    let mut empty = on_both();
    empty.blocks.extend(bundle().blocks(OP, OP_HEAD + 3, OP_HEAD + 2).build().blocks);
    let reason = Reason::EmptyRange { min: OP_HEAD + 3, max: OP_HEAD + 2 };
    assert_refused(checked(&empty), "empty_range", Place::rollup(OP), reason);
}

#[test]
fn blocks_that_have_passed_are_refused() {
    let until = |max| bundle().tx(ETH, pay(ETH, 0, 0)).blocks(ETH, 0, max).build();
    let reason = Reason::PastBlock { max: ETH_HEAD, head: ETH_HEAD };
    assert_refused(checked(&until(ETH_HEAD)), "past_block", Place::rollup(ETH), reason);
    assert_eq!(checked(&until(ETH_HEAD + 1)), Ok(()), "the next block is in time");
}

#[test]
fn blocks_that_are_too_far_ahead_are_refused() {
    let limits = Limits { blocks_ahead: 10, ..Limits::default() };
    let from = |min| bundle().tx(OP, pay(OP, 0, 0)).blocks(OP, min, u64::MAX).build();
    let reason = Reason::TooFarAhead { min: OP_HEAD + 11, head: OP_HEAD, limit: 10 };
    assert_refused(checked_within(&from(OP_HEAD + 11), &limits), "too_far_ahead", Place::rollup(OP), reason);
    assert_eq!(checked_within(&from(OP_HEAD + 10), &limits), Ok(()));
    let endless = Limits { blocks_ahead: u64::MAX, ..limits };
    assert_eq!(checked_within(&from(u64::MAX), &endless), Ok(()), "no sum overflows");
}

#[test]
fn an_empty_range_of_timestamps_is_refused() {
    let empty = Bundle { min_timestamp: Some(NOW + 2), max_timestamp: Some(NOW + 1), ..on_both() };
    let reason = Reason::EmptyRange { min: NOW + 2, max: NOW + 1 };
    assert_refused(checked(&empty), "empty_range", Place::BUNDLE, reason);
    let instant = Bundle { min_timestamp: Some(NOW + 2), max_timestamp: Some(NOW + 2), ..on_both() };
    assert_eq!(checked(&instant), Ok(()));
}

#[test]
fn a_timestamp_that_has_passed_is_refused() {
    let until = |max| Bundle { max_timestamp: Some(max), ..on_both() };
    let reason = Reason::PastTimestamp { max: NOW - 1, now: NOW };
    assert_refused(checked(&until(NOW - 1)), "past_timestamp", Place::BUNDLE, reason);
    assert_eq!(checked(&until(NOW)), Ok(()), "the last second counts");
}

#[test]
fn a_requirement_on_a_rollup_without_a_leg_is_refused() {
    let required = bundle().tx(ETH, pay(ETH, 0, 0)).require(OP, address(0), Asset::Native, U256::ZERO).build();
    let place = Place::rollup(OP);
    assert_refused(checked(&required), "bounds_for_unused_rollup", place, Reason::BoundsForUnusedRollup);
    assert_eq!(checked(&single(ETH, 0, 0)), Ok(()));
}

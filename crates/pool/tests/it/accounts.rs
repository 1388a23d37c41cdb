//! What a bundle's signers have to have: nonces and balances against the state and the pool.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::U256;
use lockstep_pool::{AccountView, Pool, TxAccount, accounts_of, check_accounts};
use lockstep_primitives::{Bundle, ChainId, Place, Reason, Rejection, RevertMode};
use lockstep_testkit::{Call, GWEI, bundle, ether, user};

use crate::support::{ETH, OP, PAYEE, address, assert_refused, hold, pay, pay_to, pool, single};

/// An account of a user, in the state.
type Known = (ChainId, usize, u64, U256);

fn rich(chain: ChainId, number: usize, nonce: u64) -> Known {
    (chain, number, nonce, ether(1))
}

fn poor(chain: ChainId, number: usize, nonce: u64) -> Known {
    (chain, number, nonce, U256::ZERO)
}

fn checked(bundle: &Bundle, known: &[Known], pool: &Pool) -> Result<(), Rejection> {
    let accounts: BTreeMap<TxAccount, AccountView> = known
        .iter()
        .map(|(chain, number, nonce, balance)| ((*chain, address(*number)), AccountView { nonce: *nonce, balance: *balance }))
        .collect();
    check_accounts(bundle, &accounts, pool)
}

fn too_low(number: usize, nonce: u64, account: u64) -> Reason {
    Reason::NonceTooLow { signer: address(number), nonce, account }
}

fn too_high(number: usize, nonce: u64, account: u64) -> Reason {
    Reason::NonceTooHigh { signer: address(number), nonce, account }
}

/// What the payment of [`pay`] may cost.
fn cost() -> U256 {
    pay(ETH, 0, 0).max_cost().expect("a payment costs little")
}

fn broke(number: usize, balance: U256) -> Reason {
    Reason::InsufficientFunds { signer: address(number), balance, cost: cost() }
}

#[test]
fn every_signer_is_asked_for_once_on_each_rollup_where_it_signs() {
    let bundle = bundle()
        .txs(ETH, [(pay(ETH, 0, 0), RevertMode::Fail), (pay(ETH, 0, 1), RevertMode::Drop), (pay(ETH, 1, 0), RevertMode::Fail)])
        .relay(OP, 0, 0)
        .tx(OP, pay(OP, 0, 0))
        .build();
    let expected: BTreeSet<TxAccount> = [(ETH, address(0)), (ETH, address(1)), (OP, address(0))].into();
    assert_eq!(accounts_of(&bundle), expected);
}

#[test]
fn the_next_nonce_and_enough_money_are_all_it_takes() {
    assert_eq!(checked(&single(ETH, 0, 4), &[(ETH, 0, 4, cost())], &pool()), Ok(()));
}

#[test]
fn a_used_nonce_is_refused() {
    let place = Place::tx(ETH, 0, 0);
    assert_refused(checked(&single(ETH, 0, 3), &[rich(ETH, 0, 4)], &pool()), "nonce_too_low", place, too_low(0, 3, 4));
}

#[test]
fn a_used_nonce_is_refused_although_a_pending_transaction_has_it_too() {
    let mut pool = pool();
    hold(&mut pool, &single(ETH, 0, 3));
    let place = Place::tx(ETH, 0, 0);
    let again = bundle().tx(ETH, pay_to(ETH, 0, 3, address(5))).build();
    assert_refused(checked(&again, &[rich(ETH, 0, 4)], &pool), "nonce_too_low", place, too_low(0, 3, 4));
}

#[test]
fn the_refusal_names_the_transaction() {
    let bundle = bundle()
        .tx(OP, pay(OP, 0, 0))
        .txs(ETH, [(pay(ETH, 1, 0), RevertMode::Fail), (pay(ETH, 0, 1), RevertMode::Allow)])
        .build();
    let known = [rich(OP, 0, 0), rich(ETH, 1, 0), rich(ETH, 0, 2)];
    assert_refused(checked(&bundle, &known, &pool()), "nonce_too_low", Place::tx(ETH, 1, 1), too_low(0, 1, 2));
}

#[test]
fn a_nonce_gap_is_refused() {
    let place = Place::tx(ETH, 0, 0);
    assert_refused(checked(&single(ETH, 0, 5), &[rich(ETH, 0, 4)], &pool()), "nonce_too_high", place, too_high(0, 5, 4));
    let highest = single(ETH, 0, u64::MAX);
    let reason = too_high(0, u64::MAX, 0);
    assert_refused(checked(&highest, &[rich(ETH, 0, 0)], &pool()), "nonce_too_high", place, reason);
}

#[test]
fn an_earlier_transaction_of_the_bundle_fills_a_gap() {
    let in_a_leg = bundle().txs(ETH, [(pay(ETH, 0, 4), RevertMode::Fail), (pay(ETH, 0, 5), RevertMode::Fail)]).build();
    assert_eq!(checked(&in_a_leg, &[rich(ETH, 0, 4)], &pool()), Ok(()));
    let in_two_legs = bundle().tx(ETH, pay(ETH, 0, 4)).tx(OP, pay(OP, 0, 0)).tx(ETH, pay(ETH, 0, 5)).build();
    assert_eq!(checked(&in_two_legs, &[rich(ETH, 0, 4), rich(OP, 0, 0)], &pool()), Ok(()));
}

#[test]
fn a_later_transaction_of_the_bundle_fills_no_gap() {
    let backwards = bundle().txs(ETH, [(pay(ETH, 0, 5), RevertMode::Fail), (pay(ETH, 0, 4), RevertMode::Fail)]).build();
    let place = Place::tx(ETH, 0, 0);
    assert_refused(checked(&backwards, &[rich(ETH, 0, 4)], &pool()), "nonce_too_high", place, too_high(0, 5, 4));
}

#[test]
fn neither_another_rollup_nor_another_signer_fills_a_gap() {
    let known = [rich(ETH, 0, 4), rich(ETH, 1, 4), rich(OP, 0, 4)];
    let mut pool = pool();
    hold(&mut pool, &single(OP, 0, 4));
    hold(&mut pool, &single(ETH, 1, 4));
    let bundle = bundle().tx(OP, pay(OP, 0, 4)).tx(ETH, pay(ETH, 1, 4)).tx(ETH, pay(ETH, 0, 5)).build();
    assert_refused(checked(&bundle, &known, &pool), "nonce_too_high", Place::tx(ETH, 2, 0), too_high(0, 5, 4));
}

#[test]
fn a_pending_transaction_fills_a_gap() {
    let mut pool = pool();
    let filler = hold(&mut pool, &single(ETH, 0, 4));
    assert_eq!(checked(&single(ETH, 0, 5), &[rich(ETH, 0, 4)], &pool), Ok(()));
    pool.remove(filler);
    let place = Place::tx(ETH, 0, 0);
    assert_refused(checked(&single(ETH, 0, 5), &[rich(ETH, 0, 4)], &pool), "nonce_too_high", place, too_high(0, 5, 4));
}

#[test]
fn the_bundle_and_the_pool_fill_a_gap_together_but_only_all_of_it() {
    let mut pool = pool();
    hold(&mut pool, &single(ETH, 0, 4));
    let bundle = |first: u64| {
        bundle().txs(ETH, [(pay(ETH, 0, first), RevertMode::Fail), (pay(ETH, 0, first + 1), RevertMode::Fail)]).build()
    };
    assert_eq!(checked(&bundle(5), &[rich(ETH, 0, 4)], &pool), Ok(()));
    let place = Place::tx(ETH, 0, 0);
    assert_refused(checked(&bundle(6), &[rich(ETH, 0, 4)], &pool), "nonce_too_high", place, too_high(0, 6, 4));
}

#[test]
fn a_balance_that_does_not_cover_gas_and_value_is_refused() {
    let short = cost() - U256::from(1);
    let place = Place::tx(ETH, 0, 0);
    assert_refused(checked(&single(ETH, 0, 0), &[(ETH, 0, 0, short)], &pool()), "insufficient_funds", place, broke(0, short));
    assert_eq!(checked(&single(ETH, 0, 0), &[(ETH, 0, 0, cost())], &pool()), Ok(()), "just enough is enough");
}

#[test]
fn an_earlier_transaction_on_the_rollup_can_cure_a_balance() {
    let funded = bundle().tx(ETH, pay_to(ETH, 1, 0, address(0))).tx(ETH, pay(ETH, 0, 0)).build();
    let known = [poor(ETH, 0, 0), rich(ETH, 1, 0)];
    assert_eq!(checked(&funded, &known, &pool()), Ok(()));
    // Whatever it is: a contract may pay out.
    let called = Call::contract(PAYEE, Default::default(), 100_000).sign(ETH, user(1), 0, GWEI);
    let called = bundle().tx(ETH, called).tx(ETH, pay(ETH, 0, 0)).build();
    assert_eq!(checked(&called, &known, &pool()), Ok(()));
}

#[test]
fn a_later_transaction_or_one_on_another_rollup_cures_no_balance() {
    let known = [poor(ETH, 0, 0), rich(ETH, 1, 0), rich(OP, 1, 0)];
    let later = bundle().tx(ETH, pay(ETH, 0, 0)).tx(ETH, pay_to(ETH, 1, 0, address(0))).build();
    assert_refused(checked(&later, &known, &pool()), "insufficient_funds", Place::tx(ETH, 0, 0), broke(0, U256::ZERO));
    let elsewhere = bundle().tx(OP, pay_to(OP, 1, 0, address(0))).tx(ETH, pay(ETH, 0, 0)).build();
    assert_refused(checked(&elsewhere, &known, &pool()), "insufficient_funds", Place::tx(ETH, 1, 0), broke(0, U256::ZERO));
}

#[test]
fn an_earlier_relay_on_the_rollup_can_cure_a_balance() {
    let bridged = bundle().tx(OP, pay(OP, 1, 0)).relay(ETH, 0, 0).tx(ETH, pay(ETH, 0, 0)).build();
    assert_eq!(checked(&bridged, &[poor(ETH, 0, 0), rich(OP, 1, 0)], &pool()), Ok(()));
    let too_late = bundle().tx(OP, pay(OP, 1, 0)).tx(ETH, pay(ETH, 0, 0)).relay(ETH, 0, 0).build();
    let result = checked(&too_late, &[poor(ETH, 0, 0), rich(OP, 1, 0)], &pool());
    assert_refused(result, "insufficient_funds", Place::tx(ETH, 1, 0), broke(0, U256::ZERO));
}

#[test]
fn a_pending_payment_to_the_signer_can_cure_a_balance() {
    let mut pool = pool();
    let payment = hold(&mut pool, &bundle().tx(ETH, pay_to(ETH, 1, 0, address(0))).build());
    assert_eq!(checked(&single(ETH, 0, 0), &[poor(ETH, 0, 0)], &pool), Ok(()));
    pool.remove(payment);
    let place = Place::tx(ETH, 0, 0);
    let result = checked(&single(ETH, 0, 0), &[poor(ETH, 0, 0)], &pool);
    assert_refused(result, "insufficient_funds", place, broke(0, U256::ZERO));
}

#[test]
fn a_pending_payment_of_nothing_to_somebody_else_or_elsewhere_cures_no_balance() {
    let mut pool = pool();
    let nothing = Call::pay(address(0), U256::ZERO).sign(ETH, user(1), 0, GWEI);
    hold(&mut pool, &bundle().tx(ETH, nothing).build());
    hold(&mut pool, &bundle().tx(ETH, pay_to(ETH, 1, 1, address(2))).build());
    hold(&mut pool, &bundle().tx(OP, pay_to(OP, 1, 0, address(0))).build());
    let place = Place::tx(ETH, 0, 0);
    let result = checked(&single(ETH, 0, 0), &[poor(ETH, 0, 0)], &pool);
    assert_refused(result, "insufficient_funds", place, broke(0, U256::ZERO));
}

#[test]
fn droppable_transactions_are_not_checked_and_all_others_are() {
    let all_wrong = |mode| {
        bundle()
            .txs(ETH, [(pay(ETH, 0, 1), mode), (pay(ETH, 1, 9), mode), (pay(ETH, 2, 0), mode)])
            .tx(ETH, pay(ETH, 3, 0))
            .build()
    };
    let known = [rich(ETH, 0, 2), rich(ETH, 1, 2), poor(ETH, 2, 0), rich(ETH, 3, 0)];
    assert_eq!(checked(&all_wrong(RevertMode::Drop), &known, &pool()), Ok(()));
    for mode in [RevertMode::Fail, RevertMode::Allow] {
        let place = Place::tx(ETH, 0, 0);
        assert_refused(checked(&all_wrong(mode), &known, &pool()), "nonce_too_low", place, too_low(0, 1, 2));
    }
    // A droppable transaction does not excuse those behind it.
    let behind = bundle().txs(ETH, [(pay(ETH, 0, 1), RevertMode::Drop), (pay(ETH, 1, 9), RevertMode::Fail)]).build();
    assert_refused(checked(&behind, &known, &pool()), "nonce_too_high", Place::tx(ETH, 0, 1), too_high(1, 9, 2));
}

#[test]
fn a_bundle_that_could_drop_all_it_has_is_refused() {
    let dropped = |txs: [(usize, u64); 2]| {
        bundle().txs(ETH, txs.map(|(number, nonce)| (pay(ETH, number, nonce), RevertMode::Drop))).build()
    };
    let known = [rich(ETH, 0, 2), rich(ETH, 1, 2)];
    let place = Place::tx(ETH, 0, 0);
    assert_refused(checked(&dropped([(0, 1), (1, 9)]), &known, &pool()), "nonce_too_low", place, too_low(0, 1, 2));
    assert_refused(checked(&dropped([(1, 9), (0, 1)]), &known, &pool()), "nonce_too_high", place, too_high(1, 9, 2));
    assert_eq!(checked(&dropped([(0, 1), (1, 2)]), &known, &pool()), Ok(()), "one of them is valid");
}

#[test]
fn an_account_that_nobody_knows_has_nothing() {
    let place = Place::tx(ETH, 0, 0);
    let result = checked(&single(ETH, 0, 0), &[], &pool());
    assert_refused(result, "insufficient_funds", place, broke(0, U256::ZERO));
    assert_refused(checked(&single(ETH, 0, 1), &[], &pool()), "nonce_too_high", place, too_high(0, 1, 0));
}

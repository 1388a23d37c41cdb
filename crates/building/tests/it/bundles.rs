//! Stories of single bundles: modes, nonces, conditions, and what they are worth.

use alloy_consensus::TxEip1559;
use alloy_primitives::{I256, U256};
use lockstep_building::{Draft, SealedList};
use lockstep_primitives::{Asset, ChainId, Place, Reason, Rejection, RevertMode};
use lockstep_simulation::StateView;
use lockstep_testkit::{
    CANCUN, Call, GWEI, ISTHMUS, JOVIAN, PRAGUE, USD, Wallet, World, bundle, calls, candidates, ether, gwei, sign, user,
};

use crate::support::{balance, build_all, last_block, lists, placed, reason, seal_on, states};

const ETH: ChainId = PRAGUE;
const OP: ChainId = ISTHMUS;

/// How many transactions the user sent on a rollup.
fn nonce(draft: &Draft, chain: ChainId, number: usize) -> u64 {
    let account = last_block(draft, chain).state().account(user(number).address()).expect("a state in memory can be read");
    account.expect("the user exists").nonce
}

fn assert_as_if_nothing_happened(world: &World, draft: &Draft) {
    assert_eq!(states(draft), states(&build_all(world, &[])));
}

/// A bundle of a payment and a call that reverts, in this mode.
fn payment_and_failure(world: &World, mode: RevertMode) -> Draft {
    let mut alice = Wallet::user(0);
    let pay = alice.send(ETH, world.pay_proposer(gwei(1)));
    let fail = alice.send(ETH, world.probe(calls::fail("no")));
    build_all(world, &candidates([bundle().txs(ETH, [(pay, RevertMode::Fail), (fail, mode)]).build()]))
}

#[test]
fn a_transaction_that_must_not_fail_takes_its_bundle_with_it() {
    let world = World::pair();
    let draft = payment_and_failure(&world, RevertMode::Fail);
    let [(_, rejection)] = draft.left_out.as_slice() else { panic!("left out: {:?}", draft.left_out) };
    assert_eq!(rejection.place, Place::tx(ETH, 0, 1));
    let Reason::Reverted { message, .. } = &rejection.reason else { panic!("{rejection}") };
    assert_eq!(message.as_deref(), Some("no"));
    assert_as_if_nothing_happened(&world, &draft);
}

#[test]
fn a_transaction_that_may_fail_stays_and_pays_for_its_gas() {
    let world = World::pair();
    let draft = payment_and_failure(&world, RevertMode::Allow);
    let listed = draft.lanes[&ETH].blocks[0].listed();
    let succeeded: Vec<bool> = listed.iter().map(|executed| executed.outcome.succeeded()).collect();
    assert_eq!(succeeded, [true, false]);
    assert_eq!(nonce(&draft, ETH, 0), 2);
    let sealed = seal_on(&world, &draft, ETH).expect("it seals");
    assert_eq!(sealed.blocks[0].must_succeed, [0]);
}

#[test]
fn a_transaction_that_may_be_dropped_is_not_in_the_list_when_it_fails() {
    let world = World::pair();
    let draft = payment_and_failure(&world, RevertMode::Drop);
    assert_eq!(draft.placed.len(), 1);
    assert_eq!(lists(&draft)[&ETH][0].len(), 1);
    assert_eq!(nonce(&draft, ETH, 0), 1, "what is dropped costs nothing");
}

#[test]
fn an_invalid_transaction_may_be_dropped_but_not_allowed() {
    let world = World::pair();
    let with_gap = |mode| {
        let mut alice = Wallet::user(0);
        let pay = alice.send(ETH, world.pay_proposer(gwei(1)));
        let ahead = alice.send_at(ETH, 5, world.pay_proposer(gwei(1)));
        candidates([bundle().txs(ETH, [(pay, RevertMode::Fail), (ahead, mode)]).build()])
    };
    let allowed = with_gap(RevertMode::Allow);
    let draft = build_all(&world, &allowed);
    let rejection = reason(&draft, allowed[0].hash);
    assert_eq!((rejection.place, rejection.reason.code()), (Place::tx(ETH, 0, 1), "nonce_too_high"));
    assert_as_if_nothing_happened(&world, &draft);

    let draft = build_all(&world, &with_gap(RevertMode::Drop));
    assert_eq!((draft.placed.len(), lists(&draft)[&ETH][0].len()), (1, 1));
}

#[test]
fn of_two_bundles_with_the_same_nonce_exactly_the_better_one_lands() {
    let world = World::pair();
    let pay = |amount| {
        let pay = Wallet::user(0).send(ETH, world.pay_proposer(gwei(amount)));
        bundle().tx(ETH, pay).build()
    };
    let rivals = candidates([pay(1_000), pay(2_000)]);
    let draft = build_all(&world, &rivals);
    assert_eq!(placed(&draft), [rivals[1].hash]);
    let expected = Reason::NonceTooLow { signer: user(0).address(), nonce: 0, account: 1 };
    assert_eq!(*reason(&draft, rivals[0].hash), Rejection::new(Place::tx(ETH, 0, 0), expected));
}

#[test]
fn one_rollup_less_is_not_landed_either() {
    // The rival takes the nonce on OP, so that the bundle's leg on ETH must not happen.
    let world = World::pair();
    let mut alice = Wallet::user(0);
    let on_eth = alice.send(ETH, world.pay_proposer(gwei(1)));
    let on_op = alice.send(OP, world.pay_proposer(gwei(1)));
    let rival = Wallet::user(0).send(OP, world.pay_proposer(gwei(9_000_000)));
    let bundles = candidates([bundle().tx(ETH, on_eth).tx(OP, on_op).build(), bundle().tx(OP, rival).build()]);
    let draft = build_all(&world, &bundles);
    assert_eq!(placed(&draft), [bundles[1].hash]);
    assert_eq!(reason(&draft, bundles[0].hash).place, Place::tx(OP, 1, 0));
    assert!(lists(&draft)[&ETH][0].is_empty());
    assert_eq!(nonce(&draft, ETH, 0), 0);
}

#[test]
fn nonce_gaps_are_cured_by_other_bundles_however_late_they_come() {
    let world = World::pair();
    let mut alice = Wallet::user(0);
    let mut in_order: Vec<_> = (0..4).map(|_| bundle().tx(ETH, alice.send(ETH, world.pay_proposer(gwei(1)))).build()).collect();
    in_order.reverse();
    let backwards = candidates(in_order);
    let draft = build_all(&world, &backwards);
    let expected: Vec<_> = backwards.iter().rev().map(|candidate| candidate.hash).collect();
    assert_eq!(placed(&draft), expected, "left out: {:?}", draft.left_out);
}

#[test]
fn money_that_one_bundle_brings_pays_for_the_gas_of_another() {
    let world = World::pair();
    // The pauper has 500 000 gwei, which is not enough for a call.
    let pauper = user(6);
    let store = Wallet::user(6).send(ETH, world.probe(calls::store(1, 1)));
    let alone = candidates([bundle().tx(ETH, store.clone()).build()]);
    let refused = build_all(&world, &alone);
    assert_eq!(reason(&refused, alone[0].hash).reason.code(), "insufficient_funds");

    let gift = Wallet::user(0).send(ETH, Call::pay(pauper.address(), ether(1)));
    let together = candidates([bundle().tx(ETH, store).build(), bundle().tx(ETH, gift).build()]);
    let draft = build_all(&world, &together);
    assert_eq!(placed(&draft), [together[1].hash, together[0].hash], "left out: {:?}", draft.left_out);
}

#[test]
fn a_required_rise_of_the_native_balance_is_measured_to_the_wei() {
    let world = World::pair();
    let receiver = user(1).address();
    let paying = |required| {
        let pay = Wallet::user(0).send(ETH, Call::pay(receiver, gwei(5)));
        candidates([bundle().tx(ETH, pay).require(ETH, receiver, Asset::Native, required).build()])
    };
    let draft = build_all(&world, &paying(gwei(5)));
    assert_eq!(draft.placed.len(), 1, "left out: {:?}", draft.left_out);
    let SealedList { requirements, .. } = seal_on(&world, &draft, ETH).expect("it seals");
    assert_eq!(requirements.len(), 1);
    assert_eq!(requirements[0].requirement.increase, I256::from_raw(gwei(5)));
    assert_eq!((requirements[0].first, requirements[0].last), ((0, 0), (0, 0)));

    let greedy = paying(gwei(5) + U256::ONE);
    let draft = build_all(&world, &greedy);
    let expected =
        Reason::RequirementNotMet { account: receiver, increase: I256::from_raw(gwei(5)), required: gwei(5) + U256::ONE };
    assert_eq!(*reason(&draft, greedy[0].hash), Rejection::new(Place::rollup(ETH), expected));
    assert_as_if_nothing_happened(&world, &draft);
}

#[test]
fn a_required_rise_is_net_of_the_fees_that_the_account_pays() {
    let world = World::pair();
    let alice = user(0).address();
    let pay = Wallet::user(0).send(ETH, world.pay_proposer(gwei(1)));
    let candidates = candidates([bundle().tx(ETH, pay).require(ETH, alice, Asset::Native, U256::ZERO).build()]);
    let draft = build_all(&world, &candidates);
    let rejection = reason(&draft, candidates[0].hash);
    // Base fee and tip are one and two gwei.
    let paid = I256::from_raw(gwei(21_000 * 3 + 1));
    assert!(matches!(rejection.reason, Reason::RequirementNotMet { increase, .. } if increase == -paid), "{rejection}");
}

#[test]
fn a_required_rise_of_a_token_balance_is_measured_by_the_token() {
    let world = World::pair();
    let receiver = user(1).address();
    let token = Asset::Token(world.contracts[&OP].usdc);
    let sending = |asset, dollars: u64| {
        let send = Wallet::user(0).send(OP, world.send_usdc(OP, receiver, 3 * USD));
        candidates([bundle().tx(OP, send).require(OP, receiver, asset, U256::from(dollars * USD)).build()])
    };
    let draft = build_all(&world, &sending(token, 3));
    assert_eq!(draft.placed.len(), 1, "left out: {:?}", draft.left_out);
    assert_eq!(balance(&draft, OP, receiver, token), U256::from(1_003 * USD));

    let greedy = sending(token, 4);
    let draft = build_all(&world, &greedy);
    assert_eq!(reason(&draft, greedy[0].hash).reason.code(), "requirement_not_met");
    assert_as_if_nothing_happened(&world, &draft);

    let no_token = sending(Asset::Token(receiver), 0);
    let draft = build_all(&world, &no_token);
    let expected = Reason::UnreadableBalance { account: receiver, token: receiver };
    assert_eq!(*reason(&draft, no_token[0].hash), Rejection::new(Place::rollup(OP), expected));
}

#[test]
fn a_bundle_is_worth_what_the_proposer_gains_whoever_receives_the_fees() {
    let payment = gwei(5_000);
    let tip = gwei(2);
    let gas = U256::from(21_000_u64);
    let shared = |per_gas: U256, bps: u64| gas * per_gas * U256::from(bps) / U256::from(10_000_u64);
    // (world, rollup, what the proposer gains in the numeraire)
    let cases = [
        // The proposer is the fee recipient, and the base fee is burned.
        (World::pair(), PRAGUE, payment + gas * tip),
        // All fees go to vaults, and all are shared: the base fee of 0.1 gwei too.
        (World::pair(), ISTHMUS, payment + shared(tip + U256::from(100_000_000_u64), 10_000)),
        // Tips go to somebody else, who shares half of them.
        (World::trio(), CANCUN, payment + shared(tip, 5_000)),
        // A quarter of tips and base fee, at half the price.
        (World::trio(), JOVIAN, (payment + shared(tip + U256::from(250_000_000_u64), 2_500)) / U256::from(2_u64)),
    ];
    for (world, chain, expected) in cases {
        let pay = Wallet::user(0).send(chain, world.pay_proposer(payment));
        let draft = build_all(&world, &candidates([bundle().tx(chain, pay).build()]));
        assert_eq!(draft.value, I256::from_raw(expected), "on rollup {chain}");
    }
}

#[test]
fn a_fee_cap_below_the_base_fee_is_told_with_both_numbers() {
    let world = World::pair();
    let call = world.pay_proposer(gwei(1));
    let tx = TxEip1559 {
        chain_id: ETH,
        gas_limit: 21_000,
        max_fee_per_gas: GWEI - 1,
        to: call.to.into(),
        value: call.value,
        ..Default::default()
    };
    let cheap = candidates([bundle().tx(ETH, sign(user(0), tx)).build()]);
    let draft = build_all(&world, &cheap);
    let expected = Reason::FeeCapTooLow { cap: GWEI - 1, base_fee: 1_000_000_000 };
    assert_eq!(*reason(&draft, cheap[0].hash), Rejection::new(Place::tx(ETH, 0, 0), expected));
}

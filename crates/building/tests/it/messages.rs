//! One story a protocol, and the ways in which each has to fail: then every rollup is as it was.

use std::sync::Arc;

use alloy_primitives::{Address, Bytes, U256};
use lockstep_messaging::{Evidence, LandedMessage, LogPlace, Message, op_interop::Identifier, op_interop::payload_hash};
use lockstep_primitives::{Asset, Bundle, ChainId, LandedRef, Reason, RollupSet, SignedTx};
use lockstep_simulation::{CallRequest, call};
use lockstep_testkit::{
    BLOCK_TIME, BRIDGED, BurnTerms, CANCUN, GENESIS_TIME, INTEROP_WINDOW, ISTHMUS, JOVIAN, NFT_PRICE, PRAGUE, PROBE,
    TRAVELLER_USDC, USD, Wallet, World, bundle, calls, candidates, deployer, gwei,
};

use crate::support::{
    assert_lands, assert_refused_with, assert_seals, assert_untouched, balance, build_all, build_on, last_block, placed, reason,
    usdc,
};

const ETH: ChainId = PRAGUE;
const OP: ChainId = ISTHMUS;

/// Somebody with dollars on the first rollup of a world and none on the others, who tips enough for any relay.
fn traveller() -> Wallet {
    Wallet::user(4).tipping(40)
}

/// Pays the builder for what relays on Ethereum rules cost it.
fn toll(world: &World, who: &mut Wallet, chain: ChainId) -> Arc<SignedTx> {
    who.send(chain, world.pay_proposer(gwei(5_000_000)))
}

/// Burns by CCTP v2 on ETH and has it minted on OP.
fn crossing_v2(world: &World, who: &mut Wallet, amount: u64, terms: &BurnTerms) -> Bundle {
    let burn = who.send(ETH, world.burn_v2(ETH, amount, OP, who.address(), terms));
    bundle().tx(ETH, burn).relay(OP, 0, 0).build()
}

#[test]
fn a_standard_burn_of_cctp_v2_is_minted_whole() {
    let world = World::pair();
    let mut alice = traveller();
    let draft = assert_lands(&world, crossing_v2(&world, &mut alice, 20 * USD, &BurnTerms::default()));
    assert_eq!(usdc(&world, &draft, ETH, alice.address()), U256::from(TRAVELLER_USDC - 20 * USD));
    assert_eq!(usdc(&world, &draft, OP, alice.address()), U256::from(20 * USD));
}

#[test]
fn a_fast_burn_of_cctp_v2_costs_its_fee_and_no_more() {
    let world = World::pair();
    let mut alice = traveller();
    let terms = BurnTerms { fast: true, max_fee: USD, ..BurnTerms::default() };
    let draft = assert_lands(&world, crossing_v2(&world, &mut alice, 20 * USD, &terms));
    let fee = 20 * USD / 1_000;
    assert_eq!(usdc(&world, &draft, OP, alice.address()), U256::from(20 * USD - fee));
    assert_eq!(usdc(&world, &draft, OP, deployer().address()), U256::from(fee), "the fee recipient");
}

#[test]
fn a_hook_of_cctp_v2_runs_in_the_leg_that_mints() {
    let world = World::pair();
    let mut alice = traveller();
    let terms = BurnTerms { hook: Some((PROBE, calls::increment(3))), ..BurnTerms::default() };
    let after = alice.send(OP, world.probe(calls::expect(3, 1)));
    let mut whole = crossing_v2(&world, &mut alice, 20 * USD, &terms);
    whole.legs.extend(bundle().tx(OP, after).build().legs);
    let draft = assert_lands(&world, whole);
    assert_eq!(usdc(&world, &draft, OP, alice.address()), U256::from(20 * USD));
}

#[test]
fn cctp_v2_fails_by_name() {
    let world = World::pair();
    let crossing = |terms: BurnTerms| crossing_v2(&world, &mut traveller(), 20 * USD, &terms);
    let cheap = BurnTerms { fast: true, max_fee: 1, ..BurnTerms::default() };
    assert_refused_with(&world, crossing(cheap), "no_evidence");
    let theirs = BurnTerms { caller: Some(Address::repeat_byte(0x57)), ..BurnTerms::default() };
    assert_refused_with(&world, crossing(theirs), "restricted_caller");
    let broken = BurnTerms { hook: Some((PROBE, calls::fail("no"))), ..BurnTerms::default() };
    assert_refused_with(&world, crossing(broken), "reverted");
    let too_much = crossing_v2(&world, &mut traveller(), TRAVELLER_USDC + 1, &BurnTerms::default());
    assert_refused_with(&world, too_much, "reverted");
}

#[test]
fn a_message_whose_attesters_sign_in_later_slots_only_is_told_so_before_anything_is_sealed() {
    let mut world = World::pair();
    world.view.policy.attesters.clear();
    assert_refused_with(&world, crossing_v2(&world, &mut traveller(), 20 * USD, &BurnTerms::default()), "no_evidence");
    let mut alice = traveller();
    let burn = alice.send(ETH, world.burn(ETH, USD, OP, alice.address()));
    assert_refused_with(&world, bundle().tx(ETH, burn).relay(OP, 0, 0).build(), "no_evidence");
}

#[test]
fn a_purchase_that_fails_after_a_mint_of_cctp_v2_leaves_every_rollup_as_it_was() {
    let world = World::pair();
    let mut alice = traveller();
    let mut whole = crossing_v2(&world, &mut alice, NFT_PRICE - 1, &BurnTerms::default());
    let buy = alice.send(OP, world.buy(OP, 7));
    whole.legs.extend(bundle().tx(OP, buy).build().legs);
    assert_refused_with(&world, whole, "reverted");
}

fn interop_tokens(world: &World, draft: &lockstep_building::Draft, chain: ChainId, who: Address) -> U256 {
    balance(draft, chain, who, Asset::Token(world.contracts[&chain].protocols.interop_token))
}

#[test]
fn tokens_of_op_interop_cross_in_one_slot() {
    let world = World::pair();
    let mut alice = traveller();
    let send = alice.send(ETH, world.send_token(ETH, 30, OP, alice.address()));
    let draft = assert_lands(&world, bundle().tx(ETH, send).relay(OP, 0, 0).build());
    assert_eq!(interop_tokens(&world, &draft, ETH, alice.address()), U256::from(BRIDGED - 30));
    assert_eq!(interop_tokens(&world, &draft, OP, alice.address()), U256::from(BRIDGED + 30));
}

#[test]
fn what_comes_before_a_message_moves_its_place_and_the_relay_with_it() {
    let world = World::pair();
    let mut others: Vec<Bundle> = Vec::new();
    for user in 0..3 {
        let mut who = Wallet::user(user).tipping(60);
        others.push(bundle().tx(ETH, who.send(ETH, world.send_usdc(ETH, Address::repeat_byte(9), USD))).build());
    }
    let mut alice = traveller();
    let send = alice.send(ETH, world.send_token(ETH, 30, OP, alice.address()));
    others.push(bundle().tx(ETH, send).relay(OP, 0, 0).build());
    let all = candidates(others);
    let draft = build_all(&world, &all);
    assert_eq!(draft.placed.len(), 4, "left out: {:?}", draft.left_out);
    let crossing = draft.placed.iter().find(|placed| placed.hash == all[3].hash).expect("the crossing lands");
    let message = crossing.run.legs[0].messages[0].as_ref().expect("it is well-formed");
    assert!(message.place.index > 2, "three transfers are before it: {:?}", message.place);
    assert_seals(&world, &draft);
    assert_eq!(interop_tokens(&world, &draft, OP, alice.address()), U256::from(BRIDGED + 30));
}

#[test]
fn messages_of_op_interop_go_both_ways_in_one_slot() {
    let world = World::pair().trusting([ETH, OP]);
    let (mut alice, mut bob) = (traveller(), Wallet::user(0).tipping(40));
    let there = alice.send(ETH, world.send_token(ETH, 30, OP, alice.address()));
    let back = bob.send(OP, world.send_token(OP, 20, ETH, bob.address()));
    let toll = toll(&world, &mut bob, ETH);
    let both = candidates([
        bundle().tx(ETH, there).relay(OP, 0, 0).build(),
        bundle().tx(OP, back).relay(ETH, 0, 0).tx(ETH, toll).build(),
    ]);
    let draft = build_all(&world, &both);
    assert_eq!(draft.placed.len(), 2, "left out: {:?}", draft.left_out);
    assert_seals(&world, &draft);
    assert_eq!(interop_tokens(&world, &draft, OP, alice.address()), U256::from(BRIDGED + 30));
    assert_eq!(interop_tokens(&world, &draft, ETH, bob.address()), U256::from(BRIDGED + 20));
}

/// The first log that the first transaction of ETH's block will emit: a message for the probe on OP.
fn first_message(world: &World, who: &mut Wallet) -> (Bundle, Identifier, Message) {
    let send = who.send(ETH, world.send_interop(OP, PROBE, calls::increment(5)));
    let whole = bundle().tx(ETH, send).build();
    let draft = build_all(world, &candidates([whole.clone()]));
    let message = draft.placed[0].run.legs[0].messages[0].clone().expect("it is well-formed");
    let place = LogPlace { block: world.head(ETH) + 1, timestamp: GENESIS_TIME + BLOCK_TIME, index: 0 };
    assert_eq!(message.place, place);
    let id = Identifier::new(lockstep_messaging::op_interop::MESSENGER, U256::from(ETH), place).expect("it fits");
    (whole, id, message)
}

#[test]
fn a_user_executes_a_message_of_another_bundle_of_the_slot() {
    let world = World::pair();
    let (mut alice, mut bob) = (traveller().tipping(60), Wallet::user(0));
    let (sending, id, message) = first_message(&world, &mut alice);
    let hash = alloy_primitives::keccak256(&message.payload);
    let call = world.execute_message(&id, hash).declaring(world.declare_message(&id, hash));
    let executing = bundle().tx(OP, bob.send(OP, call)).build();
    let both = candidates([sending, executing]);
    let draft = build_all(&world, &both);
    assert_eq!(placed(&draft).len(), 2, "left out: {:?}", draft.left_out);
    assert!(draft.edges().contains(&(ETH, OP)), "OP's block depends on ETH's");
    assert_seals(&world, &draft);

    let alone = build_on(&world.view, &both, &RollupSet::from([OP]));
    assert_eq!(reason(&alone, both[1].hash).reason.code(), "uncertain_message", "without ETH's block it is not certain");
    let sets =
        lockstep_building::useful_sets(&world.view, &lockstep_building::simulate_all(&world.view, &both).expect("it works"));
    assert!(sets.contains(&world.rollups()), "the union is worth building for: {sets:?}");
}

#[test]
fn a_user_who_executes_what_is_not_there_is_refused_by_name() {
    let world = World::pair();
    let (sending, id, message) = first_message(&world, &mut traveller().tipping(60));
    let hash = alloy_primitives::keccak256(&message.payload);
    let wrong = Identifier { log_index: 1, ..id };
    let call = world.execute_message(&wrong, hash).declaring(world.declare_message(&wrong, hash));
    let both = candidates([sending, bundle().tx(OP, Wallet::user(0).send(OP, call)).build()]);
    let draft = build_all(&world, &both);
    assert_eq!(placed(&draft), [both[0].hash]);
    assert_eq!(reason(&draft, both[1].hash).reason.code(), "uncertain_message");
}

#[test]
fn op_interop_fails_closed_where_no_dependency_is_configured() {
    let mut world = World::pair();
    if let Some(interop) = world.deployments.0.get_mut(&OP).and_then(|rollup| rollup.interop.as_mut()) {
        interop.depends_on.clear();
    }
    world.view.policy.protocols = world.deployments.protocols();
    let mut alice = traveller();
    let send = alice.send(ETH, world.send_token(ETH, 30, OP, alice.address()));
    assert_refused_with(&world, bundle().tx(ETH, send).relay(OP, 0, 0).build(), "not_in_dependency_set");
}

fn wrapped(world: &World, draft: &lockstep_building::Draft, on: ChainId, from: ChainId) -> Address {
    let read = world.wrapped_usdc(on, from);
    let block = last_block(draft, on);
    let outcome = call(block.context(), block.state(), &CallRequest::read(read.to, read.data, 1_000_000));
    let outcome = outcome.expect("the engine works").expect("a read is valid");
    Address::from_word(alloy_primitives::B256::from_slice(&outcome.output))
}

#[test]
fn an_asset_crosses_agglayers_bridge_in_one_slot() {
    let world = World::pair();
    let mut alice = traveller();
    let exit = alice.send(ETH, world.bridge_usdc(ETH, 25 * USD, OP, alice.address()));
    let draft = assert_lands(&world, bundle().tx(ETH, exit).relay(OP, 0, 0).build());
    assert_eq!(usdc(&world, &draft, ETH, alice.address()), U256::from(TRAVELLER_USDC - 25 * USD));
    let token = wrapped(&world, &draft, OP, ETH);
    assert_eq!(balance(&draft, OP, alice.address(), Asset::Token(token)), U256::from(25 * USD));
    assert_eq!(draft.relays(OP).len(), 2, "the exit root, and the claim");
}

#[test]
fn exits_of_one_slot_are_claimed_each_against_its_own_root() {
    let world = World::trio();
    let all: Vec<Bundle> = (0..3)
        .map(|user| {
            let mut who = Wallet::user(user).tipping(40);
            let to = if user == 1 { JOVIAN } else { ISTHMUS };
            let exit = who.send(CANCUN, world.bridge_usdc(CANCUN, (user as u64 + 1) * USD, to, who.address()));
            bundle().tx(CANCUN, exit).relay(to, 0, 0).build()
        })
        .collect();
    let draft = build_all(&world, &candidates(all));
    assert_eq!(draft.placed.len(), 3, "left out: {:?}", draft.left_out);
    assert_seals(&world, &draft);
}

#[test]
fn a_message_crosses_agglayers_bridge_in_one_slot() {
    let world = World::pair();
    let mut alice = traveller();
    let exit = alice.send(ETH, world.bridge_message(ETH, OP, Bytes::from_static(b"hello")));
    let draft = assert_lands(&world, bundle().tx(ETH, exit).relay(OP, 0, 0).build());
    let receiver = world.contracts[&OP].protocols.message_receiver;
    let block = last_block(&draft, OP);
    assert!(block.executed().iter().flat_map(|tx| tx.outcome.logs.iter()).any(|log| log.address == receiver), "it was told");
}

#[test]
fn agglayer_fails_by_name() {
    let exit = |world: &World| {
        let mut alice = traveller();
        let exit = alice.send(ETH, world.bridge_usdc(ETH, 25 * USD, OP, alice.address()));
        bundle().tx(ETH, exit).relay(OP, 0, 0).build()
    };
    let unsold = World::pair().without_same_slot_claims(OP);
    assert_refused_with(&unsold, exit(&unsold), "same_slot_claim");

    let mut foreign = World::pair();
    if let Some(bridge) = foreign.deployments.0.get_mut(&OP).and_then(|rollup| rollup.agglayer.as_mut()) {
        bridge.updater = Some(Address::repeat_byte(0x77));
    }
    foreign.view.policy.protocols = foreign.deployments.protocols();
    assert_refused_with(&foreign, exit(&foreign), "exit_root_updater");

    let mut behind = World::pair();
    Arc::make_mut(&mut behind.view.facts).exits.trees.clear();
    assert_refused_with(&behind, exit(&behind), "no_evidence");
}

#[test]
fn tokens_cross_by_the_mailbox_in_one_slot() {
    let world = World::pair();
    let mut alice = traveller();
    let token = |chain: ChainId| Asset::Token(world.contracts[&chain].protocols.mailbox_token);
    let send = alice.send(ETH, world.mail_token(ETH, 40, OP, alice.address(), 1));
    let receive = alice.send(OP, world.receive_mail(OP, ETH, alice.address(), 40, alice.address(), 1));
    let draft = assert_lands(&world, bundle().tx(ETH, send.clone()).relay(OP, 0, 0).tx(OP, receive.clone()).build());
    assert_eq!(balance(&draft, ETH, alice.address(), token(ETH)), U256::from(BRIDGED - 40));
    assert_eq!(balance(&draft, OP, alice.address(), token(OP)), U256::from(BRIDGED + 40));
    assert_refused_with(&world, bundle().tx(ETH, send.clone()).tx(OP, receive).build(), "reverted");
    let mut twice = bundle().tx(ETH, send).relay(OP, 0, 0).build();
    twice.legs.push(twice.legs[1].clone());
    assert_refused_with(&world, twice, "message_delivered");
}

/// A relay's own logs are messages like any others.
#[test]
fn a_relay_emits_a_message_that_another_relay_delivers() {
    let world = World::trio();
    let mut alice = traveller();
    // On ISTHMUS the messenger calls the bridge, which sends a message on to JOVIAN.
    let onward = world.bridge_message(ISTHMUS, JOVIAN, Bytes::from_static(b"onward"));
    let send = alice.send(CANCUN, world.send_interop(ISTHMUS, onward.to, onward.data));
    let draft = assert_lands(&world, bundle().tx(CANCUN, send).relay(ISTHMUS, 0, 0).relay(JOVIAN, 1, 0).build());
    assert_eq!(draft.edges().len(), 2);
    let receiver = world.contracts[&JOVIAN].protocols.message_receiver;
    let logs = last_block(&draft, JOVIAN).executed().iter().flat_map(|tx| tx.outcome.logs.iter().cloned()).collect::<Vec<_>>();
    assert!(logs.iter().any(|log| log.address == receiver), "it arrived");
}

#[test]
fn messages_fan_out_and_in_within_one_bundle() {
    let world = World::trio();
    let mut alice = traveller();
    let who = alice.address();
    let first = alice.send(CANCUN, world.burn(CANCUN, 10 * USD, ISTHMUS, who));
    let second = alice.send(CANCUN, world.burn_v2(CANCUN, 11 * USD, JOVIAN, who, &BurnTerms::default()));
    let out = bundle()
        .txs(CANCUN, [(first, lockstep_primitives::RevertMode::Fail), (second, lockstep_primitives::RevertMode::Fail)])
        .relay(ISTHMUS, 0, 0)
        .relay(JOVIAN, 0, 1);
    // And both on to one place.
    let third = alice.send(ISTHMUS, world.burn(ISTHMUS, 4 * USD, JOVIAN, who));
    let draft = assert_lands(&world, out.tx(ISTHMUS, third).relay(JOVIAN, 3, 0).build());
    assert_eq!(usdc(&world, &draft, CANCUN, who), U256::from(TRAVELLER_USDC - 21 * USD));
    assert_eq!(usdc(&world, &draft, ISTHMUS, who), U256::from(6 * USD));
    assert_eq!(usdc(&world, &draft, JOVIAN, who), U256::from(15 * USD));
}

/// A message that landed before, sent by a slot of its own.
fn landed(world: &World) -> (LandedRef, Message, Wallet) {
    let mut alice = traveller();
    let send = alice.send(ETH, world.send_token(ETH, 30, OP, alice.address()));
    let reference = LandedRef { chain: ETH, tx: send.hash(), message: 0 };
    let draft = build_all(world, &candidates([bundle().tx(ETH, send).build()]));
    let message = draft.placed[0].run.legs[0].messages[0].clone().expect("it is well-formed");
    // As if it had landed in the head.
    let place = LogPlace { block: world.head(ETH), timestamp: GENESIS_TIME, ..message.place };
    (reference, Message { place, ..message }, alice)
}

#[test]
fn a_message_that_landed_before_is_delivered_once_its_evidence_is_known() {
    let mut world = World::pair();
    let (reference, message, mut alice) = landed(&world);
    let toll = toll(&world, &mut alice, OP);
    let delivery = bundle().relay_landed(OP, reference).tx(OP, toll).build();
    assert_refused_with(&world, delivery.clone(), "evidence_pending");

    let pending = Err(Reason::EvidencePending("the service has not seen it".to_owned()));
    Arc::make_mut(&mut world.view.facts).landed.insert(reference, pending);
    assert_refused_with(&world, delivery.clone(), "evidence_pending");

    let known = Ok(LandedMessage { message: message.clone(), evidence: Evidence::Place });
    Arc::make_mut(&mut world.view.facts).landed.insert(reference, known);
    let draft = assert_lands(&world, delivery.clone());
    assert_eq!(interop_tokens(&world, &draft, OP, alice.address()), U256::from(BRIDGED + 30));
    assert!(draft.edges().is_empty(), "it depends on no block of this slot");

    let late = LogPlace { timestamp: GENESIS_TIME + BLOCK_TIME - INTEROP_WINDOW, ..message.place };
    let expired = Ok(LandedMessage { message: Message { place: late, ..message }, evidence: Evidence::Place });
    Arc::make_mut(&mut world.view.facts).landed.insert(reference, expired);
    assert_refused_with(&world, delivery, "message_expired");
}

#[test]
fn two_bundles_deliver_a_landed_message_once() {
    let mut world = World::pair();
    let (reference, message, mut alice) = landed(&world);
    let known = Ok(LandedMessage { message, evidence: Evidence::Place });
    Arc::make_mut(&mut world.view.facts).landed.insert(reference, known);
    let mut bob = Wallet::user(0).tipping(40);
    let both = candidates([
        bundle().relay_landed(OP, reference).tx(OP, toll(&world, &mut alice, OP)).build(),
        bundle().relay_landed(OP, reference).tx(OP, toll(&world, &mut bob, OP)).build(),
    ]);
    let draft = build_all(&world, &both);
    assert_eq!(draft.placed.len(), 1);
    assert_eq!(draft.left_out[0].1.reason.code(), "message_delivered");
    assert_seals(&world, &draft);
}

#[test]
fn a_relay_has_to_be_worth_what_the_builder_asks_for_it() {
    let mut world = World::pair();
    let send = |who: &mut Wallet| who.send(ETH, world.send_token(ETH, 30, OP, who.address()));
    let crossing = bundle().tx(ETH, send(&mut traveller())).relay(OP, 0, 0).build();
    let value = build_all(&world, &candidates([crossing.clone()])).value;
    world.view.policy.min_relay_value = value;
    assert_lands(&world, crossing.clone());
    world.view.policy.min_relay_value = value + alloy_primitives::I256::ONE;
    assert_refused_with(&world, crossing, "unprofitable");
}

#[test]
fn the_payload_of_any_log_is_its_topics_and_data() {
    let world = World::pair();
    let mut alice = traveller();
    let (_, _, message) = first_message(&world, &mut alice);
    let draft = build_all(&world, &candidates([first_message(&world, &mut traveller()).0]));
    let log = &last_block(&draft, ETH).executed()[0].outcome.logs[0];
    assert_eq!(payload_hash(log), alloy_primitives::keccak256(&message.payload));
    assert_untouched(&world, &build_all(&world, &[]));
}

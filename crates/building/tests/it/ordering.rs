//! Orders that rollups sell, and transactions that their sequencers do not let anybody leave out.

use std::sync::Arc;

use alloy_primitives::{B256, U256, keccak256};
use lockstep_building::{Candidate, Draft, check_order, missing_in_order, missing_inclusions};
use lockstep_primitives::{Asset, ChainId, OrderingPolicy, Place, RevertMode, SignedTx};
use lockstep_testkit::{
    Call, GWEI, ISTHMUS, NFT_PRICE, PRAGUE, Relays, Wallet, World, bundle, calls, candidates, cases, gwei, naive, user,
};
use proptest::{collection::vec, prelude::*};

use crate::{
    invariants::{Checked, config, keeps_its_promises, same, whole_or_absent, with_hash},
    support::{PLACEHOLDER, balance, build_all, lists, placed, reason, seal_on, states},
};

const ETH: ChainId = PRAGUE;
const OP: ChainId = ISTHMUS;
const FCFS: OrderingPolicy = OrderingPolicy::FirstComeFirstServed;

/// Every block of the draft stands in the order that its rollup sells.
fn assert_in_order(world: &World, draft: &Draft) {
    for (chain, lane) in &draft.lanes {
        let rollup = &world.view.rollups[chain];
        assert_eq!(check_order(rollup.ordering, &rollup.arrivals, &lane.blocks), Ok(()), "rollup {chain}");
    }
}

/// What a draft leaves out of a rollup's inclusion list without an excuse.
fn missing(world: &World, draft: &Draft, chain: ChainId) -> Vec<B256> {
    missing_inclusions(&draft.lanes[&chain].blocks, &world.view.rollups[&chain].inclusion).expect("the engine works")
}

/// The same, as the rollup's order excuses it.
fn missing_by_order(world: &World, draft: &Draft, chain: ChainId) -> Vec<B256> {
    let rollup = &world.view.rollups[&chain];
    let blocks = &draft.lanes[&chain].blocks;
    missing_in_order(&rollup.slot, rollup.ordering, &rollup.arrivals, blocks, &rollup.inclusion).expect("the engine works")
}

/// A user pays the proposer that many gwei.
fn paying(world: &World, number: usize, chain: ChainId, amount: u64) -> Arc<SignedTx> {
    Wallet::user(number).send(chain, world.pay_proposer(gwei(amount)))
}

#[test]
fn by_priority_fee_the_better_tip_goes_first_whatever_else_a_bundle_pays() {
    let free = World::pair();
    let mut rich = Wallet::user(0).tipping(1);
    let on_eth = rich.send(ETH, free.pay_proposer(gwei(1_000_000)));
    let on_op = rich.send(OP, free.pay_proposer(gwei(1_000_000)));
    let generous = Wallet::user(1).tipping(9).send(ETH, free.pay_proposer(gwei(1)));
    let bundles = candidates([bundle().tx(ETH, on_eth).tx(OP, on_op).build(), bundle().tx(ETH, generous).build()]);
    assert_eq!(placed(&build_all(&free, &bundles)), [bundles[0].hash, bundles[1].hash]);

    let world = free.ordered(ETH, OrderingPolicy::PriorityFee);
    let draft = build_all(&world, &bundles);
    assert_eq!(placed(&draft), [bundles[1].hash, bundles[0].hash], "left out: {:?}", draft.left_out);
    assert_in_order(&world, &draft);
    seal_on(&world, &draft, ETH).expect("it seals");
}

#[test]
fn by_priority_fee_a_relay_tips_like_the_purchase_that_it_is_for() {
    let world = World::pair().ordered(OP, OrderingPolicy::PriorityFee);
    let mut buyer = Wallet::user(4).tipping(3);
    let burn = buyer.send(ETH, world.burn(ETH, NFT_PRICE, OP, buyer.address()));
    let buy = buyer.send(OP, world.buy(OP, 7));
    let single = |number: usize, tip: u64| {
        let pay = Wallet::user(number).tipping(tip).send(OP, world.pay_proposer(gwei(1)));
        bundle().tx(OP, pay).build()
    };
    let purchase = bundle().tx(ETH, burn).relay(OP, 0, 0).tx(OP, buy).build();
    let bundles = candidates([single(0, 2), purchase, single(1, 5)]);
    let draft = build_all(&world, &bundles);

    assert_eq!(placed(&draft), [bundles[2].hash, bundles[1].hash, bundles[0].hash], "left out: {:?}", draft.left_out);
    let relays = draft.relays(OP);
    assert_eq!(relays.first().map(|relay| relay.tx.max_priority_fee_per_gas), Some(3 * GWEI));
    assert_in_order(&world, &draft);
    seal_on(&world, &draft, OP).expect("sealing keeps the order");
}

#[test]
fn by_arrival_the_first_goes_first_and_what_was_not_seen_goes_last() {
    let world = World::pair();
    let (early, late) = (paying(&world, 0, ETH, 1), paying(&world, 1, ETH, 5_000));
    let mut rich = Wallet::user(2);
    let on_eth = rich.send(ETH, world.pay_proposer(gwei(1_000_000)));
    let on_op = rich.send(OP, world.pay_proposer(gwei(1_000_000)));
    let world = world.ordered(ETH, FCFS).saw(ETH, &early, 10).saw(ETH, &late, 20);
    let bundles = candidates([
        bundle().tx(ETH, on_eth).tx(OP, on_op).build(),
        bundle().tx(ETH, late).build(),
        bundle().tx(ETH, early).build(),
    ]);
    let draft = build_all(&world, &bundles);
    assert_eq!(placed(&draft), [bundles[2].hash, bundles[1].hash, bundles[0].hash]);
    assert_in_order(&world, &draft);
}

#[test]
fn a_bundle_that_would_hold_an_early_transaction_back_is_left_out_on_all_rollups() {
    let world = World::pair();
    let (early, late) = (paying(&world, 0, ETH, 1), paying(&world, 1, ETH, 1));
    let on_op = paying(&world, 2, OP, 1_000_000);
    let own = paying(&world, 3, ETH, 1_000_000);
    let world = world.ordered(ETH, FCFS).saw(ETH, &early, 10).saw(ETH, &late, 20);
    let bundles = candidates([bundle().tx(ETH, early).tx(ETH, own).tx(OP, on_op).build(), bundle().tx(ETH, late).build()]);
    let draft = build_all(&world, &bundles);
    assert_eq!(placed(&draft), [bundles[1].hash]);
    let rejection = reason(&draft, bundles[0].hash);
    assert_eq!((rejection.place, rejection.reason.code()), (Place::rollup(ETH), "out_of_order"));
    assert_eq!(states(&draft), states(&build_all(&world, &bundles[1..])), "it leaves no trace");
    assert_in_order(&world, &draft);
}

#[test]
fn the_top_of_the_block_is_sold_and_the_rest_comes_as_it_came_in() {
    let world = World::pair();
    let (early, late) = (paying(&world, 0, ETH, 1), paying(&world, 1, ETH, 50));
    let (best, unseen) = (paying(&world, 2, ETH, 5_000), paying(&world, 3, ETH, 500));
    // Room for one payment and not for two.
    let world = world.ordered(ETH, OrderingPolicy::TopOfBlock { lane_gas: 30_000 }).saw(ETH, &early, 10).saw(ETH, &late, 20);
    let bundles = candidates([early, late, best, unseen].map(|tx| bundle().tx(ETH, tx).build()));
    let draft = build_all(&world, &bundles);
    assert_eq!(placed(&draft), [bundles[2].hash, bundles[0].hash, bundles[1].hash, bundles[3].hash]);
    assert_in_order(&world, &draft);
}

#[test]
fn of_bundles_that_rollups_want_in_opposite_orders_the_better_one_lands() {
    let world = World::pair().ordered(ETH, FCFS).ordered(OP, FCFS);
    let pair = |number: usize, amount: u64| (paying(&world, number, ETH, amount), paying(&world, number, OP, amount));
    let ((eth_a, op_a), (eth_b, op_b)) = (pair(0, 1), pair(1, 1_000));
    let world = world.saw(ETH, &eth_a, 10).saw(ETH, &eth_b, 20).saw(OP, &op_b, 10).saw(OP, &op_a, 20);
    let bundles = candidates([bundle().tx(ETH, eth_a).tx(OP, op_a).build(), bundle().tx(ETH, eth_b).tx(OP, op_b).build()]);
    let draft = build_all(&world, &bundles);
    assert_eq!(placed(&draft), [bundles[1].hash]);
    let rejection = reason(&draft, bundles[0].hash);
    assert_eq!((rejection.place, rejection.reason.code()), (Place::rollup(ETH), "out_of_order"));
    assert_eq!(states(&draft), states(&build_all(&world, &bundles[1..])));
}

#[test]
fn what_must_be_included_is_there_last_or_where_its_arrival_puts_it() {
    let demanded = Wallet::user(0).tipping(0).send(ETH, Call::pay(user(1).address(), gwei(1)));
    let world = World::pair();
    let other = paying(&world, 2, ETH, 1_000);
    let bundles = candidates([bundle().tx(ETH, Arc::clone(&other)).build()]);
    let demanding = world.demanding(ETH, [Arc::clone(&demanded)]);
    let draft = build_all(&demanding, &bundles);
    assert_eq!(lists(&draft)[&ETH], [[other.hash(), demanded.hash()]]);
    assert_eq!(missing(&demanding, &draft, ETH), Vec::<B256>::new());
    seal_on(&demanding, &draft, ETH).expect("it seals");

    let by_arrival = demanding.ordered(ETH, FCFS).saw(ETH, &demanded, 10).saw(ETH, &other, 20);
    let draft = build_all(&by_arrival, &bundles);
    assert_eq!(lists(&draft)[&ETH], [[demanded.hash(), other.hash()]]);
    assert_in_order(&by_arrival, &draft);
}

#[test]
fn what_users_sent_as_a_single_transaction_is_not_there_twice() {
    let world = World::pair();
    let tx = paying(&world, 0, ETH, 1);
    let public = bundle().txs(ETH, [(Arc::clone(&tx), RevertMode::Allow)]).build();
    let bundles = candidates([public]);
    let draft = build_all(&world.demanding(ETH, [tx]), &bundles);
    assert_eq!((placed(&draft), draft.left_out.len()), (vec![bundles[0].hash], 0));
}

#[test]
fn a_transaction_may_be_left_out_only_when_it_is_invalid_or_has_no_room() {
    // After the deposit a block has room for the gas limit of one call, and not for that of a second.
    let world = World::pair().with_gas_limit(150_000);
    let store = |number: usize| Wallet::user(number).send(OP, world.probe(calls::store(number as u64, 1)));
    let full = build_all(&world, &candidates([bundle().tx(OP, store(0)).build()]));
    let empty = build_all(&world, &[]);

    let demanded = store(1);
    let ahead = Wallet::user(2).send_at(OP, 5, Call::pay(user(1).address(), gwei(1)));
    let demanding = world.clone().demanding(OP, [Arc::clone(&demanded), ahead]);
    assert_eq!(missing(&demanding, &empty, OP), [demanded.hash()], "the one with a nonce gap is excused");
    assert_eq!(missing(&demanding, &full, OP), Vec::<B256>::new(), "a full block excuses");
    // One that reverts is demanded all the same.
    let fails = Wallet::user(3).send(OP, world.probe(calls::fail("no")));
    assert_eq!(missing(&world.clone().demanding(OP, [Arc::clone(&fails)]), &empty, OP), [fails.hash()]);

    let two = demanding.with_blocks(OP, 2);
    let first = candidates([bundle().tx(OP, store(0)).build()]);
    let draft = build_all(&two, &first);
    assert_eq!(lists(&draft)[&OP].iter().map(Vec::len).collect::<Vec<_>>(), [1, 1], "the second block has room");
    assert_eq!(missing(&two, &draft, OP), Vec::<B256>::new());
    let alone = build_all(&world.clone().with_blocks(OP, 2), &first);
    assert_eq!(missing(&two, &alone, OP), [demanded.hash()], "a slot is full when all of its blocks are");
}

#[test]
fn room_that_is_kept_for_evidence_keeps_nothing_out_that_must_be_included() {
    const GAS_LIMIT: u64 = 2_000_000;
    let world = World::pair().with_gas_limit(GAS_LIMIT);
    let mut who = Wallet::user(0);
    let burn = who.send(ETH, world.burn(ETH, NFT_PRICE, OP, who.address()));
    let crossing = candidates([bundle().tx(ETH, burn).relay(OP, 0, 0).build()]);
    let alone = build_all(&world, &crossing);
    assert_eq!(placed(&alone), [crossing[0].hash], "left out: {:?}", alone.left_out);
    let room = GAS_LIMIT - alone.lanes[&OP].blocks[0].block.gas_used();

    // It fits beside the relay, but not beside what the relay's evidence may need.
    let demanded = Wallet::user(1).send(OP, Call::pay(user(2).address(), gwei(1)).with_gas(room));
    let demanding = world.demanding(OP, [Arc::clone(&demanded)]);
    let draft = build_all(&demanding, &crossing);
    assert_eq!(lists(&draft)[&OP], [[demanded.hash()]]);
    let rejection = reason(&draft, crossing[0].hash);
    assert_eq!((rejection.place, rejection.reason.code()), (Place::rollup(OP), "no_room"));
    assert!(lists(&draft)[&ETH][0].is_empty(), "all or nothing");
}

#[test]
fn a_better_tip_that_must_be_included_follows_the_worse_one_of_its_sender_at_once() {
    let world = World::pair().ordered(ETH, OrderingPolicy::PriorityFee);
    let pay = || Call::pay(user(1).address(), gwei(1));
    let first = Wallet::user(0).tipping(3).send_at(ETH, 0, pay());
    let second = Wallet::user(0).tipping(9).send_at(ETH, 1, pay());
    let other = Wallet::user(2).tipping(2).send(ETH, world.pay_proposer(gwei(1)));
    let bundles = candidates([bundle().tx(ETH, Arc::clone(&other)).build()]);
    let demanding = world.demanding(ETH, [Arc::clone(&first), Arc::clone(&second)]);
    let draft = build_all(&demanding, &bundles);
    assert_eq!(lists(&draft)[&ETH], [[first.hash(), second.hash(), other.hash()]]);
    assert_in_order(&demanding, &draft);
}

#[test]
fn a_bundle_that_closes_a_block_to_what_must_be_included_is_left_out() {
    let world = World::pair().ordered(ETH, OrderingPolicy::PriorityFee);
    let target = Wallet::user(0).tipping(9).send(ETH, world.pay_proposer(gwei(1_000)));
    let backrun = Wallet::user(1).tipping(0).send(ETH, world.pay_proposer(gwei(1_000)));
    let bundles = candidates([bundle().tx(ETH, target).tx(ETH, backrun).build()]);
    assert_eq!(placed(&build_all(&world, &bundles)), [bundles[0].hash]);

    let demanded = Wallet::user(2).tipping(5).send(ETH, Call::pay(user(3).address(), gwei(1)));
    let demanding = world.demanding(ETH, [Arc::clone(&demanded)]);
    let draft = build_all(&demanding, &bundles);
    assert_eq!(lists(&draft)[&ETH], [[demanded.hash()]]);
    let rejection = reason(&draft, bundles[0].hash);
    assert_eq!((rejection.place, rejection.reason.code()), (Place::rollup(ETH), "out_of_order"));
}

#[test]
fn what_the_order_lets_come_only_before_its_cure_is_excused() {
    let world = World::pair();
    let poor = Wallet::user(2).tipping(9);
    let fees = poor.send_at(ETH, 0, Call::pay(user(3).address(), U256::ZERO)).max_cost().expect("it is no fortune");
    let all = balance(&build_all(&world, &[]), ETH, poor.address(), Asset::Native) - fees;
    let spends = poor.send_at(ETH, 0, Call::pay(user(3).address(), all + U256::from(1)));
    let cure = Wallet::user(1).tipping(1).send(ETH, Call::pay(poor.address(), gwei(1)));
    let world = world.ordered(ETH, OrderingPolicy::PriorityFee).demanding(ETH, [Arc::clone(&cure), Arc::clone(&spends)]);

    let draft = build_all(&world, &[]);
    assert_eq!(lists(&draft)[&ETH], [[cure.hash()]]);
    assert_eq!(missing(&world, &draft, ETH), [spends.hash()], "it is valid at the end of the block");
    assert_eq!(missing_by_order(&world, &draft, ETH), Vec::<B256>::new(), "where its tip does not let it be");
    // Leaving out the other one has no excuse.
    let empty = build_all(&World::pair(), &[]);
    assert_eq!(missing_by_order(&world, &empty, ETH), [cure.hash()]);
}

#[test]
fn what_must_be_included_is_tried_until_it_does_not_fit_however_many_passes_there_are() {
    let mut world = World::pair();
    world.view.policy.max_passes = 1;
    let first = Wallet::user(0).tipping(0).send_at(ETH, 0, Call::pay(user(1).address(), gwei(1)));
    let second = Wallet::user(0).tipping(0).send_at(ETH, 1, world.pay_proposer(gwei(1)));
    let public = |tx: &Arc<SignedTx>| bundle().txs(ETH, [(Arc::clone(tx), RevertMode::Allow)]).build();
    let bundles = candidates([public(&second), public(&first)]);
    assert_eq!(placed(&build_all(&world, &bundles)), [bundles[1].hash]);
    assert_eq!(placed(&build_all(&world.demanding(ETH, [second]), &bundles)), [bundles[1].hash, bundles[0].hash]);
}

/// A policy by number.
fn policy(number: u8) -> OrderingPolicy {
    match number {
        0 => OrderingPolicy::Free,
        1 => FCFS,
        2 => OrderingPolicy::TopOfBlock { lane_gas: 200_000 },
        _ => OrderingPolicy::PriorityFee,
    }
}

/// A world of these policies, whose sequencers have seen about every second transaction, some at the same time.
fn sold(mut world: World, policies: &[u8], candidates: &[Candidate], salt: u64) -> World {
    for (index, number) in policies.iter().enumerate() {
        let chain = world.chain(index);
        world = world.ordered(chain, policy(*number));
    }
    for candidate in candidates {
        for leg in &candidate.bundle.legs {
            for tx in leg.txs() {
                let draw = keccak256([tx.tx.hash().as_slice(), &salt.to_be_bytes()].concat());
                if draw[0] & 1 == 0 {
                    world = world.saw(leg.chain(), &tx.tx, u64::from(draw[1] % 8));
                }
            }
        }
    }
    world
}

fn in_order(world: &World, draft: &Draft) -> Checked {
    for (chain, lane) in &draft.lanes {
        let rollup = &world.view.rollups[chain];
        prop_assert_eq!(check_order(rollup.ordering, &rollup.arrivals, &lane.blocks), Ok(()), "rollup {}", chain);
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(120))]

    #[test]
    fn under_every_policy_blocks_are_in_order_and_bundles_whole_and_sealed_as_promised(
        mut case in cases(3, 1..=7),
        policies in vec(0..4_u8, 3),
        salt in any::<u64>(),
    ) {
        case.setting.gas_limit = 30_000_000;
        let candidates = case.candidates(&case.world());
        let world = sold(case.world(), &policies, &candidates, salt);
        let draft = build_all(&world, &candidates);
        in_order(&world, &draft)?;
        whole_or_absent(&world, &candidates, &draft)?;
        keeps_its_promises(&world, &draft)?;
        prop_assert_eq!(draft.placed.len() + draft.left_out.len(), candidates.len(), "every bundle is placed or told why not");
    }

    #[test]
    fn under_every_policy_left_out_bundles_leave_no_trace(
        mut case in cases(3, 1..=7),
        // The naive builder's relays tip nobody.
        policies in vec(0..3_u8, 3),
        salt in any::<u64>(),
    ) {
        // The naive builder knows no order, so it would not wait for another block.
        case.setting.blocks.fill(1);
        let candidates = case.candidates(&case.world());
        let world = sold(case.world(), &policies, &candidates, salt);
        let draft = build_all(&world, &candidates);
        in_order(&world, &draft)?;
        let order: Vec<Candidate> = draft.placed.iter().map(|placed| with_hash(&candidates, placed.hash)).collect();
        same(&draft, &naive(&world.view, &draft.rollups, &order, Relays::Drafted(*PLACEHOLDER)))?;
    }
}

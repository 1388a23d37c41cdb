//! The verification pass: what is remembered wrongly is caught before anybody is promised it, and named.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy_primitives::{Bytes, I256, Log, U256};
use lockstep_building::{Draft, EvidenceMap, LaneDraft, SealError, execute_measured, open_lanes, run_bundle, seal_all, verify};
use lockstep_primitives::{Asset, BlockList, Bundle, ChainId};
use lockstep_simulation::{BlockTx, Lane, LaneError, Stretch, TxStatus, execute_list};
use lockstep_testkit::{
    ISTHMUS, PRAGUE, PROBE, USD, Wallet, World, builder, bundle, calls, candidates, cases_without_relays, evidence, gwei,
    sign_digest,
};
use proptest::prelude::*;
use rayon::ThreadPoolBuilder;

use crate::{
    invariants::config,
    support::{build_all, digest, placed, seal_on},
};

const ETH: ChainId = PRAGUE;
const OP: ChainId = ISTHMUS;

/// Three users store something on both rollups.
fn stores(world: &World) -> Draft {
    let bundles = (0..3).map(|number| {
        let mut who = Wallet::user(number);
        let on_eth = who.send(ETH, world.probe(calls::store(number as u64, 7)));
        let on_op = who.send(OP, world.probe(calls::store(number as u64, 7)));
        bundle().tx(ETH, on_eth).tx(OP, on_op).build()
    });
    let draft = build_all(world, &candidates(bundles));
    assert_eq!(draft.placed.len(), 3, "left out: {:?}", draft.left_out);
    draft
}

/// The draft, with the blocks of one rollup put together from what is remembered of each transaction rather than executed.
/// `change` sees each memory before it is used, with the index of its block and its position in the list.
fn remembered(world: &World, draft: &Draft, chain: ChainId, mut change: impl FnMut((usize, usize), &mut Stretch)) -> Draft {
    let slot = &world.view.rollups[&chain].slot;
    let open = || Lane::open(Arc::clone(slot)).expect("the blocks of a world open");
    let (mut executed, mut put_together) = (open(), open());
    for (number, block) in draft.lanes[&chain].blocks.iter().enumerate() {
        if number > 0 {
            assert!(executed.advance().expect("a block ends"));
            assert!(put_together.advance().expect("a block ends"));
        }
        for (index, drafted) in block.listed().iter().enumerate() {
            let mut memory = memory_of(&mut executed, &drafted.tx);
            change((number, index), &mut memory);
            put_together.block_mut().append(&memory).expect("the engine works").expect("there is room");
        }
    }
    let mut changed = draft.clone();
    let blocks = put_together.finish().expect("the last block ends");
    changed.lanes.insert(chain, LaneDraft { chain, blocks });
    changed
}

/// What a transaction does as the next one of a lane.
fn memory_of(lane: &mut Lane, tx: &BlockTx) -> Stretch {
    let since = lane.block().checkpoint();
    lane.block_mut().begin_trace();
    lane.block_mut().execute(tx).expect("the engine works").expect("what was drafted is valid");
    lane.block_mut().end_trace(since).expect("the engine works")
}

fn forced(draft: &Draft, chain: ChainId, block: usize) -> usize {
    draft.lanes[&chain].blocks[block].forced
}

/// The rollup is not sealed, for a fault of the engine in that block, at that transaction, of which it is told this.
fn assert_corrupt(world: &World, draft: &Draft, chain: ChainId, at: (usize, Option<usize>), told: &str) {
    let error = seal_on(world, draft, chain).expect_err("what is not so is not sealed");
    let SealError::Corrupt { chain: on, block, index, text } = &error else { panic!("{error}") };
    assert_eq!((*on, *block, *index), (chain, at.0, at.1), "{error}");
    assert!(text.contains(told), "{error}");
    assert!(error.to_string().contains(&format!("rollup {chain} is wrong, block {}", at.0)), "{error}");
}

#[test]
fn what_is_remembered_truly_seals_like_what_was_executed() {
    let world = World::pair().with_blocks(OP, 2);
    let draft = stores(&world);
    for chain in [ETH, OP] {
        let again = remembered(&world, &draft, chain, |_, memory| assert!(memory.footprint.complete));
        let sealed = seal_on(&world, &again, chain);
        assert!(sealed.is_ok(), "{:?}", sealed.as_ref().err());
        assert_eq!(sealed, seal_on(&world, &draft, chain));
    }
}

#[test]
fn gas_that_is_remembered_wrongly_is_caught() {
    let world = World::pair();
    let draft = stores(&world);
    for chain in [ETH, OP] {
        let wrong = remembered(&world, &draft, chain, |at, memory| {
            Arc::make_mut(&mut memory.executed[0].outcome).gas_used += u64::from(at == (0, 1));
        });
        assert_corrupt(&world, &wrong, chain, (0, Some(forced(&draft, chain, 0) + 1)), "gas");
    }
}

#[test]
fn a_log_that_nobody_emitted_is_caught() {
    let world = World::pair();
    let draft = stores(&world);
    for chain in [ETH, OP] {
        let wrong = remembered(&world, &draft, chain, |at, memory| {
            if at == (0, 2) {
                Arc::make_mut(&mut memory.executed[0].outcome).logs =
                    vec![Log::new_unchecked(PROBE, Vec::new(), Bytes::new())].into();
            }
        });
        assert_corrupt(&world, &wrong, chain, (0, Some(forced(&draft, chain, 0) + 2)), "logs");
    }
}

#[test]
fn a_write_that_did_not_happen_and_one_that_was_forgotten_are_caught() {
    let world = World::pair();
    let draft = stores(&world);
    for chain in [ETH, OP] {
        let added = remembered(&world, &draft, chain, |at, memory| {
            if at == (0, 1) {
                memory.footprint.slots_written.push((PROBE, U256::MAX, U256::ONE));
            }
        });
        assert_corrupt(&world, &added, chain, (0, None), &PROBE.to_string());
        let forgotten = remembered(&world, &draft, chain, |at, memory| {
            if at == (0, 1) {
                assert!(!memory.footprint.slots_written.is_empty());
                memory.footprint.slots_written.clear();
            }
        });
        assert_corrupt(&world, &forgotten, chain, (0, None), &PROBE.to_string());

        let mut richer = draft.clone();
        let lane = richer.lanes.get_mut(&chain).expect("the draft has both rollups");
        lane.blocks[0].block.credit([(PROBE, U256::ONE)]).expect("the state can be read");
        assert_corrupt(&world, &richer, chain, (0, None), &PROBE.to_string());
    }
}

#[test]
fn what_a_bundle_is_told_of_its_transactions_is_held_against_what_they_do() {
    let world = World::pair();
    let draft = stores(&world);
    for (chain, leg) in [(ETH, 0), (OP, 1)] {
        let place = |bundle: usize| draft.placed[bundle].run.legs[leg].txs[0].position.expect("it is in the block");

        let mut cheaper = draft.clone();
        let outcome = Arc::make_mut(cheaper.placed[1].run.legs[leg].txs[0].outcome.as_mut().expect("it ran"));
        outcome.gas_used -= 1;
        assert_corrupt(&world, &cheaper, chain, (0, Some(place(1))), "does something else");

        let mut swapped = draft.clone();
        swapped.placed[0].run.legs[leg].txs[0].position = Some(place(1));
        swapped.placed[1].run.legs[leg].txs[0].position = Some(place(0));
        assert_corrupt(&world, &swapped, chain, (0, Some(place(1))), "another transaction");

        let mut nowhere = draft.clone();
        nowhere.placed[2].run.legs[leg].txs[0].position = Some(99);
        assert_corrupt(&world, &nowhere, chain, (0, Some(99)), "nothing");
    }
}

#[test]
fn a_block_of_another_slot_is_caught() {
    let world = World::pair();
    let other = stores(&World::pair().with_gas_limit(29_000_000));
    for chain in [ETH, OP] {
        assert_corrupt(&world, &other, chain, (0, None), "environment");
    }
}

/// Burns dollars on one rollup and has them minted on another.
fn crossing(world: &World, user: usize, from: ChainId, to: ChainId) -> Bundle {
    let mut who = Wallet::user(user).tipping(5);
    let burn = who.send(from, world.burn(from, 20 * USD, to, who.address()));
    bundle().tx(from, burn).relay(to, 0, 0).build()
}

#[test]
fn what_stands_before_an_attested_relay_is_verified_to_the_last_unit_of_gas() {
    let world = World::pair();
    let pays = Wallet::user(1).send_at(OP, 0, world.pay_proposer(gwei(5_000_000)));
    let crosses = crossing(&world, 0, ETH, OP);
    let both = candidates([bundle().tx(OP, Arc::clone(&pays)).build(), crosses.clone()]);
    let draft = build_all(&world, &both);
    assert_eq!(placed(&draft), [both[0].hash, both[1].hash], "left out: {:?}", draft.left_out);

    // The same blocks, with what is remembered of the payment in front of the relay.
    let put_together = |more_gas: u64| {
        let mut lanes = open_lanes(&world.view, &world.rollups()).expect("the blocks open");
        let mut memory = memory_of(&mut lanes[&OP].clone(), &BlockTx::Signed(Arc::clone(&pays)));
        Arc::make_mut(&mut memory.executed[0].outcome).gas_used += more_gas;
        let lane = lanes.get_mut(&OP).expect("it is open");
        lane.block_mut().append(&memory).expect("the engine works").expect("there is room");
        let attempt = run_bundle(&world.view, &mut lanes, &crosses, &BTreeSet::new()).expect("the engine works");
        assert_eq!(attempt.blocked, None);
        let finished = lanes.into_iter().map(|(chain, lane)| {
            let blocks = lane.finish().expect("the block ends");
            (chain, LaneDraft { chain, blocks })
        });
        Draft { lanes: finished.collect(), ..draft.clone() }
    };
    let relay = draft.relays(OP)[0];
    assert_eq!((relay.block, relay.position), (0, forced(&draft, OP, 0) + 1));
    assert!(relay.request.is_some(), "it needs an attestation");
    assert_eq!(seal_on(&world, &put_together(0), OP), seal_on(&world, &draft, OP));
    assert_corrupt(&world, &put_together(1), OP, (0, Some(forced(&draft, OP, 0))), "gas");
}

proptest! {
    #![proptest_config(config(120))]

    #[test]
    fn whatever_is_remembered_wrongly_is_caught_where_it_is(
        mut case in cases_without_relays(3, 1..=6),
        which in any::<prop::sample::Index>(),
        how in 0_usize..5,
    ) {
        case.setting.gas_limit = 30_000_000;
        let world = case.world();
        let draft = build_all(&world, &case.candidates(&world));
        let mut places = Vec::new();
        for (chain, lane) in &draft.lanes {
            for (block, drafted) in lane.blocks.iter().enumerate() {
                places.extend((0..drafted.listed().len()).map(|index| (*chain, block, index)));
            }
        }
        prop_assume!(!places.is_empty());
        let (chain, block, index) = *which.get(&places);
        let mut complete = true;
        let wrong = remembered(&world, &draft, chain, |at, memory| {
            complete &= memory.footprint.complete;
            if at != (block, index) {
                return;
            }
            let outcome = Arc::make_mut(&mut memory.executed[0].outcome);
            match how {
                0 => outcome.gas_used += 1,
                1 => outcome.logs = outcome.logs.iter().cloned().chain([Log::empty()]).collect(),
                2 => outcome.status = TxStatus::Halted("only remembered".into()),
                3 => outcome.output = Bytes::from_static(b"never said"),
                _ => memory.footprint.slots_written.push((PROBE, U256::MAX, U256::ONE)),
            }
        });
        // What created something is never remembered.
        prop_assume!(complete);
        let place = (how < 4).then(|| forced(&draft, chain, block) + index);
        match seal_on(&world, &wrong, chain) {
            Err(SealError::Corrupt { chain: on, block: number, index, .. }) => {
                prop_assert_eq!((on, number, index), (chain, block, place));
            }
            other => return Err(TestCaseError::fail(format!("it is not caught: {:?}", other.map(|_| ())))),
        }
        prop_assert!(seal_on(&world, &draft, chain).is_ok());
    }
}

#[test]
fn all_rollups_seal_at_once_as_they_do_one_by_one() {
    let world = World::pair().trusting([ETH, OP]);
    let pays = |user: usize, chain: ChainId| {
        bundle().tx(chain, Wallet::user(user).send_at(chain, 0, world.pay_proposer(gwei(1)))).build()
    };
    let bundles = [crossing(&world, 0, ETH, OP), crossing(&world, 1, OP, ETH), pays(2, ETH), pays(3, OP)];
    let draft = build_all(&world, &candidates(bundles));
    assert_eq!(draft.edges(), BTreeSet::from([(ETH, OP), (OP, ETH)]), "left out: {:?}", draft.left_out);
    let sign = |digest| sign_digest(builder(), digest);
    let one_by_one: BTreeMap<_, _> =
        [ETH, OP].map(|chain| (chain, seal_on(&world, &draft, chain).expect("it seals"))).into_iter().collect();
    for threads in [1, 2, 8] {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be started");
        let at_once = pool.install(|| seal_all(&world.view, &draft, &evidence(&draft), &sign)).expect("all of them seal");
        assert_eq!(at_once, one_by_one);
        // Without evidence neither seals: the first by chain id is told of.
        let refused = pool.install(|| seal_all(&world.view, &draft, &EvidenceMap::new(), &sign));
        let Err(SealError::Evidence(rejection)) = &refused else { panic!("{refused:?}") };
        assert_eq!(rejection.place.chain, Some(ETH.min(OP)));
    }
}

#[test]
fn requirements_are_measured_while_the_list_is_executed() {
    let world = World::pair().with_blocks(OP, 2);
    let head = world.head(OP);
    let requiring = |user: usize, block: u64, payment: u64| {
        let mut who = Wallet::user(user);
        let pays = [gwei(payment), gwei(payment)].map(|value| who.send(OP, world.pay_proposer(value)));
        let [first, second] = pays;
        let whole = bundle().tx(OP, first).tx(OP, second).blocks(OP, block, block);
        whole.require(OP, world.proposer(), Asset::Native, gwei(2 * payment)).build()
    };
    let bundles = candidates([requiring(0, head + 1, 5), requiring(1, head + 1, 7), requiring(2, head + 2, 9)]);
    let draft = build_all(&world, &bundles);
    assert_eq!(draft.placed.len(), 3, "left out: {:?}", draft.left_out);
    let sealed = seal_on(&world, &draft, OP).expect("it seals");
    let drafted: Vec<_> = draft.placed.iter().map(|placed| placed.run.requirements[0]).collect();
    let promised: Vec<_> = sealed.requirements.iter().map(|promise| promise.requirement).collect();
    assert_eq!(promised, drafted);
    let spans: BTreeSet<_> = sealed.requirements.iter().map(|promise| (promise.first, promise.last)).collect();
    assert_eq!(spans, BTreeSet::from([((0, 0), (0, 1)), ((0, 2), (0, 3)), ((1, 0), (1, 1))]));

    // Whoever gets the list measures the same, and it does the same.
    let slot = &world.view.rollups[&OP].slot;
    let (blocks, measured) = execute_measured(slot, &sealed.list, &sealed.requirements).expect("it executes");
    let increases: Vec<Result<I256, String>> = drafted.iter().map(|run| Ok(run.increase)).collect();
    assert_eq!(measured, increases);
    let states: Vec<_> = sealed.blocks.iter().map(|block| block.state().expect("a state in memory can be read")).collect();
    assert_eq!(blocks.iter().map(digest).collect::<Vec<_>>(), states);

    // A span over two blocks is one, too; what is not in the list or ends before it begins is not measured.
    let mut foreign = [sealed.requirements[0]; 5];
    (foreign[0].first, foreign[0].last) = ((0, 0), (1, 1));
    (foreign[1].first, foreign[1].last) = ((0, 0), (0, 4));
    (foreign[2].first, foreign[2].last) = ((0, 4), (1, 0));
    (foreign[3].first, foreign[3].last) = ((0, 1), (0, 0));
    (foreign[4].first, foreign[4].last) = ((0, 0), (0, u32::MAX));
    let (_, measured) = execute_measured(slot, &sealed.list, &foreign).expect("it executes");
    let total: I256 = drafted.iter().fold(I256::ZERO, |sum, run| sum + run.increase);
    assert_eq!(measured[0], Ok(total));
    for unmeasured in [1, 2, 4] {
        assert!(measured[unmeasured].as_ref().is_err_and(|text| text.contains("not in the list")), "{:?}", measured[unmeasured]);
    }
    assert!(measured[3].as_ref().is_err_and(|text| text.contains("before it begins")), "{:?}", measured[3]);

    let mut wrong = draft.clone();
    wrong.placed[0].run.requirements[0].increase += I256::ONE;
    let last = sealed.requirements[0].last;
    let at = (last.0 as usize, Some(forced(&draft, OP, last.0 as usize) + last.1 as usize));
    assert_corrupt(&world, &wrong, OP, at, "rises by");
}

#[test]
fn a_bad_signature_in_a_foreign_list_is_refused_by_its_index() {
    let world = World::pair();
    let sealed = seal_on(&world, &stores(&world), OP).expect("it seals");
    let spoilt = |positions: &[usize]| -> BlockList {
        let mut list = sealed.list.clone();
        for position in positions {
            let listed = &mut list.blocks[0].transactions[*position];
            let mut bytes = listed.to_vec();
            // The signature's s, which has to be in the lower half (EIP-2).
            let end = bytes.len();
            bytes[end - 32..].fill(0xff);
            *listed = bytes.into();
        }
        list
    };
    let slot = &world.view.rollups[&OP].slot;
    let pool = ThreadPoolBuilder::new().num_threads(4).build().expect("threads can be started");
    for (positions, first) in [(vec![1], 1), (vec![2], 2), (vec![2, 1], 1), (vec![0, 1, 2], 0)] {
        let list = spoilt(&positions);
        let refused = pool.install(|| execute_list(slot, &list)).expect_err("the list is refused");
        let LaneError::Invalid { block: 0, index, reason } = &refused else { panic!("{refused}") };
        assert_eq!((*index, reason.code()), (first, "undecodable_transaction"), "{refused}");
        assert_eq!(execute_measured(slot, &list, &sealed.requirements).err(), Some(refused));
        let differs = verify(slot, &list).expect_err("the list is refused");
        assert!(differs.to_string().contains(&format!("transaction {first} of block 0")), "{differs}");
    }
}

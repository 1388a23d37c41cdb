//! The engine: whatever came and went, what it holds at once is true, and once it is improved no worse than building anew.

use std::{
    collections::BTreeSet,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use alloy_primitives::{Address, B256, I256, U256};
use lockstep_building::{Candidate, Draft, Engine, Lanes, SearchLimits, SlotView, build, open_lanes, run_bundle};
use lockstep_primitives::{Bundle, ChainId, RollupSet};
use lockstep_simulation::{Account, Code, SlotRollup, StateError, StateView};
use lockstep_testkit::{Case, GWEI, Relays, USD, World, bundle, candidates, cases, naive, user};
use proptest::prelude::*;
use rayon::ThreadPoolBuilder;

use crate::{
    invariants::{Checked, config, same, with_hash},
    support::{PLACEHOLDER, build_all, placed, print},
};

fn engine(world: &World, candidates: &[Candidate]) -> Engine {
    let mut engine = Engine::open(Arc::new(world.view.clone()), SearchLimits::default()).expect("the blocks open");
    for taken in engine.insert(candidates).expect("the engine works") {
        taken.expect("the states of a world are there");
    }
    engine
}

fn draft(engine: &mut Engine, rollups: &RollupSet) -> Draft {
    let standing = engine.propose(rollups).expect("the engine works");
    let draft = engine.draft(rollups).expect("the engine works");
    assert_eq!((standing.value, standing.bundles), (draft.value, draft.placed.len()));
    draft
}

/// What a user burns on the first rollup is minted on the second.
fn crossing(world: &World, number: usize) -> Bundle {
    let (from, to) = (world.chain(0), world.chain(1));
    let burn = world.burn(from, USD, to, user(number).address()).sign(from, user(number), 0, 3 * GWEI);
    bundle().tx(from, burn).relay(to, 0, 0).build()
}

/// The naive builder, given the engine's order, comes to the same lists, states and value.
fn is_true(world: &World, candidates: &[Candidate], draft: &Draft) -> Checked {
    let left_out = draft.left_out.iter().map(|(hash, _)| *hash);
    let order: Vec<Candidate> = placed(draft).into_iter().chain(left_out).map(|hash| with_hash(candidates, hash)).collect();
    same(draft, &naive(&world.view, &draft.rollups, &order, Relays::Drafted(*PLACEHOLDER)))
}

/// The same of what is placed alone: what came late may not have been tried everywhere yet. Every bundle is told of.
fn is_true_at_once(world: &World, inside: &[Candidate], draft: &Draft) -> Checked {
    let order: Vec<Candidate> = placed(draft).into_iter().map(|hash| with_hash(inside, hash)).collect();
    same(draft, &naive(&world.view, &draft.rollups, &order, Relays::Drafted(*PLACEHOLDER)))?;
    let left_out = draft.left_out.iter().map(|(hash, _)| *hash);
    let mut told: Vec<B256> = placed(draft).into_iter().chain(left_out).collect();
    let mut known: Vec<B256> = inside.iter().map(|candidate| candidate.hash).collect();
    told.sort_unstable();
    known.sort_unstable();
    prop_assert_eq!(told, known);
    Ok(())
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn what_the_engine_holds_is_true_and_no_worse_than_greedy(case in cases(3, 1..=9)) {
        let world = case.world();
        let candidates = case.candidates(&world);
        let mut engine = engine(&world, &candidates);
        let draft = draft(&mut engine, &world.rollups());
        prop_assert!(draft.value >= build_all(&world, &candidates).value);
        is_true(&world, &candidates, &draft)?;
    }

    #[test]
    fn what_comes_and_goes_is_taken_in_at_once_and_then_costs_nothing(
        case in cases(3, 2..=9),
        plain in any::<bool>(),
        moves in proptest::collection::vec((any::<prop::sample::Index>(), 0..4_u8), 1..16),
    ) {
        let case = if plain { one_block(case) } else { case };
        let world = case.world();
        let candidates = case.candidates(&world);
        let rollups = world.rollups();
        let (first, rest) = candidates.split_at(candidates.len() / 2);
        let mut engine = engine(&world, first);
        draft(&mut engine, &rollups);
        let mut inside: Vec<Candidate> = first.to_vec();
        for (which, then) in moves {
            let candidate = which.get(&candidates);
            match inside.iter().position(|other| other.hash == candidate.hash) {
                Some(position) => {
                    inside.remove(position);
                    prop_assert!(engine.remove(candidate.hash));
                }
                None => {
                    inside.push(candidate.clone());
                    engine.insert(std::slice::from_ref(candidate)).expect("the engine works");
                }
            }
            // Sometimes several changes come before anybody asks, and sometimes there is time to improve.
            if then == 0 {
                continue;
            }
            if then == 3 {
                engine.improve(&rollups, 0).expect("the engine works");
            }
            is_true_at_once(&world, &inside, &draft(&mut engine, &rollups))?;
        }
        for candidate in rest {
            engine.insert(std::slice::from_ref(candidate)).expect("the engine works");
            inside.retain(|other| other.hash != candidate.hash);
            inside.push(candidate.clone());
        }
        is_true_at_once(&world, &inside, &draft(&mut engine, &rollups))?;
        engine.improve(&rollups, 0).expect("the engine works");
        let kept = draft(&mut engine, &rollups);
        let mut anew = self::engine(&world, &inside);
        prop_assert!(kept.value >= draft(&mut anew, &rollups).value);
        is_true(&world, &candidates, &kept)?;
    }
}

proptest! {
    #![proptest_config(config(40))]

    #[test]
    fn neither_threads_nor_the_order_of_insertion_change_what_it_holds(case in cases(3, 2..=9)) {
        let world = case.world();
        let mut candidates = case.candidates(&world);
        let mut prints = Vec::new();
        for threads in [1, 2, 8] {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be started");
            candidates.reverse();
            let improve = || {
                let mut engine = engine(&world, &candidates);
                for round in 0..4 {
                    engine.improve(&world.rollups(), round).expect("the engine works");
                }
                print(&draft(&mut engine, &world.rollups()))
            };
            prints.push(pool.install(improve));
        }
        prop_assert_eq!(&prints[0], &prints[1]);
        prop_assert_eq!(&prints[0], &prints[2]);
    }
}

/// The most that any bundles in any order are worth, none of them at a loss, found by trying all of them.
fn optimum(world: &World, candidates: &[Candidate]) -> I256 {
    let mut lanes = open_lanes(&world.view, &world.rollups()).expect("the blocks open");
    best(world, &mut lanes, candidates, &mut Vec::new(), &mut Taken::default())
}

/// What the bundles taken so far delivered, and between which rollups.
#[derive(Clone, Default)]
struct Taken {
    delivered: BTreeSet<B256>,
    edges: BTreeSet<(ChainId, ChainId)>,
}

fn best(world: &World, lanes: &mut Lanes, candidates: &[Candidate], used: &mut Vec<B256>, taken: &mut Taken) -> I256 {
    let mut best_value = I256::ZERO;
    for candidate in candidates {
        if used.contains(&candidate.hash) {
            continue;
        }
        let before = lanes.clone();
        let attempt = run_bundle(&world.view, lanes, &candidate.bundle, &taken.delivered).expect("the engine works");
        let mut then = taken.clone();
        then.delivered.extend(&attempt.run.delivered);
        then.edges.extend(&attempt.run.edges);
        let mutual = then.edges.iter().any(|(a, b)| a != b && then.edges.contains(&(*b, *a)));
        if attempt.blocked.is_none() && !attempt.run.value.is_negative() && !mutual {
            used.push(candidate.hash);
            best_value = best_value.max(attempt.run.value + best(world, lanes, candidates, used, &mut then));
            used.pop();
        }
        *lanes = before;
    }
    best_value
}

/// Improves until nothing more can be found.
fn improved(engine: &mut Engine, rollups: &RollupSet) -> Draft {
    let first = engine.propose(rollups).expect("the engine works").value;
    let mut value = first;
    for round in 0..200 {
        let open = engine.improve(rollups, round).expect("the engine works");
        let standing = engine.propose(rollups).expect("the engine works");
        assert!(standing.value >= value, "an improvement makes nothing worse");
        assert!(standing.bound.is_none_or(|bound| bound >= standing.value), "{standing:?}");
        value = standing.value;
        if !open {
            break;
        }
    }
    draft(engine, rollups)
}

/// One block a rollup, as the search has it.
fn one_block(mut case: Case) -> Case {
    case.setting.blocks.iter_mut().for_each(|count| *count = 1);
    case
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn few_bundles_are_searched_to_the_optimum(case in cases(2, 1..=4)) {
        let case = one_block(case);
        let mut world = case.world();
        // Messages may go both ways or not at all: a circle over three is not what is tried here.
        world.view.policy.trusted = RollupSet::new();
        let candidates = case.candidates(&world);
        let mut engine = engine(&world, &candidates);
        let draft = improved(&mut engine, &world.rollups());
        prop_assert_eq!(draft.value, optimum(&world, &candidates));
        is_true(&world, &candidates, &draft)?;
    }

    #[test]
    fn what_is_improved_is_true_and_keeps_within_its_bound(case in cases(3, 1..=12), exact_items in 1_usize..5) {
        let case = one_block(case);
        let world = case.world();
        let candidates = case.candidates(&world);
        let limits = SearchLimits { exact_items, round_work: 50, ..SearchLimits::default() };
        let mut engine = Engine::open(Arc::new(world.view.clone()), limits).expect("the blocks open");
        engine.insert(&candidates).expect("the engine works");
        let greedy = build_all(&world, &candidates).value;
        let rollups = world.rollups();
        for round in 0..6 {
            engine.improve(&rollups, round).expect("the engine works");
        }
        let draft = draft(&mut engine, &rollups);
        prop_assert!(draft.value >= greedy);
        is_true(&world, &candidates, &draft)?;
    }
}

/// The slot after the one in which a draft landed, at the same base fees.
fn after(view: &SlotView, draft: &Draft) -> SlotView {
    let mut next = view.clone();
    for (chain, rollup) in &mut next.rollups {
        let mut slot = SlotRollup::clone(&rollup.slot);
        let blocks = slot.blocks.len() as u64;
        let last = &draft.lanes[chain].blocks.last().expect("a slot has blocks").block;
        slot.state = Arc::new(last.state().clone());
        slot.parent.number += blocks;
        let passed = last.context().timestamp - slot.parent.timestamp;
        slot.parent.timestamp += passed;
        slot.blocks.iter_mut().for_each(|plan| plan.next.timestamp += passed);
        rollup.slot = Arc::new(slot);
    }
    next
}

proptest! {
    #![proptest_config(config(250))]

    #[test]
    fn on_a_new_head_it_holds_what_an_engine_that_begins_there_does(case in cases(3, 2..=9)) {
        let world = case.world();
        let candidates = case.candidates(&world);
        let rollups = world.rollups();
        let landed = draft(&mut engine(&world, &candidates[..candidates.len() / 2]), &rollups);
        let next = Arc::new(after(&world.view, &landed));
        let mut moved = engine(&world, &candidates);
        draft(&mut moved, &rollups);
        prop_assert_eq!(moved.rebase(Arc::clone(&next)), Ok(Vec::new()));
        let mut anew = Engine::open(next, SearchLimits::default()).expect("the blocks open");
        anew.insert(&candidates).expect("the engine works");
        prop_assert_eq!(print(&draft(&mut moved, &rollups)), print(&draft(&mut anew, &rollups)));
        for (moved, anew) in moved.simulated().iter().zip(anew.simulated()) {
            prop_assert_eq!(format!("{:?}", moved.attempt), format!("{:?}", anew.attempt));
        }
    }
}

/// A state that panics once, at the read of that number.
#[derive(Debug)]
struct Failing {
    state: Arc<dyn StateView>,
    reads: Arc<AtomicUsize>,
    at: usize,
}

impl Failing {
    fn read(&self) -> &dyn StateView {
        assert_ne!(self.reads.fetch_add(1, Ordering::SeqCst), self.at, "the state fails");
        &*self.state
    }
}

impl StateView for Failing {
    fn account(&self, address: Address) -> Result<Option<Account>, StateError> {
        self.read().account(address)
    }

    fn code(&self, hash: B256) -> Result<Code, StateError> {
        self.read().code(hash)
    }

    fn storage(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        self.read().storage(address, slot)
    }

    fn block_hash(&self, number: u64) -> Result<B256, StateError> {
        self.read().block_hash(number)
    }
}

#[test]
fn a_thread_that_panics_does_not_leave_the_others_waiting() {
    let world = World::of(2);
    // What crosses waits for what crossed before.
    let candidates = candidates((0..4).map(|number| crossing(&world, number)));
    let pool = ThreadPoolBuilder::new().num_threads(2).build().expect("threads can be started");
    let mut panicked = 0;
    for at in 0.. {
        let reads = Arc::new(AtomicUsize::new(0));
        let mut view = world.view.clone();
        for rollup in view.rollups.values_mut() {
            let mut slot = SlotRollup::clone(&rollup.slot);
            slot.state = Arc::new(Failing { state: Arc::clone(&slot.state), reads: Arc::clone(&reads), at });
            rollup.slot = Arc::new(slot);
        }
        let went = std::panic::catch_unwind(AssertUnwindSafe(|| {
            pool.install(|| {
                let mut engine = Engine::open(Arc::new(view), SearchLimits::default()).expect("the blocks open");
                engine.insert(&candidates).expect("the engine works");
                engine.propose(&world.rollups()).expect("the engine works").bundles
            })
        }));
        match went {
            Ok(bundles) => {
                assert_eq!(bundles, candidates.len());
                break;
            }
            Err(_) => panicked += 1,
        }
    }
    assert!(panicked > 0);
}

#[test]
fn a_rollup_that_is_not_in_the_view_is_told() {
    let world = World::of(2);
    let mut engine = engine(&world, &[]);
    assert!(engine.is_empty());
    assert!(engine.propose(&RollupSet::from([999])).is_err());
    assert!(build(&world.view, &engine.simulated(), &RollupSet::from([999])).is_err());
}

#[test]
fn a_sender_whose_bundles_came_in_the_wrong_order_finds_them_all_in_the_block() {
    let mut world = World::of(2);
    world.view.policy.max_passes = 1;
    let chain = world.chain(0);
    let paid = |nonce: u64| world.pay_proposer(U256::from(GWEI)).sign(chain, user(0), nonce, 3 * GWEI);
    // The last nonce was admitted first.
    let candidates = candidates((0..6).rev().map(|nonce| bundle().tx(chain, paid(nonce)).build()));
    let (late, early) = candidates.split_last().expect("there are six");
    let mut engine = engine(&world, early);
    assert_eq!(draft(&mut engine, &world.rollups()).placed.len(), 0, "nonce 0 is missing");
    engine.insert(std::slice::from_ref(late)).expect("the engine works");
    assert_eq!(draft(&mut engine, &world.rollups()).placed.len(), 6, "taken in late");
    let mut anew = self::engine(&world, &candidates);
    assert_eq!(draft(&mut anew, &world.rollups()).placed.len(), 6, "filled in order");
    assert!(engine.remove(candidates[3].hash));
    assert_eq!(draft(&mut engine, &world.rollups()).placed.len(), 2, "nonce 2 went");
    engine.insert(&candidates[3..4]).expect("the engine works");
    assert_eq!(draft(&mut engine, &world.rollups()).placed.len(), 6, "and came back");
}

#[test]
fn counters_that_everybody_moves_glue_nobody_together() {
    let world = World::of(2);
    let candidates = candidates((0..4).map(|number| crossing(&world, number)));
    let mut engine = engine(&world, &candidates);
    let draft = draft(&mut engine, &world.rollups());
    assert_eq!(draft.placed.len(), 4, "{:?}", draft.left_out);
    assert_eq!(engine.group_sizes().expect("the engine works"), [1, 1, 1, 1]);
}

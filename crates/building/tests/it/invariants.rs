//! The invariants over random bundle sets.
//!
//! The seed is fixed, so that a run says something about the code and not about luck. `PROPTEST_CASES` sets another number of
//! cases, `PROPTEST_RNG_SEED` another seed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use alloy_primitives::{B256, I256, keccak256};
use lockstep_building::{Candidate, Draft, Placed, build, proposals, simulate_all, verify};
use lockstep_primitives::{ChainId, Leg, Rejection, RevertMode};
use lockstep_testkit::{NaiveDraft, Relays, World, cases, cases_without_relays, naive};
use proptest::{prelude::*, test_runner::RngSeed};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::support::{PLACEHOLDER, Print, build_all, build_on, digest, lists, placed, print, seal_on, states};

pub(crate) type Checked = Result<(), TestCaseError>;

const SEED: u64 = 20_261_122;

static ONE_THREAD: LazyLock<ThreadPool> = LazyLock::new(|| pool(1));
static FOUR_THREADS: LazyLock<ThreadPool> = LazyLock::new(|| pool(4));

fn pool(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be started")
}

/// A failing case is reproduced by its seed, so that no file has to keep it.
pub(crate) fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(SEED),
        failure_persistence: None,
        max_shrink_iters: 256,
        ..ProptestConfig::default()
    }
}

fn all_proposals(world: &World, candidates: &[Candidate]) -> Vec<Draft> {
    let simulated = simulate_all(&world.view, candidates).expect("the engine works");
    proposals(&world.view, &simulated).expect("the engine works")
}

pub(crate) fn with_hash(candidates: &[Candidate], hash: B256) -> Candidate {
    candidates.iter().find(|candidate| candidate.hash == hash).expect("a draft holds candidates only").clone()
}

// 1. All or nothing.

proptest! {
    #![proptest_config(config(150))]

    #[test]
    fn in_every_proposal_a_bundle_is_there_as_a_whole_or_not_at_all(case in cases(3, 1..=7)) {
        let world = case.world();
        let candidates = case.candidates(&world);
        for draft in all_proposals(&world, &candidates) {
            whole_or_absent(&world, &candidates, &draft)?;
        }
    }

    #[test]
    fn on_four_rollups_too_a_bundle_is_there_as_a_whole_or_not_at_all(case in cases(4, 1..=5)) {
        let world = case.world();
        let candidates = case.candidates(&world);
        whole_or_absent(&world, &candidates, &build_all(&world, &candidates))?;
    }
}

pub(crate) fn whole_or_absent(world: &World, candidates: &[Candidate], draft: &Draft) -> Checked {
    let inside: BTreeSet<B256> = placed(draft).into_iter().collect();
    prop_assert_eq!(inside.len(), draft.placed.len(), "a bundle is in the draft once");
    let listed: BTreeSet<B256> = lists(draft).into_values().flatten().flatten().collect();
    let held: BTreeSet<B256> = draft.placed.iter().flat_map(|placed| placed.bundle.txs()).map(|tx| tx.tx.hash()).collect();
    for outside in candidates.iter().filter(|candidate| !inside.contains(&candidate.hash)) {
        for tx in outside.bundle.txs().map(|tx| tx.tx.hash()) {
            prop_assert!(held.contains(&tx) || !listed.contains(&tx), "transaction {} of a left-out bundle is in a list", tx);
        }
    }
    let mut accounted = 0;
    for placed in &draft.placed {
        accounted += contiguous(world, draft, placed)?;
    }
    let all: usize = draft.lanes.values().flat_map(|lane| &lane.blocks).map(|block| block.listed().len()).sum();
    prop_assert_eq!(accounted, all, "every transaction in a list belongs to one bundle");
    Ok(())
}

/// Checks that what must land of the bundle is in the lists, in leg order, in one block and without a gap on each rollup.
/// Returns how many of the listed transactions are the bundle's.
fn contiguous(world: &World, draft: &Draft, placed: &Placed) -> Result<usize, TestCaseError> {
    let mut spans: BTreeMap<ChainId, Vec<(usize, usize)>> = BTreeMap::new();
    prop_assert_eq!(placed.bundle.legs.len(), placed.run.legs.len());
    for (leg, run) in placed.bundle.legs.iter().zip(&placed.run.legs) {
        let chain = leg.chain();
        let blocks = &draft.lanes[&chain].blocks;
        let span = spans.entry(chain).or_default();
        match leg {
            Leg::Txs { txs, .. } => {
                prop_assert_eq!(txs.len(), run.txs.len());
                for (tx, ran) in txs.iter().zip(&run.txs) {
                    let hash = tx.tx.hash();
                    let Some(position) = ran.position else {
                        prop_assert_eq!(tx.mode, RevertMode::Drop, "only a droppable transaction may be absent");
                        continue;
                    };
                    let found: Vec<(usize, usize)> = blocks
                        .iter()
                        .enumerate()
                        .flat_map(|(number, block)| {
                            let executed = block.block.executed().iter().enumerate();
                            executed.filter(move |(_, executed)| executed.tx.hash() == hash).map(move |(at, _)| (number, at))
                        })
                        .collect();
                    prop_assert_eq!(found, vec![(run.block, position)], "a transaction is where the run says, and only there");
                    let succeeded = blocks[run.block].block.executed()[position].outcome.succeeded();
                    prop_assert!(succeeded || tx.mode == RevertMode::Allow, "only an allowed transaction may fail");
                    span.push((run.block, position));
                }
            }
            Leg::Relay { .. } => {
                prop_assert!(!run.txs.is_empty(), "a relay delivers something");
                for ran in &run.txs {
                    let Some(position) = ran.position else {
                        return Err(TestCaseError::fail("a relay has to land"));
                    };
                    let executed = &blocks[run.block].block.executed()[position];
                    prop_assert_eq!(executed.tx.sender(), world.proposer());
                    prop_assert!(executed.outcome.succeeded(), "a relay has to succeed");
                    span.push((run.block, position));
                }
            }
        }
    }
    for span in spans.values() {
        for pair in span.windows(2) {
            let (block, position) = pair[0];
            prop_assert_eq!(pair[1], (block, position + 1), "a bundle's transactions on a rollup follow each other in one block");
        }
    }
    Ok(spans.values().map(Vec::len).sum())
}

// 2. No pay on failure, and agreement with the naive builder.

proptest! {
    #![proptest_config(config(120))]

    #[test]
    fn left_out_bundles_leave_every_rollup_as_if_they_had_never_been_seen(case in cases(3, 1..=7)) {
        let world = case.world();
        let candidates = case.candidates(&world);
        for draft in all_proposals(&world, &candidates) {
            let order: Vec<Candidate> =
                draft.placed.iter().map(|placed| with_hash(&candidates, placed.hash)).collect();
            let naive = naive(&world.view, &draft.rollups, &order, Relays::Drafted(*PLACEHOLDER));
            same(&draft, &naive)?;
        }
    }
}

proptest! {
    #![proptest_config(config(700))]

    #[test]
    fn greedy_and_naive_agree_on_two_rollups(case in cases(2, 1..=6)) {
        let world = case.world();
        let candidates = case.candidates(&world);
        agree(&world, &candidates)?;
    }
}

proptest! {
    #![proptest_config(config(250))]

    #[test]
    fn greedy_and_naive_agree_on_three_rollups(case in cases(3, 2..=9)) {
        let world = case.world();
        let candidates = case.candidates(&world);
        agree(&world, &candidates)?;
    }

    #[test]
    fn greedy_and_naive_agree_on_four_rollups_without_relays(case in cases_without_relays(4, 2..=8)) {
        let world = case.world();
        let candidates = case.candidates(&world);
        agree(&world, &candidates)?;
    }
}

/// What greedy placed goes in, in greedy's order, and what greedy left out does not, not even at the end, for the same
/// reasons.
pub(crate) fn agree(world: &World, candidates: &[Candidate]) -> Checked {
    let draft = build_all(world, candidates);
    prop_assert_eq!(draft.placed.len() + draft.left_out.len(), candidates.len(), "every bundle is placed or told why not");
    let left_out = draft.left_out.iter().map(|(hash, _)| *hash);
    let order: Vec<Candidate> = placed(&draft).into_iter().chain(left_out).map(|hash| with_hash(candidates, hash)).collect();
    let naive = naive(&world.view, &draft.rollups, &order, Relays::Drafted(*PLACEHOLDER));
    for (hash, rejection) in &draft.left_out {
        let refused = naive.refused.get(hash).map(|refused| (refused.place, refused.reason.code()));
        prop_assert_eq!(refused, Some((rejection.place, rejection.reason.code())), "greedy says {}", rejection);
    }
    same(&draft, &naive)
}

pub(crate) fn same(draft: &Draft, naive: &NaiveDraft) -> Checked {
    prop_assert_eq!(&placed(draft), &naive.placed);
    prop_assert_eq!(&lists(draft), &naive.lists);
    prop_assert_eq!(&states(draft), &naive.states);
    prop_assert_eq!(draft.value, naive.value);
    Ok(())
}

// 3. Truth.

proptest! {
    #![proptest_config(config(250))]

    #[test]
    fn sealed_lists_do_on_a_fresh_evm_what_was_promised(mut case in cases(3, 1..=6)) {
        // Full blocks, whose limits real evidence may cross, have a story of their own.
        case.setting.gas_limit = 30_000_000;
        let world = case.world();
        let candidates = case.candidates(&world);
        let draft = build_all(&world, &candidates);
        keeps_its_promises(&world, &draft)?;
        // Where the base fee of no block depends on what a relay's real evidence weighs, the naive builder can write the very
        // bytes that are sealed.
        if case.setting.blocks.iter().all(|count| *count == 1) {
            naive_seals_the_same(&world, &candidates, &draft)?;
        }
    }

    #[test]
    fn without_relays_sealed_lists_are_their_drafts_to_the_last_bit(case in cases_without_relays(3, 1..=6)) {
        let world = case.world();
        let candidates = case.candidates(&world);
        keeps_its_promises(&world, &build_all(&world, &candidates))?;
    }
}

pub(crate) fn keeps_its_promises(world: &World, draft: &Draft) -> Checked {
    for (chain, lane) in &draft.lanes {
        let failed = |error: String| TestCaseError::fail(format!("rollup {chain}: {error}"));
        let sealed = seal_on(world, draft, *chain).map_err(|error| failed(error.to_string()))?;
        let fresh = verify(&world.view.rollups[chain].slot, &sealed.list).map_err(|error| failed(error.to_string()))?;
        prop_assert_eq!((sealed.blocks.len(), fresh.len()), (lane.blocks.len(), lane.blocks.len()));
        let as_drafted = draft.relays(*chain).is_empty();
        let mut must_succeed = 0;
        for ((promise, fresh), drafted) in sealed.blocks.iter().zip(&fresh).zip(&lane.blocks) {
            prop_assert_eq!(promise.number, fresh.block.context().number);
            prop_assert_eq!(promise.gas_used, fresh.summary().gas_used);
            prop_assert_eq!(promise.receipts_root(), fresh.summary().receipts_root);
            prop_assert_eq!(promise.state().expect("a state in memory can be read"), digest(fresh));
            let (before, after) = (drafted.block.executed(), fresh.block.executed());
            prop_assert_eq!(before.len(), after.len());
            for (before, after) in before.iter().zip(after) {
                prop_assert_eq!(&before.outcome.status, &after.outcome.status);
                prop_assert_eq!(&before.outcome.logs, &after.outcome.logs);
                if as_drafted {
                    prop_assert_eq!(before.tx.hash(), after.tx.hash());
                    prop_assert_eq!(&before.outcome, &after.outcome);
                    prop_assert_eq!(before.receipt(), after.receipt());
                }
            }
            if as_drafted {
                prop_assert_eq!(promise.state().expect("a state in memory can be read"), digest(drafted));
            }
            for position in &promise.must_succeed {
                let executed = fresh.listed().get(*position as usize);
                prop_assert!(executed.is_some_and(|executed| executed.outcome.succeeded()));
            }
            must_succeed += promise.must_succeed.len();
        }
        let legs = draft.placed.iter().flat_map(|placed| placed.bundle.legs.iter().zip(&placed.run.legs));
        let expected: usize = legs
            .filter(|(leg, _)| leg.chain() == *chain)
            .map(|(leg, run)| match leg {
                Leg::Txs { txs, .. } => txs.iter().filter(|tx| tx.mode == RevertMode::Fail).count(),
                Leg::Relay { .. } => run.txs.len(),
            })
            .sum();
        prop_assert_eq!(must_succeed, expected, "every transaction that must succeed is promised to");
        let required = draft.placed.iter().flat_map(|placed| &placed.bundle.require);
        prop_assert!(sealed.requirements.len() <= required.filter(|required| required.chain == *chain).count());
    }
    Ok(())
}

fn naive_seals_the_same(world: &World, candidates: &[Candidate], draft: &Draft) -> Checked {
    let order: Vec<Candidate> = draft.placed.iter().map(|placed| with_hash(candidates, placed.hash)).collect();
    let naive = naive(&world.view, &draft.rollups, &order, Relays::Sealed);
    prop_assert_eq!(&naive.placed, &placed(draft));
    for chain in &draft.rollups {
        let sealed = seal_on(world, draft, *chain).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let list: Vec<Vec<B256>> =
            sealed.list.blocks.iter().map(|block| block.transactions.iter().map(keccak256).collect()).collect();
        let states: Vec<B256> = sealed.blocks.iter().map(|block| block.state().expect("a state in memory can be read")).collect();
        prop_assert_eq!(&naive.lists[chain], &list);
        prop_assert_eq!(&naive.states[chain], &states);
    }
    Ok(())
}

// 4. Separability.

proptest! {
    #![proptest_config(config(100))]

    #[test]
    fn a_proposal_is_what_it_would_be_if_no_other_rollup_existed(case in cases(3, 1..=7)) {
        let world = case.world();
        let candidates = case.candidates(&world);
        for draft in all_proposals(&world, &candidates) {
            prop_assert_eq!(draft.lanes.keys().copied().collect::<Vec<_>>(), draft.rollups.iter().copied().collect::<Vec<_>>());
            for placed in &draft.placed {
                prop_assert!(placed.bundle.rollups().is_subset(&draft.rollups));
            }
            let mut alone = world.view.clone();
            alone.rollups.retain(|chain, _| draft.rollups.contains(chain));
            let own: Vec<Candidate> = candidates
                .iter()
                .filter(|candidate| candidate.bundle.rollups().is_subset(&draft.rollups))
                .cloned()
                .collect();
            prop_assert_eq!(print(&build_on(&alone, &own, &draft.rollups)), print(&draft));
        }
    }
}

// 5. Determinism.

proptest! {
    #![proptest_config(config(60))]

    #[test]
    fn neither_threads_nor_the_order_of_arrival_change_a_proposal(case in cases(3, 1..=8), salt in any::<u64>()) {
        let world = case.world();
        let candidates = case.candidates(&world);
        let mut shuffled = candidates.clone();
        shuffled.sort_by_key(|candidate| keccak256([candidate.hash.as_slice(), &salt.to_be_bytes()].concat()));
        let once = ONE_THREAD.install(|| everything(&world, &candidates));
        let again = FOUR_THREADS.install(|| everything(&world, &candidates));
        prop_assert_eq!(&once, &again, "four threads build what one builds");
        let otherwise = FOUR_THREADS.install(|| everything(&world, &shuffled));
        prop_assert_eq!(&once, &otherwise, "the order of arrival within a batch does not matter");
    }
}

/// What each bundle did alone, and all proposals.
type Everything = (BTreeMap<B256, (Option<Rejection>, I256)>, Vec<Print>);

fn everything(world: &World, candidates: &[Candidate]) -> Everything {
    let simulated = simulate_all(&world.view, candidates).expect("the engine works");
    let alone =
        simulated.iter().map(|entry| (entry.candidate.hash, (entry.attempt.blocked.clone(), entry.attempt.run.value))).collect();
    let drafts = proposals(&world.view, &simulated).expect("the engine works");
    (alone, drafts.iter().map(print).collect())
}

proptest! {
    #![proptest_config(config(100))]

    #[test]
    fn simulating_changes_nothing_for_the_bundles_after_it(case in cases(3, 2..=7)) {
        let world = case.world();
        let candidates = case.candidates(&world);
        let together = ONE_THREAD.install(|| simulate_all(&world.view, &candidates)).expect("the engine works");
        for (candidate, entry) in candidates.iter().zip(&together) {
            let alone = lockstep_building::simulate(&world.view, &candidate.bundle).expect("the engine works");
            prop_assert_eq!(&entry.attempt.blocked, &alone.blocked);
            prop_assert_eq!(entry.attempt.run.value, alone.run.value);
            prop_assert_eq!(&entry.attempt.run.gas, &alone.run.gas);
            prop_assert_eq!(&entry.attempt.run.balances, &alone.run.balances);
        }
        let largest = world.rollups();
        let rebuilt = build(&world.view, &together, &largest).expect("the engine works");
        prop_assert_eq!(print(&rebuilt), print(&build_all(&world, &candidates)));
    }
}

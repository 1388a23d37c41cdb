//! What a slot's engine is asked while bundles come and go.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy_primitives::{Address, B256};
use lockstep_building::{Candidate, Engine, Policy, RollupView, SearchLimits, SlotView, Standing};
use lockstep_pool::{Kind, Limits};
use lockstep_primitives::{BundleState, Price, RollupSet};
use lockstep_provider::{EvidenceSource, LocalAttester, RollupNode};
use lockstep_simulation::{BlockPlan, EthereumFork, ForkSchedule, NextBlock, ParentBlock, Rules, SlotRollup};

use super::{
    BuilderRole, BuilderSettings,
    engine::{PutAway, SlotEngine},
    holes::Holes,
};
use crate::{
    clock::now_ms,
    fake_node::{A, B, FakeNode, Rig, bundle_of, pay},
    keys::Key,
    messages::{Bridging, Messages, MessagesSettings},
    process::BiddingPlan,
    record::steps::Step,
    roles::{Timings, client},
    strategies::Strategies,
};

/// A time that has passed: nothing is waited for.
pub(super) const PASSED: u64 = 0;

/// A builder over two fake rollups, whose market nobody ever asks.
pub(super) fn role(rig: &Rig) -> BuilderRole {
    let key = Key::of_name("builder");
    let evidence: Arc<dyn EvidenceSource> = Arc::new(LocalAttester::new([], RollupSet::new()));
    let nodes = rig.intake.rollups().iter().map(|(chain, served)| (*chain, Arc::clone(&served.node))).collect();
    let (settings, bridging) = (MessagesSettings::default(), Bridging::default());
    let messages = Messages::open(settings, bridging, key.address(), nodes, Arc::clone(&evidence), rig.store.clone());
    let settings = BuilderSettings {
        key,
        timings: Timings::for_slots(0, 1_000, 1),
        policy: Policy::default(),
        prices: BTreeMap::new(),
        bidding: BiddingPlan::share(9_000),
        forecast: Default::default(),
        tickets: None,
        bids_ahead: false,
        proposals: Default::default(),
        search: SearchLimits::default(),
        recorder: None,
        strategies: Strategies::default(),
    };
    let market = client("http://127.0.0.1:1").unwrap();
    BuilderRole::new(settings, Arc::clone(&rig.intake), market, Address::ZERO, evidence, Arc::new(messages.unwrap()))
}

/// A slot with one block of each rollup.
pub(super) async fn view(rig: &Rig, slot: u64) -> Arc<SlotView> {
    let proposer = Key::of_name("builder").address();
    let mut rollups = BTreeMap::new();
    for node in [&rig.a, &rig.b] {
        let node: &FakeNode = node;
        let head = node.head().await.unwrap();
        let state = node.state_at(head.hash).await.unwrap();
        let parent = ParentBlock { blob_gas_used: Some(0), excess_blob_gas: Some(0), ..head };
        let next = NextBlock {
            timestamp: parent.timestamp + 1,
            gas_limit: parent.gas_limit,
            beneficiary: proposer,
            parent_beacon_block_root: Some(B256::repeat_byte(0xbe)),
            ..NextBlock::default()
        };
        let forks = ForkSchedule::always(Rules::Ethereum(EthereumFork::Osaka));
        let blocks = vec![BlockPlan { next, forced: Vec::new() }];
        let rollup = SlotRollup { chain: node.chain(), forks, parent, state, blocks };
        rollups.insert(node.chain(), RollupView::free(Arc::new(rollup), Price::PAR, 0));
    }
    Arc::new(SlotView { slot, rollups, proposer, policy: Policy::default(), facts: Arc::default() })
}

/// A bundle of one payment on the first rollup.
pub(super) async fn admit(rig: &Rig, user: usize) -> B256 {
    rig.intake.admit(bundle_of(&[(A, pay(A, user, 0))]), Kind::Bundle).await.unwrap()
}

/// The engine of a slot, with everything in the pool taken in, and with a note of what it is asked.
pub(super) async fn begun(rig: &Rig, role: &BuilderRole, slot: u64, kept: Option<Box<Engine>>) -> SlotEngine {
    begun_on(rig, role, &view(rig, slot).await, kept, true).await
}

/// The same on some view, and with a note if that is wanted.
pub(super) async fn begun_on(
    rig: &Rig,
    role: &BuilderRole,
    view: &Arc<SlotView>,
    kept: Option<Box<Engine>>,
    noted: bool,
) -> SlotEngine {
    let pending = Arc::new(role.candidates().1);
    let engine = SlotEngine::begin(&rig.intake, view, kept, SearchLimits::default(), &pending, noted).await.unwrap();
    let new = engine.news(Vec::clone(&pending)).unwrap().new;
    engine.take_in(&rig.intake, &Holes::default(), new, PASSED, true).await.unwrap();
    engine
}

/// What is placed on the first rollup.
pub(super) async fn placed(rig: &Rig, engine: &SlotEngine) -> BTreeSet<B256> {
    let draft = engine.draft(&rig.intake, &RollupSet::from([A])).await.unwrap();
    draft.placed.iter().map(|placed| placed.hash).collect()
}

/// What a set is worth.
pub(super) fn of(standings: &[(RollupSet, Standing)], rollups: &RollupSet) -> Standing {
    standings.iter().find(|(set, _)| set == rollups).unwrap().1.clone()
}

#[tokio::test]
async fn what_comes_after_the_first_proposals_and_before_bidding_is_in_the_list() {
    let rig = Rig::new(Limits::default());
    let role = role(&rig);
    let early = admit(&rig, 0).await;
    let revision = role.candidates().0;
    let engine = begun(&rig, &role, 7, None).await;
    let first = engine.propose(&rig.intake).await.unwrap();
    let late = admit(&rig, 1).await;
    let only_a = RollupSet::from([A]);
    assert_eq!(of(&first, &only_a).bundles, 1);
    let last = role.search(&engine, &Holes::default(), revision, (first.clone(), 0), PASSED).await.unwrap();
    assert_eq!(of(&last, &only_a).bundles, 2);
    assert!(of(&last, &only_a).value > of(&first, &only_a).value, "it is bid on, too");
    assert_eq!(placed(&rig, &engine).await, [early, late].into());
}

#[tokio::test]
async fn what_is_cancelled_or_handed_out_before_bidding_is_neither_bid_on_nor_in_the_list() {
    let rig = Rig::new(Limits::default());
    let role = role(&rig);
    let [stays, cancelled, frozen] = [admit(&rig, 0).await, admit(&rig, 1).await, admit(&rig, 2).await];
    let revision = role.candidates().0;
    let engine = begun(&rig, &role, 7, None).await;
    let first = engine.propose(&rig.intake).await.unwrap();
    let only_a = RollupSet::from([A]);
    assert_eq!(of(&first, &only_a).bundles, 3);
    rig.intake.finish(cancelled, BundleState::Cancelled, None, None).await;
    rig.intake.pool().write().set_frozen([frozen], true);
    let last = role.search(&engine, &Holes::default(), revision, (first, 0), PASSED).await.unwrap();
    assert_eq!(of(&last, &only_a).bundles, 1);
    assert_eq!(placed(&rig, &engine).await, [stays].into());
}

#[tokio::test]
async fn the_engine_is_kept_from_slot_to_slot_with_what_is_still_pending() {
    let rig = Rig::new(Limits::default());
    let role = role(&rig);
    let [stays, goes] = [admit(&rig, 0).await, admit(&rig, 1).await];
    let engine = begun(&rig, &role, 7, None).await;
    engine.propose(&rig.intake).await.unwrap();
    let PutAway { engine: kept, steps, candidates, .. } = engine.put_away().unwrap();
    assert!(steps.begun_with.is_empty(), "a new engine knows nothing");
    assert_eq!(steps.steps[0], Step::Insert(vec![stays, goes]), "one call, in the order of admission");
    assert_eq!(candidates.iter().map(|candidate| candidate.hash).collect::<Vec<_>>(), [stays, goes]);

    rig.intake.finish(goes, BundleState::Cancelled, None, None).await;
    let new = admit(&rig, 2).await;
    let engine = begun(&rig, &role, 8, kept).await;
    assert_eq!(placed(&rig, &engine).await, [stays, new].into());
    let PutAway { engine: kept, steps, candidates, .. } = engine.put_away().unwrap();
    assert_eq!((steps.begun_with, steps.steps[0].clone()), (vec![stays], Step::Insert(vec![new])));
    assert_eq!(candidates.iter().map(|candidate| candidate.hash).collect::<Vec<_>>(), [stays, new]);
    assert_eq!(kept.unwrap().view().slot, 8);
}

#[tokio::test]
async fn an_engine_that_is_asked_the_same_again_answers_the_same() {
    let rig = Rig::new(Limits::default());
    let role = role(&rig);
    for user in 0..3 {
        admit(&rig, user).await;
    }
    // The same account's next payment, which is worth something after the first only, and one on both rollups.
    rig.intake.admit(bundle_of(&[(A, pay(A, 0, 1))]), Kind::Bundle).await.unwrap();
    rig.intake.admit(bundle_of(&[(A, pay(A, 3, 0)), (B, pay(B, 3, 0))]), Kind::Bundle).await.unwrap();
    let kept = begun(&rig, &role, 7, None).await.put_away().unwrap().engine;
    admit(&rig, 4).await;
    let revision = role.candidates().0;
    let engine = begun(&rig, &role, 8, kept).await;
    let first = engine.propose(&rig.intake).await.unwrap();
    admit(&rig, 5).await;
    // However many rounds there is time for.
    let last = role.search(&engine, &Holes::default(), revision, (first, 0), now_ms() + 100).await.unwrap();
    let both = RollupSet::from([A, B]);
    let draft = engine.draft(&rig.intake, &both).await.unwrap();
    let PutAway { steps, candidates, drafts, .. } = engine.put_away().unwrap();
    assert_eq!(drafts.len(), 1, "one for each step that asks for one");

    let known: BTreeMap<B256, Candidate> = candidates.into_iter().map(|candidate| (candidate.hash, candidate)).collect();
    let named = |hashes: &[B256]| hashes.iter().map(|hash| known[hash].clone()).collect::<Vec<_>>();
    let mut again = Engine::open(view(&rig, 8).await, steps.limits).unwrap();
    again.insert(&named(&steps.begun_with)).unwrap();
    let mut values = BTreeMap::new();
    for step in steps.steps {
        match step {
            Step::Insert(hashes) => drop(again.insert(&named(&hashes)).unwrap()),
            Step::Remove(hash) => assert!(again.remove(hash)),
            Step::Propose(rollups) => {
                let value = again.propose(&rollups).unwrap().value;
                values.insert(rollups, value);
            }
            Step::Improve { rollups, round } => {
                again.improve(&rollups, round).unwrap();
            }
            Step::Draft(rollups) => {
                let draft_again = again.draft(&rollups).unwrap();
                let hashes = |placed: &[lockstep_building::Placed]| placed.iter().map(|placed| placed.hash).collect::<Vec<_>>();
                assert_eq!((draft_again.value, hashes(&draft_again.placed)), (draft.value, hashes(&draft.placed)));
            }
        }
    }
    for (rollups, standing) in last {
        assert_eq!(values.get(&rollups), Some(&standing.value), "{rollups:?}");
    }
}

#[tokio::test]
async fn a_bundle_that_is_taken_back_and_sent_again_waits_for_the_next_slot() {
    let rig = Rig::new(Limits::default());
    let role = role(&rig);
    let hash = admit(&rig, 0).await;
    let engine = begun(&rig, &role, 7, None).await;
    rig.intake.finish(hash, BundleState::Cancelled, None, None).await;
    assert_eq!(admit(&rig, 0).await, hash);
    let news = engine.news(role.candidates().1).unwrap();
    assert_eq!((news.gone, news.new.len()), (vec![hash], 0));
    let kept = engine.put_away().unwrap().engine;
    let engine = begun(&rig, &role, 8, kept).await;
    assert_eq!(placed(&rig, &engine).await, [hash].into());
}

#[tokio::test]
async fn what_was_found_to_be_wrong_is_not_kept() {
    let rig = Rig::new(Limits::default());
    let role = role(&rig);
    admit(&rig, 0).await;
    let engine = begun(&rig, &role, 7, None).await;
    engine.distrust();
    let put_away = engine.put_away().unwrap();
    assert!(put_away.engine.is_none());
    assert_eq!(put_away.candidates.len(), 1, "what it was asked is told all the same");
}

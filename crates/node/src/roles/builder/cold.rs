//! Slots on a rollup whose state is not all there, and whose node may be slow or fail.

use std::{
    collections::BTreeSet,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use alloy_primitives::{Address, B256, U256};
use async_trait::async_trait;
use lockstep_building::SlotView;
use lockstep_pool::Limits;
use lockstep_primitives::{BlockList, ChainId, Guarantee, RollupSet, SignedTx};
use lockstep_provider::{BlockLog, Landed, NodeError, NodeHealth, PublishedBlock, Reorg, RollupNode};
use lockstep_simulation::{Account, BlockPlan, Code, ParentBlock, SlotRollup, StateError, StateKey, StateView};
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};

use super::{
    holes::Holes,
    tests::{PASSED, admit, begun_on, of, placed, role, view},
};
use crate::{
    clock::now_ms,
    fake_node::{A, FakeNode, Rig, user},
    intake::Intake,
    record::steps::Step,
};

/// How long bidding goes on, in milliseconds.
const WINDOW_MS: u64 = 500;
/// The user whose account is not there.
const COLD: usize = 1;

/// What comes of a fetch.
#[derive(Clone, Copy, Debug)]
enum Fetch {
    /// What was missed.
    All,
    /// Something else.
    Nothing,
    /// A failure.
    Failure,
    /// No answer.
    Silence,
}

/// The first rollup's node. What is cold is missing from the states of slots until it is fetched; at admission it is known.
#[derive(Debug)]
struct ColdNode {
    fake: Arc<FakeNode>,
    fetch: Fetch,
    cold: Arc<Mutex<BTreeSet<Address>>>,
    /// How often it was asked for what was missed.
    fetches: AtomicUsize,
    /// How often it was asked where a transaction is.
    looks: AtomicUsize,
}

impl ColdNode {
    /// From now on nothing is missing. Returns how much was.
    fn warm(&self) -> usize {
        std::mem::take(&mut *self.cold.lock()).len()
    }
}

/// A state without what is cold.
#[derive(Debug)]
struct ColdState {
    below: Arc<dyn StateView>,
    cold: Arc<Mutex<BTreeSet<Address>>>,
}

impl StateView for ColdState {
    fn account(&self, address: Address) -> Result<Option<Account>, StateError> {
        if self.cold.lock().contains(&address) {
            return Err(StateError::Missing(StateKey::Account(address)));
        }
        self.below.account(address)
    }

    fn code(&self, hash: B256) -> Result<Code, StateError> {
        self.below.code(hash)
    }

    fn storage(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        self.below.storage(address, slot)
    }

    fn block_hash(&self, number: u64) -> Result<B256, StateError> {
        self.below.block_hash(number)
    }
}

#[async_trait]
impl RollupNode for ColdNode {
    fn chain(&self) -> ChainId {
        self.fake.chain()
    }

    async fn head(&self) -> Result<ParentBlock, NodeError> {
        self.fake.head().await
    }

    fn heads(&self) -> watch::Receiver<ParentBlock> {
        self.fake.heads()
    }

    fn reorgs(&self) -> broadcast::Receiver<Reorg> {
        self.fake.reorgs()
    }

    fn health(&self) -> NodeHealth {
        self.fake.health()
    }

    async fn prefetch(&self, txs: &[Arc<SignedTx>]) -> usize {
        self.fake.prefetch(txs).await
    }

    fn carries(&self) -> Guarantee {
        self.fake.carries()
    }

    async fn state_at(&self, block: B256) -> Result<Arc<dyn StateView>, NodeError> {
        self.fake.state_at(block).await
    }

    async fn fetch_missing(&self, _block: B256) -> Result<usize, NodeError> {
        self.fetches.fetch_add(1, Ordering::Relaxed);
        match self.fetch {
            Fetch::All => Ok(self.warm()),
            Fetch::Nothing => Ok(0),
            Fetch::Failure => Err(NodeError::Unreachable { chain: A, cause: "a test took it down".to_owned() }),
            Fetch::Silence => pending().await,
        }
    }

    async fn plan(&self, parent: &ParentBlock, at: &[u64], proposer: Address) -> Result<Vec<BlockPlan>, NodeError> {
        self.fake.plan(parent, at, proposer).await
    }

    async fn publish(&self, rollup: &Arc<SlotRollup>, list: &BlockList, index: usize) -> Result<PublishedBlock, NodeError> {
        self.fake.publish(rollup, list, index).await
    }

    async fn blocks_between(&self, from: u64, until: u64) -> Result<Vec<PublishedBlock>, NodeError> {
        self.fake.blocks_between(from, until).await
    }

    async fn landed(&self, tx: B256) -> Result<Option<Landed>, NodeError> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.fake.landed(tx).await
    }

    async fn logs(&self, block: B256) -> Result<Vec<BlockLog>, NodeError> {
        self.fake.logs(block).await
    }
}

/// An intake whose first rollup's node does that when it is asked for what was missed.
fn cold_rig(fetch: Fetch) -> (Rig, Arc<ColdNode>) {
    let mut rig = Rig::new(Limits::default());
    let node = Arc::new(ColdNode {
        fake: Arc::clone(&rig.a),
        fetch,
        cold: Arc::new(Mutex::new([user(COLD).address()].into())),
        fetches: AtomicUsize::new(0),
        looks: AtomicUsize::new(0),
    });
    let mut rollups = rig.intake.rollups().clone();
    rollups.get_mut(&A).unwrap().node = Arc::clone(&node) as Arc<dyn RollupNode>;
    rig.intake = Arc::new(Intake::new(rollups, Limits::default(), rig.store.clone()));
    (rig, node)
}

/// A slot without what is cold, and how often that is missed.
async fn cold_view(rig: &Rig, node: &ColdNode) -> (Arc<SlotView>, Holes) {
    let mut view = Arc::unwrap_or_clone(view(rig, 7).await);
    let slot = Arc::make_mut(&mut view.rollups.get_mut(&A).unwrap().slot);
    slot.state = Arc::new(ColdState { below: Arc::clone(&slot.state), cold: Arc::clone(&node.cold) });
    let holes = Holes::of(&mut view);
    (Arc::new(view), holes)
}

#[tokio::test]
async fn a_late_bundle_whose_state_cannot_be_fetched_is_left_out_and_the_slot_is_not_lost() {
    let (rig, node) = cold_rig(Fetch::Failure);
    let role = role(&rig);
    let early = admit(&rig, 0).await;
    let revision = role.candidates().0;
    let (view, holes) = cold_view(&rig, &node).await;
    let engine = begun_on(&rig, &role, &view, None, true).await;
    let first = engine.propose(&rig.intake).await.unwrap();
    admit(&rig, COLD).await;
    let last = role.search(&engine, &holes, revision, (first, 0), now_ms() + WINDOW_MS).await.unwrap();
    assert_eq!(of(&last, &RollupSet::from([A])).bundles, 1);
    assert_eq!(node.fetches.load(Ordering::Relaxed), 1, "it is not tried again in the slot");
    assert_eq!(placed(&rig, &engine).await, [early].into());
}

#[tokio::test]
async fn what_is_late_is_taken_in_as_soon_as_its_state_is_there() {
    let (rig, node) = cold_rig(Fetch::All);
    let role = role(&rig);
    let early = admit(&rig, 0).await;
    let revision = role.candidates().0;
    let (view, holes) = cold_view(&rig, &node).await;
    let engine = begun_on(&rig, &role, &view, None, true).await;
    let first = engine.propose(&rig.intake).await.unwrap();
    let late = admit(&rig, COLD).await;
    role.search(&engine, &holes, revision, (first, 0), now_ms() + WINDOW_MS).await.unwrap();
    assert_eq!(node.fetches.load(Ordering::Relaxed), 1, "the engine did not begin anew for it");
    assert_eq!(placed(&rig, &engine).await, [early, late].into());
}

#[tokio::test]
async fn a_node_that_fails_before_there_are_proposals_is_an_error() {
    let (rig, node) = cold_rig(Fetch::Failure);
    let role = role(&rig);
    let (view, holes) = cold_view(&rig, &node).await;
    let engine = begun_on(&rig, &role, &view, None, true).await;
    admit(&rig, COLD).await;
    let new = engine.news(role.candidates().1).unwrap().new;
    let taken = engine.take_in(&rig.intake, &holes, new, now_ms() + WINDOW_MS, true).await;
    assert!(taken.is_err_and(|error| error.contains("a test took it down")));
}

#[tokio::test]
async fn what_only_newcomers_missed_is_no_hole_in_what_the_engine_knows() {
    let (rig, node) = cold_rig(Fetch::Nothing);
    let role = role(&rig);
    let (view, holes) = cold_view(&rig, &node).await;
    let engine = begun_on(&rig, &role, &view, None, true).await;
    admit(&rig, COLD).await;
    let alone = engine.news(role.candidates().1).unwrap().new;
    let taken = engine.take_in(&rig.intake, &holes, alone.clone(), PASSED, false).await.unwrap();
    assert!(taken.simulated.is_empty());
    assert!(holes.take().is_empty());

    // Who is taken in with it may have missed something, too; that it goes on missing it then changes nothing.
    admit(&rig, 0).await;
    let other = engine.news(role.candidates().1).unwrap().new;
    let both = alone.into_iter().chain(other).collect();
    let taken = engine.take_in(&rig.intake, &holes, both, now_ms() + 60_000, false).await.unwrap();
    assert_eq!(taken.simulated.len(), 1);
    assert!(node.fetches.load(Ordering::Relaxed) > 1);
    assert_eq!(holes.take(), RollupSet::from([A]));
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_not_waited_for_as_long_as_there_is_time() {
    let (rig, node) = cold_rig(Fetch::Silence);
    let role = role(&rig);
    let early = admit(&rig, 0).await;
    let revision = role.candidates().0;
    let (view, holes) = cold_view(&rig, &node).await;
    let engine = begun_on(&rig, &role, &view, None, true).await;
    let first = engine.propose(&rig.intake).await.unwrap();
    admit(&rig, COLD).await;
    role.search(&engine, &holes, revision, (first, 0), now_ms() + WINDOW_MS).await.unwrap();
    assert_eq!(node.fetches.load(Ordering::Relaxed), 1);
    assert_eq!(placed(&rig, &engine).await, [early].into());
    let steps = engine.put_away().unwrap().steps.steps;
    assert!(steps.iter().any(|step| matches!(step, Step::Improve { .. })), "there was time to improve what is there");
}

#[tokio::test]
async fn without_any_time_nobody_is_asked_whether_bundles_landed() {
    let (rig, node) = cold_rig(Fetch::All);
    let role = role(&rig);
    admit(&rig, 0).await;
    let revision = role.candidates().0;
    // As if the bundle had landed already.
    node.warm();
    rig.a.set_nonce(COLD, 1);
    let (view, holes) = cold_view(&rig, &node).await;
    rig.a.set_nonce(COLD, 0);
    let engine = begun_on(&rig, &role, &view, None, true).await;
    let first = engine.propose(&rig.intake).await.unwrap();
    let late = admit(&rig, COLD).await;
    role.search(&engine, &holes, revision, (first, 0), PASSED).await.unwrap();
    let simulated = engine.simulated().await.unwrap();
    assert!(simulated.iter().any(|entry| entry.candidate.hash == late), "it was taken in");
    assert_eq!(node.looks.load(Ordering::Relaxed), 0);
    role.judge(&simulated, 7, now_ms() + 60_000).await;
    assert_eq!(node.looks.load(Ordering::Relaxed), 1, "with time for it somebody is");
}

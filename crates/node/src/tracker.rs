//! What became of every bundle: its state, its history, and who wants to hear of it.

use std::collections::{BTreeMap, VecDeque};

use alloy_primitives::{Address, B256, U64};
use lockstep_primitives::{Bundle, BundleState, Guarantee, Rejection};
use lockstep_rpc::wire::{BundleStatus, Event, LandedTx, LegStatus, Obstacle};
use parking_lot::Mutex;
use tokio::sync::broadcast;

/// Bundles whose fate is remembered. The oldest finished ones are forgotten first.
pub const MAX_TRACKED: usize = 100_000;
/// Steps that a slow subscriber may lag behind before it is told that it missed some.
const MAX_LAG: usize = 4_096;
/// Steps of one bundle's history; the oldest but the first are forgotten first.
const MAX_HISTORY: usize = 64;

/// A step of a bundle, as subscribers hear of it.
#[derive(Clone, Debug)]
pub struct Step {
    /// The Lockstep hash.
    pub hash: B256,
    /// Who sent it.
    pub signer: Option<Address>,
    /// The step.
    pub event: Event,
    /// Where the bundle stands now.
    pub state: BundleState,
}

#[derive(Clone, Debug)]
struct Tracked {
    signer: Option<Address>,
    state: BundleState,
    level: Guarantee,
    status: BundleStatus,
}

#[derive(Debug, Default)]
struct Inner {
    bundles: BTreeMap<B256, Tracked>,
    finished: VecDeque<B256>,
}

/// The fate of bundles.
#[derive(Debug)]
pub struct Tracker {
    inner: Mutex<Inner>,
    steps: broadcast::Sender<Step>,
}

impl Default for Tracker {
    fn default() -> Self {
        Self { inner: Mutex::default(), steps: broadcast::channel(MAX_LAG).0 }
    }
}

/// What blocks a bundle, as it is told.
pub fn obstacle(rejection: &Rejection) -> Obstacle {
    Obstacle {
        reason: rejection.reason.code().to_owned(),
        text: rejection.to_string(),
        rollup: rejection.place.chain.map(U64::from),
        leg: rejection.place.leg,
        index: rejection.place.index,
        hint: rejection.reason.hint().to_owned(),
    }
}

impl Tracker {
    /// Begins to track a bundle as received. A bundle that came back after an end begins anew. Returns what is forgotten for
    /// it.
    #[must_use]
    pub fn begin(&self, hash: B256, bundle: &Bundle, now_ms: u64) -> Vec<B256> {
        let mut inner = self.inner.lock();
        let status = BundleStatus {
            bundle_hash: hash,
            rollups: bundle.rollups().iter().map(|chain| U64::from(*chain)).collect(),
            state: String::new(),
            level: String::new(),
            history: Vec::new(),
            blocked: None,
            legs: bundle
                .legs
                .iter()
                .map(|leg| LegStatus { chain_id: U64::from(leg.chain()), transactions: Vec::new() })
                .collect(),
        };
        let tracked = Tracked { signer: bundle.signer, state: BundleState::Received, level: Guarantee::G0, status };
        // Only what was tracked before can be among the finished ones, and looking through all of those takes long.
        if inner.bundles.insert(hash, tracked).is_some() {
            inner.finished.retain(|finished| *finished != hash);
        }
        let mut forgotten = Vec::new();
        while inner.bundles.len() > MAX_TRACKED {
            let Some(oldest) = inner.finished.pop_front() else { break };
            inner.bundles.remove(&oldest);
            forgotten.push(oldest);
        }
        let event = Event { at_ms: now_ms, state: BundleState::Received.to_string(), slot: None, reason: None, text: None };
        if let Some(tracked) = inner.bundles.get_mut(&hash) {
            tracked.status.history.push(event.clone());
        }
        drop(inner);
        self.tell(Step { hash, signer: bundle.signer, event, state: BundleState::Received });
        forgotten
    }

    /// Moves a bundle on. A step that its state machine has no arrow for is refused and logged: it would be a fault of ours.
    pub fn step(&self, hash: B256, state: BundleState, slot: Option<u64>, why: Option<&Rejection>, now_ms: u64) {
        let event = Event {
            at_ms: now_ms,
            state: state.to_string(),
            slot,
            reason: why.map(|why| why.reason.code().to_owned()),
            text: why.map(ToString::to_string),
        };
        self.advance(hash, state, event);
    }

    /// Moves a reorged bundle back to landed; `text` says where it is now.
    pub fn landed_again(&self, hash: B256, text: String, now_ms: u64) {
        let state = BundleState::Landed;
        self.advance(hash, state, Event { at_ms: now_ms, state: state.to_string(), slot: None, reason: None, text: Some(text) });
    }

    fn advance(&self, hash: B256, state: BundleState, event: Event) {
        let mut inner = self.inner.lock();
        let Some(tracked) = inner.bundles.get_mut(&hash) else { return };
        if tracked.state == state {
            return;
        }
        if !tracked.state.may_become(state) {
            tracing::error!(%hash, from = %tracked.state, to = %state, "a bundle may not go from this state to that");
            return;
        }
        let ended = tracked.state.is_final() || tracked.state == BundleState::Reorged;
        tracked.state = state;
        if tracked.status.history.len() >= MAX_HISTORY {
            tracked.status.history.remove(1);
        }
        tracked.status.history.push(event.clone());
        match state {
            BundleState::Pending | BundleState::Simulated | BundleState::Reorged => tracked.level = Guarantee::G0,
            BundleState::Landed => tracked.status.blocked = None,
            _ => {}
        }
        let signer = tracked.signer;
        // A reorg can take a bundle back from its end: then it is none of those that may be forgotten.
        if ended {
            inner.finished.retain(|finished| *finished != hash);
        }
        if state.is_final() {
            inner.finished.push_back(hash);
            let reason = event.reason.clone().unwrap_or_default();
            metrics::counter!("lockstep_bundles_total", "state" => state.as_str(), "reason" => reason).increment(1);
        }
        drop(inner);
        self.tell(Step { hash, signer, event, state });
    }

    /// Nothing more will happen to a bundle that is in no final state: a reorged one that stays so. It may be forgotten.
    pub fn end(&self, hash: B256) {
        let mut inner = self.inner.lock();
        let Some(tracked) = inner.bundles.get(&hash) else { return };
        if tracked.state.is_final() || inner.finished.contains(&hash) {
            return;
        }
        let state = tracked.state;
        inner.finished.push_back(hash);
        drop(inner);
        metrics::counter!("lockstep_bundles_total", "state" => state.as_str(), "reason" => state.as_str()).increment(1);
    }

    fn tell(&self, step: Step) {
        // Nobody listening is no fault.
        let _ = self.steps.send(step);
    }

    /// Remembers what keeps a bundle from landing; `None` when nothing does.
    pub fn set_obstacle(&self, hash: B256, why: Option<&Rejection>) {
        if let Some(tracked) = self.inner.lock().bundles.get_mut(&hash) {
            tracked.status.blocked = why.map(obstacle);
        }
    }

    /// Remembers how far the promise about a bundle reaches.
    pub fn set_level(&self, hash: B256, level: Guarantee) {
        if let Some(tracked) = self.inner.lock().bundles.get_mut(&hash) {
            tracked.level = level;
        }
    }

    /// Remembers where a leg's transactions are.
    pub fn set_leg(&self, hash: B256, leg: usize, transactions: Vec<LandedTx>) {
        if let Some(leg) = self.inner.lock().bundles.get_mut(&hash).and_then(|tracked| tracked.status.legs.get_mut(leg)) {
            leg.transactions = transactions;
        }
    }

    /// Remembers where the transactions of all legs are.
    pub fn set_legs(&self, hash: B256, legs: &[LegStatus]) {
        if let Some(tracked) = self.inner.lock().bundles.get_mut(&hash) {
            tracked.status.legs = legs.to_vec();
        }
    }

    /// Where a bundle stands, if the asker may know: its sender, or anyone who knows the hash of an unsigned one.
    pub fn status(&self, hash: B256, asker: Option<Address>) -> Option<BundleStatus> {
        let inner = self.inner.lock();
        let tracked = inner.bundles.get(&hash)?;
        (tracked.signer.is_none() || tracked.signer == asker).then(|| complete(tracked))
    }

    /// Who sent a bundle.
    pub fn signer(&self, hash: B256) -> Option<Address> {
        self.inner.lock().bundles.get(&hash).and_then(|tracked| tracked.signer)
    }

    /// Where a bundle stands, for the node itself.
    pub fn own(&self, hash: B256) -> Option<(BundleState, Guarantee, BundleStatus)> {
        let inner = self.inner.lock();
        inner.bundles.get(&hash).map(|tracked| (tracked.state, tracked.level, complete(tracked)))
    }

    /// Puts back what is known of a bundle that had ended, or landed, before a restart.
    pub fn restore(&self, signer: Option<Address>, status: BundleStatus) {
        let state = BundleState::ALL.into_iter().find(|state| state.as_str() == status.state);
        let Some(state) = state else { return };
        let level = Guarantee::ALL.into_iter().find(|level| level.as_str() == status.level).unwrap_or(Guarantee::G0);
        let mut inner = self.inner.lock();
        let hash = status.bundle_hash;
        inner.bundles.insert(hash, Tracked { signer, state, level, status });
        // A reorged bundle is on disk as an end only when it stays so; one that comes back is taken out again.
        inner.finished.push_back(hash);
    }

    /// The bundles with a step in a slot, in the order in which they came in.
    pub fn of_slot(&self, slot: u64) -> Vec<B256> {
        let inner = self.inner.lock();
        let mut found: Vec<(u64, B256)> = inner
            .bundles
            .iter()
            .filter(|(_, tracked)| tracked.status.history.iter().any(|event| event.slot == Some(slot)))
            .map(|(hash, tracked)| (tracked.status.history.first().map_or(0, |event| event.at_ms), *hash))
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(_, hash)| hash).collect()
    }

    /// Every step from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Step> {
        self.steps.subscribe()
    }
}

fn complete(tracked: &Tracked) -> BundleStatus {
    BundleStatus { state: tracked.state.to_string(), level: tracked.level.to_string(), ..tracked.status.clone() }
}

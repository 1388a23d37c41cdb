//! The builder: simulates and builds before every slot, bids, delivers what it won, and watches it land.

mod confirm;
mod deliver;
mod record;
mod report;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy_primitives::{Address, B256, I256, U64, U256};
use jsonrpsee::http_client::HttpClient;
use lockstep_building::{Candidate, Draft, Simulated, SlotView, build, proposals};
use lockstep_primitives::{
    Allocation, Bid, Bundle, BundleState, ChainId, Price, Reason, RollupSet, SlotNumber, Validity, recover,
};
use lockstep_provider::EvidenceSource;
use lockstep_rpc::{
    api::MarketApiClient,
    wire::{BidWire, LegStatus, MarketSlot, SlotReport},
};
use lockstep_simulation::TracedView;
use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::Timings;
use crate::{
    clock::{now_ms, sleep_until},
    intake::Intake,
    keys::Key,
    messages::Messages,
    reorg::located,
    strategies::Strategies,
};

use confirm::Watched;
use record::Outcome;
use view::{DeliveryTerms, SIMULATE_PERCENT, simulate_in_time};

pub(crate) use record::Recorder;
pub(crate) use view::blocking_with_state;

/// Reports that a slow subscriber may lag behind.
const MAX_REPORTS: usize = 256;
/// How often the allocation is asked for once bidding has ended.
const POLL_MS: u64 = 15;
/// How much of the time from the end of simulating until bidding closes strategies have to answer, in percent; the rest is for
/// simulating what they answer, for building and bidding.
const STRATEGY_PERCENT: u64 = 40;
/// How many bundles are looked for on their chains at a time.
const LOOKS_AT_ONCE: usize = 64;

/// What a builder is configured with.
#[derive(Clone, Debug)]
pub(crate) struct BuilderSettings {
    /// It is paid at, and signs relays, bids and prepares with.
    pub(crate) key: Key,
    /// The slots.
    pub(crate) timings: Timings,
    /// The message protocols and how to build.
    pub(crate) policy: lockstep_building::Policy,
    /// The price of each rollup's native asset.
    pub(crate) prices: BTreeMap<ChainId, Price>,
    /// Which part of a proposal's value is bid, in basis points.
    pub(crate) bid_bps: u64,
    /// Where slots are recorded, if they are.
    pub(crate) recorder: Option<Arc<Recorder>>,
    /// What makes bundles of its own.
    pub(crate) strategies: Strategies,
}

/// The builder of a process.
#[derive(Debug)]
pub(crate) struct BuilderRole {
    settings: BuilderSettings,
    intake: Arc<Intake>,
    market: HttpClient,
    market_address: Address,
    evidence: Arc<dyn EvidenceSource>,
    messages: Arc<Messages>,
    reports: broadcast::Sender<SlotReport>,
    last_reports: Mutex<BTreeMap<SlotNumber, SlotReport>>,
    /// The fee shares of the last slot's sale.
    fee_shares: Mutex<BTreeMap<ChainId, u64>>,
    /// The rollups that allowed claims of exits of the same slot in the last slot's sale.
    same_slot_claims: Mutex<RollupSet>,
}

/// What was built for a slot.
struct Built {
    market: MarketSlot,
    view: Arc<SlotView>,
    simulated: Arc<Vec<Simulated>>,
    drafts: Arc<Vec<Draft>>,
    deliveries: BTreeMap<ChainId, DeliveryTerms>,
    /// What was read of each rollup's state, when the slot is recorded.
    traces: BTreeMap<ChainId, Arc<TracedView>>,
}

impl BuilderRole {
    pub(crate) fn new(
        settings: BuilderSettings,
        intake: Arc<Intake>,
        market: HttpClient,
        market_address: Address,
        evidence: Arc<dyn EvidenceSource>,
        messages: Arc<Messages>,
    ) -> Self {
        let reports = broadcast::channel(MAX_REPORTS).0;
        Self {
            settings,
            intake,
            market,
            market_address,
            evidence,
            messages,
            reports,
            last_reports: Mutex::default(),
            fee_shares: Mutex::default(),
            same_slot_claims: Mutex::default(),
        }
    }

    /// The builder's address.
    pub(crate) fn address(&self) -> Address {
        self.settings.key.address()
    }

    /// Its slots.
    pub(crate) const fn timings(&self) -> Timings {
        self.settings.timings
    }

    /// Where bundles come in.
    pub(crate) const fn intake(&self) -> &Arc<Intake> {
        &self.intake
    }

    /// The rollups that allow claims of exits of the same slot by the newest terms of sale.
    pub(crate) fn same_slot_claims(&self) -> RollupSet {
        self.same_slot_claims.lock().clone()
    }

    /// The messages that are on their chains.
    pub(crate) const fn messages(&self) -> &Arc<Messages> {
        &self.messages
    }

    /// What a rollup's native asset is worth, and which part of its fees a proposer receives by the newest terms of sale.
    pub(crate) fn terms(&self, chain: ChainId) -> (Price, u64) {
        let price = self.settings.prices.get(&chain).copied().unwrap_or(Price::PAR);
        (price, self.fee_shares.lock().get(&chain).copied().unwrap_or_default())
    }

    /// A report a slot, from now on.
    pub(crate) fn reports(&self) -> broadcast::Receiver<SlotReport> {
        self.reports.subscribe()
    }

    /// The report of a slot that is over and not long ago.
    pub(crate) fn report(&self, slot: SlotNumber) -> Option<SlotReport> {
        self.last_reports.lock().get(&slot).cloned()
    }

    fn tell(&self, report: SlotReport) {
        let mut last = self.last_reports.lock();
        last.insert(report.slot, report.clone());
        while last.len() > MAX_REPORTS {
            last.pop_first();
        }
        drop(last);
        // Nobody listening is no fault.
        let _ = self.reports.send(report);
    }

    /// Works on every slot, for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        let clock = self.settings.timings.clock;
        let mut slot = clock.slot_at(now_ms()).map_or(0, |slot| slot + 1);
        if clock.close_ms(slot) <= now_ms() {
            slot += 1;
        }
        loop {
            sleep_until(self.settings.timings.build_ms(slot)).await;
            self.slot(slot).await;
            slot = (slot + 1).max(clock.slot_at(now_ms()).map_or(0, |now| now + 1));
        }
    }

    async fn slot(self: &Arc<Self>, slot: SlotNumber) {
        self.intake.expire(slot).await;
        metrics::gauge!("lockstep_pool_bundles").set(self.intake.pool().read().len() as f64);
        let built = match self.build(slot).await {
            Ok(built) => built,
            Err(error) => {
                metrics::counter!("lockstep_slots_missed_total").increment(1);
                tracing::warn!(slot, %error, "nothing was built for the slot");
                self.watch_foreign(slot);
                return;
            }
        };
        let bids = self.bid(&built).await;
        let won = self.won(slot).await;
        let Some((allocation, rollups)) = won else {
            self.record_slot(&built, Outcome { bids, allocation: None, decision: None });
            self.watch_foreign(slot);
            return;
        };
        if rollups.is_empty() {
            self.record_slot(&built, Outcome { bids, allocation: Some(&allocation), decision: None });
            self.finish_slot(built.market, allocation, None);
            return;
        }
        let delivered = self.deliver(&built, &allocation, &rollups).await;
        let decision = delivered.as_ref().ok().map(|delivered| &delivered.decision);
        self.record_slot(&built, Outcome { bids, allocation: Some(&allocation), decision });
        match delivered {
            Ok(delivered) => {
                let parents = built.view.rollups.iter().map(|(chain, rollup)| (*chain, rollup.slot.parent.hash)).collect();
                self.finish_slot(built.market, allocation, Some(Watched { delivered, parents }));
            }
            Err(error) => {
                tracing::warn!(slot, %error, "nothing was delivered");
                self.thaw(built.simulated.iter().map(|entry| entry.candidate.hash), slot, "nothing was delivered");
                self.finish_slot(built.market, allocation, None);
            }
        }
    }

    async fn build(&self, slot: SlotNumber) -> Result<Built, String> {
        let market = self.market.get_market_slot(Some(slot)).await.map_err(|error| format!("market: {error}"))?;
        *self.fee_shares.lock() = market.on_sale.iter().map(|sale| (sale.chain_id.to(), sale.fee_share_bps)).collect();
        let (mut view, deliveries) = self.slot_view(slot, &market).await?;
        let traces = if self.settings.recorder.is_some() { record::trace(&mut view) } else { BTreeMap::new() };
        let candidates = self.candidates();
        view.facts = self.facts(&view, &market, &candidates).await;
        let mut view = Arc::new(view);
        let (simulated, drafts) = loop {
            match self.build_on(&view, &candidates, market.close_ms).await {
                Ok(built) => break built,
                // A reorg, or a node that fails: the other rollups are built for all the same.
                Err(error) => {
                    let mut rest = self.without_failed(&view, error).await?;
                    // What a chain that went another way had sent is not there any more.
                    rest.facts = self.facts(&rest, &market, &candidates).await;
                    view = Arc::new(rest);
                }
            }
        };
        Ok(Built { market, view, simulated, drafts: Arc::new(drafts), deliveries, traces })
    }

    async fn build_on(
        &self,
        view: &Arc<SlotView>,
        candidates: &[Candidate],
        close_ms: u64,
    ) -> Result<(Arc<Vec<Simulated>>, Vec<Draft>), String> {
        let started = std::time::Instant::now();
        let until_ms = part_of_rest(close_ms, SIMULATE_PERCENT);
        let simulated = Arc::new(simulate_in_time(&self.intake, view, candidates, until_ms).await?);
        metrics::histogram!("lockstep_simulation_seconds").record(started.elapsed().as_secs_f64());
        self.judge(&simulated, view.slot).await;
        let simulated = self.with_strategies(view, simulated, close_ms).await;
        let drafts = {
            let simulated = Arc::clone(&simulated);
            blocking_with_state(&self.intake, Arc::clone(view), move |view| proposals(view, &simulated)).await?
        };
        metrics::histogram!("lockstep_build_seconds").record(started.elapsed().as_secs_f64());
        Ok((simulated, drafts))
    }

    /// What was simulated, and after it what the strategies make of that. It is never less for their failures.
    async fn with_strategies(&self, view: &Arc<SlotView>, simulated: Arc<Vec<Simulated>>, close_ms: u64) -> Arc<Vec<Simulated>> {
        if self.settings.strategies.is_empty() {
            return simulated;
        }
        let started = std::time::Instant::now();
        let until_ms = part_of_rest(close_ms, STRATEGY_PERCENT);
        let own = self.settings.strategies.candidates(&self.intake, view, &simulated, until_ms).await;
        metrics::histogram!("lockstep_strategies_seconds").record(started.elapsed().as_secs_f64());
        if own.is_empty() {
            return simulated;
        }
        match simulate_in_time(&self.intake, view, &own, part_of_rest(close_ms, STRATEGY_PERCENT)).await {
            Ok(own) => {
                self.judge(&own, view.slot).await;
                let mut all = Arc::unwrap_or_clone(simulated);
                all.extend(own);
                Arc::new(all)
            }
            Err(error) => {
                tracing::warn!(slot = view.slot, %error, "bundles of strategies cannot be simulated: they are left out");
                simulated
            }
        }
    }

    /// Notes what each simulation says, and ends bundles that can never be valid.
    async fn judge(&self, simulated: &[Simulated], slot: SlotNumber) {
        let landed = self.landed_elsewhere(simulated).await;
        let mut ended = Vec::new();
        for entry in simulated {
            let hash = entry.candidate.hash;
            let tracker = self.intake.tracker();
            if let Some(why) = &entry.attempt.blocked {
                self.messages.heed(why);
            }
            match &entry.attempt.blocked {
                Some(_) if landed.contains(&hash) => ended.push((hash, BundleState::Landed, None)),
                // What kept it from landing before is more worth knowing than that its time is over.
                Some(why) if matches!(why.reason, Reason::PastBlock { .. } | Reason::PastTimestamp { .. }) => {
                    ended.push((hash, BundleState::Expired, Some(why.clone())));
                }
                Some(why) if why.reason.validity() == Validity::Never => {
                    tracker.set_obstacle(hash, Some(why));
                    ended.push((hash, BundleState::Dropped, Some(why.clone())));
                }
                blocked => {
                    if tracker.own(hash).is_some_and(|(state, ..)| state == BundleState::Received) {
                        tracker.step(hash, BundleState::Simulated, Some(slot), blocked.as_ref(), now_ms());
                    }
                    tracker.step(hash, BundleState::Pending, Some(slot), blocked.as_ref(), now_ms());
                    tracker.set_obstacle(hash, blocked.as_ref());
                }
            }
        }
        self.intake.finish_all(ended, slot).await;
    }

    /// Which of the blocked bundles are on their chains already, by somebody else's list.
    async fn landed_elsewhere(&self, simulated: &[Simulated]) -> BTreeSet<B256> {
        let blocked = simulated.iter().filter(|entry| {
            let blocked = entry.attempt.blocked.as_ref();
            // Of what only the public flow brought nobody asks whether it landed, and there is too much of it to look.
            blocked.is_some_and(|why| may_have_landed(&why.reason)) && !self.intake.is_by_flow(entry.candidate.hash)
        });
        let blocked: Vec<&Simulated> = blocked.collect();
        let mut landed = BTreeSet::new();
        for some in blocked.chunks(LOOKS_AT_ONCE) {
            let mut looks = Vec::with_capacity(some.len());
            for entry in some {
                looks.push(self.has_landed(entry.candidate.hash, &entry.candidate.bundle));
            }
            let found = futures_util::future::join_all(looks).await;
            landed.extend(some.iter().zip(found).filter(|(_, found)| *found).map(|(entry, _)| entry.candidate.hash));
        }
        landed
    }

    /// Whether every transaction of a bundle without relays is on its chain. Notes where they are when they are.
    async fn has_landed(&self, hash: B256, bundle: &Bundle) -> bool {
        if bundle.legs.iter().any(|leg| leg.txs().is_empty()) {
            return false;
        }
        let mut legs = Vec::with_capacity(bundle.legs.len());
        for leg in &bundle.legs {
            let Some(served) = self.intake.rollups().get(&leg.chain()) else { return false };
            let mut transactions = Vec::with_capacity(leg.txs().len());
            for tx in leg.txs() {
                let Ok(Some(landed)) = served.node.landed(tx.tx.hash()).await else { return false };
                transactions.push(located(tx.tx.hash(), Some(landed)));
            }
            legs.push(LegStatus { chain_id: U64::from(leg.chain()), transactions });
        }
        self.intake.tracker().set_legs(hash, &legs);
        true
    }

    /// Bids for every set of rollups that is worth its reserve, each at most what its own proposal is worth. Returns the bids
    /// that the market took.
    async fn bid(&self, built: &Built) -> Vec<BidWire> {
        let mut taken = Vec::new();
        for draft in built.drafts.iter() {
            let Some(amount) = self.amount(built, draft) else { continue };
            let bid = Bid { slot: draft.slot, rollups: draft.rollups.clone(), amount, exclusive: None, nonce: now_ms() };
            let wire = BidWire::new(&bid, self.settings.key.sign_bytes(bid.digest()));
            match self.market.submit_bid(wire.clone()).await {
                Ok(_) => {
                    metrics::counter!("lockstep_bids_total", "result" => "taken").increment(1);
                    taken.push(wire);
                }
                Err(error) => {
                    metrics::counter!("lockstep_bids_total", "result" => "refused").increment(1);
                    tracing::warn!(slot = draft.slot, rollups = ?draft.rollups, %error, "a bid was refused");
                }
            }
        }
        taken
    }

    fn amount(&self, built: &Built, draft: &Draft) -> Option<U256> {
        if draft.placed.is_empty() || draft.value < I256::ZERO {
            return None;
        }
        let value = draft.value.into_raw();
        let reserve = built
            .market
            .on_sale
            .iter()
            .filter(|sale| draft.rollups.contains(&sale.chain_id.to()))
            .try_fold(U256::ZERO, |sum, sale| sum.checked_add(sale.reserve.0))?;
        let wanted = value.checked_mul(U256::from(self.settings.bid_bps))? / U256::from(10_000);
        (value >= reserve).then(|| wanted.max(reserve))
    }

    /// What the market says once bidding has ended; `None` when it does not say it in time.
    async fn won(&self, slot: SlotNumber) -> Option<(Allocation, RollupSet)> {
        sleep_until(self.settings.timings.clock.close_ms(slot)).await;
        while now_ms() < self.settings.timings.decide_ms(slot) {
            match self.market.get_allocation(slot).await {
                Ok(Some(wire)) => {
                    let allocation = wire.allocation();
                    if recover(allocation.digest(), &wire.signature).ok() != Some(self.market_address) {
                        tracing::error!(slot, "the allocation is not signed by the market");
                        return None;
                    }
                    let rollups = allocation.rollups_of(self.address());
                    return Some((allocation, rollups));
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(slot, %error, "no allocation"),
            }
            sleep_until(now_ms() + POLL_MS).await;
        }
        None
    }

    /// The draft for what was won: one that is there already, or one built for the union of several packages.
    ///
    /// It is of these bundles: everything that was simulated, or what of it is still there.
    async fn draft_for(&self, built: &Built, simulated: &Arc<Vec<Simulated>>, rollups: &RollupSet) -> Result<Draft, String> {
        let everything = Arc::ptr_eq(simulated, &built.simulated);
        if let Some(draft) = built.drafts.iter().find(|draft| everything && draft.rollups == *rollups) {
            return Ok(draft.clone());
        }
        let (simulated, rollups) = (Arc::clone(simulated), rollups.clone());
        blocking_with_state(&self.intake, Arc::clone(&built.view), move |view| build(view, &simulated, &rollups)).await
    }
}

/// When that part of the time until `close_ms` will have passed, in Unix milliseconds.
fn part_of_rest(close_ms: u64, percent: u64) -> u64 {
    let now = now_ms();
    now + close_ms.saturating_sub(now) * percent / 100
}

/// Whether a bundle that this blocks may be on its chains. Where a transaction got further than its nonce, or the bundle has no
/// block yet, it is not: what landed has used its nonces up.
const fn may_have_landed(reason: &Reason) -> bool {
    !matches!(
        reason,
        Reason::NonceTooHigh { .. }
            | Reason::InsufficientFunds { .. }
            | Reason::Reverted { .. }
            | Reason::Halted(_)
            | Reason::RequirementNotMet { .. }
            | Reason::NotYet(_)
            | Reason::NoBlockInSlot
    )
}

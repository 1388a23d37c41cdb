//! The builder: simulates and builds before every slot, bids, delivers what it won, and watches it land.

mod ahead;
#[cfg(test)]
mod cold;
mod confirm;
mod deliver;
mod engine;
mod holes;
mod outsource;
mod proposals;
mod record;
mod report;
mod sealed;
mod search;
#[cfg(test)]
mod tests;
mod tickets;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use alloy_primitives::{Address, B256, I256, U64, U256};
use jsonrpsee::http_client::HttpClient;
use lockstep_building::{Candidate, Engine, SearchLimits, Simulated, SlotView, Standing};
use lockstep_delivery::Decision;
use lockstep_market::{BidResult, BiddingStrategy, Forecast, Valued};
use lockstep_primitives::{
    Allocation, Bid, Bundle, BundleReceipt, BundleState, ChainId, Price, Reason, RollupSet, SlotNumber, Validity, recover,
};
use lockstep_provider::EvidenceSource;
use lockstep_rpc::{
    api::MarketApiClient,
    wire::{BidWire, BundleReceiptWire, LegStatus, MarketSlot, Sale, SlotReport, SlotTiming},
};
use lockstep_simulation::TracedView;
use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::Timings;
use crate::{
    clock::{now_ms, now_us, sleep_until},
    intake::Intake,
    keys::Key,
    messages::Messages,
    process::{BiddingPlan, ForecastPlan, ProposalPlan},
    record::steps::Steps,
    reorg::located,
    strategies::Strategies,
};

use ahead::{beside_held, observed};
use confirm::Watched;
use engine::{PutAway, SlotEngine};
use record::Outcome;
use view::DeliveryTerms;

pub(crate) use record::Recorder;
pub(crate) use view::blocking_with_state;

/// Reports that a slow subscriber may lag behind.
const MAX_REPORTS: usize = 256;
/// What a market that sells tickets says of its mechanism.
const TICKETS: &str = "tickets";
/// How often the allocation is asked for once bidding has ended.
const POLL_MS: u64 = 15;
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
    /// How it bids.
    pub(crate) bidding: BiddingPlan,
    /// How it tells what slots to come are worth.
    pub(crate) forecast: ForecastPlan,
    /// How many tickets of each class it means to hold, if it buys any.
    pub(crate) tickets: Option<u64>,
    /// Whether it bids for epochs.
    pub(crate) bids_ahead: bool,
    /// Whether it asks others for proposals, and offers its own.
    pub(crate) proposals: ProposalPlan,
    /// How much is searched for better proposals.
    pub(crate) search: SearchLimits,
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
    /// The engine, between two slots.
    kept: Mutex<Option<Box<Engine>>>,
    bidding: Mutex<Box<dyn BiddingStrategy>>,
    forecast: Mutex<Forecast>,
    /// The last epoch that it bid for.
    bid_epoch: Mutex<Option<u64>>,
}

/// What was built for a slot.
struct Built {
    market: MarketSlot,
    view: Arc<SlotView>,
    engine: SlotEngine,
    /// What every bundle does alone that the engine holds when bids are made.
    simulated: Arc<Vec<Simulated>>,
    /// What every useful set of rollups is worth then.
    standings: Vec<(RollupSet, Standing)>,
    deliveries: BTreeMap<ChainId, DeliveryTerms>,
    /// What was read of each rollup's state, when the slot is recorded.
    traces: BTreeMap<ChainId, Arc<TracedView>>,
    /// What the engine was asked; known once it is put away.
    steps: Steps,
    /// Every candidate that it was given, in the order in which they came first; known then, too.
    candidates: Vec<Candidate>,
    /// When work on the slot began, in Unix microseconds.
    began_us: u64,
}

/// What became of a slot's bids.
#[derive(Debug, Default)]
struct Bids {
    /// Those that the market took.
    taken: Vec<BidWire>,
    sent: u64,
    refused: u64,
    /// When the first and the last one were sent, in Unix microseconds.
    times: Option<(u64, u64)>,
}

impl Bids {
    /// When what of a slot's bidding happened.
    fn timing(&self, built: &Built, last_bundle_us: Option<u64>) -> SlotTiming {
        SlotTiming {
            last_bundle_at_us: last_bundle_us,
            build_began_at_us: built.began_us,
            first_bid_at_us: self.times.map(|(first, _)| first),
            last_bid_at_us: self.times.map(|(_, last)| last),
            bids_sent: self.sent,
            bids_refused: self.refused,
        }
    }
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
        let bidding = Mutex::new(settings.bidding.strategy());
        let forecast = Mutex::new(settings.forecast.forecast());
        Self {
            bidding,
            forecast,
            bid_epoch: Mutex::default(),
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
            kept: Mutex::default(),
        }
    }

    /// The builder's address.
    pub(crate) fn address(&self) -> Address {
        self.settings.key.address()
    }

    /// Puts its name to how a bundle ended.
    pub(crate) fn sign_receipt(&self, receipt: &BundleReceipt) -> BundleReceiptWire {
        BundleReceiptWire::new(receipt, self.settings.key.sign_bytes(receipt.digest()))
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
        let mut built = match self.build(slot).await {
            Ok(built) => built,
            Err(error) => {
                metrics::counter!("lockstep_slots_missed_total").increment(1);
                tracing::warn!(slot, %error, "nothing was built for the slot");
                self.watch_foreign(slot, None);
                return;
            }
        };
        let mut bids = self.bid(&built).await;
        self.ask_for_proposals(&built).await;
        let timing = Some(bids.timing(&built, self.last_bundle_us(&built)));
        if let Some(SlotTiming { last_bundle_at_us: Some(bundle), last_bid_at_us: Some(bid), .. }) = timing {
            metrics::histogram!("lockstep_last_bundle_to_bid_seconds").record(bid.saturating_sub(bundle) as f64 / 1e6);
        }
        tokio::spawn(Arc::clone(self).bid_ahead(slot));
        self.draft_for_record(&built).await;
        let taken = std::mem::take(&mut bids.taken);
        let won = self.won(slot).await;
        self.learn(slot, &taken, won.as_ref().map(|(allocation, _)| allocation));
        let Some((allocation, rollups)) = won else {
            self.put_away(&mut built, taken, None, None);
            self.watch_foreign(slot, timing);
            return;
        };
        if rollups.is_empty() {
            self.offer_proposal(&built, &allocation, &rollups).await;
            self.put_away(&mut built, taken, Some(&allocation), None);
            self.finish_slot(built.market, allocation, None, timing);
            return;
        }
        let deliver = async {
            let bought = self.bought(&built, &rollups).await;
            self.deliver(&built, &allocation, &rollups, bought).await
        };
        let (delivered, ()) = futures_util::future::join(deliver, self.offer_proposal(&built, &allocation, &rollups)).await;
        let decision = delivered.as_ref().ok().map(|delivered| &delivered.decision);
        self.put_away(&mut built, taken, Some(&allocation), decision);
        match delivered {
            Ok(delivered) => {
                let parents = built.view.rollups.iter().map(|(chain, rollup)| (*chain, rollup.slot.parent.hash)).collect();
                self.finish_slot(built.market, allocation, Some(Watched { delivered, parents }), timing);
            }
            Err(error) => {
                tracing::warn!(slot, %error, "nothing was delivered");
                self.thaw(built.simulated.iter().map(|entry| entry.candidate.hash), slot, "nothing was delivered");
                self.finish_slot(built.market, allocation, None, timing);
            }
        }
    }

    /// When the bundle was admitted that came last of those that the engine holds, in Unix microseconds. What only the public
    /// flow brought does not count: nobody sent it here.
    fn last_bundle_us(&self, built: &Built) -> Option<u64> {
        let newest = built.engine.newest_first().ok()?;
        newest.into_iter().find_map(|hash| {
            let (.., status) = self.intake.tracker().own(hash)?;
            status.history.first().map(|event| event.at_ms.saturating_mul(1_000))
        })
    }

    /// Has drafted, for the record, what was bid on. Nothing else needs a draft of what was not won, so it takes no time of what
    /// comes after bidding.
    async fn draft_for_record(&self, built: &Built) {
        if self.settings.recorder.is_none() {
            return;
        }
        let slot = built.view.slot;
        let until_ms = self.settings.timings.clock.close_ms(slot);
        for (rollups, error) in record::draft_until(&built.engine, &self.intake, &built.standings, until_ms).await {
            tracing::warn!(slot, ?rollups, %error, "no draft for the record");
        }
    }

    /// Keeps the engine for the next slot, and writes the slot down where slots are recorded.
    fn put_away(
        self: &Arc<Self>,
        built: &mut Built,
        bids: Vec<BidWire>,
        allocation: Option<&Allocation>,
        decision: Option<&Decision>,
    ) {
        let Some(PutAway { engine, steps, drafts, candidates }) = built.engine.put_away() else {
            tracing::error!(slot = built.view.slot, "the slot's engine is lost: the next slot begins with a new one");
            return;
        };
        *self.kept.lock() = engine;
        (built.steps, built.candidates) = (steps, candidates);
        let values = built.standings.iter().map(|(rollups, standing)| (rollups.clone(), standing.value)).collect();
        self.record_slot(built, Outcome { values, drafts, bids, allocation, decision });
    }

    /// Notes what each simulation says, and ends bundles that can never be valid. Chains are looked at until `until_ms`: what they
    /// have not said by then is not decided in this slot. Returns how long chains were waited for, in milliseconds.
    async fn judge(&self, simulated: &[Simulated], slot: SlotNumber, until_ms: u64) -> u64 {
        let began_ms = now_ms();
        let patience = Duration::from_millis(until_ms.saturating_sub(began_ms));
        // Without any time for it nobody is asked, and nobody's answer is late.
        let landed = if patience.is_zero() {
            None
        } else {
            let landed = tokio::time::timeout(patience, self.landed_elsewhere(simulated)).await.ok();
            if landed.is_none() {
                tracing::warn!(slot, "whether blocked bundles landed was not told in time");
            }
            landed
        };
        let waited_ms = now_ms().saturating_sub(began_ms);
        let mut ended = Vec::new();
        for entry in simulated {
            let hash = entry.candidate.hash;
            let tracker = self.intake.tracker();
            if let Some(why) = &entry.attempt.blocked {
                self.messages.heed(why);
            }
            match &entry.attempt.blocked {
                Some(_) if landed.is_none() && self.is_to_be_looked_for(entry) => {}
                Some(_) if landed.as_ref().is_some_and(|landed| landed.contains(&hash)) => {
                    ended.push((hash, BundleState::Landed, None));
                }
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
        waited_ms
    }

    /// Which of the blocked bundles are on their chains already, by somebody else's list.
    async fn landed_elsewhere(&self, simulated: &[Simulated]) -> BTreeSet<B256> {
        let blocked: Vec<&Simulated> = simulated.iter().filter(|entry| self.is_to_be_looked_for(entry)).collect();
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

    /// Whether a bundle is blocked by what it would be blocked by if it had landed.
    fn is_to_be_looked_for(&self, entry: &Simulated) -> bool {
        let blocked = entry.attempt.blocked.as_ref();
        // Of what only the public flow brought nobody asks whether it landed, and there is too much of it to look.
        blocked.is_some_and(|why| may_have_landed(&why.reason)) && !self.intake.is_by_flow(entry.candidate.hash)
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

    /// Bids for every set of rollups that is worth its reserve, each at most what its own proposal is worth, all at once.
    async fn bid(self: &Arc<Self>, built: &Built) -> Bids {
        let slot = built.view.slot;
        self.forecast.lock().observe(observed(&built.standings));
        if built.market.mechanism == TICKETS {
            self.buy_tickets(slot).await;
            return Bids::default();
        }
        let held = built.market.held_by(self.address());
        let standings = built.standings.iter();
        let packages = standings.filter_map(|(rollups, standing)| {
            Some((rollups.clone(), standing.value, valued(&built.market, rollups, &held, standing)?))
        });
        let packages = beside_held(packages.collect(), &held);
        let offers = self.bidding.lock().bid(slot, now_ms(), &packages);
        let mut wires = Vec::with_capacity(packages.len());
        for (package, amount) in packages.into_iter().zip(offers).filter_map(|(package, offer)| Some((package, offer?))) {
            let bid = Bid { slot, rollups: package.rollups, amount, exclusive: None, nonce: now_ms() };
            wires.push(BidWire::new(&bid, self.settings.key.sign_bytes(bid.digest())));
        }
        let mut bids = Bids { sent: wires.len() as u64, ..Bids::default() };
        if wires.is_empty() {
            return bids;
        }
        let first = now_us();
        if let Some(sealing) = built.market.sealing {
            let taken = self.seal(slot, wires.iter().map(BidWire::bid).collect(), sealing, built.market.close_ms).await;
            bids.times = Some((first, now_us()));
            bids.refused = if taken { 0 } else { bids.sent };
            let result = if taken { "taken" } else { "refused" };
            metrics::counter!("lockstep_bids_total", "result" => result).increment(bids.sent);
            bids.taken = if taken { wires } else { Vec::new() };
            return bids;
        }
        let answers = futures_util::future::join_all(wires.iter().map(|wire| self.market.submit_bid(wire.clone()))).await;
        bids.times = Some((first, now_us()));
        for (wire, answer) in wires.into_iter().zip(answers) {
            match answer {
                Ok(_) => {
                    metrics::counter!("lockstep_bids_total", "result" => "taken").increment(1);
                    bids.taken.push(wire);
                }
                Err(error) => {
                    bids.refused += 1;
                    metrics::counter!("lockstep_bids_total", "result" => "refused").increment(1);
                    tracing::warn!(slot, rollups = ?wire.rollups, %error, "a bid was refused");
                }
            }
        }
        bids
    }

    /// Tells the strategy what became of a slot's bids.
    fn learn(&self, slot: SlotNumber, taken: &[BidWire], allocation: Option<&Allocation>) {
        let own = self.address();
        let results: Vec<BidResult> = taken
            .iter()
            .map(|wire| {
                let Bid { rollups, amount: offered, .. } = wire.bid();
                let mut grants = allocation.into_iter().flat_map(|allocation| &allocation.grants);
                let won = grants.find(|grant| grant.proposer == own && grant.rollups == rollups);
                BidResult { price: won.map(|grant| grant.price), rollups, offered }
            })
            .collect();
        self.bidding.lock().observe(slot, &results);
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
}

/// What a set of rollups is worth, beside what its sellers ask for; `None` where there is nothing to bid for.
fn valued(market: &MarketSlot, rollups: &RollupSet, held: &RollupSet, standing: &Standing) -> Option<Valued> {
    if standing.bundles == 0 || standing.value < I256::ZERO {
        return None;
    }
    let package = rollups - held;
    let sales: Vec<&Sale> = market.on_sale.iter().filter(|sale| package.contains(&sale.chain_id.to())).collect();
    if sales.len() < package.len() {
        return None;
    }
    let reserve = sales.into_iter().try_fold(U256::ZERO, |sum, sale| sum.checked_add(sale.reserve.0))?;
    Some(Valued { rollups: package, value: standing.value.into_raw(), reserve })
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

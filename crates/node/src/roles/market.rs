//! The market: it drives a [`Marketplace`] by the clock and by what it is told, stores what changes, and keeps the decision record.
//!
//! What is acknowledged is on disk. A change is made and queued for the disk under one lock, so that the disk has changes in their
//! order, and acknowledged when it is written. When the disk fails nothing is acknowledged any more; after a restart the market
//! goes on from what is there.

mod ahead;
mod decisions;
mod deliveries;
mod escrow;
mod espresso;
mod l1;
mod money;
mod proposals;
mod rows;
mod rpc;
mod sealing;
mod terms;
mod tickets;
mod timeboost;

pub(crate) use espresso::Solver;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy_primitives::{Address, B256, Bytes, keccak256};
use jsonrpsee::types::ErrorObjectOwned;
use lockstep_delivery::DecisionKey;
use lockstep_market::{
    Abandoned, AheadSale, Closed, DepositRules, L1Terms, MAX_CLOSED, MarketError, Marketplace, ProposalTerms, Rules, SealRules,
    Selling, TimeboostDomain, slot_seed,
};
use lockstep_primitives::{RollupSet, SlotNumber};
use lockstep_rpc::{
    invalid_params, unavailable,
    wire::{AllocationWire, BidTxWire, HeldView, PostingWire, RegistrationWire, Sale, SealedBidsWire},
};
use lockstep_store::{Op, Queued, Store, StoreError, Table};
use parking_lot::Mutex;
use tokio::sync::broadcast;

use self::{
    ahead::{ClosedEpochs, held},
    decisions::decision_key,
    escrow::{EscrowFacts, EscrowState, StoredEscrow, stored_escrow},
    proposals::Revealed,
    rows::{Changes, Remembered, RowError, posting_wire, prices, remembered},
    sealing::stored_envelopes,
    terms::{TermsKey, restored, stored},
};
use super::Timings;
use crate::{
    clock::{now_ms, sleep_until},
    keys::Key,
};

/// Slots whose allocation and decisions stay on disk.
const MAX_KEPT: u64 = 100_000;
/// How often a proposer may try in a slot.
const MAX_RETRIES: usize = 4;
/// Postings that answers show.
const MAX_SHOWN_POSTINGS: usize = 10_000;
/// Events that a slow subscriber may lag behind.
const MAX_EVENTS: usize = 1_024;

/// What a market is configured with.
#[derive(Clone, Debug)]
pub(crate) struct MarketSettings {
    /// It signs allocations.
    pub(crate) key: Key,
    /// The slots.
    pub(crate) timings: Timings,
    /// Whose registrations are taken; anybody's when empty.
    pub(crate) sellers: RollupSet,
    /// What it sells, and how.
    pub(crate) selling: Selling,
    /// How epochs are sold ahead of time, if they are.
    pub(crate) ahead: Option<AheadSale>,
    /// What bids have to be covered by, if by anything.
    pub(crate) deposits: Option<DepositRules>,
    /// How bids are sealed, if they are.
    pub(crate) sealing: Option<SealRules>,
    /// How builders' proposals are taken, if they are.
    pub(crate) proposals: Option<ProposalTerms>,
    /// L1, if its proposers take part.
    pub(crate) l1: Option<L1Terms>,
    /// Whether an escrow contract keeps the money.
    pub(crate) escrow: bool,
    /// The rollup whose slots Timeboost bids are taken for, and the contract that they are signed for.
    pub(crate) timeboost: Option<TimeboostDomain>,
    /// For how many slots after its own a slot may be reported on.
    pub(crate) report_slots: u64,
}

/// What happened, for subscribers.
#[derive(Clone, Debug)]
pub(crate) enum MarketEvent {
    /// A slot is the next to be closed.
    Slot(SlotNumber),
    /// A slot was allocated.
    Allocation(AllocationWire),
    /// A rollup's slot ended.
    Delivery(lockstep_rpc::wire::DeliveryEvent),
}

/// What answers tell of a closed slot beside its outcome.
struct ClosedSlot {
    /// What was on sale.
    on_sale: Vec<Sale>,
    /// What was not for sale.
    held: Vec<HeldView>,
    /// Of the allocation.
    signature: Bytes,
    /// With which sealed bids were opened, ordered by bidder.
    salts: Vec<B256>,
}

struct Inner {
    market: Marketplace,
    /// The signed registrations that the registry remembers.
    signed: BTreeMap<TermsKey, RegistrationWire>,
    /// Sealed bids of open slots, signed.
    sealed: BTreeMap<(SlotNumber, Address), SealedBidsWire>,
    closed: BTreeMap<SlotNumber, ClosedSlot>,
    epochs: ClosedEpochs,
    /// Bids of open slots that were taken back: what is on disk of them.
    taken_back: BTreeSet<(SlotNumber, Vec<u8>)>,
    /// Bids of Espresso's kind, as they came.
    espresso: BTreeMap<(SlotNumber, Address), BidTxWire>,
    /// Lists that builders revealed.
    revealed: Revealed,
    /// How far the escrow's chain was read.
    escrow: EscrowState,
    /// The last postings.
    postings: std::collections::VecDeque<PostingWire>,
}

/// The market of a process.
pub(crate) struct MarketRole {
    settings: MarketSettings,
    store: Store,
    inner: Mutex<Inner>,
    /// The escrow, once it has answered.
    escrow: Mutex<Option<EscrowFacts>>,
    events: broadcast::Sender<MarketEvent>,
}

impl std::fmt::Debug for MarketRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MarketRole").field("address", &self.address()).finish_non_exhaustive()
    }
}

impl MarketRole {
    /// A market with what its store knows of before.
    ///
    /// # Errors
    /// When the store cannot be read, or what it says of money and rights does not fit together.
    pub(crate) fn new(settings: MarketSettings, store: Store) -> Result<Self, RowError> {
        let signed = stored(&store)?;
        let Remembered { mut record, espresso, taken_back } = remembered(&store, restored(&signed))?;
        let StoredEscrow { settlement, exiting, state: escrow } = stored_escrow(&store)?;
        (record.settlement, record.exiting) = (settlement, exiting);
        let mut sealed = BTreeMap::new();
        for (bidder, wire, envelope) in stored_envelopes(&store)? {
            sealed.insert((wire.slot, bidder), wire);
            record.envelopes.push((bidder, envelope));
        }
        let rules = Rules {
            clock: settings.timings.clock,
            selling: settings.selling.clone(),
            ahead: settings.ahead,
            deposits: settings.deposits,
            sealing: settings.sealing,
            proposals: settings.proposals,
            l1: settings.l1,
            escrow: settings.escrow,
            report_slots: settings.report_slots,
        };
        let bids = record.bids.len();
        let market =
            Marketplace::new(rules, record).map_err(|error| RowError::Row { table: Table::Bids, problem: error.to_string() })?;
        if bids > 0 {
            tracing::info!(bids, "bids are back from disk");
        }
        let postings = rows::last_postings(&store, market.ledger().record().postings, MAX_SHOWN_POSTINGS)?;
        let (closed, epochs, revealed) = Default::default();

        let inner = Inner { market, signed, sealed, closed, epochs, taken_back, espresso, revealed, escrow, postings };
        Ok(Self { settings, store, inner: Mutex::new(inner), escrow: Mutex::default(), events: broadcast::channel(MAX_EVENTS).0 })
    }

    /// The market's address.
    pub(crate) fn address(&self) -> Address {
        self.settings.key.address()
    }

    /// Closes every slot at its time, for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            self.abandon().await;
            let slot = self.inner.lock().market.first_open(now_ms());
            // Nobody listening is no fault.
            let _ = self.events.send(MarketEvent::Slot(slot));
            sleep_until(self.settings.timings.clock.close_ms(slot)).await;
            // After a pause, or a jump of the clock, nobody could deliver any more what is allocated now.
            if now_ms() < self.settings.timings.decide_ms(slot) {
                self.close(slot).await;
            }
            self.lapse().await;
            self.lapse_proposals().await;
        }
    }

    /// Releases what was put up for slots that passed while the market was not there.
    async fn abandon(&self) {
        let queued = {
            let mut inner = self.inner.lock();
            let Abandoned { bids, drawn, lapsed, postings } = match inner.market.abandon(now_ms()) {
                Ok(abandoned) => abandoned,
                Err(error) => {
                    tracing::error!(%error, "what was put up for past slots could not be released");
                    return;
                }
            };
            let before = inner.market.closed_before();
            let mut forgotten = inner.forget_sealed(before);
            forgotten.extend(inner.forget_taken_back(before));
            let nothing = bids.is_empty() && postings.is_empty() && forgotten.is_empty() && drawn.is_empty();
            if nothing && lapsed.is_empty() {
                return;
            }
            tracing::warn!(
                bids = bids.len(),
                rights = lapsed.len(),
                "bids and rights for slots that passed meanwhile are dropped, and what was put up for them is released"
            );
            let inner = &mut *inner;
            let mut changes = Changes::new(&inner.market);
            bids.iter().for_each(|bid| changes.no_bid(bid));
            forgotten.into_iter().for_each(|op| changes.op(op));
            drawn.iter().for_each(|(slot, class)| changes.drawn(*slot, *class));
            postings.iter().for_each(|posting| changes.posting(posting));
            inner.postings.extend(postings.iter().map(posting_wire));
            let mut ops = changes.into_ops();
            ops.extend(self.note_ended(inner, &lapsed, None));
            self.store.queue(ops)
        };
        if let Err(error) = self.written(queued).await {
            tracing::error!(%error, "what was released is not on disk");
        }
    }

    /// The market's part of what draws of a slot are made with: fixed by its key, and unknown to anybody else before the slot is
    /// closed.
    fn secret(&self, slot: SlotNumber) -> B256 {
        let purpose = [b"lockstep seed of slot ".as_slice(), &slot.to_be_bytes()].concat();
        keccak256(self.settings.key.sign_bytes(keccak256(purpose)))
    }

    /// What draws of a slot are made with.
    fn seed(&self, slot: SlotNumber, salts: &[B256]) -> B256 {
        slot_seed(self.secret(slot), slot, salts)
    }

    async fn close(&self, slot: SlotNumber) {
        let ended = self.inner.lock().market.end_bidding(slot);
        let bidding = match ended {
            Ok(ended) => ended,
            Err(error) => {
                tracing::error!(slot, %error, "the slot could not be closed");
                return;
            }
        };
        // With many sellers it takes a while, and everybody else goes on.
        let seed = self.seed(slot, &bidding.envelopes.salts());
        let selling = self.settings.selling.clone();
        let decided = tokio::task::spawn_blocking(move || bidding.decide(&selling, seed)).await;
        let queued = {
            let mut inner = self.inner.lock();
            let settled = decided.map_err(|error| error.to_string()).and_then(|(sale, envelopes, outcome)| {
                inner.market.settle(sale, envelopes, outcome).map_err(|error| error.to_string())
            });
            match settled {
                Ok(closed) => {
                    Self::begin_proposals(&mut inner, slot);
                    self.note_closed(&mut inner, slot, &closed)
                }
                Err(error) => {
                    tracing::error!(slot, %error, "the slot could not be settled");
                    return;
                }
            }
        };
        if let Err(error) = self.written(queued).await {
            tracing::error!(slot, %error, "the allocation is not on disk");
        }
    }

    fn note_closed(&self, inner: &mut Inner, slot: SlotNumber, closed: &Closed) -> Result<Queued, StoreError> {
        let outcome = &closed.outcome;
        if !outcome.gap.is_zero() {
            tracing::warn!(slot, gap = %outcome.gap, "the search for winners was cut short: the allocation may not be the best");
        }
        if !outcome.as_bid.is_empty() {
            tracing::warn!(slot, rollups = ?outcome.as_bid, "lower payments could not be computed in time: winners pay what they bid");
        }
        let signature = self.settings.key.sign_bytes(outcome.allocation.digest());
        let wire = AllocationWire::new(&outcome.allocation, signature.clone());
        let (on_sale, held) = (sales(&inner.market, &closed.sale), held(&inner.market, &closed.sale));
        inner.closed.insert(slot, ClosedSlot { on_sale, held, signature, salts: closed.envelopes.salts() });
        let mut forgotten = inner.forget_sealed(slot.saturating_add(1));
        forgotten.extend(inner.forget_taken_back(slot.saturating_add(1)));
        inner.forget_espresso(slot, outcome);
        while inner.closed.len() > MAX_CLOSED {
            inner.closed.pop_first();
        }
        let bids = outcome.bids.len();
        metrics::counter!("lockstep_market_slots_total").increment(1);
        metrics::counter!("lockstep_market_bids_total").increment(bids as u64);
        tracing::debug!(slot, bids, paid = %prices(&outcome.allocation.grants), "slot closed");

        let mut changes = Changes::new(&inner.market);
        outcome.bids.iter().for_each(|bid| changes.no_bid(bid));
        forgotten.into_iter().for_each(|op| changes.op(op));
        closed.postings.iter().for_each(|posting| changes.posting(posting));
        closed.rights.iter().for_each(|right| changes.right(right));
        closed.computed.keys().for_each(|chain| changes.earnings(slot, *chain));
        match serde_json::to_vec(&wire) {
            Ok(value) => changes.op(Op::put(Table::Allocations, slot.to_be_bytes().to_vec(), value)),
            Err(error) => tracing::error!(slot, %error, "the allocation cannot be written"),
        }
        if let Some(old) = slot.checked_sub(MAX_KEPT) {
            changes.op(Op::delete(Table::Allocations, old.to_be_bytes().to_vec()));
            // Every proposer may try a few times, and there is a proposer a rollup at the most.
            let attempts = 0..u32::try_from(lockstep_market::MAX_SELLERS * MAX_RETRIES).unwrap_or(u32::MAX);
            for attempt in attempts {
                changes.op(Op::delete(Table::Decisions, decision_key(DecisionKey { slot: old, attempt })));
            }
        }
        let mut ops = changes.into_ops();
        inner.note_postings(&closed.postings);
        ops.extend(self.draw_after(inner, slot));
        let _ = self.events.send(MarketEvent::Allocation(wire));
        self.store.queue(ops)
    }

    fn allocation(&self, slot: SlotNumber) -> Result<Option<AllocationWire>, ErrorObjectOwned> {
        {
            let inner = self.inner.lock();
            if let (Some(outcome), Some(ClosedSlot { signature, .. })) = (inner.market.outcome(slot), inner.closed.get(&slot)) {
                return Ok(Some(AllocationWire::new(&outcome.allocation, signature.clone())));
            }
        }
        let stored = self.store.get(Table::Allocations, &slot.to_be_bytes()).map_err(|error| store_error(&error))?;
        Ok(stored.and_then(|value| serde_json::from_slice(&value).ok()))
    }

    /// Whether a change could be queued. To be asked before one is made.
    fn has_room(&self) -> Result<(), ErrorObjectOwned> {
        self.store.has_room().map_err(|error| store_error(&error))
    }

    /// Waits until a change is on disk.
    async fn written(&self, queued: Result<Queued, StoreError>) -> Result<(), ErrorObjectOwned> {
        queued.map_err(|error| store_error(&error))?.written().await.map_err(|error| store_error(&error))
    }
}

impl Inner {
    /// Forgets bids that were taken back of slots before this one: steps for the store.
    fn forget_taken_back(&mut self, before: SlotNumber) -> Vec<Op> {
        let kept = self.taken_back.split_off(&(before, Vec::new()));
        let gone = std::mem::replace(&mut self.taken_back, kept);
        gone.into_iter().map(|(_, key)| Op::delete(Table::Bids, key)).collect()
    }

    fn note_postings(&mut self, postings: &[lockstep_market::Posting]) {
        self.postings.extend(postings.iter().map(posting_wire));
        let surplus = self.postings.len().saturating_sub(MAX_SHOWN_POSTINGS);
        self.postings.drain(..surplus);
    }
}

/// What is on sale, as answers show it.
fn sales(market: &Marketplace, sale: &lockstep_market::Sale) -> Vec<Sale> {
    let slot = sale.slot();
    let units = sale.units().iter().flat_map(|unit| unit.iter().map(move |chain| (*chain, unit)));
    let shown = units.filter_map(|(chain, unit)| {
        let reserve = sale.terms().get(&chain)?.reserve;
        Some(Sale::new(market.registry().at(chain, slot)?, unit, reserve))
    });
    let mut shown: Vec<Sale> = shown.collect();
    shown.sort_by_key(|sale| sale.chain_id);
    shown
}

/// The market's face: cheap to hand out.
#[derive(Clone, Debug)]
pub(crate) struct MarketRpc(pub(crate) Arc<MarketRole>);

impl std::ops::Deref for MarketRpc {
    type Target = MarketRole;

    fn deref(&self) -> &MarketRole {
        &self.0
    }
}

fn market_error(error: &MarketError) -> ErrorObjectOwned {
    metrics::counter!("lockstep_market_refused_total", "reason" => error.code()).increment(1);
    invalid_params(error.code(), error.to_string(), error.hint())
}

fn store_error(error: &StoreError) -> ErrorObjectOwned {
    unavailable(error.code(), error.to_string())
}

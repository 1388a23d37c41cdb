//! The market: registrations, auctions, and the decision record.

use std::{collections::BTreeMap, sync::Arc};

use alloy_primitives::{Address, Bytes, U64, U256};
use jsonrpsee::{
    core::{RpcResult, async_trait},
    types::ErrorObjectOwned,
};
use lockstep_delivery::{Decision, DecisionKey, WriteOutcome, judge_write, proposer_of_attempt};
use lockstep_market::{MarketError, Outcome, Registry, SlotAuction, Version, Versions};
use lockstep_primitives::{Allocation, ChainId, Registration, RollupSet, SlotNumber, recover};
use lockstep_rpc::{
    api::{DecisionApiServer, MarketApiServer},
    invalid_params, not_found, unavailable,
    wire::{
        AllocationWire, BidReceipt, BidView, BidWire, Decimal, DecisionWire, MarketSlot, RegistrationWire, RollupTerms, Sale,
    },
};
use lockstep_store::{Op, PutOutcome, Store, StoreError, Table};
use parking_lot::Mutex;

use super::Timings;
use crate::{
    clock::{now_ms, sleep_until},
    keys::Key,
};

/// Closed slots that are kept in memory; older allocations are on disk only.
const MAX_CLOSED: usize = 256;
/// Slots whose allocation and decisions stay on disk.
const MAX_KEPT: u64 = 100_000;
/// How often a proposer may try in a slot.
const MAX_RETRIES: usize = 4;
/// How many slots ahead bids are taken.
const SLOTS_AHEAD: u64 = 4;

struct Closed {
    outcome: Outcome,
    on_sale: Vec<Sale>,
    signature: Bytes,
}

#[derive(Default)]
struct Inner {
    registry: Registry,
    /// The signed registrations that the registry remembers.
    signed: BTreeMap<TermsKey, RegistrationWire>,
    open: BTreeMap<SlotNumber, (SlotAuction, Vec<Sale>)>,
    closed: BTreeMap<SlotNumber, Closed>,
}

/// The market of a process.
pub(crate) struct MarketRole {
    key: Key,
    timings: Timings,
    /// Whose registrations are taken; anybody's when empty.
    sellers: RollupSet,
    store: Store,
    inner: Mutex<Inner>,
    /// Held while terms are taken.
    registering: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for MarketRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MarketRole").field("address", &self.key.address()).finish_non_exhaustive()
    }
}

impl MarketRole {
    /// A market with what its store knows of before.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn new(key: Key, timings: Timings, sellers: RollupSet, store: Store) -> Result<Self, StoreError> {
        let signed = stored(&store)?;
        let registry = restored(&signed);
        let inner = Mutex::new(Inner { registry, signed, ..Inner::default() });
        Ok(Self { key, timings, sellers, store, inner, registering: tokio::sync::Mutex::default() })
    }

    /// The market's address.
    pub(crate) fn address(&self) -> Address {
        self.key.address()
    }

    /// Closes every slot at its time, for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut slot = self.bidding_slot(now_ms());
        loop {
            sleep_until(self.timings.clock.close_ms(slot)).await;
            self.close(slot).await;
            slot += 1;
        }
    }

    /// The first slot whose bidding has not ended.
    fn bidding_slot(&self, now: u64) -> SlotNumber {
        let clock = self.timings.clock;
        let mut slot = clock.slot_at(now).unwrap_or_default();
        while clock.close_ms(slot) <= now {
            slot += 1;
        }
        slot
    }

    /// Opens a slot with its terms, unless it is open or over.
    fn ensure_open(&self, inner: &mut Inner, slot: SlotNumber) -> Result<(), MarketError> {
        if inner.open.contains_key(&slot) || inner.closed.contains_key(&slot) {
            return Ok(());
        }
        let running = self.timings.clock.slot_at(now_ms()).unwrap_or_default();
        let sale = inner.registry.sale(&self.timings.clock, slot, running, &BTreeMap::new())?;
        let on_sale = sale.units().iter().flat_map(|unit| unit.iter().map(move |chain| (*chain, unit)));
        let on_sale = on_sale.filter_map(|(chain, unit)| {
            let reserve = sale.terms().get(&chain)?.reserve;
            Some(Sale::new(inner.registry.at(chain, slot)?, unit, reserve))
        });
        let on_sale = on_sale.collect();
        inner.open.insert(slot, (SlotAuction::open(sale), on_sale));
        Ok(())
    }

    async fn close(&self, slot: SlotNumber) {
        let (allocation, wire, bids) = {
            let mut inner = self.inner.lock();
            if let Err(error) = self.ensure_open(&mut inner, slot) {
                tracing::error!(slot, %error, "the slot could not be opened");
                return;
            }
            let Some((auction, on_sale)) = inner.open.remove(&slot) else { return };
            let outcome = auction.close();
            if !outcome.optimal {
                tracing::warn!(slot, "the search for winners was cut short: the allocation may not be the best");
            }
            let signature = self.key.sign_bytes(outcome.allocation.digest());
            let wire = AllocationWire::new(&outcome.allocation, signature.clone());
            let allocation = outcome.allocation.clone();
            let bids = outcome.bids.len();
            inner.closed.insert(slot, Closed { outcome, on_sale, signature });
            while inner.closed.len() > MAX_CLOSED {
                inner.closed.pop_first();
            }
            inner.open.retain(|open, _| *open > slot);
            (allocation, wire, bids)
        };
        metrics::counter!("lockstep_market_slots_total").increment(1);
        metrics::counter!("lockstep_market_bids_total").increment(bids as u64);
        let paid = allocation.grants.iter().fold(U256::ZERO, |sum, grant| sum.saturating_add(grant.price));
        tracing::debug!(slot, bids, %paid, "slot closed");
        let Ok(value) = serde_json::to_vec(&wire) else { return };
        let mut batch = vec![Op::put(Table::Allocations, slot.to_be_bytes().to_vec(), value)];
        if let Some(old) = slot.checked_sub(MAX_KEPT) {
            batch.push(Op::delete(Table::Allocations, old.to_be_bytes().to_vec()));
            // Every proposer may try a few times, and there is a proposer a rollup at the most.
            let attempts = 0..u32::try_from(lockstep_market::MAX_SELLERS * MAX_RETRIES).unwrap_or(u32::MAX);
            batch.extend(attempts.map(|attempt| Op::delete(Table::Decisions, decision_key(DecisionKey { slot: old, attempt }))));
        }
        if let Err(error) = self.store.write(batch).await {
            tracing::error!(slot, %error, "the allocation is not on disk");
        }
    }

    fn allocation(&self, slot: SlotNumber) -> Result<Option<AllocationWire>, ErrorObjectOwned> {
        if let Some(closed) = self.inner.lock().closed.get(&slot) {
            return Ok(Some(AllocationWire::new(&closed.outcome.allocation, closed.signature.clone())));
        }
        let stored = self
            .store
            .get(Table::Allocations, &slot.to_be_bytes())
            .map_err(|error| unavailable(error.code(), error.to_string()))?;
        Ok(stored.and_then(|value| serde_json::from_slice(&value).ok()))
    }
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

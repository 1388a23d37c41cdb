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
/// Length of a decision's reason.
const MAX_REASON_BYTES: usize = 1_024;
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

/// A rollup, and the slot from which on its terms hold.
type TermsKey = (ChainId, SlotNumber);

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
        let mut signed = BTreeMap::new();
        for (key, value) in store.scan(Table::Registrations)? {
            match serde_json::from_slice::<RegistrationWire>(&value) {
                Ok(wire) => {
                    signed.insert((wire.chain_id.to(), from_slot_of(&key).unwrap_or(wire.from_slot)), wire);
                }
                Err(error) => tracing::error!(%error, "a stored registration cannot be read"),
            }
        }
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

    /// The first slot whose terms may still change: the one after all that are on sale or were.
    fn earliest(&self, inner: &Inner, now: u64) -> SlotNumber {
        let listed = inner.open.last_key_value().map(|(slot, _)| *slot).max(inner.closed.last_key_value().map(|(slot, _)| *slot));
        listed.map_or(0, |slot| slot.saturating_add(1)).max(self.bidding_slot(now))
    }

    /// Takes terms, of a rollup that has to be known already or may be new.
    async fn take_terms(&self, wire: RegistrationWire, known: bool) -> RpcResult<bool> {
        let chain = wire.chain_id.to::<u64>();
        if !self.sellers.is_empty() && !self.sellers.contains(&chain) {
            let text = format!("this market does not sell slots of rollup {chain}");
            return Err(invalid_params("unknown_rollup", text, "ask the market's operator to admit the rollup"));
        }
        let terms = wire.registration().map_err(|error| invalid_params(error.code(), error.to_string(), error.hint()))?;
        // One at a time: what is not on disk is not registered, and nothing comes in between.
        let _turn = self.registering.lock().await;
        let earliest = {
            let inner = self.inner.lock();
            if known && inner.registry.of(chain).is_none() {
                let text = format!("rollup {chain} is not registered");
                return Err(invalid_params("not_registered", text, "register it first"));
            }
            self.earliest(&inner, now_ms())
        };
        let mut registry = self.inner.lock().registry.clone();
        registry.register(terms, &wire.signature, earliest).map_err(|error| market_error(&error))?;
        let mut batch = Vec::new();
        let mut signed = self.inner.lock().signed.clone();
        let kept: Vec<SlotNumber> =
            registry.of(chain).into_iter().flat_map(Versions::iter).map(|version| version.from_slot).collect();
        signed.retain(|key, _| {
            let stays = key.0 != chain || kept.contains(&key.1);
            if !stays {
                batch.push(Op::delete(Table::Registrations, terms_key(*key)));
            }
            stays
        });
        if let Some(newest) = kept.last() {
            let key = (chain, *newest);
            let value = serde_json::to_vec(&wire).map_err(|error| unavailable("store", error.to_string()))?;
            batch.push(Op::put(Table::Registrations, terms_key(key), value));
            signed.insert(key, wire);
        }
        self.store.write(batch).await.map_err(|error| unavailable(error.code(), error.to_string()))?;
        let mut inner = self.inner.lock();
        (inner.registry, inner.signed) = (registry, signed);
        Ok(true)
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

    /// Checks who may write a decision.
    fn check_decision(&self, decision: &Decision, signature: &[u8], now: u64) -> Result<(), ErrorObjectOwned> {
        let decide_ms = self.timings.decide_ms(decision.slot);
        let allocation: Option<Allocation> = self.allocation(decision.slot)?.map(|wire| wire.allocation());
        let attempts = allocation.as_ref().map_or(0, |allocation| allocation.grants.len()).saturating_mul(MAX_RETRIES);
        if decision.attempt as usize >= attempts || decision.reason.len() > MAX_REASON_BYTES {
            return Err(invalid_params(
                "no_such_attempt",
                format!("slot {} has no attempt {}, or the reason is too long", decision.slot, decision.attempt),
                "attempts are dealt out among the proposers of an allocated slot",
            ));
        }
        if !decision.must_be_signed(now, decide_ms) {
            return Ok(());
        }
        let proposer = allocation.and_then(|allocation| proposer_of_attempt(&allocation, decision.attempt));
        let signer = recover(decision.digest(), signature).ok();
        if proposer.is_none() || proposer != Some(decision.proposer) || signer != proposer {
            return Err(invalid_params(
                "wrong_proposer",
                "the decision is not signed by the proposer of this slot and attempt",
                "only the allocated proposer decides before t_decide; afterwards anyone may record an abort",
            ));
        }
        Ok(())
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

/// The registry that signed registrations make. Each was checked when it was taken; one that does not hold any more, because the
/// store is another's, is left out and told.
fn restored(signed: &BTreeMap<TermsKey, RegistrationWire>) -> Registry {
    let mut versions: BTreeMap<ChainId, Vec<Version<Registration>>> = BTreeMap::new();
    for ((chain, from_slot), wire) in signed {
        let signer = wire.registration().map(|terms| (recover(terms.digest(), &wire.signature).ok(), terms));
        match signer {
            Ok((signer, value)) if signer == Some(value.sequencer) => {
                versions.entry(*chain).or_default().push(Version { from_slot: *from_slot, nonce: value.nonce, value });
            }
            _ => tracing::error!(chain, from_slot, "a stored registration does not hold any more"),
        }
    }
    let versions = versions.into_iter().filter_map(|(chain, kept)| {
        let fixed_before = kept.first().map_or(0, |version| version.from_slot);
        let restored = Versions::restore(chain, kept, fixed_before, 0);
        restored.inspect_err(|error| tracing::error!(%error, "the stored terms of a rollup cannot be used")).ok()
    });
    Registry::restore(versions).unwrap_or_else(|error| {
        tracing::error!(%error, "the stored registrations cannot be used");
        Registry::new()
    })
}

fn terms_key((chain, from_slot): TermsKey) -> Vec<u8> {
    [chain.to_be_bytes(), from_slot.to_be_bytes()].concat()
}

fn from_slot_of(key: &[u8]) -> Option<SlotNumber> {
    Some(SlotNumber::from_be_bytes(key.get(8..)?.try_into().ok()?))
}

fn decision_key(key: DecisionKey) -> Vec<u8> {
    [key.slot.to_be_bytes().as_slice(), &key.attempt.to_be_bytes()].concat()
}

fn market_error(error: &MarketError) -> ErrorObjectOwned {
    metrics::counter!("lockstep_market_refused_total", "reason" => error.code()).increment(1);
    invalid_params(error.code(), error.to_string(), error.hint())
}

#[async_trait]
impl MarketApiServer for MarketRpc {
    async fn register_rollup(&self, registration: RegistrationWire) -> RpcResult<bool> {
        self.take_terms(registration, false).await
    }

    async fn update_rollup(&self, registration: RegistrationWire) -> RpcResult<bool> {
        self.take_terms(registration, true).await
    }

    async fn get_rollup(&self, chain_id: U64) -> RpcResult<Option<RollupTerms>> {
        let inner = self.inner.lock();
        let of_rollup = inner.signed.range((chain_id.to(), 0)..=(chain_id.to(), SlotNumber::MAX));
        let terms: Vec<RegistrationWire> = of_rollup.map(|(_, wire)| wire.clone()).collect();
        let earliest_slot = self.earliest(&inner, now_ms());
        Ok((!terms.is_empty()).then_some(RollupTerms { chain_id, terms, earliest_slot }))
    }

    async fn submit_bid(&self, bid: BidWire) -> RpcResult<BidReceipt> {
        let now = now_ms();
        let slot = bid.slot;
        let current = self.bidding_slot(now);
        if slot > current + SLOTS_AHEAD {
            return Err(invalid_params("too_far_ahead", format!("slot {slot} is not open yet"), "bid for a nearer slot"));
        }
        let receipt = {
            let mut inner = self.inner.lock();
            if slot < current || inner.closed.contains_key(&slot) {
                return Err(invalid_params("slot_closed", format!("slot {slot} is closed"), "bid for a later slot"));
            }
            self.ensure_open(&mut inner, slot).map_err(|error| market_error(&error))?;
            let (auction, _) = inner.open.get_mut(&slot).ok_or_else(|| not_found("the slot is not open"))?;
            auction
                .submit(bid.bid(), &bid.signature, now, self.timings.clock.close_ms(slot))
                .map_err(|error| market_error(&error))?
        };
        Ok(BidReceipt { bid_hash: receipt })
    }

    async fn get_market_slot(&self, slot: Option<u64>) -> RpcResult<MarketSlot> {
        let now = now_ms();
        let slot = slot.unwrap_or_else(|| self.bidding_slot(now));
        let clock = self.timings.clock;
        if slot > self.bidding_slot(now) + SLOTS_AHEAD {
            return Err(not_found(format!("slot {slot} is not open yet")));
        }
        let mut inner = self.inner.lock();
        if clock.close_ms(slot) > now {
            self.ensure_open(&mut inner, slot).map_err(|error| market_error(&error))?;
        }
        let (state, on_sale, bids) = match (inner.open.get(&slot), inner.closed.get(&slot)) {
            (_, Some(closed)) => {
                let bids = closed
                    .outcome
                    .bids
                    .iter()
                    .map(|accepted| BidView {
                        bidder: accepted.bidder,
                        rollups: accepted.bid.rollups.iter().map(|chain| U64::from(*chain)).collect(),
                        amount: Decimal(accepted.bid.amount),
                        exclusive: accepted.bid.exclusive.clone(),
                    })
                    .collect();
                ("closed", &closed.on_sale, bids)
            }
            (Some((_, on_sale)), None) => ("open", on_sale, Vec::new()),
            (None, None) => return Err(not_found(format!("slot {slot} is over and forgotten"))),
        };
        let on_sale = on_sale.clone();
        Ok(MarketSlot {
            slot,
            start_ms: clock.start_ms(slot),
            end_ms: clock.end_ms(slot),
            close_ms: clock.close_ms(slot),
            decide_ms: self.timings.decide_ms(slot),
            durable_record: self.store.is_durable(),
            state: state.to_owned(),
            on_sale,
            bids,
        })
    }

    async fn get_allocation(&self, slot: u64) -> RpcResult<Option<AllocationWire>> {
        self.allocation(slot)
    }

    async fn market_address(&self) -> RpcResult<Address> {
        Ok(self.key.address())
    }
}

#[async_trait]
impl DecisionApiServer for MarketRpc {
    async fn record(&self, decision: DecisionWire) -> RpcResult<Option<DecisionWire>> {
        let now = now_ms();
        let new = decision.decision();
        self.check_decision(&new, &decision.signature, now)?;
        let existing = self.get_decision(new.slot, new.attempt).await?;
        let known = existing.as_ref().map(DecisionWire::decision);
        match judge_write(known.as_ref(), &new, now, self.timings.decide_ms(new.slot)) {
            WriteOutcome::AlreadyDecided(_) => return Ok(existing),
            WriteOutcome::TooLate => return Ok(None),
            WriteOutcome::Write => {}
        }
        let value = serde_json::to_vec(&decision).map_err(|error| unavailable("store", error.to_string()))?;
        let written = self
            .store
            .put_if_absent(Table::Decisions, decision_key(new.key()), value)
            .await
            .map_err(|error| unavailable(error.code(), error.to_string()))?;
        match written {
            PutOutcome::Written => {
                let verdict = if decision.commit { "commit" } else { "abort" };
                metrics::counter!("lockstep_decisions_total", "verdict" => verdict).increment(1);
                Ok(Some(decision))
            }
            PutOutcome::Exists(first) => serde_json::from_slice(&first)
                .map(Some)
                .map_err(|error| unavailable("store", format!("the record cannot be read: {error}"))),
        }
    }

    async fn get_decision(&self, slot: u64, attempt: u32) -> RpcResult<Option<DecisionWire>> {
        let stored = self
            .store
            .get(Table::Decisions, &decision_key(DecisionKey { slot, attempt }))
            .map_err(|error| unavailable(error.code(), error.to_string()))?;
        stored
            .map(|value| serde_json::from_slice(&value))
            .transpose()
            .map_err(|error| unavailable("store", format!("the record cannot be read: {error}")))
    }
}

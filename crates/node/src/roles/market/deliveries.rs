//! How slots ended: sequencers' reports, and slots that nobody reported on.

use alloy_primitives::U64;
use jsonrpsee::core::RpcResult;
use lockstep_delivery::DecisionKey;
use lockstep_market::{Ending, Reported};
use lockstep_primitives::{ChainId, SlotNumber};
use lockstep_rpc::wire::{
    Decimal, DeliveryEvent, DeliveryReportWire, EncryptedTailWire, RevenueParams, RevenueView, SignedDecimal, SlotRevenue,
};
use lockstep_store::Op;

use super::{Changes, Inner, MAX_RETRIES, MarketEvent, MarketRole, market_error};
use crate::clock::now_ms;

/// Slots that an answer about revenue shows.
const MAX_REVENUE_SLOTS: usize = 256;

impl MarketRole {
    /// Takes a report, and charges by it.
    pub(super) async fn take_report(&self, wire: DeliveryReportWire) -> RpcResult<bool> {
        let report = wire.report();
        let committed = self.has_committed(report.slot, report.chain)?;
        self.has_room()?;
        let queued = {
            let mut inner = self.inner.lock();
            let taken =
                inner.market.report(&report, &wire.signature, committed, now_ms()).map_err(|error| market_error(&error))?;
            let Some(reported) = taken else { return Ok(true) };
            let ops = self.note_ended(&mut inner, &[reported], wire.encrypted);
            self.store.queue(ops)
        };
        self.written(queued).await?;
        Ok(true)
    }

    /// Ends what nobody reported on in time.
    pub(super) async fn lapse(&self) {
        let queued = {
            let mut inner = self.inner.lock();
            match inner.market.lapse(now_ms()) {
                Ok(lapsed) if lapsed.is_empty() => return,
                Ok(lapsed) => {
                    let ops = self.note_ended(&mut inner, &lapsed, None);
                    self.store.queue(ops)
                }
                Err(error) => {
                    tracing::error!(%error, "slots that nobody reported on could not be ended");
                    return;
                }
            }
        };
        if let Err(error) = self.written(queued).await {
            tracing::error!(%error, "the end of slots that nobody reported on is not on disk");
        }
    }

    /// Notes how rights ended: steps for the store. `encrypted`: which transactions of the slot came encrypted, by its sequencer.
    pub(super) fn note_ended(&self, inner: &mut Inner, ended: &[Reported], encrypted: Option<EncryptedTailWire>) -> Vec<Op> {
        let mut changes = Changes::new(&inner.market);
        for reported in ended {
            let record = &reported.record;
            changes.right(record);
            changes.earnings(record.slot, record.chain);
            reported.postings.iter().for_each(|posting| changes.posting(posting));
            let ending = record.right.ending.map_or("", Ending::name);
            metrics::counter!("lockstep_market_rights_total", "ending" => ending).increment(1);
            let event = DeliveryEvent {
                slot: record.slot,
                chain_id: U64::from(record.chain),
                holder: record.right.granted.holder,
                ending: ending.to_owned(),
                price: Decimal(record.right.granted.price),
                paid: Decimal(reported.paid),
                encrypted,
            };
            // Nobody listening is no fault.
            let _ = self.events.send(MarketEvent::Delivery(event));
        }
        let ops = changes.into_ops();
        ended.iter().for_each(|reported| inner.note_postings(&reported.postings));
        ops
    }

    /// Whether the decision record holds a commit for a rollup's list in a slot.
    fn has_committed(&self, slot: SlotNumber, chain: ChainId) -> RpcResult<bool> {
        let grants = self.allocation(slot)?.map_or(0, |allocation| allocation.grants.len());
        for attempt in 0..u32::try_from(grants.saturating_mul(MAX_RETRIES)).unwrap_or(u32::MAX) {
            let Some(wire) = self.decision(DecisionKey { slot, attempt })? else { continue };
            let decision = wire.decision();
            if wire.commit && decision.prepares.contains_key(&chain) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What a rollup's slots brought.
    pub(super) fn revenue(&self, chain_id: U64, params: RevenueParams) -> RevenueView {
        let chain: ChainId = chain_id.to();
        let (from, to) = (params.from_slot.unwrap_or_default(), params.to_slot.unwrap_or(SlotNumber::MAX));
        let inner = self.inner.lock();
        let rights: Vec<_> = inner.market.rights().of_rollup(chain, from, to).collect();
        let history = inner.market.histories().get(&chain);
        let (mut sold, mut paid, mut earned) = (0, Decimal::default(), Decimal::default());
        let mut slots = Vec::new();
        for (slot, right) in rights.into_iter().rev().take(MAX_REVENUE_SLOTS) {
            let known = history.and_then(|history| history.slots().get(&slot)).copied().unwrap_or_default();
            sold += u64::from(known.paid.is_some());
            paid.0 = paid.0.saturating_add(known.paid.unwrap_or_default());
            earned.0 = earned.0.saturating_add(known.earned.unwrap_or_default());
            slots.push(SlotRevenue {
                slot,
                holder: right.granted.holder,
                how: right.granted.how.name().to_owned(),
                price: Decimal(right.granted.price),
                ending: right.ending.map(|ending| ending.name().to_owned()),
                paid: known.paid.map(Decimal),
                earned: known.earned.map(Decimal),
                posted: known.posted.map(Decimal),
                computed: known.computed.map(Decimal),
            });
        }
        let regret = match (slots.last(), slots.first(), history) {
            (Some(first), Some(last), Some(history)) => {
                history.regret(lockstep_primitives::ImpliedBasis::Posted, first.slot, last.slot.saturating_add(1))
            }
            _ => lockstep_market::Regret::default(),
        };
        RevenueView { chain_id, slots, sold, paid, earned, compared: regret.slots, regret: SignedDecimal(regret.regret) }
    }
}

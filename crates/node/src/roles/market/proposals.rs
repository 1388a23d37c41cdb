//! The builder market inside a slot: calls, blinded bids, reveals, and what the holder of the right is paid.

use std::collections::BTreeMap;

use alloy_primitives::U64;
use jsonrpsee::core::RpcResult;
use lockstep_market::{CallKey, Posting, Selection};
use lockstep_primitives::{ProposalCall, SlotNumber, recover};
use lockstep_rpc::wire::{
    BidReceipt, BlindedProposalWire, CallView, Decimal, ProposalCallWire, ProposalParams, ProposalRevealWire, ProposalView,
    ProposedListsWire,
};
use lockstep_store::{Queued, StoreError};

use super::{Changes, Inner, MarketRole, market_error};
use crate::clock::now_ms;

/// Lists that were revealed, by the right that they are for.
pub(super) type Revealed = BTreeMap<CallKey, BTreeMap<U64, ProposedListsWire>>;

/// Slots for which revealed lists stay: the holder needs them at once.
const KEPT_SLOTS: u64 = 4;

impl MarketRole {
    pub(super) fn call_proposals(&self, wire: &ProposalCallWire) -> RpcResult<bool> {
        let called = self.inner.lock().market.call_proposals(&wire.call(), &wire.signature, now_ms());
        called.map(|_| true).map_err(|error| market_error(&error))
    }

    pub(super) fn calls(&self, slot: SlotNumber) -> Vec<CallView> {
        let inner = self.inner.lock();
        let call = |(key, own_value): (&CallKey, _)| CallView {
            holder: key.holder,
            rollups: key.rollups.iter().map(|chain| U64::from(*chain)).collect(),
            own_value: Decimal(own_value),
        };
        inner.market.calls(slot).map(call).collect()
    }

    pub(super) async fn take_proposal(&self, wire: BlindedProposalWire) -> RpcResult<BidReceipt> {
        self.has_room()?;
        let (bid_hash, queued) = {
            let mut inner = self.inner.lock();
            let taken =
                inner.market.propose(&wire.proposal(), &wire.signature, now_ms()).map_err(|error| market_error(&error))?;
            (taken.digest, self.note_moved(&mut inner, taken.posting.as_slice()))
        };
        self.written(queued).await?;
        Ok(BidReceipt { bid_hash })
    }

    pub(super) async fn take_reveal(&self, wire: ProposalRevealWire) -> RpcResult<bool> {
        self.has_room()?;
        let key = CallKey { slot: wire.slot, holder: wire.holder, rollups: wire.rollups() };
        let (revealed, queued) = {
            let mut inner = self.inner.lock();
            let taken = inner.market.reveal_proposal(&key, wire.builder, wire.reveal(), now_ms());
            // Who reveals something else pays for it.
            let (revealed, postings) = match taken {
                Ok(postings) => {
                    inner.revealed.insert(key, wire.lists);
                    (Ok(true), postings)
                }
                Err((error, postings)) => (Err(market_error(&error)), postings),
            };
            (revealed, self.note_moved(&mut inner, &postings))
        };
        self.written(queued).await?;
        revealed
    }

    pub(super) async fn proposal(&self, params: ProposalParams) -> RpcResult<ProposalView> {
        let ProposalParams { slot, holder, rollups, signature } = params;
        let key = CallKey { slot, holder, rollups: rollups.iter().map(|chain| chain.to()).collect() };
        let (view, queued) = {
            let mut inner = self.inner.lock();
            let (selection, postings) = inner.market.proposal(&key, now_ms()).map_err(|error| market_error(&error))?;
            let own_value = inner.market.calls(slot).find(|(known, _)| **known == key).map(|(_, own_value)| own_value);
            let asker = signature.zip(own_value).and_then(|(signature, own_value)| {
                let call = ProposalCall { slot, rollups: key.rollups.clone(), own_value };
                recover(call.digest(), &signature).ok()
            });
            let lists = inner.revealed.get(&key).filter(|_| asker == Some(holder)).cloned();
            (view(selection, lists), self.note_moved(&mut inner, &postings))
        };
        self.written(queued).await?;
        Ok(view)
    }

    /// Begins turns when a slot is closed.
    pub(super) fn begin_proposals(inner: &mut Inner, slot: SlotNumber) {
        inner.market.begin_proposals(slot, now_ms());
        let kept = slot.saturating_sub(KEPT_SLOTS);
        inner.revealed.retain(|key, _| key.slot >= kept);
    }

    /// Releases what was put up for proposals of slots that are over.
    pub(super) async fn lapse_proposals(&self) {
        let queued = {
            let mut inner = self.inner.lock();
            match inner.market.lapse_proposals(now_ms()) {
                Ok(postings) if postings.is_empty() => return,
                Ok(postings) => self.note_moved(&mut inner, &postings),
                Err(error) => return tracing::error!(%error, "proposals of past slots could not be ended"),
            }
        };
        if let Err(error) = self.written(queued).await {
            tracing::error!(%error, "what was released is not on disk");
        }
    }

    fn note_moved(&self, inner: &mut Inner, postings: &[Posting]) -> Result<Queued, StoreError> {
        let mut changes = Changes::new(&inner.market);
        postings.iter().for_each(|posting| changes.posting(posting));
        let ops = if postings.is_empty() { Vec::new() } else { changes.into_ops() };
        inner.note_postings(postings);
        self.store.queue(ops)
    }
}

fn view(selection: Selection, lists: Option<BTreeMap<U64, ProposedListsWire>>) -> ProposalView {
    let state = |state: &str| ProposalView { state: state.to_owned(), ..ProposalView::default() };
    match selection {
        Selection::Open => state("open"),
        Selection::Own => state("own"),
        Selection::Awaited { builder, until_ms } => {
            ProposalView { builder: Some(builder), until_ms: Some(until_ms), ..state("awaited") }
        }
        Selection::Builder { builder, value, .. } => {
            ProposalView { builder: Some(builder), value: Some(Decimal(value)), lists, ..state("taken") }
        }
    }
}

//! Sealed bids: on disk before they are acknowledged, opened or not.

use alloy_primitives::Address;
use jsonrpsee::core::RpcResult;
use lockstep_market::{Envelope, Posting};
use lockstep_primitives::{SlotNumber, recover};
use lockstep_rpc::wire::{BidReceipt, OpeningWire, SealedBidsWire};
use lockstep_store::{Op, Queued, Store, StoreError, Table};
use serde::{Deserialize, Serialize};

use super::{
    Changes, Inner, MarketRole, market_error,
    rows::{RowError, row, wrong},
};
use crate::clock::now_ms;

/// A bidder's sealed bids for a slot, as they are stored.
#[derive(Serialize, Deserialize)]
struct EnvelopeRow {
    sealed: SealedBidsWire,
    opening: Option<OpeningWire>,
}

impl MarketRole {
    /// Takes sealed bids.
    pub(super) async fn take_sealed(&self, wire: SealedBidsWire) -> RpcResult<BidReceipt> {
        self.has_room()?;
        let (bid_hash, queued) = {
            let mut inner = self.inner.lock();
            let taken = inner.market.seal(wire.sealed(), &wire.signature, now_ms()).map_err(|error| market_error(&error))?;
            let row = EnvelopeRow { sealed: wire, opening: None };
            // What was there before is acknowledged again when it is on disk, and may have been opened meanwhile.
            let row = taken.posting.is_some().then_some(row);
            (taken.digest, self.note_envelope(&mut inner, taken.bidder, row, taken.posting.as_slice()))
        };
        self.written(queued).await?;
        Ok(BidReceipt { bid_hash })
    }

    /// Opens sealed bids.
    pub(super) async fn take_opening(&self, wire: OpeningWire) -> RpcResult<bool> {
        self.has_room()?;
        let queued = {
            let mut inner = self.inner.lock();
            let is_new = inner.market.open_bids(wire.opening(), now_ms()).map_err(|error| market_error(&error))?;
            let (slot, bidder) = (wire.slot, wire.bidder);
            let row = inner.sealed.get(&(slot, bidder)).filter(|_| is_new);
            let row = row.map(|sealed| EnvelopeRow { sealed: sealed.clone(), opening: Some(wire) });
            self.note_envelope(&mut inner, bidder, row, &[])
        };
        self.written(queued).await?;
        Ok(true)
    }

    fn note_envelope(
        &self,
        inner: &mut Inner,
        bidder: Address,
        row: Option<EnvelopeRow>,
        postings: &[Posting],
    ) -> Result<Queued, StoreError> {
        let inner_sealed = &mut inner.sealed;
        let mut changes = Changes::new(&inner.market);
        if let Some(row) = row {
            let slot = row.sealed.slot;
            changes.row(Table::Sealed, envelope_key(slot, bidder), &row);
            inner_sealed.insert((slot, bidder), row.sealed);
        }
        postings.iter().for_each(|posting| changes.posting(posting));
        let ops = changes.into_ops();
        inner.note_postings(postings);
        self.store.queue(ops)
    }
}

impl Inner {
    /// Forgets what was sealed for slots before this one: steps for the store.
    pub(super) fn forget_sealed(&mut self, before: SlotNumber) -> Vec<Op> {
        let kept = self.sealed.split_off(&(before, Address::ZERO));
        let gone = std::mem::replace(&mut self.sealed, kept);
        gone.into_keys().map(|(slot, bidder)| Op::delete(Table::Sealed, envelope_key(slot, bidder))).collect()
    }
}

/// What is stored of sealed bids: with their signatures, and with who sealed them.
///
/// # Errors
/// When a row cannot be read.
pub(super) fn stored_envelopes(store: &Store) -> Result<Vec<(Address, SealedBidsWire, Envelope)>, RowError> {
    let table = Table::Sealed;
    let read = |(_, value): lockstep_store::KeyValue| {
        let EnvelopeRow { sealed: wire, opening } = row(table, &value)?;
        let sealed = wire.sealed();
        let bidder = recover(sealed.digest(), &wire.signature).map_err(|error| wrong(table, error))?;
        Ok((bidder, wire, Envelope { sealed, opening: opening.map(|opening| opening.opening()) }))
    };
    store.scan(table)?.into_iter().map(read).collect()
}

fn envelope_key(slot: SlotNumber, bidder: Address) -> Vec<u8> {
    [slot.to_be_bytes().as_slice(), bidder.as_slice()].concat()
}

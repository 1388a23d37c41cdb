//! Epochs: sold ahead of time, and what becomes of the rights until their slots.

use std::{collections::BTreeMap, sync::Arc};

use alloy_primitives::{B256, U64, keccak256};
use jsonrpsee::core::RpcResult;
use lockstep_market::{
    AcceptedBid, Acquisition, EpochBook, EpochClosed, EpochSale, HandedOver, Marketplace, Outcome, Right, Sale, Selling,
    seed_commitment, slot_seed,
};
use lockstep_primitives::{EpochBid, RollupSet, SlotNumber, recover};
use lockstep_rpc::wire::{
    BidReceipt, Decimal, EpochBidWire, EpochLot, EpochView, HeldView, RightOfferWire, RightTransferWire, RightView,
    Sale as SaleView, SeedView,
};
use lockstep_store::{Queued, StoreError, Table};
use serde::{Deserialize, Serialize};

use super::{
    Changes, Inner, MarketRole, market_error,
    rows::{RowError, wrong},
    rpc::bid_view,
};
use crate::clock::{now_ms, sleep_until};

/// Closed epochs that answers tell of.
const MAX_CLOSED_EPOCHS: usize = 16;

/// A bid for an epoch as it is stored, among other bids.
#[derive(Serialize, Deserialize)]
pub(super) struct EpochRow {
    epoch_bid: EpochBidWire,
}

impl EpochRow {
    /// Who bids, and what.
    ///
    /// # Errors
    /// When nobody can have signed it.
    pub(super) fn bid(&self) -> Result<(alloy_primitives::Address, EpochBid), RowError> {
        let bid = self.epoch_bid.bid();
        let bidder = recover(bid.digest(), &self.epoch_bid.signature).map_err(|error| wrong(Table::Bids, error))?;
        Ok((bidder, bid))
    }
}

/// Epochs that are closed, with what was bid.
pub(super) type ClosedEpochs = BTreeMap<u64, (EpochSale, Vec<AcceptedBid>)>;

impl MarketRole {
    /// Closes every epoch at its time, for ever.
    pub(crate) async fn run_epochs(self: Arc<Self>) {
        while let Some((epoch, close_ms)) = self.next_epoch() {
            sleep_until(close_ms).await;
            // What is closed a slot late is given up by the loop over slots.
            if now_ms() < close_ms.saturating_add(self.settings.timings.clock.slot_ms) {
                self.close_epoch(epoch).await;
            }
            sleep_until(close_ms.saturating_add(1)).await;
        }
    }

    /// The epoch that is sold now or next, and until when.
    fn next_epoch(&self) -> Option<(u64, u64)> {
        let inner = self.inner.lock();
        let calendar = inner.market.calendar()?;
        let epoch = calendar.ahead_closed(0, now_ms()).end.max(inner.market.epochs_closed_before());
        let window = calendar.times(calendar.slots_of(epoch)?.start)?.ahead?;
        Some((epoch, window.closes_ms))
    }

    async fn close_epoch(&self, epoch: u64) {
        let ended = self.inner.lock().market.end_epoch(epoch);
        let EpochBook { sale, auction } = match ended {
            Ok(book) => book,
            Err(error) => return tracing::error!(epoch, %error, "the epoch could not be closed"),
        };
        let Selling::Slots(mechanism) = self.settings.selling.clone() else { return };
        let seed = slot_seed(self.epoch_secret(epoch), sale.sale().slot(), &[]);
        let decided = tokio::task::spawn_blocking(move || {
            let outcome = Outcome::decide(mechanism.as_ref(), sale.sale(), auction.close().1, seed);
            (sale, outcome)
        });
        let decided = decided.await;
        let queued = {
            let mut inner = self.inner.lock();
            let settled = decided
                .map_err(|error| error.to_string())
                .and_then(|(sale, outcome)| inner.market.settle_epoch(sale, outcome).map_err(|error| error.to_string()));
            match settled {
                Ok(closed) => self.note_epoch(&mut inner, epoch, closed),
                Err(error) => return tracing::error!(epoch, %error, "the epoch could not be settled"),
            }
        };
        if let Err(error) = self.written(queued).await {
            tracing::error!(epoch, %error, "what was sold of the epoch is not on disk");
        }
    }

    fn note_epoch(&self, inner: &mut Inner, epoch: u64, closed: EpochClosed) -> Result<Queued, StoreError> {
        let EpochClosed { outcome, sale, rights, postings } = closed;
        if !outcome.gap.is_zero() {
            tracing::warn!(epoch, gap = %outcome.gap, "the search for winners was cut short: the sale may not be the best");
        }
        tracing::debug!(epoch, bids = outcome.bids.len(), rights = rights.len(), "epoch closed");
        metrics::counter!("lockstep_market_epochs_total").increment(1);
        let mut changes = Changes::new(&inner.market);
        outcome.bids.iter().for_each(|bid| changes.no_bid(bid));
        rights.iter().for_each(|right| changes.right(right));
        postings.iter().for_each(|posting| changes.posting(posting));
        let ops = changes.into_ops();
        inner.note_postings(&postings);
        inner.epochs.insert(epoch, (sale, outcome.bids));
        while inner.epochs.len() > MAX_CLOSED_EPOCHS {
            inner.epochs.pop_first();
        }
        self.store.queue(ops)
    }

    /// The market's part of what draws of an epoch are made with.
    fn epoch_secret(&self, epoch: u64) -> B256 {
        let purpose = [b"lockstep seed of epoch ".as_slice(), &epoch.to_be_bytes()].concat();
        keccak256(self.settings.key.sign_bytes(keccak256(purpose)))
    }

    pub(super) async fn take_epoch_bid(&self, wire: EpochBidWire) -> RpcResult<BidReceipt> {
        self.has_room()?;
        let (bid_hash, queued) = {
            let mut inner = self.inner.lock();
            let taken = inner.market.bid_ahead(&wire.bid(), &wire.signature, now_ms()).map_err(|error| market_error(&error))?;
            let mut changes = Changes::new(&inner.market);
            let mut place = None;
            match (&taken.removed, &taken.taken_back) {
                (Some(removed), Some(by)) => place = Some(changes.taken_back(removed, by, true)),
                (Some(removed), None) => changes.no_bid(removed),
                (None, _) => {}
            }
            if let Some(added) = &taken.added {
                changes.epoch_bid(added, &EpochRow { epoch_bid: wire });
            }
            taken.posting.iter().for_each(|posting| changes.posting(posting));
            let ops = changes.into_ops();
            inner.taken_back.extend(place);
            inner.note_postings(taken.posting.as_slice());
            (taken.digest, self.store.queue(ops))
        };
        self.written(queued).await?;
        Ok(BidReceipt { bid_hash })
    }

    pub(super) fn epoch(&self, epoch: Option<u64>) -> RpcResult<Option<EpochView>> {
        let now = now_ms();
        let mut inner = self.inner.lock();
        let open = inner.market.open_epoch(now).map(|(epoch, _)| epoch);
        let Some(epoch) = epoch.or(open) else { return Ok(None) };
        let known = match inner.epochs.get(&epoch) {
            Some((sale, bids)) => Some(("closed", sale.clone(), bids.iter().map(bid_view).collect())),
            None if open == Some(epoch) => {
                let book = inner.market.epoch(epoch, now).map_err(|error| market_error(&error))?;
                Some(("open", book.sale.clone(), Vec::new()))
            }
            None => None,
        };
        let Some((state, sale, bids)) = known else { return Ok(None) };
        let first = sale.sale().slot();
        let Some(calendar) = inner.market.calendar() else { return Ok(None) };
        let slots = calendar.slots_of(epoch).map_or(0, |slots| slots.end - slots.start);
        let window = calendar.times(first).and_then(|times| times.ahead);
        let secret = self.epoch_secret(epoch);
        Ok(Some(EpochView {
            epoch,
            first_slot: first,
            slots,
            close_ms: window.map_or(0, |window| window.closes_ms),
            state: state.to_owned(),
            on_sale: lots(&sale),
            seed_commitment: seed_commitment(secret),
            seed: (state == "closed").then(|| SeedView { secret, salts: Vec::new() }),
            bids,
        }))
    }

    pub(super) fn rights(&self, slot: SlotNumber) -> Vec<RightView> {
        let inner = self.inner.lock();
        let rights = inner.market.rights().of_slot(slot).map(|(chain, right)| RightView {
            chain_id: U64::from(chain),
            granted_to: right.granted.holder,
            how: right.granted.how.name().to_owned(),
            price: Decimal(right.granted.price),
            holder: right.holder(),
            proposer: right.proposer(),
            resold_for: right.resale.map(|resale| Decimal(resale.price)),
            offer: right.offer.map(Decimal),
            delegated_for: right.delegation.map(|delegation| Decimal(delegation.price)),
            ending: right.ending.map(|ending| ending.name().to_owned()),
            l1_view: inner.market.l1_view(slot, chain).map(|view| view.name().to_owned()),
        });
        rights.collect()
    }

    pub(super) async fn take_offer(&self, wire: RightOfferWire) -> RpcResult<bool> {
        let offer = wire.offer()?;
        self.has_room()?;
        let queued = {
            let mut inner = self.inner.lock();
            let changed = inner.market.offer_rights(&offer, &wire.signature, now_ms()).map_err(|error| market_error(&error))?;
            self.note_handed_over(&mut inner, &changed)
        };
        self.written(queued).await.map(|()| true)
    }

    pub(super) async fn take_transfer(&self, wire: RightTransferWire) -> RpcResult<bool> {
        let transfer = wire.transfer()?;
        self.has_room()?;
        let queued = {
            let mut inner = self.inner.lock();
            let changed = inner.market.transfer_rights(&transfer, &wire.holder_signature, &wire.taker_signature, now_ms());
            let changed = changed.map_err(|error| market_error(&error))?;
            self.note_handed_over(&mut inner, &changed)
        };
        self.written(queued).await.map(|()| true)
    }

    fn note_handed_over(&self, inner: &mut Inner, changed: &HandedOver) -> Result<Queued, StoreError> {
        let mut changes = Changes::new(&inner.market);
        changed.rights.iter().for_each(|right| changes.right(right));
        changed.postings.iter().for_each(|posting| changes.posting(posting));
        let ops = changes.into_ops();
        inner.note_postings(&changed.postings);
        self.store.queue(ops)
    }
}

/// What is not for sale in a slot: sold ahead and not offered, or not sold by its rollup.
pub(super) fn held(market: &Marketplace, sale: &Sale) -> Vec<HeldView> {
    let slot = sale.slot();
    let on_sale: RollupSet = sale.terms().keys().copied().collect();
    let view = |(chain, default_proposer)| {
        let right = market.rights().get(slot, chain).filter(|right| right.granted.how == Acquisition::Ahead);
        let proposer = right.map_or(default_proposer, Right::proposer);
        let price = right.map(|right| right.granted.price).unwrap_or_default();
        Some(HeldView { proposer, sale: SaleView::new(market.registry().at(chain, slot)?, &[chain].into(), price) })
    };
    sale.default_proposers(&on_sale).into_iter().filter_map(view).collect()
}

fn lots(sale: &EpochSale) -> Vec<EpochLot> {
    let on_sale = sale.sale().units().iter().flat_map(|unit| unit.iter().map(move |chain| (*chain, unit)));
    let lots = on_sale.filter_map(|(chain, unit)| {
        let slots = sale.lots().iter().filter(|(_, lot)| lot.contains_key(&chain)).map(|(slot, _)| *slot);
        Some(EpochLot {
            chain_id: U64::from(chain),
            unit: unit.iter().map(|member| U64::from(*member)).collect(),
            reserve: Decimal(sale.sale().terms().get(&chain)?.reserve),
            slots: slots.collect(),
        })
    });
    let mut lots: Vec<EpochLot> = lots.collect();
    lots.sort_by_key(|lot| lot.chain_id);
    lots
}

//! Epochs: sold ahead of time to bids, all of their slots at once.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, U256};
use lockstep_primitives::{Bid, BidCancellation, ChainId, EpochBid, RollupSet, SlotNumber, recover};

use super::{Abandoned, Marketplace, Selling, Taken, with_bond, without_l1};
use crate::{
    AcceptedBid, Acquisition, Calendar, EpochError, EpochSale, Granted, HoldId, MarketError, Outcome, Posting, RightRecord,
    SlotAuction, TicketError, most_payable,
};

/// The auctions of epochs.
#[derive(Clone, Debug)]
pub(super) struct Epochs {
    calendar: Calendar,
    open: BTreeMap<u64, EpochBook>,
    /// Whose bidding has ended and whose winners are not known yet.
    deciding: Option<u64>,
    /// Epochs before this one are closed.
    closed_before: u64,
}

/// What is on sale in an epoch, and what is bid.
#[derive(Clone, Debug)]
pub struct EpochBook {
    /// What is on sale.
    pub sale: EpochSale,
    /// What is bid, under the number of the epoch's first slot.
    pub auction: SlotAuction,
}

/// What closing an epoch changed.
#[derive(Debug)]
pub struct EpochClosed {
    /// Who won what, under the number of the epoch's first slot.
    pub outcome: Outcome,
    /// What was on sale.
    pub sale: EpochSale,
    /// Who may propose where, by slot.
    pub rights: Vec<RightRecord>,
    /// What was released, and what is held for each slot now.
    pub postings: Vec<Posting>,
}

impl Epochs {
    pub(super) const fn new(calendar: Calendar, closed_before: u64) -> Self {
        Self { calendar, open: BTreeMap::new(), deciding: None, closed_before }
    }

    pub(super) const fn calendar(&self) -> &Calendar {
        &self.calendar
    }

    /// The first slot that may still be sold ahead; those before it are sold just in time.
    pub(super) fn sold_ahead_from(&self) -> SlotNumber {
        self.calendar.slots_of(self.closed_before).map_or(SlotNumber::MAX, |slots| slots.start)
    }

    /// The first slot whose terms no sale ahead depends on at that time.
    pub(super) fn unlisted_from(&self, now_ms: u64) -> SlotNumber {
        let closed = self.calendar.ahead_closed(0, now_ms).end;
        let next = self.calendar.ahead_open(now_ms).map_or(closed, |open| open.saturating_add(1));
        self.calendar.slots_of(next.max(self.closed_before)).map_or(SlotNumber::MAX, |slots| slots.start)
    }

    fn first_slot(&self, epoch: u64) -> SlotNumber {
        self.calendar.slots_of(epoch).map_or(SlotNumber::MAX, |slots| slots.start)
    }
}

impl Marketplace {
    /// The epoch that is being sold, and until when.
    pub fn open_epoch(&self, now_ms: u64) -> Option<(u64, u64)> {
        let epochs = self.epochs.as_ref()?;
        let epoch = epochs.calendar.ahead_open(now_ms).filter(|epoch| *epoch >= epochs.closed_before)?;
        let window = epochs.calendar.times(epochs.first_slot(epoch))?.ahead?;
        Some((epoch, window.closes_ms))
    }

    /// The calendar by which epochs are sold, if they are.
    pub fn calendar(&self) -> Option<&Calendar> {
        self.epochs.as_ref().map(Epochs::calendar)
    }

    /// Epochs before this one are closed.
    pub fn epochs_closed_before(&self) -> u64 {
        self.epochs.as_ref().map_or(0, |epochs| epochs.closed_before)
    }

    /// Opens an epoch for bids, unless it is open, and returns what is on sale and bid.
    ///
    /// # Errors
    /// When it is not being sold at that time.
    pub fn epoch(&mut self, epoch: u64, now_ms: u64) -> Result<&EpochBook, MarketError> {
        if self.epochs.is_none() {
            return Err(EpochError::NotSoldAhead.into());
        }
        if self.open_epoch(now_ms).map(|(open, _)| open) != Some(epoch) {
            return Err(EpochError::NotOpen { epoch, now_ms }.into());
        }
        self.epoch_book(epoch).map(|book| &*book)
    }

    /// Takes a bid for an epoch, when the bidder's deposit covers all that its bids for it may cost. The same bid again changes
    /// nothing, and an amount of zero takes back the one that is there.
    ///
    /// # Errors
    /// Names what is wrong with the bid, or what the deposit lacks; slots are named by the epoch's first. Nothing is then changed.
    pub fn bid_ahead(&mut self, ahead: &EpochBid, signature: &[u8], now_ms: u64) -> Result<Taken, MarketError> {
        if self.tickets.is_some() {
            return Err(TicketError::TicketsOnly.into());
        }
        let digest = ahead.digest();
        let book = self.epoch(ahead.epoch, now_ms)?;
        let bid = offer(ahead, book.auction.sale().slot());
        let slot = bid.slot;
        if ahead.amount.is_zero() {
            let bidder = recover(digest, signature).map_err(|_| MarketError::InvalidBidSignature { slot })?;
            let Bid { rollups, exclusive, nonce, .. } = bid;
            let asked = BidCancellation { slot, rollups, exclusive, nonce };
            let removed = self.epoch_book(ahead.epoch)?.auction.take_back(bidder, &asked)?;
            let posting = self.cover_epoch(ahead.epoch, bidder, None)?;
            let taken_back = Some(asked);
            return Ok(Taken { bidder, digest, added: None, removed: Some(removed), taken_back, posting });
        }
        // That it comes in time was seen to above.
        let admission = book.auction.check_signed(bid, digest, signature, now_ms, u64::MAX)?;
        let accepted = admission.bid().clone();
        let bidder = accepted.bidder;
        if admission.is_known() {
            return Ok(Taken { bidder, digest, added: None, removed: None, taken_back: None, posting: None });
        }
        self.check_staying(bidder)?;
        let posting = self.cover_epoch(ahead.epoch, bidder, Some(&accepted))?;
        let removed = self.epoch_book(ahead.epoch)?.auction.put(admission);
        Ok(Taken { bidder, digest, added: Some(accepted), removed, taken_back: None, posting })
    }

    /// Ends the bidding for an epoch, determines the winners, and grants them the rights.
    ///
    /// # Errors
    /// As [`Marketplace::end_epoch`] and [`Marketplace::settle_epoch`].
    pub fn close_epoch(&mut self, epoch: u64, seed: B256) -> Result<EpochClosed, MarketError> {
        let EpochBook { sale, auction } = self.end_epoch(epoch)?;
        let outcome = match &self.rules.selling {
            Selling::Slots(mechanism) => Outcome::decide(mechanism.as_ref(), sale.sale(), auction.close().1, seed),
            Selling::Tickets(_) => return Err(TicketError::TicketsOnly.into()),
        };
        self.settle_epoch(sale, outcome)
    }

    /// Ends the bidding for an epoch, and hands out what is to be decided. [`Marketplace::settle_epoch`] takes the outcome; until
    /// then no slot of the epoch is sold by itself.
    ///
    /// # Errors
    /// When it is closed already, or cannot be put on sale.
    pub fn end_epoch(&mut self, epoch: u64) -> Result<EpochBook, MarketError> {
        self.check_in_time(epoch)?;
        self.epoch_book(epoch)?;
        let Some(epochs) = self.epochs.as_mut() else { return Err(EpochError::NotSoldAhead.into()) };
        epochs.deciding = Some(epoch);
        epochs.open.remove(&epoch).ok_or_else(|| EpochError::ClosedLate { epoch }.into())
    }

    /// Grants what was won for each slot, holds what is owed for it, and releases the rest.
    ///
    /// # Errors
    /// When the epoch was closed meanwhile, because deciding took too long: then nobody wins, and all is released with the next
    /// [`Marketplace::abandon`]. Or when a book cannot be written, which only a damaged store can cause.
    pub fn settle_epoch(&mut self, sale: EpochSale, outcome: Outcome) -> Result<EpochClosed, MarketError> {
        self.check_in_time(sale.epoch())?;
        if let Some(epochs) = self.epochs.as_mut() {
            epochs.closed_before = sale.epoch().saturating_add(1);
            epochs.deciding = None;
        }
        let mut records = Vec::new();
        for win in &outcome.wins {
            for chain in win.rollups.iter().copied() {
                for (slot, price) in sale.parts(win, chain) {
                    let lot = sale.lots().get(&slot).and_then(|lot| lot.get(&chain));
                    let default_proposer = lot.map(|terms| terms.default_proposer).unwrap_or_default();
                    let granted = Granted { holder: win.bidder, how: Acquisition::Ahead, price, default_proposer };
                    self.rights.grant(slot, chain, granted)?;
                    self.unsettled.insert((slot, chain));
                    records.push((slot, chain));
                }
            }
        }
        let mut postings = self.release_epoch(sale.sale().slot())?;
        let mut owing: Vec<(SlotNumber, Address)> = Vec::new();
        owing.extend(records.iter().filter_map(|(slot, chain)| Some((*slot, self.rights.get(*slot, *chain)?.holder()))));
        owing.sort_unstable();
        owing.dedup();
        for (slot, bidder) in owing {
            // It was put up for the epoch, so it is free now; never more than there is, because this must not fail.
            let owed = self.owed(slot, bidder).min(self.ledger.balance(bidder).free);
            let posting = self.ledger.hold(HoldId { slot, bidder }, owed)?;
            if !posting.is_empty() {
                postings.push(posting);
            }
        }
        let right =
            |(slot, chain): (SlotNumber, ChainId)| Some(RightRecord { slot, chain, right: *self.rights.get(slot, chain)? });
        let rights = records.into_iter().filter_map(right).collect();
        Ok(EpochClosed { outcome, sale, rights, postings })
    }

    /// Gives up epochs that should have been closed a slot ago and were not: their slots are sold just in time.
    pub(super) fn abandon_epochs(&mut self, now_ms: u64, abandoned: &mut Abandoned) -> Result<(), MarketError> {
        let Some(epochs) = self.epochs.as_mut() else { return Ok(()) };
        let late_ms = now_ms.saturating_sub(self.rules.clock.slot_ms);
        let closed = epochs.calendar.ahead_closed(0, late_ms).end;
        epochs.closed_before = epochs.closed_before.max(closed);
        let mut given_up: Vec<u64> = epochs.deciding.take_if(|epoch| *epoch < closed).into_iter().collect();
        while let Some(book) = epochs.open.first_entry().filter(|book| *book.key() < closed) {
            given_up.push(*book.key());
            abandoned.bids.extend(book.remove().auction.close().1);
        }
        let firsts: Vec<SlotNumber> = given_up.into_iter().map(|epoch| epochs.first_slot(epoch)).collect();
        for slot in firsts {
            abandoned.postings.extend(self.release_epoch(slot)?);
        }
        Ok(())
    }

    /// Puts a stored bid back into its book. What covers it is in the ledger.
    pub(super) fn restore_epoch_bid(&mut self, bidder: Address, ahead: &EpochBid) -> Result<(), MarketError> {
        if self.epochs.is_some() && ahead.epoch >= self.epochs_closed_before() {
            let auction = &mut self.epoch_book(ahead.epoch)?.auction;
            let bid = offer(ahead, auction.sale().slot());
            auction.restore(AcceptedBid { bidder, digest: ahead.digest(), bid });
        }
        Ok(())
    }

    /// Puts back what is remembered of a bid for an epoch that was taken back.
    pub(super) fn restore_epoch_taken_back(&mut self, bidder: Address, asked: &BidCancellation) -> Result<(), MarketError> {
        let epoch = self.epochs.as_ref().and_then(|epochs| epochs.calendar.epoch_of(asked.slot));
        if let Some(epoch) = epoch.filter(|epoch| *epoch >= self.epochs_closed_before()) {
            self.epoch_book(epoch)?.auction.restore_taken_back(bidder, asked);
        }
        Ok(())
    }

    fn check_in_time(&self, epoch: u64) -> Result<(), MarketError> {
        match &self.epochs {
            None => Err(EpochError::NotSoldAhead.into()),
            Some(epochs) if epoch < epochs.closed_before => Err(EpochError::ClosedLate { epoch }.into()),
            Some(_) => Ok(()),
        }
    }

    /// Holds what the bidder's bids for an open epoch may cost, this one in the place of the one that it replaces.
    fn cover_epoch(&mut self, epoch: u64, bidder: Address, new: Option<&AcceptedBid>) -> Result<Option<Posting>, MarketError> {
        let Some(rules) = self.rules.deposits else { return Ok(None) };
        let book = self.epoch_book(epoch)?;
        let slot = book.auction.sale().slot();
        let replaced =
            |other: &&AcceptedBid| new.is_none_or(|new| other.bid.rollups != new.bid.rollups || other.tag() != new.tag());
        let payable = most_payable(book.auction.bids_of(bidder).filter(replaced).chain(new));
        Ok(Some(self.ledger.hold(HoldId { slot, bidder }, with_bond(payable, &rules))?))
    }

    /// Releases what was put up for an epoch that begins with this slot.
    fn release_epoch(&mut self, slot: SlotNumber) -> Result<Vec<Posting>, MarketError> {
        let mut postings = Vec::new();
        for bidder in self.ledger.holders(slot) {
            postings.push(self.ledger.hold(HoldId { slot, bidder }, U256::ZERO)?);
        }
        Ok(postings)
    }

    fn epoch_book(&mut self, epoch: u64) -> Result<&mut EpochBook, MarketError> {
        use std::collections::btree_map::Entry;
        let Some(epochs) = self.epochs.as_mut() else { return Err(EpochError::NotSoldAhead.into()) };
        match epochs.open.entry(epoch) {
            Entry::Occupied(book) => Ok(book.into_mut()),
            Entry::Vacant(place) => {
                let (calendar, clock) = (epochs.calendar, &self.rules.clock);
                let slots = calendar.slots_of(epoch).unwrap_or_default();
                let first = slots.start;
                // Everybody is told the same reserves, whenever the epoch is first asked for.
                let opens_ms = calendar.times(first).and_then(|times| times.ahead).map_or(0, |window| window.opens_ms);
                let before = clock.slot_at(opens_ms).unwrap_or_default();
                let mut sales = Vec::new();
                for slot in slots {
                    let distance = calendar.distance(slot).unwrap_or(u64::MAX);
                    let reaching = self.registry.all_at(slot).filter(|terms| distance <= terms.slots_ahead);
                    let reaching: RollupSet = reaching.map(|terms| terms.chain).collect();
                    if !reaching.is_empty() {
                        let sale = self.registry.sale(clock, slot, before, &self.histories)?;
                        sales.push((without_l1(sale, self.l1.as_ref(), clock), reaching));
                    }
                }
                let sale = EpochSale::new(epoch, first, sales)?;
                let auction = SlotAuction::open(sale.sale().clone());
                Ok(place.insert(EpochBook { sale, auction }))
            }
        }
    }
}

/// The bid in the book of an epoch that begins with this slot.
fn offer(ahead: &EpochBid, slot: SlotNumber) -> Bid {
    let EpochBid { rollups, amount, exclusive, nonce, .. } = ahead.clone();
    Bid { slot, rollups, amount, exclusive, nonce }
}

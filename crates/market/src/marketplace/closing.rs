//! The end of a slot's bidding: winners are determined, rights granted, and what losers put up is released.

use std::collections::BTreeMap;

use alloy_primitives::{B256, U256};
use lockstep_primitives::{ChainId, SlotNumber};

use super::{MAX_CLOSED, Marketplace, Reported, Selling};
use crate::{
    AcceptedBid, Acquisition, Clearing, Envelopes, Figure, Granted, HoldId, MarketError, Outcome, Posting, RightRecord, Sale,
    Win, floors,
};

/// What was bid for a slot, when its bidding has ended.
#[derive(Clone, Debug)]
pub struct Bidding {
    /// What was on sale.
    pub sale: Sale,
    /// The bids; of sealed ones those that were opened.
    pub bids: Vec<AcceptedBid>,
    /// What was sealed.
    pub envelopes: Envelopes,
    /// What was decided before: by tickets that were drawn, or by the sale of the slot's epoch.
    pub before: Clearing,
}

impl Bidding {
    /// Who won: by the mechanism, or because its ticket was drawn.
    pub fn decide(self, selling: &Selling, seed: B256) -> (Sale, Envelopes, Outcome) {
        let Self { sale, bids, envelopes, before } = self;
        let outcome = match selling {
            Selling::Slots(mechanism) => Outcome::decide_beside(mechanism.as_ref(), &sale, bids, before.wins, seed),
            Selling::Tickets(_) => Outcome::of(before, &sale, bids),
        };
        (sale, envelopes, outcome)
    }
}

/// What became of slots that should have been closed and were not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Abandoned {
    /// The bids that are gone.
    pub bids: Vec<AcceptedBid>,
    /// For which slots, and of which classes, tickets had been drawn.
    pub drawn: Vec<(SlotNumber, ChainId)>,
    /// Rights that were bought ahead.
    pub lapsed: Vec<Reported>,
    /// What was released.
    pub postings: Vec<Posting>,
}

/// What closing a slot changed.
#[derive(Debug)]
pub struct Closed {
    /// Who won what.
    pub outcome: Outcome,
    /// What was on sale.
    pub sale: Sale,
    /// What was sealed.
    pub envelopes: Envelopes,
    /// Who may propose where.
    pub rights: Vec<RightRecord>,
    /// What was released.
    pub postings: Vec<Posting>,
    /// What the best bids for each rollup alone said that it is worth.
    pub computed: BTreeMap<ChainId, U256>,
}

impl Marketplace {
    /// Ends the bidding for a slot and determines the winners. `seed` is what draws are made with.
    ///
    /// # Errors
    /// As [`Marketplace::end_bidding`] and [`Marketplace::settle`].
    pub fn close(&mut self, slot: SlotNumber, seed: B256) -> Result<Closed, MarketError> {
        let bidding = self.end_bidding(slot)?;
        let (sale, envelopes, outcome) = bidding.decide(&self.rules.selling, seed);
        self.settle(sale, envelopes, outcome)
    }

    /// Ends the bidding for a slot, and hands out what is to be decided: with many sellers that takes a while, and need not hold up
    /// the bidding for other slots. [`Marketplace::settle`] takes the outcome.
    ///
    /// # Errors
    /// When the slot is closed already, or its terms cannot be put on sale.
    pub fn end_bidding(&mut self, slot: SlotNumber) -> Result<Bidding, MarketError> {
        if slot < self.closed_before {
            let first = self.closed_before;
            return Err(MarketError::NotOpen { slot, first, last: first });
        }
        self.book(slot)?;
        let Some(book) = self.open.remove(&slot) else { return Err(MarketError::NotOpen { slot, first: slot, last: slot }) };
        self.closed_before = slot.saturating_add(1);
        let (sale, bids) = book.close();
        let before = if self.tickets.is_some() { self.drawn_for(&sale) } else { self.held_in(slot) };
        Ok(Bidding { sale, bids, envelopes: self.envelopes.remove(&slot).unwrap_or_default(), before })
    }

    /// Grants what was won, takes what is forfeited, and releases what losers put up.
    ///
    /// # Errors
    /// When a book cannot be written, which only a damaged store can cause.
    pub fn settle(&mut self, sale: Sale, envelopes: Envelopes, outcome: Outcome) -> Result<Closed, MarketError> {
        let slot = sale.slot();
        let mut postings = self.forfeit(&sale, &envelopes)?;
        let rights = self.grant_all(&outcome, &sale)?;
        self.drop_without_right(slot);
        postings.extend(self.release_losers(slot)?);
        let computed = self.note_computed(&sale, &outcome.bids);
        self.closed.insert(slot, outcome.clone());
        while self.closed.len() > MAX_CLOSED {
            self.closed.pop_first();
        }
        Ok(Closed { outcome, sale, envelopes, rights, postings, computed })
    }

    /// Drops the bids of slots that should have been closed and were not, because the market was not there: nobody proposes in them
    /// but their default proposers, and all that was put up is released. So it is with tickets that were drawn for such slots, and with
    /// rights that were bought ahead: nobody could be told to propose by them.
    ///
    /// # Errors
    /// When the ledger cannot be written, which only a damaged store can cause.
    pub fn abandon(&mut self, now_ms: u64) -> Result<Abandoned, MarketError> {
        let (passed, first) = (self.closed_before, self.first_open(now_ms));
        let mut abandoned = Abandoned::default();
        let slept_through: Vec<(SlotNumber, ChainId)> =
            self.unsettled.range((passed, ChainId::MIN)..(first.max(passed), ChainId::MIN)).copied().collect();
        for (slot, chain) in slept_through {
            abandoned.lapsed.extend(self.lapse_right(slot, chain)?);
        }
        while let Some(book) = self.open.first_entry().filter(|book| *book.key() < first) {
            let (slot, book) = book.remove_entry();
            self.envelopes.remove(&slot);
            self.calls.retain(|key, _| key.slot != slot);
            if let Some(tickets) = self.tickets.as_mut() {
                abandoned.drawn.extend(tickets.take_drawn(slot).into_iter().map(|(class, _)| (slot, class)));
            }
            abandoned.bids.extend(book.close().1);
            for bidder in self.ledger.holders(slot) {
                abandoned.postings.extend(self.release(slot, bidder)?);
            }
        }
        self.closed_before = self.closed_before.max(first);
        if !std::mem::replace(&mut self.looked_through, true) {
            // What was put up for proposals before a restart backs nothing any more.
            let closed = |id: &&HoldId| id.slot < self.closed_before;
            let held: Vec<HoldId> = self.ledger.record().holds.keys().filter(closed).copied().collect();
            for HoldId { slot, bidder } in held {
                abandoned.postings.extend(self.release(slot, bidder)?);
            }
        }
        self.abandon_epochs(now_ms, &mut abandoned)?;
        Ok(abandoned)
    }

    /// What was bought of a slot ahead, rollup by rollup, by who is to build.
    fn held_in(&self, slot: SlotNumber) -> Clearing {
        let open = self.rights.of_slot(slot).filter(|(_, right)| right.ending.is_none());
        let wins = open.map(|(chain, right)| {
            let price = right.delegation.map_or(right.granted.price, |delegation| delegation.price);
            let shares = [(chain, price)].into();
            Win { bid: B256::ZERO, bidder: right.proposer(), rollups: [chain].into(), price, shares }
        });
        Clearing::new(wins.collect(), U256::ZERO)
    }

    /// Leaves held what is owed for rights, with the bond, and releases the rest.
    fn release_losers(&mut self, slot: SlotNumber) -> Result<Vec<Posting>, MarketError> {
        let mut postings = Vec::new();
        for bidder in self.ledger.holders(slot) {
            postings.extend(self.release(slot, bidder)?);
        }
        Ok(postings)
    }

    fn grant_all(&mut self, outcome: &Outcome, sale: &Sale) -> Result<Vec<RightRecord>, MarketError> {
        let slot = outcome.allocation.slot;
        let defaults = sale.default_proposers(&Default::default());
        let mut records = Vec::new();
        for (chain, default_proposer) in defaults {
            let win = outcome.wins.iter().find(|win| win.rollups.contains(&chain));
            let price = win.and_then(|win| win.shares.get(&chain)).copied().unwrap_or_default();
            if let Some(right) = self.rights.get(slot, chain) {
                // Its holder bought it ahead. Who outbid what the holder wanted builds in its place.
                let (holder, offered) = (right.holder(), right.offer.is_some() && right.ending.is_none());
                if let Some(win) = win.filter(|win| offered && win.bidder != holder) {
                    self.rights.delegate(slot, holder, win.bidder, &[(chain, price)].into(), 0, u64::MAX)?;
                }
            } else {
                let granted = match win {
                    Some(win) => Granted {
                        holder: win.bidder,
                        how: if self.tickets.is_some() { Acquisition::Ticket } else { Acquisition::JustInTime },
                        price,
                        default_proposer,
                    },
                    None => Granted { holder: default_proposer, how: Acquisition::Default, price, default_proposer },
                };
                self.rights.grant(slot, chain, granted)?;
                self.unsettled.insert((slot, chain));
            }
            if let Some(right) = self.rights.get(slot, chain) {
                records.push(RightRecord { slot, chain, right: *right });
            }
        }
        Ok(records)
    }

    /// Notes what bids say that each rollup is worth alone: the base of reserves that are computed.
    fn note_computed(&mut self, sale: &Sale, bids: &[AcceptedBid]) -> BTreeMap<ChainId, U256> {
        let slot = sale.slot();
        let offered = bids.iter().filter(|accepted| sale.units().is_unit(&accepted.bid.rollups));
        let offered: std::collections::BTreeSet<ChainId> = offered.flat_map(|accepted| accepted.bid.rollups.clone()).collect();
        let mut computed = floors(sale, bids);
        computed.retain(|chain, _| offered.contains(chain));
        for (chain, value) in &computed {
            // What the history refuses, because it is too much to be true, does not count.
            let _too_much = self.history(*chain).record(slot, Figure::Computed(*value), slot);
        }
        computed
    }

    pub(super) fn history(&mut self, chain: ChainId) -> &mut crate::EarningsHistory {
        self.histories.entry(chain).or_insert_with(|| crate::EarningsHistory::new(chain))
    }
}

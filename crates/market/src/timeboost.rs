//! Timeboost: the sealed second-price auction of an express lane, round by round, as Arbitrum's auctioneer and its contract
//! `ExpressLaneAuction` run it (Offchain Labs, 2024, "Timeboost", the autonomous auctioneer and the auction contract).
//!
//! This is the part of `auctioneer_submitBid` that decides: what is signed, in which order a bid is checked and with which error
//! string it is refused, when a round takes bids, and what the two best bids make the winner pay. The tests show that a round so
//! resolved is what [`SecondPrice`](crate::SecondPrice) makes of the same offers.
//!
//! Where it differs from the auctioneer that is published: the book is keyed by the bidder and not by the controller that a bid
//! names, so that nobody can push another's bid out; who has deposited nothing is refused before it is counted, so that keys made
//! for the purpose fill nothing; and at most [`MAX_TIMEBOOST_BIDDERS`] bidders have a place in a round.

mod bid;
mod error;
mod round;

pub use bid::{TIMEBOOST_BID_TYPE, TIMEBOOST_BID_TYPEHASH, TimeboostBid, TimeboostDomain, tie_break};
pub use error::{RoundTimingError, TimeboostError};
pub use round::RoundTiming;

use std::collections::BTreeMap;

use alloy_primitives::{Address, U256};

/// How many bidders have a place in a round. When there are more, the lowest bid goes.
pub const MAX_TIMEBOOST_BIDDERS: usize = 4096;

/// How many bids of one bidder are looked at in a round; a record that is restored may say otherwise.
pub const MAX_TIMEBOOST_SUBMISSIONS: u8 = 5;

/// The auction of one chain's express lane: the bids for the next round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeboostAuction {
    record: TimeboostRecord,
}

/// All that an auction knows, to be kept over a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeboostRecord {
    /// What is sold, and for which contract bids are signed.
    pub domain: TimeboostDomain,
    /// When rounds begin and bids are taken.
    pub timing: RoundTiming,
    /// How many bids of one bidder are looked at in a round.
    pub max_submissions: u8,
    /// The least that a bid may offer, in the bidding token's smallest unit.
    pub reserve: U256,
    /// The round that the entries are for.
    pub round: u64,
    /// By bidder: what it has sent in.
    pub entries: BTreeMap<Address, TimeboostEntry>,
    /// The last round whose auction was resolved.
    pub resolved: Option<u64>,
    /// How many bids lost their place to greater ones, in all rounds.
    pub dropped: u64,
    /// How many bids lapsed because their round began before its auction was resolved, in all rounds.
    pub lapsed: u64,
}

/// What a bidder has sent in for a round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimeboostEntry {
    /// How many bids: also those beyond its deposit.
    pub submissions: u8,
    /// The last one that was accepted.
    pub bid: Option<TimeboostBid>,
}

/// A bid in a round's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedBid {
    /// Who signed it.
    pub bidder: Address,
    /// What it offers.
    pub bid: TimeboostBid,
}

/// The express lane of a round, sold: with the times of [`LaneResult`] this is what the contract's event `AuctionResolved` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneSale {
    /// The winning bid. Its controller has the lane, its bidder pays.
    pub first: PlacedBid,
    /// The second bid, of another bidder; `None` when the winner was alone.
    pub second: Option<PlacedBid>,
    /// What the winner owes: the second bid's amount, or the reserve.
    pub price: U256,
}

/// What came of a round's auction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneResult {
    /// The round.
    pub round: u64,
    /// Who gets the express lane; `None` when no bid counted.
    pub sale: Option<LaneSale>,
    /// The first second of the round, since the Unix epoch.
    pub start_s: u64,
    /// The last second of the round.
    pub end_s: u64,
    /// Bidders whose bids did not count, because the deposit was no longer enough or the reserve has risen above them.
    pub left_out: Vec<Address>,
}

impl TimeboostAuction {
    /// An auction without bids.
    pub const fn new(domain: TimeboostDomain, timing: RoundTiming, reserve: U256) -> Self {
        let record = TimeboostRecord {
            domain,
            timing,
            max_submissions: MAX_TIMEBOOST_SUBMISSIONS,
            reserve,
            round: 0,
            entries: BTreeMap::new(),
            resolved: None,
            dropped: 0,
            lapsed: 0,
        };
        Self { record }
    }

    /// The auction that a record was made of. The signatures of its bids are taken as checked.
    ///
    /// # Errors
    /// When the record holds more than an auction does, or a bid for something else.
    pub fn restore(record: TimeboostRecord) -> Result<Self, TimeboostError> {
        let TimeboostRecord { round, domain, max_submissions, .. } = record;
        let bidders = record.entries.len();
        let impossible = |(place, (bidder, entry)): (usize, (&Address, &TimeboostEntry))| {
            let is_elsewhere = entry.bid.as_ref().is_some_and(|bid| {
                bid.round != round || bid.auction_contract != domain.contract || bid.chain != U256::from(domain.chain)
            });
            (place >= MAX_TIMEBOOST_BIDDERS || entry.submissions > max_submissions || is_elsewhere).then_some(*bidder)
        };
        let found = record.entries.iter().enumerate().find_map(impossible);
        match found {
            Some(bidder) => Err(TimeboostError::ImpossibleRecord { round, bidders, limit: MAX_TIMEBOOST_BIDDERS, bidder }),
            None => Ok(Self { record }),
        }
    }

    /// All that the auction knows.
    pub const fn record(&self) -> &TimeboostRecord {
        &self.record
    }

    /// Sets the reserve for the round on sale and those after it.
    ///
    /// # Errors
    /// From the reserve submission on until the auction is resolved, or when the clock has gone back behind the bids; the reserve
    /// then stays.
    pub fn set_reserve(&mut self, reserve: U256, now_ms: u64) -> Result<(), TimeboostError> {
        let round = self.round_at(now_ms)?;
        if self.record.timing.is_reserve_fixed_at(now_ms, self.record.resolved) {
            return Err(TimeboostError::ReserveFixed { round });
        }
        self.record.reserve = reserve;
        Ok(())
    }

    /// Who made a bid, if it may be made now: all checks but those of what the bidder has sent and deposited before, in the
    /// auctioneer's order.
    ///
    /// # Errors
    /// The first one that the bid fails.
    pub fn check(&self, bid: &TimeboostBid, now_ms: u64) -> Result<Address, TimeboostError> {
        let TimeboostRecord { domain, timing, reserve, .. } = &self.record;
        let round = bid.round;
        domain.check(bid)?;
        let wanted = self.round_at(now_ms)?;
        if round != wanted {
            return Err(TimeboostError::WrongRound { wanted, got: round });
        }
        if timing.is_closed_at(now_ms) || self.is_resolved(round) {
            return Err(TimeboostError::Closed { round });
        }
        if bid.amount < *reserve {
            return Err(TimeboostError::BelowReserve { round, reserve: *reserve, amount: bid.amount });
        }
        domain.bidder(bid)
    }

    /// Takes a bid in the place of the bidder's earlier one and says whose it is. `deposit_of` says what a bidder has deposited.
    ///
    /// # Errors
    /// See [`TimeboostError`]. The bids of the round are then unchanged.
    pub fn submit(
        &mut self,
        bid: TimeboostBid,
        now_ms: u64,
        deposit_of: impl FnOnce(Address) -> U256,
    ) -> Result<Address, TimeboostError> {
        let bidder = self.check(&bid, now_ms)?;
        let (round, limit) = (bid.round, self.record.max_submissions);
        self.turn_to(round);
        if self.record.entries.get(&bidder).is_some_and(|entry| entry.submissions >= limit) {
            return Err(TimeboostError::TooManyBids { round, bidder, limit });
        }
        let deposit = deposit_of(bidder);
        if deposit.is_zero() {
            return Err(TimeboostError::NotDepositor { round, bidder });
        }
        let is_covered = deposit >= bid.amount;
        let amount = bid.amount;
        if !self.make_room(bidder, is_covered.then_some(amount)) {
            return Err(if is_covered {
                TimeboostError::BookFull { round, bidder, amount, limit: MAX_TIMEBOOST_BIDDERS }
            } else {
                TimeboostError::InsufficientBalance { round, bidder, deposit, amount }
            });
        }
        let entry = self.record.entries.entry(bidder).or_default();
        entry.submissions = entry.submissions.saturating_add(1);
        if !is_covered {
            return Err(TimeboostError::InsufficientBalance { round, bidder, deposit, amount });
        }
        entry.bid = Some(bid);
        Ok(bidder)
    }

    /// Ends the auction of the round on sale: the two best bids of different bidders, that the reserve and the deposits allow,
    /// decide who wins and what it pays.
    ///
    /// # Errors
    /// While bids are taken, after it was resolved, or when the clock has gone back behind the bids.
    pub fn resolve(&mut self, now_ms: u64, deposit_of: impl Fn(Address) -> U256) -> Result<LaneResult, TimeboostError> {
        let round = self.round_at(now_ms)?;
        if self.is_resolved(round) {
            return Err(TimeboostError::ResolvedBefore { round });
        }
        if !self.record.timing.is_closed_at(now_ms) {
            return Err(TimeboostError::NotClosed { round });
        }
        let (start_s, end_s) = self.record.timing.span_s(round).ok_or(TimeboostError::OutOfTime { round })?;
        self.turn_to(round);
        self.record.resolved = Some(round);

        let TimeboostRecord { domain, reserve, entries, .. } = &self.record;
        let mut left_out = Vec::new();
        let mut counting: Vec<(U256, U256, PlacedBid)> = Vec::new();
        for (bidder, entry) in entries {
            let Some(bid) = &entry.bid else { continue };
            if bid.amount < *reserve || deposit_of(*bidder) < bid.amount {
                left_out.push(*bidder);
                continue;
            }
            let rank = tie_break(*bidder, domain.digest(bid));
            counting.push((bid.amount, rank, PlacedBid { bidder: *bidder, bid: bid.clone() }));
        }
        counting.sort_by_key(|(amount, rank, _)| (*amount, *rank));
        let mut best = counting.into_iter().rev().map(|(_, _, placed)| placed);
        let sale = best.next().map(|first| {
            let second = best.next();
            let price = second.as_ref().map_or(*reserve, |second| second.bid.amount);
            LaneSale { first, second, price }
        });
        Ok(LaneResult { round, sale, start_s, end_s, left_out })
    }

    /// The round on sale, if no bid of a later one is in the book already: then the clock has gone back.
    fn round_at(&self, now_ms: u64) -> Result<u64, TimeboostError> {
        let sold = self.record.timing.sold_at(now_ms);
        if sold < self.record.round {
            return Err(TimeboostError::WrongRound { wanted: self.record.round, got: sold });
        }
        Ok(sold)
    }

    fn is_resolved(&self, round: u64) -> bool {
        self.record.resolved.is_some_and(|resolved| resolved >= round)
    }

    /// Begins a round's book, when it is another round than before.
    fn turn_to(&mut self, round: u64) {
        if round == self.record.round {
            return;
        }
        if !self.is_resolved(self.record.round) {
            let bids = self.record.entries.values().filter(|entry| entry.bid.is_some()).count();
            self.record.lapsed = self.record.lapsed.saturating_add(bids as u64);
        }
        self.record.entries.clear();
        self.record.round = round;
    }

    /// Whether there is a place for a bidder with a bid of this amount, or with none that counts; in a full book the lowest bid
    /// makes room for a greater one.
    fn make_room(&mut self, bidder: Address, amount: Option<U256>) -> bool {
        let entries = &mut self.record.entries;
        if entries.len() < MAX_TIMEBOOST_BIDDERS || entries.contains_key(&bidder) {
            return true;
        }
        let amounts = entries.iter().map(|(bidder, entry)| (entry.bid.as_ref().map(|bid| bid.amount), *bidder));
        let Some((lowest, loser)) = amounts.min() else { return true };
        if amount <= lowest {
            return false;
        }
        entries.remove(&loser);
        if lowest.is_some() {
            self.record.dropped = self.record.dropped.saturating_add(1);
        }
        true
    }
}

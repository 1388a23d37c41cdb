//! Timeboost bids for slots of one rollup: a round is a slot, and the bids go into the slot's book like any other.

use std::collections::BTreeMap;

use alloy_primitives::Address;
use lockstep_primitives::{RollupSet, SlotNumber};

use super::{Marketplace, Taken, with_bond};
use crate::{
    AcceptedBid, HoldId, LedgerError, MAX_AMOUNT, MAX_BIDS_PER_SLOT, MAX_TIMEBOOST_SUBMISSIONS, MarketError, TimeboostBid,
    TimeboostDomain, TimeboostError, most_payable,
};

/// How many Timeboost bids each bidder has handed in for one slot.
#[derive(Clone, Debug, Default)]
pub(super) struct Submissions {
    slot: SlotNumber,
    by_bidder: BTreeMap<Address, u8>,
}

impl Submissions {
    fn of(&self, slot: SlotNumber, bidder: Address) -> u8 {
        if slot == self.slot { self.by_bidder.get(&bidder).copied().unwrap_or_default() } else { 0 }
    }

    /// Counts one more of a bidder, if there is room for another bidder.
    fn count(&mut self, slot: SlotNumber, bidder: Address) -> bool {
        if slot != self.slot {
            *self = Self { slot, by_bidder: BTreeMap::new() };
        }
        if !self.by_bidder.contains_key(&bidder) && self.by_bidder.len() >= MAX_BIDS_PER_SLOT {
            return false;
        }
        let count = self.by_bidder.entry(bidder).or_default();
        *count = count.saturating_add(1);
        true
    }
}

impl Marketplace {
    /// Takes a Timeboost bid for the next slot in the place of the bidder's earlier one, checked in the auctioneer's order.
    ///
    /// Whoever wins proposes: a controller that is not the bidder is refused, because rights are granted to who pays for them.
    ///
    /// # Errors
    /// The first check that the bid fails. The book is then unchanged.
    pub fn timeboost_bid(&mut self, domain: &TimeboostDomain, bid: &TimeboostBid, now_ms: u64) -> Result<Taken, TimeboostError> {
        let (round, amount) = (bid.round, bid.amount);
        domain.check(bid)?;
        let wanted = self.rules.clock.slot_at(now_ms).map_or(0, |slot| slot.saturating_add(1));
        if round != wanted {
            return Err(TimeboostError::WrongRound { wanted, got: round });
        }
        let rollups: RollupSet = [domain.chain].into();
        // Nothing of the rollup is on sale in a slot without a block of it, or while its cluster is not.
        let reserve = match self.open(round, now_ms) {
            Ok(book) if book.sale().units().is_unit(&rollups) => book.sale().reserve(&rollups),
            _ => return Err(TimeboostError::Closed { round }),
        };
        if self.check_unsealed(round).is_err() {
            return Err(TimeboostError::Closed { round });
        }
        if amount < reserve {
            return Err(TimeboostError::BelowReserve { round, reserve, amount });
        }
        let bidder = domain.bidder(bid)?;
        if bid.express_lane_controller != bidder {
            return Err(TimeboostError::ControllerNotBidder { round, bidder, controller: bid.express_lane_controller });
        }
        if self.submissions.of(round, bidder) >= MAX_TIMEBOOST_SUBMISSIONS {
            return Err(TimeboostError::TooManyBids { round, bidder, limit: MAX_TIMEBOOST_SUBMISSIONS });
        }
        let deposit = self.ledger.balance(bidder).free.saturating_add(self.ledger.held_for(HoldId { slot: round, bidder }));
        if self.rules.deposits.is_some() && deposit.is_zero() {
            return Err(TimeboostError::NotDepositor { round, bidder });
        }
        // Keys without a deposit fill nothing.
        if !self.submissions.count(round, bidder) {
            return Err(TimeboostError::BookFull { round, bidder, amount, limit: MAX_BIDS_PER_SLOT });
        }
        let short = TimeboostError::InsufficientBalance { round, bidder, deposit, amount };
        if amount > MAX_AMOUNT || self.check_staying(bidder).is_err() {
            return Err(short);
        }
        self.place_timeboost(domain, bid, bidder, &rollups).map_err(|error| match error {
            MarketError::Ledger(LedgerError::DepositTooSmall { .. }) => short,
            _ => TimeboostError::BookFull { round, bidder, amount, limit: MAX_BIDS_PER_SLOT },
        })
    }

    fn place_timeboost(
        &mut self,
        domain: &TimeboostDomain,
        bid: &TimeboostBid,
        bidder: Address,
        rollups: &RollupSet,
    ) -> Result<Taken, MarketError> {
        let slot = bid.round;
        let book = self.book(slot)?;
        let removed = book.bids_of(bidder).find(|other| other.bid.rollups == *rollups && other.tag().is_none()).cloned();
        if removed.is_none() && book.len() >= MAX_BIDS_PER_SLOT {
            return Err(MarketError::BookFull { slot, limit: MAX_BIDS_PER_SLOT });
        }
        let mut accepted = bid.offer(domain, bidder, slot);
        accepted.bid.nonce = removed.as_ref().map_or(1, |removed| removed.bid.nonce.saturating_add(1));
        let others: Vec<AcceptedBid> =
            book.bids_of(bidder).filter(|other| other.bid.rollups != *rollups || other.tag().is_some()).cloned().collect();
        let posting = match &self.rules.deposits {
            None => None,
            Some(rules) => {
                let payable = with_bond(most_payable(others.iter().chain([&accepted])), rules);
                let needed = payable.saturating_add(self.owed(slot, bidder));
                Some(self.ledger.hold(HoldId { slot, bidder }, needed)?)
            }
        };
        self.book(slot)?.restore(accepted.clone());
        Ok(Taken { bidder, digest: accepted.digest, added: Some(accepted), removed, taken_back: None, posting })
    }
}

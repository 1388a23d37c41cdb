//! Bids: taken when they are covered, and taken back.

use alloy_primitives::{Address, B256, U256};
use lockstep_primitives::{Bid, BidCancellation, SlotNumber};

use super::{Marketplace, with_bond};
use crate::{AcceptedBid, HoldId, MarketError, Posting, SealError, TicketError, most_payable};

/// What taking a bid, or taking one back, changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Who bids.
    pub bidder: Address,
    /// The bid's digest.
    pub digest: B256,
    /// The bid that is in the book now; `None` when it was there before, or was taken back.
    pub added: Option<AcceptedBid>,
    /// The bid that is not in the book any more.
    pub removed: Option<AcceptedBid>,
    /// By what it was taken back, if it was: its nonce has to be remembered as long as the book is open.
    pub taken_back: Option<BidCancellation>,
    /// What is held for the bidder's bids in the slot now.
    pub posting: Option<Posting>,
}

impl Marketplace {
    /// Takes a bid, when the bidder's deposit covers all that its bids for the slot may cost. The same bid again changes nothing.
    ///
    /// # Errors
    /// Names what is wrong with the bid, or what the deposit lacks. Nothing is then changed.
    pub fn bid(&mut self, bid: Bid, signature: &[u8], now_ms: u64) -> Result<Taken, MarketError> {
        let slot = bid.slot;
        self.check_unsealed(slot)?;
        let close_ms = self.rules.clock.close_ms(slot);
        let admission = self.open(slot, now_ms)?.check(bid, signature, now_ms, close_ms)?;
        let accepted = admission.bid().clone();
        let (bidder, digest) = (accepted.bidder, accepted.digest);
        if admission.is_known() {
            return Ok(Taken { bidder, digest, added: None, removed: None, taken_back: None, posting: None });
        }
        self.check_staying(bidder)?;
        let posting = match &self.rules.deposits {
            None => None,
            Some(rules) => {
                let replaced = |other: &&AcceptedBid| other.bid.rollups != accepted.bid.rollups || other.tag() != accepted.tag();
                let book = self.open.get(&slot).into_iter();
                let others = book.flat_map(|book| book.bids_of(bidder)).filter(replaced);
                let needed = with_bond(most_payable(others.chain([&accepted])), rules).saturating_add(self.owed(slot, bidder));
                Some(self.ledger.hold(HoldId { slot, bidder }, needed)?)
            }
        };
        let removed = self.book(slot)?.put(admission);
        Ok(Taken { bidder, digest, added: Some(accepted), removed, taken_back: None, posting })
    }

    /// Takes a bid back.
    ///
    /// # Errors
    /// Names why not. Nothing is then changed.
    pub fn cancel(&mut self, cancellation: &BidCancellation, signature: &[u8], now_ms: u64) -> Result<Taken, MarketError> {
        let slot = cancellation.slot;
        self.check_unsealed(slot)?;
        let close_ms = self.rules.clock.close_ms(slot);
        self.open(slot, now_ms)?;
        let removed = self.book(slot)?.cancel(cancellation, signature, now_ms, close_ms)?;
        let (bidder, digest) = (removed.bidder, removed.digest);
        let posting = self.release(slot, bidder)?;
        let taken_back = Some(cancellation.clone());
        Ok(Taken { bidder, digest, added: None, removed: Some(removed), taken_back, posting })
    }

    pub(super) fn check_unsealed(&self, slot: SlotNumber) -> Result<(), MarketError> {
        if self.tickets.is_some() {
            return Err(TicketError::TicketsOnly.into());
        }
        if self.rules.sealing.is_some() {
            return Err(SealError::SealedOnly { slot }.into());
        }
        Ok(())
    }

    /// Puts back what is remembered of a bid that was taken back.
    pub(super) fn restore_taken_back(&mut self, bidder: Address, cancellation: &BidCancellation) -> Result<(), MarketError> {
        if cancellation.slot >= self.closed_before {
            self.book(cancellation.slot)?.restore_taken_back(bidder, cancellation);
        }
        Ok(())
    }

    /// Puts a stored bid back into its book. What covers it is in the ledger.
    pub(super) fn restore_bid(&mut self, bid: AcceptedBid) -> Result<(), MarketError> {
        if bid.bid.slot >= self.closed_before {
            self.book(bid.bid.slot)?.restore(bid);
        }
        Ok(())
    }

    /// What somebody's bids in an open slot may cost, and what it owes in the slot besides.
    pub(super) fn put_up(&self, slot: SlotNumber, account: Address) -> U256 {
        let Some(rules) = &self.rules.deposits else { return U256::ZERO };
        let sealed = self.envelopes.get(&slot).and_then(|envelopes| envelopes.of(account));
        let payable = match sealed {
            Some(envelope) => envelope.sealed.cover,
            None => most_payable(self.open.get(&slot).into_iter().flat_map(|book| book.bids_of(account))),
        };
        with_bond(payable, rules).saturating_add(self.owed(slot, account))
    }

    /// Releases what nothing in a slot needs any more.
    pub(super) fn release(&mut self, slot: SlotNumber, account: Address) -> Result<Option<Posting>, MarketError> {
        if self.rules.deposits.is_none() {
            return Ok(None);
        }
        let id = HoldId { slot, bidder: account };
        // Never more than was put up: what ends must not fail for anybody's money.
        let keep = self.put_up(slot, account).min(self.ledger.held_for(id));
        Ok(Some(self.ledger.hold(id, keep)?).filter(|posting| !posting.is_empty()))
    }
}

//! Bids of Espresso's kind, in the slot's book like any other.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, B256};
use lockstep_primitives::{BidCancellation, SlotNumber};

use super::{Marketplace, Taken};
use crate::{AcceptedBid, ESPRESSO_TAG, EspressoBid, EspressoError, HoldId, MarketError};

/// Bids of open slots that were replaced: without a nonce, anybody could hand them in again.
pub(super) type Replaced = BTreeMap<SlotNumber, BTreeSet<B256>>;

impl Marketplace {
    /// Takes a bid of Espresso's kind in the place of the account's earlier one for the slot, when its deposit covers both amounts.
    /// The same bid again changes nothing.
    ///
    /// # Errors
    /// Names what is wrong with the bid, or what the deposit lacks. Nothing is then changed.
    pub fn espresso_bid(&mut self, bid: &EspressoBid, signature: &[u8], now_ms: u64) -> Result<Taken, MarketError> {
        let slot = bid.view;
        self.check_unsealed(slot)?;
        let book = self.open(slot, now_ms)?;
        let known = book.bids_of(bid.account).find(|other| other.tag() == Some(ESPRESSO_TAG)).cloned();
        let nonce = known.as_ref().map_or(1, |known| known.bid.nonce.saturating_add(2));
        let accepted = bid.accepted(signature, nonce)?;
        let (bidder, digest) = (accepted.bidder, accepted.digest);
        if known.as_ref().is_some_and(|known| known.digest == digest) {
            return Ok(Taken { bidder, digest, added: None, removed: None, taken_back: None, posting: None });
        }
        if self.replaced.get(&slot).is_some_and(|replaced| replaced.contains(&digest)) {
            return Err(EspressoError::Replaced { view: slot, digest }.into());
        }
        // It has to be a bid for what is on sale, and have room, as any other.
        self.book(slot)?.check_fits(&accepted, known.is_some())?;
        self.check_staying(bidder)?;
        let removed = match &known {
            Some(known) => Some(self.book(slot)?.take_back(bidder, &taking_back(known))?),
            None => None,
        };
        self.book(slot)?.restore(accepted.clone());
        let posting = match self.cover_all(slot, bidder) {
            Ok(posting) => posting,
            Err(error) => {
                self.book(slot)?.take_back(bidder, &taking_back(&accepted))?;
                removed.into_iter().try_for_each(|removed| self.book(slot).map(|book| book.restore(removed)))?;
                return Err(error);
            }
        };
        self.replaced.retain(|known, _| *known >= self.closed_before);
        self.replaced.entry(slot).or_default().extend(removed.as_ref().map(|removed| removed.digest));
        Ok(Taken { bidder, digest, added: Some(accepted), removed, taken_back: None, posting })
    }

    /// Holds what somebody's bids in an open slot may cost, and what it owes there besides.
    fn cover_all(&mut self, slot: SlotNumber, bidder: Address) -> Result<Option<crate::Posting>, MarketError> {
        if self.rules.deposits.is_none() {
            return Ok(None);
        }
        let needed = self.put_up(slot, bidder);
        Ok(Some(self.ledger.hold(HoldId { slot, bidder }, needed)?))
    }
}

fn taking_back(bid: &AcceptedBid) -> BidCancellation {
    let (slot, rollups, exclusive) = (bid.bid.slot, bid.bid.rollups.clone(), bid.bid.exclusive.clone());
    BidCancellation { slot, rollups, exclusive, nonce: bid.bid.nonce.saturating_add(1) }
}

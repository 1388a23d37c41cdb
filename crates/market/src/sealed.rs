//! Sealed bids: handed in as a commitment while others bid, opened when nobody can bid any more.
//!
//! ```text
//!          seal, replace, take back        open           winners
//!  ------------------------------------|-----------|------------------
//!                               close - open_ms   close
//! ```
//!
//! Until it is opened nobody can read a bid, the market included. What can be seen is how many bids there are and the most that they
//! may cost together, which the bidder's deposit has to cover. Whoever does not open its bids forfeits a part of that cover to the
//! sellers of the slot: else everybody would have bids to choose from once the others' are open.

mod error;

pub use error::SealError;

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256};
use lockstep_primitives::{Opening, SealedBids, SlotNumber};

use crate::{AcceptedBid, MAX_AMOUNT, MAX_BIDS_PER_BIDDER, MAX_BIDS_PER_SLOT, MAX_TAG_BYTES, MarketError, Sale, most_payable};

/// How bids are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealRules {
    /// How long before bidding ends no more can be sealed, and they are opened instead.
    pub open_ms: u64,
    /// What is forfeited by who does not open its bids, of their cover in basis points.
    pub forfeit_bps: u64,
}

/// How many bidders have sealed bids in a slot.
pub const MAX_ENVELOPES: usize = 4_096;

/// A bidder's sealed bids for a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// What was sealed.
    pub sealed: SealedBids,
    /// What it was opened with.
    pub opening: Option<Opening>,
}

impl Envelope {
    /// Whether there is something to open.
    pub fn holds_bids(&self) -> bool {
        !self.sealed.commitment.is_zero()
    }
}

/// The sealed bids for one slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelopes {
    by_bidder: BTreeMap<Address, Envelope>,
}

impl Envelopes {
    /// Checks sealed bids against those that are there. Whether they are there already.
    pub(crate) fn check(&self, sealed: &SealedBids, bidder: Address) -> Result<bool, MarketError> {
        let SealedBids { slot, bids, cover, nonce, .. } = *sealed;
        let empty = sealed.commitment.is_zero();
        if cover > MAX_AMOUNT {
            return Err(MarketError::AmountTooLarge { slot, amount: cover });
        }
        if bids > MAX_BIDS_PER_BIDDER as u64 || (bids == 0) != empty || (empty && !cover.is_zero()) {
            return Err(SealError::Bids { slot, bidder, bids, limit: MAX_BIDS_PER_BIDDER }.into());
        }
        let known = self.by_bidder.get(&bidder);
        if known.is_some_and(|known| known.sealed == *sealed) {
            return Ok(true);
        }
        if let Some(current) = known.map(|known| known.sealed.nonce).filter(|current| nonce <= *current) {
            return Err(SealError::NonceTooLow { slot, bidder, nonce, current }.into());
        }
        if empty && known.is_none() {
            return Err(SealError::Unknown { slot, bidder }.into());
        }
        let others = self.by_bidder.iter().filter(|(other, _)| **other != bidder);
        let taken = others.fold(0_u64, |sum, (_, other)| sum.saturating_add(other.sealed.bids));
        if (known.is_none() && self.by_bidder.len() >= MAX_ENVELOPES) || taken.saturating_add(bids) > MAX_BIDS_PER_SLOT as u64 {
            return Err(MarketError::BookFull { slot, limit: MAX_BIDS_PER_SLOT });
        }
        Ok(false)
    }

    /// What somebody sealed.
    pub(crate) fn of(&self, bidder: Address) -> Option<&Envelope> {
        self.by_bidder.get(&bidder)
    }

    pub(crate) fn put(&mut self, bidder: Address, envelope: Envelope) {
        self.by_bidder.insert(bidder, envelope);
    }

    /// The bids of an opening, if they are what was sealed and what the sale allows; `None` when they are open already.
    pub(crate) fn check_opening(&self, opening: &Opening, sale: &Sale) -> Result<Option<Vec<AcceptedBid>>, MarketError> {
        let Opening { slot, bidder, .. } = *opening;
        let envelope = self.by_bidder.get(&bidder).filter(|envelope| envelope.holds_bids());
        let Envelope { sealed, opening: known } = envelope.ok_or(SealError::Unknown { slot, bidder })?;
        if opening.commitment() != sealed.commitment || opening.bids.len() as u64 != sealed.bids {
            return Err(SealError::Mismatch { slot, bidder, commitment: sealed.commitment }.into());
        }
        if known.is_some() {
            return Ok(None);
        }
        let mut places = std::collections::BTreeSet::new();
        let mut bids = Vec::with_capacity(opening.bids.len());
        for bid in &opening.bids {
            sale.surplus(bid)?;
            let bytes = bid.exclusive.as_ref().map_or(0, String::len);
            if bytes > MAX_TAG_BYTES {
                return Err(MarketError::TagTooLong { slot, bytes, limit: MAX_TAG_BYTES });
            }
            let accepted = AcceptedBid::new(bidder, bid.clone());
            if !places.insert((bid.rollups.clone(), accepted.tag().map(String::from))) {
                return Err(SealError::Twice { slot, bidder, rollups: bid.rollups.clone() }.into());
            }
            bids.push(accepted);
        }
        let payable = most_payable(&bids);
        if payable > sealed.cover {
            return Err(SealError::BeyondCover { slot, bidder, payable, cover: sealed.cover }.into());
        }
        Ok(Some(bids))
    }

    /// Notes what a bidder's sealed bids were opened with.
    pub(crate) fn note_opening(&mut self, opening: Opening) {
        if let Some(envelope) = self.by_bidder.get_mut(&opening.bidder) {
            envelope.opening = Some(opening);
        }
    }

    /// By bidder.
    pub fn iter(&self) -> impl Iterator<Item = (Address, &Envelope)> {
        self.by_bidder.iter().map(|(bidder, envelope)| (*bidder, envelope))
    }

    /// The salts of what was opened, ordered by bidder: what draws are made with, beside what the market committed to.
    pub fn salts(&self) -> Vec<B256> {
        self.by_bidder.values().filter_map(|envelope| envelope.opening.as_ref()).map(|opening| opening.salt).collect()
    }

    /// What was not opened, and by whom.
    pub(crate) fn unopened(&self) -> impl Iterator<Item = (Address, &SealedBids)> {
        let unopened = self.by_bidder.iter().filter(|(_, envelope)| envelope.holds_bids() && envelope.opening.is_none());
        unopened.map(|(bidder, envelope)| (*bidder, &envelope.sealed))
    }
}

/// A slot as a key, with its envelopes.
pub(crate) type EnvelopesBySlot = BTreeMap<SlotNumber, Envelopes>;

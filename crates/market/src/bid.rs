//! A bid whose bidder is known.

use alloy_primitives::{Address, B256};
use lockstep_primitives::Bid;

/// A bid and who signed it.
///
/// The digest covers what is offered, not who offers it: two bidders who sign the same offer share it. A bid is named by
/// its bidder and its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedBid {
    /// Who signed the bid.
    pub bidder: Address,
    /// What it offers.
    pub bid: Bid,
    /// The bid's EIP-712 digest.
    pub digest: B256,
}

impl AcceptedBid {
    /// A bid of a bidder whose signature was checked.
    pub fn new(bidder: Address, bid: Bid) -> Self {
        let digest = bid.digest();
        Self { bidder, bid, digest }
    }

    /// The bid's `exclusive` tag. An empty tag is none, because both are signed as the same bytes.
    pub fn tag(&self) -> Option<&str> {
        self.bid.exclusive.as_deref().filter(|tag| !tag.is_empty())
    }

    /// What bids are sorted by, wherever an order is needed.
    pub(crate) const fn order(&self) -> (B256, Address) {
        (self.digest, self.bidder)
    }
}

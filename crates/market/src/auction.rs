//! The sealed-bid book of one slot.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256};
use lockstep_primitives::{Bid, RollupSet, recover};

use crate::{AcceptedBid, MarketError, Outcome, Sale};

/// How many bids a slot's book holds.
pub const MAX_BIDS_PER_SLOT: usize = 4096;

/// How many bids a slot's book holds of one bidder.
pub const MAX_BIDS_PER_BIDDER: usize = 128;

/// How long an `exclusive` tag may be.
pub const MAX_TAG_BYTES: usize = 64;

/// What a later bid replaces. The bidder is the recovered signer, so nobody can replace another's bid.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    bidder: Address,
    rollups: RollupSet,
    tag: Option<String>,
}

/// The book of one slot. Bids stay sealed until [`SlotAuction::close`].
#[derive(Clone, Debug)]
pub struct SlotAuction {
    sale: Sale,
    bids: BTreeMap<Key, AcceptedBid>,
}

impl SlotAuction {
    /// Opens the book of a slot for what is on sale in it.
    pub const fn open(sale: Sale) -> Self {
        Self { sale, bids: BTreeMap::new() }
    }

    /// Takes a bid and returns its digest. The same bid again changes nothing.
    ///
    /// # Errors
    /// See [`MarketError`]: from [`MarketError::WrongSlot`] on, each names what is wrong with the bid. The book is then
    /// unchanged.
    pub fn submit(&mut self, bid: Bid, signature: &[u8], now_ms: u64, close_ms: u64) -> Result<B256, MarketError> {
        let slot = self.sale.slot();
        if bid.slot == slot && now_ms >= close_ms {
            return Err(MarketError::Closed { slot, close_ms, now_ms });
        }
        self.sale.surplus(&bid)?;
        let bytes = bid.exclusive.as_ref().map_or(0, String::len);
        if bytes > MAX_TAG_BYTES {
            return Err(MarketError::TagTooLong { slot, bytes, limit: MAX_TAG_BYTES });
        }
        let digest = bid.digest();
        let bidder = recover(digest, signature).map_err(|_| MarketError::InvalidBidSignature { slot })?;
        let accepted = AcceptedBid { bidder, bid, digest };
        let key = Key { bidder, rollups: accepted.bid.rollups.clone(), tag: accepted.tag().map(String::from) };
        if let Some(earlier) = self.bids.get(&key) {
            if earlier.digest == digest {
                return Ok(digest);
            }
            if accepted.bid.nonce <= earlier.bid.nonce {
                return Err(MarketError::BidNonceTooLow {
                    slot,
                    rollups: key.rollups,
                    nonce: accepted.bid.nonce,
                    current: earlier.bid.nonce,
                });
            }
        } else {
            self.check_room(bidder)?;
        }
        self.bids.insert(key, accepted);
        Ok(digest)
    }

    /// Ends the bidding, opens the bids and determines the winners.
    pub fn close(self) -> Outcome {
        Outcome::decide(&self.sale, self.bids.into_values().collect())
    }

    /// What is on sale.
    pub const fn sale(&self) -> &Sale {
        &self.sale
    }

    /// How many bids the book holds.
    pub fn len(&self) -> usize {
        self.bids.len()
    }

    /// Whether nobody has bid.
    pub fn is_empty(&self) -> bool {
        self.bids.is_empty()
    }

    fn check_room(&self, bidder: Address) -> Result<(), MarketError> {
        let slot = self.sale.slot();
        if self.bids.len() >= MAX_BIDS_PER_SLOT {
            return Err(MarketError::BookFull { slot, limit: MAX_BIDS_PER_SLOT });
        }
        let first = Key { bidder, rollups: RollupSet::new(), tag: None };
        if self.bids.range(first..).take_while(|(key, _)| key.bidder == bidder).count() >= MAX_BIDS_PER_BIDDER {
            return Err(MarketError::TooManyBids { slot, bidder, limit: MAX_BIDS_PER_BIDDER });
        }
        Ok(())
    }
}

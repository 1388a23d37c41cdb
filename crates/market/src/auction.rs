//! The sealed-bid book of one slot.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256};
use lockstep_primitives::{Bid, BidCancellation, RollupSet, recover};

use crate::{AcceptedBid, MarketError, Sale};

/// How many bids a slot's book holds.
pub const MAX_BIDS_PER_SLOT: usize = 16_384;

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

/// The last word of a bidder on a package and tag.
#[derive(Clone, Debug)]
struct Word {
    nonce: u64,
    /// Nothing, when it took its bid back: the nonce stays, so that nobody can hand an old bid in again.
    bid: Option<AcceptedBid>,
}

/// A bid that was checked against a book and may be put into it.
#[derive(Clone, Debug)]
pub struct Admission {
    key: Key,
    accepted: AcceptedBid,
    /// Whether the book has it already.
    known: bool,
}

impl Admission {
    /// The bid, and who bids.
    pub const fn bid(&self) -> &AcceptedBid {
        &self.accepted
    }

    /// Whether the book has it already.
    pub const fn is_known(&self) -> bool {
        self.known
    }
}

/// The book of one slot. Bids stay sealed until [`SlotAuction::close`].
#[derive(Clone, Debug)]
pub struct SlotAuction {
    sale: Sale,
    words: BTreeMap<Key, Word>,
}

impl SlotAuction {
    /// Opens the book of a slot for what is on sale in it.
    pub const fn open(sale: Sale) -> Self {
        Self { sale, words: BTreeMap::new() }
    }

    /// Checks a bid and who signed it against the book, and changes nothing.
    ///
    /// # Errors
    /// See [`MarketError`]: from [`MarketError::WrongSlot`] on, each names what is wrong with the bid.
    pub fn check(&self, bid: Bid, signature: &[u8], now_ms: u64, close_ms: u64) -> Result<Admission, MarketError> {
        let digest = bid.digest();
        self.check_signed(bid, digest, signature, now_ms, close_ms)
    }

    /// As [`SlotAuction::check`], where the bidder signed another digest that says the same.
    pub(crate) fn check_signed(
        &self,
        bid: Bid,
        digest: B256,
        signature: &[u8],
        now_ms: u64,
        close_ms: u64,
    ) -> Result<Admission, MarketError> {
        let slot = self.sale.slot();
        if bid.slot == slot && now_ms >= close_ms {
            return Err(MarketError::Closed { slot, close_ms, now_ms });
        }
        self.sale.surplus(&bid)?;
        let bytes = bid.exclusive.as_ref().map_or(0, String::len);
        if bytes > MAX_TAG_BYTES {
            return Err(MarketError::TagTooLong { slot, bytes, limit: MAX_TAG_BYTES });
        }
        let bidder = recover(digest, signature).map_err(|_| MarketError::InvalidBidSignature { slot })?;
        let accepted = AcceptedBid { bidder, bid, digest };
        let key = Key { bidder, rollups: accepted.bid.rollups.clone(), tag: accepted.tag().map(String::from) };
        let mut known = false;
        match self.words.get(&key) {
            Some(Word { bid: Some(earlier), .. }) if earlier.digest == digest => known = true,
            Some(earlier) => self.check_nonce(&key, accepted.bid.nonce, earlier.nonce)?,
            None => self.check_room(bidder)?,
        }
        Ok(Admission { key, accepted, known })
    }

    /// Whether a bid whose bidder was checked is one for what is on sale, and has room: beside the bidder's others, or in the place
    /// of one of them.
    pub(crate) fn check_fits(&self, accepted: &AcceptedBid, replaces: bool) -> Result<(), MarketError> {
        self.sale.surplus(&accepted.bid)?;
        if replaces { Ok(()) } else { self.check_room(accepted.bidder) }
    }

    /// Puts a bid into the book, and returns the one that it replaces.
    pub fn put(&mut self, admission: Admission) -> Option<AcceptedBid> {
        let Admission { key, accepted, known } = admission;
        if known {
            return None;
        }
        self.words.insert(key, Word { nonce: accepted.bid.nonce, bid: Some(accepted) })?.bid
    }

    /// Puts a bid back that was in the book before a restart.
    pub fn restore(&mut self, accepted: AcceptedBid) {
        let key = Key { bidder: accepted.bidder, rollups: accepted.bid.rollups.clone(), tag: accepted.tag().map(String::from) };
        self.words.insert(key, Word { nonce: accepted.bid.nonce, bid: Some(accepted) });
    }

    /// Notes that a bid was taken back before a restart: what its bidder bids with no higher nonce is refused. What is in the book
    /// with a higher one stays.
    pub fn restore_taken_back(&mut self, bidder: Address, cancellation: &BidCancellation) {
        let tag = cancellation.exclusive.clone().filter(|tag| !tag.is_empty());
        let key = Key { bidder, rollups: cancellation.rollups.clone(), tag };
        let nonce = cancellation.nonce;
        if self.words.get(&key).is_none_or(|word| word.nonce < nonce) {
            self.words.insert(key, Word { nonce, bid: None });
        }
    }

    /// Takes a bid and returns its digest. The same bid again changes nothing.
    ///
    /// # Errors
    /// As [`SlotAuction::check`].
    pub fn submit(&mut self, bid: Bid, signature: &[u8], now_ms: u64, close_ms: u64) -> Result<B256, MarketError> {
        let admission = self.check(bid, signature, now_ms, close_ms)?;
        let digest = admission.accepted.digest;
        self.put(admission);
        Ok(digest)
    }

    /// Takes the bidder's bid for the same package and tag out of the book, and returns it.
    ///
    /// # Errors
    /// When it is too late, nobody can have signed it, there is no such bid, or its nonce is not below the cancellation's.
    pub fn cancel(
        &mut self,
        cancellation: &BidCancellation,
        signature: &[u8],
        now_ms: u64,
        close_ms: u64,
    ) -> Result<AcceptedBid, MarketError> {
        let slot = self.sale.slot();
        if cancellation.slot != slot {
            return Err(MarketError::WrongSlot { slot: cancellation.slot, open: slot });
        }
        if now_ms >= close_ms {
            return Err(MarketError::Closed { slot, close_ms, now_ms });
        }
        let bidder = recover(cancellation.digest(), signature).map_err(|_| MarketError::InvalidBidSignature { slot })?;
        self.take_back(bidder, cancellation)
    }

    /// As [`SlotAuction::cancel`], of a bidder whose signature was checked, in time.
    pub(crate) fn take_back(&mut self, bidder: Address, cancellation: &BidCancellation) -> Result<AcceptedBid, MarketError> {
        let slot = self.sale.slot();
        let tag = cancellation.exclusive.clone().filter(|tag| !tag.is_empty());
        let key = Key { bidder, rollups: cancellation.rollups.clone(), tag };
        let missing = MarketError::UnknownBid { slot, bidder, rollups: key.rollups.clone() };
        let nonce = self.words.get(&key).filter(|word| word.bid.is_some()).ok_or_else(|| missing.clone())?.nonce;
        self.check_nonce(&key, cancellation.nonce, nonce)?;
        let word = self.words.insert(key, Word { nonce: cancellation.nonce, bid: None });
        word.and_then(|word| word.bid).ok_or(missing)
    }

    /// The bids of one bidder.
    pub fn bids_of(&self, bidder: Address) -> impl Iterator<Item = &AcceptedBid> {
        self.words_of(bidder).filter_map(|(_, word)| word.bid.as_ref())
    }

    /// All bids.
    pub fn bids(&self) -> impl Iterator<Item = &AcceptedBid> {
        self.words.values().filter_map(|word| word.bid.as_ref())
    }

    /// Ends the bidding and opens the bids.
    pub fn close(self) -> (Sale, Vec<AcceptedBid>) {
        (self.sale, self.words.into_values().filter_map(|word| word.bid).collect())
    }

    /// What is on sale.
    pub const fn sale(&self) -> &Sale {
        &self.sale
    }

    /// How many bids the book holds.
    pub fn len(&self) -> usize {
        self.bids().count()
    }

    /// Whether nobody has bid.
    pub fn is_empty(&self) -> bool {
        self.bids().next().is_none()
    }

    fn words_of(&self, bidder: Address) -> impl Iterator<Item = (&Key, &Word)> {
        let first = Key { bidder, rollups: RollupSet::new(), tag: None };
        self.words.range(first..).take_while(move |(key, _)| key.bidder == bidder)
    }

    fn check_nonce(&self, key: &Key, nonce: u64, current: u64) -> Result<(), MarketError> {
        if nonce > current {
            return Ok(());
        }
        Err(MarketError::BidNonceTooLow { slot: self.sale.slot(), rollups: key.rollups.clone(), nonce, current })
    }

    fn check_room(&self, bidder: Address) -> Result<(), MarketError> {
        let slot = self.sale.slot();
        if self.words.len() >= MAX_BIDS_PER_SLOT {
            return Err(MarketError::BookFull { slot, limit: MAX_BIDS_PER_SLOT });
        }
        if self.words_of(bidder).count() >= MAX_BIDS_PER_BIDDER {
            return Err(MarketError::TooManyBids { slot, bidder, limit: MAX_BIDS_PER_BIDDER });
        }
        Ok(())
    }
}

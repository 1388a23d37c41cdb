//! Why sealed bids are refused.

use alloy_primitives::{Address, B256, U256};
use lockstep_primitives::{RollupSet, SlotNumber};

/// Why sealed bids, or an opening of them, are refused. [`SealError::code`] is stable; the text may be reworded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The market takes sealed bids only.
    #[error("bids for slot {slot} are taken sealed only")]
    SealedOnly {
        /// The slot.
        slot: SlotNumber,
    },
    /// The market takes bids as they are.
    #[error("this market takes no sealed bids: it is trusted with bids for slot {slot} until the bidding ends")]
    NotSealed {
        /// The slot.
        slot: SlotNumber,
    },
    /// Too many bids, or none that are said to be some.
    #[error("{bidder} seals {bids} bids for slot {slot}: 1 to {limit} with a commitment, none and no cover without one")]
    Bids {
        /// The slot.
        slot: SlotNumber,
        /// Who bids.
        bidder: Address,
        /// How many it seals.
        bids: u64,
        /// How many it may.
        limit: usize,
    },
    /// Old, or different ones with the same nonce.
    #[error("nonce {nonce} of the sealed bids of {bidder} for slot {slot} is not above {current} of the earlier ones")]
    NonceTooLow {
        /// The slot.
        slot: SlotNumber,
        /// Who bids.
        bidder: Address,
        /// Of what is refused.
        nonce: u64,
        /// Of what is there.
        current: u64,
    },
    /// Nothing was sealed.
    #[error("{bidder} has sealed no bids for slot {slot}")]
    Unknown {
        /// The slot.
        slot: SlotNumber,
        /// Who bids.
        bidder: Address,
    },
    /// Too early or too late.
    #[error("sealed bids for slot {slot} are opened from {from_ms} to {until_ms} ms, it is {now_ms} ms")]
    OpeningOutOfTime {
        /// The slot.
        slot: SlotNumber,
        /// From when on.
        from_ms: u64,
        /// Until when.
        until_ms: u64,
        /// When it came.
        now_ms: u64,
    },
    /// Something else was sealed.
    #[error("what {bidder} opens for slot {slot} is not what it sealed: {commitment}")]
    Mismatch {
        /// The slot.
        slot: SlotNumber,
        /// Who bids.
        bidder: Address,
        /// What was sealed.
        commitment: B256,
    },
    /// Two bids of which one would replace the other.
    #[error("{bidder} sealed two bids for rollups {rollups:?} in slot {slot} with the same tag")]
    Twice {
        /// The slot.
        slot: SlotNumber,
        /// Who bids.
        bidder: Address,
        /// The package.
        rollups: RollupSet,
    },
    /// The bids may cost more than was said.
    #[error("the bids of {bidder} for slot {slot} may cost {payable}, more than their cover of {cover}")]
    BeyondCover {
        /// The slot.
        slot: SlotNumber,
        /// Who bids.
        bidder: Address,
        /// What they may cost together.
        payable: U256,
        /// What was said.
        cover: U256,
    },
}

impl SealError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::SealedOnly { .. } => "sealed_only",
            Self::NotSealed { .. } => "not_sealed",
            Self::Bids { .. } => "wrong_number_of_bids",
            Self::NonceTooLow { .. } => "seal_nonce_too_low",
            Self::Unknown { .. } => "no_sealed_bids",
            Self::OpeningOutOfTime { .. } => "opening_out_of_time",
            Self::Mismatch { .. } => "opening_mismatch",
            Self::Twice { .. } => "package_sealed_twice",
            Self::BeyondCover { .. } => "beyond_cover",
        }
    }

    /// What one can do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::SealedOnly { .. } => "hand in a commitment with market_submitSealedBids, and open it with market_openBids",
            Self::NotSealed { .. } => "bid with market_submitBid",
            Self::Bids { .. } => "a commitment of zero takes sealed bids back",
            Self::NonceTooLow { .. } => "raise the nonce",
            Self::Unknown { .. } => "seal bids while the bidding goes on",
            Self::OpeningOutOfTime { .. } => "market_getSlot says when bids are sealed and when they are opened",
            Self::Mismatch { .. } => "keccak-256 of bidder, salt and the EIP-712 digests of the bids in their order",
            Self::Twice { .. } => "seal one bid for each package and tag",
            Self::BeyondCover { .. } => "name a cover that all bids that can win together stay below",
        }
    }
}

//! Why bids for a right's proposal are refused.

use alloy_primitives::{Address, B256, U256};
use lockstep_primitives::{RollupSet, SlotNumber};

use super::Selection;

/// Why a blinded bid, or what it reveals, is refused. [`ProposalError::code`] is stable; the text may be reworded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposalError {
    /// The market has no place for proposals.
    #[error("nobody takes proposals by this market")]
    NotTaken,
    /// Nobody asked for one.
    #[error("{holder} has not asked for proposals for rollups {rollups:?} in slot {slot}")]
    NotAsked {
        /// The slot.
        slot: SlotNumber,
        /// The rollups.
        rollups: RollupSet,
        /// Who might have asked.
        holder: Address,
    },
    /// It asked for them at another price.
    #[error("{holder} has asked for proposals for rollups {rollups:?} in slot {slot} already, above {own_value}")]
    AskedBefore {
        /// The slot.
        slot: SlotNumber,
        /// The rollups.
        rollups: RollupSet,
        /// Who asked.
        holder: Address,
        /// For how much.
        own_value: U256,
    },
    /// No room for another call.
    #[error("{limit} calls for proposals for slot {slot} are open, or {of_holder} of {holder}, which is the limit")]
    TooManyCalls {
        /// The slot.
        slot: SlotNumber,
        /// Who asks.
        holder: Address,
        /// How many there may be.
        limit: usize,
        /// How many of one holder.
        of_holder: usize,
    },
    /// Bidding goes on, or the holder did not get the right.
    #[error("the right of {holder} for rollups {rollups:?} in slot {slot} is not decided yet")]
    NotDecided {
        /// The slot.
        slot: SlotNumber,
        /// The rollups.
        rollups: RollupSet,
        /// Who asked.
        holder: Address,
    },
    /// Another slot, other rollups or another holder.
    #[error("the proposal is not for the right of {holder} on rollups {rollups:?} in slot {slot}")]
    OtherRight {
        /// The slot.
        slot: SlotNumber,
        /// The right's rollups.
        rollups: RollupSet,
        /// Who holds it.
        holder: Address,
    },
    /// Too late.
    #[error("the bidding for proposals of slot {slot} ended at {close_ms} ms, it is {now_ms} ms")]
    Closed {
        /// The slot.
        slot: SlotNumber,
        /// When it ended.
        close_ms: u64,
        /// When the bid came.
        now_ms: u64,
    },
    /// The holder's own is as good.
    #[error("the proposal for slot {slot} offers {value}, and the holder's own is worth {own_value}")]
    NotAboveOwn {
        /// The slot.
        slot: SlotNumber,
        /// What is offered.
        value: U256,
        /// What the holder's own is worth.
        own_value: U256,
    },
    /// No signer can be recovered.
    #[error("no signer can be recovered from the signature of the proposal for slot {slot}")]
    InvalidSignature {
        /// The slot.
        slot: SlotNumber,
    },
    /// Old, or a different one with the same nonce.
    #[error("nonce {nonce} of the proposal of {builder} for slot {slot} is not above {current} of the earlier one")]
    NonceTooLow {
        /// The slot.
        slot: SlotNumber,
        /// Who offers.
        builder: Address,
        /// Of what is refused.
        nonce: u64,
        /// Of what is there.
        current: u64,
    },
    /// No room for another builder.
    #[error("{limit} builders offer proposals for slot {slot}, which is the limit")]
    Full {
        /// The slot.
        slot: SlotNumber,
        /// How many there may be.
        limit: usize,
    },
    /// Somebody else was selected, or nobody yet.
    #[error("it is not the turn of {builder} to reveal for slot {slot}: {selection:?}")]
    NotYourTurn {
        /// The slot.
        slot: SlotNumber,
        /// Who reveals.
        builder: Address,
        /// Whose turn it is.
        selection: Box<Selection>,
    },
    /// Something else was committed to.
    #[error("what {builder} reveals for slot {slot} is not what it committed to: {commitment}")]
    Mismatch {
        /// The slot.
        slot: SlotNumber,
        /// Who reveals.
        builder: Address,
        /// What it committed to.
        commitment: B256,
    },
}

impl ProposalError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotTaken => "no_proposals",
            Self::NotAsked { .. } => "not_asked",
            Self::AskedBefore { .. } => "asked_before",
            Self::TooManyCalls { .. } => "too_many_calls",
            Self::NotDecided { .. } => "right_not_decided",
            Self::OtherRight { .. } => "other_right",
            Self::Closed { .. } => "bidding_closed",
            Self::NotAboveOwn { .. } => "not_above_own",
            Self::InvalidSignature { .. } => "invalid_bid_signature",
            Self::NonceTooLow { .. } => "bid_nonce_too_low",
            Self::Full { .. } => "book_full",
            Self::NotYourTurn { .. } => "not_your_turn",
            Self::Mismatch { .. } => "reveal_mismatch",
        }
    }

    /// What one can do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NotTaken => "bid for slots, and build yourself",
            Self::NotAsked { .. } => "ask market_getProposals what is asked for",
            Self::AskedBefore { .. } => "what the holder's own proposal is worth is said once",
            Self::TooManyCalls { .. } => "ask for fewer rights, or in a later slot",
            Self::NotDecided { .. } => "reveal once the slot is allocated, to who got the right",
            Self::OtherRight { .. } => "offer a proposal for all rollups of the right, to who holds it",
            Self::Closed { .. } => "offer earlier, or for a later slot",
            Self::NotAboveOwn { .. } => "offer more than the holder's own proposal is worth",
            Self::InvalidSignature { .. } => {
                "sign the EIP-712 digest (domain Lockstep, version 1): 65 bytes r || s || v with a low s"
            }
            Self::NonceTooLow { .. } => "raise the nonce",
            Self::Full { .. } => "offer earlier, or for a later slot",
            Self::NotYourTurn { .. } => "reveal when you are selected, and in time",
            Self::Mismatch { .. } => "keccak-256 of the salt and of each rollup's chain id and list digest, ascending",
        }
    }
}

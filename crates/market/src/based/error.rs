//! Why L1 does not take part in a sale.

use alloy_primitives::{Address, U256};
use lockstep_primitives::{ChainId, SlotNumber};

/// Why L1 does not take part. [`BasedError::code`] is stable; the text may be reworded.
///
/// Amounts are in the numeraire's smallest unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BasedError {
    /// Slots of no length.
    #[error("the slots of L1 chain {chain} have 0 seconds")]
    NoSlots {
        /// The L1 chain.
        chain: ChainId,
    },
    /// Nobody proposes.
    #[error("the zero address is named as the proposer of slot {l1_slot} of L1 chain {chain}")]
    ZeroProposer {
        /// The L1 chain.
        chain: ChainId,
        /// Its slot.
        l1_slot: u64,
    },
    /// A slot at the end of time.
    #[error("slot {l1_slot} of L1 chain {chain} is beyond 2^64 seconds")]
    SlotTooLate {
        /// The L1 chain.
        chain: ChainId,
        /// Its slot.
        l1_slot: u64,
    },
    /// A slot that is not kept.
    #[error("slot {l1_slot} of L1 chain {chain} is before slot {oldest}, the oldest whose proposer is kept")]
    SlotTooOld {
        /// The L1 chain.
        chain: ChainId,
        /// Its slot.
        l1_slot: u64,
        /// The oldest that is kept.
        oldest: u64,
    },
    /// Nothing of L1 is built in the slot.
    #[error("L1 chain {chain} has no block in slot {slot}")]
    NoBlock {
        /// The L1 chain.
        chain: ChainId,
        /// The slot of the market.
        slot: SlotNumber,
    },
    /// Whether the bidder proposes cannot be told.
    #[error("the proposer of slot {l1_slot} of L1 chain {chain}, in slot {slot}, is not known")]
    UnknownProposer {
        /// The L1 chain.
        chain: ChainId,
        /// The slot of the market.
        slot: SlotNumber,
        /// The slot of L1.
        l1_slot: u64,
    },
    /// No single proposer builds L1 in the slot.
    #[error("the blocks of L1 chain {chain} in slot {slot} have different proposers")]
    SeveralProposers {
        /// The L1 chain.
        chain: ChainId,
        /// The slot of the market.
        slot: SlotNumber,
    },
    /// Somebody else's turn.
    #[error("in slot {slot} {proposer} proposes on L1 chain {chain}, so {bidder} cannot bid for packages with it")]
    NotProposer {
        /// The L1 chain.
        chain: ChainId,
        /// The slot of the market.
        slot: SlotNumber,
        /// Whose turn it is.
        proposer: Address,
        /// Who bid.
        bidder: Address,
    },
    /// L1 by itself is nobody's to sell.
    #[error("L1 chain {chain} is its proposer's in slot {slot} without a bid")]
    NothingToBuy {
        /// The L1 chain.
        chain: ChainId,
        /// The slot of the market.
        slot: SlotNumber,
    },
    /// A price with no seller.
    #[error("{amount} were paid for L1 chain {chain} alone, which nobody sells")]
    NobodyToPay {
        /// The L1 chain.
        chain: ChainId,
        /// How much.
        amount: U256,
    },
    /// Amounts that no market has.
    #[error("what rollup {seller} gets of a package with L1 chain {chain} is above 2^256 - 1")]
    SumTooLarge {
        /// The L1 chain.
        chain: ChainId,
        /// The rollup.
        seller: ChainId,
    },
}

impl BasedError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoSlots { .. } => "l1_without_slots",
            Self::ZeroProposer { .. } => "zero_l1_proposer",
            Self::SlotTooLate { .. } => "l1_slot_too_late",
            Self::SlotTooOld { .. } => "l1_slot_too_old",
            Self::NoBlock { .. } => "no_l1_block",
            Self::UnknownProposer { .. } => "unknown_l1_proposer",
            Self::SeveralProposers { .. } => "several_l1_proposers",
            Self::NotProposer { .. } => "not_l1_proposer",
            Self::NothingToBuy { .. } => "l1_not_for_sale",
            Self::NobodyToPay { .. } => "l1_nobody_to_pay",
            Self::SumTooLarge { .. } => "sum_too_large",
        }
    }

    /// What one can do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NoSlots { .. } => "L1 slots have 12 seconds on mainnet",
            Self::ZeroProposer { .. } => "name the address with which the proposer bids",
            Self::SlotTooLate { .. } | Self::SlotTooOld { .. } => "name slots of L1's current and next epoch",
            Self::NoBlock { .. } => "bid for the rollups without L1, or for a slot with an L1 block",
            Self::UnknownProposer { .. } => "bid for the rollups without L1, or once the lookahead reaches the slot",
            Self::SeveralProposers { .. } => "bid for the rollups without L1; shorter slots have one L1 block at the most",
            Self::NotProposer { .. } => "bid for the rollups without L1",
            Self::NothingToBuy { .. } => "add the rollups that are to be built together with L1",
            Self::NobodyToPay { .. } | Self::SumTooLarge { .. } => "check the shares of the package",
        }
    }
}

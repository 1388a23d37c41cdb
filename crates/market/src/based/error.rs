//! Why L1 does not take part in a sale.

use lockstep_primitives::ChainId;

/// Why L1 does not take part. [`BasedError::code`] is stable; the text may be reworded.
///
/// Amounts are in the numeraire's smallest unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BasedError {
    /// L1 takes no part.
    #[error("L1 takes no part in this market")]
    NoL1,
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
}

impl BasedError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoL1 => "no_l1",
            Self::NoSlots { .. } => "l1_without_slots",
            Self::ZeroProposer { .. } => "zero_l1_proposer",
            Self::SlotTooLate { .. } => "l1_slot_too_late",
            Self::SlotTooOld { .. } => "l1_slot_too_old",
        }
    }

    /// What one can do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NoL1 => "name L1 in the market's configuration",
            Self::NoSlots { .. } => "L1 slots have 12 seconds on mainnet",
            Self::ZeroProposer { .. } => "name the address with which the proposer bids",
            Self::SlotTooLate { .. } | Self::SlotTooOld { .. } => "name slots of L1's current and next epoch",
        }
    }
}

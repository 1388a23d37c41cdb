//! Why a bid for an epoch, or a step with a right that was bought ahead, is refused.

use alloy_primitives::Address;
use lockstep_primitives::SlotNumber;

/// Why it is refused. [`EpochError::code`] is stable; the text may be reworded. Times are in milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EpochError {
    /// Nothing is sold ahead of time.
    #[error("this market sells nothing ahead of time")]
    NotSoldAhead,
    /// Another epoch is being sold, or none.
    #[error("epoch {epoch} is not being sold at {now_ms} ms")]
    NotOpen {
        /// The epoch.
        epoch: u64,
        /// When it was asked for.
        now_ms: u64,
    },
    /// Its first slot may be on sale by itself already.
    #[error("epoch {epoch} was not closed in time, so its slots are sold just before they start")]
    ClosedLate {
        /// The epoch.
        epoch: u64,
    },
    /// Builders bid for the right already, so it is too late to hand it over otherwise.
    #[error("rights of slot {slot} that {holder} offers are for builders to bid for")]
    Offered {
        /// The slot.
        slot: SlotNumber,
        /// Who holds them.
        holder: Address,
    },
}

impl EpochError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotSoldAhead => "not_sold_ahead",
            Self::NotOpen { .. } => "epoch_not_open",
            Self::ClosedLate { .. } => "epoch_closed_late",
            Self::Offered { .. } => "right_offered",
        }
    }

    /// What one can do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NotSoldAhead => "bid for slots",
            Self::NotOpen { .. } => "ask market_getEpoch which epoch is being sold",
            Self::ClosedLate { .. } => "bid for its slots",
            Self::Offered { .. } => "bid for them",
        }
    }
}

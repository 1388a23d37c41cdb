//! Why a reserve, or a figure about a seller's earnings, is refused.

use alloy_primitives::U256;
use lockstep_primitives::{ChainId, SlotNumber};

/// Why a reserve rule or a figure is refused. [`ReserveError::code`] is stable; the text may be reworded.
///
/// Amounts are in the numeraire's smallest unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReserveError {
    /// Nobody may bid that much.
    #[error("the reserve of rollup {chain} is {reserve}, more than 2^248 - 1")]
    ReserveTooLarge {
        /// The rollup.
        chain: ChainId,
        /// The reserve.
        reserve: U256,
    },
    /// No steps, or too many.
    #[error("the reserve schedule of rollup {chain} has {steps} steps, it needs 1 to {limit}")]
    NumberOfSteps {
        /// The rollup.
        chain: ChainId,
        /// How many it has.
        steps: usize,
        /// How many it may have.
        limit: usize,
    },
    /// No window, or a longer one than is remembered.
    #[error("the implied reserve of rollup {chain} looks back over {window} slots, it may over 1 to {limit}")]
    Window {
        /// The rollup.
        chain: ChainId,
        /// Over how many slots it looks back.
        window: u64,
        /// Over how many it may.
        limit: u64,
    },
    /// A number of samples that means nothing, or that never comes together.
    #[error("the implied reserve of rollup {chain} wants {min_samples} samples out of {window} slots")]
    MinSamples {
        /// The rollup.
        chain: ChainId,
        /// How many it wants.
        min_samples: u64,
        /// Over how many slots it looks back.
        window: u64,
    },
    /// More than sums are safe with.
    #[error("what rollup {chain} {figure} in slot {slot} is {amount}, more than 2^240 - 1")]
    EarningsTooLarge {
        /// The rollup.
        chain: ChainId,
        /// The slot.
        slot: SlotNumber,
        /// Which figure: `earned`, `posted`, `computed` or `paid`.
        figure: &'static str,
        /// The amount.
        amount: U256,
    },
    /// A figure about a slot that has not come yet.
    #[error("a figure of rollup {chain} is about slot {slot}, the latest is {latest}")]
    FutureSlot {
        /// The rollup.
        chain: ChainId,
        /// The slot.
        slot: SlotNumber,
        /// The latest slot that there can be figures of.
        latest: SlotNumber,
    },
    /// A figure about a slot that is no longer remembered.
    #[error("a figure of rollup {chain} is about slot {slot}, the earnings before slot {oldest} are forgotten")]
    ForgottenSlot {
        /// The rollup.
        chain: ChainId,
        /// The slot.
        slot: SlotNumber,
        /// The oldest slot that is remembered.
        oldest: SlotNumber,
    },
    /// A figure is said once.
    #[error("the figure `{figure}` of rollup {chain} in slot {slot} is {known}, it cannot become {given}")]
    FigureChanged {
        /// The rollup.
        chain: ChainId,
        /// The slot.
        slot: SlotNumber,
        /// Which figure: `earned`, `posted`, `computed` or `paid`.
        figure: &'static str,
        /// What it is.
        known: U256,
        /// What was said now.
        given: U256,
    },
    /// A stored history that no history can have become.
    #[error("the stored earnings of rollup {chain} have {slots} slots, more than {limit}")]
    HistoryTooLong {
        /// The rollup.
        chain: ChainId,
        /// How many slots it has.
        slots: usize,
        /// How many it may have.
        limit: usize,
    },
}

impl ReserveError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::ReserveTooLarge { .. } => "reserve_too_large",
            Self::NumberOfSteps { .. } => "reserve_steps",
            Self::Window { .. } => "reserve_window",
            Self::MinSamples { .. } => "reserve_min_samples",
            Self::EarningsTooLarge { .. } => "earnings_too_large",
            Self::FutureSlot { .. } => "earnings_of_future_slot",
            Self::ForgottenSlot { .. } => "earnings_forgotten",
            Self::FigureChanged { .. } => "earnings_changed",
            Self::HistoryTooLong { .. } => "earnings_history_too_long",
        }
    }

    /// What one can do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::ReserveTooLarge { .. } | Self::EarningsTooLarge { .. } => "amounts are in the numeraire's smallest unit",
            Self::NumberOfSteps { .. } => "send the steps that come next, and the others with a later update",
            Self::Window { .. } => "choose a window of at least one slot, and no longer than earnings are remembered",
            Self::MinSamples { .. } => "ask for at least one sample and for no more than the window has slots",
            Self::FutureSlot { .. } => "report what a slot earned once it has run",
            Self::ForgottenSlot { .. } => "report earnings soon after their slot",
            Self::FigureChanged { .. } => "a figure stands once it is reported; check which of both is right",
            Self::HistoryTooLong { .. } => "the store is not that of this market",
        }
    }
}

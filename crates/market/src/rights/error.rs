//! Why the book of rights refuses a step.

use alloy_primitives::{Address, U256};
use lockstep_primitives::{ChainId, RollupSet, SlotNumber};

/// Why a step is refused. [`RightsError::code`] is stable; the text may be reworded.
///
/// Amounts are in the numeraire's smallest unit, times in milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RightsError {
    /// The book knows no such right.
    #[error("nobody holds a right for rollup {chain} in slot {slot}")]
    Unknown {
        /// The slot.
        slot: SlotNumber,
        /// The rollup.
        chain: ChainId,
    },
    /// The slot is no longer kept.
    #[error("the right for rollup {chain} in slot {slot} is forgotten: the book begins with slot {before}")]
    Forgotten {
        /// The slot.
        slot: SlotNumber,
        /// The rollup.
        chain: ChainId,
        /// The first slot that is kept.
        before: SlotNumber,
    },
    /// Somebody got it first.
    #[error("the right for rollup {chain} in slot {slot} was granted to {holder}")]
    AlreadyGranted {
        /// The slot.
        slot: SlotNumber,
        /// The rollup.
        chain: ChainId,
        /// Who got it.
        holder: Address,
    },
    /// A default proposer that is not one, or that pays.
    #[error("rollup {chain} in slot {slot} goes by default to {default_proposer} at no price, not to {holder} at {price}")]
    NotByDefault {
        /// The slot.
        slot: SlotNumber,
        /// The rollup.
        chain: ChainId,
        /// Who would get it.
        holder: Address,
        /// Who is the default proposer.
        default_proposer: Address,
        /// What it would cost.
        price: U256,
    },
    /// Somebody else's right.
    #[error("the right for rollup {chain} in slot {slot} is held by {holder}, not by {by}")]
    NotHolder {
        /// The slot.
        slot: SlotNumber,
        /// The rollup.
        chain: ChainId,
        /// Who holds it.
        holder: Address,
        /// Who asked.
        by: Address,
    },
    /// A sale to oneself.
    #[error("{holder} holds the right for rollup {chain} in slot {slot} already")]
    ToItself {
        /// The slot.
        slot: SlotNumber,
        /// The rollup.
        chain: ChainId,
        /// Who holds it.
        holder: Address,
    },
    /// A default proposer has bought nothing that it could resell.
    #[error("the right for rollup {chain} in slot {slot} was not sold, so it is not resold")]
    NeverSold {
        /// The slot.
        slot: SlotNumber,
        /// The rollup.
        chain: ChainId,
    },
    /// A right is resold once.
    #[error("the right for rollup {chain} in slot {slot} was resold by {first} to {holder}, and is not resold again")]
    ResoldBefore {
        /// The slot.
        slot: SlotNumber,
        /// The rollup.
        chain: ChainId,
        /// Who got it first.
        first: Address,
        /// Who holds it.
        holder: Address,
    },
    /// Builders count on it.
    #[error("the right for rollup {chain} in slot {slot} is with builders already")]
    WithBuilders {
        /// The slot.
        slot: SlotNumber,
        /// The rollup.
        chain: ChainId,
    },
    /// A builder is chosen once.
    #[error("rollup {chain} in slot {slot} is built by {builder} already")]
    DelegatedBefore {
        /// The slot.
        slot: SlotNumber,
        /// The rollup.
        chain: ChainId,
        /// Who builds.
        builder: Address,
    },
    /// Less than the holder wants.
    #[error("for building rollups {rollups:?} in slot {slot} their holder wants {wanted}, {offered} is offered")]
    BelowOffer {
        /// The slot.
        slot: SlotNumber,
        /// The rollups.
        rollups: RollupSet,
        /// What is offered in all.
        offered: U256,
        /// What the holder wants in all.
        wanted: U256,
    },
    /// Too late for this step.
    #[error("slot {slot} changed hands until {until_ms}, it is {now_ms}")]
    Late {
        /// The slot.
        slot: SlotNumber,
        /// From when on it is too late.
        until_ms: u64,
        /// What time it is.
        now_ms: u64,
    },
    /// Nothing to do it for.
    #[error("no rollup of slot {slot} is named")]
    NoRollups {
        /// The slot.
        slot: SlotNumber,
    },
    /// More than anybody may bid.
    #[error("an amount for rollup {chain} in slot {slot} is {amount}, more than 2^248 - 1")]
    AmountTooLarge {
        /// The slot.
        slot: SlotNumber,
        /// The rollup.
        chain: ChainId,
        /// The amount.
        amount: U256,
    },
    /// What is over is over.
    #[error("the right for rollup {chain} in slot {slot} has ended: {ending}")]
    Ended {
        /// The slot.
        slot: SlotNumber,
        /// The rollup.
        chain: ChainId,
        /// How: `delivered`, `taken_over` or `lapsed`.
        ending: &'static str,
    },
    /// The default proposer was to build anyway.
    #[error("rollup {chain} in slot {slot} is its default proposer's to build, which takes over from nobody")]
    NobodyToTakeOverFrom {
        /// The slot.
        slot: SlotNumber,
        /// The rollup.
        chain: ChainId,
    },
    /// No room for another right of the slot.
    #[error("the book holds {limit} rights for slot {slot}, which is the limit; rollup {chain} does not fit")]
    TooManyRights {
        /// The slot.
        slot: SlotNumber,
        /// The rollup.
        chain: ChainId,
        /// How many there may be.
        limit: usize,
    },
    /// No room for another slot.
    #[error("the book holds the rights of {limit} slots, which is the limit; slot {slot} does not fit")]
    BookFull {
        /// The slot.
        slot: SlotNumber,
        /// How many slots there may be.
        limit: usize,
    },
}

impl RightsError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "unknown_right",
            Self::Forgotten { .. } => "right_forgotten",
            Self::AlreadyGranted { .. } => "right_already_granted",
            Self::NotByDefault { .. } => "not_by_default",
            Self::NotHolder { .. } => "not_holder",
            Self::ToItself { .. } => "right_to_itself",
            Self::NeverSold { .. } => "right_never_sold",
            Self::ResoldBefore { .. } => "right_resold_before",
            Self::WithBuilders { .. } => "right_with_builders",
            Self::DelegatedBefore { .. } => "right_delegated_before",
            Self::BelowOffer { .. } => "below_holders_reserve",
            Self::Late { .. } => "right_late",
            Self::NoRollups { .. } => "no_rollups",
            Self::AmountTooLarge { .. } => "right_amount_too_large",
            Self::Ended { .. } => "right_ended",
            Self::NobodyToTakeOverFrom { .. } => "nobody_to_take_over_from",
            Self::TooManyRights { .. } => "too_many_rights",
            Self::BookFull { .. } => "rights_book_full",
        }
    }

    /// What one can do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "ask the market who proposes in the slot",
            Self::Forgotten { .. } => "ask for a slot that is still kept",
            Self::AlreadyGranted { .. } => "a right is granted once; its holder may resell it",
            Self::NotByDefault { .. } => "name the default proposer as the holder, at price zero",
            Self::NotHolder { .. } => "only the holder decides about a right; sign with its key",
            Self::ToItself { .. } => "name somebody else",
            Self::NeverSold { .. } => "offer it to builders instead",
            Self::ResoldBefore { .. } => "let builders bid for building in your place instead",
            Self::WithBuilders { .. } => "resell a right before builders bid for it, and offer it once",
            Self::DelegatedBefore { .. } => "a builder is chosen once",
            Self::BelowOffer { .. } => "offer at least what the holder wants for all of the rollups together",
            Self::Late { .. } => "act for a later slot",
            Self::NoRollups { .. } => "name at least one rollup",
            Self::AmountTooLarge { .. } => "amounts are in the numeraire's smallest unit",
            Self::Ended { .. } => "act for a later slot",
            Self::NobodyToTakeOverFrom { .. } => "the right lapses when its default proposer does not build",
            Self::TooManyRights { .. } => "run another market for more rollups",
            Self::BookFull { .. } => "end the rights of the oldest slots, or forget them",
        }
    }
}

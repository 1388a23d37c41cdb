//! Why there is no such calendar.

/// Why there is no such calendar. [`CalendarError::code`] is stable; the text may be reworded. Times are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    /// A clock without slots.
    #[error("the slot clock has slots of 0 ms")]
    NoSlots,
    /// No just-in-time auction, or several at a time.
    #[error("the just-in-time auction is open for {just_in_time_ms} ms, it may be for 1 to the {slot_ms} ms of a slot")]
    JustInTime {
        /// How long it is open.
        just_in_time_ms: u64,
        /// How long a slot is.
        slot_ms: u64,
    },
    /// No epoch, or too long a one.
    #[error("an epoch has {epoch_slots} slots, it may have 1 to {limit}")]
    EpochSlots {
        /// How many it has.
        epoch_slots: u64,
        /// How many it may have.
        limit: u64,
    },
    /// No auction ahead, or several at a time.
    #[error("the auction ahead of time is open for {open_ms} ms, it may be for 1 to the {epoch_ms} ms of an epoch")]
    AheadOpen {
        /// How long it is open.
        open_ms: u64,
        /// How long an epoch is.
        epoch_ms: u64,
    },
    /// What is sold ahead would not be sold before it is sold just in time.
    #[error("{slots_ahead} slots ahead are {lead_ms} ms, but the just-in-time auction of a slot opens {needed_ms} ms before it")]
    AheadTooLate {
        /// How many slots ahead an epoch's auction closes.
        slots_ahead: u64,
        /// How long that is.
        lead_ms: u64,
        /// How long it has to be.
        needed_ms: u64,
    },
    /// Times that 64 bits do not hold.
    #[error("epochs of {epoch_slots} slots of {slot_ms} ms, sold {slots_ahead} slots ahead, are beyond 2^64 ms")]
    TooLong {
        /// How long a slot is.
        slot_ms: u64,
        /// How many slots an epoch has.
        epoch_slots: u64,
        /// How many slots ahead it is sold.
        slots_ahead: u64,
    },
}

impl CalendarError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoSlots => "no_slots",
            Self::JustInTime { .. } => "just_in_time_window",
            Self::EpochSlots { .. } => "epoch_slots",
            Self::AheadOpen { .. } => "ahead_window",
            Self::AheadTooLate { .. } => "ahead_too_late",
            Self::TooLong { .. } => "epoch_too_long",
        }
    }

    /// What one can do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NoSlots => "give slots a length",
            Self::JustInTime { .. } => "open the just-in-time auction at least 1 ms and no longer than a slot",
            Self::EpochSlots { .. } => "sell fewer slots at once, and at least one",
            Self::AheadOpen { .. } => "open the auction ahead of time at least 1 ms and no longer than an epoch",
            Self::AheadTooLate { .. } => "sell more slots ahead, or open the just-in-time auction for less long",
            Self::TooLong { .. } => "sell fewer slots at once, or fewer slots ahead",
        }
    }
}

//! Why a sequencer does not even execute a prepare.

use alloy_primitives::B256;
use lockstep_primitives::{ChainId, SlotNumber};

use crate::VoteRefusal;

/// Why a prepare is refused without executing it. [`PrepareRefusal::code`] is stable; the text may be reworded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrepareRefusal {
    /// It is addressed to somebody else.
    #[error("the prepare is for rollup {chain}, slot {slot}")]
    AnotherSlot {
        /// The rollup it names.
        chain: ChainId,
        /// The slot it names.
        slot: SlotNumber,
    },
    /// It contradicts itself.
    #[error("the prepare contradicts itself: {what}")]
    Malformed {
        /// What does not fit.
        what: &'static str,
        /// Index of the block in the list.
        block: Option<u32>,
        /// Position in the block's transactions.
        position: Option<u32>,
    },
    /// Too late to vote.
    #[error("it is {now_ms}, t_decide {t_decide_ms} has passed")]
    AfterDecide {
        /// The sequencer's time.
        now_ms: u64,
        /// When the decision was due.
        t_decide_ms: u64,
    },
    /// `holds` is not what the rollup sells.
    #[error("the prepare's terms (holds: {holds}) are not the rollup's")]
    HoldDiffers {
        /// What the prepare says.
        holds: bool,
    },
    /// The rollup would publish later than it may.
    #[error("t_publish {t_publish_ms} is later than the slot allows, {latest_ms}")]
    PublishTooLate {
        /// What the prepare says.
        t_publish_ms: u64,
        /// The rollup's own time to publish.
        latest_ms: u64,
    },
    /// A second, different prepare.
    #[error("another prepare, {first}, came first for this slot and attempt")]
    AnotherPrepare {
        /// Digest of the first.
        first: B256,
    },
    /// An attempt that a later one has replaced.
    #[error("attempt {attempt} was given up for attempt {current}")]
    StaleAttempt {
        /// The prepare's.
        attempt: u32,
        /// The latest.
        current: u32,
    },
    /// A yes to an earlier attempt stands.
    #[error("the rollup voted yes to attempt {attempt}, which is not decided")]
    Bound {
        /// The attempt that binds.
        attempt: u32,
    },
    /// The slot's list is out.
    #[error("the rollup has already chosen what to publish in this slot")]
    AlreadyPublished,
}

impl PrepareRefusal {
    /// Stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::AnotherSlot { .. } => "another-slot",
            Self::Malformed { .. } => "malformed",
            Self::AfterDecide { .. } => "after-decide",
            Self::HoldDiffers { .. } => "hold-differs",
            Self::PublishTooLate { .. } => "publish-too-late",
            Self::AnotherPrepare { .. } => "another-prepare",
            Self::StaleAttempt { .. } => "stale-attempt",
            Self::Bound { .. } => "bound",
            Self::AlreadyPublished => "already-published",
        }
    }
}

impl From<PrepareRefusal> for VoteRefusal {
    fn from(refusal: PrepareRefusal) -> Self {
        let (block, position) = match &refusal {
            PrepareRefusal::Malformed { block, position, .. } => (*block, *position),
            _ => (None, None),
        };
        Self { code: refusal.code().to_owned(), block, position, text: refusal.to_string() }
    }
}

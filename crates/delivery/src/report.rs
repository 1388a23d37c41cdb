//! What the machines tell whoever watches over them.

use alloy_primitives::B256;
use lockstep_primitives::ChainId;

use crate::{DecisionKey, Verdict, VoteRefusal};

/// Something that an operator should know. [`Report::code`] is stable; the text may be reworded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Report {
    /// A vote or an event that does not fit what happened before.
    #[error("rollup {chain}: ignored, {what}")]
    Ignored {
        /// The rollup that it names.
        chain: ChainId,
        /// Why.
        what: &'static str,
    },
    /// A prepare was refused without executing it.
    #[error("rollup {chain}, {key}: the prepare is refused, {refusal}")]
    PrepareRefused {
        /// The rollup.
        chain: ChainId,
        /// Slot and attempt.
        key: DecisionKey,
        /// Why.
        refusal: VoteRefusal,
    },
    /// The record was of another slot or attempt.
    #[error("{key}: the record of {found} was handed in instead")]
    WrongRecord {
        /// What was asked for.
        key: DecisionKey,
        /// What came.
        found: DecisionKey,
    },
    /// The record says something else than this proposer wanted.
    #[error("{key}: the record says {recorded} ({reason}), which this proposer did not ask for")]
    DecidedOtherwise {
        /// Slot and attempt.
        key: DecisionKey,
        /// What it says.
        recorded: Verdict,
        /// Why.
        reason: String,
    },
    /// A write-once record changed: whoever keeps it is broken.
    #[error("{key}: the record changed from {first} to {then}")]
    RecordChanged {
        /// Slot and attempt.
        key: DecisionKey,
        /// What it said first.
        first: Verdict,
        /// What it says now.
        then: Verdict,
    },
    /// The record cannot be read or written.
    #[error("{key}: the record cannot be reached")]
    RecordUnreadable {
        /// Slot and attempt.
        key: DecisionKey,
    },
    /// A commit that is not over what the rollup voted for, or not over all participants. Treated as an abort.
    #[error("rollup {chain}, {key}: the recorded commit is not over the prepare {voted} and its participants")]
    CommitDoesNotFit {
        /// The rollup.
        chain: ChainId,
        /// Slot and attempt.
        key: DecisionKey,
        /// Digest of the prepare that the rollup voted yes to.
        voted: B256,
        /// Digest in the record.
        recorded: Option<B256>,
    },
    /// A commit that names a rollup which has not voted yes.
    #[error("rollup {chain}, {key}: a commit is recorded that the rollup has not voted for")]
    CommitWithoutVote {
        /// The rollup.
        chain: ChainId,
        /// Slot and attempt.
        key: DecisionKey,
    },
    /// A rollup with fallback terms publishes without knowing the decision.
    #[error("rollup {chain}, {key}: the record cannot be read at t_publish, the rollup falls back; this may be a breach")]
    PossibleBreach {
        /// The rollup.
        chain: ChainId,
        /// Slot and attempt.
        key: DecisionKey,
    },
}

impl Report {
    /// Stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Ignored { .. } => "ignored",
            Self::PrepareRefused { .. } => "prepare-refused",
            Self::WrongRecord { .. } => "wrong-record",
            Self::DecidedOtherwise { .. } => "decided-otherwise",
            Self::RecordChanged { .. } => "record-changed",
            Self::RecordUnreadable { .. } => "record-unreadable",
            Self::CommitDoesNotFit { .. } => "commit-does-not-fit",
            Self::CommitWithoutVote { .. } => "commit-without-vote",
            Self::PossibleBreach { .. } => "possible-breach",
        }
    }

    /// Whether atomicity is in doubt, or whoever has to guard it misbehaved.
    pub const fn is_breach(&self) -> bool {
        matches!(
            self,
            Self::RecordChanged { .. }
                | Self::CommitDoesNotFit { .. }
                | Self::CommitWithoutVote { .. }
                | Self::PossibleBreach { .. }
        )
    }
}

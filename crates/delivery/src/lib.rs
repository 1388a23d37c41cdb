//! Prepare, decide, commit: how the block lists of several rollups are published together or not at all.
//!
//! ```text
//!  proposer                                    record                    sequencer (one a rollup)
//!  Coordinator                              (write once)                 SequencerSlot
//!      | Seal, stage by stage --- Prepare: two lists, signed -----------------> | Execute both lists
//!      | <----------------------------------------- Vote, signed -------------- | StoreVote, then SendVote
//!      | RecordDecision --- commit, only before t_decide --> |                  |
//!      |                   |  <- RecordAbort, after t_decide ------------------ | nothing is recorded
//!      | Announce ------------------------------------------------------------> | ReadDecision
//!      |                                             | --- Decision ----------> | Publish what it says
//! ```
//!
//! Every machine is `apply(event, now_ms) -> effects`. It reads no clock, touches no file or socket and draws no random
//! number; whoever drives it carries out the effects in order and hands their results back as events. Events may be
//! repeated, late or out of order. Signatures, and that a prepare comes from the proposer whom the market's allocation
//! names, are checked before an event is handed in.
//!
//! # Invariants
//!
//! 1. A sequencer votes yes only after both lists of that very prepare ran as promised, and its vote is durable before it
//!    is sent.
//! 2. A yes binds: from then on the rollup publishes only what the record says. Silence is not an abort. The one
//!    exception is a rollup whose terms say `fallback` while the record cannot be read at `t_publish`; it is reported.
//! 3. There is one record per (slot, attempt) and it never changes. A commit is written only before `t_decide`.
//! 4. So no two rollups whose terms say `hold` ever publish differently: one the list with the cross-rollup bundles,
//!    another a list without them.
//! 5. Evidence that anyone could use goes to a rollup only after every rollup it comes from voted yes, or is trusted by
//!    the attester.
//!
//! 6. What came encrypted is opened only after the list before it and its own order are signed: what is in it can change
//!    neither. It was never simulated, so the first promise ends where it begins.
//!
//! # What it does not defend against
//!
//! A proposer that signs a commit over digests for which it holds no yes. The sequencers concerned refuse the record and
//! report it, and the signed decision together with their votes proves who did it; a keeper of the record that sees the
//! votes can refuse it beforehand.

mod coordinator;
mod decision;
mod encrypted;
mod guarantee;
mod messages;
mod refusal;
mod report;
mod sequencer;
mod stages;

pub use coordinator::{Coordinator, CoordinatorEffect, CoordinatorEvent, CoordinatorPlan};
pub use decision::{WriteOutcome, attempt_number, judge_write, proposer_of_attempt};
pub use encrypted::{
    Ciphertext, CommitteeKey, InvalidEncryption, MAX_CIPHERTEXT_BYTES, MAX_ENCRYPTED, MAX_ENCRYPTED_BYTES, MAX_MEMBERS,
    MemberKey, Opening, PADDING, Unopened, deal, encrypt,
};
pub use guarantee::{DeliveryStage, level};
pub use messages::{Decision, DecisionKey, ExpectedBlock, Prepare, PreparedList, RequirementResult, Verdict, Vote, VoteRefusal};
pub use refusal::PrepareRefusal;
pub use report::Report;
pub use sequencer::{MismatchedVote, SequencerEffect, SequencerEvent, SequencerPhase, SequencerSlot, SequencerTerms, Which};
pub use stages::{UntrustedCycle, prepare_stages};

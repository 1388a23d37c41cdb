//! Evidence sources: who signs that a message was sent.

mod iris;
mod local;
mod routes;

use std::fmt;

use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use lockstep_messaging::{Evidence, EvidenceRequest, Message};
use lockstep_primitives::{ChainId, Reason, RollupSet};

pub use iris::{CctpVersion, Clock, IrisClient, IrisLimits, IrisSource};
pub use local::LocalAttester;
pub use routes::EvidenceRoutes;

/// Why there is no evidence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// The source does not hold a key that has to sign.
    #[error("no key of attester {0}")]
    UnknownAttester(Address),
    /// The origin's sequencer has not voted yes, and is not trusted to be about to.
    #[error("rollup {0} has not voted for the block that sends the message")]
    NotReleased(ChainId),
    /// Signing failed.
    #[error("signing failed: {0}")]
    Signing(String),
    /// The source attests what is final, which nothing of an open slot is.
    #[error("the attestation service signs only what is final: the message cannot be delivered in the slot that sends it")]
    SameSlot,
    /// The source is not configured for the message, or refuses to attest it. Asking again does not help by itself.
    #[error("the message is not attested: {0}")]
    Refused(String),
    /// The attesters have not signed yet: ask again later.
    #[error("the attestation is not there yet: {status}{}", delay(.delay_reason.as_deref()))]
    Pending {
        /// How far it is, in the service's words.
        status: String,
        /// Why it takes longer than it should, in the service's words (`insufficient_fee`, for example).
        delay_reason: Option<String>,
    },
    /// The service is not asked for a while, because it was asked too often, or would be.
    #[error("the attestation service is not asked before {until_ms} (milliseconds since 1970): it allows only so many requests")]
    RateLimited {
        /// When it is asked again, in milliseconds since 1970.
        until_ms: u64,
    },
    /// The service cannot be reached, or is out of order: ask again later.
    #[error("the attestation service cannot be used: {0}")]
    Unavailable(String),
    /// What the service answers cannot be read, contradicts itself, or is no attestation of that message.
    #[error("the attestation service's answer is no evidence: {0}")]
    Malformed(String),
}

fn delay(reason: Option<&str>) -> String {
    reason.map(|reason| format!(" (delayed: {reason})")).unwrap_or_default()
}

impl EvidenceError {
    /// The same as what becomes of a bundle that waits for the evidence.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotReleased(_) | Self::Pending { .. } | Self::RateLimited { .. } | Self::Unavailable(_) => {
                Reason::EvidencePending(self.to_string())
            }
            Self::UnknownAttester(_) | Self::Signing(_) | Self::SameSlot | Self::Refused(_) | Self::Malformed(_) => {
                Reason::NoEvidence(self.to_string())
            }
        }
    }
}

/// The transaction on whose chain a message landed, and which of its messages it is.
///
/// Messages of CCTP v2 have no number on their own chain. When one transaction sends the same twice, only their order tells
/// which is which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LandedTx {
    /// The transaction's hash.
    pub hash: B256,
    /// How many messages of the same bytes the transaction sent before this one.
    pub twin: usize,
    /// How many messages of these bytes it sent in all, this one among them; at least 1.
    pub twins: usize,
}

impl LandedTx {
    /// A transaction that sent these bytes once.
    pub const fn only(hash: B256) -> Self {
        Self { hash, twin: 0, twins: 1 }
    }

    /// The transaction that sent `message` among `messages`, which are all that it sent.
    pub fn of(hash: B256, message: &Message, messages: &[Message]) -> Self {
        let others = || {
            messages.iter().filter(|other| {
                other.protocol == message.protocol && other.payload == message.payload && other.place != message.place
            })
        };
        Self { hash, twin: others().filter(|other| other.place < message.place).count(), twins: others().count() + 1 }
    }
}

/// Gives evidence for messages.
#[async_trait]
pub trait EvidenceSource: Send + Sync + fmt::Debug {
    /// Evidence for a message of an open slot, if its origin is among `released`: the rollups whose sequencers have voted yes,
    /// and those that the source is configured to trust. An attestation in a list is a bearer instrument, so it is never given
    /// earlier.
    ///
    /// # Errors
    /// When there is none to be had now.
    async fn evidence(&self, request: &EvidenceRequest, released: &RollupSet) -> Result<Evidence, EvidenceError>;

    /// Evidence for a message that is on its chain, at any time after. What is attested may differ from the request's payload
    /// in the fields that attesters fill in. That the message is there is the caller's to know.
    ///
    /// # Errors
    /// When there is none to be had now; [`EvidenceError::Pending`], [`EvidenceError::RateLimited`] and
    /// [`EvidenceError::Unavailable`] pass by themselves.
    async fn landed(&self, request: &EvidenceRequest, sent: &LandedTx) -> Result<Evidence, EvidenceError>;

    /// Asks that a message be attested again, because `expired`, the evidence that came before, does not hold any more. The new
    /// evidence comes by [`EvidenceSource::landed`], at once or later; until then the old one does.
    ///
    /// # Errors
    /// When the source does not do that, refuses, or cannot be asked now.
    async fn renew(&self, request: &EvidenceRequest, expired: &Evidence) -> Result<(), EvidenceError>;

    /// The rollups that are trusted before they vote.
    fn trusted(&self) -> &RollupSet;
}

#[cfg(test)]
mod tests {
    use lockstep_messaging::LogPlace;

    use super::*;

    fn message(index: u64, payload: u8) -> Message {
        Message {
            protocol: "cctp-v2",
            id: B256::repeat_byte(index.to_le_bytes()[0]),
            origin: 901,
            destination: Some(902),
            destination_name: "CCTP domain 2".to_owned(),
            restricted_to: None,
            payload: vec![payload].into(),
            place: LogPlace { block: 7, timestamp: 14, index },
        }
    }

    #[test]
    fn messages_that_look_the_same_are_told_apart_by_their_order() {
        let messages = [message(3, 1), message(5, 2), message(8, 1)];
        let hash = B256::repeat_byte(9);
        let of = |index: usize| LandedTx::of(hash, &messages[index], &messages);
        assert_eq!(of(0), LandedTx { hash, twin: 0, twins: 2 });
        assert_eq!(of(1), LandedTx::only(hash));
        assert_eq!(of(2), LandedTx { hash, twin: 1, twins: 2 });
        let mut other = message(8, 1);
        other.protocol = "cctp-v1";
        assert_eq!(LandedTx::of(hash, &messages[0], &[message(3, 1), other]), LandedTx::only(hash));
    }

    #[test]
    fn what_passes_by_itself_is_pending_and_what_does_not_is_no_evidence() {
        let pending = EvidenceError::Pending { status: "observed".into(), delay_reason: Some("insufficient_fee".into()) };
        assert_eq!(pending.to_string(), "the attestation is not there yet: observed (delayed: insufficient_fee)");
        let (text, late) = (String::new, EvidenceError::RateLimited { until_ms: 1 });
        for error in [pending, late, EvidenceError::Unavailable(text()), EvidenceError::NotReleased(901)] {
            assert_eq!(error.reason().code(), "evidence_pending", "{error}");
        }
        for error in [EvidenceError::SameSlot, EvidenceError::Malformed(text()), EvidenceError::Refused(text())] {
            assert_eq!(error.reason().code(), "no_evidence", "{error}");
        }
    }
}

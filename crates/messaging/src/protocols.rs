//! The seam between message protocols and everything else.

use std::{fmt, sync::Arc};

use alloy_primitives::Log;
use lockstep_primitives::{ChainId, Reason, StandIn};

use crate::{Evidence, EvidenceRequest, Message, RelayCall};

/// One message protocol.
pub trait Protocol: Send + Sync + fmt::Debug {
    /// The name used on every surface.
    fn name(&self) -> &'static str;

    /// Reads a log of rollup `chain` as an outbound message: `None` when it is none of this protocol's.
    fn recognise(&self, chain: ChainId, log: &Log) -> Option<Result<Message, Reason>>;

    /// What has to be presented on the destination.
    ///
    /// # Errors
    /// When the destination is not configured.
    fn evidence_request(&self, message: &Message) -> Result<EvidenceRequest, Reason>;

    /// Evidence of the right shape and size that a simulation accepts for real.
    fn stand_in(&self, request: &EvidenceRequest) -> (Evidence, Vec<StandIn>);

    /// The calls that deliver the message, in order.
    ///
    /// # Errors
    /// When the destination is not configured or the evidence is of another kind.
    fn deliver(&self, message: &Message, evidence: &Evidence) -> Result<Vec<RelayCall>, Reason>;
}

/// The configured protocols.
#[derive(Clone, Debug, Default)]
pub struct Protocols(Vec<Arc<dyn Protocol>>);

impl Protocols {
    /// A set of protocols. The first that recognises a log wins.
    pub fn new(protocols: Vec<Arc<dyn Protocol>>) -> Self {
        Self(protocols)
    }

    /// The messages among the logs of rollup `chain`, in log order. A log that looks like a message but is malformed keeps
    /// its index and carries its reason.
    pub fn recognise<'a>(&self, chain: ChainId, logs: impl IntoIterator<Item = &'a Log>) -> Vec<Result<Message, Reason>> {
        logs.into_iter().filter_map(|log| self.0.iter().find_map(|protocol| protocol.recognise(chain, log))).collect()
    }

    /// The protocol of a message.
    ///
    /// # Errors
    /// [`Reason::NoEvidence`] when it is not configured.
    pub fn of(&self, message: &Message) -> Result<&dyn Protocol, Reason> {
        self.0
            .iter()
            .find(|protocol| protocol.name() == message.protocol)
            .map(AsRef::as_ref)
            .ok_or_else(|| Reason::NoEvidence(format!("protocol {} is not configured", message.protocol)))
    }
}

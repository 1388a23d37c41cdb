//! The seam between message protocols and everything else.

use std::{fmt, sync::Arc};

use alloy_primitives::{B256, Log};
use lockstep_primitives::{ChainId, Reason, Rejection, RollupSet, StandIn};

use crate::{Demand, Destination, Emitted, Evidence, EvidenceKind, EvidenceRequest, Message, Ran, RelayCall, Slot};

/// One message protocol.
pub trait Protocol: Send + Sync + fmt::Debug {
    /// The name used on every surface.
    fn name(&self) -> &'static str;

    /// Which kind of evidence its messages take, all of them the same.
    fn evidence_kind(&self) -> EvidenceKind;

    /// Reads a log of rollup `chain` as an outbound message: `None` when it is none of this protocol's.
    fn recognise(&self, chain: ChainId, emitted: &Emitted<'_>) -> Option<Result<Message, Reason>>;

    /// Whether its messages, and what is presented for them, are the same wherever in a block they are emitted.
    fn is_placeless(&self) -> bool {
        false
    }

    /// What has to be presented in the block `to` for a message that is sent in this slot.
    ///
    /// # Errors
    /// When the destination is not configured, or does not take messages of the same slot.
    fn demand(&self, message: &Message, to: &Destination, slot: &Slot<'_>) -> Result<Demand, Reason>;

    /// Evidence of the right shape and size that a simulation accepts for real.
    fn stand_in(&self, request: &EvidenceRequest) -> (Evidence, Vec<StandIn>) {
        crate::attestation::stand_in(request)
    }

    /// The calls that deliver the message, in order. The last of them delivers.
    ///
    /// # Errors
    /// When the destination is not configured, the evidence is of another kind, or it does not hold in that block.
    fn deliver(&self, message: &Message, evidence: &Evidence, to: &Destination) -> Result<Vec<RelayCall>, Reason>;

    /// What [`Protocol::delivered`] says once this message is delivered; `None` while that cannot be known without evidence.
    fn receipt(&self, message: &Message, evidence: Option<&Evidence>) -> Option<B256>;

    /// Reads a log of rollup `chain` as the delivery of a message, by whomever: `None` when it is none of this protocol's.
    fn delivered(&self, chain: ChainId, log: &Log) -> Option<B256>;

    /// Checks a transaction that has run on `chain` as the slot's newest one: what its destination's rules do not check by
    /// themselves, because it is about other rollups. Returns the rollups on whose blocks of this slot it depends.
    ///
    /// # Errors
    /// When it makes the block invalid, or may: what is not certain is refused.
    fn check_transaction(&self, chain: ChainId, ran: &Ran<'_>, slot: &Slot<'_>) -> Result<RollupSet, Reason> {
        let _ = (chain, ran, slot);
        Ok(RollupSet::new())
    }

    /// Checks all blocks of the slot together, as far as they are built.
    ///
    /// # Errors
    /// When they break a rule that spans rollups; names the rollup.
    fn check_slot(&self, slot: &Slot<'_>) -> Result<(), Rejection> {
        let _ = slot;
        Ok(())
    }
}

/// The configured protocols.
#[derive(Clone, Debug, Default)]
pub struct Protocols(Vec<Arc<dyn Protocol>>);

impl Protocols {
    /// A set of protocols. The first that recognises a log wins.
    pub fn new(protocols: Vec<Arc<dyn Protocol>>) -> Self {
        Self(protocols)
    }

    /// Whether a log tells of a message that was delivered by a protocol whose messages depend on their place, so that the rules
    /// of the slot have a say in it.
    pub fn delivers_in_place(&self, chain: ChainId, log: &Log) -> bool {
        self.0.iter().any(|protocol| !protocol.is_placeless() && protocol.delivered(chain, log).is_some())
    }

    /// The messages among logs of rollup `chain`, in log order. A log that looks like a message but is malformed keeps its
    /// index and carries its reason.
    pub fn recognise<'a>(&self, chain: ChainId, logs: impl IntoIterator<Item = Emitted<'a>>) -> Vec<Result<Message, Reason>> {
        logs.into_iter().filter_map(|log| self.0.iter().find_map(|protocol| protocol.recognise(chain, &log))).collect()
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

    /// The receipt of the delivery that a log tells of, see [`Protocol::delivered`].
    pub fn delivered(&self, chain: ChainId, log: &Log) -> Option<B256> {
        self.0.iter().find_map(|protocol| protocol.delivered(chain, log))
    }

    /// As [`Protocol::check_transaction`], of every protocol.
    ///
    /// # Errors
    /// The first that refuses.
    pub fn check_transaction(&self, chain: ChainId, ran: &Ran<'_>, slot: &Slot<'_>) -> Result<RollupSet, Reason> {
        let mut origins = RollupSet::new();
        for protocol in &self.0 {
            origins.extend(protocol.check_transaction(chain, ran, slot)?);
        }
        Ok(origins)
    }

    /// As [`Protocol::check_slot`], of every protocol.
    ///
    /// # Errors
    /// The first that refuses.
    pub fn check_slot(&self, slot: &Slot<'_>) -> Result<(), Rejection> {
        self.0.iter().try_for_each(|protocol| protocol.check_slot(slot))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{AggLayer, CctpV1, CctpV2, Mailbox, OpInterop};

    #[test]
    fn only_circles_protocols_have_attesters() {
        let protocols: [(Box<dyn Protocol>, EvidenceKind); 5] = [
            (Box::new(CctpV1::new(BTreeMap::new())), EvidenceKind::Attested),
            (Box::new(CctpV2::new(BTreeMap::new())), EvidenceKind::Attested),
            (Box::new(OpInterop::new(BTreeMap::new())), EvidenceKind::Place),
            (Box::new(Mailbox::new(BTreeMap::new())), EvidenceKind::Place),
            (Box::new(AggLayer::new(BTreeMap::new())), EvidenceKind::Exit),
        ];
        for (protocol, kind) in protocols {
            assert_eq!(protocol.evidence_kind(), kind, "{}", protocol.name());
        }
    }
}

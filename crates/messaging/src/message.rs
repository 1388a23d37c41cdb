//! What crosses between rollups.

use alloy_primitives::{Address, B256, Bytes};
use lockstep_primitives::{ChainId, SignatureBytes};

/// A message that a leg emitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The protocol's name.
    pub protocol: &'static str,
    /// Unique for ever: a message with this id is delivered at most once.
    pub id: B256,
    /// The rollup that emitted it.
    pub origin: ChainId,
    /// The rollup that receives it; `None` when the protocol's destination is no rollup that is configured.
    pub destination: Option<ChainId>,
    /// The destination as the protocol names it, for people.
    pub destination_name: String,
    /// The only caller that may deliver it, when it is restricted.
    pub restricted_to: Option<Address>,
    /// The protocol's bytes.
    pub payload: Bytes,
}

/// What the destination demands before it accepts a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Signatures over the request's digest, in the order of the request's signers.
    Signatures(Vec<SignatureBytes>),
}

/// What to ask an evidence source for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvidenceRequest {
    /// The message.
    pub message: Message,
    /// What is signed, without any prefix.
    pub digest: B256,
    /// Who has to sign, in the order that the destination checks.
    pub signers: Vec<Address>,
}

/// The call that delivers a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayCall {
    /// The contract on the destination.
    pub to: Address,
    /// Calldata.
    pub data: Bytes,
}

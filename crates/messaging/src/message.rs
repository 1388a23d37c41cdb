//! What crosses between rollups.

use alloy_eips::eip2930::AccessList;
use alloy_primitives::{Address, B256, Bytes, ChainId, Log};
use lockstep_primitives::{SignatureBytes, TxId};

use crate::agglayer::ExitProof;

/// Where a log is on its rollup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPlace {
    /// Number of the block.
    pub block: u64,
    /// Timestamp of the block, in seconds.
    pub timestamp: u64,
    /// Index among all logs of the block.
    pub index: u64,
}

/// A log as it was emitted.
#[derive(Clone, Copy, Debug)]
pub struct Emitted<'a> {
    /// The log.
    pub log: &'a Log,
    /// Where it is.
    pub place: LogPlace,
    /// Its transaction.
    pub tx: TxId,
    /// Index among the logs of its transaction.
    pub in_tx: usize,
}

/// A message that was sent on a rollup.
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
    /// The only caller that may deliver it, when it is restricted and no configured contract delivers for that caller.
    pub restricted_to: Option<Address>,
    /// The protocol's bytes, as they were emitted.
    pub payload: Bytes,
    /// Where it was emitted.
    pub place: LogPlace,
}

/// What the destination demands before it accepts a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Signatures of attesters (CCTP).
    Attestation {
        /// What is attested. It may differ from what was emitted: attesters of CCTP v2 fill in four fields.
        payload: Bytes,
        /// Signatures over keccak-256 of it, by rising address of the signer.
        signatures: Vec<SignatureBytes>,
    },
    /// Where the message is: its destination's nodes look there themselves (OP interop), or the builder vouches for it.
    Place,
    /// Merkle proofs against an exit root (AggLayer).
    Exit(Box<ExitProof>),
}

/// Which kind of evidence a protocol takes, and so where the evidence of a message comes from that is on its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvidenceKind {
    /// [`Evidence::Attestation`]: attesters sign.
    Attested,
    /// [`Evidence::Place`]: being on its chain is enough.
    Place,
    /// [`Evidence::Exit`]: proofs against exit roots.
    Exit,
}

/// Where evidence comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Demand {
    /// From attesters.
    Attestation(Box<EvidenceRequest>),
    /// From the chains alone: here it is.
    Derived(Evidence),
}

/// What to ask attesters for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvidenceRequest {
    /// The message.
    pub message: Message,
    /// What the builder expects to be attested.
    pub payload: Bytes,
    /// keccak-256 of the payload: what is signed, without any prefix.
    pub digest: B256,
    /// Who has to sign, in the order that the destination checks.
    pub signers: Vec<Address>,
}

/// The block in which a message is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The rollup.
    pub chain: ChainId,
    /// Number of the block.
    pub number: u64,
    /// Timestamp of the block, in seconds.
    pub timestamp: u64,
    /// The block's fee recipient.
    pub beneficiary: Address,
    /// Who signs the delivery.
    pub builder: Address,
}

/// A call that delivers a message, or prepares its delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelayCall {
    /// The contract on the destination.
    pub to: Address,
    /// Calldata.
    pub data: Bytes,
    /// What the transaction has to declare (EIP-2930).
    pub access_list: AccessList,
    /// Gas that its execution takes at most, without what its bytes cost. Zero leaves it to the policy.
    pub gas: u64,
    /// The call is left out when this one answers with anything but zeros: it was made before.
    pub unless: Option<ReadCall>,
}

/// A call that reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadCall {
    /// The contract.
    pub to: Address,
    /// Calldata.
    pub data: Bytes,
}

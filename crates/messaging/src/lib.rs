//! Messages between rollups: recognised in logs, delivered by calls that the builder signs.
//!
//! Each protocol is one module of the same shape behind [`Protocol`]: it recognises its outbound messages, says what
//! [`Evidence`] the destination demands, writes the inbound calls once evidence is there, recognises deliveries, and checks what
//! no single rollup's rules check. Where attestations come from is not known here. Until they are there,
//! [`Protocol::stand_in`] gives some of the same size that only a simulation accepts.

pub mod agglayer;
mod attestation;
mod cctp;
mod cctp_v1;
pub mod cctp_v2;
mod deployments;
mod mailbox;
mod message;
pub mod op_interop;
mod protocols;
mod slot;

pub use agglayer::{AggLayer, BridgeDeployment, ExitFacts, ExitProof, ExitTree, LandedExit};
pub use attestation::check_attestation;
pub use cctp_v1::{CctpV1, CctpV1Deployment};
pub use cctp_v2::{BurnMessageV2, CctpV2, CctpV2Deployment, FilledV2};
pub use deployments::{Deployments, RollupDeployments};
pub use mailbox::{Mailbox, MailboxDeployment};
pub use message::{
    Demand, Destination, Emitted, Evidence, EvidenceKind, EvidenceRequest, LogPlace, Message, ReadCall, RelayCall,
};
pub use op_interop::{InteropDeployment, OpInterop};
pub use protocols::{Protocol, Protocols};
pub use slot::{Facts, KnownLog, LandedMessage, Ran, Slot, SlotLogs};

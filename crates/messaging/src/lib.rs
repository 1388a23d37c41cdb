//! Messages between rollups: recognised in logs, delivered by calls that the builder signs.
//!
//! Each protocol is one module of the same shape behind [`Protocol`]: it recognises its outbound messages, says what
//! [`Evidence`] the destination demands, writes the inbound calls once evidence is there, recognises deliveries, and checks what
//! no single rollup's rules check. Where attestations come from is not known here. Until they are there,
//! [`Protocol::stand_in`] gives some of the same size that only a simulation accepts.

pub mod agglayer;
mod attestation;
mod cctp_v1;
mod message;
mod protocols;
mod slot;

pub use cctp_v1::{CctpV1, CctpV1Deployment};
pub use message::{Demand, Destination, Emitted, Evidence, EvidenceRequest, LogPlace, Message, ReadCall, RelayCall};
pub use protocols::{Protocol, Protocols};
pub use slot::{Facts, KnownLog, LandedMessage, Ran, Slot, SlotLogs};

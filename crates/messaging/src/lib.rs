//! Messages between rollups: recognised in logs, delivered by calls that the builder signs.
//!
//! Each protocol is one module of the same shape behind [`Protocol`]: it recognises its outbound messages, says what
//! [`Evidence`] the destination demands, and writes the inbound call once evidence is there. Where evidence comes from is
//! not known here. Until it is there, [`Protocol::stand_in`] gives evidence of the same size that only a simulation accepts.

mod cctp_v1;
mod message;
mod protocols;

pub use cctp_v1::{CctpV1, CctpV1Deployment};
pub use message::{Evidence, EvidenceRequest, Message, RelayCall};
pub use protocols::{Protocol, Protocols};

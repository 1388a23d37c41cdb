//! Entry points for fuzzing: arbitrary bytes against everything that reads what strangers write.
//!
//! Each takes any bytes, makes logs, access lists, signatures or proofs of them, hands these to the production code and
//! asserts what has to hold whatever they are. The bytes are choices, not formats: what is missing is zero, so that short
//! inputs are whole ones and mutations stay close to what is valid. The same entry points run under `cargo fuzz` (folder
//! `fuzz`) and, on bytes of proptest's, in `tests/it/fuzz.rs`.
//!
//! All of them panic when a property does not hold, and never otherwise.

mod abi;
mod attestations;
mod exits;
mod fill;
mod follow;
mod interop;
mod logs;
mod mailboxes;
mod messages;
mod rollups;
mod source;

pub use attestations::attestation;
pub use exits::exit_proof;
pub use fill::cctp_v2_fill;
pub use interop::{access_list, identifier};
pub use mailboxes::mailbox;
pub use messages::message;

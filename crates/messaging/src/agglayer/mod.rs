//! AggLayer's unified bridge.

mod facts;

pub use facts::{ExitFacts, ExitProof};

//! Putting lists into the blocks of an OP-stack rollup, at its Engine API.
//!
//! An [`EngineProxy`] stands between the consensus driver (op-node) and its execution client, in a process of its own:
//! nothing of markets, pools or stores is in it, so whatever happens to the rest of Lockstep, the chain goes on. Calls pass
//! through it as they are. For a block that was sold it begins a second payload beside the operator's own and answers with
//! that one, after a check; in every other case the driver gets the operator's own payload. Lists come in over a port of
//! their own, through [`EngineControl`]; the engine adapter is the sequencer's side of it.
//!
//! Sources: Ethereum execution APIs, `src/engine` (cancun, prague, authentication); OP-stack specification, "L2 Execution
//! Engine" and "Isthmus"/"Jovian" execution engine.

mod adapter;
mod attributes;
mod call;
mod client;
mod config;
mod control;
mod error;
mod flashblocks;
mod http;
mod l1;
mod proxy;
mod relay;
mod table;
mod upstream;
mod wire;

use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) use adapter::EngineAdapter;
pub use client::{ControlError, EngineControl};
pub use config::{
    EngineConfig, EngineTimeouts, MAX_ANSWER_BYTES, MAX_BODY_BYTES, MAX_CONNECTIONS, MAX_CONTROL_BODY_BYTES, MAX_JOBS, MAX_LISTS,
};
pub use error::{EngineError, Refusal};
pub use proxy::EngineProxy;
pub use wire::{CommitList, LastAttributes, Outcome, OutcomeState, PlannedAttributes};

pub use alloy_rpc_types_engine::JwtSecret;

/// Milliseconds of the Unix epoch. With a clock before it every list has expired.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(u64::MAX, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

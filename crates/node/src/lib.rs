//! Wires the crates of Lockstep into roles, and the roles into a process.
//!
//! A role (builder, market, sequencer) is a loop that carries out the effects of a pure state machine. Roles speak to each
//! other by JSON-RPC even inside one process, so there is one way, and `lockstep dev` walks it.
//!
//! [`config`] reads a file and [`process`] starts what it says. A bundle comes in by [`intake`], what becomes of it is in
//! [`tracker`]; `landed` and `reorg` look after it until no reorg can take it, and `flow` takes in public transactions.
//! [`messages`] keeps what was sent between rollups until it is delivered. [`strategies`] are asked for bundles of the builder's own.
//! [`record`] writes blocks and slots down, [`replay`] executes them again.

mod api;
mod arrivals;
mod batcher;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dev;
mod dialect;
mod eth;
#[cfg(test)]
mod fake_node;
mod flow;
mod forward;
pub mod intake;
pub mod keys;
mod landed;
pub mod messages;
pub mod process;
mod receipts;
pub mod record;
mod reorg;
pub mod replay;
mod roles;
pub mod strategies;
pub mod telemetry;
pub mod tracker;

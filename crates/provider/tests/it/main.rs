//! Tests of the crate as others use it.

#![expect(clippy::unwrap_used, reason = "what a test does not expect fails it")]

mod adapter;
mod beacon;
mod driver;
mod engine;
mod engine_server;
mod execution;
mod http;
mod iris;
mod op_node;
mod public_rpc;

//! Lockstep as others meet it: whole processes over JSON-RPC, real nodes where there are any, what travels as JSON, and the
//! rules that this repository keeps.
//!
//! Nothing here waits for a time: every wait is for a condition, which JSON-RPC is asked for again and again, and fails when
//! it does not come within [`wait`]'s bound. `LOCKSTEP_LOG` shows what the processes log. What needs something that is not
//! there (recorded blocks, anvil) says so by name and passes.

mod chain;
mod crossings;
mod lockstep;
mod node;
mod signed;
mod transactions;
mod wait;
mod world;

mod ahead;
mod anvil;
mod based;
mod contest;
mod delivery;
mod encrypted;
mod escrow;
mod espresso;
mod faults;
mod follow;
mod fuzz;
mod market;
mod messages;
mod nodes;
mod openrpc;
mod ordering;
mod proposals;
mod reasons;
mod replay;
mod story;
mod tidy;
mod wire;

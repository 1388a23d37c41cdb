//! The JSON-RPC face of Lockstep: wire types, one server for everything, and typed clients.
//!
//! `POST /` (HTTP or WebSocket) speaks `lockstep_*`, `market_*`, `decision_*` and `sequencer_*`, as far as the process plays
//! those roles; `/rollup/<chainId>` speaks each rollup's own dialect; `/metrics`, `/livez` and `/readyz` are plain HTTP. How
//! anything is done is not known here: roles implement the server traits of [`api`].

pub mod api;
mod error;
mod identity;
mod params;
mod reasoned;
mod recovery;
mod rest;
mod server;
pub mod wire;

pub use error::{RpcError, codes, from_rejection, invalid_params, not_found, unauthorized, unavailable};
pub use identity::{IdentityError, SIGNATURE_HEADER, Signer, sign_body, verify_header};
pub use params::parse;
pub use recovery::{Recovery, RecoveryError, RecoveryLimits};
pub use rest::{Rest, RestRequest};
pub use server::{Bound, Limits, Pages, Routes, Server, ServerError, bind, serve, serve_with};

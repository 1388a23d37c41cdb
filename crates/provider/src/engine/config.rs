//! What an engine proxy is told, and its bounds.

use std::{net::SocketAddr, time::Duration};

use alloy_rpc_types_engine::JwtSecret;

/// Lists that are kept, with what became of them. When all places are taken the oldest one that has ended goes; while none
/// has, further lists are refused.
pub const MAX_LISTS: usize = 64;
/// Payloads that the driver asked for and that are remembered; the oldest goes first.
pub const MAX_JOBS: usize = 32;
/// Bytes of a call of the driver: as much as execution clients take.
pub const MAX_BODY_BYTES: usize = 128 * 1024 * 1024;
/// Bytes of a call on the control port.
pub const MAX_CONTROL_BODY_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of an answer.
pub const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;
/// Connections at a time, on each of the two ports.
pub const MAX_CONNECTIONS: usize = 64;

/// How long an engine proxy waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineTimeouts {
    /// Milliseconds that the execution client has to begin the payload of a list. The driver waits meanwhile.
    pub begin_ms: u64,
    /// Milliseconds that the execution client has to hand the payload of a list over. The driver waits meanwhile.
    pub payload_ms: u64,
    /// Milliseconds for every other call. Long, because the driver has a limit of its own.
    pub forward_ms: u64,
}

impl Default for EngineTimeouts {
    fn default() -> Self {
        Self { begin_ms: 1_000, payload_ms: 1_000, forward_ms: 60_000 }
    }
}

impl EngineTimeouts {
    pub(super) const fn begin(self) -> Duration {
        Duration::from_millis(self.begin_ms)
    }

    pub(super) const fn payload(self) -> Duration {
        Duration::from_millis(self.payload_ms)
    }

    pub(super) const fn forward(self) -> Duration {
        Duration::from_millis(self.forward_ms)
    }
}

/// What an engine proxy is told.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Where it listens for the consensus driver; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where it listens for lists; port 0 takes a free one.
    pub control: SocketAddr,
    /// The execution client's Engine API: an `http://` address.
    pub engine: String,
    /// The secret of the driver's tokens.
    pub driver_jwt: JwtSecret,
    /// The secret of the tokens for the execution client.
    pub engine_jwt: JwtSecret,
    /// The secret of the tokens on the control port.
    pub control_jwt: JwtSecret,
    /// Whether the rollup is on flashblocks. Such a rollup shows parts of a block before the block is asked for, so no list can
    /// be put into it: the proxy refuses to start.
    pub flashblocks: bool,
    /// How long it waits.
    pub timeouts: EngineTimeouts,
}

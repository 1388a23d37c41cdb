//! The roles that a process can play. Each is a loop that carries out the effects of a pure state machine.

pub(crate) mod builder;
pub(crate) mod committee;
pub(crate) mod market;
pub(crate) mod sequencer;

use std::time::Duration;

use jsonrpsee::http_client::{HttpClient, HttpClientBuilder};
use lockstep_market::SlotClock;

/// When what happens before a slot begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// The slots, and when bidding for one ends.
    pub clock: SlotClock,
    /// How long before the start the builder begins to build.
    pub build_before_ms: u64,
    /// How long before the start a commit can be recorded.
    pub decide_before_ms: u64,
}

impl Timings {
    /// Times in proportion to the time between the last block of a slot and the next slot, which is the shortest block time
    /// or the whole slot: building starts after 55 % of it, bidding ends after 78 %, and the decision is due after 94 %.
    pub fn for_slots(genesis_ms: u64, slot_ms: u64, shortest_block_s: u64) -> Self {
        let window_ms = slot_ms.min(shortest_block_s.saturating_mul(1_000));
        Self {
            clock: SlotClock { genesis_ms, slot_ms, close_before_ms: window_ms * 22 / 100 },
            build_before_ms: window_ms * 45 / 100,
            decide_before_ms: window_ms * 6 / 100,
        }
    }

    /// When building for a slot begins.
    pub const fn build_ms(&self, slot: u64) -> u64 {
        self.clock.start_ms(slot).saturating_sub(self.build_before_ms)
    }

    /// For how long sealed bids may be opened before bidding ends: builders need the greater part of their time to build.
    pub const fn longest_opening_ms(&self) -> u64 {
        self.build_before_ms.saturating_sub(self.clock.close_before_ms) / 2
    }

    /// For how long after the end of bidding proposals may be taken and revealed: the rest is for votes.
    pub const fn longest_reveal_ms(&self) -> u64 {
        (self.clock.close_before_ms - self.decide_before_ms) * (100 - VOTE_PERCENT) / 100
    }

    /// When the decision for a slot is due.
    pub const fn decide_ms(&self, slot: u64) -> u64 {
        self.clock.start_ms(slot).saturating_sub(self.decide_before_ms)
    }
}

/// A URL that no client can be made for.
#[derive(Debug, thiserror::Error)]
#[error("no JSON-RPC client for {url}: {cause}")]
pub struct ClientError {
    url: String,
    cause: String,
}

/// How much of the time between the end of bidding and the decision is left for votes, where lists come from another builder.
const VOTE_PERCENT: u64 = 40;

/// How long a role waits for another role's answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// A client of another role.
///
/// # Errors
/// When the URL is none.
pub(crate) fn client(url: &str) -> Result<HttpClient, ClientError> {
    HttpClientBuilder::default()
        .request_timeout(CALL_TIMEOUT)
        .build(url)
        .map_err(|error| ClientError { url: url.to_owned(), cause: error.to_string() })
}

//! Bounds of a remote node.

/// How much a [`RemoteNode`](crate::RemoteNode) keeps, and how long it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteLimits {
    /// Milliseconds between two looks at the head.
    pub poll_ms: u64,
    /// Milliseconds that the node has for one answer.
    pub timeout_ms: u64,
    /// Milliseconds that making one block may take, from the first request to the last.
    pub publish_timeout_ms: u64,
    /// Blocks whose states are kept; the one that was not asked for the longest goes first.
    pub max_states: usize,
    /// Accounts, slots and block hashes kept of one state. When more are needed all of them are forgotten and fetched anew,
    /// so it should be well above what one slot reads.
    pub max_values: usize,
    /// Blocks that are looked at, from the head back, to find those of a slot.
    pub max_blocks: usize,
    /// Calls in one JSON-RPC batch; many nodes refuse long ones.
    pub batch: usize,
}

impl Default for RemoteLimits {
    fn default() -> Self {
        Self {
            poll_ms: 250,
            timeout_ms: 5_000,
            publish_timeout_ms: 10_000,
            max_states: 8,
            max_values: 200_000,
            max_blocks: 256,
            batch: 100,
        }
    }
}

//! Bounds of a remote node.

/// The least that [`RemoteLimits::max_cache_bytes`] may be: the map has a part for every few cores, and where a contract's code
/// does not fit into its part it is fetched again and again without ever being there.
pub(super) const MIN_CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// How much a [`RemoteNode`](crate::RemoteNode) keeps, how long it waits, and how often it tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteLimits {
    /// Milliseconds between two looks at the head while no subscription announces heads.
    pub poll_ms: u64,
    /// Milliseconds between two looks at the head while a subscription announces them: a subscription can fall silent.
    pub poll_idle_ms: u64,
    /// Milliseconds that one call may take in all, whichever endpoints answer it.
    pub timeout_ms: u64,
    /// Times that one call is tried in all. Every endpoint is tried once even when there are more of them.
    pub attempts: usize,
    /// Milliseconds that an endpoint is left alone after its first failure in a row. Doubles with every further one.
    pub backoff_ms: u64,
    /// The most milliseconds that an endpoint is left alone after failures.
    pub max_backoff_ms: u64,
    /// Milliseconds that an endpoint is left alone after it answered what is not true, or for another chain.
    pub lie_backoff_ms: u64,
    /// Bytes of one answer.
    pub max_answer_bytes: usize,
    /// Milliseconds that making one block may take, from the first request to the last.
    pub publish_timeout_ms: u64,
    /// Blocks off the followed window whose states are kept; the one that was not asked for the longest goes first.
    pub max_states: usize,
    /// Accounts, slots and block hashes kept of one such state. When more are needed all of them are forgotten and fetched
    /// anew, so it should be well above what one slot reads.
    pub max_values: usize,
    /// Bytes of the values that are kept of the followed tip, at least 16 MiB. What is used the least goes first.
    pub max_cache_bytes: u64,
    /// Blocks that a reorg may drop and be undone one by one. After a deeper one everything is fetched anew.
    pub max_reorg: usize,
    /// New blocks that are executed one after the other. When more came at once everything is fetched anew.
    pub max_catch_up: u64,
    /// Seconds that the head may be behind the wall clock before the node counts as behind.
    pub max_lag_s: u64,
    /// Accounts of every block that are checked by a proof against its state root.
    pub proof_accounts: usize,
    /// Slots of each such account that are checked with it.
    pub proof_slots: usize,
    /// Recipients and selectors of which it is remembered what their calls touch.
    pub max_traces: usize,
    /// Keys that are remembered of one of them.
    pub max_trace_keys: usize,
    /// Rounds of fetching for one transaction that is fetched for ahead.
    pub prefetch_rounds: usize,
    /// Blocks that are looked at, from the head back, to find those of a slot.
    pub max_blocks: usize,
    /// Calls in one JSON-RPC batch; many nodes refuse long ones.
    pub batch: usize,
    /// Batches on their way at a time.
    pub parallel_batches: usize,
}

impl Default for RemoteLimits {
    fn default() -> Self {
        Self {
            poll_ms: 250,
            poll_idle_ms: 2_000,
            timeout_ms: 5_000,
            attempts: 4,
            backoff_ms: 100,
            max_backoff_ms: 5_000,
            lie_backoff_ms: 10_000,
            max_answer_bytes: 64 * 1024 * 1024,
            publish_timeout_ms: 10_000,
            max_states: 8,
            max_values: 200_000,
            max_cache_bytes: 256 * 1024 * 1024,
            max_reorg: 64,
            max_catch_up: 16,
            max_lag_s: 60,
            proof_accounts: 4,
            proof_slots: 4,
            max_traces: 4_096,
            max_trace_keys: 256,
            prefetch_rounds: 8,
            max_blocks: 256,
            batch: 100,
            parallel_batches: 4,
        }
    }
}

//! What the keeper of messages is told, and its bounds.

use std::collections::BTreeMap;

use alloy_primitives::B256;
use lockstep_primitives::ChainId;

/// How messages are kept.
#[derive(Clone, Debug)]
pub struct MessagesSettings {
    /// Blocks of its destination that a landed message is left alone before it counts as an orphan: whoever sent it may be about
    /// to deliver it.
    pub grace_blocks: u64,
    /// Blocks of its origin that have to follow a message's block before attesters are asked. Zero asks at once: the origin's
    /// sequencer has published the block, which binds it no less than the vote on which a message of the same slot is attested.
    pub confirmations: u64,
    /// The block that reading begins with when nothing is known of a rollup yet; after its head where there is no entry.
    pub start: BTreeMap<ChainId, u64>,
    /// Root of Ethereum's exit tree (AggLayer), where Ethereum is none of the rollups here.
    pub mainnet_exit_root: B256,
    /// Local exit roots of rollups that are none of those here, by their network (AggLayer).
    pub exit_roots: BTreeMap<u32, B256>,
    /// Where in the storage of a rollup's bridge the frontier of its exit tree begins: the first of 32 slots (AggLayer). A tree
    /// that is not known is read from there.
    pub branch_slots: BTreeMap<ChainId, u64>,
    /// Every bound.
    pub limits: MessagesLimits,
}

impl MessagesSettings {
    /// Blocks that a message is left alone, by default.
    pub const GRACE_BLOCKS: u64 = 3;
}

impl Default for MessagesSettings {
    fn default() -> Self {
        Self {
            grace_blocks: Self::GRACE_BLOCKS,
            confirmations: 0,
            start: BTreeMap::new(),
            mainnet_exit_root: B256::ZERO,
            exit_roots: BTreeMap::new(),
            branch_slots: BTreeMap::new(),
            limits: MessagesLimits::default(),
        }
    }
}

/// Every bound of the keeper. What is dropped for one is counted in `lockstep_messages_dropped_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessagesLimits {
    /// Messages that are kept, in memory and on disk. Delivered ones go first, the oldest of them.
    pub messages: usize,
    /// Deliveries that are remembered. Those of messages that are not known go first, the oldest of them.
    pub deliveries: usize,
    /// Bytes of a message's log. A larger one is not kept.
    pub message_bytes: usize,
    /// Orphans that a slot is offered.
    pub orphans: usize,
    /// Blocks that are read to catch up with a rollup; less than a remote node is followed back, see `RemoteLimits::max_blocks`.
    /// Of a longer gap nothing is read, and it is told.
    pub catch_up: u64,
    /// Newest blocks of a rollup that are remembered, so that a reorg is undone. A deeper one forgets the rollup's messages.
    pub window: usize,
    /// Writes that wait for the store, in records. When there are more nothing is read any further.
    pub unsaved: usize,
    /// Requests to attesters under way at a time.
    pub requests: usize,
    /// How long after a request that came to nothing another one is made, in milliseconds; twice as long after each further one.
    pub retry_ms: u64,
    /// The longest such time, in milliseconds.
    pub max_retry_ms: u64,
    /// How long a slot waits for the keeper to read its parents, in milliseconds. What is not read by then is not certain.
    pub patience_ms: u64,
    /// Landed messages that the pending bundles of one slot may name.
    pub references: usize,
    /// Blocks that are asked for in one slot because transactions refer to their logs, and how many of those are remembered.
    pub known_blocks: usize,
    /// How old such a block may be, in seconds.
    pub known_age_s: u64,
    /// Foreign tokens of one rollup whose balances are noted (AggLayer). One that is forgotten counts as none until it is read.
    pub tokens: usize,
    /// Balances that are read of one rollup's bridge at a time, at most once a block.
    pub token_reads: usize,
}

impl Default for MessagesLimits {
    fn default() -> Self {
        Self {
            messages: 20_000,
            deliveries: 40_000,
            message_bytes: 128 * 1024,
            orphans: 64,
            catch_up: 200,
            window: 128,
            unsaved: 8_192,
            requests: 8,
            retry_ms: 1_000,
            max_retry_ms: 60_000,
            patience_ms: 250,
            references: 4_096,
            known_blocks: 64,
            known_age_s: 600,
            tokens: 16_384,
            token_reads: 32,
        }
    }
}

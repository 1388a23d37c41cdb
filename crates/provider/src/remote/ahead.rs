//! What opening the next blocks reads, fetched before anybody opens one.
//!
//! The system calls before a block's transactions read slots that move with its number and timestamp (EIP-2935, EIP-4788),
//! so every block would begin with values that nobody has seen. Which they are is found out by opening the blocks, whatever
//! the kind of rollup. Nothing here is needed for anything to be right: what is guessed wrong is fetched when it is missed.

use std::sync::Arc;

use alloy_primitives::{B256, ChainId};
use lockstep_simulation::{
    BlockContext, ForkSchedule, NextBlock, ParentBlock, PendingBlock, SimulationError, StateError, StateView,
};

use super::{RemoteLimits, cache::StateCache, state::PinnedState, wire::Rpc};

/// Blocks that are opened ahead. More than one, so that the block after the next head is prepared before that head comes.
const BLOCKS_AHEAD: u64 = 3;

/// The blocks that could follow the tip, at the pace of the last one.
fn contexts(chain: ChainId, forks: &ForkSchedule, cache: &StateCache) -> Vec<BlockContext> {
    let blocks = cache.blocks();
    let Some(tip) = blocks.first().map(|block| &block.head) else { return Vec::new() };
    let before = blocks.get(1).map_or(tip.timestamp, |block| block.head.timestamp);
    let pace = tip.timestamp.saturating_sub(before).max(1);
    (1..=BLOCKS_AHEAD)
        .filter_map(|ahead| {
            let parent = ParentBlock { number: tip.number.checked_add(ahead - 1)?, ..tip.clone() };
            let next = NextBlock {
                timestamp: tip.timestamp.checked_add(pace.checked_mul(ahead)?)?,
                gas_limit: tip.gas_limit,
                parent_beacon_block_root: Some(B256::ZERO),
                extra_data: tip.extra_data.clone(),
                ..NextBlock::default()
            };
            BlockContext::next(chain, forks, &parent, &next).ok()
        })
        .collect()
}

/// Opens the next blocks on the tip's state until nothing is missing.
pub(super) async fn open_ahead(rpc: &Rpc, forks: &ForkSchedule, cache: &Arc<StateCache>, limits: &RemoteLimits) {
    let tip = cache.newest();
    let contexts = Arc::new(contexts(rpc.chain(), forks, cache));
    let state = Arc::new(PinnedState::new(tip.head.hash, tip.head.number, tip.parent, Arc::clone(cache), limits));
    for _ in 0..limits.prefetch_rounds {
        let (contexts, on) = (Arc::clone(&contexts), Arc::clone(&state) as Arc<dyn StateView>);
        let missing = tokio::task::spawn_blocking(move || {
            // All of them, so that a round fetches what all of them miss.
            let opened = contexts.iter().map(|context| PendingBlock::open(context.clone(), Arc::clone(&on)));
            opened.filter(|block| matches!(block, Err(SimulationError::State(StateError::Missing(_))))).count()
        });
        if !missing.await.is_ok_and(|missing| missing > 0) || state.fetch_missed(rpc, limits).await.is_err() {
            return;
        }
    }
}

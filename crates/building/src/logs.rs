//! The logs of open blocks, as message protocols look at them.

use lockstep_messaging::{Emitted, LogPlace, SlotLogs};
use lockstep_primitives::ChainId;
use lockstep_simulation::PendingBlock;

use crate::Lanes;

/// The logs of a set of lanes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneLogs<'a>(pub(crate) &'a Lanes);

impl SlotLogs for LaneLogs<'_> {
    fn logs(&self, chain: ChainId) -> Option<Vec<Emitted<'_>>> {
        let lane = self.0.get(&chain)?;
        let blocks = lane.closed().iter().map(|closed| &closed.block).chain([lane.block()]);
        Some(blocks.flat_map(|block| emitted(block, 0)).collect())
    }

    fn chains(&self) -> Vec<ChainId> {
        self.0.keys().copied().collect()
    }
}

/// How many logs a block has so far.
pub(crate) fn log_count(block: &PendingBlock) -> u64 {
    block.executed().iter().map(|executed| executed.outcome.logs.len() as u64).sum()
}

/// The logs of a block's transactions from a position on, with their places.
pub(crate) fn emitted(block: &PendingBlock, from: usize) -> Vec<Emitted<'_>> {
    let (before, rest) = block.executed().split_at(from.min(block.executed().len()));
    let context = block.context();
    let mut index = before.iter().map(|executed| executed.outcome.logs.len() as u64).sum();
    let mut logs = Vec::new();
    for executed in rest.iter().filter(|executed| !executed.outcome.logs.is_empty()) {
        let tx = executed.tx.id();
        for (in_tx, log) in executed.outcome.logs.iter().enumerate() {
            let place = LogPlace { block: context.number, timestamp: context.timestamp, index };
            logs.push(Emitted { log, place, tx, in_tx });
            index += 1;
        }
    }
    logs
}

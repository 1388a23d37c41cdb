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

/// The logs of a block's transactions from a position on, with their places.
pub(crate) fn emitted(block: &PendingBlock, from: usize) -> Vec<Emitted<'_>> {
    let rest = block.executed().get(from..).unwrap_or_default();
    let context = block.context();
    let mut index = rest.first().map_or(0, |first| first.first_log);
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

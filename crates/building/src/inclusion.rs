//! Inclusion lists: transactions that a rollup's sequencer does not let a proposer leave out.

use std::{collections::BTreeSet, sync::Arc};

use alloy_primitives::B256;
use lockstep_primitives::{Bundle, ChainId, Leg, LegTx, RevertMode, SignedTx};
use lockstep_simulation::{BlockTx, LaneBlock, PendingBlock, SimulationError};

use crate::{Attempt, BundleRun, Candidate, Simulated};

/// Which transactions of an inclusion list the finished blocks of a slot leave out without an excuse, in the order of the list.
///
/// A transaction that is in none of the blocks is demanded of a block that has room for it at its end, if it is valid after the
/// last block too, by that block's base fee: what later blocks of the slot do to the base fee is no excuse. One that would
/// revert is not excused: it pays for its gas.
///
/// # Errors
/// When the state or the EVM is broken, or a value has to be fetched first.
pub fn missing_inclusions(blocks: &[LaneBlock], inclusion: &[Arc<SignedTx>]) -> Result<Vec<B256>, SimulationError> {
    let listed: BTreeSet<B256> = blocks.iter().flat_map(LaneBlock::listed).map(|executed| executed.tx.hash()).collect();
    let absent: Vec<BlockTx> =
        inclusion.iter().filter(|tx| !listed.contains(&tx.hash())).map(|tx| BlockTx::Signed(Arc::clone(tx))).collect();
    let mut missing = Vec::new();
    let Some(last) = blocks.last().filter(|_| !absent.is_empty()) else { return Ok(missing) };
    let mut ends = Vec::with_capacity(blocks.len());
    for block in blocks {
        // An empty block on what the last one leaves behind: nothing is invalid there for want of room.
        ends.push((block.block.clone(), PendingBlock::open_after(block.block.context().clone(), &last.block)?));
    }
    for tx in absent {
        for (end, after) in &mut ends {
            if fits(after, &tx)? && fits(end, &tx)? {
                missing.push(tx.hash());
                break;
            }
        }
    }
    Ok(missing)
}

/// Whether the transaction is valid as the block's next one. The block stays as it is.
fn fits(block: &mut PendingBlock, tx: &BlockTx) -> Result<bool, SimulationError> {
    let before = block.checkpoint();
    let fits = block.execute(tx)?.is_ok();
    block.rollback(before);
    Ok(fits)
}

/// The transactions of an inclusion list as bundles of their own: what a rollup's users send as single transactions. They are
/// worth nothing, so that whatever is worth something is tried before them where any order will do.
pub(crate) fn candidates(chain: ChainId, inclusion: &[Arc<SignedTx>]) -> Vec<Simulated> {
    let first = u64::MAX - u64::try_from(inclusion.len()).unwrap_or(u64::MAX);
    inclusion
        .iter()
        .zip(first..)
        .map(|(tx, sequence)| {
            let tx = LegTx { tx: Arc::clone(tx), mode: RevertMode::Allow };
            let bundle = Bundle { legs: vec![Leg::Txs { chain, txs: vec![tx] }], ..Bundle::default() };
            let candidate = Candidate { hash: bundle.hash(), bundle: Arc::new(bundle), sequence };
            Simulated { candidate, attempt: Attempt { run: BundleRun::default(), blocked: None } }
        })
        .collect()
}

//! Inclusion lists: transactions that a rollup's sequencer does not let a proposer leave out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy_primitives::B256;
use lockstep_messaging::agglayer::is_exit;
use lockstep_primitives::{Bundle, ChainId, Leg, LegTx, OrderedTx, OrderingPolicy, RevertMode, SignedTx};
use lockstep_simulation::{BlockTx, Executed, Lane, LaneBlock, LaneError, PendingBlock, SimulationError, SlotRollup};

use crate::{Attempt, BundleRun, Candidate, Simulated, order::ordered};

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

/// The same for a rollup that sells an order, in which a block's end may be no place for a transaction.
///
/// What is missing is demanded of a block only if it is valid in every place of it that the order allows: whoever builds in
/// order may have come to any one of them, and found it invalid there, when what cures it has to come later.
///
/// # Errors
/// As [`missing_inclusions`], or when the blocks are not those of the rollup.
pub fn missing_in_order(
    rollup: &Arc<SlotRollup>,
    ordering: OrderingPolicy,
    arrivals: &BTreeMap<B256, u64>,
    blocks: &[LaneBlock],
    inclusion: &[Arc<SignedTx>],
) -> Result<Vec<B256>, LaneError> {
    let mut missing = missing_inclusions(blocks, inclusion)?;
    if missing.is_empty() || ordering == OrderingPolicy::Free {
        return Ok(missing);
    }
    let absent: Vec<&Arc<SignedTx>> = inclusion.iter().filter(|tx| missing.contains(&tx.hash())).collect();
    let mut demanded: BTreeSet<B256> = BTreeSet::new();
    let mut lane = Lane::open(Arc::clone(rollup))?;
    for (index, block) in blocks.iter().enumerate() {
        if index > 0 {
            lane.advance()?;
        }
        let base_fee = block.block.context().base_fee;
        let listed = ordered(block.listed(), base_fee, arrivals);
        let mut places: BTreeMap<usize, Vec<B256>> = BTreeMap::new();
        let mut valid: BTreeMap<B256, BlockTx> = BTreeMap::new();
        for tx in absent.iter().copied() {
            let hash = tx.hash();
            for place in ordering.places(&listed, &OrderedTx::new(tx, base_fee, arrivals.get(&hash).copied())) {
                places.entry(place).or_default().push(hash);
                valid.entry(hash).or_insert_with(|| BlockTx::Signed(Arc::clone(tx)));
            }
        }
        for place in 0..=listed.len() {
            for hash in places.get(&place).into_iter().flatten() {
                if let Some(tx) = valid.get(hash)
                    && !fits(lane.block_mut(), tx)?
                {
                    valid.remove(hash);
                }
            }
            let Some(executed) = block.listed().get(place) else { break };
            if let Err(reason) = lane.block_mut().execute(&executed.tx)? {
                return Err(LaneError::Invalid { block: index, index: place, reason });
            }
        }
        for (hash, tx) in &valid {
            if fits(lane.block_mut(), tx)? {
                demanded.insert(*hash);
            }
        }
    }
    missing.retain(|hash| demanded.contains(hash));
    Ok(missing)
}

/// Whether the transaction is valid as the block's next one, and can be demanded. The block stays as it is.
fn fits(block: &mut PendingBlock, tx: &BlockTx) -> Result<bool, SimulationError> {
    let before = block.checkpoint();
    // Whether an exit may leave its rollup is for the proposer to say, who knows what came (AggLayer's pessimistic rule).
    let exits = |executed: &Executed| executed.outcome.logs.iter().any(is_exit);
    let fits = block.execute(tx)?.is_ok_and(|executed| !exits(executed));
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
            Simulated::new(candidate, Arc::new(Attempt { run: BundleRun::default(), blocked: None }), None)
        })
        .collect()
}

//! Recorded blocks as workloads.

use std::{path::Path, sync::Arc};

use lockstep_building::{Candidate, Policy, RollupView, SlotView};
use lockstep_messaging::Facts;
use lockstep_node::replay::{named_rules, recordings};
use lockstep_primitives::{Bundle, Leg, LegTx, Price, RevertMode};
use lockstep_provider::{BLOCK_FILE, RecordedBlock};
use lockstep_simulation::{BlockContext, BlockPlan, BlockTx, ForkSchedule, NextBlock, ParentBlock, Rules, SlotRollup};

use super::Workload;
use crate::Failed;

/// The elasticity of EIP-1559 on Ethereum, and on the OP stack where extraData names no other.
const ELASTICITY: u64 = 2;
const OP_ELASTICITY: u64 = 6;

/// The recorded blocks of a folder, each as a workload of one bundle that holds the whole block: its transactions may revert, as
/// they did.
///
/// # Errors
/// When there are none, or one cannot be read or planned.
pub fn recorded_blocks(folder: &Path) -> Result<Vec<Workload>, Failed> {
    let folders = recordings(folder).map_err(|error| error.to_string())?;
    let blocks = folders.iter().filter(|folder| folder.join(BLOCK_FILE).is_file());
    blocks.map(|folder| one(folder).map_err(|error| format!("{}: {error}", folder.display()).into())).collect()
}

fn one(folder: &Path) -> Result<Workload, Failed> {
    let recorded = RecordedBlock::read(folder).map_err(|error| error.to_string())?;
    let forks = named_rules(folder).map(ForkSchedule::always);
    let context = recorded.context(None, forks.as_ref()).map_err(|error| error.to_string())?;
    let mut forced = Vec::new();
    let mut txs = Vec::new();
    for tx in &recorded.transactions {
        match tx {
            BlockTx::Deposit(_) => forced.push(tx.clone()),
            BlockTx::Signed(tx) => txs.push(LegTx { tx: Arc::clone(tx), mode: RevertMode::Allow }),
        }
    }
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let description = format!("recorded block {name}: {} transactions, {} forced", txs.len(), forced.len());
    let (parent, next) = planned(&context)?;
    let slot = SlotRollup {
        chain: context.chain,
        forks: ForkSchedule::always(context.rules),
        parent,
        state: Arc::clone(&recorded.prestate) as _,
        blocks: vec![BlockPlan { next, forced }],
    };
    let view = SlotView {
        slot: 1,
        rollups: [(context.chain, RollupView::free(Arc::new(slot), Price::PAR, 0))].into(),
        proposer: context.beneficiary,
        policy: Policy::default(),
        facts: Arc::new(Facts::default()),
    };
    let bundle = Bundle { legs: vec![Leg::Txs { chain: context.chain, txs }], ..Bundle::default() };
    let candidates = vec![Candidate { hash: bundle.hash(), bundle: Arc::new(bundle), sequence: 0 }];
    Ok(Workload { name, description, view: Arc::new(view), candidates, replaces: Default::default() })
}

/// A parent on which the block comes out as it was. The recording has no parent: one whose gas was on target leaves base fee
/// and blob price as they are.
fn planned(context: &BlockContext) -> Result<(ParentBlock, NextBlock), Failed> {
    let elasticity = match context.rules {
        Rules::Ethereum(_) => ELASTICITY,
        Rules::OpStack(_) => context
            .extra_data
            .get(5..9)
            .and_then(|bytes| <[u8; 4]>::try_from(bytes).ok())
            .map(|bytes| u64::from(u32::from_be_bytes(bytes)))
            .filter(|elasticity| *elasticity > 0)
            .unwrap_or(OP_ELASTICITY),
    };
    let next = NextBlock {
        timestamp: context.timestamp,
        gas_limit: context.gas_limit,
        beneficiary: context.beneficiary,
        prev_randao: context.prev_randao,
        parent_beacon_block_root: context.parent_beacon_block_root,
        extra_data: context.extra_data.clone(),
        data: context.data,
        encrypted_gas: context.encrypted_gas,
    };
    // From Osaka on the excess stays either on target or, while blobs are cheap, without any blobs (EIP-7918).
    let target = context.rules.blobs().map_or(0, |blobs| blobs.target_blob_gas_per_block());
    for blob_gas_used in [target, 0] {
        let parent = ParentBlock {
            hash: context.parent_hash,
            number: context.number.saturating_sub(1),
            timestamp: context.timestamp.saturating_sub(1),
            gas_limit: context.gas_limit,
            gas_used: context.gas_limit / elasticity,
            base_fee: context.base_fee,
            blob_gas_used: Some(blob_gas_used),
            excess_blob_gas: context.excess_blob_gas,
            extra_data: context.extra_data.clone(),
        };
        let forks = ForkSchedule::always(context.rules);
        if BlockContext::next(context.chain, &forks, &parent, &next).is_ok_and(|planned| planned == *context) {
            return Ok((parent, next));
        }
    }
    Err("the block's base fee or blob price comes out of no parent that is on target".into())
}

#[cfg(test)]
mod tests {
    use lockstep_building::simulate_all;

    use super::*;

    #[test]
    fn a_recorded_block_runs_as_one_bundle_and_uses_the_gas_that_its_header_says() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/blocks"));
        for workload in recorded_blocks(folder).unwrap() {
            let simulated = simulate_all(&workload.view, &workload.candidates).unwrap();
            assert_eq!(simulated[0].attempt.blocked, None);
            let recorded = RecordedBlock::read(&folder.join(&workload.name)).unwrap();
            let gas: u64 = simulated[0].attempt.run.gas.values().sum();
            assert_eq!(gas, recorded.header.inner.gas_used);
        }
    }

    #[test]
    fn a_folder_without_recordings_is_named() {
        let error = recorded_blocks(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))).unwrap_err().to_string();
        assert!(error.contains("src"), "{error}");
    }
}

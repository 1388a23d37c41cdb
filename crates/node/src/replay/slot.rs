//! Recorded slots: built again and compared to the last bit.

use std::{path::Path, time::Instant};

use lockstep_building::{Draft, proposals, simulate_all};

use super::Replayed;
use crate::record::{
    decisions::{DecisionsFile, DraftFile},
    slot::{SlotFile, SlotFileError},
};

/// Simulates and builds a recorded slot again, and compares every draft with the recorded one: its list's bytes, gas, receipts
/// roots, state afterwards and value.
///
/// # Errors
/// When the recording cannot be read, or nothing can be built on it.
pub(super) fn replay(folder: &Path) -> Result<Replayed, SlotFileError> {
    let file = SlotFile::read(folder)?;
    let recorded = DecisionsFile::read(folder)?;
    let (view, candidates) = file.view(folder)?;
    let started = Instant::now();
    let simulated = simulate_all(&view, &candidates)?;
    let drafts = proposals(&view, &simulated)?;
    let took = started.elapsed();
    let again = drafts.iter().map(DraftFile::new).collect::<Result<Vec<_>, _>>()?;
    let mut differences = Vec::new();
    if again.len() != recorded.drafts.len() {
        differences.push(format!("proposals: built {}, recorded {}", again.len(), recorded.drafts.len()));
    }
    for (recorded, again) in recorded.drafts.iter().zip(&again) {
        differences.extend(recorded.differences(again));
    }
    let (chains, rules): (Vec<_>, Vec<_>) = file.rules().into_iter().unzip();
    let blocks = || drafts.iter().flat_map(|draft: &Draft| draft.lanes.values()).flat_map(|lane| &lane.blocks);
    Ok(Replayed {
        block: format!("slot {}", file.slot()),
        chains,
        rules,
        transactions: blocks().map(|block| block.block.executed().len()).sum(),
        gas: blocks().map(|block| block.block.gas_used()).sum(),
        took,
        differences,
    })
}

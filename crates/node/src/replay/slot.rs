//! Recorded slots: built again and compared to the last bit.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use alloy_primitives::{B256, I256};
use lockstep_building::{BuildError, Candidate, Draft, Engine, SlotView, proposals, simulate_all};
use lockstep_primitives::RollupSet;

use super::Replayed;
use crate::record::{
    decisions::{DecisionsFile, DraftFile},
    slot::{SlotFile, SlotFileError, wrong},
    steps::{Step, Steps},
};

/// What a slot gives when it is built again.
#[derive(Debug, Default)]
struct Again {
    drafts: Vec<Draft>,
    /// What each set was worth when it was last proposed for; empty when the slot was built at once.
    values: BTreeMap<RollupSet, I256>,
    /// What went otherwise on the way.
    differences: Vec<String>,
    took: Duration,
}

/// Builds a recorded slot again, and compares every draft with the recorded one: its list's bytes, gas, receipts roots, state
/// afterwards and value; and the value of every set that was bid on. An engine is asked what was asked when it was recorded;
/// slots that were built without one are simulated and built at once.
///
/// # Errors
/// When the recording cannot be read, or nothing can be built on it.
pub(super) fn replay(folder: &Path) -> Result<Replayed, SlotFileError> {
    let file = SlotFile::read(folder)?;
    let recorded = DecisionsFile::read(folder)?;
    let (view, candidates) = file.view(folder)?;
    let steps = file.steps()?;
    let again = match &steps {
        Some(steps) => by_steps(view, &candidates, steps)?,
        None => at_once(&view, &candidates)?,
    };
    let drafts = again.drafts.iter().map(DraftFile::new).collect::<Result<Vec<_>, _>>()?;
    let mut differences = again.differences;
    match (&steps, &recorded.values) {
        (Some(_), _) => differences.extend(recorded.value_differences(&again.values)?),
        (None, Some(_)) => return Err(wrong("decisions.values", "a slot that was built at once has none")),
        (None, None) => {}
    }
    if drafts.len() != recorded.drafts.len() {
        differences.push(format!("proposals: built {}, recorded {}", drafts.len(), recorded.drafts.len()));
    }
    for (recorded, now) in recorded.drafts.iter().zip(&drafts) {
        differences.extend(recorded.differences(now));
    }
    let (chains, rules): (Vec<_>, Vec<_>) = file.rules().into_iter().unzip();
    let blocks = || again.drafts.iter().flat_map(|draft| draft.lanes.values()).flat_map(|lane| &lane.blocks);
    Ok(Replayed {
        block: format!("slot {}", file.slot()),
        chains,
        rules,
        transactions: blocks().map(|block| block.block.executed().len()).sum(),
        gas: blocks().map(|block| block.block.gas_used()).sum(),
        took: again.took,
        differences,
    })
}

/// As slots were built before there was an engine: everything is simulated, then there is a draft for every useful set.
fn at_once(view: &SlotView, candidates: &[Candidate]) -> Result<Again, SlotFileError> {
    let started = Instant::now();
    let simulated = simulate_all(view, candidates)?;
    let drafts = proposals(view, &simulated)?;
    Ok(Again { drafts, took: started.elapsed(), ..Again::default() })
}

/// Asks an engine what was asked, in the same order.
fn by_steps(view: SlotView, candidates: &[Candidate], steps: &Steps) -> Result<Again, SlotFileError> {
    let named = Named(candidates.iter().map(|candidate| (candidate.hash, candidate)).collect());
    let mut again = Again::default();
    let started = Instant::now();
    let mut engine = Engine::open(Arc::new(view), steps.limits)?;
    // It may have come from the slot before: an engine that takes the same in by one call answers as it does.
    if !steps.begun_with.is_empty() {
        let begun_with = named.all(&steps.begun_with)?;
        let answers = engine.insert(&begun_with)?;
        again.note_refused("engine.begunWith", &begun_with, answers);
    }
    for (index, step) in steps.steps.iter().enumerate() {
        let failed = |cause: BuildError| SlotFileError::Step { index, cause };
        match step {
            Step::Insert(hashes) => {
                let candidates = named.all(hashes)?;
                let answers = engine.insert(&candidates).map_err(failed)?;
                again.note_refused(&format!("engine.steps[{index}]"), &candidates, answers);
            }
            Step::Remove(hash) => {
                engine.remove(*hash);
            }
            Step::Propose(rollups) => {
                let standing = engine.propose(rollups).map_err(failed)?;
                again.values.insert(rollups.clone(), standing.value);
            }
            Step::Improve { rollups, round } => {
                engine.improve(rollups, *round).map_err(failed)?;
            }
            Step::Draft(rollups) => again.drafts.push(engine.draft(rollups).map_err(failed)?),
        }
    }
    again.took = started.elapsed();
    Ok(again)
}

/// The slot's bundles by their hashes.
struct Named<'a>(BTreeMap<B256, &'a Candidate>);

impl Named<'_> {
    fn all(&self, hashes: &[B256]) -> Result<Vec<Candidate>, SlotFileError> {
        let one = |hash: &B256| {
            let unknown = || wrong("engine", format!("bundle {hash} is not among the slot's bundles"));
            self.0.get(hash).copied().cloned().ok_or_else(unknown)
        };
        hashes.iter().map(one).collect()
    }
}

impl Again {
    /// What is not taken in now was when the slot was recorded: only that is written down.
    fn note_refused(&mut self, place: &str, candidates: &[Candidate], answers: Vec<Result<(), BuildError>>) {
        for (candidate, answer) in candidates.iter().zip(answers) {
            if let Err(cause) = answer {
                self.differences.push(format!("{place}: bundle {} is not taken in: {cause}", candidate.hash));
            }
        }
    }
}

#[cfg(test)]
mod tests;

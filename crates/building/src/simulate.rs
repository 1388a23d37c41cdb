//! Simulation of bundles, each on its own on top of the pending state.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_primitives::{Bundle, Place, Reason, Rejection, RollupSet};
use rayon::prelude::*;

use crate::{Attempt, BuildError, BundleRun, Candidate, Lanes, SlotView, open_lanes, run_bundle};

/// A candidate and what it did alone.
#[derive(Clone, Debug)]
pub struct Simulated {
    /// The candidate.
    pub candidate: Candidate,
    /// What it did, or what blocked it. Blocked bundles stay candidates where another state can cure them.
    pub attempt: Attempt,
}

/// Simulates one bundle in the slot's first blocks that its bounds allow.
///
/// # Errors
/// When the engine fails.
pub fn simulate(view: &SlotView, bundle: &Bundle) -> Result<Attempt, BuildError> {
    let mut lanes = match lanes_for(view, bundle)? {
        Ok(lanes) => lanes,
        Err(rejection) => return Ok(blocked(rejection)),
    };
    in_some_block(view, &mut lanes, bundle)
}

/// Simulates all candidates in parallel. Results are in the order of the candidates, whatever the threads do.
///
/// # Errors
/// When the engine fails for any of them; the first by order counts.
pub fn simulate_all(view: &SlotView, candidates: &[Candidate]) -> Result<Vec<Simulated>, BuildError> {
    simulate_each(view, candidates)?.into_iter().collect()
}

/// As [`simulate_all`], with an answer for each candidate: one whose state has to be fetched first keeps no other from its own.
///
/// # Errors
/// Outer: a rollup's blocks cannot be opened. Inner: the engine fails for that candidate.
pub fn simulate_each(view: &SlotView, candidates: &[Candidate]) -> Result<Vec<Result<Simulated, BuildError>>, BuildError> {
    let all: RollupSet = view.rollups.keys().copied().collect();
    let opened = open_lanes(view, &all)?;
    let each = candidates
        .par_iter()
        .map_init(
            // Opening a block executes its forced prefix: do it once and give each worker a copy.
            || opened.clone(),
            |lanes, candidate| {
                let bundle = &candidate.bundle;
                let attempt = match unknown_rollup(view, bundle) {
                    Some(rejection) => blocked(rejection),
                    None if single_block(view, bundle) => {
                        let marks: BTreeMap<_, _> =
                            lanes.iter().map(|(chain, lane)| (*chain, lane.block().checkpoint())).collect();
                        let attempt = run_bundle(view, lanes, bundle, &BTreeSet::new())?;
                        for (chain, mark) in marks {
                            if let Some(lane) = lanes.get_mut(&chain) {
                                lane.block_mut().rollback(mark);
                            }
                        }
                        attempt
                    }
                    None => {
                        let rollups = bundle.rollups();
                        let mut own = lanes.clone();
                        own.retain(|chain, _| rollups.contains(chain));
                        in_some_block(view, &mut own, bundle)?
                    }
                };
                Ok(Simulated { candidate: candidate.clone(), attempt })
            },
        )
        .collect();
    Ok(each)
}

fn blocked(rejection: Rejection) -> Attempt {
    Attempt { run: BundleRun::default(), blocked: Some(rejection) }
}

fn unknown_rollup(view: &SlotView, bundle: &Bundle) -> Option<Rejection> {
    bundle
        .rollups()
        .into_iter()
        .find(|chain| !view.rollups.contains_key(chain))
        .map(|chain| Rejection::new(Place::rollup(chain), Reason::NoBlockInSlot))
}

fn single_block(view: &SlotView, bundle: &Bundle) -> bool {
    bundle.rollups().iter().filter_map(|chain| view.rollups.get(chain)).all(|rollup| rollup.slot.blocks.len() == 1)
}

fn lanes_for(view: &SlotView, bundle: &Bundle) -> Result<Result<Lanes, Rejection>, BuildError> {
    match unknown_rollup(view, bundle) {
        Some(rejection) => Ok(Err(rejection)),
        None => open_lanes(view, &bundle.rollups()).map(Ok),
    }
}

/// Tries the slot's blocks one after the other while the bundle says "later".
fn in_some_block(view: &SlotView, lanes: &mut Lanes, bundle: &Bundle) -> Result<Attempt, BuildError> {
    loop {
        let attempt = run_bundle(view, lanes, bundle, &BTreeSet::new())?;
        if !matches!(&attempt.blocked, Some(Rejection { reason: Reason::NotYet(_), .. })) || !advance(lanes)? {
            return Ok(attempt);
        }
    }
}

/// Moves every rollup that has one on to its next block of the slot. Returns whether any has.
pub(crate) fn advance(lanes: &mut Lanes) -> Result<bool, BuildError> {
    let mut moved = false;
    for (chain, lane) in lanes.iter_mut() {
        moved |= lane.advance().map_err(|cause| BuildError::Lane { chain: *chain, cause })?;
    }
    Ok(moved)
}

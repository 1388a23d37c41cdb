//! Simulation of bundles, each on its own on top of the pending state.

use std::{collections::BTreeSet, sync::Arc};

use lockstep_primitives::{Bundle, Leg, Place, Reason, Rejection, RollupSet};

use crate::{
    Attempt, BuildError, BundleRun, Candidate, Lanes, SlotView, open_lanes,
    order::Density,
    parallel::for_each_index,
    reuse::{Variant, marks, roll_back},
    run::run_remembering,
};

/// A candidate and what it did alone.
#[derive(Clone, Debug)]
pub struct Simulated {
    /// The candidate.
    pub candidate: Candidate,
    /// What it did, or what blocked it. Blocked bundles stay candidates where another state can cure them.
    pub attempt: Arc<Attempt>,
    /// What it depended on, where it can be taken over.
    pub(crate) variant: Option<Arc<Variant>>,
    pub(crate) density: Density,
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
    in_some_block(view, &mut lanes, bundle).map(|(attempt, _)| Arc::unwrap_or_clone(attempt))
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
    // Opening a block executes its forced prefix: it is done once, and every thread works on a copy.
    let opened = open_lanes(view, &all)?;
    Ok(for_each_index(candidates.len(), &opened, |lanes, index| simulate_on(view, lanes, &candidates[index])))
}

/// Simulates a candidate on blocks that are open, and leaves them as they were.
pub(crate) fn simulate_on(view: &SlotView, lanes: &mut Lanes, candidate: &Candidate) -> Result<Simulated, BuildError> {
    let bundle = &candidate.bundle;
    let (attempt, variant) = match unknown_rollup(view, bundle) {
        Some(rejection) => (Arc::new(blocked(rejection)), None),
        None if single_block(view, bundle) => {
            let marks = marks(lanes, bundle);
            let done = run_remembering(view, lanes, bundle, &BTreeSet::new())?;
            roll_back(lanes, &marks);
            done
        }
        None => {
            let rollups = bundle.rollups();
            let mut own: Lanes = rollups.iter().filter_map(|chain| Some((*chain, lanes.get(chain)?.clone()))).collect();
            in_some_block(view, &mut own, bundle)?
        }
    };
    Ok(Simulated::new(candidate.clone(), attempt, variant.map(Arc::new)))
}

impl Simulated {
    pub(crate) fn new(candidate: Candidate, attempt: Arc<Attempt>, variant: Option<Arc<Variant>>) -> Self {
        let density = Density::of(&attempt);
        Self { candidate, attempt, variant, density }
    }
}

fn blocked(rejection: Rejection) -> Attempt {
    Attempt { run: BundleRun::default(), blocked: Some(rejection) }
}

fn unknown_rollup(view: &SlotView, bundle: &Bundle) -> Option<Rejection> {
    let unknown = bundle.legs.iter().map(Leg::chain).filter(|chain| !view.rollups.contains_key(chain)).min();
    unknown.map(|chain| Rejection::new(Place::rollup(chain), Reason::NoBlockInSlot))
}

fn single_block(view: &SlotView, bundle: &Bundle) -> bool {
    bundle.legs.iter().filter_map(|leg| view.rollups.get(&leg.chain())).all(|rollup| rollup.slot.blocks.len() == 1)
}

fn lanes_for(view: &SlotView, bundle: &Bundle) -> Result<Result<Lanes, Rejection>, BuildError> {
    match unknown_rollup(view, bundle) {
        Some(rejection) => Ok(Err(rejection)),
        None => open_lanes(view, &bundle.rollups()).map(Ok),
    }
}

/// Tries the slot's blocks one after the other while the bundle says "later".
fn in_some_block(view: &SlotView, lanes: &mut Lanes, bundle: &Bundle) -> Result<(Arc<Attempt>, Option<Variant>), BuildError> {
    loop {
        let (attempt, variant) = run_remembering(view, lanes, bundle, &BTreeSet::new())?;
        if !matches!(&attempt.blocked, Some(Rejection { reason: Reason::NotYet(_), .. })) || !advance(lanes)? {
            return Ok((attempt, variant));
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

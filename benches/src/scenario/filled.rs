//! Engines as scenarios need them.

use std::sync::Arc;

use lockstep_building::{Candidate, Engine, SearchLimits, SlotView, Standing};
use lockstep_primitives::RollupSet;

use crate::{Failed, measure::timed};

/// An engine that has taken all bundles in, and has filled nothing yet.
///
/// # Errors
/// When the engine fails, or does not take a bundle in.
pub(super) fn filled(view: &Arc<SlotView>, candidates: &[Candidate]) -> Result<Engine, Failed> {
    let mut engine = Engine::open(Arc::clone(view), SearchLimits::default())?;
    take(&mut engine, candidates)?;
    Ok(engine)
}

/// Lets an engine take bundles in.
///
/// # Errors
/// As [`filled`].
pub(super) fn take(engine: &mut Engine, candidates: &[Candidate]) -> Result<(), Failed> {
    for taken in engine.insert(candidates)? {
        taken?;
    }
    Ok(())
}

/// What a set of rollups is worth after a number of rounds.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    /// Since the search began, the first proposal included.
    pub(super) seconds: f64,
    pub(super) standing: Standing,
}

/// The course of a search: the first proposal, and what it is worth after every round, until no round could improve anything
/// or there were `most` of them.
///
/// # Errors
/// When the engine fails.
pub(super) fn searched(engine: &mut Engine, rollups: &RollupSet, most: u32) -> Result<Vec<Stage>, Failed> {
    let (standing, mut seconds) = timed(|| Ok(engine.propose(rollups)?))?;
    let mut stages = vec![Stage { seconds, standing }];
    for round in 0..most {
        let ((open, standing), more) = timed(|| {
            let open = engine.improve(rollups, round)?;
            Ok((open, engine.propose(rollups)?))
        })?;
        seconds += more;
        stages.push(Stage { seconds, standing });
        if !open {
            break;
        }
    }
    Ok(stages)
}

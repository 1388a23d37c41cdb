//! What was asked of a slot's engine, so that it can be asked again, and how that is written in `slot.json`.
//!
//! An engine is a function of its view, of the bundles and of the calls: asked the same in the same order, it answers the same.

use std::collections::BTreeSet;

use alloy_primitives::{B256, ChainId, U64};
use lockstep_building::SearchLimits;
use lockstep_primitives::RollupSet;
use serde::{Deserialize, Serialize};

use super::decisions::set_name;

/// The most that may be asked of the engine of a recorded slot: one set of rollups some dozen times a millisecond.
pub(crate) const MAX_STEPS: usize = 65_536;
/// How many of that may ask for drafts: each of them is kept until it is compared.
pub(crate) const MAX_DRAFTS: usize = 1_024;
/// How many bundles the engine of a recorded slot may begin with and take in, counted each time that one comes.
pub(crate) const MAX_TAKEN: usize = 1_000_000;

/// A field, and what is wrong with it.
pub(super) type Wrong = (String, String);

/// What was asked of a slot's engine, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// These were taken in by one call, in this order.
    Insert(Vec<B256>),
    /// This was taken out.
    Remove(B256),
    /// What the set is worth was asked.
    Propose(RollupSet),
    /// A numbered round of improvement.
    Improve {
        /// Of what is held for this set.
        rollups: RollupSet,
        /// Which round.
        round: u32,
    },
    /// The set's draft was asked for.
    Draft(RollupSet),
}

/// A slot's engine: what it began with, in the engine's order, how it searched, and what was asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Steps {
    /// How much was searched.
    pub(crate) limits: SearchLimits,
    /// What it knew when the slot began: nothing if it was opened for it, else what it held right after it was rebased to it.
    pub(crate) begun_with: Vec<B256>,
    /// What was asked of it.
    pub(crate) steps: Vec<Step>,
}

impl Steps {
    /// How many drafts are asked for.
    pub(crate) fn drafts(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, Step::Draft(_))).count()
    }

    /// Whether it can be asked again: of these bundles and rollups only, and within the bounds.
    fn check(&self, bundles: &BTreeSet<B256>, rollups: &RollupSet) -> Result<(), Wrong> {
        bounded("steps", self.steps.len(), "steps", MAX_STEPS)?;
        bounded("steps", self.drafts(), "drafts", MAX_DRAFTS)?;
        let taken = self.steps.iter().map(|step| if let Step::Insert(hashes) = step { hashes.len() } else { 0 });
        bounded("steps", self.begun_with.len() + taken.sum::<usize>(), "bundles that are taken in", MAX_TAKEN)?;
        let known = |hash: &B256| {
            let there = bundles.contains(hash);
            if there { Ok(()) } else { Err(format!("bundle {hash} is not among the slot's bundles")) }
        };
        let mut inside = BTreeSet::new();
        for (index, hash) in self.begun_with.iter().enumerate() {
            let once = if inside.insert(hash) { Ok(()) } else { Err(format!("bundle {hash} is there twice")) };
            known(hash).and(once).map_err(|cause| (format!("begunWith[{index}]"), cause))?;
        }
        for (index, step) in self.steps.iter().enumerate() {
            let at = |what: &str, cause: String| (format!("steps[{index}].{what}"), cause);
            match step {
                Step::Insert(hashes) => {
                    for (position, hash) in hashes.iter().enumerate() {
                        known(hash).map_err(|cause| at(&format!("insert[{position}]"), cause))?;
                    }
                }
                Step::Remove(hash) => known(hash).map_err(|cause| at("remove", cause))?,
                Step::Propose(set) => offered(rollups, set).map_err(|cause| at("propose", cause))?,
                Step::Improve { rollups: set, .. } => offered(rollups, set).map_err(|cause| at("improve.rollups", cause))?,
                Step::Draft(set) => offered(rollups, set).map_err(|cause| at("draft", cause))?,
            }
        }
        Ok(())
    }
}

fn bounded(place: &str, count: usize, what: &str, most: usize) -> Result<(), Wrong> {
    if count <= most {
        return Ok(());
    }
    Err((place.to_owned(), format!("{count} {what} are too many: a recorded slot has {most} at the most")))
}

/// That a set is one that the slot has.
fn offered(rollups: &RollupSet, set: &RollupSet) -> Result<(), String> {
    if set.is_empty() {
        return Err("a set has at least one rollup".to_owned());
    }
    match set.iter().find(|chain| !rollups.contains(chain)) {
        Some(chain) => Err(format!("rollup {chain} of the set {} is not among the slot's rollups", set_name(set))),
        None => Ok(()),
    }
}

/// A slot's engine in `slot.json`: bundles by their hashes, sets of rollups by their chain ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct EngineFile {
    limits: LimitsFile,
    begun_with: Vec<B256>,
    steps: Vec<StepFile>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LimitsFile {
    exact_items: usize,
    alternatives: usize,
    round_work: u64,
    seed: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum StepFile {
    Insert(Vec<B256>),
    Remove(B256),
    Propose(Vec<U64>),
    Improve { rollups: Vec<U64>, round: u32 },
    Draft(Vec<U64>),
}

impl EngineFile {
    /// What was asked of the engine of a slot with these bundles and rollups.
    ///
    /// # Errors
    /// When it could not be asked again: it is of other bundles or rollups, or too much.
    pub(super) fn new(steps: &Steps, bundles: &BTreeSet<B256>, rollups: &RollupSet) -> Result<Self, Wrong> {
        steps.check(bundles, rollups)?;
        let SearchLimits { exact_items, alternatives, round_work, seed } = steps.limits;
        let file = |step: &Step| match step {
            Step::Insert(hashes) => StepFile::Insert(hashes.clone()),
            Step::Remove(hash) => StepFile::Remove(*hash),
            Step::Propose(set) => StepFile::Propose(chains(set)),
            Step::Improve { rollups, round } => StepFile::Improve { rollups: chains(rollups), round: *round },
            Step::Draft(set) => StepFile::Draft(chains(set)),
        };
        Ok(Self {
            limits: LimitsFile { exact_items, alternatives, round_work, seed },
            begun_with: steps.begun_with.clone(),
            steps: steps.steps.iter().map(file).collect(),
        })
    }

    /// What is to be asked.
    ///
    /// # Errors
    /// When it cannot be asked of an engine with these bundles and rollups, or is too much.
    pub(super) fn steps(&self, bundles: &BTreeSet<B256>, rollups: &RollupSet) -> Result<Steps, Wrong> {
        let LimitsFile { exact_items, alternatives, round_work, seed } = self.limits;
        let step = |(index, file): (usize, &StepFile)| -> Result<Step, Wrong> {
            let set = |chains: &[U64], what: &str| {
                let twice = |chain| (format!("steps[{index}].{what}"), format!("rollup {chain} is there twice"));
                once_each(chains).map_err(twice)
            };
            Ok(match file {
                StepFile::Insert(hashes) => Step::Insert(hashes.clone()),
                StepFile::Remove(hash) => Step::Remove(*hash),
                StepFile::Propose(chains) => Step::Propose(set(chains, "propose")?),
                StepFile::Improve { rollups, round } => {
                    Step::Improve { rollups: set(rollups, "improve.rollups")?, round: *round }
                }
                StepFile::Draft(chains) => Step::Draft(set(chains, "draft")?),
            })
        };
        let steps = Steps {
            limits: SearchLimits { exact_items, alternatives, round_work, seed },
            begun_with: self.begun_with.clone(),
            steps: self.steps.iter().enumerate().map(step).collect::<Result<_, _>>()?,
        };
        steps.check(bundles, rollups)?;
        Ok(steps)
    }
}

fn chains(set: &RollupSet) -> Vec<U64> {
    set.iter().map(|chain| U64::from(*chain)).collect()
}

/// The rollups as a set; the first that is there twice when one is.
pub(super) fn once_each(chains: &[U64]) -> Result<RollupSet, ChainId> {
    let mut set = RollupSet::new();
    for chain in chains {
        let chain: ChainId = chain.to();
        if !set.insert(chain) {
            return Err(chain);
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FIRST: B256 = B256::repeat_byte(1);
    const SECOND: B256 = B256::repeat_byte(2);
    const FOREIGN: B256 = B256::repeat_byte(9);

    fn bundles() -> BTreeSet<B256> {
        [FIRST, SECOND].into()
    }

    fn rollups() -> RollupSet {
        [901, 902].into()
    }

    fn steps(steps: Vec<Step>) -> Steps {
        let limits = SearchLimits { exact_items: 3, alternatives: 5, round_work: 7, seed: u64::MAX };
        Steps { limits, begun_with: vec![SECOND, FIRST], steps }
    }

    fn every_kind() -> Steps {
        let both = rollups();
        steps(vec![
            Step::Remove(FIRST),
            Step::Insert(vec![FIRST, SECOND]),
            Step::Propose([902].into()),
            Step::Improve { rollups: both.clone(), round: u32::MAX },
            Step::Draft(both),
        ])
    }

    fn written(steps: &Steps) -> Result<EngineFile, Wrong> {
        EngineFile::new(steps, &bundles(), &rollups())
    }

    /// What is wrong with the steps, whether they are to be written or were read.
    fn refused(refused: &Steps) -> Wrong {
        let writing = written(refused).unwrap_err();
        // As if it had been written in a slot of more bundles and rollups.
        let more: (BTreeSet<B256>, RollupSet) =
            (bundles().into_iter().chain([FOREIGN]).collect(), rollups().into_iter().chain([905]).collect());
        if let Ok(file) = EngineFile::new(refused, &more.0, &more.1) {
            assert_eq!(file.steps(&bundles(), &rollups()).unwrap_err(), writing);
        }
        writing
    }

    #[test]
    fn steps_are_read_as_they_were_written() {
        let file = written(&every_kind()).unwrap();
        let text = serde_json::to_string(&file).unwrap();
        let read: EngineFile = serde_json::from_str(&text).unwrap();
        assert_eq!(read, file);
        assert_eq!(read.steps(&bundles(), &rollups()), Ok(every_kind()));
        assert_eq!(every_kind().drafts(), 1);
    }

    #[test]
    fn the_form_in_the_file_is_the_documented_one() {
        let expected = json!({
            "limits": { "exactItems": 3, "alternatives": 5, "roundWork": 7, "seed": u64::MAX },
            "begunWith": [SECOND, FIRST],
            "steps": [
                { "remove": FIRST },
                { "insert": [FIRST, SECOND] },
                { "propose": ["0x386"] },
                { "improve": { "rollups": ["0x385", "0x386"], "round": u32::MAX } },
                { "draft": ["0x385", "0x386"] },
            ],
        });
        assert_eq!(serde_json::to_value(written(&every_kind()).unwrap()).unwrap(), expected);
        let mut other = expected;
        other["steps"][0] = json!({ "forget": FIRST });
        assert!(serde_json::from_value::<EngineFile>(other).is_err());
    }

    #[test]
    fn steps_of_unknown_bundles_are_refused_by_their_place() {
        let (place, cause) = refused(&steps(vec![Step::Propose(rollups()), Step::Insert(vec![FIRST, FOREIGN])]));
        assert_eq!(place, "steps[1].insert[1]");
        assert_eq!(cause, format!("bundle {FOREIGN} is not among the slot's bundles"));
        assert_eq!(refused(&steps(vec![Step::Remove(FOREIGN)])).0, "steps[0].remove");
        assert_eq!(refused(&Steps { begun_with: vec![FIRST, FOREIGN], ..steps(Vec::new()) }).0, "begunWith[1]");
        let twice = refused(&Steps { begun_with: vec![FIRST, FIRST], ..steps(Vec::new()) });
        assert_eq!(twice, ("begunWith[1]".to_owned(), format!("bundle {FIRST} is there twice")));
    }

    #[test]
    fn steps_for_unknown_sets_of_rollups_are_refused_by_their_place() {
        let unknown: RollupSet = [901, 905].into();
        let (place, cause) = refused(&steps(vec![Step::Propose(unknown.clone())]));
        assert_eq!(place, "steps[0].propose");
        assert_eq!(cause, "rollup 905 of the set 901+905 is not among the slot's rollups");
        let improve = Step::Improve { rollups: unknown.clone(), round: 0 };
        assert_eq!(refused(&steps(vec![improve])).0, "steps[0].improve.rollups");
        assert_eq!(refused(&steps(vec![Step::Draft(unknown)])).0, "steps[0].draft");
        assert_eq!(refused(&steps(vec![Step::Draft(RollupSet::new())])).1, "a set has at least one rollup");
        let mut file = written(&every_kind()).unwrap();
        file.steps = vec![StepFile::Draft(vec![U64::from(901), U64::from(901)])];
        let twice = file.steps(&bundles(), &rollups()).unwrap_err();
        assert_eq!(twice, ("steps[0].draft".to_owned(), "rollup 901 is there twice".to_owned()));
    }

    #[test]
    fn more_than_the_bounds_is_refused_and_as_much_is_not() {
        let removals = |count: usize| steps(vec![Step::Remove(FIRST); count]);
        assert!(written(&removals(MAX_STEPS)).is_ok());
        let (place, cause) = refused(&removals(MAX_STEPS + 1));
        assert_eq!((place.as_str(), cause.contains("65537 steps are too many")), ("steps", true), "{cause}");
        let mut file = written(&removals(MAX_STEPS)).unwrap();
        file.steps.push(StepFile::Remove(FIRST));
        assert_eq!(file.steps(&bundles(), &rollups()).unwrap_err(), ("steps".to_owned(), cause));

        let drafts = |count: usize| steps(vec![Step::Draft(rollups()); count]);
        assert!(written(&drafts(MAX_DRAFTS)).is_ok());
        assert!(refused(&drafts(MAX_DRAFTS + 1)).1.contains("1025 drafts are too many"));

        // Two it begins with.
        let inserts = |count: usize| steps(vec![Step::Insert(vec![FIRST; count])]);
        assert!(written(&inserts(MAX_TAKEN - 2)).is_ok());
        assert!(refused(&inserts(MAX_TAKEN - 1)).1.contains("1000001 bundles that are taken in are too many"));
    }
}

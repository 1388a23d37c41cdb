//! Slots as files: what the builder saw and made of it, so that it can be built again elsewhere.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use alloy_primitives::{B256, I256};
use lockstep_building::{BuildError, Draft, SlotView, Standing};
use lockstep_delivery::Decision;
use lockstep_messaging::Deployments;
use lockstep_primitives::{Allocation, ChainId, RollupSet};
use lockstep_provider::{Prestate, write_folder};
use lockstep_rpc::wire::{AllocationWire, BidWire};
use lockstep_simulation::TracedView;
use parking_lot::Mutex;

use super::{BuilderRole, Built, blocking_with_state, engine::SlotEngine};
use crate::{
    clock::now_ms,
    intake::Intake,
    record::{
        SlotRecords,
        decisions::{DecisionFile, DecisionsFile, DraftFile, ValueFile, unreadable},
        slot::{Recording, SlotFile},
    },
};

/// What the folder of a recorded slot is called, before the slot's number.
const PREFIX: &str = "slot-";

/// Where slots are recorded, and how many.
#[derive(Debug)]
pub(crate) struct Recorder {
    records: SlotRecords,
    /// Where the message protocols are: a policy does not say it any more.
    deployments: Deployments,
    /// Held while a recording is written, so that no two of them sweep at once.
    turn: Mutex<()>,
}

impl Recorder {
    /// Records in the given folder, over rollups with these message protocols.
    pub(crate) fn new(records: SlotRecords, deployments: Deployments) -> Self {
        Self { records, deployments, turn: Mutex::new(()) }
    }

    fn write(&self, recording: &Recording) -> Result<(), String> {
        let files = recording.files().map_err(|error| error.to_string())?;
        let _turn = self.turn.lock();
        let name = format!("{PREFIX}{}", recording.slot.slot());
        let SlotRecords { folder, slots } = &self.records;
        write_folder(folder, &name, &files, true).map_err(|error| error.to_string())?;
        let swept = sweep(folder, (*slots).max(1)).map_err(|error| format!("{}: {error}", folder.display()))?;
        metrics::counter!("lockstep_slot_recordings_total", "result" => "written").increment(1);
        metrics::counter!("lockstep_slot_recordings_total", "result" => "swept").increment(swept);
        Ok(())
    }
}

/// Removes the recordings that were written before the newest `keep`. Returns how many.
fn sweep(folder: &Path, keep: usize) -> io::Result<u64> {
    let mut recordings: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(slot) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u64>().ok()) else { continue };
        recordings.push((entry.metadata()?.modified()?, slot, entry.path()));
    }
    recordings.sort();
    recordings.truncate(recordings.len().saturating_sub(keep));
    let swept = recordings.len() as u64;
    for (_, _, path) in recordings {
        fs::remove_dir_all(path)?;
    }
    Ok(swept)
}

/// Puts a tracer over every rollup's state of a slot.
pub(super) fn trace(view: &mut SlotView) -> BTreeMap<ChainId, Arc<TracedView>> {
    let mut traces = BTreeMap::new();
    for (chain, rollup) in &mut view.rollups {
        let slot = Arc::make_mut(&mut rollup.slot);
        let traced = Arc::new(TracedView::new(Arc::clone(&slot.state)));
        slot.state = Arc::clone(&traced) as _;
        traces.insert(*chain, traced);
    }
    traces
}

/// Has drafted what was proposed, the most valuable set first, as far as there is time for it until `until_ms`. Returns the sets
/// that have no draft, and why.
pub(super) async fn draft_until(
    engine: &SlotEngine,
    intake: &Intake,
    standings: &[(RollupSet, Standing)],
    until_ms: u64,
) -> Vec<(RollupSet, String)> {
    let mut proposed: Vec<&(RollupSet, Standing)> = standings.iter().collect();
    proposed.sort_by_key(|(_, standing)| Reverse(standing.value));
    // Nothing stops a draft, so none begins that by the longest so far would not end in time.
    let mut longest_ms = 0;
    let mut without = Vec::new();
    for (rollups, _) in proposed {
        let began_ms = now_ms();
        if began_ms.saturating_add(longest_ms) >= until_ms {
            without.push((rollups.clone(), "there is no time for it before bidding ends".to_owned()));
            continue;
        }
        if let Err(error) = engine.draft_in_time(intake, rollups, until_ms).await {
            without.push((rollups.clone(), error));
        }
        longest_ms = longest_ms.max(now_ms().saturating_sub(began_ms));
    }
    without
}

/// What became of what was built.
#[derive(Debug)]
pub(super) struct Outcome<'a> {
    /// What each set of rollups that was bid on was worth by the last [`Step::Propose`](crate::record::steps::Step) of it.
    pub(super) values: BTreeMap<RollupSet, I256>,
    /// A draft for each [`Step::Draft`](crate::record::steps::Step), in the order of the steps.
    pub(super) drafts: Vec<Arc<Draft>>,
    /// The bids that the market took.
    pub(super) bids: Vec<BidWire>,
    /// Who proposes where.
    pub(super) allocation: Option<&'a Allocation>,
    /// What the record says of what was delivered.
    pub(super) decision: Option<&'a Decision>,
}

impl BuilderRole {
    /// Writes the slot down, in the background: nothing waits for it. A slot whose engine was asked more than
    /// [`MAX_STEPS`](crate::record::steps::MAX_STEPS) times is not recorded, which is counted and told.
    ///
    /// To be called when nothing is asked of the slot's engine any more.
    pub(super) fn record_slot(self: &Arc<Self>, built: &Built, outcome: Outcome<'_>) {
        let Some(recorder) = &self.settings.recorder else { return };
        let (role, recorder) = (Arc::clone(self), Arc::clone(recorder));
        let (view, traces) = (Arc::clone(&built.view), built.traces.clone());
        let Outcome { values, drafts, bids, allocation, decision } = outcome;
        let asked = built.steps.drafts();
        if asked != drafts.len() {
            let error = format!("the engine was asked for {asked} drafts, and {} are there", drafts.len());
            return not_recorded(view.slot, &error);
        }
        let received_ms = |hash: B256| {
            let (.., status) = self.intake.tracker().own(hash)?;
            status.history.first().map(|event| event.at_ms)
        };
        let slot = match SlotFile::new(&view, &built.candidates, &built.steps, &recorder.deployments, received_ms) {
            Ok(slot) => slot,
            Err(error) => return not_recorded(view.slot, &error),
        };
        let values = Some(values.iter().map(|(rollups, value)| ValueFile::new(rollups, *value)).collect());
        let allocation = allocation.map(|allocation| AllocationWire::new(allocation, Default::default()).grants);
        let decision = decision.map(DecisionFile::from);
        tokio::spawn(async move {
            let number = view.slot;
            // Nothing is asked of the engine on this view any more: what was read of the states by now is all that the steps read.
            let read = blocking_with_state(&role.intake, view, move |view| {
                let drafts = drafts.iter().map(|draft| DraftFile::new(draft)).collect::<Result<Vec<_>, _>>()?;
                Ok((drafts, states(view, &traces)?))
            });
            let written = match read.await {
                Ok((drafts, states)) => {
                    let decisions = DecisionsFile { drafts, values, bids, allocation, decision };
                    let recording = Recording { slot, states, decisions };
                    let write = tokio::task::spawn_blocking(move || recorder.write(&recording)).await;
                    write.unwrap_or_else(|error| Err(error.to_string()))
                }
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                not_recorded(number, &error);
            }
        });
    }
}

fn not_recorded(slot: u64, error: &dyn std::fmt::Display) {
    metrics::counter!("lockstep_slot_recordings_total", "result" => "failed").increment(1);
    tracing::warn!(slot, %error, "the slot is not recorded");
}

/// What was read of every rollup's state.
fn states(view: &SlotView, traces: &BTreeMap<ChainId, Arc<TracedView>>) -> Result<BTreeMap<ChainId, Prestate>, BuildError> {
    let mut states = BTreeMap::new();
    for (chain, rollup) in &view.rollups {
        let keys = traces.get(chain).map(|traced| traced.keys()).unwrap_or_default();
        let state = Prestate::of(&*rollup.slot.state, &keys).map_err(|error| unreadable(*chain, error))?;
        states.insert(*chain, state);
    }
    Ok(states)
}

#[cfg(test)]
mod tests {
    use lockstep_pool::{Kind, Limits};

    use super::{
        super::{
            engine::PutAway,
            tests::{PASSED, admit, begun, role},
        },
        *,
    };
    use crate::{
        fake_node::{A, B, Rig, bundle_of, pay},
        record::steps::Step,
    };

    #[tokio::test]
    async fn drafts_for_the_record_begin_with_the_most_valuable_set_and_end_with_bidding() {
        let rig = Rig::new(Limits::default());
        let role = role(&rig);
        admit(&rig, 0).await;
        rig.intake.admit(bundle_of(&[(A, pay(A, 3, 0)), (B, pay(B, 3, 0))]), Kind::Bundle).await.unwrap();
        let engine = begun(&rig, &role, 7, None).await;
        let standings = engine.propose(&rig.intake).await.unwrap();
        let (only_a, only_b, both) = (RollupSet::from([A]), RollupSet::from([B]), RollupSet::from([A, B]));

        let without = draft_until(&engine, &rig.intake, &standings, PASSED).await;
        let sets: Vec<&RollupSet> = without.iter().map(|(rollups, _)| rollups).collect();
        assert_eq!(sets, [&both, &only_a, &only_b], "every set that has none is told of");
        assert!(draft_until(&engine, &rig.intake, &standings, now_ms() + 60_000).await.is_empty());
        let PutAway { steps, drafts, .. } = engine.put_away().unwrap();
        let drafted = steps.steps.into_iter().filter_map(|step| if let Step::Draft(set) = step { Some(set) } else { None });
        assert_eq!((drafted.collect::<Vec<_>>(), drafts.len()), (vec![both, only_a, only_b], 3));
    }

    #[test]
    fn only_recordings_are_swept_and_the_newest_stay() {
        let folder = std::env::temp_dir().join(format!("lockstep-sweep-{}", std::process::id()));
        for name in ["slot-9", "slot-10", "slot-11", "osaka-1-2", "slot-of-mine"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        // Written last, whatever its number is.
        let time = SystemTime::now() + std::time::Duration::from_secs(60);
        fs::File::open(folder.join("slot-9")).unwrap().set_modified(time).unwrap();
        let swept = sweep(&folder, 1);
        let mut left: Vec<_> = fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.file_name()).collect();
        left.sort();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(swept.unwrap(), 2);
        assert_eq!(left, ["osaka-1-2", "slot-9", "slot-of-mine"]);
    }
}

//! Slots that an engine built, written down and built again.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_primitives::{Address, B256, Bytes, ChainId, I256, TxKind, U256};
use lockstep_building::{Candidate, Draft, Engine, Policy, RollupView, SearchLimits, SlotView, proposals, simulate_all};
use lockstep_messaging::Deployments;
use lockstep_primitives::{Price, RollupSet, SignedTx};
use lockstep_provider::{Prestate, write_folder};
use lockstep_simulation::{
    BlockPlan, EthereumFork, ForkSchedule, MemoryState, NextBlock, ParentBlock, Rules, SlotRollup, TracedView,
};
use serde_json::{Value, json};

use crate::{
    fake_node::{A, B, bundle_of, user},
    record::{
        decisions::{DECISIONS_FILE, DecisionsFile, DraftFile, ValueFile},
        slot::{Recording, SLOT_FILE, SlotFile},
        steps::{Step, Steps},
    },
    replay::{ReplayError, Replayed, replay},
};

const PROPOSER: Address = Address::repeat_byte(0xbb);
const GWEI: u128 = 1_000_000_000;
/// Room for four plain payments in each block.
const GAS_LIMIT: u64 = 100_000;
const PAYMENT_GAS: u64 = 21_000;

/// A plain payment by a user, who tips so many gwei.
fn pay(chain: ChainId, number: usize, nonce: u64, tip: u128) -> (ChainId, Arc<SignedTx>) {
    let key = user(number);
    let tx = TxEip1559 {
        chain_id: chain,
        nonce,
        gas_limit: PAYMENT_GAS,
        max_fee_per_gas: 100 * GWEI,
        max_priority_fee_per_gas: tip * GWEI,
        to: TxKind::Call(Address::repeat_byte(0x77)),
        value: U256::from(1),
        access_list: Default::default(),
        input: Bytes::new(),
    };
    let signature = key.sign(tx.signature_hash());
    (chain, Arc::new(SignedTx::from_parts(TxEnvelope::from(tx.into_signed(signature)), key.address())))
}

fn candidate(sequence: u64, txs: &[(ChainId, Arc<SignedTx>)]) -> Candidate {
    let bundle = bundle_of(txs);
    Candidate { hash: bundle.hash(), bundle: Arc::new(bundle), sequence }
}

/// Two rollups with one small block each, and what is read of them.
fn view() -> (Arc<SlotView>, BTreeMap<ChainId, Arc<TracedView>>) {
    let (mut rollups, mut traces) = (BTreeMap::new(), BTreeMap::new());
    for chain in [A, B] {
        let mut state = MemoryState::new();
        for number in 0..5 {
            state.set_account(user(number).address(), U256::from(1_000_000_000 * GWEI), 0, Bytes::new());
        }
        let traced = Arc::new(TracedView::new(Arc::new(state)));
        let parent = ParentBlock {
            hash: B256::from(U256::from(chain)),
            number: 10,
            timestamp: 1_800_000_000,
            gas_limit: GAS_LIMIT,
            gas_used: GAS_LIMIT / 2,
            base_fee: 1_000_000_000,
            blob_gas_used: Some(0),
            excess_blob_gas: Some(0),
            extra_data: Bytes::new(),
        };
        let next = NextBlock {
            timestamp: parent.timestamp + 2,
            gas_limit: GAS_LIMIT,
            beneficiary: PROPOSER,
            parent_beacon_block_root: Some(B256::repeat_byte(0xbe)),
            ..NextBlock::default()
        };
        let slot = SlotRollup {
            chain,
            forks: ForkSchedule::always(Rules::Ethereum(EthereumFork::Osaka)),
            parent,
            state: Arc::clone(&traced) as _,
            blocks: vec![BlockPlan { next, forced: Vec::new() }],
        };
        rollups.insert(chain, RollupView::free(Arc::new(slot), Price::PAR, 0));
        traces.insert(chain, traced);
    }
    let view = SlotView { slot: 7, rollups, proposer: PROPOSER, policy: Policy::default(), facts: Arc::default() };
    (Arc::new(view), traces)
}

/// An engine of which everything is noted that a record has.
struct Noted {
    engine: Engine,
    candidates: Vec<Candidate>,
    steps: Steps,
    values: BTreeMap<RollupSet, I256>,
    drafts: Vec<Draft>,
}

impl Noted {
    fn ask(&mut self, step: Step) {
        match &step {
            Step::Insert(hashes) => {
                let with = |hash: &B256| self.candidates.iter().find(|candidate| candidate.hash == *hash).unwrap().clone();
                let taken: Vec<Candidate> = hashes.iter().map(with).collect();
                for answer in self.engine.insert(&taken).unwrap() {
                    answer.unwrap();
                }
            }
            Step::Remove(hash) => assert!(self.engine.remove(*hash)),
            Step::Propose(rollups) => {
                let value = self.engine.propose(rollups).unwrap().value;
                self.values.insert(rollups.clone(), value);
            }
            Step::Improve { rollups, round } => {
                self.engine.improve(rollups, *round).unwrap();
            }
            Step::Draft(rollups) => self.drafts.push(self.engine.draft(rollups).unwrap()),
        }
        self.steps.steps.push(step);
    }
}

/// A recorded slot, and what was in it.
struct Story {
    root: PathBuf,
    folder: PathBuf,
    /// What is in the drafts only because of improvement.
    improved: B256,
    /// What was taken out, and what came in its stead.
    removed: B256,
    instead: B256,
    /// The drafts of the same bundles, built at once.
    at_once: Value,
}

impl Drop for Story {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// An engine begins a slot with what it has from before, bundles come and go while it is asked, and what it holds is improved.
fn told(name: &str) -> Story {
    let (view, traces) = view();
    let (on_a, both): (RollupSet, RollupSet) = ([A].into(), [A, B].into());
    // By value for gas it goes first, and leaves no room for the next two, which are worth more together.
    let wide = candidate(0, &[pay(A, 0, 0, 11), pay(A, 0, 1, 11), pay(A, 0, 2, 11)]);
    let across = candidate(1, &[pay(A, 3, 0, 1), pay(B, 3, 0, 1)]);
    let left = candidate(2, &[pay(A, 1, 0, 10), pay(A, 1, 1, 10)]);
    let right = candidate(3, &[pay(A, 2, 0, 10), pay(A, 2, 1, 10)]);
    let removed = candidate(4, &[pay(B, 4, 0, 6)]);
    let instead = candidate(5, &[pay(B, 4, 0, 5)]);
    let hash = |candidate: &Candidate| candidate.hash;
    let (improved, gone, came) = (hash(&left), hash(&removed), hash(&instead));

    let limits = SearchLimits { seed: 3, ..SearchLimits::default() };
    let mut engine = Engine::open(Arc::clone(&view), limits).unwrap();
    engine.insert(&[across.clone(), wide.clone()]).unwrap();
    engine.propose(&both).unwrap();
    assert!(engine.rebase(Arc::clone(&view)).unwrap().is_empty());
    let steps = Steps { limits, begun_with: engine.order(), steps: Vec::new() };
    assert_eq!(steps.begun_with, [hash(&across), hash(&wide)]);
    let candidates = vec![across, wide, left.clone(), removed, right.clone(), instead];
    let mut noted = Noted { engine, candidates, steps, values: BTreeMap::new(), drafts: Vec::new() };

    noted.ask(Step::Propose(on_a.clone()));
    noted.ask(Step::Insert(vec![hash(&left), gone]));
    noted.ask(Step::Propose(both.clone()));
    noted.ask(Step::Insert(vec![hash(&right)]));
    noted.ask(Step::Remove(gone));
    noted.ask(Step::Insert(vec![came]));
    noted.ask(Step::Propose(both.clone()));
    let greedy = noted.values[&both];
    for round in 0..2 {
        noted.ask(Step::Improve { rollups: both.clone(), round });
        noted.ask(Step::Improve { rollups: on_a.clone(), round });
    }
    noted.ask(Step::Propose(on_a.clone()));
    noted.ask(Step::Propose(both.clone()));
    assert!(noted.values[&both] > greedy, "improvement finds what goes in by value for gas does not");
    noted.ask(Step::Draft(both));
    noted.ask(Step::Draft(on_a));

    let Noted { candidates, steps, values, drafts, .. } = noted;
    let slot = SlotFile::new(&view, &candidates, &steps, &Deployments::default(), |_| Some(5)).unwrap();
    let files = |drafts: &[Draft]| drafts.iter().map(|draft| DraftFile::new(draft).unwrap()).collect::<Vec<_>>();
    let values = values.iter().map(|(rollups, value)| ValueFile::new(rollups, *value)).collect();
    let decisions =
        DecisionsFile { drafts: files(&drafts), values: Some(values), bids: Vec::new(), allocation: None, decision: None };
    let at_once = files(&proposals(&view, &simulate_all(&view, &candidates).unwrap()).unwrap());
    let states = traces.iter().map(|(chain, traced)| (*chain, Prestate::of(&**traced, &traced.keys()).unwrap())).collect();
    let files = Recording { slot, states, decisions }.files().unwrap();
    let root = std::env::temp_dir().join(format!("lockstep-replay-{name}-{}", std::process::id()));
    let folder = write_folder(&root, "slot-7", &files, true).unwrap();
    Story { root, folder, improved, removed: gone, instead: came, at_once: serde_json::to_value(at_once).unwrap() }
}

/// Changes a file of a recording.
fn alter(folder: &Path, file: &str, change: impl FnOnce(&mut Value)) {
    let path = folder.join(file);
    let mut value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

fn built_again(story: &Story) -> Result<Replayed, ReplayError> {
    replay(&story.folder, None, None)
}

fn differences(story: &Story) -> Vec<String> {
    built_again(story).unwrap().differences
}

fn steps_of(file: &mut Value) -> &mut Vec<Value> {
    file["engine"]["steps"].as_array_mut().unwrap()
}

#[test]
fn a_slot_whose_bundles_came_and_went_and_that_was_improved_is_built_again_to_the_last_bit() {
    let story = told("same");
    let replayed = built_again(&story).unwrap();
    assert_eq!(replayed.differences, Vec::<String>::new());
    assert_eq!((replayed.block.as_str(), replayed.chains), ("slot 7", vec![A, B]));
    // Four payments on the first rollup in either draft, and one on the other.
    assert_eq!((replayed.transactions, replayed.gas), (9, 9 * PAYMENT_GAS));
}

#[test]
fn one_value_that_was_altered_is_named_with_its_rollups() {
    let story = told("value");
    let mut expected = String::new();
    alter(&story.folder, DECISIONS_FILE, |file| {
        let of_both =
            file["values"].as_array_mut().unwrap().iter_mut().find(|value| value["rollups"] == json!(["0x385", "0x386"]));
        let value = &mut of_both.unwrap()["value"];
        let true_value = I256::from_dec_str(value.as_str().unwrap()).unwrap();
        let altered = true_value + I256::ONE;
        *value = json!(altered.to_string());
        expected = format!("value that was bid on for {A}+{B}: built {true_value}, recorded {altered}");
    });
    assert_eq!(differences(&story), [expected]);
}

#[test]
fn a_slot_that_was_not_improved_as_recorded_is_told_by_its_rollups_and_bundles() {
    let story = told("rounds");
    alter(&story.folder, SLOT_FILE, |file| steps_of(file).retain(|step| step.get("improve").is_none()));
    let differences = differences(&story);
    let about = |what: &str| differences.iter().find(|difference| difference.starts_with(what));
    assert!(about(&format!("value that was bid on for {A}+{B}: ")).is_some(), "{differences:?}");
    assert!(about(&format!("value that was bid on for {A}: ")).is_some(), "{differences:?}");
    assert!(about(&format!("proposal for {A}: rollup {A}: list: ")).is_some(), "{differences:?}");
    let placed = about(&format!("proposal for {A}+{B}: placed bundles: ")).unwrap();
    let (now, recorded) = placed.split_once("recorded").unwrap();
    let improved = story.improved.to_string();
    assert!(!now.contains(&improved) && recorded.contains(&improved), "{placed}");
}

#[test]
fn a_removal_that_is_left_out_shows_in_what_is_placed() {
    let story = told("removal");
    alter(&story.folder, SLOT_FILE, |file| steps_of(file).retain(|step| step.get("remove").is_none()));
    let differences = differences(&story);
    let placed = differences.iter().find(|difference| difference.starts_with(&format!("proposal for {A}+{B}: placed bundles: ")));
    let (now, recorded) = placed.unwrap().split_once("recorded").unwrap();
    let (removed, instead) = (story.removed.to_string(), story.instead.to_string());
    assert!(now.contains(&removed) && !now.contains(&instead), "{placed:?}");
    assert!(recorded.contains(&instead) && !recorded.contains(&removed), "{placed:?}");
}

#[test]
fn a_draft_that_nobody_asked_for_is_told() {
    let story = told("drafts");
    alter(&story.folder, SLOT_FILE, |file| drop(steps_of(file).pop()));
    assert_eq!(differences(&story), ["proposals: built 1, recorded 2"]);
}

#[test]
fn steps_that_cannot_be_asked_are_an_error_and_no_difference() {
    let story = told("errors");
    let foreign = B256::repeat_byte(9);
    alter(&story.folder, SLOT_FILE, |file| steps_of(file).push(json!({ "remove": foreign })));
    let error = built_again(&story).unwrap_err();
    assert_eq!(error.to_string(), format!("engine.steps[15].remove: bundle {foreign} is not among the slot's bundles"));

    alter(&story.folder, SLOT_FILE, |file| *steps_of(file).last_mut().unwrap() = json!({ "propose": ["0x385", "0x9"] }));
    let error = built_again(&story).unwrap_err();
    assert_eq!(error.to_string(), "engine.steps[15].propose: rollup 9 of the set 9+901 is not among the slot's rollups");

    alter(&story.folder, SLOT_FILE, |file| steps_of(file).retain(|step| step.get("propose").is_none()));
    let error = built_again(&story).unwrap_err();
    assert_eq!(error.to_string(), format!("decisions.values[0].rollups: no step proposes for the set {A}"));
}

#[test]
fn a_slot_that_was_built_at_once_is_built_at_once_again() {
    let story = told("at-once");
    alter(&story.folder, SLOT_FILE, |file| {
        file["version"] = json!(3);
        file.as_object_mut().unwrap().remove("engine");
    });
    let refused = built_again(&story).unwrap_err();
    assert_eq!(refused.to_string(), "decisions.values: a slot that was built at once has none");
    alter(&story.folder, DECISIONS_FILE, |file| {
        file.as_object_mut().unwrap().remove("values");
        file["drafts"] = story.at_once.clone();
    });
    assert_eq!(differences(&story), Vec::<String>::new());

    alter(&story.folder, DECISIONS_FILE, |file| file["drafts"][0]["value"] = json!("1"));
    let differences = differences(&story);
    assert_eq!(differences.len(), 1, "{differences:?}");
    assert!(differences[0].starts_with(&format!("proposal for {A}: value: built ")), "{differences:?}");
}

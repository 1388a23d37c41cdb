//! A slot as files: what the builder saw, what it built of it, and what became of that.
//!
//! `slot.json` and one folder a rollup (`<chain>/prestate.json`, `<chain>/block_hashes.json`) are everything that building
//! reads, `decisions.json` is what it gave. Building is pure, so the first give the second again, to the last bit: asked the
//! same in the same order, an engine answers the same. Before version 4 slots were built at once, without an engine.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
};

use alloy_primitives::{Address, B256, Bytes, ChainId, I256, U64};
use lockstep_building::{BuildError, Candidate, Policy, RollupView, SlotView};
use lockstep_messaging::Deployments;
use lockstep_primitives::{OrderingPolicy, Price, RollupSet, SignedTx};
use lockstep_provider::{Prestate, RecordedError};
use lockstep_rpc::wire::{ArrivalWire, BundleParams, Decimal};
use lockstep_simulation::{BlockPlan, BlockTx, DataLimits, ForkSchedule, MemoryState, NextBlock, ParentBlock, Rules, SlotRollup};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::config::ProtocolsConfig;

use super::{
    decisions::{DECISIONS_FILE, DecisionsFile},
    facts::FactsFile,
    rules_name,
    steps::{EngineFile, Steps, Wrong},
};

/// The file of what the builder saw.
pub const SLOT_FILE: &str = "slot.json";
/// The form of the files.
const VERSION: u32 = 4;
/// The form of slots that were built at once: the bundles are all that was simulated, in that order. It is read still; others
/// are refused.
const BUILT_AT_ONCE: u32 = 3;

/// Why a recorded slot cannot be built again.
#[derive(Debug, thiserror::Error)]
pub enum SlotFileError {
    /// A file cannot be read, or not be written.
    #[error("{file}: {cause}")]
    File {
        /// Which one.
        file: String,
        /// Why.
        cause: String,
    },
    /// It was recorded in another form.
    #[error(
        "it was recorded in version {0}, this program reads {BUILT_AT_ONCE} and {VERSION}: replay it with the program that \
         recorded it"
    )]
    Version(u32),
    /// A field makes no sense.
    #[error("{place}: {cause}")]
    Field {
        /// Which one.
        place: String,
        /// Why.
        cause: String,
    },
    /// The recorded state of a rollup.
    #[error("rollup {chain}: {cause}")]
    State {
        /// The rollup.
        chain: ChainId,
        /// Why.
        cause: RecordedError,
    },
    /// Building failed.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The engine failed at what it was asked.
    #[error("engine.steps[{index}]: {cause}")]
    Step {
        /// Which of the steps.
        index: usize,
        /// Why.
        cause: BuildError,
    },
}

impl SlotFileError {
    /// A stable name of the error.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::File { .. } => "unreadable_file",
            Self::Version(_) => "other_version",
            Self::Field { .. } => "invalid_field",
            Self::State { cause, .. } => cause.code(),
            Self::Build(_) | Self::Step { .. } => "engine_failed",
        }
    }
}

pub(crate) fn wrong(place: impl Into<String>, cause: impl std::fmt::Display) -> SlotFileError {
    SlotFileError::Field { place: place.into(), cause: cause.to_string() }
}

/// Everything that building reads, but for the states, and what is asked of the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SlotFile {
    version: u32,
    slot: u64,
    proposer: Address,
    policy: PolicyFile,
    rollups: Vec<RollupFile>,
    /// All bundles that the engine was ever given in the slot.
    bundles: Vec<CandidateFile>,
    facts: FactsFile,
    /// What was asked of the engine; absent in slots that were built at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    engine: Option<EngineFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PolicyFile {
    relay_gas_limit: u64,
    trusted: Vec<U64>,
    attesters: BTreeSet<Address>,
    max_passes: usize,
    /// In the numeraire's smallest unit, decimal.
    min_relay_value: String,
    /// The message protocols by chain id, as a configuration file has them.
    protocols: BTreeMap<U64, ProtocolsConfig>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RollupFile {
    chain_id: U64,
    forks: Vec<ForkFile>,
    parent: ParentFile,
    blocks: Vec<PlanFile>,
    price: Decimal,
    fee_share_bps: u64,
    ordering: String,
    lane_gas: u64,
    arrivals: Vec<ArrivalWire>,
    inclusion: Vec<Bytes>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ForkFile {
    from: u64,
    rules: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ParentFile {
    hash: B256,
    number: u64,
    timestamp: u64,
    gas_limit: u64,
    gas_used: u64,
    base_fee: u64,
    blob_gas_used: Option<u64>,
    excess_blob_gas: Option<u64>,
    extra_data: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PlanFile {
    timestamp: u64,
    gas_limit: u64,
    beneficiary: Address,
    prev_randao: B256,
    parent_beacon_block_root: Option<B256>,
    extra_data: Bytes,
    max_tx_data: Option<u64>,
    max_block_data: Option<u64>,
    #[serde(default)]
    encrypted_gas: u64,
    forced: Vec<Bytes>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CandidateFile {
    hash: B256,
    sequence: u64,
    signer: Option<Address>,
    /// When it was received, in Unix milliseconds; `None` when that is not known any more.
    received_ms: Option<u64>,
    bundle: BundleParams,
}

impl SlotFile {
    /// What the builder saw: the slot, every candidate that its engine was ever given, where the message protocols are, and what
    /// was known of messages; and what was asked of the engine.
    ///
    /// # Errors
    /// When what was known cannot be written down, or what was asked could not be asked again: a candidate is there twice or is
    /// not there, a rollup is not in the slot, or it is too much.
    pub(crate) fn new(
        view: &SlotView,
        candidates: &[Candidate],
        steps: &Steps,
        deployments: &Deployments,
        received_ms: impl Fn(B256) -> Option<u64>,
    ) -> Result<Self, SlotFileError> {
        let policy = PolicyFile {
            relay_gas_limit: view.policy.relay_gas_limit,
            trusted: view.policy.trusted.iter().map(|chain| U64::from(*chain)).collect(),
            attesters: view.policy.attesters.clone(),
            max_passes: view.policy.max_passes,
            min_relay_value: view.policy.min_relay_value.to_string(),
            protocols: deployments.0.iter().map(|(chain, rollup)| (U64::from(*chain), rollup.into())).collect(),
        };
        let known = once_each(candidates.iter().map(|candidate| candidate.hash))?;
        let engine = EngineFile::new(steps, &known, &view.rollups.keys().copied().collect()).map_err(of_engine)?;
        let bundles = candidates
            .iter()
            .map(|candidate| CandidateFile {
                hash: candidate.hash,
                sequence: candidate.sequence,
                signer: candidate.bundle.signer,
                received_ms: received_ms(candidate.hash),
                bundle: BundleParams::from(&*candidate.bundle),
            })
            .collect();
        Ok(Self {
            version: VERSION,
            slot: view.slot,
            proposer: view.proposer,
            policy,
            rollups: view.rollups.values().map(RollupFile::new).collect(),
            bundles,
            facts: FactsFile::new(&view.facts).map_err(|(place, cause)| wrong(format!("facts.{place}"), cause))?,
            engine: Some(engine),
        })
    }

    /// Reads `slot.json`.
    ///
    /// # Errors
    /// When it is absent, malformed, or of another version.
    pub(crate) fn read(folder: &Path) -> Result<Self, SlotFileError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = read(folder, SLOT_FILE)?;
        if version != VERSION && version != BUILT_AT_ONCE {
            return Err(SlotFileError::Version(version));
        }
        let file: Self = read(folder, SLOT_FILE)?;
        match (version, file.engine.is_some()) {
            (VERSION, false) => Err(wrong("engine", "it is not said what was asked of the engine")),
            (BUILT_AT_ONCE, true) => Err(wrong("engine", format!("a slot of version {BUILT_AT_ONCE} had no engine"))),
            _ => Ok(file),
        }
    }

    /// What is to be asked of an engine with the slot's candidates; `None` when the slot was built at once.
    ///
    /// # Errors
    /// When a bundle is there twice, or a step names a bundle or a rollup that the slot does not have, or there are too many.
    pub(crate) fn steps(&self) -> Result<Option<Steps>, SlotFileError> {
        let Some(engine) = &self.engine else { return Ok(None) };
        let known = once_each(self.bundles.iter().map(|bundle| bundle.hash))?;
        let rollups: RollupSet = self.rollups.iter().map(|rollup| rollup.chain_id.to::<ChainId>()).collect();
        engine.steps(&known, &rollups).map(Some).map_err(of_engine)
    }

    /// The slot's number.
    pub(crate) const fn slot(&self) -> u64 {
        self.slot
    }

    /// (chain id, rules of its first block) of every rollup.
    pub(crate) fn rules(&self) -> Vec<(ChainId, String)> {
        let rules = |rollup: &RollupFile| {
            let first = rollup.blocks.first().map_or(rollup.parent.timestamp, |block| block.timestamp);
            let fork = rollup.forks.iter().rev().find(|fork| fork.from <= first);
            fork.map_or_else(|| "unknown".to_owned(), |fork| fork.rules.clone())
        };
        self.rollups.iter().map(|rollup| (rollup.chain_id.to(), rules(rollup))).collect()
    }

    /// The slot and its candidates, ready to build again, on the states that are recorded in `folder`.
    ///
    /// # Errors
    /// When a field makes no sense, a bundle is another than its hash says, or a state cannot be read.
    pub(crate) fn view(&self, folder: &Path) -> Result<(SlotView, Vec<Candidate>), SlotFileError> {
        let mut rollups = BTreeMap::new();
        for (index, rollup) in self.rollups.iter().enumerate() {
            let chain: ChainId = rollup.chain_id.to();
            let state = Prestate::read(&folder.join(chain.to_string())).and_then(|prestate| prestate.state());
            let state = state.map_err(|cause| SlotFileError::State { chain, cause })?;
            rollups.insert(chain, rollup.view(&format!("rollups[{index}]"), Arc::new(state))?);
        }
        let protocols = self.policy.protocols.iter().map(|(chain, protocols)| (chain.to(), protocols.deployments()));
        let min_relay_value = I256::from_dec_str(&self.policy.min_relay_value);
        let policy = Policy {
            protocols: Deployments(protocols.collect()).protocols(),
            relay_gas_limit: self.policy.relay_gas_limit,
            min_relay_value: min_relay_value.map_err(|_| wrong("policy.minRelayValue", "it is not a decimal amount"))?,
            trusted: self.policy.trusted.iter().map(|chain| chain.to()).collect(),
            attesters: self.policy.attesters.clone(),
            max_passes: self.policy.max_passes,
        };
        let candidates =
            self.bundles.iter().enumerate().map(|(index, file)| file.candidate(index)).collect::<Result<Vec<_>, _>>()?;
        let facts = self.facts.facts().map_err(|(place, cause)| wrong(format!("facts.{place}"), cause))?;
        let view = SlotView { slot: self.slot, rollups, proposer: self.proposer, policy, facts: Arc::new(facts) };
        Ok((view, candidates))
    }
}

/// The hashes of bundles, of which none may be there twice: steps name them by it.
fn once_each(hashes: impl Iterator<Item = B256>) -> Result<BTreeSet<B256>, SlotFileError> {
    let mut known = BTreeSet::new();
    for (index, hash) in hashes.enumerate() {
        if !known.insert(hash) {
            return Err(wrong(format!("bundles[{index}]"), format!("bundle {hash} is there twice")));
        }
    }
    Ok(known)
}

fn of_engine((place, cause): Wrong) -> SlotFileError {
    wrong(format!("engine.{place}"), cause)
}

impl CandidateFile {
    fn candidate(&self, index: usize) -> Result<Candidate, SlotFileError> {
        let place = format!("bundles[{index}]");
        let bundle = self.bundle.clone().into_bundle(self.signer).map_err(|error| wrong(&place, error))?;
        let hash = bundle.hash();
        if hash != self.hash {
            return Err(wrong(place, format!("its hash is {hash}, recorded is {}", self.hash)));
        }
        Ok(Candidate { hash, bundle: Arc::new(bundle), sequence: self.sequence })
    }
}

impl RollupFile {
    fn new(view: &RollupView) -> Self {
        let SlotRollup { chain, forks, parent, blocks, state: _ } = &*view.slot;
        Self {
            chain_id: U64::from(*chain),
            forks: fork_files(forks),
            parent: ParentFile {
                hash: parent.hash,
                number: parent.number,
                timestamp: parent.timestamp,
                gas_limit: parent.gas_limit,
                gas_used: parent.gas_used,
                base_fee: parent.base_fee,
                blob_gas_used: parent.blob_gas_used,
                excess_blob_gas: parent.excess_blob_gas,
                extra_data: parent.extra_data.clone(),
            },
            blocks: blocks.iter().map(PlanFile::new).collect(),
            price: Decimal(view.price.0),
            fee_share_bps: view.fee_share_bps,
            ordering: view.ordering.name().to_owned(),
            lane_gas: view.ordering.lane_gas(),
            arrivals: view.arrivals.iter().map(|(hash, at_ms)| ArrivalWire { hash: *hash, at_ms: *at_ms }).collect(),
            inclusion: view.inclusion.iter().map(|tx| tx.raw().clone()).collect(),
        }
    }

    fn view(&self, place: &str, state: Arc<MemoryState>) -> Result<RollupView, SlotFileError> {
        let blocks = self.blocks.iter().enumerate();
        let blocks = blocks.map(|(index, block)| block.plan(&format!("{place}.blocks[{index}]"))).collect::<Result<_, _>>()?;
        let parent = &self.parent;
        let slot = SlotRollup {
            chain: self.chain_id.to(),
            forks: fork_schedule(&self.forks).map_err(|cause| wrong(format!("{place}.forks"), cause))?,
            parent: ParentBlock {
                hash: parent.hash,
                number: parent.number,
                timestamp: parent.timestamp,
                gas_limit: parent.gas_limit,
                gas_used: parent.gas_used,
                base_fee: parent.base_fee,
                blob_gas_used: parent.blob_gas_used,
                excess_blob_gas: parent.excess_blob_gas,
                extra_data: parent.extra_data.clone(),
            },
            state,
            blocks,
        };
        let ordering = OrderingPolicy::parse(&self.ordering, self.lane_gas);
        let inclusion = self.inclusion.iter().map(|raw| SignedTx::decode_any(raw.clone()).map(Arc::new));
        let inclusion = inclusion.collect::<Result<Vec<_>, _>>();
        Ok(RollupView {
            slot: Arc::new(slot),
            price: Price(self.price.0),
            fee_share_bps: self.fee_share_bps,
            ordering: ordering.map_err(|error| wrong(format!("{place}.ordering"), error))?,
            arrivals: self.arrivals.iter().map(|arrival| (arrival.hash, arrival.at_ms)).collect(),
            inclusion: inclusion.map_err(|error| wrong(format!("{place}.inclusion"), error))?,
        })
    }
}

impl PlanFile {
    fn new(plan: &BlockPlan) -> Self {
        let next = &plan.next;
        Self {
            timestamp: next.timestamp,
            gas_limit: next.gas_limit,
            beneficiary: next.beneficiary,
            prev_randao: next.prev_randao,
            parent_beacon_block_root: next.parent_beacon_block_root,
            extra_data: next.extra_data.clone(),
            max_tx_data: next.data.tx,
            max_block_data: next.data.block,
            encrypted_gas: next.encrypted_gas,
            forced: plan.forced.iter().map(|tx| tx.raw().clone()).collect(),
        }
    }

    fn plan(&self, place: &str) -> Result<BlockPlan, SlotFileError> {
        let next = NextBlock {
            timestamp: self.timestamp,
            gas_limit: self.gas_limit,
            beneficiary: self.beneficiary,
            prev_randao: self.prev_randao,
            parent_beacon_block_root: self.parent_beacon_block_root,
            extra_data: self.extra_data.clone(),
            data: DataLimits { tx: self.max_tx_data, block: self.max_block_data },
            encrypted_gas: self.encrypted_gas,
        };
        let forced = self
            .forced
            .iter()
            .enumerate()
            .map(|(index, raw)| BlockTx::decode(raw.clone()).map_err(|error| wrong(format!("{place}.forced[{index}]"), error)))
            .collect::<Result<_, _>>()?;
        Ok(BlockPlan { next, forced })
    }
}

fn fork_files(forks: &ForkSchedule) -> Vec<ForkFile> {
    let file = |from: u64, rules: Rules| ForkFile { from, rules: rules_name(rules) };
    match forks {
        ForkSchedule::Ethereum(forks) => forks.iter().map(|(from, fork)| file(*from, Rules::Ethereum(*fork))).collect(),
        ForkSchedule::OpStack(forks) => forks.iter().map(|(from, fork)| file(*from, Rules::OpStack(*fork))).collect(),
    }
}

fn fork_schedule(files: &[ForkFile]) -> Result<ForkSchedule, String> {
    let (mut ethereum, mut op_stack) = (Vec::new(), Vec::new());
    for file in files {
        match Rules::named(&file.rules) {
            Some(Rules::Ethereum(fork)) => ethereum.push((file.from, fork)),
            Some(Rules::OpStack(fork)) => op_stack.push((file.from, fork)),
            None => return Err(format!("there are no rules {:?}", file.rules)),
        }
    }
    match (ethereum.is_empty(), op_stack.is_empty()) {
        (false, true) => Ok(ForkSchedule::Ethereum(ethereum)),
        (true, false) => Ok(ForkSchedule::OpStack(op_stack)),
        _ => Err("the rules are to be of one kind of rollup".to_owned()),
    }
}

/// A whole recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recording {
    /// What the builder saw.
    pub(crate) slot: SlotFile,
    /// The states that it read.
    pub(crate) states: BTreeMap<ChainId, Prestate>,
    /// What it made of that.
    pub(crate) decisions: DecisionsFile,
}

impl Recording {
    /// The files of the recording's folder, by their paths in it.
    ///
    /// # Errors
    /// When something cannot be written as JSON.
    pub(crate) fn files(&self) -> Result<Vec<(String, Vec<u8>)>, SlotFileError> {
        let mut files = vec![json(SLOT_FILE, &self.slot)?, json(DECISIONS_FILE, &self.decisions)?];
        for (chain, state) in &self.states {
            let state = state.files().map_err(|cause| SlotFileError::State { chain: *chain, cause })?;
            files.extend(state.into_iter().map(|(name, bytes)| (format!("{chain}/{name}"), bytes)));
        }
        Ok(files)
    }
}

fn json<T: Serialize>(file: &str, value: &T) -> Result<(String, Vec<u8>), SlotFileError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| failed(file, &error))?;
    bytes.push(b'\n');
    Ok((file.to_owned(), bytes))
}

pub(super) fn read<T: DeserializeOwned>(folder: &Path, file: &str) -> Result<T, SlotFileError> {
    let text = fs::read(folder.join(file)).map_err(|error| failed(file, &error))?;
    serde_json::from_slice(&text).map_err(|error| failed(file, &error))
}

fn failed(file: &str, error: &dyn std::error::Error) -> SlotFileError {
    SlotFileError::File { file: file.to_owned(), cause: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_building::SearchLimits;
    use lockstep_messaging::{Facts, MailboxDeployment, RollupDeployments};
    use lockstep_primitives::{Bundle, LandedRef, Reason};
    use lockstep_simulation::{EthereumFork, OpFork, known_forks};

    use crate::record::steps::Step;

    fn view(facts: Facts) -> SlotView {
        SlotView {
            slot: 7,
            rollups: BTreeMap::new(),
            proposer: Address::repeat_byte(1),
            policy: Policy { min_relay_value: I256::MINUS_ONE, ..Policy::default() },
            facts: Arc::new(facts),
        }
    }

    fn deployments() -> Deployments {
        let mailbox = MailboxDeployment { mailbox: Address::repeat_byte(2) };
        Deployments(BTreeMap::from([(901, RollupDeployments { mailbox: Some(mailbox), ..RollupDeployments::default() })]))
    }

    fn candidate(sequence: u64) -> Candidate {
        let bundle = Bundle { min_timestamp: Some(sequence + 1), ..Bundle::default() };
        Candidate { hash: bundle.hash(), bundle: Arc::new(bundle), sequence }
    }

    fn steps(steps: Vec<Step>) -> Steps {
        Steps { limits: SearchLimits::default(), begun_with: Vec::new(), steps }
    }

    fn file(facts: Facts, candidates: &[Candidate], steps: &Steps) -> Result<SlotFile, SlotFileError> {
        SlotFile::new(&view(facts), candidates, steps, &deployments(), |_| None)
    }

    /// What is read of the file when this was done to it.
    fn read_after(file: &SlotFile, name: &str, change: impl FnOnce(&mut serde_json::Value)) -> Result<SlotFile, SlotFileError> {
        let folder = std::env::temp_dir().join(format!("lockstep-slot-file-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut changed = serde_json::to_value(file).unwrap();
        change(&mut changed);
        fs::write(folder.join(SLOT_FILE), changed.to_string()).unwrap();
        let read = SlotFile::read(&folder);
        fs::remove_dir_all(&folder).unwrap();
        read
    }

    #[test]
    fn a_slot_is_read_with_the_facts_and_the_steps_that_it_was_written_with() {
        let at = LandedRef { chain: 901, tx: B256::repeat_byte(3), message: 0 };
        let facts = Facts { landed: BTreeMap::from([(at, Err(Reason::EvidencePending("soon".to_owned())))]), ..Facts::default() };
        let candidates = [candidate(4), candidate(7)];
        let asked = steps(vec![Step::Insert(vec![candidates[1].hash, candidates[0].hash]), Step::Remove(candidates[0].hash)]);
        let file = file(facts.clone(), &candidates, &asked).unwrap();
        let read = read_after(&file, "same", |_| {}).unwrap();

        assert_eq!(read, file);
        assert_eq!(read.steps().unwrap(), Some(asked));
        let (again, bundles) = read.view(Path::new("/nowhere")).unwrap();
        assert_eq!((again.slot, *again.facts == facts), (7, true));
        assert_eq!(again.policy.min_relay_value, I256::MINUS_ONE);
        let told: Vec<_> = bundles.iter().map(|candidate| (candidate.hash, candidate.sequence)).collect();
        assert_eq!(told, [(candidates[0].hash, 4), (candidates[1].hash, 7)]);
    }

    #[test]
    fn a_slot_that_was_built_at_once_is_read_without_steps_and_other_versions_are_refused() {
        let file = file(Facts::default(), &[candidate(0)], &steps(Vec::new())).unwrap();
        let version = |file: &mut serde_json::Value, version: u32| file["version"] = serde_json::json!(version);
        let without = |file: &mut serde_json::Value| drop(file.as_object_mut().unwrap().remove("engine"));

        let at_once = read_after(&file, "at-once", |file| {
            version(file, BUILT_AT_ONCE);
            without(file);
        });
        assert_eq!(at_once.unwrap().steps().unwrap(), None);

        let with_engine = read_after(&file, "with-engine", |file| version(file, BUILT_AT_ONCE)).unwrap_err();
        assert_eq!(with_engine.to_string(), "engine: a slot of version 3 had no engine");
        let without_engine = read_after(&file, "without-engine", without).unwrap_err();
        assert_eq!(without_engine.to_string(), "engine: it is not said what was asked of the engine");
        for (name, other) in [("older", BUILT_AT_ONCE - 1), ("newer", VERSION + 1)] {
            assert_eq!(read_after(&file, name, |file| version(file, other)).unwrap_err().code(), "other_version");
        }
    }

    #[test]
    fn steps_that_cannot_be_asked_again_are_neither_written_nor_read() {
        let (first, second) = (candidate(0), candidate(1));
        let insert = steps(vec![Step::Insert(vec![first.hash])]);
        let foreign = file(Facts::default(), std::slice::from_ref(&second), &insert).unwrap_err();
        let expected = format!("engine.steps[0].insert[0]: bundle {} is not among the slot's bundles", first.hash);
        assert_eq!((foreign.code(), foreign.to_string()), ("invalid_field", expected.clone()));
        let twice = file(Facts::default(), &[first.clone(), first.clone()], &insert).unwrap_err();
        assert_eq!(twice.to_string(), format!("bundles[1]: bundle {} is there twice", first.hash));

        let file = file(Facts::default(), &[first, second], &insert).unwrap();
        let lost = read_after(&file, "lost", |file| drop(file["bundles"].as_array_mut().unwrap().remove(0)));
        assert_eq!(lost.unwrap().steps().unwrap_err().to_string(), expected);
        let doubled = read_after(&file, "doubled", |file| {
            let bundles = file["bundles"].as_array_mut().unwrap();
            bundles[1] = bundles[0].clone();
        });
        assert_eq!(doubled.unwrap().steps().unwrap_err().to_string(), twice.to_string());
        let elsewhere = read_after(&file, "elsewhere", |file| {
            file["engine"]["steps"][0] = serde_json::json!({ "propose": ["0x385"] });
        });
        let error = elsewhere.unwrap().steps().unwrap_err().to_string();
        assert_eq!(error, "engine.steps[0].propose: rollup 901 of the set 901 is not among the slot's rollups");
    }

    #[test]
    fn a_slot_whose_facts_cannot_be_written_is_not_recorded_without_them() {
        let at = LandedRef { chain: 901, tx: B256::repeat_byte(3), message: 0 };
        let facts = Facts { landed: BTreeMap::from([(at, Err(Reason::RollupNotWon))]), ..Facts::default() };
        let error = file(facts, &[], &steps(Vec::new())).unwrap_err();
        assert!(error.to_string().starts_with("facts.landed: "), "{error}");
    }

    #[test]
    fn schedules_are_read_as_they_were_written() {
        let karst = ForkSchedule::OpStack(vec![(0, OpFork::Jovian), (7, OpFork::Karst)]);
        for forks in [known_forks(1).unwrap(), known_forks(10).unwrap(), karst] {
            assert_eq!(fork_schedule(&fork_files(&forks)), Ok(forks));
        }
        let file = |rules: Rules| ForkFile { from: 0, rules: rules_name(rules) };
        let mixed = [file(Rules::Ethereum(EthereumFork::Osaka)), file(Rules::OpStack(OpFork::Jovian))];
        assert!(fork_schedule(&mixed).is_err());
        assert!(fork_schedule(&[]).is_err());
        assert!(fork_schedule(&[ForkFile { from: 0, rules: "frontier".to_owned() }]).is_err());
    }
}

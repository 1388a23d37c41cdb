//! Runs one bundle over its rollups: all of it, or nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy_consensus::Transaction;
use alloy_primitives::{Address, B256, I256, U256};
use lockstep_messaging::{Evidence, Message, Ran, ReadCall, Slot};
use lockstep_primitives::{
    Asset, Bundle, ChainId, Leg, LegTx, Place, Reason, Rejection, Relay, Requirement, RevertMode, RollupSet, SignedTx,
};
use lockstep_simulation::{
    BlockTx, CallRequest, Checkpoint, Lane, PendingBlock, SimulationError, StandIns, StateView, TxFees, TxOutcome, TxStatus, call,
};
use smallvec::SmallVec;

use crate::{
    BalanceChange, BuildError, ByRollup, RelayDraft, SlotView,
    balances::{token_changes, watched_balance_of},
    logs::{LaneLogs, emitted},
    order, relay,
    reuse::{LaneStretch, Variant},
    value,
};

/// The gas of a call that only reads.
const READ_GAS: u64 = 1_000_000;

/// The open blocks of a set of rollups.
pub type Lanes = BTreeMap<ChainId, Lane>;

/// Opens the first block of each rollup of a set.
///
/// # Errors
/// When a rollup is not in the view or its forced prefix cannot be executed.
pub fn open_lanes(view: &SlotView, rollups: &RollupSet) -> Result<Lanes, BuildError> {
    rollups
        .iter()
        .map(|chain| {
            let rollup = view.rollups.get(chain).ok_or(BuildError::UnknownRollup(*chain))?;
            let lane = Lane::open(Arc::clone(&rollup.slot)).map_err(|cause| BuildError::Lane { chain: *chain, cause })?;
            Ok((*chain, lane))
        })
        .collect()
}

/// What became of a transaction of a leg.
#[derive(Clone, Debug)]
pub struct TxRun {
    /// Its hash; that of the draft for a relay, which changes when it is sealed.
    pub hash: B256,
    /// What it did; `None` when it was left out (revert mode `drop`).
    pub outcome: Option<Arc<TxOutcome>>,
    /// Position in the block, forced prefix included.
    pub position: Option<usize>,
    /// Whether the bundle is out when it fails.
    pub must_succeed: bool,
}

/// What became of a leg.
#[derive(Clone, Debug)]
pub struct LegRun {
    /// The rollup.
    pub chain: ChainId,
    /// Index of its block in the slot.
    pub block: usize,
    /// Number of that block.
    pub number: u64,
    /// Whether the leg delivers a message.
    pub relay: bool,
    /// Its transactions.
    pub txs: Vec<TxRun>,
    /// The messages that it emitted, in log order; a malformed one keeps its index.
    pub messages: Vec<Result<Message, Reason>>,
}

/// A requirement and what it measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequirementRun {
    /// What is required.
    pub requirement: Requirement,
    /// By how much the balance rose.
    pub increase: I256,
}

/// A bundle that ran on every rollup.
#[derive(Clone, Debug, Default)]
pub struct BundleRun {
    /// Leg by leg.
    pub legs: Vec<LegRun>,
    /// Its relays.
    pub relays: Vec<RelayDraft>,
    /// (origin, destination) of the messages that it delivers.
    pub edges: BTreeSet<(ChainId, ChainId)>,
    /// Ids of the messages that it delivers.
    pub delivered: BTreeSet<B256>,
    /// The proposer's gain by rollup, in wei.
    pub gains: ByRollup<I256>,
    /// The proposer's gain, in the numeraire's smallest unit.
    pub value: I256,
    /// Gas used by rollup.
    pub gas: ByRollup<u64>,
    /// What was required and measured.
    pub requirements: Vec<RequirementRun>,
    /// Balance changes by rollup, of native assets and tokens.
    pub balances: ByRollup<Vec<BalanceChange>>,
}

/// How far a bundle came.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// What ran. Complete when nothing blocked it.
    pub run: BundleRun,
    /// What blocked it.
    pub blocked: Option<Rejection>,
}

/// Runs a bundle on the open blocks. If anything blocks it, every block is as it was before.
///
/// # Errors
/// When the engine fails; then, too, every block is as it was before.
pub fn run_bundle(
    view: &SlotView,
    lanes: &mut Lanes,
    bundle: &Bundle,
    delivered: &BTreeSet<B256>,
) -> Result<Attempt, BuildError> {
    run(view, lanes, bundle, delivered, false).map(|(attempt, _)| Arc::unwrap_or_clone(attempt))
}

/// The same, and remembers what it did where that can be taken over elsewhere.
pub(crate) fn run_remembering(
    view: &SlotView,
    lanes: &mut Lanes,
    bundle: &Bundle,
    delivered: &BTreeSet<B256>,
) -> Result<(Arc<Attempt>, Option<Variant>), BuildError> {
    run(view, lanes, bundle, delivered, true)
}

fn run(
    view: &SlotView,
    lanes: &mut Lanes,
    bundle: &Bundle,
    delivered: &BTreeSet<B256>,
    remember: bool,
) -> Result<(Arc<Attempt>, Option<Variant>), BuildError> {
    let mut checkpoints: ByRollup<Checkpoint> = ByRollup::default();
    let mut traced: SmallVec<[(ChainId, usize, u64); 2]> = SmallVec::new();
    for chain in bundle.chains() {
        let Some(lane) = lanes.get_mut(&chain) else { continue };
        checkpoints.insert(chain, lane.block().checkpoint());
        if remember {
            lane.block_mut().begin_trace();
            traced.push((chain, lane.block().executed().len(), lane.block().log_count()));
        }
    }
    let run = BundleRun { legs: Vec::with_capacity(bundle.legs.len()), ..BundleRun::default() };
    let mut runner = Runner {
        view,
        lanes,
        bundle,
        delivered,
        checkpoints,
        run,
        crosses: false,
        placed: false,
        roomless: false,
        in_bounds: false,
    };
    let result = runner.all();
    let (placeless, steady) = (runner.is_placeless(), runner.in_bounds && !runner.roomless);
    let Runner { lanes, checkpoints, run, .. } = runner;
    let mut failed = None;
    let mut stretches = Vec::with_capacity(traced.len());
    for (chain, base, logs) in traced {
        let (Some(lane), Some(since)) = (lanes.get_mut(&chain), checkpoints.get(&chain)) else { continue };
        match lane.block_mut().end_trace(*since) {
            Ok(stretch) => stretches.push(LaneStretch { chain, base, logs, stretch }),
            Err(error) => failed = Some(BuildError::simulation(chain, error)),
        }
    }
    let stop = match (result, failed) {
        (Ok(()), None) => None,
        (Err(stop), None) => Some(stop),
        (_, Some(error)) => Some(Stop::Engine(error)),
    };
    if stop.is_some() {
        for (chain, checkpoint) in &checkpoints {
            if let Some(lane) = lanes.get_mut(chain) {
                lane.block_mut().rollback(*checkpoint);
            }
        }
    }
    let blocked = match stop {
        None => None,
        Some(Stop::Bundle(rejection)) => Some(rejection),
        Some(Stop::Engine(error)) => return Err(error),
    };
    let of_state = blocked.as_ref().is_none_or(|rejection| !rejection.reason.is_room());
    let attempt = Arc::new(Attempt { run, blocked });
    if !remember || !steady || !of_state {
        return Ok((attempt, None));
    }
    if attempt.blocked.is_some() {
        stretches.iter_mut().for_each(|part| part.stretch.executed.clear());
    }
    let complete = attempt.blocked.is_some() || stretches.iter().all(|part| part.stretch.footprint.complete);
    let variant = Variant { stretches, attempt: Arc::clone(&attempt), recallable: placeless && complete };
    Ok((attempt, Some(variant)))
}

/// Whether the open blocks are within the bundle's bounds.
pub(crate) fn check_bounds(bundle: &Bundle, lanes: &Lanes) -> Result<(), Rejection> {
    for chain in bundle.chains() {
        let bad = |reason| Err(Rejection::new(Place::rollup(chain), reason));
        let Some(lane) = lanes.get(&chain) else { return bad(Reason::RollupNotWon) };
        let context = lane.block().context();
        let (number, timestamp) = (context.number, context.timestamp);
        let range = bundle.block_range(chain);
        if number > range.max {
            return bad(Reason::PastBlock { max: range.max, head: number - 1 });
        }
        if number < range.min {
            return bad(Reason::NotYet(format!("block {}", range.min)));
        }
        if let Some(max) = bundle.max_timestamp.filter(|max| timestamp > *max) {
            return bad(Reason::PastTimestamp { max, now: timestamp });
        }
        if let Some(min) = bundle.min_timestamp.filter(|min| timestamp < *min) {
            return bad(Reason::NotYet(format!("timestamp {min}")));
        }
    }
    Ok(())
}

/// Why a run ends early: the bundle is bad, or the engine is broken.
enum Stop {
    Bundle(Rejection),
    Engine(BuildError),
}

impl From<BuildError> for Stop {
    fn from(error: BuildError) -> Self {
        Self::Engine(error)
    }
}

fn bad(place: Place, reason: Reason) -> Stop {
    Stop::Bundle(Rejection::new(place, reason))
}

struct Runner<'a> {
    view: &'a SlotView,
    lanes: &'a mut Lanes,
    bundle: &'a Bundle,
    delivered: &'a BTreeSet<B256>,
    checkpoints: ByRollup<Checkpoint>,
    run: BundleRun,
    /// Whether a transaction so far has to do with messages that it consumes.
    crosses: bool,
    /// Whether what a transaction did may depend on where in the block it or another stands.
    placed: bool,
    /// Whether a transaction was dropped because there was no room for it.
    roomless: bool,
    /// Whether the open blocks are within the bundle's bounds.
    in_bounds: bool,
}

impl Runner<'_> {
    fn all(&mut self) -> Result<(), Stop> {
        check_bounds(self.bundle, self.lanes).map_err(Stop::Bundle)?;
        self.in_bounds = true;
        let before = self.required_balances()?;
        for (index, leg) in self.bundle.legs.iter().enumerate() {
            match leg {
                Leg::Txs { chain, txs } => self.signed_leg(index, *chain, txs)?,
                Leg::Relay { chain, relay } => self.relay_leg(index, *chain, *relay)?,
            }
        }
        if !self.run.legs.iter().flat_map(|leg| &leg.txs).any(|tx| tx.position.is_some()) {
            return Err(bad(Place::BUNDLE, Reason::NothingLeft));
        }
        self.check_requirements(&before)?;
        self.check_slot()?;
        self.measure()
    }

    /// Whether what the bundle does depends on nothing but the states and blocks of its rollups: not on where in them it stands.
    fn is_placeless(&self) -> bool {
        let placeless = |message: &Message| self.view.policy.protocols.of(message).is_ok_and(|protocol| protocol.is_placeless());
        let mut relays = self.bundle.legs.iter();
        !self.placed
            && relays.all(|leg| !matches!(leg, Leg::Relay { relay: Relay::Landed(_), .. }))
            && self.run.relays.iter().all(|relay| relay.request.is_some() && placeless(&relay.message))
            && self.run.legs.iter().flat_map(|leg| &leg.messages).all(|message| message.as_ref().is_ok_and(placeless))
    }

    fn lane(&mut self, chain: ChainId) -> Result<&mut Lane, Stop> {
        self.lanes.get_mut(&chain).ok_or_else(|| bad(Place::rollup(chain), Reason::RollupNotWon))
    }

    fn required_balances(&mut self) -> Result<Vec<U256>, Stop> {
        let mut balances = Vec::with_capacity(self.bundle.require.len());
        for requirement in &self.bundle.require {
            let lane = self.lane(requirement.chain)?;
            balances.push(read_balance(lane.block_mut(), requirement.chain, requirement.account, requirement.asset)?);
        }
        Ok(balances)
    }

    fn check_requirements(&mut self, before: &[U256]) -> Result<(), Stop> {
        for (requirement, before) in self.bundle.require.iter().zip(before) {
            let lane = self.lane(requirement.chain)?;
            let after = read_balance(lane.block_mut(), requirement.chain, requirement.account, requirement.asset)?;
            let increase = I256::from_raw(after.wrapping_sub(*before));
            let met = after.checked_sub(*before).is_some_and(|rise| rise >= requirement.min_increase);
            if !met {
                let reason =
                    Reason::RequirementNotMet { account: requirement.account, increase, required: requirement.min_increase };
                return Err(bad(Place::rollup(requirement.chain), reason));
            }
            self.run.requirements.push(RequirementRun { requirement: *requirement, increase });
        }
        Ok(())
    }

    fn signed_leg(&mut self, index: usize, chain: ChainId, txs: &[LegTx]) -> Result<(), Stop> {
        let mut leg = self.start_leg(chain, false, txs.len())?;
        let mut blocked = None;
        for (position, tx) in txs.iter().enumerate() {
            let before = self.lane(chain)?.block().checkpoint();
            let run = execute(self.lane(chain)?.block_mut(), &BlockTx::Signed(Arc::clone(&tx.tx)), tx.mode, &StandIns::default());
            let Tried { mut run, mut reason, roomless } =
                run.map_err(|error| Stop::Engine(BuildError::simulation(chain, error)))?;
            self.roomless |= roomless;
            if let Err(refused) = self.check_transaction(chain, &tx.tx, run.position) {
                if tx.mode == RevertMode::Drop {
                    self.lane(chain)?.block_mut().rollback(before);
                    (run.outcome, run.position) = (None, None);
                } else {
                    reason = reason.or(Some(refused));
                }
            }
            leg.txs.push(run);
            if let Some(reason) = reason {
                blocked = Some(bad(Place::tx(chain, index, position), reason));
                break;
            }
        }
        self.end_leg(leg);
        blocked.map_or(Ok(()), Err)
    }

    fn relay_leg(&mut self, index: usize, chain: ChainId, relay: Relay) -> Result<(), Stop> {
        let place = Place::leg(chain, index);
        let (message, evidence) = self.message(relay).map_err(|reason| bad(place, reason))?;
        if self.delivered.contains(&message.id) || !self.run.delivered.insert(message.id) {
            return Err(bad(place, Reason::MessageDelivered(message.id)));
        }
        let builder = self.view.proposer;
        let to = relay::destination(self.lane(chain)?.block().context(), builder);
        let logs = LaneLogs(&*self.lanes);
        let slot = Slot { facts: &self.view.facts, logs: &logs };
        let prepared = relay::prepare(&self.view.policy, &message, evidence.as_ref(), &to, &slot);
        let prepared = prepared.map_err(|reason| bad(place, reason))?;
        let (view, bundle) = (self.view, self.bundle);
        let rollup = view.rollups.get(&chain).ok_or(BuildError::UnknownRollup(chain))?;
        let mut leg = self.start_leg(chain, true, prepared.calls.len())?;
        for (number, call) in prepared.calls.iter().enumerate() {
            let engine = |error| Stop::Engine(BuildError::simulation(chain, error));
            let lane = self.lane(chain)?;
            if let Some(read) = &call.unless
                && answers(lane.block(), read).map_err(engine)?
            {
                continue;
            }
            let (block_index, position) = (lane.index(), lane.block().executed().len());
            let nonce =
                lane.block().state().account(builder).map_err(|error| engine(error.into()))?.map_or(0, |account| account.nonce);
            let context = lane.block().context();
            let tip = order::relay_tip(rollup, bundle, index, chain, context.base_fee);
            let tx = relay::transaction(context, call, nonce, relay::relay_gas_limit(&view.policy, call), tip);
            let signed = relay::placeholder(tx.clone(), builder);
            let run = execute(lane.block_mut(), &BlockTx::Signed(Arc::clone(&signed)), RevertMode::Fail, &prepared.stand_ins);
            let Tried { run, reason, .. } = run.map_err(engine)?;
            let reason = reason.or_else(|| self.check_transaction(chain, &signed, run.position).err());
            leg.txs.push(run);
            if let Some(reason) = reason {
                self.end_leg(leg);
                return Err(bad(place, reason));
            }
            self.run.relays.push(RelayDraft {
                leg: index,
                chain,
                message: message.clone(),
                request: prepared.request.clone(),
                call: number,
                block: block_index,
                position,
                tx,
            });
        }
        // What landed before depends on no block of this slot.
        if evidence.is_none() {
            self.run.edges.insert((message.origin, chain));
        }
        self.end_leg(leg);
        Ok(())
    }

    /// The message that a relay names, with evidence when it landed before.
    fn message(&self, relay: Relay) -> Result<(Message, Option<Evidence>), Reason> {
        match relay {
            Relay::Emitted { leg, message } => {
                let messages = self.run.legs.get(leg).map_or(&[][..], |leg| &leg.messages);
                let count = messages.len();
                let message = messages.get(message).ok_or(Reason::NoSuchMessage { leg, message, count })?;
                Ok((message.clone()?, None))
            }
            Relay::Landed(landed) => match self.view.facts.landed.get(&landed) {
                Some(Ok(landed)) => Ok((landed.message.clone(), Some(landed.evidence.clone()))),
                Some(Err(reason)) => Err(reason.clone()),
                None => Err(Reason::EvidencePending(format!("nothing is known of {landed} yet"))),
            },
        }
    }

    /// Checks what the newest transaction of a rollup has to do with other rollups, and notes on which it depends.
    fn check_transaction(&mut self, chain: ChainId, tx: &SignedTx, position: Option<usize>) -> Result<(), Reason> {
        let (Some(position), Some(lane)) = (position, self.lanes.get(&chain)) else { return Ok(()) };
        let logs = emitted(lane.block(), position);
        let access_list = tx.envelope().access_list();
        let listed = access_list.is_some_and(|list| !list.is_empty());
        self.crosses |= listed;
        self.placed |= listed;
        if logs.is_empty() && access_list.is_none_or(|list| list.is_empty()) {
            return Ok(());
        }
        let protocols = &self.view.policy.protocols;
        self.crosses |= logs.iter().any(|emitted| protocols.delivered(chain, emitted.log).is_some());
        self.placed |= logs.iter().any(|emitted| protocols.delivers_in_place(chain, emitted.log));
        let ran = Ran { access_list, logs: &logs, timestamp: lane.block().context().timestamp };
        let lanes = LaneLogs(&*self.lanes);
        let slot = Slot { facts: &self.view.facts, logs: &lanes };
        let origins = self.view.policy.protocols.check_transaction(chain, &ran, &slot)?;
        self.placed |= !origins.is_empty();
        self.run.edges.extend(origins.into_iter().filter(|origin| *origin != chain).map(|origin| (origin, chain)));
        Ok(())
    }

    /// Checks the rules that span rollups, where the bundle has to do with any. What depends on no place has nothing to do with
    /// them: where they were kept before it they are kept after it.
    fn check_slot(&self) -> Result<(), Stop> {
        let alone = !self.crosses && self.run.legs.iter().all(|leg| leg.messages.is_empty());
        if alone || self.is_placeless() {
            return Ok(());
        }
        let logs = LaneLogs(&*self.lanes);
        let slot = Slot { facts: &self.view.facts, logs: &logs };
        self.view.policy.protocols.check_slot(&slot).map_err(Stop::Bundle)
    }

    fn start_leg(&mut self, chain: ChainId, relay: bool, txs: usize) -> Result<LegRun, Stop> {
        let lane = self.lane(chain)?;
        let (block, number) = (lane.index(), lane.block().context().number);
        Ok(LegRun { chain, block, number, relay, txs: Vec::with_capacity(txs), messages: Vec::new() })
    }

    fn end_leg(&mut self, mut leg: LegRun) {
        let first = leg.txs.iter().find_map(|tx| tx.position);
        if let (Some(first), Some(lane)) = (first, self.lanes.get(&leg.chain)) {
            leg.messages = self.view.policy.protocols.recognise(leg.chain, emitted(lane.block(), first));
        }
        self.run.legs.push(leg);
    }

    /// Value, gas and balance changes of a bundle that ran.
    fn measure(&mut self) -> Result<(), Stop> {
        let checkpoints = std::mem::take(&mut self.checkpoints);
        let measured = self.measure_since(&checkpoints);
        self.checkpoints = checkpoints;
        measured
    }

    fn measure_since(&mut self, checkpoints: &ByRollup<Checkpoint>) -> Result<(), Stop> {
        let mut total = I256::ZERO;
        for (chain, checkpoint) in checkpoints.iter().map(|(chain, checkpoint)| (*chain, *checkpoint)) {
            let engine = |error| Stop::Engine(BuildError::simulation(chain, error));
            let mut fees = TxFees::default();
            let mut gas = 0_u64;
            for outcome in outcomes(&self.run.legs, chain) {
                fees.priority = fees.priority.saturating_add(outcome.fees.priority);
                fees.base = fees.base.saturating_add(outcome.fees.base);
                gas = gas.saturating_add(outcome.gas_used);
            }
            let rollup = self.view.rollups.get(&chain).ok_or(BuildError::UnknownRollup(chain))?;
            let proposer = self.view.proposer;
            let block = self.lane(chain)?.block();
            let native = block.balance_changes(checkpoint).map_err(engine)?;
            let own = native.binary_search_by_key(&proposer, |(account, _)| *account).ok();
            let own = own.and_then(|index| native.get(index)).map_or(I256::ZERO, |(_, change)| *change);
            let gain = value::gain(block, proposer, own, fees, rollup.fee_share_bps)?;
            total = total.checked_add(value::weigh(gain, rollup.price)?).ok_or(BuildError::Overflow)?;
            let tokens = token_changes(outcomes(&self.run.legs, chain).flat_map(|outcome| outcome.logs.iter()));
            let mut balances = Vec::with_capacity(native.len() + tokens.len());
            balances.extend(native.into_iter().map(|(account, change)| BalanceChange { account, asset: Asset::Native, change }));
            balances.extend(tokens);
            self.run.gains.insert(chain, gain);
            self.run.gas.insert(chain, gas);
            self.run.balances.insert(chain, balances);
        }
        self.run.value = total;
        Ok(())
    }
}

fn outcomes(legs: &[LegRun], chain: ChainId) -> impl Iterator<Item = &TxOutcome> {
    legs.iter().filter(move |leg| leg.chain == chain).flat_map(|leg| &leg.txs).filter_map(|tx| tx.outcome.as_deref())
}

/// Whether a reading call succeeds and answers with anything but zeros.
fn answers(block: &PendingBlock, read: &ReadCall) -> Result<bool, SimulationError> {
    let request = CallRequest::read(read.to, read.data.clone(), READ_GAS);
    let outcome = call(block.context(), block.state(), &request)?;
    Ok(outcome.is_ok_and(|outcome| outcome.succeeded() && outcome.output.iter().any(|byte| *byte != 0)))
}

fn read_balance(block: &mut PendingBlock, chain: ChainId, account: Address, asset: Asset) -> Result<U256, Stop> {
    watched_balance_of(block, account, asset)
        .map_err(|error| Stop::Engine(BuildError::simulation(chain, error)))?
        .map_err(|reason| bad(Place::rollup(chain), reason))
}

/// What became of one transaction.
struct Tried {
    run: TxRun,
    /// What blocks the bundle.
    reason: Option<Reason>,
    /// Whether it was dropped because there was no room for it.
    roomless: bool,
}

/// Executes one transaction in its revert mode.
fn execute(block: &mut PendingBlock, tx: &BlockTx, mode: RevertMode, stand_ins: &StandIns) -> Result<Tried, SimulationError> {
    let checkpoint = block.checkpoint();
    let position = block.executed().len();
    let must_succeed = mode == RevertMode::Fail;
    let absent = TxRun { hash: tx.hash(), outcome: None, position: None, must_succeed };
    let outcome = match block.execute_with(tx, stand_ins)? {
        Ok(executed) => Arc::clone(&executed.outcome),
        Err(reason) if mode == RevertMode::Drop => {
            return Ok(Tried { run: absent, reason: None, roomless: reason.is_room() });
        }
        Err(reason) => return Ok(Tried { run: absent, reason: Some(reason), roomless: false }),
    };
    let failed = match &outcome.status {
        TxStatus::Succeeded => None,
        TxStatus::Reverted => Some(Reason::Reverted { message: revert_message(&outcome.output), data: outcome.output.clone() }),
        TxStatus::Halted(cause) => Some(Reason::Halted(cause.clone())),
    };
    let (run, reason) = match (failed, mode) {
        (Some(_), RevertMode::Drop) => {
            block.rollback(checkpoint);
            (absent, None)
        }
        (Some(reason), RevertMode::Fail) => (TxRun { outcome: Some(outcome), position: None, ..absent }, Some(reason)),
        _ => (TxRun { outcome: Some(outcome), position: Some(position), ..absent }, None),
    };
    Ok(Tried { run, reason, roomless: false })
}

/// The text of `Error(string)` or the meaning of `Panic(uint256)`.
pub fn revert_message(data: &[u8]) -> Option<String> {
    alloy_sol_types::decode_revert_reason(data).map(|text| text.trim_start_matches("revert: ").to_owned())
}

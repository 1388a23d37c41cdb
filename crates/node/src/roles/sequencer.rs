//! A rollup's sequencer: it executes what is prepared, votes, and publishes what was decided.

use std::{collections::BTreeMap, sync::Arc};

use alloy_primitives::{Address, U64};
use async_trait::async_trait;
use jsonrpsee::{core::RpcResult, http_client::HttpClient, types::ErrorObjectOwned};
use lockstep_building::{Promise, RequirementRun, SealError, measure};
use lockstep_delivery::{
    Decision, DecisionKey, Prepare, PreparedList, SequencerEffect, SequencerEvent, SequencerPhase, SequencerSlot, SequencerTerms,
    Vote, VoteRefusal, Which, proposer_of_attempt,
};
use lockstep_primitives::{Allocation, BlockList, ChainId, ListBlock, Registration, Requirement, SlotNumber, recover};
use lockstep_provider::{NodeError, RollupNode};
use lockstep_rpc::{
    api::{DecisionApiClient, MarketApiClient, SequencerApiServer},
    invalid_params, not_found, unavailable,
    wire::{BlockPlanWire, DecisionWire, PrepareWire, RegistrationWire, SignedPrepare, SlotOffer, VoteWire},
};
use lockstep_simulation::{ForkSchedule, LaneError, SimulationError, SlotRollup, StateError, execute_list};
use lockstep_store::{Op, Store, Table};
use tokio::sync::Mutex;

use super::Timings;
use crate::{
    clock::{now_ms, sleep_until},
    keys::Key,
};

/// How often a sequencer looks at the record while it waits for it.
const TICK_MS: u64 = 25;
/// Slots whose votes stay on disk.
const MAX_KEPT: u64 = 10_000;
/// Slots that are kept in memory after they are published.
const MAX_SLOTS: usize = 64;

/// Makes the list of a sequencer that nobody prepared anything for.
#[async_trait]
pub(crate) trait DefaultList: Send + Sync + std::fmt::Debug {
    /// The default list for a slot.
    async fn default_list(&self, rollup: &Arc<SlotRollup>, sequencer: Address) -> BlockList;
}

/// What a sequencer is configured with.
#[derive(Clone, Debug)]
pub(crate) struct SequencerSettings {
    /// The rollup's key.
    pub(crate) key: Key,
    /// Its terms of sale.
    pub(crate) registration: Registration,
    /// When which rules hold.
    pub(crate) forks: ForkSchedule,
    /// The slots.
    pub(crate) timings: Timings,
}

/// A vote on disk, with what it was given on.
#[derive(serde::Serialize, serde::Deserialize)]
struct VoteRecord {
    vote: VoteWire,
    prepare: PrepareWire,
}

#[derive(Debug)]
struct Running {
    machine: SequencerSlot,
    /// The rollup as the prepare in hand found it.
    rollup: Option<Arc<SlotRollup>>,
    /// How many blocks of the decided list are out.
    out: usize,
}

/// The sequencer of one rollup.
#[derive(Debug)]
pub(crate) struct SequencerRole {
    settings: SequencerSettings,
    node: Arc<dyn RollupNode>,
    market: HttpClient,
    market_address: Address,
    store: Store,
    default_list: Option<Arc<dyn DefaultList>>,
    slots: parking_lot::Mutex<BTreeMap<SlotNumber, Arc<Mutex<Running>>>>,
}

impl SequencerRole {
    pub(crate) fn new(
        settings: SequencerSettings,
        node: Arc<dyn RollupNode>,
        market: HttpClient,
        market_address: Address,
        store: Store,
        default_list: Option<Arc<dyn DefaultList>>,
    ) -> Self {
        Self { settings, node, market, market_address, store, default_list, slots: parking_lot::Mutex::default() }
    }

    pub(crate) const fn chain(&self) -> ChainId {
        self.settings.registration.chain
    }

    /// The registration with its signature.
    pub(crate) fn registration(&self) -> RegistrationWire {
        let registration = &self.settings.registration;
        RegistrationWire::new(registration, self.settings.key.sign_bytes(registration.digest()))
    }

    /// Takes up the votes that were given before a restart and whose slots are not over: a yes binds.
    fn restore(&self, now: u64) {
        let stored = match self.store.scan(Table::Votes) {
            Ok(stored) => stored,
            Err(error) => {
                tracing::error!(chain = self.chain(), %error, "votes from before cannot be read");
                return;
            }
        };
        for (_, value) in stored {
            let Ok(record) = serde_json::from_slice::<VoteRecord>(&value) else { continue };
            let (vote, prepare) = (record.vote.vote(), Prepare::from(record.prepare));
            if prepare.chain != self.chain() || self.settings.timings.clock.end_ms(prepare.slot) < now {
                continue;
            }
            let terms = SequencerTerms {
                chain: prepare.chain,
                slot: prepare.slot,
                holds: prepare.holds,
                t_publish_ms: prepare.t_publish_ms,
            };
            let slot = prepare.slot;
            match SequencerSlot::restore(terms, prepare, vote, None) {
                Ok(machine) => {
                    tracing::info!(chain = self.chain(), slot, "a vote from before the restart is taken up");
                    let running = Running { machine, rollup: None, out: 0 };
                    self.slots.lock().insert(slot, Arc::new(Mutex::new(running)));
                }
                Err(error) => tracing::error!(%error, "a stored vote cannot be taken up"),
            }
        }
    }

    /// Publishes in every slot, for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        let clock = self.settings.timings.clock;
        self.restore(now_ms());
        let unfinished: Vec<(SlotNumber, Arc<Mutex<Running>>)> =
            self.slots.lock().iter().map(|(slot, running)| (*slot, Arc::clone(running))).collect();
        for (slot, running) in unfinished {
            // Where the head has moved on, the list is on the chain already, or can no longer be.
            let parent = running.lock().await.machine.prepare().map(|prepare| prepare.parent_hash);
            if self.node.head().await.is_ok_and(|head| Some(head.hash) == parent) {
                self.publish_slot(&running, slot).await;
            } else {
                self.slots.lock().remove(&slot);
            }
        }
        let mut slot = clock.slot_at(now_ms()).map_or(0, |slot| slot + 1);
        loop {
            // The slot's machine has to be there before the first prepare comes.
            sleep_until(self.settings.timings.build_ms(slot)).await;
            if let Some(first) = self.timestamps(slot).await.first() {
                let running = self.running(slot, *first);
                sleep_until(first * 1000).await;
                self.publish_slot(&running, slot).await;
            } else {
                sleep_until(clock.start_ms(slot)).await;
            }
            slot += 1;
        }
    }

    async fn publish_slot(&self, running: &Arc<Mutex<Running>>, slot: SlotNumber) {
        let mut told = false;
        loop {
            let mut held = running.lock().await;
            self.drive(&mut held, SequencerEvent::Tick).await;
            if matches!(held.machine.phase(), SequencerPhase::Published(_)) {
                return;
            }
            drop(held);
            if !told && now_ms() > self.settings.timings.clock.end_ms(slot) {
                told = true;
                tracing::warn!(chain = self.chain(), slot, "the slot is over and its block is still held back");
            }
            sleep_until(now_ms() + TICK_MS).await;
        }
    }

    async fn timestamps(&self, slot: SlotNumber) -> Vec<u64> {
        match self.node.head().await {
            Ok(head) => self.settings.timings.clock.block_timestamps(slot, self.settings.registration.block_time, head.timestamp),
            Err(error) => {
                tracing::warn!(chain = self.chain(), slot, %error, "no head");
                Vec::new()
            }
        }
    }

    fn running(&self, slot: SlotNumber, first_timestamp: u64) -> Arc<Mutex<Running>> {
        let mut slots = self.slots.lock();
        let terms = SequencerTerms {
            chain: self.chain(),
            slot,
            holds: self.settings.registration.holds,
            t_publish_ms: first_timestamp * 1000,
        };
        let running = Arc::clone(
            slots
                .entry(slot)
                .or_insert_with(|| Arc::new(Mutex::new(Running { machine: SequencerSlot::new(terms), rollup: None, out: 0 }))),
        );
        while slots.len() > MAX_SLOTS {
            slots.pop_first();
        }
        running
    }

    /// Whether a block of an earlier slot is still to come.
    fn is_behind(&self, slot: SlotNumber) -> bool {
        let slots = self.slots.lock();
        slots.range(..slot).any(|(_, running)| {
            // A machine that is locked is at work, so it is not done.
            running.try_lock().map_or(true, |running| !matches!(running.machine.phase(), SequencerPhase::Published(_)))
        })
    }

    /// The rollup as the slot finds it, for a proposer.
    async fn slot_rollup(&self, slot: SlotNumber, proposer: Address) -> Result<Arc<SlotRollup>, NodeError> {
        let parent = self.node.head().await?;
        let clock = self.settings.timings.clock;
        let timestamps = clock.block_timestamps(slot, self.settings.registration.block_time, parent.timestamp);
        let blocks = self.node.plan(&parent, &timestamps, proposer).await?;
        let state = self.node.state_at(parent.hash).await?;
        Ok(Arc::new(SlotRollup { chain: self.chain(), forks: self.settings.forks.clone(), parent, state, blocks }))
    }

    /// Applies an event and carries out what follows from it. Returns the votes to send.
    async fn drive(&self, running: &mut Running, event: SequencerEvent) -> Vec<Vote> {
        let mut votes = Vec::new();
        let mut events = std::collections::VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in running.machine.apply(event, now_ms()) {
                match effect {
                    SequencerEffect::Execute(prepare) => {
                        let digest = prepare.digest();
                        let result = self.execute(running, &prepare).await;
                        events.push_back(SequencerEvent::Executed { digest, result });
                    }
                    SequencerEffect::StoreVote(vote) => {
                        if self.store_vote(&vote, running.machine.prepare()).await {
                            events.push_back(SequencerEvent::VoteStored { digest: vote.digest });
                        }
                    }
                    SequencerEffect::SendVote(vote) => votes.push(vote),
                    SequencerEffect::ReadDecision(key) => events.push_back(self.read_decision(key).await),
                    SequencerEffect::RecordAbort(key) => events.push_back(self.record_abort(key).await),
                    SequencerEffect::Publish(which) => {
                        if self.publish(running, which).await {
                            events.push_back(SequencerEvent::PublishDone { which });
                        }
                    }
                    SequencerEffect::Hold { since_ms } => {
                        tracing::warn!(chain = self.chain(), since_ms, "the block is held back until the decision can be read");
                    }
                    SequencerEffect::Report(report) => {
                        metrics::counter!("lockstep_delivery_reports_total", "code" => report.code()).increment(1);
                        tracing::warn!(chain = self.chain(), code = report.code(), "{report}");
                    }
                }
            }
        }
        votes
    }

    /// Executes both lists of a prepare on the rollup's own state.
    async fn execute(&self, running: &mut Running, prepare: &Prepare) -> Result<(), VoteRefusal> {
        let refuse = |code: &str, text: String| VoteRefusal { code: code.to_owned(), block: None, position: None, text };
        let proposer = prepare.beneficiary.unwrap_or_default();
        let rollup =
            self.slot_rollup(prepare.slot, proposer).await.map_err(|error| refuse("node_unavailable", error.to_string()))?;
        if rollup.parent.hash != prepare.parent_hash {
            return Err(refuse("other_parent", format!("the head is {}", rollup.parent.hash)));
        }
        if rollup.forced_prefix() != prepare.forced_prefix {
            return Err(refuse("other_forced_prefix", "the forced transactions are others".to_owned()));
        }
        running.rollup = Some(Arc::clone(&rollup));
        for prepared in [&prepare.with_cross, &prepare.without_cross] {
            // A missing value is fetched and the list is run again, on a thread that may take its time.
            loop {
                let (rollup, prepared) = (Arc::clone(&rollup), prepared.clone());
                let checked = tokio::task::spawn_blocking(move || check(&rollup, &prepared))
                    .await
                    .map_err(|error| refuse("execution_failed", error.to_string()))?;
                match checked {
                    Ok(()) => break,
                    Err(Unfit::Refused(refusal)) => return Err(refusal),
                    Err(Unfit::Missing) => {
                        let fetched = self.node.fetch_missing(prepare.parent_hash).await;
                        fetched.map_err(|error| refuse("node_unavailable", error.to_string()))?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn store_vote(&self, vote: &Vote, prepare: Option<&Prepare>) -> bool {
        let Some(prepare) = prepare else { return false };
        let key = [self.chain().to_be_bytes(), vote.slot.to_be_bytes()].concat();
        let record = VoteRecord {
            vote: VoteWire::new(vote, self.settings.key.sign_bytes(vote.digest())),
            prepare: PrepareWire::from(prepare),
        };
        let Ok(value) = serde_json::to_vec(&record) else { return false };
        let mut batch = vec![Op::put(Table::Votes, key, value)];
        if let Some(old) = vote.slot.checked_sub(MAX_KEPT) {
            batch.push(Op::delete(Table::Votes, [self.chain().to_be_bytes(), old.to_be_bytes()].concat()));
        }
        match self.store.write(batch).await {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(chain = self.chain(), %error, "the vote is not on disk, so it is not sent");
                false
            }
        }
    }

    async fn read_decision(&self, key: DecisionKey) -> SequencerEvent {
        match self.market.get_decision(key.slot, key.attempt).await {
            Ok(decision) => self.decision_event(decision).await,
            Err(error) => {
                tracing::warn!(chain = self.chain(), %error, "the decision cannot be read");
                SequencerEvent::DecisionUnreadable
            }
        }
    }

    async fn record_abort(&self, key: DecisionKey) -> SequencerEvent {
        let abort = DecisionWire::new(&Decision::timed_out(key), Default::default());
        match self.market.record(abort).await {
            Ok(decision) => self.decision_event(decision).await,
            Err(_) => SequencerEvent::DecisionUnreadable,
        }
    }

    /// A record counts only with its proposer's signature; an abort by anyone needs none.
    async fn decision_event(&self, wire: Option<DecisionWire>) -> SequencerEvent {
        let Some(wire) = wire else { return SequencerEvent::DecisionRead(None) };
        let decision = wire.decision();
        if wire.commit {
            let signer = recover(decision.digest(), &wire.signature).ok();
            let allocation = self.allocation(decision.slot).await.ok();
            let proposer = allocation.and_then(|allocation| proposer_of_attempt(&allocation, decision.attempt));
            if signer.is_none() || signer != proposer {
                return SequencerEvent::DecisionUnreadable;
            }
        }
        SequencerEvent::DecisionRead(Some(decision))
    }

    async fn allocation(&self, slot: SlotNumber) -> Result<Allocation, ErrorObjectOwned> {
        let wire = self
            .market
            .get_allocation(slot)
            .await
            .map_err(|error| unavailable("market_unavailable", error.to_string()))?
            .ok_or_else(|| not_found(format!("slot {slot} is not allocated yet")))?;
        let allocation = wire.allocation();
        if recover(allocation.digest(), &wire.signature).ok() != Some(self.market_address) {
            return Err(invalid_params(
                "wrong_market",
                "the allocation is not signed by the market",
                "check the market's address",
            ));
        }
        Ok(allocation)
    }

    /// Publishes what was decided. When that has become impossible, the rollup's own list keeps the chain alive; for a list
    /// with cross-rollup bundles this is a breach, and is reported as one.
    async fn publish(&self, running: &mut Running, which: Which) -> bool {
        let error = match self.try_publish(running, which).await {
            Ok(()) => return true,
            Err(error) => error,
        };
        tracing::error!(chain = self.chain(), ?which, %error, "the list could not be published");
        let impossible = matches!(error, NodeError::OtherParent { .. } | NodeError::List { .. });
        if which == Which::Own || running.out > 0 || !impossible {
            return false;
        }
        metrics::counter!("lockstep_delivery_reports_total", "code" => "decided-list-impossible").increment(1);
        self.try_publish(running, Which::Own).await.is_ok()
    }

    async fn try_publish(&self, running: &mut Running, which: Which) -> Result<(), NodeError> {
        let prepare = running.machine.prepare();
        let (rollup, list) = match (which, prepare) {
            (Which::WithCross, Some(prepare)) => (self.prepared_rollup(running, prepare).await?, prepare.with_cross.list.clone()),
            (Which::WithoutCross, Some(prepare)) => {
                (self.prepared_rollup(running, prepare).await?, prepare.without_cross.list.clone())
            }
            _ => self.own_list(running.machine.terms().slot).await?,
        };
        // The own list is made anew from the head, so what is out already is not in it.
        let done = if which == Which::Own { 0 } else { running.out };
        for (index, plan) in rollup.blocks.iter().enumerate().skip(done) {
            sleep_until(plan.next.timestamp * 1000).await;
            let block = self.node.publish(&rollup, &list, index).await?;
            running.out = index + 1;
            metrics::counter!("lockstep_blocks_total", "chain" => self.chain().to_string(), "list" => which_name(which))
                .increment(1);
            tracing::debug!(chain = self.chain(), number = block.number, hash = %block.hash, ?which, "published");
        }
        Ok(())
    }

    async fn prepared_rollup(&self, running: &Running, prepare: &Prepare) -> Result<Arc<SlotRollup>, NodeError> {
        match &running.rollup {
            Some(rollup) => Ok(Arc::clone(rollup)),
            None => self.slot_rollup(prepare.slot, prepare.beneficiary.unwrap_or_default()).await,
        }
    }

    async fn own_list(&self, slot: SlotNumber) -> Result<(Arc<SlotRollup>, BlockList), NodeError> {
        let own = self.settings.key.address();
        let rollup = self.slot_rollup(slot, own).await?;
        let list = match &self.default_list {
            Some(source) => source.default_list(&rollup, own).await,
            None => empty_list(&rollup),
        };
        Ok((rollup, list))
    }
}

/// A list with nothing after the forced prefix.
pub(crate) fn empty_list(rollup: &SlotRollup) -> BlockList {
    let blocks = (rollup.parent.number + 1..)
        .zip(&rollup.blocks)
        .map(|(number, plan)| ListBlock { number, timestamp: plan.next.timestamp, transactions: Vec::new() })
        .collect();
    BlockList { chain: rollup.chain, blocks }
}

const fn which_name(which: Which) -> &'static str {
    match which {
        Which::WithCross => "with_cross",
        Which::WithoutCross => "without_cross",
        Which::Own => "own",
    }
}

/// Why a list was not found to keep its promise.
enum Unfit {
    /// It does not.
    Refused(VoteRefusal),
    /// A value of the state has to be fetched first.
    Missing,
}

/// Executes a list and compares it with what it promises. Any difference means no.
fn check(rollup: &Arc<SlotRollup>, prepared: &PreparedList) -> Result<(), Unfit> {
    let refuse = |code: &str, block: Option<u32>, position: Option<u32>, text: String| {
        Unfit::Refused(VoteRefusal { code: code.to_owned(), block, position, text })
    };
    let blocks = execute_list(rollup, &prepared.list).map_err(|error| match error {
        LaneError::Simulation(SimulationError::State(StateError::Missing(_))) => Unfit::Missing,
        error => refuse("list_does_not_execute", None, None, error.to_string()),
    })?;
    for (index, (block, expected)) in (0_u32..).zip(blocks.iter().zip(&prepared.expected)) {
        for position in &expected.must_succeed {
            let succeeded = block.listed().get(*position as usize).is_some_and(|tx| tx.outcome.succeeded());
            if !succeeded {
                let text = "a transaction that must succeed does not".to_owned();
                return Err(refuse("must_succeed", Some(index), Some(*position), text));
            }
        }
        if block.summary.gas_used != expected.gas_used {
            let text = format!("executed {}, promised {}", block.summary.gas_used, expected.gas_used);
            return Err(refuse("gas_used_differs", Some(index), None, text));
        }
        if block.summary.receipts_root != expected.receipts_root {
            let text = format!("executed {}, promised {}", block.summary.receipts_root, expected.receipts_root);
            return Err(refuse("receipts_root_differs", Some(index), None, text));
        }
    }
    for promised in &prepared.requirements {
        let requirement = Requirement {
            chain: rollup.chain,
            account: promised.account,
            asset: promised.asset,
            min_increase: Default::default(),
        };
        let requirement = RequirementRun { requirement, increase: promised.increase };
        let promise = Promise { requirement, first: promised.first, last: promised.last };
        let (block, position) = (Some(promised.first.0), Some(promised.first.1));
        let increase = measure(rollup, &prepared.list, &promise).map_err(|error| match error {
            SealError::Engine(error) if error.missing().is_some() => Unfit::Missing,
            error => refuse("requirement_unreadable", block, position, error.to_string()),
        })?;
        if increase != promised.increase {
            let text = format!("the balance rises by {increase}, promised {}", promised.increase);
            return Err(refuse("requirement_differs", block, position, text));
        }
    }
    Ok(())
}

/// The sequencers of a process, by rollup.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sequencers(pub(crate) BTreeMap<ChainId, Arc<SequencerRole>>);

impl Sequencers {
    fn of(&self, chain: U64) -> Result<&Arc<SequencerRole>, ErrorObjectOwned> {
        self.0.get(&chain.to()).ok_or_else(|| not_found(format!("this process is not the sequencer of rollup {chain}")))
    }
}

#[async_trait]
impl SequencerApiServer for Sequencers {
    async fn get_slot_offer(&self, chain_id: U64, slot: u64, proposer: Address) -> RpcResult<SlotOffer> {
        let role = self.of(chain_id)?;
        let clock = role.settings.timings.clock;
        if slot > clock.slot_at(now_ms()).map_or(0, |now| now + 1) {
            return Err(not_found(format!("the state before slot {slot} is not there yet")));
        }
        if role.is_behind(slot) {
            return Err(unavailable(
                "not_ready",
                format!("rollup {} has still to publish a block before slot {slot}", role.chain()),
            ));
        }
        let rollup =
            role.slot_rollup(slot, proposer).await.map_err(|error| unavailable("node_unavailable", error.to_string()))?;
        let first = rollup.blocks.first().map_or(clock.start_ms(slot), |plan| plan.next.timestamp * 1000);
        Ok(SlotOffer {
            chain_id,
            slot,
            parent_hash: rollup.parent.hash,
            blocks: rollup
                .blocks
                .iter()
                .map(|plan| BlockPlanWire {
                    timestamp: plan.next.timestamp,
                    gas_limit: plan.next.gas_limit,
                    beneficiary: plan.next.beneficiary,
                    prev_randao: plan.next.prev_randao,
                    parent_beacon_block_root: plan.next.parent_beacon_block_root,
                    extra_data: plan.next.extra_data.clone(),
                    forced: plan.forced.iter().map(|tx| tx.raw().clone()).collect(),
                })
                .collect(),
            publish_ms: first,
        })
    }

    async fn prepare(&self, signed: SignedPrepare) -> RpcResult<VoteWire> {
        let prepare = Prepare::from(signed.prepare);
        let role = self.of(U64::from(prepare.chain))?;
        let allocation = role.allocation(prepare.slot).await?;
        let proposer = allocation.proposer_of(prepare.chain);
        let signer = recover(prepare.digest(), &signed.signature).ok();
        if signer.is_none() || signer != proposer || proposer_of_attempt(&allocation, prepare.attempt) != proposer {
            return Err(invalid_params(
                "wrong_proposer",
                "the prepare is not signed by the proposer of this slot and attempt",
                "market_getAllocation tells who proposes",
            ));
        }
        let first = role.timestamps(prepare.slot).await.first().copied();
        let Some(first) = first else {
            return Err(not_found(format!("slot {} has no block of rollup {}", prepare.slot, prepare.chain)));
        };
        let running = role.running(prepare.slot, first);
        let mut held = running.lock().await;
        let votes = role.drive(&mut held, SequencerEvent::PrepareReceived(Box::new(prepare))).await;
        drop(held);
        let vote = votes.first().ok_or_else(|| unavailable("no_vote", "the sequencer gives no vote on this prepare"))?;
        metrics::counter!("lockstep_votes_total", "vote" => if vote.yes { "yes" } else { "no" }).increment(1);
        Ok(VoteWire::new(vote, role.settings.key.sign_bytes(vote.digest())))
    }

    async fn decided(&self, chain_id: U64, slot: u64, attempt: u32) -> RpcResult<bool> {
        let role = self.of(chain_id)?;
        let known = role.slots.lock().get(&slot).cloned();
        let Some(running) = known else { return Ok(false) };
        let event = role.read_decision(DecisionKey { slot, attempt }).await;
        // The record is read now so that nothing has to be read at t_publish; publishing waits for its time.
        let mut held = running.lock().await;
        if now_ms() < held.machine.terms().t_publish_ms && matches!(event, SequencerEvent::DecisionRead(Some(_))) {
            drop(held);
            return Ok(true);
        }
        role.drive(&mut held, event).await;
        Ok(true)
    }
}

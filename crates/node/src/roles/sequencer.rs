//! A rollup's sequencer: it executes what is prepared, votes, and publishes what was decided.

mod check;
mod data;
mod encrypted;
mod inbox;
mod mempool;
mod own;
mod report;
mod rpc;
mod rules;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use alloy_primitives::{Address, U64};
use jsonrpsee::{core::ClientError, http_client::HttpClient, types::ErrorObjectOwned};
use lockstep_delivery::{
    Decision, DecisionKey, Prepare, SequencerEffect, SequencerEvent, SequencerPhase, SequencerSlot, SequencerTerms, Vote,
    VoteRefusal, Which, proposer_of_attempt,
};
use lockstep_primitives::{Allocation, ChainId, Price, Registration, SignedTx, SlotNumber, recover};
use lockstep_provider::{NodeError, RollupNode};
use lockstep_rpc::{
    RpcError,
    api::{DecisionApiClient, MarketApiClient},
    invalid_params, not_found, unavailable,
    wire::{DecisionWire, PrepareWire, RegistrationWire, VoteWire},
};
use lockstep_simulation::{DataLimits, ForkSchedule, SlotRollup};
use lockstep_store::{Op, Store, StoreError, Table};
use tokio::sync::Mutex;

pub(crate) use encrypted::EncryptedSettings;
pub(crate) use mempool::{Mempool, PublicTx};
pub(crate) use rpc::Sequencers;

use self::{
    check::{Unfit, check},
    data::DataThrottle,
    encrypted::Encrypted,
    report::Published,
    rules::ListRules,
};
use super::Timings;
use crate::{
    clock::{now_ms, sleep_until},
    keys::Key,
};

/// How often a sequencer looks at the record while it waits for it.
const TICK_MS: u64 = 25;
/// By how much the clock of the record's keeper may be behind before a record that takes no abort counts as unreadable.
const MAX_SKEW_MS: u64 = 500;
/// How often the node is asked for its head after a restart with a vote in hand.
const RESTORE_MS: u64 = 500;
/// Slots whose votes stay on disk.
const MAX_KEPT: u64 = 10_000;
/// Slots that are kept in memory after they are published.
const MAX_SLOTS: usize = 64;

/// What a sequencer is configured with.
#[derive(Clone, Debug)]
pub(crate) struct SequencerSettings {
    /// The rollup's key.
    pub(crate) key: Key,
    /// Its terms of sale.
    pub(crate) registration: Registration,
    /// When which rules hold.
    pub(crate) forks: ForkSchedule,
    /// The price of its native asset.
    pub(crate) price: Price,
    /// The slots.
    pub(crate) timings: Timings,
    /// How many of its public transactions an inclusion list has at the most, oldest first.
    pub(crate) inclusion: usize,
    /// How much data it takes until its batcher says otherwise.
    pub(crate) data: DataLimits,
    /// Whether its batcher may say so.
    pub(crate) batcher_api: bool,
    /// How encrypted transactions are opened, where it takes any.
    pub(crate) encrypted: Option<EncryptedSettings>,
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
    /// What the record was found to say before it was time to publish.
    decision: Option<Decision>,
    /// How many blocks of the decided list are out.
    out: usize,
    /// What was published so far.
    published: Published,
}

/// The sequencer of one rollup.
#[derive(Debug)]
pub(crate) struct SequencerRole {
    settings: SequencerSettings,
    node: Arc<dyn RollupNode>,
    market: HttpClient,
    market_address: Address,
    store: Store,
    /// Where it sees public transactions, if it sees any.
    mempool: Option<Arc<dyn Mempool>>,
    slots: parking_lot::Mutex<BTreeMap<SlotNumber, Arc<Mutex<Running>>>>,
    /// What the lists of a slot are judged by, once its building has begun.
    fixed: parking_lot::Mutex<BTreeMap<SlotNumber, Arc<ListRules>>>,
    /// Inclusion lists that the operator has set.
    inclusion_lists: parking_lot::Mutex<BTreeMap<SlotNumber, Vec<Arc<SignedTx>>>>,
    /// How much data it takes.
    data: parking_lot::Mutex<DataThrottle>,
    /// Encrypted transactions, where it takes any.
    encrypted: Option<Encrypted>,
}

impl SequencerRole {
    /// With what it has on disk.
    ///
    /// # Errors
    /// When that cannot be read.
    pub(crate) fn open(
        settings: SequencerSettings,
        node: Arc<dyn RollupNode>,
        market: HttpClient,
        market_address: Address,
        store: Store,
        mempool: Option<Arc<dyn Mempool>>,
    ) -> Result<Self, StoreError> {
        let data = parking_lot::Mutex::new(DataThrottle::new(settings.data));
        let chain = settings.registration.chain;
        let current = settings.timings.clock.slot_at(now_ms()).unwrap_or_default();
        let encrypted =
            settings.encrypted.clone().map(|settings| Encrypted::open(settings, chain, &store, current)).transpose()?;
        Ok(Self {
            settings,
            node,
            market,
            market_address,
            store,
            mempool,
            slots: parking_lot::Mutex::default(),
            fixed: parking_lot::Mutex::default(),
            inclusion_lists: parking_lot::Mutex::default(),
            data,
            encrypted,
        })
    }

    pub(crate) const fn chain(&self) -> ChainId {
        self.settings.registration.chain
    }

    /// Registers its terms with the market, where they are not the newest ones that it knows. A change holds as soon as it may.
    ///
    /// # Errors
    /// In words, when the node does not say where its blocks are, or the market does not take them.
    pub(crate) async fn register(&self) -> Result<(), String> {
        let head = self.node.head().await.map_err(|error| error.to_string())?;
        let known = self.market.get_rollup(U64::from(self.chain())).await.map_err(|error| error.to_string())?;
        let terms = &self.settings.registration;
        // Where it is in the grid of its blocks, whichever block is the newest.
        let block_anchor = head.timestamp.checked_rem(terms.block_time).unwrap_or_default();
        let newest = known.as_ref().and_then(|known| known.terms.last()).and_then(|wire| wire.registration().ok());
        if let Some(newest) = newest {
            let (from_slot, nonce) = (newest.from_slot, newest.nonce);
            if newest == (Registration { block_anchor, from_slot, nonce, ..terms.clone() }) {
                return Ok(());
            }
        }
        let from_slot = known.map_or(0, |known| known.earliest_slot);
        // Terms that are stated later count.
        let registration = Registration { block_anchor, from_slot, nonce: now_ms(), ..terms.clone() };
        let signature = self.settings.key.sign_bytes(registration.digest());
        let registered = self.market.register_rollup(RegistrationWire::new(&registration, signature)).await;
        registered.map(|_| ()).map_err(|error| error.to_string())
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
                    let running = Running { machine, rollup: None, decision: None, out: 0, published: Published::default() };
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
            // Where the head has moved on, the list is on the chain already, or can no longer be. A node that is not up yet says
            // neither, and a yes binds.
            let parent = running.lock().await.machine.prepare().map(|prepare| prepare.parent_hash);
            let head = loop {
                match self.node.head().await {
                    Ok(head) => break head,
                    Err(error) => {
                        tracing::warn!(chain = self.chain(), slot, %error, "a vote from before the restart waits for the node");
                        sleep_until(now_ms() + RESTORE_MS).await;
                    }
                }
            };
            if Some(head.hash) == parent {
                self.publish_slot(&running, slot).await;
                self.settle_tail(&*running.lock().await).await;
                self.report(&running, slot).await;
            } else {
                self.slots.lock().remove(&slot);
            }
        }
        let mut slot = clock.slot_at(now_ms()).map_or(0, |slot| slot + 1);
        loop {
            // The slot's machine has to be there before the first prepare comes.
            sleep_until(self.settings.timings.build_ms(slot)).await;
            let running = match self.first_timestamp(slot).await {
                Some(first) => {
                    let running = self.running(slot, first);
                    let publish_ms = self.publish_ms(first);
                    self.note_own_value(&running, slot, publish_ms).await;
                    sleep_until(publish_ms.saturating_sub(self.opening_ms())).await;
                    Some(running)
                }
                None => {
                    sleep_until(clock.start_ms(slot)).await;
                    // The chain may have changed, and a vote been given: a yes binds.
                    self.slots.lock().get(&slot).cloned()
                }
            };
            match running {
                Some(running) => {
                    self.publish_slot(&running, slot).await;
                    self.settle_tail(&*running.lock().await).await;
                    self.report(&running, slot).await;
                }
                None => self.report_no_block(slot).await,
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

    /// The timestamps of the slot's blocks, in seconds.
    async fn timestamps(&self, slot: SlotNumber) -> Result<Vec<u64>, NodeError> {
        let head = self.node.head().await?;
        Ok(self.settings.timings.clock.block_timestamps(slot, self.settings.registration.block_time, head.timestamp))
    }

    /// The timestamp of the slot's first block, in seconds; `None` when it has none. A node that does not answer is asked until
    /// the slot is over: should it answer whoever asks for a vote meanwhile, somebody has to publish what is voted for.
    async fn first_timestamp(&self, slot: SlotNumber) -> Option<u64> {
        let mut told = false;
        loop {
            match self.timestamps(slot).await {
                Ok(timestamps) => return timestamps.first().copied(),
                Err(error) => {
                    if !told {
                        tracing::warn!(chain = self.chain(), slot, %error, "no head");
                    }
                    told = true;
                }
            }
            if now_ms() > self.settings.timings.clock.end_ms(slot) {
                return None;
            }
            sleep_until(now_ms() + TICK_MS).await;
        }
    }

    /// How long before a slot's last block is published its encrypted part is opened, so that the block need not wait: half of
    /// the time that is left after decisions are due.
    const fn opening_ms(&self) -> u64 {
        if self.encrypted.is_some() { self.settings.timings.decide_before_ms / 2 } else { 0 }
    }

    /// When a block with that timestamp, in seconds, is published: then, or earlier where its node decides on it earlier. The
    /// decision about a slot's first block is known just as long before.
    fn publish_ms(&self, timestamp: u64) -> u64 {
        let lead_ms = if self.node.hands_in_early() { self.settings.timings.decide_before_ms } else { 0 };
        (timestamp * 1000).saturating_sub(lead_ms)
    }

    fn running(&self, slot: SlotNumber, first_timestamp: u64) -> Arc<Mutex<Running>> {
        let mut slots = self.slots.lock();
        let terms = SequencerTerms {
            chain: self.chain(),
            slot,
            holds: self.settings.registration.holds,
            t_publish_ms: self.publish_ms(first_timestamp),
        };
        let running = Arc::clone(slots.entry(slot).or_insert_with(|| {
            Arc::new(Mutex::new(Running {
                machine: SequencerSlot::new(terms),
                rollup: None,
                decision: None,
                out: 0,
                published: Published::default(),
            }))
        }));
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
        self.slot_rollup_within(slot, proposer, self.data_limits(slot)).await
    }

    async fn slot_rollup_within(
        &self,
        slot: SlotNumber,
        proposer: Address,
        data: DataLimits,
    ) -> Result<Arc<SlotRollup>, NodeError> {
        let parent = self.node.head().await?;
        let clock = self.settings.timings.clock;
        let timestamps = clock.block_timestamps(slot, self.settings.registration.block_time, parent.timestamp);
        let mut blocks = self.node.plan(&parent, &timestamps, proposer).await?;
        for plan in &mut blocks {
            plan.next.data = data;
        }
        if let Some(last) = blocks.last_mut() {
            last.next.encrypted_gas = self.encrypted_gas();
        }
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
                    SequencerEffect::ReadDecision(key) => {
                        // The record is written once, so what was read of it stays true.
                        let known = running.decision.clone().filter(|decision| decision.key() == key);
                        events.push_back(match known {
                            Some(decision) => SequencerEvent::DecisionRead(Some(decision)),
                            None => self.read_decision(key).await,
                        });
                    }
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

    /// Executes both lists of a prepare, for as long as a vote on them can count: whoever executes holds the slot, and its block
    /// has to come in time whatever the lists are.
    async fn execute(&self, running: &mut Running, prepare: &Prepare) -> Result<(), VoteRefusal> {
        let left = Duration::from_millis(prepare.t_decide_ms.saturating_sub(now_ms()));
        tokio::time::timeout(left, self.execute_lists(running, prepare)).await.unwrap_or_else(|_| {
            let text = "the lists were not executed before t_decide".to_owned();
            Err(VoteRefusal { code: "execution_too_slow".to_owned(), block: None, position: None, text })
        })
    }

    /// Executes both lists of a prepare on the rollup's own state.
    async fn execute_lists(&self, running: &mut Running, prepare: &Prepare) -> Result<(), VoteRefusal> {
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
        let rules = self.rules(prepare.slot, &rollup).await.map_err(|error| refuse("node_unavailable", error))?;
        running.rollup = Some(Arc::clone(&rollup));
        for prepared in [&prepare.with_cross, &prepare.without_cross] {
            // A missing value is fetched and the list is run again, on a thread that may take its time.
            loop {
                let (rollup, prepared, rules) = (Arc::clone(&rollup), prepared.clone(), Arc::clone(&rules));
                let checked = tokio::task::spawn_blocking(move || check(&rollup, &prepared, &rules))
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
            // Its keeper answers: by its clock it is not t_decide yet, and a commit may still come.
            Err(ClientError::Call(error))
                if is_too_early(&error) && now_ms() < self.settings.timings.decide_ms(key.slot).saturating_add(MAX_SKEW_MS) =>
            {
                SequencerEvent::DecisionRead(None)
            }
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
        let Err(mut error) = self.try_publish(running, which, false).await else { return true };
        if matches!(error, NodeError::List { .. } | NodeError::OtherBlock { .. }) && running.published.drop_tail() {
            tracing::warn!(chain = self.chain(), %error, "the list is published without what was encrypted");
            match self.try_publish(running, which, false).await {
                Ok(()) => return true,
                Err(other) => error = other,
            }
        }
        tracing::error!(chain = self.chain(), ?which, %error, "the list could not be published");
        if which != Which::Own {
            // What a node made otherwise it may make right yet, but not for ever: the slots after this one wait.
            let over = now_ms() > self.settings.timings.clock.end_ms(running.machine.terms().slot);
            let impossible = match &error {
                NodeError::OtherParent { .. } | NodeError::List { .. } => true,
                NodeError::OtherBlock { .. } => over,
                _ => false,
            };
            if !impossible {
                return false;
            }
            metrics::counter!("lockstep_delivery_reports_total", "code" => "decided-list-impossible").increment(1);
            running.published.lapsed = true;
            error = match self.try_publish(running, Which::Own, false).await {
                Ok(()) => return true,
                Err(error) => error,
            };
            tracing::error!(chain = self.chain(), %error, "the default list could not be published");
        }
        // A transaction that the node does not take, however valid it is here, must not stop the chain.
        matches!(error, NodeError::List { .. } | NodeError::OtherBlock { .. })
            && self.try_publish(running, Which::Own, true).await.is_ok()
    }

    /// Publishes the blocks of a list that are not out yet; of the own list, when it is `bare`, with nothing but what is forced.
    async fn try_publish(&self, running: &mut Running, which: Which, bare: bool) -> Result<(), NodeError> {
        let prepare = running.machine.prepare();
        let (rollup, list) = match (which, prepare) {
            (Which::WithCross, Some(prepare)) => (self.prepared_rollup(running, prepare).await?, prepare.with_cross.list.clone()),
            (Which::WithoutCross, Some(prepare)) => {
                (self.prepared_rollup(running, prepare).await?, prepare.without_cross.list.clone())
            }
            _ => {
                let (rollup, list, value) = self.own_list(running.machine.terms().slot, bare).await?;
                running.published.earned = Some(value);
                (rollup, list)
            }
        };
        // The own list is made anew from the head, so what is out already is not in it.
        let done = if which == Which::Own { 0 } else { running.out };
        for (index, plan) in rollup.blocks.iter().enumerate().skip(done) {
            let publish_ms = self.publish_ms(plan.next.timestamp);
            let is_last = index + 1 == rollup.blocks.len();
            let (rollup, list) = if is_last && !bare {
                sleep_until(publish_ms.saturating_sub(self.opening_ms())).await;
                self.with_tail(running, &rollup, &list).await
            } else {
                (Arc::clone(&rollup), list.clone())
            };
            sleep_until(publish_ms).await;
            let block = self.node.publish(&rollup, &list, index).await?;
            running.out = index + 1;
            if let Some(tail) = running.published.tail.as_mut().filter(|tail| is_last && tail.list == list) {
                tail.block = Some(block.hash);
            }
            running.published.blocks.push(block.hash);
            metrics::counter!("lockstep_blocks_total", "chain" => self.chain().to_string(), "list" => which_name(which))
                .increment(1);
            tracing::debug!(chain = self.chain(), number = block.number, hash = %block.hash, ?which, "published");
        }
        Ok(())
    }

    async fn prepared_rollup(&self, running: &Running, prepare: &Prepare) -> Result<Arc<SlotRollup>, NodeError> {
        match &running.rollup {
            Some(rollup) => Ok(Arc::clone(rollup)),
            // After a restart: how much data was taken when the vote was given is not known any more, and the vote binds.
            None => {
                let proposer = prepare.beneficiary.unwrap_or_default();
                let rollup = self.slot_rollup_within(prepare.slot, proposer, DataLimits::default()).await?;
                let (head, parent) = (rollup.parent.hash, prepare.parent_hash);
                if head == parent { Ok(rollup) } else { Err(NodeError::OtherParent { chain: self.chain(), head, parent }) }
            }
        }
    }
}

/// Whether the record's keeper refuses an abort because before t_decide it takes none but the proposer's.
fn is_too_early(error: &ErrorObjectOwned) -> bool {
    let data = error.data().and_then(|data| serde_json::from_str::<RpcError>(data.get()).ok());
    data.is_some_and(|data| data.reason == "wrong_proposer")
}

const fn which_name(which: Which) -> &'static str {
    match which {
        Which::WithCross => "with_cross",
        Which::WithoutCross => "without_cross",
        Which::Own => "own",
    }
}

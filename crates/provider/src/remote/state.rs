//! The state after a block of a remote node, as its readers see it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt, mem,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    vec,
};

use alloy_primitives::{Address, B256, Bytes, U64, U256, keccak256};
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use lockstep_simulation::{Account, Code, StateError, StateKey, StateView};
use parking_lot::{Mutex, RwLock};
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};
use tokio::sync::watch;

use super::{
    RemoteLimits,
    answers::BlockAnswer,
    cache::{Lookup, StateCache, Value},
    errors::{RpcFailure, state_failure},
    wire::{Call, Rpc, quantity},
};
use crate::NodeError;

/// The states that were asked for, the least recently asked for first.
#[derive(Debug)]
pub(super) struct PinnedStates {
    max: usize,
    states: VecDeque<Arc<PinnedState>>,
    /// Those that had to make room, as long as somebody still reads them: what their readers miss is noted in them and nowhere
    /// else. No more than there are readers, and one.
    still_read: Vec<Weak<PinnedState>>,
}

impl PinnedStates {
    pub(super) const fn new(max: usize) -> Self {
        Self { max, states: VecDeque::new(), still_read: Vec::new() }
    }

    pub(super) fn get(&mut self, block: B256) -> Option<Arc<PinnedState>> {
        let state = match self.states.iter().position(|state| state.block == block) {
            Some(position) => self.states.remove(position)?,
            None => {
                let is_it = |state: &Weak<PinnedState>| state.upgrade().is_some_and(|state| state.block == block);
                let position = self.still_read.iter().position(is_it)?;
                self.still_read.swap_remove(position).upgrade()?
            }
        };
        self.push(Arc::clone(&state));
        Some(state)
    }

    fn push(&mut self, state: Arc<PinnedState>) {
        while self.states.len() >= self.max.max(1) {
            let Some(oldest) = self.states.pop_front() else { break };
            self.still_read.retain(|state| state.strong_count() > 0);
            self.still_read.push(Arc::downgrade(&oldest));
        }
        self.states.push_back(state);
    }

    /// Keeps a state, or finds that another caller has pinned the same block meanwhile: then theirs is the one, or their
    /// readers' misses would be lost.
    pub(super) fn keep(&mut self, state: Arc<PinnedState>) -> Arc<PinnedState> {
        if let Some(known) = self.get(state.block) {
            return known;
        }
        self.push(Arc::clone(&state));
        state
    }
}

/// What readers ran into, and what is on its way.
#[derive(Debug, Default)]
struct Misses {
    /// What nobody has asked the node for yet.
    keys: BTreeSet<StateKey>,
    /// What the node was asked for and has not answered yet.
    flying: BTreeSet<StateKey>,
    /// The fetches that `flying` belongs to.
    flights: BTreeSet<u64>,
    next_flight: u64,
}

/// The state after one block: a view of the cache while the block is in its window, and values of its own otherwise. Either
/// way every value is that of this block, so none is ever stale.
pub(super) struct PinnedState {
    block: B256,
    number: u64,
    parent: B256,
    cache: Arc<StateCache>,
    /// What came while the block was not in the cache's window.
    own: RwLock<BTreeMap<StateKey, Value>>,
    max_values: usize,
    misses: Mutex<Misses>,
    /// Changes whenever a fetch ends.
    landed: watch::Sender<u64>,
    /// How many values came so far.
    came: AtomicUsize,
}

impl fmt::Debug for PinnedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedState")
            .field("block", &self.block)
            .field("number", &self.number)
            .field("own", &self.own.read().len())
            .field("missed", &self.misses.lock().keys.len())
            .finish_non_exhaustive()
    }
}

impl PinnedState {
    /// The state after block `number`, which has this hash and parent.
    pub(super) fn new(block: B256, number: u64, parent: B256, cache: Arc<StateCache>, limits: &RemoteLimits) -> Self {
        Self {
            block,
            number,
            parent,
            cache,
            own: RwLock::default(),
            max_values: limits.max_values.max(1),
            misses: Mutex::default(),
            landed: watch::Sender::new(0),
            came: AtomicUsize::new(0),
        }
    }

    /// Fetches what was missed. Returns how many values came since the call was made, those of another caller's fetch
    /// included.
    pub(super) async fn fetch_missed(&self, rpc: &Rpc, limits: &RemoteLimits) -> Result<usize, NodeError> {
        let keys = mem::take(&mut self.misses.lock().keys);
        self.fetch(rpc, limits, keys, true).await
    }

    /// Fetches these values before anybody misses them, as far as they are not here yet.
    pub(super) async fn fetch_ahead(
        &self,
        rpc: &Rpc,
        limits: &RemoteLimits,
        keys: BTreeSet<StateKey>,
    ) -> Result<usize, NodeError> {
        self.fetch(rpc, limits, keys, false).await
    }

    /// What is on its way already is waited for, not asked for again.
    async fn fetch(&self, rpc: &Rpc, limits: &RemoteLimits, keys: BTreeSet<StateKey>, missed: bool) -> Result<usize, NodeError> {
        let before = self.came.load(Ordering::Acquire);
        let (flight, others) = self.take_off(keys, missed);
        if let Some(flight) = flight {
            // Left halfway, by an error or because nobody waits any more, the flight gives its keys back.
            let fetched = self.ask(rpc, limits, &flight.keys).await?;
            flight.land(rpc, fetched);
        }
        self.wait_for(&others).await;
        Ok(self.came.load(Ordering::Acquire).saturating_sub(before))
    }

    /// Begins to fetch what of `keys` is neither here nor on its way. Returns the other fetches of the moment, too.
    fn take_off(&self, keys: BTreeSet<StateKey>, missed: bool) -> (Option<Flight<'_>>, Vec<u64>) {
        // Code comes with its account.
        let asked = keys.into_iter().filter(|key| !matches!(key, StateKey::Code(_)));
        let (here, absent): (Vec<StateKey>, Vec<StateKey>) = asked.partition(|key| self.knows(key));
        if missed {
            // Somebody missed them, and they came since by way of another block's readers.
            self.came.fetch_add(here.len(), Ordering::AcqRel);
        }
        let mut misses = self.misses.lock();
        let others = misses.flights.iter().copied().collect();
        let keys: BTreeSet<StateKey> = absent.into_iter().filter(|key| !misses.flying.contains(key)).collect();
        if keys.is_empty() {
            return (None, others);
        }
        let id = misses.next_flight;
        misses.next_flight += 1;
        misses.flights.insert(id);
        misses.flying.extend(keys.iter().copied());
        (Some(Flight { state: self, id, keys, missed, arrived: false }), others)
    }

    async fn wait_for(&self, flights: &[u64]) {
        let mut landed = self.landed.subscribe();
        loop {
            let on_their_way = flights.iter().any(|id| self.misses.lock().flights.contains(id));
            if !on_their_way || landed.changed().await.is_err() {
                return;
            }
        }
    }

    async fn ask(&self, rpc: &Rpc, limits: &RemoteLimits, keys: &BTreeSet<StateKey>) -> Result<Vec<Fetched>, NodeError> {
        let batch = limits.batch.max(1);
        let batches = self.batches(keys, batch);
        let mut asked = Vec::with_capacity(batches.len());
        for batch in batches {
            let rpc = rpc.clone();
            // Boxed, because the compiler cannot tell otherwise that the whole may move between threads.
            asked.push(FutureExt::boxed(async move { rpc.batch(&batch).await }));
        }
        let received: Vec<Vec<Result<Json, RpcFailure>>> = stream::iter(asked)
            .buffered(limits.parallel_batches.max(1))
            .try_collect()
            .await
            .map_err(|failure| state_failure(rpc, self.block, failure))?;
        let received: Vec<Result<Json, RpcFailure>> = received.into_iter().flatten().collect();
        let mut answers = Answers { rpc, block: self.block, answers: received.into_iter() };
        let mut fetched = Vec::with_capacity(keys.len());
        // Answers about block hashes so far.
        let mut told = 0_usize;
        for key in in_turn(keys) {
            match *key {
                StateKey::Account(address) => fetched.push(answers.account(address)?),
                StateKey::Storage(..) => fetched.push(Fetched { key: *key, value: Value::Slot(answers.read()?), code: None }),
                StateKey::BlockHash(number) => {
                    if told.is_multiple_of(batch) {
                        told += 1;
                        let canonical: Option<BlockAnswer> = answers.read()?;
                        if canonical.is_none_or(|block| block.hash != self.block) {
                            return Err(NodeError::UnknownBlock { chain: rpc.chain(), hash: self.block });
                        }
                    }
                    told += 1;
                    let block: Option<BlockAnswer> = answers.read()?;
                    let block = block.ok_or_else(|| rpc.unusable(format!("it has no block {number}")))?;
                    fetched.push(Fetched { key: *key, value: Value::BlockHash(block.hash), code: None });
                }
                StateKey::Code(_) => {}
            }
        }
        Ok(fetched)
    }

    /// The calls that answer `keys`, in batches of at most `batch`. State is asked for by block hash (EIP-1898), so that a
    /// reorg cannot mix two states. Block hashes can only be asked for by number: the first call of each of their batches
    /// checks that this block is on the chain, and with it its ancestors. Batches go to whichever endpoint, so the check of
    /// one says nothing about another.
    fn batches(&self, keys: &BTreeSet<StateKey>, batch: usize) -> Vec<Vec<Call>> {
        let at = json!({ "blockHash": self.block });
        let (mut calls, mut hashes) = (Vec::with_capacity(keys.len()), Vec::new());
        for key in in_turn(keys) {
            match key {
                StateKey::Account(address) => {
                    for method in ["eth_getBalance", "eth_getTransactionCount", "eth_getCode"] {
                        calls.push((method, json!([address, at])));
                    }
                }
                StateKey::Storage(address, slot) => {
                    calls.push(("eth_getStorageAt", json!([address, B256::from(*slot), at])));
                }
                StateKey::BlockHash(number) => {
                    if hashes.len().is_multiple_of(batch) {
                        hashes.push(("eth_getBlockByNumber", json!([quantity(self.number), false])));
                    }
                    hashes.push(("eth_getBlockByNumber", json!([quantity(*number), false])));
                }
                StateKey::Code(_) => {}
            }
        }
        calls.chunks(batch).chain(hashes.chunks(batch)).map(<[Call]>::to_vec).collect()
    }

    fn fill(&self, rpc: &Rpc, fetched: Vec<Fetched>) {
        let mut values = Vec::with_capacity(fetched.len());
        for Fetched { key, value, code } in fetched {
            if let Some((hash, code)) = code {
                self.cache.keep_code(hash, code);
            }
            values.push((key, value));
        }
        if self.cache.insert(self.block, self.number, &values) {
            return;
        }
        let mut own = self.own.write();
        if own.len() + values.len() > self.max_values {
            tracing::warn!(chain = rpc.chain(), block = %self.block, forgotten = own.len(), "a state outgrew max_values");
            self.cache.counters().evict(own.len());
            own.clear();
        }
        own.extend(values);
    }

    fn find(&self, key: &StateKey) -> Option<Value> {
        match self.cache.read(self.block, self.number, key) {
            Lookup::Known(value) => return Some(value),
            Lookup::Missing => {}
            Lookup::Outside => self.cache.counters().cold_read(),
        }
        self.own.read().get(key).cloned()
    }

    /// An account whose code was forgotten counts as missing: code is fetched by account, not by hash.
    fn find_account(&self, address: Address) -> Option<Option<Account>> {
        let Some(Value::Account(account)) = self.find(&StateKey::Account(address)) else { return None };
        match account {
            Some(account) if account.has_code() && self.cache.code(account.code_hash).is_none() => None,
            account => Some(account),
        }
    }

    fn knows(&self, key: &StateKey) -> bool {
        match key {
            StateKey::Account(address) => self.find_account(*address).is_some(),
            _ => self.find(key).is_some(),
        }
    }

    /// Counts a read, and notes a miss. When more is missed than can be kept, the rest is noted when its reader comes back.
    fn answer<T>(&self, key: StateKey, known: Option<T>) -> Result<T, StateError> {
        if let Some(value) = known {
            self.cache.counters().hit();
            return Ok(value);
        }
        self.cache.counters().miss();
        let mut misses = self.misses.lock();
        if misses.keys.len() < self.max_values && !misses.flying.contains(&key) && !matches!(key, StateKey::Code(_)) {
            misses.keys.insert(key);
        }
        Err(StateError::Missing(key))
    }
}

/// Values on their way.
#[derive(Debug)]
struct Flight<'a> {
    state: &'a PinnedState,
    id: u64,
    keys: BTreeSet<StateKey>,
    /// Whether readers missed them, or they are fetched ahead.
    missed: bool,
    arrived: bool,
}

impl Flight<'_> {
    fn land(mut self, rpc: &Rpc, fetched: Vec<Fetched>) {
        self.state.cache.counters().round(self.keys.len());
        self.state.fill(rpc, fetched);
        self.state.came.fetch_add(self.keys.len(), Ordering::AcqRel);
        self.arrived = true;
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut misses = self.state.misses.lock();
        for key in &self.keys {
            misses.flying.remove(key);
        }
        misses.flights.remove(&self.id);
        if self.missed && !self.arrived {
            // Still missing: whoever tries again need not run into them again.
            misses.keys.append(&mut self.keys);
        }
        drop(misses);
        self.state.landed.send_modify(|landed| *landed = landed.wrapping_add(1));
    }
}

const fn is_block_hash(key: &StateKey) -> bool {
    matches!(key, StateKey::BlockHash(_))
}

/// Keys in the order in which they are asked for: block hashes at the end.
fn in_turn(keys: &BTreeSet<StateKey>) -> impl Iterator<Item = &StateKey> {
    keys.iter().filter(|key| !is_block_hash(key)).chain(keys.iter().filter(|key| is_block_hash(key)))
}

impl StateView for PinnedState {
    fn account(&self, address: Address) -> Result<Option<Account>, StateError> {
        self.answer(StateKey::Account(address), self.find_account(address))
    }

    fn code(&self, hash: B256) -> Result<Code, StateError> {
        if hash == Account::default().code_hash {
            return Ok(Code::default());
        }
        // Missed only when it was forgotten since its account was read: the reader comes back and misses the account.
        self.answer(StateKey::Code(hash), self.cache.code(hash))
    }

    fn storage(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        let key = StateKey::Storage(address, slot);
        let known = match self.find(&key) {
            Some(Value::Slot(value)) => Some(value),
            _ => None,
        };
        self.answer(key, known)
    }

    /// Blocks after this one have no hash yet: zero.
    fn block_hash(&self, number: u64) -> Result<B256, StateError> {
        if number > self.number {
            return Ok(B256::ZERO);
        }
        if number == self.number {
            return Ok(self.block);
        }
        if number.checked_add(1) == Some(self.number) {
            return Ok(self.parent);
        }
        let key = StateKey::BlockHash(number);
        let known = match self.find(&key) {
            Some(Value::BlockHash(hash)) => Some(hash),
            _ => None,
        };
        self.answer(key, known)
    }
}

/// A value on its way into the cache; with an account its code, if it has any.
#[derive(Debug)]
struct Fetched {
    key: StateKey,
    value: Value,
    code: Option<(B256, Code)>,
}

/// Answers, read in the order of their calls.
#[derive(Debug)]
struct Answers<'a> {
    rpc: &'a Rpc,
    block: B256,
    answers: vec::IntoIter<Result<Json, RpcFailure>>,
}

impl Answers<'_> {
    fn read<R: DeserializeOwned>(&mut self) -> Result<R, NodeError> {
        let unreadable = |cause: String| self.rpc.unusable(format!("reading state: {cause}"));
        match self.answers.next() {
            Some(Ok(answer)) => serde_json::from_value(answer).map_err(|error| unreadable(error.to_string())),
            Some(Err(failure)) => Err(state_failure(self.rpc, self.block, failure)),
            None => Err(unreadable("an answer is missing".into())),
        }
    }

    /// Balance, nonce and code. An account that has none of them does not exist (EIP-161).
    fn account(&mut self, address: Address) -> Result<Fetched, NodeError> {
        let key = StateKey::Account(address);
        let balance: U256 = self.read()?;
        let nonce: U64 = self.read()?;
        let code: Bytes = self.read()?;
        let mut account = Account { balance, nonce: nonce.to(), ..Account::default() };
        if code.is_empty() {
            let account = Some(account).filter(|account| !account.is_empty());
            return Ok(Fetched { key, value: Value::Account(account), code: None });
        }
        account.code_hash = keccak256(&code);
        let code = Code::new_raw_checked(code)
            .map_err(|error| self.rpc.unusable(format!("the code of {address} is malformed: {error}")))?;
        Ok(Fetched { key, value: Value::Account(Some(account)), code: Some((account.code_hash, code)) })
    }
}

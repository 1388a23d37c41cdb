//! The state after a block of a remote node: what was fetched of it so far.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    vec,
};

use alloy_primitives::{Address, B256, Bytes, U64, U256, keccak256};
use lockstep_simulation::{Account, Code, StateError, StateKey, StateView};
use parking_lot::{Mutex, RwLock};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::wire::{BlockAnswer, Call, RESOURCE_NOT_FOUND, Rpc, RpcFailure, quantity};
use crate::NodeError;

/// The states that are kept, the least recently asked for first.
#[derive(Debug)]
pub(super) struct PinnedStates {
    max: usize,
    states: VecDeque<Arc<PinnedState>>,
}

impl PinnedStates {
    pub(super) const fn new(max: usize) -> Self {
        Self { max, states: VecDeque::new() }
    }

    pub(super) fn get(&mut self, block: B256) -> Option<Arc<PinnedState>> {
        let position = self.states.iter().position(|state| state.block == block)?;
        let state = self.states.remove(position)?;
        self.states.push_back(Arc::clone(&state));
        Some(state)
    }

    /// Keeps a state, or finds that another caller has pinned the same block meanwhile: then theirs is the one, or their
    /// readers' misses would be lost.
    pub(super) fn keep(&mut self, state: Arc<PinnedState>) -> Arc<PinnedState> {
        if let Some(known) = self.get(state.block) {
            return known;
        }
        while self.states.len() >= self.max.max(1) {
            self.states.pop_front();
        }
        self.states.push_back(Arc::clone(&state));
        state
    }
}

/// What is known of a state. Every value is that of one block, so none is ever stale.
#[derive(Debug, Default)]
struct Values {
    accounts: HashMap<Address, Option<Account>>,
    code: HashMap<B256, Code>,
    storage: HashMap<(Address, U256), U256>,
    block_hashes: HashMap<u64, B256>,
}

impl Values {
    /// How many there are. Code comes with its account and does not count.
    fn len(&self) -> usize {
        self.accounts.len() + self.storage.len() + self.block_hashes.len()
    }
}

/// A value on its way into [`Values`].
#[derive(Debug)]
enum Fetched {
    Account(Address, Option<Account>, Option<Code>),
    Storage(Address, U256, U256),
    BlockHash(u64, B256),
}

/// The state after one block.
pub(super) struct PinnedState {
    block: B256,
    number: u64,
    parent: B256,
    max_values: usize,
    values: RwLock<Values>,
    /// What readers ran into since the last fetch.
    missed: Mutex<BTreeSet<StateKey>>,
    /// Held while values are fetched, so that nobody is told "nothing came" while they are on their way.
    fetching: tokio::sync::Mutex<()>,
    /// How many values came so far.
    came: AtomicUsize,
}

impl fmt::Debug for PinnedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedState")
            .field("block", &self.block)
            .field("number", &self.number)
            .field("values", &self.values.read().len())
            .field("missed", &self.missed.lock().len())
            .finish_non_exhaustive()
    }
}

impl PinnedState {
    pub(super) fn new(block: B256, number: u64, parent: B256, max_values: usize) -> Self {
        Self {
            block,
            number,
            parent,
            max_values,
            values: RwLock::default(),
            missed: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
            came: AtomicUsize::new(0),
        }
    }

    /// Fetches what was missed. Returns how many values came since the call was made, those of another caller's fetch
    /// included.
    pub(super) async fn fetch(&self, rpc: &Rpc, batch: usize) -> Result<usize, NodeError> {
        let before = self.came.load(Ordering::Acquire);
        let _turn = self.fetching.lock().await;
        let keys = std::mem::take(&mut *self.missed.lock());
        if !keys.is_empty() {
            match self.ask(rpc, &keys, batch).await {
                Ok(fetched) => {
                    self.fill(rpc, fetched);
                    self.came.fetch_add(keys.len(), Ordering::AcqRel);
                }
                Err(error) => {
                    // Still missing: whoever tries again need not run into them again.
                    self.missed.lock().extend(keys);
                    return Err(error);
                }
            }
        }
        Ok(self.came.load(Ordering::Acquire) - before)
    }

    async fn ask(&self, rpc: &Rpc, keys: &BTreeSet<StateKey>, batch: usize) -> Result<Vec<Fetched>, NodeError> {
        let calls = self.calls(keys);
        let mut received = Vec::with_capacity(calls.len());
        for chunk in calls.chunks(batch.max(1)) {
            let answers = rpc.batch(chunk).await;
            received.extend(answers.map_err(|failure| rpc.unusable(format!("reading state: {failure}")))?);
        }
        let mut answers = Answers { rpc, block: self.block, answers: received.into_iter() };
        if keys.iter().any(is_block_hash) {
            let canonical: Option<BlockAnswer> = answers.read()?;
            if canonical.is_none_or(|block| block.hash != self.block) {
                return Err(NodeError::UnknownBlock { chain: rpc.chain(), hash: self.block });
            }
        }
        let mut fetched = Vec::with_capacity(keys.len());
        for key in keys {
            match *key {
                StateKey::Account(address) => fetched.push(answers.account(address)?),
                StateKey::Storage(address, slot) => fetched.push(Fetched::Storage(address, slot, answers.read()?)),
                StateKey::BlockHash(number) => {
                    let block: Option<BlockAnswer> = answers.read()?;
                    let block = block.ok_or_else(|| rpc.unusable(format!("it has no block {number}")))?;
                    fetched.push(Fetched::BlockHash(number, block.hash));
                }
                StateKey::Code(_) => {}
            }
        }
        Ok(fetched)
    }

    /// The calls that answer `keys`, in their order. State is asked for by block hash (EIP-1898), so that a reorg cannot mix
    /// two states. Block hashes can only be asked for by number: the first call then checks that this block is still on the
    /// chain, and with it its ancestors.
    fn calls(&self, keys: &BTreeSet<StateKey>) -> Vec<Call> {
        let at = json!({ "blockHash": self.block });
        let mut calls = Vec::with_capacity(keys.len());
        if keys.iter().any(is_block_hash) {
            calls.push(("eth_getBlockByNumber", json!([quantity(self.number), false])));
        }
        for key in keys {
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
                    calls.push(("eth_getBlockByNumber", json!([quantity(*number), false])));
                }
                // Code comes with its account. It is missed only by a reader whose account was forgotten in between, who
                // will miss the account next.
                StateKey::Code(_) => {}
            }
        }
        calls
    }

    fn fill(&self, rpc: &Rpc, fetched: Vec<Fetched>) {
        let mut values = self.values.write();
        if values.len() + fetched.len() > self.max_values {
            tracing::warn!(chain = rpc.chain(), block = %self.block, forgotten = values.len(), "a state outgrew max_values");
            *values = Values::default();
        }
        for value in fetched {
            match value {
                Fetched::Account(address, account, code) => {
                    if let (Some(account), Some(code)) = (account, code) {
                        values.code.insert(account.code_hash, code);
                    }
                    values.accounts.insert(address, account);
                }
                Fetched::Storage(address, slot, value) => {
                    values.storage.insert((address, slot), value);
                }
                Fetched::BlockHash(number, hash) => {
                    values.block_hashes.insert(number, hash);
                }
            }
        }
    }

    /// Notes a miss. When more is missed than can be kept, the rest is noted when its reader comes back.
    fn miss(&self, key: StateKey) -> StateError {
        let mut missed = self.missed.lock();
        if missed.len() < self.max_values.max(1) {
            missed.insert(key);
        }
        StateError::Missing(key)
    }
}

const fn is_block_hash(key: &StateKey) -> bool {
    matches!(key, StateKey::BlockHash(_))
}

impl StateView for PinnedState {
    fn account(&self, address: Address) -> Result<Option<Account>, StateError> {
        let known = self.values.read().accounts.get(&address).copied();
        known.ok_or_else(|| self.miss(StateKey::Account(address)))
    }

    fn code(&self, hash: B256) -> Result<Code, StateError> {
        if hash == Account::default().code_hash {
            return Ok(Code::default());
        }
        let known = self.values.read().code.get(&hash).cloned();
        known.ok_or_else(|| self.miss(StateKey::Code(hash)))
    }

    fn storage(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        let known = self.values.read().storage.get(&(address, slot)).copied();
        known.ok_or_else(|| self.miss(StateKey::Storage(address, slot)))
    }

    /// Blocks after this one have no hash yet: zero.
    fn block_hash(&self, number: u64) -> Result<B256, StateError> {
        if number > self.number {
            return Ok(B256::ZERO);
        }
        if number == self.number {
            return Ok(self.block);
        }
        if number + 1 == self.number {
            return Ok(self.parent);
        }
        let known = self.values.read().block_hashes.get(&number).copied();
        known.ok_or_else(|| self.miss(StateKey::BlockHash(number)))
    }
}

/// Answers, read in the order of their calls.
#[derive(Debug)]
struct Answers<'a> {
    rpc: &'a Rpc,
    block: B256,
    answers: vec::IntoIter<Result<Value, RpcFailure>>,
}

impl Answers<'_> {
    fn read<R: DeserializeOwned>(&mut self) -> Result<R, NodeError> {
        let unreadable = |cause: String| self.rpc.unusable(format!("reading state: {cause}"));
        match self.answers.next() {
            Some(Ok(answer)) => serde_json::from_value(answer).map_err(|error| unreadable(error.to_string())),
            Some(Err(failure)) if failure.code == RESOURCE_NOT_FOUND => {
                Err(NodeError::UnknownBlock { chain: self.rpc.chain(), hash: self.block })
            }
            Some(Err(failure)) => Err(unreadable(failure.to_string())),
            None => Err(unreadable("an answer is missing".into())),
        }
    }

    /// Balance, nonce and code. An account that has none of them does not exist (EIP-161).
    fn account(&mut self, address: Address) -> Result<Fetched, NodeError> {
        let balance: U256 = self.read()?;
        let nonce: U64 = self.read()?;
        let code: Bytes = self.read()?;
        let mut account = Account { balance, nonce: nonce.to(), ..Account::default() };
        if code.is_empty() {
            return Ok(Fetched::Account(address, Some(account).filter(|account| !account.is_empty()), None));
        }
        account.code_hash = keccak256(&code);
        let code = Code::new_raw_checked(code)
            .map_err(|error| self.rpc.unusable(format!("the code of {address} is malformed: {error}")))?;
        Ok(Fetched::Account(address, Some(account), Some(code)))
    }
}

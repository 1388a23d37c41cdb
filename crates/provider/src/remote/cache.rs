//! What is known of a rollup's state at the followed head, and at the blocks just before it.
//!
//! The values of the newest block, the tip, lie in one bounded map. Every block of a window behind it keeps a reverse diff:
//! what each key that it changed was before, or that this is not known. A value at the tip is one look-up; a value `n` blocks
//! before it is in the first of the `n` reverse diffs that holds the key, else it is the tip's. One lock orders readers against
//! the two things that move the tip, so no reader ever sees two blocks mixed.
//!
//! Everything that is forgotten is merely missing: it is fetched again. Nothing is ever guessed.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use alloy_primitives::{Address, B256, ChainId, U256};
use lockstep_simulation::{Account, Code, ParentBlock, StateChanges, StateKey};
use parking_lot::RwLock;
use quick_cache::{DefaultHashBuilder, Lifecycle, Weighter, sync::Cache};

use super::RemoteLimits;

/// What a value is taken to weigh, in bytes: its key, itself, and its place in the map.
const VALUE_BYTES: u64 = 192;

/// How a rollup's cached state serves its readers. All counts are since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Reads that were answered.
    pub hits: u64,
    /// Reads whose value had to be fetched first.
    pub misses: u64,
    /// Reads of blocks that are not in the followed window, answered or not.
    pub cold_reads: u64,
    /// Values that were fetched.
    pub fetched: u64,
    /// Rounds of fetching: what was missed at one time, in one or more batches.
    pub rounds: u64,
    /// Values that were forgotten because there was no room.
    pub evicted: u64,
    /// Values that are kept of the tip now.
    pub values: u64,
    /// Bytes that they are taken to weigh.
    pub bytes: u64,
}

/// The counters behind [`CacheStats`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    cold_reads: AtomicU64,
    fetched: AtomicU64,
    rounds: AtomicU64,
    evicted: AtomicU64,
}

impl Counters {
    pub(super) fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn miss(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn cold_read(&self) {
        self.cold_reads.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn round(&self, fetched: usize) {
        self.rounds.fetch_add(1, Ordering::Relaxed);
        self.fetched.fetch_add(fetched as u64, Ordering::Relaxed);
    }

    pub(super) fn evict(&self, values: usize) {
        self.evicted.fetch_add(values as u64, Ordering::Relaxed);
    }
}

/// One value of a state.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Of [`StateKey::Account`].
    Account(Option<Account>),
    /// Of [`StateKey::Code`].
    Code(Code),
    /// Of [`StateKey::Storage`].
    Slot(U256),
    /// Of [`StateKey::BlockHash`].
    BlockHash(B256),
}

/// What a read at a block yields.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Lookup {
    /// The value at that block.
    Known(Value),
    /// The block is in the window, the value is not here.
    Missing,
    /// The block is not in the window.
    Outside,
}

/// A block as the window knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct WindowBlock {
    /// What its child needs to know of it, its hash and number among it.
    pub(super) head: ParentBlock,
    /// Its parent's hash.
    pub(super) parent: B256,
    /// Hashes of its transactions.
    pub(super) transactions: Vec<B256>,
}

/// Which values a block may have changed, when its changes are not known.
#[derive(Clone, Copy, Debug)]
pub(super) enum Doubt<'a> {
    /// Everything of these accounts, and of accounts that did not exist before the block: who tells of touched accounts may
    /// leave those out that came into being, as geth's `prestateTracer` does.
    Accounts(&'a BTreeSet<Address>),
    /// Anything.
    Everything,
}

#[derive(Clone, Debug)]
struct Weights;

impl Weighter<StateKey, Value> for Weights {
    fn weight(&self, _key: &StateKey, value: &Value) -> u64 {
        match value {
            // The code, and about as much again for its analysis.
            Value::Code(code) => VALUE_BYTES + 2 * code.bytes_slice().len() as u64,
            Value::Account(_) | Value::Slot(_) | Value::BlockHash(_) => VALUE_BYTES,
        }
    }
}

/// Counts what goes because there is no room.
#[derive(Clone, Debug)]
struct Evictions(Arc<Counters>);

impl Lifecycle<StateKey, Value> for Evictions {
    type RequestState = ();

    /// Not `on_evict`, which is called for values that are replaced, too.
    fn before_evict(&self, (): &mut (), _key: &StateKey, _value: &mut Value) {
        self.0.evict(1);
    }
}

type Values = Cache<StateKey, Value, Weights, DefaultHashBuilder, Evictions>;

/// A block of the window, and how the state before it differs from the state after it.
#[derive(Debug)]
struct Entry {
    block: WindowBlock,
    /// What keys were before this block: `None` when the block changed them and it is not known from what.
    before: BTreeMap<StateKey, Option<Value>>,
    /// Accounts whose storage it emptied: of slots that `before` does not hold it is not known what they were.
    cleared: BTreeSet<Address>,
    /// Whether it may have changed any key that `before` does not hold.
    opaque: bool,
}

impl Entry {
    const fn new(block: WindowBlock) -> Self {
        Self { block, before: BTreeMap::new(), cleared: BTreeSet::new(), opaque: false }
    }

    /// `None` when the block left the key alone, `Some(None)` when what it was before is not known.
    fn before(&self, key: &StateKey) -> Option<Option<&Value>> {
        match self.before.get(key) {
            Some(value) => Some(value.as_ref()),
            None if self.opaque => Some(None),
            None => match key {
                StateKey::Storage(address, _) if self.cleared.contains(address) => Some(None),
                _ => None,
            },
        }
    }

    /// Forgets what anything was before.
    fn doubt(&mut self) {
        self.opaque = true;
        self.before.clear();
        self.cleared.clear();
    }
}

/// The newest blocks, oldest first; never empty.
#[derive(Debug)]
struct Window {
    entries: VecDeque<Entry>,
}

impl Window {
    /// Where a block is.
    fn position(&self, hash: B256, number: u64) -> Option<usize> {
        let oldest = self.entries.front()?.block.head.number;
        let position = usize::try_from(number.checked_sub(oldest)?).ok()?;
        self.entries.get(position).filter(|entry| entry.block.head.hash == hash).map(|_| position)
    }

    /// The hash of block `number` as the window's blocks themselves say it.
    fn block_hash(&self, number: u64) -> Option<B256> {
        let oldest = &self.entries.front()?.block;
        if number.checked_add(1) == Some(oldest.head.number) {
            return Some(oldest.parent);
        }
        let position = usize::try_from(number.checked_sub(oldest.head.number)?).ok()?;
        self.entries.get(position).map(|entry| entry.block.head.hash)
    }
}

/// The state cache of one rollup.
pub(super) struct StateCache {
    chain: ChainId,
    /// Values at the tip; code by its hash, which is the same at every block.
    tip: Values,
    window: RwLock<Window>,
    /// Blocks that the window holds at most.
    max_blocks: usize,
    /// Values that a reverse diff may learn beyond what its block changed.
    max_values: usize,
    counters: Arc<Counters>,
}

impl fmt::Debug for StateCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateCache").field("chain", &self.chain).field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl StateCache {
    /// Knows nothing but its tip.
    pub(super) fn new(chain: ChainId, limits: &RemoteLimits, tip: WindowBlock) -> Self {
        let counters = Arc::new(Counters::default());
        let capacity = limits.max_cache_bytes.max(VALUE_BYTES);
        let items = usize::try_from(capacity / VALUE_BYTES).unwrap_or(usize::MAX);
        let values = Cache::with(items, capacity, Weights, DefaultHashBuilder::default(), Evictions(Arc::clone(&counters)));
        let window = Window { entries: VecDeque::from([Entry::new(tip)]) };
        Self {
            chain,
            tip: values,
            window: RwLock::new(window),
            // A reorg of that depth leaves one block that both ways share.
            max_blocks: limits.max_reorg.saturating_add(1),
            max_values: limits.max_values.max(1),
            counters,
        }
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) fn stats(&self) -> CacheStats {
        let counted = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheStats {
            hits: counted(&self.counters.hits),
            misses: counted(&self.counters.misses),
            cold_reads: counted(&self.counters.cold_reads),
            fetched: counted(&self.counters.fetched),
            rounds: counted(&self.counters.rounds),
            evicted: counted(&self.counters.evicted),
            values: self.tip.len() as u64,
            bytes: self.tip.weight(),
        }
    }

    /// Hands the counters to whoever collects metrics. Not done at every read: reading is the hot path.
    pub(super) fn publish(&self) {
        let stats = self.stats();
        let chain = self.chain.to_string();
        metrics::counter!("lockstep_state_hits_total", "chain" => chain.clone()).absolute(stats.hits);
        metrics::counter!("lockstep_state_misses_total", "chain" => chain.clone()).absolute(stats.misses);
        metrics::counter!("lockstep_state_evicted_total", "chain" => chain.clone()).absolute(stats.evicted);
        metrics::counter!("lockstep_state_fetched_total", "chain" => chain).absolute(stats.fetched);
    }

    /// The newest block.
    pub(super) fn newest(&self) -> WindowBlock {
        self.window.read().entries.back().map(|entry| entry.block.clone()).unwrap_or_default()
    }

    /// The blocks of the window, newest first.
    pub(super) fn blocks(&self) -> Vec<WindowBlock> {
        self.window.read().entries.iter().rev().map(|entry| entry.block.clone()).collect()
    }

    /// A block of the window, by its hash.
    pub(super) fn find(&self, hash: B256) -> Option<WindowBlock> {
        let window = self.window.read();
        window.entries.iter().rev().find(|entry| entry.block.head.hash == hash).map(|entry| entry.block.clone())
    }

    /// A value at a block. Code is asked for by [`StateCache::code`].
    pub(super) fn read(&self, block: B256, number: u64, key: &StateKey) -> Lookup {
        let window = self.window.read();
        let Some(position) = window.position(block, number) else { return Lookup::Outside };
        if let StateKey::BlockHash(number) = key {
            // Blocks before the window are the same for all of its blocks.
            let known = window.block_hash(*number).map(Value::BlockHash).or_else(|| self.tip.get(key));
            return known.map_or(Lookup::Missing, Lookup::Known);
        }
        for entry in window.entries.iter().skip(position + 1) {
            match entry.before(key) {
                Some(Some(value)) => return Lookup::Known(value.clone()),
                Some(None) => return Lookup::Missing,
                None => {}
            }
        }
        // Still under the lock: the tip does not move while it is read.
        self.tip.get(key).map_or(Lookup::Missing, Lookup::Known)
    }

    /// Code by its hash.
    pub(super) fn code(&self, hash: B256) -> Option<Code> {
        match self.tip.get(&StateKey::Code(hash)) {
            Some(Value::Code(code)) => Some(code),
            _ => None,
        }
    }

    /// Keeps code that was fetched or created.
    pub(super) fn keep_code(&self, hash: B256, code: Code) {
        self.tip.insert(StateKey::Code(hash), Value::Code(code));
    }

    /// Takes over values as they are at a block. Returns whether the block is in the window; if not, nothing was kept.
    pub(super) fn insert(&self, block: B256, number: u64, values: &[(StateKey, Value)]) -> bool {
        let mut window = self.window.write();
        let Some(position) = window.position(block, number) else { return false };
        for (key, value) in values {
            if let StateKey::BlockHash(number) = key {
                if window.block_hash(*number).is_none() {
                    self.tip.insert(*key, value.clone());
                }
                continue;
            }
            let later = window.entries.iter_mut().skip(position + 1).find(|entry| entry.before(key).is_some());
            match later {
                // The first later block that changed it: what was fetched is what it was before that block.
                Some(entry) => {
                    if entry.before.len() >= self.max_values && !entry.before.contains_key(key) {
                        self.counters.evict(entry.before.len());
                        entry.doubt();
                    }
                    entry.before.insert(*key, Some(value.clone()));
                }
                None => self.tip.insert(*key, value.clone()),
            }
        }
        true
    }

    /// Moves the tip to its child, whose changes are known. Returns false, and changes nothing, when it is not its child.
    pub(super) fn advance(&self, block: WindowBlock, changes: &StateChanges) -> bool {
        let mut window = self.window.write();
        if !follows(&window, &block) {
            return false;
        }
        let mut entry = Entry::new(block);
        let mut writes = Vec::new();
        for (address, change) in &changes.accounts {
            let key = StateKey::Account(*address);
            if change.storage_cleared && !self.had_no_storage(&key) {
                entry.cleared.insert(*address);
            }
            if let Some(account) = change.account {
                writes.push((key, Value::Account(account)));
            }
            for (slot, value) in &change.storage {
                writes.push((StateKey::Storage(*address, *slot), Value::Slot(*value)));
            }
        }
        for (key, _) in &writes {
            entry.before.insert(*key, self.tip.peek(key));
        }
        self.forget_storage(&entry.cleared);
        for (key, value) in writes {
            self.tip.insert(key, value);
        }
        for (hash, code) in &changes.code {
            self.keep_code(*hash, code.clone());
        }
        self.push(&mut window, entry);
        true
    }

    /// Moves the tip to its child, of whose changes no more is known than `doubt`. With `distrust` what is known of earlier
    /// blocks may be wrong too, and is forgotten. Returns false, and changes nothing, when it is not its child.
    pub(super) fn advance_blind(&self, block: WindowBlock, doubt: Doubt<'_>, distrust: bool) -> bool {
        let mut window = self.window.write();
        if !follows(&window, &block) {
            return false;
        }
        if distrust {
            window.entries.iter_mut().for_each(Entry::doubt);
        }
        match doubt {
            Doubt::Accounts(accounts) => self.tip.retain(|key, value| match key {
                StateKey::Account(address) | StateKey::Storage(address, _) => !accounts.contains(address) && is_something(value),
                StateKey::Code(_) | StateKey::BlockHash(_) => true,
            }),
            Doubt::Everything => self.forget_state(),
        }
        let mut entry = Entry::new(block);
        entry.opaque = true;
        self.push(&mut window, entry);
        true
    }

    /// Takes the tip's block back. Returns it, or `None` when its parent is not in the window.
    pub(super) fn retreat(&self) -> Option<WindowBlock> {
        let mut window = self.window.write();
        if window.entries.len() < 2 {
            return None;
        }
        let entry = window.entries.pop_back()?;
        if entry.opaque {
            self.forget_state();
        } else {
            self.forget_storage(&entry.cleared);
        }
        for (key, value) in entry.before {
            match value {
                Some(value) => self.tip.insert(key, value),
                None => drop(self.tip.remove(&key)),
            }
        }
        Some(entry.block)
    }

    /// Begins anew at another block. Code is kept.
    pub(super) fn reset(&self, tip: WindowBlock) {
        let mut window = self.window.write();
        self.tip.retain(|key, _| matches!(key, StateKey::Code(_)));
        window.entries = VecDeque::from([Entry::new(tip)]);
    }

    fn push(&self, window: &mut Window, entry: Entry) {
        window.entries.push_back(entry);
        while window.entries.len() > self.max_blocks {
            let Some(oldest) = window.entries.pop_front() else { break };
            // Every block that is left stands on it, and on its parent, of which only it may have told.
            if let Some(before) = oldest.block.head.number.checked_sub(1) {
                self.tip.insert(StateKey::BlockHash(before), Value::BlockHash(oldest.block.parent));
            }
            self.tip.insert(StateKey::BlockHash(oldest.block.head.number), Value::BlockHash(oldest.block.head.hash));
            // Nobody goes back behind the oldest block.
            if let Some(oldest) = window.entries.front_mut() {
                oldest.before.clear();
                oldest.cleared.clear();
            }
        }
    }

    /// Whether an account is known to have had no storage at the tip: it was not created yet. One without code and nonce has
    /// none (EIP-7610).
    fn had_no_storage(&self, key: &StateKey) -> bool {
        match self.tip.peek(key) {
            Some(Value::Account(None)) => true,
            Some(Value::Account(Some(account))) => account.nonce == 0 && !account.has_code(),
            _ => false,
        }
    }

    fn forget_storage(&self, accounts: &BTreeSet<Address>) {
        if !accounts.is_empty() {
            self.tip.retain(|key, _| !matches!(key, StateKey::Storage(address, _) if accounts.contains(address)));
        }
    }

    /// Forgets all accounts and slots. Code and the hashes of blocks before the window stay true.
    fn forget_state(&self) {
        self.tip.retain(|key, _| matches!(key, StateKey::Code(_) | StateKey::BlockHash(_)));
    }
}

/// Whether a value can only be that of an account that exists.
fn is_something(value: &Value) -> bool {
    match value {
        Value::Account(account) => account.is_some(),
        Value::Slot(slot) => !slot.is_zero(),
        Value::Code(_) | Value::BlockHash(_) => true,
    }
}

fn follows(window: &Window, block: &WindowBlock) -> bool {
    let tip = window.entries.back().map(|entry| &entry.block.head);
    tip.is_some_and(|tip| tip.hash == block.parent && tip.number.checked_add(1) == Some(block.head.number))
}

//! Against a model that keeps the whole state of every block: a read is what the model says, or missing; never anything else.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::keccak256;
use lockstep_simulation::AccountChange;
use proptest::prelude::*;

use super::*;

const ADDRESSES: u8 = 3;
const SLOTS: u8 = 3;
/// Reorgs that the cache under test undoes.
const MAX_REORG: usize = 4;

/// What a block does to one account.
#[derive(Clone, Copy, Debug)]
enum Change {
    Pay(u8),
    Write(u8, u8),
    Create(u8, u8),
    Destroy,
    /// Destroyed and created again in one block.
    Recreate(u8, u8),
}

type Changes = BTreeMap<u8, Change>;

#[derive(Clone, Debug)]
enum Op {
    Forward(Changes),
    /// The changes are known to nobody; with accounts that the node says were touched beside them, or without. As geth's
    /// tracer does, it leaves out those that did not exist before.
    Blind(Changes, Option<BTreeSet<u8>>, bool),
    Back,
    Reset,
    /// A value comes that was asked for at some block.
    Fetch(usize, usize),
}

#[derive(Clone, Debug, Default)]
struct State {
    accounts: BTreeMap<Address, Account>,
    slots: BTreeMap<(Address, U256), U256>,
}

#[derive(Clone, Debug)]
struct ModelBlock {
    block: WindowBlock,
    state: State,
    /// Hashes of its ancestors by number.
    ancestors: BTreeMap<u64, B256>,
}

impl ModelBlock {
    fn value(&self, key: &StateKey) -> Value {
        match key {
            StateKey::Account(address) => Value::Account(self.state.accounts.get(address).copied()),
            StateKey::Storage(address, slot) => {
                Value::Slot(self.state.slots.get(&(*address, *slot)).copied().unwrap_or_default())
            }
            StateKey::BlockHash(number) => Value::BlockHash(self.ancestors.get(number).copied().unwrap_or_default()),
            StateKey::Code(_) => unreachable!("code is not part of the model"),
        }
    }

    /// The keys that a reader of this block can ask the cache for.
    fn keys(&self) -> Vec<StateKey> {
        let slots = || (0..SLOTS).map(U256::from);
        let accounts = (0..ADDRESSES).map(address);
        accounts
            .flat_map(|address| {
                let storage = slots().map(move |slot| StateKey::Storage(address, slot));
                std::iter::once(StateKey::Account(address)).chain(storage)
            })
            .chain(self.ancestors.keys().map(|number| StateKey::BlockHash(*number)))
            .collect()
    }
}

fn address(index: u8) -> Address {
    Address::repeat_byte(index + 1)
}

/// The state after a block, and what the executor says that it changed.
fn apply(before: &State, changes: &Changes) -> (State, StateChanges) {
    let (mut after, mut told) = (before.clone(), StateChanges::default());
    for (index, change) in changes {
        let address = address(*index);
        let known = before.accounts.get(&address).copied();
        let mut account = known;
        let mut cleared = false;
        let mut writes = BTreeMap::new();
        match *change {
            Change::Pay(amount) => {
                let paid = known.unwrap_or_default();
                account = Some(Account { balance: paid.balance + U256::from(amount), ..paid }).filter(|paid| !paid.is_empty());
            }
            Change::Write(slot, value) if known.is_some_and(|account| account.nonce > 0) => {
                writes.insert(U256::from(slot), U256::from(value));
            }
            Change::Create(slot, value) if known.is_none_or(|account| account.nonce == 0) => {
                cleared = true;
                account = Some(Account { nonce: 1, ..known.unwrap_or_default() });
                writes.insert(U256::from(slot), U256::from(value));
            }
            Change::Destroy if known.is_some() => {
                cleared = true;
                account = None;
            }
            Change::Recreate(slot, value) if known.is_some_and(|account| account.nonce > 0) => {
                cleared = true;
                account = Some(Account { nonce: 1, ..Account::default() });
                writes.insert(U256::from(slot), U256::from(value));
            }
            // Not possible in this state.
            Change::Write(..) | Change::Create(..) | Change::Destroy | Change::Recreate(..) => continue,
        }
        let account_change = (account != known).then_some(account);
        let mut change = AccountChange { account: account_change, storage_cleared: cleared, ..AccountChange::default() };
        if cleared {
            after.slots.retain(|(owner, _), _| *owner != address);
        }
        for (slot, value) in writes {
            let was = after.slots.get(&(address, slot)).copied().unwrap_or_default();
            if value.is_zero() {
                after.slots.remove(&(address, slot));
            } else {
                after.slots.insert((address, slot), value);
            }
            // As the overlay tells it: only what differs from what was there, or from nothing where all was cleared.
            if value != was {
                change.storage.insert(slot, value);
            }
        }
        match account {
            Some(account) => after.accounts.insert(address, account),
            None => after.accounts.remove(&address),
        };
        told.accounts.insert(address, change);
    }
    (after, told)
}

/// The cache, and everything that was ever true.
struct World {
    cache: StateCache,
    /// Every block that there was.
    blocks: Vec<ModelBlock>,
    /// Indices of the blocks that the cache should hold, oldest first.
    window: Vec<usize>,
}

impl World {
    fn new(capacity: u64, max_values: usize) -> Self {
        let mut state = State::default();
        state.accounts.insert(address(0), Account { nonce: 1, ..Account::default() });
        state.slots.insert((address(0), U256::ZERO), U256::from(77));
        let head = ParentBlock { hash: B256::repeat_byte(0xee), number: 10, ..ParentBlock::default() };
        let block = WindowBlock { head, parent: B256::repeat_byte(0xed), transactions: Vec::new() };
        let ancestors = (5..9).map(|number| (number, B256::with_last_byte(number as u8)));
        let ancestors = ancestors.chain([(9, block.parent)]).collect();
        let limits = RemoteLimits { max_cache_bytes: capacity, max_reorg: MAX_REORG, max_values, ..RemoteLimits::default() };
        let cache = StateCache::new(901, &limits, block.clone());
        Self { cache, blocks: vec![ModelBlock { block, state, ancestors }], window: vec![0] }
    }

    fn tip(&self) -> &ModelBlock {
        &self.blocks[*self.window.last().unwrap()]
    }

    /// A child of the tip with this state.
    fn child(&mut self, state: State) -> WindowBlock {
        let tip = self.tip();
        let number = tip.block.head.number + 1;
        let hash = keccak256((self.blocks.len() as u64).to_be_bytes());
        let mut ancestors = tip.ancestors.clone();
        ancestors.insert(number - 1, tip.block.head.hash);
        let head = ParentBlock { hash, number, ..ParentBlock::default() };
        let block = WindowBlock { head, parent: tip.block.head.hash, transactions: Vec::new() };
        self.blocks.push(ModelBlock { block: block.clone(), state, ancestors });
        block
    }

    fn push(&mut self) {
        self.window.push(self.blocks.len() - 1);
        while self.window.len() > MAX_REORG + 1 {
            self.window.remove(0);
        }
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Forward(changes) => {
                let (state, told) = apply(&self.tip().state, changes);
                let block = self.child(state);
                assert!(self.cache.advance(block, &told));
                self.push();
            }
            Op::Blind(changes, also, distrust) => {
                let before = self.tip().state.accounts.clone();
                let (state, told) = apply(&self.tip().state, changes);
                let block = self.child(state);
                let touched = also.as_ref().map(|also| {
                    let also = also.iter().map(|index| address(*index));
                    let changed = told.accounts.keys().copied().filter(|address| before.contains_key(address));
                    changed.chain(also).collect::<BTreeSet<_>>()
                });
                let doubt = touched.as_ref().map_or(Doubt::Everything, Doubt::Accounts);
                assert!(self.cache.advance_blind(block, doubt, *distrust));
                self.push();
            }
            Op::Back => {
                let expected = (self.window.len() > 1).then(|| self.tip().block.clone());
                assert_eq!(self.cache.retreat(), expected);
                if expected.is_some() {
                    self.window.pop();
                }
            }
            Op::Reset => {
                // At another block of the same height.
                let block = self.child(State::default());
                self.cache.reset(block);
                self.window = vec![self.blocks.len() - 1];
            }
            Op::Fetch(block, key) => {
                let index = block % self.blocks.len();
                let at = &self.blocks[index];
                let keys = at.keys();
                let key = keys[key % keys.len()];
                let head = &at.block.head;
                let kept = self.cache.insert(head.hash, head.number, &[(key, at.value(&key))]);
                assert_eq!(kept, self.window.contains(&index), "values are kept of the blocks of the window only");
            }
        }
    }

    /// Reads everything at every block.
    fn check(&self) {
        for (index, at) in self.blocks.iter().enumerate() {
            let head = &at.block.head;
            for key in at.keys() {
                let read = self.cache.read(head.hash, head.number, &key);
                match read {
                    Lookup::Outside => assert!(!self.window.contains(&index), "block {index} is in the window"),
                    Lookup::Missing => assert!(self.window.contains(&index), "block {index} is not in the window"),
                    Lookup::Known(value) => {
                        assert!(self.window.contains(&index), "block {index} is not in the window");
                        assert_eq!(value, at.value(&key), "{key:?} at block {index} of {}", self.blocks.len());
                    }
                }
            }
        }
    }
}

fn changes() -> impl Strategy<Value = Changes> {
    let change = prop_oneof![
        any::<u8>().prop_map(Change::Pay),
        (0..SLOTS, 0..4_u8).prop_map(|(slot, value)| Change::Write(slot, value)),
        (0..SLOTS, 0..4_u8).prop_map(|(slot, value)| Change::Create(slot, value)),
        Just(Change::Destroy),
        (0..SLOTS, 0..4_u8).prop_map(|(slot, value)| Change::Recreate(slot, value)),
    ];
    prop::collection::btree_map(0..ADDRESSES, change, 0..=3)
}

fn op() -> impl Strategy<Value = Op> {
    let also = prop::option::of(prop::collection::btree_set(0..ADDRESSES, 0..=2));
    prop_oneof![
        6 => changes().prop_map(Op::Forward),
        1 => (changes(), also, any::<bool>()).prop_map(|(changes, also, distrust)| Op::Blind(changes, also, distrust)),
        4 => Just(Op::Back),
        1 => Just(Op::Reset),
        12 => (any::<usize>(), any::<usize>()).prop_map(|(block, key)| Op::Fetch(block, key)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn a_read_is_true_or_missing(
        // From a cache that forgets nearly everything to one that forgets nothing.
        values in prop_oneof![Just(1_u64), Just(8), Just(10_000)],
        learned in prop_oneof![Just(1_usize), Just(3), Just(10_000)],
        ops in prop::collection::vec(op(), 1..60),
    ) {
        let mut world = World::new(values * VALUE_BYTES, learned);
        for op in &ops {
            world.run(op);
            world.check();
        }
    }

    #[test]
    fn with_room_what_was_fetched_is_known_until_its_block_is_gone(ops in prop::collection::vec(op(), 1..60)) {
        let mut world = World::new(10_000 * VALUE_BYTES, 10_000);
        for op in &ops {
            world.run(op);
            let Op::Fetch(block, key) = op else { continue };
            let at = &world.blocks[block % world.blocks.len()];
            let keys = at.keys();
            let key = keys[key % keys.len()];
            let read = world.cache.read(at.block.head.hash, at.block.head.number, &key);
            prop_assert_ne!(read, Lookup::Missing);
        }
    }
}

/// A world where everything is known at the tip.
fn known(max_values: usize) -> World {
    let mut world = World::new(10_000 * VALUE_BYTES, max_values);
    for key in 0..world.tip().keys().len() {
        world.run(&Op::Fetch(0, key));
    }
    world
}

fn read(world: &World, block: usize, key: StateKey) -> Lookup {
    let head = &world.blocks[block].block.head;
    world.cache.read(head.hash, head.number, &key)
}

#[test]
fn what_is_executed_needs_no_fetching_forward_or_back() {
    let mut world = known(10_000);
    let key = StateKey::Storage(address(0), U256::ZERO);
    world.run(&Op::Forward([(0, Change::Write(0, 3))].into()));
    world.run(&Op::Forward([(1, Change::Pay(5))].into()));
    assert_eq!(read(&world, 2, key), Lookup::Known(Value::Slot(U256::from(3))));
    assert_eq!(read(&world, 0, key), Lookup::Known(Value::Slot(U256::from(77))), "two blocks back");
    world.run(&Op::Back);
    world.run(&Op::Back);
    assert_eq!(read(&world, 0, key), Lookup::Known(Value::Slot(U256::from(77))));
    assert_eq!(read(&world, 2, key), Lookup::Outside);
    world.check();
}

#[test]
fn a_block_that_is_not_the_tips_child_changes_nothing() {
    let world = known(10_000);
    let stray = WindowBlock { head: ParentBlock { number: 11, ..ParentBlock::default() }, ..WindowBlock::default() };
    assert!(!world.cache.advance(stray.clone(), &StateChanges::default()));
    assert!(!world.cache.advance_blind(stray, Doubt::Everything, true));
    assert_eq!(world.cache.newest(), world.tip().block);
    assert_ne!(read(&world, 0, StateKey::Account(address(0))), Lookup::Missing);
}

#[test]
fn the_storage_of_a_destroyed_account_is_not_taken_for_that_of_its_successor() {
    let mut world = known(10_000);
    let key = StateKey::Storage(address(0), U256::ZERO);
    world.run(&Op::Forward([(0, Change::Destroy)].into()));
    assert_eq!(read(&world, 1, key), Lookup::Missing);
    assert_eq!(read(&world, 0, key), Lookup::Missing, "what it was is not kept, and not guessed");
    world.run(&Op::Fetch(0, 1));
    assert_eq!(read(&world, 0, key), Lookup::Known(Value::Slot(U256::from(77))));
    assert_eq!(read(&world, 1, key), Lookup::Missing);
}

#[test]
fn an_account_that_did_not_exist_may_exist_after_a_block_of_which_only_the_touched_accounts_are_known() {
    let mut world = known(10_000);
    let keys = [StateKey::Account(address(1)), StateKey::Storage(address(1), U256::ZERO)];
    assert_eq!(keys.map(|key| read(&world, 0, key)), [Value::Account(None), Value::Slot(U256::ZERO)].map(Lookup::Known));
    world.run(&Op::Blind([(1, Change::Create(0, 3))].into(), Some(BTreeSet::new()), false));
    assert_eq!(keys.map(|key| read(&world, 1, key)), [Lookup::Missing, Lookup::Missing]);
    let untouched = StateKey::Storage(address(0), U256::ZERO);
    assert_eq!(read(&world, 1, untouched), Lookup::Known(Value::Slot(U256::from(77))));
}

#[test]
fn the_parent_of_the_first_block_is_known_after_that_block_left_the_window() {
    let mut world = World::new(10_000 * VALUE_BYTES, 10_000);
    let key = StateKey::BlockHash(9);
    let before = read(&world, 0, key);
    assert_ne!(before, Lookup::Missing);
    for _ in 0..=MAX_REORG {
        world.run(&Op::Forward(Changes::new()));
    }
    assert_eq!(read(&world, 0, key), Lookup::Outside);
    assert_eq!(read(&world, world.blocks.len() - 1, key), before);
}

#[test]
fn what_goes_for_want_of_room_is_counted() {
    let mut world = World::new(4 * VALUE_BYTES, 10_000);
    for key in 0..world.tip().keys().len() {
        world.run(&Op::Fetch(0, key));
    }
    let stats = world.cache.stats();
    assert!(stats.evicted > 0, "{stats:?}");
    let mut roomy = known(10_000);
    roomy.run(&Op::Forward([(0, Change::Write(0, 3)), (1, Change::Pay(5))].into()));
    assert_eq!(roomy.cache.stats().evicted, 0, "what is replaced did not go for want of room");
    assert!(stats.bytes <= 4 * VALUE_BYTES, "{stats:?}");
}

#[test]
fn readers_never_see_two_blocks_mixed_while_the_tip_moves() {
    // Both accounts always change together; a reader of one block must never see them differ.
    let pair = [StateKey::Account(address(0)), StateKey::Account(address(1))];
    let limits = RemoteLimits { max_reorg: MAX_REORG, ..RemoteLimits::default() };
    let head = |number: u64| ParentBlock { hash: keccak256(number.to_be_bytes()), number, ..ParentBlock::default() };
    let block = |number: u64| WindowBlock { head: head(number), parent: head(number - 1).hash, transactions: Vec::new() };
    let account = |number: u64| Account { nonce: number, ..Account::default() };
    let cache = StateCache::new(901, &limits, block(1));
    let tip = head(1);
    cache.insert(tip.hash, 1, &pair.map(|key| (key, Value::Account(Some(account(1))))));
    let changes = |number: u64| {
        let change = AccountChange { account: Some(Some(account(number))), ..AccountChange::default() };
        let accounts = [0, 1].map(|index| (address(index), change.clone()));
        StateChanges { accounts: accounts.into(), ..StateChanges::default() }
    };
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut seen = 0_u64;
                    while cache.newest().head.number < 400 {
                        let at = cache.newest().head;
                        for key in pair {
                            if let Lookup::Known(value) = cache.read(at.hash, at.number, &key) {
                                assert_eq!(value, Value::Account(Some(account(at.number))));
                                seen += 1;
                            }
                        }
                    }
                    seen
                })
            })
            .collect();
        for number in 2..=400 {
            assert!(cache.advance(block(number), &changes(number)));
            if number % 3 == 0 {
                assert_eq!(cache.retreat(), Some(block(number)));
                assert!(cache.advance(block(number), &changes(number)));
            }
        }
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

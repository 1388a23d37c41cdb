//! Writes on top of a read-only state, with an undo log.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use alloy_primitives::{
    Address, B256, U256, keccak256,
    map::{AddressMap, B256Map, FbBuildHasher, HashMap},
};
use revm::{
    Database,
    state::{Account as EvmAccount, AccountInfo, EvmState},
};

use crate::{Account, AccountWrite, BalanceWrite, Code, Footprint, MemoryState, StateError, StateView};

/// What a block changed in one account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountChange {
    /// The account afterwards; `Some(None)` when it no longer exists; `None` when only storage changed.
    pub account: Option<Option<Account>>,
    /// Whether all storage from before is gone (the account was created anew or destroyed).
    pub storage_cleared: bool,
    /// The changed slots.
    pub storage: BTreeMap<U256, U256>,
}

/// What a block changed, in canonical order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateChanges {
    /// By account.
    pub accounts: BTreeMap<Address, AccountChange>,
    /// New code by hash.
    pub code: BTreeMap<B256, Code>,
}

impl StateChanges {
    /// Keccak-256 over the changes in canonical order. Equal digests mean equal post-states of equal parents.
    pub fn digest(&self) -> B256 {
        let mut bytes = Vec::new();
        for (address, change) in &self.accounts {
            bytes.extend_from_slice(address.as_slice());
            bytes.push(u8::from(change.storage_cleared));
            match &change.account {
                None => bytes.push(0),
                Some(None) => bytes.push(1),
                Some(Some(account)) => {
                    bytes.push(2);
                    bytes.extend_from_slice(&account.balance.to_be_bytes::<32>());
                    bytes.extend_from_slice(&account.nonce.to_be_bytes());
                    bytes.extend_from_slice(account.code_hash.as_slice());
                }
            }
            bytes.extend_from_slice(&(change.storage.len() as u64).to_be_bytes());
            for (slot, value) in &change.storage {
                bytes.extend_from_slice(&slot.to_be_bytes::<32>());
                bytes.extend_from_slice(&value.to_be_bytes::<32>());
            }
        }
        keccak256(bytes)
    }
}

/// Writes of a transaction that room is made for in advance: its sender, whom it pays, and whoever gets fees.
const UNDO_PER_TX: usize = 6;

/// By slot. A slot's number is as good as a hash for most purposes, so hashing it is no more than mixing its 32 bytes.
type Slots = HashMap<U256, U256, FbBuildHasher<32>>;

/// The inverse of one write.
#[derive(Clone, Debug)]
enum Undo {
    Account(Address, Option<Option<Account>>),
    Slot(Address, U256, Option<U256>),
    Cleared(Address, bool, Option<Slots>),
}

/// A state that is written to without touching the state below it.
#[derive(Clone, Debug)]
pub struct Overlay {
    base: Arc<dyn StateView>,
    accounts: AddressMap<Option<Account>>,
    storage: AddressMap<Slots>,
    cleared: AddressMap<bool>,
    code: B256Map<Code>,
    undo: Vec<Undo>,
}

impl Overlay {
    /// Nothing written yet.
    pub fn new(base: Arc<dyn StateView>) -> Self {
        Self {
            base,
            accounts: AddressMap::default(),
            storage: AddressMap::default(),
            cleared: AddressMap::default(),
            code: B256Map::default(),
            undo: Vec::new(),
        }
    }

    /// What stands where an overlay was while it is lent out.
    pub(crate) fn nowhere() -> Self {
        static EMPTY: LazyLock<Arc<dyn StateView>> = LazyLock::new(|| Arc::new(MemoryState::new()));
        Self::new(Arc::clone(&EMPTY))
    }

    /// The state below.
    pub fn base(&self) -> &Arc<dyn StateView> {
        &self.base
    }

    /// The same state with nothing left to undo.
    pub(crate) fn settled(&self) -> Self {
        Self {
            base: Arc::clone(&self.base),
            accounts: self.accounts.clone(),
            storage: self.storage.clone(),
            cleared: self.cleared.clone(),
            code: self.code.clone(),
            undo: Vec::new(),
        }
    }

    /// Makes room for what so many transactions write at the least.
    pub(crate) fn expect_writes(&mut self, transactions: usize) {
        self.accounts.reserve(transactions);
        self.undo.reserve(transactions.saturating_mul(UNDO_PER_TX));
    }

    /// A point to return to.
    pub(crate) fn mark(&self) -> usize {
        self.undo.len()
    }

    /// The accounts written since `mark`, by address, each with the balance that it had then.
    ///
    /// # Errors
    /// When the state below cannot be read.
    pub(crate) fn written_since(&self, mark: usize) -> Result<Vec<(Address, U256)>, StateError> {
        let mut before: Vec<(Address, U256)> = Vec::new();
        for undo in self.undo.iter().skip(mark) {
            if let Undo::Account(address, was) = undo {
                let was = match was {
                    Some(account) => *account,
                    None => self.base.account(*address)?,
                };
                before.push((*address, was.map_or(U256::ZERO, |account| account.balance)));
            }
        }
        // Of several the first is what was there before.
        before.sort_by_key(|(address, _)| *address);
        before.dedup_by_key(|(address, _)| *address);
        Ok(before)
    }

    /// Undoes every write since `mark`.
    pub(crate) fn rewind(&mut self, mark: usize) {
        while self.undo.len() > mark {
            match self.undo.pop() {
                Some(Undo::Account(address, before)) => restore(&mut self.accounts, address, before),
                Some(Undo::Slot(address, slot, before)) => restore(self.storage.entry(address).or_default(), slot, before),
                Some(Undo::Cleared(address, was_cleared, slots)) => {
                    restore(&mut self.cleared, address, was_cleared.then_some(true));
                    restore(&mut self.storage, address, slots);
                }
                None => {}
            }
        }
    }

    /// Writes an account; an empty one is removed (EIP-161).
    pub(crate) fn write_account(&mut self, address: Address, account: Option<Account>) {
        let account = account.filter(|account| !account.is_empty());
        let before = self.accounts.insert(address, account);
        self.undo.push(Undo::Account(address, before));
    }

    /// Takes over what a transaction did.
    #[expect(clippy::iter_over_hash_type, reason = "accounts are written apart, so their order shows nowhere")]
    pub(crate) fn commit(&mut self, state: EvmState) {
        for (address, account) in state {
            if account.is_touched() {
                self.commit_account(address, account);
            }
        }
    }

    #[expect(clippy::iter_over_hash_type, reason = "slots are written apart, so their order shows nowhere")]
    fn commit_account(&mut self, address: Address, account: EvmAccount) {
        if account.is_selfdestructed() {
            self.clear_storage(address);
            self.write_account(address, None);
            return;
        }
        if account.is_created() {
            self.clear_storage(address);
        }
        for (slot, value) in &account.storage {
            if value.is_changed() {
                let before = self.storage.entry(address).or_default().insert(*slot, value.present_value());
                self.undo.push(Undo::Slot(address, *slot, before));
            }
        }
        let info = account.info;
        if let Some(code) = info.code.filter(|code| !code.is_empty()) {
            // Keyed by hash, so it need not be undone: nothing refers to it after a rewind.
            self.code.entry(info.code_hash).or_insert(code);
        }
        self.write_account(address, Some(Account { balance: info.balance, nonce: info.nonce, code_hash: info.code_hash }));
    }

    /// Credits an account with an amount in wei.
    pub(crate) fn credit(&mut self, address: Address, amount: U256) -> Result<Account, StateError> {
        let before = self.account(address)?.unwrap_or_default();
        self.write_account(address, Some(Account { balance: before.balance.saturating_add(amount), ..before }));
        Ok(before)
    }

    /// An account as it was written here; `None` when it was not.
    pub(crate) fn written_account(&self, address: Address) -> Option<Option<Account>> {
        self.accounts.get(&address).copied()
    }

    /// Code that came with what was written here.
    pub(crate) fn new_code(&self, hash: B256) -> Option<Code> {
        self.code.get(&hash).cloned()
    }

    /// Whether what was found is still there. What was found on the block as it opened can only have changed by what was
    /// written since, so that the state below need not be asked.
    ///
    /// # Errors
    /// When the state below cannot be read.
    pub(crate) fn holds(&self, found: &Footprint) -> Result<bool, StateError> {
        for read in &found.accounts_read {
            let account = match self.accounts.get(&read.address) {
                Some(account) => *account,
                None if found.at_opening => continue,
                None => self.base.account(read.address)?,
            };
            let (exists, account) = (account.is_some_and(|account| !account.is_empty()), account.unwrap_or_default());
            let same = exists == read.exists
                && account.code_hash == read.code_hash
                && read.nonce.is_none_or(|nonce| nonce == account.nonce)
                && read.balance.is_none_or(|balance| balance == account.balance);
            if !same {
                return Ok(false);
            }
        }
        let mut slots: Option<(Address, Option<&Slots>)> = None;
        for (address, slot, value) in &found.slots_read {
            let of_account = match slots {
                Some((of, slots)) if of == *address => slots,
                _ => self.storage.get(address),
            };
            slots = Some((*address, of_account));
            let now = match of_account.and_then(|slots| slots.get(slot)) {
                Some(now) => *now,
                None if !self.cleared.is_empty() && self.cleared.contains_key(address) => U256::ZERO,
                None if found.at_opening => continue,
                None => self.base.storage(*address, *slot)?,
            };
            if now != *value {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes what was written before, where [`Overlay::holds`].
    ///
    /// # Errors
    /// When the state below cannot be read; then nothing is written.
    pub(crate) fn write(&mut self, found: &Footprint) -> Result<(), StateError> {
        let mark = self.mark();
        for written in &found.accounts_written {
            let before = match self.account(written.address) {
                Ok(before) => before.unwrap_or_default(),
                Err(error) => {
                    self.rewind(mark);
                    return Err(error);
                }
            };
            let balance = match written.balance {
                None => before.balance,
                Some(BalanceWrite::Add(rise)) => before.balance.saturating_add(rise),
                Some(BalanceWrite::Set(balance)) => balance,
            };
            let code_hash = self.take_code(written, before.code_hash);
            let nonce = written.nonce.unwrap_or(before.nonce);
            self.write_account(written.address, Some(Account { balance, nonce, code_hash }));
        }
        for (address, slot, value) in &found.slots_written {
            let before = self.storage.entry(*address).or_default().insert(*slot, *value);
            self.undo.push(Undo::Slot(*address, *slot, before));
        }
        Ok(())
    }

    /// The code that an account has afterwards, which is there from here on.
    fn take_code(&mut self, written: &AccountWrite, before: B256) -> B256 {
        let Some((hash, code)) = &written.code else { return before };
        if let Some(code) = code {
            self.code.entry(*hash).or_insert_with(|| code.clone());
        }
        *hash
    }

    /// Makes the same changes to what is there as were made to what was found: what rose by one rises by one.
    ///
    /// # Errors
    /// When the state below cannot be read.
    pub(crate) fn repeat(&mut self, found: &Footprint) -> Result<(), StateError> {
        for written in &found.accounts_written {
            let read = found.accounts_read.binary_search_by_key(&written.address, |read| read.address).ok();
            let read = read.and_then(|index| found.accounts_read.get(index));
            let before = self.account(written.address)?.unwrap_or_default();
            let balance = match written.balance {
                None => before.balance,
                Some(BalanceWrite::Add(rise)) => before.balance.saturating_add(rise),
                Some(BalanceWrite::Set(after)) => {
                    let was = read.and_then(|read| read.balance).unwrap_or_default();
                    before.balance.wrapping_add(after.wrapping_sub(was))
                }
            };
            let was = read.and_then(|read| read.nonce).unwrap_or(before.nonce);
            let nonce = written.nonce.map_or(before.nonce, |after| before.nonce.wrapping_add(after.wrapping_sub(was)));
            let code_hash = self.take_code(written, before.code_hash);
            self.write_account(written.address, Some(Account { balance, nonce, code_hash }));
        }
        for (address, slot, after) in &found.slots_written {
            let read = found.slots_read.binary_search_by_key(&(*address, *slot), |(address, slot, _)| (*address, *slot)).ok();
            let was = read.and_then(|index| found.slots_read.get(index)).map_or(U256::ZERO, |(.., was)| *was);
            let value = self.storage(*address, *slot)?.wrapping_add(after.wrapping_sub(was));
            let before = self.storage.entry(*address).or_default().insert(*slot, value);
            self.undo.push(Undo::Slot(*address, *slot, before));
        }
        Ok(())
    }

    fn clear_storage(&mut self, address: Address) {
        let was_cleared = self.cleared.insert(address, true).unwrap_or(false);
        let slots = self.storage.remove(&address);
        self.undo.push(Undo::Cleared(address, was_cleared, slots));
    }

    /// The account with the least address that is another one here than in another overlay; `None` where both are the same
    /// state.
    ///
    /// # Errors
    /// When a state below cannot be read.
    #[expect(clippy::iter_over_hash_type, reason = "the least address is found, in whatever order they are looked at")]
    pub fn first_difference(&self, other: &Self) -> Result<Option<Address>, StateError> {
        let mut first: Option<Address> = None;
        let mut note = |address: Address| first = Some(first.map_or(address, |known| known.min(address)));
        for (one, two) in [(self, other), (other, self)] {
            for (address, account) in &one.accounts {
                if *account != two.account(*address)? {
                    note(*address);
                }
            }
            one.cleared.keys().filter(|address| !two.cleared.contains_key(*address)).for_each(|address| note(*address));
            for (address, slots) in &one.storage {
                let there = two.storage.get(address);
                for (slot, value) in slots {
                    let written = there.and_then(|slots| slots.get(slot)).copied();
                    if *value != written.map_or_else(|| two.storage(*address, *slot), Ok)? {
                        note(*address);
                    }
                }
            }
        }
        Ok(first)
    }

    /// Everything that differs from the state below.
    ///
    /// # Errors
    /// When the state below cannot be read.
    pub fn changes(&self) -> Result<StateChanges, StateError> {
        let mut changes = StateChanges::default();
        let accounts: BTreeMap<_, _> = self.accounts.iter().collect();
        for (address, account) in accounts {
            if *account != self.base.account(*address)? {
                changes.accounts.entry(*address).or_default().account = Some(*account);
            }
            if let Some(account) = account
                && let Some(code) = self.code.get(&account.code_hash)
            {
                changes.code.insert(account.code_hash, code.clone());
            }
        }
        let cleared: BTreeMap<_, _> = self.cleared.iter().collect();
        for address in cleared.into_keys() {
            changes.accounts.entry(*address).or_default().storage_cleared = true;
        }
        let storage: BTreeMap<_, _> = self.storage.iter().collect();
        for (address, slots) in storage {
            let cleared = self.cleared.contains_key(address);
            let slots: BTreeMap<_, _> = slots.iter().collect();
            for (slot, value) in slots {
                let before = if cleared { U256::ZERO } else { self.base.storage(*address, *slot)? };
                if *value != before {
                    changes.accounts.entry(*address).or_default().storage.insert(*slot, *value);
                }
            }
        }
        Ok(changes)
    }
}

fn restore<K: std::hash::Hash + Eq, V, S: std::hash::BuildHasher>(map: &mut HashMap<K, V, S>, key: K, before: Option<V>) {
    match before {
        Some(value) => {
            map.insert(key, value);
        }
        None => {
            map.remove(&key);
        }
    }
}

impl StateView for Overlay {
    fn account(&self, address: Address) -> Result<Option<Account>, StateError> {
        match self.accounts.get(&address) {
            Some(account) => Ok(*account),
            None => self.base.account(address),
        }
    }

    fn code(&self, hash: B256) -> Result<Code, StateError> {
        match self.code.get(&hash) {
            Some(code) => Ok(code.clone()),
            None => self.base.code(hash),
        }
    }

    fn storage(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        if let Some(value) = self.storage.get(&address).and_then(|slots| slots.get(&slot)) {
            return Ok(*value);
        }
        if self.cleared.contains_key(&address) {
            return Ok(U256::ZERO);
        }
        self.base.storage(address, slot)
    }

    fn block_hash(&self, number: u64) -> Result<B256, StateError> {
        self.base.block_hash(number)
    }
}

/// The face that revm reads.
#[derive(Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a dyn StateView);

impl Database for Reader<'_> {
    type Error = StateError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        account_info(self.0, address)
    }

    fn code_by_hash(&mut self, hash: B256) -> Result<Code, StateError> {
        self.0.code(hash)
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, StateError> {
        self.0.storage(address, slot)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, StateError> {
        self.0.block_hash(number)
    }
}

/// An account as revm wants it, code included.
pub(crate) fn account_info(state: &(impl StateView + ?Sized), address: Address) -> Result<Option<AccountInfo>, StateError> {
    let Some(account) = state.account(address)? else { return Ok(None) };
    let code = if account.has_code() { state.code(account.code_hash)? } else { Code::default() };
    Ok(Some(AccountInfo {
        balance: account.balance,
        nonce: account.nonce,
        code_hash: account.code_hash,
        code: Some(code),
        ..AccountInfo::default()
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[derive(Clone, Debug)]
    enum Write {
        Balance(u8, u64),
        Slot(u8, u64, u64),
        Clear(u8),
    }

    fn write() -> impl Strategy<Value = Write> {
        prop_oneof![
            4 => (0_u8..4, 0_u64..3).prop_map(|(account, balance)| Write::Balance(account, balance)),
            4 => (0_u8..4, 0_u64..3, 0_u64..3).prop_map(|(account, slot, value)| Write::Slot(account, slot, value)),
            1 => (0_u8..4).prop_map(Write::Clear),
        ]
    }

    /// A state where some have something.
    fn base() -> Arc<dyn StateView> {
        let mut state = MemoryState::new();
        for number in 0..3 {
            state.set_account(Address::repeat_byte(number), U256::from(number), 0, alloy_primitives::Bytes::new());
            state.set_storage(Address::repeat_byte(number), U256::from(1), U256::from(number));
        }
        Arc::new(state)
    }

    fn written(base: &Arc<dyn StateView>, writes: &[Write]) -> Overlay {
        let mut overlay = Overlay::new(Arc::clone(base));
        for write in writes {
            match *write {
                Write::Balance(account, balance) => {
                    let account_of = Account { balance: U256::from(balance), ..Account::default() };
                    overlay.write_account(Address::repeat_byte(account), Some(account_of));
                }
                Write::Slot(account, slot, value) => {
                    let slots_written = vec![(Address::repeat_byte(account), U256::from(slot), U256::from(value))];
                    overlay.write(&Footprint { slots_written, ..Footprint::default() }).unwrap();
                }
                Write::Clear(account) => overlay.clear_storage(Address::repeat_byte(account)),
            }
        }
        overlay
    }

    proptest! {
        #[test]
        fn two_overlays_differ_where_their_changes_do(one in vec(write(), 0..8), more in vec(write(), 0..4), same in any::<bool>()) {
            let base = base();
            let other = if same { one.clone() } else { [one.clone(), more].concat() };
            let (one, other) = (written(&base, &one), written(&base, &other));
            let (a, b) = (one.changes().unwrap().accounts, other.changes().unwrap().accounts);
            let touched: BTreeSet<Address> = a.keys().chain(b.keys()).copied().collect();
            let expected = touched.into_iter().find(|address| a.get(address) != b.get(address));
            prop_assert_eq!(one.first_difference(&other).unwrap(), expected);
            prop_assert_eq!(other.first_difference(&one).unwrap(), expected);
        }
    }
}

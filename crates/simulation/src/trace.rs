//! What a stretch of a block read and wrote.

use std::collections::hash_map::Entry;

use alloy_primitives::{Address, B256, U256, map::HashMap};
use revm::state::{AccountInfo, EvmState};

use crate::{Account, Code, Overlay, StateView, machine::Seen, room::Room};

/// A part of the state that results can depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StatePart {
    /// An account's balance.
    Balance(Address),
    /// An account's nonce.
    Nonce(Address),
    /// An account's code.
    Code(Address),
    /// Whether an account exists (EIP-161).
    Existence(Address),
    /// A storage slot.
    Slot(Address, U256),
}

/// How a part of the state was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartUse {
    /// Something depends on its value.
    Read,
    /// It rose by an amount, and nothing depends on its value: two that only add do not notice each other.
    Add,
    /// It has another value now, which depends on what was there.
    Write,
}

/// What was found out of an account. What is `None` decided over nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountRead {
    /// The account.
    pub address: Address,
    /// Whether it existed.
    pub exists: bool,
    /// Its code.
    pub code_hash: B256,
    /// Its nonce.
    pub nonce: Option<u64>,
    /// Its balance in wei.
    pub balance: Option<U256>,
}

/// What became of a balance, in wei.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BalanceWrite {
    /// It rose by this much.
    Add(U256),
    /// It is this now.
    Set(U256),
}

/// What became of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountWrite {
    /// The account.
    pub address: Address,
    /// Its balance, if it changed.
    pub balance: Option<BalanceWrite>,
    /// Its nonce, if it changed.
    pub nonce: Option<u64>,
    /// Its code, if it changed; `None` in it when that is no new one.
    pub code: Option<(B256, Option<Code>)>,
}

/// What a stretch of a block read and wrote, in canonical order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Accounts as they were found.
    pub accounts_read: Vec<AccountRead>,
    /// Slots as they were found.
    pub slots_read: Vec<(Address, U256, U256)>,
    /// What became of accounts.
    pub accounts_written: Vec<AccountWrite>,
    /// What became of slots.
    pub slots_written: Vec<(Address, U256, U256)>,
    /// Whether anything of the block itself was looked at: number, time, fees, hashes.
    pub environment: bool,
    /// Whether the writes say everything. They do not where an account was created or destroyed.
    pub complete: bool,
    /// Whether it was found on the block as it opened, with nothing but what was forced in it.
    pub at_opening: bool,
}

impl Footprint {
    /// The parts that were used, each with every way in which it was.
    pub fn parts(&self) -> impl Iterator<Item = (StatePart, PartUse)> {
        let read = self.accounts_read.iter().flat_map(|read| {
            let address = read.address;
            let code = Some((StatePart::Code(address), PartUse::Read));
            let nonce = read.nonce.map(|_| (StatePart::Nonce(address), PartUse::Read));
            let balance = read.balance.map(|_| (StatePart::Balance(address), PartUse::Read));
            // What exists once does not cease to, but by being destroyed, which its code tells.
            let existence = (!read.exists).then_some((StatePart::Existence(address), PartUse::Read));
            [code, nonce, balance, existence].into_iter().flatten()
        });
        let slots = self.slots_read.iter().map(|(address, slot, _)| (StatePart::Slot(*address, *slot), PartUse::Read));
        let absent = |address: Address| {
            let found = self.accounts_read.binary_search_by_key(&address, |read| read.address);
            found.ok().and_then(|index| self.accounts_read.get(index)).is_some_and(|read| !read.exists)
        };
        let written = self.accounts_written.iter().flat_map(move |written| {
            let address = written.address;
            let balance = written.balance.map(|balance| match balance {
                BalanceWrite::Add(_) => (StatePart::Balance(address), PartUse::Add),
                BalanceWrite::Set(_) => (StatePart::Balance(address), PartUse::Write),
            });
            let nonce = written.nonce.map(|_| (StatePart::Nonce(address), PartUse::Write));
            let code = written.code.as_ref().map(|_| (StatePart::Code(address), PartUse::Write));
            let existence = absent(address).then_some((StatePart::Existence(address), PartUse::Write));
            [balance, nonce, code, existence].into_iter().flatten()
        });
        let stored = self.slots_written.iter().map(|(address, slot, _)| (StatePart::Slot(*address, *slot), PartUse::Write));
        read.chain(slots).chain(written).chain(stored)
    }
}

#[derive(Clone, Copy, Debug)]
struct AccountNote {
    /// As it was when the trace began.
    before: Account,
    /// Whether the EVM looked at it: an account that only fees went to was not looked at.
    read: bool,
    nonce: bool,
    balance: bool,
    written: bool,
}

#[derive(Clone, Copy, Debug)]
struct SlotNote {
    before: U256,
    written: bool,
}

/// Takes down what transactions read and write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace {
    accounts: HashMap<Address, AccountNote>,
    slots: HashMap<(Address, U256), SlotNote>,
    environment: bool,
    incomplete: bool,
    at_opening: bool,
    /// Where in the undo log of the state it began.
    mark: usize,
    /// What all transactions may have taken, those that were refused or undone included.
    tried: Room,
}

impl Trace {
    /// Begins anew at a mark of the state.
    pub(crate) fn begin(&mut self, mark: usize, at_opening: bool) {
        self.accounts.clear();
        self.slots.clear();
        (self.mark, self.at_opening) = (mark, at_opening);
        (self.environment, self.incomplete, self.tried) = (false, false, Room::default());
    }

    pub(crate) const fn began_at(&self) -> usize {
        self.mark
    }

    /// The accounts that were written, by address, each with the balance that it had before.
    #[expect(clippy::iter_over_hash_type, reason = "everything is sorted afterwards")]
    pub(crate) fn written(&self) -> Vec<(Address, U256)> {
        let mut written = Vec::with_capacity(self.accounts.len());
        for (address, note) in &self.accounts {
            if note.written {
                written.push((*address, note.before.balance));
            }
        }
        written.sort_unstable_by_key(|(address, _)| *address);
        written
    }

    /// Takes down that a transaction was tried that may take this much.
    pub(crate) fn try_room(&mut self, room: Room) {
        self.tried = self.tried.and(room);
    }

    /// What all transactions that were tried may take together.
    pub(crate) const fn tried(&self) -> Room {
        self.tried
    }

    /// Takes down a transaction, before its changes are taken over. `nonces`: whether it may have looked at any nonce.
    #[expect(clippy::iter_over_hash_type, reason = "notes are kept apart, so their order shows nowhere")]
    pub(crate) fn note(&mut self, sender: Address, nonces: bool, state: &EvmState, seen: &Seen) {
        self.environment |= seen.environment;
        for (address, account) in state {
            let before = account_of(&account.original_info);
            let note = self.accounts.entry(*address).or_insert_with(|| AccountNote::of(before));
            note.read = true;
            let payer = *address == sender || account.info.balance < before.balance;
            note.balance |= payer || seen.balances.contains(address);
            note.nonce |= *address == sender || nonces || seen.nonces || account.info.nonce != before.nonce;
            note.written |= account.is_touched();
            if account.is_touched() && (account.is_created() || account.is_selfdestructed()) {
                self.incomplete = true;
                (note.nonce, note.balance) = (true, true);
            }
            if account.is_created() {
                continue;
            }
            for (slot, value) in &account.storage {
                let written = account.is_touched() && value.is_changed();
                match self.slots.entry((*address, *slot)) {
                    Entry::Occupied(mut note) => note.get_mut().written |= written,
                    Entry::Vacant(note) => {
                        note.insert(SlotNote { before: value.original_value(), written });
                    }
                }
            }
        }
    }

    /// Takes down that an account, as it is before that, is credited with something that nobody asked it about.
    pub(crate) fn credit(&mut self, address: Address, before: Account) {
        self.accounts.entry(address).or_insert_with(|| AccountNote::of(before)).written = true;
    }

    /// Takes down that a balance was looked at.
    pub(crate) fn look(&mut self, address: Address, before: Account) {
        let note = self.accounts.entry(address).or_insert_with(|| AccountNote::of(before));
        (note.read, note.balance) = (true, true);
    }

    /// Takes down what a read touched. Nobody watched what it looked at, so it is taken to have looked at everything.
    pub(crate) fn overlook(&mut self, state: &EvmState) {
        let balances = state.keys().copied().collect();
        self.note(Address::ZERO, true, state, &Seen { balances, nonces: true, environment: true });
    }

    /// Takes down that a transaction was refused for what its sender is.
    pub(crate) fn refuse(&mut self, sender: Address, before: Account) {
        let note = self.accounts.entry(sender).or_insert_with(|| AccountNote::of(before));
        (note.read, note.nonce, note.balance) = (true, true, true);
    }

    /// What it comes to, in the state at its end.
    #[expect(clippy::iter_over_hash_type, reason = "everything is sorted afterwards")]
    pub(crate) fn finish(&self, state: &Overlay) -> Footprint {
        let mut footprint = Footprint {
            environment: self.environment,
            complete: !self.incomplete,
            at_opening: self.at_opening,
            accounts_read: Vec::with_capacity(self.accounts.len()),
            accounts_written: Vec::with_capacity(self.accounts.len()),
            slots_read: Vec::with_capacity(self.slots.len()),
            slots_written: Vec::new(),
        };
        for (address, note) in &self.accounts {
            let (address, before) = (*address, note.before);
            let exists = !before.is_empty();
            // Who is only credited with fees was not looked at.
            if note.read {
                footprint.accounts_read.push(AccountRead {
                    address,
                    exists,
                    code_hash: before.code_hash,
                    nonce: note.nonce.then_some(before.nonce),
                    balance: note.balance.then_some(before.balance),
                });
            }
            if let Some(after) = state.written_account(address).filter(|_| note.written) {
                let after = after.unwrap_or_default();
                let code = (after.code_hash != before.code_hash).then(|| (after.code_hash, state.new_code(after.code_hash)));
                let balance = match after.balance.checked_sub(before.balance) {
                    Some(rise) if rise.is_zero() => None,
                    Some(rise) if !note.balance => Some(BalanceWrite::Add(rise)),
                    _ => Some(BalanceWrite::Set(after.balance)),
                };
                let nonce = (after.nonce != before.nonce).then_some(after.nonce);
                if balance.is_some() || nonce.is_some() || code.is_some() {
                    footprint.accounts_written.push(AccountWrite { address, balance, nonce, code });
                }
            }
        }
        for ((address, slot), note) in &self.slots {
            footprint.slots_read.push((*address, *slot, note.before));
            if note.written {
                let after = state.storage(*address, *slot).unwrap_or(note.before);
                if after != note.before {
                    footprint.slots_written.push((*address, *slot, after));
                }
            }
        }
        footprint.accounts_read.sort_unstable_by_key(|read| read.address);
        footprint.accounts_written.sort_unstable_by_key(|written| written.address);
        footprint.slots_read.sort_unstable();
        footprint.slots_written.sort_unstable();
        footprint
    }
}

impl AccountNote {
    const fn of(before: Account) -> Self {
        Self { before, read: false, nonce: false, balance: false, written: false }
    }
}

fn account_of(info: &AccountInfo) -> Account {
    Account { balance: info.balance, nonce: info.nonce, code_hash: info.code_hash }
}

//! What a stretch of a block read and wrote.

use alloy_primitives::{Address, B256, I256, U256};
use revm::state::{AccountInfo, EvmState};

use crate::{Account, BalanceChanges, Code, Overlay, StateError, StateView, machine::Seen, room::Room, transfer::Transfer};

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

/// What is taken down of an account.
#[derive(Clone, Copy, Debug)]
struct AccountNote {
    address: Address,
    /// As it was when the trace began.
    before: Account,
    /// As it was written last.
    after: Account,
    /// Whether the EVM looked at it: an account that only fees went to was not looked at.
    read: bool,
    nonce: bool,
    balance: bool,
    written: bool,
}

#[derive(Clone, Copy, Debug)]
struct SlotNote {
    key: (Address, U256),
    before: U256,
    after: U256,
}

/// Takes down what transactions read and write. A bundle touches few accounts, so they are kept in order rather than hashed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace {
    /// By address.
    accounts: Vec<AccountNote>,
    /// By account and slot.
    slots: Vec<SlotNote>,
    environment: bool,
    incomplete: bool,
    at_opening: bool,
    /// Whether anything that was written has been undone since.
    undone: bool,
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
        (self.environment, self.incomplete, self.undone, self.tried) = (false, false, false, Room::default());
    }

    pub(crate) const fn began_at(&self) -> usize {
        self.mark
    }

    /// Takes down that something that was written has been undone.
    pub(crate) const fn undo(&mut self) {
        self.undone = true;
    }

    /// How native balances changed, by address, in the state at its end.
    pub(crate) fn balance_changes(&self, state: &Overlay) -> BalanceChanges {
        let mut changes = BalanceChanges::with_capacity(self.accounts.len());
        for note in &self.accounts {
            let (before, after) =
                (note.before.balance, self.after(note, state).map_or(note.before.balance, |after| after.balance));
            if before != after {
                changes.push((note.address, I256::from_raw(after.wrapping_sub(before))));
            }
        }
        changes
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
    pub(crate) fn note(&mut self, sender: Address, nonces: bool, state: &EvmState, seen: &Seen) {
        self.take_down(sender, nonces, state, seen, true);
    }

    /// Takes down what a transaction looked at that changes nothing: it was refused, or only reads.
    fn look_on(&mut self, sender: Address, state: &EvmState, seen: &Seen) {
        self.take_down(sender, true, state, seen, false);
    }

    #[expect(clippy::iter_over_hash_type, reason = "notes are kept in order, so the order of the accounts shows nowhere")]
    fn take_down(&mut self, sender: Address, nonces: bool, state: &EvmState, seen: &Seen, takes_effect: bool) {
        self.environment |= seen.environment;
        let (accounts, slots) = (self.accounts.len(), self.slots.len());
        for (address, account) in state {
            let before = account_of(&account.original_info);
            let known =
                self.accounts.get(..accounts).and_then(|notes| notes.binary_search_by_key(address, |note| note.address).ok());
            let index = known.unwrap_or_else(|| {
                self.accounts.push(AccountNote::of(*address, before));
                self.accounts.len() - 1
            });
            let note = &mut self.accounts[index];
            note.read = true;
            let payer = *address == sender || account.info.balance < before.balance;
            note.balance |= payer || seen.balances.contains(address);
            note.nonce |= *address == sender || nonces || seen.nonces || account.info.nonce != before.nonce;
            let touched = takes_effect && account.is_touched();
            if touched {
                note.after = if account.is_selfdestructed() { Account::default() } else { account_of(&account.info) };
                note.written = true;
            }
            if account.is_touched() && (account.is_created() || account.is_selfdestructed()) {
                self.incomplete = true;
                (note.nonce, note.balance) = (true, true);
            }
            if account.is_created() {
                continue;
            }
            for (slot, value) in &account.storage {
                let key = (*address, *slot);
                let known = self.slots.get(..slots).and_then(|notes| notes.binary_search_by_key(&key, |note| note.key).ok());
                let index = known.unwrap_or_else(|| {
                    let before = value.original_value();
                    self.slots.push(SlotNote { key, before, after: before });
                    self.slots.len() - 1
                });
                if touched && value.is_changed() {
                    self.slots[index].after = value.present_value();
                }
            }
        }
        if self.accounts.len() > accounts {
            self.accounts.sort_unstable_by_key(|note| note.address);
        }
        if self.slots.len() > slots {
            self.slots.sort_unstable_by_key(|note| note.key);
        }
    }

    /// The note of an account, which is as given where there is none yet.
    fn of(&mut self, address: Address, before: Account) -> &mut AccountNote {
        let index = self.accounts.binary_search_by_key(&address, |note| note.address).unwrap_or_else(|index| {
            self.accounts.insert(index, AccountNote::of(address, before));
            index
        });
        &mut self.accounts[index]
    }

    /// Takes down a plain transfer, which looks at what its sender is and has, and at what its receiver is.
    pub(crate) fn note_transfer(&mut self, transfer: &Transfer) {
        let Transfer { sender, receiver, .. } = transfer;
        for (party, pays) in [(sender, true), (receiver, false)] {
            let note = self.of(party.address, party.before);
            (note.read, note.written, note.after) = (true, true, party.after);
            note.balance |= pays;
            note.nonce |= pays;
        }
    }

    /// Takes down that an account, as it is before that, is credited with something that nobody asked it about.
    pub(crate) fn credit(&mut self, address: Address, before: Account, amount: U256) {
        let note = self.of(address, before);
        let credited = Account { balance: before.balance.saturating_add(amount), ..before };
        (note.after, note.written) = (credited, true);
    }

    /// Takes down that a balance was looked at.
    pub(crate) fn look(&mut self, address: Address, before: Account) {
        let note = self.of(address, before);
        (note.read, note.balance) = (true, true);
    }

    /// Takes down what a read touched. Nobody watched what it looked at, so it is taken to have looked at everything.
    pub(crate) fn overlook(&mut self, state: &EvmState) {
        let balances = state.keys().copied().collect();
        self.look_on(Address::ZERO, state, &Seen { balances, nonces: true, environment: true });
    }

    /// Takes down that a transaction was refused for what its sender is.
    pub(crate) fn refuse(&mut self, sender: Address, before: Account, state: &EvmState, seen: &Seen) {
        self.look_on(sender, state, seen);
        let note = self.of(sender, before);
        (note.read, note.nonce, note.balance) = (true, true, true);
    }

    /// What became of an account; `None` when it was not written. What was undone shows in the state only.
    fn after(&self, note: &AccountNote, state: &Overlay) -> Option<Account> {
        match (note.written, self.undone) {
            (false, _) => None,
            (true, false) => Some(note.after),
            (true, true) => state.written_account(note.address).map(Option::unwrap_or_default),
        }
    }

    /// What it comes to, in the state at its end.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub(crate) fn finish(&self, state: &Overlay) -> Result<Footprint, StateError> {
        let mut footprint = Footprint {
            environment: self.environment,
            complete: !self.incomplete,
            at_opening: self.at_opening,
            accounts_read: Vec::with_capacity(self.accounts.iter().filter(|note| note.read).count()),
            accounts_written: Vec::with_capacity(self.accounts.iter().filter(|note| note.written).count()),
            slots_read: Vec::with_capacity(self.slots.len()),
            slots_written: Vec::with_capacity(self.slots.iter().filter(|note| note.after != note.before).count()),
        };
        for note in &self.accounts {
            let (address, before) = (note.address, note.before);
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
            if let Some(after) = self.after(note, state) {
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
        for SlotNote { key: (address, slot), before, after } in &self.slots {
            footprint.slots_read.push((*address, *slot, *before));
            // What was undone may have been the way back.
            if self.undone || before != after {
                let after = if self.undone { state.storage(*address, *slot)? } else { *after };
                if after != *before {
                    footprint.slots_written.push((*address, *slot, after));
                }
            }
        }
        Ok(footprint)
    }
}

impl AccountNote {
    const fn of(address: Address, before: Account) -> Self {
        Self { address, before, after: before, read: false, nonce: false, balance: false, written: false }
    }
}

fn account_of(info: &AccountInfo) -> Account {
    Account { balance: info.balance, nonce: info.nonce, code_hash: info.code_hash }
}

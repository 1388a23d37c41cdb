//! Whose money is where: deposits, what backs bids, what was paid for what, and what leaves. Double entry, in the numeraire's
//! smallest unit.
//!
//! ```text
//!              deposit             hold                pay
//!   outside ------------> free <----------> held ------------> free of a seller
//!      ^                   |  ^ release
//!      |     withdraw      v  | cancel
//!      +---------------- leaving
//! ```
//!
//! Every step is a [`Posting`] whose entries sum to zero, so what is inside is always what came in minus what went out. A step
//! that would take more than is there is refused and changes nothing.
//!
//! A **hold** is what one bidder may have to pay for one slot: nothing of it can be withdrawn, or back another bid, until the
//! slot's windows are over and it is released. Deposits are numbered from 0 without a gap by whoever keeps the money outside, so
//! that none is credited twice or left out; requests of accounts have nonces that rise.

mod error;
mod posting;

pub use error::LedgerError;
pub use posting::{Account, Posting, PostingKind};

use std::collections::BTreeMap;

use alloy_primitives::{Address, U256};
use lockstep_primitives::SlotNumber;

use crate::MAX_AMOUNT;

/// How many accounts there may be.
pub const MAX_ACCOUNTS: usize = 65_536;

/// How many holds there may be: of all bidders in all slots that are not settled.
pub const MAX_HOLDS: usize = 262_144;

/// How many withdrawals may be under way.
pub const MAX_WITHDRAWALS: usize = 4_096;

/// What one account has, in the numeraire's smallest unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// What it can bid with and withdraw.
    pub free: U256,
    /// What backs its bids.
    pub held: U256,
    /// What is on its way out.
    pub leaving: U256,
    /// The last nonce of its requests; zero before the first one.
    pub nonce: u64,
}

/// For whose bids in which slot an amount is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HoldId {
    /// The slot.
    pub slot: SlotNumber,
    /// Who bids.
    pub bidder: Address,
}

/// Money on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    /// Whose it is.
    pub account: Address,
    /// Where it goes.
    pub to: Address,
    /// How much.
    pub amount: U256,
}

/// Everything that a ledger knows, for storing it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerRecord {
    /// By account.
    pub balances: BTreeMap<Address, Balance>,
    /// What is held for which bids.
    pub holds: BTreeMap<HoldId, U256>,
    /// By number.
    pub withdrawals: BTreeMap<u64, Withdrawal>,
    /// How many deposits were credited, which is the number of the next one.
    pub deposits: u64,
    /// How many postings there were, which is the number of the next one.
    pub postings: u64,
}

/// The money of a market.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    record: LedgerRecord,
    /// What is inside: the sum of all balances.
    inside: U256,
}

impl Ledger {
    /// Nothing has come in.
    pub fn new() -> Self {
        Self::default()
    }

    /// A ledger that was stored.
    ///
    /// # Errors
    /// When it does not balance: what accounts hold or have on its way out is not what the holds and withdrawals say.
    pub fn restore(record: LedgerRecord) -> Result<Self, LedgerError> {
        let mut inside = U256::ZERO;
        let mut held: BTreeMap<Address, U256> = BTreeMap::new();
        let mut leaving: BTreeMap<Address, U256> = BTreeMap::new();
        for (id, amount) in &record.holds {
            let sum = held.entry(id.bidder).or_default();
            *sum = sum.checked_add(*amount).ok_or(LedgerError::Unbalanced { account: id.bidder })?;
        }
        for withdrawal in record.withdrawals.values() {
            let sum = leaving.entry(withdrawal.account).or_default();
            *sum = sum.checked_add(withdrawal.amount).ok_or(LedgerError::Unbalanced { account: withdrawal.account })?;
        }
        for (account, balance) in &record.balances {
            let unbalanced = LedgerError::Unbalanced { account: *account };
            let (held, leaving) = (held.remove(account).unwrap_or_default(), leaving.remove(account).unwrap_or_default());
            if (balance.held, balance.leaving) != (held, leaving) {
                return Err(unbalanced);
            }
            for amount in [balance.free, balance.held, balance.leaving] {
                inside = inside.checked_add(amount).ok_or_else(|| unbalanced.clone())?;
            }
        }
        if let Some((account, _)) = held.into_iter().chain(leaving).find(|(_, amount)| !amount.is_zero()) {
            return Err(LedgerError::Unbalanced { account });
        }
        Ok(Self { record, inside })
    }

    /// Credits a deposit. `number` counts deposits from 0.
    ///
    /// # Errors
    /// When it is not the next one, it is nothing or too much, or there is no room for another account.
    pub fn deposit(&mut self, number: u64, account: Address, amount: U256) -> Result<Posting, LedgerError> {
        let expected = self.record.deposits;
        if number != expected {
            return Err(LedgerError::DepositOutOfOrder { number, expected });
        }
        if amount.is_zero() {
            return Err(LedgerError::Nothing { account });
        }
        let too_much = LedgerError::TooMuch { account, amount };
        if amount > MAX_AMOUNT || account.is_zero() {
            return Err(too_much);
        }
        let inside = self.inside.checked_add(amount).filter(|inside| *inside <= MAX_AMOUNT).ok_or(too_much)?;
        self.open(account)?;
        self.record.deposits = number.saturating_add(1);
        self.inside = inside;
        self.balance_mut(account).free += amount;
        Ok(self.posting(
            PostingKind::Deposit { number },
            None,
            vec![(Account::Outside, amount, false), (Account::Free(account), amount, true)],
        ))
    }

    /// Sets what is held for a bidder's bids in a slot: more, less, or nothing.
    ///
    /// # Errors
    /// When more than before is to be held and the account does not have it free, or there are too many holds.
    pub fn hold(&mut self, id: HoldId, amount: U256) -> Result<Posting, LedgerError> {
        self.check_hold(id, amount)?;
        let before = self.held_for(id);
        let (slot, bidder) = (Some(id.slot), id.bidder);
        let balance = self.balance_mut(bidder);
        balance.free = balance.free + before - amount;
        balance.held = balance.held + amount - before;
        if amount.is_zero() {
            self.record.holds.remove(&id);
        } else {
            self.record.holds.insert(id, amount);
        }
        let (moved, raised) = if amount >= before { (amount - before, true) } else { (before - amount, false) };
        let kind = if raised { PostingKind::Hold } else { PostingKind::Release };
        Ok(self.posting(kind, slot, vec![(Account::Free(bidder), moved, !raised), (Account::Held(bidder), moved, raised)]))
    }

    /// Whether so much can be held for a bidder in a slot.
    ///
    /// # Errors
    /// As [`Ledger::hold`].
    pub fn check_hold(&self, id: HoldId, amount: U256) -> Result<(), LedgerError> {
        let HoldId { slot, bidder } = id;
        let (held, free) = (self.held_for(id), self.balance(bidder).free);
        let Some(more) = amount.checked_sub(held) else { return Ok(()) };
        if more > free {
            return Err(LedgerError::DepositTooSmall { bidder, slot, needed: amount, held, free });
        }
        if !more.is_zero() && held.is_zero() && self.record.holds.len() >= MAX_HOLDS {
            return Err(LedgerError::TooManyHolds { limit: MAX_HOLDS });
        }
        Ok(())
    }

    /// Pays somebody out of a hold.
    ///
    /// # Errors
    /// When the hold is smaller, or there is no room for another account.
    pub fn pay(&mut self, id: HoldId, to: Address, amount: U256, kind: PostingKind) -> Result<Posting, LedgerError> {
        let held = self.held_for(id);
        let left =
            held.checked_sub(amount).ok_or(LedgerError::HoldTooSmall { bidder: id.bidder, slot: id.slot, held, amount })?;
        self.open(to)?;
        let bidder = self.balance_mut(id.bidder);
        bidder.held -= amount;
        self.balance_mut(to).free += amount;
        if left.is_zero() {
            self.record.holds.remove(&id);
        } else {
            self.record.holds.insert(id, left);
        }
        let entries = vec![(Account::Held(id.bidder), amount, false), (Account::Free(to), amount, true)];
        Ok(self.posting(kind, Some(id.slot), entries))
    }

    /// Pays somebody out of what an account has free.
    ///
    /// # Errors
    /// When it has not so much free, or there is no room for another account.
    pub fn transfer(&mut self, from: Address, to: Address, amount: U256, kind: PostingKind) -> Result<Posting, LedgerError> {
        let Balance { free, held, .. } = self.balance(from);
        let left = free.checked_sub(amount).ok_or(LedgerError::NotFree { account: from, amount, free, held })?;
        self.open(to)?;
        self.balance_mut(from).free = left;
        self.balance_mut(to).free += amount;
        Ok(self.posting(kind, None, vec![(Account::Free(from), amount, false), (Account::Free(to), amount, true)]))
    }

    /// Checks the nonce of an account's request.
    ///
    /// # Errors
    /// When it does not rise.
    pub fn check_nonce(&self, account: Address, nonce: u64) -> Result<(), LedgerError> {
        let current = self.balance(account).nonce;
        if nonce <= current {
            return Err(LedgerError::NonceTooLow { account, nonce, current });
        }
        Ok(())
    }

    /// Notes the nonce of a request that was carried out.
    pub(crate) fn use_nonce(&mut self, account: Address, nonce: u64) {
        self.balance_mut(account).nonce = nonce;
    }

    /// Takes an amount out of what an account has free, to be paid outside. Returns the number of the withdrawal.
    ///
    /// # Errors
    /// When the nonce does not rise, it is nothing or more than is free, or too many are under way.
    pub fn withdraw(&mut self, account: Address, to: Address, amount: U256, nonce: u64) -> Result<(u64, Posting), LedgerError> {
        self.check_nonce(account, nonce)?;
        let Balance { free, held, .. } = self.balance(account);
        if amount.is_zero() {
            return Err(LedgerError::Nothing { account });
        }
        if amount > free {
            return Err(LedgerError::NotFree { account, amount, free, held });
        }
        if self.record.withdrawals.len() >= MAX_WITHDRAWALS {
            return Err(LedgerError::TooManyWithdrawals { limit: MAX_WITHDRAWALS });
        }
        let balance = self.balance_mut(account);
        balance.nonce = nonce;
        balance.free -= amount;
        balance.leaving += amount;
        let number = self.record.postings;
        self.record.withdrawals.insert(number, Withdrawal { account, to, amount });
        let entries = vec![(Account::Free(account), amount, false), (Account::Leaving(account), amount, true)];
        Ok((number, self.posting(PostingKind::Withdraw { to }, None, entries)))
    }

    /// Takes out of an account what it took outside by its own way, which no market can refuse.
    ///
    /// # Errors
    /// When it has not so much free: then it took what backs its bids.
    pub fn exit(&mut self, account: Address, amount: U256) -> Result<Posting, LedgerError> {
        let Balance { free, held, .. } = self.balance(account);
        let left = free.checked_sub(amount).ok_or(LedgerError::NotFree { account, amount, free, held })?;
        self.balance_mut(account).free = left;
        self.inside -= amount;
        let entries = vec![(Account::Free(account), amount, false), (Account::Outside, amount, true)];
        Ok(self.posting(PostingKind::Exit, None, entries))
    }

    /// Notes that a withdrawal was paid outside.
    ///
    /// # Errors
    /// When there is no such withdrawal.
    pub fn paid_out(&mut self, number: u64) -> Result<Posting, LedgerError> {
        let Withdrawal { account, amount, .. } = self.take_withdrawal(number)?;
        self.balance_mut(account).leaving -= amount;
        self.inside -= amount;
        let entries = vec![(Account::Leaving(account), amount, false), (Account::Outside, amount, true)];
        Ok(self.posting(PostingKind::PaidOut { number }, None, entries))
    }

    /// Gives a withdrawal back that could not be paid outside.
    ///
    /// # Errors
    /// When there is no such withdrawal.
    pub fn not_paid_out(&mut self, number: u64) -> Result<Posting, LedgerError> {
        let Withdrawal { account, amount, .. } = self.take_withdrawal(number)?;
        let balance = self.balance_mut(account);
        balance.leaving -= amount;
        balance.free += amount;
        let entries = vec![(Account::Leaving(account), amount, false), (Account::Free(account), amount, true)];
        Ok(self.posting(PostingKind::NotPaidOut { number }, None, entries))
    }

    /// What an account has.
    pub fn balance(&self, account: Address) -> Balance {
        self.record.balances.get(&account).copied().unwrap_or_default()
    }

    /// What is held for a bidder's bids in a slot.
    pub fn held_for(&self, id: HoldId) -> U256 {
        self.record.holds.get(&id).copied().unwrap_or_default()
    }

    /// The bidders for whom something is held in a slot.
    pub fn holders(&self, slot: SlotNumber) -> Vec<Address> {
        let first = HoldId { slot, bidder: Address::ZERO };
        self.record.holds.range(first..).take_while(|(id, _)| id.slot == slot).map(|(id, _)| id.bidder).collect()
    }

    /// A withdrawal that is under way.
    pub fn withdrawal(&self, number: u64) -> Option<&Withdrawal> {
        self.record.withdrawals.get(&number)
    }

    /// What is inside: the sum of all balances, which is what came in minus what went out.
    pub const fn inside(&self) -> U256 {
        self.inside
    }

    /// Everything that it knows.
    pub const fn record(&self) -> &LedgerRecord {
        &self.record
    }

    fn take_withdrawal(&mut self, number: u64) -> Result<Withdrawal, LedgerError> {
        self.record.withdrawals.remove(&number).ok_or(LedgerError::UnknownWithdrawal { number })
    }

    /// Sees to it that there is an account.
    pub(crate) fn open(&mut self, account: Address) -> Result<(), LedgerError> {
        if !self.record.balances.contains_key(&account) && self.record.balances.len() >= MAX_ACCOUNTS {
            return Err(LedgerError::TooManyAccounts { limit: MAX_ACCOUNTS });
        }
        self.record.balances.entry(account).or_default();
        Ok(())
    }

    fn balance_mut(&mut self, account: Address) -> &mut Balance {
        self.record.balances.entry(account).or_default()
    }

    fn posting(&mut self, kind: PostingKind, slot: Option<SlotNumber>, entries: Vec<posting::Entry>) -> Posting {
        let number = self.record.postings;
        self.record.postings = number.saturating_add(1);
        Posting::new(number, kind, slot, entries)
    }
}

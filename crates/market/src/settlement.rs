//! What an escrow contract has to be told: how money moved between accounts in the market's books, and what may leave.
//!
//! ```text
//!  ledger ── what each account has ──┐
//!                                    ├── the difference ──> batch ── signed, settled on chain ──> what the escrow has for each
//!  what the escrow has for each ─────┘
//! ```
//!
//! Only differences count, so a thousand charges between two batches are one change an account. One batch is under way at a time; it
//! is stored before it is signed, and what it pays out has left the ledger when the escrow has settled it.

use std::collections::BTreeMap;

use alloy_primitives::{Address, U256};
use lockstep_primitives::{EscrowBatch, EscrowChange, EscrowPayout};

use crate::{Ledger, LedgerError};

/// How many accounts a batch changes, as the contract takes.
pub const MAX_BATCH_CHANGES: usize = 256;
/// How many withdrawals a batch pays out, as the contract takes.
pub const MAX_BATCH_PAYOUTS: usize = 64;

/// All that a settlement knows, for storing it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettlementRecord {
    /// What the escrow has for each account, once it has settled all batches but the one under way.
    pub escrowed: BTreeMap<Address, U256>,
    /// How many batches were settled, which is the number of the next one.
    pub settled: u64,
    /// The batch that is under way.
    pub pending: Option<EscrowBatch>,
}

/// The books of an escrow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settlement {
    record: SettlementRecord,
}

impl Settlement {
    /// A settlement that remembers.
    pub const fn new(record: SettlementRecord) -> Self {
        Self { record }
    }

    /// All that it knows.
    pub const fn record(&self) -> &SettlementRecord {
        &self.record
    }

    /// Notes a deposit that the ledger credits too.
    pub fn deposited(&mut self, account: Address, amount: U256) {
        let known = self.record.escrowed.entry(account).or_default();
        *known = known.saturating_add(amount);
    }

    /// Notes that an account took its own way out, which the ledger notes too.
    pub fn exited(&mut self, account: Address, amount: U256) {
        let known = self.record.escrowed.entry(account).or_default();
        *known = known.saturating_sub(amount);
        self.forget_empty();
    }

    /// The batch that is under way, or the next one if the ledger has moved on; `None` when there is nothing to settle.
    ///
    /// What does not fit waits for the batch after: each batch balances, and leaves nobody with less than nothing.
    pub fn batch(&mut self, ledger: &Ledger) -> Option<&EscrowBatch> {
        if self.record.pending.is_none() {
            let changes = self.changes(ledger);
            let payouts = self.payouts(ledger, &changes);
            if changes.is_empty() && payouts.is_empty() {
                return None;
            }
            let (number, deposits) = (self.record.settled, ledger.record().deposits);
            self.record.pending = Some(EscrowBatch { number, deposits, changes, payouts });
        }
        self.record.pending.as_ref()
    }

    /// Notes that the escrow has settled the batch that is under way, and returns it: what it paid out has to leave the ledger.
    pub fn settled(&mut self) -> Option<EscrowBatch> {
        let batch = self.record.pending.take()?;
        for EscrowChange { account, debit, credit } in &batch.changes {
            let known = self.record.escrowed.entry(*account).or_default();
            *known = known.saturating_sub(*debit).saturating_add(*credit);
        }
        for EscrowPayout { account, amount, .. } in &batch.payouts {
            let known = self.record.escrowed.entry(*account).or_default();
            *known = known.saturating_sub(*amount);
        }
        self.record.settled = batch.number.saturating_add(1);
        self.forget_empty();
        Some(batch)
    }

    /// Checks that the escrow has for all accounts together what is inside the ledger.
    ///
    /// # Errors
    /// When it does not: then rows of two stores were mixed, and nothing may be signed.
    pub fn check(&self, ledger: &Ledger) -> Result<(), LedgerError> {
        let escrowed = self.record.escrowed.values().fold(U256::ZERO, |sum, amount| sum.saturating_add(*amount));
        if escrowed != ledger.inside() {
            return Err(LedgerError::EscrowDiffers { escrowed, inside: ledger.inside() });
        }
        Ok(())
    }

    /// What has to move: who has less in the ledger than in the escrow pays who has more, in the order of their addresses, as far as
    /// a batch has room.
    fn changes(&self, ledger: &Ledger) -> Vec<EscrowChange> {
        let balances = &ledger.record().balances;
        let total = |account: &Address| {
            let balance = balances.get(account).copied().unwrap_or_default();
            balance.free.saturating_add(balance.held).saturating_add(balance.leaving)
        };
        let escrowed = |account: &Address| self.record.escrowed.get(account).copied().unwrap_or_default();
        let (mut debtors, mut creditors) = (Vec::new(), Vec::new());
        for account in balances.keys().chain(self.record.escrowed.keys().filter(|account| !balances.contains_key(*account))) {
            let (has, there) = (total(account), escrowed(account));
            if let Some(debit) = there.checked_sub(has).filter(|debit| !debit.is_zero()) {
                debtors.push((*account, debit));
            } else if has > there {
                creditors.push((*account, has - there));
            }
        }
        let mut changes: BTreeMap<Address, EscrowChange> = BTreeMap::new();
        let (mut debtors, mut creditors) = (debtors.into_iter(), creditors.into_iter());
        let (mut debtor, mut creditor) = (debtors.next(), creditors.next());
        while let (Some((from, owes)), Some((to, gets))) = (debtor, creditor) {
            let new = usize::from(!changes.contains_key(&from)) + usize::from(!changes.contains_key(&to));
            if changes.len() + new > MAX_BATCH_CHANGES {
                break;
            }
            let moved = owes.min(gets);
            let change = |account| EscrowChange { account, debit: U256::ZERO, credit: U256::ZERO };
            changes.entry(from).or_insert_with(|| change(from)).debit += moved;
            changes.entry(to).or_insert_with(|| change(to)).credit += moved;
            debtor = if owes > moved { Some((from, owes - moved)) } else { debtors.next() };
            creditor = if gets > moved { Some((to, gets - moved)) } else { creditors.next() };
        }
        changes.into_values().collect()
    }

    /// The withdrawals that can be paid once these changes are made, in their order.
    fn payouts(&self, ledger: &Ledger, changes: &[EscrowChange]) -> Vec<EscrowPayout> {
        let mut there = self.record.escrowed.clone();
        for EscrowChange { account, debit, credit } in changes {
            let known = there.entry(*account).or_default();
            *known = known.saturating_sub(*debit).saturating_add(*credit);
        }
        let mut payouts = Vec::new();
        for (number, withdrawal) in ledger.record().withdrawals.iter().take(MAX_BATCH_PAYOUTS) {
            let known = there.entry(withdrawal.account).or_default();
            // The contract takes numbers in their order only, so what cannot be paid yet holds up what comes after.
            let Some(left) = known.checked_sub(withdrawal.amount) else { break };
            *known = left;
            let (account, to, amount) = (withdrawal.account, withdrawal.to, withdrawal.amount);
            payouts.push(EscrowPayout { withdrawal: *number, account, to, amount });
        }
        payouts
    }

    fn forget_empty(&mut self) {
        self.record.escrowed.retain(|_, amount| !amount.is_zero());
    }
}

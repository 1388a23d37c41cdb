//! Batches for an escrow: a contract that applies them has for each account what the ledger says.

use std::collections::BTreeMap;

use alloy_primitives::{Address, U256};
use lockstep_market::{HoldId, Ledger, MAX_BATCH_CHANGES, MAX_BATCH_PAYOUTS, PostingKind, Settlement, SettlementRecord};
use lockstep_primitives::{EscrowBatch, EscrowChange, EscrowPayout};
use proptest::prelude::*;

fn account(index: u64) -> Address {
    Address::left_padding_from(&(index + 1).to_be_bytes())
}

fn units(amount: u64) -> U256 {
    U256::from(amount)
}

/// What the contract does, with all of its checks.
#[derive(Debug, Default)]
struct Escrow {
    balances: BTreeMap<Address, U256>,
    batches: u64,
    deposits: u64,
    next_withdrawal: u64,
    paid: BTreeMap<Address, U256>,
}

impl Escrow {
    fn deposit(&mut self, account: Address, amount: U256) {
        *self.balances.entry(account).or_default() += amount;
        self.deposits += 1;
    }

    fn settle(&mut self, batch: &EscrowBatch) {
        assert_eq!(batch.number, self.batches);
        assert!(batch.deposits <= self.deposits);
        assert!(batch.changes.len() <= MAX_BATCH_CHANGES && batch.payouts.len() <= MAX_BATCH_PAYOUTS);
        assert!(batch.changes.is_sorted_by(|a, b| a.account < b.account));
        let (mut debits, mut credits) = (U256::ZERO, U256::ZERO);
        for EscrowChange { account, debit, credit } in &batch.changes {
            assert_ne!(debit.is_zero(), credit.is_zero());
            (debits, credits) = (debits + debit, credits + credit);
            let balance = self.balances.entry(*account).or_default();
            *balance = balance.checked_sub(*debit).expect("nobody is overdrawn") + credit;
        }
        assert_eq!(debits, credits);
        for EscrowPayout { withdrawal, account, to, amount } in &batch.payouts {
            assert!(*withdrawal >= self.next_withdrawal && !amount.is_zero());
            self.next_withdrawal = withdrawal + 1;
            let balance = self.balances.entry(*account).or_default();
            *balance = balance.checked_sub(*amount).expect("nobody is overdrawn");
            *self.paid.entry(*to).or_default() += *amount;
        }
        self.batches += 1;
    }
}

/// A market's money with its escrow.
#[derive(Debug, Default)]
struct Money {
    ledger: Ledger,
    settlement: Settlement,
    escrow: Escrow,
}

impl Money {
    fn deposit(&mut self, account: Address, amount: U256) {
        self.escrow.deposit(account, amount);
        self.ledger.deposit(self.ledger.record().deposits, account, amount).expect("the next deposit");
        self.settlement.deposited(account, amount);
    }

    /// Settles one batch; whether there was one.
    fn settle(&mut self) -> bool {
        let Some(batch) = self.settlement.batch(&self.ledger).cloned() else { return false };
        // As long as it is under way the same one is handed in again, also after a restart.
        let mut again = Settlement::new(self.settlement.record().clone());
        assert_eq!(again.batch(&self.ledger), Some(&batch));
        self.escrow.settle(&batch);
        let settled = self.settlement.settled().expect("it was under way");
        settled.payouts.iter().for_each(|payout| drop(self.ledger.paid_out(payout.withdrawal).expect("it was leaving")));
        self.settlement.check(&self.ledger).expect("the escrow has what is inside");
        true
    }
}

#[test]
fn charges_are_netted_and_withdrawals_paid_once_they_are_covered() {
    let (ann, ben, cat) = (account(0), account(1), account(2));
    let mut money = Money::default();
    money.deposit(ann, units(100));
    assert!(!money.settle(), "a deposit alone changes nothing");
    let id = HoldId { slot: 7, bidder: ann };
    money.ledger.hold(id, units(60)).unwrap();
    assert!(!money.settle(), "nor does a hold");
    money.ledger.pay(id, ben, units(10), PostingKind::Price).unwrap();
    money.ledger.pay(id, cat, units(20), PostingKind::Price).unwrap();
    money.ledger.transfer(ben, ann, units(4), PostingKind::Resale).unwrap();
    money.ledger.withdraw(cat, ann, units(20), 1).unwrap();
    let batch = money.settlement.batch(&money.ledger).unwrap().clone();
    let change = |account, debit, credit| EscrowChange { account, debit: units(debit), credit: units(credit) };
    assert_eq!(batch.changes, [change(ann, 26, 0), change(ben, 0, 6), change(cat, 0, 20)]);
    assert_eq!(batch.payouts.iter().map(|payout| (payout.account, payout.amount)).collect::<Vec<_>>(), [(cat, units(20))]);
    // What happens while a batch is under way is for the next one.
    money.ledger.transfer(ann, ben, units(1), PostingKind::Resale).unwrap();
    assert!(money.settle() && money.settle() && !money.settle());
    assert_eq!(money.escrow.balances, BTreeMap::from([(ann, units(73)), (ben, units(7)), (cat, units(0))]));
    assert_eq!(money.escrow.paid, BTreeMap::from([(ann, units(20))]));
}

#[test]
fn an_exit_leaves_the_ledger_too() {
    let ann = account(0);
    let mut money = Money::default();
    money.deposit(ann, units(100));
    money.ledger.exit(ann, units(30)).unwrap();
    money.settlement.exited(ann, units(30));
    money.settlement.check(&money.ledger).unwrap();
    assert_eq!(money.ledger.exit(ann, units(71)).unwrap_err().code(), "not_free");
    let mixed = Settlement::new(SettlementRecord::default());
    assert_eq!(mixed.check(&money.ledger).unwrap_err().code(), "escrow_differs");
}

#[test]
fn what_does_not_fit_a_batch_is_settled_by_the_next_ones() {
    let mut money = Money::default();
    let many = 600;
    for index in 0..many {
        money.deposit(account(index), units(100));
    }
    for index in 0..many {
        money.ledger.transfer(account(index), account((index * 7 + 3) % many), units(index % 50), PostingKind::Resale).unwrap();
    }
    for index in 0..200 {
        money.ledger.withdraw(account(index), account(index), units(1), 1).unwrap();
    }
    let mut batches = 0;
    while money.settle() {
        batches += 1;
    }
    assert!((3..=8).contains(&batches), "{batches} batches");
    for index in 0..many {
        let balance = money.ledger.balance(account(index));
        assert_eq!(money.escrow.balances[&account(index)], balance.free + balance.held);
    }
    assert_eq!(money.escrow.paid.len(), 200);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever moves between batches: the contract takes every batch, and has in the end what the ledger says.
    #[test]
    fn the_contract_has_what_the_ledger_says(steps in prop::collection::vec((0u8..6, 0u64..6, 0u64..6, 1u64..50), 1..60)) {
        let mut money = Money::default();
        for (nonce, (what, one, two, amount)) in (1..).zip(steps) {
            let (from, to, amount) = (account(one), account(two), units(amount));
            let id = HoldId { slot: 7, bidder: from };
            match what {
                0 => money.deposit(from, amount),
                1 => { let _refused = money.ledger.transfer(from, to, amount, PostingKind::Resale); }
                2 => { let _refused = money.ledger.hold(id, amount); }
                3 => { let _refused = money.ledger.pay(id, to, amount, PostingKind::Price); }
                4 => { let _refused = money.ledger.withdraw(from, to, amount, nonce); }
                _ => { money.settle(); }
            }
        }
        while money.settle() {}
        for index in 0..6 {
            let balance = money.ledger.balance(account(index));
            prop_assert_eq!(balance.leaving, U256::ZERO);
            let there = money.escrow.balances.get(&account(index)).copied().unwrap_or_default();
            prop_assert_eq!(there, balance.free + balance.held);
        }
    }
}

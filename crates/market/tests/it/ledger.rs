//! Money neither appears nor vanishes, whatever is asked of the ledger.

use std::collections::BTreeMap;

use alloy_primitives::{Address, I256, U256};
use lockstep_market::{Account, HoldId, Ledger, LedgerError, Posting, PostingKind};
use proptest::prelude::*;

fn who(number: u8) -> Address {
    Address::with_last_byte(number + 1)
}

fn units(amount: u64) -> U256 {
    U256::from(amount)
}

/// What is asked of a ledger.
#[derive(Clone, Debug)]
enum Step {
    Deposit { ahead: u64, account: u8, amount: u64 },
    Hold { slot: u64, bidder: u8, amount: u64 },
    Pay { slot: u64, bidder: u8, to: u8, amount: u64 },
    Withdraw { account: u8, amount: u64, nonce: u64 },
    PaidOut { index: usize },
    NotPaidOut { index: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Few accounts and slots and small amounts, so that steps meet; wrong ones are frequent.
    let step = prop_oneof![
        (prop_oneof![9 => Just(0u64), 1 => 1u64..3], 0u8..3, 0u64..20).prop_map(|(ahead, account, amount)| Step::Deposit {
            ahead,
            account,
            amount
        }),
        (0u64..3, 0u8..3, 0u64..15).prop_map(|(slot, bidder, amount)| Step::Hold { slot, bidder, amount }),
        (0u64..3, 0u8..3, 0u8..4, 0u64..10).prop_map(|(slot, bidder, to, amount)| Step::Pay { slot, bidder, to, amount }),
        (0u8..4, 0u64..10, 0u64..9).prop_map(|(account, amount, nonce)| Step::Withdraw { account, amount, nonce }),
        (0usize..4).prop_map(|index| Step::PaidOut { index }),
        (0usize..4).prop_map(|index| Step::NotPaidOut { index }),
    ];
    prop::collection::vec(step, 0..40)
}

fn carry_out(ledger: &mut Ledger, step: &Step) -> Result<Posting, LedgerError> {
    let under_way = |index: usize| ledger.record().withdrawals.keys().nth(index).copied().unwrap_or(u64::MAX);
    match *step {
        Step::Deposit { ahead, account, amount } => {
            let number = ledger.record().deposits + ahead;
            ledger.deposit(number, who(account), units(amount))
        }
        Step::Hold { slot, bidder, amount } => ledger.hold(HoldId { slot, bidder: who(bidder) }, units(amount)),
        Step::Pay { slot, bidder, to, amount } => {
            ledger.pay(HoldId { slot, bidder: who(bidder) }, who(to), units(amount), PostingKind::Price)
        }
        Step::Withdraw { account, amount, nonce } => {
            ledger.withdraw(who(account), who(account), units(amount), nonce).map(|(_, posting)| posting)
        }
        Step::PaidOut { index } => {
            let number = under_way(index);
            ledger.paid_out(number)
        }
        Step::NotPaidOut { index } => {
            let number = under_way(index);
            ledger.not_paid_out(number)
        }
    }
}

/// What the postings say by themselves.
fn tally(postings: &[Posting]) -> BTreeMap<Account, I256> {
    let mut tally = BTreeMap::new();
    for (account, amount) in postings.iter().flat_map(|posting| &posting.entries) {
        *tally.entry(*account).or_insert(I256::ZERO) += *amount;
    }
    tally
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn every_step_balances_and_a_refused_one_changes_nothing(steps in steps()) {
        let mut ledger = Ledger::new();
        let mut postings: Vec<Posting> = Vec::new();
        for step in &steps {
            let before = ledger.clone();
            match carry_out(&mut ledger, step) {
                Ok(posting) => {
                    prop_assert_eq!(posting.number, postings.len() as u64);
                    let sum = posting.entries.iter().fold(I256::ZERO, |sum, (_, amount)| sum + *amount);
                    prop_assert_eq!(sum, I256::ZERO, "{:?}", posting);
                    postings.push(posting);
                }
                Err(_) => prop_assert_eq!(&ledger, &before),
            }
        }
        // What every account has is what the postings made of it, and nobody has less than nothing.
        let mut tally = tally(&postings);
        prop_assert_eq!(I256::ZERO - tally.remove(&Account::Outside).unwrap_or_default(), I256::from_raw(ledger.inside()));
        for (account, amount) in &tally {
            let balance = ledger.balance(account.owner().expect("only outside is nobody's"));
            let has = match account {
                Account::Free(_) => balance.free,
                Account::Held(_) => balance.held,
                _ => balance.leaving,
            };
            prop_assert_eq!(*amount, I256::from_raw(has));
            prop_assert!(!amount.is_negative());
        }
        // Holds and withdrawals are what the accounts say, and a restart changes nothing.
        prop_assert_eq!(Ledger::restore(ledger.record().clone()), Ok(ledger.clone()));
        for slot in 0..3 {
            for bidder in ledger.holders(slot) {
                let held = ledger.held_for(HoldId { slot, bidder });
                prop_assert!(held > U256::ZERO);
            }
        }
    }

    #[test]
    fn what_backs_bids_cannot_be_withdrawn_or_held_twice(deposit in 1u64..50, hold in 0u64..60, asked in 1u64..60) {
        let (mut ledger, bidder) = (Ledger::new(), who(0));
        ledger.deposit(0, bidder, units(deposit)).expect("the first deposit");
        let held = ledger.hold(HoldId { slot: 1, bidder }, units(hold)).is_ok();
        prop_assert_eq!(held, hold <= deposit);
        let free = if held { deposit - hold } else { deposit };
        prop_assert_eq!(ledger.clone().hold(HoldId { slot: 2, bidder }, units(asked)).is_ok(), asked <= free);
        prop_assert_eq!(ledger.withdraw(bidder, bidder, units(asked), 1).is_ok(), asked <= free);
    }
}

#[test]
fn deposits_are_credited_once_and_in_order() {
    let (mut ledger, account) = (Ledger::new(), who(0));
    ledger.deposit(0, account, units(5)).unwrap();
    for number in [0, 2] {
        assert_eq!(ledger.deposit(number, account, units(5)), Err(LedgerError::DepositOutOfOrder { number, expected: 1 }));
    }
    ledger.deposit(1, account, units(5)).unwrap();
    assert_eq!(ledger.balance(account).free, units(10));
}

#[test]
fn steps_without_a_meaning_are_refused_by_name() {
    let (mut ledger, account, id) = (Ledger::new(), who(0), HoldId { slot: 1, bidder: who(0) });
    assert_eq!(ledger.deposit(0, account, U256::ZERO).unwrap_err().code(), "zero_amount");
    assert_eq!(ledger.deposit(0, account, U256::MAX).unwrap_err().code(), "amount_too_large");
    assert_eq!(ledger.deposit(0, Address::ZERO, units(1)).unwrap_err().code(), "amount_too_large");
    assert_eq!(ledger.hold(id, units(1)).unwrap_err().code(), "deposit_too_small");
    assert_eq!(ledger.pay(id, account, units(1), PostingKind::Price).unwrap_err().code(), "hold_too_small");
    assert_eq!(ledger.withdraw(account, account, units(1), 0).unwrap_err().code(), "request_nonce_too_low");
    assert_eq!(ledger.withdraw(account, account, units(1), 1).unwrap_err().code(), "not_free");
    assert_eq!(ledger.paid_out(7).unwrap_err().code(), "unknown_withdrawal");
    assert_eq!(ledger, Ledger::new());
    let mut record = ledger.record().clone();
    record.holds.insert(id, units(1));
    assert_eq!(Ledger::restore(record), Err(LedgerError::Unbalanced { account }));
}

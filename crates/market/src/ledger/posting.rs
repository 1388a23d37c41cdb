//! The steps of a ledger.

use std::fmt;

use alloy_primitives::{Address, I256, U256};
use lockstep_primitives::SlotNumber;

/// Where money is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Account {
    /// Where deposits come from and withdrawals go. What it lacks is what is inside.
    Outside,
    /// What an account can bid with and withdraw.
    Free(Address),
    /// What backs an account's bids.
    Held(Address),
    /// What is on its way out of an account.
    Leaving(Address),
}

impl Account {
    /// Whose it is; nobody's outside.
    pub const fn owner(self) -> Option<Address> {
        match self {
            Self::Outside => None,
            Self::Free(owner) | Self::Held(owner) | Self::Leaving(owner) => Some(owner),
        }
    }

    /// What answers call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Outside => "outside",
            Self::Free(_) => "free",
            Self::Held(_) => "held",
            Self::Leaving(_) => "leaving",
        }
    }
}

/// Why money moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostingKind {
    /// A deposit came in.
    Deposit {
        /// Its number.
        number: u64,
    },
    /// More is held for a bidder's bids in a slot.
    Hold,
    /// Less is.
    Release,
    /// The price of a slot that was delivered.
    Price,
    /// What a winner that did not deliver owes the rollup.
    Damages,
    /// What was put up for revealing a bid that was not revealed.
    Forfeit,
    /// The price of a ticket: into the pot when it is issued, and back to its holder, to be held for the slot, when it is drawn.
    Ticket,
    /// The price of a right or a ticket that its holder resold.
    Resale,
    /// An account asked for its money.
    Withdraw {
        /// Where it goes.
        to: Address,
    },
    /// An account took its money by its own way, past the market.
    Exit,
    /// It was paid outside.
    PaidOut {
        /// The number of the withdrawal.
        number: u64,
    },
    /// It could not be paid outside, and is back.
    NotPaidOut {
        /// The number of the withdrawal.
        number: u64,
    },
}

impl PostingKind {
    /// What answers and metrics call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deposit { .. } => "deposit",
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Price => "price",
            Self::Damages => "damages",
            Self::Forfeit => "forfeit",
            Self::Ticket => "ticket",
            Self::Exit => "exit",
            Self::Resale => "resale",
            Self::Withdraw { .. } => "withdraw",
            Self::PaidOut { .. } => "paid_out",
            Self::NotPaidOut { .. } => "not_paid_out",
        }
    }
}

impl fmt::Display for PostingKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Where, how much, and whether it comes there.
pub(super) type Entry = (Account, U256, bool);

/// A step: entries that sum to zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posting {
    /// Counts postings from 0.
    pub number: u64,
    /// Why.
    pub kind: PostingKind,
    /// The slot that it is about, if it is about one.
    pub slot: Option<SlotNumber>,
    /// What came to (above zero) and went from (below zero) where, in the numeraire's smallest unit.
    pub entries: Vec<(Account, I256)>,
}

impl Posting {
    pub(super) fn new(number: u64, kind: PostingKind, slot: Option<SlotNumber>, entries: Vec<Entry>) -> Self {
        let signed = |(account, amount, comes): Entry| {
            // No amount is above 2^248 - 1, so the sign bit is free.
            let amount = I256::from_raw(amount);
            (account, if comes { amount } else { amount.wrapping_neg() })
        };
        Self { number, kind, slot, entries: entries.into_iter().map(signed).collect() }
    }

    /// Whose balances it changes, each once.
    pub fn accounts(&self) -> impl Iterator<Item = Address> {
        let owners: std::collections::BTreeSet<Address> =
            self.entries.iter().filter_map(|(account, _)| account.owner()).collect();
        owners.into_iter()
    }

    /// Whether it moved anything.
    pub fn is_empty(&self) -> bool {
        self.entries.iter().all(|(_, amount)| amount.is_zero())
    }
}

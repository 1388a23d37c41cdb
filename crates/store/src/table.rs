//! The closed set of tables.

use std::fmt;

use redb::TableDefinition;

/// A table of the store. The names are part of the file format: add tables, never rename one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Bundles, as they were admitted.
    Bundles,
    /// What happened, in order.
    Events,
    /// Write-once records that say whether a slot's lists are published.
    Decisions,
    /// Votes of sequencers.
    Votes,
    /// Registrations of sellers.
    Registrations,
    /// Bids.
    Bids,
    /// Sealed bids, and what they were opened with.
    Sealed,
    /// Tickets, their prices, and what was drawn.
    Tickets,
    /// Allocations of slots.
    Allocations,
    /// Postings of the ledger, in order.
    Ledger,
    /// Balances of accounts.
    Accounts,
    /// What an escrow contract has for whom, and what it is told.
    Escrow,
    /// What is held for whose bids in which slot.
    Holds,
    /// Money on its way out.
    Withdrawals,
    /// Who may propose where, and how it ended.
    Rights,
    /// What rollups earned, slot by slot.
    Earnings,
    /// Ciphertexts that wait for a slot.
    Encrypted,
    /// The encrypted parts of slots, and what became of them.
    EncryptedTails,
    /// For which order a member of a committee has opened ciphertexts.
    Opened,
    /// Messages between rollups, and how far their chains were read.
    Messages,
    /// What does not fit elsewhere, such as counters and format marks of the layers above.
    Meta,
}

impl Table {
    /// How many tables there are.
    pub const COUNT: usize = 21;

    /// All of them.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Bundles,
        Self::Events,
        Self::Decisions,
        Self::Votes,
        Self::Registrations,
        Self::Bids,
        Self::Sealed,
        Self::Tickets,
        Self::Allocations,
        Self::Ledger,
        Self::Accounts,
        Self::Escrow,
        Self::Holds,
        Self::Withdrawals,
        Self::Rights,
        Self::Earnings,
        Self::Encrypted,
        Self::EncryptedTails,
        Self::Opened,
        Self::Messages,
        Self::Meta,
    ];

    /// The stable name, in the file and in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bundles => "bundles",
            Self::Events => "events",
            Self::Decisions => "decisions",
            Self::Votes => "votes",
            Self::Registrations => "registrations",
            Self::Bids => "bids",
            Self::Sealed => "sealed",
            Self::Tickets => "tickets",
            Self::Allocations => "allocations",
            Self::Ledger => "ledger",
            Self::Accounts => "accounts",
            Self::Escrow => "escrow",
            Self::Holds => "holds",
            Self::Withdrawals => "withdrawals",
            Self::Rights => "rights",
            Self::Earnings => "earnings",
            Self::Encrypted => "encrypted",
            Self::EncryptedTails => "encrypted_tails",
            Self::Opened => "opened",
            Self::Messages => "messages",
            Self::Meta => "meta",
        }
    }

    pub(crate) const fn definition(self) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
        TableDefinition::new(self.name())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

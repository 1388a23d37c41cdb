//! Why orders for tickets are refused.

use alloy_primitives::{Address, U256};
use lockstep_primitives::RollupSet;

/// Why an order for tickets is refused. [`TicketError::code`] is stable; the text may be reworded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// The market sells slots by auction.
    #[error("this market sells no tickets")]
    NoTickets,
    /// The market sells tickets.
    #[error("this market takes no bids: it sells tickets")]
    TicketsOnly,
    /// A class without rollups, or with one that another has too.
    #[error("the ticket class {rollups:?} is empty, or shares a rollup with another")]
    Classes {
        /// The class.
        rollups: RollupSet,
    },
    /// More than there may be.
    #[error("{tickets} tickets are more than the limit of {limit}")]
    TooMany {
        /// How many are asked for, or there could be.
        tickets: u64,
        /// How many there may be.
        limit: u64,
    },
    /// No tickets are sold for exactly these rollups.
    #[error("there is no class of tickets for rollups {rollups:?}")]
    NoSuchClass {
        /// The rollups.
        rollups: RollupSet,
    },
    /// An order for nothing.
    #[error("the order is for no ticket")]
    Nothing,
    /// Nothing is to be had.
    #[error("no ticket for rollups {rollups:?} is to be had at {price}: {}", least.map_or("there is none".to_owned(), |least| format!("the cheapest costs {least}")))]
    NoneAtThatPrice {
        /// The class.
        rollups: RollupSet,
        /// What is offered.
        price: U256,
        /// What the cheapest costs, if there is one.
        least: Option<U256>,
    },
    /// An offer that nobody could pay.
    #[error("a price of {price} is more than 2^248 - 1")]
    PriceTooLarge {
        /// The price.
        price: U256,
    },
    /// More are offered than are owned.
    #[error("{owner} offers {count} tickets and has {owned}")]
    NotSoMany {
        /// Who offers.
        owner: Address,
        /// How many it offers.
        count: u64,
        /// How many it has.
        owned: u64,
    },
}

impl TicketError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoTickets => "no_tickets",
            Self::TicketsOnly => "tickets_only",
            Self::Classes { .. } => "ticket_classes",
            Self::TooMany { .. } => "too_many_tickets",
            Self::NoSuchClass { .. } => "unknown_ticket_class",
            Self::Nothing => "no_ticket_asked_for",
            Self::NoneAtThatPrice { .. } => "no_ticket_at_that_price",
            Self::PriceTooLarge { .. } => "ticket_price_too_large",
            Self::NotSoMany { .. } => "not_so_many_tickets",
        }
    }

    /// What one can do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NoTickets => "bid with market_submitBid",
            Self::TicketsOnly => "order tickets with market_submitTicketOrder",
            Self::Classes { .. } => "name each rollup in one class at the most",
            Self::TooMany { .. } => "ask for fewer",
            Self::NoSuchClass { .. } => "market_getTickets lists the classes: name all rollups of one",
            Self::Nothing => "ask for at least one",
            Self::NoneAtThatPrice { .. } => "offer more, or wait until some are drawn or offered",
            Self::PriceTooLarge { .. } => "amounts are in the numeraire's smallest unit",
            Self::NotSoMany { .. } => "offer as many as you have",
        }
    }
}

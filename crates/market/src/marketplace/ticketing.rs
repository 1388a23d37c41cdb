//! Tickets: bought, offered, drawn, and what they cost held for the slot that they were drawn for.

use alloy_primitives::{Address, B256, U256, address};
use lockstep_primitives::{ChainId, SlotNumber, TicketOrder, TicketSide, recover};

use super::{Marketplace, with_bond};
use crate::{
    Clearing, Drawn, Fill, HoldId, LedgerError, MarketError, Posting, PostingKind, Sale, TicketBook, TicketError, Win, split,
};

/// Whose account keeps what tickets cost until they are drawn. It is the last 20 bytes of keccak-256 of "lockstep ticket pot", so
/// nobody has its key.
pub const TICKET_POT: Address = address!("3d33051288c3873f4922f3bf45afe953bca7db11");

/// What an order changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordered {
    /// Who ordered.
    pub account: Address,
    /// What it signed.
    pub digest: B256,
    /// What it bought.
    pub fills: Vec<Fill>,
    /// The tickets that are others' or otherwise offered now.
    pub changed: Vec<u64>,
    /// What was paid.
    pub postings: Vec<Posting>,
}

/// What a draw changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drawing {
    /// The slot.
    pub slot: SlotNumber,
    /// By class.
    pub drawn: Vec<(ChainId, Drawn)>,
    /// What is held for the slot now.
    pub postings: Vec<Posting>,
}

impl Marketplace {
    /// Carries out an order for tickets: buys what is to be had at once, or offers what the account has.
    ///
    /// # Errors
    /// Names what is wrong with it, or what the account lacks. Nothing is then changed.
    pub fn order_tickets(&mut self, order: &TicketOrder, signature: &[u8], now_ms: u64) -> Result<Ordered, MarketError> {
        if self.tickets.is_none() {
            return Err(TicketError::NoTickets.into());
        }
        let digest = order.digest();
        let account = recover(digest, signature).map_err(|_| MarketError::WrongRequestSigner { expected: Address::ZERO })?;
        self.check_staying(account)?;
        self.ledger.check_nonce(account, order.nonce)?;
        let reserve = self.class_reserve(order, now_ms)?;
        let Some(book) = self.tickets.as_mut() else { return Err(TicketError::NoTickets.into()) };
        self.ledger.open(TICKET_POT)?;
        let mut postings = Vec::new();
        let (fills, changed) = match order.side {
            TicketSide::Buy => {
                let fills = book.fills(order, account, reserve)?;
                let cost = fills.iter().fold(U256::ZERO, |sum, fill| sum.saturating_add(fill.price));
                let balance = self.ledger.balance(account);
                if cost > balance.free {
                    let (free, held) = (balance.free, balance.held);
                    return Err(LedgerError::NotFree { account, amount: cost, free, held }.into());
                }
                for fill in &fills {
                    let (to, kind) = match fill.from {
                        Some(owner) => (owner, PostingKind::Resale),
                        None => (TICKET_POT, PostingKind::Ticket),
                    };
                    postings.push(self.ledger.transfer(account, to, fill.price, kind)?);
                }
                let class = order.rollups.first().copied().unwrap_or_default();
                book.hand_over(class, account, &fills);
                let changed = fills.iter().map(|fill| fill.number).collect();
                (fills, changed)
            }
            TicketSide::Sell => (Vec::new(), book.offer(order, account)?),
        };
        self.ledger.use_nonce(account, order.nonce);
        Ok(Ordered { account, digest, fills, changed, postings })
    }

    /// Goes on to the next slot, and draws tickets for the slot that many slots later. What they cost is held for it from now on,
    /// with as much of the bond as their holders have.
    ///
    /// # Errors
    /// When the slot cannot be put on sale, or the ledger cannot be written, which only a damaged store can cause.
    pub fn draw_tickets(&mut self, closed: SlotNumber, seed: B256) -> Result<Drawing, MarketError> {
        let Some(lookahead) = self.tickets.as_ref().map(|book| book.rules().lookahead) else { return Ok(Drawing::default()) };
        let slot = closed.saturating_add(lookahead);
        let sale = self.book(slot)?.sale().clone();
        let Some(book) = self.tickets.as_mut() else { return Ok(Drawing::default()) };
        book.next_slot();
        let drawn = book.draw(&sale, seed);
        let mut postings = Vec::new();
        for (_, drawn) in &drawn {
            let id = HoldId { slot, bidder: drawn.owner };
            if !drawn.price.is_zero() {
                postings.push(self.ledger.transfer(TICKET_POT, drawn.owner, drawn.price, PostingKind::Ticket)?);
            }
            let before = self.ledger.held_for(id);
            let wanted = self.rules.deposits.as_ref().map_or(drawn.price, |rules| with_bond(drawn.price, rules));
            let held = before.saturating_add(wanted.min(self.ledger.balance(drawn.owner).free));
            let posting = self.ledger.hold(id, held)?;
            if !posting.is_empty() {
                postings.push(posting);
            }
        }
        Ok(Drawing { slot, drawn, postings })
    }

    /// The tickets, if they are sold.
    pub const fn tickets(&self) -> Option<&TicketBook> {
        self.tickets.as_ref()
    }

    /// The price of the next ticket of a class, as it is now.
    pub fn ticket_price(&mut self, class: ChainId, now_ms: u64) -> Result<U256, MarketError> {
        let rollups = self.tickets.as_ref().and_then(|book| book.class(class)).cloned().unwrap_or_default();
        let slot = self.first_open(now_ms);
        let reserve = self.book(slot)?.sale().reserve(&rollups);
        Ok(self.tickets.as_ref().map(|book| book.price(class, reserve)).unwrap_or_default())
    }

    /// What tickets that were drawn for a slot give their holders.
    pub(super) fn drawn_for(&mut self, sale: &Sale) -> Clearing {
        let drawn = self.tickets.as_mut().map(|tickets| tickets.take_drawn(sale.slot())).unwrap_or_default();
        let wins = drawn.into_iter().map(|(_, drawn)| {
            let Drawn { number, rollups, owner, price } = drawn;
            let shares = split(price, &sale.reserves(&rollups));
            Win { bid: B256::from(U256::from(number)), bidder: owner, rollups, price, shares }
        });
        Clearing::new(wins.collect(), U256::ZERO)
    }

    fn class_reserve(&mut self, order: &TicketOrder, now_ms: u64) -> Result<U256, MarketError> {
        let slot = self.first_open(now_ms);
        Ok(self.book(slot)?.sale().reserve(&order.rollups))
    }
}

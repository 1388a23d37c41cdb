//! Execution tickets: rights to propose in some slot to come, bought before anybody knows in which.
//!
//! ```text
//!  buy (primary, at a price that follows demand, or from a holder) ──> hold, offer ──> drawn for a slot, `lookahead` slots before it
//! ```
//!
//! A ticket is of a class: rollups that are proposed for together. For each slot one ticket of each class is drawn, holders by their
//! numbers of tickets, none with more than a capped share of the chances; then it is used up. What it cost when it was issued is what
//! the sellers of that slot are paid. A ticket that cost less than the reserves of a slot is not in that slot's draw.
//!
//! Neuder and Drake (2023), "Execution Tickets"; the price follows demand as EIP-1559's base fee does.

mod error;

pub use error::TicketError;

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, U256};
use lockstep_primitives::{ChainId, RollupSet, SlotNumber, TicketOrder, TicketSide};

use crate::{
    Draws, MAX_AMOUNT, Sale,
    draw::{capped, pick},
};

/// How many tickets of all classes there may be.
pub const MAX_TICKETS: u64 = 4_096;

/// How many tickets of a class are meant to be sold a slot, as many as are drawn: the price rises above, and falls below.
const TARGET: u64 = 1;
/// By what part the price changes for each ticket more or less.
const PRICE_PART: u64 = 8;

/// How tickets are sold and drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketRules {
    /// The classes, disjoint. A rollup in none of them is proposed for by its default proposer.
    pub classes: Vec<RollupSet>,
    /// How many tickets of a class may be there at a time.
    pub outstanding: u64,
    /// How many slots before its own a slot's tickets are drawn.
    pub lookahead: u64,
    /// The most of a draw's chances that one holder has, in basis points.
    pub max_share_bps: u64,
    /// The least that a ticket is issued for, in the numeraire's smallest unit; never below the reserves.
    pub least_price: U256,
}

/// A ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Its class, by the lowest rollup of it.
    pub class: ChainId,
    /// Whose it is.
    pub owner: Address,
    /// What it cost when it was issued: what sellers are paid.
    pub price: U256,
    /// For how much its owner would sell it.
    pub offer: Option<U256>,
}

/// The primary price of a class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TicketPrice {
    /// For the next ticket, unless the reserves are above.
    pub price: U256,
    /// How many were issued since the last slot.
    pub sold: u64,
}

/// A ticket that was drawn for a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// Its number.
    pub number: u64,
    /// The rollups of its class that are on sale in the slot.
    pub rollups: RollupSet,
    /// Who proposes for them.
    pub owner: Address,
    /// What it cost when it was issued.
    pub price: U256,
}

/// How one ticket of an order comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// The ticket.
    pub number: u64,
    /// From whom; `None` when it is issued.
    pub from: Option<Address>,
    /// For how much.
    pub price: U256,
}

/// All that a book of tickets knows, for storing it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TicketRecord {
    /// By number.
    pub tickets: BTreeMap<u64, Ticket>,
    /// How many were issued, which is the number of the next one.
    pub issued: u64,
    /// By class.
    pub prices: BTreeMap<ChainId, TicketPrice>,
    /// By slot and class: what was drawn for slots that are not closed.
    pub drawn: BTreeMap<(SlotNumber, ChainId), Drawn>,
}

/// The tickets of a market.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketBook {
    rules: TicketRules,
    record: TicketRecord,
}

impl TicketBook {
    /// A book that remembers.
    ///
    /// # Errors
    /// When classes overlap or are empty, there could be too many tickets, or tickets are there of a class that is not.
    pub fn new(rules: TicketRules, record: TicketRecord) -> Result<Self, TicketError> {
        let mut seen = RollupSet::new();
        for class in &rules.classes {
            if class.is_empty() || !class.is_disjoint(&seen) {
                return Err(TicketError::Classes { rollups: class.clone() });
            }
            seen.extend(class);
        }
        let most = rules.outstanding.saturating_mul(rules.classes.len() as u64);
        if most > MAX_TICKETS {
            return Err(TicketError::TooMany { tickets: most, limit: MAX_TICKETS });
        }
        let book = Self { rules, record };
        let lost = book.record.tickets.values().find(|ticket| book.class(ticket.class).is_none());
        match lost {
            Some(ticket) => Err(TicketError::NoSuchClass { rollups: [ticket.class].into() }),
            None => Ok(book),
        }
    }

    /// How tickets are sold and drawn.
    pub const fn rules(&self) -> &TicketRules {
        &self.rules
    }

    /// All that it knows.
    pub const fn record(&self) -> &TicketRecord {
        &self.record
    }

    /// The rollups of a class, by the lowest of them.
    pub fn class(&self, lowest: ChainId) -> Option<&RollupSet> {
        self.rules.classes.iter().find(|class| class.first() == Some(&lowest))
    }

    /// What the next ticket of a class costs when it is issued, given the reserves of its rollups.
    pub fn price(&self, class: ChainId, reserve: U256) -> U256 {
        let known = self.record.prices.get(&class).map(|known| known.price).unwrap_or_default();
        known.max(reserve).max(self.rules.least_price)
    }

    /// How many tickets of a class there are.
    pub fn outstanding(&self, class: ChainId) -> u64 {
        self.of_class(class).count() as u64
    }

    /// What a buyer would get, cheapest first; of equally cheap ones those of holders, in the order of their numbers. `reserve` is
    /// that of the class's rollups now.
    ///
    /// # Errors
    /// When there is no such class, nothing is asked for, or nothing is to be had at that price.
    pub fn fills(&self, order: &TicketOrder, buyer: Address, reserve: U256) -> Result<Vec<Fill>, TicketError> {
        let class = self.check(order)?;
        if order.count == 0 {
            return Err(TicketError::Nothing);
        }
        let mut offers: Vec<(U256, u64, Address)> = self
            .of_class(class)
            .filter(|(_, ticket)| ticket.owner != buyer)
            .filter_map(|(number, ticket)| Some((ticket.offer?, number, ticket.owner)))
            .collect();
        offers.sort_unstable();
        let mut offers = offers.into_iter().peekable();
        let issue_price = self.price(class, reserve);
        let mut to_issue = self.rules.outstanding.saturating_sub(self.outstanding(class));
        let mut next = self.record.issued;
        let mut fills = Vec::new();
        while (fills.len() as u64) < order.count {
            let offered = offers.peek().filter(|(price, ..)| *price <= issue_price || to_issue == 0).copied();
            let fill = match offered {
                Some((price, number, from)) => Fill { number, from: Some(from), price },
                None if to_issue > 0 => Fill { number: next, from: None, price: issue_price },
                None => break,
            };
            if fill.price > order.price || fill.price > MAX_AMOUNT {
                break;
            }
            if fill.from.is_some() {
                offers.next();
            } else {
                to_issue -= 1;
                next = next.saturating_add(1);
            }
            fills.push(fill);
        }
        if fills.is_empty() {
            let cheapest = offers.peek().map(|(price, ..)| *price);
            let issued = (to_issue > 0).then_some(issue_price);
            let least = cheapest.into_iter().chain(issued).min();
            return Err(TicketError::NoneAtThatPrice { rollups: order.rollups.clone(), price: order.price, least });
        }
        Ok(fills)
    }

    /// Hands over what was bought. The fills are those of [`TicketBook::fills`], and paid for.
    pub(crate) fn hand_over(&mut self, class: ChainId, buyer: Address, fills: &[Fill]) {
        for fill in fills {
            match self.record.tickets.get_mut(&fill.number) {
                Some(ticket) => {
                    ticket.owner = buyer;
                    ticket.offer = None;
                }
                None => {
                    let ticket = Ticket { class, owner: buyer, price: fill.price, offer: None };
                    self.record.tickets.insert(fill.number, ticket);
                    self.record.issued = fill.number.saturating_add(1);
                    let known = self.record.prices.entry(class).or_default();
                    *known = TicketPrice { price: fill.price, sold: known.sold.saturating_add(1) };
                }
            }
        }
    }

    /// Offers so many of a holder's tickets, the oldest ones, and returns the numbers of all of its tickets of the class.
    ///
    /// # Errors
    /// When there is no such class, or it has not so many.
    pub(crate) fn offer(&mut self, order: &TicketOrder, owner: Address) -> Result<Vec<u64>, TicketError> {
        let class = self.check(order)?;
        let owned: Vec<u64> =
            self.of_class(class).filter(|(_, ticket)| ticket.owner == owner).map(|(number, _)| number).collect();
        if owned.is_empty() || order.count > owned.len() as u64 {
            return Err(TicketError::NotSoMany { owner, count: order.count, owned: owned.len() as u64 });
        }
        for (index, number) in (0..).zip(&owned) {
            if let Some(ticket) = self.record.tickets.get_mut(number) {
                ticket.offer = (index < order.count).then_some(order.price);
            }
        }
        Ok(owned)
    }

    /// Draws a ticket of each class that has something on sale in a slot. Those that cost less than its reserves are left out.
    pub(crate) fn draw(&mut self, sale: &Sale, seed: B256) -> Vec<(ChainId, Drawn)> {
        let slot = sale.slot();
        let on_sale = sale.units().on_sale();
        let mut drawn = Vec::new();
        for class in self.rules.classes.clone() {
            let Some(lowest) = class.first().copied() else { continue };
            let rollups: RollupSet = class.intersection(&on_sale).copied().collect();
            if rollups.is_empty() || sale.units().fits(&rollups).is_err() || self.record.drawn.contains_key(&(slot, lowest)) {
                continue;
            }
            let reserve = sale.reserve(&rollups);
            let eligible: Vec<(u64, Ticket)> = self
                .of_class(lowest)
                .filter(|(_, ticket)| ticket.price >= reserve)
                .map(|(number, ticket)| (number, *ticket))
                .collect();
            let mut weights: BTreeMap<Address, U256> = BTreeMap::new();
            for (_, ticket) in &eligible {
                *weights.entry(ticket.owner).or_default() += U256::ONE;
            }
            // Fine enough for a cap to be between two numbers of tickets.
            weights.values_mut().for_each(|weight| *weight <<= 64);
            let holders: Vec<(Address, U256)> = capped(weights, self.rules.max_share_bps).into_iter().collect();
            let instance = [slot.to_be_bytes(), lowest.to_be_bytes()].concat();
            let Some(owner) = pick(&holders, &mut Draws::new(seed, "ticket of a slot", &instance)) else { continue };
            let Some((number, ticket)) = eligible.into_iter().find(|(_, ticket)| ticket.owner == *owner) else { continue };
            self.record.tickets.remove(&number);
            let won = Drawn { number, rollups, owner: ticket.owner, price: ticket.price };
            self.record.drawn.insert((slot, lowest), won.clone());
            drawn.push((lowest, won));
        }
        drawn
    }

    /// Goes on to the next slot: prices follow what was sold since the last one.
    pub(crate) fn next_slot(&mut self) {
        for known in self.record.prices.values_mut() {
            let step = |tickets: u64| (known.price / U256::from(PRICE_PART)).max(U256::ONE).saturating_mul(U256::from(tickets));
            let price = match known.sold.checked_sub(TARGET) {
                Some(more) => known.price.saturating_add(step(more).min(known.price.max(U256::from(more)))),
                None => known.price.saturating_sub(step(TARGET - known.sold)),
            };
            *known = TicketPrice { price: price.min(MAX_AMOUNT), sold: 0 };
        }
    }

    /// What was drawn for a slot, and is not to be remembered any more.
    pub(crate) fn take_drawn(&mut self, slot: SlotNumber) -> Vec<(ChainId, Drawn)> {
        let of_slot: Vec<(SlotNumber, ChainId)> =
            self.record.drawn.range((slot, ChainId::MIN)..=(slot, ChainId::MAX)).map(|(key, _)| *key).collect();
        of_slot.into_iter().filter_map(|key| Some((key.1, self.record.drawn.remove(&key)?))).collect()
    }

    /// What was drawn for a slot.
    pub fn drawn(&self, slot: SlotNumber) -> impl Iterator<Item = &Drawn> {
        self.record.drawn.range((slot, ChainId::MIN)..=(slot, ChainId::MAX)).map(|(_, drawn)| drawn)
    }

    fn of_class(&self, class: ChainId) -> impl Iterator<Item = (u64, &Ticket)> {
        self.record.tickets.iter().filter(move |(_, ticket)| ticket.class == class).map(|(number, ticket)| (*number, ticket))
    }

    /// The class that an order is for.
    fn check(&self, order: &TicketOrder) -> Result<ChainId, TicketError> {
        let class = self.rules.classes.iter().find(|class| **class == order.rollups).and_then(|class| class.first());
        let class = *class.ok_or_else(|| TicketError::NoSuchClass { rollups: order.rollups.clone() })?;
        if order.count > MAX_TICKETS {
            return Err(TicketError::TooMany { tickets: order.count, limit: MAX_TICKETS });
        }
        if order.side == TicketSide::Sell && order.price > MAX_AMOUNT {
            return Err(TicketError::PriceTooLarge { price: order.price });
        }
        Ok(class)
    }
}

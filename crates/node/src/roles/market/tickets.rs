//! Tickets: orders on disk before they are acknowledged, draws with the slots that they follow.

use std::collections::BTreeMap;

use alloy_primitives::U64;
use jsonrpsee::core::RpcResult;
use lockstep_market::{Drawing, Drawn, Ticket, TicketPrice, TicketRecord};
use lockstep_primitives::{ChainId, RollupSet, SlotNumber};
use lockstep_rpc::wire::{
    Decimal, DrawnView, FillView, TicketClassView, TicketOrderWire, TicketReceipt, TicketView, TicketsView,
};
use lockstep_store::{Op, Store, Table};
use serde::{Deserialize, Serialize};

use super::{
    Changes, Inner, MarketRole, market_error,
    rows::{RowError, number, row, wrong},
};
use crate::clock::now_ms;

/// What the keys of rows begin with.
const TICKET: u8 = b't';
const PRICE: u8 = b'p';
const DRAWN: u8 = b'd';

#[derive(Serialize, Deserialize)]
struct TicketRow {
    class: ChainId,
    owner: alloy_primitives::Address,
    price: Decimal,
    offer: Option<Decimal>,
}

#[derive(Serialize, Deserialize)]
struct PriceRow {
    price: Decimal,
    sold: u64,
}

#[derive(Serialize, Deserialize)]
struct DrawnRow {
    number: u64,
    rollups: RollupSet,
    owner: alloy_primitives::Address,
    price: Decimal,
}

impl MarketRole {
    /// Carries out an order.
    pub(super) async fn take_ticket_order(&self, wire: TicketOrderWire) -> RpcResult<TicketReceipt> {
        self.has_room()?;
        let order = wire.order()?;
        let (receipt, queued) = {
            let mut inner = self.inner.lock();
            let ordered = inner.market.order_tickets(&order, &wire.signature, now_ms()).map_err(|error| market_error(&error))?;
            let mut changes = Changes::new(&inner.market);
            ordered.changed.iter().for_each(|number| changes.ticket(*number));
            order.rollups.first().iter().for_each(|class| changes.ticket_price(**class));
            ordered.postings.iter().for_each(|posting| changes.posting(posting));
            // Of an order that costs nothing the nonce is all that changed.
            changes.account(ordered.account);
            let ops = changes.into_ops();
            inner.note_postings(&ordered.postings);
            let fills = ordered.fills.iter();
            let fills = fills.map(|fill| FillView { ticket: fill.number, price: Decimal(fill.price), from: fill.from }).collect();
            (TicketReceipt { order_hash: ordered.digest, fills }, self.store.queue(ops))
        };
        self.written(queued).await?;
        Ok(receipt)
    }

    /// Classes, tickets and draws.
    pub(super) fn tickets(&self) -> RpcResult<Option<TicketsView>> {
        let mut inner = self.inner.lock();
        let Some(book) = inner.market.tickets().cloned() else { return Ok(None) };
        let rules = book.rules();
        let mut classes = Vec::new();
        for class in &rules.classes {
            let Some(lowest) = class.first().copied() else { continue };
            let price = inner.market.ticket_price(lowest, now_ms()).map_err(|error| market_error(&error))?;
            let outstanding = book.outstanding(lowest);
            classes.push(TicketClassView { rollups: wire_set(class), price: Decimal(price), outstanding });
        }
        let record = book.record();
        let view = |(number, ticket): (&u64, &Ticket)| TicketView {
            ticket: *number,
            rollups: book.class(ticket.class).map(wire_set).unwrap_or_default(),
            owner: ticket.owner,
            price: Decimal(ticket.price),
            offer: ticket.offer.map(Decimal),
        };
        let drawn = |((slot, _), drawn): (&(SlotNumber, ChainId), &Drawn)| DrawnView {
            slot: *slot,
            ticket: drawn.number,
            rollups: wire_set(&drawn.rollups),
            owner: drawn.owner,
            price: Decimal(drawn.price),
        };
        Ok(Some(TicketsView {
            lookahead: rules.lookahead,
            outstanding: rules.outstanding,
            max_share_bps: rules.max_share_bps,
            classes,
            tickets: record.tickets.iter().map(view).collect(),
            drawn: record.drawn.iter().map(drawn).collect(),
        }))
    }

    /// Draws tickets once a slot is closed: steps for the store.
    pub(super) fn draw_after(&self, inner: &mut Inner, closed: SlotNumber) -> Vec<Op> {
        if inner.market.tickets().is_none() {
            return Vec::new();
        }
        let Drawing { slot, drawn, postings } = match inner.market.draw_tickets(closed, self.seed(closed, &[])) {
            Ok(drawing) => drawing,
            Err(error) => {
                tracing::error!(closed, %error, "no tickets could be drawn");
                return Vec::new();
            }
        };
        let mut changes = Changes::new(&inner.market);
        for (class, drawn) in &drawn {
            tracing::debug!(slot, ticket = drawn.number, owner = %drawn.owner, rollups = ?drawn.rollups, "a ticket was drawn");
            changes.ticket(drawn.number);
            changes.drawn(slot, *class);
        }
        let classes: Vec<ChainId> = inner.market.tickets().iter().flat_map(|book| book.record().prices.keys()).copied().collect();
        classes.into_iter().for_each(|class| {
            changes.ticket_price(class);
            changes.drawn(closed, class);
        });
        postings.iter().for_each(|posting| changes.posting(posting));
        let ops = changes.into_ops();
        inner.note_postings(&postings);
        ops
    }
}

impl Changes<'_> {
    /// A ticket, as it is now or is not any more.
    pub(super) fn ticket(&mut self, number: u64) {
        let key = [&[TICKET][..], &number.to_be_bytes()].concat();
        let known = self.market().tickets().and_then(|book| book.record().tickets.get(&number)).copied();
        match known {
            Some(Ticket { class, owner, price, offer }) => {
                let row = TicketRow { class, owner, price: Decimal(price), offer: offer.map(Decimal) };
                self.row(Table::Tickets, key, &row);
            }
            None => self.op(Op::delete(Table::Tickets, key)),
        }
    }

    /// The price of a class, as it is now.
    pub(super) fn ticket_price(&mut self, class: ChainId) {
        let known = self.market().tickets().and_then(|book| book.record().prices.get(&class)).copied();
        if let Some(TicketPrice { price, sold }) = known {
            let key = [&[PRICE][..], &class.to_be_bytes()].concat();
            self.row(Table::Tickets, key, &PriceRow { price: Decimal(price), sold });
        }
    }

    /// What was drawn for a slot of a class, as it is now or is not any more.
    pub(super) fn drawn(&mut self, slot: SlotNumber, class: ChainId) {
        let key = [&[DRAWN][..], &slot.to_be_bytes(), &class.to_be_bytes()].concat();
        let known = self.market().tickets().and_then(|book| book.record().drawn.get(&(slot, class))).cloned();
        match known {
            Some(Drawn { number, rollups, owner, price }) => {
                let row = DrawnRow { number, rollups, owner, price: Decimal(price) };
                self.row(Table::Tickets, key, &row);
            }
            None => self.op(Op::delete(Table::Tickets, key)),
        }
    }
}

/// The tickets that are stored.
///
/// # Errors
/// When a row cannot be read.
pub(super) fn stored_tickets(store: &Store, issued: u64) -> Result<TicketRecord, RowError> {
    let table = Table::Tickets;
    let mut record = TicketRecord { issued, prices: BTreeMap::new(), ..TicketRecord::default() };
    for (key, value) in store.scan(table)? {
        let (kind, key) = key.split_first().ok_or_else(|| wrong(table, "an empty key"))?;
        match *kind {
            TICKET => {
                let TicketRow { class, owner, price, offer } = row(table, &value)?;
                let ticket = Ticket { class, owner, price: price.0, offer: offer.map(|offer| offer.0) };
                record.tickets.insert(number(table, key)?, ticket);
            }
            PRICE => {
                let PriceRow { price, sold } = row(table, &value)?;
                record.prices.insert(number(table, key)?, TicketPrice { price: price.0, sold });
            }
            DRAWN => {
                let (slot, class) = key.split_at_checked(8).ok_or_else(|| wrong(table, "a short key"))?;
                let DrawnRow { number: ticket, rollups, owner, price } = row(table, &value)?;
                let drawn = Drawn { number: ticket, rollups, owner, price: price.0 };
                record.drawn.insert((number(table, slot)?, number(table, class)?), drawn);
            }
            _ => return Err(wrong(table, "a key of another kind")),
        }
    }
    Ok(record)
}

fn wire_set(rollups: &RollupSet) -> Vec<U64> {
    rollups.iter().map(|chain| U64::from(*chain)).collect()
}

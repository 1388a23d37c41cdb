//! Tickets: a builder for a market that sells them keeps some, as long as they cost no more than what slots are worth.

use alloy_primitives::U256;
use lockstep_market::Forecast;
use lockstep_primitives::{RollupSet, SlotNumber, TicketOrder, TicketSide};
use lockstep_rpc::{
    api::MarketApiClient,
    wire::{TicketClassView, TicketOrderWire, TicketsView},
};

use super::BuilderRole;
use crate::clock::now_ms;

impl BuilderRole {
    /// Buys tickets that are missing.
    pub(super) async fn buy_tickets(&self, slot: SlotNumber) {
        let Some(hold) = self.settings.tickets else { return };
        let TicketsView { classes, tickets, .. } = match self.market.get_tickets().await {
            Ok(Some(view)) => view,
            Ok(None) => return,
            Err(error) => return tracing::warn!(slot, %error, "the market does not tell its tickets"),
        };
        let own = self.address();
        for (nonce, class) in (now_ms()..).zip(&classes) {
            let owned = tickets.iter().filter(|ticket| ticket.owner == own && ticket.rollups == class.rollups).count() as u64;
            let order = order(class, hold.saturating_sub(owned), &self.forecast.lock(), nonce);
            let Some(order) = order.filter(|order| order.price >= class.price.0) else { continue };
            let wire = TicketOrderWire::new(&order, self.settings.key.sign_bytes(order.digest()));
            match self.market.submit_ticket_order(wire).await {
                Ok(receipt) => {
                    metrics::counter!("lockstep_tickets_bought_total").increment(receipt.fills.len() as u64);
                    tracing::debug!(slot, rollups = ?order.rollups, bought = receipt.fills.len(), "tickets were bought");
                }
                Err(error) => {
                    tracing::warn!(slot, rollups = ?order.rollups, price = %order.price, %error, "no ticket was bought")
                }
            }
        }
    }
}

/// What to order of a class: as many as are missing, if one is worth what it may cost.
fn order(class: &TicketClassView, missing: u64, forecast: &Forecast, nonce: u64) -> Option<TicketOrder> {
    let rollups: RollupSet = class.rollups.iter().map(|chain| chain.to()).collect();
    let price: U256 = forecast.worth(&rollups).filter(|worth| missing > 0 && !worth.is_zero())?;
    Some(TicketOrder { rollups, side: TicketSide::Buy, count: missing, price, nonce })
}

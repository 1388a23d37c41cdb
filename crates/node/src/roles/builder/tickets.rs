//! Tickets: a builder for a market that sells them keeps some, as long as they cost no more than what slots are worth.

use alloy_primitives::{I256, U256};
use lockstep_building::Standing;
use lockstep_market::Forecast;
use lockstep_primitives::{RollupSet, SlotNumber, TicketOrder, TicketSide};
use lockstep_rpc::{
    api::MarketApiClient,
    wire::{TicketClassView, TicketOrderWire, TicketsView},
};

use super::BuilderRole;
use crate::{clock::now_ms, process::TicketPlan};

/// What a builder knows of tickets.
#[derive(Debug)]
pub(super) struct TicketBuyer {
    plan: TicketPlan,
    forecast: Forecast,
}

impl TicketBuyer {
    /// Knows nothing yet.
    pub(super) fn new(plan: TicketPlan) -> Self {
        Self { plan, forecast: Forecast::new(plan.window, plan.quantile_bps, plan.margin_bps) }
    }

    fn observe(&mut self, standings: &[(RollupSet, Standing)]) {
        let worth = standings.iter().filter(|(_, standing)| standing.value > I256::ZERO);
        self.forecast.observe(worth.map(|(rollups, standing)| (rollups.clone(), standing.value.into_raw())));
    }

    /// What to order of a class: as many as are missing, if one is worth what it may cost.
    fn order(&self, class: &TicketClassView, owned: u64, nonce: u64) -> Option<TicketOrder> {
        let rollups: RollupSet = class.rollups.iter().map(|chain| chain.to()).collect();
        let count = self.plan.hold.checked_sub(owned).filter(|missing| *missing > 0)?;
        let price: U256 = self.forecast.worth(&rollups).filter(|worth| !worth.is_zero())?;
        Some(TicketOrder { rollups, side: TicketSide::Buy, count, price, nonce })
    }
}

impl BuilderRole {
    /// Learns from a slot what slots are worth, and buys tickets that are missing.
    pub(super) async fn buy_tickets(&self, slot: SlotNumber, standings: &[(RollupSet, Standing)]) {
        if let Some(buyer) = self.tickets.lock().as_mut() {
            buyer.observe(standings);
        } else {
            return;
        }
        let TicketsView { classes, tickets, .. } = match self.market.get_tickets().await {
            Ok(Some(view)) => view,
            Ok(None) => return,
            Err(error) => return tracing::warn!(slot, %error, "the market does not tell its tickets"),
        };
        let own = self.address();
        for (nonce, class) in (now_ms()..).zip(&classes) {
            let owned = tickets.iter().filter(|ticket| ticket.owner == own && ticket.rollups == class.rollups).count() as u64;
            let order = self.tickets.lock().as_ref().and_then(|buyer| buyer.order(class, owned, nonce));
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

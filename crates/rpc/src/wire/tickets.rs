//! Execution tickets as JSON.

use alloy_primitives::{Address, B256, Bytes, U64};
use jsonrpsee::types::ErrorObjectOwned;
use lockstep_primitives::{TicketOrder, TicketSide};
use serde::{Deserialize, Serialize};

use super::{Decimal, chains};
use crate::invalid_params;

/// The parameter of `market_submitTicketOrder`: an order and its account's EIP-712 signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TicketOrderWire {
    /// All rollups of the class.
    pub rollups: Vec<U64>,
    /// `buy` or `sell`.
    pub side: String,
    /// How many.
    pub count: u64,
    /// For each, in the numeraire's smallest unit.
    pub price: Decimal,
    /// Above that of the account's earlier requests.
    pub nonce: u64,
    /// 65 bytes r || s || v.
    pub signature: Bytes,
}

impl TicketOrderWire {
    /// A signed order.
    pub fn new(order: &TicketOrder, signature: Bytes) -> Self {
        let TicketOrder { rollups, side, count, price, nonce } = order;
        let (rollups, side) = (chains(rollups), side.name().to_owned());
        Self { rollups, side, count: *count, price: Decimal(*price), nonce: *nonce, signature }
    }

    /// What is signed.
    ///
    /// # Errors
    /// When the side is none.
    pub fn order(&self) -> Result<TicketOrder, ErrorObjectOwned> {
        let side = [TicketSide::Buy, TicketSide::Sell].into_iter().find(|side| side.name() == self.side);
        let side = side.ok_or_else(|| {
            invalid_params("unknown_side", format!("there is no side {:?}", self.side), "there are \"buy\" and \"sell\"")
        })?;
        let rollups = self.rollups.iter().map(|chain| chain.to()).collect();
        Ok(TicketOrder { rollups, side, count: self.count, price: self.price.0, nonce: self.nonce })
    }
}

/// The answer of `market_submitTicketOrder`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TicketReceipt {
    /// The order's EIP-712 digest.
    pub order_hash: B256,
    /// What was bought; nothing by an order to sell.
    pub fills: Vec<FillView>,
}

/// A ticket that was bought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FillView {
    /// Its number.
    pub ticket: u64,
    /// For how much.
    pub price: Decimal,
    /// From whom; absent when it was issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Address>,
}

/// The answer of `market_getTickets`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TicketsView {
    /// How many slots before its own a slot's tickets are drawn.
    pub lookahead: u64,
    /// How many tickets of a class there may be at a time.
    pub outstanding: u64,
    /// The most of a draw's chances that one holder has, in basis points.
    pub max_share_bps: u64,
    /// The classes.
    pub classes: Vec<TicketClassView>,
    /// All tickets, by number.
    pub tickets: Vec<TicketView>,
    /// What was drawn for slots that are not closed.
    pub drawn: Vec<DrawnView>,
}

/// A class of tickets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TicketClassView {
    /// Its rollups.
    pub rollups: Vec<U64>,
    /// What the next ticket is issued for.
    pub price: Decimal,
    /// How many there are.
    pub outstanding: u64,
}

/// A ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TicketView {
    /// Its number.
    pub ticket: u64,
    /// The rollups of its class.
    pub rollups: Vec<U64>,
    /// Whose it is.
    pub owner: Address,
    /// What it was issued for.
    pub price: Decimal,
    /// For how much it is to be had; absent when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer: Option<Decimal>,
}

/// A ticket that was drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrawnView {
    /// For which slot.
    pub slot: u64,
    /// Its number.
    pub ticket: u64,
    /// For which rollups its owner proposes.
    pub rollups: Vec<U64>,
    /// Whose it was.
    pub owner: Address,
    /// What the sellers are paid.
    pub price: Decimal,
}

//! Timeboost bids as JSON, as Arbitrum's auctioneer takes them.

use alloy_primitives::{Address, Bytes, U64, U256};
use serde::{Deserialize, Serialize};

/// The parameter of `auctioneer_submitBid`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TimeboostBidWire {
    /// The chain whose slots are sold.
    pub chain_id: U256,
    /// Who is to have the slot: here the bidder itself.
    pub express_lane_controller: Address,
    /// The auction contract that the bid is signed for.
    pub auction_contract_address: Address,
    /// The round, which is the slot.
    pub round: U64,
    /// In the numeraire's smallest unit.
    pub amount: U256,
    /// 65 bytes r || s || v with v 27 or 28.
    pub signature: Bytes,
}

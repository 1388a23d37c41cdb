//! `auctioneer_submitBid`: Timeboost's bids, for slots of one rollup.

use alloy_primitives::ChainId;
use jsonrpsee::core::{RpcResult, async_trait};
use lockstep_market::{AcceptedBid, TimeboostBid, TimeboostDomain, TimeboostError};
use lockstep_rpc::{api::AuctioneerApiServer, invalid_params, wire::TimeboostBidWire};
use serde::{Deserialize, Serialize};

use super::{Changes, MarketRole, MarketRpc};
use crate::clock::now_ms;

/// A Timeboost bid as it is stored, among other bids.
#[derive(Serialize, Deserialize)]
pub(super) struct TimeboostRow {
    timeboost: TimeboostBidWire,
    nonce: u64,
}

impl TimeboostRow {
    /// The bid in the slot's book.
    ///
    /// # Errors
    /// When nobody can have signed it.
    pub(super) fn accepted(&self) -> Result<AcceptedBid, TimeboostError> {
        let bid = core(&self.timeboost);
        let domain = TimeboostDomain {
            chain: ChainId::try_from(bid.chain).unwrap_or_default(),
            contract: self.timeboost.auction_contract_address,
        };
        let bidder = domain.bidder(&bid)?;
        let mut accepted = bid.offer(&domain, bidder, bid.round);
        accepted.bid.nonce = self.nonce;
        Ok(accepted)
    }
}

impl MarketRole {
    async fn take_timeboost(&self, wire: TimeboostBidWire) -> RpcResult<()> {
        let Some(domain) = self.settings.timeboost else {
            let text = "this market takes no Timeboost bids";
            return Err(invalid_params("no_timeboost", text, "bid with market_submitBid"));
        };
        self.has_room()?;
        let queued = {
            let mut inner = self.inner.lock();
            let taken = inner.market.timeboost_bid(&domain, &core(&wire), now_ms()).map_err(|error| {
                metrics::counter!("lockstep_market_refused_total", "reason" => error.code()).increment(1);
                invalid_params(error.code(), error.to_string(), error.hint())
            })?;
            let mut changes = Changes::new(&inner.market);
            taken.removed.iter().for_each(|removed| changes.no_bid(removed));
            if let Some(added) = &taken.added {
                changes.timeboost_bid(added, &TimeboostRow { timeboost: wire, nonce: added.bid.nonce });
            }
            taken.posting.iter().for_each(|posting| changes.posting(posting));
            let ops = changes.into_ops();
            inner.note_postings(taken.posting.as_slice());
            self.store.queue(ops)
        };
        self.written(queued).await
    }
}

#[async_trait]
impl AuctioneerApiServer for MarketRpc {
    async fn submit_timeboost_bid(&self, bid: TimeboostBidWire) -> RpcResult<()> {
        self.take_timeboost(bid).await
    }
}

fn core(wire: &TimeboostBidWire) -> TimeboostBid {
    TimeboostBid {
        chain: wire.chain_id,
        express_lane_controller: wire.express_lane_controller,
        auction_contract: wire.auction_contract_address,
        round: wire.round.to(),
        amount: wire.amount,
        signature: wire.signature.clone(),
    }
}

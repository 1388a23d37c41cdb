//! `market_*`.

use alloy_primitives::{Address, U64};
use jsonrpsee::core::{RpcResult, async_trait};
use lockstep_rpc::{
    api::MarketApiServer,
    invalid_params, not_found,
    wire::{
        AllocationWire, BidReceipt, BidView, BidWire, Decimal, DeliveryReportWire, MarketSlot, RegistrationWire, RollupTerms,
    },
};

use super::{MarketRpc, SLOTS_AHEAD, market_error};
use crate::clock::now_ms;

#[async_trait]
impl MarketApiServer for MarketRpc {
    async fn register_rollup(&self, registration: RegistrationWire) -> RpcResult<bool> {
        self.take_terms(registration, false).await
    }

    async fn update_rollup(&self, registration: RegistrationWire) -> RpcResult<bool> {
        self.take_terms(registration, true).await
    }

    async fn get_rollup(&self, chain_id: U64) -> RpcResult<Option<RollupTerms>> {
        Ok(self.terms_of(chain_id))
    }

    async fn submit_bid(&self, bid: BidWire) -> RpcResult<BidReceipt> {
        let now = now_ms();
        let slot = bid.slot;
        let current = self.bidding_slot(now);
        if slot > current + SLOTS_AHEAD {
            return Err(invalid_params("too_far_ahead", format!("slot {slot} is not open yet"), "bid for a nearer slot"));
        }
        let receipt = {
            let mut inner = self.inner.lock();
            if slot < current || inner.closed.contains_key(&slot) {
                return Err(invalid_params("slot_closed", format!("slot {slot} is closed"), "bid for a later slot"));
            }
            self.ensure_open(&mut inner, slot).map_err(|error| market_error(&error))?;
            let (auction, _) = inner.open.get_mut(&slot).ok_or_else(|| not_found("the slot is not open"))?;
            auction
                .submit(bid.bid(), &bid.signature, now, self.timings.clock.close_ms(slot))
                .map_err(|error| market_error(&error))?
        };
        Ok(BidReceipt { bid_hash: receipt })
    }

    async fn get_market_slot(&self, slot: Option<u64>) -> RpcResult<MarketSlot> {
        let now = now_ms();
        let slot = slot.unwrap_or_else(|| self.bidding_slot(now));
        let clock = self.timings.clock;
        if slot > self.bidding_slot(now) + SLOTS_AHEAD {
            return Err(not_found(format!("slot {slot} is not open yet")));
        }
        let mut inner = self.inner.lock();
        if clock.close_ms(slot) > now {
            self.ensure_open(&mut inner, slot).map_err(|error| market_error(&error))?;
        }
        let (state, on_sale, bids) = match (inner.open.get(&slot), inner.closed.get(&slot)) {
            (_, Some(closed)) => {
                let bids = closed
                    .outcome
                    .bids
                    .iter()
                    .map(|accepted| BidView {
                        bidder: accepted.bidder,
                        rollups: accepted.bid.rollups.iter().map(|chain| U64::from(*chain)).collect(),
                        amount: Decimal(accepted.bid.amount),
                        exclusive: accepted.bid.exclusive.clone(),
                    })
                    .collect();
                ("closed", &closed.on_sale, bids)
            }
            (Some((_, on_sale)), None) => ("open", on_sale, Vec::new()),
            (None, None) => return Err(not_found(format!("slot {slot} is over and forgotten"))),
        };
        let on_sale = on_sale.clone();
        Ok(MarketSlot {
            slot,
            start_ms: clock.start_ms(slot),
            end_ms: clock.end_ms(slot),
            close_ms: clock.close_ms(slot),
            decide_ms: self.timings.decide_ms(slot),
            durable_record: self.store.is_durable(),
            state: state.to_owned(),
            on_sale,
            bids,
        })
    }

    async fn get_allocation(&self, slot: u64) -> RpcResult<Option<AllocationWire>> {
        self.allocation(slot)
    }

    async fn market_address(&self) -> RpcResult<Address> {
        Ok(self.key.address())
    }
}


//! `market_*`.

use alloy_primitives::{Address, U64};
use jsonrpsee::{
    Extensions, PendingSubscriptionSink, SubscriptionMessage,
    core::{RpcResult, SubscriptionResult, async_trait},
};
use lockstep_market::{AcceptedBid, MarketError, Taken, seed_commitment};
use lockstep_rpc::{
    api::MarketApiServer,
    invalid_params, not_found,
    wire::{
        AllocationWire, BidCancellationWire, BidReceipt, BidView, BidWire, BlindedProposalWire, CallView, Decimal,
        DeliveryReportWire, DepositWire, EpochBidWire, EpochView, EscrowView, LedgerView, MarketSlot, OpeningWire,
        ProposalCallWire, ProposalParams, ProposalRevealWire, ProposalView, RegistrationWire, RevenueParams, RevenueView,
        RightOfferWire, RightTransferWire, RightView, RollupTerms, SealedBidsWire, SealingView, SeedView, TicketOrderWire,
        TicketReceipt, TicketsView, WithdrawalReceipt, WithdrawalWire,
    },
};
use lockstep_store::{Queued, StoreError};
use tokio::sync::broadcast::error::RecvError;

use super::{Changes, Inner, MarketEvent, MarketRole, MarketRpc, ahead::held, market_error, sales};
use crate::{api::signer, clock::now_ms};

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
        self.has_room()?;
        let (bid_hash, queued) = {
            let mut inner = self.inner.lock();
            let taken = inner.market.bid(bid.bid(), &bid.signature, now_ms()).map_err(|error| market_error(&error))?;
            (taken.digest, self.note_taken(&mut inner, &taken, Some(&bid)))
        };
        self.written(queued).await?;
        Ok(BidReceipt { bid_hash })
    }

    async fn submit_sealed_bids(&self, sealed: SealedBidsWire) -> RpcResult<BidReceipt> {
        self.take_sealed(sealed).await
    }

    async fn open_bids(&self, opening: OpeningWire) -> RpcResult<bool> {
        self.take_opening(opening).await
    }

    async fn cancel_bid(&self, cancellation: BidCancellationWire) -> RpcResult<bool> {
        self.has_room()?;
        let queued = {
            let mut inner = self.inner.lock();
            let (asked, signature) = (cancellation.cancellation(), &cancellation.signature);
            let taken = inner.market.cancel(&asked, signature, now_ms()).map_err(|error| market_error(&error))?;
            self.note_taken(&mut inner, &taken, None)
        };
        self.written(queued).await?;
        Ok(true)
    }

    async fn submit_ticket_order(&self, order: TicketOrderWire) -> RpcResult<TicketReceipt> {
        self.take_ticket_order(order).await
    }

    async fn get_tickets(&self) -> RpcResult<Option<TicketsView>> {
        self.tickets()
    }

    async fn submit_epoch_bid(&self, bid: EpochBidWire) -> RpcResult<BidReceipt> {
        self.take_epoch_bid(bid).await
    }

    async fn get_epoch(&self, epoch: Option<u64>) -> RpcResult<Option<EpochView>> {
        self.epoch(epoch)
    }

    async fn get_rights(&self, slot: u64) -> RpcResult<Vec<RightView>> {
        Ok(self.rights(slot))
    }

    async fn offer_rights(&self, offer: RightOfferWire) -> RpcResult<bool> {
        self.take_offer(offer).await
    }

    async fn transfer_rights(&self, transfer: RightTransferWire) -> RpcResult<bool> {
        self.take_transfer(transfer).await
    }

    async fn call_proposals(&self, call: ProposalCallWire) -> RpcResult<bool> {
        MarketRole::call_proposals(self, &call)
    }

    async fn get_calls(&self, slot: u64) -> RpcResult<Vec<CallView>> {
        Ok(self.calls(slot))
    }

    async fn submit_proposal(&self, proposal: BlindedProposalWire) -> RpcResult<BidReceipt> {
        self.take_proposal(proposal).await
    }

    async fn reveal_proposal(&self, reveal: ProposalRevealWire) -> RpcResult<bool> {
        self.take_reveal(reveal).await
    }

    async fn get_proposal(&self, params: ProposalParams) -> RpcResult<ProposalView> {
        self.proposal(params).await
    }

    async fn deposit(&self, deposit: DepositWire) -> RpcResult<bool> {
        self.take_deposit(deposit).await
    }

    async fn withdraw(&self, request: WithdrawalWire) -> RpcResult<WithdrawalReceipt> {
        self.take_withdrawal(request).await
    }

    async fn get_ledger(&self, ext: &Extensions, account: Address) -> RpcResult<LedgerView> {
        self.account(account, signer(ext))
    }

    async fn get_escrow(&self) -> RpcResult<Option<EscrowView>> {
        self.escrow_view()
    }

    async fn get_revenue(&self, chain_id: U64, slots: Option<RevenueParams>) -> RpcResult<RevenueView> {
        Ok(self.revenue(chain_id, slots.unwrap_or_default()))
    }

    async fn report_delivery(&self, report: DeliveryReportWire) -> RpcResult<bool> {
        self.take_report(report).await
    }

    async fn get_market_slot(&self, slot: Option<u64>) -> RpcResult<MarketSlot> {
        let now = now_ms();
        let mut inner = self.inner.lock();
        let slot = slot.unwrap_or_else(|| inner.market.first_open(now));
        let (state, on_sale, held, bids, seed) = match (inner.market.outcome(slot), inner.closed.get(&slot)) {
            (Some(outcome), Some(closed)) => {
                let seed = SeedView { secret: self.secret(slot), salts: closed.salts.clone() };
                ("closed", closed.on_sale.clone(), closed.held.clone(), outcome.bids.iter().map(bid_view).collect(), Some(seed))
            }
            _ => {
                match inner.market.open(slot, now) {
                    Ok(_) => {}
                    Err(MarketError::NotOpen { slot, first, .. }) if slot < first => {
                        return Err(not_found(format!("slot {slot} is over and forgotten, or being closed")));
                    }
                    Err(MarketError::NotOpen { slot, .. }) => return Err(not_found(format!("slot {slot} is not open yet"))),
                    Err(error) => return Err(market_error(&error)),
                }
                let book = inner.market.book_of(slot).ok_or_else(|| not_found("the slot is not open"))?;
                ("open", sales(&inner.market, book.sale()), held(&inner.market, book.sale()), Vec::new(), None)
            }
        };
        let (timings, rules) = (&self.settings.timings, inner.market.rules());
        Ok(MarketSlot {
            slot,
            start_ms: timings.clock.start_ms(slot),
            end_ms: timings.clock.end_ms(slot),
            close_ms: timings.clock.close_ms(slot),
            decide_ms: timings.decide_ms(slot),
            durable_record: self.store.is_durable(),
            state: state.to_owned(),
            mechanism: rules.selling.name().to_owned(),
            bond_bps: rules.deposits.map(|deposits| deposits.bond_bps),
            sealing: inner
                .market
                .seal_close_ms(slot)
                .zip(rules.sealing)
                .map(|(seal_ms, rules)| SealingView { seal_ms, forfeit_bps: rules.forfeit_bps }),
            seed_commitment: seed_commitment(self.secret(slot)),
            seed,
            on_sale,
            held,
            bids,
        })
    }

    async fn get_allocation(&self, slot: u64) -> RpcResult<Option<AllocationWire>> {
        self.allocation(slot)
    }

    async fn watch_market(&self, pending: PendingSubscriptionSink, kind: String) -> SubscriptionResult {
        if !["slots", "allocations", "deliveries"].contains(&kind.as_str()) {
            let text = format!("there is no subscription {kind:?}");
            let hint = "there are \"slots\", \"allocations\" and \"deliveries\"";
            pending.reject(invalid_params("unknown_subscription", text, hint)).await;
            return Ok(());
        }
        let mut events = self.events.subscribe();
        let sink = pending.accept().await?;
        loop {
            let event = tokio::select! {
                () = sink.closed() => return Ok(()),
                event = events.recv() => event,
            };
            let value = match (event, kind.as_str()) {
                (Ok(MarketEvent::Slot(slot)), "slots") => serde_json::to_value(self.get_market_slot(Some(slot)).await?)?,
                (Ok(MarketEvent::Allocation(allocation)), "allocations") => serde_json::to_value(allocation)?,
                (Ok(MarketEvent::Delivery(delivery)), "deliveries") => serde_json::to_value(delivery)?,
                (Ok(_), _) => continue,
                (Err(RecvError::Lagged(missed)), _) => serde_json::json!({ "missed": missed }),
                (Err(RecvError::Closed), _) => return Ok(()),
            };
            sink.send(SubscriptionMessage::from(serde_json::value::to_raw_value(&value)?)).await?;
        }
    }

    async fn market_address(&self) -> RpcResult<Address> {
        Ok(self.address())
    }
}

impl MarketRpc {
    fn note_taken(&self, inner: &mut Inner, taken: &Taken, wire: Option<&BidWire>) -> Result<Queued, StoreError> {
        let mut changes = Changes::new(&inner.market);
        let mut place = None;
        match (&taken.removed, &taken.taken_back) {
            (Some(removed), Some(by)) => place = Some(changes.taken_back(removed, by, false)),
            (Some(removed), None) => changes.no_bid(removed),
            (None, _) => {}
        }
        if let (Some(added), Some(wire)) = (&taken.added, wire) {
            changes.bid(added, wire);
        }
        taken.posting.iter().for_each(|posting| changes.posting(posting));
        let ops = changes.into_ops();
        inner.taken_back.extend(place);
        inner.note_postings(taken.posting.as_slice());
        self.store.queue(ops)
    }
}

pub(super) fn bid_view(accepted: &AcceptedBid) -> BidView {
    BidView {
        bidder: accepted.bidder,
        rollups: accepted.bid.rollups.iter().map(|chain| U64::from(*chain)).collect(),
        amount: Decimal(accepted.bid.amount),
        exclusive: accepted.bid.exclusive.clone(),
    }
}

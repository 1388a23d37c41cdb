//! The interface of Espresso's marketplace solver, over this market.

use std::sync::Arc;

use alloy_primitives::Address;
use async_trait::async_trait;
use jsonrpsee::types::ErrorObjectOwned;
use lockstep_market::{AcceptedBid, ESPRESSO_TAG, EspressoBid, EspressoError, MAX_CLOSED, Outcome};
use lockstep_primitives::SlotNumber;
use lockstep_rpc::{
    Rest, RestRequest,
    wire::{BidTxBodyWire, BidTxWire, FeeAmount, RollupRegistrationBodyWire, RollupRegistrationWire, SolverAuctionResultsWire},
};
use serde::{Deserialize, Serialize};

use super::{Changes, Inner, MarketRole, market_error};
use crate::clock::now_ms;

/// What the solver's paths begin with.
const PREFIX: &str = "/marketplace-solver/";

/// A bid of Espresso's kind as it is stored, among other bids.
#[derive(Serialize, Deserialize)]
pub(super) struct EspressoRow {
    espresso: BidTxWire,
    nonce: u64,
}

impl EspressoRow {
    /// The bid in the slot's book, and as it came.
    ///
    /// # Errors
    /// When its account did not sign it.
    pub(super) fn accepted(self) -> Result<(AcceptedBid, BidTxWire), EspressoError> {
        let accepted = core(&self.espresso.body).accepted(&self.espresso.signature.bytes(), self.nonce)?;
        Ok((accepted, self.espresso))
    }
}

/// The solver's interface.
#[derive(Clone, Debug)]
pub(crate) struct Solver(pub(crate) Arc<MarketRole>);

/// Why something is refused: a status, a stable code, and words.
struct Refusal(u16, String, String);

impl From<ErrorObjectOwned> for Refusal {
    fn from(error: ErrorObjectOwned) -> Self {
        let data: serde_json::Value =
            error.data().and_then(|data| serde_json::from_str(data.get()).ok()).unwrap_or(serde_json::Value::Null);
        let reason = data["reason"].as_str().unwrap_or("refused").to_owned();
        Self(400, reason, error.message().to_owned())
    }
}

#[async_trait]
impl Rest for Solver {
    fn prefix(&self) -> &'static str {
        PREFIX
    }

    async fn answer(&self, request: RestRequest) -> (u16, String) {
        let path: Vec<&str> = request.path.trim_matches('/').split('/').collect();
        let answered = match (request.post, path.as_slice()) {
            (true, ["submit_bid"]) => self.submit_bid(&request.body).await,
            (false, ["auction_results", view]) => self.auction_results(view),
            (false, ["auction_results_permissioned", ..]) => Err(no_leader()),
            (true, ["register_rollup" | "update_rollup"]) => Err(no_bls()),
            (false, ["rollup_registrations"]) => json(&self.rollup_registrations()),
            _ => Err(Refusal(404, "unknown_path".to_owned(), format!("the solver has no {}", request.path))),
        };
        match answered {
            Ok(body) => (200, body),
            Err(Refusal(status, reason, text)) => {
                metrics::counter!("lockstep_market_refused_total", "reason" => reason.clone()).increment(1);
                let error = serde_json::json!({ "Custom": { "status": status, "message": format!("{reason}: {text}") } });
                (status, error.to_string())
            }
        }
    }
}

impl Solver {
    async fn submit_bid(&self, body: &[u8]) -> Result<String, Refusal> {
        let wire: BidTxWire = serde_json::from_slice(body)
            .map_err(|error| Refusal(400, "malformed_bid".to_owned(), format!("the bid cannot be read: {error}")))?;
        let market = &self.0;
        market.has_room()?;
        let queued = {
            let mut inner = market.inner.lock();
            let (bid, signature) = (core(&wire.body), wire.signature.bytes());
            let taken = inner.market.espresso_bid(&bid, &signature, now_ms()).map_err(|error| market_error(&error))?;
            let mut changes = Changes::new(&inner.market);
            taken.removed.iter().for_each(|removed| changes.no_bid(removed));
            if let Some(added) = &taken.added {
                changes.espresso_bid(added, &EspressoRow { espresso: wire.clone(), nonce: added.bid.nonce });
            }
            taken.posting.iter().for_each(|posting| changes.posting(posting));
            let ops = changes.into_ops();
            inner.note_postings(taken.posting.as_slice());
            inner.espresso.insert((bid.view, bid.account), wire);
            market.store.queue(ops)
        };
        market.written(queued).await?;
        json(&"Bid Submitted")
    }

    fn auction_results(&self, view: &str) -> Result<String, Refusal> {
        let view: SlotNumber =
            view.parse().map_err(|_| Refusal(400, "malformed_view".to_owned(), format!("{view:?} is no view number")))?;
        let inner = self.0.inner.lock();
        let Some(outcome) = inner.market.outcome(view) else {
            return Err(Refusal(404, "not_final".to_owned(), format!("view {view} is not closed, or forgotten")));
        };
        let winning = outcome.winning_bids().filter(|bid| bid.tag() == Some(ESPRESSO_TAG));
        let winning_bids = winning.filter_map(|bid| inner.espresso.get(&(view, bid.bidder)).cloned()).collect();
        let unsold = outcome.proceeds.keys().filter(|chain| !outcome.wins.iter().any(|win| win.rollups.contains(chain)));
        let url = |chain: &u64| Some((*chain, inner.market.registry().at(*chain, view)?.sequencer_url.clone()));
        json(&SolverAuctionResultsWire { view_number: view, winning_bids, reserve_bids: unsold.filter_map(url).collect() })
    }

    fn rollup_registrations(&self) -> Vec<RollupRegistrationWire> {
        let now = now_ms();
        let mut inner = self.0.inner.lock();
        let slot = inner.market.first_open(now);
        // What is not on sale has no reserve in the slot.
        let reserves = inner.market.open(slot, now).map(|book| book.sale().terms().clone()).unwrap_or_default();
        let registration = |terms: &lockstep_primitives::Registration| RollupRegistrationWire {
            body: RollupRegistrationBodyWire {
                namespace_id: terms.chain,
                reserve_url: Some(terms.sequencer_url.clone()).filter(|url| !url.is_empty()),
                reserve_price: FeeAmount(reserves.get(&terms.chain).map(|terms| terms.reserve).unwrap_or_default()),
                active: terms.active,
                signature_keys: vec![terms.sequencer],
                signature_key: terms.sequencer,
                text: String::new(),
            },
            signature: terms.digest(),
        };
        inner.market.registry().all_at(slot).map(registration).collect()
    }
}

impl Inner {
    /// Of a closed slot only the bids that won are told; of slots that are forgotten none.
    pub(super) fn forget_espresso(&mut self, closed: SlotNumber, outcome: &Outcome) {
        let won = |account: &Address| outcome.winning_bids().any(|bid| bid.bidder == *account && bid.tag() == Some(ESPRESSO_TAG));
        let kept = |slot: SlotNumber| slot > closed || slot.saturating_add(MAX_CLOSED as u64) > closed;
        self.espresso.retain(|(slot, account), _| kept(*slot) && (*slot != closed || won(account)));
    }
}

fn core(body: &BidTxBodyWire) -> EspressoBid {
    let BidTxBodyWire { account, gas_price, bid_amount, url, view, namespaces } = body.clone();
    EspressoBid { account, gas_price: gas_price.0, bid_amount: bid_amount.0, url, view, namespaces }
}

fn json(value: &impl Serialize) -> Result<String, Refusal> {
    serde_json::to_string(value).map_err(|error| Refusal(500, "unwritable".to_owned(), error.to_string()))
}

/// Registrations of that kind are signed with BLS keys over BN254.
fn no_bls() -> Refusal {
    let text = "keys of the solver's kind (BLS over BN254) are not taken: register with market_registerRollup";
    Refusal(501, "unsupported_signature_key".to_owned(), text.to_owned())
}

/// Who leads a view of Espresso's consensus is not known here.
fn no_leader() -> Refusal {
    let text = "this market follows no leaders of views: ask for auction_results once the view is closed";
    Refusal(501, "unsupported_permission".to_owned(), text.to_owned())
}

//! A Lockstep process behind its URL, as a searcher, a bidder or a sequencer meets it.

use std::fmt::Debug;

use alloy_primitives::{B256, ChainId};
use jsonrpsee::{
    core::ClientError,
    http_client::{HttpClient, HttpClientBuilder},
};
use lockstep_primitives::BundleState;
use lockstep_rpc::{
    RpcError,
    api::{LockstepApiClient, MarketApiClient},
    wire::{AllocationWire, BundleParams, BundleStatus, MarketSlot, Obstacle, SlotReport},
};

use crate::wait::{seen, until};

/// A process.
#[derive(Debug)]
pub(crate) struct Lockstep {
    pub(crate) client: HttpClient,
}

/// Where a transaction of a landed bundle is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) chain: ChainId,
    pub(crate) block: u64,
    pub(crate) index: u64,
    pub(crate) hash: B256,
}

/// Where the transactions of a landed bundle are, leg by leg.
pub(crate) fn places(status: &BundleStatus) -> Vec<Placed> {
    let mut places = Vec::new();
    for leg in &status.legs {
        for tx in &leg.transactions {
            assert_eq!(tx.success, Some(true), "{tx:?}");
            places.push(Placed {
                chain: leg.chain_id.to(),
                block: tx.block_number.expect("a landed transaction has a block").to(),
                index: tx.index.expect("a landed transaction has an index").to(),
                hash: tx.transaction_hash,
            });
        }
    }
    places
}

/// The JSON-RPC code and the stable reason of a refusal.
pub(crate) fn refused<T: Debug>(answer: Result<T, ClientError>) -> (i32, String) {
    match answer {
        Err(ClientError::Call(error)) => {
            let data = error.data().expect("every refusal has data");
            let data: RpcError = serde_json::from_str(data.get()).expect("and the data has a reason");
            assert!(!data.hint.is_empty(), "{error}");
            (error.code(), data.reason)
        }
        other => panic!("this should have been refused: {other:?}"),
    }
}

impl Lockstep {
    pub(crate) fn at(url: &str) -> Self {
        Self { client: HttpClientBuilder::default().build(url).expect("a client of an HTTP URL") }
    }

    /// Sends a bundle and returns its Lockstep hash.
    pub(crate) async fn send(&self, bundle: &BundleParams) -> B256 {
        let bundle = serde_json::to_value(bundle).expect("a bundle is JSON");
        self.client.send_bundle(bundle).await.expect("the bundle is admitted").bundle_hash
    }

    pub(crate) async fn status(&self, hash: B256) -> BundleStatus {
        self.client.get_bundle(hash).await.expect("the bundle is known")
    }

    /// Waits until all of a bundle is on its chains.
    pub(crate) async fn landed(&self, hash: B256) -> BundleStatus {
        let landed = seen(async || {
            let status = self.status(hash).await;
            let ended = BundleState::ALL.into_iter().any(|state| state.is_final() && state.as_str() == status.state);
            let landed = status.state == BundleState::Landed.as_str();
            assert!(landed || !ended, "the bundle ended otherwise: {status:?}");
            landed.then_some(status)
        })
        .await;
        match landed {
            Some(status) => status,
            None => panic!("the bundle does not land: {:?}", self.status(hash).await),
        }
    }

    /// Waits until a bundle is known to be kept from landing for this reason. Others may come first: a process that has just
    /// started may not have every rollup in its first slot.
    pub(crate) async fn blocked(&self, hash: B256, reason: &str) -> Obstacle {
        until(&format!("the bundle is blocked: {reason}"), async || {
            self.status(hash).await.blocked.filter(|obstacle| obstacle.reason == reason)
        })
        .await
    }

    /// Waits until a slot is over and told of.
    pub(crate) async fn report(&self, slot: u64) -> SlotReport {
        until(&format!("slot {slot} is reported"), async || {
            self.client.get_slot(Some(slot)).await.expect("the slot is known").report
        })
        .await
    }

    /// The slot that is open for bids.
    pub(crate) async fn open_slot(&self) -> MarketSlot {
        self.client.get_market_slot(None).await.expect("a slot is open")
    }

    /// Waits until the bids for a slot are open to all.
    pub(crate) async fn closed(&self, slot: u64) -> MarketSlot {
        until(&format!("slot {slot} is closed"), async || {
            // Between its time and its closing a slot that nobody asked for is not there.
            let market = self.client.get_market_slot(Some(slot)).await.ok()?;
            (market.state == "closed").then_some(market)
        })
        .await
    }

    /// Waits until it is known who proposes in a slot.
    pub(crate) async fn allocation(&self, slot: u64) -> AllocationWire {
        until(&format!("slot {slot} is allocated"), async || self.client.get_allocation(slot).await.expect("the market answers"))
            .await
    }
}

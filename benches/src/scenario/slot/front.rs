//! A way to the market that notes when which bid passes.
//!
//! The builder is told that the market is here. Everything goes on to the market as it is, and its answers come back; the hop
//! costs a fraction of a millisecond, which is counted against the builder.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use jsonrpsee::{
    RpcModule,
    core::{ClientError, client::ClientT, params::ArrayParams},
    http_client::{HttpClient, HttpClientBuilder},
    server::{Server, ServerHandle},
    types::{ErrorObjectOwned, Params},
};
use serde_json::Value;

use crate::Failed;

/// The method that takes bids.
const BID: &str = "market_submitBid";
/// What a market answers (`docs/RPC.md`).
const METHODS: [&str; 9] = [
    BID,
    "market_registerRollup",
    "market_getRollup",
    "market_getSlot",
    "market_getAllocation",
    "market_reportDelivery",
    "market_address",
    "decision_record",
    "decision_get",
];
/// "Internal error" of JSON-RPC 2.0.
const INTERNAL: i32 = -32_603;

/// A bid that came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PassedBid {
    /// For which slot.
    pub(super) slot: u64,
    /// When it came here.
    pub(super) at: Instant,
    /// Whether the market took it.
    pub(super) taken: bool,
}

#[derive(Debug)]
struct Through {
    market: HttpClient,
    bids: Mutex<Vec<PassedBid>>,
}

/// A JSON-RPC server in front of a market. It ends when it is stopped.
#[derive(Debug)]
pub(super) struct Front {
    url: String,
    through: Arc<Through>,
    server: ServerHandle,
}

impl Front {
    /// Listens in front of the market at a URL.
    ///
    /// # Errors
    /// When the URL is none, or there is no free port.
    pub(super) async fn start(market: &str) -> Result<Self, Failed> {
        let through = Arc::new(Through { market: HttpClientBuilder::default().build(market)?, bids: Mutex::default() });
        let mut module = RpcModule::from_arc(Arc::clone(&through));
        for method in METHODS {
            module.register_async_method(method, move |params, through, _| pass(method, params, through))?;
        }
        let server = Server::builder().build("127.0.0.1:0").await?;
        let url = format!("http://{}", server.local_addr()?);
        Ok(Self { url, through, server: server.start(module) })
    }

    /// Where it listens.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The bids that came by so far, in the order of their answers.
    pub(super) fn bids(&self) -> Vec<PassedBid> {
        self.through.bids.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it.
    ///
    /// # Errors
    /// When it has ended already.
    pub(super) fn stop(self) -> Result<(), Failed> {
        Ok(self.server.stop()?)
    }
}

async fn pass(method: &'static str, params: Params<'static>, through: Arc<Through>) -> Result<Value, ErrorObjectOwned> {
    let at = Instant::now();
    let params = params.parse::<Option<Vec<Value>>>()?.unwrap_or_default();
    let slot = params.first().and_then(|bid| bid.get("slot")).and_then(Value::as_u64);
    let mut passed = ArrayParams::new();
    for param in params {
        passed.insert(param).map_err(internal)?;
    }
    let answer = through.market.request::<Value, _>(method, passed).await;
    if let (BID, Some(slot)) = (method, slot) {
        let bid = PassedBid { slot, at, taken: answer.is_ok() };
        through.bids.lock().unwrap_or_else(PoisonError::into_inner).push(bid);
    }
    answer.map_err(|error| match error {
        ClientError::Call(refusal) => refusal,
        other => internal(other),
    })
}

fn internal(error: impl std::fmt::Display) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(INTERNAL, error.to_string(), None::<()>)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_noted_and_refusals_come_back_as_they_are() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut module = RpcModule::new(());
            module
                .register_method(BID, |params, (), _| {
                    let bid: Value = params.one()?;
                    if bid["slot"] == 7 {
                        Ok(Value::from("taken"))
                    } else {
                        Err(ErrorObjectOwned::owned(-32_602, "the slot is closed", Some("slot_closed")))
                    }
                })
                .unwrap();
            module.register_method("market_address", |_, (), _| Value::from("here")).unwrap();
            let market = Server::builder().build("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", market.local_addr().unwrap());
            let market = market.start(module);
            let front = Front::start(&url).await.unwrap();
            let client = HttpClientBuilder::default().build(front.url()).unwrap();
            let bid = |slot: u64| jsonrpsee::rpc_params![serde_json::json!({ "slot": slot })];
            assert_eq!(client.request::<Value, _>(BID, bid(7)).await.unwrap(), "taken");
            match client.request::<Value, _>(BID, bid(8)).await {
                Err(ClientError::Call(refusal)) => {
                    assert_eq!((refusal.code(), refusal.message()), (-32_602, "the slot is closed"));
                    assert_eq!(refusal.data().unwrap().get(), "\"slot_closed\"");
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(client.request::<Value, _>("market_address", ArrayParams::new()).await.unwrap(), "here");
            let bids: Vec<(u64, bool)> = front.bids().iter().map(|bid| (bid.slot, bid.taken)).collect();
            assert_eq!(bids, [(7, true), (8, false)]);
            front.stop().unwrap();
            market.stop().unwrap();
        });
    }
}

//! When to look at the head: whenever a subscription announces one, and every so often.

use std::{future::pending, time::Duration};

use alloy_primitives::U64;
use jsonrpsee::{
    core::client::{ClientT, Subscription, SubscriptionClientT},
    ws_client::{PingConfig, WsClient, WsClientBuilder},
};
use reqwest::Url;
use serde::de::IgnoredAny;
use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::{
    endpoints::{backoff, millis, public_name},
    wire::Rpc,
};

/// Announcements that wait for their reader. When more do, the subscription ends and is made again.
pub(super) const MAX_ANNOUNCED: usize = 4_096;
/// A connection that is silent for so long is asked whether it lives.
const PING: Duration = Duration::from_secs(10);
/// A connection that does not answer then for so long is given up.
const SILENCE: Duration = Duration::from_secs(20);

/// What a subscription has told so far.
#[derive(Clone, Copy, Debug, Default)]
struct Announced {
    /// Grows with every head.
    heads: u64,
    /// Whether the subscription stands.
    live: bool,
}

/// Says when to look at the head. Ends its subscription when it is dropped.
#[derive(Debug)]
pub(crate) struct HeadSignal {
    idle: Duration,
    poll: Duration,
    announced: watch::Receiver<Announced>,
    listening: Option<AbortHandle>,
}

impl HeadSignal {
    /// Begins to listen, where the rollup has a `ws://` endpoint. To be called inside a tokio runtime.
    pub(crate) fn start(rpc: &Rpc) -> Self {
        let limits = rpc.limits();
        let (sender, announced) = watch::channel(Announced::default());
        let listening =
            if rpc.announcers().is_empty() { None } else { Some(tokio::spawn(listen(rpc.clone(), sender)).abort_handle()) };
        Self { idle: millis(limits.poll_idle_ms), poll: millis(limits.poll_ms), announced, listening }
    }

    /// Waits until it is time to look: a head was announced since the last time, a subscription began or ended, or nothing
    /// happened for too long.
    pub(crate) async fn next(&mut self) {
        let period = if self.is_live() { self.idle } else { self.poll };
        let announced = async {
            // Nobody announces anything: then only the time counts.
            if self.announced.changed().await.is_err() {
                pending::<()>().await;
            }
        };
        // Both ends of the wait mean the same.
        let _ = timeout(period, announced).await;
    }

    /// Whether heads are announced at present.
    pub(crate) fn is_live(&self) -> bool {
        self.announced.borrow().live
    }
}

impl Drop for HeadSignal {
    fn drop(&mut self) {
        if let Some(listening) = &self.listening {
            listening.abort();
        }
    }
}

/// Listens at one endpoint after the other, for ever.
async fn listen(rpc: Rpc, announced: watch::Sender<Announced>) {
    let mut failures = 0;
    for (index, url) in rpc.announcers().iter().enumerate().cycle() {
        let cause = match heads(&rpc, url, &announced, &mut failures).await {
            Ok(()) => "the subscription ended".to_owned(),
            Err(cause) => cause,
        };
        announced.send_if_modified(|announced| std::mem::take(&mut announced.live));
        gauge(&rpc, false);
        failures = u32::saturating_add(failures, 1);
        // One line when it goes, not one a try.
        if failures == 1 {
            tracing::warn!(chain = rpc.chain(), endpoint = public_name(url), cause, "heads are not announced: looking instead");
        }
        sleep(backoff(rpc.limits(), failures, index)).await;
    }
}

/// Passes on every head that one endpoint announces, until it announces no more.
async fn heads(rpc: &Rpc, url: &Url, announced: &watch::Sender<Announced>, failures: &mut u32) -> Result<(), String> {
    let client = announcer(rpc, url).await?;
    let subscription = client.subscribe("eth_subscribe", ("newHeads",), "eth_unsubscribe").await;
    let mut subscription: Subscription<IgnoredAny> = subscription.map_err(|error| format!("eth_subscribe: {error}"))?;
    *failures = 0;
    tracing::info!(chain = rpc.chain(), endpoint = public_name(url), "heads are announced");
    gauge(rpc, true);
    announced.send_modify(|announced| announced.live = true);
    while subscription.next().await.is_some() {
        announced.send_modify(|announced| announced.heads = announced.heads.wrapping_add(1));
    }
    Ok(())
}

fn gauge(rpc: &Rpc, live: bool) {
    metrics::gauge!("lockstep_heads_announced", "chain" => rpc.chain().to_string()).set(if live { 1.0 } else { 0.0 });
}

/// Connects to an endpoint that announces, and checks which chain it serves.
pub(super) async fn announcer(rpc: &Rpc, url: &Url) -> Result<WsClient, String> {
    let limits = rpc.limits();
    let time = millis(limits.timeout_ms);
    let client = WsClientBuilder::default()
        .max_response_size(u32::try_from(limits.max_answer_bytes).unwrap_or(u32::MAX))
        .connection_timeout(time)
        .request_timeout(time)
        .max_buffer_capacity_per_subscription(MAX_ANNOUNCED)
        .enable_ws_ping(PingConfig::new().ping_interval(PING).inactive_limit(SILENCE))
        .build(url.as_str())
        .await
        .map_err(|error| error.to_string())?;
    let served: U64 = client.request("eth_chainId", Vec::<()>::new()).await.map_err(|error| format!("eth_chainId: {error}"))?;
    let served = served.to::<u64>();
    if served == rpc.chain() { Ok(client) } else { Err(format!("it serves chain {served}")) }
}

//! Logs, metrics and the pages that tell how the process is.

use std::{collections::BTreeMap, sync::Arc};

use lockstep_primitives::ChainId;
use lockstep_rpc::Pages;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::json;

use crate::{clock::now_ms, intake::Intake};

/// How far a rollup's head may lie behind before it counts as degraded, in block times.
const LATE_BLOCKS: u64 = 3;

/// Logs go to standard error, so that standard output holds nothing but what was asked for. `LOCKSTEP_LOG` filters them.
pub fn init_logs(json: bool) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("LOCKSTEP_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("lockstep=info,warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second call, as tests make it, is no fault.
    let _ = if json { builder.json().try_init() } else { builder.try_init() };
}

/// Installs the recorder of the process; the first call wins.
pub fn init_metrics() -> PrometheusHandle {
    static HANDLE: std::sync::OnceLock<PrometheusHandle> = std::sync::OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let recorder = PrometheusBuilder::new().build_recorder();
            let handle = recorder.handle();
            if metrics::set_global_recorder(recorder).is_err() {
                tracing::warn!("another metrics recorder is installed: /metrics will be empty");
            }
            describe();
            handle
        })
        .clone()
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!("lockstep_bundles_total", "Bundles that came to an end, by state and reason");
    describe_counter!("lockstep_bundles_refused_total", "Bundles refused at admission, by reason");
    describe_gauge!("lockstep_pool_bundles", "Bundles in the pool");
    describe_gauge!("lockstep_store_queued", "Writes that wait for the disk");
    describe_counter!("lockstep_store_errors_total", "Writes that the store refused, by code");
    describe_histogram!("lockstep_simulation_seconds", "Time to simulate all pending bundles of a slot");
    describe_histogram!("lockstep_build_seconds", "Time to simulate and build all proposals of a slot");
    describe_histogram!("lockstep_prepare_seconds", "Time from sending a prepare to its vote");
    describe_counter!("lockstep_bids_total", "Own bids, by result");
    describe_counter!("lockstep_market_bids_total", "Bids that the market took");
    describe_counter!("lockstep_market_refused_total", "Registrations and bids that the market refused, by reason");
    describe_counter!("lockstep_market_slots_total", "Slots that the market closed");
    describe_counter!("lockstep_votes_total", "Votes given, by vote");
    describe_counter!("lockstep_decisions_total", "Decisions recorded, by verdict");
    describe_counter!("lockstep_delivery_total", "Own attempts, by verdict");
    describe_counter!("lockstep_delivery_reports_total", "What delivery reported, by code");
    describe_counter!("lockstep_seal_failures_total", "Lists that could not be sealed, by rollup");
    describe_counter!("lockstep_blocks_total", "Blocks published, by rollup and list");
    describe_counter!("lockstep_slots_missed_total", "Slots for which nothing was built");
    describe_gauge!("lockstep_value", "What the committed lists of the last slot are worth, in the numeraire");
}

/// `/metrics`, `/livez`, `/readyz`.
#[derive(Debug)]
pub struct NodePages {
    metrics: PrometheusHandle,
    intake: Option<Arc<Intake>>,
    block_times: BTreeMap<ChainId, u64>,
    store: lockstep_store::Store,
}

impl NodePages {
    /// Pages over the process's parts.
    pub const fn new(
        metrics: PrometheusHandle,
        intake: Option<Arc<Intake>>,
        block_times: BTreeMap<ChainId, u64>,
        store: lockstep_store::Store,
    ) -> Self {
        Self { metrics, intake, block_times, store }
    }

    /// One state per rollup: `ok`, `degraded` when its head is late.
    fn ready(&self) -> (u16, &'static str, String) {
        let now_s = now_ms() / 1000;
        let mut rollups = serde_json::Map::new();
        let mut degraded = 0;
        for (chain, served) in self.intake.iter().flat_map(|intake| intake.rollups()) {
            let head = served.node.heads().borrow().clone();
            let late = self.block_times.get(chain).map_or(0, |block_time| block_time * LATE_BLOCKS);
            let ok = late == 0 || now_s.saturating_sub(head.timestamp) <= late;
            degraded += usize::from(!ok);
            let state = if ok { "ok" } else { "degraded" };
            rollups.insert(chain.to_string(), json!({ "state": state, "head": head.number, "timestamp": head.timestamp }));
        }
        let store = self.store.status();
        let total = rollups.len();
        let state = match (&store.read_only, degraded) {
            (Some(_), _) => "down",
            (None, 0) => "ok",
            (None, degraded) if degraded == total => "down",
            _ => "degraded",
        };
        let body = json!({ "state": state, "rollups": rollups, "store": store.read_only.as_deref().unwrap_or("ok") });
        (if state == "down" { 503 } else { 200 }, "application/json", body.to_string())
    }
}

impl Pages for NodePages {
    fn page(&self, path: &str) -> Option<(u16, &'static str, String)> {
        match path {
            "/livez" => Some((200, "text/plain", "ok\n".to_owned())),
            "/readyz" => Some(self.ready()),
            "/metrics" => {
                metrics::gauge!("lockstep_store_queued").set(self.store.status().queued as f64);
                Some((200, "text/plain; version=0.0.4", self.metrics.render()))
            }
            _ => None,
        }
    }
}

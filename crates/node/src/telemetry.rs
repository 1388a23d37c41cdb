//! Logs, metrics and the pages that tell how the process is.

use std::collections::BTreeMap;

use lockstep_primitives::ChainId;
use lockstep_provider::{NodeHealth, RemoteNode};
use lockstep_rpc::Pages;
use lockstep_simulation::ParentBlock;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::json;

use crate::{clock::now_ms, process::Node};

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
    describe_counter!("lockstep_recovery_refused_total", "Requests refused because too many wait for their signatures");
    describe_gauge!("lockstep_pool_bundles", "Bundles in the pool");
    describe_gauge!("lockstep_store_queued", "Writes that wait for the disk");
    describe_counter!("lockstep_store_errors_total", "Writes that the store refused, by code");
    describe_histogram!("lockstep_simulation_seconds", "Time to simulate all pending bundles of a slot");
    describe_counter!("lockstep_simulations_late_total", "Bundles whose state did not come in time for their slot");
    describe_counter!("lockstep_simulations_refused_total", "Bundles left out of a slot for amounts beyond all reason");
    describe_histogram!("lockstep_build_seconds", "Time to simulate and build the first proposals of a slot");
    describe_counter!("lockstep_build_rounds_total", "Rounds in which proposals were improved");
    describe_counter!("lockstep_searches_cut_total", "Slots whose search ended early, because no more of it would be recorded");
    describe_counter!(
        "lockstep_bundles_cut_total",
        "Bundles that wait for the next slot, because theirs took in as many as it may"
    );
    describe_histogram!(
        "lockstep_build_gap_bps",
        "By how much the largest set's proposal may fall short of the best, in basis points of the known bound"
    );
    describe_counter!("lockstep_engines_total", "Slots by what their engine began as: kept from the slot before, or new");
    describe_histogram!(
        "lockstep_last_bundle_to_bid_seconds",
        "From the admission of the last bundle that the bids of a slot count on to the last bid"
    );
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
    describe_counter!("lockstep_verification_faults_total", "Drafts that verification found to be wrong, by rollup");
    describe_counter!("lockstep_blocks_total", "Blocks published, by rollup and list");
    describe_counter!("lockstep_slots_missed_total", "Slots for which nothing was built");
    describe_gauge!("lockstep_rollup_ready", "1 while a rollup's node is as it should be, 0 while it is degraded, by rollup");
    describe_gauge!("lockstep_endpoint_ready", "1 while an endpoint of a rollup's node is used, 0 while it is not");
    describe_gauge!("lockstep_endpoint_failures", "Failures of an endpoint of a rollup's node");
    describe_gauge!("lockstep_state_cold_reads", "Reads of blocks outside of the followed window, by rollup");
    describe_gauge!("lockstep_state_rounds", "Rounds of fetching state, by rollup");
    describe_gauge!("lockstep_state_values", "Values of the newest state that are kept, by rollup");
    describe_gauge!("lockstep_state_bytes", "Bytes that they are taken to weigh, by rollup");
    describe_gauge!("lockstep_followed_blocks", "Blocks executed here that are what their headers say, by rollup");
    describe_gauge!("lockstep_followed_mismatches", "Blocks that came out otherwise here, by rollup");
    describe_gauge!("lockstep_followed_proofs", "Accounts that were proven to be what was executed, by rollup");
    describe_counter!("lockstep_reorgs_total", "Reorgs, by rollup");
    describe_counter!("lockstep_reorged_blocks_total", "Blocks that a reorg dropped, by rollup");
    describe_counter!("lockstep_reorged_bundles_total", "Landed bundles that a reorg moved, by what became of them");
    describe_counter!("lockstep_reorg_looks_put_off_total", "Looks for landed bundles that have to be made again");
    describe_counter!(
        "lockstep_landed_forgotten_total",
        "Landed bundles taken to be safe early, because too many are looked after"
    );
    describe_counter!("lockstep_prefetched_values_total", "Values of the state fetched at admission, by rollup");
    describe_counter!("lockstep_prefetches_skipped_total", "Bundles whose state was not fetched at admission, by rollup");
    describe_counter!("lockstep_public_flow_total", "Transactions of the public flow, by rollup and outcome");
    describe_gauge!("lockstep_value", "What the committed lists of the last slot are worth, in the numeraire");
}

/// `/metrics`, `/livez`, `/readyz`.
#[derive(Debug)]
pub struct NodePages {
    metrics: PrometheusHandle,
    /// The process's nodes and the block times of their rollups, in seconds.
    nodes: BTreeMap<ChainId, (Node, u64)>,
    store: lockstep_store::Store,
}

impl NodePages {
    /// Pages over the process's parts.
    pub const fn new(metrics: PrometheusHandle, nodes: BTreeMap<ChainId, (Node, u64)>, store: lockstep_store::Store) -> Self {
        Self { metrics, nodes, store }
    }

    /// One state per rollup: `ok`, or `degraded` with a code and a cause. One rollup degrades no other.
    fn ready(&self) -> (u16, &'static str, String) {
        let now_s = now_ms() / 1000;
        let mut rollups = serde_json::Map::new();
        let mut degraded = 0;
        for (chain, (node, block_time)) in &self.nodes {
            let node = node.rollup_node();
            let head = node.heads().borrow().clone();
            let fault = fault(&node.health(), &head, *block_time, now_s);
            degraded += usize::from(fault.is_some());
            metrics::gauge!("lockstep_rollup_ready", "chain" => chain.to_string()).set(if fault.is_some() { 0.0 } else { 1.0 });
            let told = match fault {
                None => json!({ "state": "ok", "head": head.number, "timestamp": head.timestamp }),
                Some((code, cause)) => json!({
                    "state": "degraded",
                    "head": head.number,
                    "timestamp": head.timestamp,
                    "code": code,
                    "cause": cause,
                }),
            };
            rollups.insert(chain.to_string(), told);
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

    /// What is measured when it is asked for.
    fn measure(&self) {
        metrics::gauge!("lockstep_store_queued").set(self.store.status().queued as f64);
        // Sets one gauge a rollup.
        let _ = self.ready();
        for (chain, (node, _)) in &self.nodes {
            if let Node::Remote(node) = node {
                measure_remote(&chain.to_string(), node);
            }
        }
    }
}

/// What is wrong with a rollup's node, as a code and in words: what it says itself, or that its head is too old.
fn fault(health: &NodeHealth, head: &ParentBlock, block_time: u64, now_s: u64) -> Option<(&'static str, String)> {
    let age = now_s.saturating_sub(head.timestamp);
    let late = block_time > 0 && age > block_time.saturating_mul(LATE_BLOCKS);
    health.degraded.clone().or_else(|| late.then(|| ("late_head", format!("its newest block is {age} seconds old"))))
}

fn measure_remote(chain: &str, node: &RemoteNode) {
    for endpoint in node.endpoints() {
        let labels = [("chain", chain.to_owned()), ("endpoint", endpoint.name)];
        metrics::gauge!("lockstep_endpoint_ready", &labels).set(if endpoint.degraded.is_some() { 0.0 } else { 1.0 });
        metrics::gauge!("lockstep_endpoint_failures", &labels).set(endpoint.failures as f64);
    }
    let (cache, follow) = (node.stats(), node.follow_stats());
    let measured = [
        ("lockstep_state_cold_reads", cache.cold_reads),
        ("lockstep_state_rounds", cache.rounds),
        ("lockstep_state_values", cache.values),
        ("lockstep_state_bytes", cache.bytes),
        ("lockstep_followed_blocks", follow.blocks),
        ("lockstep_followed_mismatches", follow.mismatches),
        ("lockstep_followed_proofs", follow.proofs),
    ];
    for (name, value) in measured {
        metrics::gauge!(name, "chain" => chain.to_owned()).set(value as f64);
    }
}

impl Pages for NodePages {
    fn page(&self, path: &str) -> Option<(u16, &'static str, String)> {
        match path {
            "/livez" => Some((200, "text/plain", "ok\n".to_owned())),
            "/readyz" => Some(self.ready()),
            "/metrics" => {
                self.measure();
                Some((200, "text/plain; version=0.0.4", self.metrics.render()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollup_is_degraded_by_what_its_node_says_or_by_a_late_head() {
        let head = ParentBlock { timestamp: 1_000, ..ParentBlock::default() };
        let well = NodeHealth::default();
        assert_eq!(fault(&well, &head, 2, 1_006), None);
        assert_eq!(fault(&well, &head, 2, 1_007), Some(("late_head", "its newest block is 7 seconds old".to_owned())));
        assert_eq!(fault(&well, &head, 0, 9_000), None, "a rollup without a block time is never late");
        let told = ("wrong_chain", "it serves chain 5".to_owned());
        let ill = NodeHealth { degraded: Some(told.clone()) };
        assert_eq!(fault(&ill, &head, 2, 1_000), Some(told), "even with a fresh head");
    }
}

//! Fetching what transactions are likely to touch before anybody waits for it.
//!
//! Likely is what a transaction names (its sender, its recipient, its access list, its authorities), what the node says that
//! it would touch (`eth_createAccessList`), and what earlier calls of the same function touched. Nothing here is needed for
//! anything to be right, so nothing here is an error: what cannot be fetched is counted, and fetched when it is missed.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use alloy_consensus::Transaction;
use alloy_primitives::{Address, B256, Selector};
use lockstep_primitives::SignedTx;
use lockstep_simulation::{
    BlockContext, BlockTx, NextBlock, ParentBlock, PendingBlock, SimulationError, StateError, StateKey, StateView, TracedView,
};
use quick_cache::sync::Cache;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::{
    RemoteLimits,
    chain::RemoteChain,
    execute::keys_of,
    state::PinnedState,
    wire::{Call, quantity},
};

/// Transactions that one call fetches for; the rest is fetched when it is missed.
const MAX_TXS: usize = 256;

/// A function of a contract.
type Function = (Address, Selector);
/// What calls of it touched, shared by whoever looks it up.
type Trace = Arc<[StateKey]>;

/// Remembers what calls touch.
#[derive(Debug)]
pub(super) struct Prefetcher {
    traces: Cache<Function, Trace>,
    /// Whether the node has turned out to make no access lists.
    no_lists: AtomicBool,
}

/// What came of running a transaction ahead.
#[derive(Debug)]
enum Run {
    /// It ran, and read this.
    Ended(BTreeSet<StateKey>),
    /// It is invalid at this head, so nothing is learned from it.
    Invalid,
    Missing,
    Broken,
}

impl Prefetcher {
    pub(super) fn new(limits: &RemoteLimits) -> Self {
        Self { traces: Cache::new(limits.max_traces.max(1)), no_lists: AtomicBool::new(false) }
    }

    /// Fetches what these transactions are likely to touch on a state. Returns how many values came.
    pub(super) async fn fetch(
        &self,
        chain: &RemoteChain,
        head: &ParentBlock,
        state: &Arc<PinnedState>,
        txs: &[Arc<SignedTx>],
    ) -> usize {
        let txs: Vec<BlockTx> = txs.iter().take(MAX_TXS).map(|tx| BlockTx::Signed(Arc::clone(tx))).collect();
        let mut keys = BTreeSet::new();
        let mut unknown = Vec::new();
        for tx in &txs {
            keys.extend(keys_of(tx));
            let Some(function) = function(tx) else { continue };
            match self.traces.get(&function) {
                Some(trace) => keys.extend(trace.iter().copied()),
                None => unknown.push((function, tx.clone())),
            }
        }
        keys.extend(self.access_lists(chain, head.hash, &unknown).await);
        let Ok(mut came) = state.fetch_ahead(&chain.rpc, &chain.limits, keys).await else {
            return self.failed(chain, "fetch");
        };
        let mut learned = BTreeSet::new();
        for (function, tx) in unknown {
            // Of several calls of one function the first one tells enough.
            if learned.insert(function) {
                came += self.learn(chain, head, state, function, tx).await;
            }
        }
        came
    }

    /// Runs a transaction on the state, fetching what is missing, and remembers what it read.
    async fn learn(
        &self,
        chain: &RemoteChain,
        head: &ParentBlock,
        state: &Arc<PinnedState>,
        function: Function,
        tx: BlockTx,
    ) -> usize {
        let Some(context) = context(chain, head) else { return self.failed(chain, "context") };
        let mut came = 0;
        for _ in 0..chain.limits.prefetch_rounds {
            let (context, on, tx) = (context.clone(), Arc::clone(state) as Arc<dyn StateView>, tx.clone());
            match tokio::task::spawn_blocking(move || run(context, on, &tx)).await {
                Ok(Run::Ended(keys)) => {
                    // Code comes with its account, and hashes of blocks are other ones at the next head.
                    let kept = keys.into_iter().filter(|key| matches!(key, StateKey::Account(_) | StateKey::Storage(..)));
                    self.traces.insert(function, kept.take(chain.limits.max_trace_keys).collect());
                    return came;
                }
                Ok(Run::Invalid) => return came,
                Ok(Run::Missing) => match state.fetch_missed(&chain.rpc, &chain.limits).await {
                    Ok(fetched) => came += fetched,
                    Err(_) => return came + self.failed(chain, "fetch"),
                },
                Ok(Run::Broken) | Err(_) => return came + self.failed(chain, "run"),
            }
        }
        came + self.failed(chain, "rounds")
    }

    /// What the node says that calls would touch.
    async fn access_lists(&self, chain: &RemoteChain, block: B256, calls: &[(Function, BlockTx)]) -> BTreeSet<StateKey> {
        let mut keys = BTreeSet::new();
        if self.no_lists.load(Ordering::Relaxed) {
            return keys;
        }
        let at = json!({ "blockHash": block });
        let calls: Vec<Call> =
            calls.iter().filter_map(|(_, tx)| Some(("eth_createAccessList", json!([request(tx)?, at])))).collect();
        for batch in calls.chunks(chain.limits.batch.max(1)) {
            let Ok(answers) = chain.rpc.batch(batch).await else {
                self.failed(chain, "access-list");
                return keys;
            };
            for answer in answers {
                match answer.map(serde_json::from_value::<ListAnswer>) {
                    Ok(Ok(list)) => keys.extend(list.keys()),
                    Err(failure) if failure.is_no_method() => self.no_lists.store(true, Ordering::Relaxed),
                    // A call that reverts has no list on some nodes.
                    Ok(Err(_)) | Err(_) => {}
                }
            }
        }
        keys
    }

    /// Counts a failure; nothing came of it.
    fn failed(&self, chain: &RemoteChain, cause: &'static str) -> usize {
        metrics::counter!("lockstep_prefetch_failures_total", "chain" => chain.chain.to_string(), "cause" => cause).increment(1);
        0
    }
}

/// The function that a transaction calls; `None` for payments and creations.
fn function(tx: &BlockTx) -> Option<Function> {
    let BlockTx::Signed(tx) = tx else { return None };
    let selector = tx.envelope().input().get(..4)?;
    Some((tx.envelope().to()?, Selector::from_slice(selector)))
}

/// A block that could follow the head now: enough to find out what a transaction reads.
fn context(chain: &RemoteChain, head: &ParentBlock) -> Option<BlockContext> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let next = NextBlock {
        timestamp: now.max(head.timestamp.saturating_add(1)),
        gas_limit: head.gas_limit,
        parent_beacon_block_root: Some(B256::ZERO),
        extra_data: head.extra_data.clone(),
        ..NextBlock::default()
    };
    let mut context = BlockContext::next(chain.chain, &chain.forks, head, &next).ok()?;
    // It is no block that anybody makes: the transaction shall run.
    context.deposits_only = false;
    Some(context)
}

fn run(context: BlockContext, state: Arc<dyn StateView>, tx: &BlockTx) -> Run {
    let traced = Arc::new(TracedView::new(state));
    let done = PendingBlock::open(context, Arc::clone(&traced) as Arc<dyn StateView>).and_then(|mut block| {
        // What opening the block reads is read by every block, not by this call.
        drop(traced.take());
        block.execute(tx).map(|ran| ran.is_ok())
    });
    match done {
        Ok(true) => Run::Ended(traced.keys()),
        Ok(false) => Run::Invalid,
        Err(SimulationError::State(StateError::Missing(_))) => Run::Missing,
        Err(_) => Run::Broken,
    }
}

/// A transaction as `eth_createAccessList` wants it. Without fees, so that the sender need not be able to pay.
fn request(tx: &BlockTx) -> Option<Json> {
    let BlockTx::Signed(tx) = tx else { return None };
    let envelope = tx.envelope();
    Some(json!({
        "from": tx.signer(), "to": envelope.to()?, "gas": quantity(tx.gas_limit()), "value": envelope.value(),
        "input": envelope.input(),
    }))
}

/// What `eth_createAccessList` answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListAnswer {
    access_list: Vec<ListItem>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListItem {
    address: Address,
    storage_keys: Vec<B256>,
}

impl ListAnswer {
    fn keys(self) -> BTreeSet<StateKey> {
        let mut keys = BTreeSet::new();
        for item in self.access_list {
            keys.insert(StateKey::Account(item.address));
            keys.extend(item.storage_keys.into_iter().map(|slot| StateKey::Storage(item.address, slot.into())));
        }
        keys
    }
}

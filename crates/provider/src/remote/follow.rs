//! Following the head: every new block is executed here, so that the cached state moves on with it instead of being fetched
//! again.
//!
//! Nothing is believed that can be checked: the header has to hash to what was asked for, its transactions to its root, and
//! what they did here to its receipts root; some of the accounts that changed are checked by proofs against its state root.
//! A block that cannot be executed, or comes out otherwise, only costs speed: what it may have touched is forgotten.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy_eips::{
    eip2935::HISTORY_STORAGE_ADDRESS, eip4788::BEACON_ROOTS_ADDRESS, eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
    eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
};
use alloy_primitives::{Address, B256, address};
use lockstep_simulation::{ForkSchedule, ParentBlock, StateChanges, StateView};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::{
    ahead::open_ahead,
    answers::BlockAnswer,
    block::{FullBlock, Unusable},
    cache::{Doubt, StateCache, WindowBlock},
    execute::{Job, Replay},
    heads::Heads,
    proof::{Expected, ProofAnswer},
    state::PinnedState,
    subscribe::HeadSignal,
    wire::{AskedFrom, Call, Rpc, quantity},
};
use crate::{DroppedBlock, NodeError, Reorg};

/// Rounds of fetching that executing one block may take.
const MAX_ROUNDS: usize = 256;
/// What a block can change beside what its transactions name: system contracts, and on the OP stack L1 attributes and vaults.
const SYSTEM_ACCOUNTS: [Address; 9] = [
    BEACON_ROOTS_ADDRESS,
    HISTORY_STORAGE_ADDRESS,
    WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
    CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
    address!("4200000000000000000000000000000000000011"),
    address!("4200000000000000000000000000000000000015"),
    address!("4200000000000000000000000000000000000019"),
    address!("420000000000000000000000000000000000001A"),
    address!("420000000000000000000000000000000000001B"),
];

/// What following a chain came to since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FollowStats {
    /// Blocks that were executed here and are what their headers say.
    pub blocks: u64,
    /// Blocks that came out otherwise here.
    pub mismatches: u64,
    /// Blocks whose changes are not known, mismatches among them: what they may have touched was forgotten.
    pub fallbacks: u64,
    /// Accounts that were proven to be what was executed.
    pub proofs: u64,
    /// Blocks of which the node gave no proofs.
    pub unproven: u64,
    /// Times that the whole state was forgotten, because the head was too far from what was known.
    pub resets: u64,
    /// Reorgs.
    pub reorgs: u64,
}

/// Why the changes of a block are not known.
#[derive(Clone, Debug)]
struct Fallback {
    /// A stable name of the cause.
    cause: &'static str,
    text: String,
    /// Whether the transactions are understood, so that a trace by the node tells what they touched.
    traceable: bool,
    /// Whether what is known of earlier blocks may be wrong, too.
    distrust: bool,
}

impl Fallback {
    /// The block cannot be executed.
    const fn unknown(cause: &'static str, text: String) -> Self {
        Self { cause, text, traceable: false, distrust: false }
    }

    /// The block can be executed, but it did not come to an end.
    const fn stopped(cause: &'static str, text: String) -> Self {
        Self { cause, text, traceable: true, distrust: false }
    }

    /// The block came out otherwise: either what is known here is wrong, or how it is executed.
    const fn other(cause: &'static str, text: String) -> Self {
        Self { cause, text, traceable: true, distrust: true }
    }
}

/// Why a block is not on the chain of the cache yet.
#[derive(Debug)]
enum Stop {
    /// The node is to blame, or cannot be reached: the head stays where it is.
    Node(NodeError),
    /// The block contradicts itself.
    Lie(String),
    Fallback(Fallback),
}

impl From<NodeError> for Stop {
    fn from(error: NodeError) -> Self {
        Self::Node(error)
    }
}

/// How the newest block is reached from the tip.
#[derive(Debug)]
enum Way {
    /// By these blocks, oldest first, on top of one of the window.
    Blocks(B256, Vec<AskedFrom<FullBlock>>),
    /// Not within the bounds.
    Unknown,
    /// It lies so far ahead that the blocks in between are not looked at.
    FarAhead,
}

/// What is remembered from one look to the next.
#[derive(Debug, Default)]
struct Turn {
    /// Causes of fallbacks that were said already.
    said: BTreeSet<&'static str>,
    /// Whether the node does not give proofs.
    no_proofs: bool,
    /// Whether the node does not trace blocks.
    no_traces: bool,
}

/// Follows one remote chain.
#[derive(Debug)]
pub(super) struct Follower {
    rpc: Rpc,
    forks: ForkSchedule,
    cache: Arc<StateCache>,
    heads: Heads,
    stats: Mutex<FollowStats>,
    /// Held for every look, so that the cache moves one step at a time, and an answer that took long never replaces one that
    /// was asked for later.
    turn: tokio::sync::Mutex<Turn>,
}

impl Follower {
    /// Takes a first look. Everything that is known of that block's state is then asked of the same node, so there is nothing
    /// yet that it could be checked against.
    pub(super) async fn open(rpc: Rpc, forks: ForkSchedule) -> Result<Self, NodeError> {
        let latest = latest(&rpc).await?.value;
        let tip = window_block(&latest, &forks);
        let limits = rpc.limits();
        let heads = Heads::new(rpc.chain(), limits.max_lag_s, tip.head.clone());
        let cache = Arc::new(StateCache::new(rpc.chain(), limits, tip));
        Ok(Self { rpc, forks, cache, heads, stats: Mutex::default(), turn: tokio::sync::Mutex::default() })
    }

    pub(super) const fn heads(&self) -> &Heads {
        &self.heads
    }

    pub(super) const fn cache(&self) -> &Arc<StateCache> {
        &self.cache
    }

    pub(super) fn stats(&self) -> FollowStats {
        *self.stats.lock()
    }

    /// Looks whenever it is time to, for ever.
    pub(super) async fn follow(self: Arc<Self>, mut signal: HeadSignal) {
        loop {
            signal.next().await;
            // How it went shows in the node's health.
            let _ = self.advance().await;
        }
    }

    /// Fetches what opening the next blocks reads whenever there is a new head, for ever.
    pub(super) async fn open_ahead(self: Arc<Self>) {
        let mut heads = self.heads.watch();
        loop {
            open_ahead(&self.rpc, &self.forks, &self.cache, self.rpc.limits()).await;
            if heads.changed().await.is_err() {
                return;
            }
        }
    }

    /// Looks now, and moves on to the newest block. When an endpoint lies, another one is asked.
    pub(super) async fn advance(&self) -> Result<ParentBlock, NodeError> {
        let mut turn = self.turn.lock().await;
        let mut look = self.look(&mut turn).await;
        for _ in 1..self.rpc.endpoints().len() {
            if !matches!(look, Err(NodeError::WrongBlock { .. })) {
                break;
            }
            look = self.look(&mut turn).await;
        }
        self.heads.judge(&look);
        self.cache.publish();
        look
    }

    async fn look(&self, turn: &mut Turn) -> Result<ParentBlock, NodeError> {
        let AskedFrom { value: latest, endpoint } = latest(&self.rpc).await?;
        let tip = self.cache.newest().head;
        // An older block need not be one of the window: after a start the window is a single block.
        let stays = latest.hash == tip.hash || (latest.number() < tip.number && self.only_lags(endpoint, &tip).await?);
        let went = if stays { Ok(()) } else { self.go_to(turn, &latest).await };
        // Told after a part of the way, too: blocks may be gone, and the cache has moved.
        let head = self.cache.newest().head;
        self.heads.tell(&head);
        went.map(|()| head)
    }

    /// Whether an endpoint whose newest block is older than the tip is merely behind: another one still has the tip.
    async fn only_lags(&self, endpoint: usize, tip: &ParentBlock) -> Result<bool, NodeError> {
        let (mut others, mut asked) = (0, 0);
        for index in (0..self.rpc.endpoints().len()).filter(|index| *index != endpoint) {
            others += 1;
            // One that failed is asked as soon as it may be: as long as this one answers, nobody else would find out that the
            // other is well again.
            if self.rpc.is_resting(index) {
                continue;
            }
            let params = json!([quantity(tip.number), false]);
            let answer = self.rpc.call_at::<Option<BlockAnswer>>(index, "eth_getBlockByNumber", params).await;
            if let Ok(block) = answer {
                asked += 1;
                if block.is_some_and(|block| block.hash == tip.hash) {
                    return Ok(true);
                }
            }
        }
        if others > 0 && asked == 0 {
            // One alone is not believed that blocks are gone, as long as there could be a second opinion.
            let cause = format!(
                "its newest block is older than block {}, and no other endpoint can say whether that is gone",
                tip.number
            );
            return Err(NodeError::Behind { chain: self.rpc.chain(), cause });
        }
        Ok(false)
    }

    async fn go_to(&self, turn: &mut Turn, latest: &BlockAnswer) -> Result<(), NodeError> {
        let (common, new) = match self.way(latest).await? {
            Way::Blocks(common, new) => (Some(common), Some(new)),
            Way::Unknown => (None, None),
            Way::FarAhead => (self.canonical().await?, None),
        };
        // Whatever is not an ancestor any more is dropped.
        let dropped: Vec<WindowBlock> =
            self.cache.blocks().into_iter().take_while(|block| Some(block.head.hash) != common).collect();
        match new.filter(|new| new.len() as u64 <= self.rpc.limits().max_catch_up) {
            None => {
                self.cache.reset(window_block(latest, &self.forks));
                self.stats.lock().resets += 1;
                metrics::counter!("lockstep_follow_resets_total", "chain" => self.rpc.chain().to_string()).increment(1);
                tracing::info!(chain = self.rpc.chain(), head = latest.number(), "the state of the head is fetched anew");
                self.tell_dropped(common, dropped);
            }
            Some(new) => {
                // None of them is the oldest block of the window, on which all of the others stand.
                for _ in &dropped {
                    self.cache.retreat();
                }
                self.tell_dropped(common, dropped);
                for block in new {
                    self.append(turn, block).await?;
                }
            }
        }
        Ok(())
    }

    /// Tells of a reorg, if it is one.
    fn tell_dropped(&self, common: Option<B256>, dropped: Vec<WindowBlock>) {
        // The blocks above the common one follow each other, so the last of them stands on it.
        let Some(oldest) = dropped.last().map(|block| block.head.number) else { return };
        self.stats.lock().reorgs += 1;
        self.heads.tell_reorg(Reorg {
            chain: self.rpc.chain(),
            common: common.and(oldest.checked_sub(1)),
            dropped: dropped
                .into_iter()
                .map(|block| DroppedBlock { number: block.head.number, hash: block.head.hash, transactions: block.transactions })
                .collect(),
        });
    }

    /// Walks from the newest block back to one of the window.
    async fn way(&self, latest: &BlockAnswer) -> Result<Way, NodeError> {
        let limits = self.rpc.limits();
        let window = self.cache.blocks();
        let newest = window.first().map_or(0, |block| block.head.number);
        let oldest = window.last().map_or(0, |block| block.head.number);
        if latest.number() > newest.saturating_add(limits.max_catch_up) {
            return Ok(Way::FarAhead);
        }
        let (mut hash, mut number) = (latest.hash, latest.number());
        let mut new = Vec::new();
        loop {
            if window.iter().any(|block| block.head.hash == hash) {
                new.reverse();
                return Ok(Way::Blocks(hash, new));
            }
            // At the height of the oldest known block there is another one.
            if number <= oldest {
                return Ok(Way::Unknown);
            }
            let block = self.fetch(hash, number).await?;
            hash = block.value.answer.parent_hash;
            number -= 1;
            new.push(block);
        }
    }

    /// Fetches a block, and checks that it is that block.
    async fn fetch(&self, hash: B256, number: u64) -> Result<AskedFrom<FullBlock>, NodeError> {
        let chain = self.rpc.chain();
        let AskedFrom { value, endpoint } = self.rpc.ask_from::<Option<Json>>("eth_getBlockByHash", json!([hash, true])).await?;
        let answer = value.ok_or(NodeError::UnknownBlock { chain, hash })?;
        // Blamed, so that another endpoint is asked: this one would be asked first again and again.
        let block = FullBlock::read(answer).map_err(|cause| self.lie(endpoint, format!("eth_getBlockByHash: {cause}")))?;
        let checked = block.check(hash).and_then(|()| match block.answer.number() {
            told if told == number => Ok(()),
            told => Err(format!("block {hash} has the number {told}, and its child {}", number.saturating_add(1))),
        });
        match checked {
            Ok(()) => Ok(AskedFrom { value: block, endpoint }),
            Err(cause) => Err(self.lie(endpoint, cause)),
        }
    }

    fn lie(&self, endpoint: usize, cause: String) -> NodeError {
        let error = NodeError::WrongBlock { chain: self.rpc.chain(), cause };
        self.rpc.blame(endpoint, &error);
        error
    }

    /// The newest block of the window that is still on the chain, by asking for blocks by number.
    async fn canonical(&self) -> Result<Option<B256>, NodeError> {
        for known in self.cache.blocks() {
            let params = json!([quantity(known.head.number), false]);
            let block: Option<BlockAnswer> = self.rpc.ask("eth_getBlockByNumber", params).await?;
            if block.is_some_and(|block| block.hash == known.head.hash) {
                return Ok(Some(known.head.hash));
            }
        }
        Ok(None)
    }

    /// Moves the tip to its child.
    async fn append(&self, turn: &mut Turn, AskedFrom { value: block, endpoint }: AskedFrom<FullBlock>) -> Result<(), NodeError> {
        let known = window_block(&block.answer, &self.forks);
        let block = Arc::new(block);
        let moved = match self.execute(turn, &block).await {
            Ok(changes) => {
                self.stats.lock().blocks += 1;
                self.cache.advance(known, &changes)
            }
            Err(Stop::Fallback(fallback)) => self.fall_back(turn, &block, known, fallback).await,
            Err(Stop::Lie(cause)) => return Err(self.lie(endpoint, cause)),
            Err(Stop::Node(error)) => return Err(error),
        };
        if moved {
            return Ok(());
        }
        Err(self.rpc.unusable(format!("block {} does not follow what is known", block.answer.number())))
    }

    /// Executes a block on the tip.
    async fn execute(&self, turn: &mut Turn, block: &Arc<FullBlock>) -> Result<StateChanges, Stop> {
        let tip = self.cache.newest();
        let (limits, hash) = (self.rpc.limits(), block.answer.hash);
        let job = self.job(block, &tip.head).await?;
        let state_root = job.header.state_root;
        let job = Arc::new(job);
        let parent = PinnedState::new(tip.head.hash, tip.head.number, tip.parent, Arc::clone(&self.cache), limits);
        let parent = Arc::new(parent);
        self.fetched(parent.fetch_ahead(&self.rpc, limits, job.keys()).await)?;
        for _ in 0..MAX_ROUNDS {
            let (run, on) = (Arc::clone(&job), Arc::clone(&parent) as Arc<dyn StateView>);
            let replay = tokio::task::spawn_blocking(move || run.run(on)).await;
            match replay.map_err(|error| Fallback::unknown("engine", error.to_string())).map_err(Stop::Fallback)? {
                Replay::Missing => {
                    self.fetched(parent.fetch_missed(&self.rpc, limits).await)?;
                }
                Replay::Same(changes, expected) => {
                    self.prove(turn, hash, state_root, &expected).await?;
                    return Ok(changes);
                }
                Replay::Other(cause) => return Err(Stop::Fallback(Fallback::other("mismatch", cause))),
                Replay::Broken(cause) => return Err(Stop::Fallback(Fallback::stopped("engine", cause))),
            }
        }
        let cause = format!("its parent's state was not complete after {MAX_ROUNDS} rounds of fetching");
        Err(Stop::Fallback(Fallback::stopped("rounds", cause)))
    }

    /// What executing a block needs beside the state. Signers are recovered, so it is done where it may take its time.
    async fn job(&self, block: &Arc<FullBlock>, parent: &ParentBlock) -> Result<Job, Stop> {
        let limits = self.rpc.limits();
        let proofs = (limits.proof_accounts, limits.proof_slots);
        let unusable = |cause: &'static str, error: Unusable| match error {
            Unusable::Contradicts(text) => Stop::Lie(text),
            Unusable::Unknown(text) => Stop::Fallback(Fallback::unknown(cause, text)),
        };
        let Some(header) = block.header().cloned() else {
            return Err(Stop::Fallback(Fallback::unknown("header", "the node leaves fields of its header out".into())));
        };
        let context = block.context(self.rpc.chain(), &self.forks, parent).map_err(|error| unusable("rules", error))?;
        let withdrawals = block.withdrawals(context.rules.is_op_stack()).map_err(|error| unusable("withdrawals", error))?;
        let whole = Arc::clone(block);
        let decoded = tokio::task::spawn_blocking(move || whole.transactions()).await;
        let decoded = decoded.map_err(|error| Stop::Fallback(Fallback::unknown("engine", error.to_string())))?;
        let txs = decoded.map_err(|error| unusable("transactions", error))?;
        Ok(Job { hash: block.answer.hash, header, context, txs, withdrawals, proofs })
    }

    /// A parent state that the node does not have any more is no reason not to move on.
    fn fetched(&self, fetched: Result<usize, NodeError>) -> Result<usize, Stop> {
        fetched.map_err(|error| match error {
            NodeError::Pruned { .. } | NodeError::UnknownBlock { .. } => {
                Stop::Fallback(Fallback::stopped("state", error.to_string()))
            }
            error => Stop::Node(error),
        })
    }

    /// Checks some of what was executed against the state root.
    async fn prove(&self, turn: &mut Turn, block: B256, state_root: B256, expected: &[Expected]) -> Result<(), Stop> {
        if turn.no_proofs || expected.is_empty() {
            self.stats.lock().unproven += u64::from(turn.no_proofs);
            return Ok(());
        }
        let calls: Vec<Call> = expected.iter().map(|expected| ("eth_getProof", expected.params(block))).collect();
        let answers = match self.rpc.batch(&calls).await {
            Ok(answers) => answers,
            Err(failure) => return self.unproven(turn, &failure.to_string()),
        };
        for (expected, answer) in expected.iter().zip(answers) {
            let answer = match answer {
                Ok(answer) => serde_json::from_value::<ProofAnswer>(answer).map_err(|error| error.to_string()),
                Err(failure) => {
                    turn.no_proofs |= failure.is_no_method();
                    Err(failure.to_string())
                }
            };
            let answer = match answer {
                Ok(answer) => answer,
                Err(cause) => return self.unproven(turn, &cause),
            };
            let expected = expected.clone();
            let checked = tokio::task::spawn_blocking(move || expected.check(state_root, &answer)).await;
            // A thread of its own, because the library panics over nodes that no trie has.
            let checked = checked.unwrap_or_else(|error| Err(format!("a proof that cannot be checked: {error}")));
            if let Err(cause) = checked {
                return Err(Stop::Fallback(Fallback::other("proof", cause)));
            }
            self.stats.lock().proofs += 1;
        }
        Ok(())
    }

    /// The node gives no proof: the block is believed on account of its receipts root.
    fn unproven(&self, turn: &mut Turn, cause: &str) -> Result<(), Stop> {
        self.stats.lock().unproven += 1;
        metrics::counter!("lockstep_follow_unproven_total", "chain" => self.rpc.chain().to_string()).increment(1);
        if turn.said.insert("unproven") {
            tracing::warn!(
                chain = self.rpc.chain(),
                cause,
                "the node gives no proofs: blocks are checked by their receipts only"
            );
        }
        Ok(())
    }

    /// Moves the tip to a block whose changes are not known, and forgets what it may have touched.
    async fn fall_back(&self, turn: &mut Turn, block: &FullBlock, known: WindowBlock, fallback: Fallback) -> bool {
        let Fallback { cause, text, traceable, distrust } = fallback;
        {
            let mut stats = self.stats.lock();
            stats.fallbacks += 1;
            stats.mismatches += u64::from(distrust);
        }
        let chain = self.rpc.chain();
        metrics::counter!("lockstep_follow_fallbacks_total", "chain" => chain.to_string(), "cause" => cause).increment(1);
        if turn.said.insert(cause) {
            tracing::warn!(
                chain,
                block = known.head.number,
                cause,
                text,
                "a block's changes are not known: what it touched is fetched again"
            );
        } else {
            tracing::debug!(chain, block = known.head.number, cause, text, "a block's changes are not known");
        }
        let touched = if traceable { self.touched(turn, block).await } else { None };
        let doubt = touched.as_ref().map_or(Doubt::Everything, Doubt::Accounts);
        self.cache.advance_blind(known, doubt, distrust)
    }

    /// The accounts that a block read or wrote, as the node traces it: what was read may be why it came out otherwise.
    /// `None` when the node does not tell.
    async fn touched(&self, turn: &mut Turn, block: &FullBlock) -> Option<BTreeSet<Address>> {
        if turn.no_traces {
            return None;
        }
        let params = json!([block.answer.hash, { "tracer": "prestateTracer" }]);
        let traces = match self.rpc.call::<Vec<TraceAnswer>>("debug_traceBlockByHash", params).await {
            Ok(traces) => traces,
            Err(failure) => {
                turn.no_traces |= failure.is_no_method();
                return None;
            }
        };
        if traces.len() != block.answer.transactions.len() {
            return None;
        }
        let withdrawals = block.withdrawals(true).ok()?;
        let mut touched: BTreeSet<Address> = withdrawals.into_iter().map(|(address, _)| address).collect();
        touched.extend(SYSTEM_ACCOUNTS);
        touched.insert(block.answer.miner);
        for trace in traces {
            touched.extend(trace.result?.into_keys());
        }
        Some(touched)
    }
}

/// What the `prestateTracer` tells of one transaction; nothing when it failed.
#[derive(Debug, Deserialize)]
struct TraceAnswer {
    result: Option<BTreeMap<Address, Json>>,
}

async fn latest(rpc: &Rpc) -> Result<AskedFrom<BlockAnswer>, NodeError> {
    let AskedFrom { value, endpoint } =
        rpc.ask_from::<Option<BlockAnswer>>("eth_getBlockByNumber", json!(["latest", false])).await?;
    let value = value.ok_or_else(|| rpc.unusable("it has no block at all".into()))?;
    Ok(AskedFrom { value, endpoint })
}

fn window_block(answer: &BlockAnswer, forks: &ForkSchedule) -> WindowBlock {
    WindowBlock { head: answer.as_parent(forks), parent: answer.parent_hash, transactions: answer.transactions.clone() }
}

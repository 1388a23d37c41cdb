//! What does a slow way to a node cost the builder?
//!
//! An embedded rollup makes a block a second, full of token transfers and swaps. The builder sees it through a node whose every
//! answer is 20 ms late, and builds the next block of the same kind of transactions on every head. What it has to wait for is
//! counted: rounds of fetching, values that were missing for the first time, and values that had been read before and were
//! missing again. Once warm, the last must not happen: then the bench fails.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    error::Error,
    io::{self, Write},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_primitives::{Address, B256, ChainId, TxKind, U256};
use alloy_sol_types::SolCall;
use jsonrpsee::{
    core::{client::ClientT, params::ArrayParams},
    http_client::{HttpClient, HttpClientBuilder},
};
use lockstep_building::{Candidate, Policy, RollupView, SlotView, proposals, simulate_all};
use lockstep_node::{
    dev::{Contracts, Dev, DevOptions, DevRollup, USERS, builder, rules, user},
    keys::Key,
};
use lockstep_primitives::{Bundle, Leg, LegTx, Price, RevertMode, SignedTx};
use lockstep_provider::{CacheStats, DeliverySettings, RemoteLimits, RemoteNode, RemoteSettings, RollupNode};
use lockstep_simulation::{
    Account, BlockPlan, Code, ForkSchedule, NextBlock, ParentBlock, SlotRollup, StateError, StateKey, StateView, TracedView,
};
use lockstep_testkit::NodeProxy;

use self::calls::{swapExactTokensForTokensCall, transferCall};

mod calls {
    alloy_sol_types::sol! {
        function transfer(address to, uint256 amount) external returns (bool);
        function swapExactTokensForTokens(uint256 amountIn, uint256 amountOutMin, address[] path, address to, uint256 deadline) external returns (uint256[]);
    }
}

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How late every answer of the node is.
const DELAY: Duration = Duration::from_millis(20);
/// Blocks until everything is warm.
const WARM_UP: usize = 6;
/// Blocks that are measured.
const BLOCKS: usize = 20;
/// How often work is run again after fetching what it missed.
const MAX_ROUNDS: usize = 256;
/// In wei per gas: far above any base fee that is seen here.
const FEE_CAP: u128 = 100_000_000_000;
const TIP: u128 = 1_000_000_000;
const CALL_GAS: u64 = 400_000;

type Failed = Box<dyn Error>;

fn main() -> Result<(), Failed> {
    // `cargo test --all-targets` runs benches too, without this argument.
    if !env::args().any(|argument| argument == "--bench") {
        return line("skipped: cargo bench runs it");
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run())
}

fn line(text: &str) -> Result<(), Failed> {
    Ok(writeln!(io::stdout().lock(), "{text}")?)
}

async fn run() -> Result<(), Failed> {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let options = DevOptions { listen, rollups: 1, slot_ms: 1_000, block_times: vec![1], ..DevOptions::default() };
    let dev = Dev::start(options).await?;
    let rollup = dev.rollups.first().ok_or("dev has no rollup")?;
    let proxy = NodeProxy::start(&dev.process.url(), DELAY).await?;
    let path = format!("rollup/{}", rollup.chain);
    let settings = RemoteSettings {
        chain: rollup.chain,
        forks: ForkSchedule::always(rules(0)),
        urls: vec![format!("{}/{path}", proxy.url())],
        limits: RemoteLimits { poll_ms: 25, ..RemoteLimits::default() },
        // Nothing is delivered by this node.
        delivery: DeliverySettings::Raw,
    };
    let node = RemoteNode::open(settings).await?;
    // What makes the chain go on does not go the slow way.
    let sender = HttpClientBuilder::default().build(format!("{}/{path}", dev.process.url()))?;

    line(&format!(
        "{:>6} {:>7} {:>9} {:>7} {:>6} {:>6} {:>9} {:>8}",
        "block", "bundles", "build ms", "rounds", "cold", "again", "hit rate", "fetched"
    ))?;
    let mut heads = node.heads();
    let mut seen = BTreeSet::new();
    let (mut rounds, mut cold, mut again) = (0, 0, 0);
    for number in 0..WARM_UP + BLOCKS {
        heads.changed().await?;
        let head = heads.borrow_and_update().clone();
        let txs = traffic(rollup, &dev.contracts, head.hash).await?;
        let before = node.stats();
        let built = build(&node, &head, &txs).await?;
        let after = node.stats();
        let repeated = built.missed.intersection(&seen).count();
        let warm = number >= WARM_UP;
        line(&format!(
            "{:>6} {:>7} {:>9.2} {:>7} {:>6} {:>6} {:>8.2}% {:>8}{}",
            head.number + 1,
            built.bundles,
            built.took.as_secs_f64() * 1e3,
            built.rounds,
            built.missed.len() - repeated,
            repeated,
            hit_rate(&before, &after) * 100.0,
            after.fetched - before.fetched,
            if warm { "" } else { "  warming up" },
        ))?;
        if warm {
            rounds += built.rounds;
            cold += built.missed.len() - repeated;
            again += repeated;
        }
        seen.extend(built.read);
        send(&sender, &txs).await?;
    }
    line(&format!(
        "{BLOCKS} warm blocks: {rounds} rounds of fetching, {cold} values read for the first time, {again} read again"
    ))?;
    dev.process.stop().await;
    if again > 0 { Err(format!("{again} values that were known had to be fetched again").into()) } else { Ok(()) }
}

/// The part of the reads that were answered at once.
fn hit_rate(before: &CacheStats, after: &CacheStats) -> f64 {
    let (hits, misses) = (after.hits - before.hits, after.misses - before.misses);
    if hits + misses == 0 { 1.0 } else { hits as f64 / (hits + misses) as f64 }
}

/// A transaction of every user: half of them send tokens on, half of them swap.
async fn traffic(rollup: &DevRollup, contracts: &Contracts, head: B256) -> Result<Vec<Arc<SignedTx>>, Failed> {
    let state = rollup.rollup.state_at(head).await?;
    let mut txs = Vec::with_capacity(USERS);
    for index in 0..USERS {
        let key = user(index);
        let nonce = state.account(key.address())?.map_or(0, |account| account.nonce);
        let (to, input) = if index % 2 == 0 {
            let transfer = transferCall { to: user((index + 1) % USERS).address(), amount: U256::from(1_000) };
            (contracts.usdc, transfer.abi_encode())
        } else {
            let swap = swapExactTokensForTokensCall {
                amountIn: U256::from(1_000_000),
                amountOutMin: U256::ZERO,
                path: vec![contracts.usdc, contracts.weth],
                to: key.address(),
                deadline: U256::MAX,
            };
            (contracts.router, swap.abi_encode())
        };
        txs.push(sign(&key, rollup.chain, nonce, to, input));
    }
    Ok(txs)
}

fn sign(key: &Key, chain_id: ChainId, nonce: u64, to: Address, input: Vec<u8>) -> Arc<SignedTx> {
    let tx = TxEip1559 {
        chain_id,
        nonce,
        gas_limit: CALL_GAS,
        max_fee_per_gas: FEE_CAP,
        max_priority_fee_per_gas: TIP,
        to: TxKind::Call(to),
        value: U256::ZERO,
        access_list: Default::default(),
        input: input.into(),
    };
    let signature = key.sign(tx.signature_hash());
    Arc::new(SignedTx::from_parts(TxEnvelope::from(tx.into_signed(signature)), key.address()))
}

/// Sends what is not in the pool yet: a transaction that has not landed since the last head is known there already.
async fn send(client: &HttpClient, txs: &[Arc<SignedTx>]) -> Result<(), Failed> {
    for tx in txs {
        let mut params = ArrayParams::new();
        params.insert(tx.raw())?;
        if let Err(error) = client.request::<B256, _>("eth_sendRawTransaction", params).await {
            line(&format!("       {} is not taken: {error}", tx.hash()))?;
        }
    }
    Ok(())
}

/// What building one block came to.
#[derive(Debug)]
struct Built {
    bundles: usize,
    took: Duration,
    rounds: usize,
    /// What was read.
    read: BTreeSet<StateKey>,
    /// What of it was not there at once.
    missed: BTreeSet<StateKey>,
}

/// Builds the block after `head` out of `txs`, each a bundle, as the builder does.
async fn build(node: &RemoteNode, head: &ParentBlock, txs: &[Arc<SignedTx>]) -> Result<Built, Failed> {
    let chain = node.chain();
    let started = Instant::now();
    let watched = Arc::new(Watched { below: node.state_at(head.hash).await?, missed: Mutex::default() });
    let traced = Arc::new(TracedView::new(Arc::clone(&watched) as _));
    let next = NextBlock {
        timestamp: head.timestamp + 1,
        gas_limit: head.gas_limit,
        beneficiary: builder().address(),
        parent_beacon_block_root: Some(B256::ZERO),
        ..NextBlock::default()
    };
    let slot = SlotRollup {
        chain,
        forks: ForkSchedule::always(rules(0)),
        parent: head.clone(),
        state: Arc::clone(&traced) as _,
        blocks: vec![BlockPlan { next, forced: Vec::new() }],
    };
    let rollups = BTreeMap::from([(chain, RollupView::free(Arc::new(slot), Price::PAR, 10_000))]);
    let view = Arc::new(SlotView {
        slot: head.number,
        rollups,
        proposer: builder().address(),
        policy: Policy::default(),
        facts: Arc::default(),
    });
    let candidates: Vec<Candidate> = txs.iter().zip(0..).map(|(tx, sequence)| candidate(chain, tx, sequence)).collect();
    let candidates = Arc::new(candidates);
    for rounds in 0..MAX_ROUNDS {
        let (view, candidates) = (Arc::clone(&view), Arc::clone(&candidates));
        let run = move || simulate_all(&view, &candidates).and_then(|simulated| proposals(&view, &simulated));
        match tokio::task::spawn_blocking(run).await? {
            Ok(drafts) => {
                let bundles = drafts.iter().map(|draft| draft.placed.len()).sum();
                return Ok(Built { bundles, took: started.elapsed(), rounds, read: traced.keys(), missed: watched.missed() });
            }
            Err(error) if error.missing().is_some() => {
                node.fetch_missing(head.hash).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(format!("the state was not complete after {MAX_ROUNDS} rounds of fetching").into())
}

fn candidate(chain: ChainId, tx: &Arc<SignedTx>, sequence: u64) -> Candidate {
    let txs = vec![LegTx { tx: Arc::clone(tx), mode: RevertMode::Fail }];
    let bundle = Bundle { legs: vec![Leg::Txs { chain, txs }], ..Bundle::default() };
    Candidate { hash: bundle.hash(), bundle: Arc::new(bundle), sequence }
}

/// Remembers what was missing.
#[derive(Debug)]
struct Watched {
    below: Arc<dyn StateView>,
    missed: Mutex<BTreeSet<StateKey>>,
}

impl Watched {
    fn missed(&self) -> BTreeSet<StateKey> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note<T>(&self, read: Result<T, StateError>) -> Result<T, StateError> {
        if let Err(StateError::Missing(key)) = &read {
            self.missed.lock().unwrap_or_else(PoisonError::into_inner).insert(*key);
        }
        read
    }
}

impl StateView for Watched {
    fn account(&self, address: Address) -> Result<Option<Account>, StateError> {
        self.note(self.below.account(address))
    }

    fn code(&self, hash: B256) -> Result<Code, StateError> {
        self.note(self.below.code(hash))
    }

    fn storage(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        self.note(self.below.storage(address, slot))
    }

    fn block_hash(&self, number: u64) -> Result<B256, StateError> {
        self.note(self.below.block_hash(number))
    }
}

//! A real node is followed: its blocks are executed here, its reorgs are undone, its failures are named.

use std::{path::Path, time::Duration};

use alloy_primitives::{Address, B256, Bytes, ChainId, U256, keccak256};
use alloy_sol_types::sol;
use lockstep_node::{
    clock::now_ms,
    dev::{Contracts, DOMAIN_BASE},
    keys::Key,
};
use lockstep_primitives::SignedTx;
use lockstep_provider::{DeliverySettings, NodeError, RemoteLimits, RemoteNode, RemoteSettings, RollupNode};
use lockstep_simulation::{Account, EthereumFork, ForkSchedule, ParentBlock, Rules, StateError};
use lockstep_testkit::{Fault, NodeProxy};
use serde_json::Value;

use crate::{
    anvil::{deploy, deployer},
    chain::NONE,
    node::{Anvil, binary},
    transactions::{Tx, input},
    wait::until,
    world::logs,
};

sol! {
    function mint(address to, uint256 amount) external returns (bool);
    function transfer(address to, uint256 amount) external returns (bool);
    function approve(address spender, uint256 amount) external returns (bool);
}

const CHAIN: ChainId = 911;
/// Blocks that a reorg may drop in these tests.
const MAX_REORG: usize = 8;
/// Blocks followed by [`two_hundred_blocks_are_followed_without_a_mismatch`].
const BLOCKS: u64 = 200;
/// How far in the past the chain begins, in seconds.
const PAST: u64 = 100_000;

fn limits() -> RemoteLimits {
    RemoteLimits {
        poll_ms: 25,
        timeout_ms: 5_000,
        backoff_ms: 10,
        max_backoff_ms: 100,
        max_reorg: MAX_REORG,
        lie_backoff_ms: 100,
        // The chain begins in the past and goes at its own pace.
        max_lag_s: u64::MAX,
        ..RemoteLimits::default()
    }
}

async fn open(urls: &[String], limits: RemoteLimits) -> Result<RemoteNode, NodeError> {
    let forks = ForkSchedule::always(Rules::Ethereum(EthereumFork::Osaka));
    let delivery = DeliverySettings::Auto;
    RemoteNode::open(RemoteSettings { chain: CHAIN, forks, urls: urls.to_vec(), limits, delivery }).await
}

/// A node with the contracts of the story, and accounts that send to each other.
struct Rig {
    anvil: Anvil,
    contracts: Contracts,
    senders: Vec<Key>,
}

impl Rig {
    async fn start(binary: &Path) -> Self {
        logs();
        let anvil = Anvil::start(binary, CHAIN, now_ms() / 1_000 - PAST).await;
        let senders: Vec<Key> = (0..4).map(|index| Key::of_name(&format!("sender {index}"))).collect();
        let mut funded: Vec<Address> = senders.iter().map(Key::address).collect();
        funded.push(deployer().address());
        anvil.fund(&funded).await;
        let contracts = Contracts::new();
        deploy(&anvil, &contracts, DOMAIN_BASE, DOMAIN_BASE + 1).await;
        Self { anvil, contracts, senders }
    }

    async fn mine(&self) {
        let _: Value = self.anvil.chain.ask("evm_mine", NONE).await;
    }

    /// One block of varied transactions: payments, token transfers, approvals, one that reverts, one that creates.
    async fn busy_block(&self, seed: u64) -> Vec<SignedTx> {
        let usdc = self.contracts.usdc;
        let mut txs = Vec::new();
        for (index, key) in self.senders.iter().enumerate() {
            let nonce = self.anvil.chain.nonce(key.address()).await;
            let other = self.senders[(index + 1) % self.senders.len()].address();
            let amount = U256::from(seed % 97 + 1);
            let tx = match (seed as usize + index) % 5 {
                0 => Tx::pay(CHAIN, nonce, Address::from_word(keccak256(seed.to_be_bytes())), amount),
                1 => Tx::call(CHAIN, nonce, usdc, input(&approveCall { spender: other, amount })),
                // Nobody but the deployer has tokens: most of these revert, and pay for it.
                2 => Tx::call(CHAIN, nonce, usdc, input(&transferCall { to: other, amount })),
                // Code that stores its number: PUSH8 seed, PUSH1 0, SSTORE, then returns nothing.
                3 => {
                    let code = [&[0x67][..], &seed.to_be_bytes(), &[0x60, 0x00, 0x55, 0x00]].concat();
                    Tx {
                        chain: CHAIN,
                        nonce,
                        to: None,
                        value: U256::ZERO,
                        data: Bytes::from(code),
                        gas: 200_000,
                        access_list: Default::default(),
                    }
                }
                _ => Tx::pay(CHAIN, nonce, other, amount),
            };
            txs.push(tx.sign(key));
        }
        let owner = deployer();
        let nonce = self.anvil.chain.nonce(owner.address()).await;
        let to = self.senders[seed as usize % self.senders.len()].address();
        txs.push(Tx::call(CHAIN, nonce, usdc, input(&mintCall { to, amount: U256::from(seed) })).sign(&owner));
        for tx in &txs {
            self.anvil.chain.send(tx).await;
        }
        self.mine().await;
        txs
    }

    /// What the node says of an account now, against what is read here at its head.
    async fn compare(&self, node: &RemoteNode) {
        let head = node.head().await.expect("the node answers");
        for key in &self.senders {
            let here = account(node, &head, key.address()).await.unwrap_or_default();
            assert_eq!(here.balance, self.anvil.chain.balance(key.address()).await);
            assert_eq!(here.nonce, self.anvil.chain.nonce(key.address()).await);
        }
    }
}

/// Reads an account at a block, fetching what is missing.
async fn account(node: &RemoteNode, at: &ParentBlock, address: Address) -> Option<Account> {
    let state = node.state_at(at.hash).await.expect("the block is known");
    loop {
        match state.account(address) {
            Ok(account) => return account,
            Err(StateError::Missing(_)) => drop(node.fetch_missing(at.hash).await.expect("the node answers")),
            Err(error) => panic!("{error}"),
        }
    }
}

async fn storage(node: &RemoteNode, at: &ParentBlock, address: Address, slot: U256) -> U256 {
    let state = node.state_at(at.hash).await.expect("the block is known");
    loop {
        match state.storage(address, slot) {
            Ok(value) => return value,
            Err(StateError::Missing(_)) => drop(node.fetch_missing(at.hash).await.expect("the node answers")),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_blocks_are_followed_without_a_mismatch() {
    let Some(binary) = binary("two_hundred_blocks_are_followed_without_a_mismatch") else { return };
    let rig = Rig::start(&binary).await;
    let node = open(std::slice::from_ref(&rig.anvil.url), limits()).await.expect("anvil is usable");
    // What is read before is kept right by what is executed.
    rig.compare(&node).await;
    let fetched_before = node.stats().fetched;
    for seed in 0..BLOCKS {
        rig.busy_block(seed).await;
        node.head().await.expect("the node answers");
    }
    rig.compare(&node).await;
    let stats = node.follow_stats();
    assert_eq!((stats.mismatches, stats.fallbacks, stats.resets, stats.reorgs), (0, 0, 0, 0), "{stats:?}");
    assert!(stats.blocks >= BLOCKS, "{stats:?}");
    assert!(stats.proofs >= BLOCKS, "every block is checked against its state root: {stats:?}");
    let after = node.stats();
    assert!(after.fetched - fetched_before < after.hits, "what is known is not fetched again: {after:?}");

    // Storage too, slot by slot, against the node's own answers.
    let head = node.head().await.expect("the node answers");
    for slot in 0..12 {
        let slot = U256::from(slot);
        let there: B256 = rig.anvil.chain.ask("eth_getStorageAt", (rig.contracts.usdc, slot, "latest")).await;
        assert_eq!(storage(&node, &head, rig.contracts.usdc, slot).await, U256::from_be_bytes(there.0));
    }
}

/// Drops `depth` blocks of the chain and makes others in their place; returns the dropped transactions.
async fn reorg(rig: &Rig, node: &RemoteNode, depth: u64) -> (u64, Vec<B256>) {
    let common = rig.anvil.chain.height().await;
    let snapshot: Value = rig.anvil.chain.ask("evm_snapshot", NONE).await;
    let mut dropped = Vec::new();
    for seed in 0..depth {
        dropped.extend(rig.busy_block(1_000 + seed).await.iter().map(SignedTx::hash));
        node.head().await.expect("the node answers");
    }
    let reverted: bool = rig.anvil.chain.ask("evm_revert", (snapshot,)).await;
    assert!(reverted, "anvil takes the blocks back");
    for seed in 0..=depth {
        rig.busy_block(2_000 + seed).await;
    }
    (common, dropped)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reorgs_within_the_bound_are_undone_block_by_block() {
    let Some(binary) = binary("reorgs_within_the_bound_are_undone_block_by_block") else { return };
    let rig = Rig::start(&binary).await;
    // Looks only when it is asked to, so that the test knows which blocks were seen.
    let node = open(std::slice::from_ref(&rig.anvil.url), RemoteLimits { poll_ms: 3_600_000, ..limits() }).await;
    let node = node.expect("anvil is usable");
    let mut reorgs = node.reorgs();
    for depth in [1, 3] {
        rig.compare(&node).await;
        let (common, mut dropped) = reorg(&rig, &node, depth).await;
        rig.compare(&node).await;
        let told = reorgs.try_recv().expect("the reorg is told");
        assert_eq!((told.chain, told.common), (CHAIN, Some(common)));
        assert_eq!(told.dropped.len() as u64, depth);
        let numbers: Vec<u64> = told.dropped.iter().map(|block| block.number).collect();
        assert_eq!(numbers, (common + 1..=common + depth).rev().collect::<Vec<_>>(), "newest first");
        let mut hashes: Vec<B256> = told.dropped.into_iter().flat_map(|block| block.transactions).collect();
        hashes.sort_unstable();
        dropped.sort_unstable();
        assert_eq!(hashes, dropped);
    }
    let stats = node.follow_stats();
    assert_eq!((stats.reorgs, stats.mismatches, stats.fallbacks, stats.resets), (2, 0, 0, 0), "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reorg_beyond_the_bound_empties_the_cache_and_is_told() {
    let Some(binary) = binary("a_reorg_beyond_the_bound_empties_the_cache_and_is_told") else { return };
    let rig = Rig::start(&binary).await;
    let node = open(std::slice::from_ref(&rig.anvil.url), RemoteLimits { poll_ms: 3_600_000, ..limits() }).await;
    let node = node.expect("anvil is usable");
    let mut reorgs = node.reorgs();
    rig.compare(&node).await;
    reorg(&rig, &node, MAX_REORG as u64 + 4).await;
    rig.compare(&node).await;
    let told = reorgs.try_recv().expect("the reorg is told");
    assert_eq!(told.common, None);
    assert!(!told.dropped.is_empty());
    let stats = node.follow_stats();
    assert_eq!((stats.reorgs, stats.mismatches), (1, 0), "{stats:?}");
    assert!(stats.resets >= 1, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_dies_is_replaced_by_another_and_taken_up_again() {
    let Some(binary) = binary("an_endpoint_that_dies_is_replaced_by_another_and_taken_up_again") else { return };
    let rig = Rig::start(&binary).await;
    let first = NodeProxy::start(&rig.anvil.url, Duration::ZERO).await.expect("a proxy");
    let second = NodeProxy::start(&rig.anvil.url, Duration::ZERO).await.expect("a proxy");
    let node = open(&[first.url(), second.url()], limits()).await.expect("anvil is usable");
    for fault in [Fault::Dead, Fault::WebPage, Fault::Truncated, Fault::OtherReceiptsRoot] {
        rig.busy_block(1).await;
        rig.compare(&node).await;
        first.set(fault).await.expect("the proxy changes");
        rig.busy_block(2).await;
        rig.compare(&node).await;
        assert_eq!(node.health().degraded, None, "one of two is enough under {fault:?}");
        first.set(Fault::None).await.expect("the proxy changes");
        // Now the other one: the first has to be taken up again.
        second.set(Fault::Dead).await.expect("the proxy changes");
        rig.busy_block(3).await;
        until("the first endpoint is used again", async || {
            let head = node.head().await.ok()?;
            (head.number == rig.anvil.chain.height().await).then_some(())
        })
        .await;
        second.set(Fault::None).await.expect("the proxy changes");
    }
    let stats = node.follow_stats();
    assert_eq!((stats.mismatches, stats.resets), (0, 0), "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_only_endpoint_that_fails_is_named_and_never_believed() {
    let Some(binary) = binary("an_only_endpoint_that_fails_is_named_and_never_believed") else { return };
    let rig = Rig::start(&binary).await;
    let way = NodeProxy::start(&rig.anvil.url, Duration::ZERO).await.expect("a proxy");
    let node = open(&[way.url()], RemoteLimits { timeout_ms: 1_000, ..limits() }).await.expect("anvil is usable");
    for (fault, code) in [
        (Fault::Dead, "node_unreachable"),
        (Fault::WebPage, "not_json_rpc"),
        (Fault::Truncated, "not_json_rpc"),
        (Fault::OtherReceiptsRoot, "wrong_block"),
    ] {
        let before = node.head().await.expect("the node answers");
        way.set(fault).await.expect("the proxy changes");
        rig.busy_block(1).await;
        let error = node.head().await.expect_err("nothing to be believed comes");
        assert_eq!(error.code(), code, "{fault:?}: {error}");
        assert_eq!(*node.heads().borrow(), before, "the head stays where it was under {fault:?}");
        let degraded = node.health().degraded.expect("the node is degraded");
        assert_eq!(degraded.0, code, "{degraded:?}");
        way.set(Fault::None).await.expect("the proxy changes");
        until("the node is well again", async || node.health().degraded.is_none().then_some(())).await;
        rig.compare(&node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_of_another_chain_is_refused_by_name() {
    let Some(binary) = binary("an_endpoint_of_another_chain_is_refused_by_name") else { return };
    logs();
    let other = Anvil::start(&binary, CHAIN + 1, now_ms() / 1_000).await;
    let error = open(std::slice::from_ref(&other.url), limits()).await.expect_err("it is another chain");
    assert_eq!(error, NodeError::WrongChain { chain: CHAIN, served: CHAIN + 1 });
    // Beside a right one it is left out, and said so.
    let rig = Rig::start(&binary).await;
    let node = open(&[other.url.clone(), rig.anvil.url.clone()], limits()).await.expect("one of two is right");
    rig.busy_block(1).await;
    rig.compare(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_come_by_subscription() {
    let Some(binary) = binary("heads_come_by_subscription") else { return };
    let rig = Rig::start(&binary).await;
    let way = NodeProxy::start(&rig.anvil.url, Duration::ZERO).await.expect("a proxy");
    // Polling alone would take an hour.
    let limits = RemoteLimits { poll_ms: 3_600_000, poll_idle_ms: 3_600_000, ..limits() };
    let node = open(&[rig.anvil.url.clone(), way.ws_url()], limits).await.expect("anvil is usable");
    let mut heads = node.heads();
    for seed in 0..3 {
        // Until the subscription stands, a block may go by unseen.
        until("a head comes by itself", async || {
            rig.busy_block(seed).await;
            heads.has_changed().is_ok_and(|changed| changed).then(|| drop(heads.borrow_and_update()))
        })
        .await;
    }
}

//! Real nodes as they are used: lists by their own pool, what others send them, several at once, and what is fetched ahead.

use std::{path::Path, sync::Arc, time::Duration};

use alloy_primitives::{Address, ChainId, U256, keccak256};
use alloy_sol_types::sol;
use lockstep_node::{
    clock::now_ms,
    dev::{Contracts, DOMAIN_BASE},
    keys::Key,
};
use lockstep_primitives::{BlockList, Guarantee, ListBlock, SignedTx};
use lockstep_provider::{DeliverySettings, NodeError, RemoteLimits, RemoteNode, RemoteSettings, RollupNode};
use lockstep_simulation::{
    BlockContext, BlockTx, EthereumFork, ForkSchedule, NextBlock, PendingBlock, Rules, SimulationError, SlotRollup, StateError,
};
use lockstep_testkit::{Fault, NodeProxy};
use serde_json::Value;

use crate::{
    anvil::{Rig, deploy, deployer},
    chain::NONE,
    node::{Anvil, binary},
    transactions::{Tx, input},
    wait::until,
    world::logs,
};

sol! {
    function mint(address to, uint256 amount) external returns (bool);
    function transfer(address to, uint256 amount) external returns (bool);
}

const CHAIN: ChainId = 921;
/// How far in the past the chains begin, in seconds.
const PAST: u64 = 100_000;

fn forks() -> ForkSchedule {
    ForkSchedule::always(Rules::Ethereum(EthereumFork::Osaka))
}

fn limits() -> RemoteLimits {
    // The chains begin in the past and go at their own pace.
    RemoteLimits { poll_ms: 25, backoff_ms: 10, max_backoff_ms: 100, max_lag_s: u64::MAX, ..RemoteLimits::default() }
}

async fn open(chain: ChainId, urls: &[String], delivery: DeliverySettings) -> RemoteNode {
    let settings = RemoteSettings { chain, forks: forks(), urls: urls.to_vec(), limits: limits(), delivery };
    RemoteNode::open(settings).await.expect("anvil is usable")
}

async fn start(binary: &Path, chain: ChainId) -> Anvil {
    logs();
    let anvil = Anvil::start(binary, chain, now_ms() / 1_000 - PAST).await;
    anvil.fund(&[payer(0).address(), payer(1).address(), deployer().address()]).await;
    // What was set by hand is sealed in a block.
    mine(&anvil).await;
    anvil
}

fn payer(index: usize) -> Key {
    Key::of_name(&format!("payer {index}"))
}

async fn mine(anvil: &Anvil) {
    let _: Value = anvil.chain.ask("evm_mine", NONE).await;
}

fn pay(chain: ChainId, key: &Key, nonce: u64) -> SignedTx {
    Tx::pay(chain, nonce, Address::repeat_byte(0x55), U256::from(nonce + 1)).sign(key)
}

/// The next block of a node as a slot, and a list for it.
async fn listed(node: &RemoteNode, txs: &[&SignedTx]) -> (Arc<SlotRollup>, BlockList) {
    let parent = node.head().await.expect("the node answers");
    let timestamp = parent.timestamp + 1;
    let blocks = node.plan(&parent, &[timestamp], payer(0).address()).await.expect("the next block is planned");
    let transactions = txs.iter().map(|tx| tx.raw().clone()).collect();
    let block = ListBlock { number: parent.number + 1, timestamp, transactions };
    let list = BlockList { chain: node.chain(), blocks: vec![block] };
    let state = node.state_at(parent.hash).await.expect("the head's state is there");
    (Arc::new(SlotRollup { chain: node.chain(), forks: forks(), parent, state, blocks }), list)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raw_list_lands_in_its_order_by_the_nodes_own_pool() {
    let Some(binary) = binary("a_raw_list_lands_in_its_order_by_the_nodes_own_pool") else { return };
    let anvil = start(&binary, CHAIN).await;
    let node = Arc::new(open(CHAIN, std::slice::from_ref(&anvil.url), DeliverySettings::Raw).await);
    assert_eq!(node.carries(), Guarantee::G1, "nobody refuses a list that the pool takes apart");
    assert!(node.hands_in_early());
    let txs = [pay(CHAIN, &payer(0), 0), pay(CHAIN, &payer(1), 0), pay(CHAIN, &payer(0), 1)];
    let (rollup, list) = listed(&node, &txs.iter().collect::<Vec<_>>()).await;
    let publishing = {
        let (node, rollup, list) = (Arc::clone(&node), Arc::clone(&rollup), list.clone());
        tokio::spawn(async move { node.publish(&rollup, &list, 0).await })
    };
    until("the pool has the list", async || {
        let pool: Value = anvil.chain.ask("txpool_status", NONE).await;
        (pool["pending"] == "0x3").then_some(())
    })
    .await;
    mine(&anvil).await;
    let block = publishing.await.expect("publishing ends").expect("the list is published");
    assert_eq!(block.transactions, txs.iter().map(SignedTx::hash).collect::<Vec<_>>());
    assert_eq!(anvil.chain.block(block.number).await.hash, block.hash);
    // Asked again it finds its block, and sends nothing.
    assert_eq!(node.publish(&rollup, &list, 0).await, Ok(block));

    // A transaction that the node refuses is named, and what is wrong with it.
    let late = Tx::pay(CHAIN, 0, Address::ZERO, U256::from(7)).sign(&payer(0));
    let (rollup, list) = listed(&node, &[&pay(CHAIN, &payer(1), 1), &late]).await;
    let error = node.publish(&rollup, &list, 0).await.expect_err("the node refuses the second");
    assert!(matches!(error, NodeError::List { .. }), "{error}");
    assert!(error.to_string().contains("1 before it are sent already"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_send_to_a_node_is_seen_by_subscription_and_by_polling() {
    let Some(binary) = binary("what_others_send_to_a_node_is_seen_by_subscription_and_by_polling") else { return };
    let anvil = start(&binary, CHAIN).await;
    let ws = anvil.url.replace("http://", "ws://");
    for (round, urls) in [vec![anvil.url.clone(), ws], vec![anvil.url.clone()]].iter().enumerate() {
        let node = open(CHAIN, urls, DeliverySettings::Auto).await;
        let mut flow = node.public_flow();
        let key = Key::of_name(&format!("a stranger {round}"));
        anvil.fund(&[key.address()]).await;
        let mut nonce = 0;
        // Until the node is listened to, a transaction may go by unseen.
        let seen = until("a transaction of others is seen", async || {
            let tx = pay(CHAIN, &key, nonce);
            nonce += 1;
            anvil.chain.send(&tx).await;
            flow.try_recv().ok()
        })
        .await;
        let sent: Vec<_> = (0..nonce).map(|nonce| pay(CHAIN, &key, nonce).raw().clone()).collect();
        assert!(sent.contains(&seen), "round {round}");
        mine(&anvil).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_send_to_a_node_fills_its_blocks() {
    let Some(binary) = binary("what_others_send_to_a_node_fills_its_blocks") else { return };
    let rig = Rig::with_public_flow(&binary, 2, [1, 2]).await;
    let key = Key::of_name("a stranger");
    rig.origin.fund(&[key.address()]).await;
    // The sequencer empties the node's pool before it makes a block: what lands was in a list.
    let tx = pay(rig.origin.chain.id, &key, 0);
    let hash = until("what was sent to the node lands", async || {
        // Sent again while it is not there: the node forgets it with every block that it is not in.
        let _ = rig.origin.chain.try_ask::<Value>("eth_sendRawTransaction", (tx.raw(),)).await;
        rig.origin.chain.receipt(tx.hash()).await.map(|_| tx.hash())
    })
    .await;
    assert_eq!(hash, tx.hash());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_three_nodes_one_that_is_away_keeps_up_afterwards_and_the_others_never_notice() {
    let Some(binary) = binary("of_three_nodes_one_that_is_away_keeps_up_afterwards_and_the_others_never_notice") else { return };
    let mut anvils = Vec::new();
    for index in 0..3 {
        anvils.push(start(&binary, CHAIN + index).await);
    }
    let way = NodeProxy::start(&anvils[2].url, Duration::ZERO).await.expect("a proxy");
    let mut nodes = Vec::new();
    for (index, anvil) in anvils.iter().enumerate() {
        let url = if index == 2 { way.url() } else { anvil.url.clone() };
        nodes.push(open(anvil.chain.id, &[url], DeliverySettings::Auto).await);
    }
    for block in 0..20_u64 {
        match block {
            5 => way.set(Fault::Dead).await.expect("the way breaks"),
            10 => way.set(Fault::None).await.expect("the way is well again"),
            _ => {}
        }
        for anvil in &anvils {
            anvil.chain.send(&pay(anvil.chain.id, &payer(0), block)).await;
            mine(anvil).await;
        }
        for (node, anvil) in nodes.iter().zip(&anvils).take(2) {
            let head = node.head().await.expect("a node that is there answers");
            assert_eq!(head.number, anvil.chain.height().await);
            assert_eq!(node.health().degraded, None);
        }
    }
    let height = anvils[2].chain.height().await;
    until("the third is taken up again", async || nodes[2].head().await.is_ok_and(|head| head.number == height).then_some(()))
        .await;
    for (index, node) in nodes.iter().enumerate() {
        let stats = node.follow_stats();
        assert_eq!((stats.mismatches, stats.fallbacks, stats.resets, stats.reorgs), (0, 0, 0, 0), "node {index}: {stats:?}");
        assert!(stats.blocks >= 20, "node {index}: {stats:?}");
    }
}

/// Whether a transaction runs on the newest state without anything being fetched.
async fn runs_at_once(node: &RemoteNode, tx: &SignedTx) -> bool {
    let head = node.head().await.expect("the node answers");
    let state = node.state_at(head.hash).await.expect("the head's state is there");
    let next = NextBlock {
        timestamp: head.timestamp + 1,
        gas_limit: head.gas_limit,
        beneficiary: payer(0).address(),
        parent_beacon_block_root: Some(keccak256("a root")),
        ..NextBlock::default()
    };
    let context = BlockContext::next(CHAIN, &forks(), &head, &next).expect("the next block");
    let ran = PendingBlock::open(context, state).and_then(|mut block| {
        let ran = block.execute(&BlockTx::Signed(Arc::new(tx.clone())))?.map(|executed| executed.outcome.succeeded());
        Ok(ran)
    });
    match ran {
        Ok(ran) => {
            assert_eq!(ran, Ok(true), "the transaction is valid and succeeds");
            true
        }
        Err(SimulationError::State(StateError::Missing(_))) => false,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_fetched_ahead_is_there_now_and_after_further_blocks() {
    let Some(binary) = binary("what_was_fetched_ahead_is_there_now_and_after_further_blocks") else { return };
    let anvil = start(&binary, CHAIN).await;
    let contracts = Contracts::new();
    deploy(&anvil, &contracts, DOMAIN_BASE, DOMAIN_BASE + 1).await;
    let nonce = anvil.chain.nonce(deployer().address()).await;
    let supply = input(&mintCall { to: payer(0).address(), amount: U256::from(1_000_000) });
    anvil.run(&[Tx::call(CHAIN, nonce, contracts.usdc, supply).sign(&deployer())]).await;
    let node = open(CHAIN, std::slice::from_ref(&anvil.url), DeliverySettings::Auto).await;
    let transfer = |nonce| {
        let data = input(&transferCall { to: payer(1).address(), amount: U256::from(nonce + 1) });
        Tx::call(CHAIN, nonce, contracts.usdc, data).sign(&payer(0))
    };
    assert!(!runs_at_once(&node, &transfer(0)).await, "nothing of it is known yet");
    assert!(node.prefetch(&[Arc::new(transfer(0))]).await > 0);
    assert!(runs_at_once(&node, &transfer(0)).await, "all of it was fetched");
    for nonce in 0..5 {
        anvil.run(&[transfer(nonce)]).await;
        assert!(runs_at_once(&node, &transfer(nonce + 1)).await, "what block {nonce} changed is known without asking");
    }
    let stats = node.follow_stats();
    assert_eq!((stats.mismatches, stats.fallbacks), (0, 0), "{stats:?}");
}

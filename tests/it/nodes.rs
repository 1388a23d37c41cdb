//! Real nodes as they are used: lists by their own pool, what others send them, blocks recorded from them, several at once,
//! and what is fetched ahead.

use std::{fs, path::Path, sync::Arc, time::Duration};

use alloy_primitives::{Address, B256, Bytes, ChainId, U64, U256, keccak256};
use alloy_sol_types::sol;
use lockstep_node::{
    clock::now_ms,
    dev::{Contracts, DOMAIN_BASE},
    keys::Key,
    record::{BlockChoice, RecordError, RecordOptions, record},
    replay::replay,
};
use lockstep_primitives::{BlockList, Guarantee, ListBlock, SignedTx};
use lockstep_provider::{
    BLOCK_FILE, DeliverySettings, NodeError, PublishedBlock, RemoteLimits, RemoteNode, RemoteSettings, RollupNode,
};
use lockstep_simulation::{
    BlockContext, BlockTx, EthereumFork, ForkSchedule, LaneError, NextBlock, PendingBlock, Rules, SimulationError, SlotRollup,
    StateError,
};
use lockstep_testkit::{Fault, NodeProxy};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    anvil::{Rig, deploy, deployer},
    chain::NONE,
    node::{Anvil, Mining, binary},
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
const RULES: Rules = Rules::Ethereum(EthereumFork::Osaka);
/// Longer than any test.
const AN_HOUR_MS: u64 = 3_600_000;

fn forks() -> ForkSchedule {
    ForkSchedule::always(RULES)
}

fn limits() -> RemoteLimits {
    // The chains begin in the past and go at their own pace.
    RemoteLimits { poll_ms: 25, backoff_ms: 10, max_backoff_ms: 100, max_lag_s: u64::MAX, ..RemoteLimits::default() }
}

async fn open(chain: ChainId, urls: &[String], delivery: DeliverySettings) -> RemoteNode {
    open_within(chain, urls, delivery, limits()).await
}

async fn open_within(chain: ChainId, urls: &[String], delivery: DeliverySettings, limits: RemoteLimits) -> RemoteNode {
    let settings = RemoteSettings { chain, forks: forks(), urls: urls.to_vec(), limits, delivery };
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

fn hashes(txs: &[SignedTx]) -> Vec<B256> {
    txs.iter().map(SignedTx::hash).collect()
}

fn publishing(
    node: &Arc<RemoteNode>,
    rollup: &Arc<SlotRollup>,
    list: &BlockList,
) -> JoinHandle<Result<PublishedBlock, NodeError>> {
    let (node, rollup, list) = (Arc::clone(node), Arc::clone(rollup), list.clone());
    tokio::spawn(async move { node.publish(&rollup, &list, 0).await })
}

/// Waits until the node's pool holds so many transactions that could be in the next block.
async fn pooled(anvil: &Anvil, count: u64) {
    until("the pool has the list", async || {
        let pool: Value = anvil.chain.ask("txpool_status", NONE).await;
        (pool["pending"] == json!(U64::from(count))).then_some(())
    })
    .await;
}

/// Compares all that is told of a published block with what the node answers.
async fn is_the_nodes_own(anvil: &Anvil, block: &PublishedBlock) {
    let answer: Value = anvil.chain.ask("eth_getBlockByNumber", (U64::from(block.number), false)).await;
    for (field, told) in [
        ("hash", json!(block.hash)),
        ("timestamp", json!(U64::from(block.timestamp))),
        ("transactions", json!(block.transactions)),
        ("gasUsed", json!(U64::from(block.gas_used))),
        ("receiptsRoot", json!(block.receipts_root)),
    ] {
        assert_eq!(answer[field], told, "{field} of block {}", block.number);
    }
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
    let publishing = publishing(&node, &rollup, &list);
    pooled(&anvil, 3).await;
    mine(&anvil).await;
    let block = publishing.await.expect("publishing ends").expect("the list is published");
    assert_eq!(block.transactions, hashes(&txs));
    is_the_nodes_own(&anvil, &block).await;
    // Asked again it finds its block, and sends nothing: else it would wait for a block that nobody makes.
    assert_eq!(node.publish(&rollup, &list, 0).await, Ok(block));

    // A transaction that the node refuses is named, and what is wrong with it.
    let late = Tx::pay(CHAIN, 0, Address::ZERO, U256::from(7)).sign(&payer(0));
    let (rollup, list) = listed(&node, &[&pay(CHAIN, &payer(1), 1), &late]).await;
    let error = node.publish(&rollup, &list, 0).await.expect_err("the node refuses the second");
    let NodeError::List { chain: CHAIN, cause: LaneError::Invalid { block: 0, index: 1, reason } } = &error else {
        panic!("{error}")
    };
    for said in [late.hash().to_string(), "nonce too low".to_owned(), "1 before it are sent already".to_owned()] {
        assert!(reason.to_string().contains(&said), "{said}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raw_list_that_was_given_up_is_gone_on_with_not_sent_twice() {
    let Some(binary) = binary("a_raw_list_that_was_given_up_is_gone_on_with_not_sent_twice") else { return };
    let anvil = start(&binary, CHAIN).await;
    let node = Arc::new(open(CHAIN, std::slice::from_ref(&anvil.url), DeliverySettings::Raw).await);
    let txs = [pay(CHAIN, &payer(0), 0), pay(CHAIN, &payer(1), 0), pay(CHAIN, &payer(0), 1), pay(CHAIN, &payer(1), 1)];
    let (rollup, list) = listed(&node, &txs.iter().take(3).collect::<Vec<_>>()).await;
    let given_up = publishing(&node, &rollup, &list);
    pooled(&anvil, 3).await;
    given_up.abort();
    assert!(given_up.await.is_err_and(|error| error.is_cancelled()), "no block has come yet");

    // The fourth comes into the pool only when the node's refusals of the first three are understood.
    let (rollup, list) = listed(&node, &txs.iter().collect::<Vec<_>>()).await;
    let publishing = publishing(&node, &rollup, &list);
    pooled(&anvil, 4).await;
    mine(&anvil).await;
    let block = publishing.await.expect("publishing ends").expect("the list is published");
    assert_eq!(block.transactions, hashes(&txs), "each of them once, in the list's order");
    is_the_nodes_own(&anvil, &block).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raw_list_lands_on_a_node_that_makes_its_blocks_by_itself() {
    let Some(binary) = binary("a_raw_list_lands_on_a_node_that_makes_its_blocks_by_itself") else { return };
    logs();
    let anvil = Anvil::start_with(&binary, CHAIN, now_ms() / 1_000 - PAST, Mining::Itself).await;
    anvil.fund(&[payer(0).address(), payer(1).address()]).await;
    // What was set by hand is sealed in a block.
    let before = anvil.chain.height().await;
    until("the node makes a block", async || (anvil.chain.height().await > before).then_some(())).await;
    let node = open(CHAIN, std::slice::from_ref(&anvil.url), DeliverySettings::Raw).await;

    let mut heads = node.heads();
    let (txs, rollup, list, block) = until("a list lands in one block", async || {
        // Right after a block there is the most time until the next one.
        heads.changed().await.expect("the head is followed");
        let (first, second) = (anvil.chain.nonce(payer(0).address()).await, anvil.chain.nonce(payer(1).address()).await);
        let txs = [pay(CHAIN, &payer(0), first), pay(CHAIN, &payer(1), second), pay(CHAIN, &payer(0), first + 1)];
        let (rollup, list) = listed(&node, &txs.iter().collect::<Vec<_>>()).await;
        match node.publish(&rollup, &list, 0).await {
            Ok(block) => Some((txs, rollup, list, block)),
            // It made a block just then: before the list came, or in the middle of it.
            Err(NodeError::OtherParent { .. } | NodeError::OtherBlock { .. }) => None,
            Err(error) => panic!("{error}"),
        }
    })
    .await;
    assert_eq!(block.transactions, hashes(&txs));
    assert!(block.number > rollup.parent.number, "{block:?}");
    is_the_nodes_own(&anvil, &block).await;
    for tx in &txs {
        let receipt = anvil.chain.receipt(tx.hash()).await.expect("the node has a receipt");
        assert!(receipt.success());
        assert_eq!(receipt.block(), block.number);
    }
    assert_eq!(node.publish(&rollup, &list, 0).await, Ok(block), "it is found again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_send_to_a_node_is_seen_by_subscription_and_by_polling() {
    let Some(binary) = binary("what_others_send_to_a_node_is_seen_by_subscription_and_by_polling") else { return };
    let anvil = start(&binary, CHAIN).await;
    let ws = anvil.url.replace("http://", "ws://");
    // With a subscription nothing but it can tell: asking would take an hour.
    let announced = RemoteLimits { poll_ms: AN_HOUR_MS, poll_idle_ms: AN_HOUR_MS, ..limits() };
    let rounds = [(vec![anvil.url.clone(), ws], announced), (vec![anvil.url.clone()], limits())];
    for (round, (urls, limits)) in rounds.iter().enumerate() {
        let node = open_within(CHAIN, urls, DeliverySettings::Auto, *limits).await;
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
    // The origin's node is asked, the destination's announces.
    for anvil in [&rig.origin, &rig.destination] {
        let chain = &anvil.chain;
        anvil.fund(&[key.address()]).await;
        // What was set by hand is sealed in a block, and that block is known by the next one.
        let before = chain.height().await;
        until("there are further blocks", async || (chain.height().await > before + 1).then_some(())).await;

        // The sequencer empties the node's pool before it makes a block: what lands was in a list. So it is sent right after
        // a block, and again after every one that it is not in.
        let tx = pay(chain.id, &key, 0);
        let mut sent_at = chain.height().await;
        let landed = until("what was sent to the node lands", async || {
            let height = chain.height().await;
            let receipt = chain.receipt(tx.hash()).await;
            if receipt.is_none() && height > sent_at {
                sent_at = height;
                // It may be in the pool, or in a block by now.
                let _ = chain.try_ask::<Value>("eth_sendRawTransaction", (tx.raw(),)).await;
            }
            receipt
        })
        .await;
        // A block that is not its list would have been taken back.
        until("the block is built on", async || (chain.height().await > landed.block()).then_some(())).await;
        assert!(chain.block(landed.block()).await.transactions.contains(&tx.hash()), "rollup {}", chain.id);
        assert!(landed.success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_is_recorded_by_its_nodes_tracer_and_gives_its_header() {
    let Some(binary) = binary("a_block_is_recorded_by_its_nodes_tracer_and_gives_its_header") else { return };
    let (anvil, contracts) = start_with_tokens(&binary).await;
    // Calls of one contract, one after the other, with another's payment in between.
    anvil.run(&[transfer(&contracts, 0), pay(CHAIN, &payer(1), 0), transfer(&contracts, 1)]).await;
    let number = anvil.chain.height().await;
    // It need not be the newest.
    mine(&anvil).await;
    let way = NodeProxy::start(&anvil.url, Duration::ZERO).await.expect("a proxy");
    let folder = tempfile::tempdir().expect("a folder");
    let options = RecordOptions {
        url: way.url(),
        block: BlockChoice::Number(number),
        out: folder.path().to_owned(),
        chain: None,
        rules: Some(RULES),
        force: false,
    };

    way.set(Fault::WebPage).await.expect("the way breaks");
    let error = record(&options).await.expect_err("a web page is no block");
    assert!(matches!(error, RecordError::NoAnswer { method: "eth_chainId", .. }), "{error}");
    assert_eq!(error.code(), "node_unreachable");
    way.set(Fault::None).await.expect("the way is well again");
    let far = RecordOptions { block: BlockChoice::Number(number + 1_000), ..options.clone() };
    let error = record(&far).await.expect_err("there is no such block");
    assert_eq!(error.code(), "unknown_block", "{error}");
    assert_eq!(fs::read_dir(folder.path()).expect("the folder is read").count(), 0, "nothing is left of what failed");

    let recorded = record(&options).await.expect("the block is recorded");
    assert_eq!(recorded.source, "from the node's prestate tracer");
    let replayed = recorded.replayed.expect("the recording is replayed");
    assert_eq!(replayed.differences, Vec::<String>::new());
    assert_eq!((replayed.block, replayed.chains, replayed.transactions), (number.to_string(), vec![CHAIN], 3));
    let answer: Value = anvil.chain.ask("eth_getBlockByNumber", (U64::from(number), false)).await;
    assert_eq!(json!(U64::from(replayed.gas)), answer["gasUsed"]);

    // By its files alone: its name says its rules, its transactions say their chain.
    drop(anvil);
    let again = replay(&recorded.folder, None, None).expect("the folder is replayed");
    assert_eq!((again.differences, again.gas), (Vec::<String>::new(), replayed.gas));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_that_is_there_is_replaced_only_when_that_is_wanted() {
    let Some(binary) = binary("a_recording_that_is_there_is_replaced_only_when_that_is_wanted") else { return };
    let anvil = start(&binary, CHAIN).await;
    anvil.run(&[pay(CHAIN, &payer(0), 0)]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let options = RecordOptions {
        url: anvil.url.clone(),
        block: BlockChoice::Latest,
        out: folder.path().to_owned(),
        chain: Some(CHAIN),
        rules: Some(RULES),
        force: false,
    };
    let file = record(&options).await.expect("the block is recorded").folder.join(BLOCK_FILE);
    let whole = fs::read(&file).expect("the block is read");
    fs::write(&file, "somebody's own").expect("the block is written");

    let error = record(&options).await.expect_err("it is there already");
    assert_eq!(error.code(), "folder_exists", "{error}");
    assert_eq!(fs::read(&file).expect("the block is read"), b"somebody's own", "it is left as it is");
    let replaced = record(&RecordOptions { force: true, ..options }).await.expect("it is recorded again");
    assert_eq!(replaced.replayed.expect("the recording is replayed").differences, Vec::<String>::new());
    assert_eq!(fs::read(&file).expect("the block is read"), whole);
}

/// Makes a block of what a seed says: up to four of payments to old and new accounts, and creations that write storage.
async fn varied_block(anvil: &Anvil, block: u64) {
    let chain = anvil.chain.id;
    let seed = keccak256([chain.to_be_bytes(), block.to_be_bytes()].concat());
    let mut nonces = [anvil.chain.nonce(payer(0).address()).await, anvil.chain.nonce(payer(1).address()).await];
    for (place, byte) in seed.iter().take(4).enumerate() {
        let (from, nonce) = (place % 2, nonces[place % 2]);
        let tx = match byte % 4 {
            0 => continue,
            1 => Tx::pay(chain, nonce, Address::from_word(keccak256([*byte, place as u8])), U256::from(*byte)),
            2 => Tx::pay(chain, nonce, payer(1 - from).address(), U256::from(*byte)),
            // Code that stores its number: PUSH1 byte, PUSH1 0, SSTORE, then returns nothing.
            _ => {
                let code = Bytes::from(vec![0x60, *byte, 0x60, 0x00, 0x55, 0x00]);
                Tx { chain, nonce, to: None, value: U256::ZERO, data: code, gas: 200_000, access_list: Default::default() }
            }
        };
        anvil.chain.send(&tx.sign(&payer(from))).await;
        nonces[from] += 1;
    }
    mine(anvil).await;
}

/// What is known of an account's balance at the head.
async fn balance(node: &RemoteNode, account: Address) -> U256 {
    let head = node.head().await.expect("the node answers");
    let state = node.state_at(head.hash).await.expect("the head's state is there");
    loop {
        match state.account(account) {
            Ok(account) => return account.unwrap_or_default().balance,
            Err(StateError::Missing(_)) => drop(node.fetch_missing(head.hash).await.expect("the node answers")),
            Err(error) => panic!("{error}"),
        }
    }
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
            varied_block(anvil, block).await;
        }
        for (node, anvil) in nodes.iter().zip(&anvils).take(2) {
            let head = node.head().await.expect("a node that is there answers");
            assert_eq!(head.number, anvil.chain.height().await);
            assert_eq!(node.health().degraded, None);
        }
        if (5..10).contains(&block) {
            let error = nodes[2].head().await.expect_err("nobody is there");
            assert_eq!(error.code(), "node_unreachable", "{error}");
            assert_eq!(nodes[2].health().degraded.map(|(code, _)| code), Some("node_unreachable"));
        }
    }
    let height = anvils[2].chain.height().await;
    until("the third is taken up again", async || nodes[2].head().await.is_ok_and(|head| head.number == height).then_some(()))
        .await;
    for (index, node) in nodes.iter().enumerate() {
        let stats = node.follow_stats();
        // The one that was away asks for states of blocks that lie behind. Where one does not fit, the block is followed all the
        // same and its state is fetched anew: that may happen to it once, and to no other.
        let most = u64::from(index == 2);
        assert!(stats.mismatches <= most && stats.fallbacks <= most, "node {index}: {stats:?}");
        assert_eq!((stats.resets, stats.reorgs), (0, 0), "node {index}: {stats:?}");
        assert!(stats.blocks + stats.fallbacks >= 20, "node {index}: {stats:?}");
        assert_eq!(node.health().degraded, None, "node {index}");
        let failures: u64 = node.endpoints().iter().map(|endpoint| endpoint.failures).sum();
        assert_eq!(failures > 0, index == 2, "node {index} failed {failures} times");
        for account in [payer(0).address(), payer(1).address()] {
            assert_eq!(balance(node, account).await, anvils[index].chain.balance(account).await, "node {index}");
        }
    }
}

/// A node with the contracts of the story, and tokens for the first payer.
async fn start_with_tokens(binary: &Path) -> (Anvil, Contracts) {
    let anvil = start(binary, CHAIN).await;
    let contracts = Contracts::new();
    deploy(&anvil, &contracts, DOMAIN_BASE, DOMAIN_BASE + 1).await;
    let nonce = anvil.chain.nonce(deployer().address()).await;
    let supply = input(&mintCall { to: payer(0).address(), amount: U256::from(1_000_000) });
    anvil.run(&[Tx::call(CHAIN, nonce, contracts.usdc, supply).sign(&deployer())]).await;
    (anvil, contracts)
}

/// A transfer of tokens from the first payer to the second.
fn transfer(contracts: &Contracts, nonce: u64) -> SignedTx {
    let data = input(&transferCall { to: payer(1).address(), amount: U256::from(nonce + 1) });
    Tx::call(CHAIN, nonce, contracts.usdc, data).sign(&payer(0))
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
    // What opening a block reads is fetched ahead for every new head, whatever is prefetched.
    let opened = || PendingBlock::open(context.clone(), Arc::clone(&state));
    let mut block = until("the next block can be opened", async || match opened() {
        Ok(block) => Some(block),
        Err(SimulationError::State(StateError::Missing(_))) => None,
        Err(error) => panic!("{error}"),
    })
    .await;
    // Of what was missed so far nothing is the transaction's.
    node.fetch_missing(head.hash).await.expect("the node answers");
    match block.execute(&BlockTx::Signed(Arc::new(tx.clone()))) {
        Ok(Ok(executed)) => assert!(executed.outcome.succeeded(), "{executed:?}"),
        Ok(Err(reason)) => panic!("{reason}"),
        Err(SimulationError::State(StateError::Missing(_))) => return false,
        Err(error) => panic!("{error}"),
    }
    assert_eq!(node.fetch_missing(head.hash).await, Ok(0), "nothing was missed");
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_fetched_ahead_is_there_now_and_after_further_blocks() {
    let Some(binary) = binary("what_was_fetched_ahead_is_there_now_and_after_further_blocks") else { return };
    let (anvil, contracts) = start_with_tokens(&binary).await;
    let node = open(CHAIN, std::slice::from_ref(&anvil.url), DeliverySettings::Auto).await;
    assert!(!runs_at_once(&node, &transfer(&contracts, 0)).await, "nothing of it is known yet");
    assert!(node.prefetch(&[Arc::new(transfer(&contracts, 0))]).await > 0);
    assert!(runs_at_once(&node, &transfer(&contracts, 0)).await, "all of it was fetched");
    for nonce in 0..5 {
        anvil.run(&[transfer(&contracts, nonce)]).await;
        assert!(runs_at_once(&node, &transfer(&contracts, nonce + 1)).await, "what block {nonce} changed is known");
    }
    let stats = node.follow_stats();
    assert_eq!((stats.mismatches, stats.fallbacks), (0, 0), "{stats:?}");
}

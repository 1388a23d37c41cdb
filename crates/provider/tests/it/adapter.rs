//! A sequencer's node that delivers through the engine proxy: what it plans is what the driver asks for, what it publishes is
//! the block, and when it is not the reason is named and the chain goes on.

use std::sync::Arc;

use alloy_primitives::{Address, B64, B256, Bytes, keccak256};
use lockstep_primitives::{BlockList, Guarantee, ListBlock};
use lockstep_provider::{
    ControlError, DeliverySettings, EmbeddedRollup, EngineControl, EngineProxy, NodeError, OutcomeState, PublishedBlock,
    RemoteLimits, RemoteNode, RemoteSettings, RollupNode,
};
use lockstep_simulation::SlotRollup;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::{
    driver::{BLOCK_TIME, Driver},
    engine::{CHAIN, CLIENT, PATIENT, SOMEBODY, Stand, driver_secret, transfer},
    engine_server::{EngineServer, Fault, Step},
    execution::{Built, execute},
    op_node::{OpNode, Origin},
    public_rpc::PublicRpc,
};

type Publishing = JoinHandle<Result<PublishedBlock, NodeError>>;

/// A rollup with a driver, a client, the proxy between them, and the sequencer's node.
struct Sequencing {
    server: EngineServer,
    proxy: EngineProxy,
    control: EngineControl,
    rollup: Arc<EmbeddedRollup>,
    op_node: OpNode,
    public: PublicRpc,
    node: Arc<RemoteNode>,
}

impl Sequencing {
    /// Nothing but the genesis is there.
    async fn at_genesis() -> Self {
        let Stand { server, proxy, driver, control, rollup } = Stand::new(PATIENT).await;
        let public = PublicRpc::start(Arc::clone(&rollup), CLIENT).await;
        let node = open(&rollup, &public, control.clone()).await;
        Self { server, proxy, control, rollup, op_node: OpNode::new(driver, Origin::new(1)), public, node }
    }

    /// One block was made. The transfer that the client's pool began with is in it.
    async fn new() -> Self {
        let mut sequencing = Self::at_genesis().await;
        let (_, transactions) = sequencing.op_node.block().await;
        assert_eq!(transactions.last(), Some(&transfer(0, 0)));
        sequencing
    }

    /// What the node plans for as many blocks as there are lists, and those lists.
    async fn slot(&self, lists: Vec<Vec<Bytes>>) -> (Arc<SlotRollup>, BlockList) {
        let parent = self.node.head().await.unwrap();
        let timestamps: Vec<u64> = (1..=lists.len() as u64).map(|ahead| parent.timestamp + ahead * BLOCK_TIME).collect();
        let blocks = self.node.plan(&parent, &timestamps, Address::ZERO).await.unwrap();
        let listed = (parent.number + 1..).zip(timestamps).zip(lists);
        let listed = listed.map(|((number, timestamp), transactions)| ListBlock { number, timestamp, transactions });
        let list = BlockList { chain: CHAIN, blocks: listed.collect() };
        let state = self.node.state_at(parent.hash).await.unwrap();
        (Arc::new(SlotRollup { chain: CHAIN, forks: self.rollup.forks().clone(), parent, state, blocks }), list)
    }

    /// The block that comes of a list on top of the head, if the plan holds.
    fn foreseen(&self, slot: &SlotRollup, list: &BlockList, index: usize) -> Built {
        let plan = &slot.blocks[index];
        let forced = plan.forced.iter().map(|tx| tx.raw());
        let transactions: Vec<Bytes> = forced.chain(&list.blocks[index].transactions).cloned().collect();
        execute(&self.rollup, plan.next.clone(), &transactions).unwrap()
    }

    /// Publishes one block, which is on its way until the driver has made it.
    fn publish(&self, slot: &Arc<SlotRollup>, list: &BlockList, index: usize) -> Publishing {
        let (node, slot, list) = (Arc::clone(&self.node), Arc::clone(slot), list.clone());
        tokio::spawn(async move { node.publish(&slot, &list, index).await })
    }

    /// Returns when the list for the next block is there, or its payload begun.
    async fn reaches(&self, state: OutcomeState, publishing: &mut Publishing) {
        let head = self.rollup.head().await.unwrap();
        loop {
            match self.control.outcome(head.hash, head.timestamp + BLOCK_TIME).await {
                Ok(outcome) if outcome.state == state => return,
                Ok(outcome) => assert_eq!(outcome.state, OutcomeState::Waiting, "{outcome:?}"),
                Err(ControlError::Refused { reason, .. }) if reason == "unknown_list" => {}
                Err(error) => panic!("{error}"),
            }
            if publishing.is_finished() {
                let published = publishing.await;
                panic!("the list is never {state:?}: {published:?}");
            }
        }
    }

    /// A block of a slot is published before the driver asks for it, and is what the driver makes.
    async fn is_the_block(&mut self, slot: &Arc<SlotRollup>, list: &BlockList, index: usize) {
        let foreseen = self.foreseen(slot, list, index);
        let mut publishing = self.publish(slot, list, index);
        self.reaches(OutcomeState::Waiting, &mut publishing).await;
        assert_eq!(self.op_node.block().await, (foreseen.hash, foreseen.transactions.clone()));
        assert_eq!(publishing.await.unwrap(), Ok(published(&foreseen)));
    }

    /// The same after the driver has asked for it, and was told this id.
    async fn is_the_block_late(&mut self, slot: &Arc<SlotRollup>, list: &BlockList, index: usize, id: B64) {
        let foreseen = self.foreseen(slot, list, index);
        let mut publishing = self.publish(slot, list, index);
        self.reaches(OutcomeState::Building, &mut publishing).await;
        assert_eq!(self.op_node.seal(id).await, (foreseen.hash, foreseen.transactions.clone()));
        assert_eq!(publishing.await.unwrap(), Ok(published(&foreseen)));
    }

    /// The next block is planned, published and made.
    async fn list_goes_through(&mut self, transactions: Vec<Bytes>) {
        let (slot, list) = self.slot(vec![transactions]).await;
        assert_eq!(slot.blocks, [self.op_node.derive().await], "what is planned is what the driver derives");
        self.is_the_block(&slot, &list, 0).await;
    }

    /// The next block is the operator's own: it ends with what is in the client's pool. Returns its hash.
    async fn own_block(&mut self, pooled: Bytes) -> B256 {
        self.server.add(&pooled);
        let forced = self.op_node.derive().await.forced;
        let expected: Vec<Bytes> = forced.iter().map(|tx| tx.raw().clone()).chain([pooled]).collect();
        let (hash, transactions) = self.op_node.block().await;
        assert_eq!(transactions, expected);
        hash
    }

    /// The driver asks for a block of nothing but what is forced. Returns the id of its payload.
    async fn begins_deposits_only(&self) -> B64 {
        let (proxy, rollup) = (self.proxy.address(), Arc::clone(&self.rollup));
        let mut driver = Driver { proxy, secret: driver_secret(), rollup, sent: Vec::new() };
        let mut attributes = Driver::attributes(&self.op_node.derive().await);
        attributes["noTxPool"] = json!(true);
        driver.begin(attributes).await
    }

    /// Every block came out at the node as its header says; it executes them by what the public port tells.
    async fn assert_followed(&self) {
        assert_eq!(self.node.head().await.unwrap(), self.rollup.head().await.unwrap());
        let stats = self.node.follow_stats();
        assert_eq!((stats.mismatches, stats.fallbacks, stats.resets, stats.reorgs), (0, 0, 0, 0), "{stats:?}");
        assert_eq!(stats.blocks, self.rollup.newest().unwrap().header.number);
    }
}

async fn open(rollup: &EmbeddedRollup, public: &PublicRpc, control: EngineControl) -> Arc<RemoteNode> {
    let limits = RemoteLimits {
        poll_ms: 5,
        // Long enough for a machine that is busy with other tests.
        timeout_ms: 30_000,
        publish_timeout_ms: 60_000,
        // The rollup's clock is not the wall's.
        max_lag_s: u64::MAX,
        ..RemoteLimits::default()
    };
    let (forks, urls, delivery) = (rollup.forks().clone(), vec![public.url()], DeliverySettings::Engine(control));
    Arc::new(RemoteNode::open(RemoteSettings { chain: CHAIN, forks, urls, limits, delivery }).await.unwrap())
}

fn published(built: &Built) -> PublishedBlock {
    PublishedBlock {
        number: built.header.number,
        hash: built.hash,
        timestamp: built.header.timestamp,
        transactions: built.transactions.iter().map(keccak256).collect(),
        gas_used: built.header.gas_used,
        receipts_root: built.header.receipts_root,
    }
}

/// Why the block is not the list's.
fn other_block(published: Result<PublishedBlock, NodeError>) -> String {
    match published {
        Err(NodeError::OtherBlock { chain: CHAIN, cause }) => cause,
        other => panic!("not another block: {other:?}"),
    }
}

/// Why the node cannot be used.
fn unusable<T: std::fmt::Debug>(answer: Result<T, NodeError>) -> String {
    match answer {
        Err(NodeError::Unreachable { chain: CHAIN, cause }) => cause,
        other => panic!("it can be used: {other:?}"),
    }
}

#[tokio::test]
async fn a_list_that_is_published_before_the_driver_asks_is_the_block() {
    let mut sequencing = Sequencing::new().await;
    assert_eq!(sequencing.node.carries(), Guarantee::G3);
    assert!(sequencing.node.hands_in_early(), "the driver asks for a block long before its timestamp");
    // It would be in every block that is not a list's.
    sequencing.server.add(&transfer(0, 1));
    sequencing.list_goes_through(vec![transfer(2, 0)]).await;
    sequencing.list_goes_through(vec![]).await;
    sequencing.list_goes_through(vec![transfer(2, 1), transfer(1, 0)]).await;
    sequencing.own_block(transfer(0, 1)).await;
    sequencing.assert_followed().await;
}

#[tokio::test]
async fn a_list_that_is_published_after_the_driver_asked_is_the_block_too() {
    let mut sequencing = Sequencing::new().await;
    let (slot, list) = sequencing.slot(vec![vec![transfer(2, 0)]]).await;
    let id = sequencing.op_node.begin().await;
    sequencing.is_the_block_late(&slot, &list, 0, id).await;
    sequencing.assert_followed().await;
}

#[tokio::test]
async fn what_the_driver_has_asked_for_is_planned_though_nobody_could_foresee_it() {
    let mut sequencing = Sequencing::new().await;
    let mut origin = Origin::new(2).with_deposit(SOMEBODY, 5).with_deposit(SOMEBODY, 7);
    (origin.gas_limit, origin.min_base_fee) = (40_000_000, 2_000);
    sequencing.op_node.turn_to(origin);
    let id = sequencing.op_node.begin().await;
    let (slot, list) = sequencing.slot(vec![vec![transfer(2, 0)], vec![transfer(2, 1)]]).await;
    assert_eq!(slot.blocks[0], sequencing.op_node.derive().await);
    assert_eq!(slot.blocks[0].forced.len(), 3, "with the deposits of users");
    sequencing.is_the_block_late(&slot, &list, 0, id).await;
    assert_eq!(slot.blocks[1], sequencing.op_node.derive().await, "from there on the origin stays the same");
    sequencing.is_the_block(&slot, &list, 1).await;
    sequencing.list_goes_through(vec![transfer(2, 2)]).await;
    sequencing.assert_followed().await;
}

#[tokio::test]
async fn when_the_l1_origin_moves_the_block_is_the_operators_own_and_the_reason_is_named() {
    let mut sequencing = Sequencing::new().await;
    // L1 draws new lots with every block. Where it does not, other differences show.
    let as_before = |mut origin: Origin| {
        let before = Origin::new(2);
        (origin.prev_randao, origin.beacon_root) = (before.prev_randao, before.beacon_root);
        origin
    };
    let mut roomier = as_before(Origin::new(5));
    roomier.gas_limit += 1;
    let origins = [
        (Origin::new(2), "attributes_differ: the driver's prevRandao"),
        (as_before(Origin::new(3)), "forced_prefix_differs: the driver forces 1 transactions, the list was built on 1"),
        (as_before(Origin::new(4).with_deposit(SOMEBODY, 5)), "forced_prefix_differs: the driver forces 2 transactions"),
        (roomier, "attributes_differ: the driver's gasLimit"),
    ];
    for (nonce, (origin, reason)) in (1..).zip(origins) {
        let (slot, list) = sequencing.slot(vec![vec![transfer(2, 0)]]).await;
        let mut publishing = sequencing.publish(&slot, &list, 0);
        sequencing.reaches(OutcomeState::Waiting, &mut publishing).await;
        sequencing.op_node.turn_to(origin);
        let hash = sequencing.own_block(transfer(0, nonce)).await;
        let cause = other_block(publishing.await.unwrap());
        assert!(cause.contains(reason) && cause.contains(&hash.to_string()), "{cause}");
    }
    sequencing.list_goes_through(vec![transfer(2, 0)]).await;
    sequencing.assert_followed().await;
}

#[tokio::test]
async fn a_block_for_deposits_only_is_not_planned_and_takes_no_list() {
    for late in [false, true] {
        let mut sequencing = Sequencing::new().await;
        let (slot, list) = sequencing.slot(vec![vec![transfer(2, 0)]]).await;
        let forced: Vec<Bytes> = slot.blocks[0].forced.iter().map(|tx| tx.raw().clone()).collect();
        let parent = sequencing.node.head().await.unwrap();
        let cause = if late {
            let id = sequencing.begins_deposits_only().await;
            let cause = unusable(sequencing.node.plan(&parent, &[parent.timestamp + BLOCK_TIME], Address::ZERO).await);
            assert!(cause.starts_with("only_deposits: "), "{cause}");
            let cause = other_block(sequencing.node.publish(&slot, &list, 0).await);
            assert_eq!(sequencing.op_node.seal(id).await.1, forced);
            cause
        } else {
            let mut publishing = sequencing.publish(&slot, &list, 0);
            sequencing.reaches(OutcomeState::Waiting, &mut publishing).await;
            let id = sequencing.begins_deposits_only().await;
            assert_eq!(sequencing.op_node.seal(id).await.1, forced);
            other_block(publishing.await.unwrap())
        };
        assert!(cause.contains(": only_deposits: "), "{cause}");
        sequencing.list_goes_through(vec![transfer(2, 0)]).await;
        sequencing.assert_followed().await;
    }
}

#[tokio::test]
async fn when_the_client_fails_a_list_the_reason_is_named_and_the_chain_goes_on() {
    let mut sequencing = Sequencing::new().await;
    let without_last = Fault::Changed(|envelope| {
        envelope["executionPayload"]["transactions"].as_array_mut().unwrap().pop();
    });
    let faults = [
        (Step::BeginList, Fault::Error(-38003), ": engine_error: "),
        (Step::FetchList, Fault::Error(-38001), ": engine_error: "),
        (Step::FetchList, without_last, ": other_payload: "),
    ];
    for (nonce, (step, fault, reason)) in (1..).zip(faults) {
        let (slot, list) = sequencing.slot(vec![vec![transfer(2, 0)]]).await;
        let mut publishing = sequencing.publish(&slot, &list, 0);
        sequencing.reaches(OutcomeState::Waiting, &mut publishing).await;
        sequencing.server.misbehave(Some((step, fault)));
        let hash = sequencing.own_block(transfer(0, nonce)).await;
        sequencing.server.misbehave(None);
        let cause = other_block(publishing.await.unwrap());
        assert!(cause.contains(reason) && cause.contains(&hash.to_string()), "{cause}");
    }
    sequencing.list_goes_through(vec![transfer(2, 0)]).await;
    sequencing.assert_followed().await;
}

#[tokio::test]
async fn a_list_that_does_not_fit_its_slot_never_reaches_the_proxy() {
    let mut sequencing = Sequencing::new().await;
    let (slot, list) = sequencing.slot(vec![vec![transfer(2, 0)]]).await;
    let (mut later, mut higher, mut elsewhere) = (list.clone(), list.clone(), list.clone());
    later.blocks[0].timestamp += 1;
    higher.blocks[0].number += 1;
    elsewhere.chain += 1;
    for (list, index) in [(&later, 0), (&higher, 0), (&elsewhere, 0), (&list, 1)] {
        let refused = sequencing.node.publish(&slot, list, index).await;
        assert!(matches!(refused, Err(NodeError::List { chain: CHAIN, .. })), "{refused:?}");
    }
    let outcome = sequencing.control.outcome(slot.parent.hash, slot.blocks[0].next.timestamp).await;
    assert!(matches!(&outcome, Err(ControlError::Refused { reason, .. }) if reason == "unknown_list"), "{outcome:?}");
    sequencing.is_the_block(&slot, &list, 0).await;
    sequencing.assert_followed().await;
}

#[tokio::test]
async fn a_late_list_for_what_the_driver_did_not_ask_for_is_refused_by_name() {
    let mut sequencing = Sequencing::new().await;
    let (slot, list) = sequencing.slot(vec![vec![transfer(2, 0)]]).await;
    sequencing.op_node.turn_to(Origin::new(2));
    sequencing.server.add(&transfer(0, 1));
    let id = sequencing.op_node.begin().await;
    let cause = other_block(sequencing.node.publish(&slot, &list, 0).await);
    assert!(cause.starts_with("the list is refused: attributes_differ: "), "{cause}");
    assert_eq!(sequencing.op_node.seal(id).await.1.last(), Some(&transfer(0, 1)));

    let gone = sequencing.node.publish(&slot, &list, 0).await;
    assert!(matches!(gone, Err(NodeError::OtherParent { .. })), "{gone:?}");
    sequencing.list_goes_through(vec![transfer(2, 0)]).await;
    sequencing.assert_followed().await;
}

#[tokio::test]
async fn two_blocks_of_a_slot_are_both_their_lists() {
    for late in [false, true] {
        let mut sequencing = Sequencing::new().await;
        sequencing.server.add(&transfer(0, 1));
        let lists = vec![vec![transfer(2, 0)], vec![transfer(2, 1), transfer(1, 0)]];
        let (slot, list) = sequencing.slot(lists).await;
        let early = sequencing.node.publish(&slot, &list, 1).await;
        assert!(matches!(early, Err(NodeError::OtherParent { .. })), "the block before it is not made yet: {early:?}");
        for (index, plan) in slot.blocks.iter().enumerate() {
            assert_eq!(*plan, sequencing.op_node.derive().await, "block {index}");
            if late {
                let id = sequencing.op_node.begin().await;
                sequencing.is_the_block_late(&slot, &list, index, id).await;
            } else {
                sequencing.is_the_block(&slot, &list, index).await;
            }
        }
        sequencing.own_block(transfer(0, 1)).await;
        sequencing.assert_followed().await;
    }
}

#[tokio::test]
async fn when_the_origin_moves_within_a_slot_the_blocks_before_stay() {
    let mut sequencing = Sequencing::new().await;
    let (slot, list) = sequencing.slot(vec![vec![transfer(2, 0)], vec![transfer(2, 1)]]).await;
    sequencing.is_the_block(&slot, &list, 0).await;
    let mut publishing = sequencing.publish(&slot, &list, 1);
    sequencing.reaches(OutcomeState::Waiting, &mut publishing).await;
    sequencing.op_node.turn_to(Origin::new(2));
    sequencing.own_block(transfer(0, 1)).await;
    let cause = other_block(publishing.await.unwrap());
    assert!(cause.contains("attributes_differ"), "{cause}");
    sequencing.list_goes_through(vec![transfer(2, 1)]).await;
    sequencing.assert_followed().await;
}

#[tokio::test]
async fn with_the_control_port_gone_nothing_is_published_and_the_chain_goes_on() {
    let mut sequencing = Sequencing::new().await;
    let (slot, list) = sequencing.slot(vec![vec![transfer(2, 0)]]).await;
    sequencing.proxy.close_control();
    let parent = sequencing.node.head().await.unwrap();
    let not_published = unusable(sequencing.node.publish(&slot, &list, 0).await);
    let not_planned = unusable(sequencing.node.plan(&parent, &[parent.timestamp + BLOCK_TIME], Address::ZERO).await);
    for cause in [not_published, not_planned] {
        assert!(cause.starts_with("the engine proxy cannot be used: "), "{cause}");
    }
    for nonce in 1..4 {
        sequencing.own_block(transfer(0, nonce)).await;
    }
    sequencing.assert_followed().await;
}

#[tokio::test]
async fn what_was_handed_over_outlives_the_control_port() {
    for moves in [false, true] {
        let mut sequencing = Sequencing::new().await;
        let (slot, list) = sequencing.slot(vec![vec![transfer(2, 0)]]).await;
        let foreseen = sequencing.foreseen(&slot, &list, 0);
        let mut publishing = sequencing.publish(&slot, &list, 0);
        sequencing.reaches(OutcomeState::Waiting, &mut publishing).await;
        sequencing.proxy.close_control();
        if moves {
            sequencing.op_node.turn_to(Origin::new(2));
            let hash = sequencing.own_block(transfer(0, 1)).await;
            let cause = other_block(publishing.await.unwrap());
            // Why it is another cannot be asked any more.
            assert!(cause.contains("the engine proxy cannot be used") && cause.contains(&hash.to_string()), "{cause}");
        } else {
            assert_eq!(sequencing.op_node.block().await.0, foreseen.hash);
            assert_eq!(publishing.await.unwrap(), Ok(published(&foreseen)));
        }
        sequencing.own_block(transfer(0, if moves { 2 } else { 1 })).await;
        sequencing.assert_followed().await;
    }
}

#[tokio::test]
async fn a_wrong_secret_is_said_instead_of_planning() {
    let sequencing = Sequencing::new().await;
    let url = format!("http://{}", sequencing.proxy.control_address());
    let control = EngineControl::new(&url, driver_secret()).unwrap();
    let node = open(&sequencing.rollup, &sequencing.public, control).await;
    let parent = node.head().await.unwrap();
    let cause = unusable(node.plan(&parent, &[parent.timestamp + BLOCK_TIME], Address::ZERO).await);
    assert!(cause.starts_with("the engine proxy cannot be used: the token is refused"), "{cause}");
}

#[tokio::test]
async fn nothing_is_foretold_from_the_genesis_which_tells_nothing_of_l1() {
    let mut sequencing = Sequencing::at_genesis().await;
    let genesis = sequencing.node.head().await.unwrap();
    let cause = unusable(sequencing.node.plan(&genesis, &[genesis.timestamp + BLOCK_TIME], Address::ZERO).await);
    assert_eq!(cause, "l1_attributes: block 0 holds no transaction");

    // What the driver asks for needs no foretelling.
    let id = sequencing.op_node.begin().await;
    let (slot, list) = sequencing.slot(vec![vec![transfer(2, 0)]]).await;
    assert_eq!(slot.blocks, [sequencing.op_node.derive().await]);
    sequencing.is_the_block_late(&slot, &list, 0, id).await;
    sequencing.list_goes_through(vec![transfer(2, 1)]).await;
    sequencing.assert_followed().await;
}

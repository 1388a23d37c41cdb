//! What a sequencer demands of lists: the order that it sells, and transactions that nobody may leave out.

use alloy_primitives::{Address, B256, Bytes, U64, U256, keccak256};
use lockstep_delivery::{ExpectedBlock, Prepare, PreparedList, attempt_number};
use lockstep_node::{
    dev::{DevOptions, builder, user},
    keys::Key,
};
use lockstep_primitives::{Allocation, Bid, BlockList, ListBlock, OrderingPolicy, SignedTx, recover};
use lockstep_rpc::{
    api::{MarketApiClient, SequencerApiClient},
    codes,
    wire::{BidWire, PrepareWire, SignedPrepare, SlotOffer, VoteRefusalWire},
};
use serde_json::{Value, json};

use crate::{
    lockstep::places,
    signed::post,
    transactions::Tx,
    wait::until,
    world::{World, options},
};

/// First come, first served, four transactions of which none may be left out, and time to prepare more than once.
fn by_arrival() -> DevOptions {
    let ordering = OrderingPolicy::FirstComeFirstServed;
    DevOptions { slot_ms: 4_000, block_times: vec![4], ordering, inclusion: 4, ..options() }
}

/// Somebody whom no configuration names.
fn stranger() -> Key {
    Key::of_name("a stranger")
}

fn sequencer() -> Key {
    Key::of_name("sequencer 0")
}

/// A payment on the first rollup that nobody has seen yet.
async fn payment(world: &World, number: usize) -> SignedTx {
    let (chain, key) = (world.chain(0), user(number));
    Tx::pay(chain.id, chain.nonce(key.address()).await, Address::repeat_byte(0x77), U256::from(1)).sign(&key)
}

/// The digest of the forced transactions of an offer, as its documentation says.
fn forced_prefix(offer: &SlotOffer) -> B256 {
    let mut bytes = Vec::new();
    for block in &offer.blocks {
        bytes.extend_from_slice(&(block.forced.len() as u64).to_be_bytes());
        for raw in &block.forced {
            bytes.extend_from_slice(keccak256(raw).as_slice());
        }
    }
    keccak256(bytes)
}

/// A slot of the first rollup that the stranger has bought.
struct Bought {
    slot: u64,
    offer: SlotOffer,
    /// Of the slot's block.
    number: u64,
    decide_ms: u64,
    allocation: Allocation,
}

/// Asks for a vote on lists of these transactions, whose promises are wrong. `None` when it came too late.
async fn judged(world: &World, bought: &Bought, retry: u32, txs: &[&SignedTx]) -> Option<VoteRefusalWire> {
    let (chain, key) = (world.chain(0).id, stranger());
    let block = ListBlock {
        number: bought.number,
        timestamp: bought.offer.blocks.first()?.timestamp,
        transactions: txs.iter().map(|tx| tx.raw().clone()).collect(),
    };
    let expected = vec![ExpectedBlock { number: bought.number, ..ExpectedBlock::default() }];
    let list = PreparedList { list: BlockList { chain, blocks: vec![block] }, expected, requirements: Vec::new() };
    let prepare = Prepare {
        chain,
        slot: bought.slot,
        attempt: attempt_number(&bought.allocation, key.address(), retry)?,
        parent_hash: bought.offer.parent_hash,
        forced_prefix: forced_prefix(&bought.offer),
        with_cross: list.clone(),
        without_cross: list,
        participants: [chain].into(),
        holds: true,
        beneficiary: Some(key.address()),
        t_decide_ms: bought.decide_ms,
        t_publish_ms: bought.offer.publish_ms,
    };
    let signature = key.sign_bytes(prepare.digest());
    let vote = world.lockstep.client.prepare(SignedPrepare { prepare: PrepareWire::from(&prepare), signature }).await.ok()?;
    assert_eq!(recover(vote.vote().digest(), &vote.signature), Ok(sequencer().address()), "a no is signed");
    assert!(!vote.yes, "its promises are wrong");
    vote.refusal.filter(|refusal| refusal.code != "after-decide")
}

/// Buys the slot that follows the next block. `None` when that comes too late.
async fn buy(world: &World, early: &SignedTx, late: &SignedTx) -> Option<Bought> {
    let (chain, client, key) = (world.chain(0), &world.lockstep.client, stranger());
    let head = chain.height().await;
    let slot = world.slot_of(chain.id, head).await + 1;
    let bid = Bid { slot, rollups: [chain.id].into(), amount: U256::from(10_u64.pow(18)), exclusive: None, nonce: 1 };
    client.submit_bid(BidWire::new(&bid, key.sign_bytes(bid.digest()))).await.ok()?;
    chain.send(early).await;
    chain.send(late).await;
    let offer = until("the sequencer offers the slot", async || {
        client.get_slot_offer(U64::from(chain.id), slot, key.address()).await.ok()
    })
    .await;
    let allocation = world.lockstep.allocation(slot).await.allocation();
    let decide_ms = client.get_market_slot(Some(slot)).await.ok()?.decide_ms;
    if allocation.proposer_of(chain.id) != Some(key.address()) || chain.block(head).await.hash != offer.parent_hash {
        return None;
    }
    Some(Bought { slot, offer, number: head + 1, decide_ms, allocation })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_out_of_order_or_with_something_left_out_gets_a_signed_no_that_names_it() {
    let world = World::start(by_arrival()).await;
    world.credit(stranger().address(), U256::from(10_u64.pow(19))).await;
    let chain = world.chain(0);
    // Whether two transactions come in at different times, and early enough for their slot, is up to the machine: the next
    // slot is as good.
    let refusals = until("a slot is judged in time", async || {
        let head = chain.height().await;
        until("a block is made", async || (chain.height().await > head).then_some(())).await;
        let (early, late) = (payment(&world, 3).await, payment(&world, 4).await);
        let bought = buy(&world, &early, &late).await?;
        let stamp = |tx: &SignedTx| bought.offer.arrivals.iter().find(|seen| seen.hash == tx.hash()).map(|seen| seen.at_ms);
        if stamp(&early)? >= stamp(&late)? {
            return None;
        }
        assert_eq!((bought.offer.ordering.as_str(), bought.offer.lane_gas), ("fcfs", 0));
        assert_eq!(bought.offer.inclusion, [early.raw().clone(), late.raw().clone()], "oldest first");
        let backwards = judged(&world, &bought, 0, &[&late, &early]).await?;
        let short = judged(&world, &bought, 1, &[&early]).await?;
        let in_order = judged(&world, &bought, 2, &[&early, &late]).await?;
        Some((early, late, backwards, short, in_order))
    })
    .await;
    let (early, late, backwards, short, in_order) = refusals;
    assert_eq!((backwards.code.as_str(), backwards.block, backwards.position), ("out_of_order", Some(0), Some(1)));
    assert!(backwards.text.contains(&early.hash().to_string()), "{}", backwards.text);
    assert_eq!(short.code, "inclusion_missing");
    assert!(short.text.contains(&late.hash().to_string()), "{}", short.text);
    // Order and inclusion are as they should be: what is left are the promises.
    assert_eq!(in_order.code, "gas_used_differs", "{}", in_order.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_builders_own_lists_keep_the_order_and_leave_nothing_out() {
    let world = World::start(by_arrival()).await;
    let chain = world.chain(0);
    let txs = [payment(&world, 3).await, payment(&world, 4).await, payment(&world, 5).await];
    for tx in &txs {
        chain.send(tx).await;
    }
    let bundle = world.lockstep.send(&world.story(&user(0), 1).await).await;
    // It lands only where both sequencers voted yes.
    let burn = places(&world.lockstep.landed(bundle).await)[0];
    assert_eq!(chain.block(burn.block).await.miner, builder().address());
    let mut last = (0, 0);
    for tx in &txs {
        let number = chain.mined(tx.hash()).await.block();
        let block = chain.block(number).await;
        let index = block.transactions.iter().position(|hash| *hash == tx.hash()).expect("it is in its block");
        assert!((number, index) > last, "they came in one after the other");
        last = (number, index);
    }
}

/// Asks a sequencer to set the inclusion list of a slot.
async fn set(world: &World, slot: u64, txs: &[Bytes], key: Option<&Key>) -> Value {
    let params = json!([U64::from(world.chain(0).id), slot, txs]);
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "sequencer_setInclusionList", "params": params });
    post(&world.url(), &body.to_string(), key).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inclusion_list_is_set_by_the_sequencers_key_alone_and_lands() {
    let world = World::start(options()).await;
    let (chain, key) = (world.chain(0), sequencer());
    // In nobody's pool: the list is the only way that it has.
    let tx = payment(&world, 6).await;
    let raw = [tx.raw().clone()];
    let slot = world.lockstep.open_slot().await.slot + 3;

    for signer in [None, Some(&stranger())] {
        let error = set(&world, slot, &raw, signer).await["error"].clone();
        assert_eq!(error["code"].as_i64(), Some(i64::from(codes::UNAUTHORIZED)));
        assert_eq!(error["data"]["reason"].as_str(), Some("wrong_sequencer"));
    }
    let reason = |answer: Value| answer["error"]["data"]["reason"].as_str().map(str::to_owned);
    assert_eq!(reason(set(&world, 0, &raw, Some(&key)).await).as_deref(), Some("inclusion_fixed"));
    assert_eq!(reason(set(&world, slot + 1_000, &raw, Some(&key)).await).as_deref(), Some("too_far_ahead"));
    let twice = [raw[0].clone(), raw[0].clone()];
    assert_eq!(reason(set(&world, slot, &twice, Some(&key)).await).as_deref(), Some("duplicate_transaction"));
    assert_eq!(reason(set(&world, slot, &vec![raw[0].clone(); 65], Some(&key)).await).as_deref(), Some("too_many_transactions"));

    assert_eq!(set(&world, slot, &raw, Some(&key)).await["result"], json!(1));
    let landed = chain.mined(tx.hash()).await;
    assert_eq!(world.slot_of(chain.id, landed.block()).await, slot);
}

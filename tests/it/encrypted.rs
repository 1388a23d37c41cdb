//! Transactions that nobody can read before their order is fixed: a committee opens them behind the decided lists.

use std::collections::BTreeSet;

use alloy_primitives::{Address, B256, Bytes, U64, U256, keccak256};
use lockstep_delivery::encrypt;
use lockstep_node::{
    dev::{DevOptions, committee, sequencer, user},
    keys::Key,
    process::MemberAt,
};
use lockstep_primitives::{BlockList, EncryptedOrder, ListBlock, SignedTx, recover};
use lockstep_rpc::{
    api::{CommitteeApiClient, EncryptedApiClient},
    wire::{BundleParams, EncryptedReceiptWire, EncryptedState, EncryptedTailView, EncryptedTxStatus, OpenParams},
};
use serde_json::{Value, json};

use crate::{
    lockstep::refused,
    signed::post,
    transactions::{Tx, txs_leg},
    wait::until,
    world::{LOCAL, World, options},
};

/// What `dev` keeps of a slot.
const KEPT: u64 = 3_000_000;
const PAYMENT: u64 = 21_000;

async fn world() -> World {
    World::start(DevOptions { encrypted: true, ..options() }).await
}

/// Encrypts for the committee of `dev`; who encrypts the same twice gets the same.
fn encrypted(transaction: &[u8]) -> Bytes {
    encrypt(&committee().0.public_key(), transaction, keccak256(transaction)).expect("it is short enough")
}

/// So many payments of one sender, one after another.
async fn payments(world: &World, rollup: usize, count: u64) -> Vec<SignedTx> {
    let mut payments = Vec::new();
    for ahead in 0..count {
        payments.push(payment(world, rollup, 3, ahead).await);
    }
    payments
}

/// A payment, so many after the next one of its sender.
async fn payment(world: &World, rollup: usize, from: usize, ahead: u64) -> SignedTx {
    let (chain, key) = (world.chain(rollup), user(from));
    let nonce = chain.nonce(key.address()).await + ahead;
    Tx::pay(chain.id, nonce, Address::repeat_byte(0x77), U256::ONE).sign(&key)
}

fn params(world: &World, rollup: usize, ciphertext: &Bytes, gas: u64) -> Value {
    json!({ "chainId": U64::from(world.chain(rollup).id), "ciphertext": ciphertext, "gas": U64::from(gas) })
}

async fn ask(world: &World, params: &Value, key: Option<&Key>) -> Value {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "sequencer_sendEncryptedTransaction", "params": [params] });
    post(&world.url(), &body.to_string(), key).await
}

async fn send(world: &World, rollup: usize, ciphertext: &Bytes, gas: u64) -> EncryptedReceiptWire {
    let answer = ask(world, &params(world, rollup, ciphertext, gas), Some(&user(0))).await;
    serde_json::from_value(answer["result"].clone()).unwrap_or_else(|_| panic!("it is taken: {answer}"))
}

async fn refusal(world: &World, params: &Value, key: Option<&Key>) -> String {
    let answer = ask(world, params, key).await;
    assert!(answer["error"]["data"]["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{answer}");
    answer["error"]["data"]["reason"].as_str().expect("a refusal has a reason").to_owned()
}

async fn status(world: &World, rollup: usize, ciphertext: &Bytes) -> EncryptedTxStatus {
    let (chain, hash) = (U64::from(world.chain(rollup).id), keccak256(ciphertext));
    let known = world.lockstep.client.get_encrypted_transaction(chain, hash).await.expect("the sequencer answers");
    known.expect("it was taken")
}

/// Waits until what became of a ciphertext is known.
async fn settled(world: &World, rollup: usize, ciphertext: &Bytes) -> EncryptedTxStatus {
    until("the ciphertext has had its slot", async || {
        let status = status(world, rollup, ciphertext).await;
        (!matches!(status.status, EncryptedState::Pending | EncryptedState::Ordered)).then_some(status)
    })
    .await
}

async fn tail(world: &World, rollup: usize, slot: u64) -> EncryptedTailView {
    let chain = U64::from(world.chain(rollup).id);
    world.lockstep.client.get_encrypted_tail(chain, slot).await.expect("the sequencer answers").expect("the slot has a tail")
}

/// Why a ciphertext's transaction is not in the block.
async fn left_out(world: &World, rollup: usize, ciphertext: &Bytes) -> Option<String> {
    let status = settled(world, rollup, ciphertext).await;
    assert_eq!(status.status, EncryptedState::Published);
    status.outcome.and_then(|outcome| outcome.reason)
}

/// The list that a rollup published in a slot of one block.
fn published(world: &World, rollup: usize, block: B256) -> (BlockList, u64) {
    let rollup = &world.dev().rollups[rollup];
    let block = rollup.rollup.block_by_hash(block).expect("the block is there");
    let raw = block.txs.iter().filter(|tx| !tx.executed.tx.is_deposit()).map(|tx| tx.executed.tx.raw().clone());
    let transactions: Vec<Bytes> = raw.collect();
    let forced = (block.txs.len() - transactions.len()) as u64;
    let (number, timestamp) = (block.header.number, block.header.timestamp);
    (BlockList { chain: rollup.chain, blocks: vec![ListBlock { number, timestamp, transactions }] }, forced)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_encrypted_is_behind_the_list_in_the_order_in_which_it_came() {
    let world = world().await;
    for rollup in 0..2 {
        // Who sends last pays no less than who sends first, and one after another they have to be executed.
        let txs = payments(&world, rollup, 5).await;
        let plain = payment(&world, rollup, 4, 0).await;
        world.chain(rollup).send(&plain).await;
        let ciphertexts: Vec<Bytes> = txs.iter().map(|tx| encrypted(tx.raw())).collect();
        let mut sequence = 0;
        for ciphertext in &ciphertexts {
            let receipt = send(&world, rollup, ciphertext, PAYMENT).await;
            assert_eq!(receipt.ciphertext, keccak256(ciphertext));
            assert!(receipt.sequence > sequence, "sequence numbers rise");
            sequence = receipt.sequence;
            let signer = recover(receipt.receipt().digest(), &receipt.signature);
            assert_eq!(signer, Ok(sequencer(rollup).address()));
            assert_eq!(send(&world, rollup, ciphertext, PAYMENT).await, receipt, "sent again it keeps its place");
        }

        let mut slots = BTreeSet::new();
        for (tx, ciphertext) in txs.iter().zip(&ciphertexts) {
            let status = settled(&world, rollup, ciphertext).await;
            let outcome = status.outcome.expect("what became of it is told");
            assert_eq!((status.status, outcome.transaction_hash), (EncryptedState::Published, Some(tx.hash())));
            assert_eq!(outcome.reason, None, "{:?}", outcome.text);
            assert!(world.chain(rollup).mined(tx.hash()).await.success());
            slots.insert(status.slot.expect("it had a slot"));
        }
        for slot in slots {
            let view = tail(&world, rollup, slot).await;
            let order = view.order();
            assert_eq!(recover(order.digest(), &view.signature), Ok(sequencer(rollup).address()));
            let (list, forced) = published(&world, rollup, view.block_hash.expect("it was published"));
            let named = view.tail().expect("something came encrypted");
            assert!(order.covers(&list, named.count as usize), "the list before was decided before anything was opened");
            // They are the block's last ones.
            let all = forced + list.blocks[0].transactions.len() as u64;
            assert_eq!(named.first + named.count, all);
            let placed: Vec<u64> = view.outcomes.iter().filter_map(|outcome| outcome.index).collect();
            assert_eq!(placed, (named.first..all).collect::<Vec<_>>());
        }
        assert!(world.chain(rollup).mined(plain.hash()).await.success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bundles_land_beside_what_is_encrypted() {
    let world = world().await;
    let bundle = world.story(&user(1), 1).await;
    let ciphertext = encrypted(payment(&world, 0, 3, 0).await.raw());
    let hash = world.lockstep.send(&bundle).await;
    send(&world, 0, &ciphertext, PAYMENT).await;
    world.lockstep.landed(hash).await;
    assert_eq!(left_out(&world, 0, &ciphertext).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_fit_for_the_block_is_left_out_and_named() {
    let world = world().await;
    let (here, there) = (world.chain(0).id, world.chain(1).id);
    let to = Address::repeat_byte(0x77);
    let nonce = world.chain(0).nonce(user(4).address()).await;
    let elsewhere = Tx::pay(there, 0, to, U256::ONE).sign(&user(3));
    let hungry = Tx { gas: PAYMENT + 1, ..Tx::pay(here, nonce, to, U256::ONE) }.sign(&user(4));
    let early = payment(&world, 0, 5, 7).await;
    let poor = Tx::pay(here, 0, to, U256::ONE).sign(&Key::of_name("somebody without funds"));
    let good = payment(&world, 0, 6, 0).await;
    let sent = [
        (encrypted(elsewhere.raw()), Some("wrong_chain_id")),
        (encrypted(hungry.raw()), Some("encrypted_gas")),
        (encrypted(early.raw()), Some("nonce_too_high")),
        (encrypted(poor.raw()), Some("insufficient_funds")),
        (encrypted(&[1, 2, 3]), Some("undecodable_transaction")),
        (encrypted(good.raw()), None),
    ];
    for (ciphertext, _) in &sent {
        send(&world, 0, ciphertext, PAYMENT).await;
    }
    for (ciphertext, reason) in &sent {
        assert_eq!(left_out(&world, 0, ciphertext).await.as_deref(), *reason);
    }
    assert!(world.chain(0).mined(good.hash()).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_ciphertexts_are_refused_by_name_and_take_nobodys_place() {
    let world = world().await;
    let ciphertext = encrypted(payment(&world, 0, 3, 0).await.raw());
    let good = params(&world, 0, &ciphertext, PAYMENT);
    let key = user(0);
    assert_eq!(refusal(&world, &good, None).await, "unsigned");
    let changed = |field: &str, value: Value| {
        let mut changed = good.clone();
        changed[field] = value;
        changed
    };
    let mut broken = ciphertext.to_vec();
    broken[200] ^= 1;
    for (params, reason) in [
        (changed("gas", json!("0x1")), "encrypted_gas"),
        (changed("gas", json!(U64::from(KEPT + 1))), "encrypted_gas"),
        (changed("ciphertext", json!("0x")), "invalid_ciphertext"),
        (changed("ciphertext", json!(Bytes::from(broken))), "invalid_ciphertext"),
        (changed("ciphertext", json!(Bytes::from(vec![0; 40_000]))), "ciphertext_too_long"),
        (changed("surprise", json!(1)), "unknown_field"),
        (changed("gas", Value::Null), "invalid_params"),
        (changed("chainId", json!("0x7")), "not_found"),
    ] {
        assert_eq!(refusal(&world, &params, Some(&key)).await, reason, "{params}");
    }
    let client = &world.lockstep.client;
    let chain = U64::from(world.chain(0).id);
    assert_eq!(client.get_encrypted_transaction(chain, keccak256(&ciphertext)).await.expect("it answers"), None);
    let encryption = client.get_encryption(chain).await.expect("it answers").expect("dev takes encrypted transactions");
    assert_eq!(encryption.public_key, Bytes::copy_from_slice(&committee().0.public_key()));
    assert_eq!((encryption.needed, encryption.gas), (2, KEPT));

    send(&world, 0, &ciphertext, PAYMENT).await;
    assert_eq!(left_out(&world, 0, &ciphertext).await, None);
    assert_eq!(refusal(&world, &good, Some(&key)).await, "encrypted_over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollup_that_takes_nothing_encrypted_says_so() {
    let world = World::start(options()).await;
    let chain = U64::from(world.chain(0).id);
    assert_eq!(world.lockstep.client.get_encryption(chain).await.expect("it answers"), None);
    let params = params(&world, 0, &encrypted(&[1]), PAYMENT);
    assert_eq!(refusal(&world, &params, Some(&user(0))).await, "not_encrypted");
}

/// A `dev` some members of whose committee are away.
async fn without(away: &'static [usize]) -> World {
    World::start_with(DevOptions { encrypted: true, ..options() }, |setup| {
        for rollup in &mut setup.rollups {
            let sequencer = rollup.sequencer.as_mut().expect("dev plays every sequencer");
            let encrypted = sequencer.encrypted.as_mut().expect("dev takes encrypted transactions");
            for index in away {
                // Nobody listens there.
                encrypted.members[*index] = MemberAt::Url("http://127.0.0.1:9".to_owned());
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_members_as_are_needed_open() {
    let world = without(&[1]).await;
    let ciphertext = encrypted(payment(&world, 0, 3, 0).await.raw());
    send(&world, 0, &ciphertext, PAYMENT).await;
    assert_eq!(left_out(&world, 0, &ciphertext).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_committee_the_chain_goes_on_and_what_was_ordered_has_had_its_turn() {
    let world = without(&[0, 2]).await;
    let ciphertext = encrypted(payment(&world, 0, 3, 0).await.raw());
    send(&world, 0, &ciphertext, PAYMENT).await;
    assert_eq!(left_out(&world, 0, &ciphertext).await.as_deref(), Some("not_opened"));
    let again = params(&world, 0, &ciphertext, PAYMENT);
    assert_eq!(refusal(&world, &again, Some(&user(0))).await, "encrypted_over");
    // Nobody has lost more than a turn.
    let hash = world.lockstep.send(&world.story(&user(1), 1).await).await;
    world.lockstep.landed(hash).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_opens_for_one_signed_order_a_slot_and_not_before_it_is_decided() {
    let world = world().await;
    let client = &world.lockstep.client;
    let chain = world.chain(0).id;
    let ciphertexts = vec![encrypted(payment(&world, 0, 3, 0).await.raw())];
    let signed = |slot: u64, list: B256, key: &Key| {
        let order = EncryptedOrder { chain, slot, list, ciphertexts: ciphertexts.iter().map(keccak256).collect() };
        let signature = key.sign_bytes(order.digest());
        OpenParams { member: 0, chain_id: U64::from(chain), slot, list, ciphertexts: ciphertexts.clone(), signature }
    };
    let (key, list) = (sequencer(0), B256::repeat_byte(1));
    let now = world.lockstep.open_slot().await.slot;
    let reason = async |params: OpenParams| refused(client.open(params).await).1;
    assert_eq!(reason(signed(now + 9, list, &key)).await, "undecided");
    let past = now - 2;
    assert_eq!(reason(signed(past, list, &user(0))).await, "wrong_sequencer");
    assert_eq!(reason(OpenParams { member: 7, ..signed(past, list, &key) }).await, "not_found");
    assert_eq!(reason(OpenParams { chain_id: U64::from(7), ..signed(past, list, &key) }).await, "not_found");
    assert_eq!(reason(OpenParams { ciphertexts: Vec::new(), ..signed(past, list, &key) }).await, "too_many_ciphertexts");
    assert_eq!(
        reason(OpenParams { ciphertexts: vec![Bytes::new(); 65], ..signed(past, list, &key) }).await,
        "too_many_ciphertexts"
    );
    // Of what it refuses it has noted nothing.
    let shares = client.open(signed(past, list, &key)).await.expect("it opens");
    assert_eq!((shares.member, shares.shares.len()), (0, 1));
    assert_eq!(client.open(signed(past, list, &key)).await.expect("it opens again"), shares);
    assert_eq!(reason(signed(past, B256::repeat_byte(2), &key)).await, "another_order");
    let other = client.open(OpenParams { member: 1, ..signed(past, B256::repeat_byte(2), &key) }).await;
    assert!(other.is_ok(), "each member answers for itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_has_its_turn_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = || DevOptions { encrypted: true, data: Some(folder.path().to_owned()), ..options() };
    let world = World::start(options()).await;
    // Each takes a slot of its own.
    let mut sent = Vec::new();
    for from in 1..6 {
        let ciphertext = encrypted(payment(&world, 0, from, 0).await.raw());
        send(&world, 0, &ciphertext, KEPT).await;
        sent.push(ciphertext);
    }
    drop(world);
    let world = until("the folder is free", async || World::try_start(options()).await).await;
    let mut states = Vec::new();
    for ciphertext in &sent {
        states.push(settled(&world, 0, ciphertext).await.status);
    }
    let unknown = states.iter().filter(|state| **state == EncryptedState::Unknown).count();
    let published = states.iter().filter(|state| **state == EncryptedState::Published).count();
    assert!(unknown <= 1 && published + unknown == sent.len(), "{states:?}");
    assert_eq!(states.last(), Some(&EncryptedState::Published));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_may_not_use_what_is_kept() {
    // So much is kept that the room for listed transactions is three payments.
    let world = World::start_with(DevOptions { encrypted: true, listen: LOCAL, ..options() }, |setup| {
        setup.rollups[0].sequencer.as_mut().expect("dev plays every sequencer").terms.encrypted_gas = 30_000_000 - 3 * PAYMENT;
    })
    .await;
    let txs = payments(&world, 0, 4).await;
    let legs = vec![txs_leg(world.chain(0).id, &txs.iter().collect::<Vec<_>>())];
    let bundle = BundleParams { legs, ..BundleParams::default() };
    let hash = world.lockstep.send(&bundle).await;
    world.lockstep.blocked(hash, "no_room").await;
    // Encrypted they have room.
    for tx in &txs {
        send(&world, 0, &encrypted(tx.raw()), PAYMENT).await;
    }
    for tx in &txs {
        assert_eq!(left_out(&world, 0, &encrypted(tx.raw())).await, None);
    }
}

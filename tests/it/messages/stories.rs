//! Crossings that need more than one step, or more than one direction.

use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_primitives::{Address, B256, Bytes, U64, U256, keccak256};
use alloy_sol_types::{SolValue, sol};
use lockstep_messaging::{
    LogPlace,
    op_interop::{INBOX, Identifier, MESSENGER, access_list, payload},
};
use lockstep_node::{dev::user, keys::Key};
use lockstep_primitives::{BundleState, SignedTx};
use lockstep_rpc::{
    api::LockstepApiClient,
    wire::{BundleParams, RangeParams},
};
use serde_json::Value;

use super::{AMOUNT, alone, attestation, bundle, call, call_after, crossing, delivery, sent_message, token, toll};
use crate::{
    chain::Chain,
    lockstep::places,
    transactions::{Tx, input, relay_leg, txs_leg},
    wait::until,
    world::{World, options},
};

sol! {
    function replaceDepositForBurn(bytes originalMessage, bytes originalAttestation, bytes32 newDestinationCaller, bytes32 newMintRecipient) external;
    function increment(uint256 key) external;
    function transfer(address to, uint256 amount) external returns (bool);
    function load(uint256 key) external view returns (uint256);
    function setRefusing(bool refuse) external;
    function messageCount() external view returns (uint256);
    function lastOriginAddress() external view returns (address);
    function lastOriginNetwork() external view returns (uint32);
    function lastData() external view returns (bytes);
    struct RelayIdentifier { address origin; uint256 blockNumber; uint256 logIndex; uint256 timestamp; uint256 chainId; }
    function relayMessage(RelayIdentifier id, bytes sentMessage) external payable returns (bytes);
}

/// Takes the messages of one bridge, or refuses them for as long as its owner wants.
const RECEIVER: &str = include_str!("../../../fixtures/contracts/artifacts/BridgeMessageReceiver.json");

/// Points a burn at another recipient.
async fn replacement(origin: &Chain, who: &Key, world: &World, burn: B256, recipient: Address) -> SignedTx {
    let contracts = world.contracts();
    let message = sent_message(origin, burn, contracts.message_transmitter).await;
    let replace = replaceDepositForBurnCall {
        originalAttestation: attestation(&message),
        originalMessage: message,
        newDestinationCaller: B256::ZERO,
        newMintRecipient: recipient.into_word(),
    };
    call(origin, who, contracts.token_messenger, input(&replace)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burn_for_the_wrong_recipient_is_replaced_and_minted_once() {
    let world = World::start(options()).await;
    let (origin, destination) = (world.chain(0), world.chain(1));
    let contracts = *world.contracts();
    let (alice, bob) = (user(0), user(1));
    let [wrong, right, both] = [0x17, 0x19, 0x1b].map(Address::repeat_byte);
    let burn = |recipient| contracts.burn(AMOUNT, world.domain(1), recipient);
    let astray = alone(origin, &alice, contracts.token_messenger, burn(wrong)).await;
    let twice = alone(origin, &bob, contracts.token_messenger, burn(wrong)).await;

    let replace = replacement(origin, &alice, &world, astray.tx, right).await;
    let pay = toll(destination, &alice, 0).await;
    let legs = vec![txs_leg(origin.id, &[&replace]), relay_leg(destination.id, 0, 0), txs_leg(destination.id, &[&pay])];
    let hash = world.lockstep.send(&bundle(legs)).await;
    assert_eq!(world.lockstep.landed(hash).await.level, "G2");
    assert_eq!(token(destination, contracts.usdc, right).await, AMOUNT);

    // Both messages have one nonce, so the first can never be delivered, nor both of them by one bundle.
    let late = world.lockstep.send(&delivery(astray, destination, &user(2)).await).await;
    let replace = replacement(origin, &bob, &world, twice.tx, both).await;
    let pay = toll(destination, &bob, 0).await;
    let legs = vec![
        twice.leg(destination),
        txs_leg(origin.id, &[&replace]),
        relay_leg(destination.id, 1, 0),
        txs_leg(destination.id, &[&pay]),
    ];
    let greedy = world.lockstep.send(&bundle(legs)).await;
    for (hash, leg) in [(late, 0), (greedy, 2)] {
        let obstacle = world.lockstep.blocked(hash, "message_delivered").await;
        assert_eq!((obstacle.rollup, obstacle.leg), (Some(U64::from(destination.id)), Some(leg)));
    }
    world.pass(2).await;
    for (recipient, minted) in [(wrong, U256::ZERO), (right, AMOUNT), (both, U256::ZERO)] {
        assert_eq!(token(destination, contracts.usdc, recipient).await, minted, "{recipient}");
    }
    assert!(origin.receipt(replace.hash()).await.is_none());
}

/// Creates the receiver of bridged messages and returns where it is.
async fn receiver(chain: &Chain, owner: &Key, bridge: Address) -> Address {
    let artifact: Value = serde_json::from_str(RECEIVER).expect("the artifact is JSON");
    let code: Bytes = serde_json::from_value(artifact["bytecode"].clone()).expect("the artifact has bytecode");
    let data = [code.as_ref(), &bridge.abi_encode()].concat().into();
    let nonce = chain.nonce(owner.address()).await;
    let creation = Tx { to: None, gas: 2_000_000, ..Tx::call(chain.id, nonce, Address::ZERO, data) }.sign(owner);
    chain.send(&creation).await;
    assert!(chain.mined(creation.hash()).await.success());
    owner.address().create(nonce)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_crosses_agglayers_bridge_once_its_receiver_takes_it() {
    let world = World::start(options()).await;
    let (origin, destination) = (world.chain(0), world.chain(1));
    let bridge = world.contracts().agglayer;
    let (alice, owner) = (user(0), user(1));
    let receiver = receiver(destination, &owner, bridge.bridge).await;
    let refuse = async |refuse: bool| {
        alone(destination, &owner, receiver, input(&setRefusingCall { refuse })).await;
    };
    refuse(true).await;

    let words = Bytes::from_static(b"to whom it may concern");
    let send = bridge.send_message(world.network(1), receiver, words.clone());
    let whole = crossing(origin, destination, &alice, bridge.bridge, send).await;
    let hash = world.lockstep.send(&whole).await;
    let obstacle = world.lockstep.blocked(hash, "reverted").await;
    assert_eq!((obstacle.rollup, obstacle.leg), (Some(U64::from(destination.id)), Some(1)));
    assert_eq!(destination.call(receiver, &messageCountCall {}).await, U256::ZERO);

    // Nothing of it has landed, so nothing is lost: it lands by itself once it can.
    refuse(false).await;
    let placed = places(&world.lockstep.landed(hash).await);
    assert_eq!(placed.len(), 4, "the exit; the exit root and the claim; the toll: {placed:?}");
    assert_eq!(destination.call(receiver, &messageCountCall {}).await, U256::ONE);
    assert_eq!(destination.call(receiver, &lastOriginAddressCall {}).await, alice.address());
    assert_eq!(destination.call(receiver, &lastOriginNetworkCall {}).await, world.network(0));
    assert_eq!(destination.call(receiver, &lastDataCall {}).await, words);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bundle_sends_both_ways_in_one_slot() {
    let world = World::start(options()).await;
    let (left, right) = (world.chain(0), world.chain(1));
    let interop = world.contracts().interop;
    let (alice, there, back) = (user(0), Address::repeat_byte(0x21), Address::repeat_byte(0x23));
    let mut legs = Vec::new();
    for (from, to, recipient) in [(left, right, there), (right, left, back)] {
        let send = call(from, &alice, interop.token_bridge, interop.send(recipient, AMOUNT, to.id)).await;
        let pay = toll(from, &alice, 1).await;
        legs.push(txs_leg(from.id, &[&send, &pay]));
    }
    legs.extend([relay_leg(right.id, 0, 0), relay_leg(left.id, 1, 0)]);
    let hash = world.lockstep.send(&bundle(legs)).await;

    let placed = places(&world.lockstep.landed(hash).await);
    assert_eq!(placed.len(), 6, "{placed:?}");
    let mut slots = Vec::new();
    for place in &placed {
        slots.push(world.slot_of(place.chain, place.block).await);
    }
    slots.dedup();
    assert_eq!(slots.len(), 1, "one slot for {placed:?}");
    assert_eq!(token(right, interop.token, there).await, AMOUNT);
    assert_eq!(token(left, interop.token, back).await, AMOUNT);
}

/// A message, and its delivery by a transaction that its user signed before the message was anywhere: for this block of the first
/// rollup, where the message is the first log.
async fn signed_delivery(world: &World, who: &Key, ahead: u64) -> BundleParams {
    let (origin, destination) = (world.chain(0), world.chain(1));
    let contracts = world.contracts();
    let counted = input(&incrementCall { key: U256::from(5) });
    let send = contracts.interop.send_message(destination.id, contracts.probe, counted);
    let send = call(origin, who, contracts.interop.messenger, send).await;
    let sending = txs_leg(origin.id, &[&send]);
    let simulated = serde_json::to_value(bundle(vec![sending.clone()])).expect("a bundle is JSON");
    let simulated = world.lockstep.client.simulate_bundle(simulated).await.expect("it runs");
    let log = simulated.legs[0].transactions[0].logs.first().expect("a message is a log").clone();
    assert_eq!(log.address, MESSENGER);

    let head = origin.height().await;
    let timestamp = origin.block(head).await.timestamp() + ahead;
    let block = head + ahead;
    let place = LogPlace { block, timestamp, index: 0 };
    let id = Identifier::new(MESSENGER, U256::from(origin.id), place).expect("it fits");
    let sent = payload(&log);
    let relay = relayMessageCall {
        id: RelayIdentifier {
            origin: id.origin,
            blockNumber: U256::from(id.block_number),
            logIndex: U256::from(id.log_index),
            timestamp: U256::from(id.timestamp),
            chainId: id.chain_id,
        },
        sentMessage: sent.clone(),
    };
    let access_list =
        AccessList(vec![AccessListItem { address: INBOX, storage_keys: access_list::encode(&id, keccak256(&sent)) }]);
    let nonce = destination.nonce(who.address()).await;
    let execute = Tx { access_list, ..Tx::call(destination.id, nonce, MESSENGER, input(&relay)) }.sign(who);
    let bounds = RangeParams { min: Some(U64::from(block)), max: Some(U64::from(block)) };
    let legs = vec![sending, txs_leg(destination.id, &[&execute])];
    BundleParams { blocks: [(U64::from(origin.id), bounds)].into(), ..bundle(legs) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_signs_the_delivery_of_a_message_that_is_sent_in_the_same_slot() {
    let world = World::start(options()).await;
    let (origin, destination) = (world.chain(0), world.chain(1));
    let (alice, probe) = (user(0), world.contracts().probe);
    // A block that is missed, because the machine is busy, is not the block that was signed for: the next one is as good.
    let landed = until("the bundle lands in the block that it was signed for", async || {
        let hash = world.lockstep.send(&signed_delivery(&world, &alice, 3).await).await;
        let ended = until("the bundle ends", async || {
            let status = world.lockstep.status(hash).await;
            BundleState::ALL.into_iter().any(|state| state.is_final() && state.as_str() == status.state).then_some(status)
        })
        .await;
        (ended.state == BundleState::Landed.as_str()).then_some(ended)
    })
    .await;
    let placed = places(&landed);
    let [sent, executed] = placed.as_slice() else { panic!("two transactions: {placed:?}") };
    assert_eq!([sent.chain, executed.chain], [origin.id, destination.id]);
    assert_eq!(world.slot_of(sent.chain, sent.block).await, world.slot_of(executed.chain, executed.block).await);
    assert_eq!(destination.call(probe, &loadCall { key: U256::from(5) }).await, U256::ONE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_mailbox_brings_is_spent_by_the_next_leg() {
    let world = World::start(options()).await;
    let (origin, destination) = (world.chain(0), world.chain(1));
    let mailbox = world.contracts().mailbox;
    let (alice, friend, session) = (user(0), Address::repeat_byte(0x25), U256::from(7));
    let send = mailbox.send(destination.id, alice.address(), AMOUNT, session);
    let send = call(origin, &alice, mailbox.token_bridge, send).await;
    let receive = mailbox.receive(origin.id, alice.address(), alice.address(), AMOUNT, session);
    let receive = call(destination, &alice, mailbox.token_bridge, receive).await;
    let had = token(destination, mailbox.token, alice.address()).await;
    // More than the account has until the mail is there.
    let spend = input(&transferCall { to: friend, amount: had + AMOUNT });
    let spend = call_after(destination, &alice, 1, mailbox.token, spend).await;
    let pay = toll(destination, &alice, 2).await;
    let legs =
        vec![txs_leg(origin.id, &[&send]), relay_leg(destination.id, 0, 0), txs_leg(destination.id, &[&receive, &spend, &pay])];
    let hash = world.lockstep.send(&bundle(legs)).await;
    world.lockstep.landed(hash).await;
    assert_eq!(token(destination, mailbox.token, friend).await, had + AMOUNT);
    assert_eq!(token(destination, mailbox.token, alice.address()).await, U256::ZERO);
}

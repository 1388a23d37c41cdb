//! Messages that landed alone, and are delivered in a later slot because somebody asks for it.

use alloy_primitives::{Address, B256, U64, U256};
use lockstep_node::dev::user;
use lockstep_primitives::BundleState;
use lockstep_rpc::wire::BundleStatus;

use super::{AMOUNT, alone, bundle, crossing, delivery, token, toll, wrapped_usdc};
use crate::{
    lockstep::{Lockstep, places},
    transactions::txs_leg,
    wait::until,
    world::{World, options},
};

/// For how long messages of OP interop can be executed here, in seconds.
const WINDOW_S: u64 = 4;

/// Rollups whose messages of OP interop expire soon, the second of which sells no claims against exits of the same slot.
async fn strict() -> World {
    World::start_with(options(), |setup| {
        for rollup in &mut setup.rollups {
            rollup.deployments.interop.as_mut().expect("dev has interop").expires_after = WINDOW_S;
        }
        setup.rollups[1].sequencer.as_mut().expect("dev plays the sequencer").terms.same_slot_claims = false;
    })
    .await
}

/// Waits until a bundle has ended, whatever it has come to.
async fn ended(lockstep: &Lockstep, hash: B256) -> BundleStatus {
    until("the bundle ends", async || {
        let status = lockstep.status(hash).await;
        BundleState::ALL.into_iter().any(|state| state.is_final() && state.as_str() == status.state).then_some(status)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exit_is_claimed_once_in_a_later_slot_where_none_of_the_same_slot_can_be() {
    let world = strict().await;
    let (origin, destination) = (world.chain(0), world.chain(1));
    let contracts = *world.contracts();
    let [first, second] = [0x31, 0x33].map(Address::repeat_byte);
    let exit = |recipient| contracts.agglayer.send_asset(world.network(1), recipient, contracts.usdc, AMOUNT);
    let at_once = crossing(origin, destination, &user(0), contracts.agglayer.bridge, exit(first)).await;
    let at_once = world.lockstep.send(&at_once).await;
    let obstacle = world.lockstep.blocked(at_once, "same_slot_claim").await;
    assert_eq!((obstacle.rollup, obstacle.leg), (Some(U64::from(destination.id)), Some(1)));

    // The same exit on its own, and its claim by somebody else.
    let landed = alone(origin, &user(1), contracts.agglayer.bridge, exit(first)).await;
    let hash = world.lockstep.send(&delivery(landed, destination, &user(2)).await).await;
    let status = world.lockstep.landed(hash).await;
    assert_eq!(places(&status).len(), 3, "the exit root, the claim, the toll: {status:?}");
    assert_eq!(wrapped_usdc(&world, first).await, AMOUNT);

    // Two claim one exit in the same slot: one of them does.
    let landed = alone(origin, &user(3), contracts.agglayer.bridge, exit(second)).await;
    let mut hashes = Vec::new();
    for index in [4, 5] {
        hashes.push(world.lockstep.send(&delivery(landed, destination, &user(index)).await).await);
    }
    let mut states = Vec::new();
    for hash in hashes {
        let status = ended(&world.lockstep, hash).await;
        states.push((status.state, status.blocked.map(|obstacle| obstacle.reason)));
    }
    states.sort();
    let delivered = Some("message_delivered".to_owned());
    let expected = [(BundleState::Dropped.as_str().to_owned(), delivered), (BundleState::Landed.as_str().to_owned(), None)];
    assert_eq!(states, expected);
    assert_eq!(wrapped_usdc(&world, second).await, AMOUNT);
    assert_eq!(world.lockstep.status(at_once).await.state, "pending", "other terms could still cure it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_old_or_was_never_sent_is_not_delivered_and_named() {
    let world = strict().await;
    let (origin, destination) = (world.chain(0), world.chain(1));
    let interop = world.contracts().interop;
    let recipient = Address::repeat_byte(0x35);
    let sent = alone(origin, &user(0), interop.token_bridge, interop.send(recipient, AMOUNT, destination.id)).await;
    let block = origin.mined(sent.tx).await.block();
    let expires = origin.block(block).await.timestamp() + WINDOW_S;

    // The transaction is there, but it sent one message only.
    let pay = toll(destination, &user(1), 0).await;
    let absent = bundle(vec![sent.leg_of(destination, 3), txs_leg(destination.id, &[&pay])]);
    let absent = world.lockstep.send(&absent).await;
    let obstacle = world.lockstep.blocked(absent, "unknown_message").await;
    assert_eq!((obstacle.rollup, obstacle.leg), (Some(U64::from(destination.id)), Some(0)));

    until("the message expires", async || {
        let head = destination.height().await;
        (destination.block(head).await.timestamp() >= expires).then_some(())
    })
    .await;
    let late = world.lockstep.send(&delivery(sent, destination, &user(2)).await).await;
    let obstacle = world.lockstep.blocked(late, "message_expired").await;
    assert_eq!((obstacle.rollup, obstacle.leg), (Some(U64::from(destination.id)), Some(0)));
    assert_eq!(ended(&world.lockstep, late).await.state, BundleState::Dropped.as_str(), "no state can cure it");

    world.pass(2).await;
    assert_eq!(token(destination, interop.token, recipient).await, U256::ZERO);
}

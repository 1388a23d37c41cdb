//! Messages that nobody delivers, and that the builder itself does, where its operator has it so.

use std::sync::Arc;

use alloy_primitives::{Address, B256, I256, U64, U256};
use lockstep_node::{dev::user, strategies::StrategySetup};
use lockstep_orphan_relay::{OrphanRelay, Rules, Sponsor};
use lockstep_rpc::{
    api::LockstepApiClient,
    wire::{MessageStatus, MessagesParams},
};

use super::{AMOUNT, TOLL, alone, token, wrapped_usdc};
use crate::{
    wait::until,
    world::{World, options},
};

/// What a bundle with relays has to be worth to the builder here, in wei: a delivery that pays nobody is not worth that.
const FLOOR: u64 = 1_000_000_000_000_000;

/// Asks for what is known of the messages that go to the second rollup, and picks the one of a transaction.
async fn told(world: &World, tx: B256) -> Option<MessageStatus> {
    let filter = MessagesParams { chain_id: Some(U64::from(world.chain(1).id)), ..MessagesParams::default() };
    let filter = serde_json::to_value(filter).expect("a filter is JSON");
    let list = world.lockstep.client.get_messages(Some(filter)).await.expect("the builder keeps messages");
    list.messages.into_iter().find(|message| message.origin.tx_hash == tx)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_delivers_the_builder_does_once_and_its_operator_pays() {
    let sponsor = user(9);
    let key = sponsor.clone();
    let world = World::start_with(options(), move |setup| {
        let builder = setup.builder.as_mut().expect("dev has a builder");
        builder.messages.grace_blocks = 1;
        builder.min_relay_value = I256::from_raw(U256::from(FLOOR));
        let rules = Rules { sponsor: Some(Sponsor { budget: TOLL, max_per_slot: 4 }), ..Rules::default() };
        builder.strategies.push(StrategySetup { strategy: Arc::new(OrphanRelay(rules)), key });
    })
    .await;
    let (origin, destination) = (world.chain(0), world.chain(1));
    let contracts = *world.contracts();
    let recipient = Address::repeat_byte(0x41);
    let paid_from = destination.balance(sponsor.address()).await;

    let burn = contracts.burn(AMOUNT, world.domain(1), recipient);
    let burn = alone(origin, &user(0), contracts.token_messenger, burn).await;
    let send = contracts.interop.send(recipient, AMOUNT, destination.id);
    let send = alone(origin, &user(1), contracts.interop.token_bridge, send).await;
    let exit = contracts.agglayer.send_asset(world.network(1), recipient, contracts.usdc, AMOUNT);
    let exit = alone(origin, &user(2), contracts.agglayer.bridge, exit).await;

    for (landed, protocol) in [(burn, "cctp-v1"), (send, "op-interop"), (exit, "agglayer")] {
        let delivered = until(&format!("the message of {protocol} is delivered"), async || {
            told(&world, landed.tx).await.filter(|message| message.state == "delivered")
        })
        .await;
        assert_eq!(delivered.protocol, protocol);
        assert_eq!(delivered.destination, Some(U64::from(destination.id)));
        let delivery = delivered.delivered.expect("its delivery was seen");
        let receipt = destination.receipt(delivery.tx_hash.expect("in a transaction")).await.expect("which is on its chain");
        assert!(receipt.success());
        assert_eq!(U64::from(receipt.block()), delivery.block_number);
    }
    let has = async || {
        let (usdc, interop) = (contracts.usdc, contracts.interop.token);
        [
            token(destination, usdc, recipient).await,
            token(destination, interop, recipient).await,
            wrapped_usdc(&world, recipient).await,
        ]
    };
    assert_eq!(has().await, [AMOUNT; 3]);
    let paid = paid_from - destination.balance(sponsor.address()).await;
    assert!(paid >= U256::from(3 * FLOOR), "each delivery was made worth it: {paid}");
    assert!(paid < TOLL * U256::from(3), "within the budget: {paid}");

    world.pass(3).await;
    assert_eq!(has().await, [AMOUNT; 3], "once");
    assert_eq!(destination.balance(sponsor.address()).await, paid_from - paid, "and paid for once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_anybody_who_asks_an_orphan_stays_one() {
    let world = World::start_with(options(), |setup| {
        setup.builder.as_mut().expect("dev has a builder").messages.grace_blocks = 1;
    })
    .await;
    let (origin, destination) = (world.chain(0), world.chain(1));
    let contracts = *world.contracts();
    let recipient = Address::repeat_byte(0x43);
    let burn = contracts.burn(AMOUNT, world.domain(1), recipient);
    let burn = alone(origin, &user(0), contracts.token_messenger, burn).await;
    let orphan = until("the burn is an orphan that could be minted", async || {
        told(&world, burn.tx).await.filter(|message| message.orphan && message.state == "ready")
    })
    .await;
    assert_eq!((orphan.blocked, orphan.delivered), (None, None));
    world.pass(2).await;
    assert_eq!(token(destination, contracts.usdc, recipient).await, U256::ZERO);
}

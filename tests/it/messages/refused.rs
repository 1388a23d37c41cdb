//! Bundles that must not land: nothing of them is anywhere, everybody has what they had, and the reason is named.

use alloy_primitives::{Address, B256, Bytes, U64, U256};
use alloy_sol_types::{SolEvent, sol};
use jsonrpsee::core::ClientError;
use lockstep_node::{
    dev::{BurnTerms, user},
    keys::Key,
};
use lockstep_primitives::ChainId;
use lockstep_rpc::{
    api::LockstepApiClient,
    wire::{BundleParams, RelayParams, RequirementParams, SentBundle},
};

use super::{AMOUNT, Landed, TOLL, bundle, call, crossing, toll, wealth};
use crate::{
    chain::Chain,
    lockstep::refused,
    transactions::{Tx, input, relay_leg, txs_leg},
    world::{World, options},
};

sol! {
    function sendMessage(uint32 destinationDomain, bytes32 recipient, bytes messageBody) external returns (uint64);
    function depositForBurnWithCaller(uint256 amount, uint32 domain, bytes32 recipient, address token, bytes32 caller) external returns (uint64);
    event BridgeEvent(uint8 leafType, uint32 originNetwork, address originAddress, uint32 destinationNetwork, address destinationAddress, uint256 amount, bytes metadata, uint32 depositCount);
}

/// Who creates the bridge that lies, as the first thing it does.
fn forger() -> Key {
    Key::of_name("a forger")
}

/// A contract that logs its calldata as an exit, whatever it says: a bridge that has lost its own checks.
///
/// CALLDATASIZE PUSH0 PUSH0 CALLDATACOPY, PUSH32 topic CALLDATASIZE PUSH0 LOG1 STOP.
fn bridge_without_checks() -> Bytes {
    let topic = BridgeEvent::SIGNATURE_HASH;
    let code = [&[0x36, 0x5f, 0x5f, 0x37, 0x7f][..], topic.as_slice(), &[0x36, 0x5f, 0xa1, 0x00][..]].concat();
    let length = u8::try_from(code.len()).expect("it is small");
    // PUSH1 length DUP1 PUSH1 9 PUSH0 CODECOPY PUSH0 RETURN: nine bytes that return what follows them.
    [&[0x60, length, 0x80, 0x60, 9, 0x5f, 0x39, 0x5f, 0xf3][..], code.as_slice()].concat().into()
}

/// An exit of a whole ether to an account of another network.
fn ether_exit(network: u32, recipient: Address) -> Bytes {
    let exit = BridgeEvent {
        leafType: 0,
        originNetwork: 0,
        originAddress: Address::ZERO,
        destinationNetwork: network,
        destinationAddress: recipient,
        amount: U256::from(1_000_000_000_000_000_000_u64),
        metadata: Bytes::new(),
        depositCount: 0,
    };
    exit.encode_data().into()
}

/// A `dev` whose second rollup is configured with a bridge without checks, into which somebody else than the builder inserts
/// exit roots.
async fn lawless() -> World {
    let bridge = forger().address().create(0);
    let world = World::start_with(options(), move |setup| {
        let agglayer = setup.rollups[1].deployments.agglayer.as_mut().expect("dev has AggLayer");
        agglayer.bridge = bridge;
        agglayer.updater = Some(Address::repeat_byte(0x77));
    })
    .await;
    let chain = world.chain(1);
    let patron = user(9);
    let fund = Tx::pay(chain.id, chain.nonce(patron.address()).await, forger().address(), TOLL).sign(&patron);
    chain.send(&fund).await;
    assert!(chain.mined(fund.hash()).await.success());
    let create = Tx { to: None, ..Tx::call(chain.id, 0, Address::ZERO, bridge_without_checks()) }.sign(&forger());
    chain.send(&create).await;
    assert!(chain.mined(create.hash()).await.success());
    world
}

/// What is to be refused: whose it is, on which rollup and in which leg it fails, and why.
struct Refused {
    who: Key,
    bundle: BundleParams,
    rollup: ChainId,
    leg: Option<usize>,
    reason: &'static str,
}

/// The bundles, each by a user of its own.
async fn bundles(world: &World) -> Vec<Refused> {
    let (origin, destination) = (world.chain(0), world.chain(1));
    let contracts = *world.contracts();
    let here = |chain: &Chain, leg| (chain.id, leg);
    let mut all = Vec::new();
    let mut add = |who: &Key, bundle, (rollup, leg), reason| {
        all.push(Refused { who: who.clone(), bundle, rollup, leg, reason });
    };

    let who = user(0);
    let burn = contracts.cctp_v2.burn(contracts.usdc, AMOUNT, world.domain(1), who.address(), &BurnTerms::default());
    let mut greedy = crossing(origin, destination, &who, contracts.cctp_v2.token_messenger, burn).await;
    greedy.require.push(RequirementParams {
        chain_id: U64::from(destination.id),
        account: who.address(),
        asset: contracts.usdc.to_string(),
        min_increase: AMOUNT + U256::ONE,
    });
    add(&who, greedy, here(destination, None), "requirement_not_met");

    let who = user(1);
    let theirs = depositForBurnWithCallerCall {
        amount: AMOUNT,
        domain: world.domain(1),
        recipient: who.address().into_word(),
        token: contracts.usdc,
        caller: Address::repeat_byte(0x57).into_word(),
    };
    let theirs = crossing(origin, destination, &who, contracts.token_messenger, input(&theirs)).await;
    add(&who, theirs, here(destination, Some(1)), "restricted_caller");

    let who = user(2);
    let nowhere = sendMessageCall {
        destinationDomain: 77,
        recipient: who.address().into_word(),
        messageBody: Bytes::from_static(b"hello"),
    };
    let nowhere = crossing(origin, destination, &who, contracts.message_transmitter, input(&nowhere)).await;
    add(&who, nowhere, here(destination, Some(1)), "wrong_destination");

    let who = user(3);
    let exit = contracts.agglayer.send_asset(world.network(1), who.address(), contracts.usdc, AMOUNT);
    let exit = crossing(origin, destination, &who, contracts.agglayer.bridge, exit).await;
    add(&who, exit, here(destination, Some(1)), "exit_root_updater");

    // It would be paid out on the first rollup, whose bridge has ether, but none ever came to the second.
    let who = user(4);
    let exit = ether_exit(world.network(0), who.address());
    let exit = crossing(destination, origin, &who, forger().address().create(0), exit).await;
    add(&who, exit, here(destination, None), "token_underflow");

    // The mint comes before the mail.
    let who = user(5);
    let session = U256::from(3);
    let send = contracts.mailbox.send(destination.id, who.address(), AMOUNT, session);
    let send = call(origin, &who, contracts.mailbox.token_bridge, send).await;
    let receive = contracts.mailbox.receive(origin.id, who.address(), who.address(), AMOUNT, session);
    let receive = call(destination, &who, contracts.mailbox.token_bridge, receive).await;
    let pay = toll(destination, &who, 1).await;
    let early = bundle(vec![
        txs_leg(origin.id, &[&send]),
        txs_leg(destination.id, &[&receive]),
        relay_leg(destination.id, 0, 0),
        txs_leg(destination.id, &[&pay]),
    ]);
    add(&who, early, here(destination, Some(1)), "reverted");

    // Burned and minted, and then the last transaction of the bundle fails.
    let who = user(6);
    let burn = contracts.burn(AMOUNT, world.domain(1), who.address());
    let mut broken = crossing(origin, destination, &who, contracts.token_messenger, burn).await;
    let nonce = destination.nonce(who.address()).await + 1;
    let too_much = contracts.burn(U256::MAX, world.domain(0), who.address());
    let too_much = Tx::call(destination.id, nonce, contracts.token_messenger, too_much).sign(&who);
    broken.legs.push(txs_leg(destination.id, &[&too_much]));
    add(&who, broken, here(destination, Some(3)), "reverted");
    all
}

/// What a bundle is refused for when it comes in.
async fn refusal(world: &World, bundle: &BundleParams) -> String {
    let bundle = serde_json::to_value(bundle).expect("a bundle is JSON");
    let answer: Result<SentBundle, ClientError> = world.lockstep.client.send_bundle(bundle).await;
    refused(answer).1
}

/// Relays that no slot could ever make sense of.
async fn impossible_relays(world: &World) {
    let (origin, destination) = (world.chain(0), world.chain(1));
    let (who, contracts) = (user(7), *world.contracts());
    let burn = contracts.burn(AMOUNT, world.domain(1), who.address());
    let whole = crossing(origin, destination, &who, contracts.token_messenger, burn).await;
    let changed = |change: &dyn Fn(&mut BundleParams)| {
        let mut changed = whole.clone();
        change(&mut changed);
        changed
    };
    let unserved = Landed { chain: 4_242, tx: B256::repeat_byte(0x42) };
    let relay = |relay| move |bundle: &mut BundleParams| bundle.legs[1].relay = Some(relay);
    let of_leg = |leg| RelayParams { leg: Some(leg), ..RelayParams::default() };
    let cases: [(&str, BundleParams); 7] = [
        ("relay_twice", changed(&|bundle: &mut BundleParams| bundle.legs.push(bundle.legs[1].clone()))),
        ("relay_cycle", changed(&relay(of_leg(1)))),
        ("relay_to_later_leg", changed(&relay(of_leg(2)))),
        ("relay_to_later_leg", changed(&relay(of_leg(9)))),
        ("relay_same_rollup", changed(&|bundle: &mut BundleParams| bundle.legs[1].chain_id = U64::from(origin.id))),
        ("ambiguous_relay", changed(&relay(RelayParams { tx_hash: Some(unserved.tx), ..of_leg(0) }))),
        ("unknown_message", changed(&|bundle: &mut BundleParams| bundle.legs[1] = unserved.leg(destination))),
    ];
    for (reason, bundle) in cases {
        assert_eq!(refusal(world, &bundle).await, reason);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_must_not_cross_leaves_nothing_anywhere() {
    let world = lawless().await;
    let all = bundles(&world).await;
    let accounts: Vec<Address> = all.iter().map(|refused| refused.who.address()).chain([user(7).address()]).collect();
    let before = wealth(&world, &accounts).await;
    impossible_relays(&world).await;

    let mut hashes = Vec::new();
    for refused in &all {
        hashes.push(world.lockstep.send(&refused.bundle).await);
    }
    for (hash, refused) in hashes.iter().zip(&all) {
        let obstacle = world.lockstep.blocked(*hash, refused.reason).await;
        assert_eq!((obstacle.rollup, obstacle.leg), (Some(U64::from(refused.rollup)), refused.leg), "{obstacle:?}");
    }
    world.pass(2).await;
    assert_eq!(wealth(&world, &accounts).await, before);
    for (hash, refused) in hashes.iter().zip(&all) {
        let state = world.lockstep.status(*hash).await.state;
        assert_eq!(state, "pending", "{}: another state could still cure it", refused.reason);
    }
}

//! One story a protocol, over HTTP, from a bundle to lists that landed on two rollups; and the ways in which they fail, after
//! which everybody has what they had.

use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_primitives::{Address, B256, Bytes, U64, U256, keccak256};
use alloy_sol_types::sol;
use lockstep_messaging::{
    LogPlace,
    op_interop::{INBOX, Identifier, MESSENGER, access_list},
};
use lockstep_node::{
    dev::{BurnTerms, builder, user},
    keys::Key,
};
use lockstep_rpc::wire::{BundleParams, BundleStatus, LegParams, RelayParams};

use crate::{
    chain::Chain,
    lockstep::places,
    transactions::{Tx, input, relay_leg, txs_leg},
    world::{World, options},
};

sol! {
    function balanceOf(address account) external view returns (uint256);
    function getTokenWrappedAddress(uint32 network, address token) external view returns (address);
    function increment(uint256 key) external;
    function fail(string reason) external;
    function load(uint256 key) external view returns (uint256);
    function transfer(address to, uint256 amount) external returns (bool);
    function depositForBurnWithCaller(uint256 amount, uint32 domain, bytes32 recipient, address token, bytes32 caller) external returns (uint64);
    struct InboxIdentifier { address origin; uint256 blockNumber; uint256 logIndex; uint256 timestamp; uint256 chainId; }
    function validateMessage(InboxIdentifier id, bytes32 payloadHash) external;
}

/// Ten dollars in the smallest unit of USDC.
const TEN_DOLLARS: u64 = 10_000_000;

/// What pays the builder for the dearest relay.
fn toll() -> U256 {
    U256::from(100_000_000_000_000_000_u64)
}

async fn token(chain: &Chain, token: Address, account: Address) -> U256 {
    chain.call(token, &balanceOfCall { account }).await
}

/// A call on the first rollup, the delivery of its message on the second, and the builder's toll there.
async fn crossing(world: &World, who: &Key, to: Address, data: Bytes) -> BundleParams {
    let (origin, destination) = (world.chain(0), world.chain(1));
    let send = Tx::call(origin.id, origin.nonce(who.address()).await, to, data).sign(who);
    let pay = Tx::pay(destination.id, destination.nonce(who.address()).await, builder().address(), toll()).sign(who);
    let legs = vec![txs_leg(origin.id, &[&send]), relay_leg(destination.id, 0, 0), txs_leg(destination.id, &[&pay])];
    BundleParams { legs, ..BundleParams::default() }
}

/// Sends it and waits until it is on both rollups, by one attempt that every sequencer executed.
async fn lands(world: &World, bundle: &BundleParams) -> BundleStatus {
    let hash = world.lockstep.send(bundle).await;
    let status = world.lockstep.landed(hash).await;
    assert_eq!(status.level, "G2");
    let chains: Vec<u64> = places(&status).iter().map(|place| place.chain).collect();
    assert!(chains.contains(&world.chain(0).id) && chains.contains(&world.chain(1).id), "{chains:?}");
    status
}

/// Everything that an account has on every rollup.
async fn everything(world: &World, account: Address) -> Vec<(U256, u64, U256, U256, U256)> {
    let contracts = world.contracts();
    let mut all = Vec::new();
    for chain in world.chains() {
        let held = chain.holdings(account, contracts.usdc).await;
        let interop = token(chain, contracts.interop.token, account).await;
        let mailbox = token(chain, contracts.mailbox.token, account).await;
        all.push((held.native, held.nonce, held.usdc, interop, mailbox));
    }
    all
}

/// Sends bundles of these users, each of which is kept from landing for its reason; then nothing of any of them is anywhere.
async fn all_fail(world: &World, bundles: Vec<(Key, BundleParams, &str)>) {
    let mut before = Vec::new();
    for (who, ..) in &bundles {
        before.push(everything(world, who.address()).await);
    }
    let mut hashes = Vec::new();
    for (_, bundle, _) in &bundles {
        hashes.push(world.lockstep.send(bundle).await);
    }
    for (hash, (_, _, reason)) in hashes.iter().zip(&bundles) {
        world.lockstep.blocked(*hash, reason).await;
    }
    world.pass(2).await;
    for ((who, _, reason), before) in bundles.iter().zip(before) {
        assert_eq!(everything(world, who.address()).await, before, "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cctp_v1_delivers_what_only_the_builder_may() {
    let world = World::start(options()).await;
    let (who, contracts) = (user(0), *world.contracts());
    let before = everything(&world, who.address()).await;
    let burn = depositForBurnWithCallerCall {
        amount: U256::from(TEN_DOLLARS),
        domain: world.domain(1),
        recipient: who.address().into_word(),
        token: contracts.usdc,
        caller: builder().address().into_word(),
    };
    lands(&world, &crossing(&world, &who, contracts.token_messenger, input(&burn)).await).await;
    let after = everything(&world, who.address()).await;
    assert_eq!(after[0].2, before[0].2 - U256::from(TEN_DOLLARS));
    assert_eq!(after[1].2, before[1].2 + U256::from(TEN_DOLLARS));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cctp_v2_mints_standard_and_fast_burns_and_runs_hooks() {
    let world = World::start(options()).await;
    let contracts = *world.contracts();
    let (origin, destination) = (world.chain(0), world.chain(1));
    let amount = U256::from(TEN_DOLLARS);
    let fast = BurnTerms { fast: true, max_fee: U256::from(TEN_DOLLARS / 100), ..BurnTerms::default() };
    let hook = contracts.cctp_v2.with_hook(contracts.probe, &input(&incrementCall { key: U256::from(7) }));
    // One basis point is what attesters of dev take of a fast burn.
    let terms = [(BurnTerms::default(), U256::ZERO), (fast, amount / U256::from(10_000)), (hook, U256::ZERO)];
    for (index, (terms, fee)) in terms.into_iter().enumerate() {
        let who = user(index);
        let (burned, minted) =
            (token(origin, contracts.usdc, who.address()).await, token(destination, contracts.usdc, who.address()).await);
        let burn = contracts.cctp_v2.burn(contracts.usdc, amount, world.domain(1), who.address(), &terms);
        lands(&world, &crossing(&world, &who, contracts.cctp_v2.token_messenger, burn).await).await;
        assert_eq!(token(origin, contracts.usdc, who.address()).await, burned - amount);
        assert_eq!(token(destination, contracts.usdc, who.address()).await, minted + amount - fee);
    }
    let counted = destination.call(contracts.probe, &loadCall { key: U256::from(7) }).await;
    assert_eq!(counted, U256::ONE, "the hook ran once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn op_interop_moves_tokens_both_ways() {
    let world = World::start(options()).await;
    let contracts = *world.contracts();
    let (origin, destination) = (world.chain(0), world.chain(1));
    let (alice, bob) = (user(0), user(1));
    let amount = U256::from(5);
    let there = contracts.interop.send(alice.address(), amount, destination.id);
    let there = crossing(&world, &alice, contracts.interop.token_bridge, there).await;
    let send = contracts.interop.send(bob.address(), amount, origin.id);
    let send = Tx::call(destination.id, 0, contracts.interop.token_bridge, send);
    let send = Tx { nonce: destination.nonce(bob.address()).await, ..send }.sign(&bob);
    let pay = Tx::pay(origin.id, origin.nonce(bob.address()).await, builder().address(), toll()).sign(&bob);
    let back = BundleParams {
        legs: vec![txs_leg(destination.id, &[&send]), relay_leg(origin.id, 0, 0), txs_leg(origin.id, &[&pay])],
        ..BundleParams::default()
    };
    let before = [
        token(destination, contracts.interop.token, alice.address()).await,
        token(origin, contracts.interop.token, bob.address()).await,
    ];
    let hash = world.lockstep.send(&there).await;
    lands(&world, &back).await;
    world.lockstep.landed(hash).await;
    assert_eq!(token(destination, contracts.interop.token, alice.address()).await, before[0] + amount);
    assert_eq!(token(origin, contracts.interop.token, bob.address()).await, before[1] + amount);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_executes_a_message_that_landed_before_and_none_that_did_not() {
    let world = World::start(options()).await;
    let contracts = *world.contracts();
    let (origin, destination) = (world.chain(0), world.chain(1));
    let sender = user(0);
    let call = contracts.interop.send_message(destination.id, contracts.probe, input(&incrementCall { key: U256::from(9) }));
    let send = Tx::call(origin.id, origin.nonce(sender.address()).await, MESSENGER, call).sign(&sender);
    origin.send(&send).await;
    let receipt: serde_json::Value = {
        origin.mined(send.hash()).await;
        origin.ask("eth_getTransactionReceipt", [send.hash()]).await
    };
    let log = &receipt["logs"][0];
    let number = |value: &serde_json::Value| {
        let text = value.as_str().expect("a quantity").trim_start_matches("0x");
        u64::from_str_radix(text, 16).expect("a quantity")
    };
    let block = number(&receipt["blockNumber"]);
    let place = LogPlace { block, timestamp: origin.block(block).await.timestamp(), index: number(&log["logIndex"]) };
    let mut payload: Vec<u8> = Vec::new();
    for topic in log["topics"].as_array().expect("topics") {
        payload.extend_from_slice(topic.as_str().expect("hex").parse::<B256>().expect("a word").as_slice());
    }
    payload.extend_from_slice(&log["data"].as_str().expect("hex").parse::<Bytes>().expect("bytes"));
    let id = Identifier::new(MESSENGER, U256::from(origin.id), place).expect("it fits");

    let execute = async |who: &Key, id: &Identifier, hash: B256| {
        let data = validateMessageCall {
            id: InboxIdentifier {
                origin: id.origin,
                blockNumber: U256::from(id.block_number),
                logIndex: U256::from(id.log_index),
                timestamp: U256::from(id.timestamp),
                chainId: id.chain_id,
            },
            payloadHash: hash,
        };
        let storage_keys = access_list::encode(id, hash);
        let access_list = AccessList(vec![AccessListItem { address: INBOX, storage_keys }]);
        let nonce = destination.nonce(who.address()).await;
        let tx = Tx { access_list, ..Tx::call(destination.id, nonce, INBOX, input(&data)) }.sign(who);
        BundleParams { legs: vec![txs_leg(destination.id, &[&tx])], ..BundleParams::default() }
    };
    let right = execute(&user(1), &id, keccak256(&payload)).await;
    let hash = world.lockstep.send(&right).await;
    world.lockstep.landed(hash).await;
    let elsewhere = Identifier { log_index: id.log_index + 1, ..id };
    all_fail(
        &world,
        vec![
            (user(2), execute(&user(2), &elsewhere, keccak256(&payload)).await, "uncertain_message"),
            (user(3), execute(&user(3), &id, keccak256(b"another payload")).await, "uncertain_message"),
            (
                user(4),
                execute(&user(4), &Identifier { chain_id: U256::from(1), ..id }, keccak256(&payload)).await,
                "uncertain_message",
            ),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agglayer_brings_an_asset_over() {
    let world = World::start(options()).await;
    let contracts = *world.contracts();
    let (origin, destination) = (world.chain(0), world.chain(1));
    let amount = U256::from(TEN_DOLLARS);
    // Two in a row: the second one's tree holds the first's exit, which landed.
    for (index, expected) in [(0, 1_u64), (1, 1)] {
        let who = user(index);
        let before = token(origin, contracts.usdc, who.address()).await;
        let exit = contracts.agglayer.send_asset(world.network(1), who.address(), contracts.usdc, amount);
        lands(&world, &crossing(&world, &who, contracts.agglayer.bridge, exit).await).await;
        assert_eq!(token(origin, contracts.usdc, who.address()).await, before - amount);
        let wrapped = getTokenWrappedAddressCall { network: world.network(0), token: contracts.usdc };
        let wrapped = destination.call(contracts.agglayer.bridge, &wrapped).await;
        assert_eq!(token(destination, wrapped, who.address()).await, amount * U256::from(expected));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mailbox_brings_tokens_over() {
    let world = World::start(options()).await;
    let contracts = *world.contracts();
    let (origin, destination) = (world.chain(0), world.chain(1));
    let who = user(0);
    let (amount, session) = (U256::from(9), U256::from(1));
    let before = everything(&world, who.address()).await;
    let send = contracts.mailbox.send(destination.id, who.address(), amount, session);
    let mut bundle = crossing(&world, &who, contracts.mailbox.token_bridge, send).await;
    let receive = contracts.mailbox.receive(origin.id, who.address(), who.address(), amount, session);
    let nonce = destination.nonce(who.address()).await + 1;
    let receive = Tx::call(destination.id, nonce, contracts.mailbox.token_bridge, receive).sign(&who);
    bundle.legs.push(txs_leg(destination.id, &[&receive]));
    lands(&world, &bundle).await;
    let after = everything(&world, who.address()).await;
    assert_eq!((after[0].4, after[1].4), (before[0].4 - amount, before[1].4 + amount));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_delivered_leaves_everybody_as_they_were() {
    let world = World::start(options()).await;
    let contracts = *world.contracts();
    let destination = world.chain(1);
    let amount = U256::from(TEN_DOLLARS);
    let burn_v2 =
        |who: &Key, terms: &BurnTerms| contracts.cctp_v2.burn(contracts.usdc, amount, world.domain(1), who.address(), terms);
    let messenger = contracts.cctp_v2.token_messenger;
    let mut bundles = Vec::new();

    let who = user(0);
    let theirs = BurnTerms { caller: Some(Address::repeat_byte(0x57)), ..BurnTerms::default() };
    bundles.push((who.clone(), crossing(&world, &who, messenger, burn_v2(&who, &theirs)).await, "restricted_caller"));

    let who = user(1);
    let cheap = BurnTerms { fast: true, max_fee: U256::ONE, ..BurnTerms::default() };
    bundles.push((who.clone(), crossing(&world, &who, messenger, burn_v2(&who, &cheap)).await, "no_evidence"));

    let who = user(2);
    let broken = contracts.cctp_v2.with_hook(contracts.probe, &input(&failCall { reason: "no".to_owned() }));
    bundles.push((who.clone(), crossing(&world, &who, messenger, burn_v2(&who, &broken)).await, "reverted"));

    let who = user(3);
    let nowhere = contracts.burn(amount, 77, who.address());
    bundles.push((who.clone(), crossing(&world, &who, contracts.token_messenger, nowhere).await, "reverted"));

    let who = user(4);
    let unserved = contracts.interop.send(who.address(), U256::ONE, 4_242);
    bundles.push((who.clone(), crossing(&world, &who, contracts.interop.token_bridge, unserved).await, "wrong_destination"));

    let who = user(5);
    let send = contracts.interop.send(who.address(), U256::ONE, destination.id);
    let mut after_mint = crossing(&world, &who, contracts.interop.token_bridge, send).await;
    let too_much = input(&transferCall { to: builder().address(), amount: U256::MAX });
    let nonce = destination.nonce(who.address()).await + 1;
    let too_much = Tx::call(destination.id, nonce, contracts.interop.token, too_much).sign(&who);
    after_mint.legs.push(txs_leg(destination.id, &[&too_much]));
    bundles.push((who, after_mint, "reverted"));

    let who = user(6);
    let send = contracts.interop.send(who.address(), U256::ONE, destination.id);
    let mut other = crossing(&world, &who, contracts.interop.token_bridge, send).await;
    other.legs[1].relay = Some(RelayParams { leg: Some(0), message: 1, ..RelayParams::default() });
    bundles.push((who, other, "no_such_message"));

    all_fail(&world, bundles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terms_and_settings_that_forbid_a_crossing_are_named() {
    let world = World::start_with(options(), |setup| {
        if let Some(sequencer) = setup.rollups[1].sequencer.as_mut() {
            sequencer.terms.same_slot_claims = false;
        }
        if let Some(interop) = setup.rollups[1].deployments.interop.as_mut() {
            interop.depends_on.clear();
        }
        // Attesters that sign in later slots only.
        if let Some(builder) = setup.builder.as_mut() {
            builder.attesters.clear();
        }
    })
    .await;
    let contracts = *world.contracts();
    let amount = U256::from(TEN_DOLLARS);
    let (alice, bob, carol) = (user(0), user(1), user(2));
    let exit = contracts.agglayer.send_asset(world.network(1), alice.address(), contracts.usdc, amount);
    let send = contracts.interop.send(bob.address(), amount, world.chain(1).id);
    let burn = contracts.burn(amount, world.domain(1), carol.address());
    let bundles = vec![
        (alice.clone(), crossing(&world, &alice, contracts.agglayer.bridge, exit).await, "same_slot_claim"),
        (bob.clone(), crossing(&world, &bob, contracts.interop.token_bridge, send).await, "not_in_dependency_set"),
        (carol.clone(), crossing(&world, &carol, contracts.token_messenger, burn).await, "no_evidence"),
    ];
    all_fail(&world, bundles).await;
    // And nobody else is the worse for it.
    let (dave, payee) = (user(3), Address::repeat_byte(0x44));
    let tx = Tx::pay(world.chain(1).id, world.chain(1).nonce(dave.address()).await, payee, U256::ONE).sign(&dave);
    world.chain(1).send(&tx).await;
    assert!(world.chain(1).mined(tx.hash()).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burn_that_landed_alone_is_minted_in_a_later_slot_once() {
    let world = World::start(options()).await;
    let contracts = *world.contracts();
    let (origin, destination) = (world.chain(0), world.chain(1));
    let (who, amount) = (user(0), U256::from(TEN_DOLLARS));
    let before = token(destination, contracts.usdc, who.address()).await;
    let burn = contracts.burn(amount, world.domain(1), who.address());
    let burn = Tx::call(origin.id, origin.nonce(who.address()).await, contracts.token_messenger, burn).sign(&who);
    origin.send(&burn).await;
    origin.mined(burn.hash()).await;

    let relay =
        RelayParams { message: 0, chain_id: Some(U64::from(origin.id)), tx_hash: Some(burn.hash()), ..RelayParams::default() };
    let relay = LegParams { chain_id: U64::from(destination.id), relay: Some(relay), ..LegParams::default() };
    let deliver = async |who: &Key| {
        let nonce = destination.nonce(who.address()).await;
        let pay = Tx::pay(destination.id, nonce, builder().address(), toll()).sign(who);
        BundleParams { legs: vec![relay.clone(), txs_leg(destination.id, &[&pay])], ..BundleParams::default() }
    };
    let hash = world.lockstep.send(&deliver(&user(1)).await).await;
    world.lockstep.landed(hash).await;
    assert_eq!(token(destination, contracts.usdc, who.address()).await, before + amount);

    let again = world.lockstep.send(&deliver(&user(2)).await).await;
    world.lockstep.blocked(again, "message_delivered").await;
    world.pass(2).await;
    assert_eq!(token(destination, contracts.usdc, who.address()).await, before + amount);
}

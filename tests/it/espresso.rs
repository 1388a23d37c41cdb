//! The interface of Espresso's marketplace solver, as its bidders use it.

use alloy_primitives::{U256, eip191_hash_message};
use lockstep_market::EspressoBid;
use lockstep_node::{dev::DevOptions, keys::Key, process::MarketSetup};
use lockstep_rpc::wire::{BidTxBodyWire, BidTxWire, EcdsaParts, FeeAmount, SolverAuctionResultsWire};
use serde_json::{Value, json};

use crate::{
    market::{stranger, whole},
    signed::request,
    wait::until,
    world::{World, options},
};

async fn solver() -> World {
    World::start_with(DevOptions { slot_ms: 2_000, block_times: vec![2], ..options() }, |setup| {
        let MarketSetup::Own(own) = &mut setup.market else { panic!("dev plays the market") };
        own.espresso = true;
    })
    .await
}

async fn get(world: &World, path: &str) -> (u16, Value) {
    request(&format!("{}/marketplace-solver/{path}", world.url()), None).await
}

async fn post(world: &World, path: &str, body: &Value) -> (u16, Value) {
    request(&format!("{}/marketplace-solver/{path}", world.url()), Some(&body.to_string())).await
}

fn message(answer: &Value) -> &str {
    answer["Custom"]["message"].as_str().expect("an error of the solver's form")
}

fn bid_tx(key: &Key, view: u64, namespaces: &[u64], bid_amount: U256) -> BidTxWire {
    let url = "http://localhost:3939/".to_owned();
    let (account, gas_price, namespaces) = (key.address(), U256::from(1), namespaces.to_vec());
    let bid = EspressoBid { account, gas_price, bid_amount, url: url.clone(), view, namespaces: namespaces.clone() };
    let signature = key.sign_bytes(eip191_hash_message(bid.commitment()));
    BidTxWire {
        body: BidTxBodyWire {
            account,
            gas_price: FeeAmount(gas_price),
            bid_amount: FeeAmount(bid_amount),
            url,
            view,
            namespaces,
        },
        signature: EcdsaParts::new(&signature).expect("65 bytes"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bid_tx_wins_a_view_and_every_refusal_has_a_code() {
    let world = solver().await;
    let key = stranger();
    world.credit(key.address(), whole(100)).await;
    let chains: Vec<u64> = world.chains().iter().map(|chain| chain.id).collect();
    let (status, registered) = get(&world, "rollup_registrations").await;
    assert_eq!((status, registered.as_array().map(Vec::len)), (200, Some(chains.len())));
    assert_eq!(registered[0]["body"]["namespace_id"], json!(chains[0]));
    assert_ne!(registered[0]["body"]["reserve_price"], json!("0"));

    let refusals = [
        (post(&world, "submit_bid", &json!({ "body": {} })).await, 400, "malformed_bid"),
        (post(&world, "register_rollup", &json!({})).await, 501, "unsupported_signature_key"),
        (post(&world, "update_rollup", &json!({})).await, 501, "unsupported_signature_key"),
        (get(&world, "auction_results/99999999").await, 404, "not_final"),
        (get(&world, "auction_results/soon").await, 400, "malformed_view"),
        (get(&world, "auction_results_permissioned/1/SIGNATURE~x").await, 501, "unsupported_permission"),
        (get(&world, "submit_bid").await, 404, "unknown_path"),
    ];
    for ((status, answer), expected, code) in refusals {
        assert_eq!(status, expected, "{answer}");
        assert!(message(&answer).starts_with(&format!("{code}: ")), "{answer}");
    }
    let other = BidTxWire {
        signature: bid_tx(&Key::of_name("another"), 1, &chains, whole(1)).signature,
        ..bid_tx(&key, 1, &chains, whole(1))
    };
    let view = until("a bid comes in time", async || {
        let view = world.lockstep.open_slot().await.slot;
        let bid = serde_json::to_value(bid_tx(&key, view, &chains, whole(1))).expect("a bid is JSON");
        let (status, answer) = post(&world, "submit_bid", &bid).await;
        (status == 200 && answer == json!("Bid Submitted")).then_some(view)
    })
    .await;
    let forged = BidTxWire { body: BidTxBodyWire { view: view + 1, ..other.body.clone() }, ..other };
    let (status, answer) = post(&world, "submit_bid", &serde_json::to_value(forged).expect("a bid is JSON")).await;
    assert!(status == 400 && message(&answer).starts_with("wrong_bid_signer: "), "{answer}");
    let dear = bid_tx(&key, view + 1, &chains, whole(200));
    let (_, answer) = post(&world, "submit_bid", &serde_json::to_value(dear).expect("a bid is JSON")).await;
    assert!(message(&answer).starts_with("deposit_too_small: "), "{answer}");

    world.lockstep.allocation(view).await;
    let results = until("the view is final", async || {
        let (status, answer) = get(&world, &format!("auction_results/{view}")).await;
        (status == 200).then(|| serde_json::from_value::<SolverAuctionResultsWire>(answer).expect("results"))
    })
    .await;
    assert_eq!((results.view_number, results.winning_bids), (view, vec![bid_tx(&key, view, &chains, whole(1))]));
    assert!(results.reserve_bids.is_empty());
    let grants = world.lockstep.allocation(view).await.grants;
    assert_eq!((grants[0].proposer, grants[0].price.0), (key.address(), whole(1) + U256::from(1)));
    // A view that nobody bought: its rollups' own sequencers.
    let (_, empty) = get(&world, &format!("auction_results/{}", view - 1)).await;
    assert!(empty["winning_bids"].as_array().is_none_or(Vec::is_empty), "{empty}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_it_there_is_no_such_path() {
    let world = World::start(options()).await;
    let url = format!("{}/marketplace-solver/rollup_registrations", world.url());
    assert_eq!(request(&url, None).await.0, 404);
}

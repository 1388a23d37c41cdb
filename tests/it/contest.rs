//! Who gets a slot when several want it: asserted from what is answered as JSON.

use alloy_primitives::{Address, U64, U256};
use jsonrpsee::{core::client::ClientT, rpc_params};
use lockstep_node::dev::{Contest, RunningContest, builder, rival, silent};
use serde_json::{Value, json};

use crate::{
    wait::until,
    world::{World, options},
};

/// How many slots a contest may take until it shows what it is about: builders may come too late for the first ones.
const MAX_SLOTS: u64 = 12;

/// A slot once it is over: its report, and of each rollup what it brought.
async fn over(world: &World, slot: u64) -> (Value, Vec<Value>) {
    let client = &world.lockstep.client;
    let report = serde_json::to_value(world.lockstep.report(slot).await).expect("a report is JSON");
    let mut revenue = Vec::new();
    for chain in world.chains() {
        let params = rpc_params![U64::from(chain.id), json!({ "fromSlot": slot, "toSlot": slot + 1 })];
        let one = until("the slot has ended on the rollup", async || {
            let answer: Value = client.request("market_getRevenue", params.clone()).await.expect("the market answers");
            Some(answer["slots"][0].clone()).filter(|one| one["ending"].is_string())
        })
        .await;
        revenue.push(one);
    }
    (report, revenue)
}

fn holder(revenue: &Value) -> Address {
    serde_json::from_value(revenue["holder"].clone()).expect("somebody held the right")
}

/// On a busy machine a winner may come too late: then the next slot is as good.
fn is_delivered(revenue: &Value) -> bool {
    revenue["ending"] == json!("delivered")
}

fn amount(value: &Value) -> U256 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn bid_of(report: &Value, bidder: Address, rollups: usize) -> Option<U256> {
    let bids = report["bids"].as_array().expect("a report lists the bids").iter();
    let mut its = bids.filter(|bid| bid["bidder"] == json!(bidder) && bid["rollups"].as_array().map(Vec::len) == Some(rollups));
    its.next().map(|bid| amount(&bid["amount"]))
}

/// Plays a contest until a slot shows what is looked for.
async fn play(contest: Contest, mut shows: impl FnMut(&Value, &[Value]) -> bool) {
    let world = World::start(contest.options(options())).await;
    let mut running = RunningContest::start(contest, world.dev()).await.expect("the rivals start");
    let first = world.lockstep.open_slot().await.slot;
    for slot in first..first + MAX_SLOTS {
        running.play(world.dev()).await;
        let (report, revenue) = over(&world, slot).await;
        if shows(&report, &revenue) {
            running.stop().await;
            return;
        }
    }
    panic!("no slot of {MAX_SLOTS} shows what {contest:?} is about");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bidder_for_two_rollups_outbids_singles_on_both_by_a_bundle_over_both() {
    play(Contest::Crossing, |report, revenue| {
        let singles = [bid_of(report, rival(0).address(), 1), bid_of(report, rival(1).address(), 1)];
        let ([Some(a), Some(b)], Some(package)) = (singles, bid_of(report, builder().address(), 2)) else { return false };
        // All three bid: the package has to pay each rollup what its rival would have.
        assert!(package > a + b, "the bundle is worth more than both singles");
        for (one, single) in revenue.iter().zip([a, b]) {
            assert_eq!(holder(one), builder().address(), "{one}");
            if !is_delivered(one) {
                return false;
            }
            assert!(amount(&one["price"]) >= single && one["paid"] == one["price"], "{one}");
        }
        assert_eq!(revenue.iter().map(|one| amount(&one["price"])).fold(U256::ZERO, |sum, price| sum + price), package);
        true
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn singles_that_are_worth_more_win_against_a_bundle_over_both() {
    play(Contest::Singles, |report, revenue| {
        let singles = [bid_of(report, rival(0).address(), 1), bid_of(report, rival(1).address(), 1)];
        let ([Some(a), Some(b)], Some(package)) = (singles, bid_of(report, builder().address(), 2)) else { return false };
        assert!(package < a + b);
        for (index, (one, single)) in revenue.iter().zip([a, b]).enumerate() {
            assert_eq!((holder(one), amount(&one["price"])), (rival(index).address(), single), "{one}");
            if !is_delivered(one) {
                return false;
            }
            assert_eq!(one["paid"], one["price"]);
        }
        true
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reserves_stop_the_sale_and_default_proposers_build() {
    play(Contest::Reserves, |report, revenue| {
        assert_eq!(report["bids"], json!([]), "nothing is worth the reserve");
        let mut earned = false;
        for one in revenue {
            assert_eq!((&one["how"], &one["price"], &one["ending"]), (&json!("default"), &json!("0"), &json!("delivered")));
            assert!(one["paid"].is_null());
            earned |= one["earned"].is_string();
        }
        earned
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_winner_pays_and_the_default_proposers_take_over() {
    play(Contest::Silent, |report, revenue| {
        if revenue.iter().any(|one| holder(one) != silent().address()) {
            return false;
        }
        for (one, blocks) in revenue.iter().zip(report["rollups"].as_array().expect("a report lists the rollups")) {
            assert_eq!(one["ending"], json!("taken_over"));
            assert_eq!(amount(&one["paid"]), amount(&one["price"]) - amount(&one["earned"]));
            assert_eq!(blocks["blocks"].as_array().map(Vec::len), Some(1), "there is a block nevertheless");
        }
        true
    })
    .await;
}

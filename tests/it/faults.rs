//! Real nodes that fail or turn back under a running process.

use alloy_primitives::{Address, U256};
use lockstep_node::keys::Key;
use lockstep_primitives::BundleState;
use lockstep_rpc::wire::BundleParams;
use lockstep_testkit::Fault;
use serde_json::Value;

use crate::{
    anvil::Rig,
    lockstep::places,
    node::binary,
    transactions::{Tx, txs_leg},
    wait::until,
};

/// A bundle of one payment on the origin.
async fn payment(rig: &Rig, key: &Key) -> BundleParams {
    let chain = &rig.origin.chain;
    let nonce = chain.nonce(key.address()).await;
    let tx = Tx::pay(chain.id, nonce, Address::repeat_byte(0x77), U256::from(1)).sign(key);
    BundleParams { legs: vec![txs_leg(chain.id, &[&tx])], ..BundleParams::default() }
}

/// What `/readyz` says of a rollup.
async fn ready(rig: &Rig, chain: u64) -> Value {
    let page = rig.page("/readyz").await;
    let page: Value = serde_json::from_str(&page).expect("readiness is JSON");
    page["rollups"][chain.to_string()].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_mid_slot_degrades_its_own_rollup_only() {
    let Some(binary) = binary("a_node_that_dies_mid_slot_degrades_its_own_rollup_only") else { return };
    let rig = Rig::start(&binary, 2, [1, 2]).await;
    let (origin, destination) = (rig.origin.chain.id, rig.destination.chain.id);
    let payer = Key::of_name("a payer");
    rig.origin.fund(&[payer.address()]).await;

    rig.way.set(Fault::Dead).await.expect("the way breaks");
    until("the destination is degraded by name", async || {
        let told = ready(&rig, destination).await;
        (told["state"] == "degraded" && told["code"] == "node_unreachable").then_some(())
    })
    .await;
    // The other rollup goes on: its bundles land while the destination is away.
    let hash = rig.lockstep.send(&payment(&rig, &payer).await).await;
    rig.lockstep.landed(hash).await;
    assert_eq!(ready(&rig, origin).await["state"], "ok");

    // A web page is no node either, and is told apart.
    rig.way.set(Fault::WebPage).await.expect("the way changes");
    until("the destination's answers are named", async || {
        (ready(&rig, destination).await["code"] == "not_json_rpc").then_some(())
    })
    .await;

    rig.way.set(Fault::None).await.expect("the way is well again");
    until("the destination is taken up again", async || (ready(&rig, destination).await["state"] == "ok").then_some(())).await;
    rig.story().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reorged_bundle_is_told_and_lands_again() {
    let Some(binary) = binary("a_reorged_bundle_is_told_and_lands_again") else { return };
    let rig = Rig::start(&binary, 4, [4, 4]).await;
    let payer = Key::of_name("a payer");
    rig.origin.fund(&[payer.address()]).await;
    // anvil forgets a balance that was set by hand when it turns back beyond it: a block seals it.
    let first = rig.lockstep.send(&payment(&rig, &payer).await).await;
    rig.lockstep.landed(first).await;

    let hash = rig.lockstep.send(&payment(&rig, &payer).await).await;
    let placed = places(&rig.lockstep.landed(hash).await);
    let [payment] = placed.as_slice() else { panic!("one transaction: {placed:?}") };
    let height = rig.origin.chain.height().await;
    let _: Value = rig.origin.chain.ask("anvil_rollback", (height - payment.block + 1,)).await;
    assert!(rig.origin.chain.receipt(payment.hash).await.is_none(), "the block is gone");

    let status = until("the bundle is told to be reorged and lands again", async || {
        let status = rig.lockstep.status(hash).await;
        let steps: Vec<&str> = status.history.iter().map(|event| event.state.as_str()).collect();
        let reorged = steps.iter().position(|step| *step == BundleState::Reorged.as_str())?;
        steps[reorged..].contains(&BundleState::Landed.as_str()).then_some(status)
    })
    .await;
    let again = places(&status);
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].hash, payment.hash);
    let block = rig.origin.chain.block(again[0].block).await;
    assert!(block.transactions.contains(&payment.hash));
    let steps: Vec<&str> = status.history.iter().map(|event| event.state.as_str()).collect();
    let reorged = steps.iter().position(|step| *step == BundleState::Reorged.as_str()).expect("it was reorged");
    assert!(steps[reorged..].contains(&BundleState::Pending.as_str()), "back to pending in between: {steps:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_that_lost_one_leg_to_a_reorg_says_which() {
    let Some(binary) = binary("a_bundle_that_lost_one_leg_to_a_reorg_says_which") else { return };
    let rig = Rig::start(&binary, 4, [4, 4]).await;
    let (_, hash) = rig.story().await;
    let placed = places(&rig.lockstep.status(hash).await);
    let bought = placed.last().expect("three transactions").block;
    let height = rig.destination.chain.height().await;
    let _: Value = rig.destination.chain.ask("anvil_rollback", (height - bought + 1,)).await;
    let status = until("the bundle is told to be reorged", async || {
        let status = rig.lockstep.status(hash).await;
        (status.state == BundleState::Reorged.as_str()).then_some(status)
    })
    .await;
    let step = status.history.last().expect("it has steps");
    let text = step.text.clone().unwrap_or_default();
    assert!(text.contains(&rig.destination.chain.id.to_string()), "names the rollup: {step:?}");
    let [burn, mint, buy] = [0, 1, 2].map(|leg: usize| status.legs[leg].transactions[0].block_number);
    assert!(burn.is_some(), "the burn stands");
    assert_eq!((mint, buy), (None, None), "what was dropped is in no block");
}

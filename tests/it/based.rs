//! L1's proposers in the market: whose turn a beacon node tells builds L1 together with the rollups that it buys.

use std::collections::BTreeMap;

use alloy_primitives::U64;
use lockstep_market::L1Terms;
use lockstep_node::{
    dev::{DevOptions, builder, user},
    process::{L1Plan, MarketSetup},
};
use lockstep_provider::ValidatorKey;
use lockstep_rpc::api::MarketApiClient;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};

use crate::{
    wait::until,
    world::{World, options},
};

/// L1 slots of an epoch.
const EPOCH_SLOTS: u64 = 32;

/// A beacon node by which it is always this validator's turn.
async fn beacon(validator: ValidatorKey) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (reader, mut writer) = stream.split();
            let mut lines = BufReader::new(reader).lines();
            let Ok(Some(first)) = lines.next_line().await else { continue };
            while lines.next_line().await.is_ok_and(|line| line.is_some_and(|line| !line.is_empty())) {}
            let epoch = first.split(['/', ' ']).find_map(|part| part.parse::<u64>().ok().filter(|epoch| *epoch > 1_000));
            let slots = epoch.map_or(0..0, |epoch| epoch * EPOCH_SLOTS..(epoch + 1) * EPOCH_SLOTS);
            let duties: Vec<_> =
                slots.map(|slot| json!({ "pubkey": validator, "validator_index": "0", "slot": slot.to_string() })).collect();
            let body = json!({ "dependent_root": "0x", "execution_optimistic": false, "data": duties }).to_string();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            // A caller that goes away is its own affair.
            let _ = writer.write_all((head + &body).as_bytes()).await;
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1s_proposer_builds_it_together_with_the_rollups_that_it_buys() {
    let validator = ValidatorKey::repeat_byte(0xb1);
    let beacon = beacon(validator).await;
    let world = World::start_with(DevOptions { rollups: 3, ..options() }, |setup| {
        let l1 = &setup.rollups[2];
        let terms = L1Terms { chain: l1.chain, genesis_s: 0, slot_s: 1 };
        let proposers = BTreeMap::from([(validator, builder().address())]);
        let MarketSetup::Own(own) = &mut setup.market else { panic!("dev plays the market") };
        own.l1 = Some(L1Plan { terms, beacon, proposers });
        setup.rollups[0].sequencer.as_mut().expect("dev plays every sequencer").terms.follows_l1 = true;
    })
    .await;
    let market = &world.lockstep.client;
    let l1 = U64::from(world.chain(2).id);
    let held = until("L1's proposer is known", async || {
        let slot = world.lockstep.open_slot().await;
        assert!(slot.on_sale.iter().all(|sale| sale.chain_id != l1), "L1 is for sale");
        slot.held.into_iter().find(|held| held.sale.chain_id == l1 && held.proposer == builder().address())
    })
    .await;
    assert_ne!(held.sale.default_proposer, builder().address(), "it is by its turn, not by the terms");
    let bundle = world.lockstep.send(&world.story(&user(0), 1).await).await;
    let landed = world.lockstep.landed(bundle).await;
    let block = landed.legs[0].transactions[0].block_number.expect("it landed").to();
    let slot = world.slot_of(world.chain(0).id, block).await;
    let rights = market.get_rights(slot).await.expect("the market answers");
    let view = |index: usize| {
        let chain = U64::from(world.chain(index).id);
        let right = rights.iter().find(|right| right.chain_id == chain).expect("every rollup has a right");
        (right.proposer, right.how.as_str(), right.l1_view.as_deref())
    };
    let own = builder().address();
    assert_eq!(view(0), (own, "just_in_time", Some("same_slot")));
    assert_eq!(view(1), (own, "just_in_time", Some("own_rules")));
    assert_eq!(view(2), (own, "default", Some("own_rules")));
    let report = world.lockstep.report(slot).await;
    assert_eq!(report.allocation.iter().filter(|grant| grant.proposer == own).flat_map(|grant| &grant.rollups).count(), 3);
}

//! Slots that are sold ahead of time, and what becomes of the rights until they run.

use alloy_primitives::{Address, U64, U256};
use lockstep_node::{
    dev::{DevOptions, builder, user},
    keys::Key,
};
use lockstep_primitives::{EpochBid, RightOffer, RightTransfer, TransferKind};
use lockstep_rpc::{
    api::MarketApiClient,
    wire::{EpochBidWire, EpochView, RightOfferWire, RightTransferWire, RightView},
};

use crate::{
    lockstep::refused,
    market::{all, ledger, revenue, stranger, whole},
    wait::until,
    world::{World, options},
};

/// The epoch that is being sold, with at least that much time left.
async fn sold_now(world: &World) -> EpochView {
    until("an epoch is sold", async || world.lockstep.client.get_epoch(None).await.expect("the market answers")).await
}

fn signed(bid: &EpochBid, key: &Key) -> EpochBidWire {
    EpochBidWire::new(bid, key.sign_bytes(bid.digest()))
}

fn transferred(transfer: &RightTransfer, holder: &Key, taker: &Key) -> RightTransferWire {
    let digest = transfer.digest();
    RightTransferWire::new(transfer, holder.sign_bytes(digest), taker.sign_bytes(digest))
}

async fn rights(world: &World, slot: u64) -> Vec<RightView> {
    world.lockstep.client.get_rights(slot).await.expect("the market answers")
}

fn holders(rights: &[RightView]) -> Vec<(Address, &str)> {
    rights.iter().map(|right| (right.holder, right.how.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_is_bought_and_its_rights_are_kept_resold_and_offered() {
    let world = World::start_with(DevOptions { ahead: true, ..options() }, |setup| {
        setup.builder.as_mut().expect("dev plays a builder").bids_ahead = false;
    })
    .await;
    let (market, key) = (&world.lockstep.client, stranger());
    world.credit(key.address(), whole(100)).await;
    let rollups = all(&world);
    // Bids come in time for an epoch that has just come up for sale.
    let first = sold_now(&world).await.epoch;
    let view = until("the next epoch is sold", async || Some(sold_now(&world).await).filter(|view| view.epoch > first)).await;
    assert_eq!((view.slots, view.on_sale.len(), view.state.as_str()), (4, rollups.len(), "open"));
    assert!(view.on_sale.iter().all(|lot| lot.slots.len() == 4), "every rollup has a block in every slot");
    let reserves = view.on_sale.iter().fold(U256::ZERO, |sum, lot| sum + lot.reserve.0);
    let bid = EpochBid { epoch: view.epoch, rollups: rollups.clone(), amount: whole(8), exclusive: None, nonce: 1 };
    let low = EpochBid { amount: reserves - U256::ONE, ..bid.clone() };
    assert_eq!(refused(market.submit_epoch_bid(signed(&low, &key)).await).1, "below_reserve");
    let dear = EpochBid { amount: whole(100), ..bid.clone() };
    assert_eq!(refused(market.submit_epoch_bid(signed(&dear, &key)).await).1, "deposit_too_small");
    let other = EpochBid { epoch: view.epoch + 9, ..bid.clone() };
    assert_eq!(refused(market.submit_epoch_bid(signed(&other, &key)).await).1, "epoch_not_open");
    market.submit_epoch_bid(signed(&bid, &key)).await.expect("anybody may bid");

    let [kept, resold, offered, _] = [0, 1, 2, 3].map(|index| view.first_slot + index);
    let granted = until("the epoch is sold", async || Some(rights(&world, kept).await).filter(|known| !known.is_empty())).await;
    assert_eq!(holders(&granted), [(key.address(), "ahead"), (key.address(), "ahead")]);
    let closed = market.get_epoch(Some(view.epoch)).await.expect("the market answers").expect("it is known");
    assert_eq!((closed.state.as_str(), closed.bids.len(), closed.bids[0].bidder), ("closed", 1, key.address()));

    // One slot is resold to the builder, one offered to whoever bids more than it costs.
    let price = whole(1) / U256::from(2);
    let amounts = |amount: U256| rollups.iter().map(|chain| (*chain, amount)).collect();
    let resale = RightTransfer { how: TransferKind::Resale, slot: resold, amounts: amounts(price), to: builder().address() };
    let forged = transferred(&resale, &key, &key);
    assert_eq!(refused(market.transfer_rights(forged).await).1, "wrong_request_signer");
    market.transfer_rights(transferred(&resale, &key, &builder())).await.expect("both have signed");
    let again = market.transfer_rights(transferred(&resale, &builder(), &key)).await;
    assert_eq!(refused(again).1, "wrong_request_signer", "its buyer is named");
    let offer = RightOffer { slot: offered, amounts: amounts(U256::ONE) };
    market.offer_rights(RightOfferWire::new(&offer, key.sign_bytes(offer.digest()))).await.expect("bidding has not begun");

    // The stranger builds nothing in the slot that it kept, and pays for that.
    let open = until("the kept slot is open", async || market.get_market_slot(Some(kept)).await.ok()).await;
    assert!(open.on_sale.is_empty() && open.held.len() == rollups.len());
    assert!(open.held.iter().all(|held| held.proposer == key.address()));
    world.lockstep.allocation(kept).await;
    // The builder uses what it bought for a bundle that came when the kept slot was closed, and bids for what is offered for
    // another one.
    let first = world.lockstep.send(&world.story(&user(0), 1).await).await;
    world.lockstep.allocation(resold).await;
    let second = world.lockstep.send(&world.story(&user(1), 2).await).await;
    for bundle in [first, second] {
        let landed = world.lockstep.landed(bundle).await;
        let block = landed.legs[0].transactions[0].block_number.expect("it landed").to();
        let slot = world.slot_of(world.chain(0).id, block).await;
        assert!((resold..=offered).contains(&slot) || slot >= view.first_slot + view.slots, "slot {slot} was the stranger's");
        if slot == offered {
            let delegated = rights(&world, offered).await;
            assert!(delegated.iter().all(|right| right.proposer == builder().address() && right.holder == key.address()));
            assert!(delegated.iter().any(|right| right.delegated_for.is_some_and(|price| price.0 > U256::ONE)));
        }
    }
    let ended = revenue(&world, 0, kept).await;
    assert_eq!((ended.ending.as_deref(), ended.paid.map(|paid| paid.0)), (Some("taken_over"), Some(granted[0].price.0)));
    let used = rights(&world, resold).await;
    assert_eq!(holders(&used), [(builder().address(), "ahead"), (builder().address(), "ahead")]);
    assert_eq!(used[0].resold_for.map(|paid| paid.0), Some(price));
    let seller = ledger(&world, &key).await;
    assert!(seller.postings.iter().any(|posting| posting.kind == "resale"), "it was paid for what it resold");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_builder_buys_an_epoch_by_what_past_slots_were_worth() {
    let world = World::start_with(DevOptions { ahead: true, ..options() }, |setup| {
        let builder = setup.builder.as_mut().expect("dev plays a builder");
        // One good slot is enough for it.
        (builder.forecast.quantile_bps, builder.forecast.margin_bps) = (10_000, 5_000);
    })
    .await;
    let bundle = world.lockstep.send(&world.story(&user(0), 1).await).await;
    world.lockstep.landed(bundle).await;
    let chain = U64::from(world.chain(0).id);
    let bought = until("the builder buys an epoch", async || {
        let next = world.lockstep.open_slot().await.slot;
        rights(&world, next + 1).await.into_iter().find(|right| right.chain_id == chain && right.how == "ahead")
    })
    .await;
    assert_eq!(bought.holder, builder().address());
    let bundle = world.lockstep.send(&world.story(&user(1), 2).await).await;
    let landed = world.lockstep.landed(bundle).await;
    let slot = world.slot_of(chain.to(), landed.legs[0].transactions[0].block_number.expect("it landed").to()).await;
    let used = rights(&world, slot).await;
    assert!(used.iter().all(|right| right.proposer == builder().address()), "{used:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_market_that_restarts_while_an_epoch_is_sold_sells_it_all_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let start = async || {
        let options =
            DevOptions { ahead: true, data: Some(folder.path().to_owned()), slot_ms: 2_000, block_times: vec![2], ..options() };
        // The folder is another process's until that has ended.
        until("dev starts", async || {
            World::try_start_with(options.clone(), |setup| {
                setup.builder.as_mut().expect("dev plays a builder").bids_ahead = false
            })
            .await
        })
        .await
    };
    let world = start().await;
    let key = stranger();
    world.credit(key.address(), whole(100)).await;
    let rollups = all(&world);
    let last = sold_now(&world).await.epoch;
    let view = until("the next epoch is sold", async || Some(sold_now(&world).await).filter(|view| view.epoch > last)).await;
    let bid = EpochBid { epoch: view.epoch, rollups: rollups.clone(), amount: whole(8), exclusive: None, nonce: 1 };
    world.lockstep.client.submit_epoch_bid(signed(&bid, &key)).await.expect("anybody may bid");
    drop(world);
    let world = start().await;
    let granted =
        until("the epoch is sold", async || Some(rights(&world, view.first_slot).await).filter(|known| !known.is_empty())).await;
    assert!(granted.iter().all(|right| right.holder == key.address() && right.how == "ahead"), "{granted:?}");
    let held = ledger(&world, &key).await;
    drop(world);
    // What was granted is there after another restart, with what is held for it.
    let world = start().await;
    assert_eq!(rights(&world, view.first_slot).await, granted);
    assert_eq!(ledger(&world, &key).await.held, held.held);
    assert!(held.free.0 < whole(100));
}

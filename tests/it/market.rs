//! The right to propose: sealed bids by anybody, and what becomes of a slot whose winner delivers nothing.

use alloy_primitives::{Address, Bytes, U64, U256};
use lockstep_node::{
    dev::{DevOptions, builder, user},
    keys::Key,
};
use lockstep_primitives::{Bid, RollupSet, recover};
use lockstep_rpc::{
    api::MarketApiClient,
    codes,
    wire::{BidWire, Decimal, GrantWire},
};

use crate::{
    lockstep::{places, refused},
    transactions::Tx,
    world::{World, options},
};

/// Somebody whom no configuration names.
fn stranger() -> Key {
    Key::of_name("a stranger")
}

fn all(world: &World) -> RollupSet {
    world.chains().iter().map(|chain| chain.id).collect()
}

fn signed(bid: &Bid, key: &Key) -> BidWire {
    BidWire::new(bid, key.sign_bytes(bid.digest()))
}

fn whole(units: u64) -> U256 {
    U256::from(units) * U256::from(1_000_000_000_000_000_000_u64)
}

/// The default proposer of a rollup, as the market tells it.
async fn sequencer(world: &World, index: usize) -> Address {
    let sales = world.lockstep.open_slot().await.on_sale;
    let sale = sales.iter().find(|sale| sale.chain_id.to::<u64>() == world.chain(index).id);
    sale.expect("every rollup is on sale").sequencer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_winner_that_delivers_nothing_costs_slots_but_no_bundle() {
    let world = World::start(options()).await;
    let market = &world.lockstep.client;
    let address = market.market_address().await.expect("the market has an address");
    let origin = world.chain(0);
    let proposer = sequencer(&world, 0).await;

    // The stranger buys three slots ahead, for far more than anything in them is worth.
    let amount = whole(1);
    let open = world.lockstep.open_slot().await.slot;
    let (first, last) = (open + 1, open + 3);
    for slot in first..=last {
        let bid = Bid { slot, rollups: all(&world), amount, exclusive: None, nonce: 1 };
        let receipt = market.submit_bid(signed(&bid, &stranger())).await.expect("anybody may bid");
        assert_eq!(receipt.bid_hash, bid.digest());
    }
    // The lists of the open slot are done by now: what is sent from here on is for the slots that were bought.
    world.lockstep.closed(open).await;
    let bundle = world.lockstep.send(&world.story(&user(0), 1).await).await;
    let payer = user(1);
    let plain = Tx::pay(origin.id, origin.nonce(payer.address()).await, Address::repeat_byte(0x77), U256::from(1)).sign(&payer);
    origin.send(&plain).await;

    for slot in first..=last {
        let allocation = world.lockstep.allocation(slot).await;
        let rollups = world.chains().iter().map(|chain| U64::from(chain.id)).collect();
        assert_eq!(allocation.grants, [GrantWire { proposer: stranger().address(), rollups, price: Decimal(amount) }]);
        assert_eq!(recover(allocation.allocation().digest(), &allocation.signature), Ok(address));
    }
    let bids = world.lockstep.closed(last).await.bids;
    let builders = bids.iter().find(|bid| bid.bidder == builder().address() && bid.rollups.len() == world.chains().len());
    assert!(builders.expect("the builder bid for the bundle, too").amount.0 < amount);

    // Silence is no block for nobody: every sequencer publishes its own list, public transactions included.
    for slot in first..=last {
        let report = world.lockstep.report(slot).await;
        for rollup in &report.rollups {
            assert_eq!(rollup.blocks.len(), 1, "{report:?}");
        }
        let made = origin.block(report.rollups[0].blocks[0].number.to()).await;
        assert_eq!(made.miner, proposer);
    }
    let landed = origin.mined(plain.hash()).await;
    assert_eq!(origin.block(landed.block()).await.miner, proposer, "it did not have to wait for the builder");

    // And the bundle lands when its builder wins again.
    let placed = places(&world.lockstep.landed(bundle).await);
    assert_eq!(placed.len(), 3);
    for place in placed {
        assert!(world.slot_of(place.chain, place.block).await > last);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bid_that_is_no_bid_is_refused_with_its_code() {
    let world = World::start(options()).await;
    let market = &world.lockstep.client;
    let open = world.lockstep.open_slot().await.slot;
    let bid = Bid { slot: open + 2, rollups: all(&world), amount: whole(1), exclusive: None, nonce: 5 };
    market.submit_bid(signed(&bid, &stranger())).await.expect("this one is in order");

    let variants = [
        ("below_reserve", Bid { amount: U256::from(1), ..bid.clone() }),
        ("not_on_sale", Bid { rollups: [7].into(), ..bid.clone() }),
        ("empty_package", Bid { rollups: RollupSet::new(), ..bid.clone() }),
        ("amount_too_large", Bid { amount: U256::MAX, ..bid.clone() }),
        ("bid_nonce_too_low", Bid { amount: whole(2), ..bid.clone() }),
        ("tag_too_long", Bid { exclusive: Some("x".repeat(65)), ..bid.clone() }),
        ("slot_closed", Bid { slot: 0, ..bid.clone() }),
        ("too_far_ahead", Bid { slot: open + 1_000, ..bid.clone() }),
    ];
    for (reason, bid) in variants {
        let answer = market.submit_bid(signed(&bid, &stranger())).await;
        assert_eq!(refused(answer), (codes::INVALID_PARAMS, reason.to_owned()));
    }
    let nobody = BidWire::new(&Bid { nonce: 6, ..bid.clone() }, Bytes::from_static(&[0; 65]));
    assert_eq!(refused(market.submit_bid(nobody).await), (codes::INVALID_PARAMS, "invalid_bid_signature".to_owned()));

    // Nothing of that changed the book.
    let bids = world.lockstep.closed(bid.slot).await.bids;
    assert_eq!(bids.len(), 1, "{bids:?}");
    assert_eq!((bids[0].bidder, bids[0].amount), (stranger().address(), Decimal(bid.amount)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bids_are_sealed_until_their_slot_is_closed() {
    let world = World::start(options()).await;
    let market = &world.lockstep.client;
    let slot = world.lockstep.open_slot().await.slot + 2;
    let single = world.chain(1).id;
    let package = Bid { slot, rollups: all(&world), amount: whole(2), exclusive: Some("either".to_owned()), nonce: 1 };
    let other = Bid { rollups: [single].into(), amount: whole(1), ..package.clone() };
    for bid in [&package, &other] {
        market.submit_bid(signed(bid, &stranger())).await.expect("the bid is taken");
    }

    let open = market.get_market_slot(Some(slot)).await.expect("it can be asked for");
    assert_eq!((open.state.as_str(), open.bids.len()), ("open", 0));
    assert!(market.get_allocation(slot).await.expect("it can be asked for").is_none());

    let closed = world.lockstep.closed(slot).await;
    let mut amounts: Vec<U256> = closed.bids.iter().map(|bid| bid.amount.0).collect();
    amounts.sort();
    assert_eq!(amounts, [whole(1), whole(2)]);
    for bid in &closed.bids {
        assert_eq!((bid.bidder, bid.exclusive.as_deref()), (stranger().address(), Some("either")));
    }
    // Of bids with the same tag one wins: the package, which is worth more.
    let grants = world.lockstep.allocation(slot).await.grants;
    assert_eq!(grants.len(), 1, "{grants:?}");
    assert_eq!(grants[0].price, Decimal(whole(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn above_every_reserve_nobody_buys_and_the_default_proposers_make_the_blocks() {
    let reserve = whole(1_000_000);
    let world = World::start(DevOptions { reserve, ..options() }).await;
    // The slot that a market is started in is over before it can be sold.
    let first = world.lockstep.open_slot().await.slot;
    world.lockstep.allocation(first).await;
    let payer = user(2);
    for (index, chain) in world.chains().iter().enumerate() {
        let tx = Tx::pay(chain.id, chain.nonce(payer.address()).await, Address::repeat_byte(0x77), U256::from(1)).sign(&payer);
        chain.send(&tx).await;
        let receipt = chain.mined(tx.hash()).await;
        assert!(receipt.success());

        let slot = world.slot_of(chain.id, receipt.block()).await;
        let proposer = sequencer(&world, index).await;
        let allocation = world.lockstep.allocation(slot).await.allocation();
        assert_eq!(allocation.proposer_of(chain.id), Some(proposer));
        assert!(allocation.grants.iter().all(|grant| grant.price.is_zero()), "nobody pays: {allocation:?}");
        let closed = world.lockstep.closed(slot).await;
        assert!(closed.bids.is_empty(), "no bid is worth the reserve: {:?}", closed.bids);
        assert!(closed.on_sale.iter().all(|sale| sale.reserve == Decimal(reserve)));
    }
}

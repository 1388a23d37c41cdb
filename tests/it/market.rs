//! The right to propose: sealed bids by anybody, and what becomes of a slot whose winner delivers nothing.

use alloy_primitives::{Address, B256, Bytes, I256, U64, U256, keccak256};
use lockstep_market::{TimeboostBid, TimeboostDomain};
use lockstep_node::{
    config::MechanismName,
    dev::{DevOptions, builder, user},
    keys::Key,
    process::MarketSetup,
};
use lockstep_primitives::{
    Bid, BidCancellation, Deposit, Opening, RollupSet, SealedBids, TicketOrder, TicketSide, WithdrawalRequest, recover,
};
use lockstep_rpc::{
    api::{AuctioneerApiClient, MarketApiClient},
    codes,
    wire::{
        BidCancellationWire, BidWire, Decimal, DepositWire, GrantWire, LedgerView, OpeningWire, RevenueParams, SealedBidsWire,
        SlotRevenue, TicketOrderWire, TimeboostBidWire, WithdrawalWire,
    },
};
use serde_json::json;

use crate::{
    lockstep::{places, refused},
    signed::post,
    transactions::Tx,
    wait::until,
    world::{World, options},
};

/// Somebody whom no configuration names.
pub(crate) fn stranger() -> Key {
    Key::of_name("a stranger")
}

pub(crate) fn all(world: &World) -> RollupSet {
    world.chains().iter().map(|chain| chain.id).collect()
}

fn signed(bid: &Bid, key: &Key) -> BidWire {
    BidWire::new(bid, key.sign_bytes(bid.digest()))
}

pub(crate) fn whole(units: u64) -> U256 {
    U256::from(units) * U256::from(1_000_000_000_000_000_000_u64)
}

/// What an account of the market has, told to itself.
pub(crate) async fn ledger(world: &World, key: &Key) -> LedgerView {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "market_getLedger", "params": [key.address()] });
    let answer = post(&world.url(), &body.to_string(), Some(key)).await;
    serde_json::from_value(answer["result"].clone()).expect("an account is told what it has")
}

/// What a rollup's slots brought, once its sequencer has reported on one of them.
pub(crate) async fn revenue(world: &World, index: usize, slot: u64) -> SlotRevenue {
    let chain = U64::from(world.chain(index).id);
    until(&format!("slot {slot} has ended"), async || {
        let one = RevenueParams { from_slot: Some(slot), to_slot: Some(slot + 1) };
        let revenue = world.lockstep.client.get_revenue(chain, Some(one)).await.expect("the market answers");
        revenue.slots.into_iter().find(|slot| slot.ending.is_some())
    })
    .await
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
    let (amount, deposit) = (whole(1), whole(10));
    world.credit(stranger().address(), deposit).await;
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

    // The silent winner owes each rollup what it would have been paid, less what its own list earned.
    let mut owed = U256::ZERO;
    for slot in first..=last {
        for index in 0..world.chains().len() {
            let slot = revenue(&world, index, slot).await;
            assert_eq!((slot.holder, slot.ending.as_deref()), (stranger().address(), Some("taken_over")));
            let earned = slot.earned.expect("its own list was published");
            assert_eq!(slot.paid, Some(Decimal(slot.price.0 - earned.0)));
            owed += slot.price.0 - earned.0;
        }
    }
    assert!(owed > whole(2), "three slots were bought: {owed}");
    let account = ledger(&world, &stranger()).await;
    assert_eq!((account.free, account.held), (Decimal(deposit - owed), Decimal(U256::ZERO)));
    let received =
        ledger(&world, &Key::of_name("sequencer 0")).await.free.0 + ledger(&world, &Key::of_name("sequencer 1")).await.free.0;
    assert!(received >= owed, "the sequencers are paid by the builder as well");

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
    let uncovered = market.submit_bid(signed(&bid, &stranger())).await;
    assert_eq!(refused(uncovered), (codes::INVALID_PARAMS, "deposit_too_small".to_owned()));
    world.credit(stranger().address(), whole(3)).await;
    market.submit_bid(signed(&bid, &stranger())).await.expect("this one is in order");

    let variants = [
        ("below_reserve", Bid { amount: U256::from(1), ..bid.clone() }),
        ("not_on_sale", Bid { rollups: [7].into(), ..bid.clone() }),
        ("empty_package", Bid { rollups: RollupSet::new(), ..bid.clone() }),
        ("amount_too_large", Bid { amount: U256::MAX, ..bid.clone() }),
        ("bid_nonce_too_low", Bid { amount: whole(2), ..bid.clone() }),
        ("deposit_too_small", Bid { amount: whole(3), nonce: 6, ..bid.clone() }),
        ("tag_too_long", Bid { exclusive: Some("x".repeat(65)), ..bid.clone() }),
        ("slot_not_open", Bid { slot: 0, ..bid.clone() }),
        ("slot_not_open", Bid { slot: open + 1_000, ..bid.clone() }),
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
    world.credit(stranger().address(), whole(5)).await;
    let package = Bid { slot, rollups: all(&world), amount: whole(2), exclusive: Some("either".to_owned()), nonce: 1 };
    let other = Bid { rollups: [single].into(), amount: whole(1), ..package.clone() };
    for bid in [&package, &other] {
        market.submit_bid(signed(bid, &stranger())).await.expect("the bid is taken");
    }
    // What is held says what was bid, so nobody else is told. Of one tag one bid wins: only the greater is held for.
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "market_getLedger", "params": [stranger().address()] }).to_string();
    for asker in [None, Some(&builder())] {
        let answer = post(&world.url(), &body, asker).await;
        assert_eq!(answer["error"]["data"]["reason"].as_str(), Some("not_your_account"));
    }
    assert_eq!(ledger(&world, &stranger()).await.held, Decimal(whole(2) * U256::from(11) / U256::from(10)));

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivered_slot_is_charged_and_money_leaves_only_by_its_owners_word() {
    let world = World::start(options()).await;
    let market = &world.lockstep.client;
    let bundle = world.lockstep.send(&world.story(&user(0), 1).await).await;
    let placed = places(&world.lockstep.landed(bundle).await);
    let slot = world.slot_of(placed[0].chain, placed[0].block).await;
    let mut paid = U256::ZERO;
    for index in 0..world.chains().len() {
        let slot = revenue(&world, index, slot).await;
        assert_eq!((slot.holder, slot.how.as_str()), (builder().address(), "just_in_time"));
        assert_eq!((slot.ending.as_deref(), slot.paid), (Some("delivered"), Some(slot.price)));
        paid += slot.price.0;
    }
    let price =
        world.lockstep.allocation(slot).await.grants.iter().map(|grant| grant.price.0).fold(U256::ZERO, |sum, price| sum + price);
    assert_eq!(paid, price);
    let spent: U256 = ledger(&world, &builder())
        .await
        .postings
        .iter()
        .filter(|posting| posting.slot == Some(slot) && posting.kind == "price")
        .map(|posting| posting.entries.iter().map(|entry| entry.amount.0.unsigned_abs()).max().unwrap_or_default())
        .fold(U256::ZERO, |sum, price| sum + price);
    assert_eq!(spent, price);

    // What nobody signed who may does not move.
    let key = stranger();
    world.credit(key.address(), whole(2)).await;
    let next = ledger(&world, &key).await.next_deposit;
    let credit = Deposit { number: next, account: key.address(), amount: whole(1) };
    let forged = market.deposit(DepositWire::new(&credit, key.sign_bytes(credit.digest()))).await;
    assert_eq!(refused(forged), (codes::INVALID_PARAMS, "wrong_request_signer".to_owned()));
    let request = WithdrawalRequest { account: key.address(), to: key.address(), amount: whole(1), nonce: 1 };
    let theft = market.withdraw(WithdrawalWire::new(&request, builder().sign_bytes(request.digest()))).await;
    assert_eq!(refused(theft), (codes::INVALID_PARAMS, "wrong_request_signer".to_owned()));
    let signed_by_its_owner = WithdrawalWire::new(&request, key.sign_bytes(request.digest()));
    let receipt = market.withdraw(signed_by_its_owner.clone()).await.expect("it is free");
    let again = market.withdraw(signed_by_its_owner).await;
    assert_eq!(refused(again), (codes::INVALID_PARAMS, "request_nonce_too_low".to_owned()));
    let account = ledger(&world, &key).await;
    assert_eq!((account.free, account.leaving), (Decimal(whole(1)), Decimal(whole(1))));
    assert_eq!(account.withdrawals[0].withdrawal, receipt.withdrawal);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bid_is_taken_back_by_its_bidder_and_nothing_stays_held() {
    let world = World::start(options()).await;
    let market = &world.lockstep.client;
    world.credit(stranger().address(), whole(3)).await;
    let slot = world.lockstep.open_slot().await.slot + 2;
    let bid = Bid { slot, rollups: all(&world), amount: whole(1), exclusive: None, nonce: 1 };
    market.submit_bid(signed(&bid, &stranger())).await.expect("the bid is taken");
    let cancellation = BidCancellation { slot, rollups: all(&world), exclusive: None, nonce: 2 };
    let cancel = |key: &Key| market.cancel_bid(BidCancellationWire::new(&cancellation, key.sign_bytes(cancellation.digest())));
    assert_eq!(refused(cancel(&builder()).await), (codes::INVALID_PARAMS, "unknown_bid".to_owned()));
    assert!(cancel(&stranger()).await.expect("its own bid"));
    assert_eq!(ledger(&world, &stranger()).await.held, Decimal(U256::ZERO));
    assert!(world.lockstep.closed(slot).await.bids.iter().all(|bid| bid.bidder != stranger().address()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_bids_are_sealed_nobody_reads_them_and_who_does_not_open_them_pays() {
    let world = World::start(DevOptions { slot_ms: 2_000, block_times: vec![2], sealed: true, ..options() }).await;
    let market = &world.lockstep.client;
    let key = stranger();
    world.credit(key.address(), whole(10)).await;
    let slot = world.lockstep.open_slot().await.slot + 2;
    let rollups: RollupSet = all(&world);
    let bid = Bid { slot, rollups: rollups.clone(), amount: whole(1), exclusive: None, nonce: 1 };
    let plain = market.submit_bid(signed(&bid, &key)).await;
    assert_eq!(refused(plain).1, "sealed_only");

    // The stranger seals the same bid for two slots, and opens the one for the second.
    let seal = |slot: u64| {
        let bid = Bid { slot, ..bid.clone() };
        let opening = Opening { slot, bidder: key.address(), salt: B256::repeat_byte(7), bids: vec![bid] };
        let sealed = SealedBids { slot, commitment: opening.commitment(), bids: 1, cover: whole(2), nonce: 1 };
        (SealedBidsWire::new(&sealed, key.sign_bytes(sealed.digest())), OpeningWire::new(&opening))
    };
    let ((first, _), (second, opening)) = (seal(slot), seal(slot + 1));
    for sealed in [&first, &second] {
        let receipt = market.submit_sealed_bids(sealed.clone()).await.expect("anybody may seal bids");
        assert_eq!(receipt.bid_hash, sealed.sealed().digest());
    }
    let view = market.get_market_slot(Some(slot)).await.expect("the slot is open");
    assert!(view.bids.is_empty() && view.seed.is_none());
    let sealing = view.sealing.expect("bids are sealed");
    assert!(sealing.seal_ms < view.close_ms);
    assert_eq!(refused(market.open_bids(opening.clone()).await).1, "opening_out_of_time");

    until("the bids for the second slot are opened", async || match market.open_bids(opening.clone()).await {
        Ok(opened) => opened.then_some(()),
        Err(error) => {
            assert_eq!(refused::<bool>(Err(error)).1, "opening_out_of_time");
            None
        }
    })
    .await;
    let closed = world.lockstep.closed(slot).await;
    assert!(closed.bids.iter().all(|bid| bid.bidder != key.address()), "what is not opened is no bid");
    let seed = closed.seed.expect("the slot is closed");
    assert_eq!(keccak256(seed.secret), view.seed_commitment, "the market could choose no other secret");
    let grants = world.lockstep.allocation(slot + 1).await.grants;
    assert_eq!(grants[0].proposer, key.address());
    assert_eq!(world.lockstep.closed(slot + 1).await.seed.expect("the slot is closed").salts, [B256::repeat_byte(7)]);

    // Half of the cover is forfeited to the sellers; what was to be paid for the second slot is told by other tests.
    let account = ledger(&world, &key).await;
    let forfeits = account.postings.iter().filter(|posting| posting.kind == "forfeit" && posting.slot == Some(slot));
    let own = forfeits.flat_map(|posting| &posting.entries).filter(|entry| entry.owner == Some(key.address()));
    let forfeited: I256 = own.map(|entry| entry.amount.0).sum();
    assert_eq!(forfeited, -I256::from_raw(whole(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_builder_wins_by_sealed_bids() {
    let world = World::start(DevOptions { slot_ms: 2_000, block_times: vec![2], sealed: true, ..options() }).await;
    let bundle = world.lockstep.send(&world.story(&user(0), 1).await).await;
    world.lockstep.landed(bundle).await;
}

/// Signs an order for tickets.
fn ordered(order: &TicketOrder, key: &Key) -> TicketOrderWire {
    TicketOrderWire::new(order, key.sign_bytes(order.digest()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tickets_are_bought_resold_and_drawn_and_a_builder_lands_a_bundle_with_one() {
    let world = World::start(DevOptions { mechanism: MechanismName::Tickets, ..options() }).await;
    let market = &world.lockstep.client;
    let (seller, buyer) = (stranger(), Key::of_name("another stranger"));
    world.credit(seller.address(), whole(10)).await;
    world.credit(buyer.address(), whole(10)).await;
    let rollups = all(&world);
    let slot = world.lockstep.open_slot().await;
    assert_eq!(slot.mechanism, "tickets");
    let bid = Bid { slot: slot.slot, rollups: rollups.clone(), amount: whole(1), exclusive: None, nonce: 1 };
    assert_eq!(refused(market.submit_bid(signed(&bid, &seller)).await).1, "tickets_only");

    let buy = TicketOrder { rollups: rollups.clone(), side: TicketSide::Buy, count: 2, price: whole(1), nonce: 1 };
    let bought = market.submit_ticket_order(ordered(&buy, &seller)).await.expect("tickets are issued");
    assert_eq!((bought.order_hash, bought.fills.len()), (buy.digest(), 2));
    assert_eq!(refused(market.submit_ticket_order(ordered(&buy, &seller)).await).1, "request_nonce_too_low");
    let wrong = TicketOrderWire { side: "borrow".to_owned(), ..ordered(&buy, &seller) };
    assert_eq!(refused(market.submit_ticket_order(wrong).await).1, "unknown_side");
    // What is not drawn yet is offered dear; who wants it has to pay more than for a new one only when no new one is left.
    let view = market.get_tickets().await.expect("the market answers").expect("it sells tickets");
    assert!(view.classes[0].price.0 >= bought.fills[0].price.0 && view.classes[0].rollups.len() == rollups.len());
    let cheap = bought.fills[0].price.0 / U256::from(2);
    let sell = TicketOrder { rollups: rollups.clone(), side: TicketSide::Sell, count: 1, price: cheap, nonce: 2 };
    let sold = market.submit_ticket_order(ordered(&sell, &seller)).await;
    // Both may have been drawn meanwhile; then there is nothing to sell.
    if sold.is_ok() {
        let order = TicketOrder { count: 1, ..buy.clone() };
        let resold = market.submit_ticket_order(ordered(&order, &buyer)).await.expect("one is to be had");
        if let Some(from) = resold.fills[0].from {
            assert_eq!((from, resold.fills[0].price.0), (seller.address(), cheap));
        }
    }

    // Whoever was drawn proposes, for what its ticket was issued for.
    let drawn = until("a ticket is drawn", async || {
        let view = market.get_tickets().await.expect("the market answers").expect("it sells tickets");
        view.drawn.into_iter().find(|drawn| drawn.owner != builder().address())
    })
    .await;
    let grants = world.lockstep.allocation(drawn.slot).await.grants;
    assert_eq!(grants, [GrantWire { proposer: drawn.owner, rollups: drawn.rollups, price: drawn.price }]);

    // The builder sees what a slot with the bundle would be worth, buys tickets, and is drawn before long.
    let bundle = world.lockstep.send(&world.story(&user(0), 1).await).await;
    world.lockstep.landed(bundle).await;
    let mine = ledger(&world, &builder()).await;
    assert!(mine.postings.iter().any(|posting| posting.kind == "ticket"), "it paid for a ticket");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeboost_bid_wins_a_slot_of_its_rollup() {
    let contract = Address::repeat_byte(0xcc);
    let (mechanism, key) = (MechanismName::SecondPrice, stranger());
    let world = World::start_with(DevOptions { mechanism, ..options() }, |setup| {
        let chain = setup.rollups[0].chain;
        let MarketSetup::Own(own) = &mut setup.market else { panic!("dev plays the market") };
        own.timeboost = Some(TimeboostDomain { chain, contract });
    })
    .await;
    world.credit(key.address(), whole(10)).await;
    let market = &world.lockstep.client;
    let domain = TimeboostDomain { chain: world.chain(0).id, contract };
    let sign = |round: u64, amount: U256| {
        let bid = TimeboostBid {
            chain: U256::from(domain.chain),
            express_lane_controller: key.address(),
            auction_contract: contract,
            round,
            amount,
            signature: Bytes::new(),
        };
        TimeboostBidWire {
            chain_id: bid.chain,
            express_lane_controller: key.address(),
            auction_contract_address: contract,
            round: U64::from(round),
            amount,
            signature: key.sign_bytes(domain.digest(&bid)),
        }
    };
    let late = market.submit_timeboost_bid(sign(0, whole(1))).await.unwrap_err().to_string();
    assert!(late.contains("BAD_ROUND_NUMBER"), "{late}");
    let round = until("a bid comes in time for the next round", async || {
        let round = world.lockstep.open_slot().await.slot;
        market.submit_timeboost_bid(sign(round, whole(1))).await.is_ok().then_some(round)
    })
    .await;
    let grants = world.lockstep.allocation(round).await.grants;
    assert_eq!(grants[0].proposer, key.address());
    assert!(grants[0].price.0 < whole(1), "alone it pays the reserve");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bid_that_was_taken_back_stays_so_over_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let start = async || {
        let options = DevOptions { data: Some(folder.path().to_owned()), slot_ms: 4_000, block_times: vec![4], ..options() };
        // The folder is another process's until that has ended.
        until("dev starts", async || World::try_start(options.clone()).await).await
    };
    let world = start().await;
    let key = stranger();
    world.credit(key.address(), whole(10)).await;
    let slot = world.lockstep.open_slot().await.slot + 4;
    let bid = Bid { slot, rollups: all(&world), amount: whole(1), exclusive: None, nonce: 1 };
    world.lockstep.client.submit_bid(signed(&bid, &key)).await.expect("anybody may bid");
    let asked = BidCancellation { slot, rollups: bid.rollups.clone(), exclusive: None, nonce: 2 };
    let wire = BidCancellationWire::new(&asked, key.sign_bytes(asked.digest()));
    world.lockstep.client.cancel_bid(wire).await.expect("it is its own");
    drop(world);
    let world = start().await;
    let again = world.lockstep.client.submit_bid(signed(&bid, &key)).await;
    assert_eq!(refused(again).1, "bid_nonce_too_low");
    assert_eq!(ledger(&world, &key).await.free.0, whole(10));
    world.lockstep.client.submit_bid(signed(&Bid { nonce: 3, ..bid }, &key)).await.expect("a new one is taken");
}

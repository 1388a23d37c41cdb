//! Epochs: sold ahead, resold once, offered to builders, and paid for slot by slot.

use std::{collections::BTreeMap, sync::Arc};

use alloy::signers::local::PrivateKeySigner;
use alloy_primitives::{Address, B256, U256};
use lockstep_market::{Acquisition, AheadSale, Combinatorial, Delegation, HoldId, MarketRecord, Marketplace, Rules, SLOTS_AHEAD};
use lockstep_primitives::{
    Bid, ChainId, DeliveryReport, EpochBid, RightOffer, RightTransfer, SlotEnding, SlotNumber, TransferKind,
};
use proptest::prelude::*;

use crate::{
    fixtures::{key, sign},
    marketplace::{CHAINS, CLOCK, deposit, free, payout, rules, selling, sequencer, units},
};

/// Slots 12 to 15, sold from 3 s to 6 s.
const EPOCH: u64 = 3;
const FIRST: SlotNumber = 12;
const AHEAD: AheadSale = AheadSale { epoch_slots: 4, slots_ahead: 6, open_ms: 3_000 };
const SELLING_MS: u64 = 4_000;
const SOLD_MS: u64 = 6_000;
/// The bidding for slot 12 has begun, and not ended.
const SLOT_MS: u64 = 11_000;

fn ahead_rules() -> Rules {
    Rules { ahead: Some(AHEAD), ..rules(Arc::new(Combinatorial::default())) }
}

/// A market with reserves of 10, 20 and 30 a slot, and 1000 for each of four accounts.
fn market() -> Marketplace {
    let mut market = selling(ahead_rules(), &[10, 20, 30]);
    (1..=4).for_each(|bidder| deposit(&mut market, key(bidder).address(), 1_000));
    market
}

fn bid_ahead(
    market: &mut Marketplace,
    signer: &PrivateKeySigner,
    rollups: &[ChainId],
    amount: u64,
    nonce: u64,
) -> Result<(), &'static str> {
    let rollups = rollups.iter().copied().collect();
    let bid = EpochBid { epoch: EPOCH, rollups, amount: units(amount), exclusive: None, nonce };
    market.bid_ahead(&bid, &sign(signer, bid.digest()), SELLING_MS).map(|_| ()).map_err(|error| error.code())
}

fn bid(market: &mut Marketplace, signer: &PrivateKeySigner, rollups: &[ChainId], amount: u64) -> Result<(), &'static str> {
    let rollups = rollups.iter().copied().collect();
    let bid = Bid { slot: FIRST, rollups, amount: units(amount), exclusive: None, nonce: 1 };
    let signature = sign(signer, bid.digest());
    market.bid(bid, &signature, SLOT_MS).map(|_| ()).map_err(|error| error.code())
}

fn amounts(pairs: &[(ChainId, u64)]) -> BTreeMap<ChainId, U256> {
    pairs.iter().map(|(chain, amount)| (*chain, units(*amount))).collect()
}

fn offer(
    market: &mut Marketplace,
    signer: &PrivateKeySigner,
    wanted: &[(ChainId, u64)],
    now_ms: u64,
) -> Result<(), &'static str> {
    let offer = RightOffer { slot: FIRST, amounts: amounts(wanted) };
    market.offer_rights(&offer, &sign(signer, offer.digest()), now_ms).map(|_| ()).map_err(|error| error.code())
}

fn transfer(
    market: &mut Marketplace,
    how: TransferKind,
    [from, to]: [&PrivateKeySigner; 2],
    prices: &[(ChainId, u64)],
    now_ms: u64,
) -> Result<(), &'static str> {
    let transfer = RightTransfer { how, slot: FIRST, amounts: amounts(prices), to: to.address() };
    let (by_holder, by_taker) = (sign(from, transfer.digest()), sign(to, transfer.digest()));
    market.transfer_rights(&transfer, &by_holder, &by_taker, now_ms).map(|_| ()).map_err(|error| error.code())
}

fn tell(market: &mut Marketplace, slot: SlotNumber, chain: ChainId, ending: SlotEnding) -> Result<U256, &'static str> {
    let earned = (ending != SlotEnding::Proposed).then_some(U256::ZERO);
    let report =
        DeliveryReport { slot, chain, ending, blocks: vec![B256::ZERO], prepared: None, earned, posted: None, encrypted: None };
    let signature = sign(&sequencer(chain), report.digest());
    let told = market.report(&report, &signature, false, CLOCK.end_ms(slot)).map_err(|error| error.code())?;
    Ok(told.map_or(U256::ZERO, |reported| reported.paid))
}

fn held(market: &Marketplace, slot: SlotNumber, account: &PrivateKeySigner) -> u64 {
    market.ledger().held_for(HoldId { slot, bidder: account.address() }).to()
}

/// Ann has bought rollups 10 and 20 for the epoch, for 240: 20 and 40 a slot.
fn sold() -> (Marketplace, PrivateKeySigner, PrivateKeySigner, PrivateKeySigner) {
    let mut market = market();
    bid_ahead(&mut market, &key(1), &[10, 20], 240, 1).expect("a bid above the reserves");
    market.close_epoch(EPOCH, B256::ZERO).expect("it is being sold");
    (market, key(1), key(2), key(3))
}

#[test]
fn a_package_for_an_epoch_is_granted_held_for_and_paid_slot_by_slot() {
    let (mut market, ann, bob) = (market(), key(1), key(2));
    assert_eq!(market.open_epoch(SELLING_MS), Some((EPOCH, SOLD_MS)));
    assert_eq!(bid_ahead(&mut market, &ann, &[10, 20], 119, 1), Err("below_reserve"), "the reserves of four slots are 120");
    assert_eq!(bid_ahead(&mut market, &ann, &[10, 20], 900, 1), Err("deposit_too_small"));
    bid_ahead(&mut market, &ann, &[10, 20], 240, 1).unwrap();
    bid_ahead(&mut market, &bob, &[10], 60, 1).unwrap();
    bid_ahead(&mut market, &bob, &[20], 100, 1).unwrap();
    assert_eq!((free(&market, ann.address()), free(&market, bob.address())), (700, 800));
    assert_eq!(bid_ahead(&mut market, &bob, &[20], 90, 1), Err("bid_nonce_too_low"));

    let closed = market.close_epoch(EPOCH, B256::ZERO).unwrap();
    assert_eq!(closed.rights.len(), 8);
    assert!(closed.rights.iter().all(|record| record.right.granted.how == Acquisition::Ahead));
    // The floors are 60 and 100, so the price of 240 is shared 90 and 150: 22.5 and 37.5 a slot.
    let prices: Vec<u64> = closed.rights.iter().map(|record| record.right.granted.price.to()).collect();
    assert_eq!(prices, [23, 23, 22, 22, 38, 38, 37, 37]);
    assert_eq!(free(&market, bob.address()), 1_000);
    assert_eq!((held(&market, FIRST, &ann), held(&market, 15, &ann)), (61 + 5 + 9, 59 + 5 + 9), "with a bond of a quarter");

    // What is sold is not on sale any more; the rest is.
    assert_eq!(bid(&mut market, &bob, &[10], 500), Err("not_on_sale"));
    bid(&mut market, &bob, &[30], 30).unwrap();
    let closed = market.close(FIRST, B256::ZERO).unwrap();
    let proposers = [10, 20, 30].map(|chain| closed.outcome.allocation.proposer_of(chain));
    assert_eq!(proposers, [&ann, &ann, &bob].map(|key| Some(key.address())));
    assert_eq!(closed.outcome.proceeds, amounts(&[(10, 23), (20, 38), (30, 30)]));

    assert_eq!(tell(&mut market, FIRST, 10, SlotEnding::Proposed), Ok(units(23)));
    assert_eq!(tell(&mut market, FIRST, 20, SlotEnding::Silent), Ok(units(38)));
    assert_eq!((free(&market, payout(10)), free(&market, payout(20)), held(&market, FIRST, &ann)), (23, 38, 0));
    market.lapse(60_000).unwrap();
    assert_eq!(market.ledger().balance(ann.address()).free, units(1_000 - 23 - 38));
}

#[test]
fn a_bid_for_an_epoch_is_no_bid_for_a_slot_and_is_taken_back_with_zero() {
    let (mut market, ann) = (market(), key(1));
    bid_ahead(&mut market, &ann, &[10], 60, 1).unwrap();
    let bid = Bid { slot: FIRST, rollups: [10].into(), amount: units(60), exclusive: None, nonce: 1 };
    let ahead = EpochBid { epoch: EPOCH, rollups: [10].into(), amount: units(60), exclusive: None, nonce: 1 };
    assert_ne!(bid.digest(), ahead.digest());
    assert_eq!(bid_ahead(&mut market, &ann, &[10], 0, 1), Err("bid_nonce_too_low"));
    bid_ahead(&mut market, &ann, &[10], 0, 2).unwrap();
    assert_eq!(free(&market, ann.address()), 1_000);
    assert_eq!(bid_ahead(&mut market, &ann, &[10], 60, 1), Err("bid_nonce_too_low"), "nobody hands it in again");
    assert_eq!(bid_ahead(&mut market, &ann, &[10], 0, 3), Err("unknown_bid"));

    let other = EpochBid { epoch: EPOCH + 1, ..ahead.clone() };
    let wrong = market.bid_ahead(&other, &sign(&ann, other.digest()), SELLING_MS);
    assert_eq!(wrong.unwrap_err().code(), "epoch_not_open");
    let late = market.bid_ahead(&ahead, &sign(&ann, ahead.digest()), SOLD_MS);
    assert_eq!(late.unwrap_err().code(), "epoch_not_open");
    let mut without = selling(rules(Arc::new(Combinatorial::default())), &[10]);
    assert_eq!(without.bid_ahead(&ahead, &[0; 65], SELLING_MS).unwrap_err().code(), "not_sold_ahead");
}

#[test]
fn no_slot_is_sold_by_itself_before_its_epoch_is_closed() {
    let mut market = market();
    bid_ahead(&mut market, &key(1), &[10], 60, 1).unwrap();
    assert_eq!(market.open(FIRST, SLOT_MS).unwrap_err().code(), "slot_not_open");
    assert_eq!(market.earliest_terms(SELLING_MS), FIRST + 4, "its terms are on sale");
    let bidding = market.end_epoch(EPOCH).unwrap();
    assert_eq!(market.open(FIRST, SLOT_MS).unwrap_err().code(), "slot_not_open", "winners are not known yet");
    drop(bidding);
    // It was never settled. A slot later all is released, and the slots are sold just in time.
    market.abandon(SOLD_MS + 500).unwrap();
    assert_eq!(free(&market, key(1).address()), 925);
    let abandoned = market.abandon(SOLD_MS + 1_000).unwrap();
    assert_eq!((abandoned.postings.len(), free(&market, key(1).address())), (1, 1_000));
    market.open(FIRST, SLOT_MS).unwrap();
    assert_eq!(market.close_epoch(EPOCH, B256::ZERO).unwrap_err().code(), "epoch_closed_late");
}

#[test]
fn a_right_is_resold_once_and_its_buyer_answers_to_the_rollup() {
    let (mut market, ann, bob, cat) = sold();
    let before = free(&market, ann.address());
    assert_eq!(transfer(&mut market, TransferKind::Resale, [&bob, &cat], &[(10, 50)], SLOT_MS), Err("not_holder"));
    let unsigned = RightTransfer { how: TransferKind::Resale, slot: FIRST, amounts: amounts(&[(10, 50)]), to: bob.address() };
    let by_ann = sign(&ann, unsigned.digest());
    let forced = market.transfer_rights(&unsigned, &by_ann, &by_ann, SLOT_MS);
    assert_eq!(forced.unwrap_err().code(), "wrong_request_signer", "nobody buys without having said so");
    assert_eq!(transfer(&mut market, TransferKind::Resale, [&ann, &bob], &[(10, 980)], SLOT_MS), Err("deposit_too_small"));

    transfer(&mut market, TransferKind::Resale, [&ann, &bob], &[(10, 50)], SLOT_MS).unwrap();
    assert_eq!(free(&market, ann.address()), before + 50 + 25, "the price, and what was put up");
    assert_eq!((free(&market, bob.address()), held(&market, FIRST, &bob)), (1_000 - 50 - 25, 25));
    assert_eq!(transfer(&mut market, TransferKind::Resale, [&bob, &cat], &[(10, 50)], SLOT_MS), Err("right_resold_before"));
    assert_eq!(transfer(&mut market, TransferKind::Resale, [&ann, &cat], &[(20, 50)], 11_800), Err("right_late"));

    let closed = market.close(FIRST, B256::ZERO).unwrap();
    assert_eq!(closed.outcome.allocation.proposer_of(10), Some(bob.address()));
    assert_eq!(tell(&mut market, FIRST, 10, SlotEnding::Silent), Ok(units(20)));
    assert_eq!((free(&market, bob.address()), free(&market, payout(10))), (1_000 - 50 - 20, 20));
}

#[test]
fn an_offered_right_goes_to_the_builder_that_pays_most_and_the_holder_pays_the_rollup() {
    let (mut market, ann, bob, cat) = sold();
    let opens_ms = CLOCK.close_ms(FIRST - SLOTS_AHEAD - 1);
    assert_eq!(offer(&mut market, &ann, &[(10, 50), (20, 60)], opens_ms), Err("right_late"), "bidding has begun");
    offer(&mut market, &ann, &[(10, 50), (20, 60)], opens_ms - 1).unwrap();
    let taken = transfer(&mut market, TransferKind::Delegation, [&ann, &bob], &[(10, 70)], SLOT_MS);
    assert_eq!(taken, Err("right_offered"));
    assert_eq!(bid(&mut market, &bob, &[10], 49), Err("below_reserve"));
    bid(&mut market, &bob, &[10], 70).unwrap();
    // A package of an offered right and of a rollup that was not sold ahead.
    bid(&mut market, &cat, &[10, 30], 130).unwrap();
    let closed = market.close(FIRST, B256::ZERO).unwrap();
    let proposers = [10, 20, 30].map(|chain| closed.outcome.allocation.proposer_of(chain));
    assert_eq!(proposers, [&cat, &ann, &cat].map(|key| Some(key.address())));
    let right = *market.rights().get(FIRST, 10).unwrap();
    assert_eq!(right.delegation, Some(Delegation { builder: cat.address(), price: units(91) }), "70 and 30 share 130");
    assert_eq!((free(&market, bob.address()), held(&market, FIRST, &cat)), (1_000, 91 + 39 + 22 + 9));

    let before = free(&market, ann.address());
    assert_eq!(tell(&mut market, FIRST, 10, SlotEnding::Proposed), Ok(units(20)));
    assert_eq!(free(&market, ann.address()), before + 91 + 5, "paid by the builder, and its bond back");
    assert_eq!(free(&market, payout(10)), 20);
    assert_eq!(tell(&mut market, FIRST, 30, SlotEnding::Proposed), Ok(units(39)));
    assert_eq!(free(&market, cat.address()), 1_000 - 130);
}

#[test]
fn a_builder_that_does_not_deliver_pays_the_holder_what_that_pays_the_rollup() {
    let (mut market, ann, bob, _) = sold();
    transfer(&mut market, TransferKind::Delegation, [&ann, &bob], &[(10, 8)], SLOT_MS).unwrap();
    assert_eq!(held(&market, FIRST, &bob), 10);
    let again = transfer(&mut market, TransferKind::Resale, [&ann, &bob], &[(10, 8)], SLOT_MS);
    assert_eq!(again, Err("right_with_builders"));
    let closed = market.close(FIRST, B256::ZERO).unwrap();
    assert_eq!(closed.outcome.allocation.proposer_of(10), Some(bob.address()));
    let before = free(&market, ann.address());
    assert_eq!(tell(&mut market, FIRST, 10, SlotEnding::Silent), Ok(units(20)));
    assert_eq!(free(&market, ann.address()), before + 5 + 10, "its own bond back, and all that the builder put up");
    assert_eq!(free(&market, bob.address()), 990);
}

#[test]
fn a_slot_that_the_market_slept_through_costs_who_bought_it_nothing() {
    let (mut market, ann, ..) = sold();
    let before = (free(&market, ann.address()), held(&market, FIRST, &ann));
    market.abandon(SLOT_MS).unwrap();
    assert_eq!((free(&market, ann.address()), held(&market, FIRST, &ann)), before, "its bidding is not over");
    let abandoned = market.abandon(CLOCK.start_ms(FIRST)).unwrap();
    assert_eq!(abandoned.lapsed.len(), 2);
    assert_eq!((free(&market, ann.address()), held(&market, FIRST, &ann)), (before.0 + before.1, 0));
    assert_eq!(tell(&mut market, FIRST, 10, SlotEnding::Silent), Err("right_ended"));
    assert!(held(&market, FIRST + 1, &ann) > 0, "the next slot is still its own");
}

fn as_sent(bid: &Bid) -> EpochBid {
    let Bid { rollups, amount, exclusive, nonce, .. } = bid.clone();
    EpochBid { epoch: EPOCH, rollups, amount, exclusive, nonce }
}

#[test]
fn a_restart_in_between_changes_nothing() {
    let record = |market: &mut Marketplace| MarketRecord {
        registry: market.registry().clone(),
        ledger: market.ledger().clone(),
        rights: market.rights().clone(),
        epoch_bids: match market.epoch(EPOCH, SELLING_MS) {
            Ok(book) => book.auction.bids().map(|accepted| (accepted.bidder, as_sent(&accepted.bid))).collect(),
            Err(_) => Vec::new(),
        },
        epochs_closed_before: market.epochs_closed_before(),
        ..MarketRecord::default()
    };
    let mut market = market();
    bid_ahead(&mut market, &key(1), &[10, 20], 240, 1).unwrap();
    let mut market = Marketplace::new(ahead_rules(), record(&mut market)).unwrap();
    assert_eq!(market.close_epoch(EPOCH, B256::ZERO).unwrap().rights.len(), 8);
    let mut market = Marketplace::new(ahead_rules(), record(&mut market)).unwrap();
    assert_eq!(bid_ahead(&mut market, &key(1), &[30], 120, 1), Err("epoch_not_open"), "it is closed");
    let closed = market.close(FIRST, B256::ZERO).unwrap();
    assert_eq!(closed.outcome.allocation.proposer_of(10), Some(key(1).address()));
    assert_eq!(tell(&mut market, FIRST, 10, SlotEnding::Proposed), Ok(units(20)));
}

#[test]
fn a_clusters_rights_stay_together() {
    let mut market = Marketplace::new(ahead_rules(), MarketRecord::default()).unwrap();
    let alone = selling(ahead_rules(), &[10, 20, 30]);
    for chain in CHAINS {
        let mut terms = alone.registry().at(chain, FIRST).unwrap().clone();
        if chain != 30 {
            terms.cluster = [10, 20].into();
        }
        let signature = sign(&sequencer(chain), terms.digest());
        market.register(terms, &signature, 0).unwrap();
    }
    (1..=2).for_each(|bidder| deposit(&mut market, key(bidder).address(), 1_000));
    let (ann, bob) = (key(1), key(2));
    assert_eq!(bid_ahead(&mut market, &ann, &[10], 60, 1), Err("splits_cluster"));
    bid_ahead(&mut market, &ann, &[10, 20], 240, 1).unwrap();
    market.close_epoch(EPOCH, B256::ZERO).unwrap();
    assert_eq!(offer(&mut market, &ann, &[(10, 50)], SOLD_MS), Err("splits_cluster"));
    assert_eq!(transfer(&mut market, TransferKind::Resale, [&ann, &bob], &[(10, 50)], SLOT_MS), Err("splits_cluster"));
    transfer(&mut market, TransferKind::Resale, [&ann, &bob], &[(10, 50), (20, 1)], SLOT_MS).unwrap();
}

/// Bids for the epoch and the slot, a step with each right, and how each rollup's slot ends.
type World = (Vec<(u8, u8, u64)>, Vec<(u8, u8, u64)>, Vec<(u8, u8, u64)>, Vec<u8>);

fn worlds() -> impl Strategy<Value = World> {
    let bids = |most| prop::collection::vec((1u8..5, 1u8..8, 0u64..most), 0..6);
    (bids(700), bids(160), prop::collection::vec((0u8..4, 1u8..5, 0u64..90), 3), prop::collection::vec(0u8..5, 3))
}

fn package(mask: u8) -> Vec<ChainId> {
    (0..3).filter(|bit| mask >> bit & 1 == 1).map(|bit| CHAINS[bit]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn whatever_happens_to_rights_all_money_is_where_it_should_be((ahead, bids, steps, endings) in worlds()) {
        let mut market = market();
        for (nonce, (bidder, mask, amount)) in (1..).zip(ahead) {
            let _refused = bid_ahead(&mut market, &key(bidder), &package(mask), amount, nonce);
        }
        market.close_epoch(EPOCH, B256::ZERO).expect("it is being sold");
        for (chain, (step, to, price)) in CHAINS.into_iter().zip(steps) {
            let Some(right) = market.rights().get(FIRST, chain).copied() else { continue };
            let holder = (1..5).map(key).find(|key| key.address() == right.holder()).expect("a bidder");
            let (prices, taker) = ([(chain, price)], key(to));
            let _refused = match step {
                0 => offer(&mut market, &holder, &prices, SOLD_MS),
                1 => transfer(&mut market, TransferKind::Resale, [&holder, &taker], &prices, SLOT_MS),
                2 => transfer(&mut market, TransferKind::Delegation, [&holder, &taker], &prices, SLOT_MS),
                _ => Ok(()),
            };
        }
        for (bidder, mask, amount) in bids {
            let _refused = bid(&mut market, &key(bidder), &package(mask), amount);
        }
        let closed = market.close(FIRST, B256::ZERO).expect("it was open");
        for chain in CHAINS {
            let right = market.rights().get(FIRST, chain).expect("every rollup has a right");
            prop_assert_eq!(closed.outcome.allocation.proposer_of(chain), Some(right.proposer()));
        }
        let mut paid: BTreeMap<Address, U256> = BTreeMap::new();
        for (chain, ending) in CHAINS.into_iter().zip(endings) {
            let ending = [SlotEnding::Proposed, SlotEnding::Silent, SlotEnding::Refused, SlotEnding::Lapsed].get(usize::from(ending));
            let Some(ending) = ending else { continue };
            let due = tell(&mut market, FIRST, chain, *ending).expect("it is the first word");
            let right = market.rights().get(FIRST, chain).expect("it was there");
            if *ending == SlotEnding::Proposed {
                prop_assert_eq!(due, right.granted.price);
            }
            prop_assert!(right.granted.how == Acquisition::Default || due >= right.granted.price || *ending == SlotEnding::Lapsed);
            *paid.entry(payout(chain)).or_default() += due;
        }
        market.lapse(60_000).expect("the rest lapses");
        let mut sum = U256::ZERO;
        for bidder in 1..5 {
            let balance = market.ledger().balance(key(bidder).address());
            prop_assert!(balance.held.is_zero(), "nothing is held for what is over");
            sum += balance.free;
        }
        for (account, due) in paid {
            prop_assert_eq!(units(free(&market, account)), due);
            sum += due;
        }
        prop_assert_eq!((sum, market.ledger().inside()), (units(4_000), units(4_000)));
    }
}

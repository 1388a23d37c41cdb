//! The Timeboost-compatible auction: which bids it takes, in which order it looks at them, and what a round comes to.

use std::collections::BTreeMap;

use alloy::{
    signers::local::PrivateKeySigner,
    sol_types::{SolStruct, eip712_domain},
};
use alloy_primitives::{Address, B256, Bytes, U256, address};
use lockstep_market::{
    MAX_TIMEBOOST_BIDDERS, MAX_TIMEBOOST_SUBMISSIONS, Mechanism, RoundTiming, Sale, SecondPrice, Terms, TimeboostAuction,
    TimeboostBid, TimeboostDomain, TimeboostEntry, TimeboostError, TimeboostRecord, tie_break,
};
use proptest::prelude::*;

use crate::fixtures::{key, sign};

mod eip712 {
    alloy::sol! {
        struct Bid {
            uint64 round;
            address expressLaneController;
            uint256 amount;
        }
    }
}

/// The auction on Arbitrum One.
const DOMAIN: TimeboostDomain = TimeboostDomain { chain: 42_161, contract: address!("5fcb496a31b7AE91e7c9078Ec662bd7A55cd3079") };

const RESERVE: U256 = U256::from_limbs([10, 0, 0, 0]);

/// Rounds of a minute since the epoch: at 65 s round 1 runs and round 2 is on sale, until 105 s.
fn timing() -> RoundTiming {
    RoundTiming::new(0, 60, 15, 15).expect("the usual timing")
}

const OPEN_MS: u64 = 65_000;
const CLOSED_MS: u64 = 105_000;

fn auction() -> TimeboostAuction {
    TimeboostAuction::new(DOMAIN, timing(), RESERVE)
}

fn unsigned(round: u64, amount: u64) -> TimeboostBid {
    TimeboostBid {
        chain: U256::from(DOMAIN.chain),
        express_lane_controller: Address::repeat_byte(0xee),
        auction_contract: DOMAIN.contract,
        round,
        amount: U256::from(amount),
        signature: Bytes::new(),
    }
}

fn signed(key: &PrivateKeySigner, bid: TimeboostBid) -> TimeboostBid {
    let signature = sign(key, DOMAIN.digest(&bid)).to_vec().into();
    TimeboostBid { signature, ..bid }
}

fn rich(_: Address) -> U256 {
    U256::MAX
}

fn code<T: std::fmt::Debug>(result: Result<T, TimeboostError>) -> &'static str {
    result.expect_err("it is refused").code()
}

#[test]
fn what_is_signed_is_what_a_library_makes_of_the_type() {
    for (round, amount) in [(0, U256::ZERO), (7, U256::from(100)), (u64::MAX, U256::MAX)] {
        let bid = TimeboostBid { amount, ..unsigned(round, 0) };
        let message = eip712::Bid { round, expressLaneController: bid.express_lane_controller, amount };
        let domain = eip712_domain! {
            name: "ExpressLaneAuction",
            version: "1",
            chain_id: DOMAIN.chain,
            verifying_contract: DOMAIN.contract,
        };
        assert_eq!(DOMAIN.separator(), domain.separator());
        assert_eq!(DOMAIN.digest(&bid), message.eip712_signing_hash(&domain));
    }
}

#[test]
fn the_bidder_is_who_signed() {
    let bid = signed(&key(1), unsigned(2, 100));
    assert_eq!(DOMAIN.bidder(&bid), Ok(key(1).address()));
    assert_ne!(DOMAIN.bidder(&TimeboostBid { amount: U256::from(101), ..bid }), Ok(key(1).address()));
}

#[test]
fn a_bid_fails_the_checks_in_the_auctioneers_order() {
    let mut bid = TimeboostBid {
        chain: U256::from(1),
        express_lane_controller: Address::ZERO,
        auction_contract: Address::ZERO,
        round: 1,
        amount: U256::from(9),
        signature: Bytes::new(),
    };
    let mut auction = auction();
    let mut refusals = Vec::new();
    let mut refused = |auction: &mut TimeboostAuction, bid: &TimeboostBid, now_ms, deposit: u64| {
        let error = auction.submit(bid.clone(), now_ms, |_| U256::from(deposit)).expect_err("it is refused");
        let wire_code = error.wire_code().expect("Timeboost has a name for it");
        assert!(error.to_string().ends_with(&format!(": {wire_code}")), "{error}");
        refusals.push((error.code(), wire_code));
    };
    refused(&mut auction, &bid, CLOSED_MS, 0);
    bid.auction_contract = DOMAIN.contract;
    refused(&mut auction, &bid, CLOSED_MS, 0);
    bid.express_lane_controller = Address::repeat_byte(7);
    refused(&mut auction, &bid, CLOSED_MS, 0);
    bid.chain = U256::from(DOMAIN.chain);
    refused(&mut auction, &bid, CLOSED_MS, 0);
    bid.round = 2;
    refused(&mut auction, &bid, CLOSED_MS, 0);
    refused(&mut auction, &bid, OPEN_MS, 0);
    bid.amount = RESERVE;
    refused(&mut auction, &bid, OPEN_MS, 0);
    bid.signature = vec![0; 65].into();
    refused(&mut auction, &bid, OPEN_MS, 0);
    bid = signed(&key(1), bid);
    refused(&mut auction, &bid, OPEN_MS, 0);
    for _ in 0..MAX_TIMEBOOST_SUBMISSIONS {
        refused(&mut auction, &bid, OPEN_MS, 9);
    }
    // Only now, and before the deposit is looked at.
    refused(&mut auction, &bid, OPEN_MS, 0);

    let expected = [
        ("wrong_auction_contract", "MALFORMED_DATA"),
        ("no_express_lane_controller", "MALFORMED_DATA"),
        ("wrong_chain", "WRONG_CHAIN_ID"),
        ("wrong_round", "BAD_ROUND_NUMBER"),
        ("bidding_closed", "BAD_ROUND_NUMBER"),
        ("below_reserve", "RESERVE_PRICE_NOT_MET"),
        ("signature_length", "MALFORMED_DATA"),
        ("signature_parity", "WRONG_SIGNATURE"),
        ("not_depositor", "NOT_DEPOSITOR"),
        ("insufficient_balance", "INSUFFICIENT_BALANCE"),
        ("insufficient_balance", "INSUFFICIENT_BALANCE"),
        ("insufficient_balance", "INSUFFICIENT_BALANCE"),
        ("insufficient_balance", "INSUFFICIENT_BALANCE"),
        ("insufficient_balance", "INSUFFICIENT_BALANCE"),
        ("too_many_bids", "PER_ROUND_BID_LIMIT_REACHED"),
    ];
    assert_eq!(refusals, expected);
    // Another bidder is not concerned, and nothing that was refused is in the book.
    assert_eq!(auction.submit(signed(&key(2), unsigned(2, 10)), OPEN_MS, rich), Ok(key(2).address()));
    let result = auction.resolve(CLOSED_MS, rich).unwrap();
    assert_eq!(result.sale.map(|sale| (sale.first.bidder, sale.price)), Some((key(2).address(), RESERVE)));
}

#[test]
fn errors_begin_as_the_auctioneers_do() {
    let text = |bid: TimeboostBid, now_ms| auction().submit(bid, now_ms, |_| U256::from(16)).unwrap_err().to_string();
    assert_eq!(text(unsigned(5, 10), OPEN_MS), "wanted 2, got 5: BAD_ROUND_NUMBER");
    assert!(text(unsigned(2, 10), CLOSED_MS).starts_with("auction is closed: "));
    assert!(text(unsigned(2, 3), OPEN_MS).starts_with("reserve price 10, bid 3: "));
    assert!(text(unsigned(2, 10), OPEN_MS).starts_with("signature length is not 65: "));
    let short = text(signed(&key(1), unsigned(2, 255)), OPEN_MS);
    let expected = format!("bidder {}, onchain balance 0x10, bid amount 0xff: ", key(1).address());
    assert!(short.starts_with(&expected), "{short}");
}

#[test]
fn the_second_bid_is_the_price() {
    let mut auction = auction();
    for (seed, amount) in [(1, 30), (2, 50), (3, 40)] {
        auction.submit(signed(&key(seed), unsigned(2, amount)), OPEN_MS, rich).unwrap();
    }
    assert_eq!(code(auction.resolve(OPEN_MS, rich)), "auction_not_closed");
    let result = auction.resolve(CLOSED_MS, rich).unwrap();
    assert_eq!((result.round, result.start_s, result.end_s), (2, 120, 179));
    let sale = result.sale.unwrap();
    assert_eq!(sale.first.bidder, key(2).address());
    assert_eq!(sale.second.map(|second| second.bidder), Some(key(3).address()));
    assert_eq!(sale.price, U256::from(40));
    assert_eq!(code(auction.resolve(CLOSED_MS, rich)), "round_resolved_before");
}

#[test]
fn a_later_bid_replaces_the_bidders_own_and_nobody_elses() {
    let mut auction = auction();
    let mut bid = |seed: u8, amount| auction.submit(signed(&key(seed), unsigned(2, amount)), OPEN_MS, rich);
    bid(1, 90).unwrap();
    // The same controller, as all bids here, and lower: the first bidder keeps its own.
    bid(2, 20).unwrap();
    bid(1, 60).unwrap();
    let sale = auction.resolve(CLOSED_MS, rich).unwrap().sale.unwrap();
    assert_eq!((sale.first.bidder, sale.first.bid.amount), (key(1).address(), U256::from(60)));
    assert_eq!(sale.price, U256::from(20));
}

#[test]
fn a_lone_bidder_pays_the_reserve_and_nobody_pays_nothing() {
    let mut alone = auction();
    alone.submit(signed(&key(1), unsigned(2, 90)), OPEN_MS, rich).unwrap();
    let sale = alone.resolve(CLOSED_MS, rich).unwrap().sale.unwrap();
    assert_eq!((sale.second, sale.price), (None, RESERVE));
    assert_eq!(auction().resolve(CLOSED_MS, rich).unwrap().sale, None);
}

#[test]
fn bids_that_are_no_longer_covered_or_below_a_new_reserve_do_not_count() {
    let mut auction = auction();
    for (seed, amount) in [(1, 30), (2, 50), (3, 40)] {
        auction.submit(signed(&key(seed), unsigned(2, amount)), OPEN_MS, rich).unwrap();
    }
    auction.set_reserve(U256::from(35), OPEN_MS + 1).unwrap();
    assert_eq!(code(auction.set_reserve(U256::ZERO, CLOSED_MS - 1)), "reserve_fixed");
    let poor = key(2).address();
    let result = auction.resolve(CLOSED_MS, |bidder| U256::from(if bidder == poor { 49 } else { 50 })).unwrap();
    let mut left_out = vec![key(1).address(), poor];
    left_out.sort();
    assert_eq!(result.left_out, left_out);
    let sale = result.sale.unwrap();
    assert_eq!((sale.first.bidder, sale.second, sale.price), (key(3).address(), None, U256::from(35)));
    // The round is over for bids and for the reserve's being fixed.
    auction.set_reserve(RESERVE, CLOSED_MS).unwrap();
    assert_eq!(code(auction.submit(signed(&key(4), unsigned(2, 90)), OPEN_MS, rich)), "bidding_closed");
}

#[test]
fn a_round_that_begins_unresolved_lapses_and_a_clock_that_goes_back_changes_nothing() {
    let mut auction = auction();
    auction.submit(signed(&key(1), unsigned(2, 90)), OPEN_MS, rich).unwrap();
    auction.submit(signed(&key(1), unsigned(3, 20)), OPEN_MS + 60_000, rich).unwrap();
    assert_eq!((auction.record().round, auction.record().lapsed, auction.record().entries.len()), (3, 1, 1));
    let before = auction.clone();
    let late = auction.submit(signed(&key(2), unsigned(2, 95)), OPEN_MS, rich);
    assert_eq!(late, Err(TimeboostError::WrongRound { wanted: 3, got: 2 }));
    assert_eq!(code(auction.resolve(CLOSED_MS, rich)), "wrong_round");
    assert_eq!(code(auction.set_reserve(U256::ZERO, OPEN_MS)), "wrong_round");
    assert_eq!(auction, before);
    let sale = auction.resolve(CLOSED_MS + 60_000, rich).unwrap().sale.unwrap();
    assert_eq!((sale.first.bid.round, sale.first.bid.amount), (3, U256::from(20)));
}

#[test]
fn a_full_book_keeps_the_greatest_bids() {
    let entry = |place: u64| {
        let bid = TimeboostBid { amount: U256::from(100 + place), ..unsigned(2, 0) };
        (Address::left_padding_from(&place.to_be_bytes()), TimeboostEntry { submissions: 1, bid: Some(bid) })
    };
    let entries: BTreeMap<Address, TimeboostEntry> = (0..MAX_TIMEBOOST_BIDDERS as u64).map(entry).collect();
    let record = TimeboostRecord { round: 2, entries, ..auction().record().clone() };
    let mut auction = TimeboostAuction::restore(record).unwrap();
    assert_eq!(code(auction.submit(signed(&key(1), unsigned(2, 100)), OPEN_MS, rich)), "book_full");
    assert_eq!(code(auction.submit(signed(&key(2), unsigned(2, 999_999)), OPEN_MS, |_| U256::ONE)), "insufficient_balance");
    assert_eq!(auction.record().dropped, 0);
    auction.submit(signed(&key(1), unsigned(2, 101)), OPEN_MS, rich).unwrap();
    assert_eq!((auction.record().dropped, auction.record().entries.len()), (1, MAX_TIMEBOOST_BIDDERS));
    assert!(!auction.record().entries.contains_key(&Address::ZERO), "the lowest bid has gone");
}

#[test]
fn an_auction_is_restored_from_its_record_and_from_no_other() {
    let mut auction = auction();
    auction.submit(signed(&key(1), unsigned(2, 90)), OPEN_MS, rich).unwrap();
    let record = auction.record().clone();
    assert_eq!(TimeboostAuction::restore(record.clone()), Ok(auction));
    let damaged = |damage: fn(&mut TimeboostEntry)| {
        let mut record = record.clone();
        record.entries.values_mut().for_each(damage);
        code(TimeboostAuction::restore(record))
    };
    assert_eq!(damaged(|entry| entry.submissions = MAX_TIMEBOOST_SUBMISSIONS + 1), "impossible_record");
    assert_eq!(damaged(|entry| entry.bid = Some(unsigned(3, 90))), "impossible_record");
    let elsewhere = |entry: &mut TimeboostEntry| entry.bid = Some(TimeboostBid { chain: U256::ZERO, ..unsigned(2, 90) });
    assert_eq!(damaged(elsewhere), "impossible_record");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    /// The auction and the second-price mechanism agree about every round, ties included.
    #[test]
    fn a_round_is_a_second_price_auction_of_one_rollup(
        reserve in 0u64..6,
        bids in prop::collection::btree_map(1u8..=8, (0u64..10, 1u8..=3), 0..=6),
    ) {
        let bids = bids.into_iter().map(|(bidder, (amount, controller))| {
            let bid = TimeboostBid { express_lane_controller: Address::repeat_byte(controller), ..unsigned(2, amount) };
            (Address::with_last_byte(bidder), bid)
        });
        let bids: BTreeMap<Address, TimeboostBid> = bids.collect();
        let entries = bids.iter().map(|(bidder, bid)| (*bidder, TimeboostEntry { submissions: 1, bid: Some(bid.clone()) }));
        let reserve = U256::from(reserve);
        let record = TimeboostRecord { round: 2, reserve, entries: entries.collect(), ..auction().record().clone() };
        let mut auction = TimeboostAuction::restore(record).expect("a possible record");
        let result = auction.resolve(CLOSED_MS, rich).expect("the bidding is over");

        let terms = Terms { reserve, default_proposer: Address::ZERO };
        let sale = Sale::new(9, [(DOMAIN.chain, terms)].into()).expect("one rollup is not too many");
        let offers: Vec<_> = bids.iter().map(|(bidder, bid)| bid.offer(&DOMAIN, *bidder, 9)).collect();
        let clearing = SecondPrice.clear(&sale, &offers, B256::ZERO);
        let win = clearing.wins.first().map(|win| (win.bidder, win.bid, win.price));
        prop_assert_eq!(result.sale.as_ref().map(|sale| (sale.first.bidder, DOMAIN.digest(&sale.first.bid), sale.price)), win);

        // And the two best bids stand in the order in which the contract wants them.
        if let Some((first, second)) = result.sale.as_ref().and_then(|sale| Some((&sale.first, sale.second.as_ref()?))) {
            let rank = |bidder: Address, bid: &TimeboostBid| (bid.amount, tie_break(bidder, DOMAIN.digest(bid)));
            prop_assert!(first.bidder != second.bidder);
            prop_assert!(rank(first.bidder, &first.bid) > rank(second.bidder, &second.bid));
        }
    }
}

//! Timeboost bids in a marketplace: one more way into a slot's book, with the auctioneer's own words of refusal.

use std::sync::Arc;

use alloy::signers::local::PrivateKeySigner;
use alloy_primitives::{Address, B256, Bytes, U256};
use lockstep_market::{FirstPrice, HoldId, Marketplace, SecondPrice, TimeboostBid, TimeboostDomain};

use crate::{
    fixtures::{key, sign},
    marketplace::{BIDDING_MS, CLOSED_MS, SLOT, bid, deposit, free, market, units},
};

const DOMAIN: TimeboostDomain = TimeboostDomain { chain: 10, contract: Address::repeat_byte(0xcc) };

fn timeboost(signer: &PrivateKeySigner, amount: u64) -> TimeboostBid {
    resigned(
        signer,
        &TimeboostBid {
            chain: U256::from(DOMAIN.chain),
            express_lane_controller: signer.address(),
            auction_contract: DOMAIN.contract,
            round: SLOT,
            amount: units(amount),
            signature: Bytes::new(),
        },
    )
}

fn resigned(signer: &PrivateKeySigner, bid: &TimeboostBid) -> TimeboostBid {
    TimeboostBid { signature: sign(signer, DOMAIN.digest(bid)).to_vec().into(), ..bid.clone() }
}

fn take(market: &mut Marketplace, bid: &TimeboostBid, now_ms: u64) -> Result<(), (&'static str, String)> {
    market.timeboost_bid(&DOMAIN, bid, now_ms).map(drop).map_err(|error| (error.code(), error.to_string()))
}

#[test]
fn timeboost_bids_and_others_compete_and_the_winner_pays_the_second_price() {
    let (ann, bob, cat) = (key(1), key(2), key(3));
    let mut market = market(Arc::new(SecondPrice), &[10, 10, 10]);
    for signer in [&ann, &bob, &cat] {
        deposit(&mut market, signer.address(), 1_000);
    }
    take(&mut market, &timeboost(&ann, 50), BIDDING_MS).unwrap();
    take(&mut market, &timeboost(&ann, 80), BIDDING_MS).unwrap();
    take(&mut market, &timeboost(&cat, 30), BIDDING_MS).unwrap();
    bid(&mut market, &bob, &[10], 60, 1).unwrap();
    // The last bid counts, and only it is held for: 80 and a quarter.
    assert_eq!(market.ledger().held_for(HoldId { slot: SLOT, bidder: ann.address() }), units(100));
    let closed = market.close(SLOT, B256::ZERO).unwrap();
    let win = &closed.outcome.wins[0];
    assert_eq!((win.bidder, win.price, win.bid), (ann.address(), units(60), DOMAIN.digest(&timeboost(&ann, 80))));
    assert_eq!(free(&market, bob.address()), 1_000);
}

#[test]
fn each_refusal_has_the_auctioneers_string() {
    let (ann, bob) = (key(1), key(2));
    let mut market = market(Arc::new(FirstPrice), &[10, 10, 10]);
    let good = timeboost(&ann, 50);
    let change = |changed: TimeboostBid| resigned(&ann, &changed);
    let mut refuse = |bid: TimeboostBid, now_ms: u64, code: &str, ending: &str| {
        let (refused, text) = take(&mut market, &bid, now_ms).unwrap_err();
        assert_eq!(refused, code, "{text}");
        assert!(text.ends_with(ending), "{text}");
    };
    let elsewhere = TimeboostBid { auction_contract: Address::ZERO, ..good.clone() };
    refuse(elsewhere, BIDDING_MS, "wrong_auction_contract", "MALFORMED_DATA");
    refuse(
        change(TimeboostBid { express_lane_controller: Address::ZERO, ..good.clone() }),
        BIDDING_MS,
        "no_express_lane_controller",
        "MALFORMED_DATA",
    );
    refuse(change(TimeboostBid { chain: U256::MAX, ..good.clone() }), BIDDING_MS, "wrong_chain", "WRONG_CHAIN_ID");
    refuse(change(TimeboostBid { round: SLOT + 1, ..good.clone() }), BIDDING_MS, "wrong_round", "BAD_ROUND_NUMBER");
    refuse(good.clone(), CLOSED_MS, "bidding_closed", "BAD_ROUND_NUMBER");
    refuse(timeboost(&ann, 9), BIDDING_MS, "below_reserve", "RESERVE_PRICE_NOT_MET");
    refuse(TimeboostBid { signature: Bytes::new(), ..good.clone() }, BIDDING_MS, "signature_length", "MALFORMED_DATA");
    let other = change(TimeboostBid { express_lane_controller: bob.address(), ..good.clone() });
    refuse(other, BIDDING_MS, "controller_not_bidder", "NOT_EXPRESS_LANE_CONTROLLER");
    refuse(good.clone(), BIDDING_MS, "not_depositor", "NOT_DEPOSITOR");
    deposit(&mut market, ann.address(), 50);
    let (code, text) = take(&mut market, &good, BIDDING_MS).unwrap_err();
    assert!(code == "insufficient_balance" && text.ends_with("INSUFFICIENT_BALANCE"), "the bond is not covered: {text}");
    deposit(&mut market, ann.address(), 50);
    for _ in 0..4 {
        take(&mut market, &good, BIDDING_MS).unwrap();
    }
    let (code, text) = take(&mut market, &good, BIDDING_MS).unwrap_err();
    assert!(code == "too_many_bids" && text.ends_with("PER_ROUND_BID_LIMIT_REACHED"), "{text}");
    assert_eq!(market.book_of(SLOT).map(lockstep_market::SlotAuction::len), Some(1));
}

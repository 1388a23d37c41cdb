//! Bids of Espresso's kind beside others.

use std::sync::Arc;

use alloy::signers::local::PrivateKeySigner;
use alloy_primitives::{B256, eip191_hash_message};
use lockstep_market::{Combinatorial, EspressoBid, Marketplace};

use crate::{
    fixtures::{key, sign},
    marketplace::{BIDDING_MS, SLOT, bid, deposit, free, market, units},
};

fn offer(account: &PrivateKeySigner, namespaces: &[u64], bid_amount: u64, gas_price: u64) -> EspressoBid {
    EspressoBid {
        account: account.address(),
        gas_price: units(gas_price),
        bid_amount: units(bid_amount),
        url: "http://builder/".to_owned(),
        view: SLOT,
        namespaces: namespaces.to_vec(),
    }
}

fn send(market: &mut Marketplace, signer: &PrivateKeySigner, bid: &EspressoBid) -> Result<bool, &'static str> {
    let signature = sign(signer, eip191_hash_message(bid.commitment()));
    market.espresso_bid(bid, &signature, BIDDING_MS).map(|taken| taken.added.is_some()).map_err(|error| error.code())
}

#[test]
fn one_bid_an_account_and_view_and_the_later_one_replaces_it() {
    let (ann, bob) = (key(1), key(2));
    let mut market = market(Arc::new(Combinatorial::default()), &[10, 10, 10]);
    deposit(&mut market, ann.address(), 100);
    deposit(&mut market, bob.address(), 100);
    let first = offer(&ann, &[10, 20], 35, 5);
    assert_eq!(send(&mut market, &bob, &first), Err("wrong_bid_signer"));
    assert_eq!(send(&mut market, &ann, &first), Ok(true));
    assert_eq!((send(&mut market, &ann, &first), free(&market, ann.address())), (Ok(false), 50), "both amounts, and a bond");
    assert_eq!(send(&mut market, &ann, &offer(&ann, &[30], 100, 0)), Err("deposit_too_small"));
    assert_eq!(free(&market, ann.address()), 50, "the earlier one stands");
    assert_eq!(send(&mut market, &ann, &offer(&ann, &[30], 9, 0)), Err("below_reserve"));
    assert_eq!(send(&mut market, &ann, &offer(&ann, &[30, 30], 40, 0)), Err("namespace_twice"));
    assert_eq!(send(&mut market, &ann, &EspressoBid { view: SLOT + 9, ..first.clone() }), Err("slot_not_open"));
    let second = offer(&ann, &[30], 20, 0);
    assert_eq!(send(&mut market, &ann, &second), Ok(true));
    assert_eq!(free(&market, ann.address()), 75);
    assert_eq!(send(&mut market, &ann, &first), Err("bid_replaced"), "nobody hands the old one in again");
    bid(&mut market, &bob, &[10], 12, 1).unwrap();
    let closed = market.close(SLOT, B256::ZERO).unwrap();
    let winners: Vec<_> = closed.outcome.wins.iter().map(|win| (win.bidder, win.price)).collect();
    assert_eq!(winners, [(bob.address(), units(12)), (ann.address(), units(20))]);
}

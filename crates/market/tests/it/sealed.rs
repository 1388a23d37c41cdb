//! Sealed bids: nobody reads them before they are opened, and who does not open them pays.

use std::sync::Arc;

use alloy::signers::local::PrivateKeySigner;
use alloy_primitives::{B256, U256};
use lockstep_market::{
    Combinatorial, HoldId, MAX_BIDS_PER_BIDDER, MarketRecord, Marketplace, Rules, SealRules, bond, seed_commitment, slot_seed,
};
use lockstep_primitives::{Bid, BidCancellation, ChainId, Opening, SealedBids};
use proptest::prelude::*;

use crate::{
    fixtures::{key, sign},
    marketplace::{BIDDING_MS, CLOSED_MS, SLOT, bid, deposit, free, payout, rules, selling, units},
};

/// Bids are opened in the last 150 ms before 6800, where the bidding ends.
const OPENING_MS: u64 = CLOSED_MS - 100;
const FORFEIT_BPS: u64 = 5_000;

fn sealing() -> Rules {
    Rules { sealing: Some(SealRules { open_ms: 150, forfeit_bps: FORFEIT_BPS }), ..rules(Arc::new(Combinatorial::default())) }
}

fn opening(bidder: &PrivateKeySigner, bids: &[(&[ChainId], u64)], salt: u8) -> Opening {
    let bid = |(rollups, amount): &(&[ChainId], u64)| {
        let rollups = rollups.iter().copied().collect();
        Bid { slot: SLOT, rollups, amount: units(*amount), exclusive: None, nonce: 1 }
    };
    Opening { slot: SLOT, bidder: bidder.address(), salt: B256::repeat_byte(salt), bids: bids.iter().map(bid).collect() }
}

fn sealed(opening: &Opening, cover: u64, nonce: u64) -> SealedBids {
    let bids = opening.bids.len() as u64;
    SealedBids { slot: SLOT, commitment: opening.commitment(), bids, cover: units(cover), nonce }
}

fn seal(market: &mut Marketplace, signer: &PrivateKeySigner, sealed: SealedBids, now_ms: u64) -> Result<bool, String> {
    let signature = sign(signer, sealed.digest());
    market.seal(sealed, &signature, now_ms).map(|sealed| sealed.posting.is_some()).map_err(|error| error.code().to_owned())
}

fn open(market: &mut Marketplace, opening: &Opening, now_ms: u64) -> Result<bool, String> {
    market.open_bids(opening.clone(), now_ms).map_err(|error| error.code().to_owned())
}

#[test]
fn sealed_bids_win_once_they_are_opened_and_nobody_sees_them_before() {
    let (ann, bob) = (key(1), key(2));
    let mut market = selling(sealing(), &[10, 10, 10]);
    deposit(&mut market, ann.address(), 1_000);
    deposit(&mut market, bob.address(), 1_000);
    let (anns, bobs) = (opening(&ann, &[(&[10, 20], 50)], 7), opening(&bob, &[(&[10], 20), (&[20], 15)], 8));
    assert_eq!(seal(&mut market, &ann, sealed(&anns, 60, 1), BIDDING_MS), Ok(true));
    assert_eq!(seal(&mut market, &ann, sealed(&anns, 60, 1), BIDDING_MS), Ok(false), "the same again");
    assert_eq!(seal(&mut market, &bob, sealed(&bobs, 100, 1), BIDDING_MS), Ok(true));
    // A cover of 60 and its bond of a quarter.
    assert_eq!(free(&market, ann.address()), 1_000 - 75);
    assert!(market.book_of(SLOT).is_some_and(|book| book.is_empty()), "the book holds nothing that could be read");

    assert_eq!(open(&mut market, &anns, BIDDING_MS), Err("opening_out_of_time".to_owned()));
    assert_eq!(open(&mut market, &anns, OPENING_MS), Ok(true));
    assert_eq!(open(&mut market, &anns, OPENING_MS), Ok(false), "the same again");
    assert_eq!(open(&mut market, &bobs, OPENING_MS), Ok(true));
    assert_eq!(open(&mut market, &bobs, CLOSED_MS), Err("opening_out_of_time".to_owned()));
    let closed = market.close(SLOT, B256::ZERO).unwrap();
    assert_eq!(closed.outcome.wins.iter().map(|win| (win.bidder, win.price)).collect::<Vec<_>>(), [(ann.address(), units(50))]);
    assert_eq!(closed.envelopes.salts(), {
        let mut salts = [(ann.address(), anns.salt), (bob.address(), bobs.salt)];
        salts.sort();
        salts.map(|(_, salt)| salt)
    });
    assert_eq!(free(&market, bob.address()), 1_000, "a loser that opened its bids gets all back");
    assert_eq!(market.ledger().held_for(HoldId { slot: SLOT, bidder: ann.address() }), units(50 + 2 * 6), "the price and bonds");
}

#[test]
fn who_does_not_open_its_bids_forfeits_to_the_sellers() {
    let (ann, bob) = (key(1), key(2));
    let mut market = selling(sealing(), &[10, 20, 10]);
    deposit(&mut market, ann.address(), 1_000);
    deposit(&mut market, bob.address(), 1_000);
    let (anns, bobs) = (opening(&ann, &[(&[10], 15)], 7), opening(&bob, &[(&[10], 90)], 8));
    seal(&mut market, &ann, sealed(&anns, 20, 1), BIDDING_MS).unwrap();
    seal(&mut market, &bob, sealed(&bobs, 100, 1), BIDDING_MS).unwrap();
    open(&mut market, &anns, OPENING_MS).unwrap();
    let closed = market.close(SLOT, B256::ZERO).unwrap();
    assert_eq!(closed.outcome.wins[0].bidder, ann.address(), "what is not opened does not win");
    let forfeit = bond(units(100), FORFEIT_BPS).to::<u64>();
    assert_eq!(forfeit, 50);
    assert_eq!(free(&market, bob.address()), 1_000 - forfeit);
    // In proportion to the reserves of 10, 20 and 10.
    let paid: Vec<u64> = [10, 20, 30].map(|chain| free(&market, payout(chain))).to_vec();
    assert_eq!(paid, [13, 25, 12]);
}

#[test]
fn what_is_opened_has_to_be_what_was_sealed_and_what_the_sale_allows() {
    let (ann, eve) = (key(1), key(3));
    let mut market = selling(sealing(), &[10, 10, 10]);
    deposit(&mut market, ann.address(), 1_000);
    deposit(&mut market, eve.address(), 1_000);
    let anns = opening(&ann, &[(&[10], 20), (&[20], 20)], 7);
    seal(&mut market, &ann, sealed(&anns, 39, 1), BIDDING_MS).unwrap();
    // Somebody else hands in the same commitment, to open it with what Ann will.
    seal(&mut market, &eve, sealed(&anns, 40, 1), BIDDING_MS).unwrap();
    let copied = Opening { bidder: eve.address(), ..anns.clone() };
    let refused = |market: &mut Marketplace, opening: &Opening| open(market, opening, OPENING_MS).unwrap_err();
    assert_eq!(refused(&mut market, &copied), "opening_mismatch");
    assert_eq!(refused(&mut market, &Opening { salt: B256::ZERO, ..anns.clone() }), "opening_mismatch");
    assert_eq!(refused(&mut market, &anns), "beyond_cover");
    assert_eq!(refused(&mut market, &Opening { bidder: key(9).address(), ..anns }), "no_sealed_bids");
    for (bids, code) in [
        (&[(&[10][..], 20), (&[10][..], 30)][..], "package_sealed_twice"),
        (&[(&[10][..], 9)], "below_reserve"),
        (&[(&[40][..], 20)], "not_on_sale"),
    ] {
        let mut market = selling(sealing(), &[10, 10, 10]);
        deposit(&mut market, ann.address(), 1_000);
        let bad = opening(&ann, bids, 1);
        seal(&mut market, &ann, sealed(&bad, 100, 1), BIDDING_MS).unwrap();
        assert_eq!(refused(&mut market, &bad), code);
        assert!(market.book_of(SLOT).is_some_and(|book| book.is_empty()), "nothing half-applied");
    }
}

#[test]
fn sealed_bids_are_replaced_and_taken_back_and_never_go_back() {
    let ann = key(1);
    let mut market = selling(sealing(), &[10, 10, 10]);
    let first = opening(&ann, &[(&[10], 20)], 7);
    assert_eq!(seal(&mut market, &ann, sealed(&first, 20, 1), BIDDING_MS), Err("deposit_too_small".to_owned()));
    deposit(&mut market, ann.address(), 100);
    seal(&mut market, &ann, sealed(&first, 20, 2), BIDDING_MS).unwrap();
    let second = opening(&ann, &[(&[20], 40)], 8);
    assert_eq!(seal(&mut market, &ann, sealed(&second, 40, 2), BIDDING_MS), Err("seal_nonce_too_low".to_owned()));
    assert_eq!(seal(&mut market, &ann, sealed(&second, 81, 3), BIDDING_MS), Err("deposit_too_small".to_owned()));
    seal(&mut market, &ann, sealed(&second, 40, 3), BIDDING_MS).unwrap();
    assert_eq!(free(&market, ann.address()), 50);
    let back = SealedBids { slot: SLOT, commitment: B256::ZERO, bids: 0, cover: U256::ZERO, nonce: 4 };
    seal(&mut market, &ann, back, BIDDING_MS).unwrap();
    assert_eq!(free(&market, ann.address()), 100);
    assert_eq!(seal(&mut market, &ann, sealed(&second, 40, 3), BIDDING_MS), Err("seal_nonce_too_low".to_owned()), "replayed");
    assert_eq!(open(&mut market, &second, OPENING_MS), Err("no_sealed_bids".to_owned()));
    let closed = market.close(SLOT, B256::ZERO).unwrap();
    assert!(closed.outcome.wins.is_empty());
    assert_eq!(free(&market, ann.address()), 100, "what was taken back need not be opened");
}

#[test]
fn bids_are_sealed_where_they_have_to_be_and_only_there() {
    let ann = key(1);
    let mut market = selling(sealing(), &[10, 10, 10]);
    deposit(&mut market, ann.address(), 1_000);
    assert_eq!(bid(&mut market, &ann, &[10], 20, 1), Err("sealed_only".to_owned()));
    let cancellation = BidCancellation { slot: SLOT, rollups: [10].into(), exclusive: None, nonce: 2 };
    let refused = market.cancel(&cancellation, &sign(&ann, cancellation.digest()), BIDDING_MS).unwrap_err();
    assert_eq!(refused.code(), "sealed_only");
    let opening = opening(&ann, &[(&[10], 20)], 7);
    let good = sealed(&opening, 20, 1);
    assert_eq!(seal(&mut market, &ann, good, OPENING_MS), Err("bidding_closed".to_owned()));
    let many = MAX_BIDS_PER_BIDDER as u64 + 1;
    for bad in [
        SealedBids { bids: 0, ..good },
        SealedBids { bids: many, ..good },
        SealedBids { commitment: B256::ZERO, ..good },
        SealedBids { commitment: B256::ZERO, bids: 0, ..good },
    ] {
        assert_eq!(seal(&mut market, &ann, bad, BIDDING_MS), Err("wrong_number_of_bids".to_owned()));
    }
    assert_eq!(seal(&mut market, &ann, SealedBids { cover: U256::MAX, ..good }, BIDDING_MS), Err("amount_too_large".to_owned()));
    assert_eq!(seal(&mut market, &ann, SealedBids { slot: 99, ..good }, BIDDING_MS), Err("slot_not_open".to_owned()));
    assert_eq!(market.seal(good, &[0; 65], BIDDING_MS).unwrap_err().code(), "invalid_bid_signature");
    assert_eq!(free(&market, ann.address()), 1_000, "nothing of all this is held for");
    let mut trusted = selling(rules(Arc::new(Combinatorial::default())), &[10]);
    assert_eq!(seal(&mut trusted, &ann, good, BIDDING_MS), Err("not_sealed".to_owned()));
    assert_eq!(open(&mut trusted, &opening, OPENING_MS), Err("not_sealed".to_owned()));
}

#[test]
fn sealed_and_opened_bids_are_there_again_after_a_restart() {
    let (ann, bob) = (key(1), key(2));
    let mut market = selling(sealing(), &[10, 10, 10]);
    deposit(&mut market, ann.address(), 1_000);
    deposit(&mut market, bob.address(), 1_000);
    let (anns, bobs) = (opening(&ann, &[(&[10], 20)], 7), opening(&bob, &[(&[20], 30)], 8));
    seal(&mut market, &ann, sealed(&anns, 20, 1), BIDDING_MS).unwrap();
    seal(&mut market, &bob, sealed(&bobs, 30, 1), BIDDING_MS).unwrap();
    open(&mut market, &anns, OPENING_MS).unwrap();
    let record = MarketRecord {
        registry: market.registry().clone(),
        ledger: market.ledger().clone(),
        envelopes: market.envelopes_of(SLOT).unwrap().iter().map(|(bidder, envelope)| (bidder, envelope.clone())).collect(),
        ..MarketRecord::default()
    };
    let mut again = Marketplace::new(sealing(), record).unwrap();
    assert_eq!(open(&mut again, &anns, OPENING_MS), Ok(false));
    assert_eq!(open(&mut again, &bobs, OPENING_MS), Ok(true));
    assert_eq!(again.close(SLOT, B256::ZERO).unwrap().outcome, {
        open(&mut market, &bobs, OPENING_MS).unwrap();
        market.close(SLOT, B256::ZERO).unwrap().outcome
    });
}

#[test]
fn a_slot_that_the_market_missed_costs_nobody_anything() {
    let ann = key(1);
    let mut market = selling(sealing(), &[10, 10, 10]);
    deposit(&mut market, ann.address(), 1_000);
    seal(&mut market, &ann, sealed(&opening(&ann, &[(&[10], 20)], 7), 20, 1), BIDDING_MS).unwrap();
    market.abandon(CLOSED_MS + 5_000).unwrap();
    assert_eq!(free(&market, ann.address()), 1_000);
    assert!(market.envelopes_of(SLOT).is_none());
}

#[test]
fn a_seed_needs_the_secret_that_was_committed_to_and_every_salt() {
    let secret = B256::repeat_byte(1);
    let salts = [B256::repeat_byte(2), B256::repeat_byte(3)];
    let seed = slot_seed(secret, 7, &salts);
    assert_ne!(seed, slot_seed(secret, 8, &salts));
    assert_ne!(seed, slot_seed(secret, 7, &salts[..1]));
    assert_ne!(seed, slot_seed(B256::repeat_byte(4), 7, &salts));
    assert_ne!(seed_commitment(secret), seed_commitment(B256::repeat_byte(4)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever is sealed, replaced, opened and left shut: the ledger balances, nobody loses more than its forfeit or what it won
    /// for, and who opened everything and won nothing loses nothing.
    #[test]
    fn money_is_kept_whatever_is_opened(
        bidders in prop::collection::vec((1u64..60, 1u64..60, 0usize..3, any::<bool>(), 0u64..40), 1..6),
    ) {
        let mut market = selling(sealing(), &[5, 0, 7]);
        let mut all = Vec::new();
        for (index, (first, second, at, opens, extra)) in bidders.into_iter().enumerate() {
            let signer = key(10 + index as u8);
            deposit(&mut market, signer.address(), 1_000);
            let chain = [10, 20, 30][at];
            let opening = opening(&signer, &[(&[chain], first + 7), (&[10, 20, 30], second + 12)], index as u8);
            let cover = first + second + 19 + extra;
            prop_assert_eq!(seal(&mut market, &signer, sealed(&opening, cover, 1), BIDDING_MS), Ok(true));
            if opens {
                prop_assert_eq!(open(&mut market, &opening, OPENING_MS), Ok(true));
            }
            all.push((signer.address(), opens, cover));
        }
        let inside = market.ledger().inside();
        let closed = market.close(SLOT, B256::ZERO).unwrap();
        prop_assert_eq!(market.ledger().inside(), inside);
        let balance = |account| { let balance = market.ledger().balance(account); balance.free + balance.held };
        let sellers = [10, 20, 30].map(|chain| balance(payout(chain))).into_iter().fold(U256::ZERO, |sum, paid| sum + paid);
        let forfeits = all.iter().filter(|(_, opens, _)| !opens).map(|(.., cover)| bond(units(*cover), FORFEIT_BPS));
        prop_assert_eq!(sellers, forfeits.fold(U256::ZERO, |sum, forfeit| sum + forfeit));
        for (bidder, opens, cover) in all {
            let lost = units(1_000) - balance(bidder);
            prop_assert_eq!(lost, if opens { U256::ZERO } else { bond(units(cover), FORFEIT_BPS) });
            if !closed.outcome.wins.iter().any(|win| win.bidder == bidder) {
                prop_assert_eq!(market.ledger().balance(bidder).held, U256::ZERO);
            }
        }
    }
}

//! What the book of a slot takes, what it refuses, and that bidders cannot touch each other's bids.

use std::collections::BTreeMap;

use alloy::signers::local::PrivateKeySigner;
use alloy_primitives::{B256, U256};
use lockstep_market::{Combinatorial, MAX_AMOUNT, MAX_BIDS_PER_BIDDER, MAX_TAG_BYTES, MarketError, Outcome, Sale, SlotAuction};
use lockstep_primitives::{Bid, BidCancellation, ChainId, Grant};

use crate::fixtures::{bid, default_proposer, key, sign, terms};

const CLOSE_MS: u64 = 1000;

fn open() -> SlotAuction {
    SlotAuction::open(Sale::new(7, terms(&[(1, 10), (10, 20), (42, 0)])).expect("three rollups are not too many"))
}

fn submit(auction: &mut SlotAuction, bid: &Bid, signer: &PrivateKeySigner) -> Result<B256, MarketError> {
    let signature = sign(signer, bid.digest());
    auction.submit(bid.clone(), &signature, CLOSE_MS - 1, CLOSE_MS)
}

fn decided(auction: SlotAuction) -> Outcome {
    let (sale, bids) = auction.close();
    Outcome::decide(&Combinatorial::default(), &sale, bids, B256::ZERO)
}

#[test]
fn bids_become_an_allocation() {
    let (mut auction, ann, bob) = (open(), key(1), key(2));
    let digest = submit(&mut auction, &bid(&[1, 10], 60), &ann).unwrap();
    submit(&mut auction, &bid(&[1], 20), &bob).unwrap();
    assert_eq!(digest, bid(&[1, 10], 60).digest());

    let outcome = decided(auction);
    assert_eq!(outcome.allocation.slot, 7);
    assert_eq!(
        outcome.allocation.grants,
        [
            Grant { proposer: ann.address(), rollups: [1, 10].into(), price: U256::from(60) },
            Grant { proposer: default_proposer(42), rollups: [42].into(), price: U256::ZERO },
        ]
    );
    // Both floors are 20: rollup 1's is what bob would have paid, rollup 10's its reserve.
    let proceeds = BTreeMap::from([(1, U256::from(30)), (10, U256::from(30)), (42, U256::ZERO)]);
    assert_eq!(outcome.proceeds, proceeds);
    assert_eq!(outcome.bids.len(), 2);
    assert_eq!(outcome.winning_bids().map(|winner| winner.bidder).collect::<Vec<_>>(), [ann.address()]);
    assert_eq!(outcome.gap, U256::ZERO);
}

#[test]
fn an_empty_book_leaves_everything_to_the_default_proposers() {
    let outcome = decided(open());
    let grant = |chain: ChainId| Grant { proposer: default_proposer(chain), rollups: [chain].into(), price: U256::ZERO };
    assert_eq!(outcome.allocation.grants, [grant(1), grant(10), grant(42)]);
}

#[test]
fn bad_bids_are_refused_by_name() {
    let (mut auction, ann) = (open(), key(1));
    let good = bid(&[1, 10], 30);
    let bad = [
        (Bid { slot: 8, ..good.clone() }, "wrong_slot"),
        (bid(&[], 30), "empty_package"),
        (bid(&[1, 11], 30), "not_on_sale"),
        (bid(&[1, 10], 29), "below_reserve"),
        (Bid { amount: MAX_AMOUNT + U256::ONE, ..good.clone() }, "amount_too_large"),
        (Bid { exclusive: Some("x".repeat(MAX_TAG_BYTES + 1)), ..good.clone() }, "tag_too_long"),
    ];
    for (bid, code) in bad {
        let refused = submit(&mut auction, &bid, &ann).unwrap_err();
        assert_eq!(refused.code(), code);
        assert!(!refused.hint().is_empty());
    }
    let refused = submit(&mut auction, &bid(&[1, 10], 29), &ann).unwrap_err();
    assert_eq!(refused.to_string(), "the bid for rollups {1, 10} in slot 7 offers 29, the reserves sum to 30");

    let refused = auction.submit(good.clone(), &[0; 64], 0, CLOSE_MS);
    assert_eq!(refused, Err(MarketError::InvalidBidSignature { slot: 7 }));
    let late = auction.submit(good.clone(), &sign(&ann, good.digest()), CLOSE_MS, CLOSE_MS);
    assert_eq!(late, Err(MarketError::Closed { slot: 7, close_ms: CLOSE_MS, now_ms: CLOSE_MS }));
    assert!(auction.is_empty());
    submit(&mut auction, &good, &ann).unwrap();
}

#[test]
fn a_higher_nonce_replaces_and_the_same_bid_changes_nothing() {
    let (mut auction, ann) = (open(), key(1));
    let first = bid(&[1], 50);
    let digest = submit(&mut auction, &first, &ann).unwrap();
    assert_eq!(submit(&mut auction, &first, &ann), Ok(digest));

    // An empty tag is none, so this is the same bid too.
    let same = Bid { exclusive: Some(String::new()), ..first.clone() };
    assert_eq!(submit(&mut auction, &same, &ann), Ok(digest));
    assert_eq!(auction.len(), 1);

    let refused = submit(&mut auction, &bid(&[1], 60), &ann);
    assert_eq!(refused, Err(MarketError::BidNonceTooLow { slot: 7, rollups: [1].into(), nonce: 1, current: 1 }));
    submit(&mut auction, &Bid { nonce: 2, ..bid(&[1], 40) }, &ann).unwrap();
    assert_eq!(submit(&mut auction, &first, &ann).unwrap_err().code(), "bid_nonce_too_low");

    // Another tag is another bid, which may have any nonce.
    submit(&mut auction, &Bid { exclusive: Some("a".to_owned()), nonce: 0, ..bid(&[1], 30) }, &ann).unwrap();
    assert_eq!(auction.len(), 2);
    assert_eq!(decided(auction).proceeds[&1], U256::from(40));
}

#[test]
fn bidders_do_not_replace_each_other() {
    let (mut auction, ann, bob) = (open(), key(1), key(2));
    submit(&mut auction, &bid(&[1], 50), &ann).unwrap();
    submit(&mut auction, &Bid { nonce: 9, ..bid(&[1], 11) }, &bob).unwrap();
    // The very same offer by another bidder is another bid, though its digest is the same.
    submit(&mut auction, &bid(&[10], 50), &ann).unwrap();
    submit(&mut auction, &bid(&[10], 50), &bob).unwrap();
    assert_eq!(auction.len(), 4, "one for each bidder and package");
    let outcome = decided(auction);
    assert_eq!(outcome.allocation.proposer_of(1), Some(ann.address()));
    assert_eq!(outcome.allocation.proposer_of(10), Some(ann.address().min(bob.address())));
}

#[test]
fn one_bidder_cannot_fill_the_book() {
    let (mut auction, ann, bob) = (open(), key(1), key(2));
    let tagged = |tag: usize, nonce| Bid { exclusive: Some(tag.to_string()), nonce, ..bid(&[42], 1) };
    for tag in 0..MAX_BIDS_PER_BIDDER {
        submit(&mut auction, &tagged(tag, 0), &ann).unwrap();
    }
    let refused = submit(&mut auction, &tagged(MAX_BIDS_PER_BIDDER, 0), &ann);
    assert_eq!(refused, Err(MarketError::TooManyBids { slot: 7, bidder: ann.address(), limit: MAX_BIDS_PER_BIDDER }));
    submit(&mut auction, &tagged(0, 1), &ann).unwrap();
    submit(&mut auction, &tagged(0, 0), &bob).unwrap();
}

#[test]
fn the_order_of_submission_does_not_matter() {
    let (ann, bob, cid) = (key(1), key(2), key(3));
    let tag = |bid: Bid| Bid { exclusive: Some("one of".to_owned()), ..bid };
    let bids = [
        (tag(bid(&[1, 10], 60)), &ann),
        (tag(bid(&[42], 60)), &ann),
        (bid(&[1], 30), &bob),
        (bid(&[10], 30), &bob),
        (bid(&[42], 60), &cid),
        (bid(&[10, 42], 90), &cid),
    ];
    let outcome_of = |order: &[usize]| {
        let mut auction = open();
        for index in order {
            let (bid, signer) = &bids[*index];
            submit(&mut auction, bid, signer).expect("each bid is valid");
        }
        decided(auction)
    };
    let expected = outcome_of(&[0, 1, 2, 3, 4, 5]);
    for order in [[5, 4, 3, 2, 1, 0], [3, 0, 5, 2, 4, 1], [1, 3, 5, 0, 2, 4], [2, 5, 0, 4, 1, 3]] {
        assert_eq!(outcome_of(&order), expected);
    }
}

#[test]
fn a_bid_that_is_taken_back_is_gone_and_cannot_be_handed_in_again() {
    let (mut auction, ann, bob) = (open(), key(1), key(2));
    let good = bid(&[1], 20);
    submit(&mut auction, &good, &ann).unwrap();
    let cancellation = BidCancellation { slot: 7, rollups: [1].into(), exclusive: None, nonce: 2 };
    let cancel = |auction: &mut SlotAuction, cancellation: &BidCancellation, signer: &PrivateKeySigner, now_ms| {
        auction.cancel(cancellation, &sign(signer, cancellation.digest()), now_ms, CLOSE_MS).map_err(|error| error.code())
    };
    assert_eq!(cancel(&mut auction, &cancellation, &bob, 0), Err("unknown_bid"));
    assert_eq!(cancel(&mut auction, &cancellation, &ann, CLOSE_MS), Err("bidding_closed"));
    for (wrong, code) in [
        (BidCancellation { slot: 8, ..cancellation.clone() }, "wrong_slot"),
        (BidCancellation { nonce: 1, ..cancellation.clone() }, "bid_nonce_too_low"),
        (BidCancellation { exclusive: Some("x".to_owned()), ..cancellation.clone() }, "unknown_bid"),
    ] {
        assert_eq!(cancel(&mut auction, &wrong, &ann, 0), Err(code));
    }
    assert_eq!(auction.cancel(&cancellation, &[0; 65], 0, CLOSE_MS).unwrap_err().code(), "invalid_bid_signature");
    assert_eq!(auction.len(), 1);
    assert_eq!(cancel(&mut auction, &cancellation, &ann, 0).map(|gone| gone.bid), Ok(good.clone()));
    assert!(auction.is_empty());
    assert_eq!(cancel(&mut auction, &cancellation, &ann, 0), Err("unknown_bid"));
    assert_eq!(submit(&mut auction, &good, &ann).unwrap_err().code(), "bid_nonce_too_low");
    submit(&mut auction, &Bid { nonce: 3, ..good }, &ann).unwrap();
    assert_eq!(auction.len(), 1);
}

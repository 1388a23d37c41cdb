//! L1 in a market: it is its known proposer's, who bids for rollups and builds both.

use std::sync::Arc;

use alloy_primitives::B256;
use lockstep_market::{Acquisition, Combinatorial, L1Terms, L1View, Rules};

use crate::{
    fixtures::key,
    marketplace::{BIDDING_MS, SLOT, bid, deposit, market as without, rules, selling, sequencer},
};

/// Rollup 30 plays L1 here: its slot 7 is the market's.
const L1: L1Terms = L1Terms { chain: 30, genesis_s: 0, slot_s: 1 };

#[test]
fn l1_is_its_proposers_and_what_it_builds_with_it_reads_its_newest_state() {
    let (ann, bob) = (key(1), key(2));
    let mut market = selling(Rules { l1: Some(L1), ..rules(Arc::new(Combinatorial::default())) }, &[10, 20, 30]);
    deposit(&mut market, ann.address(), 1_000);
    market.learn_l1(SLOT, ann.address()).unwrap();
    market.learn_l1(SLOT + 1, bob.address()).unwrap();
    let sale = market.open(SLOT, BIDDING_MS).unwrap().sale();
    assert!(!sale.terms().contains_key(&30), "it is not for sale");
    assert_eq!(bid(&mut market, &ann, &[10, 30], 100, 1), Err("not_on_sale".to_owned()));
    bid(&mut market, &ann, &[10], 10, 1).unwrap();
    let closed = market.close(SLOT, B256::ZERO).unwrap();
    let proposers = [10, 20, 30].map(|chain| closed.outcome.allocation.proposer_of(chain));
    assert_eq!(proposers, [ann.address(), sequencer(20).address(), ann.address()].map(Some));
    assert_eq!(market.rights().get(SLOT, 30).unwrap().granted.how, Acquisition::Default, "and it owes nothing for it");
    let mut terms = market.registry().at(10, SLOT).unwrap().clone();
    assert_eq!(market.l1_view(SLOT, 10), Some(L1View::OwnRules));
    // A rollup that follows L1 reads the block that its own proposer builds.
    (terms.follows_l1, terms.from_slot, terms.nonce) = (true, SLOT + 1, 2);
    let signature = crate::fixtures::sign(&sequencer(10), terms.digest());
    market.register(terms, &signature, BIDDING_MS).unwrap();
    market.close(SLOT + 1, B256::ZERO).unwrap();
    assert_eq!(market.l1_view(SLOT + 1, 10), Some(L1View::Published), "L1 is somebody else's there");
    assert_eq!(market.rights().get(SLOT + 1, 30).unwrap().proposer(), bob.address());
}

#[test]
fn whose_turn_it_is_counts_only_where_l1_takes_part() {
    let mut market = without(Arc::new(Combinatorial::default()), &[10, 20, 30]);
    assert_eq!(market.learn_l1(SLOT, key(1).address()).unwrap_err().code(), "no_l1");
    assert_eq!(market.l1_view(SLOT, 10), None);
    let mut market = selling(Rules { l1: Some(L1), ..rules(Arc::new(Combinatorial::default())) }, &[10, 20, 30]);
    // Nobody is known: its own default proposer builds, and nobody buys.
    assert!(!market.open(SLOT, BIDDING_MS).unwrap().sale().terms().contains_key(&30));
    let closed = market.close(SLOT, B256::ZERO).unwrap();
    assert_eq!(closed.outcome.allocation.proposer_of(30), Some(sequencer(30).address()));
    let code = Rules { l1: Some(L1Terms { slot_s: 0, ..L1 }), ..rules(Arc::new(Combinatorial::default())) };
    assert_eq!(lockstep_market::Marketplace::new(code, Default::default()).unwrap_err().code(), "l1_without_slots");
}

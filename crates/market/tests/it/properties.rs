//! Winner determination against an oracle that tries every subset of the bids.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use alloy_primitives::{Address, B256, U256};
use lockstep_market::{AcceptedBid, Combinatorial, Outcome, Sale, split};
use lockstep_primitives::{Bid, ChainId, Grant, RollupSet};
use proptest::prelude::*;

use crate::fixtures::{default_proposer, terms};

const SLOT: u64 = 7;

fn chain(index: usize) -> ChainId {
    10 + 7 * index as u64
}

/// Amounts are small, so that ties, bids at the reserve and bids below it are frequent. Bidders share nonces, so that
/// different bidders make the same offer.
fn books() -> impl Strategy<Value = (Sale, Vec<AcceptedBid>)> {
    let book = (1usize..=6).prop_flat_map(|rollups| {
        let reserves = prop::collection::vec(0u64..6, rollups);
        let bid = (0u8..3, 1u32..(1 << rollups), 0u64..14, 0u64..3, prop::option::of(0u8..2), 0u64..2);
        (reserves, prop::collection::vec(bid, 0..=10))
    });
    book.prop_map(|(reserves, bids)| {
        let reserves: Vec<(ChainId, u64)> = reserves.iter().zip(0..).map(|(reserve, index)| (chain(index), *reserve)).collect();
        let sale = Sale::new(SLOT, terms(&reserves)).expect("six rollups are not too many");
        let bids = bids.into_iter().map(|(bidder, mask, each, extra, tag, nonce)| {
            let rollups: RollupSet = (0..6).filter(|index| mask & (1 << *index) != 0).map(chain).collect();
            let amount = U256::from(each * rollups.len() as u64 + extra);
            let exclusive = tag.map(|tag| format!("tag {tag}"));
            AcceptedBid::new(Address::with_last_byte(bidder), Bid { slot: SLOT, rollups, amount, exclusive, nonce })
        });
        (sale, bids.collect::<Vec<_>>())
    })
}

fn shuffled_books() -> impl Strategy<Value = (Sale, Vec<AcceptedBid>, Vec<AcceptedBid>)> {
    books().prop_flat_map(|(sale, bids)| (Just(sale), Just(bids.clone()), Just(bids).prop_shuffle()))
}

fn reserve(sale: &Sale, rollups: &RollupSet) -> U256 {
    rollups.iter().map(|chain| sale.terms()[chain].reserve).fold(U256::ZERO, |sum, reserve| sum + reserve)
}

/// What a seller would get from the best sale of its rollup alone.
fn best_single(sale: &Sale, bids: &[AcceptedBid], chain: ChainId) -> U256 {
    let alone = bids.iter().filter(|accepted| accepted.bid.rollups == RollupSet::from([chain]));
    alone.map(|accepted| accepted.bid.amount).fold(sale.terms()[&chain].reserve, Ord::max)
}

fn may_win(sale: &Sale, bids: &[AcceptedBid], bid: &Bid) -> bool {
    let singly = bid.rollups.iter().map(|chain| best_single(sale, bids, *chain)).fold(U256::ZERO, |sum, best| sum + best);
    bid.amount >= reserve(sale, &bid.rollups) && (bid.rollups.len() == 1 || bid.amount >= singly)
}

/// What makes a choice of bids better: surplus, rollups sold, fewer bids, smaller digests.
type Standing = (U256, usize, Reverse<usize>, Reverse<Vec<usize>>);

/// The winners, as indices into `bids`, by trying every subset.
fn try_everything(sale: &Sale, bids: &[AcceptedBid]) -> Vec<usize> {
    let allowed: Vec<bool> = bids.iter().map(|accepted| may_win(sale, bids, &accepted.bid)).collect();
    let mut best: Option<Standing> = None;
    'subsets: for subset in 0u32..1 << bids.len() {
        let chosen: Vec<usize> = (0..bids.len()).filter(|index| subset & (1 << *index) != 0).collect();
        let mut sold = RollupSet::new();
        let mut tags = BTreeSet::new();
        let mut surplus = U256::ZERO;
        for index in &chosen {
            let AcceptedBid { bidder, bid, .. } = &bids[*index];
            let fits = bid.rollups.iter().all(|chain| sold.insert(*chain));
            let tag_is_free = bid.exclusive.as_ref().is_none_or(|tag| tags.insert((*bidder, tag.clone())));
            if !allowed[*index] || !fits || !tag_is_free {
                continue 'subsets;
            }
            surplus += bid.amount - reserve(sale, &bid.rollups);
        }
        best = best.max(Some((surplus, sold.len(), Reverse(chosen.len()), Reverse(chosen))));
    }
    best.map(|(.., Reverse(chosen))| chosen).unwrap_or_default()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn the_winners_are_those_of_the_oracle((sale, bids) in books()) {
        let outcome = Outcome::decide(&Combinatorial::default(), &sale, bids, B256::ZERO);
        prop_assert_eq!(outcome.gap, U256::ZERO);
        prop_assert_eq!(&outcome.winners(), &try_everything(&sale, &outcome.bids));
    }

    #[test]
    fn the_order_of_bids_does_not_matter((sale, bids, shuffled) in shuffled_books()) {
        prop_assert_eq!(Outcome::decide(&Combinatorial::default(), &sale, bids, B256::ZERO), Outcome::decide(&Combinatorial::default(), &sale, shuffled, B256::ZERO));
    }

    #[test]
    fn every_seller_and_every_bidder_gets_its_due((sale, bids) in books()) {
        let outcome = Outcome::decide(&Combinatorial::default(), &sale, bids, B256::ZERO);
        let grants = &outcome.allocation.grants;

        // Each rollup on sale is in exactly one grant.
        let granted: Vec<ChainId> = grants.iter().flat_map(|grant| grant.rollups.iter().copied()).collect();
        prop_assert_eq!(granted.len(), sale.terms().len());
        prop_assert_eq!(granted.into_iter().collect::<BTreeSet<_>>(), sale.terms().keys().copied().collect::<BTreeSet<_>>());
        prop_assert!(grants.is_sorted_by_key(|grant| grant.rollups.first().copied()));

        // Winners get what they asked for at what they bid; of a bidder's tag at most one.
        let mut tags = BTreeSet::new();
        let mut sold = RollupSet::new();
        for winner in outcome.winning_bids() {
            let expected = Grant { proposer: winner.bidder, rollups: winner.bid.rollups.clone(), price: winner.bid.amount };
            prop_assert!(grants.contains(&expected));
            prop_assert!(winner.tag().is_none_or(|tag| tags.insert((winner.bidder, tag.to_owned()))));
            sold.extend(&winner.bid.rollups);
            for chain in &winner.bid.rollups {
                let paid = outcome.proceeds[chain];
                prop_assert!(paid >= sale.terms()[chain].reserve);
                prop_assert!(winner.bid.rollups.len() == 1 || paid >= best_single(&sale, &outcome.bids, *chain));
            }
        }

        // What is unsold stays with its default proposer, free of charge.
        for chain in sale.terms().keys().filter(|chain| !sold.contains(*chain)) {
            let expected = Grant { proposer: default_proposer(*chain), rollups: [*chain].into(), price: U256::ZERO };
            prop_assert!(grants.contains(&expected));
            prop_assert_eq!(outcome.proceeds[chain], U256::ZERO);
        }

        // The books balance.
        let prices = grants.iter().fold(U256::ZERO, |sum, grant| sum + grant.price);
        let proceeds = outcome.proceeds.values().fold(U256::ZERO, |sum, paid| sum + *paid);
        prop_assert_eq!(prices, proceeds);
    }

    #[test]
    fn a_split_sums_to_the_wei_and_meets_the_floors(
        floors in prop::collection::vec(prop_oneof![Just(0u128), 0u128..20, any::<u128>()], 1..8),
        rest in prop_oneof![0u128..20, any::<u128>()],
    ) {
        let sellers: BTreeMap<ChainId, U256> = floors.iter().zip(1..).map(|(floor, chain)| (chain, U256::from(*floor))).collect();
        let amount = sellers.values().fold(U256::from(rest), |sum, floor| sum + *floor);
        let listed: Vec<(ChainId, U256)> = sellers.clone().into_iter().collect();
        let shares = split(amount, &listed);
        prop_assert_eq!(shares.values().fold(U256::ZERO, |sum, share| sum + *share), amount);
        for (chain, share) in &shares {
            prop_assert!(*share >= sellers[chain]);
            // A greater floor never gets less of the rest, but for the rounding.
            for (other, other_share) in &shares {
                if sellers[other] <= sellers[chain] {
                    prop_assert!(*other_share - sellers[other] <= *share - sellers[chain] + U256::ONE);
                }
            }
        }
        let reversed: Vec<(ChainId, U256)> = listed.into_iter().rev().collect();
        prop_assert_eq!(split(amount, &reversed), shares);
    }
}

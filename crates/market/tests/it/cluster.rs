//! Rollups that said so together are sold together or not at all.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, U256};
use lockstep_market::{AcceptedBid, Combinatorial, MarketError, Outcome, Presence, Sale, Standing, Terms, Units, standing};
use lockstep_primitives::{Bid, ChainId, RollupSet, SlotNumber};
use proptest::prelude::*;

use crate::fixtures::default_proposer;

const ROLLUPS: [ChainId; 5] = [10, 17, 24, 31, 38];
const SLOT: SlotNumber = 7;

fn set(rollups: &[ChainId]) -> RollupSet {
    rollups.iter().copied().collect()
}

fn masked(mask: usize) -> RollupSet {
    ROLLUPS.iter().enumerate().filter(|(index, _)| mask & (1 << index) != 0).map(|(_, chain)| *chain).collect()
}

/// For each rollup, what it named, if anything, and what it has to sell. Partitions are frequent, because most members
/// say one of few things.
fn worlds() -> impl Strategy<Value = (BTreeMap<ChainId, RollupSet>, BTreeMap<ChainId, Presence>)> {
    let said = prop_oneof![
        4 => (0usize..4).prop_map(|choice| Some([0b00011_usize, 0b00111, 0b11100, 0b11000][choice])),
        1 => (0usize..32).prop_map(Some),
        1 => Just(None::<usize>),
    ];
    let presence = prop_oneof![
        6 => Just(Some(Presence::OnSale)),
        1 => Just(Some(Presence::NoBlock)),
        1 => Just(Some(Presence::NotSelling)),
        1 => Just(None::<Presence>),
    ];
    prop::collection::vec((said, presence), ROLLUPS.len()).prop_map(|rollups| {
        let mut named = BTreeMap::new();
        let mut present = BTreeMap::new();
        for (chain, (index, (mask, presence))) in ROLLUPS.into_iter().zip(rollups.into_iter().enumerate()) {
            if let Some(mask) = mask {
                named.insert(chain, masked(mask | (1 << index)));
            }
            if let Some(presence) = presence {
                present.insert(chain, presence);
            }
        }
        (named, present)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn a_cluster_stands_when_all_members_named_it((named, _) in worlds()) {
        for chain in ROLLUPS {
            let cluster = named.get(&chain).cloned().unwrap_or_else(|| set(&[chain]));
            let agrees = |member: &ChainId| *member == chain || named.get(member) == Some(&cluster);
            let missing: RollupSet = cluster.iter().copied().filter(|member| !agrees(member)).collect();
            let expected = match (missing.is_empty(), cluster.len()) {
                (false, _) => Standing::Waiting(missing),
                (true, 1) => Standing::Alone,
                (true, _) => Standing::Together(cluster),
            };
            prop_assert_eq!(standing(chain, &named), expected);
        }
    }

    /// Every package there is, against a reading of the rule by itself: with a rollup come all of its cluster that have a block.
    #[test]
    fn a_package_fits_when_it_holds_whole_clusters((named, present) in worlds()) {
        let units = Units::of(SLOT, &named, &present);
        let is = |chain: &ChainId, presence: Presence| present.get(chain) == Some(&presence);
        for mask in 0..1 << ROLLUPS.len() {
            let package = masked(mask);
            let with_its_cluster = |chain: &ChainId| match standing(*chain, &named) {
                Standing::Alone => true,
                Standing::Waiting(_) => false,
                Standing::Together(members) => {
                    members.iter().all(|member| is(member, Presence::NoBlock) || package.contains(member))
                }
            };
            let expected = package.iter().all(|chain| is(chain, Presence::OnSale) && with_its_cluster(chain));
            prop_assert_eq!(units.fits(&package).is_ok(), expected, "{:?} of {:?}", package, units);
        }
    }

    #[test]
    fn what_is_on_sale_is_cut_into_units((named, present) in worlds()) {
        let units = Units::of(SLOT, &named, &present);
        let mut seen = RollupSet::new();
        for unit in units.iter() {
            prop_assert!(!unit.is_empty() && unit.iter().all(|chain| seen.insert(*chain)), "{:?} overlaps", unit);
            prop_assert_eq!(units.fits(unit), Ok(()));
        }
        prop_assert_eq!(&seen, &units.on_sale());
        // Whoever would sell is in a unit, or is told who is in the way.
        let selling = present.iter().filter(|(_, presence)| **presence == Presence::OnSale);
        let selling: RollupSet = selling.map(|(chain, _)| *chain).collect();
        let withheld: RollupSet = units.withheld().keys().copied().collect();
        prop_assert!(seen.is_disjoint(&withheld));
        prop_assert_eq!(seen.union(&withheld).copied().collect::<RollupSet>(), selling);
        for (chain, because_of) in units.withheld() {
            prop_assert!(!because_of.is_empty() && !because_of.contains(chain));
            let refused = MarketError::Withheld { slot: SLOT, chain: *chain, because_of: because_of.clone() };
            prop_assert_eq!(units.fits(&set(&[*chain])), Err(refused));
        }
    }

    /// Whatever disjoint packages that fit are sold, of no unit only a part is.
    #[test]
    fn no_sale_splits_a_unit((named, present) in worlds(), masks in prop::collection::vec(0usize..32, 0..6)) {
        let units = Units::of(SLOT, &named, &present);
        let mut sold = RollupSet::new();
        for package in masks.into_iter().map(masked) {
            if units.fits(&package).is_ok() && sold.is_disjoint(&package) {
                sold.extend(package);
            }
        }
        for unit in units.iter() {
            prop_assert!(unit.is_subset(&sold) || unit.is_disjoint(&sold));
        }
    }

    /// Whoever wins a unit pays each of its members at least its reserve, and a package at least what the best bid for the unit
    /// would have paid it.
    #[test]
    fn members_get_their_reserves_and_what_the_unit_alone_would_pay(
        (named, present) in worlds(),
        reserves in prop::collection::vec(0u64..6, ROLLUPS.len()),
        bids in prop::collection::vec((0u8..3, 1usize..32, 0u64..60), 0..8),
    ) {
        let units = Units::of(SLOT, &named, &present);
        let terms = ROLLUPS.into_iter().zip(&reserves).map(|(chain, reserve)| {
            (chain, Terms { reserve: U256::from(*reserve), default_proposer: default_proposer(chain) })
        });
        let sale = Sale::in_units(units.clone(), terms.collect()).expect("all have terms");
        let bids: Vec<AcceptedBid> = bids.into_iter().map(|(bidder, mask, amount)| {
            // Most masks split a unit, so they are rounded up to whole units.
            let touched = masked(mask);
            let rollups: RollupSet = units.iter().filter(|unit| !unit.is_disjoint(&touched)).flatten().copied().collect();
            let bid = Bid { slot: SLOT, rollups, amount: U256::from(amount), exclusive: None, nonce: 0 };
            AcceptedBid::new(Address::with_last_byte(bidder), bid)
        }).collect();
        let outcome = Outcome::decide(&Combinatorial::default(), &sale, bids.clone(), B256::ZERO);
        prop_assert_eq!(outcome.gap, U256::ZERO);
        for winner in outcome.winning_bids() {
            let mut paid = U256::ZERO;
            for unit in units.iter().filter(|unit| unit.is_subset(&winner.bid.rollups)) {
                let got = unit.iter().fold(U256::ZERO, |sum, chain| sum + outcome.proceeds[chain]);
                for chain in unit {
                    prop_assert!(outcome.proceeds[chain] >= sale.terms()[chain].reserve);
                }
                let alone = bids.iter().filter(|other| other.bid.rollups == *unit && sale.surplus(&other.bid).is_ok());
                let best = alone.map(|other| other.bid.amount).max().unwrap_or_default();
                prop_assert!(winner.bid.rollups == *unit || got >= best);
                paid += got;
            }
            prop_assert_eq!(paid, winner.bid.amount);
        }
    }
}

#[test]
fn a_package_takes_whole_units() {
    let together = set(&[10, 17]);
    let named = BTreeMap::from([(10, together.clone()), (17, together), (24, set(&[24]))]);
    let present = BTreeMap::from([(10, Presence::OnSale), (17, Presence::OnSale), (24, Presence::OnSale)]);
    let units = Units::of(8, &named, &present);
    let split = MarketError::SplitsCluster { slot: 8, chain: 10, missing: set(&[17]) };
    assert_eq!(units.fits(&set(&[10, 24])), Err(split));
    assert_eq!(units.fits(&set(&[10, 17, 24])), Ok(()));
    assert_eq!(units.fits(&set(&[31])), Err(MarketError::NotOnSale { slot: 8, chain: 31 }));
    // Without a block of 17 there is nothing to go together with; where 17 just does not sell, neither does 10.
    let mut without = present;
    without.insert(17, Presence::NoBlock);
    assert_eq!(Units::of(8, &named, &without).fits(&set(&[10])), Ok(()));
    without.insert(17, Presence::NotSelling);
    let withheld = MarketError::Withheld { slot: 8, chain: 10, because_of: set(&[17]) };
    assert_eq!(Units::of(8, &named, &without).fits(&set(&[10, 17])), Err(withheld));
}

//! Rollups that said so together are sold together or not at all.

use std::collections::{BTreeMap, BTreeSet};

use alloy::signers::local::PrivateKeySigner;
use alloy_primitives::{Address, U256};
use lockstep_market::{
    ClusterError, ClusterId, Clusters, Consent, MAX_CLUSTER_MEMBERS, MAX_MEMBERSHIPS, Membership, Presence, Standing, Versions,
};
use lockstep_primitives::{ChainId, RollupSet, SlotNumber};
use proptest::prelude::*;

use crate::fixtures::{key, sign};

const ROLLUPS: [ChainId; 5] = [10, 17, 24, 31, 38];
const SLOT: SlotNumber = 7;

fn set(rollups: &[ChainId]) -> RollupSet {
    rollups.iter().copied().collect()
}

fn masked(mask: usize) -> RollupSet {
    ROLLUPS.iter().enumerate().filter(|(index, _)| mask & (1 << index) != 0).map(|(_, chain)| *chain).collect()
}

fn payout(chain: ChainId) -> Address {
    Address::left_padding_from(&chain.to_be_bytes())
}

fn membership(chain: ChainId, members: &[ChainId], from_slot: SlotNumber, nonce: u64) -> Membership {
    Membership { chain, members: set(members), payout: payout(chain), from_slot, nonce }
}

fn join(
    clusters: &mut Clusters,
    membership: Membership,
    signer: &PrivateKeySigner,
    earliest: SlotNumber,
) -> Result<(), ClusterError> {
    let signature = sign(signer, membership.digest());
    clusters.join(membership, &signature, signer.address(), earliest).map(|_| ())
}

/// For each rollup, what it consented to, if to anything, and what it has to sell. Partitions are frequent, because most members
/// say one of few things.
fn worlds() -> impl Strategy<Value = (Clusters, BTreeMap<ChainId, RollupSet>, BTreeMap<ChainId, Presence>)> {
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
        let mut consents = BTreeMap::new();
        let mut present = BTreeMap::new();
        for (chain, (index, (mask, presence))) in ROLLUPS.into_iter().zip(rollups.into_iter().enumerate()) {
            if let Some(mask) = mask {
                consents.insert(chain, masked(mask | (1 << index)));
            }
            if let Some(presence) = presence {
                present.insert(chain, presence);
            }
        }
        let versions = consents.iter().map(|(chain, members)| {
            let mut versions = Versions::new(*chain);
            let consent = Consent { members: members.clone(), payout: payout(*chain) };
            versions.update(SLOT, 1, consent, 0).expect("a first update is taken");
            versions
        });
        (Clusters::restore(versions).expect("five rollups are not too many"), consents, present)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn a_cluster_stands_when_all_members_named_it((clusters, consents, _) in worlds()) {
        for chain in ROLLUPS {
            let named = consents.get(&chain).cloned().unwrap_or_else(|| set(&[chain]));
            let agrees = |member: &ChainId| *member == chain || consents.get(member) == Some(&named);
            let missing: RollupSet = named.iter().copied().filter(|member| !agrees(member)).collect();
            let expected = match (missing.is_empty(), named.len()) {
                (false, _) => Standing::Waiting(missing),
                (true, 1) => Standing::Alone,
                (true, _) => Standing::Together(named),
            };
            prop_assert_eq!(clusters.standing(chain, SLOT), expected);
            prop_assert_eq!(clusters.standing(chain, SLOT - 1), Standing::Alone, "nothing holds before its slot");
        }
    }

    /// Every package there is, against a reading of the rule by itself: with a rollup come all of its cluster that have a block.
    #[test]
    fn a_package_fits_when_it_holds_whole_clusters((clusters, _, present) in worlds()) {
        let units = clusters.units(SLOT, &present);
        let is = |chain: &ChainId, presence: Presence| present.get(chain) == Some(&presence);
        for mask in 0..1 << ROLLUPS.len() {
            let package = masked(mask);
            let with_its_cluster = |chain: &ChainId| match clusters.standing(*chain, SLOT) {
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
    fn what_is_on_sale_is_cut_into_units((clusters, _, present) in worlds()) {
        let units = clusters.units(SLOT, &present);
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
            let refused = ClusterError::Withheld { slot: SLOT, chain: *chain, because_of: because_of.clone() };
            prop_assert_eq!(units.fits(&set(&[*chain])), Err(refused));
        }
    }

    /// Whatever disjoint packages that fit are sold, of no unit only a part is.
    #[test]
    fn no_sale_splits_a_unit((clusters, _, present) in worlds(), masks in prop::collection::vec(0usize..32, 0..6)) {
        let units = clusters.units(SLOT, &present);
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

    #[test]
    fn reserves_add_up_and_payouts_lose_nothing(
        (clusters, consents, present) in worlds(),
        each in prop::collection::vec(0u64..9, 5),
    ) {
        let amounts: BTreeMap<ChainId, U256> = ROLLUPS.into_iter().zip(each.into_iter().map(U256::from)).collect();
        let units = clusters.units(SLOT, &present);
        for unit in units.iter() {
            let sum = unit.iter().fold(U256::ZERO, |sum, chain| sum + amounts[chain]);
            prop_assert_eq!(units.reserve(unit, &amounts), Ok(sum));
        }
        let receiver = Address::repeat_byte(0xee);
        let registered = BTreeMap::from(ROLLUPS.map(|chain| (chain, receiver)));
        let payouts = clusters.payouts(SLOT, &amounts, &registered).expect("all are registered");
        let paid = payouts.values().fold(U256::ZERO, |sum, amount| sum + *amount);
        prop_assert_eq!(paid, amounts.values().fold(U256::ZERO, |sum, amount| sum + *amount));
        for chain in consents.keys() {
            prop_assert_eq!(payouts[&payout(*chain)], amounts[chain]);
        }
        let unnamed = ROLLUPS.into_iter().find(|chain| !consents.contains_key(chain));
        let refused = clusters.payouts(SLOT, &amounts, &BTreeMap::new()).err();
        prop_assert_eq!(refused, unnamed.map(|chain| ClusterError::NoPayout { slot: SLOT, chain }));
    }
}

#[test]
fn a_cluster_begins_with_the_last_consent_and_ends_with_the_first_change() {
    let (mut clusters, a, b) = (Clusters::new(), key(1), key(2));
    join(&mut clusters, membership(10, &[10, 17], 5, 1), &a, 0).unwrap();
    join(&mut clusters, membership(17, &[10, 17], 8, 1), &b, 0).unwrap();
    join(&mut clusters, membership(10, &[10], 20, 2), &a, 6).unwrap();
    let standing = |chain, slot| clusters.standing(chain, slot);
    assert_eq!((standing(10, 4), standing(17, 4)), (Standing::Alone, Standing::Alone));
    assert_eq!((standing(10, 5), standing(17, 5)), (Standing::Waiting(set(&[17])), Standing::Alone));
    let together = Standing::Together(set(&[10, 17]));
    assert_eq!((standing(10, 8), standing(17, 19)), (together.clone(), together));
    assert_eq!((standing(10, 20), standing(17, 20)), (Standing::Alone, Standing::Waiting(set(&[10]))));

    let present = BTreeMap::from([(10, Presence::OnSale), (17, Presence::OnSale), (24, Presence::OnSale)]);
    let units = clusters.units(8, &present);
    let split = ClusterError::Split { slot: 8, chain: 10, missing: set(&[17]) };
    assert_eq!(units.fits(&set(&[10, 24])), Err(split));
    assert_eq!(units.fits(&set(&[10, 17, 24])), Ok(()));
    assert_eq!(units.fits(&set(&[31])), Err(ClusterError::NotOnSale { slot: 8, chain: 31 }));
    // Without a block of 17 there is nothing to go together with; where 17 just does not sell, neither does 10.
    let mut without = present;
    without.insert(17, Presence::NoBlock);
    assert_eq!(clusters.units(8, &without).fits(&set(&[10])), Ok(()));
    without.insert(17, Presence::NotSelling);
    let withheld = ClusterError::Withheld { slot: 8, chain: 10, because_of: set(&[17]) };
    assert_eq!(clusters.units(8, &without).fits(&set(&[10, 17])), Err(withheld));
}

#[test]
fn nobody_is_drawn_into_a_cluster() {
    let (mut clusters, a, thief) = (Clusters::new(), key(1), key(2));
    let good = membership(10, &[10, 17], 5, 1);
    let stolen = clusters.join(good.clone(), &sign(&thief, good.digest()), a.address(), 0);
    let (sequencer, signer) = (a.address(), thief.address());
    assert_eq!(stolen, Err(ClusterError::WrongSigner { chain: 10, sequencer, signer }));
    assert_eq!(clusters.join(good.clone(), &[0; 64], sequencer, 0), Err(ClusterError::InvalidSignature { chain: 10 }));
    let many: Vec<ChainId> = (0..=MAX_CLUSTER_MEMBERS as u64).collect();
    let bad = [
        (membership(10, &[17], 5, 1), 0, "not_a_member"),
        (membership(10, &many, 5, 1), 0, "too_many_members"),
        (Membership { payout: Address::ZERO, ..good.clone() }, 0, "zero_payout"),
        (good.clone(), 6, "update_too_soon"),
    ];
    for (membership, earliest, code) in bad {
        assert_eq!(join(&mut clusters, membership, &a, earliest).unwrap_err().code(), code);
    }
    assert_eq!(clusters, Clusters::new(), "nothing of it is kept");
    join(&mut clusters, good.clone(), &a, 0).unwrap();
    assert_eq!(join(&mut clusters, good, &a, 0).unwrap_err().code(), "update_nonce_too_low");
}

#[test]
fn a_membership_is_signed_over_all_that_it_says() {
    let good = membership(10, &[10, 17], 5, 1);
    let others = [
        membership(17, &[10, 17], 5, 1),
        membership(10, &[10, 17, 24], 5, 1),
        membership(10, &[10, 17], 6, 1),
        membership(10, &[10, 17], 5, 2),
        Membership { payout: Address::ZERO, ..good.clone() },
    ];
    let digests: BTreeSet<_> = others.iter().chain([&good]).map(Membership::digest).collect();
    assert_eq!(digests.len(), others.len() + 1);
    // Members name the same cluster in whatever order they list it.
    assert_eq!(membership(17, &[17, 10], 5, 1).cluster(), good.cluster());
    assert_ne!(ClusterId::of(&set(&[10])), good.cluster());
}

#[test]
fn memberships_are_bounded_and_come_back_from_the_store() {
    let versions = |chain: ChainId| {
        let mut versions = Versions::new(chain);
        versions.update(0, 1, Consent { members: set(&[chain]), payout: payout(chain) }, 0).unwrap();
        versions
    };
    let all: Vec<_> = (0..MAX_MEMBERSHIPS as u64).map(versions).collect();
    let mut clusters = Clusters::restore(all.clone()).unwrap();
    assert_eq!(Clusters::restore(clusters.versions().cloned()).as_ref(), Ok(&clusters));
    let full = ClusterError::TooManyMemberships { limit: MAX_MEMBERSHIPS };
    assert_eq!(join(&mut clusters, membership(999, &[999], 5, 1), &key(1), 0), Err(full.clone()));
    join(&mut clusters, membership(3, &[3], 5, 2), &key(1), 0).unwrap();
    assert_eq!(Clusters::restore(all.into_iter().chain([versions(999)])), Err(full));
    assert_eq!(Clusters::restore([versions(3), versions(3)]), Err(ClusterError::StoredTwice { chain: 3 }));
}

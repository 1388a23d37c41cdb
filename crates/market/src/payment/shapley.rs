//! What each seller adds to a package, by the Shapley value.

use std::collections::BTreeMap;

use alloy_primitives::{U256, U512};
use lockstep_primitives::ChainId;

use crate::{AcceptedBid, Sale};

/// Up to how many sellers the Shapley value of a package is computed: it looks at every set of them.
pub const MAX_SHAPLEY_SELLERS: usize = 12;

/// The Shapley value of each seller, times the number of orders of them; `None` for too many sellers.
///
/// What a set of sellers brings is the greatest sum of what disjoint packages of them alone are bid for, beyond their floors. Tags
/// do not matter here: they say what a bidder needs, not what a rollup is worth.
pub(super) fn weights(sellers: &[(ChainId, U256)], sale: &Sale, bids: &[AcceptedBid]) -> Option<Vec<U512>> {
    if sellers.len() > MAX_SHAPLEY_SELLERS {
        return None;
    }
    let brought = brought(sellers, sale, bids);
    let count = sellers.len();
    let factorial = |n: usize| (1..=n).fold(U512::ONE, |product, factor| product * U512::from(factor));
    // By how many come before a seller: in how many orders those come first, then it, then the others.
    let orders: Vec<U512> = (0..count).map(|before| factorial(before) * factorial(count - before - 1)).collect();
    let value = |set: usize| brought.get(set).copied().unwrap_or_default();
    let mut weights = vec![U512::ZERO; count];
    for (seller, weight) in weights.iter_mut().enumerate() {
        let its = 1_usize << seller;
        for before in (0..brought.len()).filter(|set| set & its == 0) {
            let added = value(before | its).saturating_sub(value(before));
            let orders = orders.get(before.count_ones() as usize).copied().unwrap_or_default();
            *weight = weight.saturating_add(U512::from(added) * orders);
        }
    }
    Some(weights)
}

/// By set of sellers: what it brings.
fn brought(sellers: &[(ChainId, U256)], sale: &Sale, bids: &[AcceptedBid]) -> Vec<U256> {
    let places: BTreeMap<ChainId, usize> = sellers.iter().map(|(chain, _)| *chain).zip(0..).collect();
    let mut brought = vec![U256::ZERO; 1 << sellers.len()];
    for AcceptedBid { bid, .. } in bids {
        let package = bid.rollups.iter().try_fold(0, |set, chain| Some(set | 1 << places.get(chain)?));
        let Some(package) = package.filter(|_| sale.surplus(bid).is_ok()) else { continue };
        let floors = sellers.iter().filter(|(chain, _)| bid.rollups.contains(chain));
        let floors = floors.fold(U256::ZERO, |sum, (_, floor)| sum.saturating_add(*floor));
        if let Some(known) = brought.get_mut(package) {
            *known = bid.amount.saturating_sub(floors).max(*known);
        }
    }
    for set in 1..brought.len() {
        // Each way to take the set apart, once: the part with its lowest seller, and the rest.
        let lowest = set & set.wrapping_neg();
        let mut part = (set - 1) & set;
        let mut best = brought.get(set).copied().unwrap_or_default();
        while part > 0 {
            if part & lowest != 0 {
                let of = |set: usize| brought.get(set).copied().unwrap_or_default();
                best = best.max(of(part).saturating_add(of(set ^ part)));
            }
            part = (part - 1) & set;
        }
        if let Some(known) = brought.get_mut(set) {
            *known = best;
        }
    }
    brought
}

#[cfg(test)]
mod tests {
    use alloy_primitives::Address;
    use lockstep_primitives::Bid;

    use super::*;
    use crate::Terms;

    fn shares(bids: &[(&[ChainId], u64)]) -> Vec<u64> {
        let sellers: Vec<(ChainId, U256)> = (0..3).map(|chain| (chain, U256::ZERO)).collect();
        let terms = |chain| (chain, Terms { reserve: U256::ZERO, default_proposer: Address::ZERO });
        let sale = Sale::new(1, (0..3).map(terms).collect()).unwrap();
        let bid = |(rollups, amount): &(&[ChainId], u64)| {
            let rollups = rollups.iter().copied().collect();
            let bid = Bid { slot: 1, rollups, amount: U256::from(*amount), exclusive: None, nonce: 1 };
            AcceptedBid::new(Address::ZERO, bid)
        };
        let bids: Vec<AcceptedBid> = bids.iter().map(bid).collect();
        let weights = weights(&sellers, &sale, &bids).unwrap();
        // Three sellers come together in six orders.
        weights.into_iter().map(|weight| (weight / U512::from(6)).to::<u64>()).collect()
    }

    #[test]
    fn who_is_needed_more_gets_more() {
        // The glove game: 0 is needed by both of the others, of which one is enough. Known values: 2/3, 1/6, 1/6.
        assert_eq!(shares(&[(&[0, 1], 60), (&[0, 2], 60)]), [40, 10, 10]);
        assert_eq!(shares(&[(&[0, 1, 2], 60)]), [20, 20, 20]);
        assert_eq!(shares(&[(&[0, 1, 2], 60), (&[0, 1], 60)]), [30, 30, 0]);
        assert_eq!(shares(&[(&[0], 10), (&[1], 20), (&[2], 30)]), [10, 20, 30]);
        assert_eq!(shares(&[]), [0, 0, 0]);
    }

    #[test]
    fn too_many_sellers_are_not_looked_at() {
        let sellers: Vec<(ChainId, U256)> = (0..13).map(|chain| (chain, U256::ZERO)).collect();
        let sale = Sale::new(1, BTreeMap::new()).unwrap();
        assert_eq!(weights(&sellers, &sale, &[]), None);
    }
}

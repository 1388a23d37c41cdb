//! What has to be put up for bids.

use std::collections::BTreeMap;

use alloy_primitives::{Address, U256};
use lockstep_primitives::{ChainId, RollupSet};

use crate::AcceptedBid;

/// All of an amount, in basis points.
const WHOLE_BPS: u64 = 10_000;

/// The most that a bidder may have to pay for its bids in a slot, whatever wins: an upper bound, and in most cases no more.
///
/// Of bids with one tag at most one wins, so the greatest of each tag counts. And bids that win are disjoint: spreading each
/// evenly over its rollups and taking the greatest share of each rollup bounds any choice of disjoint bids, as a price for each
/// rollup that no bid exceeds does. The lesser of both bounds holds.
pub fn most_payable<'a>(bids: impl IntoIterator<Item = &'a AcceptedBid>) -> U256 {
    let bids: Vec<&AcceptedBid> = bids.into_iter().collect();
    let mut by_tag: BTreeMap<(Address, &str), U256> = BTreeMap::new();
    let mut untagged = U256::ZERO;
    for accepted in &bids {
        let amount = accepted.bid.amount;
        match accepted.tag() {
            Some(tag) => {
                let greatest = by_tag.entry((accepted.bidder, tag)).or_default();
                *greatest = amount.max(*greatest);
            }
            None => untagged = untagged.saturating_add(amount),
        }
    }
    let tagged = by_tag.values().fold(untagged, |sum, amount| sum.saturating_add(*amount));
    tagged.min(disjoint_bound(bids.iter().map(|accepted| (&accepted.bid.rollups, accepted.bid.amount))))
}

/// No choice of disjoint packages costs more than this.
pub(crate) fn disjoint_bound<'a>(packages: impl Iterator<Item = (&'a RollupSet, U256)>) -> U256 {
    let mut by_rollup: BTreeMap<ChainId, U256> = BTreeMap::new();
    for (rollups, amount) in packages {
        let share = amount.div_ceil(U256::from(rollups.len().max(1)));
        for chain in rollups {
            let greatest = by_rollup.entry(*chain).or_default();
            *greatest = share.max(*greatest);
        }
    }
    by_rollup.values().fold(U256::ZERO, |sum, amount| sum.saturating_add(*amount))
}

/// What is put up beside an amount, for the case that its bidder wins and does not deliver: a part of it in basis points, rounded
/// down, so that the bonds of a price's shares are together no more than its own.
pub fn bond(amount: U256, bond_bps: u64) -> U256 {
    let (whole, rest) = amount.div_rem(U256::from(WHOLE_BPS));
    let bps = U256::from(bond_bps);
    whole.saturating_mul(bps).saturating_add(rest * bps / U256::from(WHOLE_BPS))
}

#[cfg(test)]
mod tests {
    use lockstep_primitives::Bid;

    use super::*;

    fn bid(rollups: &[ChainId], amount: u64, tag: &str) -> AcceptedBid {
        let (rollups, exclusive) = (rollups.iter().copied().collect(), Some(tag.to_owned()));
        AcceptedBid::new(Address::ZERO, Bid { slot: 1, rollups, amount: U256::from(amount), exclusive, nonce: 0 })
    }

    #[test]
    fn overlapping_bids_are_not_all_put_up() {
        let payable = |bids: &[AcceptedBid]| most_payable(bids).to::<u64>();
        assert_eq!(payable(&[]), 0);
        assert_eq!(payable(&[bid(&[1], 10, ""), bid(&[2], 10, "")]), 20);
        assert_eq!(payable(&[bid(&[1], 10, ""), bid(&[2], 10, ""), bid(&[1, 2], 25, "")]), 26, "12.5 a rollup, rounded up");
        assert_eq!(payable(&[bid(&[1], 10, "x"), bid(&[2], 9, "x"), bid(&[3], 4, "y")]), 14);
        assert_eq!(payable(&[bid(&[1], 10, ""), bid(&[1], 7, "x"), bid(&[1], 8, "y")]), 10);
    }

    #[test]
    fn no_choice_of_disjoint_bids_costs_more() {
        // All packages of four rollups, with amounts that rise and fall.
        let package = |mask: u64| (0..4).filter(|index| mask & (1 << index) != 0).collect::<Vec<ChainId>>();
        let bids: Vec<AcceptedBid> = (1..16_u64).map(|mask| bid(&package(mask), mask * 7_919 % 101, "")).collect();
        let mut dearest = 0;
        for chosen in 0..1_u32 << 15 {
            let of = (0..15).filter(|index| chosen & (1 << index) != 0);
            let masks: Vec<u64> = of.map(|index| index + 1).collect();
            let overlap = masks.iter().try_fold(0, |seen, mask| (seen & mask == 0).then_some(seen | mask)).is_none();
            if !overlap {
                dearest = dearest.max(masks.iter().map(|mask| mask * 7_919 % 101).sum());
            }
        }
        assert!(most_payable(&bids) >= U256::from(dearest));
    }

    #[test]
    fn a_bond_is_rounded_down_and_never_overflows() {
        assert_eq!(bond(U256::from(10_009), 1_000), U256::from(1_000));
        assert_eq!(bond(U256::from(3), 10_000), U256::from(3));
        assert_eq!(bond(U256::MAX, 20_000), U256::MAX);
        assert_eq!(bond(U256::ZERO, 5_000), U256::ZERO);
    }
}

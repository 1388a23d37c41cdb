//! Pay-as-bid: a winner owes what it bid, and the sellers of a package share it.

use std::{cmp::Reverse, collections::BTreeMap};

use alloy_primitives::{U256, U512};
use lockstep_primitives::ChainId;

use crate::{AcceptedBid, Sale};

/// What each seller must get from a package that contains its rollup: the greater of its reserve and its share of the best bid of
/// anyone for its unit alone, which is what that single sale would have paid it. Rollups that are sold by themselves are units of
/// one, and get all of it.
pub fn floors(sale: &Sale, bids: &[AcceptedBid]) -> BTreeMap<ChainId, U256> {
    let mut best: BTreeMap<ChainId, U256> = BTreeMap::new();
    for AcceptedBid { bid, .. } in bids {
        if sale.units().is_unit(&bid.rollups)
            && sale.surplus(bid).is_ok()
            && let Some(first) = bid.rollups.first()
        {
            let known = best.entry(*first).or_default();
            *known = bid.amount.max(*known);
        }
    }
    let mut floors = BTreeMap::new();
    for unit in sale.units().iter() {
        let reserves = sale.reserves(unit);
        match unit.first().and_then(|first| best.get(first)) {
            Some(amount) => floors.extend(split(*amount, &reserves)),
            None => floors.extend(reserves),
        }
    }
    floors
}

/// Shares the price of a package among its sellers, given each seller's floor.
///
/// Each gets its floor; the rest is shared in proportion to the floors, equally when all are zero. An amount below the sum
/// of the floors, which winner determination never lets win, is shared in proportion to them as a whole. The wei that
/// rounding leaves go one each to the largest remainders, of equal ones to the smaller chain id. The shares sum to the
/// amount.
pub fn split(amount: U256, sellers: &[(ChainId, U256)]) -> BTreeMap<ChainId, U256> {
    let total = sellers.iter().fold(U512::ZERO, |sum, (_, floor)| sum + U512::from(*floor));
    let amount = U512::from(amount);
    // Products of two 256-bit numbers fit into 512 bits.
    let (floors_paid, rest) = match amount.checked_sub(total) {
        Some(rest) => (true, rest),
        None => (false, amount),
    };
    let equal_shares = total.is_zero();
    let whole = if equal_shares { U512::from(sellers.len()) } else { total };

    let mut left = rest;
    let mut shares: Vec<(Reverse<U512>, ChainId, U512)> = Vec::with_capacity(sellers.len());
    for (chain, floor) in sellers {
        let floor = U512::from(*floor);
        let weight = if equal_shares { U512::ONE } else { floor };
        let (share, remainder) = (rest * weight).div_rem(whole);
        left -= share;
        shares.push((Reverse(remainder), *chain, if floors_paid { floor + share } else { share }));
    }
    shares.sort();

    let mut paid: BTreeMap<ChainId, U256> = BTreeMap::new();
    for (_, chain, mut share) in shares {
        if !left.is_zero() {
            left -= U512::ONE;
            share += U512::ONE;
        }
        *paid.entry(chain).or_default() += share.saturating_to::<U256>();
    }
    paid
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(amount: u64, floors: &[u64]) -> Vec<u64> {
        let sellers: Vec<(ChainId, U256)> = floors.iter().zip(1..).map(|(floor, chain)| (chain, U256::from(*floor))).collect();
        split(U256::from(amount), &sellers).into_values().map(|share| share.to::<u64>()).collect()
    }

    #[test]
    fn floors_first_then_in_proportion_to_them() {
        assert_eq!(shares(100, &[100]), [100]);
        assert_eq!(shares(30, &[10, 20]), [10, 20]);
        assert_eq!(shares(60, &[10, 20]), [20, 40]);
        assert_eq!(shares(60, &[0, 20]), [0, 60]);
    }

    #[test]
    fn without_floors_the_shares_are_equal() {
        assert_eq!(shares(9, &[0, 0, 0]), [3, 3, 3]);
        assert_eq!(shares(11, &[0, 0, 0]), [4, 4, 3]);
        assert_eq!(shares(0, &[0, 0]), [0, 0]);
    }

    #[test]
    fn the_largest_remainders_are_rounded_up() {
        // Of 10, in proportion 1 : 2 : 4, the shares are 1.43, 2.86 and 5.71.
        assert_eq!(shares(17, &[1, 2, 4]), [1 + 1, 2 + 3, 4 + 6]);
        // Equal remainders: the smaller chain id.
        assert_eq!(shares(15, &[3, 3, 3]), [5, 5, 5]);
        assert_eq!(shares(10, &[3, 3, 3]), [4, 3, 3]);
    }

    #[test]
    fn the_whole_range_of_amounts_sums_up() {
        let sellers = [(1, U256::MAX >> 1), (2, U256::MAX >> 2), (3, U256::from(7))];
        for amount in [U256::MAX, U256::MAX >> 3, U256::ONE, U256::ZERO] {
            let sum = split(amount, &sellers).into_values().fold(U256::ZERO, |sum, share| sum + share);
            assert_eq!(sum, amount);
        }
        assert!(split(U256::ONE, &[]).is_empty());
    }
}

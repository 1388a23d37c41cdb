//! What sellers must get of a package, and how they share what it brings.

mod shapley;

use std::{cmp::Reverse, collections::BTreeMap};

use alloy_primitives::{Address, U256, U512};
use lockstep_primitives::{ChainId, RollupSet};

use crate::{AcceptedBid, Sale};

pub use shapley::MAX_SHAPLEY_SELLERS;

/// How the sellers of a package share what it brings beyond their floors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// In proportion to their floors: what each would have brought by itself, or its reserve.
    #[default]
    Proportional,
    /// By what each adds to what the others bring, on average over all orders in which they could come together (Shapley, 1953, "A
    /// Value for n-Person Games"). What some of them bring is the most that is bid for packages of them alone, beyond the floors.
    /// Packages of more than [`MAX_SHAPLEY_SELLERS`] rollups are shared in proportion.
    Shapley,
}

impl Sharing {
    /// Shares the price of a package among its sellers, given each seller's floor. The shares sum to the price.
    pub(crate) fn share(
        self,
        price: U256,
        rollups: &RollupSet,
        floors: &BTreeMap<ChainId, U256>,
        sale: &Sale,
        bids: &[AcceptedBid],
    ) -> BTreeMap<ChainId, U256> {
        // What is sold by itself displaces no other sale: its sellers' due is their reserves.
        if sale.units().is_unit(rollups) {
            return split(price, &sale.reserves(rollups));
        }
        let due: Vec<(ChainId, U256)> = rollups.iter().filter_map(|chain| Some((*chain, *floors.get(chain)?))).collect();
        let weights = match self {
            Self::Proportional => None,
            Self::Shapley => shapley::weights(&due, sale, bids),
        };
        match weights {
            Some(weights) => split_by(price, &due, &weights),
            None => split(price, &due),
        }
    }
}

/// What each seller must get from a package that contains its rollup: the greater of its reserve and its share of the best bid of
/// anyone for its unit alone, which is what that single sale would have paid it. Rollups that are sold by themselves are units of
/// one, and get all of it.
pub fn floors(sale: &Sale, bids: &[AcceptedBid]) -> BTreeMap<ChainId, U256> {
    floors_at(sale, bids, |best| best.first.1)
}

/// As [`floors`], where a single sale pays what the best bid of another bidder than its winner says.
pub(crate) fn second_price_floors(sale: &Sale, bids: &[AcceptedBid]) -> BTreeMap<ChainId, U256> {
    floors_at(sale, bids, |best| best.second)
}

/// The best bid for a unit alone, and the best one of anybody else.
struct Best {
    first: (Address, U256),
    second: U256,
}

fn floors_at(sale: &Sale, bids: &[AcceptedBid], paid: impl Fn(&Best) -> U256) -> BTreeMap<ChainId, U256> {
    let mut best: BTreeMap<ChainId, Best> = BTreeMap::new();
    for AcceptedBid { bidder, bid, .. } in bids {
        if sale.units().is_unit(&bid.rollups)
            && sale.surplus(bid).is_ok()
            && let Some(unit) = bid.rollups.first()
        {
            let known = best.entry(*unit).or_insert(Best { first: (*bidder, U256::ZERO), second: U256::ZERO });
            if *bidder == known.first.0 {
                known.first.1 = bid.amount.max(known.first.1);
            } else if bid.amount > known.first.1 {
                known.second = known.first.1;
                known.first = (*bidder, bid.amount);
            } else {
                known.second = bid.amount.max(known.second);
            }
        }
    }
    let mut floors = BTreeMap::new();
    for unit in sale.units().iter() {
        let reserves = sale.reserves(unit);
        let paid = unit.first().and_then(|first| best.get(first)).map(&paid);
        match paid.filter(|amount| *amount >= sale.reserve(unit)) {
            Some(amount) => floors.extend(split(amount, &reserves)),
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
    let mut sellers = sellers.to_vec();
    sellers.sort_unstable();
    let floors: Vec<U512> = sellers.iter().map(|(_, floor)| U512::from(*floor)).collect();
    split_by(amount, &sellers, &floors)
}

/// As [`split`] of sellers in ascending order, sharing the rest in proportion to these weights instead of the floors.
fn split_by(amount: U256, sellers: &[(ChainId, U256)], weights: &[U512]) -> BTreeMap<ChainId, U256> {
    let floors = sellers.iter().fold(U512::ZERO, |sum, (_, floor)| sum + U512::from(*floor));
    let (floors_paid, rest) = match U512::from(amount).checked_sub(floors) {
        Some(rest) => (true, rest.saturating_to::<U256>()),
        None => (false, amount),
    };
    let mut paid: BTreeMap<ChainId, U256> = BTreeMap::new();
    for ((chain, floor), share) in sellers.iter().zip(share_out(rest, weights)) {
        let share = if floors_paid { floor.saturating_add(share) } else { share };
        *paid.entry(*chain).or_default() += share;
    }
    paid
}

/// Shares an amount in proportion to weights, equally when all are zero. The units that rounding leaves go one each to the largest
/// remainders, of equal ones to the first. The shares sum to the amount.
pub(crate) fn share_out(amount: U256, weights: &[U512]) -> Vec<U256> {
    let sum = weights.iter().fold(U512::ZERO, |sum, weight| sum.saturating_add(*weight));
    let equal = sum.is_zero();
    let whole = if equal { U512::from(weights.len()) } else { sum };
    // Products of two 256-bit numbers fit into 512 bits; greater weights lose what is beyond.
    let shift = whole.bit_len().saturating_sub(256);
    let scaled = |weight: &U512| if equal { U512::ONE } else { *weight >> shift };
    let whole = weights.iter().fold(U512::ZERO, |sum, weight| sum + scaled(weight));
    let mut left = amount;
    let mut shares: Vec<(Reverse<U512>, usize, U256)> = Vec::with_capacity(weights.len());
    for (index, weight) in weights.iter().enumerate() {
        let (share, remainder) = (U512::from(amount) * scaled(weight)).div_rem(whole);
        let share = share.saturating_to::<U256>();
        left -= share;
        shares.push((Reverse(remainder), index, share));
    }
    shares.sort();
    for (_, _, share) in &mut shares {
        if !left.is_zero() {
            left -= U256::ONE;
            *share += U256::ONE;
        }
    }
    shares.sort_by_key(|(_, index, _)| *index);
    shares.into_iter().map(|(_, _, share)| share).collect()
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

//! Draws that anyone can repeat from a seed.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, U256, U512, keccak256};
use lockstep_primitives::SlotNumber;

use crate::MAX_BIDS_PER_SLOT;

/// All of the chances, in basis points.
const WHOLE_BPS: u64 = 10_000;

/// What a market publishes of its secret for a slot before anybody bids for it: then it can choose no other one any more.
pub fn seed_commitment(secret: B256) -> B256 {
    keccak256(secret)
}

/// What the draws of a slot are made with: keccak-256 of the market's secret for it, the slot as 8 bytes, and the salts with which
/// bidders opened their sealed bids, ordered by bidder. Without salts the market knows it beforehand; with them nobody does who
/// does not know all of them, and the last one to open can only choose between opening and forfeiting.
pub fn slot_seed(secret: B256, slot: SlotNumber, salts: &[B256]) -> B256 {
    let mut bytes = secret.to_vec();
    bytes.extend_from_slice(&slot.to_be_bytes());
    salts.iter().for_each(|salt| bytes.extend_from_slice(salt.as_slice()));
    keccak256(bytes)
}

/// Numbers drawn from a seed. What they are for is part of what is hashed, so that two draws from one seed have nothing to do with
/// each other.
#[derive(Clone, Debug)]
pub struct Draws {
    state: B256,
    count: u64,
}

impl Draws {
    /// Draws for a purpose: a fixed text, and whatever tells this draw from others of its kind.
    pub fn new(seed: B256, purpose: &str, instance: &[u8]) -> Self {
        let mut bytes = seed.to_vec();
        // Lengths keep two different pairs from being one text.
        bytes.extend_from_slice(&(purpose.len() as u64).to_be_bytes());
        bytes.extend_from_slice(purpose.as_bytes());
        bytes.extend_from_slice(instance);
        Self { state: keccak256(bytes), count: 0 }
    }

    /// A number below `bound`, each as likely as any other; zero for a bound of zero.
    pub fn below(&mut self, bound: U256) -> U256 {
        if bound.is_zero() {
            return U256::ZERO;
        }
        // Of the numbers that a hash can be, the last incomplete stretch would favour small ones.
        let whole = U256::MAX - (U256::MAX % bound + U256::ONE) % bound;
        loop {
            let mut bytes = self.state.to_vec();
            bytes.extend_from_slice(&self.count.to_be_bytes());
            self.count += 1;
            let drawn = U256::from_be_bytes(keccak256(bytes).0);
            if drawn <= whole {
                return drawn % bound;
            }
        }
    }
}

/// The weights with which bidders are drawn: the greatest ones lowered to where each has its cap of the chances.
pub(crate) fn capped(weights: BTreeMap<Address, U256>, max_share_bps: u64) -> BTreeMap<Address, U256> {
    let cap = max_share_bps;
    let mut falling: Vec<U256> = weights.values().copied().collect();
    falling.sort_unstable_by(|a, b| b.cmp(a));
    let mut rest = falling.iter().fold(U512::ZERO, |sum, weight| sum + U512::from(*weight));
    for (capped, next) in falling.iter().enumerate() {
        // The first `capped` have their cap each, so the others share what is left of the chances.
        let Some(left_bps) = WHOLE_BPS.checked_sub(cap.saturating_mul(capped as u64)).filter(|left| *left > 0) else { break };
        let limit = rest * U512::from(cap) / U512::from(left_bps);
        if U512::from(*next) <= limit || cap >= WHOLE_BPS {
            let limit = limit.saturating_to::<U256>();
            return weights.into_iter().map(|(bidder, weight)| (bidder, weight.min(limit))).collect();
        }
        rest -= U512::from(*next);
    }
    // Too few bidders for the cap: the same chance for each.
    weights.into_keys().map(|bidder| (bidder, U256::ONE)).collect()
}

/// One of the items, in proportion to the weight beside each; where all weigh nothing, each is as likely as any other.
pub(crate) fn pick<'a, T>(items: &'a [(T, U256)], draws: &mut Draws) -> Option<&'a T> {
    let greatest = items.iter().map(|(_, weight)| *weight).max()?;
    // Sums of as many as a book holds then fit into 256 bits; what is lost is less than a part in 2^200.
    let shift = (greatest.bit_len() + MAX_BIDS_PER_SLOT.ilog2() as usize + 1).saturating_sub(256);
    let weight = |weight: U256| if greatest.is_zero() { U256::ONE } else { weight >> shift };
    let total = items.iter().fold(U256::ZERO, |sum, (_, each)| sum + weight(*each));
    let mut drawn = draws.below(total);
    for (item, each) in items {
        match drawn.checked_sub(weight(*each)) {
            Some(left) => drawn = left,
            None => return Some(item),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_every_time_and_another_purpose_gives_others() {
        let drawn = |purpose: &str| {
            let mut draws = Draws::new(B256::repeat_byte(7), purpose, &[1]);
            [(); 8].map(|()| draws.below(U256::from(1_000_000)))
        };
        assert_eq!(drawn("one"), drawn("one"));
        assert_ne!(drawn("one"), drawn("two"));
    }

    #[test]
    fn every_number_below_a_bound_comes_about_as_often_as_any_other() {
        let mut draws = Draws::new(B256::ZERO, "dice", &[]);
        let mut seen = [0_u32; 6];
        for _ in 0..6_000 {
            seen[draws.below(U256::from(6)).to::<usize>()] += 1;
        }
        assert!(seen.iter().all(|count| (850..1_150).contains(count)), "{seen:?}");
    }

    #[test]
    fn extreme_bounds_are_kept() {
        let mut draws = Draws::new(B256::ZERO, "bounds", &[]);
        assert_eq!(draws.below(U256::ZERO), U256::ZERO);
        assert_eq!(draws.below(U256::ONE), U256::ZERO);
        for _ in 0..8 {
            assert!(draws.below(U256::MAX) < U256::MAX);
        }
    }
}

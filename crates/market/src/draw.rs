//! Draws that anyone can repeat from a seed.

use alloy_primitives::{B256, U256, keccak256};
use lockstep_primitives::SlotNumber;

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

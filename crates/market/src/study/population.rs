//! Who there is, and what slots are worth to them.

use alloy_primitives::U256;
use lockstep_primitives::{ChainId, RollupSet};

use crate::Draws;

/// What the least slot is worth in common, in wei, and the most by that.
const LEAST: u64 = 1_000_000_000_000_000;
const MOST: u64 = 1_000;
/// The mean by the least, in thousandths: 1 + ln 1000.
const MEAN_PERMILLE: u64 = 7_908;
/// What a default proposer earns of the common worth, in thousandths.
const DEFAULT_PERMILLE: u64 = 600;
/// How good a bidder is at the least and at the most, in thousandths.
const SKILL: (u64, u64) = (500, 1_500);
/// What each further rollup brings at the most, in thousandths.
const SYNERGY: u64 = 333;

/// The bidders, the same in all slots.
#[derive(Debug)]
pub(super) struct Population {
    seed: U256,
    sellers: usize,
    /// By bidder and rollup, in thousandths.
    skills: Vec<Vec<u64>>,
    /// By bidder, in thousandths.
    synergies: Vec<u64>,
}

impl Population {
    pub(super) fn new(seed: u64, sellers: usize, bidders: usize) -> Self {
        let seed = U256::from(seed);
        let mut draws = Draws::new(seed.into(), "bidders of a study", &[]);
        let skill = |draws: &mut Draws| SKILL.0 + below(draws, SKILL.1 - SKILL.0);
        let skills = (0..bidders).map(|_| (0..sellers).map(|_| skill(&mut draws)).collect()).collect();
        let synergies = (0..bidders).map(|_| below(&mut draws, SYNERGY)).collect();
        Self { seed, sellers, skills, synergies }
    }

    /// What each rollup's slot is worth in common, in wei: a Pareto distribution of exponent 1, cut off.
    pub(super) fn slot(&self, slot: u64) -> Vec<U256> {
        let mut draws = Draws::new(self.seed.into(), "slots of a study", &slot.to_be_bytes());
        let worth = |draws: &mut Draws| {
            let times = ((1_u64 << 32) / (below(draws, 1 << 32) + 1)).clamp(1, MOST);
            U256::from(LEAST) * U256::from(times)
        };
        (0..self.sellers).map(|_| worth(&mut draws)).collect()
    }

    /// What a package is worth to a bidder, in wei.
    pub(super) fn value(&self, worth: &[U256], bidder: usize, package: &RollupSet) -> U256 {
        let skills = self.skills.get(bidder);
        let skilled = package.iter().filter_map(|chain| {
            let index = usize::try_from(*chain).ok()?;
            Some(*worth.get(index)? * U256::from(*skills?.get(index)?))
        });
        let sum = skilled.fold(U256::ZERO, |sum, value| sum + value);
        let further = package.len().saturating_sub(1) as u64;
        let synergy = self.synergies.get(bidder).copied().unwrap_or_default();
        sum * U256::from(1_000 + further * synergy) / U256::from(1_000_000)
    }

    /// What a package is worth to a bidder on average over all slots, in wei.
    pub(super) fn mean_value(&self, bidder: usize, package: &RollupSet) -> U256 {
        let mean = U256::from(LEAST) * U256::from(MEAN_PERMILLE) / U256::from(1_000);
        self.value(&vec![mean; self.sellers], bidder, package)
    }

    /// What a rollup's default proposer earns, in wei.
    pub(super) fn default_value(worth: &[U256], chain: ChainId) -> U256 {
        let worth = usize::try_from(chain).ok().and_then(|index| worth.get(index)).copied().unwrap_or_default();
        worth * U256::from(DEFAULT_PERMILLE) / U256::from(1_000)
    }
}

fn below(draws: &mut Draws, bound: u64) -> u64 {
    draws.below(U256::from(bound)).to::<u64>()
}

//! The most that a slot can be worth, whoever gets what.

use alloy_primitives::U256;
use lockstep_primitives::{ChainId, RollupSet};

/// The greatest sum of values over all ways to give each rollup to one bidder or to its default proposer: by dynamic programming
/// over bidders and sets of rollups.
pub(super) fn optimum(
    sellers: usize,
    bidders: usize,
    value: impl Fn(usize, &RollupSet) -> U256,
    default_value: impl Fn(ChainId) -> U256,
) -> U256 {
    let sets: Vec<RollupSet> =
        (0..1_u32 << sellers).map(|mask| (0..sellers as ChainId).filter(|chain| mask >> chain & 1 == 1).collect()).collect();
    // By set: what it can be worth to those who were asked so far.
    let mut best: Vec<U256> =
        sets.iter().map(|set| set.iter().fold(U256::ZERO, |sum, chain| sum + default_value(*chain))).collect();
    for bidder in 0..bidders {
        let own: Vec<U256> = sets.iter().map(|set| value(bidder, set)).collect();
        // From the largest set down: what is read is still without this bidder.
        for set in (0..sets.len()).rev() {
            let mut given = set;
            let mut greatest = best.get(set).copied().unwrap_or_default();
            while given > 0 {
                let (mine, rest) = (own.get(given), best.get(set ^ given));
                greatest = greatest.max(mine.copied().unwrap_or_default() + rest.copied().unwrap_or_default());
                given = (given - 1) & set;
            }
            if let Some(known) = best.get_mut(set) {
                *known = greatest;
            }
        }
    }
    best.last().copied().unwrap_or_default()
}

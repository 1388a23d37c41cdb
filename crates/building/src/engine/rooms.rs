//! What blocks have limits of, as dimensions of a packing.

use lockstep_primitives::{ChainId, RollupSet};

use crate::Lanes;

/// Gas, DA footprint and data of every rollup: three dimensions each, in the order of chain ids.
#[derive(Clone, Debug)]
pub(super) struct Rooms {
    chains: Vec<ChainId>,
    capacities: Vec<u64>,
}

/// Dimensions of a rollup.
const EACH: usize = 3;

impl Rooms {
    /// The room that the open blocks of a set have.
    pub(super) fn new(lanes: &Lanes, rollups: &RollupSet) -> Self {
        let (mut chains, mut capacities) = (Vec::new(), Vec::new());
        for (chain, lane) in lanes.iter().filter(|(chain, _)| rollups.contains(chain)) {
            let (block, context) = (lane.block(), lane.block().context());
            let footprint =
                if context.rules.has_footprint() { context.gas_limit.saturating_sub(block.footprint()) } else { u64::MAX };
            let data = context.data.block.map_or(u64::MAX, |limit| limit.saturating_sub(block.data()));
            chains.push(*chain);
            capacities.extend([block.gas_left(), footprint, data]);
        }
        Self { chains, capacities }
    }

    pub(super) fn capacities(&self) -> &[u64] {
        &self.capacities
    }

    /// What is used of some rollups' blocks.
    pub(super) fn of(&self, lanes: &Lanes, rollups: &RollupSet) -> Vec<[u64; EACH]> {
        let used = rollups.iter().filter_map(|chain| lanes.get(chain)).map(|lane| {
            let block = lane.block();
            [block.gas_used(), block.footprint(), block.data()]
        });
        used.collect()
    }

    /// What was used since then, by dimension, zeros left out.
    pub(super) fn used_since(&self, lanes: &Lanes, rollups: &RollupSet, before: &[[u64; EACH]]) -> Vec<(usize, u64)> {
        let mut usage = Vec::with_capacity(before.len());
        for (chain, (before, now)) in rollups.iter().zip(before.iter().zip(self.of(lanes, rollups))) {
            let Ok(index) = self.chains.binary_search(chain) else { continue };
            for (dimension, (before, now)) in before.iter().zip(now).enumerate() {
                let limited = self.capacities.get(index * EACH + dimension).is_some_and(|room| *room < u64::MAX);
                if now > *before && limited {
                    usage.push((index * EACH + dimension, now - before));
                }
            }
        }
        usage
    }
}

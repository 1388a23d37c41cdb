//! What blocks have limits of, as dimensions of a packing.

use lockstep_primitives::{ChainId, RollupSet};

use crate::{Lanes, reuse::LaneStretch};

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
                if context.rules.has_footprint() { context.listed_gas().saturating_sub(block.footprint()) } else { u64::MAX };
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
    pub(super) fn used(&self, lanes: &Lanes, rollups: &RollupSet) -> Vec<[u64; EACH]> {
        let used = rollups.iter().filter_map(|chain| lanes.get(chain)).map(|lane| {
            let block = lane.block();
            [block.gas_used(), block.footprint(), block.data()]
        });
        used.collect()
    }

    /// What was used since then, by dimension, zeros left out.
    pub(super) fn used_since(&self, lanes: &Lanes, rollups: &RollupSet, before: &[[u64; EACH]]) -> Vec<(usize, u64)> {
        let mut usage = Vec::with_capacity(before.len());
        for (chain, (before, now)) in rollups.iter().zip(before.iter().zip(self.used(lanes, rollups))) {
            let mut taken = now;
            taken.iter_mut().zip(before).for_each(|(now, before)| *now = now.saturating_sub(*before));
            usage.extend(self.limited(*chain, taken));
        }
        usage
    }

    /// What a result takes, by dimension, zeros left out.
    pub(super) fn taken(&self, stretches: &[LaneStretch]) -> Vec<(usize, u64)> {
        self.each_taken(stretches).collect()
    }

    /// The same, one after the other.
    pub(super) fn each_taken(&self, stretches: &[LaneStretch]) -> impl Iterator<Item = (usize, u64)> {
        stretches.iter().flat_map(|part| self.limited(part.chain, part.stretch.takes()))
    }

    /// What is taken of a rollup's block, by dimension, zeros left out, and what has no limit.
    fn limited(&self, chain: ChainId, taken: [u64; EACH]) -> impl Iterator<Item = (usize, u64)> {
        let index = self.chains.binary_search(&chain).ok();
        let dimensions = index.into_iter().flat_map(move |index| (index * EACH..).zip(taken));
        dimensions.filter(|(dimension, taken)| *taken > 0 && self.capacities.get(*dimension).is_some_and(|room| *room < u64::MAX))
    }
}

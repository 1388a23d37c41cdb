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
            self.push(&mut usage, *chain, taken);
        }
        usage
    }

    /// What a result takes, by dimension, zeros left out.
    pub(super) fn taken(&self, stretches: &[LaneStretch]) -> Vec<(usize, u64)> {
        let mut usage = Vec::with_capacity(stretches.len());
        for part in stretches {
            self.push(&mut usage, part.chain, part.stretch.takes());
        }
        usage
    }

    fn push(&self, usage: &mut Vec<(usize, u64)>, chain: ChainId, taken: [u64; EACH]) {
        let Ok(index) = self.chains.binary_search(&chain) else { return };
        for (dimension, taken) in (index * EACH..).zip(taken) {
            let limited = self.capacities.get(dimension).is_some_and(|room| *room < u64::MAX);
            if taken > 0 && limited {
                usage.push((dimension, taken));
            }
        }
    }
}

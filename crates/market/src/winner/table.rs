//! The best packing by dynamic programming over sets of rollups.

use std::{cmp::Reverse, collections::BTreeSet};

use alloy_primitives::U256;

use super::{Candidate, Packed, TABLE_SELLERS, bound_of, denser_first, union};

/// A set of bids for disjoint packages, of which no two exclude each other.
#[derive(Clone, Copy, Debug)]
struct Packing {
    surplus: U256,
    count: u8,
    /// Ascending; the first `count` are used, the others are `u16::MAX`.
    ranks: [u16; TABLE_SELLERS as usize],
}

impl Packing {
    const EMPTY: Self = Self { surplus: U256::ZERO, count: 0, ranks: [u16::MAX; TABLE_SELLERS as usize] };

    fn ranks(&self) -> &[u16] {
        &self.ranks[..usize::from(self.count)]
    }

    /// The packing with a bid for rollups that it does not sell yet; so there is room for the bid's rank.
    fn with(mut self, candidate: &Candidate<'_>) -> Self {
        let count = usize::from(self.count);
        let place = self.ranks().partition_point(|rank| *rank < candidate.rank);
        self.ranks.copy_within(place..count, place + 1);
        self.ranks[place] = candidate.rank;
        self.count += 1;
        self.surplus += candidate.surplus;
        self
    }

    /// What makes a packing that sells the rollups `sold` better: greater is better.
    fn standing(&self, sold: u32) -> (U256, u32, Reverse<u8>, Reverse<[u16; TABLE_SELLERS as usize]>) {
        (self.surplus, sold.count_ones(), Reverse(self.count), Reverse(self.ranks))
    }
}

/// The best packing over the groups of one component of at most [`TABLE_SELLERS`] rollups. With too few nodes it is the best one
/// found, or a greedy one.
pub(super) fn pack(groups: &[Vec<Candidate<'_>>], rollups: u32, nodes: &mut u64) -> Packed {
    // By set of rollups: the best packing that sells exactly them.
    let mut table: Vec<Option<Packing>> = vec![None; 1usize << rollups];
    table[0] = Some(Packing::EMPTY);
    let mut reached = 0;
    let mut exact = true;
    for group in groups {
        exact = offer(&mut table, reached, group, nodes);
        if !exact {
            break;
        }
        reached |= bits(union(group));
    }
    let fallback = if exact { None } else { Some(greedy(groups)) };
    let found = table.iter().zip(0u32..).filter_map(|(packing, sold)| Some((sold, (*packing)?)));
    let best = found.chain(fallback).max_by_key(|(sold, packing)| packing.standing(*sold));
    let best = best.map_or(Packing::EMPTY, |(_, packing)| packing);
    let bounded = || bound_of(groups.iter().flatten()).saturating_sub(best.surplus);
    Packed { ranks: best.ranks().to_vec(), surplus: best.surplus, gap: if exact { U256::ZERO } else { bounded() } }
}

/// The rollups of a candidate, or of many, as bits of a table.
fn bits(mask: u64) -> u32 {
    // A component has at most as many rollups as a table.
    u32::try_from(mask).unwrap_or(u32::MAX)
}

/// Adds at most one bid of `group` to each packing of the table, whose packings sell only rollups of `reached`. Returns
/// whether the nodes were enough.
fn offer(table: &mut [Option<Packing>], reached: u32, group: &[Candidate<'_>], nodes: &mut u64) -> bool {
    // No bid of the group fits a packing that sells a rollup which all of them want.
    let shared = group.iter().fold(u32::MAX, |shared, candidate| shared & bits(candidate.mask));
    let open = reached & !shared;
    // From the largest set down: a larger set never feeds a smaller one, so what is read here has no bid of the group.
    let mut sold = open;
    loop {
        let packing = table[sold as usize];
        let work = if packing.is_some() { 1 + group.len() as u64 } else { 1 };
        let Some(left) = nodes.checked_sub(work) else { return false };
        *nodes = left;
        if let Some(packing) = packing {
            for candidate in group.iter().filter(|candidate| bits(candidate.mask) & sold == 0) {
                let target = sold | bits(candidate.mask);
                let known = &mut table[target as usize];
                let surplus = packing.surplus + candidate.surplus;
                if known.as_ref().is_some_and(|known| known.surplus > surplus) {
                    continue;
                }
                let extended = packing.with(candidate);
                if known.as_ref().is_none_or(|known| extended.standing(target) > known.standing(target)) {
                    *known = Some(extended);
                }
            }
        }
        if sold == 0 {
            return true;
        }
        sold = (sold - 1) & open;
    }
}

/// The packing that takes bids by their surplus for each rollup, and what it sells.
fn greedy(groups: &[Vec<Candidate<'_>>]) -> (u32, Packing) {
    let mut order: Vec<(usize, &Candidate<'_>)> = Vec::new();
    for (group, candidates) in groups.iter().enumerate() {
        order.extend(candidates.iter().map(|candidate| (group, candidate)));
    }
    order.sort_by(|(_, a), (_, b)| denser_first(a, b));
    let mut used = BTreeSet::new();
    let mut sold = 0;
    let mut packing = Packing::EMPTY;
    for (group, candidate) in order {
        if bits(candidate.mask) & sold == 0 && used.insert(group) {
            sold |= bits(candidate.mask);
            packing = packing.with(candidate);
        }
    }
    (sold, packing)
}

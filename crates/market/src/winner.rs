//! Which bids win: the packing of disjoint packages with the greatest surplus, found exactly.
//!
//! Bids that exclude each other form groups: all bids that share their lowest rollup (they overlap) and all bids of one
//! bidder that share a tag. Any packing takes at most one bid of each group, so dynamic programming over sets of rollups
//! goes through the groups one after another and keeps, for each set, the best packing that sells exactly this set. This
//! is exact with and without tags and, unlike branch and bound, its work does not depend on how the amounts are chosen:
//! at most 2^rollups states for each bid. Only rollups that bids or tags tie together share a table; with 20 rollups all
//! tied together the table has about 90 MB.
//!
//! Of packings with equal surplus the one that sells more rollups wins (so that a bid of exactly the reserve buys), then
//! the one of fewer bids, then the one whose sorted digests come first. This order does not change when the same bid is
//! added to both sides, which is what lets a table keep only the best packing of each set.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BTreeSet},
};

use alloy_primitives::{Address, U256};
use lockstep_primitives::ChainId;

use crate::{AcceptedBid, MAX_BIDS_PER_SLOT, MAX_SELLERS, Sale};

/// How many table entries and offers to them the search for a slot's winners may look at. Beyond it the best packing found
/// so far wins and the outcome says how far from the optimum it may be.
pub const MAX_SEARCH_NODES: u64 = 1 << 30;

/// What the search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Indices of the winning bids, ascending.
    pub(crate) winners: Vec<usize>,
    /// Their surplus over the reserves.
    pub(crate) surplus: U256,
    /// By how much the surplus may be below the greatest there is; zero when the search was complete.
    pub(crate) gap: U256,
}

/// Chooses the winners among `bids`, which are ordered by digest and bidder.
pub(crate) fn solve(sale: &Sale, bids: &[AcceptedBid], floors: &BTreeMap<ChainId, U256>, max_nodes: u64) -> Choice {
    let mut candidates = undominated(feasible(sale, bids, floors));
    let mut choice = Choice { winners: Vec::new(), surplus: U256::ZERO, gap: U256::ZERO };
    let mut optimal = candidates.len() <= MAX_BIDS_PER_SLOT;
    let bound = bound(&candidates);
    candidates.sort_by(denser_first);
    candidates.truncate(MAX_BIDS_PER_SLOT);
    candidates.sort_by_key(|candidate| candidate.index);
    for (candidate, rank) in candidates.iter_mut().zip(0u16..) {
        candidate.rank = rank;
    }

    let groups = exclusion_groups(&candidates);
    let mut nodes = max_nodes;
    for component in components(&groups) {
        let members: Vec<Vec<Candidate<'_>>> = groups
            .iter()
            .filter(|group| union(group) & component != 0)
            .map(|group| group.iter().map(|candidate| candidate.within(component)).collect())
            .collect();
        let (packing, exact) = pack(&members, component.count_ones(), &mut nodes);
        optimal &= exact;
        choice.surplus += packing.surplus;
        choice.winners.extend(packing.ranks().iter().map(|rank| candidates[usize::from(*rank)].index));
    }
    choice.winners.sort_unstable();
    if !optimal {
        choice.gap = bound.saturating_sub(choice.surplus);
    }
    choice
}

/// No packing has more surplus than this: each candidate's, spread evenly over its rollups, is at most the sum of the greatest
/// shares of these.
fn bound(candidates: &[Candidate<'_>]) -> U256 {
    let mut shares = [U256::ZERO; MAX_SELLERS];
    for candidate in candidates {
        let share = candidate.surplus.div_ceil(U256::from(candidate.mask.count_ones().max(1)));
        for (bit, greatest) in shares.iter_mut().enumerate() {
            if candidate.mask >> bit & 1 == 1 {
                *greatest = share.max(*greatest);
            }
        }
    }
    shares.iter().fold(U256::ZERO, |sum, share| sum + *share)
}

/// A bid that may win.
#[derive(Clone, Copy, Debug)]
struct Candidate<'a> {
    /// Of the bid.
    index: usize,
    /// Among the candidates, in the order of their digests.
    rank: u16,
    /// The package, one bit a rollup.
    mask: u32,
    surplus: U256,
    /// Candidates with the same tag exclude each other.
    tag: Option<(Address, &'a str)>,
}

impl Candidate<'_> {
    /// The candidate with only the rollups of `component` counted as bits, from the lowest on.
    fn within(&self, component: u32) -> Self {
        let mut mask = 0;
        let mut rest = component;
        let mut bit = 1;
        while rest != 0 {
            let lowest = rest & rest.wrapping_neg();
            if self.mask & lowest != 0 {
                mask |= bit;
            }
            rest ^= lowest;
            bit <<= 1;
        }
        Self { mask, ..*self }
    }

    /// Of two candidates for one package, whether this one leads to the better packing.
    fn beats(&self, other: &Self) -> bool {
        (self.surplus, Reverse(self.index)) > (other.surplus, Reverse(other.index))
    }
}

/// The bids that meet the reserves and, for packages, pay every seller its floor.
fn feasible<'a>(sale: &Sale, bids: &'a [AcceptedBid], floors: &BTreeMap<ChainId, U256>) -> Vec<Candidate<'a>> {
    let bits: BTreeMap<ChainId, u32> = sale.terms().keys().copied().zip(0..).collect();
    let mut candidates = Vec::new();
    for (index, accepted) in bids.iter().enumerate() {
        let bid = &accepted.bid;
        let Ok(surplus) = sale.surplus(bid) else { continue };
        let owed = bid.rollups.iter().try_fold(U256::ZERO, |sum, chain| sum.checked_add(*floors.get(chain)?));
        if !sale.units().is_unit(&bid.rollups) && owed.is_none_or(|owed| bid.amount < owed) {
            continue;
        }
        let mask = bid.rollups.iter().filter_map(|chain| bits.get(chain)).fold(0, |mask, bit| mask | (1u32 << *bit));
        candidates.push(Candidate { index, rank: 0, mask, surplus, tag: accepted.tag().map(|tag| (accepted.bidder, tag)) });
    }
    candidates
}

/// Leaves out each candidate that every packing could exchange for a better one: same package, and the same tag or none.
fn undominated(candidates: Vec<Candidate<'_>>) -> Vec<Candidate<'_>> {
    let mut free: BTreeMap<u32, Candidate<'_>> = BTreeMap::new();
    let mut tagged: BTreeMap<(u32, (Address, &str)), Candidate<'_>> = BTreeMap::new();
    for candidate in candidates {
        let best = match candidate.tag {
            None => free.entry(candidate.mask).or_insert(candidate),
            Some(tag) => tagged.entry((candidate.mask, tag)).or_insert(candidate),
        };
        if candidate.beats(best) {
            *best = candidate;
        }
    }
    tagged.retain(|(mask, _), candidate| free.get(mask).is_none_or(|rival| candidate.beats(rival)));
    free.into_values().chain(tagged.into_values()).collect()
}

/// Why candidates exclude each other. The order is the order of the search: going through the lowest rollups from the last
/// to the first keeps the tables small for the longest, as no packing so far uses a lower rollup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group<'a> {
    LowestRollup(Reverse<u32>),
    Tag((Address, &'a str)),
}

fn exclusion_groups<'a>(candidates: &[Candidate<'a>]) -> Vec<Vec<Candidate<'a>>> {
    let mut groups: BTreeMap<Group<'a>, Vec<Candidate<'a>>> = BTreeMap::new();
    for candidate in candidates {
        let group = match candidate.tag {
            None => Group::LowestRollup(Reverse(candidate.mask.trailing_zeros())),
            Some(tag) => Group::Tag(tag),
        };
        groups.entry(group).or_default().push(*candidate);
    }
    groups.into_values().collect()
}

/// The sets of rollups that neither a bid nor a tag ties to each other, smallest first.
fn components(groups: &[Vec<Candidate<'_>>]) -> Vec<u32> {
    let mut components: Vec<u32> = Vec::new();
    for group in groups {
        let mut joined = union(group);
        components.retain(|component| {
            let apart = *component & joined == 0;
            if !apart {
                joined |= *component;
            }
            apart
        });
        components.push(joined);
    }
    components.sort_by_key(|component| (component.count_ones(), *component));
    components
}

fn union(group: &[Candidate<'_>]) -> u32 {
    group.iter().fold(0, |union, candidate| union | candidate.mask)
}

/// A set of bids for disjoint packages, of which no two exclude each other.
#[derive(Clone, Copy, Debug)]
struct Packing {
    surplus: U256,
    count: u8,
    /// Ascending; the first `count` are used, the others are `u16::MAX`.
    ranks: [u16; MAX_SELLERS],
}

impl Packing {
    const EMPTY: Self = Self { surplus: U256::ZERO, count: 0, ranks: [u16::MAX; MAX_SELLERS] };

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
    fn standing(&self, sold: u32) -> (U256, u32, Reverse<u8>, Reverse<[u16; MAX_SELLERS]>) {
        (self.surplus, sold.count_ones(), Reverse(self.count), Reverse(self.ranks))
    }
}

/// The best packing over the groups of one component, and whether the search for it was complete.
fn pack(groups: &[Vec<Candidate<'_>>], rollups: u32, nodes: &mut u64) -> (Packing, bool) {
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
        reached |= union(group);
    }
    let fallback = if exact { None } else { Some(greedy(groups)) };
    let found = table.iter().zip(0u32..).filter_map(|(packing, sold)| Some((sold, (*packing)?)));
    let best = found.chain(fallback).max_by_key(|(sold, packing)| packing.standing(*sold));
    (best.map_or(Packing::EMPTY, |(_, packing)| packing), exact)
}

/// Adds at most one bid of `group` to each packing of the table, whose packings sell only rollups of `reached`. Returns
/// whether the nodes were enough.
fn offer(table: &mut [Option<Packing>], reached: u32, group: &[Candidate<'_>], nodes: &mut u64) -> bool {
    // No bid of the group fits a packing that sells a rollup which all of them want.
    let shared = group.iter().fold(u32::MAX, |shared, candidate| shared & candidate.mask);
    let open = reached & !shared;
    // From the largest set down: a larger set never feeds a smaller one, so what is read here has no bid of the group.
    let mut sold = open;
    loop {
        let packing = table[sold as usize];
        let work = if packing.is_some() { 1 + group.len() as u64 } else { 1 };
        let Some(left) = nodes.checked_sub(work) else { return false };
        *nodes = left;
        if let Some(packing) = packing {
            for candidate in group.iter().filter(|candidate| candidate.mask & sold == 0) {
                let target = sold | candidate.mask;
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
        if candidate.mask & sold == 0 && used.insert(group) {
            sold |= candidate.mask;
            packing = packing.with(candidate);
        }
    }
    (sold, packing)
}

fn denser_first(a: &Candidate<'_>, b: &Candidate<'_>) -> Ordering {
    let rollups = |candidate: &Candidate<'_>| U256::from(candidate.mask.count_ones());
    let by_density = (b.surplus * rollups(a)).cmp(&(a.surplus * rollups(b)));
    by_density.then(a.index.cmp(&b.index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Combinatorial, Outcome, Terms, floors};
    use alloy_primitives::B256;
    use lockstep_primitives::Bid;

    fn sale(reserves: &[u64]) -> Sale {
        let terms = reserves.iter().zip(0..).map(|(reserve, chain)| {
            (chain, Terms { reserve: U256::from(*reserve), default_proposer: Address::repeat_byte(0xdd) })
        });
        Sale::new(1, terms.collect()).unwrap()
    }

    fn bid(bidder: u8, rollups: &[ChainId], amount: u64, tag: &str) -> AcceptedBid {
        let exclusive = Some(tag.to_owned());
        let bid = Bid { slot: 1, rollups: rollups.iter().copied().collect(), amount: U256::from(amount), exclusive, nonce: 0 };
        AcceptedBid::new(Address::with_last_byte(bidder), bid)
    }

    fn won(sale: &Sale, bids: &[AcceptedBid]) -> Vec<(Vec<ChainId>, u64)> {
        let outcome = Outcome::decide(&Combinatorial, sale, bids.to_vec(), B256::ZERO);
        assert_eq!(outcome.gap, U256::ZERO);
        let mut won: Vec<(Vec<ChainId>, u64)> = outcome
            .winning_bids()
            .map(|winner| (winner.bid.rollups.iter().copied().collect(), winner.bid.amount.to::<u64>()))
            .collect();
        won.sort();
        won
    }

    #[test]
    fn two_packages_beat_one_that_is_greater_than_each() {
        let bids = [bid(1, &[0, 1], 10, ""), bid(2, &[1, 2], 15, ""), bid(3, &[2, 3], 9, "")];
        assert_eq!(won(&sale(&[0; 4]), &bids), [(vec![0, 1], 10), (vec![2, 3], 9)]);
    }

    #[test]
    fn a_package_must_pay_each_seller_its_best_single_bid() {
        // The single bids are 8 and 8, of which an exclusive tag lets only one win: 8 in all. The package offers more, but
        // less than what its sellers were offered singly.
        let singles = [bid(1, &[0], 8, "x"), bid(1, &[1], 8, "x")];
        let short = bid(2, &[0, 1], 15, "");
        assert_eq!(won(&sale(&[0, 0]), &[singles[0].clone(), singles[1].clone(), short]).len(), 1);
        let enough = bid(2, &[0, 1], 16, "");
        let [a, b] = singles;
        assert_eq!(won(&sale(&[0, 0]), &[a, b, enough]), [(vec![0, 1], 16)]);
    }

    #[test]
    fn of_one_bidders_tag_one_bid_wins_and_tags_of_others_do_not_matter() {
        let tagged = [bid(1, &[0], 10, "x"), bid(1, &[1], 10, "x"), bid(1, &[2], 10, "y"), bid(2, &[1], 3, "x")];
        assert_eq!(won(&sale(&[0; 3]), &tagged), [(vec![0], 10), (vec![1], 3), (vec![2], 10)]);
    }

    #[test]
    fn a_bid_of_exactly_the_reserve_buys() {
        assert_eq!(won(&sale(&[5, 5]), &[bid(1, &[1], 5, "")]), [(vec![1], 5)]);
    }

    #[test]
    fn of_equal_packings_the_one_of_fewer_bids_wins() {
        let bids = [bid(1, &[0], 5, ""), bid(1, &[1], 5, ""), bid(2, &[0, 1], 10, "")];
        assert_eq!(won(&sale(&[0, 0]), &bids), [(vec![0, 1], 10)]);
    }

    #[test]
    fn of_equal_bids_the_one_with_the_smaller_digest_wins() {
        let bids = [bid(1, &[0], 5, "a"), bid(1, &[0], 5, "b"), bid(1, &[0], 5, "c")];
        let outcome = Outcome::decide(&Combinatorial, &sale(&[0]), bids.to_vec(), B256::ZERO);
        assert_eq!(outcome.winners(), [0]);
        assert_eq!(outcome.bids[0].digest, bids.iter().map(|accepted| accepted.digest).min().unwrap());
    }

    #[test]
    fn reserves_count_in_the_choice() {
        // 20 is 2 above the reserves of its rollups, 15 is 5 above.
        let bids = [bid(1, &[0, 1], 20, ""), bid(2, &[1, 2], 15, "")];
        assert_eq!(won(&sale(&[9, 9, 1]), &bids), [(vec![1, 2], 15)]);
    }

    #[test]
    fn absurd_amounts_neither_overflow_nor_block_the_market() {
        let mut absurd = bid(1, &[0], 0, "");
        absurd.bid.amount = U256::MAX;
        assert_eq!(won(&sale(&[0, 0]), &[absurd, bid(2, &[0, 1], 4, "")]), [(vec![0, 1], 4)]);
    }

    #[test]
    fn twenty_rollups_and_hundreds_of_bids_are_solved_exactly() {
        // Bids for two or three neighbours in a row of rollups, so that the best value is easy to compute apart.
        let amount = |bidder: u64, first: u64, size: u64| 50 * size + (bidder * 7919 + first * 104_729 + size * 1_299_709) % 101;
        let sizes = [2u64, 3];
        let (rollups, bidders) = (20u64, 10u64);
        let mut bids = Vec::new();
        for bidder in 0..bidders {
            for size in sizes {
                for first in 0..=rollups - size {
                    let package: Vec<ChainId> = (first..first + size).collect();
                    bids.push(bid(bidder as u8, &package, amount(bidder, first, size), ""));
                }
            }
        }
        assert_eq!(bids.len(), 370);
        let mut expected = vec![0u64];
        for end in 1..=rollups {
            let mut best = expected[end as usize - 1];
            for size in sizes.into_iter().filter(|size| *size <= end) {
                let offer = (0..bidders).map(|bidder| amount(bidder, end - size, size)).max().unwrap();
                best = best.max(expected[(end - size) as usize] + offer);
            }
            expected.push(best);
        }
        let outcome = Outcome::decide(&Combinatorial, &sale(&[0; 20]), bids, B256::ZERO);
        assert_eq!(outcome.gap, U256::ZERO);
        let prices = outcome.wins.iter().fold(U256::ZERO, |sum, win| sum + win.price);
        assert_eq!(prices, U256::from(expected[20]));
    }

    #[test]
    fn a_search_that_is_cut_short_says_so_and_still_sells() {
        let sale = sale(&[0; 4]);
        let mut bids = vec![bid(1, &[0, 1], 10, "t"), bid(2, &[1, 2], 15, "t"), bid(3, &[2, 3], 9, "t"), bid(4, &[0], 1, "t")];
        bids.sort_by_key(AcceptedBid::order);
        let floors = floors(&sale, &bids);
        let mut last = U256::ZERO;
        for nodes in 0..200 {
            let choice = solve(&sale, &bids, &floors, nodes);
            assert!(choice.surplus >= U256::from(16), "greedy sells {{1, 2}} and {{0}}");
            assert!(choice.surplus >= last, "more work is never worse here");
            assert!(choice.surplus + choice.gap >= U256::from(19), "no more is there than it says");
            assert!(!choice.gap.is_zero() || choice == solve(&sale, &bids, &floors, u64::MAX));
            last = choice.surplus;
        }
        assert!(!solve(&sale, &bids, &floors, 0).gap.is_zero());
        assert_eq!(last, U256::from(19));
    }
}

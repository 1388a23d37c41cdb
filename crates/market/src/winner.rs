//! Which bids win: the packing of disjoint packages with the greatest surplus, found exactly.
//!
//! Only rollups that bids or tags tie together are decided together. Up to 20 of them are by dynamic programming (`table`), more by
//! a solver of integer programmes (`milp`).
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

mod milp;
mod table;

use std::{
    cmp::{Ordering, Reverse},
    collections::BTreeMap,
};

use alloy_primitives::{Address, U256};
use lockstep_primitives::{ChainId, RollupSet};

use crate::{AcceptedBid, MAX_BIDS_PER_SLOT, MAX_SELLERS, Sale};

/// How many rollups that are tied together a table is made for.
const TABLE_SELLERS: u32 = 20;

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
    let bound = bound(&candidates);
    let cut = candidates.len() > MAX_BIDS_PER_SLOT;
    let mut gap = U256::ZERO;
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
        let rollups = component.count_ones();
        let packed =
            if rollups <= TABLE_SELLERS { table::pack(&members, rollups, &mut nodes) } else { milp::pack(&members, max_nodes) };
        gap = gap.saturating_add(packed.gap);
        choice.surplus += packed.surplus;
        choice.winners.extend(packed.ranks.iter().map(|rank| candidates[usize::from(*rank)].index));
    }
    choice.winners.sort_unstable();
    let bounded = bound.saturating_sub(choice.surplus);
    choice.gap = if cut { bounded } else { gap.min(bounded) };
    choice
}

/// A package that a bidder may win, within rollups that are tied together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Package {
    /// One bit a rollup, from the lowest on.
    pub(crate) rollups: usize,
    /// Above the reserves.
    pub(crate) surplus: U256,
}

/// The sets of rollups that neither a bid nor a tag ties to each other, of those that somebody may win.
pub(crate) fn components_of(sale: &Sale, bids: &[AcceptedBid], floors: &BTreeMap<ChainId, U256>) -> Vec<RollupSet> {
    let candidates = feasible(sale, bids, floors);
    let chains: Vec<ChainId> = sale.terms().keys().copied().collect();
    let rollups =
        |component: u64| chains.iter().zip(0..).filter(move |(_, bit)| component >> bit & 1 == 1).map(|(chain, _)| *chain);
    components(&exclusion_groups(&candidates)).into_iter().map(|component| rollups(component).collect()).collect()
}

/// What each bidder may win of rollups that are tied together, in groups of which it wins at most one package.
pub(crate) fn packages_by_bidder(
    sale: &Sale,
    bids: &[AcceptedBid],
    floors: &BTreeMap<ChainId, U256>,
    component: &RollupSet,
) -> BTreeMap<Address, Vec<Vec<Package>>> {
    let bits = sale.terms().keys().zip(0..).filter(|(chain, _)| component.contains(*chain));
    let component = bits.fold(0, |mask, (_, bit)| mask | 1_u64 << bit);
    let mut by_bidder: BTreeMap<Address, Vec<Candidate<'_>>> = BTreeMap::new();
    for candidate in feasible(sale, bids, floors) {
        if let Some(accepted) = bids.get(candidate.index).filter(|_| candidate.mask & component != 0) {
            by_bidder.entry(accepted.bidder).or_default().push(candidate.within(component));
        }
    }
    let package = |candidate: &Candidate<'_>| {
        // Of a component that a table is made for, which the caller sees to.
        let rollups = usize::try_from(candidate.mask).unwrap_or(usize::MAX);
        Package { rollups, surplus: candidate.surplus }
    };
    let groups = |candidates| {
        let groups = exclusion_groups(&undominated(candidates));
        groups.iter().map(|group| group.iter().map(package).collect()).collect()
    };
    by_bidder.into_iter().map(|(bidder, candidates)| (bidder, groups(candidates))).collect()
}

/// What was found in one component.
#[derive(Debug)]
struct Packed {
    /// Of the bids that win.
    ranks: Vec<u16>,
    surplus: U256,
    /// By how much the surplus may be below the greatest there is.
    gap: U256,
}

/// No packing has more surplus than this: each candidate's, spread evenly over its rollups, is at most the sum of the greatest
/// shares of these.
fn bound(candidates: &[Candidate<'_>]) -> U256 {
    bound_of(candidates.iter())
}

fn bound_of<'a>(candidates: impl Iterator<Item = &'a Candidate<'a>>) -> U256 {
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
    mask: u64,
    surplus: U256,
    /// Candidates with the same tag exclude each other.
    tag: Option<(Address, &'a str)>,
}

impl Candidate<'_> {
    /// The candidate with only the rollups of `component` counted as bits, from the lowest on.
    fn within(&self, component: u64) -> Self {
        let mut mask = 0;
        let mut rest = component;
        let mut bit = 1_u64;
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
        let mask = bid.rollups.iter().filter_map(|chain| bits.get(chain)).fold(0, |mask, bit| mask | (1_u64 << *bit));
        candidates.push(Candidate { index, rank: 0, mask, surplus, tag: accepted.tag().map(|tag| (accepted.bidder, tag)) });
    }
    candidates
}

/// Leaves out each candidate that every packing could exchange for a better one: same package, and the same tag or none.
fn undominated(candidates: Vec<Candidate<'_>>) -> Vec<Candidate<'_>> {
    let mut free: BTreeMap<u64, Candidate<'_>> = BTreeMap::new();
    let mut tagged: BTreeMap<(u64, (Address, &str)), Candidate<'_>> = BTreeMap::new();
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
fn components(groups: &[Vec<Candidate<'_>>]) -> Vec<u64> {
    let mut components: Vec<u64> = Vec::new();
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

fn union(group: &[Candidate<'_>]) -> u64 {
    group.iter().fold(0, |union, candidate| union | candidate.mask)
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
        let outcome = Outcome::decide(&Combinatorial::default(), sale, bids.to_vec(), B256::ZERO);
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
        let outcome = Outcome::decide(&Combinatorial::default(), &sale(&[0]), bids.to_vec(), B256::ZERO);
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

    /// Bids for two or three neighbours in a row of rollups, and their greatest value, which is easy to compute apart.
    fn row(rollups: u64, bidders: u64) -> (Vec<AcceptedBid>, u64) {
        let amount = |bidder: u64, first: u64, size: u64| 50 * size + (bidder * 7919 + first * 104_729 + size * 1_299_709) % 101;
        let sizes = [2u64, 3];
        let mut bids = Vec::new();
        for bidder in 0..bidders {
            for size in sizes {
                for first in 0..=rollups - size {
                    let package: Vec<ChainId> = (first..first + size).collect();
                    bids.push(bid(bidder as u8, &package, amount(bidder, first, size), ""));
                }
            }
        }
        let mut expected = vec![0u64];
        for end in 1..=rollups {
            let mut best = expected[end as usize - 1];
            for size in sizes.into_iter().filter(|size| *size <= end) {
                let offer = (0..bidders).map(|bidder| amount(bidder, end - size, size)).max().unwrap();
                best = best.max(expected[(end - size) as usize] + offer);
            }
            expected.push(best);
        }
        (bids, expected[rollups as usize])
    }

    #[test]
    fn twenty_rollups_and_hundreds_of_bids_are_solved_exactly() {
        let (bids, expected) = row(20, 10);
        assert_eq!(bids.len(), 370);
        let outcome = Outcome::decide(&Combinatorial::default(), &sale(&[0; 20]), bids, B256::ZERO);
        assert_eq!(outcome.gap, U256::ZERO);
        let prices = outcome.wins.iter().fold(U256::ZERO, |sum, win| sum + win.price);
        assert_eq!(prices, U256::from(expected));
    }

    #[test]
    fn sixty_four_rollups_that_are_all_tied_together_are_solved_exactly() {
        let (bids, expected) = row(64, 10);
        let outcome = Outcome::decide(&Combinatorial::default(), &sale(&[0; 64]), bids.clone(), B256::ZERO);
        assert_eq!(outcome.gap, U256::ZERO);
        let prices = outcome.wins.iter().fold(U256::ZERO, |sum, win| sum + win.price);
        assert_eq!(prices, U256::from(expected));
        let reversed = Outcome::decide(&Combinatorial::default(), &sale(&[0; 64]), bids.into_iter().rev().collect(), B256::ZERO);
        assert_eq!(reversed, outcome);
    }

    #[test]
    fn the_solver_finds_what_the_table_finds() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for round in 0..400 {
            let rollups = 2 + next(9);
            // Small amounts, whole ether in wei, and amounts that no float holds.
            let unit = [U256::ONE, U256::from(10).pow(U256::from(18)), (U256::ONE << 200) - U256::from(7)][round % 3];
            let mut candidates = Vec::new();
            for index in 0..3 + next(30) as usize {
                let mask = 1 + next((1 << rollups) - 1);
                let surplus = U256::from(next(50)) * unit + U256::from(next(3));
                let tag = (next(3) == 0).then(|| (Address::with_last_byte(next(3) as u8), ["x", "y"][next(2) as usize]));
                candidates.push(Candidate { index, rank: index as u16, mask, surplus, tag });
            }
            let groups = exclusion_groups(&candidates);
            let by_table = table::pack(&groups, rollups as u32, &mut u64::MAX.clone());
            let by_solver = milp::pack(&groups, u64::MAX);
            assert!(by_solver.surplus <= by_table.surplus, "round {round}");
            assert!(by_solver.surplus + by_solver.gap >= by_table.surplus, "round {round}: the gap holds");
            if unit == U256::ONE {
                assert_eq!((by_solver.surplus, by_solver.gap), (by_table.surplus, U256::ZERO), "round {round}");
            }
            // What rounding costs is below a billionth.
            assert!((by_table.surplus - by_solver.surplus) * U256::from(1_000_000_000) <= by_table.surplus, "round {round}");
        }
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

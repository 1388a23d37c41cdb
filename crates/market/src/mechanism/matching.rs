//! Which rollup goes to which taker when every taker takes one at most: the matching of greatest surplus.
//!
//! Found by augmenting along the best alternating path until no path gains (Ford and Fulkerson, 1962, "Flows in Networks", on the
//! assignment problem). A matching so found is the best of its size, and what a further rollup adds never rises with the size; so
//! where the first loss shows up the best of all sizes is reached. Work grows with the square of the rollups times the edges,
//! whatever the amounts are: there is nothing to cut short.

use alloy_primitives::I256;

use crate::MAX_SELLERS;

// Along a path surpluses below 2^248 are added and taken away, one of each for a rollup: that fits into 255 bits.
const _: () = assert!(MAX_SELLERS <= 100, "sums along a path must fit into 255 bits");

/// That a taker may have a rollup.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    /// Who, counted from zero.
    pub(super) taker: usize,
    /// What comes of it: not negative, below 2^248.
    pub(super) surplus: I256,
}

/// For each rollup which of its edges is taken, so that no taker has two rollups, the surplus is the greatest there is, and of
/// matchings with that surplus as many rollups as possible are sold. `edges` has a list for each rollup; of several matchings
/// that are equal in both it depends on the order of the lists alone which one is found.
pub(super) fn matching(edges: &[Vec<Edge>], takers: usize) -> Vec<Option<usize>> {
    let mut search = Search { edges, taken: vec![None; edges.len()], holdings: vec![None; takers] };
    while search.augment() {}
    search.taken
}

struct Search<'a> {
    edges: &'a [Vec<Edge>],
    /// By rollup: the edge that is taken.
    taken: Vec<Option<usize>>,
    /// By taker: the rollup it has.
    holdings: Vec<Option<usize>>,
}

/// An edge: the rollup, and the place in its list.
type Step = (usize, usize);

impl Search<'_> {
    /// Sells one more rollup where that loses nothing. Says whether it did.
    fn augment(&mut self) -> bool {
        let (gains, came_by) = self.reach();
        let mut best: Option<(I256, Step)> = None;
        for (rollup, edges) in self.edges.iter().enumerate() {
            let Some(gain) = gains[rollup] else { continue };
            for (place, edge) in edges.iter().enumerate() {
                let total = gain + edge.surplus;
                if self.holdings[edge.taker].is_none() && best.is_none_or(|(known, _)| total > known) {
                    best = Some((total, (rollup, place)));
                }
            }
        }
        let Some((_, last)) = best.filter(|(total, _)| !total.is_negative()) else { return false };
        // From the end of the path back to the rollup that was not sold: each takes the edge that the path reached it by.
        let mut step = Some(last);
        while let Some((rollup, place)) = step {
            self.taken[rollup] = Some(place);
            self.holdings[self.edges[rollup][place].taker] = Some(rollup);
            step = came_by[rollup];
        }
        true
    }

    /// For each rollup the most that is gained when it gives up its taker to one that has none, if that can be, and the edge by
    /// which its taker goes away. An unsold rollup has no taker to give up.
    fn reach(&self) -> (Vec<Option<I256>>, Vec<Option<Step>>) {
        let mut gains: Vec<Option<I256>> = self.taken.iter().map(|taken| taken.is_none().then_some(I256::ZERO)).collect();
        let mut came_by: Vec<Option<Step>> = vec![None; self.edges.len()];
        // Paths visit a rollup once at most, as the matching is the best of its size: going round in it gains nothing.
        for _ in 0..self.edges.len() {
            let mut changed = false;
            for (rollup, edges) in self.edges.iter().enumerate() {
                let Some(gain) = gains[rollup] else { continue };
                for (place, edge) in edges.iter().enumerate() {
                    let Some(robbed) = self.holdings[edge.taker].filter(|robbed| *robbed != rollup) else { continue };
                    let Some(given_up) = self.taken[robbed] else { continue };
                    let reached = gain + edge.surplus - self.edges[robbed][given_up].surplus;
                    if gains[robbed].is_none_or(|known| reached > known) {
                        gains[robbed] = Some(reached);
                        came_by[robbed] = Some((rollup, place));
                        changed = true;
                    }
                }
            }
            if !changed {
                break;
            }
        }
        (gains, came_by)
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::U256;

    use super::*;

    fn edges(rollups: &[&[(usize, u64)]]) -> Vec<Vec<Edge>> {
        let edge = |(taker, surplus): &(usize, u64)| Edge { taker: *taker, surplus: I256::from_raw(U256::from(*surplus)) };
        rollups.iter().map(|list| list.iter().map(edge).collect()).collect()
    }

    /// Surplus and number sold of the best matching, by trying every one.
    fn best_of_all(edges: &[Vec<Edge>], used: &mut Vec<usize>) -> (I256, usize) {
        let Some((first, rest)) = edges.split_first() else { return (I256::ZERO, 0) };
        let mut best = best_of_all(rest, used);
        for edge in first {
            if used.contains(&edge.taker) {
                continue;
            }
            used.push(edge.taker);
            let (surplus, sold) = best_of_all(rest, used);
            used.pop();
            best = best.max((surplus + edge.surplus, sold + 1));
        }
        best
    }

    fn found(edges: &[Vec<Edge>], takers: usize) -> (I256, usize) {
        let taken = matching(edges, takers);
        let mut used = Vec::new();
        let mut sum = (I256::ZERO, 0);
        for (list, place) in edges.iter().zip(&taken) {
            let Some(edge) = place.map(|place| list[place]) else { continue };
            assert!(!used.contains(&edge.taker), "taker {} has two rollups: {taken:?}", edge.taker);
            used.push(edge.taker);
            sum = (sum.0 + edge.surplus, sum.1 + 1);
        }
        sum
    }

    #[test]
    fn a_taker_goes_where_the_others_lose_least() {
        // The second taker can serve the first rollup nearly as well, the second rollup it cannot.
        let edges = edges(&[&[(0, 10), (1, 9)], &[(0, 8), (1, 1)]]);
        assert_eq!(matching(&edges, 2), [Some(1), Some(0)]);
    }

    #[test]
    fn a_rollup_stays_unsold_where_selling_it_would_cost_more() {
        // Both could be sold for 2 together; one alone brings 10.
        let edges = edges(&[&[(0, 1), (1, 10)], &[(1, 1)]]);
        assert_eq!(found(&edges, 2), best_of_all(&edges, &mut Vec::new()));
        let chain = self::edges(&[&[(0, 1)], &[(0, 10)]]);
        assert_eq!(matching(&chain, 1), [None, Some(0)]);
    }

    #[test]
    fn a_surplus_of_nothing_sells() {
        assert_eq!(matching(&edges(&[&[(0, 0)], &[(1, 0)], &[]]), 2), [Some(0), Some(0), None]);
    }

    #[test]
    fn no_other_matching_is_better() {
        // A fixed congruential sequence: many small graphs, with many ties.
        let mut state = 1_u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..3_000 {
            let takers = 1 + next(6) as usize;
            let rollups = 1 + next(5);
            let mut graph = Vec::new();
            for _ in 0..rollups {
                let mut list = Vec::new();
                for taker in 0..takers {
                    if next(3) > 0 {
                        list.push(Edge { taker, surplus: I256::from_raw(U256::from(next(7))) });
                    }
                }
                graph.push(list);
            }
            assert_eq!(found(&graph, takers), best_of_all(&graph, &mut Vec::new()), "{graph:?}");
        }
    }

    #[test]
    fn the_greatest_surpluses_do_not_overflow() {
        let greatest = I256::from_raw(crate::MAX_AMOUNT);
        let list: Vec<Edge> = (0..MAX_SELLERS).map(|taker| Edge { taker, surplus: greatest }).collect();
        let graph = vec![list; MAX_SELLERS];
        assert!(matching(&graph, MAX_SELLERS).iter().all(Option::is_some));
        let one = vec![vec![Edge { taker: 0, surplus: greatest }]; MAX_SELLERS];
        assert_eq!(matching(&one, 1).iter().flatten().count(), 1);
    }
}

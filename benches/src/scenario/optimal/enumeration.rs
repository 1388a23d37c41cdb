//! The optimum by trying every subset in every order.
//!
//! Nothing here knows how the builder searches. A bundle is placed if it runs where it stands, is worth at least nothing there
//! (one with relays at least what the policy asks of those), and no messages go in an untrusted circle then. Every attempt runs
//! on a copy of the open blocks, so that nothing has to be undone.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{B256, I256};
use lockstep_building::{BundleRun, Candidate, Lanes, SlotView, open_lanes, run_bundle};
use lockstep_primitives::{ChainId, RollupSet};

use crate::Failed;

/// An order of bundles, and what it is worth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Best {
    /// In the numeraire's smallest unit.
    pub(super) value: I256,
    /// Indices of the bundles.
    pub(super) order: Vec<usize>,
}

/// What bundles that were placed leave behind beside states.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Left {
    delivered: BTreeSet<B256>,
    edges: BTreeSet<(ChainId, ChainId)>,
}

/// The state of an open block: what it changed, the room that is left in it, and how many transactions it holds.
type BlockState = (ChainId, B256, [u64; 3], usize);

/// A point of the enumeration. From two that are equal the same can be gained, by whatever orders they were come to.
type Point = (u64, Vec<BlockState>, Left);

/// An enumeration over some bundles.
#[derive(Debug)]
pub(super) struct Enumeration<'a> {
    view: &'a SlotView,
    candidates: &'a [Candidate],
    rollups: &'a RollupSet,
    /// What can still be gained from the points that were come to; `None` when every order is gone through to its end.
    known: Option<BTreeMap<Point, Best>>,
    tried: u64,
}

impl<'a> Enumeration<'a> {
    /// An enumeration that goes through every order of every subset.
    pub(super) const fn plain(view: &'a SlotView, candidates: &'a [Candidate], rollups: &'a RollupSet) -> Self {
        Self { view, candidates, rollups, known: None, tried: 0 }
    }

    /// The same without going on twice from one point: from blocks of the same states with the same room in them, when the same
    /// bundles are left.
    ///
    /// It takes what bundles do to depend on states and not on the places of other bundles' logs. That is so for transactions
    /// and CCTP, which is all that is enumerated here.
    pub(super) fn merging(view: &'a SlotView, candidates: &'a [Candidate], rollups: &'a RollupSet) -> Self {
        Self { known: Some(BTreeMap::new()), ..Self::plain(view, candidates, rollups) }
    }

    /// How many bundles were run so far.
    pub(super) const fn tried(&self) -> u64 {
        self.tried
    }

    /// The best order of the best subset.
    ///
    /// # Errors
    /// When the engine fails, or there are too many bundles.
    pub(super) fn optimum(&mut self) -> Result<Best, Failed> {
        if self.candidates.len() > 63 {
            return Err("more than 63 bundles are not enumerated".into());
        }
        let lanes = open_lanes(self.view, self.rollups)?;
        self.behind(&lanes, 0, &Left::default())
    }

    /// What bundles are worth in this order; `None` when one of them cannot be placed where it stands.
    ///
    /// # Errors
    /// When the engine fails.
    pub(super) fn worth(&mut self, order: &[usize]) -> Result<Option<I256>, Failed> {
        let mut lanes = open_lanes(self.view, self.rollups)?;
        let (mut left, mut value) = (Left::default(), I256::ZERO);
        for index in order {
            let Some((run, then)) = self.place(&mut lanes, *index, &left)? else { return Ok(None) };
            left = then;
            value = value.checked_add(run.value).ok_or("an amount does not fit 256 bits")?;
        }
        Ok(Some(value))
    }

    /// The most that can be gained behind what is placed.
    fn behind(&mut self, lanes: &Lanes, placed: u64, left: &Left) -> Result<Best, Failed> {
        let point = if self.known.is_some() { Some(point(lanes, placed, left)?) } else { None };
        if let Some(best) = point.as_ref().and_then(|point| self.known.as_ref()?.get(point)) {
            return Ok(best.clone());
        }
        let mut best = Best::default();
        for index in (0..self.candidates.len()).filter(|index| placed & (1_u64 << *index) == 0) {
            let mut next = lanes.clone();
            let Some((run, then)) = self.place(&mut next, index, left)? else { continue };
            let rest = self.behind(&next, placed | (1_u64 << index), &then)?;
            let value = run.value.checked_add(rest.value).ok_or("an amount does not fit 256 bits")?;
            if value > best.value {
                best = Best { value, order: [vec![index], rest.order].concat() };
            }
        }
        if let (Some(known), Some(point)) = (&mut self.known, point) {
            known.insert(point, best.clone());
        }
        Ok(best)
    }

    /// Places a bundle; `None` when it cannot stand there, and then the blocks are of no use any more.
    fn place(&mut self, lanes: &mut Lanes, index: usize, left: &Left) -> Result<Option<(BundleRun, Left)>, Failed> {
        let candidate = self.candidates.get(index).ok_or("there is no such bundle")?;
        let attempt = run_bundle(self.view, lanes, &candidate.bundle, &left.delivered)?;
        self.tried += 1;
        let policy = &self.view.policy;
        let least = if attempt.run.relays.is_empty() { I256::ZERO } else { policy.min_relay_value };
        if attempt.blocked.is_some() || attempt.run.value < least {
            return Ok(None);
        }
        let mut then = left.clone();
        then.delivered.extend(&attempt.run.delivered);
        then.edges.extend(&attempt.run.edges);
        Ok((!goes_in_a_circle(&then.edges, &policy.trusted)).then_some((attempt.run, then)))
    }
}

fn point(lanes: &Lanes, placed: u64, left: &Left) -> Result<Point, Failed> {
    let mut states = Vec::with_capacity(lanes.len());
    for (chain, lane) in lanes {
        let block = lane.block();
        let room = [block.gas_left(), block.data(), block.footprint()];
        states.push((*chain, block.state().changes()?.digest(), room, block.executed().len()));
    }
    Ok((placed, states, left.clone()))
}

/// Whether some message goes from one rollup to another while others lead back, unless both are trusted.
fn goes_in_a_circle(edges: &BTreeSet<(ChainId, ChainId)>, trusted: &RollupSet) -> bool {
    let mut reachable = edges.clone();
    loop {
        let mut longer = reachable.clone();
        for (from, middle) in &reachable {
            longer.extend(reachable.iter().filter(|(start, _)| start == middle).map(|(_, to)| (*from, *to)));
        }
        if longer == reachable {
            break;
        }
        reachable = longer;
    }
    edges.iter().any(|(from, to)| reachable.contains(&(*to, *from)) && !(trusted.contains(from) && trusted.contains(to)))
}

#[cfg(test)]
mod tests {
    use lockstep_testkit::{GWEI, World, bundle, calls, candidates, gwei, transfer, user};

    use super::*;

    #[test]
    fn messages_that_come_back_over_a_third_rollup_go_in_a_circle() {
        let edges = BTreeSet::from([(1, 2), (2, 3), (3, 1)]);
        assert!(goes_in_a_circle(&edges, &RollupSet::from([1, 2])));
        assert!(!goes_in_a_circle(&edges, &RollupSet::from([1, 2, 3])));
        assert!(!goes_in_a_circle(&BTreeSet::from([(1, 2), (2, 3), (1, 3)]), &RollupSet::new()));
    }

    #[test]
    fn a_bundle_that_expects_what_another_writes_comes_after_it() {
        let world = World::pair();
        let chain = world.chain(0);
        let call = |sender: usize, data, tip: u64| world.probe(data).sign(chain, user(sender), 0, u128::from(tip) * GWEI);
        let all = candidates([
            // Holds only when somebody else has incremented once.
            bundle().tx(chain, call(0, calls::expect(1, 1), 3)).build(),
            bundle().tx(chain, call(1, calls::increment(1), 1)).build(),
            // Pays more, but spoils what the first expects.
            bundle().tx(chain, call(2, calls::increment(1), 2)).build(),
        ]);
        let rollups = RollupSet::from([chain]);
        let best = Enumeration::plain(&world.view, &all, &rollups).optimum().unwrap();
        // All three land: the first between the two others.
        assert_eq!(best.order.len(), 3);
        assert_eq!(best.order[1], 0);
        let mut again = Enumeration::plain(&world.view, &all, &rollups);
        assert_eq!(again.worth(&best.order).unwrap(), Some(best.value));
        assert_eq!(again.worth(&[0, 1]).unwrap(), None);
    }

    #[test]
    fn going_on_once_from_every_point_finds_the_same_with_less_work() {
        let world = World::pair();
        let rollups = world.rollups();
        let chain = world.chain(0);
        let pay = |sender: usize, amount: u64| transfer(chain, user(sender), 0, user(5).address(), gwei(amount), GWEI);
        let all = candidates((0..5).map(|sender| bundle().tx(chain, pay(sender, 10 + sender as u64)).build()));
        let (mut plain, mut merging) =
            (Enumeration::plain(&world.view, &all, &rollups), Enumeration::merging(&world.view, &all, &rollups));
        let (by_all, by_points) = (plain.optimum().unwrap(), merging.optimum().unwrap());
        assert_eq!(by_all.value, by_points.value);
        assert!(merging.tried() < plain.tried(), "{} and {}", merging.tried(), plain.tried());
        // Every non-empty sequence of five: 5 + 20 + 60 + 120 + 120.
        assert_eq!(plain.tried(), 325);
    }
}

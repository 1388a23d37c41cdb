//! Greedy building: bundles by value for gas, each all-or-nothing over all its rollups.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use alloy_primitives::{B256, I256};
use lockstep_primitives::{ChainId, Place, Reason, Rejection, RollupSet};

use crate::{BuildError, Draft, LaneDraft, Lanes, Placed, Simulated, SlotView, open_lanes, run_bundle, simulate::advance};

/// Builds a draft for a set of rollups from the bundles whose rollups all lie in it.
///
/// The slot's first blocks are filled first. Within a block the bundle of the greatest value for its gas goes first; among
/// equals the one admitted earlier. What another bundle may yet cure (a nonce gap, a missing balance) is tried again after
/// every pass that placed something.
///
/// # Errors
/// When the engine fails.
pub fn build(view: &SlotView, simulated: &[Simulated], rollups: &RollupSet) -> Result<Draft, BuildError> {
    let mut lanes = open_lanes(view, rollups)?;
    let mut waiting: Vec<&Simulated> =
        simulated.iter().filter(|entry| entry.candidate.bundle.rollups().is_subset(rollups)).collect();
    waiting.sort_by(|a, b| order(a, b));
    let mut builder =
        Builder { view, placed: Vec::new(), delivered: BTreeSet::new(), edges: BTreeSet::new(), reasons: BTreeMap::new() };
    loop {
        builder.fill(&mut lanes, &mut waiting)?;
        if !advance(&mut lanes)? {
            break;
        }
    }
    let mut lane_drafts = BTreeMap::new();
    for (chain, lane) in lanes {
        let blocks = lane.finish().map_err(|cause| BuildError::Lane { chain, cause })?;
        lane_drafts.insert(chain, LaneDraft { chain, blocks });
    }
    let value = builder
        .placed
        .iter()
        .try_fold(I256::ZERO, |sum, placed| sum.checked_add(placed.run.value))
        .ok_or(BuildError::Overflow)?;
    let left_out = waiting
        .iter()
        .filter_map(|entry| {
            let hash = entry.candidate.hash;
            builder.reasons.remove(&hash).map(|rejection| (hash, rejection))
        })
        .collect();
    Ok(Draft { slot: view.slot, rollups: rollups.clone(), lanes: lane_drafts, placed: builder.placed, left_out, value })
}

struct Builder<'a> {
    view: &'a SlotView,
    placed: Vec<Placed>,
    delivered: BTreeSet<B256>,
    edges: BTreeSet<(ChainId, ChainId)>,
    reasons: BTreeMap<B256, Rejection>,
}

impl Builder<'_> {
    fn fill(&mut self, lanes: &mut Lanes, waiting: &mut Vec<&Simulated>) -> Result<(), BuildError> {
        for _ in 0..self.view.policy.max_passes {
            let before = self.placed.len();
            let mut rest = Vec::with_capacity(waiting.len());
            for entry in waiting.drain(..) {
                match self.try_place(lanes, entry)? {
                    None => {}
                    Some(rejection) => {
                        self.reasons.insert(entry.candidate.hash, rejection);
                        rest.push(entry);
                    }
                }
            }
            *waiting = rest;
            if self.placed.len() == before || waiting.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Places the bundle, or says why not and leaves no trace of it.
    fn try_place(&mut self, lanes: &mut Lanes, entry: &Simulated) -> Result<Option<Rejection>, BuildError> {
        let bundle = &entry.candidate.bundle;
        let marks: Vec<_> =
            bundle.rollups().into_iter().filter_map(|chain| Some((chain, lanes.get(&chain)?.block().checkpoint()))).collect();
        let attempt = run_bundle(self.view, lanes, bundle, &self.delivered)?;
        let rejection = match attempt.blocked {
            Some(rejection) => Some(rejection),
            None if attempt.run.value < I256::ZERO => {
                Some(Rejection::new(Place::BUNDLE, Reason::Unprofitable { value: attempt.run.value }))
            }
            None if self.closes_untrusted_cycle(&attempt.run.edges) => {
                Some(Rejection::new(Place::BUNDLE, Reason::MutualMessages))
            }
            None => None,
        };
        if let Some(rejection) = rejection {
            for (chain, mark) in marks {
                if let Some(lane) = lanes.get_mut(&chain) {
                    lane.block_mut().rollback(mark);
                }
            }
            return Ok(Some(rejection));
        }
        self.reasons.remove(&entry.candidate.hash);
        self.delivered.extend(attempt.run.delivered.iter().copied());
        self.edges.extend(attempt.run.edges.iter().copied());
        self.placed.push(Placed { hash: entry.candidate.hash, bundle: entry.candidate.bundle.clone(), run: attempt.run });
        Ok(None)
    }

    /// Whether messages would go in a circle over a rollup that is not trusted: then no order of preparing them exists.
    fn closes_untrusted_cycle(&self, new: &BTreeSet<(ChainId, ChainId)>) -> bool {
        let edges: BTreeSet<_> = self.edges.union(new).copied().collect();
        edges.iter().any(|(origin, destination)| {
            let circular = reaches(&edges, *destination, *origin);
            let trusted = &self.view.policy.trusted;
            circular && !(trusted.contains(origin) && trusted.contains(destination))
        })
    }
}

fn reaches(edges: &BTreeSet<(ChainId, ChainId)>, from: ChainId, to: ChainId) -> bool {
    let mut seen = BTreeSet::from([from]);
    let mut open = vec![from];
    while let Some(chain) = open.pop() {
        if chain == to {
            return true;
        }
        for (_, next) in edges.range((chain, ChainId::MIN)..=(chain, ChainId::MAX)) {
            if seen.insert(*next) {
                open.push(*next);
            }
        }
    }
    false
}

/// Greatest value for gas first, what is blocked alone counting as nothing; then by admission and hash.
fn order(a: &Simulated, b: &Simulated) -> Ordering {
    let (a_value, a_gas) = density(a);
    let (b_value, b_gas) = density(b);
    // a/ga > b/gb without dividing; the products of real values are far below 2^255, and saturate above.
    b_value
        .saturating_mul(a_gas)
        .cmp(&a_value.saturating_mul(b_gas))
        .then_with(|| a.candidate.sequence.cmp(&b.candidate.sequence))
        .then_with(|| a.candidate.hash.cmp(&b.candidate.hash))
}

fn density(entry: &Simulated) -> (I256, I256) {
    if entry.attempt.blocked.is_some() {
        return (I256::ZERO, I256::ONE);
    }
    let gas: u64 = entry.attempt.run.gas.values().fold(0_u64, |sum, gas| sum.saturating_add(*gas));
    (entry.attempt.run.value, I256::try_from(gas.max(1)).unwrap_or(I256::MAX))
}

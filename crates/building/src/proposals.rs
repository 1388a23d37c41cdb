//! A draft for every set of rollups worth having.

use std::collections::BTreeSet;

use lockstep_primitives::{Reason, Rejection, RollupSet, Validity};
use rayon::prelude::*;

use crate::{BuildError, Draft, Simulated, SlotView, build};

/// The most sets that are built for in one slot: all sets of six rollups.
pub const MAX_SETS: usize = 63;

/// The sets worth bidding for: each rollup alone, and every union of rollups that pending bundles hold together. A set that
/// falls apart into others is worth no more than they are, and bids for disjoint sets can both win.
///
/// At most [`MAX_SETS`]: single rollups first, then smaller sets before larger ones, but always the largest.
pub fn useful_sets(view: &SlotView, simulated: &[Simulated]) -> Vec<RollupSet> {
    useful_sets_of(view, simulated.iter())
}

/// The same, of whatever holds results.
pub(crate) fn useful_sets_of<'a>(view: &SlotView, simulated: impl Iterator<Item = &'a Simulated>) -> Vec<RollupSet> {
    let mut sets: BTreeSet<RollupSet> = view.rollups.keys().map(|chain| RollupSet::from([*chain])).collect();
    let spans: BTreeSet<RollupSet> = simulated
        .filter(|entry| match &entry.attempt.blocked {
            None => true,
            Some(rejection) => rejection.reason.validity() == Validity::Later,
        })
        .map(span)
        .filter(|rollups| rollups.len() > 1 && rollups.iter().all(|chain| view.rollups.contains_key(chain)))
        .collect();
    let mut grown: Vec<RollupSet> = spans.iter().cloned().collect();
    while let Some(set) = grown.pop() {
        if sets.len() >= MAX_SETS * 4 || !sets.insert(set.clone()) {
            continue;
        }
        for span in spans.iter().filter(|span| !span.is_disjoint(&set) && !span.is_subset(&set)) {
            grown.push(set.union(span).copied().collect());
        }
    }
    let mut ordered: Vec<RollupSet> = sets.into_iter().collect();
    ordered.sort_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    if ordered.len() > MAX_SETS {
        let largest = ordered.pop();
        ordered.truncate(MAX_SETS - 1);
        ordered.extend(largest);
    }
    ordered
}

/// The rollups that a bundle needs: its own, and the one on whose block of this slot a transaction of it waits.
fn span(entry: &Simulated) -> RollupSet {
    let mut rollups = entry.candidate.bundle.rollups();
    if let Some(Rejection { reason: Reason::UncertainMessage { origin: Some(origin), .. }, .. }) = &entry.attempt.blocked {
        rollups.insert(*origin);
    }
    rollups
}

/// Builds a draft for every useful set, in parallel. In the order of [`useful_sets`].
///
/// # Errors
/// When the engine fails.
pub fn proposals(view: &SlotView, simulated: &[Simulated]) -> Result<Vec<Draft>, BuildError> {
    useful_sets(view, simulated)
        .par_iter()
        .map(|rollups| build(view, simulated, rollups))
        .collect::<Vec<Result<Draft, BuildError>>>()
        .into_iter()
        .collect()
}

//! The order in which rollups are prepared.

use std::collections::BTreeMap;

use lockstep_primitives::{ChainId, RollupSet};

/// Messages go both ways between rollups, and not all of them are trusted by the attester.
///
/// Whoever is prepared first would hold evidence from a rollup that has not voted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("messages go round among the rollups {rollups:?}, which needs every one of their sequencers to be trusted")]
pub struct UntrustedCycle {
    /// The rollups among which the messages go round.
    pub rollups: RollupSet,
}

impl UntrustedCycle {
    /// Stable code.
    pub const fn code(&self) -> &'static str {
        "untrusted-cycle"
    }
}

/// The stages in which `rollups` are prepared, each once all of the stage before voted yes.
///
/// A rollup comes after every rollup that sends it a message, directly or over others; `edges` are (origin,
/// destination), those with an end outside of `rollups` have no effect. Rollups that do not wait for each other share a
/// stage, so that preparation takes as many rounds as the longest chain of messages and not one a rollup.
///
/// # Errors
/// When messages go round among rollups of which some are not in `trusted`. When all are, they share a stage.
pub fn prepare_stages(
    rollups: &RollupSet,
    edges: &[(ChainId, ChainId)],
    trusted: &RollupSet,
) -> Result<Vec<RollupSet>, UntrustedCycle> {
    let downstream: BTreeMap<ChainId, RollupSet> =
        rollups.iter().map(|&origin| (origin, reachable(origin, rollups, edges))).collect();
    let reaches = |from: ChainId, to: ChainId| downstream.get(&from).is_some_and(|set| set.contains(&to));

    for &rollup in rollups {
        let mutual: RollupSet =
            rollups.iter().copied().filter(|&other| reaches(rollup, other) && reaches(other, rollup)).collect();
        if mutual.len() > 1 && !mutual.is_subset(trusted) {
            return Err(UntrustedCycle { rollups: mutual });
        }
    }

    let mut stages = Vec::new();
    let mut waiting = rollups.clone();
    while !waiting.is_empty() {
        // Never empty: between groups of mutually reachable rollups there is no way back.
        let stage: RollupSet = waiting
            .iter()
            .copied()
            .filter(|&rollup| waiting.iter().all(|&origin| !reaches(origin, rollup) || reaches(rollup, origin)))
            .collect();
        waiting.retain(|rollup| !stage.contains(rollup));
        stages.push(stage);
    }
    Ok(stages)
}

/// The rollups that messages from `origin` lead to; itself only when they come back.
fn reachable(origin: ChainId, rollups: &RollupSet, edges: &[(ChainId, ChainId)]) -> RollupSet {
    let mut reached = RollupSet::new();
    let mut open = vec![origin];
    while let Some(from) = open.pop() {
        for &(_, to) in edges.iter().filter(|edge| edge.0 == from) {
            if rollups.contains(&to) && reached.insert(to) {
                open.push(to);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(rollups: &[ChainId]) -> RollupSet {
        rollups.iter().copied().collect()
    }

    #[test]
    fn destinations_come_after_their_origins_and_the_rest_runs_together() {
        let stages = prepare_stages(&set(&[1, 2, 3, 4]), &[(3, 1), (1, 2), (3, 2), (9, 3)], &set(&[]));
        assert_eq!(stages, Ok(vec![set(&[3, 4]), set(&[1]), set(&[2])]));
        assert_eq!(prepare_stages(&set(&[1, 2]), &[], &set(&[])), Ok(vec![set(&[1, 2])]));
        assert_eq!(prepare_stages(&set(&[]), &[], &set(&[])), Ok(vec![]));
    }

    #[test]
    fn a_cycle_needs_trust_in_all_of_it() {
        let edges = [(1, 2), (2, 3), (3, 1), (3, 4)];
        let all = set(&[1, 2, 3, 4]);
        assert_eq!(prepare_stages(&all, &edges, &set(&[1, 2])), Err(UntrustedCycle { rollups: set(&[1, 2, 3]) }));
        assert_eq!(prepare_stages(&all, &edges, &set(&[1, 2, 3])), Ok(vec![set(&[1, 2, 3]), set(&[4])]));
        assert_eq!(prepare_stages(&set(&[1]), &[(1, 1)], &set(&[])), Ok(vec![set(&[1])]));
    }
}

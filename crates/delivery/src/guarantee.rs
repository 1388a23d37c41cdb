//! How far the promise about a bundle reaches.

use lockstep_primitives::{ChainId, Guarantee, RollupSet};

/// How far a bundle has come on its way to the sequencers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeliveryStage {
    /// It ran on a pending state.
    Simulated,
    /// It is in a proposal, all or nothing.
    Proposed,
    /// The sequencer of every rollup of the bundle executed the list and voted yes.
    Voted,
    /// The record says commit.
    Committed,
}

/// The level that may be shown for a bundle on `rollups`.
///
/// `holds` tells a rollup's terms, `durable_record` whether the record survives a crash and is the same for all of them.
/// Without either, a commit is no more than the votes before it.
pub fn level(rollups: &RollupSet, stage: DeliveryStage, holds: impl Fn(ChainId) -> bool, durable_record: bool) -> Guarantee {
    match stage {
        DeliveryStage::Simulated => Guarantee::G0,
        DeliveryStage::Proposed => Guarantee::G1,
        DeliveryStage::Committed if durable_record && !rollups.is_empty() && rollups.iter().all(|&rollup| holds(rollup)) => {
            Guarantee::G3
        }
        DeliveryStage::Voted | DeliveryStage::Committed => Guarantee::G2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g3_needs_a_commit_a_durable_record_and_every_rollup_to_hold() {
        let rollups: RollupSet = [1, 2].into();
        assert_eq!(level(&rollups, DeliveryStage::Simulated, |_| true, true), Guarantee::G0);
        assert_eq!(level(&rollups, DeliveryStage::Proposed, |_| true, true), Guarantee::G1);
        assert_eq!(level(&rollups, DeliveryStage::Voted, |_| true, true), Guarantee::G2);
        assert_eq!(level(&rollups, DeliveryStage::Committed, |_| true, true), Guarantee::G3);
        assert_eq!(level(&rollups, DeliveryStage::Committed, |_| true, false), Guarantee::G2);
        assert_eq!(level(&rollups, DeliveryStage::Committed, |rollup| rollup == 1, true), Guarantee::G2);
    }
}

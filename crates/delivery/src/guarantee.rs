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
/// `holds` tells a rollup's terms, `carries` the highest level that the delivery of its lists can keep, `durable_record` whether
/// the record survives a crash and is the same for all of them. Without `holds` or the record, a commit is no more than the
/// votes before it; and nothing is more than the weakest delivery of all rollups carries.
pub fn level(
    rollups: &RollupSet,
    stage: DeliveryStage,
    holds: impl Fn(ChainId) -> bool,
    carries: impl Fn(ChainId) -> Guarantee,
    durable_record: bool,
) -> Guarantee {
    let reached = match stage {
        DeliveryStage::Simulated => Guarantee::G0,
        DeliveryStage::Proposed => Guarantee::G1,
        DeliveryStage::Committed if durable_record && !rollups.is_empty() && rollups.iter().all(|&rollup| holds(rollup)) => {
            Guarantee::G3
        }
        DeliveryStage::Voted | DeliveryStage::Committed => Guarantee::G2,
    };
    rollups.iter().map(|&rollup| carries(rollup)).fold(reached, Guarantee::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything(_: ChainId) -> Guarantee {
        Guarantee::G3
    }

    #[test]
    fn g3_needs_a_commit_a_durable_record_and_every_rollup_to_hold() {
        let rollups: RollupSet = [1, 2].into();
        assert_eq!(level(&rollups, DeliveryStage::Simulated, |_| true, everything, true), Guarantee::G0);
        assert_eq!(level(&rollups, DeliveryStage::Proposed, |_| true, everything, true), Guarantee::G1);
        assert_eq!(level(&rollups, DeliveryStage::Voted, |_| true, everything, true), Guarantee::G2);
        assert_eq!(level(&rollups, DeliveryStage::Committed, |_| true, everything, true), Guarantee::G3);
        assert_eq!(level(&rollups, DeliveryStage::Committed, |_| true, everything, false), Guarantee::G2);
        assert_eq!(level(&rollups, DeliveryStage::Committed, |rollup| rollup == 1, everything, true), Guarantee::G2);
    }

    #[test]
    fn no_level_is_higher_than_the_weakest_delivery_carries() {
        let rollups: RollupSet = [1, 2].into();
        for weakest in Guarantee::ALL {
            let carries = |rollup| if rollup == 2 { weakest } else { Guarantee::G3 };
            for stage in [DeliveryStage::Simulated, DeliveryStage::Proposed, DeliveryStage::Voted, DeliveryStage::Committed] {
                let uncapped = level(&rollups, stage, |_| true, everything, true);
                assert_eq!(level(&rollups, stage, |_| true, carries, true), uncapped.min(weakest), "{stage:?} over {weakest}");
            }
            let alone = RollupSet::from([1]);
            assert_eq!(
                level(&alone, DeliveryStage::Committed, |_| true, carries, true),
                Guarantee::G3,
                "of others nothing counts"
            );
        }
    }
}

//! The report of a slot.

use alloy_primitives::{B256, I256, U64};
use lockstep_primitives::{Allocation, BundleState, SlotNumber};
use lockstep_rpc::{
    api::MarketApiClient,
    wire::{AllocationWire, ReportBlock, ReportBundle, ReportRollup, SignedDecimal, SlotReport, SlotTiming},
};

use super::BuilderRole;

impl BuilderRole {
    /// The bundles that had a part in a slot: those whose history names it.
    pub(super) fn considered(&self, slot: SlotNumber) -> Vec<B256> {
        self.intake.tracker().of_slot(slot)
    }

    pub(super) async fn slot_report(
        &self,
        slot: SlotNumber,
        allocation: Option<&Allocation>,
        considered: Vec<B256>,
        value: I256,
        timing: Option<SlotTiming>,
    ) -> SlotReport {
        let clock = self.timings().clock;
        let (start, end) = (clock.start_ms(slot), clock.end_ms(slot));
        let mut rollups = Vec::new();
        for (chain, served) in self.intake.rollups() {
            let blocks = served.node.blocks_between(start.div_ceil(1000), end.div_ceil(1000)).await.unwrap_or_else(|error| {
                tracing::warn!(chain, slot, %error, "the slot's blocks cannot be read");
                Vec::new()
            });
            let blocks = blocks
                .into_iter()
                .map(|block| ReportBlock {
                    number: U64::from(block.number),
                    hash: block.hash,
                    timestamp: block.timestamp,
                    transactions: block.transactions,
                })
                .collect();
            rollups.push(ReportRollup { chain_id: U64::from(*chain), blocks });
        }
        let bids = match self.market.get_market_slot(Some(slot)).await {
            Ok(market) => market.bids,
            Err(error) => {
                tracing::warn!(slot, %error, "the bids of the slot cannot be read");
                Vec::new()
            }
        };
        let allocation =
            allocation.map(|allocation| AllocationWire::new(allocation, Default::default()).grants).unwrap_or_default();
        let bundles = considered.into_iter().filter_map(|hash| self.reported(hash)).collect();
        SlotReport { slot, start, end, rollups, bundles, bids, allocation, value: SignedDecimal(value), timing }
    }

    fn reported(&self, hash: B256) -> Option<ReportBundle> {
        let (state, level, status) = self.intake.tracker().own(hash)?;
        // Whoever reads a report wants three answers; the exact state is told by lockstep_getBundle.
        let name = match state {
            BundleState::Landed => "landed",
            BundleState::Rejected | BundleState::Dropped | BundleState::Expired => "dropped",
            BundleState::Received | BundleState::Simulated | BundleState::Pending | BundleState::Reorged => "pending",
            other => other.as_str(),
        };
        let reason = (state != BundleState::Landed).then(|| {
            let blocked = status.blocked.as_ref().map(|blocked| blocked.reason.clone());
            blocked.or_else(|| status.history.last().and_then(|event| event.reason.clone()))
        });
        Some(ReportBundle {
            hash,
            kind: self.intake.kind(hash, status.rollups.len(), status.legs.len()),
            rollups: status.rollups,
            state: name.to_owned(),
            reason: reason.flatten(),
            level: level.to_string(),
        })
    }
}

//! L1: whose turn it is to propose, asked of a beacon node.

use std::{sync::Arc, time::Duration};

use lockstep_market::L1Terms;
use lockstep_provider::BeaconClient;

use super::MarketRole;
use crate::{
    clock::{now_ms, sleep_until},
    process::L1Plan,
};

/// L1 slots of an epoch.
const EPOCH_SLOTS: u64 = 32;
/// How long a beacon node may take.
const PATIENCE: Duration = Duration::from_secs(5);

impl MarketRole {
    /// Follows whose turn it is on L1, for ever.
    pub(crate) async fn run_l1(self: Arc<Self>, plan: L1Plan) {
        let beacon = match BeaconClient::new(&plan.beacon, PATIENCE) {
            Ok(beacon) => beacon,
            Err(error) => return tracing::error!(%error, "L1 takes no part"),
        };
        let L1Terms { genesis_s, slot_s, .. } = plan.terms;
        loop {
            let slot = (now_ms() / 1_000).saturating_sub(genesis_s) / slot_s.max(1);
            for epoch in [slot / EPOCH_SLOTS, slot / EPOCH_SLOTS + 1] {
                match beacon.proposers(epoch).await {
                    Ok(duties) => {
                        let mut inner = self.inner.lock();
                        for duty in duties {
                            let Some(proposer) = plan.proposers.get(&duty.validator) else { continue };
                            match inner.market.learn_l1(duty.slot, *proposer) {
                                Ok(None) => {}
                                Ok(Some(before)) => {
                                    tracing::info!(l1_slot = duty.slot, %before, %proposer, "another L1 proposer")
                                }
                                Err(error) => tracing::debug!(l1_slot = duty.slot, %error, "a duty is not noted"),
                            }
                        }
                    }
                    Err(error) => tracing::warn!(epoch, %error, "it is not known who proposes on L1"),
                }
            }
            sleep_until(now_ms() + slot_s.max(1) * 1_000).await;
        }
    }
}

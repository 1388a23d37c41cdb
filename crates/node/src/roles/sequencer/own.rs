//! The list of a sequencer that nobody prepared anything for: the public transactions that it sees, and its inclusion list.

use std::sync::Arc;

use alloy_primitives::U256;
use lockstep_building::{Candidate, Policy, RollupView, SlotView, build, simulate_all};
use lockstep_messaging::Deployments;
use lockstep_primitives::{BlockList, ListBlock, RollupSet, SlotNumber};
use lockstep_provider::NodeError;
use lockstep_simulation::SlotRollup;

use super::SequencerRole;

/// All of the fees are the sequencer's own, in basis points.
const WHOLE_SHARE_BPS: u64 = 10_000;

impl SequencerRole {
    /// Builds the list that the rollup publishes without a proposer. It keeps the rules that proposers are judged by. When it is
    /// `bare` there is nothing in it but what is forced. With it comes what it earns, in the numeraire's smallest unit.
    pub(super) async fn own_list(&self, slot: SlotNumber, bare: bool) -> Result<(Arc<SlotRollup>, BlockList, U256), NodeError> {
        let rollup = self.slot_rollup(slot, self.settings.key.address()).await?;
        if bare {
            let list = empty_list(&rollup);
            return Ok((rollup, list, U256::ZERO));
        }
        let (list, value) = match self.build_own(slot, &rollup).await {
            Ok(built) => built,
            Err(error) => {
                tracing::warn!(chain = self.chain(), slot, %error, "the default list is empty");
                (empty_list(&rollup), U256::ZERO)
            }
        };
        Ok((rollup, list, value))
    }

    async fn build_own(&self, slot: SlotNumber, rollup: &Arc<SlotRollup>) -> Result<(BlockList, U256), String> {
        let inclusion = self.rules(slot, rollup).await?.inclusion.clone();
        let public = self.public();
        let candidates: Vec<Candidate> = public.iter().filter(|seen| seen.free).map(|seen| seen.candidate.clone()).collect();
        if candidates.is_empty() && inclusion.is_empty() {
            return Ok((empty_list(rollup), U256::ZERO));
        }
        // What came in since the rules were fixed has a place by its arrival too: after all that they know.
        let arrivals = public.iter().map(|seen| (seen.tx.hash(), seen.arrival_ms)).collect();
        let view = RollupView {
            ordering: self.settings.registration.ordering,
            arrivals,
            inclusion,
            ..RollupView::free(Arc::clone(rollup), self.settings.price, WHOLE_SHARE_BPS)
        };
        let chain = rollup.chain;
        let proposer = self.settings.key.address();
        // A lone sequencer is certain of no other rollup's messages, so it lets none be executed.
        let policy = Policy { protocols: Deployments::default().protocols(), ..Policy::default() };
        let view = SlotView { slot, rollups: [(chain, view)].into(), proposer, policy, facts: Arc::default() };
        let draft = self
            .with_state(rollup, move |_| {
                let simulated = simulate_all(&view, &candidates)?;
                build(&view, &simulated, &RollupSet::from([chain]))
            })
            .await?;
        let blocks = draft.lanes.get(&chain).map(|lane| &lane.blocks).into_iter().flatten();
        let blocks = blocks
            .map(|block| ListBlock {
                number: block.block.context().number,
                timestamp: block.block.context().timestamp,
                transactions: block.listed().iter().map(|executed| executed.tx.raw().clone()).collect(),
            })
            .collect();
        // A list that costs more than it brings need not be built: it earns nothing.
        let value = U256::try_from(draft.value).unwrap_or_default();
        Ok((BlockList { chain, blocks }, value))
    }
}

/// A list with nothing after the forced prefix.
fn empty_list(rollup: &SlotRollup) -> BlockList {
    let blocks = (rollup.parent.number + 1..)
        .zip(&rollup.blocks)
        .map(|(number, plan)| ListBlock { number, timestamp: plan.next.timestamp, transactions: Vec::new() })
        .collect();
    BlockList { chain: rollup.chain, blocks }
}

//! A builder that may propose takes the proposal of another one, when that is worth more to it than its own.

use std::collections::BTreeMap;

use alloy_primitives::{Address, Bytes, I256, U64, U256};
use lockstep_delivery::PreparedList;
use lockstep_market::MAX_CALLS_OF_HOLDER;
use lockstep_primitives::{ChainId, ProposalCall, RollupSet};
use lockstep_rpc::{
    api::MarketApiClient,
    wire::{ProposalCallWire, ProposalParams},
};

use super::{BuilderRole, Built, POLL_MS};
use crate::clock::{now_ms, sleep_until};

/// The lists of another builder that are proposed.
#[derive(Clone, Debug, Default)]
pub(super) struct Bought {
    /// Whose they are.
    pub(super) builder: Address,
    /// With and without what depends on other rollups.
    pub(super) lists: BTreeMap<ChainId, (PreparedList, PreparedList)>,
}

impl BuilderRole {
    /// Asks others for proposals for whatever this builder may get to propose: for what it holds, and with that for each set of
    /// rollups that it bids for.
    pub(super) async fn ask_for_proposals(&self, built: &Built) {
        if !self.settings.proposals.takes {
            return;
        }
        for call in calls(built, &built.market.held_by(self.address())) {
            let signature = self.sign_call(&call);
            if let Err(error) = self.market.call_proposals(ProposalCallWire::new(&call, signature)).await {
                tracing::debug!(slot = call.slot, rollups = ?call.rollups, %error, "nobody is asked for proposals");
                return;
            }
        }
    }

    /// The lists that others offer for what was won, if they are worth more than its own and come in time.
    pub(super) async fn bought(&self, built: &Built, rollups: &RollupSet) -> Option<Bought> {
        let held = built.market.held_by(self.address());
        let call = calls(built, &held).into_iter().find(|call| call.rollups == *rollups);
        let call = call.filter(|_| self.settings.proposals.takes)?;
        let params = ProposalParams {
            slot: call.slot,
            holder: self.address(),
            rollups: rollups.iter().map(|chain| U64::from(*chain)).collect(),
            signature: Some(self.sign_call(&call)),
        };
        // What is revealed in the last moment is still to be heard of: who proposes something else owes for that.
        let until_ms = built.market.close_ms.saturating_add(self.settings.timings.longest_reveal_ms() + 2 * POLL_MS);
        loop {
            let view = match self.market.get_proposal(params.clone()).await {
                Ok(view) => view,
                Err(error) => {
                    tracing::debug!(slot = call.slot, %error, "no proposals for what was won");
                    return None;
                }
            };
            match (view.state.as_str(), view.builder, view.lists) {
                ("own", ..) => return None,
                ("taken", Some(builder), Some(lists)) => {
                    metrics::counter!("lockstep_proposals_bought_total").increment(1);
                    let pair =
                        |lists: lockstep_rpc::wire::ProposedListsWire| (lists.with_cross.into(), lists.without_cross.into());
                    let lists = lists.into_iter().map(|(chain, lists)| (chain.to(), pair(lists))).collect();
                    return Some(Bought { builder, lists });
                }
                _ if now_ms() + POLL_MS > until_ms => {
                    tracing::debug!(slot = call.slot, state = view.state, "no proposal came in time: its own is proposed");
                    return None;
                }
                _ => sleep_until(now_ms() + POLL_MS).await,
            }
        }
    }

    fn sign_call(&self, call: &ProposalCall) -> Bytes {
        self.settings.key.sign_bytes(call.digest())
    }
}

/// What is asked for: the sets of most value first.
fn calls(built: &Built, held: &RollupSet) -> Vec<ProposalCall> {
    let market = &built.market;
    let mut worth: BTreeMap<RollupSet, U256> = BTreeMap::new();
    if !held.is_empty() {
        worth.insert(held.clone(), U256::ZERO);
    }
    for (rollups, standing) in &built.standings {
        let for_sale = |chain: &ChainId| market.on_sale.iter().any(|sale| sale.chain_id.to::<ChainId>() == *chain);
        if standing.value > I256::ZERO && held.is_subset(rollups) && rollups.difference(held).all(for_sale) {
            worth.insert(rollups.clone(), standing.value.into_raw());
        }
    }
    let mut worth: Vec<(RollupSet, U256)> = worth.into_iter().collect();
    worth.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    worth.truncate(MAX_CALLS_OF_HOLDER);
    worth.into_iter().map(|(rollups, own_value)| ProposalCall { slot: market.slot, rollups, own_value }).collect()
}

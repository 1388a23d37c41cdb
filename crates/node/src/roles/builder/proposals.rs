//! Proposals to others: a builder that may not propose somewhere offers its lists to who may, without showing them.

use std::{collections::BTreeMap, sync::Arc};

use alloy_primitives::{B256, U64, U256, keccak256};
use lockstep_building::{Draft, SealedList, Standing};
use lockstep_delivery::{DecisionKey, attempt_number};
use lockstep_market::Valued;
use lockstep_primitives::{Allocation, BlindedProposal, ChainId, RollupSet, SlotNumber};
use lockstep_rpc::{
    api::{DecisionApiClient, MarketApiClient},
    wire::{BlindedProposalWire, CallView, MarketSlot, ProposalParams, ProposalRevealWire, ProposedListsWire},
};

use super::{
    BuilderRole, Built, POLL_MS,
    confirm::Watched,
    deliver::{Delivered, prepared},
};
use crate::clock::{now_ms, sleep_until};

/// What is offered: lists with and without what depends on other rollups.
struct SealedProposal {
    draft: Draft,
    without: BTreeMap<ChainId, Draft>,
    sealed: BTreeMap<ChainId, SealedList>,
    without_sealed: BTreeMap<ChainId, SealedList>,
}

impl SealedProposal {
    /// The bundles in it.
    fn hashes(&self) -> Vec<B256> {
        let placed = self.draft.placed.iter().chain(self.without.values().flat_map(|draft| &draft.placed));
        placed.map(|placed| placed.hash).collect()
    }

    /// What is revealed of it.
    fn wire(&self) -> BTreeMap<U64, ProposedListsWire> {
        let pair = |with: &SealedList, without: &SealedList| ProposedListsWire {
            with_cross: (&prepared(with)).into(),
            without_cross: (&prepared(without)).into(),
        };
        let lists = self.sealed.iter().filter_map(|(chain, with)| Some((chain, pair(with, self.without_sealed.get(chain)?))));
        lists.map(|(chain, lists)| (U64::from(*chain), lists)).collect()
    }
}

impl BuilderRole {
    /// Offers its lists for a right of somebody else's that this builder has the most to offer for, and reveals them if they are
    /// selected.
    pub(super) async fn offer_proposal(self: &Arc<Self>, built: &Built, allocation: &Allocation, won: &RollupSet) {
        if !self.settings.proposals.offers {
            return;
        }
        let slot = built.view.slot;
        let calls = match self.market.get_calls(slot).await {
            Ok(calls) => calls,
            Err(error) => return tracing::debug!(slot, %error, "the market does not tell who asks for proposals"),
        };
        let Some((call, value)) = self.best_call(built, won, calls) else { return };
        let rollups: RollupSet = call.rollups.iter().map(|chain| chain.to()).collect();
        let sealed = match self.sealed_proposal(built, &rollups).await {
            Ok(sealed) => sealed,
            Err(error) => return tracing::debug!(slot, ?rollups, %error, "no proposal is offered"),
        };
        let (salt, lists) = (self.salt(slot), sealed.wire());
        let reveal = ProposalRevealWire { slot, holder: call.holder, builder: self.address(), salt, lists };
        let commitment = reveal.reveal().commitment();
        let proposal = BlindedProposal { slot, rollups, holder: call.holder, value, commitment, nonce: now_ms() };
        let wire = BlindedProposalWire::new(&proposal, self.settings.key.sign_bytes(proposal.digest()));
        let revealed = match self.market.submit_proposal(wire).await {
            Ok(_) => self.reveal(&proposal, reveal, built.market.decide_ms).await,
            Err(error) => {
                tracing::debug!(slot, %value, %error, "the proposal was refused");
                false
            }
        };
        metrics::counter!("lockstep_proposals_offered_total", "result" => if revealed { "revealed" } else { "not_taken" })
            .increment(1);
        if !revealed {
            return self.thaw(sealed.hashes(), slot, "the proposal was not taken");
        }
        self.note_proposed(&sealed.draft, &built.deliveries, slot);
        let parents = built.view.rollups.iter().map(|(chain, rollup)| (*chain, rollup.slot.parent.hash)).collect();
        let attempt = attempt_number(allocation, call.holder, 0).unwrap_or_default();
        tokio::spawn(Arc::clone(self).follow(built.market.clone(), DecisionKey { slot, attempt }, sealed, parents));
    }

    /// Watches what was revealed: the holder of the right has it published, or does not.
    async fn follow(
        self: Arc<Self>,
        market: MarketSlot,
        key: DecisionKey,
        sealed: SealedProposal,
        parents: BTreeMap<ChainId, B256>,
    ) {
        while now_ms() < market.end_ms {
            match self.market.get_decision(key.slot, key.attempt).await {
                Ok(Some(wire)) => {
                    let SealedProposal { draft, without, sealed, without_sealed } = sealed;
                    let decision = wire.decision();
                    let delivered = Delivered { draft, without, sealed, without_sealed, decision };
                    self.confirm(&market, &Watched { delivered, parents }).await;
                    return;
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(slot = key.slot, %error, "the record of the proposal cannot be read"),
            }
            sleep_until(now_ms() + POLL_MS).await;
        }
        self.thaw(sealed.hashes(), key.slot, "who took the proposal recorded no decision");
    }

    /// The call for which this builder has the most to offer beyond what is asked, and what it offers.
    fn best_call(&self, built: &Built, won: &RollupSet, calls: Vec<CallView>) -> Option<(CallView, U256)> {
        let worth = |call: &CallView| {
            let rollups: RollupSet = call.rollups.iter().map(|chain| chain.to()).collect();
            let (_, Standing { value, bundles, .. }) = *built.standings.iter().find(|(known, _)| *known == rollups).as_ref()?;
            if *bundles == 0 || !value.is_positive() || call.holder == self.address() || !won.is_disjoint(&rollups) {
                return None;
            }
            let package = Valued { rollups, value: value.into_raw(), reserve: call.own_value.0 };
            let offered = self.bidding.lock().bid(built.view.slot, now_ms(), &[package]);
            offered.into_iter().flatten().find(|offered| *offered > call.own_value.0)
        };
        let offers = calls.into_iter().filter_map(|call| {
            let offered = worth(&call)?;
            Some((call, offered))
        });
        offers.max_by_key(|(call, offered)| (offered.saturating_sub(call.own_value.0), call.rollups.clone()))
    }

    /// Lists for these rollups, sealed. The bundles in them are frozen.
    async fn sealed_proposal(&self, built: &Built, rollups: &RollupSet) -> Result<SealedProposal, String> {
        let (draft, without) = self.frozen_drafts(built, rollups).await?;
        let mut proposal = SealedProposal {
            draft: Draft::clone(&draft),
            without: without.iter().map(|(chain, draft)| (*chain, Draft::clone(draft))).collect(),
            sealed: BTreeMap::new(),
            without_sealed: BTreeMap::new(),
        };
        for (chain, single) in without {
            let sealed = match self.evidence_for(&draft, chain, &RollupSet::new()).await {
                Ok(evidence) => self.seal_pair(&built.view, &draft, single, chain, evidence).await.map_err(|error| error.reason),
                Err(reason) => Err(reason),
            };
            match sealed {
                Ok((with, without)) => {
                    proposal.sealed.insert(chain, with);
                    proposal.without_sealed.insert(chain, without);
                }
                Err(reason) => {
                    self.thaw(proposal.hashes(), built.view.slot, "the proposal could not be sealed");
                    return Err(reason);
                }
            }
        }
        Ok(proposal)
    }

    /// Reveals when it is this builder's turn. Whether it came to that.
    async fn reveal(&self, proposal: &BlindedProposal, reveal: ProposalRevealWire, until_ms: u64) -> bool {
        let BlindedProposal { slot, holder, ref rollups, .. } = *proposal;
        let rollups = rollups.iter().map(|chain| U64::from(*chain)).collect();
        let params = ProposalParams { slot, holder, rollups, signature: None };
        let own = Some(self.address());
        while now_ms() < until_ms {
            match self.market.get_proposal(params.clone()).await {
                Ok(view) if view.state == "awaited" && view.builder == own => {
                    match self.market.reveal_proposal(reveal.clone()).await {
                        Ok(_) => return true,
                        Err(error) => {
                            tracing::warn!(slot, %error, "the market does not take what it selected");
                            return true;
                        }
                    }
                }
                Ok(view) if ["taken", "own"].contains(&view.state.as_str()) => return view.builder == own,
                Ok(_) => sleep_until(now_ms() + POLL_MS).await,
                Err(error) => {
                    tracing::debug!(slot, %error, "nobody asks for proposals any more");
                    return false;
                }
            }
        }
        false
    }

    /// What blinds a proposal: nobody else can make it, and it is another one each time.
    fn salt(&self, slot: SlotNumber) -> B256 {
        let purpose = [b"lockstep salt of a proposal ".as_slice(), &slot.to_be_bytes(), &now_ms().to_be_bytes()].concat();
        keccak256(self.settings.key.sign_bytes(keccak256(purpose)))
    }
}

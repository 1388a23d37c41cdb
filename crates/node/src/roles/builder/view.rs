//! A slot as the builder sees it, and work on states that may have to be fetched.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use alloy_primitives::{B256, Bytes};
use jsonrpsee::core::ClientError;
use lockstep_building::{BuildError, Candidate, RollupView, SlotView};
use lockstep_messaging::Facts;
use lockstep_pool::Entry;
use lockstep_primitives::{Bundle, ChainId, Guarantee, MAX_ARRIVALS, MAX_INCLUSION, Price, RollupSet, SignedTx, SlotNumber};
use lockstep_rpc::{
    api::SequencerApiClient,
    wire::{MarketSlot, Sale, SlotOffer},
};
use lockstep_simulation::{BlockPlan, BlockTx, DataLimits, NextBlock, SlotRollup};

use super::BuilderRole;
use crate::{
    clock::{now_ms, sleep_until},
    intake::Intake,
    roles::client,
};

/// How often work is run again after fetching what it missed.
pub(super) const MAX_ROUNDS: usize = 256;
/// Which part of the time until bidding ends rollups have to answer in, in percent: the rest is for building those that did.
const ANSWER_PERCENT: u64 = 75;
/// How long is waited before a sequencer that is not ready is asked again.
const RETRY_MS: u64 = 20;

/// How a rollup's lists of a slot are delivered, as its sequencer says.
#[derive(Clone, Copy, Debug)]
pub(super) struct DeliveryTerms {
    /// The highest level that it carries.
    pub(super) carries: Guarantee,
    /// When the first block is published, in Unix milliseconds.
    pub(super) publish_ms: u64,
}

impl BuilderRole {
    /// Asks every sequencer on sale for its blocks, and puts its own node's state under them. A rollup that does not answer
    /// in time, or whose node sees another head, is left out: it degrades nobody else. With the view comes how each rollup's
    /// lists are delivered.
    pub(super) async fn slot_view(
        &self,
        slot: SlotNumber,
        market: &MarketSlot,
    ) -> Result<(SlotView, BTreeMap<ChainId, DeliveryTerms>), String> {
        let patience = Duration::from_millis(market.bids_due_ms().saturating_sub(now_ms()) * ANSWER_PERCENT / 100);
        let (own, offers) = (self.address(), self.settings.proposals.offers);
        let asked = market.buildable(own, offers).map(|sale| async move {
            let answer = tokio::time::timeout(patience, self.rollup_view(slot, market, sale)).await;
            answer.unwrap_or_else(|_| Err("its sequencer or its node did not answer in time".to_owned()))
        });
        let (mut rollups, mut deliveries) = (BTreeMap::new(), BTreeMap::new());
        for (sale, answer) in market.buildable(own, offers).zip(futures_util::future::join_all(asked).await) {
            match answer {
                Ok(Some((view, delivery))) => {
                    rollups.insert(sale.chain_id.to::<ChainId>(), view);
                    deliveries.insert(sale.chain_id.to::<ChainId>(), delivery);
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(slot, chain = %sale.chain_id, %error, "the rollup is left out of the slot"),
            }
        }
        if rollups.is_empty() {
            return Err("no rollup of the slot can be built for".to_owned());
        }
        Ok((
            SlotView { slot, rollups, proposer: self.address(), policy: self.settings.policy.clone(), facts: Arc::default() },
            deliveries,
        ))
    }

    async fn rollup_view(
        &self,
        slot: SlotNumber,
        market: &MarketSlot,
        sale: &Sale,
    ) -> Result<Option<(RollupView, DeliveryTerms)>, String> {
        let chain: ChainId = sale.chain_id.to();
        let Some(served) = self.intake.rollups().get(&chain) else { return Ok(None) };
        let sequencer = client(&sale.sequencer_url).map_err(|error| error.to_string())?;
        let offer = loop {
            match sequencer.get_slot_offer(sale.chain_id, slot, self.address()).await {
                Ok(offer) => break offer,
                // Its last block of the slot before is on its way.
                Err(ClientError::Call(error)) if now_ms() + RETRY_MS < market.bids_due_ms() => {
                    tracing::debug!(slot, chain, %error, "the sequencer is asked again");
                    sleep_until(now_ms() + RETRY_MS).await;
                }
                Err(error) => return Err(error.to_string()),
            }
        };
        if offer.blocks.is_empty() {
            return Ok(None);
        }
        let head = served.node.head().await.map_err(|error| error.to_string())?;
        if head.hash != offer.parent_hash {
            return Err(format!("the sequencer builds on {}, our node's head is {}", offer.parent_hash, head.hash));
        }
        let state = served.node.state_at(head.hash).await.map_err(|error| error.to_string())?;
        let ordering = sale.policy().map_err(|error| error.to_string())?;
        if (offer.ordering.as_str(), offer.lane_gas) != (ordering.name(), ordering.lane_gas()) {
            return Err(format!("the rollup sells order {}, its sequencer offers {}", ordering.name(), offer.ordering));
        }
        let delivery = DeliveryTerms { carries: carried(&offer.carries), publish_ms: offer.publish_ms };
        let arrivals = arrivals(&offer)?;
        let inclusion = inclusion(&offer, chain)?;
        if inclusion.len() as u64 > sale.inclusion {
            let (asked, sold) = (inclusion.len(), sale.inclusion);
            return Err(format!("the rollup sells with at most {sold} transactions to include, its sequencer asks for {asked}"));
        }
        let slot = SlotRollup { chain, forks: served.forks.clone(), parent: head, state, blocks: plans(offer)? };
        let price = self.settings.prices.get(&chain).copied().unwrap_or(Price::PAR);
        let fee_share_bps = sale.fee_share_bps;
        Ok(Some((RollupView { slot: Arc::new(slot), price, fee_share_bps, ordering, arrivals, inclusion }, delivery)))
    }

    /// The rest of a view once work on it has failed: without the rollups whose nodes do not answer, or whose heads have moved on.
    ///
    /// # Errors
    /// The failure itself, when no rollup is to blame or none is left.
    pub(super) async fn without_failed(&self, view: &SlotView, cause: String) -> Result<SlotView, String> {
        let asked = view.rollups.iter().map(|(chain, rollup)| async move {
            let served = self.intake.rollups().get(chain)?;
            let head = served.node.head().await;
            let failed = !head.is_ok_and(|head| head.hash == rollup.slot.parent.hash);
            failed.then_some(*chain)
        });
        let failed: Vec<ChainId> = futures_util::future::join_all(asked).await.into_iter().flatten().collect();
        let mut rest = view.clone();
        rest.rollups.retain(|chain, _| !failed.contains(chain));
        if failed.is_empty() || rest.rollups.is_empty() {
            return Err(cause);
        }
        tracing::warn!(slot = view.slot, ?failed, %cause, "rollups are left out of the slot after all");
        Ok(rest)
    }

    /// What is known of messages as of the blocks that the slot builds on.
    pub(super) async fn facts(&self, view: &SlotView, market: &MarketSlot, candidates: &[Candidate]) -> Arc<Facts> {
        let claims = market
            .buildable(self.address(), self.settings.proposals.offers)
            .filter(|sale| sale.same_slot_claims)
            .map(|sale| sale.chain_id.to::<ChainId>());
        let same_slot_claims: RollupSet = claims.collect();
        let bundles: Vec<Arc<Bundle>> = candidates.iter().map(|candidate| Arc::clone(&candidate.bundle)).collect();
        self.messages.wanted(&bundles);
        *self.same_slot_claims.lock() = same_slot_claims.clone();
        self.messages.facts(view, &bundles, &same_slot_claims).await
    }

    /// The pending bundles that are free to be built, in the order of admission, and the pool's revision by which they are that.
    pub(super) fn candidates(&self) -> (u64, Vec<Candidate>) {
        let pool = self.intake.pool().read();
        let free = pool.pending().into_iter().filter(|entry| !entry.frozen);
        let candidate =
            |entry: &Entry| Candidate { hash: entry.hash, bundle: Arc::clone(&entry.bundle), sequence: entry.sequence };
        (pool.revision(), free.map(candidate).collect())
    }
}

/// The level that a sequencer says its delivery carries. What is not known is not believed.
fn carried(level: &str) -> Guarantee {
    Guarantee::ALL.into_iter().find(|known| known.as_str() == level).unwrap_or(Guarantee::G1)
}

/// When the sequencer saw which transaction.
fn arrivals(offer: &SlotOffer) -> Result<BTreeMap<B256, u64>, String> {
    let count = offer.arrivals.len();
    if count > MAX_ARRIVALS {
        return Err(format!("the sequencer tells of {count} arrivals, {MAX_ARRIVALS} are expected at the most"));
    }
    Ok(offer.arrivals.iter().map(|arrival| (arrival.hash, arrival.at_ms)).collect())
}

/// What the sequencer does not let its lists leave out.
fn inclusion(offer: &SlotOffer, chain: ChainId) -> Result<Vec<Arc<SignedTx>>, String> {
    let count = offer.inclusion.len();
    if count > MAX_INCLUSION {
        return Err(format!("the inclusion list has {count} transactions, {MAX_INCLUSION} are expected at the most"));
    }
    let decode = |(index, raw): (usize, &Bytes)| {
        let wrong = |cause: String| format!("transaction {index} of the inclusion list: {cause}");
        let tx = SignedTx::decode(raw.clone()).map_err(|error| wrong(error.to_string()))?;
        match tx.chain_id() {
            Some(signed) if signed == chain => Ok(Arc::new(tx)),
            signed => Err(wrong(format!("it is signed for chain {signed:?}"))),
        }
    };
    offer.inclusion.iter().enumerate().map(decode).collect()
}

fn plans(offer: SlotOffer) -> Result<Vec<BlockPlan>, String> {
    offer
        .blocks
        .into_iter()
        .map(|block| {
            let forced = block
                .forced
                .into_iter()
                .map(|raw: Bytes| BlockTx::decode(raw).map_err(|error| format!("a forced transaction: {error}")))
                .collect::<Result<Vec<_>, _>>()?;
            let next = NextBlock {
                timestamp: block.timestamp,
                gas_limit: block.gas_limit,
                beneficiary: block.beneficiary,
                prev_randao: block.prev_randao,
                parent_beacon_block_root: block.parent_beacon_block_root,
                extra_data: block.extra_data,
                data: DataLimits { tx: block.data_limits.tx, block: block.data_limits.block },
                encrypted_gas: block.encrypted_gas,
            };
            Ok(BlockPlan { next, forced })
        })
        .collect()
}

/// Runs work on a thread that may take its time. What the states do not hold yet is fetched, and the work is run again: no
/// worker thread ever waits for a socket.
pub(crate) async fn blocking_with_state<T, W>(intake: &Intake, view: Arc<SlotView>, work: W) -> Result<T, String>
where
    T: Send + 'static,
    W: Fn(&SlotView) -> Result<T, BuildError> + Send + Sync + 'static,
{
    let work = Arc::new(work);
    for _ in 0..MAX_ROUNDS {
        let (run, on) = (Arc::clone(&work), Arc::clone(&view));
        let result = tokio::task::spawn_blocking(move || run(&on)).await.map_err(|error| error.to_string())?;
        let error = match result {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let Some((chain, _)) = error.missing() else { return Err(error.to_string()) };
        fetch(intake, &view, chain).await?;
    }
    Err(format!("the states were not complete after {MAX_ROUNDS} rounds of fetching"))
}

/// Fetches what the state of a rollup lacks.
pub(super) async fn fetch(intake: &Intake, view: &SlotView, chain: ChainId) -> Result<(), String> {
    let (Some(served), Some(rollup)) = (intake.rollups().get(&chain), view.rollups.get(&chain)) else {
        return Err(format!("rollup {chain} is not served"));
    };
    let block = rollup.slot.parent.hash;
    served.node.fetch_missing(block).await.map(|_| ()).map_err(|error| error.to_string())
}

//! A slot as the builder sees it, and work on states that may have to be fetched.

use std::{collections::BTreeMap, sync::Arc};

use alloy_primitives::Bytes;
use jsonrpsee::core::ClientError;
use lockstep_building::{BuildError, Candidate, RollupView, SlotView};
use lockstep_primitives::{ChainId, Price, SlotNumber};
use lockstep_rpc::{
    api::SequencerApiClient,
    wire::{MarketSlot, Sale, SlotOffer},
};
use lockstep_simulation::{BlockPlan, BlockTx, NextBlock, SlotRollup};

use super::BuilderRole;
use crate::{
    clock::{now_ms, sleep_until},
    intake::Intake,
    roles::client,
};

/// How often work is run again after fetching what it missed.
const MAX_ROUNDS: usize = 256;
/// How long is waited before a sequencer that is not ready is asked again.
const RETRY_MS: u64 = 20;

impl BuilderRole {
    /// Asks every sequencer on sale for its blocks, and puts its own node's state under them. A rollup that does not answer
    /// in time, or whose node sees another head, is left out: it degrades nobody else.
    pub(super) async fn slot_view(&self, slot: SlotNumber, market: &MarketSlot) -> Result<SlotView, String> {
        let asked = market.on_sale.iter().map(|sale| self.rollup_view(slot, market, sale));
        let mut rollups = BTreeMap::new();
        for (sale, answer) in market.on_sale.iter().zip(futures_util::future::join_all(asked).await) {
            match answer {
                Ok(Some(view)) => {
                    rollups.insert(sale.chain_id.to::<ChainId>(), view);
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(slot, chain = %sale.chain_id, %error, "the rollup is left out of the slot"),
            }
        }
        if rollups.is_empty() {
            return Err("no rollup of the slot can be built for".to_owned());
        }
        Ok(SlotView { slot, rollups, proposer: self.address(), policy: self.settings.policy.clone() })
    }

    async fn rollup_view(&self, slot: SlotNumber, market: &MarketSlot, sale: &Sale) -> Result<Option<RollupView>, String> {
        let chain: ChainId = sale.chain_id.to();
        let Some(served) = self.intake.rollups().get(&chain) else { return Ok(None) };
        let sequencer = client(&sale.sequencer_url).map_err(|error| error.to_string())?;
        let offer = loop {
            match sequencer.get_slot_offer(sale.chain_id, slot, self.address()).await {
                Ok(offer) => break offer,
                // Its last block of the slot before is on its way.
                Err(ClientError::Call(error)) if now_ms() + RETRY_MS < market.close_ms => {
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
        let slot = SlotRollup { chain, forks: served.forks.clone(), parent: head, state, blocks: plans(offer)? };
        let price = self.settings.prices.get(&chain).copied().unwrap_or(Price::PAR);
        Ok(Some(RollupView { slot: Arc::new(slot), price, fee_share_bps: sale.fee_share_bps }))
    }

    /// The pending bundles that are free to be built.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        let pool = self.intake.pool().read();
        pool.pending()
            .into_iter()
            .filter(|entry| !entry.frozen)
            .map(|entry| Candidate { hash: entry.hash, bundle: Arc::clone(&entry.bundle), sequence: entry.sequence })
            .collect()
    }
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

async fn fetch(intake: &Intake, view: &SlotView, chain: ChainId) -> Result<(), String> {
    let (Some(served), Some(rollup)) = (intake.rollups().get(&chain), view.rollups.get(&chain)) else {
        return Err(format!("rollup {chain} is not served"));
    };
    let block = rollup.slot.parent.hash;
    served.node.fetch_missing(block).await.map(|_| ()).map_err(|error| error.to_string())
}

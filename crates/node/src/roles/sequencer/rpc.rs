//! `sequencer_*`.

use std::{collections::BTreeMap, sync::Arc};

use alloy_primitives::{Address, B256, Bytes, U64};
use async_trait::async_trait;
use jsonrpsee::{Extensions, core::RpcResult, types::ErrorObjectOwned};
use lockstep_delivery::{DecisionKey, Prepare, SequencerEvent, proposer_of_attempt};
use lockstep_primitives::{ChainId, recover};
use lockstep_rpc::{
    api::{EncryptedApiServer, SequencerApiServer},
    invalid_params, not_found, parse, unauthorized, unavailable,
    wire::{
        ArrivalWire, BlockPlanWire, DataLimitsWire, EncryptedReceiptWire, EncryptedTailView, EncryptedTxParams,
        EncryptedTxStatus, EncryptionView, SignedPrepare, SlotOffer, VoteWire,
    },
};
use serde_json::Value;

use super::SequencerRole;
use crate::{api::signer, clock::now_ms};

/// The sequencers of a process, by rollup.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sequencers(pub(crate) BTreeMap<ChainId, Arc<SequencerRole>>);

impl Sequencers {
    fn of(&self, chain: U64) -> Result<&Arc<SequencerRole>, ErrorObjectOwned> {
        self.0.get(&chain.to()).ok_or_else(|| not_found(format!("this process is not the sequencer of rollup {chain}")))
    }
}

#[async_trait]
impl SequencerApiServer for Sequencers {
    async fn get_slot_offer(&self, chain_id: U64, slot: u64, proposer: Address) -> RpcResult<SlotOffer> {
        let role = self.of(chain_id)?;
        let clock = role.settings.timings.clock;
        if slot > clock.slot_at(now_ms()).map_or(0, |now| now + 1) {
            return Err(not_found(format!("the state before slot {slot} is not there yet")));
        }
        if role.is_behind(slot) {
            return Err(unavailable(
                "not_ready",
                format!("rollup {} has still to publish a block before slot {slot}", role.chain()),
            ));
        }
        // The slot's terms are fixed from here on, and a list is judged by what its proposer was told.
        if now_ms() < role.settings.timings.build_ms(slot) {
            return Err(unavailable("not_ready", format!("the terms of slot {slot} are not fixed yet")));
        }
        let rollup =
            role.slot_rollup(slot, proposer).await.map_err(|error| unavailable("node_unavailable", error.to_string()))?;
        let rules = role.rules(slot, &rollup).await.map_err(|error| unavailable("node_unavailable", error))?;
        let first = rollup.blocks.first().map_or(clock.start_ms(slot), |plan| role.publish_ms(plan.next.timestamp));
        Ok(SlotOffer {
            chain_id,
            slot,
            parent_hash: rollup.parent.hash,
            blocks: rollup
                .blocks
                .iter()
                .map(|plan| BlockPlanWire {
                    timestamp: plan.next.timestamp,
                    gas_limit: plan.next.gas_limit,
                    beneficiary: plan.next.beneficiary,
                    prev_randao: plan.next.prev_randao,
                    parent_beacon_block_root: plan.next.parent_beacon_block_root,
                    extra_data: plan.next.extra_data.clone(),
                    forced: plan.forced.iter().map(|tx| tx.raw().clone()).collect(),
                    data_limits: DataLimitsWire { tx: plan.next.data.tx, block: plan.next.data.block },
                    encrypted_gas: plan.next.encrypted_gas,
                })
                .collect(),
            publish_ms: first,
            carries: role.node.carries().as_str().to_owned(),
            ordering: rules.ordering.name().to_owned(),
            lane_gas: rules.ordering.lane_gas(),
            arrivals: rules.arrivals_by_age().into_iter().map(|(at_ms, hash)| ArrivalWire { hash, at_ms }).collect(),
            inclusion: rules.inclusion.iter().map(|tx| tx.raw().clone()).collect(),
        })
    }

    async fn set_inclusion_list(&self, ext: &Extensions, chain_id: U64, slot: u64, transactions: Vec<Bytes>) -> RpcResult<usize> {
        let role = self.of(chain_id)?;
        let key = role.settings.key.address();
        if signer(ext) != Some(key) {
            let text = format!("only {key}, the sequencer of rollup {}, sets its inclusion lists", role.chain());
            return Err(unauthorized(
                "wrong_sequencer",
                text,
                "sign the request with the sequencer's key: X-Flashbots-Signature",
            ));
        }
        role.set_inclusion_list(slot, transactions)
    }

    async fn prepare(&self, signed: SignedPrepare) -> RpcResult<VoteWire> {
        let prepare = Prepare::from(signed.prepare);
        let role = self.of(U64::from(prepare.chain))?;
        let allocation = role.allocation(prepare.slot).await?;
        let proposer = allocation.proposer_of(prepare.chain);
        let signer = recover(prepare.digest(), &signed.signature).ok();
        if signer.is_none() || signer != proposer || proposer_of_attempt(&allocation, prepare.attempt) != proposer {
            return Err(invalid_params(
                "wrong_proposer",
                "the prepare is not signed by the proposer of this slot and attempt",
                "market_getAllocation tells who proposes",
            ));
        }
        let timestamps =
            role.timestamps(prepare.slot).await.map_err(|error| unavailable("node_unavailable", error.to_string()))?;
        let Some(first) = timestamps.first().copied() else {
            return Err(not_found(format!("slot {} has no block of rollup {}", prepare.slot, prepare.chain)));
        };
        let (role, running) = (Arc::clone(role), role.running(prepare.slot, first));
        let sequencer = Arc::clone(&role);
        // A request ends when whoever asks hangs up. What a prepare sets going is brought to its end all the same.
        let driven = tokio::spawn(async move {
            let mut held = running.lock().await;
            sequencer.drive(&mut held, SequencerEvent::PrepareReceived(Box::new(prepare))).await
        });
        let votes = driven.await.map_err(|error| unavailable("no_vote", error.to_string()))?;
        let vote = votes.first().ok_or_else(|| unavailable("no_vote", "the sequencer gives no vote on this prepare"))?;
        metrics::counter!("lockstep_votes_total", "vote" => if vote.yes { "yes" } else { "no" }).increment(1);
        Ok(VoteWire::new(vote, role.settings.key.sign_bytes(vote.digest())))
    }

    async fn decided(&self, chain_id: U64, slot: u64, attempt: u32) -> RpcResult<bool> {
        let role = self.of(chain_id)?;
        let known = role.slots.lock().get(&slot).cloned();
        let Some(running) = known else { return Ok(false) };
        let SequencerEvent::DecisionRead(Some(decision)) = role.read_decision(DecisionKey { slot, attempt }).await else {
            return Ok(true);
        };
        // The record is read now so that nothing has to be read at t_publish. Publishing is left to the loop that waits for that
        // time: this request ends when whoever asks hangs up.
        let mut held = running.lock().await;
        if held.machine.prepare().is_some_and(|prepare| prepare.key() == decision.key()) {
            held.decision = Some(decision);
        }
        Ok(true)
    }
}

#[async_trait]
impl EncryptedApiServer for Sequencers {
    async fn get_encryption(&self, chain_id: U64) -> RpcResult<Option<EncryptionView>> {
        Ok(self.of(chain_id)?.encryption())
    }

    async fn send_encrypted_transaction(&self, ext: &Extensions, transaction: Value) -> RpcResult<EncryptedReceiptWire> {
        let Some(sender) = signer(ext) else {
            let text = "an encrypted transaction is taken from a signed request only: nothing else tells who sends it";
            return Err(unauthorized("unsigned", text, "sign the request with any key: X-Flashbots-Signature"));
        };
        let params: EncryptedTxParams = parse(transaction)?;
        self.of(params.chain_id)?.take_encrypted(params, sender).await
    }

    async fn get_encrypted_transaction(&self, chain_id: U64, ciphertext: B256) -> RpcResult<Option<EncryptedTxStatus>> {
        Ok(self.of(chain_id)?.encrypted_status(ciphertext))
    }

    async fn get_encrypted_tail(&self, chain_id: U64, slot: u64) -> RpcResult<Option<EncryptedTailView>> {
        Ok(self.of(chain_id)?.encrypted_tail(slot))
    }
}

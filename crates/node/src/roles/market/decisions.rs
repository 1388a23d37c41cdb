//! The decision record: written once for every (slot, attempt).

use jsonrpsee::{
    core::{RpcResult, async_trait},
    types::ErrorObjectOwned,
};
use lockstep_delivery::{Decision, DecisionKey, WriteOutcome, judge_write, proposer_of_attempt};
use lockstep_primitives::{Allocation, recover};
use lockstep_rpc::{api::DecisionApiServer, invalid_params, unavailable, wire::DecisionWire};
use lockstep_store::{PutOutcome, Table};

use super::{MAX_RETRIES, MarketRole, MarketRpc, store_error};
use crate::clock::now_ms;

/// Length of a decision's reason.
const MAX_REASON_BYTES: usize = 1_024;

impl MarketRole {
    /// What the record says.
    pub(super) fn decision(&self, key: DecisionKey) -> RpcResult<Option<DecisionWire>> {
        let stored = self.store.get(Table::Decisions, &decision_key(key)).map_err(|error| store_error(&error))?;
        let read = stored.map(|value| serde_json::from_slice(&value)).transpose();
        read.map_err(|error| unavailable("store", format!("the record cannot be read: {error}")))
    }

    /// Checks who may write a decision.
    fn check_decision(&self, decision: &Decision, signature: &[u8], now: u64) -> Result<(), ErrorObjectOwned> {
        let decide_ms = self.settings.timings.decide_ms(decision.slot);
        let allocation: Option<Allocation> = self.allocation(decision.slot)?.map(|wire| wire.allocation());
        let attempts = allocation.as_ref().map_or(0, |allocation| allocation.grants.len()).saturating_mul(MAX_RETRIES);
        if decision.attempt as usize >= attempts || decision.reason.len() > MAX_REASON_BYTES {
            return Err(invalid_params(
                "no_such_attempt",
                format!("slot {} has no attempt {}, or the reason is too long", decision.slot, decision.attempt),
                "attempts are dealt out among the proposers of an allocated slot",
            ));
        }
        if !decision.must_be_signed(now, decide_ms) {
            return Ok(());
        }
        let proposer = allocation.and_then(|allocation| proposer_of_attempt(&allocation, decision.attempt));
        let signer = recover(decision.digest(), signature).ok();
        if proposer.is_none() || proposer != Some(decision.proposer) || signer != proposer {
            return Err(invalid_params(
                "wrong_proposer",
                "the decision is not signed by the proposer of this slot and attempt",
                "only the allocated proposer decides before t_decide; afterwards anyone may record an abort",
            ));
        }
        Ok(())
    }
}

#[async_trait]
impl DecisionApiServer for MarketRpc {
    async fn record(&self, decision: DecisionWire) -> RpcResult<Option<DecisionWire>> {
        let now = now_ms();
        let new = decision.decision();
        self.check_decision(&new, &decision.signature, now)?;
        let existing = self.get_decision(new.slot, new.attempt).await?;
        let known = existing.as_ref().map(DecisionWire::decision);
        match judge_write(known.as_ref(), &new, now, self.settings.timings.decide_ms(new.slot)) {
            WriteOutcome::AlreadyDecided(_) => return Ok(existing),
            WriteOutcome::TooLate => return Ok(None),
            WriteOutcome::Write => {}
        }
        let value = serde_json::to_vec(&decision).map_err(|error| unavailable("store", error.to_string()))?;
        let written = self
            .store
            .put_if_absent(Table::Decisions, decision_key(new.key()), value)
            .await
            .map_err(|error| unavailable(error.code(), error.to_string()))?;
        match written {
            PutOutcome::Written => {
                let verdict = if decision.commit { "commit" } else { "abort" };
                metrics::counter!("lockstep_decisions_total", "verdict" => verdict).increment(1);
                Ok(Some(decision))
            }
            PutOutcome::Exists(first) => serde_json::from_slice(&first)
                .map(Some)
                .map_err(|error| unavailable("store", format!("the record cannot be read: {error}"))),
        }
    }

    async fn get_decision(&self, slot: u64, attempt: u32) -> RpcResult<Option<DecisionWire>> {
        self.decision(DecisionKey { slot, attempt })
    }
}

pub(super) fn decision_key(key: DecisionKey) -> Vec<u8> {
    [key.slot.to_be_bytes().as_slice(), &key.attempt.to_be_bytes()].concat()
}

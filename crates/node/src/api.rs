//! `lockstep_*`.

use std::sync::Arc;

use alloy_primitives::{Address, B256, U64};
use jsonrpsee::{
    Extensions, PendingSubscriptionSink, SubscriptionMessage,
    core::{RpcResult, SubscriptionResult, async_trait},
    types::ErrorObjectOwned,
};
use lockstep_building::{Attempt, SlotView, revert_message, simulate};
use lockstep_pool::{Kind, check};
use lockstep_primitives::{Asset, Bundle, BundleState, RollupSet, recover, subscription_digest};
use lockstep_rpc::{
    Recovery, Signer,
    api::LockstepApiServer,
    from_rejection, invalid_params, not_found, parse, unavailable,
    wire::{
        BalanceChangeWire, BundleParams, BundleReceiptWire, BundleStatus, CancelParams, Explanation, MessageList, MessageWire,
        SentBundle, SignedDecimal, SimulatedLeg, SimulatedTx, SimulationResult, SlotRollupStatus, SlotStatus, SubscribeParams,
    },
};
use lockstep_simulation::{SlotRollup, TxStatus};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use crate::{
    clock::now_ms,
    receipts::receipt,
    roles::builder::{BuilderRole, blocking_with_state},
    tracker::obstacle,
};

/// How long a signed subscription may be good for.
const SUBSCRIPTION_SECONDS: u64 = 86_400;

/// The builder's face.
#[derive(Clone, Debug)]
pub(crate) struct LockstepRpc {
    pub(crate) builder: Arc<BuilderRole>,
    pub(crate) policy: lockstep_building::Policy,
    /// Recovers the signers of what is sent.
    pub(crate) recovery: Recovery,
}

pub(crate) fn signer(extensions: &Extensions) -> Option<alloy_primitives::Address> {
    extensions.get::<Signer>().map(|signer| signer.0)
}

impl LockstepRpc {
    /// The blocks that would follow every rollup's head now, for a simulation outside of any slot.
    pub(crate) async fn pending_view(&self, rollups: &RollupSet) -> Result<SlotView, String> {
        let intake = self.builder.intake();
        let mut views = std::collections::BTreeMap::new();
        for chain in rollups {
            let served = intake.rollups().get(chain).ok_or_else(|| format!("rollup {chain} is not served"))?;
            let parent = served.node.head().await.map_err(|error| error.to_string())?;
            let timestamp = (parent.timestamp + 1).max(now_ms() / 1000 + 1);
            let blocks =
                served.node.plan(&parent, &[timestamp], self.builder.address()).await.map_err(|error| error.to_string())?;
            let state = served.node.state_at(parent.hash).await.map_err(|error| error.to_string())?;
            let slot = Arc::new(SlotRollup { chain: *chain, forks: served.forks.clone(), parent, state, blocks });
            let (price, fee_share_bps) = self.builder.terms(*chain);
            views.insert(*chain, lockstep_building::RollupView::free(slot, price, fee_share_bps));
        }
        Ok(SlotView {
            slot: 0,
            rollups: views,
            proposer: self.builder.address(),
            policy: self.policy.clone(),
            facts: Arc::default(),
        })
    }

    /// The bundle that a request describes, its signers recovered.
    async fn bundle(&self, params: Value, ext: &Extensions) -> Result<Bundle, ErrorObjectOwned> {
        let (params, signer) = (parse::<BundleParams>(params)?, signer(ext));
        let decoded = self.recovery.run(move || params.into_bundle(signer)).await?;
        decoded.map_err(|rejection| from_rejection(&rejection))
    }

    pub(crate) async fn simulate(&self, bundle: Arc<Bundle>) -> Result<Attempt, jsonrpsee::types::ErrorObjectOwned> {
        let mut view = self.pending_view(&bundle.rollups()).await.map_err(|error| unavailable("node_unavailable", error))?;
        let claims = self.builder.same_slot_claims();
        view.facts = self.builder.messages().facts_of(&view, &bundle, &claims).await;
        let attempt = blocking_with_state(self.builder.intake(), Arc::new(view), move |view| simulate(view, &bundle))
            .await
            .map_err(|error| unavailable("simulation_failed", error))?;
        if let Some(why) = &attempt.blocked {
            self.builder.messages().heed(why);
        }
        Ok(attempt)
    }
}

#[async_trait]
impl LockstepApiServer for LockstepRpc {
    async fn send_bundle(&self, ext: &Extensions, bundle: Value) -> RpcResult<SentBundle> {
        let bundle = self.bundle(bundle, ext).await?;
        let bundle_hash = self.builder.intake().admit(bundle, Kind::Bundle).await?;
        Ok(SentBundle { bundle_hash })
    }

    async fn simulate_bundle(&self, ext: &Extensions, bundle: Value) -> RpcResult<SimulationResult> {
        let bundle = self.bundle(bundle, ext).await?;
        let limits = self.builder.intake().pool().read().limits().clone();
        check(&bundle, &self.builder.intake().heads(), now_ms() / 1000, &limits)
            .map_err(|rejection| from_rejection(&rejection))?;
        let bundle = Arc::new(bundle);
        let attempt = self.simulate(Arc::clone(&bundle)).await?;
        Ok(simulation_result(&bundle, &attempt))
    }

    async fn cancel_bundle(&self, ext: &Extensions, which: Value) -> RpcResult<bool> {
        let which: CancelParams = parse(which)?;
        let Some(signer) = signer(ext) else {
            let rejection = lockstep_primitives::Rejection::new(
                lockstep_primitives::Place::BUNDLE,
                lockstep_primitives::Reason::ReplacementNeedsSigner,
            );
            return Err(from_rejection(&rejection));
        };
        if which.bundle_hash.is_some() == which.replacement_uuid.is_some() {
            return Err(invalid_params(
                "invalid_params",
                "give either bundleHash or replacementUuid",
                "a bundle is cancelled by its hash or by its replacement identity",
            ));
        }
        self.builder.intake().cancel(signer, which.bundle_hash, which.replacement_uuid.as_deref()).await
    }

    async fn get_bundle(&self, ext: &Extensions, bundle_hash: B256) -> RpcResult<BundleStatus> {
        self.builder
            .intake()
            .tracker()
            .status(bundle_hash, signer(ext))
            .ok_or_else(|| not_found(format!("no bundle {bundle_hash} that this request may see")))
    }

    async fn get_receipt(&self, ext: &Extensions, bundle_hash: B256) -> RpcResult<BundleReceiptWire> {
        let tracker = self.builder.intake().tracker();
        // Whoever may see the bundle may see how it ended.
        let status = self.get_bundle(ext, bundle_hash).await?;
        let ended = tracker.own(bundle_hash).and_then(|(state, level, status)| receipt(state, level, &status));
        match ended {
            Some(receipt) => Ok(self.builder.sign_receipt(&receipt)),
            None => Err(unavailable("not_ended", format!("bundle {bundle_hash} is {}: it has not ended", status.state))),
        }
    }

    async fn explain_bundle(&self, ext: &Extensions, bundle_hash: B256) -> RpcResult<Explanation> {
        let status = self.get_bundle(ext, bundle_hash).await?;
        Ok(explain(status))
    }

    async fn get_slot(&self, slot: Option<u64>) -> RpcResult<SlotStatus> {
        let clock = self.builder.timings().clock;
        let current = clock.slot_at(now_ms()).unwrap_or_default();
        let slot = slot.unwrap_or(current);
        let intake = self.builder.intake();
        let report = self.builder.report(slot).map(public);
        if report.is_none() && slot.saturating_add(64) < current {
            return Err(not_found(format!("slot {slot} is over and forgotten")));
        }
        if slot > current.saturating_add(1) {
            return Err(not_found(format!("slot {slot} has not begun, it is slot {current}")));
        }
        Ok(SlotStatus {
            slot,
            start: clock.start_ms(slot),
            end: clock.end_ms(slot),
            builder: self.builder.address(),
            rollups: intake
                .heads()
                .into_iter()
                .map(|(chain, head)| SlotRollupStatus { chain_id: U64::from(chain), head: U64::from(head.number) })
                .collect(),
            pending: intake.pool().read().len(),
            report,
        })
    }

    async fn get_messages(&self, filter: Option<Value>) -> RpcResult<MessageList> {
        let messages = Arc::clone(self.builder.messages());
        let filter = messages.filter(&parse(filter.unwrap_or_else(|| json!({})))?)?;
        let list = tokio::task::spawn_blocking(move || messages.list(&filter, now_ms())).await;
        list.map_err(|error| unavailable("simulation_failed", error.to_string()))
    }

    async fn watch(
        &self,
        pending: PendingSubscriptionSink,
        _ext: &Extensions,
        kind: String,
        filter: Option<Value>,
    ) -> SubscriptionResult {
        match kind.as_str() {
            "bundles" => {
                let (asker, hash) = match listener(filter) {
                    Ok(listener) => listener,
                    Err(error) => {
                        pending.reject(error).await;
                        return Ok(());
                    }
                };
                let mut steps = self.builder.intake().tracker().subscribe();
                let sink = pending.accept().await?;
                loop {
                    let step = tokio::select! {
                        () = sink.closed() => return Ok(()),
                        step = steps.recv() => step,
                    };
                    let value = match step {
                        Ok(step) => {
                            let visible = step.signer.is_none() || step.signer == asker;
                            if !visible || hash.is_some_and(|hash| hash != step.hash) || (hash.is_none() && step.signer.is_none())
                            {
                                continue;
                            }
                            json!({ "bundleHash": step.hash, "event": step.event })
                        }
                        Err(RecvError::Lagged(missed)) => json!({ "missed": missed }),
                        Err(RecvError::Closed) => return Ok(()),
                    };
                    sink.send(SubscriptionMessage::from(serde_json::value::to_raw_value(&value)?)).await?;
                }
            }
            "slots" => {
                let mut reports = self.builder.reports();
                let sink = pending.accept().await?;
                loop {
                    let report = tokio::select! {
                        () = sink.closed() => return Ok(()),
                        report = reports.recv() => report,
                    };
                    let value = match report {
                        Ok(report) => serde_json::to_value(public(report))?,
                        Err(RecvError::Lagged(missed)) => json!({ "missed": missed }),
                        Err(RecvError::Closed) => return Ok(()),
                    };
                    sink.send(SubscriptionMessage::from(serde_json::value::to_raw_value(&value)?)).await?;
                }
            }
            other => {
                let text = format!("there is no subscription {other:?}");
                pending.reject(invalid_params("unknown_subscription", text, "there are \"bundles\" and \"slots\"")).await;
                Ok(())
            }
        }
    }
}

/// Who may hear of which bundles: a signer of all its own, anyone of an unsigned bundle whose hash it knows.
fn listener(filter: Option<Value>) -> Result<(Option<Address>, Option<B256>), ErrorObjectOwned> {
    let params: SubscribeParams = parse(filter.unwrap_or_else(|| json!({})))?;
    let hint = "give {\"bundleHash\"} of an unsigned bundle, or {\"expiresAt\", \"signature\"} for your own bundles";
    match (params.bundle_hash, params.expires_at, params.signature) {
        (Some(hash), None, None) => Ok((None, Some(hash))),
        (None, Some(expires_at), Some(signature)) => {
            let now = now_ms() / 1000;
            if expires_at < now || expires_at > now + SUBSCRIPTION_SECONDS {
                return Err(invalid_params("expired", "expiresAt lies in the past or more than a day ahead", hint));
            }
            let signer = recover(subscription_digest("bundles", expires_at), &signature)
                .map_err(|error| invalid_params("invalid_request_signature", error.to_string(), hint))?;
            Ok((Some(signer), None))
        }
        _ => Err(invalid_params("missing_field", "a subscriber to bundles has to say to whose", hint)),
    }
}

/// Order flow is private: a slot's report names no bundle to the public.
fn public(report: lockstep_rpc::wire::SlotReport) -> lockstep_rpc::wire::SlotReport {
    lockstep_rpc::wire::SlotReport { bundles: Vec::new(), ..report }
}

fn explain(status: BundleStatus) -> Explanation {
    let last = status.history.last();
    let rollups = status.rollups.iter().map(|chain| chain.to_string()).collect::<Vec<_>>().join(", ");
    let landed = BundleState::Landed.as_str();
    let text = match (&status.blocked, last) {
        (Some(blocked), _) => format!(
            "The bundle over rollups {rollups} is {}. What keeps it from landing: {}. What to do: {}.",
            status.state, blocked.text, blocked.hint
        ),
        (None, Some(_)) if status.state == landed => {
            let blocks = status
                .legs
                .iter()
                .enumerate()
                .filter_map(|(index, leg)| {
                    let block = leg.transactions.first()?.block_number?;
                    Some(format!("leg {index} in block {block} of rollup {}", leg.chain_id))
                })
                .collect::<Vec<_>>()
                .join(", ");
            format!("The bundle landed with all its legs: {blocks}.")
        }
        (None, Some(event)) => {
            let why = event.text.as_ref().map(|text| format!(" ({text})")).unwrap_or_default();
            format!("The bundle over rollups {rollups} is {}{why}. Nothing is known to be in its way.", status.state)
        }
        (None, None) => format!("The bundle over rollups {rollups} is {}.", status.state),
    };
    Explanation { bundle_hash: status.bundle_hash, state: status.state, text, obstacle: status.blocked }
}

fn simulation_result(bundle: &Bundle, attempt: &Attempt) -> SimulationResult {
    let run = &attempt.run;
    let legs = run
        .legs
        .iter()
        .map(|leg| SimulatedLeg {
            chain_id: U64::from(leg.chain),
            relay: leg.relay,
            block_number: U64::from(leg.number),
            transactions: leg.txs.iter().map(|tx| simulated_tx(tx, leg.relay)).collect(),
            messages: leg
                .messages
                .iter()
                .map(|message| match message {
                    Ok(message) => MessageWire {
                        protocol: message.protocol.to_owned(),
                        id: Some(message.id),
                        destination: message.destination.map(U64::from),
                        text: message.destination_name.clone(),
                    },
                    Err(reason) => {
                        MessageWire { protocol: "malformed".into(), id: None, destination: None, text: reason.to_string() }
                    }
                })
                .collect(),
        })
        .collect();
    let balance_changes = run
        .balances
        .iter()
        .flat_map(|(chain, changes)| {
            changes.iter().map(|change| BalanceChangeWire {
                chain_id: U64::from(*chain),
                account: change.account,
                asset: match change.asset {
                    Asset::Native => "native".into(),
                    Asset::Token(token) => token.to_string(),
                },
                change: SignedDecimal(change.change),
            })
        })
        .collect();
    SimulationResult {
        bundle_hash: bundle.hash(),
        success: attempt.blocked.is_none(),
        blocked: attempt.blocked.as_ref().map(obstacle),
        legs,
        balance_changes,
        value: SignedDecimal(run.value),
    }
}

fn simulated_tx(tx: &lockstep_building::TxRun, relay: bool) -> SimulatedTx {
    let transaction_hash = (!relay).then_some(tx.hash);
    let Some(outcome) = &tx.outcome else {
        let status = if tx.must_succeed { "invalid" } else { "dropped" };
        return SimulatedTx {
            transaction_hash,
            status: status.into(),
            gas_used: 0,
            logs: Vec::new(),
            output: Default::default(),
            revert_reason: None,
        };
    };
    let status = match outcome.status {
        TxStatus::Succeeded => "success",
        TxStatus::Reverted => "reverted",
        TxStatus::Halted(_) => "halted",
    };
    SimulatedTx {
        transaction_hash,
        status: status.into(),
        gas_used: outcome.gas_used,
        logs: outcome.logs.to_vec(),
        output: outcome.output.clone(),
        revert_reason: (outcome.status == TxStatus::Reverted).then(|| revert_message(&outcome.output)).flatten(),
    }
}

//! What a sequencer tells the market about how its slots ended: by this winners are charged, and reserves are implied.

use std::{sync::Arc, time::Duration};

use alloy_primitives::{B256, U256};
use jsonrpsee::{core::ClientError, http_client::HttpClient};
use lockstep_delivery::{SequencerPhase, Which};
use lockstep_primitives::{DeliveryReport, ImpliedBasis, ProposalReveal, ReserveRule, SlotEnding, SlotNumber};
use lockstep_rpc::{api::MarketApiClient, wire::DeliveryReportWire};

use super::{Running, SequencerRole, encrypted::Tail};
use crate::clock::{now_ms, sleep_until};

/// For how long after its slot a report is sent again when the market does not take it.
const REPORT_FOR_MS: u64 = 60_000;
/// How often.
const RESEND_MS: u64 = 1_000;

/// What was published in a slot so far.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// The hashes of the blocks.
    pub(super) blocks: Vec<B256>,
    /// What the own list earned, when that is what was published.
    pub(super) earned: Option<U256>,
    /// Whether what was decided has become impossible.
    pub(super) lapsed: bool,
    /// What the own list would have earned, where that is told.
    pub(super) posted: Option<U256>,
    /// What came encrypted, and the list that it is behind.
    pub(super) tail: Option<Tail>,
}

impl Published {
    /// Gives up what came encrypted. Whether there was any.
    pub(super) fn drop_tail(&mut self) -> bool {
        self.tail.as_mut().is_some_and(|tail| !std::mem::replace(&mut tail.dropped, true))
    }
}

impl Running {
    /// How the slot ended; `None` while it has not.
    fn ending(&self) -> Option<SlotEnding> {
        let SequencerPhase::Published(which) = self.machine.phase() else { return None };
        Some(match which {
            _ if self.published.lapsed => SlotEnding::Lapsed,
            Which::WithCross | Which::WithoutCross => SlotEnding::Proposed,
            Which::Own if self.machine.prepare().is_some() => SlotEnding::Refused,
            Which::Own => SlotEnding::Silent,
        })
    }
}

impl SequencerRole {
    /// Works out what its own list of a slot would earn, where the terms of sale are about that. It takes no longer than until
    /// the slot is published.
    pub(super) async fn note_own_value(&self, running: &tokio::sync::Mutex<Running>, slot: SlotNumber, publish_ms: u64) {
        let posts = matches!(&self.settings.registration.reserve,
            ReserveRule::Implied(implied) if implied.basis == ImpliedBasis::Posted);
        if !posts {
            return;
        }
        let patience = Duration::from_millis(publish_ms.saturating_sub(now_ms()));
        match tokio::time::timeout(patience, self.own_list(slot, false)).await {
            Ok(Ok((.., value))) => running.lock().await.published.posted = Some(value),
            Ok(Err(error)) => tracing::warn!(chain = self.chain(), slot, %error, "what the own list would earn is not known"),
            Err(_) => tracing::warn!(chain = self.chain(), slot, "what the own list would earn was not known in time"),
        }
    }

    /// Tells the market how a slot ended, in the background.
    pub(super) async fn report(&self, running: &tokio::sync::Mutex<Running>, slot: SlotNumber) {
        let running = running.lock().await;
        let Some(ending) = running.ending() else { return };
        let published = &running.published;
        let report = DeliveryReport {
            slot,
            chain: self.chain(),
            ending,
            blocks: published.blocks.clone(),
            prepared: running
                .machine
                .prepare()
                .map(|prepare| ProposalReveal::pair(prepare.with_cross.list.digest(), prepare.without_cross.list.digest())),
            earned: published.earned,
            posted: published.posted.filter(|_| published.earned.is_none()),
            encrypted: self.encrypted_tail(slot).and_then(|tail| tail.tail()),
        };
        drop(running);
        self.send_report(&report);
    }

    /// Tells the market that a slot which it has sold has no block of the rollup.
    pub(super) async fn report_no_block(&self, slot: SlotNumber) {
        let sold = self.allocation(slot).await.is_ok_and(|allocation| allocation.proposer_of(self.chain()).is_some());
        if sold {
            let (ending, blocks) = (SlotEnding::Lapsed, Vec::new());
            let (chain, prepared, earned, posted, encrypted) = (self.chain(), None, None, None, None);
            self.send_report(&DeliveryReport { slot, chain, ending, blocks, prepared, earned, posted, encrypted });
        }
    }

    fn send_report(&self, report: &DeliveryReport) {
        let wire = DeliveryReportWire::new(report, self.settings.key.sign_bytes(report.digest()));
        let until_ms = self.settings.timings.clock.end_ms(report.slot).saturating_add(REPORT_FOR_MS);
        tokio::spawn(send(self.market.clone(), Arc::new(wire), until_ms));
    }
}

async fn send(market: HttpClient, report: Arc<DeliveryReportWire>, until_ms: u64) {
    let (chain, slot) = (report.chain_id, report.slot);
    loop {
        let error = match market.report_delivery(report.as_ref().clone()).await {
            Ok(_) => return,
            // It will say the same again.
            Err(ClientError::Call(error)) => {
                tracing::warn!(%chain, slot, %error, "the market refuses the report on a slot");
                return;
            }
            Err(error) => error,
        };
        if now_ms() > until_ms {
            tracing::warn!(%chain, slot, %error, "the market was not told how a slot ended");
            return;
        }
        sleep_until(now_ms().saturating_add(RESEND_MS)).await;
    }
}

//! The escrow: what came in there is credited, and it is told in signed batches how money moved.
//!
//! The settlement rollup is asked, never trusted with more than its word on its own contract: only blocks that are so many blocks
//! deep count. A batch is on disk before it is sent, and sent again until the contract counts it, so it is never another one.

mod contract;

use std::{sync::Arc, time::Duration};

use alloy_primitives::{Address, Bytes, U64};
use jsonrpsee::core::RpcResult;
use lockstep_market::{BatchSettled, MarketError, Marketplace, Posting, Settlement, SettlementRecord};
use lockstep_primitives::{EscrowBatch, EscrowChange, EscrowPayout};
use lockstep_rpc::wire::{Decimal, EscrowView};
use lockstep_store::{Op, Queued, Store, StoreError, Table};
use serde::{Deserialize, Serialize};

use self::contract::{EscrowContract, EscrowEvent, EscrowFault, PlacedEvent};
use super::{
    Changes, Inner, MarketRole,
    rows::{RowError, row, wrong},
};
use crate::{
    clock::{now_ms, sleep_until},
    process::EscrowPlan,
};
pub(super) use contract::EscrowFacts;

/// The row of what is no account's.
const STATE: &[u8] = b"state";
/// How many blocks are read at a time.
const MAX_BLOCKS: u64 = 1_000;
/// How long its node may take over one round of questions.
const PATIENCE: Duration = Duration::from_secs(30);
/// After how long a batch that the contract does not count yet is sent again.
const RESEND_MS: u64 = 15_000;

/// How far the escrow's chain was read, and what is under way.
#[derive(Clone, Debug, Default)]
pub(super) struct EscrowState {
    /// The first block that was not read to its end.
    next_block: u64,
    /// The first of its logs that was not taken.
    next_log: u64,
    /// The slot that was open when the last batch was made.
    batched_at: u64,
}

#[derive(Default, Serialize, Deserialize)]
struct StateRow {
    next_block: u64,
    next_log: u64,
    batched_at: u64,
    settled: u64,
    exiting: Vec<Address>,
    pending: Option<BatchRow>,
}

#[derive(Serialize, Deserialize)]
struct BatchRow {
    number: u64,
    deposits: u64,
    changes: Vec<(Address, Decimal, Decimal)>,
    payouts: Vec<(u64, Address, Address, Decimal)>,
}

impl BatchRow {
    fn new(batch: &EscrowBatch) -> Self {
        let EscrowBatch { number, deposits, changes, payouts } = batch;
        let changes = changes.iter().map(|change| (change.account, Decimal(change.debit), Decimal(change.credit))).collect();
        let payout = |payout: &EscrowPayout| (payout.withdrawal, payout.account, payout.to, Decimal(payout.amount));
        Self { number: *number, deposits: *deposits, changes, payouts: payouts.iter().map(payout).collect() }
    }

    fn batch(self) -> EscrowBatch {
        let Self { number, deposits, changes, payouts } = self;
        let changes =
            changes.into_iter().map(|(account, debit, credit)| EscrowChange { account, debit: debit.0, credit: credit.0 });
        let payouts = payouts.into_iter().map(|(withdrawal, account, to, amount)| {
            let amount = amount.0;
            EscrowPayout { withdrawal, account, to, amount }
        });
        EscrowBatch { number, deposits, changes: changes.collect(), payouts: payouts.collect() }
    }
}

/// What is stored of an escrow.
#[derive(Debug, Default)]
pub(super) struct StoredEscrow {
    pub(super) settlement: SettlementRecord,
    pub(super) exiting: Vec<Address>,
    pub(super) state: EscrowState,
}

/// What is stored of an escrow.
///
/// # Errors
/// When a row cannot be read.
pub(super) fn stored_escrow(store: &Store) -> Result<StoredEscrow, RowError> {
    let table = Table::Escrow;
    let mut stored = StoredEscrow::default();
    for (key, value) in store.scan(table)? {
        if key == STATE {
            let StateRow { next_block, next_log, batched_at, settled, exiting, pending } = row(table, &value)?;
            stored.state = EscrowState { next_block, next_log, batched_at };
            stored.exiting = exiting;
            stored.settlement.settled = settled;
            stored.settlement.pending = pending.map(BatchRow::batch);
        } else {
            let account = Address::try_from(key.as_slice()).map_err(|_| wrong(table, "a key of another length"))?;
            stored.settlement.escrowed.insert(account, row::<Decimal>(table, &value)?.0);
        }
    }
    Ok(stored)
}

impl Changes<'_> {
    /// What the escrow has for accounts, as it is now.
    fn escrowed(&mut self, accounts: impl IntoIterator<Item = Address>) {
        for account in accounts {
            let known = self.market().settlement().and_then(|settlement| settlement.record().escrowed.get(&account)).copied();
            match known {
                Some(amount) => self.row(Table::Escrow, account.to_vec(), &Decimal(amount)),
                None => self.op(Op::delete(Table::Escrow, account.to_vec())),
            }
        }
    }

    /// How far the escrow's chain was read, and what is under way.
    fn escrow_state(&mut self, state: &EscrowState) {
        let market = self.market();
        let record = market.settlement().map(Settlement::record);
        let row = StateRow {
            next_block: state.next_block,
            next_log: state.next_log,
            batched_at: state.batched_at,
            settled: record.map_or(0, |record| record.settled),
            exiting: market.exiting().collect(),
            pending: record.and_then(|record| record.pending.as_ref()).map(BatchRow::new),
        };
        self.row(Table::Escrow, STATE.to_vec(), &row);
    }
}

impl MarketRole {
    /// Follows the escrow, and tells it what it has to know, for ever.
    pub(crate) async fn run_escrow(self: Arc<Self>, plan: EscrowPlan) {
        let contract = match self.open_escrow(&plan).await {
            Ok(contract) => contract,
            Err(error) => {
                tracing::error!(%error, contract = %plan.contract, "the escrow cannot be used: nothing is credited or paid out");
                return;
            }
        };
        let mut sent_ms = None;
        loop {
            let step = tokio::time::timeout(PATIENCE, self.escrow_step(&plan, &contract, &mut sent_ms));
            if let Err(error) = step.await.unwrap_or_else(|_| Err(EscrowFault::Slow(PATIENCE))) {
                metrics::counter!("lockstep_escrow_faults_total").increment(1);
                tracing::warn!(%error, "the escrow was not followed: tried again");
            }
            sleep_until(now_ms() + plan.poll_ms).await;
        }
    }

    /// The contract, once it has answered that it is this market's, and that its exits wait long enough.
    async fn open_escrow(&self, plan: &EscrowPlan) -> Result<EscrowContract, EscrowFault> {
        let clock = self.settings.timings.clock;
        // From the first bid for a slot to the last report on it.
        let window_ms = (lockstep_market::SLOTS_AHEAD + self.settings.report_slots + 1).saturating_mul(clock.slot_ms);
        loop {
            let opened = tokio::time::timeout(PATIENCE, EscrowContract::open(plan, self.settings.key.signer())).await;
            match opened.unwrap_or(Err(EscrowFault::Slow(PATIENCE))) {
                Ok(contract) => {
                    contract.check(self.address(), window_ms)?;
                    *self.escrow.lock() = Some(contract.facts());
                    return Ok(contract);
                }
                Err(error) => {
                    tracing::warn!(%error, "the escrow does not answer: asked again");
                    sleep_until(now_ms() + plan.poll_ms).await;
                }
            }
        }
    }

    async fn escrow_step(
        &self,
        plan: &EscrowPlan,
        contract: &EscrowContract,
        sent_ms: &mut Option<u64>,
    ) -> Result<(), EscrowFault> {
        let Some(safe) = contract.head().await?.checked_sub(plan.confirmations) else { return Ok(()) };
        loop {
            let from = self.inner.lock().escrow.next_block.max(plan.from_block);
            if from > safe {
                break;
            }
            let to = safe.min(from.saturating_add(MAX_BLOCKS - 1));
            let events = contract.events(from, to).await?;
            let (queued, refused) = self.note_events(&events, to.saturating_add(1))?;
            self.stored(queued).await?;
            refused?;
        }
        let settled = contract.batches(safe).await?;
        let queued = {
            let mut inner = self.inner.lock();
            let pending = inner.market.settlement().and_then(|settlement| settlement.record().pending.as_ref());
            match pending.map(|batch| batch.number) {
                Some(number) if settled > number => Some(self.note_settled(&mut inner)?),
                Some(_) => None,
                None => self.note_batch(&mut inner, plan)?,
            }
        };
        if let Some(queued) = queued {
            *sent_ms = None;
            self.stored(queued).await?;
        }
        let pending = self.inner.lock().market.settlement().and_then(|settlement| settlement.record().pending.clone());
        match pending {
            Some(batch) if sent_ms.is_none_or(|sent| now_ms() >= sent.saturating_add(RESEND_MS)) => {
                let signature = self.settings.key.sign_bytes(contract.digest(&batch));
                *sent_ms = Some(now_ms());
                tracing::debug!(
                    number = batch.number,
                    changes = batch.changes.len(),
                    payouts = batch.payouts.len(),
                    "a batch is sent"
                );
                contract.settle(&batch, signature).await
            }
            _ => Ok(()),
        }
    }

    /// Takes what happened on the escrow's chain, in its order, up to what cannot be taken: that is tried again.
    fn note_events(&self, events: &[PlacedEvent], next_block: u64) -> Result<(Queued, Result<(), EscrowFault>), EscrowFault> {
        self.store.has_room().map_err(EscrowFault::store)?;
        let mut inner = self.inner.lock();
        let (mut postings, mut accounts) = (Vec::new(), Vec::new());
        let began = (inner.escrow.next_block, inner.escrow.next_log);
        let (mut next, mut refused) = ((next_block, 0), Ok(()));
        for placed in events.iter().filter(|placed| (placed.block, placed.log) >= began) {
            match take(&mut inner.market, placed.event) {
                Ok(posting) => {
                    accounts.extend(posting.iter().flat_map(Posting::accounts));
                    postings.extend(posting);
                }
                Err(error) => {
                    refused = Err(EscrowFault::market(error));
                    next = (placed.block, placed.log);
                    break;
                }
            }
        }
        (inner.escrow.next_block, inner.escrow.next_log) = next;
        let mut changes = Changes::new(&inner.market);
        changes.escrowed(accounts);
        changes.escrow_state(&inner.escrow);
        postings.iter().for_each(|posting| changes.posting(posting));
        let ops = changes.into_ops();
        inner.note_postings(&postings);
        Ok((self.store.queue(ops).map_err(EscrowFault::store)?, refused))
    }

    /// Makes the next batch, when it is time and there is something to tell.
    fn note_batch(&self, inner: &mut Inner, plan: &EscrowPlan) -> Result<Option<Queued>, EscrowFault> {
        let slot = inner.market.first_open(now_ms());
        if slot < inner.escrow.batched_at.saturating_add(plan.batch_slots) {
            return Ok(None);
        }
        if inner.market.escrow_batch().map_err(EscrowFault::market)?.is_none() {
            return Ok(None);
        }
        inner.escrow.batched_at = slot;
        let mut changes = Changes::new(&inner.market);
        changes.escrow_state(&inner.escrow);
        self.store.queue(changes.into_ops()).map(Some).map_err(EscrowFault::store)
    }

    /// Takes it that the contract has settled the batch that is under way.
    fn note_settled(&self, inner: &mut Inner) -> Result<Queued, EscrowFault> {
        let settled = inner.market.escrow_settled().map_err(EscrowFault::market)?;
        let mut changes = Changes::new(&inner.market);
        let mut postings = Vec::new();
        if let Some(BatchSettled { batch, postings: paid_out }) = settled {
            metrics::counter!("lockstep_escrow_batches_total").increment(1);
            tracing::info!(number = batch.number, payouts = batch.payouts.len(), "the escrow settled a batch");
            changes.escrowed(batch.changes.iter().map(|change| change.account));
            changes.escrowed(batch.payouts.iter().map(|payout| payout.account));
            postings = paid_out;
        }
        changes.escrow_state(&inner.escrow);
        postings.iter().for_each(|posting| changes.posting(posting));
        let ops = changes.into_ops();
        inner.note_postings(&postings);
        self.store.queue(ops).map_err(EscrowFault::store)
    }

    async fn stored(&self, queued: Queued) -> Result<(), EscrowFault> {
        queued.written().await.map_err(EscrowFault::store)
    }

    /// Where the money is kept; `None` without an escrow, or while it has not answered.
    pub(super) fn escrow_view(&self) -> RpcResult<Option<EscrowView>> {
        let Some(facts) = *self.escrow.lock() else { return Ok(None) };
        let inner = self.inner.lock();
        let record = inner.market.settlement().map(Settlement::record);
        Ok(Some(EscrowView {
            chain_id: U64::from(facts.chain),
            contract: facts.contract,
            exit_delay: facts.exit_delay_s,
            next_block: inner.escrow.next_block,
            deposits: inner.market.ledger().record().deposits,
            batches: record.map_or(0, |record| record.settled),
            pending: record.and_then(|record| record.pending.as_ref()).map(|batch| batch.number),
        }))
    }
}

/// Takes one event, and returns what it moved.
fn take(market: &mut Marketplace, event: EscrowEvent) -> Result<Option<Posting>, MarketError> {
    match event {
        // Never twice, whatever is read again.
        EscrowEvent::Deposited { number, .. } if number < market.ledger().record().deposits => Ok(None),
        EscrowEvent::Deposited { number, account, amount } => market.escrow_deposit(number, account, amount).map(Some),
        EscrowEvent::ExitRequested { account } => {
            tracing::warn!(%account, "an account leaves the escrow past the market: it puts up nothing more");
            market.set_exiting(account, true);
            Ok(None)
        }
        EscrowEvent::ExitCancelled { account } => {
            market.set_exiting(account, false);
            Ok(None)
        }
        EscrowEvent::Exited { account, amount } => market.exited(account, amount).map(Some),
    }
}

/// What a signature is of, for the contract.
pub(super) type BatchSignature = Bytes;

impl EscrowFault {
    fn store(error: StoreError) -> Self {
        Self::Market(error.to_string())
    }

    fn market(error: MarketError) -> Self {
        Self::Market(error.to_string())
    }
}

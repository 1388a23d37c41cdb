//! What a sequencer judges the lists of a slot by: order, arrivals, and what may not be left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy_consensus::Transaction;
use alloy_primitives::{B256, Bytes};
use jsonrpsee::types::ErrorObjectOwned;
use lockstep_building::BuildError;
use lockstep_messaging::op_interop::access_list::declares;
use lockstep_primitives::{MAX_ARRIVALS, MAX_INCLUSION, OrderingPolicy, Place, Reason, Rejection, SignedTx, SlotNumber};
use lockstep_rpc::{from_rejection, invalid_params, wire::decode_tx};
use lockstep_simulation::{BlockTx, Lane, SlotRollup};

use super::{MAX_SLOTS, PublicTx, SequencerRole};
use crate::clock::now_ms;

/// For how many slots ahead the operator may set inclusion lists.
const INCLUSION_SLOTS_AHEAD: u64 = 64;
/// How many transactions are tried for each that an inclusion list may have.
const TRIED_PER_PLACE: usize = 4;
/// How often work is run again after fetching what it missed.
const MAX_ROUNDS: usize = 256;

/// What the lists of one slot are judged by.
#[derive(Debug)]
pub(super) struct ListRules {
    /// In which order blocks may hold transactions.
    pub(super) ordering: OrderingPolicy,
    /// When which public transaction came in, in Unix milliseconds; at most [`MAX_ARRIVALS`].
    pub(super) arrivals: BTreeMap<B256, u64>,
    /// What may not be left out; at most [`MAX_INCLUSION`].
    pub(super) inclusion: Vec<Arc<SignedTx>>,
}

impl ListRules {
    /// (arrival, transaction), oldest first.
    pub(super) fn arrivals_by_age(&self) -> Vec<(u64, B256)> {
        let mut by_age: Vec<(u64, B256)> = self.arrivals.iter().map(|(hash, at_ms)| (*at_ms, *hash)).collect();
        by_age.sort_unstable();
        by_age
    }
}

/// Whether a transaction declares that it executes messages of other rollups (OP interop).
fn executes_messages(tx: &SignedTx) -> bool {
    tx.envelope().access_list().is_some_and(declares)
}

impl SequencerRole {
    /// The rules of a slot. From the time at which building for it begins they are fixed, so that every proposer is told, and
    /// later judged by, the same: what comes in from then on counts as not seen.
    pub(super) async fn rules(&self, slot: SlotNumber, rollup: &Arc<SlotRollup>) -> Result<Arc<ListRules>, String> {
        if let Some(rules) = self.fixed.lock().get(&slot) {
            return Ok(Arc::clone(rules));
        }
        // Looked at before anything is read: what is set or comes in later does not count any more.
        let cutoff_ms = self.settings.timings.build_ms(slot);
        let fixed = now_ms() >= cutoff_ms;
        let mut seen = self.public();
        seen.retain(|seen| seen.arrival_ms < cutoff_ms);
        seen.sort_by_key(|seen| (seen.arrival_ms, seen.candidate.sequence));
        let set = self.inclusion_lists.lock().get(&slot).cloned();
        let inclusion = match set {
            Some(set) => set,
            None => self.choose(rollup, &seen).await?,
        };
        if let Some(untold) = seen.len().checked_sub(MAX_ARRIVALS) {
            metrics::counter!("lockstep_arrivals_untold_total").increment(untold as u64);
        }
        let arrivals = seen.iter().take(MAX_ARRIVALS).map(|seen| (seen.tx.hash(), seen.arrival_ms)).collect();
        let rules = Arc::new(ListRules { ordering: self.settings.registration.ordering, arrivals, inclusion });
        if !fixed {
            return Ok(rules);
        }
        let mut kept = self.fixed.lock();
        let rules = Arc::clone(kept.entry(slot).or_insert(rules));
        while kept.len() > MAX_SLOTS {
            kept.pop_first();
        }
        Ok(rules)
    }

    /// The public transactions that it sees, in the order of admission.
    pub(super) fn public(&self) -> Vec<PublicTx> {
        self.mempool.as_ref().map(|mempool| mempool.public(self.chain())).unwrap_or_default()
    }

    /// How many transactions an inclusion list may have by the terms of sale.
    fn inclusion_limit(&self) -> usize {
        usize::try_from(self.settings.registration.inclusion).map_or(MAX_INCLUSION, |limit| limit.min(MAX_INCLUSION))
    }

    /// The oldest of the transactions that are valid one after the other at the slot's begin: a list can hold all of them.
    async fn choose(&self, rollup: &Arc<SlotRollup>, seen: &[PublicTx]) -> Result<Vec<Arc<SignedTx>>, String> {
        let limit = self.settings.inclusion.min(self.inclusion_limit());
        // Whether a message of another rollup may be executed is for the proposer to say, who knows the others' blocks.
        let free =
            seen.iter().filter(|seen| seen.free && !executes_messages(&seen.tx)).take(limit.saturating_mul(TRIED_PER_PLACE));
        let oldest: Vec<Arc<SignedTx>> = free.map(|seen| Arc::clone(&seen.tx)).collect();
        if oldest.is_empty() || rollup.blocks.is_empty() {
            return Ok(Vec::new());
        }
        self.with_state(rollup, move |rollup| valid_in_turn(rollup, &oldest, limit)).await
    }

    /// Takes the operator's inclusion list for a slot that is not built for yet. Returns how many transactions it has.
    pub(super) fn set_inclusion_list(&self, slot: SlotNumber, raw: Vec<Bytes>) -> Result<usize, ErrorObjectOwned> {
        let now = now_ms();
        let current = self.settings.timings.clock.slot_at(now).unwrap_or_default();
        if now >= self.settings.timings.build_ms(slot) {
            let text = format!("slot {slot} is being built, or over");
            return Err(invalid_params("inclusion_fixed", text, "set the list of a later slot, before building for it begins"));
        }
        if slot > current.saturating_add(INCLUSION_SLOTS_AHEAD) {
            let text = format!("slot {slot} is more than {INCLUSION_SLOTS_AHEAD} slots ahead of slot {current}");
            return Err(invalid_params("too_far_ahead", text, "set it nearer to the slot"));
        }
        let txs = self.decode(raw).map_err(|rejection| from_rejection(&rejection))?;
        let count = txs.len();
        let mut lists = self.inclusion_lists.lock();
        lists.retain(|slot, _| *slot >= current);
        lists.insert(slot, txs);
        Ok(count)
    }

    fn decode(&self, raw: Vec<Bytes>) -> Result<Vec<Arc<SignedTx>>, Rejection> {
        let chain = self.chain();
        let limit = self.inclusion_limit();
        if raw.len() > limit {
            let reason = Reason::TooManyTransactions { count: raw.len(), limit };
            return Err(Rejection::new(Place::rollup(chain), reason));
        }
        let mut hashes = BTreeSet::new();
        let mut txs = Vec::with_capacity(raw.len());
        for (index, raw) in raw.into_iter().enumerate() {
            let bad = |reason| Rejection::new(Place { chain: Some(chain), leg: None, index: Some(index) }, reason);
            let tx = decode_tx(raw).map_err(bad)?;
            match tx.chain_id() {
                Some(signed) if signed == chain => {}
                Some(signed) => return Err(bad(Reason::WrongChainId { signed })),
                None => return Err(bad(Reason::UnprotectedTransaction)),
            }
            if !hashes.insert(tx.hash()) {
                return Err(bad(Reason::DuplicateTransaction(tx.hash())));
            }
            if executes_messages(&tx) {
                let text = "no proposer can be held to it".to_owned();
                return Err(bad(Reason::UncertainMessage { origin: None, text }));
            }
            txs.push(Arc::new(tx));
        }
        Ok(txs)
    }

    /// Runs work on the rollup's state, on a thread that may take its time. What the state does not hold yet is fetched, and
    /// the work is run again.
    pub(super) async fn with_state<T, W>(&self, rollup: &Arc<SlotRollup>, work: W) -> Result<T, String>
    where
        T: Send + 'static,
        W: Fn(&Arc<SlotRollup>) -> Result<T, BuildError> + Send + Sync + 'static,
    {
        let work = Arc::new(work);
        for _ in 0..MAX_ROUNDS {
            let (run, on) = (Arc::clone(&work), Arc::clone(rollup));
            let result = tokio::task::spawn_blocking(move || run(&on)).await.map_err(|error| error.to_string())?;
            match result {
                Ok(done) => return Ok(done),
                Err(error) if error.missing().is_none() => return Err(error.to_string()),
                Err(_) => {
                    self.node.fetch_missing(rollup.parent.hash).await.map_err(|error| error.to_string())?;
                }
            }
        }
        Err(format!("the state was not complete after {MAX_ROUNDS} rounds of fetching"))
    }
}

/// Those of the transactions that are valid one after the other in the slot's first block, at most `limit`.
fn valid_in_turn(rollup: &Arc<SlotRollup>, txs: &[Arc<SignedTx>], limit: usize) -> Result<Vec<Arc<SignedTx>>, BuildError> {
    let chain = rollup.chain;
    let mut lane = Lane::open(Arc::clone(rollup)).map_err(|cause| BuildError::Lane { chain, cause })?;
    let mut valid = Vec::new();
    for tx in txs {
        if valid.len() >= limit {
            break;
        }
        let executed = lane.block_mut().execute(&BlockTx::Signed(Arc::clone(tx)));
        if executed.map_err(|error| BuildError::Lane { chain, cause: error.into() })?.is_ok() {
            valid.push(Arc::clone(tx));
        }
    }
    Ok(valid)
}

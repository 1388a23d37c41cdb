//! Encrypted transactions: taking them, ordering them after a decided list, having them opened, and publishing what was in them.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, U64};
use jsonrpsee::{core::ClientError, http_client::HttpClient, types::ErrorObjectOwned};
use lockstep_building::BuildError;
use lockstep_delivery::{Ciphertext, CommitteeKey, MAX_CIPHERTEXT_BYTES, MAX_ENCRYPTED, Opening, Unopened};
use lockstep_primitives::{BlockList, EncryptedOrder, Reason, SlotNumber};
use lockstep_rpc::{
    RpcError,
    api::CommitteeApiClient,
    invalid_params, unavailable,
    wire::{
        EncryptedOutcome, EncryptedReceiptWire, EncryptedState, EncryptedTailView, EncryptedTxParams, EncryptionView, OpenParams,
        SharesWire,
    },
};
use lockstep_simulation::{BlockTx, SlotRollup, extend_list};
use lockstep_store::{Store, StoreError, Table};
use tokio::task::JoinSet;

use super::{Running, SequencerRole, inbox::Inbox};
use crate::clock::{now_ms, sleep_until};

/// The least gas that a transaction needs.
const LEAST_GAS: u64 = 21_000;
/// How long until a member that did not answer is asked again.
const ASK_AGAIN_MS: u64 = 10;

/// How a sequencer has encrypted transactions opened.
#[derive(Clone, Debug)]
pub(crate) struct EncryptedSettings {
    /// What shares are checked by.
    pub(crate) committee: CommitteeKey,
    /// The members, by their numbers.
    pub(crate) members: Vec<HttpClient>,
    /// For how long a slot's last block waits for their shares.
    pub(crate) patience_ms: u64,
}

/// The part of a sequencer that takes encrypted transactions.
#[derive(Debug)]
pub(super) struct Encrypted {
    settings: EncryptedSettings,
    inbox: parking_lot::Mutex<Inbox>,
}

/// A decided list with what came encrypted after it.
#[derive(Clone, Debug)]
pub(super) struct Tail {
    /// The digest of the list without it.
    before: B256,
    rollup: Arc<SlotRollup>,
    pub(super) list: BlockList,
    outcomes: Vec<EncryptedOutcome>,
    /// The block that it is in.
    pub(super) block: Option<B256>,
    /// Whether the node refused it, however valid it is here.
    pub(super) dropped: bool,
}

impl Encrypted {
    /// Takes up what was acknowledged before; `slot` is the one that is not over.
    pub(super) fn open(settings: EncryptedSettings, chain: u64, store: &Store, slot: SlotNumber) -> Result<Self, StoreError> {
        let (inbox, ops) = Inbox::restore(chain, store.scan(Table::Encrypted)?, store.scan(Table::EncryptedTails)?, slot);
        // Not waited for: after another restart it would come out the same.
        let _queued = store.queue(ops)?;
        Ok(Self { settings, inbox: parking_lot::Mutex::new(inbox) })
    }
}

impl SequencerRole {
    /// Gas of a slot that is kept for encrypted transactions.
    pub(super) const fn encrypted_gas(&self) -> u64 {
        self.settings.registration.encrypted_gas
    }

    /// How encrypted transactions are taken.
    pub(super) fn encryption(&self) -> Option<EncryptionView> {
        let committee = &self.encrypted.as_ref()?.settings.committee;
        Some(EncryptionView {
            chain_id: U64::from(self.chain()),
            public_key: Bytes::copy_from_slice(&committee.public_key()),
            committee: committee.to_bytes(),
            needed: committee.needed(),
            gas: self.encrypted_gas(),
            max_bytes: MAX_CIPHERTEXT_BYTES,
            max_transactions: MAX_ENCRYPTED,
        })
    }

    fn inbox(&self) -> Result<&Encrypted, ErrorObjectOwned> {
        self.encrypted.as_ref().ok_or_else(|| {
            let text = format!("rollup {} takes no encrypted transactions", self.chain());
            invalid_params("not_encrypted", text, "send it in the clear, or to a rollup that sequencer_getEncryption answers for")
        })
    }

    /// Takes an encrypted transaction, and answers when it is on disk.
    pub(super) async fn take_encrypted(
        &self,
        params: EncryptedTxParams,
        sender: Address,
    ) -> Result<EncryptedReceiptWire, ErrorObjectOwned> {
        let encrypted = self.inbox()?;
        let (gas, most) = (params.gas.to::<u64>(), self.encrypted_gas());
        if !(LEAST_GAS..=most).contains(&gas) {
            let text = format!("gas is {gas}, and is between {LEAST_GAS} and {most} here");
            return Err(invalid_params(
                "encrypted_gas",
                text,
                "give the transaction's gas limit; what needs more cannot be encrypted",
            ));
        }
        // Checking the points takes a millisecond.
        let parsed = tokio::task::spawn_blocking(move || Ciphertext::parse(params.ciphertext)).await;
        let parsed = parsed.map_err(|error| unavailable("encryption_failed", error.to_string()))?;
        let ciphertext = parsed.map_err(|error| {
            let hint = "encrypt the EIP-2718 bytes for the key that sequencer_getEncryption tells, and send the result as it is";
            invalid_params(error.code(), error.to_string(), hint)
        })?;
        let taken = encrypted.inbox.lock().take(ciphertext, gas, sender, now_ms());
        let (receipt, op) = taken.map_err(|refused| {
            let hint = "wait until some had their slot; a transaction whose turn is over is encrypted and sent anew";
            invalid_params(refused.code(), refused.to_string(), hint)
        })?;
        // Who sends it again waits for the disk again: the first time may not be there yet.
        if let Err(error) = self.store.write(vec![op]).await {
            encrypted.inbox.lock().forget(receipt.sequence);
            return Err(unavailable("store_failed", error.to_string()));
        }
        metrics::counter!("lockstep_encrypted_total", "what" => "taken").increment(1);
        Ok(EncryptedReceiptWire::new(&receipt, self.settings.key.sign_bytes(receipt.digest())))
    }

    /// Where a ciphertext stands.
    pub(super) fn encrypted_status(&self, hash: B256) -> Option<lockstep_rpc::wire::EncryptedTxStatus> {
        self.encrypted.as_ref()?.inbox.lock().status(hash)
    }

    /// The encrypted part of a slot.
    pub(super) fn encrypted_tail(&self, slot: SlotNumber) -> Option<EncryptedTailView> {
        self.encrypted.as_ref()?.inbox.lock().tail(slot).cloned()
    }

    /// A decided list with what came encrypted after it, and the rollup whose last block has room for both. Without anything
    /// encrypted it is the list as it is. Whatever fails here costs the encrypted transactions their slot, and nobody else
    /// anything.
    pub(super) async fn with_tail(
        &self,
        running: &mut Running,
        rollup: &Arc<SlotRollup>,
        list: &BlockList,
    ) -> (Arc<SlotRollup>, BlockList) {
        let plain = || (Arc::clone(rollup), list.clone());
        let Some(encrypted) = self.encrypted.as_ref().filter(|_| rollup.ends_open()) else { return plain() };
        let before = list.digest();
        let slot = running.machine.terms().slot;
        if running.published.tail.is_none() {
            match self.make_tail(encrypted, slot, rollup, list, before).await {
                Ok(tail) => running.published.tail = tail,
                Err(error) => tracing::warn!(chain = self.chain(), slot, %error, "no encrypted transaction is opened"),
            }
        }
        match &running.published.tail {
            Some(tail) if tail.before == before && !tail.dropped => (Arc::clone(&tail.rollup), tail.list.clone()),
            _ => plain(),
        }
    }

    /// Signs the order, has it opened, and puts what is valid after the list.
    async fn make_tail(
        &self,
        encrypted: &Encrypted,
        slot: SlotNumber,
        rollup: &Arc<SlotRollup>,
        list: &BlockList,
        before: B256,
    ) -> Result<Option<Tail>, String> {
        let Some((order, ciphertexts)) = self.fix_order(encrypted, slot, before).await? else { return Ok(None) };
        let opening = self.have_opened(encrypted, &order, ciphertexts).await;
        let (mut outcomes, mut txs) = (Vec::new(), Vec::new());
        for (hash, opened) in order.ciphertexts.iter().zip(opening.opened()) {
            let gas = encrypted.inbox.lock().gas_of(*hash).unwrap_or_default();
            let tx = opened.clone().map_err(Refusal::from).and_then(|raw| self.fit(raw, gas));
            let mut outcome =
                EncryptedOutcome { ciphertext: *hash, transaction_hash: None, index: None, reason: None, text: None };
            match tx {
                Ok(tx) => {
                    outcome.transaction_hash = Some(tx.hash());
                    txs.push((outcomes.len(), tx));
                }
                Err(refusal) => (outcome.reason, outcome.text) = (Some(refusal.code.to_owned()), Some(refusal.text)),
            }
            outcomes.push(outcome);
        }
        let chain = self.chain();
        let (places, txs): (Vec<usize>, Vec<BlockTx>) = txs.into_iter().unzip();
        let decided = list.clone();
        let extended = self.with_state(rollup, move |rollup| {
            extend_list(rollup, &decided, &txs).map_err(|cause| BuildError::Lane { chain, cause })
        });
        let extended = extended.await?;
        for (place, outcome) in places.into_iter().zip(extended.outcomes) {
            match outcome {
                Ok(index) => outcomes[place].index = Some(index),
                Err(reason) => {
                    (outcomes[place].reason, outcomes[place].text) = (Some(reason.code().to_owned()), Some(reason.to_string()));
                }
            }
        }
        let rollup = Arc::new(rollup.opened());
        Ok(Some(Tail { before, rollup, list: extended.list, outcomes, block: None, dropped: false }))
    }

    /// The slot's order and its ciphertexts: the one that was signed before, or a new one. `None` when there is nothing to order,
    /// or what was signed was signed for another list.
    async fn fix_order(
        &self,
        encrypted: &Encrypted,
        slot: SlotNumber,
        list: B256,
    ) -> Result<Option<(EncryptedTailView, Vec<Ciphertext>)>, String> {
        let (tail, ciphertexts, ops) = {
            let mut inbox = encrypted.inbox.lock();
            if let Some(known) = inbox.tail(slot) {
                let stands = known.list == list && known.status == EncryptedState::Ordered;
                return Ok(inbox.ordered(known).filter(|_| stands).map(|ciphertexts| (known.clone(), ciphertexts)));
            }
            let ciphertexts = inbox.next(self.encrypted_gas());
            if ciphertexts.is_empty() {
                return Ok(None);
            }
            let hashes = ciphertexts.iter().map(Ciphertext::hash).collect();
            let order = EncryptedOrder { chain: self.chain(), slot, list, ciphertexts: hashes };
            let tail = EncryptedTailView {
                chain_id: U64::from(self.chain()),
                slot,
                list,
                signature: self.settings.key.sign_bytes(order.digest()),
                ciphertexts: order.ciphertexts,
                status: EncryptedState::Ordered,
                block_hash: None,
                outcomes: Vec::new(),
            };
            let ops = inbox.order(tail.clone());
            (tail, ciphertexts, ops)
        };
        // Signed twice differently it would be worth nothing, so it is on disk before anybody sees it.
        self.store.write(ops).await.map_err(|error| error.to_string())?;
        Ok(Some((tail, ciphertexts)))
    }

    /// Asks every member at once, until everything is open or patience is over.
    async fn have_opened(&self, encrypted: &Encrypted, order: &EncryptedTailView, ciphertexts: Vec<Ciphertext>) -> Opening {
        let until_ms = now_ms().saturating_add(encrypted.settings.patience_ms);
        let mut asked = JoinSet::new();
        for (member, client) in (0..).zip(&encrypted.settings.members) {
            let params = OpenParams {
                member,
                chain_id: order.chain_id,
                slot: order.slot,
                list: order.list,
                ciphertexts: ciphertexts.iter().map(|ciphertext| ciphertext.raw().clone()).collect(),
                signature: order.signature.clone(),
            };
            asked.spawn(ask(client.clone(), params, until_ms));
        }
        let mut opening = Opening::new(encrypted.settings.committee.clone(), ciphertexts);
        while let Some(answer) = asked.join_next().await {
            let Ok(Some(SharesWire { member, shares })) = answer else { continue };
            // Putting shares together is work, and wrong ones make it more.
            let added = tokio::task::spawn_blocking({
                let mut opening = opening.clone();
                move || {
                    opening.add(member, &shares);
                    opening
                }
            });
            if let Ok(added) = added.await {
                opening = added;
            }
            if opening.is_done() {
                break;
            }
        }
        if !opening.is_done() {
            tracing::warn!(chain = self.chain(), slot = order.slot, "too few members of the committee opened in time");
        }
        for member in opening.wrong() {
            metrics::counter!("lockstep_encrypted_total", "what" => "wrong_share").increment(1);
            tracing::warn!(chain = self.chain(), slot = order.slot, member, "a member of the committee gave wrong shares");
        }
        opening
    }

    /// A transaction that may stand in the encrypted part of this rollup's block.
    fn fit(&self, raw: Bytes, gas: u64) -> Result<BlockTx, Refusal> {
        let refuse = |reason: Reason| Refusal { code: reason.code(), text: reason.to_string() };
        let tx = BlockTx::decode(raw).map_err(|error| refuse(Reason::UndecodableTransaction(error.to_string())))?;
        let signed = match &tx {
            BlockTx::Signed(signed) => signed,
            BlockTx::Deposit(_) => return Err(refuse(Reason::DepositTransaction)),
        };
        match signed.chain_id() {
            Some(chain) if chain == self.chain() => {}
            Some(signed) => return Err(refuse(Reason::WrongChainId { signed })),
            None => return Err(refuse(Reason::UnprotectedTransaction)),
        }
        if tx.gas_limit() > gas {
            let text = format!("its gas limit is {}, and {gas} was set aside for it", tx.gas_limit());
            return Err(Refusal { code: "encrypted_gas", text });
        }
        Ok(tx)
    }

    /// Takes down what became of a slot's order, once the slot is published.
    pub(super) async fn settle_tail(&self, running: &Running) {
        let Some(encrypted) = &self.encrypted else { return };
        let slot = running.machine.terms().slot;
        let tail = running.published.tail.as_ref();
        let ops = match tail.and_then(|tail| Some((tail, tail.block?))) {
            Some((tail, block)) => {
                let outcomes = tail.outcomes.clone();
                let (placed, left_out): (Vec<_>, Vec<_>) = outcomes.iter().partition(|outcome| outcome.index.is_some());
                metrics::counter!("lockstep_encrypted_total", "what" => "published").increment(placed.len() as u64);
                metrics::counter!("lockstep_encrypted_total", "what" => "left_out").increment(left_out.len() as u64);
                encrypted.inbox.lock().settle(slot, EncryptedState::Published, Some(block), outcomes)
            }
            None => {
                let ops = encrypted.inbox.lock().settle(slot, EncryptedState::Lapsed, None, Vec::new());
                if !ops.is_empty() {
                    metrics::counter!("lockstep_encrypted_total", "what" => "lapsed").increment(1);
                    tracing::warn!(chain = self.chain(), slot, "a slot was published without what was encrypted for it");
                }
                ops
            }
        };
        if !ops.is_empty()
            && let Err(error) = self.store.write(ops).await
        {
            tracing::error!(chain = self.chain(), slot, %error, "what became of encrypted transactions is not on disk");
        }
    }
}

/// Why a ciphertext's transaction is not in the block.
struct Refusal {
    code: &'static str,
    text: String,
}

impl From<Unopened> for Refusal {
    fn from(unopened: Unopened) -> Self {
        match unopened {
            Unopened::Waiting => {
                Self { code: "not_opened", text: "too few members of the committee opened it in time".to_owned() }
            }
            Unopened::Malformed => {
                Self { code: "malformed_plaintext", text: "what was encrypted is not in the agreed form".to_owned() }
            }
        }
    }
}

/// Asks a member for its shares until it answers or the time is over.
async fn ask(client: HttpClient, params: OpenParams, until_ms: u64) -> Option<SharesWire> {
    let (chain, slot, member) = (params.chain_id, params.slot, params.member);
    loop {
        let left = std::time::Duration::from_millis(until_ms.saturating_sub(now_ms()));
        match tokio::time::timeout(left, client.open(params.clone())).await.ok()? {
            Ok(shares) if shares.member == member => return Some(shares),
            Ok(_) => return None,
            // Its clock is behind.
            Err(ClientError::Call(error)) if is_early(&error) => {}
            Err(ClientError::Call(error)) => {
                tracing::warn!(%chain, slot, member, %error, "a member of the committee refuses to open");
                return None;
            }
            Err(_) => {}
        }
        if now_ms().saturating_add(ASK_AGAIN_MS) >= until_ms {
            return None;
        }
        sleep_until(now_ms().saturating_add(ASK_AGAIN_MS)).await;
    }
}

fn is_early(error: &ErrorObjectOwned) -> bool {
    let data = error.data().and_then(|data| serde_json::from_str::<RpcError>(data.get()).ok());
    data.is_some_and(|data| data.reason == "undecided")
}

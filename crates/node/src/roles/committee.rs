//! Members of a committee that opens encrypted transactions: each gives its shares for what a sequencer has signed, once it can be
//! changed no more.

use std::{collections::BTreeMap, sync::Arc};

use alloy_primitives::{Address, B256, Bytes};
use async_trait::async_trait;
use jsonrpsee::{core::RpcResult, types::ErrorObjectOwned};
use lockstep_delivery::{Ciphertext, InvalidEncryption, MAX_ENCRYPTED, MAX_ENCRYPTED_BYTES, MemberKey};
use lockstep_primitives::{ChainId, EncryptedOrder, SlotNumber, recover};
use lockstep_rpc::{
    api::CommitteeApiServer,
    invalid_params, not_found, unauthorized, unavailable,
    wire::{OpenParams, SharesWire},
};
use lockstep_store::{Op, PutOutcome, Store, Table};
use rayon::prelude::*;

use super::Timings;
use crate::clock::now_ms;

/// For how many slots an order can be opened, and is remembered.
const KEPT_SLOTS: SlotNumber = 1_024;

/// What the members in a process need.
#[derive(Clone, Debug)]
pub(crate) struct CommitteeSettings {
    /// The members' shares of the key, by their numbers.
    pub(crate) members: BTreeMap<u32, MemberKey>,
    /// Whose orders they open ciphertexts for.
    pub(crate) sequencers: BTreeMap<ChainId, Address>,
    /// The slots.
    pub(crate) timings: Timings,
}

/// The members of a committee that are in this process.
#[derive(Clone, Debug)]
pub(crate) struct CommitteeRole {
    settings: Arc<CommitteeSettings>,
    store: Store,
}

impl CommitteeRole {
    pub(crate) fn new(settings: CommitteeSettings, store: Store) -> Self {
        Self { settings: Arc::new(settings), store }
    }

    /// Whether the order is for a slot of now, and signed by whom it has to be.
    fn check(&self, order: &EncryptedOrder, signature: &Bytes) -> Result<(), ErrorObjectOwned> {
        let EncryptedOrder { chain, slot, .. } = *order;
        let Some(sequencer) = self.settings.sequencers.get(&chain) else {
            return Err(not_found(format!("this member opens nothing for rollup {chain}")));
        };
        if recover(order.digest(), signature).ok() != Some(*sequencer) {
            let text = format!("the order is not signed by {sequencer}, the sequencer of rollup {chain}");
            return Err(unauthorized("wrong_sequencer", text, "sign the EIP-712 type EncryptedOrder with the sequencer's key"));
        }
        let (timings, now) = (&self.settings.timings, now_ms());
        // Before, a list could still be made to fit what is in it.
        if now < timings.decide_ms(slot) {
            return Err(unavailable("undecided", format!("slot {slot} is not decided yet")));
        }
        if timings.clock.slot_at(now).unwrap_or_default() > slot.saturating_add(KEPT_SLOTS) {
            let text =
                format!("slot {slot} is more than {KEPT_SLOTS} slots ago, so what was opened for it is not known any more");
            return Err(invalid_params("too_late", text, "nothing is opened for it"));
        }
        Ok(())
    }

    /// Notes for which order it opens ciphertexts of a slot: one only, whatever happens.
    async fn commit(&self, member: u32, order: &EncryptedOrder) -> Result<(), ErrorObjectOwned> {
        let digest = order.digest();
        let key =
            |slot: SlotNumber| [&member.to_be_bytes()[..], &order.chain.to_be_bytes()[..], &slot.to_be_bytes()[..]].concat();
        let written = self.store.put_if_absent(Table::Opened, key(order.slot), digest.to_vec()).await;
        match written.map_err(|error| unavailable("store_failed", error.to_string()))? {
            PutOutcome::Written => {}
            PutOutcome::Exists(known) if known == digest.to_vec() => return Ok(()),
            PutOutcome::Exists(known) => {
                let text = format!("ciphertexts were opened for another order of this slot: {}", B256::left_padding_from(&known));
                return Err(invalid_params("another_order", text, "a sequencer signs one order a slot"));
            }
        }
        // Past ones are refused by their slots.
        if let Some(old) = order.slot.checked_sub(2 * KEPT_SLOTS) {
            let forgotten = self.store.write(vec![Op::delete(Table::Opened, key(old))]).await;
            forgotten.map_err(|error| unavailable("store_failed", error.to_string()))?;
        }
        Ok(())
    }
}

#[async_trait]
impl CommitteeApiServer for CommitteeRole {
    async fn open(&self, params: OpenParams) -> RpcResult<SharesWire> {
        let OpenParams { member, chain_id, slot, list, ciphertexts: raw, signature } = params;
        let Some(key) = self.settings.members.get(&member).cloned() else {
            return Err(not_found(format!("member {member} of the committee is not here")));
        };
        let bytes: usize = raw.iter().map(|raw| raw.len()).sum();
        if raw.is_empty() || raw.len() > MAX_ENCRYPTED || bytes > MAX_ENCRYPTED_BYTES {
            let text = format!("{} ciphertexts of {bytes} bytes", raw.len());
            let hint = format!("1 to {MAX_ENCRYPTED} of them, of {MAX_ENCRYPTED_BYTES} bytes together, are opened for a slot");
            return Err(invalid_params("too_many_ciphertexts", text, &hint));
        }
        let ciphertexts = raw.iter().map(alloy_primitives::keccak256).collect();
        let order = EncryptedOrder { chain: chain_id.to(), slot, list, ciphertexts };
        self.check(&order, &signature)?;
        let parsed = tokio::task::spawn_blocking(move || {
            // All are looked at, so that which error comes first does not depend on the threads.
            let parsed: Vec<Result<Ciphertext, InvalidEncryption>> = raw.into_par_iter().map(Ciphertext::parse).collect();
            let parsed = parsed.into_iter().enumerate().map(|(index, parsed)| parsed.map_err(|error| (index, error)));
            let parsed = parsed.collect::<Result<Vec<Ciphertext>, _>>()?;
            Ok(parsed.iter().map(|ciphertext| key.share(ciphertext)).collect::<Vec<Bytes>>())
        });
        let shares: Result<Vec<Bytes>, (usize, InvalidEncryption)> =
            parsed.await.map_err(|error| unavailable("encryption_failed", error.to_string()))?;
        let shares = shares.map_err(|(index, error)| {
            invalid_params(error.code(), format!("ciphertext {index}: {error}"), "a sequencer orders valid ciphertexts only")
        })?;
        // Nothing leaves before it is on disk what it is given for.
        self.commit(member, &order).await?;
        Ok(SharesWire { member, shares })
    }
}

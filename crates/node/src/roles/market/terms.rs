//! Terms of sale: taken signed, kept with their signatures, and restored from them.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::U64;
use jsonrpsee::core::RpcResult;
use lockstep_market::{MarketError, Registry, Version, Versions};
use lockstep_primitives::{ChainId, Registration, SlotNumber, recover};
use lockstep_rpc::{
    invalid_params, unavailable,
    wire::{RegistrationWire, RollupTerms},
};
use lockstep_store::{Op, Store, StoreError, Table};

use super::{MarketRole, market_error};
use crate::clock::now_ms;

/// A rollup, and the slot from which on its terms hold.
pub(super) type TermsKey = (ChainId, SlotNumber);

impl MarketRole {
    /// Takes terms, of a rollup that has to be known already or may be new.
    pub(super) async fn take_terms(&self, wire: RegistrationWire, known: bool) -> RpcResult<bool> {
        let chain = wire.chain_id.to::<u64>();
        let sellers = &self.settings.sellers;
        if !sellers.is_empty() && !sellers.contains(&chain) {
            let text = format!("this market does not sell slots of rollup {chain}");
            return Err(invalid_params("unknown_rollup", text, "ask the market's operator to admit the rollup"));
        }
        let terms = wire.registration().map_err(|error| invalid_params(error.code(), error.to_string(), error.hint()))?;
        let queued = {
            let mut inner = self.inner.lock();
            if known && inner.market.registry().of(chain).is_none() {
                return Err(market_error(&MarketError::NotRegistered { chain }));
            }
            self.has_room()?;
            inner.market.register(terms, &wire.signature, now_ms()).map_err(|error| market_error(&error))?;
            let kept: BTreeSet<SlotNumber> =
                inner.market.registry().of(chain).into_iter().flat_map(Versions::iter).map(|version| version.from_slot).collect();
            let mut ops = Vec::new();
            inner.signed.retain(|key, _| {
                let stays = key.0 != chain || kept.contains(&key.1);
                if !stays {
                    ops.push(Op::delete(Table::Registrations, terms_key(*key)));
                }
                stays
            });
            if let Some(newest) = kept.last() {
                let key = (chain, *newest);
                let value = serde_json::to_vec(&wire).map_err(|error| unavailable("store", error.to_string()))?;
                ops.push(Op::put(Table::Registrations, terms_key(key), value));
                inner.signed.insert(key, wire);
            }
            self.store.queue(ops)
        };
        self.written(queued).await?;
        Ok(true)
    }

    /// A rollup's terms over time; `None` for one that is not registered.
    pub(super) fn terms_of(&self, chain_id: U64) -> Option<RollupTerms> {
        let inner = self.inner.lock();
        let of_rollup = inner.signed.range((chain_id.to(), 0)..=(chain_id.to(), SlotNumber::MAX));
        let terms: Vec<RegistrationWire> = of_rollup.map(|(_, wire)| wire.clone()).collect();
        let earliest_slot = inner.market.earliest_terms(now_ms());
        (!terms.is_empty()).then_some(RollupTerms { chain_id, terms, earliest_slot })
    }
}

/// The registrations that are stored.
///
/// # Errors
/// When the store cannot be read.
pub(super) fn stored(store: &Store) -> Result<BTreeMap<TermsKey, RegistrationWire>, StoreError> {
    let mut signed = BTreeMap::new();
    for (key, value) in store.scan(Table::Registrations)? {
        match serde_json::from_slice::<RegistrationWire>(&value) {
            Ok(wire) => {
                signed.insert((wire.chain_id.to(), from_slot_of(&key).unwrap_or(wire.from_slot)), wire);
            }
            Err(error) => tracing::error!(%error, "a stored registration cannot be read"),
        }
    }
    Ok(signed)
}

/// The registry that signed registrations make. Each was checked when it was taken; one that does not hold any more, because the
/// store is another's, is left out and told.
pub(super) fn restored(signed: &BTreeMap<TermsKey, RegistrationWire>) -> Registry {
    let mut versions: BTreeMap<ChainId, Vec<Version<Registration>>> = BTreeMap::new();
    for ((chain, from_slot), wire) in signed {
        let signer = wire.registration().map(|terms| (recover(terms.digest(), &wire.signature).ok(), terms));
        match signer {
            Ok((signer, value)) if signer == Some(value.sequencer) => {
                versions.entry(*chain).or_default().push(Version { from_slot: *from_slot, nonce: value.nonce, value });
            }
            _ => tracing::error!(chain, from_slot, "a stored registration does not hold any more"),
        }
    }
    let versions = versions.into_iter().filter_map(|(chain, kept)| {
        let fixed_before = kept.first().map_or(0, |version| version.from_slot);
        let restored = Versions::restore(chain, kept, fixed_before, 0);
        restored.inspect_err(|error| tracing::error!(%error, "the stored terms of a rollup cannot be used")).ok()
    });
    Registry::restore(versions).unwrap_or_else(|error| {
        tracing::error!(%error, "the stored registrations cannot be used");
        Registry::new()
    })
}

fn terms_key((chain, from_slot): TermsKey) -> Vec<u8> {
    [chain.to_be_bytes(), from_slot.to_be_bytes()].concat()
}

fn from_slot_of(key: &[u8]) -> Option<SlotNumber> {
    Some(SlotNumber::from_be_bytes(key.get(8..)?.try_into().ok()?))
}

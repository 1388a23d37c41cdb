//! Calls a contract whenever that pays the caller more than its gas.

use std::{collections::BTreeSet, sync::Arc};

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_primitives::{Address, TxKind, U256};
use lockstep_building::{BuildError, Strategy, StrategyView, open_lanes, run_bundle};
use lockstep_primitives::{Asset, Bundle, ChainId, Leg, LegTx, Requirement, RevertMode, SignedTx};
use lockstep_simulation::{SimulationError, StateView};

/// Calls `to` when that leaves the account with `min_increase` wei more, gas paid.
#[derive(Debug)]
pub(crate) struct Keeper(pub(crate) ChainId, pub(crate) Address, pub(crate) U256);

impl Strategy for Keeper {
    fn name(&self) -> &'static str {
        "keeper"
    }

    fn bundles(&self, view: &StrategyView<'_>) -> Result<Vec<Bundle>, BuildError> {
        let (&Self(chain, to, min_increase), account) = (self, view.signer.address());
        if !view.slot.rollups.contains_key(&chain) {
            return Ok(Vec::new());
        }
        let mut lanes = open_lanes(view.slot, &[chain].into())?;
        let block = lanes[&chain].block();
        let known = block.state().account(account);
        let known = known.map_err(|error| BuildError::Lane { chain, cause: SimulationError::from(error).into() })?;
        let (nonce, cap) = (known.map_or(0, |known| known.nonce), u128::from(block.context().base_fee) * 2);
        let to = TxKind::Call(to);
        let tx = TxEip1559 { chain_id: chain, nonce, gas_limit: 100_000, max_fee_per_gas: cap, to, ..TxEip1559::default() };
        let signature = view.signer.sign(tx.signature_hash());
        let tx = Arc::new(SignedTx::from_parts(TxEnvelope::from(tx.into_signed(signature)), account));
        let legs = vec![Leg::Txs { chain, txs: vec![LegTx { tx, mode: RevertMode::Fail }] }];
        let require = vec![Requirement { chain, account, asset: Asset::Native, min_increase }];
        let bundle = Bundle { legs, require, ..Bundle::default() };
        let attempt = run_bundle(view.slot, &mut lanes, &bundle, &BTreeSet::new())?;
        Ok(if attempt.blocked.is_none() { vec![bundle] } else { Vec::new() })
    }
}

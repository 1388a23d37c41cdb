//! Bundles of the story: burn on one rollup, mint and buy on another.

use alloy_primitives::{Address, ChainId, U64, U256};
use lockstep_rpc::wire::{BundleParams, LegParams, RelayParams};
use serde_json::json;

use super::{
    Dev, DevRollup,
    contracts::{Contracts, Draft, buyCall, encode},
    user,
};
use crate::keys::Key;

/// What every transaction made here pays to the block's beneficiary, in wei per gas.
pub(crate) const TIP: u128 = 3_000_000_000;

/// A transaction leg.
pub(crate) fn txs_leg(chain: ChainId, txs: &[lockstep_primitives::SignedTx]) -> LegParams {
    LegParams { chain_id: U64::from(chain), txs: Some(txs.iter().map(|tx| tx.raw().clone()).collect()), ..LegParams::default() }
}

/// A relay leg.
pub(crate) fn relay_leg(chain: ChainId, leg: usize, message: usize) -> LegParams {
    LegParams {
        chain_id: U64::from(chain),
        relay: Some(RelayParams { leg: Some(leg), message, ..RelayParams::default() }),
        ..LegParams::default()
    }
}

/// A call of a key, with the tip of this demo.
pub(crate) fn call(
    chain: ChainId,
    key: &Key,
    nonce: u64,
    to: Address,
    data: alloy_primitives::Bytes,
) -> lockstep_primitives::SignedTx {
    Draft { chain, nonce, to: Some(to), value: U256::ZERO, data, gas: 400_000, tip: TIP }.sign(key)
}

/// Burn `amount` of USDC on `from`, deliver it on `to`, and buy an NFT there. The purchase is signed before the burn exists.
pub fn burn_mint_buy(
    contracts: &Contracts,
    key: &Key,
    (from, from_nonce): (ChainId, u64),
    (to, to_domain, to_nonce): (ChainId, u32, u64),
    amount: U256,
    token_id: U256,
) -> BundleParams {
    let burn = call(from, key, from_nonce, contracts.token_messenger, contracts.burn(amount, to_domain, key.address()));
    let buy = call(to, key, to_nonce, contracts.nft_shop, encode(&buyCall { tokenId: token_id }));
    BundleParams { legs: vec![txs_leg(from, &[burn]), relay_leg(to, 0, 0), txs_leg(to, &[buy])], ..BundleParams::default() }
}

/// A request to paste: the story for the last of the funded accounts, whose nonces nobody else uses.
pub fn example_request(dev: &Dev) -> Option<String> {
    let (from, to) = (dev.rollups.first()?, dev.rollups.get(1)?);
    let key = user(super::USERS - 1);
    let nonce = |rollup: &DevRollup| {
        use lockstep_simulation::StateView;
        let state = rollup.rollup.state(rollup.rollup.newest()?.header.number)?;
        Some(state.account(key.address()).ok()??.nonce)
    };
    let bundle = burn_mint_buy(
        &dev.contracts,
        &key,
        (from.chain, nonce(from)?),
        (to.chain, to.domain, nonce(to)?),
        U256::from(super::contracts::NFT_PRICE),
        U256::from(1),
    );
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "lockstep_sendBundle", "params": [bundle] });
    Some(format!("curl -s {} -H 'content-type: application/json' -d '{body}'", dev.process.url()))
}

//! What the pools and the account hold in the open blocks.

use alloy_primitives::{Address, Bytes, U256};
use alloy_sol_types::{SolCall, sol};
use lockstep_building::{BuildError, balance_of};
use lockstep_primitives::{Asset, Price};
use lockstep_simulation::{CallRequest, PendingBlock, SimulationError, call};

use crate::{
    Venue,
    pool::{Pool, narrow, wide},
};

sol! {
    function getReserves() external view returns (uint112 reserve0, uint112 reserve1, uint32 blockTimestampLast);
    function allowance(address owner, address spender) external view returns (uint256);
}

/// The gas of a call that only reads.
const READ_GAS: u64 = 1_000_000;
/// About what a swap through the router takes. What it really takes is measured before a bundle is brought.
const SWAP_GAS: u64 = 120_000;

/// A venue's pool as it is in the open block, with what the account can trade there; `None` when there is no such pool, or its
/// tokens do not answer.
///
/// # Errors
/// When the state or the EVM is broken.
pub(crate) fn read(
    block: &PendingBlock,
    venue: &Venue,
    account: Address,
    native: Price,
    quote_price: Price,
) -> Result<Option<Pool>, BuildError> {
    let engine = |error: SimulationError| BuildError::Lane { chain: venue.chain, cause: error.into() };
    let Some(output) = ask(block, venue.pair, getReservesCall {}.abi_encode().into()).map_err(engine)? else {
        return Ok(None);
    };
    let Ok(reserves) = getReservesCall::abi_decode_returns(&output) else { return Ok(None) };
    // A pool orders its tokens by their addresses.
    let (lower, higher) = (U256::from(reserves.reserve0), U256::from(reserves.reserve1));
    let (base, quote) = if venue.base < venue.quote { (lower, higher) } else { (higher, lower) };
    let mut own = [U256::ZERO; 2];
    for (own, token) in own.iter_mut().zip([venue.base, venue.quote]) {
        let Ok(balance) = balance_of(block, account, Asset::Token(token)).map_err(engine)? else { return Ok(None) };
        let request = allowanceCall { owner: account, spender: venue.router }.abi_encode();
        let Some(output) = ask(block, token, request.into()).map_err(engine)? else { return Ok(None) };
        let Ok(allowed) = allowanceCall::abi_decode_returns(&output) else { return Ok(None) };
        *own = balance.min(allowed);
    }
    let [own_base, own_quote] = own;
    let wei = U256::from(block.context().base_fee).saturating_mul(U256::from(SWAP_GAS));
    let Some(cost) = converted(wei, native, quote_price) else { return Ok(None) };
    Ok(Some(Pool { base, quote, own_base, own_quote, cost }))
}

/// An amount at one price as one at another, rounded up; `None` when the other is worth nothing.
fn converted(amount: U256, from: Price, to: Price) -> Option<U256> {
    (!to.0.is_zero()).then(|| narrow((wide(amount) * wide(from.0)).div_ceil(wide(to.0))))
}

fn ask(block: &PendingBlock, to: Address, data: Bytes) -> Result<Option<Bytes>, SimulationError> {
    let outcome = call(block.context(), block.state(), &CallRequest::read(to, data, READ_GAS))?;
    Ok(outcome.ok().filter(|outcome| outcome.succeeded()).map(|outcome| outcome.output))
}

//! Accounts and storage.

use alloy::rpc::types::{BlockId, BlockNumberOrTag};
use alloy_primitives::{Address, B256, Bytes, U64, U256};
use jsonrpsee::core::RpcResult;
use lockstep_simulation::{Account, StateView};

use super::{Eth, errors, params::Args};

/// `eth_getBalance`.
pub(crate) fn balance(eth: &Eth, args: &mut Args<'_>) -> RpcResult<U256> {
    let address: Address = args.required()?;
    let (_, state) = eth.state(args.optional()?)?;
    Ok(account(&*state, address)?.balance)
}

/// `eth_getTransactionCount`.
pub(crate) fn transaction_count(eth: &Eth, args: &mut Args<'_>) -> RpcResult<U64> {
    let address: Address = args.required()?;
    let id: Option<BlockId> = args.optional()?;
    let (_, state) = eth.state(id)?;
    let nonce = account(&*state, address)?.nonce;
    let pending = id == Some(BlockId::Number(BlockNumberOrTag::Pending));
    Ok(U64::from(if pending { eth.pending.next_nonce(eth.chain(), address, nonce) } else { nonce }))
}

/// `eth_getCode`.
pub(crate) fn code(eth: &Eth, args: &mut Args<'_>) -> RpcResult<Bytes> {
    let address: Address = args.required()?;
    let (_, state) = eth.state(args.optional()?)?;
    let account = account(&*state, address)?;
    if !account.has_code() {
        return Ok(Bytes::new());
    }
    Ok(state.code(account.code_hash).map_err(errors::internal)?.original_bytes())
}

/// `eth_getStorageAt`.
pub(crate) fn storage(eth: &Eth, args: &mut Args<'_>) -> RpcResult<B256> {
    let address: Address = args.required()?;
    let slot: U256 = args.required()?;
    let (_, state) = eth.state(args.optional()?)?;
    Ok(B256::from(state.storage(address, slot).map_err(errors::internal)?))
}

/// An account; an empty one when it does not exist.
pub(crate) fn account(state: &dyn StateView, address: Address) -> RpcResult<Account> {
    Ok(state.account(address).map_err(errors::internal)?.unwrap_or_default())
}

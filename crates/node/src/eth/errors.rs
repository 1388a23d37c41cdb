//! Errors in the codes of EIP-1474 and the words that clients look for.

use std::fmt::Display;

use alloy::sol_types::{Panic, Revert, SolError};
use alloy_primitives::{Address, Bytes, U256};
use jsonrpsee::types::{
    ErrorObjectOwned,
    error::{CALL_EXECUTION_FAILED_CODE, INTERNAL_ERROR_CODE, INVALID_PARAMS_CODE, METHOD_NOT_FOUND_CODE},
};
use lockstep_primitives::Reason;
use lockstep_provider::HISTORY_BLOCKS;

/// The EVM reverted; the error's data is the revert data.
const REVERTED_CODE: i32 = 3;
/// What is asked for does not exist.
const NOT_FOUND_CODE: i32 = -32001;
/// A bound is exceeded.
const LIMIT_CODE: i32 = -32005;

fn plain(code: i32, text: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(code, text, None::<()>)
}

/// A parameter that is malformed or not supported; the text begins with its name.
pub(crate) fn invalid_params(text: impl Into<String>) -> ErrorObjectOwned {
    plain(INVALID_PARAMS_CODE, text)
}

/// Ours, not the caller's: the state or the EVM is broken.
pub(crate) fn internal(cause: impl Display) -> ErrorObjectOwned {
    tracing::error!(%cause, "an Ethereum JSON-RPC call failed");
    plain(INTERNAL_ERROR_CODE, cause.to_string())
}

/// A method that this node does not have.
pub(crate) fn no_such_method(name: &str) -> ErrorObjectOwned {
    let text = format!("the method {name} does not exist: no filters are remembered, use eth_getLogs or eth_subscribe");
    plain(METHOD_NOT_FOUND_CODE, text)
}

/// More was asked for than there is an answer to.
pub(crate) fn limit(text: impl Into<String>) -> ErrorObjectOwned {
    plain(LIMIT_CODE, text)
}

/// No such block.
pub(crate) fn block_not_found(block: impl Display) -> ErrorObjectOwned {
    plain(NOT_FOUND_CODE, format!("block not found: {block}"))
}

/// The block is there, the state after it no longer is.
pub(crate) fn state_gone(number: u64) -> ErrorObjectOwned {
    let text = format!("the state after block {number} is gone: states are kept for the newest {HISTORY_BLOCKS} blocks only");
    plain(CALL_EXECUTION_FAILED_CODE, text)
}

/// The call cannot even begin.
pub(crate) fn refused(reason: &Reason) -> ErrorObjectOwned {
    plain(CALL_EXECUTION_FAILED_CODE, reason.to_string())
}

/// The request's fees contradict each other or the block.
pub(crate) fn fees(text: impl Into<String>) -> ErrorObjectOwned {
    plain(CALL_EXECUTION_FAILED_CODE, text)
}

/// The caller does not have the value that it sends.
pub(crate) fn no_funds_for_value(from: Address, balance: U256, value: U256) -> ErrorObjectOwned {
    let text = format!("insufficient funds for transfer: {from} has {balance} wei and sends {value}");
    plain(CALL_EXECUTION_FAILED_CODE, text)
}

/// The caller cannot pay for the gas that the call needs at the fee cap that the request names.
pub(crate) fn no_funds_for_gas(gas: u64) -> ErrorObjectOwned {
    let text = format!("insufficient funds for gas * price + value: the balance pays for {gas} gas, which is not enough");
    plain(CALL_EXECUTION_FAILED_CODE, text)
}

/// The call needs more gas than it may have.
pub(crate) fn gas_exceeded(gas: u64) -> ErrorObjectOwned {
    plain(CALL_EXECUTION_FAILED_CODE, format!("gas required exceeds allowance ({gas})"))
}

/// The EVM halted.
pub(crate) fn halted(cause: &str) -> ErrorObjectOwned {
    let text = if cause.starts_with("OutOfGas") { format!("out of gas: {cause}") } else { format!("the call halted: {cause}") };
    plain(CALL_EXECUTION_FAILED_CODE, text)
}

/// The call reverted.
pub(crate) fn reverted(data: &Bytes) -> ErrorObjectOwned {
    let text = match revert_reason(data) {
        Some(reason) if !reason.is_empty() => format!("execution reverted: {reason}"),
        _ => "execution reverted".to_owned(),
    };
    ErrorObjectOwned::owned(REVERTED_CODE, text, Some(data))
}

/// The text of `Error(string)`, or the meaning of `Panic(uint256)` in geth's words.
fn revert_reason(data: &[u8]) -> Option<String> {
    if let Ok(revert) = Revert::abi_decode(data) {
        return Some(revert.reason);
    }
    Panic::abi_decode(data).ok().map(|panic| panic.as_geth_str().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reverts_say_why() {
        let data = Bytes::from(Revert::from("too late").abi_encode());
        let error = reverted(&data);
        assert_eq!((error.code(), error.message()), (3, "execution reverted: too late"));
        assert_eq!(error.data().unwrap().get(), format!("\"{data}\""));
        let overflow = Bytes::from(Panic::from(0x11_u64).abi_encode());
        assert!(reverted(&overflow).message().starts_with("execution reverted: "));
        assert_eq!(reverted(&Bytes::from_static(&[1, 2, 3, 4])).message(), "execution reverted");
    }
}

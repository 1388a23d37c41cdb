//! Errors as clients see them: a JSON-RPC code, a text, and data with a stable reason and its place.

use alloy_primitives::U64;
use jsonrpsee::types::ErrorObjectOwned;
use lockstep_primitives::{Reason, Rejection};
use serde::{Deserialize, Serialize};

/// JSON-RPC codes (EIP-1474).
pub mod codes {
    /// The parameters are malformed.
    pub const INVALID_PARAMS: i32 = -32602;
    /// What is asked for does not exist, or is not the asker's to see.
    pub const NOT_FOUND: i32 = -32001;
    /// Temporarily not to be had.
    pub const UNAVAILABLE: i32 = -32002;
    /// The state refuses the bundle.
    pub const REJECTED: i32 = -32003;
    /// A bound is exceeded.
    pub const LIMIT: i32 = -32005;
    /// The signature of the request is wrong.
    pub const UNAUTHORIZED: i32 = -32006;
}

/// The `data` of an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RpcError {
    /// Stable code of the reason.
    pub reason: String,
    /// The rollup it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollup: Option<U64>,
    /// Index of the leg in the bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leg: Option<usize>,
    /// Index of the transaction in the leg.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// What to do about it.
    pub hint: String,
}

/// The error that answers a refused bundle.
pub fn from_rejection(rejection: &Rejection) -> ErrorObjectOwned {
    let place = rejection.place;
    let data = RpcError {
        reason: rejection.reason.code().to_owned(),
        rollup: place.chain.map(U64::from),
        leg: place.leg,
        index: place.index,
        hint: rejection.reason.hint().to_owned(),
    };
    ErrorObjectOwned::owned(code_of(&rejection.reason), rejection.to_string(), Some(data))
}

const fn code_of(reason: &Reason) -> i32 {
    match reason {
        Reason::TooManyLegs { .. }
        | Reason::TooManyTransactions { .. }
        | Reason::TooManyRequirements { .. }
        | Reason::TooManyAuthorizations { .. }
        | Reason::TooMuchGas { .. }
        | Reason::TooLarge { .. }
        | Reason::PoolFull { .. }
        | Reason::SenderFull { .. }
        | Reason::SenderGas { .. } => codes::LIMIT,
        Reason::NonceTooLow { .. }
        | Reason::NonceTooHigh { .. }
        | Reason::InsufficientFunds { .. }
        | Reason::ReplacementUnderpriced(_)
        | Reason::ReplacementNonceTooLow { .. }
        | Reason::TooLate(_)
        | Reason::PastBlock { .. }
        | Reason::PastTimestamp { .. }
        | Reason::Reverted { .. }
        | Reason::Halted(_) => codes::REJECTED,
        Reason::ReplacementNeedsSigner => codes::UNAUTHORIZED,
        _ => codes::INVALID_PARAMS,
    }
}

/// An error about no bundle in particular.
pub(crate) fn plain(code: i32, reason: &str, text: impl Into<String>, hint: &str) -> ErrorObjectOwned {
    let data = RpcError { reason: reason.to_owned(), rollup: None, leg: None, index: None, hint: hint.to_owned() };
    ErrorObjectOwned::owned(code, text, Some(data))
}

/// Malformed parameters.
pub fn invalid_params(reason: &str, text: impl Into<String>, hint: &str) -> ErrorObjectOwned {
    plain(codes::INVALID_PARAMS, reason, text, hint)
}

/// The request is not signed, or not by whom it has to be.
pub fn unauthorized(reason: &str, text: impl Into<String>, hint: &str) -> ErrorObjectOwned {
    plain(codes::UNAUTHORIZED, reason, text, hint)
}

/// Nothing there.
pub fn not_found(text: impl Into<String>) -> ErrorObjectOwned {
    plain(codes::NOT_FOUND, "not_found", text, "check the number or hash; a signed bundle is told of to its signer only")
}

/// Not to be had now.
pub fn unavailable(reason: &str, text: impl Into<String>) -> ErrorObjectOwned {
    plain(codes::UNAVAILABLE, reason, text, "try again; /readyz tells what is degraded")
}

//! Signatures that are not there yet.

use alloy_primitives::{Address, B256};

/// A signature that nobody has made yet, and the address that will have made it.
///
/// While a list is a draft, evidence that others sign is not there. For the transaction that carries it, `ecrecover`
/// answers `signer` for exactly this (digest, r, s), so that the transaction runs as it will once it is sealed. Sealed
/// lists are verified without stand-ins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandIn {
    /// The signed digest.
    pub digest: B256,
    /// Placeholder r.
    pub r: B256,
    /// Placeholder s.
    pub s: B256,
    /// Whose signature it stands for.
    pub signer: Address,
}

//! What a transaction is called before it is signed.

use alloy_primitives::{Address, B256, keccak256};

/// What identifies a transaction on its rollup for ever, whether it is signed already or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TxId {
    /// The account that signs it and the nonce that it takes.
    Signed {
        /// The account.
        signer: Address,
        /// The nonce.
        nonce: u64,
    },
    /// The hash of a deposit, which nobody signs.
    Deposit(B256),
}

impl TxId {
    /// 32 bytes in its place: keccak-256 of the signer and eight big-endian bytes of the nonce, or the deposit's hash.
    pub fn digest(&self) -> B256 {
        match self {
            Self::Signed { signer, nonce } => keccak256([signer.as_slice(), &nonce.to_be_bytes()].concat()),
            Self::Deposit(hash) => *hash,
        }
    }
}

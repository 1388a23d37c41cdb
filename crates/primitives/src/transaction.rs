//! A signed transaction as users send it: decoded once, its signer recovered once.

use std::sync::OnceLock;

use alloy_consensus::{Transaction, TxEnvelope, crypto::secp256k1, transaction::SignerRecoverable};
use alloy_eips::{
    eip2718::{Decodable2718, Encodable2718},
    eip7702::{RecoveredAuthority, RecoveredAuthorization},
};
use alloy_primitives::{Address, B256, Bytes, U256};

use crate::ChainId;

/// A decoded EIP-2718 transaction with its recovered signer.
///
/// Holds the exact bytes that were received, because those are what goes into a block and what an OP-stack rollup
/// prices its L1 data fee on.
#[derive(Clone, Debug)]
pub struct SignedTx {
    envelope: TxEnvelope,
    raw: Bytes,
    hash: B256,
    signer: Address,
    /// Recovered when they are first asked for: decoding is free for strangers, so it must not cost a recovery an entry.
    authorizations: OnceLock<Vec<RecoveredAuthorization>>,
    /// Estimated once, when it is first asked for.
    compressed: OnceLock<u64>,
}

/// The bytes and the signer are all there is: the rest follows from them, whether it was asked for already or not.
impl PartialEq for SignedTx {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw && self.signer == other.signer
    }
}

impl Eq for SignedTx {}

/// Why bytes are not a transaction that a user may send.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TxDecodeError {
    /// The bytes are not one whole EIP-2718 transaction.
    #[error("{0}")]
    Undecodable(String),
    /// Type 0x7e: only the rollup's own derivation creates deposits.
    #[error("deposit transactions come from the rollup's derivation, never from users")]
    Deposit,
    /// Type 0x03: blob transactions are refused by OP-stack rollups and carry a sidecar that lists do not transport.
    #[error("blob transactions are not accepted")]
    Blob,
    /// No signer can be recovered from the signature (bad r/s, or s in the upper half, EIP-2).
    #[error("no signer can be recovered from the signature")]
    Signature,
}

impl SignedTx {
    /// Decodes `raw` and recovers its signer.
    ///
    /// # Errors
    /// Deposits (0x7e) and blob transactions (0x03) are refused by name, trailing bytes and unknown types as undecodable.
    pub fn decode(raw: Bytes) -> Result<Self, TxDecodeError> {
        match raw.first() {
            Some(0x7e) => return Err(TxDecodeError::Deposit),
            Some(0x03) => return Err(TxDecodeError::Blob),
            _ => {}
        }
        Self::decode_any(raw)
    }

    /// Decodes any Ethereum transaction, blob transactions in their block form included, as recorded blocks hold them.
    ///
    /// # Errors
    /// As [`SignedTx::decode`], but for the refusals by type.
    pub fn decode_any(raw: Bytes) -> Result<Self, TxDecodeError> {
        let mut rest = raw.as_ref();
        let envelope = TxEnvelope::decode_2718(&mut rest).map_err(|error| TxDecodeError::Undecodable(error.to_string()))?;
        if !rest.is_empty() {
            return Err(TxDecodeError::Undecodable(format!("{} bytes follow the transaction", rest.len())));
        }
        let signer = envelope.recover_signer().map_err(|_| TxDecodeError::Signature)?;
        Ok(Self {
            hash: *envelope.tx_hash(),
            envelope,
            raw,
            signer,
            authorizations: OnceLock::new(),
            compressed: OnceLock::new(),
        })
    }

    /// A transaction whose signer is known without recovering it: one that was signed here, or a draft whose signature
    /// is only a stand-in.
    pub fn from_parts(envelope: TxEnvelope, signer: Address) -> Self {
        let raw = Bytes::from(envelope.encoded_2718());
        Self { hash: *envelope.tx_hash(), envelope, raw, signer, authorizations: OnceLock::new(), compressed: OnceLock::new() }
    }

    /// The decoded transaction.
    pub const fn envelope(&self) -> &TxEnvelope {
        &self.envelope
    }

    /// The EIP-2718 bytes.
    pub const fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The estimated compressed size of the bytes, as `estimate` says when it is first asked for. There is one such estimate (OP
    /// stack, Fjord); it takes as long as a plain transfer does to execute.
    pub fn compressed_size(&self, estimate: impl FnOnce(&[u8]) -> u64) -> u64 {
        *self.compressed.get_or_init(|| estimate(&self.raw))
    }

    /// Keccak-256 of the EIP-2718 bytes.
    pub const fn hash(&self) -> B256 {
        self.hash
    }

    /// The recovered signer.
    pub const fn signer(&self) -> Address {
        self.signer
    }

    /// The chain id the signature binds to; `None` for a legacy transaction without replay protection (EIP-155).
    pub fn chain_id(&self) -> Option<u64> {
        self.envelope.chain_id()
    }

    /// The signer's nonce.
    pub fn nonce(&self) -> u64 {
        self.envelope.nonce()
    }

    /// The gas limit.
    pub fn gas_limit(&self) -> u64 {
        self.envelope.gas_limit()
    }

    /// The authorization list (EIP-7702), each entry with whoever signed it; empty for other types. Recovered once.
    pub fn authorizations(&self) -> &[RecoveredAuthorization] {
        self.authorizations.get_or_init(|| {
            let list = self.envelope.authorization_list().unwrap_or_default();
            list.iter()
                .map(|signed| {
                    let signer = signed
                        .signature()
                        .ok()
                        .and_then(|signature| secp256k1::recover_signer(&signature, signed.signature_hash()).ok());
                    let authority = signer.map_or(RecoveredAuthority::Invalid, RecoveredAuthority::Valid);
                    RecoveredAuthorization::new_unchecked((**signed).clone(), authority)
                })
                .collect()
        })
    }

    /// The accounts that authorize something on `chain` by this transaction, each with the nonce that its authorization uses
    /// up, in list order. Entries that no state can make valid there are left out: signed for another chain, by nobody, or
    /// with the last nonce of all (EIP-7702).
    pub fn authorities(&self, chain: ChainId) -> impl Iterator<Item = (Address, u64)> {
        self.authorizations().iter().filter_map(move |authorization| {
            let here = authorization.chain_id.is_zero() || authorization.chain_id == U256::from(chain);
            let authority = authorization.authority().filter(|_| here && authorization.nonce < u64::MAX)?;
            Some((authority, authorization.nonce))
        })
    }

    /// The most that execution gas and the transferred value can cost the signer, in wei; `None` on overflow.
    pub fn max_cost(&self) -> Option<U256> {
        let gas = U256::from(self.gas_limit()).checked_mul(U256::from(self.envelope.max_fee_per_gas()))?;
        gas.checked_add(self.envelope.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::hex;

    #[test]
    fn refuses_by_type_and_by_trailing_bytes() {
        assert_eq!(SignedTx::decode(Bytes::from_static(&[0x7e, 0xc0])), Err(TxDecodeError::Deposit));
        assert_eq!(SignedTx::decode(Bytes::from_static(&[0x03, 0xc0])), Err(TxDecodeError::Blob));
        assert!(matches!(SignedTx::decode(Bytes::new()), Err(TxDecodeError::Undecodable(_))));
        // The EIP-155 example transaction.
        let raw = hex!(
            "f86c098504a817c800825208943535353535353535353535353535353535353535880de0b6b3a76400008025a028ef61340bd939bc2195fe537567866003e1a15d3c71ff63e1590620aa636276a067cbe9d8997f761aecb703304b3800ccf555c9f3dc64214b297fb1966a3b6d83"
        );
        let tx = SignedTx::decode(Bytes::copy_from_slice(&raw)).unwrap();
        assert_eq!(tx.signer(), alloy_primitives::address!("9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"));
        assert_eq!((tx.chain_id(), tx.nonce()), (Some(1), 9));
        let mut longer = raw.to_vec();
        longer.push(0);
        assert!(
            matches!(SignedTx::decode(longer.into()), Err(TxDecodeError::Undecodable(text)) if text.contains("1 bytes follow"))
        );
    }
}

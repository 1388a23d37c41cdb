//! Signatures recovered by the C library instead of the one in Rust that signet-sim brings.

use std::sync::Arc;

use alloy_consensus::crypto::{CryptoProvider, RecoveryError, install_default_provider};
use alloy_primitives::{Address, keccak256};
use secp256k1::{
    Message, PublicKey, SECP256K1,
    ecdsa::{RecoverableSignature, RecoveryId, Signature},
};

use crate::Failed;

/// From here on the C library recovers.
///
/// # Errors
/// When another library has been installed before.
pub(crate) fn use_c_library() -> Result<(), Failed> {
    install_default_provider(Arc::new(CLibrary)).map_err(|error| error.to_string().into())
}

/// libsecp256k1.
struct CLibrary;

impl CryptoProvider for CLibrary {
    fn recover_signer_unchecked(&self, signature: &[u8; 65], digest: &[u8; 32]) -> Result<Address, RecoveryError> {
        let id = RecoveryId::try_from(i32::from(signature[64])).map_err(RecoveryError::from_source)?;
        let signature = RecoverableSignature::from_compact(&signature[..64], id).map_err(RecoveryError::from_source)?;
        let key = SECP256K1.recover_ecdsa(Message::from_digest(*digest), &signature).map_err(RecoveryError::from_source)?;
        Ok(address(&key))
    }

    fn verify_and_compute_signer_unchecked(
        &self,
        key: &[u8; 65],
        signature: &[u8; 64],
        digest: &[u8; 32],
    ) -> Result<Address, RecoveryError> {
        let key = PublicKey::from_slice(key).map_err(RecoveryError::from_source)?;
        let signature = Signature::from_compact(signature).map_err(RecoveryError::from_source)?;
        SECP256K1.verify_ecdsa(Message::from_digest(*digest), &signature, &key).map_err(RecoveryError::from_source)?;
        Ok(address(&key))
    }
}

/// The last 20 bytes of the hash of the key's coordinates, without the byte that says that both are there.
fn address(key: &PublicKey) -> Address {
    Address::from_slice(&keccak256(&key.serialize_uncompressed()[1..])[12..])
}

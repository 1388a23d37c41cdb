//! EIP-712 signing: one domain for every Lockstep message.

use alloy_primitives::{Address, B256, Signature};
use alloy_sol_types::{Eip712Domain, SolStruct, eip712_domain, sol};

mod eip712 {
    use super::sol;

    sol! {
        struct Subscription {
            string kind;
            uint64 expiresAt;
        }
    }
}

/// The EIP-712 digest with which a signer asks, over a WebSocket, to hear of its own bundles until `expires_at` (Unix
/// seconds). A socket has no request body that a header could sign.
pub fn subscription_digest(kind: &str, expires_at: u64) -> B256 {
    digest(&eip712::Subscription { kind: kind.to_owned(), expiresAt: expires_at })
}

/// A 65-byte `r || s || v` signature.
pub type SignatureBytes = [u8; 65];

/// A signature that no address made, or that has not 65 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature is not 65 bytes r || s || v of a recoverable secp256k1 signature")]
pub struct InvalidSignature;

/// The EIP-712 domain of Lockstep messages: name and version only, because a message speaks of several chains and names
/// them in its fields.
pub const fn domain() -> Eip712Domain {
    eip712_domain! { name: "Lockstep", version: "1", }
}

/// The digest that is signed for a message.
pub fn digest<T: SolStruct>(message: &T) -> B256 {
    message.eip712_signing_hash(&domain())
}

/// The address that signed `digest`.
///
/// # Errors
/// When the signature is malformed, has a high s (EIP-2) or recovers no key.
pub fn recover(digest: B256, signature: &[u8]) -> Result<Address, InvalidSignature> {
    let signature = Signature::try_from(signature).map_err(|_| InvalidSignature)?;
    if signature.normalize_s().is_some() {
        return Err(InvalidSignature);
    }
    alloy_consensus::crypto::secp256k1::recover_signer(&signature, digest).map_err(|_| InvalidSignature)
}

//! `X-Flashbots-Signature`: who sends a request.
//!
//! The header is `<address>:<signature>`, the signature an EIP-191 personal message over the 66 characters of the
//! 0x-prefixed lowercase hex of keccak-256 of the exact body bytes.

use alloy_primitives::{Address, B256, Signature, eip191_hash_message, hex, keccak256};

/// The header's name.
pub const SIGNATURE_HEADER: &str = "x-flashbots-signature";

/// The verified signer of a request, in the request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signer(pub Address);

/// Why a header is not a signature of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not `<address>:<signature>`.
    #[error("the header is not <0x address>:<0x signature of 65 bytes>")]
    Malformed,
    /// Another key signed, or another body was signed.
    #[error("the signature is not by the header's address over this body")]
    WrongSigner,
}

/// The digest that is signed for a body.
fn digest(body: &[u8]) -> B256 {
    eip191_hash_message(hex::encode_prefixed(keccak256(body)).as_bytes())
}

/// Verifies a header value over the body that was received.
///
/// # Errors
/// When it is malformed or the signature is not by its address.
pub fn verify_header(header: &str, body: &[u8]) -> Result<Signer, IdentityError> {
    let (address, signature) = header.split_once(':').ok_or(IdentityError::Malformed)?;
    let address: Address = address.trim().parse().map_err(|_| IdentityError::Malformed)?;
    let bytes = hex::decode(signature.trim()).map_err(|_| IdentityError::Malformed)?;
    // Accepts v of 0, 1, 27 and 28.
    let signature = Signature::try_from(bytes.as_slice()).map_err(|_| IdentityError::Malformed)?;
    let signer =
        alloy_consensus::crypto::secp256k1::recover_signer(&signature, digest(body)).map_err(|_| IdentityError::WrongSigner)?;
    if signer == address { Ok(Signer(signer)) } else { Err(IdentityError::WrongSigner) }
}

/// The header value that `address` sends with a body; `sign` signs a digest.
pub fn sign_body(address: Address, body: &[u8], sign: impl FnOnce(B256) -> Signature) -> String {
    format!("{address}:{}", hex::encode_prefixed(sign(digest(body)).as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::b256;

    #[test]
    fn the_digest_is_over_the_hex_text_of_the_body_hash() {
        let body = br#"{"jsonrpc":"2.0","method":"eth_sendBundle","params":[],"id":1}"#;
        assert_eq!(digest(body), b256!("b13ca86bf039917887d231800a84f5133f5cd974744be067b9f3a5cfd21f5913"));
        assert_eq!(verify_header("nonsense", body), Err(IdentityError::Malformed));
        assert_eq!(verify_header(&format!("{}:0x00", Address::ZERO), body), Err(IdentityError::Malformed));
    }
}

//! Keys and what they sign.

use std::sync::Arc;

use alloy::signers::{
    SignerSync,
    local::{PrivateKeySigner, Secp256k1Signer},
};
use alloy_primitives::{Address, B256, Bytes, Signature};

/// A key of this process.
#[derive(Clone)]
pub struct Key {
    signer: PrivateKeySigner,
    /// The same key in libsecp256k1, which takes a third of the time: sealing signs every relay. Both choose the nonce by
    /// RFC 6979 and the lower s, so that signatures are the same to the last bit.
    quick: Arc<Secp256k1Signer>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.address())
    }
}

/// Text that is no private key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a 32-byte private key in hex")]
pub struct InvalidKey;

impl Key {
    /// Reads a private key in hex.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        text.trim().parse().map(Self::of).map_err(|_| InvalidKey)
    }

    /// The key whose number is the hash of a name: for `dev` only, where every key is public.
    ///
    /// # Panics
    /// Never in practice: a hash is a valid private key but for one in 2^128.
    pub fn of_name(name: &str) -> Self {
        let seed = alloy_primitives::keccak256([b"lockstep dev: ", name.as_bytes()].concat());
        #[expect(clippy::expect_used, reason = "a hash that is no private key has never been seen")]
        let signer = PrivateKeySigner::from_bytes(&seed).expect("a hash is a private key");
        Self::of(signer)
    }

    fn of(signer: PrivateKeySigner) -> Self {
        let quick = Arc::new(signer.to_secp256k1());
        Self { signer, quick }
    }

    /// The address.
    pub fn address(&self) -> Address {
        self.signer.address()
    }

    /// The private key in hex, for `dev` to print.
    pub fn reveal(&self) -> String {
        alloy_primitives::hex::encode_prefixed(self.signer.to_bytes())
    }

    /// The signer itself.
    pub const fn signer(&self) -> &PrivateKeySigner {
        &self.signer
    }

    /// Signs a digest.
    ///
    /// # Panics
    /// Never: a local key signs any 32 bytes.
    pub fn sign(&self, digest: B256) -> Signature {
        #[expect(clippy::expect_used, reason = "signing 32 bytes with a key in memory cannot fail")]
        self.quick.sign_hash_sync(&digest).expect("a local key signs any digest")
    }

    /// Signs a digest, as 65 bytes r || s || v.
    pub fn sign_bytes(&self, digest: B256) -> Bytes {
        Bytes::copy_from_slice(&self.sign(digest).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::keccak256;
    use lockstep_primitives::recover;

    use super::*;

    #[test]
    fn both_libraries_make_the_same_signatures_to_the_last_bit() {
        for name in ["builder", "market", "sequencer of 1"] {
            let key = Key::of_name(name);
            assert_eq!(key.quick.address(), key.address());
            for number in 0..200_u64 {
                let digest = keccak256(number.to_be_bytes());
                let signature = key.sign(digest);
                assert_eq!(signature, key.signer.sign_hash_sync(&digest).unwrap(), "{name}, digest {number}");
                assert_eq!(signature, key.sign(digest), "equal digests get equal signatures");
                assert_eq!(recover(digest, &signature.as_bytes()), Ok(key.address()));
            }
        }
    }

    #[test]
    fn a_key_that_is_read_signs_like_the_one_that_was_written() {
        let key = Key::of_name("builder");
        let read = Key::parse(&format!(" {}\n", key.reveal())).unwrap();
        let digest = keccak256(b"digest");
        assert_eq!((read.address(), read.sign_bytes(digest)), (key.address(), key.sign_bytes(digest)));
        assert_eq!(Key::parse("0x00").err(), Some(InvalidKey));
    }
}

//! Keys and what they sign.

use alloy::signers::{SignerSync, local::PrivateKeySigner};
use alloy_primitives::{Address, B256, Bytes, Signature};

/// A key of this process.
#[derive(Clone)]
pub struct Key(PrivateKeySigner);

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
        text.trim().parse().map(Self).map_err(|_| InvalidKey)
    }

    /// The key whose number is the hash of a name: for `dev` only, where every key is public.
    ///
    /// # Panics
    /// Never in practice: a hash is a valid private key but for one in 2^128.
    pub fn of_name(name: &str) -> Self {
        let seed = alloy_primitives::keccak256([b"lockstep dev: ", name.as_bytes()].concat());
        #[expect(clippy::expect_used, reason = "a hash that is no private key has never been seen")]
        Self(PrivateKeySigner::from_bytes(&seed).expect("a hash is a private key"))
    }

    /// The address.
    pub fn address(&self) -> Address {
        self.0.address()
    }

    /// The private key in hex, for `dev` to print.
    pub fn reveal(&self) -> String {
        alloy_primitives::hex::encode_prefixed(self.0.to_bytes())
    }

    /// The signer itself.
    pub const fn signer(&self) -> &PrivateKeySigner {
        &self.0
    }

    /// Signs a digest.
    ///
    /// # Panics
    /// Never: a local key signs any 32 bytes.
    pub fn sign(&self, digest: B256) -> Signature {
        #[expect(clippy::expect_used, reason = "signing 32 bytes with a key in memory cannot fail")]
        self.0.sign_hash_sync(&digest).expect("a local key signs any digest")
    }

    /// Signs a digest, as 65 bytes r || s || v.
    pub fn sign_bytes(&self, digest: B256) -> Bytes {
        Bytes::copy_from_slice(&self.sign(digest).as_bytes())
    }
}

//! Any number of users, whose keys are hashes of their numbers.

use alloy_consensus::crypto::secp256k1;
use alloy_primitives::{Address, B256, Signature, keccak256};
use rayon::prelude::*;

use crate::Failed;

/// A user.
#[derive(Clone, Debug)]
pub(crate) struct User {
    secret: B256,
    pub(crate) address: Address,
}

impl User {
    fn of(number: usize) -> Result<Self, Failed> {
        let secret = keccak256(format!("lockstep benches user {number}"));
        let signature = signed(secret, B256::ZERO)?;
        let address = secp256k1::recover_signer(&signature, B256::ZERO).map_err(|error| error.to_string())?;
        Ok(Self { secret, address })
    }

    pub(crate) fn sign(&self, digest: B256) -> Result<Signature, Failed> {
        signed(self.secret, digest)
    }
}

fn signed(secret: B256, digest: B256) -> Result<Signature, Failed> {
    secp256k1::sign_message(secret, digest).map_err(|error| error.to_string().into())
}

/// The first users.
pub(crate) fn derive(count: usize) -> Result<Vec<User>, Failed> {
    (0..count).into_par_iter().map(User::of).collect()
}

//! Keys, terms and bids for the tests.

use std::collections::BTreeMap;

use alloy::signers::{SignerSync, local::PrivateKeySigner};
use alloy_primitives::{Address, B256, U256};
use lockstep_market::Terms;
use lockstep_primitives::{Bid, ChainId};

/// A key that is the same in each run.
pub(crate) fn key(seed: u8) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::repeat_byte(seed)).expect("a small scalar is a key")
}

pub(crate) fn sign(key: &PrivateKeySigner, digest: B256) -> [u8; 65] {
    key.sign_hash_sync(&digest).expect("a local key always signs").as_bytes()
}

/// The default proposer of a rollup.
pub(crate) fn default_proposer(chain: ChainId) -> Address {
    Address::left_padding_from(&(0xdef0_0000 + chain).to_be_bytes())
}

pub(crate) fn terms(reserves: &[(ChainId, u64)]) -> BTreeMap<ChainId, Terms> {
    let terms = |(chain, reserve): &(ChainId, u64)| {
        (*chain, Terms { reserve: U256::from(*reserve), default_proposer: default_proposer(*chain) })
    };
    reserves.iter().map(terms).collect()
}

pub(crate) fn bid(rollups: &[ChainId], amount: u64) -> Bid {
    Bid { slot: 7, rollups: rollups.iter().copied().collect(), amount: U256::from(amount), exclusive: None, nonce: 1 }
}

//! Bundles, put together leg by leg.

use std::sync::Arc;

use alloy_primitives::{Address, U256};
use lockstep_building::Candidate;
use lockstep_primitives::{Asset, BlockRange, Bundle, ChainId, LandedRef, Leg, LegTx, Relay, Requirement, RevertMode, SignedTx};

/// A bundle with no legs yet.
pub fn bundle() -> Recipe {
    Recipe::default()
}

/// A bundle while it is put together.
#[derive(Clone, Debug, Default)]
pub struct Recipe(Bundle);

impl Recipe {
    /// Adds a leg of one transaction that has to succeed.
    pub fn tx(self, chain: ChainId, tx: Arc<SignedTx>) -> Self {
        self.txs(chain, [(tx, RevertMode::Fail)])
    }

    /// Adds a leg of transactions in their revert modes.
    pub fn txs(mut self, chain: ChainId, txs: impl IntoIterator<Item = (Arc<SignedTx>, RevertMode)>) -> Self {
        let txs = txs.into_iter().map(|(tx, mode)| LegTx { tx, mode }).collect();
        self.0.legs.push(Leg::Txs { chain, txs });
        self
    }

    /// Adds a leg that delivers a message of an earlier leg.
    pub fn relay(mut self, chain: ChainId, leg: usize, message: usize) -> Self {
        self.0.legs.push(Leg::Relay { chain, relay: Relay::Emitted { leg, message } });
        self
    }

    /// Adds a leg that delivers a message that landed before.
    pub fn relay_landed(mut self, chain: ChainId, landed: LandedRef) -> Self {
        self.0.legs.push(Leg::Relay { chain, relay: Relay::Landed(landed) });
        self
    }

    /// Bounds the blocks on a rollup, both ends inclusive.
    pub fn blocks(mut self, chain: ChainId, min: u64, max: u64) -> Self {
        self.0.blocks.insert(chain, BlockRange { min, max });
        self
    }

    /// Bounds the timestamps of all its blocks, in seconds, both ends inclusive.
    pub fn timestamps(mut self, min: Option<u64>, max: Option<u64>) -> Self {
        self.0.min_timestamp = min;
        self.0.max_timestamp = max;
        self
    }

    /// Requires that a balance rises by at least that much.
    pub fn require(mut self, chain: ChainId, account: Address, asset: Asset, min_increase: U256) -> Self {
        self.0.require.push(Requirement { chain, account, asset, min_increase });
        self
    }

    /// The bundle.
    pub fn build(self) -> Bundle {
        self.0
    }
}

/// The bundles as candidates, admitted in this order.
pub fn candidates(bundles: impl IntoIterator<Item = Bundle>) -> Vec<Candidate> {
    bundles
        .into_iter()
        .zip(0..)
        .map(|(bundle, sequence)| Candidate { hash: bundle.hash(), bundle: Arc::new(bundle), sequence })
        .collect()
}

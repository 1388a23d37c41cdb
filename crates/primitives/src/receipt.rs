//! What a builder signs about how a bundle ended.

use std::fmt;

use alloy_primitives::B256;
use alloy_sol_types::sol;

use crate::{BundleState, ChainId, Guarantee, SlotNumber, digest};

mod eip712 {
    use super::sol;

    sol! {
        struct BundleReceipt {
            bytes32 bundle;
            string outcome;
            uint64[] slot;
            string level;
            LandedTransaction[] transactions;
            string reason;
            uint64 atMs;
        }

        struct LandedTransaction {
            uint64 chainId;
            uint64 leg;
            bytes32 hash;
            bytes32 blockHash;
            uint64 blockNumber;
            uint64 index;
            bool success;
        }
    }
}

/// How a bundle ended. Each ends in exactly one of these ways, though a reorg can make it another one later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// All of its legs are on their chains.
    Landed,
    /// None of it is on any chain.
    NotLanded,
    /// Some legs are on their chains and others are not: a breach of what was promised.
    Partial,
    /// A reorg took it, or a part of it, off its chains.
    Reorged,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Landed, Self::NotLanded, Self::Partial, Self::Reorged];

    /// Of a bundle in a state; `None` while it may still land.
    pub const fn of(state: BundleState) -> Option<Self> {
        match state {
            BundleState::Landed => Some(Self::Landed),
            BundleState::Breached => Some(Self::Partial),
            BundleState::Reorged => Some(Self::Reorged),
            BundleState::Rejected
            | BundleState::Replaced
            | BundleState::Cancelled
            | BundleState::Expired
            | BundleState::Dropped => Some(Self::NotLanded),
            BundleState::Received
            | BundleState::Simulated
            | BundleState::Pending
            | BundleState::Proposed
            | BundleState::Committed
            | BundleState::Published => None,
        }
    }

    /// What is signed, and what answers call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Landed => "landed",
            Self::NotLanded => "not_landed",
            Self::Partial => "partial",
            Self::Reorged => "reorged",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A transaction of a bundle in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LandedTransaction {
    /// The rollup.
    pub chain: ChainId,
    /// Which leg of the bundle it is of, from 0.
    pub leg: u64,
    /// Its hash.
    pub hash: B256,
    /// The block's hash.
    pub block_hash: B256,
    /// The block's number.
    pub block_number: u64,
    /// Its index in the block.
    pub index: u64,
    /// Whether it succeeded.
    pub success: bool,
}

/// A builder's word on how a bundle ended, as it saw the chains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleReceipt {
    /// The Lockstep hash.
    pub bundle: B256,
    /// How it ended.
    pub outcome: Outcome,
    /// The slot of its last step that belongs to one.
    pub slot: Option<SlotNumber>,
    /// How far the promise about it reached.
    pub level: Guarantee,
    /// What of it is in blocks, in the order of its legs.
    pub transactions: Vec<LandedTransaction>,
    /// Stable code of the reason why it did not land, or not whole; empty where there is none.
    pub reason: String,
    /// When that was so, in Unix milliseconds.
    pub at_ms: u64,
}

impl BundleReceipt {
    /// The EIP-712 digest that the builder signs.
    pub fn digest(&self) -> B256 {
        let transactions = self.transactions.iter().map(|tx| eip712::LandedTransaction {
            chainId: tx.chain,
            leg: tx.leg,
            hash: tx.hash,
            blockHash: tx.block_hash,
            blockNumber: tx.block_number,
            index: tx.index,
            success: tx.success,
        });
        digest(&eip712::BundleReceipt {
            bundle: self.bundle,
            outcome: self.outcome.as_str().to_owned(),
            slot: self.slot.into_iter().collect(),
            level: self.level.as_str().to_owned(),
            transactions: transactions.collect(),
            reason: self.reason.clone(),
            atMs: self.at_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_state_is_an_outcome_or_still_open() {
        for state in BundleState::ALL {
            let over = state.is_final() || state == BundleState::Reorged;
            assert_eq!(Outcome::of(state).is_some(), over, "{state}");
        }
        let names: BTreeSet<&str> = Outcome::ALL.into_iter().map(Outcome::as_str).collect();
        assert_eq!(names.len(), Outcome::ALL.len());
    }

    #[test]
    fn a_receipt_is_signed_over_all_that_it_says() {
        let tx = LandedTransaction {
            chain: 1,
            leg: 0,
            hash: B256::ZERO,
            block_hash: B256::ZERO,
            block_number: 1,
            index: 0,
            success: true,
        };
        let base = BundleReceipt {
            bundle: B256::ZERO,
            outcome: Outcome::Landed,
            slot: None,
            level: Guarantee::G0,
            transactions: vec![tx],
            reason: String::new(),
            at_ms: 1,
        };
        let one = B256::with_last_byte(1);
        let with = |tx| BundleReceipt { transactions: vec![tx], ..base.clone() };
        let variants = [
            base.clone(),
            BundleReceipt { bundle: one, ..base.clone() },
            BundleReceipt { outcome: Outcome::Partial, ..base.clone() },
            BundleReceipt { slot: Some(0), ..base.clone() },
            BundleReceipt { slot: Some(1), ..base.clone() },
            BundleReceipt { level: Guarantee::G2, ..base.clone() },
            BundleReceipt { transactions: Vec::new(), ..base.clone() },
            BundleReceipt { transactions: vec![tx, tx], ..base.clone() },
            BundleReceipt { reason: "x".to_owned(), ..base.clone() },
            BundleReceipt { at_ms: 2, ..base.clone() },
            with(LandedTransaction { chain: 2, ..tx }),
            with(LandedTransaction { leg: 1, ..tx }),
            with(LandedTransaction { hash: one, ..tx }),
            with(LandedTransaction { block_hash: one, ..tx }),
            with(LandedTransaction { block_number: 2, ..tx }),
            with(LandedTransaction { index: 1, ..tx }),
            with(LandedTransaction { success: false, ..tx }),
        ];
        let digests: BTreeSet<B256> = variants.iter().map(BundleReceipt::digest).collect();
        assert_eq!(digests.len(), variants.len());
    }
}

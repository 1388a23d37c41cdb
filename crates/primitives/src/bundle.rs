//! A bundle: one atomic user request of ordered legs over one or more rollups.

use std::{collections::BTreeMap, fmt, sync::Arc};

use alloy_primitives::{Address, B256, U256};
use smallvec::SmallVec;

use crate::{ChainId, RollupSet, SignedTx};

/// What happens to a transaction of a bundle that would revert or be invalid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RevertMode {
    /// If it reverts or is invalid the whole bundle is out.
    #[default]
    Fail,
    /// It may revert and stay, paying gas; if it is invalid the bundle is out (`revertingTxHashes`).
    Allow,
    /// It is left out if it would revert or is invalid (`droppingTxHashes`).
    Drop,
}

/// A signed transaction of a leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegTx {
    /// The transaction.
    pub tx: Arc<SignedTx>,
    /// What happens when it fails.
    pub mode: RevertMode,
}

/// The delivery of a message. The builder writes and signs the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Relay {
    /// Of a message that an earlier leg emits.
    Emitted {
        /// Index of the earlier leg.
        leg: usize,
        /// Index of the message among the messages recognised in that leg, in log order.
        message: usize,
    },
    /// Of a message that is on its chain already.
    Landed(LandedRef),
}

impl fmt::Display for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Emitted { leg, message } => write!(f, "message {message} of leg {leg}"),
            Self::Landed(landed) => landed.fmt(f),
        }
    }
}

impl fmt::Display for LandedRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message {} of transaction {} on rollup {}", self.message, self.tx, self.chain)
    }
}

/// A message that is on its chain already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LandedRef {
    /// The rollup that it was sent on.
    pub chain: ChainId,
    /// The hash of the transaction that sent it.
    pub tx: B256,
    /// Index of the message among the messages recognised in that transaction, in log order.
    pub message: usize,
}

/// One step of a bundle on one rollup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leg {
    /// Signed transactions, in order.
    Txs {
        /// The rollup.
        chain: ChainId,
        /// The transactions.
        txs: Vec<LegTx>,
    },
    /// A message to deliver.
    Relay {
        /// The rollup that receives the message.
        chain: ChainId,
        /// Which message.
        relay: Relay,
    },
}

impl Leg {
    /// The rollup of the leg.
    pub const fn chain(&self) -> ChainId {
        match self {
            Self::Txs { chain, .. } | Self::Relay { chain, .. } => *chain,
        }
    }

    /// The signed transactions; none for a relay.
    pub fn txs(&self) -> &[LegTx] {
        match self {
            Self::Txs { txs, .. } => txs,
            Self::Relay { .. } => &[],
        }
    }
}

/// An inclusive range of block numbers on one rollup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRange {
    /// First block, inclusive.
    pub min: u64,
    /// Last block, inclusive.
    pub max: u64,
}

impl BlockRange {
    /// Any block.
    pub const ANY: Self = Self { min: 0, max: u64::MAX };
}

/// What a [`Requirement`] is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asset {
    /// The rollup's native asset, in wei.
    Native,
    /// An ERC-20 token, in its smallest unit, read by `balanceOf`.
    Token(Address),
}

/// A balance must rise by at least this much over the bundle on that rollup, net of fees.
///
/// Measured from just before the bundle's first transaction on the rollup to just after its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The rollup.
    pub chain: ChainId,
    /// Whose balance.
    pub account: Address,
    /// In what.
    pub asset: Asset,
    /// By at least how much, in the smallest unit.
    pub min_increase: U256,
}

/// The right to replace a bundle: the latest of (signer, uuid) counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// The identifier that the sender chose.
    pub uuid: String,
    /// Rises with each replacement.
    pub nonce: u64,
}

/// An atomic user request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    /// The steps, in order.
    pub legs: Vec<Leg>,
    /// Block bounds per rollup; a rollup without an entry takes any block.
    pub blocks: BTreeMap<ChainId, BlockRange>,
    /// Earliest block timestamp, in seconds, inclusive.
    pub min_timestamp: Option<u64>,
    /// Latest block timestamp, in seconds, inclusive.
    pub max_timestamp: Option<u64>,
    /// Balance conditions.
    pub require: Vec<Requirement>,
    /// Replacement identity.
    pub replacement: Option<Replacement>,
    /// Who sent it, when the request was signed.
    pub signer: Option<Address>,
}

impl Bundle {
    /// The rollups that the bundle touches.
    pub fn rollups(&self) -> RollupSet {
        self.legs.iter().map(Leg::chain).collect()
    }

    /// The same, rising, as a list: nearly always there are one or two.
    pub fn chains(&self) -> SmallVec<[ChainId; 4]> {
        if let [only] = self.legs.as_slice() {
            return SmallVec::from_slice(&[only.chain()]);
        }
        let mut chains: SmallVec<[ChainId; 4]> = self.legs.iter().map(Leg::chain).collect();
        chains.sort_unstable();
        chains.dedup();
        chains
    }

    /// Whether the bundle spans more than one rollup.
    pub fn is_cross_rollup(&self) -> bool {
        let mut chains = self.legs.iter().map(Leg::chain);
        let first = chains.next();
        chains.any(|chain| Some(chain) != first)
    }

    /// Every signed transaction, in leg order.
    pub fn txs(&self) -> impl Iterator<Item = &LegTx> {
        self.legs.iter().flat_map(Leg::txs)
    }

    /// The block bounds on a rollup.
    pub fn block_range(&self, chain: ChainId) -> BlockRange {
        self.blocks.get(&chain).copied().unwrap_or(BlockRange::ANY)
    }
}

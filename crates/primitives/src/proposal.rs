//! What builders sign who offer whole proposals to the holder of a right.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::sol;

use crate::{ChainId, RollupSet, SlotNumber, digest};

mod eip712 {
    use super::sol;

    sol! {
        struct BlindedProposal {
            uint64 slot;
            uint64[] rollups;
            address holder;
            uint256 value;
            bytes32 commitment;
            uint64 nonce;
        }

        struct ProposalCall {
            uint64 slot;
            uint64[] rollups;
            uint256 ownValue;
        }
    }
}

/// Asks builders for proposals for a right. Who signs it holds the right, or will if it gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProposalCall {
    /// The slot.
    pub slot: SlotNumber,
    /// The rollups of the right.
    pub rollups: RollupSet,
    /// What the signer's own proposal is worth to it, in the numeraire's smallest unit: bids have to be above.
    pub own_value: U256,
}

impl ProposalCall {
    /// The EIP-712 digest that the holder signs.
    pub fn digest(&self) -> B256 {
        let rollups = self.rollups.iter().copied().collect();
        digest(&eip712::ProposalCall { slot: self.slot, rollups, ownValue: self.own_value })
    }
}

/// A bid for having one's own lists proposed, without showing them. The builder is whoever signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlindedProposal {
    /// The slot.
    pub slot: SlotNumber,
    /// The rollups of the right: there is a list for each.
    pub rollups: RollupSet,
    /// Who holds the right.
    pub holder: Address,
    /// What the builder pays the holder, in the numeraire's smallest unit.
    pub value: U256,
    /// What [`ProposalReveal::commitment`] will be.
    pub commitment: B256,
    /// A bid with a higher nonce replaces the builder's earlier one.
    pub nonce: u64,
}

impl BlindedProposal {
    /// The EIP-712 digest that the builder signs.
    pub fn digest(&self) -> B256 {
        digest(&eip712::BlindedProposal {
            slot: self.slot,
            rollups: self.rollups.iter().copied().collect(),
            holder: self.holder,
            value: self.value,
            commitment: self.commitment,
            nonce: self.nonce,
        })
    }
}

/// The lists that a blinded bid committed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProposalReveal {
    /// Of each rollup what its two lists are, with and without what depends on other rollups: [`ProposalReveal::pair`].
    pub lists: BTreeMap<ChainId, B256>,
    /// 32 bytes that nobody can guess: lists may be short enough to be tried.
    pub salt: B256,
}

impl ProposalReveal {
    /// keccak-256 of the digests ([`BlockList::digest`](crate::BlockList::digest)) of a rollup's lists: with what depends on other
    /// rollups, and without.
    pub fn pair(with_cross: B256, without_cross: B256) -> B256 {
        keccak256([with_cross, without_cross].concat())
    }

    /// keccak-256 of the salt, and of each rollup its chain id as eight big-endian bytes and its list's digest, ascending.
    pub fn commitment(&self) -> B256 {
        let mut bytes = self.salt.to_vec();
        for (chain, list) in &self.lists {
            bytes.extend_from_slice(&chain.to_be_bytes());
            bytes.extend_from_slice(list.as_slice());
        }
        keccak256(bytes)
    }
}

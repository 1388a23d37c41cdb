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

#[cfg(test)]
mod tests {
    use alloy_primitives::b256;

    use super::*;

    /// Made by viem's `hashTypedData` from the types that docs/RPC.md names.
    #[test]
    fn what_is_signed_is_what_others_sign() {
        let call = ProposalCall { slot: 12, rollups: [10, 20].into(), own_value: U256::from(60) };
        assert_eq!(call.digest(), b256!("b95662f00939f31d3200cffae5a6bbc086395d6e2a0d7a2ffac0a0e2233aa03c"));
        let proposal = BlindedProposal {
            slot: 12,
            rollups: [10, 20].into(),
            holder: Address::repeat_byte(0x11),
            value: U256::from(100),
            commitment: B256::repeat_byte(0x22),
            nonce: 7,
        };
        assert_eq!(proposal.digest(), b256!("fdaa2e8906aad38ead51330d986815ea258a3fad32c8f2442f26abd84adc97ff"));
    }

    #[test]
    fn a_commitment_covers_salt_rollups_and_lists() {
        let reveal = |chain: ChainId, list: u8, salt: u8| {
            ProposalReveal { lists: [(chain, B256::repeat_byte(list))].into(), salt: B256::repeat_byte(salt) }.commitment()
        };
        let one = reveal(1, 1, 1);
        assert_eq!(one, reveal(1, 1, 1));
        assert!([reveal(2, 1, 1), reveal(1, 2, 1), reveal(1, 1, 2)].iter().all(|other| *other != one));
        let (with, without) = (B256::repeat_byte(1), B256::repeat_byte(2));
        assert_ne!(ProposalReveal::pair(with, without), ProposalReveal::pair(without, with));
    }
}

//! What the market and its participants sign: registrations, bids and allocations.

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::sol;

use crate::{ChainId, OrderingPolicy, RollupSet, SlotNumber, digest};

mod eip712 {
    use super::sol;

    sol! {
        struct Registration {
            uint64 chainId;
            uint256 reserve;
            address sequencer;
            string sequencerUrl;
            uint64 blockTime;
            bool holds;
            uint64 feeShareBps;
            string ordering;
            uint64 laneGas;
            bool sameSlotClaims;
            uint64 nonce;
        }

        struct Bid {
            uint64 slot;
            uint64[] rollups;
            uint256 amount;
            string exclusive;
            uint64 nonce;
        }

        struct Grant {
            address proposer;
            uint64[] rollups;
            uint256 price;
        }

        struct Allocation {
            uint64 slot;
            Grant[] grants;
        }
    }
}

/// A rollup that sells the right to propose, with its terms of sale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The rollup.
    pub chain: ChainId,
    /// The least a proposer must pay for one slot, in the numeraire's smallest unit.
    pub reserve: U256,
    /// The key of the rollup's sequencer: it signs the registration and its votes, and is the default proposer.
    pub sequencer: Address,
    /// Where the sequencer's JSON-RPC is reached.
    pub sequencer_url: String,
    /// Seconds between blocks.
    pub block_time: u64,
    /// When the decision cannot be read at `t_publish`: `true` holds the block back, `false` falls back to the list
    /// without cross-rollup bundles.
    pub holds: bool,
    /// Which part of the rollup's protocol fees the proposer receives, in basis points.
    pub fee_share_bps: u64,
    /// In which order its blocks may hold transactions.
    pub ordering: OrderingPolicy,
    /// Whether its blocks may claim AggLayer exits of the same slot: then its settlement depends on the origin's.
    pub same_slot_claims: bool,
    /// Rises with each change of the terms.
    pub nonce: u64,
}

impl Registration {
    /// The EIP-712 digest that the sequencer signs.
    pub fn digest(&self) -> B256 {
        digest(&eip712::Registration {
            chainId: self.chain,
            reserve: self.reserve,
            sequencer: self.sequencer,
            sequencerUrl: self.sequencer_url.clone(),
            blockTime: self.block_time,
            holds: self.holds,
            feeShareBps: self.fee_share_bps,
            ordering: self.ordering.name().to_owned(),
            laneGas: self.ordering.lane_gas(),
            sameSlotClaims: self.same_slot_claims,
            nonce: self.nonce,
        })
    }
}

/// An offer for the right to propose on a set of rollups in a slot. The bidder is whoever signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bid {
    /// The slot.
    pub slot: SlotNumber,
    /// The package: all of these rollups or none.
    pub rollups: RollupSet,
    /// In the numeraire's smallest unit.
    pub amount: U256,
    /// Of the bidder's bids with the same tag at most one wins.
    pub exclusive: Option<String>,
    /// A bid with a higher nonce replaces the bidder's earlier bid for the same package and tag.
    pub nonce: u64,
}

impl Bid {
    /// The EIP-712 digest that the bidder signs.
    pub fn digest(&self) -> B256 {
        digest(&eip712::Bid {
            slot: self.slot,
            rollups: self.rollups.iter().copied().collect(),
            amount: self.amount,
            exclusive: self.exclusive.clone().unwrap_or_default(),
            nonce: self.nonce,
        })
    }
}

/// The right to propose on a set of rollups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who proposes.
    pub proposer: Address,
    /// Where.
    pub rollups: RollupSet,
    /// What the proposer owes, in the numeraire's smallest unit; zero for a default proposer.
    pub price: U256,
}

/// The market's answer for a slot: each rollup on sale is in exactly one grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// The slot.
    pub slot: SlotNumber,
    /// Who proposes where.
    pub grants: Vec<Grant>,
}

impl Allocation {
    /// The EIP-712 digest that the market signs.
    pub fn digest(&self) -> B256 {
        digest(&eip712::Allocation {
            slot: self.slot,
            grants: self
                .grants
                .iter()
                .map(|grant| eip712::Grant {
                    proposer: grant.proposer,
                    rollups: grant.rollups.iter().copied().collect(),
                    price: grant.price,
                })
                .collect(),
        })
    }

    /// The rollups that `proposer` proposes for: the union of what it won.
    pub fn rollups_of(&self, proposer: Address) -> RollupSet {
        self.grants.iter().filter(|grant| grant.proposer == proposer).flat_map(|grant| grant.rollups.iter().copied()).collect()
    }

    /// Who proposes for `chain`.
    pub fn proposer_of(&self, chain: ChainId) -> Option<Address> {
        self.grants.iter().find(|grant| grant.rollups.contains(&chain)).map(|grant| grant.proposer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_is_signed_over_its_ordering() {
        let registration = |ordering| Registration {
            chain: 1,
            reserve: U256::ZERO,
            sequencer: Address::ZERO,
            sequencer_url: String::new(),
            block_time: 2,
            holds: true,
            fee_share_bps: 0,
            same_slot_claims: false,
            ordering,
            nonce: 1,
        };
        let policies = [
            OrderingPolicy::Free,
            OrderingPolicy::PriorityFee,
            OrderingPolicy::FirstComeFirstServed,
            OrderingPolicy::TopOfBlock { lane_gas: 1 },
            OrderingPolicy::TopOfBlock { lane_gas: 2 },
        ];
        let digests: std::collections::BTreeSet<B256> = policies.map(|policy| registration(policy).digest()).into();
        assert_eq!(digests.len(), policies.len());
    }
}

//! What the market and bidders sign: bids and allocations.

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::sol;

use crate::{ChainId, RollupSet, SlotNumber, digest};

mod eip712 {
    use super::sol;

    sol! {
        struct Bid {
            uint64 slot;
            uint64[] rollups;
            uint256 amount;
            string exclusive;
            uint64 nonce;
        }

        struct BidCancellation {
            uint64 slot;
            uint64[] rollups;
            string exclusive;
            uint64 nonce;
        }

        struct SealedBids {
            uint64 slot;
            bytes32 commitment;
            uint64 bids;
            uint256 cover;
            uint64 nonce;
        }

        struct TicketOrder {
            uint64[] rollups;
            string side;
            uint64 count;
            uint256 price;
            uint64 nonce;
        }

        struct Deposit {
            uint64 number;
            address account;
            uint256 amount;
        }

        struct Withdrawal {
            address account;
            address to;
            uint256 amount;
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

/// Takes back the signer's bid for a package and tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BidCancellation {
    /// The slot.
    pub slot: SlotNumber,
    /// The bid's package.
    pub rollups: RollupSet,
    /// The bid's tag.
    pub exclusive: Option<String>,
    /// Above that of the bid.
    pub nonce: u64,
}

impl BidCancellation {
    /// The EIP-712 digest that the bidder signs.
    pub fn digest(&self) -> B256 {
        digest(&eip712::BidCancellation {
            slot: self.slot,
            rollups: self.rollups.iter().copied().collect(),
            exclusive: self.exclusive.clone().unwrap_or_default(),
            nonce: self.nonce,
        })
    }
}

/// All bids of the signer for a slot, sealed: nobody, the market included, can read them before they are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedBids {
    /// The slot.
    pub slot: SlotNumber,
    /// What [`Opening::commitment`] will be. Zero takes the signer's sealed bids back.
    pub commitment: B256,
    /// How many bids there are.
    pub bids: u64,
    /// The most that they may cost together, in the numeraire's smallest unit. Nobody has to say how much less it will be.
    pub cover: U256,
    /// Sealed bids with a higher nonce replace the signer's earlier ones for the slot.
    pub nonce: u64,
}

impl SealedBids {
    /// The EIP-712 digest that the bidder signs.
    pub fn digest(&self) -> B256 {
        digest(&eip712::SealedBids {
            slot: self.slot,
            commitment: self.commitment,
            bids: self.bids,
            cover: self.cover,
            nonce: self.nonce,
        })
    }
}

/// What opens sealed bids. It needs no signature: only the bidder can have known it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The slot.
    pub slot: SlotNumber,
    /// Who sealed them.
    pub bidder: Address,
    /// 32 bytes that nobody can guess, and others each time. Draws are made with it too.
    pub salt: B256,
    /// The bids, in the order in which they were sealed.
    pub bids: Vec<Bid>,
}

impl Opening {
    /// What was sealed: keccak-256 of the bidder's 20 bytes, the salt's 32, and the 32 of each bid's EIP-712 digest. Naming the
    /// bidder keeps others from handing in the same commitment and opening it with what its owner opens it with.
    pub fn commitment(&self) -> B256 {
        let mut bytes = self.bidder.to_vec();
        bytes.extend_from_slice(self.salt.as_slice());
        for bid in &self.bids {
            bytes.extend_from_slice(bid.digest().as_slice());
        }
        keccak256(bytes)
    }
}

/// What a ticket order is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TicketSide {
    /// Up to `count` tickets, at no more than `price` each.
    Buy,
    /// Exactly `count` of the signer's tickets are offered at `price` each from now on, and no others of the class.
    Sell,
}

impl TicketSide {
    /// What is signed, and what JSON says.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Buy => "buy",
            Self::Sell => "sell",
        }
    }
}

/// An order for tickets: rights to propose in slots that are drawn later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketOrder {
    /// Of which class, by all of its rollups.
    pub rollups: RollupSet,
    /// Buy or sell.
    pub side: TicketSide,
    /// How many tickets.
    pub count: u64,
    /// For each, in the numeraire's smallest unit.
    pub price: U256,
    /// Above that of the signer's earlier requests.
    pub nonce: u64,
}

impl TicketOrder {
    /// The EIP-712 digest that the account signs.
    pub fn digest(&self) -> B256 {
        digest(&eip712::TicketOrder {
            rollups: self.rollups.iter().copied().collect(),
            side: self.side.name().to_owned(),
            count: self.count,
            price: self.price,
            nonce: self.nonce,
        })
    }
}

/// Tells a market that money came in for an account. Whoever keeps the market's money signs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deposit {
    /// Counts deposits from 0.
    pub number: u64,
    /// For whom.
    pub account: Address,
    /// In the numeraire's smallest unit.
    pub amount: U256,
}

impl Deposit {
    /// The EIP-712 digest that the keeper of the money signs.
    pub fn digest(&self) -> B256 {
        digest(&eip712::Deposit { number: self.number, account: self.account, amount: self.amount })
    }
}

/// Asks for money of an account to be paid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WithdrawalRequest {
    /// Whose money.
    pub account: Address,
    /// Where it goes.
    pub to: Address,
    /// In the numeraire's smallest unit.
    pub amount: U256,
    /// Rises with each request of the account, from 1 on.
    pub nonce: u64,
}

impl WithdrawalRequest {
    /// The EIP-712 digest that the account signs.
    pub fn digest(&self) -> B256 {
        digest(&eip712::Withdrawal { account: self.account, to: self.to, amount: self.amount, nonce: self.nonce })
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

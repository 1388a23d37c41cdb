//! What bidders and holders of rights sign when slots are sold ahead of time.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::sol;

use crate::{ChainId, RollupSet, SlotNumber, digest};

mod eip712 {
    use super::sol;

    sol! {
        struct EpochBid {
            uint64 epoch;
            uint64[] rollups;
            uint256 amount;
            string exclusive;
            uint64 nonce;
        }

        struct RightOffer {
            uint64 slot;
            uint64[] rollups;
            uint256[] amounts;
        }

        struct RightTransfer {
            string how;
            uint64 slot;
            uint64[] rollups;
            uint256[] amounts;
            address to;
        }
    }
}

/// An offer for the right to propose on a set of rollups in all slots of an epoch. The bidder is whoever signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochBid {
    /// The epoch.
    pub epoch: u64,
    /// The package: all of these rollups, in every slot in which they are sold, or none.
    pub rollups: RollupSet,
    /// For the whole epoch, in the numeraire's smallest unit. Zero takes the bid back.
    pub amount: U256,
    /// Of the bidder's bids with the same tag at most one wins.
    pub exclusive: Option<String>,
    /// A bid with a higher nonce replaces the bidder's earlier bid for the same package and tag.
    pub nonce: u64,
}

impl EpochBid {
    /// The EIP-712 digest that the bidder signs.
    pub fn digest(&self) -> B256 {
        digest(&eip712::EpochBid {
            epoch: self.epoch,
            rollups: self.rollups.iter().copied().collect(),
            amount: self.amount,
            exclusive: self.exclusive.clone().unwrap_or_default(),
            nonce: self.nonce,
        })
    }
}

/// Lets builders bid, just before the slot, for building in place of the signer, who holds the rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RightOffer {
    /// The slot.
    pub slot: SlotNumber,
    /// Of each rollup the least that the holder wants, in the numeraire's smallest unit.
    pub amounts: BTreeMap<ChainId, U256>,
}

impl RightOffer {
    /// The EIP-712 digest that the holder signs.
    pub fn digest(&self) -> B256 {
        let (rollups, amounts) = self.amounts.iter().map(|(chain, amount)| (*chain, *amount)).unzip();
        digest(&eip712::RightOffer { slot: self.slot, rollups, amounts })
    }
}

/// How a right changes hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferKind {
    /// It is sold: the buyer pays now, and answers to the rollups from then on.
    Resale,
    /// Somebody else builds: it pays for what is delivered, and answers to the holder, who answers to the rollups as before.
    Delegation,
}

impl TransferKind {
    /// What is signed, and what JSON says.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Resale => "resale",
            Self::Delegation => "delegation",
        }
    }
}

/// Hands rights over. Both sides sign the same: the holder, and who takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RightTransfer {
    /// How.
    pub how: TransferKind,
    /// The slot.
    pub slot: SlotNumber,
    /// Of each rollup the price, in the numeraire's smallest unit.
    pub amounts: BTreeMap<ChainId, U256>,
    /// Who takes them.
    pub to: Address,
}

impl RightTransfer {
    /// The EIP-712 digest that both sign.
    pub fn digest(&self) -> B256 {
        let (rollups, amounts) = self.amounts.iter().map(|(chain, amount)| (*chain, *amount)).unzip();
        digest(&eip712::RightTransfer { how: self.how.name().to_owned(), slot: self.slot, rollups, amounts, to: self.to })
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::b256;

    use super::*;

    fn amounts(pairs: &[(ChainId, u64)]) -> BTreeMap<ChainId, U256> {
        pairs.iter().map(|(chain, amount)| (*chain, U256::from(*amount))).collect()
    }

    /// Made by viem's `hashTypedData` from the types that docs/RPC.md names.
    #[test]
    fn what_is_signed_is_what_others_sign() {
        let bid =
            EpochBid { epoch: 3, rollups: [10, 20].into(), amount: U256::from(240), exclusive: Some("x".to_owned()), nonce: 7 };
        assert_eq!(bid.digest(), b256!("a1562334f0651b4eb3ac2e5f29c085326cad6527461eb327f320fa9b305e71da"));
        let offer = RightOffer { slot: 12, amounts: amounts(&[(20, 60), (10, 50)]) };
        assert_eq!(offer.digest(), b256!("4f12dbc84a17917131a0a9779973a58947561dce0cdcb199f0b8b635d66c60ef"));
        let transfer =
            RightTransfer { how: TransferKind::Resale, slot: 12, amounts: amounts(&[(10, 50)]), to: Address::repeat_byte(0x11) };
        assert_eq!(transfer.digest(), b256!("747bb11a036ceaee471a29b015d1bd38678f8ea0195b177b4c3c4029d85e65e0"));
        let delegation = RightTransfer { how: TransferKind::Delegation, ..transfer.clone() };
        assert_ne!(delegation.digest(), transfer.digest());
    }
}

//! What a rollup's sequencer signs about how a slot ended.

use alloy_primitives::{B256, U256};
use alloy_sol_types::sol;

use crate::{ChainId, EncryptedTail, SlotNumber, digest};

mod eip712 {
    use super::sol;

    sol! {
        struct DeliveryReport {
            uint64 slot;
            uint64 chainId;
            string ending;
            bytes32[] blocks;
            bytes32[] prepared;
            uint256[] earned;
            uint256[] posted;
            EncryptedTail[] encrypted;
        }

        struct EncryptedTail {
            bytes32 order;
            uint64 first;
            uint64 count;
        }
    }
}

/// Which list a rollup published in a slot, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SlotEnding {
    /// The list of the proposer that the market named.
    Proposed,
    /// Its own: nothing came from the proposer in time.
    Silent,
    /// Its own: it refused what came from the proposer.
    Refused,
    /// Its own, or none: what was agreed on became impossible, or the rollup had no block after all.
    Lapsed,
}

impl SlotEnding {
    /// What is signed, and what answers call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Silent => "silent",
            Self::Refused => "refused",
            Self::Lapsed => "lapsed",
        }
    }
}

/// How a rollup's slot ended, by its sequencer's word. Amounts are in the numeraire's smallest unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryReport {
    /// The slot.
    pub slot: SlotNumber,
    /// The rollup.
    pub chain: ChainId,
    /// Which list was published, and why.
    pub ending: SlotEnding,
    /// The hashes of the blocks that were published.
    pub blocks: Vec<B256>,
    /// What its proposer prepared for it last, whether it was published or refused
    /// ([`ProposalReveal::pair`](crate::ProposalReveal::pair)); `None` when nothing came.
    pub prepared: Option<B256>,
    /// What the rollup's own list earned, when that is what was published.
    pub earned: Option<U256>,
    /// What the rollup's own list would have earned, when another one was published and the rollup says so.
    pub posted: Option<U256>,
    /// Which of the published transactions came encrypted; `None` when none did.
    pub encrypted: Option<EncryptedTail>,
}

impl DeliveryReport {
    /// The EIP-712 digest that the sequencer signs.
    pub fn digest(&self) -> B256 {
        digest(&eip712::DeliveryReport {
            slot: self.slot,
            chainId: self.chain,
            ending: self.ending.name().to_owned(),
            blocks: self.blocks.clone(),
            prepared: self.prepared.into_iter().collect(),
            earned: self.earned.into_iter().collect(),
            posted: self.posted.into_iter().collect(),
            encrypted: self
                .encrypted
                .iter()
                .map(|tail| eip712::EncryptedTail { order: tail.order, first: tail.first, count: tail.count })
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_signed_over_all_that_it_says() {
        let base = DeliveryReport {
            slot: 1,
            chain: 2,
            ending: SlotEnding::Proposed,
            blocks: vec![B256::ZERO],
            prepared: None,
            earned: None,
            posted: None,
            encrypted: None,
        };
        let one = Some(U256::ONE);
        let tail = EncryptedTail { order: B256::ZERO, first: 0, count: 0 };
        let variants = [
            base.clone(),
            DeliveryReport { slot: 2, ..base.clone() },
            DeliveryReport { chain: 1, ..base.clone() },
            DeliveryReport { ending: SlotEnding::Silent, ..base.clone() },
            DeliveryReport { ending: SlotEnding::Refused, ..base.clone() },
            DeliveryReport { ending: SlotEnding::Lapsed, ..base.clone() },
            DeliveryReport { blocks: Vec::new(), ..base.clone() },
            DeliveryReport { prepared: Some(B256::ZERO), ..base.clone() },
            DeliveryReport { earned: one, ..base.clone() },
            DeliveryReport { posted: one, ..base.clone() },
            DeliveryReport { encrypted: Some(tail), ..base.clone() },
            DeliveryReport { encrypted: Some(EncryptedTail { order: B256::with_last_byte(1), ..tail }), ..base.clone() },
            DeliveryReport { encrypted: Some(EncryptedTail { first: 1, ..tail }), ..base.clone() },
            DeliveryReport { encrypted: Some(EncryptedTail { count: 1, ..tail }), ..base.clone() },
            DeliveryReport { earned: Some(U256::ZERO), ..base },
        ];
        let digests: std::collections::BTreeSet<B256> = variants.iter().map(DeliveryReport::digest).collect();
        assert_eq!(digests.len(), variants.len());
    }
}

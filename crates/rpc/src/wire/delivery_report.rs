//! Reports of sequencers on how slots ended, as JSON.

use alloy_primitives::{Address, B256, Bytes, U64};
use lockstep_primitives::{DeliveryReport, SlotEnding};
use serde::{Deserialize, Serialize};

use super::{Decimal, EncryptedTailWire};

/// The parameter of `market_reportDelivery`: how a rollup's slot ended, and its sequencer's EIP-712 signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeliveryReportWire {
    /// The slot.
    pub slot: u64,
    /// The rollup.
    pub chain_id: U64,
    /// Which list was published, and why.
    pub ending: EndingWire,
    /// The hashes of the blocks that were published.
    pub blocks: Vec<B256>,
    /// What its proposer prepared for it last: keccak-256 of the digests of both lists. Absent when nothing came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepared: Option<B256>,
    /// What the rollup's own list earned, when that is what was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earned: Option<Decimal>,
    /// What the rollup's own list would have earned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub posted: Option<Decimal>,
    /// Which of the published transactions came encrypted. Absent when none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypted: Option<EncryptedTailWire>,
    /// 65 bytes r || s || v.
    pub signature: Bytes,
}

/// Which list a rollup published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EndingWire {
    /// The allocated proposer's.
    Proposed,
    /// Its own: nothing came in time.
    Silent,
    /// Its own: what came was refused.
    Refused,
    /// What was agreed on became impossible, or there was no block.
    Lapsed,
}

impl From<SlotEnding> for EndingWire {
    fn from(ending: SlotEnding) -> Self {
        match ending {
            SlotEnding::Proposed => Self::Proposed,
            SlotEnding::Silent => Self::Silent,
            SlotEnding::Refused => Self::Refused,
            SlotEnding::Lapsed => Self::Lapsed,
        }
    }
}

impl From<EndingWire> for SlotEnding {
    fn from(ending: EndingWire) -> Self {
        match ending {
            EndingWire::Proposed => Self::Proposed,
            EndingWire::Silent => Self::Silent,
            EndingWire::Refused => Self::Refused,
            EndingWire::Lapsed => Self::Lapsed,
        }
    }
}

impl DeliveryReportWire {
    /// A signed report.
    pub fn new(report: &DeliveryReport, signature: Bytes) -> Self {
        Self {
            slot: report.slot,
            chain_id: U64::from(report.chain),
            ending: report.ending.into(),
            blocks: report.blocks.clone(),
            prepared: report.prepared,
            earned: report.earned.map(Decimal),
            posted: report.posted.map(Decimal),
            encrypted: report.encrypted.map(EncryptedTailWire::from),
            signature,
        }
    }

    /// What is signed.
    pub fn report(&self) -> DeliveryReport {
        DeliveryReport {
            slot: self.slot,
            chain: self.chain_id.to(),
            ending: self.ending.into(),
            blocks: self.blocks.clone(),
            prepared: self.prepared,
            earned: self.earned.map(|amount| amount.0),
            posted: self.posted.map(|amount| amount.0),
            encrypted: self.encrypted.map(Into::into),
        }
    }
}

/// How a rollup's slot ended, as `market_subscribe` tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryEvent {
    /// The slot.
    pub slot: u64,
    /// The rollup.
    pub chain_id: U64,
    /// Who held the right to propose.
    pub holder: Address,
    /// `delivered`, `taken_over` or `lapsed`.
    pub ending: String,
    /// What the holder owed for it, in the numeraire's smallest unit.
    pub price: Decimal,
    /// What the rollup was paid: the price, or its loss.
    pub paid: Decimal,
    /// Which transactions of the slot came encrypted, by its sequencer's report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypted: Option<EncryptedTailWire>,
}

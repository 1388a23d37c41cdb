//! Epochs, and the rights that are sold with them, as JSON.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, U64, U256};
use jsonrpsee::types::ErrorObjectOwned;
use lockstep_primitives::{ChainId, EpochBid, RightOffer, RightTransfer, TransferKind};
use serde::{Deserialize, Serialize};

use super::{BidView, Decimal, Sale, SeedView, chains};
use crate::invalid_params;

/// The parameter of `market_submitEpochBid`: a bid for an epoch and its bidder's EIP-712 signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EpochBidWire {
    /// The epoch.
    pub epoch: u64,
    /// The package.
    pub rollups: Vec<U64>,
    /// For the whole epoch, in the numeraire's smallest unit; zero takes the bid back.
    pub amount: Decimal,
    /// Of the bidder's bids with the same tag at most one wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<String>,
    /// Above that of the bidder's earlier bid for the same package and tag.
    pub nonce: u64,
    /// 65 bytes r || s || v.
    pub signature: Bytes,
}

impl EpochBidWire {
    /// A signed bid.
    pub fn new(bid: &EpochBid, signature: Bytes) -> Self {
        let EpochBid { epoch, rollups, amount, exclusive, nonce } = bid.clone();
        Self { epoch, rollups: chains(&rollups), amount: Decimal(amount), exclusive, nonce, signature }
    }

    /// What is signed.
    pub fn bid(&self) -> EpochBid {
        let Self { epoch, ref rollups, amount, ref exclusive, nonce, .. } = *self;
        let rollups = rollups.iter().map(|chain| chain.to()).collect();
        EpochBid { epoch, rollups, amount: amount.0, exclusive: exclusive.clone(), nonce }
    }
}

/// An amount for the right to a rollup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RightAmount {
    /// The rollup.
    pub chain_id: U64,
    /// In the numeraire's smallest unit.
    pub amount: Decimal,
}

/// The parameter of `market_offerRights`: what the holder wants, and its EIP-712 signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RightOfferWire {
    /// The slot.
    pub slot: u64,
    /// The least for each.
    pub rights: Vec<RightAmount>,
    /// The holder's: 65 bytes r || s || v.
    pub signature: Bytes,
}

impl RightOfferWire {
    /// A signed offer.
    pub fn new(offer: &RightOffer, signature: Bytes) -> Self {
        Self { slot: offer.slot, rights: wire_amounts(&offer.amounts), signature }
    }

    /// What is signed.
    ///
    /// # Errors
    /// When a rollup is named twice.
    pub fn offer(&self) -> Result<RightOffer, ErrorObjectOwned> {
        Ok(RightOffer { slot: self.slot, amounts: amounts(&self.rights)? })
    }
}

/// The parameter of `market_transferRights`: what both sides have signed by EIP-712.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RightTransferWire {
    /// `resale` or `delegation`.
    pub how: String,
    /// The slot.
    pub slot: u64,
    /// The price of each.
    pub rights: Vec<RightAmount>,
    /// Who takes them.
    pub to: Address,
    /// The holder's: 65 bytes r || s || v.
    pub holder_signature: Bytes,
    /// Of who takes them.
    pub taker_signature: Bytes,
}

impl RightTransferWire {
    /// A transfer that both have signed.
    pub fn new(transfer: &RightTransfer, holder_signature: Bytes, taker_signature: Bytes) -> Self {
        let RightTransfer { how, slot, ref amounts, to } = *transfer;
        Self { how: how.name().to_owned(), slot, rights: wire_amounts(amounts), to, holder_signature, taker_signature }
    }

    /// What is signed.
    ///
    /// # Errors
    /// When a rollup is named twice, or it is neither a resale nor a delegation.
    pub fn transfer(&self) -> Result<RightTransfer, ErrorObjectOwned> {
        let how = [TransferKind::Resale, TransferKind::Delegation].into_iter().find(|how| how.name() == self.how);
        let how = how.ok_or_else(|| {
            let text = format!("a right is not handed over by {:?}", self.how);
            invalid_params("unknown_transfer", text, "there are \"resale\" and \"delegation\"")
        })?;
        Ok(RightTransfer { how, slot: self.slot, amounts: amounts(&self.rights)?, to: self.to })
    }
}

fn wire_amounts(amounts: &BTreeMap<ChainId, U256>) -> Vec<RightAmount> {
    let right = |(chain, amount): (&ChainId, &U256)| RightAmount { chain_id: U64::from(*chain), amount: Decimal(*amount) };
    amounts.iter().map(right).collect()
}

fn amounts(rights: &[RightAmount]) -> Result<BTreeMap<ChainId, U256>, ErrorObjectOwned> {
    let mut amounts = BTreeMap::new();
    for RightAmount { chain_id, amount } in rights {
        if amounts.insert(chain_id.to(), amount.0).is_some() {
            let text = format!("rollup {chain_id} is named twice");
            return Err(invalid_params("rollup_named_twice", text, "name each rollup once, with one amount"));
        }
    }
    Ok(amounts)
}

/// The answer of `market_getEpoch`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EpochView {
    /// The epoch.
    pub epoch: u64,
    /// Its first slot.
    pub first_slot: u64,
    /// How many slots it has.
    pub slots: u64,
    /// Bids are taken before this time, in Unix milliseconds.
    pub close_ms: u64,
    /// `open` or `closed`.
    pub state: String,
    /// What is for sale.
    pub on_sale: Vec<EpochLot>,
    /// keccak-256 of the market's secret for the epoch's draws.
    pub seed_commitment: B256,
    /// What the epoch's draws were made with; absent while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<SeedView>,
    /// The bids; empty while it is open.
    pub bids: Vec<BidView>,
}

/// A rollup that is sold for all of its slots in an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EpochLot {
    /// The rollup.
    pub chain_id: U64,
    /// The rollups that are sold together with it, itself among them: a bid takes all of them or none.
    pub unit: Vec<U64>,
    /// The least it is sold for: the sum of the reserves of its slots.
    pub reserve: Decimal,
    /// Its slots.
    pub slots: Vec<u64>,
}

/// A right, as `market_getRights` tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RightView {
    /// The rollup.
    pub chain_id: U64,
    /// Who got it first.
    pub granted_to: Address,
    /// How: `ahead`, `just_in_time`, `ticket` or `default`.
    pub how: String,
    /// What the rollup is owed for it.
    pub price: Decimal,
    /// Who holds it, and answers to the rollup.
    pub holder: Address,
    /// Who is to build.
    pub proposer: Address,
    /// What it was resold for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resold_for: Option<Decimal>,
    /// The least for which its holder lets a builder build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer: Option<Decimal>,
    /// What the builder owes the holder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegated_for: Option<Decimal>,
    /// How it ended: `delivered`, `taken_over` or `lapsed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<String>,
    /// Which L1 state the rollup's blocks may read, where L1's proposers take part: `same_slot`, because one proposer builds both,
    /// `published`, or what its `own_rules` say.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "l1View")]
    pub l1_view: Option<String>,
}

/// A rollup that is not for sale in a slot: somebody bought the slot ahead and does not offer it, or the rollup does not sell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldView {
    /// Who is to build.
    pub proposer: Address,
    /// The rollup, and its terms.
    #[serde(flatten)]
    pub sale: Sale,
}

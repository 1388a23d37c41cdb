//! Proposals that builders offer to who may propose, as JSON.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, U64};
use lockstep_delivery::PreparedList;
use lockstep_primitives::{BlindedProposal, ProposalCall, ProposalReveal, RollupSet};
use serde::{Deserialize, Serialize};

use super::{Decimal, PreparedListWire, chains};

/// The parameter of `market_callProposals`: what is asked for, and the EIP-712 signature of who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProposalCallWire {
    /// The slot.
    pub slot: u64,
    /// The rollups of the right.
    pub rollups: Vec<U64>,
    /// What the signer's own proposal is worth: bids have to be above.
    pub own_value: Decimal,
    /// 65 bytes r || s || v.
    pub signature: Bytes,
}

impl ProposalCallWire {
    /// A signed call.
    pub fn new(call: &ProposalCall, signature: Bytes) -> Self {
        Self { slot: call.slot, rollups: chains(&call.rollups), own_value: Decimal(call.own_value), signature }
    }

    /// What is signed.
    pub fn call(&self) -> ProposalCall {
        ProposalCall { slot: self.slot, rollups: set(&self.rollups), own_value: self.own_value.0 }
    }
}

/// A call, as `market_getCalls` tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallView {
    /// Who asks.
    pub holder: Address,
    /// The rollups of the right.
    pub rollups: Vec<U64>,
    /// Bids have to be above.
    pub own_value: Decimal,
}

/// The parameter of `market_submitProposal`: a blinded bid and its builder's EIP-712 signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BlindedProposalWire {
    /// The slot.
    pub slot: u64,
    /// The rollups of the right.
    pub rollups: Vec<U64>,
    /// Who asks.
    pub holder: Address,
    /// What the builder pays the holder for its lists.
    pub value: Decimal,
    /// What they are, blinded.
    pub commitment: B256,
    /// A higher one replaces.
    pub nonce: u64,
    /// 65 bytes r || s || v.
    pub signature: Bytes,
}

impl BlindedProposalWire {
    /// A signed bid.
    pub fn new(proposal: &BlindedProposal, signature: Bytes) -> Self {
        let BlindedProposal { slot, ref rollups, holder, value, commitment, nonce } = *proposal;
        Self { slot, rollups: chains(rollups), holder, value: Decimal(value), commitment, nonce, signature }
    }

    /// What is signed.
    pub fn proposal(&self) -> BlindedProposal {
        let Self { slot, ref rollups, holder, value, commitment, nonce, .. } = *self;
        BlindedProposal { slot, rollups: set(rollups), holder, value: value.0, commitment, nonce }
    }
}

/// A rollup's lists in a proposal, and what their execution must give.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProposedListsWire {
    /// Published on commit.
    pub with_cross: PreparedListWire,
    /// Published on abort.
    pub without_cross: PreparedListWire,
}

impl ProposedListsWire {
    /// What they are, as a proposal commits to it.
    pub fn digest(&self) -> B256 {
        let digest = |list: &PreparedListWire| PreparedList::from(list.clone()).list.digest();
        ProposalReveal::pair(digest(&self.with_cross), digest(&self.without_cross))
    }
}

/// The parameter of `market_revealProposal`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProposalRevealWire {
    /// The slot.
    pub slot: u64,
    /// Who asked.
    pub holder: Address,
    /// Whose lists they are.
    pub builder: Address,
    /// What the commitment was salted with.
    pub salt: B256,
    /// One a rollup, by chain id.
    pub lists: BTreeMap<U64, ProposedListsWire>,
}

impl ProposalRevealWire {
    /// The rollups of the right.
    pub fn rollups(&self) -> RollupSet {
        self.lists.keys().map(|chain| chain.to()).collect()
    }

    /// What the builder committed to.
    pub fn reveal(&self) -> ProposalReveal {
        let lists = self.lists.iter().map(|(chain, lists)| (chain.to(), lists.digest()));
        ProposalReveal { lists: lists.collect(), salt: self.salt }
    }
}

/// The parameter of `market_getProposal`: for which right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProposalParams {
    /// The slot.
    pub slot: u64,
    /// Who asked.
    pub holder: Address,
    /// The rollups of the right.
    pub rollups: Vec<U64>,
    /// The signature of the call, which nobody else knows: with it the lists are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Bytes>,
}

/// The answer of `market_getProposal`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProposalView {
    /// `open`: bids are taken, or it is not known yet who got the right; `awaited`: a builder has to reveal; `taken`: a builder's
    /// lists; `own`: the holder's.
    pub state: String,
    /// Whose turn it is, or whose lists were taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builder: Option<Address>,
    /// Until when it has to reveal, in Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// What the builder pays the holder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Decimal>,
    /// The lists, by chain id; told to the holder only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lists: Option<BTreeMap<U64, ProposedListsWire>>,
}

fn set(rollups: &[U64]) -> RollupSet {
    rollups.iter().map(|chain| chain.to()).collect()
}

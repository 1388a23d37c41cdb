//! What is told of bundles and slots.

use alloy_primitives::{Address, B256, Bytes, U64};
use serde::{Deserialize, Serialize};

use super::{BidView, GrantWire, SignedDecimal};

/// The answer of `lockstep_getBundle`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BundleStatus {
    /// The Lockstep hash.
    pub bundle_hash: B256,
    /// The rollups of its legs.
    pub rollups: Vec<U64>,
    /// Its state.
    pub state: String,
    /// How far the promise about it reaches now: G0 to G3.
    pub level: String,
    /// What happened to it, oldest first.
    pub history: Vec<Event>,
    /// What keeps it from landing, while something does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<Obstacle>,
    /// Where each leg's transactions are, once it is published.
    pub legs: Vec<LegStatus>,
}

/// A step of a bundle's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Unix milliseconds.
    pub at_ms: u64,
    /// The state it came to.
    pub state: String,
    /// The slot, when the step belongs to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u64>,
    /// Stable code of the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Something that keeps a bundle from landing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Obstacle {
    /// Stable code.
    pub reason: String,
    /// In words, with its place.
    pub text: String,
    /// The rollup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollup: Option<U64>,
    /// The leg.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leg: Option<usize>,
    /// The transaction in the leg.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// What to do about it.
    pub hint: String,
}

/// The transactions of a leg on its rollup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LegStatus {
    /// The rollup.
    pub chain_id: U64,
    /// Its transactions; those that were left out are absent.
    pub transactions: Vec<LandedTx>,
}

/// A transaction in a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LandedTx {
    /// Its hash.
    pub transaction_hash: B256,
    /// Block number; null while it is not in a block.
    pub block_number: Option<U64>,
    /// Block hash.
    pub block_hash: Option<B256>,
    /// Index in the block.
    pub index: Option<U64>,
    /// Whether it succeeded.
    pub success: Option<bool>,
}

/// The answer of `lockstep_explainBundle`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The Lockstep hash.
    pub bundle_hash: B256,
    /// Its state.
    pub state: String,
    /// One paragraph for people.
    pub text: String,
    /// What is in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obstacle: Option<Obstacle>,
}

/// The answer of `lockstep_simulateBundle`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SimulationResult {
    /// The Lockstep hash.
    pub bundle_hash: B256,
    /// Whether it would land on the pending state.
    pub success: bool,
    /// What blocks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<Obstacle>,
    /// Leg by leg, as far as it ran.
    pub legs: Vec<SimulatedLeg>,
    /// Balance changes over the whole bundle.
    pub balance_changes: Vec<BalanceChangeWire>,
    /// What it is worth to the proposer, in the numeraire's smallest unit.
    pub value: SignedDecimal,
}

/// A simulated leg.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SimulatedLeg {
    /// The rollup.
    pub chain_id: U64,
    /// Whether the builder writes it.
    pub relay: bool,
    /// The block it ran in.
    pub block_number: U64,
    /// Its transactions.
    pub transactions: Vec<SimulatedTx>,
    /// The messages that it emitted, by index.
    pub messages: Vec<MessageWire>,
}

/// A simulated transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SimulatedTx {
    /// Its hash; absent for a relay, whose bytes are fixed at sealing.
    pub transaction_hash: Option<B256>,
    /// `success`, `reverted`, `halted`, `invalid` or `dropped`.
    pub status: String,
    /// Gas used.
    pub gas_used: u64,
    /// Logs.
    pub logs: Vec<alloy_primitives::Log>,
    /// Return or revert data.
    pub output: Bytes,
    /// The decoded revert reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revert_reason: Option<String>,
}

/// A message that a leg emitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageWire {
    /// The protocol; `malformed` when it cannot be read.
    pub protocol: String,
    /// Its id.
    pub id: Option<B256>,
    /// The receiving rollup, when it is one that is served.
    pub destination: Option<U64>,
    /// The destination in the protocol's words, or what is malformed.
    pub text: String,
}

/// A balance change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BalanceChangeWire {
    /// The rollup.
    pub chain_id: U64,
    /// Whose.
    pub account: Address,
    /// `native` or the token's address.
    pub asset: String,
    /// By how much, in the smallest unit.
    pub change: SignedDecimal,
}

/// The answer of `lockstep_getSlot`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotStatus {
    /// The slot.
    pub slot: u64,
    /// Unix milliseconds.
    pub start: u64,
    /// Unix milliseconds, exclusive.
    pub end: u64,
    /// Who builds: the address that relays and direct payments go by.
    pub builder: Address,
    /// The rollups that are served.
    pub rollups: Vec<SlotRollupStatus>,
    /// How many bundles are pending.
    pub pending: usize,
    /// What happened in the slot, once it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<SlotReport>,
}

/// A rollup that is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotRollupStatus {
    /// The rollup.
    pub chain_id: U64,
    /// Its newest block.
    pub head: U64,
}

/// What happened in a slot: one line of `lockstep dev --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotReport {
    /// The slot.
    pub slot: u64,
    /// Unix milliseconds.
    pub start: u64,
    /// Unix milliseconds, exclusive.
    pub end: u64,
    /// Blocks by rollup.
    pub rollups: Vec<ReportRollup>,
    /// Bundles that were considered.
    pub bundles: Vec<ReportBundle>,
    /// All bids.
    pub bids: Vec<BidView>,
    /// Who proposed where.
    pub allocation: Vec<GrantWire>,
    /// What the committed lists are worth to the builder, in the numeraire's smallest unit.
    pub value: SignedDecimal,
    /// When the builder did what for it; absent when it built nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timing: Option<SlotTiming>,
}

/// When a builder did what for a slot, in Unix microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotTiming {
    /// When the last of the bundles that the bids count on was admitted, to the millisecond; absent without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_bundle_at_us: Option<u64>,
    /// When work on the slot began.
    pub build_began_at_us: u64,
    /// When the first bid was sent; absent when none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_bid_at_us: Option<u64>,
    /// When the last bid was sent; absent when none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_bid_at_us: Option<u64>,
    /// Bids that were sent to the market.
    pub bids_sent: u64,
    /// Those of them that it did not take.
    pub bids_refused: u64,
}

/// A rollup's blocks of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportRollup {
    /// The rollup.
    pub chain_id: U64,
    /// Its blocks.
    pub blocks: Vec<ReportBlock>,
}

/// A block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportBlock {
    /// Number.
    pub number: U64,
    /// Hash.
    pub hash: B256,
    /// In seconds.
    pub timestamp: u64,
    /// Transaction hashes.
    pub transactions: Vec<B256>,
}

/// A bundle of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportBundle {
    /// The Lockstep hash.
    pub hash: B256,
    /// What it is, as far as its sender told or its shape tells.
    pub kind: String,
    /// Its rollups.
    pub rollups: Vec<U64>,
    /// `landed`, `dropped`, `pending` and so on.
    pub state: String,
    /// Stable code of what blocked it.
    pub reason: Option<String>,
    /// G0 to G3.
    pub level: String,
}

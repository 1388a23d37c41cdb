//! Prepares, votes and decisions as JSON.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, U64};
use lockstep_delivery::{Decision, ExpectedBlock, Prepare, PreparedList, RequirementResult, Verdict, Vote, VoteRefusal};
use lockstep_primitives::{Asset, BlockList, ListBlock};
use serde::{Deserialize, Serialize};

use super::{SignedDecimal, chains};

/// The answer of `sequencer_getSlot`: what the rollup's blocks of a slot will be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SlotOffer {
    /// The rollup.
    pub chain_id: U64,
    /// The slot.
    pub slot: u64,
    /// The head that the slot builds on.
    pub parent_hash: B256,
    /// Its blocks.
    pub blocks: Vec<BlockPlanWire>,
    /// When it publishes unless it voted yes, in Unix milliseconds.
    pub publish_ms: u64,
    /// The highest level of guarantee that its way of delivering lists can keep: `G1`, `G2` or `G3`. Builders take what they
    /// do not know for `G1`.
    pub carries: String,
    /// In which order the blocks may hold transactions: `free`, `priority-fee`, `fcfs` or `top-of-block`.
    pub ordering: String,
    /// Gas of the free lane; 0 for every ordering but `top-of-block`.
    pub lane_gas: u64,
    /// When the pending public transactions came in that the sequencer has seen, oldest first. It judges lists by these.
    pub arrivals: Vec<ArrivalWire>,
    /// EIP-2718 bytes of the transactions that a list of this slot may not leave out, unless they are invalid after it or
    /// have no room in any of its blocks.
    pub inclusion: Vec<Bytes>,
}

/// When a transaction came in at a sequencer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ArrivalWire {
    /// The transaction's hash.
    pub hash: B256,
    /// Unix milliseconds.
    pub at_ms: u64,
}

/// A block that a sequencer is about to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BlockPlanWire {
    /// In seconds.
    pub timestamp: u64,
    /// Gas limit.
    pub gas_limit: u64,
    /// Who receives priority fees.
    pub beneficiary: Address,
    /// The block's randomness.
    pub prev_randao: B256,
    /// EIP-4788.
    pub parent_beacon_block_root: Option<B256>,
    /// The block's extraData.
    pub extra_data: Bytes,
    /// EIP-2718 bytes of the forced prefix.
    pub forced: Vec<Bytes>,
    /// How much data the sequencer takes.
    pub data_limits: DataLimitsWire,
    /// Gas that is kept for encrypted transactions: no list may use it.
    pub encrypted_gas: u64,
}

/// How much data a sequencer takes for now, in estimated compressed bytes (OP stack, `miner_setMaxDASize`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DataLimitsWire {
    /// Of one transaction; null for no limit.
    pub tx: Option<u64>,
    /// Of a block's transactions, forced ones apart; null for no limit.
    pub block: Option<u64>,
}

/// A block of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListBlockWire {
    /// Block number.
    pub number: U64,
    /// In seconds.
    pub timestamp: u64,
    /// EIP-2718 bytes, in order.
    pub transactions: Vec<Bytes>,
}

/// A block list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListWire {
    /// The rollup.
    pub chain_id: U64,
    /// Its blocks.
    pub blocks: Vec<ListBlockWire>,
}

/// What a block must turn out to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExpectedBlockWire {
    /// Block number.
    pub number: U64,
    /// Gas used by the whole block.
    pub gas_used: u64,
    /// Root of its receipts.
    pub receipts_root: B256,
    /// Positions in the list that must not revert.
    pub must_succeed: Vec<u32>,
}

/// How far a balance condition is met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequirementResultWire {
    /// Whose balance.
    pub account: Address,
    /// The token; the zero address is the native asset.
    pub asset: Address,
    /// The rise.
    pub increase: SignedDecimal,
    /// (block, position) of the bundle's first transaction.
    pub first: (u32, u32),
    /// (block, position) of its last.
    pub last: (u32, u32),
}

/// A list and what its execution must give.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PreparedListWire {
    /// The list.
    pub list: ListWire,
    /// One a block.
    pub expected: Vec<ExpectedBlockWire>,
    /// Balance conditions.
    pub requirements: Vec<RequirementResultWire>,
}

/// What a proposer asks one rollup to vote on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PrepareWire {
    /// The rollup.
    pub chain_id: U64,
    /// The slot.
    pub slot: u64,
    /// The attempt.
    pub attempt: u32,
    /// The block that the lists build on.
    pub parent_hash: B256,
    /// Digest of the forced transactions.
    pub forced_prefix: B256,
    /// Published on commit.
    pub with_cross: PreparedListWire,
    /// Published on abort.
    pub without_cross: PreparedListWire,
    /// Every rollup whose yes the commit needs.
    pub participants: Vec<U64>,
    /// The rollup's terms.
    pub holds: bool,
    /// Who receives the fees that may be directed.
    pub beneficiary: Option<Address>,
    /// Unix milliseconds.
    pub decide_ms: u64,
    /// Unix milliseconds.
    pub publish_ms: u64,
}

/// The parameter of `sequencer_prepare`: a prepare and its proposer's EIP-712 signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignedPrepare {
    /// What is asked.
    pub prepare: PrepareWire,
    /// 65 bytes r || s || v.
    pub signature: Bytes,
}

/// Why a sequencer votes no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VoteRefusalWire {
    /// Stable code.
    pub code: String,
    /// Index of the block in the list.
    pub block: Option<u32>,
    /// Position in the block.
    pub position: Option<u32>,
    /// For people.
    pub text: String,
}

/// The answer of `sequencer_prepare`: a vote and its sequencer's EIP-712 signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VoteWire {
    /// The rollup.
    pub chain_id: U64,
    /// The slot.
    pub slot: u64,
    /// The attempt.
    pub attempt: u32,
    /// Digest of the prepare.
    pub prepare: B256,
    /// The vote.
    pub yes: bool,
    /// Why not.
    pub refusal: Option<VoteRefusalWire>,
    /// 65 bytes r || s || v.
    pub signature: Bytes,
}

/// A decision and, for a proposer's, its EIP-712 signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DecisionWire {
    /// The slot.
    pub slot: u64,
    /// The attempt.
    pub attempt: u32,
    /// Whose attempt it is.
    pub proposer: Address,
    /// Commit or abort.
    pub commit: bool,
    /// Digest of the prepare by chain id.
    pub prepares: BTreeMap<U64, B256>,
    /// In words.
    pub reason: String,
    /// 65 bytes r || s || v; empty for an abort that anyone may record.
    pub signature: Bytes,
}

impl From<&PreparedList> for PreparedListWire {
    fn from(prepared: &PreparedList) -> Self {
        let list = ListWire {
            chain_id: U64::from(prepared.list.chain),
            blocks: prepared
                .list
                .blocks
                .iter()
                .map(|block| ListBlockWire {
                    number: U64::from(block.number),
                    timestamp: block.timestamp,
                    transactions: block.transactions.clone(),
                })
                .collect(),
        };
        let expected = prepared
            .expected
            .iter()
            .map(|block| ExpectedBlockWire {
                number: U64::from(block.number),
                gas_used: block.gas_used,
                receipts_root: block.receipts_root,
                must_succeed: block.must_succeed.clone(),
            })
            .collect();
        let requirements = prepared
            .requirements
            .iter()
            .map(|result| RequirementResultWire {
                account: result.account,
                asset: match result.asset {
                    Asset::Native => Address::ZERO,
                    Asset::Token(token) => token,
                },
                increase: SignedDecimal(result.increase),
                first: result.first,
                last: result.last,
            })
            .collect();
        Self { list, expected, requirements }
    }
}

impl From<PreparedListWire> for PreparedList {
    fn from(wire: PreparedListWire) -> Self {
        let blocks = wire
            .list
            .blocks
            .into_iter()
            .map(|block| ListBlock { number: block.number.to(), timestamp: block.timestamp, transactions: block.transactions })
            .collect();
        let expected = wire
            .expected
            .into_iter()
            .map(|block| ExpectedBlock {
                number: block.number.to(),
                gas_used: block.gas_used,
                receipts_root: block.receipts_root,
                must_succeed: block.must_succeed,
            })
            .collect();
        let requirements = wire
            .requirements
            .into_iter()
            .map(|result| RequirementResult {
                account: result.account,
                asset: if result.asset.is_zero() { Asset::Native } else { Asset::Token(result.asset) },
                increase: result.increase.0,
                first: result.first,
                last: result.last,
            })
            .collect();
        Self { list: BlockList { chain: wire.list.chain_id.to(), blocks }, expected, requirements }
    }
}

impl From<&Prepare> for PrepareWire {
    fn from(prepare: &Prepare) -> Self {
        Self {
            chain_id: U64::from(prepare.chain),
            slot: prepare.slot,
            attempt: prepare.attempt,
            parent_hash: prepare.parent_hash,
            forced_prefix: prepare.forced_prefix,
            with_cross: (&prepare.with_cross).into(),
            without_cross: (&prepare.without_cross).into(),
            participants: chains(&prepare.participants),
            holds: prepare.holds,
            beneficiary: prepare.beneficiary,
            decide_ms: prepare.t_decide_ms,
            publish_ms: prepare.t_publish_ms,
        }
    }
}

impl From<PrepareWire> for Prepare {
    fn from(wire: PrepareWire) -> Self {
        Self {
            chain: wire.chain_id.to(),
            slot: wire.slot,
            attempt: wire.attempt,
            parent_hash: wire.parent_hash,
            forced_prefix: wire.forced_prefix,
            with_cross: wire.with_cross.into(),
            without_cross: wire.without_cross.into(),
            participants: wire.participants.iter().map(|chain| chain.to()).collect(),
            holds: wire.holds,
            beneficiary: wire.beneficiary,
            t_decide_ms: wire.decide_ms,
            t_publish_ms: wire.publish_ms,
        }
    }
}

impl VoteWire {
    /// A signed vote.
    pub fn new(vote: &Vote, signature: Bytes) -> Self {
        Self {
            chain_id: U64::from(vote.chain),
            slot: vote.slot,
            attempt: vote.attempt,
            prepare: vote.digest,
            yes: vote.yes,
            refusal: vote.reason.as_ref().map(|reason| VoteRefusalWire {
                code: reason.code.clone(),
                block: reason.block,
                position: reason.position,
                text: reason.text.clone(),
            }),
            signature,
        }
    }

    /// What is signed.
    pub fn vote(&self) -> Vote {
        Vote {
            chain: self.chain_id.to(),
            slot: self.slot,
            attempt: self.attempt,
            digest: self.prepare,
            yes: self.yes,
            reason: self.refusal.as_ref().map(|refusal| VoteRefusal {
                code: refusal.code.clone(),
                block: refusal.block,
                position: refusal.position,
                text: refusal.text.clone(),
            }),
        }
    }
}

impl DecisionWire {
    /// A decision and its signature; empty when it has none.
    pub fn new(decision: &Decision, signature: Bytes) -> Self {
        Self {
            slot: decision.slot,
            attempt: decision.attempt,
            proposer: decision.proposer,
            commit: decision.verdict == Verdict::Commit,
            prepares: decision.prepares.iter().map(|(chain, digest)| (U64::from(*chain), *digest)).collect(),
            reason: decision.reason.clone(),
            signature,
        }
    }

    /// What is signed.
    pub fn decision(&self) -> Decision {
        Decision {
            slot: self.slot,
            attempt: self.attempt,
            proposer: self.proposer,
            verdict: if self.commit { Verdict::Commit } else { Verdict::Abort },
            prepares: self.prepares.iter().map(|(chain, digest)| (chain.to(), *digest)).collect(),
            reason: self.reason.clone(),
        }
    }
}

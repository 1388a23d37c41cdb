//! What the builder made of a slot, as a file, and how two of it differ.

use std::{collections::BTreeMap, path::Path};

use alloy_primitives::{B256, ChainId, I256, U64};
use lockstep_building::{BuildError, Draft, LaneDraft};
use lockstep_delivery::{Decision, Verdict};
use lockstep_primitives::{BlockList, ListBlock, RollupSet};
use lockstep_rpc::wire::{BidWire, GrantWire, ListBlockWire, ListWire, SignedDecimal};
use lockstep_simulation::{LaneError, SimulationError, StateError};
use serde::{Deserialize, Serialize};

use super::{
    slot::{SlotFileError, read, wrong},
    steps::once_each,
};

/// The file of what the builder made of a slot.
pub(crate) const DECISIONS_FILE: &str = "decisions.json";

/// What the builder made of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DecisionsFile {
    /// The drafts, in the order in which they were built.
    pub(crate) drafts: Vec<DraftFile>,
    /// What the sets that were bid on were worth; absent in slots that were built at once, where drafts say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) values: Option<Vec<ValueFile>>,
    /// The bids that the market took.
    pub(crate) bids: Vec<BidWire>,
    /// Who proposes where; `None` when the market did not say so in time.
    pub(crate) allocation: Option<Vec<GrantWire>>,
    /// What the record says of what was delivered; `None` when nothing was.
    pub(crate) decision: Option<DecisionFile>,
}

impl DecisionsFile {
    /// Reads `decisions.json`.
    ///
    /// # Errors
    /// When it is absent or malformed.
    pub(crate) fn read(folder: &Path) -> Result<Self, SlotFileError> {
        read(folder, DECISIONS_FILE)
    }

    /// In what sets that were bid on are worth something else now, in words.
    ///
    /// # Errors
    /// When no values were recorded, or one of a set that nobody proposed for.
    pub(crate) fn value_differences(&self, again: &BTreeMap<RollupSet, I256>) -> Result<Vec<String>, SlotFileError> {
        let Some(values) = &self.values else {
            return Err(wrong("decisions.values", "a slot that was built step by step has the values that were bid on"));
        };
        let mut differences = Vec::new();
        for (index, ValueFile { rollups, value }) in values.iter().enumerate() {
            let place = format!("decisions.values[{index}].rollups");
            let set = once_each(rollups).map_err(|chain| wrong(&place, format!("rollup {chain} is there twice")))?;
            let name = set_name(&set);
            let now = again.get(&set).ok_or_else(|| wrong(place, format!("no step proposes for the set {name}")))?;
            if *now != value.0 {
                differences.push(format!("value that was bid on for {name}: built {now}, recorded {}", value.0));
            }
        }
        Ok(differences)
    }
}

/// What a set of rollups was worth when it was bid on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ValueFile {
    rollups: Vec<U64>,
    /// To the proposer, in the numeraire's smallest unit.
    value: SignedDecimal,
}

impl ValueFile {
    pub(crate) fn new(rollups: &RollupSet, value: I256) -> Self {
        Self { rollups: rollups.iter().map(|chain| U64::from(*chain)).collect(), value: SignedDecimal(value) }
    }
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DecisionFile {
    attempt: u32,
    commit: bool,
    reason: String,
    prepares: BTreeMap<U64, B256>,
}

impl From<&Decision> for DecisionFile {
    fn from(decision: &Decision) -> Self {
        Self {
            attempt: decision.attempt,
            commit: decision.verdict == Verdict::Commit,
            reason: decision.reason.clone(),
            prepares: decision.prepares.iter().map(|(chain, digest)| (U64::from(*chain), *digest)).collect(),
        }
    }
}

/// A draft: all that is promised of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DraftFile {
    rollups: Vec<U64>,
    value: SignedDecimal,
    placed: Vec<B256>,
    left_out: Vec<LeftOutFile>,
    lanes: Vec<LaneFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LeftOutFile {
    hash: B256,
    reason: String,
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LaneFile {
    digest: B256,
    list: ListWire,
    blocks: Vec<BlockFile>,
    /// Digest of what the blocks change.
    changes: B256,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BlockFile {
    number: u64,
    forced: usize,
    gas_used: u64,
    receipts_root: B256,
}

impl DraftFile {
    /// # Errors
    /// When the state that the draft was built on cannot be read.
    pub(crate) fn new(draft: &Draft) -> Result<Self, BuildError> {
        let left_out = draft.left_out.iter().map(|(hash, rejection)| LeftOutFile {
            hash: *hash,
            reason: rejection.reason.code().to_owned(),
            text: rejection.to_string(),
        });
        Ok(Self {
            rollups: draft.rollups.iter().map(|chain| U64::from(*chain)).collect(),
            value: SignedDecimal(draft.value),
            placed: draft.placed.iter().map(|placed| placed.hash).collect(),
            left_out: left_out.collect(),
            lanes: draft.lanes.values().map(LaneFile::new).collect::<Result<_, _>>()?,
        })
    }

    /// What of another draft differs from this one, in words.
    pub(crate) fn differences(&self, again: &Self) -> Vec<String> {
        let name = names(&self.rollups);
        if self.rollups != again.rollups {
            return vec![format!("proposal for {name}: now it is one for {}", names(&again.rollups))];
        }
        let mut differences = Vec::new();
        let mut compare = |what: String, now: String, recorded: String| {
            if now != recorded {
                differences.push(format!("proposal for {name}: {what}: built {now}, recorded {recorded}"));
            }
        };
        compare("value".to_owned(), again.value.0.to_string(), self.value.0.to_string());
        compare("placed bundles".to_owned(), hashes(&again.placed), hashes(&self.placed));
        compare("left out bundles".to_owned(), left_out(&again.left_out), left_out(&self.left_out));
        compare("lists".to_owned(), again.lanes.len().to_string(), self.lanes.len().to_string());
        for (now, recorded) in again.lanes.iter().zip(&self.lanes) {
            let at = |what: &str| format!("rollup {}: {what}", recorded.list.chain_id);
            if now.list != recorded.list {
                compare(at("list"), txs(&now.list), txs(&recorded.list));
            }
            compare(at("digest of the list"), now.digest.to_string(), recorded.digest.to_string());
            compare(at("blocks"), now.blocks.len().to_string(), recorded.blocks.len().to_string());
            for (now, recorded) in now.blocks.iter().zip(&recorded.blocks) {
                let at = |what: &str| at(&format!("block {}: {what}", recorded.number));
                compare(at("number"), now.number.to_string(), recorded.number.to_string());
                compare(at("forced transactions"), now.forced.to_string(), recorded.forced.to_string());
                compare(at("gas used"), now.gas_used.to_string(), recorded.gas_used.to_string());
                compare(at("receipts root"), now.receipts_root.to_string(), recorded.receipts_root.to_string());
            }
            compare(at("state afterwards"), now.changes.to_string(), recorded.changes.to_string());
        }
        differences
    }
}

fn names(rollups: &[U64]) -> String {
    rollups.iter().map(ToString::to_string).collect::<Vec<_>>().join("+")
}

/// The rollups of a set, as differences and errors name it.
pub(super) fn set_name(rollups: &RollupSet) -> String {
    rollups.iter().map(ToString::to_string).collect::<Vec<_>>().join("+")
}

fn hashes(hashes: &[B256]) -> String {
    format!("[{}]", hashes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

fn left_out(bundles: &[LeftOutFile]) -> String {
    let bundles = bundles.iter().map(|bundle| format!("{} ({}: {})", bundle.hash, bundle.reason, bundle.text));
    format!("[{}]", bundles.collect::<Vec<_>>().join(", "))
}

/// The hashes of a list's transactions, block by block.
fn txs(list: &ListWire) -> String {
    let block = |block: &ListBlockWire| {
        let txs: Vec<B256> = block.transactions.iter().map(alloy_primitives::keccak256).collect();
        format!("{} at {}: {}", block.number, block.timestamp, hashes(&txs))
    };
    list.blocks.iter().map(block).collect::<Vec<_>>().join("; ")
}

impl LaneFile {
    fn new(lane: &LaneDraft) -> Result<Self, BuildError> {
        let chain = lane.chain;
        let listed = lane.blocks.iter().map(|block| {
            let context = block.block.context();
            let transactions = block.listed().iter().map(|executed| executed.tx.raw().clone()).collect();
            ListBlock { number: context.number, timestamp: context.timestamp, transactions }
        });
        let list = BlockList { chain, blocks: listed.collect() };
        let digest = list.digest();
        let blocks = lane.blocks.iter().map(|block| {
            let summary = block.summary();
            BlockFile {
                number: block.block.context().number,
                forced: block.forced,
                gas_used: summary.gas_used,
                receipts_root: summary.receipts_root,
            }
        });
        // The last block's changes are those of all.
        let changes = match lane.blocks.last() {
            Some(last) => last.block.state().changes().map_err(|error| unreadable(chain, error))?.digest(),
            None => B256::ZERO,
        };
        let wire = list.blocks.into_iter().map(|block| ListBlockWire {
            number: U64::from(block.number),
            timestamp: block.timestamp,
            transactions: block.transactions,
        });
        let list = ListWire { chain_id: U64::from(chain), blocks: wire.collect() };
        Ok(Self { digest, list, blocks: blocks.collect(), changes })
    }
}

/// A state that cannot be read, as building says it.
pub(crate) fn unreadable(chain: ChainId, error: StateError) -> BuildError {
    BuildError::Lane { chain, cause: LaneError::Simulation(SimulationError::State(error)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::I256;

    #[test]
    fn whatever_differs_is_named_with_its_rollup() {
        let draft = |value: i64, gas_used: u64| DraftFile {
            rollups: vec![U64::from(7)],
            value: SignedDecimal(I256::try_from(value).unwrap()),
            placed: Vec::new(),
            left_out: Vec::new(),
            lanes: vec![LaneFile {
                digest: B256::ZERO,
                list: ListWire { chain_id: U64::from(7), blocks: Vec::new() },
                blocks: vec![BlockFile { number: 5, forced: 0, gas_used, receipts_root: B256::ZERO }],
                changes: B256::ZERO,
            }],
        };
        assert_eq!(draft(1, 2).differences(&draft(1, 2)), Vec::<String>::new());
        let expected =
            ["proposal for 7: value: built 3, recorded 1", "proposal for 7: rollup 7: block 5: gas used: built 4, recorded 2"];
        assert_eq!(draft(1, 2).differences(&draft(3, 4)), expected);
    }

    #[test]
    fn a_value_that_differs_is_named_with_its_set_and_one_that_nobody_asked_for_is_refused() {
        let value = |value: i64| I256::try_from(value).unwrap();
        let (one, both): (RollupSet, RollupSet) = ([7].into(), [7, 8].into());
        let values = vec![ValueFile::new(&one, value(-1)), ValueFile::new(&both, value(2))];
        let file = DecisionsFile { drafts: Vec::new(), values: Some(values), bids: Vec::new(), allocation: None, decision: None };
        let text = serde_json::to_string(&file).unwrap();
        assert_eq!(serde_json::from_str::<DecisionsFile>(&text).unwrap(), file);

        let again = BTreeMap::from([(one.clone(), value(-1)), (both.clone(), value(2)), ([8].into(), value(9))]);
        assert_eq!(file.value_differences(&again).unwrap(), Vec::<String>::new());
        let other = BTreeMap::from([(one.clone(), value(-1)), (both, value(3))]);
        assert_eq!(file.value_differences(&other).unwrap(), ["value that was bid on for 7+8: built 3, recorded 2"]);

        let refused = file.value_differences(&BTreeMap::from([(one, value(-1))])).unwrap_err();
        assert_eq!(refused.to_string(), "decisions.values[1].rollups: no step proposes for the set 7+8");
        let without = DecisionsFile { values: None, ..file };
        assert_eq!(without.value_differences(&again).unwrap_err().code(), "invalid_field");
    }
}

//! One block of a list, and whether a block that somebody made holds it.

use std::collections::BTreeMap;

use alloy_primitives::{B256, Bytes, keccak256};
use lockstep_primitives::BlockList;
use lockstep_simulation::{BlockPlan, LaneError, SlotRollup};

use super::wire::Rpc;
use crate::NodeError;

/// One block of a list, as the slot has it too.
#[derive(Debug)]
pub(super) struct Listed<'a> {
    /// The block's number.
    pub(super) number: u64,
    /// Its index in the slot.
    pub(super) index: usize,
    /// What the slot says of it.
    pub(super) plan: &'a BlockPlan,
    /// Its transactions.
    pub(super) transactions: &'a [Bytes],
    /// Their hashes.
    pub(super) hashes: Vec<B256>,
    /// The head that the slot builds on.
    pub(super) parent: B256,
}

/// How a list's transactions stand in a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// There are some, and none is in the block.
    Absent,
    /// All of them are in the block, as the list has them.
    Whole,
    /// They are not: what differs first, in words.
    Differs(String),
}

/// What may stand between two transactions of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Between {
    /// Transactions of others.
    Others,
    /// Nothing.
    Nothing,
}

impl<'a> Listed<'a> {
    /// Takes one block out of a list. The list and the slot have to agree on it, and no transactions may be forced: these
    /// ways of delivery take none.
    pub(super) fn new(rpc: &Rpc, rollup: &'a SlotRollup, list: &'a BlockList, index: usize) -> Result<Self, NodeError> {
        let chain = rpc.chain();
        let unfit = |cause| NodeError::List { chain, cause };
        if rollup.chain != chain || list.chain != chain {
            return Err(unfit(LaneError::NoBlocks(chain)));
        }
        let number = rollup.parent.number.saturating_add(1).saturating_add(index as u64);
        let plan = rollup.blocks.get(index);
        let planned = plan.map(|plan| (number, plan.next.timestamp));
        let block = list.blocks.get(index);
        let listed = block.map(|block| (block.number, block.timestamp));
        let (Some(plan), Some(block)) = (plan, block) else { return Err(unfit(LaneError::OtherBlocks { listed, planned })) };
        if listed != planned {
            return Err(unfit(LaneError::OtherBlocks { listed, planned }));
        }
        if !plan.forced.is_empty() {
            return Err(rpc.unusable("it takes no forced transactions".into()));
        }
        let hashes = block.transactions.iter().map(keccak256).collect();
        Ok(Self { number, index, plan, transactions: &block.transactions, hashes, parent: rollup.parent.hash })
    }

    /// How it stands in a block with those transactions.
    pub(super) fn standing(&self, made: &[B256], between: Between) -> Standing {
        let places: BTreeMap<&B256, usize> = made.iter().enumerate().map(|(place, hash)| (hash, place)).collect();
        if !self.hashes.is_empty() && self.hashes.iter().all(|hash| !places.contains_key(hash)) {
            return Standing::Absent;
        }
        let mut last: Option<usize> = None;
        for (index, hash) in self.hashes.iter().enumerate() {
            let Some(&place) = places.get(hash) else {
                return Standing::Differs(format!("transaction {index} ({hash}) is missing"));
            };
            match last.map(|last| (place > last, place.saturating_sub(last))) {
                Some((false, _)) => {
                    return Standing::Differs(format!("transaction {index} ({hash}) stands before the one before it"));
                }
                Some((true, apart)) if apart > 1 && between == Between::Nothing => {
                    return Standing::Differs(format!("transaction {index} ({hash}) has {} of others before it", apart - 1));
                }
                Some(_) | None => last = Some(place),
            }
        }
        Standing::Whole
    }

    /// That none of its transactions came: the first one stands for all.
    pub(super) fn nothing_came(&self) -> String {
        let first = self.hashes.first().copied().unwrap_or_default();
        format!("it holds none of the list's {} transactions; the first one is {first}", self.hashes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(bytes: &[u8]) -> Vec<B256> {
        bytes.iter().map(|byte| B256::repeat_byte(*byte)).collect()
    }

    fn standing(listed: &[u8], made: &[u8], between: Between) -> Standing {
        let plan = BlockPlan { next: Default::default(), forced: Vec::new() };
        let hashes_of_list = hashes(listed);
        let listed = Listed { number: 1, index: 0, plan: &plan, transactions: &[], hashes: hashes_of_list, parent: B256::ZERO };
        listed.standing(&hashes(made), between)
    }

    fn differs(standing: &Standing, words: &str) {
        assert!(matches!(standing, Standing::Differs(cause) if cause.contains(words)), "{standing:?} does not say {words:?}");
    }

    #[test]
    fn a_list_is_whole_when_all_of_it_is_there_in_order() {
        for between in [Between::Others, Between::Nothing] {
            assert_eq!(standing(&[1, 2, 3], &[9, 1, 2, 3, 8], between), Standing::Whole);
            assert_eq!(standing(&[], &[9], between), Standing::Whole);
            assert_eq!(standing(&[1, 2], &[9, 8], between), Standing::Absent);
        }
    }

    #[test]
    fn others_in_between_count_only_where_nothing_may_stand_there() {
        assert_eq!(standing(&[1, 2], &[1, 9, 8, 2], Between::Others), Standing::Whole);
        let apart = standing(&[1, 2], &[1, 9, 8, 2], Between::Nothing);
        differs(&apart, &format!("transaction 1 ({}) has 2 of others before it", B256::repeat_byte(2)));
    }

    #[test]
    fn the_first_difference_is_named() {
        differs(&standing(&[1, 2, 3], &[1, 3], Between::Others), &format!("transaction 1 ({}) is missing", B256::repeat_byte(2)));
        differs(&standing(&[1, 2], &[2, 1], Between::Others), "transaction 1");
        differs(&standing(&[1, 1], &[1], Between::Others), "stands before the one before it");
    }
}

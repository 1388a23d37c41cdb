//! What comes after a list that is decided: transactions that nobody could read before.

use std::sync::Arc;

use lockstep_primitives::{BlockList, Reason};

use crate::{
    BlockTx, LaneError, SlotRollup,
    lane::{Lane, decode_list},
};

/// A list with further transactions after it.
#[derive(Clone, Debug)]
pub struct Extended {
    /// The list with them.
    pub list: BlockList,
    /// What became of each: its index in the slot's last block, forced transactions counted, or why it is not there.
    pub outcomes: Vec<Result<u64, Reason>>,
}

impl SlotRollup {
    /// The same without gas that is kept for encrypted transactions: for when they are there.
    #[must_use]
    pub fn opened(&self) -> Self {
        let mut opened = self.clone();
        for plan in &mut opened.blocks {
            plan.next.encrypted_gas = 0;
        }
        opened
    }

    /// Whether the slot's last block may hold anything but forced transactions (see
    /// [`ForkSchedule::activates_at`](crate::ForkSchedule::activates_at)).
    pub fn ends_open(&self) -> bool {
        let Some((last, before)) = self.blocks.split_last() else { return false };
        let before = before.last().map_or(self.parent.timestamp, |plan| plan.next.timestamp);
        !self.forks.activates_at(before, last.next.timestamp)
    }
}

/// Executes a list and, in the slot's last block, those of `more` that are valid there, in their order. One that is not is left
/// out; one that reverts is in. Gas that is kept for encrypted transactions is theirs.
///
/// # Errors
/// Those of [`execute_list`](crate::execute_list), for what is in the list already.
pub fn extend_list(rollup: &SlotRollup, list: &BlockList, more: &[BlockTx]) -> Result<Extended, LaneError> {
    let decoded = decode_list(rollup, list)?;
    let mut lane = Lane::open(Arc::new(rollup.opened()))?;
    for (block, listed) in decoded.iter().enumerate() {
        if block > 0 {
            lane.advance()?;
        }
        for (index, tx) in listed.transactions.iter().enumerate() {
            lane.block_mut().execute(tx)?.map_err(|reason| LaneError::Invalid { block, index, reason })?;
        }
    }
    let mut extended = list.clone();
    let mut outcomes = Vec::with_capacity(more.len());
    for tx in more {
        let outcome = if tx.is_deposit() { Err(Reason::DepositTransaction) } else { lane.block_mut().execute(tx)?.map(|_| ()) };
        outcomes.push(outcome.map(|()| {
            if let Some(last) = extended.blocks.last_mut() {
                last.transactions.push(tx.raw().clone());
            }
            lane.block().executed().len() as u64 - 1
        }));
    }
    Ok(Extended { list: extended, outcomes })
}

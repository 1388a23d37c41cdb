//! Balance conditions, measured while the list that keeps them is executed.

use std::{collections::BTreeMap, sync::Arc};

use alloy_primitives::{I256, U256};
use lockstep_primitives::BlockList;
use lockstep_simulation::{
    DecodedBlock, LaneBlock, LaneError, PendingBlock, SimulationError, SlotRollup, decode_list, execute_decoded,
};

use crate::{Promise, RequirementRun, balance_of};

/// By how much a balance rose over a promise's span, or what kept that from being measured.
pub type Measured = Result<I256, String>;

/// Executes a list of foreign bytes on a fresh EVM, once, and measures on the way by how much the balances rise over the
/// promises' spans. What keeps one of them from being measured is in its place.
///
/// # Errors
/// When the list cannot be executed, see [`execute_list`](lockstep_simulation::execute_list()).
pub fn execute_measured(
    rollup: &Arc<SlotRollup>,
    list: &BlockList,
    promises: &[Promise],
) -> Result<(Vec<LaneBlock>, Vec<Measured>), LaneError> {
    let decoded = decode_list(rollup, list)?;
    let mut meter = Meter::new(promises, &decoded);
    let executed = execute_decoded(rollup, &decoded, |block, gap, open| meter.look(block, gap, open))?;
    Ok((executed, meter.finish()))
}

/// A place between the listed transactions: the index of the block, and how many of its listed transactions are before it.
type Gap = (usize, usize);

/// Reads balances at the two ends of spans while a list is executed.
#[derive(Debug)]
pub(super) struct Meter<'a> {
    promises: &'a [Promise],
    /// The spans that begin and end in a gap, by their index.
    begins: BTreeMap<Gap, Vec<usize>>,
    ends: BTreeMap<Gap, Vec<usize>>,
    before: Vec<Option<Result<U256, String>>>,
    measured: Vec<Result<I256, String>>,
}

impl<'a> Meter<'a> {
    /// For these spans of a list. One that is not in the list is not measured, and says so.
    pub(super) fn new(promises: &'a [Promise], list: &[DecodedBlock]) -> Self {
        let mut meter = Self {
            promises,
            begins: BTreeMap::new(),
            ends: BTreeMap::new(),
            before: vec![None; promises.len()],
            measured: Vec::with_capacity(promises.len()),
        };
        let place = |(block, position): (u32, u32)| (block as usize, position as usize);
        let listed = |(block, position): Gap| list.get(block).is_some_and(|block| position < block.transactions.len());
        for (index, promise) in promises.iter().enumerate() {
            let (first, last) = (place(promise.first), place(promise.last));
            let account = promise.requirement.requirement.account;
            let unmeasured = if !listed(first) || !listed(last) {
                format!("the span of a requirement on {account} is not in the list")
            } else if last < first {
                format!("the span of a requirement on {account} ends before it begins")
            } else {
                meter.begins.entry(first).or_default().push(index);
                meter.ends.entry((last.0, last.1 + 1)).or_default().push(index);
                format!("the span of a requirement on {account} was not executed")
            };
            meter.measured.push(Err(unmeasured));
        }
        meter
    }

    /// Reads what is to be read in a gap of the open block.
    pub(super) fn look(&mut self, block: usize, gap: usize, open: &PendingBlock) -> Result<(), SimulationError> {
        for index in self.ends.remove(&(block, gap)).unwrap_or_default() {
            let after = balance(open, &self.promises[index].requirement)?;
            if let Some(before) = self.before[index].take() {
                self.measured[index] = before.and_then(|before| Ok(I256::from_raw(after?.wrapping_sub(before))));
            }
        }
        for index in self.begins.remove(&(block, gap)).unwrap_or_default() {
            self.before[index] = Some(balance(open, &self.promises[index].requirement)?);
        }
        Ok(())
    }

    /// By how much the balances rose, span by span, or why that is not known.
    pub(super) fn finish(self) -> Vec<Result<I256, String>> {
        self.measured
    }
}

/// A balance, or why it cannot be read.
fn balance(open: &PendingBlock, required: &RequirementRun) -> Result<Result<U256, String>, SimulationError> {
    let of = &required.requirement;
    Ok(balance_of(open, of.account, of.asset)?.map_err(|reason| reason.to_string()))
}

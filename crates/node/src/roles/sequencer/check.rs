//! Whether a list is fit to be published.

use std::sync::Arc;

use lockstep_building::{Promise, RequirementRun, check_order, execute_measured, missing_in_order};
use lockstep_delivery::{PreparedList, RequirementResult, VoteRefusal};
use lockstep_primitives::Requirement;
use lockstep_simulation::{LaneError, SimulationError, SlotRollup, StateError};

use super::rules::ListRules;

/// Why a list was not found to keep its promise.
pub(super) enum Unfit {
    /// It does not.
    Refused(VoteRefusal),
    /// A value of the state has to be fetched first.
    Missing,
}

/// Executes a list, looks whether it keeps the rollup's rules, and compares it with what it promises. Any difference means no.
pub(super) fn check(rollup: &Arc<SlotRollup>, prepared: &PreparedList, rules: &ListRules) -> Result<(), Unfit> {
    let refuse = |code: &str, block: Option<u32>, position: Option<u32>, text: String| {
        Unfit::Refused(VoteRefusal { code: code.to_owned(), block, position, text })
    };
    let promise = |promised: &RequirementResult| {
        let requirement = Requirement {
            chain: rollup.chain,
            account: promised.account,
            asset: promised.asset,
            min_increase: Default::default(),
        };
        let requirement = RequirementRun { requirement, increase: promised.increase };
        Promise { requirement, first: promised.first, last: promised.last }
    };
    let promises: Vec<Promise> = prepared.requirements.iter().map(promise).collect();
    let (blocks, measured) = execute_measured(rollup, &prepared.list, &promises).map_err(|error| match error {
        LaneError::Simulation(SimulationError::State(StateError::Missing(_))) => Unfit::Missing,
        error => refuse("list_does_not_execute", None, None, error.to_string()),
    })?;
    check_order(rules.ordering, &rules.arrivals, &blocks)
        .map_err(|error| refuse("out_of_order", Some(error.block), Some(error.position), error.text))?;
    let missing = missing_in_order(rollup, rules.ordering, &rules.arrivals, &blocks, &rules.inclusion);
    let missing = missing.map_err(|error| match error {
        LaneError::Simulation(SimulationError::State(StateError::Missing(_))) => Unfit::Missing,
        error => refuse("inclusion_unreadable", None, None, error.to_string()),
    })?;
    if let Some(first) = missing.first() {
        let others = missing.len() - 1;
        let text = format!("{first} of the inclusion list is left out, though valid and with room; so are {others} others");
        return Err(refuse("inclusion_missing", None, None, text));
    }
    for (index, (block, expected)) in (0_u32..).zip(blocks.iter().zip(&prepared.expected)) {
        for position in &expected.must_succeed {
            let succeeded = block.listed().get(*position as usize).is_some_and(|tx| tx.outcome.succeeded());
            if !succeeded {
                let text = "a transaction that must succeed does not".to_owned();
                return Err(refuse("must_succeed", Some(index), Some(*position), text));
            }
        }
        let summary = block.summary();
        if summary.gas_used != expected.gas_used {
            let text = format!("executed {}, promised {}", summary.gas_used, expected.gas_used);
            return Err(refuse("gas_used_differs", Some(index), None, text));
        }
        if summary.receipts_root != expected.receipts_root {
            let text = format!("executed {}, promised {}", summary.receipts_root, expected.receipts_root);
            return Err(refuse("receipts_root_differs", Some(index), None, text));
        }
    }
    for (promised, increase) in prepared.requirements.iter().zip(measured) {
        let (block, position) = (Some(promised.first.0), Some(promised.first.1));
        let increase = increase.map_err(|cause| refuse("requirement_unreadable", block, position, cause))?;
        if increase != promised.increase {
            let text = format!("the balance rises by {increase}, promised {}", promised.increase);
            return Err(refuse("requirement_differs", block, position, text));
        }
    }
    Ok(())
}

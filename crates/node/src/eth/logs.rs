//! `eth_getLogs`.

use std::ops::RangeInclusive;

use alloy::rpc::types::{BlockNumberOrTag, Filter, FilterBlockOption, Log};
use jsonrpsee::core::RpcResult;
use lockstep_provider::{EmbeddedBlock, EmbeddedTx};

use super::{
    Eth,
    errors::{self, invalid_params},
    format,
    params::Args,
};

/// The most blocks that one query looks through.
pub(crate) const MAX_LOG_BLOCKS: u64 = 100_000;
/// The most logs that one query answers.
pub(crate) const MAX_LOGS: usize = 10_000;

/// `eth_getLogs`.
pub(crate) fn get(eth: &Eth, args: &mut Args<'_>) -> RpcResult<Vec<Log>> {
    let filter: Filter = args.required()?;
    let mut found = Vec::new();
    match filter.block_option {
        FilterBlockOption::AtBlockHash(hash) => {
            let block = eth.rollup.block_by_hash(hash).ok_or_else(|| errors::block_not_found(hash))?;
            collect(&block, &filter, &mut found)?;
        }
        FilterBlockOption::Range { from_block, to_block } => {
            let newest = eth.rollup.newest().map_or(0, |block| block.header.number);
            for block in block_range(from_block, to_block, newest)?.filter_map(|number| eth.rollup.block(number)) {
                collect(&block, &filter, &mut found)?;
            }
        }
    }
    Ok(found)
}

/// The logs of a block that match a filter's addresses and topics.
pub(crate) fn matching<'a>(block: &'a EmbeddedBlock, filter: &'a Filter) -> impl Iterator<Item = Log> + 'a {
    // Most blocks have nothing for a filter, and their bloom says so.
    let candidates: &[EmbeddedTx] = if filter.matches_bloom(block.header.logs_bloom) { &block.txs } else { &[] };
    candidates.iter().enumerate().flat_map(move |(index, tx)| {
        let logs = tx.executed.outcome.logs.iter().zip(tx.first_log..);
        let logs = logs.filter(move |(log, _)| filter.matches(log));
        logs.map(move |(log, log_index)| format::log(block, index, tx, log, log_index))
    })
}

fn collect(block: &EmbeddedBlock, filter: &Filter, found: &mut Vec<Log>) -> RpcResult<()> {
    for log in matching(block, filter) {
        if found.len() == MAX_LOGS {
            let text = format!("filter: more than {MAX_LOGS} logs match, ask for fewer blocks or filter by address or topic");
            return Err(errors::limit(text));
        }
        found.push(log);
    }
    Ok(())
}

/// The blocks from one bound to another. A bound that is not given is the newest block; what lies after the newest block
/// is left out, so that a client that is ahead by a block gets what there is.
fn block_range(from: Option<BlockNumberOrTag>, to: Option<BlockNumberOrTag>, newest: u64) -> RpcResult<RangeInclusive<u64>> {
    if let (Some(BlockNumberOrTag::Number(from)), Some(BlockNumberOrTag::Number(to))) = (from, to)
        && from > to
    {
        return Err(invalid_params(format!("filter: fromBlock {from} is after toBlock {to}")));
    }
    let number = |bound| match bound {
        Some(BlockNumberOrTag::Number(number)) => number,
        Some(BlockNumberOrTag::Earliest) => 0,
        _ => newest,
    };
    let (from, to) = (number(from), number(to).min(newest));
    let count = to.saturating_sub(from).saturating_add(1);
    if count > MAX_LOG_BLOCKS {
        return Err(errors::limit(format!("filter: {count} blocks are more than {MAX_LOG_BLOCKS}: ask for fewer at a time")));
    }
    Ok(from..=to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_default_to_the_newest_block_and_end_there() {
        let range = |from, to| block_range(from, to, 200_000).map_err(|error| error.code());
        let number = |number| Some(BlockNumberOrTag::Number(number));
        assert_eq!(range(None, None), Ok(200_000..=200_000));
        assert_eq!(range(number(199_999), None), Ok(199_999..=200_000));
        assert_eq!(range(number(199_999), number(900_000)), Ok(199_999..=200_000));
        assert_eq!(range(Some(BlockNumberOrTag::Earliest), number(5)), Ok(0..=5));
        assert!(range(number(200_001), None).unwrap().is_empty(), "nothing yet");
        assert_eq!(range(number(6), number(5)), Err(-32602));
        assert_eq!(range(number(100_001), None), Ok(100_001..=200_000), "exactly as many as there may be");
        assert_eq!(range(number(100_000), None), Err(-32005));
    }
}

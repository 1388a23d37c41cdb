//! Fees: what the next block asks for and what others have paid.

use alloy::rpc::types::{BlockNumberOrTag, FeeHistory, TxGasAndReward};
use alloy_consensus::Transaction as _;
use alloy_primitives::{B256, U64, U256};
use jsonrpsee::core::RpcResult;
use lockstep_provider::EmbeddedBlock;
use lockstep_simulation::{BlockContext, BlockTx, NextBlock};

use super::{
    Eth,
    errors::{self, invalid_params},
    params::Args,
};

/// How many of the newest blocks the suggested tip is drawn from.
const TIP_BLOCKS: u64 = 20;
/// The suggested tip is the one that so many per cent of their transactions do not exceed.
const TIP_PERCENTILE: usize = 60;
/// The least and the greatest tip that is suggested, in wei per gas.
const MIN_TIP: u128 = 1_000_000;
const MAX_TIP: u128 = 500_000_000_000;
/// The most blocks that one fee history covers, and the most percentiles that it takes.
const MAX_FEE_BLOCKS: u64 = 1_024;
const MAX_PERCENTILES: usize = 100;

/// `eth_gasPrice`: what a transaction without a tip of its own should offer for the next block.
pub(crate) fn gas_price(eth: &Eth, _args: &mut Args<'_>) -> RpcResult<U256> {
    let newest = eth.block_numbered(BlockNumberOrTag::Latest).ok_or_else(|| errors::block_not_found("latest"))?;
    let base_fee = next_context(eth, &newest)?.base_fee;
    Ok(U256::from(u128::from(base_fee).saturating_add(suggested_tip(eth, newest.header.number))))
}

/// `eth_maxPriorityFeePerGas`.
pub(crate) fn max_priority_fee(eth: &Eth, _args: &mut Args<'_>) -> RpcResult<U256> {
    let newest = eth.block_numbered(BlockNumberOrTag::Latest).map_or(0, |block| block.header.number);
    Ok(U256::from(suggested_tip(eth, newest)))
}

/// `eth_feeHistory`.
pub(crate) fn history(eth: &Eth, args: &mut Args<'_>) -> RpcResult<FeeHistory> {
    let count: U64 = args.required()?;
    let newest: BlockNumberOrTag = args.required()?;
    let percentiles: Vec<f64> = args.optional()?.unwrap_or_default();
    check_percentiles(&percentiles)?;
    let newest = eth.block_numbered(newest).ok_or_else(|| errors::block_not_found(newest))?;
    let last = newest.header.number;
    let count = count.to::<u64>().min(MAX_FEE_BLOCKS).min(last + 1);
    if count == 0 {
        return Ok(FeeHistory::default());
    }
    let oldest = last + 1 - count;
    let mut rewards = Vec::new();
    let mut history = FeeHistory { oldest_block: oldest, ..FeeHistory::default() };
    for block in (oldest..=last).filter_map(|number| eth.rollup.block(number)) {
        history.base_fee_per_gas.push(u128::from(block.context.base_fee));
        history.gas_used_ratio.push(ratio(block.header.gas_used, block.header.gas_limit));
        history.base_fee_per_blob_gas.push(blob_fee(&block.context).unwrap_or_default());
        history.blob_gas_used_ratio.push(blob_ratio(&block));
        if !percentiles.is_empty() {
            rewards.push(at_percentiles(&rewards_of(&block), &percentiles));
        }
    }
    let next = next_context(eth, &newest)?;
    history.base_fee_per_gas.push(u128::from(next.base_fee));
    history.base_fee_per_blob_gas.push(blob_fee(&next).unwrap_or_default());
    history.reward = (!percentiles.is_empty()).then_some(rewards);
    Ok(history)
}

/// The price of blob gas in a block, in wei; `None` where there are no blobs.
pub(crate) fn blob_fee(context: &BlockContext) -> Option<u128> {
    context.rules.blobs().map(|blobs| blobs.calc_blob_fee(context.excess_blob_gas.unwrap_or_default()))
}

/// The environment of the block after `block`, as far as fees go: they follow from `block` alone.
fn next_context(eth: &Eth, block: &EmbeddedBlock) -> RpcResult<BlockContext> {
    let next = NextBlock {
        timestamp: block.header.timestamp + 1,
        gas_limit: block.header.gas_limit,
        parent_beacon_block_root: Some(B256::ZERO),
        ..NextBlock::default()
    };
    BlockContext::next(eth.chain(), eth.rollup.forks(), &block.as_parent(), &next).map_err(errors::internal)
}

fn suggested_tip(eth: &Eth, newest: u64) -> u128 {
    let mut tips: Vec<u128> = (newest.saturating_sub(TIP_BLOCKS - 1)..=newest)
        .filter_map(|number| eth.rollup.block(number))
        .flat_map(|block| rewards_of(&block))
        .map(|paid| paid.reward)
        .collect();
    tips.sort_unstable();
    let index = tips.len().saturating_sub(1) * TIP_PERCENTILE / 100;
    tips.get(index).copied().unwrap_or_default().clamp(MIN_TIP, MAX_TIP)
}

/// What each transaction of a block tipped, from the least tip to the greatest. Deposits tip nobody and are left out.
fn rewards_of(block: &EmbeddedBlock) -> Vec<TxGasAndReward> {
    let mut rewards: Vec<TxGasAndReward> = block
        .txs
        .iter()
        .filter_map(|tx| match &tx.executed.tx {
            BlockTx::Signed(signed) => Some(TxGasAndReward {
                gas_used: tx.executed.outcome.gas_used,
                reward: signed.envelope().effective_tip_per_gas(block.context.base_fee).unwrap_or_default(),
            }),
            BlockTx::Deposit(_) => None,
        })
        .collect();
    rewards.sort();
    rewards
}

/// The tip of the transaction at which each percentile of the block's gas is reached; zeros for an empty block.
fn at_percentiles(rewards: &[TxGasAndReward], percentiles: &[f64]) -> Vec<u128> {
    let total: u64 = rewards.iter().map(|paid| paid.gas_used).sum();
    let mut rest = rewards.iter();
    let mut current = rest.next();
    let mut gas = current.map_or(0, |paid| paid.gas_used);
    let mut found = Vec::with_capacity(percentiles.len());
    for percentile in percentiles {
        let threshold = (total as f64 * percentile / 100.0) as u64;
        while gas < threshold {
            let Some(next) = rest.next() else { break };
            gas += next.gas_used;
            current = Some(next);
        }
        found.push(current.map_or(0, |paid| paid.reward));
    }
    found
}

fn check_percentiles(percentiles: &[f64]) -> RpcResult<()> {
    if percentiles.len() > MAX_PERCENTILES {
        let text = format!("rewardPercentiles: {} are more than {MAX_PERCENTILES}", percentiles.len());
        return Err(errors::limit(text));
    }
    if percentiles.iter().any(|percentile| !(0.0..=100.0).contains(percentile)) {
        return Err(invalid_params("rewardPercentiles: each has to lie between 0 and 100"));
    }
    if percentiles.windows(2).any(|pair| matches!(pair, [lower, upper] if lower > upper)) {
        return Err(invalid_params("rewardPercentiles: they have to rise"));
    }
    Ok(())
}

/// The OP stack keeps no blobs (Jovian counts data-availability footprint in the same field).
fn blob_ratio(block: &EmbeddedBlock) -> f64 {
    match block.context.rules.blobs() {
        Some(blobs) if !block.context.rules.is_op_stack() => {
            ratio(block.header.blob_gas_used.unwrap_or_default(), blobs.max_blob_gas_per_block())
        }
        _ => 0.0,
    }
}

fn ratio(used: u64, limit: u64) -> f64 {
    if limit == 0 { 0.0 } else { used as f64 / limit as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_weighed_by_gas() {
        let paid = |gas_used, reward| TxGasAndReward { gas_used, reward };
        // Nine tenths of the gas tipped 1, the rest tipped 50.
        let rewards = [paid(900, 1), paid(100, 50)];
        assert_eq!(at_percentiles(&rewards, &[0.0, 50.0, 90.0, 91.0, 100.0]), [1, 1, 1, 50, 50]);
        assert_eq!(at_percentiles(&[], &[10.0, 90.0]), [0, 0]);
    }

    #[test]
    fn percentiles_have_to_rise_from_0_to_100() {
        assert!(check_percentiles(&[0.0, 50.0, 50.0, 100.0]).is_ok());
        assert!(check_percentiles(&[50.0, 10.0]).is_err());
        assert!(check_percentiles(&[-1.0]).is_err());
        assert!(check_percentiles(&[100.1]).is_err());
        assert!(check_percentiles(&[f64::NAN]).is_err());
    }
}

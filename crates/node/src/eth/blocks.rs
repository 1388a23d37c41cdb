//! Blocks, transactions and receipts.

use alloy::rpc::types::{Block, BlockId, BlockNumberOrTag, Index};
use alloy_primitives::{B256, U64};
use jsonrpsee::core::RpcResult;
use lockstep_provider::EmbeddedBlock;
use serde_json::Value;

use super::{Eth, format, params::Args};

/// `eth_blockNumber`.
pub(crate) fn number(eth: &Eth, _args: &mut Args<'_>) -> RpcResult<U64> {
    Ok(eth.rollup.newest().map_or(U64::ZERO, |block| U64::from(block.header.number)))
}

/// `eth_getBlockByNumber`.
pub(crate) fn by_number(eth: &Eth, args: &mut Args<'_>) -> RpcResult<Option<Block<Value>>> {
    let number: BlockNumberOrTag = args.required()?;
    let full = args.optional()?.unwrap_or(false);
    eth.block_numbered(number).map(|block| format::block(&block, full)).transpose()
}

/// `eth_getBlockByHash`.
pub(crate) fn by_hash(eth: &Eth, args: &mut Args<'_>) -> RpcResult<Option<Block<Value>>> {
    let hash: B256 = args.required()?;
    let full = args.optional()?.unwrap_or(false);
    eth.rollup.block_by_hash(hash).map(|block| format::block(&block, full)).transpose()
}

/// `eth_getBlockTransactionCountByNumber`.
pub(crate) fn count_by_number(eth: &Eth, args: &mut Args<'_>) -> RpcResult<Option<U64>> {
    let number: BlockNumberOrTag = args.required()?;
    Ok(eth.block_numbered(number).map(|block| count(&block)))
}

/// `eth_getBlockTransactionCountByHash`.
pub(crate) fn count_by_hash(eth: &Eth, args: &mut Args<'_>) -> RpcResult<Option<U64>> {
    let hash: B256 = args.required()?;
    Ok(eth.rollup.block_by_hash(hash).map(|block| count(&block)))
}

/// `eth_getBlockReceipts`.
pub(crate) fn receipts(eth: &Eth, args: &mut Args<'_>) -> RpcResult<Option<Vec<Value>>> {
    let id: BlockId = args.required()?;
    let Some(block) = eth.block(id) else { return Ok(None) };
    let receipts = block.txs.iter().enumerate().map(|(index, tx)| format::receipt(&block, index, tx));
    receipts.collect::<RpcResult<Vec<Value>>>().map(Some)
}

/// `eth_getTransactionByHash`. Knows transactions in blocks only.
pub(crate) fn transaction(eth: &Eth, args: &mut Args<'_>) -> RpcResult<Option<Value>> {
    let hash: B256 = args.required()?;
    match eth.rollup.transaction(hash) {
        Some((block, index)) => transaction_at(&block, index),
        None => Ok(None),
    }
}

/// `eth_getTransactionByBlockNumberAndIndex`.
pub(crate) fn transaction_by_number(eth: &Eth, args: &mut Args<'_>) -> RpcResult<Option<Value>> {
    let number: BlockNumberOrTag = args.required()?;
    let Index(index): Index = args.required()?;
    eth.block_numbered(number).map_or(Ok(None), |block| transaction_at(&block, index))
}

/// `eth_getTransactionByBlockHashAndIndex`.
pub(crate) fn transaction_by_hash(eth: &Eth, args: &mut Args<'_>) -> RpcResult<Option<Value>> {
    let hash: B256 = args.required()?;
    let Index(index): Index = args.required()?;
    eth.rollup.block_by_hash(hash).map_or(Ok(None), |block| transaction_at(&block, index))
}

/// `eth_getTransactionReceipt`.
pub(crate) fn receipt(eth: &Eth, args: &mut Args<'_>) -> RpcResult<Option<Value>> {
    let hash: B256 = args.required()?;
    let Some((block, index)) = eth.rollup.transaction(hash) else { return Ok(None) };
    block.txs.get(index).map(|tx| format::receipt(&block, index, tx)).transpose()
}

fn count(block: &EmbeddedBlock) -> U64 {
    U64::from(block.txs.len())
}

fn transaction_at(block: &EmbeddedBlock, index: usize) -> RpcResult<Option<Value>> {
    block.txs.get(index).map(|tx| format::transaction(block, index, tx)).transpose()
}

//! The logs of a block, by the receipts that its header commits to.
//!
//! Nothing is believed: the header has to hash to what was asked for, the transactions to its root, the receipts to its other
//! root. What the logs' places and the transactions' names are follows from that, whatever the node says of them.

use alloy_primitives::{B256, ChainId};
use lockstep_simulation::{BlockTx, Receipt, receipts_root};
use serde_json::{Value as Json, json};

use super::{
    answers::ReceiptAnswer,
    block::{FullBlock, Unusable},
    wire::Rpc,
};
use crate::{BlockLog, NodeError};

/// Fetches the logs of a block.
///
/// # Errors
/// When the node does not have the block, cannot be reached, lies, or the block holds what cannot be checked here.
pub(super) async fn logs(rpc: &Rpc, hash: B256) -> Result<Vec<BlockLog>, NodeError> {
    let chain = rpc.chain();
    let (block, receipts) = tokio::join!(
        rpc.ask_from::<Option<Json>>("eth_getBlockByHash", json!([hash, true])),
        rpc.ask_from::<Option<Vec<ReceiptAnswer>>>("eth_getBlockReceipts", json!([hash])),
    );
    let (block, receipts) = (block?, receipts?);
    let (Some(told), Some(receipts_told)) = (block.value, receipts.value) else {
        return Err(NodeError::UnknownBlock { chain, hash });
    };
    let block_from = block.endpoint;
    let read = FullBlock::read(told).and_then(|read| read.check(hash).map(|()| read));
    let read = read.map_err(|cause| lie(rpc, block_from, cause))?;
    // Signers are recovered and tries are built, so it is done where it may take its time.
    let checked = tokio::task::spawn_blocking(move || check(&read, receipts_told)).await;
    let checked = checked.map_err(|error| NodeError::Unreachable { chain, cause: error.to_string() })?;
    checked.map_err(|fault| match fault {
        Fault::Block(Unusable::Contradicts(cause)) => lie(rpc, block_from, cause),
        Fault::Block(Unusable::Unknown(cause)) => unchecked(chain, hash, &cause),
        Fault::Receipts(cause) => lie(rpc, receipts.endpoint, cause),
    })
}

/// What is wrong with the answers.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fault {
    Block(Unusable),
    /// They are not those of the block.
    Receipts(String),
}

/// Blamed, so that another endpoint is asked the next time.
fn lie(rpc: &Rpc, endpoint: usize, cause: String) -> NodeError {
    let error = NodeError::WrongBlock { chain: rpc.chain(), cause };
    rpc.blame(endpoint, &error);
    error
}

fn unchecked(chain: ChainId, hash: B256, cause: &str) -> NodeError {
    NodeError::Unreachable { chain, cause: format!("the logs of block {hash} cannot be checked: {cause}") }
}

/// The logs of a block whose header has the right hash.
fn check(block: &FullBlock, receipts: Vec<ReceiptAnswer>) -> Result<Vec<BlockLog>, Fault> {
    let txs = block.transactions().map_err(Fault::Block)?;
    let (number, hash, root) = (block.answer.number(), block.answer.hash, block.answer.receipts_root);
    let (told, held) = (receipts.len(), txs.len());
    if told != held {
        return Err(Fault::Receipts(format!("block {number} has {held} transactions, and {told} receipts are said to be its")));
    }
    if let Some((index, other)) = elsewhere(&receipts, hash) {
        return Err(Fault::Receipts(format!("receipt {index} of block {number} ({hash}) is said to be of block {other}")));
    }
    let receipts: Vec<Receipt> = receipts.into_iter().map(ReceiptAnswer::into_receipt).collect();
    let computed = receipts_root(&receipts);
    if computed != root {
        return Err(Fault::Receipts(format!("the receipts of block {number} have the root {computed}, its header says {root}")));
    }
    Ok(placed(&txs, receipts))
}

fn elsewhere(receipts: &[ReceiptAnswer], hash: B256) -> Option<(usize, B256)> {
    receipts.iter().enumerate().find_map(|(index, receipt)| {
        let other = receipt.block_hash().filter(|told| *told != hash)?;
        Some((index, other))
    })
}

fn placed(txs: &[BlockTx], receipts: Vec<Receipt>) -> Vec<BlockLog> {
    let mut logs = Vec::new();
    for (tx, receipt) in txs.iter().zip(receipts) {
        for (in_tx, log) in receipt.logs.iter().cloned().enumerate() {
            logs.push(BlockLog { tx_hash: tx.hash(), tx: tx.id(), in_tx, index: logs.len() as u64, log });
        }
    }
    logs
}

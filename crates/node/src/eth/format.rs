//! Blocks, transactions, receipts and logs in the shapes of the execution API.

use alloy::rpc::types::{Block, BlockTransactions, Header, Log, Transaction, TransactionInfo, TransactionReceipt, Withdrawals};
use alloy_consensus::{Eip658Value, Receipt, ReceiptWithBloom, Transaction as _, transaction::Recovered};
use alloy_primitives::{Address, U64, U256};
use alloy_rlp::Encodable;
use jsonrpsee::core::RpcResult;
use lockstep_provider::{EmbeddedBlock, EmbeddedTx};
use lockstep_simulation::{BlockTx, Deposit};
use serde::Serialize;
use serde_json::{Value, json};

use super::{errors, fees::blob_fee};

/// Receipts of deposits are of this version since Canyon.
const DEPOSIT_RECEIPT_VERSION: u64 = 1;

/// A block, with its transactions or only their hashes.
///
/// # Errors
/// When a transaction cannot be written as JSON, which does not happen.
pub(crate) fn block(block: &EmbeddedBlock, full: bool) -> RpcResult<Block<Value>> {
    let transactions = if full {
        let transactions = block.txs.iter().enumerate().map(|(index, tx)| transaction(block, index, tx));
        BlockTransactions::Full(transactions.collect::<RpcResult<Vec<Value>>>()?)
    } else {
        BlockTransactions::Hashes(block.txs.iter().map(|tx| tx.executed.tx.hash()).collect())
    };
    Ok(Block { header: header(block), uncles: Vec::new(), transactions, withdrawals: Some(Withdrawals::default()) })
}

/// A block's header.
pub(crate) fn header(block: &EmbeddedBlock) -> Header {
    Header { hash: block.hash, inner: block.header.clone(), total_difficulty: None, size: Some(U256::from(rlp_size(block))) }
}

/// A transaction of a block.
///
/// # Errors
/// When it cannot be written as JSON, which does not happen.
pub(crate) fn transaction(block: &EmbeddedBlock, index: usize, tx: &EmbeddedTx) -> RpcResult<Value> {
    match &tx.executed.tx {
        BlockTx::Signed(signed) => {
            let info = TransactionInfo {
                hash: Some(signed.hash()),
                index: Some(index as u64),
                block_hash: Some(block.hash),
                block_number: Some(block.header.number),
                base_fee: block.header.base_fee_per_gas,
                block_timestamp: Some(block.header.timestamp),
            };
            let recovered = Recovered::new_unchecked(signed.envelope().clone(), signed.signer());
            to_json(&Transaction::from_transaction(recovered, info))
        }
        BlockTx::Deposit(body) => Ok(deposit(block, index, tx, body)),
    }
}

/// A deposit as OP-stack nodes show it: with the nonce that its sender had, no price, and a signature of zeros, without
/// which clients that rebuild the signature fail.
fn deposit(block: &EmbeddedBlock, index: usize, tx: &EmbeddedTx, deposit: &Deposit) -> Value {
    let body = deposit.tx();
    json!({
        "type": "0x7e",
        "hash": tx.executed.tx.hash(),
        "blockHash": block.hash,
        "blockNumber": U64::from(block.header.number),
        "blockTimestamp": U64::from(block.header.timestamp),
        "transactionIndex": U64::from(index),
        "sourceHash": body.source_hash,
        "from": body.from,
        "to": body.to.into_to(),
        "mint": U256::from(body.mint),
        "value": body.value,
        "gas": U64::from(body.gas_limit),
        "gasPrice": "0x0",
        "isSystemTx": body.is_system_transaction,
        "input": body.input,
        "nonce": U64::from(tx.executed.deposit_nonce.unwrap_or_default()),
        "depositReceiptVersion": U64::from(DEPOSIT_RECEIPT_VERSION),
        "v": "0x0",
        "r": "0x0",
        "s": "0x0",
    })
}

/// The receipt of a transaction of a block.
///
/// # Errors
/// When it cannot be written as JSON, which does not happen.
pub(crate) fn receipt(block: &EmbeddedBlock, index: usize, tx: &EmbeddedTx) -> RpcResult<Value> {
    let executed = &tx.executed;
    let receipt = executed.receipt();
    let Sent { to, nonce, price } = Sent::of(block, tx);
    let from = executed.tx.sender();
    let logs = executed.outcome.logs.iter().zip(tx.first_log..);
    let inner = ReceiptWithBloom {
        receipt: Receipt {
            status: Eip658Value::Eip658(receipt.success),
            cumulative_gas_used: receipt.cumulative_gas_used,
            logs: logs.map(|(emitted, log_index)| log(block, index, tx, emitted, log_index)).collect::<Vec<Log>>(),
        },
        logs_bloom: receipt.bloom(),
    };
    let blob_gas = Some(executed.tx.blob_gas()).filter(|gas| *gas > 0);
    let mut answer = to_json(&TransactionReceipt {
        inner,
        transaction_hash: executed.tx.hash(),
        transaction_index: Some(index as u64),
        block_hash: Some(block.hash),
        block_number: Some(block.header.number),
        gas_used: executed.outcome.gas_used,
        effective_gas_price: price,
        blob_gas_used: blob_gas,
        blob_gas_price: blob_gas.and_then(|_| blob_fee(&block.context)),
        from,
        to,
        // Also of a creation that failed: the address is then where the contract would have been.
        contract_address: to.is_none().then(|| from.create(nonce)),
    })?;
    if let Value::Object(fields) = &mut answer {
        fields.insert("type".into(), json!(U64::from(receipt.tx_type)));
        if let Some(nonce) = receipt.deposit_nonce {
            fields.insert("depositNonce".into(), json!(U64::from(nonce)));
            fields.insert("depositReceiptVersion".into(), json!(U64::from(DEPOSIT_RECEIPT_VERSION)));
        }
    }
    Ok(answer)
}

/// A log of a block. `log_index` counts from the block's first log.
pub(crate) fn log(block: &EmbeddedBlock, index: usize, tx: &EmbeddedTx, log: &alloy_primitives::Log, log_index: u64) -> Log {
    Log {
        inner: log.clone(),
        block_hash: Some(block.hash),
        block_number: Some(block.header.number),
        block_timestamp: Some(block.header.timestamp),
        transaction_hash: Some(tx.executed.tx.hash()),
        transaction_index: Some(index as u64),
        log_index: Some(log_index),
        removed: false,
    }
}

/// What a receipt says of the transaction itself.
struct Sent {
    to: Option<Address>,
    nonce: u64,
    /// Paid per gas, in wei.
    price: u128,
}

impl Sent {
    fn of(block: &EmbeddedBlock, tx: &EmbeddedTx) -> Self {
        match &tx.executed.tx {
            BlockTx::Signed(signed) => Self {
                to: signed.envelope().to(),
                nonce: signed.nonce(),
                price: signed.envelope().effective_gas_price(block.header.base_fee_per_gas),
            },
            BlockTx::Deposit(deposit) => {
                Self { to: deposit.tx().to.into_to(), nonce: tx.executed.deposit_nonce.unwrap_or_default(), price: 0 }
            }
        }
    }
}

/// The size of the block's RLP: the list of header, transactions, no ommers and no withdrawals.
fn rlp_size(block: &EmbeddedBlock) -> usize {
    let item = |list, payload_length| alloy_rlp::Header { list, payload_length }.length_with_payload();
    let lengths = block.txs.iter().map(|tx| {
        let length = tx.executed.tx.raw().len();
        // A legacy transaction is a list of its own, the others are byte strings.
        if tx.executed.tx.tx_type() == 0 { length } else { item(false, length) }
    });
    let transactions: usize = lengths.sum();
    let empty_lists = 2 * item(true, 0);
    item(true, block.header.length() + item(true, transactions) + empty_lists)
}

fn to_json(value: &impl Serialize) -> RpcResult<Value> {
    serde_json::to_value(value).map_err(errors::internal)
}

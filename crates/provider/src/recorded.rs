//! Recorded blocks: a node's block with full transactions, and the state it touches.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use alloy::{eips::eip2718::Encodable2718, rpc::types::Header};
use alloy_primitives::{Address, B256, Bloom, Bytes, ChainId, U256};
use lockstep_primitives::{Reason, TxDecodeError};
use lockstep_simulation::{
    BlockContext, BlockSummary, BlockTx, ForkSchedule, MemoryState, PendingBlock, RulesError, SimulationError, known_forks,
};
use op_alloy::consensus::TxDeposit;
use serde::Deserialize;
use serde_json::Value;

/// Why a recorded block cannot be replayed at all.
#[derive(Debug, thiserror::Error)]
pub enum RecordedError {
    /// A file of the folder cannot be read.
    #[error("{file} cannot be read: {cause}")]
    Unreadable {
        /// Which file.
        file: &'static str,
        /// Why.
        cause: String,
    },
    /// A transaction of the block cannot be decoded.
    #[error("transaction {index} cannot be decoded: {cause}")]
    Transaction {
        /// Its index in the block.
        index: usize,
        /// Why.
        cause: String,
    },
    /// The chain is not known by its id, and no rules were given.
    #[error("chain {0} is not known by its id: name its rules")]
    UnknownChain(ChainId),
    /// No transaction of the block says which chain it is for.
    #[error("no transaction tells the chain id: name it")]
    NoChainId,
    /// The rules of the block.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// A transaction of the block is invalid, so the rules or the state are wrong.
    #[error("transaction {index} ({hash}) is invalid: {reason}")]
    Invalid {
        /// Its index in the block.
        index: usize,
        /// Its hash.
        hash: B256,
        /// Why.
        reason: Reason,
    },
    /// The EVM failed.
    #[error(transparent)]
    Simulation(#[from] SimulationError),
}

/// A block as a node recorded it, with the state it touches.
#[derive(Debug)]
pub struct RecordedBlock {
    /// The chain, as its transactions tell it.
    pub chain: Option<ChainId>,
    /// The header.
    pub header: Header,
    /// The transactions.
    pub transactions: Vec<BlockTx>,
    /// Withdrawals in wei.
    pub withdrawals: Vec<(Address, U256)>,
    /// The state before the block.
    pub prestate: Arc<MemoryState>,
}

#[derive(Deserialize)]
struct BlockFile {
    #[serde(flatten)]
    header: Header,
    transactions: Vec<Value>,
    #[serde(default)]
    withdrawals: Vec<alloy::eips::eip4895::Withdrawal>,
}

#[derive(Deserialize)]
struct AccountFile {
    #[serde(default)]
    balance: U256,
    #[serde(default, deserialize_with = "number_or_quantity")]
    nonce: u64,
    #[serde(default)]
    code: Bytes,
    #[serde(default)]
    storage: BTreeMap<B256, B256>,
}

/// geth writes the nonce as a JSON number, other nodes as a hex quantity.
fn number_or_quantity<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Quantity(alloy_primitives::U64),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::Number(number) => number,
        Either::Quantity(quantity) => quantity.to(),
    })
}

impl RecordedBlock {
    /// Reads `block.json` (as eth_getBlockByHash answers with full transactions) and `prestate.json` (as geth's prestate
    /// tracer writes it) from a folder.
    ///
    /// # Errors
    /// When a file is absent or malformed.
    pub fn read(folder: &Path) -> Result<Self, RecordedError> {
        let block: BlockFile = read_json(folder, "block.json")?;
        let accounts: BTreeMap<Address, AccountFile> = read_json(folder, "prestate.json")?;
        let mut prestate = MemoryState::new();
        for (address, account) in accounts {
            prestate.set_account(address, account.balance, account.nonce, account.code);
            for (slot, value) in account.storage {
                prestate.set_storage(address, slot.into(), value.into());
            }
        }
        let number = block.header.inner.number;
        prestate.set_block_hash(number.saturating_sub(1), block.header.inner.parent_hash);
        let transactions: Vec<BlockTx> =
            block.transactions.into_iter().enumerate().map(|(index, value)| decode(index, value)).collect::<Result<_, _>>()?;
        let chain = transactions.iter().find_map(|tx| match tx {
            BlockTx::Signed(tx) => tx.chain_id(),
            BlockTx::Deposit(_) => None,
        });
        let withdrawals = block.withdrawals.iter().map(|withdrawal| (withdrawal.address, withdrawal.amount_wei())).collect();
        Ok(Self { chain, header: block.header, transactions, withdrawals, prestate: Arc::new(prestate) })
    }

    /// The environment that the block was made in: everything its header fixes, under the given or the known rules.
    ///
    /// # Errors
    /// When chain or rules are unknown.
    pub fn context(&self, chain: Option<ChainId>, forks: Option<&ForkSchedule>) -> Result<BlockContext, RecordedError> {
        let chain = chain.or(self.chain).ok_or(RecordedError::NoChainId)?;
        let header = &self.header.inner;
        let rules = match forks {
            Some(forks) => forks.rules_at(header.timestamp)?,
            None => known_forks(chain).ok_or(RecordedError::UnknownChain(chain))?.rules_at(header.timestamp)?,
        };
        Ok(BlockContext {
            chain,
            rules,
            parent_hash: header.parent_hash,
            number: header.number,
            timestamp: header.timestamp,
            gas_limit: header.gas_limit,
            base_fee: header.base_fee_per_gas.unwrap_or_default(),
            beneficiary: header.beneficiary,
            prev_randao: header.mix_hash,
            parent_beacon_block_root: header.parent_beacon_block_root,
            excess_blob_gas: header.excess_blob_gas,
            extra_data: header.extra_data.clone(),
        })
    }

    /// Executes the block.
    ///
    /// # Errors
    /// When a transaction is invalid or the EVM fails.
    pub fn execute(&self, context: BlockContext) -> Result<PendingBlock, RecordedError> {
        let mut block = PendingBlock::open(context, Arc::clone(&self.prestate) as _)?;
        for (index, tx) in self.transactions.iter().enumerate() {
            if let Err(reason) = block.execute(tx)? {
                return Err(RecordedError::Invalid { index, hash: tx.hash(), reason });
            }
        }
        block.credit(self.withdrawals.iter().copied())?;
        Ok(block)
    }

    /// What of a summary differs from the header, in words; empty when all matches.
    pub fn differences(&self, summary: &BlockSummary) -> Vec<String> {
        let header = &self.header.inner;
        let mut differences = Vec::new();
        let mut compare = |name: &str, ours: String, theirs: String| {
            if ours != theirs {
                differences.push(format!("{name}: executed {ours}, header {theirs}"));
            }
        };
        compare("gas used", summary.gas_used.to_string(), header.gas_used.to_string());
        compare("receipts root", summary.receipts_root.to_string(), header.receipts_root.to_string());
        compare("logs bloom", short(&summary.logs_bloom), short(&header.logs_bloom));
        if let Some(used) = header.blob_gas_used {
            compare("blob gas used", summary.blob_gas_used.unwrap_or_default().to_string(), used.to_string());
        }
        differences
    }
}

/// A bloom filter is 256 bytes: enough of it to tell two apart.
pub fn short(bloom: &Bloom) -> String {
    format!(
        "{} bits set, keccak {}",
        bloom.0.iter().map(|byte| byte.count_ones()).sum::<u32>(),
        alloy_primitives::keccak256(bloom)
    )
}

fn read_json<T: serde::de::DeserializeOwned>(folder: &Path, file: &'static str) -> Result<T, RecordedError> {
    let unreadable = |cause: String| RecordedError::Unreadable { file, cause };
    let text = std::fs::read(folder.join(file)).map_err(|error| unreadable(error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))
}

fn decode(index: usize, value: Value) -> Result<BlockTx, RecordedError> {
    let failed = |cause: String| RecordedError::Transaction { index, cause };
    let raw = if value.get("type").and_then(Value::as_str) == Some("0x7e") {
        let tx: TxDeposit = serde_json::from_value(value).map_err(|error| failed(error.to_string()))?;
        tx.encoded_2718()
    } else {
        let tx: alloy::rpc::types::Transaction = serde_json::from_value(value).map_err(|error| failed(error.to_string()))?;
        tx.inner.into_inner().encoded_2718()
    };
    BlockTx::decode(raw.into()).map_err(|error: TxDecodeError| failed(error.to_string()))
}

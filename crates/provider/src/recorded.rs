//! Recorded blocks: a node's block with full transactions, and the state it touches.

mod files;
mod gather;
mod prestate;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use alloy::rpc::types::Header;
use alloy_primitives::{Address, B256, Bloom, ChainId, U256};
use lockstep_primitives::{Reason, TxDecodeError};
use lockstep_simulation::{
    BlockContext, BlockSummary, BlockTx, DataLimits, ForkSchedule, MemoryState, PendingBlock, RulesError, SimulationError,
    StateView, known_forks,
};
use serde::Deserialize;
use serde_json::Value;

use crate::{NodeError, remote::encode};

pub use files::write_folder;
pub use gather::{MAX_GATHER_ROUNDS, gather};
pub use prestate::Prestate;

/// The file of the block itself, as `eth_getBlockByHash` answers with full transactions.
pub const BLOCK_FILE: &str = "block.json";

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
    /// An account's code is none.
    #[error("the code of {address} is malformed: {cause}")]
    Code {
        /// The account.
        address: Address,
        /// Why.
        cause: String,
    },
    /// The node that the state is read from.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// What a block reads does not come to an end, or does not come at all.
    #[error("the state was not complete after fetching: at most {} rounds are made", MAX_GATHER_ROUNDS)]
    Incomplete,
    /// The process is being stopped.
    #[error("the execution was stopped: {0}")]
    Stopped(String),
    /// A folder is there already.
    #[error("{} is there already: --force replaces it", .0.display())]
    Exists(PathBuf),
    /// A folder cannot be written.
    #[error("{} cannot be written: {cause}", .folder.display())]
    Unwritable {
        /// Which one.
        folder: PathBuf,
        /// Why.
        cause: String,
    },
}

impl RecordedError {
    /// A stable name of the error.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "unreadable_file",
            Self::Transaction { .. } => "undecodable_transaction",
            Self::UnknownChain(_) => "unknown_chain",
            Self::NoChainId => "no_chain_id",
            Self::Rules(_) => "no_rules",
            Self::Invalid { .. } => "invalid_transaction",
            Self::Simulation(_) => "engine_failed",
            Self::Code { .. } => "malformed_code",
            Self::Node(error) => error.code(),
            Self::Incomplete => "state_incomplete",
            Self::Stopped(_) => "stopped",
            Self::Exists(_) => "folder_exists",
            Self::Unwritable { .. } => "unwritable_folder",
        }
    }
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

impl RecordedBlock {
    /// Reads `block.json` (as eth_getBlockByHash answers with full transactions), `prestate.json` (as geth's prestate tracer
    /// writes it) and, where it is there, `block_hashes.json` (hashes by number, for `BLOCKHASH`) from a folder.
    ///
    /// # Errors
    /// When a file is absent or malformed.
    pub fn read(folder: &Path) -> Result<Self, RecordedError> {
        Self::parse(files::read_json(folder, BLOCK_FILE)?, &Prestate::read(folder)?)
    }

    /// A block as `eth_getBlockByHash` answers with full transactions, on a state.
    ///
    /// # Errors
    /// When the block or a code of the state is malformed.
    pub fn parse(block: Value, prestate: &Prestate) -> Result<Self, RecordedError> {
        let block: BlockFile = serde_json::from_value(block)
            .map_err(|error| RecordedError::Unreadable { file: BLOCK_FILE, cause: error.to_string() })?;
        let mut prestate = prestate.state()?;
        let number = block.header.inner.number;
        prestate.set_block_hash(number.saturating_sub(1), block.header.inner.parent_hash);
        let transactions: Vec<BlockTx> =
            block.transactions.iter().enumerate().map(|(index, value)| decode(index, value)).collect::<Result<_, _>>()?;
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
            // What is in the block was let in.
            data: DataLimits::default(),
            encrypted_gas: 0,
            deposits_only: false,
        })
    }

    /// Executes the block.
    ///
    /// # Errors
    /// When a transaction is invalid or the EVM fails.
    pub fn execute(&self, context: BlockContext) -> Result<PendingBlock, RecordedError> {
        self.execute_on(context, Arc::clone(&self.prestate) as _)
    }

    /// Executes the block on another view of the state before it.
    ///
    /// # Errors
    /// As [`RecordedBlock::execute`].
    pub fn execute_on(&self, context: BlockContext, state: Arc<dyn StateView>) -> Result<PendingBlock, RecordedError> {
        let mut block = PendingBlock::open(context, state)?;
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

fn decode(index: usize, value: &Value) -> Result<BlockTx, RecordedError> {
    let failed = |cause: String| RecordedError::Transaction { index, cause };
    let raw = encode(value).map_err(failed)?;
    BlockTx::decode(raw).map_err(|error: TxDecodeError| failed(error.to_string()))
}

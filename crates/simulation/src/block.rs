//! A block being built.

use std::{collections::BTreeMap, sync::Arc};

use alloy_eips::{
    eip2935::HISTORY_STORAGE_ADDRESS, eip4788::BEACON_ROOTS_ADDRESS, eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
    eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
};
use alloy_primitives::{Address, B256, Bloom, Bytes, I256, U256, address};
use lockstep_primitives::Reason;

use crate::{
    Account, BlockContext, BlockTx, Overlay, Receipt, StandIns, StateError, StateView, TxFees, TxOutcome,
    evm::{Failure, RawOutcome, Work, run},
    overlay::Reader,
    receipt::receipts_root,
};

/// The L1Block predeploy, whose storage holds the DA footprint scalar.
const L1_BLOCK: Address = address!("4200000000000000000000000000000000000015");
/// Its slot and the byte offset of the scalar inside the big-endian word (Jovian).
const FOOTPRINT_SLOT: u64 = 8;
const FOOTPRINT_OFFSET: usize = 18;

/// The engine failed; no bundle is to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SimulationError {
    /// The state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The EVM failed.
    #[error("the EVM failed: {0}")]
    Broken(String),
}

/// A transaction that is in the block.
#[derive(Clone, Debug)]
pub struct Executed {
    /// The transaction.
    pub tx: BlockTx,
    /// What it did.
    pub outcome: TxOutcome,
    /// Its receipt.
    pub receipt: Receipt,
}

/// A point of a [`PendingBlock`] to return to.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoint {
    mark: usize,
    executed: usize,
    gas_used: u64,
    blob_gas_used: u64,
    footprint: u64,
    reserved: Reserve,
}

/// Room that drafted transactions may need once they are sealed.
#[derive(Clone, Copy, Debug, Default)]
struct Reserve {
    gas: u64,
    footprint: u64,
}

/// What a finished block says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockSummary {
    /// Gas used.
    pub gas_used: u64,
    /// Blob gas, or the DA footprint on Jovian rollups; `None` before Cancun.
    pub blob_gas_used: Option<u64>,
    /// Root of the receipts trie.
    pub receipts_root: B256,
    /// Union of the receipts' blooms.
    pub logs_bloom: Bloom,
    /// Execution requests (EIP-7685): type byte and data each; empty where the rules have none.
    pub requests: Vec<Bytes>,
}

/// A block being built on a parent state.
#[derive(Clone, Debug)]
pub struct PendingBlock {
    context: Arc<BlockContext>,
    state: Overlay,
    executed: Vec<Executed>,
    gas_used: u64,
    blob_gas_used: u64,
    footprint: u64,
    reserved: Reserve,
}

impl PendingBlock {
    /// Opens a block on `parent_state` and makes the system calls that come before its transactions (EIP-4788, EIP-2935).
    ///
    /// # Errors
    /// When the state or the EVM is broken.
    pub fn open(context: BlockContext, parent_state: Arc<dyn StateView>) -> Result<Self, SimulationError> {
        Self::open_on(context, Overlay::new(parent_state))
    }

    /// Opens the block that follows `parent`, on the parent's post-state. Its changes are those of both.
    ///
    /// # Errors
    /// When the state or the EVM is broken.
    pub fn open_after(context: BlockContext, parent: &Self) -> Result<Self, SimulationError> {
        Self::open_on(context, parent.state.settled())
    }

    fn open_on(context: BlockContext, state: Overlay) -> Result<Self, SimulationError> {
        let mut block = Self {
            context: Arc::new(context),
            state,
            executed: Vec::new(),
            gas_used: 0,
            blob_gas_used: 0,
            footprint: 0,
            reserved: Reserve::default(),
        };
        if block.context.rules.has_hash_history() && block.context.number > 0 {
            let parent_hash = block.context.parent_hash;
            block.system_call(HISTORY_STORAGE_ADDRESS, parent_hash.0.into())?;
        }
        if let Some(root) = block.context.parent_beacon_block_root {
            block.system_call(BEACON_ROOTS_ADDRESS, root.0.into())?;
        }
        Ok(block)
    }

    /// The block's environment.
    pub fn context(&self) -> &BlockContext {
        &self.context
    }

    /// The state after the transactions so far.
    pub const fn state(&self) -> &Overlay {
        &self.state
    }

    /// The transactions so far.
    pub fn executed(&self) -> &[Executed] {
        &self.executed
    }

    /// Gas that is left for further transactions.
    pub fn gas_left(&self) -> u64 {
        self.context.gas_limit.saturating_sub(self.gas_used).saturating_sub(self.reserved.gas)
    }

    fn footprint_left(&self) -> u64 {
        self.context.gas_limit.saturating_sub(self.footprint).saturating_sub(self.reserved.footprint)
    }

    /// DA footprint so far (Jovian).
    pub const fn footprint(&self) -> u64 {
        self.footprint
    }

    /// Gas used so far.
    pub const fn gas_used(&self) -> u64 {
        self.gas_used
    }

    /// A point to return to.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            mark: self.state.mark(),
            executed: self.executed.len(),
            gas_used: self.gas_used,
            blob_gas_used: self.blob_gas_used,
            footprint: self.footprint,
            reserved: self.reserved,
        }
    }

    /// Undoes everything since `checkpoint`.
    pub fn rollback(&mut self, checkpoint: Checkpoint) {
        self.state.rewind(checkpoint.mark);
        self.executed.truncate(checkpoint.executed);
        self.gas_used = checkpoint.gas_used;
        self.blob_gas_used = checkpoint.blob_gas_used;
        self.footprint = checkpoint.footprint;
        self.reserved = checkpoint.reserved;
    }

    /// How native balances have changed since `checkpoint`, in wei; accounts whose balance is the same are left out.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn balance_changes(&self, checkpoint: Checkpoint) -> Result<BTreeMap<Address, I256>, SimulationError> {
        let mut changes = BTreeMap::new();
        for (address, before) in self.state.written_since(checkpoint.mark)? {
            let before = before.map_or(U256::ZERO, |account| account.balance);
            let after = self.state.account(address)?.map_or(U256::ZERO, |account| account.balance);
            if before != after {
                changes.insert(address, I256::from_raw(after.wrapping_sub(before)));
            }
        }
        Ok(changes)
    }

    /// Executes a transaction as the block's next one. Reverted transactions are in the block too: whoever does not want
    /// them returns to a checkpoint.
    ///
    /// # Errors
    /// Outer: the state or the EVM is broken. Inner: the transaction is invalid here; the block is unchanged.
    pub fn execute(&mut self, tx: &BlockTx) -> Result<Result<&Executed, Reason>, SimulationError> {
        self.execute_with(tx, &StandIns::default())
    }

    /// As [`PendingBlock::execute`], with signatures that are not there yet. Once they are, the transaction's data may weigh
    /// more, so room for that is kept free.
    ///
    /// # Errors
    /// As [`PendingBlock::execute`].
    pub fn execute_with(&mut self, tx: &BlockTx, stand_ins: &StandIns) -> Result<Result<&Executed, Reason>, SimulationError> {
        let gas = tx.gas_limit();
        let footprint = self.footprint_of(tx)?;
        let reserve = if stand_ins.is_empty() { Reserve::default() } else { reserve_for(tx, footprint) };
        if gas.saturating_add(reserve.gas) > self.gas_left() {
            return Ok(Err(Reason::NoRoom { gas, left: self.gas_left() }));
        }
        if footprint.saturating_add(reserve.footprint) > self.footprint_left() {
            return Ok(Err(Reason::NoDataRoom { footprint, left: self.footprint_left() }));
        }
        let blob_gas = tx.blob_gas();
        let blob_limit = self.context.rules.blobs().map_or(0, |blobs| blobs.max_blob_gas_per_block());
        if blob_gas > 0 && self.blob_gas_used + blob_gas > blob_limit {
            return Ok(Err(Reason::NoRoom { gas: blob_gas, left: blob_limit.saturating_sub(self.blob_gas_used) }));
        }
        let deposit_nonce =
            if tx.is_deposit() { Some(self.state.account(tx.sender())?.map_or(0, |account| account.nonce)) } else { None };
        let raw = match run(&self.context, Reader(&self.state), tx.work(), stand_ins) {
            Ok(raw) => raw,
            Err(Failure::Invalid(reason)) => return Ok(Err(reason)),
            Err(Failure::State(error)) => return Err(SimulationError::State(error)),
            Err(Failure::Broken(cause)) => return Err(SimulationError::Broken(cause)),
        };
        let RawOutcome { status, gas_used, logs, output, created, state } = raw;
        self.state.commit(state);
        self.gas_used += gas_used;
        self.blob_gas_used += blob_gas;
        self.footprint += footprint;
        self.reserved.gas += reserve.gas;
        self.reserved.footprint += reserve.footprint;
        let outcome = TxOutcome { status, gas_used, logs, output, created, fees: self.fees(tx, gas_used) };
        let receipt = Receipt {
            tx_type: tx.tx_type(),
            success: outcome.succeeded(),
            cumulative_gas_used: self.gas_used,
            logs: outcome.logs.clone(),
            deposit_nonce,
        };
        self.executed.push(Executed { tx: tx.clone(), outcome, receipt });
        self.executed.last().map(Ok).ok_or_else(|| SimulationError::Broken("nothing was executed".into()))
    }

    fn fees(&self, tx: &BlockTx, gas_used: u64) -> TxFees {
        if tx.is_deposit() {
            return TxFees::default();
        }
        let gas = U256::from(gas_used);
        TxFees {
            priority: gas * U256::from(tx.priority_fee_per_gas(self.context.base_fee)),
            base: gas * U256::from(self.context.base_fee),
        }
    }

    /// A transaction's DA footprint: its estimated compressed size times the scalar that L1 configures (Jovian).
    fn footprint_of(&self, tx: &BlockTx) -> Result<u64, StateError> {
        if !self.context.rules.has_footprint() || tx.is_deposit() {
            return Ok(0);
        }
        let word = self.state.storage(L1_BLOCK, U256::from(FOOTPRINT_SLOT))?.to_be_bytes::<32>();
        let scalar = u64::from(u16::from_be_bytes([word[FOOTPRINT_OFFSET], word[FOOTPRINT_OFFSET + 1]]));
        let size = op_revm::estimate_tx_compressed_size(tx.raw()) / 1_000_000;
        Ok(size.saturating_mul(scalar))
    }

    /// Credits withdrawals (EIP-4895), each in wei.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn credit(&mut self, withdrawals: impl IntoIterator<Item = (Address, U256)>) -> Result<(), SimulationError> {
        for (address, amount) in withdrawals {
            if amount.is_zero() {
                continue;
            }
            let account = self.state.account(address)?.unwrap_or_default();
            let balance = account.balance.saturating_add(amount);
            self.state.write_account(address, Some(Account { balance, ..account }));
        }
        Ok(())
    }

    /// Makes the system calls that end a block (EIP-7002, EIP-7251) and sums it up. Ends the block, so it is called once: after
    /// an error the block is of no more use.
    ///
    /// # Errors
    /// When the state or the EVM is broken, or a request contract fails.
    pub fn finish(&mut self) -> Result<BlockSummary, SimulationError> {
        let mut requests = Vec::new();
        if self.context.rules.has_requests() {
            for (kind, contract) in [(1_u8, WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS), (2, CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS)] {
                let output = self.system_call(contract, Bytes::new())?;
                if !output.is_empty() {
                    requests.push([&[kind], output.as_ref()].concat().into());
                }
            }
        }
        Ok(self.summary(requests))
    }

    /// Sums up the block without ending it.
    pub fn summary(&self, requests: Vec<Bytes>) -> BlockSummary {
        let receipts: Vec<Receipt> = self.executed.iter().map(|executed| executed.receipt.clone()).collect();
        let mut logs_bloom = Bloom::ZERO;
        for receipt in &receipts {
            logs_bloom.accrue_bloom(&receipt.bloom());
        }
        BlockSummary {
            gas_used: self.gas_used,
            blob_gas_used: self
                .context
                .rules
                .blobs()
                .map(|_| if self.context.rules.is_op_stack() { self.footprint } else { self.blob_gas_used }),
            receipts_root: receipts_root(&receipts),
            logs_bloom,
            requests,
        }
    }

    /// Calls a system contract; where it has no code nothing happens, as the EIPs say.
    fn system_call(&mut self, contract: Address, data: Bytes) -> Result<Bytes, SimulationError> {
        if !self.state.account(contract)?.is_some_and(|account| account.has_code()) {
            return Ok(Bytes::new());
        }
        let work = Work::System { contract, data };
        match run(&self.context, Reader(&self.state), work, &StandIns::default()) {
            Ok(raw) => {
                self.state.commit(raw.state);
                Ok(raw.output)
            }
            Err(Failure::State(error)) => Err(SimulationError::State(error)),
            Err(Failure::Invalid(reason)) => Err(SimulationError::Broken(reason.to_string())),
            Err(Failure::Broken(cause)) => Err(SimulationError::Broken(cause)),
        }
    }
}

/// The most that evidence can weigh more than its stand-in: every byte of the transaction could turn from a zero into a
/// non-zero one under the calldata floor (EIP-7623: 10 gas against 40), and compress by a quarter less.
fn reserve_for(tx: &BlockTx, footprint: u64) -> Reserve {
    const FLOOR_DIFFERENCE: u64 = 30;
    let bytes = u64::try_from(tx.raw().len()).unwrap_or(u64::MAX);
    Reserve { gas: bytes.saturating_mul(FLOOR_DIFFERENCE), footprint: footprint / 4 }
}

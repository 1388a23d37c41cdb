//! A block being built.

use std::{collections::BTreeMap, sync::Arc};

use alloy_primitives::{Address, B256, Bloom, Bytes, I256, U256};
use lockstep_primitives::Reason;

use crate::{
    Account, BlockContext, BlockTx, Overlay, Receipt, StandIns, StateError, StateView, TxFees, TxOutcome,
    evm::{Failure, RawOutcome, Work, run},
    overlay::Reader,
    receipt::root_and_bloom,
    room::Room,
};

/// The type byte of blob transactions (EIP-4844).
const BLOB_TYPE: u8 = 3;

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
    used: Room,
    reserved: Room,
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
    used: Room,
    /// Room that drafted transactions may need once they are sealed.
    reserved: Room,
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
            used: Room::of_empty_block(),
            reserved: Room::default(),
        };
        for (contract, data) in block.context.rules.stack().opening_calls(&block.context) {
            block.system_call(contract, data)?;
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
        self.context.gas_limit.saturating_sub(self.used.gas).saturating_sub(self.reserved.gas)
    }

    /// DA footprint so far (Jovian).
    pub const fn footprint(&self) -> u64 {
        self.used.footprint
    }

    /// Estimated compressed bytes of data so far, deposits aside; plain ones where the rules estimate nothing.
    pub const fn data(&self) -> u64 {
        self.used.data
    }

    /// Gas used so far.
    pub const fn gas_used(&self) -> u64 {
        self.used.gas
    }

    /// A point to return to.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint { mark: self.state.mark(), executed: self.executed.len(), used: self.used, reserved: self.reserved }
    }

    /// Undoes everything since `checkpoint`.
    pub fn rollback(&mut self, checkpoint: Checkpoint) {
        self.state.rewind(checkpoint.mark);
        self.executed.truncate(checkpoint.executed);
        self.used = checkpoint.used;
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
        if let Err(reason) = self.may_hold(tx) {
            return Ok(Err(reason));
        }
        // L1 has the data of deposits already.
        let millionths = if tx.is_deposit() { 0 } else { self.context.rules.stack().data_millionths(tx.raw()) };
        let weight = Room::of_tx(&self.context, &self.state, tx, millionths)?;
        let reserve = if stand_ins.is_empty() { Room::default() } else { weight.of_evidence(tx) };
        if let Err(reason) = self.used.and(self.reserved).check(&self.context, weight, reserve) {
            return Ok(Err(reason));
        }
        let deposit_nonce =
            if tx.is_deposit() { Some(self.state.account(tx.sender())?.map_or(0, |account| account.nonce)) } else { None };
        let raw = match run(&self.context, Reader(&self.state), tx.work(millionths), stand_ins) {
            Ok(raw) => raw,
            Err(Failure::Invalid(reason)) => return Ok(Err(reason)),
            Err(Failure::State(error)) => return Err(SimulationError::State(error)),
            Err(Failure::Broken(cause)) => return Err(SimulationError::Broken(cause)),
        };
        let RawOutcome { status, gas_used, logs, output, created, l1_data, operator, state } = raw;
        self.state.commit(state);
        // What was asked for and not used is there for the next one.
        self.used = self.used.and(Room { gas: gas_used, ..weight });
        self.reserved = self.reserved.and(reserve);
        let (priority, base) = self.gas_fees(tx, gas_used);
        let fees = TxFees { priority, base, l1_data, operator };
        let outcome = TxOutcome { status, gas_used, logs, output, created, fees };
        let receipt = Receipt {
            tx_type: tx.tx_type(),
            success: outcome.succeeded(),
            cumulative_gas_used: self.used.gas,
            logs: outcome.logs.clone(),
            deposit_nonce,
        };
        self.executed.push(Executed { tx: tx.clone(), outcome, receipt });
        self.executed.last().map(Ok).ok_or_else(|| SimulationError::Broken("nothing was executed".into()))
    }

    /// Whether a block of these rules may hold such a transaction in this place, whatever it does.
    fn may_hold(&self, tx: &BlockTx) -> Result<(), Reason> {
        let rules = self.context.rules;
        if tx.is_deposit() {
            let forced = rules.forced_type() == Some(tx.tx_type());
            let in_front = self.executed.last().is_none_or(|before| before.tx.is_deposit());
            return if forced && in_front { Ok(()) } else { Err(Reason::DepositTransaction) };
        }
        if self.context.deposits_only {
            return Err(Reason::OnlyDeposits);
        }
        if tx.tx_type() == BLOB_TYPE && !rules.tx_rules().blobs {
            return Err(Reason::BlobTransaction);
        }
        Ok(())
    }

    /// What a transaction paid for its gas, in wei: the priority fee and the base fee.
    fn gas_fees(&self, tx: &BlockTx, gas_used: u64) -> (U256, U256) {
        if tx.is_deposit() {
            return (U256::ZERO, U256::ZERO);
        }
        let gas = U256::from(gas_used);
        (gas * U256::from(tx.priority_fee_per_gas(self.context.base_fee)), gas * U256::from(self.context.base_fee))
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
        for (kind, contract) in self.context.rules.stack().closing_calls() {
            let output = self.system_call(*contract, Bytes::new())?;
            if !output.is_empty() {
                requests.push([&[*kind], output.as_ref()].concat().into());
            }
        }
        Ok(self.summary(requests))
    }

    /// Sums up the block without ending it.
    pub fn summary(&self, requests: Vec<Bytes>) -> BlockSummary {
        let rules = self.context.rules;
        let (receipts_root, logs_bloom) = root_and_bloom(self.executed.iter().map(|executed| &executed.receipt));
        BlockSummary {
            gas_used: self.used.gas,
            // Before Jovian the OP stack's is always zero: it has no blobs.
            blob_gas_used: rules.blobs().map(|_| if rules.has_footprint() { self.used.footprint } else { self.used.blob_gas }),
            receipts_root,
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

//! A block being built.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bloom, Bytes, I256, U256};
use lockstep_primitives::Reason;
#[cfg(debug_assertions)]
use lockstep_primitives::SignedTx;
use smallvec::SmallVec;

use crate::{
    Account, BlockContext, BlockTx, CallRequest, Footprint, Logs, Overlay, Receipt, StandIns, StateError, StateView, TxFees,
    TxOutcome, TxStatus,
    call::call_touching,
    evm::{Failure, RawOutcome, Terms, Work, run},
    overlay::Reader,
    receipt::root_and_bloom,
    room::Room,
    trace::Trace,
    transaction::signed_work,
    transfer::{Transfer, plain_transfer},
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
    pub outcome: Arc<TxOutcome>,
    /// Gas used by the block up to and including it.
    pub cumulative_gas_used: u64,
    /// How many logs the block has before it.
    pub first_log: u64,
    /// Of a deposit: its sender's nonce before it.
    pub deposit_nonce: Option<u64>,
    /// What it may take of the block, by its gas limit.
    room: Room,
    /// What more it may come to take once it is sealed.
    reserve: Room,
}

impl Executed {
    /// Its receipt.
    pub fn receipt(&self) -> Receipt {
        Receipt {
            tx_type: self.tx.tx_type(),
            success: self.outcome.succeeded(),
            cumulative_gas_used: self.cumulative_gas_used,
            logs: self.outcome.logs.clone(),
            deposit_nonce: self.deposit_nonce,
        }
    }
}

/// A stretch of a block: what some transactions in a row did, what that depends on, and what it changed. Where all of that is
/// the same, it can be taken over into a block without running anything again.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// The transactions.
    pub executed: Vec<Executed>,
    /// What they read and wrote.
    pub footprint: Footprint,
    context: Arc<BlockContext>,
    terms: Arc<Terms>,
    tried: Room,
    takes: [u64; 3],
}

/// A point of a [`PendingBlock`] to return to.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoint {
    mark: usize,
    executed: usize,
    used: Room,
    reserved: Room,
}

/// By how much native balances changed, in wei, by address: seldom more than those of a sender, a receiver and fee accounts.
pub type BalanceChanges = SmallVec<[(Address, I256); 6]>;

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
    /// What data costs, and since how many transactions that is known; `None` while it is not.
    terms: Option<(Arc<Terms>, usize)>,
    /// Where users' transactions begin in the undo log of the state.
    opening: usize,
    trace: Option<Trace>,
    /// A trace that is over: its memory is used again.
    spare: Trace,
    /// Whether the EVM runs plain transfers, too.
    by_evm_alone: bool,
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
        let mut block = Self::open_on(context, parent.state.settled())?;
        block.by_evm_alone = parent.by_evm_alone;
        Ok(block)
    }

    /// Has the EVM run everything from here on, in the blocks after this one as well: who checks does not take the short ways of
    /// what is checked.
    pub(crate) const fn run_by_evm_alone(&mut self) {
        self.by_evm_alone = true;
    }

    fn open_on(context: BlockContext, state: Overlay) -> Result<Self, SimulationError> {
        let mut block = Self {
            context: Arc::new(context),
            state,
            executed: Vec::new(),
            used: Room::of_empty_block(),
            reserved: Room::default(),
            terms: None,
            opening: 0,
            trace: None,
            spare: Trace::default(),
            by_evm_alone: false,
        };
        for (contract, data) in block.context.rules.stack().opening_calls(&block.context) {
            block.system_call(contract, data)?;
        }
        block.opening = block.state.mark();
        Ok(block)
    }

    /// A copy with nothing left to undo, for a block that is done with: the undo log is about as large as the state itself.
    pub(crate) fn settled(&self) -> Self {
        Self {
            context: Arc::clone(&self.context),
            state: self.state.settled(),
            executed: self.executed.clone(),
            used: self.used,
            reserved: self.reserved,
            terms: self.terms.clone(),
            // No point of its undo log is where users' transactions began.
            opening: usize::MAX,
            trace: None,
            spare: Trace::default(),
            by_evm_alone: self.by_evm_alone,
        }
    }

    /// Makes room for so many more transactions, so that those before them need not be moved while they come in.
    pub fn expect_transactions(&mut self, transactions: usize) {
        self.executed.reserve(transactions);
        self.state.expect_writes(transactions);
    }

    /// Begins to take down what is read and written.
    pub fn begin_trace(&mut self) {
        let mut trace = std::mem::take(&mut self.spare);
        trace.begin(self.state.mark(), self.state.mark() == self.opening);
        self.trace = Some(trace);
    }

    /// Ends what [`PendingBlock::begin_trace`] began, and yields what happened since; `since` is the point where that was.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn end_trace(&mut self, since: Checkpoint) -> Result<Stretch, SimulationError> {
        let trace = self.trace.take().unwrap_or_default();
        let (footprint, tried) = (trace.finish(&self.state), trace.tried());
        self.spare = trace;
        let footprint = footprint?;
        let executed = self.executed.get(since.executed..).unwrap_or_default().to_vec();
        let takes = executed.iter().fold([0; 3], |[gas, footprint, data]: [u64; 3], executed| {
            let (used, room) = (executed.outcome.gas_used, executed.room);
            [gas.saturating_add(used), footprint.saturating_add(room.footprint), data.saturating_add(room.data)]
        });
        Ok(Stretch { takes, executed, footprint, context: Arc::clone(&self.context), terms: self.terms()?, tried })
    }

    /// Whether a stretch would do here what it did: everything that it depends on is the same.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn holds(&mut self, stretch: &Stretch) -> Result<bool, SimulationError> {
        if !stretch.fits(&self.context) {
            return Ok(false);
        }
        let terms = self.terms()?;
        Ok((Arc::ptr_eq(&terms, &stretch.terms) || terms == stretch.terms) && self.state.holds(&stretch.footprint)?)
    }

    /// Whether the block has room to spare for everything that was tried in a stretch, so that room decides over none of it.
    pub fn has_room(&self, stretch: &Stretch) -> bool {
        self.used.and(self.reserved).check(&self.context, stretch.tried, Room::default()).is_ok()
    }

    /// Takes over a stretch that [holds](PendingBlock::holds) and whose writes are complete.
    ///
    /// # Errors
    /// Outer: the state cannot be read. Inner: there is no room for the transaction with that index; the block is unchanged.
    pub fn append(&mut self, stretch: &Stretch) -> Result<Result<(), (usize, Reason)>, SimulationError> {
        let (mut used, mut reserved) = (self.used, self.reserved);
        for (index, executed) in stretch.executed.iter().enumerate() {
            if let Err(reason) = used.and(reserved).check(&self.context, executed.room, executed.reserve) {
                return Ok(Err((index, reason)));
            }
            used = used.and(Room { gas: executed.outcome.gas_used, ..executed.room });
            reserved = reserved.and(executed.reserve);
        }
        self.state.write(&stretch.footprint)?;
        let mut cumulative = self.used.gas;
        for executed in &stretch.executed {
            cumulative = cumulative.saturating_add(executed.outcome.gas_used);
            let first_log = self.log_count();
            self.executed.push(Executed { cumulative_gas_used: cumulative, first_log, ..executed.clone() });
        }
        (self.used, self.reserved) = (used, reserved);
        Ok(Ok(()))
    }

    /// Makes the changes of a stretch without its transactions, to whatever is there: what a block would be like with somebody
    /// else's doing in it. Only to look at, and to roll back.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn impose(&mut self, changes: &Footprint) -> Result<(), SimulationError> {
        Ok(self.state.repeat(changes)?)
    }

    /// Takes down that what comes next depends on a balance.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn watch_balance(&mut self, account: Address) -> Result<(), SimulationError> {
        if self.trace.is_some() {
            let before = self.state.account(account)?.unwrap_or_default();
            if let Some(trace) = &mut self.trace {
                trace.look(account, before);
            }
        }
        Ok(())
    }

    /// A read on which what comes next depends.
    ///
    /// # Errors
    /// As [`call`](crate::call()).
    pub fn watched_call(&mut self, request: &CallRequest) -> Result<Result<TxOutcome, Reason>, SimulationError> {
        let called = call_touching(&self.context, &self.state, request)?;
        if let (Some(trace), Ok((_, touched))) = (&mut self.trace, &called) {
            trace.overlook(touched);
        }
        Ok(called.map(|(outcome, _)| outcome))
    }

    /// What data costs here.
    fn terms(&mut self) -> Result<Arc<Terms>, StateError> {
        if let Some((terms, _)) = &self.terms {
            return Ok(Arc::clone(terms));
        }
        let terms = Arc::new(self.context.rules.stack().terms(self.context.number, &self.state)?);
        self.terms = Some((Arc::clone(&terms), self.executed.len()));
        Ok(terms)
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

    /// How many logs it has so far.
    pub fn log_count(&self) -> u64 {
        self.executed.last().map_or(0, |last| last.first_log + last.outcome.logs.len() as u64)
    }

    /// Gas that is left for further listed transactions.
    pub fn gas_left(&self) -> u64 {
        self.context.listed_gas().saturating_sub(self.used.gas).saturating_sub(self.reserved.gas)
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
        self.terms.take_if(|(_, since)| *since > checkpoint.executed);
        if let Some(trace) = &mut self.trace {
            trace.undo();
        }
    }

    /// How native balances have changed since `checkpoint`, in wei, by address; accounts whose balance is the same are left out.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn balance_changes(&self, checkpoint: Checkpoint) -> Result<BalanceChanges, SimulationError> {
        if let Some(trace) = self.trace.as_ref().filter(|trace| trace.began_at() == checkpoint.mark) {
            return Ok(trace.balance_changes(&self.state));
        }
        let written = self.state.written_since(checkpoint.mark)?;
        let mut changes = BalanceChanges::with_capacity(written.len());
        for (address, before) in written {
            let after = self.state.account(address)?.map_or(U256::ZERO, |account| account.balance);
            if before != after {
                changes.push((address, I256::from_raw(after.wrapping_sub(before))));
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
        let signed = match tx {
            BlockTx::Signed(signed) => signed,
            BlockTx::Deposit(deposit) => return self.execute_deposit(tx, deposit.work()),
        };
        let millionths = self.context.rules.stack().data_millionths(signed);
        let terms = self.terms()?;
        let room = Room::of_tx(tx, &terms, millionths);
        let reserve = if stand_ins.is_empty() { Room::default() } else { room.of_evidence(tx) };
        if let Some(trace) = &mut self.trace {
            trace.try_room(room.and(reserve));
        }
        if let Err(reason) = self.used.and(self.reserved).check(&self.context, room, reserve) {
            return Ok(Err(reason));
        }
        if !self.by_evm_alone
            && let Some(transfer) = plain_transfer(&self.context, &self.state, signed, &terms, millionths)?
        {
            #[cfg(debug_assertions)]
            self.check_transfer(signed, &transfer, &terms, millionths);
            return self.finish_transfer(tx, &transfer, (room, reserve));
        }
        let stack = self.context.rules.stack();
        let work = signed_work(signed, millionths);
        let raw = match stack.transact(&self.context, &mut self.state, work, &terms, stand_ins) {
            Ok(raw) => raw,
            Err(Failure::Invalid { reason, state, seen }) => {
                if let Some(trace) = &mut self.trace {
                    let before = self.state.account(tx.sender())?.unwrap_or_default();
                    trace.refuse(tx.sender(), before, &state, &seen);
                }
                return Ok(Err(reason));
            }
            Err(Failure::State(error)) => return Err(SimulationError::State(error)),
            Err(Failure::Broken(cause)) => return Err(SimulationError::Broken(cause)),
        };
        if let Some(trace) = &mut self.trace {
            trace.note(tx.sender(), !signed.authorizations().is_empty(), &raw.state, &raw.seen);
        }
        let (priority, base) = self.gas_fees(tx, raw.gas_used);
        let fees = TxFees { priority, base, l1_data: raw.l1_data, operator: raw.operator };
        self.finish_transaction(tx, raw, fees, None, (room, reserve))
    }

    /// A deposit pays for nothing here, and L1 has its data already.
    fn execute_deposit(&mut self, tx: &BlockTx, work: Work) -> Result<Result<&Executed, Reason>, SimulationError> {
        let room = Room::of_tx(tx, &Terms::default(), 0);
        if let Err(reason) = self.used.and(self.reserved).check_forced(&self.context, room) {
            return Ok(Err(reason));
        }
        let nonce = self.state.account(tx.sender())?.map_or(0, |account| account.nonce);
        let raw = match run(&self.context, Reader(&self.state), work) {
            Ok(raw) => raw,
            Err(Failure::Invalid { reason, .. }) => return Ok(Err(reason)),
            Err(Failure::State(error)) => return Err(SimulationError::State(error)),
            Err(Failure::Broken(cause)) => return Err(SimulationError::Broken(cause)),
        };
        self.terms = None;
        if let Err(reason) = self.finish_transaction(tx, raw, TxFees::default(), Some(nonce), (room, Room::default()))? {
            return Ok(Err(reason));
        }
        // What is forced belongs to how the block opens.
        self.opening = self.state.mark();
        self.executed.last().map(Ok).ok_or_else(|| SimulationError::Broken("nothing was executed".into()))
    }

    /// Takes over what a transaction did, and credits whom it paid.
    fn finish_transaction(
        &mut self,
        tx: &BlockTx,
        raw: RawOutcome,
        fees: TxFees,
        deposit_nonce: Option<u64>,
        (room, reserve): (Room, Room),
    ) -> Result<Result<&Executed, Reason>, SimulationError> {
        let RawOutcome { status, gas_used, logs, output, created, state, .. } = raw;
        let stack = self.context.rules.stack();
        let mark = self.state.mark();
        let changed_terms = stack
            .terms_account()
            .is_some_and(|account| state.get(&account).is_some_and(|account| account.changed_storage_slots().next().is_some()));
        // What an account has that destroys itself is gone with it, fees included.
        let gone: Vec<Address> =
            state.iter().filter(|(_, account)| account.is_selfdestructed()).map(|(address, _)| *address).collect();
        self.state.commit(state);
        self.credit_fees(mark, &fees, &gone)?;
        if changed_terms {
            self.terms = None;
        }
        self.hold(tx, TxOutcome { status, gas_used, logs, output, created, fees }, deposit_nonce, (room, reserve))
    }

    /// Takes over a plain transfer, and credits whom it paid.
    fn finish_transfer(
        &mut self,
        tx: &BlockTx,
        transfer: &Transfer,
        rooms: (Room, Room),
    ) -> Result<Result<&Executed, Reason>, SimulationError> {
        if let Some(trace) = &mut self.trace {
            trace.note_transfer(transfer);
        }
        let mark = self.state.mark();
        let Transfer { sender, receiver, gas_used, fees } = transfer;
        self.state.write_account(sender.address, Some(sender.after));
        self.state.write_account(receiver.address, Some(receiver.after));
        self.credit_fees(mark, fees, &[])?;
        let outcome = TxOutcome {
            status: TxStatus::Succeeded,
            gas_used: *gas_used,
            logs: Logs::default(),
            output: Bytes::new(),
            created: None,
            fees: *fees,
        };
        self.hold(tx, outcome, None, rooms)
    }

    /// Demands of the EVM that it makes the same of a plain transfer.
    #[cfg(debug_assertions)]
    fn check_transfer(&mut self, tx: &SignedTx, transfer: &Transfer, terms: &Terms, millionths: u64) {
        let stack = self.context.rules.stack();
        let work = signed_work(tx, millionths);
        let raw = stack.transact(&self.context, &mut self.state, work, terms, &StandIns::default());
        assert!(raw.as_ref().is_ok_and(|raw| transfer.is_what_the_evm_did(raw)), "{transfer:?} is no {raw:?}");
    }

    /// Credits whom a transaction paid, those that are gone aside. When that fails, everything since `mark` is undone: whoever
    /// asks again finds the block as it was.
    fn credit_fees(&mut self, mark: usize, fees: &TxFees, gone: &[Address]) -> Result<(), StateError> {
        let accounts = self.context.rules.stack().fee_accounts();
        let paid = [
            (Some(self.context.beneficiary), fees.priority),
            (accounts.base, fees.base),
            (accounts.l1_data, fees.l1_data),
            (accounts.operator, fees.operator),
        ];
        for (account, amount) in paid {
            let Some(account) = account.filter(|account| !amount.is_zero() && !gone.contains(account)) else { continue };
            match self.state.credit(account, amount) {
                Ok(before) => {
                    if let Some(trace) = &mut self.trace {
                        trace.credit(account, before, amount);
                    }
                }
                Err(error) => {
                    self.state.rewind(mark);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Makes a transaction whose changes are made the block's next one.
    fn hold(
        &mut self,
        tx: &BlockTx,
        outcome: TxOutcome,
        deposit_nonce: Option<u64>,
        (room, reserve): (Room, Room),
    ) -> Result<Result<&Executed, Reason>, SimulationError> {
        // What was asked for and not used is there for the next one.
        self.used = self.used.and(Room { gas: outcome.gas_used, ..room });
        self.reserved = self.reserved.and(reserve);
        self.executed.push(Executed {
            tx: tx.clone(),
            outcome: Arc::new(outcome),
            cumulative_gas_used: self.used.gas,
            first_log: self.log_count(),
            deposit_nonce,
            room,
            reserve,
        });
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

    /// Ends the block by the system calls that come after its transactions (EIP-7002, EIP-7251), and yields the execution
    /// requests. It is called once: after an error the block is of no more use.
    ///
    /// # Errors
    /// When the state or the EVM is broken, or a request contract fails.
    pub fn end(&mut self) -> Result<Vec<Bytes>, SimulationError> {
        let mut requests = Vec::new();
        for (kind, contract) in self.context.rules.stack().closing_calls() {
            let output = self.system_call(*contract, Bytes::new())?;
            if !output.is_empty() {
                requests.push([&[*kind], output.as_ref()].concat().into());
            }
        }
        Ok(requests)
    }

    /// Ends the block, see [`PendingBlock::end`], and sums it up.
    ///
    /// # Errors
    /// As [`PendingBlock::end`].
    pub fn finish(&mut self) -> Result<BlockSummary, SimulationError> {
        let requests = self.end()?;
        Ok(self.summary(requests))
    }

    /// Blob gas, or the DA footprint on Jovian rollups; `None` before Cancun.
    pub fn blob_gas_used(&self) -> Option<u64> {
        let rules = self.context.rules;
        // Before Jovian the OP stack's is always zero: it has no blobs.
        rules.blobs().map(|_| if rules.has_footprint() { self.used.footprint } else { self.used.blob_gas })
    }

    /// Sums up the block without ending it.
    pub fn summary(&self, requests: Vec<Bytes>) -> BlockSummary {
        let (receipts_root, logs_bloom) = root_and_bloom(self.executed.iter().map(Executed::receipt));
        BlockSummary { gas_used: self.used.gas, blob_gas_used: self.blob_gas_used(), receipts_root, logs_bloom, requests }
    }

    /// Calls a system contract; where it has no code nothing happens, as the EIPs say.
    fn system_call(&mut self, contract: Address, data: Bytes) -> Result<Bytes, SimulationError> {
        if !self.state.account(contract)?.is_some_and(|account| account.has_code()) {
            return Ok(Bytes::new());
        }
        let work = Work::System { contract, data };
        match run(&self.context, Reader(&self.state), work) {
            Ok(raw) => {
                self.state.commit(raw.state);
                Ok(raw.output)
            }
            Err(Failure::State(error)) => Err(SimulationError::State(error)),
            Err(Failure::Invalid { reason, .. }) => Err(SimulationError::Broken(reason.to_string())),
            Err(Failure::Broken(cause)) => Err(SimulationError::Broken(cause)),
        }
    }
}

impl Stretch {
    /// Whether it was taken down in that very block, or one with the same environment.
    pub fn is_of(&self, block: &PendingBlock) -> bool {
        Arc::ptr_eq(&self.context, &block.context) || self.context == block.context
    }

    /// What it takes of a block: gas, DA footprint, data.
    pub const fn takes(&self) -> [u64; 3] {
        self.takes
    }

    /// The same stretch as it holds on a block that is as it opened.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn moved_to(&self, opened: &mut PendingBlock) -> Result<Self, SimulationError> {
        let footprint = Footprint { at_opening: true, ..self.footprint.clone() };
        let (context, terms) = (Arc::clone(&opened.context), opened.terms()?);
        Ok(Self { executed: self.executed.clone(), footprint, context, terms, tried: self.tried, takes: self.takes })
    }

    /// Whether a block's environment is the same as far as the transactions looked at it.
    fn fits(&self, context: &Arc<BlockContext>) -> bool {
        if Arc::ptr_eq(&self.context, context) || self.context == *context {
            return true;
        }
        let of = |context: &BlockContext| {
            let fees = (context.base_fee, context.beneficiary, context.excess_blob_gas);
            (context.chain, context.rules, context.gas_limit, fees, context.data, context.deposits_only)
        };
        !self.footprint.environment && of(&self.context) == of(context)
    }
}

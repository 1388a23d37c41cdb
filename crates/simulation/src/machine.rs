//! Long-lived EVMs: one a thread and block, used again for every transaction of it.
//!
//! An EVM works on the state of one block at a time, which is lent to it for a transaction and taken back afterwards, so that
//! no state is ever copied and no EVM is ever built for a single transaction. What is remembered between transactions
//! (buffers, tables) shows in no result.
//!
//! Nobody is paid by the EVM itself: fees are credited by the block, see [`PendingBlock`](crate::PendingBlock). Whether a
//! transaction looked at the balance of a fee account is thereby told by whether it touched that account.

use std::{cell::RefCell, sync::Arc};

use alloy_primitives::{Address, B256, Bytes, U256, map::AddressSet};
use lockstep_primitives::StandIn;
use op_revm::{
    DefaultOp, L1BlockInfo, OpEvm, OpHaltReason, OpSpecId, OpTransaction, OpTransactionError,
    api::exec::OpContextTr,
    handler::{IsTxError, OpHandler},
};
use revm::{
    Database,
    bytecode::opcode,
    context::{BlockEnv, CfgEnv, Context, ContextSetters, Evm, FrameStack, Journal, TxEnv},
    context_interface::{
        ContextTr, JournalTr,
        result::{EVMError, ExecutionResult, FromStringError, HaltReason, InvalidTransaction, ResultGas},
    },
    handler::{
        EthFrame, EthPrecompiles, EvmTr, FrameResult, Handler, MainContext, MainnetHandler, PrecompileProvider, evm::FrameTr,
        handler::EvmTrError, instructions::EthInstructions, precompile_output_to_interpreter_result,
    },
    interpreter::{
        CallInputs, Host, InitialAndFloorGas, Instruction, InstructionContext, InterpreterResult,
        instructions::{block_info, contract, host, tx_info},
        interpreter::EthInterpreter,
        interpreter_action::FrameInit,
    },
    primitives::hardfork::SpecId,
    state::{AccountInfo, Bytecode, EvmState},
};

use crate::{
    BlockContext, Overlay, StandIns, StateError, StateView,
    evm::{ECRECOVER, ECRECOVER_GAS, block_env, cfg},
    overlay::account_info,
};

/// The most EVMs that a thread keeps of a kind: a block each. The one that was used longest ago goes first.
const MAX_MACHINES: usize = 32;

thread_local! {
    static ETHEREUM: RefCell<Vec<Machine<EthereumEvm>>> = const { RefCell::new(Vec::new()) };
    static OP: RefCell<Vec<Machine<OpStackEvm>>> = const { RefCell::new(Vec::new()) };
}

type EthereumContext = Context<BlockEnv, TxEnv, CfgEnv, Lent, Journal<Lent>, ()>;
type EthereumEvm =
    Evm<EthereumContext, (), EthInstructions<EthInterpreter, EthereumContext>, Precompiled, EthFrame<EthInterpreter>>;
type OpStackContext = Context<BlockEnv, OpTransaction<TxEnv>, CfgEnv<OpSpecId>, Lent, Journal<Lent>, L1BlockInfo>;
type OpStackEvm = OpEvm<OpStackContext, (), EthInstructions<EthInterpreter, OpStackContext>, Precompiled>;

/// What a transaction looked at beyond what the accounts and slots that it touched tell.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Accounts whose balance decided over something.
    pub(crate) balances: AddressSet,
    /// Whether addresses were derived from nonces, which shows nowhere where what was created is undone.
    pub(crate) nonces: bool,
    /// Whether it read anything of its block: number, time, fees, hashes.
    pub(crate) environment: bool,
}

/// What an EVM made of a transaction.
#[derive(Debug)]
pub(crate) struct Ran<H, E> {
    pub(crate) result: Result<ExecutionResult<H>, EVMError<StateError, E>>,
    /// Everything that was touched, of an invalid transaction too.
    pub(crate) state: EvmState,
    pub(crate) seen: Seen,
}

/// Runs a transaction under Ethereum's rules.
pub(crate) fn run_ethereum(
    spec: SpecId,
    context: &Arc<BlockContext>,
    state: &mut Overlay,
    tx: TxEnv,
    stand_ins: &StandIns,
) -> Ran<HaltReason, InvalidTransaction> {
    ETHEREUM.with_borrow_mut(|machines| {
        let mut machine = take(machines, context, spec);
        let evm = &mut machine.evm;
        evm.precompiles.stand_ins = Arc::clone(stand_ins);
        evm.ctx.journaled_state.database.lend(state);
        evm.ctx.set_tx(tx);
        let result = Unpaid(MainnetHandler::default()).run(evm);
        let ended = evm.ctx.journaled_state.finalize();
        let seen = evm.ctx.journaled_state.database.give_back(state);
        put_back(machines, machine, &result);
        Ran { result, state: ended, seen }
    })
}

/// Runs a transaction under the OP stack's rules. `l1` says what L1 costs, this transaction's data included.
pub(crate) fn run_op(
    spec: OpSpecId,
    context: &Arc<BlockContext>,
    state: &mut Overlay,
    (tx, raw, l1): (TxEnv, Bytes, L1BlockInfo),
    stand_ins: &StandIns,
) -> Ran<OpHaltReason, OpTransactionError> {
    OP.with_borrow_mut(|machines| {
        let mut machine = take(machines, context, spec);
        let evm = &mut machine.evm.0;
        evm.precompiles.stand_ins = Arc::clone(stand_ins);
        evm.ctx.chain = l1;
        evm.ctx.journaled_state.database.lend(state);
        evm.ctx.set_tx(OpTransaction { base: tx, enveloped_tx: Some(raw), deposit: Default::default() });
        let result = Unpaid(OpHandler::new()).run(&mut machine.evm);
        let evm = &mut machine.evm.0;
        let ended = evm.ctx.journaled_state.finalize();
        let seen = evm.ctx.journaled_state.database.give_back(state);
        put_back(machines, machine, &result);
        Ran { result, state: ended, seen }
    })
}

/// An EVM of one block.
struct Machine<E: Kept> {
    /// Held, so that no other block can have its address.
    context: Arc<BlockContext>,
    spec: E::Spec,
    /// Some kilobytes, which would be moved twice for every transaction.
    evm: Box<E>,
}

/// The block's EVM, which is out of the list while it runs: after a panic nobody has it. Where there is none, one whose block
/// nobody has any more is set up for it, or a new one is made.
fn take<E: Kept>(machines: &mut Vec<Machine<E>>, context: &Arc<BlockContext>, spec: E::Spec) -> Machine<E> {
    // The one that was used last is the last.
    if let Some(index) = machines.iter().rposition(|machine| Arc::ptr_eq(&machine.context, context)) {
        return machines.remove(index);
    }
    let idle = |machine: &Machine<E>| machine.spec == spec && Arc::strong_count(&machine.context) == 1;
    let mut machine = match machines.iter().position(idle) {
        Some(index) => machines.remove(index),
        None => Machine { context: Arc::clone(context), spec, evm: Box::new(E::new(spec, context)) },
    };
    machine.evm.set_up(spec, context);
    machine.context = Arc::clone(context);
    machine
}

/// Keeps an EVM for the next transaction, unless this one ended with anything but a verdict.
fn put_back<E: Kept, H, I>(
    machines: &mut Vec<Machine<E>>,
    machine: Machine<E>,
    result: &Result<ExecutionResult<H>, EVMError<StateError, I>>,
) {
    if matches!(result, Ok(_) | Err(EVMError::Transaction(_))) {
        if machines.len() >= MAX_MACHINES {
            machines.remove(0);
        }
        machines.push(machine);
    }
}

/// An EVM that is kept.
trait Kept {
    type Spec: Copy + PartialEq;

    /// A new one.
    fn new(spec: Self::Spec, context: &BlockContext) -> Self;

    /// Goes over to another block under the same rules.
    fn set_up(&mut self, spec: Self::Spec, context: &BlockContext);
}

impl Kept for EthereumEvm {
    type Spec = SpecId;

    fn new(spec: SpecId, context: &BlockContext) -> Self {
        let ctx = Context::mainnet().with_cfg(cfg(context, spec, false, false)).with_db(Lent::default());
        let instruction = watching(EthInstructions::new_mainnet_with_spec(spec));
        let precompiles = Precompiled::new(context, spec);
        Self { ctx, inspector: (), instruction, precompiles, frame_stack: FrameStack::new_prealloc(8) }
    }

    fn set_up(&mut self, spec: SpecId, context: &BlockContext) {
        (self.ctx.block, self.ctx.cfg) = (block_env(context), cfg(context, spec, false, false));
    }
}

impl Kept for OpStackEvm {
    type Spec = OpSpecId;

    fn new(spec: OpSpecId, context: &BlockContext) -> Self {
        let ctx = Context::op().with_cfg(cfg(context, spec, false, false)).with_db(Lent::default());
        let instruction = watching(EthInstructions::new_mainnet_with_spec(spec.into()));
        let precompiles = Precompiled::new(context, spec.into());
        Self(Evm { ctx, inspector: (), instruction, precompiles, frame_stack: FrameStack::new_prealloc(8) })
    }

    fn set_up(&mut self, spec: OpSpecId, context: &BlockContext) {
        (self.0.ctx.block, self.0.ctx.cfg) = (block_env(context), cfg(context, spec, false, false));
    }
}

/// The state that an EVM works on, and what it looks at.
#[derive(Debug, Default)]
struct Lent {
    state: Option<Overlay>,
    seen: Seen,
}

impl Lent {
    fn lend(&mut self, state: &mut Overlay) {
        self.state = Some(std::mem::replace(state, Overlay::nowhere()));
    }

    fn give_back(&mut self, state: &mut Overlay) -> Seen {
        if let Some(lent) = self.state.take() {
            *state = lent;
        }
        std::mem::take(&mut self.seen)
    }

    fn state(&self) -> Result<&Overlay, StateError> {
        self.state.as_ref().ok_or_else(|| StateError::Broken("the EVM has no state".to_owned()))
    }
}

impl Database for Lent {
    type Error = StateError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        account_info(self.state()?, address)
    }

    fn code_by_hash(&mut self, hash: B256) -> Result<Bytecode, StateError> {
        self.state()?.code(hash)
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, StateError> {
        self.state()?.storage(address, slot)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, StateError> {
        self.state()?.block_hash(number)
    }
}

/// The precompiled contracts of the rules, with a signature check that takes stand-ins for what they stand for.
#[derive(Debug)]
struct Precompiled {
    of_rules: EthPrecompiles,
    stand_ins: StandIns,
}

impl Precompiled {
    fn new(context: &BlockContext, spec: SpecId) -> Self {
        let of_rules = EthPrecompiles { precompiles: context.rules.stack().precompiles(), spec };
        Self { of_rules, stand_ins: StandIns::default() }
    }

    /// Whose signature stands in, when the input of `ecrecover` names one.
    fn stands_in(&self, input: &[u8]) -> Option<&StandIn> {
        let word = |index: usize| input.get(index * 32..(index + 1) * 32);
        let (digest, r, s) = (word(0)?, word(2)?, word(3)?);
        self.stand_ins.iter().find(|known| known.digest == digest && known.r == r && known.s == s)
    }
}

impl<C: ContextTr> PrecompileProvider<C> for Precompiled {
    type Output = InterpreterResult;

    fn set_spec(&mut self, _: <C::Cfg as revm::context_interface::Cfg>::Spec) -> bool {
        // An EVM keeps to the rules that it was made for; they are told once, when its journal has none yet.
        false
    }

    fn run(&mut self, context: &mut C, inputs: &CallInputs) -> Result<Option<InterpreterResult>, String> {
        if !self.stand_ins.is_empty() && inputs.bytecode_address == ECRECOVER && inputs.gas_limit >= ECRECOVER_GAS {
            let signer = self.stands_in(&inputs.input.as_bytes(context)).map(|known| known.signer);
            if let Some(signer) = signer {
                let bytes = Bytes::copy_from_slice(signer.into_word().as_slice());
                let output = revm::precompile::PrecompileOutput::new(ECRECOVER_GAS, bytes, inputs.reservoir);
                return Ok(Some(precompile_output_to_interpreter_result(output, inputs.gas_limit)));
            }
        }
        PrecompileProvider::<C>::run(&mut self.of_rules, context, inputs)
    }

    fn warm_addresses(&self) -> Box<impl Iterator<Item = Address>> {
        self.of_rules.warm_addresses()
    }

    fn contains(&self, address: &Address) -> bool {
        self.of_rules.contains(address)
    }
}

/// What an instruction does.
type Act<C> = fn(InstructionContext<'_, C, EthInterpreter>);

/// The instructions of the rules, of which some note what they look at before they do what they do.
fn watching<C>(mut instructions: EthInstructions<EthInterpreter, C>) -> EthInstructions<EthInterpreter, C>
where
    C: Host + ContextTr<Db = Lent>,
{
    let watched: [(u8, Act<C>); 16] = [
        (opcode::BALANCE, balance),
        (opcode::SELFBALANCE, self_balance),
        (opcode::CALL, call),
        (opcode::CALLCODE, call_code),
        (opcode::CREATE, create::<_, false>),
        (opcode::CREATE2, create::<_, true>),
        (opcode::SELFDESTRUCT, selfdestruct),
        (opcode::BLOCKHASH, |context| environment(context, host::blockhash)),
        (opcode::COINBASE, |context| environment(context, block_info::coinbase)),
        (opcode::TIMESTAMP, |context| environment(context, block_info::timestamp)),
        (opcode::NUMBER, |context| environment(context, block_info::block_number)),
        (opcode::DIFFICULTY, |context| environment(context, block_info::difficulty)),
        (opcode::GASLIMIT, |context| environment(context, block_info::gaslimit)),
        (opcode::BASEFEE, |context| environment(context, block_info::basefee)),
        (opcode::BLOBBASEFEE, |context| environment(context, block_info::blob_basefee)),
        (opcode::GASPRICE, |context| environment(context, tx_info::gasprice)),
    ];
    for (opcode, instruction) in watched {
        let gas = instructions.instruction_table[usize::from(opcode)].static_gas();
        instructions.insert_instruction(opcode, Instruction::new(instruction, gas));
    }
    instructions
}

fn environment<C: ContextTr<Db = Lent>>(context: InstructionContext<'_, C, EthInterpreter>, instruction: Act<C>) {
    context.host.db_mut().seen.environment = true;
    instruction(context);
}

fn balance<C: Host + ContextTr<Db = Lent>>(context: InstructionContext<'_, C, EthInterpreter>) {
    if let Ok(word) = context.interpreter.stack.peek(0) {
        context.host.db_mut().seen.balances.insert(Address::from_word(B256::from(word)));
    }
    host::balance(context);
}

fn self_balance<C: Host + ContextTr<Db = Lent>>(mut context: InstructionContext<'_, C, EthInterpreter>) {
    note_own(&mut context);
    host::selfbalance(context);
}

/// Whoever sends something has to have it.
fn call<C: Host + ContextTr<Db = Lent>>(mut context: InstructionContext<'_, C, EthInterpreter>) {
    note_payer(&mut context, 2);
    contract::call(context);
}

fn call_code<C: Host + ContextTr<Db = Lent>>(mut context: InstructionContext<'_, C, EthInterpreter>) {
    note_payer(&mut context, 2);
    contract::call_code(context);
}

fn create<C: Host + ContextTr<Db = Lent>, const TWO: bool>(mut context: InstructionContext<'_, C, EthInterpreter>) {
    note_payer(&mut context, 0);
    context.host.db_mut().seen.nonces = true;
    contract::create::<_, TWO, _>(context);
}

fn selfdestruct<C: Host + ContextTr<Db = Lent>>(mut context: InstructionContext<'_, C, EthInterpreter>) {
    note_own(&mut context);
    host::selfdestruct(context);
}

/// Notes the running contract's balance when the word at that depth of the stack, an amount, is not zero.
fn note_payer<C: ContextTr<Db = Lent>>(context: &mut InstructionContext<'_, C, EthInterpreter>, depth: usize) {
    if context.interpreter.stack.peek(depth).is_ok_and(|amount| !amount.is_zero()) {
        note_own(context);
    }
}

fn note_own<C: ContextTr<Db = Lent>>(context: &mut InstructionContext<'_, C, EthInterpreter>) {
    let own = context.interpreter.input.target_address;
    context.host.db_mut().seen.balances.insert(own);
}

/// A handler that pays nobody.
struct Unpaid<H>(H);

impl<EVM, ERROR, FRAME> Handler for Unpaid<MainnetHandler<EVM, ERROR, FRAME>>
where
    EVM: EvmTr<Context: ContextTr<Journal: JournalTr<State = EvmState>>, Frame = FRAME>,
    ERROR: EvmTrError<EVM>,
    FRAME: FrameTr<FrameResult = FrameResult, FrameInit = FrameInit>,
{
    type Evm = EVM;
    type Error = ERROR;
    type HaltReason = HaltReason;

    fn reward_beneficiary(&self, _: &mut EVM, _: &mut FrameResult) -> Result<(), ERROR> {
        Ok(())
    }
}

impl<EVM, ERROR, FRAME> Handler for Unpaid<OpHandler<EVM, ERROR, FRAME>>
where
    EVM: EvmTr<Context: OpContextTr, Frame = FRAME>,
    ERROR: EvmTrError<EVM> + From<OpTransactionError> + FromStringError + IsTxError,
    FRAME: FrameTr<FrameResult = FrameResult, FrameInit = FrameInit>,
{
    type Evm = EVM;
    type Error = ERROR;
    type HaltReason = OpHaltReason;

    fn validate_env(&self, evm: &mut EVM) -> Result<(), ERROR> {
        self.0.validate_env(evm)
    }

    fn validate_against_state_and_deduct_caller(&self, evm: &mut EVM, gas: &mut InitialAndFloorGas) -> Result<(), ERROR> {
        self.0.validate_against_state_and_deduct_caller(evm, gas)
    }

    fn last_frame_result(&mut self, evm: &mut EVM, frame: &mut FrameResult) -> Result<(), ERROR> {
        self.0.last_frame_result(evm, frame)
    }

    fn reimburse_caller(&self, evm: &mut EVM, frame: &mut FrameResult) -> Result<(), ERROR> {
        self.0.reimburse_caller(evm, frame)
    }

    fn refund(&self, evm: &mut EVM, frame: &mut FrameResult, eip7702_refund: i64) {
        self.0.refund(evm, frame, eip7702_refund);
    }

    fn reward_beneficiary(&self, _: &mut EVM, _: &mut FrameResult) -> Result<(), ERROR> {
        Ok(())
    }

    fn execution_result(
        &mut self,
        evm: &mut EVM,
        frame: FrameResult,
        gas: ResultGas,
    ) -> Result<ExecutionResult<OpHaltReason>, ERROR> {
        self.0.execution_result(evm, frame, gas)
    }

    fn catch_error(&self, evm: &mut EVM, error: ERROR) -> Result<ExecutionResult<OpHaltReason>, ERROR> {
        self.0.catch_error(evm, error)
    }
}

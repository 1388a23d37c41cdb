//! Drives revm and op-revm: what is run, and what comes of it. Transactions run on the long-lived EVMs of `machine.rs`;
//! everything that is rare gets an EVM of its own.

use std::sync::Arc;

use alloy_evm::{Evm, EvmEnv, EvmFactory, eth::EthEvmFactory, precompiles::PrecompilesMap};
use alloy_op_evm::{OpEvmFactory, OpTx};
use alloy_primitives::{Address, Bytes, U256, address};
use lockstep_primitives::{Reason, StandIn};
use op_revm::{
    L1BlockInfo, OpSpecId, OpTransaction, OpTransactionError,
    constants::{L1_BLOCK_CONTRACT, L1_SCALAR_SLOT},
};
use revm::{
    context::{BlockEnv, CfgEnv, TxEnv},
    context_interface::{
        block::BlobExcessGasAndPrice,
        result::{EVMError, ExecutionResult, InvalidTransaction, Output, ResultAndState},
    },
    primitives::hardfork::SpecId,
    state::EvmState,
};

use crate::{
    BlockContext, Overlay, StateError, TxStatus,
    machine::{self, Ran, Seen},
    overlay::Reader,
    stack::MILLIONTHS,
};

pub(crate) const ECRECOVER: Address = address!("0000000000000000000000000000000000000001");
/// What the `ecrecover` precompile costs, whatever it recovers.
pub(crate) const ECRECOVER_GAS: u64 = 3_000;

/// The stand-ins of one transaction.
pub type StandIns = Arc<[StandIn]>;

/// The logs of one transaction, in order.
pub type Logs = Arc<[alloy_primitives::Log]>;

/// What is being run.
#[derive(Debug)]
pub(crate) enum Work {
    /// An OP-stack deposit.
    Deposit(Box<OpTx>),
    /// A call by the system address: no fee, no nonce.
    System { contract: Address, data: Bytes },
    /// A read: nobody pays, nothing is checked.
    Call(Box<TxEnv>),
}

/// A signed transaction on any kind of rollup, with its EIP-2718 bytes and what they weigh as data.
#[derive(Debug)]
pub(crate) struct SignedWork {
    pub(crate) env: TxEnv,
    pub(crate) raw: Bytes,
    pub(crate) millionths: u64,
}

/// What data costs in a block, as its L1 attributes say. It stays the same from the forced prefix on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Terms {
    /// The price of L1 data, on the OP stack.
    pub(crate) l1: Option<L1BlockInfo>,
    /// How much of a block's footprint a byte of data takes; `None` where blocks have no footprint.
    pub(crate) footprint_scalar: Option<u64>,
}

/// What revm answered, whatever the rollup.
#[derive(Debug)]
pub(crate) struct RawOutcome {
    pub(crate) status: TxStatus,
    pub(crate) gas_used: u64,
    pub(crate) logs: Logs,
    pub(crate) output: Bytes,
    pub(crate) created: Option<Address>,
    /// What was paid for data on L1, in wei.
    pub(crate) l1_data: U256,
    /// What was paid to the operator, in wei.
    pub(crate) operator: U256,
    pub(crate) state: EvmState,
    pub(crate) seen: Seen,
}

/// Why revm gave no outcome.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The state could not be read.
    State(StateError),
    /// The transaction is invalid in this state and block, by what was read.
    Invalid { reason: Reason, state: EvmState, seen: Seen },
    /// The EVM itself failed.
    Broken(String),
}

impl Failure {
    /// With what was looked at, if it is the transaction's.
    fn with(self, state: EvmState, seen: Seen) -> Self {
        match self {
            Self::Invalid { reason, .. } => Self::Invalid { reason, state, seen },
            other => other,
        }
    }
}

fn invalid(reason: Reason) -> Failure {
    Failure::Invalid { reason, state: EvmState::default(), seen: Seen::default() }
}

pub(crate) fn run(context: &BlockContext, reader: Reader<'_>, work: Work) -> Result<RawOutcome, Failure> {
    context.rules.stack().run(context, reader, work)
}

/// Runs a transaction under Ethereum's rules.
pub(crate) fn transact_ethereum(
    spec: SpecId,
    context: &Arc<BlockContext>,
    state: &mut Overlay,
    tx: SignedWork,
    stand_ins: &StandIns,
) -> Result<RawOutcome, Failure> {
    let signer = (tx.env.caller, tx.env.gas_price, tx.env.gas_limit);
    let Ran { result, state, seen } = machine::run_ethereum(spec, context, state, tx.env, stand_ins);
    match result {
        Ok(result) => Ok(RawOutcome { seen, ..outcome(result, state) }),
        Err(error) => Err(failure(error, context, signer, |invalid| Some(invalid.clone())).with(state, seen)),
    }
}

/// Runs a transaction under the OP stack's rules.
pub(crate) fn transact_op(
    spec: OpSpecId,
    context: &Arc<BlockContext>,
    state: &mut Overlay,
    tx: SignedWork,
    terms: &Terms,
    stand_ins: &StandIns,
) -> Result<RawOutcome, Failure> {
    let mut l1 = terms.l1.clone().unwrap_or_default();
    l1.l2_block = Some(U256::from(context.number));
    // What L1 costs is computed here, so that it is known what was paid and the data is weighed once only.
    let l1_data = l1_data_fee(&l1, spec, &tx.raw, tx.millionths);
    l1.tx_l1_cost = Some(l1_data);
    let signer = (tx.env.caller, tx.env.gas_price, tx.env.gas_limit);
    let raw = tx.raw.clone();
    let Ran { result, state, seen } = machine::run_op(spec, context, state, (tx.env, tx.raw, l1.clone()), stand_ins);
    let base = |invalid: &OpTransactionError| match invalid {
        OpTransactionError::Base(invalid) => Some(invalid.clone()),
        _ => None,
    };
    match result {
        Ok(result) => {
            let mut done = RawOutcome { seen, l1_data, ..outcome(result, state) };
            if spec.is_enabled_in(OpSpecId::ISTHMUS) {
                done.operator = l1.operator_fee_charge(&raw, U256::from(done.gas_used), spec);
            }
            Ok(done)
        }
        Err(error) => Err(failure(error, context, signer, base).with(state, seen)),
    }
}

/// Runs anything but a signed transaction under Ethereum's rules.
pub(crate) fn run_ethereum(spec: SpecId, context: &BlockContext, reader: Reader<'_>, work: Work) -> Result<RawOutcome, Failure> {
    let env = EvmEnv::new(work_cfg(context, spec, &work), block_env(context));
    let mut evm = EthEvmFactory::default().create_evm(reader, env);
    *evm.precompiles_mut() = PrecompilesMap::from_static(context.rules.stack().precompiles());
    let signer = work.signer();
    let result = match work {
        Work::Call(tx) => evm.transact_raw(*tx),
        Work::System { contract, data } => {
            return system_outcome(evm.transact_system_call(alloy_eips::eip4788::SYSTEM_ADDRESS, contract, data), contract);
        }
        Work::Deposit(_) => return Err(invalid(Reason::DepositTransaction)),
    };
    let done = result.map_err(|error| failure(error, context, signer, |invalid| Some(invalid.clone())))?;
    Ok(outcome(done.result, done.state))
}

/// Runs anything but a signed transaction under the OP stack's rules.
pub(crate) fn run_op(spec: OpSpecId, context: &BlockContext, reader: Reader<'_>, work: Work) -> Result<RawOutcome, Failure> {
    let env = EvmEnv::new(work_cfg(context, spec, &work), block_env(context));
    let mut evm = OpEvmFactory::<OpTx>::default().create_evm(reader, env);
    *evm.precompiles_mut() = PrecompilesMap::from_static(context.rules.stack().precompiles());
    let signer = work.signer();
    let result = match work {
        // An empty envelope has no L1 data fee.
        Work::Call(tx) => {
            evm.transact_raw(OpTx(OpTransaction { base: *tx, enveloped_tx: Some(Bytes::new()), deposit: Default::default() }))
        }
        Work::Deposit(tx) => evm.transact_raw(*tx),
        Work::System { contract, data } => {
            return system_outcome(evm.transact_system_call(alloy_eips::eip4788::SYSTEM_ADDRESS, contract, data), contract);
        }
    };
    let done = result.map_err(|error| {
        failure(error, context, signer, |invalid| match &invalid.0 {
            OpTransactionError::Base(invalid) => Some(invalid.clone()),
            _ => None,
        })
    })?;
    Ok(outcome(done.result, done.state))
}

/// What the L1Block contract says of L1.
///
/// In the very first block of Ecotone it says nothing of Ecotone's yet, and Bedrock's formula holds; op-geth tells it by the
/// scalars and the blob base fee, which are all zero. op-revm takes that formula too, but not its scalar.
pub(crate) fn l1_info(reader: &mut Reader<'_>, number: u64, spec: OpSpecId) -> Result<L1BlockInfo, StateError> {
    let mut l1 = L1BlockInfo::try_fetch(reader, U256::from(number), spec)?;
    let first_of_ecotone = l1.empty_ecotone_scalars && l1.l1_blob_base_fee.is_some_and(|fee| fee.is_zero());
    if first_of_ecotone && !spec.is_enabled_in(OpSpecId::FJORD) {
        l1.l1_base_fee_scalar = reader.0.storage(L1_BLOCK_CONTRACT, L1_SCALAR_SLOT)?;
    }
    Ok(l1)
}

/// The fee for a transaction's data on L1, which the handler charges where it is set as the transaction's cost.
///
/// From Fjord on it is the estimated compressed size times the price of a byte, in one division (OP-stack specifications,
/// Fjord). op-revm's own function would estimate the size again.
pub(crate) fn l1_data_fee(l1: &L1BlockInfo, spec: OpSpecId, raw: &[u8], millionths: u64) -> U256 {
    if !spec.is_enabled_in(OpSpecId::FJORD) {
        // It answers what it remembers, if it does.
        return L1BlockInfo { tx_l1_cost: None, ..l1.clone() }.calculate_tx_l1_cost(raw, spec);
    }
    let calldata = l1.l1_base_fee.saturating_mul(U256::from(16)).saturating_mul(l1.l1_base_fee_scalar);
    let blobs = l1.l1_blob_base_fee.unwrap_or_default().saturating_mul(l1.l1_blob_base_fee_scalar.unwrap_or_default());
    // Sizes are in millionths, and so are the scalars.
    let scale = U256::from(MILLIONTHS) * U256::from(MILLIONTHS);
    U256::from(millionths).saturating_mul(calldata.saturating_add(blobs)) / scale
}

impl Work {
    fn signer(&self) -> (Address, u128, u64) {
        match self {
            Self::Call(tx) => (tx.caller, tx.gas_price, tx.gas_limit),
            Self::Deposit(tx) => (tx.base.caller, 0, tx.base.gas_limit),
            Self::System { .. } => (Address::ZERO, 0, 0),
        }
    }
}

fn work_cfg<S>(context: &BlockContext, spec: S, work: &Work) -> CfgEnv<S>
where
    S: Into<SpecId> + Copy,
{
    cfg(context, spec, matches!(work, Work::Deposit(_)), matches!(work, Work::Call(_)))
}

/// How an EVM is set up: for deposits, for reads, or for what a block holds as a rule.
pub(crate) fn cfg<S>(context: &BlockContext, spec: S, deposits: bool, reads: bool) -> CfgEnv<S>
where
    S: Into<SpecId> + Copy,
{
    let mut cfg = CfgEnv::new_with_spec(spec).with_chain_id(context.chain);
    // Without a cap of the rules' own, revm would take Osaka's where the EVM is newer than the block rules. Deposits have none:
    // their gas is paid for on L1 (OP-stack specifications, Karst), and revm would withhold what is above it.
    let cap = context.rules.tx_gas_cap().filter(|_| !deposits && !reads);
    cfg.tx_gas_limit_cap = Some(cap.unwrap_or(u64::MAX));
    if let Some(blobs) = context.rules.blobs() {
        cfg.blob_base_fee_update_fraction = u64::try_from(blobs.update_fraction).ok();
        cfg.max_blobs_per_tx = Some(blobs.max_blobs_per_tx);
    }
    if reads {
        cfg.disable_balance_check = true;
        cfg.disable_base_fee = true;
        cfg.disable_block_gas_limit = true;
        cfg.disable_eip3607 = true;
        cfg.disable_nonce_check = true;
        cfg.disable_fee_charge = true;
    }
    cfg
}

pub(crate) fn block_env(context: &BlockContext) -> BlockEnv {
    let blob = context.rules.blobs().map(|blobs| {
        BlobExcessGasAndPrice::new(
            context.excess_blob_gas.unwrap_or_default(),
            u64::try_from(blobs.update_fraction).unwrap_or(u64::MAX),
        )
    });
    BlockEnv {
        number: U256::from(context.number),
        beneficiary: context.beneficiary,
        timestamp: U256::from(context.timestamp),
        gas_limit: context.gas_limit,
        basefee: context.base_fee,
        difficulty: U256::ZERO,
        prevrandao: Some(context.prev_randao),
        blob_excess_gas_and_price: blob,
        ..BlockEnv::default()
    }
}

fn outcome<H: std::fmt::Debug>(result: ExecutionResult<H>, state: EvmState) -> RawOutcome {
    let gas_used = result.tx_gas_used();
    let (status, logs, output, created) = match result {
        ExecutionResult::Success { logs, output: Output::Call(data), .. } => (TxStatus::Succeeded, logs, data, None),
        ExecutionResult::Success { logs, output: Output::Create(data, address), .. } => {
            (TxStatus::Succeeded, logs, data, address)
        }
        ExecutionResult::Revert { output, .. } => (TxStatus::Reverted, Vec::new(), output, None),
        ExecutionResult::Halt { reason, .. } => (TxStatus::Halted(format!("{reason:?}")), Vec::new(), Bytes::new(), None),
    };
    let logs = if logs.is_empty() { Logs::default() } else { logs.into() };
    let (l1_data, operator) = (U256::ZERO, U256::ZERO);
    RawOutcome { status, gas_used, logs, output, created, l1_data, operator, state, seen: Seen::default() }
}

/// A system call changes its contract only: whatever else was touched (the caller, the fee recipient) does not count.
fn system_outcome<H, E>(
    result: Result<ResultAndState<H>, EVMError<StateError, E>>,
    contract: Address,
) -> Result<RawOutcome, Failure>
where
    H: std::fmt::Debug,
    E: std::fmt::Display,
{
    let done = result.map_err(|error| match error {
        EVMError::Database(error) => Failure::State(error),
        EVMError::Transaction(error) => Failure::Broken(error.to_string()),
        EVMError::Custom(error) => Failure::Broken(error),
        EVMError::Header(error) => Failure::Broken(error.to_string()),
        EVMError::CustomAny(error) => Failure::Broken(error.to_string()),
    })?;
    let mut done = outcome(done.result, done.state);
    done.state.retain(|address, _| *address == contract);
    Ok(done)
}

fn failure<E: std::fmt::Display>(
    error: EVMError<StateError, E>,
    context: &BlockContext,
    (signer, cap, gas): (Address, u128, u64),
    base: impl Fn(&E) -> Option<InvalidTransaction>,
) -> Failure {
    let cause = match error {
        EVMError::Database(error) => return Failure::State(error),
        EVMError::Header(error) => return Failure::Broken(error.to_string()),
        EVMError::Custom(error) => return Failure::Broken(error),
        EVMError::CustomAny(error) => return Failure::Broken(error.to_string()),
        EVMError::Transaction(cause) => cause,
    };
    invalid(match base(&cause) {
        Some(InvalidTransaction::NonceTooHigh { tx, state }) => Reason::NonceTooHigh { signer, nonce: tx, account: state },
        Some(InvalidTransaction::NonceTooLow { tx, state }) => Reason::NonceTooLow { signer, nonce: tx, account: state },
        Some(InvalidTransaction::LackOfFundForMaxFee { fee, balance }) => {
            Reason::InsufficientFunds { signer, balance: *balance, cost: *fee }
        }
        Some(InvalidTransaction::GasPriceLessThanBasefee) => Reason::FeeCapTooLow { cap, base_fee: context.base_fee },
        Some(InvalidTransaction::TxGasLimitGreaterThanCap { gas_limit, cap }) => {
            Reason::GasLimitTooHigh { gas: gas_limit, limit: cap }
        }
        Some(InvalidTransaction::CallerGasLimitMoreThanBlock) => Reason::GasLimitTooHigh { gas, limit: context.gas_limit },
        _ => Reason::InvalidTransaction(cause.to_string()),
    })
}

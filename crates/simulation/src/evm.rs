//! The one place that drives revm and op-revm.

use std::{collections::HashMap, sync::Arc};

use alloy_evm::{Evm, EvmEnv, EvmFactory, eth::EthEvmFactory, precompiles::DynPrecompile, precompiles::PrecompilesMap};
use alloy_op_evm::{OpEvmFactory, OpTx};
use alloy_primitives::{Address, B256, Bytes, U256, address};
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
    precompile::{PrecompileId, PrecompileOutput},
    primitives::hardfork::SpecId,
    state::EvmState,
};

use crate::{BlockContext, StateError, TxStatus, overlay::Reader, stack::MILLIONTHS};

const ECRECOVER: Address = address!("0000000000000000000000000000000000000001");
/// What the `ecrecover` precompile costs, whatever it recovers.
const ECRECOVER_GAS: u64 = 3_000;

/// The stand-ins of one transaction.
pub type StandIns = Arc<[StandIn]>;

/// What is being run.
#[derive(Debug)]
pub(crate) enum Work {
    /// A transaction on any kind of rollup, with its EIP-2718 bytes and what they weigh as data.
    Tx { env: Box<TxEnv>, raw: Bytes, millionths: u64 },
    /// An OP-stack deposit.
    Deposit(Box<OpTx>),
    /// A call by the system address: no fee, no nonce.
    System { contract: Address, data: Bytes },
    /// A read: nobody pays, nothing is checked.
    Call(Box<TxEnv>),
}

/// What revm answered, whatever the rollup.
#[derive(Debug)]
pub(crate) struct RawOutcome {
    pub(crate) status: TxStatus,
    pub(crate) gas_used: u64,
    pub(crate) logs: Vec<alloy_primitives::Log>,
    pub(crate) output: Bytes,
    pub(crate) created: Option<Address>,
    /// What was paid for data on L1, in wei.
    pub(crate) l1_data: U256,
    /// What was paid to the operator, in wei.
    pub(crate) operator: U256,
    pub(crate) state: EvmState,
}

/// Why revm gave no outcome.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The state could not be read.
    State(StateError),
    /// The transaction is invalid in this state and block.
    Invalid(Reason),
    /// The EVM itself failed.
    Broken(String),
}

pub(crate) fn run(context: &BlockContext, reader: Reader<'_>, work: Work, stand_ins: &StandIns) -> Result<RawOutcome, Failure> {
    context.rules.stack().run(context, reader, work, stand_ins)
}

/// Runs Ethereum's handler.
pub(crate) fn run_ethereum(
    spec: SpecId,
    context: &BlockContext,
    reader: Reader<'_>,
    work: Work,
    stand_ins: &StandIns,
) -> Result<RawOutcome, Failure> {
    let env = EvmEnv::new(cfg(context, spec, &work), block_env(context));
    let mut evm = EthEvmFactory::default().create_evm(reader, env);
    *evm.precompiles_mut() = precompiles(context, stand_ins);
    let signer = work.signer();
    let result = match work {
        Work::Tx { env: tx, .. } | Work::Call(tx) => evm.transact_raw(*tx),
        Work::System { contract, data } => {
            return system_outcome(evm.transact_system_call(alloy_eips::eip4788::SYSTEM_ADDRESS, contract, data), contract);
        }
        Work::Deposit(_) => return Err(Failure::Invalid(Reason::DepositTransaction)),
    };
    outcome(result.map_err(|error| failure(error, context, signer, |invalid| Some(invalid.clone()))))
}

/// Runs the OP stack's handler.
pub(crate) fn run_op(
    spec: OpSpecId,
    context: &BlockContext,
    mut reader: Reader<'_>,
    work: Work,
    stand_ins: &StandIns,
) -> Result<RawOutcome, Failure> {
    let env = EvmEnv::new(cfg(context, spec, &work), block_env(context));
    // What L1 costs is read and computed here, so that it is known what was paid and the data is weighed once only.
    let l1 = match &work {
        Work::Tx { raw, millionths, .. } => {
            let mut l1 = l1_info(&mut reader, context.number, spec).map_err(Failure::State)?;
            let l1_data = l1_data_fee(&mut l1, spec, raw, *millionths);
            Some((l1, l1_data, raw.clone()))
        }
        Work::Deposit(_) | Work::System { .. } | Work::Call(_) => None,
    };
    let mut evm = OpEvmFactory::<OpTx>::default().create_evm(reader, env);
    *evm.precompiles_mut() = precompiles(context, stand_ins);
    if let Some((l1, ..)) = &l1 {
        evm.ctx_mut().chain = l1.clone();
    }
    let signer = work.signer();
    let result = match work {
        Work::Tx { env: tx, raw, .. } => {
            evm.transact_raw(OpTx(OpTransaction { base: *tx, enveloped_tx: Some(raw), deposit: Default::default() }))
        }
        // An empty envelope has no L1 data fee.
        Work::Call(tx) => {
            evm.transact_raw(OpTx(OpTransaction { base: *tx, enveloped_tx: Some(Bytes::new()), deposit: Default::default() }))
        }
        Work::Deposit(tx) => evm.transact_raw(*tx),
        Work::System { contract, data } => {
            return system_outcome(evm.transact_system_call(alloy_eips::eip4788::SYSTEM_ADDRESS, contract, data), contract);
        }
    };
    let mut done = outcome(result.map_err(|error| {
        failure(error, context, signer, |invalid| match &invalid.0 {
            OpTransactionError::Base(invalid) => Some(invalid.clone()),
            _ => None,
        })
    }))?;
    if let Some((l1, l1_data, raw)) = l1 {
        done.l1_data = l1_data;
        if spec.is_enabled_in(OpSpecId::ISTHMUS) {
            done.operator = l1.operator_fee_charge(&raw, U256::from(done.gas_used), spec);
        }
    }
    Ok(done)
}

/// What the L1Block contract says of L1.
///
/// In the very first block of Ecotone it says nothing of Ecotone's yet, and Bedrock's formula holds; op-geth tells it by the
/// scalars and the blob base fee, which are all zero. op-revm takes that formula too, but not its scalar.
fn l1_info(reader: &mut Reader<'_>, number: u64, spec: OpSpecId) -> Result<L1BlockInfo, StateError> {
    let mut l1 = L1BlockInfo::try_fetch(reader, U256::from(number), spec)?;
    let first_of_ecotone = l1.empty_ecotone_scalars && l1.l1_blob_base_fee.is_some_and(|fee| fee.is_zero());
    if first_of_ecotone && !spec.is_enabled_in(OpSpecId::FJORD) {
        l1.l1_base_fee_scalar = reader.0.storage(L1_BLOCK_CONTRACT, L1_SCALAR_SLOT)?;
    }
    Ok(l1)
}

/// The fee for a transaction's data on L1, which the handler then charges: it takes over what is set as the transaction's cost.
///
/// From Fjord on it is the estimated compressed size times the price of a byte, in one division (OP-stack specifications,
/// Fjord). op-revm's own function would estimate the size again.
fn l1_data_fee(l1: &mut L1BlockInfo, spec: OpSpecId, raw: &[u8], millionths: u64) -> U256 {
    if !spec.is_enabled_in(OpSpecId::FJORD) {
        return l1.calculate_tx_l1_cost(raw, spec);
    }
    let calldata = l1.l1_base_fee.saturating_mul(U256::from(16)).saturating_mul(l1.l1_base_fee_scalar);
    let blobs = l1.l1_blob_base_fee.unwrap_or_default().saturating_mul(l1.l1_blob_base_fee_scalar.unwrap_or_default());
    // Sizes are in millionths, and so are the scalars.
    let scale = U256::from(MILLIONTHS) * U256::from(MILLIONTHS);
    let fee = U256::from(millionths).saturating_mul(calldata.saturating_add(blobs)) / scale;
    l1.tx_l1_cost = Some(fee);
    fee
}

impl Work {
    fn signer(&self) -> (Address, u128, u64) {
        match self {
            Self::Tx { env: tx, .. } | Self::Call(tx) => (tx.caller, tx.gas_price, tx.gas_limit),
            Self::Deposit(tx) => (tx.base.caller, 0, tx.base.gas_limit),
            Self::System { .. } => (Address::ZERO, 0, 0),
        }
    }
}

fn cfg<S>(context: &BlockContext, spec: S, work: &Work) -> CfgEnv<S>
where
    S: Into<SpecId> + Copy,
{
    let mut cfg = CfgEnv::new_with_spec(spec).with_chain_id(context.chain);
    // Without a cap of the rules' own, revm would take Osaka's where the EVM is newer than the block rules. Deposits have none:
    // their gas is paid for on L1 (OP-stack specifications, Karst), and revm would withhold what is above it.
    let cap = context.rules.tx_gas_cap().filter(|_| !matches!(work, Work::Deposit(_)));
    cfg.tx_gas_limit_cap = Some(cap.unwrap_or(u64::MAX));
    if let Some(blobs) = context.rules.blobs() {
        cfg.blob_base_fee_update_fraction = u64::try_from(blobs.update_fraction).ok();
        cfg.max_blobs_per_tx = Some(blobs.max_blobs_per_tx);
    }
    if matches!(work, Work::Call(_)) {
        cfg.disable_balance_check = true;
        cfg.disable_base_fee = true;
        cfg.disable_block_gas_limit = true;
        cfg.disable_eip3607 = true;
        cfg.disable_nonce_check = true;
        cfg.disable_fee_charge = true;
        cfg.tx_gas_limit_cap = Some(u64::MAX);
    }
    cfg
}

fn block_env(context: &BlockContext) -> BlockEnv {
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

/// The precompiled contracts of the rules, with a signature check that takes stand-ins for what they stand for.
fn precompiles(context: &BlockContext, stand_ins: &StandIns) -> PrecompilesMap {
    let mut precompiles = PrecompilesMap::from_static(context.rules.stack().precompiles());
    if !stand_ins.is_empty() {
        override_ecrecover(&mut precompiles, stand_ins);
    }
    precompiles
}

fn override_ecrecover(precompiles: &mut PrecompilesMap, stand_ins: &StandIns) {
    let known: HashMap<(B256, B256, B256), Address> =
        stand_ins.iter().map(|stand_in| ((stand_in.digest, stand_in.r, stand_in.s), stand_in.signer)).collect();
    precompiles.apply_precompile(&ECRECOVER, |original| {
        let original = original?;
        Some(DynPrecompile::new(PrecompileId::EcRec, move |input| {
            let word = |index: usize| input.data.get(index * 32..(index + 1) * 32).map(B256::from_slice);
            if let (Some(digest), Some(r), Some(s)) = (word(0), word(2), word(3))
                && let Some(signer) = known.get(&(digest, r, s))
                && input.gas >= ECRECOVER_GAS
            {
                let bytes = Bytes::copy_from_slice(signer.into_word().as_slice());
                return Ok(PrecompileOutput::new(ECRECOVER_GAS, bytes, input.reservoir));
            }
            alloy_evm::precompiles::Precompile::call(&original, input)
        }))
    });
}

fn outcome<H: std::fmt::Debug>(result: Result<ResultAndState<H>, Failure>) -> Result<RawOutcome, Failure> {
    let ResultAndState { result, state } = result?;
    let gas_used = result.tx_gas_used();
    let (status, logs, output, created) = match result {
        ExecutionResult::Success { logs, output: Output::Call(data), .. } => (TxStatus::Succeeded, logs, data, None),
        ExecutionResult::Success { logs, output: Output::Create(data, address), .. } => {
            (TxStatus::Succeeded, logs, data, address)
        }
        ExecutionResult::Revert { output, .. } => (TxStatus::Reverted, Vec::new(), output, None),
        ExecutionResult::Halt { reason, .. } => (TxStatus::Halted(format!("{reason:?}")), Vec::new(), Bytes::new(), None),
    };
    Ok(RawOutcome { status, gas_used, logs, output, created, l1_data: U256::ZERO, operator: U256::ZERO, state })
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
    let mut done = outcome(result.map_err(|error| match error {
        EVMError::Database(error) => Failure::State(error),
        EVMError::Transaction(error) => Failure::Broken(error.to_string()),
        EVMError::Custom(error) => Failure::Broken(error),
        EVMError::Header(error) => Failure::Broken(error.to_string()),
        EVMError::CustomAny(error) => Failure::Broken(error.to_string()),
    }))?;
    done.state.retain(|address, _| *address == contract);
    Ok(done)
}

fn failure<E: std::fmt::Display>(
    error: EVMError<StateError, E>,
    context: &BlockContext,
    (signer, cap, gas): (Address, u128, u64),
    base: impl Fn(&E) -> Option<InvalidTransaction>,
) -> Failure {
    let invalid = match error {
        EVMError::Database(error) => return Failure::State(error),
        EVMError::Header(error) => return Failure::Broken(error.to_string()),
        EVMError::Custom(error) => return Failure::Broken(error),
        EVMError::CustomAny(error) => return Failure::Broken(error.to_string()),
        EVMError::Transaction(invalid) => invalid,
    };
    Failure::Invalid(match base(&invalid) {
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
        _ => Reason::InvalidTransaction(invalid.to_string()),
    })
}

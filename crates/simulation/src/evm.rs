//! The one place that drives revm and op-revm.

use std::{collections::HashMap, sync::Arc};

use alloy_evm::{Evm, EvmEnv, EvmFactory, eth::EthEvmFactory, precompiles::DynPrecompile, precompiles::PrecompilesMap};
use alloy_op_evm::{OpEvmFactory, OpTx};
use alloy_primitives::{Address, B256, Bytes, U256, address};
use lockstep_primitives::{Reason, StandIn};
use op_revm::{OpTransaction, OpTransactionError};
use revm::{
    context::{BlockEnv, CfgEnv, TxEnv},
    context_interface::{
        block::BlobExcessGasAndPrice,
        result::{EVMError, ExecutionResult, InvalidTransaction, Output, ResultAndState},
    },
    precompile::{PrecompileId, PrecompileOutput},
    state::EvmState,
};

use crate::{BlockContext, Rules, StateError, TxStatus, overlay::Reader};

const ECRECOVER: Address = address!("0000000000000000000000000000000000000001");
/// What the `ecrecover` precompile costs, whatever it recovers.
const ECRECOVER_GAS: u64 = 3_000;

/// The stand-ins of one transaction.
pub type StandIns = Arc<[StandIn]>;

/// What is being run.
#[derive(Debug)]
pub(crate) enum Work {
    /// A transaction on either kind of rollup, with its EIP-2718 bytes.
    Tx(Box<TxEnv>, Bytes),
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
    match context.rules {
        Rules::Ethereum(_) => run_ethereum(context, reader, work, stand_ins),
        Rules::OpStack(_) => run_op(context, reader, work, stand_ins),
    }
}

fn run_ethereum(context: &BlockContext, reader: Reader<'_>, work: Work, stand_ins: &StandIns) -> Result<RawOutcome, Failure> {
    let spec = context.rules.ethereum_spec().unwrap_or_default();
    let env = EvmEnv::new(cfg(context, spec, &work), block_env(context));
    let mut evm = EthEvmFactory::default().create_evm(reader, env);
    override_ecrecover(evm.precompiles_mut(), stand_ins);
    let signer = work.signer();
    let result = match work {
        Work::Tx(tx, _) | Work::Call(tx) => evm.transact_raw(*tx),
        Work::System { contract, data } => {
            return system_outcome(evm.transact_system_call(alloy_eips::eip4788::SYSTEM_ADDRESS, contract, data), contract);
        }
        Work::Deposit(_) => return Err(Failure::Invalid(Reason::DepositTransaction)),
    };
    outcome(result.map_err(|error| failure(error, context, signer, |invalid| Some(invalid.clone()))))
}

fn run_op(context: &BlockContext, reader: Reader<'_>, work: Work, stand_ins: &StandIns) -> Result<RawOutcome, Failure> {
    let env = EvmEnv::new(cfg(context, context.rules.op_spec(), &work), block_env(context));
    let mut evm = OpEvmFactory::<OpTx>::default().create_evm(reader, env);
    override_ecrecover(evm.precompiles_mut(), stand_ins);
    let signer = work.signer();
    let result = match work {
        Work::Tx(tx, raw) => {
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
    outcome(result.map_err(|error| {
        failure(error, context, signer, |invalid| match &invalid.0 {
            OpTransactionError::Base(invalid) => Some(invalid.clone()),
            _ => None,
        })
    }))
}

impl Work {
    fn signer(&self) -> (Address, u128, u64) {
        match self {
            Self::Tx(tx, _) | Self::Call(tx) => (tx.caller, tx.gas_price, tx.gas_limit),
            Self::Deposit(tx) => (tx.base.caller, 0, tx.base.gas_limit),
            Self::System { .. } => (Address::ZERO, 0, 0),
        }
    }
}

fn cfg<S>(context: &BlockContext, spec: S, work: &Work) -> CfgEnv<S>
where
    S: Into<revm::primitives::hardfork::SpecId> + Copy,
{
    let mut cfg = CfgEnv::new_with_spec(spec).with_chain_id(context.chain);
    // Without a cap of the rules' own, revm would take Osaka's where the EVM is newer than the block rules.
    cfg.tx_gas_limit_cap = Some(context.rules.tx_gas_cap().unwrap_or(u64::MAX));
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

fn override_ecrecover(precompiles: &mut PrecompilesMap, stand_ins: &StandIns) {
    if stand_ins.is_empty() {
        return;
    }
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
    Ok(match result {
        ExecutionResult::Success { logs, output, .. } => {
            let (output, created) = match output {
                Output::Call(data) => (data, None),
                Output::Create(data, address) => (data, address),
            };
            RawOutcome { status: TxStatus::Succeeded, gas_used, logs, output, created, state }
        }
        ExecutionResult::Revert { output, .. } => {
            RawOutcome { status: TxStatus::Reverted, gas_used, logs: Vec::new(), output, created: None, state }
        }
        ExecutionResult::Halt { reason, .. } => RawOutcome {
            status: TxStatus::Halted(format!("{reason:?}")),
            gas_used,
            logs: Vec::new(),
            output: Bytes::new(),
            created: None,
            state,
        },
    })
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

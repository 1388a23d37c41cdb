//! Reads by execution: `eth_call`, token balances.

use alloy_primitives::{Address, Bytes, TxKind, U256};
use lockstep_primitives::Reason;
use revm::{
    context::TxEnv,
    context_interface::transaction::{AccessList, AccessListItem},
    state::EvmState,
};

use crate::{
    BlockContext, SimulationError, StateView, TxFees, TxOutcome,
    evm::{Failure, RawOutcome, Work, run},
    overlay::Reader,
};

/// A message call that nobody signs and nobody pays for.
#[derive(Clone, Debug)]
pub struct CallRequest {
    /// The caller.
    pub from: Address,
    /// The callee; `None` creates a contract.
    pub to: Option<Address>,
    /// Calldata or init code.
    pub data: Bytes,
    /// In wei.
    pub value: U256,
    /// Gas limit.
    pub gas: u64,
    /// Warm addresses and slots (EIP-2930).
    pub access_list: Vec<(Address, Vec<alloy_primitives::B256>)>,
}

impl CallRequest {
    /// A read of `to` with `data` by the zero address.
    pub fn read(to: Address, data: Bytes, gas: u64) -> Self {
        Self { from: Address::ZERO, to: Some(to), data, value: U256::ZERO, gas, access_list: Vec::new() }
    }
}

/// Runs a call on a state. Changes nothing.
///
/// # Errors
/// Outer: the state or the EVM is broken. Inner: the call is invalid (its gas limit is below the intrinsic gas).
pub fn call(
    context: &BlockContext,
    state: &dyn StateView,
    request: &CallRequest,
) -> Result<Result<TxOutcome, Reason>, SimulationError> {
    Ok(call_touching(context, state, request)?.map(|(outcome, _)| outcome))
}

/// The same, and what the call touched.
pub(crate) fn call_touching(
    context: &BlockContext,
    state: &dyn StateView,
    request: &CallRequest,
) -> Result<Result<(TxOutcome, EvmState), Reason>, SimulationError> {
    match run(context, Reader(state), request.work(context)) {
        Ok(raw) => {
            let RawOutcome { status, gas_used, logs, output, created, state, .. } = raw;
            Ok(Ok((TxOutcome { status, gas_used, logs, output, created, fees: TxFees::default() }, state)))
        }
        Err(Failure::Invalid { reason, .. }) => Ok(Err(reason)),
        Err(Failure::State(error)) => Err(SimulationError::State(error)),
        Err(Failure::Broken(cause)) => Err(SimulationError::Broken(cause)),
    }
}

impl CallRequest {
    fn work(&self, context: &BlockContext) -> Work {
        let access_list = AccessList(
            self.access_list
                .iter()
                .map(|(address, storage_keys)| AccessListItem { address: *address, storage_keys: storage_keys.clone() })
                .collect(),
        );
        let tx = TxEnv {
            tx_type: u8::from(!self.access_list.is_empty()),
            caller: self.from,
            gas_limit: self.gas,
            kind: self.to.map_or(TxKind::Create, TxKind::Call),
            value: self.value,
            data: self.data.clone(),
            chain_id: Some(context.chain),
            access_list,
            ..TxEnv::default()
        };
        Work::Call(Box::new(tx))
    }
}

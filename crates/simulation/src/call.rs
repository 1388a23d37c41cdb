//! Reads by execution: `eth_call`, token balances.

use alloy_primitives::{Address, Bytes, TxKind, U256};
use lockstep_primitives::Reason;
use revm::{
    context::TxEnv,
    context_interface::transaction::{AccessList, AccessListItem},
};

use crate::{
    BlockContext, SimulationError, StateView, TxFees, TxOutcome,
    evm::{Failure, Work, run},
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
    let access_list = AccessList(
        request
            .access_list
            .iter()
            .map(|(address, storage_keys)| AccessListItem { address: *address, storage_keys: storage_keys.clone() })
            .collect(),
    );
    let tx = TxEnv {
        tx_type: u8::from(!request.access_list.is_empty()),
        caller: request.from,
        gas_limit: request.gas,
        kind: request.to.map_or(TxKind::Create, TxKind::Call),
        value: request.value,
        data: request.data.clone(),
        chain_id: Some(context.chain),
        access_list,
        ..TxEnv::default()
    };
    match run(context, Reader(state), Work::Call(Box::new(tx))) {
        Ok(raw) => Ok(Ok(TxOutcome {
            status: raw.status,
            gas_used: raw.gas_used,
            logs: raw.logs,
            output: raw.output,
            created: raw.created,
            fees: TxFees::default(),
        })),
        Err(Failure::Invalid { reason, .. }) => Ok(Err(reason)),
        Err(Failure::State(error)) => Err(SimulationError::State(error)),
        Err(Failure::Broken(cause)) => Err(SimulationError::Broken(cause)),
    }
}

//! Transactions before their gas is known and anybody signs them.

use std::sync::Arc;

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, keccak256};
use alloy_sol_types::SolCall;
use lockstep_building::BuildError;
use lockstep_primitives::{ChainId, SignedTx};
use lockstep_simulation::{CallRequest, PendingBlock, SimulationError, StateView, call};

/// Gas of a call that only reads.
const READ_GAS: u64 = 2_000_000;
/// What a transaction may take while nobody knows what it takes.
const UNKNOWN_GAS: u64 = 1_000_000;

/// The transactions of one account on one rollup, in order.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    chain: ChainId,
    next: u64,
    fee_cap: u128,
    pub(crate) txs: Vec<TxEip1559>,
}

impl Draft {
    /// From the account's next nonce on.
    pub(crate) fn new(block: &PendingBlock, account: Address) -> Result<Self, BuildError> {
        let context = block.context();
        let state = block.state().account(account).map_err(|error| failed(context.chain, error.into()))?;
        let next = state.map_or(0, |account| account.nonce);
        // The base fee of a slot's later block may be higher.
        let fee_cap = u128::from(context.base_fee).saturating_mul(2);
        Ok(Self { chain: context.chain, next, fee_cap, txs: Vec::new() })
    }

    /// Adds a call.
    pub(crate) fn call<C: SolCall>(&mut self, to: Address, call: &C) {
        self.push(to, U256::ZERO, call.abi_encode().into());
    }

    /// Adds a payment of native asset, in wei.
    pub(crate) fn pay(&mut self, to: Address, value: U256) {
        self.push(to, value, Bytes::new());
    }

    fn push(&mut self, to: Address, value: U256, input: Bytes) {
        self.txs.push(TxEip1559 {
            chain_id: self.chain,
            nonce: self.next,
            gas_limit: UNKNOWN_GAS,
            max_fee_per_gas: self.fee_cap,
            max_priority_fee_per_gas: 0,
            to: TxKind::Call(to),
            value,
            access_list: Default::default(),
            input,
        });
        self.next += 1;
    }
}

/// The transaction with a signature as long as a real one, by nobody.
pub(crate) fn unsigned(tx: &TxEip1559, account: Address) -> Arc<SignedTx> {
    let r = keccak256(account);
    let mut s = keccak256(r);
    s[0] &= 0x3f;
    signed(tx, account, Signature::new(U256::from_be_bytes(r.0), U256::from_be_bytes(s.0), false))
}

/// The transaction with its account's signature.
pub(crate) fn signed(tx: &TxEip1559, account: Address, signature: Signature) -> Arc<SignedTx> {
    Arc::new(SignedTx::from_parts(TxEnvelope::from(tx.clone().into_signed(signature)), account))
}

/// What is signed of a transaction.
pub(crate) fn digest(tx: &TxEip1559) -> B256 {
    tx.signature_hash()
}

/// What a reading call answers; `None` when it reverts or answers something else.
pub(crate) fn read<C: SolCall>(block: &PendingBlock, to: Address, read: &C) -> Result<Option<C::Return>, BuildError> {
    let request = CallRequest::read(to, read.abi_encode().into(), READ_GAS);
    let answer = call(block.context(), block.state(), &request).map_err(|error| failed(block.context().chain, error))?;
    Ok(answer.ok().filter(|outcome| outcome.succeeded()).and_then(|outcome| C::abi_decode_returns(&outcome.output).ok()))
}

fn failed(chain: ChainId, error: SimulationError) -> BuildError {
    BuildError::Lane { chain, cause: error.into() }
}

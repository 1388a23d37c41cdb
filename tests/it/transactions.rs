//! Transactions of the tests' own making, and the legs that they go into.

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_eips::eip2930::AccessList;
use alloy_primitives::{Address, Bytes, ChainId, TxKind, U64, U256};
use alloy_sol_types::SolCall;
use lockstep_node::keys::Key;
use lockstep_primitives::SignedTx;
use lockstep_rpc::wire::{LegParams, RelayParams};

/// What is paid to whoever makes the block, in wei per gas.
const TIP: u128 = 3_000_000_000;
/// Far above any base fee here, in wei per gas.
const FEE_CAP: u128 = 100_000_000_000;

/// A transaction before it is signed.
#[derive(Clone, Debug)]
pub(crate) struct Tx {
    pub(crate) chain: ChainId,
    pub(crate) nonce: u64,
    /// None creates a contract.
    pub(crate) to: Option<Address>,
    pub(crate) value: U256,
    pub(crate) data: Bytes,
    pub(crate) gas: u64,
    /// What it declares (EIP-2930).
    pub(crate) access_list: AccessList,
}

impl Tx {
    /// A payment of native asset.
    pub(crate) fn pay(chain: ChainId, nonce: u64, to: Address, value: U256) -> Self {
        Self { chain, nonce, to: Some(to), value, data: Bytes::new(), gas: 21_000, access_list: AccessList::default() }
    }

    /// A call of a contract.
    pub(crate) fn call(chain: ChainId, nonce: u64, to: Address, data: Bytes) -> Self {
        Self { chain, nonce, to: Some(to), value: U256::ZERO, data, gas: 400_000, access_list: AccessList::default() }
    }

    pub(crate) fn sign(self, key: &Key) -> SignedTx {
        let tx = TxEip1559 {
            chain_id: self.chain,
            nonce: self.nonce,
            gas_limit: self.gas,
            max_fee_per_gas: FEE_CAP,
            max_priority_fee_per_gas: TIP,
            to: self.to.map_or(TxKind::Create, TxKind::Call),
            value: self.value,
            access_list: self.access_list,
            input: self.data,
        };
        let signature = key.sign(tx.signature_hash());
        SignedTx::from_parts(TxEnvelope::from(tx.into_signed(signature)), key.address())
    }
}

/// The input of a call.
pub(crate) fn input<C: SolCall>(call: &C) -> Bytes {
    call.abi_encode().into()
}

/// A leg of signed transactions.
pub(crate) fn txs_leg(chain: ChainId, txs: &[&SignedTx]) -> LegParams {
    LegParams { chain_id: U64::from(chain), txs: Some(txs.iter().map(|tx| tx.raw().clone()).collect()), ..LegParams::default() }
}

/// A leg that delivers a message of an earlier one.
pub(crate) fn relay_leg(chain: ChainId, leg: usize, message: usize) -> LegParams {
    LegParams {
        chain_id: U64::from(chain),
        relay: Some(RelayParams { leg: Some(leg), message, ..RelayParams::default() }),
        ..LegParams::default()
    }
}

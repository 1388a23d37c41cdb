//! What a block is made of, and what each transaction did.

use std::sync::Arc;

use alloy_consensus::{Transaction, TxEip7702, TxEnvelope};
use alloy_eips::eip2718::{Decodable2718, Encodable2718};
use alloy_evm::{FromRecoveredTx, FromTxWithEncoded};
use alloy_op_evm::OpTx;
use alloy_primitives::{Address, B256, Bytes, ChainId, U256, keccak256};
use alloy_rlp::length_of_length;
use lockstep_primitives::{SignedTx, TxDecodeError, TxId};
use op_alloy::consensus::TxDeposit;
use revm::{context::TxEnv, context_interface::either::Either};

use crate::{
    Logs,
    evm::{SignedWork, Work},
    stack::op::DEPOSIT_TYPE,
};

/// An OP-stack deposit (type 0x7e), which only a rollup's forced prefix holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deposit {
    tx: TxDeposit,
    raw: Bytes,
    hash: B256,
}

impl Deposit {
    /// Wraps a deposit that was made here.
    pub fn new(tx: TxDeposit) -> Self {
        let raw = Bytes::from(tx.encoded_2718());
        Self { tx, hash: keccak256(&raw), raw }
    }

    /// The deposit's fields.
    pub const fn tx(&self) -> &TxDeposit {
        &self.tx
    }
}

/// A transaction of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockTx {
    /// Signed by a user or by the builder.
    Signed(Arc<SignedTx>),
    /// Forced by the rollup's derivation.
    Deposit(Arc<Deposit>),
}

impl BlockTx {
    /// Decodes the bytes of a block's transaction: deposits and blob transactions included.
    ///
    /// # Errors
    /// As [`SignedTx::decode_any`].
    pub fn decode(raw: Bytes) -> Result<Self, TxDecodeError> {
        if raw.first() == Some(&DEPOSIT_TYPE) {
            let mut rest = raw.as_ref();
            let tx = TxDeposit::decode_2718(&mut rest).map_err(|error| TxDecodeError::Undecodable(error.to_string()))?;
            if !rest.is_empty() {
                return Err(TxDecodeError::Undecodable(format!("{} bytes follow the transaction", rest.len())));
            }
            return Ok(Self::Deposit(Arc::new(Deposit { tx, hash: keccak256(&raw), raw })));
        }
        SignedTx::decode_any(raw).map(|tx| Self::Signed(Arc::new(tx)))
    }

    /// The EIP-2718 bytes.
    pub fn raw(&self) -> &Bytes {
        match self {
            Self::Signed(tx) => tx.raw(),
            Self::Deposit(deposit) => &deposit.raw,
        }
    }

    /// Keccak-256 of the bytes.
    pub fn hash(&self) -> B256 {
        match self {
            Self::Signed(tx) => tx.hash(),
            Self::Deposit(deposit) => deposit.hash,
        }
    }

    /// What it is called whether it is signed already or not.
    pub fn id(&self) -> TxId {
        match self {
            Self::Signed(tx) => TxId::Signed { signer: tx.signer(), nonce: tx.nonce() },
            Self::Deposit(deposit) => TxId::Deposit(deposit.hash),
        }
    }

    /// Who sends it.
    pub fn sender(&self) -> Address {
        match self {
            Self::Signed(tx) => tx.signer(),
            Self::Deposit(deposit) => deposit.tx.from,
        }
    }

    /// The gas limit.
    pub fn gas_limit(&self) -> u64 {
        match self {
            Self::Signed(tx) => tx.gas_limit(),
            Self::Deposit(deposit) => deposit.tx.gas_limit,
        }
    }

    /// The EIP-2718 type byte; 0 for legacy.
    pub fn tx_type(&self) -> u8 {
        match self {
            Self::Signed(tx) => tx.envelope().tx_type() as u8,
            Self::Deposit(_) => DEPOSIT_TYPE,
        }
    }

    /// Whether it is a deposit.
    pub const fn is_deposit(&self) -> bool {
        matches!(self, Self::Deposit(_))
    }

    /// Blob gas that it uses.
    pub fn blob_gas(&self) -> u64 {
        match self {
            Self::Signed(tx) => tx.envelope().blob_gas_used().unwrap_or_default(),
            Self::Deposit(_) => 0,
        }
    }

    /// The accounts whose nonces its authorizations use up on `chain` (EIP-7702), see [`SignedTx::authorities`].
    pub fn authorities(&self, chain: ChainId) -> impl Iterator<Item = (Address, u64)> {
        let signed = match self {
            Self::Signed(tx) => Some(tx),
            Self::Deposit(_) => None,
        };
        signed.into_iter().flat_map(move |tx| tx.authorities(chain))
    }

    /// How many bytes of an encoded block it takes: a typed transaction is wrapped as a string, a legacy one is a list itself.
    pub(crate) fn encoded_length(&self) -> u64 {
        let raw = self.raw().len();
        let wrapped = if self.tx_type() == 0 { raw } else { raw + length_of_length(raw) };
        u64::try_from(wrapped).unwrap_or(u64::MAX)
    }

    /// The priority fee per gas that it pays at a base fee, in wei.
    pub(crate) fn priority_fee_per_gas(&self, base_fee: u64) -> u128 {
        match self {
            Self::Signed(tx) => tx.envelope().effective_tip_per_gas(base_fee).unwrap_or_default(),
            Self::Deposit(_) => 0,
        }
    }
}

impl Deposit {
    /// What is to be run.
    pub(crate) fn work(&self) -> Work {
        Work::Deposit(Box::new(OpTx::from_encoded_tx(&self.tx, self.tx.from, self.raw.clone())))
    }
}

/// What is to be run of a signed transaction; `millionths` is what its data weighs.
pub(crate) fn signed_work(tx: &SignedTx, millionths: u64) -> SignedWork {
    SignedWork { env: tx_env(tx), raw: tx.raw().clone(), millionths }
}

fn tx_env(tx: &SignedTx) -> TxEnv {
    let signer = tx.signer();
    match tx.envelope() {
        TxEnvelope::Legacy(tx) => TxEnv::from_recovered_tx(tx.tx(), signer),
        TxEnvelope::Eip2930(tx) => TxEnv::from_recovered_tx(tx.tx(), signer),
        TxEnvelope::Eip1559(tx) => TxEnv::from_recovered_tx(tx.tx(), signer),
        TxEnvelope::Eip4844(tx) => TxEnv::from_recovered_tx(tx.tx().tx(), signer),
        TxEnvelope::Eip7702(set_code) => {
            // The conversion would recover every authority once more.
            let without = TxEip7702 { authorization_list: Vec::new(), ..set_code.tx().clone() };
            let authorization_list = tx.authorizations().iter().cloned().map(Either::Right).collect();
            TxEnv { authorization_list, ..TxEnv::from_recovered_tx(&without, signer) }
        }
    }
}

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxStatus {
    /// It succeeded.
    Succeeded,
    /// It reverted; the output is the revert data.
    Reverted,
    /// It halted: out of gas, invalid opcode and the like.
    Halted(String),
}

/// What a transaction paid, in wei, beside what it transferred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxFees {
    /// To the block's beneficiary.
    pub priority: U256,
    /// Burned, or into the OP-stack's base fee vault.
    pub base: U256,
    /// For its data on L1, into the OP-stack's L1 fee vault.
    pub l1_data: U256,
    /// Into the OP-stack's operator fee vault (Isthmus).
    pub operator: U256,
}

/// What a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxOutcome {
    /// How it ended.
    pub status: TxStatus,
    /// Gas used, after refunds.
    pub gas_used: u64,
    /// Logs, in order.
    pub logs: Logs,
    /// Return or revert data.
    pub output: Bytes,
    /// The contract that it created.
    pub created: Option<Address>,
    /// What it paid.
    pub fees: TxFees,
}

impl TxOutcome {
    /// Whether it succeeded.
    pub fn succeeded(&self) -> bool {
        self.status == TxStatus::Succeeded
    }
}

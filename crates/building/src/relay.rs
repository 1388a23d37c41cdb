//! Relays: transactions that the builder writes to deliver messages.

use std::sync::Arc;

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_primitives::{Address, B256, Signature, TxKind, U256, keccak256};
use lockstep_messaging::{EvidenceRequest, Message, RelayCall};
use lockstep_primitives::{ChainId, Reason, SignedTx};
use lockstep_simulation::{BlockContext, StandIns};

use crate::Policy;

/// A relay transaction that is not signed yet.
#[derive(Clone, Debug)]
pub struct RelayDraft {
    /// The leg's index in its bundle.
    pub leg: usize,
    /// The rollup that it delivers to.
    pub chain: ChainId,
    /// What evidence it needs.
    pub request: EvidenceRequest,
    /// Which of the delivering calls it is.
    pub call: usize,
    /// Index of its block in the slot.
    pub block: usize,
    /// Position in the block, forced prefix included.
    pub position: usize,
    /// The transaction, with stand-in evidence in its calldata.
    pub tx: TxEip1559,
}

/// A relay ready to be simulated.
pub(crate) struct Prepared {
    pub(crate) request: EvidenceRequest,
    pub(crate) calls: Vec<RelayCall>,
    pub(crate) stand_ins: StandIns,
}

/// Checks that `message` may be delivered on `chain` by `builder`, and writes the calls with stand-in evidence.
pub(crate) fn prepare(policy: &Policy, message: &Message, chain: ChainId, builder: Address) -> Result<Prepared, Reason> {
    if message.destination != Some(chain) {
        return Err(Reason::WrongDestination { destination: message.destination_name.clone() });
    }
    if let Some(caller) = message.restricted_to.filter(|caller| *caller != builder) {
        return Err(Reason::RestrictedCaller { caller, builder });
    }
    let protocol = policy.protocols.of(message)?;
    let request = protocol.evidence_request(message)?;
    let (evidence, stand_ins) = protocol.stand_in(&request);
    let calls = protocol.deliver(message, &evidence)?;
    Ok(Prepared { request, calls, stand_ins: stand_ins.into() })
}

/// The transaction of a delivering call. It pays the block's base fee and, but for rollups that order by it, no priority fee:
/// whoever signs it proposes the block. The cap leaves headroom, because the base fee of a slot's later block moves with the
/// weight of the evidence in the block before it.
pub(crate) fn transaction(context: &BlockContext, call: &RelayCall, nonce: u64, gas_limit: u64, tip: u128) -> TxEip1559 {
    TxEip1559 {
        chain_id: context.chain,
        nonce,
        gas_limit,
        max_fee_per_gas: u128::from(context.base_fee).saturating_mul(2).saturating_add(tip),
        max_priority_fee_per_gas: tip,
        to: TxKind::Call(call.to),
        value: U256::ZERO,
        access_list: Default::default(),
        input: call.data.clone(),
    }
}

/// The transaction with a placeholder signature: as long as a real one, so that data fees are nearly those of the sealed one.
pub(crate) fn placeholder(tx: TxEip1559, builder: Address) -> Arc<SignedTx> {
    let r = keccak256(builder);
    let mut s = keccak256(r);
    s[0] &= 0x3f;
    let signature = Signature::new(U256::from_be_bytes(r.0), U256::from_be_bytes(s.0), false);
    Arc::new(SignedTx::from_parts(TxEnvelope::from(tx.into_signed(signature)), builder))
}

/// The transaction with the builder's signature.
pub(crate) fn sign(tx: TxEip1559, builder: Address, signer: &dyn Fn(B256) -> Signature) -> Arc<SignedTx> {
    let signature = signer(tx.signature_hash());
    Arc::new(SignedTx::from_parts(TxEnvelope::from(tx.into_signed(signature)), builder))
}

//! Relays: transactions that the builder writes to deliver messages.

use std::sync::Arc;

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_primitives::{Address, B256, Signature, TxKind, U256, keccak256};
use lockstep_messaging::{Demand, Destination, Evidence, EvidenceRequest, Message, RelayCall, Slot};
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
    /// The message.
    pub message: Message,
    /// What attestation it needs; `None` when the evidence is in its calldata already.
    pub request: Option<EvidenceRequest>,
    /// Which of the delivering calls it is.
    pub call: usize,
    /// Index of its block in the slot.
    pub block: usize,
    /// Position in the block, forced prefix included.
    pub position: usize,
    /// The transaction, with stand-in evidence in its calldata where the evidence is not there yet.
    pub tx: TxEip1559,
}

/// A relay ready to be simulated.
pub(crate) struct Prepared {
    pub(crate) request: Option<EvidenceRequest>,
    pub(crate) calls: Vec<RelayCall>,
    pub(crate) stand_ins: StandIns,
}

/// Where a relay delivers to: the block that is open.
pub(crate) const fn destination(context: &BlockContext, builder: Address) -> Destination {
    let (chain, number, timestamp) = (context.chain, context.number, context.timestamp);
    Destination { chain, number, timestamp, beneficiary: context.beneficiary, builder }
}

/// Checks that a message may be delivered there, and writes the calls. `evidence` is there for messages that landed before; for
/// one of this slot it is derived from the open blocks, or stood in for.
pub(crate) fn prepare(
    policy: &Policy,
    message: &Message,
    evidence: Option<&Evidence>,
    to: &Destination,
    slot: &Slot<'_>,
) -> Result<Prepared, Reason> {
    if message.destination != Some(to.chain) {
        return Err(Reason::WrongDestination { destination: message.destination_name.clone() });
    }
    if let Some(caller) = message.restricted_to.filter(|caller| *caller != to.builder) {
        return Err(Reason::RestrictedCaller { caller, builder: to.builder });
    }
    let protocol = policy.protocols.of(message)?;
    let (request, evidence, stand_ins) = match evidence {
        Some(evidence) => (None, evidence.clone(), Vec::new()),
        None => match protocol.demand(message, to, slot)? {
            Demand::Derived(evidence) => (None, evidence, Vec::new()),
            Demand::Attestation(request) => {
                // Without them the list could not be sealed, and nobody would get anything in the slot.
                if let Some(absent) = request.signers.iter().find(|signer| !policy.attesters.contains(*signer)) {
                    let text =
                        format!("attester {absent} signs in later slots only: send the message first, deliver it once it landed");
                    return Err(Reason::NoEvidence(text));
                }
                let (evidence, stand_ins) = protocol.stand_in(&request);
                (Some(*request), evidence, stand_ins)
            }
        },
    };
    let calls = protocol.deliver(message, &evidence, to)?;
    Ok(Prepared { request, calls, stand_ins: stand_ins.into() })
}

/// The gas limit of a relay transaction: what its protocol asks for beyond what its bytes cost, but never below the floor of
/// EIP-7623, under which it would be invalid.
pub fn relay_gas_limit(policy: &Policy, call: &RelayCall) -> u64 {
    const BASE: u64 = 21_000;
    let zeros = call.data.iter().filter(|byte| **byte == 0).count() as u64;
    let tokens = zeros + 4 * (call.data.len() as u64 - zeros);
    let keys: usize = call.access_list.iter().map(|item| item.storage_keys.len()).sum();
    let declared = 2_400 * call.access_list.len() as u64 + 1_900 * keys as u64;
    let wanted = if call.gas == 0 { policy.relay_gas_limit } else { BASE + 4 * tokens + declared + call.gas };
    wanted.max(BASE + 10 * tokens + declared)
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
        access_list: call.access_list.clone(),
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

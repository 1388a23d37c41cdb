//! CCTP v2: burns that mint before they are final, for a fee, and that carry hooks.
//!
//! The origin's `MessageTransmitterV2` emits a template as `MessageSent(bytes)`; attesters fill in nonce, executed finality, fee
//! and expiration, and sign the raw keccak-256 of the result, which `receiveMessage(bytes,bytes)` takes on the destination
//! (evm-cctp-contracts, `src/v2`). So the emitted message is never the delivered one, and its nonce does not exist on the origin:
//! a message is named by the transaction that sends it, and what the attesters will fill in is predicted.
//!
//! The contracts run no hooks. A wrapper contract that the message names as its destination caller does: where one is
//! configured, the message is delivered through it, and the hook runs in the same transaction.

mod abi;
mod layout;

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, Log, U256, keccak256};
use alloy_sol_types::{SolCall, SolEvent};
use lockstep_primitives::{ChainId, Reason};

pub use layout::{BurnMessageV2, FilledV2, fill, filled};

use self::{
    abi::{MessageReceived, relayCall},
    layout::{Header, VERSION},
};
use crate::{Demand, Destination, Emitted, Evidence, EvidenceKind, Message, Protocol, RelayCall, Slot, attestation, cctp};

const NAME: &str = "cctp-v2";
/// A message that is content with this finality is attested before it is final, for a fee ("fast").
const CONFIRMED: u32 = 1_000;
/// All other messages are attested once they are final, for none.
const FINALIZED: u32 = 2_000;
/// Basis points of a whole.
const WHOLE_BPS: u64 = 10_000;

/// The contracts of CCTP v2 on one rollup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CctpV2Deployment {
    /// Circle's domain number; never the chain id.
    pub domain: u32,
    /// The `MessageTransmitterV2`.
    pub message_transmitter: Address,
    /// The attesters that are asked to sign for this destination. All are enabled on the transmitter.
    pub attesters: Vec<Address>,
    /// How many of them have to sign: the transmitter's `signatureThreshold`.
    pub threshold: usize,
    /// The contract that delivers messages which name it as their destination caller, and runs their hooks:
    /// `relay(bytes,bytes)`.
    pub hook_wrapper: Option<Address>,
    /// What attesters take for a fast burn to this destination, in basis points of its amount.
    pub fast_fee_bps: u64,
    /// For how many blocks of this destination a fast attestation holds; zero for ever.
    pub expires_after: u64,
}

/// CCTP v2 over the rollups where it is deployed.
#[derive(Clone, Debug)]
pub struct CctpV2 {
    deployments: BTreeMap<ChainId, CctpV2Deployment>,
}

impl CctpV2 {
    /// The protocol over a set of deployments. Their domains have to differ, as Circle's do: where two share one, messages to it
    /// are taken to go to the rollup with the lower chain id.
    pub const fn new(deployments: BTreeMap<ChainId, CctpV2Deployment>) -> Self {
        Self { deployments }
    }

    fn of_domain(&self, domain: u32) -> Option<(ChainId, &CctpV2Deployment)> {
        self.deployments.iter().find(|(_, deployment)| deployment.domain == domain).map(|(chain, found)| (*chain, found))
    }

    fn destination(&self, message: &Message, to: &Destination) -> Result<&CctpV2Deployment, Reason> {
        self.deployments
            .get(&to.chain)
            .filter(|_| message.destination == Some(to.chain))
            .ok_or_else(|| Reason::WrongDestination { destination: message.destination_name.clone() })
    }

    fn parse(&self, chain: ChainId, own_domain: u32, payload: Bytes, emitted: &Emitted<'_>) -> Result<Message, Reason> {
        let header = Header::of_template(&payload)?;
        if header.source != own_domain {
            let source = header.source;
            return Err(Reason::MalformedMessage(format!("source domain {source} is not the emitter's {own_domain}")));
        }
        let destination = self.of_domain(header.destination);
        let restricted_to = match (destination, cctp::only_caller(header.caller)) {
            // Where it goes, a caller may be something else than an EVM address.
            (None, caller) => caller.unwrap_or_default(),
            // Anyone may have the wrapper deliver.
            (Some((_, to)), caller) => caller?.filter(|caller| to.hook_wrapper != Some(*caller)),
        };
        Ok(Message {
            protocol: NAME,
            id: id(header.source, emitted),
            origin: chain,
            destination: destination.map(|(chain, _)| chain),
            destination_name: format!("CCTP domain {}", header.destination),
            restricted_to,
            payload,
            place: emitted.place,
        })
    }
}

/// No field of a template is unique, but its place in a transaction is.
fn id(source: u32, emitted: &Emitted<'_>) -> B256 {
    let in_tx = emitted.in_tx as u64;
    keccak256([NAME.as_bytes(), &source.to_be_bytes(), emitted.tx.digest().as_slice(), &in_tx.to_be_bytes()].concat())
}

/// The nonce that attesters are expected to give. The same for whatever a transaction's replacement sends in its place, so that
/// of both only one can ever be delivered.
fn nonce(id: B256) -> B256 {
    keccak256([b"nonce".as_slice(), id.as_slice()].concat())
}

/// What a fast burn pays, rounded up. With less than that Circle's attesters wait until the burn is final.
fn fast_fee(burn: &BurnMessageV2<'_>, bps: u64) -> Result<U256, Reason> {
    let whole = U256::from(WHOLE_BPS);
    let (wholes, rest) = burn.amount.div_rem(whole);
    let per_whole = U256::from(bps);
    // The rest is below 10 000, so only the first product can be too big for its type, and then it is far too much.
    let fee = wholes.saturating_mul(per_whole).saturating_add((rest * per_whole).div_ceil(whole));
    if fee > burn.max_fee {
        let most = burn.max_fee;
        return Err(Reason::NoEvidence(format!("a fast attestation takes a fee of {fee}, the message allows at most {most}")));
    }
    Ok(fee)
}

/// What `TokenMessengerV2` checks of what attesters filled in, before it mints in block `to`.
fn check_burn(burn: &BurnMessageV2<'_>, filled: &FilledV2, to: &Destination) -> Result<(), Reason> {
    let (fee, most, expiration) = (filled.fee_executed, burn.max_fee, filled.expiration_block);
    // "Fee equals or exceeds amount", "Fee exceeds max fee".
    if fee > most || (!fee.is_zero() && fee >= burn.amount) {
        let amount = burn.amount;
        return Err(Reason::NoEvidence(format!("the attested fee is {fee}, the message allows {most} of {amount} at most")));
    }
    if !expiration.is_zero() && expiration <= U256::from(to.number) {
        let text = format!("the attestation expired at block {expiration} and must be re-signed, this is block {}", to.number);
        return Err(Reason::EvidencePending(text));
    }
    Ok(())
}

impl Protocol for CctpV2 {
    fn name(&self) -> &'static str {
        NAME
    }

    fn evidence_kind(&self) -> EvidenceKind {
        EvidenceKind::Attested
    }

    fn is_placeless(&self) -> bool {
        true
    }

    fn recognise(&self, chain: ChainId, emitted: &Emitted<'_>) -> Option<Result<Message, Reason>> {
        let deployment = self.deployments.get(&chain)?;
        let payload = cctp::sent(deployment.message_transmitter, VERSION, emitted.log)?;
        Some(payload.and_then(|payload| self.parse(chain, deployment.domain, payload, emitted)))
    }

    fn demand(&self, message: &Message, to: &Destination, _: &Slot<'_>) -> Result<Demand, Reason> {
        let deployment = self.destination(message, to)?;
        let template = &message.payload;
        let fast = Header::of_template(template)?.least_finality <= CONFIRMED;
        let executed = if fast { CONFIRMED } else { FINALIZED };
        let (fee, expiration) = match BurnMessageV2::of_template(template).filter(|_| fast) {
            Some(burn) => {
                let expiration = match deployment.expires_after {
                    0 => U256::ZERO,
                    blocks => U256::from(to.number) + U256::from(blocks),
                };
                (fast_fee(&burn, deployment.fast_fee_bps)?, expiration)
            }
            None => (U256::ZERO, U256::ZERO),
        };
        let payload = fill(template, nonce(message.id), executed, fee, expiration)?;
        let request = attestation::request(message, payload, &deployment.attesters, deployment.threshold)?;
        Ok(Demand::Attestation(Box::new(request)))
    }

    fn deliver(&self, message: &Message, evidence: &Evidence, to: &Destination) -> Result<Vec<RelayCall>, Reason> {
        let deployment = self.destination(message, to)?;
        let template = &message.payload;
        let header = Header::of_template(template)?;
        let (payload, signatures) = cctp::attested(NAME, evidence, deployment.threshold)?;
        let filled = filled(template, payload)?;
        // Zero is the nonce of all templates, and taken from the start.
        if filled.nonce.is_zero() {
            return Err(Reason::NoEvidence("the attested message has no nonce".to_owned()));
        }
        if let Some(burn) = BurnMessageV2::of_template(template) {
            check_burn(&burn, &filled, to)?;
        }
        let call = cctp::receive(deployment.message_transmitter, payload, signatures);
        let wrapper = deployment.hook_wrapper.filter(|wrapper| !header.caller.is_zero() && wrapper.into_word() == header.caller);
        Ok(vec![match wrapper {
            Some(wrapper) => {
                let data = relayCall { message: payload.clone(), attestation: signatures.concat().into() }.abi_encode();
                RelayCall { to: wrapper, data: data.into(), ..call }
            }
            None => call,
        }])
    }

    fn receipt(&self, _: &Message, evidence: Option<&Evidence>) -> Option<B256> {
        match evidence? {
            Evidence::Attestation { payload, .. } => cctp::word_at(payload, layout::NONCE).map(receipt),
            Evidence::Place | Evidence::Exit(_) => None,
        }
    }

    fn delivered(&self, chain: ChainId, log: &Log) -> Option<B256> {
        let deployment = self.deployments.get(&chain)?;
        if log.address != deployment.message_transmitter {
            return None;
        }
        let event = MessageReceived::decode_log_data(&log.data).ok()?;
        Some(receipt(event.nonce))
    }
}

/// The destination knows a message by its nonce alone.
fn receipt(nonce: B256) -> B256 {
    keccak256([b"cctp-v2-nonce".as_slice(), nonce.as_slice()].concat())
}

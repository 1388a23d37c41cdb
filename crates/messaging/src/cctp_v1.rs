//! CCTP v1: Circle's burn-and-mint of USDC.
//!
//! The message is emitted as `MessageSent(bytes)` by the origin's `MessageTransmitter` and delivered unchanged by
//! `receiveMessage(bytes,bytes)` on the destination's, with signatures of `threshold` attesters over the raw keccak-256 of
//! the message, in the strictly rising order of the attesters' addresses (evm-cctp-contracts, `MessageTransmitter.sol`,
//! `Attestable.sol`, `Message.sol`).
//!
//! Burns are not the only messages: `sendMessage` takes any body and any recipient. The transmitter does not look into the body,
//! and neither does this module. A message can be replaced: the transmitter then emits another one with the same nonce. Both
//! have one id here, because the destination accepts one of them only.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, Log, keccak256};
use alloy_sol_types::{SolEvent, sol};
use lockstep_primitives::{ChainId, Reason};

use crate::{
    Demand, Destination, Emitted, Evidence, EvidenceKind, LogPlace, Message, Protocol, RelayCall, Slot, attestation, cctp,
};

sol! {
    event MessageReceived(address indexed caller, uint32 sourceDomain, uint64 indexed nonce, bytes32 sender, bytes messageBody);
}

const NAME: &str = "cctp-v1";
const VERSION: u32 = 0;

/// The contracts of CCTP v1 on one rollup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CctpV1Deployment {
    /// Circle's domain number; never the chain id.
    pub domain: u32,
    /// The `MessageTransmitter`.
    pub message_transmitter: Address,
    /// The attesters that are asked to sign for this destination. All are enabled on the transmitter.
    pub attesters: Vec<Address>,
    /// How many of them have to sign: the transmitter's `signatureThreshold`.
    pub threshold: usize,
}

/// CCTP v1 over the rollups where it is deployed.
#[derive(Clone, Debug)]
pub struct CctpV1 {
    deployments: BTreeMap<ChainId, CctpV1Deployment>,
}

impl CctpV1 {
    /// The protocol over a set of deployments. Their domains have to differ, as Circle's do: where two share one, messages to it
    /// are taken to go to the rollup with the lower chain id.
    pub const fn new(deployments: BTreeMap<ChainId, CctpV1Deployment>) -> Self {
        Self { deployments }
    }

    fn chain_of(&self, domain: u32) -> Option<ChainId> {
        self.deployments.iter().find(|(_, deployment)| deployment.domain == domain).map(|(chain, _)| *chain)
    }

    fn destination(&self, message: &Message, to: &Destination) -> Result<&CctpV1Deployment, Reason> {
        self.deployments
            .get(&to.chain)
            .filter(|_| message.destination == Some(to.chain))
            .ok_or_else(|| Reason::WrongDestination { destination: message.destination_name.clone() })
    }

    fn parse(&self, chain: ChainId, own_domain: u32, payload: Bytes, place: LogPlace) -> Result<Message, Reason> {
        let header = Header::read(&payload)
            .ok_or_else(|| Reason::MalformedMessage(format!("{} bytes are less than a header", payload.len())))?;
        if header.source != own_domain {
            let source = header.source;
            return Err(Reason::MalformedMessage(format!("source domain {source} is not the emitter's {own_domain}")));
        }
        let destination = self.chain_of(header.destination);
        let restricted_to = match cctp::only_caller(header.caller) {
            // Where it goes, a caller may be something else than an EVM address.
            Err(_) if destination.is_none() => None,
            caller => caller?,
        };
        Ok(Message {
            protocol: NAME,
            id: id(header.source, header.nonce),
            origin: chain,
            destination,
            destination_name: format!("CCTP domain {}", header.destination),
            restricted_to,
            payload,
            place,
        })
    }
}

/// What leads a message: version u32 || source u32 || destination u32 || nonce u64 || sender || recipient || destinationCaller.
struct Header {
    source: u32,
    destination: u32,
    nonce: u64,
    caller: B256,
}

impl Header {
    fn read(message: &[u8]) -> Option<Self> {
        Some(Self {
            source: cctp::u32_at(message, 4)?,
            destination: cctp::u32_at(message, 8)?,
            nonce: cctp::bytes_at(message, 12).map(u64::from_be_bytes)?,
            // The last field: a message in which it is whole has a whole header.
            caller: cctp::word_at(message, 84)?,
        })
    }
}

/// The nonce counts over all destinations of a source, so (source, nonce) names the message.
fn id(source: u32, nonce: u64) -> B256 {
    keccak256([NAME.as_bytes(), &source.to_be_bytes(), &nonce.to_be_bytes()].concat())
}

impl Protocol for CctpV1 {
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
        Some(payload.and_then(|payload| self.parse(chain, deployment.domain, payload, emitted.place)))
    }

    fn demand(&self, message: &Message, to: &Destination, _: &Slot<'_>) -> Result<Demand, Reason> {
        let deployment = self.destination(message, to)?;
        let request = attestation::request(message, message.payload.clone(), &deployment.attesters, deployment.threshold)?;
        Ok(Demand::Attestation(Box::new(request)))
    }

    fn deliver(&self, message: &Message, evidence: &Evidence, to: &Destination) -> Result<Vec<RelayCall>, Reason> {
        let deployment = self.destination(message, to)?;
        let (payload, signatures) = cctp::attested(NAME, evidence, deployment.threshold)?;
        if *payload != message.payload {
            return Err(Reason::NoEvidence("the attested message is not the one that was sent".to_owned()));
        }
        Ok(vec![cctp::receive(deployment.message_transmitter, payload, signatures)])
    }

    fn receipt(&self, message: &Message, _: Option<&Evidence>) -> Option<B256> {
        Some(message.id)
    }

    fn delivered(&self, chain: ChainId, log: &Log) -> Option<B256> {
        let deployment = self.deployments.get(&chain)?;
        if log.address != deployment.message_transmitter {
            return None;
        }
        let event = MessageReceived::decode_log_data(&log.data).ok()?;
        Some(id(event.sourceDomain, event.nonce))
    }
}

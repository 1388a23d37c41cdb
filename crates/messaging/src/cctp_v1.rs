//! CCTP v1: Circle's burn-and-mint of USDC.
//!
//! The message is emitted as `MessageSent(bytes)` by the origin's `MessageTransmitter` and delivered unchanged by
//! `receiveMessage(bytes,bytes)` on the destination's, with signatures of `threshold` attesters over the raw keccak-256 of
//! the message, in the strictly rising order of the attesters' addresses (evm-cctp-contracts, `MessageTransmitter.sol`,
//! `Attestable.sol`, `Message.sol`).

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, Log, keccak256};
use alloy_sol_types::{SolCall, SolEvent, sol};
use lockstep_primitives::{ChainId, Reason};

use crate::{Demand, Destination, Emitted, Evidence, LogPlace, Message, Protocol, RelayCall, Slot, attestation};

sol! {
    event MessageSent(bytes message);
    event MessageReceived(address indexed caller, uint32 sourceDomain, uint64 indexed nonce, bytes32 sender, bytes messageBody);
    function receiveMessage(bytes message, bytes attestation) external returns (bool);
}

const NAME: &str = "cctp-v1";
/// version u32 || source u32 || destination u32 || nonce u64 || sender || recipient || destinationCaller.
const HEADER_LENGTH: usize = 116;
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
    /// The protocol over a set of deployments.
    pub const fn new(deployments: BTreeMap<ChainId, CctpV1Deployment>) -> Self {
        Self { deployments }
    }

    fn chain_of(&self, domain: u32) -> Option<ChainId> {
        self.deployments.iter().find(|(_, deployment)| deployment.domain == domain).map(|(chain, _)| *chain)
    }

    fn destination(&self, message: &Message) -> Result<&CctpV1Deployment, Reason> {
        message
            .destination
            .and_then(|chain| self.deployments.get(&chain))
            .ok_or_else(|| Reason::WrongDestination { destination: message.destination_name.clone() })
    }

    fn parse(&self, chain: ChainId, own_domain: u32, payload: Bytes, place: LogPlace) -> Result<Message, Reason> {
        if payload.len() < HEADER_LENGTH {
            return Err(Reason::MalformedMessage(format!("{} bytes are less than a header", payload.len())));
        }
        let source = u32_at(&payload, 4);
        let destination = u32_at(&payload, 8);
        if source != own_domain {
            return Err(Reason::MalformedMessage(format!("source domain {source} is not the emitter's {own_domain}")));
        }
        let caller = B256::from_slice(&payload[84..116]);
        let nonce = payload[12..20].iter().fold(0, |value, byte| (value << 8) | u64::from(*byte));
        Ok(Message {
            protocol: NAME,
            id: id(source, nonce),
            origin: chain,
            destination: self.chain_of(destination),
            destination_name: format!("CCTP domain {destination}"),
            restricted_to: (!caller.is_zero()).then(|| Address::from_word(caller)),
            payload,
            place,
        })
    }
}

/// The nonce counts over all destinations of a source, so (source, nonce) names the message.
fn id(source: u32, nonce: u64) -> B256 {
    keccak256([NAME.as_bytes(), &source.to_be_bytes(), &nonce.to_be_bytes()].concat())
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    bytes[offset..offset + 4].iter().fold(0, |value, byte| (value << 8) | u32::from(*byte))
}

impl Protocol for CctpV1 {
    fn name(&self) -> &'static str {
        NAME
    }

    fn recognise(&self, chain: ChainId, emitted: &Emitted<'_>) -> Option<Result<Message, Reason>> {
        let log = emitted.log;
        let deployment = self.deployments.get(&chain)?;
        if log.address != deployment.message_transmitter || log.topics().first() != Some(&MessageSent::SIGNATURE_HASH) {
            return None;
        }
        let payload = match MessageSent::decode_log_data(&log.data) {
            Ok(event) => event.message,
            Err(error) => return Some(Err(Reason::MalformedMessage(error.to_string()))),
        };
        // The same event carries v2 messages: their version is 1.
        if payload.len() >= 4 && u32_at(&payload, 0) != VERSION {
            return None;
        }
        Some(self.parse(chain, deployment.domain, payload, emitted.place))
    }

    fn demand(&self, message: &Message, _: &Slot<'_>) -> Result<Demand, Reason> {
        let deployment = self.destination(message)?;
        let request = attestation::request(message, message.payload.clone(), &deployment.attesters, deployment.threshold)?;
        Ok(Demand::Attestation(request))
    }

    fn deliver(&self, message: &Message, evidence: &Evidence, _: &Destination) -> Result<Vec<RelayCall>, Reason> {
        let deployment = self.destination(message)?;
        let Evidence::Attestation { payload, signatures } = evidence else {
            return Err(Reason::NoEvidence(format!("{NAME} needs an attestation")));
        };
        let data = receiveMessageCall { message: payload.clone(), attestation: signatures.concat().into() }.abi_encode();
        Ok(vec![RelayCall { to: deployment.message_transmitter, data: data.into(), ..RelayCall::default() }])
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

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{LogData, address, b256, hex};

    const TRANSMITTER: Address = address!("0a992d191DEeC32aFe36203Ad87D7d289a738F81");

    fn protocol(threshold: usize) -> CctpV1 {
        let deployment = |domain| CctpV1Deployment {
            domain,
            message_transmitter: TRANSMITTER,
            attesters: vec![Address::repeat_byte(9), Address::repeat_byte(3), Address::repeat_byte(5)],
            threshold,
        };
        CctpV1::new([(1, deployment(0)), (8453, deployment(6))].into())
    }

    /// A burn of 1 USDC from Ethereum to Base, put together from the published layout.
    fn burn(destination: u32, caller: B256) -> Vec<u8> {
        let mut message = Vec::new();
        message.extend_from_slice(&0_u32.to_be_bytes());
        message.extend_from_slice(&0_u32.to_be_bytes());
        message.extend_from_slice(&destination.to_be_bytes());
        message.extend_from_slice(&1_u64.to_be_bytes());
        message.extend_from_slice(address!("Bd3fa81B58Ba92a82136038B25aDec7066af3155").into_word().as_slice());
        message.extend_from_slice(address!("1682Ae6375C4E4A97e4B583BC394c861A46D8962").into_word().as_slice());
        message.extend_from_slice(caller.as_slice());
        message.extend_from_slice(&0_u32.to_be_bytes());
        message.extend_from_slice(address!("A0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48").into_word().as_slice());
        message.extend_from_slice(Address::repeat_byte(0x22).into_word().as_slice());
        message.extend_from_slice(&alloy_primitives::U256::from(1_000_000).to_be_bytes::<32>());
        message.extend_from_slice(Address::repeat_byte(0x11).into_word().as_slice());
        message
    }

    fn log(message: Vec<u8>) -> Log {
        let event = MessageSent { message: message.into() };
        Log { address: TRANSMITTER, data: LogData::new_unchecked(vec![MessageSent::SIGNATURE_HASH], event.encode_data().into()) }
    }

    #[test]
    fn a_burn_is_recognised_to_the_byte() {
        let payload = burn(6, B256::ZERO);
        assert_eq!(payload.len(), 248);
        let message = protocol(2).recognise(1, &log(payload.clone())).unwrap().unwrap();
        assert_eq!(message.payload.as_ref(), payload);
        assert_eq!((message.origin, message.destination, message.restricted_to), (1, Some(8453), None));
        let request = protocol(2).evidence_request(&message).unwrap();
        // The published hash of exactly this message.
        assert_eq!(request.digest, b256!("990ffbf15c167255539759c7233059b4e0130c8b1b4eb986fc60075ed19a35bb"));
        assert_eq!(request.signers, [Address::repeat_byte(3), Address::repeat_byte(5)], "threshold many, by rising address");
        assert_eq!(MessageSent::SIGNATURE_HASH, b256!("8c5261668696ce22758910d05bab8f186d6eb247ceac2af2e82c7dc17669b036"));
    }

    #[test]
    fn delivery_carries_the_message_and_65_bytes_a_signer() {
        let protocol = protocol(3);
        let message = protocol.recognise(1, &log(burn(6, B256::ZERO))).unwrap().unwrap();
        let (evidence, stand_ins) = protocol.stand_in(&protocol.evidence_request(&message).unwrap());
        let calls = protocol.deliver(&message, &evidence).unwrap();
        assert_eq!(calls[0].data[..4], hex!("57ecfd28"));
        let decoded = receiveMessageCall::abi_decode(&calls[0].data).unwrap();
        assert_eq!(decoded.message, message.payload);
        assert_eq!(decoded.attestation.len(), 65 * 3);
        assert_eq!(stand_ins.len(), 3);
        assert_eq!(decoded.attestation[..32], stand_ins[0].r[..]);
    }

    #[test]
    fn what_is_not_for_us_is_not_recognised_and_what_is_broken_is_named() {
        let protocol = protocol(1);
        let mut foreign = log(burn(6, B256::ZERO));
        foreign.address = Address::ZERO;
        assert!(protocol.recognise(1, &foreign).is_none());
        let mut v2 = burn(6, B256::ZERO);
        v2[3] = 1;
        assert!(protocol.recognise(1, &log(v2)).is_none());
        let short = protocol.recognise(1, &log(burn(6, B256::ZERO)[..100].to_vec())).unwrap();
        assert_eq!(short.unwrap_err().code(), "malformed_message");
        let elsewhere = protocol.recognise(1, &log(burn(7, B256::ZERO))).unwrap().unwrap();
        assert_eq!(protocol.evidence_request(&elsewhere).unwrap_err().code(), "wrong_destination");
        let restricted = protocol.recognise(1, &log(burn(6, Address::repeat_byte(7).into_word()))).unwrap().unwrap();
        assert_eq!(restricted.restricted_to, Some(Address::repeat_byte(7)));
    }
}

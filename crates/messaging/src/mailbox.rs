//! The mailbox: messages between rollups whose blocks one coordinator builds together.
//!
//! Shaped as the mailboxes of Compose are; keys and logs are those of this repository's `Mailbox.sol`. Nothing is proven on
//! chain: the coordinator, who alone may fill an inbox, vouches for what was written, so it delivers only what it saw there.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, Log, U256, keccak256};
use alloy_sol_types::{SolCall, SolEvent, SolValue, sol};
use lockstep_primitives::{ChainId, Reason};

use crate::{Demand, Destination, Emitted, Evidence, EvidenceKind, Message, Protocol, RelayCall, Slot};

sol! {
    event MailboxWritten(
        bytes32 indexed key,
        uint256 indexed destinationChain,
        address indexed sender,
        address receiver,
        uint256 session,
        bytes label,
        bytes data
    );
    event MailboxDelivered(bytes32 indexed key, uint256 indexed sourceChain, address indexed receiver, bytes data);
    function putInbox(
        uint256 sourceChain,
        address sender,
        address receiver,
        uint256 session,
        bytes label,
        bytes data
    ) external returns (bytes32 key);
}

const NAME: &str = "mailbox";
/// Signature, key, destination, sender.
const TOPICS: usize = 4;
/// What a delivery costs beside its data: two storage slots, the log, and calls.
const DELIVERY_GAS: u64 = 100_000;
/// What each word of data costs: a new storage slot (22,100), its part of the log, and copies.
const WORD_GAS: u64 = 24_000;
/// What each word of the label costs: copies and hashing.
const LABEL_WORD_GAS: u64 = 200;

/// The mailbox on one rollup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailboxDeployment {
    /// The contract. Its coordinator is the builder, else deliveries revert.
    pub mailbox: Address,
}

/// Mailboxes over the rollups where they are deployed.
#[derive(Clone, Debug)]
pub struct Mailbox {
    deployments: BTreeMap<ChainId, MailboxDeployment>,
}

impl Mailbox {
    /// The protocol over a set of deployments.
    pub const fn new(deployments: BTreeMap<ChainId, MailboxDeployment>) -> Self {
        Self { deployments }
    }

    fn parse(&self, chain: ChainId, emitted: &Emitted<'_>) -> Result<Message, Reason> {
        let payload = payload(emitted.log);
        let event = written(&payload, chain)?;
        Ok(Message {
            protocol: NAME,
            id: event.key,
            origin: chain,
            destination: ChainId::try_from(event.destinationChain).ok().filter(|to| self.deployments.contains_key(to)),
            destination_name: format!("chain {}", event.destinationChain),
            restricted_to: None,
            payload,
            place: emitted.place,
        })
    }

    fn destination(&self, message: &Message, to: &Destination) -> Result<&MailboxDeployment, Reason> {
        message
            .destination
            .filter(|chain| *chain == to.chain)
            .and_then(|chain| self.deployments.get(&chain))
            .ok_or_else(|| Reason::WrongDestination { destination: message.destination_name.clone() })
    }
}

/// Topics and data, one after the other.
fn payload(log: &Log) -> Bytes {
    let mut bytes = Vec::with_capacity(32 * log.topics().len() + log.data.data.len());
    for topic in log.topics() {
        bytes.extend_from_slice(topic.as_slice());
    }
    bytes.extend_from_slice(&log.data.data);
    bytes.into()
}

/// Reads what [`payload`] gave of a log of rollup `chain`. The key has to be that of the fields.
fn written(payload: &[u8], chain: ChainId) -> Result<MailboxWritten, Reason> {
    let malformed = Reason::MalformedMessage;
    let (topics, data) = payload
        .split_at_checked(32 * TOPICS)
        .ok_or_else(|| malformed(format!("{} bytes are less than {TOPICS} topics", payload.len())))?;
    let topics = topics.chunks_exact(32).map(B256::from_slice);
    let event = MailboxWritten::decode_raw_log_validate(topics, data).map_err(|error| malformed(error.to_string()))?;
    if event.destinationChain == U256::from(chain) {
        return Err(malformed(format!("the message of rollup {chain} goes to that same rollup")));
    }
    let key = key(U256::from(chain), event.destinationChain, event.sender, event.receiver, event.session, &event.label);
    if key != event.key {
        return Err(malformed(format!("the key is {}, its fields make {key}", event.key)));
    }
    Ok(event)
}

/// What names a message on both rollups.
fn key(source: U256, destination: U256, sender: Address, receiver: Address, session: U256, label: &Bytes) -> B256 {
    keccak256((source, destination, sender, receiver, session, label.clone()).abi_encode_params())
}

fn words(bytes: &Bytes) -> u64 {
    bytes.len().div_ceil(32) as u64
}

impl Protocol for Mailbox {
    fn name(&self) -> &'static str {
        NAME
    }

    fn evidence_kind(&self) -> EvidenceKind {
        EvidenceKind::Place
    }

    fn recognise(&self, chain: ChainId, emitted: &Emitted<'_>) -> Option<Result<Message, Reason>> {
        let deployment = self.deployments.get(&chain)?;
        let log = emitted.log;
        if log.address != deployment.mailbox || log.topics().first() != Some(&MailboxWritten::SIGNATURE_HASH) {
            return None;
        }
        if log.topics().len() != TOPICS {
            return Some(Err(Reason::MalformedMessage(format!("{} topics are not {TOPICS}", log.topics().len()))));
        }
        Some(self.parse(chain, emitted))
    }

    /// The message has to be in the open blocks, at its place: what the builder vouches for it has seen.
    fn demand(&self, message: &Message, to: &Destination, slot: &Slot<'_>) -> Result<Demand, Reason> {
        self.destination(message, to)?;
        let chain = message.origin;
        let origin = self.deployments.get(&chain);
        let origin = origin.ok_or_else(|| Reason::NoEvidence(format!("no {NAME} is configured on rollup {chain}")))?;
        let logs = slot.logs.logs(chain);
        let logs = logs.ok_or_else(|| Reason::NoEvidence(format!("rollup {chain} is not built for in this slot")))?;
        let there = |emitted: &Emitted<'_>| {
            emitted.place == message.place && emitted.log.address == origin.mailbox && payload(emitted.log) == message.payload
        };
        if !logs.iter().any(there) {
            let text = format!("the message is not among the logs of rollup {chain} in this slot");
            return Err(Reason::NoEvidence(text));
        }
        Ok(Demand::Derived(Evidence::Place))
    }

    fn deliver(&self, message: &Message, evidence: &Evidence, to: &Destination) -> Result<Vec<RelayCall>, Reason> {
        let deployment = self.destination(message, to)?;
        if !matches!(evidence, Evidence::Place) {
            return Err(Reason::NoEvidence(format!("{NAME} needs the message's place, and nothing else")));
        }
        let event = written(&message.payload, message.origin)?;
        if event.key != message.id || event.destinationChain != U256::from(to.chain) {
            return Err(Reason::WrongDestination { destination: format!("chain {}", event.destinationChain) });
        }
        let gas = DELIVERY_GAS + WORD_GAS * words(&event.data) + LABEL_WORD_GAS * words(&event.label);
        let call = putInboxCall {
            sourceChain: U256::from(message.origin),
            sender: event.sender,
            receiver: event.receiver,
            session: event.session,
            label: event.label,
            data: event.data,
        };
        Ok(vec![RelayCall { to: deployment.mailbox, data: call.abi_encode().into(), gas, ..RelayCall::default() }])
    }

    fn receipt(&self, message: &Message, _: Option<&Evidence>) -> Option<B256> {
        Some(message.id)
    }

    fn delivered(&self, chain: ChainId, log: &Log) -> Option<B256> {
        let deployment = self.deployments.get(&chain)?;
        if log.address != deployment.mailbox {
            return None;
        }
        Some(MailboxDelivered::decode_log_data_validate(&log.data).ok()?.key)
    }
}

//! OP interop: any log of a chain can be executed on another of its dependency set.
//!
//! Nothing is proven on chain: the inbox lets pass what the transaction declares in its access list, and whoever derives the
//! chains looks the log up. A block that executes a message which is not there is replaced by one of deposits only, and so is
//! every block that depends on it. So nothing is let pass here that is not certain: the log has to be in an open block, or among
//! the known ones (OP specs, interop/messaging, interop/derivation).

pub mod access_list;
pub mod graph;
mod identifier;

use std::collections::{BTreeMap, BTreeSet};

use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_primitives::{Address, B256, Log, U256, address, keccak256};
use alloy_sol_types::{SolCall, SolEvent, SolValue, sol};
use lockstep_primitives::{ChainId, Place, Reason, Rejection, RollupSet};

use crate::{Demand, Destination, Emitted, Evidence, EvidenceKind, KnownLog, LogPlace, Message, Protocol, Ran, RelayCall, Slot};
use graph::Executing;

pub use identifier::{Identifier, payload, payload_hash};

mod abi {
    use super::sol;

    sol! {
        struct Identifier {
            address origin;
            uint256 blockNumber;
            uint256 logIndex;
            uint256 timestamp;
            uint256 chainId;
        }

        event SentMessage(
            uint256 indexed destination,
            address indexed target,
            uint256 indexed messageNonce,
            address sender,
            bytes message
        );
        event RelayedMessage(
            uint256 indexed source,
            uint256 indexed messageNonce,
            bytes32 indexed messageHash,
            bytes32 returnDataHash
        );
        event ExecutingMessage(bytes32 indexed msgHash, Identifier id);
        function relayMessage(Identifier id, bytes sentMessage) external payable returns (bytes);
    }
}

/// `CrossL2Inbox`, a predeploy.
pub const INBOX: Address = address!("4200000000000000000000000000000000000022");
/// `L2ToL2CrossDomainMessenger`, a predeploy.
pub const MESSENGER: Address = address!("4200000000000000000000000000000000000023");
const NAME: &str = "op-interop";
/// Signature, destination, target, nonce.
const SENT_TOPICS: usize = 4;

/// OP interop on one rollup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InteropDeployment {
    /// The rollups whose messages it executes, beside its own.
    pub depends_on: RollupSet,
    /// Timestamp of the block that activated it, in seconds. That block sends and executes nothing.
    pub activated_at: u64,
    /// For how long its messages can be executed, in seconds: 604800 by the specification.
    pub expires_after: u64,
}

/// OP interop over the rollups where it is active.
#[derive(Clone, Debug)]
pub struct OpInterop {
    deployments: BTreeMap<ChainId, InteropDeployment>,
}

/// A message that is executed, or would be.
struct Execution {
    chain: ChainId,
    /// Timestamp of the executing block.
    timestamp: u64,
    /// Index in its block of the executing log; `None` before it is there.
    index: Option<u64>,
}

/// The logs of the slot as one transaction refers to them. It may refer to thousands, or to one a thousand times, so each rollup
/// is read once, and each log hashed once.
struct Lookup<'a> {
    slot: Slot<'a>,
    /// By rollup, then by block and index.
    logs: BTreeMap<ChainId, BTreeMap<(u64, u64), Emitted<'a>>>,
    found: BTreeMap<(ChainId, u64, u64), KnownLog>,
}

impl<'a> Lookup<'a> {
    const fn new(slot: &Slot<'a>) -> Self {
        Self { slot: *slot, logs: BTreeMap::new(), found: BTreeMap::new() }
    }

    fn in_slot(&mut self, chain: ChainId, place: LogPlace) -> Option<KnownLog> {
        let key = (chain, place.block, place.index);
        if let Some(found) = self.found.get(&key) {
            return Some(*found);
        }
        let all = self.slot.logs;
        let logs = self.logs.entry(chain).or_insert_with(move || {
            let logs = all.logs(chain).unwrap_or_default();
            logs.into_iter().map(|emitted| ((emitted.place.block, emitted.place.index), emitted)).collect()
        });
        let emitted = logs.get(&(place.block, place.index))?;
        let found = KnownLog { address: emitted.log.address, payload_hash: payload_hash(emitted.log), place: emitted.place };
        self.found.insert(key, found);
        Some(found)
    }

    /// A log of an earlier block: one that was looked up for a transaction, or the message that a relay delivers.
    fn before(&self, chain: ChainId, place: LogPlace) -> Option<KnownLog> {
        let known = self.slot.facts.logs.get(&(chain, place.block, place.index)).copied();
        known.or_else(|| {
            let mut landed =
                self.slot.facts.landed.values().filter_map(|landed| landed.as_ref().ok()).map(|landed| &landed.message);
            let message = landed.find(|message| message.protocol == NAME && message.origin == chain && message.place == place)?;
            Some(KnownLog { address: MESSENGER, payload_hash: keccak256(&message.payload), place })
        })
    }
}

/// Where a log was found.
enum Found {
    InSlot,
    Before,
}

impl OpInterop {
    /// The protocol over a set of deployments. Where it has none every executing message is refused.
    pub const fn new(deployments: BTreeMap<ChainId, InteropDeployment>) -> Self {
        Self { deployments }
    }

    /// Which chains, which times (OP specs, interop/messaging, "Message Invariants"). The window is closed at both ends in one
    /// text of the specification and open in another: here it is as narrow as either.
    fn check_route(&self, origin: ChainId, sent: u64, chain: ChainId, executed: u64) -> Result<(), Reason> {
        let uncertain = |text: String| Reason::UncertainMessage { origin: Some(origin), text };
        let here = self.deployments.get(&chain);
        let here = here.ok_or_else(|| uncertain(format!("interop is not configured on rollup {chain}")))?;
        let there = self.deployments.get(&origin);
        let there = there.ok_or_else(|| uncertain(format!("interop is not configured on rollup {origin}")))?;
        if origin != chain && !here.depends_on.contains(&origin) {
            return Err(Reason::NotInDependencySet { origin, destination: chain });
        }
        if sent > executed {
            return Err(uncertain(format!("it is sent at {sent}, after the block of {executed} that executes it")));
        }
        for (rollup, deployment, time) in [(origin, there, sent), (chain, here, executed)] {
            if time <= deployment.activated_at {
                let text =
                    format!("interop is active on rollup {rollup} after {}, the block is of {time}", deployment.activated_at);
                return Err(uncertain(text));
            }
        }
        let window = there.expires_after.min(here.expires_after);
        if sent.saturating_add(window) <= executed {
            let text = format!("sent at {sent}, it could be executed for {window} seconds, the block is of {executed}");
            return Err(Reason::MessageExpired(text));
        }
        Ok(())
    }

    /// Finds the log at a place of a rollup that `matches`, and checks that its message may be executed.
    fn check(
        &self,
        execution: &Execution,
        lookup: &mut Lookup<'_>,
        origin: ChainId,
        place: LogPlace,
        matches: &dyn Fn(Address, B256) -> bool,
    ) -> Result<Found, Reason> {
        let Execution { chain, timestamp, index } = *execution;
        self.check_route(origin, place.timestamp, chain, timestamp)?;
        let uncertain = |text: String| Reason::UncertainMessage { origin: Some(origin), text };
        let other = || uncertain(format!("the log {} of block {} of rollup {origin} is another one", place.index, place.block));
        if let Some(there) = lookup.in_slot(origin, place) {
            if there.place != place || !matches(there.address, there.payload_hash) {
                return Err(other());
            }
            // On one chain a block that executes a log before it is there waits for itself.
            if origin == chain && there.place.timestamp == timestamp && index.is_some_and(|index| index <= place.index) {
                return Err(Reason::MessageCycle(format!(
                    "log {} of rollup {chain} is executed before it is there",
                    place.index
                )));
            }
            return Ok(Found::InSlot);
        }
        let known = lookup.before(origin, place);
        let known = known
            .ok_or_else(|| uncertain(format!("log {} of block {} of rollup {origin} is not known", place.index, place.block)))?;
        if known.place != place || !matches(known.address, known.payload_hash) {
            return Err(other());
        }
        Ok(Found::Before)
    }

    fn parse(&self, chain: ChainId, emitted: &Emitted<'_>) -> Result<Message, Reason> {
        let payload = payload(emitted.log);
        let sent = sent(&payload)?;
        let source = U256::from(chain);
        if sent.destination == source {
            return Err(Reason::MalformedMessage(format!("the message of rollup {chain} goes to that same rollup")));
        }
        let hashed = (sent.destination, source, sent.messageNonce, sent.sender, sent.target, sent.message);
        Ok(Message {
            protocol: NAME,
            id: keccak256(hashed.abi_encode_params()),
            origin: chain,
            destination: ChainId::try_from(sent.destination).ok().filter(|to| self.deployments.contains_key(to)),
            destination_name: format!("chain {}", sent.destination),
            restricted_to: None,
            payload,
            place: emitted.place,
        })
    }

    /// Reads an executing log.
    fn executing(emitted: &Emitted<'_>) -> Option<Result<(Identifier, B256), Reason>> {
        let log = emitted.log;
        if log.address != INBOX || log.topics().first() != Some(&abi::ExecutingMessage::SIGNATURE_HASH) {
            return None;
        }
        let unreadable = |text: String| Reason::UncertainMessage { origin: None, text };
        Some(abi::ExecutingMessage::decode_log_data_validate(&log.data).map_err(|error| unreadable(error.to_string())).and_then(
            |event| {
                let id = identifier(&event.id).ok_or_else(|| unreadable("a number of its identifier is too large".to_owned()))?;
                Ok((id, event.msgHash))
            },
        ))
    }
}

/// Reads what [`payload`] gave of a `SentMessage`.
fn sent(payload: &[u8]) -> Result<abi::SentMessage, Reason> {
    let malformed = Reason::MalformedMessage;
    let (topics, data) = payload
        .split_at_checked(32 * SENT_TOPICS)
        .ok_or_else(|| malformed(format!("{} bytes are less than {SENT_TOPICS} topics", payload.len())))?;
    let topics = topics.chunks_exact(32).map(B256::from_slice);
    abi::SentMessage::decode_raw_log_validate(topics, data).map_err(|error| malformed(error.to_string()))
}

fn identifier(id: &abi::Identifier) -> Option<Identifier> {
    Some(Identifier {
        origin: id.origin,
        block_number: id.blockNumber.try_into().ok()?,
        log_index: id.logIndex.try_into().ok()?,
        timestamp: id.timestamp.try_into().ok()?,
        chain_id: id.chainId,
    })
}

impl Protocol for OpInterop {
    fn name(&self) -> &'static str {
        NAME
    }

    fn evidence_kind(&self) -> EvidenceKind {
        EvidenceKind::Place
    }

    fn recognise(&self, chain: ChainId, emitted: &Emitted<'_>) -> Option<Result<Message, Reason>> {
        self.deployments.get(&chain)?;
        let log = emitted.log;
        if log.address != MESSENGER || log.topics().first() != Some(&abi::SentMessage::SIGNATURE_HASH) {
            return None;
        }
        if log.topics().len() != SENT_TOPICS {
            return Some(Err(Reason::MalformedMessage(format!("{} topics are not {SENT_TOPICS}", log.topics().len()))));
        }
        Some(self.parse(chain, emitted))
    }

    /// The message's log has to be in the open blocks, at its place.
    fn demand(&self, message: &Message, to: &Destination, slot: &Slot<'_>) -> Result<Demand, Reason> {
        let execution = Execution { chain: to.chain, timestamp: to.timestamp, index: None };
        let hash = keccak256(&message.payload);
        let matches = |address: Address, payload_hash: B256| address == MESSENGER && payload_hash == hash;
        match self.check(&execution, &mut Lookup::new(slot), message.origin, message.place, &matches)? {
            Found::InSlot => Ok(Demand::Derived(Evidence::Place)),
            Found::Before => Err(Reason::NoEvidence("the message is not of this slot".to_owned())),
        }
    }

    fn deliver(&self, message: &Message, evidence: &Evidence, to: &Destination) -> Result<Vec<RelayCall>, Reason> {
        if message.destination != Some(to.chain) {
            return Err(Reason::WrongDestination { destination: message.destination_name.clone() });
        }
        if *evidence != Evidence::Place {
            return Err(Reason::NoEvidence(format!("{NAME} takes no evidence but the message's place")));
        }
        let sent = sent(&message.payload)?;
        if sent.destination != U256::from(to.chain) {
            return Err(Reason::WrongDestination { destination: format!("chain {}", sent.destination) });
        }
        self.check_route(message.origin, message.place.timestamp, to.chain, to.timestamp)?;
        let id = Identifier::new(MESSENGER, U256::from(message.origin), message.place)
            .ok_or_else(|| Reason::MalformedMessage(format!("log {} has no index of 32 bits", message.place.index)))?;
        let call = abi::relayMessageCall {
            id: abi::Identifier {
                origin: id.origin,
                blockNumber: U256::from(id.block_number),
                logIndex: U256::from(id.log_index),
                timestamp: U256::from(id.timestamp),
                chainId: id.chain_id,
            },
            sentMessage: message.payload.clone(),
        };
        let storage_keys = access_list::encode(&id, keccak256(&message.payload));
        let access_list = AccessList(vec![AccessListItem { address: INBOX, storage_keys }]);
        // What the target does with the message is not known: the gas is left to the policy.
        Ok(vec![RelayCall { to: MESSENGER, data: call.abi_encode().into(), access_list, ..RelayCall::default() }])
    }

    fn receipt(&self, message: &Message, _: Option<&Evidence>) -> Option<B256> {
        Some(message.id)
    }

    fn delivered(&self, chain: ChainId, log: &Log) -> Option<B256> {
        self.deployments.get(&chain)?;
        if log.address != MESSENGER {
            return None;
        }
        let event = abi::RelayedMessage::decode_log_data_validate(&log.data).ok()?;
        Some(event.messageHash)
    }

    fn check_transaction(&self, chain: ChainId, ran: &Ran<'_>, slot: &Slot<'_>) -> Result<RollupSet, Reason> {
        let mut origins = RollupSet::new();
        let mut lookup = Lookup::new(slot);
        let unreadable = |text: String| Reason::UncertainMessage { origin: None, text };
        let chain_of = |id: U256| ChainId::try_from(id).map_err(|_| unreadable(format!("chain {id} is not known")));
        let declared = ran.access_list.map_or_else(|| Ok(Vec::new()), access_list::decode).map_err(unreadable)?;
        let checksums: BTreeSet<B256> = declared.iter().map(|access| access.checksum).collect();
        for emitted in ran.logs {
            let Some(executing) = Self::executing(emitted) else { continue };
            let (id, hash) = executing?;
            let origin = chain_of(id.chain_id)?;
            let execution = Execution { chain, timestamp: ran.timestamp, index: Some(emitted.place.index) };
            let matches = |address: Address, payload_hash: B256| address == id.origin && payload_hash == hash;
            if let Found::InSlot = self.check(&execution, &mut lookup, origin, id.place(), &matches)? {
                origins.insert(origin);
            }
            // The inbox lets only what is declared pass. A slot that is warm without that was warmed by a simulation.
            if !checksums.contains(&id.checksum(hash)) {
                return Err(unreadable(format!("log {} executes a message that is not declared", emitted.place.index)));
            }
        }
        for access in declared {
            let origin = chain_of(access.chain_id)?;
            let execution = Execution { chain, timestamp: ran.timestamp, index: None };
            let matches = |address: Address, payload_hash: B256| {
                Identifier::new(address, access.chain_id, access.place)
                    .is_some_and(|id| id.checksum(payload_hash) == access.checksum)
            };
            if let Found::InSlot = self.check(&execution, &mut lookup, origin, access.place, &matches)? {
                origins.insert(origin);
            }
        }
        origins.remove(&chain);
        Ok(origins)
    }

    /// No circles among the messages of one timestamp.
    fn check_slot(&self, slot: &Slot<'_>) -> Result<(), Rejection> {
        let mut by_time: BTreeMap<u64, BTreeMap<ChainId, Vec<Executing>>> = BTreeMap::new();
        for chain in slot.logs.chains() {
            for emitted in slot.logs.logs(chain).unwrap_or_default() {
                let Some(executing) = Self::executing(&emitted) else { continue };
                let (id, _) = executing.map_err(|reason| Rejection::new(Place::rollup(chain), reason))?;
                let Ok(origin) = ChainId::try_from(id.chain_id) else { continue };
                if id.timestamp == emitted.place.timestamp {
                    let message = Executing { index: emitted.place.index, origin, init: u64::from(id.log_index) };
                    by_time.entry(id.timestamp).or_default().entry(chain).or_default().push(message);
                }
            }
        }
        for blocks in by_time.values() {
            if let Some((chain, index)) = graph::unresolved(blocks).first() {
                let text = format!("log {index} of rollup {chain} executes a message that waits for it");
                return Err(Rejection::new(Place::rollup(*chain), Reason::MessageCycle(text)));
            }
        }
        Ok(())
    }
}

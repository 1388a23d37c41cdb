//! What a slot was told of messages before it, as a part of `slot.json`.

use std::collections::{BTreeMap, btree_map::Entry};

use alloy_primitives::{Address, B256, Bytes, ChainId, U64, U256};
use lockstep_messaging::{
    Evidence, ExitFacts, ExitProof, ExitTree, Facts, KnownLog, LandedMessage, LogPlace, Message, agglayer::Siblings,
};
use lockstep_primitives::{LandedRef, Reason, SignatureBytes};
use serde::{Deserialize, Serialize};

/// The protocols, as messages name them.
const PROTOCOLS: [&str; 5] = ["cctp-v1", "cctp-v2", "op-interop", "agglayer", "mailbox"];

/// A field of the facts, and what is wrong with it.
type Wrong = (String, String);

/// What was known before the slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FactsFile {
    landed: Vec<LandedFile>,
    orphans: Vec<RefFile>,
    logs: Vec<LogFile>,
    exits: ExitsFile,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LandedFile {
    at: RefFile,
    found: FoundFile,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RefFile {
    chain_id: U64,
    tx_hash: B256,
    message: usize,
}

/// A message that can be delivered, or why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum FoundFile {
    Deliverable { message: Box<MessageFile>, evidence: EvidenceFile },
    Not(ReasonFile),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MessageFile {
    protocol: String,
    id: B256,
    origin: U64,
    destination: Option<U64>,
    destination_name: String,
    restricted_to: Option<Address>,
    payload: Bytes,
    block: u64,
    timestamp: u64,
    index: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
enum EvidenceFile {
    Attestation { payload: Bytes, signatures: Vec<Bytes> },
    Place,
    Exit { local: Vec<B256>, local_exit_root: B256, rollup: Vec<B256>, mainnet_exit_root: B256, rollup_exit_root: B256 },
}

/// The reasons for which a landed message is not delivered, by their codes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum ReasonFile {
    UnknownMessage(String),
    EvidencePending(String),
    NoEvidence(String),
    MalformedMessage(String),
    MessageExpired(String),
    MessageDelivered(B256),
    WrongDestination(String),
    InvalidTransaction(String),
    UncertainMessage { origin: Option<U64>, text: String },
    NotInDependencySet { origin: U64, destination: U64 },
    RestrictedCaller { caller: Address, builder: Address },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LogFile {
    chain_id: U64,
    block: u64,
    index: u64,
    timestamp: u64,
    address: Address,
    payload_hash: B256,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExitsFile {
    trees: Vec<TreeFile>,
    mainnet_exit_root: B256,
    exit_roots: BTreeMap<u32, B256>,
    balances: Vec<BalanceFile>,
    same_slot_claims: Vec<U64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TreeFile {
    chain_id: U64,
    /// A node for each of 32 levels.
    frontier: Vec<B256>,
    count: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BalanceFile {
    chain_id: U64,
    network: u32,
    token: Address,
    amount: U256,
}

impl FactsFile {
    /// # Errors
    /// When a message is not delivered for a reason that no file can tell.
    pub(crate) fn new(facts: &Facts) -> Result<Self, Wrong> {
        let landed = facts.landed.iter().map(|(at, found)| -> Result<LandedFile, Wrong> {
            let found = match found {
                Ok(landed) => FoundFile::Deliverable {
                    message: Box::new(MessageFile::from(&landed.message)),
                    evidence: EvidenceFile::from(&landed.evidence),
                },
                Err(reason) => FoundFile::Not(ReasonFile::new(reason).ok_or_else(|| {
                    let code = reason.code();
                    ("landed".to_owned(), format!("{at}: there is no way to write down why it is not delivered: {code}"))
                })?),
            };
            Ok(LandedFile { at: RefFile::from(at), found })
        });
        let logs = facts.logs.iter().map(|((chain, block, index), log)| LogFile {
            chain_id: U64::from(*chain),
            block: *block,
            index: *index,
            timestamp: log.place.timestamp,
            address: log.address,
            payload_hash: log.payload_hash,
        });
        Ok(Self {
            landed: landed.collect::<Result<_, _>>()?,
            orphans: facts.orphans.iter().map(RefFile::from).collect(),
            logs: logs.collect(),
            exits: ExitsFile::from(&facts.exits),
        })
    }

    /// The facts again.
    ///
    /// # Errors
    /// When a field makes no sense, or something is there twice.
    pub(crate) fn facts(&self) -> Result<Facts, Wrong> {
        let mut facts = Facts { orphans: self.orphans.iter().map(RefFile::at).collect(), ..Facts::default() };
        for (index, LandedFile { at, found }) in self.landed.iter().enumerate() {
            let place = format!("landed[{index}]");
            let found = match found {
                FoundFile::Deliverable { message, evidence } => {
                    let message = message.message().map_err(|cause| (format!("{place}.message"), cause))?;
                    let evidence = evidence.evidence().map_err(|cause| (format!("{place}.evidence"), cause))?;
                    Ok(LandedMessage { message, evidence })
                }
                FoundFile::Not(reason) => Err(reason.reason()),
            };
            once(facts.landed.entry(at.at()), found, place)?;
        }
        for (index, log) in self.logs.iter().enumerate() {
            let place = LogPlace { block: log.block, timestamp: log.timestamp, index: log.index };
            let known = KnownLog { address: log.address, payload_hash: log.payload_hash, place };
            once(facts.logs.entry((log.chain_id.to(), log.block, log.index)), known, format!("logs[{index}]"))?;
        }
        facts.exits = self.exits.exits()?;
        Ok(facts)
    }
}

fn once<K: Ord, V>(entry: Entry<'_, K, V>, value: V, place: String) -> Result<(), Wrong> {
    match entry {
        Entry::Vacant(entry) => {
            entry.insert(value);
            Ok(())
        }
        Entry::Occupied(_) => Err((place, "it is there twice".to_owned())),
    }
}

impl From<&LandedRef> for RefFile {
    fn from(at: &LandedRef) -> Self {
        Self { chain_id: U64::from(at.chain), tx_hash: at.tx, message: at.message }
    }
}

impl RefFile {
    fn at(&self) -> LandedRef {
        LandedRef { chain: self.chain_id.to(), tx: self.tx_hash, message: self.message }
    }
}

impl From<&Message> for MessageFile {
    fn from(message: &Message) -> Self {
        Self {
            protocol: message.protocol.to_owned(),
            id: message.id,
            origin: U64::from(message.origin),
            destination: message.destination.map(U64::from),
            destination_name: message.destination_name.clone(),
            restricted_to: message.restricted_to,
            payload: message.payload.clone(),
            block: message.place.block,
            timestamp: message.place.timestamp,
            index: message.place.index,
        }
    }
}

impl MessageFile {
    fn message(&self) -> Result<Message, String> {
        let protocol = PROTOCOLS.into_iter().find(|name| *name == self.protocol);
        Ok(Message {
            protocol: protocol.ok_or_else(|| format!("there is no protocol {:?}", self.protocol))?,
            id: self.id,
            origin: self.origin.to(),
            destination: self.destination.map(|chain| chain.to()),
            destination_name: self.destination_name.clone(),
            restricted_to: self.restricted_to,
            payload: self.payload.clone(),
            place: LogPlace { block: self.block, timestamp: self.timestamp, index: self.index },
        })
    }
}

impl From<&Evidence> for EvidenceFile {
    fn from(evidence: &Evidence) -> Self {
        match evidence {
            Evidence::Attestation { payload, signatures } => Self::Attestation {
                payload: payload.clone(),
                signatures: signatures.iter().map(|signature| Bytes::copy_from_slice(signature)).collect(),
            },
            Evidence::Place => Self::Place,
            Evidence::Exit(proof) => Self::Exit {
                local: proof.local.to_vec(),
                local_exit_root: proof.local_exit_root,
                rollup: proof.rollup.to_vec(),
                mainnet_exit_root: proof.mainnet_exit_root,
                rollup_exit_root: proof.rollup_exit_root,
            },
        }
    }
}

impl EvidenceFile {
    fn evidence(&self) -> Result<Evidence, String> {
        Ok(match self {
            Self::Attestation { payload, signatures } => {
                let signature = |bytes: &Bytes| {
                    let length = bytes.len();
                    SignatureBytes::try_from(&bytes[..]).map_err(|_| format!("a signature has 65 bytes, not {length}"))
                };
                let signatures = signatures.iter().map(signature).collect::<Result<_, _>>()?;
                Evidence::Attestation { payload: payload.clone(), signatures }
            }
            Self::Place => Evidence::Place,
            Self::Exit { local, local_exit_root, rollup, mainnet_exit_root, rollup_exit_root } => {
                Evidence::Exit(Box::new(ExitProof {
                    local: siblings(local)?,
                    local_exit_root: *local_exit_root,
                    rollup: siblings(rollup)?,
                    mainnet_exit_root: *mainnet_exit_root,
                    rollup_exit_root: *rollup_exit_root,
                }))
            }
        })
    }
}

fn siblings(nodes: &[B256]) -> Result<Siblings, String> {
    Siblings::try_from(nodes).map_err(|_| format!("an exit tree has 32 levels, not {}", nodes.len()))
}

impl ReasonFile {
    /// `None` for what is no reason against delivering a landed message.
    fn new(reason: &Reason) -> Option<Self> {
        Some(match reason {
            Reason::UnknownMessage(text) => Self::UnknownMessage(text.clone()),
            Reason::EvidencePending(text) => Self::EvidencePending(text.clone()),
            Reason::NoEvidence(text) => Self::NoEvidence(text.clone()),
            Reason::MalformedMessage(text) => Self::MalformedMessage(text.clone()),
            Reason::MessageExpired(text) => Self::MessageExpired(text.clone()),
            Reason::MessageDelivered(id) => Self::MessageDelivered(*id),
            Reason::WrongDestination { destination } => Self::WrongDestination(destination.clone()),
            Reason::InvalidTransaction(text) => Self::InvalidTransaction(text.clone()),
            Reason::UncertainMessage { origin, text } => {
                Self::UncertainMessage { origin: origin.map(U64::from), text: text.clone() }
            }
            Reason::NotInDependencySet { origin, destination } => {
                Self::NotInDependencySet { origin: U64::from(*origin), destination: U64::from(*destination) }
            }
            Reason::RestrictedCaller { caller, builder } => Self::RestrictedCaller { caller: *caller, builder: *builder },
            _ => return None,
        })
    }

    fn reason(&self) -> Reason {
        match self {
            Self::UnknownMessage(text) => Reason::UnknownMessage(text.clone()),
            Self::EvidencePending(text) => Reason::EvidencePending(text.clone()),
            Self::NoEvidence(text) => Reason::NoEvidence(text.clone()),
            Self::MalformedMessage(text) => Reason::MalformedMessage(text.clone()),
            Self::MessageExpired(text) => Reason::MessageExpired(text.clone()),
            Self::MessageDelivered(id) => Reason::MessageDelivered(*id),
            Self::WrongDestination(destination) => Reason::WrongDestination { destination: destination.clone() },
            Self::InvalidTransaction(text) => Reason::InvalidTransaction(text.clone()),
            Self::UncertainMessage { origin, text } => {
                Reason::UncertainMessage { origin: origin.map(|chain| chain.to()), text: text.clone() }
            }
            Self::NotInDependencySet { origin, destination } => {
                Reason::NotInDependencySet { origin: origin.to(), destination: destination.to() }
            }
            Self::RestrictedCaller { caller, builder } => Reason::RestrictedCaller { caller: *caller, builder: *builder },
        }
    }
}

impl From<&ExitFacts> for ExitsFile {
    fn from(exits: &ExitFacts) -> Self {
        let tree = |(chain, tree): (&ChainId, &ExitTree)| TreeFile {
            chain_id: U64::from(*chain),
            frontier: tree.frontier().to_vec(),
            count: tree.count(),
        };
        let balance = |((chain, network, token), amount): (&(ChainId, u32, Address), &U256)| BalanceFile {
            chain_id: U64::from(*chain),
            network: *network,
            token: *token,
            amount: *amount,
        };
        Self {
            trees: exits.trees.iter().map(tree).collect(),
            mainnet_exit_root: exits.mainnet_exit_root,
            exit_roots: exits.exit_roots.clone(),
            balances: exits.balances.iter().map(balance).collect(),
            same_slot_claims: exits.same_slot_claims.iter().map(|chain| U64::from(*chain)).collect(),
        }
    }
}

impl ExitsFile {
    fn exits(&self) -> Result<ExitFacts, Wrong> {
        let mut exits = ExitFacts {
            mainnet_exit_root: self.mainnet_exit_root,
            exit_roots: self.exit_roots.clone(),
            same_slot_claims: self.same_slot_claims.iter().map(|chain| chain.to()).collect(),
            ..ExitFacts::default()
        };
        for (index, tree) in self.trees.iter().enumerate() {
            let place = format!("exits.trees[{index}]");
            let frontier = siblings(&tree.frontier).map_err(|cause| (format!("{place}.frontier"), cause))?;
            once(exits.trees.entry(tree.chain_id.to()), ExitTree::from_frontier(frontier, tree.count), place)?;
        }
        for (index, balance) in self.balances.iter().enumerate() {
            let key = (balance.chain_id.to(), balance.network, balance.token);
            once(exits.balances.entry(key), balance.amount, format!("exits.balances[{index}]"))?;
        }
        Ok(exits)
    }
}

#[cfg(test)]
mod tests {
    use lockstep_messaging::{AggLayer, CctpV1, CctpV2, Mailbox, OpInterop, Protocol};
    use serde_json::{Value, json};

    use super::*;

    fn at(message: usize) -> LandedRef {
        LandedRef { chain: 901, tx: B256::repeat_byte(3), message }
    }

    fn landed(protocol: &'static str, evidence: Evidence) -> Result<LandedMessage, Reason> {
        let message = Message {
            protocol,
            id: B256::repeat_byte(9),
            origin: 901,
            destination: Some(902),
            destination_name: "CCTP domain 2".to_owned(),
            restricted_to: Some(Address::repeat_byte(4)),
            payload: Bytes::from_static(b"payload"),
            place: LogPlace { block: 7, timestamp: 8, index: 9 },
        };
        Ok(LandedMessage { message, evidence })
    }

    /// Every kind of evidence, every reason, and everything about exits.
    fn facts() -> Facts {
        let (text, account) = (|| "why".to_owned(), Address::repeat_byte(5));
        let signatures = vec![[7; 65], [8; 65]];
        let proof = ExitProof {
            local: [B256::repeat_byte(1); 32],
            local_exit_root: B256::repeat_byte(2),
            rollup: [B256::repeat_byte(3); 32],
            mainnet_exit_root: B256::repeat_byte(4),
            rollup_exit_root: B256::repeat_byte(5),
        };
        let found = [
            landed("cctp-v2", Evidence::Attestation { payload: Bytes::from_static(b"filled in"), signatures }),
            landed("op-interop", Evidence::Place),
            landed("agglayer", Evidence::Exit(Box::new(proof))),
            Err(Reason::UnknownMessage(text())),
            Err(Reason::EvidencePending(text())),
            Err(Reason::NoEvidence(text())),
            Err(Reason::MalformedMessage(text())),
            Err(Reason::MessageExpired(text())),
            Err(Reason::MessageDelivered(B256::repeat_byte(6))),
            Err(Reason::WrongDestination { destination: text() }),
            Err(Reason::InvalidTransaction(text())),
            Err(Reason::UncertainMessage { origin: Some(901), text: text() }),
            Err(Reason::UncertainMessage { origin: None, text: text() }),
            Err(Reason::NotInDependencySet { origin: 901, destination: 902 }),
            Err(Reason::RestrictedCaller { caller: account, builder: Address::ZERO }),
        ];
        let place = LogPlace { block: 7, timestamp: 8, index: 9 };
        let mut tree = ExitTree::default();
        tree.append(B256::repeat_byte(1)).unwrap();
        Facts {
            landed: found.into_iter().enumerate().map(|(message, found)| (at(message), found)).collect(),
            orphans: vec![at(1), at(0)],
            logs: BTreeMap::from([((901, 7, 9), KnownLog { address: account, payload_hash: B256::repeat_byte(8), place })]),
            exits: ExitFacts {
                trees: BTreeMap::from([(901, tree), (902, ExitTree::default())]),
                mainnet_exit_root: B256::repeat_byte(1),
                exit_roots: BTreeMap::from([(4, B256::repeat_byte(2))]),
                balances: BTreeMap::from([((902, 1, account), U256::MAX)]),
                same_slot_claims: [902].into_iter().collect(),
            },
        }
    }

    fn written() -> Value {
        serde_json::to_value(FactsFile::new(&facts()).unwrap()).unwrap()
    }

    fn read(file: Value) -> Result<Facts, String> {
        let file: FactsFile = serde_json::from_value(file).map_err(|error| error.to_string())?;
        file.facts().map_err(|(place, cause)| format!("{place}: {cause}"))
    }

    #[test]
    fn facts_are_read_as_they_were_written() {
        assert_eq!(read(written()), Ok(facts()));
        assert_eq!(FactsFile::new(&Facts::default()).unwrap(), FactsFile::default());
    }

    #[test]
    fn every_protocol_can_be_written_down() {
        let names = [
            CctpV1::new(BTreeMap::new()).name(),
            CctpV2::new(BTreeMap::new()).name(),
            OpInterop::new(BTreeMap::new()).name(),
            AggLayer::new(BTreeMap::new()).name(),
            Mailbox::new(BTreeMap::new()).name(),
        ];
        assert_eq!(names, PROTOCOLS);
    }

    #[test]
    fn what_no_file_can_tell_is_not_written_as_something_else() {
        let facts = Facts { landed: BTreeMap::from([(at(0), Err(Reason::RollupNotWon))]), ..Facts::default() };
        let (place, cause) = FactsFile::new(&facts).unwrap_err();
        assert_eq!(place, "landed");
        assert!(cause.ends_with("rollup_not_won"), "{cause}");
    }

    #[test]
    fn facts_that_make_no_sense_are_refused_by_name() {
        let evidence = "/landed/0/found/deliverable/evidence/attestation/signatures";
        for (pointer, value, problem) in [
            (evidence, json!(["0x01"]), "landed[0].evidence: a signature has 65 bytes, not 1"),
            ("/landed/0/found/deliverable/message/protocol", json!("ibc"), "landed[0].message: there is no protocol \"ibc\""),
            ("/landed/1/at/message", json!(0), "landed[1]: it is there twice"),
            ("/landed/3/found/not", json!({ "bad_luck": "why" }), "unknown variant `bad_luck`"),
            ("/exits/trees/0/frontier", json!([]), "exits.trees[0].frontier: an exit tree has 32 levels, not 0"),
            ("/exits/trees/1/chainId", json!("0x385"), "exits.trees[1]: it is there twice"),
        ] {
            let mut file = written();
            *file.pointer_mut(pointer).unwrap() = value;
            let error = read(file).unwrap_err();
            assert!(error.contains(problem), "{pointer}: {error}");
        }
    }
}

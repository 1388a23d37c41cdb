//! What the OP-interop module promises: layouts to the byte, and that nothing is executed which is not certain.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may fail")]

use std::collections::{BTreeMap, BTreeSet};

use abi::{ExecutingMessage, RelayedMessage, SentMessage, relayMessageCall};
use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_primitives::{Address, B256, Bytes, Log, LogData, U256, b256, keccak256};
use alloy_sol_types::{SolCall, SolEvent, SolValue};
use lockstep_messaging::{
    Demand, Destination, Emitted, Evidence, Facts, InteropDeployment, KnownLog, LogPlace, Message, OpInterop, Protocol, Ran,
    Slot, SlotLogs,
    op_interop::{
        INBOX, Identifier, MESSENGER, access_list,
        graph::{Executing, unresolved},
        payload, payload_hash,
    },
};
use lockstep_primitives::{ChainId, Reason, RollupSet, TxId};
use proptest::prelude::*;

mod abi {
    use alloy_sol_types::sol;

    sol! {
        struct Identifier { address origin; uint256 blockNumber; uint256 logIndex; uint256 timestamp; uint256 chainId; }
        event SentMessage(uint256 indexed destination, address indexed target, uint256 indexed messageNonce, address sender, bytes message);
        event RelayedMessage(uint256 indexed source, uint256 indexed messageNonce, bytes32 indexed messageHash, bytes32 returnDataHash);
        event ExecutingMessage(bytes32 indexed msgHash, Identifier id);
        function relayMessage(Identifier id, bytes sentMessage) external payable returns (bytes);
    }
}

const A: ChainId = 901;
const B: ChainId = 902;
/// Active, but in nobody's dependency set.
const LONER: ChainId = 903;
const NOWHERE: ChainId = 904;
const NOW: u64 = 1_700_000_000;
const ACTIVATED: u64 = NOW - 1_000_000;
const WINDOW: u64 = 604_800;
const ANYONE: Address = Address::repeat_byte(0x77);

fn protocol() -> OpInterop {
    let deployment = |depends_on: &[ChainId]| InteropDeployment {
        depends_on: depends_on.iter().copied().collect(),
        activated_at: ACTIVATED,
        expires_after: WINDOW,
    };
    OpInterop::new([(A, deployment(&[B])), (B, deployment(&[A])), (LONER, deployment(&[]))].into())
}

fn place(index: u64) -> LogPlace {
    LogPlace { block: 100, timestamp: NOW, index }
}

/// The logs of open blocks, by rollup.
#[derive(Debug, Default)]
struct Logs(BTreeMap<ChainId, Vec<(LogPlace, Log)>>);

impl Logs {
    fn with(mut self, chain: ChainId, index: u64, log: Log) -> Self {
        self.0.entry(chain).or_default().push((place(index), log));
        self
    }
}

impl SlotLogs for Logs {
    fn logs(&self, chain: ChainId) -> Option<Vec<Emitted<'_>>> {
        let logs = self.0.get(&chain)?;
        Some(logs.iter().map(|(place, log)| Emitted { log, place: *place, tx: TxId::Deposit(B256::ZERO), in_tx: 0 }).collect())
    }

    fn chains(&self) -> Vec<ChainId> {
        self.0.keys().copied().collect()
    }
}

fn sent(destination: ChainId, nonce: u64) -> Log {
    let event = SentMessage {
        destination: U256::from(destination),
        target: Address::repeat_byte(2),
        messageNonce: U256::from(nonce),
        sender: Address::repeat_byte(1),
        message: Bytes::from_static(b"hello"),
    };
    Log { address: MESSENGER, data: event.encode_log_data() }
}

/// Any log is a message to the inbox.
fn plain(text: &'static [u8]) -> Log {
    Log { address: ANYONE, data: LogData::new_unchecked(vec![B256::repeat_byte(9)], Bytes::from_static(text)) }
}

fn identifier(chain: ChainId, place: LogPlace, log: &Log) -> Identifier {
    Identifier::new(log.address, U256::from(chain), place).unwrap()
}

fn executing(id: &Identifier, payload_hash: B256) -> Log {
    let id = abi::Identifier {
        origin: id.origin,
        blockNumber: U256::from(id.block_number),
        logIndex: U256::from(id.log_index),
        timestamp: U256::from(id.timestamp),
        chainId: id.chain_id,
    };
    Log { address: INBOX, data: ExecutingMessage { msgHash: payload_hash, id }.encode_log_data() }
}

fn declared(keys: Vec<B256>) -> AccessList {
    AccessList(vec![AccessListItem { address: INBOX, storage_keys: keys }])
}

/// What becomes of a transaction on `chain` that executes `log` and declares it.
fn execute(chain: ChainId, id: &Identifier, hash: B256, facts: &Facts, logs: &Logs, at: LogPlace) -> Result<RollupSet, Reason> {
    let list = declared(access_list::encode(id, hash));
    let log = executing(id, hash);
    let emitted = [Emitted { log: &log, place: at, tx: TxId::Deposit(B256::ZERO), in_tx: 0 }];
    let ran = Ran { access_list: Some(&list), logs: &emitted, timestamp: at.timestamp };
    protocol().check_transaction(chain, &ran, &Slot { facts, logs })
}

fn to(chain: ChainId, timestamp: u64) -> Destination {
    Destination { chain, number: 55, timestamp, beneficiary: Address::ZERO, builder: Address::repeat_byte(0xb) }
}

fn message(logs: &Logs, chain: ChainId, index: usize) -> Message {
    let logs = logs.logs(chain).unwrap();
    protocol().recognise(chain, &logs[index]).unwrap().unwrap()
}

#[test]
fn the_published_vectors_of_lookup_and_checksum_hold() {
    let id =
        Identifier { origin: MESSENGER, block_number: 100, log_index: 7, timestamp: 1_700_000_000, chain_id: U256::from(901) };
    let keys = access_list::encode(&id, B256::repeat_byte(0x11));
    assert_eq!(
        keys,
        [
            b256!("0100000000000000000003850000000000000064000000006553f10000000007"),
            b256!("0355150a7129a747df9f176174f8e40719d450fd25bc3f145509d8bb2dc1a0a8"),
        ]
    );
}

#[test]
fn the_published_topics_and_selectors_hold() {
    assert_eq!(SentMessage::SIGNATURE_HASH, b256!("382409ac69001e11931a28435afef442cbfd20d9891907e8fa373ba7d351f320"));
    assert_eq!(RelayedMessage::SIGNATURE_HASH, b256!("c270d73e26d2d39dee7ef92093555927e344e243415547ecc350b2b5385b68a2"));
    assert_eq!(ExecutingMessage::SIGNATURE_HASH, b256!("5c37832d2e8d10e346e55ad62071a6a2f9fa5130614ef2ec6617555c6f467ba7"));
    assert_eq!(relayMessageCall::SELECTOR, [0x8d, 0x1d, 0x29, 0x8f]);
}

#[test]
fn a_sent_message_is_named_by_the_hash_that_the_messenger_gives_it() {
    let logs = Logs::default().with(A, 3, sent(B, 5));
    let message = message(&logs, A, 0);
    let hashed = (
        U256::from(B),
        U256::from(A),
        U256::from(5),
        Address::repeat_byte(1),
        Address::repeat_byte(2),
        Bytes::from_static(b"hello"),
    );
    assert_eq!(message.id, keccak256(hashed.abi_encode_params()));
    assert_eq!((message.origin, message.destination, message.place), (A, Some(B), place(3)));
    assert_eq!(message.payload, payload(&sent(B, 5)));
    assert_eq!(protocol().receipt(&message, None), Some(message.id));
    let relayed = RelayedMessage {
        source: U256::from(A),
        messageNonce: U256::from(5),
        messageHash: message.id,
        returnDataHash: B256::ZERO,
    };
    assert_eq!(protocol().delivered(B, &Log { address: MESSENGER, data: relayed.encode_log_data() }), Some(message.id));
    assert_eq!(protocol().delivered(NOWHERE, &Log { address: MESSENGER, data: relayed.encode_log_data() }), None);
}

#[test]
fn a_relay_presents_the_place_and_declares_exactly_it() {
    let logs = Logs::default().with(A, 3, sent(B, 5));
    let facts = Facts::default();
    let message = message(&logs, A, 0);
    let demand = protocol().demand(&message, &to(B, NOW), &Slot { facts: &facts, logs: &logs }).unwrap();
    let Demand::Derived(evidence) = demand else { panic!("nobody attests") };
    let calls = protocol().deliver(&message, &evidence, &to(B, NOW)).unwrap();
    let call = relayMessageCall::abi_decode(&calls[0].data).unwrap();
    assert_eq!(calls[0].to, MESSENGER);
    assert_eq!((call.id.blockNumber, call.id.logIndex), (U256::from(100), U256::from(3)));
    assert_eq!((call.id.timestamp, call.id.chainId), (U256::from(NOW), U256::from(A)));
    assert_eq!(call.sentMessage, message.payload);
    let id = identifier(A, place(3), &sent(B, 5));
    assert_eq!(calls[0].access_list, declared(access_list::encode(&id, payload_hash(&sent(B, 5)))));
}

#[test]
fn a_message_that_is_not_at_its_place_is_not_delivered() {
    let logs = Logs::default().with(A, 3, sent(B, 5));
    let facts = Facts::default();
    let slot = Slot { facts: &facts, logs: &logs };
    let moved = Message { place: place(4), ..message(&logs, A, 0) };
    assert_eq!(protocol().demand(&moved, &to(B, NOW), &slot).unwrap_err().code(), "uncertain_message");
    let nothing = Logs::default();
    let slot = Slot { facts: &facts, logs: &nothing };
    assert_eq!(protocol().demand(&message(&logs, A, 0), &to(B, NOW), &slot).unwrap_err().code(), "uncertain_message");
}

#[test]
fn only_chains_of_the_dependency_set_are_executed() {
    let logs = Logs::default().with(LONER, 0, sent(B, 1)).with(A, 0, sent(LONER, 1)).with(A, 1, sent(NOWHERE, 1));
    let facts = Facts::default();
    let slot = Slot { facts: &facts, logs: &logs };
    let code = |message: &Message, chain| protocol().demand(message, &to(chain, NOW), &slot).unwrap_err().code();
    assert_eq!(code(&message(&logs, LONER, 0), B), "not_in_dependency_set");
    assert_eq!(code(&message(&logs, A, 0), LONER), "not_in_dependency_set");
    let nowhere = message(&logs, A, 1);
    assert_eq!((nowhere.destination, code(&nowhere, NOWHERE)), (None, "uncertain_message"));
}

#[test]
fn a_message_can_be_executed_from_its_own_timestamp_on_and_strictly_within_its_window() {
    let logs = Logs::default().with(A, 3, sent(B, 5));
    let message = message(&logs, A, 0);
    let code = |timestamp| protocol().deliver(&message, &Evidence::Place, &to(B, timestamp)).map(drop).map_err(|why| why.code());
    assert_eq!(code(NOW - 1), Err("uncertain_message"));
    assert_eq!(code(NOW), Ok(()));
    assert_eq!(code(NOW + WINDOW - 1), Ok(()));
    assert_eq!(code(NOW + WINDOW), Err("message_expired"));
}

#[test]
fn the_block_that_activates_interop_sends_and_executes_nothing() {
    let log = sent(B, 5);
    let at = LogPlace { timestamp: ACTIVATED, ..place(0) };
    let emitted = Emitted { log: &log, place: at, tx: TxId::Deposit(B256::ZERO), in_tx: 0 };
    let message = protocol().recognise(A, &emitted).unwrap().unwrap();
    let refused = protocol().deliver(&message, &Evidence::Place, &to(B, ACTIVATED + 1)).unwrap_err();
    assert_eq!(refused.code(), "uncertain_message");
    let later = Message { place: LogPlace { timestamp: ACTIVATED + 1, ..at }, ..message };
    assert!(protocol().deliver(&later, &Evidence::Place, &to(B, ACTIVATED + 1)).is_ok());
}

#[test]
fn a_users_execution_of_a_log_of_the_slot_passes_and_names_its_origin() {
    let log = plain(b"any log");
    let logs = Logs::default().with(A, 4, log.clone());
    let id = identifier(A, place(4), &log);
    let origins = execute(B, &id, payload_hash(&log), &Facts::default(), &logs, place(0)).unwrap();
    assert_eq!(origins, RollupSet::from([A]));
}

#[test]
fn a_users_execution_of_a_known_log_passes_and_depends_on_no_block_of_the_slot() {
    let log = plain(b"any log");
    let at = LogPlace { block: 90, timestamp: NOW - 20, index: 2 };
    let known = KnownLog { address: ANYONE, payload_hash: payload_hash(&log), place: at };
    let facts = Facts { logs: [((A, 90, 2), known)].into(), ..Facts::default() };
    let id = identifier(A, at, &log);
    assert_eq!(execute(B, &id, payload_hash(&log), &facts, &Logs::default(), place(0)), Ok(RollupSet::new()));
    let early = Identifier { timestamp: NOW - 19, ..id };
    let refused = execute(B, &early, payload_hash(&log), &facts, &Logs::default(), place(0)).unwrap_err();
    assert_eq!(refused.code(), "uncertain_message", "a wrong timestamp");
}

#[test]
fn every_field_of_an_identifier_has_to_be_right() {
    let log = plain(b"any log");
    let logs = Logs::default().with(A, 4, log.clone()).with(A, 5, plain(b"another log"));
    let id = identifier(A, place(4), &log);
    let hash = payload_hash(&log);
    let wrong = [
        Identifier { origin: MESSENGER, ..id },
        Identifier { block_number: 99, ..id },
        Identifier { log_index: 5, ..id },
        Identifier { log_index: 6, ..id },
        Identifier { timestamp: NOW - 1, ..id },
        Identifier { chain_id: U256::from(B), ..id },
        Identifier { chain_id: U256::from(NOWHERE), ..id },
        Identifier { chain_id: U256::MAX, ..id },
    ];
    for id in wrong {
        let refused = execute(B, &id, hash, &Facts::default(), &logs, place(0)).unwrap_err();
        assert_eq!(refused.code(), "uncertain_message", "{id:?}");
    }
    let refused = execute(B, &id, B256::ZERO, &Facts::default(), &logs, place(0)).unwrap_err();
    assert_eq!(refused.code(), "uncertain_message", "another payload");
}

#[test]
fn a_declaration_is_checked_even_when_nothing_was_executed() {
    let log = plain(b"any log");
    let logs = Logs::default().with(A, 4, log.clone());
    let facts = Facts::default();
    let check = |keys: Vec<B256>| {
        let list = declared(keys);
        let ran = Ran { access_list: Some(&list), logs: &[], timestamp: NOW };
        protocol().check_transaction(B, &ran, &Slot { facts: &facts, logs: &logs })
    };
    let keys = access_list::encode(&identifier(A, place(4), &log), payload_hash(&log));
    assert_eq!(check(keys.clone()), Ok(RollupSet::from([A])));
    let mut checksum = keys[1];
    checksum[31] ^= 1;
    assert_eq!(check(vec![keys[0], checksum]).unwrap_err().code(), "uncertain_message", "another checksum");
    assert_eq!(check(vec![keys[0]]).unwrap_err().code(), "uncertain_message", "no checksum");
    assert_eq!(check(vec![keys[1]]).unwrap_err().code(), "uncertain_message", "a checksum alone");
    assert_eq!(check(vec![B256::ZERO]).unwrap_err().code(), "uncertain_message", "no known kind");
}

#[test]
fn an_executing_log_where_interop_is_not_configured_is_refused() {
    let log = plain(b"any log");
    let logs = Logs::default().with(A, 4, log.clone());
    let id = identifier(A, place(4), &log);
    let refused = execute(NOWHERE, &id, payload_hash(&log), &Facts::default(), &logs, place(0)).unwrap_err();
    assert_eq!(refused.code(), "uncertain_message");
    let nowhere = OpInterop::new(BTreeMap::new());
    let executed = executing(&id, payload_hash(&log));
    let emitted = [Emitted { log: &executed, place: place(0), tx: TxId::Deposit(B256::ZERO), in_tx: 0 }];
    let ran = Ran { access_list: None, logs: &emitted, timestamp: NOW };
    let refused = nowhere.check_transaction(A, &ran, &Slot { facts: &Facts::default(), logs: &logs }).unwrap_err();
    assert_eq!(refused.code(), "uncertain_message");
}

#[test]
fn on_one_chain_a_log_is_executed_after_it_is_there() {
    let log = plain(b"any log");
    let logs = Logs::default().with(A, 4, log.clone());
    let id = identifier(A, place(4), &log);
    let hash = payload_hash(&log);
    assert_eq!(execute(A, &id, hash, &Facts::default(), &logs, place(5)), Ok(RollupSet::new()));
    assert_eq!(execute(A, &id, hash, &Facts::default(), &logs, place(3)).unwrap_err().code(), "message_cycle");
}

#[test]
fn keys_of_a_chain_id_beyond_64_bits_carry_an_extension() {
    let id = Identifier { origin: ANYONE, block_number: 1, log_index: 2, timestamp: 3, chain_id: U256::MAX };
    let keys = access_list::encode(&id, B256::ZERO);
    assert_eq!(keys.len(), 3);
    assert_eq!((keys[0][0], keys[1][0], keys[2][0]), (1, 2, 3));
    let read = access_list::decode(&declared(keys.clone())).unwrap();
    assert_eq!((read[0].chain_id, read[0].place, read[0].checksum), (U256::MAX, id.place(), keys[2]));
    for order in [[1, 0, 2], [0, 2, 1], [2, 0, 1]] {
        let mixed = order.map(|index| keys[index]).to_vec();
        assert!(access_list::decode(&declared(mixed)).is_err(), "{order:?}");
    }
}

fn node(index: u64, origin: ChainId, init: u64) -> Executing {
    Executing { index, origin, init }
}

#[test]
fn messages_go_both_ways_at_one_timestamp() {
    // A sends at 0, B executes it at 1 and sends at 2, A executes that at 1.
    let blocks = BTreeMap::from([(A, vec![node(1, B, 2)]), (B, vec![node(1, A, 0)])]);
    assert_eq!(unresolved(&blocks), []);
}

#[test]
fn messages_that_wait_for_each_other_are_a_circle_and_bystanders_are_none() {
    // A executes at 0 what B sends at 2, after B executed at 1 what A sends at 1.
    let blocks =
        BTreeMap::from([(A, vec![node(0, B, 2)]), (B, vec![node(1, A, 1)]), (LONER, vec![node(4, A, 9), node(5, NOWHERE, 0)])]);
    let found: BTreeSet<(ChainId, u64)> = unresolved(&blocks).into_iter().collect();
    assert!(found.is_superset(&[(A, 0), (B, 1)].into()), "{found:?}");
    let bystander = BTreeMap::from([(A, vec![node(0, B, 2)]), (B, vec![node(1, A, 1)]), (LONER, vec![node(5, NOWHERE, 0)])]);
    assert_eq!(unresolved(&bystander), [(A, 0), (B, 1)]);
}

#[test]
fn a_log_that_executes_itself_or_a_later_one_of_its_chain_is_a_circle() {
    assert_eq!(unresolved(&BTreeMap::from([(A, vec![node(3, A, 3)])])), [(A, 3)]);
    assert_eq!(unresolved(&BTreeMap::from([(A, vec![node(3, A, 7)])])), [(A, 3)]);
    assert_eq!(unresolved(&BTreeMap::from([(A, vec![node(3, A, 2)])])), []);
}

#[test]
fn three_chains_can_wait_in_a_circle() {
    let circle = BTreeMap::from([(A, vec![node(0, B, 1)]), (B, vec![node(0, LONER, 1)]), (LONER, vec![node(0, A, 1)])]);
    assert_eq!(unresolved(&circle).len(), 3);
    let chain = BTreeMap::from([(A, vec![node(2, B, 1)]), (B, vec![node(0, LONER, 1)]), (LONER, vec![node(0, A, 1)])]);
    assert_eq!(unresolved(&chain), []);
}

#[test]
fn thousands_of_messages_that_each_come_after_another_are_no_circle() {
    // All execute what is sent at 0; with the last one executing itself only that one is stuck.
    let count = 50_000;
    let mut blocks = BTreeMap::from([(A, (1..=count).map(|index| node(index, A, 0)).collect::<Vec<_>>())]);
    assert_eq!(unresolved(&blocks), []);
    blocks.entry(A).or_default().push(node(count + 1, A, count + 1));
    assert_eq!(unresolved(&blocks), [(A, count + 1)]);
}

#[test]
fn a_circle_in_the_open_blocks_is_refused_by_name() {
    let a = plain(b"sent on A");
    let b = plain(b"sent on B");
    let logs = |first_on_a: bool| {
        let on_b = identifier(B, place(1), &b);
        let on_a = identifier(A, place(if first_on_a { 0 } else { 1 }), &a);
        let executes_b = executing(&on_b, payload_hash(&b));
        let executes_a = executing(&on_a, payload_hash(&a));
        let logs = Logs::default().with(B, 0, executes_a).with(B, 1, b.clone());
        if first_on_a {
            logs.with(A, 0, a.clone()).with(A, 1, executes_b)
        } else {
            logs.with(A, 0, executes_b).with(A, 1, a.clone())
        }
    };
    let facts = Facts::default();
    assert!(protocol().check_slot(&Slot { facts: &facts, logs: &logs(true) }).is_ok());
    let refused = protocol().check_slot(&Slot { facts: &facts, logs: &logs(false) }).unwrap_err();
    assert_eq!(refused.reason.code(), "message_cycle");
}

/// The older check: every log is a node that waits for the one before it, and an executing one for its initiating log
/// (op-supervisor).
fn has_circle_over_logs(blocks: &BTreeMap<ChainId, Vec<Executing>>, length: u64) -> bool {
    let nodes: Vec<(ChainId, u64)> =
        [A, B, LONER].into_iter().flat_map(|chain| (0..length).map(move |index| (chain, index))).collect();
    let mut open: BTreeSet<(ChainId, u64)> = nodes.into_iter().collect();
    loop {
        let free: Vec<(ChainId, u64)> = open
            .iter()
            .copied()
            .filter(|(chain, index)| {
                let before = index.checked_sub(1).is_some_and(|before| open.contains(&(*chain, before)));
                let executes = blocks.get(chain).into_iter().flatten().find(|message| message.index == *index);
                !before && !executes.is_some_and(|message| open.contains(&(message.origin, message.init)))
            })
            .collect();
        if free.is_empty() {
            return !open.is_empty();
        }
        for node in free {
            open.remove(&node);
        }
    }
}

proptest! {
    #[test]
    fn both_known_checks_agree_on_circles(
        marks in proptest::collection::vec((0_usize..3, 0_u64..6, 0_usize..3, 0_u64..6), 0..8),
    ) {
        let chains = [A, B, LONER];
        let mut blocks: BTreeMap<ChainId, Vec<Executing>> = BTreeMap::new();
        for (chain, index, origin, init) in marks {
            let messages = blocks.entry(chains[chain]).or_default();
            if messages.iter().all(|message| message.index != index) {
                messages.push(node(index, chains[origin], init));
                messages.sort_by_key(|message| message.index);
            }
        }
        prop_assert_eq!(!unresolved(&blocks).is_empty(), has_circle_over_logs(&blocks, 6));
    }

    #[test]
    fn what_is_declared_is_read_back(
        origin in any::<[u8; 20]>(), block_number in any::<u64>(), log_index in any::<u32>(), timestamp in any::<u64>(),
        low in any::<u64>(), high in prop_oneof![Just(U256::ZERO), any::<[u8; 32]>().prop_map(U256::from_be_bytes)],
        hash in any::<[u8; 32]>(),
    ) {
        let chain_id = if high.is_zero() { U256::from(low) } else { high };
        let id = Identifier { origin: origin.into(), block_number, log_index, timestamp, chain_id };
        let read = access_list::decode(&declared(access_list::encode(&id, hash.into()))).unwrap();
        prop_assert_eq!(read.len(), 1);
        prop_assert_eq!((read[0].chain_id, read[0].place), (chain_id, id.place()));
        prop_assert_eq!(read[0].checksum, id.checksum(hash.into()));
    }

    #[test]
    fn arbitrary_bytes_break_nothing(
        topics in proptest::collection::vec(any::<[u8; 32]>(), 0..5), data in proptest::collection::vec(any::<u8>(), 0..300),
        keys in proptest::collection::vec(any::<[u8; 32]>(), 0..5), known in 0_usize..4,
    ) {
        let mut topics: Vec<B256> = topics.into_iter().map(B256::from).collect();
        let signatures = [SentMessage::SIGNATURE_HASH, ExecutingMessage::SIGNATURE_HASH, RelayedMessage::SIGNATURE_HASH];
        if let (Some(first), Some(signature)) = (topics.first_mut(), signatures.get(known)) {
            *first = *signature;
        }
        let facts = Facts::default();
        for address in [INBOX, MESSENGER] {
            let log = Log { address, data: LogData::new_unchecked(topics.clone(), data.clone().into()) };
            let emitted = [Emitted { log: &log, place: place(0), tx: TxId::Deposit(B256::ZERO), in_tx: 0 }];
            let logs = Logs::default().with(A, 0, log.clone());
            let slot = Slot { facts: &facts, logs: &logs };
            if let Some(Ok(message)) = protocol().recognise(A, &emitted[0]) {
                let _ = protocol().demand(&message, &to(B, NOW), &slot);
                let _ = protocol().deliver(&message, &Evidence::Place, &to(B, NOW));
            }
            let _ = protocol().delivered(A, &log);
            let _ = protocol().check_slot(&slot);
            let list = declared(keys.iter().copied().map(B256::from).collect());
            let ran = Ran { access_list: Some(&list), logs: &emitted, timestamp: NOW };
            let checked = protocol().check_transaction(A, &ran, &slot);
            prop_assert!(keys.is_empty() || checked.is_err(), "arbitrary keys declare nothing that is there");
        }
    }
}

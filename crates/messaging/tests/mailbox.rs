//! What the mailbox module promises: a message is what its key says, is delivered with exactly what was written, and only
//! while it is where it was seen.

use std::collections::BTreeMap;

use abi::{MailboxDelivered, MailboxWritten, putInboxCall};
use alloy_primitives::{Address, B256, Bytes, Log, LogData, U256, keccak256};
use alloy_sol_types::{SolCall, SolEvent};
use lockstep_messaging::{
    Demand, Destination, Emitted, Evidence, Facts, LogPlace, Mailbox, MailboxDeployment, Message, Protocol, Slot, SlotLogs,
};
use lockstep_primitives::{ChainId, TxId};
use proptest::prelude::*;

mod abi {
    use alloy_sol_types::sol;

    sol! {
        event MailboxWritten(bytes32 indexed key, uint256 indexed destinationChain, address indexed sender, address receiver, uint256 session, bytes label, bytes data);
        event MailboxDelivered(bytes32 indexed key, uint256 indexed sourceChain, address indexed receiver, bytes data);
        function putInbox(uint256 sourceChain, address sender, address receiver, uint256 session, bytes label, bytes data) external returns (bytes32 key);
    }
}

const SOURCE: ChainId = 10;
const DESTINATION: ChainId = 20;
const SENDER: Address = Address::repeat_byte(0x5e);
const RECEIVER: Address = Address::repeat_byte(0x4e);
const SOURCE_MAILBOX: Address = Address::repeat_byte(0xa1);
const DESTINATION_MAILBOX: Address = Address::repeat_byte(0xa2);

fn protocol() -> Mailbox {
    let at = |mailbox| MailboxDeployment { mailbox };
    Mailbox::new([(SOURCE, at(SOURCE_MAILBOX)), (DESTINATION, at(DESTINATION_MAILBOX))].into())
}

fn word(number: u64) -> [u8; 32] {
    U256::from(number).to_be_bytes()
}

/// The key of a message with the label "transfer", put together word by word as `abi.encode` lays it out.
fn key(source: u64, destination: u64) -> B256 {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&word(source));
    bytes.extend_from_slice(&word(destination));
    bytes.extend_from_slice(SENDER.into_word().as_slice());
    bytes.extend_from_slice(RECEIVER.into_word().as_slice());
    bytes.extend_from_slice(&word(77));
    bytes.extend_from_slice(&word(6 * 32));
    bytes.extend_from_slice(&word(8));
    bytes.extend_from_slice(b"transfer");
    bytes.extend_from_slice(&[0; 24]);
    keccak256(bytes)
}

fn written(destination: u64, key: B256, data: &[u8]) -> Log {
    let event = MailboxWritten {
        key,
        destinationChain: U256::from(destination),
        sender: SENDER,
        receiver: RECEIVER,
        session: U256::from(77),
        label: Bytes::from_static(b"transfer"),
        data: data.to_vec().into(),
    };
    Log { address: SOURCE_MAILBOX, data: event.encode_log_data() }
}

fn letter() -> Log {
    written(DESTINATION, key(SOURCE, DESTINATION), b"what was written")
}

fn emitted(log: &Log, index: usize) -> Emitted<'_> {
    let place = LogPlace { block: 7, timestamp: 100, index: index as u64 };
    Emitted { log, place, tx: TxId::Deposit(B256::ZERO), in_tx: index }
}

fn recognised(log: &Log, index: usize) -> Message {
    protocol().recognise(SOURCE, &emitted(log, index)).expect("it is a message").expect("it is well-formed")
}

fn at(chain: ChainId) -> Destination {
    Destination { chain, number: 9, timestamp: 100, beneficiary: Address::ZERO, builder: Address::repeat_byte(0xbb) }
}

#[derive(Debug, Default)]
struct Logs(BTreeMap<ChainId, Vec<Log>>);

impl SlotLogs for Logs {
    fn logs(&self, chain: ChainId) -> Option<Vec<Emitted<'_>>> {
        Some(self.0.get(&chain)?.iter().enumerate().map(|(index, log)| emitted(log, index)).collect())
    }

    fn chains(&self) -> Vec<ChainId> {
        self.0.keys().copied().collect()
    }
}

#[test]
fn a_message_is_named_by_its_key() {
    let message = recognised(&letter(), 0);
    assert_eq!(message.id, key(SOURCE, DESTINATION));
    assert_eq!((message.origin, message.destination, message.restricted_to), (SOURCE, Some(DESTINATION), None));
    let elsewhere = recognised(&written(99, key(SOURCE, 99), b""), 0);
    assert_eq!((elsewhere.destination, elsewhere.destination_name.as_str()), (None, "chain 99"));
}

#[test]
fn a_delivery_is_that_of_the_message_with_its_key() {
    let message = recognised(&letter(), 0);
    let event = MailboxDelivered {
        key: message.id,
        sourceChain: U256::from(SOURCE),
        receiver: RECEIVER,
        data: Bytes::from_static(b"what was written"),
    };
    let mut log = Log { address: DESTINATION_MAILBOX, data: event.encode_log_data() };
    assert_eq!(protocol().delivered(DESTINATION, &log), protocol().receipt(&message, None));
    assert_eq!(protocol().receipt(&message, None), Some(message.id));
    assert_eq!(protocol().delivered(99, &log), None);
    log.address = SOURCE_MAILBOX;
    assert_eq!(protocol().delivered(DESTINATION, &log), None);
}

#[test]
fn what_was_written_is_delivered_word_for_word() {
    let message = recognised(&letter(), 0);
    let calls = protocol().deliver(&message, &Evidence::Place, &at(DESTINATION)).unwrap();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].to, DESTINATION_MAILBOX);
    let call = putInboxCall::abi_decode(&calls[0].data).unwrap();
    assert_eq!((call.sourceChain, call.sender, call.receiver), (U256::from(SOURCE), SENDER, RECEIVER));
    assert_eq!((call.session, call.label.as_ref()), (U256::from(77), &b"transfer"[..]));
    assert_eq!(call.data.as_ref(), b"what was written");
    // Data is stored: each word more of it is a new storage slot.
    let long = recognised(&written(DESTINATION, key(SOURCE, DESTINATION), &[7; 320]), 0);
    let longer = protocol().deliver(&long, &Evidence::Place, &at(DESTINATION)).unwrap();
    assert!(longer[0].gas >= calls[0].gas + 9 * 22_100);
}

#[test]
fn a_key_that_its_fields_do_not_make_is_refused() {
    let wrong = [
        written(DESTINATION, B256::repeat_byte(1), b""),
        // As if another rollup had emitted it.
        written(DESTINATION, key(DESTINATION, SOURCE), b""),
        written(SOURCE, key(SOURCE, SOURCE), b""),
    ];
    for log in wrong {
        let refused = protocol().recognise(SOURCE, &emitted(&log, 0)).unwrap().unwrap_err();
        assert_eq!(refused.code(), "malformed_message");
    }
}

#[test]
fn what_is_not_the_mailboxs_is_not_seen_and_what_is_broken_is_named() {
    let mut foreign = letter();
    foreign.address = Address::ZERO;
    assert!(protocol().recognise(SOURCE, &emitted(&foreign, 0)).is_none());
    assert!(protocol().recognise(99, &emitted(&letter(), 0)).is_none());
    let letter = letter();
    let few = LogData::new_unchecked(letter.topics()[..3].to_vec(), letter.data.data.clone());
    let short = LogData::new_unchecked(letter.topics().to_vec(), letter.data.data.slice(..64));
    for data in [few, short] {
        let log = Log { address: SOURCE_MAILBOX, data };
        let refused = protocol().recognise(SOURCE, &emitted(&log, 0)).unwrap().unwrap_err();
        assert_eq!(refused.code(), "malformed_message");
    }
}

#[test]
fn a_message_is_vouched_for_only_where_it_was_seen() {
    let facts = Facts::default();
    let other = Log { address: SENDER, data: letter().data };
    let message = recognised(&letter(), 1);
    let demand = |message: &Message, to: ChainId, logs: &Logs| protocol().demand(message, &at(to), &Slot { facts: &facts, logs });
    let seen = Logs([(SOURCE, vec![other.clone(), letter()])].into());
    assert_eq!(demand(&message, DESTINATION, &seen), Ok(Demand::Derived(Evidence::Place)));
    let elsewhere = demand(&message, SOURCE, &seen).unwrap_err();
    assert_eq!(elsewhere.code(), "wrong_destination");

    let changed = written(DESTINATION, key(SOURCE, DESTINATION), b"what was not written");
    for logs in [vec![letter(), other.clone()], vec![other.clone(), changed], vec![other.clone(), other], vec![]] {
        let logs = Logs([(SOURCE, logs)].into());
        assert_eq!(demand(&message, DESTINATION, &logs).unwrap_err().code(), "no_evidence");
    }
    assert_eq!(demand(&message, DESTINATION, &Logs::default()).unwrap_err().code(), "no_evidence");
}

#[test]
fn evidence_of_another_kind_is_refused() {
    let message = recognised(&letter(), 0);
    let attested = Evidence::Attestation { payload: message.payload.clone(), signatures: Vec::new() };
    let refused = protocol().deliver(&message, &attested, &at(DESTINATION)).unwrap_err();
    assert_eq!(refused.code(), "no_evidence");
    let elsewhere = protocol().deliver(&message, &Evidence::Place, &at(SOURCE)).unwrap_err();
    assert_eq!(elsewhere.code(), "wrong_destination");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_flipped_bit_in_what_names_a_message_is_refused(byte in 0..192_usize, bit in 0..8) {
        // Topics, receiver, session: everything before the offsets of label and data.
        let mut message = recognised(&letter(), 0);
        let mut payload = message.payload.to_vec();
        payload[byte] ^= 1_u8 << bit;
        message.payload = payload.into();
        prop_assert!(protocol().deliver(&message, &Evidence::Place, &at(DESTINATION)).is_err());
    }

    #[test]
    fn any_data_crosses_unchanged(data in proptest::collection::vec(any::<u8>(), 0..400)) {
        let message = recognised(&written(DESTINATION, key(SOURCE, DESTINATION), &data), 0);
        let calls = protocol().deliver(&message, &Evidence::Place, &at(DESTINATION)).unwrap();
        let call = putInboxCall::abi_decode(&calls[0].data).unwrap();
        prop_assert_eq!(call.data.as_ref(), data.as_slice());
    }

    #[test]
    fn no_bytes_make_it_panic(
        data in proptest::collection::vec(any::<u8>(), 0..500),
        topics in proptest::collection::vec(any::<[u8; 32]>(), 0..4),
        delivered: bool,
    ) {
        let signature = if delivered { MailboxDelivered::SIGNATURE_HASH } else { MailboxWritten::SIGNATURE_HASH };
        let topics = [signature].into_iter().chain(topics.into_iter().map(B256::new)).collect();
        let log = Log { address: SOURCE_MAILBOX, data: LogData::new_unchecked(topics, data.clone().into()) };
        let _ = protocol().recognise(SOURCE, &emitted(&log, 0));
        let _ = protocol().delivered(SOURCE, &log);
        let message = Message { payload: data.into(), ..recognised(&letter(), 0) };
        prop_assert!(protocol().deliver(&message, &Evidence::Place, &at(DESTINATION)).is_err());
    }
}

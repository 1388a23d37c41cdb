//! What OP interop lets a transaction execute, and how it is declared.

use alloy::eips::eip2930::{AccessList, AccessListItem};
use alloy_primitives::{Address, B256, Log, U256, keccak256};
use alloy_sol_types::SolEvent;
use lockstep_messaging::{
    Facts, KnownLog, LogPlace, OpInterop, Protocol, Ran, Slot,
    op_interop::{INBOX, Identifier, access_list as declaration, payload_hash},
};
use lockstep_primitives::{Reason, RollupSet};

use super::{
    abi::{self, ExecutingMessage},
    logs,
    rollups::{ACTIVATED, DESTINATION, Logs, NOW, ORIGIN, WINDOW, emitted, interop},
    source::Source,
};

/// Most items of one access list.
const MOST_ITEMS: usize = 40;

/// Executes a log of the origin on the destination, whatever log it is and wherever it stands.
///
/// The identifier goes through its access list and back. It may be executed exactly inside the window after activation, when
/// the log is in the open blocks or known from before, and when it is declared. With one bit changed in where the log is, whose
/// it is or what it says, nothing is executed.
pub fn identifier(data: &[u8]) {
    let mut source = Source::new(data);
    let log = logs::anybodys(&mut source);
    // Around the ends of the window, which one byte reaches; or anywhere.
    let sent = if source.coin() { source.u64() } else { ACTIVATED - 8 + u64::from(source.byte()) };
    let executed = ACTIVATED - 8 + u64::from(source.byte());
    let place = LogPlace { block: source.u64(), timestamp: sent, index: u64::from(source.u32()) };
    let chain_id = if source.coin() { source.u256() } else { U256::from(ORIGIN) };
    let id = Identifier::new(log.address, chain_id, place).expect("the index has 32 bits");
    let hash = payload_hash(&log);
    check_declaration(&id, place, hash);

    let id = Identifier { chain_id: U256::from(ORIGIN), ..id };
    let allowed = sent > ACTIVATED && executed > ACTIVATED && sent <= executed && executed - sent < WINDOW;
    let protocol = interop();
    let known = KnownLog { address: log.address, payload_hash: hash, place };
    let before = Facts { logs: [((ORIGIN, place.block, place.index), known)].into(), ..Facts::default() };
    let nothing = Facts::default();
    let (here, nowhere) = (Logs::of_origin(place, &log), Logs::default());
    let execution = Execution { protocol: &protocol, executed };

    for form in [Form::Both, Form::Declared] {
        let in_slot = execution.run(&id, hash, form, &Slot { facts: &nothing, logs: &here });
        assert_eq!(in_slot.is_ok(), allowed, "sent at {sent}, executed at {executed}: {in_slot:?}");
        assert!(in_slot.is_err() || in_slot == Ok(RollupSet::from([ORIGIN])), "it depends on its origin: {in_slot:?}");
        let landed = execution.run(&id, hash, form, &Slot { facts: &before, logs: &nowhere });
        assert_eq!(landed.is_ok(), allowed, "sent at {sent}, executed at {executed}: {landed:?}");
        assert!(landed.is_err() || landed == Ok(RollupSet::new()), "it depends on no open block: {landed:?}");
        let unknown = execution.run(&id, hash, form, &Slot { facts: &nothing, logs: &nowhere });
        assert!(unknown.is_err(), "a log that nobody knows is executed");
    }
    let silent = execution.run(&id, hash, Form::Executed, &Slot { facts: &nothing, logs: &here });
    assert!(silent.is_err(), "what is not declared is executed");

    let (id, hash) = changed(&mut source, id, hash);
    for form in [Form::Both, Form::Declared] {
        for slot in [Slot { facts: &nothing, logs: &here }, Slot { facts: &before, logs: &nowhere }] {
            assert!(execution.run(&id, hash, form, &slot).is_err(), "a log that is not there is executed: {id:?}, {hash}");
        }
    }
}

/// What is declared is read back, and nothing else has the same checksum's first byte and place.
fn check_declaration(id: &Identifier, place: LogPlace, hash: B256) {
    assert_eq!(id.place(), place);
    let checksum = id.checksum(hash);
    assert_eq!(checksum[0], 3, "the type of checksums");
    let read = declaration::decode(&declared(declaration::encode(id, hash))).expect("what is written is read");
    let [access] = read.as_slice() else { panic!("one message is declared, {read:?} is read") };
    assert_eq!((access.chain_id, access.place, access.checksum), (id.chain_id, place, checksum));
}

/// One bit of an identifier or of what its log says.
fn changed(source: &mut Source<'_>, id: Identifier, hash: B256) -> (Identifier, B256) {
    let bit = source.byte();
    match source.byte() % 6 {
        0 => {
            let mut origin = id.origin;
            source.flip(origin.as_mut_slice());
            (Identifier { origin, ..id }, hash)
        }
        1 => (Identifier { block_number: id.block_number ^ (1 << (bit % 64)), ..id }, hash),
        2 => (Identifier { log_index: id.log_index ^ (1 << (bit % 32)), ..id }, hash),
        3 => (Identifier { timestamp: id.timestamp ^ (1 << (bit % 64)), ..id }, hash),
        4 => (Identifier { chain_id: id.chain_id ^ (U256::ONE << usize::from(bit)), ..id }, hash),
        _ => {
            let mut other = hash;
            source.flip(other.as_mut_slice());
            (id, other)
        }
    }
}

/// How a transaction tells which message it executes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// In its access list.
    Declared,
    /// By the inbox's log.
    Executed,
    /// In both.
    Both,
}

/// A transaction on the destination.
struct Execution<'a> {
    protocol: &'a OpInterop,
    /// Timestamp of its block.
    executed: u64,
}

impl Execution<'_> {
    fn run(&self, id: &Identifier, hash: B256, form: Form, slot: &Slot<'_>) -> Result<RollupSet, Reason> {
        let list = declared(declaration::encode(id, hash));
        let log = executing(id, hash);
        let emitted = [emitted(&log, LogPlace { block: 9, timestamp: self.executed, index: 0 })];
        let ran = Ran {
            access_list: (form != Form::Executed).then_some(&list),
            logs: if form == Form::Declared { &[] } else { &emitted },
            timestamp: self.executed,
        };
        self.protocol.check_transaction(DESTINATION, &ran, slot)
    }
}

fn executing(id: &Identifier, hash: B256) -> Log {
    let id = abi::Identifier {
        origin: id.origin,
        blockNumber: U256::from(id.block_number),
        logIndex: U256::from(id.log_index),
        timestamp: U256::from(id.timestamp),
        chainId: id.chain_id,
    };
    Log { address: INBOX, data: ExecutingMessage { msgHash: hash, id }.encode_log_data() }
}

fn declared(storage_keys: Vec<B256>) -> AccessList {
    AccessList(vec![AccessListItem { address: INBOX, storage_keys }])
}

/// Reads an access list of arbitrary keys, many of which look like what the inbox wants.
///
/// What is read is what is written: it encodes back to the same keys, but for an upper part of a chain id that is zero, which
/// nobody has to write. Whatever is declared, in a slot without logs nothing may be executed.
pub fn access_list(data: &[u8]) {
    let mut source = Source::new(data);
    let mut items: Vec<AccessListItem> = Vec::new();
    while !source.is_empty() && items.len() < MOST_ITEMS {
        let address = if source.byte() % 8 == 7 { source.address() } else { INBOX };
        let storage_keys = (0..=source.index(3)).map(|_| key(&mut source)).collect();
        items.push(AccessListItem { address, storage_keys });
    }
    let list = AccessList(items);
    let inboxes = list.iter().filter(|item| item.address == INBOX);
    let keys: Vec<B256> = inboxes.flat_map(|item| item.storage_keys.iter().copied()).collect();
    assert_eq!(declaration::declares(&list), !keys.is_empty());

    if let Ok(messages) = declaration::decode(&list) {
        let mut written = Vec::new();
        for message in messages {
            let place = message.place;
            let id = Identifier::new(Address::ZERO, message.chain_id, place).expect("a key has 32 bits of an index");
            assert_eq!(message.checksum[0], 3, "the type of checksums");
            written.extend(declaration::encode(&id, keccak256(b"")));
            // The checksum says what the log is, which a list does not.
            written.pop();
            written.push(message.checksum);
        }
        let mut no_upper_part = B256::ZERO;
        no_upper_part[0] = 2;
        let read: Vec<B256> = keys.iter().copied().filter(|key| *key != no_upper_part).collect();
        assert_eq!(written, read, "a list is read as another one than was written");
    }
    let (facts, logs) = (Facts::default(), Logs::default());
    let slot = Slot { facts: &facts, logs: &logs };
    let ran = Ran { access_list: Some(&list), logs: &[], timestamp: NOW };
    let checked = interop().check_transaction(DESTINATION, &ran, &slot);
    assert_eq!(checked.is_ok(), keys.is_empty(), "{checked:?}");
}

/// A storage key: one of the three types with its zeros where they belong, or anything.
fn key(source: &mut Source<'_>) -> B256 {
    let kind = source.byte() % 8;
    let mut key = source.word();
    match kind {
        0 | 1 => key[..4].copy_from_slice(&[1, 0, 0, 0]),
        2 => key[..8].copy_from_slice(&[2, 0, 0, 0, 0, 0, 0, 0]),
        3..=5 => key[0] = 3,
        6 => key[0] %= 4,
        _ => {}
    }
    key
}

//! Logs out of choices: what each protocol's contracts emit, and what they never would.

use alloy_primitives::{Address, B256, Bytes, Log, LogData, U256, keccak256};
use alloy_sol_types::{SolEvent, SolValue};
use lockstep_messaging::op_interop::{INBOX, MESSENGER};

use super::{
    abi::{
        self, BridgeEvent, ClaimEvent, ExecutingMessage, MailboxDelivered, MailboxWritten, MessageSent, RelayedMessage,
        SentMessage,
    },
    rollups::{BRIDGE, BUILDER, DESTINATION, HOOK_WRAPPER, MAILBOX, NOWHERE, ORIGIN, TRANSMITTER_V1, TRANSMITTER_V2, number},
    source::Source,
};

/// Most bytes of a log's data, a message's body and the like: some words more than any of them has in fixed fields.
const MOST_BYTES: usize = 600;
/// One more than a log can have.
const MOST_TOPICS: usize = 5;

/// Any bytes under any topics, by a contract that is listened to.
pub(super) fn raw(source: &mut Source<'_>) -> Log {
    let address = source.pick(&[TRANSMITTER_V1, TRANSMITTER_V2, MESSENGER, INBOX, BRIDGE, MAILBOX, BUILDER]);
    let mut topics: Vec<B256> = (0..source.index(MOST_TOPICS + 1)).map(|_| source.word()).collect();
    let signatures = [
        MessageSent::SIGNATURE_HASH,
        abi::cctp_v1::MessageReceived::SIGNATURE_HASH,
        abi::cctp_v2::MessageReceived::SIGNATURE_HASH,
        SentMessage::SIGNATURE_HASH,
        RelayedMessage::SIGNATURE_HASH,
        ExecutingMessage::SIGNATURE_HASH,
        BridgeEvent::SIGNATURE_HASH,
        ClaimEvent::SIGNATURE_HASH,
        MailboxWritten::SIGNATURE_HASH,
        MailboxDelivered::SIGNATURE_HASH,
    ];
    let known = source.pick(&signatures);
    if let (Some(first), false) = (topics.first_mut(), source.coin()) {
        *first = known;
    }
    Log { address, data: LogData::new_unchecked(topics, source.bytes(MOST_BYTES)) }
}

/// A log of anybody with at most four topics.
pub(super) fn anybodys(source: &mut Source<'_>) -> Log {
    let address = source.address();
    let topics = (0..source.index(MOST_TOPICS)).map(|_| source.word()).collect();
    Log { address, data: LogData::new_unchecked(topics, source.bytes(MOST_BYTES)) }
}

/// Changes a bit of a log's topics or data, or cuts the data off.
pub(super) fn spoil(log: &mut Log, source: &mut Source<'_>) {
    let mut data = log.data.data.to_vec();
    match source.byte() % 4 {
        0 => {
            let count = log.data.topics().len().max(1);
            let which = source.index(count);
            if let Some(topic) = log.data.topics_mut().get_mut(which) {
                source.flip(topic.as_mut_slice());
            }
        }
        1 => data.truncate(source.index(MOST_BYTES)),
        _ => source.flip(&mut data),
    }
    log.data.data = data.into();
}

/// A domain or network.
fn destination_number(source: &mut Source<'_>) -> u32 {
    source.pick(&[number(DESTINATION), number(ORIGIN), number(NOWHERE)])
}

/// A chain id.
fn destination_chain(source: &mut Source<'_>) -> U256 {
    match source.byte() % 4 {
        0 => U256::from(DESTINATION),
        1 => U256::from(ORIGIN),
        2 => U256::from(NOWHERE),
        _ => source.u256(),
    }
}

/// Who alone may deliver a message of CCTP.
fn only_caller(source: &mut Source<'_>) -> B256 {
    match source.byte() % 4 {
        0 => B256::ZERO,
        1 => HOOK_WRAPPER.into_word(),
        2 => BUILDER.into_word(),
        _ => source.word(),
    }
}

fn sent(transmitter: Address, message: Vec<u8>) -> Log {
    Log { address: transmitter, data: MessageSent { message: message.into() }.encode_log_data() }
}

/// A message of CCTP v1.
pub(super) fn cctp_v1(source: &mut Source<'_>) -> Log {
    let mut message = 0_u32.to_be_bytes().to_vec();
    message.extend(number(ORIGIN).to_be_bytes());
    message.extend(destination_number(source).to_be_bytes());
    message.extend(source.u64().to_be_bytes());
    message.extend_from_slice(source.word().as_slice());
    message.extend_from_slice(source.word().as_slice());
    message.extend_from_slice(only_caller(source).as_slice());
    message.extend_from_slice(&source.bytes(MOST_BYTES));
    sent(TRANSMITTER_V1, message)
}

/// A message of CCTP v2.
pub(super) fn cctp_v2(source: &mut Source<'_>) -> Log {
    let template = cctp_v2_template(source);
    sent(TRANSMITTER_V2, template)
}

/// The bytes of a message of CCTP v2 before attesters fill them in (evm-cctp-contracts, `MessageV2.sol`, `BurnMessageV2.sol`).
pub(super) fn cctp_v2_template(source: &mut Source<'_>) -> Vec<u8> {
    let mut message = 1_u32.to_be_bytes().to_vec();
    message.extend(number(ORIGIN).to_be_bytes());
    message.extend(destination_number(source).to_be_bytes());
    message.extend_from_slice(B256::ZERO.as_slice());
    message.extend_from_slice(source.word().as_slice());
    message.extend_from_slice(source.word().as_slice());
    message.extend_from_slice(only_caller(source).as_slice());
    message.extend(source.pick(&[1_000_u32, 2_000, 500]).to_be_bytes());
    message.extend(0_u32.to_be_bytes());
    if source.coin() {
        message.extend(1_u32.to_be_bytes());
        message.extend_from_slice(source.address().into_word().as_slice());
        message.extend_from_slice(source.word().as_slice());
        // Small numbers, so that fees lie on both sides of what is allowed.
        let amount = u64::from(source.u32());
        message.extend(U256::from(amount).to_be_bytes::<32>());
        message.extend_from_slice(source.address().into_word().as_slice());
        let max_fee = u64::from(source.u32()) % amount.max(1);
        message.extend(U256::from(max_fee).to_be_bytes::<32>());
        message.extend_from_slice(B256::ZERO.as_slice());
        message.extend_from_slice(B256::ZERO.as_slice());
    }
    message.extend_from_slice(&source.bytes(MOST_BYTES));
    message
}

/// An exit from the origin.
pub(super) fn exit(source: &mut Source<'_>) -> Log {
    let leaf_index = source.u32();
    let event = bridge_event(source, leaf_index);
    Log { address: BRIDGE, data: event.encode_log_data() }
}

/// An exit from the origin with that index.
pub(super) fn bridge_event(source: &mut Source<'_>, leaf_index: u32) -> BridgeEvent {
    let leaf_type = source.byte() % 2;
    BridgeEvent {
        leafType: leaf_type,
        // Who sends a message does so from the network that it leaves.
        originNetwork: if leaf_type == 1 { number(ORIGIN) } else { source.u32() },
        originAddress: source.address(),
        destinationNetwork: destination_number(source),
        destinationAddress: source.address(),
        amount: source.u256(),
        metadata: source.bytes(MOST_BYTES),
        depositCount: leaf_index,
    }
}

/// A message of OP interop's messenger.
pub(super) fn interop(source: &mut Source<'_>) -> Log {
    let event = SentMessage {
        destination: destination_chain(source),
        target: source.address(),
        messageNonce: source.u256(),
        sender: source.address(),
        message: source.bytes(MOST_BYTES),
    };
    Log { address: MESSENGER, data: event.encode_log_data() }
}

/// What was written to the origin's mailbox.
pub(super) fn mailbox(source: &mut Source<'_>) -> Log {
    let (destination, sender, receiver) = (destination_chain(source), source.address(), source.address());
    let (session, label, data) = (source.u256(), source.bytes(100), source.bytes(MOST_BYTES));
    let key = mailbox_key(destination, sender, receiver, session, &label);
    let event = MailboxWritten { key, destinationChain: destination, sender, receiver, session, label, data };
    Log { address: MAILBOX, data: event.encode_log_data() }
}

/// What names a message of the origin's mailbox.
pub(super) fn mailbox_key(destination: U256, sender: Address, receiver: Address, session: U256, label: &Bytes) -> B256 {
    keccak256((U256::from(ORIGIN), destination, sender, receiver, session, label.clone()).abi_encode_params())
}

//! What holds for every message of every protocol.

use std::mem::discriminant;

use alloy_primitives::{Address, B256, Bytes, Log, U256, keccak256};
use alloy_sol_types::{SolCall, SolEvent};
use lockstep_messaging::{
    Demand, Evidence, ExitFacts, ExitTree, Facts, Message, Ran, RelayCall, Slot,
    agglayer::{DEPTH, Exit, GlobalIndex, LeafType},
    check_attestation,
    op_interop::{self, MESSENGER, access_list},
};
use lockstep_primitives::{ChainId, Reason, RollupSet};

use super::{
    abi::{
        self, ClaimEvent, MailboxDelivered, RelayedMessage, claimAssetCall, claimMessageCall, insertGlobalExitRootCall,
        putInboxCall, receiveMessageCall, relayCall, relayMessageCall,
    },
    logs::mailbox_key,
    rollups::{
        BRIDGE, BUILDER, DESTINATION, EXIT_ROOT_MANAGER, HOOK_WRAPPER, Logs, MAILBOX, NOWHERE, ORIGIN, PLACE, THRESHOLD,
        TRANSMITTER_V1, TRANSMITTER_V2, attester_addresses, emitted, number, open_block, protocols,
    },
};
use crate::attest;

/// Why a message may be refused on its way.
const REFUSALS: [&str; 6] =
    ["wrong_destination", "no_evidence", "malformed_message", "not_in_dependency_set", "message_expired", "uncertain_message"];

/// Follows a log of the origin from recognition to receipt. Returns the protocol of the message that could be delivered.
pub(super) fn follow(log: &Log) -> Option<&'static str> {
    let found = emitted(log, PLACE);
    // Whatever they say, they say something.
    for chain in [ORIGIN, DESTINATION, NOWHERE] {
        let _ = protocols().delivered(chain, log);
    }
    let mut messages = protocols().recognise(ORIGIN, [found]);
    assert!(protocols().recognise(NOWHERE, [found]).is_empty(), "a protocol recognises what is on a rollup without it");
    assert!(messages.len() <= 1, "one log is several messages: {messages:?}");
    let facts = Facts { exits: exits(messages.first().and_then(|message| message.as_ref().ok())), ..Facts::default() };
    let logs = Logs::of_origin(PLACE, log);
    let slot = Slot { facts: &facts, logs: &logs };
    let ran = Ran { access_list: None, logs: &[found], timestamp: PLACE.timestamp };
    let _ = protocols().check_transaction(ORIGIN, &ran, &slot);
    if let Err(rejection) = protocols().check_slot(&slot) {
        assert_eq!(rejection.place.chain, Some(ORIGIN), "another rollup than the one with the log is refused: {rejection:?}");
    }
    let message = match messages.pop()? {
        Ok(message) => message,
        Err(reason) => {
            assert_eq!(reason.code(), "malformed_message", "{reason}");
            return None;
        }
    };
    assert_eq!((message.origin, message.place), (ORIGIN, PLACE));
    check_payload(&message, log);
    let mut delivered = None;
    for chain in [ORIGIN, DESTINATION, NOWHERE] {
        if deliver(&message, chain, &slot) {
            delivered = Some(message.protocol);
        }
    }
    delivered
}

/// Trees in which an exit of the origin is the next one.
fn exits(message: Option<&Message>) -> ExitFacts {
    let leaf_index = message.and_then(|message| Exit::decode(&message.payload).ok()).map_or(0, |exit| exit.leaf_index);
    ExitFacts {
        trees: [(ORIGIN, ExitTree::from_frontier([B256::ZERO; DEPTH], leaf_index)), (DESTINATION, ExitTree::default())].into(),
        mainnet_exit_root: B256::repeat_byte(0xee),
        same_slot_claims: [DESTINATION].into(),
        ..ExitFacts::default()
    }
}

/// A message is what was emitted, to the byte.
fn check_payload(message: &Message, log: &Log) {
    let data = &log.data.data;
    match message.protocol {
        "cctp-v1" | "cctp-v2" => {
            let there = data.windows(message.payload.len().max(1)).any(|bytes| *bytes == message.payload[..]);
            assert!(there, "the message is not in the log's data");
        }
        "agglayer" => assert_eq!(message.payload, *data),
        _ => assert_eq!(message.payload, op_interop::payload(log)),
    }
}

/// Asks for evidence on a rollup and delivers there. Returns whether that can be done.
fn deliver(message: &Message, chain: ChainId, slot: &Slot<'_>) -> bool {
    let to = open_block(chain);
    let protocol = protocols().of(message).expect("what is recognised is of a configured protocol");
    let evidence = match protocol.demand(message, &to, slot) {
        Ok(Demand::Attestation(request)) => {
            assert_eq!((request.digest, &request.message), (keccak256(&request.payload), message));
            assert_eq!(request.signers.len(), THRESHOLD);
            assert!(request.signers.is_sorted_by(|one, other| one < other), "signers are not in rising order");
            attest(&request)
        }
        Ok(Demand::Derived(evidence)) => evidence,
        Err(reason) => {
            refused(&reason);
            return false;
        }
    };
    let nobodys = Evidence::Attestation { payload: message.payload.clone(), signatures: Vec::new() };
    for other in [Evidence::Place, nobodys] {
        if discriminant(&other) != discriminant(&evidence) {
            assert!(protocol.deliver(message, &other, &to).is_err(), "delivered with evidence of another kind: {other:?}");
        }
    }
    let calls = match protocol.deliver(message, &evidence, &to) {
        Ok(calls) => calls,
        Err(reason) => {
            assert_ne!(message.destination, Some(chain), "what was demanded is there, and it is refused: {reason}");
            assert_eq!(reason.code(), "wrong_destination", "{reason}");
            return false;
        }
    };
    assert_eq!(message.destination, Some(chain), "delivered to a rollup that the message does not name");
    check_calls(message, &evidence, chain, &calls, slot);
    let receipt = protocol.receipt(message, Some(&evidence));
    assert!(receipt.is_some(), "with evidence it is known what a delivery says");
    assert_eq!(protocols().delivered(chain, &delivery(message, &evidence)), receipt);
    true
}

fn refused(reason: &Reason) {
    assert!(REFUSALS.contains(&reason.code()), "refused with {}: {reason}", reason.code());
}

/// The calls say what was sent, with the evidence, to the contract that takes it.
fn check_calls(message: &Message, evidence: &Evidence, chain: ChainId, calls: &[RelayCall], slot: &Slot<'_>) {
    let call = calls.last().expect("what is delivered takes a call");
    match (message.protocol, evidence) {
        ("cctp-v1", Evidence::Attestation { payload, signatures }) => {
            assert_eq!(*payload, message.payload);
            check_receive(call, TRANSMITTER_V1, payload, &signatures.concat());
            assert_eq!(check_attestation(payload, signatures, &attester_addresses(), THRESHOLD), Ok(()));
        }
        ("cctp-v2", Evidence::Attestation { payload, signatures }) => {
            check_receive(call, TRANSMITTER_V2, payload, &signatures.concat());
            assert_eq!(check_attestation(payload, signatures, &attester_addresses(), THRESHOLD), Ok(()));
        }
        ("agglayer", Evidence::Exit(proof)) => {
            let [insert, claim] = calls else { panic!("a root is inserted, and an exit claimed: {calls:?}") };
            assert_eq!((insert.to, claim.to), (EXIT_ROOT_MANAGER, BRIDGE));
            assert_eq!(insert.data, insertGlobalExitRootCall { newRoot: proof.global_exit_root() }.abi_encode());
            check_claim(&message.payload, chain, &claim.data);
        }
        ("op-interop", Evidence::Place) => {
            let relay = relayMessageCall::abi_decode(&call.data).expect("the calldata of relayMessage");
            assert_eq!((call.to, relay.sentMessage), (MESSENGER, message.payload.clone()));
            let (block, index, time) = (U256::from(PLACE.block), U256::from(PLACE.index), U256::from(PLACE.timestamp));
            assert_eq!((relay.id.origin, relay.id.chainId), (MESSENGER, U256::from(ORIGIN)));
            assert_eq!((relay.id.blockNumber, relay.id.logIndex, relay.id.timestamp), (block, index, time));
            let declared = access_list::decode(&call.access_list).expect("a list in its order");
            assert_eq!(declared.iter().map(|access| access.place).collect::<Vec<_>>(), [PLACE]);
            // Whoever derives the chains finds the log.
            let ran = Ran { access_list: Some(&call.access_list), logs: &[], timestamp: open_block(chain).timestamp };
            assert_eq!(protocols().check_transaction(chain, &ran, slot), Ok(RollupSet::from([ORIGIN])));
        }
        ("mailbox", Evidence::Place) => {
            let put = putInboxCall::abi_decode(&call.data).expect("the calldata of putInbox");
            assert_eq!((call.to, put.sourceChain), (MAILBOX, U256::from(ORIGIN)));
            assert_eq!(mailbox_key(U256::from(chain), put.sender, put.receiver, put.session, &put.label), message.id);
            assert!(message.payload.windows(put.data.len().max(1)).any(|bytes| put.data.is_empty() || *bytes == put.data[..]));
        }
        (protocol, evidence) => panic!("{protocol} is delivered with {evidence:?}"),
    }
}

fn check_receive(call: &RelayCall, transmitter: Address, payload: &Bytes, signatures: &[u8]) {
    let (message, attestation) = if call.to == HOOK_WRAPPER {
        let relay = relayCall::abi_decode(&call.data).expect("the calldata of relay");
        (relay.message, relay.attestation)
    } else {
        assert_eq!(call.to, transmitter);
        let receive = receiveMessageCall::abi_decode(&call.data).expect("the calldata of receiveMessage");
        (receive.message, receive.attestation)
    };
    assert_eq!(message, *payload);
    assert_eq!(attestation[..], *signatures);
}

fn check_claim(payload: &[u8], chain: ChainId, data: &[u8]) {
    let exit = Exit::decode(payload).expect("what was recognised is an exit");
    let index = GlobalIndex { network: number(ORIGIN), leaf_index: exit.leaf_index }.encode();
    let (claimed_index, claimed) = match exit.leaf_type {
        LeafType::Asset => {
            let claim = claimAssetCall::abi_decode(data).expect("the calldata of claimAsset");
            let claimed = Exit {
                leaf_type: LeafType::Asset,
                origin_network: claim.originNetwork,
                origin_address: claim.originAddress,
                destination_network: claim.destinationNetwork,
                destination_address: claim.destinationAddress,
                amount: claim.amount,
                metadata: claim.metadata,
                leaf_index: exit.leaf_index,
            };
            (claim.globalIndex, claimed)
        }
        LeafType::Message => {
            let claim = claimMessageCall::abi_decode(data).expect("the calldata of claimMessage");
            let claimed = Exit {
                leaf_type: LeafType::Message,
                origin_network: claim.originNetwork,
                origin_address: claim.originAddress,
                destination_network: claim.destinationNetwork,
                destination_address: claim.destinationAddress,
                amount: claim.amount,
                metadata: claim.metadata,
                leaf_index: exit.leaf_index,
            };
            (claim.globalIndex, claimed)
        }
    };
    assert_eq!((claimed_index, claimed.destination_network), (index, number(chain)));
    assert_eq!(claimed, exit);
}

/// What the destination's contract emits once it has taken the message.
fn delivery(message: &Message, evidence: &Evidence) -> Log {
    let (address, data) = match (message.protocol, evidence) {
        ("cctp-v1", Evidence::Attestation { payload, .. }) => {
            let event = abi::cctp_v1::MessageReceived {
                caller: BUILDER,
                sourceDomain: u32::from_be_bytes(field(payload, 4)),
                nonce: u64::from_be_bytes(field(payload, 12)),
                sender: B256::ZERO,
                messageBody: Bytes::new(),
            };
            (TRANSMITTER_V1, event.encode_log_data())
        }
        ("cctp-v2", Evidence::Attestation { payload, .. }) => {
            let event = abi::cctp_v2::MessageReceived {
                caller: BUILDER,
                sourceDomain: u32::from_be_bytes(field(payload, 4)),
                nonce: B256::new(field(payload, 12)),
                sender: B256::ZERO,
                finalityThresholdExecuted: u32::from_be_bytes(field(payload, 144)),
                messageBody: Bytes::new(),
            };
            (TRANSMITTER_V2, event.encode_log_data())
        }
        ("agglayer", _) => {
            let exit = Exit::decode(&message.payload).expect("what was recognised is an exit");
            let event = ClaimEvent {
                globalIndex: GlobalIndex { network: number(ORIGIN), leaf_index: exit.leaf_index }.encode(),
                originNetwork: exit.origin_network,
                originAddress: exit.origin_address,
                destinationAddress: exit.destination_address,
                amount: exit.amount,
            };
            (BRIDGE, event.encode_log_data())
        }
        ("op-interop", _) => {
            let event = RelayedMessage {
                source: U256::from(ORIGIN),
                messageNonce: U256::from_be_bytes::<32>(field(&message.payload, 96)),
                messageHash: message.id,
                returnDataHash: keccak256(b""),
            };
            (MESSENGER, event.encode_log_data())
        }
        _ => {
            let event =
                MailboxDelivered { key: message.id, sourceChain: U256::from(ORIGIN), receiver: BUILDER, data: Bytes::new() };
            (MAILBOX, event.encode_log_data())
        }
    };
    Log { address, data }
}

fn field<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let end = offset + N;
    let field = bytes.get(offset..end).and_then(|bytes| <[u8; N]>::try_from(bytes).ok());
    field.expect("a message that is recognised has a whole header")
}

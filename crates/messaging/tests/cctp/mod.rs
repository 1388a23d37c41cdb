//! Attesters, logs and blocks for the tests of both versions of CCTP.

use alloy_consensus::crypto::secp256k1::sign_message;
use alloy_primitives::{Address, B256, Bytes, Log, U256, b256, keccak256};
use lockstep_messaging::{
    Demand, Destination, Emitted, Evidence, EvidenceRequest, Facts, LogPlace, Message, Protocol, Slot, SlotLogs,
};
use lockstep_primitives::{ChainId, Reason, SignatureBytes, TxId, recover};

/// Topic of `MessageSent(bytes)`, the same in both versions.
pub(crate) const MESSAGE_SENT: B256 = b256!("8c5261668696ce22758910d05bab8f186d6eb247ceac2af2e82c7dc17669b036");
/// Selector of `receiveMessage(bytes,bytes)`, the same in both versions.
pub(crate) const RECEIVE_MESSAGE: [u8; 4] = [0x57, 0xec, 0xfd, 0x28];
pub(crate) const TRANSMITTER: Address = Address::repeat_byte(0x7a);
pub(crate) const ETHEREUM: ChainId = 1;
pub(crate) const BASE: ChainId = 8_453;
/// Keys of the attesters; their addresses are in another order.
pub(crate) const ATTESTERS: [u8; 4] = [1, 2, 3, 4];

const TX: TxId = TxId::Signed { signer: Address::repeat_byte(0x51), nonce: 7 };

#[derive(Debug)]
struct NoLogs;

impl SlotLogs for NoLogs {
    fn logs(&self, _: ChainId) -> Option<Vec<Emitted<'_>>> {
        None
    }

    fn chains(&self) -> Vec<ChainId> {
        Vec::new()
    }
}

/// A block of Base.
pub(crate) const fn block(number: u64) -> Destination {
    let (beneficiary, builder) = (Address::repeat_byte(0xfe), Address::repeat_byte(0xb0));
    Destination { chain: BASE, number, timestamp: 1_700_000_000, beneficiary, builder }
}

/// What attesters are asked for so that a message is delivered in a block.
pub(crate) fn request(protocol: &dyn Protocol, message: &Message, to: &Destination) -> Result<EvidenceRequest, Reason> {
    let facts = Facts::default();
    match protocol.demand(message, to, &Slot { facts: &facts, logs: &NoLogs })? {
        Demand::Attestation(request) => Ok(*request),
        Demand::Derived(evidence) => panic!("CCTP derives nothing: {evidence:?}"),
    }
}

/// One word, then bytes, as `abi.encode` writes dynamic bytes that follow `words` and whose place is told by the last of them.
fn abi(words: &[B256], bytes: &[u8]) -> Bytes {
    let mut data: Vec<u8> = words.iter().flat_map(|word| word.0).collect();
    data.extend(U256::from(32 * (words.len() + 1)).to_be_bytes::<32>());
    data.extend(U256::from(bytes.len()).to_be_bytes::<32>());
    data.extend_from_slice(bytes);
    data.resize(data.len().next_multiple_of(32), 0);
    data.into()
}

/// A transmitter's log that sends a message, byte by byte.
pub(crate) fn sent(message: &[u8]) -> Log {
    Log::new_unchecked(TRANSMITTER, vec![MESSAGE_SENT], abi(&[], message))
}

/// A transmitter's log that tells of a delivery.
pub(crate) fn received(topics: Vec<B256>, source: u32, body: &[u8]) -> Log {
    let words = [B256::from(U256::from(source)), B256::repeat_byte(0x5e)];
    Log::new_unchecked(TRANSMITTER, topics, abi(&words, body))
}

/// Reads a log as the message of the third log of a transaction.
pub(crate) fn recognise(protocol: &dyn Protocol, chain: ChainId, log: &Log) -> Option<Result<Message, Reason>> {
    let place = LogPlace { block: 100, timestamp: 1_700_000_000, index: 12 };
    protocol.recognise(chain, &Emitted { log, place, tx: TX, in_tx: 2 })
}

/// The message that Ethereum sends with these bytes.
pub(crate) fn message(protocol: &dyn Protocol, bytes: &[u8]) -> Message {
    recognise(protocol, ETHEREUM, &sent(bytes)).expect("a message of the protocol").expect("a well-formed message")
}

/// A signature by the attester with this key.
pub(crate) fn sign(key: u8, digest: B256) -> SignatureBytes {
    sign_message(B256::repeat_byte(key), digest).expect("a small number is a key").as_bytes()
}

pub(crate) fn attester(key: u8) -> Address {
    let digest = keccak256("who are you");
    recover(digest, &sign(key, digest)).expect("a key's own signature")
}

pub(crate) fn attesters() -> Vec<Address> {
    ATTESTERS.into_iter().map(attester).collect()
}

/// What the attesters of a request answer.
pub(crate) fn attest(request: &EvidenceRequest) -> Evidence {
    let key = |signer: &Address| ATTESTERS.into_iter().find(|key| attester(*key) == *signer).expect("one of the attesters");
    let signatures = request.signers.iter().map(|signer| sign(key(signer), request.digest)).collect();
    Evidence::Attestation { payload: request.payload.clone(), signatures }
}

/// Attested bytes with signatures of the right number, by nobody.
pub(crate) fn unsigned(payload: impl Into<Bytes>, count: usize) -> Evidence {
    Evidence::Attestation { payload: payload.into(), signatures: vec![[0; 65]; count] }
}

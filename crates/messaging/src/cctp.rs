//! What both versions of Circle's CCTP share: the event that sends, the call that delivers, and how packed messages are read.

use alloy_primitives::{Address, B256, Bytes, Log, U256};
use alloy_sol_types::{SolCall, SolEvent, sol};
use lockstep_primitives::{Reason, SignatureBytes};

use crate::{Evidence, RelayCall, attestation};

sol! {
    event MessageSent(bytes message);
    function receiveMessage(bytes message, bytes attestation) external returns (bool);
}

/// The bytes that a log of `transmitter` sends. `None` when the log is another's, says something else, or sends a message of
/// another version than `version`: both versions emit the same event.
pub(crate) fn sent(transmitter: Address, version: u32, log: &Log) -> Option<Result<Bytes, Reason>> {
    if log.address != transmitter || log.topics().first() != Some(&MessageSent::SIGNATURE_HASH) {
        return None;
    }
    let payload = match MessageSent::decode_log_data(&log.data) {
        Ok(event) => event.message,
        Err(error) => return Some(Err(Reason::MalformedMessage(error.to_string()))),
    };
    if u32_at(&payload, 0).is_some_and(|other| other != version) {
        return None;
    }
    Some(Ok(payload))
}

/// Who alone may deliver, as a header names it; `None` is anyone.
///
/// # Errors
/// When it is no address: the transmitter compares all 32 bytes, so that nobody could deliver on an EVM chain.
pub(crate) fn only_caller(word: B256) -> Result<Option<Address>, Reason> {
    let caller = Address::from_word(word);
    if caller.into_word() != word {
        return Err(Reason::MalformedMessage(format!("its destination caller {word} is no address, nobody can deliver it")));
    }
    Ok((!word.is_zero()).then_some(caller))
}

/// The payload and the signatures of an attestation that has as many of them as the transmitter wants.
pub(crate) fn attested<'a>(
    protocol: &str,
    evidence: &'a Evidence,
    threshold: usize,
) -> Result<(&'a Bytes, &'a [SignatureBytes]), Reason> {
    let Evidence::Attestation { payload, signatures } = evidence else {
        return Err(Reason::NoEvidence(format!("{protocol} needs an attestation")));
    };
    attestation::check_count(signatures, threshold)?;
    Ok((payload, signatures.as_slice()))
}

/// The call that delivers an attested message to a transmitter.
pub(crate) fn receive(transmitter: Address, payload: &Bytes, signatures: &[SignatureBytes]) -> RelayCall {
    let data = receiveMessageCall { message: payload.clone(), attestation: signatures.concat().into() }.abi_encode();
    RelayCall { to: transmitter, data: data.into(), ..RelayCall::default() }
}

/// `N` bytes at an offset; `None` when there are fewer.
pub(crate) fn bytes_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk::<N>().copied()
}

/// A big-endian u32 at an offset.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes_at(bytes, offset).map(u32::from_be_bytes)
}

/// A 32-byte word at an offset.
pub(crate) fn word_at(bytes: &[u8], offset: usize) -> Option<B256> {
    bytes_at(bytes, offset).map(B256::new)
}

/// A big-endian uint256 at an offset.
pub(crate) fn u256_at(bytes: &[u8], offset: usize) -> Option<U256> {
    bytes_at(bytes, offset).map(U256::from_be_bytes::<32>)
}

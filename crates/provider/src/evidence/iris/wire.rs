//! What the service answers, and what of it is the attestation of a message. Unknown fields are passed over.

use std::cmp::Ordering;

use alloy_primitives::{B256, Bytes, hex};
use lockstep_messaging::cctp_v2::filled;
use lockstep_primitives::{Reason, SignatureBytes};
use serde::Deserialize;

use crate::{EvidenceError, LandedTx, remote::excerpt};

/// The status of a message that is attested. Others are names of stages before it.
const COMPLETE: &str = "complete";
/// What stands in place of an attestation that is not there yet.
const PENDING: &str = "PENDING";

fn malformed(text: impl Into<String>) -> EvidenceError {
    EvidenceError::Malformed(text.into())
}

/// What `GET /v1/attestations/{messageHash}` answers.
#[derive(Debug, Deserialize)]
pub(super) struct AttestationAnswer {
    attestation: Option<String>,
    status: Option<String>,
}

impl AttestationAnswer {
    /// The signatures.
    ///
    /// # Errors
    /// When they are not there yet, or are none.
    pub(super) fn signatures(&self) -> Result<Vec<SignatureBytes>, EvidenceError> {
        complete(self.status.as_deref(), None)?;
        signatures(self.attestation.as_deref())
    }
}

/// What `GET /v2/messages/{sourceDomain}` answers.
#[derive(Debug, Deserialize)]
pub(super) struct MessagesAnswer {
    messages: Vec<Listed>,
}

/// A message as it is listed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    /// The attested message; `0x` while it is not known yet.
    message: Option<String>,
    event_nonce: Option<String>,
    attestation: Option<String>,
    cctp_version: Option<NumberOrText>,
    status: Option<String>,
    delay_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u64),
    Text(String),
}

impl NumberOrText {
    fn is(&self, number: u64) -> bool {
        match self {
            Self::Number(told) => *told == number,
            Self::Text(told) => told.parse::<u64>().ok() == Some(number),
        }
    }
}

/// An attested message of CCTP v2.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Attested {
    pub(super) payload: Bytes,
    pub(super) signatures: Vec<SignatureBytes>,
}

impl Listed {
    /// The message's bytes; `None` while they are not known.
    fn bytes(&self) -> Result<Option<Vec<u8>>, EvidenceError> {
        let Some(text) = &self.message else { return Ok(None) };
        let bytes = hex::decode(text).map_err(|error| malformed(format!("a message is no hex: {error}")))?;
        Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    fn pending(&self) -> EvidenceError {
        let status = self.status.as_deref().filter(|status| *status != COMPLETE);
        pending(status, self.delay_reason.as_deref())
    }

    fn attested(&self, payload: Vec<u8>, nonce: B256) -> Result<Attested, EvidenceError> {
        complete(self.status.as_deref(), self.delay_reason.as_deref())?;
        if nonce.is_zero() {
            return Err(malformed("the message is said to be complete, and has no nonce"));
        }
        if let Some(told) = &self.event_nonce
            && told.parse::<B256>().ok() != Some(nonce)
        {
            let told = excerpt(told);
            return Err(malformed(format!("the message's nonce is {nonce}, and is said to be {told}")));
        }
        Ok(Attested { payload: payload.into(), signatures: signatures(self.attestation.as_deref())? })
    }
}

impl MessagesAnswer {
    /// The message that was emitted as `template`, as it is attested. The service lists the messages of a transaction in the
    /// order of their logs, but does not tell of one that is pending which it is.
    ///
    /// # Errors
    /// When it is not attested yet, or the list contradicts what was sent.
    pub(super) fn attested(&self, template: &[u8], sent: &LandedTx) -> Result<Attested, EvidenceError> {
        let (mut alike, mut unknown) = (Vec::new(), Vec::new());
        for listed in self.messages.iter().filter(|listed| listed.cctp_version.as_ref().is_none_or(|version| version.is(2))) {
            let Some(bytes) = listed.bytes()? else {
                unknown.push(listed);
                continue;
            };
            if let Some(nonce) = nonce(template, &bytes)? {
                alike.push((listed, bytes, nonce));
            }
        }
        match alike.len().cmp(&sent.twins) {
            Ordering::Less => Err(match unknown.as_slice() {
                [only] => only.pending(),
                [] => pending(Some("the service does not list it yet"), None),
                [..] => pending(Some("the service does not tell which of the messages it is yet"), None),
            }),
            Ordering::Greater => {
                let (listed, hash, twins) = (alike.len(), sent.hash, sent.twins);
                Err(malformed(format!("it lists {listed} such messages of transaction {hash}, which sent {twins}")))
            }
            Ordering::Equal => match alike.into_iter().nth(sent.twin) {
                Some((listed, bytes, nonce)) => listed.attested(bytes, nonce),
                None => Err(malformed(format!("message {} of {} was asked for", sent.twin, sent.twins))),
            },
        }
    }
}

/// The nonce under which `message` is attested; `None` when it is another message than `template`.
///
/// # Errors
/// When the template is no message of CCTP v2.
pub(super) fn nonce(template: &[u8], message: &[u8]) -> Result<Option<B256>, EvidenceError> {
    match filled(template, message) {
        Ok(filled) => Ok(Some(filled.nonce)),
        Err(Reason::MalformedMessage(cause)) => Err(EvidenceError::Refused(format!("no message of CCTP v2 was sent: {cause}"))),
        Err(_) => Ok(None),
    }
}

fn complete(status: Option<&str>, delay_reason: Option<&str>) -> Result<(), EvidenceError> {
    if status == Some(COMPLETE) { Ok(()) } else { Err(pending(status, delay_reason)) }
}

fn pending(status: Option<&str>, delay_reason: Option<&str>) -> EvidenceError {
    let status = status.unwrap_or("the service gives no status");
    EvidenceError::Pending { status: excerpt(status), delay_reason: delay_reason.map(excerpt) }
}

/// Signatures, one after the other.
fn signatures(attestation: Option<&str>) -> Result<Vec<SignatureBytes>, EvidenceError> {
    let Some(text) = attestation.filter(|text| *text != PENDING) else {
        return Err(malformed("the message is said to be complete, and has no attestation"));
    };
    let bytes = hex::decode(text).map_err(|error| malformed(format!("the attestation is no hex: {error}")))?;
    let (signatures, rest) = bytes.as_chunks::<65>();
    if signatures.is_empty() || !rest.is_empty() {
        return Err(malformed(format!("an attestation of {} bytes: a signature has 65", bytes.len())));
    }
    Ok(signatures.to_vec())
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use alloy_primitives::{Address, U256, keccak256};
    use lockstep_messaging::cctp_v2::fill;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const TX: B256 = B256::repeat_byte(0x77);
    /// What attesters fill in: nonce, executed finality, and of a burn fee and expiration.
    const FILLED_IN: [Range<usize>; 3] = [12..44, 144..148, 312..376];

    /// A burn with a hook as it is emitted.
    fn template() -> Vec<u8> {
        let word = |number: u64| B256::from(U256::from(number));
        let header = [1_u32, 6, 2].map(u32::to_be_bytes).concat();
        let ends = [word(0), B256::repeat_byte(1), B256::repeat_byte(2), word(0)].map(|word| word.0).concat();
        let finality = [1_000_u32, 0, 1].map(u32::to_be_bytes).concat();
        let token = Address::repeat_byte(3).into_word();
        let burn = [token, B256::repeat_byte(4), word(1_000_000), Address::repeat_byte(5).into_word(), word(500)];
        let burn = burn.map(|word| word.0).concat();
        [header, ends, finality, burn, vec![0; 64], vec![7; 24]].concat()
    }

    /// The same as it is attested under a nonce.
    fn filled_in(mark: u8) -> Vec<u8> {
        let fill = fill(&template(), B256::repeat_byte(mark), 1_000, U256::from(100), U256::from(mark));
        fill.unwrap().to_vec()
    }

    fn item(mark: u8) -> Value {
        json!({
            "message": hex::encode_prefixed(filled_in(mark)), "eventNonce": B256::repeat_byte(mark),
            "attestation": hex::encode_prefixed([mark; 130]), "cctpVersion": 2, "status": "complete", "delayReason": null,
            "decodedMessage": { "nonce": "12" }, "forwardState": "none",
        })
    }

    fn blank() -> Value {
        json!({
            "message": "0x", "eventNonce": B256::repeat_byte(9), "attestation": "PENDING", "cctpVersion": "2",
            "status": "pending_confirmations", "delayReason": "insufficient_fee", "decodedMessage": null,
        })
    }

    fn choose(items: Value, sent: &LandedTx) -> Result<u8, EvidenceError> {
        let answer: MessagesAnswer = serde_json::from_value(json!({ "messages": items })).unwrap();
        let attested = answer.attested(&template(), sent)?;
        assert_eq!(attested.signatures.len(), 2);
        let mark = attested.payload[12];
        assert_eq!(attested.payload, filled_in(mark));
        Ok(mark)
    }

    fn changed(change: impl FnOnce(&mut Value)) -> Value {
        let mut item = item(1);
        change(&mut item);
        item
    }

    #[test]
    fn the_message_is_found_among_others_by_its_bytes() {
        let other = changed(|item| {
            let mut bytes = filled_in(5);
            bytes[50] ^= 1;
            item["message"] = json!(hex::encode_prefixed(bytes));
        });
        let v1 = changed(|item| item["cctpVersion"] = json!("1"));
        let text = changed(|item| item["cctpVersion"] = json!("2"));
        assert_eq!(choose(json!([other, v1, text, blank()]), &LandedTx::only(TX)), Ok(1));
        let absent = changed(|item| drop(item.as_object_mut().unwrap().remove("cctpVersion")));
        assert_eq!(choose(json!([absent]), &LandedTx::only(TX)), Ok(1));
    }

    #[test]
    fn of_messages_that_look_the_same_the_order_of_their_logs_decides() {
        let second = LandedTx { hash: TX, twin: 1, twins: 2 };
        assert_eq!(choose(json!([item(1), item(2)]), &second), Ok(2));
        assert_eq!(choose(json!([item(1), item(2)]), &LandedTx { twin: 0, ..second }), Ok(1));
        let early = choose(json!([blank(), item(2)]), &second);
        assert!(matches!(early, Err(EvidenceError::Pending { .. })), "it may be the first or the second: {early:?}");
        let many = choose(json!([item(1), item(2)]), &LandedTx::only(TX));
        assert!(matches!(many, Err(EvidenceError::Malformed(_))), "{many:?}");
    }

    #[test]
    fn what_is_not_attested_yet_says_how_far_it_is() {
        let pending = |status: &str, delay_reason: Option<&str>| {
            Err(EvidenceError::Pending { status: status.into(), delay_reason: delay_reason.map(Into::into) })
        };
        let one = LandedTx::only(TX);
        assert_eq!(choose(json!([blank()]), &one), pending("pending_confirmations", Some("insufficient_fee")));
        assert_eq!(choose(json!([]), &one), pending("the service does not list it yet", None));
        let unknown = pending("the service does not tell which of the messages it is yet", None);
        assert_eq!(choose(json!([blank(), blank()]), &one), unknown);
        let known = changed(|item| item["status"] = json!("anything else"));
        assert_eq!(choose(json!([known]), &one), pending("anything else", None));
    }

    #[test]
    fn what_contradicts_itself_is_no_evidence() {
        for (change, words) in [
            (json!({ "attestation": "PENDING" }), "has no attestation"),
            (json!({ "attestation": null }), "has no attestation"),
            (json!({ "attestation": "0x1234" }), "a signature has 65"),
            (json!({ "attestation": "0x" }), "a signature has 65"),
            (json!({ "attestation": "zz" }), "no hex"),
            (json!({ "message": "0x123" }), "no hex"),
            (json!({ "eventNonce": B256::repeat_byte(3) }), "is said to be"),
            (json!({ "eventNonce": "12" }), "is said to be"),
            (json!({ "message": hex::encode_prefixed(template()) }), "has no nonce"),
        ] {
            let item = changed(|item| {
                for (key, value) in change.as_object().unwrap() {
                    item[key] = value.clone();
                }
            });
            match choose(json!([item]), &LandedTx::only(TX)) {
                Err(EvidenceError::Malformed(cause)) => assert!(cause.contains(words), "{change}: {cause}"),
                other => panic!("{change}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_attestation_of_v1_is_read_in_every_state() {
        let read = |answer: Value| serde_json::from_value::<AttestationAnswer>(answer).unwrap().signatures();
        let complete = json!({ "attestation": hex::encode_prefixed([7; 65]), "status": "complete" });
        assert_eq!(read(complete), Ok(vec![[7; 65]]));
        for attestation in [json!("PENDING"), Value::Null] {
            let answer = read(json!({ "attestation": attestation, "status": "pending_confirmations" }));
            let status = "pending_confirmations".to_owned();
            assert_eq!(answer, Err(EvidenceError::Pending { status, delay_reason: None }));
        }
        assert!(matches!(read(json!({})), Err(EvidenceError::Pending { .. })));
        assert!(matches!(read(json!({ "status": "complete" })), Err(EvidenceError::Malformed(_))));
    }

    #[test]
    fn a_status_that_is_a_book_is_cut() {
        let book = changed(|item| item["status"] = json!("x".repeat(10_000)));
        match choose(json!([book]), &LandedTx::only(TX)) {
            Err(EvidenceError::Pending { status, .. }) => assert!(status.len() < 1_000),
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn only_what_attesters_fill_in_may_differ(index in 0_usize..400, flip in 1_u8..) {
            let mut bytes = filled_in(1);
            bytes[index] ^= flip;
            let theirs = FILLED_IN.iter().any(|field| field.contains(&index));
            prop_assert_eq!(nonce(&template(), &bytes).unwrap().is_some(), theirs);
        }

        #[test]
        fn no_bytes_make_it_panic(template in prop::collection::vec(any::<u8>(), 0..420), text in "\\PC{0,80}") {
            let hex = hex::encode_prefixed(keccak256(&template));
            for message in [text, hex] {
                let answer = json!({ "messages": [{ "message": message, "status": "complete" }] });
                let answer: MessagesAnswer = serde_json::from_value(answer).unwrap();
                prop_assert!(answer.attested(&template, &LandedTx::only(TX)).is_err());
            }
        }
    }
}

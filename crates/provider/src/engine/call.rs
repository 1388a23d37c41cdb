//! Calls and answers of the Engine API, as far as the proxy reads them.

use std::borrow::Cow;

use alloy_primitives::{Address, B64, B256, Bytes, U64};
use hyper::StatusCode;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};

use super::{
    attributes::{Attributes, extra_data},
    error::Refusal,
    http::Answer,
    wire::CommitList,
};

const FORKCHOICE: &str = "engine_forkchoiceUpdatedV";
const GET_PAYLOAD: &str = "engine_getPayloadV";
/// How much of an answer that makes no sense is quoted.
const EXCERPT_CHARS: usize = 200;

/// A single JSON-RPC call.
#[derive(Debug, Deserialize)]
pub(super) struct Call<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) method: Cow<'a, str>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

/// What the proxy cares for.
#[derive(Debug)]
pub(super) enum Kind {
    /// `engine_forkchoiceUpdatedV<n>`.
    Forkchoice,
    /// `engine_getPayloadV<n>`.
    GetPayload,
    /// Anything else.
    Other,
}

impl<'a> Call<'a> {
    /// Reads a call; `None` when it is a batch, or no call at all.
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    pub(super) fn kind(&self) -> Kind {
        let versioned = |name| self.method.strip_prefix(name).is_some_and(is_version);
        if versioned(FORKCHOICE) {
            Kind::Forkchoice
        } else if versioned(GET_PAYLOAD) {
            Kind::GetPayload
        } else {
            Kind::Other
        }
    }

    /// The id as it was sent.
    pub(super) fn id(&self) -> &'a str {
        self.id.map_or("null", RawValue::get)
    }

    /// The parameters as they were sent; `None` when they are no array.
    fn params(&self) -> Option<Vec<&'a RawValue>> {
        serde_json::from_str(self.params?.get()).ok()
    }

    /// What a forkchoice call asks for: the forkchoice, and a payload or none.
    pub(super) fn forkchoice(&self) -> Option<Forkchoice> {
        let params = self.params()?;
        let state = params.first()?.get().to_owned();
        let head = serde_json::from_str::<Head>(&state).ok()?.head_block_hash;
        // Version 1 has no attributes of rollups.
        let attributes = match params.get(1) {
            Some(sent) if self.method != "engine_forkchoiceUpdatedV1" => {
                serde_json::from_str::<Value>(sent.get()).ok().and_then(Attributes::read)
            }
            _ => None,
        };
        Some(Forkchoice { method: self.method.clone().into_owned(), state, head, attributes })
    }

    /// The payload that a getPayload call asks for.
    pub(super) fn payload_id(&self) -> Option<B64> {
        serde_json::from_str(self.params()?.first()?.get()).ok()
    }

    /// The same getPayload call for another payload.
    pub(super) fn for_payload(&self, id: B64) -> hyper::body::Bytes {
        compose(self.id(), &self.method, &format!("[\"{id}\"]"))
    }
}

/// Whether a text is the number of a version.
fn is_version(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Writes a call. The method is one of [`Kind`]'s, so nothing in it has to be escaped.
fn compose(id: &str, method: &str, params: &str) -> hyper::body::Bytes {
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"{method}\",\"params\":{params}}}").into()
}

/// Whether a batch, or a body that cannot be read, may set a forkchoice.
pub(super) fn may_set_forkchoice(body: &[u8]) -> bool {
    body.windows(FORKCHOICE.len()).any(|window| window == FORKCHOICE.as_bytes())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    head_block_hash: B256,
}

/// A forkchoice call.
#[derive(Clone, Debug)]
pub(super) struct Forkchoice {
    method: String,
    /// The forkchoice as it was sent.
    pub(super) state: String,
    /// The block that a payload would stand on.
    pub(super) head: B256,
    /// The payload that is asked for.
    pub(super) attributes: Option<Attributes>,
}

impl Forkchoice {
    /// The same call for a block of a list.
    pub(super) fn with_list(&self, attributes: &Attributes, list: &CommitList, id: &str) -> hyper::body::Bytes {
        let params = format!("[{},{}]", self.state, attributes.with_list(&list.transactions));
        compose(id, &self.method, &params)
    }
}

#[derive(Deserialize)]
struct Reply<T> {
    result: Option<T>,
    error: Option<ReplyError>,
}

#[derive(Deserialize)]
struct ReplyError {
    code: i64,
    #[serde(default)]
    message: String,
}

/// What a call answered, or why it answered nothing of use.
pub(super) fn result<T: DeserializeOwned>(answer: &Answer) -> Result<T, Refusal> {
    let unreadable = |cause: String| Refusal::Unreadable(cause.chars().take(EXCERPT_CHARS).collect());
    let reply: Reply<T> = match serde_json::from_slice(&answer.body) {
        Ok(reply) => reply,
        Err(_) if answer.status != StatusCode::OK => return Err(unreadable(format!("HTTP status {}", answer.status))),
        Err(error) => return Err(unreadable(error.to_string())),
    };
    match (reply.error, reply.result) {
        (Some(error), _) => {
            Err(Refusal::Engine { code: error.code, message: error.message.chars().take(EXCERPT_CHARS).collect() })
        }
        (None, Some(result)) => Ok(result),
        (None, None) => Err(unreadable("it holds neither a result nor an error".into())),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ForkchoiceAnswer {
    payload_status: PayloadStatus,
    payload_id: Option<B64>,
}

#[derive(Deserialize)]
struct PayloadStatus {
    status: String,
}

/// The payload that a forkchoice call began.
pub(super) fn begun(answer: &Answer) -> Result<B64, Refusal> {
    let answer: ForkchoiceAnswer = result(answer)?;
    if answer.payload_status.status != "VALID" {
        return Err(Refusal::Status(answer.payload_status.status.chars().take(EXCERPT_CHARS).collect()));
    }
    answer.payload_id.ok_or(Refusal::NoPayload)
}

/// What versions 2 and later of getPayload answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    execution_payload: Payload,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    parent_hash: B256,
    fee_recipient: Address,
    prev_randao: B256,
    block_number: U64,
    gas_limit: U64,
    timestamp: U64,
    extra_data: Bytes,
    block_hash: B256,
    transactions: Vec<Bytes>,
}

/// Checks that a payload is exactly the forced prefix and the list, and returns the hash of its block.
pub(super) fn payload_of(answer: &Answer, list: &CommitList) -> Result<B256, Refusal> {
    let Envelope { execution_payload: payload } = result(answer)?;
    let planned = &list.attributes;
    let differences = [
        ("parent", payload.parent_hash != list.parent_hash),
        ("timestamp", payload.timestamp != list.timestamp),
        ("number", payload.block_number != list.number),
        ("fee recipient", payload.fee_recipient != planned.suggested_fee_recipient),
        ("prevRandao", payload.prev_randao != planned.prev_randao),
        ("gas limit", payload.gas_limit != planned.gas_limit),
        ("extraData", extra_data(planned).is_some_and(|expected| expected != payload.extra_data)),
        ("transactions", !payload.transactions.iter().eq(list.forced_prefix.iter().chain(&list.transactions))),
    ];
    match differences.into_iter().find(|(_, differs)| *differs) {
        Some((name, _)) => Err(Refusal::OtherPayload(name)),
        None => Ok(payload.block_hash),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versioned_methods_are_more_than_a_pipes_business() {
        let kind = |method: &str| {
            let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":[]}}"#);
            Call::read(body.as_bytes()).unwrap().kind()
        };
        assert!(matches!(kind("engine_forkchoiceUpdatedV3"), Kind::Forkchoice));
        assert!(matches!(kind("engine_getPayloadV4"), Kind::GetPayload));
        for method in ["engine_getPayloadBodiesByHashV1", "engine_getPayloadV", "engine_newPayloadV4", "eth_chainId"] {
            assert!(matches!(kind(method), Kind::Other), "{method}");
        }
    }

    #[test]
    fn a_call_that_is_changed_keeps_its_id_to_the_byte() {
        let body = br#"{"id": "a\u00e9-7", "method":"engine_getPayloadV4","params":["0x0000000000000001"]}"#;
        let call = Call::read(body).unwrap();
        assert_eq!(call.payload_id(), Some(B64::with_last_byte(1)));
        assert_eq!(
            call.for_payload(B64::with_last_byte(2)),
            r#"{"jsonrpc":"2.0","id":"a\u00e9-7","method":"engine_getPayloadV4","params":["0x0000000000000002"]}"#
        );
    }

    #[test]
    fn batches_and_rubbish_are_no_calls() {
        for body in ["[]", r#"[{"id":1,"method":"eth_chainId","params":[]}]"#, "{", "", "7"] {
            assert!(Call::read(body.as_bytes()).is_none(), "{body}");
        }
        assert!(may_set_forkchoice(br#"[{"method":"engine_forkchoiceUpdatedV3"}]"#));
        assert!(!may_set_forkchoice(br#"[{"method":"engine_newPayloadV3"}]"#));
    }
}

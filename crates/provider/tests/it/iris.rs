//! Circle's attestation service, played by a server of a few lines that answers in its formats.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use alloy::signers::{SignerSync, local::PrivateKeySigner};
use alloy_primitives::{Address, B256, Bytes, U256, hex, keccak256};
use hyper::{
    Request, StatusCode,
    body::Incoming,
    header::{HeaderValue, LOCATION, RETRY_AFTER},
};
use lockstep_messaging::{Evidence, EvidenceRequest, LogPlace, Message, cctp_v2::fill};
use lockstep_primitives::RollupSet;
use lockstep_provider::{
    CctpVersion, EvidenceError, EvidenceRoutes, EvidenceSource, IrisClient, IrisLimits, IrisSource, LandedTx, LocalAttester,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::AbortHandle};

use crate::http::{respond, serve};

const TX: B256 = B256::repeat_byte(0x77);
const NONCE: B256 = B256::repeat_byte(0x33);
const START_MS: u64 = 1_700_000_000_000;
const FIVE_MINUTES_MS: u64 = 5 * 60 * 1_000;

/// What the service does when it is asked.
#[derive(Clone, Debug)]
enum Reply {
    Json(Value),
    Text(u16, String),
    /// Another address, by this one.
    Elsewhere(String),
    /// Too many requests, with how many seconds it asks for.
    TooMany(&'static str),
    /// Nothing, and the connection stays.
    Silence,
}

/// The service, what it was asked, and the clock of whoever asks it.
struct Service {
    url: String,
    replies: Arc<Mutex<VecDeque<Reply>>>,
    asked: Arc<Mutex<Vec<String>>>,
    now_ms: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Service {
    /// One reply a request, in order; 404 after the last one.
    async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let replies = Arc::new(Mutex::new(replies.into_iter().collect::<VecDeque<Reply>>()));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (queue, log) = (Arc::clone(&replies), Arc::clone(&asked));
        let answering = serve(listener, move |request: Request<Incoming>| {
            log.lock().push(format!("{} {}", request.method(), request.uri()));
            let reply = queue.lock().pop_front();
            async move {
                match reply.unwrap_or(Reply::Text(404, r#"{"error":"Message hash not found"}"#.to_owned())) {
                    Reply::Json(body) => respond(StatusCode::OK, body.to_string().into_bytes()),
                    Reply::Text(status, body) => respond(StatusCode::from_u16(status).unwrap(), body.into_bytes()),
                    Reply::Elsewhere(url) => {
                        let mut response = respond(StatusCode::FOUND, Vec::new());
                        response.headers_mut().insert(LOCATION, HeaderValue::from_str(&url).unwrap());
                        response
                    }
                    Reply::TooMany(seconds) => {
                        let mut response = respond(StatusCode::TOO_MANY_REQUESTS, Vec::new());
                        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(seconds));
                        response
                    }
                    Reply::Silence => std::future::pending().await,
                }
            }
        });
        let task = tokio::spawn(answering).abort_handle();
        Self { url, replies, asked, now_ms: Arc::new(AtomicU64::new(START_MS)), task }
    }

    fn client(&self, limits: IrisLimits) -> Arc<IrisClient> {
        let now_ms = Arc::clone(&self.now_ms);
        let clock = Arc::new(move || now_ms.load(Ordering::Relaxed));
        Arc::new(IrisClient::with_clock(&self.url, limits, clock).unwrap())
    }

    fn source(&self, version: CctpVersion) -> IrisSource {
        // Far above what a machine takes that is busy with other tests.
        let limits = IrisLimits { timeout_ms: 60_000, ..IrisLimits::default() };
        IrisSource::new(self.client(limits), version, attesters())
    }

    fn then(&self, reply: Reply) {
        self.replies.lock().push_back(reply);
    }

    fn set_clock(&self, now_ms: u64) {
        self.now_ms.store(now_ms, Ordering::Relaxed);
    }

    /// What it was asked since the last time.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock())
    }
}

/// The attesters' keys, by rising address.
fn keys() -> Vec<PrivateKeySigner> {
    let mut keys: Vec<PrivateKeySigner> =
        (0..3_u8).map(|number| PrivateKeySigner::from_bytes(&keccak256([number])).unwrap()).collect();
    keys.sort_by_key(PrivateKeySigner::address);
    keys
}

fn attesters() -> Vec<Address> {
    keys().iter().map(PrivateKeySigner::address).collect()
}

fn signature(key: &PrivateKeySigner, payload: &[u8]) -> [u8; 65] {
    key.sign_hash_sync(&keccak256(payload)).unwrap().as_bytes()
}

/// Signatures of the first two attesters.
fn signed(payload: &[u8]) -> Vec<[u8; 65]> {
    keys()[..2].iter().map(|key| signature(key, payload)).collect()
}

fn text(bytes: &[u8]) -> String {
    hex::encode_prefixed(bytes)
}

/// A burn on domain 6, as it is emitted.
fn burn(version: CctpVersion) -> Vec<u8> {
    if version == CctpVersion::V1 {
        return [vec![0; 4], 6_u32.to_be_bytes().to_vec(), vec![0xab; 240]].concat();
    }
    let word = |number: u64| B256::from(U256::from(number));
    let header = [1_u32, 6, 2].map(u32::to_be_bytes).concat();
    let ends = [word(0), B256::repeat_byte(1), B256::repeat_byte(2), word(0)].map(|word| word.0).concat();
    let finality = [1_000_u32, 0, 1].map(u32::to_be_bytes).concat();
    let token = Address::repeat_byte(3).into_word();
    let burn = [token, B256::repeat_byte(4), word(1_000_000), Address::repeat_byte(5).into_word(), word(500)];
    let burn = burn.map(|word| word.0).concat();
    [header, ends, finality, burn, vec![0; 64]].concat()
}

/// The burn of v2 as attesters fill it in.
fn filled() -> Vec<u8> {
    fill(&burn(CctpVersion::V2), NONCE, 1_000, U256::from(100), U256::from(99)).unwrap().to_vec()
}

fn request(version: CctpVersion) -> EvidenceRequest {
    let payload = Bytes::from(burn(version));
    let message = Message {
        protocol: version.protocol(),
        id: B256::repeat_byte(5),
        origin: 901,
        destination: Some(902),
        destination_name: "CCTP domain 2".to_owned(),
        restricted_to: None,
        payload: payload.clone(),
        place: LogPlace { block: 7, timestamp: 14, index: 3 },
    };
    EvidenceRequest { message, digest: keccak256(&payload), payload, signers: attesters()[..2].to_vec() }
}

/// What `/v2/messages` lists of the burn once it is attested.
fn listed() -> Value {
    json!({
        "message": text(&filled()), "eventNonce": NONCE, "attestation": text(&signed(&filled()).concat()),
        "cctpVersion": 2, "status": "complete", "delayReason": null, "decodedMessage": { "sourceDomain": "6" },
    })
}

fn messages(listed: &[Value]) -> Reply {
    Reply::Json(json!({ "messages": listed }))
}

async fn landed(source: &IrisSource, version: CctpVersion) -> Result<Evidence, EvidenceError> {
    source.landed(&request(version), &LandedTx::only(TX)).await
}

fn pending(status: &str, delay_reason: Option<&str>) -> Result<Evidence, EvidenceError> {
    Err(EvidenceError::Pending { status: status.to_owned(), delay_reason: delay_reason.map(str::to_owned) })
}

fn assert_malformed(answer: Result<Evidence, EvidenceError>, words: &str) {
    match answer {
        Err(EvidenceError::Malformed(cause)) => assert!(cause.contains(words), "{words}: {cause}"),
        other => panic!("{words}: {other:?}"),
    }
}

#[tokio::test]
async fn a_burn_of_v1_is_asked_for_by_its_hash_until_it_is_attested() {
    let payload = burn(CctpVersion::V1);
    let complete = json!({ "attestation": text(&signed(&payload).concat()), "status": "complete" });
    let service = Service::start([
        Reply::Text(404, "{}".to_owned()),
        Reply::Json(json!({ "attestation": "PENDING", "status": "pending_confirmations" })),
        Reply::Json(json!({ "attestation": null, "status": "pending_confirmations" })),
        Reply::Json(complete),
    ])
    .await;
    let source = service.source(CctpVersion::V1);
    assert_eq!(landed(&source, CctpVersion::V1).await, pending("the service has not seen it yet", None));
    for _ in 0..2 {
        assert_eq!(landed(&source, CctpVersion::V1).await, pending("pending_confirmations", None));
    }
    let evidence = Evidence::Attestation { payload: payload.clone().into(), signatures: signed(&payload) };
    assert_eq!(landed(&source, CctpVersion::V1).await, Ok(evidence));
    assert_eq!(service.asked(), vec![format!("GET /v1/attestations/{}", keccak256(&payload)); 4]);
}

#[tokio::test]
async fn a_burn_of_v2_comes_back_as_it_is_attested() {
    let mut waiting = listed();
    waiting["message"] = json!("0x");
    waiting["attestation"] = json!("PENDING");
    waiting["status"] = json!("pending_confirmations");
    waiting["delayReason"] = json!("insufficient_fee");
    waiting["cctpVersion"] = json!("2");
    let mut foreign = listed();
    let mut bytes = filled();
    bytes[200] ^= 1;
    foreign["message"] = json!(text(&bytes));
    let service = Service::start([messages(&[waiting]), messages(&[foreign.clone()]), messages(&[foreign, listed()])]).await;
    let source = service.source(CctpVersion::V2);
    assert_eq!(landed(&source, CctpVersion::V2).await, pending("pending_confirmations", Some("insufficient_fee")));
    assert_eq!(landed(&source, CctpVersion::V2).await, pending("the service does not list it yet", None), "a foreign message");
    let evidence = Evidence::Attestation { payload: filled().into(), signatures: signed(&filled()) };
    assert_eq!(landed(&source, CctpVersion::V2).await, Ok(evidence));
    assert_eq!(landed(&source, CctpVersion::V2).await, pending("the service has not seen it yet", None));
    assert_eq!(service.asked(), vec![format!("GET /v2/messages/6?transactionHash={TX}"); 4]);
}

#[tokio::test]
async fn only_what_attesters_of_the_deployment_signed_is_evidence() {
    let payload = burn(CctpVersion::V1);
    let (keys, stranger) = (keys(), PrivateKeySigner::from_bytes(&keccak256("stranger")).unwrap());
    let [first, second, third] = [0, 1, 2].map(|index| signature(&keys[index], &payload));
    let service = Service::start([]).await;
    let source = service.source(CctpVersion::V1);
    for (signatures, why) in [
        (vec![second, first], "falling addresses"),
        (vec![first, first], "twice the same"),
        (vec![first], "too few"),
        (vec![first, second, third], "too many"),
        (vec![first, signature(&keys[1], b"another message")], "another message"),
        (vec![signature(&stranger, &payload), signature(&stranger, &payload)], "a stranger's"),
    ] {
        service.then(Reply::Json(json!({ "attestation": text(&signatures.concat()), "status": "complete" })));
        let answer = landed(&source, CctpVersion::V1).await;
        assert!(matches!(answer, Err(EvidenceError::Malformed(_))), "{why}: {answer:?}");
    }
    service.then(Reply::Json(json!({ "attestation": text(&[first, third].concat()), "status": "complete" })));
    assert!(landed(&source, CctpVersion::V1).await.is_ok(), "any two of the three will do");
}

#[tokio::test]
async fn a_message_that_was_filled_in_otherwise_than_it_was_signed_is_no_evidence() {
    let mut other = listed();
    let mut bytes = filled();
    bytes[343] = 99;
    other["message"] = json!(text(&bytes));
    let service = Service::start([messages(&[other])]).await;
    let answer = landed(&service.source(CctpVersion::V2), CctpVersion::V2).await;
    assert!(matches!(answer, Err(EvidenceError::Malformed(_))), "{answer:?}");
}

#[tokio::test]
async fn what_cannot_be_read_is_said_and_the_service_is_left_alone_for_a_moment() {
    let nonsense = [
        (Reply::Text(200, "<html>".to_owned()), "<html>"),
        (Reply::Text(200, r#"{"messages":"#.to_owned()), "EOF"),
        (Reply::Json(json!({ "messages": [{ "message": 7 }] })), "invalid type"),
        (Reply::Json(json!({})), "missing field"),
    ];
    let service = Service::start([]).await;
    for (reply, words) in nonsense {
        service.then(reply);
        let source = service.source(CctpVersion::V2);
        assert_malformed(landed(&source, CctpVersion::V2).await, words);
        let asked = service.asked().len();
        let answer = landed(&source, CctpVersion::V2).await;
        assert!(matches!(answer, Err(EvidenceError::Unavailable(_))), "{answer:?}");
        assert_eq!((asked, service.asked().len()), (1, 0));
    }
}

#[tokio::test]
async fn after_too_many_requests_the_service_hears_nothing_for_five_minutes() {
    let service = Service::start([Reply::TooMany("1"), messages(&[listed()])]).await;
    let source = service.source(CctpVersion::V2);
    let until_ms = START_MS + FIVE_MINUTES_MS;
    let limited = Err(EvidenceError::RateLimited { until_ms });
    assert_eq!(landed(&source, CctpVersion::V2).await, limited);
    service.set_clock(until_ms - 1);
    assert_eq!(landed(&source, CctpVersion::V2).await, limited);
    assert_eq!(service.asked().len(), 1);
    service.set_clock(until_ms);
    assert!(landed(&source, CctpVersion::V2).await.is_ok());
}

#[tokio::test]
async fn both_versions_share_one_limit() {
    let service = Service::start([]).await;
    let client = service.client(IrisLimits { requests_per_second: 1, burst: 2, timeout_ms: 60_000, ..IrisLimits::default() });
    let v1 = IrisSource::new(Arc::clone(&client), CctpVersion::V1, attesters());
    let v2 = IrisSource::new(client, CctpVersion::V2, attesters());
    assert!(matches!(landed(&v1, CctpVersion::V1).await, Err(EvidenceError::Pending { .. })));
    assert!(matches!(landed(&v2, CctpVersion::V2).await, Err(EvidenceError::Pending { .. })));
    let limited = Err(EvidenceError::RateLimited { until_ms: START_MS + 1_000 });
    assert_eq!(landed(&v1, CctpVersion::V1).await, limited);
    assert_eq!(service.asked().len(), 2);
    service.set_clock(START_MS + 1_000);
    assert!(matches!(landed(&v1, CctpVersion::V1).await, Err(EvidenceError::Pending { .. })));
}

#[tokio::test]
async fn an_outage_is_waited_for_longer_and_longer() {
    let down = || Reply::Text(503, "try again".to_owned());
    let service = Service::start([down(), down(), messages(&[listed()])]).await;
    let source = service.source(CctpVersion::V2);
    let mut now_ms = START_MS;
    for rest_ms in [1_000, 2_000] {
        assert_eq!(
            landed(&source, CctpVersion::V2).await,
            Err(EvidenceError::Unavailable("HTTP status 503: try again".to_owned()))
        );
        service.set_clock(now_ms + rest_ms - 1);
        let asked = service.asked().len();
        let answer = landed(&source, CctpVersion::V2).await;
        assert!(matches!(answer, Err(EvidenceError::Unavailable(_))), "{answer:?}");
        assert_eq!((asked, service.asked().len()), (1, 0));
        now_ms += rest_ms;
        service.set_clock(now_ms);
    }
    assert!(landed(&source, CctpVersion::V2).await.is_ok());
}

#[tokio::test]
async fn a_service_that_does_not_answer_sends_elsewhere_or_answers_too_much_is_not_used() {
    let elsewhere = Service::start([messages(&[listed()])]).await;
    let limits = IrisLimits { timeout_ms: 50, ..IrisLimits::default() };
    let patient = IrisLimits { timeout_ms: 60_000, max_answer_bytes: 100, ..limits };
    for (reply, limits, words) in [
        (Reply::Silence, limits, "no answer within 50 ms"),
        (Reply::Elsewhere(elsewhere.url.clone()), patient, "HTTP status 302"),
        (messages(&[listed()]), patient, "more than 100 bytes"),
    ] {
        let service = Service::start([reply]).await;
        let source = IrisSource::new(service.client(limits), CctpVersion::V2, attesters());
        match landed(&source, CctpVersion::V2).await {
            Err(EvidenceError::Unavailable(cause)) => assert!(cause.contains(words), "{words}: {cause}"),
            other => panic!("{words}: {other:?}"),
        }
    }
    assert!(elsewhere.asked().is_empty());

    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = IrisClient::new(&format!("http://{gone}"), IrisLimits::default()).unwrap();
    let source = IrisSource::new(Arc::new(client), CctpVersion::V2, attesters());
    let answer = landed(&source, CctpVersion::V2).await;
    assert!(matches!(answer, Err(EvidenceError::Unavailable(_))), "{answer:?}");
}

#[tokio::test]
async fn what_the_service_refuses_is_no_outage() {
    let service = Service::start([Reply::Text(400, "Invalid domain".to_owned()), messages(&[listed()])]).await;
    let source = service.source(CctpVersion::V2);
    let refused = EvidenceError::Refused("HTTP status 400: Invalid domain".to_owned());
    assert_eq!(landed(&source, CctpVersion::V2).await, Err(refused));
    assert!(landed(&source, CctpVersion::V2).await.is_ok());
}

#[tokio::test]
async fn what_expired_is_attested_again_by_its_nonce() {
    let service = Service::start([Reply::Json(json!({ "message": "Re-attestation requested", "nonce": NONCE }))]).await;
    let source = service.source(CctpVersion::V2);
    let expired = Evidence::Attestation { payload: filled().into(), signatures: signed(&filled()) };
    assert_eq!(source.renew(&request(CctpVersion::V2), &expired).await, Ok(()));
    let unknown = source.renew(&request(CctpVersion::V2), &expired).await;
    assert!(matches!(&unknown, Err(EvidenceError::Refused(cause)) if cause.contains("knows no message")), "{unknown:?}");
    assert_eq!(service.asked(), vec![format!("POST /v2/reattest/{NONCE}"); 2]);

    for nothing in [Evidence::Place, Evidence::Attestation { payload: Bytes::new(), signatures: Vec::new() }] {
        let answer = source.renew(&request(CctpVersion::V2), &nothing).await;
        assert!(matches!(answer, Err(EvidenceError::Refused(_))), "{answer:?}");
    }
    let answer = service.source(CctpVersion::V1).renew(&request(CctpVersion::V1), &expired).await;
    assert!(matches!(answer, Err(EvidenceError::Refused(_))), "{answer:?}");
    assert!(service.asked().is_empty());
}

#[tokio::test]
async fn nothing_is_attested_in_the_slot_that_sends_it() {
    let service = Service::start([messages(&[listed()])]).await;
    let source = service.source(CctpVersion::V2);
    let everybody = RollupSet::from([901, 902]);
    assert_eq!(source.evidence(&request(CctpVersion::V2), &everybody).await, Err(EvidenceError::SameSlot));
    assert!(source.trusted().is_empty());
    assert!(service.asked().is_empty());
}

#[tokio::test]
async fn every_protocol_has_its_source_and_others_are_refused_by_name() {
    let service = Service::start([messages(&[listed()])]).await;
    let wrong = service.source(CctpVersion::V1).landed(&request(CctpVersion::V2), &LandedTx::only(TX)).await;
    assert!(matches!(&wrong, Err(EvidenceError::Refused(cause)) if cause.contains("one of cctp-v2")), "{wrong:?}");
    assert!(service.asked().is_empty());

    let own: Arc<dyn EvidenceSource> = Arc::new(LocalAttester::new(keys(), RollupSet::new()));
    let circle: Arc<dyn EvidenceSource> = Arc::new(service.source(CctpVersion::V2));
    let routes = EvidenceRoutes::new([("cctp-v1", own), ("cctp-v2", circle)].into(), RollupSet::from([901]));
    assert_eq!(routes.trusted(), &RollupSet::from([901]));
    let sent = LandedTx::only(TX);
    let payload = burn(CctpVersion::V1);
    let local = Evidence::Attestation { payload: payload.clone().into(), signatures: signed(&payload) };
    assert_eq!(routes.landed(&request(CctpVersion::V1), &sent).await, Ok(local));
    assert!(routes.landed(&request(CctpVersion::V2), &sent).await.is_ok());
    assert_eq!(service.asked().len(), 1);
    let released = RollupSet::from([901]);
    assert!(routes.evidence(&request(CctpVersion::V1), &released).await.is_ok());
    assert_eq!(routes.evidence(&request(CctpVersion::V2), &released).await, Err(EvidenceError::SameSlot));
    let mut other = request(CctpVersion::V1);
    other.message.protocol = "agglayer";
    let answer = routes.landed(&other, &sent).await;
    assert!(matches!(&answer, Err(EvidenceError::Refused(cause)) if cause.contains("agglayer")), "{answer:?}");
}

#[tokio::test]
async fn local_attesters_sign_what_landed_and_nothing_that_is_not_released() {
    let attester = LocalAttester::new(keys(), RollupSet::new());
    let request = request(CctpVersion::V1);
    let early = attester.evidence(&request, &RollupSet::from([902])).await;
    assert_eq!(early, Err(EvidenceError::NotReleased(901)));
    let payload = request.payload.clone();
    let evidence = Evidence::Attestation { signatures: signed(&payload), payload };
    assert_eq!(attester.landed(&request, &LandedTx::only(TX)).await, Ok(evidence.clone()));
    assert_eq!(attester.renew(&request, &evidence).await, Ok(()));
    let one = LocalAttester::new(keys().into_iter().take(1), RollupSet::new());
    let missing = EvidenceError::UnknownAttester(attesters()[1]);
    assert_eq!(one.landed(&request, &LandedTx::only(TX)).await, Err(missing.clone()));
    assert_eq!(one.renew(&request, &evidence).await, Err(missing));
}

#[tokio::test]
async fn addresses_and_limits_that_are_of_no_use_are_refused() {
    let refused = |url: &str, limits| IrisClient::new(url, limits).map(|_| ()).unwrap_err();
    assert!(refused("iris", IrisLimits::default()).contains("no URL"));
    assert!(refused("ftp://iris.example", IrisLimits::default()).contains("http://"));
    assert!(refused("http://iris.example/?key=1", IrisLimits::default()).contains("without a query"));
    for limits in [
        IrisLimits { requests_per_second: 30, burst: 5, ..IrisLimits::default() },
        IrisLimits { requests_per_second: 0, ..IrisLimits::default() },
        IrisLimits { burst: 0, ..IrisLimits::default() },
    ] {
        assert!(refused("http://iris.example", limits).contains("requests a second"));
    }
    assert!(IrisClient::new("http://iris.example/", IrisLimits::default()).is_ok());
}

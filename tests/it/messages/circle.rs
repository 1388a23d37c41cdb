//! Attesters that sign what is final only: Circle's service, played by a server of a few lines that answers in its formats.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use alloy_primitives::{Address, B256, U64, U256, hex, keccak256};
use lockstep_messaging::cctp_v2::fill;
use lockstep_node::{
    config::{CircleConfig, CircleProtocol},
    dev::{BurnTerms, user},
};
use lockstep_primitives::BundleState;
use lockstep_rpc::wire::RangeParams;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::{AMOUNT, alone, attestation, crossing, delivery, sent_message, token, wealth};
use crate::{
    wait::until,
    world::{LOCAL, World, options},
};

/// The longest request that the service reads.
const MAX_REQUEST: usize = 16 * 1024;
/// How many blocks a fast attestation holds before it has to be made anew.
const HOLDS: u64 = 8;
/// What the service takes of the fast burn, in the smallest unit of USDC.
const FEE: u64 = 1_000;
const NONCE: B256 = B256::repeat_byte(0x33);

/// What the service answers, and what it was asked.
#[derive(Debug, Default)]
struct Book {
    /// By path. What is not here was not seen yet.
    answers: BTreeMap<String, String>,
    /// What takes the place of an answer once its message is to be attested again.
    renewed: Option<(String, String)>,
    /// Requests that were answered.
    answered: Vec<String>,
}

impl Book {
    /// The body of an answer; `None` when there is nothing.
    fn answer(&mut self, method: &str, path: &str) -> Option<String> {
        let body = match method {
            "GET" => self.answers.get(path)?.clone(),
            "POST" => {
                let (path, body) = self.renewed.take()?;
                self.answers.insert(path, body);
                "{}".to_owned()
            }
            _ => return None,
        };
        self.answered.push(format!("{method} {path}"));
        Some(body)
    }
}

/// The service. Ends when it is dropped.
#[derive(Debug)]
struct Service {
    url: String,
    book: Arc<Mutex<Book>>,
    task: JoinHandle<()>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Service {
    async fn start() -> Self {
        let listener = TcpListener::bind(LOCAL).await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it has an address"));
        let book = Arc::new(Mutex::new(Book::default()));
        let answers = Arc::clone(&book);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(exchange(stream, Arc::clone(&answers)));
            }
        });
        Self { url, book, task }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request, one answer.
async fn exchange(mut stream: TcpStream, book: Arc<Mutex<Book>>) {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read_buf(&mut request).await {
            Ok(read) if read > 0 && request.len() <= MAX_REQUEST => {}
            // Who goes away, or does not come to an end, gets no answer.
            _ => return,
        }
    }
    let text = String::from_utf8_lossy(&request);
    let mut line = text.split_whitespace();
    let (Some(method), Some(path)) = (line.next(), line.next()) else { return };
    let answer = book.lock().unwrap_or_else(PoisonError::into_inner).answer(method, path);
    let (status, body) = match answer {
        Some(body) => ("200 OK", body),
        None => ("404 Not Found", r#"{"error":"Message hash not found"}"#.to_owned()),
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close");
    // A caller that goes away in the middle is its own affair.
    let _ = stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// A `dev` whose builder asks this service and holds no attester's key itself.
async fn served_by(service: &Service) -> World {
    let protocols = vec![CircleProtocol::CctpV1, CircleProtocol::CctpV2];
    let circle = CircleConfig { url: service.url.clone(), protocols };
    World::start_with(options(), move |setup| {
        let builder = setup.builder.as_mut().expect("dev has a builder");
        builder.attesters.clear();
        builder.circle = Some(circle);
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_waits_for_the_attestation_and_lands_once_it_is_there() {
    let service = Service::start().await;
    let world = served_by(&service).await;
    let (origin, destination) = (world.chain(0), world.chain(1));
    let contracts = *world.contracts();
    let (patient, impatient, hasty) = (user(1), user(2), user(3));
    let recipient = Address::repeat_byte(0x51);
    let burn = contracts.burn(AMOUNT, world.domain(1), recipient);
    let landed = alone(origin, &user(0), contracts.token_messenger, burn.clone()).await;
    let untouched = [impatient.address(), hasty.address()];
    let before = wealth(&world, &untouched).await;

    // Nothing of an open slot is final: who wants the mint in the slot of the burn is told so at once.
    let at_once = world.lockstep.send(&crossing(origin, destination, &hasty, contracts.token_messenger, burn).await).await;
    world.lockstep.blocked(at_once, "no_evidence").await;

    // One waits as long as it takes, the other until a block that comes before the attestation.
    let mut bounded = delivery(landed, destination, &impatient).await;
    let last = destination.height().await + 3;
    bounded.blocks = [(U64::from(destination.id), RangeParams { min: None, max: Some(U64::from(last)) })].into();
    let bounded = world.lockstep.send(&bounded).await;
    let waiting = world.lockstep.send(&delivery(landed, destination, &patient).await).await;
    for hash in [bounded, waiting] {
        let obstacle = world.lockstep.blocked(hash, "evidence_pending").await;
        assert_eq!((obstacle.rollup, obstacle.leg), (Some(U64::from(destination.id)), Some(0)));
    }
    until("the bounded bundle expires", async || {
        (world.lockstep.status(bounded).await.state == BundleState::Expired.as_str()).then_some(())
    })
    .await;
    assert_eq!(world.lockstep.status(waiting).await.state, "pending");
    assert_eq!(token(destination, contracts.usdc, recipient).await, U256::ZERO);

    let message = sent_message(origin, landed.tx, contracts.message_transmitter).await;
    let complete = json!({ "attestation": attestation(&message), "status": "complete" }).to_string();
    service.book().answers.insert(format!("/v1/attestations/{}", keccak256(&message)), complete);
    assert_eq!(world.lockstep.landed(waiting).await.level, "G2");
    assert_eq!(token(destination, contracts.usdc, recipient).await, AMOUNT);
    assert_eq!(wealth(&world, &untouched).await, before, "who expired, or was refused, paid nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attestation_that_expired_is_asked_for_anew() {
    let service = Service::start().await;
    let world = served_by(&service).await;
    let (origin, destination) = (world.chain(0), world.chain(1));
    let contracts = *world.contracts();
    let recipient = Address::repeat_byte(0x53);
    let terms = BurnTerms { fast: true, max_fee: U256::from(FEE), ..BurnTerms::default() };
    let burn = contracts.cctp_v2.burn(contracts.usdc, AMOUNT, world.domain(1), recipient, &terms);
    let landed = alone(origin, &user(0), contracts.cctp_v2.token_messenger, burn).await;
    let template = sent_message(origin, landed.tx, contracts.cctp_v2.message_transmitter).await;
    let path = format!("/v2/messages/{}?transactionHash={}", world.domain(0), landed.tx);
    let attested = |expiration: u64| {
        let filled = fill(&template, NONCE, 1_000, U256::from(FEE), U256::from(expiration)).expect("it is a burn");
        let listed = json!({
            "message": hex::encode_prefixed(&filled), "eventNonce": NONCE, "attestation": attestation(&filled),
            "cctpVersion": 2, "status": "complete", "delayReason": null,
        });
        json!({ "messages": [listed] }).to_string()
    };

    // Until the builder has fetched it the attestation is one that holds for some blocks more.
    let fetched = format!("GET {path}");
    let mut expiration = 0;
    until("the attestation is fetched", async || {
        let head = destination.height().await;
        let mut book = service.book();
        if book.answered.contains(&fetched) {
            return Some(());
        }
        expiration = head + HOLDS;
        book.answers.insert(path.clone(), attested(expiration));
        None
    })
    .await;
    until("the attestation expires", async || (destination.height().await >= expiration).then_some(())).await;

    let bundle = world.lockstep.send(&delivery(landed, destination, &user(1)).await).await;
    let obstacle = world.lockstep.blocked(bundle, "evidence_pending").await;
    assert!(obstacle.text.contains(&format!("expired at block {expiration}")), "{}", obstacle.text);
    assert_eq!(token(destination, contracts.usdc, recipient).await, U256::ZERO);

    // From here on the service attests it again, when it is asked to.
    service.book().renewed = Some((path.clone(), attested(0)));
    world.lockstep.landed(bundle).await;
    assert!(service.book().answered.contains(&format!("POST /v2/reattest/{NONCE}")));
    assert_eq!(token(destination, contracts.usdc, recipient).await, AMOUNT - U256::from(FEE));
}

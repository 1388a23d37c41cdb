//! The engine proxy between a driver and an execution client: lists get into blocks, and whatever goes wrong the operator's
//! own payload does.

use std::{net::SocketAddr, sync::Arc};

use alloy_primitives::{Address, B64, B256, Bytes, U64, U256, address};
use lockstep_provider::{
    CommitList, ControlError, EmbeddedGenesis, EmbeddedRollup, EngineConfig, EngineControl, EngineError, EngineProxy,
    EngineTimeouts, JwtSecret, Outcome, OutcomeState, PlannedAttributes, RollupNode,
};
use lockstep_simulation::{BlockPlan, ForkSchedule, MemoryState, OpFork, Rules};
use lockstep_testkit::{Call, GWEI, ether, user};
use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::{
    driver::{Driver, post, token},
    engine_server::{EngineServer, Fault, Step},
};

pub(crate) const CHAIN: u64 = 901;
pub(crate) const CLIENT: &str = "op-geth/v1.101603.5-stable";
pub(crate) const SOMEBODY: Address = Address::repeat_byte(0x77);
const L1_BLOCK: Address = address!("4200000000000000000000000000000000000015");

pub(crate) fn driver_secret() -> JwtSecret {
    JwtSecret::from_hex("11".repeat(32)).unwrap()
}

pub(crate) fn engine_secret() -> JwtSecret {
    JwtSecret::from_hex("22".repeat(32)).unwrap()
}

pub(crate) fn control_secret() -> JwtSecret {
    JwtSecret::from_hex("33".repeat(32)).unwrap()
}

fn nowhere() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

pub(crate) fn rollup() -> Arc<EmbeddedRollup> {
    let mut state = MemoryState::new();
    for number in 0..3 {
        state.set_account(user(number).address(), ether(10), 0, Bytes::new());
    }
    // STOP: the attributes need not be stored for blocks to be made.
    state.set_account(L1_BLOCK, U256::ZERO, 1, Bytes::from_static(&[0]));
    let genesis = EmbeddedGenesis {
        chain: CHAIN,
        forks: ForkSchedule::always(Rules::OpStack(OpFork::Jovian)),
        timestamp: 1_800_000_000,
        gas_limit: 30_000_000,
        base_fee: 1_000_000,
        state,
    };
    Arc::new(EmbeddedRollup::new(genesis).unwrap())
}

/// A transfer of a user; users 0 and 1 are in the client's pool, user 2 is in lists.
pub(crate) fn transfer(number: usize, nonce: u64) -> Bytes {
    Call::pay(SOMEBODY, U256::from(1)).sign(CHAIN, user(number), nonce, GWEI).raw().clone()
}

pub(crate) fn config(engine: String, timeouts: EngineTimeouts) -> EngineConfig {
    EngineConfig {
        listen: nowhere(),
        control: nowhere(),
        engine,
        driver_jwt: driver_secret(),
        engine_jwt: engine_secret(),
        control_jwt: control_secret(),
        flashblocks: false,
        timeouts,
    }
}

/// Long enough for a machine that is busy with other tests.
pub(crate) const PATIENT: EngineTimeouts = EngineTimeouts { begin_ms: 30_000, payload_ms: 30_000, forward_ms: 30_000 };

/// A driver and a client, with the proxy between them. The first transfer of user 0 is in the client's pool.
pub(crate) struct Stand {
    pub(crate) server: EngineServer,
    pub(crate) proxy: EngineProxy,
    pub(crate) driver: Driver,
    pub(crate) control: EngineControl,
    pub(crate) rollup: Arc<EmbeddedRollup>,
}

impl Stand {
    pub(crate) async fn new(timeouts: EngineTimeouts) -> Self {
        let rollup = rollup();
        let server = EngineServer::start(Arc::clone(&rollup), engine_secret(), CLIENT).await;
        let proxy = EngineProxy::serve(config(server.url(), timeouts)).await.unwrap();
        server.add(&transfer(0, 0));
        server.seen();
        let driver = Driver { proxy: proxy.address(), secret: driver_secret(), rollup: Arc::clone(&rollup), sent: Vec::new() };
        let control = EngineControl::new(&format!("http://{}", proxy.control_address()), control_secret()).unwrap();
        Self { server, proxy, driver, control, rollup }
    }

    async fn list(&self, plan: &BlockPlan) -> CommitList {
        list_for(&self.rollup, plan).await
    }

    async fn outcome(&self, list: &CommitList) -> Outcome {
        self.control.outcome(list.parent_hash, list.timestamp.to()).await.unwrap()
    }
}

/// A list for the next block, planned so.
async fn list_for(rollup: &EmbeddedRollup, plan: &BlockPlan) -> CommitList {
    let head = rollup.head().await.unwrap();
    let next = &plan.next;
    CommitList {
        parent_hash: head.hash,
        timestamp: U64::from(next.timestamp),
        number: U64::from(head.number + 1),
        forced_prefix: plan.forced.iter().map(|tx| tx.raw().clone()).collect(),
        attributes: PlannedAttributes {
            gas_limit: U64::from(next.gas_limit),
            prev_randao: next.prev_randao,
            suggested_fee_recipient: next.beneficiary,
            parent_beacon_block_root: next.parent_beacon_block_root,
            eip_1559_params: Some(B64::from_slice(&next.extra_data[1..9])),
            min_base_fee: Some(U64::from_be_slice(&next.extra_data[9..17])),
        },
        transactions: vec![transfer(2, 0)],
        expires_ms: u64::MAX,
    }
}

fn whole(list: &CommitList) -> Vec<Bytes> {
    list.forced_prefix.iter().chain(&list.transactions).cloned().collect()
}

fn reason<T: std::fmt::Debug>(answer: Result<T, ControlError>) -> String {
    match answer {
        Err(ControlError::Refused { reason, .. }) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn without_lists_every_call_and_every_answer_passes_to_the_byte() {
    let mut stand = Stand::new(PATIENT).await;
    for number in 1..=3 {
        let plan = stand.driver.plan().await;
        let (_, transactions) = stand.driver.block().await;
        let mut own: Vec<Bytes> = plan.forced.iter().map(|tx| tx.raw().clone()).collect();
        if number == 1 {
            own.push(transfer(0, 0));
        }
        assert_eq!(transactions, own, "block {number}");
    }
    stand.driver.call("eth_blockNumber", json!([])).await;
    stand.driver.call("engine_getPayloadV4", json!([B64::ZERO])).await;
    stand.driver.call("engine_exchangeCapabilities", json!([["engine_newPayloadV4"]])).await;
    let batch = br#" [ {"jsonrpc":"2.0","id":"a","method":"eth_blockNumber","params":[]},{"id":2,"method":"no"} ]"#;
    assert_eq!(stand.driver.send(batch).await.0, 200);
    assert_eq!(stand.driver.send(b"this is no JSON").await.0, 400, "a status passes too");
    let seen: Vec<_> = stand.server.seen().into_iter().map(|exchange| (exchange.call, exchange.answer)).collect();
    assert_eq!(seen.len(), 3 * 4 + 5, "and not one call more");
    assert!(seen == stand.driver.sent, "something was changed on its way");
}

#[tokio::test]
async fn a_list_that_is_committed_is_the_block() {
    let mut stand = Stand::new(PATIENT).await;
    let plan = stand.driver.plan().await;
    let list = stand.list(&plan).await;
    assert_eq!(stand.control.commit_list(&list).await.unwrap().state, OutcomeState::Waiting);
    assert_eq!(stand.control.commit_list(&list).await.unwrap().state, OutcomeState::Waiting, "said twice is said once");
    let other = CommitList { transactions: Vec::new(), ..list.clone() };
    assert_eq!(reason(stand.control.commit_list(&other).await), "another_list");

    let id = stand.driver.begin(Driver::attributes(&plan)).await;
    let outcome = stand.outcome(&list).await;
    assert_eq!((outcome.state, outcome.payload_id), (OutcomeState::Building, Some(id)), "the driver has the list's payload id");
    let (hash, transactions) = stand.driver.seal(id).await;
    assert_eq!(transactions, whole(&list));
    let outcome = stand.outcome(&list).await;
    assert_eq!((outcome.state, outcome.block_hash), (OutcomeState::Delivered, Some(hash)));

    // The operator's transaction was not lost: it is in the next block, which nobody bought.
    let (_, transactions) = stand.driver.block().await;
    assert_eq!(transactions.last(), Some(&transfer(0, 0)));
}

#[tokio::test]
async fn an_empty_list_is_a_block_without_the_operators_pool() {
    let mut stand = Stand::new(PATIENT).await;
    let plan = stand.driver.plan().await;
    let list = CommitList { transactions: Vec::new(), ..stand.list(&plan).await };
    stand.control.commit_list(&list).await.unwrap();
    assert_eq!(stand.driver.block().await.1, list.forced_prefix);
}

#[tokio::test]
async fn a_list_that_comes_after_the_drivers_call_is_the_block_too() {
    let mut stand = Stand::new(PATIENT).await;
    let plan = stand.driver.plan().await;
    let own = stand.driver.begin(Driver::attributes(&plan)).await;
    let list = stand.list(&plan).await;
    let outcome = stand.control.commit_list(&list).await.unwrap();
    assert_eq!(outcome.state, OutcomeState::Building);
    assert_ne!(outcome.payload_id, Some(own));
    let (hash, transactions) = stand.driver.seal(own).await;
    assert_eq!(transactions, whole(&list), "the driver asked for the operator's own payload and got the list's");
    assert_eq!(stand.outcome(&list).await.block_hash, Some(hash));
}

#[tokio::test]
async fn a_list_that_comes_too_late_is_refused_by_name() {
    let mut stand = Stand::new(PATIENT).await;
    let plan = stand.driver.plan().await;
    let list = stand.list(&plan).await;
    let own = stand.driver.begin(Driver::attributes(&plan)).await;
    let (_, transactions) = stand.driver.seal(own).await;
    assert_eq!(reason(stand.control.commit_list(&list).await), "too_late");
    assert_eq!(transactions.last(), Some(&transfer(0, 0)));

    // The driver asks for a block, and then sets another head: repeating the old one would take the client back.
    let plan = stand.driver.plan().await;
    let list = stand.list(&plan).await;
    stand.driver.begin(Driver::attributes(&plan)).await;
    let genesis = stand.rollup.block(0).unwrap().hash;
    stand.driver.forkchoice(genesis, Value::Null).await;
    stand.server.seen();
    assert_eq!(reason(stand.control.commit_list(&list).await), "head_moved");
    assert!(stand.server.seen().is_empty(), "nothing was sent to the client");

    let expired = CommitList { expires_ms: 1, ..list };
    assert_eq!(reason(stand.control.commit_list(&expired).await), "expired");
}

#[tokio::test]
async fn a_newer_safe_block_does_not_keep_a_late_list_out() {
    let mut stand = Stand::new(PATIENT).await;
    let plan = stand.driver.plan().await;
    let list = stand.list(&plan).await;
    let own = stand.driver.begin(Driver::attributes(&plan)).await;
    let head = stand.rollup.head().await.unwrap().hash;
    let state = json!({ "headBlockHash": head, "safeBlockHash": head, "finalizedBlockHash": B256::ZERO });
    stand.driver.call("engine_forkchoiceUpdatedV3", json!([state, null])).await;
    stand.server.seen();
    assert_eq!(stand.control.commit_list(&list).await.unwrap().state, OutcomeState::Building);
    let seen = stand.server.seen();
    let sent: Value = serde_json::from_slice(&seen[0].call).unwrap();
    assert_eq!((seen.len(), &sent["params"][0]), (1, &state), "the newest forkchoice is repeated, not the older one");
    assert_eq!(stand.driver.seal(own).await.1, whole(&list));
}

#[tokio::test]
async fn a_list_that_was_refused_is_not_used_later() {
    let mut stand = Stand::new(PATIENT).await;
    let plan = stand.driver.plan().await;
    let list = stand.list(&plan).await;
    stand.driver.begin(Driver::attributes(&plan)).await;
    stand.server.misbehave(Some((Step::BeginList, Fault::Error(-38003))));
    assert_eq!(reason(stand.control.commit_list(&list).await), "engine_error");
    stand.server.misbehave(None);
    let (_, transactions) = stand.driver.block().await;
    assert_eq!(transactions.last(), Some(&transfer(0, 0)), "the driver asked once more, for a block that is not sold");
}

/// A list is committed, one step of it goes wrong, and the block is the operator's own all the same.
async fn falls_back(timeouts: EngineTimeouts, faults: Vec<(Step, Fault, &str)>) {
    let mut stand = Stand::new(timeouts).await;
    for (nonce, (step, fault, expected)) in faults.into_iter().enumerate() {
        let about = format!("{step:?} {fault:?}");
        let own = transfer(0, nonce as u64);
        if nonce > 0 {
            stand.server.add(&own);
        }
        let plan = stand.driver.plan().await;
        let list = stand.list(&plan).await;
        stand.control.commit_list(&list).await.unwrap();
        stand.server.misbehave(Some((step, fault)));
        let (_, transactions) = stand.driver.block().await;
        let whole: Vec<Bytes> = list.forced_prefix.iter().chain([&own]).cloned().collect();
        assert_eq!(transactions, whole, "{about}");
        let outcome = stand.outcome(&list).await;
        assert_eq!((outcome.state, outcome.reason.as_deref()), (OutcomeState::FellBack, Some(expected)), "{about}: {outcome:?}");
        stand.server.misbehave(None);
    }
    // Lists work again.
    let plan = stand.driver.plan().await;
    let list = stand.list(&plan).await;
    stand.control.commit_list(&list).await.unwrap();
    assert_eq!(stand.driver.block().await.1, whole(&list));
}

#[tokio::test]
async fn whatever_the_client_answers_to_a_list_the_operators_own_payload_is_used() {
    let status = |status: &str| Fault::Result(json!({ "payloadStatus": { "status": status }, "payloadId": null }));
    let mut faults: Vec<(Step, Fault, &str)> =
        (-38006..=-38001).map(|code| (Step::BeginList, Fault::Error(code), "engine_error")).collect();
    faults.extend([
        (Step::BeginList, status("INVALID"), "engine_status"),
        (Step::BeginList, status("SYNCING"), "engine_status"),
        (Step::BeginList, status("VALID"), "engine_no_payload"),
        (Step::BeginList, Fault::Bytes(500, "internal error"), "engine_unreadable"),
        (Step::BeginList, Fault::Bytes(200, "{}"), "engine_unreadable"),
        (Step::BeginList, Fault::Bytes(200, "<html>"), "engine_unreadable"),
    ]);
    falls_back(PATIENT, faults).await;
}

#[tokio::test]
async fn a_payload_that_is_not_the_list_is_not_delivered() {
    let payload = |change: fn(&mut Value)| (Step::FetchList, Fault::Changed(change), "other_payload");
    let faults = vec![
        (Step::FetchList, Fault::Error(-38001), "engine_error"),
        (Step::FetchList, Fault::Result(Value::Null), "engine_unreadable"),
        (Step::FetchList, Fault::Bytes(502, ""), "engine_unreadable"),
        payload(|envelope| {
            envelope["executionPayload"]["transactions"].as_array_mut().unwrap().pop();
        }),
        payload(|envelope| {
            envelope["executionPayload"]["transactions"].as_array_mut().unwrap().push(json!("0x02"));
        }),
        payload(|envelope| {
            envelope["executionPayload"]["transactions"].as_array_mut().unwrap().reverse();
        }),
        payload(|envelope| envelope["executionPayload"]["parentHash"] = json!(B256::ZERO)),
        payload(|envelope| envelope["executionPayload"]["timestamp"] = json!("0x1")),
        payload(|envelope| envelope["executionPayload"]["blockNumber"] = json!("0x1000")),
        payload(|envelope| envelope["executionPayload"]["prevRandao"] = json!(B256::ZERO)),
        payload(|envelope| envelope["executionPayload"]["feeRecipient"] = json!(Address::ZERO)),
        payload(|envelope| envelope["executionPayload"]["gasLimit"] = json!("0x1")),
        payload(|envelope| envelope["executionPayload"]["extraData"] = json!("0x")),
    ];
    falls_back(PATIENT, faults).await;
}

#[tokio::test]
async fn a_driver_that_was_given_its_own_payload_is_given_it_again() {
    let mut stand = Stand::new(PATIENT).await;
    let plan = stand.driver.plan().await;
    let list = stand.list(&plan).await;
    stand.control.commit_list(&list).await.unwrap();
    let id = stand.driver.begin(Driver::attributes(&plan)).await;
    stand.server.misbehave(Some((Step::FetchList, Fault::Error(-38001))));
    let first = stand.driver.call("engine_getPayloadV4", json!([id])).await;
    stand.server.misbehave(None);
    let (hash, transactions) = stand.driver.seal(id).await;
    assert_eq!(first["result"]["executionPayload"]["blockHash"], json!(hash));
    assert_eq!(transactions.last(), Some(&transfer(0, 0)));
    assert_eq!(stand.outcome(&list).await.state, OutcomeState::FellBack);
}

#[tokio::test]
async fn a_client_that_does_not_answer_in_time_costs_a_list_and_no_block() {
    let timeouts = EngineTimeouts { begin_ms: 2_000, ..PATIENT };
    falls_back(timeouts, vec![(Step::BeginList, Fault::Silence, "engine_late")]).await;
    let timeouts = EngineTimeouts { payload_ms: 2_000, ..PATIENT };
    falls_back(timeouts, vec![(Step::FetchList, Fault::Silence, "engine_late")]).await;
}

#[tokio::test]
async fn a_list_for_other_attributes_than_the_drivers_is_not_used() {
    let mut stand = Stand::new(PATIENT).await;
    let other = stand.driver.other_deposit().await;
    let changes: [(&str, Value, &str); 6] = [
        ("gasLimit", json!("0x1c9c381"), "attributes_differ"),
        ("prevRandao", json!(B256::repeat_byte(9)), "attributes_differ"),
        ("suggestedFeeRecipient", json!(SOMEBODY), "attributes_differ"),
        ("parentBeaconBlockRoot", json!(B256::repeat_byte(9)), "attributes_differ"),
        ("minBaseFee", json!(2_000), "attributes_differ"),
        ("transactions", json!([other]), "forced_prefix_differs"),
    ];
    for (nonce, (name, value, expected)) in changes.into_iter().enumerate() {
        if nonce > 0 {
            stand.server.add(&transfer(0, nonce as u64));
        }
        let plan = stand.driver.plan().await;
        let list = stand.list(&plan).await;
        stand.control.commit_list(&list).await.unwrap();
        let mut attributes = Driver::attributes(&plan);
        if name == "transactions" {
            attributes[name].as_array_mut().unwrap().push(value[0].clone());
        } else {
            attributes[name] = value;
        }
        stand.server.seen();
        let id = stand.driver.begin(attributes).await;
        assert_eq!(stand.server.seen().len(), 1, "{name}: the client was asked for the operator's own payload only");
        let (_, transactions) = stand.driver.seal(id).await;
        assert_eq!(transactions.last(), Some(&transfer(0, nonce as u64)), "{name}");
        assert_eq!(stand.outcome(&list).await.reason.as_deref(), Some(expected), "{name}");
    }
}

#[tokio::test]
async fn a_block_for_deposits_only_takes_no_list_before_or_after() {
    let mut stand = Stand::new(PATIENT).await;
    for late in [false, true] {
        let plan = stand.driver.plan().await;
        let list = stand.list(&plan).await;
        let mut attributes = Driver::attributes(&plan);
        attributes["noTxPool"] = json!(true);
        if !late {
            stand.control.commit_list(&list).await.unwrap();
        }
        let id = stand.driver.begin(attributes).await;
        if late {
            assert_eq!(reason(stand.control.commit_list(&list).await), "only_deposits");
        }
        assert_eq!(stand.outcome(&list).await.reason.as_deref(), Some("only_deposits"));
        assert_eq!(stand.driver.seal(id).await.1, list.forced_prefix);
    }
}

#[tokio::test]
async fn what_no_list_may_hold_is_refused_with_its_index() {
    let stand = Stand::new(PATIENT).await;
    let plan = stand.driver.plan().await;
    for (bytes, problem) in [(&[0x7e_u8, 1][..], "is a deposit"), (&[3, 1][..], "carries blobs"), (&[][..], "is empty")] {
        let list = CommitList { transactions: vec![transfer(2, 0), Bytes::copy_from_slice(bytes)], ..stand.list(&plan).await };
        let Err(ControlError::Refused { reason, message }) = stand.control.commit_list(&list).await else { panic!("taken") };
        assert_eq!(reason, "transaction_not_allowed");
        assert!(message.contains("transaction 1") && message.contains(problem), "{message}");
    }
}

#[tokio::test]
async fn the_newest_attributes_are_told() {
    let mut stand = Stand::new(PATIENT).await;
    assert_eq!(stand.control.last_attributes().await, Ok(None));
    let plan = stand.driver.plan().await;
    let id = stand.driver.begin(Driver::attributes(&plan)).await;
    let last = stand.control.last_attributes().await.unwrap().unwrap();
    assert_eq!(last.parent_hash, stand.rollup.head().await.unwrap().hash);
    assert_eq!((last.timestamp, last.payload_id), (U64::from(plan.next.timestamp), id));
    assert_eq!(last.attributes, Driver::attributes(&plan));
}

#[tokio::test]
async fn a_wrong_token_is_refused_on_every_port() {
    let stand = Stand::new(PATIENT).await;
    let call = br#"{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber","params":[]}"#;
    let driver = stand.proxy.address();
    assert_eq!(post(driver, Some(&token(driver_secret())), call).await.0, 200);
    stand.server.seen();
    let stale = json!({ "iat": 1_600_000_000 });
    let stale = driver_secret().encode(&serde_json::from_value(stale).unwrap()).unwrap();
    for wrong in [Some(token(engine_secret())), Some(token(control_secret())), Some(stale), Some("a.b.c".to_owned()), None] {
        let (status, answer) = post(driver, wrong.as_deref(), call).await;
        assert_eq!(status, 401);
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["error"]["data"]["reason"], "unauthorized", "{answer}");
    }
    assert!(stand.server.seen().is_empty(), "nothing of it reached the client");
    let last = br#"{"jsonrpc":"2.0","id":1,"method":"lockstepEngine_lastAttributes","params":[]}"#;
    let control = stand.proxy.control_address();
    assert_eq!(post(control, Some(&token(driver_secret())), last).await.0, 401, "the driver may not commit lists");
    assert_eq!(post(control, Some(&token(control_secret())), last).await.0, 200);

    let config = EngineConfig { engine_jwt: driver_secret(), ..config(stand.server.url(), PATIENT) };
    assert!(matches!(EngineProxy::serve(config).await, Err(EngineError::EngineJwt(_))), "the client refuses the proxy");
}

#[tokio::test]
async fn the_control_port_answers_its_own_methods_only() {
    let stand = Stand::new(PATIENT).await;
    let ask = async |body: &[u8]| {
        let (_, answer) = post(stand.proxy.control_address(), Some(&token(control_secret())), body).await;
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        answer["error"]["data"]["reason"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(ask(br#"{"id":1,"method":"engine_getPayloadV4","params":[]}"#).await, "method_not_found");
    assert_eq!(ask(br#"{"id":1,"method":"lockstepEngine_commitList","params":[{"extra":1}]}"#).await, "invalid_params");
    assert_eq!(ask(br#"{"id":1,"method":"lockstepEngine_lastAttributes","params":[1]}"#).await, "invalid_params");
    assert_eq!(ask(b"[]").await, "invalid_request");
    assert_eq!(ask(b"{").await, "parse_error");
    assert_eq!(reason(stand.control.outcome(B256::ZERO, 1).await), "unknown_list");
}

#[tokio::test]
async fn rollups_on_flashblocks_are_refused_by_name() {
    let rollup = rollup();
    for client in ["reth/v1.9-op-rbuilder", "Rollup-Boost/0.7", "op-reth with flashblocks"] {
        let server = EngineServer::start(Arc::clone(&rollup), engine_secret(), client).await;
        let refused = EngineProxy::serve(config(server.url(), PATIENT)).await;
        assert!(matches!(refused, Err(EngineError::Flashblocks(_))), "{client}");
    }
    let server = EngineServer::start(rollup, engine_secret(), CLIENT).await;
    let told = EngineConfig { flashblocks: true, ..config(server.url(), PATIENT) };
    assert!(matches!(EngineProxy::serve(told).await, Err(EngineError::Flashblocks(_))));
    let elsewhere = EngineProxy::serve(config("https://127.0.0.1:1".to_owned(), PATIENT)).await;
    assert!(matches!(elsewhere, Err(EngineError::Address(_))));
}

#[tokio::test]
async fn a_client_that_comes_up_later_is_no_reason_not_to_start() {
    let rollup = rollup();
    // A port that is this test's, and that nobody listens on yet.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(nowhere()).unwrap();
    let address = socket.local_addr().unwrap();
    let proxy = EngineProxy::serve(config(format!("http://{address}"), PATIENT)).await.unwrap();
    let call = br#"{"jsonrpc":"2.0","id":7,"method":"eth_blockNumber","params":[]}"#;
    let (status, answer) = post(proxy.address(), Some(&token(driver_secret())), call).await;
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!((status, &answer["id"], &answer["error"]["data"]["reason"]), (502, &json!(7), &json!("engine_unreachable")));

    let mut driver = Driver { proxy: proxy.address(), secret: driver_secret(), rollup: Arc::clone(&rollup), sent: Vec::new() };
    let control = EngineControl::new(&format!("http://{}", proxy.control_address()), control_secret()).unwrap();
    let plan = driver.plan().await;
    let list = list_for(&rollup, &plan).await;
    assert_eq!(reason(control.commit_list(&list).await), "engine_unreachable");
    let _server = EngineServer::start_on(socket.listen(16).unwrap(), rollup, engine_secret(), CLIENT);
    control.commit_list(&list).await.unwrap();
    assert_eq!(driver.block().await.1, whole(&list));
}

#[tokio::test]
async fn the_chain_goes_on_when_nobody_speaks_on_the_control_port_any_more() {
    let mut stand = Stand::new(PATIENT).await;
    let plan = stand.driver.plan().await;
    let list = stand.list(&plan).await;
    stand.control.commit_list(&list).await.unwrap();
    stand.proxy.close_control();
    assert_eq!(stand.driver.block().await.1, whole(&list), "what was committed is still delivered");
    for _ in 0..3 {
        stand.driver.block().await;
    }
    assert_eq!(stand.rollup.head().await.unwrap().number, 4);
}

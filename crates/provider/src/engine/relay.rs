//! Between the driver and the execution client.
//!
//! Every call goes through as it is. Two kinds are looked at as well: a forkchoice call that asks for a payload is repeated
//! with the list for that block, if there is one, and a payload of a list is checked before the driver gets it. Whatever goes
//! wrong with a list, the driver gets the operator's own payload, which was begun first and never touched.

use std::sync::Arc;

use alloy_primitives::{B64, B256};
use alloy_rpc_types_engine::JwtSecret;
use async_trait::async_trait;
use hyper::{StatusCode, body::Bytes};
use parking_lot::Mutex;
use tokio::{sync, time::timeout};

use super::{
    EngineError, Refusal,
    call::{Call, Kind, begun, may_set_forkchoice, payload_of},
    config::EngineTimeouts,
    flashblocks::Flashblocks,
    http::{Answer, Answers},
    now_ms,
    table::{Job, Table, key_of},
    upstream::Upstream,
    wire::{CommitList, LastAttributes, Outcome},
};

/// JSON-RPC's "internal error": here, that the execution client gave no answer.
const NO_ANSWER: i32 = -32603;

/// The proxy's two ports share it.
#[derive(Debug)]
pub(super) struct Relay {
    engine: Upstream,
    timeouts: EngineTimeouts,
    flashblocks: Flashblocks,
    table: Mutex<Table>,
    /// Held for every forkchoice call, so that one which repeats the driver's never comes after a newer one.
    turn: sync::Mutex<()>,
}

#[async_trait]
impl Answers for Relay {
    async fn answer(&self, body: Bytes) -> Answer {
        let may_move_head = match Call::read(&body) {
            Some(call) => match call.kind() {
                Kind::Forkchoice => return self.forkchoice(&call, &body).await,
                Kind::GetPayload => return self.payload(&call, &body).await,
                Kind::Other => false,
            },
            None => may_set_forkchoice(&body),
        };
        if !may_move_head {
            return self.forward(body).await;
        }
        // A batch goes through as it is; which head it sets is not looked into, so no list is begun late after it.
        let _turn = self.turn.lock().await;
        self.table.lock().set_forkchoice(None);
        self.forward(body).await
    }
}

impl Relay {
    pub(super) fn new(url: &str, secret: JwtSecret, timeouts: EngineTimeouts) -> Result<Self, EngineError> {
        Ok(Self {
            engine: Upstream::new(url, secret)?,
            timeouts,
            flashblocks: Flashblocks::default(),
            table: Mutex::default(),
            turn: sync::Mutex::default(),
        })
    }

    /// Looks at the execution client for the first time.
    pub(super) async fn look(&self) -> Result<(), Refusal> {
        self.flashblocks.check(&self.engine, self.timeouts.begin()).await
    }

    /// Passes a call on as it is, and its answer back.
    async fn forward(&self, body: Bytes) -> Answer {
        match self.engine.send(body.clone(), self.timeouts.forward()).await {
            Ok(answer) => answer,
            Err(refusal) => {
                let id = Call::read(&body).map_or("null", |call| call.id());
                metrics::counter!("lockstep_engine_unanswered_total", "reason" => refusal.code()).increment(1);
                Answer::error(StatusCode::BAD_GATEWAY, id, NO_ANSWER, refusal.code(), &refusal.to_string(), refusal.hint())
            }
        }
    }

    /// `engine_forkchoiceUpdated`: the driver's own call first, then, if its block is sold, the same with the list.
    async fn forkchoice(&self, call: &Call<'_>, body: &Bytes) -> Answer {
        let _turn = self.turn.lock().await;
        let asked = call.forkchoice();
        self.table.lock().set_forkchoice(asked.as_ref().map(|asked| (asked.head, asked.state.clone())));
        let own = self.forward(body.clone()).await;
        let Some(asked) = asked else { return own };
        let Some(attributes) = asked.attributes.clone() else { return own };
        let Ok(id) = begun(&own) else { return own };
        let key = (asked.head, attributes.timestamp());
        let job = Job { key, call: asked, attributes, own: id, list: None, fetched: false, given_up: false };
        let list = self.table.lock().begin(job.clone(), now_ms());
        let Some(list) = list else { return own };
        match self.begin(&job, &list, call.id()).await {
            Ok(answer) => answer,
            Err(refusal) => {
                warn(&job, &refusal);
                self.table.lock().fell_back(key, refusal);
                own
            }
        }
    }

    /// Begins the payload of a list beside the operator's own.
    async fn begin(&self, job: &Job, list: &Arc<CommitList>, id: &str) -> Result<Answer, Refusal> {
        job.attributes.fits(list)?;
        let call = job.call.with_list(&job.attributes, list, id);
        let answer = self.engine.send(call, self.timeouts.begin()).await?;
        let payload = begun(&answer)?;
        if payload == job.own {
            return Err(Refusal::SamePayload);
        }
        self.table.lock().built(job.own, list, payload)?;
        tracing::info!(parent = %job.key.0, timestamp = job.key.1, %payload, "the payload of a list was begun");
        Ok(answer)
    }

    /// `engine_getPayload`: the list's payload when it is exactly the list, else the operator's own.
    async fn payload(&self, call: &Call<'_>, body: &Bytes) -> Answer {
        let Some(id) = call.payload_id() else { return self.forward(body.clone()).await };
        let being_begun = self.table.lock().is_being_begun(id);
        if being_begun {
            // A list came after the driver's forkchoice call. Its own call ends within the limit, or does not count.
            let _ = timeout(self.timeouts.begin(), self.turn.lock()).await;
        }
        let fetched = self.table.lock().fetch(id);
        let Some(job) = fetched else { return self.forward(body.clone()).await };
        let Some((list, payload)) = &job.list else {
            count("own", self.table.lock().own_reason(job.key));
            return self.forward(body.clone()).await;
        };
        if job.given_up {
            return self.own_payload(&job, call, id, body).await;
        }
        match self.list_payload(list, call.for_payload(*payload)).await {
            Ok((answer, hash)) => {
                self.table.lock().delivered(job.key, *payload, hash);
                count("list", "sold");
                tracing::info!(parent = %job.key.0, timestamp = job.key.1, block = %hash, "the driver has the list's payload");
                answer
            }
            Err(refusal) => {
                count("own", refusal.code());
                warn(&job, &refusal);
                self.table.lock().give_up(job.own, refusal);
                self.own_payload(&job, call, id, body).await
            }
        }
    }

    async fn list_payload(&self, list: &CommitList, call: Bytes) -> Result<(Answer, B256), Refusal> {
        let answer = self.engine.send(call, self.timeouts.payload()).await?;
        let hash = payload_of(&answer, list)?;
        Ok((answer, hash))
    }

    async fn own_payload(&self, job: &Job, call: &Call<'_>, id: B64, body: &Bytes) -> Answer {
        self.forward(if id == job.own { body.clone() } else { call.for_payload(job.own) }).await
    }

    /// Takes a list; begins its payload when the driver has asked for the block already.
    pub(super) async fn commit(&self, list: CommitList) -> Result<Outcome, Refusal> {
        check_transactions(&list)?;
        self.look().await?;
        let key = key_of(&list);
        let list = Arc::new(list);
        let asked = self.table.lock().sell(&list, now_ms())?;
        if asked {
            self.begin_late(&list).await.inspect_err(|refusal| self.table.lock().refuse(key, refusal.clone()))?;
        }
        self.table.lock().outcome(key, now_ms())
    }

    async fn begin_late(&self, list: &Arc<CommitList>) -> Result<(), Refusal> {
        let _turn = timeout(self.timeouts.begin(), self.turn.lock()).await.map_err(|_| Refusal::Busy)?;
        let open = self.table.lock().still_open(key_of(list))?;
        if let Some(job) = open {
            self.begin(&job, list, "1").await?;
        }
        Ok(())
    }

    /// What became of the list for a block.
    pub(super) fn outcome(&self, parent: B256, timestamp: u64) -> Result<Outcome, Refusal> {
        self.table.lock().outcome((parent, timestamp), now_ms())
    }

    /// The newest payload that the driver asked for.
    pub(super) fn last(&self) -> Option<LastAttributes> {
        self.table.lock().last()
    }
}

fn warn(job: &Job, refusal: &Refusal) {
    tracing::warn!(
        parent = %job.key.0, timestamp = job.key.1, reason = refusal.code(), %refusal,
        "a list is not used: the driver has the operator's own payload"
    );
}

/// Counts a payload that the driver gets.
fn count(result: &'static str, reason: &'static str) {
    metrics::counter!("lockstep_engine_payloads_total", "result" => result, "reason" => reason).increment(1);
}

/// Types of transactions by their first byte (EIP-2718); a legacy transaction is an RLP list, which begins at 0xc0.
const BLOB: u8 = 0x03;
const DEPOSIT: u8 = 0x7e;

/// Only derivation makes deposits, and a block with a blob transaction is invalid on the OP stack.
fn check_transactions(list: &CommitList) -> Result<(), Refusal> {
    for (index, tx) in list.transactions.iter().enumerate() {
        let problem = match tx.first() {
            None => "is empty",
            Some(&DEPOSIT) => "is a deposit",
            Some(&BLOB) => "carries blobs",
            Some(_) => continue,
        };
        return Err(Refusal::Transaction { index, problem });
    }
    Ok(())
}

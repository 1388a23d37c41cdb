//! A number of slots at one rate of requests: what was answered when, and what became of each slot.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use alloy_primitives::B256;
use jsonrpsee::core::{ClientError, client::ClientT, params::ArrayParams};
use lockstep_node::{clock::now_ms, dev::builder};
use lockstep_primitives::SlotNumber;
use lockstep_rpc::{RpcError, wire::SlotReport};
use serde_json::Value;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, broadcast::error::RecvError},
    task::JoinSet,
};

use super::{
    flow::{HashAt, Request},
    front::PassedBid,
    node::{Clients, Node},
};
use crate::{Failed, measure::Samples};

/// Requests that wait for an answer at a time; the next ones wait for one of these.
const IN_FLIGHT: usize = 128;
/// Slots from the start of a trial to the first that counts: requests come for all of a slot before that one is built.
pub(super) const LEAD: u64 = 3;
/// How many slots after the last one its report is waited for.
const GRACE: u64 = 3;

/// A slot of a trial.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SlotOutcome {
    pub(super) slot: SlotNumber,
    /// Whether the market closed the slot with a bid of ours.
    pub(super) bid: bool,
    /// Seconds from the last acknowledgement of a bundle that had a part in the slot to the last of the slot's bids.
    pub(super) from_last_accepted: Option<f64>,
    /// Seconds from when building was due to begin to the last of the slot's bids.
    pub(super) from_build: Option<f64>,
    /// Transactions in the rollups' blocks of the slot.
    pub(super) landed: usize,
    /// Bundles that the slot's lists were built from.
    pub(super) considered: usize,
    /// Those of them that are pending again, or still.
    pub(super) left: usize,
}

/// What a trial came to.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    /// Requests a second.
    pub(super) rate: u64,
    pub(super) accepted: usize,
    /// Refused requests by reason.
    pub(super) refused: BTreeMap<String, usize>,
    /// Seconds from when each request was due to its acknowledgement.
    pub(super) waits: Samples,
    pub(super) slots: Vec<SlotOutcome>,
}

impl Trial {
    /// Runs `slots` slots on a node of its own that has just started.
    ///
    /// # Errors
    /// When the node does not run, or `requests` are too few.
    pub(super) async fn run(node: &Node, requests: Vec<Arc<Request>>, rate: u64, slots: u64) -> Result<Self, Failed> {
        let mut reports = node.dev.process.reports().ok_or("the node has no builder")?;
        let clients = Arc::new(node.clients()?);
        let timings = node.dev.process.timings();
        let clock = timings.clock;
        let (began, began_ms) = (Instant::now(), now_ms());
        let at = |ms: u64| began + Duration::from_millis(ms.saturating_sub(began_ms));
        let first = clock.slot_at(began_ms).unwrap_or_default() + LEAD;
        let last = first + slots - 1;
        let sent = send(&clients, requests, rate, at(clock.close_ms(last))).await?;
        let patience = at(clock.end_ms(last + GRACE));
        let mut told: BTreeMap<SlotNumber, SlotReport> = BTreeMap::new();
        while !(first..=last).all(|slot| told.contains_key(&slot)) {
            match tokio::time::timeout_at(patience.into(), reports.recv()).await {
                Ok(Ok(report)) => drop(told.insert(report.slot, report)),
                Ok(Err(RecvError::Lagged(_))) => {}
                Ok(Err(RecvError::Closed)) | Err(_) => break,
            }
        }
        let bids = node.front.bids();
        let accepted: BTreeMap<B256, Instant> = sent.iter().filter_map(Sent::accepted).collect();
        let outcome = |slot| slot_outcome(slot, told.get(&slot), &bids, &accepted, at(timings.build_ms(slot)));
        let mut refused: BTreeMap<String, usize> = BTreeMap::new();
        for reason in sent.iter().filter_map(|sent| sent.answer.as_ref().err()) {
            *refused.entry(reason.clone()).or_default() += 1;
        }
        Ok(Self {
            rate,
            accepted: sent.iter().filter(|sent| sent.answer.is_ok()).count(),
            refused,
            waits: Samples(sent.iter().map(|sent| seconds(sent.due, sent.answered)).collect()),
            slots: (first..=last).map(outcome).collect(),
        })
    }

    /// Slots that were sold without a bid of ours.
    pub(super) fn missed(&self) -> usize {
        self.slots.iter().filter(|slot| !slot.bid).count()
    }

    /// Refused requests.
    pub(super) fn refusals(&self) -> usize {
        self.refused.values().sum()
    }

    /// A time of every slot that has it.
    pub(super) fn times(&self, of: impl Fn(&SlotOutcome) -> Option<f64>) -> Samples {
        Samples(self.slots.iter().filter_map(of).collect())
    }
}

/// A request that was answered.
#[derive(Debug)]
struct Sent {
    due: Instant,
    answered: Instant,
    /// The Lockstep hash, or the reason of the refusal.
    answer: Result<B256, String>,
}

impl Sent {
    fn accepted(&self) -> Option<(B256, Instant)> {
        self.answer.as_ref().ok().map(|hash| (*hash, self.answered))
    }
}

/// Sends requests at a rate until a time, whatever the answers do, and waits for all answers. What is due while too many are
/// under way is sent as soon as one of them is answered, and waits all that time.
async fn send(clients: &Arc<Clients>, requests: Vec<Arc<Request>>, rate: u64, until: Instant) -> Result<Vec<Sent>, Failed> {
    let permits = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut under_way = JoinSet::new();
    let mut sent = Vec::with_capacity(requests.len());
    let started = Instant::now();
    let mut requests = requests.into_iter();
    for number in 0_u64.. {
        let due = started + Duration::from_secs_f64(number as f64 / rate as f64);
        if due >= until || Instant::now() >= until {
            break;
        }
        let request = requests.next().ok_or("the order flow ends before the last slot closes")?;
        tokio::time::sleep_until(due.into()).await;
        let permit = Arc::clone(&permits).acquire_owned().await?;
        under_way.spawn(ask(Arc::clone(clients), request, due, permit));
        while let Some(answered) = under_way.try_join_next() {
            sent.push(answered?);
        }
    }
    while let Some(answered) = under_way.join_next().await {
        sent.push(answered?);
    }
    Ok(sent)
}

async fn ask(clients: Arc<Clients>, request: Arc<Request>, due: Instant, permit: OwnedSemaphorePermit) -> Sent {
    let answer = answer(&clients, &request).await;
    drop(permit);
    Sent { due, answered: Instant::now(), answer }
}

async fn answer(clients: &Clients, request: &Request) -> Result<B256, String> {
    let client = clients.of(request.chain).ok_or("no such rollup")?;
    let mut params = ArrayParams::new();
    params.insert(&request.param).map_err(|error| error.to_string())?;
    let answer = client.request::<Value, _>(request.method, params).await.map_err(|error| reason(&error))?;
    match request.hash_at {
        HashAt::Known(hash) => Ok(hash),
        HashAt::Field(field) => {
            let text = answer.get(field).and_then(Value::as_str).ok_or_else(|| format!("the answer has no {field}"))?;
            text.parse::<B256>().map_err(|error| format!("{field} is no hash: {error}"))
        }
    }
}

/// The stable reason of a refusal, or what kept the request from being answered.
fn reason(error: &ClientError) -> String {
    let ClientError::Call(refusal) = error else { return error.to_string() };
    let told = refusal.data().and_then(|data| serde_json::from_str::<RpcError>(data.get()).ok());
    told.map_or_else(|| refusal.message().to_owned(), |told| told.reason)
}

fn slot_outcome(
    slot: SlotNumber,
    report: Option<&SlotReport>,
    bids: &[PassedBid],
    accepted: &BTreeMap<B256, Instant>,
    build: Instant,
) -> SlotOutcome {
    let last_bid = bids.iter().filter(|bid| bid.slot == slot && bid.taken).map(|bid| bid.at).max();
    let considered = || report.into_iter().flat_map(|report| &report.bundles);
    let last_accepted = considered().filter_map(|bundle| accepted.get(&bundle.hash).copied()).max();
    let landed = report.into_iter().flat_map(|report| &report.rollups).flat_map(|rollup| &rollup.blocks);
    SlotOutcome {
        slot,
        bid: report.is_some_and(|report| report.bids.iter().any(|bid| bid.bidder == builder().address())),
        from_last_accepted: last_accepted.zip(last_bid).map(|(accepted, bid)| seconds(accepted, bid)),
        from_build: last_bid.map(|bid| seconds(build, bid)),
        landed: landed.map(|block| block.transactions.len()).sum(),
        considered: considered().count(),
        left: considered().filter(|bundle| bundle.state == "pending").count(),
    }
}

/// Seconds from one time to another; zero when the other was first.
fn seconds(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use alloy_primitives::Address;
    use lockstep_rpc::wire::{BidView, ReportBundle, SignedDecimal};

    use super::*;

    fn report(slot: SlotNumber, bidder: Address, bundles: &[B256]) -> SlotReport {
        let bundle = |hash: &B256| ReportBundle {
            hash: *hash,
            kind: String::new(),
            rollups: Vec::new(),
            state: String::new(),
            reason: None,
            level: String::new(),
        };
        SlotReport {
            slot,
            start: 0,
            end: 0,
            rollups: Vec::new(),
            bundles: bundles.iter().map(bundle).collect(),
            bids: vec![BidView { bidder, rollups: Vec::new(), amount: Default::default(), exclusive: None }],
            allocation: Vec::new(),
            value: SignedDecimal(Default::default()),
            timing: None,
        }
    }

    #[test]
    fn a_slot_counts_from_the_last_bundle_that_had_a_part_in_it_to_its_last_bid() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let hash = |byte: u8| B256::repeat_byte(byte);
        // The third bundle came too late for this slot.
        let accepted = BTreeMap::from([(hash(1), at(10)), (hash(2), at(20)), (hash(3), at(35))]);
        let bid = |slot, ms, taken| PassedBid { slot, at: at(ms), taken };
        let bids = [bid(7, 40, true), bid(7, 50, true), bid(7, 90, false), bid(8, 99, true)];
        let ours = report(7, builder().address(), &[hash(1), hash(2)]);
        let outcome = slot_outcome(7, Some(&ours), &bids, &accepted, at(30));
        assert!(outcome.bid);
        assert_eq!((outcome.from_last_accepted, outcome.from_build), (Some(0.030), Some(0.020)));
    }

    #[test]
    fn a_slot_without_a_bid_of_ours_or_without_a_report_is_missed() {
        let (start, none) = (Instant::now(), BTreeMap::new());
        let theirs = report(7, Address::repeat_byte(9), &[]);
        let outcomes = [slot_outcome(7, Some(&theirs), &[], &none, start), slot_outcome(8, None, &[], &none, start)];
        assert!(outcomes.iter().all(|outcome| !outcome.bid && outcome.from_build.is_none()));
        let trial = Trial {
            rate: 1,
            accepted: 0,
            refused: BTreeMap::from([("no_room".to_owned(), 2), ("overloaded".to_owned(), 3)]),
            waits: Samples::default(),
            slots: outcomes.to_vec(),
        };
        assert_eq!((trial.missed(), trial.refusals()), (2, 5));
    }
}

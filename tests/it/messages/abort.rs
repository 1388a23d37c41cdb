//! A destination whose sequencer does not vote: then nothing of a crossing is published anywhere.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use alloy_primitives::{Address, B256, Bytes, U64};
use jsonrpsee::{
    Extensions,
    core::{ClientError, RpcResult, async_trait},
    http_client::{HttpClient, HttpClientBuilder},
    types::ErrorObjectOwned,
};
use lockstep_delivery::{Prepare, Vote, VoteRefusal};
use lockstep_node::{
    dev::{BurnTerms, user},
    keys::Key,
    process::{MarketSetup, Process, Setup},
};
use lockstep_rpc::{
    Limits, Pages, Routes,
    api::{SequencerApiClient, SequencerApiServer},
    bind, serve,
    wire::{Event, SignedPrepare, SlotOffer, VoteWire},
};

use super::{AMOUNT, crossing, token, wealth};
use crate::{
    wait::until,
    world::{LOCAL, World, options},
};

/// What the sequencer does with what it is asked to vote on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// It signs a no.
    Refuses,
    /// It is gone before it votes.
    Dies,
    /// It judges for itself.
    Votes,
}

/// What stands before the second rollup's sequencer.
#[derive(Debug)]
struct Door {
    /// The sequencer, once it runs.
    behind: OnceLock<HttpClient>,
    mood: Mutex<Mood>,
    key: Key,
}

/// A door that JSON-RPC can be spoken to through.
#[derive(Clone, Debug)]
struct Shared(Arc<Door>);

impl Shared {
    fn set(&self, mood: Mood) {
        *self.0.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
    }

    fn mood(&self) -> Mood {
        *self.0.mood.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn behind(&self) -> RpcResult<&HttpClient> {
        self.0.behind.get().ok_or_else(|| unavailable("the sequencer is not there yet".to_owned()))
    }
}

fn unavailable(text: String) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(-32_000, text, None::<()>)
}

/// An answer as it came.
fn passed<T>(answer: Result<T, ClientError>) -> RpcResult<T> {
    answer.map_err(|error| match error {
        ClientError::Call(error) => error,
        other => unavailable(other.to_string()),
    })
}

#[async_trait]
impl SequencerApiServer for Shared {
    async fn get_slot_offer(&self, chain_id: U64, slot: u64, proposer: Address) -> RpcResult<SlotOffer> {
        passed(self.behind()?.get_slot_offer(chain_id, slot, proposer).await)
    }

    async fn set_inclusion_list(&self, _: &Extensions, _: U64, _: u64, _: Vec<Bytes>) -> RpcResult<usize> {
        Err(unavailable("nobody sets inclusion lists here".to_owned()))
    }

    async fn prepare(&self, prepare: SignedPrepare) -> RpcResult<VoteWire> {
        match self.mood() {
            Mood::Votes => passed(self.behind()?.prepare(prepare).await),
            Mood::Dies => Err(unavailable("the connection was lost".to_owned())),
            Mood::Refuses => {
                let prepare = Prepare::from(prepare.prepare);
                let reason =
                    VoteRefusal { code: "unwilling".to_owned(), block: None, position: None, text: "not today".to_owned() };
                let vote = Vote {
                    chain: prepare.chain,
                    slot: prepare.slot,
                    attempt: prepare.attempt,
                    digest: prepare.digest(),
                    yes: false,
                    reason: Some(reason),
                };
                Ok(VoteWire::new(&vote, self.0.key.sign_bytes(vote.digest())))
            }
        }
    }

    async fn decided(&self, chain_id: U64, slot: u64, attempt: u32) -> RpcResult<bool> {
        passed(self.behind()?.decided(chain_id, slot, attempt).await)
    }
}

/// A server without pages.
#[derive(Debug)]
struct NoPages;

impl Pages for NoPages {
    fn page(&self, _: &str) -> Option<(u16, &'static str, String)> {
        None
    }
}

/// A `dev` without its second rollup's sequencer, and how that is started as a process of its own.
async fn apart() -> (World, Setup) {
    let mut second = None;
    let world = World::start_with(options(), |setup| {
        let mut own = setup.clone();
        own.rollups.remove(0);
        own.builder = None;
        second = Some(own);
        setup.rollups[1].sequencer = None;
    })
    .await;
    let market = MarketSetup::At(world.url(), Key::of_name("market").address());
    (world, Setup { market, ..second.expect("the set-up was changed") })
}

/// The newest abort of a bundle that says this.
async fn aborted(world: &World, hash: B256, words: &str) -> Event {
    until(&format!("the bundle's slot is aborted: {words}"), async || {
        let history = world.lockstep.status(hash).await.history;
        history.into_iter().rev().find(|event| {
            let text = event.text.as_deref().unwrap_or_default();
            event.reason.as_deref() == Some("decision_abort") && text.contains(words)
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_lands_anywhere_while_the_destinations_sequencer_does_not_vote() {
    let (world, second) = apart().await;
    let (origin, destination) = (world.chain(0), world.chain(1));
    let contracts = *world.contracts();
    let door = Door { behind: OnceLock::new(), mood: Mutex::new(Mood::Refuses), key: Key::of_name("sequencer 1") };
    let door = Shared(Arc::new(door));
    let bound = bind(LOCAL).await.expect("a free port");
    let url = format!("http://{}", bound.address());
    let routes = Routes { root: SequencerApiServer::into_rpc(door.clone()).into(), ..Routes::default() };
    let _server = serve(bound, routes, Arc::new(NoPages), Limits::default());
    let sequencer = Process::start(Setup { public_url: Some(url), ..second }).await.expect("the sequencer starts");
    let client = HttpClientBuilder::default().build(sequencer.url()).expect("a client of an HTTP URL");
    door.0.behind.set(client).expect("it is set once");

    let (alice, recipient) = (user(0), Address::repeat_byte(0x61));
    let before = wealth(&world, &[alice.address(), recipient]).await;
    let terms = BurnTerms::default();
    let burn = contracts.cctp_v2.burn(contracts.usdc, AMOUNT, world.domain(1), recipient, &terms);
    let hash = world.lockstep.send(&crossing(origin, destination, &alice, contracts.cctp_v2.token_messenger, burn).await).await;

    let refused = aborted(&world, hash, "voted no: unwilling: not today").await;
    assert!(refused.text.unwrap_or_default().contains(&destination.id.to_string()), "names the rollup");
    assert_eq!(refused.state, "pending", "it waits for a slot in which everybody agrees");
    world.pass(1).await;
    assert_eq!(wealth(&world, &[alice.address(), recipient]).await, before);

    door.set(Mood::Dies);
    aborted(&world, hash, "is unreachable").await;
    world.pass(1).await;
    assert_eq!(wealth(&world, &[alice.address(), recipient]).await, before);

    // Nothing is lost by it, either: the attestation that the builder was given in vain is no other's.
    door.set(Mood::Votes);
    assert_eq!(world.lockstep.landed(hash).await.level, "G2");
    assert_eq!(token(destination, contracts.usdc, recipient).await, AMOUNT);
    sequencer.stop().await;
}

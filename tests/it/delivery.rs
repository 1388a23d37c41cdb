//! Who may prepare a rollup, and who may decide.

use alloy_primitives::{Address, B256, Bytes, ChainId, U64};
use lockstep_delivery::{Decision, DecisionKey, Prepare, PreparedList, Verdict, attempt_number};
use lockstep_node::keys::Key;
use lockstep_primitives::{BlockList, recover};
use lockstep_rpc::{
    api::{DecisionApiClient, SequencerApiClient},
    codes,
    wire::{DecisionWire, PrepareWire, SignedPrepare},
};

use crate::{
    lockstep::refused,
    wait::until,
    world::{World, options},
};

/// A prepare of empty lists, which came too late before it was made.
fn prepare(chain: ChainId, slot: u64, attempt: u32) -> Prepare {
    let list = PreparedList { list: BlockList { chain, blocks: Vec::new() }, ..PreparedList::default() };
    Prepare {
        chain,
        slot,
        attempt,
        parent_hash: B256::ZERO,
        forced_prefix: B256::ZERO,
        with_cross: list.clone(),
        without_cross: list,
        participants: [chain].into(),
        holds: true,
        beneficiary: None,
        t_decide_ms: 0,
        t_publish_ms: 0,
    }
}

fn signed(prepare: &Prepare, key: &Key) -> SignedPrepare {
    SignedPrepare { prepare: PrepareWire::from(prepare), signature: key.sign_bytes(prepare.digest()) }
}

fn wrong_proposer() -> (i32, String) {
    (codes::INVALID_PARAMS, "wrong_proposer".to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_allocated_proposer_is_voted_on() {
    let world = World::start(options()).await;
    let chain = world.chain(0).id;
    let (proposer, stranger) = (Key::of_name("sequencer 0"), Key::of_name("a stranger"));

    // Whether a slot still has blocks to prepare depends on when it is asked: the next slot is as good.
    let vote = until("a sequencer votes", async || {
        let slot = world.lockstep.open_slot().await.slot;
        let allocation = world.lockstep.allocation(slot).await.allocation();
        assert_eq!(allocation.proposer_of(chain), Some(proposer.address()), "nobody has bid");
        let attempt = attempt_number(&allocation, proposer.address(), 0).expect("it has a grant");
        let prepare = prepare(chain, slot, attempt);
        let client = &world.lockstep.client;
        assert_eq!(refused(client.prepare(signed(&prepare, &stranger)).await), wrong_proposer());
        let unsigned = SignedPrepare { signature: Bytes::new(), ..signed(&prepare, &proposer) };
        assert_eq!(refused(client.prepare(unsigned).await), wrong_proposer());
        // Nor does its signature make another proposer's attempt its own.
        let other = Prepare { attempt: attempt + 1, ..prepare.clone() };
        assert_eq!(refused(client.prepare(signed(&other, &proposer)).await), wrong_proposer());

        let vote = client.prepare(signed(&prepare, &proposer)).await.ok()?;
        assert_eq!(vote.prepare, prepare.digest());
        Some(vote)
    })
    .await;
    assert!(!vote.yes);
    assert_eq!(vote.refusal.as_ref().map(|refusal| refusal.code.as_str()), Some("after-decide"));
    assert_eq!(recover(vote.vote().digest(), &vote.signature), Ok(proposer.address()), "a no is signed as well");
    assert_eq!(vote.chain_id, U64::from(chain));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_t_decide_a_stranger_decides_nothing_and_afterwards_only_to_abort() {
    let world = World::start(options()).await;
    let client = &world.lockstep.client;
    let stranger = Key::of_name("a stranger");
    let decision = |slot, attempt, verdict| Decision {
        proposer: stranger.address(),
        verdict,
        ..Decision::timed_out(DecisionKey { slot, attempt })
    };
    let wire = |decision: &Decision| DecisionWire::new(decision, stranger.sign_bytes(decision.digest()));

    let slot = until("an abort comes early enough to be refused", async || {
        let slot = world.lockstep.open_slot().await.slot;
        world.lockstep.allocation(slot).await;
        let answer = client.record(wire(&decision(slot, 0, Verdict::Abort))).await;
        if answer.is_ok() {
            // It was late, when anyone may abort: the next slot will do.
            return None;
        }
        assert_eq!(refused(answer), wrong_proposer());
        Some(slot)
    })
    .await;
    assert!(client.get_decision(slot, 0).await.expect("the record can be read").is_none());
    let no_such_attempt = (codes::INVALID_PARAMS, "no_such_attempt".to_owned());
    for (slot, attempt) in [(slot + 3, 0), (slot, 1_000)] {
        // Nobody has that attempt, so nobody can fill the record with it.
        let answer = client.record(wire(&decision(slot, attempt, Verdict::Abort))).await;
        assert_eq!(refused(answer), no_such_attempt);
    }

    // Without a signature, as a sequencer that is left waiting records it.
    let abort = Decision::timed_out(DecisionKey { slot, attempt: 0 });
    assert_eq!(abort.proposer, Address::ZERO);
    let unsigned = DecisionWire::new(&abort, Bytes::new());
    let recorded = until("t_decide passes", async || client.record(unsigned.clone()).await.ok()).await;
    assert_eq!(recorded, Some(unsigned.clone()));
    // A commit is the proposer's alone, at any time, and the first record wins for ever.
    assert_eq!(refused(client.record(wire(&decision(slot, 0, Verdict::Commit))).await), wrong_proposer());
    let late = Decision { reason: "I was late".to_owned(), ..abort };
    let again = client.record(DecisionWire::new(&late, Bytes::new())).await.expect("it is answered what the record says");
    assert_eq!(again, Some(unsigned.clone()));
    assert_eq!(client.get_decision(slot, 0).await.expect("the record can be read"), Some(unsigned));
}

//! The builder market inside a slot: who may propose asks, who has bundles offers, and nobody sees lists before it owes them.

use std::net::SocketAddr;

use alloy_primitives::{B256, U64, U256};
use lockstep_market::ProposalTerms;
use lockstep_node::{
    dev::{DevOptions, builder, user},
    keys::Key,
    process::{MarketSetup, Process, ProposalPlan, RollupSetup, Setup},
};
use lockstep_primitives::{BlindedProposal, EpochBid, ProposalCall, ProposalReveal};
use lockstep_rpc::{
    api::MarketApiClient,
    wire::{BlindedProposalWire, EpochBidWire, ProposalCallWire, ProposalParams, ProposalRevealWire, ProposedListsWire},
};

use crate::{
    lockstep::{Lockstep, refused},
    market::{all, ledger, stranger, whole},
    wait::until,
    world::{World, options},
};

/// With slots of two seconds there are 192 ms for bids and reveals.
const TERMS: ProposalTerms = ProposalTerms { bid_ms: 100, reveal_ms: 80, turns: 1, forfeit_bps: 5_000 };

/// A `dev` whose builder asks for proposals, and whose epochs are long enough for some to come too late.
async fn asking() -> World {
    // Long slots: two processes have to find each other in a part of one.
    let options = DevOptions { ahead: true, slot_ms: 2_000, block_times: vec![2], ..options() };
    World::start_with(options, |setup| {
        let MarketSetup::Own(own) = &mut setup.market else { panic!("dev plays the market") };
        own.proposals = Some(TERMS);
        own.ahead.as_mut().expect("dev sells ahead").epoch_slots = 8;
        for rollup in &mut setup.rollups {
            rollup.sequencer.as_mut().expect("dev plays every sequencer").terms.slots_ahead = 32;
        }
        let builder = setup.builder.as_mut().expect("dev plays a builder");
        (builder.bids_ahead, builder.proposals) = (false, ProposalPlan { takes: true, offers: false });
    })
    .await
}

/// Another builder, in a process of its own.
async fn offering(world: &World, key: Key) -> Process {
    let setup = &world.dev().setup;
    let MarketSetup::Own(plan) = &setup.market else { panic!("dev plays the market") };
    let mut builder = setup.builder.clone().expect("dev plays a builder");
    (builder.key, builder.proposals) = (key, ProposalPlan { takes: false, offers: true });
    let setup = Setup {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        data: None,
        rollups: setup.rollups.iter().map(|rollup| RollupSetup { sequencer: None, ..rollup.clone() }).collect(),
        builder: Some(builder),
        market: MarketSetup::At(world.url(), plan.key.address()),
        ..setup.clone()
    };
    Process::start(setup).await.expect("the builder starts")
}

/// Has the builder of `dev` buy the epoch that is sold next, and returns its first slot.
async fn buy_epoch(world: &World, key: &Key) -> u64 {
    let market = &world.lockstep.client;
    let view = until("an epoch is bought", async || {
        let view = market.get_epoch(None).await.expect("the market answers")?;
        let bid = EpochBid { epoch: view.epoch, rollups: all(world), amount: whole(1), exclusive: None, nonce: 1 };
        market.submit_epoch_bid(EpochBidWire::new(&bid, key.sign_bytes(bid.digest()))).await.ok().map(|_| view)
    })
    .await;
    view.first_slot
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_holds_a_slot_and_has_nothing_for_it_proposes_another_builders_lists() {
    let world = asking().await;
    // A key with means on every rollup: whoever builds pays for relays.
    let key = user(3);
    world.credit(key.address(), whole(100)).await;
    let other = offering(&world, key.clone()).await;
    let first = buy_epoch(&world, &builder()).await;
    let its = Lockstep::at(&other.url());
    // The bundle comes to the builder that holds nothing, when the other one's epoch is about to begin.
    world.lockstep.allocation(first).await;
    let bundle = its.send(&world.story(&user(0), 1).await).await;
    let landed = its.landed(bundle).await;
    let block = landed.legs[0].transactions[0].block_number.expect("it landed").to();
    let slot = world.slot_of(world.chain(0).id, block).await;
    let rights = world.lockstep.client.get_rights(slot).await.expect("the market answers");
    assert!(rights.iter().all(|right| right.proposer == builder().address()), "{rights:?}");
    // What it offered is what the holder is paid, rollup by rollup.
    let chains = world.chains().len();
    let paid = until("the holder is paid", async || {
        let ledger = ledger(&world, &key).await;
        let paid: Vec<_> =
            ledger.postings.into_iter().filter(|posting| posting.kind == "price" && posting.slot == Some(slot)).collect();
        (paid.len() == chains).then_some(paid)
    })
    .await;
    for posting in paid {
        assert!(posting.entries.iter().any(|entry| entry.owner == Some(builder().address())), "{posting:?}");
    }
    let view = ledger(&world, &key).await;
    assert!(view.free.0 < whole(100) && view.holds.iter().all(|hold| hold.slot != slot), "{view:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_offers_and_does_not_reveal_pays_and_the_holder_builds_itself() {
    let world = asking().await;
    let (market, key) = (&world.lockstep.client, stranger());
    world.credit(key.address(), whole(100)).await;
    let first = buy_epoch(&world, &builder()).await;
    let rollups = all(&world);
    let wire_rollups: Vec<U64> = rollups.iter().map(|chain| U64::from(*chain)).collect();
    // What it commits to is not what it will reveal.
    let holder = builder().address();
    let offer = |slot: u64, value: U256, nonce: u64| {
        let commitment = ProposalReveal { lists: Default::default(), salt: B256::repeat_byte(1) }.commitment();
        let proposal = BlindedProposal { slot, rollups: rollups.clone(), holder, value, commitment, nonce };
        BlindedProposalWire::new(&proposal, key.sign_bytes(proposal.digest()))
    };
    assert_eq!(refused(market.submit_proposal(offer(first, whole(1), 1)).await).1, "not_asked", "not yet");
    let slot = until("the holder asks, and a proposal comes in time", async || {
        let slot = world.lockstep.open_slot().await.slot;
        let asked = market.get_calls(slot).await.expect("the market answers");
        asked.iter().find(|call| call.rollups == wire_rollups && call.holder == holder)?;
        market.submit_proposal(offer(slot, whole(2), 1)).await.ok().map(|_| slot)
    })
    .await;
    assert_eq!(refused(market.submit_proposal(offer(slot, whole(1), 1)).await).1, "bid_nonce_too_low");
    let params = ProposalParams { slot, holder, rollups: wire_rollups.clone(), signature: None };
    until("it is its turn", async || {
        let view = market.get_proposal(params.clone()).await.expect("the holder asked");
        (view.state == "own" || view.builder == Some(key.address())).then_some(())
    })
    .await;
    let empty = lockstep_rpc::wire::PreparedListWire {
        list: lockstep_rpc::wire::ListWire { chain_id: U64::ZERO, blocks: Vec::new() },
        expected: Vec::new(),
        requirements: Vec::new(),
    };
    let pair = ProposedListsWire { with_cross: empty.clone(), without_cross: empty };
    let lists = wire_rollups.iter().map(|chain| (*chain, pair.clone())).collect();
    let reveal = ProposalRevealWire { slot, holder, builder: key.address(), salt: B256::ZERO, lists };
    // On a busy machine its time is over by now, which costs it as much.
    let code = refused(market.reveal_proposal(reveal.clone()).await).1;
    assert!(["reveal_mismatch", "not_your_turn"].contains(&code.as_str()), "{code}");
    assert_eq!(refused(market.reveal_proposal(reveal).await).1, "not_your_turn", "it is out of the slot");
    assert_eq!(market.get_proposal(params).await.expect("the holder asked").state, "own");
    let view = ledger(&world, &key).await;
    assert_eq!((view.free.0, view.holds.len()), (whole(99), 0), "half of what it bid is forfeited");
    assert!(view.postings.iter().any(|posting| posting.kind == "forfeit" && posting.slot == Some(slot)));
    // The holder builds itself.
    let ended = until("the slot has ended", async || {
        let rights = market.get_rights(slot).await.expect("the market answers");
        rights.iter().all(|right| right.ending.is_some()).then_some(rights)
    })
    .await;
    assert!(ended.iter().all(|right| right.ending.as_deref() == Some("delivered")), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_market_whose_slots_leave_no_time_for_proposals_does_not_start() {
    let world = World::try_start_with(options(), |setup| {
        let MarketSetup::Own(own) = &mut setup.market else { panic!("dev plays the market") };
        own.proposals = Some(TERMS);
    });
    assert!(world.await.is_none(), "a slot of one second has 96 ms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_place_for_proposals_nobody_asks() {
    let world = World::start(options()).await;
    let slot = world.lockstep.open_slot().await.slot;
    let call = ProposalCall { slot, rollups: all(&world), own_value: U256::ZERO };
    let wire = ProposalCallWire::new(&call, stranger().sign_bytes(call.digest()));
    assert_eq!(refused(world.lockstep.client.call_proposals(wire).await).1, "no_proposals");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollups_that_sell_nothing_take_proposals_by_their_default_proposer() {
    let options = DevOptions { slot_ms: 2_000, block_times: vec![2], ..options() };
    let world = World::start_with(options, |setup| {
        let MarketSetup::Own(own) = &mut setup.market else { panic!("dev plays the market") };
        own.proposals = Some(TERMS);
        setup.builder.as_mut().expect("dev plays a builder").proposals = ProposalPlan { takes: true, offers: false };
        for rollup in &mut setup.rollups {
            let sequencer = rollup.sequencer.as_mut().expect("dev plays every sequencer");
            (sequencer.terms.active, sequencer.terms.default_proposer) = (false, Some(builder().address()));
        }
    })
    .await;
    let key = user(3);
    world.credit(key.address(), whole(100)).await;
    let other = offering(&world, key.clone()).await;
    let open = world.lockstep.open_slot().await;
    assert!(open.on_sale.is_empty() && open.held.len() == world.chains().len());
    let its = Lockstep::at(&other.url());
    let bundle = its.send(&world.story(&user(0), 1).await).await;
    its.landed(bundle).await;
    until("the default proposer is paid", async || {
        ledger(&world, &builder()).await.postings.into_iter().find(|posting| posting.kind == "price")
    })
    .await;
}

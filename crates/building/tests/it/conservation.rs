//! Conservation, over random bundles of all protocols on four rollups: no message is delivered twice or without its origin,
//! nothing is executed that is not there, no token is made on the way, and the naive builder agrees.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_sol_types::{SolCall, SolEvent, sol};
use lockstep_building::{Candidate, Draft, verify};
use lockstep_messaging::{Emitted, LogPlace, op_interop::INBOX};
use lockstep_primitives::{Bundle, ChainId, RevertMode};
use lockstep_simulation::{CallRequest, LaneBlock, PendingBlock, call};
use lockstep_testkit::{BurnTerms, PROBE, USD, Wallet, World, bundle, calls, candidates, gwei};
use proptest::prelude::*;

use crate::{
    invariants::{Checked, agree, config, whole_or_absent},
    support::{build_all, last_block, seal_on},
};

sol! {
    struct Identifier { address origin; uint256 blockNumber; uint256 logIndex; uint256 timestamp; uint256 chainId; }
    event ExecutingMessage(bytes32 indexed msgHash, Identifier id);
    function totalSupply() external view returns (uint256);
    function balanceOf(address account) external view returns (uint256);
}

/// By which protocol a random bundle crosses.
#[derive(Clone, Copy, Debug)]
enum Way {
    V1,
    V1ForBuilder,
    V1ForStranger,
    V2,
    V2Fast,
    V2TooCheap,
    V2Hook,
    V2BadHook,
    InteropToken,
    InteropCall,
    /// A message whose delivery sends another one on, by AggLayer's bridge.
    InteropOnward,
    BridgeAsset,
    BridgeMessage,
    Mail,
}

const WAYS: [Way; 14] = [
    Way::V1,
    Way::V1ForBuilder,
    Way::V1ForStranger,
    Way::V2,
    Way::V2Fast,
    Way::V2TooCheap,
    Way::V2Hook,
    Way::V2BadHook,
    Way::InteropToken,
    Way::InteropCall,
    Way::InteropOnward,
    Way::BridgeAsset,
    Way::BridgeMessage,
    Way::Mail,
];

/// What a random bundle does.
#[derive(Clone, Debug)]
struct Plan {
    user: usize,
    way: Way,
    from: usize,
    to: usize,
    /// In whole dollars.
    amount: u64,
    /// In gwei.
    tip: u64,
    /// Ends with a transaction on the destination that reverts, in this mode.
    breaks: Option<RevertMode>,
    /// The relay goes to another rollup than the message.
    astray: bool,
    /// Names a message that is not there, or the same one twice.
    twice: bool,
    /// Sends without delivering.
    stops: bool,
    /// Sends a second message in the same leg, which goes to a third rollup.
    fans_out: bool,
}

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let breaks = prop_oneof![
        6 => Just(None),
        1 => Just(Some(RevertMode::Fail)),
        1 => Just(Some(RevertMode::Allow)),
        1 => Just(Some(RevertMode::Drop)),
    ];
    let plan = (
        (0_usize..4, prop::sample::select(WAYS.to_vec()), 0_usize..4, 1_usize..4, 1_u64..400, 20_u64..60),
        (breaks, prop::bool::weighted(0.07), prop::bool::weighted(0.07), prop::bool::weighted(0.1), prop::bool::weighted(0.2)),
    );
    let plan = plan.prop_map(|((user, way, from, hop, amount, tip), (breaks, astray, twice, stops, fans_out))| Plan {
        user,
        way,
        from,
        to: from + hop,
        amount,
        tip,
        breaks,
        astray,
        twice,
        stops,
        fans_out,
    });
    prop::collection::vec(plan, 1..9)
}

/// The bundles, in the order of the plans; each user's nonces follow each other.
fn bundles(world: &World, plans: &[Plan]) -> Vec<Candidate> {
    let mut wallets: BTreeMap<usize, Wallet> = BTreeMap::new();
    let made: Vec<Bundle> = plans
        .iter()
        .zip(0_u64..)
        .map(|(plan, session)| {
            let who = wallets.entry(plan.user).or_insert_with(|| Wallet::user(plan.user));
            *who = who.clone().tipping(plan.tip);
            make(world, plan, who, session)
        })
        .collect();
    candidates(made)
}

fn make(world: &World, plan: &Plan, who: &mut Wallet, session: u64) -> Bundle {
    let (from, to, third) = (world.chain(plan.from), world.chain(plan.to), world.chain(plan.to + 1));
    let me = who.address();
    let dollars = plan.amount * USD;
    let terms = BurnTerms::default();
    let sent = match plan.way {
        Way::V1 => world.burn(from, dollars, to, me),
        Way::V1ForBuilder => world.burn_for_caller(from, dollars, to, me, world.proposer()),
        Way::V1ForStranger => world.burn_for_caller(from, dollars, to, me, Address::repeat_byte(0x57)),
        Way::V2 => world.burn_v2(from, dollars, to, me, &terms),
        Way::V2Fast => world.burn_v2(from, dollars, to, me, &BurnTerms { fast: true, max_fee: dollars / 2, ..terms }),
        Way::V2TooCheap => world.burn_v2(from, dollars, to, me, &BurnTerms { fast: true, max_fee: 1, ..terms }),
        Way::V2Hook => {
            let hook = Some((PROBE, calls::increment(session)));
            world.burn_v2(from, dollars, to, me, &BurnTerms { hook, ..terms })
        }
        Way::V2BadHook => world.burn_v2(from, dollars, to, me, &BurnTerms { hook: Some((PROBE, calls::fail("no"))), ..terms }),
        Way::InteropToken => world.send_token(from, plan.amount, to, me),
        Way::InteropCall => world.send_interop(to, PROBE, calls::increment(session)),
        Way::InteropOnward if third == from => world.send_interop(to, PROBE, calls::increment(session)),
        Way::InteropOnward => {
            let onward = world.bridge_message(to, third, Bytes::from_static(b"onward"));
            world.send_interop(to, onward.to, onward.data)
        }
        Way::BridgeAsset => world.bridge_usdc(from, dollars, to, me),
        Way::BridgeMessage => world.bridge_message(from, to, Bytes::from_static(b"hello")),
        Way::Mail => world.mail_token(from, plan.amount, to, me, session),
    };
    let mut txs = vec![(who.send(from, sent), RevertMode::Fail)];
    if plan.fans_out && third != from {
        txs.push((who.send(from, world.burn(from, USD, third, me)), RevertMode::Fail));
    }
    let fans_out = txs.len() > 1;
    let mut whole = bundle().txs(from, txs);
    if !plan.stops {
        whole = whole.relay(if plan.astray { third } else { to }, 0, 0);
        if fans_out {
            whole = whole.relay(third, 0, 1);
        }
        if plan.twice {
            whole = whole.relay(to, 0, 0);
        }
        if matches!(plan.way, Way::InteropOnward) && third != from {
            whole = whole.relay(third, 1, 0);
        }
        if matches!(plan.way, Way::Mail) {
            whole = whole.tx(to, who.send(to, world.receive_mail(to, from, me, plan.amount, me, session)));
        }
        // What relays under Ethereum's rules cost the builder.
        whole = whole.tx(to, who.send(to, world.pay_proposer(gwei(20_000_000))));
    }
    if let Some(mode) = plan.breaks {
        whole = whole.txs(to, [(who.send(to, world.probe(calls::fail("no"))), mode)]);
    }
    whole.build()
}

fn read(block: &PendingBlock, to: Address, data: Vec<u8>) -> U256 {
    let outcome = call(block.context(), block.state(), &CallRequest::read(to, data.into(), 1_000_000));
    let outcome = outcome.expect("the engine works").expect("a read is valid");
    // A token that nobody claimed yet has no code.
    if outcome.output.len() == 32 { U256::from_be_slice(&outcome.output) } else { U256::ZERO }
}

fn supply(draft: &Draft, chain: ChainId, token: Address) -> U256 {
    read(last_block(draft, chain), token, totalSupplyCall {}.abi_encode())
}

/// The logs of a rollup's blocks, as a fresh EVM emits them.
fn emitted(blocks: &[LaneBlock]) -> Vec<Emitted<'_>> {
    let mut logs = Vec::new();
    for LaneBlock { block, .. } in blocks {
        let mut index = 0;
        for executed in block.executed() {
            for (in_tx, log) in executed.outcome.logs.iter().enumerate() {
                let place = LogPlace { block: block.context().number, timestamp: block.context().timestamp, index };
                logs.push(Emitted { log, place, tx: executed.tx.id(), in_tx });
                index += 1;
            }
        }
    }
    logs
}

fn conserved(world: &World, draft: &Draft) -> Checked {
    let evidence = lockstep_testkit::evidence(draft);
    let mut blocks: BTreeMap<ChainId, Vec<LaneBlock>> = BTreeMap::new();
    for chain in world.rollups() {
        let sealed = seal_on(world, draft, chain).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let run =
            verify(&world.view.rollups[&chain].slot, &sealed.list).map_err(|error| TestCaseError::fail(error.to_string()))?;
        blocks.insert(chain, run);
    }
    // What was sent: the receipts that its deliveries will show.
    let protocols = &world.view.policy.protocols;
    let mut sent: BTreeSet<B256> = BTreeSet::new();
    let mut ids: BTreeSet<B256> = BTreeSet::new();
    for (chain, blocks) in &blocks {
        for message in protocols.recognise(*chain, emitted(blocks)) {
            let message = message.map_err(|reason| TestCaseError::fail(reason.to_string()))?;
            prop_assert!(ids.insert(message.id), "message {} has an id of its own", message.id);
            let protocol = protocols.of(&message).map_err(|reason| TestCaseError::fail(reason.to_string()))?;
            sent.extend(protocol.receipt(&message, evidence.get(&message.id)));
        }
    }
    let mut delivered: BTreeSet<B256> = BTreeSet::new();
    let mut executed_on: BTreeMap<ChainId, BTreeSet<ChainId>> = BTreeMap::new();
    for (chain, own) in &blocks {
        for log in emitted(own) {
            if let Some(receipt) = protocols.delivered(*chain, log.log) {
                prop_assert!(sent.contains(&receipt), "what is delivered on rollup {} was sent", chain);
                prop_assert!(delivered.insert(receipt), "what is delivered on rollup {} is delivered once", chain);
            }
            if log.log.address == INBOX {
                let event = ExecutingMessage::decode_log_data_validate(&log.log.data)
                    .map_err(|error| TestCaseError::fail(error.to_string()))?;
                let origin: ChainId = event.id.chainId.to();
                executed_on.entry(*chain).or_default().insert(origin);
                let there = emitted(&blocks[&origin]);
                let found = there.iter().find(|there| {
                    (U256::from(there.place.block), U256::from(there.place.index)) == (event.id.blockNumber, event.id.logIndex)
                });
                let Some(found) = found else { return Err(TestCaseError::fail("an executed log is not there")) };
                let mut payload: Vec<u8> = found.log.topics().iter().flat_map(|topic| topic.0).collect();
                payload.extend_from_slice(&found.log.data.data);
                prop_assert_eq!(keccak256(payload), event.msgHash);
                prop_assert_eq!(found.log.address, event.id.origin);
                prop_assert_eq!(U256::from(found.place.timestamp), event.id.timestamp);
            }
        }
    }
    for (chain, origins) in executed_on {
        for origin in origins.into_iter().filter(|origin| *origin != chain) {
            prop_assert!(draft.edges().contains(&(origin, chain)), "delivery knows on whom rollup {} depends", chain);
        }
    }
    tokens(world, draft)
}

/// Tokens are nowhere more than they were; and when every message was delivered, nowhere fewer.
fn tokens(world: &World, draft: &Draft) -> Checked {
    let before = build_all(world, &[]);
    let total = |draft: &Draft, token: &dyn Fn(ChainId) -> Address| {
        world.rollups().into_iter().map(|chain| supply(draft, chain, token(chain))).fold(U256::ZERO, |sum, part| sum + part)
    };
    let all_delivered = draft.placed.iter().all(|placed| {
        let sent: usize = placed.run.legs.iter().map(|leg| leg.messages.len()).sum();
        sent == placed.run.delivered.len()
    });
    for token in [
        &|chain: ChainId| world.contracts[&chain].usdc as Address,
        &|chain: ChainId| world.contracts[&chain].protocols.interop_token,
        &|chain: ChainId| world.contracts[&chain].protocols.mailbox_token,
    ] as [&dyn Fn(ChainId) -> Address; 3]
    {
        let (was, is) = (total(&before, token), total(draft, token));
        prop_assert!(is <= was, "{} tokens were {}", is, was);
        prop_assert!(!all_delivered || is == was, "nothing is on its way, but {} tokens were {}", is, was);
    }
    // What bridges wrapped elsewhere is locked at home.
    for home in world.rollups() {
        let bridge = world.contracts[&home].protocols.bridge;
        let data = balanceOfCall { account: bridge }.abi_encode();
        let locked = read(last_block(draft, home), world.contracts[&home].usdc, data);
        let mut wrapped = U256::ZERO;
        for on in world.rollups().into_iter().filter(|on| *on != home) {
            let ask = world.wrapped_usdc(on, home);
            let token = read(last_block(draft, on), ask.to, ask.data.to_vec());
            let token = Address::from_word(token.into());
            if !token.is_zero() {
                wrapped += supply(draft, on, token);
            }
        }
        prop_assert!(wrapped <= locked, "{} wrapped, {} locked", wrapped, locked);
        prop_assert!(!all_delivered || wrapped == locked, "nothing is on its way: {} wrapped, {} locked", wrapped, locked);
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn whatever_crosses_by_whatever_protocol_is_conserved(plans in plans(), trusting in any::<bool>()) {
        let world = World::quartet();
        let world = if trusting { let all = world.rollups(); world.trusting(all) } else { world };
        let candidates = bundles(&world, &plans);
        let draft = build_all(&world, &candidates);
        whole_or_absent(&world, &candidates, &draft)?;
        conserved(&world, &draft)?;
    }

    #[test]
    fn the_naive_builder_agrees_on_every_protocol(plans in plans(), trusting in any::<bool>()) {
        let world = World::quartet();
        let world = if trusting { let all = world.rollups(); world.trusting(all) } else { world };
        agree(&world, &bundles(&world, &plans))?;
    }
}

#[test]
fn the_random_bundles_land_by_every_protocol_that_can() {
    let world = World::quartet();
    for way in WAYS {
        let plan = Plan {
            user: 0,
            way,
            from: 0,
            to: 1,
            amount: 5,
            tip: 40,
            breaks: None,
            astray: false,
            twice: false,
            stops: false,
            fans_out: true,
        };
        let draft = build_all(&world, &bundles(&world, &[plan]));
        let lands = !matches!(way, Way::V1ForStranger | Way::V2TooCheap | Way::V2BadHook);
        assert_eq!(draft.placed.len(), usize::from(lands), "{way:?}: {:?}", draft.left_out);
    }
}

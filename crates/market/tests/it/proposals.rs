//! The builder market inside a slot: the best proposal that is really there is the one that is taken.

use std::collections::{BTreeMap, BTreeSet};

use alloy::signers::local::PrivateKeySigner;
use alloy_primitives::{Address, B256};
use lockstep_market::{Failure, MAX_AMOUNT, ProposalAuction, ProposalRules, Selection, bond};
use lockstep_primitives::{BlindedProposal, ProposalReveal};
use proptest::prelude::*;

use crate::{
    fixtures::{key, sign},
    marketplace::units,
};

const CLOSE_MS: u64 = 1_000;
const REVEAL_MS: u64 = 50;
const FORFEIT_BPS: u64 = 1_000;

fn rules() -> ProposalRules {
    ProposalRules {
        slot: 7,
        rollups: [10, 20].into(),
        holder: Address::with_last_byte(9),
        own_value: units(100),
        close_ms: CLOSE_MS,
        reveal_ms: REVEAL_MS,
        end_ms: u64::MAX,
        forfeit_bps: FORFEIT_BPS,
    }
}

fn lists(seed: u8) -> ProposalReveal {
    let lists = BTreeMap::from([(10, B256::repeat_byte(seed)), (20, B256::repeat_byte(seed ^ 0xff))]);
    ProposalReveal { lists, salt: B256::repeat_byte(seed.wrapping_add(1)) }
}

fn proposal(value: u64, reveal: &ProposalReveal, nonce: u64) -> BlindedProposal {
    let ProposalRules { slot, rollups, holder, .. } = rules();
    BlindedProposal { slot, rollups, holder, value: units(value), commitment: reveal.commitment(), nonce }
}

fn offer(
    auction: &mut ProposalAuction,
    key: &PrivateKeySigner,
    proposal: BlindedProposal,
    now_ms: u64,
) -> Result<Address, &'static str> {
    let signature = sign(key, proposal.digest());
    auction.offer(proposal, &signature, now_ms).map_err(|error| error.code())
}

fn reveal(
    auction: &mut ProposalAuction,
    key: &PrivateKeySigner,
    lists: &ProposalReveal,
    now_ms: u64,
) -> Result<(), &'static str> {
    auction.reveal(key.address(), lists.clone(), now_ms).map_err(|error| error.code())
}

#[test]
fn the_best_bid_reveals_first_and_the_next_one_when_it_fails() {
    let (ann, bob, cat) = (key(1), key(2), key(3));
    let mut auction = ProposalAuction::open(rules());
    offer(&mut auction, &ann, proposal(300, &lists(1), 1), 10).unwrap();
    offer(&mut auction, &bob, proposal(200, &lists(2), 1), 10).unwrap();
    offer(&mut auction, &cat, proposal(150, &lists(3), 1), 10).unwrap();
    assert_eq!(auction.selection(CLOSE_MS - 1), Selection::Open);
    assert_eq!(reveal(&mut auction, &ann, &lists(1), CLOSE_MS - 1), Err("not_your_turn"), "nobody shows lists while others bid");
    assert_eq!(auction.selection(CLOSE_MS), Selection::Awaited { builder: ann.address(), until_ms: CLOSE_MS + REVEAL_MS });
    assert_eq!(
        offer(&mut auction, &cat, proposal(999, &lists(3), 2), CLOSE_MS - 1),
        Err("bidding_closed"),
        "time does not go back"
    );
    assert_eq!(reveal(&mut auction, &bob, &lists(2), CLOSE_MS), Err("not_your_turn"));
    // Ann stays silent; Bob reveals something else; Cat's lists are taken.
    let now = CLOSE_MS + REVEAL_MS;
    assert_eq!(auction.selection(now), Selection::Awaited { builder: bob.address(), until_ms: now + REVEAL_MS });
    assert_eq!(reveal(&mut auction, &ann, &lists(1), now), Err("not_your_turn"), "too late");
    assert_eq!(reveal(&mut auction, &bob, &lists(9), now), Err("reveal_mismatch"));
    assert_eq!(reveal(&mut auction, &bob, &lists(2), now), Err("not_your_turn"), "out of the slot");
    assert_eq!(reveal(&mut auction, &cat, &lists(3), now + 1), Ok(()));
    assert_eq!(reveal(&mut auction, &cat, &lists(3), now + 9_999), Ok(()), "the same again");
    let taken = Selection::Builder { builder: cat.address(), value: units(150), reveal: lists(3) };
    assert_eq!(auction.selection(u64::MAX), taken);
    let failed: Vec<_> = auction.failed().iter().map(|failed| (failed.builder, failed.failure, failed.forfeit)).collect();
    assert_eq!(failed, [(ann.address(), Failure::Silent, units(30)), (bob.address(), Failure::Mismatch, units(20))]);
}

#[test]
fn what_is_no_bid_for_the_right_is_refused_by_name() {
    let (ann, bob) = (key(1), key(2));
    let mut auction = ProposalAuction::open(rules());
    let good = proposal(200, &lists(1), 5);
    for (bad, code) in [
        (BlindedProposal { slot: 8, ..good.clone() }, "other_right"),
        (BlindedProposal { rollups: [10].into(), ..good.clone() }, "other_right"),
        (BlindedProposal { holder: Address::ZERO, ..good.clone() }, "other_right"),
        (BlindedProposal { value: units(100), ..good.clone() }, "not_above_own"),
        (BlindedProposal { value: MAX_AMOUNT + units(1), ..good.clone() }, "not_above_own"),
    ] {
        assert_eq!(offer(&mut auction, &ann, bad, 10), Err(code));
    }
    assert_eq!(auction.offer(good.clone(), &[0; 65], 10).unwrap_err().code(), "invalid_bid_signature");
    assert_eq!(offer(&mut auction, &ann, good.clone(), CLOSE_MS), Err("bidding_closed"));
    assert_eq!(auction.selection(CLOSE_MS - 1), Selection::Open, "nothing of all this counts");
    offer(&mut auction, &ann, good.clone(), 10).unwrap();
    assert_eq!(offer(&mut auction, &ann, good, 10), Ok(ann.address()), "the same again");
    assert_eq!(offer(&mut auction, &ann, proposal(900, &lists(1), 5), 10), Err("bid_nonce_too_low"));
    offer(&mut auction, &ann, proposal(150, &lists(4), 6), 10).unwrap();
    offer(&mut auction, &bob, proposal(160, &lists(2), 1), 10).unwrap();
    assert_eq!(auction.selection(CLOSE_MS), Selection::Awaited { builder: bob.address(), until_ms: CLOSE_MS + REVEAL_MS });
    assert_eq!(ProposalAuction::open(rules()).selection(CLOSE_MS), Selection::Own, "nobody bids");
    // A reveal for other rollups is none, whatever was committed to.
    let mut partial = lists(2);
    partial.lists.remove(&20);
    let mut auction = ProposalAuction::open(rules());
    offer(&mut auction, &bob, proposal(160, &partial, 1), 10).unwrap();
    assert_eq!(reveal(&mut auction, &bob, &partial, CLOSE_MS), Err("reveal_mismatch"));
    assert_eq!(auction.selection(CLOSE_MS), Selection::Own);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Whatever is bid, in whatever order, and whoever reveals: taken is the best bid of those that reveal in their turn what they
    /// committed to, and those above it are exactly the ones that failed.
    #[test]
    fn the_best_bid_that_reveals_is_taken(
        bids in prop::collection::vec((101u64..110, 0u8..3), 0..8),
        shuffle in any::<prop::sample::Index>(),
    ) {
        let all: Vec<_> = (1..).zip(bids).map(|(seed, (value, conduct))| (key(seed), lists(seed), value, conduct)).collect();
        let auction = |order: &[usize]| {
            let mut auction = ProposalAuction::open(rules());
            for index in order {
                let (key, lists, value, _) = &all[*index];
                offer(&mut auction, key, proposal(*value, lists, 1), 10).expect("the bid is in order");
            }
            auction
        };
        let mut order: Vec<usize> = (0..all.len()).collect();
        let mut first = auction(&order);
        order.rotate_left(shuffle.index(all.len().max(1)) % all.len().max(1));
        let mut second = auction(&order);
        let mut now = CLOSE_MS;
        loop {
            let selection = first.selection(now);
            prop_assert_eq!(&selection, &second.selection(now), "the order of bids does not matter");
            let Selection::Awaited { builder, until_ms } = selection else { break };
            let (key, sealed, _, conduct) = all.iter().find(|(key, ..)| key.address() == builder).expect("it bid");
            for auction in [&mut first, &mut second] {
                match conduct {
                    0 => prop_assert_eq!(reveal(auction, key, sealed, now), Ok(())),
                    1 => prop_assert_eq!(reveal(auction, key, &lists(0xee), now), Err("reveal_mismatch")),
                    _ => {}
                }
            }
            now = if *conduct == 2 { until_ms } else { now };
        }
        let honest = all.iter().filter(|(.., conduct)| *conduct == 0).map(|(_, _, value, _)| *value).max();
        match first.selection(now) {
            Selection::Builder { value, .. } => prop_assert_eq!(Some(value.to::<u64>()), honest),
            selection => prop_assert_eq!((selection, honest), (Selection::Own, None)),
        }
        let failed: BTreeSet<Address> = first.failed().iter().map(|failed| failed.builder).collect();
        for (key, _, value, conduct) in &all {
            let above = honest.is_none_or(|honest| *value > honest);
            let failed = failed.contains(&key.address());
            // Of equal bids a failing one may come before or after.
            prop_assert!(failed == (above && *conduct != 0) || Some(*value) == honest);
            prop_assert!(!failed || *conduct != 0);
        }
        for failed in first.failed() {
            prop_assert_eq!(failed.forfeit, bond(failed.value, FORFEIT_BPS));
        }
    }
}

//! Proposals in a market: asked for, covered, revealed to who got the right, and paid for when they were delivered.

use std::sync::Arc;

use alloy::signers::local::PrivateKeySigner;
use alloy_primitives::{B256, U256};
use lockstep_market::{CallKey, Combinatorial, HoldId, MarketRecord, Marketplace, ProposalTerms, Rules, Selection};
use lockstep_primitives::{BlindedProposal, ChainId, DeliveryReport, ProposalCall, ProposalReveal, RollupSet, SlotEnding};
use proptest::prelude::*;

use crate::{
    fixtures::{key, sign},
    marketplace::{
        BIDDING_MS, CHAINS, CLOSED_MS, SLOT, bid, deposit, free, payout, report, rules, selling, sequencer, tell, units,
    },
};

const TERMS: ProposalTerms = ProposalTerms { bid_ms: 0, reveal_ms: 50, turns: 3, forfeit_bps: 2_000 };

/// A market in which Ann holds 10 and 20, and 1000 for each of three builders.
fn market() -> Marketplace {
    let rules = Rules { proposals: Some(TERMS), ..rules(Arc::new(Combinatorial::default())) };
    let mut market = selling(rules, &[10, 20, 30]);
    (1..=4).for_each(|account| deposit(&mut market, key(account).address(), 1_000));
    bid(&mut market, &key(1), &[10, 20], 40, 1).expect("a bid above the reserves");
    market
}

fn set(rollups: &[ChainId]) -> RollupSet {
    rollups.iter().copied().collect()
}

fn call(market: &mut Marketplace, holder: &PrivateKeySigner, rollups: &[ChainId], own: u64) -> Result<CallKey, &'static str> {
    let call = ProposalCall { slot: SLOT, rollups: set(rollups), own_value: units(own) };
    market.call_proposals(&call, &sign(holder, call.digest()), BIDDING_MS).map_err(|error| error.code())
}

fn lists(rollups: &[ChainId], salt: u8) -> ProposalReveal {
    let lists = rollups.iter().map(|chain| (*chain, B256::repeat_byte(*chain as u8))).collect();
    ProposalReveal { lists, salt: B256::repeat_byte(salt) }
}

fn propose(market: &mut Marketplace, builder: u8, key_of: &CallKey, value: u64, nonce: u64) -> Result<(), &'static str> {
    let rollups: Vec<ChainId> = key_of.rollups.iter().copied().collect();
    let CallKey { slot, holder, ref rollups } = CallKey { rollups: set(&rollups), ..key_of.clone() };
    let commitment = lists(&rollups.iter().copied().collect::<Vec<_>>(), builder).commitment();
    let proposal = BlindedProposal { slot, rollups: rollups.clone(), holder, value: units(value), commitment, nonce };
    let signature = sign(&key(builder), proposal.digest());
    market.propose(&proposal, &signature, BIDDING_MS).map(|_| ()).map_err(|error| error.code())
}

fn reveal(market: &mut Marketplace, builder: u8, of: &CallKey, salt: u8, now_ms: u64) -> Result<(), &'static str> {
    let rollups: Vec<ChainId> = of.rollups.iter().copied().collect();
    let told = market.reveal_proposal(of, key(builder).address(), lists(&rollups, salt), now_ms);
    told.map(|_| ()).map_err(|(error, _)| error.code())
}

/// A report on a rollup to which these lists were handed: those of a proposal are named by the rollup.
fn prepared(chain: ChainId, ending: SlotEnding, list: u8) -> DeliveryReport {
    DeliveryReport { prepared: Some(B256::repeat_byte(list)), ..report(chain, ending, None) }
}

fn held(market: &Marketplace, account: u8) -> u64 {
    market.ledger().held_for(HoldId { slot: SLOT, bidder: key(account).address() }).to()
}

#[test]
fn the_holder_proposes_the_best_lists_unseen_and_is_paid_for_what_was_delivered() {
    let mut market = market();
    let asked = call(&mut market, &key(1), &[10, 20], 60).unwrap();
    assert_eq!(call(&mut market, &key(1), &[10, 20], 60), Ok(asked.clone()), "the same again");
    assert_eq!(call(&mut market, &key(1), &[10, 20], 61), Err("asked_before"));
    assert_eq!(propose(&mut market, 2, &CallKey { holder: key(3).address(), ..asked.clone() }, 100, 1), Err("not_asked"));
    assert_eq!(propose(&mut market, 2, &asked, 60, 1), Err("not_above_own"));
    assert_eq!(propose(&mut market, 2, &asked, 900, 1), Err("deposit_too_small"));
    propose(&mut market, 2, &asked, 100, 1).unwrap();
    propose(&mut market, 3, &asked, 80, 1).unwrap();
    propose(&mut market, 4, &asked, 70, 1).unwrap();
    assert_eq!((held(&market, 2), held(&market, 3), held(&market, 4)), (124, 100, 86), "each share with a bond of a quarter");
    // What builders put up stays when they bid for slots too.
    bid(&mut market, &key(3), &[30], 40, 1).unwrap();
    assert_eq!(reveal(&mut market, 2, &asked, 2, BIDDING_MS), Err("right_not_decided"), "nobody shows lists before");

    market.close(SLOT, B256::ZERO).unwrap();
    market.begin_proposals(SLOT, CLOSED_MS + 20);
    assert_eq!(held(&market, 3), 150, "it won 30, and its proposal stands");
    let (selection, _) = market.proposal(&asked, CLOSED_MS + 20).unwrap();
    assert_eq!(selection, Selection::Awaited { builder: key(2).address(), until_ms: CLOSED_MS + 70 });
    // Two stays silent and forfeits a fifth; three reveals in its turn.
    let (_, postings) = market.proposal(&asked, CLOSED_MS + 70).unwrap();
    assert!(!postings.is_empty());
    assert_eq!((free(&market, key(2).address()), held(&market, 2)), (980, 0));
    assert_eq!(reveal(&mut market, 4, &asked, 4, CLOSED_MS + 71), Err("not_your_turn"));
    reveal(&mut market, 3, &asked, 3, CLOSED_MS + 80).unwrap();
    assert_eq!(held(&market, 4), 0, "who is not needed is free again");

    let before = free(&market, key(1).address());
    // What one rollup published is what was revealed; the other was handed other lists.
    tell(&mut market, &prepared(10, SlotEnding::Proposed, 10), true).unwrap();
    assert_eq!(
        free(&market, key(1).address()),
        before + 3 + 40 + 50,
        "its bond and its stake are back, and its builder has paid"
    );
    tell(&mut market, &prepared(20, SlotEnding::Proposed, 77), true).unwrap();
    assert_eq!(
        free(&market, key(1).address()),
        before + 3 + 40 + 50 + 6 + 50 - 40,
        "who was shown lists and proposes others pays"
    );
    assert_eq!(free(&market, key(3).address()), 1_000 - 40 + 40 - held(&market, 3));
    assert_eq!(held(&market, 3), 50, "what it owes for 30");
    market.lapse_proposals(60_000).unwrap();
    assert_eq!(market.calls(SLOT).count(), 0);
}

#[test]
fn who_did_not_get_the_right_gets_no_lists_and_nobody_pays_for_it() {
    let mut market = market();
    let hoped = call(&mut market, &key(2), &[30], 0).unwrap();
    propose(&mut market, 3, &hoped, 50, 1).unwrap();
    market.close(SLOT, B256::ZERO).unwrap();
    assert_eq!((held(&market, 3), free(&market, key(3).address())), (0, 1_000));
    assert_eq!(market.proposal(&hoped, CLOSED_MS).unwrap_err().code(), "not_asked");
    assert_eq!(reveal(&mut market, 3, &hoped, 3, CLOSED_MS), Err("not_asked"));
}

#[test]
fn a_rollup_that_sells_nothing_ahead_takes_proposals_of_its_own() {
    let mut market = market();
    // Nobody buys 30: its default proposer builds, or takes a proposal.
    let own = sequencer(30);
    deposit(&mut market, own.address(), 100);
    let asked = call(&mut market, &own, &[30], 5).unwrap();
    propose(&mut market, 4, &asked, 25, 1).unwrap();
    market.close(SLOT, B256::ZERO).unwrap();
    market.begin_proposals(SLOT, CLOSED_MS);
    reveal(&mut market, 4, &asked, 4, CLOSED_MS + 10).unwrap();
    tell(&mut market, &prepared(30, SlotEnding::Proposed, 30), true).unwrap();
    assert_eq!((free(&market, own.address()), free(&market, key(4).address())), (125, 975));
}

#[test]
fn refused_lists_cost_their_builder_the_bond_and_what_nobody_reports_on_nothing() {
    let mut market = market();
    let asked = call(&mut market, &key(1), &[10, 20], 0).unwrap();
    propose(&mut market, 2, &asked, 100, 1).unwrap();
    market.close(SLOT, B256::ZERO).unwrap();
    market.begin_proposals(SLOT, CLOSED_MS);
    reveal(&mut market, 2, &asked, 2, CLOSED_MS + 10).unwrap();
    let refused = DeliveryReport { earned: Some(U256::ZERO), ..prepared(10, SlotEnding::Refused, 10) };
    tell(&mut market, &refused, false).unwrap();
    assert_eq!((free(&market, key(2).address()), held(&market, 2)), (1_000 - 124, 62), "its share of 50, and a quarter of it");
    assert!(market.lapse_proposals(10_999).unwrap().is_empty());
    market.lapse_proposals(11_000).unwrap();
    assert_eq!((held(&market, 2), free(&market, key(2).address())), (0, 1_000 - 62));
}

#[test]
fn proposals_may_come_when_it_is_known_who_got_the_slot() {
    let proposals = Some(ProposalTerms { bid_ms: 100, ..TERMS });
    let rules = Rules { proposals, ..rules(Arc::new(Combinatorial::default())) };
    let mut market = selling(rules, &[10, 20, 30]);
    (1..=4).for_each(|account| deposit(&mut market, key(account).address(), 1_000));
    bid(&mut market, &key(1), &[10, 20], 40, 1).unwrap();
    let asked = call(&mut market, &key(1), &[10, 20], 0).unwrap();
    market.close(SLOT, B256::ZERO).unwrap();
    market.begin_proposals(SLOT, CLOSED_MS + 20);
    let offer = |market: &mut Marketplace, now_ms: u64, nonce: u64| {
        let commitment = lists(&[10, 20], 2).commitment();
        let (rollups, holder) = (set(&[10, 20]), key(1).address());
        let proposal = BlindedProposal { slot: SLOT, rollups, holder, value: units(50), commitment, nonce };
        market.propose(&proposal, &sign(&key(2), proposal.digest()), now_ms).map_err(|error| error.code())
    };
    offer(&mut market, CLOSED_MS + 99, 1).unwrap();
    assert_eq!(held(&market, 2), 62);
    assert_eq!(offer(&mut market, CLOSED_MS + 100, 2), Err("bidding_closed"));
    let (selection, _) = market.proposal(&asked, CLOSED_MS + 100).unwrap();
    assert_eq!(selection, Selection::Awaited { builder: key(2).address(), until_ms: CLOSED_MS + 150 });
}

#[test]
fn who_cannot_put_up_what_lists_are_worth_is_shown_none() {
    let mut market = market();
    let own = sequencer(30);
    let asked = call(&mut market, &own, &[30], 5).unwrap();
    propose(&mut market, 4, &asked, 25, 1).unwrap();
    market.close(SLOT, B256::ZERO).unwrap();
    market.begin_proposals(SLOT, CLOSED_MS);
    assert_eq!(reveal(&mut market, 4, &asked, 4, CLOSED_MS + 10), Err("not_your_turn"));
    assert_eq!(market.proposal(&asked, CLOSED_MS + 10).unwrap().0, Selection::Own);
    assert_eq!((held(&market, 4), free(&market, key(4).address())), (0, 1_000), "and its builder owes nothing");
}

#[test]
fn nobody_has_a_turn_when_it_is_too_late_for_votes() {
    let mut market = market();
    let asked = call(&mut market, &key(1), &[10, 20], 0).unwrap();
    propose(&mut market, 2, &asked, 100, 1).unwrap();
    market.close(SLOT, B256::ZERO).unwrap();
    // The slot was settled so late that no turn would end in time.
    market.begin_proposals(SLOT, CLOSED_MS + 101);
    assert_eq!(market.proposal(&asked, CLOSED_MS + 101).unwrap().0, Selection::Own);
    assert_eq!((held(&market, 2), free(&market, key(2).address())), (0, 1_000), "which is not the builder's fault");
}

#[test]
fn a_restart_drops_proposals_and_releases_what_was_put_up() {
    let mut market = market();
    let asked = call(&mut market, &key(1), &[10, 20], 0).unwrap();
    propose(&mut market, 2, &asked, 100, 1).unwrap();
    market.close(SLOT, B256::ZERO).unwrap();
    market.begin_proposals(SLOT, CLOSED_MS);
    reveal(&mut market, 2, &asked, 2, CLOSED_MS + 10).unwrap();
    let (registry, ledger, rights) = (market.registry().clone(), market.ledger().clone(), market.rights().clone());
    let record = MarketRecord { registry, ledger, rights, closed_before: SLOT + 1, ..MarketRecord::default() };
    let rules = Rules { proposals: Some(TERMS), ..rules(Arc::new(Combinatorial::default())) };
    let mut again = Marketplace::new(rules, record).unwrap();
    assert_eq!((held(&again, 2), held(&again, 1)), (124, 149));
    let abandoned = again.abandon(CLOSED_MS + 20).unwrap();
    assert_eq!((abandoned.postings.len(), abandoned.lapsed.len()), (2, 0));
    assert_eq!((held(&again, 2), held(&again, 1)), (0, 49), "what is owed for the right stays");
    tell(&mut again, &prepared(10, SlotEnding::Proposed, 10), true).unwrap();
    assert_eq!(free(&again, key(2).address()), 1_000, "nobody is charged");
}

#[test]
fn calls_are_bounded() {
    let mut market = market();
    let packages: Vec<Vec<ChainId>> =
        (1u8..8).map(|mask| (0..3).filter(|bit| mask >> bit & 1 == 1).map(|bit| CHAINS[bit]).collect()).collect();
    for package in &packages {
        call(&mut market, &key(1), package, 0).unwrap();
    }
    assert_eq!(call(&mut market, &key(1), &[], 0), Err("empty_package"));
    assert_eq!(call(&mut market, &key(1), &[77], 0), Err("not_registered"));
    let without = selling(rules(Arc::new(Combinatorial::default())), &[10]).call_proposals(
        &ProposalCall { slot: SLOT, rollups: set(&[10]), own_value: U256::ZERO },
        &[0; 65],
        BIDDING_MS,
    );
    assert_eq!(without.unwrap_err().code(), "no_proposals");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn money_is_where_it_should_be_whatever_builders_do(
        offers in prop::collection::vec((2u8..5, 1u64..400), 0..8),
        acts in prop::collection::vec(0u8..3, 4),
        as_revealed in any::<bool>(),
        endings in prop::collection::vec(0usize..4, 3),
    ) {
        let mut market = market();
        let asked = call(&mut market, &key(1), &[10, 20], 20).expect("it is open");
        for (nonce, (builder, value)) in (1..).zip(offers) {
            let _refused = propose(&mut market, builder, &asked, value, nonce);
        }
        market.close(SLOT, B256::ZERO).expect("it was open");
        market.begin_proposals(SLOT, CLOSED_MS);
        let mut now = CLOSED_MS;
        for act in acts {
            let (selection, _) = market.proposal(&asked, now).expect("it was asked");
            let Selection::Awaited { builder, until_ms } = selection else { break };
            let builder = (2u8..5).find(|seed| key(*seed).address() == builder).expect("one of them");
            match act {
                0 => { let _refused = reveal(&mut market, builder, &asked, 77, now); }
                1 => reveal(&mut market, builder, &asked, builder, now).expect("its turn, and its lists"),
                _ => now = until_ms,
            }
        }
        for (chain, ending) in CHAINS.into_iter().zip(endings) {
            let ending = [SlotEnding::Proposed, SlotEnding::Silent, SlotEnding::Refused, SlotEnding::Lapsed][ending];
            let told = report(chain, ending, (ending != SlotEnding::Proposed).then_some(0));
            let prepared = as_revealed.then(|| B256::repeat_byte(chain as u8));
            tell(&mut market, &DeliveryReport { prepared, ..told }, false).expect("the first word");
        }
        market.lapse_proposals(60_000).expect("what is left lapses");
        for account in 1..5 {
            prop_assert_eq!(held(&market, account), 0);
        }
        let sum: U256 = (1..5).map(|account| market.ledger().balance(key(account).address()).free).sum();
        let paid: u64 = CHAINS.iter().map(|chain| free(&market, payout(*chain))).sum();
        prop_assert_eq!((sum + units(paid), market.ledger().inside()), (units(4_000), units(4_000)));
    }
}

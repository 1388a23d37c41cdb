//! A market from the first bid to the last report: who delivered is paid for, and nothing else.

use std::{collections::BTreeMap, sync::Arc};

use alloy::signers::local::PrivateKeySigner;
use alloy_primitives::{Address, B256, U256};
use lockstep_market::{
    Abandoned, Acquisition, Breach, Combinatorial, DepositRules, Ending, FirstPrice, HoldId, MarketRecord, Marketplace,
    Mechanism, PostedPrice, Reported, Rules, SecondPrice, Selling, SlotClock, bond,
};
use lockstep_primitives::{
    Bid, BidCancellation, ChainId, DeliveryReport, Deposit, OrderingPolicy, Registration, ReserveRule, SlotEnding,
    WithdrawalRequest,
};
use proptest::prelude::*;

use crate::fixtures::{key, sign};

pub(crate) const CLOCK: SlotClock = SlotClock { genesis_ms: 0, slot_ms: 1_000, close_before_ms: 200 };
pub(crate) const SLOT: u64 = 7;
pub(crate) const BIDDING_MS: u64 = 6_500;
pub(crate) const CLOSED_MS: u64 = 6_800;
const BOND_BPS: u64 = 2_500;
pub(crate) const CHAINS: [ChainId; 3] = [10, 20, 30];

pub(crate) fn units(amount: u64) -> U256 {
    U256::from(amount)
}

fn keeper() -> PrivateKeySigner {
    key(9)
}

pub(crate) fn sequencer(chain: ChainId) -> PrivateKeySigner {
    key(100 + chain as u8)
}

pub(crate) fn payout(chain: ChainId) -> Address {
    Address::with_last_byte(chain as u8)
}

pub(crate) fn rules(mechanism: Arc<dyn Mechanism>) -> Rules {
    let deposits = Some(DepositRules { bond_bps: BOND_BPS, keeper: keeper().address() });
    Rules {
        clock: CLOCK,
        selling: Selling::Slots(mechanism),
        ahead: None,
        deposits,
        sealing: None,
        proposals: None,
        l1: None,
        escrow: false,
        report_slots: 3,
    }
}

pub(crate) fn market(mechanism: Arc<dyn Mechanism>, reserves: &[u64]) -> Marketplace {
    selling(rules(mechanism), reserves)
}

pub(crate) fn selling(rules: Rules, reserves: &[u64]) -> Marketplace {
    let slots_ahead = if rules.ahead.is_some() { 64 } else { 0 };
    let mut market = Marketplace::new(rules, MarketRecord::default()).expect("nothing to restore");
    for (chain, reserve) in CHAINS.into_iter().zip(reserves) {
        let sequencer = sequencer(chain);
        let registration = Registration {
            chain,
            sequencer: sequencer.address(),
            sequencer_url: String::new(),
            default_proposer: sequencer.address(),
            payout: payout(chain),
            active: true,
            slots_ahead,
            cluster: [chain].into(),
            reserve: ReserveRule::Fixed(units(*reserve)),
            block_time: 1,
            block_anchor: 0,
            holds: true,
            fee_share_bps: 0,
            ordering: OrderingPolicy::Free,
            inclusion: 0,
            same_slot_claims: false,
            follows_l1: false,
            encrypted_gas: 0,
            from_slot: 0,
            nonce: 1,
        };
        let signature = sign(&sequencer, registration.digest());
        market.register(registration, &signature, 0).expect("terms are in order");
    }
    market
}

pub(crate) fn deposit(market: &mut Marketplace, account: Address, amount: u64) {
    let number = market.ledger().record().deposits;
    let deposit = Deposit { number, account, amount: units(amount) };
    market.deposit(&deposit, &sign(&keeper(), deposit.digest())).expect("the next deposit");
}

pub(crate) fn bid(
    market: &mut Marketplace,
    signer: &PrivateKeySigner,
    rollups: &[ChainId],
    amount: u64,
    nonce: u64,
) -> Result<(), String> {
    let rollups = rollups.iter().copied().collect();
    let bid = Bid { slot: SLOT, rollups, amount: units(amount), exclusive: None, nonce };
    let signature = sign(signer, bid.digest());
    market.bid(bid, &signature, BIDDING_MS).map(|_| ()).map_err(|error| error.code().to_owned())
}

pub(crate) fn report(chain: ChainId, ending: SlotEnding, earned: Option<u64>) -> DeliveryReport {
    DeliveryReport {
        slot: SLOT,
        chain,
        ending,
        blocks: vec![B256::ZERO],
        prepared: None,
        earned: earned.map(units),
        posted: None,
        encrypted: None,
    }
}

pub(crate) fn tell(market: &mut Marketplace, report: &DeliveryReport, committed: bool) -> Result<Option<Reported>, String> {
    let signature = sign(&sequencer(report.chain), report.digest());
    market.report(report, &signature, committed, CLOSED_MS + 500).map_err(|error| error.code().to_owned())
}

pub(crate) fn free(market: &Marketplace, account: Address) -> u64 {
    market.ledger().balance(account).free.to()
}

#[test]
fn a_bid_above_the_free_deposit_is_refused_and_losers_get_theirs_back() {
    let (ann, bob) = (key(1), key(2));
    let mut market = market(Arc::new(Combinatorial::default()), &[10, 10, 10]);
    assert_eq!(bid(&mut market, &ann, &[10], 20, 1), Err("deposit_too_small".to_owned()));
    deposit(&mut market, ann.address(), 50);
    deposit(&mut market, bob.address(), 150);
    bid(&mut market, &ann, &[10], 20, 1).unwrap();
    assert_eq!(free(&market, ann.address()), 25, "20 and a quarter of it are held");
    // Beside that one it covers one of 20 and not one of 21.
    assert_eq!(bid(&mut market, &ann, &[20], 21, 1), Err("deposit_too_small".to_owned()));
    bid(&mut market, &ann, &[20], 20, 1).unwrap();
    // A package of both costs no more than both do.
    bid(&mut market, &ann, &[10, 20], 40, 1).unwrap();
    assert_eq!(free(&market, ann.address()), 0);
    bid(&mut market, &bob, &[10, 20], 80, 1).unwrap();

    let closed = market.close(SLOT, B256::ZERO).unwrap();
    assert_eq!(closed.outcome.wins.len(), 1);
    assert_eq!((free(&market, ann.address()), free(&market, bob.address())), (50, 50));
    assert_eq!(market.ledger().held_for(HoldId { slot: SLOT, bidder: bob.address() }), units(100));
    assert_eq!(market.close(SLOT, B256::ZERO).unwrap_err().code(), "slot_not_open");
}

#[test]
fn a_bid_that_is_taken_back_is_not_held_for() {
    let ann = key(1);
    let mut market = market(Arc::new(Combinatorial::default()), &[10, 10, 10]);
    deposit(&mut market, ann.address(), 50);
    bid(&mut market, &ann, &[10], 40, 1).unwrap();
    // A replacement is held for instead of what it replaces.
    bid(&mut market, &ann, &[10], 20, 2).unwrap();
    assert_eq!(free(&market, ann.address()), 25);
    let cancellation = BidCancellation { slot: SLOT, rollups: [10].into(), exclusive: None, nonce: 3 };
    let taken = market.cancel(&cancellation, &sign(&ann, cancellation.digest()), BIDDING_MS).unwrap();
    assert_eq!(taken.removed.map(|gone| gone.bid.amount), Some(units(20)));
    assert_eq!(free(&market, ann.address()), 50);
}

#[test]
fn a_winner_pays_for_what_was_delivered_and_the_loss_of_what_was_not() {
    let ann = key(1);
    let mut market = market(Arc::new(Combinatorial::default()), &[10, 20, 30]);
    deposit(&mut market, ann.address(), 1_000);
    bid(&mut market, &ann, &CHAINS, 120, 1).unwrap();
    market.close(SLOT, B256::ZERO).unwrap();
    // Shares are 20, 40 and 60, each with a bond of a quarter.
    let done = tell(&mut market, &report(10, SlotEnding::Proposed, None), true).unwrap().unwrap();
    assert_eq!((done.paid, done.record.right.ending), (units(20), Some(Ending::Delivered)));
    assert_eq!((free(&market, payout(10)), free(&market, ann.address())), (20, 1_000 - 20 - 125));

    // The default proposer of the second took over and earned 15 itself.
    assert_eq!(tell(&mut market, &report(20, SlotEnding::Silent, Some(15)), true), Err("contradicts_record".to_owned()));
    let done = tell(&mut market, &report(20, SlotEnding::Silent, Some(15)), false).unwrap().unwrap();
    assert_eq!((done.paid, done.record.right.ending), (units(25), Some(Ending::TakenOver(Breach::Silent))));
    assert_eq!(free(&market, payout(20)), 25);

    // By its own word the third would have earned far more: it gets what was put up for it, and no more.
    let missed = DeliveryReport { posted: Some(units(500)), ..report(30, SlotEnding::Refused, Some(0)) };
    let done = tell(&mut market, &missed, false).unwrap().unwrap();
    assert_eq!(done.paid, units(75));
    assert_eq!((free(&market, payout(30)), free(&market, ann.address())), (75, 1_000 - 20 - 25 - 75));

    // The same again changes nothing, another word is refused.
    assert_eq!(tell(&mut market, &missed, false), Ok(None));
    assert_eq!(tell(&mut market, &report(30, SlotEnding::Proposed, None), false), Err("right_ended".to_owned()));
    let history = &market.histories()[&20].slots()[&SLOT];
    assert_eq!((history.paid, history.earned), (Some(units(25)), Some(units(15))));
}

#[test]
fn what_nobody_reports_on_is_not_charged() {
    let ann = key(1);
    let mut market = market(Arc::new(Combinatorial::default()), &[10, 20, 30]);
    deposit(&mut market, ann.address(), 1_000);
    bid(&mut market, &ann, &[10, 20], 120, 1).unwrap();
    market.close(SLOT, B256::ZERO).unwrap();
    tell(&mut market, &report(10, SlotEnding::Lapsed, None), false).unwrap();
    assert!(market.lapse(10_999).unwrap().is_empty(), "the window of three slots is not over");
    let lapsed = market.lapse(11_000).unwrap();
    assert_eq!(lapsed.iter().map(|one| one.record.chain).collect::<Vec<_>>(), [20, 30]);
    assert!(lapsed.iter().all(|one| one.record.right.ending == Some(Ending::Lapsed)));
    assert_eq!(free(&market, ann.address()), 1_000);
    let late = market.report(&report(20, SlotEnding::Proposed, None), &[0; 65], false, 11_000);
    assert_eq!(late.unwrap_err().code(), "wrong_reporter");
    let late = report(20, SlotEnding::Proposed, None);
    let late = market.report(&late, &sign(&sequencer(20), late.digest()), false, 11_000);
    assert_eq!(late.unwrap_err().code(), "report_out_of_time");
}

#[test]
fn a_slot_that_the_market_slept_through_is_nobodys_and_costs_nobody_anything() {
    let ann = key(1);
    let mut market = market(Arc::new(Combinatorial::default()), &[10, 20, 30]);
    deposit(&mut market, ann.address(), 1_000);
    bid(&mut market, &ann, &[10, 20], 120, 1).unwrap();
    let Abandoned { bids, postings: released, .. } = market.abandon(BIDDING_MS).unwrap();
    assert!(bids.is_empty() && released.is_empty(), "its bidding is not over");
    let Abandoned { bids, postings: released, .. } = market.abandon(CLOSED_MS).unwrap();
    assert_eq!((bids.len(), released.len()), (1, 1));
    assert_eq!(free(&market, ann.address()), 1_000);
    assert_eq!(market.close(SLOT, B256::ZERO).unwrap_err().code(), "slot_not_open");
    // Nor does it open again when the clock goes back.
    assert_eq!(bid(&mut market, &ann, &[10], 120, 2), Err("slot_not_open".to_owned()));
    assert_eq!(tell(&mut market, &report(10, SlotEnding::Proposed, None), false), Err("unknown_right".to_owned()));
}

#[test]
fn money_comes_in_by_the_keepers_word_and_goes_out_by_the_accounts() {
    let (ann, bob) = (key(1), key(2));
    let mut market = market(Arc::new(Combinatorial::default()), &[10, 10, 10]);
    let credit = Deposit { number: 0, account: ann.address(), amount: units(50) };
    let wrong = market.deposit(&credit, &sign(&ann, credit.digest()));
    assert_eq!(wrong.unwrap_err().code(), "wrong_request_signer");
    deposit(&mut market, ann.address(), 50);
    let again = market.deposit(&credit, &sign(&keeper(), credit.digest()));
    assert_eq!(again.unwrap_err().code(), "deposit_out_of_order");

    bid(&mut market, &ann, &[10], 20, 1).unwrap();
    let request = WithdrawalRequest { account: ann.address(), to: bob.address(), amount: units(26), nonce: 1 };
    let theft = market.withdraw(&request, &sign(&bob, request.digest()));
    assert_eq!(theft.unwrap_err().code(), "wrong_request_signer");
    let too_much = market.withdraw(&request, &sign(&ann, request.digest()));
    assert_eq!(too_much.unwrap_err().code(), "not_free", "what backs a bid stays");
    let request = WithdrawalRequest { amount: units(25), ..request };
    let signature = sign(&ann, request.digest());
    market.withdraw(&request, &signature).unwrap();
    assert_eq!(market.withdraw(&request, &signature).unwrap_err().code(), "request_nonce_too_low");
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let ann = key(1);
    let mut market = market(Arc::new(Combinatorial::default()), &[10, 10, 10]);
    deposit(&mut market, ann.address(), 500);
    bid(&mut market, &ann, &[10], 20, 1).unwrap();
    let record = |market: &Marketplace| MarketRecord {
        registry: market.registry().clone(),
        histories: market.histories().clone(),
        ledger: market.ledger().clone(),
        rights: market.rights().clone(),
        bids: market.book_of(SLOT).into_iter().flat_map(|book| book.bids().cloned().collect::<Vec<_>>()).collect(),
        tickets: market.tickets().map(|book| book.record().clone()).unwrap_or_default(),
        settlement: market.settlement().map(|settlement| settlement.record().clone()).unwrap_or_default(),
        exiting: market.exiting().collect(),
        closed_before: if market.outcome(SLOT).is_some() { SLOT + 1 } else { 0 },
        ..MarketRecord::default()
    };
    let mut again = Marketplace::new(rules(Arc::new(Combinatorial::default())), record(&market)).unwrap();
    bid(&mut again, &ann, &[20], 20, 1).unwrap();
    assert_eq!(again.ledger().held_for(HoldId { slot: SLOT, bidder: ann.address() }), units(50));
    again.close(SLOT, B256::ZERO).unwrap();
    let mut again = Marketplace::new(rules(Arc::new(Combinatorial::default())), record(&again)).unwrap();
    assert_eq!(bid(&mut again, &ann, &[30], 20, 1), Err("slot_not_open".to_owned()));
    tell(&mut again, &report(10, SlotEnding::Proposed, None), true).unwrap();
    again.lapse(20_000).unwrap();
    assert_eq!((free(&again, payout(10)), free(&again, ann.address())), (20, 480));
}

#[test]
fn what_was_taken_back_stays_so_over_a_restart() {
    let ann = key(1);
    let mut market = market(Arc::new(Combinatorial::default()), &[10, 10, 10]);
    deposit(&mut market, ann.address(), 500);
    bid(&mut market, &ann, &[10], 20, 1).unwrap();
    let asked = BidCancellation { slot: SLOT, rollups: [10].into(), exclusive: None, nonce: 2 };
    let taken = market.cancel(&asked, &sign(&ann, asked.digest()), BIDDING_MS).unwrap();
    assert_eq!((taken.removed.is_some(), taken.taken_back.as_ref()), (true, Some(&asked)));
    let record = MarketRecord {
        registry: market.registry().clone(),
        ledger: market.ledger().clone(),
        taken_back: vec![(ann.address(), asked)],
        ..MarketRecord::default()
    };
    let mut again = Marketplace::new(rules(Arc::new(Combinatorial::default())), record).unwrap();
    assert_eq!(bid(&mut again, &ann, &[10], 20, 1), Err("bid_nonce_too_low".to_owned()), "nobody hands it in again");
    bid(&mut again, &ann, &[10], 20, 3).unwrap();
}

/// Bids of three bidders, and how each rollup's slot ends.
type World = (Vec<(u8, u8, u64)>, Vec<(u8, u64, u64)>);

fn worlds() -> impl Strategy<Value = World> {
    let bid = (1u8..4, 1u8..8, 0u64..60);
    let ending = (0u8..5, 0u64..40, 0u64..80);
    (prop::collection::vec(bid, 0..6), prop::collection::vec(ending, 3))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn money_is_where_it_should_be_after_every_slot((bids, endings) in worlds(), which in 0usize..4, seed in any::<u8>()) {
        let mechanism: Arc<dyn Mechanism> = match which {
            0 => Arc::new(Combinatorial::default()),
            1 => Arc::new(FirstPrice),
            2 => Arc::new(SecondPrice),
            _ => Arc::new(PostedPrice),
        };
        let mut market = market(mechanism, &[5, 10, 15]);
        for bidder in 1..4 {
            deposit(&mut market, key(bidder).address(), 100);
        }
        let mut offered: BTreeMap<(Address, u8), u64> = BTreeMap::new();
        for (nonce, (bidder, mask, amount)) in (1..).zip(bids) {
            let package: Vec<ChainId> = (0..3).filter(|bit| mask >> bit & 1 == 1).map(|bit| CHAINS[bit]).collect();
            let signer = key(bidder);
            if bid(&mut market, &signer, &package, amount, nonce).is_ok() {
                offered.insert((signer.address(), mask), amount);
            }
            prop_assert_eq!(market.ledger().inside(), units(300));
        }
        let closed = market.close(SLOT, B256::repeat_byte(seed)).expect("it was open");
        for win in &closed.outcome.wins {
            let held = market.ledger().held_for(HoldId { slot: SLOT, bidder: win.bidder });
            prop_assert!(held >= win.price, "what is owed is there");
        }
        let mut charged: BTreeMap<Address, U256> = BTreeMap::new();
        for (chain, (ending, earned, posted)) in CHAINS.into_iter().zip(endings) {
            let ending = [SlotEnding::Proposed, SlotEnding::Silent, SlotEnding::Refused, SlotEnding::Lapsed].get(usize::from(ending));
            let Some(ending) = ending else { continue };
            let earned = (*ending != SlotEnding::Proposed).then_some(earned);
            let told = DeliveryReport { posted: Some(units(posted)), ..report(chain, *ending, earned) };
            let done = tell(&mut market, &told, false).expect("it is the first word").expect("and changes something");
            let right = done.record.right;
            let price = right.granted.price;
            let expected = match right.ending {
                Some(Ending::Delivered) => price,
                Some(Ending::TakenOver(_)) => {
                    let missed = price.max(units(posted)).saturating_sub(units(earned.unwrap_or_default()));
                    missed.min(price + bond(price, BOND_BPS))
                }
                _ => U256::ZERO,
            };
            prop_assert_eq!(done.paid, expected);
            prop_assert_eq!(units(free(&market, payout(chain))), expected);
            prop_assert!(right.granted.how != Acquisition::Default || expected.is_zero());
            *charged.entry(right.granted.holder).or_default() += expected;
            prop_assert_eq!(market.ledger().inside(), units(300));
        }
        market.lapse(60_000).expect("the rest lapses");
        // Nothing is held any more, and whoever paid, paid exactly what its rollups got.
        for bidder in 1..4 {
            let account = key(bidder).address();
            let balance = market.ledger().balance(account);
            prop_assert!(balance.held.is_zero());
            prop_assert_eq!(balance.free, units(100) - charged.get(&account).copied().unwrap_or_default());
        }
    }
}

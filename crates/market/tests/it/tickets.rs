//! Execution tickets: bought, resold, drawn, charged when the slot they were drawn for was delivered.

use std::{collections::BTreeMap, sync::Arc};

use alloy::signers::local::PrivateKeySigner;
use alloy_primitives::{Address, B256, U256};
use lockstep_market::{
    Acquisition, Combinatorial, DepositRules, HoldId, Ledger, MarketRecord, Marketplace, Registry, Rules, Selling, TICKET_POT,
    TicketBook, TicketRecord, TicketRules,
};
use lockstep_primitives::{ChainId, DeliveryReport, SlotEnding, TicketOrder, TicketSide};
use proptest::prelude::*;

use crate::{
    fixtures::{key, sign},
    marketplace::{BIDDING_MS, CLOSED_MS, SLOT, bid, deposit, free, payout, report, rules, selling, tell, units},
};

const LOOKAHEAD: u64 = 2;

fn ticket_rules(classes: &[&[ChainId]], outstanding: u64, max_share_bps: u64) -> TicketRules {
    let classes = classes.iter().map(|class| class.iter().copied().collect()).collect();
    TicketRules { classes, outstanding, lookahead: LOOKAHEAD, max_share_bps, least_price: units(40) }
}

fn ticketing(outstanding: u64) -> Rules {
    let selling = Selling::Tickets(ticket_rules(&[&[10, 20], &[30]], outstanding, 10_000));
    Rules { selling, ..rules(Arc::new(Combinatorial::default())) }
}

fn order(side: TicketSide, rollups: &[ChainId], count: u64, price: u64, nonce: u64) -> TicketOrder {
    TicketOrder { rollups: rollups.iter().copied().collect(), side, count, price: units(price), nonce }
}

/// What an order bought, as numbers and prices.
fn send(market: &mut Marketplace, signer: &PrivateKeySigner, order: &TicketOrder) -> Result<Vec<(u64, u64)>, String> {
    let signature = sign(signer, order.digest());
    let ordered = market.order_tickets(order, &signature, BIDDING_MS).map_err(|error| error.code().to_owned())?;
    Ok(ordered.fills.iter().map(|fill| (fill.number, fill.price.to())).collect())
}

#[test]
fn a_ticket_is_drawn_held_for_and_paid_to_the_sellers_when_its_slot_was_delivered() {
    let ann = key(1);
    let mut market = selling(ticketing(8), &[10, 30, 10]);
    deposit(&mut market, ann.address(), 200);
    assert_eq!(send(&mut market, &ann, &order(TicketSide::Buy, &[10, 20], 1, 50, 1)), Ok(vec![(0, 40)]));
    assert_eq!((free(&market, ann.address()), free(&market, TICKET_POT)), (160, 40));

    let drawing = market.draw_tickets(SLOT - LOOKAHEAD, B256::ZERO).unwrap();
    assert_eq!(drawing.slot, SLOT);
    assert_eq!(
        drawing.drawn.iter().map(|(class, drawn)| (*class, drawn.number, drawn.owner)).collect::<Vec<_>>(),
        [(10, 0, ann.address())]
    );
    // The price and a bond of a quarter are held, and nothing is left in the pot.
    assert_eq!(market.ledger().held_for(HoldId { slot: SLOT, bidder: ann.address() }), units(50));
    assert_eq!((free(&market, ann.address()), free(&market, TICKET_POT)), (150, 0));
    assert!(market.tickets().unwrap().record().tickets.is_empty(), "it is used up");

    let closed = market.close(SLOT, B256::ZERO).unwrap();
    assert_eq!(closed.outcome.wins.len(), 1);
    assert_eq!(closed.outcome.wins[0].shares, BTreeMap::from([(10, units(10)), (20, units(30))]), "in proportion to reserves");
    let grants = &closed.outcome.allocation.grants;
    assert_eq!(grants.iter().map(|grant| grant.proposer == ann.address()).collect::<Vec<_>>(), [true, false]);
    assert!(closed.rights[..2].iter().all(|record| record.right.granted.how == Acquisition::Ticket));
    tell(&mut market, &report(10, SlotEnding::Proposed, Some(1)), true).unwrap();
    tell(&mut market, &report(20, SlotEnding::Lapsed, None), false).unwrap();
    assert_eq!((free(&market, payout(10)), free(&market, payout(20))), (10, 0));
    assert_eq!(free(&market, ann.address()), 190, "what was not delivered is not charged");
}

#[test]
fn tickets_are_offered_and_bought_cheapest_first() {
    let (ann, bob) = (key(1), key(2));
    let mut market = selling(ticketing(3), &[10, 10, 10]);
    deposit(&mut market, ann.address(), 1_000);
    deposit(&mut market, bob.address(), 1_000);
    assert_eq!(send(&mut market, &ann, &order(TicketSide::Buy, &[30], 2, 40, 1)), Ok(vec![(0, 40), (1, 40)]));
    assert_eq!(send(&mut market, &ann, &order(TicketSide::Sell, &[30], 1, 35, 2)), Ok(vec![]));
    assert_eq!(send(&mut market, &ann, &order(TicketSide::Buy, &[30], 3, 90, 3)), Ok(vec![(2, 40)]), "not its own");
    assert_eq!(send(&mut market, &bob, &order(TicketSide::Buy, &[30], 2, 90, 1)), Ok(vec![(0, 35)]), "no more are issued");
    assert_eq!((free(&market, ann.address()), free(&market, bob.address())), (1_000 - 120 + 35, 965));
    assert_eq!(send(&mut market, &bob, &order(TicketSide::Buy, &[30], 1, 90, 2)), Err("no_ticket_at_that_price".to_owned()));
    // Whose offer is taken has it no more; an offer of none takes offers back.
    send(&mut market, &ann, &order(TicketSide::Sell, &[30], 2, 99, 4)).unwrap();
    send(&mut market, &ann, &order(TicketSide::Sell, &[30], 0, 0, 5)).unwrap();
    assert!(market.tickets().unwrap().record().tickets.values().all(|ticket| ticket.offer.is_none()));
}

#[test]
fn prices_follow_demand_and_never_fall_below_the_reserves() {
    let ann = key(1);
    let mut market = selling(ticketing(100), &[10, 10, 45]);
    deposit(&mut market, ann.address(), 100_000);
    let mut prices = Vec::new();
    for (slot, count) in (SLOT - LOOKAHEAD..).zip([9, 9, 1, 0, 0, 0]) {
        let price = market.ticket_price(30, BIDDING_MS).unwrap().to::<u64>();
        prices.push(price);
        if count > 0 {
            send(&mut market, &ann, &order(TicketSide::Buy, &[30], count, 10_000, slot)).unwrap();
        }
        market.draw_tickets(slot, B256::ZERO).unwrap();
    }
    // Eight more than one a slot at most double it; one leaves it; none takes an eighth off.
    assert_eq!(prices, [45, 85, 165, 165, 145, 127]);
    for slot in SLOT + 4..SLOT + 30 {
        market.draw_tickets(slot, B256::ZERO).unwrap();
    }
    assert_eq!(market.ticket_price(30, BIDDING_MS).unwrap(), units(45));
}

#[test]
fn bad_orders_are_refused_by_name_and_change_nothing() {
    let ann = key(1);
    let mut market = selling(ticketing(3), &[10, 10, 10]);
    deposit(&mut market, ann.address(), 50);
    let buy = |count, price, nonce| order(TicketSide::Buy, &[30], count, price, nonce);
    for (bad, code) in [
        (order(TicketSide::Buy, &[10], 1, 90, 1), "unknown_ticket_class"),
        (buy(0, 90, 1), "no_ticket_asked_for"),
        (buy(u64::MAX, 90, 1), "too_many_tickets"),
        (buy(1, 39, 1), "no_ticket_at_that_price"),
        (buy(2, 90, 1), "not_free"),
        (buy(1, 90, 0), "request_nonce_too_low"),
        (order(TicketSide::Sell, &[30], 1, 90, 1), "not_so_many_tickets"),
        (order(TicketSide::Sell, &[30], 0, 90, 1), "not_so_many_tickets"),
    ] {
        assert_eq!(send(&mut market, &ann, &bad), Err(code.to_owned()));
    }
    let huge = TicketOrder { price: U256::MAX, ..order(TicketSide::Sell, &[30], 1, 0, 1) };
    assert_eq!(send(&mut market, &ann, &huge), Err("ticket_price_too_large".to_owned()));
    assert_eq!((free(&market, ann.address()), market.tickets().unwrap().record()), (50, &TicketRecord::default()));
    let good = buy(1, 90, 1);
    send(&mut market, &ann, &good).unwrap();
    assert_eq!(send(&mut market, &ann, &good), Err("request_nonce_too_low".to_owned()), "replayed");
    assert_eq!(bid(&mut market, &ann, &[10], 20, 1), Err("tickets_only".to_owned()));
    let mut auction = selling(rules(Arc::new(Combinatorial::default())), &[10]);
    assert_eq!(send(&mut auction, &ann, &good), Err("no_tickets".to_owned()));
    for classes in [&[&[10, 20][..], &[20]][..], &[&[]]] {
        let refused = TicketBook::new(ticket_rules(classes, 1, 10_000), TicketRecord::default()).unwrap_err();
        assert_eq!(refused.code(), "ticket_classes");
    }
    let refused = TicketBook::new(ticket_rules(&[&[10]], 5_000, 10_000), TicketRecord::default()).unwrap_err();
    assert_eq!(refused.code(), "too_many_tickets");
}

#[test]
fn tickets_and_draws_are_there_after_a_restart_and_a_missed_slot_costs_nothing() {
    let ann = key(1);
    let mut market = selling(ticketing(3), &[10, 10, 10]);
    deposit(&mut market, ann.address(), 500);
    send(&mut market, &ann, &order(TicketSide::Buy, &[10, 20], 2, 90, 1)).unwrap();
    market.draw_tickets(SLOT - LOOKAHEAD, B256::ZERO).unwrap();
    let record = |market: &Marketplace| MarketRecord {
        registry: market.registry().clone(),
        ledger: market.ledger().clone(),
        tickets: market.tickets().unwrap().record().clone(),
        ..MarketRecord::default()
    };
    let mut again = Marketplace::new(ticketing(3), record(&market)).unwrap();
    assert_eq!(again.close(SLOT, B256::ZERO).unwrap().outcome, market.close(SLOT, B256::ZERO).unwrap().outcome);

    market.draw_tickets(SLOT + 1 - LOOKAHEAD, B256::ZERO).unwrap_or_default();
    let mut late = Marketplace::new(ticketing(3), record(&market)).unwrap();
    late.draw_tickets(SLOT + 1, B256::ZERO).unwrap();
    let before = free(&late, ann.address());
    late.abandon(CLOSED_MS + 60_000).unwrap();
    assert!(free(&late, ann.address()) > before, "what it paid is released");
    assert!(late.tickets().unwrap().record().drawn.is_empty());
    // Other classes than there are tickets of.
    let other = Rules { selling: Selling::Tickets(ticket_rules(&[&[10]], 3, 10_000)), ..ticketing(3) };
    let mut record = record(&market);
    record.tickets.tickets.insert(9, lockstep_market::Ticket { class: 30, owner: ann.address(), price: units(1), offer: None });
    assert_eq!(Marketplace::new(other, record).unwrap_err().code(), "unknown_ticket_class");
}

/// Who is drawn how often of a thousand draws, where holders have so many tickets each.
fn drawn(holdings: &[u64], max_share_bps: u64) -> Vec<u64> {
    let mut won = vec![0; holdings.len()];
    let rules = || Rules { selling: Selling::Tickets(ticket_rules(&[&[30]], 4_000, max_share_bps)), ..ticketing(1) };
    let mut record = TicketRecord { issued: 10_000, ..TicketRecord::default() };
    let mut number = 0;
    for (index, count) in holdings.iter().enumerate() {
        for _ in 0..*count {
            let owner = Address::with_last_byte(index as u8 + 1);
            record.tickets.insert(number, lockstep_market::Ticket { class: 30, owner, price: units(50), offer: None });
            number += 1;
        }
    }
    let market = selling(rules(), &[10, 10, 10]);
    for seed in 0..1_000_u64 {
        let registry = market.registry().clone();
        let mut ledger = Ledger::new();
        ledger.deposit(0, TICKET_POT, units(100_000)).expect("the first deposit");
        let record = MarketRecord { registry, ledger, tickets: record.clone(), ..MarketRecord::default() };
        let mut market = Marketplace::new(rules(), record).expect("the rows fit");
        let seed = B256::from(U256::from(seed));
        let drawing = market.draw_tickets(SLOT - LOOKAHEAD, seed).expect("the slot is on sale");
        won[usize::from(drawing.drawn[0].1.owner.0[19]) - 1] += 1;
    }
    won
}

#[test]
fn chances_are_in_proportion_to_tickets_up_to_the_cap() {
    let won = drawn(&[7, 2, 1], 10_000);
    assert!((640..760).contains(&won[0]) && (150..250).contains(&won[1]) && (60..140).contains(&won[2]), "{won:?}");
    let won = drawn(&[8, 1, 1], 4_000);
    assert!((340..460).contains(&won[0]), "{won:?}");
}

#[derive(Clone, Debug)]
enum Step {
    Order(u8, bool, bool, u64, u64),
    Slot(SlotEnding, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let order = (1u8..4, any::<bool>(), any::<bool>(), 0u64..4, 20u64..90)
        .prop_map(|(who, buys, both, count, price)| Step::Order(who, buys, both, count, price));
    let ending = prop_oneof![Just(SlotEnding::Proposed), Just(SlotEnding::Silent), Just(SlotEnding::Lapsed)];
    let slot = (ending, any::<bool>()).prop_map(|(ending, told)| Step::Slot(ending, told));
    prop::collection::vec(prop_oneof![3 => order, 1 => slot], 1..16)
}

fn signers() -> Vec<PrivateKeySigner> {
    (1..4).map(key).collect()
}

/// A market with terms and deposits, which need not be signed for every case again.
fn registered() -> Marketplace {
    static RECORD: std::sync::OnceLock<(Registry, Ledger)> = std::sync::OnceLock::new();
    let (registry, ledger) = RECORD.get_or_init(|| {
        let mut market = selling(ticketing(5), &[10, 10, 45]);
        signers().iter().for_each(|signer| deposit(&mut market, signer.address(), 500));
        (market.registry().clone(), market.ledger().clone())
    });
    let record = MarketRecord { registry: registry.clone(), ledger: ledger.clone(), ..MarketRecord::default() };
    Marketplace::new(ticketing(5), record).expect("the rows fit")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    /// Whatever is ordered and drawn: the ledger balances, the pot holds exactly what the tickets that are there cost, nothing is
    /// drawn below the reserves or twice, and sellers are paid what was delivered.
    #[test]
    fn money_and_tickets_are_kept_whatever_is_ordered(steps in steps()) {
        let (signers, mut market) = (signers(), registered());
        let mut slot = SLOT - LOOKAHEAD;
        let mut seen = std::collections::BTreeSet::new();
        for (nonce, step) in (1u64..).zip(steps) {
            match step {
                Step::Order(who, buys, both, count, price) => {
                    let class: &[ChainId] = if both { &[10, 20] } else { &[30] };
                    let side = if buys { TicketSide::Buy } else { TicketSide::Sell };
                    let _refused = send(&mut market, &signers[usize::from(who) - 1], &order(side, class, count, price, nonce));
                }
                Step::Slot(ending, told) => {
                    let closed = market.close(slot, B256::ZERO).unwrap();
                    market.draw_tickets(slot, B256::from(U256::from(slot))).unwrap();
                    for win in &closed.outcome.wins {
                        prop_assert!(seen.insert(win.bid), "drawn twice");
                        for (chain, share) in &win.shares {
                            prop_assert!(*share >= closed.sale.terms()[chain].reserve);
                        }
                        for chain in win.rollups.iter().filter(|_| told) {
                            let report = DeliveryReport { slot, ..report(*chain, ending, Some(3)) };
                            let sequencer = key(100 + *chain as u8);
                            let now = 1_000 * slot;
                            let paid = market.report(&report, &sign(&sequencer, report.digest()), false, now).unwrap().unwrap().paid;
                            if ending == SlotEnding::Proposed {
                                prop_assert_eq!(paid, win.shares[chain]);
                            }
                        }
                    }
                    slot += 1;
                }
            }
            let record = market.tickets().unwrap().record();
            let cost = record.tickets.values().fold(U256::ZERO, |sum, ticket| sum + ticket.price);
            prop_assert_eq!(market.ledger().balance(TICKET_POT).free, cost);
            prop_assert_eq!(market.ledger().inside(), units(1_500));
            prop_assert!(Ledger::restore(market.ledger().record().clone()).is_ok());
        }
    }
}

#[test]
fn without_deposits_to_keep_nothing_is_drawn_for_money_that_is_not_there() {
    let rules = Rules { deposits: None::<DepositRules>, ..ticketing(3) };
    let mut market = selling(rules, &[10, 10, 10]);
    assert_eq!(send(&mut market, &key(1), &order(TicketSide::Buy, &[30], 1, 90, 1)), Err("not_free".to_owned()));
}

//! Each slot is sold in its time, once, whoever turns the clock; rights go from hand to hand as the rules say; L1 takes part.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, U256};
use lockstep_market::{
    Acquisition, AheadSale, Breach, Calendar, ClockJump, Ending, Granted, L1Schedule, L1Turn, MAX_AMOUNT, MAX_RIGHT_SLOTS,
    MAX_RIGHTS_PER_SLOT, Right, RightRecord, RightState, RightsBook, RightsError, SlotClock, SlotPhase, SteadyTime,
};
use lockstep_primitives::{ChainId, RollupSet, SlotNumber};
use proptest::prelude::*;

const DEFAULT: Address = Address::repeat_byte(0xdd);
const L1: ChainId = 1;

fn somebody(index: u8) -> Address {
    Address::with_last_byte(index + 1)
}

fn granted(holder: Address, how: Acquisition, price: u64) -> Granted {
    Granted { holder, how, price: U256::from(price), default_proposer: DEFAULT }
}

fn prices(rollups: &[ChainId], each: u64) -> BTreeMap<ChainId, U256> {
    rollups.iter().map(|chain| (*chain, U256::from(each))).collect()
}

/// A calendar with unequal lengths, of slots that begin at some odd time.
fn calendars() -> impl Strategy<Value = Calendar> {
    (1u64..60, 0u64..90, 1u64..6, 0u64..6, any::<bool>(), 0u64..100, 0u64..100).prop_map(
        |(slot_ms, close_before_ms, epoch_slots, more_ahead, sells_ahead, open, just_in_time)| {
            let clock = SlotClock { genesis_ms: 10_007, slot_ms, close_before_ms };
            let just_in_time_ms = 1 + just_in_time % slot_ms;
            let slots_ahead = (close_before_ms + just_in_time_ms).div_ceil(slot_ms) + more_ahead;
            let ahead = AheadSale { epoch_slots, slots_ahead, open_ms: 1 + open % (epoch_slots * slot_ms) };
            Calendar::new(clock, just_in_time_ms, sells_ahead.then_some(ahead)).expect("the windows fit")
        },
    )
}

/// What a clock shows that goes on, jumps ahead and goes back.
fn clocks() -> impl Strategy<Value = Vec<u64>> {
    let step = prop_oneof![6 => 0i64..20, 1 => 0i64..400, 1 => -300i64..0];
    prop::collection::vec(step, 1..60).prop_map(|steps| {
        let mut now: u64 = 9_900;
        let shown = steps.into_iter().map(|step| {
            now = now.saturating_add_signed(step);
            now
        });
        shown.collect()
    })
}

/// One step of somebody with the rights of one slot.
#[derive(Clone, Debug)]
enum Step {
    Grant { chain: ChainId, holder: u8, how: u8 },
    Resell { from: u8, to: u8, rollups: Vec<ChainId>, late: bool },
    Offer { by: u8, rollups: Vec<ChainId>, reserve: u64 },
    Delegate { by: u8, builder: u8, rollups: Vec<ChainId>, price: u64 },
    Finish { chain: ChainId, ending: u8 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rollups = || prop::collection::vec(1u64..4, 0..3);
    let step = prop_oneof![
        3 => (1u64..4, 0u8..3, 0u8..4).prop_map(|(chain, holder, how)| Step::Grant { chain, holder, how }),
        4 => (0u8..3, 0u8..3, rollups(), prop::bool::weighted(0.1))
            .prop_map(|(from, to, rollups, late)| Step::Resell { from, to, rollups, late }),
        3 => (0u8..3, rollups(), 0u64..4).prop_map(|(by, rollups, reserve)| Step::Offer { by, rollups, reserve }),
        3 => (0u8..3, 0u8..3, rollups(), 0u64..4)
            .prop_map(|(by, builder, rollups, price)| Step::Delegate { by, builder, rollups, price }),
        1 => (1u64..4, 0u8..3).prop_map(|(chain, ending)| Step::Finish { chain, ending }),
    ];
    prop::collection::vec(step, 0..30)
}

const SLOT: SlotNumber = 7;

fn take(book: &mut RightsBook, step: &Step) -> Result<(), RightsError> {
    match step {
        Step::Grant { chain, holder, how } => {
            let granted = match how {
                0 => granted(DEFAULT, Acquisition::Default, 0),
                1 => granted(somebody(*holder), Acquisition::Ticket, 2),
                2 => granted(somebody(*holder), Acquisition::JustInTime, 5),
                _ => granted(somebody(*holder), Acquisition::Ahead, 5),
            };
            book.grant(SLOT, *chain, granted)
        }
        Step::Resell { from, to, rollups, late } => {
            let until_ms = if *late { 100 } else { 101 };
            book.resell(SLOT, somebody(*from), somebody(*to), &prices(rollups, 3), 100, until_ms)
        }
        Step::Offer { by, rollups, reserve } => book.offer(SLOT, somebody(*by), &prices(rollups, *reserve), 100, 101),
        Step::Delegate { by, builder, rollups, price } => {
            book.delegate(SLOT, somebody(*by), somebody(*builder), &prices(rollups, *price), 100, 101)
        }
        Step::Finish { chain, ending } => {
            let ending = [Ending::Delivered, Ending::TakenOver(Breach::Silent), Ending::Lapsed][usize::from(*ending)];
            book.finish(SLOT, *chain, ending)
        }
    }
}

/// Whether a field that was written is still what it was.
fn kept<T: PartialEq>(before: Option<T>, after: Option<T>) -> bool {
    before.is_none() || before == after
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn the_windows_of_a_slot_come_one_after_the_other(calendar in calendars(), slot in 0u64..40) {
        let times = calendar.times(slot).expect("these slots are sold");
        let mut marks = Vec::new();
        prop_assert!(times.just_in_time.opens_ms < times.just_in_time.closes_ms);
        prop_assert!(times.running.opens_ms < times.running.closes_ms);
        prop_assert_eq!(times.ahead.is_some(), calendar.ahead().is_some());
        if let Some(ahead) = times.ahead {
            prop_assert!(ahead.opens_ms < ahead.closes_ms);
            marks.extend([ahead.opens_ms, ahead.closes_ms]);
        }
        marks.extend([times.just_in_time.opens_ms, times.just_in_time.closes_ms]);
        marks.extend([times.running.opens_ms, times.running.closes_ms]);
        prop_assert!(marks.is_sorted(), "{:?}", times);
        prop_assert_eq!(times.just_in_time.closes_ms, calendar.clock().close_ms(slot));
        // The next slot opens no earlier than this one closes, so one is open at a time.
        let next = calendar.times(slot + 1).expect("these slots are sold");
        prop_assert!(next.just_in_time.opens_ms >= times.just_in_time.closes_ms);
    }
}

// These look at many slots a case.
proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// At every time, what is open is what the phases of the slots say.
    #[test]
    fn what_is_open_is_what_the_phases_say(calendar in calendars(), now_ms in 9_000u64..12_000) {
        let slots = 0..2_200;
        let in_phase = |phase| slots.clone().filter(|slot| calendar.phase(*slot, now_ms) == Some(phase)).collect::<Vec<_>>();
        let just_in_time = in_phase(SlotPhase::JustInTime);
        prop_assert!(just_in_time.len() <= 1);
        prop_assert_eq!(calendar.just_in_time_open(now_ms), just_in_time.first().copied());
        let ahead = in_phase(SlotPhase::Ahead);
        let epoch = calendar.ahead_open(now_ms);
        let expected: Vec<SlotNumber> = epoch.and_then(|epoch| calendar.slots_of(epoch)).into_iter().flatten().collect();
        prop_assert_eq!(ahead, expected);
    }

    /// However the clock jumps, no slot goes back to an earlier phase, and each auction closes exactly once, in order.
    #[test]
    fn whatever_the_clock_does_no_auction_reopens_and_each_closes_once(calendar in calendars(), shown in clocks()) {
        let mut time = SteadyTime::new(50);
        let mut phases: BTreeMap<SlotNumber, SlotPhase> = BTreeMap::new();
        let (mut closed, mut epochs) = (Vec::new(), Vec::new());
        let (mut before_ms, mut latest) = (0, 0);
        for clock_ms in shown {
            let (now_ms, jump) = time.observe(clock_ms);
            prop_assert!(now_ms >= before_ms && now_ms >= clock_ms);
            prop_assert_eq!(matches!(jump, Some(ClockJump::Back { .. })), clock_ms < latest);
            latest = now_ms;
            for slot in 0..60 {
                let phase = calendar.phase(slot, now_ms).expect("these slots are sold");
                let known = phases.insert(slot, phase);
                prop_assert!(known.is_none_or(|known| known <= phase), "slot {} went from {:?} to {:?}", slot, known, phase);
            }
            closed.extend(calendar.just_in_time_closed(before_ms, now_ms));
            epochs.extend(calendar.ahead_closed(before_ms, now_ms));
            before_ms = now_ms;
        }
        for list in [&closed, &epochs] {
            prop_assert_eq!(list, &(0..list.len() as u64).collect::<Vec<_>>());
        }
        // What has closed is what is past its window.
        for (slot, phase) in &phases {
            prop_assert_eq!(closed.contains(slot), *phase >= SlotPhase::Closed);
            let sold_ahead = calendar.epoch_of(*slot).is_some_and(|epoch| epochs.contains(&epoch));
            prop_assert_eq!(sold_ahead, calendar.ahead().is_some() && *phase >= SlotPhase::Between);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn every_step_is_written_once_and_a_refused_one_changes_nothing(steps in steps()) {
        let mut book = RightsBook::new();
        let mut resold = BTreeSet::new();
        for step in &steps {
            let before = book.clone();
            if take(&mut book, step).is_err() {
                prop_assert_eq!(&book, &before, "{:?}", step);
                continue;
            }
            for RightRecord { chain, right, .. } in before.records() {
                let after = *book.get(SLOT, chain).expect("no right is lost");
                prop_assert_eq!(after.granted, right.granted);
                prop_assert!(kept(right.resale, after.resale) && kept(right.offer, after.offer), "{:?}", step);
                prop_assert!(kept(right.delegation, after.delegation) && kept(right.ending, after.ending), "{:?}", step);
                if matches!(right.state(), RightState::Ended(_)) {
                    prop_assert_eq!(after, right, "nothing happens after the end");
                }
            }
            // Each resale that was taken is the first one of its right, by whom it was granted to.
            if let Step::Resell { from, rollups, .. } = step {
                for chain in rollups.iter().collect::<BTreeSet<_>>() {
                    prop_assert!(resold.insert(*chain), "{:?} was resold before", step);
                    let right = book.get(SLOT, *chain).expect("it was resold");
                    prop_assert!(right.granted.holder == somebody(*from) && right.granted.how != Acquisition::Default);
                }
            }
        }
        for RightRecord { right, .. } in book.records() {
            let Right { granted, resale, delegation, ending, .. } = right;
            prop_assert_eq!(right.holder(), resale.map_or(granted.holder, |resale| resale.to));
            let builds = delegation.map_or(right.holder(), |delegation| delegation.builder);
            let taken_over = matches!(ending, Some(Ending::TakenOver(_)));
            prop_assert_eq!(right.proposer(), if taken_over { DEFAULT } else { builds });
            prop_assert!(!taken_over || builds != DEFAULT, "it took over from itself");
        }
        let everybody: Vec<Address> = (0..3).map(somebody).chain([DEFAULT]).collect();
        let built: Vec<ChainId> = everybody.iter().flat_map(|proposer| book.rollups_of(SLOT, *proposer)).collect();
        prop_assert_eq!(built.len(), book.records().count(), "each rollup has one proposer");
        let restored = RightsBook::restore(book.records(), book.forgotten_before(), book.dropped());
        prop_assert_eq!(restored, Ok(book));
    }

    /// Against a search through all L1 slots for those whose timestamp lies in the slot.
    #[test]
    fn the_turn_on_l1_is_found_by_its_blocks_timestamps(
        (genesis_s, slot_s) in (0u64..60, 1u64..15),
        (genesis_ms, slot_ms) in (0u64..50_000, 1u64..30_000),
        known in prop::collection::btree_map(0u64..60, 0u8..2, 0..60),
        slot in 0u64..6,
    ) {
        let clock = SlotClock { genesis_ms, slot_ms, close_before_ms: 0 };
        let mut schedule = L1Schedule::new(L1, genesis_s, slot_s).expect("its slots have a length");
        for (l1_slot, proposer) in &known {
            schedule.learn(*l1_slot, somebody(*proposer)).expect("the lookahead has room");
        }
        let inside = |l1_slot: &u64| {
            let timestamp_ms = 1000 * (genesis_s + l1_slot * slot_s);
            clock.start_ms(slot) <= timestamp_ms && timestamp_ms < clock.end_ms(slot)
        };
        let l1_slots: Vec<u64> = (0..300).filter(inside).collect();
        let proposers: BTreeSet<Option<&u8>> = l1_slots.iter().map(|l1_slot| known.get(l1_slot)).collect();
        let turn = schedule.turn(&clock, slot);
        match turn {
            L1Turn::NoBlock => prop_assert!(l1_slots.is_empty()),
            L1Turn::Unknown(l1_slot) => prop_assert!(l1_slots.contains(&l1_slot) && !known.contains_key(&l1_slot)),
            L1Turn::Several => prop_assert!(proposers.iter().flatten().count() > 1),
            L1Turn::Of(proposer) => {
                let only = proposers.first().copied().flatten();
                prop_assert_eq!((proposers.len(), only.map(|index| somebody(*index))), (1, Some(proposer)));
            }
        }
    }
}

#[test]
fn a_right_is_resold_once_and_its_holder_lets_a_builder_build() {
    let mut book = RightsBook::new();
    let [first, second, third] = [0, 1, 2].map(somebody);
    for chain in [10, 20] {
        book.grant(SLOT, chain, granted(first, Acquisition::Ahead, 5)).unwrap();
    }
    let both = prices(&[10, 20], 7);
    book.resell(SLOT, first, second, &both, 99, 100).unwrap();
    let again = book.resell(SLOT, second, third, &both, 99, 100);
    assert_eq!(again, Err(RightsError::ResoldBefore { slot: SLOT, chain: 10, first, holder: second }));
    let by_former = book.offer(SLOT, first, &both, 99, 100);
    assert_eq!(by_former, Err(RightsError::NotHolder { slot: SLOT, chain: 10, holder: second, by: first }));

    book.offer(SLOT, second, &both, 99, 100).unwrap();
    let cheap = BTreeMap::from([(10, U256::from(1)), (20, U256::from(12))]);
    let below = book.delegate(SLOT, second, third, &cheap, 99, 100);
    let (offered, wanted) = (U256::from(13), U256::from(14));
    assert_eq!(below, Err(RightsError::BelowOffer { slot: SLOT, rollups: [10, 20].into(), offered, wanted }));
    // What counts is the sum, because the rollups are built together.
    let enough = BTreeMap::from([(10, U256::from(1)), (20, U256::from(13))]);
    let late = book.delegate(SLOT, second, third, &enough, 100, 100);
    assert_eq!(late, Err(RightsError::Late { slot: SLOT, until_ms: 100, now_ms: 100 }));
    book.delegate(SLOT, second, third, &enough, 99, 100).unwrap();
    let twice = book.delegate(SLOT, second, first, &enough, 99, 100);
    assert_eq!(twice, Err(RightsError::DelegatedBefore { slot: SLOT, chain: 10, builder: third }));
    assert_eq!(book.rollups_of(SLOT, third), RollupSet::from([10, 20]));

    // The builder delivers one, and stays silent on the other.
    book.finish(SLOT, 10, Ending::Delivered).unwrap();
    book.finish(SLOT, 20, Ending::TakenOver(Breach::Silent)).unwrap();
    assert_eq!([third, DEFAULT].map(|builds| book.rollups_of(SLOT, builds)), [RollupSet::from([10]), RollupSet::from([20])]);
    assert_eq!(book.get(SLOT, 20).unwrap().holder(), second, "the holder answers for it");
    let changed = book.finish(SLOT, 20, Ending::Delivered);
    assert_eq!(changed, Err(RightsError::Ended { slot: SLOT, chain: 20, ending: "taken_over" }));
    assert_eq!(book.finish(SLOT, 20, Ending::TakenOver(Breach::Silent)), Ok(()), "the same again changes nothing");
}

#[test]
fn a_default_proposer_resells_nothing_and_takes_over_from_nobody() {
    let mut book = RightsBook::new();
    book.grant(SLOT, 10, granted(DEFAULT, Acquisition::Default, 0)).unwrap();
    let one = prices(&[10], 3);
    let resold = book.resell(SLOT, DEFAULT, somebody(0), &one, 0, 1);
    assert_eq!(resold, Err(RightsError::NeverSold { slot: SLOT, chain: 10 }));
    let taken_over = book.finish(SLOT, 10, Ending::TakenOver(Breach::Silent));
    assert_eq!(taken_over, Err(RightsError::NobodyToTakeOverFrom { slot: SLOT, chain: 10 }));
    // It may have a builder build, and take over from it.
    book.delegate(SLOT, DEFAULT, somebody(0), &one, 0, 1).unwrap();
    book.finish(SLOT, 10, Ending::TakenOver(Breach::Withheld)).unwrap();
    assert_eq!(book.rollups_of(SLOT, DEFAULT), RollupSet::from([10]));

    for (wrong, code) in [
        (granted(somebody(0), Acquisition::Default, 0), "not_by_default"),
        (granted(DEFAULT, Acquisition::Default, 1), "not_by_default"),
        (Granted { price: MAX_AMOUNT + U256::ONE, ..granted(somebody(0), Acquisition::Ahead, 0) }, "right_amount_too_large"),
    ] {
        assert_eq!(book.grant(SLOT, 20, wrong).unwrap_err().code(), code);
    }
    assert_eq!(book.resell(SLOT, DEFAULT, somebody(0), &BTreeMap::new(), 0, 1), Err(RightsError::NoRollups { slot: SLOT }));
    assert_eq!(book.finish(SLOT, 99, Ending::Lapsed), Err(RightsError::Unknown { slot: SLOT, chain: 99 }));
}

#[test]
fn the_book_is_bounded_and_forgets_only_what_has_ended() {
    let mut book = RightsBook::new();
    let right = granted(somebody(0), Acquisition::Ahead, 5);
    for chain in 0..MAX_RIGHTS_PER_SLOT as u64 {
        book.grant(0, chain, right).unwrap();
    }
    let more = RightsError::TooManyRights { slot: 0, chain: 999, limit: MAX_RIGHTS_PER_SLOT };
    assert_eq!(book.grant(0, 999, right), Err(more));
    let last = MAX_RIGHT_SLOTS as u64;
    for slot in 1..last {
        book.grant(slot, 10, right).unwrap();
    }
    assert_eq!(book.grant(last, 10, right), Err(RightsError::BookFull { slot: last, limit: MAX_RIGHT_SLOTS }));
    for chain in 0..MAX_RIGHTS_PER_SLOT as u64 {
        book.finish(0, chain, Ending::Delivered).unwrap();
    }
    book.grant(last, 10, right).unwrap();
    assert_eq!((book.dropped(), book.forgotten_before()), (MAX_RIGHTS_PER_SLOT as u64, 1));
    // What is forgotten does not come back as if it had never been granted.
    let forgotten = RightsError::Forgotten { slot: 0, chain: 10, before: 1 };
    assert_eq!(book.grant(0, 10, right), Err(forgotten.clone()));
    assert_eq!(book.finish(0, 10, Ending::Lapsed), Err(forgotten));

    let gone = book.forget_before(last);
    assert_eq!((gone.len() as u64, book.records().count()), (last - 1, 1));
    assert!(gone.iter().all(|record| record.right.ending.is_none()), "the caller is told what was open");
    let record = RightRecord { slot: 3, chain: 10, right: Right::new(right) };
    assert_eq!(RightsBook::restore([record], 4, 0).unwrap_err().code(), "right_forgotten");
    assert_eq!(RightsBook::restore([record, record], 0, 0).unwrap_err().code(), "right_already_granted");
}

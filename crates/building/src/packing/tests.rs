use std::collections::BTreeMap;

use proptest::{prelude::*, test_runner::RngSeed};

use super::{local::Mix, *};

/// A failing case is reproduced by its seed, so that no file has to keep it.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(20_261_122), failure_persistence: None, ..ProptestConfig::default() }
}

/// Nodes that small instances never need.
const THOROUGH: Settings = Settings { rounds: 16, exact_nodes: 1_000_000, seed: 1 };

/// Prices and kicks only.
const ROUGH: Settings = Settings { rounds: 4, exact_nodes: 0, seed: 1 };

fn exact(choices: Vec<Choice>) -> GroupChoices {
    GroupChoices { choices, slack: 0 }
}

fn choice(value: i128, usage: &[(usize, u64)]) -> Choice {
    Choice { value, usage: usage.to_vec() }
}

fn a_choice(dimensions: usize) -> impl Strategy<Value = Choice> {
    let usage = prop::collection::btree_map(0..dimensions, 0_u64..30, 0..=dimensions);
    (-3_i128..50, usage).prop_map(|(value, usage)| Choice { value, usage: usage.into_iter().collect() })
}

fn a_group(dimensions: usize) -> impl Strategy<Value = GroupChoices> {
    prop::collection::vec(a_choice(dimensions), 0..5).prop_map(exact)
}

fn small() -> impl Strategy<Value = (Vec<u64>, Vec<GroupChoices>)> {
    (1_usize..4).prop_flat_map(|dimensions| {
        let capacities = prop::collection::vec(0_u64..60, dimensions);
        (capacities, prop::collection::vec(a_group(dimensions), 0..7))
    })
}

/// The room that is left, `None` if it does not suffice.
fn left(room: &[u64], choice: &Choice) -> Option<Vec<u64>> {
    let mut room = room.to_vec();
    for (dimension, amount) in &choice.usage {
        room[*dimension] = room[*dimension].checked_sub(*amount)?;
    }
    Some(room)
}

/// The optimum by trying everything.
fn optimum(room: &[u64], groups: &[GroupChoices]) -> i128 {
    let Some((group, rest)) = groups.split_first() else { return 0 };
    let taken = group.choices.iter().filter_map(|choice| Some(choice.value + optimum(&left(room, choice)?, rest)));
    taken.chain([optimum(room, rest)]).max().unwrap()
}

/// Checks that what was packed fits and is worth what it says, and returns the room that is left.
fn checked(capacities: &[u64], groups: &[GroupChoices], packed: &Packed) -> Vec<u64> {
    assert_eq!(packed.chosen.len(), groups.len());
    let mut room = capacities.to_vec();
    let mut value = 0;
    for (group, chosen) in groups.iter().zip(&packed.chosen) {
        if let Some(chosen) = chosen {
            room = left(&room, &group.choices[*chosen]).expect("what is packed fits");
            value += group.choices[*chosen].value;
        }
    }
    assert_eq!(value, packed.value);
    assert!(packed.value <= packed.bound, "{} is above its bound {}", packed.value, packed.bound);
    room
}

/// By value for the share of all room that it uses, as it fits: what a packer without prices would do.
fn plain_greedy(capacities: &[u64], groups: &[GroupChoices]) -> i128 {
    let mut order = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        for (place, choice) in group.choices.iter().enumerate().filter(|(_, choice)| choice.value >= 0) {
            let used = choice.usage.iter().filter(|(_, amount)| *amount > 0);
            let share: f64 = used.map(|(dimension, amount)| *amount as f64 / capacities[*dimension] as f64).sum();
            order.push((choice.value as f64 / share.max(f64::MIN_POSITIVE), index, place));
        }
    }
    order.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| (a.1, a.2).cmp(&(b.1, b.2))));
    let mut room = capacities.to_vec();
    let mut done = vec![false; groups.len()];
    let mut value = 0;
    for (_, index, place) in order {
        let choice = &groups[index].choices[place];
        if let Some(after) = left(&room, choice).filter(|_| !done[index]) {
            room = after;
            value += choice.value;
            done[index] = true;
        }
    }
    value
}

/// Groups of one bundle or a few over some of four rollups, each with gas and data, of which about `fraction` fits.
fn slot(seed: u64, groups: usize, bundles: u32, fraction: f64) -> (Vec<u64>, Vec<GroupChoices>) {
    let mut mix = Mix::new(seed);
    let mut wanted = vec![0_u64; 8];
    let mut all = Vec::new();
    for _ in 0..groups {
        let items: Vec<(i128, Vec<(usize, u64)>)> = (0..bundles)
            .map(|_| {
                let first = mix.below(4);
                let rollups = if mix.below(10) == 0 { 2 } else { 1 };
                let mut usage = Vec::new();
                for rollup in first..(first + rollups).min(4) {
                    usage.push((2 * rollup, 21_000 + mix.draw() % 400_000));
                    usage.push((2 * rollup + 1, 100 + mix.draw() % 1_000));
                }
                for (dimension, amount) in &usage {
                    wanted[*dimension] += amount;
                }
                let gas: u64 = usage.iter().step_by(2).map(|(_, amount)| amount).sum();
                (i128::from(gas) * i128::from(100 + mix.draw() % 2_000) * 1_000_000, usage)
            })
            .collect();
        let subsets = (1_u32..1 << bundles).map(|subset| {
            let mut sum = Choice { value: 0, usage: Vec::new() };
            let mut usage: BTreeMap<usize, u64> = BTreeMap::new();
            for (item, _) in items.iter().zip(0_u32..).filter(|(_, bit)| (subset >> *bit) & 1 == 1) {
                sum.value += item.0;
                for (dimension, amount) in &item.1 {
                    *usage.entry(*dimension).or_insert(0) += amount;
                }
            }
            // Bundles of a group take something from each other.
            sum.value = sum.value * (100 - i128::from(subset.count_ones())) / 100;
            sum.usage = usage.into_iter().collect();
            sum
        });
        all.push(exact(subsets.collect()));
    }
    (wanted.into_iter().map(|amount| (amount as f64 * fraction) as u64).collect(), all)
}

/// Groups with an optimum that is known by its prices: what is planted is worth more than its room costs, all else at most as
/// much, and the capacities are what is planted.
fn planted(seed: u64, groups: usize) -> (Vec<u64>, Vec<GroupChoices>, i128) {
    let mut mix = Mix::new(seed);
    let mut capacities = vec![0_u64; 8];
    let prices: Vec<i128> = (0..8).map(|_| 1_000_000 + i128::from(mix.draw() % 9_000_000)).collect();
    let mut best = 0;
    let mut all = Vec::new();
    for _ in 0..groups {
        let planted = (mix.below(10) < 3).then(|| mix.below(4));
        let mut choices = Vec::new();
        for place in 0..4 {
            let rollup = mix.below(3);
            let end = 2 * rollup + 2 + 2 * mix.below(2);
            let usage: Vec<(usize, u64)> = (2 * rollup..end).map(|dimension| (dimension, 1_000 + mix.draw() % 50_000)).collect();
            let cost: i128 = usage.iter().map(|(dimension, amount)| prices[*dimension] * i128::from(*amount)).sum();
            let permille = if planted == Some(place) { 1_000 + mix.below(500) } else { 500 + mix.below(500) };
            let value = cost * permille as i128 / 1_000;
            if planted == Some(place) {
                best += value;
                for (dimension, amount) in &usage {
                    capacities[*dimension] += amount;
                }
            }
            choices.push(Choice { value, usage });
        }
        all.push(exact(choices));
    }
    (capacities, all, best)
}

proptest! {
    #![proptest_config(config(1_000))]

    #[test]
    fn small_instances_are_packed_optimally_and_that_is_proven((capacities, groups) in small()) {
        let packed = pack(&capacities, &groups, &THOROUGH);
        checked(&capacities, &groups, &packed);
        let best = optimum(&capacities, &groups);
        prop_assert_eq!(packed.value, best);
        prop_assert_eq!(packed.bound, best);
    }

    #[test]
    fn the_bound_holds_without_proof_too_and_no_room_is_left_for_more((capacities, groups) in small(), seed: u64) {
        let packed = pack(&capacities, &groups, &Settings { seed, ..ROUGH });
        let room = checked(&capacities, &groups, &packed);
        prop_assert!(packed.bound >= optimum(&capacities, &groups));
        prop_assert!(packed.value >= plain_greedy(&capacities, &groups));
        for (group, chosen) in groups.iter().zip(&packed.chosen) {
            if chosen.is_none() {
                prop_assert!(group.choices.iter().all(|choice| choice.value < 0 || left(&room, choice).is_none()));
            }
        }
    }

    #[test]
    fn the_prices_prove_the_bound((capacities, groups) in small()) {
        let packed = pack(&capacities, &groups, &ROUGH);
        // Without fractions: everything times two to the power of the shift.
        let cost = |usage: &mut dyn Iterator<Item = (usize, u64)>| -> i128 {
            usage.map(|(dimension, amount)| packed.prices[dimension].scaled as i128 * i128::from(amount)).sum()
        };
        let shift = packed.prices.iter().map(|price| price.shift).max().unwrap();
        let room = cost(&mut capacities.iter().copied().enumerate());
        let fitting = |choice: &&Choice| left(&capacities, choice).is_some();
        let worth = |group: &GroupChoices| -> i128 {
            let reduced = group.choices.iter().filter(fitting);
            reduced.map(|choice| (choice.value << shift) - cost(&mut choice.usage.iter().copied())).fold(0, i128::max)
        };
        let proven = (room + groups.iter().map(worth).sum::<i128>()) >> shift;
        prop_assert!(packed.bound <= proven, "{} is not proven, only {proven}", packed.bound);
    }

    #[test]
    fn slack_is_in_the_bound_and_not_in_the_value((capacities, mut groups) in small(), slack in 0_i128..100) {
        let best = optimum(&capacities, &groups);
        for group in &mut groups {
            group.slack = slack;
        }
        let packed = pack(&capacities, &groups, &THOROUGH);
        prop_assert_eq!(packed.value, best);
        prop_assert_eq!(packed.bound, best + slack * groups.len() as i128);
    }

    #[test]
    fn the_order_of_groups_does_not_matter_where_the_optimum_is_proven((capacities, mut groups) in small()) {
        let value = pack(&capacities, &groups, &THOROUGH).value;
        groups.reverse();
        prop_assert_eq!(pack(&capacities, &groups, &THOROUGH).value, value);
    }

    #[test]
    fn more_room_is_never_worth_less((capacities, groups) in small(), more in prop::collection::vec(0_u64..40, 3)) {
        let value = pack(&capacities, &groups, &THOROUGH).value;
        let wider: Vec<u64> = capacities.iter().zip(more).map(|(capacity, more)| capacity + more).collect();
        prop_assert!(pack(&wider, &groups, &THOROUGH).value >= value);
    }

    #[test]
    fn great_values_and_uses_are_packed_as_exactly_as_small_ones((capacities, groups) in small()) {
        let (money, room) = (10_i128.pow(28), 10_u64.pow(9));
        let wide: Vec<u64> = capacities.iter().map(|capacity| capacity * room).collect();
        let great: Vec<GroupChoices> = groups
            .iter()
            .map(|group| {
                let choice = |choice: &Choice| Choice {
                    value: choice.value * money,
                    usage: choice.usage.iter().map(|(dimension, amount)| (*dimension, amount * room)).collect(),
                };
                exact(group.choices.iter().map(choice).collect())
            })
            .collect();
        let packed = pack(&wide, &great, &THOROUGH);
        checked(&wide, &great, &packed);
        prop_assert_eq!(packed.value, optimum(&capacities, &groups) * money);
        prop_assert_eq!(packed.bound, packed.value);
    }
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn a_packing_that_follows_changes_stays_valid_and_full_and_loses_nothing_it_could_keep(
        (capacities, mut groups) in small(),
        changes in prop::collection::vec((0_usize..8, a_group(1), 0_i128..3), 1..12),
        settings in prop_oneof![Just(ROUGH), Just(THOROUGH)],
    ) {
        let mut packing = Packing::new(&capacities, &groups, &settings);
        for (index, mut change, slack) in changes {
            change.slack = slack;
            let before = packing.packed();
            packing.update(index, &change);
            groups.resize(groups.len().max(index + 1), GroupChoices::default());
            groups[index] = change;
            let packed = packing.packed();
            let room = checked(&capacities, &groups, &packed);
            let slack: i128 = groups.iter().map(|group| group.slack).sum();
            let best = optimum(&capacities, &groups);
            prop_assert!(packed.bound >= best + slack);

            // What others had, and the best of the changed group beside it.
            let mut kept = Packed { chosen: before.chosen, value: 0, bound: i128::MAX, prices: Vec::new() };
            kept.chosen.resize(groups.len(), None);
            kept.chosen[index] = None;
            let taken = kept.chosen.iter().zip(&groups).filter_map(|(chosen, group)| Some(group.choices[(*chosen)?].value));
            kept.value = taken.sum();
            let beside = checked(&capacities, &groups, &kept);
            let fitting = groups[index].choices.iter().filter(|choice| left(&beside, choice).is_some());
            let decided = fitting.map(|choice| choice.value).fold(0, i128::max);
            prop_assert!(packed.value >= kept.value + decided);
            for (group, chosen) in groups.iter().zip(&packed.chosen) {
                if chosen.is_none() {
                    prop_assert!(group.choices.iter().all(|choice| choice.value < 0 || left(&room, choice).is_none()));
                }
            }

            let mut improved = packing.clone();
            improved.improve(&THOROUGH);
            prop_assert_eq!(improved.packed().value, best);
            prop_assert_eq!(improved.packed().bound, best + slack);
        }
    }
}

#[test]
fn nothing_to_pack_is_worth_nothing() {
    let packed = pack(&[], &[], &Settings::default());
    assert_eq!(packed, Packed { chosen: Vec::new(), value: 0, bound: 0, prices: Vec::new() });
}

#[test]
fn where_everything_fits_every_group_takes_its_best_and_that_is_proven() {
    let groups = [exact(vec![choice(3, &[(0, 1)]), choice(5, &[(0, 9)])]), exact(vec![choice(7, &[(1, 4)])])];
    let packed = pack(&[100, 100], &groups, &Settings { exact_nodes: 0, ..Settings::default() });
    assert_eq!((packed.chosen, packed.value, packed.bound), (vec![Some(1), Some(0)], 12, 12));
}

#[test]
fn what_is_worth_nothing_is_taken_where_there_is_room_and_what_costs_is_not() {
    let groups = [exact(vec![choice(0, &[(0, 5)])]), exact(vec![choice(-1, &[])]), exact(vec![choice(4, &[(0, 5)])])];
    assert_eq!(pack(&[10], &groups, &Settings::default()).chosen, [Some(0), None, Some(0)]);
    assert_eq!(pack(&[9], &groups, &Settings::default()).chosen, [None, None, Some(0)]);
}

#[test]
fn what_uses_room_that_there_is_not_is_never_taken() {
    let groups = [exact(vec![choice(9, &[(0, 11)]), choice(9, &[(1, 1)]), choice(9, &[(7, 1)]), choice(1, &[(0, 10), (1, 0)])])];
    let packed = pack(&[10, 0], &groups, &Settings::default());
    assert_eq!((packed.chosen, packed.value, packed.bound), (vec![Some(3)], 1, 1));
}

#[test]
fn beyond_the_greatest_value_no_bound_is_promised() {
    let groups = [exact(vec![choice(i128::MAX, &[(0, 1)])]), exact(vec![choice(i128::MAX, &[(0, 1)])])];
    let packed = pack(&[1], &groups, &Settings::default());
    assert_eq!((packed.value, packed.bound), (1_i128 << 100, i128::MAX));
    let mut packing = Packing::new(&[1], &groups, &Settings::default());
    packing.update(0, &GroupChoices::default());
    packing.update(1, &exact(vec![choice(7, &[(0, 1)])]));
    assert_eq!((packing.packed().value, packing.packed().bound), (7, 7));
}

#[test]
fn six_groups_of_many_nested_choices_are_proven_with_the_default_settings() {
    for seed in 0..4 {
        let (capacities, groups) = slot(seed, 6, 7, 0.5);
        let packed = pack(&capacities, &groups, &Settings::default());
        checked(&capacities, &groups, &packed);
        assert_eq!(packed.value, packed.bound, "seed {seed}");
    }
}

#[test]
fn a_planted_optimum_of_two_thousand_groups_is_reached_to_within_one_percent() {
    for seed in 0..2 {
        let (capacities, groups, best) = planted(seed, 2_000);
        let packed = pack(&capacities, &groups, &Settings::default());
        checked(&capacities, &groups, &packed);
        assert!(packed.bound >= best, "seed {seed}: {} is below {best}", packed.bound);
        assert!(packed.value * 100 >= best * 99, "seed {seed}: {} of {best}", packed.value);
        assert!(packed.value >= plain_greedy(&capacities, &groups));
    }
}

#[test]
fn a_full_slot_is_packed_to_within_one_percent_of_its_bound_and_never_below_greedy() {
    for (groups, bundles) in [(2_000, 1), (400, 3)] {
        let (capacities, groups) = slot(7, groups, bundles, 0.3);
        let packed = pack(&capacities, &groups, &Settings::default());
        checked(&capacities, &groups, &packed);
        assert!(packed.value * 100 >= packed.bound * 99, "{} of {}", packed.value, packed.bound);
        assert!(packed.value >= plain_greedy(&capacities, &groups));
    }
}

#[test]
fn the_same_groups_and_seed_give_the_same_packing() {
    let (capacities, groups) = slot(3, 300, 2, 0.3);
    let settings = Settings { seed: 5, ..Settings::default() };
    assert_eq!(pack(&capacities, &groups, &settings), pack(&capacities, &groups, &settings));
}

#[test]
fn improving_on_makes_neither_the_value_nor_the_bound_worse() {
    let (capacities, groups) = slot(11, 300, 2, 0.3);
    let mut packing = Packing::new(&capacities, &groups, &Settings { rounds: 2, exact_nodes: 0, seed: 0 });
    let mut before = packing.packed();
    for seed in 1..6 {
        packing.improve(&Settings { rounds: 8, exact_nodes: 100, seed });
        let after = packing.packed();
        checked(&capacities, &groups, &after);
        assert!(after.value >= before.value && after.bound <= before.bound);
        before = after;
    }
}

#[test]
fn a_late_group_that_is_worth_more_than_others_takes_their_room() {
    let groups: Vec<GroupChoices> = (0..20).map(|value| exact(vec![choice(10 + value, &[(0, 10)])])).collect();
    let mut packing = Packing::new(&[100], &groups, &Settings::default());
    packing.update(20, &exact(vec![choice(1_000, &[(0, 25)])]));
    let packed = packing.packed();
    assert_eq!(packed.chosen[20], Some(0));
    assert_eq!(packed.value, 1_000 + (23..30).sum::<i128>());
    packing.update(20, &GroupChoices::default());
    assert_eq!(packing.packed().value, (20..30).sum::<i128>());
}

#[test]
fn groups_may_be_replaced_any_number_of_times() {
    let (capacities, mut groups) = slot(1, 50, 2, 0.3);
    let mut packing = Packing::new(&capacities, &groups, &Settings::default());
    let (_, others) = slot(2, 50, 2, 0.3);
    let mut mix = Mix::new(0);
    for _ in 0..2_000 {
        let (index, other) = (mix.below(50), mix.below(50));
        groups[index] = others[other].clone();
        packing.update(index, &groups[index]);
    }
    let packed = packing.packed();
    checked(&capacities, &groups, &packed);
    assert!(packed.bound >= pack(&capacities, &groups, &Settings::default()).value);
}

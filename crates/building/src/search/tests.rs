use std::collections::BTreeSet;

use proptest::{collection::SizeRange, prelude::*, test_runner::RngSeed};

use super::*;

/// A failing case is reproduced by its seed, so that no file has to keep it.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(20_261_123), failure_persistence: None, ..ProptestConfig::default() }
}

/// Lists whatever a few items can have.
const EXACT: Settings = Settings { exact_items: 8, alternatives: 512, seed: 7 };

/// The same items as a large group.
const ANYTIME: Settings = Settings { exact_items: 0, alternatives: 512, seed: 7 };

/// Dimensions of room.
const ROOM: usize = 3;

/// What every pool has of both its tokens.
const RESERVE: u64 = 1_000;

/// A candidate of the toy: what it demands, what it swaps, what it pays besides.
#[derive(Clone, Debug)]
struct Job {
    /// It comes after this one only.
    needs: Option<usize>,
    /// It does not stand beside this one.
    excludes: Option<usize>,
    swap: Option<Swap>,
    pays: i128,
    usage: Vec<(usize, u64)>,
}

/// A swap on a constant-product pool that pays what comes out of it.
#[derive(Clone, Copy, Debug)]
struct Swap {
    pool: usize,
    backwards: bool,
    amount: u64,
    /// It is refused if less comes out.
    least: u64,
}

/// A ground that can be understood at a glance.
#[derive(Clone, Debug)]
struct Toy {
    jobs: Vec<Job>,
    placed: Vec<usize>,
    pools: [[u64; 2]; 2],
    /// The pools before each that is placed.
    before: Vec<[[u64; 2]; 2]>,
    /// How often something was to be placed.
    asked: u64,
    /// It fails when it is asked for this time, counted from one.
    fails_at: Option<u64>,
}

impl Toy {
    fn new(mut jobs: Vec<Job>) -> Self {
        let count = jobs.len();
        for (index, job) in jobs.iter_mut().enumerate() {
            let another = |other: usize| Some(other % count).filter(|other| *other != index);
            job.needs = job.needs.and_then(another);
            job.excludes = job.excludes.and_then(another);
        }
        Self { jobs, placed: Vec::new(), pools: [[RESERVE; 2]; 2], before: Vec::new(), asked: 0, fails_at: None }
    }

    fn items(&self) -> Vec<Item> {
        let swapped: u64 = self.jobs.iter().filter_map(|job| job.swap).map(|swap| swap.amount).sum();
        let item = |index: usize| {
            let job = &self.jobs[index];
            let most = job.pays + job.swap.map_or(0, |_| i128::from(RESERVE + swapped));
            let mut alone = Self::new(self.jobs.clone());
            Item { estimate: alone.place(index).unwrap(), most }
        };
        (0..self.jobs.len()).map(item).collect()
    }

    fn conflicts(&self) -> Vec<(usize, usize)> {
        let conflict = |a: usize, b: usize| {
            let (one, other) = (&self.jobs[a], &self.jobs[b]);
            let pool = |job: &Job| job.swap.map(|swap| swap.pool);
            (pool(one).is_some() && pool(one) == pool(other))
                || [one.needs, one.excludes].contains(&Some(b))
                || [other.needs, other.excludes].contains(&Some(a))
        };
        let pairs = (0..self.jobs.len()).flat_map(|b| (0..b).map(move |a| (a, b)));
        pairs.filter(|(a, b)| conflict(*a, *b)).collect()
    }

    fn search(&self, settings: Settings) -> Search {
        Search::new(self.items(), self.conflicts(), settings)
    }
}

impl Ground for Toy {
    type Mark = usize;
    type Error = &'static str;

    fn mark(&self) -> usize {
        self.placed.len()
    }

    fn place(&mut self, item: usize) -> Result<Option<Gain>, &'static str> {
        self.asked += 1;
        if self.fails_at == Some(self.asked) {
            return Err("the ground gives way");
        }
        assert!(!self.placed.contains(&item), "{item} stands already");
        let job = &self.jobs[item];
        let excluded = |other: &usize| job.excludes == Some(*other) || self.jobs[*other].excludes == Some(item);
        if job.needs.is_some_and(|needs| !self.placed.contains(&needs)) || self.placed.iter().any(excluded) {
            return Ok(None);
        }
        let (mut value, mut usage, mut pools) = (job.pays, job.usage.clone(), self.pools);
        if let Some(swap) = job.swap {
            let [x, y] = if swap.backwards { [1, 0] } else { [0, 1] };
            let pool = &mut pools[swap.pool];
            let out = pool[y] * swap.amount / (pool[x] + swap.amount);
            if out < swap.least {
                return Ok(None);
            }
            pool[x] += swap.amount;
            pool[y] -= out;
            value += i128::from(out);
            // What is used depends on the state, too.
            usage[0].1 += out % 4;
        }
        self.before.push(self.pools);
        self.pools = pools;
        self.placed.push(item);
        Ok(Some(Gain { value, usage }))
    }

    fn undo(&mut self, mark: usize) {
        if let Some(before) = self.before.get(mark) {
            self.pools = *before;
            self.before.truncate(mark);
            self.placed.truncate(mark);
        }
    }
}

fn a_job() -> impl Strategy<Value = Job> {
    let swap = (0_usize..2, any::<bool>(), 1_u64..200, 0_u64..120);
    let swap = swap.prop_map(|(pool, backwards, amount, least)| Swap { pool, backwards, amount, least });
    let usage = prop::collection::btree_map(0..ROOM, 1_u64..20, 1..=2);
    let other = || prop::option::weighted(0.3, 0_usize..16);
    (other(), other(), prop::option::weighted(0.6, swap), -40_i128..100, usage)
        .prop_map(|(needs, excludes, swap, pays, usage)| Job { needs, excludes, swap, pays, usage: usage.into_iter().collect() })
}

fn a_toy(jobs: impl Into<SizeRange>) -> impl Strategy<Value = Toy> {
    prop::collection::vec(a_job(), jobs).prop_map(Toy::new)
}

/// A job that pays and nothing else.
fn job(pays: i128, usage: u64) -> Job {
    Job { needs: None, excludes: None, swap: None, pays, usage: vec![(0, usage)] }
}

/// What an order is worth, and how much it uses of every dimension.
type Point = (i128, [u64; ROOM]);

fn point(value: i128, usage: &[(usize, u64)]) -> Point {
    let mut dense = [0; ROOM];
    usage.iter().for_each(|(dimension, amount)| dense[*dimension] += amount);
    (value, dense)
}

fn beats(a: &Point, b: &Point) -> bool {
    a.0 >= b.0 && a.1.iter().zip(&b.1).all(|(a, b)| a <= b)
}

/// Every order of every subset, nothing left out.
fn every_order(toy: &mut Toy, so_far: Point, see: &mut impl FnMut(Point)) {
    see(so_far);
    for item in 0..toy.jobs.len() {
        if toy.placed.contains(&item) {
            continue;
        }
        let mark = toy.mark();
        if let Some(gain) = toy.place(item).unwrap() {
            let (value, mut usage) = point(gain.value, &gain.usage);
            usage.iter_mut().zip(so_far.1).for_each(|(amount, before)| *amount += before);
            every_order(toy, (so_far.0 + value, usage), see);
            toy.undo(mark);
        }
    }
}

/// The points that no other beats.
fn unbeaten(toy: &Toy) -> BTreeSet<Point> {
    let mut kept: Vec<Point> = Vec::new();
    every_order(&mut toy.clone(), (0, [0; ROOM]), &mut |new: Point| {
        if !kept.iter().any(|other| beats(other, &new)) {
            kept.retain(|other| !beats(&new, other));
            kept.push(new);
        }
    });
    kept.into_iter().filter(|(value, _)| *value > 0).collect()
}

fn optimum(toy: &Toy) -> i128 {
    let mut best = 0;
    every_order(&mut toy.clone(), (0, [0; ROOM]), &mut |(value, _): Point| best = best.max(value));
    best
}

fn points(search: &Search) -> BTreeSet<Point> {
    search.alternatives().iter().map(|alternative| point(alternative.value, &alternative.usage)).collect()
}

fn best(search: &Search) -> i128 {
    search.alternatives().first().map_or(0, |alternative| alternative.value)
}

/// Rounds until the search is over.
fn finish(search: &mut Search, toy: &mut Toy, work: u64) {
    for round in 0..1_000_000 {
        if !search.round(toy, round, work).unwrap() {
            return;
        }
    }
    panic!("the search does not come to an end");
}

/// Checks that alternatives do what they say, are in order, and that none beats another.
fn check(search: &Search, toy: &Toy) {
    let alternatives = search.alternatives();
    for alternative in alternatives {
        let mut ground = Toy::new(toy.jobs.clone());
        let mut total = Gain::default();
        for item in &alternative.order {
            total = total.and(&ground.place(*item).unwrap().expect("what is listed can be placed")).unwrap();
        }
        assert_eq!(total, Gain { value: alternative.value, usage: alternative.usage.clone() });
        assert!(alternative.value > 0 && alternative.value <= search.bound());
    }
    let all: Vec<Point> = alternatives.iter().map(|alternative| point(alternative.value, &alternative.usage)).collect();
    for (index, one) in all.iter().enumerate() {
        assert!(all.iter().enumerate().all(|(other, another)| index == other || !beats(another, one)));
    }
    assert!(alternatives.is_sorted_by(|a, b| a.value > b.value || (a.value == b.value && a.usage < b.usage)));
}

proptest! {
    #![proptest_config(config(1_000))]

    #[test]
    fn a_small_group_is_searched_until_nothing_is_missed(mut toy in a_toy(0..=6)) {
        let mut search = toy.search(EXACT);
        search.start(&mut toy).unwrap();
        finish(&mut search, &mut toy, u64::MAX);
        check(&search, &toy);
        prop_assert!(search.exact());
        let expected = unbeaten(&toy);
        prop_assert_eq!(&points(&search), &expected);
        prop_assert_eq!(search.bound(), expected.last().map_or(0, |(value, _)| *value));
        prop_assert!(toy.placed.is_empty());
    }
}

proptest! {
    #![proptest_config(config(20))]

    #[test]
    fn of_eight_the_best_is_found(mut toy in a_toy(8)) {
        let mut search = toy.search(EXACT);
        search.start(&mut toy).unwrap();
        finish(&mut search, &mut toy, 2_000);
        prop_assert_eq!((best(&search), search.bound()), (optimum(&toy), optimum(&toy)));
    }
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn many_short_rounds_find_what_one_long_round_finds(mut toy in a_toy(0..=6), work in 1_u64..9) {
        let (mut long, mut short) = (toy.search(EXACT), toy.search(EXACT));
        long.start(&mut toy).unwrap();
        short.start(&mut toy).unwrap();
        finish(&mut long, &mut toy, u64::MAX);
        finish(&mut short, &mut toy, work);
        prop_assert_eq!(long.alternatives(), short.alternatives());
        prop_assert!(long.exact() && short.exact());
    }

    #[test]
    fn a_round_asks_no_more_than_it_may_and_the_way_back(
        mut toy in a_toy(0..=10),
        work in 1_u64..40,
        exact in any::<bool>(),
    ) {
        let mut search = toy.search(Settings { exact_items: if exact { 10 } else { 0 }, ..EXACT });
        search.start(&mut toy).unwrap();
        for round in 0..10 {
            let before = toy.asked;
            let open = search.round(&mut toy, round, work).unwrap();
            prop_assert!(toy.asked - before <= work + toy.jobs.len() as u64);
            prop_assert!(toy.placed.is_empty());
            if !open {
                break;
            }
        }
    }

    #[test]
    fn a_large_group_never_falls_behind_what_it_had(mut toy in a_toy(9..=14)) {
        let settings = Settings { alternatives: 16, ..EXACT };
        let (mut search, mut again) = (toy.search(settings), toy.search(settings));
        search.start(&mut toy).unwrap();
        again.start(&mut toy).unwrap();
        check(&search, &toy);
        let mut before = best(&search);
        for round in 0..12 {
            prop_assert!(search.round(&mut toy, round, 50).unwrap());
            again.round(&mut toy, round, 50).unwrap();
            prop_assert!(best(&search) >= before, "{} after {}", best(&search), before);
            prop_assert_eq!(search.alternatives(), again.alternatives());
            prop_assert!(!search.exact() && search.alternatives().len() <= 16);
            before = best(&search);
        }
        check(&search, &toy);
        prop_assert!(toy.placed.is_empty());
    }

    #[test]
    fn what_moves_find_is_never_better_than_the_optimum_and_what_they_list_is_beaten_by_no_loss(mut toy in a_toy(2..=6)) {
        let mut search = toy.search(ANYTIME);
        search.start(&mut toy).unwrap();
        let expected = unbeaten(&toy);
        let mut before = points(&search);
        for round in 0..20 {
            search.round(&mut toy, round, 40).unwrap();
            let now = points(&search);
            // Everything that was known is known still, or something that beats it.
            prop_assert!(before.iter().all(|known| now.iter().any(|point| beats(point, known))));
            prop_assert!(now.iter().all(|point| expected.iter().any(|other| beats(other, point))));
            before = now;
        }
        check(&search, &toy);
    }

    #[test]
    fn when_the_ground_fails_it_is_as_it_was_and_the_search_goes_on(
        mut toy in a_toy(2..=7),
        fails_at in 1_u64..60,
        exact in any::<bool>(),
    ) {
        // Somebody else's job stands there already, and the search knows nothing of it.
        let others = toy.jobs.len();
        toy.jobs.push(job(5, 1));
        let mut items = toy.items();
        items.pop();
        let settings = Settings { exact_items: if exact { 9 } else { 0 }, ..EXACT };
        let mut search = Search::new(items, toy.conflicts(), settings);
        let mut calm = search.clone();
        toy.place(others).unwrap();
        let mut quiet = toy.clone();
        calm.start(&mut quiet).unwrap();
        toy.fails_at = Some(toy.asked + fails_at);
        let mut failures = 0;
        while let Err(error) = search.start(&mut toy) {
            prop_assert_eq!(error, "the ground gives way");
            prop_assert_eq!((&toy.placed, &toy.pools), (&quiet.placed, &quiet.pools));
            failures += 1;
        }
        for round in 0..30 {
            calm.round(&mut quiet, round, 20).unwrap();
            let before = search.alternatives().to_vec();
            if search.round(&mut toy, round, 20).is_err() {
                failures += 1;
                prop_assert!(before.iter().all(|known| search.front.beats(known.value, &known.usage)));
            }
            prop_assert_eq!((&toy.placed, &toy.pools), (&quiet.placed, &quiet.pools));
        }
        prop_assert!(failures <= 1);
        if exact {
            finish(&mut search, &mut toy, 1_000);
            finish(&mut calm, &mut quiet, 1_000);
            prop_assert_eq!(points(&search), points(&calm));
            prop_assert_eq!((search.exact(), search.bound()), (calm.exact(), calm.bound()));
        }
    }

    #[test]
    fn when_there_are_too_many_alternatives_some_are_listed_and_the_best_always(mut toy in a_toy(0..=6), most in 0_usize..5) {
        let mut search = toy.search(Settings { alternatives: most, ..EXACT });
        search.start(&mut toy).unwrap();
        finish(&mut search, &mut toy, u64::MAX);
        check(&search, &toy);
        let all = unbeaten(&toy);
        let listed = points(&search);
        prop_assert!(listed.len() <= most.max(1));
        prop_assert_eq!(best(&search), all.last().map_or(0, |(value, _)| *value));
        prop_assert_eq!(search.bound(), best(&search));
        prop_assert!(!search.exact() || listed == all);
        prop_assert!(search.exact() || all.len() > most.max(1) || !search.front.is_whole());
    }
}

/// The first is worth nothing or less, and the second needs it.
fn forerunner(pays: i128) -> Toy {
    Toy::new(vec![job(pays, 3), Job { needs: Some(0), ..job(50, 4) }, job(10, 1)])
}

#[test]
fn what_costs_something_is_taken_for_what_it_makes_possible() {
    for pays in [0, -20] {
        for settings in [EXACT, ANYTIME] {
            let mut toy = forerunner(pays);
            let mut search = toy.search(settings);
            search.start(&mut toy).unwrap();
            assert_eq!(best(&search), 60 + pays, "greedy finds it");
            for round in 0..20 {
                search.round(&mut toy, round, 20).unwrap();
            }
            assert_eq!(best(&search), 60 + pays);
            assert!(search.alternatives().iter().all(|alternative| alternative.order != [0]), "alone it is of no use");
        }
    }
    let mut toy = forerunner(-51);
    let mut search = toy.search(EXACT);
    search.start(&mut toy).unwrap();
    finish(&mut search, &mut toy, 100);
    assert_eq!(search.alternatives(), [Alternative { order: vec![2], value: 10, usage: vec![(0, 1)] }]);
}

#[test]
fn moves_find_what_greedy_shuts_out() {
    // Greedy takes the first, which is dense, and shuts out two that are worth more.
    let mut jobs = vec![job(10, 1)];
    jobs.extend((0..2).map(|_| Job { excludes: Some(0), ..job(90, 100) }));
    jobs.extend((0..8).map(|_| job(1, 1)));
    let mut toy = Toy::new(jobs);
    let mut search = toy.search(Settings { exact_items: 8, alternatives: 32, seed: 1 });
    search.greedy(&mut toy, &[]).unwrap();
    assert_eq!(best(&search), 18);
    for round in 0..50 {
        search.round(&mut toy, round, 100).unwrap();
    }
    assert_eq!(best(&search), 188);
}

#[test]
fn prices_decide_what_greedy_takes_first() {
    let mut jobs = vec![job(10, 1), Job { excludes: Some(0), ..job(12, 0) }];
    jobs[1].usage = vec![(1, 100)];
    let mut toy = Toy::new(jobs);
    let first = |prices: &[Price], toy: &mut Toy| {
        let mut search = toy.search(EXACT);
        search.greedy(toy, prices).unwrap();
        search.alternatives().iter().map(|alternative| alternative.order.clone()).collect::<Vec<_>>()
    };
    let free = Price { scaled: 0, shift: 0 };
    assert_eq!(first(&[], &mut toy), [[0_usize]]);
    assert_eq!(first(&[free, free], &mut toy), [[0_usize]]);
    assert_eq!(first(&[Price { scaled: 3, shift: 1 }, free], &mut toy), [[1_usize]]);
}

#[test]
fn a_single_item_is_settled_at_once() {
    let mut toy = Toy::new(vec![job(10, 1)]);
    let mut search = toy.search(ANYTIME);
    search.start(&mut toy).unwrap();
    assert!(search.exact());
    assert_eq!((toy.asked, search.alternatives().len(), search.bound()), (1, 1, 10));
    assert!(!search.round(&mut toy, 0, 10).unwrap());
    assert_eq!(toy.asked, 1);

    let mut search = Search::new(Vec::new(), Vec::new(), ANYTIME);
    search.start(&mut toy).unwrap();
    assert!(search.exact() && search.alternatives().is_empty() && search.bound() == 0);
}

#[test]
fn what_was_found_on_another_ground_is_forgotten() {
    for settings in [EXACT, ANYTIME] {
        let mut toy = Toy::new((1..6).map(|pays| job(pays * 10, 1)).collect());
        let mut search = toy.search(settings);
        search.start(&mut toy).unwrap();
        search.round(&mut toy, 0, 3).unwrap();
        assert_eq!(best(&search), 150);
        let mut worse = Toy::new((1..6).map(|pays| job(pays * 10 - 5, 1)).collect());
        for round in 1..50 {
            search.round(&mut worse, round, 20).unwrap();
        }
        assert_eq!(best(&search), 125);
        check(&search, &worse);
    }
}

#[test]
fn what_the_numbers_do_not_hold_is_left_out_and_no_bound_is_claimed() {
    let mut toy = Toy::new(vec![job(i128::MAX, 1), job(i128::MAX, 1)]);
    let mut search = toy.search(EXACT);
    search.start(&mut toy).unwrap();
    finish(&mut search, &mut toy, 100);
    assert_eq!(best(&search), i128::MAX);
    assert!(!search.exact());
    assert_eq!(search.bound(), i128::MAX);
}

//! Runs ahead of a fill: what the open blocks will most likely hold is run in parallel, so that the fill itself, which goes from
//! one bundle to the next, finds most of it done.
//!
//! A bundle can be run as soon as everything is known that stands before it and that it has to do with, by what both did alone.
//! Every thread has blocks of its own, on which it first repeats what the others found out. What comes of it depends on the
//! threads, and so do not the blocks: the fill takes over what holds where it is, and runs the rest itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use alloy_primitives::{B256, I256};

use super::{
    binding::Key,
    entry::{Entries, Entry},
    groups::Groups,
    rooms::Rooms,
};
use crate::{
    Lanes, SlotView,
    reuse::{self, Variant},
    run::run_remembering,
};

/// How much of the room is run ahead for, in percent: what is expected to fit may not, and then others do.
const AHEAD_PERCENT: u128 = 104;
/// The same of what hangs together with others: where many use the same pools, many fail.
const GROUPED_PERCENT: u128 = 130;

/// What was found out.
#[derive(Default)]
pub(super) struct Ahead {
    /// How many entries will likely be in the blocks.
    pub(super) likely: usize,
    /// What entries will likely do there.
    pub(super) found: Vec<(usize, Arc<Variant>)>,
}

/// Runs ahead of filling `order` into these blocks, which stay as they are.
pub(super) fn prepare(view: &SlotView, entries: &Entries, groups: &mut Groups<Key>, opened: &Lanes, order: &[usize]) -> Ahead {
    // Where nobody has to do with anybody else, what each did alone is what it does.
    if !entries.cross() && !groups.bind_any() {
        return Ahead::default();
    }
    let rooms = Rooms::new(opened, &opened.keys().copied().collect());
    let likely = likely(entries, &rooms, order, AHEAD_PERCENT);
    let tasks = Tasks::of(entries, groups, &likely, &self::likely(entries, &rooms, order, GROUPED_PERCENT));
    let work = Work { view, entries, tasks: &tasks, state: Mutex::new(State::of(&tasks)), news: Condvar::new() };
    let threads = rayon::current_num_threads().min(tasks.indices.len());
    rayon::scope(|scope| {
        for worker in 0..threads {
            let (work, likely) = (&work, &likely);
            scope.spawn(move |_| {
                let mut lanes = opened.clone();
                let each = likely.len() / lanes.len().max(1);
                lanes.values_mut().for_each(|lane| lane.block_mut().expect_transactions(each));
                Worker { work, number: worker, lanes, delivered: BTreeSet::new(), seen: 0 }.run()
            });
        }
    });
    let state = work.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    let found = tasks.indices.iter().copied().zip(state.found).filter_map(|(index, found)| Some((index, found?))).collect();
    Ahead { likely: likely.len(), found }
}

/// What will fit into that much of the room if everything takes what it takes alone, in its order.
fn likely(entries: &Entries, rooms: &Rooms, order: &[usize], percent: u128) -> Vec<usize> {
    let mut left: Vec<u128> = rooms.capacities().iter().map(|room| u128::from(*room) * percent / 100).collect();
    let mut likely = Vec::with_capacity(order.len());
    for index in order {
        let Some(stretches) = entries.get(*index).and_then(Entry::worthwhile) else { continue };
        let fits = |(dimension, used): (usize, u64)| left.get(dimension).is_some_and(|left| *left >= u128::from(used));
        if rooms.each_taken(stretches).all(fits) {
            for (dimension, used) in rooms.each_taken(stretches) {
                left[dimension] -= u128::from(used);
            }
            likely.push(*index);
        }
    }
    likely
}

/// Bundles that have to do with each other, in the order in which they are tried.
struct Tasks {
    /// The entry that each is about.
    indices: Vec<usize>,
    /// Those that wait for it.
    next: Vec<Vec<usize>>,
    /// For how many each waits.
    before: Vec<usize>,
}

impl Tasks {
    /// Of what will likely fit, and of what hangs together with others and may fit.
    fn of(entries: &Entries, groups: &mut Groups<Key>, likely: &[usize], maybe: &[usize]) -> Self {
        let mut tasks = Self { indices: Vec::new(), next: Vec::new(), before: Vec::new() };
        let mut grouped = vec![false; entries.capacity()];
        for members in groups.all().into_iter().filter(|members| members.len() > 1) {
            members.iter().for_each(|index| grouped[*index] = true);
        }
        let mut is_likely = vec![false; entries.capacity()];
        likely.iter().for_each(|index| is_likely[*index] = true);
        let mut last_of: BTreeMap<Key, usize> = BTreeMap::new();
        // What has to do with messages moves counters that all of its kind share: it is run one after the other.
        let mut last_crossing: Option<usize> = None;
        for index in maybe {
            let crosses = entries.get(*index).is_some_and(Entry::crosses);
            if (!crosses && !grouped[*index]) || (crosses && !is_likely[*index]) {
                continue;
            }
            let task = tasks.indices.len();
            let mut before: BTreeSet<usize> = groups.binding(*index).filter_map(|key| last_of.insert(key, task)).collect();
            if crosses {
                before.extend(last_crossing.replace(task));
            }
            tasks.indices.push(*index);
            tasks.next.push(Vec::new());
            tasks.before.push(before.len());
            for earlier in before {
                tasks.next[earlier].push(task);
            }
        }
        tasks
    }
}

/// What all threads work on.
struct Work<'a> {
    view: &'a SlotView,
    entries: &'a Entries,
    tasks: &'a Tasks,
    state: Mutex<State>,
    /// Told when something is ready, or nothing will be any more.
    news: Condvar,
}

/// What changed the blocks, and which thread did it.
type Done = (usize, Arc<Variant>);

struct State {
    ready: BTreeSet<usize>,
    before: Vec<usize>,
    running: usize,
    found: Vec<Option<Arc<Variant>>>,
    /// In the order in which it was done.
    done: Vec<Done>,
}

impl State {
    fn of(tasks: &Tasks) -> Self {
        let ready = (0..tasks.indices.len()).filter(|task| tasks.before[*task] == 0).collect();
        let found = vec![None; tasks.indices.len()];
        Self { ready, before: tasks.before.clone(), running: 0, found, done: Vec::new() }
    }
}

impl Work<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next task, and what others have done beyond `seen`; `None` when nothing is left. It waits only while others run what
    /// may make something ready.
    fn take(&self, seen: usize) -> Option<(usize, Vec<Done>)> {
        let mut state = self.state();
        loop {
            if let Some(task) = state.ready.pop_first() {
                state.running += 1;
                return Some((task, state.done.get(seen..).unwrap_or_default().to_vec()));
            }
            if state.running == 0 {
                return None;
            }
            state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes what a task came to. `lasts`: whether the blocks are other ones after it.
    fn hand_in(&self, worker: usize, task: usize, found: Option<Arc<Variant>>, lasts: bool) {
        let mut state = self.state();
        state.running -= 1;
        if lasts {
            state.done.extend(found.iter().map(|found| (worker, Arc::clone(found))));
        }
        state.found[task] = found;
        for next in self.tasks.next.get(task).into_iter().flatten() {
            state.before[*next] -= 1;
            if state.before[*next] == 0 {
                state.ready.insert(*next);
            }
        }
        drop(state);
        self.news.notify_all();
    }
}

/// What a task came to. It is handed in whatever happens: should this thread panic, the others would wait for it for ever.
struct CameTo<'a> {
    work: &'a Work<'a>,
    worker: usize,
    task: usize,
    found: Option<Arc<Variant>>,
    /// Whether the blocks are other ones after it.
    lasts: bool,
}

impl Drop for CameTo<'_> {
    fn drop(&mut self) {
        self.work.hand_in(self.worker, self.task, self.found.take(), self.lasts);
    }
}

/// A thread, with blocks of its own.
struct Worker<'a> {
    work: &'a Work<'a>,
    number: usize,
    lanes: Lanes,
    delivered: BTreeSet<B256>,
    /// How much of what was done it has looked at.
    seen: usize,
}

impl Worker<'_> {
    fn run(mut self) {
        while let Some((task, done)) = self.work.take(self.seen) {
            let mut came_to = CameTo { work: self.work, worker: self.number, task, found: None, lasts: false };
            self.seen += done.len();
            let own = self.number;
            for (_, variant) in done.iter().filter(|(by, _)| *by != own) {
                self.repeat(variant);
            }
            (came_to.found, came_to.lasts) = self.place(task);
        }
    }

    /// Makes another thread's changes. Where that fails what comes next is run on less than there will be, and does not hold.
    fn repeat(&mut self, variant: &Variant) {
        for part in &variant.stretches {
            if let Some(lane) = self.lanes.get_mut(&part.chain) {
                let _ = lane.block_mut().append(&part.stretch);
            }
        }
        self.delivered.extend(variant.attempt.run.delivered.iter().copied());
    }

    /// Places an entry as the fill will, and whether it stays in the blocks. What fails here the fill meets itself.
    fn place(&mut self, task: usize) -> (Option<Arc<Variant>>, bool) {
        let Work { view, entries, tasks, .. } = self.work;
        let Some(entry) = tasks.indices.get(task).and_then(|index| entries.get(*index)) else { return (None, false) };
        let marks = reuse::marks(&self.lanes, &entry.candidate().bundle);
        let Some(variant) = self.attempt(view, entry) else { return (None, false) };
        let run = &variant.attempt.run;
        let floor = if run.relays.is_empty() { I256::ZERO } else { view.policy.min_relay_value };
        let lasts = variant.attempt.blocked.is_none() && run.value >= floor;
        if !lasts {
            reuse::roll_back(&mut self.lanes, &marks);
        } else {
            self.delivered.extend(run.delivered.iter().copied());
        }
        (Some(variant), lasts)
    }

    fn attempt(&mut self, view: &SlotView, entry: &Entry) -> Option<Arc<Variant>> {
        for known in entry.known() {
            // What has no room is blocked without anything being known of it.
            if let Some(taken) = known.recall(&mut self.lanes, entry.candidate(), &self.delivered).ok()? {
                return (taken.attempt.blocked.is_some() == known.attempt.blocked.is_some()).then(|| Arc::clone(known));
            }
        }
        let (_, variant) = run_remembering(view, &mut self.lanes, &entry.candidate().bundle, &self.delivered).ok()?;
        variant.filter(|variant| variant.recallable).map(Arc::new)
    }
}

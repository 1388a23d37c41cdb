//! Search inside one conflict group: which of its bundles to take, and in which order.
//!
//! It runs on anything that items can be placed on and undone, and counts its work in placements. Small groups are searched to
//! the end by branch and bound over order and subset. Large ones begin with the order that they are given and are improved by
//! numbered rounds of seeded moves: an item is taken out and put elsewhere, two change places, one that was refused comes
//! earlier. Only what follows the first change is placed again.

/// What placing an item brings and takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gain {
    /// In the numeraire's smallest unit.
    pub(super) value: i128,
    /// Use of room, ascending by dimension.
    pub(super) usage: Vec<(usize, u64)>,
}

/// What a search runs on.
pub(super) trait Ground {
    type Error;

    /// Places an item as the next one. `None` when it cannot be here, and then nothing changed.
    fn place(&mut self, item: usize) -> Result<Option<Gain>, Self::Error>;

    /// Undoes everything but the first `mark` items.
    fn undo(&mut self, mark: usize);
}

/// Items in an order that holds, with what they bring and take together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Alternative {
    pub(super) order: Vec<usize>,
    pub(super) value: i128,
    pub(super) usage: Vec<(usize, u64)>,
}

/// How a group is searched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// Groups up to this size are searched to the end.
    pub(super) exact_items: usize,
    /// Alternatives that are kept.
    pub(super) alternatives: usize,
    pub(super) seed: u64,
}

/// What was placed so far, and what it came to.
#[derive(Clone, Debug, Default)]
struct Path {
    order: Vec<usize>,
    /// Value and usage after each.
    totals: Vec<(i128, Vec<(usize, u64)>)>,
}

/// The search of one group, which can be gone on with.
#[derive(Clone, Debug)]
pub(super) struct Search {
    /// At most this much each item is worth in any state.
    most: Vec<i128>,
    conflicts: Vec<Vec<bool>>,
    settings: Settings,
    alternatives: Vec<Alternative>,
    /// Whether an alternative had to be given up that no other is as good as.
    thinned: bool,
    progress: Progress,
}

#[derive(Clone, Debug)]
enum Progress {
    /// Branch and bound: at every depth the next item to try.
    Exact {
        path: Vec<usize>,
        next: Vec<usize>,
    },
    /// The order that is best so far, those behind that are refused included.
    Anytime {
        order: Vec<usize>,
        value: i128,
    },
    Done,
}

impl Search {
    /// A search of as many items as there are bounds in `most`, which come in the order to begin with. `conflicts` says which
    /// pairs have an effect on each other; where it is empty all may.
    pub(super) fn new(most: Vec<i128>, conflicts: Vec<Vec<bool>>, settings: Settings) -> Self {
        let progress = if most.len() <= settings.exact_items {
            Progress::Exact { path: Vec::new(), next: vec![0] }
        } else {
            Progress::Anytime { order: Vec::new(), value: i128::MIN }
        };
        Self { most, conflicts, settings, alternatives: Vec::new(), thinned: false, progress }
    }

    /// The alternatives that no other is as good as with as little room; the empty one is not listed.
    pub(super) fn alternatives(&self) -> &[Alternative] {
        &self.alternatives
    }

    /// Whether the alternatives are all there are.
    pub(super) const fn exact(&self) -> bool {
        matches!(self.progress, Progress::Done) && !self.thinned
    }

    /// Places the first `count` items in their order, as a beginning.
    pub(super) fn start<G: Ground>(&mut self, ground: &mut G, count: usize) -> Result<(), G::Error> {
        let order: Vec<usize> = (0..self.most.len()).collect();
        let mut path = Path::default();
        let placed = self.follow(ground, &mut path, &order[..count.min(order.len())]);
        ground.undo(0);
        placed?;
        if let Progress::Anytime { order: best, value } = &mut self.progress {
            (*best, *value) = (order, path.value());
        }
        Ok(())
    }

    /// One numbered round of about `work` placements. Whether another could find anything.
    pub(super) fn round<G: Ground>(&mut self, ground: &mut G, round: u32, work: u64) -> Result<bool, G::Error> {
        let progress = std::mem::replace(&mut self.progress, Progress::Done);
        let went = match progress {
            Progress::Exact { path, next } => self.branch(ground, path, next, work),
            Progress::Anytime { order, value } => self.wander(ground, order, value, round, work),
            Progress::Done => Ok(Progress::Done),
        };
        ground.undo(0);
        self.progress = went?;
        Ok(!matches!(self.progress, Progress::Done))
    }

    /// Places items in an order as far as they can be. Every prefix is an alternative.
    fn follow<G: Ground>(&mut self, ground: &mut G, path: &mut Path, order: &[usize]) -> Result<u64, G::Error> {
        for item in order {
            if let Some(gain) = ground.place(*item)? {
                path.push(*item, gain);
            }
        }
        for length in 1..=path.order.len() {
            self.note(path, length);
        }
        Ok(order.len() as u64)
    }

    fn branch<G: Ground>(
        &mut self,
        ground: &mut G,
        before: Vec<usize>,
        mut next: Vec<usize>,
        mut work: u64,
    ) -> Result<Progress, G::Error> {
        let mut path = Path::default();
        for item in before {
            if let Some(gain) = ground.place(item)? {
                path.push(item, gain);
            }
        }
        loop {
            let Some(first) = next.last().copied() else { return Ok(Progress::Done) };
            if work == 0 {
                return Ok(Progress::Exact { path: path.order, next });
            }
            let Some(item) = (first..self.most.len()).find(|item| self.may_follow(&path.order, *item)) else {
                next.pop();
                if path.pop() {
                    ground.undo(path.order.len());
                }
                continue;
            };
            if let Some(last) = next.last_mut() {
                *last = item + 1;
            }
            work -= 1;
            let Some(gain) = ground.place(item)? else { continue };
            path.push(item, gain);
            self.note(&path, path.order.len());
            if self.is_hopeless(&path) {
                path.pop();
                ground.undo(path.order.len());
            } else {
                next.push(0);
            }
        }
    }

    /// Whether an item may come next. Of two in a row that have no effect on each other the lower comes first: the other order
    /// is the same.
    fn may_follow(&self, path: &[usize], item: usize) -> bool {
        if path.contains(&item) {
            return false;
        }
        let Some(last) = path.last() else { return true };
        item > *last || self.conflicts.is_empty() || self.conflicts[item][*last]
    }

    /// Whether everything that could still come is not worth more than a known alternative in no more room.
    fn is_hopeless(&self, path: &Path) -> bool {
        let rest = self.most.iter().enumerate().filter(|(item, most)| **most > 0 && !path.order.contains(item));
        let most = rest.fold(path.value(), |sum, (_, most)| sum.saturating_add(*most));
        let usage = path.usage();
        let covers = |known: &&Alternative| known.value >= most && within(&known.usage, usage) && known.order != path.order;
        self.alternatives.iter().any(|known| covers(&known))
    }

    /// Seeded moves on the best order.
    fn wander<G: Ground>(
        &mut self,
        ground: &mut G,
        mut best: Vec<usize>,
        mut best_value: i128,
        round: u32,
        work: u64,
    ) -> Result<Progress, G::Error> {
        let mut draw = Draw::new(self.settings.seed, round);
        if best.is_empty() {
            best = (0..self.most.len()).collect();
        }
        let mut path = Path::default();
        // What stands on the ground is the first part of this order.
        let mut laid: Vec<usize> = Vec::new();
        let mut spent = 0;
        while spent < work {
            let mut order = best.clone();
            for _ in 0..=draw.below(3) {
                change(&mut order, &mut draw);
            }
            let same = laid.iter().zip(&order).take_while(|(before, now)| before == now).count();
            let kept = path.order.iter().take_while(|item| order[..same].contains(item)).count();
            path.cut(kept);
            ground.undo(kept);
            spent += self.follow(ground, &mut path, &order[same..])?.max(1);
            // What was refused and may be cured by what came later gets another turn at the end.
            let refused: Vec<usize> = order.iter().copied().filter(|item| !path.order.contains(item)).collect();
            spent += self.follow(ground, &mut path, &refused)?;
            if path.value() > best_value {
                best_value = path.value();
                best = path.order.clone();
                best.extend(order.iter().copied().filter(|item| !path.order.contains(item)));
                laid.clone_from(&best);
            } else {
                laid = path.order.clone();
            }
        }
        Ok(Progress::Anytime { order: best, value: best_value })
    }

    /// Keeps a prefix of a path unless another alternative is as good with as little room.
    fn note(&mut self, path: &Path, length: usize) {
        let Some((value, usage)) = length.checked_sub(1).and_then(|last| path.totals.get(last)) else { return };
        if *value <= 0 || self.alternatives.iter().any(|known| known.value >= *value && within(&known.usage, usage)) {
            return;
        }
        self.alternatives.retain(|known| !(*value >= known.value && within(usage, &known.usage)));
        let order = path.order[..length].to_vec();
        let at = self.alternatives.partition_point(|known| known.value < *value);
        self.alternatives.insert(at, Alternative { order, value: *value, usage: usage.clone() });
        if self.alternatives.len() > self.settings.alternatives {
            // The one that is closest to the next better one goes.
            let gap = |index: &usize| self.alternatives[index + 1].value - self.alternatives[*index].value;
            if let Some(index) = (0..self.alternatives.len() - 1).min_by_key(gap) {
                self.alternatives.remove(index);
                self.thinned = true;
            }
        }
    }
}

impl Path {
    fn push(&mut self, item: usize, gain: Gain) {
        let value = self.value().saturating_add(gain.value);
        let mut usage = self.usage().to_vec();
        for (dimension, used) in gain.usage {
            match usage.binary_search_by_key(&dimension, |(other, _)| *other) {
                Ok(index) => usage[index].1 = usage[index].1.saturating_add(used),
                Err(index) => usage.insert(index, (dimension, used)),
            }
        }
        self.order.push(item);
        self.totals.push((value, usage));
    }

    fn pop(&mut self) -> bool {
        self.totals.pop();
        self.order.pop().is_some()
    }

    fn cut(&mut self, length: usize) {
        self.order.truncate(length);
        self.totals.truncate(length);
    }

    fn value(&self) -> i128 {
        self.totals.last().map_or(0, |(value, _)| *value)
    }

    fn usage(&self) -> &[(usize, u64)] {
        self.totals.last().map_or(&[][..], |(_, usage)| usage)
    }
}

/// Whether one use of room is at most another in every dimension.
fn within(a: &[(usize, u64)], b: &[(usize, u64)]) -> bool {
    a.iter().all(|(dimension, used)| b.iter().any(|(other, most)| other == dimension && used <= most))
}

/// Moves one item elsewhere, or changes the places of two.
fn change(order: &mut Vec<usize>, draw: &mut Draw) {
    let (from, to) = (draw.below(order.len()), draw.below(order.len()));
    if draw.below(2) == 0 {
        order.swap(from, to);
    } else {
        let item = order.remove(from);
        order.insert(to.min(order.len()), item);
    }
}

/// Numbers that depend on the seed, the round and how many were drawn (splitmix64).
struct Draw(u64);

impl Draw {
    fn new(seed: u64, round: u32) -> Self {
        Self(seed ^ u64::from(round).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bound = bound.max(1) as u64;
        usize::try_from((mixed ^ (mixed >> 31)) % bound).unwrap_or_default()
    }
}

//! The search inside one conflict group: which of its candidates to take, and in which order.
//!
//! It drives a [`Ground`], on which candidates are placed one after the other and undone, and keeps the alternatives that are
//! worth knowing: orders of subsets such that no other is worth at least as much with at most as much room. A greedy start
//! yields some at once. Numbered rounds find more: a small group is searched to the end by branch and bound over order and
//! subset, a large one by seeded moves for as long as it is asked to.
//!
//! What an order is worth is what the ground said when exactly this order was placed. Work is counted in placements, never in
//! time, so that a seed and a number of rounds give the same alternatives again.

mod anytime;
mod draw;
mod exact;
mod front;
mod greedy;
mod line;
#[cfg(test)]
mod tests;

use anytime::Walk;
use exact::Tree;
use front::Front;
use line::Line;

use crate::packing::Price;

/// What a search runs on: the open blocks of a set of rollups, with the candidates of one group. All calls of a search get the
/// same ground, with the same on it.
pub(crate) trait Ground {
    /// A point to go back to.
    type Mark: Copy;
    /// That the ground itself fails, not a candidate.
    type Error;

    /// Where it stands.
    fn mark(&self) -> Self::Mark;

    /// Places an item as the next one. `None`: it is not valid here now, or has no room; nothing changed then.
    ///
    /// # Errors
    /// When the ground fails.
    fn place(&mut self, item: usize) -> Result<Option<Gain>, Self::Error>;

    /// Undoes everything that was placed since a mark.
    fn undo(&mut self, mark: Self::Mark);
}

/// What something that is placed brings and takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gain {
    /// What it is worth, in the numeraire's smallest unit.
    pub(crate) value: i128,
    /// Its use of room, ascending by dimension, each dimension once.
    pub(crate) usage: Vec<(usize, u64)>,
}

impl Gain {
    /// Both together. `None` when the numbers do not hold it.
    fn and(&self, more: &Self) -> Option<Self> {
        let mut usage = self.usage.clone();
        for (dimension, amount) in more.usage.iter().filter(|(_, amount)| *amount > 0) {
            match usage.binary_search_by_key(dimension, |(of, _)| *of) {
                Ok(at) => usage[at].1 = usage[at].1.checked_add(*amount)?,
                Err(at) => usage.insert(at, (*dimension, *amount)),
            }
        }
        Some(Self { value: self.value.checked_add(more.value)?, usage })
    }
}

/// Whether one use of room is at most another in every dimension.
fn within(usage: &[(usize, u64)], other: &[(usize, u64)]) -> bool {
    usage.iter().all(|(dimension, amount)| {
        let found = other.binary_search_by_key(dimension, |(of, _)| *of).ok();
        *amount <= found.and_then(|at| other.get(at)).map_or(0, |(_, amount)| *amount)
    })
}

/// One ordered subset of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alternative {
    /// The items in the order in which they were placed.
    pub(crate) order: Vec<usize>,
    /// What they are worth in this order, in the numeraire's smallest unit.
    pub(crate) value: i128,
    /// Their use of room, ascending by dimension, zeros left out.
    pub(crate) usage: Vec<(usize, u64)>,
}

/// What is known of an item before the search.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// What it does alone, on the state below; `None` when it is blocked alone.
    pub(crate) estimate: Option<Gain>,
    /// It is worth at most this much in any state.
    pub(crate) most: i128,
}

/// How much is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Groups up to this many items are searched to the end, at most 64. One of a single item always is.
    pub(crate) exact_items: usize,
    /// How many alternatives are listed at most; at least one is.
    pub(crate) alternatives: usize,
    /// What the moves in a large group are drawn from.
    pub(crate) seed: u64,
}

/// A search that goes on where it stopped, and keeps the alternatives that it found.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    items: Vec<Item>,
    settings: Settings,
    way: Way,
    front: Front,
    listed: Vec<Alternative>,
}

/// How a group is searched.
#[derive(Clone, Debug)]
enum Way {
    Exact(Tree),
    Anytime(Walk),
}

impl Search {
    /// A search that knows nothing yet. `conflicts` are pairs of items, the lower index first, each pair once: items that are
    /// not paired have no effect on each other, so their order does not matter.
    pub(crate) fn new(items: Vec<Item>, conflicts: Vec<(usize, usize)>, settings: Settings) -> Self {
        let way = if items.len() <= settings.exact_items.clamp(1, exact::MAX_ITEMS) {
            Way::Exact(Tree::new(&items, &conflicts))
        } else {
            Way::Anytime(Walk::new(items.len(), &conflicts))
        };
        Self { items, settings, way, front: Front::new(settings.alternatives), listed: Vec::new() }
    }

    /// The first alternatives: what greedy takes by value for all the room that it uses, from its first item to all of them,
    /// and the items alone. The ground is as it was afterwards.
    ///
    /// # Errors
    /// When the ground fails. It may be called again then.
    pub(crate) fn start<G: Ground>(&mut self, ground: &mut G) -> Result<(), G::Error> {
        let started = self.fill(ground, &[]).and_then(|()| self.alone(ground));
        self.list();
        started
    }

    /// Greedy at prices: by value for what the room that is used costs. `prices` are by dimension; where none is above zero all
    /// room costs the same. What it finds joins the alternatives. The ground is as it was afterwards.
    ///
    /// # Errors
    /// When the ground fails.
    #[cfg_attr(not(test), expect(dead_code, reason = "for whoever knows prices before the group was searched"))]
    pub(crate) fn greedy<G: Ground>(&mut self, ground: &mut G, prices: &[Price]) -> Result<(), G::Error> {
        let filled = self.fill(ground, prices);
        self.list();
        filled
    }

    /// One numbered round: at most `work` placements, not counting those that bring back what the round before left off with.
    /// Whether the search may still find something; it cannot when it came to its end. Deterministic in the content of the
    /// group, the seed and the rounds so far. The ground is as it was afterwards.
    ///
    /// # Errors
    /// When the ground fails. The search goes on from there in the next round.
    pub(crate) fn round<G: Ground>(&mut self, ground: &mut G, round: u32, work: u64) -> Result<bool, G::Error> {
        let mut line = Line::new(ground);
        let open = match &mut self.way {
            Way::Exact(tree) => tree.run(&mut line, &mut self.front, work).map(|ended| !ended),
            Way::Anytime(walk) => walk.run(&mut line, &mut self.front, (self.settings.seed, round), work).map(|()| true),
        };
        drop(line);
        self.list();
        open
    }

    /// The alternatives: none is worth at most as much as another that needs at most as much room in every dimension. The one
    /// that is worth most is first, the others follow by value, use of room and order. Taking nothing is always possible and
    /// not listed, nor is what is worth no more than nothing.
    pub(crate) fn alternatives(&self) -> &[Alternative] {
        &self.listed
    }

    /// Whether the alternatives are all that there are.
    pub(crate) fn exact(&self) -> bool {
        self.is_ended() && self.front.is_whole() && self.front.len() == self.listed.len()
    }

    /// No subset in any order is worth more: the best value when the search came to its end, else what all items could be worth.
    #[cfg(test)]
    pub(crate) fn bound(&self) -> i128 {
        let best = self.front.best();
        if self.is_ended() && !self.front.is_beyond() {
            return best;
        }
        self.items.iter().map(|item| item.most.max(0)).fold(0_i128, i128::saturating_add).max(best)
    }

    fn is_ended(&self) -> bool {
        matches!(&self.way, Way::Exact(tree) if tree.is_ended())
    }

    fn fill<G: Ground>(&mut self, ground: &mut G, prices: &[Price]) -> Result<(), G::Error> {
        let mut line = Line::new(ground);
        match &mut self.way {
            // There is nothing to choose, so one placement says all.
            Way::Exact(tree) if self.items.len() <= 1 => tree.run(&mut line, &mut self.front, 1).map(|_| ()),
            Way::Exact(_) => greedy::fill(&self.items, prices, &mut line, &mut self.front),
            Way::Anytime(walk) => {
                greedy::fill(&self.items, prices, &mut line, &mut self.front)?;
                walk.adopt(&line);
                Ok(())
            }
        }
    }

    /// Places every item alone, unless what is known is better than what it promises.
    fn alone<G: Ground>(&mut self, ground: &mut G) -> Result<(), G::Error> {
        let mut line = Line::new(ground);
        for (index, item) in self.items.iter().enumerate() {
            let Some(promised) = &item.estimate else { continue };
            if !self.front.beats(promised.value, &promised.usage) {
                line.truncate(0);
                line.place(index, &mut self.front)?;
            }
        }
        Ok(())
    }

    fn list(&mut self) {
        if let Some(listed) = self.front.list(self.settings.alternatives) {
            self.listed = listed;
        }
    }
}

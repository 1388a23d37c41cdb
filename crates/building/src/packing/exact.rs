//! Branch and bound over what the prices leave open.
//!
//! Whoever takes what is not best at the prices gives up part of the bound: its regret. A decision whose regret is more than the
//! gap between the bound and the best packing cannot be part of a better one. Most groups are decided by this; the others are
//! branched on, the one with the fewest decisions first, with prices of its own at every node.

use super::{
    instance::Instance,
    prices::{Bound, fix, reduced},
    solution::Solution,
};

/// Open groups and choices beyond which the search is not begun, since it would not end.
const MAX_GROUPS: usize = 32;
const MAX_CHOICES: usize = 4_096;

/// Up to so many open groups all nodes are spent; beyond, one in [`RATION`].
const FEW_GROUPS: usize = 12;
const RATION: u64 = 16;

/// Choices looked at that count as one node.
const LOOKS_A_NODE: u64 = 256;

/// Steps of the search for prices at a node, and what a step without progress shortens the next one by.
const STEPS: usize = 8;
const SHORTEN: f64 = 0.7;

/// Proves that `solution` is optimal among the listed choices, improving it where it was not. `false` when `nodes` did not
/// suffice; it may be better than before then too.
pub(super) fn prove(instance: &Instance, bound: &Bound, shares: &[f64], solution: &mut Solution, nodes: u64) -> bool {
    let leeway = bound.scaled() - ((solution.value() + 1) << bound.shift());
    if leeway < 0 {
        return true;
    }
    let mut root = Node { lists: Vec::new(), room: instance.capacities().to_vec(), value: 0, shares: shares.to_vec() };
    let mut path = Vec::new();
    let mut choices = 0;
    for group in 0..instance.len() {
        let mut open = decisions(instance, bound, group, leeway);
        let Some(first) = open.next() else { return true };
        let Some(second) = open.next() else {
            if !root.settle(instance, first) {
                return true;
            }
            path.push((group, first));
            continue;
        };
        let options: Vec<Option<usize>> = [first, second].into_iter().chain(open).collect();
        choices += options.len();
        root.lists.push(List { group, options });
        if root.lists.len() > MAX_GROUPS || choices > MAX_CHOICES {
            return false;
        }
    }
    let nodes = if root.lists.len() <= FEW_GROUPS { nodes } else { nodes / RATION };
    let looks = nodes.saturating_mul(LOOKS_A_NODE);
    let mut search =
        Search { instance, shift: bound.shift(), limit: bound.limit(), best: solution.value(), found: None, path, looks };
    let finished = search.visit(root);
    if let Some(found) = search.found {
        // All give back before any takes, so that every step fits.
        for (group, _) in &found {
            solution.set(instance, *group, None);
        }
        for (group, item) in found {
            solution.set(instance, group, item);
        }
    }
    finished
}

/// What a group can decide on the way to a better packing: none, or one of its items.
fn decisions(instance: &Instance, bound: &Bound, group: usize, leeway: i128) -> impl Iterator<Item = Option<usize>> {
    let all = std::iter::once(None).chain(instance.items_of(group).map(Some));
    all.filter(move |item| bound.regret(instance, group, *item) <= leeway)
}

/// What is open for one group: at least one decision.
#[derive(Clone, Debug)]
struct List {
    group: usize,
    options: Vec<Option<usize>>,
}

/// Groups that are open, and what the decisions before them leave.
#[derive(Clone, Debug)]
struct Node {
    lists: Vec<List>,
    room: Vec<u64>,
    value: i128,
    /// Prices of whole capacities that the search for prices starts from.
    shares: Vec<f64>,
}

impl Node {
    fn fits(&self, instance: &Instance, item: Option<usize>) -> bool {
        item.is_none_or(|item| fits(instance, &self.room, item))
    }

    /// Takes a decision. `false` if it does not fit.
    fn settle(&mut self, instance: &Instance, item: Option<usize>) -> bool {
        if !self.fits(instance, item) {
            return false;
        }
        if let Some(item) = item {
            self.value += instance.item(item).value;
            for used in instance.uses_of(item) {
                self.room[used.dimension] -= used.amount;
            }
        }
        true
    }

    /// Choices that a look at all groups looks at.
    fn looks(&self) -> u64 {
        self.lists.iter().map(|list| list.options.len() as u64).sum()
    }
}

fn fits(instance: &Instance, room: &[u64], item: usize) -> bool {
    instance.uses_of(item).iter().all(|used| used.amount <= room[used.dimension])
}

fn value(instance: &Instance, item: Option<usize>) -> i128 {
    item.map_or(0, |item| instance.item(item).value)
}

struct Search<'a> {
    instance: &'a Instance,
    shift: u32,
    limit: i128,
    /// The best value known.
    best: i128,
    /// The decisions of the best packing found here.
    found: Option<Vec<(usize, Option<usize>)>>,
    /// The decisions on the way to the node.
    path: Vec<(usize, Option<usize>)>,
    /// Choices that may still be looked at.
    looks: u64,
}

impl Search<'_> {
    /// Searches below a node. `false` when the looks did not suffice.
    fn visit(&mut self, node: Node) -> bool {
        let depth = self.path.len();
        let finished = self.explore(node);
        self.path.truncate(depth);
        finished
    }

    fn explore(&mut self, mut node: Node) -> bool {
        // What is settled takes room, which may settle the next group.
        loop {
            if !self.spend(node.looks()) {
                return false;
            }
            let mut open = Vec::with_capacity(node.lists.len());
            let lists = std::mem::take(&mut node.lists);
            let before = lists.len();
            for mut list in lists {
                list.options.retain(|option| node.fits(self.instance, *option));
                match list.options[..] {
                    [] => return true,
                    [only] => {
                        // It fits: the room is what it was looked at with.
                        node.settle(self.instance, only);
                        self.path.push((list.group, only));
                    }
                    _ => open.push(list),
                }
            }
            node.lists = open;
            if node.lists.len() == before {
                break;
            }
        }
        match node.lists.len() {
            0 => self.offer(node.value),
            1 => self.finish_one(node),
            2 => return self.finish_two(node),
            _ => return self.branch(node),
        }
        true
    }

    fn spend(&mut self, looks: u64) -> bool {
        match self.looks.checked_sub(looks) {
            Some(left) => {
                self.looks = left;
                true
            }
            None => false,
        }
    }

    fn offer(&mut self, value: i128) {
        if value > self.best {
            self.best = value;
            self.found = Some(self.path.clone());
        }
    }

    /// The most valuable decision of the last group.
    fn finish_one(&mut self, mut node: Node) {
        for mut list in node.lists.drain(..) {
            self.sort(&mut list);
            self.path.push((list.group, list.options[0]));
            self.offer(node.value + value(self.instance, list.options[0]));
        }
    }

    /// The best pair of decisions of the last two groups that fit together.
    fn finish_two(&mut self, mut node: Node) -> bool {
        for list in &mut node.lists {
            self.sort(list);
        }
        let [first, second] = &node.lists[..] else { return true };
        for one in &first.options {
            let least = node.value + value(self.instance, *one);
            if least + value(self.instance, second.options[0]) <= self.best {
                break;
            }
            let mut after = Node { lists: Vec::new(), room: node.room.clone(), value: node.value, shares: Vec::new() };
            after.settle(self.instance, *one);
            self.path.push((first.group, *one));
            for other in &second.options {
                if !self.spend(1) {
                    return false;
                }
                let both = least + value(self.instance, *other);
                if both <= self.best {
                    break;
                }
                if after.fits(self.instance, *other) {
                    self.path.push((second.group, *other));
                    self.offer(both);
                    self.path.pop();
                    break;
                }
            }
            self.path.pop();
        }
        true
    }

    fn sort(&self, list: &mut List) {
        list.options.sort_unstable_by(|a, b| value(self.instance, *b).cmp(&value(self.instance, *a)).then_with(|| a.cmp(b)));
    }

    /// Bounds a node, drops decisions that cannot lead to a better packing, and branches on the group with the fewest left.
    fn branch(&mut self, node: Node) -> bool {
        let most = most_used(self.instance, &node);
        let (shares, steps) = self.guide(&node, &most);
        if !self.spend(node.looks().saturating_mul(steps + 1)) {
            return false;
        }
        let prices = fix(self.instance.capacities(), &shares, self.shift, self.limit);
        let room: i128 = prices.iter().zip(&most).map(|(price, most)| price * i128::from(*most)).sum();
        let mut bound = (node.value << self.shift) + room;
        let mut rated: Vec<Rated> = Vec::with_capacity(node.lists.len());
        for list in &node.lists {
            let rate =
                |option: &Option<usize>| (option.map_or(0, |item| reduced(self.instance, item, &prices, self.shift)), *option);
            let options: Vec<(i128, Option<usize>)> = list.options.iter().map(rate).collect();
            let best = options.iter().map(|(reduced, _)| *reduced).fold(i128::MIN, i128::max);
            bound += best;
            rated.push(Rated { group: list.group, best, options });
        }
        let leeway = bound - self.needed();
        if leeway < 0 {
            return true;
        }
        for list in &mut rated {
            let least = list.best - leeway;
            list.options.retain(|(reduced, _)| *reduced >= least);
        }
        let fewest = (0..rated.len()).min_by_key(|index| rated[*index].options.len()).unwrap_or(0);
        let mut branched = rated.remove(fewest);
        branched.options.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        let rest: Vec<List> = rated
            .into_iter()
            .map(|list| List { group: list.group, options: list.options.into_iter().map(|(_, option)| option).collect() })
            .collect();
        for (reduced, option) in branched.options {
            // The best may have become better since, and the following give up more.
            if bound - (branched.best - reduced) < self.needed() {
                break;
            }
            let mut child = Node { lists: rest.clone(), room: node.room.clone(), value: node.value, shares: shares.clone() };
            child.settle(self.instance, option);
            self.path.push((branched.group, option));
            let finished = self.visit(child);
            self.path.pop();
            if !finished {
                return false;
            }
        }
        true
    }

    /// What a packing must be worth to be better than the best, scaled.
    fn needed(&self) -> i128 {
        (self.best + 1) << self.shift
    }

    /// Prices for a node by a few subgradient steps towards what would rule it out, and how many looks that took.
    fn guide(&self, node: &Node, most: &[u64]) -> (Vec<f64>, u64) {
        let target = (self.best - node.value) as f64;
        let capacities = self.instance.capacities().iter();
        let room: Vec<f64> = most.iter().zip(capacities).map(|(most, all)| *most as f64 / (*all).max(1) as f64).collect();
        let mut here = node.shares.clone();
        let (mut best, mut lowest) = (here.clone(), f64::INFINITY);
        let mut length = 1.0;
        let mut looks = 0;
        for _ in 0..=STEPS {
            looks += 1;
            let mut bound: f64 = here.iter().zip(&room).map(|(share, room)| share * room).sum();
            let mut left = room.clone();
            for list in &node.lists {
                let (mut chosen, mut most) = (None, f64::NEG_INFINITY);
                for option in &list.options {
                    let reduced = option.map_or(0.0, |item| self.instance.reduced(item, &here));
                    if reduced > most {
                        (chosen, most) = (*option, reduced);
                    }
                }
                bound += most;
                for used in chosen.map_or(&[][..], |item| self.instance.uses_of(item)) {
                    left[used.dimension] -= used.share;
                }
            }
            if bound < lowest {
                lowest = bound;
                best.clone_from(&here);
            } else {
                length *= SHORTEN;
            }
            let steepness: f64 =
                here.iter().zip(&left).filter(|(share, left)| **share > 0.0 || **left < 0.0).map(|(_, left)| left * left).sum();
            if lowest < target || steepness < f64::EPSILON * f64::EPSILON {
                break;
            }
            let step = length * (bound - target + bound.abs() * f64::EPSILON) / steepness;
            for (share, left) in here.iter_mut().zip(&left) {
                *share = (*share - step * left).max(0.0);
            }
        }
        (best, looks)
    }
}

/// The decisions of a group, each with what it is worth beyond the room it buys; scaled.
struct Rated {
    group: usize,
    best: i128,
    options: Vec<(i128, Option<usize>)>,
}

/// Per dimension the room that open groups can use at most. What they cannot use needs no price.
fn most_used(instance: &Instance, node: &Node) -> Vec<u64> {
    let mut most = vec![0_u64; node.room.len()];
    let mut own = vec![0_u64; node.room.len()];
    for list in &node.lists {
        own.fill(0);
        for used in list.options.iter().flatten().flat_map(|item| instance.uses_of(*item)) {
            own[used.dimension] = own[used.dimension].max(used.amount);
        }
        for (most, own) in most.iter_mut().zip(&own) {
            *most = most.saturating_add(*own);
        }
    }
    most.iter().zip(&node.room).map(|(most, room)| *most.min(room)).collect()
}

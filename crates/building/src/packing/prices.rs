//! Prices of room, and the bound they give.
//!
//! For prices `p >= 0`: the optimum is at most `sum of p * capacity + sum over groups of max(0, max of value - p * use)`. The
//! right side is convex in the prices; it is lowered by subgradient steps of Polyak's length, whose target is the value of a
//! packing that is known. The steps are taken in floats. The bound is then computed anew in integers.

use super::{Price, instance::Instance};

/// How much of its direction a step keeps for the next one.
const MEMORY: f64 = 0.5;

/// What steps are shortened by after a round without progress.
const SHORTEN: f64 = 0.5;

/// Progress below this share of the bound does not count.
const PROGRESS: f64 = 1e-5;

/// A gap below this share of the bound is left as it is.
const CLOSE: f64 = 1e-9;

/// The most bits behind the point of a price.
const MAX_SHIFT: u32 = 64;

/// Bits of a scaled total when prices are fixed; eight are left for groups that come later, one for a sum of two totals.
const SCALED_BITS: u32 = 117;

/// Bits that a scaled total must never exceed.
const MAX_SCALED_BITS: u32 = 125;

/// The bound at some prices, and its slope.
#[derive(Clone, Debug)]
struct Point {
    shares: Vec<f64>,
    bound: f64,
    /// Per dimension the share of its room that is used when every group takes what is best at these prices.
    used: Vec<f64>,
}

impl Point {
    fn at(instance: &Instance, shares: Vec<f64>) -> Self {
        let mut bound: f64 = shares.iter().sum();
        let mut used = vec![0.0; shares.len()];
        for group in 0..instance.len() {
            let (best, most) = instance.best_of(group, &shares);
            bound += most;
            for taken in best.map_or(&[][..], |item| instance.uses_of(item)) {
                used[taken.dimension] += taken.share;
            }
        }
        Self { shares, bound, used }
    }

    /// The next prices: dearer what is overused, cheaper what is not, in a direction that remembers the one before. The step is
    /// sized so that a straight slope would end at `target`. `None` at an optimum.
    fn step(&self, direction: &mut [f64], target: f64, length: f64) -> Option<Vec<f64>> {
        for (direction, used) in direction.iter_mut().zip(&self.used) {
            *direction = 1.0 - *used + MEMORY * *direction;
        }
        // A price of zero does not fall.
        let moving = self.shares.iter().zip(direction.iter()).filter(|(share, down)| **share > 0.0 || **down < 0.0);
        let steepness: f64 = moving.map(|(_, down)| down * down).sum();
        if steepness < f64::EPSILON * f64::EPSILON {
            return None;
        }
        let step = length * (self.bound - target) / steepness;
        Some(self.shares.iter().zip(direction.iter()).map(|(share, down)| (share - step * down).max(0.0)).collect())
    }
}

/// Searches for good prices of whole capacities, from `start`, in at most `rounds` looks at all choices. `reached` is the value
/// of a packing that is known.
pub(super) fn search(instance: &Instance, start: Vec<f64>, reached: f64, rounds: u32) -> Vec<f64> {
    let mut direction = vec![0.0; start.len()];
    let mut best = Point::at(instance, vec![0.0; start.len()]);
    // Where everything fits, room is free.
    if best.used.iter().all(|used| *used <= 1.0) {
        return best.shares;
    }
    let mut here = Point::at(instance, start);
    let mut length = 1.0;
    for _ in 0..rounds {
        let progress = here.bound <= best.bound * (1.0 - PROGRESS);
        if here.bound < best.bound {
            best = here.clone();
        } else {
            here = best.clone();
        }
        // The target is lower than the optimum, so steps are too long at first.
        if !progress {
            length *= SHORTEN;
            direction.fill(0.0);
        }
        if best.bound - reached <= best.bound * CLOSE {
            break;
        }
        let Some(next) = here.step(&mut direction, reached, length) else { break };
        here = Point::at(instance, next);
    }
    if here.bound < best.bound { here.shares } else { best.shares }
}

/// Prices a unit in integers, scaled by two to the power of `shift`, with which all the room costs at most `limit`. More is of no
/// use, since the bound without prices is lower then; so nothing has a price if they cost more.
pub(super) fn fix(capacities: &[u64], shares: &[f64], shift: u32, limit: i128) -> Vec<i128> {
    let scale = (1_u128 << shift) as f64;
    let price = |(capacity, share): (&u64, &f64)| if *capacity == 0 { 0 } else { (share / *capacity as f64 * scale) as i128 };
    let prices: Vec<i128> = capacities.iter().zip(shares).map(price).collect();
    match cost(&prices, capacities) {
        Some(cost) if cost <= limit => prices,
        _ => vec![0; capacities.len()],
    }
}

/// What so much room of every dimension costs.
fn cost(prices: &[i128], room: &[u64]) -> Option<i128> {
    let mut parts = prices.iter().zip(room).map(|(price, room)| price.checked_mul(i128::from(*room)));
    parts.try_fold(0_i128, |sum, part| sum.checked_add(part?))
}

/// Prices in integers and the bound that they prove.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    prices: Vec<i128>,
    shift: u32,
    /// What all the room may cost at most, scaled. No product or sum of prices and uses is greater, since what fits is priced.
    limit: i128,
    /// Per group what it is worth beyond the room it buys, scaled.
    worth: Vec<i128>,
    /// All the room and the worth of all groups, scaled.
    sum: i128,
}

impl Bound {
    pub(super) fn new(instance: &Instance, shares: &[f64]) -> Self {
        let shift = SCALED_BITS.saturating_sub(bits(instance.total())).min(MAX_SHIFT);
        let limit = instance.total() << shift;
        let prices = fix(instance.capacities(), shares, shift, limit);
        let room = cost(&prices, instance.capacities()).unwrap_or(limit);
        let mut bound = Self { prices, shift, limit, worth: Vec::with_capacity(instance.len()), sum: room };
        for group in 0..instance.len() {
            let worth = bound.worth_of(instance, group);
            bound.sum += worth;
            bound.worth.push(worth);
        }
        bound
    }

    /// Follows a change of one group, at the same prices.
    pub(super) fn update(&mut self, instance: &Instance, shares: &[f64], group: usize) {
        if bits(instance.total()) + self.shift > MAX_SCALED_BITS {
            *self = Self::new(instance, shares);
            return;
        }
        self.worth.resize(instance.len(), 0);
        let worth = self.worth_of(instance, group);
        self.sum += worth - self.worth[group];
        self.worth[group] = worth;
    }

    fn worth_of(&self, instance: &Instance, group: usize) -> i128 {
        instance.items_of(group).map(|item| reduced(instance, item, &self.prices, self.shift)).fold(0, i128::max)
    }

    /// No packing of listed choices is worth more. Rounded down, since values are whole.
    pub(super) fn listed(&self) -> i128 {
        self.sum >> self.shift
    }

    /// The same, scaled.
    pub(super) fn scaled(&self) -> i128 {
        self.sum
    }

    pub(super) fn shift(&self) -> u32 {
        self.shift
    }

    pub(super) fn limit(&self) -> i128 {
        self.limit
    }

    /// How much of the bound is given up when the group takes this item, or none; scaled.
    pub(super) fn regret(&self, instance: &Instance, group: usize, item: Option<usize>) -> i128 {
        self.worth[group] - item.map_or(0, |item| reduced(instance, item, &self.prices, self.shift))
    }

    pub(super) fn prices(&self) -> Vec<Price> {
        self.prices.iter().map(|price| Price { scaled: price.unsigned_abs(), shift: self.shift }).collect()
    }
}

/// What an item is worth beyond the room it buys, scaled.
pub(super) fn reduced(instance: &Instance, item: usize, prices: &[i128], shift: u32) -> i128 {
    let value = instance.item(item).value << shift;
    instance.uses_of(item).iter().fold(value, |left, used| left - prices[used.dimension] * i128::from(used.amount))
}

fn bits(amount: i128) -> u32 {
    i128::BITS - amount.leading_zeros()
}

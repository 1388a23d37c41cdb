//! The first alternatives: one item after the other, by value for the room that it takes.

use std::collections::BTreeSet;

use super::{Front, Gain, Ground, Item, Line};
use crate::packing::Price;

/// How often what was refused is tried again as long as that places something.
const MAX_PASSES: usize = 16;

/// How many items that cost something are placed to see whether they make up for it.
const MAX_LOSSES: usize = 16;

/// Places what gains, by density first; what was refused again and again while something gets cured; and what costs
/// something if what it cures is worth more.
pub(super) fn fill<G: Ground>(
    items: &[Item],
    prices: &[Price],
    line: &mut Line<'_, G>,
    front: &mut Front,
) -> Result<(), G::Error> {
    let mut filling = Filling { line, front, waiting: (0..items.len()).collect(), costly: BTreeSet::new() };
    for item in by_density(items, prices) {
        filling.place(item)?;
    }
    filling.retry(MAX_PASSES)?;
    let costly = std::mem::take(&mut filling.costly);
    for item in costly.into_iter().take(MAX_LOSSES) {
        filling.place_at_a_loss(item)?;
    }
    Ok(())
}

struct Filling<'a, 'g, G: Ground> {
    line: &'a mut Line<'g, G>,
    front: &'a mut Front,
    /// What is not placed.
    waiting: BTreeSet<usize>,
    /// What could have been placed but is worth less than nothing.
    costly: BTreeSet<usize>,
}

impl<G: Ground> Filling<'_, '_, G> {
    /// Places an item if it is valid and costs nothing.
    fn place(&mut self, item: usize) -> Result<bool, G::Error> {
        let (len, value) = (self.line.len(), self.line.total().value);
        if !self.line.place(item, self.front)? {
            return Ok(false);
        }
        if self.line.total().value < value {
            self.line.truncate(len);
            self.costly.insert(item);
            return Ok(false);
        }
        self.waiting.remove(&item);
        self.costly.remove(&item);
        Ok(true)
    }

    /// Tries what waits, in the order of the items, which is most often that of nonces.
    fn retry(&mut self, passes: usize) -> Result<(), G::Error> {
        for _ in 0..passes {
            let mut placed = false;
            for item in self.waiting.clone() {
                placed |= self.place(item)?;
            }
            if !placed {
                break;
            }
        }
        Ok(())
    }

    /// Places an item whatever it costs and what that cures, and takes it all back if it does not pay.
    fn place_at_a_loss(&mut self, item: usize) -> Result<(), G::Error> {
        let (len, value) = (self.line.len(), self.line.total().value);
        if !self.waiting.remove(&item) {
            return Ok(());
        }
        if self.line.place(item, self.front)? {
            self.retry(1)?;
        }
        if self.line.total().value <= value {
            self.waiting.extend(self.line.items().skip(len));
            self.waiting.insert(item);
            self.line.truncate(len);
        }
        Ok(())
    }
}

/// The items that are worth something alone, by what they are worth for what their room costs; among equals by value, then in
/// their own order.
fn by_density(items: &[Item], prices: &[Price]) -> Vec<usize> {
    let rated = items.iter().enumerate().filter_map(|(index, item)| {
        let gain = item.estimate.as_ref().filter(|gain| gain.value >= 0)?;
        Some((density(gain, prices), gain.value, index))
    });
    let mut rated: Vec<(f64, i128, usize)> = rated.collect();
    rated.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| b.1.cmp(&a.1)).then_with(|| a.2.cmp(&b.2)));
    rated.into_iter().map(|(.., index)| index).collect()
}

/// Floating point only says what is tried first.
fn density(gain: &Gain, prices: &[Price]) -> f64 {
    let unpriced = prices.iter().all(|price| price.scaled == 0);
    let unit = |dimension: usize| match prices.get(dimension) {
        _ if unpriced => 1.0,
        Some(price) => price.scaled as f64 / (1_u128 << price.shift.min(127)) as f64,
        None => 0.0,
    };
    let cost: f64 = gain.usage.iter().map(|(dimension, amount)| unit(*dimension) * *amount as f64).sum();
    if cost > 0.0 {
        gain.value as f64 / cost
    } else if gain.value > 0 {
        f64::INFINITY
    } else {
        0.0
    }
}

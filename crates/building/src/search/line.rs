//! What a search has on its ground.

use super::{Front, Gain, Ground};

/// The items that stand on a ground, one after the other. When it is dropped the ground is as it was, also after an error.
pub(super) struct Line<'a, G: Ground> {
    ground: &'a mut G,
    base: G::Mark,
    steps: Vec<Step<G::Mark>>,
    nothing: Gain,
}

struct Step<M> {
    item: usize,
    before: M,
    /// What it and all before it are worth and use.
    total: Gain,
}

impl<'a, G: Ground> Line<'a, G> {
    /// Nothing placed yet, whatever else is on the ground.
    pub(super) fn new(ground: &'a mut G) -> Self {
        let base = ground.mark();
        Self { ground, base, steps: Vec::new(), nothing: Gain::default() }
    }

    /// Places an item as the next one, and offers what stands now as an alternative. Whether it was placed.
    pub(super) fn place(&mut self, item: usize, front: &mut Front) -> Result<bool, G::Error> {
        let before = self.ground.mark();
        let Some(gain) = self.ground.place(item)? else { return Ok(false) };
        let Some(total) = self.total().and(&gain) else {
            self.ground.undo(before);
            front.leave_out();
            return Ok(false);
        };
        self.steps.push(Step { item, before, total });
        front.offer(self.total(), self.items());
        Ok(true)
    }

    /// Leaves the first `len` items, if there are more.
    pub(super) fn truncate(&mut self, len: usize) {
        if let Some(step) = self.steps.get(len) {
            self.ground.undo(step.before);
            self.steps.truncate(len);
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.steps.len()
    }

    pub(super) fn items(&self) -> impl Iterator<Item = usize> {
        self.steps.iter().map(|step| step.item)
    }

    /// What all of it is worth and uses.
    pub(super) fn total(&self) -> &Gain {
        self.total_of(self.steps.len())
    }

    /// What the first `len` items are worth and use.
    pub(super) fn total_of(&self, len: usize) -> &Gain {
        len.checked_sub(1).and_then(|last| self.steps.get(last)).map_or(&self.nothing, |step| &step.total)
    }

    /// How many items from the first on are worth most, as few as possible.
    pub(super) fn best_len(&self) -> usize {
        let longer = (0..=self.steps.len()).rev();
        // Of several that are worth the same the last is taken: the shortest.
        longer.max_by_key(|len| self.total_of(*len).value).unwrap_or(0)
    }
}

impl<G: Ground> Drop for Line<'_, G> {
    fn drop(&mut self) {
        self.ground.undo(self.base);
    }
}

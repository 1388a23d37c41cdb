//! Fills rollup by rollup, in parallel, where nothing has to do with more than one: what holds as it is known is taken over.

use std::{
    mem::take,
    sync::atomic::{AtomicUsize, Ordering},
};

use lockstep_primitives::{ChainId, Rejection};
use rayon::prelude::*;

use super::{
    entry::{Entries, Entry},
    fill::{Fill, Step, certainly_roomless, recall, refusal_of},
};
use crate::{BuildError, Lanes, SlotView, reuse};

/// Fewer entries than that are not worth dealing out.
const ENOUGH: usize = 4;

/// A rollup's block, and what is tried in it.
struct Part {
    chain: ChainId,
    lanes: Lanes,
    /// Positions in the order, and entries.
    order: Vec<(usize, usize)>,
    /// What became of the first of them.
    done: Vec<(usize, Outcome)>,
}

/// What became of an entry.
enum Outcome {
    /// It stands in the block. Whether what it did was tried in a fill before.
    Placed(Step, bool),
    Refused(Rejection),
}

impl Fill {
    /// Takes over what is known of the first entries of an order, up to the first that has to do with several rollups or has to
    /// be run, as if they were tried one by one. Returns how many those are.
    ///
    /// # Errors
    /// When the engine fails; what is in the blocks then is of no use.
    pub(super) fn take_over(&mut self, view: &SlotView, entries: &Entries, order: &[usize]) -> Result<usize, BuildError> {
        let homes = order.iter().map_while(|index| entries.get(*index).and_then(Entry::home));
        let homes: Vec<ChainId> = homes.take_while(|home| self.lanes.contains_key(home)).collect();
        if self.lanes.len() < 2 || homes.len() < ENOUGH {
            return Ok(0);
        }
        let part = |(chain, lane)| Part { chain, lanes: Lanes::from([(chain, lane)]), order: Vec::new(), done: Vec::new() };
        let mut parts: Vec<Part> = take(&mut self.lanes).into_iter().map(part).collect();
        for (position, (index, home)) in order.iter().zip(&homes).enumerate() {
            if let Some(part) = parts.iter_mut().find(|part| part.chain == *home) {
                part.order.push((position, *index));
            }
        }
        // The first that has to be run. What is tried behind it on other rollups is tried in vain, and taken back.
        let end = AtomicUsize::new(homes.len());
        let lent = &*self;
        let ran: Vec<Result<(), BuildError>> = parts.par_iter_mut().map(|part| part.run(view, entries, lent, &end)).collect();
        let end = end.into_inner();
        let mut done = Vec::with_capacity(parts.len());
        for mut part in parts {
            let kept = part.done.partition_point(|(position, _)| *position < end);
            for (_, outcome) in part.done.split_off(kept).iter().rev() {
                if let Outcome::Placed(step, _) = outcome {
                    reuse::roll_back(&mut part.lanes, &step.marks);
                }
            }
            self.lanes.extend(part.lanes);
            done.push((part.chain, part.done.into_iter()));
        }
        ran.into_iter().collect::<Result<(), BuildError>>()?;
        for (index, home) in order.iter().zip(&homes).take(end) {
            let next = done.iter_mut().find(|(chain, _)| chain == home).and_then(|(_, done)| done.next());
            match next {
                Some((_, Outcome::Placed(step, tried))) => self.stands(*index, step, tried)?,
                Some((_, Outcome::Refused(rejection))) => self.note(*index, Some(rejection), false),
                None => {}
            }
        }
        Ok(end)
    }
}

impl Part {
    /// Tries its entries up to the first that has to be run, here or before it elsewhere.
    fn run(&mut self, view: &SlotView, entries: &Entries, fill: &Fill, end: &AtomicUsize) -> Result<(), BuildError> {
        let rooms = |lanes: &Lanes| lanes.iter().map(|(chain, lane)| (*chain, lane.block().gas_left())).collect::<Vec<_>>();
        let mut left = rooms(&self.lanes);
        for (position, index) in &self.order {
            let Some(entry) = entries.get(*index).filter(|_| *position < end.load(Ordering::Relaxed)) else { break };
            if let Some(rejection) = certainly_roomless(entry, &left) {
                self.done.push((*position, Outcome::Refused(rejection)));
                continue;
            }
            let marks = reuse::marks(&self.lanes, &entry.candidate().bundle);
            let recalled = recall(&mut self.lanes, fill.tried(*index), entry, fill.delivered())?;
            let Some((taken, tried)) = recalled else {
                end.fetch_min(*position, Ordering::Relaxed);
                break;
            };
            let outcome = match refusal_of(view, &taken.attempt) {
                Some(rejection) => {
                    reuse::roll_back(&mut self.lanes, &marks);
                    Outcome::Refused(rejection)
                }
                None => Outcome::Placed(Step { late: false, marks, entry: *index, taken }, tried),
            };
            left = rooms(&self.lanes);
            self.done.push((*position, outcome));
        }
        Ok(())
    }
}

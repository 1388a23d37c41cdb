//! Small groups to the end: every order of every subset, as far as it can matter.
//!
//! Three things need no look. Of orders that differ only in how items follow each other that do not conflict, one stands for
//! all: the lowest by rank, the lexicographic normal form of such words (Anisimov and Knuth, 1979). What was refused is refused
//! again until something is placed that it conflicts with. And where even the most that the rest could be worth is known to
//! need no more room than is used already, nothing better follows.

use std::cmp::Reverse;

use super::{Front, Gain, Ground, Item, Line};

/// One bit each.
pub(super) const MAX_ITEMS: usize = 64;

/// A walk through all orders, depth first, that can stop anywhere. Items go by rank, from the one that promises most.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    /// The items by rank.
    order: Vec<usize>,
    /// What they are worth at most, by rank, never below zero.
    most: Vec<i128>,
    /// The ranks that each conflicts with, by rank.
    conflicts: Vec<u64>,
    /// Where the walk is: one frame for nothing, and one for every item that is placed. Empty when it is over.
    frames: Vec<Frame>,
}

#[derive(Clone, Debug)]
struct Frame {
    /// Who was placed last; nobody in the first.
    rank: Option<usize>,
    /// All lower ranks were tried here.
    next: usize,
    placed: u64,
    /// Who cannot be placed here.
    refused: u64,
    total: Gain,
}

impl Frame {
    fn nothing() -> Self {
        Self { rank: None, next: 0, placed: 0, refused: 0, total: Gain::default() }
    }
}

impl Tree {
    /// At most [`MAX_ITEMS`] items.
    pub(super) fn new(items: &[Item], conflicts: &[(usize, usize)]) -> Self {
        let mut order: Vec<usize> = (0..items.len()).collect();
        // Good alternatives that are known early spare the most work.
        order.sort_by_key(|item| Reverse((items[*item].estimate.as_ref().map(|gain| gain.value), items[*item].most)));
        let mut ranks = vec![0; items.len()];
        for (rank, item) in order.iter().enumerate() {
            ranks[*item] = rank;
        }
        let mut masks = vec![0_u64; items.len()];
        for (a, b) in conflicts {
            let (a, b) = (ranks[*a], ranks[*b]);
            masks[a] |= 1 << b;
            masks[b] |= 1 << a;
        }
        let most = order.iter().map(|item| items[*item].most.max(0)).collect();
        Self { order, most, conflicts: masks, frames: vec![Frame::nothing()] }
    }

    pub(super) const fn is_ended(&self) -> bool {
        self.frames.is_empty()
    }

    /// Goes on for up to `work` placements beyond those that bring it back to where it was. Whether it came to its end.
    pub(super) fn run<G: Ground>(&mut self, line: &mut Line<'_, G>, front: &mut Front, work: u64) -> Result<bool, G::Error> {
        if !self.is_same(line, front)? {
            // What is known is true elsewhere only.
            line.truncate(0);
            front.clear();
            self.frames = vec![Frame::nothing()];
        }
        let mut left = work;
        while let Some(rank) = self.advance(line, front) {
            if left == 0 {
                return Ok(false);
            }
            left -= 1;
            let placed = line.place(self.order[rank], front)?;
            self.note(rank, placed.then(|| line.total().clone()));
        }
        Ok(true)
    }

    /// Places what the walk stands on. Whether it does here what it did.
    fn is_same<G: Ground>(&self, line: &mut Line<'_, G>, front: &mut Front) -> Result<bool, G::Error> {
        for frame in &self.frames {
            let Some(rank) = frame.rank else { continue };
            if !line.place(self.order[rank], front)? || *line.total() != frame.total {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Who is to be placed next. Goes back from where nobody is left, or nothing to gain.
    fn advance<G: Ground>(&mut self, line: &mut Line<'_, G>, front: &Front) -> Option<usize> {
        while let Some(frame) = self.frames.last() {
            if !front.beats(self.reach(frame), &frame.total.usage)
                && let Some(rank) = self.child(frame)
            {
                return Some(rank);
            }
            self.frames.pop();
            line.truncate(self.frames.len().saturating_sub(1));
        }
        None
    }

    /// What everything that begins like this is worth at most.
    fn reach(&self, frame: &Frame) -> i128 {
        let open = self.most.iter().enumerate().filter(|(rank, _)| (frame.placed >> *rank) & 1 == 0);
        open.map(|(_, most)| *most).fold(frame.total.value, i128::saturating_add)
    }

    /// Who comes next in the last frame.
    fn child(&self, frame: &Frame) -> Option<usize> {
        let done = frame.placed | frame.refused;
        (frame.next..self.order.len()).find(|rank| (done >> *rank) & 1 == 0 && self.is_normal(*rank))
    }

    /// Whether someone of this rank, placed next, could not as well stand before a higher rank.
    fn is_normal(&self, rank: usize) -> bool {
        let mut back = self.frames.iter().rev().filter_map(|frame| frame.rank);
        let stop = back.find(|before| *before > rank || self.conflict(*before, rank));
        stop.is_none_or(|before| self.conflict(before, rank))
    }

    fn conflict(&self, a: usize, b: usize) -> bool {
        (self.conflicts[a] >> b) & 1 == 1
    }

    /// Notes that a rank was tried: what all is worth with it, `None` when it was refused.
    fn note(&mut self, rank: usize, total: Option<Gain>) {
        let Some(frame) = self.frames.last_mut() else { return };
        frame.next = rank + 1;
        let Some(total) = total else {
            frame.refused |= 1 << rank;
            return;
        };
        let placed = frame.placed | (1 << rank);
        let refused = frame.refused & !self.conflicts[rank];
        self.frames.push(Frame { rank: Some(rank), next: 0, placed, refused, total });
    }
}

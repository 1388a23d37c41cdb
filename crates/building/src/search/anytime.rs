//! Large groups: an order that is improved by seeded moves.
//!
//! A move takes out, puts in, shifts, swaps or mixes up some items of the best order known. What stands before the first change
//! stays on the ground; from there on the order is placed anew, and what is refused is tried again at the end. It becomes the
//! best order if it is worth more, or as much with no more room. Whatever was placed on the way is an alternative, too.

use super::{Front, Gain, Ground, Line, draw::Draw, within};

/// Refused items that are tried again behind a changed order.
const MAX_RETRIES: usize = 8;

/// Items that are mixed up at once beside the one in their middle.
const MAX_MIXED: usize = 6;

/// In longer orders every other move is more often near the end, where it is cheap.
const LONG: usize = 64;

/// The best order known, and what may be changed in it.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    /// Whom each item conflicts with, ascending.
    neighbours: Vec<Vec<usize>>,
    best: Vec<usize>,
    total: Gain,
}

/// An order to try.
struct Variation {
    order: Vec<usize>,
    /// What is tried behind it.
    retries: Vec<usize>,
}

impl Walk {
    pub(super) fn new(items: usize, conflicts: &[(usize, usize)]) -> Self {
        let mut neighbours = vec![Vec::new(); items];
        for (a, b) in conflicts {
            neighbours[*a].push(*b);
            neighbours[*b].push(*a);
        }
        neighbours.iter_mut().for_each(|near| near.sort_unstable());
        Self { neighbours, best: Vec::new(), total: Gain::default() }
    }

    /// Takes over what stands on the ground, as far as it is worth most, if it is at least as good as the best order known.
    pub(super) fn adopt<G: Ground>(&mut self, line: &Line<'_, G>) {
        let len = line.best_len();
        let total = line.total_of(len);
        let as_good = total.value == self.total.value && within(&total.usage, &self.total.usage);
        if total.value > self.total.value || as_good {
            self.best = line.items().take(len).collect();
            self.total = total.clone();
        }
    }

    /// Makes moves for up to `work` placements beyond those that place the best order once. What they are follows from the
    /// numbers, a seed and a round, alone.
    pub(super) fn run<G: Ground>(
        &mut self,
        line: &mut Line<'_, G>,
        front: &mut Front,
        numbers: (u64, u32),
        work: u64,
    ) -> Result<(), G::Error> {
        self.resume(line, front)?;
        let (seed, round) = numbers;
        let (mut left, mut step) = (work, 0);
        while left > 0 {
            let variation = self.vary(&mut Draw::new(seed, round, step));
            step += 1;
            let spent = try_out(line, front, &variation, left)?;
            self.adopt(line);
            // A move that changes nothing is not for nothing, or there would be no end.
            left = left.saturating_sub(spent.max(1));
        }
        Ok(())
    }

    /// Places the best order. If it does not do here what it did, what is known is true elsewhere only.
    fn resume<G: Ground>(&mut self, line: &mut Line<'_, G>, front: &mut Front) -> Result<(), G::Error> {
        let mut same = true;
        for item in &self.best {
            same &= line.place(*item, front)?;
        }
        if same && *line.total() == self.total {
            return Ok(());
        }
        line.truncate(0);
        front.clear();
        for item in &self.best {
            line.place(*item, front)?;
        }
        self.best.clear();
        self.total = Gain::default();
        self.adopt(line);
        Ok(())
    }

    fn vary(&self, draw: &mut Draw) -> Variation {
        let mut positions = vec![None; self.neighbours.len()];
        for (position, item) in self.best.iter().enumerate() {
            positions[*item] = Some(position);
        }
        let out: Vec<usize> = (0..positions.len()).filter(|item| positions[*item].is_none()).collect();
        let mut order = self.best.clone();
        let mut retries = Vec::new();
        let changed = match draw.below(6) {
            // Put in.
            0 if !out.is_empty() => {
                let item = out[draw.below(out.len())];
                order.insert(position(draw, order.len() + 1), item);
                vec![item]
            }
            // Take the place of one that it conflicts with.
            1 if !out.is_empty() => {
                let item = out[draw.below(out.len())];
                match draw.one_of(&self.neighbours[item]).and_then(|other| positions[other]) {
                    Some(at) => retries.push(std::mem::replace(&mut order[at], item)),
                    None => order.insert(position(draw, order.len() + 1), item),
                }
                vec![item]
            }
            // Take out.
            2 if !order.is_empty() => vec![order.remove(position(draw, order.len()))],
            // Shift.
            3 if order.len() > 1 => {
                let item = order.remove(position(draw, order.len()));
                order.insert(position(draw, order.len() + 1), item);
                vec![item]
            }
            // Swap, if possible with one that it conflicts with.
            4 if order.len() > 1 => {
                let at = position(draw, order.len());
                let other = draw.one_of(&self.neighbours[order[at]]).and_then(|other| positions[other]);
                let other = other.unwrap_or_else(|| position(draw, order.len()));
                order.swap(at, other);
                vec![order[at], order[other]]
            }
            _ => self.mix_up(draw, &positions, &mut order),
        };
        // What a change may have cured.
        for item in &changed {
            let cured = self.neighbours[*item].iter().filter(|other| positions[**other].is_none() && !changed.contains(other));
            let open: Vec<usize> = cured.copied().collect();
            let from = if open.is_empty() { 0 } else { draw.below(open.len()) };
            for other in open.iter().cycle().skip(from).take(open.len()) {
                if retries.len() < MAX_RETRIES && !retries.contains(other) {
                    retries.push(*other);
                }
            }
        }
        Variation { order, retries }
    }

    /// Takes an item out and some that it conflicts with, and puts all of them in where the first stood, in another order.
    fn mix_up(&self, draw: &mut Draw, positions: &[Option<usize>], order: &mut Vec<usize>) -> Vec<usize> {
        let middle = draw.below(positions.len());
        let mut mixed = vec![middle];
        for _ in 0..=draw.below(MAX_MIXED) {
            if let Some(other) = draw.one_of(&self.neighbours[middle]).filter(|other| !mixed.contains(other)) {
                mixed.push(other);
            }
        }
        order.retain(|item| !mixed.contains(item));
        for last in (1..mixed.len()).rev() {
            mixed.swap(last, draw.below(last + 1));
        }
        let first = mixed.iter().filter_map(|item| positions[*item]).min();
        let at = first.unwrap_or_else(|| position(draw, order.len() + 1));
        order.splice(at..at, mixed.iter().copied());
        mixed
    }
}

/// A position below `end`, which is not zero.
fn position(draw: &mut Draw, end: usize) -> usize {
    if end <= LONG || draw.below(2) == 0 {
        return draw.below(end);
    }
    let span = 1_usize << draw.below(end.ilog2() as usize + 1);
    end - 1 - draw.below(span)
}

/// Places a variation of what stands on the ground. How many placements that took, `work` at most.
fn try_out<G: Ground>(line: &mut Line<'_, G>, front: &mut Front, variation: &Variation, work: u64) -> Result<u64, G::Error> {
    let same = line.items().zip(&variation.order).take_while(|(placed, item)| placed == *item).count();
    line.truncate(same);
    let mut left = work;
    let mut refused = Vec::new();
    for item in &variation.order[same..] {
        if left == 0 {
            return Ok(work);
        }
        left -= 1;
        if !line.place(*item, front)? {
            refused.push(*item);
        }
    }
    for item in refused.into_iter().chain(variation.retries.iter().copied()).take(MAX_RETRIES) {
        if left == 0 {
            break;
        }
        left -= 1;
        let (len, value) = (line.len(), line.total().value);
        if line.place(item, front)? && line.total().value < value {
            line.truncate(len);
        }
    }
    Ok(work - left)
}

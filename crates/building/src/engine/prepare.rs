//! Runs ahead of a fill: what the open blocks will most likely hold is run in parallel, group by group in the order of the fill,
//! so that the fill itself finds most of it done.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    binding::Key,
    entry::{Entries, Entry},
    ground::GroupGround,
    groups::Groups,
    rooms::Rooms,
};
use crate::{Lanes, SlotView, parallel::for_each, search::Ground};

/// How much of the room is run ahead for, in percent: what is expected to fit may not, and then others do.
const AHEAD_PERCENT: u128 = 104;

/// Likely bundles of a group that are run ahead as one.
const MAX_TOGETHER: usize = 32;

/// Runs ahead of filling `order` into these blocks, which stay as they are. How many entries will likely be in them.
pub(super) fn prepare(
    view: &SlotView,
    entries: &mut Entries,
    groups: &mut Groups<Key>,
    opened: &Lanes,
    order: &[usize],
) -> usize {
    let rooms = Rooms::new(opened, &opened.keys().copied().collect());
    let likely = likely(entries, &rooms, order);
    let mut chains: Vec<Vec<usize>> = Vec::new();
    let mut large: Vec<Vec<usize>> = Vec::new();
    // What has to do with messages moves counters that all of its kind share: it is run one after the other.
    let mut crossing: Vec<usize> = Vec::new();
    for members in groups.all() {
        match members {
            [single] => {
                if likely.contains(single) && entries.get(*single).is_some_and(Entry::crosses) {
                    crossing.push(*single);
                }
            }
            several => {
                let chain: Vec<usize> = several.iter().copied().filter(|index| likely.contains(index)).collect();
                match chain.len() {
                    0 | 1 => {}
                    2..=MAX_TOGETHER => chains.push(chain),
                    _ => large.push(chain),
                }
            }
        }
    }
    // A few bundles that span rollups tie much together that has nothing else in common. Each rollup's part is run apart, those
    // bundles in all of theirs: what one does on a rollup seldom depends on what came before it on another.
    for chain in &large {
        for of in opened.keys() {
            let on: Vec<usize> = chain
                .iter()
                .copied()
                .filter(|index| entries.get(*index).is_some_and(|entry| entry.rollups().contains(of)))
                .collect();
            chains.extend(groups.connected(&on, |(chain, _)| chain == of).into_iter().filter(|part| part.len() > 1));
        }
    }
    // The longest work begins first.
    chains.sort_by_key(|chain| std::cmp::Reverse(chain.len()));
    chains.insert(0, crossing);
    for chain in &mut chains {
        chain.sort_by(|a, b| entries.by_density(*a, *b));
    }
    let known = &*entries;
    let found = for_each(chains, opened, |lanes, chain| {
        let members: Vec<&Entry> = chain.iter().filter_map(|index| known.get(*index)).collect();
        let count = members.len();
        let mut ground = GroupGround::new(view, &rooms, lanes, members);
        // What it fails for the fill meets itself, if it comes that far.
        let _ = (0..count).try_for_each(|item| ground.place(item).map(|_| ()));
        (chain, ground.finish())
    });
    for (chain, found) in found {
        for (index, found) in chain.iter().zip(found) {
            if let Some(entry) = entries.get_mut(*index) {
                found.into_iter().for_each(|variant| entry.remember(Arc::clone(&variant)));
            }
        }
    }
    likely.len()
}

/// What will fit if everything takes what it takes alone.
fn likely(entries: &Entries, rooms: &Rooms, order: &[usize]) -> BTreeSet<usize> {
    let mut left: Vec<u128> = rooms.capacities().iter().map(|room| u128::from(*room) * AHEAD_PERCENT / 100).collect();
    let mut likely = BTreeSet::new();
    for index in order {
        let Some(gain) = entries.get(*index).and_then(|entry| entry.gain(rooms)) else { continue };
        if gain.usage.iter().all(|(dimension, used)| left.get(*dimension).is_some_and(|left| *left >= u128::from(*used))) {
            for (dimension, used) in &gain.usage {
                left[*dimension] -= u128::from(*used);
            }
            likely.insert(*index);
        }
    }
    likely
}

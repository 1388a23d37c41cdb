//! Improves what is held for a set of rollups: conflict groups are searched apart, and of what they yield the best is packed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy_primitives::I256;
use lockstep_primitives::RollupSet;

use super::{
    SearchLimits,
    binding::Key,
    entry::{Entries, Entry},
    ground::GroupGround,
    groups::Groups,
    rooms::Rooms,
};
use crate::{
    BuildError, Lanes, SlotView,
    packing::{Choice, GroupChoices, Packed, Packing, Settings as PackSettings},
    parallel::for_each,
    reuse::Variant,
    search::{Alternative, Gain, Item, Search, Settings},
};

/// Rounds of the search for prices, and nodes of the exact one, that a round of improvement may take.
const PACKING: PackSettings = PackSettings { rounds: 32, exact_nodes: 5_000, seed: 0 };

/// Groups of up to this many bundles are searched to the end without taking what each was worth elsewhere for a bound.
const UNPRUNED: usize = 6;

/// What a group gets of a round at the least, in placements.
const MIN_WORK: u64 = 16;

/// Groups of up to this many bundles are looked at pair by pair.
const MAX_PAIRED: usize = 64;

/// The searches of a set's groups, by the entries that each is about.
#[derive(Clone, Debug, Default)]
pub(super) struct Solver {
    searches: BTreeMap<Vec<usize>, Search>,
    /// What was packed last, of which choices.
    packing: Option<(Vec<GroupChoices>, Packing)>,
    /// The order that was last packed.
    pub(super) order: Vec<usize>,
    pub(super) bound: Option<I256>,
}

/// A group's search, as a thread has it.
struct Task<'a> {
    members: Vec<usize>,
    entries: Vec<&'a Entry>,
    search: Search,
    fresh: bool,
}

/// What a search came to.
struct Solved {
    members: Vec<usize>,
    search: Search,
    found: Vec<Vec<Arc<Variant>>>,
    open: bool,
}

impl Solver {
    /// Packs these choices, from what was packed before where there are as many groups.
    fn pack(&mut self, rooms: &Rooms, choices: Vec<GroupChoices>, seed: u64) -> Packed {
        let settings = PackSettings { seed, ..PACKING };
        match &mut self.packing {
            Some((before, packing)) if before.len() == choices.len() => {
                for (index, now) in choices.iter().enumerate().filter(|(index, now)| before.get(*index) != Some(*now)) {
                    packing.update(index, now);
                }
                packing.improve(&settings);
                *before = choices;
            }
            _ => self.packing = Some((choices.clone(), Packing::new(rooms.capacities(), &choices, &settings))),
        }
        self.packing.as_ref().map(|(_, packing)| packing.packed()).unwrap_or_default()
    }

    /// Forgets the searches that an entry has part in.
    pub(super) fn forget(&mut self, entry: usize) {
        self.searches.retain(|members, _| !members.contains(&entry));
    }

    /// One numbered round: every group is searched on, and packed anew. Whether another round could find more.
    pub(super) fn round(
        &mut self,
        view: &SlotView,
        entries: &mut Entries,
        groups: &mut Groups<Key>,
        (opened, rollups): (&Lanes, &RollupSet),
        (limits, round): (&SearchLimits, u32),
    ) -> Result<bool, BuildError> {
        let rooms = Rooms::new(opened, rollups);
        let within = |index: &usize| entries.get(*index).is_some_and(|entry| entry.rollups().is_subset(rollups));
        let parts: Vec<Vec<usize>> = groups
            .all()
            .into_iter()
            .map(|members| members.iter().copied().filter(|index| within(index)).collect::<Vec<usize>>())
            .filter(|members| !members.is_empty())
            .collect();
        // So few that they are searched to the end with all that they can do to each other, room included.
        let together = parts.iter().map(Vec::len).sum::<usize>() <= limits.exact_items;
        let parts = if together { vec![parts.into_iter().flatten().collect()] } else { parts };
        let (mut singles, mut several) = (Vec::new(), Vec::new());
        for members in parts {
            match members[..] {
                [] => {}
                [single] => singles.push(single),
                _ => several.push(members),
            }
        }
        let mut kept = std::mem::take(&mut self.searches);
        let tasks: Vec<Task<'_>> = several
            .into_iter()
            .map(|mut members| {
                members.sort_by(|a, b| entries.by_density(*a, *b));
                let own: Vec<&Entry> = members.iter().filter_map(|index| entries.get(*index)).collect();
                let known = kept.remove(&members);
                let fresh = known.is_none();
                let search = known.unwrap_or_else(|| search(&rooms, groups, &members, &own, together, limits));
                Task { members, entries: own, search, fresh }
            })
            .collect();
        let mut lanes = opened.clone();
        lanes.retain(|chain, _| rollups.contains(chain));
        // What a round may cost does not grow with the number of groups, as long as each gets anywhere.
        let work = (limits.round_work / tasks.len().max(1) as u64).max(MIN_WORK);
        let solved = for_each(tasks, &lanes, |lanes, task| {
            let Task { members, entries, mut search, fresh } = task;
            let mut ground = GroupGround::new(view, &rooms, lanes, entries);
            let searched = if fresh { search.start(&mut ground) } else { Ok(()) };
            let open = searched.and_then(|()| search.round(&mut ground, round, work));
            let found = ground.finish();
            open.map(|open| Solved { members, search, found, open })
        });
        let mut open = false;
        let mut done = Vec::with_capacity(solved.len());
        for solved in solved {
            let solved = solved?;
            open |= solved.open;
            for (index, found) in solved.members.iter().zip(&solved.found) {
                if let Some(entry) = entries.get_mut(*index) {
                    found.iter().for_each(|variant| entry.remember(Arc::clone(variant)));
                }
            }
            done.push(solved);
        }
        let alternatives = alternatives(entries, &rooms, &singles, &done)?;
        let choices: Vec<GroupChoices> = alternatives.iter().map(|group| choices(group)).collect();
        let packed = self.pack(&rooms, choices, u64::from(round));
        let mut chosen: Vec<&Alternative> =
            packed.chosen.iter().zip(&alternatives).filter_map(|(choice, group)| group.get((*choice)?)).collect();
        // What asks for much more than it uses goes first: at the end of a block there may be no room for what it asks.
        chosen.sort_by_key(|alternative| std::cmp::Reverse(headroom(entries, alternative)));
        self.order = chosen.iter().flat_map(|alternative| alternative.order.iter().copied()).collect();
        self.bound = bound(entries, &rooms, &singles, &done)?;
        self.searches = done.into_iter().map(|solved| (solved.members, solved.search)).collect();
        Ok(open)
    }
}

/// The search of a group. `together`: its members are all there is.
fn search(
    rooms: &Rooms,
    groups: &Groups<Key>,
    members: &[usize],
    own: &[&Entry],
    together: bool,
    limits: &SearchLimits,
) -> Search {
    let settings = Settings { exact_items: limits.exact_items, alternatives: limits.alternatives, seed: limits.seed };
    // Of all there is nothing is taken for granted: neither what it is worth elsewhere nor that any two do not mind each other.
    let items = own.iter().map(|entry| Item {
        estimate: entry.gain(rooms),
        most: if together || own.len() <= UNPRUNED { i128::MAX } else { entry.most() },
    });
    let mut conflicts = Vec::new();
    // Only small groups are searched so closely that it pays to know.
    let paired = if members.len() <= MAX_PAIRED { members } else { &[] };
    for (a, first) in paired.iter().enumerate() {
        for (b, second) in paired.iter().enumerate().skip(a + 1) {
            if together || groups.conflict(*first, *second) {
                conflicts.push((a, b));
            }
        }
    }
    Search::new(items.collect(), conflicts, settings)
}

/// The alternatives of every group, with the entries that they are about.
fn alternatives(
    entries: &Entries,
    rooms: &Rooms,
    singles: &[usize],
    done: &[Solved],
) -> Result<Vec<Vec<Alternative>>, BuildError> {
    let alone = singles.iter().filter_map(|index| {
        let Gain { value, usage } = entries.get(*index)?.gain(rooms)?;
        Some(vec![Alternative { order: vec![*index], value, usage }])
    });
    let together = done.iter().map(|solved| {
        let named = |alternative: &Alternative| Alternative {
            order: alternative.order.iter().filter_map(|item| solved.members.get(*item).copied()).collect(),
            ..alternative.clone()
        };
        solved.search.alternatives().iter().map(named).collect()
    });
    Ok(alone.chain(together).collect())
}

fn choices(alternatives: &[Alternative]) -> GroupChoices {
    let choice = |alternative: &Alternative| Choice { value: alternative.value, usage: alternative.usage.clone() };
    GroupChoices { choices: alternatives.iter().map(choice).collect(), slack: 0 }
}

/// The most by which what an alternative's last transaction asks for exceeds what it uses, roughly.
fn headroom(entries: &Entries, alternative: &Alternative) -> u64 {
    let asked = alternative.order.iter().filter_map(|index| entries.get(*index)).map(Entry::headroom);
    asked.max().unwrap_or_default()
}

/// A bound on what the set can be worth: groups that are searched to the end by what they yield, all others as if none of
/// their bundles were in the way of another.
fn bound(entries: &Entries, rooms: &Rooms, singles: &[usize], done: &[Solved]) -> Result<Option<I256>, BuildError> {
    let mut groups: Vec<GroupChoices> = Vec::new();
    let mut apart: BTreeSet<usize> = singles.iter().copied().collect();
    for solved in done {
        if solved.search.exact() {
            let choice = |alternative: &Alternative| Choice { value: alternative.value, usage: alternative.usage.clone() };
            groups.push(GroupChoices { choices: solved.search.alternatives().iter().map(choice).collect(), slack: 0 });
        } else {
            apart.extend(solved.members.iter().copied());
        }
    }
    for entry in apart.iter().filter_map(|index| entries.get(*index)) {
        let choice = Choice { value: entry.most(), usage: entry.least(rooms) };
        groups.push(GroupChoices { choices: vec![choice], slack: 0 });
    }
    let packed = Packing::new(rooms.capacities(), &groups, &PACKING).packed();
    (packed.bound < i128::MAX).then(|| I256::try_from(packed.bound)).transpose().map_err(|_| BuildError::Overflow)
}

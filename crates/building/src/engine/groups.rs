//! Conflict groups, kept while bundles come and go.
//!
//! Two members conflict over a key when one changes what the other depends on: a writer conflicts with everybody, one that
//! only adds with whoever reads, readers with each other never, nor do those who only add. So of a key's users either all hang
//! together or none do. A group is what conflicts connect.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::Hash,
};

use alloy_primitives::map::HashMap;
use lockstep_simulation::PartUse;

/// Members by how they use a key.
#[derive(Clone, Debug, Default)]
struct Users {
    reads: BTreeSet<usize>,
    adds: BTreeSet<usize>,
    writes: BTreeSet<usize>,
}

impl Users {
    fn of(&mut self, kind: PartUse) -> &mut BTreeSet<usize> {
        match kind {
            PartUse::Read => &mut self.reads,
            PartUse::Add => &mut self.adds,
            PartUse::Write => &mut self.writes,
        }
    }

    fn count(&self) -> usize {
        self.reads.len() + self.adds.len() + self.writes.len()
    }

    /// Whether the key's users hang together.
    fn binds(&self) -> bool {
        if self.writes.is_empty() { !self.reads.is_empty() && !self.adds.is_empty() } else { self.count() > 1 }
    }

    fn all(&self) -> impl Iterator<Item = usize> {
        self.reads.iter().chain(&self.adds).chain(&self.writes).copied()
    }
}

/// How a member uses its keys: each key once, by its strongest use.
type Uses<K> = BTreeMap<K, PartUse>;

/// Conflict groups of members that are named by small numbers.
#[derive(Clone, Debug)]
pub(super) struct Groups<K> {
    uses: Vec<Option<Uses<K>>>,
    keys: HashMap<K, Users>,
    /// The group of each member. Groups are named by numbers that mean nothing.
    group: Vec<usize>,
    groups: BTreeMap<usize, Vec<usize>>,
    /// Groups that may have fallen apart.
    loose: BTreeSet<usize>,
    next: usize,
}

impl<K: Copy + Ord + Hash> Groups<K> {
    pub(super) fn new() -> Self {
        Self {
            uses: Vec::new(),
            keys: HashMap::default(),
            group: Vec::new(),
            groups: BTreeMap::new(),
            loose: BTreeSet::new(),
            next: 0,
        }
    }

    /// Takes a member in. One that is known is taken out first.
    pub(super) fn insert(&mut self, member: usize, uses: impl IntoIterator<Item = (K, PartUse)>) {
        self.remove(member);
        let mut own = Uses::new();
        for (key, kind) in uses {
            let strongest = own.entry(key).or_insert(kind);
            // What both reads and adds depends on what was there.
            *strongest = if *strongest == kind { kind } else { PartUse::Write };
        }
        if self.uses.len() <= member {
            self.uses.resize_with(member + 1, || None);
            self.group.resize(member + 1, usize::MAX);
        }
        self.group[member] = self.next;
        self.groups.insert(self.next, vec![member]);
        self.next += 1;
        for (key, kind) in &own {
            self.join(member, *key, *kind);
        }
        self.uses[member] = Some(own);
    }

    /// Takes a member out. Whether it was there.
    pub(super) fn remove(&mut self, member: usize) -> bool {
        let Some(uses) = self.uses.get_mut(member).and_then(Option::take) else { return false };
        for (key, kind) in uses {
            self.part(member, key, kind);
        }
        let group = self.group[member];
        if let Some(members) = self.groups.get_mut(&group) {
            members.retain(|other| *other != member);
            if members.is_empty() {
                self.groups.remove(&group);
                self.loose.remove(&group);
            } else {
                self.loose.insert(group);
            }
        }
        true
    }

    /// The member does not depend on the key's value: what it does to it is only something added.
    pub(super) fn release(&mut self, member: usize, key: K) {
        let kind = match self.uses.get(member).and_then(Option::as_ref).and_then(|uses| uses.get(&key)) {
            None | Some(PartUse::Add) => return,
            Some(kind) => *kind,
        };
        self.part(member, key, kind);
        if let Some(uses) = self.uses.get_mut(member).and_then(Option::as_mut) {
            match kind {
                PartUse::Write => drop(uses.insert(key, PartUse::Add)),
                PartUse::Read | PartUse::Add => drop(uses.remove(&key)),
            }
        }
        self.loose.insert(self.group[member]);
        if kind == PartUse::Write {
            self.join(member, key, PartUse::Add);
        }
    }

    /// The member depends on the key's value after all, and changes it.
    pub(super) fn bind(&mut self, member: usize, key: K) {
        let Some(uses) = self.uses.get_mut(member).and_then(Option::as_mut) else { return };
        let before = uses.insert(key, PartUse::Write);
        if before == Some(PartUse::Write) {
            return;
        }
        if let Some(kind) = before {
            self.part(member, key, kind);
        }
        self.join(member, key, PartUse::Write);
    }

    /// Whether two members conflict.
    pub(super) fn conflict(&self, a: usize, b: usize) -> bool {
        let uses = |member: usize| self.uses.get(member).and_then(Option::as_ref);
        let (Some(a), Some(b)) = (uses(a), uses(b)) else { return false };
        let (few, many) = if a.len() < b.len() { (a, b) } else { (b, a) };
        few.iter().any(|(key, kind)| many.get(key).is_some_and(|other| kind != other || *kind == PartUse::Write))
    }

    /// The keys over which a member conflicts with others, each with one of them, the lowest.
    pub(super) fn conflicts_of(&self, member: usize) -> Vec<(K, usize)> {
        let uses = self.uses.get(member).and_then(Option::as_ref);
        let shared = uses.into_iter().flatten().filter_map(|(key, kind)| {
            let users = self.keys.get(key)?;
            let against: [&BTreeSet<usize>; 3] = match kind {
                PartUse::Write => [&users.writes, &users.reads, &users.adds],
                PartUse::Read => [&users.writes, &users.adds, &users.adds],
                PartUse::Add => [&users.writes, &users.reads, &users.reads],
            };
            let other = against.into_iter().filter_map(|set| set.iter().find(|other| **other != member)).min()?;
            Some((*key, *other))
        });
        shared.collect()
    }

    /// Every group, members rising, in the order of their lowest members.
    pub(super) fn all(&mut self) -> Vec<&[usize]> {
        self.settle();
        let mut all: Vec<&[usize]> = self.groups.values().map(Vec::as_slice).collect();
        all.sort_unstable_by_key(|members| members.first().copied());
        all
    }

    /// Whether any two members hang together.
    pub(super) fn bind_any(&mut self) -> bool {
        self.settle();
        self.groups.values().any(|members| members.len() > 1)
    }

    /// Divides the groups that fell apart.
    fn settle(&mut self) {
        for group in std::mem::take(&mut self.loose) {
            self.split(group);
        }
    }

    /// The keys over which a member hangs together with others.
    pub(super) fn binding(&self, member: usize) -> impl Iterator<Item = K> {
        let keys = self.uses.get(member).and_then(Option::as_ref).into_iter().flat_map(BTreeMap::keys);
        keys.filter(|key| self.keys.get(key).is_some_and(Users::binds)).copied()
    }

    fn join(&mut self, member: usize, key: K, kind: PartUse) {
        let users = self.keys.entry(key).or_default();
        let bound = users.binds();
        users.of(kind).insert(member);
        if !users.binds() {
            return;
        }
        // If they hung together before, one of them stands for all.
        let others: Vec<usize> = users.all().filter(|other| *other != member).take(if bound { 1 } else { usize::MAX }).collect();
        for other in others {
            self.merge(member, other);
        }
    }

    fn part(&mut self, member: usize, key: K, kind: PartUse) {
        if let Some(users) = self.keys.get_mut(&key) {
            users.of(kind).remove(&member);
            if users.count() == 0 {
                self.keys.remove(&key);
            }
        }
    }

    fn merge(&mut self, a: usize, b: usize) {
        let (a, b) = (self.group[a], self.group[b]);
        if a == b {
            return;
        }
        let size = |group: usize| self.groups.get(&group).map_or(0, Vec::len);
        let (into, from) = if size(a) >= size(b) { (a, b) } else { (b, a) };
        let moved = self.groups.remove(&from).unwrap_or_default();
        for member in &moved {
            self.group[*member] = into;
        }
        if self.loose.remove(&from) {
            self.loose.insert(into);
        }
        let members = self.groups.entry(into).or_default();
        if moved.len() < 8 {
            for member in moved {
                let position = members.partition_point(|other| *other < member);
                members.insert(position, member);
            }
        } else {
            members.extend(moved);
            members.sort_unstable();
        }
    }

    /// Divides a group into what conflicts still connect.
    fn split(&mut self, group: usize) {
        let Some(members) = self.groups.remove(&group) else { return };
        let mut open: BTreeSet<usize> = members.into_iter().collect();
        let mut seen: BTreeSet<K> = BTreeSet::new();
        while let Some(first) = open.pop_first() {
            let mut connected = vec![first];
            let mut reached = 0;
            while let Some(member) = connected.get(reached).copied() {
                reached += 1;
                for key in self.uses.get(member).and_then(Option::as_ref).into_iter().flat_map(BTreeMap::keys) {
                    let Some(users) = self.keys.get(key).filter(|users| users.binds()) else { continue };
                    if seen.insert(*key) {
                        connected.extend(users.all().filter(|other| open.remove(other)));
                    }
                }
            }
            connected.sort_unstable();
            for member in &connected {
                self.group[*member] = self.next;
            }
            self.groups.insert(self.next, connected);
            self.next += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Move {
        Insert(usize, Vec<(u8, PartUse)>),
        Remove(usize),
        Release(usize, u8),
        Bind(usize, u8),
        Ask,
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let kind = prop_oneof![Just(PartUse::Read), Just(PartUse::Add), Just(PartUse::Write)];
        let uses = prop::collection::vec((0_u8..8, kind), 0..4);
        let one = prop_oneof![
            5 => (0_usize..10, uses).prop_map(|(member, uses)| Move::Insert(member, uses)),
            2 => (0_usize..10).prop_map(Move::Remove),
            1 => (0_usize..10, 0_u8..8).prop_map(|(member, key)| Move::Release(member, key)),
            1 => (0_usize..10, 0_u8..8).prop_map(|(member, key)| Move::Bind(member, key)),
            2 => Just(Move::Ask),
        ];
        prop::collection::vec(one, 1..40)
    }

    /// Every pair looked at, again and again until nothing grows.
    fn plainly(groups: &Groups<u8>) -> Vec<Vec<usize>> {
        let members: Vec<usize> = (0..groups.uses.len()).filter(|member| groups.uses[*member].is_some()).collect();
        let mut of: BTreeMap<usize, usize> = members.iter().map(|member| (*member, *member)).collect();
        loop {
            let before = of.clone();
            for a in &members {
                for b in &members {
                    if groups.conflict(*a, *b) {
                        let low = of[a].min(of[b]);
                        of.insert(*a, low);
                        of.insert(*b, low);
                    }
                }
            }
            if of == before {
                break;
            }
        }
        let mut all: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (member, group) in of {
            all.entry(group).or_default().push(member);
        }
        all.into_values().collect()
    }

    proptest! {
        #[test]
        fn groups_are_what_conflicts_connect_whatever_came_and_went(moves in moves()) {
            let mut groups: Groups<u8> = Groups::new();
            for one in moves {
                match one {
                    Move::Insert(member, uses) => groups.insert(member, uses),
                    Move::Remove(member) => drop(groups.remove(member)),
                    Move::Release(member, key) => groups.release(member, key),
                    Move::Bind(member, key) => groups.bind(member, key),
                    Move::Ask => {
                        let expected = plainly(&groups);
                        prop_assert_eq!(groups.all(), expected.iter().map(Vec::as_slice).collect::<Vec<_>>());
                    }
                }
            }
            let expected = plainly(&groups);
            prop_assert_eq!(groups.all(), expected.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
    }

    #[test]
    fn who_only_adds_or_only_reads_conflicts_with_none_of_its_kind() {
        let mut groups: Groups<u8> = Groups::new();
        for member in 0..3 {
            groups.insert(member, [(0, PartUse::Add), (1, PartUse::Read)]);
        }
        assert_eq!(groups.all().len(), 3);
        groups.insert(3, [(0, PartUse::Read)]);
        assert_eq!(groups.all(), [&[0, 1, 2, 3][..]]);
        assert_eq!(groups.conflicts_of(3), [(0, 0)]);
        groups.release(3, 0);
        assert_eq!(groups.all().len(), 4);
    }
}

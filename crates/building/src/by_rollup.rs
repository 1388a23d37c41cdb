//! A value for each of a few rollups.

use lockstep_primitives::ChainId;
use smallvec::SmallVec;

/// A value for each of a few rollups, by chain id. Nearly always there are one or two, for which a map would take more room
/// than they do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByRollup<T>(SmallVec<[(ChainId, T); 1]>);

impl<T> Default for ByRollup<T> {
    fn default() -> Self {
        Self(SmallVec::new())
    }
}

impl<T> ByRollup<T> {
    /// The rollup's value.
    pub fn get(&self, chain: &ChainId) -> Option<&T> {
        let index = self.0.binary_search_by_key(chain, |(of, _)| *of).ok()?;
        self.0.get(index).map(|(_, value)| value)
    }

    /// Sets the rollup's value. What it was before.
    pub fn insert(&mut self, chain: ChainId, value: T) -> Option<T> {
        match self.0.binary_search_by_key(&chain, |(of, _)| *of) {
            Ok(index) => self.0.get_mut(index).map(|(_, before)| std::mem::replace(before, value)),
            Err(index) => {
                self.0.insert(index, (chain, value));
                None
            }
        }
    }

    /// All of them, by chain id.
    pub fn iter(&self) -> impl Iterator<Item = (&ChainId, &T)> {
        self.0.iter().map(|(chain, value)| (chain, value))
    }

    /// The rollups that have a value, rising.
    pub fn keys(&self) -> impl Iterator<Item = &ChainId> {
        self.0.iter().map(|(chain, _)| chain)
    }

    /// The values, by chain id.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, value)| value)
    }

    /// Whether no rollup has any.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a, T> IntoIterator for &'a ByRollup<T> {
    type Item = &'a (ChainId, T);
    type IntoIter = std::slice::Iter<'a, (ChainId, T)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

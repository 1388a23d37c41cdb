//! States that tell whether they were ever asked for a value that they could not give.
//!
//! The engine goes on without what it cannot read where that decides over nothing but how it searches. On a state that holds
//! everything it would search otherwise, so a slot is improved, and recorded, only as far as nothing was missing.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use alloy_primitives::{Address, B256, U256};
use lockstep_building::SlotView;
use lockstep_primitives::{ChainId, RollupSet};
use lockstep_simulation::{Account, Code, StateError, StateView};

/// A state that answers as the one below it does and counts what it does not answer.
#[derive(Debug)]
struct CountedView {
    below: Arc<dyn StateView>,
    unanswered: Arc<AtomicU64>,
}

impl CountedView {
    fn counted<T>(&self, answer: Result<T, StateError>) -> Result<T, StateError> {
        if answer.is_err() {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }
}

impl StateView for CountedView {
    fn account(&self, address: Address) -> Result<Option<Account>, StateError> {
        self.counted(self.below.account(address))
    }

    fn code(&self, hash: B256) -> Result<Code, StateError> {
        self.counted(self.below.code(hash))
    }

    fn storage(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        self.counted(self.below.storage(address, slot))
    }

    fn block_hash(&self, number: u64) -> Result<B256, StateError> {
        self.counted(self.below.block_hash(number))
    }
}

/// How often states had not answered at some time, by rollup.
#[derive(Debug)]
pub(super) struct Counts(BTreeMap<ChainId, u64>);

/// How often the states of a slot did not answer, by rollup.
#[derive(Clone, Debug, Default)]
pub(super) struct Holes(BTreeMap<ChainId, Arc<AtomicU64>>);

impl Holes {
    /// Counts from here on what the states of a slot do not answer.
    pub(super) fn of(view: &mut SlotView) -> Self {
        let mut holes = BTreeMap::new();
        for (chain, rollup) in &mut view.rollups {
            let unanswered = Arc::new(AtomicU64::new(0));
            let slot = Arc::make_mut(&mut rollup.slot);
            slot.state = Arc::new(CountedView { below: Arc::clone(&slot.state), unanswered: Arc::clone(&unanswered) });
            holes.insert(*chain, unanswered);
        }
        Self(holes)
    }

    /// The rollups whose states did not answer since the last call.
    pub(super) fn take(&self) -> RollupSet {
        let found = self.0.iter().filter(|(_, unanswered)| unanswered.swap(0, Ordering::Relaxed) > 0);
        found.map(|(chain, _)| *chain).collect()
    }

    /// How often which state did not answer since [`Holes::take`] was last called.
    pub(super) fn counts(&self) -> Counts {
        Counts(self.0.iter().map(|(chain, unanswered)| (*chain, unanswered.load(Ordering::Relaxed))).collect())
    }

    /// Forgets what was not answered after that was counted, and nothing of what was not answered before.
    pub(super) fn forget_since(&self, Counts(before): &Counts) {
        for (chain, unanswered) in &self.0 {
            unanswered.store(before.get(chain).copied().unwrap_or_default(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use lockstep_simulation::{MemoryState, StateKey};

    use super::*;

    /// A state that lacks everything.
    #[derive(Debug)]
    struct Nothing;

    impl StateView for Nothing {
        fn account(&self, address: Address) -> Result<Option<Account>, StateError> {
            Err(StateError::Missing(StateKey::Account(address)))
        }

        fn code(&self, hash: B256) -> Result<Code, StateError> {
            Err(StateError::Missing(StateKey::Code(hash)))
        }

        fn storage(&self, address: Address, slot: U256) -> Result<U256, StateError> {
            Err(StateError::Missing(StateKey::Storage(address, slot)))
        }

        fn block_hash(&self, number: u64) -> Result<B256, StateError> {
            Err(StateError::Missing(StateKey::BlockHash(number)))
        }
    }

    #[test]
    fn what_is_not_answered_is_counted_once_and_what_is_answered_never() {
        let unanswered = Arc::new(AtomicU64::new(0));
        let over = |below: Arc<dyn StateView>| CountedView { below, unanswered: Arc::clone(&unanswered) };
        let holes = Holes([(901, Arc::clone(&unanswered))].into());
        let (whole, empty) = (over(Arc::new(MemoryState::new())), over(Arc::new(Nothing)));
        assert!(whole.account(Address::ZERO).is_ok() && whole.storage(Address::ZERO, U256::ZERO).is_ok());
        assert!(holes.take().is_empty());
        assert!(empty.account(Address::ZERO).is_err());
        assert!(empty.code(B256::ZERO).is_err());
        assert!(empty.storage(Address::ZERO, U256::ZERO).is_err());
        assert!(empty.block_hash(1).is_err());
        assert_eq!(unanswered.load(Ordering::Relaxed), 4);
        assert_eq!(holes.take(), RollupSet::from([901]));
        assert!(holes.take().is_empty(), "told once");
    }

    #[test]
    fn what_is_forgotten_is_what_was_not_answered_after_it_was_counted() {
        let unanswered = Arc::new(AtomicU64::new(0));
        let empty = CountedView { below: Arc::new(Nothing), unanswered: Arc::clone(&unanswered) };
        let holes = Holes([(901, unanswered)].into());
        let none = holes.counts();
        assert!(empty.account(Address::ZERO).is_err());
        let one = holes.counts();
        assert!(empty.account(Address::ZERO).is_err());
        holes.forget_since(&one);
        assert_eq!(holes.take(), RollupSet::from([901]), "what was missing before stays");
        assert!(empty.account(Address::ZERO).is_err());
        holes.forget_since(&none);
        assert!(holes.take().is_empty());
    }
}

//! A state that remembers what was read of it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use alloy_primitives::{Address, B256, U256};

use crate::{Account, Code, StateError, StateKey, StateView};

/// A state that answers as the one below it does and remembers every value that was asked for, answered or not.
///
/// What executed blocks read bounds it: each value costs them gas.
#[derive(Debug)]
pub struct TracedView {
    below: Arc<dyn StateView>,
    read: Mutex<BTreeSet<StateKey>>,
}

impl TracedView {
    /// Nothing read yet.
    pub fn new(below: Arc<dyn StateView>) -> Self {
        Self { below, read: Mutex::default() }
    }

    /// The values that were read so far.
    pub fn keys(&self) -> BTreeSet<StateKey> {
        self.read().clone()
    }

    /// The values that were read since the last call, which are forgotten.
    pub fn take(&self) -> BTreeSet<StateKey> {
        std::mem::take(&mut *self.read())
    }

    /// A set of keys is whole after a panic elsewhere, too.
    fn read(&self) -> MutexGuard<'_, BTreeSet<StateKey>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateView for TracedView {
    fn account(&self, address: Address) -> Result<Option<Account>, StateError> {
        self.read().insert(StateKey::Account(address));
        self.below.account(address)
    }

    fn code(&self, hash: B256) -> Result<Code, StateError> {
        self.read().insert(StateKey::Code(hash));
        self.below.code(hash)
    }

    fn storage(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        self.read().insert(StateKey::Storage(address, slot));
        self.below.storage(address, slot)
    }

    fn block_hash(&self, number: u64) -> Result<B256, StateError> {
        self.read().insert(StateKey::BlockHash(number));
        self.below.block_hash(number)
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::Bytes;

    use super::*;
    use crate::MemoryState;

    #[test]
    fn every_read_is_remembered_once_whatever_it_answers() {
        let somebody = Address::repeat_byte(1);
        let mut state = MemoryState::new();
        state.set_account(somebody, U256::from(5), 0, Bytes::from_static(&[0x00]));
        let traced = TracedView::new(Arc::new(state));
        let account = traced.account(somebody).unwrap().unwrap();
        assert_eq!(account.balance, U256::from(5));
        assert!(traced.code(account.code_hash).is_ok());
        assert!(traced.code(B256::ZERO).is_err(), "the state below does not have it");
        assert_eq!(traced.storage(somebody, U256::from(7)), Ok(U256::ZERO));
        assert_eq!(traced.storage(somebody, U256::from(7)), Ok(U256::ZERO));
        assert_eq!(traced.block_hash(3), Ok(B256::ZERO));
        let expected = BTreeSet::from([
            StateKey::Account(somebody),
            StateKey::Code(account.code_hash),
            StateKey::Code(B256::ZERO),
            StateKey::Storage(somebody, U256::from(7)),
            StateKey::BlockHash(3),
        ]);
        assert_eq!(traced.keys(), expected);
        assert_eq!(traced.take(), expected);
        assert!(traced.keys().is_empty());
    }
}

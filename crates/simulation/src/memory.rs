//! A whole state in memory: genesis, recorded prestates, the embedded rollup.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};

use crate::{Account, Code, StateChanges, StateError, StateView};

/// A state that knows every value: what it does not hold does not exist.
#[derive(Clone, Debug, Default)]
pub struct MemoryState {
    accounts: BTreeMap<Address, Account>,
    storage: BTreeMap<Address, BTreeMap<U256, U256>>,
    code: BTreeMap<B256, Code>,
    block_hashes: BTreeMap<u64, B256>,
}

impl MemoryState {
    /// An empty state.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets an account's balance and nonce, and its code when there is any.
    pub fn set_account(&mut self, address: Address, balance: U256, nonce: u64, code: Bytes) {
        let code_hash = self.add_code(code);
        self.accounts.insert(address, Account { balance, nonce, code_hash });
    }

    /// Sets a storage slot; zero removes it.
    pub fn set_storage(&mut self, address: Address, slot: U256, value: U256) {
        let slots = self.storage.entry(address).or_default();
        if value.is_zero() {
            slots.remove(&slot);
        } else {
            slots.insert(slot, value);
        }
    }

    /// Records the hash of a block for `BLOCKHASH`.
    pub fn set_block_hash(&mut self, number: u64, hash: B256) {
        self.block_hashes.insert(number, hash);
        // The opcode reaches back 256 blocks.
        while self.block_hashes.len() > 257 {
            self.block_hashes.pop_first();
        }
    }

    /// Applies what a block changed.
    pub fn apply(&mut self, changes: &StateChanges) {
        for (hash, code) in &changes.code {
            self.code.insert(*hash, code.clone());
        }
        for (address, change) in &changes.accounts {
            if change.storage_cleared {
                self.storage.remove(address);
            }
            for (slot, value) in &change.storage {
                self.set_storage(*address, *slot, *value);
            }
            match change.account {
                Some(Some(account)) => {
                    self.accounts.insert(*address, account);
                }
                Some(None) => {
                    self.accounts.remove(address);
                }
                None => {}
            }
        }
    }

    /// All accounts in the order of their addresses.
    pub fn iter(&self) -> impl Iterator<Item = (Address, &Account)> {
        self.accounts.iter().map(|(address, account)| (*address, account))
    }

    /// The slots of an account that are not zero, in order.
    pub fn slots_of(&self, address: Address) -> impl Iterator<Item = (U256, U256)> {
        self.storage.get(&address).into_iter().flatten().map(|(slot, value)| (*slot, *value))
    }

    /// The code of an account; `None` for one without.
    pub fn code_of(&self, address: Address) -> Option<&Code> {
        let account = self.accounts.get(&address).filter(|account| account.has_code())?;
        self.code.get(&account.code_hash)
    }

    /// The recorded hashes of blocks by number, in order.
    pub fn block_hashes(&self) -> impl Iterator<Item = (u64, B256)> {
        self.block_hashes.iter().map(|(number, hash)| (*number, *hash))
    }

    /// The root of an account's storage trie.
    pub fn storage_root(&self, address: Address) -> B256 {
        self.storage.get(&address).map_or(alloy_trie::EMPTY_ROOT_HASH, |slots| {
            alloy_trie::root::storage_root_unhashed(slots.iter().map(|(slot, value)| (B256::from(*slot), *value)))
        })
    }

    /// The state root: the root hash of the Merkle-Patricia trie over all accounts.
    pub fn root(&self) -> B256 {
        alloy_trie::root::state_root_unhashed(self.iter().map(|(address, account)| {
            let storage_root = self.storage_root(address);
            let trie_account = alloy_trie::TrieAccount {
                nonce: account.nonce,
                balance: account.balance,
                storage_root,
                code_hash: account.code_hash,
            };
            (address, trie_account)
        }))
    }

    fn add_code(&mut self, code: Bytes) -> B256 {
        if code.is_empty() {
            return Account::default().code_hash;
        }
        let hash = keccak256(&code);
        self.code.insert(hash, Code::new_raw(code));
        hash
    }
}

impl StateView for MemoryState {
    fn account(&self, address: Address) -> Result<Option<Account>, StateError> {
        Ok(self.accounts.get(&address).copied())
    }

    fn code(&self, hash: B256) -> Result<Code, StateError> {
        self.code.get(&hash).cloned().ok_or_else(|| StateError::Broken(format!("no code with hash {hash}")))
    }

    fn storage(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        Ok(self.storage.get(&address).and_then(|slots| slots.get(&slot)).copied().unwrap_or_default())
    }

    fn block_hash(&self, number: u64) -> Result<B256, StateError> {
        Ok(self.block_hashes.get(&number).copied().unwrap_or_default())
    }
}

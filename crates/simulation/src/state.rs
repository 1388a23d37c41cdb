//! The read-only state that blocks are built on.

use std::fmt;

use alloy_primitives::{Address, B256, KECCAK256_EMPTY, U256};

/// Analysed contract code.
pub use revm::state::Bytecode as Code;

/// An account without its storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// In wei.
    pub balance: U256,
    /// Transactions sent, or contracts created.
    pub nonce: u64,
    /// Keccak-256 of the code; that of the empty string for none.
    pub code_hash: B256,
}

impl Default for Account {
    fn default() -> Self {
        Self { balance: U256::ZERO, nonce: 0, code_hash: KECCAK256_EMPTY }
    }
}

impl Account {
    /// Whether the account is empty (EIP-161) and so does not exist in the trie.
    pub fn is_empty(&self) -> bool {
        self.balance.is_zero() && self.nonce == 0 && self.code_hash == KECCAK256_EMPTY
    }

    /// Whether the account has code.
    pub fn has_code(&self) -> bool {
        self.code_hash != KECCAK256_EMPTY
    }
}

/// One value of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StateKey {
    /// Balance, nonce and code hash of an account.
    Account(Address),
    /// Code by its hash.
    Code(B256),
    /// A storage slot.
    Storage(Address, U256),
    /// The hash of a block by its number.
    BlockHash(u64),
}

/// Why a value could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateError {
    /// The value is not here yet: fetch it and try again.
    Missing(StateKey),
    /// The state cannot be read at all.
    Broken(String),
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(key) => write!(f, "the state does not hold {key:?}"),
            Self::Broken(cause) => write!(f, "the state cannot be read: {cause}"),
        }
    }
}

impl std::error::Error for StateError {}

impl revm::database_interface::DBErrorMarker for StateError {}

/// A rollup's state after some block. Shared by all threads, never changed.
pub trait StateView: Send + Sync + fmt::Debug {
    /// The account, or `None` when it does not exist.
    ///
    /// # Errors
    /// [`StateError::Missing`] when the value has to be fetched first.
    fn account(&self, address: Address) -> Result<Option<Account>, StateError>;

    /// The code with that hash.
    ///
    /// # Errors
    /// As [`StateView::account`].
    fn code(&self, hash: B256) -> Result<Code, StateError>;

    /// A storage slot; zero when it was never written.
    ///
    /// # Errors
    /// As [`StateView::account`].
    fn storage(&self, address: Address, slot: U256) -> Result<U256, StateError>;

    /// The hash of block `number`.
    ///
    /// # Errors
    /// As [`StateView::account`].
    fn block_hash(&self, number: u64) -> Result<B256, StateError>;
}

//! The state that an execution reads, as files hold it.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    path::Path,
    sync::Arc,
};

use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, address, keccak256};
use lockstep_simulation::{Account, Code, MemoryState, StateError, StateKey, StateView};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    RecordedError,
    files::{json, read_json, read_json_if_any},
};

/// The file of accounts and storage, in the shape of geth's prestate tracer.
pub(super) const PRESTATE: &str = "prestate.json";
/// The file of block hashes by number, for `BLOCKHASH`; only there when one was read.
pub(super) const BLOCK_HASHES: &str = "block_hashes.json";

/// The OP stack's vaults: base fee, sequencer fee, L1 data fee and operator fee. Every transaction credits them without
/// touching them, so a tracer tells of them too late, or not at all.
const FEE_VAULTS: [Address; 4] = [
    address!("4200000000000000000000000000000000000011"),
    address!("4200000000000000000000000000000000000019"),
    address!("420000000000000000000000000000000000001A"),
    address!("420000000000000000000000000000000000001B"),
];

/// The values of a state that an execution reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prestate {
    accounts: BTreeMap<Address, AccountFile>,
    block_hashes: BTreeMap<u64, B256>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct AccountFile {
    #[serde(default)]
    balance: U256,
    #[serde(default, deserialize_with = "number_or_quantity")]
    nonce: u64,
    #[serde(default, skip_serializing_if = "is_empty")]
    code: Bytes,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    storage: BTreeMap<B256, B256>,
}

fn is_empty(code: &Bytes) -> bool {
    code.is_empty()
}

/// What the prestate tracer says of one transaction.
#[derive(Deserialize)]
struct TraceFile {
    result: Option<BTreeMap<Address, AccountFile>>,
    error: Option<String>,
}

/// geth writes the nonce as a JSON number, other nodes as a hex quantity.
fn number_or_quantity<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Quantity(alloy_primitives::U64),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::Number(number) => number,
        Either::Quantity(quantity) => quantity.to(),
    })
}

impl AccountFile {
    /// The account, or `None` when it does not exist (EIP-161).
    fn account(&self) -> Option<Account> {
        let code_hash = if self.code.is_empty() { KECCAK256_EMPTY } else { keccak256(&self.code) };
        Some(Account { balance: self.balance, nonce: self.nonce, code_hash }).filter(|account| !account.is_empty())
    }

    /// Its analysed code; `None` when it has none.
    fn analysed(&self, address: Address) -> Result<Option<Code>, RecordedError> {
        if self.code.is_empty() {
            return Ok(None);
        }
        Code::new_raw_checked(self.code.clone())
            .map(Some)
            .map_err(|error| RecordedError::Code { address, cause: error.to_string() })
    }
}

impl Prestate {
    /// Reads `prestate.json` and, where it is there, `block_hashes.json` from a folder.
    ///
    /// # Errors
    /// When a file is malformed, or the first is absent.
    pub fn read(folder: &Path) -> Result<Self, RecordedError> {
        let accounts = read_json(folder, PRESTATE)?;
        let block_hashes = read_json_if_any(folder, BLOCK_HASHES)?.unwrap_or_default();
        Ok(Self { accounts, block_hashes })
    }

    /// Merges what `debug_traceBlockByHash` answers with the prestate tracer. Each transaction's trace is the state before
    /// that transaction, so what is named first is the state before the block. The OP stack's fee vaults are left out: they
    /// have to be read from the parent's state.
    ///
    /// # Errors
    /// When the answer has another shape, or the node could not trace a transaction.
    pub fn from_traces(traces: Value) -> Result<Self, RecordedError> {
        let malformed = |cause: String| RecordedError::Unreadable { file: "the tracer's answer", cause };
        let traces: Vec<TraceFile> = serde_json::from_value(traces).map_err(|error| malformed(error.to_string()))?;
        let mut accounts: BTreeMap<Address, AccountFile> = BTreeMap::new();
        for (index, trace) in traces.into_iter().enumerate() {
            let Some(result) = trace.result else {
                return Err(malformed(format!("transaction {index}: {}", trace.error.unwrap_or_default())));
            };
            for (address, account) in result {
                match accounts.entry(address) {
                    Entry::Vacant(entry) => {
                        entry.insert(account);
                    }
                    Entry::Occupied(mut entry) => {
                        for (slot, value) in account.storage {
                            entry.get_mut().storage.entry(slot).or_insert(value);
                        }
                    }
                }
            }
        }
        accounts.retain(|address, _| !FEE_VAULTS.contains(address));
        Ok(Self { accounts, block_hashes: BTreeMap::new() })
    }

    /// The values of `keys` in a state. Code comes with its account; accounts that do not exist are left out.
    ///
    /// # Errors
    /// When a value is missing or cannot be read.
    pub fn of(state: &dyn StateView, keys: &BTreeSet<StateKey>) -> Result<Self, StateError> {
        let mut prestate = Self::default();
        for key in keys {
            match *key {
                StateKey::Account(address) => {
                    let Some(account) = state.account(address)? else { continue };
                    let entry = prestate.accounts.entry(address).or_default();
                    entry.balance = account.balance;
                    entry.nonce = account.nonce;
                    if account.has_code() {
                        entry.code = state.code(account.code_hash)?.original_bytes();
                    }
                }
                StateKey::Storage(address, slot) => {
                    let value = state.storage(address, slot)?;
                    let storage = &mut prestate.accounts.entry(address).or_default().storage;
                    storage.insert(B256::from(slot), B256::from(value));
                }
                StateKey::BlockHash(number) => {
                    prestate.block_hashes.insert(number, state.block_hash(number)?);
                }
                StateKey::Code(_) => {}
            }
        }
        Ok(prestate)
    }

    /// Takes a block hash out that a header tells already.
    pub fn forget_block_hash(&mut self, number: u64) {
        self.block_hashes.remove(&number);
    }

    /// The state that holds these values and no others.
    ///
    /// # Errors
    /// When an account's code is malformed.
    pub fn state(&self) -> Result<MemoryState, RecordedError> {
        let mut state = MemoryState::new();
        for (address, account) in &self.accounts {
            account.analysed(*address)?;
            if account.account().is_some() {
                state.set_account(*address, account.balance, account.nonce, account.code.clone());
            }
            for (slot, value) in &account.storage {
                state.set_storage(*address, (*slot).into(), (*value).into());
            }
        }
        for (number, hash) in &self.block_hashes {
            state.set_block_hash(*number, *hash);
        }
        Ok(state)
    }

    /// The files that hold it, by name, for a folder that [`Prestate::read`] reads.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn files(&self) -> Result<Vec<(String, Vec<u8>)>, RecordedError> {
        let mut files = vec![(PRESTATE.to_owned(), json(PRESTATE, &self.accounts)?)];
        if !self.block_hashes.is_empty() {
            files.push((BLOCK_HASHES.to_owned(), json(BLOCK_HASHES, &self.block_hashes)?));
        }
        Ok(files)
    }
}

/// A state of which some values are told already; the others are those of the state below.
#[derive(Debug)]
pub(super) struct Told {
    accounts: BTreeMap<Address, Option<Account>>,
    storage: BTreeMap<(Address, U256), U256>,
    code: BTreeMap<B256, Code>,
    below: Arc<dyn StateView>,
}

impl Told {
    /// # Errors
    /// When a code is malformed.
    pub(super) fn new(prestate: &Prestate, below: Arc<dyn StateView>) -> Result<Self, RecordedError> {
        let mut told = Self { accounts: BTreeMap::new(), storage: BTreeMap::new(), code: BTreeMap::new(), below };
        for (address, file) in &prestate.accounts {
            let account = file.account();
            if let (Some(account), Some(code)) = (account, file.analysed(*address)?) {
                told.code.insert(account.code_hash, code);
            }
            told.accounts.insert(*address, account);
            for (slot, value) in &file.storage {
                told.storage.insert((*address, (*slot).into()), (*value).into());
            }
        }
        Ok(told)
    }
}

impl StateView for Told {
    fn account(&self, address: Address) -> Result<Option<Account>, StateError> {
        self.accounts.get(&address).map_or_else(|| self.below.account(address), |account| Ok(*account))
    }

    fn code(&self, hash: B256) -> Result<Code, StateError> {
        self.code.get(&hash).map_or_else(|| self.below.code(hash), |code| Ok(code.clone()))
    }

    fn storage(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        self.storage.get(&(address, slot)).map_or_else(|| self.below.storage(address, slot), |value| Ok(*value))
    }

    fn block_hash(&self, number: u64) -> Result<B256, StateError> {
        self.below.block_hash(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const A: Address = Address::repeat_byte(0xaa);
    const B: Address = Address::repeat_byte(0xbb);

    fn word(value: u64) -> B256 {
        B256::from(U256::from(value))
    }

    #[test]
    fn what_a_trace_names_first_is_the_state_before_the_block() {
        let (one, two) = (word(1).to_string(), word(2).to_string());
        let first = json!({ A.to_string(): { "balance": "0x5", "storage": { one.as_str(): word(10) } } });
        let second = json!({
            A.to_string(): { "balance": "0x4", "nonce": 1, "storage": { one.as_str(): word(11), two.as_str(): word(20) } },
            B.to_string(): { "balance": "0x1", "nonce": "0x2" },
            FEE_VAULTS[1].to_string(): { "balance": "0x77" },
        });
        let traces = json!([{ "txHash": word(1), "result": first }, { "txHash": word(2), "result": second }]);
        let state = Prestate::from_traces(traces).unwrap().state().unwrap();
        assert_eq!(state.account(A).unwrap().unwrap().balance, U256::from(5));
        assert_eq!(state.account(A).unwrap().unwrap().nonce, 0);
        assert_eq!(state.storage(A, U256::from(1)).unwrap(), U256::from(10));
        assert_eq!(state.storage(A, U256::from(2)).unwrap(), U256::from(20));
        assert_eq!(state.account(B).unwrap().unwrap().nonce, 2);
        assert_eq!(state.account(FEE_VAULTS[1]).unwrap(), None, "vaults are read from the parent's state");
    }

    #[test]
    fn a_transaction_that_could_not_be_traced_is_named() {
        let error = Prestate::from_traces(json!([{ "error": "execution timeout" }])).unwrap_err();
        assert!(error.to_string().contains("transaction 0: execution timeout"), "{error}");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut state = MemoryState::new();
        state.set_account(A, U256::from(7), 3, Bytes::from_static(&[0x60, 0x00]));
        state.set_storage(A, U256::from(1), U256::from(2));
        state.set_block_hash(9, word(99));
        let keys = BTreeSet::from([
            StateKey::Account(A),
            StateKey::Account(B),
            StateKey::Storage(A, U256::from(1)),
            StateKey::Storage(B, U256::from(5)),
            StateKey::BlockHash(9),
        ]);
        let prestate = Prestate::of(&state, &keys).unwrap();
        let folder = folder();
        for (name, bytes) in prestate.files().unwrap() {
            std::fs::write(folder.join(name), bytes).unwrap();
        }
        let read = Prestate::read(&folder).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(read, prestate);
        let again = read.state().unwrap();
        assert_eq!(again.account(A).unwrap(), state.account(A).unwrap());
        assert_eq!(again.account(B).unwrap(), None);
        assert_eq!(again.block_hash(9).unwrap(), word(99));
    }

    #[test]
    fn malformed_code_is_an_error_and_no_panic() {
        // EIP-7702 designators are 23 bytes long.
        let traces = json!([{ "result": { A.to_string(): { "code": "0xef0100" } } }]);
        let error = Prestate::from_traces(traces).unwrap().state().unwrap_err();
        assert!(matches!(error, RecordedError::Code { address: A, .. }), "{error}");
    }

    fn folder() -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("lockstep-prestate-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }
}

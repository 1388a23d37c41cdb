//! State that a call pretends to find.

use std::{collections::BTreeMap, sync::Arc};

use alloy::rpc::types::state::AccountOverride;
use alloy_primitives::{Address, B256, KECCAK256_EMPTY, U256, keccak256};
use jsonrpsee::core::RpcResult;
use lockstep_simulation::{Account, Code, MemoryState, StateError, StateView};

use super::errors::invalid_params;

/// A state with some of its values replaced.
#[derive(Debug)]
pub(crate) struct Overridden {
    base: Arc<MemoryState>,
    accounts: BTreeMap<Address, Patch>,
    code: BTreeMap<B256, Code>,
}

#[derive(Debug)]
struct Patch {
    balance: Option<U256>,
    nonce: Option<u64>,
    code_hash: Option<B256>,
    storage: BTreeMap<U256, U256>,
    /// Whether slots that are not in `storage` are zero, instead of what they are in the state below.
    storage_replaced: bool,
}

impl Overridden {
    /// # Errors
    /// When an override contradicts itself or is not supported.
    pub(crate) fn new(base: Arc<MemoryState>, overrides: BTreeMap<Address, AccountOverride>) -> RpcResult<Self> {
        let mut state = Self { base, accounts: BTreeMap::new(), code: BTreeMap::new() };
        for (address, account) in overrides {
            let refusal = |text: &str| invalid_params(format!("stateOverrides: {address}: {text}"));
            if account.move_precompile_to.is_some() {
                return Err(refusal("movePrecompileToAddress is not supported"));
            }
            if account.state.is_some() && account.state_diff.is_some() {
                return Err(refusal("both state and stateDiff are given"));
            }
            let code_hash = match account.code {
                None => None,
                Some(code) if code.is_empty() => Some(KECCAK256_EMPTY),
                Some(code) => {
                    let hash = keccak256(&code);
                    let code = Code::new_raw_checked(code).map_err(|error| refusal(&format!("code: {error}")))?;
                    state.code.insert(hash, code);
                    Some(hash)
                }
            };
            let storage_replaced = account.state.is_some();
            let slots = account.state.or(account.state_diff).unwrap_or_default();
            let storage =
                slots.into_iter().map(|(slot, value)| (U256::from_be_bytes(slot.0), U256::from_be_bytes(value.0))).collect();
            let patch = Patch { balance: account.balance, nonce: account.nonce, code_hash, storage, storage_replaced };
            state.accounts.insert(address, patch);
        }
        Ok(state)
    }
}

impl StateView for Overridden {
    fn account(&self, address: Address) -> Result<Option<Account>, StateError> {
        let account = self.base.account(address)?;
        let Some(patch) = self.accounts.get(&address) else { return Ok(account) };
        let account = account.unwrap_or_default();
        Ok(Some(Account {
            balance: patch.balance.unwrap_or(account.balance),
            nonce: patch.nonce.unwrap_or(account.nonce),
            code_hash: patch.code_hash.unwrap_or(account.code_hash),
        }))
    }

    fn code(&self, hash: B256) -> Result<Code, StateError> {
        match self.code.get(&hash) {
            Some(code) => Ok(code.clone()),
            None => self.base.code(hash),
        }
    }

    fn storage(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        if let Some(patch) = self.accounts.get(&address) {
            if let Some(value) = patch.storage.get(&slot) {
                return Ok(*value);
            }
            if patch.storage_replaced {
                return Ok(U256::ZERO);
            }
        }
        self.base.storage(address, slot)
    }

    fn block_hash(&self, number: u64) -> Result<B256, StateError> {
        self.base.block_hash(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::Bytes;
    use serde_json::{Value, json};

    const TOKEN: Address = Address::with_last_byte(1);

    fn overridden(account: Value) -> RpcResult<Overridden> {
        let mut base = MemoryState::new();
        base.set_account(TOKEN, U256::from(5), 1, Bytes::from_static(&[0x00]));
        base.set_storage(TOKEN, U256::from(1), U256::from(11));
        base.set_storage(TOKEN, U256::from(2), U256::from(22));
        let overrides = serde_json::from_value(json!({ TOKEN.to_string(): account })).unwrap();
        Overridden::new(Arc::new(base), overrides)
    }

    #[test]
    fn a_diff_keeps_other_slots_and_a_state_does_not() {
        let slot = B256::with_last_byte(1).to_string();
        let value = B256::with_last_byte(9).to_string();
        let diff = overridden(json!({ "stateDiff": { slot.clone(): value } })).unwrap();
        assert_eq!(diff.storage(TOKEN, U256::from(1)), Ok(U256::from(9)));
        assert_eq!(diff.storage(TOKEN, U256::from(2)), Ok(U256::from(22)));
        let whole = overridden(json!({ "state": { slot: value }, "balance": "0x7" })).unwrap();
        assert_eq!(whole.storage(TOKEN, U256::from(2)), Ok(U256::ZERO));
        let account = StateView::account(&whole, TOKEN).unwrap().unwrap();
        assert_eq!((account.balance, account.nonce), (U256::from(7), 1), "what is not overridden stays");
    }

    #[test]
    fn contradictions_are_refused_by_name() {
        let both = overridden(json!({ "state": {}, "stateDiff": {} })).unwrap_err();
        assert!(both.message().contains("stateDiff"));
        let delegation = overridden(json!({ "code": "0xef0100" })).unwrap_err();
        assert!(delegation.message().contains("code"), "malformed code is an error, not a panic");
    }
}

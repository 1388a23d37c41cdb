//! Checks of what was executed here against a block's state root (EIP-1186).

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles, TrieAccount, proof::verify_proof};
use lockstep_simulation::{Account, PendingBlock, SimulationError, StateChanges, StateView};
use serde::Deserialize;
use serde_json::{Value as Json, json};

/// The encoding of zero. A trie that keeps zeros instead of removing them proves a zero as well.
const RLP_ZERO: [u8; 1] = [0x80];

/// What an account shall be after a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) address: Address,
    pub(super) account: Option<Account>,
    /// Some of the slots that the block changed.
    pub(super) slots: Vec<(U256, U256)>,
}

/// Chooses some of the accounts that a block changed: those whose hashes with the block's are the lowest. Nobody can tell in
/// advance which, and everybody finds the same ones.
pub(super) fn choose(
    block: B256,
    done: &PendingBlock,
    changes: &StateChanges,
    accounts: usize,
    slots: usize,
) -> Result<Vec<Expected>, SimulationError> {
    let mut addresses: Vec<&Address> = changes.accounts.keys().collect();
    addresses.sort_by_cached_key(|address| keccak256([block.as_slice(), address.as_slice()].concat()));
    let mut chosen = Vec::with_capacity(accounts.min(addresses.len()));
    for address in addresses.into_iter().take(accounts) {
        let changed = changes.accounts.get(address).map(|change| &change.storage);
        let mut changed: Vec<(U256, U256)> = changed.into_iter().flatten().map(|(slot, value)| (*slot, *value)).collect();
        changed.sort_by_cached_key(|(slot, _)| keccak256([block.as_slice(), &slot.to_be_bytes::<32>()].concat()));
        changed.truncate(slots);
        chosen.push(Expected { address: *address, account: done.state().account(*address)?, slots: changed });
    }
    Ok(chosen)
}

/// What `eth_getProof` answers.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProofAnswer {
    storage_hash: B256,
    account_proof: Vec<Bytes>,
    storage_proof: Vec<SlotProof>,
}

#[derive(Clone, Debug, Deserialize)]
struct SlotProof {
    key: U256,
    proof: Vec<Bytes>,
}

impl Expected {
    /// The parameters of the call that proves it.
    pub(super) fn params(&self, block: B256) -> Json {
        let slots: Vec<B256> = self.slots.iter().map(|(slot, _)| B256::from(*slot)).collect();
        json!([self.address, slots, { "blockHash": block }])
    }

    /// Whether the proof proves it under the state root.
    ///
    /// # Errors
    /// With what it does not prove.
    pub(super) fn check(&self, state_root: B256, answer: &ProofAnswer) -> Result<(), String> {
        let address = self.address;
        let key = Nibbles::unpack(keccak256(address));
        let with = |account: &Account| {
            alloy_rlp::encode(TrieAccount::new(account.nonce, account.balance, answer.storage_hash, account.code_hash))
        };
        let proven = |value| verify_proof(state_root, key, value, &answer.account_proof);
        let proof = match &self.account {
            Some(account) => proven(Some(with(account))),
            // A trie that keeps empty accounts proves that there is nothing as well.
            None if answer.storage_hash == EMPTY_ROOT_HASH => {
                proven(None).or_else(|error| proven(Some(with(&Account::default()))).map_err(|_| error))
            }
            None => proven(None),
        };
        proof.map_err(|error| format!("account {address} is not what was executed: {error}"))?;
        for (slot, value) in &self.slots {
            if self.account.is_none() {
                // Without an account there is no storage.
                if !value.is_zero() {
                    return Err(format!("slot {slot} of {address}, which does not exist"));
                }
                continue;
            }
            let told = answer.storage_proof.iter().find(|told| told.key == *slot);
            let told = told.ok_or_else(|| format!("slot {slot} of {address} is not proven"))?;
            let key = Nibbles::unpack(keccak256(slot.to_be_bytes::<32>()));
            let proven = |value| verify_proof(answer.storage_hash, key, value, &told.proof);
            let proof = if value.is_zero() {
                proven(None).or_else(|error| proven(Some(RLP_ZERO.to_vec())).map_err(|_| error))
            } else {
                proven(Some(alloy_rlp::encode(value)))
            };
            proof.map_err(|error| format!("slot {slot} of {address} is not what was executed: {error}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use alloy_trie::{HashBuilder, proof::ProofRetainer};
    use lockstep_simulation::MemoryState;

    use super::*;

    const RICH: Address = Address::repeat_byte(1);
    const SHOP: Address = Address::repeat_byte(2);
    const NOBODY: Address = Address::repeat_byte(3);

    /// The root of a trie and the nodes on the way to a key.
    fn prove(leaves: BTreeMap<B256, Vec<u8>>, key: B256) -> (B256, Vec<Bytes>) {
        let mut builder = HashBuilder::default().with_proof_retainer(ProofRetainer::new(vec![Nibbles::unpack(key)]));
        for (hash, value) in &leaves {
            builder.add_leaf(Nibbles::unpack(hash), value);
        }
        let root = builder.root();
        let nodes = builder.take_proof_nodes().into_nodes_sorted();
        (root, nodes.into_iter().map(|(_, node)| node).collect())
    }

    /// What a node that has this state answers to `eth_getProof`.
    pub(in crate::remote) fn answer(state: &MemoryState, address: Address, slots: &[U256]) -> Json {
        let accounts = state.iter().map(|(address, account)| {
            let storage_root = state.storage_root(address);
            let account = TrieAccount::new(account.nonce, account.balance, storage_root, account.code_hash);
            (keccak256(address), alloy_rlp::encode(account))
        });
        let (_, account_proof) = prove(accounts.collect(), keccak256(address));
        let storage: BTreeMap<B256, Vec<u8>> = state
            .slots_of(address)
            .map(|(slot, value)| (keccak256(slot.to_be_bytes::<32>()), alloy_rlp::encode(value)))
            .collect();
        let storage_proof = slots.iter().map(|slot| {
            let (_, proof) = prove(storage.clone(), keccak256(slot.to_be_bytes::<32>()));
            json!({ "key": B256::from(*slot), "value": "0x0", "proof": proof })
        });
        json!({
            "address": address, "storageHash": state.storage_root(address), "accountProof": account_proof,
            "storageProof": storage_proof.collect::<Vec<_>>(),
        })
    }

    fn state() -> MemoryState {
        let mut state = MemoryState::new();
        for index in 0..20 {
            state.set_account(Address::with_last_byte(index), U256::from(index) + U256::from(1), 0, Bytes::new());
        }
        state.set_account(RICH, U256::from(1_000), 7, Bytes::new());
        state.set_account(SHOP, U256::ZERO, 1, Bytes::from_static(&[0x60, 0x01]));
        for slot in 0..10_u64 {
            state.set_storage(SHOP, U256::from(slot), U256::from(slot * 1_000));
        }
        state
    }

    fn expected(state: &MemoryState, address: Address, slots: &[u64]) -> Expected {
        let slots = slots.iter().map(|slot| {
            let slot = U256::from(*slot);
            (slot, state.storage(address, slot).unwrap())
        });
        Expected { address, account: state.account(address).unwrap(), slots: slots.collect() }
    }

    fn check(state: &MemoryState, expected: &Expected) -> Result<(), String> {
        let slots: Vec<U256> = expected.slots.iter().map(|(slot, _)| *slot).collect();
        let answer = serde_json::from_value(answer(state, expected.address, &slots)).unwrap();
        expected.check(state.root(), &answer)
    }

    #[test]
    fn what_is_true_is_proven() {
        let state = state();
        for (address, slots) in [(RICH, &[][..]), (SHOP, &[1, 9, 0, 77][..]), (NOBODY, &[][..]), (NOBODY, &[1][..])] {
            assert_eq!(check(&state, &expected(&state, address, slots)), Ok(()), "{address} {slots:?}");
        }
    }

    #[test]
    fn what_is_not_true_is_not_proven() {
        let state = state();
        let mut poorer = expected(&state, RICH, &[]);
        poorer.account = poorer.account.map(|account| Account { balance: U256::from(999), ..account });
        assert!(check(&state, &poorer).unwrap_err().contains("is not what was executed"));
        let gone = Expected { account: None, ..expected(&state, RICH, &[]) };
        assert!(check(&state, &gone).is_err());
        let invented = Expected { account: Some(Account { nonce: 1, ..Account::default() }), ..expected(&state, NOBODY, &[]) };
        assert!(check(&state, &invented).is_err());
        for (slot, value) in [(1_u64, 1_001_u64), (1, 0), (77, 1)] {
            let other = Expected { slots: vec![(U256::from(slot), U256::from(value))], ..expected(&state, SHOP, &[]) };
            let error = check(&state, &other).unwrap_err();
            assert!(error.contains(&format!("slot {slot} of")), "{error}");
        }
    }

    #[test]
    fn a_tampered_proof_proves_nothing() {
        let state = state();
        let expected = expected(&state, SHOP, &[3]);
        let good = answer(&state, SHOP, &[U256::from(3)]);
        let tampered: [fn(&mut Json); 5] = [
            |answer| answer["storageHash"] = json!(B256::repeat_byte(9)),
            |answer| drop(answer["accountProof"].as_array_mut().unwrap().pop()),
            |answer| answer["accountProof"] = json!([]),
            |answer| drop(answer["storageProof"][0]["proof"].as_array_mut().unwrap().pop()),
            |answer| answer["storageProof"] = json!([]),
        ];
        for tamper in tampered {
            let mut bad = good.clone();
            tamper(&mut bad);
            let bad = serde_json::from_value(bad).unwrap();
            assert!(expected.check(state.root(), &bad).is_err());
        }
        let good = serde_json::from_value(good).unwrap();
        assert_eq!(expected.check(state.root(), &good), Ok(()));
        assert!(expected.check(B256::repeat_byte(8), &good).is_err(), "another state root");
    }
}

//! Deterministic keys, and what they sign.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use alloy::{eips::eip2930::AccessList, signers::local::PrivateKeySigner};
use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, keccak256};
use lockstep_building::{Draft, EvidenceMap};
use lockstep_messaging::{Evidence, EvidenceRequest};
use lockstep_primitives::{ChainId, SignedTx};

/// One gwei in wei.
pub const GWEI: u128 = 1_000_000_000;

/// What users are willing to pay for a unit of gas before the tip, in wei: far above any base fee of a world.
pub const FEE_CAP: u128 = 20 * GWEI;

/// How many users there are.
pub const USERS: usize = 7;

/// How many attesters there are. Two of them have to sign.
const ATTESTERS: usize = 3;

static USER_KEYS: LazyLock<Vec<PrivateKeySigner>> =
    LazyLock::new(|| (0..USERS).map(|number| key(&format!("user {number}"))).collect());
static ATTESTER_KEYS: LazyLock<Vec<PrivateKeySigner>> =
    LazyLock::new(|| (0..ATTESTERS).map(|number| key(&format!("attester {number}"))).collect());
static BUILDER_KEY: LazyLock<PrivateKeySigner> = LazyLock::new(|| key("builder"));
static DEPLOYER_KEY: LazyLock<PrivateKeySigner> = LazyLock::new(|| key("deployer"));

/// The key of a name: always the same.
///
/// # Panics
/// Never: a hash that is no valid key is not known.
pub fn key(name: &str) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&keccak256(format!("lockstep testkit {name}"))).expect("the hash is a valid key")
}

/// A funded user, by number.
///
/// # Panics
/// When there is no user with that number, see [`USERS`].
pub fn user(number: usize) -> &'static PrivateKeySigner {
    USER_KEYS.get(number).expect("the number is below USERS")
}

/// The key that proposes, is paid and signs relays.
pub fn builder() -> &'static PrivateKeySigner {
    &BUILDER_KEY
}

/// The key that deploys the contracts and owns them.
pub fn deployer() -> &'static PrivateKeySigner {
    &DEPLOYER_KEY
}

/// The attesters of CCTP.
pub fn attesters() -> &'static [PrivateKeySigner] {
    &ATTESTER_KEYS
}

/// That many ether in wei.
pub fn ether(amount: u64) -> U256 {
    gwei(1_000_000_000) * U256::from(amount)
}

/// That many gwei in wei.
pub fn gwei(amount: u64) -> U256 {
    U256::from(amount) * U256::from(GWEI)
}

/// Signs a digest.
///
/// # Panics
/// Never: a key in memory can always sign.
pub fn sign_digest(key: &PrivateKeySigner, digest: B256) -> Signature {
    alloy_consensus::crypto::secp256k1::sign_message(key.to_bytes(), digest).expect("a key in memory signs")
}

/// Signs a transaction.
pub fn sign(key: &PrivateKeySigner, tx: TxEip1559) -> Arc<SignedTx> {
    let signature = sign_digest(key, tx.signature_hash());
    Arc::new(SignedTx::from_parts(TxEnvelope::from(tx.into_signed(signature)), key.address()))
}

/// A signed transfer of the native asset.
pub fn transfer(chain: ChainId, key: &PrivateKeySigner, nonce: u64, to: Address, value: U256, tip: u128) -> Arc<SignedTx> {
    Call::pay(to, value).sign(chain, key, nonce, tip)
}

/// A signed call of a contract.
pub fn call(chain: ChainId, key: &PrivateKeySigner, nonce: u64, to: Address, data: Bytes, gas: u64, tip: u128) -> Arc<SignedTx> {
    Call::contract(to, data, gas).sign(chain, key, nonce, tip)
}

/// What a transaction does, before anybody signs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The callee.
    pub to: Address,
    /// In wei.
    pub value: U256,
    /// Calldata.
    pub data: Bytes,
    /// Gas limit.
    pub gas: u64,
    /// What it declares (EIP-2930).
    pub access_list: AccessList,
}

impl Call {
    /// A transfer of the native asset.
    pub fn pay(to: Address, value: U256) -> Self {
        Self { to, value, data: Bytes::new(), gas: 21_000, access_list: AccessList::default() }
    }

    /// A call of a contract.
    pub fn contract(to: Address, data: Bytes, gas: u64) -> Self {
        Self { to, value: U256::ZERO, data, gas, access_list: AccessList::default() }
    }

    /// The same with a value.
    pub fn with_value(self, value: U256) -> Self {
        Self { value, ..self }
    }

    /// The same with another gas limit.
    pub fn with_gas(self, gas: u64) -> Self {
        Self { gas, ..self }
    }

    /// The same call, which declares this.
    pub fn declaring(self, access_list: AccessList) -> Self {
        Self { access_list, ..self }
    }

    /// Signs it as an EIP-1559 transaction with a priority fee of `tip` wei.
    pub fn sign(self, chain: ChainId, key: &PrivateKeySigner, nonce: u64, tip: u128) -> Arc<SignedTx> {
        let tx = TxEip1559 {
            chain_id: chain,
            nonce,
            gas_limit: self.gas,
            max_fee_per_gas: FEE_CAP + tip,
            max_priority_fee_per_gas: tip,
            to: TxKind::Call(self.to),
            value: self.value,
            access_list: self.access_list,
            input: self.data,
        };
        sign(key, tx)
    }
}

/// A user who counts nonces, rollup by rollup.
#[derive(Clone, Debug)]
pub struct Wallet {
    key: PrivateKeySigner,
    tip: u128,
    nonces: BTreeMap<ChainId, u64>,
}

impl Wallet {
    /// A user by number, who tips 2 gwei.
    pub fn user(number: usize) -> Self {
        Self { key: user(number).clone(), tip: 2 * GWEI, nonces: BTreeMap::new() }
    }

    /// The same user with another tip, in gwei.
    pub fn tipping(self, gwei: u64) -> Self {
        Self { tip: u128::from(gwei) * GWEI, ..self }
    }

    /// The user's address.
    pub fn address(&self) -> Address {
        self.key.address()
    }

    /// Signs with the nonce that comes next on that rollup.
    pub fn send(&mut self, chain: ChainId, call: Call) -> Arc<SignedTx> {
        let next = self.nonces.entry(chain).or_default();
        let nonce = *next;
        *next += 1;
        call.sign(chain, &self.key, nonce, self.tip)
    }

    /// Signs with that nonce and counts nothing.
    pub fn send_at(&self, chain: ChainId, nonce: u64, call: Call) -> Arc<SignedTx> {
        call.sign(chain, &self.key, nonce, self.tip)
    }
}

/// What the attesters answer to a request: `r || s || v` each, with v 27 or 28, in the order of the request's signers.
///
/// # Panics
/// When a signer is not an attester of the testkit.
pub fn attest(request: &EvidenceRequest) -> Evidence {
    let signatures = request.signers.iter().map(|signer| {
        let key = attesters().iter().find(|key| key.address() == *signer).expect("the signer is an attester of the testkit");
        sign_digest(key, request.digest).as_bytes()
    });
    Evidence::Attestation { payload: request.payload.clone(), signatures: signatures.collect() }
}

/// The evidence for every relay of a draft.
pub fn evidence(draft: &Draft) -> EvidenceMap {
    let relays = draft.placed.iter().flat_map(|placed| &placed.run.relays);
    relays.filter_map(|relay| Some((relay.message.id, attest(relay.request.as_ref()?)))).collect()
}

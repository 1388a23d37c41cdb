//! The order flow of slots, signed ahead: making it takes nothing from what is measured.

use std::{collections::BTreeMap, sync::Arc};

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_primitives::{Address, B256, Bytes, ChainId, TxKind, U256, hex, keccak256};
use lockstep_primitives::{Bundle, Leg, LegTx, RevertMode, SignedTx};
use lockstep_testkit::calls;
use rayon::prelude::*;
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};

use crate::{
    Failed,
    rng::Rng,
    workload::users::{User, derive},
};

/// Senders. Each has funds on every rollup, and sends its next bundle when all others have sent one.
const SENDERS: usize = 2_000;
/// Values of the probe that bundles add to: those that name the same one have an effect on each other.
const COUNTERS: u64 = 64;
/// In wei for a unit of gas.
const GWEI: u64 = 1_000_000_000;
/// What everyone pays for a unit of gas before the tip.
const FEE_CAP: u128 = 100_000_000_000;
const TRANSFER_GAS: u64 = 21_000;
const CALL_GAS: u64 = 100_000;

/// Where the Lockstep hash of what was sent is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HashAt {
    /// It is known beforehand.
    Known(B256),
    /// In this field of the answer.
    Field(&'static str),
}

/// A request that is ready to be sent.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// The rollup whose path it goes to; the root when absent.
    pub(super) chain: Option<ChainId>,
    /// The JSON-RPC method.
    pub(super) method: &'static str,
    /// Its one parameter.
    pub(super) param: Box<RawValue>,
    pub(super) hash_at: HashAt,
}

/// Who sends what, and where.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    chains: Vec<ChainId>,
    probe: Address,
    users: Vec<User>,
    seed: u64,
}

/// What one sender does at once.
struct Planned {
    user: usize,
    what: What,
    txs: Vec<TxEip1559>,
}

#[derive(Clone, Copy)]
enum What {
    /// A public transaction.
    Transaction,
    /// A bundle of one rollup.
    Bundle,
    /// A bundle over two rollups.
    CrossRollup,
}

impl Flow {
    /// The flow of a seed on these rollups.
    ///
    /// # Errors
    /// When no keys can be derived.
    pub(super) fn new(chains: Vec<ChainId>, probe: Address, seed: u64) -> Result<Self, Failed> {
        if chains.is_empty() {
            return Err("a flow goes to one rollup at least".into());
        }
        Ok(Self { chains, probe, users: derive(SENDERS)?, seed })
    }

    /// Who needs funds on every rollup.
    pub(super) fn senders(&self) -> Vec<Address> {
        self.users.iter().map(|user| user.address).collect()
    }

    /// What is in it, for people.
    pub(super) const fn description(&self) -> &'static str {
        "five in ten requests are a transfer by eth_sendRawTransaction, three a transfer and a call that adds to one of 64 \
         counters by eth_sendBundle, two a transfer on each of two rollups by lockstep_sendBundle"
    }

    /// The first `count` requests. Their nonces follow each other, so that they have to be sent in their order.
    ///
    /// # Errors
    /// When one cannot be signed.
    pub(super) fn draw(&self, count: usize) -> Result<Vec<Arc<Request>>, Failed> {
        let planned = self.plan(count);
        planned.par_iter().map(|planned| self.sign(planned).map(Arc::new)).collect()
    }

    fn plan(&self, count: usize) -> Vec<Planned> {
        let mut rng = Rng::new(self.seed);
        let mut nonces: BTreeMap<(usize, ChainId), u64> = BTreeMap::new();
        let mut planned = Vec::with_capacity(count);
        for index in 0..count {
            let user = index % self.users.len();
            let first = rng.index(self.chains.len());
            let (here, there) = (self.chains[first], self.chains[(first + 1) % self.chains.len()]);
            let mut tx = |chain: ChainId, to: Address, value: u64, data: Bytes, gas: u64, tip: u64| {
                let next = nonces.entry((user, chain)).or_default();
                let nonce = *next;
                *next += 1;
                TxEip1559 {
                    chain_id: chain,
                    nonce,
                    gas_limit: gas,
                    max_fee_per_gas: FEE_CAP,
                    max_priority_fee_per_gas: u128::from(tip),
                    to: TxKind::Call(to),
                    value: U256::from(value),
                    access_list: Default::default(),
                    input: data,
                }
            };
            let (tip, value) = (GWEI + rng.below(9 * GWEI), 1 + rng.below(GWEI));
            let pay = payee(user);
            let (what, txs) = match rng.below(10) {
                0..5 => (What::Transaction, vec![tx(here, pay, value, Bytes::new(), TRANSFER_GAS, tip)]),
                5..8 => {
                    let data = calls::increment(rng.below(COUNTERS));
                    let paid = tx(here, pay, value, Bytes::new(), TRANSFER_GAS, tip);
                    (What::Bundle, vec![paid, tx(here, self.probe, 0, data, CALL_GAS, tip)])
                }
                _ => {
                    let paid = tx(here, pay, value, Bytes::new(), TRANSFER_GAS, tip);
                    (What::CrossRollup, vec![paid, tx(there, pay, value, Bytes::new(), TRANSFER_GAS, tip)])
                }
            };
            planned.push(Planned { user, what, txs });
        }
        planned
    }

    fn sign(&self, planned: &Planned) -> Result<Request, Failed> {
        let user = self.users.get(planned.user).ok_or("a transaction of a user who does not exist")?;
        let mut signed = Vec::with_capacity(planned.txs.len());
        for tx in &planned.txs {
            let signature = user.sign(tx.signature_hash())?;
            let envelope = TxEnvelope::from(tx.clone().into_signed(signature));
            signed.push((tx.chain_id, SignedTx::from_parts(envelope, user.address)));
        }
        let raw = |tx: &SignedTx| Value::String(hex::encode_prefixed(tx.raw()));
        let ready = |chain, method, param: &Value, hash_at| -> Result<Request, Failed> {
            Ok(Request { chain, method, param: to_raw_value(param)?, hash_at })
        };
        match (planned.what, signed.as_slice()) {
            (What::Transaction, [(chain, tx)]) => {
                let hash = HashAt::Known(hash_of_single(*chain, tx));
                ready(Some(*chain), "eth_sendRawTransaction", &raw(tx), hash)
            }
            (What::CrossRollup, txs) => {
                let legs: Vec<Value> =
                    txs.iter().map(|(chain, tx)| json!({ "chainId": format!("{chain:#x}"), "txs": [raw(tx)] })).collect();
                ready(None, "lockstep_sendBundle", &json!({ "legs": legs }), HashAt::Field("bundleHash"))
            }
            (_, [(chain, _), ..]) => {
                let txs: Vec<Value> = signed.iter().map(|(_, tx)| raw(tx)).collect();
                ready(Some(*chain), "eth_sendBundle", &json!({ "txs": txs }), HashAt::Field("lockstepHash"))
            }
            (_, []) => Err("a request without transactions".into()),
        }
    }
}

/// The Lockstep hash of a public transaction: of a bundle of it alone, which may revert.
fn hash_of_single(chain: ChainId, tx: &SignedTx) -> B256 {
    let txs = vec![LegTx { tx: Arc::new(tx.clone()), mode: RevertMode::Allow }];
    Bundle { legs: vec![Leg::Txs { chain, txs }], ..Bundle::default() }.hash()
}

/// An account that only one sender pays.
fn payee(sender: usize) -> Address {
    Address::from_word(keccak256(format!("lockstep benches payee of sender {sender}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flow_of_a_seed_is_always_the_same_and_a_longer_one_begins_like_a_shorter_one() {
        let flow = Flow::new(vec![7, 8], Address::repeat_byte(1), 5).unwrap();
        let texts =
            |count| -> Vec<String> { flow.draw(count).unwrap().iter().map(|request| request.param.get().to_owned()).collect() };
        let (short, long) = (texts(20), texts(40));
        assert_eq!(short[..], long[..20]);
        let methods: std::collections::BTreeSet<&str> = flow.draw(40).unwrap().iter().map(|request| request.method).collect();
        assert_eq!(methods.into_iter().collect::<Vec<_>>(), ["eth_sendBundle", "eth_sendRawTransaction", "lockstep_sendBundle"]);
    }

    #[test]
    fn nonces_of_a_sender_follow_each_other_on_every_rollup() {
        let flow = Flow::new(vec![7, 8], Address::repeat_byte(1), 5).unwrap();
        let mut next: BTreeMap<(usize, ChainId), u64> = BTreeMap::new();
        for planned in flow.plan(SENDERS * 3) {
            for tx in &planned.txs {
                let nonce = next.entry((planned.user, tx.chain_id)).or_default();
                assert_eq!(tx.nonce, *nonce);
                *nonce += 1;
            }
        }
    }

    #[test]
    fn on_one_rollup_everything_goes_there() {
        let flow = Flow::new(vec![7], Address::repeat_byte(1), 5).unwrap();
        assert!(flow.plan(50).iter().flat_map(|planned| &planned.txs).all(|tx| tx.chain_id == 7));
    }
}

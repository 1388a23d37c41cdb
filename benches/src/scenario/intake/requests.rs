//! The requests, written down before anything is measured.

use std::sync::Arc;

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_primitives::{Address, B256, Signature, TxKind, U256, hex, keccak256};
use lockstep_node::dev::{USERS, user};
use lockstep_primitives::{ChainId, SignedTx};
use rayon::prelude::*;

/// Transactions of a bundle.
const TRANSACTIONS: usize = 3;
/// The first block that the bundles are valid for: so far ahead that none of them is built while the intake is measured.
const FIRST_BLOCK: u64 = 5_000;
const GWEI: u128 = 1_000_000_000;

/// The addresses of the users.
pub(in crate::scenario) fn users() -> Vec<Address> {
    (0..USERS).map(|index| user(index).address()).collect()
}

/// What a signature is over, and the signature.
type Signed = (Signature, B256);

/// Bundles of three transfers each, all different and all of them admissible: the users' next nonces, to accounts of their own.
pub(in crate::scenario) struct Requests {
    /// HTTP requests, whole.
    pub(in crate::scenario) bytes: Arc<Vec<Vec<u8>>>,
    /// The signatures in each of them.
    pub(in crate::scenario) signatures: Vec<[Signed; TRANSACTIONS]>,
}

impl Requests {
    /// That many, for one rollup.
    ///
    /// `nonces` are the users' next ones.
    pub(in crate::scenario) fn draw(chain: ChainId, count: usize, nonces: &[u64], seed: u64) -> Self {
        let keys: Vec<_> = (0..USERS).map(user).zip(nonces).collect();
        let drawn: Vec<(Vec<u8>, [Signed; TRANSACTIONS])> = (0..count)
            .into_par_iter()
            .map(|index| {
                let (key, first) = &keys[index % keys.len()];
                let to = Address::from_word(keccak256(format!("lockstep benches intake {seed} {index}")));
                let signed: [(SignedTx, Signed); TRANSACTIONS] = std::array::from_fn(|position| {
                    let tx = TxEip1559 {
                        chain_id: chain,
                        nonce: **first + position as u64,
                        gas_limit: 21_000,
                        max_fee_per_gas: 10 * GWEI,
                        max_priority_fee_per_gas: GWEI,
                        to: TxKind::Call(to),
                        value: U256::from(1),
                        ..TxEip1559::default()
                    };
                    let digest = tx.signature_hash();
                    let signature = key.sign(digest);
                    let envelope = TxEnvelope::from(tx.into_signed(signature));
                    (SignedTx::from_parts(envelope, key.address()), (signature, digest))
                });
                let txs = signed.each_ref().map(|(tx, _)| hex::encode_prefixed(tx.raw()));
                (request(chain, index, &txs), signed.map(|(_, signature)| signature))
            })
            .collect();
        let (bytes, signatures) = drawn.into_iter().unzip();
        Self { bytes: Arc::new(bytes), signatures }
    }
}

fn request(chain: ChainId, id: usize, txs: &[String]) -> Vec<u8> {
    let params = serde_json::json!([{ "txs": txs, "minBlockNumber": format!("{FIRST_BLOCK:#x}") }]);
    let body = serde_json::json!({ "jsonrpc": "2.0", "id": id, "method": "eth_sendBundle", "params": params }).to_string();
    let head = format!(
        "POST /rollup/{chain} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body.into_bytes()].concat()
}

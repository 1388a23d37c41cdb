//! Delivery to Ethereum through builders and their relays: a list is one bundle for one block.
//!
//! `eth_sendBundle` as the Flashbots relay, BuilderNet, Titan and others take it: atomic, in order, valid for exactly one block
//! number; no transaction of it may revert. Requests are signed by `X-Flashbots-Signature`.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use alloy::signers::{SignerSync, local::PrivateKeySigner};
use alloy_primitives::{Address, B256, hex, keccak256};
use async_trait::async_trait;
use futures_util::future::join_all;
use lockstep_primitives::{BlockList, ChainId, Guarantee};
use lockstep_simulation::{BlockPlan, ForkSchedule, ParentBlock, SlotRollup};
use parking_lot::Mutex;
use reqwest::{Client, Url};
use serde_json::{Value, json};

use super::{
    chain::RemoteChain,
    endpoints::public_name,
    errors::{excerpt, with_causes},
    exchange,
    listed::{Between, Listed, Standing},
    tail::Tail,
    wire::quantity,
};
use crate::{DeliveryAdapter, NodeError, PublishedBlock};

/// Relays that a list is sent to at most.
pub(super) const MAX_RELAYS: usize = 16;
/// Bytes of a relay's answer.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// The header that says who asks.
const SIGNATURE_HEADER: &str = "x-flashbots-signature";

/// Delivery by `eth_sendBundle`.
pub(super) struct BundleRelayAdapter {
    tail: Tail,
    relays: Vec<Relay>,
    signer: PrivateKeySigner,
    limits: RelayLimits,
    /// The replacement nonce that was used last: relays ignore one that does not rise.
    last_nonce: Mutex<u64>,
    /// Held while a list is sent: the newest one replaces the others.
    publishing: tokio::sync::Mutex<()>,
}

/// How long a bundle relay adapter waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct RelayLimits {
    /// For a relay's answer.
    pub(super) answer: Duration,
    /// For one block, from the first request to the last.
    pub(super) publish: Duration,
}

/// A relay, or a builder itself.
#[derive(Clone)]
struct Relay {
    url: Url,
    /// Its address without what may hold an account's key.
    name: String,
    client: Client,
}

#[async_trait]
impl DeliveryAdapter for BundleRelayAdapter {
    fn name(&self) -> &'static str {
        "bundle-relay"
    }

    /// G1, built all or nothing: builders keep a bundle whole, but none promises to include it, and whose block is proposed is
    /// not for them to say.
    fn carries(&self) -> Guarantee {
        Guarantee::G1
    }

    fn hands_in_early(&self) -> bool {
        true
    }

    async fn plan(&self, parent: &ParentBlock, timestamps: &[u64], _proposer: Address) -> Result<Vec<BlockPlan>, NodeError> {
        self.tail.plans(parent, timestamps).await
    }

    /// Sends one block of a list as a bundle to every relay, and waits for the block of its number. It is published when all
    /// its transactions are in that block, in their order and with none of others between them.
    async fn publish(&self, rollup: &Arc<SlotRollup>, list: &BlockList, index: usize) -> Result<PublishedBlock, NodeError> {
        let listed = Listed::new(&self.tail.rpc, rollup, list, index)?;
        let _turn = self.publishing.lock().await;
        tokio::time::timeout(self.limits.publish, self.deliver(&listed)).await.unwrap_or_else(|_| {
            let (number, limit_ms) = (listed.number, self.limits.publish.as_millis());
            Err(self.tail.rpc.unusable(format!("block {number} was not there after {limit_ms} ms")))
        })
    }
}

impl BundleRelayAdapter {
    pub(super) fn new(chain: &RemoteChain, urls: &[String], signer: PrivateKeySigner) -> Result<Self, NodeError> {
        let limits = RelayLimits {
            answer: Duration::from_millis(chain.limits.timeout_ms),
            publish: Duration::from_millis(chain.limits.publish_timeout_ms),
        };
        Self::on(Tail::new(chain), urls, signer, limits)
    }

    pub(super) fn on(tail: Tail, urls: &[String], signer: PrivateKeySigner, limits: RelayLimits) -> Result<Self, NodeError> {
        if matches!(tail.forks, ForkSchedule::OpStack(_)) {
            return Err(tail.rpc.unusable("bundle relays deliver to Ethereum only, not to an OP-stack rollup".into()));
        }
        if urls.is_empty() || urls.len() > MAX_RELAYS {
            return Err(tail.rpc.unusable(format!("name 1 to {MAX_RELAYS} bundle relays, not {}", urls.len())));
        }
        let mut relays = Vec::with_capacity(urls.len());
        for (index, url) in urls.iter().enumerate() {
            let relay = Relay::new(url, limits.answer);
            relays.push(relay.map_err(|cause| tail.rpc.unusable(format!("bundle relay {index}: {cause}")))?);
        }
        Ok(Self { tail, relays, signer, limits, last_nonce: Mutex::new(0), publishing: tokio::sync::Mutex::new(()) })
    }

    async fn deliver(&self, listed: &Listed<'_>) -> Result<PublishedBlock, NodeError> {
        let head = self.tail.head_for(listed).await?;
        if head.number() >= listed.number {
            // It may have been sent before. Otherwise it is too late: a bundle is for one block number.
            let block = self.tail.block_for(listed, listed.number).await?;
            return match listed.standing(&block.transactions, Between::Nothing) {
                Standing::Whole => Ok(block.into_published()),
                Standing::Absent | Standing::Differs(_) => Err(self.tail.other_parent(listed, head.hash)),
            };
        }
        if !listed.transactions.is_empty() {
            self.send(listed).await?;
        }
        let block = self.tail.block_for(listed, listed.number).await?;
        match listed.standing(&block.transactions, Between::Nothing) {
            Standing::Whole => Ok(block.into_published()),
            Standing::Absent => Err(self.tail.other_block(listed.number, &listed.nothing_came())),
            Standing::Differs(cause) => Err(self.tail.other_block(listed.number, &cause)),
        }
    }

    /// Sends the bundle to all relays at once; one has to take it.
    async fn send(&self, listed: &Listed<'_>) -> Result<(), NodeError> {
        let chain = self.tail.rpc.chain();
        let body = self.body(listed).to_string();
        let signature =
            self.header(&body).map_err(|error| self.tail.rpc.unusable(format!("a bundle cannot be signed: {error}")))?;
        let bundle_hash = keccak256(listed.hashes.iter().flat_map(|hash| hash.0).collect::<Vec<u8>>());
        let mut asked = Vec::with_capacity(self.relays.len());
        for relay in &self.relays {
            asked.push(self.ask(relay, &body, &signature));
        }
        let answers = join_all(asked).await;
        let mut refusals = Vec::new();
        for (relay, answer) in self.relays.iter().zip(answers) {
            let name = relay.name.clone();
            let result = if answer.is_ok() { "taken" } else { "refused" };
            metrics::counter!("lockstep_relay_bundles_total", "chain" => chain.to_string(), "relay" => name, "result" => result)
                .increment(1);
            match answer {
                Ok(Some(hash)) if hash != bundle_hash => {
                    tracing::warn!(chain, relay = %relay.name, %hash, expected = %bundle_hash, "a relay answers for another bundle");
                }
                Ok(_) => {}
                Err(cause) => {
                    tracing::warn!(chain, relay = %relay.name, block = listed.number, cause, "a relay did not take the bundle");
                    refusals.push(format!("{}: {cause}", relay.name));
                }
            }
        }
        if refusals.len() == self.relays.len() {
            return Err(self.tail.rpc.unusable(format!("no bundle relay took the list: {}", refusals.join("; "))));
        }
        Ok(())
    }

    /// The request. It is valid at the planned timestamp only, because that is what the list was executed at: after a missed
    /// slot of the proposers the block of this number is a later one. No transaction may revert: a list does not say which may.
    fn body(&self, listed: &Listed<'_>) -> Value {
        let timestamp = listed.plan.next.timestamp;
        json!({
            "jsonrpc": "2.0",
            "id": 1,
            "method": "eth_sendBundle",
            "params": [{
                "txs": listed.transactions,
                "blockNumber": quantity(listed.number),
                "minTimestamp": timestamp,
                "maxTimestamp": timestamp,
                "revertingTxHashes": [],
                "replacementUuid": replacement_uuid(self.tail.rpc.chain(), listed.number),
                "replacementNonce": self.next_nonce(),
            }],
        })
    }

    /// The value of [`SIGNATURE_HEADER`]: an EIP-191 personal message over the hex text of the body's hash.
    fn header(&self, body: &str) -> Result<String, alloy::signers::Error> {
        let signature = self.signer.sign_message_sync(hex::encode_prefixed(keccak256(body)).as_bytes())?;
        Ok(format!("{}:{}", self.signer.address(), hex::encode_prefixed(signature.as_bytes())))
    }

    /// Unix milliseconds, so that it rises over a restart too; at least one more than the last.
    fn next_nonce(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let mut last = self.last_nonce.lock();
        *last = u64::try_from(now).unwrap_or(u64::MAX).max(last.saturating_add(1));
        *last
    }

    /// Asks one relay. `None` when it takes the bundle and does not say under which hash.
    async fn ask(&self, relay: &Relay, body: &str, signature: &str) -> Result<Option<B256>, String> {
        // Errors come without the address.
        let describe = |error: reqwest::Error| with_causes(&error.without_url());
        let request = relay.client.post(relay.url.clone()).timeout(self.limits.answer);
        let request = request.header("content-type", "application/json").header(SIGNATURE_HEADER, signature);
        let mut response = request.body(body.to_owned()).send().await.map_err(describe)?;
        let status = response.status();
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(describe)? {
            if answer.len().saturating_add(chunk.len()) > MAX_ANSWER_BYTES {
                return Err(format!("its answer is longer than {MAX_ANSWER_BYTES} bytes"));
            }
            answer.extend_from_slice(&chunk);
        }
        match serde_json::from_slice::<Value>(&answer) {
            Ok(answer) if answer.get("error").is_some_and(|error| !error.is_null()) => Err(refusal(&answer["error"])),
            // Some answer a number or null where others answer the hash.
            Ok(answer) if status.is_success() && answer.get("result").is_some() => {
                Ok(answer["result"]["bundleHash"].as_str().and_then(|hash| hash.parse().ok()))
            }
            _ => {
                let text = String::from_utf8_lossy(&answer);
                Err(format!("HTTP status {status}, and what it answers is no JSON-RPC: {}", excerpt(&text)))
            }
        }
    }
}

impl fmt::Debug for BundleRelayAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let relays: Vec<&str> = self.relays.iter().map(|relay| relay.name.as_str()).collect();
        f.debug_struct("BundleRelayAdapter")
            .field("tail", &self.tail)
            .field("relays", &relays)
            .field("signer", &self.signer.address())
            .finish_non_exhaustive()
    }
}

impl Relay {
    fn new(url: &str, connect: Duration) -> Result<Self, String> {
        let url = Url::parse(url).map_err(|error| format!("its address is no URL: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("{}:// is neither http:// nor https://", url.scheme()));
        }
        let client = exchange::client(&url, connect)?;
        Ok(Self { name: public_name(&url), url, client })
    }
}

/// The name under which a later list for the same block replaces this one: a UUID of version 4's shape that only chain and
/// block number go into. Relays tell the bundles of different signers apart by themselves.
fn replacement_uuid(chain: ChainId, number: u64) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&keccak256([b"lockstep list".as_slice(), &chain.to_be_bytes(), &number.to_be_bytes()].concat())[..16]);
    // RFC 9562, section 5.4: version and variant.
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let text = hex::encode(bytes);
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}

/// A JSON-RPC error in words.
fn refusal(error: &Value) -> String {
    let message = error["message"].as_str().map_or_else(|| error.to_string(), ToOwned::to_owned);
    format!("{} (code {})", excerpt(&message), error["code"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_for_the_same_block_has_the_same_uuid() {
        let uuid = replacement_uuid(1, 20_000_000);
        assert_eq!(uuid, replacement_uuid(1, 20_000_000));
        assert_ne!(uuid, replacement_uuid(1, 20_000_001));
        assert_ne!(uuid, replacement_uuid(2, 20_000_000));
        let groups: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12]);
        assert_eq!(uuid.as_bytes()[14], b'4', "version 4: {uuid}");
        assert!(b"89ab".contains(&uuid.as_bytes()[19]), "the RFC's variant: {uuid}");
    }
}

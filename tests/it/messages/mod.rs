//! What becomes of messages when it is not the plain crossing of `crossings`: those that landed alone and are delivered later,
//! by whoever asks for it or by the builder itself; attestations that come late or expire; rollups that sell less, or whose
//! contracts do not keep their promises; sequencers that do not vote.

mod abort;
mod circle;
mod landed;
mod orphans;
mod refused;
mod stories;

use alloy_primitives::{Address, B256, Bytes, U64, U256, keccak256};
use alloy_sol_types::{SolEvent, sol};
use lockstep_node::{
    dev::{attesters, builder},
    keys::Key,
};
use lockstep_primitives::SignedTx;
use lockstep_rpc::wire::{BundleParams, LegParams, RelayParams};
use serde::Deserialize;

use crate::{
    chain::{Chain, Holdings},
    transactions::{Tx, relay_leg, txs_leg},
    world::World,
};

sol! {
    function balanceOf(address account) external view returns (uint256);
    function getTokenWrappedAddress(uint32 network, address token) external view returns (address);
    event MessageSent(bytes message);
}

/// Ten dollars in the smallest unit of USDC: what crosses in these tests.
const AMOUNT: U256 = U256::from_limbs([10_000_000, 0, 0, 0]);
/// What covers the builder's gas for the dearest relay, in wei.
const TOLL: U256 = U256::from_limbs([100_000_000_000_000_000, 0, 0, 0]);

/// A log as a receipt has it.
#[derive(Debug, Deserialize)]
struct EmittedLog {
    address: Address,
    topics: Vec<B256>,
    data: Bytes,
}

/// What of a receipt is looked at here.
#[derive(Debug, Deserialize)]
struct Logs {
    logs: Vec<EmittedLog>,
}

/// A transaction on its chain: a message is named by it, and by its index among those that the transaction sent.
#[derive(Clone, Copy, Debug)]
struct Landed {
    chain: u64,
    tx: B256,
}

impl Landed {
    /// The leg that delivers its first message.
    fn leg(self, destination: &Chain) -> LegParams {
        self.leg_of(destination, 0)
    }

    /// The leg that delivers a message of it.
    fn leg_of(self, destination: &Chain, message: usize) -> LegParams {
        let relay = RelayParams { leg: None, message, chain_id: Some(U64::from(self.chain)), tx_hash: Some(self.tx) };
        LegParams { chain_id: U64::from(destination.id), relay: Some(relay), ..LegParams::default() }
    }
}

/// A call with the sender's next nonce but `ahead`.
async fn call_after(chain: &Chain, who: &Key, ahead: u64, to: Address, data: Bytes) -> SignedTx {
    Tx::call(chain.id, chain.nonce(who.address()).await + ahead, to, data).sign(who)
}

/// A call with the sender's next nonce.
async fn call(chain: &Chain, who: &Key, to: Address, data: Bytes) -> SignedTx {
    call_after(chain, who, 0, to, data).await
}

/// Pays the builder for relays, with the sender's next nonce but `ahead`.
async fn toll(chain: &Chain, who: &Key, ahead: u64) -> SignedTx {
    Tx::pay(chain.id, chain.nonce(who.address()).await + ahead, builder().address(), TOLL).sign(who)
}

fn bundle(legs: Vec<LegParams>) -> BundleParams {
    BundleParams { legs, ..BundleParams::default() }
}

/// A call on one rollup, the delivery of what it sends on another, and the toll there.
async fn crossing(from: &Chain, to: &Chain, who: &Key, contract: Address, data: Bytes) -> BundleParams {
    let send = call(from, who, contract, data).await;
    let pay = toll(to, who, 0).await;
    bundle(vec![txs_leg(from.id, &[&send]), relay_leg(to.id, 0, 0), txs_leg(to.id, &[&pay])])
}

/// The delivery of a message that landed, asked and paid for by whoever wants to.
async fn delivery(landed: Landed, to: &Chain, who: &Key) -> BundleParams {
    let pay = toll(to, who, 0).await;
    bundle(vec![landed.leg(to), txs_leg(to.id, &[&pay])])
}

/// Sends a call as a plain transaction: whatever message it sends, nobody delivers it with it.
async fn alone(chain: &Chain, who: &Key, contract: Address, data: Bytes) -> Landed {
    let tx = call(chain, who, contract, data).await;
    chain.send(&tx).await;
    assert!(chain.mined(tx.hash()).await.success());
    Landed { chain: chain.id, tx: tx.hash() }
}

/// The CCTP message that a transaction sent by this transmitter.
async fn sent_message(chain: &Chain, tx: B256, transmitter: Address) -> Bytes {
    let Logs { logs } = chain.ask("eth_getTransactionReceipt", (tx,)).await;
    let is_sent = |log: &&EmittedLog| log.address == transmitter && log.topics == [MessageSent::SIGNATURE_HASH];
    let log = logs.iter().find(is_sent).expect("the transaction sends a message");
    MessageSent::abi_decode_data(&log.data).expect("the log is one of the transmitter's").0
}

/// What the attesters of `dev` sign: their signatures by rising address, one after the other.
fn attestation(message: &[u8]) -> Bytes {
    let mut keys = attesters();
    keys.sort_by_key(Key::address);
    let digest = keccak256(message);
    keys.iter().flat_map(|key| key.sign_bytes(digest).to_vec()).collect::<Vec<u8>>().into()
}

async fn token(chain: &Chain, token: Address, account: Address) -> U256 {
    chain.call(token, &balanceOfCall { account }).await
}

/// What an account has of the first rollup's USDC on the second, where AggLayer's bridge wraps it: nothing before the first
/// claim.
async fn wrapped_usdc(world: &World, account: Address) -> U256 {
    let (contracts, destination) = (world.contracts(), world.chain(1));
    let known = getTokenWrappedAddressCall { network: world.network(0), token: contracts.usdc };
    let wrapped = destination.call(contracts.agglayer.bridge, &known).await;
    if wrapped.is_zero() { U256::ZERO } else { token(destination, wrapped, account).await }
}

/// Everything that an account has on one rollup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wealth {
    holdings: Holdings,
    interop: U256,
    mailbox: U256,
}

/// Everything that these accounts have on every rollup.
async fn wealth(world: &World, accounts: &[Address]) -> Vec<Wealth> {
    let contracts = world.contracts();
    let mut all = Vec::new();
    for chain in world.chains() {
        for account in accounts {
            all.push(Wealth {
                holdings: chain.holdings(*account, contracts.usdc).await,
                interop: token(chain, contracts.interop.token, *account).await,
                mailbox: token(chain, contracts.mailbox.token, *account).await,
            });
        }
    }
    all
}

//! Real nodes: anvil, where there is one.

use std::{
    env,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use alloy_primitives::{Address, ChainId, U64, U256};
use lockstep_primitives::SignedTx;
use serde_json::Value;

use crate::{
    chain::{Chain, NONE},
    wait::until,
    world::LOCAL,
};

/// The binary that `fixtures/nodes` installs.
const INSTALLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/nodes/node_modules/.bin/anvil");
/// The flags that make anvil a rollup's node, as [`RemoteNode`] documents them.
const FLAGS: [&str; 7] =
    ["--order", "fifo", "--disable-pool-balance-checks", "--enable-tx-gas-limit", "--hardfork", "osaka", "--quiet"];

/// Who decides when a node makes a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mining {
    /// Whoever tells it to.
    Told,
    /// The node itself, every second.
    Itself,
}

impl Mining {
    const fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Told => &["--no-mining"],
            Self::Itself => &["--block-time", "1"],
        }
    }
}

/// The anvil to use; `None` when there is none, which is said by name.
pub(crate) fn binary(test: &str) -> Option<PathBuf> {
    let path = env::var_os("LOCKSTEP_ANVIL").map_or_else(|| PathBuf::from(INSTALLED), PathBuf::from);
    if path.is_file() {
        return Some(path);
    }
    eprintln!("skipped: {test}, because there is no anvil: run `npm ci` in fixtures/nodes, or name one in LOCKSTEP_ANVIL");
    None
}

/// A node. Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Anvil {
    process: Child,
    pub(crate) url: String,
    pub(crate) chain: Chain,
}

impl Drop for Anvil {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Anvil {
    /// One that makes the blocks it is told to.
    pub(crate) async fn start(binary: &Path, id: ChainId, timestamp: u64) -> Self {
        Self::start_with(binary, id, timestamp, Mining::Told).await
    }

    pub(crate) async fn start_with(binary: &Path, id: ChainId, timestamp: u64, mining: Mining) -> Self {
        // The system picks a free port; nobody else asks for it in the moment until anvil does.
        let port = TcpListener::bind(LOCAL).and_then(|listener| listener.local_addr()).expect("a free port").port();
        let process = Command::new(binary)
            .args(FLAGS)
            .args(mining.flags())
            .args(["--port", &port.to_string(), "--chain-id", &id.to_string(), "--timestamp", &timestamp.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("anvil starts");
        let url = format!("http://127.0.0.1:{port}");
        let anvil = Self { process, chain: Chain::at(id, &url), url };
        until("anvil answers", async || anvil.chain.try_ask::<U64>("eth_chainId", NONE).await.ok()).await;
        anvil
    }

    /// Puts transactions into one block, all of which succeed.
    pub(crate) async fn run(&self, txs: &[SignedTx]) {
        for tx in txs {
            self.chain.send(tx).await;
        }
        let _: Value = self.chain.ask("evm_mine", NONE).await;
        for (index, tx) in txs.iter().enumerate() {
            let receipt = self.chain.receipt(tx.hash()).await;
            assert!(receipt.is_some_and(|receipt| receipt.success()), "transaction {index} of the set-up: {}", tx.hash());
        }
    }

    /// Makes an empty block with this timestamp, in seconds.
    pub(crate) async fn advance_to(&self, timestamp: u64) {
        let _: Value = self.chain.ask("evm_setNextBlockTimestamp", (U64::from(timestamp),)).await;
        let _: Value = self.chain.ask("evm_mine", NONE).await;
    }

    pub(crate) async fn fund(&self, accounts: &[Address]) {
        let amount = U256::from(1_000) * U256::from(1_000_000_000_000_000_000_u64);
        for account in accounts {
            let _: Value = self.chain.ask("anvil_setBalance", (account, amount)).await;
        }
    }
}

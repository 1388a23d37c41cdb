//! What the requests are sent to: a whole node, and the same server with nothing behind it.

use std::{collections::BTreeMap, fs, net::SocketAddr, sync::Arc, time::Duration};

use alloy_primitives::Address;
use jsonrpsee::{Methods, RpcModule, http_client::HttpClientBuilder, types::ErrorObjectOwned};
use lockstep_node::dev::{Dev, DevOptions, FIRST_CHAIN};
use lockstep_primitives::ChainId;
use lockstep_provider::RollupNode;
use lockstep_rpc::{Limits, Pages, Routes, Server, api::LockstepApiClient, bind, serve};
use lockstep_store::{Store, Table};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::Failed;

/// The rollup that bundles are sent to.
pub(in crate::scenario) const CHAIN: ChainId = FIRST_CHAIN;

/// Length of a slot: so long that hardly ever a slot is built while the intake is measured.
const SLOT_S: u64 = 600;
/// The store's file in its folder.
const STORE: &str = "lockstep.redb";
/// How long what a server has begun may take to end.
const END: Duration = Duration::from_secs(10);

/// As the binary has it.
fn runtime() -> Result<Runtime, Failed> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// Ends what runs. What takes too long is ended with its threads.
fn end(runtime: Runtime, stop: impl Future<Output = ()>) {
    let _ = runtime.block_on(async { tokio::time::timeout(END, stop).await });
    runtime.shutdown_timeout(END);
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A node with every role, on threads of its own.
pub(in crate::scenario) struct Node {
    runtime: Runtime,
    dev: Dev,
    /// Where it keeps what it acknowledged, when it does. It goes with the node.
    folder: Option<TempDir>,
}

impl Node {
    /// A new one with nothing in it and room for that many bundles.
    pub(in crate::scenario) fn start(bundles: usize, durable: bool) -> Result<Self, Failed> {
        Self::start_in(durable.then(tempfile::tempdir).transpose()?, bundles)
    }

    /// One with what is in its folder, and room for that many bundles.
    pub(in crate::scenario) fn start_in(folder: Option<TempDir>, bundles: usize) -> Result<Self, Failed> {
        let runtime = runtime()?;
        let options = DevOptions {
            listen: any_port(),
            slot_ms: SLOT_S * 1_000,
            block_times: vec![SLOT_S],
            data: folder.as_ref().map(|folder| folder.path().to_owned()),
            ..DevOptions::default()
        };
        let dev = runtime.block_on(async {
            let mut prepared = Dev::prepare(options)?;
            if let Some(builder) = &mut prepared.setup.builder {
                builder.pool.bundles = builder.pool.bundles.max(bundles);
                builder.pool.bundles_per_sender = builder.pool.bundles_per_sender.max(bundles);
                builder.pool.gas_per_sender = u64::MAX;
            }
            prepared.start().await
        });
        let dev = dev.map_err(|error| format!("the node does not start: {error}"))?;
        Ok(Self { runtime, dev, folder })
    }

    pub(in crate::scenario) fn address(&self) -> SocketAddr {
        self.dev.process.address()
    }

    /// The next nonces of accounts on the rollup that bundles are sent to.
    pub(in crate::scenario) fn nonces(&self, accounts: &[Address]) -> Result<Vec<u64>, Failed> {
        let rollup = self.dev.rollups.iter().find(|rollup| rollup.chain == CHAIN).ok_or("the node has no such rollup")?;
        let state = self.runtime.block_on(async {
            let head = rollup.rollup.head().await?;
            rollup.rollup.state_at(head.hash).await
        });
        let state = state.map_err(|error| format!("the state cannot be had: {error}"))?;
        accounts.iter().map(|account| Ok(state.account(*account)?.map_or(0, |account| account.nonce))).collect()
    }

    /// What a process that was killed now would leave holds so many bundles. A node that keeps nothing has promised nothing.
    pub(in crate::scenario) fn check_kept(&self, bundles: usize) -> Result<(), Failed> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let copy = folder.path().join("copy.redb");
        fs::copy(folder.path().join(STORE), &copy)?;
        let kept = Store::open(&copy)?.len(Table::Bundles)?;
        if kept == bundles as u64 {
            return Ok(());
        }
        Err(format!("{bundles} bundles are acknowledged and {kept} are on disk").into())
    }

    /// How many bundles are pending, by its own word.
    pub(in crate::scenario) fn pending(&self) -> Result<u64, Failed> {
        let client = HttpClientBuilder::default().build(self.dev.process.url())?;
        let slot = self.runtime.block_on(client.get_slot(None))?;
        Ok(slot.pending as u64)
    }

    pub(in crate::scenario) fn stop(self) {
        self.stop_keeping();
    }

    /// Ends it, and yields what it leaves.
    pub(in crate::scenario) fn stop_keeping(self) -> Option<TempDir> {
        end(self.runtime, self.dev.process.stop());
        self.folder
    }
}

/// The node's JSON-RPC server with a handler that does nothing.
pub(in crate::scenario) struct EmptyServer {
    runtime: Runtime,
    server: Server,
}

impl EmptyServer {
    pub(in crate::scenario) fn start() -> Result<Self, Failed> {
        let runtime = runtime()?;
        let mut module = RpcModule::new(());
        let hash = format!("{:#066x}", 1);
        let answer = serde_json::json!({ "bundleHash": hash, "lockstepHash": hash });
        module.register_async_method("eth_sendBundle", move |_, _, _| {
            let answer = answer.clone();
            async move { Ok::<_, ErrorObjectOwned>(answer) }
        })?;
        let routes = Routes { rollups: BTreeMap::from([(CHAIN, Methods::from(module))]), ..Routes::default() };
        let server = runtime.block_on(async {
            let bound = bind(any_port()).await?;
            Ok::<_, Failed>(serve(bound, routes, Arc::new(NoPages), Limits::default()))
        })?;
        Ok(Self { runtime, server })
    }

    pub(in crate::scenario) const fn address(&self) -> SocketAddr {
        self.server.address()
    }

    pub(in crate::scenario) fn stop(self) {
        end(self.runtime, self.server.stop());
    }
}

struct NoPages;

impl Pages for NoPages {
    fn page(&self, _: &str) -> Option<(u16, &'static str, String)> {
        None
    }
}

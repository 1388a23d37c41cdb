//! A whole node to send to, as `lockstep dev` starts one: every role, and rollups in the same process. It keeps on disk what it
//! acknowledges, and its market is a process of its own, so that one can see when its bids come there.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use alloy_primitives::{Address, Bytes, ChainId};
use jsonrpsee::http_client::{HttpClient, HttpClientBuilder};
use lockstep_node::{
    dev::{Dev, DevOptions, DevSetup, MAX_ROLLUPS, builder},
    process::{MarketSetup, Node as RollupAt, Process, Setup},
};
use lockstep_provider::{EmbeddedGenesis, EmbeddedRollup};
use lockstep_simulation::MemoryState;
use lockstep_testkit::ether;
use tempfile::TempDir;

use super::front::Front;
use crate::Failed;

/// Of every block: what the order flow needs is not to be short of room, since it is not building that is asked about here.
const GAS_LIMIT: u64 = 150_000_000;
/// Native funds of every sender on every rollup, in whole units.
const FUNDS: u64 = 1_000;

/// The rollups of a node, before there is one.
#[derive(Clone, Debug)]
pub(super) struct Sites {
    pub(super) chains: Vec<ChainId>,
    /// A contract with small effects on demand, at the same address on every rollup.
    pub(super) probe: Address,
}

impl Sites {
    /// Where the rollups of a node with that many of them will be.
    ///
    /// # Errors
    /// When there are none, or more than a node of this kind has.
    pub(super) fn of(rollups: usize) -> Result<Self, Failed> {
        if !(1..=MAX_ROLLUPS).contains(&rollups) {
            return Err(format!("--rollups {rollups}: this node has 1 to {MAX_ROLLUPS}").into());
        }
        let dev = Dev::prepare(DevOptions { rollups, ..DevOptions::default() })?;
        Ok(Self { chains: dev.rollups.iter().map(|rollup| rollup.chain).collect(), probe: dev.contracts.probe })
    }
}

/// A running node and its market.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) dev: Dev,
    pub(super) front: Front,
    market: Process,
    /// What it keeps. It goes last, since the node writes into it.
    _data: TempDir,
}

impl Node {
    /// Starts a node with that many rollups, whose slots and blocks are that long, and on which these accounts have funds.
    ///
    /// # Errors
    /// When a part of it does not start.
    pub(super) async fn start(rollups: usize, slot_ms: u64, funded: &[Address]) -> Result<Self, Failed> {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let data = TempDir::new()?;
        let options = DevOptions {
            listen,
            rollups,
            slot_ms,
            block_times: vec![slot_ms / 1_000],
            data: Some(data.path().to_owned()),
            ..DevOptions::default()
        };
        let mut prepared = Dev::prepare(options)?;
        fund(&mut prepared, funded)?;
        let MarketSetup::Own(plan) = prepared.setup.market.clone() else {
            return Err("the node has no market of its own to put elsewhere".into());
        };
        let address = plan.key.address();
        let market = Process::start(Setup {
            listen,
            public_url: None,
            data: None,
            rollups: Vec::new(),
            builder: None,
            market: MarketSetup::Own(plan),
            ..prepared.setup.clone()
        })
        .await?;
        if let Some(deposit) = prepared.deposit {
            market.credit(builder().address(), deposit).await?;
        }
        let front = Front::start(&market.url()).await?;
        prepared.setup.market = MarketSetup::At(front.url().to_owned(), address);
        Ok(Self { dev: prepared.start().await?, front, market, _data: data })
    }

    /// Clients of the node's paths.
    ///
    /// # Errors
    /// When there can be none for its URL.
    pub(super) fn clients(&self) -> Result<Clients, Failed> {
        let url = self.dev.process.url();
        let on = |chain: ChainId| -> Result<(ChainId, HttpClient), Failed> {
            Ok((chain, HttpClientBuilder::default().build(format!("{url}/rollup/{chain}"))?))
        };
        Ok(Clients {
            root: HttpClientBuilder::default().build(&url)?,
            rollups: self.dev.rollups.iter().map(|rollup| on(rollup.chain)).collect::<Result<_, Failed>>()?,
        })
    }

    /// Ends all of it.
    ///
    /// # Errors
    /// When a part of it has ended before.
    pub(super) async fn stop(self) -> Result<(), Failed> {
        self.dev.process.stop().await;
        self.front.stop()?;
        self.market.stop().await;
        Ok(())
    }
}

/// Clients of a node, by path.
#[derive(Clone, Debug)]
pub(super) struct Clients {
    root: HttpClient,
    rollups: BTreeMap<ChainId, HttpClient>,
}

impl Clients {
    /// The client of a rollup's path; of the root when there is no rollup.
    pub(super) fn of(&self, chain: Option<ChainId>) -> Option<&HttpClient> {
        chain.map_or(Some(&self.root), |chain| self.rollups.get(&chain))
    }
}

/// Founds the rollups anew, with funds for these accounts and room for all they send.
fn fund(prepared: &mut DevSetup, funded: &[Address]) -> Result<(), Failed> {
    for (setup, rollup) in prepared.setup.rollups.iter_mut().zip(&mut prepared.rollups) {
        let chain = rollup.chain;
        let (block, state) = rollup.rollup.block(0).zip(rollup.rollup.state(0)).ok_or("a rollup without a first block")?;
        let mut state = MemoryState::clone(&state);
        for account in funded {
            state.set_account(*account, ether(FUNDS), 0, Bytes::new());
        }
        let genesis = EmbeddedGenesis {
            chain,
            forks: rollup.rollup.forks().clone(),
            timestamp: block.context.timestamp,
            gas_limit: GAS_LIMIT,
            base_fee: block.context.base_fee,
            state,
        };
        let founded = Arc::new(EmbeddedRollup::new(genesis).map_err(|error| error.to_string())?);
        setup.node = RollupAt::Embedded(Arc::clone(&founded));
        rollup.rollup = founded;
    }
    Ok(())
}

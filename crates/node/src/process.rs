//! A process: the roles it plays, wired together behind one port.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use alloy_primitives::{Address, I256, U256};
use jsonrpsee::RpcModule;
use lockstep_building::{Policy, SearchLimits};
use lockstep_delivery::{CommitteeKey, MemberKey};
use lockstep_market::{
    AheadSale, BiddingStrategy, Budget, Combinatorial, DepositRules, Forecast, L1Terms, ProposalTerms, SealRules, Selling,
    Shaded, Share, TimeboostDomain,
};
use lockstep_messaging::{AggLayer, BridgeDeployment, Deployments, RollupDeployments};
use lockstep_primitives::{ChainId, MAX_INCLUSION, OrderingPolicy, Price, Registration, ReserveRule, RollupSet};
use lockstep_provider::{
    CctpVersion, EmbeddedRollup, EvidenceRoutes, EvidenceSource, IrisClient, IrisLimits, IrisSource, LocalAttester, RemoteNode,
    RollupNode, ValidatorKey,
};
use lockstep_rpc::{
    Limits as RpcLimits, Recovery, Routes, Server, ServerError,
    api::{
        AuctioneerApiServer, CommitteeApiServer, DecisionApiServer, EncryptedApiServer, LockstepApiServer, MarketApiServer,
        SequencerApiServer,
    },
    bind, serve_with,
};
use lockstep_simulation::{DataLimits, ForkSchedule};
use lockstep_store::{Store, StoreError};
use tokio::task::JoinHandle;

use crate::{
    api::LockstepRpc,
    batcher::batcher_methods,
    clock::{now_ms, sleep_until},
    config::{CircleConfig, CircleProtocol, FollowConfig},
    dialect, eth, flow,
    intake::{Intake, ServedRollup},
    keys::Key,
    messages::{Bridging, Messages, MessagesSettings},
    record::SlotRecords,
    reorg,
    roles::{
        ClientError, Timings,
        builder::{BuilderRole, BuilderSettings, Recorder},
        client,
        committee::{CommitteeRole, CommitteeSettings},
        market::{MarketRole, MarketRpc, MarketSettings, Solver},
        sequencer::{EncryptedSettings, Mempool, PublicTx, SequencerRole, SequencerSettings, Sequencers},
    },
    strategies::{Strategies, StrategySetup},
    telemetry::{NodePages, init_metrics},
};

/// What is served, as OpenRPC describes it.
const OPENRPC: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openrpc.json"));
/// How long a process waits for the market before it gives up.
const MARKET_WAIT_MS: u64 = 30_000;

/// A rollup's node.
#[derive(Clone, Debug)]
pub enum Node {
    /// In this process.
    Embedded(Arc<EmbeddedRollup>),
    /// Elsewhere.
    Remote(Arc<RemoteNode>),
}

impl Node {
    pub(crate) fn rollup_node(&self) -> Arc<dyn RollupNode> {
        match self {
            Self::Embedded(rollup) => Arc::clone(rollup) as _,
            Self::Remote(node) => Arc::clone(node) as _,
        }
    }
}

/// On what terms a rollup sells the right to propose. What each term is, [`Registration`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaleTerms {
    /// The least that a slot is sold for.
    pub reserve: ReserveRule,
    /// Who proposes when nobody buys; the sequencer when absent.
    pub default_proposer: Option<Address>,
    /// Who receives what the rollup is paid; the sequencer when absent.
    pub payout: Option<Address>,
    /// Whether it sells.
    pub active: bool,
    /// How many slots ahead it sells at the most.
    pub slots_ahead: u64,
    /// Other rollups that it is sold together with, or not at all.
    pub cluster: RollupSet,
    /// Whether it holds its block back while the decision cannot be read.
    pub holds: bool,
    /// The proposer's share of protocol fees, in basis points.
    pub fee_share_bps: u64,
    /// In which order its blocks may hold transactions.
    pub ordering: OrderingPolicy,
    /// How many transactions its inclusion lists have at the most.
    pub inclusion: u64,
    /// Whether its blocks may claim AggLayer exits of the same slot.
    pub same_slot_claims: bool,
    /// Whether its blocks follow Ethereum's newest state.
    pub follows_l1: bool,
    /// Gas of each slot's last block that is kept for encrypted transactions.
    pub encrypted_gas: u64,
}

impl Default for SaleTerms {
    /// For nothing at the least, alone, just in time, with all rules at their loosest; it holds.
    fn default() -> Self {
        Self {
            reserve: ReserveRule::Fixed(U256::ZERO),
            default_proposer: None,
            payout: None,
            active: true,
            slots_ahead: 0,
            cluster: RollupSet::new(),
            holds: true,
            fee_share_bps: 0,
            ordering: OrderingPolicy::Free,
            inclusion: MAX_INCLUSION as u64,
            same_slot_claims: false,
            follows_l1: false,
            encrypted_gas: 0,
        }
    }
}

/// A rollup's sequencer, when this process plays it.
#[derive(Clone, Debug)]
pub struct SequencerSetup {
    /// Its key.
    pub key: Key,
    /// On what terms it sells.
    pub terms: SaleTerms,
    /// How many of its public transactions an inclusion list has at the most, oldest first. Without a builder in the process
    /// it sees none.
    pub inclusion: usize,
    /// How much data it takes until its batcher says otherwise (OP stack).
    pub data: DataLimits,
    /// Whether its batcher may say so, by `miner_setMaxDASize`. Batchers sign no requests, so the port has to be private.
    pub batcher_api: bool,
    /// How encrypted transactions are opened, where it takes any.
    pub encrypted: Option<EncryptedSetup>,
}

/// How a sequencer has encrypted transactions opened.
#[derive(Clone, Debug)]
pub struct EncryptedSetup {
    /// The committee's key.
    pub committee: CommitteeKey,
    /// Its members, in the order of their numbers.
    pub members: Vec<MemberAt>,
    /// For how long a slot's last block waits for their shares, in milliseconds.
    pub patience_ms: u64,
}

/// Where a member of a committee is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberAt {
    /// In this process.
    Here,
    /// At the URL of its JSON-RPC.
    Url(String),
}

/// Members of a committee that opens encrypted transactions.
#[derive(Clone, Debug)]
pub struct CommitteeSetup {
    /// Their shares of the key, by their numbers.
    pub members: BTreeMap<u32, MemberKey>,
    /// Whose orders they open ciphertexts for.
    pub sequencers: BTreeMap<ChainId, Address>,
}

/// A rollup that the process has to do with.
#[derive(Clone, Debug)]
pub struct RollupSetup {
    /// The rollup.
    pub chain: ChainId,
    /// When which rules hold.
    pub forks: ForkSchedule,
    /// Its node.
    pub node: Node,
    /// Seconds between blocks.
    pub block_time: u64,
    /// The price of its native asset.
    pub price: Price,
    /// The message protocols on it.
    pub deployments: RollupDeployments,
    /// Its sequencer.
    pub sequencer: Option<SequencerSetup>,
    /// How many blocks deep a landed bundle is taken to be safe from reorgs; zero on a chain that has none.
    pub finality_blocks: u64,
    /// Whether the builder takes the public transactions that the rollup's node comes to know. An embedded rollup has none.
    pub public_flow: bool,
    /// How its messages are followed.
    pub messages: RollupMessages,
}

/// How messages on a rollup are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RollupMessages {
    /// The block that reading begins with when nothing is known yet. `None` is the first one of an embedded rollup, and of any
    /// other the one after its head.
    pub from: Option<u64>,
    /// The storage slot in which the frontier of the bridge's exit tree begins (AggLayer): the tree is read from there when it
    /// is not known.
    pub branch_slot: Option<u64>,
}

/// How a builder bids. Parts of a proposal's value are in basis points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BiddingPlan {
    /// Which part is bid; the most of it where the part follows wins and losses.
    pub bps: u64,
    /// The least of it, and by how much it moves, where it follows wins and losses.
    pub shaded: Option<(u64, u64)>,
    /// The most that may be owed within an hour, in the numeraire's smallest unit.
    pub per_hour: Option<U256>,
}

impl BiddingPlan {
    /// Always the same part.
    pub const fn share(bps: u64) -> Self {
        Self { bps, shaded: None, per_hour: None }
    }

    /// The strategy, without a history.
    pub fn strategy(&self) -> Box<dyn BiddingStrategy> {
        let strategy: Box<dyn BiddingStrategy> = match self.shaded {
            Some((least_bps, step_bps)) => Box::new(Shaded::new(least_bps, self.bps, step_bps)),
            None => Box::new(Share { bps: self.bps }),
        };
        match self.per_hour {
            Some(per_hour) => Box::new(Budget::new(strategy, per_hour)),
            None => strategy,
        }
    }
}

/// How a builder tells what slots to come are worth, where tickets or epochs are sold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForecastPlan {
    /// How many slots it looks back at.
    pub window: usize,
    /// The value that so many basis points of them do not exceed...
    pub quantile_bps: u64,
    /// ...less so many basis points of it.
    pub margin_bps: u64,
}

/// Whether a builder takes part in the builder market inside a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProposalPlan {
    /// Whether it asks others for proposals, for what it may propose.
    pub takes: bool,
    /// Whether it offers proposals to others.
    pub offers: bool,
}

impl Default for ForecastPlan {
    fn default() -> Self {
        Self { window: 256, quantile_bps: 5_000, margin_bps: 2_000 }
    }
}

impl ForecastPlan {
    /// A forecast that knows nothing yet.
    pub(crate) fn forecast(&self) -> Forecast {
        Forecast::new(self.window, self.quantile_bps, self.margin_bps)
    }
}

/// A builder.
#[derive(Clone, Debug)]
pub struct BuilderSetup {
    /// Its key.
    pub key: Key,
    /// How it bids.
    pub bidding: BiddingPlan,
    /// How it tells what slots to come are worth.
    pub forecast: ForecastPlan,
    /// How many tickets of each class it means to hold, if it buys any.
    pub tickets: Option<u64>,
    /// Whether it bids for epochs.
    pub bids_ahead: bool,
    /// Whether it asks other builders for proposals, and offers its own to others.
    pub proposals: ProposalPlan,
    /// The attester keys that it may ask.
    pub attesters: Vec<Key>,
    /// Rollups whose sequencers the attester trusts to vote.
    pub trusted: RollupSet,
    /// Circle's attestation service, when it attests instead of these keys.
    pub circle: Option<CircleConfig>,
    /// How messages on the chains are followed.
    pub messages: FollowConfig,
    /// How much is searched for better proposals.
    pub search: SearchLimits,
    /// The least value of a bundle with relays, in the numeraire's smallest unit.
    pub min_relay_value: I256,
    /// Bounds of its pool.
    pub pool: lockstep_pool::Limits,
    /// Where it records its slots, if it does.
    pub record: Option<SlotRecords>,
    /// What makes bundles of its own.
    pub strategies: Vec<StrategySetup>,
}

/// Where the market is.
#[derive(Clone, Debug)]
pub enum MarketSetup {
    /// In this process.
    Own(Box<MarketPlan>),
    /// Elsewhere: its URL and the address that signs its allocations.
    At(String, Address),
}

/// L1, and how the market learns who proposes there.
#[derive(Clone, Debug)]
pub struct L1Plan {
    /// L1.
    pub terms: L1Terms,
    /// The beacon API of one of its nodes.
    pub beacon: String,
    /// The validators that take part, and the address with which each bids.
    pub proposers: BTreeMap<ValidatorKey, Address>,
}

/// An escrow contract on a settlement rollup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EscrowPlan {
    /// The JSON-RPC of the settlement rollup's node.
    pub url: String,
    /// The contract.
    pub contract: Address,
    /// The first block that may hold something of it.
    pub from_block: u64,
    /// How deep a block has to be for what it holds to count.
    pub confirmations: u64,
    /// At least so many slots are between two batches.
    pub batch_slots: u64,
    /// How often its chain is asked, in milliseconds.
    pub poll_ms: u64,
}

/// A market that this process plays.
#[derive(Clone, Debug)]
pub struct MarketPlan {
    /// Its key.
    pub key: Key,
    /// Whose slots it sells; anybody's when empty.
    pub sellers: RollupSet,
    /// How.
    pub selling: Selling,
    /// How epochs are sold ahead of time, if they are.
    pub ahead: Option<AheadSale>,
    /// What bids have to be covered by, if by anything.
    pub deposits: Option<DepositRules>,
    /// How bids are sealed, if they are.
    pub sealing: Option<SealRules>,
    /// How builders' proposals are taken, if they are.
    pub proposals: Option<ProposalTerms>,
    /// Whether it has the interface of Espresso's solver.
    pub espresso: bool,
    /// L1, if its proposers take part.
    pub l1: Option<L1Plan>,
    /// The escrow that keeps the money, if one does.
    pub escrow: Option<EscrowPlan>,
    /// The rollup whose slots Timeboost bids are taken for, and the contract that they are signed for.
    pub timeboost: Option<TimeboostDomain>,
    /// For how many slots after its own a slot may be reported on.
    pub report_slots: u64,
}

impl MarketPlan {
    /// For how many slots after its own a slot may be reported on when nothing else is said.
    pub const REPORT_SLOTS: u64 = 60;

    /// A market for packages that collects nothing.
    pub fn new(key: Key, sellers: RollupSet) -> Self {
        Self {
            key,
            sellers,
            selling: Selling::Slots(Arc::new(Combinatorial::default())),
            ahead: None,
            deposits: None,
            sealing: None,
            proposals: None,
            espresso: false,
            l1: None,
            escrow: None,
            timeboost: None,
            report_slots: Self::REPORT_SLOTS,
        }
    }
}

/// Everything a process is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The URL under which others reach it; by its address when absent.
    pub public_url: Option<String>,
    /// Where it keeps what it acknowledged; in memory when absent.
    pub data: Option<PathBuf>,
    /// When the slot clock began, in Unix milliseconds: the same for all processes of a market.
    pub genesis_ms: u64,
    /// Length of a slot.
    pub slot_ms: u64,
    /// The shortest block time of any rollup of the market, in seconds: the same for all processes of a market.
    pub shortest_block_s: u64,
    /// The rollups.
    pub rollups: Vec<RollupSetup>,
    /// The builder, if it plays one.
    pub builder: Option<BuilderSetup>,
    /// Members of a committee, if it plays any.
    pub committee: Option<CommitteeSetup>,
    /// The market.
    pub market: MarketSetup,
}

/// Why a process did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The store.
    #[error("the store cannot be used: {0}")]
    Store(#[from] StoreError),
    /// A URL.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Methods.
    #[error("a method is registered twice: {0}")]
    Methods(#[from] jsonrpsee::core::RegisterMethodError),
    /// Where attestations come from.
    #[error("the attestation service cannot be used: {0}")]
    Evidence(String),
    /// The market.
    #[error("the market cannot be used: {0}")]
    Market(String),
}

/// A running process. Its roles end when it is dropped.
#[derive(Debug)]
pub struct Process {
    server: Option<Server>,
    tasks: Vec<JoinHandle<()>>,
    builder: Option<Arc<BuilderRole>>,
    market: Option<Arc<MarketRole>>,
    timings: Timings,
    methods: Vec<&'static str>,
}

impl Drop for Process {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Process {
    /// Starts every role of a setup.
    ///
    /// # Errors
    /// When the port, the store or the market cannot be used.
    pub async fn start(setup: Setup) -> Result<Self, StartError> {
        let metrics = init_metrics();
        let timings = Timings::for_slots(setup.genesis_ms, setup.slot_ms, setup.shortest_block_s);
        let bound = bind(setup.listen).await?;
        let own_url = format!("http://{}", bound.address());
        let store = match &setup.data {
            Some(path) => {
                let _ = std::fs::create_dir_all(path);
                Store::open(&path.join("lockstep.redb"))?
            }
            None => Store::in_memory()?,
        };
        let mut root = RpcModule::new(());
        let mut on_rollup: BTreeMap<ChainId, RpcModule<()>> = BTreeMap::new();
        let mut routes = Routes::default();
        let (mut escrow_plan, mut l1_plan) = (None, None);
        let (market_url, market_address, market) = match &setup.market {
            MarketSetup::Own(plan) => {
                let MarketPlan {
                    key,
                    sellers,
                    selling,
                    ahead,
                    deposits,
                    sealing,
                    proposals,
                    espresso,
                    l1,
                    escrow,
                    timeboost,
                    report_slots,
                } = plan.as_ref().clone();
                check_sealing(sealing, &timings)?;
                check_proposals(proposals, &timings)?;
                let settings = MarketSettings {
                    key,
                    timings,
                    sellers,
                    selling,
                    ahead,
                    deposits,
                    sealing,
                    proposals,
                    l1: l1.as_ref().map(|plan| plan.terms),
                    escrow: escrow.is_some(),
                    timeboost,
                    report_slots,
                };
                (escrow_plan, l1_plan) = (escrow, l1);
                let role = MarketRole::new(settings, store.clone());
                let role = Arc::new(role.map_err(|error| StartError::Market(error.to_string()))?);
                root.merge(MarketApiServer::into_rpc(MarketRpc(Arc::clone(&role))))?;
                root.merge(AuctioneerApiServer::into_rpc(MarketRpc(Arc::clone(&role))))?;
                root.merge(DecisionApiServer::into_rpc(MarketRpc(Arc::clone(&role))))?;
                if espresso {
                    routes.rest = Some(Arc::new(Solver(Arc::clone(&role))));
                }
                (own_url.clone(), role.address(), Some(role))
            }
            MarketSetup::At(url, address) => (url.clone(), *address, None),
        };
        let intake = setup.builder.as_ref().map(|builder| {
            let served = setup.rollups.iter().map(|rollup| {
                let node = rollup.node.rollup_node();
                let (forks, finality_blocks) = (rollup.forks.clone(), rollup.finality_blocks);
                (rollup.chain, ServedRollup { node, forks, finality_blocks })
            });
            Arc::new(Intake::new(served.collect(), builder.pool.clone(), store.clone()))
        });
        let policy = policy(&setup);
        // Requests and what is in them share the threads.
        let recovery = Recovery::default();
        let builder = match (&setup.builder, &intake) {
            (Some(builder), Some(intake)) => {
                let began = Instant::now();
                let restored = intake.restore()?;
                if restored > 0 {
                    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                    tracing::info!(restored, ms, "pending bundles are back from disk");
                }
                let evidence = evidence(&setup, builder)?;
                let messages = Arc::new(messages(&setup, builder, intake, &evidence, &store)?);
                let settings = BuilderSettings {
                    key: builder.key.clone(),
                    timings,
                    policy: policy.clone(),
                    prices: setup.rollups.iter().map(|rollup| (rollup.chain, rollup.price)).collect(),
                    bidding: builder.bidding,
                    forecast: builder.forecast,
                    tickets: builder.tickets,
                    bids_ahead: builder.bids_ahead,
                    proposals: builder.proposals,
                    search: builder.search,
                    recorder: builder.record.clone().map(|records| Arc::new(Recorder::new(records, deployments(&setup)))),
                    strategies: Strategies::new(builder.strategies.clone()),
                };
                let role = Arc::new(BuilderRole::new(
                    settings,
                    Arc::clone(intake),
                    client(&market_url)?,
                    market_address,
                    evidence,
                    messages,
                ));
                let rpc = LockstepRpc { builder: Arc::clone(&role), policy, recovery: recovery.clone() };
                root.merge(LockstepApiServer::into_rpc(rpc.clone()))?;
                for rollup in &setup.rollups {
                    let mut methods = read_methods(&rollup.node, intake)?;
                    methods.merge(dialect::bundle_methods(rollup.chain, rpc.clone())?)?;
                    on_rollup.insert(rollup.chain, methods);
                }
                Some(role)
            }
            _ => None,
        };
        if let Some(CommitteeSetup { members, sequencers }) = setup.committee.clone() {
            let settings = CommitteeSettings { members, sequencers, timings };
            root.merge(CommitteeApiServer::into_rpc(CommitteeRole::new(settings, store.clone())))?;
        }
        let sequencers = sequencers(&setup, timings, &own_url, &market_url, market_address, &store, intake.as_ref())?;
        if !sequencers.0.is_empty() {
            root.merge(SequencerApiServer::into_rpc(sequencers.clone()))?;
            root.merge(EncryptedApiServer::into_rpc(sequencers.clone()))?;
        }
        for (chain, role) in &sequencers.0 {
            on_rollup.entry(*chain).or_insert_with(|| RpcModule::new(())).merge(batcher_methods(Arc::clone(role))?)?;
        }
        routes.rollups = on_rollup.into_iter().map(|(chain, methods)| (chain, methods.into())).collect();
        root.register_method("rpc.discover", |_, (), _| serde_json::from_str::<serde_json::Value>(OPENRPC).ok())?;
        let mut methods: Vec<&'static str> = root.method_names().collect();
        methods.sort_unstable();
        routes.root = root.into();
        let nodes = setup.rollups.iter().map(|rollup| (rollup.chain, (rollup.node.clone(), rollup.block_time))).collect();
        let pages = Arc::new(NodePages::new(metrics, nodes, store));
        let server = serve_with(bound, routes, pages, RpcLimits::default(), recovery);
        let market_role = market.clone();
        let mut process = Self { server: Some(server), tasks: Vec::new(), builder, market: market_role, timings, methods };
        if let Some(intake) = &intake {
            process.tasks.extend(reorg::followers(intake));
            process.tasks.extend(process.builder.iter().flat_map(|builder| builder.messages().tasks()).collect::<Vec<_>>());
            process.tasks.extend(setup.rollups.iter().filter_map(|rollup| public_flow(rollup, intake)));
        }
        process.run(market, (escrow_plan, l1_plan), sequencers).await?;
        Ok(process)
    }

    /// Registers the rollups, then sets every loop going.
    async fn run(
        &mut self,
        market: Option<Arc<MarketRole>>,
        (escrow, l1): (Option<EscrowPlan>, Option<L1Plan>),
        sequencers: Sequencers,
    ) -> Result<(), StartError> {
        for role in sequencers.0.values() {
            let deadline = now_ms() + MARKET_WAIT_MS;
            while let Err(error) = role.register().await {
                if now_ms() > deadline {
                    return Err(StartError::Market(error));
                }
                tracing::warn!(chain = role.chain(), %error, "the rollup is not registered yet");
                sleep_until(now_ms() + 500).await;
            }
        }
        if let Some(market) = market {
            if let Some(plan) = escrow {
                self.tasks.push(tokio::spawn(Arc::clone(&market).run_escrow(plan)));
            }
            if let Some(plan) = l1 {
                self.tasks.push(tokio::spawn(Arc::clone(&market).run_l1(plan)));
            }
            self.tasks.push(tokio::spawn(Arc::clone(&market).run_epochs()));
            self.tasks.push(tokio::spawn(market.run()));
        }
        for role in sequencers.0.into_values() {
            self.tasks.push(tokio::spawn(role.run()));
        }
        if let Some(builder) = &self.builder {
            self.tasks.push(tokio::spawn(Arc::clone(builder).run()));
        }
        Ok(())
    }

    /// Where it listens.
    ///
    /// # Panics
    /// Never: the server is there until [`Process::stop`] takes it.
    pub fn address(&self) -> SocketAddr {
        #[expect(clippy::expect_used, reason = "only `stop`, which takes the process, takes the server")]
        self.server.as_ref().map(Server::address).expect("the server runs as long as the process")
    }

    /// The URL of its JSON-RPC.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The methods of `POST /`, by name.
    pub fn methods(&self) -> &[&'static str] {
        &self.methods
    }

    /// Its slots.
    pub const fn timings(&self) -> Timings {
        self.timings
    }

    /// Credits an account of the process's own market, whose key keeps its money: for `dev`.
    ///
    /// # Errors
    /// In words, when the process plays no market, or its market does not take the deposit.
    pub async fn credit(&self, account: Address, amount: U256) -> Result<(), String> {
        let market = self.market.as_ref().ok_or("this process plays no market")?;
        market.credit(account, amount).await.map_err(|error| error.to_string())
    }

    /// A report a slot from now on; `None` without a builder.
    pub fn reports(&self) -> Option<tokio::sync::broadcast::Receiver<lockstep_rpc::wire::SlotReport>> {
        self.builder.as_ref().map(|builder| builder.reports())
    }

    /// Names what a bundle is, for reports.
    pub fn label(&self, hash: alloy_primitives::B256, kind: &str) {
        if let Some(builder) = &self.builder {
            builder.intake().label(hash, kind);
        }
    }

    /// Ends every role; requests under way are answered.
    pub async fn stop(mut self) {
        for task in &self.tasks {
            task.abort();
        }
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
    }
}

/// Where the message protocols are.
fn deployments(setup: &Setup) -> Deployments {
    Deployments(setup.rollups.iter().map(|rollup| (rollup.chain, rollup.deployments.clone())).collect())
}

/// The attesters of a rollup that Circle's service is asked about.
fn asked_of_circle(setup: &Setup, rollup: &RollupDeployments) -> Vec<Address> {
    let circle = setup.builder.as_ref().and_then(|builder| builder.circle.as_ref());
    let asked = |protocol| circle.is_some_and(|circle| circle.protocols.contains(&protocol));
    let v1 = rollup.cctp_v1.iter().filter(|_| asked(CircleProtocol::CctpV1)).flat_map(|cctp| &cctp.attesters);
    let v2 = rollup.cctp_v2.iter().filter(|_| asked(CircleProtocol::CctpV2)).flat_map(|cctp| &cctp.attesters);
    v1.chain(v2).copied().collect()
}

/// How to build: the protocols of every rollup, whom the attester trusts, and what a relay has to be worth.
fn policy(setup: &Setup) -> Policy {
    let protocols = deployments(setup).protocols();
    let trusted = setup.builder.as_ref().map(|builder| builder.trusted.clone()).unwrap_or_default();
    let min_relay_value = setup.builder.as_ref().map(|builder| builder.min_relay_value).unwrap_or_default();
    let mut attesters: BTreeSet<Address> =
        setup.builder.iter().flat_map(|builder| &builder.attesters).map(Key::address).collect();
    // Whom a service is asked about signs in later slots only, whatever keys are here.
    for rollup in &setup.rollups {
        for attester in asked_of_circle(setup, &rollup.deployments) {
            attesters.remove(&attester);
        }
    }
    Policy { protocols, attesters, trusted, min_relay_value, ..Policy::default() }
}

/// The keeper of messages. A rollup in this process begins with it, so that all its blocks are there to be read; of one elsewhere
/// reading begins at its head unless it is told otherwise.
fn messages(
    setup: &Setup,
    builder: &BuilderSetup,
    intake: &Intake,
    evidence: &Arc<dyn EvidenceSource>,
    store: &Store,
) -> Result<Messages, StoreError> {
    let deployments = deployments(setup);
    let bridges = deployments.0.iter().filter_map(|(chain, rollup)| Some((*chain, rollup.agglayer.clone()?)));
    let bridges: BTreeMap<ChainId, BridgeDeployment> = bridges.collect();
    let bridges = if bridges.is_empty() { None } else { Some(AggLayer::new(bridges)) };
    let forks = setup.rollups.iter().map(|rollup| (rollup.chain, rollup.forks.clone())).collect();
    let bridging = Bridging { protocols: deployments.protocols(), bridges, forks };
    let start = |rollup: &RollupSetup| {
        let first = matches!(rollup.node, Node::Embedded(_)).then_some(0);
        Some((rollup.chain, rollup.messages.from.or(first)?))
    };
    let branch_slot = |rollup: &RollupSetup| Some((rollup.chain, rollup.messages.branch_slot?));
    let follow = &builder.messages;
    let settings = MessagesSettings {
        grace_blocks: follow.grace_blocks,
        confirmations: follow.confirmations,
        start: setup.rollups.iter().filter_map(start).collect(),
        mainnet_exit_root: follow.mainnet_exit_root.unwrap_or_default(),
        exit_roots: follow.exit_roots.iter().map(|root| (root.network, root.root)).collect(),
        branch_slots: setup.rollups.iter().filter_map(branch_slot).collect(),
        ..MessagesSettings::default()
    };
    let nodes = intake.rollups().iter().map(|(chain, served)| (*chain, Arc::clone(&served.node))).collect();
    Messages::open(settings, bridging, builder.key.address(), nodes, Arc::clone(evidence), store.clone())
}

/// Who attests: keys that this process holds, and where it is configured Circle's service.
fn evidence(setup: &Setup, builder: &BuilderSetup) -> Result<Arc<dyn EvidenceSource>, StartError> {
    let keys = builder.attesters.iter().map(|key| key.signer().clone());
    let own: Arc<dyn EvidenceSource> = Arc::new(LocalAttester::new(keys, builder.trusted.clone()));
    let versions = [(CctpVersion::V1, CircleProtocol::CctpV1), (CctpVersion::V2, CircleProtocol::CctpV2)];
    let circle = match &builder.circle {
        Some(circle) => {
            let client = IrisClient::new(&circle.url, IrisLimits::default());
            Some((circle, Arc::new(client.map_err(StartError::Evidence)?)))
        }
        None => None,
    };
    let mut sources: BTreeMap<&'static str, Arc<dyn EvidenceSource>> = BTreeMap::new();
    for (version, protocol) in versions {
        let source = match &circle {
            Some((circle, client)) if circle.protocols.contains(&protocol) => {
                let attesters = setup.rollups.iter().flat_map(|rollup| match version {
                    CctpVersion::V1 => rollup.deployments.cctp_v1.iter().flat_map(|cctp| &cctp.attesters).collect::<Vec<_>>(),
                    CctpVersion::V2 => rollup.deployments.cctp_v2.iter().flat_map(|cctp| &cctp.attesters).collect(),
                });
                Arc::new(IrisSource::new(Arc::clone(client), version, attesters.copied().collect())) as _
            }
            _ => Arc::clone(&own),
        };
        sources.insert(version.protocol(), source);
    }
    Ok(Arc::new(EvidenceRoutes::new(sources, builder.trusted.clone())))
}

/// The task that takes a rollup's public transactions into the pool, where that is configured.
fn public_flow(rollup: &RollupSetup, intake: &Arc<Intake>) -> Option<JoinHandle<()>> {
    match &rollup.node {
        Node::Remote(node) if rollup.public_flow => {
            Some(tokio::spawn(flow::follow(Arc::clone(intake), rollup.chain, node.public_flow())))
        }
        _ => None,
    }
}

fn read_methods(node: &Node, intake: &Arc<Intake>) -> Result<RpcModule<()>, jsonrpsee::core::RegisterMethodError> {
    match node {
        Node::Embedded(rollup) => eth::read_methods(Arc::clone(rollup), Arc::clone(intake) as _),
        Node::Remote(node) => crate::forward::read_methods(Arc::clone(node)),
    }
}

impl eth::PendingNonces for Intake {
    fn next_nonce(&self, chain: ChainId, account: Address, nonce: u64) -> u64 {
        self.pool().read().next_nonce(chain, account, nonce)
    }
}

/// What a rollup registers with, but for what the market and the chain say: from when on, and where its blocks are.
fn registration(rollup: &RollupSetup, sequencer: &SequencerSetup, url: &str) -> Registration {
    let (own, terms) = (sequencer.key.address(), sequencer.terms.clone());
    let mut cluster = terms.cluster;
    cluster.insert(rollup.chain);
    Registration {
        chain: rollup.chain,
        sequencer: own,
        sequencer_url: url.to_owned(),
        default_proposer: terms.default_proposer.unwrap_or(own),
        payout: terms.payout.unwrap_or(own),
        active: terms.active,
        slots_ahead: terms.slots_ahead,
        cluster,
        reserve: terms.reserve,
        block_time: rollup.block_time,
        block_anchor: 0,
        holds: terms.holds,
        fee_share_bps: terms.fee_share_bps,
        ordering: terms.ordering,
        inclusion: terms.inclusion,
        same_slot_claims: terms.same_slot_claims,
        follows_l1: terms.follows_l1,
        encrypted_gas: terms.encrypted_gas,
        from_slot: 0,
        nonce: 0,
    }
}

fn sequencers(
    setup: &Setup,
    timings: Timings,
    own_url: &str,
    market_url: &str,
    market_address: Address,
    store: &Store,
    intake: Option<&Arc<Intake>>,
) -> Result<Sequencers, StartError> {
    let public_url = setup.public_url.as_deref().unwrap_or(own_url);
    let mut sequencers = Sequencers::default();
    for rollup in &setup.rollups {
        let Some(sequencer) = &rollup.sequencer else { continue };
        let registration = registration(rollup, sequencer, public_url);
        let encrypted = match &sequencer.encrypted {
            Some(encrypted) => Some(encrypted_settings(encrypted, own_url)?),
            None => None,
        };
        let settings = SequencerSettings {
            key: sequencer.key.clone(),
            registration,
            forks: rollup.forks.clone(),
            price: rollup.price,
            timings,
            inclusion: sequencer.inclusion,
            data: sequencer.data,
            batcher_api: sequencer.batcher_api,
            encrypted,
        };
        let mempool = intake.map(|intake| Arc::clone(intake) as Arc<dyn Mempool>);
        let ordering = sequencer.terms.ordering;
        let by_arrival = matches!(ordering, OrderingPolicy::FirstComeFirstServed | OrderingPolicy::TopOfBlock { .. });
        if mempool.is_none() && by_arrival {
            let ordering = ordering.name();
            tracing::warn!(chain = rollup.chain, ordering, "no builder shares this process: no transaction has an arrival");
        }
        let node = rollup.node.rollup_node();
        let role = SequencerRole::open(settings, node, client(market_url)?, market_address, store.clone(), mempool)?;
        sequencers.0.insert(rollup.chain, Arc::new(role));
    }
    Ok(sequencers)
}

/// Clients of a committee's members; one in this process is reached at `own_url`.
fn encrypted_settings(setup: &EncryptedSetup, own_url: &str) -> Result<EncryptedSettings, ClientError> {
    let members = setup.members.iter().map(|member| match member {
        MemberAt::Here => client(own_url),
        MemberAt::Url(url) => client(url),
    });
    let (committee, patience_ms) = (setup.committee.clone(), setup.patience_ms);
    Ok(EncryptedSettings { committee, members: members.collect::<Result<_, _>>()?, patience_ms })
}

impl Mempool for Intake {
    fn public(&self, chain: ChainId) -> Vec<PublicTx> {
        Self::public(self, chain)
    }
}

/// The best of the proposals has to be revealed before lists are voted on, which takes the last part of the time until the decision.
fn check_proposals(proposals: Option<ProposalTerms>, timings: &Timings) -> Result<(), StartError> {
    let most = timings.longest_reveal_ms();
    match proposals {
        Some(terms) if terms.bid_ms.saturating_add(terms.reveal_ms.saturating_mul(terms.turns)) > most => {
            let ProposalTerms { bid_ms, reveal_ms, turns, .. } = terms;
            let text = format!(
                "proposals are taken during {bid_ms} ms and revealed in {turns} turns of {reveal_ms} ms, and with these slots all of it \
                 has {most} ms"
            );
            Err(StartError::Market(text))
        }
        _ => Ok(()),
    }
}

/// Bids are sealed after building began, and opened before bidding ends.
fn check_sealing(sealing: Option<SealRules>, timings: &Timings) -> Result<(), StartError> {
    let most = timings.longest_opening_ms();
    match sealing {
        Some(rules) if rules.open_ms > most => {
            let text = format!("bids are opened during {} ms, and with these slots it can be {most} at the most", rules.open_ms);
            Err(StartError::Market(text))
        }
        _ => Ok(()),
    }
}

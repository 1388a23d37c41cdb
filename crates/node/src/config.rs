//! Configuration: flag over environment over file over default. Unknown fields are errors.

mod committee;
mod market;
mod messages;
mod remote;
mod rules;
mod search;
mod sequencer;
mod strategies;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use alloy_primitives::{ChainId, I256, U256};
use lockstep_market::MAX_FORECAST_WINDOW;
use lockstep_primitives::{Guarantee, Price, RollupSet};
use lockstep_provider::{DeliverySettings, RemoteNode, RemoteSettings, RollupNode};
use lockstep_simulation::ForkSchedule;
use serde::{Deserialize, Serialize};

use crate::{
    keys::Key,
    process::{BiddingPlan, BuilderSetup, ForecastPlan, MarketSetup, Node, ProposalPlan, RollupMessages, RollupSetup, Setup},
    record::{DEFAULT_RECORD_SLOTS, SlotRecords},
};

pub use self::{
    committee::{CommitteeConfig, EncryptedConfig, OrderedByConfig},
    market::{
        DepositsConfig, EscrowConfig, MarketConfig, MechanismName, SealingConfig, SharingName, TicketsConfig, TimeboostConfig,
    },
    messages::{
        AggLayerConfig, CctpV1Config, CctpV2Config, CircleConfig, CircleProtocol, ExitRootConfig, FollowConfig, InteropConfig,
        MailboxConfig, ProtocolsConfig,
    },
    remote::{DeliveryConfig, DeliveryKind, LimitsConfig, NodeUrls},
    rules::{ForkConfig, RulesConfig},
    search::{MAX_ALTERNATIVES, MAX_EXACT_ITEMS, MAX_ROUND_WORK, SearchConfig},
    sequencer::{ImpliedReserveConfig, ReserveStepConfig, SequencerConfig},
    strategies::{ArbitrageConfig, OrphanRelayConfig, PoolConfig, StrategiesConfig},
};

/// A configuration file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// The URL under which others reach this process; `http://<listen>` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_url: Option<String>,
    /// Folder of the store. Without one, nothing that is acknowledged survives the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// The slots.
    pub slots: SlotsConfig,
    /// The market.
    pub market: MarketConfig,
    /// The builder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builder: Option<BuilderConfig>,
    /// A member of a committee that opens encrypted transactions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committee: Option<CommitteeConfig>,
    /// What makes bundles of the builder's own.
    #[serde(default, skip_serializing_if = "StrategiesConfig::is_empty")]
    pub strategies: StrategiesConfig,
    /// The rollups.
    #[serde(default, rename = "rollup")]
    pub rollups: Vec<RollupConfig>,
}

/// The slot clock: the same for all processes of a market.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotsConfig {
    /// When slot 0 began, in Unix milliseconds.
    pub genesis_ms: u64,
    /// Length of a slot in milliseconds.
    pub length_ms: u64,
}

/// The builder.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuilderConfig {
    /// File with the builder's private key in hex. It is paid at its address and pays for relays.
    pub key_file: PathBuf,
    /// Which part of a proposal's value is bid, in basis points.
    #[serde(default = "default_bid_bps")]
    pub bid_bps: u64,
    /// The least part that is bid, in basis points: between it and `bid_bps` the part rises with losses and falls with wins. Without,
    /// it is always `bid_bps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bid_least_bps: Option<u64>,
    /// By how much it moves after a slot, in basis points.
    #[serde(default = "default_bid_step_bps")]
    pub bid_step_bps: u64,
    /// How many tickets of each class it means to hold, where the market sells them; without, it buys none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tickets: Option<u64>,
    /// Whether it bids for epochs, where the market sells slots ahead of time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bids_ahead: bool,
    /// Whether it asks other builders for proposals for what it may propose, where the market takes them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub takes_proposals: bool,
    /// Whether it offers proposals to others who ask for them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub offers_proposals: bool,
    /// How it tells what slots to come are worth, for tickets and epochs.
    #[serde(default)]
    pub forecast: ForecastConfig,
    /// The most that may be owed for slots within an hour, in the numeraire's smallest unit, as a decimal string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bid_budget_per_hour: Option<String>,
    /// Files with the keys of attesters that this builder may ask.
    #[serde(default)]
    pub attester_key_files: Vec<PathBuf>,
    /// Rollups whose sequencers the attesters trust to vote: only between these may messages go both ways in one slot.
    #[serde(default)]
    pub trusted: Vec<ChainId>,
    /// Circle's attestation service, when it attests instead of keys that this builder may ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circle: Option<CircleConfig>,
    /// How messages on the chains are followed.
    #[serde(default)]
    pub messages: FollowConfig,
    /// How much is searched for better proposals.
    #[serde(default)]
    pub search: SearchConfig,
    /// The least value of a bundle with relays, in the numeraire's smallest unit, as a decimal string.
    #[serde(default = "default_min_relay_value")]
    pub min_relay_value: String,
    /// Bundles that the pool holds.
    #[serde(default = "default_pool")]
    pub pool_bundles: usize,
    /// Bundles of one sender that the pool holds.
    #[serde(default = "default_pool_sender")]
    pub pool_bundles_per_sender: usize,
    /// Gas that a bundle's transactions may ask for together.
    #[serde(default = "default_pool_gas")]
    pub pool_gas: u64,
    /// Gas that the pending bundles of one sender may ask for together.
    #[serde(default = "default_pool_gas_sender")]
    pub pool_gas_per_sender: u64,
    /// Folder to record every slot in, for `lockstep replay`: order flow in the clear, states, lists and decisions. Nothing is
    /// recorded without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record_dir: Option<PathBuf>,
    /// Recorded slots that are kept; the oldest goes first.
    #[serde(default = "default_record_slots")]
    pub record_slots: usize,
}

/// How a builder tells what slots to come are worth, where tickets or epochs are sold.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ForecastConfig {
    /// How many slots it looks back at.
    pub window: usize,
    /// The value that so many basis points of them do not exceed...
    pub quantile_bps: u64,
    /// ...less so many basis points of it is the most that it pays.
    pub margin_bps: u64,
}

impl Default for ForecastConfig {
    fn default() -> Self {
        let ForecastPlan { window, quantile_bps, margin_bps } = ForecastPlan::default();
        Self { window, quantile_bps, margin_bps }
    }
}

impl ForecastConfig {
    fn plan(&self) -> Result<ForecastPlan, (&'static str, String)> {
        let Self { window, quantile_bps, margin_bps } = *self;
        if window == 0 || window > MAX_FORECAST_WINDOW {
            return Err(("forecast.window", format!("is not between 1 and {MAX_FORECAST_WINDOW}")));
        }
        for (field, bps) in [("forecast.quantile_bps", quantile_bps), ("forecast.margin_bps", margin_bps)] {
            if bps > 10_000 {
                return Err((field, "is more than 10000 basis points".to_owned()));
            }
        }
        Ok(ForecastPlan { window, quantile_bps, margin_bps })
    }
}

impl BuilderConfig {
    /// How it bids.
    fn bidding(&self) -> Result<BiddingPlan, (&'static str, String)> {
        if self.bid_bps > 10_000 {
            return Err(("bid_bps", "is more than 10000 basis points: more than a proposal is worth".to_owned()));
        }
        if self.bid_least_bps.is_some_and(|least| least > self.bid_bps) {
            return Err(("bid_least_bps", format!("is more than bid_bps, {}", self.bid_bps)));
        }
        let per_hour = self.bid_budget_per_hour.as_deref().map(amount).transpose();
        Ok(BiddingPlan {
            bps: self.bid_bps,
            shaded: self.bid_least_bps.map(|least| (least, self.bid_step_bps)),
            per_hour: per_hour.map_err(|problem| ("bid_budget_per_hour", problem))?,
        })
    }
}

/// A rollup.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollupConfig {
    /// The chain id.
    pub chain_id: ChainId,
    /// Its node's JSON-RPC: one address, or those of several nodes.
    pub node: NodeUrls,
    /// The name of a fork (`shanghai`, `cancun`, `prague`, `osaka`, `bpo1`, `bpo2`; `ecotone`, `fjord`, `granite`, `holocene`,
    /// `isthmus`, `jovian`, `karst`), or a list of them with their times; by the chain id when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<RulesConfig>,
    /// Seconds between blocks.
    pub block_time: u64,
    /// The price of one whole native asset in the numeraire's smallest unit, as a decimal string.
    #[serde(default = "default_price")]
    pub price: String,
    /// How many blocks deep a landed bundle is taken to be safe from reorgs: until then it is looked after, and comes back when
    /// it is gone.
    #[serde(default = "default_finality_blocks")]
    pub finality_blocks: u64,
    /// Whether the builder takes the public transactions that the node comes to know. They fill what bundles leave free.
    #[serde(default)]
    pub public_flow: bool,
    /// The block from which on the builder looks for messages when it knows nothing of the rollup yet, at most 200 blocks before
    /// its head; after its head when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_from: Option<u64>,
    /// CCTP v1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cctp_v1: Option<CctpV1Config>,
    /// CCTP v2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cctp_v2: Option<CctpV2Config>,
    /// OP interop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interop: Option<InteropConfig>,
    /// AggLayer's unified bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agglayer: Option<AggLayerConfig>,
    /// A mailbox of which the builder is the coordinator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mailbox: Option<MailboxConfig>,
    /// The sequencer, when this process may play it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequencer: Option<SequencerConfig>,
    /// How the sequencer's lists get onto the chain.
    #[serde(default, skip_serializing_if = "DeliveryConfig::is_default")]
    pub delivery: DeliveryConfig,
    /// Bounds of the connection to the node.
    #[serde(default)]
    pub limits: LimitsConfig,
}

impl RollupConfig {
    /// The message protocols on it.
    fn protocols(&self) -> ProtocolsConfig {
        ProtocolsConfig {
            cctp_v1: self.cctp_v1.clone(),
            cctp_v2: self.cctp_v2.clone(),
            interop: self.interop.clone(),
            agglayer: self.agglayer.clone(),
            mailbox: self.mailbox.clone(),
        }
    }
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8545))
}

const fn default_bid_bps() -> u64 {
    9_000
}

const fn default_bid_step_bps() -> u64 {
    100
}

fn default_pool() -> usize {
    lockstep_pool::Limits::default().bundles
}

fn default_pool_sender() -> usize {
    lockstep_pool::Limits::default().bundles_per_sender
}

fn default_pool_gas() -> u64 {
    lockstep_pool::Limits::default().gas
}

fn default_pool_gas_sender() -> u64 {
    lockstep_pool::Limits::default().gas_per_sender
}

const fn default_record_slots() -> usize {
    DEFAULT_RECORD_SLOTS
}

fn default_price() -> String {
    Price::PAR.0.to_string()
}

fn default_min_relay_value() -> String {
    "0".to_owned()
}

const fn default_finality_blocks() -> u64 {
    64
}

/// What is wrong with a configuration, and where.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ConfigError {
    place: String,
    problem: String,
}

fn wrong(place: impl Into<String>, problem: impl std::fmt::Display) -> ConfigError {
    ConfigError { place: place.into(), problem: problem.to_string() }
}

/// Which roles a process plays of those that its configuration allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// The builder.
    pub builder: bool,
    /// The market.
    pub market: bool,
    /// The sequencers.
    pub sequencer: bool,
    /// A member of a committee that opens encrypted transactions, where one is configured.
    pub committee: bool,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// With the line and field that is wrong.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let place = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| wrong(&place, error))?;
        let config: Self = toml::from_str(&text).map_err(|error| wrong(&place, error))?;
        config.check()?;
        Ok(config)
    }

    /// Checks everything that needs no network.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.slots.length_ms < 1_000 {
            return Err(wrong("slots.length_ms", "a slot is at least 1000 ms long, because blocks count whole seconds"));
        }
        self.market.check(self.slots.length_ms)?;
        if let Some(builder) = &self.builder {
            builder.bidding().map_err(|(field, problem)| wrong(format!("builder.{field}"), problem))?;
            builder.forecast.plan().map_err(|(field, problem)| wrong(format!("builder.{field}"), problem))?;
        }
        if self.builder.as_ref().is_some_and(|builder| builder.record_slots == 0) {
            return Err(wrong("builder.record_slots", "at least 1 slot is kept: leave record_dir out to record none"));
        }
        let mut seen = RollupSet::new();
        for (index, rollup) in self.rollups.iter().enumerate() {
            let place = |field: &str| format!("rollup[{index}].{field}");
            if !seen.insert(rollup.chain_id) {
                return Err(wrong(place("chain_id"), format!("{} is there twice", rollup.chain_id)));
            }
            if rollup.block_time == 0 {
                return Err(wrong(place("block_time"), "a block time is at least 1 second"));
            }
            let op_stack = matches!(forks(rollup).map_err(|problem| wrong(place("rules"), problem))?, ForkSchedule::OpStack(_));
            // Its nodes are what checks that the messages which a block executes are there.
            if rollup.interop.is_some() && !op_stack {
                return Err(wrong(place("interop"), "is for rollups under OP-stack rules"));
            }
            rollup.node.check().map_err(|problem| wrong(place("node"), problem))?;
            let field_of = |part: &str, (field, problem): (&str, String)| wrong(place(&format!("{part}.{field}")), problem);
            rollup.delivery.check(op_stack).map_err(|problem| field_of("delivery", problem))?;
            rollup.limits.check().map_err(|problem| field_of("limits", problem))?;
            amount(&rollup.price).map_err(|problem| wrong(place("price"), problem))?;
            if let Some(sequencer) = &rollup.sequencer {
                let terms = sequencer.terms(rollup.chain_id);
                terms.map_err(|(field, problem)| wrong(place(&format!("sequencer.{field}")), problem))?;
                if sequencer.holds && !rollup.delivery.kind.can_hold() {
                    let kind = rollup.delivery.kind.name();
                    return Err(wrong(place("sequencer.holds"), format!("delivery {kind:?} cannot keep it: set holds = false")));
                }
                let throttled = sequencer.batcher_api || sequencer.max_tx_da > 0 || sequencer.max_block_da > 0;
                if throttled && !op_stack {
                    let problem = "batcher_api, max_tx_da and max_block_da are for rollups under OP-stack rules";
                    return Err(wrong(place("sequencer"), problem));
                }
            }
        }
        if let Some(committee) = &self.committee {
            committee.check().map_err(|(field, problem)| wrong(field, problem))?;
        }
        messages::check(&self.rollups).map_err(|(field, problem)| wrong(field, problem))?;
        if let Some(builder) = &self.builder {
            signed_amount(&builder.min_relay_value).map_err(|problem| wrong("builder.min_relay_value", problem))?;
            if let Some(circle) = &builder.circle {
                circle.check().map_err(|(field, problem)| wrong(field, problem))?;
            }
            builder.messages.check(&self.rollups).map_err(|(field, problem)| wrong(field, problem))?;
            builder.search.check().map_err(|(field, problem)| wrong(field, problem))?;
        }
        if self.builder.is_none() && !self.strategies.is_empty() {
            return Err(wrong("strategies", "need a builder, and the section [builder] is absent"));
        }
        self.strategies.check(&self.rollups)?;
        let trusted = self.builder.iter().flat_map(|builder| &builder.trusted).find(|chain| !seen.contains(*chain));
        match trusted {
            Some(chain) => Err(wrong("builder.trusted", format!("rollup {chain} is not configured"))),
            None => Ok(()),
        }
    }

    /// Connects to the nodes and reads the keys of the roles that are played.
    ///
    /// # Errors
    /// When a key file or a node cannot be used, or the configuration lacks a role.
    pub async fn setup(&self, roles: Roles) -> Result<Setup, ConfigError> {
        let market = match (&self.market.url, self.market.address) {
            _ if roles.market => MarketSetup::Own(Box::new(self.market.plan()?)),
            (Some(url), Some(address)) => MarketSetup::At(url.clone(), address),
            _ => return Err(wrong("market", "url and address are needed when the market is elsewhere")),
        };
        let builder = match &self.builder {
            Some(builder) if roles.builder => Some(builder_setup(builder, &self.strategies)?),
            None if roles.builder => return Err(wrong("builder", "is absent")),
            _ => None,
        };
        let mut rollups = Vec::new();
        // A market alone follows no chain.
        if roles.builder || roles.sequencer {
            for rollup in &self.rollups {
                if roles.builder || rollup.sequencer.is_some() {
                    rollups.push(rollup_setup(rollup, roles).await?);
                }
            }
        }
        if roles.sequencer && rollups.iter().all(|rollup| rollup.sequencer.is_none()) {
            return Err(wrong("rollup.sequencer", "no rollup has one"));
        }
        if roles.committee && self.committee.is_none() && !roles.sequencer {
            return Err(wrong("committee", "is absent"));
        }
        let committee = self.committee.as_ref().filter(|_| roles.committee).map(CommitteeConfig::setup).transpose()?;
        Ok(Setup {
            listen: self.listen,
            public_url: self.public_url.clone(),
            data: self.data.clone(),
            genesis_ms: self.slots.genesis_ms,
            slot_ms: self.slots.length_ms,
            // Of all rollups in the file, so that processes that play different roles by one file agree.
            shortest_block_s: self.rollups.iter().map(|rollup| rollup.block_time).min().unwrap_or(1),
            rollups,
            builder,
            committee,
            market,
        })
    }
}

fn builder_setup(builder: &BuilderConfig, strategies: &StrategiesConfig) -> Result<BuilderSetup, ConfigError> {
    let own = key(&builder.key_file)?;
    let pool = lockstep_pool::Limits {
        bundles: builder.pool_bundles,
        bundles_per_sender: builder.pool_bundles_per_sender,
        gas: builder.pool_gas,
        gas_per_sender: builder.pool_gas_per_sender,
        ..lockstep_pool::Limits::default()
    };
    Ok(BuilderSetup {
        strategies: strategies.setups(&own)?,
        key: own,
        bidding: builder.bidding().map_err(|(field, problem)| wrong(format!("builder.{field}"), problem))?,
        forecast: builder.forecast.plan().map_err(|(field, problem)| wrong(format!("builder.{field}"), problem))?,
        tickets: builder.tickets,
        bids_ahead: builder.bids_ahead,
        proposals: ProposalPlan { takes: builder.takes_proposals, offers: builder.offers_proposals },
        attesters: builder.attester_key_files.iter().map(|file| key(file)).collect::<Result<_, _>>()?,
        trusted: builder.trusted.iter().copied().collect(),
        circle: builder.circle.clone(),
        messages: builder.messages.clone(),
        search: builder.search.limits(),
        min_relay_value: signed_amount(&builder.min_relay_value).map_err(|problem| wrong("builder.min_relay_value", problem))?,
        pool,
        record: builder.record_dir.clone().map(|folder| SlotRecords { folder, slots: builder.record_slots }),
    })
}

async fn rollup_setup(rollup: &RollupConfig, roles: Roles) -> Result<RollupSetup, ConfigError> {
    let place = format!("rollup {}", rollup.chain_id);
    let forks = forks(rollup).map_err(|problem| wrong(&place, problem))?;
    let played = rollup.sequencer.as_ref().filter(|_| roles.sequencer);
    // Nobody else publishes, nor has the files that delivery needs.
    let delivery = if played.is_some() { rollup.delivery.settings(&place)? } else { DeliverySettings::Auto };
    let settings = RemoteSettings {
        chain: rollup.chain_id,
        forks: forks.clone(),
        urls: rollup.node.urls().to_vec(),
        limits: rollup.limits.limits(),
        delivery,
    };
    let node = RemoteNode::open(settings).await.map_err(|error| wrong(format!("{place}.node"), error))?;
    // Not known before it was asked what it is.
    if played.is_some_and(|sequencer| sequencer.holds) && node.carries() < Guarantee::G3 {
        let problem = format!("{} cannot be told which block to make: choose a delivery, or set holds = false", node.client());
        return Err(wrong(format!("{place}.sequencer.holds"), problem));
    }
    let sequencer = match &rollup.sequencer {
        Some(sequencer) if roles.sequencer && sequencer.inclusion > 0 && !roles.builder => {
            let problem = "needs a builder in the same process, which sees public transactions";
            return Err(wrong(format!("{place}.sequencer.inclusion"), problem));
        }
        Some(sequencer) if roles.sequencer => Some(sequencer.setup(rollup.chain_id, &place)?),
        _ => None,
    };
    Ok(RollupSetup {
        chain: rollup.chain_id,
        forks,
        node: Node::Remote(Arc::new(node)),
        block_time: rollup.block_time,
        price: Price(amount(&rollup.price).map_err(|problem| wrong(&place, problem))?),
        deployments: rollup.protocols().deployments(),
        sequencer,
        finality_blocks: rollup.finality_blocks,
        public_flow: rollup.public_flow,
        messages: RollupMessages {
            from: rollup.messages_from,
            branch_slot: rollup.agglayer.as_ref().and_then(|bridge| bridge.branch_slot),
        },
    })
}

fn key(file: &Path) -> Result<Key, ConfigError> {
    let place = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&place, error))?;
    Key::parse(&text).map_err(|error| wrong(&place, error))
}

fn amount(text: &str) -> Result<U256, String> {
    U256::from_str_radix(text, 10).map_err(|_| format!("{text:?} is not a decimal amount"))
}

fn signed_amount(text: &str) -> Result<I256, String> {
    I256::from_dec_str(text).map_err(|_| format!("{text:?} is not a decimal amount"))
}

fn forks(rollup: &RollupConfig) -> Result<ForkSchedule, String> {
    rules::schedule(rollup.chain_id, rollup.rules.as_ref())
}

//! `lockstep dev`: rollups in this process, with funded accounts and the fixture contracts, and every role.

pub(crate) mod contest;
mod contracts;
mod demo;
mod example;
mod genesis;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use alloy_primitives::{ChainId, I256, U256, keccak256};
use lockstep_building::SearchLimits;
use lockstep_delivery::{CommitteeKey, MemberKey, deal};
use lockstep_market::{AheadSale, DepositRules, SealRules, Selling};
use lockstep_messaging::{
    BridgeDeployment, CctpV1Deployment, CctpV2Deployment, InteropDeployment, MailboxDeployment, RollupDeployments,
};
use lockstep_primitives::{OrderingPolicy, Price, ReserveRule, RollupSet};
use lockstep_provider::{EmbeddedGenesis, EmbeddedRollup};
use lockstep_simulation::{DataLimits, EthereumFork, ForkSchedule, OpFork, Rules};

use crate::{
    clock::now_ms,
    config::{FollowConfig, MechanismName, SharingName, TicketsConfig},
    keys::Key,
    process::{
        BiddingPlan, BuilderSetup, CommitteeSetup, EncryptedSetup, ForecastPlan, MarketPlan, MarketSetup, MemberAt, Node,
        Process, ProposalPlan, RollupMessages, RollupSetup, SaleTerms, SequencerSetup, Setup, StartError,
    },
    record::SlotRecords,
    roles::Timings,
};

use contracts::Site;

pub use contest::{Contest, Running as RunningContest, rival, silent};
pub use contracts::{
    AggLayerContracts, BurnTerms, CctpV2Contracts, Contracts, DOMAIN_BASE, InteropContracts, MailboxContracts, NETWORK_BASE,
    SettlerContracts,
};
pub use demo::Demo;
pub use example::{burn_mint_buy, example_request};

/// The chain id of the first rollup; the others follow.
pub const FIRST_CHAIN: ChainId = 31_101;
/// Accounts with funds on every rollup.
pub const USERS: usize = 10;
/// The most rollups that `dev` starts.
pub const MAX_ROLLUPS: usize = 6;
/// How many attesters sign a CCTP message.
const ATTESTERS: usize = 2;
/// What the attesters take of a fast burn by CCTP v2, in basis points.
const FAST_FEE_BPS: u64 = 1;
/// For how many blocks a fast burn can be minted: a day of blocks every two seconds.
const FAST_EXPIRY_BLOCKS: u64 = 43_200;
/// For how long messages of OP interop can be executed, in seconds: seven days, as on the OP stack.
const INTEROP_EXPIRY_S: u64 = 604_800;
/// What is held beside what a bidder may have to pay, in basis points of it.
const BOND_BPS: u64 = 1_000;
/// How the builder tells what slots to come are worth.
const FORECAST: ForecastPlan = ForecastPlan { window: 32, quantile_bps: 5_000, margin_bps: 2_000 };
/// How many tickets it means to hold, where they are sold.
const TICKETS: u64 = 4;
/// How many slots are sold at once, how many before the first of them, and for how many slots bids are taken.
const EPOCH: [u64; 3] = [4, 6, 3];
/// What who does not open its sealed bids forfeits, of their cover in basis points.
const FORFEIT_BPS: u64 = 5_000;
/// Members of the committee that opens encrypted transactions, and how many of them do together.
const MEMBERS: usize = 3;
const MEMBERS_NEEDED: usize = 2;
/// For how long a block waits for them, in milliseconds.
const PATIENCE_MS: u64 = 500;
/// Gas of each slot that is kept for encrypted transactions.
const ENCRYPTED_GAS: u64 = 3_000_000;
/// Wei in a whole native asset.
const WEI: u64 = 1_000_000_000_000_000_000;
const GAS_LIMIT: u64 = 30_000_000;
const BASE_FEE: u64 = 1_000_000_000;

/// How `dev` is started.
#[derive(Clone, Debug)]
pub struct DevOptions {
    /// Where it listens.
    pub listen: SocketAddr,
    /// How many rollups: Ethereum rules and OP-stack rules in turn.
    pub rollups: usize,
    /// Length of a slot.
    pub slot_ms: u64,
    /// Seconds between blocks, one a rollup; the last one counts for the rest.
    pub block_times: Vec<u64>,
    /// Where it keeps what it acknowledged; in memory when absent.
    pub data: Option<PathBuf>,
    /// The rollups' reserve price, in wei.
    pub reserve: U256,
    /// Where the builder records its slots, if it does.
    pub record: Option<SlotRecords>,
    /// In which order the rollups' blocks may hold transactions.
    pub ordering: OrderingPolicy,
    /// How many of its oldest public transactions no list of a rollup may leave out.
    pub inclusion: usize,
    /// How the market sells.
    pub mechanism: MechanismName,
    /// What the builder has deposited, in wei; without, bids need no cover and nothing is collected.
    pub deposit: Option<U256>,
    /// Whether bids are sealed.
    pub sealed: bool,
    /// Whether epochs are sold ahead of time.
    pub ahead: bool,
    /// Whether rollups take encrypted transactions.
    pub encrypted: bool,
}

impl Default for DevOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8545)),
            rollups: 2,
            slot_ms: 2_000,
            block_times: vec![2],
            data: None,
            reserve: U256::from(1_000_000_000_u64),
            record: None,
            ordering: OrderingPolicy::Free,
            inclusion: 0,
            mechanism: MechanismName::default(),
            deposit: Some(U256::from(1_000) * U256::from(WEI)),
            sealed: false,
            ahead: false,
            encrypted: false,
        }
    }
}

/// A rollup of a running `dev`.
#[derive(Clone, Debug)]
pub struct DevRollup {
    /// The chain id.
    pub chain: ChainId,
    /// Its CCTP domain, in both versions.
    pub domain: u32,
    /// Its AggLayer network.
    pub network: u32,
    /// The rollup itself.
    pub rollup: Arc<EmbeddedRollup>,
}

/// A running `dev`.
#[derive(Debug)]
pub struct Dev {
    /// Its roles.
    pub process: Process,
    /// Its rollups.
    pub rollups: Vec<DevRollup>,
    /// The fixture contracts: at the same addresses on every rollup.
    pub contracts: Contracts,
    /// What it was started with.
    pub setup: Setup,
}

/// The key of a funded account.
pub fn user(index: usize) -> Key {
    Key::of_name(&format!("user {index}"))
}

/// The builder's key.
pub fn builder() -> Key {
    Key::of_name("builder")
}

/// The key of the sequencer at an index.
pub fn sequencer(index: usize) -> Key {
    Key::of_name(&format!("sequencer {index}"))
}

/// The committee that opens encrypted transactions, and its members' shares.
///
/// # Panics
/// Never: three members can be.
pub fn committee() -> (CommitteeKey, Vec<MemberKey>) {
    let seed = keccak256(b"lockstep dev: committee");
    deal(MEMBERS, MEMBERS_NEEDED, seed).unwrap_or_else(|error| unreachable!("{MEMBERS} members are a committee: {error}"))
}

/// The attester keys.
pub fn attesters() -> Vec<Key> {
    (0..ATTESTERS).map(|index| Key::of_name(&format!("attester {index}"))).collect()
}

/// The rules of the rollup at an index.
pub const fn rules(index: usize) -> Rules {
    if index.is_multiple_of(2) { Rules::Ethereum(EthereumFork::Osaka) } else { Rules::OpStack(OpFork::Jovian) }
}

/// The CCTP deployment of a rollup whose attesters are ours.
pub fn cctp(contracts: &Contracts, domain: u32) -> CctpV1Deployment {
    CctpV1Deployment {
        domain,
        message_transmitter: contracts.message_transmitter,
        attesters: attesters().iter().map(Key::address).collect(),
        threshold: ATTESTERS,
    }
}

/// The message protocols of the rollup at an index, one of `count`.
fn deployments(contracts: &Contracts, index: usize, count: usize) -> RollupDeployments {
    let here = Site::of(index);
    let v1 = cctp(contracts, here.domain);
    RollupDeployments {
        cctp_v2: Some(CctpV2Deployment {
            domain: here.domain,
            message_transmitter: contracts.cctp_v2.message_transmitter,
            attesters: v1.attesters.clone(),
            threshold: v1.threshold,
            hook_wrapper: Some(contracts.cctp_v2.hook_wrapper),
            fast_fee_bps: FAST_FEE_BPS,
            expires_after: FAST_EXPIRY_BLOCKS,
        }),
        cctp_v1: Some(v1),
        interop: Some(InteropDeployment {
            depends_on: (0..count).filter(|other| *other != index).map(|other| Site::of(other).chain).collect(),
            activated_at: 0,
            expires_after: INTEROP_EXPIRY_S,
        }),
        agglayer: Some(BridgeDeployment {
            network: here.network,
            bridge: contracts.agglayer.bridge,
            exit_root_manager: contracts.agglayer.exit_root_manager,
            updater: Some(builder().address()),
        }),
        mailbox: Some(MailboxDeployment { mailbox: contracts.mailbox.mailbox }),
    }
}

/// A `dev` that can be changed before it is started.
#[derive(Debug)]
pub struct DevSetup {
    /// Its roles.
    pub setup: Setup,
    /// Its rollups.
    pub rollups: Vec<DevRollup>,
    /// The fixture contracts.
    pub contracts: Contracts,
    /// What is credited to the builder at the start, when the process plays the market.
    pub deposit: Option<U256>,
}

impl DevSetup {
    /// Starts everything.
    ///
    /// # Errors
    /// When the port or the store cannot be used.
    pub async fn start(self) -> Result<Dev, StartError> {
        let own_market = matches!(self.setup.market, MarketSetup::Own(_));
        let process = Process::start(self.setup.clone()).await?;
        if let Some(deposit) = self.deposit.filter(|_| own_market) {
            process.credit(builder().address(), deposit).await.map_err(StartError::Market)?;
        }
        Ok(Dev { process, rollups: self.rollups, contracts: self.contracts, setup: self.setup })
    }
}

/// The market: its key keeps the money as well.
fn market(options: &DevOptions, rollups: &[DevRollup]) -> MarketPlan {
    let key = Key::of_name("market");
    let deposits = options.deposit.map(|_| DepositRules { bond_bps: BOND_BPS, keeper: key.address() });
    let sellers = rollups.iter().map(|rollup| rollup.chain).collect();
    let shortest_block_s = options.block_times.iter().copied().min().unwrap_or_default();
    let open_ms = Timings::for_slots(0, options.slot_ms, shortest_block_s).longest_opening_ms();
    let sealing = options.sealed.then_some(SealRules { open_ms, forfeit_bps: FORFEIT_BPS });
    let selling = match options.mechanism.mechanism(SharingName::default()) {
        Some(mechanism) => Selling::Slots(mechanism),
        None => {
            let rules = TicketsConfig::default().rules(&sellers);
            Selling::Tickets(rules.unwrap_or_else(|(_, problem)| unreachable!("one class of all rollups: {problem}")))
        }
    };
    let [epoch_slots, slots_ahead, open_slots] = EPOCH;
    let ahead = options.ahead.then(|| AheadSale { epoch_slots, slots_ahead, open_ms: open_slots * options.slot_ms });
    MarketPlan { selling, ahead, deposits, sealing, ..MarketPlan::new(key, sellers) }
}

impl Dev {
    /// Starts everything.
    ///
    /// # Errors
    /// When the port or the store cannot be used.
    pub async fn start(options: DevOptions) -> Result<Self, StartError> {
        Self::prepare(options)?.start().await
    }

    /// Makes the rollups and says how everything is started.
    ///
    /// # Errors
    /// When a rollup cannot be made.
    pub fn prepare(options: DevOptions) -> Result<DevSetup, StartError> {
        let count = options.rollups.clamp(1, MAX_ROLLUPS);
        // The clock begins with a whole second in the past, so that the first slots are there at once. With a folder it
        // counts from the epoch: a slot's number never comes again, so what is on disk is never taken for another slot's.
        let begin_ms = match &options.data {
            None => (now_ms() / 1000 - 1) * 1000,
            Some(_) => now_ms() / options.slot_ms * options.slot_ms,
        };
        let genesis_ms = if options.data.is_some() { 0 } else { begin_ms };
        let contracts = Contracts::new();
        let mut rollups = Vec::with_capacity(count);
        let mut setups = Vec::with_capacity(count);
        for index in 0..count {
            let Site { chain, domain, network } = Site::of(index);
            let forks = ForkSchedule::always(rules(index));
            let state = genesis::state(index, count, &contracts, begin_ms / 1000)
                .map_err(|error| StartError::Market(error.to_string()))?;
            let genesis = EmbeddedGenesis {
                chain,
                forks: forks.clone(),
                timestamp: begin_ms / 1000,
                gas_limit: GAS_LIMIT,
                base_fee: BASE_FEE,
                state,
            };
            let rollup = Arc::new(EmbeddedRollup::new(genesis).map_err(|error| StartError::Market(error.to_string()))?);
            let last = options.block_times.last().copied().unwrap_or(2);
            setups.push(RollupSetup {
                chain,
                forks,
                node: Node::Embedded(Arc::clone(&rollup)),
                block_time: options.block_times.get(index).copied().unwrap_or(last),
                price: Price::PAR,
                deployments: deployments(&contracts, index, count),
                sequencer: Some(SequencerSetup {
                    key: sequencer(index),
                    terms: SaleTerms {
                        reserve: ReserveRule::Fixed(options.reserve),
                        fee_share_bps: 10_000,
                        same_slot_claims: true,
                        slots_ahead: if options.ahead { EPOCH[0] + EPOCH[1] } else { 0 },
                        ordering: options.ordering,
                        encrypted_gas: if options.encrypted { ENCRYPTED_GAS } else { 0 },
                        ..SaleTerms::default()
                    },
                    inclusion: options.inclusion,
                    data: DataLimits::default(),
                    batcher_api: false,
                    encrypted: options.encrypted.then(|| EncryptedSetup {
                        committee: committee().0,
                        members: vec![MemberAt::Here; MEMBERS],
                        patience_ms: PATIENCE_MS,
                    }),
                }),
                // An embedded chain goes one way.
                finality_blocks: 0,
                public_flow: false,
                messages: RollupMessages::default(),
            });
            rollups.push(DevRollup { chain, domain, network, rollup });
        }
        let setup = Setup {
            listen: options.listen,
            public_url: None,
            data: options.data.clone(),
            genesis_ms,
            slot_ms: options.slot_ms,
            shortest_block_s: setups.iter().map(|rollup| rollup.block_time).min().unwrap_or(1),
            rollups: setups,
            builder: Some(BuilderSetup {
                key: builder(),
                bidding: BiddingPlan::share(9_000),
                forecast: FORECAST,
                tickets: Some(TICKETS),
                bids_ahead: options.ahead,
                proposals: ProposalPlan::default(),
                attesters: attesters(),
                // One process plays every sequencer, so there is nobody to distrust.
                trusted: rollups.iter().map(|rollup| rollup.chain).collect::<RollupSet>(),
                circle: None,
                messages: FollowConfig::default(),
                search: SearchLimits::default(),
                min_relay_value: I256::ZERO,
                pool: lockstep_pool::Limits::default(),
                record: options.record.clone(),
                strategies: Vec::new(),
            }),
            committee: options.encrypted.then(|| CommitteeSetup {
                members: (0..).zip(committee().1).collect(),
                sequencers: rollups
                    .iter()
                    .enumerate()
                    .map(|(index, rollup)| (rollup.chain, sequencer(index).address()))
                    .collect(),
            }),
            market: MarketSetup::Own(Box::new(market(&options, &rollups))),
        };
        Ok(DevSetup { setup, rollups, contracts, deposit: options.deposit })
    }
}

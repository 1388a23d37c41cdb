//! The story on two real nodes: anvil, told by JSON-RPC which blocks to make, and asked itself what became of it.

use std::{path::Path, sync::Arc, time::Duration};

use alloy_primitives::{Address, B256, Bytes, ChainId, I256, U256};
use alloy_sol_types::{SolValue, sol};
use lockstep_messaging::RollupDeployments;
use lockstep_node::{
    clock::now_ms,
    config::FollowConfig,
    dev::{Contracts, DOMAIN_BASE, attesters, builder, burn_mint_buy, cctp},
    keys::Key,
    process::{
        BiddingPlan, BuilderSetup, ForecastPlan, MarketPlan, MarketSetup, Node, Process, RollupMessages, RollupSetup, SaleTerms,
        SequencerSetup, Setup,
    },
};
use lockstep_pool::Limits;
use lockstep_primitives::{Price, ReserveRule, RollupSet, SignedTx};
use lockstep_provider::{DeliverySettings, RemoteLimits, RemoteNode, RemoteSettings};
use lockstep_simulation::{DataLimits, EthereumFork, ForkSchedule, Rules};
use lockstep_testkit::NodeProxy;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    lockstep::{Lockstep, Placed, places},
    node::{Anvil, binary},
    transactions::{Tx, input},
    world::{LOCAL, NFT_PRICE, logs},
};

sol! {
    function enableAttester(address attester) external;
    function setSignatureThreshold(uint256 threshold) external;
    function addLocalMinter(address minter) external;
    function addLocalTokenMessenger(address messenger) external;
    function addRemoteTokenMessenger(uint32 domain, bytes32 messenger) external;
    function linkTokenPair(address localToken, uint32 remoteDomain, bytes32 remoteToken) external;
    function setMaxBurnAmountPerMessage(address token, uint256 limit) external;
    function configureMinter(address minter, uint256 allowance) external returns (bool);
    function mint(address to, uint256 amount) external returns (bool);
    function approve(address spender, uint256 amount) external returns (bool);
}

const ARTIFACTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/contracts/artifacts");
const CHAINS: [ChainId; 2] = [901, 902];
const DOMAINS: [u32; 2] = [DOMAIN_BASE, DOMAIN_BASE + 1];
/// How far in the past a node's chain begins, in seconds: the blocks of the set-up take their timestamps from there.
const PAST: u64 = 1_000;

/// A contract's creation code with its constructor's arguments.
pub(crate) fn creation(name: &str, arguments: &[u8]) -> Bytes {
    let text = std::fs::read(Path::new(ARTIFACTS).join(name).with_extension("json")).expect("the artifact is checked in");
    let artifact: Value = serde_json::from_slice(&text).expect("the artifact is JSON");
    let code: Bytes = serde_json::from_value(artifact["bytecode"].clone()).expect("the artifact has bytecode");
    [code.as_ref(), arguments].concat().into()
}

/// The account whose first contracts are where [`Contracts`] says.
pub(crate) fn deployer() -> Key {
    Key::of_name("deployer")
}

/// The contracts of the story, deployed by ordinary transactions and wired to the other rollup.
pub(crate) async fn deploy(anvil: &Anvil, contracts: &Contracts, domain: u32, remote: u32) {
    let (owner, attesters) = (deployer(), attesters());
    let supply = U256::from(1_000_000_000_000_000_u64);
    let [first, second] = attesters.as_slice() else { panic!("two attesters sign") };
    let word = |address: Address| address.into_word();
    let creations = [
        creation("Usdc", &owner.address().abi_encode()),
        creation("MessageTransmitter", &(domain, first.address(), U256::from(8_192), 0_u32).abi_encode()),
        creation("TokenMessenger", &(contracts.message_transmitter, 0_u32).abi_encode()),
        creation("TokenMinter", &owner.address().abi_encode()),
        creation("NftShop", &(contracts.usdc, NFT_PRICE).abi_encode()),
    ];
    let (transmitter, messenger, minter, usdc) =
        (contracts.message_transmitter, contracts.token_messenger, contracts.token_minter, contracts.usdc);
    let calls = [
        (transmitter, input(&enableAttesterCall { attester: second.address() })),
        (transmitter, input(&setSignatureThresholdCall { threshold: U256::from(2) })),
        (messenger, input(&addLocalMinterCall { minter })),
        (minter, input(&addLocalTokenMessengerCall { messenger })),
        (messenger, input(&addRemoteTokenMessengerCall { domain: remote, messenger: word(messenger) })),
        (minter, input(&linkTokenPairCall { localToken: usdc, remoteDomain: remote, remoteToken: word(usdc) })),
        (minter, input(&setMaxBurnAmountPerMessageCall { token: usdc, limit: supply })),
        (usdc, input(&configureMinterCall { minter, allowance: supply })),
        (usdc, input(&configureMinterCall { minter: owner.address(), allowance: supply })),
    ];
    let id = anvil.chain.id;
    let creations = creations.into_iter().map(|code| (None, code, 4_000_000));
    let calls = calls.into_iter().map(|(to, data)| (Some(to), data, 400_000));
    let txs: Vec<SignedTx> = (0..)
        .zip(creations.chain(calls))
        .map(|(nonce, (to, data, gas))| {
            Tx { chain: id, nonce, to, value: U256::ZERO, data, gas, access_list: Default::default() }.sign(&owner)
        })
        .collect();
    anvil.run(&txs).await;
}

/// Two nodes, and a process that plays market, sequencers and builder over them.
pub(crate) struct Rig {
    /// Before the nodes, so that it ends before them.
    pub(crate) process: Process,
    pub(crate) lockstep: Lockstep,
    pub(crate) origin: Anvil,
    pub(crate) destination: Anvil,
    /// The process's way to the destination's node.
    pub(crate) way: NodeProxy,
    pub(crate) contracts: Contracts,
    pub(crate) buyer: Key,
}

impl Rig {
    /// With slots of `slot_s` seconds and these seconds between blocks.
    pub(crate) async fn start(binary: &Path, slot_s: u64, block_times: [u64; 2]) -> Self {
        Self::open(binary, slot_s, block_times, false).await
    }

    /// The same, with a builder that takes in what others send to the nodes: the destination's node announces it, the origin's
    /// is asked.
    pub(crate) async fn with_public_flow(binary: &Path, slot_s: u64, block_times: [u64; 2]) -> Self {
        Self::open(binary, slot_s, block_times, true).await
    }

    async fn open(binary: &Path, slot_s: u64, block_times: [u64; 2], public_flow: bool) -> Self {
        logs();
        let (contracts, buyer) = (Contracts::new(), Key::of_name("a buyer"));
        let past = now_ms() / 1_000 - PAST;
        let origin = Anvil::start(binary, CHAINS[0], past).await;
        let destination = Anvil::start(binary, CHAINS[1], past).await;
        for (anvil, domain, remote) in [(&origin, DOMAINS[0], DOMAINS[1]), (&destination, DOMAINS[1], DOMAINS[0])] {
            anvil.fund(&[deployer().address(), buyer.address(), builder().address()]).await;
            deploy(anvil, &contracts, domain, remote).await;
            let approvals = (0..).zip([contracts.token_messenger, contracts.nft_shop]).map(|(nonce, spender)| {
                let approve = input(&approveCall { spender, amount: U256::MAX });
                Tx::call(anvil.chain.id, nonce, contracts.usdc, approve).sign(&buyer)
            });
            anvil.run(&approvals.collect::<Vec<_>>()).await;
        }
        // The buyer has tokens on the origin only: what it spends on the destination comes from there.
        let nonce = origin.chain.nonce(deployer().address()).await;
        let mint = input(&mintCall { to: buyer.address(), amount: NFT_PRICE });
        origin.run(&[Tx::call(origin.chain.id, nonce, contracts.usdc, mint).sign(&deployer())]).await;

        // The slot clock begins where both chains are: from there on their blocks lie on its grid.
        let genesis = now_ms() / 1_000 - 2;
        let way = NodeProxy::start(&destination.url, Duration::ZERO).await.expect("a proxy");
        let mut rollups = Vec::new();
        let mut ways = vec![way.url()];
        ways.extend(public_flow.then(|| way.ws_url()));
        for (index, (anvil, urls)) in [(&origin, vec![origin.url.clone()]), (&destination, ways)].into_iter().enumerate() {
            anvil.advance_to(genesis).await;
            let (chain, forks) = (anvil.chain.id, ForkSchedule::always(Rules::Ethereum(EthereumFork::Osaka)));
            let limits = RemoteLimits { poll_ms: 100, ..RemoteLimits::default() };
            let settings = RemoteSettings { chain, forks: forks.clone(), urls, limits, delivery: DeliverySettings::Auto };
            let node = RemoteNode::open(settings).await.expect("anvil is usable");
            rollups.push(RollupSetup {
                chain: anvil.chain.id,
                forks,
                node: Node::Remote(Arc::new(node)),
                block_time: block_times[index],
                price: Price::PAR,
                deployments: RollupDeployments {
                    cctp_v1: Some(cctp(&contracts, DOMAINS[index])),
                    ..RollupDeployments::default()
                },
                messages: RollupMessages::default(),
                sequencer: Some(SequencerSetup {
                    key: Key::of_name(&format!("sequencer {index}")),
                    terms: SaleTerms {
                        reserve: ReserveRule::Fixed(U256::from(1_000_000_000_u64)),
                        fee_share_bps: 10_000,
                        same_slot_claims: true,
                        ..SaleTerms::default()
                    },
                    inclusion: 0,
                    data: DataLimits::default(),
                    batcher_api: false,
                    encrypted: None,
                }),
                finality_blocks: 64,
                public_flow,
            });
        }
        let setup = Setup {
            listen: LOCAL,
            public_url: None,
            data: None,
            genesis_ms: genesis * 1_000,
            slot_ms: slot_s * 1_000,
            shortest_block_s: 1,
            rollups,
            committee: None,
            builder: Some(BuilderSetup {
                key: builder(),
                bidding: BiddingPlan::share(9_000),
                forecast: ForecastPlan::default(),
                tickets: None,
                bids_ahead: false,
                proposals: Default::default(),
                attesters: attesters(),
                // Nobody: the attestation is given once the origin's sequencer has voted yes.
                trusted: RollupSet::new(),
                circle: None,
                strategies: Vec::new(),
                messages: FollowConfig::default(),
                search: Default::default(),
                min_relay_value: I256::ZERO,
                pool: Limits::default(),
                record: None,
            }),
            market: MarketSetup::Own(Box::new(MarketPlan::new(Key::of_name("market"), RollupSet::from(CHAINS)))),
        };
        let process = Process::start(setup).await.expect("the process starts");
        let lockstep = Lockstep::at(&process.url());
        Self { process, lockstep, origin, destination, way, contracts, buyer }
    }

    /// Sends the story, waits until it has landed, and asks both nodes for it. Returns the slot and the bundle's hash.
    pub(crate) async fn story(&self) -> (u64, B256) {
        let (origin, destination, buyer) = (&self.origin.chain, &self.destination.chain, self.buyer.address());
        let from = (origin.id, origin.nonce(buyer).await);
        let to = (destination.id, DOMAINS[1], destination.nonce(buyer).await);
        let bundle = burn_mint_buy(&self.contracts, &self.buyer, from, to, NFT_PRICE, U256::from(1));
        let hash = self.lockstep.send(&bundle).await;
        let placed = places(&self.lockstep.landed(hash).await);
        let [burn, mint, purchase] = placed.as_slice() else { panic!("three transactions: {placed:?}") };

        // Exactly these transactions, in this order, in one block of each rollup.
        assert_eq!([burn.chain, mint.chain, purchase.chain], [origin.id, destination.id, destination.id]);
        assert_eq!(mint.block, purchase.block);
        let (burned, bought) = (origin.block(burn.block).await, destination.block(purchase.block).await);
        assert_eq!(burned.transactions, [burn.hash]);
        assert_eq!(bought.transactions, [mint.hash, purchase.hash]);
        assert_eq!([burned.miner, bought.miner], [builder().address(); 2], "the proposer receives the fees");
        for (chain, Placed { block, hash, .. }) in [(origin, burn), (destination, mint), (destination, purchase)] {
            let receipt = chain.receipt(*hash).await.expect("the node has a receipt");
            assert!(receipt.success());
            assert_eq!(receipt.block(), *block);
        }
        assert_eq!(destination.owner_of(self.contracts.nft_shop, 1).await, buyer);
        for chain in [origin, destination] {
            assert_eq!(chain.holdings(buyer, self.contracts.usdc).await.usdc, U256::ZERO, "burned here, spent there");
        }
        let clock = self.process.timings().clock;
        let slots = [&burned, &bought].map(|block| clock.slot_at(block.timestamp() * 1_000));
        assert_eq!(slots[0], slots[1]);
        (slots[0].expect("the blocks are made after genesis"), hash)
    }

    /// A page of the process.
    pub(crate) async fn page(&self, path: &str) -> String {
        let address = self.process.address();
        let mut stream = TcpStream::connect(address).await.expect("the process listens");
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("the process reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("the process answers");
        answer.split_once("\r\n\r\n").expect("an HTTP answer").1.to_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_story_lands_on_two_real_nodes() {
    let Some(binary) = binary("the_story_lands_on_two_real_nodes") else { return };
    let rig = Rig::start(&binary, 4, [4, 4]).await;
    rig.story().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_story_lands_on_real_nodes_of_unequal_block_times() {
    let Some(binary) = binary("the_story_lands_on_real_nodes_of_unequal_block_times") else { return };
    let rig = Rig::start(&binary, 2, [1, 2]).await;
    let (slot, _) = rig.story().await;
    let report = rig.lockstep.report(slot).await;
    let blocks: Vec<usize> = report.rollups.iter().map(|rollup| rollup.blocks.len()).collect();
    assert_eq!(blocks, [2, 1], "{report:?}");
    for (anvil, told) in [&rig.origin, &rig.destination].into_iter().zip(&report.rollups) {
        for block in &told.blocks {
            let made = anvil.chain.block(block.number.to()).await;
            assert_eq!((made.hash, made.timestamp()), (block.hash, block.timestamp), "the node's own blocks");
        }
    }
}

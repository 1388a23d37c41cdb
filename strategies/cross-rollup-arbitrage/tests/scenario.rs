//! The strategy in small worlds: its bundles are built, sealed and verified like everybody's, and then balances are counted.

use std::{collections::BTreeMap, sync::Arc};

use alloy::signers::local::PrivateKeySigner;
use alloy_consensus::TxEip1559;
use alloy_primitives::{Address, B256, Bytes, I256, Signature, TxKind, U256};
use alloy_sol_types::{SolCall, SolValue, sol};
use lockstep_building::{Draft, EvidenceMap, Signer, SlotView, Strategy, StrategyView, balance_of, build, seal, simulate_all};
use lockstep_cross_rollup_arbitrage::{CrossRollupArbitrage, Rules, Venue};
use lockstep_primitives::{Asset, Bundle, ChainId, Price};
use lockstep_simulation::{BlockTx, CallRequest, Lane, PendingBlock, StateView, TxOutcome, call};
use lockstep_testkit::{Call, GWEI, USD, World, builder, bundle, calls, candidates, deployer, ether, sign, sign_digest, user};
use serde::Deserialize;

sol! {
    function deposit() external payable;
    function getPair(address tokenA, address tokenB) external view returns (address pair);
    function addLiquidity(
        address tokenA,
        address tokenB,
        uint256 amountADesired,
        uint256 amountBDesired,
        uint256 amountAMin,
        uint256 amountBMin,
        address to,
        uint256 deadline
    ) external returns (uint256 amountA, uint256 amountB, uint256 liquidity);
    function swapExactTokensForTokens(
        uint256 amountIn,
        uint256 amountOutMin,
        address[] path,
        address to,
        uint256 deadline
    ) external returns (uint256[] amounts);
}

const WETH: &str = include_str!("../../../fixtures/contracts/artifacts/WrappedEther.json");
const FACTORY: &str = include_str!("../../../fixtures/contracts/artifacts/PairFactory.json");
const ROUTER: &str = include_str!("../../../fixtures/contracts/artifacts/Router.json");

/// Who trades, and who moves prices.
const TRADER: usize = 3;
const MOVER: usize = 0;
/// What the mover has to move prices with, in ether and dollars.
const MOVER_FUNDS: u64 = 50;
const MOVER_USD: u64 = 100_000;

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            play(include_str!(concat!("../../../fixtures/strategies/cross-rollup-arbitrage/", stringify!($name), ".json")));
        }
    )*};
}

scenarios!(
    backrun,
    backrun_needs_the_user,
    even_prices,
    inventory_bounds,
    min_profit_too_high,
    no_inventory,
    price_moved,
    shared_with_builder,
    three_pools,
    two_pools,
);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    story: String,
    world: String,
    pools: Vec<PoolSpec>,
    /// What the trader has of both tokens on every rollup.
    inventory: Inventory,
    /// What the numeraire's smallest unit says of 10^18 of the dollar's.
    quote_price: String,
    min_profit: String,
    builder_share_bps: u64,
    user_swap: Option<SwapSpec>,
    expected: Expected,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PoolSpec {
    chain: ChainId,
    ether: u64,
    usd: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Inventory {
    ether: u64,
    usd: u64,
}

/// A user's swap of one or the other.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SwapSpec {
    chain: ChainId,
    #[serde(default)]
    ether: u64,
    #[serde(default)]
    usd: u64,
    /// Whether the strategy knows of it.
    seen: bool,
    /// Whether it gets into the block.
    lands: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    /// How many bundles the strategy brings.
    bundles: usize,
    /// Whether one of them lands.
    lands: bool,
    /// On how many rollups the one that lands trades.
    #[serde(default)]
    legs: usize,
}

#[derive(Debug)]
struct Account(PrivateKeySigner);

impl Signer for Account {
    fn address(&self) -> Address {
        self.0.address()
    }

    fn sign(&self, digest: B256) -> Signature {
        sign_digest(&self.0, digest)
    }
}

fn init_code(artifact: &str, args: Vec<u8>) -> Bytes {
    let artifact: serde_json::Value = serde_json::from_str(artifact).expect("an artifact is JSON");
    let text = artifact["bytecode"].as_str().expect("an artifact has bytecode");
    let code: Bytes = text.parse().expect("bytecode is hexadecimal");
    [code.to_vec(), args].concat().into()
}

/// A block with room for anything, on the state that a slot builds on.
struct Setup {
    chain: ChainId,
    block: PendingBlock,
}

impl Setup {
    fn open(view: &SlotView, chain: ChainId) -> Self {
        let slot = &view.rollups[&chain].slot;
        let lane = Lane::open(Arc::clone(slot)).expect("the rollup opens");
        let mut context = lane.block().context().clone();
        context.gas_limit = 1_000_000_000;
        Self { chain, block: PendingBlock::open(context, Arc::clone(&slot.state)).expect("a setup block opens") }
    }

    fn run(&mut self, key: &PrivateKeySigner, to: TxKind, value: U256, input: Bytes) -> TxOutcome {
        let tx = TxEip1559 {
            chain_id: self.chain,
            nonce: nonce(&self.block, key.address()),
            gas_limit: 8_000_000,
            max_fee_per_gas: 5 * GWEI,
            max_priority_fee_per_gas: 0,
            to,
            value,
            access_list: Default::default(),
            input,
        };
        let executed = self.block.execute(&BlockTx::Signed(sign(key, tx))).expect("the engine works");
        let outcome = executed.expect("a setup transaction is valid").outcome.as_ref().clone();
        assert!(outcome.succeeded(), "a setup transaction failed: {:?} {}", outcome.status, outcome.output);
        outcome
    }

    fn create(&mut self, artifact: &str, args: Vec<u8>) -> Address {
        let outcome = self.run(deployer(), TxKind::Create, U256::ZERO, init_code(artifact, args));
        outcome.created.expect("a creation creates")
    }

    fn call(&mut self, key: &PrivateKeySigner, to: Address, data: Bytes) {
        self.run(key, TxKind::Call(to), U256::ZERO, data);
    }

    /// Gives an account both tokens, and lets the router take them.
    fn fund(&mut self, key: &PrivateKeySigner, venue: &Venue, funds: (u64, u64)) {
        let (whole, usd) = funds;
        self.run(key, TxKind::Call(venue.base), ether(whole), depositCall {}.abi_encode().into());
        // The token refuses to mint nothing.
        if usd > 0 {
            self.call(deployer(), venue.quote, calls::mint(key.address(), usd * USD));
        }
        for token in [venue.base, venue.quote] {
            self.call(key, token, calls::approve_all(venue.router));
        }
    }
}

fn nonce(block: &PendingBlock, account: Address) -> u64 {
    block.state().account(account).expect("a state in memory").map_or(0, |account| account.nonce)
}

/// Opens a market for ether and dollars on a rollup, with what the trader and the mover have.
fn found(world: &mut World, spec: &PoolSpec, inventory: &Inventory) -> Venue {
    let mut setup = Setup::open(&world.view, spec.chain);
    let base = setup.create(WETH, Vec::new());
    let factory = setup.create(FACTORY, deployer().address().abi_encode());
    let router = setup.create(ROUTER, (factory, base).abi_encode_params());
    let quote = world.contracts[&spec.chain].usdc;
    let mut venue = Venue { chain: spec.chain, pair: Address::ZERO, router, base, quote };
    setup.fund(deployer(), &venue, (spec.ether, spec.usd));
    let deposit = addLiquidityCall {
        tokenA: base,
        tokenB: quote,
        amountADesired: ether(spec.ether),
        amountBDesired: U256::from(spec.usd * USD),
        amountAMin: U256::ZERO,
        amountBMin: U256::ZERO,
        to: deployer().address(),
        deadline: U256::MAX,
    };
    setup.call(deployer(), router, deposit.abi_encode().into());
    setup.fund(user(TRADER), &venue, (inventory.ether, inventory.usd));
    setup.fund(user(MOVER), &venue, (MOVER_FUNDS, MOVER_USD));
    let read = CallRequest::read(factory, getPairCall { tokenA: base, tokenB: quote }.abi_encode().into(), 1_000_000);
    let outcome = call(setup.block.context(), setup.block.state(), &read).expect("the engine works").expect("a read is valid");
    venue.pair = getPairCall::abi_decode_returns(&outcome.output).expect("a pair");
    let rollup = world.view.rollups.get_mut(&spec.chain).expect("the rollup is there");
    Arc::make_mut(&mut rollup.slot).state = Arc::new(setup.block.state().clone()) as Arc<dyn StateView>;
    venue
}

/// The mover's swap, as a bundle of one transaction that tips well.
fn moving(view: &SlotView, venue: &Venue, spec: &SwapSpec) -> Bundle {
    let key = user(MOVER);
    let (amount, sold, bought) = match spec.usd {
        0 => (ether(spec.ether), venue.base, venue.quote),
        usd => (U256::from(usd * USD), venue.quote, venue.base),
    };
    let swap = swapExactTokensForTokensCall {
        amountIn: amount,
        amountOutMin: U256::ZERO,
        path: vec![sold, bought],
        to: key.address(),
        deadline: U256::MAX,
    };
    let nonce = nonce(&Setup::open(view, venue.chain).block, key.address());
    let tx = Call::contract(venue.router, swap.abi_encode().into(), 300_000).sign(venue.chain, key, nonce, 10 * GWEI);
    bundle().tx(venue.chain, tx).build()
}

/// What the trader has on a rollup: traded tokens, counting tokens, wei.
type Holdings = BTreeMap<ChainId, [U256; 3]>;

fn holdings(block: &PendingBlock, venue: &Venue) -> [U256; 3] {
    let trader = user(TRADER).address();
    [Asset::Token(venue.base), Asset::Token(venue.quote), Asset::Native]
        .map(|asset| balance_of(block, trader, asset).expect("the engine works").expect("a balance"))
}

fn sealed(view: &SlotView, draft: &Draft) {
    for chain in draft.lanes.keys() {
        seal(view, draft, *chain, &EvidenceMap::new(), &|digest| sign_digest(builder(), digest))
            .unwrap_or_else(|error| panic!("rollup {chain} is not sealed: {error}"));
    }
}

fn change(before: &Holdings, after: &Holdings, index: usize, price: impl Fn(ChainId) -> Price) -> I256 {
    before.keys().fold(I256::ZERO, |sum, chain| {
        let change = I256::from_raw(after[chain][index]) - I256::from_raw(before[chain][index]);
        sum + price(*chain).weigh(change).expect("small amounts")
    })
}

fn play(text: &str) {
    let scenario: Scenario = serde_json::from_str(text).expect("a scenario");
    let story = &scenario.story;
    let mut world = match scenario.world.as_str() {
        "pair" => World::pair(),
        "trio" => World::trio(),
        other => panic!("there is no world {other}"),
    };
    let venues: Vec<Venue> = scenario.pools.iter().map(|spec| found(&mut world, spec, &scenario.inventory)).collect();
    let view = &world.view;
    let moves: Option<(&SwapSpec, Bundle)> = scenario.user_swap.as_ref().map(|spec| {
        let venue = venues.iter().find(|venue| venue.chain == spec.chain).expect("a venue");
        (spec, moving(view, venue, spec))
    });
    let seen = moves.iter().filter(|(spec, _)| spec.seen).map(|(_, bundle)| bundle.clone());
    let pending = simulate_all(view, &candidates(seen)).expect("the engine works");
    let quote_price = Price(scenario.quote_price.parse().expect("a price"));
    let min_profit: U256 = scenario.min_profit.parse().expect("an amount");
    let strategy = CrossRollupArbitrage(Rules {
        venues: venues.clone(),
        quote_price,
        min_profit,
        builder_share_bps: scenario.builder_share_bps,
        max_backruns: 8,
    });
    let account = Account(user(TRADER).clone());
    let asked = StrategyView { slot: view, pending: &pending, signer: &account };
    let brought = strategy.bundles(&asked).expect("the engine works");
    assert_eq!(brought.len(), scenario.expected.bundles, "{story}");
    assert_eq!(strategy.bundles(&asked), Ok(brought.clone()), "{story}: the same view gives the same bundles");

    let landing = moves.iter().filter(|(spec, _)| spec.lands).map(|(_, bundle)| bundle.clone());
    let all: Vec<Bundle> = landing.chain(brought.iter().cloned()).collect();
    let simulated = simulate_all(view, &candidates(all)).expect("the engine works");
    let draft = build(view, &simulated, &world.rollups()).expect("the engine works");
    sealed(view, &draft);
    assert!(draft.value >= I256::ZERO);

    let hashes: Vec<B256> = brought.iter().map(Bundle::hash).collect();
    let landed: Vec<_> = draft.placed.iter().filter(|placed| hashes.contains(&placed.hash)).collect();
    assert_eq!(landed.len(), usize::from(scenario.expected.lands), "{story}: {:?}", draft.left_out);
    let before: Holdings =
        venues.iter().map(|venue| (venue.chain, holdings(&Setup::open(view, venue.chain).block, venue))).collect();
    let last = |chain: ChainId| &draft.lanes[&chain].blocks.last().expect("a slot has a block").block;
    let after: Holdings = venues.iter().map(|venue| (venue.chain, holdings(last(venue.chain), venue))).collect();
    let Some(landed) = landed.first() else {
        assert_eq!(before, after, "{story}: who lands nothing pays nothing");
        return;
    };
    assert_eq!(landed.bundle.rollups().len(), scenario.expected.legs, "{story}");
    // What is paid and received is whole units of the quoted token, so what is bought may exceed what is sold, by less than one
    // of those units buys.
    let kept = change(&before, &after, 0, |_| Price::PAR);
    let unit = I256::try_from(1_000_000_000).expect("it fits");
    assert!(kept >= I256::ZERO && kept < unit, "{story}: the traded token only moves, {kept} of it stayed");
    let quote = change(&before, &after, 1, |_| quote_price);
    let native = change(&before, &after, 2, |chain| view.rollups[&chain].price);
    let profit = quote + native;
    assert!(profit.is_positive(), "{story}: {profit}");
    // Every rollup's change is rounded down on its own.
    let rounding = I256::try_from(2 * venues.len()).expect("few venues");
    assert!(profit + rounding >= I256::try_from(min_profit).expect("an amount"), "{story}: {profit}");
    if scenario.builder_share_bps > 0 {
        let share = I256::try_from(scenario.builder_share_bps).expect("few") * quote / I256::try_from(10_000).expect("few");
        // The share is of the gain net of gas, which is a small part of it here.
        assert!(landed.run.value >= share / I256::try_from(2).expect("few"), "{story}: {}", landed.run.value);
    }
}

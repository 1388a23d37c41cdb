//! The strategy in small worlds: what it brings is built, sealed and verified like everybody's, and then balances are counted.

use std::sync::Arc;

use alloy::signers::local::PrivateKeySigner;
use alloy_consensus::TxEip1559;
use alloy_primitives::{Address, B256, Bytes, I256, Signature, TxKind, U256};
use alloy_sol_types::{SolCall, SolValue, sol};
use lockstep_bridge_and_buy::{BridgeAndBuy, Crossing, Intent, PlanError, Want, plan};
use lockstep_building::{Draft, Signer, SlotView, Strategy, StrategyView, balance_of, build, seal, simulate_all, verify};
use lockstep_primitives::{Asset, Bundle, ChainId, Reason, Rejection, RevertMode};
use lockstep_simulation::{BlockTx, Lane, PendingBlock, StateView};
use lockstep_testkit::{
    Call, GWEI, ISTHMUS, NFT_PRICE, PRAGUE, USD, Wallet, World, builder, bundle, calls, candidates, deployer, ether, evidence,
    init_code, sign, sign_digest, user,
};
use serde::Deserialize;

sol! {
    function deposit() external payable;
    function swapExactTokensForTokens(uint256 amountIn, uint256 amountOutMin, address[] path, address to, uint256 deadline) external;
    function addLiquidity(address tokenA, address tokenB, uint256 amountA, uint256 amountB, uint256 minA, uint256 minB, address to, uint256 deadline) external;
}

const WETH: &str = include_str!("../../../fixtures/contracts/artifacts/WrappedEther.json");
const FACTORY: &str = include_str!("../../../fixtures/contracts/artifacts/PairFactory.json");
const ROUTER: &str = include_str!("../../../fixtures/contracts/artifacts/Router.json");

/// Has dollars on the origin and none on the destination.
const BUYER: usize = 4;
/// Has dollars everywhere.
const RIVAL: usize = 0;
const ORIGIN: ChainId = PRAGUE;
const DESTINATION: ChainId = ISTHMUS;
const TOKEN: u64 = 7;

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            play(include_str!(concat!("../../../fixtures/strategies/bridge-and-buy/", stringify!($name), ".json")));
        }
    )*};
}

scenarios!(nft, nft_fast, token, too_dear, too_poor, sold_first, price_moved_first, sold, too_late);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    story: String,
    want: WantSpec,
    /// In whole dollars.
    max_pay_usd: u64,
    /// By CCTP v2, before it is final, for at most so many of the smallest units.
    #[serde(default)]
    fast_for_at_most: Option<u64>,
    /// What the builder demands of relays, in the numeraire's smallest unit.
    #[serde(default)]
    min_relay_value: u64,
    /// Seconds before the slot's block at which the intent ended.
    #[serde(default)]
    ended_before: Option<u64>,
    /// Somebody buys the same token, or in the same pool, in the same slot and tips more.
    #[serde(default)]
    rival: bool,
    /// It was sold before the slot.
    #[serde(default)]
    sold: bool,
    expected: Expected,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum WantSpec {
    Nft,
    /// At least so many finneys of wrapped ether, from a pool at 3000 dollars.
    Finneys(u64),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    lands: bool,
    /// Why there is no plan.
    #[serde(default)]
    error: Option<String>,
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

/// A block with room for anything, on the state that a slot builds on.
struct Setup(PendingBlock);

impl Setup {
    fn open(view: &SlotView) -> Self {
        let slot = &view.rollups[&DESTINATION].slot;
        let lane = Lane::open(Arc::clone(slot)).expect("the rollup opens");
        let mut context = lane.block().context().clone();
        context.gas_limit = 1_000_000_000;
        Self(PendingBlock::open(context, Arc::clone(&slot.state)).expect("a setup block opens"))
    }

    fn run(&mut self, key: &PrivateKeySigner, to: TxKind, value: U256, input: Bytes) -> Option<Address> {
        let account = self.0.state().account(key.address()).expect("a state in memory");
        let tx = TxEip1559 {
            chain_id: DESTINATION,
            nonce: account.map_or(0, |account| account.nonce),
            gas_limit: 8_000_000,
            max_fee_per_gas: 5 * GWEI,
            max_priority_fee_per_gas: 0,
            to,
            value,
            access_list: Default::default(),
            input,
        };
        let executed = self.0.execute(&BlockTx::Signed(sign(key, tx))).expect("the engine works");
        let outcome = executed.expect("a setup transaction is valid").outcome.clone();
        assert!(outcome.succeeded(), "a setup transaction failed: {:?} {}", outcome.status, outcome.output);
        outcome.created
    }

    fn create(&mut self, artifact: &str, args: Vec<u8>) -> Address {
        let artifact: serde_json::Value = serde_json::from_str(artifact).expect("an artifact is JSON");
        let code: Bytes = artifact["bytecode"].as_str().and_then(|text| text.parse().ok()).expect("an artifact has bytecode");
        self.run(deployer(), TxKind::Create, U256::ZERO, [code.to_vec(), args].concat().into()).expect("a creation creates")
    }

    fn keep(self, world: &mut World) {
        let rollup = world.view.rollups.get_mut(&DESTINATION).expect("the rollup is there");
        Arc::make_mut(&mut rollup.slot).state = Arc::new(self.0.state().clone()) as Arc<dyn StateView>;
    }
}

/// A pool of wrapped ether and dollars on the destination: (wrapped ether, router).
fn pool(world: &mut World) -> (Address, Address) {
    let usdc = world.contracts[&DESTINATION].usdc;
    let mut setup = Setup::open(&world.view);
    let weth = setup.create(WETH, Vec::new());
    let factory = setup.create(FACTORY, deployer().address().abi_encode());
    let router = setup.create(ROUTER, (factory, weth).abi_encode_params());
    setup.run(deployer(), TxKind::Call(weth), ether(100), depositCall {}.abi_encode().into());
    setup.run(deployer(), TxKind::Call(usdc), U256::ZERO, calls::mint(deployer().address(), 300_000 * USD));
    for token in [weth, usdc] {
        setup.run(deployer(), TxKind::Call(token), U256::ZERO, calls::approve_all(router));
    }
    let deposit = addLiquidityCall {
        tokenA: weth,
        tokenB: usdc,
        amountA: ether(100),
        amountB: U256::from(300_000 * USD),
        minA: U256::ZERO,
        minB: U256::ZERO,
        to: deployer().address(),
        deadline: U256::MAX,
    };
    setup.run(deployer(), TxKind::Call(router), U256::ZERO, deposit.abi_encode().into());
    setup.keep(world);
    (weth, router)
}

fn balance(block: &PendingBlock, account: Address, asset: Asset) -> U256 {
    balance_of(block, account, asset).expect("the engine works").expect("the balance can be read")
}

fn last(draft: &Draft, chain: ChainId) -> &PendingBlock {
    &draft.lanes[&chain].blocks.last().expect("a slot has a block").block
}

fn play(text: &str) {
    let scenario: Scenario = serde_json::from_str(text).expect("a scenario");
    let story = &scenario.story;
    let mut world = World::pair();
    world.view.policy.min_relay_value = I256::try_from(scenario.min_relay_value).expect("it fits");
    let contracts = world.contracts[&DESTINATION];
    let buyer = user(BUYER).address();
    if scenario.sold {
        let mut setup = Setup::open(&world.view);
        setup.run(user(RIVAL), TxKind::Call(contracts.shop), U256::ZERO, calls::buy(TOKEN));
        setup.keep(&mut world);
    }
    let (want, wanted, at_least) = match scenario.want {
        WantSpec::Nft => {
            let want = Want::Nft { shop: contracts.shop, token_id: U256::from(TOKEN) };
            (want, Asset::Token(contracts.shop), U256::ONE)
        }
        WantSpec::Finneys(finneys) => {
            let (weth, router) = pool(&mut world);
            let at_least = ether(1) / U256::from(1_000) * U256::from(finneys);
            (Want::Token { router, path: vec![contracts.usdc, weth], at_least }, Asset::Token(weth), at_least)
        }
    };
    let origin = world.contracts[&ORIGIN];
    let crossing = match scenario.fast_for_at_most {
        None => Crossing::CctpV1 { messenger: origin.messenger, domain: contracts.domain },
        Some(fee) => Crossing::CctpV2 {
            messenger: origin.protocols.v2_messenger,
            domain: contracts.protocols.domain,
            max_fee: U256::from(fee),
            fast: true,
        },
    };
    let timestamp = world.view.rollups[&ORIGIN].slot.blocks[0].next.timestamp;
    let intent = Intent {
        buyer,
        origin: ORIGIN,
        destination: DESTINATION,
        pay: origin.usdc,
        max_pay: U256::from(scenario.max_pay_usd * USD),
        max_payment: ether(1),
        want,
        crossing,
        deadline: scenario.ended_before.map(|seconds| timestamp - seconds),
    };
    let view = &world.view;
    let planned = plan(view, &intent).expect("the engine works");
    let error = planned.as_ref().err().map(ToString::to_string);
    assert_eq!(error, scenario.expected.error, "{story}");

    let account = Account(user(BUYER).clone());
    let strategy = BridgeAndBuy { intents: vec![intent.clone()] };
    let asked = StrategyView { slot: view, pending: &[], signer: &account };
    let brought = strategy.bundles(&asked).expect("the engine works");
    assert_eq!(strategy.bundles(&asked), Ok(brought.clone()), "{story}: the same view gives the same bundles");
    assert_eq!(brought.len(), usize::from(planned.is_ok()), "{story}");
    let stranger = Account(user(RIVAL).clone());
    assert_eq!(strategy.bundles(&StrategyView { signer: &stranger, ..asked }), Ok(Vec::new()), "only for its own account");
    let forged = planned.iter().find_map(|plan| plan.sign(&stranger));
    assert_eq!(forged, None, "{story}: nobody else signs for the buyer");

    let mut all: Vec<Bundle> = Vec::new();
    if scenario.rival {
        let mut rival = Wallet::user(RIVAL).tipping(200);
        let steps = match &intent.want {
            Want::Nft { .. } => vec![world.buy(DESTINATION, TOKEN)],
            Want::Token { router, path, .. } => {
                let swap = swapExactTokensForTokensCall {
                    amountIn: U256::from(500 * USD),
                    amountOutMin: U256::ZERO,
                    path: path.clone(),
                    to: rival.address(),
                    deadline: U256::MAX,
                };
                vec![
                    Call::contract(contracts.usdc, calls::approve_all(*router), 100_000),
                    Call::contract(*router, swap.abi_encode().into(), 300_000),
                ]
            }
        };
        let txs: Vec<_> = steps.into_iter().map(|step| (rival.send(DESTINATION, step), RevertMode::Fail)).collect();
        all.push(bundle().txs(DESTINATION, txs).build());
    }
    let before = drafted(&world, all.clone());
    all.extend(brought);
    let after = drafted(&world, all);
    for chain in world.rollups() {
        let sealed = seal(view, &after, chain, &evidence(&after), &|digest| sign_digest(builder(), digest)).expect("it seals");
        verify(&view.rollups[&chain].slot, &sealed.list).expect("it runs on a fresh EVM");
    }
    assert!(after.value >= before.value, "{story}: the builder is no worse off");

    let usdc = |draft: &Draft, chain: ChainId| balance(last(draft, chain), buyer, Asset::Token(world.contracts[&chain].usdc));
    let got = balance(last(&after, DESTINATION), buyer, wanted) - balance(last(&before, DESTINATION), buyer, wanted);
    if scenario.expected.lands {
        let plan = planned.expect("it was planned");
        assert_eq!(got, at_least, "{story}: exactly what was wanted");
        assert_eq!(usdc(&before, ORIGIN) - usdc(&after, ORIGIN), plan.pays, "{story}");
        assert!(plan.pays <= intent.max_pay, "{story}");
        let left = usdc(&after, DESTINATION) - usdc(&before, DESTINATION);
        assert!(left <= U256::from(scenario.fast_for_at_most.unwrap_or_default()), "{story}: {left} dollars were not needed");
        let next = on_top(&world, &after);
        let asked = StrategyView { slot: &next.view, ..asked };
        assert_eq!(strategy.bundles(&asked), Ok(Vec::new()), "{story}: it is not bought again");
    } else {
        assert_eq!(got, U256::ZERO, "{story}");
        for chain in world.rollups() {
            assert_eq!(usdc(&before, chain), usdc(&after, chain), "{story}: nothing landed");
            let native = |draft: &Draft| balance(last(draft, chain), buyer, Asset::Native);
            assert_eq!(native(&before), native(&after), "{story}: who lands nothing pays nothing");
        }
    }
}

fn drafted(world: &World, bundles: Vec<Bundle>) -> Draft {
    let simulated = simulate_all(&world.view, &candidates(bundles)).expect("the engine works");
    build(&world.view, &simulated, &world.rollups()).expect("the engine works")
}

/// The same slot once more, on the states that a draft leaves.
fn on_top(world: &World, draft: &Draft) -> World {
    let mut next = world.clone();
    for (chain, rollup) in &mut next.view.rollups {
        let state = last(draft, *chain).state().clone();
        Arc::make_mut(&mut rollup.slot).state = Arc::new(state) as Arc<dyn StateView>;
    }
    next
}

/// Wants a token of a shop, for what the world's own shop asks.
fn from_shop(world: &World, shop: Address) -> Intent {
    let origin = world.contracts[&ORIGIN];
    Intent {
        buyer: user(BUYER).address(),
        origin: ORIGIN,
        destination: DESTINATION,
        pay: origin.usdc,
        max_pay: U256::from(NFT_PRICE),
        max_payment: ether(1),
        want: Want::Nft { shop, token_id: U256::from(TOKEN) },
        crossing: Crossing::CctpV1 { messenger: origin.messenger, domain: world.contracts[&DESTINATION].domain },
        deadline: None,
    }
}

#[test]
fn a_shop_that_takes_other_money_is_not_paid_of_what_the_buyer_has_there() {
    let mut world = World::pair();
    let mut setup = Setup::open(&world.view);
    let weth = setup.create(WETH, Vec::new());
    let made = setup.run(deployer(), TxKind::Create, U256::ZERO, init_code::shop(weth, NFT_PRICE));
    let shop = made.expect("a creation creates");
    setup.run(user(BUYER), TxKind::Call(weth), ether(1), depositCall {}.abi_encode().into());
    setup.keep(&mut world);
    let planned = plan(&world.view, &from_shop(&world, shop)).expect("the engine works");
    let refused = matches!(
        &planned,
        Err(PlanError::Blocked(Rejection { reason: Reason::RequirementNotMet { increase, required, .. }, .. }))
            if *increase == -I256::try_from(NFT_PRICE).expect("it fits") && required.is_zero()
    );
    assert!(refused, "{planned:?}");
}

#[test]
fn the_builder_is_paid_at_most_what_the_intent_allows() {
    let mut world = World::pair();
    world.view.policy.min_relay_value = I256::try_from(1_000_000_000_000_000_u64).expect("it fits");
    let intent = from_shop(&world, world.contracts[&DESTINATION].shop);
    let planned = |max_payment| plan(&world.view, &Intent { max_payment, ..intent.clone() }).expect("the engine works");
    let payment = planned(ether(1)).expect("it is planned").payment;
    assert!(payment > U256::ONE, "the relay is not free");
    assert_eq!(planned(payment).expect("exactly enough is allowed").payment, payment);
    let max_payment = payment - U256::ONE;
    assert_eq!(planned(max_payment).err(), Some(PlanError::PaymentTooHigh { payment, max_payment }));
}

//! The strategy in a small world: what it brings is built, sealed and verified like everybody's, and then balances are counted.

use std::{collections::BTreeMap, sync::Arc};

use alloy::signers::local::PrivateKeySigner;
use alloy_consensus::TxEip1559;
use alloy_primitives::{Address, B256, Bytes, I256, Signature, TxKind, U256, b256};
use alloy_sol_types::{SolCall, SolStruct, SolValue, sol};
use lockstep_building::{
    Draft, Signer, SlotView, Strategy, StrategyView, balance_of, build, open_lanes, seal, simulate_all, verify,
};
use lockstep_erc7683_filler::{
    Filler, Order, Rules, Settlers,
    abi::{GaslessCrossChainOrder, OrderOrigin, TokenOrder, fillCall, filledCall, nonceUsedCall, openForCall},
    fill,
};
use lockstep_primitives::{Asset, Bundle, ChainId, Price};
use lockstep_simulation::{BlockTx, Lane, LaneBlock, PendingBlock, StateView};
use lockstep_testkit::{
    GWEI, ISTHMUS, PRAGUE, USD, World, builder, calls, candidates, deployer, evidence, sign, sign_digest, user,
};
use serde::Deserialize;

sol! {
    function setDestinationSettler(uint256 chainId, bytes32 settler) external;
}

const ORIGIN_SETTLER: &str = include_str!("../../../fixtures/contracts/artifacts/OriginSettler.json");
const DESTINATION_SETTLER: &str = include_str!("../../../fixtures/contracts/artifacts/DestinationSettler.json");

const ORIGIN: ChainId = PRAGUE;
const DESTINATION: ChainId = ISTHMUS;
/// Whose orders they are: has dollars on the origin only.
const USER: usize = 4;
/// Has dollars everywhere: gives orders the other way, and does before us what somebody did before us.
const RESIDENT: usize = 1;
/// Has dollars everywhere.
const FILLER: usize = 0;
const REFUND_DELAY: u64 = 604_800;

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            play(include_str!(concat!("../../../fixtures/strategies/erc7683-filler/", stringify!($name), ".json")));
        }
    )*};
}

scenarios!(
    filled,
    two_filled,
    one_at_a_time,
    short_of_inventory,
    both_ways,
    both_ways_trusted,
    one_way,
    no_way_back,
    own_builder,
    unprofitable,
    unpriced,
    wants_everything,
    too_late,
    done,
    filled_before,
    not_signed,
    unknown_settler,
);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    story: String,
    orders: Vec<OrderSpec>,
    /// In whole dollars.
    #[serde(default)]
    floor_usd: u64,
    /// In cents.
    #[serde(default)]
    min_profit_cents: u64,
    /// What the builder demands of relays, in wei of par.
    #[serde(default)]
    min_relay_value: u64,
    #[serde(default = "eight")]
    max_fills: usize,
    #[serde(default)]
    messages: Ways,
    /// Whether messages may go both ways in one slot.
    #[serde(default)]
    trusted: bool,
    /// Whether the account is the proposer's.
    #[serde(default)]
    own_builder: bool,
    expected: Expected,
}

const fn eight() -> usize {
    8
}

/// Which way messages may go at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ways {
    #[default]
    Both,
    ToOrigin,
    ToDestination,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OrderSpec {
    /// In whole dollars.
    gives: u64,
    /// In whole dollars.
    wants: u64,
    #[serde(default)]
    ended: bool,
    #[serde(default)]
    forged: bool,
    #[serde(default)]
    elsewhere: bool,
    /// Opened before by somebody else.
    #[serde(default)]
    opened: bool,
    /// Filled before by somebody else.
    #[serde(default)]
    filled: bool,
    /// The resident's, the other way.
    #[serde(default)]
    back: bool,
    /// It wants a token without a price.
    #[serde(default)]
    unpriced: bool,
    /// It wants as much as can be written down.
    #[serde(default)]
    everything: bool,
}

impl OrderSpec {
    fn route(&self) -> (ChainId, ChainId) {
        if self.back { (DESTINATION, ORIGIN) } else { (ORIGIN, DESTINATION) }
    }

    fn customer(&self) -> usize {
        if self.back { RESIDENT } else { USER }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    /// Which orders are filled.
    filled: Vec<usize>,
    /// The beginning of why an order alone is not filled, in the order of the orders.
    #[serde(default)]
    refusals: Vec<Option<String>>,
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

    fn run(&mut self, key: &PrivateKeySigner, to: TxKind, input: Bytes) -> Option<Address> {
        let account = self.block.state().account(key.address()).expect("a state in memory");
        let tx = TxEip1559 {
            chain_id: self.chain,
            nonce: account.map_or(0, |account| account.nonce),
            gas_limit: 8_000_000,
            max_fee_per_gas: 5 * GWEI,
            max_priority_fee_per_gas: 0,
            to,
            value: U256::ZERO,
            access_list: Default::default(),
            input,
        };
        let executed = self.block.execute(&BlockTx::Signed(sign(key, tx))).expect("the engine works");
        let outcome = executed.expect("a setup transaction is valid").outcome.clone();
        assert!(outcome.succeeded(), "a setup transaction failed: {:?} {}", outcome.status, outcome.output);
        outcome.created
    }

    fn create(&mut self, artifact: &str, args: Vec<u8>) -> Address {
        let artifact: serde_json::Value = serde_json::from_str(artifact).expect("an artifact is JSON");
        let code: Bytes = artifact["bytecode"].as_str().and_then(|text| text.parse().ok()).expect("an artifact has bytecode");
        self.run(deployer(), TxKind::Create, [code.to_vec(), args].concat().into()).expect("a creation creates")
    }

    fn keep(self, world: &mut World) {
        let rollup = world.view.rollups.get_mut(&self.chain).expect("the rollup is there");
        Arc::make_mut(&mut rollup.slot).state = Arc::new(self.block.state().clone()) as Arc<dyn StateView>;
    }
}

/// Settlers on both rollups, which know each other.
fn found(world: &mut World) -> BTreeMap<ChainId, Settlers> {
    let mut setups = [ORIGIN, DESTINATION].map(|chain| Setup::open(&world.view, chain));
    let settlers: BTreeMap<ChainId, Settlers> = setups
        .iter_mut()
        .map(|setup| {
            let args = (messenger(), U256::from(REFUND_DELAY)).abi_encode_params();
            let origin = setup.create(ORIGIN_SETTLER, args);
            let destination = setup.create(DESTINATION_SETTLER, messenger().abi_encode());
            (setup.chain, Settlers { origin, destination })
        })
        .collect();
    for mut setup in setups {
        let (here, there, customer) =
            if setup.chain == ORIGIN { (ORIGIN, DESTINATION, USER) } else { (DESTINATION, ORIGIN, RESIDENT) };
        let known = setDestinationSettlerCall { chainId: U256::from(there), settler: settlers[&there].destination.into_word() };
        setup.run(deployer(), TxKind::Call(settlers[&here].origin), known.abi_encode().into());
        setup.run(user(customer), TxKind::Call(world.contracts[&here].usdc), calls::approve_all(settlers[&here].origin));
        setup.keep(world);
    }
    settlers
}

/// The same world where messages go that way only.
fn only(mut world: World, ways: Ways) -> World {
    let deaf = match ways {
        Ways::Both => return world,
        Ways::ToOrigin => DESTINATION,
        Ways::ToDestination => ORIGIN,
    };
    let rollup = world.deployments.0.get_mut(&deaf).expect("the rollup is there");
    rollup.interop.as_mut().expect("it has interop").depends_on.clear();
    world.view.policy.protocols = world.deployments.protocols();
    world
}

/// `L2ToL2CrossDomainMessenger`, a predeploy.
fn messenger() -> Address {
    "0x4200000000000000000000000000000000000023".parse().expect("an address")
}

fn order(world: &World, settlers: &BTreeMap<ChainId, Settlers>, index: usize, spec: &OrderSpec) -> Order {
    let ((from, to), customer) = (spec.route(), user(spec.customer()));
    let now = world.view.rollups[&from].slot.blocks[0].next.timestamp;
    let deadline = u32::try_from(if spec.ended { now - 1 } else { now + 600 }).expect("it fits");
    let output = if spec.unpriced { Address::repeat_byte(0x0d) } else { world.contracts[&to].usdc };
    let tokens = TokenOrder {
        inputToken: world.contracts[&from].usdc,
        inputAmount: U256::from(spec.gives * USD),
        outputToken: output.into_word(),
        outputAmount: if spec.everything { U256::MAX } else { U256::from(spec.wants * USD) },
        destinationChainId: U256::from(to),
        recipient: customer.address().into_word(),
        destinationSettler: settlers[&to].destination.into_word(),
    };
    let order = GaslessCrossChainOrder {
        originSettler: if spec.elsewhere { Address::repeat_byte(0x0e) } else { settlers[&from].origin },
        user: customer.address(),
        nonce: U256::from(index + 1),
        originChainId: U256::from(from),
        openDeadline: deadline,
        fillDeadline: deadline,
        orderDataType: TokenOrder::default_type_hash(),
        orderData: tokens.abi_encode().into(),
    };
    let mut order = Order { order, signature: Bytes::new() };
    let key = if spec.forged { user(FILLER) } else { customer };
    order.signature = Bytes::copy_from_slice(&sign_digest(key, order.digest()).as_bytes());
    order
}

/// What somebody else did with an order before the slot.
fn done_before(world: &mut World, settlers: &BTreeMap<ChainId, Settlers>, order: &Order, spec: &OrderSpec) {
    let (from, to) = spec.route();
    let somebody = user(RESIDENT);
    if spec.opened {
        let open = openForCall { order: order.order.clone(), signature: order.signature.clone(), originFillerData: Bytes::new() };
        let mut setup = Setup::open(&world.view, from);
        setup.run(somebody, TxKind::Call(settlers[&from].origin), open.abi_encode().into());
        setup.keep(world);
    }
    if spec.filled {
        let terms = order.order.clone();
        let origin = OrderOrigin {
            originChainId: terms.originChainId,
            originSettler: terms.originSettler,
            user: terms.user,
            nonce: terms.nonce,
            orderDataType: terms.orderDataType,
            fillDeadline: terms.fillDeadline,
            orderData: terms.orderData,
        };
        let filling = fillCall {
            orderId: order.id(),
            originData: origin.abi_encode().into(),
            fillerData: somebody.address().into_word().abi_encode().into(),
        };
        let settler = settlers[&to].destination;
        let mut setup = Setup::open(&world.view, to);
        setup.run(somebody, TxKind::Call(world.contracts[&to].usdc), calls::approve_all(settler));
        setup.run(somebody, TxKind::Call(settler), filling.abi_encode().into());
        setup.keep(world);
    }
}

/// Lists as they come out on a fresh EVM.
type Lists = BTreeMap<ChainId, Vec<LaneBlock>>;

/// Seals a draft and executes its lists again.
fn verified(world: &World, draft: &Draft) -> Lists {
    let evidence = evidence(draft);
    let lists = world.rollups().into_iter().map(|chain| {
        let sealed = seal(&world.view, draft, chain, &evidence, &|digest| sign_digest(builder(), digest)).expect("it seals");
        (chain, verify(&world.view.rollups[&chain].slot, &sealed.list).expect("it runs on a fresh EVM"))
    });
    lists.collect()
}

fn balance(lists: &Lists, chain: ChainId, account: Address, asset: Asset) -> I256 {
    let block = &lists[&chain].last().expect("a slot has a block").block;
    let balance = balance_of(block, account, asset).expect("the engine works").expect("the balance can be read");
    I256::try_from(balance).expect("it fits")
}

fn play(text: &str) {
    let scenario: Scenario = serde_json::from_str(text).expect("a scenario");
    let story = &scenario.story;
    let mut world = only(World::pair(), scenario.messages);
    if scenario.trusted {
        world = world.trusting([ORIGIN, DESTINATION]);
    }
    if scenario.own_builder {
        world.view.proposer = user(FILLER).address();
    }
    world.view.policy.min_relay_value = I256::try_from(scenario.min_relay_value).expect("it fits");
    let settlers = found(&mut world);
    let orders: Vec<Order> =
        scenario.orders.iter().enumerate().map(|(index, spec)| order(&world, &settlers, index, spec)).collect();
    for (order, spec) in orders.iter().zip(&scenario.orders) {
        done_before(&mut world, &settlers, order, spec);
    }
    let usdc = |chain: ChainId| world.contracts[&chain].usdc;
    // A dollar is worth a thousandth of the native asset: 10^15 a million of the token's smallest unit.
    let price = Price(U256::from(10_u64.pow(15)) * U256::from(10_u64.pow(12)));
    let rules = Rules {
        settlers,
        prices: [((ORIGIN, usdc(ORIGIN)), price), ((DESTINATION, usdc(DESTINATION)), price)].into(),
        floors: [((DESTINATION, usdc(DESTINATION)), U256::from(scenario.floor_usd * USD))].into(),
        min_profit: U256::from(scenario.min_profit_cents) * U256::from(10_u64.pow(13)),
        max_fills: scenario.max_fills,
    };
    let account = Account(user(FILLER).clone());
    let asked = StrategyView { slot: &world.view, pending: &[], signer: &account };
    for (index, expected) in scenario.expected.refusals.iter().enumerate() {
        let mut lanes = open_lanes(&world.view, &world.rollups()).expect("the rollups open");
        let refusal = fill(&asked, &rules, &orders[index], &mut lanes).expect("the engine works").err();
        let refusal = refusal.map(|refusal| refusal.to_string());
        match (expected, &refusal) {
            (Some(expected), Some(refusal)) => assert!(refusal.starts_with(expected.as_str()), "{story}: {refusal}"),
            (None, None) => {}
            _ => panic!("{story}: order {index}: {refusal:?}"),
        }
    }
    let min_profit = I256::try_from(rules.min_profit).expect("it fits");
    let strategy = Filler { orders, rules };
    let brought = strategy.bundles(&asked).expect("the engine works");
    assert_eq!(strategy.bundles(&asked), Ok(brought.clone()), "{story}: the same view gives the same bundles");
    assert_eq!(brought.len(), scenario.expected.filled.len(), "{story}");

    let before = verified(&world, &drafted(&world, Vec::new()));
    let draft = drafted(&world, brought.clone());
    assert_eq!(draft.placed.len(), brought.len(), "{story}: {:?}", draft.left_out);
    assert!(draft.value >= I256::ZERO, "{story}: the builder is no worse off");
    let after = verified(&world, &draft);

    let own = account.address();
    let mut moved: BTreeMap<(ChainId, Address), I256> = BTreeMap::new();
    for spec in scenario.expected.filled.iter().map(|index| &scenario.orders[*index]) {
        let ((from, to), customer) = (spec.route(), user(spec.customer()).address());
        let (gives, wants) = (dollars(spec.gives), dollars(spec.wants));
        for (place, change) in [((from, customer), -gives), ((to, customer), wants), ((from, own), gives), ((to, own), -wants)] {
            *moved.entry(place).or_default() += change;
        }
    }
    for chain in world.rollups() {
        for who in [user(USER).address(), user(RESIDENT).address(), own] {
            let held = |lists: &Lists| balance(lists, chain, who, Asset::Token(usdc(chain)));
            let expected = moved.get(&(chain, who)).copied().unwrap_or_default();
            assert_eq!(held(&after) - held(&before), expected, "{story}: {who} on {chain}, to the last unit");
        }
    }
    let mut profit = I256::ZERO;
    for chain in world.rollups() {
        let gained = |asset: Asset| balance(&after, chain, own, asset) - balance(&before, chain, own, asset);
        let native = gained(Asset::Native);
        assert!(!brought.is_empty() || native.is_zero(), "{story}: who lands nothing pays nothing");
        profit += world.view.rollups[&chain].price.weigh(native).expect("it fits");
        profit += price.weigh(gained(Asset::Token(usdc(chain)))).expect("it fits");
    }
    let fills = I256::try_from(brought.len()).expect("it fits");
    assert!(profit >= min_profit * fills, "{story}: {profit} is gained, all gas and the builder paid");
}

/// Whole dollars in the smallest unit of USDC.
fn dollars(amount: u64) -> I256 {
    I256::try_from(amount * USD).expect("it fits")
}

fn drafted(world: &World, bundles: Vec<Bundle>) -> Draft {
    let simulated = simulate_all(&world.view, &candidates(bundles)).expect("the engine works");
    build(&world.view, &simulated, &world.rollups()).expect("the engine works")
}

#[test]
fn the_published_selectors_and_type_hashes_hold() {
    assert_eq!(openForCall::SELECTOR, [0x84, 0x4f, 0xac, 0x8e]);
    assert_eq!(fillCall::SELECTOR, [0x82, 0xe2, 0xc4, 0x3f]);
    assert_eq!(nonceUsedCall::SELECTOR, [0x16, 0x47, 0x79, 0x5e]);
    assert_eq!(filledCall::SELECTOR, [0x28, 0x8c, 0xdc, 0x91]);
    assert_eq!(TokenOrder::default_type_hash(), b256!("ec2b0eed38ed8e16ac1d534a67bf09781bc936246625aab0dfcdc62b6e24ec8c"),);
    let zero = GaslessCrossChainOrder {
        originSettler: Address::ZERO,
        user: Address::ZERO,
        nonce: U256::ZERO,
        originChainId: U256::ZERO,
        openDeadline: 0,
        fillDeadline: 0,
        orderDataType: B256::ZERO,
        orderData: Bytes::new(),
    };
    assert_eq!(zero.eip712_type_hash(), b256!("e3bf10b5739e335154720a95c12f13044f17663dbd6ca01ac402fbc114960ecd"));
}

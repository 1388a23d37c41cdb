//! The strategy in a small world: what it brings is built, sealed and verified like everybody's, and then balances are counted.

use std::sync::Arc;

use alloy::signers::local::PrivateKeySigner;
use alloy_consensus::TxEip1559;
use alloy_primitives::{Address, B256, Bytes, I256, Signature, TxKind, U256, b256};
use alloy_sol_types::{SolCall, SolStruct, SolValue, sol};
use lockstep_building::{
    Draft, Signer, SlotView, Strategy, StrategyView, balance_of, build, open_lanes, seal, simulate_all, verify,
};
use lockstep_erc7683_filler::{
    Filler, Order, Rules, Settlers,
    abi::{GaslessCrossChainOrder, TokenOrder, fillCall, openForCall},
    fill,
};
use lockstep_primitives::{Asset, Bundle, ChainId, Price};
use lockstep_simulation::{BlockTx, Lane, PendingBlock, StateView};
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

scenarios!(filled, two_filled, short_of_inventory, unprofitable, too_late, done, not_signed, unknown_settler);

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
    expected: Expected,
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
fn found(world: &mut World) -> [(ChainId, Settlers); 2] {
    let messenger = messenger();
    let mut there = Setup::open(&world.view, DESTINATION);
    let destination = there.create(DESTINATION_SETTLER, messenger.abi_encode());
    there.keep(world);
    let mut here = Setup::open(&world.view, ORIGIN);
    let origin = here.create(ORIGIN_SETTLER, (messenger, U256::from(REFUND_DELAY)).abi_encode_params());
    let known = setDestinationSettlerCall { chainId: U256::from(DESTINATION), settler: destination.into_word() };
    here.run(deployer(), TxKind::Call(origin), known.abi_encode().into());
    here.run(user(USER), TxKind::Call(world.contracts[&ORIGIN].usdc), calls::approve_all(origin));
    here.keep(world);
    let nothing = Address::repeat_byte(0xee);
    [(ORIGIN, Settlers { origin, destination: nothing }), (DESTINATION, Settlers { origin: nothing, destination })]
}

/// `L2ToL2CrossDomainMessenger`, a predeploy.
fn messenger() -> Address {
    "0x4200000000000000000000000000000000000023".parse().expect("an address")
}

fn order(world: &World, settlers: &[(ChainId, Settlers); 2], index: usize, spec: &OrderSpec) -> Order {
    let now = world.view.rollups[&ORIGIN].slot.blocks[0].next.timestamp;
    let deadline = u32::try_from(if spec.ended { now - 1 } else { now + 600 }).expect("it fits");
    let tokens = TokenOrder {
        inputToken: world.contracts[&ORIGIN].usdc,
        inputAmount: U256::from(spec.gives * USD),
        outputToken: world.contracts[&DESTINATION].usdc.into_word(),
        outputAmount: U256::from(spec.wants * USD),
        destinationChainId: U256::from(DESTINATION),
        recipient: user(USER).address().into_word(),
        destinationSettler: settlers[1].1.destination.into_word(),
    };
    let order = GaslessCrossChainOrder {
        originSettler: if spec.elsewhere { Address::repeat_byte(0x0e) } else { settlers[0].1.origin },
        user: user(USER).address(),
        nonce: U256::from(index + 1),
        originChainId: U256::from(ORIGIN),
        openDeadline: deadline,
        fillDeadline: deadline,
        orderDataType: TokenOrder::default_type_hash(),
        orderData: tokens.abi_encode().into(),
    };
    let mut order = Order { order, signature: Bytes::new() };
    let key = if spec.forged { user(FILLER) } else { user(USER) };
    order.signature = Bytes::copy_from_slice(&sign_digest(key, order.digest()).as_bytes());
    order
}

fn balance(draft: &Draft, chain: ChainId, account: Address, asset: Asset) -> U256 {
    let block = &draft.lanes[&chain].blocks.last().expect("a slot has a block").block;
    balance_of(block, account, asset).expect("the engine works").expect("the balance can be read")
}

fn play(text: &str) {
    let scenario: Scenario = serde_json::from_str(text).expect("a scenario");
    let story = &scenario.story;
    let mut world = World::pair();
    world.view.policy.min_relay_value = I256::try_from(scenario.min_relay_value).expect("it fits");
    let settlers = found(&mut world);
    let orders: Vec<Order> =
        scenario.orders.iter().enumerate().map(|(index, spec)| order(&world, &settlers, index, spec)).collect();
    for (order, _) in orders.iter().zip(&scenario.orders).filter(|(_, spec)| spec.opened) {
        let open = openForCall { order: order.order.clone(), signature: order.signature.clone(), originFillerData: Bytes::new() };
        let mut setup = Setup::open(&world.view, ORIGIN);
        setup.run(user(1), TxKind::Call(order.order.originSettler), open.abi_encode().into());
        setup.keep(&mut world);
    }
    let usdc = |chain: ChainId| world.contracts[&chain].usdc;
    // A dollar is worth a thousandth of the native asset: 10^15 a million of the token's smallest unit.
    let price = Price(U256::from(10_u64.pow(15)) * U256::from(10_u64.pow(12)));
    let rules = Rules {
        settlers: settlers.into(),
        prices: [((ORIGIN, usdc(ORIGIN)), price), ((DESTINATION, usdc(DESTINATION)), price)].into(),
        floors: [((DESTINATION, usdc(DESTINATION)), U256::from(scenario.floor_usd * USD))].into(),
        min_profit: U256::from(scenario.min_profit_cents) * U256::from(10_u64.pow(13)),
        max_fills: 8,
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
    let strategy = Filler { orders, rules };
    let brought = strategy.bundles(&asked).expect("the engine works");
    assert_eq!(strategy.bundles(&asked), Ok(brought.clone()), "{story}: the same view gives the same bundles");
    assert_eq!(brought.len(), scenario.expected.filled.len(), "{story}");

    let before = drafted(&world, Vec::new());
    let after = drafted(&world, brought.clone());
    assert_eq!(after.placed.len(), brought.len(), "{story}: {:?}", after.left_out);
    for chain in world.rollups() {
        let sealed = seal(&world.view, &after, chain, &evidence(&after), &|digest| sign_digest(builder(), digest));
        verify(&world.view.rollups[&chain].slot, &sealed.expect("it seals").list).expect("it runs on a fresh EVM");
    }
    assert!(after.value >= I256::ZERO, "{story}: the builder is no worse off");

    let sum = |ask: &dyn Fn(&OrderSpec) -> u64| {
        let filled = scenario.expected.filled.iter().map(|index| ask(&scenario.orders[*index]));
        U256::from(filled.sum::<u64>() * USD)
    };
    let (gives, wants) = (sum(&|spec| spec.gives), sum(&|spec| spec.wants));
    let held = |draft: &Draft, chain: ChainId, who: Address| balance(draft, chain, who, Asset::Token(usdc(chain)));
    let (customer, own) = (user(USER).address(), account.address());
    assert_eq!(held(&before, ORIGIN, customer) - held(&after, ORIGIN, customer), gives, "{story}");
    assert_eq!(held(&after, DESTINATION, customer) - held(&before, DESTINATION, customer), wants, "{story}: to the cent");
    assert_eq!(held(&after, ORIGIN, own) - held(&before, ORIGIN, own), gives, "{story}: repaid");
    assert_eq!(held(&before, DESTINATION, own) - held(&after, DESTINATION, own), wants, "{story}");
    if brought.is_empty() {
        for chain in world.rollups() {
            let native = |draft: &Draft| balance(draft, chain, own, Asset::Native);
            assert_eq!(native(&before), native(&after), "{story}: who lands nothing pays nothing");
        }
    }
}

fn drafted(world: &World, bundles: Vec<Bundle>) -> Draft {
    let simulated = simulate_all(&world.view, &candidates(bundles)).expect("the engine works");
    build(&world.view, &simulated, &world.rollups()).expect("the engine works")
}

#[test]
fn the_published_selectors_and_type_hashes_hold() {
    assert_eq!(openForCall::SELECTOR, [0x84, 0x4f, 0xac, 0x8e]);
    assert_eq!(fillCall::SELECTOR, [0x82, 0xe2, 0xc4, 0x3f]);
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

//! The strategy in small worlds: its bundles are built, sealed and verified like everybody's, and then balances are counted.

use std::{collections::BTreeMap, sync::Arc};

use alloy::signers::local::PrivateKeySigner;
use alloy_primitives::{Address, B256, I256, Signature, U256};
use lockstep_building::{
    Draft, Lanes, Signer, SlotView, Strategy, StrategyView, balance_of, build, open_lanes, seal, simulate_all,
};
use lockstep_messaging::{Facts, LandedMessage};
use lockstep_orphan_relay::{OrphanRelay, Rules, Sponsor};
use lockstep_primitives::{Asset, Bundle, ChainId, LandedRef, Leg, Relay};
use lockstep_simulation::{PendingBlock, StateView};
use lockstep_testkit::{Call, USD, Wallet, World, attest, builder, bundle, candidates, evidence, sign_digest, user};
use serde::Deserialize;

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            play(include_str!(concat!("../../../fixtures/strategies/orphan-relay/", stringify!($name), ".json")));
        }
    )*};
}

scenarios!(
    already_delivered,
    asked_for,
    budget_too_small,
    builder_pays,
    sponsor_bounded_by_slot,
    sponsored,
    sponsored_several,
    worthless,
);

/// Who sends, and who receives.
const SENDER: usize = 0;
const RECIPIENT: usize = 1;
/// Who asks for a delivery of their own.
const ASKER: usize = 2;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    story: String,
    world: String,
    orphans: Vec<OrphanSpec>,
    min_relay_value: String,
    min_value: String,
    sponsor: Option<SponsorSpec>,
    expected: Expected,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OrphanSpec {
    from: ChainId,
    to: ChainId,
    usd: u64,
    /// Whether the destination has it already.
    #[serde(default)]
    delivered: bool,
    /// What a user's own bundle pays for its delivery.
    user_pays_wei: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SponsorSpec {
    user: usize,
    budget: String,
    max_per_slot: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    /// Which orphans reach their recipient.
    delivered: Vec<usize>,
    paid_by_sponsor: bool,
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

fn world(name: &str) -> World {
    match name {
        "pair" => World::pair(),
        "trio" => World::trio(),
        other => panic!("there is no world {other}"),
    }
}

fn signed(text: &str) -> I256 {
    I256::from_dec_str(text).expect("a decimal amount")
}

/// Builds a draft on all rollups of a view.
fn drafted(view: &SlotView, bundles: Vec<Bundle>) -> Draft {
    let simulated = simulate_all(view, &candidates(bundles)).expect("the engine works");
    build(view, &simulated, &view.rollups.keys().copied().collect()).expect("the engine works")
}

/// Burns for every orphan, and makes the messages known as landed: with what the attesters say of them, and nobody delivering.
fn send(world: &mut World, orphans: &[OrphanSpec]) -> Vec<LandedRef> {
    let mut sender = Wallet::user(SENDER).tipping(20);
    let crossings: Vec<Bundle> = orphans
        .iter()
        .map(|orphan| {
            let burn = world.burn(orphan.from, orphan.usd * USD, orphan.to, user(RECIPIENT).address());
            bundle().tx(orphan.from, sender.send(orphan.from, burn)).relay(orphan.to, 0, 0).build()
        })
        .collect();
    let mut view = world.view.clone();
    view.policy.min_relay_value = I256::MIN;
    let draft = drafted(&view, crossings.clone());
    let mut facts = Facts::default();
    let mut known = Vec::new();
    for (orphan, crossing) in orphans.iter().zip(&crossings) {
        let hash = crossing.hash();
        let placed = draft.placed.iter().find(|placed| placed.hash == hash).expect("a crossing lands");
        let relay = placed.run.relays.first().expect("a crossing has a relay");
        let request = relay.request.as_ref().expect("attesters are asked");
        let tx = crossing.txs().next().expect("a burn").tx.hash();
        let at = LandedRef { chain: orphan.from, tx, message: 0 };
        let landed = LandedMessage { message: relay.message.clone(), evidence: attest(request) };
        facts.landed.insert(at, Ok(landed));
        facts.orphans.push(at);
        known.push(at);
    }
    for orphan in orphans.iter().filter(|orphan| orphan.delivered) {
        let after = draft.lanes[&orphan.to].blocks.last().expect("a slot has a block").block.state().clone();
        let rollup = world.view.rollups.get_mut(&orphan.to).expect("the rollup is there");
        Arc::make_mut(&mut rollup.slot).state = Arc::new(after) as Arc<dyn StateView>;
    }
    world.view.facts = Arc::new(facts);
    known
}

fn usdc(world: &World, block: &PendingBlock, chain: ChainId, account: Address) -> U256 {
    let asset = Asset::Token(world.contracts[&chain].usdc);
    balance_of(block, account, asset).expect("the engine works").expect("a token tells balances")
}

fn native(block: &PendingBlock, account: Address) -> U256 {
    balance_of(block, account, Asset::Native).expect("the engine works").expect("a native balance")
}

/// The block that each rollup ends the slot with, sealed and verified.
fn sealed(view: &SlotView, draft: &Draft) -> BTreeMap<ChainId, PendingBlock> {
    let mut blocks = BTreeMap::new();
    for (chain, lane) in &draft.lanes {
        seal(view, draft, *chain, &evidence(draft), &|digest| sign_digest(builder(), digest))
            .unwrap_or_else(|error| panic!("rollup {chain} is not sealed: {error}"));
        blocks.insert(*chain, lane.blocks.last().expect("a slot has a block").block.clone());
    }
    blocks
}

fn play(text: &str) {
    let scenario: Scenario = serde_json::from_str(text).expect("a scenario");
    let mut world = world(&scenario.world);
    let known = send(&mut world, &scenario.orphans);
    world.view.policy.min_relay_value = signed(&scenario.min_relay_value);
    let view = &world.view;
    // What users ask for is there first.
    let asked_for: Vec<Bundle> = scenario
        .orphans
        .iter()
        .zip(&known)
        .filter_map(|(orphan, at)| {
            let wei = orphan.user_pays_wei.as_ref()?.parse().expect("an amount of wei");
            let payment = Wallet::user(ASKER).send(orphan.to, Call::pay(view.proposer, wei));
            let mut asked = bundle().tx(orphan.to, payment).build();
            asked.legs.push(Leg::Relay { chain: orphan.to, relay: Relay::Landed(*at) });
            Some(asked)
        })
        .collect();
    let pending = simulate_all(view, &candidates(asked_for.clone())).expect("the engine works");
    let account = Account(user(scenario.sponsor.as_ref().map_or(ASKER, |sponsor| sponsor.user)).clone());
    let sponsor = scenario
        .sponsor
        .as_ref()
        .map(|sponsor| Sponsor { budget: sponsor.budget.parse().expect("a budget"), max_per_slot: sponsor.max_per_slot });
    let strategy = OrphanRelay(Rules { min_value: signed(&scenario.min_value), sponsor, ..Rules::default() });
    let asked = StrategyView { slot: view, pending: &pending, signer: &account };
    let bundles = strategy.bundles(&asked).expect("the engine works");
    assert_eq!(strategy.bundles(&asked), Ok(bundles.clone()), "{}: the same view gives the same bundles", scenario.story);

    let before: Lanes = open_lanes(view, &world.rollups()).expect("the rollups open");
    let draft = drafted(view, asked_for.into_iter().chain(bundles).collect());
    let after = sealed(view, &draft);
    assert!(draft.value >= signed(&scenario.min_relay_value), "{}: nobody works at a loss unasked", scenario.story);

    let mut due: BTreeMap<ChainId, U256> = BTreeMap::new();
    for index in &scenario.expected.delivered {
        let orphan = &scenario.orphans[*index];
        *due.entry(orphan.to).or_default() += U256::from(orphan.usd * USD);
    }
    let recipient = user(RECIPIENT).address();
    let mut paid = false;
    for (chain, block) in &after {
        let was = usdc(&world, before[chain].block(), *chain, recipient);
        let is = usdc(&world, block, *chain, recipient);
        assert_eq!(is - was, due.get(chain).copied().unwrap_or_default(), "{}: rollup {chain}", scenario.story);
        if let Some(sponsor) = &scenario.sponsor {
            let (was, is) = (native(before[chain].block(), account.0.address()), native(block, account.0.address()));
            let budget: U256 = sponsor.budget.parse().expect("a budget");
            // No rollup of the worlds has a price below half, so a budget is at most twice as many wei.
            let most = budget * U256::from(2 * sponsor.max_per_slot);
            assert!(was - is <= most, "{}: the sponsor paid more than its budget on rollup {chain}", scenario.story);
            paid |= was != is;
        }
    }
    assert_eq!(paid, scenario.expected.paid_by_sponsor, "{}", scenario.story);
}

/// The same message twice among the orphans is delivered by one bundle.
#[test]
fn a_message_is_delivered_once_in_a_slot_whoever_brings_it() {
    let mut world = World::pair();
    let spec = [OrphanSpec { from: 7_003, to: 7_005, usd: 5, delivered: false, user_pays_wei: None }];
    let known = send(&mut world, &spec);
    let mut facts = (*world.view.facts).clone();
    facts.orphans = vec![known[0], known[0]];
    world.view.facts = Arc::new(facts);
    let account = Account(user(3).clone());
    let sponsor = Some(Sponsor { budget: U256::from(10_u64).pow(U256::from(15)), max_per_slot: 4 });
    let strategy = OrphanRelay(Rules { sponsor, ..Rules::default() });
    let asked = StrategyView { slot: &world.view, pending: &[], signer: &account };
    assert_eq!(strategy.bundles(&asked).expect("the engine works").len(), 1);
}

/// A payment from the proposer to itself would cover nothing.
#[test]
fn a_proposer_sponsors_nothing_from_its_own_account() {
    let mut world = World::pair();
    send(&mut world, &[OrphanSpec { from: 7_003, to: 7_005, usd: 5, delivered: false, user_pays_wei: None }]);
    let account = Account(builder().clone());
    let sponsor = Some(Sponsor { budget: U256::MAX, max_per_slot: 4 });
    let strategy = OrphanRelay(Rules { sponsor, ..Rules::default() });
    let asked = StrategyView { slot: &world.view, pending: &[], signer: &account };
    assert_eq!(strategy.bundles(&asked), Ok(Vec::new()));
}

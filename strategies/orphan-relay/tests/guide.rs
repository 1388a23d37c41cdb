//! The strategy that `docs/writing-a-strategy.md` shows is this one, and it works.

#[path = "guide/keeper.rs"]
mod keeper;

use std::sync::Arc;

use alloy::signers::local::PrivateKeySigner;
use alloy_consensus::TxEip1559;
use alloy_primitives::{Address, B256, Signature, TxKind, U256, bytes};
use lockstep_building::{EvidenceMap, Signer, Strategy, StrategyView, build, open_lanes, seal, simulate_all};
use lockstep_simulation::{BlockTx, StateView};
use lockstep_testkit::{GWEI, PRAGUE, World, builder, candidates, ether, gwei, sign, sign_digest, user};

use keeper::Keeper;

const GUIDE: &str = include_str!("../../../docs/writing-a-strategy.md");
const SHOWN: &str = include_str!("guide/keeper.rs");

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

/// A contract that gives whoever calls it all that it has, an ether to begin with.
fn purse(world: &mut World) -> Address {
    let mut lanes = open_lanes(&world.view, &[PRAGUE].into()).expect("the rollup opens");
    let block = lanes.get_mut(&PRAGUE).expect("the rollup is there").block_mut();
    let tx = TxEip1559 {
        chain_id: PRAGUE,
        gas_limit: 1_000_000,
        max_fee_per_gas: 5 * GWEI,
        to: TxKind::Create,
        value: ether(1),
        // Returns the code: call(gas, caller, selfbalance, nothing in, nothing out), stop.
        input: bytes!("685f5f5f5f47335af1005f5260096017f3"),
        ..TxEip1559::default()
    };
    let executed = block.execute(&BlockTx::Signed(sign(user(0), tx))).expect("the engine works").expect("a valid creation");
    let created = executed.outcome.created.expect("a creation creates");
    let rollup = world.view.rollups.get_mut(&PRAGUE).expect("the rollup is there");
    Arc::make_mut(&mut rollup.slot).state = Arc::new(block.state().clone()) as Arc<dyn StateView>;
    created
}

#[test]
fn the_guide_shows_the_strategy_that_is_tested() {
    assert!(GUIDE.contains(&format!("```rust\n{SHOWN}```\n")), "copy tests/guide/keeper.rs into docs/writing-a-strategy.md");
    let lines = SHOWN.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count();
    assert!(lines <= 40, "{lines} lines are more than 40");
}

#[test]
fn the_shown_strategy_earns_and_stops_where_it_would_not() {
    let mut world = World::pair();
    let purse = purse(&mut world);
    let account = Account(user(2).clone());
    let asked = StrategyView { slot: &world.view, pending: &[], signer: &account };
    let dear = Keeper(PRAGUE, purse, ether(1));
    assert_eq!(dear.bundles(&asked), Ok(Vec::new()), "the gas is not earned back");
    let elsewhere = Keeper(1, purse, U256::ZERO);
    assert_eq!(elsewhere.bundles(&asked), Ok(Vec::new()), "the rollup has no block in the slot");

    let bundles = Keeper(PRAGUE, purse, ether(1) - gwei(1_000_000)).bundles(&asked).expect("the engine works");
    let simulated = simulate_all(&world.view, &candidates(bundles)).expect("the engine works");
    let draft = build(&world.view, &simulated, &world.rollups()).expect("the engine works");
    assert_eq!(draft.placed.len(), 1, "{:?}", draft.left_out);
    let sealed = seal(&world.view, &draft, PRAGUE, &EvidenceMap::new(), &|digest| sign_digest(builder(), digest));
    assert_eq!(sealed.expect("the list keeps what it promises").requirements.len(), 1);
}

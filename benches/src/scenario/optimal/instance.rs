//! Instances that are small enough to be enumerated.
//!
//! Half of them are cases of the test kit: users who race for nonces, expect values, pay the proposer, burn and mint, in blocks
//! that may be tight. The other half are draws of the harness's own workloads: swaps on one pool with minimum outputs, CCTP
//! pairs, pairs of swaps, chains of nonces. A seed and a size always give the same instance.

use std::sync::Arc;

use alloy_primitives::I256;
use lockstep_building::{Candidate, SlotView};
use lockstep_primitives::RollupSet;
use lockstep_testkit::{Case, GWEI, cases, cases_without_relays};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::{
    Failed, WorldSpec,
    rng::Rng,
    workload::{Kind, Mix, Workload},
};

/// The most rollups of an instance.
const ROLLUPS: usize = 3;
/// The gas limit of a block with room for all.
const AMPLE_GAS: u64 = 30_000_000;
/// What a block has room for at least: one swap, or one burn.
const LEAST_GAS: u64 = 350_000;
/// How much more it may have room for, where room is tight.
const TIGHT_GAS: u64 = 900_000;
/// The highest least value of a bundle with relays, in gwei: as much as such a bundle of the test kit may pay.
const MOST_RELAY_GWEI: u64 = 1_000_000;

/// A slot and the few bundles that want to be in it.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    /// What it was drawn from.
    pub(super) seed: u64,
    /// How many bundles were asked for.
    pub(super) bundles: usize,
    /// The slot.
    pub(super) view: Arc<SlotView>,
    /// The rollups that are built for.
    pub(super) rollups: RollupSet,
    /// The bundles.
    pub(super) candidates: Vec<Candidate>,
    /// What is in it, for people.
    pub(super) story: String,
}

impl Instance {
    /// The instance of a seed, with that many bundles; fewer where the draw gave some twice.
    ///
    /// # Errors
    /// When the rollups cannot be made.
    pub(super) fn draw(seed: u64, bundles: usize) -> Result<Self, Failed> {
        let mut rng = Rng::new(seed);
        let rollups = 1 + rng.index(ROLLUPS);
        if rng.permille(500) { of_case(seed, &mut rng, rollups, bundles) } else { of_mix(seed, &mut rng, rollups, bundles) }
    }
}

/// A case of the test kit.
fn of_case(seed: u64, rng: &mut Rng, rollups: usize, bundles: usize) -> Result<Instance, Failed> {
    let mut bytes = [0_u8; 32];
    for chunk in bytes.chunks_exact_mut(8) {
        chunk.copy_from_slice(&rng.draw().to_le_bytes());
    }
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    // There is no world of one rollup: it is one of two, and no bundle needs the other.
    let mut case = match rollups {
        1 => drawn(&cases_without_relays(1, bundles), &mut runner)?,
        _ => drawn(&cases(rollups, bundles), &mut runner)?,
    };
    // One block a rollup, as the search has it.
    case.setting.blocks = vec![1; rollups.max(2)];
    if rng.permille(300) {
        case.setting.gas_limit = LEAST_GAS + rng.below(TIGHT_GAS);
    }
    let mut world = case.world();
    if rng.permille(250) {
        let least = u128::from(rng.below(MOST_RELAY_GWEI)) * GWEI;
        world.view.policy.min_relay_value = I256::try_from(least)?;
    }
    let candidates = case.candidates(&world);
    let relays = world.view.policy.min_relay_value;
    Ok(Instance {
        seed,
        bundles,
        rollups: (0..rollups).map(|index| world.chain(index)).collect(),
        view: Arc::new(world.view),
        candidates,
        story: format!("{case:?}, at least {relays} wei for a bundle with relays"),
    })
}

fn drawn(strategy: &impl Strategy<Value = Case>, runner: &mut TestRunner) -> Result<Case, Failed> {
    let tree = strategy.new_tree(runner).map_err(|reason| format!("no case can be drawn: {reason}"))?;
    Ok(tree.current())
}

/// A draw of a workload.
fn of_mix(seed: u64, rng: &mut Rng, rollups: usize, bundles: usize) -> Result<Instance, Failed> {
    let mut shares = vec![
        (Kind::Transfer, 100),
        (Kind::Erc20, 50),
        (Kind::HotSwap, 500),
        (Kind::ColdSwap, 50),
        (Kind::Spam, 30),
        (Kind::NonceChain, 120),
        (Kind::Replacement, 50),
    ];
    if rollups > 1 {
        shares.extend([(Kind::SwapPair, 250), (Kind::Cctp, 150)]);
    }
    let mut mix = Mix::new("few", &shares);
    // All of them meet on one pool.
    mix.hot_pools = 1;
    let gas_limit = if rng.permille(500) { LEAST_GAS + rng.below(TIGHT_GAS) } else { AMPLE_GAS };
    let spec = WorldSpec { rollups, pools: 2, gas_limit, ..WorldSpec::default() };
    let workload = Workload::draw(&spec, &mix, bundles, rng.draw())?;
    Ok(Instance {
        seed,
        bundles,
        rollups: workload.view.rollups.keys().copied().collect(),
        story: format!("{}; {gas_limit} gas a block", workload.description),
        view: workload.view,
        candidates: workload.candidates,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(instance: &Instance) -> Vec<alloy_primitives::B256> {
        instance.candidates.iter().map(|candidate| candidate.hash).collect()
    }

    #[test]
    fn a_seed_and_a_size_give_the_same_instance_every_time() {
        for seed in 0..12 {
            let (one, again) = (Instance::draw(seed, 5).unwrap(), Instance::draw(seed, 5).unwrap());
            assert_eq!((hashes(&one), &one.story), (hashes(&again), &again.story));
            assert!(!one.candidates.is_empty() && one.candidates.len() <= 5);
            assert!(one.candidates.iter().all(|candidate| candidate.bundle.rollups().is_subset(&one.rollups)));
        }
        assert_ne!(hashes(&Instance::draw(1, 5).unwrap()), hashes(&Instance::draw(2, 5).unwrap()));
    }

    #[test]
    fn both_kinds_of_instances_and_one_to_three_rollups_are_drawn() {
        let all: Vec<Instance> = (0..24).map(|seed| Instance::draw(seed, 2).unwrap()).collect();
        for rollups in 1..=ROLLUPS {
            assert!(all.iter().any(|instance| instance.rollups.len() == rollups), "{rollups}");
        }
        let cases = all.iter().filter(|instance| instance.story.starts_with("Case")).count();
        assert!(cases > 0 && cases < all.len(), "{cases}");
    }
}

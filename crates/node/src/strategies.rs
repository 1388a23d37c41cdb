//! Strategies: what the builder itself brings into a slot.
//!
//! They are asked once a slot, after what is pending was simulated, all at the same time and each on a thread of its own. What
//! they answer goes the way of every bundle: through the intake, so that it is on disk and tracked, and then it competes. A
//! strategy that fails, panics or takes too long brings nothing, and costs nobody else the slot.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use alloy_primitives::{Address, B256, Signature};
use lockstep_building::{Candidate, Signer, Simulated, SlotView, Strategy, StrategyView};
use lockstep_pool::Kind;
use lockstep_primitives::Bundle;
use tokio::sync::Semaphore;

use crate::{clock::now_ms, intake::Intake, keys::Key, roles::builder::blocking_with_state};

/// Bundles that one strategy may bring into one slot. What it makes beyond that is left out, and counted.
pub const MAX_BUNDLES: usize = 32;

impl Signer for Key {
    fn address(&self) -> Address {
        Self::address(self)
    }

    fn sign(&self, digest: B256) -> Signature {
        Self::sign(self, digest)
    }
}

/// A strategy, and the account that it acts for.
#[derive(Clone, Debug)]
pub struct StrategySetup {
    /// What it does.
    pub strategy: Arc<dyn Strategy>,
    /// Signs its transactions. The account holds its inventory.
    pub key: Key,
}

/// The strategies of a builder.
#[derive(Clone, Debug, Default)]
pub(crate) struct Strategies(Vec<Runner>);

#[derive(Clone, Debug)]
struct Runner {
    setup: StrategySetup,
    /// Held while the strategy works: one that never ends takes one thread, not one a slot.
    turn: Arc<Semaphore>,
}

impl Strategies {
    /// These strategies. Among equals the bundles of an earlier one go first.
    pub(crate) fn new(setups: Vec<StrategySetup>) -> Self {
        Self(setups.into_iter().map(|setup| Runner { setup, turn: Arc::new(Semaphore::new(1)) }).collect())
    }

    /// Whether there are none.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the strategies bring into a slot, given what is pending in it; admitted, but not simulated yet. They have until
    /// `until_ms`, in Unix milliseconds, to answer.
    pub(crate) async fn candidates(
        &self,
        intake: &Intake,
        view: &Arc<SlotView>,
        pending: &Arc<Vec<Simulated>>,
        until_ms: u64,
    ) -> Vec<Candidate> {
        let asked = self.0.iter().map(|runner| runner.ask(intake, view, pending, until_ms));
        let answers = futures_util::future::join_all(asked).await;
        let mut known: BTreeSet<B256> = pending.iter().map(|entry| entry.candidate.hash).collect();
        let mut candidates = Vec::new();
        for (runner, answer) in self.0.iter().zip(answers) {
            let strategy = runner.setup.strategy.name();
            match answer {
                Ok(bundles) => candidates.extend(runner.admit(intake, view, bundles, &mut known).await),
                Err(cause) => {
                    metrics::counter!("lockstep_strategy_failures_total", "strategy" => strategy).increment(1);
                    tracing::warn!(slot = view.slot, strategy, %cause, "the strategy brings nothing into the slot");
                }
            }
        }
        candidates
    }
}

impl Runner {
    /// Asks for bundles. What the states lack is fetched, and it is asked again.
    async fn ask(
        &self,
        intake: &Intake,
        view: &Arc<SlotView>,
        pending: &Arc<Vec<Simulated>>,
        until_ms: u64,
    ) -> Result<Vec<Bundle>, String> {
        let turn = Arc::clone(&self.turn).try_acquire_owned();
        let turn = turn.map_err(|_| "it is still at work on an earlier slot".to_owned())?;
        let (strategy, key, pending) = (Arc::clone(&self.setup.strategy), self.setup.key.clone(), Arc::clone(pending));
        let work = move |slot: &SlotView| {
            // The turn belongs to the work, and ends with it even where nobody waits for that any more.
            let _turn = &turn;
            strategy.bundles(&StrategyView { slot, pending: &pending, signer: &key })
        };
        let patience = Duration::from_millis(until_ms.saturating_sub(now_ms()));
        let answer = tokio::time::timeout(patience, blocking_with_state(intake, Arc::clone(view), work)).await;
        answer.unwrap_or_else(|_| Err("it did not answer in time".to_owned()))
    }

    /// Takes its bundles in, in its order: a later one may go on with the nonces of an earlier one.
    async fn admit(&self, intake: &Intake, view: &SlotView, bundles: Vec<Bundle>, known: &mut BTreeSet<B256>) -> Vec<Candidate> {
        let strategy = self.setup.strategy.name();
        let count = |result: &'static str, times: usize| {
            metrics::counter!("lockstep_strategy_bundles_total", "strategy" => strategy, "result" => result)
                .increment(times as u64);
        };
        let too_many = bundles.len().saturating_sub(MAX_BUNDLES);
        if too_many > 0 {
            count("too_many", too_many);
            tracing::warn!(slot = view.slot, strategy, too_many, "bundles of the strategy are left out: it makes too many");
        }
        let mut candidates = Vec::new();
        for bundle in bundles.into_iter().take(MAX_BUNDLES) {
            let Some(bundle) = of_slot(view, bundle, self.setup.key.address()) else {
                count("not_in_slot", 1);
                continue;
            };
            let hash = match intake.admit(bundle, Kind::Bundle).await {
                Ok(hash) => hash,
                Err(error) => {
                    count("refused", 1);
                    tracing::warn!(slot = view.slot, strategy, %error, "a bundle of the strategy is refused");
                    continue;
                }
            };
            intake.label(hash, strategy);
            // Somebody may have sent the very same bundle.
            if !known.insert(hash) {
                count("known", 1);
                continue;
            }
            candidates.extend(candidate(intake, hash));
            count("admitted", 1);
        }
        candidates
    }
}

/// The pending bundle with that hash, when it is free to be built.
fn candidate(intake: &Intake, hash: B256) -> Option<Candidate> {
    let pool = intake.pool().read();
    let entry = pool.get(hash).filter(|entry| !entry.frozen)?;
    Some(Candidate { hash, bundle: Arc::clone(&entry.bundle), sequence: entry.sequence })
}

/// The bundle as one that ends with the slot, and that belongs to the strategy's account; `None` when it needs a rollup that
/// the slot does not have.
fn of_slot(view: &SlotView, mut bundle: Bundle, account: Address) -> Option<Bundle> {
    for chain in bundle.rollups() {
        let slot = &view.rollups.get(&chain)?.slot;
        let mut range = bundle.block_range(chain);
        range.max = range.max.min(slot.parent.number.saturating_add(slot.blocks.len() as u64));
        bundle.blocks.insert(chain, range);
    }
    bundle.signer = Some(account);
    Some(bundle)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use lockstep_building::{BuildError, Policy, RollupView};
    use lockstep_primitives::Price;
    use lockstep_provider::RollupNode;
    use lockstep_simulation::{BlockPlan, EthereumFork, ForkSchedule, Rules, SlotRollup};
    use parking_lot::Mutex;

    use super::*;
    use crate::fake_node::{A, B, HEAD, Rig, bundle_of, pay};

    /// A strategy that does what a test says.
    struct Does<F>(&'static str, F);

    impl<F> std::fmt::Debug for Does<F> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl<F: Fn() -> Result<Vec<Bundle>, BuildError> + Send + Sync> Strategy for Does<F> {
        fn name(&self) -> &'static str {
            self.0
        }

        fn bundles(&self, _: &StrategyView<'_>) -> Result<Vec<Bundle>, BuildError> {
            (self.1)()
        }
    }

    fn does<F>(name: &'static str, work: F) -> StrategySetup
    where
        F: Fn() -> Result<Vec<Bundle>, BuildError> + Send + Sync + 'static,
    {
        StrategySetup { strategy: Arc::new(Does(name, work)), key: Key::of_name(name) }
    }

    /// The slot after the first rollup's head, with one block of it and none of the other.
    async fn view(rig: &Rig) -> Arc<SlotView> {
        let parent = rig.a.head().await.unwrap();
        let state = rig.a.state_at(parent.hash).await.unwrap();
        let forks = ForkSchedule::always(Rules::Ethereum(EthereumFork::Osaka));
        let slot = SlotRollup { chain: A, forks, parent, state, blocks: vec![BlockPlan::default()] };
        let rollups = [(A, RollupView::free(Arc::new(slot), Price::PAR, 0))].into();
        let proposer = Address::repeat_byte(0xbb);
        Arc::new(SlotView { slot: 7, rollups, proposer, policy: Policy::default(), facts: Arc::default() })
    }

    async fn asked(rig: &Rig, strategies: &Strategies, patience_ms: u64) -> Vec<Candidate> {
        strategies.candidates(&rig.intake, &view(rig).await, &Arc::default(), now_ms() + patience_ms).await
    }

    const PATIENCE_MS: u64 = 60_000;

    #[tokio::test]
    async fn who_panics_or_fails_brings_nothing_and_keeps_nobody_from_theirs() {
        let rig = Rig::new(lockstep_pool::Limits::default());
        let strategies = Strategies::new(vec![
            does("panics", || panic!("a strategy that panics")),
            does("fails", || Err(BuildError::Overflow)),
            does("works", || Ok(vec![bundle_of(&[(A, pay(A, 0, 0))])])),
        ]);
        for _ in 0..2 {
            let candidates = asked(&rig, &strategies, PATIENCE_MS).await;
            assert_eq!(candidates.len(), 1, "asked again, it answers again");
            let bundle = &candidates[0].bundle;
            assert_eq!(bundle.block_range(A).max, HEAD + 1, "it ends with the slot");
            assert_eq!(bundle.signer, Some(Key::of_name("works").address()), "nobody else may take it back");
        }
        assert_eq!(rig.intake.pool().read().len(), 1);
    }

    #[tokio::test]
    async fn a_strategy_brings_no_more_than_its_bound() {
        let rig = Rig::new(lockstep_pool::Limits::default());
        let many = || Ok((0..=MAX_BUNDLES as u64).map(|nonce| bundle_of(&[(A, pay(A, 0, nonce))])).collect());
        let candidates = asked(&rig, &Strategies::new(vec![does("eager", many)]), PATIENCE_MS).await;
        assert_eq!(candidates.len(), MAX_BUNDLES);
        let nonces: Vec<u64> = candidates.iter().flat_map(|entry| entry.bundle.txs().map(|tx| tx.tx.nonce())).collect();
        assert_eq!(nonces, (0..MAX_BUNDLES as u64).collect::<Vec<_>>(), "in its order");
    }

    #[tokio::test]
    async fn what_needs_a_rollup_without_a_block_or_is_refused_is_left_out() {
        let rig = Rig::new(lockstep_pool::Limits::default());
        let work = || {
            let elsewhere = bundle_of(&[(A, pay(A, 0, 0)), (B, pay(B, 0, 0))]);
            let after_a_gap = bundle_of(&[(A, pay(A, 1, 5))]);
            Ok(vec![elsewhere, after_a_gap, bundle_of(&[(A, pay(A, 2, 0))])])
        };
        let candidates = asked(&rig, &Strategies::new(vec![does("mixed", work)]), PATIENCE_MS).await;
        assert_eq!(candidates.len(), 1);
        assert_eq!(rig.intake.pool().read().len(), 1);
    }

    #[tokio::test]
    async fn what_is_pending_already_is_brought_by_nobody() {
        let rig = Rig::new(lockstep_pool::Limits::default());
        let work = || Ok(vec![bundle_of(&[(A, pay(A, 0, 0))])]);
        let strategies = Strategies::new(vec![does("one", work), does("one", work)]);
        assert_eq!(asked(&rig, &strategies, PATIENCE_MS).await.len(), 1, "two strategies have the same idea");
    }

    #[tokio::test]
    async fn who_takes_too_long_takes_one_thread() {
        let rig = Rig::new(lockstep_pool::Limits::default());
        let (go, wait) = channel::<()>();
        let wait: Mutex<Receiver<()>> = Mutex::new(wait);
        let slow = does("slow", move || {
            // Until the test says so, and from then on not at all.
            let _ = wait.lock().recv();
            Ok(vec![bundle_of(&[(A, pay(A, 0, 0))])])
        });
        let strategies = Strategies::new(vec![slow]);
        assert!(asked(&rig, &strategies, 0).await.is_empty());
        assert!(asked(&rig, &strategies, PATIENCE_MS).await.is_empty(), "it is at work still: it is not asked twice");
        drop(go);
        while strategies.0[0].turn.available_permits() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(asked(&rig, &strategies, PATIENCE_MS).await.len(), 1);
    }
}

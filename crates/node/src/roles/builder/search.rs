//! A slot's work until bidding: what is pending is simulated and proposed, and until it is time to bid proposals are improved and
//! what comes in meanwhile is taken in.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use alloy_primitives::I256;
use lockstep_building::{Candidate, Simulated, SlotView, Standing};
use lockstep_primitives::{RollupSet, SlotNumber};
use lockstep_rpc::api::MarketApiClient;

use super::{
    BuilderRole, Built,
    engine::{SlotEngine, TakenIn},
    holes::Holes,
    record,
};
use crate::{
    clock::{now_ms, now_us, sleep_until},
    record::steps::{MAX_STEPS, Steps},
};

/// How much of the time from then on until bidding closes simulating may take, in percent; the rest is for building and bidding.
const SIMULATE_PERCENT: u64 = 60;
/// How much of the time from the end of simulating until bidding closes strategies have to answer, in percent; the rest is for
/// simulating what they answer, for building and bidding.
const STRATEGY_PERCENT: u64 = 40;
/// How much of the time from the first proposals until bidding closes they are improved, in percent; the rest is for what came in
/// last, and for bidding.
const SEARCH_PERCENT: u64 = 60;
/// How often over the time of a look at everything has to be left before bidding closes for a last one to begin.
const LAST_LOOK: u64 = 2;
/// How often the pool is looked at meanwhile, in milliseconds.
const NEWS_EVERY_MS: u64 = 5;
/// Bundles that are taken in after one look, in the order of admission; the next look takes the others.
const NEWS_AT_ONCE: usize = 512;
/// How much of the time that is left for searching one look may wait for nodes, in percent: a slow one is not everybody's.
const NEWS_PERCENT: u64 = 25;
/// How often a slot's engine begins anew because it went on without values that it could not read. After that nothing is improved.
const MAX_ANEW: usize = 8;
/// Calls of a recorded slot's engine after which nothing is improved any more: what comes after is recorded with them.
pub(super) const MAX_SEARCH_STEPS: usize = MAX_STEPS / 2;

/// What a slot's engine found.
struct Found {
    engine: SlotEngine,
    simulated: Arc<Vec<Simulated>>,
    standings: Vec<(RollupSet, Standing)>,
}

/// What a look into the pool brought.
#[derive(Clone, Copy, Debug, Default)]
struct Looked {
    /// Whether anything came or went.
    any: bool,
    /// How long nodes were waited for, in milliseconds.
    waited_ms: u64,
}

/// Which set is improved next, and by which round: each has as many as the others, and among equals the more valuable is first.
#[derive(Debug, Default)]
struct Turns {
    values: BTreeMap<RollupSet, I256>,
    rounds: BTreeMap<RollupSet, u32>,
    /// Sets of which another round finds nothing.
    settled: BTreeSet<RollupSet>,
}

impl Turns {
    /// Something changed: every set may be improved again.
    fn reopen(&mut self, standings: &[(RollupSet, Standing)]) {
        self.values = standings.iter().map(|(rollups, standing)| (rollups.clone(), standing.value)).collect();
        self.settled.clear();
    }

    /// The engine began anew: rounds are counted from the first again.
    fn restart(&mut self, standings: &[(RollupSet, Standing)]) {
        self.rounds.clear();
        self.reopen(standings);
    }

    fn next(&self) -> Option<(RollupSet, u32)> {
        let round = |rollups: &RollupSet| self.rounds.get(rollups).copied().unwrap_or_default();
        let open = self.values.iter().filter(|(rollups, _)| !self.settled.contains(*rollups));
        let (rollups, _) = open.min_by_key(|(rollups, value)| (round(rollups), Reverse(**value)))?;
        Some((rollups.clone(), round(rollups)))
    }

    /// A round is done. `open`: another one could find more.
    fn done(&mut self, rollups: RollupSet, open: bool) {
        let round = self.rounds.entry(rollups.clone()).or_default();
        *round = round.saturating_add(1);
        if !open {
            self.settled.insert(rollups);
        }
    }
}

impl BuilderRole {
    /// Works on a slot until it is time to bid.
    ///
    /// # Errors
    /// When nothing can be bid on.
    pub(super) async fn build(&self, slot: SlotNumber) -> Result<Built, String> {
        let began_us = now_us();
        let market = self.market.get_market_slot(Some(slot)).await.map_err(|error| format!("market: {error}"))?;
        *self.fee_shares.lock() = market
            .buildable(self.address(), self.settings.proposals.offers)
            .map(|sale| (sale.chain_id.to(), sale.fee_share_bps))
            .collect();
        let (mut view, deliveries) = self.slot_view(slot, &market).await?;
        let holes = Holes::of(&mut view);
        let traces = if self.settings.recorder.is_some() { record::trace(&mut view) } else { BTreeMap::new() };
        let (revision, candidates) = self.candidates();
        let candidates = Arc::new(candidates);
        view.facts = self.facts(&view, &market, &candidates).await;
        let mut view = Arc::new(view);
        let Found { engine, simulated, standings } = loop {
            match self.build_on(&view, &holes, (revision, &candidates), market.bids_due_ms()).await {
                Ok(found) => break found,
                // A reorg, or a node that fails: the other rollups are built for all the same.
                Err(error) => {
                    let mut rest = self.without_failed(&view, error).await?;
                    // What a chain that went another way had sent is not there any more.
                    rest.facts = self.facts(&rest, &market, &candidates).await;
                    view = Arc::new(rest);
                }
            }
        };
        let steps = Steps { limits: self.settings.search, begun_with: Vec::new(), steps: Vec::new() };
        let candidates = Vec::new();
        Ok(Built { market, view, engine, simulated, standings, deliveries, traces, steps, candidates, began_us })
    }

    async fn build_on(
        &self,
        view: &Arc<SlotView>,
        holes: &Holes,
        (revision, pending): (u64, &Arc<Vec<Candidate>>),
        due_ms: u64,
    ) -> Result<Found, String> {
        let started = Instant::now();
        let until_ms = part_of_rest(due_ms, SIMULATE_PERCENT);
        // Not to be held while the engine works.
        let kept = self.kept.lock().take();
        let noted = self.settings.recorder.is_some();
        let engine = SlotEngine::begin(&self.intake, view, kept, self.settings.search, pending, noted).await?;
        let new = engine.news(Vec::clone(pending))?.new;
        engine.take_in(&self.intake, holes, new, until_ms, true).await?;
        let simulated = Arc::new(engine.simulated().await?);
        metrics::histogram!("lockstep_simulation_seconds").record(started.elapsed().as_secs_f64());
        self.judge(&simulated, view.slot, part_of_rest(due_ms, SIMULATE_PERCENT)).await;
        self.bring_strategies(&engine, holes, &simulated, due_ms).await;
        let began_ms = now_ms();
        let standings = engine.propose(&self.intake).await?;
        let took_ms = now_ms().saturating_sub(began_ms);
        metrics::histogram!("lockstep_build_seconds").record(started.elapsed().as_secs_f64());
        let standings = self.search(&engine, holes, revision, (standings, took_ms), due_ms).await?;
        if let Some(gap) = standings.last().and_then(|(_, standing)| gap_bps(standing)) {
            metrics::histogram!("lockstep_build_gap_bps").record(gap);
        }
        let simulated = Arc::new(engine.simulated().await?);
        Ok(Found { engine, simulated, standings })
    }

    /// Takes in what the strategies make of what was simulated. It is never less for their failures.
    async fn bring_strategies(&self, engine: &SlotEngine, holes: &Holes, simulated: &Arc<Vec<Simulated>>, due_ms: u64) {
        if self.settings.strategies.is_empty() {
            return;
        }
        let (started, slot) = (Instant::now(), engine.view().slot);
        let until_ms = part_of_rest(due_ms, STRATEGY_PERCENT);
        let own = self.settings.strategies.candidates(&self.intake, engine.view(), simulated, until_ms).await;
        metrics::histogram!("lockstep_strategies_seconds").record(started.elapsed().as_secs_f64());
        if own.is_empty() {
            return;
        }
        let until_ms = part_of_rest(due_ms, STRATEGY_PERCENT);
        match engine.take_in(&self.intake, holes, own, until_ms, true).await {
            Ok(own) => {
                self.judge(&own.simulated, slot, until_ms).await;
            }
            Err(error) => tracing::warn!(slot, %error, "bundles of strategies cannot be simulated: they are left out"),
        }
    }

    /// Improves proposals, and takes in what comes, until it is time to bid. Returns what every useful set is worth then.
    ///
    /// A deadline stops only between rounds, and every call of the engine is noted: asked the same again it finds the same.
    /// `took_ms`: how long the first proposals took, which is what any other look at everything is expected to take until one
    /// took longer. What would not end in time does not begin. How long nodes were waited for does not count, where the last look
    /// waits for none.
    ///
    /// # Errors
    /// When a rollup's state is gone, or the engine fails.
    pub(super) async fn search(
        &self,
        engine: &SlotEngine,
        holes: &Holes,
        revision: u64,
        (standings, took_ms): (Vec<(RollupSet, Standing)>, u64),
        due_ms: u64,
    ) -> Result<Vec<(RollupSet, Standing)>, String> {
        let slot = engine.view().slot;
        // What comes in last is proposed too, and then bid on.
        let mut look_takes_ms = took_ms;
        let until_ms = part_of_rest(due_ms, SEARCH_PERCENT).min(due_ms.saturating_sub(took_ms.saturating_mul(LAST_LOOK)));
        let mut turns = Turns::default();
        turns.reopen(&standings);
        let (mut seen, mut look_ms) = (Some(revision), 0);
        // The rollups of which the engine did not read something: on all of it, it would search otherwise.
        let (mut unread, mut anew, mut half_done) = (holes.take(), 0, false);
        // Nothing stops a round, so none begins that by the longest so far would not end in time; nor does anything begin anew.
        let (mut longest_ms, mut anew_takes_ms) = (took_ms, took_ms);
        unread.retain(|chain| engine.view().rollups.contains_key(chain));
        while now_ms() < until_ms {
            // What is left of the steps is for the last look, for bidding and for delivery.
            if engine.asked_for()? >= MAX_SEARCH_STEPS {
                metrics::counter!("lockstep_searches_cut_total").increment(1);
                tracing::warn!(slot, "proposals are not improved any further: {MAX_SEARCH_STEPS} steps of the slot are recorded");
                sleep_until(until_ms).await;
                break;
            }
            if now_ms() >= look_ms {
                if now_ms() + look_takes_ms <= until_ms {
                    let began_ms = now_ms();
                    // However long it waits, it ends in time.
                    let wait_until_ms = part_of_rest(until_ms.saturating_sub(look_takes_ms), NEWS_PERCENT);
                    let looked = self.take_news(engine, holes, &mut seen, wait_until_ms).await?;
                    if looked.any {
                        turns.reopen(&engine.propose(&self.intake).await?);
                        unread.extend(holes.take());
                        let worked_ms = now_ms().saturating_sub(began_ms).saturating_sub(looked.waited_ms);
                        look_takes_ms = look_takes_ms.max(worked_ms);
                    }
                }
                // When there is no time for another one, too: until it is due nothing has to wake.
                look_ms = now_ms() + NEWS_EVERY_MS;
            }
            let takes_ms = if unread.is_empty() { longest_ms } else { anew_takes_ms };
            let turn = turns.next().filter(|_| anew < MAX_ANEW && now_ms() + takes_ms <= until_ms);
            let Some((rollups, round)) = turn else {
                // Nothing to find until something comes.
                sleep_until(until_ms.min(look_ms.max(now_ms() + 1))).await;
                continue;
            };
            if !unread.is_empty() {
                anew += 1;
                match engine.fetch_in_time(&self.intake, &unread, until_ms.saturating_sub(anew_takes_ms)).await {
                    Ok(true) => {
                        let began_ms = now_ms();
                        unread.clear();
                        engine.anew(&self.intake).await?;
                        half_done = false;
                        turns.restart(&engine.propose(&self.intake).await?);
                        unread.extend(holes.take());
                        anew_takes_ms = anew_takes_ms.max(now_ms().saturating_sub(began_ms));
                        // What cannot be simulated fell out, and may come again.
                        seen = None;
                    }
                    Ok(false) => anew = MAX_ANEW,
                    Err(error) => {
                        tracing::warn!(slot, %error, "proposals are not improved any further: a rollup's state does not come");
                        anew = MAX_ANEW;
                    }
                }
                continue;
            }
            let began_ms = now_ms();
            let improved = engine.improve(&rollups, round).await?;
            longest_ms = longest_ms.max(now_ms().saturating_sub(began_ms));
            match improved {
                Ok(open) => {
                    metrics::counter!("lockstep_build_rounds_total").increment(1);
                    turns.done(rollups, open);
                }
                Err(error) => {
                    half_done = true;
                    match error.missing() {
                        Some((chain, _)) => {
                            unread.insert(chain);
                        }
                        None => {
                            tracing::warn!(slot, %error, "proposals are not improved any further");
                            anew = MAX_ANEW;
                        }
                    }
                }
            }
            unread.extend(holes.take());
        }
        if half_done {
            engine.anew(&self.intake).await?;
            seen = None;
        }
        // Whatever is not there to be read now is not waited for. What left the pool meanwhile is thawed or told of when the lists
        // are put together, should there be no time to look.
        if look_takes_ms.saturating_mul(LAST_LOOK) <= due_ms.saturating_sub(now_ms()) {
            self.take_news(engine, holes, &mut seen, now_ms()).await?;
        }
        engine.propose(&self.intake).await
    }

    /// Takes in what came into the pool since it was last seen, and out what left it. Nodes are waited for until `until_ms`.
    async fn take_news(
        &self,
        engine: &SlotEngine,
        holes: &Holes,
        seen: &mut Option<u64>,
        until_ms: u64,
    ) -> Result<Looked, String> {
        if *seen == Some(self.intake.pool().read().revision()) {
            return Ok(Looked::default());
        }
        let (revision, pending) = self.candidates();
        let mut news = engine.news(pending)?;
        // The next look is for the others.
        *seen = (news.new.len() <= NEWS_AT_ONCE).then_some(revision);
        news.new.truncate(NEWS_AT_ONCE);
        let mut looked = Looked { any: !news.gone.is_empty() || !news.new.is_empty(), waited_ms: 0 };
        if !news.gone.is_empty() {
            engine.remove(news.gone).await?;
        }
        if !news.new.is_empty() {
            let TakenIn { simulated, waited_ms } = engine.take_in(&self.intake, holes, news.new, until_ms, false).await?;
            let judged_ms = self.judge(&simulated, engine.view().slot, until_ms).await;
            looked.waited_ms = waited_ms.saturating_add(judged_ms);
        }
        Ok(looked)
    }
}

/// When that part of the time until `due_ms` will have passed, in Unix milliseconds.
fn part_of_rest(due_ms: u64, percent: u64) -> u64 {
    let now = now_ms();
    now + due_ms.saturating_sub(now) * percent / 100
}

/// By which part of what a set could be worth at the most it is worth less, in basis points.
fn gap_bps(standing: &Standing) -> Option<f64> {
    let bound = i128::try_from(standing.bound?).ok().filter(|bound| *bound > 0)?;
    let value = i128::try_from(standing.value).ok()?;
    Some(bound.saturating_sub(value) as f64 / bound as f64 * 10_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(chains: &[u64], value: i64) -> (RollupSet, Standing) {
        let value = I256::try_from(value).unwrap();
        (chains.iter().copied().collect(), Standing { value, bound: None, bundles: 1 })
    }

    #[test]
    fn every_set_has_its_turn_and_the_more_valuable_first() {
        let standings = [standing(&[1], 5), standing(&[2], 3), standing(&[1, 2], 9)];
        let mut turns = Turns::default();
        turns.reopen(&standings);
        let mut rounds = Vec::new();
        // The second rollup alone is settled by its first round.
        for _ in 0..5 {
            let (rollups, round) = turns.next().unwrap();
            rounds.push((rollups.iter().copied().collect::<Vec<_>>(), round));
            let open = rollups != RollupSet::from([2]);
            turns.done(rollups, open);
        }
        assert_eq!(rounds, [(vec![1, 2], 0), (vec![1], 0), (vec![2], 0), (vec![1, 2], 1), (vec![1], 1)]);
        turns.reopen(&standings);
        assert_eq!(turns.next(), Some((RollupSet::from([2]), 1)), "rounds are counted on: nothing was forgotten");
        turns.restart(&standings);
        assert_eq!(turns.next(), Some((RollupSet::from([1, 2]), 0)));
    }

    #[test]
    fn where_nothing_can_be_found_nobody_has_a_turn() {
        let mut turns = Turns::default();
        assert_eq!(turns.next(), None);
        turns.reopen(&[standing(&[1], 0)]);
        let (rollups, _) = turns.next().unwrap();
        turns.done(rollups, false);
        assert_eq!(turns.next(), None);
    }

    #[test]
    fn the_gap_is_a_part_of_the_bound() {
        let of = |value: i64, bound: Option<i64>| {
            let number = |value| I256::try_from(value).unwrap();
            gap_bps(&Standing { value: number(value), bound: bound.map(number), bundles: 1 })
        };
        assert_eq!(of(75, Some(100)), Some(2_500.0));
        assert_eq!(of(100, Some(100)), Some(0.0));
        assert_eq!(of(0, Some(0)), None, "nothing could be worth anything");
        assert_eq!(of(75, None), None, "no bound is known");
    }
}

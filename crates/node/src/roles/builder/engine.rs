//! The engine of a slot: asked on threads that may take their time, and with a note of everything that it is asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use alloy_primitives::B256;
use lockstep_building::{BuildError, Candidate, Draft, Engine, SearchLimits, Simulated, SlotView, Standing};
use lockstep_primitives::RollupSet;
use parking_lot::Mutex;

use super::{
    holes::Holes,
    view::{MAX_ROUNDS, fetch},
};
use crate::{
    clock::now_ms,
    intake::Intake,
    record::steps::{MAX_TAKEN, Step, Steps},
};

/// An engine, and what it was asked in a slot.
#[derive(Debug)]
pub(super) struct Asked {
    engine: Engine,
    /// Whether it is noted what it is asked: where nothing is recorded nobody reads it.
    noted: bool,
    /// What it was asked, as far as it is noted.
    steps: Steps,
    /// What each noted step that asked for a draft was answered.
    drafts: Vec<Arc<Draft>>,
    /// Every candidate that it was given in the slot, in the order in which they came first, if that is noted.
    candidates: Vec<Candidate>,
    /// Every one by hash, with its order of admission. With what was left out, [`MAX_TAKEN`] at the most.
    given: BTreeMap<B256, u64>,
    /// What it holds.
    held: BTreeSet<B256>,
    /// What was not taken in, and is not tried again in the slot.
    left_out: BTreeSet<B256>,
    /// Drafts that hold as things stand.
    fresh: BTreeMap<RollupSet, Arc<Draft>>,
}

/// Why an engine was not brought to a slot, and the engine, if it can be tried again.
#[derive(Debug)]
struct NotBegun {
    engine: Option<Box<Engine>>,
    cause: BuildError,
}

impl Asked {
    /// The engine that was kept, with what of its bundles is still among these and on the slot's view; a new one without any
    /// where none was kept.
    fn begin(
        kept: Option<Box<Engine>>,
        view: &Arc<SlotView>,
        limits: SearchLimits,
        pending: &[Candidate],
        noted: bool,
    ) -> Result<Self, NotBegun> {
        let engine = match kept {
            None => Engine::open(Arc::clone(view), limits).map_err(|cause| NotBegun { engine: None, cause })?,
            Some(mut engine) => {
                let pending: BTreeMap<B256, u64> = pending.iter().map(|entry| (entry.hash, entry.sequence)).collect();
                for Candidate { hash, sequence, .. } in engine.simulated().into_iter().map(|entry| entry.candidate) {
                    if pending.get(&hash) != Some(&sequence) {
                        engine.remove(hash);
                    }
                }
                // What cannot be simulated on the view is out, and comes again with what is new.
                match engine.rebase(Arc::clone(view)) {
                    Ok(_) => *engine,
                    Err(cause) => return Err(NotBegun { engine: Some(engine), cause }),
                }
            }
        };
        let steps = Steps { limits: engine.limits(), begun_with: Vec::new(), steps: Vec::new() };
        let mut asked = Self {
            engine,
            noted,
            steps,
            drafts: Vec::new(),
            candidates: Vec::new(),
            given: BTreeMap::new(),
            held: BTreeSet::new(),
            left_out: BTreeSet::new(),
            fresh: BTreeMap::new(),
        };
        asked.note_beginning();
        Ok(asked)
    }

    /// Notes what the engine holds as what it begins with.
    fn note_beginning(&mut self) {
        let begun_with = self.engine.order();
        let mut known: BTreeMap<B256, Candidate> =
            self.engine.simulated().into_iter().map(|entry| (entry.candidate.hash, entry.candidate)).collect();
        for candidate in begun_with.iter().filter_map(|hash| known.remove(hash)) {
            self.give(candidate);
        }
        self.held = begun_with.iter().copied().collect();
        let begun_with = if self.noted { begun_with } else { Vec::new() };
        self.steps = Steps { limits: self.engine.limits(), begun_with, steps: Vec::new() };
        self.drafts.clear();
        self.fresh.clear();
    }

    fn give(&mut self, candidate: Candidate) {
        if self.given.insert(candidate.hash, candidate.sequence).is_none() && self.noted {
            self.candidates.push(candidate);
        }
    }

    fn note(&mut self, step: Step) {
        if self.noted {
            self.steps.steps.push(step);
        }
    }

    /// How many steps are noted since it was begun or begun anew.
    pub(super) fn asked_for(&self) -> usize {
        self.steps.steps.len()
    }

    fn insert(&mut self, candidates: &[Candidate]) -> Result<Vec<Result<(), BuildError>>, BuildError> {
        let answers = self.engine.insert(candidates)?;
        let mut taken = Vec::with_capacity(candidates.len());
        for (candidate, _) in candidates.iter().zip(&answers).filter(|(_, answer)| answer.is_ok()) {
            taken.push(candidate.hash);
            self.give(candidate.clone());
        }
        if !taken.is_empty() {
            self.held.extend(&taken);
            self.fresh.clear();
            self.note(Step::Insert(taken));
        }
        Ok(answers)
    }

    fn remove(&mut self, hash: B256) {
        self.held.remove(&hash);
        if self.engine.remove(hash) {
            self.fresh.clear();
            self.note(Step::Remove(hash));
        }
    }

    /// What every useful set of rollups is worth as things stand.
    fn propose(&mut self) -> Result<Vec<(RollupSet, Standing)>, BuildError> {
        let mut standings = Vec::new();
        for rollups in self.engine.useful_sets() {
            let standing = self.engine.propose(&rollups)?;
            self.note(Step::Propose(rollups.clone()));
            standings.push((rollups, standing));
        }
        Ok(standings)
    }

    fn improve(&mut self, rollups: &RollupSet, round: u32) -> Result<bool, BuildError> {
        let open = self.engine.improve(rollups, round)?;
        self.fresh.clear();
        self.note(Step::Improve { rollups: rollups.clone(), round });
        Ok(open)
    }

    fn draft(&mut self, rollups: &RollupSet) -> Result<Arc<Draft>, BuildError> {
        if let Some(draft) = self.fresh.get(rollups) {
            return Ok(Arc::clone(draft));
        }
        let draft = Arc::new(self.engine.draft(rollups)?);
        if self.noted {
            self.note(Step::Draft(rollups.clone()));
            self.drafts.push(Arc::clone(&draft));
        }
        self.fresh.insert(rollups.clone(), Arc::clone(&draft));
        Ok(draft)
    }

    /// Begins once more with what it holds, and with nothing asked of it yet.
    fn anew(&mut self) -> Result<(), BuildError> {
        // What cannot be simulated is out, and comes again with what is new.
        self.engine.rebase(Arc::clone(self.engine.view()))?;
        self.note_beginning();
        Ok(())
    }

    /// What of the engine is not pending any more, and what is pending and new to it. A bundle that was taken back and sent again
    /// in one slot waits for the next one: a slot knows a hash by one order of admission. So does what comes when the slot has
    /// taken in as much as it may.
    fn news(&self, pending: Vec<Candidate>) -> News {
        let free: BTreeMap<B256, u64> = pending.iter().map(|entry| (entry.hash, entry.sequence)).collect();
        let gone = self.held.iter().filter(|hash| free.get(*hash) != self.given.get(*hash)).copied().collect();
        let is_new = |entry: &Candidate| {
            let same = self.given.get(&entry.hash).is_none_or(|sequence| *sequence == entry.sequence);
            same && !self.held.contains(&entry.hash) && !self.left_out.contains(&entry.hash)
        };
        let mut new: Vec<Candidate> = pending.into_iter().filter(is_new).collect();
        let room = MAX_TAKEN.saturating_sub(self.given.len().saturating_add(self.left_out.len()));
        let cut = new.len().saturating_sub(room);
        new.truncate(room);
        News { gone, new, cut }
    }

    fn simulated_of(&self, hashes: &BTreeSet<B256>) -> Vec<Simulated> {
        self.engine.simulated().into_iter().filter(|entry| hashes.contains(&entry.candidate.hash)).collect()
    }
}

/// What changed in the pool since the engine last looked.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Bundles that are cancelled, ended, replaced or handed out, by hash.
    pub(super) gone: Vec<B256>,
    /// Bundles that are new, in the order of admission, as many as the slot has room for.
    pub(super) new: Vec<Candidate>,
    /// How many others are new: those that were admitted last.
    pub(super) cut: usize,
}

/// What came of taking candidates in.
#[derive(Debug)]
pub(super) struct TakenIn {
    /// What each that came in does alone, in the order of admission.
    pub(super) simulated: Vec<Simulated>,
    /// How long nodes were waited for, in milliseconds.
    pub(super) waited_ms: u64,
}

/// What is left of a slot's engine when nothing is asked of it any more.
#[derive(Debug)]
pub(super) struct PutAway {
    /// For the next slot; `None` when it is not to be trusted.
    pub(super) engine: Option<Box<Engine>>,
    /// What it was asked; nothing if that was not to be noted.
    pub(super) steps: Steps,
    /// What each of these steps that asked for a draft was answered, in their order.
    pub(super) drafts: Vec<Arc<Draft>>,
    /// Every candidate that it was given, in the order in which they came first; none if that was not to be noted.
    pub(super) candidates: Vec<Candidate>,
}

/// A slot's engine. It is moved to a thread of its own for every piece of work and back again, so that a panic there loses the
/// engine and with it the slot, and nothing else.
#[derive(Clone, Debug)]
pub(super) struct SlotEngine {
    view: Arc<SlotView>,
    asked: Arc<Mutex<Option<Box<Asked>>>>,
    distrusted: Arc<AtomicBool>,
    /// The most bundles for which one look found no room.
    cut: Arc<AtomicUsize>,
}

impl SlotEngine {
    /// An engine on a slot's view: the one that was kept if there is one and it can go on, else a new one. What the states lack
    /// is fetched. `noted`: what it is asked is noted, for a record.
    ///
    /// # Errors
    /// When a rollup's blocks cannot be opened.
    pub(super) async fn begin(
        intake: &Intake,
        view: &Arc<SlotView>,
        mut kept: Option<Box<Engine>>,
        limits: SearchLimits,
        pending: &Arc<Vec<Candidate>>,
        noted: bool,
    ) -> Result<Self, String> {
        for _ in 0..MAX_ROUNDS {
            let (on, pending, engine) = (Arc::clone(view), Arc::clone(pending), kept.take());
            let began = if engine.is_some() { "kept" } else { "new" };
            let begun = tokio::task::spawn_blocking(move || Asked::begin(engine, &on, limits, &pending, noted)).await;
            let NotBegun { engine, cause } = match begun.map_err(|error| error.to_string())? {
                Ok(asked) => {
                    metrics::counter!("lockstep_engines_total", "began" => began).increment(1);
                    let asked = Arc::new(Mutex::new(Some(Box::new(asked))));
                    return Ok(Self { view: Arc::clone(view), asked, distrusted: Arc::default(), cut: Arc::default() });
                }
                Err(not_begun) => not_begun,
            };
            match cause.missing() {
                Some((chain, _)) => {
                    fetch(intake, view, chain).await?;
                    kept = engine;
                }
                // A new one may do.
                None if engine.is_some() => {
                    tracing::warn!(slot = view.slot, %cause, "the engine of the slot before cannot go on: there is a new one");
                }
                None => return Err(cause.to_string()),
            }
        }
        Err(incomplete())
    }

    /// The slot.
    pub(super) const fn view(&self) -> &Arc<SlotView> {
        &self.view
    }

    /// Works on the engine, on a thread that may take its time.
    async fn work<T: Send + 'static>(&self, work: impl FnOnce(&mut Asked) -> T + Send + 'static) -> Result<T, String> {
        let Some(mut asked) = self.asked.lock().take() else { return Err("the slot's engine is lost".to_owned()) };
        let worked = tokio::task::spawn_blocking(move || {
            let done = work(&mut asked);
            (asked, done)
        });
        let (asked, done) = worked.await.map_err(|error| error.to_string())?;
        *self.asked.lock() = Some(asked);
        Ok(done)
    }

    /// The same for work that may miss values: they are fetched, and it is done again. With `until_ms` nodes are waited for until
    /// then.
    async fn work_with_state<T, W>(&self, intake: &Intake, until_ms: Option<u64>, work: W) -> Result<T, String>
    where
        T: Send + 'static,
        W: Fn(&mut Asked) -> Result<T, BuildError> + Send + Sync + 'static,
    {
        let work = Arc::new(work);
        for _ in 0..MAX_ROUNDS {
            let run = Arc::clone(&work);
            let error = match self.work(move |asked| run(asked)).await? {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let Some((chain, _)) = error.missing() else { return Err(error.to_string()) };
            let Some(until_ms) = until_ms else {
                fetch(intake, &self.view, chain).await?;
                continue;
            };
            if !self.fetch_in_time(intake, &RollupSet::from([chain]), until_ms).await? {
                return Err(format!("what it needs of rollup {chain} did not come in time"));
            }
        }
        Err(incomplete())
    }

    /// Looks at the engine without asking it anything.
    fn look<T>(&self, look: impl FnOnce(&Asked) -> T) -> Result<T, String> {
        self.asked.lock().as_deref().map(look).ok_or_else(|| "the slot's engine is lost".to_owned())
    }

    /// Takes candidates in, in their order, and returns what each that came in does alone. What one misses is fetched, and it
    /// alone is tried again, until `until_ms`: one that still misses something then is left out of the slot, so that nobody's
    /// long chain of reads costs others theirs. With `one_round` everybody has a round of fetching, however late it is, and a
    /// node that fails is an error; without, proposals stand already, and what needs such a node is left out.
    ///
    /// # Errors
    /// When a rollup's state is gone, or the engine is lost.
    pub(super) async fn take_in(
        &self,
        intake: &Intake,
        holes: &Holes,
        candidates: Vec<Candidate>,
        until_ms: u64,
        one_round: bool,
    ) -> Result<TakenIn, String> {
        let mut open = candidates;
        let mut waited_ms: u64 = 0;
        let mut taken = BTreeSet::new();
        let mut refused = Vec::new();
        for round in 0..MAX_ROUNDS {
            if open.is_empty() {
                break;
            }
            let now = std::mem::take(&mut open);
            let holes_before = holes.counts();
            let (now, answers) = self
                .work(move |asked| {
                    let answers = asked.insert(&now);
                    (now, answers)
                })
                .await?;
            // Where nothing was taken in the engine is as it was: what newcomers missed on their own is no hole in what it knows.
            if answers.as_ref().is_ok_and(|all| all.iter().all(Result::is_err)) {
                holes.forget_since(&holes_before);
            }
            let mut missing = RollupSet::new();
            for (candidate, answer) in now.into_iter().zip(answers.map_err(|error| error.to_string())?) {
                match answer {
                    Ok(()) => {
                        taken.insert(candidate.hash);
                    }
                    // Its own fault: an amount beyond all reason.
                    Err(BuildError::Overflow) => refused.push(candidate.hash),
                    Err(error) => {
                        missing.insert(error.missing().ok_or_else(|| error.to_string())?.0);
                        open.push(candidate);
                    }
                }
            }
            if open.is_empty() {
                break;
            }
            let began_ms = now_ms();
            let fetched = if one_round && round == 0 {
                self.fetch_all(intake, &missing).await.map(|()| true)
            } else {
                self.fetch_in_time(intake, &missing, until_ms).await
            };
            waited_ms = waited_ms.saturating_add(now_ms().saturating_sub(began_ms));
            match fetched {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) if !one_round => {
                    tracing::warn!(slot = self.view.slot, %error, "late bundles are left out: their state cannot be fetched");
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if !refused.is_empty() {
            metrics::counter!("lockstep_simulations_refused_total").increment(refused.len() as u64);
            tracing::warn!(slot = self.view.slot, refused = refused.len(), "bundles with amounts beyond all reason are left out");
        }
        if !open.is_empty() {
            metrics::counter!("lockstep_simulations_late_total").increment(open.len() as u64);
            let (slot, late) = (self.view.slot, open.len());
            tracing::warn!(slot, late, "bundles whose state did not come in time wait for the next slot");
        }
        let left_out: Vec<B256> = open.iter().map(|candidate| candidate.hash).chain(refused).collect();
        let simulated = self
            .work(move |asked| {
                asked.left_out.extend(left_out);
                asked.simulated_of(&taken)
            })
            .await?;
        Ok(TakenIn { simulated, waited_ms })
    }

    /// Fetches what the states of these rollups lack.
    async fn fetch_all(&self, intake: &Intake, chains: &RollupSet) -> Result<(), String> {
        let fetches = chains.iter().map(|chain| fetch(intake, &self.view, *chain));
        futures_util::future::join_all(fetches).await.into_iter().collect()
    }

    /// The same, but for no longer than until `until_ms`. Whether it was done by then.
    pub(super) async fn fetch_in_time(&self, intake: &Intake, chains: &RollupSet, until_ms: u64) -> Result<bool, String> {
        let patience = Duration::from_millis(until_ms.saturating_sub(now_ms()));
        if patience.is_zero() {
            return Ok(false);
        }
        match tokio::time::timeout(patience, self.fetch_all(intake, chains)).await {
            Ok(fetched) => fetched.map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// Takes bundles out.
    pub(super) async fn remove(&self, hashes: Vec<B256>) -> Result<(), String> {
        self.work(move |asked| hashes.into_iter().for_each(|hash| asked.remove(hash))).await
    }

    /// What every bundle does alone, in the order of admission.
    pub(super) async fn simulated(&self) -> Result<Vec<Simulated>, String> {
        self.work(|asked| asked.engine.simulated()).await
    }

    /// What every useful set of rollups is worth as things stand.
    pub(super) async fn propose(&self, intake: &Intake) -> Result<Vec<(RollupSet, Standing)>, String> {
        self.work_with_state(intake, None, Asked::propose).await
    }

    /// One numbered round of improvement of a set. Whether another one could find more. After an error the engine has to begin
    /// anew: the round is half done.
    pub(super) async fn improve(&self, rollups: &RollupSet, round: u32) -> Result<Result<bool, BuildError>, String> {
        let rollups = rollups.clone();
        self.work(move |asked| asked.improve(&rollups, round)).await
    }

    /// Begins once more with what it holds.
    pub(super) async fn anew(&self, intake: &Intake) -> Result<(), String> {
        self.work_with_state(intake, None, Asked::anew).await
    }

    /// The draft of a set as things stand.
    pub(super) async fn draft(&self, intake: &Intake, rollups: &RollupSet) -> Result<Arc<Draft>, String> {
        let rollups = rollups.clone();
        self.work_with_state(intake, None, move |asked| asked.draft(&rollups)).await
    }

    /// The same, but nodes are waited for until `until_ms` at the most.
    pub(super) async fn draft_in_time(&self, intake: &Intake, rollups: &RollupSet, until_ms: u64) -> Result<Arc<Draft>, String> {
        let rollups = rollups.clone();
        self.work_with_state(intake, Some(until_ms), move |asked| asked.draft(&rollups)).await
    }

    /// What changed in the pool, of which these are the bundles that are free to be built.
    pub(super) fn news(&self, pending: Vec<Candidate>) -> Result<News, String> {
        let news = self.look(|asked| asked.news(pending))?;
        // Every look finds the same ones again: what is more than before is counted.
        let before = self.cut.fetch_max(news.cut, Ordering::Relaxed);
        if news.cut > before {
            metrics::counter!("lockstep_bundles_cut_total").increment((news.cut - before) as u64);
            if before == 0 {
                let (slot, cut) = (self.view.slot, news.cut);
                tracing::warn!(slot, cut, "the slot has taken in {MAX_TAKEN} bundles: what comes now waits for the next one");
            }
        }
        Ok(news)
    }

    /// How many steps are noted since the engine was begun, or begun anew; none are where nothing is recorded.
    pub(super) fn asked_for(&self) -> Result<usize, String> {
        self.look(Asked::asked_for)
    }

    /// What it holds, the bundle that was admitted last first.
    pub(super) fn newest_first(&self) -> Result<Vec<B256>, String> {
        self.look(|asked| {
            let mut held: Vec<B256> = asked.held.iter().copied().collect();
            held.sort_by_key(|hash| std::cmp::Reverse(asked.given.get(hash).copied()));
            held
        })
    }

    /// What it remembers was found to be wrong: it is not kept for another slot.
    pub(super) fn distrust(&self) {
        self.distrusted.store(true, Ordering::Relaxed);
    }

    /// Ends the slot's work. `None` when the engine is lost.
    pub(super) fn put_away(&self) -> Option<PutAway> {
        let Asked { engine, steps, drafts, candidates, .. } = *self.asked.lock().take()?;
        let engine = (!self.distrusted.load(Ordering::Relaxed)).then(|| Box::new(engine));
        Some(PutAway { engine, steps, drafts, candidates })
    }
}

fn incomplete() -> String {
    format!("the states were not complete after {MAX_ROUNDS} rounds of fetching")
}

#[cfg(test)]
mod tests {
    use alloy_primitives::U256;
    use lockstep_pool::Limits;

    use super::{
        super::{
            search::MAX_SEARCH_STEPS,
            tests::{admit, begun, begun_on, of, role, view},
        },
        *,
    };
    use crate::fake_node::{A, Rig};

    #[tokio::test]
    async fn a_panic_loses_the_slot_and_not_the_role() {
        let rig = Rig::new(Limits::default());
        let role = role(&rig);
        admit(&rig, 0).await;
        let engine = begun(&rig, &role, 7, None).await;
        let worked = engine.work(|asked| assert_eq!(asked.asked_for(), usize::MAX, "a fault of ours")).await;
        assert!(worked.is_err());
        assert!(engine.propose(&rig.intake).await.unwrap_err().contains("lost"));
        assert!(engine.put_away().is_none());
        let next = begun(&rig, &role, 8, None).await;
        assert!(!next.propose(&rig.intake).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_draft_is_made_once_as_long_as_nothing_changes() {
        let rig = Rig::new(Limits::default());
        let role = role(&rig);
        let hash = admit(&rig, 0).await;
        let engine = begun(&rig, &role, 7, None).await;
        let rollups = RollupSet::from([A]);
        let draft = engine.draft(&rig.intake, &rollups).await.unwrap();
        let again = engine.draft(&rig.intake, &rollups).await.unwrap();
        assert!(Arc::ptr_eq(&draft, &again));
        engine.remove(vec![hash]).await.unwrap();
        let without = engine.draft(&rig.intake, &rollups).await.unwrap();
        assert!(without.placed.is_empty());
        let PutAway { steps, drafts, .. } = engine.put_away().unwrap();
        let asked = steps.steps.iter().filter(|step| matches!(step, Step::Draft(_))).count();
        assert_eq!((drafts.len(), asked), (2, 2));
    }

    #[tokio::test]
    async fn where_nothing_is_recorded_nothing_is_noted() {
        let rig = Rig::new(Limits::default());
        let role = role(&rig);
        let hash = admit(&rig, 0).await;
        let engine = begun_on(&rig, &role, &view(&rig, 7).await, None, false).await;
        let rollups = RollupSet::from([A]);
        engine.propose(&rig.intake).await.unwrap();
        engine.improve(&rollups, 0).await.unwrap().unwrap();
        engine.draft(&rig.intake, &rollups).await.unwrap();
        engine.anew(&rig.intake).await.unwrap();
        assert_eq!(engine.asked_for(), Ok(0), "no bound on what is recorded ends the search");
        let news = engine.news(role.candidates().1).unwrap();
        assert!(news.gone.is_empty() && news.new.is_empty(), "it is known all the same what it holds");
        assert_eq!(engine.newest_first(), Ok(vec![hash]));
        let PutAway { steps, drafts, candidates, .. } = engine.put_away().unwrap();
        assert!(steps.begun_with.is_empty() && steps.steps.is_empty() && drafts.is_empty() && candidates.is_empty());
    }

    #[tokio::test]
    async fn a_slot_of_which_enough_is_noted_is_not_improved_and_takes_in_what_comes_last() {
        let rig = Rig::new(Limits::default());
        let role = role(&rig);
        let early = admit(&rig, 0).await;
        let revision = role.candidates().0;
        let engine = begun(&rig, &role, 7, None).await;
        let first = engine.propose(&rig.intake).await.unwrap();
        engine.work(move |asked| asked.steps.steps.resize(MAX_SEARCH_STEPS, Step::Remove(early))).await.unwrap();
        let holes = Holes::default();
        let search = role.search(&engine, &holes, revision, (first, 0), now_ms() + 500);
        let (last, _) = tokio::join!(search, admit(&rig, 1));
        assert_eq!(of(&last.unwrap(), &RollupSet::from([A])).bundles, 2);
        let steps = engine.put_away().unwrap().steps.steps;
        assert!(!steps.iter().any(|step| matches!(step, Step::Improve { .. })));
    }

    #[tokio::test]
    async fn a_slot_takes_in_as_much_as_it_may_and_tells_how_much_waits() {
        let rig = Rig::new(Limits::default());
        let role = role(&rig);
        admit(&rig, 0).await;
        let engine = begun(&rig, &role, 7, None).await;
        // With the one that it was given there is room for another one.
        let all_but_two: BTreeSet<B256> = (0..MAX_TAKEN - 2).map(|number| B256::from(U256::from(number))).collect();
        engine.work(move |asked| asked.left_out = all_but_two).await.unwrap();
        let next = admit(&rig, 1).await;
        admit(&rig, 2).await;
        let news = engine.news(role.candidates().1).unwrap();
        let new: Vec<B256> = news.new.iter().map(|candidate| candidate.hash).collect();
        assert_eq!((new, news.cut), (vec![next], 1));
    }
}

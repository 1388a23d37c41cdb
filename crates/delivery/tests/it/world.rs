//! A small deterministic world: one proposer, some sequencers, one record, and messages that take their time.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, B256};
use lockstep_delivery::{
    Coordinator, CoordinatorEffect, CoordinatorEvent, CoordinatorPlan, Decision, DecisionKey, Prepare, SequencerEffect,
    SequencerEvent, SequencerPhase, SequencerSlot, SequencerTerms, Verdict, Vote, VoteRefusal, Which, WriteOutcome, judge_write,
    prepare_stages,
};
use lockstep_primitives::{ChainId, RollupSet};

use crate::fixtures;

const KEY: DecisionKey = DecisionKey { slot: 7, attempt: 0 };
const START_MS: u64 = 1000;
const TICK_MS: u64 = 20;
/// From `t_decide` to `t_publish`.
const PUBLISH_AFTER_MS: u64 = 150;
/// From `t_publish` to the end of the world.
const AFTERMATH_MS: u64 = 1500;
/// Every clock is off by at most this much.
const SKEW_MS: u64 = 25;

/// What the world is like. Chances are in percent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    /// Everything that is left to chance follows from it.
    pub(crate) seed: u64,
    /// How many rollups.
    pub(crate) rollups: u64,
    /// A message gets lost.
    pub(crate) lost: u64,
    /// A message comes twice.
    pub(crate) repeated: u64,
    /// An execution does not give what was promised, or sealing fails.
    pub(crate) refused: u64,
    /// One access to the record fails.
    pub(crate) unreadable: u64,
    /// A sequencer cannot reach the record from some time before `t_decide` until after `t_publish`.
    pub(crate) cut_off: u64,
    /// A sequencer, or the proposer, crashes.
    pub(crate) crashed: u64,
    /// A rollup falls back where others hold.
    pub(crate) fallback: u64,
    /// The longest way of a message.
    pub(crate) max_delay_ms: u64,
    /// From the start to `t_decide`.
    pub(crate) decide_after_ms: u64,
    /// What is built wrongly on purpose.
    pub(crate) flaw: Flaw,
}

/// A mistake, to see that the checks notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// A sequencer that cannot read the record at `t_publish` believes in an abort.
    SilenceIsAbort,
    /// The keeper of the record forgets `t_decide`.
    RecordWithoutDeadline,
    /// Sequencers send votes that are not durable.
    VoteNotStored,
}

/// A broken promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// One rollup that holds published the cross-rollup list, another one that holds did not.
    NotTogether,
    /// A rollup published two different lists.
    PublishedTwice,
    /// The cross-rollup list went out without a recorded commit.
    PublishedUndecided,
    /// A commit was recorded at or after `t_decide`.
    CommittedLate,
    /// A yes without a successful execution.
    VotedUnexecuted,
    /// A yes was sent before it was durable.
    VotedBeforeDurable,
    /// Evidence was released before its origin voted yes.
    EvidenceLeaked,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Broken promises.
    pub(crate) violations: Vec<Violation>,
    /// What each rollup published, repetitions left out.
    pub(crate) published: BTreeMap<ChainId, Vec<Which>>,
    /// What was recorded.
    pub(crate) record: Option<Decision>,
}

/// Runs a world to its end.
pub(crate) fn run(scenario: Scenario) -> Outcome {
    let mut world = World::new(scenario);
    while let Some(((time, _), parcel)) = world.queue.pop_first() {
        if time > world.end_ms() {
            break;
        }
        world.now_ms = time;
        world.deliver(parcel);
    }
    world.finish()
}

/// SplitMix64.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

#[derive(Debug)]
struct Node {
    terms: SequencerTerms,
    machine: Option<SequencerSlot>,
    /// Counts the restarts: what a process asked its own machine for does not outlive the process.
    life: u64,
    skew_ms: u64,
    cut_off: (u64, u64),
    /// What is on disk.
    stored: Option<(Prepare, Vote)>,
    executed: BTreeSet<B256>,
    published: Vec<Which>,
}

#[derive(Clone, Debug)]
enum Parcel {
    ToProposer(CoordinatorEvent),
    ToSequencer { chain: ChainId, life: Option<u64>, event: SequencerEvent },
    Disk { chain: ChainId, life: u64, prepare: Box<Prepare>, vote: Vote },
    Write { decision: Decision, by_proposer: bool },
    Read(ChainId),
    Crash(ChainId),
    Restart(ChainId),
}

#[derive(Debug)]
struct World {
    scenario: Scenario,
    dice: Dice,
    now_ms: u64,
    queue: BTreeMap<(u64, u64), Parcel>,
    posted: u64,
    coordinator: Coordinator,
    coordinator_skew_ms: u64,
    coordinator_ends_ms: u64,
    trusted: RollupSet,
    nodes: BTreeMap<ChainId, Node>,
    record: Option<Decision>,
    violations: Vec<Violation>,
}

impl World {
    fn new(scenario: Scenario) -> Self {
        let mut dice = Dice(scenario.seed);
        let rollups: RollupSet = (1..=scenario.rollups).collect();
        let mut edges = Vec::new();
        for &origin in &rollups {
            for &destination in rollups.range(origin + 1..) {
                if dice.percent(50) {
                    edges.push((origin, destination));
                }
            }
        }
        let mut trusted = RollupSet::new();
        if dice.percent(30) {
            // With (1, 2), if that is among them, it makes a cycle, which takes trust.
            edges.push((2, 1));
            trusted = [1, 2].into();
        }
        let stages = prepare_stages(&rollups, &edges, &trusted).expect("the only cycle is trusted");
        let t_decide_ms = START_MS + scenario.decide_after_ms;
        let t_publish_ms = t_decide_ms + PUBLISH_AFTER_MS;
        let nodes = rollups
            .iter()
            .map(|&chain| {
                let holds = !dice.percent(scenario.fallback);
                let terms = SequencerTerms { chain, slot: KEY.slot, holds, t_publish_ms };
                let cut_off = if dice.percent(scenario.cut_off) {
                    let from_ms = if dice.percent(50) { 0 } else { dice.below(scenario.decide_after_ms) };
                    (START_MS + from_ms, t_publish_ms + 100 + dice.below(600))
                } else {
                    (0, 0)
                };
                let node = Node {
                    terms,
                    machine: Some(SequencerSlot::new(terms)),
                    life: 0,
                    skew_ms: dice.below(2 * SKEW_MS),
                    cut_off,
                    stored: None,
                    executed: BTreeSet::new(),
                    published: Vec::new(),
                };
                (chain, node)
            })
            .collect();
        let coordinator_ends_ms =
            if dice.percent(scenario.crashed / 2) { START_MS + dice.below(scenario.decide_after_ms) } else { u64::MAX };
        let plan = CoordinatorPlan { key: KEY, proposer: Address::repeat_byte(1), t_decide_ms, stages, trusted: trusted.clone() };
        let coordinator_skew_ms = dice.below(2 * SKEW_MS);
        let mut world = Self {
            scenario,
            dice,
            now_ms: START_MS,
            queue: BTreeMap::new(),
            posted: 0,
            coordinator: Coordinator::new(plan),
            coordinator_skew_ms,
            coordinator_ends_ms,
            trusted,
            nodes,
            record: None,
            violations: Vec::new(),
        };
        world.schedule(&rollups);
        world
    }

    fn t_decide_ms(&self) -> u64 {
        START_MS + self.scenario.decide_after_ms
    }

    fn t_publish_ms(&self) -> u64 {
        self.t_decide_ms() + PUBLISH_AFTER_MS
    }

    fn end_ms(&self) -> u64 {
        self.t_publish_ms() + AFTERMATH_MS
    }

    fn schedule(&mut self, rollups: &RollupSet) {
        self.post(0, Parcel::ToProposer(CoordinatorEvent::Start));
        let end_ms = self.end_ms() - START_MS;
        for after_ms in (TICK_MS..=end_ms).step_by(20) {
            self.post(after_ms, Parcel::ToProposer(CoordinatorEvent::Tick));
            for &chain in rollups {
                self.post(after_ms, Parcel::ToSequencer { chain, life: None, event: SequencerEvent::Tick });
            }
        }
        for &chain in rollups {
            if self.dice.percent(self.scenario.crashed) {
                let crash_ms = self.dice.below(self.scenario.decide_after_ms + 2 * PUBLISH_AFTER_MS);
                self.post(crash_ms, Parcel::Crash(chain));
                if self.dice.percent(80) {
                    let down_ms = 1 + self.dice.below(300);
                    self.post(crash_ms + down_ms, Parcel::Restart(chain));
                }
            }
        }
    }

    fn post(&mut self, after_ms: u64, parcel: Parcel) {
        self.posted += 1;
        self.queue.insert((self.now_ms + after_ms, self.posted), parcel);
    }

    fn delay_ms(&mut self) -> u64 {
        1 + self.dice.below(self.scenario.max_delay_ms)
    }

    /// By a way on which parcels get lost, overtake each other and come twice.
    fn send(&mut self, parcel: Parcel) {
        if self.dice.percent(self.scenario.repeated) {
            let delay_ms = 2 * self.delay_ms();
            self.post(delay_ms, parcel.clone());
        }
        if !self.dice.percent(self.scenario.lost) {
            let delay_ms = self.delay_ms();
            self.post(delay_ms, parcel);
        }
    }

    fn violate(&mut self, violation: Violation) {
        if !self.violations.contains(&violation) {
            self.violations.push(violation);
        }
    }

    fn deliver(&mut self, parcel: Parcel) {
        match parcel {
            Parcel::ToProposer(event) => self.proposer_event(event),
            Parcel::ToSequencer { chain, life, event } => self.sequencer_event(chain, life, event),
            Parcel::Disk { chain, life, prepare, vote } => self.disk(chain, life, *prepare, vote),
            Parcel::Write { decision, by_proposer } => self.write(decision, by_proposer),
            Parcel::Read(chain) => self.read(chain),
            Parcel::Crash(chain) => self.node(chain).machine = None,
            Parcel::Restart(chain) => self.restart(chain),
        }
    }

    fn node(&mut self, chain: ChainId) -> &mut Node {
        self.nodes.get_mut(&chain).expect("only rollups of the world are spoken of")
    }

    fn proposer_event(&mut self, event: CoordinatorEvent) {
        if self.now_ms >= self.coordinator_ends_ms {
            return;
        }
        let local_ms = self.now_ms + self.coordinator_skew_ms - SKEW_MS;
        for effect in self.coordinator.apply(event, local_ms) {
            match effect {
                CoordinatorEffect::Seal { chain, release_evidence_from } => self.seal(chain, &release_evidence_from),
                CoordinatorEffect::RecordDecision(decision) => self.send(Parcel::Write { decision, by_proposer: true }),
                CoordinatorEffect::Announce(_) => {
                    let chains: Vec<ChainId> = self.nodes.keys().copied().collect();
                    for chain in chains {
                        self.send(Parcel::Read(chain));
                    }
                }
                CoordinatorEffect::Report(_) => {}
            }
        }
    }

    fn seal(&mut self, chain: ChainId, release_evidence_from: &RollupSet) {
        for origin in release_evidence_from {
            let voted = self.nodes.get(origin).is_some_and(|node| node.stored.as_ref().is_some_and(|(_, vote)| vote.yes));
            if !voted && !self.trusted.contains(origin) && self.scenario.flaw != Flaw::VoteNotStored {
                self.violate(Violation::EvidenceLeaked);
            }
        }
        if self.dice.percent(self.scenario.refused / 4) {
            let reason = "the world is bad".to_owned();
            return self.post(0, Parcel::ToProposer(CoordinatorEvent::SealFailed { chain, reason }));
        }
        let prepare = self.prepare(chain, 0);
        self.post(0, Parcel::ToProposer(CoordinatorEvent::Sealed { chain, digest: prepare.digest() }));
        if self.dice.percent(self.scenario.refused / 2) {
            // A proposer that cannot make up its mind.
            let decoy = self.prepare(chain, 1);
            self.send_prepare(decoy);
        }
        self.send_prepare(prepare);
        if self.dice.percent(self.scenario.lost / 4) {
            let (reason, delay_ms) = ("no answer".to_owned(), self.delay_ms());
            self.post(delay_ms, Parcel::ToProposer(CoordinatorEvent::Unreachable { chain, reason }));
        }
    }

    fn prepare(&self, chain: ChainId, salt: u8) -> Prepare {
        let participants: Vec<ChainId> = self.nodes.keys().copied().collect();
        let holds = self.nodes.get(&chain).is_some_and(|node| node.terms.holds);
        let (t_decide_ms, t_publish_ms) = (self.t_decide_ms(), self.t_publish_ms());
        Prepare { holds, t_decide_ms, t_publish_ms, ..fixtures::prepare(chain, &participants, salt) }
    }

    fn send_prepare(&mut self, prepare: Prepare) {
        let chain = prepare.chain;
        let event = SequencerEvent::PrepareReceived(Box::new(prepare));
        self.send(Parcel::ToSequencer { chain, life: None, event });
    }

    fn sequencer_event(&mut self, chain: ChainId, life: Option<u64>, event: SequencerEvent) {
        let now_ms = self.now_ms;
        let node = self.node(chain);
        if life.is_some_and(|life| life != node.life) {
            return;
        }
        let local_ms = now_ms + node.skew_ms - SKEW_MS;
        let Some(machine) = node.machine.as_mut() else { return };
        if let SequencerEvent::Executed { digest, result: Ok(()) } = &event {
            node.executed.insert(*digest);
        }
        let effects = machine.apply(event, local_ms);
        for effect in effects {
            self.carry_out(chain, effect);
        }
    }

    /// Tells a sequencer's machine what came of something that its own process did.
    fn answer(&mut self, chain: ChainId, event: SequencerEvent) {
        let life = Some(self.node(chain).life);
        self.send(Parcel::ToSequencer { chain, life, event });
    }

    fn carry_out(&mut self, chain: ChainId, effect: SequencerEffect) {
        match effect {
            SequencerEffect::Execute(prepare) => {
                let text = "it reverts".to_owned();
                let refusal = VoteRefusal { code: "reverted".to_owned(), block: Some(0), position: Some(0), text };
                let result = if self.dice.percent(self.scenario.refused) { Err(refusal) } else { Ok(()) };
                self.answer(chain, SequencerEvent::Executed { digest: prepare.digest(), result });
            }
            SequencerEffect::StoreVote(vote) => self.store(chain, vote),
            SequencerEffect::SendVote(vote) => {
                let node = self.node(chain);
                let durable = node.stored.as_ref().is_some_and(|(_, stored)| *stored == vote);
                let executed = node.executed.contains(&vote.digest);
                if vote.yes && !durable {
                    self.violate(Violation::VotedBeforeDurable);
                }
                if vote.yes && !executed {
                    self.violate(Violation::VotedUnexecuted);
                }
                self.send(Parcel::ToProposer(CoordinatorEvent::VoteReceived(vote)));
            }
            SequencerEffect::ReadDecision(_) => self.send(Parcel::Read(chain)),
            SequencerEffect::RecordAbort(key) => {
                self.send(Parcel::Write { decision: Decision::timed_out(key), by_proposer: false });
            }
            SequencerEffect::Publish(which) => self.publish(chain, which),
            SequencerEffect::Hold { .. } | SequencerEffect::Report(_) => {}
        }
    }

    fn store(&mut self, chain: ChainId, vote: Vote) {
        if self.scenario.flaw == Flaw::VoteNotStored {
            return self.answer(chain, SequencerEvent::VoteStored { digest: vote.digest });
        }
        let delay_ms = self.delay_ms();
        let node = self.node(chain);
        let prepare = node.machine.as_ref().and_then(SequencerSlot::prepare).cloned().expect("it votes on what it holds");
        let life = node.life;
        self.post(delay_ms, Parcel::Disk { chain, life, prepare: Box::new(prepare), vote });
    }

    fn disk(&mut self, chain: ChainId, life: u64, prepare: Prepare, vote: Vote) {
        let node = self.node(chain);
        if node.life != life || node.machine.is_none() {
            return;
        }
        let digest = vote.digest;
        node.stored = Some((prepare, vote));
        self.answer(chain, SequencerEvent::VoteStored { digest });
    }

    fn publish(&mut self, chain: ChainId, which: Which) {
        let committed = self.record.as_ref().is_some_and(|record| record.verdict == Verdict::Commit);
        if which == Which::WithCross && !committed {
            self.violate(Violation::PublishedUndecided);
        }
        let node = self.node(chain);
        if node.published.last() != Some(&which) {
            node.published.push(which);
        }
        if node.published.len() > 1 {
            self.violate(Violation::PublishedTwice);
        }
        self.answer(chain, SequencerEvent::PublishDone { which });
    }

    fn restart(&mut self, chain: ChainId) {
        let node = self.node(chain);
        node.life += 1;
        let machine = match node.stored.clone() {
            Some((prepare, vote)) => {
                let published = node.published.last().copied();
                SequencerSlot::restore(node.terms, prepare, vote, published).expect("they were stored together")
            }
            None => SequencerSlot::new(node.terms),
        };
        node.machine = Some(machine);
    }

    fn write(&mut self, decision: Decision, by_proposer: bool) {
        let answer_lost = self.dice.percent(self.scenario.unreadable / 2);
        if self.dice.percent(self.scenario.unreadable / 2) {
            if by_proposer {
                self.send(Parcel::ToProposer(CoordinatorEvent::DecisionUnreadable));
            }
            return;
        }
        // A sequencer's clock is fast: the abort is not its to record yet.
        if !by_proposer && decision.must_be_signed(self.now_ms, self.t_decide_ms()) {
            return;
        }
        let outcome = match judge_write(self.record.as_ref(), &decision, self.now_ms, self.t_decide_ms()) {
            WriteOutcome::TooLate if self.scenario.flaw == Flaw::RecordWithoutDeadline => WriteOutcome::Write,
            outcome => outcome,
        };
        let recorded = match outcome {
            WriteOutcome::TooLate => return,
            WriteOutcome::AlreadyDecided(first) => first,
            WriteOutcome::Write => {
                if decision.verdict == Verdict::Commit && self.now_ms >= self.t_decide_ms() {
                    self.violate(Violation::CommittedLate);
                }
                self.record = Some(decision.clone());
                decision
            }
        };
        if by_proposer {
            let event = CoordinatorEvent::DecisionRecorded(recorded);
            self.send(Parcel::ToProposer(if answer_lost { CoordinatorEvent::DecisionUnreadable } else { event }));
        }
    }

    fn read(&mut self, chain: ChainId) {
        let (now_ms, t_publish_ms) = (self.now_ms, self.t_publish_ms());
        let fails = self.dice.percent(self.scenario.unreadable);
        let node = self.node(chain);
        let Some(machine) = &node.machine else { return };
        let bound = machine.phase() == SequencerPhase::Voted { yes: true };
        let (from, until) = node.cut_off;
        let mut event = if fails || (from..until).contains(&now_ms) {
            SequencerEvent::DecisionUnreadable
        } else {
            SequencerEvent::DecisionRead(self.record.clone())
        };
        let silence = matches!(event, SequencerEvent::DecisionUnreadable | SequencerEvent::DecisionRead(None));
        if self.scenario.flaw == Flaw::SilenceIsAbort && bound && silence && now_ms >= t_publish_ms {
            event = SequencerEvent::DecisionRead(Some(Decision::timed_out(KEY)));
        }
        self.answer(chain, event);
    }

    fn finish(mut self) -> Outcome {
        let held: BTreeSet<Which> =
            self.nodes.values().filter(|node| node.terms.holds).flat_map(|node| node.published.iter().copied()).collect();
        if held.contains(&Which::WithCross) && held.len() > 1 {
            self.violate(Violation::NotTogether);
        }
        let published = self.nodes.into_iter().map(|(chain, node)| (chain, node.published)).collect();
        Outcome { violations: self.violations, published, record: self.record }
    }
}

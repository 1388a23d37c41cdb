//! The proposer's side of one slot and attempt.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256};
use lockstep_primitives::{ChainId, RollupSet};

use crate::{Decision, DecisionKey, Report, Verdict, Vote};

/// What a [`Coordinator`] sets out to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoordinatorPlan {
    /// The record that will decide.
    pub key: DecisionKey,
    /// Who proposes.
    pub proposer: Address,
    /// A commit is recorded strictly before this time, in Unix milliseconds.
    pub t_decide_ms: u64,
    /// The rollups in the order of preparation, see [`prepare_stages`](crate::prepare_stages).
    pub stages: Vec<RollupSet>,
    /// Rollups whose sequencers the attester is configured to trust.
    pub trusted: RollupSet,
}

/// What happens to a [`Coordinator`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoordinatorEvent {
    /// Begin.
    Start,
    /// The prepare of a rollup has its final bytes. Told before the prepare is sent.
    Sealed {
        /// The rollup.
        chain: ChainId,
        /// Digest of its prepare.
        digest: B256,
    },
    /// The prepare of a rollup cannot be made.
    SealFailed {
        /// The rollup.
        chain: ChainId,
        /// Why.
        reason: String,
    },
    /// A vote whose signature is that of the rollup's sequencer.
    VoteReceived(Vote),
    /// A rollup's sequencer does not answer.
    Unreachable {
        /// The rollup.
        chain: ChainId,
        /// Why.
        reason: String,
    },
    /// Time has passed.
    Tick,
    /// What the record says, whoever wrote it: the answer to a write, or to a read.
    DecisionRecorded(Decision),
    /// A write's outcome is not known.
    DecisionUnreadable,
}

/// What a [`Coordinator`] wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoordinatorEffect {
    /// Seal the prepare of a rollup, tell [`CoordinatorEvent::Sealed`], then send it.
    Seal {
        /// The rollup.
        chain: ChainId,
        /// Evidence for messages from these rollups may go into its list: they voted yes, or are trusted.
        release_evidence_from: RollupSet,
    },
    /// Write the record, as [`judge_write`](crate::judge_write) allows, and tell what it says. After
    /// [`TooLate`](crate::WriteOutcome::TooLate) the next tick asks for an abort. The effect comes again with every tick
    /// until the record is known.
    RecordDecision(Decision),
    /// Tell every rollup that the record is there.
    Announce(Decision),
    /// Tell the operator.
    Report(Report),
}

#[derive(Clone, Debug)]
enum Phase {
    Waiting,
    Preparing { stage: usize },
    Deciding(Decision),
    Decided(Decision),
}

/// Prepares the rollups stage by stage, then asks for the decision.
///
/// What it asks for is not the decision: only what the record says is.
#[derive(Clone, Debug)]
pub struct Coordinator {
    plan: CoordinatorPlan,
    phase: Phase,
    prepares: BTreeMap<ChainId, B256>,
    yes: RollupSet,
}

impl Coordinator {
    /// A coordinator that waits for [`CoordinatorEvent::Start`].
    pub fn new(mut plan: CoordinatorPlan) -> Self {
        plan.stages.retain(|stage| !stage.is_empty());
        Self { plan, phase: Phase::Waiting, prepares: BTreeMap::new(), yes: RollupSet::new() }
    }

    /// Takes an event and says what to do about it.
    pub fn apply(&mut self, event: CoordinatorEvent, now_ms: u64) -> Vec<CoordinatorEffect> {
        let preparing = matches!(self.phase, Phase::Preparing { .. });
        if preparing && now_ms >= self.plan.t_decide_ms && !matches!(event, CoordinatorEvent::DecisionRecorded(_)) {
            return self.abort(format!("t_decide has passed without a yes from {}", names(&self.missing())));
        }
        match event {
            CoordinatorEvent::Start => self.start(now_ms),
            CoordinatorEvent::Sealed { chain, digest } => self.sealed(chain, digest),
            CoordinatorEvent::SealFailed { chain, reason } => self.failed(chain, &format!("cannot be sealed: {reason}")),
            CoordinatorEvent::Unreachable { chain, reason } => self.failed(chain, &format!("is unreachable: {reason}")),
            CoordinatorEvent::VoteReceived(vote) => self.voted(&vote),
            CoordinatorEvent::Tick => self.tick(now_ms),
            CoordinatorEvent::DecisionRecorded(decision) => self.recorded(decision),
            CoordinatorEvent::DecisionUnreadable => self.unreadable(),
        }
    }

    /// What the record says, once it is known.
    pub const fn decision(&self) -> Option<&Decision> {
        match &self.phase {
            Phase::Decided(decision) => Some(decision),
            _ => None,
        }
    }

    /// Every rollup of the plan.
    pub fn rollups(&self) -> RollupSet {
        self.plan.stages.iter().flatten().copied().collect()
    }

    /// The rollups that voted yes.
    pub const fn yes(&self) -> &RollupSet {
        &self.yes
    }

    fn missing(&self) -> RollupSet {
        &self.rollups() - &self.yes
    }

    fn start(&mut self, now_ms: u64) -> Vec<CoordinatorEffect> {
        if !matches!(self.phase, Phase::Waiting) {
            return Vec::new();
        }
        if self.plan.stages.is_empty() {
            return self.abort("there is no rollup to prepare".to_owned());
        }
        if now_ms >= self.plan.t_decide_ms {
            return self.abort("t_decide has passed before the start".to_owned());
        }
        self.prepare(0)
    }

    fn prepare(&mut self, stage: usize) -> Vec<CoordinatorEffect> {
        self.phase = Phase::Preparing { stage };
        let Some(rollups) = self.plan.stages.get(stage) else { return Vec::new() };
        let trusted = rollups & &self.plan.trusted;
        rollups
            .iter()
            .map(|&chain| {
                // Everybody in an earlier stage has voted yes by now.
                let mut release_evidence_from = &self.yes | &trusted;
                release_evidence_from.remove(&chain);
                CoordinatorEffect::Seal { chain, release_evidence_from }
            })
            .collect()
    }

    fn sealed(&mut self, chain: ChainId, digest: B256) -> Vec<CoordinatorEffect> {
        let Phase::Preparing { stage } = self.phase else { return Vec::new() };
        if !self.plan.stages.iter().take(stage + 1).any(|rollups| rollups.contains(&chain)) {
            return ignored(chain, "it is not the rollup's turn to be sealed");
        }
        let first = *self.prepares.entry(chain).or_insert(digest);
        if first == digest { Vec::new() } else { ignored(chain, "the rollup was sealed before with other bytes") }
    }

    fn failed(&mut self, chain: ChainId, what: &str) -> Vec<CoordinatorEffect> {
        if !self.rollups().contains(&chain) {
            return ignored(chain, "the rollup is not in the plan");
        }
        // A rollup that voted yes got its prepare; it reads the record by itself.
        if !matches!(self.phase, Phase::Preparing { .. }) || self.yes.contains(&chain) {
            return Vec::new();
        }
        self.abort(format!("rollup {chain} {what}"))
    }

    fn voted(&mut self, vote: &Vote) -> Vec<CoordinatorEffect> {
        if vote.key() != self.plan.key {
            return ignored(vote.chain, "the vote is for another slot or attempt");
        }
        match self.prepares.get(&vote.chain) {
            Some(digest) if *digest == vote.digest => {}
            Some(_) => return ignored(vote.chain, "the vote is over another prepare"),
            None => return ignored(vote.chain, "no prepare of the rollup was sealed"),
        }
        let Phase::Preparing { stage } = self.phase else { return Vec::new() };
        if !vote.yes {
            let reason = vote.reason.as_ref().map_or_else(|| "without a reason".to_owned(), ToString::to_string);
            return self.abort(format!("rollup {} voted no: {reason}", vote.chain));
        }
        self.yes.insert(vote.chain);
        if !self.plan.stages.get(stage).is_some_and(|rollups| rollups.is_subset(&self.yes)) {
            return Vec::new();
        }
        if stage + 1 < self.plan.stages.len() {
            self.prepare(stage + 1)
        } else {
            self.ask_for(Verdict::Commit, "every rollup voted yes".to_owned())
        }
    }

    fn tick(&mut self, now_ms: u64) -> Vec<CoordinatorEffect> {
        let Phase::Deciding(asked) = &self.phase else { return Vec::new() };
        if asked.verdict == Verdict::Commit && now_ms >= self.plan.t_decide_ms {
            // Should the commit have been recorded all the same, it wins and comes back as the record.
            return self.abort("t_decide has passed before the commit was recorded".to_owned());
        }
        vec![CoordinatorEffect::RecordDecision(asked.clone())]
    }

    fn recorded(&mut self, decision: Decision) -> Vec<CoordinatorEffect> {
        let key = self.plan.key;
        if decision.key() != key {
            return vec![CoordinatorEffect::Report(Report::WrongRecord { key, found: decision.key() })];
        }
        let as_asked = match &self.phase {
            Phase::Decided(first) if *first == decision => return Vec::new(),
            Phase::Decided(first) => {
                let report = Report::RecordChanged { key, first: first.verdict, then: decision.verdict };
                return vec![CoordinatorEffect::Report(report)];
            }
            Phase::Deciding(asked) => {
                asked.verdict == decision.verdict && (decision.verdict == Verdict::Abort || asked.prepares == decision.prepares)
            }
            Phase::Waiting | Phase::Preparing { .. } => false,
        };
        let mut effects = Vec::new();
        if !as_asked {
            let (recorded, reason) = (decision.verdict, decision.reason.clone());
            effects.push(CoordinatorEffect::Report(Report::DecidedOtherwise { key, recorded, reason }));
        }
        self.phase = Phase::Decided(decision.clone());
        effects.push(CoordinatorEffect::Announce(decision));
        effects
    }

    fn unreadable(&self) -> Vec<CoordinatorEffect> {
        if matches!(self.phase, Phase::Decided(_)) {
            return Vec::new();
        }
        vec![CoordinatorEffect::Report(Report::RecordUnreadable { key: self.plan.key })]
    }

    fn abort(&mut self, reason: String) -> Vec<CoordinatorEffect> {
        self.ask_for(Verdict::Abort, reason)
    }

    fn ask_for(&mut self, verdict: Verdict, reason: String) -> Vec<CoordinatorEffect> {
        let DecisionKey { slot, attempt } = self.plan.key;
        let (proposer, prepares) = (self.plan.proposer, self.prepares.clone());
        let decision = Decision { slot, attempt, proposer, verdict, prepares, reason };
        self.phase = Phase::Deciding(decision.clone());
        vec![CoordinatorEffect::RecordDecision(decision)]
    }
}

fn ignored(chain: ChainId, what: &'static str) -> Vec<CoordinatorEffect> {
    vec![CoordinatorEffect::Report(Report::Ignored { chain, what })]
}

fn names(rollups: &RollupSet) -> String {
    rollups.iter().map(|chain| format!("rollup {chain}")).collect::<Vec<_>>().join(", ")
}

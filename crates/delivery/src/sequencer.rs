//! The sequencer's side of one rollup and slot.

use alloy_primitives::B256;
use lockstep_primitives::{ChainId, SlotNumber};

use crate::{Decision, DecisionKey, Prepare, PrepareRefusal, Report, Verdict, Vote, VoteRefusal};

/// The rollup's own terms for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequencerTerms {
    /// The rollup.
    pub chain: ChainId,
    /// The slot.
    pub slot: SlotNumber,
    /// `true` holds the block back while the record cannot be read, `false` falls back to the list without cross-rollup
    /// bundles.
    pub holds: bool,
    /// When the default list is published unless the rollup voted yes, in Unix milliseconds. No prepare may ask for a
    /// later time.
    pub t_publish_ms: u64,
}

/// Which list a rollup publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    /// The prepared one with the cross-rollup bundles.
    WithCross,
    /// The prepared one without them.
    WithoutCross,
    /// The sequencer's default list.
    Own,
}

/// Where a [`SequencerSlot`] stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequencerPhase {
    /// Nothing was prepared.
    Idle,
    /// A prepare is being executed.
    Prepared,
    /// The vote is being made durable.
    Storing,
    /// The vote is durable.
    Voted {
        /// A yes binds to the record.
        yes: bool,
    },
    /// It is settled what to publish.
    Decided(Which),
    /// It is published.
    Published(Which),
}

/// What happens to a [`SequencerSlot`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SequencerEvent {
    /// A prepare of the allocated proposer.
    PrepareReceived(Box<Prepare>),
    /// Both lists of a prepare were executed. Names the prepare, so that a late result is never taken for another one's.
    Executed {
        /// Digest of the prepare.
        digest: B256,
        /// Whether everything came out as promised.
        result: Result<(), VoteRefusal>,
    },
    /// The vote on this prepare is durable.
    VoteStored {
        /// Digest of the prepare.
        digest: B256,
    },
    /// What the record says, its signature checked; `None` when nothing is recorded.
    DecisionRead(Option<Decision>),
    /// The record cannot be read or written. A read that gets no answer ends in this, too.
    DecisionUnreadable,
    /// Time has passed.
    Tick,
    /// The list is published.
    PublishDone {
        /// Which.
        which: Which,
    },
}

/// What a [`SequencerSlot`] wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SequencerEffect {
    /// Execute both lists and compare with what they promise.
    Execute(Box<Prepare>),
    /// Make the vote and its prepare durable, then tell [`SequencerEvent::VoteStored`].
    StoreVote(Vote),
    /// Sign the vote and send it to the proposer.
    SendVote(Vote),
    /// Read the record.
    ReadDecision(DecisionKey),
    /// Record [`Decision::timed_out`]; that another record came first is no failure.
    RecordAbort(DecisionKey),
    /// Publish a list, as often as it takes. A list that is already out is not published again.
    Publish(Which),
    /// The block is held back until the record can be read.
    Hold {
        /// Since when, in Unix milliseconds.
        since_ms: u64,
    },
    /// Tell the operator.
    Report(Report),
}

/// What was stored does not belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rollup {chain}, slot {slot}: the stored vote is not over the stored prepare")]
pub struct MismatchedVote {
    /// The rollup.
    pub chain: ChainId,
    /// The slot.
    pub slot: SlotNumber,
}

impl MismatchedVote {
    /// Stable code.
    pub const fn code(&self) -> &'static str {
        "mismatched-vote"
    }
}

#[derive(Clone, Debug)]
struct Held {
    prepare: Box<Prepare>,
    digest: B256,
    vote: Option<Vote>,
    sent: bool,
    abort_asked: bool,
    holding: bool,
}

impl Held {
    const fn new(prepare: Box<Prepare>, digest: B256, vote: Option<Vote>) -> Self {
        Self { prepare, digest, vote, sent: false, abort_asked: false, holding: false }
    }
}

/// Votes on what is prepared for its rollup and publishes what was decided.
#[derive(Clone, Debug)]
pub struct SequencerSlot {
    terms: SequencerTerms,
    phase: SequencerPhase,
    held: Option<Held>,
}

impl SequencerSlot {
    /// A slot in which nothing has happened.
    pub const fn new(terms: SequencerTerms) -> Self {
        Self { terms, phase: SequencerPhase::Idle, held: None }
    }

    /// The slot after a restart, from what [`SequencerEffect::StoreVote`] stored and from what the rollup shows as
    /// published.
    ///
    /// # Errors
    /// When the vote is not over the prepare, or either is not of this slot.
    pub fn restore(
        terms: SequencerTerms,
        prepare: Prepare,
        vote: Vote,
        published: Option<Which>,
    ) -> Result<Self, MismatchedVote> {
        let digest = prepare.digest();
        let place = (terms.chain, terms.slot);
        let fits = (prepare.chain, prepare.slot) == place
            && (vote.chain, vote.slot) == place
            && vote.attempt == prepare.attempt
            && vote.digest == digest;
        if !fits {
            return Err(MismatchedVote { chain: terms.chain, slot: terms.slot });
        }
        let phase = published.map_or(SequencerPhase::Voted { yes: vote.yes }, SequencerPhase::Published);
        Ok(Self { terms, phase, held: Some(Held::new(Box::new(prepare), digest, Some(vote))) })
    }

    /// Takes an event and says what to do about it.
    pub fn apply(&mut self, event: SequencerEvent, now_ms: u64) -> Vec<SequencerEffect> {
        match event {
            SequencerEvent::PrepareReceived(prepare) => self.prepare_received(prepare, now_ms),
            SequencerEvent::Executed { digest, result } => self.executed(digest, result, now_ms),
            SequencerEvent::VoteStored { digest } => self.vote_stored(digest, now_ms),
            SequencerEvent::DecisionRead(Some(decision)) => self.decision_read(&decision),
            SequencerEvent::DecisionRead(None) => self.undecided(now_ms),
            SequencerEvent::DecisionUnreadable => self.unreadable(now_ms),
            SequencerEvent::Tick => self.tick(now_ms),
            SequencerEvent::PublishDone { which } => self.publish_done(which),
        }
    }

    /// The rollup's own terms.
    pub const fn terms(&self) -> &SequencerTerms {
        &self.terms
    }

    /// Where it stands.
    pub const fn phase(&self) -> SequencerPhase {
        self.phase
    }

    /// The prepare in hand: its lists are what [`SequencerEffect::Publish`] speaks of.
    pub fn prepare(&self) -> Option<&Prepare> {
        self.held.as_ref().map(|held| held.prepare.as_ref())
    }

    /// The vote on it.
    pub fn vote(&self) -> Option<&Vote> {
        self.held.as_ref().and_then(|held| held.vote.as_ref())
    }

    /// What a yes binds to, while it is open what to publish.
    fn bound(&mut self) -> Option<&mut Held> {
        if self.phase == (SequencerPhase::Voted { yes: true }) { self.held.as_mut() } else { None }
    }

    fn prepare_received(&mut self, prepare: Box<Prepare>, now_ms: u64) -> Vec<SequencerEffect> {
        let digest = prepare.digest();
        if let Some(held) = self.held.as_mut().filter(|held| held.digest == digest) {
            // Asked again because the answer was lost.
            held.sent = false;
            return if matches!(self.phase, SequencerPhase::Voted { .. }) { self.send_vote(now_ms) } else { Vec::new() };
        }
        let Err(refusal) = self.acceptable(&prepare, now_ms) else {
            self.held = Some(Held::new(prepare.clone(), digest, None));
            self.phase = SequencerPhase::Prepared;
            return vec![SequencerEffect::Execute(prepare)];
        };
        let addressed_here = !matches!(refusal, PrepareRefusal::AnotherSlot { .. });
        let refusal = VoteRefusal::from(refusal);
        let report = Report::PrepareRefused { chain: self.terms.chain, key: prepare.key(), refusal: refusal.clone() };
        let mut effects = vec![SequencerEffect::Report(report)];
        if addressed_here {
            // Nothing is stored: a no binds nobody.
            effects.push(SequencerEffect::SendVote(vote_on(&prepare, digest, Err(refusal))));
        }
        effects
    }

    fn acceptable(&self, prepare: &Prepare, now_ms: u64) -> Result<(), PrepareRefusal> {
        let &Prepare { chain, slot, attempt, holds, t_decide_ms, t_publish_ms, .. } = prepare;
        if (chain, slot) != (self.terms.chain, self.terms.slot) {
            return Err(PrepareRefusal::AnotherSlot { chain, slot });
        }
        prepare.check()?;
        if now_ms >= t_decide_ms {
            return Err(PrepareRefusal::AfterDecide { now_ms, t_decide_ms });
        }
        if holds != self.terms.holds {
            return Err(PrepareRefusal::HoldDiffers { holds });
        }
        if t_publish_ms > self.terms.t_publish_ms {
            return Err(PrepareRefusal::PublishTooLate { t_publish_ms, latest_ms: self.terms.t_publish_ms });
        }
        if matches!(self.phase, SequencerPhase::Decided(_) | SequencerPhase::Published(_)) {
            return Err(PrepareRefusal::AlreadyPublished);
        }
        let Some(held) = &self.held else { return Ok(()) };
        let current = held.prepare.attempt;
        if attempt == current {
            return Err(PrepareRefusal::AnotherPrepare { first: held.digest });
        }
        if attempt < current {
            return Err(PrepareRefusal::StaleAttempt { attempt, current });
        }
        if held.vote.as_ref().is_some_and(|vote| vote.yes) {
            return Err(PrepareRefusal::Bound { attempt: current });
        }
        Ok(())
    }

    fn executed(&mut self, digest: B256, result: Result<(), VoteRefusal>, now_ms: u64) -> Vec<SequencerEffect> {
        if self.phase != SequencerPhase::Prepared {
            return Vec::new();
        }
        let Some(held) = self.held.as_mut().filter(|held| held.digest == digest) else { return Vec::new() };
        let t_decide_ms = held.prepare.t_decide_ms;
        let result = result.and_then(|()| {
            if now_ms < t_decide_ms { Ok(()) } else { Err(PrepareRefusal::AfterDecide { now_ms, t_decide_ms }.into()) }
        });
        let vote = vote_on(&held.prepare, digest, result);
        held.vote = Some(vote.clone());
        self.phase = SequencerPhase::Storing;
        vec![SequencerEffect::StoreVote(vote)]
    }

    fn vote_stored(&mut self, digest: B256, now_ms: u64) -> Vec<SequencerEffect> {
        if self.phase != SequencerPhase::Storing {
            return Vec::new();
        }
        let stored = self.held.as_ref().filter(|held| held.digest == digest).and_then(|held| held.vote.as_ref());
        let Some(yes) = stored.map(|vote| vote.yes) else { return Vec::new() };
        self.phase = SequencerPhase::Voted { yes };
        self.send_vote(now_ms)
    }

    /// Sends the vote once, and only while it can count.
    fn send_vote(&mut self, now_ms: u64) -> Vec<SequencerEffect> {
        let Some(held) = self.held.as_mut() else { return Vec::new() };
        if held.sent || now_ms >= held.prepare.t_decide_ms {
            return Vec::new();
        }
        held.sent = true;
        held.vote.iter().cloned().map(SequencerEffect::SendVote).collect()
    }

    fn tick(&mut self, now_ms: u64) -> Vec<SequencerEffect> {
        if let Some(held) = self.bound() {
            if now_ms >= held.prepare.t_decide_ms {
                held.abort_asked = false;
                return vec![SequencerEffect::ReadDecision(held.prepare.key())];
            }
            return self.send_vote(now_ms);
        }
        match self.phase {
            // It could not be published, so it is tried again.
            SequencerPhase::Decided(which) => vec![SequencerEffect::Publish(which)],
            SequencerPhase::Published(_) => Vec::new(),
            // Whatever is in hand by now was not voted for: a yes that is not durable was not sent.
            _ if now_ms >= self.terms.t_publish_ms => self.publish(Which::Own),
            SequencerPhase::Voted { .. } => self.send_vote(now_ms),
            _ => Vec::new(),
        }
    }

    fn decision_read(&mut self, decision: &Decision) -> Vec<SequencerEffect> {
        let Some(held) = self.bound() else { return self.read_unbound(decision) };
        let (key, voted) = (held.prepare.key(), held.digest);
        if decision.key() != key {
            return vec![SequencerEffect::Report(Report::WrongRecord { key, found: decision.key() })];
        }
        let chain = held.prepare.chain;
        let recorded = decision.prepares.get(&chain).copied();
        let complete = held.prepare.participants.iter().all(|participant| decision.prepares.contains_key(participant));
        match decision.verdict {
            Verdict::Abort => self.publish(Which::WithoutCross),
            Verdict::Commit if recorded == Some(voted) && complete => self.publish(Which::WithCross),
            Verdict::Commit => {
                let mut effects = vec![SequencerEffect::Report(Report::CommitDoesNotFit { chain, key, voted, recorded })];
                effects.extend(self.publish(Which::WithoutCross));
                effects
            }
        }
    }

    /// A record that nothing here waits for. A commit that counts on this rollup without its yes is a misdeed.
    fn read_unbound(&self, decision: &Decision) -> Vec<SequencerEffect> {
        let SequencerTerms { chain, slot, .. } = self.terms;
        let open = !matches!(self.phase, SequencerPhase::Decided(_) | SequencerPhase::Published(_));
        let counts_on_it = decision.slot == slot && decision.verdict == Verdict::Commit && decision.prepares.contains_key(&chain);
        if open && counts_on_it {
            return vec![SequencerEffect::Report(Report::CommitWithoutVote { chain, key: decision.key() })];
        }
        Vec::new()
    }

    fn undecided(&mut self, now_ms: u64) -> Vec<SequencerEffect> {
        let Some(held) = self.bound() else { return Vec::new() };
        // Once a tick, so that a record which loses writes does not make it spin.
        if held.abort_asked || now_ms < held.prepare.t_decide_ms {
            return Vec::new();
        }
        held.abort_asked = true;
        let key = held.prepare.key();
        vec![SequencerEffect::RecordAbort(key), SequencerEffect::ReadDecision(key)]
    }

    fn unreadable(&mut self, now_ms: u64) -> Vec<SequencerEffect> {
        let Some(held) = self.bound() else { return Vec::new() };
        let since_ms = held.prepare.t_publish_ms;
        if now_ms < since_ms || held.holding {
            return Vec::new();
        }
        let (chain, key) = (held.prepare.chain, held.prepare.key());
        // The prepare's word, because that is what the yes was given on.
        if held.prepare.holds {
            held.holding = true;
            return vec![SequencerEffect::Hold { since_ms }, SequencerEffect::Report(Report::RecordUnreadable { key })];
        }
        let mut effects = self.publish(Which::WithoutCross);
        effects.push(SequencerEffect::Report(Report::PossibleBreach { chain, key }));
        effects
    }

    fn publish(&mut self, which: Which) -> Vec<SequencerEffect> {
        self.phase = SequencerPhase::Decided(which);
        vec![SequencerEffect::Publish(which)]
    }

    fn publish_done(&mut self, which: Which) -> Vec<SequencerEffect> {
        if self.phase == SequencerPhase::Decided(which) {
            self.phase = SequencerPhase::Published(which);
        }
        if self.phase == SequencerPhase::Published(which) {
            return Vec::new();
        }
        let what = "the list that was published is not the one that was asked for";
        vec![SequencerEffect::Report(Report::Ignored { chain: self.terms.chain, what })]
    }
}

fn vote_on(prepare: &Prepare, digest: B256, result: Result<(), VoteRefusal>) -> Vote {
    let (yes, reason) = (result.is_ok(), result.err());
    Vote { chain: prepare.chain, slot: prepare.slot, attempt: prepare.attempt, digest, yes, reason }
}

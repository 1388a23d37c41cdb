//! Remembered runs: what a bundle did is taken over where everything that it depended on is the same, without running it.
//!
//! Not everything can be. What created or destroyed an account is run again, and so is what depends on where in a block
//! something stands: identifiers of OP interop name the place of a log.

use std::{collections::BTreeSet, sync::Arc};

use alloy_primitives::B256;
use lockstep_messaging::{Message, Slot};
use lockstep_primitives::{ChainId, Leg, Place, Reason, Rejection, RevertMode};
use lockstep_simulation::{Checkpoint, Stretch};

use crate::{
    Attempt, BuildError, BundleRun, Candidate, Lanes, SlotView,
    logs::{LaneLogs, log_count},
    run::check_bounds,
};

/// What a bundle did on the open blocks of its rollups, and what that depended on.
#[derive(Clone, Debug)]
pub(crate) struct Variant {
    pub(crate) stretches: Vec<LaneStretch>,
    pub(crate) attempt: Arc<Attempt>,
    /// Whether it can be taken over: it does not depend on places, and its writes are complete.
    pub(crate) recallable: bool,
}

/// The part of it on one rollup.
#[derive(Clone, Debug)]
pub(crate) struct LaneStretch {
    pub(crate) chain: ChainId,
    /// How many transactions the block held before it.
    pub(crate) base: usize,
    /// How many logs.
    pub(crate) logs: u64,
    pub(crate) stretch: Stretch,
}

/// Where a bundle is to be placed, beside the open blocks.
pub(crate) struct Around<'a> {
    pub(crate) view: &'a SlotView,
    /// The messages that were delivered in the slot.
    pub(crate) delivered: &'a BTreeSet<B256>,
}

impl Variant {
    /// The same result on blocks as they open, of another slot it may be. `None` when it does not hold there. The blocks are as
    /// they were.
    pub(crate) fn moved_to(
        &self,
        opened: &mut Lanes,
        candidate: &Candidate,
        view: &SlotView,
    ) -> Result<Option<Self>, BuildError> {
        let mut asking = self.clone();
        asking.stretches.iter_mut().for_each(|part| part.stretch.footprint.at_opening = false);
        let marks: Vec<_> =
            self.stretches.iter().filter_map(|part| Some((part.chain, opened.get(&part.chain)?.block().checkpoint()))).collect();
        let attempt = asking.recall(opened, candidate, &Around { view, delivered: &BTreeSet::new() })?;
        roll_back(opened, &marks);
        let Some(attempt) = attempt.filter(|attempt| attempt.blocked.is_some() == self.attempt.blocked.is_some()) else {
            return Ok(None);
        };
        let mut stretches = Vec::with_capacity(self.stretches.len());
        for LaneStretch { chain, stretch, .. } in &self.stretches {
            let Some(lane) = opened.get_mut(chain) else { return Ok(None) };
            let (base, logs) = (lane.block().executed().len(), log_count(lane.block()));
            let stretch = stretch.moved_to(lane.block_mut()).map_err(|error| BuildError::simulation(*chain, error))?;
            stretches.push(LaneStretch { chain: *chain, base, logs, stretch });
        }
        Ok(Some(Self { stretches, attempt: Arc::new(attempt), recallable: true }))
    }

    /// Whether the bundle would do here what it did, room aside.
    fn holds(&self, lanes: &mut Lanes) -> Result<bool, BuildError> {
        for LaneStretch { chain, stretch, .. } in &self.stretches {
            let Some(lane) = lanes.get_mut(chain) else { return Ok(false) };
            // What is presented for a message may depend on the number and time of its block, which no transaction looks at.
            if self.sends() && !stretch.is_of(lane.block()) {
                return Ok(false);
            }
            if !lane.block_mut().holds(stretch).map_err(|error| BuildError::simulation(*chain, error))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether it has to do with messages.
    fn sends(&self) -> bool {
        let run = &self.attempt.run;
        !run.relays.is_empty() || run.legs.iter().any(|leg| !leg.messages.is_empty())
    }

    /// Takes over what it did, if that holds. `None` when the bundle has to be run.
    pub(crate) fn recall(
        &self,
        lanes: &mut Lanes,
        candidate: &Candidate,
        around: &Around<'_>,
    ) -> Result<Option<Attempt>, BuildError> {
        let delivered = self.attempt.run.delivered.iter().any(|message| around.delivered.contains(message));
        if !self.recallable || delivered || check_bounds(&candidate.bundle, lanes).is_err() || !self.holds(lanes)? {
            return Ok(None);
        }
        if self.attempt.blocked.is_some() {
            let roomy = |part: &LaneStretch| lanes.get(&part.chain).is_some_and(|lane| lane.block().has_room(&part.stretch));
            return Ok(self.stretches.iter().all(roomy).then(|| self.told_of(lanes)));
        }
        let mut marks = Vec::with_capacity(self.stretches.len());
        let mut full: Option<(usize, usize, ChainId, Reason)> = None;
        for LaneStretch { chain, base, stretch, .. } in &self.stretches {
            let Some(lane) = lanes.get_mut(chain) else { continue };
            let block = lane.block_mut();
            marks.push((*chain, block.checkpoint()));
            let appended = block.append(stretch).map_err(|error| BuildError::simulation(*chain, error));
            match appended {
                Ok(Ok(())) => {}
                // What has no room is told of in the order of the legs.
                Ok(Err((index, reason))) => {
                    let (leg, tx) = self.attempt.run.place_of(*chain, base + index);
                    if full.as_ref().is_none_or(|(first, second, ..)| (leg, tx) < (*first, *second)) {
                        full = Some((leg, tx, *chain, reason));
                    }
                }
                Err(error) => {
                    roll_back(lanes, &marks);
                    return Err(error);
                }
            }
        }
        if let Some((leg, tx, chain, reason)) = full {
            roll_back(lanes, &marks);
            // What may be dropped is, where it has no room.
            if may_drop(candidate) {
                return Ok(None);
            }
            let relay = matches!(candidate.bundle.legs.get(leg), Some(Leg::Relay { .. }));
            let place = if relay { Place::leg(chain, leg) } else { Place::tx(chain, leg, tx) };
            return Ok(Some(Attempt { run: BundleRun::default(), blocked: Some(Rejection::new(place, reason)) }));
        }
        if self.sends() {
            let logs = LaneLogs(lanes);
            let checked = around.view.policy.protocols.check_slot(&Slot { facts: &around.view.facts, logs: &logs });
            if let Err(rejection) = checked {
                roll_back(lanes, &marks);
                return Ok(Some(Attempt { run: BundleRun::default(), blocked: Some(rejection) }));
            }
        }
        Ok(Some(self.told_of(lanes)))
    }

    /// What it did, told of where it is now: at the end of these blocks, or before it where it is blocked.
    fn told_of(&self, lanes: &Lanes) -> Attempt {
        let mut attempt = Attempt::clone(&self.attempt);
        let sends = self.sends();
        for LaneStretch { chain, base, logs, stretch } in &self.stretches {
            let Some(lane) = lanes.get(chain) else { continue };
            let now = lane.block().executed().len().saturating_sub(stretch.executed.len());
            attempt.run.move_to(*chain, lane.index(), lane.block().context().number, *base, now);
            if sends {
                let own: u64 = stretch.executed.iter().map(|executed| executed.outcome.logs.len() as u64).sum();
                let before = log_count(lane.block()).saturating_sub(own);
                attempt.run.move_messages(*chain, *logs, before);
            }
        }
        attempt
    }
}

pub(crate) fn roll_back(lanes: &mut Lanes, marks: &[(ChainId, Checkpoint)]) {
    for (chain, mark) in marks {
        if let Some(lane) = lanes.get_mut(chain) {
            lane.block_mut().rollback(*mark);
        }
    }
}

fn may_drop(candidate: &Candidate) -> bool {
    candidate.bundle.legs.iter().flat_map(Leg::txs).any(|tx| tx.mode == RevertMode::Drop)
}

impl BundleRun {
    /// Leg and transaction at a position of the block that a rollup's transactions of the bundle are in.
    fn place_of(&self, chain: ChainId, position: usize) -> (usize, usize) {
        let legs = self.legs.iter().enumerate().filter(|(_, leg)| leg.chain == chain);
        let mut places =
            legs.filter_map(|(index, leg)| Some((index, leg.txs.iter().position(|tx| tx.position == Some(position))?)));
        places.next().unwrap_or_default()
    }

    /// The same run elsewhere: what stood behind `base` transactions on a rollup stands behind `now` in another block.
    fn move_to(&mut self, chain: ChainId, block: usize, number: u64, base: usize, now: usize) {
        for leg in self.legs.iter_mut().filter(|leg| leg.chain == chain) {
            (leg.block, leg.number) = (block, number);
            for tx in &mut leg.txs {
                tx.position = tx.position.map(|position| position - base + now);
            }
        }
        for relay in self.relays.iter_mut().filter(|relay| relay.chain == chain) {
            (relay.block, relay.position) = (block, relay.position - base + now);
        }
    }

    /// The same for the messages that were emitted there: what stood behind `base` logs stands behind `now`.
    fn move_messages(&mut self, chain: ChainId, base: u64, now: u64) {
        let emitted = self.legs.iter_mut().flat_map(|leg| &mut leg.messages).filter_map(|message| message.as_mut().ok());
        let relayed = self.relays.iter_mut().flat_map(|relay| {
            let request = relay.request.as_mut().map(|request| &mut request.message);
            [Some(&mut relay.message), request].into_iter().flatten()
        });
        let of_chain = |message: &&mut Message| message.origin == chain;
        for message in emitted.chain(relayed).filter(of_chain) {
            message.place.index = message.place.index - base + now;
        }
    }
}

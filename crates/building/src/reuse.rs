//! Remembered runs: what a bundle did is taken over where everything that it depended on is the same, without running it.
//!
//! Not everything can be. What created or destroyed an account is run again, and so is what depends on where in a block
//! something stands: identifiers of OP interop name the place of a log.

use std::{collections::BTreeSet, sync::Arc};

use alloy_primitives::B256;
use lockstep_messaging::Message;
use lockstep_primitives::{Bundle, ChainId, Leg, Place, Reason, Rejection, RevertMode};
use lockstep_simulation::{Checkpoint, Stretch};
use smallvec::SmallVec;

use crate::{Attempt, BuildError, BundleRun, Candidate, Lanes, LegRun, run::check_bounds};

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

impl Variant {
    /// The same result on blocks as they open, of another slot it may be. `None` when it does not hold there. The blocks are as
    /// they were.
    pub(crate) fn moved_to(&self, opened: &mut Lanes, candidate: &Candidate) -> Result<Option<Self>, BuildError> {
        let mut asking = self.clone();
        asking.stretches.iter_mut().for_each(|part| part.stretch.footprint.at_opening = false);
        let marks = marks(opened, &candidate.bundle);
        let attempt = asking.recall(opened, candidate, &BTreeSet::new())?;
        roll_back(opened, &marks);
        let same = |taken: &Taken| taken.attempt.blocked.is_some() == self.attempt.blocked.is_some();
        let Some(taken) = attempt.filter(same) else { return Ok(None) };
        let mut stretches = Vec::with_capacity(self.stretches.len());
        for LaneStretch { chain, stretch, .. } in &self.stretches {
            let Some(lane) = opened.get_mut(chain) else { return Ok(None) };
            let (base, logs) = (lane.block().executed().len(), lane.block().log_count());
            let stretch = stretch.moved_to(lane.block_mut()).map_err(|error| BuildError::simulation(*chain, error))?;
            stretches.push(LaneStretch { chain: *chain, base, logs, stretch });
        }
        Ok(Some(Self { stretches, attempt: taken.told(), recallable: true }))
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

    /// Takes over what it did, if that holds. `delivered`: the messages that were delivered in the slot. `None` when the bundle has to be run.
    pub(crate) fn recall(
        &self,
        lanes: &mut Lanes,
        candidate: &Candidate,
        delivered: &BTreeSet<B256>,
    ) -> Result<Option<Taken>, BuildError> {
        let known = self.attempt.run.delivered.iter().any(|message| delivered.contains(message));
        if !self.recallable || known || check_bounds(&candidate.bundle, lanes).is_err() || !self.holds(lanes)? {
            return Ok(None);
        }
        if self.attempt.blocked.is_some() {
            let roomy = |part: &LaneStretch| lanes.get(&part.chain).is_some_and(|lane| lane.block().has_room(&part.stretch));
            return Ok(self.stretches.iter().all(roomy).then(|| self.taken(lanes)));
        }
        let mut marks = Marks::new();
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
            let roomless = Attempt { run: BundleRun::default(), blocked: Some(Rejection::new(place, reason)) };
            return Ok(Some(Taken::as_told(Arc::new(roomless))));
        }
        Ok(Some(self.taken(lanes)))
    }

    /// What it did, with where it is now: at the end of these blocks, or before it where it is blocked.
    fn taken(&self, lanes: &Lanes) -> Taken {
        let sends = self.sends();
        let mut moves = SmallVec::new();
        for LaneStretch { chain, base, logs, stretch } in &self.stretches {
            let Some(lane) = lanes.get(chain) else { continue };
            let block = lane.block();
            let now = block.executed().len().saturating_sub(stretch.executed.len());
            let first_log = || block.executed().get(now).map_or_else(|| block.log_count(), |executed| executed.first_log);
            moves.push(Move {
                chain: *chain,
                block: lane.index(),
                number: block.context().number,
                txs: (*base, now),
                logs: sends.then(|| (*logs, first_log())),
            });
        }
        Taken { attempt: Arc::clone(&self.attempt), moves }
    }
}

/// What a bundle did, in the words of where it was run, and where it stands instead. Most of what is taken over is taken back
/// before anybody asks for more than what it is worth.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) attempt: Arc<Attempt>,
    moves: SmallVec<[Move; 1]>,
}

/// Where a part of a bundle went, from and to.
#[derive(Clone, Copy, Debug)]
struct Move {
    chain: ChainId,
    block: usize,
    number: u64,
    txs: (usize, usize),
    logs: Option<(u64, u64)>,
}

impl Taken {
    /// Something that stands where it was run.
    pub(crate) fn as_told(attempt: Arc<Attempt>) -> Self {
        Self { attempt, moves: SmallVec::new() }
    }

    /// The same, told of where it stands.
    pub(crate) fn told(&self) -> Arc<Attempt> {
        let run = &self.attempt.run;
        let stays = |moved: &Move| {
            let same = |leg: &LegRun| leg.chain != moved.chain || (leg.block, leg.number) == (moved.block, moved.number);
            moved.txs.0 == moved.txs.1 && moved.logs.is_none_or(|(from, to)| from == to) && run.legs.iter().all(same)
        };
        if self.moves.iter().all(stays) {
            return Arc::clone(&self.attempt);
        }
        let mut attempt = Attempt::clone(&self.attempt);
        for Move { chain, block, number, txs: (base, now), logs } in &self.moves {
            attempt.run.move_to(*chain, *block, *number, *base, *now);
            if let Some((base, now)) = logs {
                attempt.run.move_messages(*chain, *base, *now);
            }
        }
        Arc::new(attempt)
    }
}

/// Where the blocks of a bundle's rollups stand.
pub(crate) type Marks = SmallVec<[(ChainId, Checkpoint); 1]>;

pub(crate) fn marks(lanes: &Lanes, bundle: &Bundle) -> Marks {
    bundle.chains().into_iter().filter_map(|chain| Some((chain, lanes.get(&chain)?.block().checkpoint()))).collect()
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

//! Based sequencing: the next proposer of Ethereum L1 takes part, and builds L1 and rollups together.
//!
//! L1 sells nothing: who proposes its next blocks is known (EIP-7917, "Deterministic proposer lookahead", makes the current and
//! the next epoch certain), and nobody can buy it from the market. So L1 is registered like a rollup, for where its lists go, and
//! is in every slot with an L1 block its known proposer's, without an auction. That proposer bids for rollups like anybody, and can
//! pay more for them: it alone builds them and L1 together.
//!
//! A rollup says in its terms whether it follows L1's newest state. Where it does, and one proposer builds both, its block may
//! read the L1 block of the same slot; otherwise nobody can promise that block while it is not there yet.

mod error;

pub use error::BasedError;

use std::collections::BTreeMap;

use alloy_primitives::Address;
use lockstep_primitives::{ChainId, RollupSet, SlotNumber};

use crate::SlotClock;

/// How many L1 slots' proposers are known at the most: the epoch that runs, the next one, and as much again for late callers.
pub const MAX_LOOKAHEAD: usize = 128;

const MS_PER_S: u64 = 1000;

/// Who proposes on L1, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L1Schedule {
    chain: ChainId,
    genesis_s: u64,
    slot_s: u64,
    proposers: BTreeMap<u64, Address>,
    dropped: u64,
}

/// Whose turn it is on L1 in a slot of the market.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum L1Turn {
    /// No L1 block falls into the slot.
    NoBlock,
    /// The proposer of this L1 slot is not known.
    Unknown(u64),
    /// One proposer has all L1 blocks of the slot.
    Of(Address),
    /// The L1 blocks of the slot have different proposers: nobody can build them all.
    Several,
}

/// Which L1 state a rollup's blocks of a slot may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum L1View {
    /// The L1 block that the same proposer builds in the same slot.
    SameSlot,
    /// The last L1 block that is published.
    Published,
    /// What the rollup's own rules say: it does not follow L1's newest state.
    OwnRules,
}

impl L1View {
    /// What answers call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SameSlot => "same_slot",
            Self::Published => "published",
            Self::OwnRules => "own_rules",
        }
    }
}

impl L1Schedule {
    /// An L1 of which no proposer is known: its chain id, when its slot 0 began (Unix seconds) and how long a slot is.
    ///
    /// # Errors
    /// When its slots have no length.
    pub const fn new(chain: ChainId, genesis_s: u64, slot_s: u64) -> Result<Self, BasedError> {
        if slot_s == 0 {
            return Err(BasedError::NoSlots { chain });
        }
        Ok(Self { chain, genesis_s, slot_s, proposers: BTreeMap::new(), dropped: 0 })
    }

    /// Notes who proposes in an L1 slot, and returns who was thought to: L1 may have been reorganised over the end of an epoch.
    /// The lowest slots go first when there are more than [`MAX_LOOKAHEAD`].
    ///
    /// # Errors
    /// When the slot is too old to be noted, its time does not fit into 64 bits, or the proposer is the zero address. Nothing is
    /// then changed.
    pub fn learn(&mut self, l1_slot: u64, proposer: Address) -> Result<Option<Address>, BasedError> {
        let chain = self.chain;
        if proposer.is_zero() {
            return Err(BasedError::ZeroProposer { chain, l1_slot });
        }
        if self.timestamp_s(l1_slot).is_none() {
            return Err(BasedError::SlotTooLate { chain, l1_slot });
        }
        if self.proposers.len() >= MAX_LOOKAHEAD
            && !self.proposers.contains_key(&l1_slot)
            && let Some((oldest, _)) = self.proposers.first_key_value()
        {
            if l1_slot < *oldest {
                return Err(BasedError::SlotTooOld { chain, l1_slot, oldest: *oldest });
            }
            self.proposers.pop_first();
            self.dropped = self.dropped.saturating_add(1);
        }
        Ok(self.proposers.insert(l1_slot, proposer).filter(|known| *known != proposer))
    }

    /// Forgets the proposers of L1 slots before this one.
    pub fn forget_before(&mut self, l1_slot: u64) {
        self.proposers = self.proposers.split_off(&l1_slot);
    }

    /// The L1 chain.
    pub const fn chain(&self) -> ChainId {
        self.chain
    }

    /// The proposers that are known, by L1 slot.
    pub const fn proposers(&self) -> &BTreeMap<u64, Address> {
        &self.proposers
    }

    /// How many L1 slots' proposers were forgotten to make room.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whose turn it is on L1 in a slot of the market.
    pub fn turn(&self, clock: &SlotClock, slot: SlotNumber) -> L1Turn {
        // Of whole seconds, exactly those from the rounded-up start on and before the rounded-up end are inside.
        let first_at = |from_ms: u64| from_ms.div_ceil(MS_PER_S).saturating_sub(self.genesis_s).div_ceil(self.slot_s);
        let mut turn = L1Turn::NoBlock;
        for l1_slot in first_at(clock.start_ms(slot))..first_at(clock.end_ms(slot)) {
            let Some(proposer) = self.proposers.get(&l1_slot) else { return L1Turn::Unknown(l1_slot) };
            match turn {
                L1Turn::Of(other) if other != *proposer => return L1Turn::Several,
                _ => turn = L1Turn::Of(*proposer),
            }
        }
        turn
    }

    /// Which L1 state a rollup's blocks of a slot may read, when one proposer builds `built`. `follows` are the rollups whose
    /// terms say that they follow L1's newest state.
    pub fn view(&self, chain: ChainId, built: &RollupSet, follows: &RollupSet) -> L1View {
        if !follows.contains(&chain) {
            L1View::OwnRules
        } else if built.contains(&chain) && built.contains(&self.chain) {
            L1View::SameSlot
        } else {
            L1View::Published
        }
    }

    fn timestamp_s(&self, l1_slot: u64) -> Option<u64> {
        self.genesis_s.checked_add(l1_slot.checked_mul(self.slot_s)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const L1: ChainId = 1;
    const A: Address = Address::repeat_byte(0xa);
    const B: Address = Address::repeat_byte(0xb);
    /// Slot 0 is [100, 104) s, and L1 slot 5 is at 100 s: market slots 0, 3, 6 have the L1 slots 5, 6, 7.
    const CLOCK: SlotClock = SlotClock { genesis_ms: 100_000, slot_ms: 4000, close_before_ms: 300 };

    fn schedule() -> L1Schedule {
        let mut schedule = L1Schedule::new(L1, 40, 12).unwrap();
        schedule.learn(5, A).unwrap();
        schedule.learn(6, B).unwrap();
        schedule
    }

    fn set(rollups: &[ChainId]) -> RollupSet {
        rollups.iter().copied().collect()
    }

    #[test]
    fn whose_turn_it_is_follows_from_the_time_of_l1_blocks() {
        let schedule = schedule();
        assert_eq!(
            [0, 1, 2, 3].map(|slot| schedule.turn(&CLOCK, slot)),
            [L1Turn::Of(A), L1Turn::NoBlock, L1Turn::NoBlock, L1Turn::Of(B),]
        );
        assert_eq!(schedule.turn(&CLOCK, 6), L1Turn::Unknown(7));
        let long = SlotClock { slot_ms: 24_000, ..CLOCK };
        assert_eq!(schedule.turn(&long, 0), L1Turn::Several);
        // Before L1 began there is nothing to propose, and its first block is at genesis.
        let mut young = L1Schedule::new(L1, 110, 12).unwrap();
        young.learn(0, A).unwrap();
        assert_eq!([0, 1, 2].map(|slot| young.turn(&CLOCK, slot)), [L1Turn::NoBlock, L1Turn::NoBlock, L1Turn::Of(A)]);
        let mut ancient = L1Schedule::new(L1, 0, 12).unwrap();
        ancient.learn(0, A).unwrap();
        assert_eq!(ancient.turn(&SlotClock { genesis_ms: 0, ..CLOCK }, 3), L1Turn::Unknown(1));
        assert_eq!(ancient.turn(&SlotClock { genesis_ms: 0, ..CLOCK }, 0), L1Turn::Of(A));
    }

    #[test]
    fn the_newest_l1_state_is_read_where_one_proposer_builds_both() {
        let (schedule, follows) = (schedule(), set(&[10, 20]));
        assert_eq!(schedule.view(10, &set(&[L1, 10]), &follows), L1View::SameSlot);
        assert_eq!(schedule.view(10, &set(&[10, 20]), &follows), L1View::Published);
        assert_eq!(schedule.view(20, &set(&[L1, 10]), &follows), L1View::Published, "somebody else builds it");
        assert_eq!(schedule.view(30, &set(&[L1, 30]), &follows), L1View::OwnRules);
    }

    #[test]
    fn the_lookahead_is_bounded_and_may_be_put_right() {
        let mut schedule = L1Schedule::new(L1, 0, 12).unwrap();
        for l1_slot in 10..=10 + MAX_LOOKAHEAD as u64 {
            assert_eq!(schedule.learn(l1_slot, A), Ok(None));
        }
        assert_eq!((schedule.proposers().len(), schedule.dropped()), (MAX_LOOKAHEAD, 1));
        assert_eq!(schedule.learn(10, A), Err(BasedError::SlotTooOld { chain: L1, l1_slot: 10, oldest: 11 }));
        assert_eq!((schedule.learn(11, B), schedule.learn(11, B)), (Ok(Some(A)), Ok(None)));
        assert_eq!(schedule.learn(12, Address::ZERO).unwrap_err().code(), "zero_l1_proposer");
        assert_eq!(schedule.learn(u64::MAX, A).unwrap_err().code(), "l1_slot_too_late");
        schedule.forget_before(100);
        assert_eq!(schedule.proposers().first_key_value(), Some((&100, &A)));
        assert_eq!(L1Schedule::new(L1, 0, 0).unwrap_err().code(), "l1_without_slots");
    }
}

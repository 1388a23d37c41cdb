//! Evens out the price of one token between pools on several rollups, and keeps the difference.
//!
//! The account holds both tokens on every rollup. In one bundle it buys where the token is cheap and sells as much where it is
//! dear: after it, it has what it had of the token in all, though elsewhere, and more of what is counted in. Either all the
//! trades land or none does, so that it is never left with one side.
//!
//! Users' bundles that move the pools open such differences. What is gained after one of them, or after all of them, is brought
//! as a bundle that does not go through without them: its swaps demand what they were computed to give.

mod bundle;
mod market;
mod pool;
mod sizes;

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, B256, U256};
use lockstep_building::{BuildError, Lanes, Simulated, SlotView, Strategy, StrategyView, open_lanes, run_bundle};
use lockstep_primitives::{Bundle, ChainId, Price, RollupSet};
use lockstep_simulation::Checkpoint;

pub use pool::{MAX_RESERVE, Pool, Trade};
pub use sizes::{Plan, best};

use bundle::Found;

/// The most pools that are traded in: one a rollup.
pub const MAX_POOLS: usize = 8;

/// A pool on a rollup (Uniswap v2), and how it is traded in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Venue {
    /// The rollup.
    pub chain: ChainId,
    /// The pool.
    pub pair: Address,
    /// The router whose factory made it. The account lets it take both tokens.
    pub router: Address,
    /// The token that is traded.
    pub base: Address,
    /// The token that is counted in.
    pub quote: Address,
}

/// Where and for how much the strategy trades.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The pools, one a rollup. Of more than [`MAX_POOLS`] the first count.
    pub venues: Vec<Venue>,
    /// What 10^18 of the counting token's smallest units are worth, in the numeraire's smallest unit.
    pub quote_price: Price,
    /// The least that a bundle gains net of gas and of what the builder is paid, in the numeraire's smallest unit.
    pub min_profit: U256,
    /// Which part of the gain net of gas the builder is paid, in basis points, at most 10,000.
    pub builder_share_bps: u64,
    /// How many pending bundles that move the pools are looked at, those of the greatest value first.
    pub max_backruns: usize,
}

/// The strategy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrossRollupArbitrage(pub Rules);

impl Strategy for CrossRollupArbitrage {
    fn name(&self) -> &'static str {
        "cross-rollup-arbitrage"
    }

    fn bundles(&self, view: &StrategyView<'_>) -> Result<Vec<Bundle>, BuildError> {
        let venues = self.venues(view.slot);
        if venues.len() < 2 {
            return Ok(Vec::new());
        }
        let moving = self.moving(view, &venues);
        let mut rollups: RollupSet = venues.iter().map(|venue| venue.chain).collect();
        rollups.extend(moving.iter().flat_map(|entry| entry.candidate.bundle.rollups()));
        let desk = Desk { rules: &self.0, view, venues };
        let mut lanes = open_lanes(view.slot, &rollups)?;
        let alone = desk.trade(&mut lanes)?;
        let mut behind: Vec<Found> = Vec::new();
        for entry in &moving {
            let marks = marks(&lanes);
            if follows(view.slot, &mut lanes, entry)? {
                behind.extend(desk.trade(&mut lanes)?);
            }
            rewind(&mut lanes, &marks);
        }
        if moving.len() > 1 {
            for entry in &moving {
                follows(view.slot, &mut lanes, entry)?;
            }
            behind.extend(desk.trade(&mut lanes)?);
        }
        Ok(chosen(alone, behind))
    }
}

impl CrossRollupArbitrage {
    /// The venues on rollups that have blocks in the slot.
    fn venues(&self, slot: &SlotView) -> Vec<Venue> {
        let mut seen = RollupSet::new();
        let known = self.0.venues.iter().filter(|venue| slot.rollups.contains_key(&venue.chain));
        known.filter(|venue| seen.insert(venue.chain)).take(MAX_POOLS).copied().collect()
    }

    /// The pending bundles that move the pools, the most valuable first.
    fn moving<'a>(&self, view: &StrategyView<'a>, venues: &[Venue]) -> Vec<&'a Simulated> {
        let moves = |entry: &&Simulated| {
            let legs = entry.attempt.run.legs.iter();
            let logs = legs.flat_map(|leg| leg.txs.iter().map(move |tx| (leg.chain, tx)));
            let mut places = logs.filter(|(_, tx)| tx.position.is_some()).flat_map(|(chain, tx)| {
                tx.outcome.iter().flat_map(|outcome| outcome.logs.iter()).map(move |log| (chain, log.address))
            });
            places.any(|(chain, address)| venues.iter().any(|venue| (venue.chain, venue.pair) == (chain, address)))
        };
        let own = view.signer.address();
        let others = |entry: &&Simulated| entry.candidate.bundle.txs().all(|tx| tx.tx.signer() != own);
        let ran = view.pending.iter().filter(|entry| entry.attempt.blocked.is_none());
        let mut moving: Vec<&Simulated> = ran.filter(others).filter(moves).collect();
        moving.sort_by(|a, b| {
            let value = b.attempt.run.value.cmp(&a.attempt.run.value);
            value.then_with(|| a.candidate.sequence.cmp(&b.candidate.sequence))
        });
        moving.truncate(self.0.max_backruns);
        moving
    }
}

/// What a trade is made of.
#[derive(Debug)]
struct Desk<'a> {
    rules: &'a Rules,
    view: &'a StrategyView<'a>,
    venues: Vec<Venue>,
}

/// All of them use the account's next nonces, so that one of them lands at the most. What needs nobody else goes in, unless
/// more is to be gained behind somebody: then only what gains more, the most first.
fn chosen(alone: Option<Found>, mut behind: Vec<Found>) -> Vec<Bundle> {
    behind.retain(|found| alone.as_ref().is_none_or(|alone| found.gain > alone.gain));
    behind.sort_by_key(|backrun| std::cmp::Reverse(backrun.gain));
    let mut seen: BTreeSet<B256> = BTreeSet::new();
    behind.retain(|found| seen.insert(found.bundle.hash()));
    let found = if behind.is_empty() { alone.into_iter().collect() } else { behind };
    found.into_iter().map(|found| found.bundle).collect()
}

/// Runs a pending bundle on the open blocks. Whether it went through; if not, they are as they were.
fn follows(slot: &SlotView, lanes: &mut Lanes, entry: &Simulated) -> Result<bool, BuildError> {
    Ok(run_bundle(slot, lanes, &entry.candidate.bundle, &BTreeSet::new())?.blocked.is_none())
}

fn marks(lanes: &Lanes) -> BTreeMap<ChainId, Checkpoint> {
    lanes.iter().map(|(chain, lane)| (*chain, lane.block().checkpoint())).collect()
}

fn rewind(lanes: &mut Lanes, marks: &BTreeMap<ChainId, Checkpoint>) {
    for (chain, mark) in marks {
        if let Some(lane) = lanes.get_mut(chain) {
            lane.block_mut().rollback(*mark);
        }
    }
}

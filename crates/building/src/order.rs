//! In which order bundles are tried, so that blocks come out in the order that their rollups sell.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BTreeSet, VecDeque},
};

use alloy_primitives::{B256, I256};
use lockstep_primitives::{Bundle, ChainId, Leg, OrderedTx, OrderingPolicy, OutOfOrder, SignedTx};
use lockstep_simulation::{BlockTx, Executed, Lane, LaneBlock};

use crate::{Attempt, Lanes, RollupView, Simulated, SlotView};

/// Whether the listed transactions of finished blocks stand in an order that the policy allows. `arrivals` tells when the
/// sequencer saw which transaction, in Unix milliseconds.
///
/// # Errors
/// Names the first block and transaction that are out of order.
pub fn check_order(policy: OrderingPolicy, arrivals: &BTreeMap<B256, u64>, blocks: &[LaneBlock]) -> Result<(), OutOfOrder> {
    if policy == OrderingPolicy::Free {
        return Ok(());
    }
    for (index, block) in (0_u32..).zip(blocks) {
        let listed = ordered(block.listed(), block.block.context().base_fee, arrivals);
        policy.check(&listed).map_err(|error| error.in_block(index))?;
    }
    Ok(())
}

/// The same for a block that is still open.
pub(crate) fn check_open(rollup: &RollupView, lane: &Lane) -> Result<(), OutOfOrder> {
    if rollup.ordering == OrderingPolicy::Free {
        return Ok(());
    }
    rollup.ordering.check(&ordered(listed(lane), lane.block().context().base_fee, &rollup.arrivals))
}

fn listed(lane: &Lane) -> &[Executed] {
    lane.block().executed().get(lane.forced()..).unwrap_or_default()
}

pub(crate) fn ordered(listed: &[Executed], base_fee: u64, arrivals: &BTreeMap<B256, u64>) -> Vec<OrderedTx> {
    listed
        .iter()
        .map(|executed| match &executed.tx {
            BlockTx::Signed(tx) => OrderedTx::new(tx, base_fee, arrivals.get(&tx.hash()).copied()),
            // Deposits stand in the forced prefix only; wherever one would stand, it tips nobody and arrives with the list.
            BlockTx::Deposit(_) => OrderedTx {
                hash: executed.tx.hash(),
                sender: executed.tx.sender(),
                tip: 0,
                gas_limit: executed.tx.gas_limit(),
                arrival_ms: None,
            },
        })
        .collect()
}

/// Puts bundles into the order in which they are tried in the open blocks.
///
/// On rollups that any order suits the greatest value for gas goes first; among equals the one admitted earlier. Every other
/// rollup has a queue in the order of its policy, and of the bundles that nothing stands before in any queue the best by
/// value for gas goes next. Where queues contradict each other the best of their heads goes next, and the check of the block
/// decides what of the rest still has its place.
pub(crate) fn arrange<'a>(view: &SlotView, lanes: &Lanes, mut waiting: Vec<&'a Simulated>) -> Vec<&'a Simulated> {
    waiting.sort_by(|a, b| by_density(a, b));
    let queues: Vec<VecDeque<usize>> = lanes
        .iter()
        .filter_map(|(chain, lane)| Some((*chain, lane, view.rollups.get(chain)?)))
        .filter(|(_, _, rollup)| rollup.ordering != OrderingPolicy::Free)
        .map(|(chain, lane, rollup)| queue(chain, lane, rollup, &waiting))
        .collect();
    if queues.is_empty() {
        return waiting;
    }
    merge(queues, waiting.len()).into_iter().filter_map(|index| waiting.get(index).copied()).collect()
}

/// The bundles of a rollup in the order of its policy, by their index in `waiting`, which is sorted by value for gas: that
/// decides among equals.
fn queue(chain: ChainId, lane: &Lane, rollup: &RollupView, waiting: &[&Simulated]) -> VecDeque<usize> {
    let base_fee = lane.block().context().base_fee;
    let mut queue: Vec<usize> = (0..waiting.len())
        .filter(|index| waiting.get(*index).is_some_and(|entry| touches(&entry.candidate.bundle, chain)))
        .collect();
    let bundle = |index: &usize| waiting.get(*index).map(|entry| entry.candidate.bundle.as_ref());
    match rollup.ordering {
        OrderingPolicy::Free => {}
        OrderingPolicy::PriorityFee => {
            queue.sort_by_cached_key(|index| Reverse(bundle(index).map_or(0, |bundle| first_tip(bundle, chain, base_fee))));
        }
        OrderingPolicy::FirstComeFirstServed => {
            queue.sort_by_cached_key(|index| bundle(index).map_or(u64::MAX, |bundle| arrival(bundle, chain, &rollup.arrivals)));
        }
        OrderingPolicy::TopOfBlock { lane_gas } => {
            let taken = listed(lane).iter().fold(0_u64, |sum, executed| sum.saturating_add(executed.tx.gas_limit()));
            let free = picks(chain, lane_gas.saturating_sub(taken), &queue, waiting);
            queue.sort_by_cached_key(|index| {
                let outside = bundle(index).map_or(u64::MAX, |bundle| arrival(bundle, chain, &rollup.arrivals));
                if free.contains(index) { (false, 0) } else { (true, outside) }
            });
        }
    }
    queue.into()
}

/// Which bundles go into the free lane: the best by value for gas, as far as their gas limits fit.
fn picks(chain: ChainId, lane_gas: u64, queue: &[usize], waiting: &[&Simulated]) -> BTreeSet<usize> {
    let mut left = lane_gas;
    let mut picked = BTreeSet::new();
    for index in queue {
        let Some(entry) = waiting.get(*index).filter(|entry| entry.attempt.blocked.is_none()) else { continue };
        let signed = txs_on(&entry.candidate.bundle, chain).map(|(_, tx)| tx.gas_limit());
        let relays = entry.attempt.run.relays.iter().filter(|relay| relay.chain == chain).map(|relay| relay.tx.gas_limit);
        let gas = signed.chain(relays).fold(0_u64, u64::saturating_add);
        if let Some(rest) = left.checked_sub(gas).filter(|_| entry.attempt.run.value.is_positive()) {
            left = rest;
            picked.insert(*index);
        }
    }
    picked
}

/// Merges queues: what is at the head of every queue that it stands in goes next, the lowest index first.
fn merge(mut queues: Vec<VecDeque<usize>>, count: usize) -> Vec<usize> {
    // In how many queues something else stands before it.
    let mut behind = vec![0_usize; count];
    for index in queues.iter().flatten() {
        behind[*index] += 1;
    }
    for head in queues.iter().filter_map(VecDeque::front) {
        behind[*head] -= 1;
    }
    let mut ready: BTreeSet<usize> = (0..count).filter(|index| behind[*index] == 0).collect();
    let mut taken = vec![false; count];
    let mut merged = Vec::with_capacity(count);
    while let Some(next) = ready.pop_first().or_else(|| queues.iter().filter_map(|queue| queue.front().copied()).min()) {
        taken[next] = true;
        merged.push(next);
        for queue in &mut queues {
            let length = queue.len();
            while queue.front().is_some_and(|head| taken[*head]) {
                queue.pop_front();
            }
            if queue.len() < length
                && let Some(head) = queue.front()
            {
                behind[*head] -= 1;
                if behind[*head] == 0 {
                    ready.insert(*head);
                }
            }
        }
    }
    merged
}

fn touches(bundle: &Bundle, chain: ChainId) -> bool {
    bundle.legs.iter().any(|leg| leg.chain() == chain)
}

/// The signed transactions of a bundle on a rollup, each with the index of its leg.
fn txs_on(bundle: &Bundle, chain: ChainId) -> impl Iterator<Item = (usize, &SignedTx)> {
    let legs = bundle.legs.iter().enumerate().filter(move |(_, leg)| leg.chain() == chain);
    legs.flat_map(|(index, leg)| leg.txs().iter().map(move |tx| (index, tx.tx.as_ref())))
}

fn tip(tx: &SignedTx, base_fee: u64) -> u128 {
    OrderedTx::new(tx, base_fee, None).tip
}

/// What the bundle's first transaction on a rollup pays per gas.
fn first_tip(bundle: &Bundle, chain: ChainId, base_fee: u64) -> u128 {
    match bundle.legs.iter().enumerate().find(|(_, leg)| leg.chain() == chain) {
        Some((index, Leg::Relay { .. })) => tip_of_relay(bundle, index, chain, base_fee),
        Some((_, leg)) => leg.txs().first().map_or(0, |tx| tip(&tx.tx, base_fee)),
        None => 0,
    }
}

/// When the last of the bundle's transactions on a rollup arrived: only then is all of it there. Relays arrive with the list.
fn arrival(bundle: &Bundle, chain: ChainId, arrivals: &BTreeMap<B256, u64>) -> u64 {
    let relayed = bundle.legs.iter().any(|leg| matches!(leg, Leg::Relay { chain: on, .. } if *on == chain));
    if relayed {
        return u64::MAX;
    }
    txs_on(bundle, chain).map(|(_, tx)| arrivals.get(&tx.hash()).copied().unwrap_or(u64::MAX)).max().unwrap_or(u64::MAX)
}

/// The priority fee of the relay in a leg, in wei per gas: nothing, unless the rollup orders by it.
pub(crate) fn relay_tip(rollup: &RollupView, bundle: &Bundle, leg: usize, chain: ChainId, base_fee: u64) -> u128 {
    match rollup.ordering {
        OrderingPolicy::PriorityFee => tip_of_relay(bundle, leg, chain, base_fee),
        OrderingPolicy::Free | OrderingPolicy::FirstComeFirstServed | OrderingPolicy::TopOfBlock { .. } => 0,
    }
}

/// As much as the best of the bundle's transactions behind the relay, which may not be paid more than what stands before
/// them; without any as much as the last one before it, so that the relay closes the block to nobody who pays like its
/// bundle. The builder pays it: under Ethereum rules to the block's beneficiary, which is the proposer as a rule, elsewhere to
/// a vault.
fn tip_of_relay(bundle: &Bundle, leg: usize, chain: ChainId, base_fee: u64) -> u128 {
    let behind = txs_on(bundle, chain).filter(|(index, _)| *index > leg).map(|(_, tx)| tip(tx, base_fee)).max();
    let before = || txs_on(bundle, chain).filter(|(index, _)| *index < leg).last().map(|(_, tx)| tip(tx, base_fee));
    behind.or_else(before).unwrap_or_default()
}

/// Greatest value for gas first, what is blocked alone counting as nothing; then by admission and hash.
pub(crate) fn by_density(a: &Simulated, b: &Simulated) -> Ordering {
    b.density
        .compare(&a.density)
        .then_with(|| a.candidate.sequence.cmp(&b.candidate.sequence))
        .then_with(|| a.candidate.hash.cmp(&b.candidate.hash))
}

/// Value for gas.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Density {
    value: I256,
    gas: u64,
    /// Roughly; not a number where the value is beyond all measure.
    roughly: f64,
}

/// Rough densities that differ by less than this part of them are compared exactly. What rounding makes of them is far less.
const ROUGH: f64 = 1e-9;

impl Density {
    pub(crate) fn of(attempt: &Attempt) -> Self {
        if attempt.blocked.is_some() {
            return Self { value: I256::ZERO, gas: 1, roughly: 0.0 };
        }
        let gas = attempt.run.gas.values().fold(0_u64, |sum, gas| sum.saturating_add(*gas)).max(1);
        let value = attempt.run.value;
        let roughly = i128::try_from(value).map_or(f64::NAN, |value| value as f64 / gas as f64);
        Self { value, gas, roughly }
    }

    fn compare(&self, other: &Self) -> Ordering {
        let (a, b) = (self.roughly, other.roughly);
        if (a - b).abs() > ROUGH * a.abs().max(b.abs()) {
            return a.total_cmp(&b);
        }
        // a/ga > b/gb without dividing; the products of real values are far below 2^255, and saturate above.
        let times = |value: I256, gas: u64| value.saturating_mul(I256::try_from(gas).unwrap_or(I256::MAX));
        times(self.value, other.gas).cmp(&times(other.value, self.gas))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BundleRun, ByRollup};

    fn merged(queues: &[&[usize]], count: usize) -> Vec<usize> {
        merge(queues.iter().map(|queue| queue.iter().copied().collect()).collect(), count)
    }

    fn density(value: i128, gas: u64) -> Density {
        let run = BundleRun { value: I256::try_from(value).unwrap(), gas: once(gas), ..BundleRun::default() };
        Density::of(&Attempt { run, blocked: None })
    }

    fn once(gas: u64) -> ByRollup<u64> {
        let mut by_rollup = ByRollup::default();
        by_rollup.insert(1, gas);
        by_rollup
    }

    #[test]
    fn densities_too_close_to_tell_apart_by_rounding_are_compared_exactly() {
        let (a, b) = (density(10_i128.pow(24), 30_000), density(10_i128.pow(24) + 1, 30_000));
        assert_eq!((a.compare(&b), b.compare(&a), a.compare(&a)), (Ordering::Less, Ordering::Greater, Ordering::Equal));
        assert_eq!(density(2, 2).compare(&density(1, 1)), Ordering::Equal);
        assert_eq!(density(-3, 2).compare(&density(-1, 1)), Ordering::Less);
        let beyond = Density::of(&Attempt { run: BundleRun { value: I256::MAX, ..BundleRun::default() }, blocked: None });
        assert_eq!(beyond.compare(&a), Ordering::Greater);
        assert_eq!(a.compare(&beyond), Ordering::Less);
    }

    #[test]
    fn without_queues_the_order_is_that_of_value() {
        assert_eq!(merged(&[], 3), [0, 1, 2]);
    }

    #[test]
    fn every_queue_keeps_its_order() {
        assert_eq!(merged(&[&[2, 0, 1]], 4), [2, 0, 1, 3]);
        assert_eq!(merged(&[&[1, 0], &[2, 1]], 3), [2, 1, 0]);
    }

    #[test]
    fn queues_that_contradict_each_other_lose_nobody() {
        assert_eq!(merged(&[&[0, 1, 2], &[1, 0, 2]], 3), [0, 1, 2]);
        assert_eq!(merged(&[&[1, 0], &[0, 2], &[2, 1]], 3), [0, 2, 1]);
    }
}

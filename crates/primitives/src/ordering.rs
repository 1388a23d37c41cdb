//! In which order a rollup's blocks may hold transactions: one of its terms of sale.

use std::collections::{BTreeMap, BTreeSet};

use alloy_consensus::Transaction;
use alloy_primitives::{Address, B256};

use crate::SignedTx;

/// How many arrivals a sequencer tells of in one slot: as many as a pool holds bundles by default.
pub const MAX_ARRIVALS: usize = 20_000;
/// How many transactions an inclusion list has at the most.
pub const MAX_INCLUSION: usize = 64;

/// A rollup's rule for the order of the listed transactions of one block. The forced prefix is not listed: no rule is about
/// it. Each block of a slot is judged by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OrderingPolicy {
    /// Any order.
    #[default]
    Free,
    /// As a miner picks from account heads: at each position the effective priority fee per gas is at least that of every
    /// other sender's next transaction still to come in the block. A sender's own transactions stay in nonce order, whatever
    /// they pay. Ties are free.
    PriorityFee,
    /// By arrival at the sequencer: stamps never fall. A transaction counts as arrived when it and all of its sender's
    /// transactions before it in the block have arrived, because a nonce cannot come before the one before it. What the
    /// sequencer has not seen arrives with the list, so after all that it has seen. Ties are free.
    FirstComeFirstServed,
    /// The longest prefix whose gas limits sum to at most `lane_gas` is in any order; what follows is first come, first served.
    TopOfBlock {
        /// Gas of the free lane, counted by gas limits.
        lane_gas: u64,
    },
}

/// A name or a lane that makes no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOrdering {
    /// No policy has that name.
    #[error("there is no ordering {0:?}: free, priority-fee, fcfs and top-of-block are known")]
    UnknownName(String),
    /// Only `top-of-block` has a lane.
    #[error("ordering {name} has no lane, so {lane_gas} of lane gas mean nothing: leave it at 0")]
    LaneWithoutNeed {
        /// The policy.
        name: &'static str,
        /// The lane gas that was given.
        lane_gas: u64,
    },
    /// A lane of nothing.
    #[error("ordering top-of-block needs lane gas: without, it is fcfs")]
    EmptyLane,
}

impl InvalidOrdering {
    /// Stable code.
    pub const fn code(&self) -> &'static str {
        "invalid_ordering"
    }
}

/// What a policy looks at in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderedTx {
    /// Its hash.
    pub hash: B256,
    /// Who sends it.
    pub sender: Address,
    /// The priority fee per gas that it pays at the block's base fee, in wei.
    pub tip: u128,
    /// Its gas limit.
    pub gas_limit: u64,
    /// When it arrived at the sequencer, in Unix milliseconds; `None` when the sequencer has not seen it.
    pub arrival_ms: Option<u64>,
}

impl OrderedTx {
    /// A signed transaction in a block of that base fee, in wei.
    pub fn new(tx: &SignedTx, base_fee: u64, arrival_ms: Option<u64>) -> Self {
        Self {
            hash: tx.hash(),
            sender: tx.signer(),
            tip: tx.envelope().effective_tip_per_gas(base_fee).unwrap_or_default(),
            gas_limit: tx.gas_limit(),
            arrival_ms,
        }
    }
}

/// Two transactions of a block that stand in the wrong order: that at `position` should have come before that at
/// `earlier_position`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct OutOfOrder {
    /// Index of the block in the list; 0 where a single block was checked.
    pub block: u32,
    /// Position, after the forced prefix, of the transaction that comes too late.
    pub position: u32,
    /// Position of the transaction that it should have come before.
    pub earlier_position: u32,
    /// For people, with both hashes and the numbers.
    pub text: String,
}

impl OutOfOrder {
    /// The same in a block of a list.
    #[must_use]
    pub fn in_block(self, block: u32) -> Self {
        Self { block, ..self }
    }
}

impl OrderingPolicy {
    /// The policy of a name and its lane.
    ///
    /// # Errors
    /// When there is no such policy, or `lane_gas` does not fit it: above 0 for `top-of-block`, 0 for all others.
    pub fn parse(name: &str, lane_gas: u64) -> Result<Self, InvalidOrdering> {
        let policy = match name {
            "free" => Self::Free,
            "priority-fee" => Self::PriorityFee,
            "fcfs" => Self::FirstComeFirstServed,
            "top-of-block" if lane_gas == 0 => return Err(InvalidOrdering::EmptyLane),
            "top-of-block" => Self::TopOfBlock { lane_gas },
            other => return Err(InvalidOrdering::UnknownName(other.to_owned())),
        };
        if policy.lane_gas() == lane_gas {
            Ok(policy)
        } else {
            Err(InvalidOrdering::LaneWithoutNeed { name: policy.name(), lane_gas })
        }
    }

    /// Its name: `free`, `priority-fee`, `fcfs` or `top-of-block`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::PriorityFee => "priority-fee",
            Self::FirstComeFirstServed => "fcfs",
            Self::TopOfBlock { .. } => "top-of-block",
        }
    }

    /// Gas of its free lane; 0 where it has none.
    pub const fn lane_gas(&self) -> u64 {
        match self {
            Self::TopOfBlock { lane_gas } => *lane_gas,
            Self::Free | Self::PriorityFee | Self::FirstComeFirstServed => 0,
        }
    }

    /// Whether the listed transactions of one block stand in an order that the policy allows.
    ///
    /// # Errors
    /// Names the first transaction that others were put before although they may not be.
    pub fn check(&self, block: &[OrderedTx]) -> Result<(), OutOfOrder> {
        match self {
            Self::Free => Ok(()),
            Self::PriorityFee => by_priority_fee(block),
            Self::FirstComeFirstServed => by_arrival(block, 0),
            Self::TopOfBlock { lane_gas } => by_arrival(block, lane_length(block, *lane_gas)),
        }
    }

    /// The positions at which a transaction could come into a block that is in order so that it still is, in rising order. They
    /// lie behind its sender's last transaction in the block, because that has a lower nonce, and not in the free lane, which
    /// may be full.
    pub fn places(&self, block: &[OrderedTx], tx: &OrderedTx) -> Vec<usize> {
        let behind_own = block.iter().rposition(|other| other.sender == tx.sender).map_or(0, |last| last + 1);
        match self {
            Self::Free => (behind_own..=block.len()).collect(),
            Self::PriorityFee => places_by_tip(block, tx, behind_own),
            Self::FirstComeFirstServed => places_by_arrival(block, tx, behind_own, 0),
            Self::TopOfBlock { lane_gas } => places_by_arrival(block, tx, behind_own, lane_length(block, *lane_gas)),
        }
    }
}

/// How many transactions of a block are in its free lane.
fn lane_length(block: &[OrderedTx], lane_gas: u64) -> usize {
    let mut left = lane_gas;
    block
        .iter()
        .take_while(|tx| match left.checked_sub(tx.gas_limit) {
            Some(rest) => {
                left = rest;
                true
            }
            None => false,
        })
        .count()
}

/// Checks from the end, where the heads of all accounts still to come are known, and keeps what it found last: the first
/// position that is wrong.
fn by_priority_fee(block: &[OrderedTx]) -> Result<(), OutOfOrder> {
    // The next transaction of every sender behind the position: by sender, and by tip and sender.
    let mut heads: BTreeMap<Address, (u128, usize)> = BTreeMap::new();
    let mut tips: BTreeSet<(u128, Address)> = BTreeSet::new();
    let mut wrong = None;
    for (position, tx) in block.iter().enumerate().rev() {
        let best = tips.iter().rev().find(|(_, sender)| *sender != tx.sender);
        if let Some((tip, sender)) = best.filter(|(tip, _)| *tip > tx.tip)
            && let Some((_, late)) = heads.get(sender)
        {
            wrong = Some((position, *late, *tip));
        }
        if let Some((old, _)) = heads.insert(tx.sender, (tx.tip, position)) {
            tips.remove(&(old, tx.sender));
        }
        tips.insert((tx.tip, tx.sender));
    }
    let Some((position, late, tip)) = wrong else { return Ok(()) };
    Err(out_of_order(block, late, position, |tx, before| {
        format!("{} pays {tip} wei per gas, {} before it pays {}", tx.hash, before.hash, before.tip)
    }))
}

/// Everything between its sender's last transaction and it tips at least as much, and so does it compared with the next
/// transactions of all others behind it.
fn places_by_tip(block: &[OrderedTx], tx: &OrderedTx, behind_own: usize) -> Vec<usize> {
    let mut heads: BTreeMap<Address, u128> = BTreeMap::new();
    let mut tips: BTreeSet<(u128, Address)> = BTreeSet::new();
    // The best of the next transactions of all others, from the end of the block back to its sender's last one.
    let mut best = vec![0];
    for other in block.iter().skip(behind_own).rev() {
        if let Some(old) = heads.insert(other.sender, other.tip) {
            tips.remove(&(old, other.sender));
        }
        tips.insert((other.tip, other.sender));
        best.push(tips.last().map_or(0, |(tip, _)| *tip));
    }
    let better = block.iter().skip(behind_own).take_while(|other| other.tip >= tx.tip).count();
    let open = best.iter().rev().zip(behind_own..).take(better + 1);
    open.filter(|(best, _)| **best <= tx.tip).map(|(_, place)| place).collect()
}

/// Outside of the lane arrivals never fall, so what arrived with it stands together.
fn places_by_arrival(block: &[OrderedTx], tx: &OrderedTx, behind_own: usize, lane: usize) -> Vec<usize> {
    let mut senders: BTreeMap<Address, u64> = BTreeMap::new();
    let mut arrivals = Vec::with_capacity(block.len());
    for other in block.iter().skip(lane) {
        let own = senders.entry(other.sender).or_default();
        *own = (*own).max(other.arrival_ms.unwrap_or(u64::MAX));
        arrivals.push(*own);
    }
    let own = senders.get(&tx.sender).copied().unwrap_or_default();
    let arrival = own.max(tx.arrival_ms.unwrap_or(u64::MAX));
    let first = lane + arrivals.partition_point(|other| *other < arrival);
    let last = lane + arrivals.partition_point(|other| *other <= arrival);
    (first.max(behind_own)..=last).collect()
}

fn by_arrival(block: &[OrderedTx], lane: usize) -> Result<(), OutOfOrder> {
    let mut senders: BTreeMap<Address, u64> = BTreeMap::new();
    // The latest arrival so far, and where it first was.
    let mut latest: Option<(u64, usize)> = None;
    for (position, tx) in block.iter().enumerate().skip(lane) {
        let own = senders.entry(tx.sender).or_default();
        *own = (*own).max(tx.arrival_ms.unwrap_or(u64::MAX));
        let arrival = *own;
        match latest {
            Some((before, earlier)) if before > arrival => {
                return Err(out_of_order(block, position, earlier, |tx, other| {
                    format!("{} arrived at {arrival}, {} before it {}", tx.hash, other.hash, arrived(before))
                }));
            }
            Some((before, _)) if before == arrival => {}
            _ => latest = Some((arrival, position)),
        }
    }
    Ok(())
}

fn arrived(at: u64) -> String {
    if at == u64::MAX { "was not seen by the sequencer".to_owned() } else { format!("at {at}") }
}

fn out_of_order(
    block: &[OrderedTx],
    position: usize,
    earlier: usize,
    text: impl FnOnce(&OrderedTx, &OrderedTx) -> String,
) -> OutOfOrder {
    let text = match (block.get(position), block.get(earlier)) {
        (Some(tx), Some(before)) => text(tx, before),
        _ => String::new(),
    };
    let number = |position: usize| u32::try_from(position).unwrap_or(u32::MAX);
    OutOfOrder { block: 0, position: number(position), earlier_position: number(earlier), text }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A transaction of a sender: tip, gas limit and arrival.
    fn tx(sender: u8, tip: u128, gas_limit: u64, arrival_ms: Option<u64>) -> OrderedTx {
        OrderedTx { hash: B256::repeat_byte(sender), sender: Address::repeat_byte(sender), tip, gas_limit, arrival_ms }
    }

    fn paying(sender: u8, tip: u128) -> OrderedTx {
        tx(sender, tip, 21_000, None)
    }

    fn arriving(sender: u8, at: u64) -> OrderedTx {
        tx(sender, 0, 21_000, Some(at))
    }

    fn unseen(sender: u8) -> OrderedTx {
        tx(sender, 0, 21_000, None)
    }

    /// (position, earlier position) of what is wrong.
    fn wrong(policy: OrderingPolicy, block: &[OrderedTx]) -> Option<(u32, u32)> {
        policy.check(block).err().map(|error| (error.position, error.earlier_position))
    }

    #[test]
    fn names_make_policies_and_back() {
        for (name, lane_gas) in [("free", 0), ("priority-fee", 0), ("fcfs", 0), ("top-of-block", 1_000_000)] {
            let policy = OrderingPolicy::parse(name, lane_gas).unwrap();
            assert_eq!((policy.name(), policy.lane_gas()), (name, lane_gas));
        }
        assert_eq!(OrderingPolicy::parse("lifo", 0), Err(InvalidOrdering::UnknownName("lifo".to_owned())));
        assert_eq!(OrderingPolicy::parse("top-of-block", 0), Err(InvalidOrdering::EmptyLane));
        assert_eq!(OrderingPolicy::parse("fcfs", 7), Err(InvalidOrdering::LaneWithoutNeed { name: "fcfs", lane_gas: 7 }));
    }

    #[test]
    fn free_allows_everything() {
        assert_eq!(OrderingPolicy::Free.check(&[paying(1, 1), paying(2, 9), arriving(3, 5), arriving(4, 1)]), Ok(()));
    }

    #[test]
    fn priority_fee_goes_by_account_heads() {
        let policy = OrderingPolicy::PriorityFee;
        assert_eq!(wrong(policy, &[]), None);
        assert_eq!(wrong(policy, &[paying(1, 5), paying(2, 5), paying(3, 1)]), None, "ties are free");
        // What the second of sender 1 pays counts only once the first is out.
        assert_eq!(wrong(policy, &[paying(2, 3), paying(1, 1), paying(1, 9), paying(3, 1)]), None);
        assert_eq!(wrong(policy, &[paying(1, 1), paying(1, 9), paying(2, 3)]), Some((2, 0)), "its own 9 excuses no 1 before 3");
        assert_eq!(wrong(policy, &[paying(2, 3), paying(1, 1), paying(3, 1), paying(1, 9)]), Some((3, 2)));
        assert_eq!(wrong(policy, &[paying(1, 5), paying(2, 6)]), Some((1, 0)));
        assert_eq!(wrong(policy, &[paying(1, 5), paying(2, 2), paying(3, 4), paying(4, 9)]), Some((3, 0)), "the first is named");
    }

    #[test]
    fn first_come_is_first_served_and_the_unseen_come_last() {
        let policy = OrderingPolicy::FirstComeFirstServed;
        assert_eq!(wrong(policy, &[arriving(1, 5), arriving(2, 5), arriving(3, 6), unseen(4), unseen(5)]), None);
        assert_eq!(wrong(policy, &[arriving(1, 5), arriving(2, 6), arriving(3, 5)]), Some((2, 1)));
        assert_eq!(wrong(policy, &[unseen(1), arriving(2, 5)]), Some((1, 0)));
        let error = policy.check(&[unseen(1), arriving(2, 5)]).unwrap_err();
        assert!(error.text.contains("was not seen"), "{error}");
        assert_eq!(error.in_block(3).block, 3);
    }

    #[test]
    fn a_nonce_does_not_arrive_before_the_one_before_it() {
        let policy = OrderingPolicy::FirstComeFirstServed;
        // The second of sender 1 came in at 3, but could not be served before the first, which came at 5.
        assert_eq!(wrong(policy, &[arriving(2, 4), arriving(1, 5), arriving(1, 3), arriving(3, 6)]), None);
        assert_eq!(wrong(policy, &[arriving(1, 5), arriving(1, 3), arriving(2, 4)]), Some((2, 0)));
    }

    #[test]
    fn the_places_of_a_transaction_are_those_that_leave_the_block_in_order() {
        let pays = [(1, Some(1)), (2, Some(2)), (3, None)];
        let all = [1_u8, 2, 3].into_iter().flat_map(|sender| pays.map(|(tip, at)| tx(sender, tip, 21_000, at)));
        let all: Vec<OrderedTx> = all.collect();
        let mut blocks: Vec<[OrderedTx; 3]> = Vec::new();
        for first in &all {
            for second in &all {
                blocks.extend(all.iter().map(|third| [*first, *second, *third]));
            }
        }
        for policy in [OrderingPolicy::Free, OrderingPolicy::PriorityFee, OrderingPolicy::FirstComeFirstServed] {
            for block in blocks.iter().filter(|block| policy.check(*block).is_ok()) {
                for new in &all {
                    let behind_own = block.iter().rposition(|other| other.sender == new.sender).map_or(0, |last| last + 1);
                    let fits = |place: &usize| {
                        let mut with = block.to_vec();
                        with.insert(*place, *new);
                        policy.check(&with).is_ok()
                    };
                    let expected: Vec<usize> = (behind_own..=block.len()).filter(fits).collect();
                    assert_eq!(policy.places(block, new), expected, "{policy:?}: {new:?} into {block:?}");
                }
            }
        }
        // The lane is left out, though there is room in it.
        let lane = OrderingPolicy::TopOfBlock { lane_gas: 84_000 };
        assert_eq!(lane.places(&[arriving(1, 9), arriving(2, 8), arriving(3, 7)], &arriving(4, 1)), [3]);
    }

    #[test]
    fn the_lane_is_free_and_what_follows_is_first_come_first_served() {
        let policy = OrderingPolicy::TopOfBlock { lane_gas: 42_000 };
        let rest = [arriving(3, 1), arriving(4, 2)];
        assert_eq!(wrong(policy, &[unseen(1), arriving(2, 9), rest[0], rest[1]]), None);
        assert_eq!(wrong(policy, &[unseen(1), arriving(2, 9), rest[1], rest[0]]), Some((3, 2)));
        // One unit of gas more and the second is outside of the lane.
        let heavy = OrderedTx { gas_limit: 21_001, ..arriving(2, 9) };
        assert_eq!(wrong(policy, &[unseen(1), heavy, rest[0]]), Some((2, 1)));
        // The lane is a prefix: what is too large for it ends it, whatever comes later.
        let large = OrderedTx { gas_limit: 50_000, ..unseen(1) };
        assert_eq!(wrong(policy, &[large, rest[0]]), Some((1, 0)));
    }
}

//! What bidders could have paid the sellers together.

use std::collections::BTreeMap;

use alloy_primitives::{Address, U256};
use lockstep_primitives::{ChainId, RollupSet};

use crate::{
    AcceptedBid, Sale,
    winner::{self, Package},
};

/// Up to how many rollups that are tied together coalitions are looked at.
const MAX_ROLLUPS: usize = 20;

/// Who wins something of what is tied together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Winner {
    pub(super) bidder: Address,
    /// What its winning offers are above the reserves.
    pub(super) surplus: U256,
}

/// A coalition that would have paid the sellers more: it keeps what winners outside of it must pay at the least for it not to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blocking {
    /// The winners outside of it, one bit each.
    pub(super) payers: u64,
    /// Beyond the reserves, together.
    pub(super) at_least: U256,
}

/// What the losers alone, and each winner's offers. Tables say, for each set of rollups, the most that can be had of it beyond the
/// reserves.
#[derive(Debug)]
pub(super) struct Coalitions<'a> {
    winners: &'a [Winner],
    /// What losers would pay.
    losers: Vec<U256>,
    /// Each winner's packages, in groups of which at most one can be had.
    offers: Vec<Vec<Vec<Package>>>,
}

/// What is had of a set of rollups, and with the help of which winners.
#[derive(Clone, Copy, Debug, Default)]
struct Had {
    value: U256,
    helpers: u64,
}

impl<'a> Coalitions<'a> {
    /// `None` when there are too many rollups, winners or offers.
    pub(super) fn new(
        sale: &Sale,
        bids: &[AcceptedBid],
        floors: &BTreeMap<ChainId, U256>,
        component: &RollupSet,
        winners: &'a [Winner],
        work: &mut u64,
    ) -> Option<Self> {
        if component.len() > MAX_ROLLUPS || winners.len() > MAX_ROLLUPS {
            return None;
        }
        let mut by_bidder = winner::packages_by_bidder(sale, bids, floors, component);
        let offers = winners.iter().map(|winner| by_bidder.remove(&winner.bidder).unwrap_or_default()).collect();
        let mut losers = vec![U256::ZERO; 1 << component.len()];
        add(&mut losers, &pooled(by_bidder.into_values().flatten()), |value, surplus| value.saturating_add(surplus), work)?;
        Some(Self { winners, losers, offers })
    }

    /// The most that can be had beyond the reserves without one of the winners.
    pub(super) fn value_without(&self, absent: usize, work: &mut u64) -> Option<U256> {
        let mut table = self.losers.clone();
        for (_, groups) in self.offers.iter().enumerate().filter(|(index, _)| *index != absent) {
            add(&mut table, groups, |value, surplus| value.saturating_add(surplus), work)?;
        }
        table.last().copied()
    }

    /// The coalition that would have bettered these payments the most, if one would; `None` when it takes too much work.
    ///
    /// A winner helps when it keeps what it gains now: that much of what its offers bring is not for the sellers.
    #[expect(clippy::option_option, reason = "no answer is not the answer that there is none")]
    pub(super) fn blocking(&self, payments: &[U256], work: &mut u64) -> Option<Option<Blocking>> {
        let mut table: Vec<Had> = self.losers.iter().map(|value| Had { value: *value, helpers: 0 }).collect();
        for (index, (groups, winner)) in self.offers.iter().zip(self.winners).enumerate() {
            let gain = winner.surplus.saturating_sub(payments.get(index).copied().unwrap_or_default());
            let mut helped = table.clone();
            add(&mut helped, groups, |had, surplus| Had { value: had.value.saturating_add(surplus), ..had }, work)?;
            for (had, helped) in table.iter_mut().zip(helped) {
                if let Some(value) = helped.value.checked_sub(gain).filter(|value| *value > had.value) {
                    *had = Had { value, helpers: helped.helpers | 1 << index };
                }
            }
        }
        let best = table.last().copied().unwrap_or_default();
        let paid = |of: u64| {
            let of = payments.iter().enumerate().filter(|(index, _)| of >> index & 1 == 1);
            of.fold(U256::ZERO, |sum, (_, payment)| sum.saturating_add(*payment))
        };
        let everybody = (1_u64 << self.winners.len()) - 1;
        if best.value <= paid(everybody) {
            return Some(None);
        }
        let at_least = best.value.saturating_sub(paid(best.helpers));
        Some(Some(Blocking { payers: everybody & !best.helpers, at_least }))
    }
}

/// What losers offer together. Of what they offer without tying it to something else only the best for each set of rollups counts:
/// two of them overlap, whoever made them.
fn pooled(groups: impl Iterator<Item = Vec<Package>>) -> Vec<Vec<Package>> {
    let mut best: BTreeMap<usize, Package> = BTreeMap::new();
    let mut tied = Vec::new();
    for group in groups {
        match group.as_slice() {
            [package] => {
                let known = best.entry(package.rollups).or_insert(*package);
                if package.surplus > known.surplus {
                    *known = *package;
                }
            }
            _ => tied.push(group),
        }
    }
    best.into_values().map(|package| vec![package]).chain(tied).collect()
}

/// A table's entry, by what it is worth.
trait Worth: Copy {
    fn worth(&self) -> U256;
}

impl Worth for U256 {
    fn worth(&self) -> U256 {
        *self
    }
}

impl Worth for Had {
    fn worth(&self) -> U256 {
        self.value
    }
}

/// Adds what a bidder offers to a table: at most one package of each group. `None` when the work is too much.
fn add<T: Worth>(table: &mut [T], groups: &[Vec<Package>], with: impl Fn(T, U256) -> T, work: &mut u64) -> Option<()> {
    for group in groups {
        *work = work.checked_sub((table.len() as u64).saturating_mul(group.len() as u64))?;
        // From the largest set down: what is read is still without this group.
        for set in (0..table.len()).rev() {
            for package in group.iter().filter(|package| package.rollups & !set == 0) {
                let (Some(rest), Some(known)) = (table.get(set ^ package.rollups), table.get(set)) else { continue };
                let extended = with(*rest, package.surplus);
                if extended.worth() > known.worth()
                    && let Some(known) = table.get_mut(set)
                {
                    *known = extended;
                }
            }
        }
    }
    Some(())
}

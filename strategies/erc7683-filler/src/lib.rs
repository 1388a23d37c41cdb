//! Fills signed cross-chain orders and is repaid in the same bundle.
//!
//! An order (ERC-7683 as settlers were deployed with, 2024 to January 2025) gives tokens on one rollup for tokens on another. Who
//! fills it usually pays first and waits for the message that repays. Here opening, filling and the delivery of that message are
//! one bundle over both rollups: the filler's inventory is used and restored in one step, or nothing happens.

pub mod abi;
mod fill;
mod order;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use alloy_primitives::{Address, I256, U256};
use lockstep_building::{BuildError, Lanes, Strategy, StrategyView, open_lanes};
use lockstep_primitives::{Bundle, ChainId, Price, RollupSet};

pub use fill::{Filled, Refusal, fill};
pub use order::{InvalidOrder, Order};

use fill::{marks, rewind};

/// The most orders that are simulated for a slot. Those behind them in [`Filler::orders`] wait until some of them are done.
pub const MAX_SIMULATED: usize = 256;

/// The settlers on one rollup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlers {
    /// Where orders are opened.
    pub origin: Address,
    /// Where orders are filled.
    pub destination: Address,
}

/// What is filled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The settlers that are trusted, by rollup. Orders of others are left alone.
    pub settlers: BTreeMap<ChainId, Settlers>,
    /// What 10^18 of the smallest units of a token are worth, in the numeraire's smallest unit. A token that is not here is
    /// neither taken nor given.
    pub prices: BTreeMap<(ChainId, Address), Price>,
    /// What of a token stays in the account, in its smallest unit.
    pub floors: BTreeMap<(ChainId, Address), U256>,
    /// The least that a fill has to gain, gas and payments included, in the numeraire's smallest unit.
    pub min_profit: U256,
    /// The most orders that are filled in one slot.
    pub max_fills: usize,
}

/// The strategy.
#[derive(Clone, Debug, Default)]
pub struct Filler {
    /// The orders that it knows. Of equal ones the earlier is filled first, and of more than [`MAX_SIMULATED`] the later wait.
    pub orders: Vec<Order>,
    /// What of them is filled.
    pub rules: Rules,
}

impl Strategy for Filler {
    fn name(&self) -> &'static str {
        "erc7683-filler"
    }

    fn bundles(&self, view: &StrategyView<'_>) -> Result<Vec<Bundle>, BuildError> {
        let rollups: RollupSet =
            self.rules.settlers.keys().copied().filter(|chain| view.slot.rollups.contains_key(chain)).collect();
        let mut lanes = open_lanes(view.slot, &rollups)?;
        let (mut bundles, mut reports) = (Vec::new(), BTreeSet::new());
        for order in self.worthwhile(view, &mut lanes)? {
            if bundles.len() >= self.rules.max_fills {
                break;
            }
            let marks = marks(&lanes);
            // Again, on what the ones before it left of inventory and nonces.
            let Ok(filled) = fill(view, &self.rules, order, &mut lanes)? else { continue };
            reports.insert(filled.report);
            if circular(&reports, &view.slot.policy.trusted) {
                // Building would leave it out, and with it all that go on with its nonces.
                reports.remove(&filled.report);
                rewind(&mut lanes, &marks);
                continue;
            }
            bundles.push(filled.bundle);
        }
        Ok(bundles)
    }
}

impl Filler {
    /// The orders that can be filled, each alone, the one that gains most first. The blocks are afterwards as they were.
    fn worthwhile(&self, view: &StrategyView<'_>, lanes: &mut Lanes) -> Result<Vec<&Order>, BuildError> {
        let mut found: Vec<(I256, &Order)> = Vec::new();
        let mut simulated = 0;
        for order in &self.orders {
            if simulated >= MAX_SIMULATED {
                break;
            }
            let marks = marks(lanes);
            match fill(view, &self.rules, order, lanes)? {
                Ok(filled) => {
                    rewind(lanes, &marks);
                    found.push((filled.gain, order));
                    simulated += 1;
                }
                Err(refusal) => simulated += usize::from(refusal.simulated()),
            }
        }
        // Stable: among equals the earlier one stays first.
        found.sort_by_key(|(gain, _)| Reverse(*gain));
        Ok(found.into_iter().map(|(_, order)| order).collect())
    }
}

/// Whether messages go in a circle through rollups that are not all trusted: building takes no such bundles together.
fn circular(reports: &BTreeSet<(ChainId, ChainId)>, trusted: &RollupSet) -> bool {
    reports.iter().any(|(from, to)| !(trusted.contains(from) && trusted.contains(to)) && reaches(reports, *to, *from))
}

/// Whether messages get from one rollup to another.
fn reaches(reports: &BTreeSet<(ChainId, ChainId)>, from: ChainId, to: ChainId) -> bool {
    let mut seen = BTreeSet::from([from]);
    let mut open = vec![from];
    while let Some(chain) = open.pop() {
        if chain == to {
            return true;
        }
        for (_, next) in reports.range((chain, ChainId::MIN)..=(chain, ChainId::MAX)) {
            if seen.insert(*next) {
                open.push(*next);
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_in_a_circle_need_trust_in_all_of_it() {
        let row = BTreeSet::from([(1, 2), (2, 3), (1, 3)]);
        assert!(!circular(&row, &RollupSet::new()), "a row is no circle");
        let circle = BTreeSet::from([(1, 2), (2, 3), (3, 1)]);
        assert!(circular(&circle, &RollupSet::new()));
        assert!(circular(&circle, &RollupSet::from([1, 2])), "one of the three is not trusted");
        assert!(!circular(&circle, &RollupSet::from([1, 2, 3])));
    }
}

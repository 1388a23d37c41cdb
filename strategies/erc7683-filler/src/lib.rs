//! Fills signed cross-chain orders and is repaid in the same bundle.
//!
//! An order (ERC-7683 as settlers were deployed with, 2024 to January 2025) gives tokens on one rollup for tokens on another. Who
//! fills it usually pays first and waits for the message that repays. Here opening, filling and the delivery of that message are
//! one bundle over both rollups: the filler's inventory is used and restored in one step, or nothing happens.

pub mod abi;
mod fill;
mod order;

use std::collections::BTreeMap;

use alloy_primitives::{Address, U256};
use lockstep_building::{BuildError, Strategy, StrategyView, open_lanes};
use lockstep_primitives::{Bundle, ChainId, Price, RollupSet};

pub use fill::{Refusal, fill};
pub use order::{InvalidOrder, Order};

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
    /// The orders that it knows, in the order in which they are tried.
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
        let mut bundles = Vec::new();
        for order in &self.orders {
            if bundles.len() >= self.rules.max_fills {
                break;
            }
            // Each on what the ones before it left of inventory and nonces.
            if let Ok(bundle) = fill(view, &self.rules, order, &mut lanes)? {
                bundles.push(bundle);
            }
        }
        Ok(bundles)
    }
}

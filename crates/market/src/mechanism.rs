//! Mechanisms: how the offers for a slot become an allocation and payments.
//!
//! Whatever the mechanism, these hold, and the property tests of each demand them: no rollup is sold twice; of a bidder's offers
//! with one tag at most one wins; every seller of what is sold gets at least its reserve, and of a package at least what the single
//! sale that the package displaces would have paid it under the same mechanism; nobody pays more than it offered; what sellers get
//! sums to what winners pay; the outcome is the same for the same offers in any order.

mod combinatorial;
mod core_selecting;
mod first_price;
mod lottery;
mod matching;
mod posted;
mod second_price;
mod single;

pub use combinatorial::Combinatorial;
pub use core_selecting::CoreSelecting;
pub use first_price::FirstPrice;
pub use lottery::Lottery;
pub use posted::PostedPrice;
pub use second_price::SecondPrice;

use std::{collections::BTreeMap, fmt};

use alloy_primitives::{Address, B256, U256};
use lockstep_primitives::{ChainId, RollupSet};

use crate::{AcceptedBid, Sale};

/// An offer that won, and what its bidder owes to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Win {
    /// Digest of the offer.
    pub bid: B256,
    /// Who proposes.
    pub bidder: Address,
    /// Where.
    pub rollups: RollupSet,
    /// What the bidder owes, in the numeraire's smallest unit.
    pub price: U256,
    /// What each seller gets of it; sums to the price.
    pub shares: BTreeMap<ChainId, U256>,
}

/// What a mechanism decided. Rollups that are in no win are not sold: their default proposers build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clearing {
    /// The wins, by their lowest rollup.
    pub wins: Vec<Win>,
    /// By how much, in the numeraire's smallest unit, the surplus over the reserves may be below the greatest there is. Zero where
    /// the search was complete, or the mechanism looks for no greatest surplus.
    pub gap: U256,
    /// Rollups whose winners pay what they bid, although the mechanism would have them pay less if that could be computed in time.
    pub as_bid: RollupSet,
}

impl Clearing {
    /// A decision, its wins put in order.
    pub(crate) fn new(mut wins: Vec<Win>, gap: U256) -> Self {
        wins.sort_by_key(|win| win.rollups.first().copied());
        Self { wins, gap, as_bid: RollupSet::new() }
    }
}

/// A way to sell.
pub trait Mechanism: fmt::Debug + Send + Sync {
    /// What configurations and answers call it.
    fn name(&self) -> &'static str;

    /// Decides. `offers` are ordered by digest; those that the sale does not allow ([`Sale::surplus`]) are ignored. `seed` is what
    /// draws are made with: nobody may know it before the offers are fixed. Mechanisms that draw nothing do not look at it.
    fn clear(&self, sale: &Sale, offers: &[AcceptedBid], seed: B256) -> Clearing;
}

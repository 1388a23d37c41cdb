//! The combinatorial auction: bids for packages, winners determined exactly.

use alloy_primitives::B256;
use lockstep_primitives::ChainId;

use super::{Clearing, Mechanism, Win};
use crate::{AcceptedBid, MAX_SEARCH_NODES, Sale, floors, split, winner};

/// Sells packages to the bids with the greatest surplus over the reserves together, each at what it offers. A package must pay
/// each of its sellers at least what the best bid for that seller's unit alone would have paid it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Combinatorial;

impl Mechanism for Combinatorial {
    fn name(&self) -> &'static str {
        "combinatorial"
    }

    fn clear(&self, sale: &Sale, offers: &[AcceptedBid], _seed: B256) -> Clearing {
        let floors = floors(sale, offers);
        let choice = winner::solve(sale, offers, &floors, MAX_SEARCH_NODES);
        let due = |chain: &ChainId| Some((*chain, *floors.get(chain)?));
        let mut wins: Vec<Win> = Vec::with_capacity(choice.winners.len());
        for AcceptedBid { bidder, bid, digest } in choice.winners.iter().filter_map(|winner| offers.get(*winner)) {
            // What is sold by itself displaces no other sale: its sellers' due is their reserves.
            let sellers: Vec<_> = match sale.units().is_unit(&bid.rollups) {
                true => sale.reserves(&bid.rollups),
                false => bid.rollups.iter().filter_map(due).collect(),
            };
            let (rollups, price) = (bid.rollups.clone(), bid.amount);
            wins.push(Win { bid: *digest, bidder: *bidder, rollups, price, shares: split(price, &sellers) });
        }
        wins.sort_by_key(|win| win.rollups.first().copied());
        Clearing { wins, gap: choice.gap }
    }
}

//! The combinatorial auction: bids for packages, winners determined exactly.

use alloy_primitives::B256;

use super::{Clearing, Mechanism, Win};
use crate::{AcceptedBid, MAX_SEARCH_NODES, Sale, Sharing, floors, winner};

/// Sells packages to the bids with the greatest surplus over the reserves together, each at what it offers. A package must pay
/// each of its sellers at least what the best bid for that seller's unit alone would have paid it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Combinatorial {
    /// How sellers share a package's price.
    pub sharing: Sharing,
}

impl Mechanism for Combinatorial {
    fn name(&self) -> &'static str {
        "combinatorial"
    }

    fn clear(&self, sale: &Sale, offers: &[AcceptedBid], _seed: B256) -> Clearing {
        let floors = floors(sale, offers);
        let choice = winner::solve(sale, offers, &floors, MAX_SEARCH_NODES);
        let winners = choice.winners.iter().filter_map(|winner| offers.get(*winner));
        let wins = winners.map(|AcceptedBid { bidder, bid, digest }| {
            let shares = self.sharing.share(bid.amount, &bid.rollups, &floors, sale, offers);
            Win { bid: *digest, bidder: *bidder, rollups: bid.rollups.clone(), price: bid.amount, shares }
        });
        Clearing::new(wins.collect(), choice.gap)
    }
}

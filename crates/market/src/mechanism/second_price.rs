//! The sealed second-price auction: the winner of a rollup pays what the best offer of another bidder is.

use alloy_primitives::{B256, U256};

use super::{
    Clearing, Mechanism,
    single::{Singles, win},
};
use crate::{AcceptedBid, Sale};

/// Sells each rollup by itself to the greatest offer, at the greatest offer of another bidder or the reserve, whichever is more
/// (Vickrey, 1961, "Counterspeculation, Auctions, and Competitive Sealed Tenders"). A lone bidder pays the reserve. Ties go by
/// [`tie_break`](crate::tie_break), and then the price is what both offer. So Timeboost sells a round of its express lane.
///
/// Offers for more than one rollup are ignored. Without tags, nobody can do better than to offer what a rollup is worth to it,
/// whatever the others do, because its own offers decide whether it wins but never what it pays.
///
/// With tags, those offers win whose surplus over the reserves is the greatest together. The price is then the greatest offer
/// that another bidder still would take the rollup for: an offer whose tag has won another rollup is withdrawn and sets no price.
/// Were an offer that stands greater than the winner's, exchanging them would be better, so no price is above the winner's offer.
/// What tags cost is the promise above: where a tag is, it may pay not to offer what a rollup is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SecondPrice;

impl Mechanism for SecondPrice {
    fn name(&self) -> &'static str {
        "second-price"
    }

    fn clear(&self, sale: &Sale, offers: &[AcceptedBid], _seed: B256) -> Clearing {
        let singles = Singles::assign(sale, offers);
        let mut wins = Vec::new();
        for (chain, offer) in singles.winners() {
            // A rival is an allowed offer, so it is no less than the reserve.
            let rival = singles.rival(chain, offer.bidder).map(|rival| rival.bid.amount);
            wins.push(win(sale, offer, rival.unwrap_or_else(|| sale.reserve(&offer.bid.rollups))));
        }
        Clearing::new(wins, U256::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use alloy_primitives::Address;
    use lockstep_primitives::{Bid, ChainId};

    use super::*;
    use crate::{Terms, tie_break};

    fn sale(reserves: &[u64]) -> Sale {
        let terms = |reserve: &u64| Terms { reserve: U256::from(*reserve), default_proposer: Address::ZERO };
        Sale::new(7, (1..).zip(reserves.iter().map(terms)).collect::<BTreeMap<ChainId, Terms>>()).unwrap()
    }

    fn offer(bidder: u8, rollups: &[ChainId], amount: u64, tag: &str) -> AcceptedBid {
        let exclusive = (!tag.is_empty()).then(|| tag.to_owned());
        let bid = Bid { slot: 7, rollups: rollups.iter().copied().collect(), amount: U256::from(amount), exclusive, nonce: 1 };
        AcceptedBid::new(Address::with_last_byte(bidder), bid)
    }

    /// Bidder, rollup, price of each win.
    fn won(sale: &Sale, offers: &[AcceptedBid]) -> Vec<(u8, ChainId, u64)> {
        let clearing = SecondPrice.clear(sale, offers, B256::ZERO);
        assert_eq!(clearing.gap, U256::ZERO);
        let win = |win: &crate::Win| (win.bidder[19], *win.rollups.first().unwrap(), win.price.to::<u64>());
        clearing.wins.iter().map(win).collect()
    }

    #[test]
    fn the_winner_pays_the_second_greatest_offer() {
        let offers = [offer(1, &[1], 10, ""), offer(2, &[1], 12, ""), offer(3, &[1], 7, "")];
        assert_eq!(won(&sale(&[5]), &offers), [(2, 1, 10)]);
    }

    #[test]
    fn a_lone_bidder_pays_the_reserve() {
        assert_eq!(won(&sale(&[5]), &[offer(1, &[1], 100, "")]), [(1, 1, 5)]);
        // Neither an offer below the reserve nor one for more rollups is company.
        let others = [offer(2, &[1], 4, ""), offer(3, &[1, 2], 90, "")];
        assert_eq!(won(&sale(&[5, 0]), &[&[offer(1, &[1], 100, "")][..], &others[..]].concat()), [(1, 1, 5)]);
    }

    #[test]
    fn nobody_sets_its_own_price() {
        let offers = [offer(1, &[1], 10, ""), offer(1, &[1], 9, "a"), offer(1, &[1], 8, "b"), offer(2, &[1], 6, "")];
        assert_eq!(won(&sale(&[5]), &offers), [(1, 1, 6)]);
    }

    #[test]
    fn of_equal_offers_the_one_with_the_greater_hash_wins_at_what_both_say() {
        for amount in 5..25 {
            let offers = [offer(1, &[1], amount, ""), offer(2, &[1], amount, "")];
            let best = offers.iter().max_by_key(|offer| tie_break(offer.bidder, offer.digest)).unwrap();
            assert_eq!(won(&sale(&[5]), &offers), [(best.bidder[19], 1, amount)]);
        }
    }

    #[test]
    fn an_offer_whose_tag_has_won_elsewhere_sets_no_price() {
        // Bidder 1 wins the second rollup, so bidder 2 competes for the first with bidder 3 alone.
        let offers = [offer(1, &[1], 20, "one"), offer(1, &[2], 18, "one"), offer(2, &[1], 15, ""), offer(3, &[1], 9, "")];
        assert_eq!(won(&sale(&[0, 2]), &offers), [(2, 1, 9), (1, 2, 2)]);
    }
}

//! The sealed first-price auction: the winner of a rollup pays what it offered.

use alloy_primitives::{B256, U256};

use super::{
    Clearing, Mechanism,
    single::{Singles, win},
};
use crate::{AcceptedBid, Sale};

/// Sells each rollup by itself to the greatest offer, at what it offers. Ties go by [`tie_break`](crate::tie_break).
///
/// Offers for more than one rollup are ignored. With tags, those offers win whose surplus over the reserves is the greatest
/// together: a bidder that tags its offers for several rollups gets the one where that is best, which need not be the one for
/// which it offers most. A bidder does best to offer less than the rollup is worth to it, and how much less depends on the others
/// (Vickrey, 1961, "Counterspeculation, Auctions, and Competitive Sealed Tenders").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FirstPrice;

impl Mechanism for FirstPrice {
    fn name(&self) -> &'static str {
        "first-price"
    }

    fn clear(&self, sale: &Sale, offers: &[AcceptedBid], _seed: B256) -> Clearing {
        let singles = Singles::assign(sale, offers);
        let wins = singles.winners().map(|(_, offer)| win(sale, offer, offer.bid.amount)).collect();
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
        let clearing = FirstPrice.clear(sale, offers, B256::ZERO);
        assert_eq!(clearing.gap, U256::ZERO);
        let win = |win: &crate::Win| (win.bidder[19], *win.rollups.first().unwrap(), win.price.to::<u64>());
        clearing.wins.iter().map(win).collect()
    }

    #[test]
    fn the_greatest_offer_wins_and_pays_what_it_says() {
        let offers = [offer(1, &[1], 10, ""), offer(2, &[1], 12, ""), offer(1, &[2], 7, ""), offer(3, &[2], 4, "")];
        assert_eq!(won(&sale(&[5, 5]), &offers), [(2, 1, 12), (1, 2, 7)]);
    }

    #[test]
    fn an_offer_of_the_reserve_buys_and_one_below_does_not() {
        assert_eq!(won(&sale(&[5, 5]), &[offer(1, &[1], 5, ""), offer(1, &[2], 4, "")]), [(1, 1, 5)]);
    }

    #[test]
    fn offers_for_several_rollups_are_ignored() {
        assert_eq!(won(&sale(&[0, 0]), &[offer(1, &[1, 2], 100, ""), offer(2, &[2], 1, "")]), [(2, 2, 1)]);
    }

    #[test]
    fn a_tagged_bidder_gets_the_rollup_where_the_surplus_is_greatest_in_all() {
        // Bidder 1 offers most for both. It gets the second, for which nobody else offers.
        let offers = [offer(1, &[1], 20, "one"), offer(1, &[2], 18, "one"), offer(2, &[1], 15, "")];
        assert_eq!(won(&sale(&[0, 0]), &offers), [(2, 1, 15), (1, 2, 18)]);
        // Another tag is another wish.
        let offers = [offer(1, &[1], 20, "one"), offer(1, &[2], 18, "two"), offer(2, &[1], 15, "")];
        assert_eq!(won(&sale(&[0, 0]), &offers), [(1, 1, 20), (1, 2, 18)]);
    }

    #[test]
    fn of_equal_offers_the_one_with_the_greater_hash_wins() {
        for amount in 1..20 {
            let offers = [offer(1, &[1], amount, ""), offer(2, &[1], amount, "t"), offer(3, &[1], amount, "")];
            let best = offers.iter().max_by_key(|offer| tie_break(offer.bidder, offer.digest)).unwrap();
            assert_eq!(won(&sale(&[0]), &offers), [(best.bidder[19], 1, amount)]);
        }
    }
}

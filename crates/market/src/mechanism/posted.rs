//! The posted price: who offers the reserve may have it at the reserve, and a draw says who comes first.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use alloy_primitives::{Address, B256, U256};
use lockstep_primitives::RollupSet;

use super::{Clearing, Mechanism, Win};
use crate::{AcceptedBid, Draws, Sale};

/// Sells every rollup at its reserve to bidders in a drawn order (the random serial dictatorship of Abdulkadiroglu and Sonmez,
/// 1998, "Random Serial Dictatorship and the Core from Random Endowments in House Allocation Problems").
///
/// The order is drawn from the seed, over bidders and not over offers: neither more offers nor earlier ones bring anybody
/// forward. More keys do; a market that minds asks for a deposit of each. A bidder whose turn it is takes, of its offers whose
/// rollups are all still free, the one that it values most above the reserves, then the next, as far as its tags allow. So what a
/// bidder offers above the reserves says only what it would rather have; it neither costs it anything nor brings it forward.
/// Packages pay the sum of their reserves, which is what each rollup would have been sold for alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PostedPrice;

impl Mechanism for PostedPrice {
    fn name(&self) -> &'static str {
        "posted"
    }

    fn clear(&self, sale: &Sale, offers: &[AcceptedBid], seed: B256) -> Clearing {
        let mut wishes: BTreeMap<Address, Vec<(U256, &AcceptedBid)>> = BTreeMap::new();
        for offer in offers {
            if let Ok(surplus) = sale.surplus(&offer.bid) {
                wishes.entry(offer.bidder).or_default().push((surplus, offer));
            }
        }
        let mut turns: Vec<Vec<(U256, &AcceptedBid)>> = wishes.into_values().collect();
        let mut draws = Draws::new(seed, "turns at posted prices", &sale.slot().to_be_bytes());
        shuffle(&mut turns, &mut draws);

        let mut wins = Vec::new();
        let mut sold = RollupSet::new();
        for mut wishes in turns {
            // Of equally good ones more rollups first, so that a package at the reserve is not broken up by one of its parts.
            wishes.sort_by_key(|(surplus, offer)| (Reverse(*surplus), Reverse(offer.bid.rollups.len()), offer.digest));
            let mut served = BTreeSet::new();
            for (_, offer) in wishes {
                let is_free = offer.bid.rollups.is_disjoint(&sold);
                if is_free && offer.tag().is_none_or(|tag| served.insert(tag)) {
                    sold.extend(&offer.bid.rollups);
                    wins.push(at_the_reserves(sale, offer));
                }
            }
        }
        Clearing::new(wins, U256::ZERO)
    }
}

/// Puts items into a drawn order, each order as likely as any other (Durstenfeld, 1964, "Algorithm 235: Random permutation").
fn shuffle<T>(items: &mut [T], draws: &mut Draws) {
    for last in (1..items.len()).rev() {
        let drawn = draws.below(U256::from(last) + U256::ONE).saturating_to::<usize>();
        items.swap(last, drawn);
    }
}

/// The win of an allowed offer. Its reserves sum to at most its amount, so they do not overflow.
fn at_the_reserves(sale: &Sale, offer: &AcceptedBid) -> Win {
    let rollups = offer.bid.rollups.clone();
    let shares: BTreeMap<_, _> = rollups.iter().filter_map(|chain| Some((*chain, sale.terms().get(chain)?.reserve))).collect();
    let price = shares.values().fold(U256::ZERO, |sum, share| sum + *share);
    Win { bid: offer.digest, bidder: offer.bidder, rollups, price, shares }
}

#[cfg(test)]
mod tests {
    use lockstep_primitives::{Bid, ChainId};

    use super::*;
    use crate::Terms;

    fn sale(reserves: &[u64]) -> Sale {
        let terms = |reserve: &u64| Terms { reserve: U256::from(*reserve), default_proposer: Address::ZERO };
        Sale::new(7, (1..).zip(reserves.iter().map(terms)).collect::<BTreeMap<ChainId, Terms>>()).unwrap()
    }

    fn offer(bidder: u8, rollups: &[ChainId], amount: u64, tag: &str) -> AcceptedBid {
        let exclusive = (!tag.is_empty()).then(|| tag.to_owned());
        let bid = Bid { slot: 7, rollups: rollups.iter().copied().collect(), amount: U256::from(amount), exclusive, nonce: 1 };
        AcceptedBid::new(Address::with_last_byte(bidder), bid)
    }

    /// Bidder, rollups, price of each win.
    fn won(sale: &Sale, offers: &[AcceptedBid], seed: u64) -> Vec<(u8, Vec<ChainId>, u64)> {
        let win = |win: &Win| (win.bidder[19], win.rollups.iter().copied().collect(), win.price.to::<u64>());
        PostedPrice.clear(sale, offers, U256::from(seed).into()).wins.iter().map(win).collect()
    }

    #[test]
    fn who_offers_more_pays_the_reserve_like_everybody() {
        assert_eq!(won(&sale(&[5]), &[offer(1, &[1], 100, "")], 0), [(1, vec![1], 5)]);
        assert_eq!(won(&sale(&[5]), &[offer(1, &[1], 5, "")], 0), [(1, vec![1], 5)]);
        assert!(won(&sale(&[5]), &[offer(1, &[1], 4, "")], 0).is_empty());
    }

    #[test]
    fn a_package_pays_the_sum_of_its_reserves() {
        let clearing = PostedPrice.clear(&sale(&[5, 7]), &[offer(1, &[1, 2], 20, "")], B256::ZERO);
        assert_eq!(clearing.wins[0].price, U256::from(12));
        assert_eq!(clearing.wins[0].shares, BTreeMap::from([(1, U256::from(5)), (2, U256::from(7))]));
    }

    #[test]
    fn a_bidder_takes_what_it_values_most_and_then_what_is_left() {
        // 9 above the reserves for both, 6 for the first.
        let offers = [offer(1, &[1], 6, ""), offer(1, &[1, 2], 9, ""), offer(1, &[3], 1, "")];
        assert_eq!(won(&sale(&[0, 0, 0]), &offers, 0), [(1, vec![1, 2], 0), (1, vec![3], 0)]);
        let tagged = [offer(1, &[1], 6, "t"), offer(1, &[2], 9, "t"), offer(1, &[3], 1, "t")];
        assert_eq!(won(&sale(&[0, 0, 0]), &tagged, 0), [(1, vec![2], 0)]);
    }

    #[test]
    fn a_tag_is_not_used_up_by_an_offer_that_cannot_be_had() {
        // Whoever comes first, bidder 1 ends with the second rollup when bidder 2 has the first.
        let offers = [offer(1, &[1], 6, "t"), offer(1, &[2], 5, "t"), offer(2, &[1], 1, "")];
        let outcomes: BTreeSet<_> = (0..64).map(|seed| won(&sale(&[0, 0]), &offers, seed)).collect();
        assert_eq!(outcomes, BTreeSet::from([vec![(1, vec![1], 0)], vec![(2, vec![1], 0), (1, vec![2], 0)]]));
    }

    #[test]
    fn forty_offers_come_first_no_more_often_than_one() {
        let mut offers: Vec<AcceptedBid> = (0..40).map(|amount| offer(1, &[1], 5 + amount, "")).collect();
        offers.push(offer(2, &[1], 5, ""));
        let first = (0..2_000).filter(|seed| won(&sale(&[5]), &offers, *seed)[0].0 == 1).count();
        assert!((900..1_100).contains(&first), "{first} of 2000");
    }

    #[test]
    fn every_order_of_bidders_comes_about() {
        let wishes = |bidder| [1, 2, 3].map(|chain| offer(bidder, &[chain], 9, "t"));
        let offers: Vec<AcceptedBid> = (1..=3).flat_map(wishes).collect();
        // With a tag each bidder takes one rollup, and all prefer them in the same order: that of the offers' digests.
        let outcomes: BTreeSet<_> = (0..200).map(|seed| won(&sale(&[0, 0, 0]), &offers, seed)).collect();
        assert_eq!(outcomes.len(), 6, "{outcomes:?}");
        let mut places = [[0_u32; 3]; 3];
        for seed in 0..3_000_u64 {
            let mut items = [0_usize, 1, 2];
            shuffle(&mut items, &mut Draws::new(U256::from(seed).into(), "test", &[]));
            for (place, item) in items.into_iter().enumerate() {
                places[place][item] += 1;
            }
        }
        assert!(places.iter().flatten().all(|count| (850..1_150).contains(count)), "{places:?}");
    }
}

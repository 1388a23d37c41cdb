//! The combinatorial lottery: who offers more is more likely to win, and nobody is certain to.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, B256, U256};
use lockstep_primitives::RollupSet;

use super::{Clearing, Mechanism, Win};
use crate::{
    AcceptedBid, Draws, Sale, Sharing,
    draw::{capped, pick},
    floors,
};

/// Draws winners one after the other, each bidder in proportion to the greatest of its offers that are still free, and gives the
/// drawn bidder one of those, in proportion to what it offers. Winners pay what they offered.
///
/// Proportional lotteries sell rights without giving the same bidder all of them, at less revenue than an auction (the contest of
/// Tullock, 1980, "Efficient Rent Seeking"; for block space, execution tickets by Drake and Neuder, 2023). Only a bidder's greatest
/// offer counts for its chances, so many offers bring it no further than one. Many keys do: a market that minds asks for a deposit
/// of each.
///
/// Of each draw nobody has more than `max_share_bps` of the chances, as far as there are enough others: with fewer bidders than that
/// takes, all have the same chance. A package must pay each of its sellers at least what the best offer for that seller's unit alone
/// would have paid it, whoever would have been drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lottery {
    /// The most of the chances that one bidder has, in basis points. From 10000 on there is no cap.
    pub max_share_bps: u64,
    /// How sellers share a package's price.
    pub sharing: Sharing,
}

impl Mechanism for Lottery {
    fn name(&self) -> &'static str {
        "lottery"
    }

    fn clear(&self, sale: &Sale, offers: &[AcceptedBid], seed: B256) -> Clearing {
        let floors = floors(sale, offers);
        let owed =
            |rollups: &RollupSet| rollups.iter().try_fold(U256::ZERO, |sum, chain| sum.checked_add(floors.get(chain).copied()?));
        let mut free: Vec<&AcceptedBid> = offers
            .iter()
            .filter(|offer| sale.surplus(&offer.bid).is_ok())
            .filter(|offer| {
                sale.units().is_unit(&offer.bid.rollups) || owed(&offer.bid.rollups).is_some_and(|owed| offer.bid.amount >= owed)
            })
            .collect();
        let mut draws = Draws::new(seed, "lottery of a slot", &sale.slot().to_be_bytes());
        let mut wins = Vec::new();
        let mut sold = RollupSet::new();
        let mut served: BTreeSet<(Address, &str)> = BTreeSet::new();
        while let Some(offer) = self.draw(&free, &mut draws) {
            sold.extend(&offer.bid.rollups);
            served.extend(offer.tag().map(|tag| (offer.bidder, tag)));
            let (rollups, price) = (offer.bid.rollups.clone(), offer.bid.amount);
            let shares = self.sharing.share(price, &rollups, &floors, sale, offers);
            wins.push(Win { bid: offer.digest, bidder: offer.bidder, rollups, price, shares });
            free.retain(|other| {
                other.bid.rollups.is_disjoint(&sold) && other.tag().is_none_or(|tag| !served.contains(&(other.bidder, tag)))
            });
        }
        Clearing::new(wins, U256::ZERO)
    }
}

impl Lottery {
    /// One of the offers; none of none.
    fn draw<'a>(&self, offers: &[&'a AcceptedBid], draws: &mut Draws) -> Option<&'a AcceptedBid> {
        let mut greatest: BTreeMap<Address, U256> = BTreeMap::new();
        for offer in offers {
            let known = greatest.entry(offer.bidder).or_default();
            *known = offer.bid.amount.max(*known);
        }
        let bidders: Vec<(Address, U256)> = capped(greatest, self.max_share_bps).into_iter().collect();
        let bidder = *pick(&bidders, draws)?;
        let its: Vec<(&'a AcceptedBid, U256)> =
            offers.iter().filter(|offer| offer.bidder == bidder).map(|offer| (*offer, offer.bid.amount)).collect();
        pick(&its, draws).copied()
    }
}

#[cfg(test)]
mod tests {
    use lockstep_primitives::{Bid, ChainId};

    use super::*;
    use crate::Terms;

    fn sale(reserves: &[u64]) -> Sale {
        let terms = |reserve: &u64| Terms { reserve: U256::from(*reserve), default_proposer: Address::ZERO };
        Sale::new(7, (1..).zip(reserves.iter().map(terms)).collect()).unwrap()
    }

    fn offer(bidder: u8, rollups: &[ChainId], amount: u64, tag: &str) -> AcceptedBid {
        let exclusive = (!tag.is_empty()).then(|| tag.to_owned());
        let bid = Bid { slot: 7, rollups: rollups.iter().copied().collect(), amount: U256::from(amount), exclusive, nonce: 1 };
        AcceptedBid::new(Address::with_last_byte(bidder), bid)
    }

    /// How often each bidder wins the first rollup in a thousand draws.
    fn shares(max_share_bps: u64, offers: &[AcceptedBid]) -> BTreeMap<u8, u32> {
        let mut won = BTreeMap::new();
        for seed in 0..1_000_u64 {
            let clearing = Lottery { max_share_bps, sharing: Sharing::Proportional }.clear(
                &sale(&[0]),
                offers,
                B256::from(U256::from(seed)),
            );
            assert_eq!(clearing.wins.len(), 1);
            *won.entry(clearing.wins[0].bidder[19]).or_default() += 1;
        }
        won
    }

    #[test]
    fn chances_are_in_proportion_to_offers() {
        let won = shares(10_000, &[offer(1, &[1], 70, ""), offer(2, &[1], 20, ""), offer(3, &[1], 10, "")]);
        assert!((650..750).contains(&won[&1]) && (150..250).contains(&won[&2]) && (60..140).contains(&won[&3]), "{won:?}");
    }

    #[test]
    fn many_offers_bring_nobody_further() {
        let mut offers: Vec<AcceptedBid> = (0..20).map(|tag| offer(1, &[1], 50, &tag.to_string())).collect();
        offers.push(offer(2, &[1], 50, ""));
        let won = shares(10_000, &offers);
        assert!((430..570).contains(&won[&1]), "{won:?}");
    }

    #[test]
    fn nobody_has_more_than_its_cap_of_the_chances() {
        // Without a cap the first would have 90 %.
        let offers = [offer(1, &[1], 900, ""), offer(2, &[1], 60, ""), offer(3, &[1], 40, "")];
        let won = shares(4_000, &offers);
        assert!((340..460).contains(&won[&1]), "{won:?}");
        assert!(won[&2] > won[&3], "{won:?}");
        // Two bidders cannot both have no more than 40 %.
        let won = shares(4_000, &offers[..2]);
        assert!((430..570).contains(&won[&1]), "{won:?}");
        assert_eq!(shares(4_000, &offers[..1])[&1], 1_000);
    }

    #[test]
    fn a_package_pays_what_its_sellers_were_offered_alone() {
        let singles = [offer(1, &[1], 8, ""), offer(2, &[2], 8, "")];
        for seed in 0..200_u64 {
            let seed = B256::from(U256::from(seed));
            let short = Lottery { max_share_bps: 10_000, sharing: Sharing::Proportional }.clear(
                &sale(&[1, 1]),
                &[&singles[..], &[offer(3, &[1, 2], 15, "")]].concat(),
                seed,
            );
            assert!(short.wins.iter().all(|win| win.rollups.len() == 1), "15 is less than 8 and 8");
            let enough = Lottery { max_share_bps: 10_000, sharing: Sharing::Proportional }.clear(
                &sale(&[1, 1]),
                &[offer(3, &[1, 2], 16, "")],
                seed,
            );
            assert_eq!(enough.wins[0].shares.values().copied().collect::<Vec<_>>(), [U256::from(8), U256::from(8)]);
        }
    }

    #[test]
    fn offers_of_nothing_and_absurd_ones_are_drawn_too() {
        let nothing = [offer(1, &[1], 0, ""), offer(2, &[1], 0, "")];
        let won = shares(10_000, &nothing);
        assert!((430..570).contains(&won[&1]), "{won:?}");
        let huge: Vec<AcceptedBid> = (0..200)
            .map(|bidder| {
                let mut offer = offer(bidder, &[1], 0, "");
                offer.bid.amount = crate::MAX_AMOUNT;
                AcceptedBid::new(offer.bidder, offer.bid)
            })
            .collect();
        assert!(shares(10_000, &huge).len() > 150);
    }
}

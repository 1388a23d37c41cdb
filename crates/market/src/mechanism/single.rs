//! Who gets which rollup when each is sold by itself: what the sealed auctions of single rollups have in common.
//!
//! What is sold by itself is a rollup, or a cluster as a whole (a unit, named by its lowest rollup). Only offers for one unit take
//! part; the others are ignored. Without tags the greatest offer for a rollup wins it, and of
//! equal ones the one with the greater [`tie_break`]. Tags tie rollups together, because of a bidder's offers with one tag at
//! most one wins: then the winners are those whose surplus over the reserves is the greatest together, and of such choices one
//! that sells as many rollups as possible. That is found exactly, however many offers there are.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use alloy_primitives::{Address, I256, U256};
use lockstep_primitives::ChainId;

use super::{
    Win,
    matching::{Edge, matching},
};
use crate::{AcceptedBid, MAX_SELLERS, Sale, split, tie_break};

/// What of the offers was taken, and what was left.
#[derive(Debug)]
pub(super) struct Singles<'a> {
    /// By rollup: the allowed offers for it alone, the best first.
    contenders: BTreeMap<ChainId, Vec<Contender<'a>>>,
    winners: BTreeMap<ChainId, &'a AcceptedBid>,
    /// The tags that have won something, and so want nothing else.
    served: BTreeSet<(Address, &'a str)>,
}

/// An allowed offer for one rollup.
#[derive(Clone, Copy, Debug)]
struct Contender<'a> {
    offer: &'a AcceptedBid,
    surplus: U256,
    rank: U256,
}

/// Who takes one rollup at most. Of a rollup's untagged offers only the best one comes into question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Taker<'a> {
    Untagged(ChainId),
    Tagged(Address, &'a str),
}

impl<'a> Singles<'a> {
    /// Decides who gets what.
    pub(super) fn assign(sale: &Sale, offers: &'a [AcceptedBid]) -> Self {
        let contenders = contenders(sale, offers);
        let mut takers: BTreeMap<Taker<'a>, usize> = BTreeMap::new();
        let lists: Vec<Vec<(Edge, &'a AcceptedBid)>> =
            contenders.iter().map(|(chain, offers)| in_question(*chain, offers, &mut takers)).collect();
        let edges: Vec<Vec<Edge>> = lists.iter().map(|list| list.iter().map(|(edge, _)| *edge).collect()).collect();

        let mut winners = BTreeMap::new();
        for ((chain, list), place) in contenders.keys().zip(&lists).zip(matching(&edges, takers.len())) {
            if let Some((_, offer)) = place.and_then(|place| list.get(place)) {
                winners.insert(*chain, *offer);
            }
        }
        let served = winners.values().filter_map(|offer| Some((offer.bidder, offer.tag()?))).collect();
        Self { contenders, winners, served }
    }

    /// The offers that won, by rollup.
    pub(super) fn winners(&self) -> impl Iterator<Item = (ChainId, &'a AcceptedBid)> {
        self.winners.iter().map(|(chain, offer)| (*chain, *offer))
    }

    /// The greatest offer for a rollup that somebody other than `bidder` still would take the rollup for: offers whose tag has
    /// won another rollup are withdrawn.
    pub(super) fn rival(&self, chain: ChainId, bidder: Address) -> Option<&'a AcceptedBid> {
        let offers = self.contenders.get(&chain)?.iter().map(|contender| contender.offer);
        let mut others = offers.filter(|offer| offer.bidder != bidder);
        others.find(|offer| offer.tag().is_none_or(|tag| !self.served.contains(&(offer.bidder, tag))))
    }
}

/// The allowed offers for one rollup alone, by rollup, the best first.
fn contenders<'a>(sale: &Sale, offers: &'a [AcceptedBid]) -> BTreeMap<ChainId, Vec<Contender<'a>>> {
    let mut contenders: BTreeMap<ChainId, Vec<Contender<'a>>> = BTreeMap::new();
    for offer in offers.iter().filter(|offer| sale.units().is_unit(&offer.bid.rollups)) {
        if let (Some(chain), Ok(surplus)) = (offer.bid.rollups.first(), sale.surplus(&offer.bid)) {
            let rank = tie_break(offer.bidder, offer.digest);
            contenders.entry(*chain).or_default().push(Contender { offer, surplus, rank });
        }
    }
    for offers in contenders.values_mut() {
        offers.sort_by_key(|contender| Reverse((contender.surplus, contender.rank)));
    }
    contenders
}

/// The offers for a rollup that may win it, each with its taker, who gets a number when it has none.
///
/// An offer after an untagged one could be exchanged for that, which nobody else needs. And as the other rollups take one taker
/// each at the most, of as many takers as there can be rollups one is left for this one.
fn in_question<'a>(
    chain: ChainId,
    offers: &[Contender<'a>],
    takers: &mut BTreeMap<Taker<'a>, usize>,
) -> Vec<(Edge, &'a AcceptedBid)> {
    let mut list = Vec::new();
    let mut listed = BTreeSet::new();
    for contender in offers {
        let offer = contender.offer;
        let taker = offer.tag().map_or(Taker::Untagged(chain), |tag| Taker::Tagged(offer.bidder, tag));
        if !listed.insert(taker) {
            continue;
        }
        let next = takers.len();
        let number = *takers.entry(taker).or_insert(next);
        list.push((Edge { taker: number, surplus: I256::from_raw(contender.surplus) }, offer));
        if taker == Taker::Untagged(chain) || list.len() >= MAX_SELLERS {
            break;
        }
    }
    list
}

/// The win of an offer for one unit alone. Its members get their reserves, and share the rest in proportion to them.
pub(super) fn win(sale: &Sale, offer: &AcceptedBid, price: U256) -> Win {
    let rollups = offer.bid.rollups.clone();
    let shares = split(price, &sale.reserves(&rollups));
    Win { bid: offer.digest, bidder: offer.bidder, rollups, price, shares }
}

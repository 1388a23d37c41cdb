//! What mechanisms promise, in random markets.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use alloy_primitives::{Address, B256, U256};
use lockstep_market::{
    AcceptedBid, Clearing, Combinatorial, CoreSelecting, FirstPrice, Lottery, Mechanism, Outcome, PostedPrice, Sale, SecondPrice,
    Sharing, Win, tie_break,
};
use lockstep_primitives::{Bid, ChainId, RollupSet};
use proptest::prelude::*;

use crate::fixtures::terms;

const CASES: u32 = 10_000;

const SLOT: u64 = 7;

fn chain(index: usize) -> ChainId {
    10 + 7 * index as u64
}

/// A sale, what is offered, the same in another order, and a seed.
#[derive(Clone, Debug)]
struct Market {
    sale: Sale,
    offers: Vec<AcceptedBid>,
    shuffled: Vec<AcceptedBid>,
    seed: B256,
}

fn sale(reserves: &[u64]) -> Sale {
    let reserves: Vec<(ChainId, u64)> = reserves.iter().zip(0..).map(|(reserve, index)| (chain(index), *reserve)).collect();
    Sale::new(SLOT, terms(&reserves)).expect("few rollups are not too many")
}

fn offer(bidder: u8, rollups: RollupSet, amount: u64, exclusive: Option<String>, nonce: u64) -> AcceptedBid {
    let bid = Bid { slot: SLOT, rollups, amount: U256::from(amount), exclusive, nonce };
    AcceptedBid::new(Address::with_last_byte(bidder), bid)
}

/// Amounts are small, so that ties, offers of the reserve and offers below it are frequent. Most offers are for one rollup, some
/// are for a package or for a rollup that is not on sale, some for another slot. Bidders share nonces, so that different ones
/// make the same offer.
fn markets() -> impl Strategy<Value = Market> {
    let market = (1usize..=4).prop_flat_map(|rollups| {
        let mask = prop_oneof![4 => (0..rollups).prop_map(|index| 1u32 << index), 1 => 1u32..(1 << (rollups + 1))];
        let offer = (1u8..=4, mask, 0u64..10, prop::option::of(0u8..2), 0u64..2, prop::bool::weighted(0.05));
        (prop::collection::vec(0u64..6, rollups), prop::collection::vec(offer, 0..=9))
    });
    let market = market.prop_map(|(reserves, offers)| {
        let offers = offers.into_iter().map(|(bidder, mask, each, tag, nonce, is_elsewhere)| {
            let rollups: RollupSet = (0..5).filter(|index| mask & (1 << *index) != 0).map(chain).collect();
            let amount = each * rollups.len() as u64;
            let mut made = offer(bidder, rollups, amount, tag.map(|tag| format!("tag {tag}")), nonce);
            if is_elsewhere {
                made = AcceptedBid::new(made.bidder, Bid { slot: SLOT + 1, ..made.bid });
            }
            made
        });
        (sale(&reserves), offers.collect::<Vec<_>>())
    });
    let with_order = market.prop_flat_map(|(sale, offers)| (Just(sale), Just(offers.clone()), Just(offers).prop_shuffle()));
    let seed = any::<[u8; 32]>().prop_map(B256::from);
    (with_order, seed).prop_map(|((sale, offers, shuffled), seed)| Market { sale, offers, shuffled, seed })
}

fn sum(amounts: impl Iterator<Item = U256>) -> U256 {
    amounts.fold(U256::ZERO, |sum, amount| sum + amount)
}

/// The offer behind a win.
fn behind<'a>(offers: &'a [AcceptedBid], win: &Win) -> Option<&'a AcceptedBid> {
    offers.iter().find(|offer| (offer.digest, offer.bidder) == (win.bid, win.bidder))
}

/// What every mechanism promises.
fn promises(mechanism: &dyn Mechanism, market: &Market) -> Result<Clearing, TestCaseError> {
    let Market { sale, offers, shuffled, seed } = market;
    let decided = |offers: &[AcceptedBid]| Outcome::decide(mechanism, sale, offers.to_vec(), *seed);
    let outcome = decided(offers);
    prop_assert_eq!(&outcome, &decided(shuffled), "the order of the offers does not matter");
    let clearing = Clearing { wins: outcome.wins, gap: outcome.gap, as_bid: outcome.as_bid };
    prop_assert!(clearing.wins.is_sorted_by_key(|win| win.rollups.first().copied()));
    let mut sold = RollupSet::new();
    let mut tags = BTreeSet::new();
    for win in &clearing.wins {
        let offer = behind(offers, win);
        prop_assert!(offer.is_some(), "nobody offered {win:?}");
        let Some(offer) = offer else { continue };
        prop_assert_eq!(&win.rollups, &offer.bid.rollups);
        prop_assert!(sale.surplus(&offer.bid).is_ok(), "the sale does not allow {offer:?}");
        prop_assert!(win.rollups.iter().all(|chain| sold.insert(*chain)), "sold twice: {win:?}");
        prop_assert!(offer.tag().is_none_or(|tag| tags.insert((offer.bidder, tag))), "two wins with the tag of {offer:?}");
        prop_assert!(win.price <= offer.bid.amount, "{win:?} costs more than {offer:?}");
        prop_assert_eq!(sum(win.shares.values().copied()), win.price);
        prop_assert!(win.shares.keys().eq(&win.rollups), "shares of others: {win:?}");
        for (chain, share) in &win.shares {
            prop_assert!(*share >= sale.terms()[chain].reserve, "rollup {chain} gets less than its reserve: {win:?}");
            if win.rollups.len() > 1 {
                let alone = offers.iter().filter(|offer| offer.bid.rollups == RollupSet::from([*chain])).cloned();
                let displaced = decided(&alone.collect::<Vec<_>>());
                let paid = sum(displaced.wins.iter().map(|win| win.price));
                prop_assert!(*share >= paid, "rollup {chain} had more from {displaced:?}");
            }
        }
    }
    Ok(clearing)
}

/// For each rollup the allowed offers for it alone.
fn singles(market: &Market) -> Vec<Vec<&AcceptedBid>> {
    let allowed = |chain: &ChainId| {
        let alone = RollupSet::from([*chain]);
        let is_allowed = |offer: &&AcceptedBid| offer.bid.rollups == alone && market.sale.surplus(&offer.bid).is_ok();
        market.offers.iter().filter(is_allowed).collect()
    };
    market.sale.terms().keys().map(allowed).collect()
}

/// The greatest surplus that there is, and the most rollups that can be sold for it, by trying every choice.
fn best<'a>(sale: &Sale, rollups: &[Vec<&'a AcceptedBid>], tags: &mut Vec<(Address, &'a str)>) -> (U256, usize) {
    let Some((offers, others)) = rollups.split_first() else { return (U256::ZERO, 0) };
    let mut found = best(sale, others, tags);
    for offer in offers {
        let tag = offer.tag().map(|tag| (offer.bidder, tag));
        if tag.is_some_and(|tag| tags.contains(&tag)) {
            continue;
        }
        let before = tags.len();
        tags.extend(tag);
        let (surplus, sold) = best(sale, others, tags);
        tags.truncate(before);
        found = found.max((surplus + sale.surplus(&offer.bid).expect("only allowed offers are tried"), sold + 1));
    }
    found
}

/// The surplus of what won over the reserves, and how many rollups were sold.
fn reached(market: &Market, clearing: &Clearing) -> (U256, usize) {
    let won = clearing.wins.iter().filter_map(|win| behind(&market.offers, win));
    (sum(won.map(|offer| market.sale.surplus(&offer.bid).expect("a winner is allowed"))), clearing.wins.len())
}

fn sharing() -> impl Strategy<Value = Sharing> {
    prop_oneof![Just(Sharing::Proportional), Just(Sharing::Shapley)]
}

/// The greatest surplus over the reserves that these offers can have together, by trying every choice.
fn most(sale: &Sale, offers: &[&AcceptedBid], sold: &RollupSet, tags: &mut BTreeSet<(Address, String)>) -> U256 {
    let Some((offer, others)) = offers.split_first() else { return U256::ZERO };
    let without = most(sale, others, sold, tags);
    let tag = offer.tag().map(|tag| (offer.bidder, tag.to_owned()));
    if !offer.bid.rollups.is_disjoint(sold) || tag.as_ref().is_some_and(|tag| tags.contains(tag)) {
        return without;
    }
    tags.extend(tag.clone());
    let with =
        sale.surplus(&offer.bid).expect("only allowed offers are tried") + most(sale, others, &(sold | &offer.bid.rollups), tags);
    if let Some(tag) = &tag {
        tags.remove(tag);
    }
    with.max(without)
}

/// No bidders, winners or not, could have paid the sellers more than they get, each of the winners among them gaining as much as
/// it does now; and no winner pays less than what the others lose by it.
fn in_the_core(market: &Market, clearing: &Clearing) -> Result<(), TestCaseError> {
    let Market { sale, offers, .. } = market;
    // What a package must pay its sellers is the second greatest bid for each, or its reserve.
    let owed = |rollups: &RollupSet| {
        let second = |chain: &ChainId| {
            let alone = offers.iter().filter(|offer| offer.bid.rollups == RollupSet::from([*chain])).cloned();
            let decided = Outcome::decide(
                &SecondPrice,
                sale,
                alone.map(|offer| AcceptedBid::new(offer.bidder, Bid { exclusive: None, ..offer.bid })).collect(),
                B256::ZERO,
            );
            decided.wins.first().map_or(sale.terms()[chain].reserve, |win| win.price)
        };
        sum(rollups.iter().map(second))
    };
    let may_win = |offer: &&AcceptedBid| {
        let is_package = offer.bid.rollups.len() > 1;
        sale.surplus(&offer.bid).is_ok() && (!is_package || offer.bid.amount >= owed(&offer.bid.rollups))
    };
    let allowed: Vec<&AcceptedBid> = offers.iter().filter(may_win).collect();
    let over_reserve = |win: &Win| win.price - sale.reserve(&win.rollups);
    let gain = |win: &Win| behind(offers, win).map_or(U256::ZERO, |offer| offer.bid.amount - win.price);
    let paid = sum(clearing.wins.iter().map(over_reserve));
    let bidders: Vec<Address> = allowed.iter().map(|offer| offer.bidder).collect::<BTreeSet<_>>().into_iter().collect();
    for coalition in 0..1_u32 << bidders.len() {
        let is_in =
            |bidder: Address| bidders.iter().position(|other| *other == bidder).is_some_and(|at| coalition >> at & 1 == 1);
        let theirs: Vec<&AcceptedBid> = allowed.iter().filter(|offer| is_in(offer.bidder)).copied().collect();
        let had = most(sale, &theirs, &RollupSet::new(), &mut BTreeSet::new());
        let kept = sum(clearing.wins.iter().filter(|win| is_in(win.bidder)).map(gain));
        prop_assert!(paid + kept >= had, "{:?} would have paid more than {paid}: {had} less {kept}", theirs);
    }
    Ok(())
}

fn untagged(market: &Market) -> Market {
    let untag = |offers: &[AcceptedBid]| -> Vec<AcceptedBid> {
        let untagged = |offer: &AcceptedBid| AcceptedBid::new(offer.bidder, Bid { exclusive: None, ..offer.bid.clone() });
        offers.iter().map(untagged).collect()
    };
    Market { offers: untag(&market.offers), shuffled: untag(&market.shuffled), ..market.clone() }
}

/// Posted prices when bidders have their turns in this order.
fn in_turns<'a>(market: &'a Market, order: &[Address]) -> BTreeSet<(B256, Address)> {
    let mut sold = RollupSet::new();
    let mut won = BTreeSet::new();
    for bidder in order {
        let mut tags: BTreeSet<&str> = BTreeSet::new();
        loop {
            let can_be_had = |offer: &&'a AcceptedBid| {
                let is_free = offer.bid.rollups.is_disjoint(&sold) && offer.tag().is_none_or(|tag| !tags.contains(tag));
                offer.bidder == *bidder && is_free && market.sale.surplus(&offer.bid).is_ok()
            };
            let worth =
                |offer: &&'a AcceptedBid| (market.sale.surplus(&offer.bid).ok(), offer.bid.rollups.len(), Reverse(offer.digest));
            let Some(best) = market.offers.iter().filter(can_be_had).max_by_key(worth) else { break };
            sold.extend(&best.bid.rollups);
            tags.extend(best.tag());
            won.insert((best.digest, best.bidder));
        }
    }
    won
}

fn orders(bidders: &[Address]) -> Vec<Vec<Address>> {
    let Some((first, others)) = bidders.split_first() else { return vec![Vec::new()] };
    let mut all = Vec::new();
    for order in orders(others) {
        for place in 0..=order.len() {
            let mut longer = order.clone();
            longer.insert(place, *first);
            all.push(longer);
        }
    }
    all
}

/// What a bidder's wins are worth to it beyond what they cost.
fn utility(clearing: &Clearing, bidder: Address, values: &BTreeMap<ChainId, u64>) -> i64 {
    let own = clearing.wins.iter().filter(|win| win.bidder == bidder);
    let gain = |win: &Win| win.rollups.iter().map(|chain| values[chain] as i64).sum::<i64>() - win.price.to::<u64>() as i64;
    own.map(gain).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn a_first_price_auction_keeps_its_promises(market in markets()) {
        let clearing = promises(&FirstPrice, &market)?;
        prop_assert_eq!(clearing.gap, U256::ZERO);
        prop_assert_eq!(reached(&market, &clearing), best(&market.sale, &singles(&market), &mut Vec::new()));
        for win in &clearing.wins {
            prop_assert_eq!(Some(win.price), behind(&market.offers, win).map(|offer| offer.bid.amount));
        }
    }

    #[test]
    fn a_second_price_auction_keeps_its_promises(market in markets()) {
        let clearing = promises(&SecondPrice, &market)?;
        prop_assert_eq!(clearing.gap, U256::ZERO);
        prop_assert_eq!(reached(&market, &clearing), best(&market.sale, &singles(&market), &mut Vec::new()));
        let served: BTreeSet<(Address, &str)> = clearing.wins.iter()
            .filter_map(|win| behind(&market.offers, win)?.tag().map(|tag| (win.bidder, tag)))
            .collect();
        for (offers, terms) in singles(&market).into_iter().zip(market.sale.terms()) {
            let Some(win) = clearing.wins.iter().find(|win| win.rollups.contains(terms.0)) else { continue };
            let rivals = offers.into_iter().filter(|offer| offer.bidder != win.bidder);
            let standing = rivals.filter(|offer| offer.tag().is_none_or(|tag| !served.contains(&(offer.bidder, tag))));
            prop_assert_eq!(win.price, standing.map(|offer| offer.bid.amount).fold(terms.1.reserve, Ord::max));
        }
    }

    #[test]
    fn without_tags_the_greatest_offer_for_a_rollup_wins_it(market in markets()) {
        let market = untagged(&market);
        let greatest = singles(&market).into_iter().filter_map(|offers| {
            let best = offers.into_iter().max_by_key(|offer| (offer.bid.amount, tie_break(offer.bidder, offer.digest)))?;
            Some((best.digest, best.bidder))
        });
        let greatest: Vec<(B256, Address)> = greatest.collect();
        for mechanism in [&FirstPrice as &dyn Mechanism, &SecondPrice] {
            let clearing = promises(mechanism, &market)?;
            prop_assert_eq!(&clearing.wins.iter().map(|win| (win.bid, win.bidder)).collect::<Vec<_>>(), &greatest);
        }
    }

    #[test]
    fn a_combinatorial_auction_keeps_its_promises(market in markets(), sharing in sharing()) {
        let clearing = promises(&Combinatorial { sharing }, &market)?;
        for win in &clearing.wins {
            prop_assert_eq!(Some(win.price), behind(&market.offers, win).map(|offer| offer.bid.amount));
        }
        // Packages only add to what the rollups are worth one by one.
        prop_assert!(reached(&market, &clearing).0 >= reached(&market, &promises(&FirstPrice, &market)?).0);
    }

    #[test]
    fn core_selecting_payments_keep_their_promises(market in markets(), sharing in sharing()) {
        let clearing = promises(&CoreSelecting { sharing }, &market)?;
        prop_assert!(clearing.as_bid.is_empty());
        in_the_core(&market, &clearing)?;
    }

    #[test]
    fn a_lottery_keeps_its_promises(market in markets(), max_share_bps in 1u64..11_000, sharing in sharing()) {
        let clearing = promises(&Lottery { max_share_bps, sharing }, &market)?;
        let sold: RollupSet = clearing.wins.iter().flat_map(|win| win.rollups.clone()).collect();
        for win in &clearing.wins {
            prop_assert_eq!(Some(win.price), behind(&market.offers, win).map(|offer| offer.bid.amount));
        }
        // What somebody could still have is not left: each untagged allowed offer for one rollup finds it sold.
        for offers in singles(&market) {
            for offer in offers.into_iter().filter(|offer| offer.tag().is_none()) {
                prop_assert!(offer.bid.rollups.is_subset(&sold));
            }
        }
    }

    #[test]
    fn posted_prices_keep_their_promises(market in markets()) {
        let clearing = promises(&PostedPrice, &market)?;
        let mut sold = RollupSet::new();
        let mut tags = BTreeSet::new();
        for win in &clearing.wins {
            sold.extend(&win.rollups);
            tags.extend(behind(&market.offers, win).and_then(AcceptedBid::tag).map(|tag| (win.bidder, tag)));
            for (chain, share) in &win.shares {
                prop_assert_eq!(*share, market.sale.terms()[chain].reserve);
            }
        }
        // Whoever offers at least the reserves gets it, or somebody has some of it, or the bidder has what it wanted instead.
        for offer in market.offers.iter().filter(|offer| market.sale.surplus(&offer.bid).is_ok()) {
            let is_served = offer.tag().is_some_and(|tag| tags.contains(&(offer.bidder, tag)));
            prop_assert!(is_served || !offer.bid.rollups.is_disjoint(&sold), "nobody has what {offer:?} asks for");
        }
    }

    #[test]
    fn posted_prices_are_what_some_order_of_bidders_gives(market in markets()) {
        let clearing = PostedPrice.clear(&market.sale, &market.offers, market.seed);
        let won: BTreeSet<(B256, Address)> = clearing.wins.iter().map(|win| (win.bid, win.bidder)).collect();
        let bidders: BTreeSet<Address> = market.offers.iter().map(|offer| offer.bidder).collect();
        let orders = orders(&bidders.into_iter().collect::<Vec<_>>());
        prop_assert!(orders.iter().any(|order| in_turns(&market, order) == won), "no order gives {won:?}");
    }

    /// The dominant strategy of the second-price auction: whatever the others offer, no other offer, and no offers more, does
    /// better than to offer what each rollup is worth.
    #[test]
    fn in_a_second_price_auction_the_truth_is_never_worse(
        reserves in prop::collection::vec(0u64..8, 1..=3),
        others in prop::collection::vec((2u8..=4, 0usize..3, 0u64..14), 0..=6),
        values in prop::collection::vec(0u64..14, 3),
        lies in prop::collection::vec((0usize..3, 0u64..16, 0u64..2), 0..=5),
    ) {
        let sale = sale(&reserves);
        let others = others.into_iter().map(|(bidder, index, amount)| offer(bidder, [chain(index)].into(), amount, None, 1));
        let others: Vec<AcceptedBid> = others.collect();
        let me = Address::with_last_byte(1);
        let values: BTreeMap<ChainId, u64> = values.into_iter().enumerate().map(|(index, value)| (chain(index), value)).collect();
        let truth = values.iter().map(|(chain, value)| offer(1, [*chain].into(), *value, None, 1));
        let lies = lies.into_iter().map(|(index, amount, nonce)| offer(1, [chain(index)].into(), amount, None, nonce));
        let cleared = |own: Vec<AcceptedBid>| {
            let offers: Vec<AcceptedBid> = others.iter().cloned().chain(own).collect();
            utility(&SecondPrice.clear(&sale, &offers, B256::ZERO), me, &values)
        };
        let (honest, dishonest) = (cleared(truth.collect()), cleared(lies.collect()));
        prop_assert!(honest >= 0 && honest >= dishonest, "{honest} by the truth, {dishonest} by lies");
    }

    /// With posted prices too: a bidder that offers what each rollup is worth to it, the tag saying that it needs one only, does
    /// no better by saying otherwise.
    #[test]
    fn at_posted_prices_the_truth_is_never_worse(
        reserves in prop::collection::vec(0u64..8, 3),
        others in prop::collection::vec((2u8..=4, 1u32..8, 0u64..14), 0..=6),
        values in prop::collection::vec(0u64..14, 3),
        lies in prop::collection::vec(0u64..16, 3),
        seed in any::<[u8; 32]>(),
    ) {
        let sale = sale(&reserves);
        let package = |mask: u32| -> RollupSet { (0..3).filter(|index| mask & (1 << *index) != 0).map(chain).collect() };
        let others = others.into_iter().map(|(bidder, mask, each)| {
            let rollups = package(mask);
            let amount = each * rollups.len() as u64;
            offer(bidder, rollups, amount, None, 1)
        });
        let others: Vec<AcceptedBid> = others.collect();
        let worth: BTreeMap<ChainId, u64> = values.iter().enumerate().map(|(index, value)| (chain(index), *value)).collect();
        let cleared = |amounts: &[u64]| {
            let own = amounts.iter().enumerate();
            let own = own.map(|(index, amount)| offer(1, [chain(index)].into(), *amount, Some("one".to_owned()), 1));
            let with_a_bidder: Vec<AcceptedBid> = others.iter().cloned().chain(own).collect();
            utility(&PostedPrice.clear(&sale, &with_a_bidder, B256::from(seed)), Address::with_last_byte(1), &worth)
        };
        // The draw is over those who may buy: a bidder that offers nowhere enough is not among them, and the others' order is
        // another one, which changes nothing for who buys nothing.
        let (honest, dishonest) = (cleared(&values), cleared(&lies));
        let may_buy = |amounts: &[u64]| amounts.iter().zip(&reserves).any(|(amount, reserve)| amount >= reserve);
        prop_assert!(honest >= 0);
        prop_assert!(honest >= dishonest || !may_buy(&values), "{honest} by the truth, {dishonest} by lies");
        prop_assert!(may_buy(&values) || dishonest <= 0, "nothing is worth its reserve, yet lies gain {dishonest}");
    }
}

#[test]
fn thousands_of_tagged_offers_are_still_decided_exactly() {
    // 200 bidders, each with a tag over all of 20 rollups; bidder b offers most for rollup b modulo 20.
    let sale = sale(&[0; 20]);
    let amount = |bidder: u8, index: usize| if usize::from(bidder) % 20 == index { 1_000 + u64::from(bidder) } else { 900 };
    let tag = || Some("one".to_owned());
    let tagged = |bidder: u8, index: usize| offer(bidder, [chain(index)].into(), amount(bidder, index), tag(), 1);
    let mut offers = Vec::new();
    for bidder in 0..200 {
        offers.extend((0..20).map(|index| tagged(bidder, index)));
    }
    let clearing = FirstPrice.clear(&sale, &offers, B256::ZERO);
    // The last twenty bidders offer most for a rollup each.
    let expected = (180..200u64).map(|bidder| U256::from(1_000 + bidder));
    assert_eq!(sum(clearing.wins.iter().map(|win| win.price)), sum(expected));
    assert_eq!(clearing.gap, U256::ZERO);
}

#[test]
fn absurd_amounts_win_nothing() {
    let sale = sale(&[1, 1]);
    let mut absurd = offer(1, [chain(0)].into(), 0, None, 1).bid;
    absurd.amount = U256::MAX;
    let offers = [AcceptedBid::new(Address::with_last_byte(1), absurd), offer(2, [chain(0)].into(), 3, None, 1)];
    for mechanism in [&FirstPrice as &dyn Mechanism, &SecondPrice, &PostedPrice] {
        let clearing = mechanism.clear(&sale, &offers, B256::ZERO);
        assert_eq!(clearing.wins.len(), 1, "{}", mechanism.name());
        assert_eq!(clearing.wins[0].bidder, Address::with_last_byte(2));
    }
}

#[test]
fn a_market_without_offers_or_without_rollups_sells_nothing() {
    for mechanism in [&FirstPrice as &dyn Mechanism, &SecondPrice, &PostedPrice, &CoreSelecting::default()] {
        assert_eq!(mechanism.clear(&sale(&[1]), &[], B256::ZERO), Clearing::default());
        assert_eq!(mechanism.clear(&sale(&[]), &[offer(1, [chain(0)].into(), 9, None, 1)], B256::ZERO), Clearing::default());
    }
}

fn prices(offers: &[AcceptedBid], reserves: &[u64]) -> Vec<u64> {
    let clearing = CoreSelecting::default().clear(&sale(reserves), offers, B256::ZERO);
    clearing.wins.iter().map(|win| win.price.to::<u64>()).collect()
}

#[test]
fn core_payments_are_those_of_the_literature() {
    // Day and Raghavan (2007), first example: 28 for A, 20 for B, 32 for both, 14 for A, 12 for B. VCG is 14 and 12, which the
    // bidder for both would have bettered.
    let (a, b, both) = ([chain(0)], [chain(1)], [chain(0), chain(1)]);
    let example = [
        offer(1, a.into(), 28, None, 1),
        offer(2, b.into(), 20, None, 1),
        offer(3, both.into(), 32, None, 1),
        offer(4, a.into(), 14, None, 1),
        offer(5, b.into(), 12, None, 1),
    ];
    assert_eq!(prices(&example, &[0, 0]), [17, 15]);
    // One bidder that wins everything pays what the others would have.
    let alone = [offer(1, both.into(), 50, None, 1), offer(2, a.into(), 20, None, 1), offer(3, b.into(), 10, None, 1)];
    assert_eq!(prices(&alone, &[0, 0]), [30]);
    // Its own other bids raise no price of it; its reserves do.
    let own = [offer(1, both.into(), 50, None, 1), offer(1, a.into(), 20, None, 1), offer(1, b.into(), 25, None, 1)];
    assert_eq!(prices(&own, &[0, 0]), [0]);
    assert_eq!(prices(&own, &[4, 5]), [9]);
    // A winner of two shares what it pays by what it would have paid at the most.
    let two = [offer(1, a.into(), 30, None, 1), offer(1, b.into(), 10, None, 1), offer(2, both.into(), 20, None, 1)];
    assert_eq!(prices(&two, &[0, 0]), [15, 5]);
}

#[test]
fn core_payments_of_many_rollups_are_computed_and_of_too_many_are_what_is_bid() {
    let bids = |rollups: usize| -> Vec<AcceptedBid> {
        let pairs = (0..rollups - 1).flat_map(|first| {
            (0..4u8).map(move |bidder| {
                let amount = 100 + (u64::from(bidder) * 37 + first as u64 * 11) % 50;
                offer(10 + bidder, [chain(first), chain(first + 1)].into(), amount, None, 1)
            })
        });
        pairs.collect()
    };
    let sold = |rollups: usize| CoreSelecting::default().clear(&sale(&vec![1; rollups]), &bids(rollups), B256::ZERO);
    let few = sold(12);
    assert!(few.as_bid.is_empty() && few.wins.len() == 6);
    let offered = |clearing: &Clearing, rollups: usize| {
        let bids = bids(rollups);
        sum(clearing.wins.iter().filter_map(|win| behind(&bids, win)).map(|offer| offer.bid.amount))
    };
    assert!(sum(few.wins.iter().map(|win| win.price)) < offered(&few, 12));
    let many = sold(22);
    assert_eq!(many.as_bid.len(), 22);
    assert_eq!(sum(many.wins.iter().map(|win| win.price)), offered(&many, 22));
}

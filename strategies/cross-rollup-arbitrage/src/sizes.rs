//! How much to trade in each pool.
//!
//! Buying a token where it is cheap and selling as much where it is dear is worth doing until the next unit costs in every pool
//! traded in what it brings in every other: there is one price that all of them end at, as far as the inventory reaches. Between
//! two pools it has a closed form. Between more it is found by bisection: at any price it is known in closed form how much each
//! pool is bought from or sold to, and the higher the price, the more is bought and the less is sold.

use alloy_primitives::{U256, U512};

use crate::pool::{Pool, Trade, moved_between, narrow, wide};

/// What to trade, pool by pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The trade in each pool; none where nothing is traded. As much is bought as is sold.
    pub trades: Vec<Option<Trade>>,
    /// What is left in the counting token once what is sold has paid for what is bought; costs are not taken off.
    pub profit: U256,
    /// What the trades cost beside that, in the counting token.
    pub costs: U256,
}

impl Plan {
    /// What is gained net of costs.
    pub fn gain(&self) -> U256 {
        self.profit.saturating_sub(self.costs)
    }
}

/// The most profitable trades, net of costs; `None` when nothing is to be gained.
///
/// Pools that bring less than their costs are left out one by one, as long as that brings more.
pub fn best(pools: &[Pool]) -> Option<Plan> {
    let mut active: Vec<bool> = pools.iter().map(Pool::is_open).collect();
    let mut best = solve(pools, &active)?;
    loop {
        let traded: Vec<usize> = (0..pools.len()).filter(|index| best.trades[*index].is_some()).collect();
        let without = |index: usize| {
            let mut fewer = active.clone();
            fewer[index] = false;
            solve(pools, &fewer).map(|plan| (index, plan))
        };
        // Two pools are the fewest that can be traded between.
        let fewer: Vec<(usize, Plan)> =
            if traded.len() > 2 { traded.into_iter().filter_map(without).collect() } else { Vec::new() };
        // Net of costs, what loses nothing may still lose less.
        let net = |plan: &Plan| (plan.gain(), U256::MAX - plan.costs.saturating_sub(plan.profit));
        match fewer.into_iter().max_by_key(|(_, plan)| net(plan)) {
            Some((index, plan)) if net(&plan) > net(&best) => {
                active[index] = false;
                best = plan;
            }
            _ => return Some(best).filter(|plan| !plan.gain().is_zero()),
        }
    }
}

/// The most profitable trades in the active pools, whatever they cost beside.
fn solve(pools: &[Pool], active: &[bool]) -> Option<Plan> {
    let open: Vec<usize> = (0..pools.len()).filter(|index| active[*index]).collect();
    let trades = match open[..] {
        [one, other] => between(pools, one, other).or_else(|| between(pools, other, one))?,
        _ => among(pools, &open)?,
    };
    plan(pools, trades)
}

/// Trades between two pools, in closed form.
fn between(pools: &[Pool], cheap: usize, dear: usize) -> Option<Vec<Option<Trade>>> {
    let (from, to) = (&pools[cheap], &pools[dear]);
    let most = from.most_bought().min(to.most_sold());
    let ideal = moved_between(from, to).min(most);
    if ideal.is_zero() {
        return None;
    }
    // Amounts are rounded on the way: the best one is at hand, but it may be a neighbour.
    let around = (0..5_u64).filter_map(|step| (ideal + U256::from(step)).checked_sub(U256::from(2)));
    around
        .filter(|amount| !amount.is_zero() && *amount <= most)
        .filter_map(|amount| {
            let (buy, sell) = (from.buy(amount)?, to.sell(amount)?);
            let profit = quote(sell).checked_sub(quote(buy))?;
            Some((profit, buy, sell))
        })
        .max_by_key(|(profit, ..)| *profit)
        .map(|(_, buy, sell)| {
            let mut trades = vec![None; pools.len()];
            (trades[cheap], trades[dear]) = (Some(buy), Some(sell));
            trades
        })
}

/// Trades among any number of pools, at the price at which as much is bought as is sold.
fn among(pools: &[Pool], open: &[usize]) -> Option<Vec<Option<Trade>>> {
    let (buying, selling): (Vec<U512>, Vec<U512>) = open.iter().map(|index| pools[*index].prices()).unzip();
    // Below the lowest selling price nobody sells more than is bought at it; above the highest buying price everybody buys.
    let mut low = selling.iter().copied().min()?.max(U512::ONE);
    let mut high = buying.iter().copied().max()? + U512::ONE;
    if buying.iter().min()? >= selling.iter().max()? {
        return None;
    }
    let bought = |price: U512| sum(open.iter().map(|index| pools[*index].bought_at(price)));
    let sold = |price: U512| sum(open.iter().map(|index| pools[*index].sold_at(price)));
    while high - low > U512::ONE {
        let middle = low + ((high - low) >> 1_usize);
        if bought(middle) >= sold(middle) { high = middle } else { low = middle }
    }
    let mut buys: Vec<(&Pool, U256)> = open.iter().map(|index| (&pools[*index], pools[*index].bought_at(high))).collect();
    let mut sells: Vec<(&Pool, U256)> = open.iter().map(|index| (&pools[*index], pools[*index].sold_at(high))).collect();
    level(&mut buys, &mut sells);
    let mut trades = vec![None; pools.len()];
    for ((index, (pool, buy)), (_, sell)) in open.iter().zip(buys).zip(sells) {
        trades[*index] = match (buy.is_zero(), sell.is_zero()) {
            (false, _) => Some(pool.buy(buy)?),
            (true, false) => Some(pool.sell(sell)?),
            (true, true) => None,
        };
    }
    Some(trades)
}

/// Makes as much be bought as is sold. What is bought beyond that is the rounding of one step of the price: it is taken where it
/// costs that price, off pools that could be bought more from or onto pools that could be sold more to, and only then elsewhere.
fn level(buys: &mut [(&Pool, U256)], sells: &mut [(&Pool, U256)]) {
    let total = |amounts: &[(&Pool, U256)]| sum(amounts.iter().map(|(_, amount)| *amount));
    let mut excess = narrow(total(buys).saturating_sub(total(sells)));
    for (_, amount) in buys.iter_mut().filter(|(pool, amount)| *amount < pool.most_bought()) {
        let cut = excess.min(*amount);
        (*amount, excess) = (*amount - cut, excess - cut);
    }
    // What is not sold to at all is not dear.
    for (pool, amount) in sells.iter_mut().filter(|(_, amount)| !amount.is_zero()) {
        let more = excess.min(pool.most_sold() - *amount);
        (*amount, excess) = (*amount + more, excess - more);
    }
    for (_, amount) in buys.iter_mut() {
        let cut = excess.min(*amount);
        (*amount, excess) = (*amount - cut, excess - cut);
    }
}

/// What trades come to; `None` when they lose.
fn plan(pools: &[Pool], trades: Vec<Option<Trade>>) -> Option<Plan> {
    let (mut spent, mut earned, mut costs) = (U256::ZERO, U256::ZERO, U256::ZERO);
    for (pool, trade) in pools.iter().zip(&trades) {
        match trade {
            Some(Trade::Buy { quote, .. }) => spent = spent.checked_add(*quote)?,
            Some(Trade::Sell { quote, .. }) => earned = earned.checked_add(*quote)?,
            None => continue,
        }
        costs = costs.checked_add(pool.cost)?;
    }
    let profit = earned.checked_sub(spent).filter(|profit| !profit.is_zero())?;
    Some(Plan { trades, profit, costs })
}

const fn quote(trade: Trade) -> U256 {
    match trade {
        Trade::Buy { quote, .. } | Trade::Sell { quote, .. } => quote,
    }
}

fn sum(amounts: impl Iterator<Item = U256>) -> U512 {
    amounts.fold(U512::ZERO, |sum, amount| sum + wide(amount))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UNLIMITED: u64 = u64::MAX;

    fn pool(base: u64, quote: u64, own_base: u64, own_quote: u64) -> Pool {
        Pool {
            base: U256::from(base),
            quote: U256::from(quote),
            own_base: U256::from(own_base),
            own_quote: U256::from(own_quote),
            cost: U256::ZERO,
        }
    }

    fn signed(amount: U256) -> i128 {
        i128::try_from(amount.to::<u128>()).unwrap()
    }

    /// What a pool really does (Uniswap v2), in numbers of the machine: the quote that a trade moves, out of it when positive.
    /// `base` is sold when positive and bought when negative. `None` when the pool or the purse cannot.
    fn exact(pool: &Pool, base: i128) -> Option<i128> {
        let [x, y, own_base, own_quote] = [pool.base, pool.quote, pool.own_base, pool.own_quote].map(signed);
        if base >= 0 {
            return (base <= own_base).then(|| base * 997 * y / (x * 1000 + base * 997));
        }
        let bought = -base;
        let cost = (bought < x).then(|| y * bought * 1000 / ((x - bought) * 997) + 1)?;
        (cost <= own_quote).then_some(-cost)
    }

    /// Plays a plan out, and checks that it is worth what it says and moves no token but from pool to pool.
    fn played(pools: &[Pool], plan: &Plan) -> i128 {
        let (mut moved, mut profit) = (0, 0);
        for (pool, trade) in pools.iter().zip(&plan.trades) {
            let (base, quote) = match trade {
                Some(Trade::Buy { base, quote }) => (-signed(*base), -signed(*quote)),
                Some(Trade::Sell { base, quote }) => (signed(*base), signed(*quote)),
                None => continue,
            };
            assert_eq!(exact(pool, base), Some(quote), "{pool:?} {trade:?}");
            moved += base;
            profit += quote;
        }
        assert_eq!(moved, 0, "as much is bought as is sold");
        assert_eq!(U256::from(u128::try_from(profit).unwrap()), plan.profit);
        assert!(profit > 0);
        profit
    }

    fn small(own: impl Strategy<Value = u64> + Clone) -> impl Strategy<Value = Pool> {
        (1_000_u64..4_000, 1_000_u64..4_000, own.clone(), own).prop_map(|(base, quote, a, b)| pool(base, quote, a, b))
    }

    fn purse() -> impl Strategy<Value = u64> + Clone {
        prop_oneof![Just(UNLIMITED), 0_u64..800]
    }

    /// The best that any amount between two pools brings, all of them tried.
    fn brute(one: &Pool, other: &Pool) -> i128 {
        let try_all = |cheap: &Pool, dear: &Pool| {
            let most = signed(cheap.base);
            (1..most).map_while(|amount| Some(exact(cheap, -amount)? + exact(dear, amount)?)).max().unwrap_or(0)
        };
        try_all(one, other).max(try_all(other, one)).max(0)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Both the gain and the loss by rounding are less than one unit in each of the two pools.
        #[test]
        fn between_two_pools_nothing_beats_the_closed_form(one in small(purse()), other in small(purse())) {
            let most = brute(&one, &other);
            let found = best(&[one, other]).map_or(0, |plan| played(&[one, other], &plan));
            prop_assert!(found <= most);
            prop_assert!(found >= most - 2, "{found} of {most}");
        }

        #[test]
        fn between_two_pools_bisection_finds_what_the_closed_form_finds(
            one in small(Just(UNLIMITED)),
            other in small(Just(UNLIMITED)),
        ) {
            let pools = [one, other];
            let closed = best(&pools).map_or(0, |plan| played(&pools, &plan));
            let trades = among(&pools, &[0, 1]).and_then(|trades| plan(&pools, trades));
            let bisected = trades.map_or(0, |plan| played(&pools, &plan));
            prop_assert!((closed - bisected).abs() <= 4, "{closed} {bisected}");
        }

        /// Every pair of steps on a grid is tried; the third pool takes what is left.
        #[test]
        fn among_three_pools_no_grid_beats_the_common_price(
            pools in [small(purse()), small(purse()), small(purse())],
        ) {
            let found = best(&pools).map_or(0, |plan| played(&pools, &plan));
            let step = |index: i128| index * 80;
            let mut most = 0;
            for first in (-50..50).map(step) {
                let Some(a) = exact(&pools[0], first) else { continue };
                for second in (-50..50).map(step) {
                    let Some(b) = exact(&pools[1], second) else { continue };
                    let Some(c) = exact(&pools[2], -first - second) else { continue };
                    most = most.max(a + b + c);
                }
            }
            prop_assert!(found >= most - 6, "{found} of {most}");
        }

        #[test]
        fn large_pools_neither_overflow_nor_lose(
            reserves in prop::collection::vec((1_u128..1 << 112, 1_u128..1 << 112), 2..=4),
            own in 0_u128..1 << 112,
        ) {
            let own = U256::from(own);
            let as_pool = |(base, quote): (u128, u128)| Pool {
                base: U256::from(base),
                quote: U256::from(quote),
                own_base: own,
                own_quote: own,
                cost: U256::ZERO,
            };
            let pools: Vec<Pool> = reserves.into_iter().map(as_pool).collect();
            if let Some(plan) = best(&pools) {
                let bought = plan.trades.iter().flatten().map(|trade| match trade {
                    Trade::Buy { base, .. } => *base,
                    Trade::Sell { .. } => U256::ZERO,
                });
                let sold = plan.trades.iter().flatten().map(|trade| match trade {
                    Trade::Sell { base, .. } => *base,
                    Trade::Buy { .. } => U256::ZERO,
                });
                prop_assert_eq!(sum(bought), sum(sold));
                prop_assert!(!plan.profit.is_zero());
            }
        }
    }

    #[test]
    fn a_pool_that_brings_less_than_it_costs_is_left_out() {
        let mut pools = [
            pool(1_000_000, 3_000_000, UNLIMITED, UNLIMITED),
            pool(1_000_000, 3_300_000, UNLIMITED, UNLIMITED),
            pool(10_000, 32_500, UNLIMITED, UNLIMITED),
        ];
        let all = best(&pools).unwrap();
        assert!(all.trades.iter().all(Option::is_some));
        pools[2].cost = U256::from(1_000);
        let fewer = best(&pools).unwrap();
        assert_eq!(fewer.trades[2], None);
        assert!(fewer.trades[0].is_some() && fewer.trades[1].is_some());
        for pool in &mut pools {
            pool.cost = U256::from(1_000_000);
        }
        assert_eq!(best(&pools), None, "and where every one does, nothing is traded");
    }

    #[test]
    fn pools_of_one_price_and_pools_that_are_empty_bring_nothing() {
        let even = pool(1_000_000, 3_000_000, UNLIMITED, UNLIMITED);
        // Less than both fees.
        let near = pool(1_000_000, 3_010_000, UNLIMITED, UNLIMITED);
        assert_eq!(best(&[even, near]), None);
        assert_eq!(best(&[even, near, even]), None);
        let empty = pool(0, 0, UNLIMITED, UNLIMITED);
        assert_eq!(best(&[even, empty]), None);
        assert_eq!(best(&[even]), None);
        assert_eq!(best(&[]), None);
    }
}

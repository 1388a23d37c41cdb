//! One pool: what it gives and takes, and how far a price moves it.
//!
//! The arithmetic is that of Uniswap v2, to the last unit: a constant product and a fee of 0.3 % of what comes in. Reserves fit
//! 112 bits there, so that no product below leaves 512 bits.

use alloy_primitives::{U256, U512};

/// What is left of 1000 that come in, after the fee.
const KEPT: u64 = 997;
const WHOLE: u64 = 1000;
/// Prices are fixed-point numbers with so many binary digits after the point.
const PRICE_BITS: usize = 128;

/// The largest reserve of a pool.
pub const MAX_RESERVE: U256 = U256::from_limbs([u64::MAX, (1 << 48) - 1, 0, 0]);

/// A pool of the token that is traded and the token that is counted in, with what the trader has on its rollup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The pool's reserve of the traded token.
    pub base: U256,
    /// Its reserve of the counting token.
    pub quote: U256,
    /// How much of the traded token may be sold to it.
    pub own_base: U256,
    /// How much of the counting token may be spent in it.
    pub own_quote: U256,
    /// What trading in it costs, however little, in the counting token.
    pub cost: U256,
}

/// A trade in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trade {
    /// Buys exactly `base` of the traded token for `quote`.
    Buy {
        /// What comes out.
        base: U256,
        /// What goes in.
        quote: U256,
    },
    /// Sells exactly `base` of the traded token for `quote`.
    Sell {
        /// What goes in.
        base: U256,
        /// What comes out.
        quote: U256,
    },
}

/// What a pool gives for `amount`, rounded down. All three fit 112 bits.
pub(crate) fn amount_out(amount: U256, reserve_in: U256, reserve_out: U256) -> U256 {
    let kept = wide(amount) * U512::from(KEPT);
    let whole = wide(reserve_in) * U512::from(WHOLE) + kept;
    if whole.is_zero() { U256::ZERO } else { narrow(kept * wide(reserve_out) / whole) }
}

/// What a pool takes for `amount`, rounded up as it does; `None` when it does not have that much. All three fit 112 bits.
pub(crate) fn amount_in(amount: U256, reserve_in: U256, reserve_out: U256) -> Option<U256> {
    let left = reserve_out.checked_sub(amount).filter(|left| !left.is_zero())?;
    let taken = wide(reserve_in) * wide(amount) * U512::from(WHOLE) / (wide(left) * U512::from(KEPT));
    Some(narrow(taken)).filter(|taken| *taken < U256::MAX)?.checked_add(U256::ONE)
}

impl Pool {
    /// Whether it can be traded in at all.
    pub(crate) fn is_open(&self) -> bool {
        let within = |reserve: U256| !reserve.is_zero() && reserve <= MAX_RESERVE;
        within(self.base) && within(self.quote)
    }

    /// What buying that much costs; `None` when there is not enough of it, or of what pays for it.
    pub(crate) fn buy(&self, base: U256) -> Option<Trade> {
        let quote = amount_in(base, self.quote, self.base)?;
        let fits = quote <= self.own_quote && quote <= MAX_RESERVE - self.quote;
        fits.then_some(Trade::Buy { base, quote })
    }

    /// What selling that much brings; `None` when there is not enough of it.
    pub(crate) fn sell(&self, base: U256) -> Option<Trade> {
        (base <= self.most_sold()).then(|| Trade::Sell { base, quote: amount_out(base, self.base, self.quote) })
    }

    /// The most that can be bought.
    pub(crate) fn most_bought(&self) -> U256 {
        let budget = self.own_quote.min(MAX_RESERVE - self.quote);
        let most = amount_out(budget, self.quote, self.base);
        // What a pool takes is rounded up by one more than what it gives is rounded down.
        if self.buy(most).is_some() { most } else { most.saturating_sub(U256::ONE) }
    }

    /// The most that can be sold.
    pub(crate) fn most_sold(&self) -> U256 {
        self.own_base.min(MAX_RESERVE - self.base)
    }

    /// The price from which on the pool is bought from, and the one up to which it is sold to: marginal prices of the first
    /// unit, fee included.
    pub(crate) fn prices(&self) -> (U512, U512) {
        let scaled = wide(self.quote) << PRICE_BITS;
        let buying = scaled * U512::from(WHOLE) / (wide(self.base) * U512::from(KEPT));
        let selling = scaled * U512::from(KEPT) / (wide(self.base) * U512::from(WHOLE));
        (buying, selling)
    }

    /// How much is bought until the next unit costs `price`: x - sqrt(xy / (f p)), where f is what the fee leaves.
    pub(crate) fn bought_at(&self, price: U512) -> U256 {
        let left = self.product().checked_mul(U512::from(WHOLE)).map(|scaled| scaled / (price * U512::from(KEPT)));
        let left = left.map_or(self.base, |square| narrow(square.root(2)));
        self.base.saturating_sub(left).min(self.most_bought())
    }

    /// How much is sold until the next unit brings `price`: (sqrt(f xy / p) - x) / f.
    pub(crate) fn sold_at(&self, price: U512) -> U256 {
        let square = self.product() * U512::from(KEPT) / (price * U512::from(WHOLE));
        let rise = narrow(square.root(2)).saturating_sub(self.base);
        narrow(wide(rise) * U512::from(WHOLE) / U512::from(KEPT)).min(self.most_sold())
    }

    /// The product of the reserves, as a fixed-point number.
    fn product(&self) -> U512 {
        (wide(self.base) * wide(self.quote)) << PRICE_BITS
    }
}

/// How much to buy where a token is cheap and sell where it is dear, so that the next unit would cost what it brings:
/// (f x B - u A) / (f A + f B), where x and u are the reserves of the token in the cheap and the dear pool, A and B the roots of
/// the products of each pool's reserves, and f what the fee leaves. Zero when nothing can be gained.
pub(crate) fn moved_between(cheap: &Pool, dear: &Pool) -> U256 {
    let (kept, whole) = (U512::from(KEPT), U512::from(WHOLE));
    let (from, to) = (cheap.product().root(2), dear.product().root(2));
    let scale = (from + to) * kept;
    let Some(moved) = (wide(cheap.base) * to * kept).checked_sub(wide(dear.base) * from * whole) else { return U256::ZERO };
    if scale.is_zero() { U256::ZERO } else { narrow(moved / scale) }
}

pub(crate) fn wide(amount: U256) -> U512 {
    U512::from(amount)
}

/// The amount, or the largest one that fits.
pub(crate) fn narrow(amount: U512) -> U256 {
    U256::saturating_from_limbs_slice(amount.as_limbs())
}

//! Money: integers in the smallest unit, conversions explicit and checked.

use alloy_primitives::{I256, U256, uint};

const WEI_PER_UNIT: U256 = uint!(1_000_000_000_000_000_000_U256);

/// An amount of fewer bits times what a whole one has (60 bits) is far from overflowing.
const BITS_AT_PAR: usize = 190;

/// The price of one whole native asset (10^18 wei) in the smallest unit of the numeraire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price(pub U256);

impl Price {
    /// One wei is one smallest unit of the numeraire.
    pub const PAR: Self = Self(WEI_PER_UNIT);

    /// Weighs an amount of wei, rounding toward negative infinity, so that value is never overstated; `None` on overflow.
    pub fn weigh(self, wei: I256) -> Option<I256> {
        // The product below would not overflow, so the quotient is what was there.
        if self == Self::PAR && wei.unsigned_abs().bit_len() < BITS_AT_PAR {
            return Some(wei);
        }
        let price = I256::try_from(self.0).ok()?;
        let unit = to_signed(WEI_PER_UNIT)?;
        let product = wei.checked_mul(price)?;
        let quotient = product / unit;
        if product.is_negative() && product % unit != I256::ZERO { quotient.checked_sub(I256::ONE) } else { Some(quotient) }
    }
}

/// An unsigned amount as a signed one; `None` above 2^255 - 1.
pub fn to_signed(amount: U256) -> Option<I256> {
    I256::try_from(amount).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(value: i64) -> I256 {
        I256::try_from(value).unwrap()
    }

    #[test]
    fn weighing_rounds_down_on_both_sides_of_zero() {
        let half = Price(WEI_PER_UNIT / U256::from(2));
        assert_eq!(half.weigh(signed(3)), Some(signed(1)));
        assert_eq!(half.weigh(signed(-3)), Some(signed(-2)));
        assert_eq!(half.weigh(signed(-4)), Some(signed(-2)));
        assert_eq!(Price::PAR.weigh(signed(-7)), Some(signed(-7)));
        assert_eq!(Price(U256::MAX).weigh(signed(1)), None);
        assert_eq!(Price::PAR.weigh(I256::MAX), None);
    }
}

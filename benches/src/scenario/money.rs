//! Amounts beside each other, for reading.

use alloy_primitives::I256;

use crate::Row;

/// What the value of a proposal is shown in.
const UNIT: &str = "millionths of an ether";

/// A value beside another: the ratio is value by floor, and says truly which of the two is greater.
pub(super) fn beside(name: impl Into<String>, ours: I256, theirs: I256) -> Row {
    let row = Row::value(name, UNIT, millionths(ours)).beside(millionths(theirs));
    Row { ratio: Some(ratio(ours, theirs)), ..row }
}

/// A value that stands for itself.
pub(super) fn alone(name: impl Into<String>, value: I256) -> Row {
    Row::value(name, UNIT, millionths(value))
}

/// One amount by another. Amounts that differ by less than the digits of a ratio show are still not told to be equal.
pub(super) fn ratio(ours: I256, theirs: I256) -> f64 {
    if ours == theirs {
        return 1.0;
    }
    let ratio = millionths(ours) / millionths(theirs);
    if !theirs.is_positive() {
        return ratio;
    }
    if ours < theirs { ratio.min(1.0_f64.next_down()) } else { ratio.max(1.0_f64.next_up()) }
}

/// Wei as millionths of a whole, for reading: money is compared as the integers that it is.
fn millionths(wei: I256) -> f64 {
    // Below 2^127 wei is more than there is of anything.
    i128::try_from(wei).map_or(f64::NAN, |wei| wei as f64 / 1e12)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wei(amount: u128) -> I256 {
        I256::try_from(amount).unwrap()
    }

    #[test]
    fn a_wei_less_is_less_however_many_there_are() {
        let much = 10_u128.pow(30);
        assert!(ratio(wei(much - 1), wei(much)) < 1.0);
        assert!(ratio(wei(much + 1), wei(much)) > 1.0);
        assert_eq!(ratio(wei(much), wei(much)), 1.0);
        assert_eq!((ratio(I256::ZERO, I256::ZERO), ratio(wei(3), wei(4))), (1.0, 0.75));
        assert!(ratio(wei(1), I256::ZERO) > 1.0);
    }
}

//! What slots to come are worth, by what past ones were.

use std::collections::{BTreeMap, VecDeque};

use alloy_primitives::U256;
use lockstep_primitives::RollupSet;

use super::WHOLE_BPS;

/// How many sets of rollups a forecast knows.
pub const MAX_FORECAST_SETS: usize = 256;
/// How many slots it looks back at the most.
pub const MAX_FORECAST_WINDOW: usize = 4_096;
/// With fewer slots than this it forecasts nothing.
const LEAST_SAMPLES: usize = 3;

/// A moving quantile of what proposals were worth, less a margin for the risk that the next ones are worth less.
///
/// It is for rights that are bought before their slot is known, or long before it: what a slot to come brings nobody knows, and who
/// pays the mean of values with few great ones among them loses in most slots.
#[derive(Clone, Debug)]
pub struct Forecast {
    window: usize,
    quantile_bps: u64,
    margin_bps: u64,
    values: BTreeMap<RollupSet, VecDeque<U256>>,
}

impl Forecast {
    /// Looks back so many slots, at most [`MAX_FORECAST_WINDOW`]; takes the value that so many basis points of them do not exceed, and
    /// takes off so many basis points of it.
    pub fn new(window: usize, quantile_bps: u64, margin_bps: u64) -> Self {
        Self { window: window.clamp(1, MAX_FORECAST_WINDOW), quantile_bps, margin_bps, values: BTreeMap::new() }
    }

    /// Takes what a slot's proposals were worth. A set that was worth something before and is not among them was worth nothing.
    pub fn observe(&mut self, values: impl IntoIterator<Item = (RollupSet, U256)>) {
        let mut now: BTreeMap<RollupSet, U256> = values.into_iter().collect();
        for (rollups, past) in &mut self.values {
            past.push_back(now.remove(rollups).unwrap_or_default());
            if past.len() > self.window {
                past.pop_front();
            }
        }
        self.values.retain(|_, past| past.iter().any(|value| !value.is_zero()));
        for (rollups, value) in now {
            if self.values.len() >= MAX_FORECAST_SETS {
                break;
            }
            self.values.insert(rollups, [value].into());
        }
    }

    /// The sets of which the past tells something.
    pub fn sets(&self) -> impl Iterator<Item = &RollupSet> {
        self.values.keys()
    }

    /// What a slot of these rollups will be worth at the least, as far as the past tells; `None` before it tells anything.
    pub fn worth(&self, rollups: &RollupSet) -> Option<U256> {
        let past = self.values.get(rollups).filter(|past| past.len() >= LEAST_SAMPLES)?;
        let mut sorted: Vec<U256> = past.iter().copied().collect();
        sorted.sort_unstable();
        // The quantile of n values is the one of rank ceil(q n), counted from one.
        let rank = (self.quantile_bps.min(WHOLE_BPS) * sorted.len() as u64).div_ceil(WHOLE_BPS).max(1);
        let value = usize::try_from(rank - 1).ok().and_then(|index| sorted.get(index)).copied()?;
        let kept = U256::from(WHOLE_BPS.saturating_sub(self.margin_bps));
        let (whole, rest) = value.div_rem(U256::from(WHOLE_BPS));
        Some(whole * kept + rest * kept / U256::from(WHOLE_BPS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(forecast: &mut Forecast, values: &[(u64, u64)]) {
        forecast.observe(values.iter().map(|(chain, value)| ([*chain].into(), U256::from(*value))));
    }

    #[test]
    fn a_quantile_of_the_window_less_the_margin() {
        let mut median = Forecast::new(5, 5_000, 1_000);
        told(&mut median, &[(1, 100)]);
        told(&mut median, &[(1, 300)]);
        assert_eq!(median.worth(&[1].into()), None, "two slots tell nothing");
        told(&mut median, &[(1, 200)]);
        assert_eq!(median.worth(&[1].into()), Some(U256::from(180)));
        for _ in 0..5 {
            told(&mut median, &[(1, 1_000)]);
        }
        assert_eq!(median.worth(&[1].into()), Some(U256::from(900)), "what is long ago is forgotten");
        let mut careful = Forecast::new(100, 1_000, 0);
        (1..=20).for_each(|value| told(&mut careful, &[(1, value * 10)]));
        assert_eq!(careful.worth(&[1].into()), Some(U256::from(20)));
    }

    #[test]
    fn a_set_that_was_worth_nothing_counts_as_that_and_is_forgotten_in_the_end() {
        let mut forecast = Forecast::new(4, 5_000, 0);
        told(&mut forecast, &[(1, 100), (2, 50)]);
        told(&mut forecast, &[(1, 100)]);
        told(&mut forecast, &[(1, 100)]);
        assert_eq!((forecast.worth(&[1].into()), forecast.worth(&[2].into())), (Some(U256::from(100)), Some(U256::ZERO)));
        told(&mut forecast, &[]);
        told(&mut forecast, &[]);
        assert_eq!(forecast.worth(&[2].into()), None);
        assert_eq!(forecast.worth(&[3].into()), None);
    }

    #[test]
    fn extremes_are_kept() {
        let mut forecast = Forecast::new(usize::MAX, u64::MAX, u64::MAX);
        for _ in 0..3 {
            forecast.observe([([1].into(), U256::MAX)]);
        }
        assert_eq!(forecast.worth(&[1].into()), Some(U256::ZERO));
        let many = (0..1_000).map(|chain| ([chain].into(), U256::ONE));
        forecast.observe(many);
        assert_eq!(forecast.values.len(), MAX_FORECAST_SETS);
    }
}

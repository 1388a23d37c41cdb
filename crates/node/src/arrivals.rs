//! When public transactions came in, to the millisecond: what a sequencer that serves the first come first goes by.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::B256;

/// Stamps that are kept: twice what a pool holds by default, so that what is pending keeps its own.
const MAX_STAMPS: usize = 40_000;

/// Arrival by transaction. When there is no room the oldest is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    stamps: BTreeMap<B256, u64>,
    by_age: BTreeSet<(u64, B256)>,
}

impl Arrivals {
    /// Notes that a transaction came in at `at_ms`, in Unix milliseconds. Sent again it keeps its first stamp.
    pub(crate) fn note(&mut self, tx: B256, at_ms: u64) {
        if self.stamps.contains_key(&tx) {
            return;
        }
        self.stamps.insert(tx, at_ms);
        self.by_age.insert((at_ms, tx));
        while self.stamps.len() > MAX_STAMPS {
            let Some((_, oldest)) = self.by_age.pop_first() else { break };
            self.stamps.remove(&oldest);
            metrics::counter!("lockstep_arrivals_forgotten_total").increment(1);
        }
    }

    /// When a transaction came in; `None` when that is not known.
    pub(crate) fn of(&self, tx: B256) -> Option<u64> {
        self.stamps.get(&tx).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::U256;

    #[test]
    fn the_first_stamp_stays_and_the_oldest_is_forgotten() {
        let hash = |number: usize| B256::from(U256::from(number));
        let mut arrivals = Arrivals::default();
        for number in 0..=MAX_STAMPS {
            arrivals.note(hash(number), 1_000 + number as u64);
        }
        arrivals.note(hash(7), 5);
        assert_eq!(arrivals.of(hash(0)), None);
        assert_eq!(arrivals.of(hash(7)), Some(1_007));
        assert_eq!((arrivals.stamps.len(), arrivals.by_age.len()), (MAX_STAMPS, MAX_STAMPS));
    }
}

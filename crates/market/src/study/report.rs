//! What a study found.

use std::collections::BTreeMap;

use alloy_primitives::U256;
use lockstep_primitives::{ChainId, ImpliedBasis, RollupSet};

use super::Study;
use crate::{EarningsHistory, Outcome, Sale};

/// What a study found. Amounts are in wei a slot, on average.
#[derive(Clone, Debug, PartialEq)]
pub struct StudyReport {
    /// The mechanism.
    pub mechanism: &'static str,
    /// Rollups.
    pub sellers: usize,
    /// Bidders.
    pub bidders: usize,
    /// Slots.
    pub slots: u64,
    /// How many slots were sold at once.
    pub epoch_slots: u64,
    /// What everything was drawn from.
    pub seed: u64,
    /// What sellers were paid together.
    pub revenue: f64,
    /// What they would have been paid by a second-price sale of each rollup by itself, with truthful bidders.
    pub revenue_alone: f64,
    /// What the slots were worth to whoever got them, by what they could have been worth at the most.
    pub efficiency: f64,
    /// Of all sold rollup-slots, the share of the bidder that got most.
    pub largest_share: f64,
    /// The sum of the squares of all bidders' shares (Herfindahl-Hirschman): 1 when one has all, 1/n among n equals.
    pub concentration: f64,
    /// Of all rollup-slots, the share that was sold.
    pub sold_share: f64,
    /// The least that a seller was paid in all its sold slots, by its reserves in them.
    pub least_over_reserve: f64,
    /// What not selling would have earned the sellers together, less what there was, a slot: below zero selling was better.
    pub regret: f64,
    /// The slot's revenue that a tenth, a half and nine tenths of the slots do not exceed.
    pub revenue_deciles: [f64; 3],
}

/// What was seen so far.
#[derive(Debug)]
pub(super) struct Tally {
    sellers: usize,
    revenues: Vec<f64>,
    alone: f64,
    realised: f64,
    best: f64,
    won: BTreeMap<usize, u64>,
    /// By seller: what it was paid and its reserves, in its sold slots.
    paid: BTreeMap<ChainId, (U256, U256)>,
}

impl Tally {
    pub(super) fn new(sellers: usize) -> Self {
        let (won, paid) = (BTreeMap::new(), BTreeMap::new());
        Self { sellers, revenues: Vec::new(), alone: 0.0, realised: 0.0, best: 0.0, won, paid }
    }

    pub(super) fn note(
        &mut self,
        sale: &Sale,
        outcome: &Outcome,
        alone: &Outcome,
        of_bidder: &BTreeMap<usize, RollupSet>,
        realised: U256,
        best: U256,
    ) {
        self.revenues.push(float(revenue(outcome)));
        self.alone += float(revenue(alone));
        self.realised += float(realised);
        self.best += float(best);
        for (bidder, rollups) in of_bidder {
            *self.won.entry(*bidder).or_default() += rollups.len() as u64;
            for chain in rollups {
                let reserve = sale.terms().get(chain).map(|terms| terms.reserve).unwrap_or_default();
                let share = outcome.proceeds.get(chain).copied().unwrap_or_default();
                let known = self.paid.entry(*chain).or_default();
                *known = (known.0.saturating_add(share), known.1.saturating_add(reserve));
            }
        }
    }

    pub(super) fn report(self, study: &Study<'_>, histories: &BTreeMap<ChainId, EarningsHistory>) -> StudyReport {
        let slots = self.revenues.len().max(1) as f64;
        let sold: u64 = self.won.values().sum();
        let shares: Vec<f64> = self.won.values().map(|won| *won as f64 / sold.max(1) as f64).collect();
        let over_reserve = self.paid.values().filter(|(_, reserve)| !reserve.is_zero());
        let least = over_reserve.map(|(paid, reserve)| float(*paid) / float(*reserve)).fold(f64::INFINITY, f64::min);
        let regret = histories.values().map(|history| {
            let regret = history.regret(ImpliedBasis::Computed, 0, u64::MAX);
            float(regret.own) - float(regret.got)
        });
        let regret = regret.sum::<f64>() / slots;
        let mut sorted = self.revenues.clone();
        sorted.sort_by(f64::total_cmp);
        let decile = |tenths: usize| sorted.get((sorted.len() * tenths / 10).min(sorted.len().saturating_sub(1))).copied();
        StudyReport {
            mechanism: study.selling.name(),
            sellers: study.sellers,
            bidders: study.bidders,
            slots: study.slots,
            epoch_slots: study.epoch_slots,
            seed: study.seed,
            revenue: self.revenues.iter().sum::<f64>() / slots,
            revenue_alone: self.alone / slots,
            efficiency: if self.best > 0.0 { self.realised / self.best } else { 1.0 },
            largest_share: shares.iter().copied().fold(0.0, f64::max),
            concentration: shares.iter().map(|share| share * share).sum(),
            sold_share: sold as f64 / (slots * self.sellers as f64),
            least_over_reserve: if least.is_finite() { least } else { 1.0 },
            regret,
            revenue_deciles: [1, 5, 9].map(|tenths| decile(tenths).unwrap_or_default()),
        }
    }
}

fn revenue(outcome: &Outcome) -> U256 {
    outcome.proceeds.values().fold(U256::ZERO, |sum, paid| sum.saturating_add(*paid))
}

fn float(amount: U256) -> f64 {
    f64::from(amount)
}

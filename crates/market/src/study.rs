//! How mechanisms do over many slots of a made-up population: revenue, efficiency, concentration.
//!
//! ```text
//!  what a rollup's slot is worth: Pareto-like, so that most are worth little and few much
//!    x how good a bidder is there: half to one and a half, its own for each rollup, the same in all slots
//!    x what having several brings: up to a third more for each further rollup, the bidder's own
//!  a default proposer earns six tenths of the common worth; reserves are the mean of what it would have earned lately
//! ```
//!
//! Bidders know what rollups are worth to them, and how many others there are, and nothing else. What they bid under a mechanism is
//! its [`Conduct`]. Where an epoch is sold at once they do not know its slots yet, and bid by what a slot is worth to them on average;
//! who wins has the epoch, and builds or lets be what the slots turn out to be worth. The same seed gives the same population and the same slots for every mechanism, so their figures compare.
//! Integers decide everything; floating point is for what is printed.

mod optimum;
mod population;
mod report;
mod ticket_buyers;

pub use report::StudyReport;

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, U256};
use lockstep_primitives::{Bid, ChainId, ImpliedBasis, ImpliedMeasure, ImpliedReserve, ReserveRule, RollupSet};

use self::{optimum::optimum, population::Population, report::Tally, ticket_buyers::Tickets};
use crate::{AcceptedBid, Clearing, EarningsHistory, Figure, Mechanism, Outcome, Sale, SecondPrice, Terms, reserve_at};

/// The most sellers of a study: the optimum is found over all sets of them.
pub const MAX_STUDY_SELLERS: usize = 10;
/// The most bidders of a study.
pub const MAX_STUDY_BIDDERS: usize = 64;
/// The most slots of a study.
pub const MAX_STUDY_SLOTS: u64 = 100_000;
/// Up to so many sellers every package is bid for; with more of them single rollups, pairs, and all together.
const EVERY_PACKAGE: usize = 4;
/// Slots that reserves are implied by.
const WINDOW: u64 = 32;

/// How bidders bid under a mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    /// What a package is worth to them.
    Truthful,
    /// Less than that, by one part in as many as there are bidders: what is best against others whose values are drawn alike and
    /// evenly (Vickrey, 1961).
    Shaded,
    /// What is best where the chances are in proportion to what is bid and only the winner pays, among equals: the part
    /// (n - 1) / (2 n - 1). There (value - bid) x bid / (bid + what the others bid) is greatest.
    Contest,
}

/// Why a study cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a study has 1 to {MAX_STUDY_SELLERS} sellers, 1 to {MAX_STUDY_BIDDERS} bidders, 1 to {MAX_STUDY_SLOTS} slots, sold at least one at a time"
)]
pub struct StudyError;

/// How the slots of a study are sold.
#[derive(Clone, Copy, Debug)]
pub enum StudySelling<'a> {
    /// To bids.
    Slots(&'a dyn Mechanism, Conduct),
    /// By tickets for all rollups together, none with more than so many basis points of a draw's chances.
    Tickets {
        /// The cap.
        max_share_bps: u64,
    },
}

impl StudySelling<'_> {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Slots(mechanism, _) => mechanism.name(),
            Self::Tickets { .. } => "tickets",
        }
    }
}

/// What is studied.
#[derive(Clone, Copy, Debug)]
pub struct Study<'a> {
    /// Rollups.
    pub sellers: usize,
    /// Bidders.
    pub bidders: usize,
    /// Slots.
    pub slots: u64,
    /// How they are sold.
    pub selling: StudySelling<'a>,
    /// How many slots are sold to bids at once, before anybody knows what they are worth; with 1 each by itself, when that is known.
    pub epoch_slots: u64,
    /// What everything is drawn from.
    pub seed: u64,
}

impl Study<'_> {
    /// Sells all slots.
    ///
    /// # Errors
    /// When there are none or too many of something.
    pub fn run(&self) -> Result<StudyReport, StudyError> {
        let Self { sellers, bidders, slots, .. } = *self;
        let fits = (1..=MAX_STUDY_SELLERS).contains(&sellers)
            && (1..=MAX_STUDY_BIDDERS).contains(&bidders)
            && (1..=MAX_STUDY_SLOTS).contains(&slots)
            && self.epoch_slots > 0;
        if !fits {
            return Err(StudyError);
        }
        let population = Population::new(self.seed, sellers, bidders);
        let mut histories: BTreeMap<ChainId, EarningsHistory> =
            (0..sellers as ChainId).map(|chain| (chain, EarningsHistory::new(chain))).collect();
        let packages = packages(sellers);
        let mut tally = Tally::new(sellers);
        let mut tickets = match self.selling {
            StudySelling::Slots(..) => None,
            StudySelling::Tickets { max_share_bps } => Some(Tickets::new(sellers, max_share_bps)),
        };
        let mut sold_ahead: Option<(Sale, Outcome)> = None;
        for slot in 0..slots {
            let worth = population.slot(slot);
            let sale = sale(slot, &histories, sellers);
            let value = |bidder: usize, package: &RollupSet| population.value(&worth, bidder, package);
            let seed = B256::from(U256::from(self.seed)) ^ B256::from(U256::from(slot));
            if slot % self.epoch_slots == 0 {
                sold_ahead = self.sell_epoch(&sale, &population, &packages, seed);
            }
            let (held, outcome) = match (self.selling, &mut tickets, &sold_ahead) {
                (StudySelling::Slots(..), _, Some((held, outcome))) => (held, outcome.clone()),
                (StudySelling::Slots(mechanism, conduct), ..) => {
                    (&sale, Outcome::decide(mechanism, &sale, bids(conduct, &sale, bidders, &packages, value), seed))
                }
                (StudySelling::Tickets { .. }, Some(tickets), _) => {
                    (&sale, Outcome::of(tickets.clear(&sale, &population, bidders, seed), &sale, Vec::new()))
                }
                (StudySelling::Tickets { .. }, None, _) => (&sale, Outcome::of(Clearing::default(), &sale, Vec::new())),
            };

            let singles: Vec<RollupSet> = (0..sellers as ChainId).map(|chain| [chain].into()).collect();
            let truthful = bids(Conduct::Truthful, &sale, bidders, &singles, value);
            let alone = Outcome::decide(&SecondPrice, &sale, truthful, seed);

            let mut realised = U256::ZERO;
            let mut of_bidder: BTreeMap<usize, RollupSet> = BTreeMap::new();
            for win in &outcome.wins {
                of_bidder.entry(index_of(win.bidder)).or_default().extend(&win.rollups);
            }
            for (bidder, package) in &of_bidder {
                realised += value(*bidder, package);
            }
            let sold: RollupSet = of_bidder.values().flatten().copied().collect();
            for (chain, history) in &mut histories {
                let own = Population::default_value(&worth, *chain);
                let mut figures = vec![Figure::Computed(own)];
                if sold.contains(chain) {
                    figures.push(Figure::Paid(outcome.proceeds.get(chain).copied().unwrap_or_default()));
                } else {
                    realised += own;
                    figures.push(Figure::Earned(own));
                }
                for figure in figures {
                    // Values are far below what a history refuses.
                    let _too_much = history.record(slot, figure, slot);
                }
            }
            let best = optimum(sellers, bidders, value, |chain| Population::default_value(&worth, chain));
            tally.note(held, &outcome, &alone, &of_bidder, realised, best);
        }
        Ok(tally.report(self, &histories))
    }

    /// Sells the slots of an epoch at once, at the reserves of its first one; `None` where each is sold by itself.
    fn sell_epoch(&self, sale: &Sale, population: &Population, packages: &[RollupSet], seed: B256) -> Option<(Sale, Outcome)> {
        let StudySelling::Slots(mechanism, conduct) = self.selling else { return None };
        let average = |bidder: usize, package: &RollupSet| population.mean_value(bidder, package);
        let offers = || bids(conduct, sale, self.bidders, packages, average);
        (self.epoch_slots > 1).then(|| (sale.clone(), Outcome::decide(mechanism, sale, offers(), seed)))
    }
}

fn bids(
    conduct: Conduct,
    sale: &Sale,
    bidders: usize,
    packages: &[RollupSet],
    value: impl Fn(usize, &RollupSet) -> U256,
) -> Vec<AcceptedBid> {
    let many = U256::from(bidders);
    let mut bids = Vec::new();
    for bidder in 0..bidders {
        for package in packages {
            let value = value(bidder, package);
            let wanted = match conduct {
                Conduct::Truthful => value,
                Conduct::Shaded => value * (many - U256::ONE) / many,
                Conduct::Contest => value * (many - U256::ONE) / (many * U256::from(2) - U256::ONE),
            };
            // Who has something to gain at the reserve bids at least that.
            let reserve = sale.reserve(package);
            if value < reserve {
                continue;
            }
            let amount = wanted.max(reserve);
            let bid = Bid { slot: sale.slot(), rollups: package.clone(), amount, exclusive: None, nonce: 1 };
            bids.push(AcceptedBid::new(address_of(bidder), bid));
        }
    }
    bids
}

/// The packages that are bid for.
fn packages(sellers: usize) -> Vec<RollupSet> {
    let of = |mask: u32| -> RollupSet { (0..sellers as ChainId).filter(|chain| mask >> chain & 1 == 1).collect() };
    let all = (1_u32 << sellers) - 1;
    let wanted = |mask: &u32| sellers <= EVERY_PACKAGE || mask.count_ones() <= 2 || *mask == all;
    (1..=all).filter(wanted).map(of).collect()
}

/// What is on sale in a slot, at reserves that the last slots imply.
fn sale(slot: u64, histories: &BTreeMap<ChainId, EarningsHistory>, sellers: usize) -> Sale {
    let rule = ReserveRule::Implied(ImpliedReserve {
        basis: ImpliedBasis::Computed,
        measure: ImpliedMeasure::Mean,
        window: WINDOW,
        min_samples: 1,
        floor: U256::ZERO,
    });
    let mut terms = BTreeMap::new();
    for chain in 0..sellers as ChainId {
        let reserve = histories.get(&chain).and_then(|history| reserve_at(&rule, slot, slot, history)).unwrap_or_default();
        terms.insert(chain, Terms { reserve, default_proposer: Address::ZERO });
    }
    // There are at most ten sellers, each with terms.
    Sale::new(slot, terms).unwrap_or_else(|error| unreachable!("{error}"))
}

fn address_of(bidder: usize) -> Address {
    Address::left_padding_from(&(bidder as u64 + 1).to_be_bytes())
}

fn index_of(address: Address) -> usize {
    address.into_word().0.last_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes).saturating_sub(1) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Combinatorial, CoreSelecting, FirstPrice, Lottery, PostedPrice, Sharing};

    fn study<'a>(mechanism: &'a dyn Mechanism, conduct: Conduct) -> Study<'a> {
        Study { sellers: 3, bidders: 4, slots: 60, selling: StudySelling::Slots(mechanism, conduct), epoch_slots: 1, seed: 7 }
    }

    #[test]
    fn the_same_seed_gives_the_same_figures() {
        let run = |seed| Study { seed, ..study(&Combinatorial::default(), Conduct::Shaded) }.run().unwrap();
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn no_seller_gets_less_than_its_reserve_and_nothing_is_better_than_the_best() {
        let mechanisms: [(&dyn Mechanism, Conduct); 6] = [
            (&CoreSelecting { sharing: Sharing::Shapley }, Conduct::Truthful),
            (&FirstPrice, Conduct::Shaded),
            (&SecondPrice, Conduct::Truthful),
            (&Combinatorial::default(), Conduct::Shaded),
            (&Lottery { max_share_bps: 5_000, sharing: Sharing::Proportional }, Conduct::Contest),
            (&PostedPrice, Conduct::Truthful),
        ];
        for (mechanism, conduct) in mechanisms {
            let report = study(mechanism, conduct).run().unwrap();
            assert!(report.least_over_reserve >= 1.0, "{report:?}");
            assert!(report.efficiency > 0.3 && report.efficiency <= 1.0, "{report:?}");
            assert!(report.largest_share >= 0.25 && report.largest_share <= 1.0, "{report:?}");
        }
    }

    #[test]
    fn packages_bring_more_than_rollups_one_by_one() {
        let packages = study(&Combinatorial::default(), Conduct::Shaded).run().unwrap();
        let singles = study(&FirstPrice, Conduct::Shaded).run().unwrap();
        assert!(packages.revenue > singles.revenue && packages.efficiency > singles.efficiency, "{packages:?} {singles:?}");
        assert_eq!(packages.revenue_alone, singles.revenue_alone, "the same slots, sold separately");
    }

    #[test]
    fn tickets_are_bought_and_drawn_and_a_cap_spreads_them() {
        let run = |max_share_bps| {
            Study { selling: StudySelling::Tickets { max_share_bps }, slots: 400, ..study(&FirstPrice, Conduct::Shaded) }
                .run()
                .unwrap()
        };
        let (free, capped) = (run(10_000), run(4_000));
        assert_eq!(free.mechanism, "tickets");
        assert!(free.sold_share > 0.5 && free.least_over_reserve >= 1.0, "{free:?}");
        assert!(capped.largest_share <= free.largest_share, "{free:?} {capped:?}");
    }

    #[test]
    fn who_wins_an_epoch_has_all_of_its_slots() {
        let packages = Combinatorial::default();
        let single = Study { sellers: 4, bidders: 8, slots: 320, seed: 1, ..study(&packages, Conduct::Shaded) };
        let (one, many) = (single.run().unwrap(), Study { epoch_slots: 32, ..single }.run().unwrap());
        assert!(many.largest_share > one.largest_share && many.efficiency < one.efficiency, "{one:?} {many:?}");
        assert!(many.least_over_reserve >= 1.0, "{many:?}");
        assert_eq!(Study { epoch_slots: 0, ..single }.run(), Err(StudyError));
    }

    #[test]
    fn studies_of_nothing_or_of_too_much_are_refused() {
        let packages = Combinatorial::default();
        let good = study(&packages, Conduct::Shaded);
        for bad in [
            Study { sellers: 0, ..good },
            Study { sellers: MAX_STUDY_SELLERS + 1, ..good },
            Study { bidders: 0, ..good },
            Study { slots: 0, ..good },
        ] {
            assert_eq!(bad.run(), Err(StudyError));
        }
    }
}

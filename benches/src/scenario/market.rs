//! How long does it take to find out who wins a slot?
//!
//! The production path: [`Outcome::decide`] with the combinatorial mechanism, and once with core-selecting payments, from bids
//! whose signatures were checked to the allocation and what each seller gets. The floor is reading the same bids once: sorting
//! them by their digests.

use std::{collections::BTreeMap, hint::black_box, time::Instant};

use alloy_primitives::{Address, B256, U256};
use lockstep_market::{
    AcceptedBid, Combinatorial, CoreSelecting, MAX_BIDS_PER_SLOT, MAX_SELLERS, Mechanism, Outcome, Sale, Sharing, Terms,
};
use lockstep_primitives::{Bid, ChainId, RollupSet};

use crate::{
    Failed, Flag, Options, Progress, Report, Requirement, Row,
    machine::{memory_bytes, peak_memory_bytes},
    measure::Samples,
    rng::Rng,
};

/// Where winners pay what they bid.
const AS_BID: Combinatorial = Combinatorial { sharing: Sharing::Proportional };

/// Which options it takes.
pub(super) const TAKES: &[Flag] = &[Flag::Rollups, Flag::Bundles];

/// Sellers of which every package is bid for, and by how many bidders.
const EVERY_PACKAGE: (usize, usize) = (10, 20);
/// Many sellers, and packages that are bid for.
const MANY: (usize, usize) = (64, 10_000);
/// Sellers, and bids, of the growth table.
const SELLERS: &[usize] = &[4, 8, 12, 16, 20, 24, 32, 48, 64];
const BIDS: &[usize] = &[1_000, 2_000, 4_000, 8_000, 16_000];
/// Bids while the sellers grow, and sellers while the bids do.
const FIXED: (usize, usize) = (2_000, 20);
/// Runs of one point.
const RUNS: usize = 5;
/// Rollups of a package at the most, where not every package is bid for.
const LARGEST: u64 = 5;
/// The slot, and wei in a thousandth of an ether.
const SLOT: u64 = 1;
const MILLI: u64 = 1_000_000_000_000_000;
/// By how much the surplus may be below the greatest there is, in parts of a billion: what rounding costs.
const GAP_PER_BILLION: f64 = 1.0;

/// Runs the scenario.
///
/// # Errors
/// When there are more sellers or bids than a market takes.
pub(super) fn run(options: &Options) -> Result<Report, Failed> {
    let mut report = Report::new(options);
    let mut rng = Rng::new(options.seed);
    if options.rollups.is_some() || options.bundles.is_some() {
        let (sellers, bids) = (options.rollups.unwrap_or(MANY.0), options.bundles.unwrap_or(MANY.1));
        check(sellers, bids)?;
        let point = Point::drawn(&mut rng, sellers, bids);
        point.measure(&format!("{sellers} sellers, {bids} package bids"), &AS_BID, &mut report)?;
        return Ok(report);
    }
    let progress = Progress::new("market", 2 + SELLERS.len() + BIDS.len());
    let (sellers, bidders) = EVERY_PACKAGE;
    let point = Point::every_package(&mut rng, sellers, bidders);
    let label = format!("{sellers} sellers, every package by {bidders} bidders ({} bids)", point.bids.len());
    point.measure(&label, &AS_BID, &mut report)?;
    point.measure(&format!("{label}, core-selecting"), &CoreSelecting::default(), &mut report)?;
    progress.step();
    let (sellers, bids) = MANY;
    let point = Point::drawn(&mut rng, sellers, bids);
    point.measure(&format!("{sellers} sellers, {bids} package bids"), &AS_BID, &mut report)?;
    progress.step();
    for sellers in SELLERS {
        let point = Point::drawn(&mut rng, *sellers, FIXED.0);
        point.measure(&format!("growth: {sellers} sellers, {} bids", FIXED.0), &AS_BID, &mut report)?;
        progress.step();
    }
    for bids in BIDS {
        let point = Point::drawn(&mut rng, FIXED.1, *bids);
        point.measure(&format!("growth: {} sellers, {bids} bids", FIXED.1), &AS_BID, &mut report)?;
        progress.step();
    }
    match peak_memory_bytes() {
        Some(peak) => report.row(Row::value("peak memory, bids included", "MiB", mebibytes(peak))),
        None => report.note("The system does not say how much memory the process holds."),
    }
    report.note(format!(
        "time: from bids to the outcome; floor: the bids sorted by their digests; medians of {RUNS} runs, not paired. Up to 20 \
         sellers that are tied together are decided by dynamic programming, more by an integer programme. Packages have 1 to \
         {LARGEST} sellers, where not every package is bid for; values are a bidder's own for each seller, and up to a fifth more \
         for each further seller of a package. Memory is what the process grows by."
    ));
    Ok(report)
}

fn check(sellers: usize, bids: usize) -> Result<(), Failed> {
    if sellers == 0 || sellers > MAX_SELLERS || bids > MAX_BIDS_PER_SLOT {
        return Err(format!("a market has 1 to {MAX_SELLERS} sellers and takes {MAX_BIDS_PER_SLOT} bids a slot").into());
    }
    Ok(())
}

/// A sale, and what is bid.
struct Point {
    sale: Sale,
    bids: Vec<AcceptedBid>,
}

impl Point {
    /// Every package of the sellers, bid for by every bidder.
    fn every_package(rng: &mut Rng, sellers: usize, bidders: usize) -> Self {
        let mut bids = Vec::new();
        for bidder in 0..bidders {
            let own: Vec<u64> = (0..sellers).map(|_| value(rng)).collect();
            for mask in 1_u64..1 << sellers {
                let package: RollupSet = (0..sellers as u64).filter(|seller| mask >> seller & 1 == 1).collect();
                bids.push(bid(rng, bidder, package, &own));
            }
        }
        Self { sale: sale(sellers), bids }
    }

    /// Packages that are drawn.
    fn drawn(rng: &mut Rng, sellers: usize, count: usize) -> Self {
        let common: Vec<u64> = (0..sellers).map(|_| value(rng)).collect();
        let mut bids = Vec::with_capacity(count);
        for bidder in 0..count {
            let size = 1 + rng.below(LARGEST.min(sellers as u64));
            let mut package = RollupSet::new();
            while (package.len() as u64) < size {
                package.insert(rng.below(sellers as u64));
            }
            // What a seller is worth differs by a fifth from bidder to bidder.
            let own: Vec<u64> = common.iter().map(|value| value * (900 + rng.below(200)) / 1_000).collect();
            bids.push(bid(rng, bidder, package, &own));
        }
        Self { sale: sale(sellers), bids }
    }

    fn measure(&self, label: &str, mechanism: &dyn Mechanism, report: &mut Report) -> Result<(), Failed> {
        let (mut ours, mut floor) = (Samples::default(), Samples::default());
        let before = memory_bytes();
        let (mut surplus, mut gap) = (U256::ZERO, U256::ZERO);
        for _ in 0..RUNS {
            let bids = self.bids.clone();
            let began = Instant::now();
            let outcome = black_box(Outcome::decide(mechanism, &self.sale, bids, B256::ZERO));
            ours.0.push(began.elapsed().as_secs_f64());
            let mut bids = self.bids.clone();
            let began = Instant::now();
            bids.sort_by_key(|accepted| accepted.digest);
            black_box(&bids);
            floor.0.push(began.elapsed().as_secs_f64());
            if !outcome.as_bid.is_empty() {
                return Err(format!("{label}: payments could not be computed in time").into());
            }
            surplus = outcome.wins.iter().fold(U256::ZERO, |sum, win| sum + win.price);
            gap = outcome.gap;
        }
        let ms = |samples: &Samples| samples.map(|seconds| seconds * 1e3);
        report.row(Row::samples(format!("{label}: time"), "ms", &ms(&ours)).beside(ms(&floor).median()));
        let share = f64::from(gap) / f64::from(surplus.max(U256::ONE)) * 1e9;
        let row = Row::value(format!("{label}: gap by the revenue"), "billionths", share);
        report.row(row.require(Requirement::AtMost(GAP_PER_BILLION)));
        if let (Some(before), Some(after)) = (before, memory_bytes()) {
            report.row(Row::value(format!("{label}: memory"), "MiB", mebibytes(after.saturating_sub(before))));
        }
        Ok(())
    }
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// What a seller is worth, in thousandths of an ether: most are worth little, and few much.
const fn value(rng: &mut Rng) -> u64 {
    10 + rng.below(100) * rng.below(100) / 10
}

fn sale(sellers: usize) -> Sale {
    let terms = |seller| (seller, Terms { reserve: U256::ZERO, default_proposer: Address::ZERO });
    let terms: BTreeMap<ChainId, Terms> = (0..sellers as ChainId).map(terms).collect();
    // The number of sellers was checked.
    Sale::new(SLOT, terms).unwrap_or_else(|error| unreachable!("{error}"))
}

/// A bid for a package at what its sellers are worth to the bidder, and more together.
fn bid(rng: &mut Rng, bidder: usize, rollups: RollupSet, own: &[u64]) -> AcceptedBid {
    let sum: u64 = rollups.iter().filter_map(|seller| own.get(usize::try_from(*seller).ok()?)).sum();
    let further = rollups.len() as u64 - 1;
    let amount = U256::from(sum * (1_000 + further * rng.below(50)) / 1_000) * U256::from(MILLI) + U256::from(rng.below(MILLI));
    let bidder = Address::left_padding_from(&(bidder as u64 + 1).to_be_bytes());
    AcceptedBid::new(bidder, Bid { slot: SLOT, rollups, amount, exclusive: None, nonce: 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_market_is_decided_exactly() {
        let options = Options { rollups: Some(6), bundles: Some(60), ..Options::of("market") };
        let report = run(&options).unwrap();
        let gap = report.rows.iter().find(|row| row.name.contains("gap by the revenue")).unwrap();
        assert_eq!((gap.value, gap.holds), (0.0, Some(true)));
        assert!(run(&Options { rollups: Some(65), ..Options::of("market") }).is_err());
    }
}

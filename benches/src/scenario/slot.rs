//! How long after the last accepted bundle are the bids of a slot out?
//!
//! A whole node runs: every role, rollups in the same process, what it acknowledges on disk, and its market behind a port of its
//! own. Signed requests come by HTTP at a steady rate, up to the deadline of every slot and beyond it. First the rate that the
//! node sustains is looked for, on a new node for every rate; then slots are watched at 70 % of it.

mod flow;
mod front;
mod node;
mod trial;

use tokio::runtime::{Builder, Runtime};

use crate::{Failed, Flag, Options, Progress, Report, Requirement, Row, measure::Samples};

use self::{
    flow::Flow,
    node::{Node, Sites},
    trial::{LEAD, Trial},
};

/// Which options it takes.
pub(super) const TAKES: &[Flag] = &[Flag::Rollups];

/// How it is measured.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Length of a slot, and of a block, in milliseconds: whole seconds.
    slot_ms: u64,
    /// The rate that the search begins with, in requests a second.
    first_rate: u64,
    /// The rate at which it ends at the latest.
    most_rate: u64,
    /// Slots of a rate while it is looked for.
    search_slots: u64,
    /// Slots that count.
    slots: u64,
}

const PLAN: Plan = Plan { slot_ms: 2_000, first_rate: 100, most_rate: 12_800, search_slots: 6, slots: 20 };
/// What part of the sustained rate slots are watched at, in percent.
const SHARE: u64 = 70;
/// A rate is not sustained where more of what a slot's lists were built from is left pending, in percent: the next slots have it
/// to do as well.
const LEFT: usize = 10;
/// A rate is not sustained where one request in a hundred waits longer than that for its acknowledgement, in seconds.
const LAG: f64 = 0.250;

/// Runs the scenario.
///
/// # Errors
/// When the node does not run, or sustains no rate at all.
pub(super) fn run(options: &Options) -> Result<Report, Failed> {
    let bench = Bench::new(options.rollups.unwrap_or(2), options.seed, PLAN)?;
    let mut report = Report::new(options);
    let found = bench.search()?;
    let at_most = found.rate >= PLAN.most_rate;
    report.row(Row::value("sustained rate", "requests/s", found.rate as f64));
    let rate = (found.rate * SHARE / 100).max(1);
    let trial = bench.trial(rate, PLAN.slots)?;
    tell(&trial, &mut report);
    report.note(format!(
        "{} rollups, slots and blocks of {} ms; {}. A rate is sustained when no request is refused, 99 in 100 are acknowledged \
         within {} ms of when they were due, and of {} slots none is missed nor leaves more than {LEFT} % of its bundles pending; \
         rates are doubled until one is not, twice{}.",
        bench.rollups,
        PLAN.slot_ms,
        bench.flow.description(),
        LAG * 1e3,
        PLAN.search_slots,
        if at_most { ", and the highest that was tried was" } else { "" },
    ));
    report.note(
        "a slot's times end when its last bid comes to the market, and begin with the last acknowledgement of a bundle that had a \
         part in the slot, or with the time at which the builder is due to begin. The node, its market, the rollups and whoever \
         sends the requests share the processors. A deadline is missed when a slot closes without a bid of ours.",
    );
    for (what, count) in &found.limits {
        report.note(format!("what ended the search: {what} was not kept {count} times"));
    }
    for (reason, count) in &trial.refused {
        report.note(format!("refused in the watched slots: {reason}, {count} times"));
    }
    Ok(report)
}

/// The rows of the slots that count.
fn tell(trial: &Trial, report: &mut Report) {
    report.row(Row::value(format!("rate of the watched slots, {SHARE} % of it"), "requests/s", trial.rate as f64));
    report.row(Row::value("missed deadlines", "slots", trial.missed() as f64).require(Requirement::AtMost(0.0)));
    report.row(Row::value("watched slots", "slots", trial.slots.len() as f64));
    percentiles("last accepted bundle to last bid", &trial.times(|slot| slot.from_last_accepted), report);
    percentiles("start of building to last bid", &trial.times(|slot| slot.from_build), report);
    percentiles("due request to its acknowledgement", &trial.waits, report);
    report.row(Row::value("accepted requests", "requests", trial.accepted as f64));
    report.row(Row::value("refused requests", "requests", trial.refusals() as f64));
    let landed = trial.times(|slot| Some(slot.landed as f64));
    report.row(Row::samples("transactions in the blocks of a slot", "transactions", &landed));
    let left = trial.times(|slot| Some(slot.left as f64));
    report.row(Row::samples("bundles that a slot leaves pending", "bundles", &left));
    let missed: Vec<String> = trial.slots.iter().filter(|slot| !slot.bid).map(|slot| slot.slot.to_string()).collect();
    if !missed.is_empty() {
        report.note(format!("missed: slots {}", missed.join(", ")));
    }
}

/// Median and 99th percentile, in milliseconds.
fn percentiles(name: &str, seconds: &Samples, report: &mut Report) {
    let ms = seconds.map(|seconds| seconds * 1e3);
    for (share, label) in [(0.5, "p50"), (0.99, "p99")] {
        report.row(Row { spread: ms.spread(), ..Row::value(format!("{name}, {label}"), "ms", ms.percentile(share)) });
    }
}

/// The highest rate that was sustained.
struct Found {
    rate: u64,
    /// What went wrong at the next one, and how often.
    limits: Vec<(String, usize)>,
}

/// Nodes to send to, and what is sent.
struct Bench {
    runtime: Runtime,
    rollups: usize,
    flow: Flow,
    plan: Plan,
}

impl Bench {
    fn new(rollups: usize, seed: u64, plan: Plan) -> Result<Self, Failed> {
        let Sites { chains, probe } = Sites::of(rollups)?;
        let runtime = Builder::new_multi_thread().enable_all().build()?;
        Ok(Self { runtime, rollups, flow: Flow::new(chains, probe, seed)?, plan })
    }

    /// Runs slots at a rate, on a new node.
    fn trial(&self, rate: u64, slots: u64) -> Result<Trial, Failed> {
        // From the start on, and one slot more for what a clock may be off.
        let seconds = (slots + LEAD + 1) * self.plan.slot_ms / 1_000;
        let requests = self.flow.draw(usize::try_from(rate * seconds)?)?;
        self.runtime.block_on(async {
            let node = Node::start(self.rollups, self.plan.slot_ms, &self.flow.senders()).await?;
            let trial = Trial::run(&node, requests, rate, slots).await;
            node.stop().await?;
            trial
        })
    }

    /// Doubles the rate while it is sustained, and then tries the middle between the last two. Where the first is not
    /// sustained it is halved until one is. A rate is not sustained when it was not twice: others use the machine, too.
    fn search(&self) -> Result<Found, Failed> {
        let Plan { first_rate, most_rate, search_slots, .. } = self.plan;
        let progress = Progress::new("slot", 0);
        let attempt = |rate: u64| -> Result<Trial, Failed> {
            progress.step();
            let trial = self.trial(rate, search_slots)?;
            if is_sustained(&trial) { Ok(trial) } else { self.trial(rate, search_slots) }
        };
        let mut best = 0;
        let mut rate = first_rate;
        let mut limits = Vec::new();
        while (1..=most_rate).contains(&rate) {
            let trial = attempt(rate)?;
            if is_sustained(&trial) {
                best = rate;
                if !limits.is_empty() {
                    break;
                }
                rate *= 2;
            } else {
                limits = limits_of(&trial);
                if best > 0 {
                    break;
                }
                rate /= 2;
            }
        }
        if best == 0 {
            return Err(format!("the node does not sustain one request a second: {limits:?}").into());
        }
        let middle = best + best / 2;
        if !limits.is_empty() && middle > best && is_sustained(&attempt(middle)?) {
            best = middle;
        }
        Ok(Found { rate: best, limits })
    }
}

fn is_sustained(trial: &Trial) -> bool {
    trial.missed() == 0 && trial.refusals() == 0 && trial.waits.percentile(0.99) <= LAG && behind(trial) == 0
}

/// Slots that left more pending than what is left over.
fn behind(trial: &Trial) -> usize {
    trial.slots.iter().filter(|slot| slot.left * 100 > slot.considered * LEFT).count()
}

/// Why a rate is not sustained.
fn limits_of(trial: &Trial) -> Vec<(String, usize)> {
    let rate = trial.rate;
    let late = trial.waits.0.iter().filter(|wait| **wait > LAG).count();
    let mut limits = vec![
        (format!("at {rate} requests/s a deadline"), trial.missed()),
        (format!("at {rate} requests/s emptying the pool"), behind(trial)),
        (format!("at {rate} requests/s an acknowledgement within {} ms", LAG * 1e3), late),
    ];
    let refused = trial.refused.iter();
    limits.extend(refused.map(|(reason, count)| (format!("at {rate} requests/s admission (refused as {reason})"), *count)));
    limits.retain(|(_, count)| *count > 0);
    limits
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{trial::SlotOutcome, *};

    const SMALL: Plan = Plan { slot_ms: 1_000, first_rate: 5, most_rate: 5, search_slots: 1, slots: 2 };

    #[test]
    fn a_node_takes_requests_and_bids_come_to_its_market() {
        let bench = Bench::new(2, 1, SMALL).unwrap();
        let trial = bench.trial(SMALL.first_rate, SMALL.slots).unwrap();
        assert_eq!(trial.refused, BTreeMap::new());
        assert!(trial.accepted > 0 && trial.waits.0.len() == trial.accepted);
        assert_eq!(trial.slots.len(), 2);
        let mut report = Report::new(&Options::of("slot"));
        tell(&trial, &mut report);
        let bids = trial.times(|slot| slot.from_build).0.len();
        let sold = trial.slots.iter().filter(|slot| slot.bid).count();
        assert!(bids >= sold, "what the market closed with came by: {:?}", trial.slots);
        let missed = report.rows.iter().find(|row| row.name.starts_with("missed deadlines")).unwrap();
        assert_eq!(missed.holds, Some(sold == 2));
    }

    #[test]
    fn a_rate_is_sustained_without_lag_refusals_and_missed_slots_only() {
        let slot =
            SlotOutcome { slot: 7, bid: true, from_last_accepted: None, from_build: None, landed: 0, considered: 9, left: 0 };
        let trial = |waits: &[f64], bid: bool, refused: usize| Trial {
            rate: 10,
            accepted: waits.len(),
            refused: [("overloaded".to_owned(), refused)].into_iter().filter(|(_, count)| *count > 0).collect(),
            waits: Samples(waits.to_vec()),
            slots: vec![SlotOutcome { bid, ..slot.clone() }],
        };
        assert!(is_sustained(&trial(&[0.01, 0.02], true, 0)));
        let mut behind = trial(&[0.01], true, 0);
        behind.slots[0].left = 1;
        for (worse, why) in [
            (trial(&[0.01, 1.0], true, 0), "acknowledgement"),
            (trial(&[0.01], false, 0), "deadline"),
            (trial(&[0.01], true, 2), "overloaded"),
            (behind, "emptying the pool"),
        ] {
            assert!(!is_sustained(&worse));
            let limits = limits_of(&worse);
            assert!(limits.len() == 1 && limits[0].0.contains(why), "{limits:?}");
        }
        // Without a single answer nothing is known to be sustained.
        assert!(!is_sustained(&trial(&[], true, 0)));
    }

    #[test]
    fn more_rollups_than_a_node_has_are_refused() {
        let options = Options { rollups: Some(7), ..Options::of("slot") };
        assert!(run(&options).unwrap_err().to_string().contains("--rollups 7"));
    }
}

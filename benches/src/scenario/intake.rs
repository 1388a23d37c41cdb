//! How many `eth_sendBundle` of three signed transactions does a node take in a second, each on disk before it is acknowledged?
//!
//! Ours is a whole node (`lockstep dev`, started anew for every run) behind its own port: HTTP, JSON, signatures, admission,
//! disk, pool, answer. It is compared with what it cannot do without: the same JSON-RPC server with an empty handler, and recovering
//! the same signatures on all processors. One bundle after the other through both is `1 / (1/a + 1/b)` bundles a second. The load
//! generator is the same for all of them and runs on the same processors.

pub(super) mod load;
pub(super) mod requests;
pub(super) mod server;

use std::hint::black_box;

use alloy_consensus::crypto::secp256k1;
use rayon::prelude::*;

use crate::{
    Failed, Flag, Options, Progress, Report, Requirement, Row,
    measure::{Paired, Plan, Samples, rounds, threads, timed},
};

use requests::{Requests, users};
use server::{CHAIN, EmptyServer, Node};

/// Which options it takes.
pub(super) const TAKES: &[Flag] = &[Flag::Bundles, Flag::Pairs];

/// Bundles of a run.
const BUNDLES: usize = 4_000;
/// What has to be kept of the speed that server and signatures allow.
const KEPT: f64 = 0.80;
/// The share of the greatest speed at which latencies are looked at.
const LOAD: f64 = 0.5;

/// Runs the scenario.
///
/// # Errors
/// When a bundle is refused, is not on disk, or anything else fails.
pub(super) fn run(options: &Options) -> Result<Report, Failed> {
    let mut report = Report::new(options);
    let count = options.bundles.unwrap_or(BUNDLES);
    let asked = Node::start(count, false)?;
    let nonces = asked.nonces(&users())?;
    asked.stop();
    let requests = Requests::draw(CHAIN, count, &nonces, options.seed);
    // Every run is long, so one is enough to warm up.
    let plan = Plan { warm_up: 1, ..options.plan() };
    let processors = threads(None)?;

    let mut durable = || node(&requests, true);
    let mut empty = || -> Result<f64, Failed> {
        let server = EmptyServer::start()?;
        let seconds = load::closed(server.address(), &requests.bytes)?;
        server.stop();
        Ok(seconds)
    };
    let mut recovery = || -> Result<f64, Failed> {
        let ((), seconds) = timed(|| processors.install(|| recover(&requests)))?;
        Ok(seconds)
    };
    let mut in_memory = || node(&requests, false);
    let progress = Progress::new("intake", plan.pairs);
    let measured = rounds(&plan, &progress, &mut [&mut durable, &mut empty, &mut recovery, &mut in_memory])?;
    let mut measured = measured.into_iter();
    let mut next = || measured.next().unwrap_or_default();
    let (durable, empty, recovery, in_memory) = (next(), next(), next(), next());

    // Seconds of one after the other: the same bundles through an empty handler, and then through recovery.
    let floor = Samples(empty.0.iter().zip(&recovery.0).map(|(empty, recovery)| empty + recovery).collect());
    let row =
        |name: &str, ours: &Samples| Row::speed(name, "bundles/s", count, &Paired { ours: ours.clone(), floor: floor.clone() });
    report.row(row("eth_sendBundle, durable and acknowledged", &durable).require_if(options, Requirement::AtLeast(KEPT)));
    report.row(row("eth_sendBundle, without durability", &in_memory));
    let rate = |seconds: &Samples| seconds.map(|seconds| count as f64 / seconds);
    report.row(Row::samples("a: the same server with an empty handler", "requests/s", &rate(&empty)));
    report.row(Row::samples("b: recovery of three signatures, all processors", "bundles/s", &rate(&recovery)));
    latencies(&requests, &durable, &in_memory, &mut report)?;
    notes(&mut report, count);
    Ok(report)
}

/// Seconds that a node takes for all requests. When it is to be durable, all of them are on disk afterwards.
fn node(requests: &Requests, durable: bool) -> Result<f64, Failed> {
    let node = Node::start(requests.bytes.len(), durable)?;
    let seconds = load::closed(node.address(), &requests.bytes)?;
    node.check_kept(requests.bytes.len())?;
    node.stop();
    Ok(seconds)
}

/// How long single requests take when half of what is possible comes in, whether the node is ready or not.
fn latencies(requests: &Requests, durable: &Samples, in_memory: &Samples, report: &mut Report) -> Result<(), Failed> {
    let count = requests.bytes.len();
    for (name, seconds, on_disk) in [("durable", durable, true), ("without durability", in_memory, false)] {
        let rate = LOAD * count as f64 / seconds.median();
        let node = Node::start(count, on_disk)?;
        let ours = load::open(node.address(), &requests.bytes, rate)?;
        node.check_kept(count)?;
        node.stop();
        let server = EmptyServer::start()?;
        let floor = load::open(server.address(), &requests.bytes, rate)?;
        server.stop();
        for (label, share) in [("p50", 0.5), ("p99", 0.99)] {
            let ms = |samples: &Samples| samples.percentile(share) * 1e3;
            let name = format!("{label} at {:.0} % load, {name}", LOAD * 100.0);
            let spread = ours.map(|seconds| seconds * 1e3).spread();
            report.row(Row { spread, ..Row::value(name, "ms", ms(&ours)) }.beside(ms(&floor)));
        }
    }
    Ok(())
}

fn recover(requests: &Requests) -> Result<(), Failed> {
    requests.signatures.par_iter().try_for_each(|bundle| {
        bundle.iter().try_for_each(|(signature, digest)| -> Result<(), Failed> {
            black_box(secp256k1::recover_signer(signature, *digest).map_err(|error| error.to_string())?);
            Ok(())
        })
    })
}

fn notes(report: &mut Report, count: usize) {
    report.note(format!(
        "{count} bundles of three signed transfers by {} connections, closed loop; value: ours; floor: 1 / (1/a + 1/b) of the \
         same pair; ratio: median over the pairs.",
        load::CONNECTIONS
    ));
    report.note(format!(
        "latencies: open loop at {:.0} % of the median speed of the row of the same name; a request that finds no connection \
         free counts from when it was due; floor: the empty handler at the same rate.",
        LOAD * 100.0
    ));
    report.note(
        "durable: after every run a copy of the store's file, which is what a killed process leaves, holds every bundle that \
         was acknowledged. The file is in the system's folder for temporary files (TMPDIR names another): on a disk of its own \
         kind the figures are others.",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenario_runs_on_a_few_bundles_and_every_bundle_is_taken_and_kept() {
        let report = run(&Options { bundles: Some(12), pairs: 1, ..Options::of("intake") }).unwrap();
        assert_eq!(report.rows.len(), 8);
        assert!(report.rows.iter().all(|row| row.value > 0.0));
        assert!(report.rows.iter().all(|row| row.required.is_none()), "one pair is too few to require anything");
    }
}

//! `lockstep market`: the role, and a study of mechanisms.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use lockstep_market::{Conduct, MAX_STUDY_BIDDERS, MAX_STUDY_SELLERS, MAX_STUDY_SLOTS, Study, StudyReport, StudySelling};
use serde_json::{Value, json};

use super::{line, roles::RoleArgs};
use crate::config::{MechanismName, Roles, SharingName};

/// Wei in a thousandth of an ether.
const MILLI: f64 = 1e15;

/// The arguments of `lockstep market`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct MarketArgs {
    #[command(subcommand)]
    command: Option<MarketCommand>,
    #[command(flatten)]
    role: Option<RoleArgs>,
}

#[derive(Debug, Subcommand)]
enum MarketCommand {
    /// Sell many slots of a made-up population, and tell revenue, efficiency and concentration.
    Simulate(SimulateArgs),
}

/// The arguments of `lockstep market simulate`.
#[derive(Debug, Args)]
struct SimulateArgs {
    /// Rollups.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=MAX_STUDY_SELLERS as u64))]
    sellers: u64,
    /// Bidders.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=MAX_STUDY_BIDDERS as u64))]
    bidders: u64,
    /// Slots.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=MAX_STUDY_SLOTS))]
    slots: u64,
    /// How they are sold; every way without one.
    #[arg(long, value_enum)]
    mechanism: Option<MechanismName>,
    /// How many slots are sold at once, before anybody knows what they are worth; each by itself, when that is known, with 1. Tickets
    /// are sold as always.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MAX_STUDY_SLOTS))]
    epoch_slots: u64,
    /// What everything is drawn from: the same seed gives every mechanism the same bidders and slots.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One JSON object a mechanism instead of a table.
    #[arg(long)]
    json: bool,
}

impl MarketArgs {
    pub(super) async fn run(self) -> Result<ExitCode, String> {
        match (self.command, self.role) {
            (Some(MarketCommand::Simulate(args)), _) => args.run(),
            (None, Some(role)) => role.run(Roles { market: true, ..Roles::default() }).await,
            (None, None) => Err("give --config FILE, or `simulate`".to_owned()),
        }
    }
}

/// The most of a draw's chances that one holder of tickets has, in basis points.
const TICKET_SHARE_BPS: u64 = 5_000;

/// How bidders bid under a mechanism.
const fn conduct(mechanism: MechanismName) -> Conduct {
    match mechanism {
        MechanismName::Combinatorial | MechanismName::FirstPrice => Conduct::Shaded,
        MechanismName::SecondPrice | MechanismName::CoreSelecting | MechanismName::Posted | MechanismName::Tickets => {
            Conduct::Truthful
        }
        MechanismName::Lottery => Conduct::Contest,
    }
}

impl SimulateArgs {
    fn run(self) -> Result<ExitCode, String> {
        let mechanisms = self.mechanism.map_or(MechanismName::ALL.to_vec(), |mechanism| vec![mechanism]);
        let mut reports = Vec::new();
        for name in mechanisms {
            let mechanism = name.mechanism(SharingName::default());
            let study = Study {
                sellers: usize::try_from(self.sellers).map_err(|error| error.to_string())?,
                bidders: usize::try_from(self.bidders).map_err(|error| error.to_string())?,
                slots: self.slots,
                selling: mechanism.as_deref().map_or(StudySelling::Tickets { max_share_bps: TICKET_SHARE_BPS }, |mechanism| {
                    StudySelling::Slots(mechanism, conduct(name))
                }),
                epoch_slots: self.epoch_slots,
                seed: self.seed,
            };
            let report = study.run().map_err(|error| error.to_string())?;
            if self.json {
                line(&json(&report).to_string())?;
            }
            reports.push(report);
        }
        if !self.json {
            table(&reports)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn json(report: &StudyReport) -> Value {
    json!({
        "mechanism": report.mechanism,
        "sellers": report.sellers,
        "bidders": report.bidders,
        "slots": report.slots,
        "seed": report.seed,
        "epochSlots": report.epoch_slots,
        "revenueWei": report.revenue,
        "revenueAloneWei": report.revenue_alone,
        "efficiency": report.efficiency,
        "largestShare": report.largest_share,
        "concentration": report.concentration,
        "soldShare": report.sold_share,
        "leastOverReserve": report.least_over_reserve,
        "regretWei": report.regret,
        "revenueDecilesWei": report.revenue_deciles,
    })
}

fn table(reports: &[StudyReport]) -> Result<(), String> {
    let Some(first) = reports.first() else { return Ok(()) };
    line(&format!(
        "{} sellers, {} bidders, {} slots{}, seed {}; amounts in thousandths of an ether a slot",
        first.sellers,
        first.bidders,
        first.slots,
        if first.epoch_slots > 1 { format!(" sold {} at once", first.epoch_slots) } else { String::new() },
        first.seed
    ))?;
    line(&format!(
        "{:<14} {:>9} {:>9} {:>10} {:>8} {:>8} {:>6} {:>13} {:>9}  revenue p10 p50 p90",
        "mechanism", "revenue", "by alone", "efficiency", "largest", "HHI", "sold", "least/reserve", "regret"
    ))?;
    for report in reports {
        let [low, middle, high] = report.revenue_deciles.map(|revenue| revenue / MILLI);
        line(&format!(
            "{:<14} {:>9.2} {:>9.3} {:>10.3} {:>8.3} {:>8.3} {:>6.3} {:>13.3} {:>9.2}  {low:.1} {middle:.1} {high:.1}",
            report.mechanism,
            report.revenue / MILLI,
            report.revenue / report.revenue_alone.max(1.0),
            report.efficiency,
            report.largest_share,
            report.concentration,
            report.sold_share,
            report.least_over_reserve,
            report.regret / MILLI,
        ))?;
    }
    Ok(())
}

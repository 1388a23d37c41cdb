//! `lockstep-bench SCENARIO`: one question, answered with figures.

use std::process::ExitCode;

use clap::Parser;
use lockstep_benches::{Failed, Options, output, scenario};

/// As the production binary has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<ExitCode, Failed> {
    let options = Options::parse();
    if options.scenario == "list" {
        output::line(&scenario::list())?;
        return Ok(ExitCode::SUCCESS);
    }
    let report = scenario::run(&options)?;
    output::line(&if options.json { report.json()? } else { report.table() })?;
    let failed = report.failed();
    for row in &failed {
        output::warn(&format!("does not hold: {row}"))?;
    }
    Ok(if options.check && !failed.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

//! The command line.

mod bundle;
mod committee;
mod dev;
mod engine;
mod market;
mod record;
mod replay;
mod roles;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{config::Roles, telemetry::init_logs};

/// Builds blocks for several rollups at once: what must happen on two chains happens on both or on neither.
#[derive(Debug, Parser)]
#[command(name = "lockstep", version, max_term_width = 100)]
pub struct Cli {
    /// Logs as JSON lines. LOCKSTEP_LOG filters them, for example "lockstep=debug".
    #[arg(long, global = true, env = "LOCKSTEP_LOG_JSON")]
    log_json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start rollups in this process, with funded accounts and contracts, and every role.
    Dev(dev::DevArgs),
    /// Take a block and the state that it reads from a node, for replaying it.
    Record(record::RecordArgs),
    /// Execute recorded blocks and compare them with their headers; build recorded slots again and compare every list.
    Replay(replay::ReplayArgs),
    /// Build, bid and deliver, against real nodes.
    Builder(roles::RoleArgs),
    /// Sell slots and keep the decision record; or simulate ways to sell.
    Market(market::MarketArgs),
    /// Vote on lists and publish them, for every rollup whose key is configured.
    Sequencer(roles::RoleArgs),
    /// Open encrypted transactions as a member of a committee; or make a committee's key.
    #[command(subcommand)]
    Committee(committee::CommitteeCommand),
    /// Encrypt a signed transaction for a committee.
    Encrypt(committee::EncryptArgs),
    /// Play builder, market and sequencers in one process, and a member of a committee where one is configured.
    Run(roles::RoleArgs),
    /// Stand between op-node and its execution client, and put lists into the blocks that were sold.
    EngineProxy(engine::EngineArgs),
    /// Send, simulate and follow bundles.
    Bundle(bundle::BundleArgs),
    /// Check or print a configuration.
    #[command(subcommand)]
    Config(roles::ConfigCommand),
}

impl Cli {
    /// Does what was asked for.
    pub fn run(self) -> ExitCode {
        init_logs(self.log_json);
        let done = match self.command {
            Command::Dev(args) => runtime().and_then(|runtime| runtime.block_on(args.run())),
            Command::Record(args) => runtime().and_then(|runtime| runtime.block_on(args.run())),
            Command::Replay(args) => args.run(),
            Command::Builder(args) => role(args, Roles { builder: true, ..Roles::default() }),
            Command::Market(args) => runtime().and_then(|runtime| runtime.block_on(args.run())),
            Command::Sequencer(args) => role(args, Roles { sequencer: true, ..Roles::default() }),
            Command::Run(args) => role(args, Roles { builder: true, market: true, sequencer: true, committee: true }),
            Command::Committee(command) => command.run(),
            Command::Encrypt(args) => args.run(),
            Command::EngineProxy(args) => runtime().and_then(|runtime| runtime.block_on(args.run())),
            Command::Bundle(args) => runtime().and_then(|runtime| runtime.block_on(args.run())),
            Command::Config(command) => command.run(),
        };
        match done {
            Ok(code) => code,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        }
    }
}

fn role(args: roles::RoleArgs, roles: Roles) -> Result<ExitCode, String> {
    runtime()?.block_on(args.run(roles))
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| format!("no runtime: {error}"))
}

/// Writes a line to standard output, which holds nothing but what was asked for.
fn line(text: &str) -> Result<(), String> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|error| format!("standard output: {error}"))
}

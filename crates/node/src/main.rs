//! The `lockstep` binary.

use std::process::ExitCode;

use clap::Parser;
use lockstep_node::cli::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    Cli::parse().run()
}

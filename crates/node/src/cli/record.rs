//! `lockstep record`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use lockstep_simulation::Rules;

use super::{line, replay::rules};
use crate::{
    record::{BlockChoice, RecordOptions, record},
    replay::Row,
};

/// The arguments of `lockstep record`.
#[derive(Debug, Args)]
pub(super) struct RecordArgs {
    /// The node's JSON-RPC. One with debug_traceBlockByHash is asked less often.
    #[arg(long, env = "LOCKSTEP_RPC")]
    rpc: String,
    /// The block: a number, or latest.
    #[arg(long, default_value = "latest")]
    block: BlockChoice,
    /// The folder to put the recording into, as RULES-CHAIN-NUMBER.
    #[arg(long)]
    out: PathBuf,
    /// The chain that the node has to serve.
    #[arg(long)]
    chain_id: Option<u64>,
    /// Rules, when the chain is not known by its id.
    #[arg(long, value_parser = rules)]
    rules: Option<Rules>,
    /// Replace a recording that is there already.
    #[arg(long)]
    force: bool,
}

impl RecordArgs {
    pub(super) async fn run(self) -> Result<ExitCode, String> {
        let options = RecordOptions {
            url: self.rpc,
            block: self.block,
            out: self.out,
            chain: self.chain_id,
            rules: self.rules,
            force: self.force,
        };
        let recorded = record(&options).await.map_err(|error| format!("{error} ({})", error.code()))?;
        line(&format!("recorded {}, its state {}", recorded.folder.display(), recorded.source))?;
        let row = Row { folder: recorded.folder, replayed: recorded.replayed };
        let matches = row.matches();
        line(&crate::replay::table(&[row]))?;
        Ok(if matches { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

//! `lockstep replay`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use lockstep_simulation::{ForkSchedule, Rules};

use super::line;
use crate::replay::{Row, recordings, replay, summary, table};

/// The arguments of `lockstep replay`.
#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// Recordings, or folders of recordings: of a block (block.json, prestate.json) or of a slot (slot.json).
    #[arg(required = true)]
    folders: Vec<PathBuf>,
    /// Chain id, when a block's transactions do not tell it or tell another.
    #[arg(long)]
    chain_id: Option<u64>,
    /// Rules of the blocks, when neither their folder's name begins with them nor their chain is known by its id.
    #[arg(long, value_parser = rules)]
    rules: Option<Rules>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Reads the name of rules.
pub(super) fn rules(name: &str) -> Result<Rules, String> {
    Rules::named(name).ok_or_else(|| format!("there are no rules {name:?}: osaka and jovian are some"))
}

impl ReplayArgs {
    pub(super) fn run(self) -> Result<ExitCode, String> {
        let forks = self.rules.map(ForkSchedule::always);
        let mut rows = Vec::new();
        for folder in &self.folders {
            for folder in recordings(folder).map_err(|error| error.to_string())? {
                let replayed = replay(&folder, self.chain_id, forks.as_ref());
                rows.push(Row { folder, replayed });
            }
        }
        if self.json {
            let rows: Vec<serde_json::Value> = rows.iter().map(Row::json).collect();
            line(&serde_json::to_string_pretty(&rows).map_err(|error| error.to_string())?)?;
        } else {
            line(&table(&rows))?;
            line(&summary(&rows))?;
        }
        Ok(if rows.iter().all(Row::matches) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

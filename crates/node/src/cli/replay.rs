//! `lockstep replay`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use lockstep_simulation::ForkSchedule;

use super::line;
use crate::{config::named_rules, replay::replay};

/// The arguments of `lockstep replay`.
#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// Folders with block.json (eth_getBlockByHash with full transactions) and prestate.json (account map).
    #[arg(required = true)]
    folders: Vec<PathBuf>,
    /// Chain id, when the transactions do not tell it or tell another.
    #[arg(long)]
    chain_id: Option<u64>,
    /// Rules, when the chain is not known by its id.
    #[arg(long, value_parser = ["shanghai", "cancun", "prague", "osaka", "bpo1", "bpo2", "isthmus", "jovian"])]
    rules: Option<String>,
}

impl ReplayArgs {
    pub(super) fn run(self) -> Result<ExitCode, String> {
        let forks = self.rules.as_deref().and_then(named_rules).map(ForkSchedule::always);
        let mut failed = 0;
        for folder in &self.folders {
            let name = folder.display();
            match replay(folder, self.chain_id, forks.as_ref()) {
                Ok(replayed) if replayed.differences.is_empty() => line(&format!("ok   {name}: {}", replayed.text.trim_end()))?,
                Ok(replayed) => {
                    failed += 1;
                    line(&format!("FAIL {name}: {}", replayed.text.trim_end()))?;
                    for difference in replayed.differences {
                        line(&format!("  differs: {difference}"))?;
                    }
                }
                Err(error) => {
                    failed += 1;
                    line(&format!("FAIL {name}: {error}"))?;
                }
            }
        }
        line(&format!("{} of {} blocks match their headers", self.folders.len() - failed, self.folders.len()))?;
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

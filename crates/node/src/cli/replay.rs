//! `lockstep replay`.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, ValueEnum};
use lockstep_simulation::{EthereumFork, ForkSchedule, OpFork, Rules};

use super::line;
use crate::replay::replay;

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
    #[arg(long)]
    rules: Option<RulesArg>,
}

/// Rules by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum RulesArg {
    /// Ethereum.
    Shanghai,
    /// Ethereum.
    Cancun,
    /// Ethereum.
    Prague,
    /// Ethereum.
    Osaka,
    /// Ethereum.
    Bpo1,
    /// Ethereum.
    Bpo2,
    /// OP stack.
    Isthmus,
    /// OP stack.
    Jovian,
}

impl From<RulesArg> for ForkSchedule {
    fn from(rules: RulesArg) -> Self {
        Self::always(match rules {
            RulesArg::Shanghai => Rules::Ethereum(EthereumFork::Shanghai),
            RulesArg::Cancun => Rules::Ethereum(EthereumFork::Cancun),
            RulesArg::Prague => Rules::Ethereum(EthereumFork::Prague),
            RulesArg::Osaka => Rules::Ethereum(EthereumFork::Osaka),
            RulesArg::Bpo1 => Rules::Ethereum(EthereumFork::Bpo1),
            RulesArg::Bpo2 => Rules::Ethereum(EthereumFork::Bpo2),
            RulesArg::Isthmus => Rules::OpStack(OpFork::Isthmus),
            RulesArg::Jovian => Rules::OpStack(OpFork::Jovian),
        })
    }
}

impl ReplayArgs {
    pub(super) fn run(self) -> Result<ExitCode, String> {
        let forks = self.rules.map(ForkSchedule::from);
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

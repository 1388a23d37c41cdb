//! `lockstep builder|market|sequencer|run` and `lockstep config`.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};

use super::line;
use crate::{
    config::{Config, Roles},
    process::Process,
};

/// The arguments of a role.
#[derive(Debug, Args)]
pub(super) struct RoleArgs {
    /// The configuration file.
    #[arg(long, env = "LOCKSTEP_CONFIG")]
    config: PathBuf,
    /// Where to listen, instead of what the file says.
    #[arg(long, env = "LOCKSTEP_LISTEN")]
    listen: Option<SocketAddr>,
    /// Folder of the store, instead of what the file says.
    #[arg(long, env = "LOCKSTEP_DATA")]
    data: Option<PathBuf>,
}

/// `lockstep config`.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check a file: every field, without touching the network.
    Check(RoleArgs),
    /// Print what counts after flags, environment, file and defaults.
    Print(RoleArgs),
}

impl RoleArgs {
    fn read(&self) -> Result<Config, String> {
        let mut config = Config::read(&self.config).map_err(|error| error.to_string())?;
        if let Some(listen) = self.listen {
            config.listen = listen;
        }
        if let Some(data) = &self.data {
            config.data = Some(data.clone());
        }
        Ok(config)
    }

    pub(super) async fn run(self, roles: Roles) -> Result<ExitCode, String> {
        let setup = self.read()?.setup(roles).await.map_err(|error| error.to_string())?;
        let process = Process::start(setup).await.map_err(|error| error.to_string())?;
        line(&format!("Lockstep is running: {}", process.url()))?;
        tokio::signal::ctrl_c().await.map_err(|error| error.to_string())?;
        process.stop().await;
        Ok(ExitCode::SUCCESS)
    }
}

impl ConfigCommand {
    pub(super) fn run(self) -> Result<ExitCode, String> {
        match self {
            Self::Check(args) => {
                let config = args.read()?;
                line(&format!("ok: {} rollups", config.rollups.len()))?;
            }
            Self::Print(args) => {
                let text = toml::to_string_pretty(&args.read()?).map_err(|error| error.to_string())?;
                line(text.trim_end())?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

//! What the command line says.

use std::{fmt, path::PathBuf};

use crate::{Failed, measure::Plan};

/// Pairs of runs behind a ratio, unless the command line says otherwise.
pub(crate) const PAIRS: usize = 15;

/// Measures Lockstep beside what it is compared with.
///
/// `lockstep-bench list` names the scenarios and what each takes.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "lockstep-bench", version)]
pub struct Options {
    /// Which scenario to run, or `list`.
    pub scenario: String,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Exit with 1 if a required row does not hold.
    #[arg(long)]
    pub check: bool,
    /// What the workload is drawn from: the same seed gives the same bundles.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many threads work; otherwise what the scenario asks for.
    #[arg(long)]
    pub threads: Option<usize>,
    /// How many rollups there are, 1 to 64; otherwise what the scenario asks for.
    #[arg(long)]
    pub rollups: Option<usize>,
    /// How many bundles there are; otherwise what the scenario asks for.
    #[arg(long)]
    pub bundles: Option<usize>,
    /// Pairs of runs behind every ratio. Fewer than 15 are for trying things out: then nothing is required.
    #[arg(long, default_value_t = PAIRS)]
    pub pairs: usize,
    /// A folder of recorded blocks, as `lockstep record` writes them.
    #[arg(long)]
    pub blocks: Option<PathBuf>,
    /// A folder with the real Uniswap v2, laid out as npm does: `v2-core/build/UniswapV2Factory.json` and
    /// `v2-periphery/build/UniswapV2Router02.json` (`node_modules/@uniswap`). Swaps then go over it.
    #[arg(long)]
    pub artifacts: Option<PathBuf>,
}

/// An option that not every scenario takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// `--threads`.
    Threads,
    /// `--rollups`.
    Rollups,
    /// `--bundles`.
    Bundles,
    /// `--pairs`.
    Pairs,
    /// `--blocks`.
    Blocks,
    /// `--artifacts`.
    Artifacts,
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Threads => "--threads",
            Self::Rollups => "--rollups",
            Self::Bundles => "--bundles",
            Self::Pairs => "--pairs",
            Self::Blocks => "--blocks",
            Self::Artifacts => "--artifacts",
        })
    }
}

impl Options {
    /// The options of a scenario run in a test: everything by default.
    pub fn of(scenario: &str) -> Self {
        Self {
            scenario: scenario.to_owned(),
            json: false,
            check: false,
            seed: 1,
            threads: None,
            rollups: None,
            bundles: None,
            pairs: PAIRS,
            blocks: None,
            artifacts: None,
        }
    }

    /// The given number of rollups, bundles and threads are used or refused, never ignored.
    ///
    /// # Errors
    /// Names the first option that is given and not taken, or out of range.
    pub fn check_taken(&self, takes: &[Flag]) -> Result<(), Failed> {
        let given = [
            (Flag::Threads, self.threads.is_some()),
            (Flag::Rollups, self.rollups.is_some()),
            (Flag::Bundles, self.bundles.is_some()),
            (Flag::Pairs, self.pairs != PAIRS),
            (Flag::Blocks, self.blocks.is_some()),
            (Flag::Artifacts, self.artifacts.is_some()),
        ];
        for (flag, given) in given {
            if given && !takes.contains(&flag) {
                return Err(
                    format!("scenario `{}` does not take {flag}; `lockstep-bench list` says what does", self.scenario).into()
                );
            }
        }
        if self.pairs == 0 {
            return Err("--pairs has to be at least 1".into());
        }
        for (flag, count, max) in [(Flag::Threads, self.threads, 1_024), (Flag::Rollups, self.rollups, 64)] {
            if let Some(count) = count.filter(|count| !(1..=max).contains(count)) {
                return Err(format!("{flag} {count} is not between 1 and {max}").into());
            }
        }
        if self.bundles == Some(0) {
            return Err("--bundles has to be at least 1".into());
        }
        Ok(())
    }

    /// How pairs are measured.
    pub fn plan(&self) -> Plan {
        Plan { pairs: self.pairs, ..Plan::default() }
    }

    /// Whether ratios rest on enough pairs for anything to be required of them.
    pub const fn requires(&self) -> bool {
        self.pairs >= PAIRS
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn an_option_that_a_scenario_does_not_take_is_refused_by_name() {
        let options = Options { rollups: Some(3), ..Options::of("optimal") };
        assert!(options.check_taken(&[Flag::Rollups]).is_ok());
        let error = options.check_taken(&[Flag::Bundles]).unwrap_err().to_string();
        assert!(error.contains("optimal") && error.contains("--rollups"), "{error}");
        let error = Options { rollups: Some(65), ..options }.check_taken(&[Flag::Rollups]).unwrap_err().to_string();
        assert!(error.contains("65"), "{error}");
    }
}

//! Which rules a rollup follows, and from when.

use alloy_primitives::ChainId;
use lockstep_simulation::{EthereumFork, ForkSchedule, OpFork, Rules, known_forks};
use serde::{Deserialize, Serialize};

/// The rules of a rollup: one fork by name, or several with the time from which each holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "the name of a fork, or a list of { from = timestamp, rules = name }")]
pub enum RulesConfig {
    /// The same rules for ever.
    Always(String),
    /// One fork after the other.
    Schedule(Vec<ForkConfig>),
}

/// A fork, and when it begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForkConfig {
    /// Timestamp of the first block under these rules, in seconds. The first entry's holds from there, often 0.
    pub from: u64,
    /// The fork's name.
    pub rules: String,
}

fn named(name: &str) -> Result<Rules, String> {
    Rules::named(name).ok_or_else(|| format!("there are no rules {name:?}: osaka and jovian are some"))
}

/// The schedule of a rollup; by its chain id where nothing is configured.
///
/// # Errors
/// When a name is unknown, the times do not rise, or the forks are not all of one kind.
pub(super) fn schedule(chain: ChainId, rules: Option<&RulesConfig>) -> Result<ForkSchedule, String> {
    let forks = match rules {
        None => return known_forks(chain).ok_or_else(|| format!("chain {chain} is not known: name its rules")),
        Some(RulesConfig::Always(name)) => return named(name).map(ForkSchedule::always),
        Some(RulesConfig::Schedule(forks)) => forks,
    };
    if forks.is_empty() {
        return Err("the schedule is empty".to_owned());
    }
    if let Some(pair) = forks.windows(2).find(|pair| pair[1].from <= pair[0].from) {
        return Err(format!("{} does not begin after {}", pair[1].rules, pair[0].rules));
    }
    let mut ethereum: Vec<(u64, EthereumFork)> = Vec::new();
    let mut op: Vec<(u64, OpFork)> = Vec::new();
    for fork in forks {
        match named(&fork.rules)? {
            Rules::Ethereum(rules) => ethereum.push((fork.from, rules)),
            Rules::OpStack(rules) => op.push((fork.from, rules)),
        }
    }
    match (ethereum.is_empty(), op.is_empty()) {
        (false, true) => Ok(ForkSchedule::Ethereum(ethereum)),
        (true, false) => Ok(ForkSchedule::OpStack(op)),
        _ => Err("some rules are Ethereum's and some the OP stack's".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<ForkSchedule, String> {
        #[derive(Deserialize)]
        struct Rollup {
            rules: RulesConfig,
        }
        let rollup: Rollup = toml::from_str(text).map_err(|error| error.to_string())?;
        schedule(901, Some(&rollup.rules))
    }

    #[test]
    fn a_fork_may_be_scheduled_before_it_is_known_by_the_chain_id() {
        assert_eq!(of("rules = 'karst'"), Ok(ForkSchedule::always(Rules::OpStack(OpFork::Karst))));
        let text = "rules = [{ from = 0, rules = 'jovian' }, { from = 1783526401, rules = 'karst' }]";
        assert_eq!(of(text), Ok(ForkSchedule::OpStack(vec![(0, OpFork::Jovian), (1_783_526_401, OpFork::Karst)])));
    }

    #[test]
    fn what_is_no_schedule_is_refused_in_words() {
        for (text, why) in [
            ("rules = 'petersburg'", "there are no rules"),
            ("rules = []", "empty"),
            ("rules = [{ from = 5, rules = 'jovian' }, { from = 5, rules = 'karst' }]", "does not begin after"),
            ("rules = [{ from = 0, rules = 'osaka' }, { from = 5, rules = 'karst' }]", "some rules"),
            ("rules = [{ from = 0, rules = 'osaka', to = 5 }]", "the name of a fork"),
        ] {
            let error = of(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(schedule(901, None).unwrap_err().contains("name its rules"));
    }
}

//! How much a builder searches for better proposals.

use lockstep_building::SearchLimits;
use serde::{Deserialize, Serialize};

/// The most bundles of a group that may be searched to the end: of more there are more orders than a slot has time for.
pub const MAX_EXACT_ITEMS: usize = 16;
/// The most alternatives that may be kept of a group.
pub const MAX_ALTERNATIVES: usize = 512;
/// The most placements that a round may make: nothing stops it before its end.
pub const MAX_ROUND_WORK: u64 = 100_000;

/// How much a builder searches for better proposals. Work is counted in placements of bundles, never in time, so that a recorded
/// slot is built again as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchConfig {
    /// Groups of conflicting bundles up to this size are searched to the end, larger ones as far as the time goes.
    #[serde(default = "default_exact_items")]
    pub exact_items: usize,
    /// Alternatives that are kept of a group.
    #[serde(default = "default_alternatives")]
    pub alternatives: usize,
    /// Placements of a round, shared among the groups. A deadline stops only between rounds.
    #[serde(default = "default_round_work")]
    pub round_work: u64,
    /// What random choices are drawn from.
    #[serde(default = "default_seed")]
    pub seed: u64,
}

impl Default for SearchConfig {
    fn default() -> Self {
        let SearchLimits { exact_items, alternatives, round_work, seed } = SearchLimits::default();
        Self { exact_items, alternatives, round_work, seed }
    }
}

impl SearchConfig {
    /// Checks every bound.
    ///
    /// # Errors
    /// The field that is wrong, and why.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let within = |field, value: u64, least: u64, most: u64| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err((field, format!("{value} is not between {least} and {most}")))
        };
        within("builder.search.exact_items", self.exact_items as u64, 1, MAX_EXACT_ITEMS as u64)?;
        within("builder.search.alternatives", self.alternatives as u64, 1, MAX_ALTERNATIVES as u64)?;
        within("builder.search.round_work", self.round_work, 1, MAX_ROUND_WORK)
    }

    /// As the engine takes it.
    pub(super) const fn limits(&self) -> SearchLimits {
        let Self { exact_items, alternatives, round_work, seed } = *self;
        SearchLimits { exact_items, alternatives, round_work, seed }
    }
}

fn default_exact_items() -> usize {
    SearchLimits::default().exact_items
}

fn default_alternatives() -> usize {
    SearchLimits::default().alternatives
}

fn default_round_work() -> u64 {
    SearchLimits::default().round_work
}

fn default_seed() -> u64 {
    SearchLimits::default().seed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn read(text: &str) -> Result<SearchConfig, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_left_out_is_what_the_engine_does_by_itself() {
        let config = read("").unwrap();
        assert_eq!(config.limits(), SearchLimits::default());
        assert_eq!(config, SearchConfig::default());
        assert_eq!(config.check(), Ok(()));
        let config = read("round_work = 7\nseed = 9").unwrap();
        assert_eq!(config.limits(), SearchLimits { round_work: 7, seed: 9, ..SearchLimits::default() });
    }

    #[test]
    fn what_cannot_be_searched_with_is_refused_by_its_field() {
        for (text, field, why) in [
            ("exact_items = 0", "builder.search.exact_items", "0 is not between 1 and 16"),
            ("exact_items = 17", "builder.search.exact_items", "17 is not between 1 and 16"),
            ("alternatives = 0", "builder.search.alternatives", "0 is not between 1 and 512"),
            ("alternatives = 513", "builder.search.alternatives", "513 is not between 1 and 512"),
            ("round_work = 0", "builder.search.round_work", "0 is not between 1 and 100000"),
            ("round_work = 100001", "builder.search.round_work", "100001 is not between 1 and 100000"),
        ] {
            assert_eq!(read(text).unwrap().check(), Err((field, why.to_owned())), "{text}");
        }
        assert!(read("rounds = 3").unwrap_err().contains("unknown field `rounds`"));
        assert!(read("seed = -1").is_err());
    }

    #[test]
    fn the_example_has_the_defaults_and_a_file_with_others_is_checked() {
        let example = include_str!("../../../../lockstep.example.toml");
        let config: Config = toml::from_str(example).unwrap();
        assert_eq!(config.builder.unwrap().search, SearchConfig::default());
        let config: Config = toml::from_str(&example.replacen("exact_items = 8", "exact_items = 0", 1)).unwrap();
        let error = config.check().unwrap_err().to_string();
        assert_eq!(error, "builder.search.exact_items: 0 is not between 1 and 16");
    }
}

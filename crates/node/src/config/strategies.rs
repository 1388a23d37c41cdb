//! The builder's strategies. The name of a section is the strategy's name.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use alloy_primitives::{Address, ChainId};
use lockstep_building::Strategy;
use lockstep_cross_rollup_arbitrage::{CrossRollupArbitrage, MAX_POOLS, Venue};
use lockstep_orphan_relay::{OrphanRelay, Sponsor};
use lockstep_primitives::Price;
use serde::{Deserialize, Serialize};

use super::{ConfigError, RollupConfig, amount, key, signed_amount, wrong};
use crate::{
    keys::Key,
    strategies::{MAX_BUNDLES, StrategySetup},
};

/// The strategies that a builder runs. One without a section is not run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StrategiesConfig {
    /// Delivers messages that nobody else delivers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orphan_relay: Option<OrphanRelayConfig>,
    /// Evens out prices between pools on several rollups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cross_rollup_arbitrage: Option<ArbitrageConfig>,
}

/// Delivers messages that nobody else delivers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OrphanRelayConfig {
    /// The least that a delivery is worth to the builder, in the numeraire's smallest unit, as a decimal string.
    pub min_value: String,
    /// The most messages that are delivered in one slot.
    pub relays_per_slot: usize,
    /// The most that delivering one message may cost the sponsor, in the numeraire's smallest unit, as a decimal string; "0":
    /// nobody sponsors.
    pub sponsor_budget: String,
    /// The most messages that are sponsored in one slot.
    pub sponsored_per_slot: usize,
    /// File with the sponsor's private key in hex; needed to sponsor, and not the builder's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
}

impl Default for OrphanRelayConfig {
    fn default() -> Self {
        Self {
            min_value: "0".to_owned(),
            relays_per_slot: 16,
            sponsor_budget: "0".to_owned(),
            sponsored_per_slot: 4,
            key_file: None,
        }
    }
}

/// Evens out prices between pools on several rollups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArbitrageConfig {
    /// File with the private key in hex of the account that has the inventory.
    pub key_file: PathBuf,
    /// What 10^18 of the counting token's smallest units are worth, in the numeraire's smallest unit, as a decimal string.
    pub quote_price: String,
    /// The least that a bundle gains net of gas and of what the builder is paid, in the numeraire's smallest unit, as a decimal
    /// string.
    #[serde(default = "zero")]
    pub min_profit: String,
    /// Which part of the gain the builder is paid, in basis points.
    #[serde(default)]
    pub builder_share_bps: u64,
    /// How many pending bundles that move the pools are looked at in one slot.
    #[serde(default = "default_backruns")]
    pub max_backruns: usize,
    /// The pools, one a rollup.
    #[serde(rename = "pool")]
    pub pools: Vec<PoolConfig>,
}

/// A pool on a rollup (Uniswap v2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolConfig {
    /// The rollup.
    pub chain_id: ChainId,
    /// The pool.
    pub pair: Address,
    /// The router whose factory made it. The account lets it take both tokens.
    pub router: Address,
    /// The token that is traded.
    pub base: Address,
    /// The token that is counted in.
    pub quote: Address,
}

fn zero() -> String {
    "0".to_owned()
}

const fn default_backruns() -> usize {
    8
}

/// The most pending bundles that one strategy may look at in one slot.
const MAX_BACKRUNS: usize = 64;

impl StrategiesConfig {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Checks what needs no network and no key.
    pub(super) fn check(&self, rollups: &[RollupConfig]) -> Result<(), ConfigError> {
        if let Some(relay) = &self.orphan_relay {
            relay.rules().map(|_| ()).map_err(|(field, problem)| at("orphan-relay", field, problem))?;
        }
        if let Some(arbitrage) = &self.cross_rollup_arbitrage {
            let wrong = |(field, problem): (&str, String)| at("cross-rollup-arbitrage", field, problem);
            arbitrage.rules().map(|_| ()).map_err(wrong)?;
            arbitrage.check_pools(rollups).map_err(|problem| wrong(("pool", problem)))?;
        }
        Ok(())
    }

    /// Reads the keys. `builder` is the builder's own, which signs for a strategy that has no account.
    pub(super) fn setups(&self, builder: &Key) -> Result<Vec<StrategySetup>, ConfigError> {
        let mut setups = Vec::new();
        let mut accounts = BTreeSet::from([builder.address()]);
        let mut own = |name: &str, file: &Path| -> Result<Key, ConfigError> {
            let key = key(file)?;
            // Relays are signed with nonces that nobody else may take, and two strategies would take each other's.
            if accounts.insert(key.address()) {
                Ok(key)
            } else {
                Err(at(name, "key_file", "is an account that is in use already"))
            }
        };
        if let Some(arbitrage) = &self.cross_rollup_arbitrage {
            let name = "cross-rollup-arbitrage";
            let rules = arbitrage.rules().map_err(|(field, problem)| at(name, field, problem))?;
            let strategy: Arc<dyn Strategy> = Arc::new(CrossRollupArbitrage(rules));
            setups.push(StrategySetup { strategy, key: own(name, &arbitrage.key_file)? });
        }
        if let Some(relay) = &self.orphan_relay {
            let name = "orphan-relay";
            let rules = relay.rules().map_err(|(field, problem)| at(name, field, problem))?;
            let key = match &relay.key_file {
                Some(file) => own(name, file)?,
                None => builder.clone(),
            };
            let strategy: Arc<dyn Strategy> = Arc::new(OrphanRelay(rules));
            setups.push(StrategySetup { strategy, key });
        }
        Ok(setups)
    }
}

impl OrphanRelayConfig {
    fn rules(&self) -> Result<lockstep_orphan_relay::Rules, (&'static str, String)> {
        let min_value = signed_amount(&self.min_value).map_err(|problem| ("min_value", problem))?;
        let budget = amount(&self.sponsor_budget).map_err(|problem| ("sponsor_budget", problem))?;
        per_slot("relays_per_slot", self.relays_per_slot)?;
        per_slot("sponsored_per_slot", self.sponsored_per_slot)?;
        let sponsor = match (&self.key_file, budget.is_zero()) {
            (None, false) => return Err(("key_file", "is needed for a sponsor_budget".to_owned())),
            (Some(_), true) => return Err(("key_file", "is of no use without a sponsor_budget".to_owned())),
            (Some(_), false) => Some(Sponsor { budget, max_per_slot: self.sponsored_per_slot }),
            (None, true) => None,
        };
        Ok(lockstep_orphan_relay::Rules { min_value, sponsor, max_relays: self.relays_per_slot })
    }
}

impl ArbitrageConfig {
    fn rules(&self) -> Result<lockstep_cross_rollup_arbitrage::Rules, (&'static str, String)> {
        let quote_price = amount(&self.quote_price).map_err(|problem| ("quote_price", problem))?;
        if quote_price.is_zero() {
            return Err(("quote_price", "is zero".to_owned()));
        }
        if self.builder_share_bps > 10_000 {
            return Err(("builder_share_bps", "is more than 10000 basis points".to_owned()));
        }
        if self.max_backruns > MAX_BACKRUNS {
            return Err(("max_backruns", format!("is more than {MAX_BACKRUNS}")));
        }
        let venue = |pool: &PoolConfig| Venue {
            chain: pool.chain_id,
            pair: pool.pair,
            router: pool.router,
            base: pool.base,
            quote: pool.quote,
        };
        Ok(lockstep_cross_rollup_arbitrage::Rules {
            venues: self.pools.iter().map(venue).collect(),
            quote_price: Price(quote_price),
            min_profit: amount(&self.min_profit).map_err(|problem| ("min_profit", problem))?,
            builder_share_bps: self.builder_share_bps,
            max_backruns: self.max_backruns,
        })
    }

    fn check_pools(&self, rollups: &[RollupConfig]) -> Result<(), String> {
        if !(2..=MAX_POOLS).contains(&self.pools.len()) {
            return Err(format!("there are {}: between 2 and {MAX_POOLS} are traded between", self.pools.len()));
        }
        let mut seen = BTreeSet::new();
        for pool in &self.pools {
            let chain = pool.chain_id;
            if !rollups.iter().any(|rollup| rollup.chain_id == chain) {
                return Err(format!("rollup {chain} is not configured"));
            }
            if !seen.insert(chain) {
                return Err(format!("rollup {chain} is there twice"));
            }
            if pool.base == pool.quote {
                return Err(format!("on rollup {chain} base and quote are the same token"));
            }
        }
        Ok(())
    }
}

/// A number of bundles a slot has to be one that a strategy may bring.
fn per_slot(field: &'static str, count: usize) -> Result<(), (&'static str, String)> {
    if (1..=MAX_BUNDLES).contains(&count) { Ok(()) } else { Err((field, format!("is not between 1 and {MAX_BUNDLES}"))) }
}

fn at(strategy: &str, field: &str, problem: impl std::fmt::Display) -> ConfigError {
    wrong(format!("strategies.{strategy}.{field}"), problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> StrategiesConfig {
        toml::from_str(text).unwrap()
    }

    fn problem(text: &str) -> String {
        parsed(text).check(&[]).unwrap_err().to_string()
    }

    const ARBITRAGE: &str = "[cross-rollup-arbitrage]\nkey_file = \"a.key\"\nquote_price = \"1\"\n";

    #[test]
    fn a_strategy_without_a_section_is_not_run() {
        assert!(parsed("").is_empty());
        assert!(!parsed("[orphan-relay]").is_empty(), "a section with nothing in it runs with the defaults");
    }

    #[test]
    fn unknown_strategies_and_keys_are_errors() {
        assert!(toml::from_str::<StrategiesConfig>("[front-runner]").is_err());
        assert!(toml::from_str::<StrategiesConfig>("[orphan-relay]\nspeed = 1").is_err());
        assert!(toml::from_str::<StrategiesConfig>(&format!("{ARBITRAGE}speed = 1\npool = []")).is_err());
    }

    #[test]
    fn a_sponsor_needs_an_account_and_an_account_a_budget() {
        let missing = problem("[orphan-relay]\nsponsor_budget = \"5\"");
        assert_eq!(missing, "strategies.orphan-relay.key_file: is needed for a sponsor_budget");
        let idle = problem("[orphan-relay]\nkey_file = \"sponsor.key\"");
        assert_eq!(idle, "strategies.orphan-relay.key_file: is of no use without a sponsor_budget");
        assert!(parsed("[orphan-relay]\nkey_file = \"sponsor.key\"\nsponsor_budget = \"5\"").check(&[]).is_ok());
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        assert!(problem("[orphan-relay]\nrelays_per_slot = 33").contains("relays_per_slot: is not between 1 and 32"));
        assert!(problem("[orphan-relay]\nmin_value = \"one\"").contains("min_value"));
        let share = problem(&format!("{ARBITRAGE}builder_share_bps = 10001\npool = []"));
        assert!(share.contains("builder_share_bps"), "{share}");
        let few = problem(&format!("{ARBITRAGE}pool = []"));
        assert_eq!(few, "strategies.cross-rollup-arbitrage.pool: there are 0: between 2 and 8 are traded between");
    }

    #[test]
    fn pools_are_on_rollups_that_are_configured() {
        let address = format!("\"{}\"", Address::repeat_byte(1));
        let pool = |chain: u64| {
            format!(
                "[[cross-rollup-arbitrage.pool]]\nchain_id = {chain}\npair = {address}\nrouter = {address}\nbase = {address}\n\
                 quote = {address}\n"
            )
        };
        let unknown = problem(&format!("{ARBITRAGE}{}{}", pool(1), pool(2)));
        assert_eq!(unknown, "strategies.cross-rollup-arbitrage.pool: rollup 1 is not configured");
    }
}

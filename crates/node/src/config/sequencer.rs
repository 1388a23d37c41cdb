//! A rollup's sequencer and its terms of sale.

use std::{collections::BTreeSet, path::PathBuf};

use alloy_primitives::{Address, ChainId};
use lockstep_market::{MAX_SLOTS_AHEAD, check_reserve};
use lockstep_primitives::{ImpliedBasis, ImpliedMeasure, ImpliedReserve, MAX_INCLUSION, OrderingPolicy, ReserveRule};
use lockstep_simulation::DataLimits;
use serde::{Deserialize, Serialize};

use super::{ConfigError, EncryptedConfig, amount, key};
use crate::process::{SaleTerms, SequencerSetup};

/// A rollup's sequencer and its terms of sale.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SequencerConfig {
    /// File with its private key in hex.
    pub key_file: PathBuf,
    /// The least a slot is sold for, in the numeraire's smallest unit, as a decimal string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserve: Option<String>,
    /// Reserves that change with the slot, instead of a fixed one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reserve_schedule: Vec<ReserveStepConfig>,
    /// A reserve by what the default proposer typically earns, instead of a fixed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub implied_reserve: Option<ImpliedReserveConfig>,
    /// Who proposes when nobody buys; the sequencer itself when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_proposer: Option<Address>,
    /// Who receives what the rollup is paid; the sequencer when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payout: Option<Address>,
    /// Whether it sells.
    #[serde(default = "yes")]
    pub active: bool,
    /// How many slots ahead it sells at the most; with 0 it sells just in time only.
    #[serde(default)]
    pub slots_ahead: u64,
    /// Other rollups that it is sold together with, or not at all. They have to say the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cluster: Vec<ChainId>,
    /// Whether it holds its block back while the decision cannot be read.
    #[serde(default = "yes")]
    pub holds: bool,
    /// The proposer's share of protocol fees, in basis points.
    #[serde(default)]
    pub fee_share_bps: u64,
    /// Whether its blocks may claim AggLayer exits of the same slot: then its settlement depends on the origin's.
    #[serde(default)]
    pub same_slot_claims: bool,
    /// Whether its blocks follow Ethereum's newest state.
    #[serde(default)]
    pub follows_l1: bool,
    /// In which order blocks may hold transactions: `free`, `priority-fee`, `fcfs` or `top-of-block`.
    #[serde(default = "default_ordering")]
    pub ordering: String,
    /// Gas of the free lane of `top-of-block`; 0 with any other ordering.
    #[serde(default)]
    pub lane_gas: u64,
    /// How many of its oldest public transactions no list may leave out. Needs a builder in the same process, which sees them.
    #[serde(default)]
    pub inclusion: usize,
    /// How many transactions an inclusion list ever has, whoever makes it: bidders count on it.
    #[serde(default = "default_inclusion_limit")]
    pub inclusion_limit: usize,
    /// The most data that one transaction may have, in estimated compressed bytes, until the batcher says otherwise; 0 for no
    /// limit. OP stack only.
    #[serde(default)]
    pub max_tx_da: u64,
    /// The same of all transactions of a block.
    #[serde(default)]
    pub max_block_da: u64,
    /// Whether `miner_setMaxDASize` is taken at `/rollup/<chainId>`, from anyone who reaches the port: batchers sign nothing.
    #[serde(default)]
    pub batcher_api: bool,
    /// Encrypted transactions, where it takes any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypted: Option<EncryptedConfig>,
}

/// A step of a schedule of reserves.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReserveStepConfig {
    /// The first slot for which it holds.
    pub from_slot: u64,
    /// In the numeraire's smallest unit, as a decimal string.
    pub reserve: String,
}

/// A reserve by what the default proposer typically earns.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImpliedReserveConfig {
    /// Whose word counts where the default proposer did not build: `posted` by the sequencer, or `computed` by a builder.
    #[serde(default = "default_basis")]
    pub basis: String,
    /// What is typical: `median` or `mean`.
    #[serde(default = "default_measure")]
    pub measure: String,
    /// How many slots back earnings count.
    pub window: u64,
    /// With fewer slots of known earnings in the window than this the floor holds.
    #[serde(default = "default_min_samples")]
    pub min_samples: u64,
    /// The least that the reserve ever is, in the numeraire's smallest unit, as a decimal string.
    #[serde(default = "zero")]
    pub floor: String,
}

const fn yes() -> bool {
    true
}

fn zero() -> String {
    "0".to_owned()
}

fn default_ordering() -> String {
    OrderingPolicy::Free.name().to_owned()
}

const fn default_inclusion_limit() -> usize {
    MAX_INCLUSION
}

fn default_basis() -> String {
    ImpliedBasis::Posted.name().to_owned()
}

fn default_measure() -> String {
    ImpliedMeasure::Mean.name().to_owned()
}

const fn default_min_samples() -> u64 {
    1
}

/// The field that is wrong, and why.
type Wrong = (&'static str, String);

impl SequencerConfig {
    /// Checks what needs no network, and yields the terms of sale.
    pub(super) fn terms(&self, chain: ChainId) -> Result<SaleTerms, Wrong> {
        let reserve = self.reserve_rule(chain)?;
        if self.fee_share_bps > 10_000 {
            return Err(("fee_share_bps", "is more than 10000 basis points".to_owned()));
        }
        if self.slots_ahead > MAX_SLOTS_AHEAD {
            return Err(("slots_ahead", format!("is more than {MAX_SLOTS_AHEAD}")));
        }
        if self.inclusion_limit > MAX_INCLUSION {
            return Err(("inclusion_limit", format!("is more than {MAX_INCLUSION}")));
        }
        if self.inclusion > self.inclusion_limit {
            return Err(("inclusion", format!("is more than inclusion_limit, {}", self.inclusion_limit)));
        }
        for (field, address) in [("payout", self.payout), ("default_proposer", self.default_proposer)] {
            if address.is_some_and(|address| address.is_zero()) {
                return Err((field, "is the zero address".to_owned()));
            }
        }
        let encrypted = self.encrypted.as_ref().map(|encrypted| encrypted.setup().map(|_| encrypted.gas)).transpose()?;
        Ok(SaleTerms {
            reserve,
            default_proposer: self.default_proposer,
            payout: self.payout,
            active: self.active,
            slots_ahead: self.slots_ahead,
            cluster: self.cluster.iter().copied().collect::<BTreeSet<_>>(),
            holds: self.holds,
            fee_share_bps: self.fee_share_bps,
            ordering: OrderingPolicy::parse(&self.ordering, self.lane_gas).map_err(|error| ("ordering", error.to_string()))?,
            inclusion: self.inclusion_limit as u64,
            same_slot_claims: self.same_slot_claims,
            follows_l1: self.follows_l1,
            encrypted_gas: encrypted.unwrap_or_default(),
        })
    }

    fn reserve_rule(&self, chain: ChainId) -> Result<ReserveRule, Wrong> {
        let given = [self.reserve.is_some(), !self.reserve_schedule.is_empty(), self.implied_reserve.is_some()];
        if given.into_iter().filter(|given| *given).count() > 1 {
            return Err(("reserve", "give one of reserve, reserve_schedule and implied_reserve".to_owned()));
        }
        let (field, rule) = if let Some(implied) = &self.implied_reserve {
            let field = "implied_reserve";
            let rule = ImpliedReserve {
                basis: ImpliedBasis::parse(&implied.basis).map_err(|error| (field, error.to_string()))?,
                measure: ImpliedMeasure::parse(&implied.measure).map_err(|error| (field, error.to_string()))?,
                window: implied.window,
                min_samples: implied.min_samples,
                floor: amount(&implied.floor).map_err(|problem| (field, problem))?,
            };
            (field, ReserveRule::Implied(rule))
        } else if !self.reserve_schedule.is_empty() {
            let field = "reserve_schedule";
            let steps = self.reserve_schedule.iter().map(|step| Ok((step.from_slot, amount(&step.reserve)?)));
            let steps = steps.collect::<Result<Vec<_>, String>>().map_err(|problem| (field, problem))?;
            (field, ReserveRule::schedule(&steps).map_err(|error| (field, error.to_string()))?)
        } else {
            let reserve = self.reserve.as_deref().unwrap_or("0");
            ("reserve", ReserveRule::Fixed(amount(reserve).map_err(|problem| ("reserve", problem))?))
        };
        check_reserve(chain, &rule).map_err(|error| (field, error.to_string()))?;
        Ok(rule)
    }

    /// Reads its key.
    pub(super) fn setup(&self, chain: ChainId, place: &str) -> Result<SequencerSetup, ConfigError> {
        let wrong = |(field, problem): Wrong| super::wrong(format!("{place}.sequencer.{field}"), problem);
        Ok(SequencerSetup {
            key: key(&self.key_file)?,
            terms: self.terms(chain).map_err(wrong)?,
            encrypted: self.encrypted.as_ref().map(EncryptedConfig::setup).transpose().map_err(wrong)?,
            inclusion: self.inclusion,
            data: DataLimits::from_wire(self.max_tx_da, self.max_block_da),
            batcher_api: self.batcher_api,
        })
    }
}

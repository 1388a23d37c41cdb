//! Registrations as JSON.

use alloy_primitives::{Address, Bytes, U64};
use lockstep_primitives::{
    ChainId, ImpliedBasis, ImpliedMeasure, ImpliedReserve, InvalidOrdering, InvalidReserve, OrderingPolicy, Registration,
    ReserveRule, SlotNumber,
};
use serde::{Deserialize, Serialize};

use super::{Decimal, chains};

/// The parameter of `market_registerRollup`: a registration and its sequencer's EIP-712 signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistrationWire {
    /// The rollup.
    pub chain_id: U64,
    /// The sequencer's key.
    pub sequencer: Address,
    /// Where its JSON-RPC is reached.
    pub sequencer_url: String,
    /// Who proposes when nobody buys.
    pub default_proposer: Address,
    /// Who receives what the rollup is paid.
    pub payout: Address,
    /// Whether it sells.
    pub active: bool,
    /// How many slots ahead it sells at the most; 0 sells just in time only.
    pub slots_ahead: u64,
    /// With whom it is sold together or not at all, itself among them.
    pub cluster: Vec<U64>,
    /// The least that it is sold for.
    pub reserve: ReserveWire,
    /// Seconds between blocks.
    pub block_time: u64,
    /// The timestamp of one of its blocks, in Unix seconds.
    pub block_anchor: u64,
    /// Whether it holds its block back while the decision cannot be read.
    pub holds: bool,
    /// The proposer's share of protocol fees, in basis points.
    pub fee_share_bps: u64,
    /// In which order its blocks may hold transactions: `free`, `priority-fee`, `fcfs` or `top-of-block`.
    pub ordering: String,
    /// Gas of the free lane; 0 for every ordering but `top-of-block`.
    pub lane_gas: u64,
    /// How many transactions its inclusion lists have at the most.
    pub inclusion: u64,
    /// Whether its blocks may claim AggLayer exits of the same slot.
    pub same_slot_claims: bool,
    /// Whether its blocks follow Ethereum's newest state.
    #[serde(rename = "followsL1")]
    pub follows_l1: bool,
    /// Gas of each slot's last block that is kept for encrypted transactions: no list may use it. 0 keeps none.
    pub encrypted_gas: u64,
    /// The first slot for which this holds.
    pub from_slot: u64,
    /// Rises with each change.
    pub nonce: u64,
    /// 65 bytes r || s || v.
    pub signature: Bytes,
}

/// A reserve: an amount as a decimal string, or a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ReserveWire {
    /// The same in every slot, in the numeraire's smallest unit.
    Fixed(Decimal),
    /// A rule.
    Rule(ReserveRuleWire),
}

/// A rule that yields a reserve for every slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum ReserveRuleWire {
    /// Steps, in the order of their slots. Before the first one the rollup is not for sale.
    Schedule(Vec<ReserveStepWire>),
    /// What the default proposer typically earned.
    Implied(ImpliedReserveWire),
}

/// A step of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReserveStepWire {
    /// The first slot for which it holds.
    pub from_slot: u64,
    /// In the numeraire's smallest unit.
    pub reserve: Decimal,
}

/// An implied reserve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImpliedReserveWire {
    /// `posted` or `computed`.
    pub basis: String,
    /// `median` or `mean`.
    pub measure: String,
    /// How many slots back earnings count.
    pub window: u64,
    /// With fewer known earnings than this the floor holds.
    pub min_samples: u64,
    /// The least that the reserve ever is, in the numeraire's smallest unit.
    pub floor: Decimal,
}

/// What makes no terms of sale.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTerms {
    /// Its ordering is none.
    #[error(transparent)]
    Ordering(#[from] InvalidOrdering),
    /// Its reserve is none.
    #[error(transparent)]
    Reserve(#[from] InvalidReserve),
}

impl InvalidTerms {
    /// Stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Ordering(error) => error.code(),
            Self::Reserve(error) => error.code(),
        }
    }

    /// What one can do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Ordering(_) => "name free, priority-fee or fcfs with laneGas 0, or top-of-block with the gas of its lane",
            Self::Reserve(error) => error.hint(),
        }
    }
}

impl ReserveWire {
    /// The rule.
    ///
    /// # Errors
    /// When it is none.
    pub fn rule(&self) -> Result<ReserveRule, InvalidReserve> {
        match self {
            Self::Fixed(amount) => Ok(ReserveRule::Fixed(amount.0)),
            Self::Rule(ReserveRuleWire::Schedule(steps)) => {
                let steps: Vec<(SlotNumber, _)> = steps.iter().map(|step| (step.from_slot, step.reserve.0)).collect();
                ReserveRule::schedule(&steps)
            }
            Self::Rule(ReserveRuleWire::Implied(implied)) => Ok(ReserveRule::Implied(ImpliedReserve {
                basis: ImpliedBasis::parse(&implied.basis)?,
                measure: ImpliedMeasure::parse(&implied.measure)?,
                window: implied.window,
                min_samples: implied.min_samples,
                floor: implied.floor.0,
            })),
        }
    }
}

impl From<&ReserveRule> for ReserveWire {
    fn from(rule: &ReserveRule) -> Self {
        match rule {
            ReserveRule::Fixed(amount) => Self::Fixed(Decimal(*amount)),
            ReserveRule::Schedule(steps) => {
                let steps = steps.iter();
                let steps = steps.map(|(slot, reserve)| ReserveStepWire { from_slot: *slot, reserve: Decimal(*reserve) });
                Self::Rule(ReserveRuleWire::Schedule(steps.collect()))
            }
            ReserveRule::Implied(implied) => Self::Rule(ReserveRuleWire::Implied(ImpliedReserveWire {
                basis: implied.basis.name().to_owned(),
                measure: implied.measure.name().to_owned(),
                window: implied.window,
                min_samples: implied.min_samples,
                floor: Decimal(implied.floor),
            })),
        }
    }
}

impl RegistrationWire {
    /// A signed registration.
    pub fn new(registration: &Registration, signature: Bytes) -> Self {
        Self {
            chain_id: U64::from(registration.chain),
            sequencer: registration.sequencer,
            sequencer_url: registration.sequencer_url.clone(),
            default_proposer: registration.default_proposer,
            payout: registration.payout,
            active: registration.active,
            slots_ahead: registration.slots_ahead,
            cluster: chains(&registration.cluster),
            reserve: ReserveWire::from(&registration.reserve),
            block_time: registration.block_time,
            block_anchor: registration.block_anchor,
            holds: registration.holds,
            fee_share_bps: registration.fee_share_bps,
            ordering: registration.ordering.name().to_owned(),
            lane_gas: registration.ordering.lane_gas(),
            inclusion: registration.inclusion,
            same_slot_claims: registration.same_slot_claims,
            follows_l1: registration.follows_l1,
            encrypted_gas: registration.encrypted_gas,
            from_slot: registration.from_slot,
            nonce: registration.nonce,
            signature,
        }
    }

    /// What is signed.
    ///
    /// # Errors
    /// When its ordering or its reserve is none.
    pub fn registration(&self) -> Result<Registration, InvalidTerms> {
        Ok(Registration {
            chain: self.chain_id.to(),
            sequencer: self.sequencer,
            sequencer_url: self.sequencer_url.clone(),
            default_proposer: self.default_proposer,
            payout: self.payout,
            active: self.active,
            slots_ahead: self.slots_ahead,
            cluster: self.cluster.iter().map(|chain| chain.to::<ChainId>()).collect(),
            reserve: self.reserve.rule()?,
            block_time: self.block_time,
            block_anchor: self.block_anchor,
            holds: self.holds,
            fee_share_bps: self.fee_share_bps,
            ordering: OrderingPolicy::parse(&self.ordering, self.lane_gas)?,
            inclusion: self.inclusion,
            same_slot_claims: self.same_slot_claims,
            follows_l1: self.follows_l1,
            encrypted_gas: self.encrypted_gas,
            from_slot: self.from_slot,
            nonce: self.nonce,
        })
    }
}

/// The answer of `market_getRollup`: a rollup's terms over time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RollupTerms {
    /// The rollup.
    pub chain_id: U64,
    /// All terms that are remembered, in the order of the slots from which on they hold.
    pub terms: Vec<RegistrationWire>,
    /// The first slot whose terms may still change.
    pub earliest_slot: u64,
}

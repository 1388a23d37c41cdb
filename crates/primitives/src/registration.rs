//! What a rollup that sells signs: its terms of sale.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::sol;

use crate::{ChainId, OrderingPolicy, RollupSet, SlotNumber, digest};

mod eip712 {
    use super::sol;

    sol! {
        struct Registration {
            uint64 chainId;
            address sequencer;
            string sequencerUrl;
            address defaultProposer;
            address payout;
            bool active;
            uint64 slotsAhead;
            uint64[] cluster;
            Reserve reserve;
            uint64 blockTime;
            uint64 blockAnchor;
            bool holds;
            uint64 feeShareBps;
            string ordering;
            uint64 laneGas;
            uint64 inclusion;
            bool sameSlotClaims;
            bool followsL1;
            uint64 encryptedGas;
            uint64 fromSlot;
            uint64 nonce;
        }

        struct Reserve {
            string rule;
            uint256 amount;
            Step[] steps;
            string basis;
            string measure;
            uint64 window;
            uint64 minSamples;
        }

        struct Step {
            uint64 fromSlot;
            uint256 reserve;
        }
    }
}

/// A rollup that sells the right to propose, with its terms of sale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The rollup.
    pub chain: ChainId,
    /// The key of the rollup's sequencer: it signs the registration, votes, and what it says about deliveries.
    pub sequencer: Address,
    /// Where the sequencer's JSON-RPC is reached.
    pub sequencer_url: String,
    /// Who proposes when nobody buys.
    pub default_proposer: Address,
    /// Who receives what the rollup is paid.
    pub payout: Address,
    /// Whether it sells. While it does not, its default proposer builds.
    pub active: bool,
    /// How many slots ahead it sells at the most; with 0 it sells just in time only.
    pub slots_ahead: u64,
    /// The rollups that it is sold together with or not at all, itself among them. Itself alone: it sells alone.
    pub cluster: RollupSet,
    /// The least that the seller must be paid for a slot.
    pub reserve: ReserveRule,
    /// Seconds between blocks.
    pub block_time: u64,
    /// The timestamp of one of its blocks, in Unix seconds: all others are whole block times before or after it.
    pub block_anchor: u64,
    /// When the decision cannot be read at `t_publish`: `true` holds the block back, `false` falls back to the list
    /// without cross-rollup bundles.
    pub holds: bool,
    /// Which part of the rollup's protocol fees the proposer receives, in basis points.
    pub fee_share_bps: u64,
    /// In which order its blocks may hold transactions.
    pub ordering: OrderingPolicy,
    /// How many transactions its inclusion list has at the most, which no list may leave out. With 0 there is none.
    pub inclusion: u64,
    /// Whether its blocks may claim AggLayer exits of the same slot: then its settlement depends on the origin's.
    pub same_slot_claims: bool,
    /// Whether its blocks follow Ethereum's newest state (based sequencing).
    pub follows_l1: bool,
    /// Gas of each slot's last block that is kept for transactions which come encrypted and are opened after the lists are
    /// decided: no list may use it. 0 keeps none.
    pub encrypted_gas: u64,
    /// The first slot for which these terms hold.
    pub from_slot: SlotNumber,
    /// Rises with each change of the terms.
    pub nonce: u64,
}

impl Registration {
    /// The EIP-712 digest that the sequencer signs.
    pub fn digest(&self) -> B256 {
        digest(&eip712::Registration {
            chainId: self.chain,
            sequencer: self.sequencer,
            sequencerUrl: self.sequencer_url.clone(),
            defaultProposer: self.default_proposer,
            payout: self.payout,
            active: self.active,
            slotsAhead: self.slots_ahead,
            cluster: self.cluster.iter().copied().collect(),
            reserve: self.reserve.signed(),
            blockTime: self.block_time,
            blockAnchor: self.block_anchor,
            holds: self.holds,
            feeShareBps: self.fee_share_bps,
            ordering: self.ordering.name().to_owned(),
            laneGas: self.ordering.lane_gas(),
            inclusion: self.inclusion,
            sameSlotClaims: self.same_slot_claims,
            followsL1: self.follows_l1,
            encryptedGas: self.encrypted_gas,
            fromSlot: self.from_slot,
            nonce: self.nonce,
        })
    }
}

/// How a seller's reserve for a slot comes about. Amounts are in the numeraire's smallest unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReserveRule {
    /// The same in every slot.
    Fixed(U256),
    /// From each of these slots on the reserve beside it, until the next step. Before the first step there is no reserve, and
    /// without a reserve no sale.
    Schedule(BTreeMap<SlotNumber, U256>),
    /// What its default proposer typically earned in recent slots.
    Implied(ImpliedReserve),
}

/// What an implied reserve is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImpliedReserve {
    /// Whose word counts where the default proposer did not build.
    pub basis: ImpliedBasis,
    /// What is typical.
    pub measure: ImpliedMeasure,
    /// How many slots back earnings count, at least 1. Slots without a block of the rollup count as slots, so a rollup with rare
    /// blocks needs a longer window.
    pub window: u64,
    /// With fewer slots of known earnings in the window than this the floor holds: 1 to `window`.
    pub min_samples: u64,
    /// The least that the reserve ever is.
    pub floor: U256,
}

/// Whose word counts for what the default proposer would have earned in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImpliedBasis {
    /// What the rollup posted. It can raise its own reserve with it, and nothing else.
    Posted,
    /// The value of the proposal that a builder computed for the rollup alone.
    Computed,
}

/// What is typical of many amounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImpliedMeasure {
    /// The one in the middle: robust against single slots of great value, and blind to them.
    Median,
    /// The sum through the number, rounded up.
    Mean,
}

/// What makes no reserve rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReserve {
    /// A schedule whose slots do not rise: what a slot given twice should mean is not guessed.
    #[error("step {step} of the reserve schedule does not begin after the one before it")]
    StepsDoNotRise {
        /// Index of the step, from 0.
        step: usize,
    },
    /// No basis has that name.
    #[error("there is no basis {0:?} of an implied reserve: posted and computed are known")]
    UnknownBasis(String),
    /// No measure has that name.
    #[error("there is no measure {0:?} of an implied reserve: median and mean are known")]
    UnknownMeasure(String),
}

impl InvalidReserve {
    /// Stable code.
    pub const fn code(&self) -> &'static str {
        "invalid_reserve"
    }

    /// What one can do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::StepsDoNotRise { .. } => "order the steps by their slots, one step a slot",
            Self::UnknownBasis(_) => "name posted or computed",
            Self::UnknownMeasure(_) => "name median or mean",
        }
    }
}

impl ReserveRule {
    /// A schedule of (first slot, reserve) steps.
    ///
    /// # Errors
    /// When the slots do not rise from step to step.
    pub fn schedule(steps: &[(SlotNumber, U256)]) -> Result<Self, InvalidReserve> {
        let wrong = steps.windows(2).zip(1..).find(|(pair, _)| matches!(pair, [(earlier, _), (later, _)] if earlier >= later));
        match wrong {
            Some((_, step)) => Err(InvalidReserve::StepsDoNotRise { step }),
            None => Ok(Self::Schedule(steps.iter().copied().collect())),
        }
    }

    fn signed(&self) -> eip712::Reserve {
        let empty = eip712::Reserve {
            rule: String::new(),
            amount: U256::ZERO,
            steps: Vec::new(),
            basis: String::new(),
            measure: String::new(),
            window: 0,
            minSamples: 0,
        };
        match self {
            Self::Fixed(amount) => eip712::Reserve { rule: "fixed".to_owned(), amount: *amount, ..empty },
            Self::Schedule(steps) => {
                let steps = steps.iter().map(|(from, reserve)| eip712::Step { fromSlot: *from, reserve: *reserve }).collect();
                eip712::Reserve { rule: "schedule".to_owned(), steps, ..empty }
            }
            Self::Implied(implied) => eip712::Reserve {
                rule: "implied".to_owned(),
                amount: implied.floor,
                basis: implied.basis.name().to_owned(),
                measure: implied.measure.name().to_owned(),
                window: implied.window,
                minSamples: implied.min_samples,
                ..empty
            },
        }
    }
}

impl ImpliedBasis {
    /// What is signed, and what answers call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Posted => "posted",
            Self::Computed => "computed",
        }
    }

    /// The basis of a name.
    ///
    /// # Errors
    /// When no basis has it.
    pub fn parse(name: &str) -> Result<Self, InvalidReserve> {
        let known = [Self::Posted, Self::Computed].into_iter().find(|basis| basis.name() == name);
        known.ok_or_else(|| InvalidReserve::UnknownBasis(name.to_owned()))
    }
}

impl ImpliedMeasure {
    /// What is signed, and what answers call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Median => "median",
            Self::Mean => "mean",
        }
    }

    /// The measure of a name.
    ///
    /// # Errors
    /// When no measure has it.
    pub fn parse(name: &str) -> Result<Self, InvalidReserve> {
        let known = [Self::Median, Self::Mean].into_iter().find(|measure| measure.name() == name);
        known.ok_or_else(|| InvalidReserve::UnknownMeasure(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A registration with other terms each time; none is what another is.
    fn variants() -> Vec<Registration> {
        let base = Registration {
            chain: 1,
            sequencer: Address::ZERO,
            sequencer_url: String::new(),
            default_proposer: Address::ZERO,
            payout: Address::ZERO,
            active: true,
            slots_ahead: 0,
            cluster: [1].into(),
            reserve: ReserveRule::Fixed(U256::ZERO),
            block_time: 2,
            block_anchor: 0,
            holds: true,
            fee_share_bps: 0,
            ordering: OrderingPolicy::Free,
            inclusion: 0,
            same_slot_claims: false,
            follows_l1: false,
            encrypted_gas: 0,
            from_slot: 0,
            nonce: 1,
        };
        let orderings = [
            OrderingPolicy::PriorityFee,
            OrderingPolicy::FirstComeFirstServed,
            OrderingPolicy::TopOfBlock { lane_gas: 1 },
            OrderingPolicy::TopOfBlock { lane_gas: 2 },
        ];
        let implied = ImpliedReserve {
            basis: ImpliedBasis::Posted,
            measure: ImpliedMeasure::Median,
            window: 2,
            min_samples: 1,
            floor: U256::ZERO,
        };
        let reserves = [
            ReserveRule::Fixed(U256::ONE),
            ReserveRule::Schedule([(0, U256::ZERO)].into()),
            ReserveRule::Schedule([(0, U256::ONE)].into()),
            ReserveRule::Schedule([(1, U256::ONE)].into()),
            ReserveRule::Implied(implied),
            ReserveRule::Implied(ImpliedReserve { basis: ImpliedBasis::Computed, ..implied }),
            ReserveRule::Implied(ImpliedReserve { measure: ImpliedMeasure::Mean, ..implied }),
            ReserveRule::Implied(ImpliedReserve { window: 3, ..implied }),
            ReserveRule::Implied(ImpliedReserve { min_samples: 2, ..implied }),
            ReserveRule::Implied(ImpliedReserve { floor: U256::ONE, ..implied }),
        ];
        let other = Address::repeat_byte(1);
        let mut variants = vec![
            base.clone(),
            Registration { chain: 2, ..base.clone() },
            Registration { sequencer: other, ..base.clone() },
            Registration { sequencer_url: "x".to_owned(), ..base.clone() },
            Registration { default_proposer: other, ..base.clone() },
            Registration { payout: other, ..base.clone() },
            Registration { active: false, ..base.clone() },
            Registration { slots_ahead: 1, ..base.clone() },
            Registration { cluster: [1, 2].into(), ..base.clone() },
            Registration { block_time: 1, ..base.clone() },
            Registration { block_anchor: 1, ..base.clone() },
            Registration { holds: false, ..base.clone() },
            Registration { fee_share_bps: 1, ..base.clone() },
            Registration { inclusion: 1, ..base.clone() },
            Registration { same_slot_claims: true, ..base.clone() },
            Registration { follows_l1: true, ..base.clone() },
            Registration { encrypted_gas: 1, ..base.clone() },
            Registration { from_slot: 1, ..base.clone() },
            Registration { nonce: 2, ..base.clone() },
        ];
        variants.extend(orderings.map(|ordering| Registration { ordering, ..base.clone() }));
        variants.extend(reserves.map(|reserve| Registration { reserve, ..base.clone() }));
        variants
    }

    #[test]
    fn a_registration_is_signed_over_each_of_its_terms() {
        let variants = variants();
        let digests: std::collections::BTreeSet<B256> = variants.iter().map(Registration::digest).collect();
        assert_eq!(digests.len(), variants.len());
    }

    #[test]
    fn a_schedule_is_taken_only_in_order() {
        for steps in [[(5, U256::ZERO), (5, U256::ONE)], [(6, U256::ZERO), (5, U256::ONE)]] {
            assert_eq!(ReserveRule::schedule(&steps), Err(InvalidReserve::StepsDoNotRise { step: 1 }));
        }
        let steps = [(5, U256::ZERO), (6, U256::ONE)];
        assert_eq!(ReserveRule::schedule(&steps), Ok(ReserveRule::Schedule(steps.into())));
    }
}

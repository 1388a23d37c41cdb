//! What building sees of a slot.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy_primitives::{Address, B256, I256};
use lockstep_messaging::{Facts, Protocols};
use lockstep_primitives::{Bundle, ChainId, OrderingPolicy, Price, RollupSet, SignedTx, SlotNumber};
use lockstep_simulation::{LaneError, SimulationError, SlotRollup, StateError, StateKey};

/// A rollup in a slot, and what it is worth to propose for it.
#[derive(Clone, Debug)]
pub struct RollupView {
    /// Its head and the blocks of the slot.
    pub slot: Arc<SlotRollup>,
    /// The price of its native asset.
    pub price: Price,
    /// Which part of the rollup's protocol fees the proposer receives, in basis points.
    pub fee_share_bps: u64,
    /// In which order its blocks may hold transactions.
    pub ordering: OrderingPolicy,
    /// When the sequencer saw which transaction, in Unix milliseconds by the transaction's hash.
    pub arrivals: BTreeMap<B256, u64>,
    /// What the sequencer does not let its lists leave out, see [`missing_inclusions`](crate::missing_inclusions).
    pub inclusion: Vec<Arc<SignedTx>>,
}

impl RollupView {
    /// A rollup whose blocks may hold any transactions in any order.
    pub fn free(slot: Arc<SlotRollup>, price: Price, fee_share_bps: u64) -> Self {
        let (ordering, arrivals, inclusion) = (OrderingPolicy::Free, BTreeMap::new(), Vec::new());
        Self { slot, price, fee_share_bps, ordering, arrivals, inclusion }
    }
}

/// How to build.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The message protocols.
    pub protocols: Protocols,
    /// The gas limit of a relay transaction of which its protocol says nothing.
    pub relay_gas_limit: u64,
    /// The least value of a bundle with relays, in the numeraire's smallest unit: its relays cost the builder gas even where
    /// that is more than was simulated.
    pub min_relay_value: I256,
    /// The attesters that sign in the slot in which a message is sent. A message that needs others is delivered in a later slot.
    pub attesters: BTreeSet<Address>,
    /// Rollups whose sequencers the evidence sources trust to vote before evidence is held back: only between these may
    /// messages go both ways in one slot.
    pub trusted: RollupSet,
    /// How often the greedy pass goes over what did not fit, as long as every pass adds something.
    pub max_passes: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            protocols: Protocols::default(),
            attesters: BTreeSet::new(),
            relay_gas_limit: 600_000,
            min_relay_value: I256::ZERO,
            trusted: RollupSet::new(),
            max_passes: 16,
        }
    }
}

/// A slot as building sees it.
#[derive(Clone, Debug)]
pub struct SlotView {
    /// The slot.
    pub slot: SlotNumber,
    /// The rollups that have blocks in it.
    pub rollups: BTreeMap<ChainId, RollupView>,
    /// The proposer's address: it is paid, and it signs and pays for relays.
    pub proposer: Address,
    /// How to build.
    pub policy: Policy,
    /// What is known of messages before the slot.
    pub facts: Arc<Facts>,
}

/// A pending bundle.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The Lockstep hash.
    pub hash: B256,
    /// The bundle.
    pub bundle: Arc<Bundle>,
    /// Order of admission: among equals the earlier goes first.
    pub sequence: u64,
}

/// The engine failed; no bundle is to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A rollup's blocks cannot be built.
    #[error("rollup {chain}: {cause}")]
    Lane {
        /// The rollup.
        chain: ChainId,
        /// Why.
        cause: LaneError,
    },
    /// The slot view has no such rollup.
    #[error("rollup {0} is not in the slot's view")]
    UnknownRollup(ChainId),
    /// An amount does not fit 256 bits.
    #[error("an amount does not fit 256 bits")]
    Overflow,
}

impl BuildError {
    pub(crate) fn simulation(chain: ChainId, error: SimulationError) -> Self {
        Self::Lane { chain, cause: error.into() }
    }

    /// The value that has to be fetched before the same work can go on.
    pub const fn missing(&self) -> Option<(ChainId, StateKey)> {
        match self {
            Self::Lane { chain, cause: LaneError::Simulation(SimulationError::State(StateError::Missing(key))) } => {
                Some((*chain, *key))
            }
            _ => None,
        }
    }
}

//! Drafts: what building yields.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy_primitives::{B256, I256};
use lockstep_primitives::{Bundle, ChainId, Rejection, RollupSet, SlotNumber};
use lockstep_simulation::LaneBlock;

use crate::{BundleRun, RelayDraft};

/// A bundle in a draft.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The Lockstep hash.
    pub hash: B256,
    /// The bundle.
    pub bundle: Arc<Bundle>,
    /// What it does there.
    pub run: BundleRun,
}

/// One rollup's blocks in a draft.
#[derive(Clone, Debug)]
pub struct LaneDraft {
    /// The rollup.
    pub chain: ChainId,
    /// Its blocks, relays with stand-in evidence and signatures.
    pub blocks: Vec<LaneBlock>,
}

/// Block lists for a set of rollups, relays unsigned, with the evidence they need.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The slot.
    pub slot: SlotNumber,
    /// The set. No other rollup has part in the draft.
    pub rollups: RollupSet,
    /// One a rollup.
    pub lanes: BTreeMap<ChainId, LaneDraft>,
    /// The bundles, in the order in which they were placed.
    pub placed: Vec<Placed>,
    /// Why the others are not in it.
    pub left_out: Vec<(B256, Rejection)>,
    /// What it is worth to the proposer, in the numeraire's smallest unit.
    pub value: I256,
}

impl Draft {
    /// The relays on a rollup, in block order.
    pub fn relays(&self, chain: ChainId) -> Vec<&RelayDraft> {
        let mut relays: Vec<&RelayDraft> =
            self.placed.iter().flat_map(|placed| &placed.run.relays).filter(|relay| relay.chain == chain).collect();
        relays.sort_by_key(|relay| (relay.block, relay.position));
        relays
    }

    /// (origin, destination) of all messages that the draft delivers.
    pub fn edges(&self) -> BTreeSet<(ChainId, ChainId)> {
        self.placed.iter().flat_map(|placed| placed.run.edges.iter().copied()).collect()
    }

    /// Whether any bundle in it spans rollups.
    pub fn has_cross_rollup(&self) -> bool {
        self.placed.iter().any(|placed| placed.bundle.is_cross_rollup())
    }
}

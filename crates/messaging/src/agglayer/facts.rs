//! What has to be known of AggLayer before a slot, and what proves an exit.

use alloy_primitives::B256;

/// AggLayer as of the blocks that a slot builds on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExitFacts {}

/// What a claim presents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitProof {
    /// Siblings of the leaf in its network's local exit tree, from the leaf up.
    pub local: [B256; 32],
    /// Siblings of that tree's root in the tree of the rollups' roots.
    pub rollup: [B256; 32],
    /// Root of Ethereum's own exit tree.
    pub mainnet_exit_root: B256,
    /// Root of the tree of the rollups' roots.
    pub rollup_exit_root: B256,
    /// Whether this combination of roots is new on the destination, so that it has to be inserted first.
    pub insert: bool,
}

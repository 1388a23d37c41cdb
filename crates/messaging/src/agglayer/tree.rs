//! The trees of exits: keccak-256 Merkle trees of depth 32 whose empty leaf is zero, and whose roots have no length mixed in
//! (agglayer-contracts, `DepositContractBase.sol`; the frontier is that of the deposit contract of Ethereum's proof of stake).

use std::{
    array,
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::LazyLock,
};

use alloy_primitives::{B256, keccak256};

/// Levels between a leaf and the root.
pub const DEPTH: usize = 32;

/// What stands beside the path from a leaf to the root, from the leaf up.
pub type Siblings = [B256; DEPTH];

/// Roots of empty trees, by height.
static EMPTY: LazyLock<[B256; DEPTH + 1]> = LazyLock::new(|| {
    let mut root = B256::ZERO;
    array::from_fn(|_| {
        let here = root;
        root = join(here, here);
        here
    })
});

/// The tree has all the leaves that a count of 32 bits can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the exit tree is full: it has {} leaves", u32::MAX)]
pub struct MerkleTreeFull;

/// The exits of one network, to which more can be added: of all nodes only those are kept that later roots need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExitTree {
    /// At each height where the count has a 1 the root of the full subtree that waits for its right neighbour, else zero.
    frontier: Siblings,
    count: u32,
}

impl ExitTree {
    /// A tree of `count` leaves, as a bridge stores it: one node a height. Nodes where the count has a 0 mean nothing there.
    pub fn from_frontier(mut frontier: Siblings, count: u32) -> Self {
        for (height, node) in frontier.iter_mut().enumerate() {
            if !bit(count, height) {
                *node = B256::ZERO;
            }
        }
        Self { frontier, count }
    }

    /// One node a height, see [`ExitTree::from_frontier`]; zero where the count has a 0.
    pub const fn frontier(&self) -> &Siblings {
        &self.frontier
    }

    /// How many leaves there are: the index of the next one.
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// The root over all leaves: the network's local exit root.
    pub fn root(&self) -> B256 {
        let mut node = B256::ZERO;
        for (height, (left, empty)) in self.frontier.iter().zip(EMPTY.iter()).enumerate() {
            node = if bit(self.count, height) { join(*left, node) } else { join(node, *empty) };
        }
        node
    }

    /// Adds a leaf.
    ///
    /// # Errors
    /// When there is no place left; nothing has changed then.
    pub fn append(&mut self, leaf: B256) -> Result<(), MerkleTreeFull> {
        let count = self.count.checked_add(1).ok_or(MerkleTreeFull)?;
        let mut node = leaf;
        // Where the new count ends in zeros the leaf completes the subtrees that waited; a count of at least 1 has a 1.
        let height = count.trailing_zeros() as usize;
        for left in &mut self.frontier[..height] {
            node = join(mem::take(left), node);
        }
        self.frontier[height] = node;
        self.count = count;
        Ok(())
    }

    /// Adds a leaf and returns its siblings in the tree as it is then: on its left what waited, on its right nothing yet.
    ///
    /// # Errors
    /// When there is no place left; nothing has changed then.
    pub fn append_with_proof(&mut self, leaf: B256) -> Result<Siblings, MerkleTreeFull> {
        let siblings = array::from_fn(|height| if bit(self.count, height) { self.frontier[height] } else { EMPTY[height] });
        self.append(leaf)?;
        Ok(siblings)
    }
}

/// The root of the tree, or of a subtree where fewer siblings are given, in which the leaf stands at `index`.
pub fn root_over(leaf: B256, siblings: &[B256], index: u32) -> B256 {
    let mut node = leaf;
    for (height, sibling) in siblings.iter().enumerate() {
        node = if bit(index, height) { join(*sibling, node) } else { join(node, *sibling) };
    }
    node
}

/// Whether the tree of `root` has the leaf at `index`.
pub fn verify(leaf: B256, siblings: &Siblings, index: u32, root: B256) -> bool {
    root_over(leaf, siblings, index) == root
}

/// The root of the tree of the rollups' local exit roots, given by network: each stands at its network less 1. `None` when
/// network 0 is among them, which is Ethereum and no rollup.
pub fn rollup_exit_root(roots: &BTreeMap<u32, B256>) -> Option<B256> {
    rollup_proof(roots, 1).map(|(root, _)| root)
}

/// As [`rollup_exit_root`], with the siblings of one network's root. `None` also when that network is 0.
pub fn rollup_proof(roots: &BTreeMap<u32, B256>, network: u32) -> Option<(B256, Siblings)> {
    let index = network.checked_sub(1)?;
    let mut level: BTreeMap<u32, B256> =
        roots.iter().map(|(network, root)| Some((network.checked_sub(1)?, *root))).collect::<Option<_>>()?;
    let mut siblings = [B256::ZERO; DEPTH];
    for (height, sibling) in siblings.iter_mut().enumerate() {
        let node = |at: u32| level.get(&at).copied().unwrap_or(EMPTY[height]);
        *sibling = node((index >> height) ^ 1);
        let parents: BTreeSet<u32> = level.keys().map(|at| at >> 1).collect();
        level = parents.into_iter().map(|at| (at, join(node(2 * at), node(2 * at + 1)))).collect();
    }
    Some((level.get(&0).copied().unwrap_or(EMPTY[DEPTH]), siblings))
}

/// The global exit root: what destinations know.
pub fn global_exit_root(mainnet_exit_root: B256, rollup_exit_root: B256) -> B256 {
    join(mainnet_exit_root, rollup_exit_root)
}

fn join(left: B256, right: B256) -> B256 {
    keccak256([left.0, right.0].as_flattened())
}

const fn bit(number: u32, height: usize) -> bool {
    (number >> height) & 1 == 1
}

//! What has to be known of AggLayer before a slot, and what proves an exit.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, B256, Log, U256};
use lockstep_primitives::{ChainId, Reason, RollupSet};

use super::{
    AggLayer, ETHER, Exit, ExitTree, GlobalIndex, MAINNET, Siblings, Token, global_exit_root, rollup_exit_root, rollup_proof,
    tree::{root_over, verify},
};

/// AggLayer as of the blocks that a slot builds on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExitFacts {
    /// The local exit trees of the rollups here. One without leaves has the root of an empty tree.
    pub trees: BTreeMap<ChainId, ExitTree>,
    /// Root of Ethereum's exit tree, where Ethereum is none of the rollups here.
    pub mainnet_exit_root: B256,
    /// Local exit roots of other rollups, by network.
    pub exit_roots: BTreeMap<u32, B256>,
    /// How much of a foreign token (its network, its address there) came to a rollup and has not left it, in the token's
    /// smallest unit. What is not here is zero.
    pub balances: BTreeMap<(ChainId, u32, Address), U256>,
    /// The rollups whose terms of sale allow claims against exits of the same slot.
    pub same_slot_claims: RollupSet,
}

/// An exit, and where it stands in the exit tree of its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LandedExit {
    /// Its network and its index in the tree.
    pub index: GlobalIndex,
    /// The leaf.
    pub leaf: B256,
    /// Its siblings, as of `root`.
    pub siblings: Siblings,
    /// Root of the tree whose last leaf is this exit, or the last one that [`LandedExit::follow`] took note of.
    pub root: B256,
}

impl LandedExit {
    /// Takes note of the next exit of the same network: from now on this one is proven against the root with that one. Every
    /// later exit has to come, in their order.
    ///
    /// # Errors
    /// When the exit is not the next one, or of another tree; nothing has changed then.
    pub fn follow(&mut self, next: &Self) -> Result<(), Reason> {
        let apart = self.index.leaf_index ^ next.index.leaf_index;
        let mut siblings = self.siblings;
        // Where the paths of both leaves part, the next one's subtree becomes the sibling of this one's.
        if let Some(height) = apart.checked_ilog2().map(|height| height as usize) {
            siblings[height] = root_over(next.leaf, &next.siblings[..height], next.index.leaf_index);
        }
        let later = self.index.network == next.index.network && self.index.leaf_index < next.index.leaf_index;
        if !later || !verify(self.leaf, &siblings, self.index.leaf_index, next.root) {
            return Err(Reason::NoEvidence(format!(
                "exit {} of network {} does not follow exit {} of network {}",
                next.index.leaf_index, next.index.network, self.index.leaf_index, self.index.network
            )));
        }
        (self.siblings, self.root) = (siblings, next.root);
        Ok(())
    }
}

/// What [`ExitFacts::apply`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The exits, in their order.
    pub exits: Vec<LandedExit>,
    /// Foreign tokens of which the logs alone do not tell the balance: it may be higher than what is noted. It can be read on
    /// the rollup, see [`AggLayer::balance_call`].
    pub unsure: BTreeSet<Token>,
}

impl ExitFacts {
    /// Takes note of what landed on a rollup: `logs` are all logs of its next blocks, in order; others than the bridge's are
    /// passed over.
    ///
    /// # Errors
    /// When the rollup has no bridge, its tree is not known, an event cannot be read, or an exit is not the next one of the
    /// tree. Nothing has changed then.
    pub fn apply<'a>(
        &mut self,
        bridges: &AggLayer,
        chain: ChainId,
        logs: impl IntoIterator<Item = &'a Log>,
    ) -> Result<Applied, Reason> {
        let network = bridges.network(chain)?;
        let mut tree = self.tree(chain)?.clone();
        let mut changed: BTreeMap<Token, U256> = BTreeMap::new();
        let mut applied = Applied::default();
        let balance = |changed: &BTreeMap<Token, U256>, token: Token| {
            changed.get(&token).copied().unwrap_or_else(|| self.balance(chain, token))
        };
        for log in logs {
            if let Some(exit) = bridges.exit(chain, log).transpose()? {
                applied.exits.push(append(&mut tree, network, &exit)?);
                let token = exit.token();
                if token.0 == network {
                    continue;
                }
                let rest = balance(&changed, token).checked_sub(exit.amount).unwrap_or_else(|| {
                    // The bridge let it out, so more of it was there.
                    applied.unsure.insert(token);
                    U256::ZERO
                });
                changed.insert(token, rest);
            } else if let Some(claim) = bridges.claim(chain, log).transpose()? {
                match claim.token() {
                    Some(token) if token.0 == network => {}
                    Some(token) => {
                        let sum = balance(&changed, token).checked_add(claim.amount).ok_or_else(|| overflow(token))?;
                        changed.insert(token, sum);
                    }
                    None if claim.amount.is_zero() => {}
                    None => applied.unsure.extend([ETHER, claim.named()].into_iter().filter(|token| token.0 != network)),
                }
            }
        }
        self.trees.insert(chain, tree);
        for ((origin, token), amount) in changed {
            if amount.is_zero() {
                self.balances.remove(&(chain, origin, token));
            } else {
                self.balances.insert((chain, origin, token), amount);
            }
        }
        Ok(applied)
    }

    /// What a claim of the exit presents: its own tree as of then, and the newest known roots of all other networks.
    ///
    /// # Errors
    /// When the root of a rollup that has a bridge here is not known.
    pub fn prove(&self, bridges: &AggLayer, exit: &LandedExit) -> Result<ExitProof, Reason> {
        let own = exit.index.network;
        let mut mainnet_exit_root = self.mainnet_exit_root;
        let mut rollups = self.exit_roots.clone();
        for (chain, bridge) in bridges.deployments().iter().filter(|(_, bridge)| bridge.network != own) {
            match self.tree(*chain) {
                Ok(tree) if bridge.network == MAINNET => mainnet_exit_root = tree.root(),
                Ok(tree) => {
                    rollups.insert(bridge.network, tree.root());
                }
                Err(_) if bridge.network != MAINNET && rollups.contains_key(&bridge.network) => {}
                Err(reason) => return Err(reason),
            }
        }
        let mut rollup = Siblings::default();
        let rollup_exit_root = if own == MAINNET {
            mainnet_exit_root = exit.root;
            rollup_exit_root(&rollups)
        } else {
            rollups.insert(own, exit.root);
            rollup_proof(&rollups, own).map(|(root, siblings)| {
                rollup = siblings;
                root
            })
        };
        let rollup_exit_root = rollup_exit_root
            .ok_or_else(|| Reason::NoEvidence(format!("network {MAINNET} is given as a rollup, which Ethereum is not")))?;
        let local = exit.siblings;
        Ok(ExitProof { local, local_exit_root: exit.root, rollup, mainnet_exit_root, rollup_exit_root })
    }

    /// The local exit tree of a rollup.
    pub(crate) fn tree(&self, chain: ChainId) -> Result<&ExitTree, Reason> {
        let unknown = || Reason::NoEvidence(format!("the exit tree of rollup {chain} is not known"));
        self.trees.get(&chain).ok_or_else(unknown)
    }

    /// How much of a foreign token a rollup has.
    pub(crate) fn balance(&self, chain: ChainId, (network, token): Token) -> U256 {
        self.balances.get(&(chain, network, token)).copied().unwrap_or_default()
    }
}

/// Adds an exit of `network` to its tree.
pub(crate) fn append(tree: &mut ExitTree, network: u32, exit: &Exit) -> Result<LandedExit, Reason> {
    if exit.leaf_index != tree.count() {
        return Err(Reason::NoEvidence(format!(
            "the next exit of network {network} is number {}, the exit tree that is known has {} leaves",
            exit.leaf_index,
            tree.count()
        )));
    }
    let index = GlobalIndex { network, leaf_index: exit.leaf_index };
    let leaf = exit.leaf();
    let siblings = tree.append_with_proof(leaf).map_err(|full| Reason::NoEvidence(full.to_string()))?;
    Ok(LandedExit { index, leaf, siblings, root: tree.root() })
}

/// More of a token than a balance can count.
pub(crate) fn overflow((network, token): Token) -> Reason {
    Reason::InvalidTransaction(format!("more than 2^256-1 of token {token} of network {network} would be there"))
}

/// What a claim presents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitProof {
    /// Siblings of the leaf in its network's local exit tree, from the leaf up.
    pub local: Siblings,
    /// Root of that tree. Claims do not carry it: it follows from the leaf.
    pub local_exit_root: B256,
    /// Siblings of that root in the tree of the rollups' roots; zeros for an exit of Ethereum.
    pub rollup: Siblings,
    /// Root of Ethereum's own exit tree.
    pub mainnet_exit_root: B256,
    /// Root of the tree of the rollups' roots.
    pub rollup_exit_root: B256,
}

impl ExitProof {
    /// What the destination has to know before the claim.
    pub fn global_exit_root(&self) -> B256 {
        global_exit_root(self.mainnet_exit_root, self.rollup_exit_root)
    }

    /// Checks both proofs of an exit of `network`, as its destination will.
    ///
    /// # Errors
    /// [`Reason::NoEvidence`] names the one that does not hold.
    pub fn verify(&self, network: u32, exit: &Exit) -> Result<(), Reason> {
        let index = exit.leaf_index;
        if !verify(exit.leaf(), &self.local, index, self.local_exit_root) {
            let text = format!("the proof of exit {index} in the exit tree of network {network} does not hold");
            return Err(Reason::NoEvidence(text));
        }
        let above = match network.checked_sub(1) {
            None => self.local_exit_root == self.mainnet_exit_root && self.rollup.iter().all(B256::is_zero),
            Some(rollup) => verify(self.local_exit_root, &self.rollup, rollup, self.rollup_exit_root),
        };
        if !above {
            let tree = if network == MAINNET { "Ethereum's exit root" } else { "the tree of the rollups' exit roots" };
            return Err(Reason::NoEvidence(format!("the proof of network {network}'s exit root in {tree} does not hold")));
        }
        Ok(())
    }
}

//! AggLayer's trees and balances as of the newest blocks of each rollup, so that a slot finds them as of its parents.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy_primitives::{Address, B256, U256};
use lockstep_messaging::{
    AggLayer, Evidence, ExitFacts, ExitTree, LandedExit,
    agglayer::{GlobalIndex, Siblings},
};
use lockstep_primitives::{ChainId, Reason, RollupSet};
use lockstep_provider::BlockLog;

use super::{
    record::{BalanceRecord, ExitRecord, ExitsRecord},
    settings::MessagesSettings,
};

/// AggLayer on the rollups that are served.
///
/// A rollup's tree is known when all its exits were read, from its first block on. Where blocks were left out it is not known,
/// and nothing is claimed in the slot of its exit.
#[derive(Debug, Default)]
pub(crate) struct Exits {
    bridges: Option<AggLayer>,
    /// The roots of networks that are no rollups here.
    mainnet_exit_root: B256,
    exit_roots: BTreeMap<u32, B256>,
    /// What is known of each rollup alone, after each of the newest blocks.
    after: BTreeMap<ChainId, BTreeMap<u64, Arc<ExitFacts>>>,
    /// Rollups that are read from their first block on, which has not been read yet.
    fresh: BTreeSet<ChainId>,
}

impl Exits {
    /// Over these bridges. Roots of networks that are no rollups here are given: nothing here follows them.
    pub(crate) fn new(bridges: Option<AggLayer>, settings: &MessagesSettings) -> Self {
        let (mainnet_exit_root, exit_roots) = (settings.mainnet_exit_root, settings.exit_roots.clone());
        Self { bridges, mainnet_exit_root, exit_roots, ..Self::default() }
    }

    /// A rollup is read from its first block on, before which nothing has left it.
    pub(crate) fn begin(&mut self, chain: ChainId) {
        self.after.remove(&chain);
        self.fresh.insert(chain);
    }

    /// Reads all logs of a rollup's next block. Returns the exits among them, where its tree is known.
    pub(crate) fn append(&mut self, chain: ChainId, number: u64, logs: &[BlockLog]) -> Vec<LandedExit> {
        let Some(bridges) = &self.bridges else { return Vec::new() };
        let Some(bridge) = bridges.deployments().get(&chain) else { return Vec::new() };
        let before = if self.fresh.remove(&chain) {
            let trees = BTreeMap::from([(chain, ExitTree::default())]);
            Some(Arc::new(ExitFacts { trees, ..ExitFacts::default() }))
        } else {
            // Only of the very block before: of what was forgotten in between nothing may be guessed.
            number.checked_sub(1).and_then(|before| self.after.get(&chain)?.get(&before).cloned())
        };
        let Some(before) = before else { return Vec::new() };
        let states = self.after.entry(chain).or_default();
        if logs.iter().all(|log| log.log.address != bridge.bridge) {
            states.insert(number, before);
            return Vec::new();
        }
        let mut facts = ExitFacts::clone(&before);
        match facts.apply(bridges, chain, logs.iter().map(|log| &log.log)) {
            Ok(applied) => {
                if !applied.unsure.is_empty() {
                    // What is noted is then less than what is there: exits may be held back, none that is not covered goes out.
                    let tokens = applied.unsure.len();
                    tracing::warn!(chain, number, tokens, "the logs do not tell how much of some tokens came to the rollup");
                }
                states.insert(number, Arc::new(facts));
                applied.exits
            }
            Err(reason) => {
                tracing::error!(chain, number, %reason, "the rollup's exits are out of step with what was read: none is proven");
                self.forget(chain);
                Vec::new()
            }
        }
    }

    /// Takes a rollup back to the block with this number.
    pub(crate) fn rewind(&mut self, chain: ChainId, to: u64) {
        if let Some(after) = self.after.get_mut(&chain) {
            after.retain(|number, _| *number <= to);
        }
    }

    /// Keeps what was known after this block and later.
    pub(crate) fn keep_from(&mut self, chain: ChainId, first: u64) {
        if let Some(after) = self.after.get_mut(&chain) {
            after.retain(|number, _| *number >= first);
        }
    }

    /// Nothing is known of a rollup any more.
    pub(crate) fn forget(&mut self, chain: ChainId) {
        self.after.remove(&chain);
        self.fresh.remove(&chain);
    }

    /// What is known as of these blocks: a rollup that is not among them is not known.
    pub(crate) fn as_of(&self, parents: &BTreeMap<ChainId, u64>, same_slot_claims: &RollupSet) -> ExitFacts {
        let mut facts = ExitFacts {
            mainnet_exit_root: self.mainnet_exit_root,
            exit_roots: self.exit_roots.clone(),
            same_slot_claims: same_slot_claims.clone(),
            ..ExitFacts::default()
        };
        for (chain, number) in parents {
            if let Some(known) = self.after.get(chain).and_then(|after| after.get(number)) {
                facts.trees.extend(known.trees.iter().map(|(chain, tree)| (*chain, tree.clone())));
                facts.balances.extend(known.balances.iter().map(|(key, amount)| (*key, *amount)));
            }
        }
        facts
    }

    /// The proof of an exit that landed, with the other networks' roots as they are now.
    pub(crate) fn prove(&self, exit: Option<&LandedExit>, facts: &ExitFacts) -> Result<Evidence, Reason> {
        let bridges = self.bridges.as_ref().ok_or_else(|| Reason::NoEvidence("no bridge is configured".to_owned()))?;
        let unknown = || Reason::NoEvidence("the exit tree of its rollup was not known when the exit was read".to_owned());
        Ok(Evidence::Exit(Box::new(facts.prove(bridges, exit.ok_or_else(unknown)?)?)))
    }

    /// What has to be on disk of a rollup's block: `None` where nothing is known.
    pub(crate) fn record(&self, chain: ChainId, number: u64) -> Option<ExitsRecord> {
        let facts = self.after.get(&chain)?.get(&number)?;
        let tree = facts.trees.get(&chain)?;
        let balance = |((_, network, token), amount): (&(ChainId, u32, Address), &U256)| BalanceRecord {
            network: *network,
            token: *token,
            amount: *amount,
        };
        Some(ExitsRecord {
            frontier: tree.frontier().to_vec(),
            count: tree.count(),
            balances: facts.balances.iter().map(balance).collect(),
        })
    }

    /// Takes up what is on disk of a rollup's block. What is of no bridge is passed over: it may have been taken out of the
    /// configuration.
    pub(crate) fn restore(&mut self, chain: ChainId, number: u64, record: ExitsRecord) -> Result<(), String> {
        if !self.bridges.as_ref().is_some_and(|bridges| bridges.deployments().contains_key(&chain)) {
            return Ok(());
        }
        let tree = ExitTree::from_frontier(siblings(record.frontier)?, record.count);
        let balances = record.balances.into_iter().map(|of| ((chain, of.network, of.token), of.amount)).collect();
        let facts = ExitFacts { trees: BTreeMap::from([(chain, tree)]), balances, ..ExitFacts::default() };
        self.after.entry(chain).or_default().insert(number, Arc::new(facts));
        Ok(())
    }
}

impl From<&LandedExit> for ExitRecord {
    fn from(exit: &LandedExit) -> Self {
        let (network, leaf_index) = (exit.index.network, exit.index.leaf_index);
        Self { network, leaf_index, leaf: exit.leaf, siblings: exit.siblings.to_vec(), root: exit.root }
    }
}

impl ExitRecord {
    /// The exit again.
    pub(crate) fn exit(self) -> Result<LandedExit, String> {
        let index = GlobalIndex { network: self.network, leaf_index: self.leaf_index };
        Ok(LandedExit { index, leaf: self.leaf, siblings: siblings(self.siblings)?, root: self.root })
    }
}

fn siblings(nodes: Vec<B256>) -> Result<Siblings, String> {
    Siblings::try_from(nodes).map_err(|nodes| format!("an exit tree has 32 levels, not {}", nodes.len()))
}

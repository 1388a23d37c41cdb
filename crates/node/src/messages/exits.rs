//! AggLayer's trees and balances as of the newest blocks of each rollup, so that a slot finds them as of its parents.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy_primitives::{Address, B256, U256};
use lockstep_messaging::{
    AggLayer, Evidence, ExitFacts, ExitTree, LandedExit,
    agglayer::{ETHER, GlobalIndex, MAINNET, Siblings, Token},
};
use lockstep_primitives::{ChainId, Reason, RollupSet};
use lockstep_provider::BlockLog;

use super::{
    book::count_dropped,
    bridge::{Answer, Question, TreeQuestion},
    record::{BalanceRecord, ExitRecord, ExitsRecord, TokenRecord},
    settings::{MessagesLimits, MessagesSettings},
};

/// AggLayer on the rollups that are served.
///
/// A rollup's tree is known when all its exits were read, from its first block on, or when its bridge was asked for it. Where it
/// is not known nothing is claimed in the slot of its exit.
#[derive(Debug, Default)]
pub(crate) struct Exits {
    bridges: Option<AggLayer>,
    /// The roots of networks that are no rollups here.
    mainnet_exit_root: B256,
    exit_roots: BTreeMap<u32, B256>,
    /// Where in a bridge's storage its tree is.
    branch_slots: BTreeMap<ChainId, u64>,
    limits: MessagesLimits,
    /// What is known of each rollup alone, after each of the newest blocks.
    after: BTreeMap<ChainId, BTreeMap<u64, Arc<Known>>>,
    /// Rollups that are read from their first block on, which has not been read yet.
    fresh: BTreeSet<ChainId>,
    /// Rollups whose tree is not at the slot that is configured.
    distrusted: BTreeSet<ChainId>,
    /// Rollups whose bridge does not tell balances.
    mute: BTreeSet<ChainId>,
}

/// What is known of a rollup after a block. A balance that is noted is never more than what the bridge has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    facts: ExitFacts,
    /// Tokens of which there may be more than what is noted, and whose balances are to be read.
    unsure: BTreeSet<Token>,
    /// The tokens whose balance is the one that is noted, which is zero where none is. `None` when all are: then everything was
    /// read that ever happened on the rollup.
    read: Option<BTreeSet<Token>>,
}

impl Known {
    /// Notes which balances are not certain any more, or never were.
    fn note(&mut self, before: &ExitFacts, unsure: BTreeSet<Token>) {
        self.unsure.extend(unsure);
        if let Some(read) = &self.read {
            let moved = self.facts.balances.iter().filter(|(key, amount)| before.balances.get(*key) != Some(*amount));
            self.unsure.extend(moved.map(|((_, network, token), _)| (*network, *token)).filter(|token| !read.contains(token)));
        }
    }

    /// Keeps to the bound. A balance that is forgotten counts as none until it is read: too little, never too much.
    fn bound(&mut self, chain: ChainId, most: usize) {
        while self.facts.balances.len() > most {
            let noted = || self.facts.balances.keys().map(|(_, network, token)| (*network, *token)).collect();
            let mut read = self.read.take().unwrap_or_else(noted);
            if let Some(((_, network, token), _)) = self.facts.balances.pop_last() {
                read.remove(&(network, token));
            }
            self.read = Some(read);
            count_dropped(chain, "balance");
        }
        for tokens in [Some(&mut self.unsure), self.read.as_mut()].into_iter().flatten() {
            while tokens.len() > most {
                tokens.pop_last();
            }
        }
    }

    fn set_balance(&mut self, chain: ChainId, (network, token): Token, amount: U256) {
        if amount.is_zero() {
            self.facts.balances.remove(&(chain, network, token));
        } else {
            self.facts.balances.insert((chain, network, token), amount);
        }
    }
}

impl Exits {
    /// Over these bridges. Roots of networks that are no rollups here are given: nothing here follows them.
    pub(crate) fn new(bridges: Option<AggLayer>, settings: &MessagesSettings) -> Self {
        Self {
            bridges,
            mainnet_exit_root: settings.mainnet_exit_root,
            exit_roots: settings.exit_roots.clone(),
            branch_slots: settings.branch_slots.clone(),
            limits: settings.limits,
            ..Self::default()
        }
    }

    /// A rollup is read from its first block on, before which nothing has left it.
    pub(crate) fn begin(&mut self, chain: ChainId) {
        self.after.remove(&chain);
        self.fresh.insert(chain);
    }

    fn known(&self, chain: ChainId, number: u64) -> Option<&Arc<Known>> {
        self.after.get(&chain)?.get(&number)
    }

    /// Reads all logs of a rollup's next block. Returns the exits among them, where its tree is known.
    pub(crate) fn append(&mut self, chain: ChainId, number: u64, logs: &[BlockLog]) -> Vec<LandedExit> {
        let Some(bridges) = &self.bridges else { return Vec::new() };
        let Some(bridge) = bridges.deployments().get(&chain) else { return Vec::new() };
        let before = if self.fresh.remove(&chain) {
            let trees = BTreeMap::from([(chain, ExitTree::default())]);
            Some(Arc::new(Known { facts: ExitFacts { trees, ..ExitFacts::default() }, ..Known::default() }))
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
        let mut known = Known::clone(&before);
        match known.facts.apply(bridges, chain, logs.iter().map(|log| &log.log)) {
            Ok(applied) => {
                if !applied.unsure.is_empty() {
                    // What is noted is then less than what is there: exits may be held back, none that is not covered goes out.
                    let tokens = applied.unsure.len();
                    tracing::debug!(chain, number, tokens, "the logs do not tell how much of some tokens came to the rollup");
                }
                known.note(&before.facts, applied.unsure);
                known.bound(chain, self.limits.tokens);
                states.insert(number, Arc::new(known));
                applied.exits
            }
            Err(reason) => {
                tracing::error!(chain, number, %reason, "the rollup's exits are out of step with what was read: none is proven");
                self.forget(chain);
                Vec::new()
            }
        }
    }

    /// What is to be asked of a rollup's bridge after a block: its tree where that is not known, else balances of which more may
    /// be there than what is noted.
    pub(crate) fn question(&self, chain: ChainId, number: u64) -> Option<Question> {
        let bridges = self.bridges.as_ref()?;
        let bridge = bridges.deployments().get(&chain)?;
        let balance = |token: Token| Some((token, bridges.balance_call(chain, token)?));
        match self.known(chain, number) {
            None => {
                let slot = self.branch_slots.get(&chain).filter(|_| !self.distrusted.contains(&chain))?;
                let (count, root) = (bridges.count_call(chain)?, bridges.root_call(chain)?);
                let tree = TreeQuestion { bridge: bridge.bridge, slot: U256::from(*slot), count, root };
                // Of all tokens this one alone is known by name.
                let ether = Some(ETHER).filter(|_| bridge.network != MAINNET && !self.mute.contains(&chain));
                Some(Question { tree: Some(tree), balances: ether.and_then(balance).into_iter().collect() })
            }
            Some(known) => {
                let unsure = known.unsure.iter().filter(|_| !self.mute.contains(&chain));
                let balances: Vec<_> = unsure.take(self.limits.token_reads).filter_map(|token| balance(*token)).collect();
                (!balances.is_empty()).then_some(Question { tree: None, balances })
            }
        }
    }

    /// What a rollup's bridge answered after a block.
    pub(crate) fn learn(&mut self, chain: ChainId, number: u64, answer: Answer) {
        let mut known = match (self.known(chain, number), answer.tree) {
            (Some(known), _) => Known::clone(known),
            (None, Some(tree)) => {
                let leaves = tree.count();
                tracing::info!(chain, number, leaves, "the rollup's exit tree is taken from its bridge");
                let facts = ExitFacts { trees: BTreeMap::from([(chain, tree)]), ..ExitFacts::default() };
                Known { facts, unsure: BTreeSet::new(), read: Some(BTreeSet::new()) }
            }
            (None, None) => return,
        };
        for (token, amount) in answer.balances {
            let Some(amount) = amount else {
                if self.mute.insert(chain) {
                    let cause = "its bridge does not answer localBalanceTree: exits of foreign tokens may be held back";
                    tracing::warn!(chain, cause, "balances of the rollup are not read");
                }
                continue;
            };
            known.set_balance(chain, token, amount);
            known.unsure.remove(&token);
            if let Some(read) = &mut known.read {
                read.insert(token);
            }
        }
        known.bound(chain, self.limits.tokens);
        self.after.entry(chain).or_default().insert(number, Arc::new(known));
    }

    /// The tree of a rollup is not where it was looked for: it is not looked for again.
    pub(crate) fn distrust(&mut self, chain: ChainId) {
        self.distrusted.insert(chain);
    }

    /// More of a token may be on the rollup than what is noted after a block, because something could have come before anything
    /// was read: its balance is to be read. Returns whether that is so.
    pub(crate) fn doubt(&mut self, chain: ChainId, number: u64, token: Token) -> bool {
        let Some(known) = self.after.get_mut(&chain).and_then(|after| after.get_mut(&number)) else { return false };
        let certain = known.read.as_ref().is_none_or(|read| read.contains(&token));
        if certain || known.unsure.contains(&token) {
            return false;
        }
        let known = Arc::make_mut(known);
        known.unsure.insert(token);
        known.bound(chain, self.limits.tokens);
        true
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
            if let Some(known) = self.known(*chain, *number) {
                facts.trees.extend(known.facts.trees.iter().map(|(chain, tree)| (*chain, tree.clone())));
                facts.balances.extend(known.facts.balances.iter().map(|(key, amount)| (*key, *amount)));
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
        let known = self.known(chain, number)?;
        let tree = known.facts.trees.get(&chain)?;
        let balance = |((_, network, token), amount): (&(ChainId, u32, Address), &U256)| BalanceRecord {
            network: *network,
            token: *token,
            amount: *amount,
        };
        Some(ExitsRecord {
            frontier: tree.frontier().to_vec(),
            count: tree.count(),
            balances: known.facts.balances.iter().map(balance).collect(),
            unsure: known.unsure.iter().map(TokenRecord::from).collect(),
            read: known.read.as_ref().map(|read| read.iter().map(TokenRecord::from).collect()),
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
        let unsure = record.unsure.into_iter().map(Token::from).collect();
        let read = record.read.map(|read| read.into_iter().map(Token::from).collect());
        self.after.entry(chain).or_default().insert(number, Arc::new(Known { facts, unsure, read }));
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

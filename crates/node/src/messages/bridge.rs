//! What a rollup's bridge says of itself as of a block: its exit tree, and how much of foreign tokens came to the rollup.
//!
//! A tree is believed only when the frontier that was read makes the root that the bridge tells, because the slot to read it from
//! is configured by hand.

use std::sync::Arc;

use alloy_primitives::{Address, B256, U256};
use lockstep_messaging::{
    ExitTree, ReadCall,
    agglayer::{DEPTH, Siblings, Token},
};
use lockstep_primitives::ChainId;
use lockstep_provider::RollupNode;
use lockstep_simulation::{
    BlockContext, CallRequest, DataLimits, ForkSchedule, RulesError, SimulationError, StateError, StateView, TxOutcome, call,
};

use super::book::Block;

/// How often reading is begun again after fetching what it missed: through a proxy, one slot after the other.
const MAX_ROUNDS: usize = 64;
/// What one reading call may take. A root takes 32 slots and 64 hashes, less than 200,000.
const READ_GAS: u64 = 5_000_000;

/// What is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) tree: Option<TreeQuestion>,
    pub(crate) balances: Vec<(Token, ReadCall)>,
}

/// Where an exit tree is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TreeQuestion {
    pub(crate) bridge: Address,
    /// The slot of the lowest node of the frontier; the others follow it.
    pub(crate) slot: U256,
    /// How many leaves there are.
    pub(crate) count: ReadCall,
    pub(crate) root: ReadCall,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) tree: Option<ExitTree>,
    /// `None` where the bridge does not answer.
    pub(crate) balances: Vec<(Token, Option<U256>)>,
}

/// Why nothing was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The node does not have it now.
    Node(String),
    /// What is read is not what the bridge says.
    Untrue(String),
}

/// The block after this one, in which nothing happens but reading.
pub(super) fn context(chain: ChainId, forks: &ForkSchedule, block: Block) -> Result<BlockContext, RulesError> {
    let timestamp = block.timestamp.saturating_add(1);
    let rules = forks.rules_at(timestamp)?;
    Ok(BlockContext {
        chain,
        rules,
        parent_hash: block.hash,
        number: block.number.saturating_add(1),
        timestamp,
        gas_limit: READ_GAS,
        base_fee: 0,
        beneficiary: Address::ZERO,
        prev_randao: B256::ZERO,
        parent_beacon_block_root: None,
        excess_blob_gas: rules.blobs().map(|_| 0),
        extra_data: Default::default(),
        data: DataLimits::default(),
        encrypted_gas: 0,
        deposits_only: false,
    })
}

/// Reads on the state after a block. What the state does not hold yet is fetched, and it is read again: no thread waits for a
/// socket.
pub(super) async fn ask(
    node: &dyn RollupNode,
    context: BlockContext,
    block: B256,
    question: Question,
) -> Result<Answer, Trouble> {
    let state = node.state_at(block).await.map_err(failed)?;
    let work = Arc::new((context, question));
    for _ in 0..MAX_ROUNDS {
        let (work, state) = (Arc::clone(&work), Arc::clone(&state));
        let done = tokio::task::spawn_blocking(move || read(&work.0, state.as_ref(), &work.1)).await;
        match done.map_err(failed)? {
            Ok(answer) => return answer.map_err(Trouble::Untrue),
            Err(SimulationError::State(StateError::Missing(_))) => {
                node.fetch_missing(block).await.map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
    }
    Err(Trouble::Node(format!("the state was not complete after {MAX_ROUNDS} rounds of fetching")))
}

fn failed(error: impl std::fmt::Display) -> Trouble {
    Trouble::Node(error.to_string())
}

/// Everything is looked at before the first thing that is missed counts, so that one round fetches as much as it can.
fn read(context: &BlockContext, state: &dyn StateView, question: &Question) -> Result<Result<Answer, String>, SimulationError> {
    let tree = question.tree.as_ref().map(|tree| read_tree(context, state, tree));
    let balances: Vec<Result<(Token, Option<U256>), SimulationError>> =
        question.balances.iter().map(|(token, balance)| Ok((*token, word(context, state, balance)?))).collect();
    let tree = match tree.transpose()?.transpose() {
        Ok(tree) => tree,
        Err(untrue) => return Ok(Err(untrue)),
    };
    Ok(Ok(Answer { tree, balances: balances.into_iter().collect::<Result<_, _>>()? }))
}

fn read_tree(
    context: &BlockContext,
    state: &dyn StateView,
    question: &TreeQuestion,
) -> Result<Result<ExitTree, String>, SimulationError> {
    let slots = (0..DEPTH as u64).map(|height| question.slot.wrapping_add(U256::from(height)));
    let nodes: Vec<Result<U256, StateError>> = slots.map(|slot| state.storage(question.bridge, slot)).collect();
    let (count, root) = (word(context, state, &question.count), word(context, state, &question.root));
    let mut frontier = Siblings::default();
    for (node, read) in frontier.iter_mut().zip(nodes) {
        *node = B256::from(read?);
    }
    let (Some(count), Some(root)) = (count?, root?) else {
        return Ok(Err("depositCount() and getRoot() do not both answer with one word".to_owned()));
    };
    let Ok(leaves) = u32::try_from(count) else {
        return Ok(Err(format!("depositCount() is {count}, an exit tree has less than 2^32 leaves")));
    };
    let (tree, root) = (ExitTree::from_frontier(frontier, leaves), B256::from(root));
    if tree.root() != root {
        return Ok(Err(format!(
            "{leaves} leaves over the frontier from slot {} on make the root {}, getRoot() is {root}",
            question.slot,
            tree.root()
        )));
    }
    Ok(Ok(tree))
}

/// The word that a call answers with; `None` when it fails, or answers with anything else.
fn word(context: &BlockContext, state: &dyn StateView, read: &ReadCall) -> Result<Option<U256>, SimulationError> {
    let request = CallRequest::read(read.to, read.data.clone(), READ_GAS);
    let outcome = call(context, state, &request)?.ok().filter(TxOutcome::succeeded);
    Ok(outcome.and_then(|outcome| <[u8; 32]>::try_from(&outcome.output[..]).ok()).map(U256::from_be_bytes::<32>))
}

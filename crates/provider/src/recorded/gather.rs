//! Finds out what a block of a node elsewhere reads of its parent's state.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use alloy_primitives::{Address, B256, U256};
use lockstep_simulation::{Account, BlockContext, Code, PendingBlock, SimulationError, StateError, StateView, TracedView};

use super::{Prestate, RecordedBlock, RecordedError, prestate::Told};
use crate::RollupNode;

/// How often a block is executed again after fetching what it missed.
pub const MAX_GATHER_ROUNDS: usize = 256;

/// Executes a block on its parent's state, fetching what is missing, and returns exactly the values that it reads. What is
/// `told` already (by the node's own tracer) is not fetched. The parent's hash is left out: the block's header names it.
///
/// # Errors
/// When the node does not have the parent's state, or the state is not complete after [`MAX_GATHER_ROUNDS`].
pub async fn gather(
    block: &Arc<RecordedBlock>,
    context: &BlockContext,
    node: &dyn RollupNode,
    told: Option<&Prestate>,
) -> Result<Prestate, RecordedError> {
    let parent = context.parent_hash;
    let below = node.state_at(parent).await?;
    let state: Arc<dyn StateView> = match told {
        Some(told) => Arc::new(Told::new(told, below)?),
        None => below,
    };
    for _ in 0..MAX_GATHER_ROUNDS {
        let (block, on, state) = (Arc::clone(block), context.clone(), Arc::clone(&state));
        let run = tokio::task::spawn_blocking(move || round(&block, on, state)).await;
        if let Some(mut prestate) = run.map_err(|error| RecordedError::Stopped(error.to_string()))?? {
            prestate.forget_block_hash(context.number.saturating_sub(1));
            return Ok(prestate);
        }
        if node.fetch_missing(parent).await? == 0 {
            return Err(RecordedError::Incomplete);
        }
    }
    Err(RecordedError::Incomplete)
}

/// Executes the block once. `None` when a value was missing; the state below has noted which.
fn round(block: &RecordedBlock, context: BlockContext, state: Arc<dyn StateView>) -> Result<Option<Prestate>, RecordedError> {
    let traced = Arc::new(TracedView::new(Arc::clone(&state)));
    let guess = Arc::new(Guess { below: Arc::clone(&traced) as _, missed: AtomicBool::new(false) });
    let touched = touch(block, context, Arc::clone(&guess) as _);
    if guess.missed.load(Ordering::Relaxed) {
        // On guessed values nothing that happens means anything, errors included.
        return Ok(None);
    }
    touched?;
    match Prestate::of(&*state, &traced.keys()) {
        Ok(prestate) => Ok(Some(prestate)),
        Err(StateError::Missing(_)) => Ok(None),
        Err(error) => Err(SimulationError::State(error).into()),
    }
}

/// Does all that the block does, over transactions that are invalid too: comparing is for later.
fn touch(block: &RecordedBlock, context: BlockContext, state: Arc<dyn StateView>) -> Result<(), SimulationError> {
    let mut pending = PendingBlock::open(context, state)?;
    for tx in &block.transactions {
        if let Err(reason) = pending.execute(tx)? {
            tracing::debug!(hash = %tx.hash(), %reason, "a transaction of the block is invalid");
        }
    }
    pending.credit(block.withdrawals.iter().copied())?;
    pending.finish()?;
    Ok(())
}

/// Goes on where a value is missing as if there were nothing, so that one round finds many of them.
#[derive(Debug)]
struct Guess {
    below: Arc<dyn StateView>,
    missed: AtomicBool,
}

impl Guess {
    fn or_nothing<T: Default>(&self, read: Result<T, StateError>) -> Result<T, StateError> {
        match read {
            Err(StateError::Missing(_)) => {
                self.missed.store(true, Ordering::Relaxed);
                Ok(T::default())
            }
            read => read,
        }
    }
}

impl StateView for Guess {
    fn account(&self, address: Address) -> Result<Option<Account>, StateError> {
        self.or_nothing(self.below.account(address))
    }

    fn code(&self, hash: B256) -> Result<Code, StateError> {
        self.or_nothing(self.below.code(hash))
    }

    fn storage(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        self.or_nothing(self.below.storage(address, slot))
    }

    fn block_hash(&self, number: u64) -> Result<B256, StateError> {
        self.or_nothing(self.below.block_hash(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_simulation::StateKey;

    /// A state that holds nothing yet.
    #[derive(Debug)]
    struct Empty;

    impl StateView for Empty {
        fn account(&self, address: Address) -> Result<Option<Account>, StateError> {
            Err(StateError::Missing(StateKey::Account(address)))
        }

        fn code(&self, hash: B256) -> Result<Code, StateError> {
            Err(StateError::Missing(StateKey::Code(hash)))
        }

        fn storage(&self, _: Address, _: U256) -> Result<U256, StateError> {
            Err(StateError::Broken("the disk is gone".into()))
        }

        fn block_hash(&self, number: u64) -> Result<B256, StateError> {
            Err(StateError::Missing(StateKey::BlockHash(number)))
        }
    }

    #[test]
    fn guessing_is_noticed_and_hides_no_broken_state() {
        let guess = Guess { below: Arc::new(Empty), missed: AtomicBool::new(false) };
        assert!(guess.storage(Address::ZERO, U256::ZERO).is_err());
        assert!(!guess.missed.load(Ordering::Relaxed));
        assert_eq!(guess.account(Address::ZERO), Ok(None));
        assert!(guess.missed.load(Ordering::Relaxed));
    }
}

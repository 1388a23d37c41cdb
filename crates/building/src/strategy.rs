//! Strategies: code that makes bundles of its own.

use std::fmt;

use alloy_primitives::{Address, B256, Signature};
use lockstep_primitives::Bundle;

use crate::{BuildError, Simulated, SlotView};

/// Signs the transactions of a strategy.
pub trait Signer: Send + Sync + fmt::Debug {
    /// Whose transactions they are.
    fn address(&self) -> Address;

    /// Signs a digest.
    fn sign(&self, digest: B256) -> Signature;
}

/// What a strategy sees of a slot.
#[derive(Clone, Copy, Debug)]
pub struct StrategyView<'a> {
    /// The slot: its rollups with their states, the proposer, the protocols, and what is known of messages.
    pub slot: &'a SlotView,
    /// The pending bundles, and what each does alone.
    pub pending: &'a [Simulated],
    /// Signs for the strategy's account, which holds its inventory on every rollup.
    pub signer: &'a dyn Signer,
}

/// Makes bundles for a slot. A strategy is pure: the same view gives the same bundles.
pub trait Strategy: Send + Sync + fmt::Debug {
    /// The name used on every surface.
    fn name(&self) -> &'static str;

    /// Bundles worth trying in the slot. They compete with everybody else's by the same rules, and expire with the slot.
    ///
    /// # Errors
    /// When the engine fails, or a state is not there yet: it is fetched, and the strategy is asked again.
    fn bundles(&self, view: &StrategyView<'_>) -> Result<Vec<Bundle>, BuildError>;
}

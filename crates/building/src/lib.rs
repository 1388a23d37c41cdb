//! Builds blocks for several rollups at once.
//!
//! A bundle is run over all its rollups from checkpoints and either stays on all of them or leaves no trace on any. What is
//! built is a [`Draft`]: block lists whose relays are unsigned and name the evidence they need. [`seal`](seal()) adds
//! evidence and signatures, which fixes the bytes, and executes the lists once more on a fresh EVM, so that what is promised
//! is what the sealed bytes do.
//!
//! The crate does not know who won which rollup, nor any network.

mod balances;
mod by_rollup;
mod draft;
mod engine;
mod greedy;
mod inclusion;
mod logs;
mod order;
mod packing;
mod parallel;
mod proposals;
mod relay;
mod reuse;
mod run;
mod seal;
mod search;
mod simulate;
mod strategy;
mod value;
mod view;

pub use balances::{BalanceChange, balance_of};
pub use by_rollup::ByRollup;
pub use draft::{Draft, LaneDraft, Placed};
pub use engine::{Engine, SearchLimits, Standing};
pub use greedy::build;
pub use inclusion::{missing_in_order, missing_inclusions};
pub use order::check_order;
pub use proposals::{MAX_SETS, proposals, useful_sets};
pub use relay::{RelayDraft, relay_gas_limit};
pub use run::{Attempt, BundleRun, Lanes, LegRun, RequirementRun, TxRun, open_lanes, revert_message, run_bundle};
pub use seal::{
    EvidenceMap, ListedTx, Measured, Promise, SealError, SealedBlock, SealedList, execute_measured, seal, seal_all, verify,
};
pub use simulate::{Simulated, simulate, simulate_all, simulate_each};
pub use strategy::{Signer, Strategy, StrategyView};
pub use view::{BuildError, Candidate, Policy, RollupView, SlotView};

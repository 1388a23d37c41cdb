//! Executes transactions on rollups: one revm per rollup behind types of our own.
//!
//! A [`PendingBlock`] is a block being built on a read-only parent state ([`StateView`]). It executes transactions one by
//! one, keeps what each did, and can be taken back to any [`Checkpoint`], which is what makes a bundle all-or-nothing over
//! several rollups. Finished, it yields the roots that a header needs, or serves as the parent of the next block.
//!
//! What differs from one kind of rollup to the next is said in one place, its `Stack` (`stack/`); [`Rules`] names one of them
//! and a fork, [`ForkSchedule`] says when which holds. A [`Lane`] is one rollup's blocks of a slot while they are built, and
//! [`execute_list`] runs a finished list on a fresh EVM.
//!
//! The crate knows nothing of networks, pools, messages or what anything is worth. A state that does not know a value
//! answers [`StateError::Missing`]; nothing here waits for it.

mod block;
mod call;
mod context;
mod evm;
mod forks;
mod lane;
mod machine;
mod memory;
mod overlay;
mod receipt;
mod room;
mod rules;
mod stack;
mod state;
mod tail;
mod trace;
mod traced;
mod transaction;
mod transfer;

pub use block::{BalanceChanges, BlockSummary, Checkpoint, Executed, PendingBlock, SimulationError, Stretch};
pub use call::{CallRequest, call};
pub use context::{BlockContext, DataLimits, NextBlock, ParentBlock};
pub use evm::{Logs, StandIns};
pub use forks::{EthereumFork, ForkSchedule, OpFork, known_forks};
pub use lane::{BlockPlan, DecodedBlock, Lane, LaneBlock, LaneError, SlotRollup, decode_list, execute_decoded, execute_list};
pub use memory::MemoryState;
pub use overlay::{AccountChange, Overlay, StateChanges};
pub use receipt::{Receipt, receipts_root};
pub use rules::{Rules, RulesError};
pub use stack::{FeeAccounts, HeaderRules};
pub use state::{Account, Code, StateError, StateKey, StateView};
pub use tail::{Extended, extend_list};
pub use trace::{AccountRead, AccountWrite, BalanceWrite, Footprint, PartUse, StatePart};
pub use traced::TracedView;
pub use transaction::{BlockTx, Deposit, TxFees, TxOutcome, TxStatus};

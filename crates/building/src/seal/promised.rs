//! What is promised of a block. The roots of what it did take longer to work out than a light block does to execute, and nobody
//! needs them to know that a list does what its draft did: they wait until somebody asks for them.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use alloy_primitives::B256;
use lockstep_simulation::{LaneBlock, StateError};

/// What is promised of one block of a sealed list.
///
/// It holds on to the block as it was executed, so that its roots can be told. Whoever keeps a list for long and needs them no
/// more drops its blocks.
#[derive(Clone)]
pub struct SealedBlock {
    /// Block number.
    pub number: u64,
    /// Gas used by the whole block.
    pub gas_used: u64,
    /// Positions in the list that must not revert.
    pub must_succeed: Vec<u32>,
    /// The block as it was executed, shared by all copies, so that each root is worked out once.
    done: Arc<Done>,
}

struct Done {
    block: LaneBlock,
    receipts_root: OnceLock<B256>,
    state: OnceLock<B256>,
}

impl SealedBlock {
    /// Of a block that was executed.
    pub(super) fn new(block: LaneBlock, must_succeed: Vec<u32>) -> Self {
        let (number, gas_used) = (block.block.context().number, block.block.gas_used());
        let done = Done { block, receipts_root: OnceLock::new(), state: OnceLock::new() };
        Self { number, gas_used, must_succeed, done: Arc::new(done) }
    }

    /// Root of the receipts of the whole block. Worked out when it is first asked for, from what the block did when it was
    /// sealed.
    pub fn receipts_root(&self) -> B256 {
        *self.done.receipts_root.get_or_init(|| self.done.block.summary().receipts_root)
    }

    /// Digest of what the slot's blocks up to this one change in the state. Worked out when it is first asked for.
    ///
    /// # Errors
    /// When the state below the slot cannot be read.
    pub fn state(&self) -> Result<B256, StateError> {
        if let Some(digest) = self.done.state.get() {
            return Ok(*digest);
        }
        let digest = self.done.block.block.state().changes()?.digest();
        Ok(*self.done.state.get_or_init(|| digest))
    }
}

/// The same promises. Blocks that were executed apart are held against each other by their roots.
impl PartialEq for SealedBlock {
    fn eq(&self, other: &Self) -> bool {
        (self.number, self.gas_used, &self.must_succeed) == (other.number, other.gas_used, &other.must_succeed)
            && (Arc::ptr_eq(&self.done, &other.done)
                || (self.receipts_root() == other.receipts_root() && self.state().is_ok_and(|state| other.state() == Ok(state))))
    }
}

impl Eq for SealedBlock {}

impl fmt::Debug for SealedBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The executed block would be pages of text.
        let Self { number, gas_used, must_succeed, .. } = self;
        f.debug_struct("SealedBlock")
            .field("number", number)
            .field("gas_used", gas_used)
            .field("must_succeed", must_succeed)
            .finish_non_exhaustive()
    }
}

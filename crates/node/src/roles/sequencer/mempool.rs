//! What a sequencer sees of public transactions.

use std::{fmt, sync::Arc};

use lockstep_building::Candidate;
use lockstep_primitives::{ChainId, SignedTx};

/// A pending public transaction.
#[derive(Clone, Debug)]
pub(crate) struct PublicTx {
    /// The bundle that it is in the pool.
    pub(crate) candidate: Candidate,
    /// The transaction.
    pub(crate) tx: Arc<SignedTx>,
    /// When it came in, in Unix milliseconds.
    pub(crate) arrival_ms: u64,
    /// Whether it is in no list that was handed out.
    pub(crate) free: bool,
}

/// Where a sequencer sees public transactions: the pool of a builder that shares its process. Bundles and private transactions
/// are not for it to see.
pub(crate) trait Mempool: Send + Sync + fmt::Debug {
    /// The pending public transactions of a rollup, in the order of admission.
    fn public(&self, chain: ChainId) -> Vec<PublicTx>;
}

//! Executing a block that the node made, and comparing it with its header.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use alloy_consensus::{Header, Transaction};
use alloy_eips::eip7685::Requests;
use alloy_primitives::{Address, B256, U256, keccak256};
use lockstep_simulation::{
    BlockContext, BlockSummary, BlockTx, PendingBlock, SimulationError, StateChanges, StateError, StateKey, StateView,
};

use super::proof::{Expected, choose};

/// A block with everything that is needed to execute it.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) hash: B256,
    pub(super) header: Header,
    pub(super) context: BlockContext,
    pub(super) txs: Vec<BlockTx>,
    /// In wei.
    pub(super) withdrawals: Vec<(Address, U256)>,
    /// Accounts to check by proofs, and slots of each.
    pub(super) proofs: (usize, usize),
}

/// What came of executing a block.
#[derive(Clone, Debug)]
pub(super) enum Replay {
    /// It is what its header says.
    Same(StateChanges, Vec<Expected>),
    /// Values of the parent state were missing, and are noted there.
    Missing,
    /// It is not; with what differs.
    Other(String),
    /// The engine failed.
    Broken(String),
}

impl Job {
    /// What executing the block is sure to read.
    pub(super) fn keys(&self) -> BTreeSet<StateKey> {
        let mut keys: BTreeSet<StateKey> = self.withdrawals.iter().map(|(address, _)| StateKey::Account(*address)).collect();
        keys.insert(StateKey::Account(self.context.beneficiary));
        for tx in &self.txs {
            keys.extend(keys_of(tx));
        }
        keys
    }

    /// Executes the block on its parent's state.
    pub(super) fn run(&self, parent: Arc<dyn StateView>) -> Replay {
        match self.replay(parent) {
            Ok(replay) => replay,
            Err(SimulationError::State(StateError::Missing(_))) => Replay::Missing,
            Err(error) => Replay::Broken(error.to_string()),
        }
    }

    fn replay(&self, parent: Arc<dyn StateView>) -> Result<Replay, SimulationError> {
        let mut block = PendingBlock::open(self.context.clone(), parent)?;
        let mut missing = false;
        for (index, tx) in self.txs.iter().enumerate() {
            match block.execute(tx) {
                // What comes after a transaction that could not run only serves to find out what else is missing.
                Err(SimulationError::State(StateError::Missing(_))) => missing = true,
                _ if missing => {}
                Ok(Ok(_)) => {}
                Ok(Err(reason)) => return Ok(Replay::Other(format!("transaction {index} is invalid: {reason}"))),
                Err(error) => return Err(error),
            }
        }
        if missing {
            return Ok(Replay::Missing);
        }
        block.credit(self.withdrawals.iter().copied())?;
        let summary = block.finish()?;
        if let Some(difference) = self.difference(&block, &summary) {
            return Ok(Replay::Other(difference));
        }
        let changes = block.state().changes()?;
        let (accounts, slots) = self.proofs;
        let expected = choose(self.hash, &block, &changes, accounts, slots)?;
        Ok(Replay::Same(changes, expected))
    }

    fn difference(&self, block: &PendingBlock, summary: &BlockSummary) -> Option<String> {
        let header = &self.header;
        if summary.gas_used != header.gas_used {
            return Some(format!("it used {} gas, executed here {}", header.gas_used, summary.gas_used));
        }
        if summary.receipts_root != header.receipts_root {
            return Some(format!("its receipts root is {}, executed here {}", header.receipts_root, summary.receipts_root));
        }
        if summary.logs_bloom != header.logs_bloom {
            return Some("its logs bloom is not that of its logs".into());
        }
        if let (Some(said), Some(used)) = (header.blob_gas_used, summary.blob_gas_used)
            && said != used
        {
            return Some(format!("its blob gas, or data footprint, is {said}, executed here {used}"));
        }
        // Deposits to the beacon chain are requests too (EIP-6110) and are not collected here: their block is checked by
        // its receipts only.
        if let Some(said) = header.requests_hash.filter(|_| self.context.rules.has_requests() && !deposits(block)) {
            let made = Requests::new(summary.requests.clone()).requests_hash();
            if said != made {
                return Some(format!("the hash of its requests is {said}, executed here {made}"));
            }
        }
        None
    }
}

/// Whether a block logged what the deposit contract logs, whichever contract did (EIP-6110).
fn deposits(block: &PendingBlock) -> bool {
    static DEPOSIT_EVENT: OnceLock<B256> = OnceLock::new();
    let event = *DEPOSIT_EVENT.get_or_init(|| keccak256("DepositEvent(bytes,bytes,bytes,bytes,bytes)"));
    let mut logs = block.executed().iter().flat_map(|executed| executed.outcome.logs.iter());
    logs.any(|log| log.topics().first() == Some(&event))
}

/// What a transaction is sure to read, or says that it will.
pub(super) fn keys_of(tx: &BlockTx) -> BTreeSet<StateKey> {
    let mut keys = BTreeSet::from([StateKey::Account(tx.sender())]);
    match tx {
        BlockTx::Deposit(deposit) => keys.extend(deposit.tx().to.to().copied().map(StateKey::Account)),
        BlockTx::Signed(tx) => {
            let envelope = tx.envelope();
            keys.extend(envelope.to().map(StateKey::Account));
            for item in envelope.access_list().into_iter().flat_map(|list| list.iter()) {
                keys.insert(StateKey::Account(item.address));
                keys.extend(item.storage_keys.iter().map(|slot| StateKey::Storage(item.address, (*slot).into())));
            }
            for authorization in tx.authorizations() {
                // One whose signer cannot be recovered is passed over by the EVM as well (EIP-7702).
                keys.extend(authorization.authority().map(StateKey::Account));
                keys.insert(StateKey::Account(*authorization.address()));
            }
        }
    }
    keys
}

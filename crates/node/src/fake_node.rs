//! A rollup's node whose chain is whatever a test says, and an intake over two of them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use async_trait::async_trait;
use lockstep_primitives::{BlockList, Bundle, ChainId, Guarantee, Leg, LegTx, RevertMode, SignedTx};
use lockstep_provider::{BlockLog, DroppedBlock, Landed, NodeError, NodeHealth, PublishedBlock, Reorg, RollupNode};
use lockstep_simulation::{BlockPlan, EthereumFork, ForkSchedule, MemoryState, ParentBlock, Rules, SlotRollup, StateView};
use lockstep_store::Store;
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};

use crate::{
    clock::now_ms,
    intake::{Intake, ServedRollup},
    keys::Key,
};

/// The first rollup.
pub(crate) const A: ChainId = 901;
/// The other one.
pub(crate) const B: ChainId = 902;
/// The block that both are at in the beginning.
pub(crate) const HEAD: u64 = 10;
/// How deep a block has to be.
pub(crate) const FINALITY: u64 = 64;
const GWEI: u128 = 1_000_000_000;

/// A node that says what it was told to say.
#[derive(Debug)]
pub(crate) struct FakeNode {
    chain: ChainId,
    heads: watch::Sender<ParentBlock>,
    pub(crate) reorgs: broadcast::Sender<Reorg>,
    txs: Mutex<BTreeMap<B256, Landed>>,
    state: Mutex<MemoryState>,
    down: AtomicBool,
}

/// The hash of a fake block: its chain, its number, and which way of the chain it is on.
pub(crate) fn block_hash(chain: ChainId, number: u64, way: u8) -> B256 {
    let mut hash = B256::from(U256::from(number));
    hash.0[0] = way;
    hash.0[8..16].copy_from_slice(&chain.to_be_bytes());
    hash
}

impl FakeNode {
    fn new(chain: ChainId) -> Self {
        let mut state = MemoryState::new();
        for number in 0..8 {
            state.set_account(user(number).address(), U256::from(1_000_000 * GWEI), 0, Bytes::new());
        }
        Self {
            chain,
            heads: watch::channel(head(chain, HEAD)).0,
            reorgs: broadcast::channel(1).0,
            txs: Mutex::default(),
            state: Mutex::new(state),
            down: AtomicBool::new(false),
        }
    }

    /// The chain is at this block now.
    pub(crate) fn advance_to(&self, number: u64) {
        self.heads.send_replace(head(self.chain, number));
    }

    /// A transaction is in a block.
    pub(crate) fn put(&self, tx: B256, number: u64, way: u8) {
        self.txs.lock().insert(tx, Landed { number, hash: block_hash(self.chain, number, way), index: 0, success: true });
    }

    /// A transaction is in no block.
    pub(crate) fn take(&self, tx: B256) {
        self.txs.lock().remove(&tx);
    }

    /// The next nonce of a user is this one.
    pub(crate) fn set_nonce(&self, number: usize, nonce: u64) {
        self.state.lock().set_account(user(number).address(), U256::from(1_000_000 * GWEI), nonce, Bytes::new());
    }

    /// Whether it answers nothing.
    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
    }

    /// The reorg that drops one block, on the first way, with these transactions.
    pub(crate) fn reorg(&self, number: u64, transactions: Vec<B256>) -> Reorg {
        let dropped = vec![DroppedBlock { number, hash: block_hash(self.chain, number, 0), transactions }];
        Reorg { chain: self.chain, common: Some(number - 1), dropped }
    }

    fn failure(&self) -> NodeError {
        NodeError::Unreachable { chain: self.chain, cause: "a test took it down".to_owned() }
    }

    fn up(&self) -> Result<(), NodeError> {
        if self.down.load(Ordering::Relaxed) { Err(self.failure()) } else { Ok(()) }
    }
}

fn head(chain: ChainId, number: u64) -> ParentBlock {
    ParentBlock {
        hash: block_hash(chain, number, 0),
        number,
        timestamp: now_ms() / 1000,
        gas_limit: 30_000_000,
        base_fee: 1_000_000_000,
        ..ParentBlock::default()
    }
}

#[async_trait]
impl RollupNode for FakeNode {
    fn chain(&self) -> ChainId {
        self.chain
    }

    async fn head(&self) -> Result<ParentBlock, NodeError> {
        self.up()?;
        Ok(self.heads.borrow().clone())
    }

    fn heads(&self) -> watch::Receiver<ParentBlock> {
        self.heads.subscribe()
    }

    fn reorgs(&self) -> broadcast::Receiver<Reorg> {
        self.reorgs.subscribe()
    }

    fn health(&self) -> NodeHealth {
        NodeHealth::default()
    }

    async fn prefetch(&self, _txs: &[Arc<SignedTx>]) -> usize {
        0
    }

    fn carries(&self) -> Guarantee {
        Guarantee::G1
    }

    async fn state_at(&self, _block: B256) -> Result<Arc<dyn StateView>, NodeError> {
        self.up()?;
        Ok(Arc::new(self.state.lock().clone()))
    }

    async fn fetch_missing(&self, _block: B256) -> Result<usize, NodeError> {
        Ok(0)
    }

    async fn plan(&self, _parent: &ParentBlock, _at: &[u64], _proposer: Address) -> Result<Vec<BlockPlan>, NodeError> {
        Err(self.failure())
    }

    async fn publish(&self, _rollup: &Arc<SlotRollup>, _list: &BlockList, _index: usize) -> Result<PublishedBlock, NodeError> {
        Err(self.failure())
    }

    async fn blocks_between(&self, _from: u64, _until: u64) -> Result<Vec<PublishedBlock>, NodeError> {
        Err(self.failure())
    }

    async fn landed(&self, tx: B256) -> Result<Option<Landed>, NodeError> {
        self.up()?;
        Ok(self.txs.lock().get(&tx).copied())
    }

    async fn logs(&self, _block: B256) -> Result<Vec<BlockLog>, NodeError> {
        Err(self.failure())
    }
}

/// A user, by number.
pub(crate) fn user(number: usize) -> Key {
    Key::of_name(&format!("fake user {number}"))
}

/// A small payment by a user.
pub(crate) fn pay(chain: ChainId, number: usize, nonce: u64) -> Arc<SignedTx> {
    let key = user(number);
    let tx = TxEip1559 {
        chain_id: chain,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 2 * GWEI,
        max_priority_fee_per_gas: GWEI,
        to: TxKind::Call(Address::repeat_byte(0x77)),
        value: U256::from(1),
        access_list: Default::default(),
        input: Bytes::new(),
    };
    let signature = key.sign(tx.signature_hash());
    Arc::new(SignedTx::from_parts(TxEnvelope::from(tx.into_signed(signature)), key.address()))
}

/// A bundle of one leg a transaction, all of which have to succeed.
pub(crate) fn bundle_of(txs: &[(ChainId, Arc<SignedTx>)]) -> Bundle {
    let leg = |(chain, tx): &(ChainId, Arc<SignedTx>)| {
        let txs = vec![LegTx { tx: Arc::clone(tx), mode: RevertMode::Fail }];
        Leg::Txs { chain: *chain, txs }
    };
    Bundle { legs: txs.iter().map(leg).collect(), ..Bundle::default() }
}

/// An intake over two fake rollups.
pub(crate) struct Rig {
    pub(crate) a: Arc<FakeNode>,
    pub(crate) b: Arc<FakeNode>,
    pub(crate) store: Store,
    pub(crate) intake: Arc<Intake>,
}

impl Rig {
    /// Both chains at [`HEAD`], nothing in the pool.
    pub(crate) fn new(limits: lockstep_pool::Limits) -> Self {
        let (a, b) = (Arc::new(FakeNode::new(A)), Arc::new(FakeNode::new(B)));
        let store = Store::in_memory().unwrap();
        let intake = intake(&a, &b, limits, &store);
        Self { a, b, store, intake }
    }

    /// The intake of the process that is started after this one, on the same disk.
    pub(crate) fn restarted(&self) -> Arc<Intake> {
        intake(&self.a, &self.b, lockstep_pool::Limits::default(), &self.store)
    }
}

fn intake(a: &Arc<FakeNode>, b: &Arc<FakeNode>, limits: lockstep_pool::Limits, store: &Store) -> Arc<Intake> {
    let served = |node: &Arc<FakeNode>| ServedRollup {
        node: Arc::clone(node) as Arc<dyn RollupNode>,
        forks: ForkSchedule::always(Rules::Ethereum(EthereumFork::Osaka)),
        finality_blocks: FINALITY,
    };
    Arc::new(Intake::new([(A, served(a)), (B, served(b))].into(), limits, store.clone()))
}

//! A post between rollups whose chains, and whose attesters, say what a test has them say.

mod bridge;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use alloy_primitives::{Address, B256, Bytes, Log, U256, keccak256};
use async_trait::async_trait;
use lockstep_building::{Policy, RollupView, SlotView};
use lockstep_messaging::{
    AggLayer, Demand, Destination, Emitted, Evidence, EvidenceKind, EvidenceRequest, Message, Protocol, Protocols, RelayCall,
    Slot,
};
use lockstep_primitives::{
    BlockList, Bundle, ChainId, Guarantee, LandedRef, Leg, Price, Reason, Relay, RollupSet, SignedTx, TxId,
};
use lockstep_provider::{
    BlockLog, EvidenceError, EvidenceSource, Landed, LandedTx, NodeError, NodeHealth, PublishedBlock, Reorg, RollupNode,
};
use lockstep_simulation::{
    BlockPlan, EthereumFork, ForkSchedule, MemoryState, NextBlock, ParentBlock, Rules, SlotRollup, StateView,
};
use lockstep_store::Store;
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};

use super::{Bridging, Messages, MessagesSettings, book::Block};
use bridge::Sparse;

pub(super) use bridge::{BRANCH_SLOT, BRIDGE, bridge_state};

/// Two rollups.
pub(super) const A: ChainId = 901;
pub(super) const B: ChainId = 902;
/// Who delivers.
pub(super) const BUILDER: Address = Address::repeat_byte(0xbb);
/// The post's counter on every rollup.
const COUNTER: Address = Address::repeat_byte(0xc0);
/// Timestamp of block 0, in seconds. Blocks take two.
const GENESIS: u64 = 1_000;

const SENT: B256 = B256::repeat_byte(1);
const RECEIVED: B256 = B256::repeat_byte(2);

/// The log of letter `number` to a rollup.
pub(super) fn sent(to: ChainId, number: u64) -> Log {
    Log::new_unchecked(COUNTER, vec![SENT, U256::from(to).into()], Bytes::copy_from_slice(&number.to_be_bytes()))
}

/// A log that looks like a letter's, and is none.
pub(super) fn torn(to: ChainId) -> Log {
    Log::new_unchecked(COUNTER, vec![SENT, U256::from(to).into()], Bytes::from_static(b"torn"))
}

/// The log of the delivery of a letter.
pub(super) fn received(from: ChainId, number: u64) -> Log {
    Log::new_unchecked(COUNTER, vec![RECEIVED, id(from, &number.to_be_bytes())], Bytes::new())
}

fn id(from: ChainId, payload: &[u8]) -> B256 {
    keccak256([&from.to_be_bytes()[..], payload].concat())
}

/// A protocol in which letters are attested, or delivered because they are there when it is called `mailbox`.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) name: &'static str,
    /// The last timestamp, in seconds, at which letters are taken.
    pub(super) until: u64,
    /// Who has to sign letters.
    pub(super) signers: Vec<Address>,
}

impl Protocol for Post {
    fn name(&self) -> &'static str {
        self.name
    }

    fn evidence_kind(&self) -> EvidenceKind {
        if self.name == "mailbox" { EvidenceKind::Place } else { EvidenceKind::Attested }
    }

    fn recognise(&self, chain: ChainId, emitted: &Emitted<'_>) -> Option<Result<Message, Reason>> {
        let log = emitted.log;
        let to = log.topics().get(1).filter(|_| log.topics().first() == Some(&SENT))?;
        if log.data.data.len() != 8 && log.data.data.len() < 100 {
            return Some(Err(Reason::MalformedMessage("a letter has eight bytes, or many".to_owned())));
        }
        let to: ChainId = U256::from_be_bytes(to.0).to();
        Some(Ok(Message {
            protocol: self.name,
            id: id(chain, &log.data.data),
            origin: chain,
            destination: Some(to),
            destination_name: format!("rollup {to}"),
            restricted_to: None,
            payload: log.data.data.clone(),
            place: emitted.place,
        }))
    }

    fn demand(&self, message: &Message, _: &Destination, _: &Slot<'_>) -> Result<Demand, Reason> {
        let (payload, digest) = (message.payload.clone(), keccak256(&message.payload));
        let signers = self.signers.clone();
        Ok(Demand::Attestation(Box::new(EvidenceRequest { message: message.clone(), payload, digest, signers })))
    }

    fn deliver(&self, message: &Message, evidence: &Evidence, to: &Destination) -> Result<Vec<RelayCall>, Reason> {
        if to.timestamp > self.until {
            return Err(Reason::MessageExpired(format!("at {}", self.until)));
        }
        match evidence {
            Evidence::Attestation { payload, .. } if *payload != message.payload => {
                Err(Reason::EvidencePending("what is attested has lapsed".to_owned()))
            }
            _ => Ok(vec![RelayCall::default()]),
        }
    }

    fn receipt(&self, message: &Message, _: Option<&Evidence>) -> Option<B256> {
        Some(message.id)
    }

    fn delivered(&self, _: ChainId, log: &Log) -> Option<B256> {
        log.topics().get(1).copied().filter(|_| log.topics().first() == Some(&RECEIVED))
    }
}

/// Attesters that give what a test has put down, in its order, and nothing when that is all.
#[derive(Debug, Default)]
pub(super) struct Clerk {
    pub(super) answers: Mutex<VecDeque<Result<Evidence, EvidenceError>>>,
    pub(super) renewed: Mutex<usize>,
    trusted: RollupSet,
}

#[async_trait]
impl EvidenceSource for Clerk {
    async fn evidence(&self, _: &EvidenceRequest, _: &RollupSet) -> Result<Evidence, EvidenceError> {
        Err(EvidenceError::SameSlot)
    }

    async fn landed(&self, _: &EvidenceRequest, _: &LandedTx) -> Result<Evidence, EvidenceError> {
        let next = self.answers.lock().pop_front();
        next.unwrap_or_else(|| Err(EvidenceError::Pending { status: "nothing is put down".to_owned(), delay_reason: None }))
    }

    async fn renew(&self, _: &EvidenceRequest, _: &Evidence) -> Result<(), EvidenceError> {
        *self.renewed.lock() += 1;
        Ok(())
    }

    fn trusted(&self) -> &RollupSet {
        &self.trusted
    }
}

/// An attestation of a payload.
pub(super) fn attested(payload: &[u8]) -> Evidence {
    Evidence::Attestation { payload: Bytes::copy_from_slice(payload), signatures: Vec::new() }
}

/// The hash of the transaction with these logs.
pub(super) fn tx_hash(chain: ChainId, logs: &[Log]) -> B256 {
    let of_log = |log: &Log| {
        let topics = log.topics().iter().flat_map(|topic| topic.0);
        topics.chain(log.data.data.to_vec()).collect::<Vec<u8>>()
    };
    let bytes: Vec<u8> = logs.iter().flat_map(of_log).collect();
    keccak256([&chain.to_be_bytes()[..], &bytes].concat())
}

/// The only message of a transaction with one log.
pub(super) fn only(chain: ChainId, log: Log) -> LandedRef {
    LandedRef { chain, tx: tx_hash(chain, &[log]), message: 0 }
}

/// A rollup that goes the way it is told.
#[derive(Debug)]
pub(super) struct FakeChain {
    chain: ChainId,
    blocks: Mutex<Vec<(PublishedBlock, Vec<BlockLog>)>>,
    way: Mutex<u8>,
    heads: watch::Sender<ParentBlock>,
    reorgs: broadcast::Sender<Reorg>,
    /// The blocks whose logs were asked for, by number.
    pub(super) asked: Mutex<Vec<u64>>,
    pub(super) down: Mutex<bool>,
    /// The states that there are, by block.
    states: Mutex<BTreeMap<u64, Arc<Sparse>>>,
    /// The blocks whose states were asked for, by number.
    pub(super) looked: Mutex<Vec<u64>>,
}

impl FakeChain {
    fn new(chain: ChainId) -> Arc<Self> {
        let new = Self {
            chain,
            blocks: Mutex::default(),
            way: Mutex::default(),
            heads: watch::channel(ParentBlock::default()).0,
            reorgs: broadcast::channel(8).0,
            asked: Mutex::default(),
            down: Mutex::default(),
            states: Mutex::default(),
            looked: Mutex::default(),
        };
        new.push(&[]);
        Arc::new(new)
    }

    /// The next block holds these transactions, each with its logs.
    pub(super) fn push(&self, txs: &[Vec<Log>]) {
        let mut blocks = self.blocks.lock();
        let number = blocks.len() as u64;
        let hash = keccak256([&self.chain.to_be_bytes()[..], &number.to_be_bytes(), &[*self.way.lock()]].concat());
        let mut logs = Vec::new();
        for (nonce, tx) in txs.iter().enumerate() {
            for (in_tx, log) in tx.iter().enumerate() {
                logs.push(BlockLog {
                    tx_hash: tx_hash(self.chain, tx),
                    tx: TxId::Signed { signer: Address::ZERO, nonce: nonce as u64 },
                    in_tx,
                    index: logs.len() as u64,
                    log: log.clone(),
                });
            }
        }
        let block = PublishedBlock {
            number,
            hash,
            timestamp: GENESIS + 2 * number,
            transactions: txs.iter().map(|tx| tx_hash(self.chain, tx)).collect(),
            gas_used: 0,
            receipts_root: B256::ZERO,
        };
        self.heads.send_replace(parent(&block));
        blocks.push((block, logs));
    }

    /// Goes on without transactions.
    pub(super) fn idle(&self, blocks: usize) {
        for _ in 0..blocks {
            self.push(&[]);
        }
    }

    /// Takes the chain back to a block; what comes after it will be other blocks than before.
    pub(super) fn back_to(&self, number: u64) {
        let mut blocks = self.blocks.lock();
        blocks.truncate(number as usize + 1);
        *self.way.lock() += 1;
        if let Some((block, _)) = blocks.last() {
            self.heads.send_replace(parent(block));
        }
    }

    /// The state after a block is this one.
    pub(super) fn put_state(&self, number: u64, state: MemoryState) {
        self.states.lock().insert(number, Arc::new(Sparse::of(state)));
    }

    fn state(&self, hash: B256) -> Result<(u64, Arc<Sparse>), NodeError> {
        self.up()?;
        let number = self.blocks.lock().iter().find(|(block, _)| block.hash == hash).map(|(block, _)| block.number);
        let number = number.ok_or(NodeError::UnknownBlock { chain: self.chain, hash })?;
        let state = self.states.lock().get(&number).cloned();
        Ok((number, state.ok_or_else(|| self.failure())?))
    }

    fn up(&self) -> Result<(), NodeError> {
        if *self.down.lock() { Err(self.failure()) } else { Ok(()) }
    }

    fn failure(&self) -> NodeError {
        NodeError::Unreachable { chain: self.chain, cause: "a test took it down".to_owned() }
    }
}

fn parent(block: &PublishedBlock) -> ParentBlock {
    ParentBlock { hash: block.hash, number: block.number, timestamp: block.timestamp, ..ParentBlock::default() }
}

#[async_trait]
impl RollupNode for FakeChain {
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

    async fn prefetch(&self, _: &[Arc<SignedTx>]) -> usize {
        0
    }

    fn carries(&self) -> Guarantee {
        Guarantee::G1
    }

    async fn state_at(&self, block: B256) -> Result<Arc<dyn StateView>, NodeError> {
        let (number, state) = self.state(block)?;
        self.looked.lock().push(number);
        Ok(state)
    }

    async fn fetch_missing(&self, block: B256) -> Result<usize, NodeError> {
        let (_, state) = self.state(block)?;
        Ok(state.fetch())
    }

    async fn plan(&self, _: &ParentBlock, _: &[u64], _: Address) -> Result<Vec<BlockPlan>, NodeError> {
        Err(self.failure())
    }

    async fn publish(&self, _: &Arc<SlotRollup>, _: &BlockList, _: usize) -> Result<PublishedBlock, NodeError> {
        Err(self.failure())
    }

    async fn blocks_between(&self, from: u64, until: u64) -> Result<Vec<PublishedBlock>, NodeError> {
        self.up()?;
        let blocks = self.blocks.lock();
        let listed = blocks.iter().map(|(block, _)| block).filter(|block| (from..until).contains(&block.timestamp));
        Ok(listed.cloned().collect())
    }

    async fn landed(&self, tx: B256) -> Result<Option<Landed>, NodeError> {
        self.up()?;
        let blocks = self.blocks.lock();
        Ok(blocks.iter().find(|(block, _)| block.transactions.contains(&tx)).map(|(block, _)| Landed {
            number: block.number,
            hash: block.hash,
            index: 0,
            success: true,
        }))
    }

    async fn logs(&self, hash: B256) -> Result<Vec<BlockLog>, NodeError> {
        self.up()?;
        let blocks = self.blocks.lock();
        let found = blocks.iter().find(|(block, _)| block.hash == hash);
        let (block, logs) = found.ok_or(NodeError::UnknownBlock { chain: self.chain, hash })?;
        self.asked.lock().push(block.number);
        Ok(logs.clone())
    }
}

/// Two rollups, attesters, and a keeper.
pub(super) struct Office {
    pub(super) a: Arc<FakeChain>,
    pub(super) b: Arc<FakeChain>,
    pub(super) clerk: Arc<Clerk>,
    pub(super) store: Store,
    pub(super) settings: MessagesSettings,
    pub(super) bridging: Bridging,
    pub(super) messages: Arc<Messages>,
}

impl Office {
    /// Letters by `name`, both chains at block 0 and read from there.
    pub(super) fn new(name: &'static str) -> Self {
        Self::with(name, |_| {})
    }

    pub(super) fn with(name: &'static str, change: impl FnOnce(&mut MessagesSettings)) -> Self {
        let post: Arc<dyn Protocol> = Arc::new(Post { name, until: u64::MAX, signers: Vec::new() });
        Self::over(vec![post], None, change)
    }

    pub(super) fn over(
        protocols: Vec<Arc<dyn Protocol>>,
        bridges: Option<AggLayer>,
        change: impl FnOnce(&mut MessagesSettings),
    ) -> Self {
        let (a, b, clerk, store) = (FakeChain::new(A), FakeChain::new(B), Arc::default(), Store::in_memory().unwrap());
        let mut settings = MessagesSettings { start: [(A, 0), (B, 0)].into(), ..MessagesSettings::default() };
        change(&mut settings);
        let forks = ForkSchedule::always(Rules::Ethereum(EthereumFork::Osaka));
        let forks = [A, B].map(|chain| (chain, forks.clone())).into();
        let bridging = Bridging { protocols: Protocols::new(protocols), bridges, forks };
        let messages = open(&a, &b, &clerk, &store, &settings, &bridging);
        Self { a, b, clerk, store, settings, bridging, messages }
    }

    /// The keeper of the process that is started after this one, on the same disk.
    pub(super) fn restart(&mut self) {
        self.messages = open(&self.a, &self.b, &self.clerk, &self.store, &self.settings, &self.bridging);
    }

    /// Both rollups are read.
    pub(super) async fn read(&self) {
        self.messages.read(A).await.unwrap();
        self.messages.read(B).await.unwrap();
    }

    /// The block that a message was delivered in; `None` when it was not, or is not known.
    pub(super) fn delivered_in(&self, at: &LandedRef) -> Option<u64> {
        let book = self.messages.book.lock();
        book.delivered_in(book.get(at)?)
    }

    /// Whether a message is known.
    pub(super) fn knows(&self, at: &LandedRef) -> bool {
        self.messages.book.lock().get(at).is_some()
    }

    /// The newest block of a rollup that was read.
    pub(super) fn newest(&self, chain: ChainId) -> Option<Block> {
        self.messages.book.lock().newest(chain)
    }

    /// A slot on both heads.
    pub(super) fn view(&self) -> SlotView {
        let rollup = |node: &FakeChain| {
            let parent = node.heads.borrow().clone();
            let next = NextBlock { timestamp: parent.timestamp + 2, beneficiary: BUILDER, ..NextBlock::default() };
            let slot = SlotRollup {
                chain: node.chain,
                forks: ForkSchedule::always(Rules::Ethereum(EthereumFork::Osaka)),
                parent,
                state: Arc::new(MemoryState::new()),
                blocks: vec![BlockPlan { next, forced: Vec::new() }],
            };
            (node.chain, RollupView::free(Arc::new(slot), Price::PAR, 0))
        };
        SlotView {
            slot: 1,
            rollups: BTreeMap::from([rollup(&self.a), rollup(&self.b)]),
            proposer: BUILDER,
            policy: Policy::default(),
            facts: Arc::default(),
        }
    }
}

fn open(
    a: &Arc<FakeChain>,
    b: &Arc<FakeChain>,
    clerk: &Arc<Clerk>,
    store: &Store,
    settings: &MessagesSettings,
    bridging: &Bridging,
) -> Arc<Messages> {
    let node = |node: &Arc<FakeChain>| Arc::clone(node) as Arc<dyn RollupNode>;
    let evidence = Arc::clone(clerk) as Arc<dyn EvidenceSource>;
    let rollups = [(A, node(a)), (B, node(b))].into();
    Arc::new(Messages::open(settings.clone(), bridging.clone(), BUILDER, rollups, evidence, store.clone()).unwrap())
}

/// A bundle that relays a landed message to B.
pub(super) fn relay(at: LandedRef) -> Arc<Bundle> {
    Arc::new(Bundle { legs: vec![Leg::Relay { chain: B, relay: Relay::Landed(at) }], ..Bundle::default() })
}

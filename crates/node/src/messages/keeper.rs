//! The keeper: reads the blocks of every rollup once, keeps what it finds on disk, and asks attesters.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use alloy_primitives::Address;
use lockstep_messaging::{AggLayer, Demand, Destination, Evidence, Message, Protocols};
use lockstep_primitives::{Bundle, ChainId, LandedRef, Reason, Rejection};
use lockstep_provider::{EvidenceSource, PublishedBlock, RollupNode};
use lockstep_simulation::{ForkSchedule, ParentBlock};
use lockstep_store::{Store, StoreError, Table};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, broadcast::error::RecvError},
    task::{JoinHandle, JoinSet},
};

use super::{
    book::{Block, Book, demand},
    bridge::{self, Answer, Question, Trouble},
    exits::Exits,
    facts::references,
    known::KnownBlocks,
    settings::MessagesSettings,
};
use crate::clock::now_ms;

/// How often the block to begin with is looked for, further back each time.
const MAX_LOOKS: usize = 64;
/// How often a bridge is asked again because another block was read meanwhile.
const MAX_ASKED: usize = 4;

/// Keeps the messages that are on their chains until they are delivered.
#[derive(Debug)]
pub(crate) struct Messages {
    pub(super) settings: MessagesSettings,
    pub(super) protocols: Protocols,
    pub(super) builder: Address,
    pub(super) rollups: BTreeMap<ChainId, Arc<dyn RollupNode>>,
    evidence: Arc<dyn EvidenceSource>,
    store: Store,
    pub(super) book: Mutex<Book>,
    /// One reader a rollup at a time.
    turns: BTreeMap<ChainId, tokio::sync::Mutex<()>>,
    /// Steps reach the disk in the order in which they were taken.
    saving: tokio::sync::Mutex<()>,
    /// Wakes whoever asks attesters.
    news: Notify,
    /// What pending bundles name: asked for first.
    named: Mutex<BTreeSet<LandedRef>>,
    pub(super) known: Mutex<KnownBlocks>,
    /// By which rules bridges are asked.
    forks: BTreeMap<ChainId, ForkSchedule>,
}

/// The configured protocols.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bridging {
    /// All of them.
    pub(crate) protocols: Protocols,
    /// AggLayer, where it is deployed: its trees have to be followed.
    pub(crate) bridges: Option<AggLayer>,
    /// The rules of the rollups, by which bridges are asked.
    pub(crate) forks: BTreeMap<ChainId, ForkSchedule>,
}

impl Messages {
    /// Takes up what an earlier process left in the store. `builder` is who delivers.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn open(
        settings: MessagesSettings,
        bridging: Bridging,
        builder: Address,
        rollups: BTreeMap<ChainId, Arc<dyn RollupNode>>,
        evidence: Arc<dyn EvidenceSource>,
        store: Store,
    ) -> Result<Self, StoreError> {
        let Bridging { protocols, bridges, forks } = bridging;
        let (served, exits) = (rollups.keys().copied().collect(), Exits::new(bridges, &settings));
        let mut book = Book::new(settings.clone(), protocols.clone(), builder, served, exits);
        let unreadable = book.restore(store.scan(Table::Messages)?);
        for what in &unreadable {
            tracing::warn!(%what, "what was known of a message is forgotten: it cannot be read any more");
        }
        metrics::counter!("lockstep_messages_dropped_total", "chain" => "all", "what" => "unreadable")
            .increment(unreadable.len() as u64);
        if book.len() > 0 {
            tracing::info!(messages = book.len(), "messages between rollups are back from disk");
        }
        let turns = rollups.keys().map(|chain| (*chain, tokio::sync::Mutex::default())).collect();
        let known = Mutex::new(KnownBlocks::new(settings.limits.known_blocks));
        Ok(Self {
            settings,
            protocols,
            builder,
            rollups,
            evidence,
            store,
            book: Mutex::new(book),
            turns,
            saving: tokio::sync::Mutex::default(),
            news: Notify::new(),
            named: Mutex::default(),
            known,
            forks,
        })
    }

    /// The tasks that keep it going: one a rollup that reads its blocks, and one that asks attesters.
    pub(crate) fn tasks(self: &Arc<Self>) -> Vec<JoinHandle<()>> {
        let follow =
            |(chain, node): (&ChainId, &Arc<dyn RollupNode>)| tokio::spawn(Arc::clone(self).follow(*chain, Arc::clone(node)));
        let mut tasks: Vec<JoinHandle<()>> = self.rollups.iter().map(follow).collect();
        tasks.push(tokio::spawn(Arc::clone(self).attest()));
        tasks
    }

    async fn follow(self: Arc<Self>, chain: ChainId, node: Arc<dyn RollupNode>) {
        let (mut heads, mut reorgs) = (node.heads(), node.reorgs());
        loop {
            match self.read(chain).await {
                Ok(()) => self.ask_bridge(chain).await,
                Err(cause) => {
                    metrics::counter!("lockstep_messages_reads_failed_total", "chain" => chain.to_string()).increment(1);
                    tracing::warn!(chain, %cause, "blocks could not be read for messages: it is tried again at the next head");
                }
            }
            // A reorg is found out by looking; that there was one is only a reason to look.
            tokio::select! {
                changed = heads.changed() => if changed.is_err() {
                    return;
                },
                reorg = reorgs.recv() => if matches!(reorg, Err(RecvError::Closed)) {
                    return;
                },
            }
        }
    }

    /// Reads every block of a rollup up to its head, each once, and takes back what a reorg dropped.
    ///
    /// # Errors
    /// When its node or the store fails. What was read by then stays, and the next call goes on from there.
    pub(crate) async fn read(&self, chain: ChainId) -> Result<(), String> {
        let (Some(node), Some(turn)) = (self.rollups.get(&chain), self.turns.get(&chain)) else {
            return Err(format!("rollup {chain} is not served"));
        };
        let _turn = turn.lock().await;
        let head = node.head().await.map_err(|error| error.to_string())?;
        let newest = self.book.lock().newest(chain);
        if newest.is_some_and(|newest| newest.hash == head.hash) {
            return self.save().await;
        }
        for block in self.unread(node.as_ref(), chain, &head).await? {
            let waiting = self.book.lock().unsaved();
            if waiting > self.settings.limits.unsaved {
                return Err(format!("{waiting} records wait for the store: nothing is read until they are on disk"));
            }
            let logs = node.logs(block.hash).await.map_err(|error| error.to_string())?;
            self.book.lock().append(chain, block, &logs, now_ms());
            self.save().await?;
            self.news.notify_one();
        }
        self.save().await
    }

    /// The blocks that follow what was read, oldest first. What was read and is on the chain no more is taken back before.
    async fn unread(&self, node: &dyn RollupNode, chain: ChainId, head: &ParentBlock) -> Result<Vec<Block>, String> {
        let reach = self.settings.limits.catch_up;
        let window = self.book.lock().window(chain);
        let mut back = 0;
        while let Some(oldest) = window.len().checked_sub(1 + back).and_then(|at| window.get(at)) {
            let behind = head.number.saturating_sub(oldest.number);
            if behind > reach {
                if back > 0 {
                    break;
                }
                tell_gap(chain, behind, "more blocks came than are read to catch up");
                self.book.lock().skip_to(chain, as_block(head));
                return Ok(Vec::new());
            }
            let listed = list(node, oldest.timestamp, head).await?;
            let shared = window.iter().rev().find(|known| listed.iter().any(|block| block.hash == known.hash));
            if let Some(shared) = shared {
                if window.last() != Some(shared) {
                    self.book.lock().rewind(chain, shared.number);
                }
                return following(listed, shared.number + 1);
            }
            // Once the oldest one has been looked for there is nothing further back.
            back = if back + 1 == window.len() { window.len() } else { (2 * back + 1).min(window.len() - 1) };
        }
        if !window.is_empty() {
            tracing::error!(chain, window = window.len(), "the chain shares none of the blocks that were read: all is forgotten");
            self.book.lock().forget(chain);
        }
        self.first(node, chain, head).await
    }

    /// The blocks to begin with.
    async fn first(&self, node: &dyn RollupNode, chain: ChainId, head: &ParentBlock) -> Result<Vec<Block>, String> {
        let Some(start) = self.settings.start.get(&chain).copied() else {
            self.book.lock().skip_to(chain, as_block(head));
            return Ok(Vec::new());
        };
        let Some(behind) = head.number.checked_sub(start) else { return Ok(Vec::new()) };
        if behind >= self.settings.limits.catch_up {
            tell_gap(chain, behind, "the block to begin with is further back than is read to catch up");
            self.book.lock().skip_to(chain, as_block(head));
            return Ok(Vec::new());
        }
        // How long blocks take is not known here: what the first look finds says how far back the next one has to reach.
        let mut seconds = behind + 1;
        for _ in 0..MAX_LOOKS {
            let from = head.timestamp.saturating_sub(seconds);
            let listed = list(node, from, head).await?;
            let missing = listed.first().map_or(behind, |first| first.number.saturating_sub(start));
            if from == 0 || (missing == 0 && !listed.is_empty()) {
                let blocks = following(listed, start)?;
                if start == 0 {
                    self.book.lock().exits.begin(chain);
                }
                return Ok(blocks);
            }
            let a_block = match listed.first() {
                Some(first) if listed.len() > 1 => {
                    head.timestamp.saturating_sub(first.timestamp).div_ceil(listed.len() as u64 - 1)
                }
                _ => seconds,
            };
            seconds = seconds.saturating_add(missing.saturating_mul(a_block).max(1));
        }
        Err(format!("block {start}, to begin with, was not found in {MAX_LOOKS} looks"))
    }

    /// Asks a rollup's bridge, as of the newest block that was read, for what the logs do not tell. No reader waits for it: when
    /// another block is read meanwhile it is asked again, and then the node has most of it already.
    pub(super) async fn ask_bridge(&self, chain: ChainId) {
        for _ in 0..MAX_ASKED {
            let Some((block, question)) = self.book.lock().question(chain) else { return };
            let outcome = match self.answer(chain, block, question).await {
                Ok(answer) => {
                    if !self.book.lock().learn(chain, block, answer) {
                        continue;
                    }
                    if let Err(cause) = self.save().await {
                        tracing::warn!(chain, %cause, "what the rollup's bridge says is kept in memory for now");
                    }
                    "read"
                }
                Err(Trouble::Node(cause)) => {
                    tracing::warn!(chain, %cause, "the rollup's bridge could not be read: it is tried again at the next head");
                    "failed"
                }
                Err(Trouble::Untrue(cause)) => {
                    self.book.lock().exits.distrust(chain);
                    tracing::warn!(chain, %cause, "the rollup's exit tree is not at branch_slot: its exits are not proven");
                    "untrue"
                }
            };
            let chain = chain.to_string();
            metrics::counter!("lockstep_messages_bridge_reads_total", "chain" => chain, "outcome" => outcome).increment(1);
            return;
        }
        tracing::debug!(chain, "blocks come faster than the rollup's bridge can be read: it is tried again at the next head");
    }

    async fn answer(&self, chain: ChainId, block: Block, question: Question) -> Result<Answer, Trouble> {
        let (Some(node), Some(forks)) = (self.rollups.get(&chain), self.forks.get(&chain)) else {
            return Err(Trouble::Node(format!("rollup {chain} is not served, or nothing is known of its rules")));
        };
        let context = bridge::context(chain, forks, block).map_err(|error| Trouble::Node(error.to_string()))?;
        bridge::ask(node.as_ref(), context, block.hash, question).await
    }

    /// Something is blocked by this. Where it is for want of a token of which there may be more than what is noted, that is
    /// looked up at the next head.
    pub(crate) fn heed(&self, why: &Rejection) {
        if let (Some(chain), Reason::TokenUnderflow { network, token, .. }) = (why.place.chain, &why.reason) {
            self.book.lock().doubt(chain, (*network, *token));
        }
    }

    /// Puts on disk what is not there yet.
    async fn save(&self) -> Result<(), String> {
        let _saving = self.saving.lock().await;
        let steps = self.book.lock().take_unsaved();
        if steps.is_empty() {
            return Ok(());
        }
        let written = self.store.write(steps.clone()).await;
        written.map_err(|error| {
            self.book.lock().put_back(steps);
            format!("what is known of messages is not on disk: {error}")
        })
    }

    /// These bundles are pending: what they wait for is asked for first.
    pub(crate) fn wanted(&self, bundles: &[Arc<Bundle>]) {
        let named = references(bundles, self.settings.limits.references);
        let new = {
            let mut wanted = self.named.lock();
            let new = *wanted != named;
            *wanted = named;
            new
        };
        if new {
            self.news.notify_one();
        }
    }

    /// Asks attesters, for ever.
    async fn attest(self: Arc<Self>) {
        let limits = self.settings.limits;
        let mut requests = JoinSet::new();
        loop {
            let named = self.named.lock().clone();
            let free = limits.requests.max(1).saturating_sub(requests.len());
            let due = self.book.lock().due(now_ms(), &named, free);
            for at in due {
                requests.spawn(Arc::clone(&self).ask(at));
            }
            tokio::select! {
                () = self.news.notified() => {}
                Some(_) = requests.join_next(), if !requests.is_empty() => {}
                () = tokio::time::sleep(Duration::from_millis(limits.retry_ms.max(1))) => {}
            }
        }
    }

    async fn ask(self: Arc<Self>, at: LandedRef) {
        let answer = self.evidence_for(&at).await;
        match &answer {
            Ok(_) => tracing::debug!(message = %at, "evidence has come"),
            Err(reason) => tracing::debug!(message = %at, %reason, "there is no evidence yet"),
        }
        let outcome = answer.as_ref().map_or_else(Reason::code, |_| "ready");
        metrics::counter!("lockstep_messages_evidence_total", "outcome" => outcome).increment(1);
        self.book.lock().answered(&at, answer, now_ms());
        if let Err(cause) = self.save().await {
            tracing::warn!(message = %at, %cause, "evidence is kept in memory for now");
        }
    }

    async fn evidence_for(&self, at: &LandedRef) -> Result<Evidence, Reason> {
        let (message, sent, expired) = {
            let book = self.book.lock();
            let entry = book.get(at).ok_or_else(|| Reason::UnknownMessage(at.to_string()))?;
            (entry.message.clone(), entry.sent, entry.expired.clone())
        };
        let to = self.next_block(&message)?;
        let request = match demand(&self.protocols, &message, &to)? {
            Demand::Attestation(request) => *request,
            Demand::Derived(evidence) => return Ok(evidence),
        };
        if let Some(expired) = &expired {
            let renewed = self.evidence.renew(&request, expired).await;
            // Why it does not hold is what matters to whoever waits; that nobody signed anew yet comes after it.
            renewed.map_err(|error| match self.protocols.of(&message).map(|of| of.deliver(&message, expired, &to)) {
                Ok(Err(Reason::EvidencePending(text))) => Reason::EvidencePending(format!("{text}; {error}")),
                _ => error.reason(),
            })?;
        }
        let evidence = self.evidence.landed(&request, &sent).await.map_err(|error| error.reason())?;
        // What does not hold in the next block is no evidence: the source may still give what expired.
        self.protocols.of(&message)?.deliver(&message, &evidence, &to)?;
        Ok(evidence)
    }

    /// The block in which a message could be delivered next.
    fn next_block(&self, message: &Message) -> Result<Destination, Reason> {
        let wrong = || Reason::WrongDestination { destination: message.destination_name.clone() };
        let chain = message.destination.ok_or_else(wrong)?;
        let newest = self.book.lock().newest(chain);
        let newest =
            newest.ok_or_else(|| Reason::EvidencePending(format!("no block of rollup {chain}, where it goes, is known yet")))?;
        Ok(self.block_after(chain, newest, now_ms()))
    }

    /// The block that could follow this one now.
    pub(super) fn block_after(&self, chain: ChainId, newest: Block, now_ms: u64) -> Destination {
        let (number, timestamp) = (newest.number + 1, (newest.timestamp + 1).max(now_ms / 1000));
        Destination { chain, number, timestamp, beneficiary: self.builder, builder: self.builder }
    }
}

/// A rollup's blocks from a timestamp, in seconds, to its head.
async fn list(node: &dyn RollupNode, from: u64, head: &ParentBlock) -> Result<Vec<PublishedBlock>, String> {
    node.blocks_between(from, head.timestamp.saturating_add(1)).await.map_err(|error| error.to_string())
}

/// The listed blocks from this number on, which have to follow each other.
fn following(listed: Vec<PublishedBlock>, first: u64) -> Result<Vec<Block>, String> {
    let blocks: Vec<Block> = listed
        .into_iter()
        .filter(|block| block.number >= first)
        .map(|block| Block { number: block.number, hash: block.hash, timestamp: block.timestamp })
        .collect();
    match (first..).zip(&blocks).find(|(expected, block)| block.number != *expected) {
        None => Ok(blocks),
        Some((expected, block)) => Err(format!("block {} was listed where block {expected} belongs", block.number)),
    }
}

const fn as_block(head: &ParentBlock) -> Block {
    Block { number: head.number, hash: head.hash, timestamp: head.timestamp }
}

fn tell_gap(chain: ChainId, blocks: u64, cause: &str) {
    metrics::counter!("lockstep_messages_unread_blocks_total", "chain" => chain.to_string()).increment(blocks);
    tracing::error!(chain, blocks, cause, "blocks are not read for messages: what was sent or delivered in them is not known");
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;

    use super::*;

    fn listed(numbers: impl IntoIterator<Item = u64>) -> Vec<PublishedBlock> {
        let block = |number| PublishedBlock {
            number,
            hash: B256::with_last_byte(number as u8),
            timestamp: 100 + number,
            transactions: Vec::new(),
            gas_used: 0,
            receipts_root: B256::ZERO,
        };
        numbers.into_iter().map(block).collect()
    }

    #[test]
    fn only_blocks_without_a_gap_are_read() {
        let numbers = |blocks: Vec<Block>| blocks.into_iter().map(|block| block.number).collect::<Vec<_>>();
        assert_eq!(following(listed(3..7), 5).map(numbers), Ok(vec![5, 6]));
        assert_eq!(following(listed(3..7), 7).map(numbers), Ok(vec![]));
        assert!(following(listed([5, 7]), 5).is_err(), "a block is missing in between");
        assert!(following(listed([6, 7]), 5).is_err(), "the first one is missing");
    }
}

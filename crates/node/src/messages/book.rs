//! What is known of messages: which were sent, which were delivered, and in which blocks. Without I/O of its own: what has to be
//! on disk is collected as steps of the store.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use alloy_primitives::{Address, B256, Log};
use lockstep_messaging::{
    Demand, Destination, Emitted, Evidence, EvidenceKind, Facts, KnownLog, LandedExit, LogPlace, Message, Protocols, Slot,
    SlotLogs, agglayer::Token, op_interop::payload_hash,
};
use lockstep_primitives::{ChainId, LandedRef, Reason, RollupSet, TxId};
use lockstep_provider::{BlockLog, LandedTx};
use lockstep_store::{KeyValue, Op, Table};
use serde::Serialize;

use super::{
    bridge::{Answer, Question},
    exits::Exits,
    record::{AttestationRecord, BlockRecord, DeliveryRecord, ExitRecord, Key, MessageRecord},
    settings::MessagesSettings,
};

/// How many times the longest pause a message is left alone that its attesters refuse.
const REFUSED_RETRY: u64 = 60;

/// A block that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) number: u64,
    pub(crate) hash: B256,
    /// In seconds.
    pub(crate) timestamp: u64,
}

/// What attesters have said of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attested {
    /// Nothing yet, or nothing that can be used, and why.
    Pending(Reason),
    /// This.
    Ready(Evidence),
}

/// A message that is on its chain.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) message: Message,
    /// Where its evidence comes from.
    pub(crate) kind: EvidenceKind,
    pub(crate) log: Log,
    pub(crate) tx: TxId,
    pub(crate) in_tx: usize,
    /// The transaction, and which of its messages of the same bytes this is.
    pub(crate) sent: LandedTx,
    /// Where it stands in the order in which things were found.
    pub(crate) order: u64,
    /// When it was found, in Unix milliseconds.
    pub(crate) found_ms: u64,
    /// Its place in the exit tree of its rollup (AggLayer), where that is known.
    pub(crate) exit: Option<LandedExit>,
    pub(crate) attested: Attested,
    /// Evidence that held once and holds no more, until its attesters were asked for another.
    pub(crate) expired: Option<Evidence>,
    /// What its delivery leaves on the destination, as far as that is known.
    receipt: Option<B256>,
    /// The destination's newest block when it was found.
    waits_since: Option<u64>,
    orphaned: bool,
    requests: u32,
    next_request_ms: u64,
    busy: bool,
}

impl Entry {
    /// The log as transactions refer to it.
    pub(crate) fn known_log(&self) -> ((ChainId, u64, u64), KnownLog) {
        let place = self.message.place;
        ((self.message.origin, place.block, place.index), known_log(&self.log, place))
    }

    /// Whether it was seen to wait for longer than who sent it may take. That it was delivered after all is not looked at.
    pub(crate) const fn is_orphan(&self) -> bool {
        self.orphaned
    }

    /// What has to be on disk. `signers` are those who have to sign; without them no attestation is written down.
    fn record(&self, signers: Option<Vec<Address>>) -> MessageRecord {
        let place = self.message.place;
        let attestation = match (&self.attested, signers) {
            (Attested::Ready(evidence), Some(signers)) => AttestationRecord::of(evidence, signers),
            _ => None,
        };
        MessageRecord {
            log: self.log.clone(),
            block: place.block,
            timestamp: place.timestamp,
            index: place.index,
            tx: self.tx.into(),
            in_tx: self.in_tx,
            twin: self.sent.twin,
            twins: self.sent.twins,
            order: self.order,
            found_ms: self.found_ms,
            exit: self.exit.as_ref().map(ExitRecord::from),
            attestation,
        }
    }
}

/// A message's log as it was seen, and what is known of its evidence.
struct Seen {
    kind: EvidenceKind,
    log: Log,
    tx: TxId,
    in_tx: usize,
    sent: LandedTx,
    exit: Option<LandedExit>,
    attested: Option<Evidence>,
}

/// No block is open: what is asked for landed before.
#[derive(Debug)]
struct NoLogs;

impl SlotLogs for NoLogs {
    fn logs(&self, _chain: ChainId) -> Option<Vec<Emitted<'_>>> {
        None
    }

    fn chains(&self) -> Vec<ChainId> {
        Vec::new()
    }
}

/// What has to be presented for a message that landed before.
pub(super) fn demand(protocols: &Protocols, message: &Message, to: &Destination) -> Result<Demand, Reason> {
    let facts = Facts::default();
    protocols.of(message)?.demand(message, to, &Slot { facts: &facts, logs: &NoLogs })
}

/// A log as transactions refer to it.
pub(crate) fn known_log(log: &Log, place: LogPlace) -> KnownLog {
    KnownLog { address: log.address, payload_hash: payload_hash(log), place }
}

/// The messages that are known.
#[derive(Debug)]
pub(crate) struct Book {
    settings: MessagesSettings,
    protocols: Protocols,
    /// Who delivers: what only somebody else may deliver is no orphan.
    builder: Address,
    served: RollupSet,
    messages: BTreeMap<LandedRef, Entry>,
    order: BTreeMap<u64, LandedRef>,
    next_order: u64,
    /// All deliveries that were seen, of whatever message: by rollup and receipt. A message is delivered when its receipt is
    /// here, so that it does not matter which of the two is seen first.
    deliveries: BTreeMap<(ChainId, B256), DeliveryRecord>,
    /// The newest blocks of each rollup that were read, oldest first, without a gap.
    windows: BTreeMap<ChainId, VecDeque<Block>>,
    /// AggLayer's trees and balances.
    pub(crate) exits: Exits,
    unsaved: Vec<Op>,
}

impl Book {
    /// An empty book about the rollups that are served.
    pub(crate) fn new(
        settings: MessagesSettings,
        protocols: Protocols,
        builder: Address,
        served: RollupSet,
        exits: Exits,
    ) -> Self {
        Self {
            settings,
            protocols,
            builder,
            served,
            messages: BTreeMap::new(),
            order: BTreeMap::new(),
            next_order: 0,
            deliveries: BTreeMap::new(),
            windows: BTreeMap::new(),
            exits,
            unsaved: Vec::new(),
        }
    }

    /// Takes up what an earlier process wrote down. Returns what cannot be read, in words: it is taken off the disk.
    pub(crate) fn restore(&mut self, rows: Vec<KeyValue>) -> Vec<String> {
        let mut unreadable = Vec::new();
        for (key, value) in rows {
            if let Err(cause) = self.restore_row(&key, &value) {
                unreadable.push(format!("{}: {cause}", alloy_primitives::hex::encode(&key)));
                self.unsaved.push(Op::delete(Table::Messages, key));
            }
        }
        // Rows come in the order of their keys, so a rollup's blocks come in theirs. A gap in them means that the older ones are
        // of no use.
        for window in self.windows.values_mut() {
            let gap = (1..window.len()).rev().find(|at| window[*at].number != window[*at - 1].number + 1);
            window.drain(..gap.unwrap_or_default());
        }
        unreadable
    }

    fn restore_row(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        fn parse<'a, T: serde::Deserialize<'a>>(value: &'a [u8]) -> Result<T, String> {
            serde_json::from_slice(value).map_err(|error| error.to_string())
        }
        match Key::read(key).ok_or("the key is none of this version's")? {
            Key::Message(at) => {
                let record: MessageRecord = parse(value)?;
                let emitted = Emitted { log: &record.log, place: record.place(), tx: record.tx.into(), in_tx: record.in_tx };
                let message = self.protocols.recognise(at.chain, [emitted]).into_iter().next();
                let message = message.ok_or("no configured protocol knows it")?.map_err(|reason| reason.to_string())?;
                let kind = self.protocols.of(&message).map_err(|reason| reason.to_string())?.evidence_kind();
                // Where the configuration names others since, they are asked.
                let held = record.attestation.filter(|held| self.signers(&message).is_ok_and(|now| now == held.signers));
                let attested = held.map(AttestationRecord::evidence).transpose()?;
                let sent = LandedTx { hash: at.tx, twin: record.twin, twins: record.twins };
                self.next_order = self.next_order.max(record.order + 1);
                let exit = record.exit.map(ExitRecord::exit).transpose()?;
                let seen = Seen { kind, log: record.log, tx: record.tx.into(), in_tx: record.in_tx, sent, exit, attested };
                let entry = self.entry(message, seen, record.order, record.found_ms);
                self.order.insert(entry.order, at);
                self.messages.insert(at, entry);
            }
            Key::Delivery(chain, receipt) => {
                let record: DeliveryRecord = parse(value)?;
                self.next_order = self.next_order.max(record.order + 1);
                self.deliveries.insert((chain, receipt), record);
            }
            Key::Block(chain, number) => {
                let BlockRecord { hash, timestamp, exits } = parse(value)?;
                if let Some(exits) = exits {
                    self.exits.restore(chain, number, exits)?;
                }
                self.windows.entry(chain).or_default().push_back(Block { number, hash, timestamp });
            }
        }
        Ok(())
    }

    fn entry(&self, message: Message, seen: Seen, order: u64, found_ms: u64) -> Entry {
        let Seen { kind, log, tx, in_tx, sent, exit, attested } = seen;
        let receipt = self.receipt(&message, attested.as_ref());
        let nobody_asked = || Attested::Pending(Reason::EvidencePending("its attesters were not asked yet".to_owned()));
        let waits_since = message.destination.and_then(|chain| self.newest(chain)).map(|block| block.number);
        Entry {
            message,
            kind,
            log,
            tx,
            in_tx,
            sent,
            order,
            found_ms,
            exit,
            attested: attested.map_or_else(nobody_asked, Attested::Ready),
            expired: None,
            receipt,
            waits_since,
            orphaned: false,
            requests: 0,
            next_request_ms: 0,
            busy: false,
        }
    }

    fn receipt(&self, message: &Message, evidence: Option<&Evidence>) -> Option<B256> {
        self.protocols.of(message).ok()?.receipt(message, evidence)
    }

    /// Who has to attest a message as it is configured; nobody where evidence is derived.
    fn signers(&self, message: &Message) -> Result<Vec<Address>, Reason> {
        let wrong = || Reason::WrongDestination { destination: message.destination_name.clone() };
        let chain = message.destination.ok_or_else(wrong)?;
        // Who signs does not depend on the block.
        let to = Destination { chain, number: 0, timestamp: 0, beneficiary: self.builder, builder: self.builder };
        Ok(match demand(&self.protocols, message, &to)? {
            Demand::Attestation(request) => request.signers,
            Demand::Derived(_) => Vec::new(),
        })
    }

    /// The newest block of a rollup that was read.
    pub(crate) fn newest(&self, chain: ChainId) -> Option<Block> {
        self.windows.get(&chain)?.back().copied()
    }

    /// The newest blocks of a rollup that were read, oldest first.
    pub(crate) fn window(&self, chain: ChainId) -> Vec<Block> {
        self.windows.get(&chain).into_iter().flatten().copied().collect()
    }

    /// A block of a rollup's window.
    pub(crate) fn block(&self, chain: ChainId, number: u64) -> Option<Block> {
        self.windows.get(&chain)?.iter().find(|block| block.number == number).copied()
    }

    /// A message.
    pub(crate) fn get(&self, at: &LandedRef) -> Option<&Entry> {
        self.messages.get(at)
    }

    /// All messages, in the order in which they were found.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = (LandedRef, &Entry)> {
        self.order.values().filter_map(move |at| Some((*at, self.messages.get(at)?)))
    }

    /// How many messages are known.
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// All messages, the one that was found last first.
    pub(crate) fn newest_first(&self) -> Vec<LandedRef> {
        self.order.values().rev().copied().collect()
    }

    /// The delivery of a message.
    pub(crate) fn delivery(&self, entry: &Entry) -> Option<DeliveryRecord> {
        let destination = entry.message.destination?;
        self.deliveries.get(&(destination, entry.receipt?)).copied()
    }

    /// The block that a message was delivered in.
    pub(crate) fn delivered_in(&self, entry: &Entry) -> Option<u64> {
        self.delivery(entry).map(|delivery| delivery.block)
    }

    /// What is to be written down, in order. What cannot be goes back by [`Book::put_back`].
    pub(crate) fn take_unsaved(&mut self) -> Vec<Op> {
        std::mem::take(&mut self.unsaved)
    }

    /// Steps that were taken and are not on disk.
    pub(crate) fn put_back(&mut self, mut steps: Vec<Op>) {
        steps.append(&mut self.unsaved);
        self.unsaved = steps;
    }

    /// How many steps wait for the disk.
    pub(crate) fn unsaved(&self) -> usize {
        self.unsaved.len()
    }

    fn save(&mut self, key: Key, record: &impl Serialize) {
        match serde_json::to_vec(record) {
            Ok(value) => self.unsaved.push(Op::put(Table::Messages, key.bytes(), value)),
            // Nothing that is written here can fail to be JSON; if it did it would only be forgotten at a restart.
            Err(error) => tracing::error!(%error, "what is known of a message cannot be written down"),
        }
    }

    fn erase(&mut self, key: Key) {
        self.unsaved.push(Op::delete(Table::Messages, key.bytes()));
    }

    /// Goes on with a rollup after this block. What lies between it and the newest one is not read, nor is it itself.
    pub(crate) fn skip_to(&mut self, chain: ChainId, block: Block) {
        for skipped in self.windows.remove(&chain).into_iter().flatten() {
            self.erase(Key::Block(chain, skipped.number));
        }
        self.exits.forget(chain);
        self.push_block(chain, block);
    }

    /// Reads the logs of the block that follows the newest one.
    pub(crate) fn append(&mut self, chain: ChainId, block: Block, logs: &[BlockLog], now_ms: u64) {
        let exits = self.exits.append(chain, block.number, logs);
        let exits: BTreeMap<B256, LandedExit> = exits.into_iter().map(|exit| (exit.index.message_id(), exit)).collect();
        for of_tx in logs.chunk_by(|a, b| a.tx_hash == b.tx_hash) {
            self.append_sent(chain, block, of_tx, &exits, now_ms);
        }
        let mut delivered = 0;
        for log in logs {
            // The first delivery counts: whatever takes its block back takes those after it, too.
            if let Some(receipt) = self.protocols.delivered(chain, &log.log)
                && !self.deliveries.contains_key(&(chain, receipt))
            {
                let record = DeliveryRecord { block: block.number, order: self.take_order(), tx: Some(log.tx_hash) };
                self.deliveries.insert((chain, receipt), record);
                self.save(Key::Delivery(chain, receipt), &record);
                delivered += 1;
            }
        }
        if delivered > 0 {
            metrics::counter!("lockstep_messages_delivered_total", "chain" => chain.to_string()).increment(delivered);
        }
        self.push_block(chain, block);
        self.make_room();
    }

    fn push_block(&mut self, chain: ChainId, block: Block) {
        let window = self.windows.entry(chain).or_default();
        window.push_back(block);
        let mut gone = Vec::new();
        while window.len() > self.settings.limits.window.max(1) {
            gone.extend(window.pop_front());
        }
        self.save_block(chain, block);
        for block in &gone {
            self.erase(Key::Block(chain, block.number));
        }
        self.exits.keep_from(chain, self.windows.get(&chain).and_then(VecDeque::front).map_or(0, |first| first.number));
    }

    fn save_block(&mut self, chain: ChainId, block: Block) {
        let exits = self.exits.record(chain, block.number);
        self.save(Key::Block(chain, block.number), &BlockRecord { hash: block.hash, timestamp: block.timestamp, exits });
    }

    /// What a rollup's bridge is to be asked as of the newest block.
    pub(crate) fn question(&self, chain: ChainId) -> Option<(Block, Question)> {
        let newest = self.newest(chain)?;
        Some((newest, self.exits.question(chain, newest.number)?))
    }

    /// What a rollup's bridge answered as of a block. False, and nothing has changed, when that is the newest one no more.
    pub(crate) fn learn(&mut self, chain: ChainId, block: Block, answer: Answer) -> bool {
        let newest = self.newest(chain) == Some(block);
        if newest {
            self.exits.learn(chain, block.number, answer);
            self.save_block(chain, block);
        }
        newest
    }

    /// More of a token may be on a rollup than what is noted.
    pub(crate) fn doubt(&mut self, chain: ChainId, token: Token) {
        let Some(newest) = self.newest(chain) else { return };
        if self.exits.doubt(chain, newest.number, token) {
            self.save_block(chain, newest);
        }
    }

    /// The messages of one transaction.
    fn append_sent(&mut self, chain: ChainId, block: Block, logs: &[BlockLog], exits: &BTreeMap<B256, LandedExit>, now_ms: u64) {
        let place = |log: &BlockLog| LogPlace { block: block.number, timestamp: block.timestamp, index: log.index };
        let emitted = logs.iter().map(|log| Emitted { log: &log.log, place: place(log), tx: log.tx, in_tx: log.in_tx });
        let found = self.protocols.recognise(chain, emitted);
        let all: Vec<Message> = found.iter().filter_map(|message| message.as_ref().ok()).cloned().collect();
        for (index, message) in found.into_iter().enumerate() {
            let read = message.and_then(|message| Ok((self.protocols.of(&message)?.evidence_kind(), message)));
            let (kind, message) = match read {
                Ok(read) => read,
                Err(reason) => {
                    count_dropped(chain, "malformed");
                    tracing::warn!(chain, block = block.number, %reason, "a message that landed cannot be read");
                    continue;
                }
            };
            let Some(log) = logs.iter().find(|log| log.index == message.place.index) else { continue };
            metrics::counter!("lockstep_messages_seen_total", "protocol" => message.protocol).increment(1);
            // One to its own rollup is delivered without any relay, or not at all.
            if message.destination.is_none_or(|destination| destination == chain || !self.served.contains(&destination)) {
                continue;
            }
            let bytes = log.log.data.data.len() + 32 * log.log.topics().len();
            if bytes > self.settings.limits.message_bytes {
                count_dropped(chain, "too_large");
                tracing::warn!(chain, tx = %log.tx_hash, bytes, "a message is too large to be kept");
                continue;
            }
            let at = LandedRef { chain, tx: log.tx_hash, message: index };
            let (order, sent) = (self.take_order(), LandedTx::of(log.tx_hash, &message, &all));
            let exit = (kind == EvidenceKind::Exit).then(|| exits.get(&message.id).cloned()).flatten();
            let seen = Seen { kind, log: log.log.clone(), tx: log.tx, in_tx: log.in_tx, sent, exit, attested: None };
            let entry = self.entry(message, seen, order, now_ms);
            self.save(Key::Message(at), &entry.record(None));
            self.order.insert(order, at);
            if let Some(before) = self.messages.insert(at, entry) {
                self.order.remove(&before.order);
            }
        }
    }

    const fn take_order(&mut self) -> u64 {
        let order = self.next_order;
        self.next_order += 1;
        order
    }

    /// Takes a rollup's blocks back to the one with this number: messages that were sent after it are gone, and those that were
    /// delivered after it are not.
    pub(crate) fn rewind(&mut self, chain: ChainId, to: u64) {
        let mut gone: Vec<Key> = Vec::new();
        if let Some(window) = self.windows.get_mut(&chain) {
            gone.extend(window.iter().filter(|block| block.number > to).map(|block| Key::Block(chain, block.number)));
            window.retain(|block| block.number <= to);
        }
        self.exits.rewind(chain, to);
        self.take_back(chain, gone, |block| block > to);
    }

    /// Forgets a rollup: of what was read of it nothing is certain any more.
    pub(crate) fn forget(&mut self, chain: ChainId) {
        let blocks = self.windows.remove(&chain).into_iter().flatten().map(|block| Key::Block(chain, block.number)).collect();
        self.exits.forget(chain);
        self.take_back(chain, blocks, |_| true);
    }

    fn take_back(&mut self, chain: ChainId, mut gone: Vec<Key>, dropped: impl Fn(u64) -> bool) {
        let sent = self.messages.iter().filter(|(at, entry)| at.chain == chain && dropped(entry.message.place.block));
        let sent: Vec<LandedRef> = sent.map(|(at, _)| *at).collect();
        for at in &sent {
            self.remove(at);
        }
        let delivered = self.deliveries.iter().filter(|((on, _), delivery)| *on == chain && dropped(delivery.block));
        let delivered: Vec<(ChainId, B256)> = delivered.map(|(key, _)| *key).collect();
        for key in &delivered {
            self.deliveries.remove(key);
            gone.push(Key::Delivery(key.0, key.1));
        }
        for key in gone {
            self.erase(key);
        }
        if !sent.is_empty() || !delivered.is_empty() {
            let (sent, delivered) = (sent.len(), delivered.len());
            tracing::info!(chain, sent, delivered, "messages and deliveries were taken back with their blocks");
        }
    }

    fn remove(&mut self, at: &LandedRef) {
        if let Some(entry) = self.messages.remove(at) {
            self.order.remove(&entry.order);
            self.erase(Key::Message(*at));
        }
    }

    /// Drops what is beyond the bounds, and a part more at once, so that this is not done for every single message.
    fn make_room(&mut self) {
        let limits = self.settings.limits;
        if self.messages.len() > limits.messages {
            let surplus = self.messages.len() - (limits.messages - limits.messages / 16);
            let (done, open): (Vec<_>, Vec<_>) = self.in_order().partition(|(_, entry)| self.delivered_in(entry).is_some());
            let all = done.iter().map(|(at, _)| (*at, "delivered")).chain(open.iter().map(|(at, _)| (*at, "undelivered")));
            let dropped: Vec<(LandedRef, &'static str)> = all.take(surplus).collect();
            for (at, what) in dropped {
                count_dropped(at.chain, what);
                self.remove(&at);
            }
            tracing::warn!(surplus, kept = self.messages.len(), "messages are dropped to make room: the oldest delivered first");
        }
        if self.deliveries.len() > limits.deliveries {
            let surplus = self.deliveries.len() - (limits.deliveries - limits.deliveries / 16);
            let of_known: BTreeMap<(ChainId, B256), Vec<LandedRef>> =
                self.messages.iter().fold(BTreeMap::new(), |mut known, (at, entry)| {
                    if let (Some(destination), Some(receipt)) = (entry.message.destination, entry.receipt) {
                        known.entry((destination, receipt)).or_default().push(*at);
                    }
                    known
                });
            let mut all: Vec<(bool, u64, (ChainId, B256))> =
                self.deliveries.iter().map(|(key, delivery)| (of_known.contains_key(key), delivery.order, *key)).collect();
            all.sort_unstable();
            for (_, _, key) in all.into_iter().take(surplus) {
                self.deliveries.remove(&key);
                self.erase(Key::Delivery(key.0, key.1));
                count_dropped(key.0, "delivery");
                // Without its delivery it would look as if it were still to be delivered.
                for at in of_known.get(&key).into_iter().flatten() {
                    count_dropped(at.chain, "delivered");
                    self.remove(at);
                }
            }
            tracing::warn!(surplus, kept = self.deliveries.len(), "deliveries are forgotten to make room");
        }
    }

    /// The messages that nobody seems to deliver, in the order in which they were found. Whether their evidence is there is not
    /// looked at.
    pub(crate) fn orphans(&mut self) -> Vec<LandedRef> {
        let mut orphans = Vec::new();
        let order: Vec<LandedRef> = self.order.values().copied().collect();
        for at in order {
            let Some(entry) = self.messages.get(&at) else { continue };
            let others = entry.message.restricted_to.is_some_and(|only| only != self.builder);
            if others || self.delivered_in(entry).is_some() {
                continue;
            }
            let Some(newest) = entry.message.destination.and_then(|chain| self.newest(chain)) else { continue };
            let grace = self.settings.grace_blocks;
            let Some(entry) = self.messages.get_mut(&at) else { continue };
            // Where nothing was known of the destination yet, or it was taken back, the grace begins now.
            let since = entry.waits_since.filter(|since| *since <= newest.number).unwrap_or(newest.number);
            entry.waits_since = Some(since);
            if newest.number < since.saturating_add(grace) {
                continue;
            }
            if !entry.orphaned {
                entry.orphaned = true;
                metrics::counter!("lockstep_messages_orphaned_total", "protocol" => entry.message.protocol).increment(1);
                tracing::info!(message = %at, protocol = entry.message.protocol, "a message that landed is delivered by nobody");
            }
            orphans.push(at);
        }
        orphans
    }

    /// The messages whose attesters are to be asked now, at most so many: those that pending bundles name first, then in the
    /// order in which they were found. Each is busy until [`Book::answered`].
    pub(crate) fn due(&mut self, now_ms: u64, named: &BTreeSet<LandedRef>, most: usize) -> Vec<LandedRef> {
        let confirmations = self.settings.confirmations;
        let waits = self.in_order().filter(|(_, entry)| {
            let confirmed = self
                .newest(entry.message.origin)
                .is_some_and(|newest| entry.message.place.block.saturating_add(confirmations) <= newest.number);
            entry.kind == EvidenceKind::Attested
                && matches!(entry.attested, Attested::Pending(_))
                && !entry.busy
                && entry.next_request_ms <= now_ms
                && confirmed
                && self.delivered_in(entry).is_none()
        });
        let mut due: Vec<LandedRef> = waits.map(|(at, _)| at).collect();
        // Stable: within both parts the order stays.
        due.sort_by_key(|at| !named.contains(at));
        due.truncate(most);
        for at in &due {
            if let Some(entry) = self.messages.get_mut(at) {
                entry.busy = true;
            }
        }
        due
    }

    /// What the attesters said. One that came to nothing is asked for again later, and later each time.
    pub(crate) fn answered(&mut self, at: &LandedRef, answer: Result<Evidence, Reason>, now_ms: u64) {
        let limits = self.settings.limits;
        let Some(message) = self.messages.get(at).map(|entry| entry.message.clone()) else { return };
        let receipt = self.receipt(&message, answer.as_ref().ok());
        let signers = self.signers(&message).ok();
        let Some(entry) = self.messages.get_mut(at) else { return };
        entry.busy = false;
        match answer {
            Ok(evidence) => {
                entry.attested = Attested::Ready(evidence);
                entry.receipt = receipt;
                entry.expired = None;
                entry.requests = 0;
                let record = entry.record(signers);
                self.save(Key::Message(*at), &record);
            }
            Err(reason) => {
                // Who cannot attest it now can hardly do so soon: the others come first.
                let longest = match reason {
                    Reason::NoEvidence(_) => limits.max_retry_ms.saturating_mul(REFUSED_RETRY),
                    _ => limits.max_retry_ms,
                };
                let doubled = limits.retry_ms.saturating_mul(1_u64.checked_shl(entry.requests).unwrap_or(u64::MAX));
                entry.next_request_ms = now_ms.saturating_add(doubled.min(longest));
                entry.requests = entry.requests.saturating_add(1);
                entry.attested = Attested::Pending(reason);
            }
        }
    }

    /// Evidence that came does not hold any more, for this reason: another is asked for. On disk it stays until that has come: a
    /// process that is started meanwhile finds out again that it does not hold, and has it renewed.
    pub(crate) fn lapsed(&mut self, at: &LandedRef, reason: Reason) {
        if let Some(entry) = self.messages.get_mut(at)
            && let Attested::Ready(evidence) = std::mem::replace(&mut entry.attested, Attested::Pending(reason))
        {
            entry.expired = Some(evidence);
            entry.next_request_ms = 0;
        }
    }
}

pub(super) fn count_dropped(chain: ChainId, what: &'static str) {
    metrics::counter!("lockstep_messages_dropped_total", "chain" => chain.to_string(), "what" => what).increment(1);
}

//! Ciphertexts that wait for a slot, and what became of those that had one.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, U64};
use lockstep_delivery::{Ciphertext, MAX_ENCRYPTED, MAX_ENCRYPTED_BYTES};
use lockstep_primitives::{ChainId, EncryptedReceipt, SlotNumber};
use lockstep_rpc::wire::{EncryptedState, EncryptedTailView, EncryptedTxStatus};
use lockstep_store::{Op, Table};
use serde::{Deserialize, Serialize};

/// Ciphertexts of a rollup that wait, and how long they may be together.
const MAX_PENDING: usize = 4_096;
const MAX_PENDING_BYTES: usize = 32 << 20;
/// Of one sender.
const MAX_PENDING_PER_SENDER: usize = 64;
/// Slots whose encrypted parts are remembered.
const MAX_TAILS: usize = 1_024;
/// Sequence numbers in a millisecond: they go on rising after a restart, whatever was forgotten.
const PER_MS: u64 = 1_000;

/// A ciphertext on disk.
#[derive(Serialize, Deserialize)]
struct Record {
    ciphertext: Bytes,
    gas: u64,
    sender: Address,
    received_ms: u64,
}

/// A ciphertext that waits for a slot.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) ciphertext: Ciphertext,
    /// The most gas that its transaction may ask for.
    pub(super) gas: u64,
    sender: Address,
    received_ms: u64,
}

/// Why a ciphertext is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// There are too many.
    #[error("{MAX_PENDING} ciphertexts wait already, or {MAX_PENDING_BYTES} bytes of them")]
    Full,
    /// The sender has too many.
    #[error("{MAX_PENDING_PER_SENDER} ciphertexts of this sender wait already")]
    SenderFull,
    /// It had its slot.
    #[error("the ciphertext had its turn in slot {0}")]
    Over(SlotNumber),
}

impl Refused {
    pub(super) const fn code(&self) -> &'static str {
        match self {
            Self::Full => "encrypted_full",
            Self::SenderFull => "encrypted_sender_full",
            Self::Over(_) => "encrypted_over",
        }
    }
}

/// What a rollup's sequencer knows of encrypted transactions. Whatever changes it yields what has to be written.
#[derive(Debug)]
pub(super) struct Inbox {
    chain: ChainId,
    /// By sequence number.
    waiting: BTreeMap<u64, Waiting>,
    by_hash: BTreeMap<B256, u64>,
    bytes: usize,
    /// The newest [`MAX_TAILS`].
    tails: BTreeMap<SlotNumber, EncryptedTailView>,
    had_turn: BTreeMap<B256, SlotNumber>,
    last_sequence: u64,
}

impl Inbox {
    /// What was on disk: (key, value) pairs of [`Table::Encrypted`] and [`Table::EncryptedTails`], of whichever rollup. What was
    /// ordered and not noted to be published is of unknown fate, unless its slot is not over at `slot`.
    pub(super) fn restore(
        chain: ChainId,
        waiting: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>,
        tails: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>,
        slot: SlotNumber,
    ) -> (Self, Vec<Op>) {
        let (by_hash, had_turn) = (BTreeMap::new(), BTreeMap::new());
        let (waiting_now, tails_now) = (BTreeMap::new(), BTreeMap::new());
        let mut inbox = Self { chain, waiting: waiting_now, by_hash, bytes: 0, tails: tails_now, had_turn, last_sequence: 0 };
        for (key, value) in waiting {
            let Some(sequence) = number(chain, &key) else { continue };
            let Ok(record) = serde_json::from_slice::<Record>(&value) else { continue };
            let Ok(ciphertext) = Ciphertext::parse(record.ciphertext) else { continue };
            let (gas, sender, received_ms) = (record.gas, record.sender, record.received_ms);
            inbox.insert(sequence, Waiting { ciphertext, gas, sender, received_ms });
        }
        for (key, value) in tails {
            let Some(slot) = number(chain, &key) else { continue };
            let Ok(tail) = serde_json::from_slice::<EncryptedTailView>(&value) else { continue };
            inbox.had_turn.extend(tail.ciphertexts.iter().map(|hash| (*hash, slot)));
            inbox.tails.insert(slot, tail);
        }
        let undone: Vec<SlotNumber> =
            inbox.tails.range(..slot).filter(|(_, tail)| tail.status == EncryptedState::Ordered).map(|(slot, _)| *slot).collect();
        let ops = undone.into_iter().flat_map(|slot| inbox.settle(slot, EncryptedState::Unknown, None, Vec::new())).collect();
        (inbox, ops)
    }

    /// What it says of a ciphertext that waits, and what has to be on disk for that.
    pub(super) fn waiting(&self, hash: B256) -> Option<(EncryptedReceipt, Op)> {
        let sequence = *self.by_hash.get(&hash)?;
        let Waiting { ciphertext, gas, sender, received_ms } = self.waiting.get(&sequence)?;
        let (gas, sender, received_ms) = (*gas, *sender, *received_ms);
        let record = Record { ciphertext: ciphertext.raw().clone(), gas, sender, received_ms };
        let op = Op::put(Table::Encrypted, key(self.chain, sequence), serde_json::to_vec(&record).unwrap_or_default());
        Some((EncryptedReceipt { chain: self.chain, ciphertext: hash, gas, sequence, received_ms }, op))
    }

    /// Takes a ciphertext. One that waits already keeps its place.
    pub(super) fn take(
        &mut self,
        ciphertext: Ciphertext,
        gas: u64,
        sender: Address,
        now_ms: u64,
    ) -> Result<(EncryptedReceipt, Op), Refused> {
        let hash = ciphertext.hash();
        if let Some(waiting) = self.waiting(hash).filter(|_| !self.had_turn.contains_key(&hash)) {
            return Ok(waiting);
        }
        if let Some(slot) = self.had_turn.get(&hash) {
            return Err(Refused::Over(*slot));
        }
        if self.waiting.len() >= MAX_PENDING || self.bytes.saturating_add(ciphertext.raw().len()) > MAX_PENDING_BYTES {
            return Err(Refused::Full);
        }
        if self.waiting.values().filter(|waiting| waiting.sender == sender).count() >= MAX_PENDING_PER_SENDER {
            return Err(Refused::SenderFull);
        }
        let sequence = self.last_sequence.saturating_add(1).max(now_ms.saturating_mul(PER_MS));
        self.insert(sequence, Waiting { ciphertext, gas, sender, received_ms: now_ms });
        self.waiting(hash).ok_or(Refused::Full)
    }

    /// Forgets a ciphertext that could not be written.
    pub(super) fn forget(&mut self, sequence: u64) {
        if let Some(waiting) = self.waiting.remove(&sequence) {
            self.by_hash.remove(&waiting.ciphertext.hash());
            self.bytes = self.bytes.saturating_sub(waiting.ciphertext.raw().len());
        }
    }

    fn insert(&mut self, sequence: u64, waiting: Waiting) {
        self.last_sequence = self.last_sequence.max(sequence);
        self.bytes = self.bytes.saturating_add(waiting.ciphertext.raw().len());
        self.by_hash.insert(waiting.ciphertext.hash(), sequence);
        self.waiting.insert(sequence, waiting);
    }

    /// What has come first and fits into `gas` together: nothing overtakes what does not fit.
    pub(super) fn next(&self, gas: u64) -> Vec<Ciphertext> {
        let (mut left, mut bytes) = (gas, MAX_ENCRYPTED_BYTES);
        let mut next = Vec::new();
        for waiting in self.waiting.values().filter(|waiting| !self.had_turn.contains_key(&waiting.ciphertext.hash())) {
            let length = waiting.ciphertext.raw().len();
            if next.len() >= MAX_ENCRYPTED || waiting.gas > left || length > bytes {
                break;
            }
            (left, bytes) = (left - waiting.gas, bytes - length);
            next.push(waiting.ciphertext.clone());
        }
        next
    }

    /// The gas that is set aside for a ciphertext.
    pub(super) fn gas_of(&self, hash: B256) -> Option<u64> {
        self.waiting.get(self.by_hash.get(&hash)?).map(|waiting| waiting.gas)
    }

    /// The ciphertexts of a slot's order, while they are there.
    pub(super) fn ordered(&self, tail: &EncryptedTailView) -> Option<Vec<Ciphertext>> {
        let found = tail.ciphertexts.iter().map(|hash| self.waiting.get(self.by_hash.get(hash)?));
        found.map(|waiting| waiting.map(|waiting| waiting.ciphertext.clone())).collect()
    }

    /// The encrypted part of a slot.
    pub(super) fn tail(&self, slot: SlotNumber) -> Option<&EncryptedTailView> {
        self.tails.get(&slot)
    }

    /// Takes down a slot's signed order.
    pub(super) fn order(&mut self, tail: EncryptedTailView) -> Vec<Op> {
        let slot = tail.slot;
        self.had_turn.extend(tail.ciphertexts.iter().map(|hash| (*hash, slot)));
        let mut ops = vec![self.put(&tail)];
        self.tails.insert(slot, tail);
        while self.tails.len() > MAX_TAILS {
            let Some((slot, oldest)) = self.tails.pop_first() else { break };
            for hash in oldest.ciphertexts {
                self.had_turn.remove(&hash);
            }
            ops.push(Op::delete(Table::EncryptedTails, key(self.chain, slot)));
        }
        ops
    }

    /// Takes down what became of a slot's order. Its ciphertexts wait no longer.
    pub(super) fn settle(
        &mut self,
        slot: SlotNumber,
        status: EncryptedState,
        block_hash: Option<B256>,
        outcomes: Vec<lockstep_rpc::wire::EncryptedOutcome>,
    ) -> Vec<Op> {
        let Some(tail) = self.tails.get_mut(&slot).filter(|tail| tail.status == EncryptedState::Ordered) else {
            return Vec::new();
        };
        (tail.status, tail.block_hash, tail.outcomes) = (status, block_hash, outcomes);
        let tail = tail.clone();
        let mut ops = vec![self.put(&tail)];
        for hash in &tail.ciphertexts {
            if let Some(sequence) = self.by_hash.get(hash).copied() {
                self.forget(sequence);
                ops.push(Op::delete(Table::Encrypted, key(self.chain, sequence)));
            }
        }
        ops
    }

    /// Where a ciphertext stands.
    pub(super) fn status(&self, hash: B256) -> Option<EncryptedTxStatus> {
        let slot = self.had_turn.get(&hash).copied();
        let tail = slot.and_then(|slot| self.tails.get(&slot));
        let status = match tail {
            Some(tail) => tail.status,
            None if self.by_hash.contains_key(&hash) => EncryptedState::Pending,
            None => return None,
        };
        let outcome = tail.and_then(|tail| tail.outcomes.iter().find(|outcome| outcome.ciphertext == hash)).cloned();
        Some(EncryptedTxStatus { chain_id: U64::from(self.chain), ciphertext: hash, status, slot, outcome })
    }

    fn put(&self, tail: &EncryptedTailView) -> Op {
        Op::put(Table::EncryptedTails, key(self.chain, tail.slot), serde_json::to_vec(tail).unwrap_or_default())
    }
}

fn key(chain: ChainId, number: u64) -> Vec<u8> {
    [chain.to_be_bytes(), number.to_be_bytes()].concat()
}

/// The number in a key of this rollup.
fn number(chain: ChainId, key: &[u8]) -> Option<u64> {
    let (of, number) = key.split_at_checked(8)?;
    if of != chain.to_be_bytes() {
        return None;
    }
    number.try_into().ok().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use lockstep_delivery::{CommitteeKey, deal, encrypt};
    use lockstep_rpc::wire::EncryptedOutcome;

    use super::*;

    const CHAIN: ChainId = 7;
    const NOW_MS: u64 = 1_000_000;

    fn committee() -> CommitteeKey {
        deal(1, 1, B256::ZERO).unwrap().0
    }

    fn ciphertext(committee: &CommitteeKey, index: u64) -> Ciphertext {
        let seed = B256::from(alloy_primitives::U256::from(index));
        Ciphertext::parse(encrypt(&committee.public_key(), &index.to_be_bytes(), seed).unwrap()).unwrap()
    }

    fn empty() -> Inbox {
        Inbox::restore(CHAIN, [], [], 0).0
    }

    fn tail(slot: SlotNumber, ciphertexts: &[Ciphertext]) -> EncryptedTailView {
        EncryptedTailView {
            chain_id: U64::from(CHAIN),
            slot,
            list: B256::ZERO,
            ciphertexts: ciphertexts.iter().map(Ciphertext::hash).collect(),
            signature: Bytes::new(),
            status: EncryptedState::Ordered,
            block_hash: None,
            outcomes: Vec::new(),
        }
    }

    /// What is on disk after `ops`.
    #[derive(Default)]
    struct Disk(BTreeMap<(Table, Vec<u8>), Vec<u8>>);

    impl Disk {
        fn apply(&mut self, ops: impl IntoIterator<Item = Op>) {
            for op in ops {
                match op {
                    Op::Put { table, key, value } => drop(self.0.insert((table, key), value)),
                    Op::Delete { table, key } => drop(self.0.remove(&(table, key))),
                }
            }
        }

        fn table(&self, wanted: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
            let of = self.0.iter().filter(|((table, _), _)| *table == wanted);
            of.map(|((_, key), value)| (key.clone(), value.clone())).collect()
        }

        fn restore(&self, slot: SlotNumber) -> (Inbox, Vec<Op>) {
            Inbox::restore(CHAIN, self.table(Table::Encrypted), self.table(Table::EncryptedTails), slot)
        }
    }

    #[test]
    fn who_comes_first_is_next_and_nothing_overtakes_what_does_not_fit() {
        let (key, mut inbox) = (committee(), empty());
        let sent: Vec<Ciphertext> = (0..4).map(|index| ciphertext(&key, index)).collect();
        for (ciphertext, gas) in sent.iter().zip([50, 60, 10, 10]) {
            // All at once, and the clock goes back in between.
            let now_ms = NOW_MS - gas;
            let taken = inbox.take(ciphertext.clone(), gas, Address::ZERO, now_ms).unwrap();
            assert_eq!(inbox.take(ciphertext.clone(), 1, Address::ZERO, now_ms + 1), Ok(taken), "it keeps its place");
        }
        assert_eq!(inbox.next(100), sent[..1], "the second does not fit, so the third has to wait for it");
        assert_eq!(inbox.next(120), sent[..3]);
        assert_eq!(inbox.next(49), []);
        inbox.order(tail(1, &sent[..1]));
        assert_eq!(inbox.next(100), sent[1..], "what is ordered has had its turn");
        assert_eq!(inbox.ordered(inbox.tail(1).unwrap()), Some(sent[..1].to_vec()));
    }

    #[test]
    fn everything_is_bounded_and_nothing_comes_twice() {
        let (key, mut inbox) = (committee(), empty());
        for index in 0..MAX_PENDING_PER_SENDER as u64 {
            inbox.take(ciphertext(&key, index), 1, Address::ZERO, NOW_MS).unwrap();
        }
        let one_more = ciphertext(&key, 1_000);
        assert_eq!(inbox.take(one_more.clone(), 1, Address::ZERO, NOW_MS).err(), Some(Refused::SenderFull));
        let (receipt, _) = inbox.take(one_more.clone(), 1, Address::repeat_byte(1), NOW_MS).unwrap();
        assert_eq!(inbox.next(u64::MAX).len(), MAX_ENCRYPTED);
        inbox.forget(receipt.sequence);
        assert_eq!((inbox.waiting(one_more.hash()), inbox.status(one_more.hash())), (None, None));
        inbox.bytes = MAX_PENDING_BYTES;
        assert_eq!(inbox.take(one_more.clone(), 1, Address::repeat_byte(1), NOW_MS).err(), Some(Refused::Full));
        inbox.order(tail(9, std::slice::from_ref(&one_more)));
        assert_eq!(inbox.take(one_more, 1, Address::ZERO, NOW_MS).err(), Some(Refused::Over(9)));
        for slot in 10..10 + MAX_TAILS as SlotNumber {
            inbox.order(tail(slot, &[]));
        }
        assert_eq!((inbox.tails.len(), inbox.had_turn.len()), (MAX_TAILS, 0));
    }

    #[test]
    fn after_a_restart_what_was_acknowledged_waits_and_what_was_ordered_has_had_its_turn() {
        let (key, mut inbox, mut disk) = (committee(), empty(), Disk::default());
        let sent: Vec<Ciphertext> = (0..3).map(|index| ciphertext(&key, index)).collect();
        for ciphertext in &sent {
            let (_, op) = inbox.take(ciphertext.clone(), 21_000, Address::ZERO, NOW_MS).unwrap();
            disk.apply([op]);
        }
        disk.apply(inbox.order(tail(5, &sent[..1])));
        let outcome = EncryptedOutcome {
            ciphertext: sent[0].hash(),
            transaction_hash: Some(B256::ZERO),
            index: Some(3),
            reason: None,
            text: None,
        };
        disk.apply(inbox.settle(5, EncryptedState::Published, Some(B256::ZERO), vec![outcome.clone()]));
        disk.apply(inbox.order(tail(6, &sent[1..2])));

        // The slot is not over: its order stands, and is signed for no other list.
        let (inbox, ops) = disk.restore(6);
        assert!(ops.is_empty());
        assert_eq!(inbox.ordered(inbox.tail(6).unwrap()), Some(sent[1..2].to_vec()));
        assert_eq!(inbox.next(u64::MAX), sent[2..]);
        assert_eq!(inbox.status(sent[0].hash()).and_then(|status| status.outcome), Some(outcome));

        // It is over: nobody knows any more.
        let (mut inbox, ops) = disk.restore(7);
        disk.apply(ops);
        let state = |inbox: &Inbox, index: usize| inbox.status(sent[index].hash()).map(|status| (status.status, status.slot));
        assert_eq!(state(&inbox, 0), Some((EncryptedState::Published, Some(5))));
        assert_eq!(state(&inbox, 1), Some((EncryptedState::Unknown, Some(6))));
        assert_eq!(state(&inbox, 2), Some((EncryptedState::Pending, None)));
        assert!(inbox.settle(6, EncryptedState::Published, None, Vec::new()).is_empty(), "what is settled stays");
        assert_eq!(disk.table(Table::Encrypted).len(), 1);
        let (later, _) = disk.restore(7);
        assert_eq!(state(&later, 1), Some((EncryptedState::Unknown, Some(6))));
        // Numbers go on from where they were.
        let before = later.waiting(sent[2].hash()).unwrap().0.sequence;
        let (receipt, _) = inbox.take(ciphertext(&key, 9), 1, Address::ZERO, 0).unwrap();
        assert!(receipt.sequence > before);
    }
}

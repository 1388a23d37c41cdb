//! Logs of earlier blocks that transactions refer to (OP interop): which ones, and what they are.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use alloy_consensus::Transaction;
use alloy_eips::eip2930::AccessList;
use alloy_primitives::B256;
use lockstep_messaging::{
    KnownLog, LogPlace,
    op_interop::access_list::{Access, decode},
};
use lockstep_primitives::{ChainId, RollupSet, SignedTx};

use super::{
    book::{Block, known_log},
    keeper::Messages,
};

/// The logs of a block, by index.
type Logs = BTreeMap<u64, KnownLog>;

/// A block that transactions refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Referred {
    pub(crate) chain: ChainId,
    pub(crate) number: u64,
    /// In seconds.
    pub(crate) timestamp: u64,
}

/// The blocks that transactions refer to by their access lists. Whether a reference holds is not judged here: what is found is
/// held against the block's own logs where blocks are built.
pub(crate) fn referred<'a>(txs: impl IntoIterator<Item = &'a SignedTx>) -> BTreeSet<Referred> {
    txs.into_iter().filter_map(|tx| tx.envelope().access_list()).flat_map(blocks_of).collect()
}

/// The blocks that an access list refers to. One that cannot be read refers to none: its transaction is refused when it is built.
fn blocks_of(list: &AccessList) -> Vec<Referred> {
    let block = |access: Access| {
        let chain = ChainId::try_from(access.chain_id).ok()?;
        Some(Referred { chain, number: access.place.block, timestamp: access.place.timestamp })
    };
    decode(list).unwrap_or_default().into_iter().filter_map(block).collect()
}

/// Blocks whose logs were asked for not long ago, by hash: what a hash names never changes.
#[derive(Debug)]
pub(crate) struct KnownBlocks {
    most: usize,
    logs: BTreeMap<B256, Arc<Logs>>,
    order: VecDeque<B256>,
}

impl KnownBlocks {
    /// Remembers at most so many blocks.
    pub(crate) const fn new(most: usize) -> Self {
        Self { most, logs: BTreeMap::new(), order: VecDeque::new() }
    }

    fn get(&self, hash: B256) -> Option<Arc<Logs>> {
        self.logs.get(&hash).cloned()
    }

    fn insert(&mut self, hash: B256, logs: Arc<Logs>) {
        if self.logs.insert(hash, logs).is_none() {
            self.order.push_back(hash);
        }
        while self.order.len() > self.most {
            if let Some(oldest) = self.order.pop_front() {
                self.logs.remove(&oldest);
            }
        }
    }
}

impl Messages {
    /// The logs of earlier blocks that transactions refer to, of rollups on which everything up to the slot's parents was read.
    /// What cannot be read is not there, and so not certain.
    pub(super) async fn known_logs(
        &self,
        referred: BTreeSet<Referred>,
        in_step: &RollupSet,
    ) -> BTreeMap<(ChainId, u64, u64), KnownLog> {
        let limits = self.settings.limits;
        let patience = Duration::from_millis(limits.patience_ms);
        let readable: Vec<Referred> = {
            let book = self.book.lock();
            // A block that is to come is one of the slot itself.
            let landed = |block: &Referred| book.newest(block.chain).is_some_and(|newest| block.number <= newest.number);
            referred.into_iter().filter(|block| in_step.contains(&block.chain) && landed(block)).collect()
        };
        let left_out = readable.len().saturating_sub(limits.known_blocks);
        if left_out > 0 {
            metrics::counter!("lockstep_messages_references_skipped_total").increment(left_out as u64);
            tracing::warn!(left_out, "transactions refer to more blocks than are read in a slot: the rest is not certain");
        }
        let reads = readable.into_iter().take(limits.known_blocks).map(|block| async move {
            // One that does not come in time costs no other.
            let read = tokio::time::timeout(patience, self.logs_of(block)).await;
            match read.unwrap_or_else(|_| Err("it was not read in time".to_owned())) {
                Ok(logs) => Some((block, logs)),
                Err(cause) => {
                    let Referred { chain, number, .. } = block;
                    tracing::debug!(chain, number, %cause, "a block that is referred to is not known");
                    None
                }
            }
        });
        let mut known = BTreeMap::new();
        for (block, logs) in futures_util::future::join_all(reads).await.into_iter().flatten() {
            known.extend(logs.iter().map(|(index, log)| ((block.chain, block.number, *index), *log)));
        }
        known
    }

    async fn logs_of(&self, referred: Referred) -> Result<Arc<Logs>, String> {
        let node = self.rollups.get(&referred.chain).ok_or("the rollup is not served")?;
        let block = self.canonical(referred).await?;
        if let Some(logs) = self.known.lock().get(block.hash) {
            return Ok(logs);
        }
        let logs = node.logs(block.hash).await.map_err(|error| error.to_string())?;
        let place = |index| LogPlace { block: block.number, timestamp: block.timestamp, index };
        let logs: Logs = logs.iter().map(|log| (log.index, known_log(&log.log, place(log.index)))).collect();
        let logs = Arc::new(logs);
        self.known.lock().insert(block.hash, Arc::clone(&logs));
        Ok(logs)
    }

    /// The block of the chain with this number and timestamp.
    async fn canonical(&self, referred: Referred) -> Result<Block, String> {
        let Referred { chain, number, timestamp } = referred;
        let (read, newest) = {
            let book = self.book.lock();
            (book.block(chain, number), book.newest(chain))
        };
        let block = match read {
            Some(block) => block,
            None => {
                let age = newest.map_or(0, |newest| newest.timestamp.saturating_sub(timestamp));
                if age > self.settings.limits.known_age_s {
                    return Err(format!("it is {age} s old, {} s are looked back", self.settings.limits.known_age_s));
                }
                let node = self.rollups.get(&chain).ok_or("the rollup is not served")?;
                let listed =
                    node.blocks_between(timestamp, timestamp.saturating_add(1)).await.map_err(|error| error.to_string())?;
                let block = listed.into_iter().find(|block| block.number == number).ok_or("it is not on the chain")?;
                Block { number, hash: block.hash, timestamp: block.timestamp }
            }
        };
        if block.timestamp == timestamp { Ok(block) } else { Err("the block has another timestamp".to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use alloy_eips::eip2930::AccessListItem;
    use alloy_primitives::{Address, b256};
    use lockstep_messaging::op_interop::INBOX;

    use super::*;

    #[test]
    fn what_an_access_list_refers_to_is_read_from_the_inboxs_keys() {
        let lookup = b256!("0100000000000000000003850000000000000064000000006553f10000000007");
        let checksum = b256!("0355150a7129a747df9f176174f8e40719d450fd25bc3f145509d8bb2dc1a0a8");
        let list = |address, storage_keys| AccessList(vec![AccessListItem { address, storage_keys }]);
        let expected = [Referred { chain: 901, number: 100, timestamp: 1_700_000_000 }];
        assert_eq!(blocks_of(&list(INBOX, vec![lookup, checksum])), expected);
        assert!(blocks_of(&list(Address::ZERO, vec![lookup, checksum])).is_empty(), "the keys of another contract mean nothing");
        assert!(blocks_of(&list(INBOX, vec![lookup])).is_empty(), "nothing is said of which log it is");
    }

    #[test]
    fn the_oldest_block_is_forgotten_for_a_new_one() {
        let mut known = KnownBlocks::new(2);
        for number in 0..3 {
            known.insert(B256::with_last_byte(number), Arc::default());
        }
        assert!(known.get(B256::with_last_byte(0)).is_none());
        assert!(known.get(B256::with_last_byte(1)).is_some() && known.get(B256::with_last_byte(2)).is_some());
        known.insert(B256::with_last_byte(2), Arc::default());
        assert_eq!((known.logs.len(), known.order.len()), (2, 2), "what is known already takes nobody's place");
    }
}

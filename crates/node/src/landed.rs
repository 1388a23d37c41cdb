//! Bundles that landed and are not yet safe from reorgs.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use alloy_primitives::{B256, U64};
use lockstep_pool::Kind;
use lockstep_primitives::{Bundle, ChainId};
use lockstep_provider::Reorg;
use lockstep_rpc::wire::LegStatus;

/// Bundles that are looked after at a time. When there are more, the one that landed first is taken to be safe.
pub(crate) const MAX_LANDED: usize = 20_000;
/// Dropped blocks that are remembered, so that what is said to be in one of them is doubted. The oldest are forgotten first.
const MAX_DROPPED: usize = 1_024;

/// A bundle that landed: what it takes to make it pending again, and where it is.
#[derive(Clone, Debug)]
pub(crate) struct LandedBundle {
    pub(crate) bundle: Arc<Bundle>,
    pub(crate) kind: Kind,
    pub(crate) sequence: u64,
    pub(crate) received_s: u64,
    /// When it came in, in Unix milliseconds, where that is known.
    pub(crate) received_ms: Option<u64>,
    /// Its transactions, as they were seen last.
    pub(crate) legs: Vec<LegStatus>,
}

/// The newest block of every rollup that no reorg is feared for; `None` while there is none.
#[derive(Clone, Debug)]
pub(crate) struct Finality(pub(crate) BTreeMap<ChainId, Option<u64>>);

impl Finality {
    /// Whether everything that is in a block is in a safe one.
    pub(crate) fn covers(&self, legs: &[LegStatus]) -> bool {
        self.reaches(&newest_blocks(legs))
    }

    fn reaches(&self, blocks: &BTreeMap<ChainId, u64>) -> bool {
        blocks.iter().all(|(chain, number)| self.0.get(chain).is_some_and(|safe| safe.is_some_and(|safe| *number <= safe)))
    }
}

/// What a second look at a bundle's chains says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Everything is where it was.
    Same,
    /// Everything is on the chains, some of it elsewhere than it was.
    Moved,
    /// Some of it is gone, or ended otherwise; from these rollups.
    Part(Vec<ChainId>),
    /// Nothing of it is left.
    Gone,
}

/// Compares where transactions are with where they were. One of `succeeded`, those that succeeded when the bundle landed, that is
/// now in a block where it fails counts as gone
/// from its rollup: the bundle that landed was one in which it succeeded.
pub(crate) fn compare(before: &[LegStatus], now: &[LegStatus], succeeded: &BTreeSet<B256>) -> Standing {
    let mut lost = BTreeSet::new();
    let (mut found, mut total) = (0, 0);
    for (was, is) in before.iter().zip(now) {
        for tx in is.transactions.iter().take(was.transactions.len()) {
            total += 1;
            found += usize::from(tx.block_number.is_some());
            let broken = tx.success == Some(false) && succeeded.contains(&tx.transaction_hash);
            if tx.block_number.is_none() || broken {
                lost.insert(is.chain_id.to::<ChainId>());
            }
        }
    }
    match (found, lost.is_empty()) {
        (0, _) if total > 0 => Standing::Gone,
        (_, false) => Standing::Part(lost.into_iter().collect()),
        _ if before == now => Standing::Same,
        _ => Standing::Moved,
    }
}

#[derive(Debug)]
struct Watched {
    landed: LandedBundle,
    /// Where it stands in the order of landing.
    order: u64,
    /// The transactions that succeeded when it landed. A later look does not change what landing meant.
    succeeded: Arc<BTreeSet<B256>>,
    /// The newest block of each rollup that it was ever seen in.
    blocks: BTreeMap<ChainId, u64>,
    /// Whether some of it is gone: then it is looked for at every head.
    broken: bool,
    /// Whether it is being looked for.
    busy: bool,
    /// Whether an answer that names a dropped block was doubted once. A second time it is believed: the chain may have come
    /// back.
    doubted: bool,
}

/// Bundles that landed, by hash and by transaction, and which of them have to be looked for anew.
#[derive(Debug, Default)]
pub(crate) struct LandedBundles {
    bundles: BTreeMap<B256, Watched>,
    by_order: BTreeMap<u64, B256>,
    next_order: u64,
    by_tx: BTreeMap<B256, BTreeSet<B256>>,
    suspects: BTreeSet<B256>,
    dropped: VecDeque<B256>,
}

impl LandedBundles {
    /// Looks after a bundle from now on; `broken` when some of it was gone already. Returns those that are looked after no more
    /// to make room.
    #[must_use]
    pub(crate) fn insert(&mut self, hash: B256, landed: LandedBundle, broken: bool) -> Vec<B256> {
        let _ = self.remove(hash);
        for tx in transactions(&landed.legs) {
            self.by_tx.entry(tx).or_default().insert(hash);
        }
        // The block may have been dropped between the look that found it and now.
        if self.names_dropped(&landed.legs) {
            self.suspects.insert(hash);
        }
        let order = self.next_order;
        self.next_order += 1;
        self.by_order.insert(order, hash);
        let mut blocks = newest_blocks(&landed.legs);
        for leg in &landed.legs {
            // Of what was gone before a restart it is not known any more where it was.
            blocks.entry(leg.chain_id.to::<ChainId>()).or_default();
        }
        let all = landed.legs.iter().flat_map(|leg| &leg.transactions);
        let succeeded = all.filter(|tx| tx.success == Some(true)).map(|tx| tx.transaction_hash).collect();
        let succeeded = Arc::new(succeeded);
        self.bundles.insert(hash, Watched { landed, order, succeeded, blocks, broken, busy: false, doubted: false });
        let mut forgotten = Vec::new();
        while self.bundles.len() > MAX_LANDED {
            let Some(oldest) = self.by_order.first_key_value().map(|(_, hash)| *hash) else { break };
            let _ = self.remove(oldest);
            forgotten.push(oldest);
        }
        forgotten
    }

    /// Looks after a bundle no more.
    pub(crate) fn remove(&mut self, hash: B256) -> Option<LandedBundle> {
        let watched = self.bundles.remove(&hash)?;
        self.by_order.remove(&watched.order);
        self.suspects.remove(&hash);
        for tx in transactions(&watched.landed.legs) {
            if let Some(bundles) = self.by_tx.get_mut(&tx) {
                bundles.remove(&hash);
                if bundles.is_empty() {
                    self.by_tx.remove(&tx);
                }
            }
        }
        Some(watched.landed)
    }

    /// A bundle that is looked after.
    pub(crate) fn get(&self, hash: B256) -> Option<&LandedBundle> {
        self.bundles.get(&hash).map(|watched| &watched.landed)
    }

    /// Which of a bundle's transactions succeeded when it landed.
    pub(crate) fn succeeded(&self, hash: B256) -> Arc<BTreeSet<B256>> {
        self.bundles.get(&hash).map(|watched| Arc::clone(&watched.succeeded)).unwrap_or_default()
    }

    /// Whether a bundle is looked after.
    pub(crate) fn contains(&self, hash: B256) -> bool {
        self.bundles.contains_key(&hash)
    }

    /// Whether some of a bundle was gone when it was looked for last.
    pub(crate) fn is_broken(&self, hash: B256) -> bool {
        self.bundles.get(&hash).is_some_and(|watched| watched.broken)
    }

    /// Has a bundle looked for at the next head of any of its rollups.
    pub(crate) fn suspect(&mut self, hash: B256) {
        if let Some(watched) = self.bundles.get_mut(&hash) {
            watched.doubted = false;
            self.suspects.insert(hash);
        }
    }

    /// Has every bundle of a rollup looked for: it is not known which blocks were dropped.
    pub(crate) fn suspect_rollup(&mut self, chain: ChainId) {
        let on: Vec<B256> =
            self.bundles.iter().filter(|(_, watched)| watched.blocks.contains_key(&chain)).map(|(hash, _)| *hash).collect();
        for hash in on {
            self.suspect(hash);
        }
    }

    /// Takes note of a reorg: what was in a dropped block is looked for.
    pub(crate) fn note(&mut self, reorg: &Reorg) {
        for block in &reorg.dropped {
            self.dropped.push_back(block.hash);
            let touched: Vec<B256> = block.transactions.iter().filter_map(|tx| self.by_tx.get(tx)).flatten().copied().collect();
            for hash in touched {
                self.suspect(hash);
            }
        }
        while self.dropped.len() > MAX_DROPPED {
            self.dropped.pop_front();
        }
        if reorg.common.is_none() {
            self.suspect_rollup(reorg.chain);
        }
    }

    /// Whether a block was dropped not long ago.
    pub(crate) fn was_dropped(&self, block: B256) -> bool {
        self.dropped.contains(&block)
    }

    /// What has to be looked for now that something happened on a rollup: suspects, what is gone in part, and what has become
    /// safe, one last time. None of it is due again before it is released or removed. In the order of admission, because a later
    /// bundle may need an earlier one.
    pub(crate) fn due(&mut self, chain: ChainId, finality: &Finality) -> Vec<B256> {
        let mut due = Vec::new();
        for (hash, watched) in &mut self.bundles {
            if watched.busy || !watched.blocks.contains_key(&chain) {
                continue;
            }
            if watched.broken || self.suspects.contains(hash) || finality.reaches(&watched.blocks) {
                watched.busy = true;
                due.push((watched.landed.sequence, *hash));
            }
        }
        due.sort_unstable();
        let due: Vec<B256> = due.into_iter().map(|(_, hash)| hash).collect();
        for hash in &due {
            self.suspects.remove(hash);
        }
        due
    }

    /// Whether what was found is to be doubted for now, because it names a block that was dropped: a node behind the others
    /// may have answered. Then the bundle is looked for again at the next head.
    pub(crate) fn doubts(&mut self, hash: B256, found: &[LegStatus]) -> bool {
        if !self.names_dropped(found) {
            return false;
        }
        let Some(watched) = self.bundles.get_mut(&hash).filter(|watched| !watched.doubted) else { return false };
        watched.doubted = true;
        true
    }

    /// A look failed: another one is due at the next head.
    pub(crate) fn retry(&mut self, hash: B256) {
        if let Some(watched) = self.bundles.get_mut(&hash) {
            watched.busy = false;
            self.suspects.insert(hash);
        }
    }

    /// A look is over, and this is where the transactions are.
    pub(crate) fn release(&mut self, hash: B256, legs: Vec<LegStatus>, broken: bool) {
        if let Some(watched) = self.bundles.get_mut(&hash) {
            // A rollup that lost everything of it keeps the block that it was in, so that the loss becomes final in time.
            watched.blocks.extend(newest_blocks(&legs));
            watched.landed.legs = legs;
            watched.broken = broken;
            watched.busy = false;
        }
    }

    /// Whether every block that a bundle is, or was, in is safe.
    pub(crate) fn is_safe(&self, hash: B256, finality: &Finality) -> bool {
        self.bundles.get(&hash).is_some_and(|watched| finality.reaches(&watched.blocks))
    }

    fn names_dropped(&self, legs: &[LegStatus]) -> bool {
        let mut blocks = legs.iter().flat_map(|leg| &leg.transactions).filter_map(|tx| tx.block_hash);
        blocks.any(|block| self.was_dropped(block))
    }
}

fn transactions(legs: &[LegStatus]) -> impl Iterator<Item = B256> {
    legs.iter().flat_map(|leg| &leg.transactions).map(|tx| tx.transaction_hash)
}

fn newest_blocks(legs: &[LegStatus]) -> BTreeMap<ChainId, u64> {
    let mut blocks = BTreeMap::new();
    for leg in legs {
        let newest: Option<U64> = leg.transactions.iter().filter_map(|tx| tx.block_number).max();
        if let Some(number) = newest {
            let block: &mut u64 = blocks.entry(leg.chain_id.to::<ChainId>()).or_default();
            *block = (*block).max(number.to());
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use alloy_primitives::U256;
    use lockstep_provider::DroppedBlock;
    use lockstep_rpc::wire::LandedTx;

    use super::*;

    const A: ChainId = 1;
    const B: ChainId = 2;

    fn hash(number: u64) -> B256 {
        B256::from(U256::from(number))
    }

    /// The transaction `tx` in block `block`, whose hash is its number.
    fn tx(tx: u64, block: Option<u64>) -> LandedTx {
        LandedTx {
            transaction_hash: hash(tx),
            block_number: block.map(U64::from),
            block_hash: block.map(hash),
            index: block.map(|_| U64::ZERO),
            success: block.map(|_| true),
        }
    }

    fn leg(chain: ChainId, transactions: Vec<LandedTx>) -> LegStatus {
        LegStatus { chain_id: U64::from(chain), transactions }
    }

    fn landed(legs: Vec<LegStatus>) -> LandedBundle {
        LandedBundle {
            bundle: Arc::new(Bundle::default()),
            kind: Kind::Bundle,
            sequence: 0,
            received_s: 0,
            received_ms: None,
            legs,
        }
    }

    fn reorg(chain: ChainId, block: u64, transactions: &[u64]) -> Reorg {
        let transactions = transactions.iter().map(|tx| hash(*tx)).collect();
        Reorg { chain, common: Some(block - 1), dropped: vec![DroppedBlock { number: block, hash: hash(block), transactions }] }
    }

    fn finality(a: u64, b: u64) -> Finality {
        Finality([(A, Some(a)), (B, Some(b))].into())
    }

    #[test]
    fn a_second_look_tells_what_is_gone_from_where() {
        let before = [leg(A, vec![tx(1, Some(10))]), leg(B, vec![tx(2, Some(20)), tx(3, Some(20))])];
        let all = before.iter().flat_map(|leg: &LegStatus| &leg.transactions);
        let done: BTreeSet<B256> = all.map(|tx| tx.transaction_hash).collect();
        assert_eq!(compare(&before, &before, &done), Standing::Same);
        let moved = [leg(A, vec![tx(1, Some(11))]), before[1].clone()];
        assert_eq!(compare(&before, &moved, &done), Standing::Moved);
        let in_part = [before[0].clone(), leg(B, vec![tx(2, Some(20)), tx(3, None)])];
        assert_eq!(compare(&before, &in_part, &done), Standing::Part(vec![B]));
        let gone = [leg(A, vec![tx(1, None)]), leg(B, vec![tx(2, None), tx(3, None)])];
        assert_eq!(compare(&before, &gone, &done), Standing::Gone);
        let fails = LandedTx { success: Some(false), ..tx(1, Some(11)) };
        assert_eq!(compare(&before, &[leg(A, vec![fails]), before[1].clone()], &done), Standing::Part(vec![A]));
    }

    #[test]
    fn a_reorg_makes_suspects_of_what_was_in_its_blocks_and_of_nothing_else() {
        let mut book = LandedBundles::default();
        let none = finality(0, 0);
        assert!(book.insert(hash(100), landed(vec![leg(A, vec![tx(1, Some(10))])]), false).is_empty());
        assert!(book.insert(hash(101), landed(vec![leg(A, vec![tx(2, Some(11))])]), false).is_empty());
        assert!(book.due(A, &none).is_empty());
        book.note(&reorg(A, 11, &[2, 3]));
        assert_eq!(book.due(A, &none), [hash(101)]);
        assert!(book.due(A, &none).is_empty(), "it is being looked for");
        book.retry(hash(101));
        assert!(book.due(B, &none).is_empty(), "it is not on that rollup");
        assert_eq!(book.due(A, &none), [hash(101)], "a look that failed is made again");
        // A reorg deeper than is followed may have dropped anything.
        book.note(&Reorg { chain: A, common: None, dropped: Vec::new() });
        assert_eq!(book.due(A, &none), [hash(100)]);
    }

    #[test]
    fn a_block_that_was_dropped_is_doubted_once() {
        let mut book = LandedBundles::default();
        let legs = vec![leg(A, vec![tx(1, Some(10))])];
        book.note(&reorg(A, 10, &[1]));
        let _ = book.insert(hash(100), landed(legs.clone()), false);
        assert_eq!(book.due(A, &finality(0, 0)), [hash(100)], "it was dropped just before it was called landed");
        assert!(book.doubts(hash(100), &legs));
        assert!(!book.doubts(hash(100), &legs), "the chain has come back to the block");
        assert!(!book.doubts(hash(100), &[leg(A, vec![tx(1, Some(11))])]));
    }

    #[test]
    fn what_is_deep_enough_on_every_rollup_is_looked_for_one_last_time() {
        let mut book = LandedBundles::default();
        let legs = vec![leg(A, vec![tx(1, Some(10))]), leg(B, vec![tx(2, Some(20))])];
        let _ = book.insert(hash(100), landed(legs.clone()), false);
        assert!(book.due(A, &finality(10, 19)).is_empty());
        assert_eq!(book.due(A, &finality(10, 20)), [hash(100)]);
        // The loss of a leg becomes final like the leg itself.
        book.release(hash(100), vec![legs[0].clone(), leg(B, vec![tx(2, None)])], true);
        assert!(book.is_broken(hash(100)));
        assert!(book.is_safe(hash(100), &finality(10, 20)) && !book.is_safe(hash(100), &finality(10, 19)));
        assert_eq!(book.due(B, &finality(0, 0)), [hash(100)], "until then it may come back");
        assert!(Finality(BTreeMap::new()).covers(&[]) && !Finality(BTreeMap::new()).covers(&legs));
    }

    #[test]
    fn the_indexes_hold_what_is_looked_after_and_no_more() {
        let mut book = LandedBundles::default();
        for number in 0..=MAX_LANDED as u64 {
            let forgotten = book.insert(hash(number), landed(vec![leg(A, vec![tx(1_000_000 + number, Some(1))])]), false);
            assert_eq!(forgotten, if number == MAX_LANDED as u64 { vec![hash(0)] } else { Vec::new() });
        }
        assert_eq!((book.bundles.len(), book.by_order.len(), book.by_tx.len()), (MAX_LANDED, MAX_LANDED, MAX_LANDED));
        for number in 1..=MAX_LANDED as u64 {
            assert!(book.remove(hash(number)).is_some());
        }
        assert!(book.bundles.is_empty() && book.by_order.is_empty() && book.by_tx.is_empty() && book.suspects.is_empty());
    }
}

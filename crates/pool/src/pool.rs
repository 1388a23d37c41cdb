//! The pool itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy_consensus::Transaction;
use alloy_primitives::{Address, B256};
use lockstep_primitives::{Bundle, ChainId, Place, Reason, Rejection, dialect_bundle_hash};

use crate::{Heads, Limits, accounts::payee, admission::gas_limit};

/// How a bundle came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As a bundle.
    Bundle,
    /// As one public transaction: it may revert and stay, and another of the same nonce replaces it by fee.
    Transaction,
    /// As one private transaction: it never lands reverted.
    PrivateTransaction,
}

/// A pending bundle.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The Lockstep hash.
    pub hash: B256,
    /// The bundle.
    pub bundle: Arc<Bundle>,
    /// How it came in.
    pub kind: Kind,
    /// Order of admission.
    pub sequence: u64,
    /// When it came in, in Unix seconds.
    pub received_s: u64,
    /// Whether it is in a list that was handed out: then it is neither replaced nor cancelled nor built again.
    pub frozen: bool,
}

/// What an insertion did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inserted {
    /// The Lockstep hash.
    pub hash: B256,
    /// Whether the very same bundle was there already.
    pub known: bool,
    /// The bundles that it took the place of.
    pub replaced: Vec<B256>,
}

/// How many replacement nonces are remembered for each bundle that the pool may hold.
const REMEMBERED_PER_BUNDLE: usize = 4;

/// What one sender has pending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pending {
    bundles: usize,
    /// What their transactions ask for.
    gas: u64,
}

type NonceKey = (ChainId, Address, u64);

/// Pending bundles by hash, replacement identity and nonces.
#[derive(Clone, Debug)]
pub struct Pool {
    limits: Limits,
    entries: BTreeMap<B256, Entry>,
    replacements: BTreeMap<(Address, String), (u64, B256)>,
    dialect: BTreeMap<B256, BTreeSet<B256>>,
    nonces: BTreeMap<NonceKey, BTreeSet<B256>>,
    /// Nonces that authorizations (EIP-7702) use up.
    authorized: BTreeMap<NonceKey, BTreeSet<B256>>,
    payees: BTreeMap<(ChainId, Address), BTreeSet<B256>>,
    senders: BTreeMap<Address, Pending>,
    transactions: usize,
    revision: u64,
}

impl Pool {
    /// An empty pool.
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: BTreeMap::new(),
            replacements: BTreeMap::new(),
            dialect: BTreeMap::new(),
            nonces: BTreeMap::new(),
            authorized: BTreeMap::new(),
            payees: BTreeMap::new(),
            senders: BTreeMap::new(),
            transactions: 0,
            revision: 0,
        }
    }

    /// The pool's bounds.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How many bundles are pending.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many of what is pending came in as public transactions.
    pub const fn transactions(&self) -> usize {
        self.transactions
    }

    /// Rises with every change: whoever saw the same number before has nothing to look at.
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether nothing is pending.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a bundle could come in as things are, and what it would replace. Changes nothing, so that it can be made
    /// durable before it is inserted.
    ///
    /// # Errors
    /// When the pool is full, or what it would replace is newer or already handed out.
    pub fn admit(&self, bundle: &Bundle, kind: Kind) -> Result<Inserted, Rejection> {
        self.judge(bundle.hash(), bundle, kind)
    }

    fn judge(&self, hash: B256, bundle: &Bundle, kind: Kind) -> Result<Inserted, Rejection> {
        let refuse = |reason| Err(Rejection::new(Place::BUNDLE, reason));
        if self.entries.contains_key(&hash) {
            return Ok(Inserted { hash, known: true, replaced: Vec::new() });
        }
        let replaced = match self.replaces(bundle, kind) {
            Ok(replaced) => replaced,
            Err(reason) => return refuse(reason),
        };
        if replaced.is_empty() && self.entries.len() >= self.limits.bundles {
            return refuse(Reason::PoolFull { limit: self.limits.bundles });
        }
        // What makes way counts no more, but only for whoever sent it.
        let from = sender(bundle);
        let way = replaced.iter().filter_map(|hash| self.entries.get(hash)).filter(|entry| sender(&entry.bundle) == from);
        let Pending { mut bundles, mut gas } = self.senders.get(&from).copied().unwrap_or_default();
        for entry in way {
            (bundles, gas) = (bundles.saturating_sub(1), gas.saturating_sub(gas_limit(&entry.bundle)));
        }
        if bundles >= self.limits.bundles_per_sender {
            return refuse(Reason::SenderFull { limit: self.limits.bundles_per_sender });
        }
        if gas.saturating_add(gas_limit(bundle)) > self.limits.gas_per_sender {
            return refuse(Reason::SenderGas { gas, limit: self.limits.gas_per_sender });
        }
        Ok(Inserted { hash, known: false, replaced })
    }

    /// Inserts a bundle that came in at `now_s`. `sequence` orders bundles by admission.
    ///
    /// # Errors
    /// As [`Pool::admit`].
    pub fn insert(&mut self, bundle: Arc<Bundle>, kind: Kind, sequence: u64, now_s: u64) -> Result<Inserted, Rejection> {
        self.insert_as(bundle.hash(), bundle, kind, sequence, now_s)
    }

    /// As [`Pool::insert`], of a bundle whose Lockstep hash is known: hashing it takes longer than everything else here.
    ///
    /// # Errors
    /// As [`Pool::admit`].
    pub fn insert_as(
        &mut self,
        hash: B256,
        bundle: Arc<Bundle>,
        kind: Kind,
        sequence: u64,
        now_s: u64,
    ) -> Result<Inserted, Rejection> {
        debug_assert_eq!(hash, bundle.hash(), "the hash of another bundle");
        let inserted = self.judge(hash, &bundle, kind)?;
        if inserted.known {
            return Ok(inserted);
        }
        for hash in &inserted.replaced {
            self.remove(*hash);
        }
        if let (Some(signer), Some(replacement)) = (bundle.signer, &bundle.replacement) {
            self.replacements.insert((signer, replacement.uuid.clone()), (replacement.nonce, hash));
        }
        self.index(&bundle, hash, true);
        self.transactions += usize::from(kind == Kind::Transaction);
        self.revision += 1;
        self.entries.insert(hash, Entry { hash, bundle, kind, sequence, received_s: now_s, frozen: false });
        Ok(inserted)
    }

    /// Puts back a bundle that had left the pool because it landed, and that a reorg took off its chains. Its own replacement
    /// nonce, which is remembered, does not speak against it; that of a later bundle does.
    ///
    /// # Errors
    /// As [`Pool::admit`].
    pub fn bring_back(&mut self, bundle: Arc<Bundle>, kind: Kind, sequence: u64, received_s: u64) -> Result<Inserted, Rejection> {
        let identity = bundle.signer.zip(bundle.replacement.as_ref());
        let own = identity.map(|(signer, replacement)| ((signer, replacement.uuid.clone()), (replacement.nonce, bundle.hash())));
        let own = own.filter(|(key, value)| self.replacements.get(key) == Some(value));
        if let Some((key, _)) = &own {
            self.replacements.remove(key);
        }
        let inserted = self.insert(bundle, kind, sequence, received_s);
        if let (Err(_), Some((key, value))) = (&inserted, own) {
            self.replacements.insert(key, value);
        }
        inserted
    }

    /// Takes a bundle out.
    pub fn remove(&mut self, hash: B256) -> Option<Entry> {
        let entry = self.entries.remove(&hash)?;
        self.revision += 1;
        self.transactions -= usize::from(entry.kind == Kind::Transaction);
        if let (Some(signer), Some(replacement)) = (entry.bundle.signer, &entry.bundle.replacement) {
            // The nonce is remembered, so that a late request with a lower one does not bring an old bundle back.
            let key = (signer, replacement.uuid.clone());
            self.replacements.entry(key).or_insert((replacement.nonce, hash));
            if self.replacements.len() > self.limits.bundles.saturating_mul(REMEMBERED_PER_BUNDLE) {
                // What is pending is never forgotten: there is less of it than may be remembered.
                let ended = self.replacements.iter().find(|(_, (_, hash))| !self.entries.contains_key(hash));
                if let Some(key) = ended.map(|(key, _)| key.clone()) {
                    self.replacements.remove(&key);
                }
            }
        }
        self.index(&entry.bundle, hash, false);
        Some(entry)
    }

    /// The bundle that `signer` may cancel under `uuid`.
    ///
    /// # Errors
    /// When it is already in a list that was handed out.
    pub fn cancellable(&self, signer: Address, uuid: &str) -> Result<Option<B256>, Reason> {
        let Some((_, hash)) = self.replacements.get(&(signer, uuid.to_owned())) else { return Ok(None) };
        match self.entries.get(hash) {
            Some(entry) if entry.frozen => Err(Reason::TooLate("proposed")),
            Some(_) => Ok(Some(*hash)),
            None => Ok(None),
        }
    }

    /// A pending bundle.
    pub fn get(&self, hash: B256) -> Option<&Entry> {
        self.entries.get(&hash)
    }

    /// All pending bundles in the order of admission.
    pub fn pending(&self) -> Vec<&Entry> {
        let mut entries: Vec<&Entry> = self.entries.values().collect();
        entries.sort_by_key(|entry| entry.sequence);
        entries
    }

    /// The pending bundles that share a dialect hash (keccak of transaction hashes).
    pub fn by_dialect_hash(&self, hash: B256) -> Vec<B256> {
        self.dialect.get(&hash).map(|hashes| hashes.iter().copied().collect()).unwrap_or_default()
    }

    /// Marks bundles as handed out, or as free again.
    pub fn set_frozen(&mut self, hashes: impl IntoIterator<Item = B256>, frozen: bool) {
        for hash in hashes {
            if let Some(entry) = self.entries.get_mut(&hash).filter(|entry| entry.frozen != frozen) {
                entry.frozen = frozen;
                self.revision += 1;
            }
        }
    }

    /// Takes out and names every bundle whose bounds have passed. What is handed out is left alone.
    pub fn expire(&mut self, heads: &Heads, now_s: u64) -> Vec<Entry> {
        let expired: Vec<B256> = self
            .entries
            .values()
            .filter(|entry| !entry.frozen)
            .filter(|entry| {
                has_expired(&entry.bundle, heads, now_s) || now_s > entry.received_s.saturating_add(self.limits.lifetime_s)
            })
            .map(|entry| entry.hash)
            .collect();
        expired.into_iter().filter_map(|hash| self.remove(hash)).collect()
    }

    /// Whether a pending transaction of `signer` has that nonce.
    pub fn has_nonce(&self, chain: ChainId, signer: Address, nonce: u64) -> bool {
        self.nonces.contains_key(&(chain, signer, nonce))
    }

    /// Whether an authorization (EIP-7702) in a pending transaction uses up that nonce of `authority`, whoever sends it.
    pub fn has_authorization(&self, chain: ChainId, authority: Address, nonce: u64) -> bool {
        self.authorized.contains_key(&(chain, authority, nonce))
    }

    /// Whether a pending transaction pays native assets to `account` directly.
    pub fn pays(&self, chain: ChainId, account: Address) -> bool {
        self.payees.contains_key(&(chain, account))
    }

    /// The nonce after all consecutive pending public transactions of an account that is at `nonce` now, its authorizations in
    /// public transactions of others among them. Bundles and private transactions are nobody else's to know, and may never land.
    pub fn next_nonce(&self, chain: ChainId, account: Address, nonce: u64) -> u64 {
        let public = |nonce: u64| {
            let key = (chain, account, nonce);
            let mut hashes = self.nonces.get(&key).into_iter().chain(self.authorized.get(&key)).flatten().copied();
            hashes.any(|hash| self.entries.get(&hash).is_some_and(|entry| entry.kind == Kind::Transaction))
        };
        (nonce..).find(|nonce| !public(*nonce)).unwrap_or(nonce)
    }

    fn replaces(&self, bundle: &Bundle, kind: Kind) -> Result<Vec<B256>, Reason> {
        let mut replaced = Vec::new();
        if let Some(replacement) = &bundle.replacement {
            let signer = bundle.signer.ok_or(Reason::ReplacementNeedsSigner)?;
            if let Some((current, hash)) = self.replacements.get(&(signer, replacement.uuid.clone())) {
                if replacement.nonce <= *current {
                    return Err(Reason::ReplacementNonceTooLow { nonce: replacement.nonce, current: *current });
                }
                replaced.extend(self.entries.contains_key(hash).then_some(*hash));
            }
        }
        if kind == Kind::Transaction
            && let Some(tx) = bundle.txs().next()
        {
            let same = bundle.legs.first().map(|leg| (leg.chain(), tx.tx.signer(), tx.tx.nonce()));
            for hash in same.and_then(|key| self.nonces.get(&key)).into_iter().flatten() {
                let Some(entry) = self.entries.get(hash).filter(|entry| entry.kind == Kind::Transaction) else { continue };
                if let Some(other) = entry.bundle.txs().next()
                    && !outbids(tx.tx.envelope(), other.tx.envelope(), self.limits.fee_bump_percent)
                {
                    return Err(Reason::ReplacementUnderpriced(self.limits.fee_bump_percent));
                }
                replaced.push(*hash);
            }
        }
        replaced.sort_unstable();
        replaced.dedup();
        if replaced.iter().any(|hash| self.entries.get(hash).is_some_and(|entry| entry.frozen)) {
            return Err(Reason::TooLate("proposed"));
        }
        Ok(replaced)
    }

    fn index(&mut self, bundle: &Bundle, hash: B256, add: bool) {
        update(&mut self.dialect, dialect_bundle_hash(bundle.txs().map(|tx| tx.tx.hash())), hash, add);
        for leg in &bundle.legs {
            for tx in leg.txs() {
                update(&mut self.nonces, (leg.chain(), tx.tx.signer(), tx.tx.nonce()), hash, add);
                for (authority, nonce) in tx.tx.authorities(leg.chain()) {
                    update(&mut self.authorized, (leg.chain(), authority, nonce), hash, add);
                }
                if let Some(payee) = payee(&tx.tx) {
                    update(&mut self.payees, (leg.chain(), payee), hash, add);
                }
            }
        }
        let (sender, gas) = (sender(bundle), gas_limit(bundle));
        let pending = self.senders.entry(sender).or_default();
        *pending = if add {
            Pending { bundles: pending.bundles + 1, gas: pending.gas.saturating_add(gas) }
        } else {
            Pending { bundles: pending.bundles.saturating_sub(1), gas: pending.gas.saturating_sub(gas) }
        };
        if pending.bundles == 0 {
            self.senders.remove(&sender);
        }
    }
}

fn update<K: Ord>(index: &mut BTreeMap<K, BTreeSet<B256>>, key: K, hash: B256, add: bool) {
    let set = index.entry(key);
    if add {
        set.or_default().insert(hash);
    } else if let std::collections::btree_map::Entry::Occupied(mut set) = set {
        set.get_mut().remove(&hash);
        if set.get().is_empty() {
            set.remove();
        }
    }
}

/// Who a bundle counts for: the signer of its first transaction, who has to have funds. Keys that sign requests are free, so
/// bundles of relays alone, which cost nobody anything, all count for the same nobody.
fn sender(bundle: &Bundle) -> Address {
    bundle.txs().next().map_or(Address::ZERO, |tx| tx.tx.signer())
}

fn outbids(new: &impl Transaction, old: &impl Transaction, percent: u64) -> bool {
    let raised = |fee: u128| fee.saturating_add(fee.saturating_mul(u128::from(percent)).div_ceil(100));
    let tip = |tx: &dyn Fn() -> Option<u128>, cap: u128| tx().unwrap_or(cap);
    new.max_fee_per_gas() >= raised(old.max_fee_per_gas())
        && tip(&|| new.max_priority_fee_per_gas(), new.max_fee_per_gas())
            >= raised(tip(&|| old.max_priority_fee_per_gas(), old.max_fee_per_gas()))
}

fn has_expired(bundle: &Bundle, heads: &Heads, now_s: u64) -> bool {
    bundle.max_timestamp.is_some_and(|max| max < now_s)
        || bundle.blocks.iter().any(|(chain, range)| heads.get(chain).is_some_and(|head| range.max <= head.number))
}

//! Whatever happens to a pool, its indexes agree with its entries, and its bounds hold.
//!
//! The seed is fixed, so that a run says something about the code and not about luck. `PROPTEST_CASES` sets another number of
//! cases, `PROPTEST_RNG_SEED` another seed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy_consensus::Transaction;
use alloy_primitives::{Address, B256};
use lockstep_pool::{Entry, Kind, Limits, Pool};
use lockstep_primitives::{
    BlockRange, Bundle, ChainId, Leg, LegTx, Place, Reason, Rejection, RevertMode, SignedTx, dialect_bundle_hash,
};
use lockstep_testkit::{Call, GWEI, bundle, gwei, user};
use proptest::{collection::vec, option, prelude::*, sample::select, test_runner::RngSeed};

use crate::support::{ETH, ETH_HEAD, NOW, OP, OP_HEAD, address, heads_at, replacing, signed_by};

type Checked = Result<(), TestCaseError>;
/// The replacement nonce that was used last, by signer and uuid.
type Used = BTreeMap<(Address, String), u64>;

const SEED: u64 = 20_261_122;
/// Few of everything, so that random choices meet.
const PEOPLE: usize = 3;
const NONCES: u64 = 4;
const UUIDS: [&str; 2] = ["one", "two"];
const CHAINS: [ChainId; 2] = [ETH, OP];

/// A failing case is reproduced by its seed, so that no file has to keep it.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(SEED),
        failure_persistence: None,
        max_shrink_iters: 256,
        ..ProptestConfig::default()
    }
}

fn limits() -> Limits {
    Limits { bundles: 6, bundles_per_sender: 3, lifetime_s: 20, ..Limits::default() }
}

/// Something that happens to a pool.
#[derive(Clone, Debug)]
enum Step {
    /// A bundle comes in.
    Insert(Plan),
    /// A pending bundle is taken out, by its number in the order of admission, counted in a circle.
    Remove(usize),
    /// A pending bundle is handed out, or free again.
    Freeze(usize, bool),
    /// Blocks are made and time passes.
    Expire { eth: u64, op: u64, seconds: u64 },
}

/// A bundle, and how it comes in.
#[derive(Clone, Debug)]
struct Plan {
    kind: Kind,
    txs: Vec<TxPlan>,
    signer: Option<usize>,
    identity: Option<(usize, u64)>,
    last_block: Option<u64>,
    last_second: Option<u64>,
}

/// A transaction.
#[derive(Clone, Debug)]
struct TxPlan {
    chain: ChainId,
    sender: usize,
    nonce: u64,
    payee: Option<usize>,
    /// In gwei.
    tip: u64,
}

impl TxPlan {
    fn sign(&self) -> Arc<SignedTx> {
        let call = match self.payee {
            Some(payee) => Call::pay(address(payee), gwei(1)),
            None => Call::contract(Address::repeat_byte(0xcc), Default::default(), 50_000),
        };
        call.sign(self.chain, user(self.sender), self.nonce, u128::from(self.tip) * GWEI)
    }
}

impl Plan {
    fn bundle(&self) -> Bundle {
        let mode = if self.kind == Kind::Transaction { RevertMode::Allow } else { RevertMode::Fail };
        let mut bundle = self.txs.iter().fold(bundle(), |recipe, plan| recipe.txs(plan.chain, [(plan.sign(), mode)])).build();
        if let Some(after) = self.last_block
            && let Some(chain) = bundle.legs.first().map(Leg::chain)
        {
            let head = if chain == ETH { ETH_HEAD } else { OP_HEAD };
            bundle.blocks.insert(chain, BlockRange { min: 0, max: head + after });
        }
        bundle.max_timestamp = self.last_second.map(|after| NOW + after);
        if let Some(signer) = self.signer {
            bundle = signed_by(bundle, address(signer));
        }
        if let Some((uuid, nonce)) = self.identity {
            bundle = replacing(bundle, UUIDS[uuid], nonce);
        }
        bundle
    }
}

fn tx() -> impl Strategy<Value = TxPlan> {
    let tip = select(vec![1_u64, 2, 4, 8]);
    (select(CHAINS.to_vec()), 0..PEOPLE, 0..NONCES, option::of(0..PEOPLE), tip)
        .prop_map(|(chain, sender, nonce, payee, tip)| TxPlan { chain, sender, nonce, payee, tip })
}

fn plan() -> impl Strategy<Value = Plan> {
    let bounds = || (option::weighted(0.3, 0_u64..8), option::weighted(0.3, 0_u64..40));
    let request = (option::weighted(0.7, 0..PEOPLE), option::weighted(0.5, (0..UUIDS.len(), 0_u64..5)));
    let in_a_bundle = (vec(tx(), 1..=3), request, bounds()).prop_map(|(txs, (signer, identity), (last_block, last_second))| {
        Plan { kind: Kind::Bundle, txs, signer, identity, last_block, last_second }
    });
    // Nobody signs the request of a single transaction.
    let kind = select(vec![Kind::Transaction, Kind::PrivateTransaction]);
    let alone = (tx(), kind, bounds()).prop_map(|(tx, kind, (last_block, last_second))| Plan {
        kind,
        txs: vec![tx],
        signer: None,
        identity: None,
        last_block,
        last_second,
    });
    prop_oneof![3 => in_a_bundle, 2 => alone]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => plan().prop_map(Step::Insert),
        2 => (0_usize..6).prop_map(Step::Remove),
        2 => (0_usize..6, any::<bool>()).prop_map(|(number, frozen)| Step::Freeze(number, frozen)),
        1 => (0_u64..3, 0_u64..3, 0_u64..12).prop_map(|(eth, op, seconds)| Step::Expire { eth, op, seconds }),
    ]
}

fn nth(pool: &Pool, number: usize) -> Option<B256> {
    let pending = pool.pending();
    (!pending.is_empty()).then(|| pending[number % pending.len()].hash)
}

fn frozen(pool: &Pool) -> BTreeSet<B256> {
    pool.pending().into_iter().filter(|entry| entry.frozen).map(|entry| entry.hash).collect()
}

proptest! {
    #![proptest_config(config(160))]

    #[test]
    fn the_indexes_agree_with_the_entries_and_the_bounds_hold(steps in vec(step(), 1..40)) {
        let mut pool = Pool::new(limits());
        let mut seen: Vec<(Arc<Bundle>, Kind)> = Vec::new();
        let mut used = Used::new();
        let (mut eth, mut op, mut now) = (ETH_HEAD, OP_HEAD, NOW);
        for (step, sequence) in steps.iter().zip(0..) {
            let before = frozen(&pool);
            match step {
                Step::Insert(plan) => {
                    let bundle = Arc::new(plan.bundle());
                    inserted(&mut pool, &bundle, plan.kind, sequence, now)?;
                    if pool.get(bundle.hash()).is_some() {
                        used.extend(identity(&bundle));
                    }
                    seen.push((bundle, plan.kind));
                    prop_assert!(frozen(&pool) == before, "what is handed out stays");
                }
                Step::Remove(number) => {
                    if let Some(hash) = nth(&pool, *number) {
                        prop_assert_eq!(pool.remove(hash).map(|entry| entry.hash), Some(hash));
                        prop_assert!(pool.remove(hash).is_none() && pool.get(hash).is_none());
                    }
                }
                Step::Freeze(number, frozen) => pool.set_frozen(nth(&pool, *number), *frozen),
                Step::Expire { eth: more_eth, op: more_op, seconds } => {
                    (eth, op, now) = (eth + more_eth, op + more_op, now + seconds);
                    let expired = pool.expire(&heads_at(eth, op), now);
                    prop_assert!(expired.iter().all(|entry| pool.get(entry.hash).is_none()));
                    prop_assert!(frozen(&pool) == before, "what is handed out stays");
                }
            }
            within_bounds(&pool)?;
        }
        as_the_entries_say(&pool, &seen)?;
        as_if_rebuilt(&pool, &seen, &used)?;
    }
}

/// Inserts a bundle and checks that what happens is what was announced.
fn inserted(pool: &mut Pool, bundle: &Arc<Bundle>, kind: Kind, sequence: u64, now: u64) -> Checked {
    let before = pool.len();
    let announced = pool.admit(bundle, kind);
    let done = pool.insert(Arc::clone(bundle), kind, sequence, now);
    prop_assert_eq!(&announced, &done);
    let gained = match &done {
        Ok(inserted) => {
            prop_assert_eq!(inserted.hash, bundle.hash());
            prop_assert!(pool.get(inserted.hash).is_some());
            prop_assert!(inserted.replaced.iter().all(|hash| pool.get(*hash).is_none()));
            prop_assert!(!inserted.known || inserted.replaced.is_empty());
            if inserted.known { 0 } else { 1 - isize::try_from(inserted.replaced.len()).expect("few are replaced") }
        }
        Err(_) => 0,
    };
    prop_assert_eq!(before.checked_add_signed(gained), Some(pool.len()));
    Ok(())
}

fn sender(bundle: &Bundle) -> Option<Address> {
    bundle.txs().next().map(|tx| tx.tx.signer())
}

fn within_bounds(pool: &Pool) -> Checked {
    let limits = limits();
    prop_assert!(pool.len() <= limits.bundles);
    for person in 0..PEOPLE {
        let count = pool.pending().iter().filter(|entry| sender(&entry.bundle) == Some(address(person))).count();
        prop_assert!(count <= limits.bundles_per_sender, "user {} has {} bundles", person, count);
    }
    Ok(())
}

fn dialect(bundle: &Bundle) -> B256 {
    dialect_bundle_hash(bundle.txs().map(|tx| tx.tx.hash()))
}

/// Whether a pending bundle has a transaction on a rollup like this.
fn any_tx(entries: &[&Entry], chain: ChainId, like: impl Fn(&LegTx) -> bool) -> bool {
    entries.iter().any(|entry| entry.bundle.legs.iter().any(|leg| leg.chain() == chain && leg.txs().iter().any(&like)))
}

/// Checks every answer against all the entries.
fn as_the_entries_say(pool: &Pool, seen: &[(Arc<Bundle>, Kind)]) -> Checked {
    let entries = pool.pending();
    prop_assert_eq!(entries.len(), pool.len());
    prop_assert!(entries.is_sorted_by_key(|entry| entry.sequence));
    for (bundle, _) in seen {
        let shared = dialect(bundle);
        let expected: BTreeSet<B256> =
            entries.iter().filter(|entry| dialect(&entry.bundle) == shared).map(|entry| entry.hash).collect();
        prop_assert_eq!(pool.by_dialect_hash(shared), expected.into_iter().collect::<Vec<_>>());
    }
    for (chain, person) in CHAINS.into_iter().flat_map(|chain| (0..PEOPLE).map(move |person| (chain, address(person)))) {
        for nonce in 0..=NONCES {
            let expected = any_tx(&entries, chain, |tx| tx.tx.signer() == person && tx.tx.nonce() == nonce);
            prop_assert_eq!(pool.has_nonce(chain, person, nonce), expected);
        }
        for nonce in 0..NONCES {
            let next = pool.next_nonce(chain, person, nonce);
            let public: Vec<&Entry> = entries.iter().copied().filter(|entry| entry.kind == Kind::Transaction).collect();
            let has = |nonce| any_tx(&public, chain, |tx| tx.tx.signer() == person && tx.tx.nonce() == nonce);
            prop_assert!((nonce..next).all(has));
            prop_assert!(next >= nonce && !has(next));
        }
        // Whoever is called here is paid, but for the contract, which is nobody.
        let expected = any_tx(&entries, chain, |tx| tx.tx.envelope().to() == Some(person));
        prop_assert_eq!(pool.pays(chain, person), expected);
    }
    for (uuid, person) in UUIDS.into_iter().flat_map(|uuid| (0..PEOPLE).map(move |person| (uuid, address(person)))) {
        let holder = entries.iter().find(|entry| {
            entry.bundle.signer == Some(person) && entry.bundle.replacement.as_ref().is_some_and(|named| named.uuid == uuid)
        });
        match (holder, pool.cancellable(person, uuid)) {
            (Some(entry), Ok(found)) => prop_assert!(!entry.frozen && found == Some(entry.hash)),
            (Some(entry), Err(_)) => prop_assert!(entry.frozen),
            (None, answer) => prop_assert_eq!(answer, Ok(None)),
        }
    }
    Ok(())
}

/// Whom a bundle may be replaced by, and with which nonce.
fn identity(bundle: &Bundle) -> Option<((Address, String), u64)> {
    let replacement = bundle.replacement.as_ref()?;
    Some(((bundle.signer?, replacement.uuid.clone()), replacement.nonce))
}

/// How a bundle is refused whose replacement nonce was used, whether or not what used it is still pending.
fn stale(pool: &Pool, bundle: &Bundle, used: &Used) -> Option<Rejection> {
    let (key, nonce) = identity(bundle).filter(|_| pool.get(bundle.hash()).is_none())?;
    let current = used.get(&key).copied().filter(|current| nonce <= *current)?;
    Some(Rejection::new(Place::BUNDLE, Reason::ReplacementNonceTooLow { nonce, current }))
}

/// Checks that a pool that holds the same from the beginning gives the same answers, but for what it does not remember.
fn as_if_rebuilt(pool: &Pool, seen: &[(Arc<Bundle>, Kind)], used: &Used) -> Checked {
    let mut rebuilt = Pool::new(pool.limits().clone());
    for entry in pool.pending() {
        let inserted = rebuilt.insert(Arc::clone(&entry.bundle), entry.kind, entry.sequence, entry.received_s);
        let inserted = inserted.map_err(|rejection| TestCaseError::fail(rejection.to_string()))?;
        prop_assert!(!inserted.known && inserted.replaced.is_empty());
    }
    rebuilt.set_frozen(frozen(pool), true);
    prop_assert_eq!(rebuilt.len(), pool.len());
    prop_assert_eq!(rebuilt.is_empty(), pool.is_empty());
    for (bundle, kind) in seen {
        // Replacement nonces are remembered longer than the bundles that had them.
        if bundle.replacement.is_none() {
            let expected = stale(pool, bundle, used).map_or_else(|| rebuilt.admit(bundle, *kind), Err);
            prop_assert_eq!(pool.admit(bundle, *kind), expected);
        }
        prop_assert_eq!(rebuilt.by_dialect_hash(dialect(bundle)), pool.by_dialect_hash(dialect(bundle)));
    }
    for person in (0..PEOPLE).map(address) {
        for chain in CHAINS {
            prop_assert_eq!(rebuilt.pays(chain, person), pool.pays(chain, person));
            for nonce in 0..NONCES {
                prop_assert_eq!(rebuilt.next_nonce(chain, person, nonce), pool.next_nonce(chain, person, nonce));
            }
        }
        for uuid in UUIDS {
            prop_assert_eq!(rebuilt.cancellable(person, uuid), pool.cancellable(person, uuid));
        }
    }
    // And both forget everything in the same way.
    let mut emptied = pool.clone();
    for entry in pool.pending() {
        emptied.remove(entry.hash);
    }
    prop_assert!(emptied.is_empty());
    for (bundle, kind) in seen.iter().filter(|(bundle, _)| bundle.replacement.is_none()) {
        let expected = stale(&emptied, bundle, used).map_or_else(|| Pool::new(limits()).admit(bundle, *kind), Err);
        prop_assert_eq!(emptied.admit(bundle, *kind), expected);
    }
    Ok(())
}

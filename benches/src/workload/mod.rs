//! Workloads: seeded bundles on rollups that are made for them.
//!
//! A [`Mix`] says which kinds of bundles there are and in which shares; [`Workload::draw`] makes the rollups, draws the
//! bundles and signs them. The same specification, mix, count and seed give the same bundles, byte for byte.

mod draw;
mod mix;
mod planted;
mod recorded;
pub(crate) mod users;
mod versions;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy_consensus::{SignableTransaction, TxEnvelope};
use alloy_primitives::B256;
use lockstep_building::{Candidate, Simulated, SlotView};
use lockstep_primitives::{Bundle, ChainId, Leg, LegTx, Relay, SignedTx};
use rayon::prelude::*;

use crate::{Failed, World, WorldSpec, rng::Rng};

use self::{
    draw::{Draws, Planned, Step},
    users::User,
};
pub use self::{
    mix::{Kind, Mix},
    planted::Planted,
    recorded::recorded_blocks,
    versions::raised,
};

/// The least gas limit that [`fitting`] leaves a block.
const LEAST_GAS: u64 = 1_000_000;

/// Bundles, and the slot that they are for.
#[derive(Clone, Debug)]
pub struct Workload {
    /// A short name.
    pub name: String,
    /// What is in it, for people.
    pub description: String,
    /// The slot.
    pub view: Arc<SlotView>,
    /// All bundles in the order in which they arrive, replaced ones included.
    pub candidates: Vec<Candidate>,
    /// Which bundle replaces which: the older by the newer.
    pub replaces: BTreeMap<B256, B256>,
}

impl Workload {
    /// Makes rollups and draws bundles for them.
    ///
    /// # Errors
    /// When the rollups cannot be made, or the mix needs more of them than there are.
    pub fn draw(spec: &WorldSpec, mix: &Mix, count: usize, seed: u64) -> Result<Self, Failed> {
        let mut world = World::found(spec.clone())?;
        // No bundle has more than one sender of its own.
        let users = users::derive(count)?;
        let planned = Draws::new(&mut world, &users, mix, seed)?.take(count)?;
        let description = format!("{count} bundles on {} rollups, seed {seed}: {}", spec.rollups, mix.description());
        let view = Arc::new(world.into_view());
        let candidates: Vec<Candidate> = planned
            .par_iter()
            .enumerate()
            .map(|(index, planned)| {
                let bundle = sign(planned, &users)?;
                Ok(Candidate { hash: bundle.hash(), bundle: Arc::new(bundle), sequence: index as u64 })
            })
            .collect::<Result<_, Failed>>()?;
        let replaces = planned
            .iter()
            .zip(&candidates)
            .filter_map(|(planned, newer)| Some((newer.hash, candidates.get(planned.replaces?)?.hash)))
            .collect();
        Ok(Self { name: mix.name().to_owned(), description, view, candidates, replaces })
    }

    /// The bundles that nothing replaced, in the order in which they arrived.
    pub fn pending(&self) -> Vec<Candidate> {
        let replaced: BTreeSet<B256> = self.replaces.values().copied().collect();
        self.candidates.iter().filter(|candidate| !replaced.contains(&candidate.hash)).cloned().collect()
    }
}

/// The same slot with room for that many thousandths of the gas that all bundles use together, rollup by rollup.
///
/// Bundles that are blocked alone count for nothing.
pub fn fitting(view: &SlotView, simulated: &[Simulated], permille: u64) -> SlotView {
    let mut wanted: BTreeMap<ChainId, u64> = BTreeMap::new();
    for entry in simulated.iter().filter(|entry| entry.attempt.blocked.is_none()) {
        for (chain, gas) in &entry.attempt.run.gas {
            let sum = wanted.entry(*chain).or_default();
            *sum = sum.saturating_add(*gas);
        }
    }
    let mut view = view.clone();
    for (chain, rollup) in &mut view.rollups {
        let gas = u128::from(wanted.get(chain).copied().unwrap_or_default()) * u128::from(permille) / 1_000;
        let limit = u64::try_from(gas).unwrap_or(u64::MAX).max(LEAST_GAS);
        for plan in &mut Arc::make_mut(&mut rollup.slot).blocks {
            plan.next.gas_limit = limit;
        }
    }
    view
}

/// Puts things into an order that says nothing (Fisher and Yates).
pub(crate) fn shuffle<T>(things: &mut [T], rng: &mut Rng) {
    for last in (1..things.len()).rev() {
        things.swap(last, rng.index(last + 1));
    }
}

/// Signs what was drawn.
fn sign(planned: &Planned, users: &[User]) -> Result<Bundle, Failed> {
    let mut bundle = Bundle { replacement: planned.replacement.clone(), signer: planned.signer, ..Bundle::default() };
    for step in &planned.steps {
        bundle.legs.push(match step {
            Step::Relay { chain, leg } => Leg::Relay { chain: *chain, relay: Relay::Emitted { leg: *leg, message: 0 } },
            Step::Tx { user, tx, mode } => {
                let user = users.get(*user).ok_or("a transaction of a user who does not exist")?;
                let signature = user.sign(tx.signature_hash())?;
                let signed = SignedTx::from_parts(TxEnvelope::from(tx.clone().into_signed(signature)), user.address);
                Leg::Txs { chain: tx.chain_id, txs: vec![LegTx { tx: Arc::new(signed), mode: *mode }] }
            }
        });
    }
    Ok(bundle)
}

#[cfg(test)]
mod tests {
    use lockstep_building::simulate_all;

    use super::*;

    fn small() -> WorldSpec {
        WorldSpec { pools: 8, ..WorldSpec::default() }
    }

    fn hashes(workload: &Workload) -> Vec<B256> {
        workload.candidates.iter().map(|candidate| candidate.hash).collect()
    }

    #[test]
    fn a_seed_gives_the_same_bundles_every_time_and_another_seed_gives_others() {
        let draw = |seed| Workload::draw(&small(), &Mix::everything(), 40, seed).unwrap();
        let first = draw(7);
        assert_eq!(hashes(&first), hashes(&draw(7)));
        assert_ne!(hashes(&first), hashes(&draw(8)));
        let distinct: BTreeSet<B256> = hashes(&first).into_iter().collect();
        assert_eq!(distinct.len(), 40);
    }

    #[test]
    fn every_kind_does_alone_what_it_is_for() {
        for kind in Kind::ALL {
            let workload = Workload::draw(&small(), &Mix::only(kind), 8, 1).unwrap();
            let simulated = simulate_all(&workload.view, &workload.candidates).unwrap();
            assert_eq!(simulated.len(), 8, "{kind:?}");
            for (index, entry) in simulated.iter().enumerate() {
                let blocked = entry.attempt.blocked.as_ref().map(ToString::to_string);
                match kind {
                    Kind::Spam => assert!(blocked.is_some_and(|text| text.contains("spam")), "{kind:?} {index}"),
                    // Only the first of a chain can run before the others.
                    Kind::NonceChain if index % draw::CHAIN_LENGTH > 0 => assert!(blocked.is_some(), "{kind:?} {index}"),
                    _ => {
                        assert_eq!(blocked, None, "{kind:?} {index}");
                        assert!(entry.attempt.run.value.is_positive(), "{kind:?} {index} is worth something");
                    }
                }
            }
        }
    }

    #[test]
    fn signers_are_who_their_signatures_recover() {
        let workload = Workload::draw(&small(), &Mix::everything(), 20, 3).unwrap();
        for tx in workload.candidates.iter().flat_map(|candidate| candidate.bundle.txs()) {
            let decoded = SignedTx::decode(tx.tx.raw().clone()).unwrap();
            assert_eq!(decoded, *tx.tx);
        }
    }

    #[test]
    fn only_the_last_version_of_a_bundle_is_pending() {
        let workload = Workload::draw(&small(), &Mix::only(Kind::Replacement), 10, 1).unwrap();
        assert_eq!(workload.candidates.len(), 10);
        let pending = workload.pending();
        // Versions come in storms, the last of which is cut short.
        assert_eq!(pending.len(), 10_usize.div_ceil(draw::VERSIONS));
        for (newer, older) in &workload.replaces {
            let find = |hash: &B256| workload.candidates.iter().find(|candidate| candidate.hash == *hash).unwrap();
            let (newer, older) = (find(newer), find(older));
            assert_eq!(newer.bundle.signer, older.bundle.signer);
            let (new, old) = (newer.bundle.replacement.as_ref().unwrap(), older.bundle.replacement.as_ref().unwrap());
            assert_eq!((&new.uuid, new.nonce), (&old.uuid, old.nonce + 1));
        }
    }

    #[test]
    fn room_is_a_share_of_the_gas_that_all_bundles_use() {
        let workload = Workload::draw(&small(), &Mix::only(Kind::Transfer), 400, 1).unwrap();
        let simulated = simulate_all(&workload.view, &workload.candidates).unwrap();
        let view = fitting(&workload.view, &simulated, 900);
        let limits: u64 = view.rollups.values().map(|rollup| rollup.slot.blocks[0].next.gas_limit).sum();
        let used: u64 = simulated.iter().flat_map(|entry| entry.attempt.run.gas.values()).sum();
        assert!(limits <= used * 9 / 10 && limits + 4 > used * 9 / 10, "{limits} of {used}");
    }

    #[test]
    fn a_mix_that_needs_more_rollups_than_there_are_is_refused() {
        let spec = WorldSpec { rollups: 2, ..small() };
        let error = Workload::draw(&spec, &Mix::only(Kind::FourRollups), 4, 1).unwrap_err().to_string();
        assert!(error.contains("4 rollups"), "{error}");
        let spec = WorldSpec { pools: 0, ..small() };
        let error = Workload::draw(&spec, &Mix::only(Kind::ColdSwap), 4, 1).unwrap_err().to_string();
        assert!(error.contains("pools"), "{error}");
    }
}

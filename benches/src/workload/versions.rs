//! Newer versions of bundles.

use std::{collections::BTreeMap, sync::Arc};

use alloy_consensus::{SignableTransaction, TxEnvelope};
use alloy_primitives::Address;
use lockstep_building::Candidate;
use lockstep_primitives::{Bundle, Leg, LegTx, SignedTx};

use super::users::{self, User};
use crate::{Failed, rng::Rng};

/// The most by which a newer version tips more, in per cent.
const RAISE: u64 = 50;

/// A newer version of each bundle, in their order: the same transactions, which tip 1 to 50 % more. Sequence numbers go on from
/// `first`. The bundles are those of a workload of `count` bundles, whose senders are known by that.
///
/// # Errors
/// When a transaction is not of one of these senders, or offers no tip of its own (EIP-1559).
pub fn raised(candidates: &[Candidate], count: usize, first: u64, seed: u64) -> Result<Vec<Candidate>, Failed> {
    let users: BTreeMap<Address, User> = users::derive(count)?.into_iter().map(|user| (user.address, user)).collect();
    let mut rng = Rng::new(seed);
    let mut newer = Vec::with_capacity(candidates.len());
    for (sequence, candidate) in (first..).zip(candidates) {
        let percent = u128::from(1 + rng.below(RAISE));
        let legs = candidate.bundle.legs.iter().map(|leg| raised_leg(leg, &users, percent));
        let bundle = Bundle { legs: legs.collect::<Result<_, Failed>>()?, ..Bundle::clone(&candidate.bundle) };
        newer.push(Candidate { hash: bundle.hash(), bundle: Arc::new(bundle), sequence });
    }
    Ok(newer)
}

fn raised_leg(leg: &Leg, users: &BTreeMap<Address, User>, percent: u128) -> Result<Leg, Failed> {
    let Leg::Txs { chain, txs } = leg else { return Ok(leg.clone()) };
    let txs = txs.iter().map(|leg_tx| Ok(LegTx { tx: Arc::new(raised_tx(&leg_tx.tx, users, percent)?), mode: leg_tx.mode }));
    Ok(Leg::Txs { chain: *chain, txs: txs.collect::<Result<_, Failed>>()? })
}

fn raised_tx(before: &SignedTx, users: &BTreeMap<Address, User>, percent: u128) -> Result<SignedTx, Failed> {
    let TxEnvelope::Eip1559(signed) = before.envelope() else {
        return Err(format!("transaction {} offers no tip of its own", before.hash()).into());
    };
    let user = users.get(&before.signer()).ok_or_else(|| format!("nobody knows the sender of {}", before.hash()))?;
    let mut tx = signed.tx().clone();
    let more = (tx.max_priority_fee_per_gas * percent / 100).max(1);
    tx.max_priority_fee_per_gas += more;
    tx.max_fee_per_gas += more;
    let signature = user.sign(tx.signature_hash())?;
    Ok(SignedTx::from_parts(TxEnvelope::from(tx.into_signed(signature)), user.address))
}

#[cfg(test)]
mod tests {
    use lockstep_building::simulate_all;

    use super::*;
    use crate::{
        WorldSpec,
        workload::{Kind, Mix, Workload},
    };

    #[test]
    fn a_newer_version_does_the_same_for_more() {
        let spec = WorldSpec { rollups: 2, pools: 0, ..WorldSpec::default() };
        let mix = Mix::new("both", &[(Kind::Transfer, 500), (Kind::Cctp, 500)]);
        let workload = Workload::draw(&spec, &mix, 12, 1).unwrap();
        let newer = raised(&workload.candidates, 12, 12, 7).unwrap();
        let old = simulate_all(&workload.view, &workload.candidates).unwrap();
        let new = simulate_all(&workload.view, &newer).unwrap();
        for (old, new) in old.iter().zip(&new) {
            assert_ne!(old.candidate.hash, new.candidate.hash);
            assert_eq!(new.candidate.sequence, old.candidate.sequence + 12);
            assert!(new.attempt.blocked.is_none() && new.attempt.run.value > old.attempt.run.value);
            let nonces = |candidate: &Candidate| {
                candidate.bundle.txs().map(|tx| (tx.tx.signer(), tx.tx.chain_id(), tx.tx.nonce())).collect::<Vec<_>>()
            };
            assert_eq!(nonces(&old.candidate), nonces(&new.candidate));
        }
    }

    #[test]
    fn a_sender_who_is_not_known_is_told() {
        let spec = WorldSpec { rollups: 2, pools: 0, ..WorldSpec::default() };
        let workload = Workload::draw(&spec, &Mix::only(Kind::Transfer), 4, 1).unwrap();
        let error = raised(&workload.candidates, 1, 4, 1).unwrap_err().to_string();
        assert!(error.contains("nobody knows"), "{error}");
    }
}

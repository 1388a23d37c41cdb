//! Only a rollup's sequencer speaks for it, and never twice with the same nonce.

use alloy::signers::local::PrivateKeySigner;
use alloy_primitives::{Address, U256};
use lockstep_market::{
    MAX_CLUSTER_MEMBERS, MAX_SELLERS, MAX_SLOTS_AHEAD, MAX_URL_BYTES, MarketError, Registry, VersionError, Versions,
};
use lockstep_primitives::{ChainId, MAX_INCLUSION, OrderingPolicy, Registration, ReserveRule, RollupSet};

use crate::fixtures::{key, sign};

fn registration(chain: ChainId, sequencer: &PrivateKeySigner, nonce: u64) -> Registration {
    Registration {
        chain,
        sequencer: sequencer.address(),
        sequencer_url: "http://localhost:1".to_owned(),
        default_proposer: sequencer.address(),
        payout: sequencer.address(),
        active: true,
        slots_ahead: 0,
        cluster: [chain].into(),
        reserve: ReserveRule::Fixed(U256::from(100 + nonce)),
        block_time: 2,
        block_anchor: 0,
        holds: true,
        fee_share_bps: 10_000,
        ordering: OrderingPolicy::Free,
        inclusion: 0,
        same_slot_claims: false,
        follows_l1: false,
        encrypted_gas: 0,
        from_slot: 0,
        nonce,
    }
}

fn register(registry: &mut Registry, registration: Registration, signer: &PrivateKeySigner) -> Result<(), MarketError> {
    register_from(registry, registration, signer, 0)
}

fn register_from(
    registry: &mut Registry,
    registration: Registration,
    signer: &PrivateKeySigner,
    earliest: u64,
) -> Result<(), MarketError> {
    let signature = sign(signer, registration.digest());
    registry.register(registration, &signature, earliest).map(|_| ())
}

#[test]
fn terms_hold_from_their_slot_on() {
    let (mut registry, sequencer) = (Registry::new(), key(1));
    assert!(registry.is_empty());
    // The first one holds as soon as may be.
    register_from(&mut registry, registration(10, &sequencer, 0), &sequencer, 5).unwrap();
    assert_eq!((registry.at(10, 4), registry.at(10, 5).map(|terms| terms.nonce)), (None, Some(0)));
    let later = Registration { from_slot: 9, ..registration(10, &sequencer, 5) };
    register_from(&mut registry, later, &sequencer, 8).unwrap();
    assert_eq!([8, 9, 99].map(|slot| registry.at(10, slot).unwrap().nonce), [0, 5, 5]);
    assert_eq!(registry.len(), 1);

    let late = Registration { from_slot: 9, ..registration(10, &sequencer, 6) };
    let refused = register_from(&mut registry, late, &sequencer, 10);
    assert_eq!(refused, Err(MarketError::Terms(VersionError::TooSoon { chain: 10, from_slot: 9, earliest: 10 })));
    for nonce in [4, 5] {
        let again = Registration { from_slot: 20, ..registration(10, &sequencer, nonce) };
        let refused = register_from(&mut registry, again, &sequencer, 10);
        assert_eq!(refused, Err(MarketError::Terms(VersionError::NonceTooLow { chain: 10, nonce, current: 5 })));
    }
    assert_eq!(registry.at(10, 99).unwrap().nonce, 5);
    let clusters = registry.clusters_at(9);
    assert_eq!(clusters, [(10, RollupSet::from([10]))].into());
    assert!(registry.clusters_at(4).is_empty());

    let stored: Vec<Versions<Registration>> = registry.versions().cloned().collect();
    assert_eq!(Registry::restore(stored), Ok(registry));
}

#[test]
fn nobody_else_registers_for_it() {
    let (mut registry, sequencer, thief) = (Registry::new(), key(1), key(2));
    let refused = register(&mut registry, registration(10, &sequencer, 0), &thief);
    let (expected, signer) = (sequencer.address(), thief.address());
    assert_eq!(refused, Err(MarketError::WrongSigner { chain: 10, sequencer: expected, signer }));

    register(&mut registry, registration(10, &sequencer, 0), &sequencer).unwrap();
    let refused = register(&mut registry, registration(10, &thief, 1), &thief);
    assert_eq!(refused, Err(MarketError::SequencerChanged { chain: 10, registered: expected, sequencer: signer }));

    let refused = registry.register(registration(11, &sequencer, 0), &[0; 64], 0);
    assert_eq!(refused, Err(MarketError::InvalidRegistrationSignature { chain: 11 }));
    assert_eq!(registry.len(), 1);
}

#[test]
fn terms_without_a_meaning_are_refused() {
    let (mut registry, sequencer) = (Registry::new(), key(1));
    let good = registration(10, &sequencer, 0);
    let crowd: RollupSet = (0..=MAX_CLUSTER_MEMBERS as u64).collect();
    let bad = [
        (Registration { block_time: 0, ..good.clone() }, "zero_block_time"),
        (Registration { fee_share_bps: 10_001, ..good.clone() }, "fee_share_too_large"),
        (Registration { sequencer_url: "x".repeat(MAX_URL_BYTES + 1), ..good.clone() }, "url_too_long"),
        (Registration { payout: Address::ZERO, ..good.clone() }, "zero_address"),
        (Registration { default_proposer: Address::ZERO, ..good.clone() }, "zero_address"),
        (Registration { cluster: [11].into(), ..good.clone() }, "not_in_cluster"),
        (Registration { cluster: crowd, ..good.clone() }, "too_many_members"),
        (Registration { inclusion: MAX_INCLUSION as u64 + 1, ..good.clone() }, "inclusion_too_large"),
        (Registration { slots_ahead: MAX_SLOTS_AHEAD + 1, ..good.clone() }, "slots_ahead_too_large"),
        (Registration { reserve: ReserveRule::Fixed(U256::MAX), ..good }, "reserve_too_large"),
    ];
    for (registration, code) in bad {
        assert_eq!(register(&mut registry, registration, &sequencer).unwrap_err().code(), code);
    }
    assert!(registry.is_empty());
}

#[test]
fn a_full_registry_still_takes_changes() {
    let (mut registry, sequencer) = (Registry::new(), key(1));
    for chain in 0..MAX_SELLERS as u64 {
        register(&mut registry, registration(chain, &sequencer, 0), &sequencer).unwrap();
    }
    let refused = register(&mut registry, registration(99, &sequencer, 0), &sequencer);
    assert_eq!(refused, Err(MarketError::TooManySellers { limit: MAX_SELLERS }));
    register(&mut registry, registration(3, &sequencer, 1), &sequencer).unwrap();
    let chains: Vec<ChainId> = registry.all_at(0).map(|registration| registration.chain).collect();
    assert_eq!(chains, (0..MAX_SELLERS as u64).collect::<Vec<_>>());
}

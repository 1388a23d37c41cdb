//! Only a rollup's sequencer speaks for it, and never twice with the same nonce.

use alloy::signers::local::PrivateKeySigner;
use alloy_primitives::U256;
use lockstep_market::{MAX_SELLERS, MAX_URL_BYTES, MarketError, Registry, Terms};
use lockstep_primitives::{ChainId, OrderingPolicy, Registration};

use crate::fixtures::{key, sign};

fn registration(chain: ChainId, sequencer: &PrivateKeySigner, nonce: u64) -> Registration {
    Registration {
        chain,
        reserve: U256::from(100 + nonce),
        sequencer: sequencer.address(),
        sequencer_url: "http://localhost:1".to_owned(),
        block_time: 2,
        holds: true,
        fee_share_bps: 10_000,
        same_slot_claims: false,
        ordering: OrderingPolicy::Free,
        nonce,
    }
}

fn register(registry: &mut Registry, registration: Registration, signer: &PrivateKeySigner) -> Result<(), MarketError> {
    let signature = sign(signer, registration.digest());
    registry.register(registration, &signature)
}

#[test]
fn the_sequencer_registers_and_changes_its_terms() {
    let (mut registry, sequencer) = (Registry::new(), key(1));
    assert!(registry.is_empty());
    register(&mut registry, registration(10, &sequencer, 0), &sequencer).unwrap();
    register(&mut registry, registration(10, &sequencer, 5), &sequencer).unwrap();
    assert_eq!(registry.len(), 1);
    let current = registry.get(10).unwrap();
    assert_eq!(current, &registration(10, &sequencer, 5));
    assert_eq!(Terms::from(current), Terms { reserve: U256::from(105), default_proposer: sequencer.address() });

    for nonce in [4, 5] {
        let refused = register(&mut registry, registration(10, &sequencer, nonce), &sequencer);
        assert_eq!(refused, Err(MarketError::RegistrationNonceTooLow { chain: 10, nonce, current: 5 }));
    }
    assert_eq!(registry.get(10), Some(&registration(10, &sequencer, 5)));
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

    let refused = registry.register(registration(11, &sequencer, 0), &[0; 64]);
    assert_eq!(refused, Err(MarketError::InvalidRegistrationSignature { chain: 11 }));
    assert_eq!(registry.len(), 1);
}

#[test]
fn terms_without_a_meaning_are_refused() {
    let (mut registry, sequencer) = (Registry::new(), key(1));
    let good = registration(10, &sequencer, 0);
    let bad = [
        (Registration { block_time: 0, ..good.clone() }, "zero_block_time"),
        (Registration { fee_share_bps: 10_001, ..good.clone() }, "fee_share_too_large"),
        (Registration { sequencer_url: "x".repeat(MAX_URL_BYTES + 1), ..good }, "url_too_long"),
    ];
    for (registration, code) in bad {
        assert_eq!(register(&mut registry, registration, &sequencer).unwrap_err().code(), code);
    }
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
    let chains: Vec<ChainId> = registry.iter().map(|registration| registration.chain).collect();
    assert_eq!(chains, (0..MAX_SELLERS as u64).collect::<Vec<_>>());
}

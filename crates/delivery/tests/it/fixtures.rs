//! A small valid prepare.

use alloy_primitives::{B256, Bytes};
use lockstep_delivery::{ExpectedBlock, Prepare, PreparedList};
use lockstep_primitives::{BlockList, ChainId, ListBlock};

/// When the fixture's decision is due.
pub(crate) const T_DECIDE: u64 = 1000;
/// When the fixture is published.
pub(crate) const T_PUBLISH: u64 = 2000;

/// A prepare of slot 7, attempt 0; another `salt` gives another digest.
pub(crate) fn prepare(chain: ChainId, participants: &[ChainId], salt: u8) -> Prepare {
    Prepare {
        chain,
        slot: 7,
        attempt: 0,
        parent_hash: B256::with_last_byte(salt),
        forced_prefix: B256::ZERO,
        with_cross: list(chain, 2),
        without_cross: list(chain, 1),
        participants: participants.iter().copied().collect(),
        holds: true,
        beneficiary: None,
        t_decide_ms: T_DECIDE,
        t_publish_ms: T_PUBLISH,
    }
}

fn list(chain: ChainId, transactions: usize) -> PreparedList {
    let transactions = vec![Bytes::from_static(&[1]); transactions];
    PreparedList {
        list: BlockList { chain, blocks: vec![ListBlock { number: 10, timestamp: 84, transactions }] },
        expected: vec![ExpectedBlock { number: 10, gas_used: 21_000, receipts_root: B256::ZERO, must_succeed: vec![0] }],
        requirements: Vec::new(),
    }
}

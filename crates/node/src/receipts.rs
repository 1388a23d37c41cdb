//! What the builder puts its name to about how a bundle ended.

use lockstep_primitives::{BundleReceipt, BundleState, Guarantee, LandedTransaction, Outcome};
use lockstep_rpc::wire::BundleStatus;

/// How a bundle ended; `None` while it has not.
pub(crate) fn receipt(state: BundleState, level: Guarantee, status: &BundleStatus) -> Option<BundleReceipt> {
    let outcome = Outcome::of(state)?;
    let last = status.history.last();
    let mut transactions = Vec::new();
    for (leg, landed) in (0..).zip(&status.legs) {
        for tx in &landed.transactions {
            // What is in no block is not on its chain.
            let (Some(block_hash), Some(number), Some(index)) = (tx.block_hash, tx.block_number, tx.index) else { continue };
            transactions.push(LandedTransaction {
                chain: landed.chain_id.to(),
                leg,
                hash: tx.transaction_hash,
                block_hash,
                block_number: number.to(),
                index: index.to(),
                success: tx.success.unwrap_or_default(),
            });
        }
    }
    Some(BundleReceipt {
        bundle: status.bundle_hash,
        outcome,
        slot: status.history.iter().rev().find_map(|event| event.slot),
        level,
        transactions,
        reason: last.and_then(|event| event.reason.clone()).unwrap_or_default(),
        at_ms: last.map_or(0, |event| event.at_ms),
    })
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{B256, U64};
    use lockstep_rpc::wire::{Event, LandedTx, LegStatus};

    use super::*;

    fn status() -> BundleStatus {
        let event = |at_ms, state: BundleState, slot, reason: Option<&str>| Event {
            at_ms,
            state: state.to_string(),
            slot,
            reason: reason.map(str::to_owned),
            text: None,
        };
        let tx = |block: Option<u64>| LandedTx {
            transaction_hash: B256::repeat_byte(1),
            block_number: block.map(U64::from),
            block_hash: block.map(|_| B256::repeat_byte(2)),
            index: block.map(|_| U64::from(3)),
            success: block.map(|_| true),
        };
        BundleStatus {
            bundle_hash: B256::repeat_byte(9),
            rollups: Vec::new(),
            state: String::new(),
            level: String::new(),
            history: vec![
                event(1, BundleState::Received, None, None),
                event(2, BundleState::Published, Some(7), None),
                event(5, BundleState::Breached, None, Some("leg_missing")),
            ],
            blocked: None,
            legs: vec![
                LegStatus { chain_id: U64::from(901), transactions: vec![tx(Some(4)), tx(None)] },
                LegStatus { chain_id: U64::from(902), transactions: vec![tx(Some(5))] },
            ],
        }
    }

    #[test]
    fn a_receipt_says_what_is_in_blocks_and_nothing_else() {
        let receipt = receipt(BundleState::Breached, Guarantee::G2, &status()).unwrap();
        assert_eq!((receipt.outcome, receipt.level), (Outcome::Partial, Guarantee::G2));
        assert_eq!((receipt.slot, receipt.at_ms, receipt.reason.as_str()), (Some(7), 5, "leg_missing"));
        let places: Vec<(u64, u64, u64)> = receipt.transactions.iter().map(|tx| (tx.chain, tx.leg, tx.block_number)).collect();
        assert_eq!(places, [(901, 0, 4), (902, 1, 5)]);
    }

    #[test]
    fn what_may_still_land_has_none() {
        for state in [BundleState::Received, BundleState::Pending, BundleState::Published] {
            assert_eq!(receipt(state, Guarantee::G1, &status()), None);
        }
    }
}

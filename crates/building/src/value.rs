//! What a bundle is worth to the proposer.

use alloy_primitives::{Address, I256, U256};
use lockstep_primitives::{Price, to_signed};
use lockstep_simulation::{PendingBlock, TxFees};

use crate::BuildError;

const BPS: u64 = 10_000;

/// The proposer's gain on one rollup in wei: the rise of its own balance, which holds payments to it and the gas of its
/// relays, plus its share of the protocol fees that do not already go to it.
///
/// Under Ethereum rules the base fee is burned; on the OP stack it goes to a vault that the rollup owns.
pub(crate) fn gain(
    block: &PendingBlock,
    proposer: Address,
    balance_change: I256,
    fees: TxFees,
    fee_share_bps: u64,
) -> Result<I256, BuildError> {
    let context = block.context();
    let priority = if context.beneficiary == proposer { U256::ZERO } else { fees.priority };
    let retained = if context.rules.is_op_stack() { fees.base } else { U256::ZERO };
    let shared = priority
        .checked_add(retained)
        .and_then(|fees| fees.checked_mul(U256::from(fee_share_bps)))
        .map(|fees| fees / U256::from(BPS))
        .and_then(to_signed)
        .ok_or(BuildError::Overflow)?;
    balance_change.checked_add(shared).ok_or(BuildError::Overflow)
}

/// The gain in the numeraire.
pub(crate) fn weigh(gain: I256, price: Price) -> Result<I256, BuildError> {
    price.weigh(gain).ok_or(BuildError::Overflow)
}

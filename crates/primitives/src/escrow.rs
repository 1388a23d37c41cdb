//! What the market signs for its escrow: batches that move money between accounts, and let some go.

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::{Eip712Domain, SolCall, SolStruct, eip712_domain, sol};

use crate::ChainId;

mod eip712 {
    use super::sol;

    sol! {
        struct Change {
            address account;
            uint256 debit;
            uint256 credit;
        }

        struct Payout {
            uint256 withdrawal;
            address account;
            address to;
            uint256 amount;
        }

        struct Batch {
            uint64 number;
            uint256 deposits;
            Change[] changes;
            Payout[] payouts;
        }

        function settle(Batch calldata batch, bytes calldata signature) external;
    }
}

/// Money that moved between accounts: one of the two amounts is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EscrowChange {
    /// Whose.
    pub account: Address,
    /// What it has less.
    pub debit: U256,
    /// What it has more.
    pub credit: U256,
}

/// Money that the market lets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EscrowPayout {
    /// The number of the withdrawal.
    pub withdrawal: u64,
    /// Whose.
    pub account: Address,
    /// Where it goes.
    pub to: Address,
    /// How much.
    pub amount: U256,
}

/// What happened in the market's books since the batch before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EscrowBatch {
    /// Counts batches from 0.
    pub number: u64,
    /// How many deposits the market had credited.
    pub deposits: u64,
    /// By account, ascending. Debits and credits have the same sum.
    pub changes: Vec<EscrowChange>,
    /// By number, ascending.
    pub payouts: Vec<EscrowPayout>,
}

impl EscrowBatch {
    /// The EIP-712 digest that the market signs for an escrow contract: of the domain `LockstepEscrow`, version 1.
    pub fn digest(&self, chain: ChainId, contract: Address) -> B256 {
        let domain: Eip712Domain =
            eip712_domain! { name: "LockstepEscrow", version: "1", chain_id: chain, verifying_contract: contract, };
        self.encoded().eip712_signing_hash(&domain)
    }

    /// The input of the contract's `settle`: the batch with the market's signature, 65 bytes r || s || v.
    pub fn settle_input(&self, signature: Bytes) -> Bytes {
        eip712::settleCall { batch: self.encoded(), signature }.abi_encode().into()
    }

    fn encoded(&self) -> eip712::Batch {
        let change =
            |change: &EscrowChange| eip712::Change { account: change.account, debit: change.debit, credit: change.credit };
        let payout = |payout: &EscrowPayout| eip712::Payout {
            withdrawal: U256::from(payout.withdrawal),
            account: payout.account,
            to: payout.to,
            amount: payout.amount,
        };
        eip712::Batch {
            number: self.number,
            deposits: U256::from(self.deposits),
            changes: self.changes.iter().map(change).collect(),
            payouts: self.payouts.iter().map(payout).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{address, b256};

    use super::*;

    /// The digest that ethers' `TypedDataEncoder.hash` gives, which the contract's own tests compare with its `digest`.
    #[test]
    fn the_digest_is_that_of_the_contract() {
        let (a, b) = (Address::with_last_byte(1), Address::with_last_byte(2));
        let batch = EscrowBatch {
            number: 3,
            deposits: 5,
            changes: vec![
                EscrowChange { account: a, debit: U256::from(7), credit: U256::ZERO },
                EscrowChange { account: b, debit: U256::ZERO, credit: U256::from(7) },
            ],
            payouts: vec![EscrowPayout { withdrawal: 9, account: b, to: a, amount: U256::from(4) }],
        };
        let contract = address!("00000000000000000000000000000000000000cc");
        assert_eq!(batch.digest(901, contract), b256!("a7d990e98997c72dacc7d0a5e1a201d5daad614dee09a08e5e930b6c22a20d5e"));
    }
}

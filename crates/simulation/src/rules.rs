//! Which rules hold in a block. What they are is said by their [`Stack`].

use std::ops::RangeInclusive;

use alloy_eips::eip7840::BlobParams;
use alloy_primitives::Bytes;
use lockstep_primitives::TxRules;

use crate::{
    EthereumFork, FeeAccounts, HeaderRules, OpFork,
    stack::{Stack, ethereum, op},
};

/// The rules of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// An Ethereum-rules rollup, or Ethereum itself.
    Ethereum(EthereumFork),
    /// An OP-stack rollup.
    OpStack(OpFork),
}

/// Why the rules of a block, or its environment, cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// Before the first fork that is supported.
    #[error("no supported rules hold at timestamp {0}")]
    TooEarly(u64),
    /// The parent's extraData does not hold EIP-1559 parameters (OP stack, Holocene and later).
    #[error("the parent's extraData {0} does not hold EIP-1559 parameters")]
    ExtraData(Bytes),
    /// A field that the rules demand is absent.
    #[error("the rules demand {0}")]
    Absent(&'static str),
}

impl Rules {
    pub(crate) fn stack(self) -> &'static dyn Stack {
        match self {
            Self::Ethereum(fork) => ethereum::stack(fork),
            Self::OpStack(fork) => op::stack(fork),
        }
    }

    /// The rules of that name, in lower case as configurations have it: that of the fork.
    pub fn named(name: &str) -> Option<Self> {
        let is = |fork: &dyn std::fmt::Debug| format!("{fork:?}").to_ascii_lowercase() == name;
        let ethereum = EthereumFork::ALL.into_iter().find(|fork| is(fork)).map(Self::Ethereum);
        ethereum.or_else(|| OpFork::ALL.into_iter().find(|fork| is(fork)).map(Self::OpStack))
    }

    /// Whether the rollup is an OP-stack rollup.
    pub const fn is_op_stack(self) -> bool {
        matches!(self, Self::OpStack(_))
    }

    /// What a header holds beyond what all headers hold.
    pub fn header(self) -> HeaderRules {
        self.stack().header()
    }

    /// Whether blocks carry a parent beacon block root (EIP-4788).
    pub fn has_beacon_root(self) -> bool {
        self.header().beacon_root
    }

    /// Whether execution requests end a block (EIP-7685); the OP stack commits to an empty list instead.
    pub fn has_requests(self) -> bool {
        !self.stack().closing_calls().is_empty()
    }

    /// Whether blocks count a DA footprint (OP stack, Jovian).
    pub fn has_footprint(self) -> bool {
        self.header().footprint
    }

    /// What a transaction has to be by itself.
    pub fn tx_rules(self) -> TxRules {
        self.stack().tx_rules()
    }

    /// The gas that one transaction may ask for at most (EIP-7825); deposits are not bound by it.
    pub fn tx_gas_cap(self) -> Option<u64> {
        self.tx_rules().gas_cap
    }

    /// Who receives what transactions pay beside priority fees.
    pub fn fee_accounts(self) -> FeeAccounts {
        self.stack().fee_accounts()
    }

    /// The EIP-2718 type of the transactions that derivation forces to the front of a block; `None` where there are none.
    pub fn forced_type(self) -> Option<u8> {
        self.stack().forced_type()
    }

    /// The gas limits that the block after one of `parent` gas may have. Whoever chooses the limit has to keep to it; an
    /// environment is made with any.
    pub fn gas_limits(self, parent: u64) -> RangeInclusive<u64> {
        self.stack().gas_limits(parent)
    }

    /// The most bytes that an encoded block may have (EIP-7934); `None` for no limit.
    pub fn max_block_bytes(self) -> Option<u64> {
        self.stack().max_block_bytes()
    }

    /// The blob schedule; `None` before Cancun. OP-stack blocks price blobs at the minimum.
    pub fn blobs(self) -> Option<BlobParams> {
        self.stack().blobs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_found_by_the_names_of_their_forks() {
        assert_eq!(Rules::named("bpo2"), Some(Rules::Ethereum(EthereumFork::Bpo2)));
        assert_eq!(Rules::named("karst"), Some(Rules::OpStack(OpFork::Karst)));
        assert_eq!(Rules::named("Karst"), None);
        assert_eq!(Rules::named("bedrock"), None);
    }

    #[test]
    fn every_fork_says_what_its_headers_and_transactions_hold() {
        let op = |fork| {
            let (header, txs) = (Rules::OpStack(fork).header(), Rules::OpStack(fork).tx_rules());
            (header.message_root, header.requests_hash, header.footprint, txs.set_code, txs.calldata_floor, txs.gas_cap.is_some())
        };
        for fork in [OpFork::Ecotone, OpFork::Fjord, OpFork::Granite, OpFork::Holocene] {
            assert_eq!(op(fork), (false, false, false, false, false, false), "{fork:?}");
        }
        assert_eq!(op(OpFork::Isthmus), (true, true, false, true, true, false));
        assert_eq!(op(OpFork::Jovian), (true, true, true, true, true, false));
        assert_eq!(op(OpFork::Karst), (true, true, true, true, true, true));
        assert!(
            OpFork::ALL.into_iter().all(|fork| !Rules::OpStack(fork).tx_rules().blobs && !Rules::OpStack(fork).has_requests())
        );
        assert!(!Rules::Ethereum(EthereumFork::Cancun).has_requests() && Rules::Ethereum(EthereumFork::Prague).has_requests());
    }
}

//! Why bids of Espresso's kind are refused.

use alloy_primitives::{Address, B256};
use lockstep_primitives::SlotNumber;

/// Why such a bid is refused. [`EspressoError::code`] is stable; the text may be reworded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EspressoError {
    /// Somebody else signed.
    #[error("the bid for view {view} is not signed by {account}")]
    WrongSigner {
        /// The slot.
        view: SlotNumber,
        /// Who should have signed.
        account: Address,
    },
    /// A rollup twice.
    #[error("the bid for view {view} names a namespace twice")]
    NamespaceTwice {
        /// The slot.
        view: SlotNumber,
    },
    /// Beyond 256 bits.
    #[error("the amounts of the bid for view {view} are together beyond 2^256")]
    TooMuch {
        /// The slot.
        view: SlotNumber,
    },
    /// An old one again.
    #[error("the bid {digest} for view {view} was replaced by a later one")]
    Replaced {
        /// The slot.
        view: SlotNumber,
        /// Its digest.
        digest: B256,
    },
}

impl EspressoError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::WrongSigner { .. } => "wrong_bid_signer",
            Self::NamespaceTwice { .. } => "namespace_twice",
            Self::TooMuch { .. } => "amount_too_large",
            Self::Replaced { .. } => "bid_replaced",
        }
    }

    /// What one can do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::WrongSigner { .. } => "sign the body's commitment as a personal message (EIP-191) with the account's key",
            Self::NamespaceTwice { .. } => "name each namespace once",
            Self::TooMuch { .. } => "amounts are in the numeraire's smallest unit",
            Self::Replaced { .. } => "bid something else than before: bids of this kind have no nonce",
        }
    }
}

//! Why a ledger refuses a step.

use alloy_primitives::{Address, U256};
use lockstep_primitives::SlotNumber;

/// Why a step is refused; the ledger is then unchanged. [`LedgerError::code`] is stable; the text may be reworded. Amounts are in
/// the numeraire's smallest unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// A deposit that was credited before, or one before which others are missing.
    #[error("deposit {number} is not the next one, which is {expected}")]
    DepositOutOfOrder {
        /// Its number.
        number: u64,
        /// Of the next one.
        expected: u64,
    },
    /// A step about nothing.
    #[error("nothing would move for {account}")]
    Nothing {
        /// Whose step.
        account: Address,
    },
    /// More than a market can hold, or for nobody.
    #[error("{amount} for {account} is more than 2^248 - 1 in all, or for the zero address")]
    TooMuch {
        /// For whom.
        account: Address,
        /// How much.
        amount: U256,
    },
    /// A bid that its deposit does not cover.
    #[error("the bids of {bidder} for slot {slot} need {needed}: {held} are held for them, and {free} are free")]
    DepositTooSmall {
        /// Who bids.
        bidder: Address,
        /// The slot.
        slot: SlotNumber,
        /// What has to be held.
        needed: U256,
        /// What is.
        held: U256,
        /// What else there is.
        free: U256,
    },
    /// More than is held.
    #[error("of what {bidder} has in slot {slot}, {held} are held, not {amount}")]
    HoldTooSmall {
        /// Who pays.
        bidder: Address,
        /// The slot.
        slot: SlotNumber,
        /// What is held.
        held: U256,
        /// What was asked for.
        amount: U256,
    },
    /// More than is free.
    #[error("{account} asks for {amount} and has {free} free; {held} back its bids")]
    NotFree {
        /// Who asks.
        account: Address,
        /// For how much.
        amount: U256,
        /// What is free.
        free: U256,
        /// What backs bids.
        held: U256,
    },
    /// An old request.
    #[error("nonce {nonce} of the request of {account} is not above {current}")]
    NonceTooLow {
        /// Who asks.
        account: Address,
        /// The request's.
        nonce: u64,
        /// The last one.
        current: u64,
    },
    /// No such withdrawal is under way.
    #[error("withdrawal {number} is not under way")]
    UnknownWithdrawal {
        /// Its number.
        number: u64,
    },
    /// No room for another account.
    #[error("there are {limit} accounts, which is the limit")]
    TooManyAccounts {
        /// How many there may be.
        limit: usize,
    },
    /// No room for another hold.
    #[error("there are {limit} holds, which is the limit")]
    TooManyHolds {
        /// How many there may be.
        limit: usize,
    },
    /// No room for another withdrawal.
    #[error("{limit} withdrawals are under way, which is the limit")]
    TooManyWithdrawals {
        /// How many there may be.
        limit: usize,
    },
    /// An escrow whose books are not this ledger's.
    #[error("the escrow has {escrowed} for all accounts together, and inside the ledger are {inside}")]
    EscrowDiffers {
        /// What the escrow has.
        escrowed: U256,
        /// What the ledger says.
        inside: U256,
    },
    /// A stored ledger that does not balance.
    #[error("what {account} is stored to have is not what its holds and withdrawals say")]
    Unbalanced {
        /// Whose balance.
        account: Address,
    },
}

impl LedgerError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::DepositOutOfOrder { .. } => "deposit_out_of_order",
            Self::Nothing { .. } => "zero_amount",
            Self::TooMuch { .. } => "amount_too_large",
            Self::DepositTooSmall { .. } => "deposit_too_small",
            Self::HoldTooSmall { .. } => "hold_too_small",
            Self::NotFree { .. } => "not_free",
            Self::NonceTooLow { .. } => "request_nonce_too_low",
            Self::UnknownWithdrawal { .. } => "unknown_withdrawal",
            Self::TooManyAccounts { .. } => "too_many_accounts",
            Self::TooManyHolds { .. } => "too_many_holds",
            Self::TooManyWithdrawals { .. } => "too_many_withdrawals",
            Self::EscrowDiffers { .. } => "escrow_differs",
            Self::Unbalanced { .. } => "unbalanced_ledger",
        }
    }

    /// What one can do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::DepositOutOfOrder { .. } => "credit deposits in the order of their numbers, each once",
            Self::Nothing { .. } => "name an amount above zero",
            Self::TooMuch { .. } => "amounts are in the numeraire's smallest unit",
            Self::DepositTooSmall { .. } => "deposit more, bid less, or give bids of which only one should win the same tag",
            Self::HoldTooSmall { .. } => "pay no more than the hold",
            Self::NotFree { .. } => "withdraw what is free: what backs bids is released when their slots are settled",
            Self::NonceTooLow { .. } => "raise the nonce",
            Self::UnknownWithdrawal { .. } => "ask the market which withdrawals are under way",
            Self::TooManyAccounts { .. } => "run another market for more accounts",
            Self::TooManyHolds { .. } => "try again when slots are settled",
            Self::TooManyWithdrawals { .. } => "try again when others are paid",
            Self::EscrowDiffers { .. } | Self::Unbalanced { .. } => "the store is damaged, or not that of this market",
        }
    }
}

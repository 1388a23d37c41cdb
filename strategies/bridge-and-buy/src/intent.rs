//! What somebody wants.

use alloy_primitives::{Address, U256};
use lockstep_primitives::{ChainId, Rejection};

/// An outcome on one rollup, and what may be paid for it on another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Who pays and receives.
    pub buyer: Address,
    /// Where the dollars are.
    pub origin: ChainId,
    /// Where the outcome is.
    pub destination: ChainId,
    /// The dollars on the origin.
    pub pay: Address,
    /// The most of them that is burned, fee of the crossing included, in the token's smallest unit.
    pub max_pay: U256,
    /// The most that the builder is paid for the delivery, in wei on the destination. Gas is paid beyond it.
    pub max_payment: U256,
    /// The outcome.
    pub want: Want,
    /// How the dollars cross.
    pub crossing: Crossing,
    /// The latest timestamp of any block of it, in seconds, inclusive.
    pub deadline: Option<u64>,
}

/// What is wanted on the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// One token of a collection, from a shop that sells at a fixed price.
    Nft {
        /// The collection, which sells its tokens itself.
        shop: Address,
        /// Which one.
        token_id: U256,
    },
    /// At least so much of a token, from pools with the interface of Uniswap v2's router.
    Token {
        /// The router.
        router: Address,
        /// From the dollars on the destination to the token.
        path: Vec<Address>,
        /// In the token's smallest unit.
        at_least: U256,
    },
}

/// How dollars get from the origin to the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Crossing {
    /// CCTP v1.
    CctpV1 {
        /// `TokenMessenger` on the origin.
        messenger: Address,
        /// The destination's domain.
        domain: u32,
    },
    /// CCTP v2, for anyone to deliver.
    CctpV2 {
        /// `TokenMessengerV2` on the origin.
        messenger: Address,
        /// The destination's domain.
        domain: u32,
        /// The most that its attesters may take, in the token's smallest unit. What they leave is the buyer's.
        max_fee: U256,
        /// Whether it is attested before it is final.
        fast: bool,
    },
}

impl Crossing {
    /// What is called on the origin.
    pub(crate) const fn messenger(&self) -> Address {
        match self {
            Self::CctpV1 { messenger, .. } | Self::CctpV2 { messenger, .. } => *messenger,
        }
    }

    /// The most that is taken on the way.
    pub(crate) const fn max_fee(&self) -> U256 {
        match self {
            Self::CctpV1 { .. } => U256::ZERO,
            Self::CctpV2 { max_fee, .. } => *max_fee,
        }
    }
}

/// Why there is no plan now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A rollup of it has no block in the slot.
    #[error("rollup {0} has no block in the slot")]
    NoBlock(ChainId),
    /// Its time is over.
    #[error("the slot's block of rollup {chain} is of {timestamp}, the deadline was {deadline}")]
    TooLate {
        /// The rollup.
        chain: ChainId,
        /// Of its block.
        timestamp: u64,
        /// Of the intent.
        deadline: u64,
    },
    /// What is wanted is sold.
    #[error("token {0} is sold")]
    Sold(U256),
    /// Nobody says what it costs.
    #[error("{0} does not say what it costs")]
    NoPrice(Address),
    /// It costs more.
    #[error("it costs {price}, at most {max_pay} may be paid")]
    TooDear {
        /// Fee of the crossing included, in the token's smallest unit.
        price: U256,
        /// What may be paid.
        max_pay: U256,
    },
    /// The buyer has less.
    #[error("the buyer has {balance}, it takes {needed}")]
    TooPoor {
        /// In the token's smallest unit.
        balance: U256,
        /// In the token's smallest unit.
        needed: U256,
    },
    /// The builder takes more for the delivery.
    #[error("the builder takes {payment} wei for the delivery, at most {max_payment} may be paid")]
    PaymentTooHigh {
        /// In wei.
        payment: U256,
        /// In wei.
        max_payment: U256,
    },
    /// The bundle does not go through.
    #[error("the bundle is blocked: {0}")]
    Blocked(Rejection),
    /// The destination's native asset has no price, so the builder cannot be paid in it.
    #[error("the native asset of rollup {0} has no price")]
    NoNativePrice(ChainId),
}

//! Why a membership, or a package, does not go with the clusters.

use alloy_primitives::Address;
use lockstep_primitives::{ChainId, RollupSet, SlotNumber};

use crate::VersionError;

/// Why a membership or a package is refused. [`ClusterError::code`] is stable; the text may be reworded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// The rollup does not name itself.
    #[error("the membership of rollup {chain} lists {members:?}, without the rollup itself")]
    NotAMember {
        /// The rollup.
        chain: ChainId,
        /// Whom it lists.
        members: RollupSet,
    },
    /// More members than can be sold together.
    #[error("the membership of rollup {chain} lists {members} members, more than {limit}")]
    TooManyMembers {
        /// The rollup.
        chain: ChainId,
        /// How many it lists.
        members: usize,
        /// How many it may.
        limit: usize,
    },
    /// The proceeds would be lost.
    #[error("the membership of rollup {chain} has its proceeds paid to the zero address")]
    ZeroPayout {
        /// The rollup.
        chain: ChainId,
    },
    /// No signer can be recovered.
    #[error("no signer can be recovered from the signature of the membership of rollup {chain}")]
    InvalidSignature {
        /// The rollup.
        chain: ChainId,
    },
    /// Somebody else signed.
    #[error("for rollup {chain} speaks {sequencer}, but {signer} signed its membership")]
    WrongSigner {
        /// The rollup.
        chain: ChainId,
        /// Who should have signed.
        sequencer: Address,
        /// Who did.
        signer: Address,
    },
    /// No room for another rollup.
    #[error("the memberships of {limit} rollups are kept, which is the limit")]
    TooManyMemberships {
        /// How many there may be.
        limit: usize,
    },
    /// A store with two histories of one rollup.
    #[error("the memberships of rollup {chain} are stored twice")]
    StoredTwice {
        /// The rollup.
        chain: ChainId,
    },
    /// The membership is no update that can be taken.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// The package takes a part of what is sold as a whole.
    #[error("in slot {slot} rollup {chain} is sold only together with {missing:?} too")]
    Split {
        /// The slot.
        slot: SlotNumber,
        /// The rollup.
        chain: ChainId,
        /// Which members of its cluster the package does not hold.
        missing: RollupSet,
    },
    /// A member of its cluster keeps the rollup from being sold.
    #[error("in slot {slot} rollup {chain} is not sold because of {because_of:?}, with which it is sold together or not at all")]
    Withheld {
        /// The slot.
        slot: SlotNumber,
        /// The rollup.
        chain: ChainId,
        /// Members that have not named the same cluster, or that do not sell.
        because_of: RollupSet,
    },
    /// A rollup that nobody can buy.
    #[error("rollup {chain} is not on sale in slot {slot}")]
    NotOnSale {
        /// The slot.
        slot: SlotNumber,
        /// The rollup.
        chain: ChainId,
    },
    /// Nobody is there to be paid.
    #[error("for slot {slot} nobody is named who receives what rollup {chain} is paid")]
    NoPayout {
        /// The slot.
        slot: SlotNumber,
        /// The rollup.
        chain: ChainId,
    },
    /// Amounts that no market has.
    #[error("a sum of amounts for slot {slot} is above 2^256 - 1")]
    SumTooLarge {
        /// The slot.
        slot: SlotNumber,
    },
}

impl ClusterError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotAMember { .. } => "not_a_member",
            Self::TooManyMembers { .. } => "too_many_members",
            Self::ZeroPayout { .. } => "zero_payout",
            Self::InvalidSignature { .. } => "invalid_membership_signature",
            Self::WrongSigner { .. } => "wrong_membership_signer",
            Self::TooManyMemberships { .. } => "too_many_memberships",
            Self::StoredTwice { .. } => "memberships_stored_twice",
            Self::Version(error) => error.code(),
            Self::Split { .. } => "splits_cluster",
            Self::Withheld { .. } => "withheld_by_cluster",
            // The same code as a bid's: what is wrong with the package is the same.
            Self::NotOnSale { .. } => "not_on_sale",
            Self::NoPayout { .. } => "no_payout",
            Self::SumTooLarge { .. } => "sum_too_large",
        }
    }

    /// What one can do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NotAMember { .. } => "list all members, the rollup itself too; the rollup by itself sells alone",
            Self::TooManyMembers { .. } => "sell in smaller clusters",
            Self::ZeroPayout { .. } => "name who receives the proceeds",
            Self::InvalidSignature { .. } => {
                "sign the EIP-712 digest (domain Lockstep, version 1): 65 bytes r || s || v with a low s"
            }
            Self::WrongSigner { .. } => "sign with the key that registered the rollup, over exactly what is sent",
            Self::TooManyMemberships { .. } => "run another market for more rollups",
            Self::StoredTwice { .. } => "the store is not that of this market",
            Self::Version(error) => error.hint(),
            Self::Split { .. } => "bid for all rollups of the cluster that are on sale, or for none of them",
            Self::Withheld { .. } => "every member has to name the same members, and to sell",
            Self::NotOnSale { .. } => "ask the market what is on sale: a rollup without a block in the slot is not",
            Self::NoPayout { .. } => "name a payout address in a signed membership, or register the rollup",
            Self::SumTooLarge { .. } => "amounts are in the numeraire's smallest unit",
        }
    }
}

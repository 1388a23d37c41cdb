//! The nouns of Lockstep: transactions, bundles, block lists, proposals, bids and the reasons why one is refused.
//!
//! Everything here is plain data. Nothing reads a clock, a socket or a file, and nothing knows JSON: the wire types
//! live in the `rpc` crate. Hashes that identify or are signed over are made here, so that there is one definition.

mod bundle;
mod delivery_report;
mod encrypted;
mod escrow;
mod hash;
mod lists;
mod market;
mod money;
mod ordering;
mod proposal;
mod reason;
mod receipt;
mod registration;
mod rights;
mod signing;
mod stand_in;
mod status;
mod transaction;
mod tx_id;
mod tx_rules;

pub use bundle::{Asset, BlockRange, Bundle, LandedRef, Leg, LegTx, Relay, Replacement, Requirement, RevertMode};
pub use delivery_report::{DeliveryReport, SlotEnding};
pub use encrypted::{EncryptedOrder, EncryptedReceipt, EncryptedTail};
pub use escrow::{EscrowBatch, EscrowChange, EscrowPayout};
pub use hash::{BUNDLE_TYPE, dialect_bundle_hash};
pub use lists::{BlockList, ListBlock, RollupSet};
pub use market::{
    Allocation, Bid, BidCancellation, Deposit, Grant, Opening, SealedBids, TicketOrder, TicketSide, WithdrawalRequest,
};
pub use money::{Price, to_signed};
pub use ordering::{InvalidOrdering, MAX_ARRIVALS, MAX_INCLUSION, OrderedTx, OrderingPolicy, OutOfOrder};
pub use proposal::{BlindedProposal, ProposalCall, ProposalReveal};
pub use reason::{Place, Reason, Rejection, Validity};
pub use receipt::{BundleReceipt, LandedTransaction, Outcome};
pub use registration::{ImpliedBasis, ImpliedMeasure, ImpliedReserve, InvalidReserve, Registration, ReserveRule};
pub use rights::{EpochBid, RightOffer, RightTransfer, TransferKind};
pub use signing::{InvalidSignature, SignatureBytes, digest, domain, recover, subscription_digest};
pub use stand_in::StandIn;
pub use status::{BundleState, Guarantee};
pub use transaction::{SignedTx, TxDecodeError};
pub use tx_id::TxId;
pub use tx_rules::TxRules;

/// The EIP-155 chain id that names a rollup. Ethereum L1 is a rollup here too.
pub type ChainId = u64;

/// A slot of the market, counted from the clock's genesis.
pub type SlotNumber = u64;

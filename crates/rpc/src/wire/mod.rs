//! What travels as JSON. Domain types carry none of it.

mod ahead;
mod bundle;
mod delivery;
mod delivery_report;
mod encrypted;
mod espresso;
mod eth_bundle;
mod market;
mod message;
mod money;
mod proposals;
mod receipt;
mod registration;
mod status;
mod tickets;
mod timeboost;

pub use ahead::{EpochBidWire, EpochLot, EpochView, HeldView, RightAmount, RightOfferWire, RightTransferWire, RightView};
pub use bundle::{
    BundleParams, CancelParams, LegParams, RangeParams, RelayParams, RequirementParams, SentBundle, SubscribeParams, decode_tx,
};
pub use delivery::{
    ArrivalWire, BlockPlanWire, DataLimitsWire, DecisionWire, ExpectedBlockWire, ListBlockWire, ListWire, PrepareWire,
    PreparedListWire, RequirementResultWire, SignedPrepare, SlotOffer, VoteRefusalWire, VoteWire,
};
pub use delivery_report::{DeliveryEvent, DeliveryReportWire, EndingWire};
pub use encrypted::{
    EncryptedOutcome, EncryptedReceiptWire, EncryptedState, EncryptedTailView, EncryptedTailWire, EncryptedTxParams,
    EncryptedTxStatus, EncryptionView, OpenParams, SharesWire,
};
pub use espresso::{
    BidTxBodyWire, BidTxWire, EcdsaParts, FeeAmount, RollupRegistrationBodyWire, RollupRegistrationWire, SolverAuctionResultsWire,
};
pub use eth_bundle::{
    CallBundleParams, CallBundleResult, CallTxResult, EthBundleParams, EthCancelParams, EthSentBundle, PrivateTxParams,
};
pub use market::{
    AllocationWire, BidReceipt, BidView, BidWire, GrantWire, MarketSlot, OpenedBid, OpeningWire, Sale, SealedBidsWire,
    SealingView, SeedView,
};
pub use message::{DeliveryStatus, MessageList, MessageOrigin, MessageStatus, MessagesParams};
pub use money::{
    BidCancellationWire, DepositWire, EntryWire, EscrowView, HoldView, LedgerView, PostingWire, RevenueParams, RevenueView,
    SlotRevenue, WithdrawalReceipt, WithdrawalView, WithdrawalWire,
};
pub use proposals::{
    BlindedProposalWire, CallView, ProposalCallWire, ProposalParams, ProposalRevealWire, ProposalView, ProposedListsWire,
};
pub use receipt::{BundleReceiptWire, LandedTransactionWire};
pub use registration::{
    ImpliedReserveWire, InvalidTerms, RegistrationWire, ReserveRuleWire, ReserveStepWire, ReserveWire, RollupTerms,
};
pub use status::{
    BalanceChangeWire, BundleStatus, Event, Explanation, LandedTx, LegStatus, MessageWire, Obstacle, ReportBlock, ReportBundle,
    ReportRollup, SimulatedLeg, SimulatedTx, SimulationResult, SlotReport, SlotRollupStatus, SlotStatus, SlotTiming,
};
pub use tickets::{DrawnView, FillView, TicketClassView, TicketOrderWire, TicketReceipt, TicketView, TicketsView};
pub use timeboost::TimeboostBidWire;

use alloy_primitives::{I256, U64, U256};
use serde::{Deserialize, Serialize};

/// An amount as a decimal string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decimal(pub U256);

impl Serialize for Decimal {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        U256::from_str_radix(&text, 10)
            .map(Self)
            .map_err(|_| serde::de::Error::custom(format!("{text:?} is not a decimal amount")))
    }
}

/// A signed amount as a decimal string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignedDecimal(pub I256);

impl Serialize for SignedDecimal {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SignedDecimal {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        I256::from_dec_str(&text).map(Self).map_err(|_| serde::de::Error::custom(format!("{text:?} is not a decimal amount")))
    }
}

/// Chain ids as hex quantities.
pub(crate) fn chains<'a>(chains: impl IntoIterator<Item = &'a u64>) -> Vec<U64> {
    chains.into_iter().map(|chain| U64::from(*chain)).collect()
}

//! Why the market refuses something.

use alloy_primitives::{Address, U256};
use lockstep_primitives::{ChainId, RollupSet, SlotNumber};

use crate::{
    BasedError, CalendarError, EpochError, EspressoError, LedgerError, ProposalError, ReserveError, RightsError, SealError,
    TicketError, VersionError,
};

/// Why a registration or a bid is refused. [`MarketError::code`] is stable; the text may be reworded.
///
/// Amounts are in the numeraire's smallest unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MarketError {
    /// Block time zero.
    #[error("the registration of rollup {chain} has a block time of zero")]
    ZeroBlockTime {
        /// The rollup.
        chain: ChainId,
    },
    /// More than all of the fees.
    #[error("the registration of rollup {chain} shares {bps} basis points of its fees, more than 10000")]
    FeeShareTooLarge {
        /// The rollup.
        chain: ChainId,
        /// The share.
        bps: u64,
    },
    /// A URL beyond the limit.
    #[error("the registration of rollup {chain} has a sequencer URL of {bytes} bytes, more than {limit}")]
    UrlTooLong {
        /// The rollup.
        chain: ChainId,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// No signer can be recovered.
    #[error("no signer can be recovered from the signature of the registration of rollup {chain}")]
    InvalidRegistrationSignature {
        /// The rollup.
        chain: ChainId,
    },
    /// Somebody else signed.
    #[error("the registration of rollup {chain} names the sequencer {sequencer}, but {signer} signed it")]
    WrongSigner {
        /// The rollup.
        chain: ChainId,
        /// Who should have signed.
        sequencer: Address,
        /// Who did.
        signer: Address,
    },
    /// The rollup belongs to another key.
    #[error("rollup {chain} is registered by {registered}, so {sequencer} cannot change it")]
    SequencerChanged {
        /// The rollup.
        chain: ChainId,
        /// The key that speaks for the rollup.
        registered: Address,
        /// The key of the refused registration.
        sequencer: Address,
    },
    /// The rollup does not name itself.
    #[error("the registration of rollup {chain} names the cluster {members:?}, without the rollup itself")]
    NotInCluster {
        /// The rollup.
        chain: ChainId,
        /// Whom it names.
        members: RollupSet,
    },
    /// More members than can be sold together.
    #[error("the registration of rollup {chain} names a cluster of {members}, more than {limit}")]
    TooManyMembers {
        /// The rollup.
        chain: ChainId,
        /// How many it names.
        members: usize,
        /// How many it may.
        limit: usize,
    },
    /// The proceeds would be lost, or nobody would build.
    #[error("the registration of rollup {chain} has the zero address as {field}")]
    ZeroAddress {
        /// The rollup.
        chain: ChainId,
        /// `payout` or `defaultProposer`.
        field: &'static str,
    },
    /// A longer inclusion list than there can be.
    #[error("the inclusion lists of rollup {chain} would have {inclusion} transactions, more than {limit}")]
    InclusionTooLarge {
        /// The rollup.
        chain: ChainId,
        /// How many they would have.
        inclusion: u64,
        /// How many they may.
        limit: u64,
    },
    /// Further ahead than anything is sold.
    #[error("rollup {chain} would sell {slots_ahead} slots ahead, more than {limit}")]
    TooFarAhead {
        /// The rollup.
        chain: ChainId,
        /// How far ahead it would sell.
        slots_ahead: u64,
        /// How far it may.
        limit: u64,
    },
    /// The terms are no update that can be taken.
    #[error(transparent)]
    Terms(#[from] VersionError),
    /// The reserve makes no sense.
    #[error(transparent)]
    Reserve(#[from] ReserveError),
    /// No room for another rollup.
    #[error("the market serves at most {limit} rollups")]
    TooManySellers {
        /// How many there may be.
        limit: usize,
    },
    /// A bid for another slot.
    #[error("the bid is for slot {slot}, the open slot is {open}")]
    WrongSlot {
        /// Of the bid.
        slot: SlotNumber,
        /// Of the book.
        open: SlotNumber,
    },
    /// Too late.
    #[error("the bidding for slot {slot} ended at {close_ms} ms, it is {now_ms} ms")]
    Closed {
        /// The slot.
        slot: SlotNumber,
        /// When it ended.
        close_ms: u64,
        /// When the bid came.
        now_ms: u64,
    },
    /// A bid for nothing.
    #[error("the bid for slot {slot} names no rollup")]
    EmptyPackage {
        /// The slot.
        slot: SlotNumber,
    },
    /// A rollup that is unknown or has no block in the slot.
    #[error("rollup {chain} is not on sale in slot {slot}")]
    NotOnSale {
        /// The slot.
        slot: SlotNumber,
        /// The rollup.
        chain: ChainId,
    },
    /// The package takes a part of what is sold as a whole.
    #[error("in slot {slot} rollup {chain} is sold only together with {missing:?} too")]
    SplitsCluster {
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
    /// More than [`MAX_AMOUNT`](crate::MAX_AMOUNT).
    #[error("the bid for slot {slot} offers {amount}, more than 2^248 - 1")]
    AmountTooLarge {
        /// The slot.
        slot: SlotNumber,
        /// The offer.
        amount: U256,
    },
    /// Less than the sellers ask for.
    #[error("the bid for rollups {rollups:?} in slot {slot} offers {amount}, the reserves sum to {reserve}")]
    BelowReserve {
        /// The slot.
        slot: SlotNumber,
        /// The package.
        rollups: RollupSet,
        /// The offer.
        amount: U256,
        /// The sum of the reserves.
        reserve: U256,
    },
    /// A tag beyond the limit.
    #[error("the exclusive tag of the bid for slot {slot} has {bytes} bytes, more than {limit}")]
    TagTooLong {
        /// The slot.
        slot: SlotNumber,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// No signer can be recovered.
    #[error("no signer can be recovered from the signature of the bid for slot {slot}")]
    InvalidBidSignature {
        /// The slot.
        slot: SlotNumber,
    },
    /// An old bid, or a different one with the same nonce.
    #[error("nonce {nonce} of the bid for rollups {rollups:?} in slot {slot} is not above {current} of the earlier bid")]
    BidNonceTooLow {
        /// The slot.
        slot: SlotNumber,
        /// The package.
        rollups: RollupSet,
        /// Of the refused bid.
        nonce: u64,
        /// Of the bid in the book.
        current: u64,
    },
    /// A bid that is to be taken back and is not there.
    #[error("{bidder} has no bid for rollups {rollups:?} in slot {slot} with that tag")]
    UnknownBid {
        /// The slot.
        slot: SlotNumber,
        /// Who bids.
        bidder: Address,
        /// The package.
        rollups: RollupSet,
    },
    /// A slot that is over, or not open yet.
    #[error("slot {slot} is not open for bids: slots {first} to {last} are")]
    NotOpen {
        /// The slot.
        slot: SlotNumber,
        /// The first one that is open.
        first: SlotNumber,
        /// The last one.
        last: SlotNumber,
    },
    /// A rollup that is not registered.
    #[error("rollup {chain} is not registered")]
    NotRegistered {
        /// The rollup.
        chain: ChainId,
    },
    /// Somebody else's word on a slot.
    #[error("for rollup {chain} speaks {sequencer}, who did not sign the report on slot {slot}")]
    WrongReporter {
        /// The slot.
        slot: SlotNumber,
        /// The rollup.
        chain: ChainId,
        /// Who should have signed.
        sequencer: Address,
    },
    /// A report on a slot that has not begun, or was over long ago.
    #[error("a report on slot {slot} is taken from {from_ms} to {until_ms} ms, it is {now_ms} ms")]
    ReportOutOfTime {
        /// The slot.
        slot: SlotNumber,
        /// From when on.
        from_ms: u64,
        /// Until when.
        until_ms: u64,
        /// When it came.
        now_ms: u64,
    },
    /// A report that the decision record gives the lie.
    #[error("rollup {chain} reports that nothing was delivered in slot {slot}, and the record says that its proposer committed")]
    ContradictsRecord {
        /// The slot.
        slot: SlotNumber,
        /// The rollup.
        chain: ChainId,
    },
    /// No signer can be recovered, or it is not whose word is needed.
    #[error("the request is not signed by {expected}")]
    WrongRequestSigner {
        /// Who should have signed.
        expected: Address,
    },
    /// No escrow keeps the money.
    #[error("this market has no escrow")]
    NoEscrow,
    /// An escrow keeps the money.
    #[error("deposits are credited when they are in the escrow, by nobody's word")]
    EscrowOnly,
    /// An account that leaves.
    #[error("{account} asked the escrow for its own way out, so it puts up and moves nothing more")]
    Exiting {
        /// Whose account.
        account: Address,
    },
    /// Sealed bids that cannot be taken or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Something about L1 that cannot be.
    #[error(transparent)]
    Based(#[from] BasedError),
    /// Windows of epochs that cannot be kept.
    #[error(transparent)]
    Calendar(#[from] CalendarError),
    /// A bid for an epoch, or a step with a right of one, that cannot be taken.
    #[error(transparent)]
    Epoch(#[from] EpochError),
    /// An order for tickets that cannot be carried out.
    #[error(transparent)]
    Tickets(#[from] TicketError),
    /// A bid of Espresso's kind that cannot be taken.
    #[error(transparent)]
    Espresso(#[from] EspressoError),
    /// A proposal that cannot be taken.
    #[error(transparent)]
    Proposal(#[from] ProposalError),
    /// A step in the book of rights that cannot be taken.
    #[error(transparent)]
    Rights(#[from] RightsError),
    /// A step in the ledger that cannot be taken.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// No room for another bid of the bidder.
    #[error("{bidder} has {limit} bids for slot {slot}, which is the limit")]
    TooManyBids {
        /// The slot.
        slot: SlotNumber,
        /// Who bids.
        bidder: Address,
        /// How many there may be.
        limit: usize,
    },
    /// No room for another bid.
    #[error("the book of slot {slot} holds {limit} bids, which is the limit")]
    BookFull {
        /// The slot.
        slot: SlotNumber,
        /// How many there may be.
        limit: usize,
    },
}

impl MarketError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::ZeroBlockTime { .. } => "zero_block_time",
            Self::FeeShareTooLarge { .. } => "fee_share_too_large",
            Self::UrlTooLong { .. } => "url_too_long",
            Self::InvalidRegistrationSignature { .. } => "invalid_registration_signature",
            Self::WrongSigner { .. } => "wrong_signer",
            Self::SequencerChanged { .. } => "sequencer_changed",
            Self::NotInCluster { .. } => "not_in_cluster",
            Self::TooManyMembers { .. } => "too_many_members",
            Self::ZeroAddress { .. } => "zero_address",
            Self::InclusionTooLarge { .. } => "inclusion_too_large",
            Self::TooFarAhead { .. } => "slots_ahead_too_large",
            Self::Terms(error) => error.code(),
            Self::Reserve(error) => error.code(),
            Self::TooManySellers { .. } => "too_many_sellers",
            Self::WrongSlot { .. } => "wrong_slot",
            Self::Closed { .. } => "bidding_closed",
            Self::EmptyPackage { .. } => "empty_package",
            Self::NotOnSale { .. } => "not_on_sale",
            Self::SplitsCluster { .. } => "splits_cluster",
            Self::Withheld { .. } => "withheld_by_cluster",
            Self::AmountTooLarge { .. } => "amount_too_large",
            Self::BelowReserve { .. } => "below_reserve",
            Self::TagTooLong { .. } => "tag_too_long",
            Self::InvalidBidSignature { .. } => "invalid_bid_signature",
            Self::BidNonceTooLow { .. } => "bid_nonce_too_low",
            Self::UnknownBid { .. } => "unknown_bid",
            Self::NotOpen { .. } => "slot_not_open",
            Self::NotRegistered { .. } => "not_registered",
            Self::WrongReporter { .. } => "wrong_reporter",
            Self::ReportOutOfTime { .. } => "report_out_of_time",
            Self::ContradictsRecord { .. } => "contradicts_record",
            Self::WrongRequestSigner { .. } => "wrong_request_signer",
            Self::NoEscrow => "no_escrow",
            Self::EscrowOnly => "escrow_only",
            Self::Exiting { .. } => "exiting",
            Self::Seal(error) => error.code(),
            Self::Based(error) => error.code(),
            Self::Calendar(error) => error.code(),
            Self::Epoch(error) => error.code(),
            Self::Tickets(error) => error.code(),
            Self::Espresso(error) => error.code(),
            Self::Proposal(error) => error.code(),
            Self::Rights(error) => error.code(),
            Self::Ledger(error) => error.code(),
            Self::TooManyBids { .. } => "too_many_bids",
            Self::BookFull { .. } => "book_full",
        }
    }

    /// What one can do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::ZeroBlockTime { .. } => "blockTime is in seconds, at least 1",
            Self::FeeShareTooLarge { .. } => "feeShareBps is in basis points, 10000 is all",
            Self::UrlTooLong { .. } => "register a shorter URL",
            Self::InvalidRegistrationSignature { .. } | Self::InvalidBidSignature { .. } => {
                "sign the EIP-712 digest (domain Lockstep, version 1): 65 bytes r || s || v with a low s"
            }
            Self::WrongSigner { .. } => "sign with the sequencer's key, and check that every signed field is what was sent",
            Self::SequencerChanged { .. } => "sign with the key of the first registration",
            Self::NotInCluster { .. } => "list all members, the rollup itself too; the rollup by itself sells alone",
            Self::TooManyMembers { .. } => "sell in smaller clusters",
            Self::ZeroAddress { .. } => "name who receives the proceeds, and who proposes when nobody buys",
            Self::InclusionTooLarge { .. } => "promise a shorter inclusion list",
            Self::TooFarAhead { .. } => "sell fewer slots ahead",
            Self::Terms(error) => error.hint(),
            Self::Reserve(error) => error.hint(),
            Self::BidNonceTooLow { .. } => "raise the nonce",
            Self::TooManySellers { .. } => "run another market for more rollups",
            Self::WrongSlot { .. } => "ask the market which slot is open",
            Self::Closed { .. } => "bid for a later slot",
            Self::EmptyPackage { .. } => "name at least one rollup",
            Self::NotOnSale { .. } => "ask the market what is on sale: a rollup without a block in the slot is not",
            Self::SplitsCluster { .. } => "bid for all rollups of the cluster that are on sale, or for none of them",
            Self::Withheld { .. } => "every member has to name the same members, and to sell",
            Self::AmountTooLarge { .. } => "amounts are in the numeraire's smallest unit",
            Self::BelowReserve { .. } => "bid at least the sum of the reserves",
            Self::TagTooLong { .. } => "use a shorter tag",
            Self::UnknownBid { .. } => "name the package and the tag of a bid that is in the book",
            Self::NotOpen { .. } => "ask the market which slot is open",
            Self::NotRegistered { .. } => "register it first",
            Self::WrongReporter { .. } => "sign with the key that speaks for the rollup in that slot",
            Self::ReportOutOfTime { .. } => "report when the slot's blocks are published, and soon",
            Self::ContradictsRecord { .. } => "what was committed has to be published",
            Self::WrongRequestSigner { .. } => {
                "sign the EIP-712 digest (domain Lockstep, version 1): 65 bytes r || s || v with a low s"
            }
            Self::NoEscrow => "withdraw with market_withdraw",
            Self::EscrowOnly => "deposit into the contract that market_getEscrow names",
            Self::Exiting { .. } => "cancel the exit at the escrow, or take it",
            Self::Seal(error) => error.hint(),
            Self::Based(error) => error.hint(),
            Self::Calendar(error) => error.hint(),
            Self::Epoch(error) => error.hint(),
            Self::Tickets(error) => error.hint(),
            Self::Espresso(error) => error.hint(),
            Self::Proposal(error) => error.hint(),
            Self::Rights(error) => error.hint(),
            Self::Ledger(error) => error.hint(),
            Self::TooManyBids { .. } => "replace one of your bids: same package and tag, higher nonce",
            Self::BookFull { .. } => "bid earlier, or for a later slot",
        }
    }
}

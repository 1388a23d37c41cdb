//! Why a Timeboost auction refuses something.

use alloy_primitives::{Address, U256};
use lockstep_primitives::ChainId;

/// Why rounds cannot be timed so. [`RoundTimingError::code`] is stable; the text may be reworded. All times are seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoundTimingError {
    /// Too short a round.
    #[error("a round lasts {round_s} s, at least 10 s are needed")]
    RoundTooShort {
        /// How long it is.
        round_s: u64,
    },
    /// Too long a round.
    #[error("a round lasts {round_s} s, at most a day (86400 s) is allowed")]
    RoundTooLong {
        /// How long it is.
        round_s: u64,
    },
    /// Too little time between the end of the bidding and that of the round.
    #[error("the bidding ends {closing_s} s before its round, at least 5 s are needed")]
    ClosingTooShort {
        /// How long before the end of the round it ends.
        closing_s: u64,
    },
    /// The reserve is never fixed.
    #[error("the reserve is fixed 0 s before the bidding ends, at least 1 s is needed")]
    NoReserveSubmission,
    /// The parts fill the round.
    #[error(
        "of a round of {round_s} s nothing is left before {closing_s} s closed and {reserve_submission_s} s of a fixed reserve"
    )]
    NoTimeToBid {
        /// How long the round is.
        round_s: u64,
        /// How long it is closed.
        closing_s: u64,
        /// How long before that the reserve is fixed.
        reserve_submission_s: u64,
    },
}

impl RoundTimingError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::RoundTooShort { .. } => "round_too_short",
            Self::RoundTooLong { .. } => "round_too_long",
            Self::ClosingTooShort { .. } => "closing_too_short",
            Self::NoReserveSubmission => "no_reserve_submission",
            Self::NoTimeToBid { .. } => "no_time_to_bid",
        }
    }

    /// What one can do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::RoundTooShort { .. } | Self::RoundTooLong { .. } => "60 s is usual",
            Self::ClosingTooShort { .. } | Self::NoReserveSubmission => "15 s is usual",
            Self::NoTimeToBid { .. } => "lengthen the round, or shorten what it is closed and what the reserve is fixed",
        }
    }
}

/// Why a Timeboost auction refuses a step. [`TimeboostError::code`] is stable, and so is what [`TimeboostError::wire_code`] says.
///
/// The texts end in the auctioneer's error string and begin as its texts do, because its clients look for either. Amounts are in
/// the bidding token's smallest unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeboostError {
    /// Another contract.
    #[error("incorrect auction contract address: wanted {wanted}, got {got} in round {round}: MALFORMED_DATA")]
    WrongContract {
        /// The round that is bid for.
        round: u64,
        /// The contract of this auction.
        wanted: Address,
        /// That of the bid.
        got: Address,
    },
    /// The lane would be nobody's.
    #[error("empty express lane controller address: in round {round}: MALFORMED_DATA")]
    NoController {
        /// The round that is bid for.
        round: u64,
    },
    /// Another chain.
    #[error("can not auction for chain id: {got}: this auction is for {wanted}: WRONG_CHAIN_ID")]
    WrongChain {
        /// The chain of this auction.
        wanted: ChainId,
        /// That of the bid.
        got: U256,
    },
    /// Another round than the next.
    #[error("wanted {wanted}, got {got}: BAD_ROUND_NUMBER")]
    WrongRound {
        /// The round on sale.
        wanted: u64,
        /// That of the bid, or what is on sale by a clock that has gone back behind the bids.
        got: u64,
    },
    /// Too late.
    #[error("auction is closed: for round {round}: BAD_ROUND_NUMBER")]
    Closed {
        /// The round.
        round: u64,
    },
    /// Too little.
    #[error("reserve price {reserve}, bid {amount}: in round {round}: RESERVE_PRICE_NOT_MET")]
    BelowReserve {
        /// The round.
        round: u64,
        /// The least.
        reserve: U256,
        /// The bid.
        amount: U256,
    },
    /// No signature at all.
    #[error("signature length is not 65: but {bytes} in round {round}: MALFORMED_DATA")]
    SignatureLength {
        /// The round that is bid for.
        round: u64,
        /// How long it is.
        bytes: usize,
    },
    /// A recovery id in another notation.
    #[error("invalid Ethereum signature (V is not 27 or 28): but {v} in round {round}: WRONG_SIGNATURE")]
    SignatureParity {
        /// The round that is bid for.
        round: u64,
        /// What it is.
        v: u8,
    },
    /// A second form of a signature.
    #[error("invalid signature: s is in the upper half (EIP-2) in round {round}: WRONG_SIGNATURE")]
    SignatureMalleable {
        /// The round that is bid for.
        round: u64,
    },
    /// No signer can be recovered.
    #[error("no signer can be recovered from the signature in round {round}: MALFORMED_DATA")]
    Unrecoverable {
        /// The round that is bid for.
        round: u64,
    },
    /// Somebody else would have what the bidder pays for.
    #[error("controller {controller} is not the bidder {bidder}: in round {round}: NOT_EXPRESS_LANE_CONTROLLER")]
    ControllerNotBidder {
        /// The round that is bid for.
        round: u64,
        /// Who signed.
        bidder: Address,
        /// Whom the bid names.
        controller: Address,
    },
    /// Too many attempts.
    #[error(
        "bidder {bidder} has already sent the maximum allowed bids = {limit} in this round {round}: PER_ROUND_BID_LIMIT_REACHED"
    )]
    TooManyBids {
        /// The round.
        round: u64,
        /// Who bids.
        bidder: Address,
        /// How often one may.
        limit: u8,
    },
    /// The book is full of better bids.
    #[error("bid {amount} of bidder {bidder} is below all of {limit} in round {round}: PER_ROUND_BID_LIMIT_REACHED")]
    BookFull {
        /// The round.
        round: u64,
        /// Who bids.
        bidder: Address,
        /// The bid.
        amount: U256,
        /// How many bidders there may be.
        limit: usize,
    },
    /// Nothing deposited.
    #[error("bidder {bidder}: in round {round}: NOT_DEPOSITOR")]
    NotDepositor {
        /// The round.
        round: u64,
        /// Who bids.
        bidder: Address,
    },
    /// Too little deposited.
    #[error("bidder {bidder}, onchain balance {deposit:#x}, bid amount {amount:#x}: in round {round}: INSUFFICIENT_BALANCE")]
    InsufficientBalance {
        /// The round.
        round: u64,
        /// Who bids.
        bidder: Address,
        /// What is deposited.
        deposit: U256,
        /// The bid.
        amount: U256,
    },
    /// The bidding still goes on.
    #[error("the auction for round {round} still takes bids")]
    NotClosed {
        /// The round.
        round: u64,
    },
    /// An auction has one result.
    #[error("the auction for round {round} was resolved before")]
    ResolvedBefore {
        /// The round.
        round: u64,
    },
    /// The reserve would change under the bids.
    #[error("the reserve for round {round} is fixed until the auction is resolved")]
    ReserveFixed {
        /// The round.
        round: u64,
    },
    /// The round is at no time.
    #[error("the times of round {round} do not fit into 64 bits")]
    OutOfTime {
        /// The round.
        round: u64,
    },
    /// A record that no auction makes: too many bidders or attempts, or a bid for another auction or round.
    #[error("the record of round {round} holds {bidders} bidders of at most {limit}, and the entry of {bidder} is impossible")]
    ImpossibleRecord {
        /// The round.
        round: u64,
        /// How many bidders the record holds.
        bidders: usize,
        /// How many there may be.
        limit: usize,
        /// The entry that is too much or makes no sense.
        bidder: Address,
    },
}

impl TimeboostError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::WrongContract { .. } => "wrong_auction_contract",
            Self::NoController { .. } => "no_express_lane_controller",
            Self::WrongChain { .. } => "wrong_chain",
            Self::WrongRound { .. } => "wrong_round",
            Self::Closed { .. } => "bidding_closed",
            Self::BelowReserve { .. } => "below_reserve",
            Self::SignatureLength { .. } => "signature_length",
            Self::SignatureParity { .. } => "signature_parity",
            Self::SignatureMalleable { .. } => "signature_malleable",
            Self::Unrecoverable { .. } => "invalid_bid_signature",
            Self::ControllerNotBidder { .. } => "controller_not_bidder",
            Self::TooManyBids { .. } => "too_many_bids",
            Self::BookFull { .. } => "book_full",
            Self::NotDepositor { .. } => "not_depositor",
            Self::InsufficientBalance { .. } => "insufficient_balance",
            Self::NotClosed { .. } => "auction_not_closed",
            Self::ResolvedBefore { .. } => "round_resolved_before",
            Self::ReserveFixed { .. } => "reserve_fixed",
            Self::OutOfTime { .. } => "round_out_of_time",
            Self::ImpossibleRecord { .. } => "impossible_record",
        }
    }

    /// What Timeboost calls it: the auctioneer's error string for a bid, the contract's error for a step of the auction; `None`
    /// for what Timeboost has no name for.
    pub const fn wire_code(&self) -> Option<&'static str> {
        match self {
            Self::WrongContract { .. }
            | Self::NoController { .. }
            | Self::SignatureLength { .. }
            | Self::Unrecoverable { .. } => Some("MALFORMED_DATA"),
            Self::WrongChain { .. } => Some("WRONG_CHAIN_ID"),
            Self::WrongRound { .. } | Self::Closed { .. } => Some("BAD_ROUND_NUMBER"),
            Self::BelowReserve { .. } => Some("RESERVE_PRICE_NOT_MET"),
            Self::SignatureParity { .. } | Self::SignatureMalleable { .. } => Some("WRONG_SIGNATURE"),
            Self::ControllerNotBidder { .. } => Some("NOT_EXPRESS_LANE_CONTROLLER"),
            Self::TooManyBids { .. } | Self::BookFull { .. } => Some("PER_ROUND_BID_LIMIT_REACHED"),
            Self::NotDepositor { .. } => Some("NOT_DEPOSITOR"),
            Self::InsufficientBalance { .. } => Some("INSUFFICIENT_BALANCE"),
            Self::NotClosed { .. } => Some("AuctionNotClosed"),
            Self::ResolvedBefore { .. } => Some("RoundAlreadyResolved"),
            Self::ReserveFixed { .. } => Some("ReserveBlackout"),
            Self::OutOfTime { .. } | Self::ImpossibleRecord { .. } => None,
        }
    }

    /// What one can do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::WrongContract { .. } => "bid for the auction contract that the market names, and sign for it",
            Self::NoController { .. } => "name who may use the express lane; the zero address may not",
            Self::WrongChain { .. } => "chainId is that of the chain whose express lane is sold",
            Self::WrongRound { .. } => "only the next round is on sale",
            Self::Closed { .. } => "bid in the next round for the one after",
            Self::BelowReserve { .. } => "bid at least the reserve",
            Self::SignatureLength { .. } | Self::SignatureParity { .. } => "sign with 65 bytes r || s || v, v 27 or 28",
            Self::SignatureMalleable { .. } => "sign with an s in the lower half of its range",
            Self::Unrecoverable { .. } => "sign the EIP-712 digest of the bid (domain ExpressLaneAuction, version 1)",
            Self::ControllerNotBidder { .. } => "bid with the key that is to propose",
            Self::TooManyBids { .. } => "bid again in the next round",
            Self::BookFull { .. } => "bid more: only the two greatest bids count",
            Self::NotDepositor { .. } | Self::InsufficientBalance { .. } => "deposit at least what you bid before you bid",
            Self::NotClosed { .. } => "resolve between the end of the bidding and the end of the round",
            Self::ResolvedBefore { .. } => "wait for the next round",
            Self::ReserveFixed { .. } => "set the reserve early in a round, or after its auction is resolved",
            Self::OutOfTime { .. } => "check the clock and the offset of the rounds",
            Self::ImpossibleRecord { .. } => "the record was not written by this auction, or was damaged",
        }
    }
}

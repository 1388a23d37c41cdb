//! The market: who may propose where in a slot, and at what price.
//!
//! Rollups register their terms in a [`Registry`], which puts on [`Sale`] what is sold in a slot. Bids for packages of rollups come
//! in sealed to a [`SlotAuction`]; closing it has a [`Mechanism`] decide and yields an [`Outcome`]: the allocation, what each seller
//! gets, and all the bids, so that anyone can check it with [`Outcome::decide`]. A [`Ledger`] keeps the money, a [`RightsBook`] who
//! may propose where and how it ended, and [`EarningsHistory`] what each rollup earned. The [`Marketplace`] is all of that together.
//!
//! Whatever the mechanism, each seller gets at least its reserve, and a package must pay each of its sellers at least what the best
//! bid for that seller alone, which the package displaces, would have paid.
//!
//! Nothing here reads a clock or a socket. The same bids in any order give the same outcome.

mod ahead;
mod auction;
mod based;
mod bid;
mod bidding;
mod clock;
mod cluster;
mod cover;
mod draw;
mod epoch;
mod error;
mod espresso;
mod ledger;
mod listing;
mod marketplace;
mod mechanism;
mod outcome;
mod payment;
mod proposals;
mod registry;
mod reserve;
mod rights;
mod sale;
mod sealed;
mod settlement;
mod study;
mod tickets;
mod timeboost;
mod winner;

pub use ahead::{AheadSale, Calendar, CalendarError, ClockJump, MAX_EPOCH_SLOTS, SaleWindow, SlotPhase, SlotTimes, SteadyTime};
pub use auction::{Admission, MAX_BIDS_PER_BIDDER, MAX_BIDS_PER_SLOT, MAX_TAG_BYTES, SlotAuction};
pub use based::{BasedError, L1Schedule, L1Turn, L1View, MAX_LOOKAHEAD};
pub use bid::AcceptedBid;
pub use bidding::{
    BidResult, BiddingStrategy, Budget, Forecast, MAX_FORECAST_SETS, MAX_FORECAST_WINDOW, MAX_SPENDINGS, Shaded, Share, Valued,
};
pub use clock::{MAX_BLOCKS_PER_SLOT, SlotClock};
pub use cluster::{MAX_CLUSTER_MEMBERS, Presence, Standing, Units, standing};
pub use cover::{bond, most_payable};
pub use draw::{Draws, seed_commitment, slot_seed};
pub use epoch::{EpochError, EpochSale};
pub use error::MarketError;
pub use espresso::{ESPRESSO_TAG, EspressoBid, EspressoError};
pub use ledger::{
    Account, Balance, HoldId, Ledger, LedgerError, LedgerRecord, MAX_ACCOUNTS, MAX_HOLDS, MAX_WITHDRAWALS, Posting, PostingKind,
    Withdrawal,
};
pub use marketplace::{
    Abandoned, BatchSettled, Bidding, CallKey, Closed, DepositRules, Drawing, EpochBook, EpochClosed, HandedOver, L1Terms,
    MAX_CALLS, MAX_CALLS_OF_HOLDER, MAX_CLOSED, MarketRecord, Marketplace, Ordered, ProposalTerms, Proposed, Reported, Rules,
    SLOTS_AHEAD, Sealed, Selling, TICKET_POT, Taken,
};
pub use mechanism::{Clearing, Combinatorial, CoreSelecting, FirstPrice, Lottery, Mechanism, PostedPrice, SecondPrice, Win};
pub use outcome::Outcome;
pub use payment::{MAX_SHAPLEY_SELLERS, Sharing, floors, split};
pub use proposals::{Failed, Failure, MAX_PROPOSALS, ProposalAuction, ProposalError, ProposalRules, Selection};
pub use registry::{MAX_SELLERS, MAX_SLOTS_AHEAD, MAX_URL_BYTES, Registry};
pub use reserve::{
    Earnings, EarningsHistory, Figure, MAX_EARNINGS, MAX_HISTORY_SLOTS, MAX_PAST_VERSIONS, MAX_PENDING_VERSIONS,
    MAX_RESERVE_STEPS, Regret, ReserveError, Version, VersionError, Versions, check_reserve, median, reserve_at,
};
pub use rights::{
    Acquisition, Breach, Delegation, Ending, Granted, MAX_RIGHT_SLOTS, MAX_RIGHTS_PER_SLOT, Resale, Right, RightRecord,
    RightState, RightsBook, RightsError,
};
pub use sale::{MAX_AMOUNT, Sale, Terms};
pub use sealed::{Envelope, Envelopes, MAX_ENVELOPES, SealError, SealRules};
pub use settlement::{MAX_BATCH_CHANGES, MAX_BATCH_PAYOUTS, Settlement, SettlementRecord};
pub use study::{Conduct, MAX_STUDY_BIDDERS, MAX_STUDY_SELLERS, MAX_STUDY_SLOTS, Study, StudyError, StudyReport, StudySelling};
pub use tickets::{Drawn, Fill, MAX_TICKETS, Ticket, TicketBook, TicketError, TicketPrice, TicketRecord, TicketRules};
pub use timeboost::{
    LaneResult, LaneSale, MAX_TIMEBOOST_BIDDERS, MAX_TIMEBOOST_SUBMISSIONS, PlacedBid, RoundTiming, RoundTimingError,
    TIMEBOOST_BID_TYPE, TIMEBOOST_BID_TYPEHASH, TimeboostAuction, TimeboostBid, TimeboostDomain, TimeboostEntry, TimeboostError,
    TimeboostRecord, tie_break,
};
pub use winner::MAX_SEARCH_NODES;

//! Why a proxy does not start, and why a list is not in a block.

use std::net::SocketAddr;

/// Why an engine proxy, or a client of one, cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A port is taken, or not this machine's.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        cause: std::io::Error,
    },
    /// An address that is no `http://` address.
    #[error("the address is refused: {0}; use http://host:port")]
    Address(String),
    /// No HTTP client could be made.
    #[error("no HTTP client: {0}")]
    Client(String),
    /// The rollup is on flashblocks.
    #[error("the rollup is on flashblocks ({0}): parts of its blocks are public before a list could be put into them")]
    Flashblocks(String),
    /// The execution client does not take the proxy's token.
    #[error("the execution client refuses the token ({0}): give the proxy the client's own JWT secret, and check both clocks")]
    EngineJwt(String),
}

impl EngineError {
    /// A stable name of the error.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Listen { .. } => "listen",
            Self::Address(_) => "engine_address",
            Self::Client(_) => "http_client",
            Self::Flashblocks(_) => "flashblocks",
            Self::EngineJwt(_) => "engine_jwt",
        }
    }
}

/// Why a list is not, or will not be, in a block. The driver has the operator's own payload then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The list's time is over.
    #[error("the list expired at {0} ms")]
    Expired(u64),
    /// All places are taken by lists that have not ended.
    #[error("{0} lists wait already")]
    TooManyLists(usize),
    /// Another list is committed for the block.
    #[error("another list is committed for the block")]
    AnotherList,
    /// The driver has fetched its payload.
    #[error("the driver has fetched the block's payload already")]
    TooLate,
    /// The driver has set another head since it asked for the payload.
    #[error("the driver has moved on to another head")]
    Moved,
    /// The driver wants a block of deposits only.
    #[error("the driver wants nothing but deposits in the block (noTxPool)")]
    OnlyDeposits,
    /// The driver forces other transactions than the list was built on.
    #[error("the driver forces {driver} transactions, the list was built on {listed}; they differ from index {index} on")]
    ForcedPrefix {
        /// How many the driver forces.
        driver: usize,
        /// How many the list was built on.
        listed: usize,
        /// The first one that differs.
        index: usize,
    },
    /// An attribute differs from what the list was built on.
    #[error("the driver's {0} is another than the list was built on")]
    Attribute(&'static str),
    /// An attribute that this version does not know.
    #[error("the driver sends the attribute {0}, which this version does not know")]
    UnknownAttribute(String),
    /// A transaction that no list may hold.
    #[error("transaction {index} of the list {problem}")]
    Transaction {
        /// Its index in the list.
        index: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The execution client answered an error.
    #[error("the execution client answered error {code}: {message}")]
    Engine {
        /// Its code; -38001 to -38006 are the Engine API's own.
        code: i64,
        /// Its message.
        message: String,
    },
    /// The execution client's payload status is not VALID.
    #[error("the execution client answered {0}")]
    Status(String),
    /// The execution client began no payload.
    #[error("the execution client began no payload")]
    NoPayload,
    /// The execution client gave the list's payload the id of the operator's own.
    #[error("the execution client gave the list's payload the id of the operator's own")]
    SamePayload,
    /// The execution client took too long.
    #[error("the execution client did not answer within {0} ms")]
    Late(u64),
    /// The execution client cannot be reached.
    #[error("the execution client cannot be reached: {0}")]
    Unreachable(String),
    /// The execution client does not take the proxy's token.
    #[error("the execution client refuses the proxy's token: {0}")]
    Unauthorized(String),
    /// What the execution client answered cannot be read.
    #[error("the execution client's answer cannot be read: {0}")]
    Unreadable(String),
    /// The payload is not the list's.
    #[error("the payload's {0} is not the list's")]
    OtherPayload(&'static str),
    /// Another call holds the forkchoice.
    #[error("the driver's forkchoice call is under way")]
    Busy,
    /// The rollup is on flashblocks.
    #[error("the rollup is on flashblocks ({0})")]
    Flashblocks(String),
    /// No list was committed for the block, or it was forgotten.
    #[error("no list is known for the block")]
    UnknownList,
}

impl Refusal {
    /// A stable name of the reason.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Expired(_) => "expired",
            Self::TooManyLists(_) => "too_many_lists",
            Self::AnotherList => "another_list",
            Self::TooLate => "too_late",
            Self::Moved => "head_moved",
            Self::OnlyDeposits => "only_deposits",
            Self::ForcedPrefix { .. } => "forced_prefix_differs",
            Self::Attribute(_) => "attributes_differ",
            Self::UnknownAttribute(_) => "unknown_attribute",
            Self::Transaction { .. } => "transaction_not_allowed",
            Self::Engine { .. } => "engine_error",
            Self::Status(_) => "engine_status",
            Self::NoPayload => "engine_no_payload",
            Self::SamePayload => "engine_same_payload",
            Self::Late(_) => "engine_late",
            Self::Unreachable(_) => "engine_unreachable",
            Self::Unauthorized(_) => "engine_jwt",
            Self::Unreadable(_) => "engine_unreadable",
            Self::OtherPayload(_) => "other_payload",
            Self::Busy => "engine_busy",
            Self::Flashblocks(_) => "flashblocks",
            Self::UnknownList => "unknown_list",
        }
    }

    /// What to do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Expired(_) | Self::TooLate | Self::Moved => "commit the list before the driver fetches the block's payload",
            Self::TooManyLists(_) => "wait until one of them has ended",
            Self::AnotherList => "only one list may be committed for a block",
            Self::OnlyDeposits => "fork activations and a drifting sequencer leave no room for lists: sell a later block",
            Self::ForcedPrefix { .. } | Self::Attribute(_) => "plan with lockstepEngine_lastAttributes, or sell a later block",
            Self::UnknownAttribute(_) => "a fork came that this version does not know: update",
            Self::Transaction { .. } => "lists hold signed transactions only, no deposits and no blobs",
            Self::Engine { .. } | Self::Status(_) | Self::NoPayload | Self::SamePayload | Self::OtherPayload(_) => {
                "look at the execution client's log"
            }
            Self::Unauthorized(_) => "give the proxy the execution client's own JWT secret, and check both clocks",
            Self::Late(_) | Self::Unreachable(_) | Self::Unreadable(_) | Self::Busy => "look at the execution client's health",
            Self::Flashblocks(_) => "put the proxy in front of a client without flashblocks",
            Self::UnknownList => "commit it first; ended lists are forgotten after a while",
        }
    }
}

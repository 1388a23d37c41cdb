//! Why a bundle is refused, left out or ended: one stable code each, and where in the bundle.

use std::fmt;

use alloy_primitives::{Address, B256, Bytes, I256, U256};

use crate::ChainId;

/// Where in a bundle something went wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The rollup.
    pub chain: Option<ChainId>,
    /// The leg's index in the bundle.
    pub leg: Option<usize>,
    /// The transaction's index in the leg.
    pub index: Option<usize>,
}

impl Place {
    /// The bundle as a whole.
    pub const BUNDLE: Self = Self { chain: None, leg: None, index: None };

    /// A rollup of the bundle.
    pub const fn rollup(chain: ChainId) -> Self {
        Self { chain: Some(chain), leg: None, index: None }
    }

    /// A leg.
    pub const fn leg(chain: ChainId, leg: usize) -> Self {
        Self { chain: Some(chain), leg: Some(leg), index: None }
    }

    /// A transaction of a leg.
    pub const fn tx(chain: ChainId, leg: usize, index: usize) -> Self {
        Self { chain: Some(chain), leg: Some(leg), index: Some(index) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(leg) = self.leg {
            parts.push(format!("leg {leg}"));
        }
        if let Some(index) = self.index {
            parts.push(format!("transaction {index}"));
        }
        if let Some(chain) = self.chain {
            parts.push(format!("rollup {chain}"));
        }
        if parts.is_empty() { f.write_str("bundle") } else { f.write_str(&parts.join(", ")) }
    }
}

/// When something that is not valid can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// In another state or a later block. It stays in the pool.
    Later,
    /// Never. It is refused or evicted.
    Never,
}

/// What is wrong. [`Reason::code`] is stable; the text may be reworded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// A rollup that this builder does not serve.
    #[error("this builder does not serve the rollup")]
    UnknownRollup,
    /// Not an EIP-2718 transaction.
    #[error("the transaction cannot be decoded: {0}")]
    UndecodableTransaction(String),
    /// The signature recovers no signer.
    #[error("no signer can be recovered from the transaction's signature")]
    InvalidSignature,
    /// Signed for another chain.
    #[error("the transaction is signed for chain {signed}")]
    WrongChainId {
        /// The chain id in the transaction.
        signed: ChainId,
    },
    /// Legacy transaction without EIP-155 protection.
    #[error("the transaction has no chain id and could be replayed on every rollup")]
    UnprotectedTransaction,
    /// Type 0x03.
    #[error("blob transactions are not accepted")]
    BlobTransaction,
    /// Type 0x7e.
    #[error("deposit transactions come from the rollup's derivation, never from users")]
    DepositTransaction,
    /// Type 0x04 before the rollup knows it.
    #[error("the rollup's rules do not know set-code transactions (EIP-7702)")]
    SetCodeTransaction,
    /// No legs.
    #[error("the bundle has no legs")]
    EmptyBundle,
    /// A leg without transactions.
    #[error("the leg has no transactions")]
    EmptyLeg,
    /// Transactions and a relay in one leg.
    #[error("the leg has both transactions and a relay")]
    AmbiguousLeg,
    /// An asset that is neither native nor an address.
    #[error("{0:?} is neither \"native\" nor a token's address")]
    InvalidAsset(String),
    /// Only relays, so nothing was asked for by a signature.
    #[error("the bundle has no signed transaction")]
    NoSignedTransaction,
    /// A relay that names a leg after it.
    #[error("the relay names leg {leg}, which is not before it")]
    RelayToLaterLeg {
        /// The named leg.
        leg: usize,
    },
    /// A relay that waits for itself.
    #[error("the relay depends on itself")]
    RelayCycle,
    /// A relay that names neither an earlier leg nor a landed transaction, or both.
    #[error("the relay names neither a leg nor a transaction, or both")]
    AmbiguousRelay,
    /// A relay on the rollup that the message is sent from.
    #[error("the relay delivers to rollup {0}, which the message is sent from")]
    RelaySameRollup(crate::ChainId),
    /// Two relays for one message.
    #[error("two relays deliver {0}")]
    RelayTwice(crate::Relay),
    /// The same transaction twice.
    #[error("transaction {0} is in the bundle twice")]
    DuplicateTransaction(B256),
    /// A hash that is both reverting and dropping.
    #[error("transaction {0} is both in revertingTxHashes and in droppingTxHashes")]
    ConflictingModes(B256),
    /// A listed hash that no transaction of the leg has.
    #[error("{0} is listed as reverting or dropping, but no transaction of the leg has that hash")]
    UnknownTxHash(B256),
    /// Block bounds for a rollup that no leg is on.
    #[error("block bounds are given for a rollup that no leg is on")]
    BoundsForUnusedRollup,
    /// min > max.
    #[error("the range is empty: min {min} is greater than max {max}")]
    EmptyRange {
        /// Lower bound.
        min: u64,
        /// Upper bound.
        max: u64,
    },
    /// The last block has passed.
    #[error("block {max} has passed, the rollup is at {head}")]
    PastBlock {
        /// The bundle's last block.
        max: u64,
        /// The rollup's head.
        head: u64,
    },
    /// The last timestamp has passed.
    #[error("timestamp {max} has passed, it is {now}")]
    PastTimestamp {
        /// The bundle's last timestamp in seconds.
        max: u64,
        /// Now, in seconds.
        now: u64,
    },
    /// A block that is too far ahead to wait for.
    #[error("block {min} is more than {limit} blocks ahead of the head {head}")]
    TooFarAhead {
        /// The bundle's first block.
        min: u64,
        /// The rollup's head.
        head: u64,
        /// How far ahead a bundle may look.
        limit: u64,
    },
    /// More legs than the limit.
    #[error("{count} legs are more than {limit}")]
    TooManyLegs {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// More transactions than the limit.
    #[error("{count} transactions are more than {limit}")]
    TooManyTransactions {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// More conditions than the limit.
    #[error("{count} requirements are more than {limit}")]
    TooManyRequirements {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// More gas than the limit.
    #[error("its transactions may use {gas} gas together, which is more than {limit}")]
    TooMuchGas {
        /// The sum of their gas limits.
        gas: u64,
        /// How much it may be.
        limit: u64,
    },
    /// More bytes than the limit.
    #[error("{bytes} bytes of transactions are more than {limit}")]
    TooLarge {
        /// How many there are.
        bytes: usize,
        /// How many there may be.
        limit: usize,
    },
    /// More authorizations (EIP-7702) than the limit.
    #[error("{count} authorizations are more than {limit}")]
    TooManyAuthorizations {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A nonce that the chain has already used.
    #[error("nonce {nonce} of {signer} is used, the account is at {account}")]
    NonceTooLow {
        /// The signer.
        signer: Address,
        /// In the transaction.
        nonce: u64,
        /// In the state.
        account: u64,
    },
    /// A nonce that earlier transactions have to fill first.
    #[error("nonce {nonce} of {signer} is ahead, the account is at {account}")]
    NonceTooHigh {
        /// The signer.
        signer: Address,
        /// In the transaction.
        nonce: u64,
        /// In the state.
        account: u64,
    },
    /// Cannot pay for gas and value.
    #[error("{signer} has {balance} wei, the transaction may cost {cost}")]
    InsufficientFunds {
        /// The signer.
        signer: Address,
        /// In wei.
        balance: U256,
        /// In wei.
        cost: U256,
    },
    /// The fee cap is below the block's base fee.
    #[error("the transaction's fee cap {cap} is below the base fee {base_fee}")]
    FeeCapTooLow {
        /// maxFeePerGas or gasPrice, in wei.
        cap: u128,
        /// Of the block, in wei.
        base_fee: u64,
    },
    /// More gas than a transaction or a block may use.
    #[error("gas limit {gas} is above {limit}")]
    GasLimitTooHigh {
        /// Of the transaction.
        gas: u64,
        /// Of the rollup.
        limit: u64,
    },
    /// Less gas than the transaction costs before anything is executed, or than its calldata costs at least (EIP-7623).
    #[error("gas limit {gas} is below {minimum}, which the transaction costs at least")]
    GasBelowMinimum {
        /// Of the transaction.
        gas: u64,
        /// The least that is valid.
        minimum: u64,
    },
    /// Init code beyond the limit of the rules (EIP-3860).
    #[error("{bytes} bytes of init code are more than {limit}")]
    InitCodeTooLarge {
        /// How many there are.
        bytes: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Any other rule of the protocol that makes the transaction invalid.
    #[error("the transaction is invalid: {0}")]
    InvalidTransaction(String),
    /// It reverted.
    #[error("the transaction reverted{}", reverted_with(.message))]
    Reverted {
        /// Decoded `Error(string)` or `Panic(uint256)`, when it is one.
        message: Option<String>,
        /// The revert data.
        data: Bytes,
    },
    /// It halted: out of gas, invalid opcode and the like.
    #[error("the transaction halted: {0}")]
    Halted(String),
    /// The block has no room for the transaction.
    #[error("the block has {left} gas left, the transaction may use {gas}")]
    NoRoom {
        /// Gas limit of the transaction.
        gas: u64,
        /// Gas left in the block.
        left: u64,
    },
    /// The block has no room for the transaction's data: its footprint (OP stack, Jovian), or its estimated compressed bytes
    /// where the sequencer limits those.
    #[error("the block has {left} of data-availability footprint left, the transaction needs {footprint}")]
    NoDataRoom {
        /// Footprint or bytes of the transaction.
        footprint: u64,
        /// Footprint or bytes left in the block.
        left: u64,
    },
    /// The transaction's data is more than the sequencer takes from one transaction for now.
    #[error("the transaction's data is {bytes} compressed bytes, the sequencer takes {limit} from one transaction")]
    TxDataTooLarge {
        /// Estimated compressed bytes of the transaction, with what its evidence may add.
        bytes: u64,
        /// The most that one transaction may have.
        limit: u64,
    },
    /// The encoded block has no room for the transaction (EIP-7934).
    #[error("the encoded block has room for {left} bytes, the transaction has {bytes}")]
    NoByteRoom {
        /// Encoded bytes of the transaction.
        bytes: u64,
        /// Bytes left in the block.
        left: u64,
    },
    /// The block that activates a fork of the OP stack.
    #[error("the block activates a fork and holds deposits only")]
    OnlyDeposits,
    /// A leg emitted fewer messages than a relay expects.
    #[error("the relay delivers message {message} of leg {leg}, which emitted {count}")]
    NoSuchMessage {
        /// The leg.
        leg: usize,
        /// The message.
        message: usize,
        /// How many were recognised.
        count: usize,
    },
    /// The message goes elsewhere.
    #[error("the message goes to {destination}, not to the relay's rollup")]
    WrongDestination {
        /// The destination as the protocol names it.
        destination: String,
    },
    /// Only another caller may deliver the message.
    #[error("only {caller} may deliver the message, the builder is {builder}")]
    RestrictedCaller {
        /// Who may.
        caller: Address,
        /// Who would.
        builder: Address,
    },
    /// A message that looks like one of a protocol, but is malformed.
    #[error("the message cannot be read: {0}")]
    MalformedMessage(String),
    /// The message was delivered before.
    #[error("the message {0} is already delivered")]
    MessageDelivered(B256),
    /// No evidence source speaks for the message.
    #[error("no evidence for the message: {0}")]
    NoEvidence(String),
    /// The bundle closes a cycle of messages between rollups whose sequencers the attester does not trust.
    #[error("the bundle sends messages both ways between rollups that the attester does not trust to vote blindly")]
    MutualMessages,
    /// A landed message that the builder's nodes do not know.
    #[error("the message is not known: {0}")]
    UnknownMessage(String),
    /// Who has to attest the message has not done so yet.
    #[error("the evidence is not there yet: {0}")]
    EvidencePending(String),
    /// The message cannot be delivered any more.
    #[error("the message has expired: {0}")]
    MessageExpired(String),
    /// A transaction executes a message of which it is not certain that it was sent (OP interop).
    #[error("the transaction executes a message that is not certain: {text}")]
    UncertainMessage {
        /// The rollup that the message is said to be of; `None` when that cannot be read.
        origin: Option<crate::ChainId>,
        /// What is not certain.
        text: String,
    },
    /// Messages of one timestamp wait for each other (OP interop).
    #[error("messages of one timestamp wait for each other: {0}")]
    MessageCycle(String),
    /// The destination does not take messages from the origin (OP interop).
    #[error("rollup {destination} does not depend on rollup {origin}")]
    NotInDependencySet {
        /// Where the message is sent.
        origin: crate::ChainId,
        /// Where it would be delivered.
        destination: crate::ChainId,
    },
    /// The rollup does not sell claims against exits of the same slot (AggLayer).
    #[error("rollup {0} does not take claims of the slot in which the exit happens")]
    SameSlotClaim(crate::ChainId),
    /// The builder may not insert exit roots on the rollup (AggLayer).
    #[error("only {updater} may insert exit roots, the builder is {builder}")]
    ExitRootUpdater {
        /// Who may.
        updater: Address,
        /// Who would.
        builder: Address,
    },
    /// More of a token would leave a rollup than ever came (AggLayer's pessimistic rule).
    #[error("{exports} of token {token} of network {network} would leave, {available} are there")]
    TokenUnderflow {
        /// The token's own network.
        network: u32,
        /// The token on its own network.
        token: Address,
        /// What was settled, and what the slot imports.
        available: U256,
        /// What the slot exports.
        exports: U256,
    },
    /// A balance condition does not hold.
    #[error("the balance of {account} rises by {increase}, required are {required}")]
    RequirementNotMet {
        /// Whose balance.
        account: Address,
        /// By how much it rises; negative when it falls.
        increase: I256,
        /// By how much it has to.
        required: U256,
    },
    /// A balance condition cannot be read.
    #[error("the balance of {account} in token {token} cannot be read")]
    UnreadableBalance {
        /// Whose balance.
        account: Address,
        /// The token.
        token: Address,
    },
    /// The bundle takes more from the proposer than it gives.
    #[error("the bundle's value to the proposer is {value}")]
    Unprofitable {
        /// In the numeraire's smallest unit.
        value: I256,
    },
    /// Every transaction would be left out.
    #[error("every transaction of the bundle would be left out")]
    NothingLeft,
    /// Not yet valid: a block or timestamp bound lies ahead.
    #[error("the bundle is valid from {0} on")]
    NotYet(String),
    /// The slot has no block of the rollup that fits the bundle's bounds.
    #[error("the slot has no block of the rollup inside the bundle's bounds")]
    NoBlockInSlot,
    /// The builder did not win a rollup of the bundle.
    #[error("the builder does not propose for the rollup in this slot")]
    RollupNotWon,
    /// The sequencers did not all agree in time.
    #[error("the slot's decision was abort: {0}")]
    DecisionAbort(String),
    /// Its bounds have passed.
    #[error("the bundle's bounds have passed")]
    Expired,
    /// Cancelled by its sender.
    #[error("cancelled by its sender")]
    Cancelled,
    /// Replaced by its sender.
    #[error("replaced by {0}")]
    Replaced(B256),
    /// A replacement whose nonce does not rise.
    #[error("replacement nonce {nonce} is not above {current}")]
    ReplacementNonceTooLow {
        /// Of the new bundle.
        nonce: u64,
        /// Of the bundle in the pool.
        current: u64,
    },
    /// A replacement identity that is none.
    #[error("{0}")]
    InvalidReplacement(String),
    /// Replacement needs an identity.
    #[error("replacing and cancelling need a signed request")]
    ReplacementNeedsSigner,
    /// The bundle that is in the pool can no longer be replaced.
    #[error("the bundle is already {0}")]
    TooLate(&'static str),
    /// A plain transaction with a nonce that is taken, and not enough more fee.
    #[error("replacing a pending transaction needs a fee at least {0} % higher")]
    ReplacementUnderpriced(u64),
    /// No room in the pool.
    #[error("the pool is full: it holds {limit} bundles")]
    PoolFull {
        /// How many bundles it holds.
        limit: usize,
    },
    /// No room for one more bundle of this sender.
    #[error("the sender has {limit} bundles pending")]
    SenderFull {
        /// How many it may have.
        limit: usize,
    },
    /// The sender's pending bundles may use as much gas as those of one sender may.
    #[error("the sender's pending bundles may use {gas} gas together, and with this one more than {limit}")]
    SenderGas {
        /// The sum of the gas limits of what is pending.
        gas: u64,
        /// How much it may be.
        limit: u64,
    },
    /// The order that the rollup sells does not let the transaction come where the bundle would go.
    #[error("by the rollup's ordering the transaction at position {position} belongs before that at {earlier_position}: {text}")]
    OutOfOrder {
        /// Position in the block, after the forced prefix, of the transaction that comes too late.
        position: u32,
        /// Position of the transaction that it belongs before.
        earlier_position: u32,
        /// Both hashes, and the numbers that decide.
        text: String,
    },
    /// A leg landed and another did not.
    #[error("some legs landed and others did not")]
    Partial,
    /// It had landed, and the chain took another way.
    #[error("a reorg took it off its chain")]
    Reorged,
    /// It had landed, and some of its rollups took another way.
    #[error("a reorg took transactions of it off rollups {lost:?}; what it did elsewhere stands")]
    ReorgedInPart {
        /// The rollups that lost transactions of it.
        lost: Vec<crate::ChainId>,
    },
}

fn reverted_with(message: &Option<String>) -> String {
    message.as_ref().map(|message| format!(": {message}")).unwrap_or_default()
}

impl Reason {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownRollup => "unknown_rollup",
            Self::UndecodableTransaction(_) => "undecodable_transaction",
            Self::InvalidSignature => "invalid_signature",
            Self::WrongChainId { .. } => "wrong_chain_id",
            Self::UnprotectedTransaction => "unprotected_transaction",
            Self::BlobTransaction => "blob_transaction",
            Self::DepositTransaction => "deposit_transaction",
            Self::SetCodeTransaction => "set_code_transaction",
            Self::EmptyBundle => "empty_bundle",
            Self::EmptyLeg => "empty_leg",
            Self::AmbiguousLeg => "ambiguous_leg",
            Self::InvalidAsset(_) => "invalid_asset",
            Self::NoSignedTransaction => "no_signed_transaction",
            Self::RelayToLaterLeg { .. } => "relay_to_later_leg",
            Self::RelayCycle => "relay_cycle",
            Self::AmbiguousRelay => "ambiguous_relay",
            Self::RelaySameRollup(_) => "relay_same_rollup",
            Self::RelayTwice(_) => "relay_twice",
            Self::DuplicateTransaction(_) => "duplicate_transaction",
            Self::ConflictingModes(_) => "conflicting_modes",
            Self::UnknownTxHash(_) => "unknown_tx_hash",
            Self::BoundsForUnusedRollup => "bounds_for_unused_rollup",
            Self::EmptyRange { .. } => "empty_range",
            Self::PastBlock { .. } => "past_block",
            Self::PastTimestamp { .. } => "past_timestamp",
            Self::TooFarAhead { .. } => "too_far_ahead",
            Self::TooManyLegs { .. } => "too_many_legs",
            Self::TooManyTransactions { .. } => "too_many_transactions",
            Self::TooManyRequirements { .. } => "too_many_requirements",
            Self::TooMuchGas { .. } => "too_much_gas",
            Self::TooLarge { .. } => "too_large",
            Self::TooManyAuthorizations { .. } => "too_many_authorizations",
            Self::NonceTooLow { .. } => "nonce_too_low",
            Self::NonceTooHigh { .. } => "nonce_too_high",
            Self::InsufficientFunds { .. } => "insufficient_funds",
            Self::FeeCapTooLow { .. } => "fee_cap_too_low",
            Self::GasLimitTooHigh { .. } => "gas_limit_too_high",
            Self::GasBelowMinimum { .. } => "gas_below_minimum",
            Self::InitCodeTooLarge { .. } => "init_code_too_large",
            Self::InvalidTransaction(_) => "invalid_transaction",
            Self::Reverted { .. } => "reverted",
            Self::Halted(_) => "halted",
            Self::NoRoom { .. } => "no_room",
            Self::NoDataRoom { .. } => "no_data_room",
            Self::TxDataTooLarge { .. } => "tx_data_too_large",
            Self::NoByteRoom { .. } => "no_byte_room",
            Self::OnlyDeposits => "only_deposits",
            Self::NoSuchMessage { .. } => "no_such_message",
            Self::WrongDestination { .. } => "wrong_destination",
            Self::RestrictedCaller { .. } => "restricted_caller",
            Self::MalformedMessage(_) => "malformed_message",
            Self::MessageDelivered(_) => "message_delivered",
            Self::NoEvidence(_) => "no_evidence",
            Self::MutualMessages => "mutual_messages",
            Self::UnknownMessage(_) => "unknown_message",
            Self::EvidencePending(_) => "evidence_pending",
            Self::MessageExpired(_) => "message_expired",
            Self::UncertainMessage { .. } => "uncertain_message",
            Self::MessageCycle(_) => "message_cycle",
            Self::NotInDependencySet { .. } => "not_in_dependency_set",
            Self::SameSlotClaim(_) => "same_slot_claim",
            Self::ExitRootUpdater { .. } => "exit_root_updater",
            Self::TokenUnderflow { .. } => "token_underflow",
            Self::RequirementNotMet { .. } => "requirement_not_met",
            Self::UnreadableBalance { .. } => "unreadable_balance",
            Self::Unprofitable { .. } => "unprofitable",
            Self::NothingLeft => "nothing_left",
            Self::NotYet(_) => "not_yet",
            Self::NoBlockInSlot => "no_block_in_slot",
            Self::RollupNotWon => "rollup_not_won",
            Self::DecisionAbort(_) => "decision_abort",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Replaced(_) => "replaced",
            Self::ReplacementNonceTooLow { .. } => "replacement_nonce_too_low",
            Self::InvalidReplacement(_) => "invalid_replacement",
            Self::ReplacementNeedsSigner => "replacement_needs_signer",
            Self::TooLate(_) => "too_late",
            Self::ReplacementUnderpriced(_) => "replacement_underpriced",
            Self::PoolFull { .. } => "pool_full",
            Self::SenderFull { .. } => "sender_full",
            Self::SenderGas { .. } => "sender_gas",
            Self::OutOfOrder { .. } => "out_of_order",
            Self::Partial => "partial",
            Self::Reorged => "reorged",
            Self::ReorgedInPart { .. } => "reorged_in_part",
        }
    }

    /// What the sender can do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::UnknownRollup => "lockstep_getSlot lists the rollups that are served",
            Self::UndecodableTransaction(_) => {
                "send the EIP-2718 bytes of one signed transaction, as eth_sendRawTransaction takes them"
            }
            Self::InvalidSignature => "sign again with a low s and a valid recovery id",
            Self::WrongChainId { .. } | Self::UnprotectedTransaction => "sign with the chain id of the leg's rollup (EIP-155)",
            Self::BlobTransaction => "send blob transactions to the rollup's own mempool",
            Self::DepositTransaction => "deposits are made on L1",
            Self::SetCodeTransaction => "send it when the rollup's rules know EIP-7702 (Prague, Isthmus)",
            Self::EmptyBundle | Self::EmptyLeg => "remove the leg or give it transactions",
            Self::AmbiguousLeg => "make two legs of it",
            Self::InvalidAsset(_) => "give \"native\" or the 0x-prefixed address of an ERC-20 token",
            Self::NoSignedTransaction => "a bundle needs at least one transaction that its user signed",
            Self::RelayToLaterLeg { .. } | Self::RelayCycle => "put the leg that emits the message before the relay",
            Self::AmbiguousRelay => "give leg and message, or chainId, txHash and message of a transaction that has landed",
            Self::RelaySameRollup(_) => "a message is delivered on another rollup than the one that emits it",
            Self::RelayTwice(_) => "every message is delivered once",
            Self::DuplicateTransaction(_) => "list every transaction once",
            Self::ConflictingModes(_) => "a transaction may revert or be dropped, not both",
            Self::UnknownTxHash(_) => "list hashes of the leg's own transactions",
            Self::BoundsForUnusedRollup => "give bounds for rollups of the bundle only",
            Self::EmptyRange { .. } => "swap the bounds",
            Self::PastBlock { .. } | Self::PastTimestamp { .. } | Self::Expired => "send it again with later bounds",
            Self::TooFarAhead { .. } => "send it nearer to its first block",
            Self::TooManyLegs { .. }
            | Self::TooManyTransactions { .. }
            | Self::TooManyRequirements { .. }
            | Self::TooManyAuthorizations { .. }
            | Self::TooLarge { .. } => "split the bundle",
            Self::TooMuchGas { .. } => "lower the gas limits to what the transactions need, or split the bundle",
            Self::NonceTooLow { .. } => "sign again with the account's next nonce",
            Self::NonceTooHigh { .. } => "send the transactions before it, in this bundle or on their own",
            Self::InsufficientFunds { .. } => {
                "fund the account, in an earlier leg if need be, or lower gas limit, fee cap or value"
            }
            Self::FeeCapTooLow { .. } => "raise maxFeePerGas, or wait for a lower base fee",
            Self::GasLimitTooHigh { .. } => "lower the gas limit (EIP-7825 caps it at 16777216 where Osaka rules hold)",
            Self::GasBelowMinimum { .. } => {
                "raise the gas limit (EIP-7623: 21000 and 10 gas a zero byte, 40 any other byte, at least)"
            }
            Self::InitCodeTooLarge { .. } => "make the contract smaller, or create it in parts",
            Self::InvalidTransaction(_) => "check the transaction against the rollup's rules",
            Self::Reverted { .. } | Self::Halted(_) => {
                "lockstep_simulateBundle shows the leg's result; revertingTxHashes or droppingTxHashes let the bundle live without it"
            }
            Self::NoRoom { .. } | Self::NoDataRoom { .. } => "pay more for the gas, or lower the gas limit",
            Self::TxDataTooLarge { .. } => "send less calldata, or wait until the sequencer takes more",
            Self::NoByteRoom { .. } => "pay more for the gas, or send less calldata",
            Self::OnlyDeposits => "it waits for the next block",
            Self::NoSuchMessage { .. } => "lockstep_simulateBundle lists the messages of every leg",
            Self::WrongDestination { .. } => "put the relay on the rollup that the message names",
            Self::RestrictedCaller { .. } => "burn without a destination caller, or name the builder",
            Self::MalformedMessage(_) => "the emitting contract does not follow its protocol",
            Self::MessageDelivered(_) => "a message can be delivered once only",
            Self::NoEvidence(_) => "the builder has no source of evidence for this protocol and route",
            Self::MutualMessages => "split the bundle, or send it when no bundle goes the other way",
            Self::UnknownMessage(_) => {
                "give the rollup, the hash of a transaction that is on its chain, and the index of its message"
            }
            Self::EvidencePending(_) => "it waits in the pool until the attesters have signed",
            Self::MessageExpired(_) => "send the message again",
            Self::UncertainMessage { .. } => {
                "execute messages of served rollups only, from blocks before the slot or by a relay leg of the bundle that sends them"
            }
            Self::MessageCycle(_) => "execute a message after the log that sends it, on every rollup",
            Self::NotInDependencySet { .. } => "messages can be sent between rollups of one dependency set only",
            Self::SameSlotClaim(_) => "send the exit first and claim it in a later slot",
            Self::ExitRootUpdater { .. } => "claim once the exit root has been inserted",
            Self::TokenUnderflow { .. } => "wait until more of the token has been brought to the rollup",
            Self::RequirementNotMet { .. } => "relax the requirement, or wait for a better state",
            Self::UnreadableBalance { .. } => "the asset has to be an ERC-20 token on that rollup",
            Self::Unprofitable { .. } => "raise the priority fee or pay the builder's address, at least for the relay's gas",
            Self::NothingLeft => "it waits for a state in which one of its droppable transactions is valid",
            Self::NotYet(_) => "it waits in the pool",
            Self::NoBlockInSlot => "it waits for a slot with such a block",
            Self::RollupNotWon => "it waits for a slot that the builder wins",
            Self::DecisionAbort(_) => "nothing of it was published; it waits for the next slot",
            Self::Cancelled | Self::Replaced(_) => "nothing more will happen to it",
            Self::ReplacementNonceTooLow { .. } => "raise replacementNonce",
            Self::InvalidReplacement(_) => "give a UUID and a nonce that rises with each replacement, or neither",
            Self::ReplacementNeedsSigner => "sign the request body: X-Flashbots-Signature",
            Self::TooLate(_) => "its list is on its way to the sequencers",
            Self::ReplacementUnderpriced(_) => "raise both the fee cap and the priority fee",
            Self::PoolFull { .. } => "try again later",
            Self::SenderFull { .. } | Self::SenderGas { .. } => "wait until some of them land, or cancel one",
            Self::OutOfOrder { .. } => "market_getSlot tells the ordering; it waits for a block in which its place is free",
            Self::Partial => "lockstep_getBundle names the legs that landed",
            Self::Reorged => "it waits for the next slot while it is valid; when it is not, sign it again",
            Self::ReorgedInPart { .. } => "lockstep_getBundle names the legs that still stand; it may land again by itself",
        }
    }

    /// Whether it is about what a block has room for, which depends on what else is in it.
    pub const fn is_room(&self) -> bool {
        matches!(self, Self::NoRoom { .. } | Self::NoDataRoom { .. } | Self::NoByteRoom { .. })
    }

    /// Whether another state or a later block can cure it.
    pub const fn validity(&self) -> Validity {
        match self {
            Self::NonceTooHigh { .. }
            | Self::InsufficientFunds { .. }
            | Self::FeeCapTooLow { .. }
            | Self::Reverted { .. }
            | Self::Halted(_)
            | Self::NoRoom { .. }
            | Self::NoDataRoom { .. }
            | Self::TxDataTooLarge { .. }
            | Self::NoByteRoom { .. }
            | Self::OnlyDeposits
            | Self::SetCodeTransaction
            | Self::NoSuchMessage { .. }
            | Self::NoEvidence(_)
            | Self::MutualMessages
            | Self::UnknownMessage(_)
            | Self::EvidencePending(_)
            | Self::UncertainMessage { .. }
            | Self::MessageCycle(_)
            | Self::NotInDependencySet { .. }
            | Self::SameSlotClaim(_)
            | Self::ExitRootUpdater { .. }
            | Self::TokenUnderflow { .. }
            | Self::RequirementNotMet { .. }
            | Self::UnreadableBalance { .. }
            | Self::Unprofitable { .. }
            | Self::NothingLeft
            | Self::NotYet(_)
            | Self::NoBlockInSlot
            | Self::RollupNotWon
            | Self::DecisionAbort(_)
            | Self::OutOfOrder { .. }
            | Self::WrongDestination { .. }
            | Self::RestrictedCaller { .. }
            | Self::MalformedMessage(_)
            | Self::InvalidTransaction(_)
            | Self::PoolFull { .. }
            | Self::SenderFull { .. }
            | Self::SenderGas { .. }
            | Self::Reorged
            | Self::TooFarAhead { .. } => Validity::Later,
            _ => Validity::Never,
        }
    }
}

/// A reason and where in the bundle it applies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct Rejection {
    /// Where.
    pub place: Place,
    /// What.
    pub reason: Reason,
}

impl Rejection {
    /// A rejection at a place.
    pub const fn new(place: Place, reason: Reason) -> Self {
        Self { place, reason }
    }
}

//! The namespaces that Lockstep itself defines, as server traits and typed clients.
//!
//! Parameters that users write by hand are taken as raw JSON and parsed by [`parse`](crate::parse), so that what is wrong
//! with them has a stable reason; parameters between roles are typed.

use jsonrpsee::{
    core::{RpcResult, SubscriptionResult},
    proc_macros::rpc,
};
use serde_json::Value;

use crate::wire::{
    AllocationWire, BidCancellationWire, BidReceipt, BidWire, BlindedProposalWire, BundleReceiptWire, BundleStatus, CallView,
    DecisionWire, DeliveryReportWire, DepositWire, EncryptedReceiptWire, EncryptedTailView, EncryptedTxStatus, EncryptionView,
    EpochBidWire, EpochView, EscrowView, Explanation, LedgerView, MarketSlot, MessageList, OpenParams, OpeningWire,
    ProposalCallWire, ProposalParams, ProposalRevealWire, ProposalView, RegistrationWire, RevenueParams, RevenueView,
    RightOfferWire, RightTransferWire, RightView, RollupTerms, SealedBidsWire, SentBundle, SharesWire, SignedPrepare,
    SimulationResult, SlotOffer, SlotStatus, TicketOrderWire, TicketReceipt, TicketsView, TimeboostBidWire, VoteWire,
    WithdrawalReceipt, WithdrawalWire,
};

use alloy_primitives::{Address, B256, Bytes, U64};

/// `lockstep_*`: bundles over several rollups.
#[rpc(server, client, namespace = "lockstep")]
pub trait LockstepApi {
    /// Admits a bundle. Answers once it is durable.
    #[method(name = "sendBundle", with_extensions)]
    async fn send_bundle(&self, bundle: Value) -> RpcResult<SentBundle>;

    /// Runs a bundle on the pending state and tells what it does. Admits nothing.
    #[method(name = "simulateBundle", with_extensions)]
    async fn simulate_bundle(&self, bundle: Value) -> RpcResult<SimulationResult>;

    /// Takes a bundle back; needs the signer that sent it. Whether there was one.
    #[method(name = "cancelBundle", with_extensions)]
    async fn cancel_bundle(&self, which: Value) -> RpcResult<bool>;

    /// Where a bundle stands.
    #[method(name = "getBundle", with_extensions)]
    async fn get_bundle(&self, bundle_hash: B256) -> RpcResult<BundleStatus>;

    /// How a bundle ended, signed by the builder; once it has ended.
    #[method(name = "getReceipt", with_extensions)]
    async fn get_receipt(&self, bundle_hash: B256) -> RpcResult<BundleReceiptWire>;

    /// Why a bundle is where it is, in words.
    #[method(name = "explainBundle", with_extensions)]
    async fn explain_bundle(&self, bundle_hash: B256) -> RpcResult<Explanation>;

    /// A slot; the current one without a number.
    #[method(name = "getSlot")]
    async fn get_slot(&self, slot: Option<u64>) -> RpcResult<SlotStatus>;

    /// The messages between rollups that the builder knows of, the one that was found last first; with a filter, those that fit
    /// it.
    #[method(name = "getMessages")]
    async fn get_messages(&self, filter: Option<Value>) -> RpcResult<MessageList>;

    /// `"bundles"`: every step of the subscriber's bundles (those of unsigned requests by `{"bundleHash"}`); `"slots"`: a
    /// report a slot.
    #[subscription(name = "subscribe" => "subscription", unsubscribe = "unsubscribe", item = Value, with_extensions)]
    async fn watch(&self, kind: String, filter: Option<Value>) -> SubscriptionResult;
}

/// `market_*`: the right to propose.
#[rpc(server, client, namespace = "market")]
pub trait MarketApi {
    /// Puts a rollup on sale, or changes its terms.
    #[method(name = "registerRollup")]
    async fn register_rollup(&self, registration: RegistrationWire) -> RpcResult<bool>;

    /// Changes the terms of a rollup that is registered.
    #[method(name = "updateRollup")]
    async fn update_rollup(&self, registration: RegistrationWire) -> RpcResult<bool>;

    /// A rollup's terms over time; null for one that is not registered.
    #[method(name = "getRollup")]
    async fn get_rollup(&self, chain_id: U64) -> RpcResult<Option<RollupTerms>>;

    /// Takes a sealed bid.
    #[method(name = "submitBid")]
    async fn submit_bid(&self, bid: BidWire) -> RpcResult<BidReceipt>;

    /// Takes all bids of a bidder for a slot, sealed.
    #[method(name = "submitSealedBids")]
    async fn submit_sealed_bids(&self, sealed: SealedBidsWire) -> RpcResult<BidReceipt>;

    /// Opens sealed bids. The same again changes nothing.
    #[method(name = "openBids")]
    async fn open_bids(&self, opening: OpeningWire) -> RpcResult<bool>;

    /// Takes a bid back. Whether there was one.
    #[method(name = "cancelBid")]
    async fn cancel_bid(&self, cancellation: BidCancellationWire) -> RpcResult<bool>;

    /// Buys tickets that are to be had now, or offers tickets.
    #[method(name = "submitTicketOrder")]
    async fn submit_ticket_order(&self, order: TicketOrderWire) -> RpcResult<TicketReceipt>;

    /// Classes, tickets and draws; null where no tickets are sold.
    #[method(name = "getTickets")]
    async fn get_tickets(&self) -> RpcResult<Option<TicketsView>>;

    /// Takes a bid for all slots of an epoch, or takes one back.
    #[method(name = "submitEpochBid")]
    async fn submit_epoch_bid(&self, bid: EpochBidWire) -> RpcResult<BidReceipt>;

    /// An epoch; without a number the one that is being sold. Null where none is, or it is not known.
    #[method(name = "getEpoch")]
    async fn get_epoch(&self, epoch: Option<u64>) -> RpcResult<Option<EpochView>>;

    /// Who may propose in a slot, and how that came about, rollup by rollup.
    #[method(name = "getRights")]
    async fn get_rights(&self, slot: u64) -> RpcResult<Vec<RightView>>;

    /// Lets builders bid for rights that were bought ahead.
    #[method(name = "offerRights")]
    async fn offer_rights(&self, offer: RightOfferWire) -> RpcResult<bool>;

    /// Resells rights that were bought ahead, or has somebody else build.
    #[method(name = "transferRights")]
    async fn transfer_rights(&self, transfer: RightTransferWire) -> RpcResult<bool>;

    /// Asks builders for proposals for a right that the signer has, or hopes to get.
    #[method(name = "callProposals")]
    async fn call_proposals(&self, call: ProposalCallWire) -> RpcResult<bool>;

    /// Who asks for proposals in a slot.
    #[method(name = "getCalls")]
    async fn get_calls(&self, slot: u64) -> RpcResult<Vec<CallView>>;

    /// Takes a blinded bid for having one's own lists proposed.
    #[method(name = "submitProposal")]
    async fn submit_proposal(&self, proposal: BlindedProposalWire) -> RpcResult<BidReceipt>;

    /// Takes the lists of the builder whose turn it is.
    #[method(name = "revealProposal")]
    async fn reveal_proposal(&self, reveal: ProposalRevealWire) -> RpcResult<bool>;

    /// Whose lists are to be proposed, and to who asked the lists.
    #[method(name = "getProposal")]
    async fn get_proposal(&self, params: ProposalParams) -> RpcResult<ProposalView>;

    /// Credits a deposit, by the word of who keeps the market's money.
    #[method(name = "deposit")]
    async fn deposit(&self, deposit: DepositWire) -> RpcResult<bool>;

    /// Asks for money of an account to be paid out.
    #[method(name = "withdraw")]
    async fn withdraw(&self, request: WithdrawalWire) -> RpcResult<WithdrawalReceipt>;

    /// An account of the ledger. The request has to be signed by it: what it holds says what it bids.
    #[method(name = "getLedger", with_extensions)]
    async fn get_ledger(&self, account: Address) -> RpcResult<LedgerView>;

    /// Where the market's money is kept; null without an escrow.
    #[method(name = "getEscrow")]
    async fn get_escrow(&self) -> RpcResult<Option<EscrowView>>;

    /// What a rollup's slots brought.
    #[method(name = "getRevenue")]
    async fn get_revenue(&self, chain_id: U64, slots: Option<RevenueParams>) -> RpcResult<RevenueView>;

    /// `"slots"`: every slot when it opens for bids; `"allocations"`: every allocation; `"deliveries"`: how each rollup's slot
    /// ended.
    #[subscription(name = "subscribe" => "subscription", unsubscribe = "unsubscribe", item = Value)]
    async fn watch_market(&self, kind: String) -> SubscriptionResult;

    /// A slot; the one that is open for bids without a number.
    #[method(name = "getSlot")]
    async fn get_market_slot(&self, slot: Option<u64>) -> RpcResult<MarketSlot>;

    /// Who proposes in a slot; null while it is open.
    #[method(name = "getAllocation")]
    async fn get_allocation(&self, slot: u64) -> RpcResult<Option<AllocationWire>>;

    /// Takes a sequencer's word on how a slot ended. The same again changes nothing.
    #[method(name = "reportDelivery")]
    async fn report_delivery(&self, report: DeliveryReportWire) -> RpcResult<bool>;

    /// The market's key, which signs allocations.
    #[method(name = "address")]
    async fn market_address(&self) -> RpcResult<Address>;
}

/// `auctioneer_*`: bids as Arbitrum's Timeboost auctioneer takes them.
#[rpc(server, client, namespace = "auctioneer")]
pub trait AuctioneerApi {
    /// Takes a bid for the next slot of the rollup that the market sells so. Answers null.
    #[method(name = "submitBid")]
    async fn submit_timeboost_bid(&self, bid: TimeboostBidWire) -> RpcResult<()>;
}

/// `decision_*`: the write-once record of every (slot, attempt).
#[rpc(server, client, namespace = "decision")]
pub trait DecisionApi {
    /// Records a decision, unless there is one or it comes too late. Answers what the record says; null when it is empty
    /// because a commit came too late.
    #[method(name = "record")]
    async fn record(&self, decision: DecisionWire) -> RpcResult<Option<DecisionWire>>;

    /// What the record says.
    #[method(name = "get")]
    async fn get_decision(&self, slot: u64, attempt: u32) -> RpcResult<Option<DecisionWire>>;
}

/// `sequencer_*`: a rollup's sequencer.
#[rpc(server, client, namespace = "sequencer")]
pub trait SequencerApi {
    /// What the rollup's blocks of a slot will be for a proposer.
    #[method(name = "getSlot")]
    async fn get_slot_offer(&self, chain_id: U64, slot: u64, proposer: Address) -> RpcResult<SlotOffer>;

    /// Sets the transactions (EIP-2718 bytes) that the lists of a coming slot may not leave out, in place of those that the
    /// sequencer would choose. The request has to be signed by the sequencer's own key, and to come before the slot is built
    /// for. How many there are.
    #[method(name = "setInclusionList", with_extensions)]
    async fn set_inclusion_list(&self, chain_id: U64, slot: u64, transactions: Vec<Bytes>) -> RpcResult<usize>;

    /// Asks for a vote on two lists.
    #[method(name = "prepare")]
    async fn prepare(&self, prepare: SignedPrepare) -> RpcResult<VoteWire>;

    /// Tells that the record of (slot, attempt) is there. The sequencer reads it itself.
    #[method(name = "decided")]
    async fn decided(&self, chain_id: U64, slot: u64, attempt: u32) -> RpcResult<bool>;
}

/// `sequencer_*` of encrypted transactions, for their senders.
#[rpc(server, client, namespace = "sequencer")]
pub trait EncryptedApi {
    /// How the rollup takes encrypted transactions; null when it takes none.
    #[method(name = "getEncryption")]
    async fn get_encryption(&self, chain_id: U64) -> RpcResult<Option<EncryptionView>>;

    /// Takes an encrypted transaction. The request has to be signed, by anybody. Answers once it is durable; sending it again
    /// gives the same answer.
    #[method(name = "sendEncryptedTransaction", with_extensions)]
    async fn send_encrypted_transaction(&self, transaction: Value) -> RpcResult<EncryptedReceiptWire>;

    /// Where an encrypted transaction stands, by the hash of its ciphertext; null when it is not known.
    #[method(name = "getEncryptedTransaction")]
    async fn get_encrypted_transaction(&self, chain_id: U64, ciphertext: B256) -> RpcResult<Option<EncryptedTxStatus>>;

    /// The encrypted part of a slot; null when it has none, or it is forgotten.
    #[method(name = "getEncryptedTail")]
    async fn get_encrypted_tail(&self, chain_id: U64, slot: u64) -> RpcResult<Option<EncryptedTailView>>;
}

/// `committee_*`: a member of a committee that opens encrypted transactions.
#[rpc(server, client, namespace = "committee")]
pub trait CommitteeApi {
    /// The member's shares for ciphertexts whose order is signed by their rollup's sequencer. From when decisions on the slot are
    /// due, and for one order a rollup and slot.
    #[method(name = "open")]
    async fn open(&self, order: OpenParams) -> RpcResult<SharesWire>;
}

/// How many parameters a method takes at the most: the library itself does not look at further ones. `None` for methods
/// that check it themselves.
pub(crate) fn most_parameters(method: &str) -> Option<usize> {
    Some(match method {
        "market_address" | "market_getTickets" | "market_getEscrow" => 0,
        "lockstep_sendBundle" | "lockstep_simulateBundle" | "lockstep_cancelBundle" | "lockstep_getBundle" => 1,
        "lockstep_getReceipt"
        | "lockstep_explainBundle"
        | "lockstep_getSlot"
        | "lockstep_getMessages"
        | "lockstep_unsubscribe" => 1,
        "market_registerRollup" | "market_updateRollup" | "market_getRollup" | "market_submitBid" | "market_cancelBid" => 1,
        "auctioneer_submitBid" | "market_submitSealedBids" | "market_openBids" | "market_submitTicketOrder" => 1,
        "market_getSlot" | "market_getAllocation" | "market_deposit" | "market_withdraw" | "market_getLedger" => 1,
        "market_subscribe" | "market_unsubscribe" => 1,
        "market_submitEpochBid" | "market_getEpoch" | "market_getRights" => 1,
        "market_offerRights" | "market_transferRights" => 1,
        "market_callProposals" | "market_getCalls" | "market_submitProposal" => 1,
        "market_revealProposal" | "market_getProposal" => 1,
        "market_getRevenue" => 2,
        "market_reportDelivery" | "decision_record" | "sequencer_prepare" => 1,
        "lockstep_subscribe" | "decision_get" => 2,
        "sequencer_getEncryption" | "sequencer_sendEncryptedTransaction" | "committee_open" => 1,
        "sequencer_getEncryptedTransaction" | "sequencer_getEncryptedTail" => 2,
        "sequencer_getSlot" | "sequencer_decided" | "sequencer_setInclusionList" => 3,
        _ => return None,
    })
}

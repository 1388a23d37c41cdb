//! Deposits, withdrawals and the ledger as JSON.

use alloy_primitives::{Address, Bytes, U64};
use lockstep_primitives::{BidCancellation, Deposit, WithdrawalRequest};
use serde::{Deserialize, Serialize};

use super::{Decimal, SignedDecimal, chains};

/// The parameter of `market_cancelBid`: which bid, and its bidder's EIP-712 signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BidCancellationWire {
    /// The slot.
    pub slot: u64,
    /// The bid's package.
    pub rollups: Vec<U64>,
    /// The bid's tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<String>,
    /// Above the bid's.
    pub nonce: u64,
    /// 65 bytes r || s || v.
    pub signature: Bytes,
}

impl BidCancellationWire {
    /// A signed cancellation.
    pub fn new(cancellation: &BidCancellation, signature: Bytes) -> Self {
        let BidCancellation { slot, rollups, exclusive, nonce } = cancellation.clone();
        Self { slot, rollups: chains(&rollups), exclusive, nonce, signature }
    }

    /// What is signed.
    pub fn cancellation(&self) -> BidCancellation {
        BidCancellation {
            slot: self.slot,
            rollups: self.rollups.iter().map(|chain| chain.to()).collect(),
            exclusive: self.exclusive.clone(),
            nonce: self.nonce,
        }
    }
}

/// The parameter of `market_deposit`: what came in, and the EIP-712 signature of who keeps the market's money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DepositWire {
    /// Counts deposits from 0.
    pub number: u64,
    /// For whom.
    pub account: Address,
    /// In the numeraire's smallest unit.
    pub amount: Decimal,
    /// 65 bytes r || s || v.
    pub signature: Bytes,
}

impl DepositWire {
    /// A signed deposit.
    pub const fn new(deposit: &Deposit, signature: Bytes) -> Self {
        Self { number: deposit.number, account: deposit.account, amount: Decimal(deposit.amount), signature }
    }

    /// What is signed.
    pub const fn deposit(&self) -> Deposit {
        Deposit { number: self.number, account: self.account, amount: self.amount.0 }
    }
}

/// The parameter of `market_withdraw`: what is to go out, and its account's EIP-712 signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WithdrawalWire {
    /// Whose money.
    pub account: Address,
    /// Where it goes.
    pub to: Address,
    /// In the numeraire's smallest unit.
    pub amount: Decimal,
    /// Rises with each request of the account, from 1 on.
    pub nonce: u64,
    /// 65 bytes r || s || v.
    pub signature: Bytes,
}

impl WithdrawalWire {
    /// A signed request.
    pub const fn new(request: &WithdrawalRequest, signature: Bytes) -> Self {
        let WithdrawalRequest { account, to, amount, nonce } = *request;
        Self { account, to, amount: Decimal(amount), nonce, signature }
    }

    /// What is signed.
    pub const fn request(&self) -> WithdrawalRequest {
        WithdrawalRequest { account: self.account, to: self.to, amount: self.amount.0, nonce: self.nonce }
    }
}

/// The answer of `market_withdraw`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WithdrawalReceipt {
    /// The number of the withdrawal.
    pub withdrawal: u64,
}

/// The answer of `market_getLedger`: an account, and what happened to it last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerView {
    /// Whose.
    pub account: Address,
    /// What it can bid with and withdraw, in the numeraire's smallest unit.
    pub free: Decimal,
    /// What backs its bids.
    pub held: Decimal,
    /// What is on its way out.
    pub leaving: Decimal,
    /// The last nonce of its requests.
    pub nonce: u64,
    /// The number of the next deposit, of any account.
    pub next_deposit: u64,
    /// What is held for which slot.
    pub holds: Vec<HoldView>,
    /// What is on its way out.
    pub withdrawals: Vec<WithdrawalView>,
    /// What happened, the last first.
    pub postings: Vec<PostingWire>,
}

/// What is held for the bids in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HoldView {
    /// The slot.
    pub slot: u64,
    /// How much.
    pub amount: Decimal,
}

/// Money on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WithdrawalView {
    /// Its number.
    pub withdrawal: u64,
    /// Where it goes.
    pub to: Address,
    /// How much.
    pub amount: Decimal,
}

/// A step of the ledger: its entries sum to zero.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PostingWire {
    /// Counts the market's postings from 0.
    pub number: u64,
    /// Why: `deposit`, `hold`, `release`, `price`, `damages`, `forfeit`, `resale`, `withdraw`, `paid_out` or `not_paid_out`.
    pub kind: String,
    /// The slot that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u64>,
    /// What came to (above zero) and went from (below zero) where.
    pub entries: Vec<EntryWire>,
}

/// An entry of a posting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryWire {
    /// `outside`, `free`, `held` or `leaving`.
    pub account: String,
    /// Whose; absent outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Address>,
    /// In the numeraire's smallest unit.
    pub amount: SignedDecimal,
}

/// The answer of `market_getRevenue`: what a rollup's slots brought, and what not selling them would have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevenueView {
    /// The rollup.
    pub chain_id: U64,
    /// The slots, the last first.
    pub slots: Vec<SlotRevenue>,
    /// Of them, those that were sold.
    pub sold: u64,
    /// What the rollup was paid for them.
    pub paid: Decimal,
    /// What its own lists earned in the others, and where a winner did not deliver.
    pub earned: Decimal,
    /// Slots of which both is known: what there was, and what not selling would have earned.
    pub compared: u64,
    /// What not selling would have earned in these, less what there was: above zero where selling was the worse choice.
    pub regret: SignedDecimal,
}

/// The answer of `market_getEscrow`: where the market's money is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EscrowView {
    /// The settlement rollup.
    pub chain_id: U64,
    /// The contract there.
    pub contract: Address,
    /// How long an account that leaves past the market waits, in seconds.
    pub exit_delay: u64,
    /// The first block of the settlement rollup that was not read yet.
    pub next_block: u64,
    /// How many deposits were credited.
    pub deposits: u64,
    /// How many batches were settled.
    pub batches: u64,
    /// The number of the batch that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<u64>,
}

/// What a slot brought a rollup. Amounts are in the numeraire's smallest unit; gas fees of the rollup's own are not in them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotRevenue {
    /// The slot.
    pub slot: u64,
    /// Who held the right to propose.
    pub holder: Address,
    /// How it was acquired: `ahead`, `just_in_time`, `ticket` or `default`.
    pub how: String,
    /// What the holder owed for it.
    pub price: Decimal,
    /// How it ended: `delivered`, `taken_over` or `lapsed`; absent while it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<String>,
    /// What the rollup was paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid: Option<Decimal>,
    /// What its own list earned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earned: Option<Decimal>,
    /// What its own list would have earned, by its own word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub posted: Option<Decimal>,
    /// What the best bid for it alone said that it is worth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub computed: Option<Decimal>,
}

/// The parameter of `market_getRevenue`, beside the rollup: the slots [from, to) that are asked about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RevenueParams {
    /// The first slot; as far back as is kept when absent.
    #[serde(default)]
    pub from_slot: Option<u64>,
    /// The first slot after them; up to the last one when absent.
    #[serde(default)]
    pub to_slot: Option<u64>,
}

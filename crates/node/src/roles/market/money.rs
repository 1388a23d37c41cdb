//! Deposits, withdrawals, and what accounts have.

use alloy_primitives::{Address, U256};
use jsonrpsee::{core::RpcResult, types::ErrorObjectOwned};
use lockstep_market::{Balance, Posting};
use lockstep_primitives::Deposit;
use lockstep_rpc::{
    invalid_params, unauthorized,
    wire::{Decimal, DepositWire, HoldView, LedgerView, WithdrawalReceipt, WithdrawalView, WithdrawalWire},
};
use lockstep_store::{Queued, StoreError};

use super::{Changes, Inner, MarketRole, market_error};

/// Postings that an answer about an account shows.
const MAX_SHOWN: usize = 100;

impl MarketRole {
    /// Credits a deposit.
    pub(super) async fn take_deposit(&self, wire: DepositWire) -> RpcResult<bool> {
        self.collects()?;
        self.has_room()?;
        let queued = {
            let mut inner = self.inner.lock();
            let posting = inner.market.deposit(&wire.deposit(), &wire.signature).map_err(|error| market_error(&error))?;
            self.note_posting(&mut inner, posting)
        };
        self.written(queued).await?;
        Ok(true)
    }

    /// Credits an account by the market's own word, where its key keeps the money.
    pub(crate) async fn credit(&self, account: Address, amount: U256) -> RpcResult<()> {
        let number = self.inner.lock().market.ledger().record().deposits;
        let deposit = Deposit { number, account, amount };
        let signature = self.settings.key.sign_bytes(deposit.digest());
        self.take_deposit(DepositWire::new(&deposit, signature)).await.map(|_| ())
    }

    /// Takes money out of an account.
    pub(super) async fn take_withdrawal(&self, wire: WithdrawalWire) -> RpcResult<WithdrawalReceipt> {
        self.collects()?;
        self.has_room()?;
        let (withdrawal, queued) = {
            let mut inner = self.inner.lock();
            let taken = inner.market.withdraw(&wire.request(), &wire.signature);
            let (number, posting) = taken.map_err(|error| market_error(&error))?;
            (number, self.note_posting(&mut inner, posting))
        };
        self.written(queued).await?;
        Ok(WithdrawalReceipt { withdrawal })
    }

    /// What an account has, told to itself.
    pub(super) fn account(&self, account: Address, asker: Option<Address>) -> RpcResult<LedgerView> {
        if asker != Some(account) {
            return Err(unauthorized(
                "not_your_account",
                format!("what {account} has is told to itself only"),
                "sign the request with the account's key: X-Flashbots-Signature",
            ));
        }
        let inner = self.inner.lock();
        let ledger = inner.market.ledger();
        let Balance { free, held, leaving, nonce } = ledger.balance(account);
        let record = ledger.record();
        let holds = record.holds.iter().filter(|(id, _)| id.bidder == account);
        let withdrawals = record.withdrawals.iter().filter(|(_, withdrawal)| withdrawal.account == account);
        let about =
            inner.postings.iter().rev().filter(|posting| posting.entries.iter().any(|entry| entry.owner == Some(account)));
        Ok(LedgerView {
            account,
            free: Decimal(free),
            held: Decimal(held),
            leaving: Decimal(leaving),
            nonce,
            next_deposit: record.deposits,
            holds: holds.map(|(id, amount)| HoldView { slot: id.slot, amount: Decimal(*amount) }).collect(),
            withdrawals: withdrawals
                .map(|(number, withdrawal)| WithdrawalView {
                    withdrawal: *number,
                    to: withdrawal.to,
                    amount: Decimal(withdrawal.amount),
                })
                .collect(),
            postings: about.take(MAX_SHOWN).cloned().collect(),
        })
    }

    fn note_posting(&self, inner: &mut Inner, posting: Posting) -> Result<Queued, StoreError> {
        let mut changes = Changes::new(&inner.market);
        changes.posting(&posting);
        let ops = changes.into_ops();
        inner.note_postings(&[posting]);
        self.store.queue(ops)
    }

    fn collects(&self) -> Result<(), ErrorObjectOwned> {
        if self.settings.deposits.is_some() {
            return Ok(());
        }
        Err(invalid_params("no_deposits", "this market collects nothing, so it takes no deposits", "bid without a deposit"))
    }
}

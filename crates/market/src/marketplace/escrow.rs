//! Money that an escrow contract keeps: what came in and went out there, and what it has to be told.

use alloy_primitives::{Address, U256};
use lockstep_primitives::EscrowBatch;

use super::Marketplace;
use crate::{MarketError, Posting, Settlement};

/// What the settlement of a batch changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchSettled {
    /// The batch.
    pub batch: EscrowBatch,
    /// What left the ledger with it.
    pub postings: Vec<Posting>,
}

impl Marketplace {
    /// Credits a deposit that came into the escrow.
    ///
    /// # Errors
    /// When it is not the next one, or the ledger does not take it.
    pub fn escrow_deposit(&mut self, number: u64, account: Address, amount: U256) -> Result<Posting, MarketError> {
        let settlement = self.settlement.as_mut().ok_or(MarketError::NoEscrow)?;
        let posting = self.ledger.deposit(number, account, amount)?;
        settlement.deposited(account, amount);
        Ok(posting)
    }

    /// Notes that an account asked the escrow for its own way out, or took that back. Until then it can put up nothing more, so that
    /// all that backs its bids is released or charged when its delay is over.
    pub fn set_exiting(&mut self, account: Address, exiting: bool) {
        if exiting {
            self.exiting.insert(account);
        } else {
            self.exiting.remove(&account);
        }
    }

    /// Notes that an account took money out of the escrow by its own way.
    ///
    /// # Errors
    /// When it took what backs its bids: the escrow's delay is too short.
    pub fn exited(&mut self, account: Address, amount: U256) -> Result<Posting, MarketError> {
        let settlement = self.settlement.as_mut().ok_or(MarketError::NoEscrow)?;
        let posting = self.ledger.exit(account, amount)?;
        settlement.exited(account, amount);
        self.exiting.remove(&account);
        Ok(posting)
    }

    /// The batch that is under way, or the next one; `None` when the escrow has to be told nothing.
    ///
    /// # Errors
    /// When the escrow's books are not the ledger's: then nothing may be signed.
    pub fn escrow_batch(&mut self) -> Result<Option<&EscrowBatch>, MarketError> {
        let settlement = self.settlement.as_mut().ok_or(MarketError::NoEscrow)?;
        settlement.check(&self.ledger)?;
        Ok(settlement.batch(&self.ledger))
    }

    /// Notes that the escrow has settled the batch that is under way; `None` when none is.
    ///
    /// # Errors
    /// When the ledger cannot be written, which only a damaged store can cause.
    pub fn escrow_settled(&mut self) -> Result<Option<BatchSettled>, MarketError> {
        let settlement = self.settlement.as_mut().ok_or(MarketError::NoEscrow)?;
        let Some(batch) = settlement.settled() else { return Ok(None) };
        let paid_out = batch.payouts.iter().map(|payout| self.ledger.paid_out(payout.withdrawal));
        let postings = paid_out.collect::<Result<Vec<Posting>, _>>()?;
        Ok(Some(BatchSettled { batch, postings }))
    }

    /// What the escrow has, if there is one.
    pub const fn settlement(&self) -> Option<&Settlement> {
        self.settlement.as_ref()
    }

    /// Who is on its own way out of the escrow.
    pub fn exiting(&self) -> impl Iterator<Item = Address> {
        self.exiting.iter().copied()
    }

    /// Refuses who is on its way out.
    pub(super) fn check_staying(&self, account: Address) -> Result<(), MarketError> {
        if self.exiting.contains(&account) {
            return Err(MarketError::Exiting { account });
        }
        Ok(())
    }
}

//! What is on sale in a slot.

use std::collections::BTreeMap;

use alloy_primitives::{Address, U256};
use lockstep_primitives::{Bid, ChainId, Registration, SlotNumber};

use crate::{MAX_SELLERS, MarketError};

/// The most that a bid may offer: 2^248 - 1. Sums over all rollups of a slot then fit into 256 bits.
pub const MAX_AMOUNT: U256 = U256::from_limbs([u64::MAX, u64::MAX, u64::MAX, u64::MAX >> 8]);

/// On what terms one rollup is sold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The least that the seller must be paid, in the numeraire's smallest unit.
    pub reserve: U256,
    /// Who proposes when nobody buys.
    pub default_proposer: Address,
}

impl From<&Registration> for Terms {
    fn from(registration: &Registration) -> Self {
        Self { reserve: registration.reserve, default_proposer: registration.sequencer }
    }
}

/// The rollups on sale in one slot, at most [`MAX_SELLERS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sale {
    slot: SlotNumber,
    terms: BTreeMap<ChainId, Terms>,
}

impl Sale {
    /// Puts rollups on sale.
    ///
    /// # Errors
    /// When there are more than [`MAX_SELLERS`].
    pub fn new(slot: SlotNumber, terms: BTreeMap<ChainId, Terms>) -> Result<Self, MarketError> {
        if terms.len() > MAX_SELLERS {
            return Err(MarketError::TooManySellers { limit: MAX_SELLERS });
        }
        Ok(Self { slot, terms })
    }

    /// The slot.
    pub const fn slot(&self) -> SlotNumber {
        self.slot
    }

    /// The terms of each rollup on sale.
    pub const fn terms(&self) -> &BTreeMap<ChainId, Terms> {
        &self.terms
    }

    /// By how much a bid is above the reserves of its rollups.
    ///
    /// # Errors
    /// When the bid is no bid for this sale: another slot, an empty package, a rollup that is not on sale, more than
    /// [`MAX_AMOUNT`], or less than the reserves.
    pub fn surplus(&self, bid: &Bid) -> Result<U256, MarketError> {
        let slot = self.slot;
        if bid.slot != slot {
            return Err(MarketError::WrongSlot { slot: bid.slot, open: slot });
        }
        if bid.rollups.is_empty() {
            return Err(MarketError::EmptyPackage { slot });
        }
        if bid.amount > MAX_AMOUNT {
            return Err(MarketError::AmountTooLarge { slot, amount: bid.amount });
        }
        let mut reserve = U256::ZERO;
        for chain in &bid.rollups {
            let terms = self.terms.get(chain).ok_or(MarketError::NotOnSale { slot, chain: *chain })?;
            reserve = reserve.saturating_add(terms.reserve);
        }
        bid.amount.checked_sub(reserve).ok_or_else(|| MarketError::BelowReserve {
            slot,
            rollups: bid.rollups.clone(),
            amount: bid.amount,
            reserve,
        })
    }
}

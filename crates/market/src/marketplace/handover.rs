//! Rights that were bought ahead change hands: resold once, offered to builders, or built by somebody else.

use alloy_primitives::{Address, B256, U256};
use lockstep_primitives::{RightOffer, RightTransfer, RollupSet, SlotNumber, TransferKind, recover};

use super::{Marketplace, SLOTS_AHEAD, check_signer, with_bond};
use crate::{Acquisition, EpochError, HoldId, MarketError, Posting, PostingKind, RightRecord};

/// What handing rights over changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandedOver {
    /// The rights, as they are now.
    pub rights: Vec<RightRecord>,
    /// What was paid, held and released.
    pub postings: Vec<Posting>,
}

impl Marketplace {
    /// Lets builders bid for rights of a slot, as long as the bidding for the slot has not begun.
    ///
    /// # Errors
    /// When the signer does not hold them, a cluster is not all there, or it is too late. Nothing is then changed.
    pub fn offer_rights(&mut self, offer: &RightOffer, signature: &[u8], now_ms: u64) -> Result<HandedOver, MarketError> {
        let slot = offer.slot;
        let holder = signer(offer.digest(), signature)?;
        let rollups = offer.amounts.keys().copied().collect();
        self.check_whole(slot, &rollups)?;
        let until_ms = match slot.checked_sub(SLOTS_AHEAD + 1) {
            Some(before) => self.rules.clock.close_ms(before),
            None => 0,
        };
        self.rights.offer(slot, holder, &offer.amounts, now_ms, until_ms)?;
        Ok(HandedOver { rights: self.records(slot, &rollups), postings: Vec::new() })
    }

    /// Hands rights of a slot over, as long as the bidding for the slot has not ended. A buyer pays at once, and puts up what the
    /// rollups are owed and the bond in the seller's place; a builder puts up what it will owe the holder.
    ///
    /// # Errors
    /// When the holder and who takes them have not both signed, a right is not the holder's or was handed over before, a cluster is
    /// not all there, it is too late, or the money is not there. Nothing is then changed.
    pub fn transfer_rights(
        &mut self,
        transfer: &RightTransfer,
        by_holder: &[u8],
        by_taker: &[u8],
        now_ms: u64,
    ) -> Result<HandedOver, MarketError> {
        let RightTransfer { how, slot, ref amounts, to } = *transfer;
        let digest = transfer.digest();
        let holder = signer(digest, by_holder)?;
        check_signer(recover(digest, by_taker).ok(), to)?;
        self.check_staying(to)?;
        let rollups: RollupSet = amounts.keys().copied().collect();
        self.check_whole(slot, &rollups)?;
        if self.rights.of_slot(slot).any(|(chain, right)| rollups.contains(&chain) && right.offer.is_some()) {
            return Err(EpochError::Offered { slot, holder }.into());
        }
        let (paid, put_up) = self.cost(transfer);
        let id = HoldId { slot, bidder: to };
        let held = self.ledger.held_for(id).saturating_add(put_up);
        self.ledger.check_hold(id, held.saturating_add(paid))?;
        let until_ms = self.rules.clock.close_ms(slot);
        match how {
            TransferKind::Resale => self.rights.resell(slot, holder, to, amounts, now_ms, until_ms)?,
            TransferKind::Delegation => self.rights.delegate(slot, holder, to, amounts, now_ms, until_ms)?,
        }
        let mut postings = Vec::new();
        if !paid.is_zero() {
            postings.push(self.ledger.transfer(to, holder, paid, PostingKind::Resale)?);
        }
        if !put_up.is_zero() {
            postings.push(self.ledger.hold(id, held)?);
            if how == TransferKind::Resale {
                let id = HoldId { slot, bidder: holder };
                postings.push(self.ledger.hold(id, self.ledger.held_for(id).saturating_sub(put_up))?);
            }
        }
        Ok(HandedOver { rights: self.records(slot, &rollups), postings })
    }

    /// What somebody owes, with the bond, for rights of a slot that have not ended: to rollups as their holder, and to holders as
    /// their builder, or for proposals.
    pub(super) fn owed(&self, slot: SlotNumber, account: Address) -> U256 {
        let Some(rules) = &self.rules.deposits else { return U256::ZERO };
        let open = self.rights.of_slot(slot).map(|(_, right)| right).filter(|right| right.ending.is_none());
        let for_proposals = self.owed_for_proposals(slot, account);
        open.fold(for_proposals, |sum, right| {
            let bought = right.holder() == account && right.granted.how != Acquisition::Default;
            let own = if bought { with_bond(right.granted.price, rules) } else { U256::ZERO };
            let delegated = right.delegation.filter(|delegation| delegation.builder == account);
            let as_builder = delegated.map(|delegation| with_bond(delegation.price, rules)).unwrap_or_default();
            sum.saturating_add(own).saturating_add(as_builder)
        })
    }

    /// What is paid at once, and what is put up, for a transfer; nothing in a market that collects nothing.
    fn cost(&self, transfer: &RightTransfer) -> (U256, U256) {
        let Some(rules) = &self.rules.deposits else { return (U256::ZERO, U256::ZERO) };
        let sum = |amounts: &mut dyn Iterator<Item = U256>| amounts.fold(U256::ZERO, |sum, next| sum.saturating_add(next));
        match transfer.how {
            TransferKind::Resale => {
                let rights = transfer.amounts.keys().filter_map(|chain| self.rights.get(transfer.slot, *chain));
                let put_up = sum(&mut rights.map(|right| with_bond(right.granted.price, rules)));
                (sum(&mut transfer.amounts.values().copied()), put_up)
            }
            TransferKind::Delegation => (U256::ZERO, sum(&mut transfer.amounts.values().map(|price| with_bond(*price, rules)))),
        }
    }

    /// Rollups that are sold together stay together.
    fn check_whole(&self, slot: SlotNumber, rollups: &RollupSet) -> Result<(), MarketError> {
        let before = slot.saturating_sub(SLOTS_AHEAD + 1);
        let sale = self.registry.sale(&self.rules.clock, slot, before, &self.histories)?;
        sale.units().fits(rollups)
    }

    fn records(&self, slot: SlotNumber, rollups: &RollupSet) -> Vec<RightRecord> {
        let right = |chain| Some(RightRecord { slot, chain, right: *self.rights.get(slot, chain)? });
        rollups.iter().filter_map(|chain| right(*chain)).collect()
    }
}

fn signer(digest: B256, signature: &[u8]) -> Result<Address, MarketError> {
    recover(digest, signature).map_err(|_| MarketError::WrongRequestSigner { expected: Address::ZERO })
}

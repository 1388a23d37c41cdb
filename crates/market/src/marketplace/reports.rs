//! How slots ended: winners pay what was delivered, and the loss of what they did not deliver.

use alloy_primitives::{Address, U256};
use lockstep_primitives::{ChainId, DeliveryReport, SlotEnding, SlotNumber, recover};

use super::Marketplace;
use crate::{
    Acquisition, Breach, Delegation, Ending, Figure, HoldId, MarketError, Posting, PostingKind, Right, RightRecord, bond,
};

/// What a report changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    /// The right, as it ended.
    pub record: RightRecord,
    /// What was paid and released.
    pub postings: Vec<Posting>,
    /// What the rollup was paid, in the numeraire's smallest unit.
    pub paid: U256,
}

impl Marketplace {
    /// Takes a sequencer's word on how its slot ended: charges the winner of what was delivered, and has a winner that did not
    /// deliver pay the rollup its loss. The same again changes nothing (`None`).
    ///
    /// `committed`: whether the decision record holds a commit of the slot's proposer for this rollup. Against it no sequencer may
    /// say that nothing came.
    ///
    /// # Errors
    /// When the rollup's key did not sign it, it comes too early or too late, or contradicts the record or an earlier report.
    /// Nothing is then changed.
    pub fn report(
        &mut self,
        report: &DeliveryReport,
        signature: &[u8],
        committed: bool,
        now_ms: u64,
    ) -> Result<Option<Reported>, MarketError> {
        let DeliveryReport { slot, chain, .. } = *report;
        let terms = self.registry.at(chain, slot).ok_or(MarketError::NotRegistered { chain })?;
        let (sequencer, payout) = (terms.sequencer, terms.payout);
        if recover(report.digest(), signature).ok() != Some(sequencer) {
            return Err(MarketError::WrongReporter { slot, chain, sequencer });
        }
        let from_ms = self.rules.clock.close_ms(slot);
        let until_ms = self.rules.clock.end_ms(slot.saturating_add(self.rules.report_slots));
        if now_ms < from_ms || now_ms >= until_ms {
            return Err(MarketError::ReportOutOfTime { slot, from_ms, until_ms, now_ms });
        }
        let right = *self.rights.get(slot, chain).ok_or(crate::RightsError::Unknown { slot, chain })?;
        let ending = ending_of(&right, report.ending);
        if committed && matches!(ending, Ending::TakenOver(_)) {
            return Err(MarketError::ContradictsRecord { slot, chain });
        }
        self.rights.finish(slot, chain, ending)?;
        if right.ending.is_some() {
            return Ok(None);
        }
        self.unsettled.remove(&(slot, chain));
        let paid = match ending {
            Ending::Delivered => right.granted.price,
            Ending::TakenOver(_) => self.loss(&right, report),
            Ending::Lapsed => U256::ZERO,
        };
        let mut postings = self.settle_right(slot, &right, ending, payout, paid)?;
        postings.extend(self.settle_proposal(slot, chain, ending, report.prepared)?);
        self.note_earnings(report, &right, paid);
        let right = self.rights.get(slot, chain).copied().unwrap_or(right);
        Ok(Some(Reported { record: RightRecord { slot, chain, right }, postings, paid }))
    }

    /// Ends the rights of slots that nobody reported on in time: whoever bought them is not charged.
    ///
    /// # Errors
    /// When a book cannot be written, which only a damaged store can cause.
    pub fn lapse(&mut self, now_ms: u64) -> Result<Vec<Reported>, MarketError> {
        let mut lapsed = Vec::new();
        while let Some((slot, chain)) = self.unsettled.first().copied() {
            if now_ms < self.rules.clock.end_ms(slot.saturating_add(self.rules.report_slots)) {
                break;
            }
            lapsed.extend(self.lapse_right(slot, chain)?);
        }
        Ok(lapsed)
    }

    /// Ends a right that nobody owes anything for.
    pub(super) fn lapse_right(&mut self, slot: SlotNumber, chain: ChainId) -> Result<Option<Reported>, MarketError> {
        self.unsettled.remove(&(slot, chain));
        self.rights.finish(slot, chain, Ending::Lapsed)?;
        let Some(right) = self.rights.get(slot, chain).copied() else { return Ok(None) };
        let mut postings = self.settle_right(slot, &right, Ending::Lapsed, right.holder(), U256::ZERO)?;
        postings.extend(self.settle_proposal(slot, chain, Ending::Lapsed, None)?);
        Ok(Some(Reported { record: RightRecord { slot, chain, right }, postings, paid: U256::ZERO }))
    }

    /// What the rollup lost because its winner did not deliver: what it would have been paid, or would have earned itself if that
    /// is more, less what its own list earned; at most what was put up for it.
    fn loss(&self, right: &Right, report: &DeliveryReport) -> U256 {
        let price = right.granted.price;
        let missed = price.max(report.posted.unwrap_or_default());
        let bond_bps = self.rules.deposits.map_or(0, |rules| rules.bond_bps);
        missed.saturating_sub(report.earned.unwrap_or_default()).min(price.saturating_add(bond(price, bond_bps)))
    }

    /// Pays the rollup from what is held for the right's holder. Where somebody else built, it pays the holder: its price for what
    /// was delivered, and what the holder lost, as far as its own price and bond go, for what was not.
    fn settle_right(
        &mut self,
        slot: SlotNumber,
        right: &Right,
        ending: Ending,
        payout: Address,
        paid: U256,
    ) -> Result<Vec<Posting>, MarketError> {
        let holder = right.holder();
        let breached = matches!(ending, Ending::TakenOver(_));
        let kind = if breached { PostingKind::Damages } else { PostingKind::Price };
        let mut postings = self.pay_and_release(slot, holder, payout, paid, kind)?;
        if let Some(Delegation { builder, price }) = right.delegation {
            let bond_bps = self.rules.deposits.map_or(0, |rules| rules.bond_bps);
            let due = match ending {
                Ending::Delivered => price,
                Ending::TakenOver(_) => price.max(paid).min(price.saturating_add(bond(price, bond_bps))),
                Ending::Lapsed => U256::ZERO,
            };
            postings.extend(self.pay_and_release(slot, builder, holder, due, kind)?);
        }
        Ok(postings)
    }

    /// Pays from what is held for somebody in a slot, and releases what nothing needs any more.
    fn pay_and_release(
        &mut self,
        slot: SlotNumber,
        payer: Address,
        payee: Address,
        paid: U256,
        kind: PostingKind,
    ) -> Result<Vec<Posting>, MarketError> {
        let id = HoldId { slot, bidder: payer };
        if self.rules.deposits.is_none() || self.ledger.held_for(id).is_zero() {
            return Ok(Vec::new());
        }
        let mut postings = Vec::new();
        if !paid.is_zero() {
            postings.push(self.ledger.pay(id, payee, paid.min(self.ledger.held_for(id)), kind)?);
        }
        postings.extend(self.release(slot, payer)?);
        Ok(postings)
    }

    fn note_earnings(&mut self, report: &DeliveryReport, right: &Right, paid: U256) {
        let sold = right.granted.how != Acquisition::Default;
        let figures = [report.earned.map(Figure::Earned), report.posted.map(Figure::Posted), sold.then_some(Figure::Paid(paid))];
        for figure in figures.into_iter().flatten() {
            // A figure that is too large to be true, or of a slot too long ago, does not count.
            let _refused = self.history(report.chain).record(report.slot, figure, report.slot);
        }
    }
}

/// How a right ended by its sequencer's word. Where the default proposer was to build from the start, its own list is what was
/// to come.
const fn ending_of(right: &Right, ending: SlotEnding) -> Ending {
    let by_default = matches!(right.granted.how, Acquisition::Default);
    match ending {
        SlotEnding::Proposed => Ending::Delivered,
        SlotEnding::Silent | SlotEnding::Refused if by_default => Ending::Delivered,
        SlotEnding::Silent => Ending::TakenOver(Breach::Silent),
        SlotEnding::Refused => Ending::TakenOver(Breach::Refused),
        SlotEnding::Lapsed => Ending::Lapsed,
    }
}

//! How slots ended: winners pay what was delivered, and the loss of what they did not deliver.

use alloy_primitives::{Address, U256};
use lockstep_primitives::{ChainId, DeliveryReport, SlotEnding, SlotNumber, recover};

use super::Marketplace;
use crate::{Acquisition, Breach, Ending, Figure, HoldId, MarketError, Posting, PostingKind, Right, RightRecord, bond};

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
        let (paid, kind) = match ending {
            Ending::Delivered => (right.granted.price, PostingKind::Price),
            Ending::TakenOver(_) => (self.loss(&right, report), PostingKind::Damages),
            Ending::Lapsed => (U256::ZERO, PostingKind::Price),
        };
        let postings = self.pay_and_release(slot, right.granted.holder, payout, paid, kind)?;
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
            self.unsettled.pop_first();
            self.rights.finish(slot, chain, Ending::Lapsed)?;
            let Some(right) = self.rights.get(slot, chain).copied() else { continue };
            let holder = right.granted.holder;
            let postings = self.pay_and_release(slot, holder, holder, U256::ZERO, PostingKind::Price)?;
            lapsed.push(Reported { record: RightRecord { slot, chain, right }, postings, paid: U256::ZERO });
        }
        Ok(lapsed)
    }

    /// What the rollup lost because its winner did not deliver: what it would have been paid, or would have earned itself if that
    /// is more, less what its own list earned; at most what was put up for it.
    fn loss(&self, right: &Right, report: &DeliveryReport) -> U256 {
        let price = right.granted.price;
        let missed = price.max(report.posted.unwrap_or_default());
        let bond_bps = self.rules.deposits.map_or(0, |rules| rules.bond_bps);
        missed.saturating_sub(report.earned.unwrap_or_default()).min(price.saturating_add(bond(price, bond_bps)))
    }

    /// Pays from what is held for a winner, and releases what nothing in the slot needs any more.
    fn pay_and_release(
        &mut self,
        slot: SlotNumber,
        holder: Address,
        payout: Address,
        paid: U256,
        kind: PostingKind,
    ) -> Result<Vec<Posting>, MarketError> {
        let id = HoldId { slot, bidder: holder };
        if self.rules.deposits.is_none() || self.ledger.held_for(id).is_zero() {
            return Ok(Vec::new());
        }
        let mut postings = Vec::new();
        if !paid.is_zero() {
            postings.push(self.ledger.pay(id, payout, paid.min(self.ledger.held_for(id)), kind)?);
        }
        let open = self.unsettled.range((slot, ChainId::MIN)..=(slot, ChainId::MAX));
        let owed = open.filter_map(|(slot, chain)| self.rights.get(*slot, *chain)).filter(|right| right.granted.holder == holder);
        let bond_bps = self.rules.deposits.map_or(0, |rules| rules.bond_bps);
        let keep = owed.fold(U256::ZERO, |sum, right| {
            let price = right.granted.price;
            sum.saturating_add(price).saturating_add(bond(price, bond_bps))
        });
        let keep = keep.min(self.ledger.held_for(id));
        let released = self.ledger.hold(id, keep)?;
        if !released.is_empty() {
            postings.push(released);
        }
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

//! Sealed bids: taken when their cover is, opened in time, and what is forfeited when they are not.

use alloy_primitives::{Address, B256, U512};
use lockstep_primitives::{Opening, SealedBids, SlotNumber, recover};

use super::{Marketplace, with_bond};
use crate::{
    AcceptedBid, Envelope, Envelopes, HoldId, MarketError, Posting, PostingKind, Sale, SealError, SealRules, TicketError, bond,
    payment::share_out,
};

/// What taking sealed bids changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Who bids.
    pub bidder: Address,
    /// What the bidder signed.
    pub digest: B256,
    /// What is held for them now; `None` when they were there before.
    pub posting: Option<Posting>,
}

impl Marketplace {
    /// Takes sealed bids in the place of the bidder's earlier ones for the slot, when its deposit covers them. The same again
    /// changes nothing.
    ///
    /// # Errors
    /// Names what is wrong with them, or what the deposit lacks. Nothing is then changed.
    pub fn seal(&mut self, sealed: SealedBids, signature: &[u8], now_ms: u64) -> Result<Sealed, MarketError> {
        let slot = sealed.slot;
        let rules = self.seal_rules(slot)?;
        let close_ms = self.seal_ms(slot, &rules);
        self.open(slot, now_ms)?;
        if now_ms >= close_ms {
            return Err(MarketError::Closed { slot, close_ms, now_ms });
        }
        let digest = sealed.digest();
        let bidder = recover(digest, signature).map_err(|_| MarketError::InvalidBidSignature { slot })?;
        if self.envelopes.entry(slot).or_default().check(&sealed, bidder)? {
            return Ok(Sealed { bidder, digest, posting: None });
        }
        self.check_staying(bidder)?;
        let cover = self.rules.deposits.as_ref().map(|deposits| with_bond(sealed.cover, deposits)).unwrap_or_default();
        let needed = cover.saturating_add(self.owed(slot, bidder));
        let posting = self.ledger.hold(HoldId { slot, bidder }, needed)?;
        self.envelopes.entry(slot).or_default().put(bidder, Envelope { sealed, opening: None });
        Ok(Sealed { bidder, digest, posting: Some(posting) })
    }

    /// Opens sealed bids: they are in the book then. The same again changes nothing. Whether it changed something.
    ///
    /// # Errors
    /// Names what is wrong. Nothing is then changed, and the bids can be opened in another way as long as there is time.
    pub fn open_bids(&mut self, opening: Opening, now_ms: u64) -> Result<bool, MarketError> {
        let Opening { slot, bidder, .. } = opening;
        let rules = self.seal_rules(slot)?;
        let (from_ms, until_ms) = (self.seal_ms(slot, &rules), self.rules.clock.close_ms(slot));
        if now_ms < from_ms || now_ms >= until_ms {
            return Err(SealError::OpeningOutOfTime { slot, from_ms, until_ms, now_ms }.into());
        }
        let (Some(envelopes), Some(book)) = (self.envelopes.get_mut(&slot), self.open.get_mut(&slot)) else {
            return Err(SealError::Unknown { slot, bidder }.into());
        };
        let Some(bids) = envelopes.check_opening(&opening, book.sale())? else { return Ok(false) };
        bids.into_iter().for_each(|bid| book.restore(bid));
        envelopes.note_opening(opening);
        Ok(true)
    }

    /// The sealed bids for an open slot.
    pub fn envelopes_of(&self, slot: SlotNumber) -> Option<&Envelopes> {
        self.envelopes.get(&slot)
    }

    /// From when on sealed bids for a slot come too late, and are opened.
    pub fn seal_close_ms(&self, slot: SlotNumber) -> Option<u64> {
        self.rules.sealing.map(|rules| self.seal_ms(slot, &rules))
    }

    /// Puts a stored envelope back, with its bids if it was opened. What covers it is in the ledger.
    pub(super) fn restore_envelope(&mut self, bidder: Address, envelope: Envelope) -> Result<(), MarketError> {
        let slot = envelope.sealed.slot;
        if slot >= self.closed_before {
            let bids = envelope.opening.iter().flat_map(|opening| &opening.bids);
            let bids: Vec<AcceptedBid> = bids.map(|bid| AcceptedBid::new(bidder, bid.clone())).collect();
            let book = self.book(slot)?;
            bids.into_iter().for_each(|bid| book.restore(bid));
            self.envelopes.entry(slot).or_default().put(bidder, envelope);
        }
        Ok(())
    }

    /// Pays the sellers of a slot what is forfeited by those who did not open their bids, in proportion to the reserves.
    pub(super) fn forfeit(&mut self, sale: &Sale, envelopes: &Envelopes) -> Result<Vec<Posting>, MarketError> {
        let (Some(rules), slot) = (self.rules.sealing, sale.slot()) else { return Ok(Vec::new()) };
        let payouts = sale.terms().iter().filter_map(|(chain, terms)| {
            let payout = self.registry.at(*chain, slot)?.payout;
            Some((payout, U512::from(terms.reserve)))
        });
        let (payouts, reserves): (Vec<Address>, Vec<U512>) = payouts.unzip();
        if payouts.is_empty() {
            return Ok(Vec::new());
        }
        let mut postings = Vec::new();
        for (bidder, sealed) in envelopes.unopened() {
            let id = HoldId { slot, bidder };
            let forfeit = bond(sealed.cover, rules.forfeit_bps).min(self.ledger.held_for(id));
            for (payout, share) in payouts.iter().zip(share_out(forfeit, &reserves)) {
                if !share.is_zero() {
                    postings.push(self.ledger.pay(id, *payout, share, PostingKind::Forfeit)?);
                }
            }
        }
        Ok(postings)
    }

    fn seal_rules(&self, slot: SlotNumber) -> Result<SealRules, MarketError> {
        if self.tickets.is_some() {
            return Err(TicketError::TicketsOnly.into());
        }
        self.rules.sealing.ok_or_else(|| SealError::NotSealed { slot }.into())
    }

    const fn seal_ms(&self, slot: SlotNumber, rules: &SealRules) -> u64 {
        self.rules.clock.close_ms(slot).saturating_sub(rules.open_ms)
    }
}

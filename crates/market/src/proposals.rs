//! The builder market inside a slot: whoever may propose takes the best proposal that others offer, without having seen it.
//!
//! ```text
//!  blinded bids ──| close |── reveal of the best ──| its time is over |── reveal of the next ──| ... |── the holder's own lists
//! ```
//!
//! A builder offers what a whole proposal, a list for each of the rollups, is worth to the holder of the right, and commits to the
//! lists without showing them: else the holder could take what is in them for itself. The best bid is selected first and its lists
//! revealed after. Lists that are not what was committed to, or that do not come in time, put the builder out of the slot; what it
//! owes for that is told, and the next bid has its turn. When nobody is left the holder builds itself, as it does when nobody bids
//! more than its own proposal is worth.
//!
//! Proposer-builder separation as of MEV-Boost (Flashbots, 2022), where a relay is trusted to see the lists first: here nobody is, and
//! the price is that a builder may stay silent, which its forfeit pays for.

mod error;

pub use error::ProposalError;

use std::collections::BTreeMap;

use alloy_primitives::{Address, U256};
use lockstep_primitives::{BlindedProposal, ProposalReveal, RollupSet, SlotNumber, recover};

use crate::{MAX_AMOUNT, bond, tie_break};

/// How many builders offer a proposal for one right.
pub const MAX_PROPOSALS: usize = 1_024;

/// What is offered proposals for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProposalRules {
    /// The slot.
    pub slot: SlotNumber,
    /// The rollups of the right: a proposal has a list for each of them.
    pub rollups: RollupSet,
    /// Who holds it.
    pub holder: Address,
    /// What the holder's own proposal is worth, in the numeraire's smallest unit: bids have to be above.
    pub own_value: U256,
    /// Bids are taken before this time, in Unix milliseconds.
    pub close_ms: u64,
    /// How long each builder has to reveal.
    pub reveal_ms: u64,
    /// No turn ends later than this, in Unix milliseconds: then the holder proposes its own.
    pub end_ms: u64,
    /// What who is selected and does not reveal forfeits, of its bid in basis points.
    pub forfeit_bps: u64,
}

/// How a builder that was selected failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It revealed something else than it had committed to.
    Mismatch,
    /// It did not reveal in its time.
    Silent,
}

/// A builder that was selected and failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Who.
    pub builder: Address,
    /// What it had bid.
    pub value: U256,
    /// What it forfeits to the holder.
    pub forfeit: U256,
    /// How.
    pub failure: Failure,
}

/// Whose lists are proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Bids are still taken.
    Open,
    /// This builder has to reveal before that time, in Unix milliseconds.
    Awaited {
        /// Who.
        builder: Address,
        /// Until when.
        until_ms: u64,
    },
    /// These lists of a builder's.
    Builder {
        /// Who.
        builder: Address,
        /// What it pays the holder.
        value: U256,
        /// What it revealed.
        reveal: ProposalReveal,
    },
    /// The holder's own.
    Own,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Offer {
    proposal: BlindedProposal,
    rank: U256,
}

/// The auction of a right's proposal.
#[derive(Clone, Debug)]
pub struct ProposalAuction {
    rules: ProposalRules,
    offers: BTreeMap<Address, Offer>,
    /// Who was selected so far, best first; all but the last one failed.
    failed: Vec<Failed>,
    /// The candidates that have not had their turn, the best one last. Fixed when the bidding ends.
    waiting: Option<Vec<Address>>,
    taken: Option<(Address, ProposalReveal)>,
}

impl ProposalAuction {
    /// Opens bidding.
    pub const fn open(rules: ProposalRules) -> Self {
        Self { rules, offers: BTreeMap::new(), failed: Vec::new(), waiting: None, taken: None }
    }

    /// What is offered proposals for.
    pub const fn rules(&self) -> &ProposalRules {
        &self.rules
    }

    /// Takes a blinded bid in the place of the builder's earlier one, and says whose it is. The same again changes nothing.
    ///
    /// # Errors
    /// Names what is wrong with it. Nothing is then changed.
    pub fn offer(&mut self, proposal: BlindedProposal, signature: &[u8], now_ms: u64) -> Result<Address, ProposalError> {
        let ProposalRules { slot, holder, own_value, close_ms, .. } = self.rules;
        if proposal.slot != slot || proposal.rollups != self.rules.rollups || proposal.holder != holder {
            return Err(ProposalError::OtherRight { slot, rollups: self.rules.rollups.clone(), holder });
        }
        if now_ms >= close_ms || self.waiting.is_some() {
            return Err(ProposalError::Closed { slot, close_ms, now_ms });
        }
        if proposal.value <= own_value || proposal.value > MAX_AMOUNT {
            return Err(ProposalError::NotAboveOwn { slot, value: proposal.value, own_value });
        }
        let digest = proposal.digest();
        let builder = recover(digest, signature).map_err(|_| ProposalError::InvalidSignature { slot })?;
        match self.offers.get(&builder).map(|offer| &offer.proposal) {
            Some(earlier) if *earlier == proposal => return Ok(builder),
            Some(earlier) if proposal.nonce <= earlier.nonce => {
                return Err(ProposalError::NonceTooLow { slot, builder, nonce: proposal.nonce, current: earlier.nonce });
            }
            None if self.offers.len() >= MAX_PROPOSALS => return Err(ProposalError::Full { slot, limit: MAX_PROPOSALS }),
            _ => {}
        }
        self.offers.insert(builder, Offer { proposal, rank: tie_break(builder, digest) });
        Ok(builder)
    }

    /// Takes the lists of the builder whose turn it is. The same again changes nothing. What is not what it committed to puts it out
    /// of the slot.
    ///
    /// # Errors
    /// When it is not its turn, or they are not what it committed to.
    pub fn reveal(&mut self, builder: Address, reveal: ProposalReveal, now_ms: u64) -> Result<(), ProposalError> {
        let slot = self.rules.slot;
        if self.taken.as_ref().is_some_and(|(known, lists)| *known == builder && *lists == reveal) {
            return Ok(());
        }
        match self.selection(now_ms) {
            Selection::Awaited { builder: awaited, .. } if awaited == builder => {}
            selection => return Err(ProposalError::NotYourTurn { slot, builder, selection: Box::new(selection) }),
        }
        let commitment = self.offers.get(&builder).map(|offer| offer.proposal.commitment);
        let covers = reveal.lists.keys().eq(&self.rules.rollups);
        if !covers || commitment != Some(reveal.commitment()) {
            self.fail(Failure::Mismatch);
            return Err(ProposalError::Mismatch { slot, builder, commitment: commitment.unwrap_or_default() });
        }
        self.taken = Some((builder, reveal));
        Ok(())
    }

    /// Whose lists are proposed, as of a time. Time that goes back changes nothing.
    pub fn selection(&mut self, now_ms: u64) -> Selection {
        if let Some((builder, reveal)) = &self.taken {
            let value = self.offers.get(builder).map(|offer| offer.proposal.value).unwrap_or_default();
            return Selection::Builder { builder: *builder, value, reveal: reveal.clone() };
        }
        if now_ms < self.rules.close_ms && self.waiting.is_none() {
            return Selection::Open;
        }
        if self.waiting.is_none() {
            let mut order: Vec<(U256, U256, Address)> =
                self.offers.iter().map(|(builder, offer)| (offer.proposal.value, offer.rank, *builder)).collect();
            order.sort_unstable();
            self.waiting = Some(order.into_iter().map(|(.., builder)| builder).collect());
        }
        loop {
            let until_ms = self.until_ms();
            let Some(builder) = self.waiting.as_ref().and_then(|waiting| waiting.last()).copied() else { return Selection::Own };
            if until_ms > self.rules.end_ms {
                self.give_up();
                return Selection::Own;
            }
            if now_ms < until_ms {
                return Selection::Awaited { builder, until_ms };
            }
            self.fail(Failure::Silent);
        }
    }

    /// Leaves it to the holder: nobody has a turn any more.
    pub fn give_up(&mut self) {
        self.waiting = Some(Vec::new());
    }

    /// Whether somebody's lists are or may still be proposed.
    pub fn is_pending(&self) -> bool {
        self.taken.is_some() || self.waiting.as_ref().is_none_or(|waiting| !waiting.is_empty())
    }

    /// What a builder has offered and may still owe.
    pub fn standing(&self, builder: Address) -> Option<U256> {
        let value = self.offers.get(&builder)?.proposal.value;
        let stands = match (&self.taken, &self.waiting) {
            (Some((taken, _)), _) => *taken == builder,
            (None, Some(waiting)) => waiting.contains(&builder),
            (None, None) => true,
        };
        stands.then_some(value)
    }

    /// Who has offered something.
    pub fn builders(&self) -> impl Iterator<Item = Address> {
        self.offers.keys().copied()
    }

    /// Ends the bidding, if it is time: whose turn it is counts from now on, when it is known who got the right.
    pub fn begin(&mut self, now_ms: u64) {
        if self.waiting.is_none() && now_ms > self.rules.close_ms {
            self.rules.close_ms = now_ms;
        }
        self.selection(now_ms);
    }

    /// Who was selected and failed so far, best first.
    pub fn failed(&self) -> &[Failed] {
        &self.failed
    }

    /// Until when the builder whose turn it is may reveal: every one has its time, whether or not those before it used theirs up.
    fn until_ms(&self) -> u64 {
        let turns = self.failed.len() as u64 + 1;
        self.rules.close_ms.saturating_add(self.rules.reveal_ms.saturating_mul(turns))
    }

    fn fail(&mut self, failure: Failure) {
        let Some(builder) = self.waiting.as_mut().and_then(Vec::pop) else { return };
        let value = self.offers.get(&builder).map(|offer| offer.proposal.value).unwrap_or_default();
        let forfeit = bond(value, self.rules.forfeit_bps);
        self.failed.push(Failed { builder, value, forfeit, failure });
    }
}

//! Proposals: who may propose takes the best that builders offer unseen, and pays nothing for what is not delivered.
//!
//! ```text
//!  call ──> blinded bids, covered ──| slot closed |──> reveals in turn ──> prepared by the holder ──> published: paid
//!                                   no right: dropped      silent: forfeit     other lists: not paid
//! ```

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, U256, U512};
use lockstep_primitives::{BlindedProposal, ChainId, ProposalCall, ProposalReveal, RollupSet, SlotNumber, recover};

use super::{Marketplace, with_bond};
use crate::{
    Breach, Ending, HoldId, MarketError, Posting, PostingKind, ProposalAuction, ProposalError, ProposalRules, Selection, bond,
    payment::share_out,
};

/// How many calls for proposals are open in a slot.
pub const MAX_CALLS: usize = 256;
/// How many of them of one holder.
pub const MAX_CALLS_OF_HOLDER: usize = 8;

/// How proposals are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProposalTerms {
    /// For how long after the bidding for the slot has ended proposals are taken, in milliseconds: builders know then who got it.
    pub bid_ms: u64,
    /// How long each builder has to reveal, in milliseconds.
    pub reveal_ms: u64,
    /// How many builders have a turn at the most.
    pub turns: u64,
    /// What who is selected and does not reveal forfeits, of its bid in basis points.
    pub forfeit_bps: u64,
}

/// For which right proposals are asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallKey {
    /// The slot.
    pub slot: SlotNumber,
    /// Who asks.
    pub holder: Address,
    /// The rollups.
    pub rollups: RollupSet,
}

/// A call, and what became of it.
#[derive(Clone, Debug)]
pub(super) struct Call {
    auction: ProposalAuction,
    /// Whether its slot is closed and the holder has the right.
    decided: bool,
    /// What the holder has put up for proposing what is revealed to it.
    staked: Option<U256>,
    /// How many of those that failed have paid for it.
    forfeited: usize,
    /// Rollups whose share was paid, or will not be.
    settled: RollupSet,
}

/// What became of a blinded bid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// Whose it is.
    pub builder: Address,
    /// What the builder signed.
    pub digest: B256,
    /// What is held for it.
    pub posting: Option<Posting>,
}

impl Call {
    /// What the holder may owe the builder whose lists it was shown.
    fn stake(&self) -> U256 {
        let staked = self.staked.filter(|_| self.auction.is_pending()).unwrap_or_default();
        let due = shares(staked, &self.auction.rules().rollups).into_iter().filter(|(chain, _)| !self.settled.contains(chain));
        due.fold(U256::ZERO, |sum, (_, share)| sum.saturating_add(share))
    }

    /// What a builder may still owe: of what was taken, what is not settled.
    fn cover(&self, builder: Address, bond_bps: u64) -> U256 {
        let Some(value) = self.auction.standing(builder) else { return U256::ZERO };
        let due = shares(value, &self.auction.rules().rollups).into_iter().filter(|(chain, _)| !self.settled.contains(chain));
        due.fold(U256::ZERO, |sum, (_, share)| sum.saturating_add(share).saturating_add(bond(share, bond_bps)))
    }
}

impl Marketplace {
    /// Asks builders for proposals for a right that the signer has, or hopes to get. The same again changes nothing.
    ///
    /// # Errors
    /// Names why not. Nothing is then changed.
    pub fn call_proposals(&mut self, call: &ProposalCall, signature: &[u8], now_ms: u64) -> Result<CallKey, MarketError> {
        let terms = self.rules.proposals.ok_or(ProposalError::NotTaken)?;
        let ProposalCall { slot, ref rollups, own_value } = *call;
        let holder = recover(call.digest(), signature).map_err(|_| ProposalError::InvalidSignature { slot })?;
        self.open(slot, now_ms)?;
        if rollups.is_empty() {
            return Err(MarketError::EmptyPackage { slot });
        }
        if let Some(chain) = rollups.iter().find(|chain| self.registry.at(**chain, slot).is_none()) {
            return Err(MarketError::NotRegistered { chain: *chain });
        }
        let key = CallKey { slot, holder, rollups: rollups.clone() };
        if let Some(known) = self.calls.get(&key) {
            let known = known.auction.rules().own_value;
            let other = ProposalError::AskedBefore { slot, rollups: rollups.clone(), holder, own_value: known };
            return if known == own_value { Ok(key) } else { Err(other.into()) };
        }
        let of_slot = || self.calls.keys().filter(|known| known.slot == slot);
        if of_slot().count() >= MAX_CALLS || of_slot().filter(|known| known.holder == holder).count() >= MAX_CALLS_OF_HOLDER {
            let (limit, of_holder) = (MAX_CALLS, MAX_CALLS_OF_HOLDER);
            return Err(ProposalError::TooManyCalls { slot, holder, limit, of_holder }.into());
        }
        let ProposalTerms { bid_ms, reveal_ms, turns, forfeit_bps } = terms;
        let (rollups, close_ms) = (rollups.clone(), self.rules.clock.close_ms(slot).saturating_add(bid_ms));
        let end_ms = close_ms.saturating_add(reveal_ms.saturating_mul(turns));
        let rules = ProposalRules { slot, rollups, holder, own_value, close_ms, reveal_ms, end_ms, forfeit_bps };
        let auction = ProposalAuction::open(rules);
        self.calls.insert(key.clone(), Call { auction, decided: false, staked: None, forfeited: 0, settled: RollupSet::new() });
        Ok(key)
    }

    /// Takes a blinded bid, when the builder's deposit covers it. The same again changes nothing.
    ///
    /// # Errors
    /// Names what is wrong with it, or what the deposit lacks. Nothing is then changed.
    pub fn propose(&mut self, proposal: &BlindedProposal, signature: &[u8], now_ms: u64) -> Result<Proposed, MarketError> {
        let BlindedProposal { slot, ref rollups, holder, .. } = *proposal;
        let key = CallKey { slot, holder, rollups: rollups.clone() };
        let missing = ProposalError::NotAsked { slot, rollups: rollups.clone(), holder };
        let call = self.calls.get(&key).ok_or(missing)?;
        let digest = proposal.digest();
        let before = call.clone();
        // Taken on trial: it counts once it is covered.
        let mut after = call.clone();
        let builder = after.auction.offer(proposal.clone(), signature, now_ms)?;
        self.check_staying(builder)?;
        self.calls.insert(key.clone(), after);
        if self.rules.deposits.is_none() {
            return Ok(Proposed { builder, digest, posting: None });
        }
        match self.ledger.hold(HoldId { slot, bidder: builder }, self.put_up(slot, builder)) {
            Ok(posting) => Ok(Proposed { builder, digest, posting: Some(posting).filter(|posting| !posting.is_empty()) }),
            Err(error) => {
                self.calls.insert(key, before);
                Err(error.into())
            }
        }
    }

    /// Takes the lists of the builder whose turn it is. The same again changes nothing.
    ///
    /// # Errors
    /// When the right is not decided, it is not the builder's turn, or they are not what it committed to: then it forfeits, and the
    /// next one has its turn.
    pub fn reveal_proposal(
        &mut self,
        key: &CallKey,
        builder: Address,
        reveal: ProposalReveal,
        now_ms: u64,
    ) -> Result<Vec<Posting>, (MarketError, Vec<Posting>)> {
        let staked = self.stake(key, now_ms).map_err(|error| (error, Vec::new()))?;
        let Some(call) = self.decided(key).map_err(|error| (error, Vec::new()))? else {
            let CallKey { slot, holder, ref rollups } = *key;
            return Err((ProposalError::NotDecided { slot, rollups: rollups.clone(), holder }.into(), Vec::new()));
        };
        let revealed = call.auction.reveal(builder, reveal, now_ms);
        let mut postings: Vec<Posting> = staked.into_iter().collect();
        postings.extend(self.settle_selection(key, now_ms).map_err(|error| (error, Vec::new()))?);
        match revealed {
            Ok(()) => Ok(postings),
            Err(error) => Err((error.into(), postings)),
        }
    }

    /// Whose lists the holder of a right is to propose, as of now, and what that moved.
    ///
    /// # Errors
    /// When nobody asked.
    pub fn proposal(&mut self, key: &CallKey, now_ms: u64) -> Result<(Selection, Vec<Posting>), MarketError> {
        let mut postings: Vec<Posting> = self.stake(key, now_ms)?.into_iter().collect();
        let Some(call) = self.decided(key)? else { return Ok((Selection::Open, Vec::new())) };
        let selection = call.auction.selection(now_ms);
        postings.extend(self.settle_selection(key, now_ms)?);
        Ok((selection, postings))
    }

    /// The calls of a slot, and above what each wants to be bid.
    pub fn calls(&self, slot: SlotNumber) -> impl Iterator<Item = (&CallKey, U256)> {
        self.calls.iter().filter(move |(key, _)| key.slot == slot).map(|(key, call)| (key, call.auction.rules().own_value))
    }

    /// Lets turns begin of those who got the right that they asked for, once a slot is closed and the time for proposals is over.
    pub fn begin_proposals(&mut self, slot: SlotNumber, now_ms: u64) {
        self.calls.iter_mut().filter(|(key, _)| key.slot == slot).for_each(|(_, call)| call.auction.begin(now_ms));
    }

    /// Forgets proposals of slots that are not reported on any more, and releases what was put up for them.
    ///
    /// # Errors
    /// When the ledger cannot be written, which only a damaged store can cause.
    pub fn lapse_proposals(&mut self, now_ms: u64) -> Result<Vec<Posting>, MarketError> {
        let (clock, report_slots) = (self.rules.clock, self.rules.report_slots);
        let over = |key: &CallKey| now_ms >= clock.end_ms(key.slot.saturating_add(report_slots));
        let gone: Vec<CallKey> = self.calls.keys().filter(|key| over(key)).cloned().collect();
        self.drop_calls(&gone)
    }

    /// Drops the calls of those who did not get the right.
    pub(super) fn drop_without_right(&mut self, slot: SlotNumber) {
        let rights = &self.rights;
        self.calls.retain(|key, call| {
            let has = |chain: &ChainId| rights.get(slot, *chain).is_some_and(|right| right.proposer() == key.holder);
            call.decided |= key.slot == slot;
            key.slot != slot || key.rollups.iter().all(has)
        });
    }

    /// What somebody may owe for proposals in a slot: as their builder, with the bond, and as who was shown them.
    pub(super) fn owed_for_proposals(&self, slot: SlotNumber, account: Address) -> U256 {
        let Some(rules) = &self.rules.deposits else { return U256::ZERO };
        let calls = self.calls.iter().filter(|(key, _)| key.slot == slot);
        calls.fold(U256::ZERO, |sum, (key, call)| {
            let stake = if key.holder == account { call.stake() } else { U256::ZERO };
            sum.saturating_add(call.cover(account, rules.bond_bps)).saturating_add(stake)
        })
    }

    /// Pays for a proposal's share of a rollup whose slot has ended, when the rollup says that its lists are what was prepared.
    pub(super) fn settle_proposal(
        &mut self,
        slot: SlotNumber,
        chain: ChainId,
        ending: Ending,
        prepared: Option<B256>,
    ) -> Result<Vec<Posting>, MarketError> {
        let of_rollup = |(key, call): &(&CallKey, &mut Call)| {
            key.slot == slot && key.rollups.contains(&chain) && !call.settled.contains(&chain)
        };
        let found = self.calls.iter_mut().filter(of_rollup).find_map(|(key, call)| match call.auction.selection(u64::MAX) {
            Selection::Builder { builder, value, reveal } => Some((key, call, builder, value, reveal)),
            _ => None,
        });
        let (Some((key, call, builder, value, reveal)), Some(rules)) = (found, self.rules.deposits) else {
            return Ok(Vec::new());
        };
        call.settled.insert(chain);
        let share = shares(value, &key.rollups).remove(&chain).unwrap_or_default();
        let its_own = prepared.is_some() && prepared == reveal.lists.get(&chain).copied();
        let holder = key.holder;
        let (payer, payee, due, kind) = match ending {
            Ending::Delivered if its_own => (builder, holder, share, PostingKind::Price),
            // It was shown lists, and proposed others.
            Ending::Delivered => (holder, builder, share, PostingKind::Damages),
            // The lists were refused: the holder lost the slot by them.
            Ending::TakenOver(Breach::Refused) if its_own => (builder, holder, with_bond(share, &rules), PostingKind::Damages),
            Ending::TakenOver(_) | Ending::Lapsed => (builder, holder, U256::ZERO, PostingKind::Price),
        };
        let id = HoldId { slot, bidder: payer };
        let mut postings = Vec::new();
        if !due.is_zero() {
            postings.push(self.ledger.pay(id, payee, due.min(self.ledger.held_for(id)), kind)?);
        }
        postings.extend(self.release(slot, builder)?);
        postings.extend(self.release(slot, holder)?);
        Ok(postings)
    }

    /// The call, when its slot is closed and who asked has the right.
    fn decided(&mut self, key: &CallKey) -> Result<Option<&mut Call>, MarketError> {
        let CallKey { slot, holder, ref rollups } = *key;
        let missing = ProposalError::NotAsked { slot, rollups: rollups.clone(), holder };
        let call = self.calls.get_mut(key).ok_or(missing)?;
        Ok(call.decided.then_some(call))
    }

    /// Has the holder put up what the best proposal offers, before anybody shows it lists: so much it owes their builder if it
    /// proposes others. Who cannot is shown nothing.
    fn stake(&mut self, key: &CallKey, now_ms: u64) -> Result<Option<Posting>, MarketError> {
        let collects = self.rules.deposits.is_some();
        let Some(call) = self.decided(key)?.filter(|call| collects && call.staked.is_none()) else { return Ok(None) };
        let Selection::Awaited { builder, .. } = call.auction.selection(now_ms) else { return Ok(None) };
        let value = call.auction.standing(builder).unwrap_or_default();
        let id = HoldId { slot: key.slot, bidder: key.holder };
        let wanted = self.ledger.held_for(id).saturating_add(value);
        let held = self.ledger.hold(id, wanted);
        let Some(call) = self.calls.get_mut(key) else { return Ok(None) };
        match held {
            Ok(posting) => {
                call.staked = Some(value);
                Ok(Some(posting))
            }
            Err(_) => {
                call.auction.give_up();
                Ok(None)
            }
        }
    }

    /// Has those who failed pay the holder, and releases what nobody may owe any more.
    fn settle_selection(&mut self, key: &CallKey, now_ms: u64) -> Result<Vec<Posting>, MarketError> {
        let Some(call) = self.calls.get_mut(key) else { return Ok(Vec::new()) };
        let selection = call.auction.selection(now_ms);
        let failed: Vec<_> = call.auction.failed().iter().skip(call.forfeited).copied().collect();
        call.forfeited = call.auction.failed().len();
        let decided = matches!(selection, Selection::Builder { .. } | Selection::Own);
        let released: Vec<Address> = if decided { call.auction.builders().collect() } else { Vec::new() };
        let mut postings = Vec::new();
        let collects = self.rules.deposits.is_some();
        for failed in failed.into_iter().filter(|_| collects) {
            let id = HoldId { slot: key.slot, bidder: failed.builder };
            let forfeit = failed.forfeit.min(self.ledger.held_for(id));
            if !forfeit.is_zero() {
                postings.push(self.ledger.pay(id, key.holder, forfeit, PostingKind::Forfeit)?);
            }
            postings.extend(self.release(key.slot, failed.builder)?);
        }
        for builder in released.into_iter().chain(decided.then_some(key.holder)) {
            postings.extend(self.release(key.slot, builder)?);
        }
        Ok(postings)
    }

    fn drop_calls(&mut self, gone: &[CallKey]) -> Result<Vec<Posting>, MarketError> {
        let mut postings = Vec::new();
        for key in gone {
            let Some(call) = self.calls.remove(key) else { continue };
            for builder in call.auction.builders().chain([key.holder]) {
                postings.extend(self.release(key.slot, builder)?);
            }
        }
        Ok(postings)
    }
}

/// What each rollup's list is paid of a proposal's value: the builder says what all of it is worth, so all count the same.
fn shares(value: U256, rollups: &RollupSet) -> BTreeMap<ChainId, U256> {
    rollups.iter().copied().zip(share_out(value, &vec![U512::ZERO; rollups.len()])).collect()
}

//! A market as a whole: who sells, what is bid, who won, how slots ended, and the money.
//!
//! ```text
//!  register ──> put on sale ──> bids, covered ──> closed: allocation, rights ──> reports ──> charged, paid, released
//!                                by deposits        what is owed stays held       of the sellers
//! ```
//!
//! Everything is an argument: the time, the seed of draws, what the decision record says. Each step says what changed, so that
//! whoever drives it can store exactly that; [`MarketRecord`] is all that has to be stored to go on after a restart.

mod bids;
mod closing;
mod epochs;
mod escrow;
mod espresso;
mod handover;
mod proposing;
mod reports;
mod sealing;
mod ticketing;
mod timeboost;

pub use bids::Taken;
pub use closing::{Abandoned, Bidding, Closed};
pub use epochs::{EpochBook, EpochClosed};
pub use escrow::BatchSettled;
pub use handover::HandedOver;
pub use proposing::{CallKey, MAX_CALLS, MAX_CALLS_OF_HOLDER, ProposalTerms, Proposed};
pub use reports::Reported;
pub use sealing::Sealed;
pub use ticketing::{Drawing, Ordered, TICKET_POT};

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy_primitives::{Address, U256};
use lockstep_primitives::{BidCancellation, ChainId, Deposit, EpochBid, Registration, SlotNumber, WithdrawalRequest, recover};

use self::epochs::Epochs;
use crate::{
    AcceptedBid, AheadSale, BasedError, Calendar, EarningsHistory, Envelope, L1Schedule, L1Turn, L1View, Ledger, MarketError,
    Mechanism, Outcome, Posting, Registry, RightsBook, Sale, SealRules, Settlement, SettlementRecord, SlotAuction, SlotClock,
    TicketBook, TicketRecord, TicketRules, Version, sealed::EnvelopesBySlot,
};

/// How many slots ahead bids are taken: the one that is open next, and these after it.
pub const SLOTS_AHEAD: u64 = 4;

/// How many closed slots' outcomes are kept.
pub const MAX_CLOSED: usize = 256;

/// What a market sells.
#[derive(Clone, Debug)]
pub enum Selling {
    /// Slots, to bids.
    Slots(Arc<dyn Mechanism>),
    /// Tickets, which are drawn for slots.
    Tickets(TicketRules),
}

impl Selling {
    /// What configurations and answers call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Slots(mechanism) => mechanism.name(),
            Self::Tickets(_) => "tickets",
        }
    }
}

/// How a market works.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Its slots.
    pub clock: SlotClock,
    /// What it sells, and how.
    pub selling: Selling,
    /// How epochs are sold ahead of time, if they are.
    pub ahead: Option<AheadSale>,
    /// What bids have to be covered by. Without, they need no cover, and nothing is collected.
    pub deposits: Option<DepositRules>,
    /// How bids are sealed. Without, the market is trusted with them until the bidding ends.
    pub sealing: Option<SealRules>,
    /// How builders' proposals are taken, if they are.
    pub proposals: Option<ProposalTerms>,
    /// L1, if its proposers take part.
    pub l1: Option<L1Terms>,
    /// Whether an escrow contract keeps the money: then only what came in there is credited.
    pub escrow: bool,
    /// For how many slots after its own a slot may be reported on. Then it lapses: whoever bought it is not charged.
    pub report_slots: u64,
}

/// L1, whose proposers take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L1Terms {
    /// Its chain id, under which it is registered.
    pub chain: ChainId,
    /// When its slot 0 began, in Unix seconds.
    pub genesis_s: u64,
    /// How long its slots are, in seconds.
    pub slot_s: u64,
}

/// What bids have to be covered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DepositRules {
    /// What is held beside what a bidder may have to pay, for the case that it does not deliver: a part of that, in basis points.
    pub bond_bps: u64,
    /// Whose word counts for deposits: who keeps the money.
    pub keeper: Address,
}

/// What a market has to remember to go on after a restart.
#[derive(Debug, Default)]
pub struct MarketRecord {
    /// The terms of all rollups.
    pub registry: Registry,
    /// What they earned.
    pub histories: BTreeMap<ChainId, EarningsHistory>,
    /// The money.
    pub ledger: Ledger,
    /// Who may propose where, and how it ended.
    pub rights: RightsBook,
    /// The bids of slots that are not closed.
    pub bids: Vec<AcceptedBid>,
    /// Bids for slots that are not closed that were taken back, and whose they were.
    pub taken_back: Vec<(Address, BidCancellation)>,
    /// The same of bids for epochs, under the numbers of their first slots.
    pub epoch_taken_back: Vec<(Address, BidCancellation)>,
    /// The bids for epochs that are not closed, and who bids.
    pub epoch_bids: Vec<(Address, EpochBid)>,
    /// Epochs before this one are closed.
    pub epochs_closed_before: u64,
    /// The sealed bids of slots that are not closed, and who sealed them.
    pub envelopes: Vec<(Address, Envelope)>,
    /// The tickets, where they are sold.
    pub tickets: TicketRecord,
    /// What the escrow has, where there is one.
    pub settlement: SettlementRecord,
    /// Who is on its own way out of the escrow.
    pub exiting: Vec<Address>,
    /// Slots before this one are closed.
    pub closed_before: SlotNumber,
}

/// A market.
#[derive(Debug)]
pub struct Marketplace {
    rules: Rules,
    registry: Registry,
    histories: BTreeMap<ChainId, EarningsHistory>,
    ledger: Ledger,
    rights: RightsBook,
    open: BTreeMap<SlotNumber, SlotAuction>,
    epochs: Option<Epochs>,
    /// Of open slots.
    envelopes: EnvelopesBySlot,
    tickets: Option<TicketBook>,
    settlement: Option<Settlement>,
    /// Whether what is held for closed slots has been looked through since the market was restored.
    looked_through: bool,
    /// Who proposes on L1.
    l1: Option<L1Schedule>,
    /// Who asked for proposals.
    calls: BTreeMap<CallKey, proposing::Call>,
    /// Bids without a nonce that were replaced.
    replaced: espresso::Replaced,
    /// Timeboost bids of the next slot, counted.
    submissions: timeboost::Submissions,
    /// Who is on its own way out of the escrow.
    exiting: BTreeSet<Address>,
    closed: BTreeMap<SlotNumber, Outcome>,
    /// Slots before this one are closed.
    closed_before: SlotNumber,
    /// Rights that have not ended.
    unsettled: BTreeSet<(SlotNumber, ChainId)>,
}

impl Marketplace {
    /// A market that remembers.
    ///
    /// # Errors
    /// When a slot of a stored bid cannot be opened, tickets are there that the rules do not know, or the windows of epochs do not
    /// fit the clock.
    pub fn new(rules: Rules, record: MarketRecord) -> Result<Self, MarketError> {
        let MarketRecord {
            registry,
            histories,
            ledger,
            rights,
            bids,
            taken_back,
            epoch_taken_back,
            epoch_bids,
            epochs_closed_before,
            envelopes: sealed,
            tickets,
            settlement,
            exiting,
            closed_before,
        } = record;
        let settlement = rules.escrow.then(|| Settlement::new(settlement));
        settlement.iter().try_for_each(|settlement| settlement.check(&ledger))?;
        let exiting = exiting.into_iter().collect();
        let tickets = match &rules.selling {
            Selling::Slots(_) => None,
            Selling::Tickets(rules) => Some(TicketBook::new(rules.clone(), tickets)?),
        };
        let calendar = rules.ahead.map(|ahead| Calendar::new(rules.clock, rules.clock.slot_ms, Some(ahead))).transpose()?;
        let epochs = calendar.map(|calendar| Epochs::new(calendar, epochs_closed_before));
        let l1 = rules.l1.map(|L1Terms { chain, genesis_s, slot_s }| L1Schedule::new(chain, genesis_s, slot_s)).transpose()?;
        let unsettled = rights.records().filter(|record| record.right.ending.is_none()).map(|record| (record.slot, record.chain));
        let unsettled = unsettled.collect();
        let (open, envelopes, closed) = Default::default();
        let mut market = Self {
            rules,
            registry,
            histories,
            ledger,
            rights,
            open,
            epochs,
            envelopes,
            tickets,
            settlement,
            exiting,
            closed,
            closed_before,
            unsettled,
            replaced: Default::default(),
            submissions: Default::default(),
            calls: BTreeMap::new(),
            looked_through: false,
            l1,
        };
        for bid in bids {
            market.restore_bid(bid)?;
        }
        for (bidder, bid) in &epoch_bids {
            market.restore_epoch_bid(*bidder, bid)?;
        }
        for (bidder, cancellation) in &taken_back {
            market.restore_taken_back(*bidder, cancellation)?;
        }
        for (bidder, asked) in &epoch_taken_back {
            market.restore_epoch_taken_back(*bidder, asked)?;
        }
        let drawn: Vec<SlotNumber> =
            market.tickets.iter().flat_map(|book| book.record().drawn.keys()).map(|(slot, _)| *slot).collect();
        for slot in drawn {
            market.book(slot)?;
        }
        for (bidder, envelope) in sealed {
            market.restore_envelope(bidder, envelope)?;
        }
        Ok(market)
    }

    /// Registers a rollup, or changes its terms, and returns what waited for its slot and is replaced.
    ///
    /// # Errors
    /// See [`Registry::register`].
    pub fn register(
        &mut self,
        registration: Registration,
        signature: &[u8],
        now_ms: u64,
    ) -> Result<Vec<Version<Registration>>, MarketError> {
        // What a new rollup sells in epochs that are sold already, it sells just in time.
        let known = self.registry.of(registration.chain).is_some();
        let earliest = if known { self.earliest_terms(now_ms) } else { self.unlisted_from(now_ms) };
        self.registry.register(registration, signature, earliest)
    }

    /// The first slot whose terms may still change: the one after all that are on sale or were, by themselves or in an epoch.
    pub fn earliest_terms(&self, now_ms: u64) -> SlotNumber {
        let ahead = self.epochs.as_ref().map_or(0, |epochs| epochs.unlisted_from(now_ms));
        self.unlisted_from(now_ms).max(ahead)
    }

    /// The first slot that is not on sale by itself and was not.
    fn unlisted_from(&self, now_ms: u64) -> SlotNumber {
        let listed = self.open.last_key_value().map_or(0, |(slot, _)| slot.saturating_add(1));
        listed.max(self.first_open(now_ms))
    }

    /// The first slot whose bidding has not ended.
    pub fn first_open(&self, now_ms: u64) -> SlotNumber {
        let clock = &self.rules.clock;
        let begun = clock.slot_at(now_ms.saturating_add(clock.close_before_ms)).map_or(0, |slot| slot.saturating_add(1));
        begun.max(self.closed_before)
    }

    /// Opens a slot for bids with its terms, unless it is open, and returns its book.
    ///
    /// Earnings count for implied reserves up to the slots whose bidding was over when this one's began, whenever it is opened: so
    /// everybody is told the same reserve.
    ///
    /// # Errors
    /// When the slot is not open for bids at that time.
    pub fn open(&mut self, slot: SlotNumber, now_ms: u64) -> Result<&SlotAuction, MarketError> {
        let first = self.first_open(now_ms);
        // What may still be sold with its epoch is not sold by itself yet.
        let alone = self.epochs.as_ref().map_or(SlotNumber::MAX, Epochs::sold_ahead_from);
        let last = first.saturating_add(SLOTS_AHEAD).min(alone.saturating_sub(1));
        if slot < first || slot > last {
            return Err(MarketError::NotOpen { slot, first, last });
        }
        self.book(slot).map(|book| &*book)
    }

    /// Slots before this one are closed.
    pub const fn closed_before(&self) -> SlotNumber {
        self.closed_before
    }

    /// What is kept of a closed slot.
    pub fn outcome(&self, slot: SlotNumber) -> Option<&Outcome> {
        self.closed.get(&slot)
    }

    /// Credits a deposit, by the word of who keeps the money.
    ///
    /// # Errors
    /// When it is not signed by the keeper, or the ledger does not take it.
    pub fn deposit(&mut self, deposit: &Deposit, signature: &[u8]) -> Result<Posting, MarketError> {
        if self.rules.escrow {
            return Err(MarketError::EscrowOnly);
        }
        let expected = self.rules.deposits.map(|rules| rules.keeper).unwrap_or_default();
        check_signer(recover(deposit.digest(), signature).ok(), expected)?;
        Ok(self.ledger.deposit(deposit.number, deposit.account, deposit.amount)?)
    }

    /// Takes money out of an account, to be paid out by who keeps it. Returns the number of the withdrawal.
    ///
    /// # Errors
    /// When the account did not sign it, or the ledger does not take it.
    pub fn withdraw(&mut self, request: &WithdrawalRequest, signature: &[u8]) -> Result<(u64, Posting), MarketError> {
        check_signer(recover(request.digest(), signature).ok(), request.account)?;
        self.check_staying(request.account)?;
        Ok(self.ledger.withdraw(request.account, request.to, request.amount, request.nonce)?)
    }

    /// Notes who proposes in an L1 slot. It counts for slots that are not on sale yet. Returns who was thought to.
    ///
    /// # Errors
    /// When L1 takes no part, or see [`L1Schedule::learn`].
    pub fn learn_l1(&mut self, l1_slot: u64, proposer: Address) -> Result<Option<Address>, MarketError> {
        let Some(l1) = self.l1.as_mut() else { return Err(BasedError::NoL1.into()) };
        Ok(l1.learn(l1_slot, proposer)?)
    }

    /// Who proposes on L1, if its proposers take part.
    pub const fn l1(&self) -> Option<&L1Schedule> {
        self.l1.as_ref()
    }

    /// Which L1 state the blocks of a rollup may read in a slot; `None` where L1 takes no part, or nothing is known of the rollup.
    pub fn l1_view(&self, slot: SlotNumber, chain: ChainId) -> Option<L1View> {
        let l1 = self.l1.as_ref()?;
        let proposer = self.rights.get(slot, chain)?.proposer();
        let follows = self.registry.all_at(slot).filter(|terms| terms.follows_l1).map(|terms| terms.chain).collect();
        Some(l1.view(chain, &self.rights.rollups_of(slot, proposer), &follows))
    }

    /// How it works.
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Who sells.
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The money.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Who may propose where.
    pub const fn rights(&self) -> &RightsBook {
        &self.rights
    }

    /// What rollups earned.
    pub const fn histories(&self) -> &BTreeMap<ChainId, EarningsHistory> {
        &self.histories
    }

    /// The book of an open slot.
    pub fn book_of(&self, slot: SlotNumber) -> Option<&SlotAuction> {
        self.open.get(&slot)
    }

    fn book(&mut self, slot: SlotNumber) -> Result<&mut SlotAuction, MarketError> {
        use std::collections::btree_map::Entry;
        match self.open.entry(slot) {
            Entry::Occupied(book) => Ok(book.into_mut()),
            Entry::Vacant(place) => {
                let before = slot.saturating_sub(SLOTS_AHEAD + 1);
                let sale = self.registry.sale(&self.rules.clock, slot, before, &self.histories)?;
                let sale = without_l1(sale, self.l1.as_ref(), &self.rules.clock);
                let held = self.rights.of_slot(slot).filter(|(_, right)| right.ending.is_none());
                let held = held.map(|(chain, right)| (chain, (right.holder(), right.offer))).collect();
                Ok(place.insert(SlotAuction::open(sale.with_held(&held))))
            }
        }
    }
}

/// L1 is nobody's to sell: it is its proposer's.
fn without_l1(sale: Sale, l1: Option<&L1Schedule>, clock: &SlotClock) -> Sale {
    let Some(l1) = l1 else { return sale };
    let proposer = match l1.turn(clock, sale.slot()) {
        L1Turn::Of(proposer) => Some(proposer),
        L1Turn::NoBlock | L1Turn::Unknown(_) | L1Turn::Several => None,
    };
    sale.without(l1.chain(), proposer)
}

fn check_signer(signer: Option<Address>, expected: Address) -> Result<(), MarketError> {
    if signer != Some(expected) || expected.is_zero() {
        return Err(MarketError::WrongRequestSigner { expected });
    }
    Ok(())
}

/// What has to be held for what a bidder may have to pay.
fn with_bond(payable: U256, rules: &DepositRules) -> U256 {
    payable.saturating_add(crate::bond(payable, rules.bond_bps))
}

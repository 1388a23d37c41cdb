//! What a market keeps on disk, row by row, and what it remembers of it after a restart.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use alloy_primitives::{Address, U256};
use lockstep_market::{
    AcceptedBid, Acquisition, Balance, Breach, Delegation, Earnings, EarningsHistory, Ending, Granted, HoldId, Ledger,
    LedgerRecord, MarketRecord, Marketplace, Posting, PostingKind, Registry, Resale, Right, RightRecord, RightsBook, Withdrawal,
};
use lockstep_primitives::{Bid, BidCancellation, ChainId, SlotNumber, recover};
use lockstep_rpc::wire::{BidTxWire, BidWire, Decimal, EntryWire, PostingWire, SignedDecimal};
use lockstep_store::{KeyValue, Op, Store, StoreError, Table};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{ahead::EpochRow, espresso::EspressoRow, tickets::stored_tickets, timeboost::TimeboostRow};

/// The key of the counters among what does not fit elsewhere.
const COUNTERS: &[u8] = b"market";
/// Postings that stay on disk.
const MAX_POSTINGS: u64 = 1_000_000;
/// Slots whose rights stay on disk.
const MAX_SLOTS: u64 = lockstep_market::MAX_RIGHT_SLOTS as u64;
/// Slots of which earnings stay on disk.
const MAX_EARNINGS: u64 = lockstep_market::MAX_HISTORY_SLOTS as u64;

/// Why what was stored cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row that this version did not write.
    #[error("a row of table {table} cannot be read: {problem}")]
    Row {
        /// The table.
        table: Table,
        /// What is wrong.
        problem: String,
    },
}

pub(super) fn wrong(table: Table, problem: impl std::fmt::Display) -> RowError {
    RowError::Row { table, problem: problem.to_string() }
}

/// A bid as it was signed.
#[derive(Deserialize)]
#[serde(untagged)]
enum BidRow {
    Timeboost(TimeboostRow),
    Epoch(EpochRow),
    Espresso(EspressoRow),
    TakenBack(TakenBackRow),
    Own(BidWire),
}

/// A bid that was taken back, in its place.
#[derive(Serialize, Deserialize)]
struct TakenBackRow {
    /// Whose it was.
    taken_back_by: Address,
    slot: SlotNumber,
    rollups: Vec<ChainId>,
    exclusive: Option<String>,
    nonce: u64,
    /// Whether it was a bid for the epoch that begins with the slot.
    epoch: bool,
}

#[derive(Serialize, Deserialize)]
struct AccountRow {
    free: Decimal,
    held: Decimal,
    leaving: Decimal,
    nonce: u64,
}

#[derive(Serialize, Deserialize)]
struct WithdrawalRow {
    account: Address,
    to: Address,
    amount: Decimal,
}

#[derive(Default, Serialize, Deserialize)]
struct Counters {
    deposits: u64,
    postings: u64,
    closed_before: SlotNumber,
    #[serde(default)]
    epochs_closed_before: u64,
    #[serde(default)]
    tickets: u64,
}

#[derive(Serialize, Deserialize)]
struct RightRow {
    holder: Address,
    how: String,
    price: Decimal,
    default_proposer: Address,
    resale: Option<(Address, Decimal)>,
    offer: Option<Decimal>,
    delegation: Option<(Address, Decimal)>,
    ending: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct EarningsRow {
    earned: Option<Decimal>,
    posted: Option<Decimal>,
    computed: Option<Decimal>,
    paid: Option<Decimal>,
}

/// How acquisitions, and endings with their breaches, are written.
const ACQUISITIONS: [Acquisition; 4] = [Acquisition::Ahead, Acquisition::JustInTime, Acquisition::Ticket, Acquisition::Default];
const ENDINGS: [(Ending, &str); 5] = [
    (Ending::Delivered, "delivered"),
    (Ending::TakenOver(Breach::Silent), "silent"),
    (Ending::TakenOver(Breach::Refused), "refused"),
    (Ending::TakenOver(Breach::Withheld), "withheld"),
    (Ending::Lapsed, "lapsed"),
];

/// What changed, as steps for the store.
pub(super) struct Changes<'a> {
    market: &'a Marketplace,
    ops: Vec<Op>,
}

impl<'a> Changes<'a> {
    /// Nothing has changed, as the market is now.
    pub(super) const fn new(market: &'a Marketplace) -> Self {
        Self { market, ops: Vec::new() }
    }

    /// A posting, and the balances and holds that it left.
    pub(super) fn posting(&mut self, posting: &Posting) {
        let ledger = self.market.ledger();
        self.put(Table::Ledger, posting.number.to_be_bytes().to_vec(), &posting_wire(posting));
        if let Some(old) = posting.number.checked_sub(MAX_POSTINGS) {
            self.ops.push(Op::delete(Table::Ledger, old.to_be_bytes().to_vec()));
        }
        for account in posting.accounts() {
            self.account(account);
            if let Some(slot) = posting.slot {
                let id = HoldId { slot, bidder: account };
                let held = ledger.held_for(id);
                if held.is_zero() {
                    self.ops.push(Op::delete(Table::Holds, hold_key(id)));
                } else {
                    self.put(Table::Holds, hold_key(id), &Decimal(held));
                }
            }
        }
        match posting.kind {
            PostingKind::Withdraw { .. } => {
                if let Some(Withdrawal { account, to, amount }) = ledger.withdrawal(posting.number).copied() {
                    let row = WithdrawalRow { account, to, amount: Decimal(amount) };
                    self.put(Table::Withdrawals, posting.number.to_be_bytes().to_vec(), &row);
                }
            }
            PostingKind::PaidOut { number } | PostingKind::NotPaidOut { number } => {
                self.ops.push(Op::delete(Table::Withdrawals, number.to_be_bytes().to_vec()));
            }
            _ => {}
        }
    }

    /// An account as it is now.
    pub(super) fn account(&mut self, account: Address) {
        let Balance { free, held, leaving, nonce } = self.market.ledger().balance(account);
        let row = AccountRow { free: Decimal(free), held: Decimal(held), leaving: Decimal(leaving), nonce };
        self.put(Table::Accounts, account.to_vec(), &row);
    }

    /// The market, as it is now.
    pub(super) const fn market(&self) -> &'a Marketplace {
        self.market
    }

    /// A right as it is now.
    pub(super) fn right(&mut self, record: &RightRecord) {
        let Right { granted, resale, offer, delegation, ending } = record.right;
        let row = RightRow {
            holder: granted.holder,
            how: granted.how.name().to_owned(),
            price: Decimal(granted.price),
            default_proposer: granted.default_proposer,
            resale: resale.map(|resale| (resale.to, Decimal(resale.price))),
            offer: offer.map(Decimal),
            delegation: delegation.map(|delegation| (delegation.builder, Decimal(delegation.price))),
            ending: ending
                .and_then(|ending| ENDINGS.iter().find(|(known, _)| *known == ending))
                .map(|(_, name)| (*name).to_owned()),
        };
        self.put(Table::Rights, slot_chain(record.slot, record.chain), &row);
        if let Some(old) = record.slot.checked_sub(MAX_SLOTS) {
            self.ops.push(Op::delete(Table::Rights, slot_chain(old, record.chain)));
        }
    }

    /// What is known of a rollup's slot now.
    pub(super) fn earnings(&mut self, slot: SlotNumber, chain: ChainId) {
        let known = self.market.histories().get(&chain).and_then(|history| history.slots().get(&slot));
        let Some(Earnings { earned, posted, computed, paid }) = known.copied() else { return };
        let [earned, posted, computed, paid] = [earned, posted, computed, paid].map(|amount| amount.map(Decimal));
        self.put(Table::Earnings, slot_chain(slot, chain), &EarningsRow { earned, posted, computed, paid });
        if let Some(old) = slot.checked_sub(MAX_EARNINGS) {
            self.ops.push(Op::delete(Table::Earnings, slot_chain(old, chain)));
        }
    }

    /// A bid that is in the book now, with its signature.
    pub(super) fn bid(&mut self, bid: &AcceptedBid, wire: &BidWire) {
        self.put(Table::Bids, bid_key(bid), wire);
    }

    /// A Timeboost bid that is in the book now.
    pub(super) fn timeboost_bid(&mut self, bid: &AcceptedBid, row: &TimeboostRow) {
        self.put(Table::Bids, bid_key(bid), row);
    }

    /// A bid for an epoch that is in the book now.
    pub(super) fn epoch_bid(&mut self, bid: &AcceptedBid, row: &EpochRow) {
        self.put(Table::Bids, bid_key(bid), row);
    }

    /// A bid of Espresso's kind that is in the book now.
    pub(super) fn espresso_bid(&mut self, bid: &AcceptedBid, row: &EspressoRow) {
        self.put(Table::Bids, bid_key(bid), row);
    }

    /// A bid that is in no book any more.
    pub(super) fn no_bid(&mut self, bid: &AcceptedBid) {
        self.ops.push(Op::delete(Table::Bids, bid_key(bid)));
    }

    /// A bid that its bidder took back. Returns where that is stored.
    pub(super) fn taken_back(&mut self, bid: &AcceptedBid, by: &BidCancellation, epoch: bool) -> (SlotNumber, Vec<u8>) {
        let BidCancellation { slot, ref rollups, ref exclusive, nonce } = *by;
        let (rollups, exclusive) = (rollups.iter().copied().collect(), exclusive.clone());
        let row = TakenBackRow { taken_back_by: bid.bidder, slot, rollups, exclusive, nonce, epoch };
        self.put(Table::Bids, bid_key(bid), &row);
        (slot, bid_key(bid))
    }

    /// A step of the caller's own.
    pub(super) fn op(&mut self, op: Op) {
        self.ops.push(op);
    }

    /// All steps, with the market's counters after them.
    pub(super) fn into_ops(mut self) -> Vec<Op> {
        let record = self.market.ledger().record();
        let counters = Counters {
            deposits: record.deposits,
            postings: record.postings,
            closed_before: self.market.closed_before(),
            epochs_closed_before: self.market.epochs_closed_before(),
            tickets: self.market.tickets().map_or(0, |book| book.record().issued),
        };
        self.put(Table::Meta, COUNTERS.to_vec(), &counters);
        self.ops
    }

    /// A row of the caller's own.
    pub(super) fn row(&mut self, table: Table, key: Vec<u8>, row: &impl Serialize) {
        self.put(table, key, row);
    }

    fn put(&mut self, table: Table, key: Vec<u8>, row: &impl Serialize) {
        match serde_json::to_vec(row) {
            Ok(value) => self.ops.push(Op::put(table, key, value)),
            Err(error) => tracing::error!(%table, %error, "a row cannot be written"),
        }
    }
}

/// What is on disk.
pub(super) struct Remembered {
    pub(super) record: MarketRecord,
    /// Bids of Espresso's kind as they came, by slot and account.
    pub(super) espresso: BTreeMap<(SlotNumber, Address), BidTxWire>,
    /// Where bids are that were taken back.
    pub(super) taken_back: BTreeSet<(SlotNumber, Vec<u8>)>,
}

/// What a market remembers, but for the terms of its sellers, sealed bids and the escrow.
///
/// # Errors
/// When a row cannot be read, or the rows do not fit together: then nothing is guessed about anybody's money.
pub(super) fn remembered(store: &Store, registry: Registry) -> Result<Remembered, RowError> {
    let counters: Counters = match store.get(Table::Meta, COUNTERS)? {
        Some(value) => row(Table::Meta, &value)?,
        None => Counters::default(),
    };
    let ledger = ledger(store, &counters)?;
    let (mut bids, mut epoch_bids, mut as_came) = (Vec::new(), Vec::new(), BTreeMap::new());
    let (mut taken_back, mut epoch_taken_back, mut places) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (key, value) in store.scan(Table::Bids)? {
        bids.push(match row(Table::Bids, &value)? {
            BidRow::Timeboost(timeboost) => timeboost.accepted().map_err(|error| wrong(Table::Bids, error))?,
            BidRow::TakenBack(TakenBackRow { taken_back_by, slot, rollups, exclusive, nonce, epoch }) => {
                let asked = BidCancellation { slot, rollups: rollups.into_iter().collect(), exclusive, nonce };
                let of_kind = if epoch { &mut epoch_taken_back } else { &mut taken_back };
                of_kind.push((taken_back_by, asked));
                places.insert((slot, key));
                continue;
            }
            BidRow::Espresso(espresso) => {
                let (accepted, wire) = espresso.accepted().map_err(|error| wrong(Table::Bids, error))?;
                as_came.insert((accepted.bid.slot, accepted.bidder), wire);
                accepted
            }
            BidRow::Epoch(ahead) => {
                epoch_bids.push(ahead.bid()?);
                continue;
            }
            BidRow::Own(wire) => {
                let bid: Bid = wire.bid();
                let bidder = recover(bid.digest(), &wire.signature).map_err(|error| wrong(Table::Bids, error))?;
                AcceptedBid::new(bidder, bid)
            }
        });
    }
    let rights = rights(store)?;
    let histories = histories(store)?;
    let tickets = stored_tickets(store, counters.tickets)?;
    let Counters { closed_before, epochs_closed_before, .. } = counters;
    let record = MarketRecord {
        registry,
        histories,
        ledger,
        rights,
        bids,
        epoch_bids,
        taken_back,
        epoch_taken_back,
        tickets,
        closed_before,
        epochs_closed_before,
        ..MarketRecord::default()
    };
    Ok(Remembered { record, espresso: as_came, taken_back: places })
}

fn ledger(store: &Store, counters: &Counters) -> Result<Ledger, RowError> {
    let mut record = LedgerRecord { deposits: counters.deposits, postings: counters.postings, ..LedgerRecord::default() };
    for (key, value) in store.scan(Table::Accounts)? {
        let AccountRow { free, held, leaving, nonce } = row(Table::Accounts, &value)?;
        let balance = Balance { free: free.0, held: held.0, leaving: leaving.0, nonce };
        record.balances.insert(address(Table::Accounts, &key)?, balance);
    }
    for (key, value) in store.scan(Table::Holds)? {
        let (slot, bidder) = key.split_at_checked(8).ok_or_else(|| wrong(Table::Holds, "a short key"))?;
        let id = HoldId { slot: number(Table::Holds, slot)?, bidder: address(Table::Holds, bidder)? };
        record.holds.insert(id, row::<Decimal>(Table::Holds, &value)?.0);
    }
    for (key, value) in store.scan(Table::Withdrawals)? {
        let WithdrawalRow { account, to, amount } = row(Table::Withdrawals, &value)?;
        record.withdrawals.insert(number(Table::Withdrawals, &key)?, Withdrawal { account, to, amount: amount.0 });
    }
    Ledger::restore(record).map_err(|error| wrong(Table::Accounts, error))
}

fn rights(store: &Store) -> Result<RightsBook, RowError> {
    let table = Table::Rights;
    let read = |(key, value): KeyValue| {
        let (slot, chain) = key.split_at_checked(8).ok_or_else(|| wrong(table, "a short key"))?;
        let stored: RightRow = row(table, &value)?;
        let how = ACQUISITIONS.into_iter().find(|how| how.name() == stored.how).ok_or_else(|| wrong(table, &stored.how))?;
        let ending = stored.ending.map(|name| {
            let known = ENDINGS.iter().find(|(_, known)| *known == name);
            known.map(|(ending, _)| *ending).ok_or_else(|| wrong(table, name))
        });
        let granted = Granted { holder: stored.holder, how, price: stored.price.0, default_proposer: stored.default_proposer };
        let right = Right {
            granted,
            resale: stored.resale.map(|(to, price)| Resale { to, price: price.0 }),
            offer: stored.offer.map(|amount| amount.0),
            delegation: stored.delegation.map(|(builder, price)| Delegation { builder, price: price.0 }),
            ending: ending.transpose()?,
        };
        Ok(RightRecord { slot: number(table, slot)?, chain: number(table, chain)?, right })
    };
    let mut records = store.scan(table)?.into_iter().map(read).collect::<Result<Vec<_>, RowError>>()?;
    // While the market was away no row was removed for those that came.
    let kept_from = records.last().map_or(0, |last| last.slot.saturating_sub(MAX_SLOTS - 1));
    records.retain(|record| record.slot >= kept_from);
    let forgotten_before = records.first().map_or(0, |record| record.slot);
    RightsBook::restore(records, forgotten_before, 0).map_err(|error| wrong(table, error))
}

fn histories(store: &Store) -> Result<BTreeMap<ChainId, EarningsHistory>, RowError> {
    let table = Table::Earnings;
    let mut slots: BTreeMap<ChainId, BTreeMap<SlotNumber, Earnings>> = BTreeMap::new();
    for (key, value) in store.scan(table)? {
        let (slot, chain) = key.split_at_checked(8).ok_or_else(|| wrong(table, "a short key"))?;
        let EarningsRow { earned, posted, computed, paid } = row(table, &value)?;
        let [earned, posted, computed, paid] = [earned, posted, computed, paid].map(|amount| amount.map(|amount| amount.0));
        let of_rollup = slots.entry(number(table, chain)?).or_default();
        of_rollup.insert(number(table, slot)?, Earnings { earned, posted, computed, paid });
    }
    let restore = |(chain, slots): (ChainId, BTreeMap<SlotNumber, Earnings>)| {
        let kept = slots.len().saturating_sub(lockstep_market::MAX_HISTORY_SLOTS);
        let slots = slots.into_iter().skip(kept).collect();
        let history = EarningsHistory::restore(chain, slots, 0).map_err(|error| wrong(table, error))?;
        Ok((chain, history))
    };
    slots.into_iter().map(restore).collect()
}

/// The last postings that are stored, in their order.
///
/// # Errors
/// When one cannot be read.
pub(super) fn last_postings(store: &Store, next: u64, limit: usize) -> Result<VecDeque<PostingWire>, RowError> {
    let first = next.saturating_sub(limit as u64);
    let mut postings = VecDeque::new();
    for number in first..next {
        if let Some(value) = store.get(Table::Ledger, &number.to_be_bytes())? {
            postings.push_back(row(Table::Ledger, &value)?);
        }
    }
    Ok(postings)
}

/// A posting as JSON.
pub(super) fn posting_wire(posting: &Posting) -> PostingWire {
    let entries = posting.entries.iter().map(|(account, amount)| EntryWire {
        account: account.name().to_owned(),
        owner: account.owner(),
        amount: SignedDecimal(*amount),
    });
    PostingWire { number: posting.number, kind: posting.kind.name().to_owned(), slot: posting.slot, entries: entries.collect() }
}

pub(super) fn row<T: DeserializeOwned>(table: Table, value: &[u8]) -> Result<T, RowError> {
    serde_json::from_slice(value).map_err(|error| wrong(table, error))
}

pub(super) fn number(table: Table, bytes: &[u8]) -> Result<u64, RowError> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| wrong(table, "a key of another length"))
}

fn address(table: Table, bytes: &[u8]) -> Result<Address, RowError> {
    Address::try_from(bytes).map_err(|_| wrong(table, "a key of another length"))
}

fn hold_key(id: HoldId) -> Vec<u8> {
    [id.slot.to_be_bytes().as_slice(), id.bidder.as_slice()].concat()
}

fn slot_chain(slot: SlotNumber, chain: ChainId) -> Vec<u8> {
    [slot.to_be_bytes(), chain.to_be_bytes()].concat()
}

fn bid_key(bid: &AcceptedBid) -> Vec<u8> {
    [bid.bid.slot.to_be_bytes().as_slice(), bid.bidder.as_slice(), bid.digest.as_slice()].concat()
}

/// What a slot's proposers owe together, in the numeraire's smallest unit.
pub(super) fn prices(grants: &[lockstep_primitives::Grant]) -> U256 {
    grants.iter().fold(U256::ZERO, |sum, grant| sum.saturating_add(grant.price))
}

//! All rights that are kept, and the steps that change them.

use std::{collections::BTreeMap, mem};

use alloy_primitives::{Address, U256};
use lockstep_primitives::{ChainId, RollupSet, SlotNumber};

use super::{Acquisition, Delegation, Ending, Granted, Resale, Right, RightsError};
use crate::MAX_AMOUNT;

/// How many slots the book keeps: two epochs of the longest kind. The oldest go first, once all of their rights have ended.
pub const MAX_RIGHT_SLOTS: usize = 8192;

/// How many rights the book keeps of one slot.
pub const MAX_RIGHTS_PER_SLOT: usize = 64;

/// A right and what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RightRecord {
    /// The slot.
    pub slot: SlotNumber,
    /// The rollup.
    pub chain: ChainId,
    /// The right.
    pub right: Right,
}

/// The rights of all slots that are kept, at most [`MAX_RIGHT_SLOTS`].
///
/// Steps that name several rollups are taken for all of them or for none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RightsBook {
    slots: BTreeMap<SlotNumber, BTreeMap<ChainId, Right>>,
    forgotten_before: SlotNumber,
    dropped: u64,
}

impl RightsBook {
    /// A book without rights.
    pub fn new() -> Self {
        Self::default()
    }

    /// A book that was stored: what [`RightsBook::records`], [`RightsBook::forgotten_before`] and [`RightsBook::dropped`] tell.
    ///
    /// # Errors
    /// When there are more rights than the book keeps, two for one rollup and slot, one of a slot that is forgotten, or one that
    /// cannot have been granted.
    pub fn restore(
        records: impl IntoIterator<Item = RightRecord>,
        forgotten_before: SlotNumber,
        dropped: u64,
    ) -> Result<Self, RightsError> {
        let mut book = Self { forgotten_before, dropped, ..Self::default() };
        for RightRecord { slot, chain, right } in records {
            check_granted(slot, chain, &right.granted)?;
            if slot < forgotten_before {
                return Err(RightsError::Forgotten { slot, chain, before: forgotten_before });
            }
            if !book.slots.contains_key(&slot) && book.slots.len() >= MAX_RIGHT_SLOTS {
                return Err(RightsError::BookFull { slot, limit: MAX_RIGHT_SLOTS });
            }
            let rights = book.slots.entry(slot).or_default();
            if rights.len() >= MAX_RIGHTS_PER_SLOT {
                return Err(RightsError::TooManyRights { slot, chain, limit: MAX_RIGHTS_PER_SLOT });
            }
            if let Some(known) = rights.insert(chain, right) {
                return Err(RightsError::AlreadyGranted { slot, chain, holder: known.granted.holder });
            }
        }
        Ok(book)
    }

    /// Notes who got the right for a rollup's slot. The same again changes nothing.
    ///
    /// # Errors
    /// When somebody got it already, the price is above [`MAX_AMOUNT`], a default proposer would pay or somebody else be the
    /// default proposer, or there is no room. The book is then unchanged.
    pub fn grant(&mut self, slot: SlotNumber, chain: ChainId, granted: Granted) -> Result<(), RightsError> {
        check_granted(slot, chain, &granted)?;
        if slot < self.forgotten_before {
            return Err(RightsError::Forgotten { slot, chain, before: self.forgotten_before });
        }
        if let Some(known) = self.get(slot, chain) {
            let holder = known.granted.holder;
            return if known.granted == granted { Ok(()) } else { Err(RightsError::AlreadyGranted { slot, chain, holder }) };
        }
        if self.slots.get(&slot).is_some_and(|rights| rights.len() >= MAX_RIGHTS_PER_SLOT) {
            return Err(RightsError::TooManyRights { slot, chain, limit: MAX_RIGHTS_PER_SLOT });
        }
        if !self.slots.contains_key(&slot) {
            self.make_room(slot)?;
        }
        self.slots.entry(slot).or_default().insert(chain, Right::new(granted));
        Ok(())
    }

    /// Resells the rights of `from` for these rollups, each at the price beside it. That the buyer agreed and has put up its bond
    /// is checked before: from now on it answers to the rollups.
    ///
    /// # Errors
    /// When it is too late, no rollup is named, `from` does not hold a right, it was resold before or came from no sale, builders
    /// may bid for it already, or it has ended. The book is then unchanged.
    pub fn resell(
        &mut self,
        slot: SlotNumber,
        from: Address,
        to: Address,
        prices: &BTreeMap<ChainId, U256>,
        now_ms: u64,
        until_ms: u64,
    ) -> Result<(), RightsError> {
        check_step(slot, prices, now_ms, until_ms)?;
        for chain in prices.keys().copied() {
            let right = self.held(slot, chain, from)?;
            if to == from {
                return Err(RightsError::ToItself { slot, chain, holder: from });
            }
            if right.granted.how == Acquisition::Default {
                return Err(RightsError::NeverSold { slot, chain });
            }
            if right.resale.is_some() {
                return Err(RightsError::ResoldBefore { slot, chain, first: right.granted.holder, holder: from });
            }
            if right.offer.is_some() || right.delegation.is_some() {
                return Err(RightsError::WithBuilders { slot, chain });
            }
        }
        self.change(slot, prices, |right, price| right.resale = Some(Resale { to, price }));
        Ok(())
    }

    /// Lets builders bid for building these rollups in place of their holder, who wants at least the amount beside each.
    ///
    /// # Errors
    /// When it is too late, no rollup is named, `holder` does not hold a right, builders may bid for it already or one of them
    /// builds, or it has ended. The book is then unchanged.
    pub fn offer(
        &mut self,
        slot: SlotNumber,
        holder: Address,
        reserves: &BTreeMap<ChainId, U256>,
        now_ms: u64,
        until_ms: u64,
    ) -> Result<(), RightsError> {
        check_step(slot, reserves, now_ms, until_ms)?;
        for chain in reserves.keys().copied() {
            let right = self.held(slot, chain, holder)?;
            if right.offer.is_some() || right.delegation.is_some() {
                return Err(RightsError::WithBuilders { slot, chain });
            }
        }
        self.change(slot, reserves, |right, reserve| right.offer = Some(reserve));
        Ok(())
    }

    /// Has a builder build these rollups in place of their holder, for what it owes the holder beside each. It need not have been
    /// offered to others before. Where it was, the prices together are at least what the holder wanted together.
    ///
    /// # Errors
    /// When it is too late, no rollup is named, `holder` does not hold a right, a builder builds already, it is less than the
    /// holder wanted, or the right has ended. The book is then unchanged.
    pub fn delegate(
        &mut self,
        slot: SlotNumber,
        holder: Address,
        builder: Address,
        prices: &BTreeMap<ChainId, U256>,
        now_ms: u64,
        until_ms: u64,
    ) -> Result<(), RightsError> {
        check_step(slot, prices, now_ms, until_ms)?;
        // Of at most 64 amounts below 2^248 no sum is above 2^254.
        let (mut wanted, mut offered) = (U256::ZERO, U256::ZERO);
        for (chain, price) in prices {
            let (chain, right) = (*chain, self.held(slot, *chain, holder)?);
            if builder == holder {
                return Err(RightsError::ToItself { slot, chain, holder });
            }
            if let Some(delegation) = right.delegation {
                return Err(RightsError::DelegatedBefore { slot, chain, builder: delegation.builder });
            }
            wanted += right.offer.unwrap_or_default();
            offered += *price;
        }
        if offered < wanted {
            return Err(RightsError::BelowOffer { slot, rollups: prices.keys().copied().collect(), offered, wanted });
        }
        self.change(slot, prices, |right, price| right.delegation = Some(Delegation { builder, price }));
        Ok(())
    }

    /// Notes how a right ended. The same again changes nothing.
    ///
    /// # Errors
    /// When there is no such right, it ended otherwise, or nobody is there whom the default proposer could take over from. The
    /// book is then unchanged.
    pub fn finish(&mut self, slot: SlotNumber, chain: ChainId, ending: Ending) -> Result<(), RightsError> {
        let missing = self.missing(slot, chain);
        let right = self.slots.get_mut(&slot).and_then(|rights| rights.get_mut(&chain)).ok_or(missing)?;
        match (right.ending, ending) {
            (Some(known), _) if known == ending => Ok(()),
            (Some(known), _) => Err(RightsError::Ended { slot, chain, ending: known.name() }),
            (None, Ending::TakenOver(_)) if right.proposer() == right.granted.default_proposer => {
                Err(RightsError::NobodyToTakeOverFrom { slot, chain })
            }
            (None, _) => {
                right.ending = Some(ending);
                Ok(())
            }
        }
    }

    /// Forgets all slots before `slot` and returns what was in them, ended or not.
    pub fn forget_before(&mut self, slot: SlotNumber) -> Vec<RightRecord> {
        let kept = self.slots.split_off(&slot);
        let gone: Vec<RightRecord> = records(&mem::replace(&mut self.slots, kept)).collect();
        self.forgotten_before = self.forgotten_before.max(slot);
        self.dropped = self.dropped.saturating_add(gone.len() as u64);
        gone
    }

    /// The right for a rollup's slot.
    pub fn get(&self, slot: SlotNumber, chain: ChainId) -> Option<&Right> {
        self.slots.get(&slot)?.get(&chain)
    }

    /// The rights of a slot, by rollup.
    pub fn of_slot(&self, slot: SlotNumber) -> impl Iterator<Item = (ChainId, &Right)> {
        self.slots.get(&slot).into_iter().flatten().map(|(chain, right)| (*chain, right))
    }

    /// The rollups that somebody is to build in a slot.
    pub fn rollups_of(&self, slot: SlotNumber, proposer: Address) -> RollupSet {
        let rights = self.slots.get(&slot).into_iter().flatten();
        rights.filter(|(_, right)| right.proposer() == proposer).map(|(chain, _)| *chain).collect()
    }

    /// The rights for a rollup's slots in [from, to), by slot.
    pub fn of_rollup(
        &self,
        chain: ChainId,
        from: SlotNumber,
        to: SlotNumber,
    ) -> impl DoubleEndedIterator<Item = (SlotNumber, &Right)> {
        // A range that ends before it begins would panic.
        let slots = self.slots.range(from.min(to)..to);
        slots.filter_map(move |(slot, rights)| Some((*slot, rights.get(&chain)?)))
    }

    /// All rights, by slot and rollup.
    pub fn records(&self) -> impl Iterator<Item = RightRecord> {
        records(&self.slots)
    }

    /// Rights of slots before this one are forgotten, and no more are taken.
    pub const fn forgotten_before(&self) -> SlotNumber {
        self.forgotten_before
    }

    /// How many rights were forgotten.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// A right that has not ended and that `holder` holds.
    fn held(&self, slot: SlotNumber, chain: ChainId, holder: Address) -> Result<&Right, RightsError> {
        let right = self.get(slot, chain).ok_or_else(|| self.missing(slot, chain))?;
        if let Some(ending) = right.ending {
            return Err(RightsError::Ended { slot, chain, ending: ending.name() });
        }
        if right.holder() != holder {
            return Err(RightsError::NotHolder { slot, chain, holder: right.holder(), by: holder });
        }
        Ok(right)
    }

    const fn missing(&self, slot: SlotNumber, chain: ChainId) -> RightsError {
        if slot < self.forgotten_before {
            RightsError::Forgotten { slot, chain, before: self.forgotten_before }
        } else {
            RightsError::Unknown { slot, chain }
        }
    }

    /// Writes a step that was checked for all of the rollups.
    fn change(&mut self, slot: SlotNumber, amounts: &BTreeMap<ChainId, U256>, write: impl Fn(&mut Right, U256)) {
        for (chain, right) in self.slots.get_mut(&slot).into_iter().flatten() {
            if let Some(amount) = amounts.get(chain) {
                write(right, *amount);
            }
        }
    }

    fn make_room(&mut self, slot: SlotNumber) -> Result<(), RightsError> {
        if self.slots.len() < MAX_RIGHT_SLOTS {
            return Ok(());
        }
        match self.slots.first_entry() {
            Some(oldest) if *oldest.key() < slot && oldest.get().values().all(|right| right.ending.is_some()) => {
                self.forgotten_before = oldest.key().saturating_add(1);
                self.dropped = self.dropped.saturating_add(oldest.get().len() as u64);
                oldest.remove();
                Ok(())
            }
            _ => Err(RightsError::BookFull { slot, limit: MAX_RIGHT_SLOTS }),
        }
    }
}

fn records(slots: &BTreeMap<SlotNumber, BTreeMap<ChainId, Right>>) -> impl Iterator<Item = RightRecord> {
    slots.iter().flat_map(|(slot, rights)| {
        rights.iter().map(move |(chain, right)| RightRecord { slot: *slot, chain: *chain, right: *right })
    })
}

fn check_granted(slot: SlotNumber, chain: ChainId, granted: &Granted) -> Result<(), RightsError> {
    let Granted { holder, how, price, default_proposer } = *granted;
    if price > MAX_AMOUNT {
        return Err(RightsError::AmountTooLarge { slot, chain, amount: price });
    }
    if how == Acquisition::Default && (holder != default_proposer || !price.is_zero()) {
        return Err(RightsError::NotByDefault { slot, chain, holder, default_proposer, price });
    }
    Ok(())
}

fn check_step(slot: SlotNumber, amounts: &BTreeMap<ChainId, U256>, now_ms: u64, until_ms: u64) -> Result<(), RightsError> {
    if now_ms >= until_ms {
        return Err(RightsError::Late { slot, until_ms, now_ms });
    }
    if amounts.is_empty() {
        return Err(RightsError::NoRollups { slot });
    }
    match amounts.iter().find(|(_, amount)| **amount > MAX_AMOUNT) {
        Some((chain, amount)) => Err(RightsError::AmountTooLarge { slot, chain: *chain, amount: *amount }),
        None => Ok(()),
    }
}

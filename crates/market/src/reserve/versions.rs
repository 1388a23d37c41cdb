//! Terms that change from a stated slot on.

use lockstep_primitives::{ChainId, SlotNumber};

/// How many changes of a rollup's terms may wait for their slot.
pub const MAX_PENDING_VERSIONS: usize = 8;

/// How many versions that have taken effect are remembered for questions about slots that have passed, the one in force included.
pub const MAX_PAST_VERSIONS: usize = 32;

/// Terms and from when on they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version<T> {
    /// The first slot for which they hold.
    pub from_slot: SlotNumber,
    /// Of the signed update.
    pub nonce: u64,
    /// The terms.
    pub value: T,
}

/// The terms of one rollup over time.
///
/// The later word counts: an update replaces all that waits for its slot or for a later one. So slots and nonces both rise from
/// version to version, and what holds in a slot is the update with the highest nonce of those that reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions<T> {
    chain: ChainId,
    kept: Vec<Version<T>>,
    /// Terms of slots before this one never change again.
    fixed_before: SlotNumber,
    dropped: u64,
}

impl<T> Versions<T> {
    /// A rollup that has not said anything.
    pub const fn new(chain: ChainId) -> Self {
        Self { chain, kept: Vec::new(), fixed_before: 0, dropped: 0 }
    }

    /// Versions that were stored: what [`Versions::iter`], [`Versions::fixed_before`] and [`Versions::dropped`] tell.
    ///
    /// # Errors
    /// When slots and nonces do not rise, or there are more than there can be.
    pub fn restore(chain: ChainId, kept: Vec<Version<T>>, fixed_before: SlotNumber, dropped: u64) -> Result<Self, VersionError> {
        let rising = |pair: &[Version<T>]| matches!(pair, [earlier, later] if earlier.from_slot < later.from_slot && earlier.nonce < later.nonce);
        if kept.len() > MAX_PENDING_VERSIONS + MAX_PAST_VERSIONS || !kept.windows(2).all(rising) {
            return Err(VersionError::Disordered { chain });
        }
        Ok(Self { chain, kept, fixed_before, dropped })
    }

    /// Takes an update and returns what waited and is replaced by it.
    ///
    /// `earliest` is the first slot whose terms may still change: those of slots on sale already may not. Should it fall, for
    /// example because a clock went back, the highest that was ever given counts.
    ///
    /// # Errors
    /// When the nonce does not rise, the slot is before `earliest`, or too many updates wait. Nothing is then changed.
    pub fn update(
        &mut self,
        from_slot: SlotNumber,
        nonce: u64,
        value: T,
        earliest: SlotNumber,
    ) -> Result<Vec<Version<T>>, VersionError> {
        let chain = self.chain;
        let earliest = earliest.max(self.fixed_before);
        if let Some(last) = self.kept.last()
            && nonce <= last.nonce
        {
            return Err(VersionError::NonceTooLow { chain, nonce, current: last.nonce });
        }
        if from_slot < earliest {
            return Err(VersionError::TooSoon { chain, from_slot, earliest });
        }
        let past = self.kept.partition_point(|version| version.from_slot < earliest);
        let stay = self.kept.partition_point(|version| version.from_slot < from_slot);
        // The slot is not before the earliest, so no past version comes behind it.
        if stay.saturating_sub(past) >= MAX_PENDING_VERSIONS {
            return Err(VersionError::TooManyPending { chain, limit: MAX_PENDING_VERSIONS });
        }
        self.fixed_before = earliest;
        let replaced = self.kept.split_off(stay);
        self.kept.push(Version { from_slot, nonce, value });
        let forgotten = past.saturating_sub(MAX_PAST_VERSIONS);
        self.kept.drain(..forgotten);
        self.dropped = self.dropped.saturating_add(forgotten as u64);
        Ok(replaced)
    }

    /// What holds in a slot; `None` before the first version that is remembered.
    pub fn at_slot(&self, slot: SlotNumber) -> Option<&Version<T>> {
        let behind = self.kept.partition_point(|version| version.from_slot <= slot);
        self.kept.get(behind.checked_sub(1)?)
    }

    /// What takes effect only after `slot`.
    pub fn pending_after(&self, slot: SlotNumber) -> &[Version<T>] {
        let behind = self.kept.partition_point(|version| version.from_slot <= slot);
        self.kept.get(behind..).unwrap_or_default()
    }

    /// All that is remembered, in the order of slots.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Version<T>> {
        self.kept.iter()
    }

    /// Whose terms these are.
    pub const fn chain(&self) -> ChainId {
        self.chain
    }

    /// Terms of slots before this one never change again.
    pub const fn fixed_before(&self) -> SlotNumber {
        self.fixed_before
    }

    /// How many versions of slots long past were forgotten.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// Why an update is refused. [`VersionError::code`] is stable; the text may be reworded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// An old update.
    #[error("nonce {nonce} of the update of rollup {chain} is not above {current}")]
    NonceTooLow {
        /// The rollup.
        chain: ChainId,
        /// Of the refused update.
        nonce: u64,
        /// Of the latest one.
        current: u64,
    },
    /// Terms that others count on already.
    #[error("the update of rollup {chain} is for slot {from_slot}, terms may change from slot {earliest} on")]
    TooSoon {
        /// The rollup.
        chain: ChainId,
        /// From when on it should hold.
        from_slot: SlotNumber,
        /// From when on it may.
        earliest: SlotNumber,
    },
    /// No room for another update.
    #[error("rollup {chain} has {limit} updates that wait for their slot, which is the limit")]
    TooManyPending {
        /// The rollup.
        chain: ChainId,
        /// How many may wait.
        limit: usize,
    },
    /// Stored versions that no updates can have left.
    #[error("the stored versions of the terms of rollup {chain} are too many, or their slots or nonces do not rise")]
    Disordered {
        /// The rollup.
        chain: ChainId,
    },
}

impl VersionError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NonceTooLow { .. } => "registration_nonce_too_low",
            Self::TooSoon { .. } => "terms_too_soon",
            Self::TooManyPending { .. } => "too_many_updates",
            Self::Disordered { .. } => "disordered_versions",
        }
    }

    /// What one can do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NonceTooLow { .. } => "raise the nonce",
            Self::TooSoon { .. } => "name a later slot: those that are on sale keep their terms",
            Self::TooManyPending { .. } => "replace an update that waits: one for its slot or an earlier one does",
            Self::Disordered { .. } => "the store is not that of this market",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAIN: ChainId = 10;

    fn at(versions: &Versions<&'static str>, slot: SlotNumber) -> Option<&'static str> {
        versions.at_slot(slot).map(|version| version.value)
    }

    #[test]
    fn terms_hold_from_their_slot_until_the_next() {
        let mut versions = Versions::new(CHAIN);
        versions.update(5, 1, "first", 0).unwrap();
        versions.update(9, 2, "second", 6).unwrap();
        assert_eq!(
            [4, 5, 8, 9, u64::MAX].map(|slot| at(&versions, slot)),
            [None, Some("first"), Some("first"), Some("second"), Some("second"),]
        );
        assert_eq!(versions.pending_after(5).len(), 1);
        assert!(versions.pending_after(9).is_empty());
    }

    #[test]
    fn the_later_word_replaces_all_that_waits_from_its_slot_on() {
        let mut versions = Versions::new(CHAIN);
        versions.update(1, 1, "now", 0).unwrap();
        versions.update(10, 2, "soon", 2).unwrap();
        versions.update(20, 3, "later", 2).unwrap();
        let replaced = versions.update(10, 4, "instead", 2).unwrap();
        assert_eq!(replaced.iter().map(|version| version.value).collect::<Vec<_>>(), ["soon", "later"]);
        assert_eq!((at(&versions, 9), at(&versions, 25)), (Some("now"), Some("instead")));
    }

    #[test]
    fn old_and_hasty_updates_are_refused() {
        let mut versions = Versions::new(CHAIN);
        versions.update(5, 7, "kept", 5).unwrap();
        let before = versions.clone();
        let low = VersionError::NonceTooLow { chain: CHAIN, nonce: 7, current: 7 };
        assert_eq!(versions.update(9, 7, "again", 6), Err(low));
        assert_eq!(versions.update(8, 8, "hasty", 9), Err(VersionError::TooSoon { chain: CHAIN, from_slot: 8, earliest: 9 }));
        // A clock that goes back does not open what was fixed.
        let back = versions.update(4, 8, "back", 0);
        assert_eq!(back, Err(VersionError::TooSoon { chain: CHAIN, from_slot: 4, earliest: 5 }));
        assert_eq!(versions, before);
    }

    #[test]
    fn what_waits_and_what_has_passed_is_bounded() {
        let mut versions = Versions::new(CHAIN);
        let limit = MAX_PENDING_VERSIONS as u64;
        for index in 0..limit {
            versions.update(100 + index, index, "waits", 100).unwrap();
        }
        let full = VersionError::TooManyPending { chain: CHAIN, limit: MAX_PENDING_VERSIONS };
        assert_eq!(versions.update(200, limit, "more", 100), Err(full));
        assert_eq!(versions.update(100 + limit - 1, limit, "instead", 100).unwrap().len(), 1);
        // Once slots have passed there is room, and only so many are remembered.
        let many = 3 * (MAX_PENDING_VERSIONS + MAX_PAST_VERSIONS) as u64;
        for index in 0..many {
            versions.update(1000 + index, 1000 + index, "next", 1000 + index).unwrap();
        }
        let kept: Vec<Version<&str>> = versions.iter().cloned().collect();
        assert_eq!(kept.len(), MAX_PAST_VERSIONS + 1);
        assert_eq!(versions.dropped(), limit + many - kept.len() as u64);
        assert_eq!(at(&versions, 999), None, "forgotten");
        let restored = Versions::restore(CHAIN, kept.clone(), versions.fixed_before(), versions.dropped());
        assert_eq!(restored, Ok(versions));
        let backwards = kept.into_iter().rev().collect();
        assert_eq!(Versions::<&str>::restore(CHAIN, backwards, 0, 0), Err(VersionError::Disordered { chain: CHAIN }));
    }
}

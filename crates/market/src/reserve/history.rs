//! What a rollup earned slot by slot, and what selling cost it.

use std::collections::BTreeMap;

use alloy_primitives::{I256, U256};
use lockstep_primitives::{ChainId, ImpliedBasis, SlotNumber};

use super::ReserveError;

/// How many slots of a rollup's earnings are remembered. The oldest go first.
pub const MAX_HISTORY_SLOTS: usize = 4096;

/// The most that one figure may be: 2^240 - 1. Two figures a slot, summed over a whole history, are then below 2^253.
pub const MAX_EARNINGS: U256 = U256::from_limbs([u64::MAX, u64::MAX, u64::MAX, u64::MAX >> 16]);

/// Something that is said about a slot, in the numeraire's smallest unit. A proposal that would cost more than it brings is worth
/// zero, because nobody has to build it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// The default proposer built, and this is what it earned.
    Earned(U256),
    /// What the rollup says that its default proposer would have earned.
    Posted(U256),
    /// The value of the proposal for the rollup alone that was computed for the slot.
    Computed(U256),
    /// The slot was sold, and this is what the rollup got: its share of the price, or of what a silent winner owed.
    Paid(U256),
}

impl Figure {
    /// Which figure it is: `earned`, `posted`, `computed` or `paid`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Earned(_) => "earned",
            Self::Posted(_) => "posted",
            Self::Computed(_) => "computed",
            Self::Paid(_) => "paid",
        }
    }

    /// How much.
    pub const fn amount(self) -> U256 {
        match self {
            Self::Earned(amount) | Self::Posted(amount) | Self::Computed(amount) | Self::Paid(amount) => amount,
        }
    }
}

/// All that is known of one slot of one rollup. What each field is, [`Figure`] says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Earnings {
    /// See [`Figure::Earned`].
    pub earned: Option<U256>,
    /// See [`Figure::Posted`].
    pub posted: Option<U256>,
    /// See [`Figure::Computed`].
    pub computed: Option<U256>,
    /// See [`Figure::Paid`].
    pub paid: Option<U256>,
}

impl Earnings {
    /// What the default proposer earned or would have earned in the slot.
    ///
    /// What it did earn counts first, except in a slot that was sold: there it built late, in place of a silent winner, and what
    /// it earned then is less than what it would have earned without the sale.
    pub fn own(&self, basis: ImpliedBasis) -> Option<U256> {
        let estimated = match basis {
            ImpliedBasis::Posted => self.posted,
            ImpliedBasis::Computed => self.computed,
        };
        if self.paid.is_some() { estimated.or(self.earned) } else { self.earned.or(estimated) }
    }

    /// What the rollup and its default proposer got out of the slot in all; `None` where nobody said so.
    pub fn got(&self) -> Option<U256> {
        match (self.paid, self.earned) {
            (None, None) => None,
            (paid, earned) => Some(paid.unwrap_or_default() + earned.unwrap_or_default()),
        }
    }

    const fn field(&mut self, figure: Figure) -> &mut Option<U256> {
        match figure {
            Figure::Earned(_) => &mut self.earned,
            Figure::Posted(_) => &mut self.posted,
            Figure::Computed(_) => &mut self.computed,
            Figure::Paid(_) => &mut self.paid,
        }
    }
}

/// What selling cost a rollup over some slots, in the numeraire's smallest unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Regret {
    /// Slots of which both is known: what not selling would have earned, and what there was.
    pub slots: u64,
    /// Those of them that were sold.
    pub sold: u64,
    /// Slots that do not count because one of both is not known.
    pub unknown: u64,
    /// What not selling would have earned in the slots that count.
    pub own: U256,
    /// What there was instead.
    pub got: U256,
    /// The former minus the latter: above zero when selling was the worse choice.
    pub regret: I256,
}

/// One rollup's earnings of its last slots, at most [`MAX_HISTORY_SLOTS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarningsHistory {
    chain: ChainId,
    slots: BTreeMap<SlotNumber, Earnings>,
    dropped: u64,
}

impl EarningsHistory {
    /// A rollup of which nothing is known.
    pub const fn new(chain: ChainId) -> Self {
        Self { chain, slots: BTreeMap::new(), dropped: 0 }
    }

    /// A history that was stored: its [`EarningsHistory::slots`] and how many were [dropped](EarningsHistory::dropped).
    ///
    /// # Errors
    /// When no history can have become that: too many slots, or too large an amount.
    pub fn restore(chain: ChainId, slots: BTreeMap<SlotNumber, Earnings>, dropped: u64) -> Result<Self, ReserveError> {
        if slots.len() > MAX_HISTORY_SLOTS {
            return Err(ReserveError::HistoryTooLong { chain, slots: slots.len(), limit: MAX_HISTORY_SLOTS });
        }
        for (slot, Earnings { earned, posted, computed, paid }) in &slots {
            let earned = earned.map(Figure::Earned);
            let figures = [earned, posted.map(Figure::Posted), computed.map(Figure::Computed), paid.map(Figure::Paid)];
            figures.into_iter().flatten().try_for_each(|figure| check_amount(chain, *slot, figure))?;
        }
        Ok(Self { chain, slots, dropped })
    }

    /// Notes a figure. The same one again changes nothing. `latest` is the latest slot that there can be figures of, so that
    /// nobody drives out what is remembered with slots that never come.
    ///
    /// # Errors
    /// When the slot is later than that, or no longer remembered, the amount above [`MAX_EARNINGS`], or the figure known to be
    /// another. The history is then unchanged.
    pub fn record(&mut self, slot: SlotNumber, figure: Figure, latest: SlotNumber) -> Result<(), ReserveError> {
        let chain = self.chain;
        check_amount(chain, slot, figure)?;
        if slot > latest {
            return Err(ReserveError::FutureSlot { chain, slot, latest });
        }
        if !self.slots.contains_key(&slot) {
            self.make_room(slot)?;
        }
        let field = self.slots.entry(slot).or_default().field(figure);
        match *field {
            Some(known) if known != figure.amount() => {
                Err(ReserveError::FigureChanged { chain, slot, figure: figure.name(), known, given: figure.amount() })
            }
            _ => {
                *field = Some(figure.amount());
                Ok(())
            }
        }
    }

    /// What the default proposer earned or would have earned in each slot in [from, before) of which that is known.
    pub fn samples(&self, basis: ImpliedBasis, from: SlotNumber, before: SlotNumber) -> Vec<U256> {
        self.between(from, before).filter_map(|(_, earnings)| earnings.own(basis)).collect()
    }

    /// What selling cost in the slots in [from, before): what not selling would have earned minus what there was.
    pub fn regret(&self, basis: ImpliedBasis, from: SlotNumber, before: SlotNumber) -> Regret {
        let mut regret = Regret::default();
        for (_, earnings) in self.between(from, before) {
            let (Some(own), Some(got)) = (earnings.own(basis), earnings.got()) else {
                regret.unknown += 1;
                continue;
            };
            regret.slots += 1;
            regret.sold += u64::from(earnings.paid.is_some());
            regret.own += own;
            regret.got += got;
        }
        // Both are below 2^253, so neither has the sign bit set.
        regret.regret = I256::from_raw(regret.own).saturating_sub(I256::from_raw(regret.got));
        regret
    }

    /// Whose earnings these are.
    pub const fn chain(&self) -> ChainId {
        self.chain
    }

    /// All that is remembered, by slot.
    pub const fn slots(&self) -> &BTreeMap<SlotNumber, Earnings> {
        &self.slots
    }

    /// How many slots were forgotten to make room.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    fn between(&self, from: SlotNumber, before: SlotNumber) -> impl Iterator<Item = (&SlotNumber, &Earnings)> {
        // A range that ends before it begins would panic.
        self.slots.range(from.min(before)..before)
    }

    fn make_room(&mut self, slot: SlotNumber) -> Result<(), ReserveError> {
        if self.slots.len() < MAX_HISTORY_SLOTS {
            return Ok(());
        }
        if let Some((oldest, _)) = self.slots.first_key_value()
            && slot < *oldest
        {
            return Err(ReserveError::ForgottenSlot { chain: self.chain, slot, oldest: *oldest });
        }
        self.slots.pop_first();
        self.dropped = self.dropped.saturating_add(1);
        Ok(())
    }
}

fn check_amount(chain: ChainId, slot: SlotNumber, figure: Figure) -> Result<(), ReserveError> {
    let amount = figure.amount();
    if amount > MAX_EARNINGS {
        return Err(ReserveError::EarningsTooLarge { chain, slot, figure: figure.name(), amount });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAIN: ChainId = 10;

    fn amount(value: u64) -> U256 {
        U256::from(value)
    }

    fn history(figures: &[(SlotNumber, Figure)]) -> EarningsHistory {
        let mut history = EarningsHistory::new(CHAIN);
        for (slot, figure) in figures {
            history.record(*slot, *figure, *slot).unwrap();
        }
        history
    }

    #[test]
    fn regret_is_what_not_selling_would_have_earned_minus_what_there_was() {
        let history = history(&[
            // Sold below what it would have earned, and sold above it.
            (1, Figure::Posted(amount(10))),
            (1, Figure::Paid(amount(7))),
            (2, Figure::Posted(amount(10))),
            (2, Figure::Paid(amount(11))),
            // Not sold: nothing to regret, whatever was posted.
            (3, Figure::Posted(amount(50))),
            (3, Figure::Earned(amount(20))),
            // The winner stayed silent: the default proposer built late, and the winner paid for it.
            (4, Figure::Posted(amount(30))),
            (4, Figure::Earned(amount(5))),
            (4, Figure::Paid(amount(24))),
            // Sold, and nobody knows what it would have earned.
            (5, Figure::Paid(amount(1000))),
        ]);
        let regret = history.regret(ImpliedBasis::Posted, 0, 6);
        let signed = I256::try_from(3_i64).unwrap();
        assert_eq!(regret, Regret { slots: 4, sold: 3, unknown: 1, own: amount(70), got: amount(67), regret: signed });
        assert_eq!(history.regret(ImpliedBasis::Posted, 2, 3).regret, I256::MINUS_ONE, "selling paid");
        // By the other basis only what was built is known.
        let computed = history.regret(ImpliedBasis::Computed, 0, 6);
        assert_eq!((computed.slots, computed.unknown), (2, 3));
        assert_eq!(history.regret(ImpliedBasis::Posted, 6, 2), Regret::default());
    }

    #[test]
    fn a_figure_stands_once_it_is_said() {
        let mut history = history(&[(3, Figure::Posted(amount(10)))]);
        let before = history.clone();
        assert_eq!(history.record(3, Figure::Posted(amount(10)), 3), Ok(()));
        let refused = history.record(3, Figure::Posted(amount(11)), 3).unwrap_err();
        assert_eq!(refused.code(), "earnings_changed");
        assert_eq!(history.record(4, Figure::Posted(amount(1)), 3).unwrap_err().code(), "earnings_of_future_slot");
        let large = history.record(2, Figure::Paid(MAX_EARNINGS + U256::ONE), 3).unwrap_err();
        assert_eq!((large.code(), large.to_string().contains("paid")), ("earnings_too_large", true));
        assert_eq!(history, before);
    }

    #[test]
    fn the_oldest_slots_are_forgotten_and_counted() {
        let mut history = EarningsHistory::new(CHAIN);
        let last = 10 + MAX_HISTORY_SLOTS as u64;
        for slot in 10..=last {
            history.record(slot, Figure::Earned(MAX_EARNINGS), last).unwrap();
        }
        assert_eq!((history.slots().len(), history.dropped()), (MAX_HISTORY_SLOTS, 1));
        let refused = history.record(10, Figure::Earned(U256::ONE), last);
        assert_eq!(refused, Err(ReserveError::ForgottenSlot { chain: CHAIN, slot: 10, oldest: 11 }));
        // The greatest sums that there can be.
        let samples = history.samples(ImpliedBasis::Posted, 0, u64::MAX);
        assert_eq!(super::super::mean(&samples), Some(MAX_EARNINGS));
        let restored = EarningsHistory::restore(CHAIN, history.slots().clone(), history.dropped());
        assert_eq!(restored.as_ref(), Ok(&history));
        let mut longer = history.slots().clone();
        longer.insert(5, Earnings::default());
        assert_eq!(EarningsHistory::restore(CHAIN, longer, 0).unwrap_err().code(), "earnings_history_too_long");
        let large = BTreeMap::from([(5, Earnings { posted: Some(U256::MAX), ..Earnings::default() })]);
        assert_eq!(EarningsHistory::restore(CHAIN, large, 0).unwrap_err().code(), "earnings_too_large");
    }
}

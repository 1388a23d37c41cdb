//! The book of rights: who may propose for a rollup in a slot, how that came about, and how it ended.
//!
//! ```text
//!  granted ──(resold, once)──> offered to builders ──> delegated to one ──> delivered
//!     │            │                  │                     │
//!     └────────────┴── any step may be left out ────────────┴──────> taken over by the default proposer, or lapsed
//! ```
//!
//! Each step is written once and never changes. A right may be resold once, so that it does not become something to hoard and
//! trade, and its holder may have builders bid just in time for building in its place. Whoever builds, the holder answers for it
//! to the rollup; a builder that fails answers to the holder. When neither builds, the default proposer takes over within the
//! slot.
//!
//! Who asks for a step is an argument: signatures are checked before. So are the time and the time until which the step may be
//! taken, which the [`Calendar`](crate::Calendar) tells.

mod book;
mod error;

pub use book::{MAX_RIGHT_SLOTS, MAX_RIGHTS_PER_SLOT, RightRecord, RightsBook};
pub use error::RightsError;

use alloy_primitives::{Address, U256};

/// How a right was acquired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Acquisition {
    /// In the auction of an epoch, ahead of time.
    Ahead,
    /// In the auction just before the slot.
    JustInTime,
    /// By an execution ticket that was drawn for the slot.
    Ticket,
    /// Nobody bought: it stays with the default proposer.
    Default,
}

impl Acquisition {
    /// What answers and metrics call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ahead => "ahead",
            Self::JustInTime => "just_in_time",
            Self::Ticket => "ticket",
            Self::Default => "default",
        }
    }
}

/// Who got a right first. Amounts are in the numeraire's smallest unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Who.
    pub holder: Address,
    /// How.
    pub how: Acquisition,
    /// What the holder owes the seller for this rollup: its share of a package's price. Zero for a default proposer.
    pub price: U256,
    /// Who builds when the holder does not.
    pub default_proposer: Address,
}

/// The sale of a right by its first holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resale {
    /// Who holds it now.
    pub to: Address,
    /// What the new holder owes the old one for it.
    pub price: U256,
}

/// The builder that builds in the holder's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delegation {
    /// Who builds.
    pub builder: Address,
    /// What it owes the holder for it.
    pub price: U256,
}

/// Why a right's proposer lost it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Breach {
    /// Nothing came from it in time.
    Silent,
    /// What came was refused.
    Refused,
    /// It promised a list and did not reveal it.
    Withheld,
}

impl Breach {
    /// What answers and metrics call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Refused => "refused",
            Self::Withheld => "withheld",
        }
    }
}

/// How a right ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The proposer built, and the rollup published it.
    Delivered,
    /// The proposer did not, so the default proposer builds.
    TakenOver(Breach),
    /// The default proposer was to build from the start and did not, or the rollup had no block after all. Nobody owes anything.
    Lapsed,
}

impl Ending {
    /// What answers and metrics call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::TakenOver(_) => "taken_over",
            Self::Lapsed => "lapsed",
        }
    }
}

/// Where a right stands: the last step that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RightState {
    /// It is with whom it was granted to.
    Granted,
    /// It is with whom bought it from the first holder.
    Resold,
    /// Builders may bid for building in the holder's place.
    Offered,
    /// A builder builds in the holder's place.
    Delegated,
    /// Over.
    Ended(Ending),
}

/// The right to propose for one rollup in one slot, with every step that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// Who got it, and how.
    pub granted: Granted,
    /// To whom it was resold.
    pub resale: Option<Resale>,
    /// The least, in the numeraire's smallest unit, for which the holder lets a builder build in its place.
    pub offer: Option<U256>,
    /// Who builds in the holder's place.
    pub delegation: Option<Delegation>,
    /// How it ended.
    pub ending: Option<Ending>,
}

impl Right {
    /// A right that nothing has happened to.
    pub const fn new(granted: Granted) -> Self {
        Self { granted, resale: None, offer: None, delegation: None, ending: None }
    }

    /// Who holds it: who owes the seller a delivery, and pays the rollup when there is none.
    pub const fn holder(&self) -> Address {
        match self.resale {
            Some(resale) => resale.to,
            None => self.granted.holder,
        }
    }

    /// Who is to build: the default proposer when it took over, otherwise the delegated builder, otherwise the holder.
    pub const fn proposer(&self) -> Address {
        match (self.ending, self.delegation) {
            (Some(Ending::TakenOver(_)), _) => self.granted.default_proposer,
            (_, Some(delegation)) => delegation.builder,
            (_, None) => self.holder(),
        }
    }

    /// The last step that was taken.
    pub const fn state(&self) -> RightState {
        match self {
            Self { ending: Some(ending), .. } => RightState::Ended(*ending),
            Self { delegation: Some(_), .. } => RightState::Delegated,
            Self { offer: Some(_), .. } => RightState::Offered,
            Self { resale: Some(_), .. } => RightState::Resold,
            _ => RightState::Granted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Address = Address::repeat_byte(0xa);
    const B: Address = Address::repeat_byte(0xb);
    const C: Address = Address::repeat_byte(0xc);
    const DEFAULT: Address = Address::repeat_byte(0xd);

    #[test]
    fn who_holds_and_who_builds_follows_from_the_steps() {
        let granted = Granted { holder: A, how: Acquisition::Ahead, price: U256::ONE, default_proposer: DEFAULT };
        let mut right = Right::new(granted);
        assert_eq!((right.holder(), right.proposer(), right.state()), (A, A, RightState::Granted));
        right.resale = Some(Resale { to: B, price: U256::ONE });
        assert_eq!((right.holder(), right.proposer(), right.state()), (B, B, RightState::Resold));
        right.offer = Some(U256::ZERO);
        assert_eq!((right.holder(), right.proposer(), right.state()), (B, B, RightState::Offered));
        right.delegation = Some(Delegation { builder: C, price: U256::ZERO });
        assert_eq!((right.holder(), right.proposer(), right.state()), (B, C, RightState::Delegated));
        let ending = Ending::TakenOver(Breach::Silent);
        right.ending = Some(ending);
        assert_eq!((right.holder(), right.proposer(), right.state()), (B, DEFAULT, RightState::Ended(ending)));
    }
}

//! Where a bundle stands, and how far the promise about it reaches.

use std::fmt;

/// The public state machine of a bundle.
///
/// received -> simulated -> pending -> proposed -> committed -> published -> landed, or one of the ends. A reorged bundle
/// goes back to pending when nothing of it is left and it is still valid, or lands again where the new way of the chain has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BundleState {
    /// Admitted and durable.
    Received,
    /// Ran once on the pending state.
    Simulated,
    /// Waits for a slot.
    Pending,
    /// In a proposal that won its rollups.
    Proposed,
    /// The decision for its slot says commit.
    Committed,
    /// The sequencers published the lists.
    Published,
    /// Every leg is in a block.
    Landed,
    /// Refused.
    Rejected,
    /// A later bundle of the same signer and uuid took its place.
    Replaced,
    /// Its sender took it back.
    Cancelled,
    /// Its bounds have passed.
    Expired,
    /// It can never be valid again, or was evicted.
    Dropped,
    /// Some legs landed and others did not.
    Breached,
    /// It had landed in a block that is no longer on its chain. No end by itself, though it may stay so: when it is not valid
    /// any more, or when other rollups keep their part of it.
    Reorged,
}

impl BundleState {
    /// All states, in order.
    pub const ALL: [Self; 14] = [
        Self::Received,
        Self::Simulated,
        Self::Pending,
        Self::Proposed,
        Self::Committed,
        Self::Published,
        Self::Landed,
        Self::Rejected,
        Self::Replaced,
        Self::Cancelled,
        Self::Expired,
        Self::Dropped,
        Self::Breached,
        Self::Reorged,
    ];

    /// The name used on every surface.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Simulated => "simulated",
            Self::Pending => "pending",
            Self::Proposed => "proposed",
            Self::Committed => "committed",
            Self::Published => "published",
            Self::Landed => "landed",
            Self::Rejected => "rejected",
            Self::Replaced => "replaced",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Dropped => "dropped",
            Self::Breached => "breached",
            Self::Reorged => "reorged",
        }
    }

    /// Whether nothing more will happen to the bundle by itself.
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Landed | Self::Rejected | Self::Replaced | Self::Cancelled | Self::Expired | Self::Dropped | Self::Breached
        )
    }

    /// Whether the state machine has an arrow from `self` to `next`.
    pub const fn may_become(self, next: Self) -> bool {
        match next {
            Self::Received => false,
            Self::Simulated => matches!(self, Self::Received | Self::Pending),
            Self::Pending => matches!(
                self,
                Self::Received | Self::Simulated | Self::Proposed | Self::Committed | Self::Published | Self::Reorged
            ),
            Self::Proposed => matches!(self, Self::Received | Self::Simulated | Self::Pending),
            Self::Committed => matches!(self, Self::Proposed),
            Self::Published => matches!(self, Self::Committed | Self::Proposed),
            // From pending: somebody else's list put it on the chain.
            Self::Landed => {
                matches!(
                    self,
                    Self::Published | Self::Committed | Self::Proposed | Self::Reorged | Self::Pending | Self::Received
                )
            }
            Self::Breached => matches!(self, Self::Committed | Self::Published | Self::Proposed | Self::Landed),
            Self::Reorged => matches!(self, Self::Landed | Self::Breached),
            Self::Rejected | Self::Replaced | Self::Cancelled | Self::Expired | Self::Dropped => {
                matches!(self, Self::Received | Self::Simulated | Self::Pending | Self::Reorged)
            }
        }
    }
}

impl fmt::Display for BundleState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far the promise about a bundle reaches. Never overstated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Guarantee {
    /// Simulated only.
    G0,
    /// Built all-or-nothing into a proposal.
    G1,
    /// Each proposer re-executed its list and refuses it if a must-succeed transaction reverts.
    G2,
    /// Committed by a durable decision that every proposer of the bundle shares and holds to.
    G3,
}

impl Guarantee {
    /// All levels, in order.
    pub const ALL: [Self; 4] = [Self::G0, Self::G1, Self::G2, Self::G3];

    /// The name used on every surface.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::G0 => "G0",
            Self::G1 => "G1",
            Self::G2 => "G2",
            Self::G3 => "G3",
        }
    }
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn final_states_are_left_only_by_a_reorg_or_a_breach() {
        for from in BundleState::ALL {
            for to in BundleState::ALL {
                if from.is_final() && from.may_become(to) {
                    assert!(matches!(to, BundleState::Reorged | BundleState::Breached), "{from} -> {to}");
                }
            }
        }
        assert!(!BundleState::Committed.may_become(BundleState::Cancelled));
        assert!(!BundleState::Landed.may_become(BundleState::Pending), "by way of reorged only");
        assert!(!BundleState::Rejected.may_become(BundleState::Landed));
    }

    #[test]
    fn a_reorged_bundle_had_landed_and_may_wait_or_land_again() {
        let before = BundleState::ALL.into_iter().filter(|from| from.may_become(BundleState::Reorged));
        assert_eq!(before.collect::<Vec<_>>(), [BundleState::Landed, BundleState::Breached]);
        assert!(BundleState::Reorged.may_become(BundleState::Pending));
        assert!(BundleState::Reorged.may_become(BundleState::Landed));
        assert!(!BundleState::Reorged.is_final());
    }
}

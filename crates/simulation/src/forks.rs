//! Forks, and when they begin.

use alloy_primitives::ChainId;

use crate::{Rules, RulesError};

/// Ethereum's execution rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EthereumFork {
    /// Withdrawals, PUSH0.
    Shanghai,
    /// Blobs, transient storage, EIP-4788.
    Cancun,
    /// EIP-7702, EIP-7623, EIP-2935, requests.
    Prague,
    /// EIP-7825, EIP-7934, EIP-7951.
    Osaka,
    /// Osaka with the first blob schedule.
    Bpo1,
    /// Osaka with the second blob schedule.
    Bpo2,
}

impl EthereumFork {
    /// All of them, oldest first.
    pub const ALL: [Self; 6] = [Self::Shanghai, Self::Cancun, Self::Prague, Self::Osaka, Self::Bpo1, Self::Bpo2];
}

/// OP-stack rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OpFork {
    /// Cancun's EVM, L1 data fees by blob prices.
    Ecotone,
    /// L1 data fees by estimated compressed size.
    Fjord,
    /// Smaller input for the pairing precompile.
    Granite,
    /// EIP-1559 parameters in the header.
    Holocene,
    /// Prague's EVM, operator fee.
    Isthmus,
    /// Minimum base fee, DA footprint.
    Jovian,
    /// Osaka's EVM. No known chain's schedule has it: it holds where a schedule names it.
    Karst,
}

impl OpFork {
    /// All of them, oldest first.
    pub const ALL: [Self; 7] =
        [Self::Ecotone, Self::Fjord, Self::Granite, Self::Holocene, Self::Isthmus, Self::Jovian, Self::Karst];

    /// Whether the block that activates the fork holds deposits only: contracts are upgraded in it, or its L1 attributes are
    /// still those of the fork before (OP-stack specifications, derivation of each fork).
    const fn begins_with_deposits_only(self) -> bool {
        match self {
            Self::Ecotone | Self::Fjord | Self::Isthmus | Self::Jovian | Self::Karst => true,
            Self::Granite | Self::Holocene => false,
        }
    }
}

/// When which rules begin, as block timestamps in seconds, in rising order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForkSchedule {
    /// Ethereum rules.
    Ethereum(Vec<(u64, EthereumFork)>),
    /// OP-stack rules.
    OpStack(Vec<(u64, OpFork)>),
}

impl ForkSchedule {
    /// The same rules for ever.
    pub fn always(rules: Rules) -> Self {
        match rules {
            Rules::Ethereum(fork) => Self::Ethereum(vec![(0, fork)]),
            Rules::OpStack(fork) => Self::OpStack(vec![(0, fork)]),
        }
    }

    /// The rules of a block with that timestamp.
    ///
    /// # Errors
    /// When the timestamp is before the first fork.
    pub fn rules_at(&self, timestamp: u64) -> Result<Rules, RulesError> {
        match self {
            Self::Ethereum(forks) => latest(forks, timestamp).map(Rules::Ethereum),
            Self::OpStack(forks) => latest(forks, timestamp).map(Rules::OpStack),
        }
        .ok_or(RulesError::TooEarly(timestamp))
    }

    /// Whether a block activates a fork of the OP stack whose first block holds deposits only, so that a sequencer lists
    /// nothing in it. Never under Ethereum rules.
    pub fn activates_at(&self, parent_timestamp: u64, timestamp: u64) -> bool {
        match self {
            Self::Ethereum(_) => false,
            Self::OpStack(forks) => forks
                .iter()
                .any(|(from, fork)| fork.begins_with_deposits_only() && parent_timestamp < *from && *from <= timestamp),
        }
    }
}

fn latest<F: Copy>(forks: &[(u64, F)], timestamp: u64) -> Option<F> {
    forks.iter().rev().find(|(from, _)| *from <= timestamp).map(|(_, fork)| *fork)
}

/// The forks of the superchain's mainnets, as their registry schedules them for all of them at once.
const SUPERCHAIN: [(u64, OpFork); 6] = [
    (1_710_374_401, OpFork::Ecotone),
    (1_720_627_201, OpFork::Fjord),
    (1_726_070_401, OpFork::Granite),
    (1_736_445_601, OpFork::Holocene),
    (1_746_806_401, OpFork::Isthmus),
    (1_764_691_201, OpFork::Jovian),
];

/// The schedule of a chain that is known by its id.
///
/// 1 is Ethereum (EIP-7569, EIP-7600, EIP-7607, EIP-7892). 10 and 8453 follow the superchain's mainnet schedule; 130 does from
/// Holocene on, before which it was not open; 4153 (RISE) is taken to follow it from Isthmus on.
pub fn known_forks(chain: ChainId) -> Option<ForkSchedule> {
    let superchain_from =
        |first: OpFork| Some(ForkSchedule::OpStack(SUPERCHAIN.into_iter().filter(|(_, fork)| *fork >= first).collect()));
    match chain {
        1 => Some(ForkSchedule::Ethereum(vec![
            (1_681_338_455, EthereumFork::Shanghai),
            (1_710_338_135, EthereumFork::Cancun),
            (1_746_612_311, EthereumFork::Prague),
            (1_764_798_551, EthereumFork::Osaka),
            (1_765_290_071, EthereumFork::Bpo1),
            (1_767_747_671, EthereumFork::Bpo2),
        ])),
        10 | 8453 => superchain_from(OpFork::Ecotone),
        130 => superchain_from(OpFork::Holocene),
        4153 => superchain_from(OpFork::Isthmus),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forks_begin_at_their_timestamps() {
        let forks = known_forks(1).unwrap();
        assert!(forks.rules_at(1_681_338_454).is_err());
        assert_eq!(forks.rules_at(1_710_338_134), Ok(Rules::Ethereum(EthereumFork::Shanghai)));
        assert_eq!(forks.rules_at(1_710_338_135), Ok(Rules::Ethereum(EthereumFork::Cancun)));
        assert_eq!(forks.rules_at(u64::MAX), Ok(Rules::Ethereum(EthereumFork::Bpo2)));
    }

    #[test]
    fn known_op_stack_chains_follow_the_superchain_and_never_reach_karst() {
        for chain in [10, 8453] {
            let forks = known_forks(chain).unwrap();
            assert!(forks.rules_at(1_710_374_400).is_err());
            for (from, fork) in SUPERCHAIN {
                assert_eq!(forks.rules_at(from), Ok(Rules::OpStack(fork)));
                assert_ne!(forks.rules_at(from - 1), Ok(Rules::OpStack(fork)));
            }
        }
        assert_eq!(known_forks(130).unwrap().rules_at(1_746_806_400), Ok(Rules::OpStack(OpFork::Holocene)));
        assert!(known_forks(4153).unwrap().rules_at(1_746_806_400).is_err());
        for chain in [10, 130, 4153, 8453] {
            assert_eq!(known_forks(chain).unwrap().rules_at(u64::MAX), Ok(Rules::OpStack(OpFork::Jovian)));
        }
    }

    #[test]
    fn activation_blocks_are_the_first_of_their_fork_and_of_some_forks_only() {
        let forks = known_forks(10).unwrap();
        for (from, fork) in SUPERCHAIN {
            let expected = !matches!(fork, OpFork::Granite | OpFork::Holocene);
            assert_eq!(forks.activates_at(from - 1, from), expected, "{fork:?}");
            assert_eq!(forks.activates_at(from - 2, from + 10), expected, "{fork:?}, in a gap of the chain");
            assert!(!forks.activates_at(from, from + 2), "{fork:?} is active already");
            assert!(!forks.activates_at(from - 2, from - 1), "{fork:?} is not active yet");
        }
        let karst = ForkSchedule::OpStack(vec![(0, OpFork::Jovian), (100, OpFork::Karst)]);
        assert!(karst.activates_at(99, 100));
        assert!(!ForkSchedule::always(Rules::OpStack(OpFork::Jovian)).activates_at(0, 1), "it was active in genesis");
        assert!(!known_forks(1).unwrap().activates_at(1_746_612_310, 1_746_612_311), "Ethereum has no such blocks");
    }

    #[test]
    fn the_lists_of_forks_are_in_their_own_order() {
        for (index, fork) in EthereumFork::ALL.into_iter().enumerate() {
            assert_eq!(fork as usize, index);
        }
        for (index, fork) in OpFork::ALL.into_iter().enumerate() {
            assert_eq!(fork as usize, index);
        }
    }
}

//! Which rules hold in a block, and the environment that the next block has.

use alloy_eips::{
    eip1559::{BaseFeeParams, calc_next_block_base_fee},
    eip7840::BlobParams,
};
use alloy_primitives::{Address, B256, Bytes, ChainId};
use op_alloy::consensus::{decode_holocene_extra_data, decode_jovian_extra_data};
use op_revm::OpSpecId;
use revm::primitives::hardfork::SpecId;

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

/// OP-stack rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OpFork {
    /// Prague's EVM, operator fee.
    Isthmus,
    /// Minimum base fee, DA footprint.
    Jovian,
}

/// The rules of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// An Ethereum-rules rollup, or Ethereum itself.
    Ethereum(EthereumFork),
    /// An OP-stack rollup.
    OpStack(OpFork),
}

/// When which rules begin, as block timestamps in seconds, in rising order. The first entry holds from genesis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForkSchedule {
    /// Ethereum rules.
    Ethereum(Vec<(u64, EthereumFork)>),
    /// OP-stack rules.
    OpStack(Vec<(u64, OpFork)>),
}

/// Why the rules of a block, or its environment, cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// Before the first fork that is supported.
    #[error("no supported rules hold at timestamp {0}")]
    TooEarly(u64),
    /// The parent's extraData does not hold EIP-1559 parameters (OP stack, Holocene and later).
    #[error("the parent's extraData {0} does not hold EIP-1559 parameters")]
    ExtraData(Bytes),
    /// A field that the rules demand is absent.
    #[error("the rules demand {0}")]
    Absent(&'static str),
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
}

fn latest<F: Copy>(forks: &[(u64, F)], timestamp: u64) -> Option<F> {
    forks.iter().rev().find(|(from, _)| *from <= timestamp).map(|(_, fork)| *fork)
}

/// The schedule of a chain that is known by its id.
///
/// 1 is Ethereum (EIP-7569, EIP-7600, EIP-7607, EIP-7892). 10, 8453 and 130 follow the superchain's mainnet schedule; 4153
/// (RISE) is taken to follow it as well.
pub fn known_forks(chain: ChainId) -> Option<ForkSchedule> {
    match chain {
        1 => Some(ForkSchedule::Ethereum(vec![
            (1_681_338_455, EthereumFork::Shanghai),
            (1_710_338_135, EthereumFork::Cancun),
            (1_746_612_311, EthereumFork::Prague),
            (1_764_798_551, EthereumFork::Osaka),
            (1_765_290_071, EthereumFork::Bpo1),
            (1_767_747_671, EthereumFork::Bpo2),
        ])),
        10 | 130 | 4153 | 8453 => {
            Some(ForkSchedule::OpStack(vec![(1_746_806_401, OpFork::Isthmus), (1_764_691_201, OpFork::Jovian)]))
        }
        _ => None,
    }
}

impl Rules {
    /// Whether the rollup is an OP-stack rollup.
    pub const fn is_op_stack(self) -> bool {
        matches!(self, Self::OpStack(_))
    }

    /// Whether blocks carry a parent beacon block root (EIP-4788).
    pub const fn has_beacon_root(self) -> bool {
        !matches!(self, Self::Ethereum(EthereumFork::Shanghai))
    }

    /// Whether the parent's hash is written to state (EIP-2935).
    pub const fn has_hash_history(self) -> bool {
        match self {
            Self::Ethereum(fork) => fork as u8 >= EthereumFork::Prague as u8,
            Self::OpStack(_) => true,
        }
    }

    /// Whether execution requests end a block (EIP-7685); the OP stack commits to an empty list instead.
    pub const fn has_requests(self) -> bool {
        matches!(self, Self::Ethereum(fork) if fork as u8 >= EthereumFork::Prague as u8)
    }

    /// Whether blocks count a DA footprint (OP stack, Jovian).
    pub const fn has_footprint(self) -> bool {
        matches!(self, Self::OpStack(OpFork::Jovian))
    }

    /// The gas that one transaction may ask for at most (EIP-7825).
    pub const fn tx_gas_cap(self) -> Option<u64> {
        match self {
            Self::Ethereum(fork) if fork as u8 >= EthereumFork::Osaka as u8 => Some(1 << 24),
            _ => None,
        }
    }

    pub(crate) const fn ethereum_spec(self) -> Option<SpecId> {
        match self {
            Self::Ethereum(EthereumFork::Shanghai) => Some(SpecId::SHANGHAI),
            Self::Ethereum(EthereumFork::Cancun) => Some(SpecId::CANCUN),
            Self::Ethereum(EthereumFork::Prague) => Some(SpecId::PRAGUE),
            Self::Ethereum(_) => Some(SpecId::OSAKA),
            Self::OpStack(_) => None,
        }
    }

    pub(crate) const fn op_spec(self) -> OpSpecId {
        match self {
            Self::OpStack(OpFork::Isthmus) => OpSpecId::ISTHMUS,
            Self::OpStack(OpFork::Jovian) | Self::Ethereum(_) => OpSpecId::JOVIAN,
        }
    }

    /// The blob schedule; `None` before Cancun. OP-stack blocks price blobs at the minimum.
    pub fn blobs(self) -> Option<BlobParams> {
        match self {
            Self::Ethereum(EthereumFork::Shanghai) => None,
            Self::Ethereum(EthereumFork::Cancun) | Self::OpStack(_) => Some(BlobParams::cancun()),
            Self::Ethereum(EthereumFork::Prague) => Some(BlobParams::prague()),
            Self::Ethereum(EthereumFork::Osaka) => Some(BlobParams::osaka()),
            Self::Ethereum(EthereumFork::Bpo1) => Some(BlobParams::bpo1()),
            Self::Ethereum(EthereumFork::Bpo2) => Some(BlobParams::bpo2()),
        }
    }
}

/// What a block needs to know of its parent's header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParentBlock {
    /// Block hash.
    pub hash: B256,
    /// Block number.
    pub number: u64,
    /// In seconds.
    pub timestamp: u64,
    /// Gas limit.
    pub gas_limit: u64,
    /// Gas used.
    pub gas_used: u64,
    /// Base fee in wei.
    pub base_fee: u64,
    /// Blob gas, or the DA footprint on Jovian rollups.
    pub blob_gas_used: Option<u64>,
    /// Excess blob gas (EIP-4844).
    pub excess_blob_gas: Option<u64>,
    /// OP-stack EIP-1559 parameters (Holocene, Jovian).
    pub extra_data: Bytes,
}

/// What the sequencer says of the next block, before its transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NextBlock {
    /// In seconds.
    pub timestamp: u64,
    /// Gas limit; Ethereum rules let it move by less than 1/1024, the OP stack takes it as it is.
    pub gas_limit: u64,
    /// Who receives priority fees.
    pub beneficiary: Address,
    /// The randomness of the block.
    pub prev_randao: B256,
    /// EIP-4788; demanded from Cancun on.
    pub parent_beacon_block_root: Option<B256>,
    /// The new block's extraData: on the OP stack the EIP-1559 parameters for the block after it.
    pub extra_data: Bytes,
}

/// The environment of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockContext {
    /// The rollup.
    pub chain: ChainId,
    /// The rules that hold.
    pub rules: Rules,
    /// The parent's hash.
    pub parent_hash: B256,
    /// Block number.
    pub number: u64,
    /// In seconds.
    pub timestamp: u64,
    /// Gas limit.
    pub gas_limit: u64,
    /// Base fee in wei.
    pub base_fee: u64,
    /// Who receives priority fees.
    pub beneficiary: Address,
    /// The randomness of the block.
    pub prev_randao: B256,
    /// EIP-4788.
    pub parent_beacon_block_root: Option<B256>,
    /// Excess blob gas (EIP-4844).
    pub excess_blob_gas: Option<u64>,
    /// The block's extraData.
    pub extra_data: Bytes,
}

impl BlockContext {
    /// The environment of the block that follows `parent`.
    ///
    /// # Errors
    /// When no supported rules hold at the timestamp, or a field that they demand is absent or malformed.
    pub fn next(chain: ChainId, forks: &ForkSchedule, parent: &ParentBlock, next: &NextBlock) -> Result<Self, RulesError> {
        let rules = forks.rules_at(next.timestamp)?;
        if rules.has_beacon_root() && next.parent_beacon_block_root.is_none() {
            return Err(RulesError::Absent("a parent beacon block root"));
        }
        let base_fee = match rules {
            Rules::Ethereum(_) => {
                calc_next_block_base_fee(parent.gas_used, parent.gas_limit, parent.base_fee, BaseFeeParams::ethereum())
            }
            Rules::OpStack(_) => op_base_fee(parent)?,
        };
        let excess_blob_gas = match rules {
            Rules::OpStack(_) => Some(0),
            Rules::Ethereum(_) => rules.blobs().map(|blobs| match (parent.excess_blob_gas, parent.blob_gas_used) {
                (Some(excess), Some(used)) => blobs.next_block_excess_blob_gas_osaka(excess, used, parent.base_fee),
                _ => 0,
            }),
        };
        Ok(Self {
            chain,
            rules,
            parent_hash: parent.hash,
            number: parent.number + 1,
            timestamp: next.timestamp,
            gas_limit: next.gas_limit,
            base_fee,
            beneficiary: next.beneficiary,
            prev_randao: next.prev_randao,
            parent_beacon_block_root: next.parent_beacon_block_root.filter(|_| rules.has_beacon_root()),
            excess_blob_gas,
            extra_data: next.extra_data.clone(),
        })
    }
}

/// The base fee after an OP-stack block: the parameters are in the parent's own extraData; Jovian meters the larger of gas
/// and DA footprint and never goes below the minimum.
fn op_base_fee(parent: &ParentBlock) -> Result<u64, RulesError> {
    let malformed = || RulesError::ExtraData(parent.extra_data.clone());
    let (elasticity, denominator, metered, floor) = match parent.extra_data.first() {
        Some(0) => {
            let (elasticity, denominator) = decode_holocene_extra_data(&parent.extra_data).map_err(|_| malformed())?;
            (elasticity, denominator, parent.gas_used, 0)
        }
        Some(1) => {
            let (elasticity, denominator, floor) = decode_jovian_extra_data(&parent.extra_data).map_err(|_| malformed())?;
            (elasticity, denominator, parent.gas_used.max(parent.blob_gas_used.unwrap_or_default()), floor)
        }
        _ => return Err(malformed()),
    };
    if elasticity == 0 || denominator == 0 {
        return Err(malformed());
    }
    let params = BaseFeeParams::new(u128::from(denominator), u128::from(elasticity));
    Ok(calc_next_block_base_fee(metered, parent.gas_limit, parent.base_fee, params).max(floor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parent(extra_data: &[u8], gas_used: u64, blob_gas_used: u64) -> ParentBlock {
        ParentBlock {
            gas_limit: 30_000_000,
            gas_used,
            base_fee: 1_000_000,
            blob_gas_used: Some(blob_gas_used),
            extra_data: Bytes::copy_from_slice(extra_data),
            ..ParentBlock::default()
        }
    }

    #[test]
    fn jovian_meters_the_footprint_and_keeps_the_minimum() {
        let mut extra = vec![1, 0, 0, 0, 250, 0, 0, 0, 6];
        extra.extend_from_slice(&999_000_u64.to_be_bytes());
        // Gas is under the target of 5M, the footprint above it: the fee rises.
        let risen = op_base_fee(&parent(&extra, 1_000_000, 10_000_000)).unwrap();
        assert_eq!(risen, 1_000_000 + 1_000_000 * (10_000_000 - 5_000_000) / 5_000_000 / 250);
        // An empty block would bring it to 996,000: the minimum holds.
        assert_eq!(op_base_fee(&parent(&extra, 0, 0)).unwrap(), 999_000);
        assert!(op_base_fee(&parent(&[], 0, 0)).is_err());
        assert!(op_base_fee(&parent(&[0, 0, 0, 0, 0, 0, 0, 0, 6], 0, 0)).is_err(), "a zero denominator is refused");
    }

    #[test]
    fn forks_begin_at_their_timestamps() {
        let forks = known_forks(1).unwrap();
        assert!(forks.rules_at(1_681_338_454).is_err());
        assert_eq!(forks.rules_at(1_710_338_134), Ok(Rules::Ethereum(EthereumFork::Shanghai)));
        assert_eq!(forks.rules_at(1_710_338_135), Ok(Rules::Ethereum(EthereumFork::Cancun)));
        assert_eq!(forks.rules_at(u64::MAX), Ok(Rules::Ethereum(EthereumFork::Bpo2)));
    }
}

//! A block's environment, from its parent and what its sequencer says.

use alloy_primitives::{Address, B256, Bytes, ChainId};

use crate::{ForkSchedule, Rules, RulesError};

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
    /// OP-stack EIP-1559 parameters (Holocene, Jovian); before Holocene they are the chain's constants.
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
    /// What data the sequencer takes for now.
    pub data: DataLimits,
    /// Gas that is kept for transactions which come encrypted: no list uses it.
    pub encrypted_gas: u64,
}

/// How much data a sequencer takes while its batches are behind (OP stack: `miner_setMaxDASize`), in estimated compressed bytes;
/// in plain ones where the rules estimate nothing. Deposits do not count: L1 has them already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataLimits {
    /// Of one transaction; `None` for no limit.
    pub tx: Option<u64>,
    /// Of all transactions of a block; `None` for no limit.
    pub block: Option<u64>,
}

impl DataLimits {
    /// The limits as they are sent: zero stands for no limit.
    pub const fn from_wire(tx: u64, block: u64) -> Self {
        Self { tx: if tx == 0 { None } else { Some(tx) }, block: if block == 0 { None } else { Some(block) } }
    }
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
    /// What data the sequencer takes for now.
    pub data: DataLimits,
    /// Gas that is kept for transactions which come encrypted: no list uses it.
    pub encrypted_gas: u64,
    /// Whether the block holds forced transactions only, because it activates a fork (see [`ForkSchedule::activates_at`]).
    pub deposits_only: bool,
}

impl BlockContext {
    /// Gas for listed transactions: all but what is kept for encrypted ones. A DA footprint has the same limit.
    pub const fn listed_gas(&self) -> u64 {
        self.gas_limit.saturating_sub(self.encrypted_gas)
    }

    /// The environment of the block that follows `parent`.
    ///
    /// # Errors
    /// When no supported rules hold at the timestamp, or a field that they demand is absent or malformed.
    pub fn next(chain: ChainId, forks: &ForkSchedule, parent: &ParentBlock, next: &NextBlock) -> Result<Self, RulesError> {
        let rules = forks.rules_at(next.timestamp)?;
        if rules.has_beacon_root() && next.parent_beacon_block_root.is_none() {
            return Err(RulesError::Absent("a parent beacon block root"));
        }
        let stack = rules.stack();
        Ok(Self {
            chain,
            rules,
            parent_hash: parent.hash,
            number: parent.number + 1,
            timestamp: next.timestamp,
            gas_limit: next.gas_limit,
            base_fee: stack.base_fee(chain, parent, forks.rules_at(parent.timestamp).ok())?,
            beneficiary: next.beneficiary,
            prev_randao: next.prev_randao,
            parent_beacon_block_root: next.parent_beacon_block_root.filter(|_| rules.has_beacon_root()),
            excess_blob_gas: stack.excess_blob_gas(parent),
            extra_data: next.extra_data.clone(),
            data: next.data,
            encrypted_gas: next.encrypted_gas,
            deposits_only: forks.activates_at(parent.timestamp, next.timestamp),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OpFork, known_forks};

    /// Holocene on OP Mainnet.
    const HOLOCENE: u64 = 1_736_445_601;
    /// Isthmus.
    const ISTHMUS: u64 = 1_746_806_401;

    fn after(timestamp: u64, extra_data: &[u8]) -> BlockContext {
        let parent = ParentBlock {
            timestamp: timestamp - 2,
            gas_limit: 60_000_000,
            base_fee: 1_000_000,
            extra_data: Bytes::copy_from_slice(extra_data),
            ..ParentBlock::default()
        };
        let next = NextBlock { timestamp, parent_beacon_block_root: Some(B256::ZERO), ..NextBlock::default() };
        BlockContext::next(10, &known_forks(10).unwrap(), &parent, &next).unwrap()
    }

    #[test]
    fn base_fees_go_on_over_the_holocene_boundary() {
        assert_eq!(after(HOLOCENE - 2, &[]).base_fee, 996_000);
        assert_eq!(after(HOLOCENE, &[]).base_fee, 996_000, "the parent has no parameters yet");
        // Denominator 100.
        let parameters = [0, 0, 0, 0, 100, 0, 0, 0, 6];
        assert_eq!(after(HOLOCENE + 2, &parameters).base_fee, 990_000);
    }

    #[test]
    fn a_block_that_activates_a_fork_holds_deposits_only() {
        let parameters = [0, 0, 0, 0, 250, 0, 0, 0, 6];
        let only = |timestamp, extra: &[u8]| {
            let context = after(timestamp, extra);
            (context.rules, context.deposits_only)
        };
        assert_eq!(only(HOLOCENE, &[]), (Rules::OpStack(OpFork::Holocene), false));
        assert_eq!(only(ISTHMUS - 1, &parameters), (Rules::OpStack(OpFork::Holocene), false));
        assert_eq!(only(ISTHMUS, &parameters), (Rules::OpStack(OpFork::Isthmus), true));
        assert_eq!(only(ISTHMUS + 1, &parameters), (Rules::OpStack(OpFork::Isthmus), true), "the first block after it");
        assert_eq!(only(ISTHMUS + 2, &parameters), (Rules::OpStack(OpFork::Isthmus), false));
    }

    #[test]
    fn zero_over_the_wire_is_no_limit() {
        assert_eq!(DataLimits::from_wire(0, 0), DataLimits::default());
        assert_eq!(DataLimits::from_wire(300, 0), DataLimits { tx: Some(300), block: None });
        assert_eq!(DataLimits::from_wire(0, 21_000), DataLimits { tx: None, block: Some(21_000) });
    }
}

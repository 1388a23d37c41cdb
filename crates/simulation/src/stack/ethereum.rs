//! Ethereum, and rollups with its rules.

use std::{ops::RangeInclusive, sync::Arc};

use alloy_eips::{
    eip1559::{BaseFeeParams, calc_next_block_base_fee},
    eip2935::HISTORY_STORAGE_ADDRESS,
    eip4788::BEACON_ROOTS_ADDRESS,
    eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
    eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
    eip7840::BlobParams,
};
use alloy_primitives::{Address, Bytes, ChainId, U256};
use lockstep_primitives::{SignedTx, TxRules};
use revm::{
    precompile::{PrecompileSpecId, Precompiles},
    primitives::hardfork::SpecId,
};

use crate::{
    BlockContext, EthereumFork, FeeAccounts, HeaderRules, Overlay, ParentBlock, Rules, RulesError, StandIns, StateError,
    StateView,
    evm::{self, Failure, RawOutcome, SignedWork, Terms, Work},
    overlay::Reader,
    stack::{MILLIONTHS, Stack},
};

/// Gas of a transfer (Yellow Paper, appendix G); the floor of EIP-7623 is the same without calldata.
pub(super) const TRANSFER_GAS: u64 = 21_000;
/// The most gas that one transaction may ask for (EIP-7825).
pub(super) const TX_GAS_CAP: u64 = 1 << 24;
/// The most bytes of init code (EIP-3860).
pub(super) const MAX_INIT_CODE: usize = 49_152;
/// The most bytes of an encoded block (EIP-7934): 10 MiB less 2 MiB for the beacon block around it.
const MAX_BLOCK_BYTES: u64 = 8_388_608;
/// The least gas limit of a block, and the divisor of what it may move by (yellow paper, 4.3.4).
const MIN_GAS_LIMIT: u64 = 5_000;
const GAS_LIMIT_DIVISOR: u64 = 1_024;

static FORKS: [EthereumFork; EthereumFork::ALL.len()] = EthereumFork::ALL;

pub(crate) fn stack(fork: EthereumFork) -> &'static dyn Stack {
    &FORKS[fork as usize]
}

impl EthereumFork {
    const fn spec(self) -> SpecId {
        match self {
            Self::Shanghai => SpecId::SHANGHAI,
            Self::Cancun => SpecId::CANCUN,
            Self::Prague => SpecId::PRAGUE,
            Self::Osaka | Self::Bpo1 | Self::Bpo2 => SpecId::OSAKA,
        }
    }
}

/// The calls of EIP-2935 and EIP-4788, which every kind of rollup with those contracts makes.
pub(super) fn remembering_calls(context: &BlockContext, hash_history: bool) -> Vec<(Address, Bytes)> {
    let mut calls = Vec::with_capacity(2);
    // The first block of all has no parent.
    if hash_history && context.number > 0 {
        calls.push((HISTORY_STORAGE_ADDRESS, context.parent_hash.0.into()));
    }
    if let Some(root) = context.parent_beacon_block_root {
        calls.push((BEACON_ROOTS_ADDRESS, root.0.into()));
    }
    calls
}

impl Stack for EthereumFork {
    fn run(&self, context: &BlockContext, reader: Reader<'_>, work: Work) -> Result<RawOutcome, Failure> {
        evm::run_ethereum(self.spec(), context, reader, work)
    }

    fn transact(
        &self,
        context: &Arc<BlockContext>,
        state: &mut Overlay,
        tx: SignedWork,
        _terms: &Terms,
        stand_ins: &StandIns,
    ) -> Result<RawOutcome, Failure> {
        evm::transact_ethereum(self.spec(), context, state, tx, stand_ins)
    }

    fn terms(&self, _number: u64, _state: &dyn StateView) -> Result<Terms, StateError> {
        Ok(Terms::default())
    }

    fn terms_account(&self) -> Option<Address> {
        None
    }

    fn precompiles(&self) -> &'static Precompiles {
        Precompiles::new(PrecompileSpecId::from_spec_id(self.spec()))
    }

    fn tx_rules(&self) -> TxRules {
        TxRules {
            gas_cap: (*self >= Self::Osaka).then_some(TX_GAS_CAP),
            calldata_floor: *self >= Self::Prague,
            blobs: *self >= Self::Cancun,
            set_code: *self >= Self::Prague,
            max_init_code: MAX_INIT_CODE,
        }
    }

    fn forced_type(&self) -> Option<u8> {
        None
    }

    fn base_fee(&self, _chain: ChainId, parent: &ParentBlock, _parent_rules: Option<Rules>) -> Result<u64, RulesError> {
        Ok(calc_next_block_base_fee(parent.gas_used, parent.gas_limit, parent.base_fee, BaseFeeParams::ethereum()))
    }

    fn gas_limits(&self, parent: u64) -> RangeInclusive<u64> {
        // It moves by less than the quotient, so by one less at the most.
        let step = (parent / GAS_LIMIT_DIVISOR).saturating_sub(1);
        parent.saturating_sub(step).max(MIN_GAS_LIMIT)..=parent.saturating_add(step)
    }

    fn blobs(&self) -> Option<BlobParams> {
        match self {
            Self::Shanghai => None,
            Self::Cancun => Some(BlobParams::cancun()),
            Self::Prague => Some(BlobParams::prague()),
            Self::Osaka => Some(BlobParams::osaka()),
            Self::Bpo1 => Some(BlobParams::bpo1()),
            Self::Bpo2 => Some(BlobParams::bpo2()),
        }
    }

    fn excess_blob_gas(&self, parent: &ParentBlock) -> Option<u64> {
        self.blobs().map(|blobs| match (parent.excess_blob_gas, parent.blob_gas_used) {
            (Some(excess), Some(used)) => blobs.next_block_excess_blob_gas_osaka(excess, used, parent.base_fee),
            _ => 0,
        })
    }

    fn header(&self) -> HeaderRules {
        HeaderRules {
            beacon_root: *self >= Self::Cancun,
            requests_hash: *self >= Self::Prague,
            message_root: false,
            footprint: false,
        }
    }

    fn opening_calls(&self, context: &BlockContext) -> Vec<(Address, Bytes)> {
        remembering_calls(context, *self >= Self::Prague)
    }

    fn closing_calls(&self) -> &'static [(u8, Address)] {
        if *self >= Self::Prague {
            &[(1, WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS), (2, CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS)]
        } else {
            &[]
        }
    }

    fn fee_accounts(&self) -> FeeAccounts {
        FeeAccounts::default()
    }

    fn transfer_gas(&self) -> Option<u64> {
        Some(TRANSFER_GAS)
    }

    fn l1_data_fee(&self, _terms: &Terms, _raw: &[u8], _millionths: u64) -> U256 {
        U256::ZERO
    }

    fn operator_fee(&self, _terms: &Terms, _raw: &[u8], _gas: u64) -> U256 {
        U256::ZERO
    }

    fn data_millionths(&self, tx: &SignedTx) -> u64 {
        u64::try_from(tx.raw().len()).unwrap_or(u64::MAX).saturating_mul(MILLIONTHS)
    }

    fn max_block_bytes(&self) -> Option<u64> {
        (*self >= Self::Osaka).then_some(MAX_BLOCK_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gas_limit_moves_by_less_than_a_1024th_and_never_below_5000() {
        let limits = EthereumFork::Prague.gas_limits(30_000_000);
        assert_eq!((*limits.start(), *limits.end()), (30_000_000 - 29_295, 30_000_000 + 29_295));
        assert_eq!(EthereumFork::Prague.gas_limits(5_001), 5_000..=5_004);
        assert_eq!(EthereumFork::Prague.gas_limits(u64::MAX).end(), &u64::MAX);
    }

    #[test]
    fn one_transaction_has_six_blobs_at_the_most_from_osaka_on() {
        let of = |fork: EthereumFork| fork.blobs().map(|blobs| (blobs.max_blob_count, blobs.max_blobs_per_tx));
        assert_eq!(EthereumFork::ALL.map(of), [None, Some((6, 6)), Some((9, 9)), Some((9, 6)), Some((15, 6)), Some((21, 6))]);
    }
}

//! The OP stack.

use std::{ops::RangeInclusive, sync::Arc};

use alloy_eips::{
    eip1559::{BaseFeeParams, calc_next_block_base_fee},
    eip7840::BlobParams,
};
use alloy_primitives::{Address, Bytes, ChainId, U256};
use lockstep_primitives::{SignedTx, TxRules};
use op_alloy::consensus::{decode_holocene_extra_data, decode_jovian_extra_data};
use op_revm::{
    OpSpecId,
    constants::{
        BASE_FEE_RECIPIENT, DA_FOOTPRINT_GAS_SCALAR_OFFSET, DA_FOOTPRINT_GAS_SCALAR_SLOT, L1_BLOCK_CONTRACT, L1_FEE_RECIPIENT,
        OPERATOR_FEE_RECIPIENT,
    },
    precompiles::OpPrecompiles,
};
use revm::precompile::Precompiles;

use crate::{
    BlockContext, FeeAccounts, HeaderRules, OpFork, Overlay, ParentBlock, Rules, RulesError, StandIns, StateError, StateView,
    evm::{self, Failure, RawOutcome, SignedWork, Terms, Work},
    overlay::Reader,
    stack::{
        MILLIONTHS, Stack,
        ethereum::{MAX_INIT_CODE, TRANSFER_GAS, TX_GAS_CAP, remembering_calls},
    },
};

/// The type byte of deposits.
pub(crate) const DEPOSIT_TYPE: u8 = 0x7e;

/// What base fees follow before Holocene put it into the header: denominator 250 (since Canyon) and elasticity 6, as the
/// superchain registry says of OP Mainnet, Base and nearly all others.
const SUPERCHAIN_BASE_FEE: BaseFeeParams = BaseFeeParams::optimism_canyon();
/// Base Sepolia's elasticity is 10.
const BASE_SEPOLIA: ChainId = 84_532;
const BASE_SEPOLIA_BASE_FEE: BaseFeeParams = BaseFeeParams::base_sepolia_canyon();

static FORKS: [OpFork; OpFork::ALL.len()] = OpFork::ALL;

pub(crate) fn stack(fork: OpFork) -> &'static dyn Stack {
    &FORKS[fork as usize]
}

impl OpFork {
    const fn spec(self) -> OpSpecId {
        match self {
            Self::Ecotone => OpSpecId::ECOTONE,
            Self::Fjord => OpSpecId::FJORD,
            Self::Granite => OpSpecId::GRANITE,
            Self::Holocene => OpSpecId::HOLOCENE,
            Self::Isthmus => OpSpecId::ISTHMUS,
            Self::Jovian => OpSpecId::JOVIAN,
            Self::Karst => OpSpecId::KARST,
        }
    }

    /// What bytes weigh as data, in millionths of a byte.
    fn weigh(self, raw: &[u8]) -> u64 {
        if self >= Self::Fjord {
            op_revm::estimate_tx_compressed_size(raw)
        } else {
            u64::try_from(raw.len()).unwrap_or(u64::MAX).saturating_mul(MILLIONTHS)
        }
    }

    /// How much of a block's footprint a byte of data takes in a state; `None` where blocks have no footprint.
    fn footprint_scalar(&self, state: &dyn StateView) -> Result<Option<u64>, StateError> {
        if *self < Self::Jovian {
            return Ok(None);
        }
        let word = state.storage(L1_BLOCK_CONTRACT, DA_FOOTPRINT_GAS_SCALAR_SLOT)?.to_be_bytes::<32>();
        let at = DA_FOOTPRINT_GAS_SCALAR_OFFSET;
        Ok(Some(u64::from(u16::from_be_bytes([word[at], word[at + 1]]))))
    }
}

impl Stack for OpFork {
    fn run(&self, context: &BlockContext, reader: Reader<'_>, work: Work) -> Result<RawOutcome, Failure> {
        evm::run_op(self.spec(), context, reader, work)
    }

    fn transact(
        &self,
        context: &Arc<BlockContext>,
        state: &mut Overlay,
        tx: SignedWork,
        terms: &Terms,
        stand_ins: &StandIns,
    ) -> Result<RawOutcome, Failure> {
        evm::transact_op(self.spec(), context, state, tx, terms, stand_ins)
    }

    fn terms(&self, number: u64, state: &dyn StateView) -> Result<Terms, StateError> {
        let mut l1 = evm::l1_info(&mut Reader(state), number, self.spec())?;
        // What data costs is the same in every block that says the same of L1.
        l1.l2_block = None;
        Ok(Terms { l1: Some(l1), footprint_scalar: self.footprint_scalar(state)? })
    }

    fn terms_account(&self) -> Option<Address> {
        Some(L1_BLOCK_CONTRACT)
    }

    fn precompiles(&self) -> &'static Precompiles {
        OpPrecompiles::new_with_spec(self.spec()).precompiles()
    }

    fn tx_rules(&self) -> TxRules {
        TxRules {
            gas_cap: (*self >= Self::Karst).then_some(TX_GAS_CAP),
            calldata_floor: *self >= Self::Isthmus,
            // A block with one is invalid, although the EVM knows the type.
            blobs: false,
            set_code: *self >= Self::Isthmus,
            max_init_code: MAX_INIT_CODE,
        }
    }

    fn forced_type(&self) -> Option<u8> {
        Some(DEPOSIT_TYPE)
    }

    fn base_fee(&self, chain: ChainId, parent: &ParentBlock, parent_rules: Option<Rules>) -> Result<u64, RulesError> {
        let in_header = match parent_rules {
            Some(Rules::OpStack(fork)) => fork >= Self::Holocene,
            // Of a parent from before the schedule only its header tells.
            _ => !parent.extra_data.is_empty(),
        };
        if in_header {
            return header_base_fee(parent);
        }
        let params = if chain == BASE_SEPOLIA { BASE_SEPOLIA_BASE_FEE } else { SUPERCHAIN_BASE_FEE };
        Ok(calc_next_block_base_fee(parent.gas_used, parent.gas_limit, parent.base_fee, params))
    }

    fn gas_limits(&self, _parent: u64) -> RangeInclusive<u64> {
        // L1 configures it, and it may jump.
        0..=u64::MAX
    }

    fn blobs(&self) -> Option<BlobParams> {
        // There are none: at an excess of zero BLOBBASEFEE is 1, as the specification says.
        Some(BlobParams::cancun())
    }

    fn excess_blob_gas(&self, _parent: &ParentBlock) -> Option<u64> {
        Some(0)
    }

    fn header(&self) -> HeaderRules {
        HeaderRules {
            beacon_root: true,
            requests_hash: *self >= Self::Isthmus,
            message_root: *self >= Self::Isthmus,
            footprint: *self >= Self::Jovian,
        }
    }

    fn opening_calls(&self, context: &BlockContext) -> Vec<(Address, Bytes)> {
        remembering_calls(context, *self >= Self::Isthmus)
    }

    fn closing_calls(&self) -> &'static [(u8, Address)] {
        &[]
    }

    fn fee_accounts(&self) -> FeeAccounts {
        FeeAccounts {
            base: Some(BASE_FEE_RECIPIENT),
            l1_data: Some(L1_FEE_RECIPIENT),
            operator: (*self >= Self::Isthmus).then_some(OPERATOR_FEE_RECIPIENT),
        }
    }

    fn transfer_gas(&self) -> Option<u64> {
        Some(TRANSFER_GAS)
    }

    fn l1_data_fee(&self, terms: &Terms, raw: &[u8], millionths: u64) -> U256 {
        terms.l1.as_ref().map_or(U256::ZERO, |l1| evm::l1_data_fee(l1, self.spec(), raw, millionths))
    }

    fn operator_fee(&self, terms: &Terms, raw: &[u8], gas: u64) -> U256 {
        let l1 = terms.l1.as_ref().filter(|_| *self >= Self::Isthmus);
        l1.map_or(U256::ZERO, |l1| l1.operator_fee_charge(raw, U256::from(gas), self.spec()))
    }

    fn data_millionths(&self, tx: &SignedTx) -> u64 {
        if *self >= Self::Fjord { tx.compressed_size(|raw| self.weigh(raw)) } else { self.weigh(tx.raw()) }
    }

    fn max_block_bytes(&self) -> Option<u64> {
        None
    }
}

/// The base fee after a block with EIP-1559 parameters in its extraData (Holocene). Jovian meters the larger of gas and DA
/// footprint, and never goes below the minimum.
fn header_base_fee(parent: &ParentBlock) -> Result<u64, RulesError> {
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
    use alloy_primitives::U256;

    use super::*;
    use crate::EthereumFork;

    const OP_MAINNET: ChainId = 10;

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

    /// Version, denominator, elasticity, and Jovian's minimum.
    fn extra(version: u8, denominator: u32, elasticity: u32, minimum: Option<u64>) -> Vec<u8> {
        let mut bytes = vec![version];
        bytes.extend(denominator.to_be_bytes());
        bytes.extend(elasticity.to_be_bytes());
        bytes.extend(minimum.map(u64::to_be_bytes).into_iter().flatten());
        bytes
    }

    fn after(fork: OpFork, parent_fork: Option<OpFork>, parent: &ParentBlock) -> Result<u64, RulesError> {
        fork.base_fee(OP_MAINNET, parent, parent_fork.map(Rules::OpStack))
    }

    #[test]
    fn jovian_meters_the_footprint_and_keeps_the_minimum() {
        let extra = extra(1, 250, 6, Some(999_000));
        // Gas is under the target of 5M, the footprint above it: the fee rises.
        let risen = header_base_fee(&parent(&extra, 1_000_000, 10_000_000)).unwrap();
        assert_eq!(risen, 1_000_000 + 1_000_000 * (10_000_000 - 5_000_000) / 5_000_000 / 250);
        // An empty block would bring it to 996,000: the minimum holds.
        assert_eq!(header_base_fee(&parent(&extra, 0, 0)).unwrap(), 999_000);
        assert!(header_base_fee(&parent(&[], 0, 0)).is_err());
        assert!(header_base_fee(&parent(&[0, 0, 0, 0, 0, 0, 0, 0, 6], 0, 0)).is_err(), "a zero denominator is refused");
    }

    #[test]
    fn before_holocene_base_fees_follow_the_chains_constants() {
        // An empty block: down by 1/250; a full one: up by 5/250.
        for fork in [OpFork::Ecotone, OpFork::Fjord, OpFork::Granite] {
            assert_eq!(after(fork, Some(fork), &parent(&[], 0, 0)), Ok(996_000));
            assert_eq!(after(fork, Some(fork), &parent(&[], 30_000_000, 0)), Ok(1_020_000));
        }
        // Base Sepolia's target is a tenth of the gas limit.
        let full = OpFork::Granite.base_fee(BASE_SEPOLIA, &parent(&[], 30_000_000, 0), Some(Rules::OpStack(OpFork::Granite)));
        assert_eq!(full, Ok(1_036_000));
    }

    #[test]
    fn the_first_holocene_block_still_follows_the_constants_and_the_second_its_header() {
        assert_eq!(after(OpFork::Holocene, Some(OpFork::Granite), &parent(&[], 0, 0)), Ok(996_000));
        let holocene = parent(&extra(0, 100, 6, None), 0, 0);
        assert_eq!(after(OpFork::Holocene, Some(OpFork::Holocene), &holocene), Ok(990_000));
        // What an older header holds means nothing.
        assert_eq!(after(OpFork::Holocene, Some(OpFork::Granite), &holocene), Ok(996_000));
        assert!(after(OpFork::Holocene, Some(OpFork::Holocene), &parent(&[], 0, 0)).is_err(), "a Holocene header is never empty");
    }

    #[test]
    fn the_first_jovian_block_does_not_meter_the_footprint_of_its_parent_yet() {
        let isthmus = parent(&extra(0, 250, 6, None), 0, 30_000_000);
        assert_eq!(after(OpFork::Jovian, Some(OpFork::Isthmus), &isthmus), Ok(996_000));
        let jovian = parent(&extra(1, 250, 6, Some(0)), 0, 30_000_000);
        assert_eq!(after(OpFork::Jovian, Some(OpFork::Jovian), &jovian), Ok(1_020_000));
    }

    #[test]
    fn a_parent_from_before_the_schedule_tells_by_its_header() {
        assert_eq!(after(OpFork::Isthmus, None, &parent(&[], 0, 0)), Ok(996_000));
        assert_eq!(after(OpFork::Isthmus, None, &parent(&extra(0, 100, 6, None), 0, 0)), Ok(990_000));
    }

    #[test]
    fn parameters_that_leave_no_target_move_nothing() {
        let huge = parent(&extra(0, 250, u32::MAX, None), 1, 0);
        assert_eq!(header_base_fee(&huge), Ok(1_000_000));
    }

    #[test]
    fn only_the_op_stack_pays_fees_to_accounts_of_its_own() {
        assert_eq!(Rules::Ethereum(EthereumFork::Osaka).fee_accounts().iter().count(), 0);
        assert_eq!(Rules::OpStack(OpFork::Holocene).fee_accounts().iter().count(), 2);
        assert_eq!(Rules::OpStack(OpFork::Jovian).fee_accounts().iter().count(), 3);
    }

    #[test]
    fn data_is_weighed_raw_before_fjord_and_compressed_from_then_on() {
        let raw = [1_u8; 1_000];
        assert_eq!(OpFork::Ecotone.weigh(&raw), 1_000 * MILLIONTHS);
        // FastLZ makes 21 bytes of it, and nothing counts less than 100.
        assert_eq!(OpFork::Fjord.weigh(&raw), 100 * MILLIONTHS);
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(OpFork::Jovian.weigh(&bytes), 264 * 836_500 - 42_585_600);
    }

    #[test]
    fn the_footprint_scalar_is_where_l1_block_keeps_it() {
        let mut state = crate::MemoryState::new();
        let mut word = [0_u8; 32];
        word[18..20].copy_from_slice(&400_u16.to_be_bytes());
        state.set_storage(L1_BLOCK_CONTRACT, U256::from(8), U256::from_be_bytes(word));
        assert_eq!(OpFork::Isthmus.footprint_scalar(&state), Ok(None));
        assert_eq!(OpFork::Jovian.footprint_scalar(&state), Ok(Some(400)));
        assert_eq!(OpFork::Karst.footprint_scalar(&state), Ok(Some(400)));
    }
}

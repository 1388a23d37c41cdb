//! The forced prefix of an embedded OP-stack rollup: the L1 attributes deposit.

use std::sync::Arc;

use alloy_primitives::{Address, B256, TxKind, U256, address, keccak256};
use lockstep_simulation::{BlockTx, Deposit, OpFork, Rules};
use op_alloy::consensus::TxDeposit;

/// Who receives priority fees on the OP stack.
pub(super) const SEQUENCER_FEE_VAULT: Address = address!("4200000000000000000000000000000000000011");
/// The depositor of L1 attributes and the contract they go to.
const DEPOSITOR: Address = address!("DeaDDEaDDeAdDeAdDEAdDEaddeAddEAdDEAd0001");
const L1_BLOCK: Address = address!("4200000000000000000000000000000000000015");
const ATTRIBUTES_GAS: u64 = 1_000_000;

/// An L1 that an embedded rollup pretends to follow: a block each 12 s, with fees as on a quiet day.
const L1_BLOCK_TIME: u64 = 12;
const L1_BASE_FEE: u64 = 1_000_000_000;
const L1_BLOB_BASE_FEE: u64 = 1;
/// OP Mainnet's scalars.
const BASE_FEE_SCALAR: u32 = 5_227;
const BLOB_BASE_FEE_SCALAR: u32 = 1_014_213;
const FOOTPRINT_SCALAR: u16 = 400;

/// The L1 attributes deposit of block `number`; none under Ethereum rules.
pub(super) fn attributes(rules: Rules, number: u64, timestamp: u64) -> Option<BlockTx> {
    let Rules::OpStack(fork) = rules else { return None };
    let l1_number = timestamp / L1_BLOCK_TIME;
    let l1_timestamp = l1_number * L1_BLOCK_TIME;
    let l1_hash = keccak256(l1_number.to_be_bytes());
    // How many rollup blocks the same L1 block has had is not tracked: seconds since it do to tell the deposits apart.
    let sequence = timestamp - l1_timestamp;
    let mut data = Vec::with_capacity(178);
    data.extend_from_slice(match fork {
        OpFork::Ecotone | OpFork::Fjord | OpFork::Granite | OpFork::Holocene => &[0x44, 0x0a, 0x5e, 0x20],
        OpFork::Isthmus => &[0x09, 0x89, 0x99, 0xbe],
        OpFork::Jovian | OpFork::Karst => &[0x3d, 0xb6, 0xbe, 0x2b],
    });
    data.extend_from_slice(&BASE_FEE_SCALAR.to_be_bytes());
    data.extend_from_slice(&BLOB_BASE_FEE_SCALAR.to_be_bytes());
    data.extend_from_slice(&sequence.to_be_bytes());
    data.extend_from_slice(&l1_timestamp.to_be_bytes());
    data.extend_from_slice(&l1_number.to_be_bytes());
    data.extend_from_slice(&U256::from(L1_BASE_FEE).to_be_bytes::<32>());
    data.extend_from_slice(&U256::from(L1_BLOB_BASE_FEE).to_be_bytes::<32>());
    data.extend_from_slice(l1_hash.as_slice());
    data.extend_from_slice(B256::ZERO.as_slice());
    if fork >= OpFork::Isthmus {
        // No operator fee: scalar u32, constant u64.
        data.extend_from_slice(&[0; 12]);
    }
    if fork >= OpFork::Jovian {
        data.extend_from_slice(&FOOTPRINT_SCALAR.to_be_bytes());
    }
    let inner = keccak256([l1_hash.as_slice(), &U256::from(number).to_be_bytes::<32>()].concat());
    let source_hash = keccak256([&U256::from(1).to_be_bytes::<32>(), inner.as_slice()].concat());
    let deposit = TxDeposit {
        source_hash,
        from: DEPOSITOR,
        to: TxKind::Call(L1_BLOCK),
        mint: 0,
        value: U256::ZERO,
        gas_limit: ATTRIBUTES_GAS,
        is_system_transaction: false,
        input: data.into(),
    };
    Some(BlockTx::Deposit(Arc::new(Deposit::new(deposit))))
}

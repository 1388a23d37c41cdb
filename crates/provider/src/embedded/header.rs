//! Headers of embedded blocks.

use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, Header, constants::EMPTY_WITHDRAWALS};
use alloy_eips::eip7685::{EMPTY_REQUESTS_HASH, Requests};
use alloy_primitives::{Address, B64, B256, Bytes, ChainId, U256, address, keccak256};
use alloy_trie::EMPTY_ROOT_HASH;
use lockstep_simulation::{BlockContext, LaneBlock, MemoryState, OpFork, ParentBlock, Rules};
use op_alloy::consensus::{encode_holocene_extra_data, encode_jovian_extra_data};

/// Whose storage root an OP-stack header carries from Isthmus on.
const MESSAGE_PASSER: Address = address!("4200000000000000000000000000000000000016");
/// OP Mainnet's EIP-1559 parameters.
const OP_DENOMINATOR: u32 = 250;
const OP_ELASTICITY: u32 = 6;
/// The least base fee of an embedded Jovian rollup, in wei.
const MIN_BASE_FEE: u64 = 1_000;

pub(super) fn genesis(context: &BlockContext, state_root: B256) -> Header {
    let rules = context.rules;
    Header {
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        state_root,
        transactions_root: EMPTY_ROOT_HASH,
        receipts_root: EMPTY_ROOT_HASH,
        gas_limit: context.gas_limit,
        timestamp: context.timestamp,
        extra_data: context.extra_data.clone(),
        base_fee_per_gas: Some(context.base_fee),
        withdrawals_root: Some(EMPTY_WITHDRAWALS),
        blob_gas_used: rules.blobs().map(|_| 0),
        excess_blob_gas: context.excess_blob_gas,
        parent_beacon_block_root: context.parent_beacon_block_root,
        requests_hash: rules.header().requests_hash.then_some(EMPTY_REQUESTS_HASH),
        ..Header::default()
    }
}

/// The header of a finished block over the state after it.
pub(super) fn seal(done: &LaneBlock, state: &MemoryState) -> Header {
    let (context, summary) = (done.block.context(), done.summary());
    let rules = context.rules;
    let transactions_root = alloy_trie::root::ordered_trie_root_with_encoder(done.block.executed(), |executed, out| {
        out.extend_from_slice(executed.tx.raw());
    });
    Header {
        parent_hash: context.parent_hash,
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        beneficiary: context.beneficiary,
        state_root: state.root(),
        transactions_root,
        receipts_root: summary.receipts_root,
        logs_bloom: summary.logs_bloom,
        difficulty: U256::ZERO,
        number: context.number,
        gas_limit: context.gas_limit,
        gas_used: summary.gas_used,
        timestamp: context.timestamp,
        extra_data: context.extra_data.clone(),
        mix_hash: context.prev_randao,
        nonce: B64::ZERO,
        base_fee_per_gas: Some(context.base_fee),
        // Isthmus and later commit to the message passer's storage instead of withdrawals.
        withdrawals_root: Some(if rules.header().message_root { state.storage_root(MESSAGE_PASSER) } else { EMPTY_WITHDRAWALS }),
        blob_gas_used: summary.blob_gas_used,
        excess_blob_gas: context.excess_blob_gas,
        parent_beacon_block_root: context.parent_beacon_block_root,
        requests_hash: if rules.has_requests() {
            Some(Requests::new(done.requests.clone()).requests_hash())
        } else {
            rules.header().requests_hash.then_some(EMPTY_REQUESTS_HASH)
        },
        ..Header::default()
    }
}

pub(super) fn as_parent(header: &Header, hash: B256) -> ParentBlock {
    ParentBlock {
        hash,
        number: header.number,
        timestamp: header.timestamp,
        gas_limit: header.gas_limit,
        gas_used: header.gas_used,
        base_fee: header.base_fee_per_gas.unwrap_or_default(),
        blob_gas_used: header.blob_gas_used,
        excess_blob_gas: header.excess_blob_gas,
        extra_data: header.extra_data.clone(),
    }
}

/// The EIP-1559 parameters that an OP-stack block carries for the one after it; empty under Ethereum rules.
pub(super) fn extra_data(rules: Rules) -> Bytes {
    // The lengths are right by construction, so encoding cannot fail; an empty field would be refused as malformed.
    let params = alloy_eips::eip1559::BaseFeeParams::new(u128::from(OP_DENOMINATOR), u128::from(OP_ELASTICITY));
    match rules {
        Rules::Ethereum(_) => Bytes::new(),
        // Before Holocene the parameters are the chain's constants.
        Rules::OpStack(fork) if fork < OpFork::Holocene => Bytes::new(),
        Rules::OpStack(fork) if fork < OpFork::Jovian => encode_holocene_extra_data(B64::ZERO, params).unwrap_or_default(),
        Rules::OpStack(_) => encode_jovian_extra_data(B64::ZERO, params, MIN_BASE_FEE).unwrap_or_default(),
    }
}

/// An embedded rollup has no beacon chain: its randomness is a hash that everyone can foresee.
pub(super) fn randao(chain: ChainId, timestamp: u64) -> B256 {
    keccak256([b"lockstep randao".as_slice(), &chain.to_be_bytes(), &timestamp.to_be_bytes()].concat())
}

/// Nor has it beacon block roots.
pub(super) fn beacon_root(timestamp: u64) -> B256 {
    keccak256([b"lockstep beacon root".as_slice(), &timestamp.to_be_bytes()].concat())
}

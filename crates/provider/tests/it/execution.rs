//! Blocks from payload attributes and from payloads, executed on an embedded rollup's state and sealed here: what an execution
//! client does, written once more.

use std::sync::Arc;

use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, Header};
use alloy_eips::eip7685::EMPTY_REQUESTS_HASH;
use alloy_primitives::{Address, B64, B256, Bytes, U64, U256, address};
use lockstep_primitives::{BlockList, ListBlock};
use lockstep_provider::{EmbeddedRollup, RollupNode};
use lockstep_simulation::{BlockPlan, BlockTx, MemoryState, NextBlock, SlotRollup, StateView, execute_list};
use op_alloy::rpc_types_engine::OpPayloadAttributes;
use serde_json::{Value, json};

const MESSAGE_PASSER: Address = address!("4200000000000000000000000000000000000016");
/// The chain's own EIP-1559 parameters: denominator 250 and elasticity 6, as the embedded rollup has them.
pub(crate) const CHAIN_PARAMS: B64 = B64::new([0, 0, 0, 250, 0, 0, 0, 6]);

/// A block on top of the rollup's newest one.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    pub(crate) slot: Arc<SlotRollup>,
    pub(crate) list: BlockList,
    pub(crate) header: Header,
    pub(crate) hash: B256,
    pub(crate) transactions: Vec<Bytes>,
    /// Whether nothing was taken from the pool.
    pub(crate) no_pool: bool,
}

/// The environment that attributes ask for.
pub(crate) fn asked(attributes: &OpPayloadAttributes) -> Result<NextBlock, String> {
    let plain = &attributes.payload_attributes;
    let params = attributes.eip_1559_params.ok_or("no eip1559Params")?;
    // Zero stands for the chain's own (OP-stack specification, Holocene execution engine).
    let params = if params.is_zero() { CHAIN_PARAMS } else { params };
    let min_base_fee = attributes.min_base_fee.ok_or("no minBaseFee")?;
    Ok(NextBlock {
        timestamp: plain.timestamp,
        gas_limit: attributes.gas_limit.ok_or("no gasLimit")?,
        beneficiary: plain.suggested_fee_recipient,
        prev_randao: plain.prev_randao,
        parent_beacon_block_root: plain.parent_beacon_block_root,
        extra_data: [&[1][..], params.as_slice(), &min_base_fee.to_be_bytes()].concat().into(),
        ..NextBlock::default()
    })
}

/// Executes a block of exactly those transactions.
pub(crate) fn execute(rollup: &EmbeddedRollup, next: NextBlock, transactions: &[Bytes]) -> Result<Built, String> {
    let parent = rollup.newest().ok_or("no block")?;
    let state = rollup.state(parent.header.number).ok_or("no state")?;
    let deposits = transactions.iter().take_while(|tx| tx.first() == Some(&0x7e)).count();
    let (forced, listed) = transactions.split_at(deposits);
    let forced: Result<Vec<BlockTx>, _> = forced.iter().map(|raw| BlockTx::decode(raw.clone())).collect();
    let block = ListBlock { number: parent.header.number + 1, timestamp: next.timestamp, transactions: listed.to_vec() };
    let slot = Arc::new(SlotRollup {
        chain: rollup.chain(),
        forks: rollup.forks().clone(),
        parent: parent.as_parent(),
        state: Arc::clone(&state) as Arc<dyn StateView>,
        blocks: vec![BlockPlan { next, forced: forced.map_err(|error| error.to_string())? }],
    });
    let list = BlockList { chain: rollup.chain(), blocks: vec![block] };
    let done = execute_list(&slot, &list).map_err(|error| error.to_string())?;
    let done = done.first().ok_or("no block was made")?;
    let mut after = MemoryState::clone(&state);
    after.apply(&done.block.state().changes().map_err(|error| error.to_string())?);
    let (context, summary) = (done.block.context(), done.summary());
    let header = Header {
        parent_hash: parent.hash,
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        beneficiary: context.beneficiary,
        state_root: after.root(),
        transactions_root: alloy_trie::root::ordered_trie_root_with_encoder(transactions, |tx, out| out.extend_from_slice(tx)),
        receipts_root: summary.receipts_root,
        logs_bloom: summary.logs_bloom,
        number: context.number,
        gas_limit: context.gas_limit,
        gas_used: summary.gas_used,
        timestamp: context.timestamp,
        extra_data: context.extra_data.clone(),
        mix_hash: context.prev_randao,
        base_fee_per_gas: Some(context.base_fee),
        withdrawals_root: Some(after.storage_root(MESSAGE_PASSER)),
        blob_gas_used: summary.blob_gas_used,
        excess_blob_gas: Some(0),
        parent_beacon_block_root: context.parent_beacon_block_root,
        requests_hash: Some(EMPTY_REQUESTS_HASH),
        ..Header::default()
    };
    let hash = header.hash_slow();
    Ok(Built { slot, list, header, hash, transactions: transactions.to_vec(), no_pool: true })
}

/// A block of the attributes' transactions and whatever of the pool is valid after them.
pub(crate) fn build(rollup: &EmbeddedRollup, attributes: &OpPayloadAttributes, pool: &[Bytes]) -> Result<Built, String> {
    let next = asked(attributes)?;
    let mut transactions = attributes.transactions.clone().unwrap_or_default();
    let mut built = execute(rollup, next.clone(), &transactions)?;
    if attributes.no_tx_pool == Some(true) {
        return Ok(built);
    }
    for tx in pool {
        transactions.push(tx.clone());
        match execute(rollup, next.clone(), &transactions) {
            Ok(more) => built = more,
            Err(_) => {
                transactions.pop();
            }
        }
    }
    Ok(Built { no_pool: false, ..built })
}

impl Built {
    /// The payload as `engine_getPayloadV4` answers it.
    pub(crate) fn envelope(&self) -> Value {
        let header = &self.header;
        let quantity = |number: u64| format!("{number:#x}");
        json!({
            "executionPayload": {
                "parentHash": header.parent_hash,
                "feeRecipient": header.beneficiary,
                "stateRoot": header.state_root,
                "receiptsRoot": header.receipts_root,
                "logsBloom": header.logs_bloom,
                "prevRandao": header.mix_hash,
                "blockNumber": quantity(header.number),
                "gasLimit": quantity(header.gas_limit),
                "gasUsed": quantity(header.gas_used),
                "timestamp": quantity(header.timestamp),
                "extraData": header.extra_data,
                "baseFeePerGas": U256::from(header.base_fee_per_gas.unwrap_or_default()),
                "blockHash": self.hash,
                "transactions": self.transactions,
                "withdrawals": [],
                "blobGasUsed": quantity(header.blob_gas_used.unwrap_or_default()),
                "excessBlobGas": "0x0",
                "withdrawalsRoot": header.withdrawals_root,
            },
            "blockValue": "0x0",
            "blobsBundle": { "commitments": [], "proofs": [], "blobs": [] },
            "shouldOverrideBuilder": false,
            "parentBeaconBlockRoot": header.parent_beacon_block_root,
            "executionRequests": [],
        })
    }
}

/// Executes a payload that somebody hands over; an error when its hash is not what comes out.
pub(crate) fn check(rollup: &EmbeddedRollup, payload: &Value, beacon_root: B256) -> Result<Built, String> {
    fn field<T: serde::de::DeserializeOwned>(payload: &Value, name: &str) -> Result<T, String> {
        serde_json::from_value(payload[name].clone()).map_err(|error| format!("{name}: {error}"))
    }
    let next = NextBlock {
        timestamp: field::<U64>(payload, "timestamp")?.to(),
        gas_limit: field::<U64>(payload, "gasLimit")?.to(),
        beneficiary: field(payload, "feeRecipient")?,
        prev_randao: field(payload, "prevRandao")?,
        parent_beacon_block_root: Some(beacon_root),
        extra_data: field(payload, "extraData")?,
        ..NextBlock::default()
    };
    let built = execute(rollup, next, &field::<Vec<Bytes>>(payload, "transactions")?)?;
    let claimed: B256 = field(payload, "blockHash")?;
    if built.hash == claimed { Ok(built) } else { Err(format!("its hash is {}, not {claimed}", built.hash)) }
}

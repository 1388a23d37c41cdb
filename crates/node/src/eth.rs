//! The ordinary read side of the Ethereum JSON-RPC, for a rollup in this process.
//!
//! Stock clients (ethers, viem, wallets) work against it unmodified. What they may want to know:
//!
//! - An embedded rollup never reorganises: `safe` and `finalized` are the newest block. So is `pending`, but for
//!   `eth_getTransactionCount`, which then counts public pending transactions as well.
//! - `eth_call` and `eth_estimateGas` run on the state after the named block and in that block's own environment (its
//!   number, timestamp and base fee), also for `latest` and `pending`. Nobody pays for them: `GASPRICE` is zero, and the
//!   nonce of the request is not looked at.
//! - Blocks, transactions and receipts are those of the newest
//!   [`MAX_BLOCKS`](lockstep_provider::MAX_BLOCKS) blocks, states only for the newest
//!   [`HISTORY_BLOCKS`](lockstep_provider::HISTORY_BLOCKS) blocks.
//! - Transactions that are in no block yet are not shown: order flow is private.
//! - Filters that the server would have to remember (`eth_newFilter` and its kin) do not exist; clients fall back to
//!   `eth_getLogs`, or subscribe.

mod blocks;
mod call;
mod errors;
mod fees;
mod format;
mod logs;
mod overrides;
mod params;
mod state;
mod subscriptions;

use std::{fmt, sync::Arc};

use alloy::rpc::types::{BlockId, BlockNumberOrTag};
use alloy_primitives::{Address, U64};
use jsonrpsee::{
    RpcModule,
    core::{RegisterMethodError, RpcResult},
};
use lockstep_primitives::ChainId;
use lockstep_provider::{EmbeddedBlock, EmbeddedRollup, RollupNode};
use lockstep_simulation::MemoryState;
use serde::Serialize;

use params::Args;

/// What `web3_clientVersion` answers.
const CLIENT_VERSION: &str = concat!("lockstep/", env!("CARGO_PKG_VERSION"));

/// The parameters of `eth_call` and `eth_estimateGas`.
const CALL_PARAMS: [&str; 4] = ["transaction", "block", "stateOverrides", "blockOverrides"];

/// Filters that a server remembers. They are refused in the words by which ethers learns to poll `eth_getLogs` instead;
/// the server's own "Method not found" would leave its event listeners deaf.
const FILTER_METHODS: [&str; 6] = [
    "eth_newFilter",
    "eth_newBlockFilter",
    "eth_newPendingTransactionFilter",
    "eth_getFilterChanges",
    "eth_getFilterLogs",
    "eth_uninstallFilter",
];

/// What the pool knows of nonces.
pub(crate) trait PendingNonces: Send + Sync {
    /// The nonce after `account`'s consecutive pending transactions, of which the first has `nonce`; `nonce` itself when
    /// none is pending.
    fn next_nonce(&self, chain: ChainId, account: Address, nonce: u64) -> u64;
}

/// What the methods read.
pub(crate) struct Eth {
    rollup: Arc<EmbeddedRollup>,
    pending: Arc<dyn PendingNonces>,
}

impl fmt::Debug for Eth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Eth").field("rollup", &self.rollup).finish_non_exhaustive()
    }
}

/// The methods of one rollup.
///
/// # Errors
/// When a name is registered twice.
pub(crate) fn read_methods(
    rollup: Arc<EmbeddedRollup>,
    pending: Arc<dyn PendingNonces>,
) -> Result<RpcModule<()>, RegisterMethodError> {
    let mut module = RpcModule::new(Eth { rollup, pending });

    quick(&mut module, "web3_clientVersion", &[], |_, _| Ok(CLIENT_VERSION))?;
    quick(&mut module, "net_version", &[], |eth, _| Ok(eth.chain().to_string()))?;
    quick(&mut module, "eth_chainId", &[], |eth, _| Ok(U64::from(eth.chain())))?;
    quick(&mut module, "eth_syncing", &[], |_, _| Ok(false))?;
    quick(&mut module, "eth_accounts", &[], |_, _| Ok(Vec::<Address>::new()))?;

    quick(&mut module, "eth_blockNumber", &[], blocks::number)?;
    quick(&mut module, "eth_getBlockByNumber", &["block", "fullTransactions"], blocks::by_number)?;
    quick(&mut module, "eth_getBlockByHash", &["blockHash", "fullTransactions"], blocks::by_hash)?;
    quick(&mut module, "eth_getBlockTransactionCountByNumber", &["block"], blocks::count_by_number)?;
    quick(&mut module, "eth_getBlockTransactionCountByHash", &["blockHash"], blocks::count_by_hash)?;
    quick(&mut module, "eth_getBlockReceipts", &["block"], blocks::receipts)?;
    quick(&mut module, "eth_getTransactionByHash", &["transactionHash"], blocks::transaction)?;
    quick(&mut module, "eth_getTransactionByBlockNumberAndIndex", &["block", "index"], blocks::transaction_by_number)?;
    quick(&mut module, "eth_getTransactionByBlockHashAndIndex", &["blockHash", "index"], blocks::transaction_by_hash)?;
    quick(&mut module, "eth_getTransactionReceipt", &["transactionHash"], blocks::receipt)?;

    quick(&mut module, "eth_getBalance", &["address", "block"], state::balance)?;
    quick(&mut module, "eth_getTransactionCount", &["address", "block"], state::transaction_count)?;
    quick(&mut module, "eth_getCode", &["address", "block"], state::code)?;
    quick(&mut module, "eth_getStorageAt", &["address", "slot", "block"], state::storage)?;

    slow(&mut module, "eth_call", &CALL_PARAMS, call::call)?;
    slow(&mut module, "eth_estimateGas", &CALL_PARAMS, call::estimate_gas)?;

    quick(&mut module, "eth_gasPrice", &[], fees::gas_price)?;
    quick(&mut module, "eth_maxPriorityFeePerGas", &[], fees::max_priority_fee)?;
    slow(&mut module, "eth_feeHistory", &["blockCount", "newestBlock", "rewardPercentiles"], fees::history)?;

    slow(&mut module, "eth_getLogs", &["filter"], logs::get)?;
    subscriptions::register(&mut module)?;
    for name in FILTER_METHODS {
        module.register_method(name, move |_, _, _| -> RpcResult<()> { Err(errors::no_such_method(name)) })?;
    }
    Ok(module.remove_context())
}

type Answer<T> = fn(&Eth, &mut Args<'_>) -> RpcResult<T>;

/// Registers a method that only looks something up.
fn quick<T>(
    module: &mut RpcModule<Eth>,
    name: &'static str,
    params: &'static [&'static str],
    answer: Answer<T>,
) -> Result<(), RegisterMethodError>
where
    T: Serialize + Clone + 'static,
{
    module.register_method(name, move |given, eth, _| -> RpcResult<T> { answer(eth, &mut Args::parse(&given, params)?) })?;
    Ok(())
}

/// Registers a method that takes its time, and so does not run on a thread that serves sockets.
fn slow<T>(
    module: &mut RpcModule<Eth>,
    name: &'static str,
    params: &'static [&'static str],
    answer: Answer<T>,
) -> Result<(), RegisterMethodError>
where
    T: Serialize + Clone + 'static,
{
    module.register_blocking_method(name, move |given, eth, _| -> RpcResult<T> {
        answer(&eth, &mut Args::parse(&given, params)?)
    })?;
    Ok(())
}

impl Eth {
    fn chain(&self) -> ChainId {
        self.rollup.chain()
    }

    /// The block of that number, or the one that the tag stands for.
    fn block_numbered(&self, number: BlockNumberOrTag) -> Option<Arc<EmbeddedBlock>> {
        match number {
            BlockNumberOrTag::Number(number) => self.rollup.block(number),
            BlockNumberOrTag::Earliest => self.rollup.block(0),
            BlockNumberOrTag::Latest | BlockNumberOrTag::Pending | BlockNumberOrTag::Safe | BlockNumberOrTag::Finalized => {
                self.rollup.newest()
            }
        }
    }

    /// The block that an EIP-1898 identifier names. Every block is canonical, so `requireCanonical` always holds.
    fn block(&self, id: BlockId) -> Option<Arc<EmbeddedBlock>> {
        match id {
            BlockId::Number(number) => self.block_numbered(number),
            BlockId::Hash(hash) => self.rollup.block_by_hash(hash.block_hash),
        }
    }

    /// A block and the state after it; those of the newest block when none is named.
    fn state(&self, id: Option<BlockId>) -> RpcResult<(Arc<EmbeddedBlock>, Arc<MemoryState>)> {
        let id = id.unwrap_or_default();
        let block = self.block(id).ok_or_else(|| errors::block_not_found(id))?;
        let number = block.header.number;
        let state = self.rollup.state(number).ok_or_else(|| errors::state_gone(number))?;
        Ok((block, state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Bytes, U256, address, hex};
    use lockstep_provider::EmbeddedGenesis;
    use lockstep_simulation::{EthereumFork, ForkSchedule, Rules};
    use serde_json::{Value, json};

    const RICH: Address = address!("00000000000000000000000000000000000a11ce");
    /// Returns 42.
    const ANSWERS: Address = address!("00000000000000000000000000000000000a5e45");
    /// Reverts without data.
    const REVERTS: Address = address!("00000000000000000000000000000000000bad00");

    struct TwoPending;

    impl PendingNonces for TwoPending {
        fn next_nonce(&self, _chain: ChainId, _account: Address, nonce: u64) -> u64 {
            nonce + 2
        }
    }

    fn module() -> RpcModule<()> {
        let mut state = MemoryState::new();
        state.set_account(RICH, U256::from(1_000_000_000_000_000_000_u64), 7, Bytes::new());
        state.set_account(ANSWERS, U256::ZERO, 1, hex!("602a60005260206000f3").into());
        state.set_account(REVERTS, U256::ZERO, 1, hex!("60006000fd").into());
        let genesis = EmbeddedGenesis {
            chain: 901,
            forks: ForkSchedule::always(Rules::Ethereum(EthereumFork::Prague)),
            timestamp: 1_700_000_000,
            gas_limit: 30_000_000,
            base_fee: 1_000_000_000,
            state,
        };
        let rollup = Arc::new(EmbeddedRollup::new(genesis).unwrap());
        read_methods(rollup, Arc::new(TwoPending)).unwrap()
    }

    async fn ask(method: &str, params: Value) -> Value {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let (answer, _) = module().raw_json_request(&request.to_string(), 1).await.unwrap();
        serde_json::from_str(answer.get()).unwrap()
    }

    async fn refusal(method: &str, params: Value) -> (i64, String) {
        let answer = ask(method, params).await;
        (answer["error"]["code"].as_i64().unwrap(), answer["error"]["message"].as_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn tags_name_blocks_and_states() {
        for tag in ["latest", "pending", "safe", "finalized", "earliest", "0x0"] {
            assert_eq!(ask("eth_getBlockByNumber", json!([tag, false])).await["result"]["number"], "0x0", "{tag}");
            assert_eq!(ask("eth_getBalance", json!([RICH, tag])).await["result"], "0xde0b6b3a7640000", "{tag}");
        }
        assert_eq!(ask("eth_getBlockByNumber", json!(["0x1", false])).await["result"], Value::Null);
        assert_eq!(ask("eth_getBalance", json!([RICH, "0x1"])).await["error"]["code"], -32001);
        let named = ask("eth_getBalance", json!([RICH, { "blockNumber": "0x0" }])).await;
        assert_eq!(named["result"], "0xde0b6b3a7640000");
    }

    #[tokio::test]
    async fn pending_counts_the_pool() {
        assert_eq!(ask("eth_getTransactionCount", json!([RICH, "latest"])).await["result"], "0x7");
        assert_eq!(ask("eth_getTransactionCount", json!([RICH, "pending"])).await["result"], "0x9");
    }

    #[tokio::test]
    async fn calls_answer_revert_and_take_overrides() {
        let answer = ask("eth_call", json!([{ "to": ANSWERS, "data": "0x" }, "latest"])).await;
        assert_eq!(answer["result"], format!("0x{:064x}", 42));
        let reverted = ask("eth_call", json!([{ "to": REVERTS }, "latest"])).await;
        assert_eq!(reverted["error"], json!({ "code": 3, "message": "execution reverted", "data": "0x" }));
        let code = json!({ REVERTS.to_string(): { "code": "0x602a60005260206000f3" } });
        let overridden = ask("eth_call", json!([{ "to": REVERTS }, "latest", code])).await;
        assert_eq!(overridden["result"], answer["result"]);
    }

    #[tokio::test]
    async fn a_transfer_is_estimated_exactly_and_only_with_funds() {
        let transfer = |value: &str| json!([{ "from": RICH, "to": Address::with_last_byte(0xaa), "value": value }]);
        assert_eq!(ask("eth_estimateGas", transfer("0x1")).await["result"], "0x5208");
        let error = ask("eth_estimateGas", transfer("0xde0b6b3a7640001")).await;
        assert_eq!(error["error"]["code"], -32000);
        assert!(error["error"]["message"].as_str().unwrap().starts_with("insufficient funds for transfer"));
    }

    #[tokio::test]
    async fn what_is_refused_is_named() {
        let (code, text) = refusal("eth_getBalance", json!(["0x12"])).await;
        assert!(code == -32602 && text.contains("address"), "{text}");
        let (code, text) = refusal("eth_chainId", json!([1])).await;
        assert!(code == -32602 && text.contains("too many"), "{text}");
        let (code, text) = refusal("eth_newFilter", json!([{}])).await;
        assert!(code == -32601 && text.contains("the method eth_newFilter does not exist"), "{text}");
        let (code, text) = refusal("eth_call", json!([{ "to": ANSWERS }, "latest", {}, { "number": "0x1" }])).await;
        assert!(code == -32602 && text.contains("blockOverrides"), "{text}");
    }
}

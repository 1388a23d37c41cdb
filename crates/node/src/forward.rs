//! The read methods of a rollup whose node is elsewhere: passed on as they are.

use std::sync::Arc;

use jsonrpsee::{RpcModule, core::RegisterMethodError, types::ErrorObjectOwned};
use lockstep_provider::RemoteNode;
use serde_json::Value;

/// What is passed on. Methods that send, sign or administer are not.
const METHODS: [&str; 25] = [
    "eth_chainId",
    "net_version",
    "web3_clientVersion",
    "eth_syncing",
    "eth_blockNumber",
    "eth_getTransactionReceipt",
    "eth_getBlockReceipts",
    "eth_getBalance",
    "eth_getTransactionCount",
    "eth_call",
    "eth_gasPrice",
    "eth_estimateGas",
    "eth_getBlockByNumber",
    "eth_getBlockByHash",
    "eth_getBlockTransactionCountByNumber",
    "eth_getBlockTransactionCountByHash",
    "eth_getTransactionByHash",
    "eth_getTransactionByBlockNumberAndIndex",
    "eth_getTransactionByBlockHashAndIndex",
    "eth_maxPriorityFeePerGas",
    "eth_feeHistory",
    "eth_getLogs",
    "eth_getCode",
    "eth_getStorageAt",
    "eth_getProof",
];

/// The read methods of a node.
///
/// # Errors
/// When a name is registered twice, which is a fault of ours.
pub(crate) fn read_methods(node: Arc<RemoteNode>) -> Result<RpcModule<()>, RegisterMethodError> {
    let mut module = RpcModule::new(node);
    for method in METHODS {
        module.register_async_method(method, move |params, node, _| async move {
            let params = params.parse::<Value>().unwrap_or(Value::Array(Vec::new()));
            node.request(method.to_owned(), params)
                .await
                .map_err(|failure| ErrorObjectOwned::owned(failure.code, failure.message, failure.data))
        })?;
    }
    Ok(module.remove_context())
}

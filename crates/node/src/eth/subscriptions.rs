//! `eth_subscribe`: new heads and their logs.

use std::sync::Arc;

use alloy::rpc::types::{BlockNumberOrTag, Filter, FilterBlockOption};
use jsonrpsee::{
    PendingSubscriptionSink, RpcModule,
    core::{RegisterMethodError, RpcResult},
    types::Params,
};
use lockstep_provider::{EmbeddedBlock, RollupNode};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{Eth, errors::invalid_params, format, logs, params::Args};

/// Registers `eth_subscribe` and `eth_unsubscribe`. The server counts subscriptions and bounds them by connection.
///
/// # Errors
/// When a name is registered twice.
pub(crate) fn register(module: &mut RpcModule<Eth>) -> Result<(), RegisterMethodError> {
    module.register_subscription(
        "eth_subscribe",
        "eth_subscription",
        "eth_unsubscribe",
        |params, pending, eth, _| async move {
            match Feed::parse(&params) {
                Ok(feed) => follow(eth, pending, feed).await,
                Err(error) => pending.reject(error).await,
            }
        },
    )?;
    Ok(())
}

/// What a subscriber hears of each block.
#[derive(Debug)]
enum Feed {
    /// Its header.
    Heads,
    /// Those of its logs that match.
    Logs(Box<Filter>),
}

impl Feed {
    fn parse(params: &Params<'_>) -> RpcResult<Self> {
        let mut args = Args::parse(params, &["subscription", "filter"])?;
        let kind: String = args.required()?;
        match kind.as_str() {
            "newHeads" => {
                args.unsupported()?;
                Ok(Self::Heads)
            }
            "logs" => {
                let filter: Filter = args.optional()?.unwrap_or_default();
                check_range(&filter)?;
                Ok(Self::Logs(Box::new(filter)))
            }
            "newPendingTransactions" => {
                Err(invalid_params("subscription: newPendingTransactions is not offered, order flow is private"))
            }
            "syncing" => Err(invalid_params("subscription: syncing is not offered, the rollup is always in sync")),
            _ => Err(invalid_params(format!("subscription: {kind} is unknown, there are newHeads and logs"))),
        }
    }

    fn messages(&self, block: &EmbeddedBlock) -> Vec<Box<RawValue>> {
        match self {
            Self::Heads => message(&format::header(block)).into_iter().collect(),
            Self::Logs(filter) => logs::matching(block, filter).filter_map(|log| message(&log)).collect(),
        }
    }
}

/// A subscription is about blocks to come: any other bound would be accepted and then ignored.
fn check_range(filter: &Filter) -> RpcResult<()> {
    let is_open = |bound| matches!(bound, None | Some(BlockNumberOrTag::Latest | BlockNumberOrTag::Pending));
    match filter.block_option {
        FilterBlockOption::Range { from_block, to_block } if is_open(from_block) && is_open(to_block) => Ok(()),
        _ => Err(invalid_params("filter: a subscription takes address and topics only, eth_getLogs takes block bounds")),
    }
}

fn message(value: &impl Serialize) -> Option<Box<RawValue>> {
    to_raw_value(value).inspect_err(|error| tracing::error!(%error, "a notification cannot be written")).ok()
}

/// Tells a subscriber of every block after the head of now, until one of them leaves. A slow subscriber is told later, never
/// less: its connection's bounded queue makes this task wait, and blocks do not go away.
async fn follow(eth: Arc<Eth>, pending: PendingSubscriptionSink, feed: Feed) {
    let mut heads = eth.rollup.heads();
    // Read before the subscription is acknowledged: no block that its owner has not seen is left out.
    let mut next = heads.borrow_and_update().number + 1;
    let Ok(sink) = pending.accept().await else { return };
    loop {
        tokio::select! {
            () = sink.closed() => return,
            changed = heads.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
        let newest = heads.borrow_and_update().number;
        for block in (next..=newest).filter_map(|number| eth.rollup.block(number)) {
            for message in feed.messages(&block) {
                // Fails only when the connection or the subscription is gone.
                if sink.send(message).await.is_err() {
                    return;
                }
            }
        }
        next = next.max(newest + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_are_accepted_or_refused_by_name() {
        let parse = |text: &str| Feed::parse(&Params::new(Some(text))).map_err(|error| error.message().to_owned());
        assert!(matches!(parse(r#"["newHeads"]"#), Ok(Feed::Heads)));
        assert!(matches!(parse(r#"["logs"]"#), Ok(Feed::Logs(_))));
        let filter =
            r#"["logs", {"address": "0x0000000000000000000000000000000000000001", "topics": [null], "fromBlock": "latest"}]"#;
        assert!(matches!(parse(filter), Ok(Feed::Logs(_))));
        assert!(parse(r#"["logs", {"fromBlock": "0x1"}]"#).unwrap_err().starts_with("filter"));
        assert!(parse(r#"["newPendingTransactions"]"#).unwrap_err().contains("newPendingTransactions"));
        assert!(parse(r#"["newHats"]"#).unwrap_err().contains("newHats"));
    }
}

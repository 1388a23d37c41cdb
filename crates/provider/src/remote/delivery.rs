//! Which way lists take to a remote chain.

#[cfg(test)]
mod tests;

use std::fmt;

use alloy::signers::local::PrivateKeySigner;

use super::{bundle_relay::BundleRelayAdapter, chain::RemoteChain, dev::DevNode, publish::DevNodeAdapter, raw::RawAdapter};
use crate::{
    DeliveryAdapter, NodeError,
    engine::{EngineAdapter, EngineControl},
};

/// How lists get onto a remote chain.
#[derive(Clone, Default)]
pub enum DeliverySettings {
    /// As [`Self::DevNode`] where the node is an anvil; otherwise the chain is only read.
    #[default]
    Auto,
    /// The node makes exactly the block it is told to: an anvil with `--no-mining --order fifo`.
    DevNode,
    /// Through the engine proxy in front of an OP-stack rollup's execution client, at its control port.
    Engine(EngineControl),
    /// Through the node's own transaction pool.
    Raw,
    /// As a bundle, to builders of Ethereum and their relays.
    BundleRelay {
        /// `http://` or `https://` addresses; at least one.
        urls: Vec<String>,
        /// Signs the requests. Relays know their clients by its address; it holds no funds.
        signer: PrivateKeySigner,
    },
}

impl DeliverySettings {
    /// The adapter for a chain that is connected to; `None` when the chain is only read.
    ///
    /// # Errors
    /// When the node, or the address of a relay, does not fit the way of delivery.
    pub(crate) async fn open(self, chain: RemoteChain) -> Result<Option<Box<dyn DeliveryAdapter>>, NodeError> {
        let adapter: Box<dyn DeliveryAdapter> = match self {
            Self::Auto if !DevNode::is_one(&chain.client) => return Ok(None),
            Self::DevNode if !DevNode::is_one(&chain.client) => {
                let cause =
                    format!("{} is no anvil and cannot be told which block to make: choose another delivery", chain.client);
                return Err(chain.rpc.unusable(cause));
            }
            Self::Auto | Self::DevNode => {
                let dev = DevNode::ask(&chain.rpc, &chain.forks, chain.seen().timestamp).await?;
                Box::new(DevNodeAdapter::new(chain, dev))
            }
            Self::Engine(control) => Box::new(EngineAdapter::new(chain, control)),
            Self::Raw => Box::new(RawAdapter::new(&chain)),
            Self::BundleRelay { urls, signer } => Box::new(BundleRelayAdapter::new(&chain, &urls, signer)?),
        };
        Ok(Some(adapter))
    }
}

impl fmt::Debug for DeliverySettings {
    /// Without addresses: those of relays may hold the account's key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("Auto"),
            Self::DevNode => f.write_str("DevNode"),
            Self::Engine(_) => f.write_str("Engine"),
            Self::Raw => f.write_str("Raw"),
            Self::BundleRelay { urls, signer } => {
                f.debug_struct("BundleRelay").field("relays", &urls.len()).field("signer", &signer.address()).finish()
            }
        }
    }
}

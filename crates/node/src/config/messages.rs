//! The message protocols of a rollup.

use std::collections::BTreeMap;

use alloy_primitives::{Address, ChainId};
use lockstep_messaging::{
    BridgeDeployment, CctpV1Deployment, CctpV2Deployment, InteropDeployment, MailboxDeployment, RollupDeployments,
};
use serde::{Deserialize, Serialize};

use super::RollupConfig;
use crate::messages::MessagesSettings;

/// A field and what is wrong with it.
type Wrong = (String, String);

/// CCTP v1 on a rollup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CctpV1Config {
    /// Circle's domain; never the chain id.
    pub domain: u32,
    /// The `MessageTransmitter`.
    pub message_transmitter: Address,
    /// The attesters that sign for this destination.
    pub attesters: Vec<Address>,
    /// How many of them have to.
    pub threshold: usize,
}

/// CCTP v2 on a rollup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CctpV2Config {
    /// Circle's domain; never the chain id.
    pub domain: u32,
    /// The `MessageTransmitterV2`.
    pub message_transmitter: Address,
    /// The attesters that sign for this destination.
    pub attesters: Vec<Address>,
    /// How many of them have to.
    pub threshold: usize,
    /// The contract that receives messages with hooks and then runs the hook, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook_wrapper: Option<Address>,
    /// What own attesters take of a fast burn to this rollup, in basis points.
    #[serde(default)]
    pub fast_fee_bps: u64,
    /// For how many blocks of this rollup own attesters let a fast burn be minted; 0 for ever.
    #[serde(default)]
    pub expires_after: u64,
}

/// OP interop on a rollup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InteropConfig {
    /// The rollups whose messages it executes, beside its own.
    pub depends_on: Vec<ChainId>,
    /// When interop was activated on it: the timestamp of that block, in seconds. Messages of that block are none.
    #[serde(default)]
    pub activated_at: u64,
    /// For how many seconds its messages can be executed.
    #[serde(default = "default_interop_expiry")]
    pub expires_after: u64,
}

/// AggLayer's unified bridge on a rollup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AggLayerConfig {
    /// Its network id: 0 is Ethereum.
    pub network: u32,
    /// The bridge.
    pub bridge: Address,
    /// The contract that knows the global exit roots.
    pub exit_root_manager: Address,
    /// Who may insert exit roots; the block's fee recipient when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updater: Option<Address>,
}

/// A mailbox on a rollup, of which the builder is the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailboxConfig {
    /// The contract.
    pub mailbox: Address,
}

/// Seven days: how long the OP stack lets a message be executed.
const fn default_interop_expiry() -> u64 {
    604_800
}

/// Checks the protocols of all rollups.
pub(super) fn check(rollups: &[RollupConfig]) -> Result<(), Wrong> {
    let mut taken: BTreeMap<(&str, u32), usize> = BTreeMap::new();
    for (index, rollup) in rollups.iter().enumerate() {
        let at = |field: &str, problem: String| (format!("rollup[{index}].{field}"), problem);
        let mut unique = |field: &'static str, name: &str, number: u32| match taken.insert((field, number), index) {
            Some(first) => Err(at(&format!("{field}.{name}"), format!("{number} is that of rollup[{first}] already"))),
            None => Ok(()),
        };
        let threshold = |field: &str, threshold: usize, attesters: &[Address]| {
            if threshold == 0 || threshold > attesters.len() {
                return Err(at(&format!("{field}.threshold"), format!("is not between 1 and {}", attesters.len())));
            }
            Ok(())
        };
        if let Some(cctp) = &rollup.cctp_v1 {
            threshold("cctp_v1", cctp.threshold, &cctp.attesters)?;
            unique("cctp_v1", "domain", cctp.domain)?;
        }
        if let Some(cctp) = &rollup.cctp_v2 {
            threshold("cctp_v2", cctp.threshold, &cctp.attesters)?;
            unique("cctp_v2", "domain", cctp.domain)?;
            // A fee has to be less than the amount.
            if cctp.fast_fee_bps >= 10_000 {
                return Err(at("cctp_v2.fast_fee_bps", "is not less than 10000 basis points".to_owned()));
            }
        }
        if let Some(interop) = &rollup.interop {
            let known = |chain: &ChainId| rollups.iter().any(|other| other.chain_id == *chain && other.interop.is_some());
            if let Some(chain) = interop.depends_on.iter().find(|chain| !known(chain)) {
                return Err(at("interop.depends_on", format!("rollup {chain} is not configured with interop")));
            }
            if interop.expires_after == 0 {
                return Err(at("interop.expires_after", "messages that expire at once cannot be executed".to_owned()));
            }
        }
        if let Some(bridge) = &rollup.agglayer {
            unique("agglayer", "network", bridge.network)?;
        }
    }
    Ok(())
}

/// The message protocols of a rollup, as they are configured and recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProtocolsConfig {
    /// CCTP v1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cctp_v1: Option<CctpV1Config>,
    /// CCTP v2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cctp_v2: Option<CctpV2Config>,
    /// OP interop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interop: Option<InteropConfig>,
    /// AggLayer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agglayer: Option<AggLayerConfig>,
    /// A mailbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mailbox: Option<MailboxConfig>,
}

impl ProtocolsConfig {
    /// Where the protocols are.
    pub fn deployments(&self) -> RollupDeployments {
        RollupDeployments {
            cctp_v1: self.cctp_v1.as_ref().map(|cctp| CctpV1Deployment {
                domain: cctp.domain,
                message_transmitter: cctp.message_transmitter,
                attesters: cctp.attesters.clone(),
                threshold: cctp.threshold,
            }),
            cctp_v2: self.cctp_v2.as_ref().map(|cctp| CctpV2Deployment {
                domain: cctp.domain,
                message_transmitter: cctp.message_transmitter,
                attesters: cctp.attesters.clone(),
                threshold: cctp.threshold,
                hook_wrapper: cctp.hook_wrapper,
                fast_fee_bps: cctp.fast_fee_bps,
                expires_after: cctp.expires_after,
            }),
            interop: self.interop.as_ref().map(|interop| InteropDeployment {
                depends_on: interop.depends_on.iter().copied().collect(),
                activated_at: interop.activated_at,
                expires_after: interop.expires_after,
            }),
            agglayer: self.agglayer.as_ref().map(|bridge| BridgeDeployment {
                network: bridge.network,
                bridge: bridge.bridge,
                exit_root_manager: bridge.exit_root_manager,
                updater: bridge.updater,
            }),
            mailbox: self.mailbox.as_ref().map(|mailbox| MailboxDeployment { mailbox: mailbox.mailbox }),
        }
    }
}

impl From<&RollupDeployments> for ProtocolsConfig {
    fn from(rollup: &RollupDeployments) -> Self {
        Self {
            cctp_v1: rollup.cctp_v1.as_ref().map(|cctp| CctpV1Config {
                domain: cctp.domain,
                message_transmitter: cctp.message_transmitter,
                attesters: cctp.attesters.clone(),
                threshold: cctp.threshold,
            }),
            cctp_v2: rollup.cctp_v2.as_ref().map(|cctp| CctpV2Config {
                domain: cctp.domain,
                message_transmitter: cctp.message_transmitter,
                attesters: cctp.attesters.clone(),
                threshold: cctp.threshold,
                hook_wrapper: cctp.hook_wrapper,
                fast_fee_bps: cctp.fast_fee_bps,
                expires_after: cctp.expires_after,
            }),
            interop: rollup.interop.as_ref().map(|interop| InteropConfig {
                depends_on: interop.depends_on.iter().copied().collect(),
                activated_at: interop.activated_at,
                expires_after: interop.expires_after,
            }),
            agglayer: rollup.agglayer.as_ref().map(|bridge| AggLayerConfig {
                network: bridge.network,
                bridge: bridge.bridge,
                exit_root_manager: bridge.exit_root_manager,
                updater: bridge.updater,
            }),
            mailbox: rollup.mailbox.as_ref().map(|mailbox| MailboxConfig { mailbox: mailbox.mailbox }),
        }
    }
}

/// Circle's attestation service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CircleConfig {
    /// Its address.
    pub url: String,
    /// The protocols that it is asked about: `cctp-v1`, `cctp-v2`. Own attesters are asked about the others.
    pub protocols: Vec<CircleProtocol>,
}

/// A protocol that Circle attests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum CircleProtocol {
    /// CCTP v1.
    #[serde(rename = "cctp-v1")]
    CctpV1,
    /// CCTP v2.
    #[serde(rename = "cctp-v2")]
    CctpV2,
}

/// How the builder follows messages on the chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FollowConfig {
    /// Blocks of its destination that a landed message is left alone before it counts as an orphan.
    pub grace_blocks: u64,
    /// Blocks of its origin that have to follow a message before own attesters sign it.
    pub confirmations: u64,
}

impl Default for FollowConfig {
    fn default() -> Self {
        Self { grace_blocks: MessagesSettings::GRACE_BLOCKS, confirmations: 0 }
    }
}

//! The message protocols of a rollup.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, ChainId};
use lockstep_messaging::{
    BridgeDeployment, CctpV1Deployment, CctpV2Deployment, InteropDeployment, MailboxDeployment, RollupDeployments,
    agglayer::MAINNET,
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
    /// The storage slot of the bridge in which the frontier of its exit tree begins, 32 slots in all: the tree is read from there
    /// where the rollup is not followed from its first block on. It is no part of what is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch_slot: Option<u64>,
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
            // The destination counts each attester once.
            let twice = attesters.iter().enumerate().find(|(index, attester)| attesters[..*index].contains(attester));
            match twice {
                Some((_, attester)) => Err(at(&format!("{field}.attesters"), format!("{attester} is there twice"))),
                None => Ok(()),
            }
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

impl CircleConfig {
    /// Checks what needs no network.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        let problem = |field: &str, problem: &str| Err((format!("builder.circle.{field}"), problem.to_owned()));
        if !self.url.starts_with("http://") && !self.url.starts_with("https://") {
            return problem("url", "is neither http:// nor https://");
        }
        if self.protocols.is_empty() {
            return problem("protocols", "is empty: name cctp-v1, cctp-v2 or both, or leave the section out");
        }
        Ok(())
    }
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
                branch_slot: None,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FollowConfig {
    /// Blocks of its destination that a landed message is left alone before it counts as an orphan.
    pub grace_blocks: u64,
    /// Blocks of its origin that have to follow a message before own attesters sign it.
    pub confirmations: u64,
    /// Root of Ethereum's exit tree, where Ethereum is none of the rollups; zero when absent, as before its first exit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mainnet_exit_root: Option<B256>,
    /// Exit roots of AggLayer's rollups that are none of those here.
    #[serde(rename = "exit_root", skip_serializing_if = "Vec::is_empty")]
    pub exit_roots: Vec<ExitRootConfig>,
}

/// The exit root of a rollup of AggLayer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExitRootConfig {
    /// Its network id.
    pub network: u32,
    /// Its local exit root.
    pub root: B256,
}

impl Default for FollowConfig {
    fn default() -> Self {
        Self { grace_blocks: MessagesSettings::GRACE_BLOCKS, confirmations: 0, mainnet_exit_root: None, exit_roots: Vec::new() }
    }
}

impl FollowConfig {
    /// Checks the roots: what is given has to be of use, and nothing is followed and given at once.
    pub(super) fn check(&self, rollups: &[RollupConfig]) -> Result<(), Wrong> {
        let followed: BTreeMap<u32, usize> =
            rollups.iter().enumerate().filter_map(|(index, rollup)| Some((rollup.agglayer.as_ref()?.network, index))).collect();
        let mut given: BTreeMap<u32, String> = BTreeMap::new();
        let roots = self.exit_roots.iter().enumerate().map(|(index, root)| (root.network, format!("exit_root[{index}]")));
        let mainnet = self.mainnet_exit_root.map(|_| (MAINNET, "mainnet_exit_root".to_owned()));
        for (network, field) in mainnet.into_iter().chain(roots) {
            let wrong = |problem: String| Err((format!("builder.messages.{field}"), problem));
            if followed.is_empty() {
                return wrong("no rollup has [rollup.agglayer]".to_owned());
            }
            if network == MAINNET && field != "mainnet_exit_root" {
                return wrong(format!("network {MAINNET} is Ethereum: give mainnet_exit_root"));
            }
            if let Some(rollup) = followed.get(&network) {
                return wrong(format!("network {network} is that of rollup[{rollup}], whose exits are followed"));
            }
            if let Some(first) = given.get(&network) {
                return wrong(format!("network {network} is that of {first} already"));
            }
            given.insert(network, field);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lockstep_messaging::Deployments;

    use super::*;
    use crate::config::Config;

    const EXAMPLE: &str = include_str!("../../../../lockstep.example.toml");

    fn check(text: &str) -> Result<Config, String> {
        let config: Config = toml::from_str(text).map_err(|error| error.to_string())?;
        config.check().map_err(|error| error.to_string())?;
        Ok(config)
    }

    /// The example, in which some text stands for other text, once.
    fn with(from: &str, to: &str) -> String {
        let changed = EXAMPLE.replacen(from, to, 1);
        assert_ne!(changed, EXAMPLE, "the example file has {from:?}");
        changed
    }

    #[test]
    fn the_example_has_every_protocol_and_what_is_printed_of_it_is_read_again() {
        let config = check(EXAMPLE).unwrap();
        let deployments = config.rollups.iter().map(|rollup| (rollup.chain_id, rollup.protocols().deployments()));
        let deployments = Deployments(deployments.collect());
        let [first, second] = [901, 902].map(|chain| &deployments.0[&chain]);
        let v2 = first.cctp_v2.as_ref().unwrap();
        assert_eq!((v2.domain, v2.threshold, v2.fast_fee_bps, v2.expires_after), (9_000, 2, 1, 43_200));
        assert!(v2.hook_wrapper.is_some());
        assert_eq!(v2.domain, first.cctp_v1.as_ref().unwrap().domain, "both versions may have the same domain");
        assert_eq!(second.agglayer.as_ref().unwrap().network, 2);
        assert_eq!(second.interop.as_ref().unwrap().expires_after, default_interop_expiry());
        assert!(first.interop.is_none() && first.cctp_v1.is_some() && first.mailbox.is_some());

        let printed = toml::to_string_pretty(&config).unwrap();
        let again = check(&printed).unwrap();
        assert_eq!(toml::to_string_pretty(&again).unwrap(), printed);
        for (rollup, again) in config.rollups.iter().zip(&again.rollups) {
            assert_eq!(rollup.protocols(), again.protocols());
            // What is recorded of a rollup's protocols gives the same deployments.
            let deployed = rollup.protocols().deployments();
            assert_eq!(ProtocolsConfig::from(&deployed), rollup.protocols());
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_the_name_of_its_field() {
        let twice = "\"0x00000000000000000000000000000000000000b2\"";
        let first = "\"0x00000000000000000000000000000000000000b1\"";
        for (from, to, problem) in [
            ("\nthreshold = 2", "\nthreshold = 0", "rollup[0].cctp_v1.threshold: is not between 1 and 2"),
            ("\nthreshold = 2", "\nthreshold = 3", "rollup[0].cctp_v1.threshold: is not between 1 and 2"),
            (twice, first, "rollup[0].cctp_v1.attesters: 0x"),
            ("\ndomain = 9001", "\ndomain = 9000", "rollup[1].cctp_v1.domain: 9000 is that of rollup[0] already"),
            ("\nfast_fee_bps = 1\n", "\nfast_fee_bps = 10000\n", "rollup[0].cctp_v2.fast_fee_bps: is not less than 10000"),
            ("\nnetwork = 2", "\nnetwork = 1", "rollup[1].agglayer.network: 1 is that of rollup[0] already"),
            // Rollup 901 is configured, but without interop.
            ("\ndepends_on = []", "\ndepends_on = [901]", "rollup[1].interop.depends_on: rollup 901 is not configured with"),
            (
                "\n[rollup.agglayer]",
                "\n[rollup.interop]\ndepends_on = []\n[rollup.agglayer]",
                "rollup[0].interop: is for rollups under",
            ),
            ("\nexpires_after = 604800", "\nexpires_after = 0", "rollup[1].interop.expires_after: messages that expire"),
            ("\nmin_relay_value = \"0\"", "\nmin_relay_value = \"1.5\"", "builder.min_relay_value: \"1.5\" is not a decimal"),
        ] {
            let error = check(&with(from, to)).unwrap_err();
            assert!(error.starts_with(problem), "{to}: {error}");
        }
        for (section, field) in [
            ("[rollup.cctp_v1]", "version = 1"),
            ("[rollup.cctp_v2]", "hook_warpper = 1"),
            ("[rollup.interop]", "chains = []"),
            ("[rollup.agglayer]", "networks = 1"),
            ("[rollup.mailbox]", "coordinator = 1"),
            ("[builder.messages]", "grace = 1"),
        ] {
            let error = check(&with(section, &format!("{section}\n{field}"))).unwrap_err();
            assert!(error.contains("unknown field"), "{section}: {error}");
        }
    }

    /// The example with roots of networks that it does not follow.
    fn with_roots(mainnet: bool, networks: &[u32]) -> String {
        let root = |byte: u32| B256::repeat_byte(byte as u8);
        let table =
            |network: &u32| format!("[[builder.messages.exit_root]]\nnetwork = {network}\nroot = \"{}\"\n\n", root(*network));
        let tables: String = networks.iter().map(table).collect();
        let text = with("\n[[rollup]]", &format!("\n\n{tables}[[rollup]]"));
        let line = if mainnet { format!("mainnet_exit_root = \"{}\"\n", root(1)) } else { String::new() };
        text.replacen("[builder.messages]\n", &format!("[builder.messages]\n{line}"), 1)
    }

    #[test]
    fn roots_of_other_networks_are_given_once_and_only_where_they_are_of_use() {
        let config = check(&with_roots(true, &[7, 9])).unwrap();
        let follow = &config.builder.as_ref().unwrap().messages;
        assert_eq!(follow.mainnet_exit_root, Some(B256::repeat_byte(1)));
        let expected = [7, 9].map(|network| ExitRootConfig { network, root: B256::repeat_byte(network as u8) });
        assert_eq!(follow.exit_roots, expected);
        let printed = toml::to_string_pretty(&config).unwrap();
        assert_eq!(check(&printed).unwrap().builder.unwrap().messages, *follow);

        for (networks, problem) in [
            (&[0][..], "builder.messages.exit_root[0]: network 0 is Ethereum: give mainnet_exit_root"),
            (&[7, 1][..], "builder.messages.exit_root[1]: network 1 is that of rollup[0], whose exits are followed"),
            (&[7, 7][..], "builder.messages.exit_root[1]: network 7 is that of exit_root[0] already"),
        ] {
            assert_eq!(check(&with_roots(false, networks)).unwrap_err(), problem);
        }
        let followed = with_roots(true, &[]).replacen("\nnetwork = 2", "\nnetwork = 0", 1);
        let error = check(&followed).unwrap_err();
        assert!(error.starts_with("builder.messages.mainnet_exit_root: network 0 is that of rollup[1]"), "{error}");
        let useless = FollowConfig { mainnet_exit_root: Some(B256::ZERO), ..FollowConfig::default() };
        let (field, problem) = useless.check(&[]).unwrap_err();
        assert_eq!(field, "builder.messages.mainnet_exit_root");
        assert_eq!(problem, "no rollup has [rollup.agglayer]");
    }

    #[test]
    fn where_reading_begins_is_said_for_each_rollup() {
        let config = check(EXAMPLE).unwrap();
        let told = |config: &Config| {
            let rollup = &config.rollups[0];
            (rollup.messages_from, rollup.agglayer.as_ref().unwrap().branch_slot)
        };
        assert_eq!(told(&config), (None, None));
        let text = with("\nblock_time = 2\n", "\nblock_time = 2\nmessages_from = 1200\n");
        let config = check(&text.replacen("[rollup.agglayer]\n", "[rollup.agglayer]\nbranch_slot = 53\n", 1)).unwrap();
        assert_eq!(told(&config), (Some(1_200), Some(53)));
        let printed = toml::to_string_pretty(&config).unwrap();
        assert_eq!(told(&check(&printed).unwrap()), (Some(1_200), Some(53)));
        let error = check(&with("[rollup.agglayer]\n", "[rollup.agglayer]\nbranch_slot = -1\n")).unwrap_err();
        assert!(error.contains("branch_slot"), "{error}");
    }

    #[test]
    fn circle_is_asked_only_about_what_it_attests() {
        let circle = |lines: &str| check(&with("[builder.messages]", &format!("[builder.circle]\n{lines}\n[builder.messages]")));
        let config = circle("url = \"https://iris-api.circle.com\"\nprotocols = [\"cctp-v2\"]").unwrap();
        assert_eq!(config.builder.unwrap().circle.unwrap().protocols, [CircleProtocol::CctpV2]);
        for (lines, problem) in [
            ("url = \"iris-api.circle.com\"\nprotocols = [\"cctp-v1\"]", "builder.circle.url: is neither"),
            ("url = \"https://iris-api.circle.com\"\nprotocols = []", "builder.circle.protocols: is empty"),
            ("url = \"https://iris-api.circle.com\"\nprotocols = [\"agglayer\"]", "unknown variant `agglayer`"),
            ("url = \"https://iris-api.circle.com\"", "missing field `protocols`"),
        ] {
            let error = circle(lines).unwrap_err();
            assert!(error.contains(problem), "{lines}: {error}");
        }
    }
}

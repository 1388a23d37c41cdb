//! How a rollup's node is reached, how lists get onto its chain, and the bounds of both.

use std::path::PathBuf;

use lockstep_provider::{DeliverySettings, EngineControl, JwtSecret, RemoteLimits};
use serde::{Deserialize, Serialize};

use super::{ConfigError, key, wrong};

/// A field that is wrong, and what is wrong with it.
type Wrong = (&'static str, String);

/// The addresses of a rollup's node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a URL, or a list of URLs")]
pub enum NodeUrls {
    /// One, which is asked everything.
    One(String),
    /// Several nodes of the same rollup, in the order in which they are preferred: `http://` and `https://` addresses are
    /// asked, `ws://` and `wss://` addresses announce heads.
    Several(Vec<String>),
}

impl NodeUrls {
    /// All of them.
    pub fn urls(&self) -> &[String] {
        match self {
            Self::One(url) => std::slice::from_ref(url),
            Self::Several(urls) => urls,
        }
    }

    /// Checks that something can be asked.
    pub(super) fn check(&self) -> Result<(), String> {
        for (index, url) in self.urls().iter().enumerate() {
            if !begins_with(url, &["http://", "https://", "ws://", "wss://"]) {
                return Err(format!("address {index} begins with none of http://, https://, ws:// and wss://"));
            }
        }
        if self.urls().iter().any(|url| begins_with(url, &["http://", "https://"])) {
            Ok(())
        } else {
            Err("an http:// or https:// address is needed: ws:// and wss:// addresses only announce heads".to_owned())
        }
    }
}

/// A way for lists to get onto a rollup's chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeliveryKind {
    /// `dev-node` where the node is an anvil; otherwise the chain is only read.
    #[default]
    Auto,
    /// The node makes exactly the block it is told to.
    DevNode,
    /// The engine proxy in front of an OP-stack rollup's execution client.
    Engine,
    /// The node's own transaction pool.
    Raw,
    /// A bundle for builders of Ethereum and their relays.
    BundleRelay,
}

impl DeliveryKind {
    /// Its name in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::DevNode => "dev-node",
            Self::Engine => "engine",
            Self::Raw => "raw",
            Self::BundleRelay => "bundle-relay",
        }
    }

    /// Whether a sequencer that delivers this way can keep the promise to hold its block back: it can only where the chain
    /// waits for it.
    pub const fn can_hold(self) -> bool {
        !matches!(self, Self::Raw | Self::BundleRelay)
    }
}

/// How lists get onto a rollup's chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeliveryConfig {
    /// Which way they take.
    pub kind: DeliveryKind,
    /// Engine: the `http://` address of the engine proxy's control port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<String>,
    /// Engine: file with the control port's JWT secret, 32 bytes in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_jwt_file: Option<PathBuf>,
    /// Bundle relay: the relays' `http://` or `https://` addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Bundle relay: file with the private key in hex that requests are signed with. It needs no funds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
}

impl DeliveryConfig {
    /// Whether nothing is said of it.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Checks that every field that is needed is there and no other. `op_stack` tells whose rules the rollup follows.
    pub(super) fn check(&self, op_stack: bool) -> Result<(), Wrong> {
        let fields = [
            ("control", self.control.is_some(), DeliveryKind::Engine),
            ("control_jwt_file", self.control_jwt_file.is_some(), DeliveryKind::Engine),
            ("urls", !self.urls.is_empty(), DeliveryKind::BundleRelay),
            ("key_file", self.key_file.is_some(), DeliveryKind::BundleRelay),
        ];
        for (field, given, kind) in fields {
            let wanted = kind == self.kind;
            if given != wanted {
                let is = if wanted { "is needed for" } else { "is for" };
                let but = if wanted { String::new() } else { format!(", not for {:?}", self.kind.name()) };
                return Err((field, format!("{is} kind {:?}{but}", kind.name())));
            }
        }
        if let Some(control) = &self.control
            && !begins_with(control, &["http://"])
        {
            return Err(("control", "is no http:// address".to_owned()));
        }
        for (index, url) in self.urls.iter().enumerate() {
            if !begins_with(url, &["http://", "https://"]) {
                return Err(("urls", format!("address {index} is neither http:// nor https://")));
            }
        }
        match self.kind {
            DeliveryKind::Engine if !op_stack => Err(("kind", "the engine proxy is for OP-stack rollups".to_owned())),
            DeliveryKind::BundleRelay if op_stack => Err(("kind", "bundle relays are for Ethereum".to_owned())),
            _ => Ok(()),
        }
    }

    /// Reads the key that it needs. `place` says whose delivery it is.
    pub(super) fn settings(&self, place: &str) -> Result<DeliverySettings, ConfigError> {
        Ok(match (self.kind, &self.control, &self.control_jwt_file, &self.key_file) {
            (DeliveryKind::Auto, ..) => DeliverySettings::Auto,
            (DeliveryKind::DevNode, ..) => DeliverySettings::DevNode,
            (DeliveryKind::Raw, ..) => DeliverySettings::Raw,
            (DeliveryKind::Engine, Some(control), Some(file), _) => {
                let at_file = |problem: String| wrong(file.display().to_string(), problem);
                let text = std::fs::read_to_string(file).map_err(|error| at_file(error.to_string()))?;
                let secret = JwtSecret::from_hex(text.trim()).map_err(|error| at_file(error.to_string()))?;
                let control = EngineControl::new(control, secret);
                DeliverySettings::Engine(control.map_err(|error| wrong(format!("{place}.delivery.control"), error))?)
            }
            (DeliveryKind::BundleRelay, _, _, Some(file)) => {
                DeliverySettings::BundleRelay { urls: self.urls.clone(), signer: key(file)?.signer().clone() }
            }
            (kind @ (DeliveryKind::Engine | DeliveryKind::BundleRelay), ..) => {
                return Err(wrong(format!("{place}.delivery"), format!("lacks fields that kind {:?} needs", kind.name())));
            }
        })
    }
}

/// What may be tuned of [`RemoteLimits`], in its words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Milliseconds between two looks at the head while no subscription announces heads.
    pub poll_ms: u64,
    /// Milliseconds between two looks at the head while a subscription announces them.
    pub poll_idle_ms: u64,
    /// Milliseconds that one call may take in all.
    pub timeout_ms: u64,
    /// Times that one call is tried in all.
    pub attempts: usize,
    /// Milliseconds that an address is left alone after its first failure in a row; doubles with every further one.
    pub backoff_ms: u64,
    /// The most milliseconds that an address is left alone after failures.
    pub max_backoff_ms: u64,
    /// Milliseconds that an address is left alone after it answered what is not true.
    pub lie_backoff_ms: u64,
    /// Bytes of one answer.
    pub max_answer_bytes: usize,
    /// Milliseconds that publishing one block may take, waiting for it included.
    pub publish_timeout_ms: u64,
    /// Bytes of the state that is kept.
    pub max_cache_bytes: u64,
    /// Blocks that a reorg may drop and be followed one by one.
    pub max_reorg: usize,
    /// New blocks that are executed one after the other; after more the state is fetched anew.
    pub max_catch_up: u64,
    /// Seconds that the head may be behind the wall clock before the node counts as behind.
    pub max_lag_s: u64,
    /// Accounts of every block that are checked by a proof; 0 for none.
    pub proof_accounts: usize,
    /// Slots of each such account that are checked with it.
    pub proof_slots: usize,
    /// Blocks that are looked at, from the head back, to find those of a slot.
    pub max_blocks: usize,
    /// Calls in one JSON-RPC batch.
    pub batch: usize,
    /// Batches on their way at a time.
    pub parallel_batches: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let limits = RemoteLimits::default();
        Self {
            poll_ms: limits.poll_ms,
            poll_idle_ms: limits.poll_idle_ms,
            timeout_ms: limits.timeout_ms,
            attempts: limits.attempts,
            backoff_ms: limits.backoff_ms,
            max_backoff_ms: limits.max_backoff_ms,
            lie_backoff_ms: limits.lie_backoff_ms,
            max_answer_bytes: limits.max_answer_bytes,
            publish_timeout_ms: limits.publish_timeout_ms,
            max_cache_bytes: limits.max_cache_bytes,
            max_reorg: limits.max_reorg,
            max_catch_up: limits.max_catch_up,
            max_lag_s: limits.max_lag_s,
            proof_accounts: limits.proof_accounts,
            proof_slots: limits.proof_slots,
            max_blocks: limits.max_blocks,
            batch: limits.batch,
            parallel_batches: limits.parallel_batches,
        }
    }
}

impl LimitsConfig {
    /// Checks that none of them stops everything.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        let at_least_one = [
            ("poll_ms", self.poll_ms),
            ("poll_idle_ms", self.poll_idle_ms),
            ("timeout_ms", self.timeout_ms),
            ("attempts", self.attempts as u64),
            ("backoff_ms", self.backoff_ms),
            ("max_answer_bytes", self.max_answer_bytes as u64),
            ("publish_timeout_ms", self.publish_timeout_ms),
            ("max_cache_bytes", self.max_cache_bytes),
            ("max_reorg", self.max_reorg as u64),
            ("max_catch_up", self.max_catch_up),
            ("max_lag_s", self.max_lag_s),
            ("max_blocks", self.max_blocks as u64),
            ("batch", self.batch as u64),
            ("parallel_batches", self.parallel_batches as u64),
        ];
        if let Some((field, _)) = at_least_one.into_iter().find(|(_, value)| *value == 0) {
            return Err((field, "is at least 1".to_owned()));
        }
        if self.max_backoff_ms < self.backoff_ms {
            return Err(("max_backoff_ms", format!("is less than backoff_ms, which is {}", self.backoff_ms)));
        }
        Ok(())
    }

    /// All bounds; those that are not tuned are the defaults.
    pub(super) fn limits(&self) -> RemoteLimits {
        RemoteLimits {
            poll_ms: self.poll_ms,
            poll_idle_ms: self.poll_idle_ms,
            timeout_ms: self.timeout_ms,
            attempts: self.attempts,
            backoff_ms: self.backoff_ms,
            max_backoff_ms: self.max_backoff_ms,
            lie_backoff_ms: self.lie_backoff_ms,
            max_answer_bytes: self.max_answer_bytes,
            publish_timeout_ms: self.publish_timeout_ms,
            max_cache_bytes: self.max_cache_bytes,
            max_reorg: self.max_reorg,
            max_catch_up: self.max_catch_up,
            max_lag_s: self.max_lag_s,
            proof_accounts: self.proof_accounts,
            proof_slots: self.proof_slots,
            max_blocks: self.max_blocks,
            batch: self.batch,
            parallel_batches: self.parallel_batches,
            ..RemoteLimits::default()
        }
    }
}

fn begins_with(url: &str, schemes: &[&str]) -> bool {
    schemes.iter().any(|scheme| url.starts_with(scheme))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[derive(Debug, Deserialize)]
    struct Node {
        node: NodeUrls,
    }

    fn node(text: &str) -> Result<NodeUrls, String> {
        let read: Node = toml::from_str(text).map_err(|error| error.to_string())?;
        read.node.check().map(|()| read.node)
    }

    fn delivery(text: &str, op_stack: bool) -> Result<DeliveryConfig, String> {
        let read: DeliveryConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        read.check(op_stack).map(|()| read).map_err(|(field, problem)| format!("{field}: {problem}"))
    }

    fn limits(text: &str) -> Result<RemoteLimits, String> {
        let read: LimitsConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        read.check().map(|()| read.limits()).map_err(|(field, problem)| format!("{field}: {problem}"))
    }

    #[test]
    fn a_node_has_one_address_or_several() {
        assert_eq!(node(r#"node = "http://a""#).unwrap().urls(), ["http://a"]);
        assert_eq!(node(r#"node = ["http://a", "wss://a", "https://b"]"#).unwrap().urls(), ["http://a", "wss://a", "https://b"]);
        for (text, problem) in [
            ("node = 5", "a URL, or a list of URLs"),
            ("node = []", "an http:// or https:// address is needed"),
            (r#"node = "ws://a""#, "an http:// or https:// address is needed"),
            (r#"node = ["http://a", "b:8545"]"#, "address 1 begins with none of"),
        ] {
            let error = node(text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }

    #[test]
    fn a_delivery_has_the_fields_of_its_kind_and_no_others() {
        for (text, op_stack) in [
            (r#"kind = "auto""#, false),
            (r#"kind = "dev-node""#, true),
            (r#"kind = "raw""#, true),
            ("kind = \"engine\"\ncontrol = \"http://127.0.0.1:8553\"\ncontrol_jwt_file = \"jwt\"", true),
            ("kind = \"bundle-relay\"\nurls = [\"https://relay\"]\nkey_file = \"key\"", false),
        ] {
            let read = delivery(text, op_stack).unwrap();
            assert!(text.contains(read.kind.name()), "{text}");
        }
        for (text, op_stack, problem) in [
            ("", false, "missing field `kind`"),
            (r#"kind = "carrier-pigeon""#, false, "unknown variant"),
            ("kind = \"raw\"\nspeed = 1", false, "unknown field `speed`"),
            ("kind = \"raw\"\nurls = [\"https://relay\"]", false, "urls: is for kind \"bundle-relay\", not for \"raw\""),
            ("kind = \"raw\"\ncontrol = \"http://a\"", false, "control: is for kind \"engine\", not for \"raw\""),
            (r#"kind = "engine""#, true, "control: is needed for kind \"engine\""),
            ("kind = \"engine\"\ncontrol = \"http://a\"", true, "control_jwt_file: is needed"),
            ("kind = \"engine\"\ncontrol = \"https://a\"\ncontrol_jwt_file = \"jwt\"", true, "control: is no http://"),
            (
                "kind = \"engine\"\ncontrol = \"http://a\"\ncontrol_jwt_file = \"jwt\"",
                false,
                "kind: the engine proxy is for OP-stack",
            ),
            (r#"kind = "bundle-relay""#, false, "urls: is needed for"),
            ("kind = \"bundle-relay\"\nurls = [\"https://relay\"]", false, "key_file: is needed for"),
            ("kind = \"bundle-relay\"\nurls = [\"relay\"]\nkey_file = \"key\"", false, "urls: address 0 is neither"),
            (
                "kind = \"bundle-relay\"\nurls = [\"https://relay\"]\nkey_file = \"key\"",
                true,
                "kind: bundle relays are for Ethereum",
            ),
        ] {
            let error = delivery(text, op_stack).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }

    #[test]
    fn a_sequencer_promises_to_hold_only_what_it_can_hold() {
        let example = include_str!("../../../../lockstep.example.toml");
        let check = |text: &str| {
            let config: Config = toml::from_str(text).map_err(|error| error.to_string())?;
            config.check().map_err(|error| error.to_string())
        };
        check(example).unwrap();
        let raw = example.replacen("\nkind = \"dev-node\"", "\nkind = \"raw\"", 1);
        assert_ne!(raw, example, "the example file names a delivery");
        let error = check(&raw).unwrap_err();
        assert!(error.starts_with("rollup[0].sequencer.holds: ") && error.contains("set holds = false"), "{error}");
        check(&raw.replacen("\nholds = true", "\nholds = false", 1)).unwrap();

        let odd = example.replacen("\npoll_ms = 250", "\npoll_ms = 0", 1);
        assert_eq!(check(&odd).unwrap_err(), "rollup[0].limits.poll_ms: is at least 1");
        let odd = example.replacen("\nkind = \"dev-node\"", "\nkind = \"dev-node\"\nkey_file = \"key\"", 1);
        let error = check(&odd).unwrap_err();
        assert!(error.starts_with("rollup[0].delivery.key_file: is for kind \"bundle-relay\""), "{error}");
    }

    #[test]
    fn limits_are_the_defaults_but_for_what_is_tuned() {
        assert_eq!(limits("").unwrap(), RemoteLimits::default());
        let tuned = limits("poll_ms = 7\nproof_accounts = 0\nmax_lag_s = 9").unwrap();
        assert_eq!(tuned, RemoteLimits { poll_ms: 7, proof_accounts: 0, max_lag_s: 9, ..RemoteLimits::default() });
        for (text, problem) in [
            ("batch = 0", "batch: is at least 1"),
            ("backoff_ms = 10\nmax_backoff_ms = 9", "max_backoff_ms: is less than backoff_ms, which is 10"),
            ("polls = 1", "unknown field `polls`"),
            ("poll_ms = \"often\"", "invalid type"),
        ] {
            let error = limits(text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}

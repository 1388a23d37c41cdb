//! Encrypted transactions: how a sequencer has them opened, and a member of the committee that opens them.

use std::{collections::BTreeMap, path::PathBuf};

use alloy_primitives::{Address, Bytes, ChainId, hex};
use lockstep_delivery::{CommitteeKey, MAX_MEMBERS, MemberKey};
use serde::{Deserialize, Serialize};

use super::{ConfigError, wrong};
use crate::process::{CommitteeSetup, EncryptedSetup, MemberAt};

/// What names a member that is in the same process.
const HERE: &str = "here";
/// The least gas that a transaction needs.
const LEAST_GAS: u64 = 21_000;
/// The longest that a block may wait for its encrypted part.
const MAX_PATIENCE_MS: u64 = 10_000;

/// How a rollup's sequencer takes encrypted transactions.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncryptedConfig {
    /// Gas of each slot's last block that is kept for them.
    pub gas: u64,
    /// The committee's key, as `lockstep committee deal` prints it.
    pub committee: Bytes,
    /// Where each member's JSON-RPC is reached, in the order of their numbers; "here" is this process.
    pub members: Vec<String>,
    /// For how long a slot's last block waits for their shares, in milliseconds.
    #[serde(default = "default_patience_ms")]
    pub patience_ms: u64,
}

const fn default_patience_ms() -> u64 {
    250
}

impl EncryptedConfig {
    /// Checks what needs no network.
    pub(super) fn setup(&self) -> Result<EncryptedSetup, (&'static str, String)> {
        let committee = CommitteeKey::parse(&self.committee).map_err(|error| ("encrypted.committee", error.to_string()))?;
        if self.gas < LEAST_GAS {
            return Err(("encrypted.gas", format!("is less than a transaction needs, {LEAST_GAS}")));
        }
        if self.members.len() < committee.needed() || self.members.len() > MAX_MEMBERS {
            let problem = format!(
                "are {}: {} open a ciphertext together, {MAX_MEMBERS} are the most",
                self.members.len(),
                committee.needed()
            );
            return Err(("encrypted.members", problem));
        }
        if !(1..=MAX_PATIENCE_MS).contains(&self.patience_ms) {
            return Err(("encrypted.patience_ms", format!("is not between 1 and {MAX_PATIENCE_MS}")));
        }
        let members = self.members.iter().map(|at| if at == HERE { MemberAt::Here } else { MemberAt::Url(at.clone()) });
        Ok(EncryptedSetup { committee, members: members.collect(), patience_ms: self.patience_ms })
    }
}

/// A member of a committee.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommitteeConfig {
    /// File with its share of the committee's key, in hex.
    pub key_file: PathBuf,
    /// Its number, from 0.
    pub member: u32,
    /// The committee's key.
    pub committee: Bytes,
    /// Whose orders it opens ciphertexts for.
    pub sequencers: Vec<OrderedByConfig>,
}

/// A rollup whose encrypted transactions are opened.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderedByConfig {
    /// The rollup.
    pub chain_id: ChainId,
    /// Its sequencer's address.
    pub sequencer: Address,
}

impl CommitteeConfig {
    /// Checks what needs no file.
    pub(super) fn check(&self) -> Result<CommitteeKey, (&'static str, String)> {
        let mut seen = std::collections::BTreeSet::new();
        if let Some(twice) = self.sequencers.iter().find(|by| !seen.insert(by.chain_id)) {
            return Err(("committee.sequencers", format!("rollup {} is there twice", twice.chain_id)));
        }
        CommitteeKey::parse(&self.committee).map_err(|error| ("committee.committee", error.to_string()))
    }

    /// Reads its key.
    pub(super) fn setup(&self) -> Result<CommitteeSetup, ConfigError> {
        let committee = self.check().map_err(|(field, problem)| wrong(field, problem))?;
        let place = self.key_file.display().to_string();
        let text = std::fs::read_to_string(&self.key_file).map_err(|error| wrong(&place, error))?;
        let bytes = hex::decode(text.trim()).map_err(|_| wrong(&place, "is not hex"))?;
        let key = MemberKey::parse(&bytes).map_err(|error| wrong(&place, error))?;
        if !key.is_of(&committee, self.member) {
            return Err(wrong(&place, format!("is not the key of member {} of this committee", self.member)));
        }
        let sequencers = self.sequencers.iter().map(|by| (by.chain_id, by.sequencer)).collect();
        Ok(CommitteeSetup { members: BTreeMap::from([(self.member, key)]), sequencers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const EXAMPLE: &str = include_str!("../../../../lockstep.example.toml");

    /// The example with two of its sections that are commented out.
    fn example() -> String {
        let mut inside = false;
        let lines = EXAMPLE.lines().map(|line| {
            inside = match line {
                "# [committee]" | "# [rollup.sequencer.encrypted]" => true,
                line => inside && line.starts_with('#'),
            };
            let bare = line.strip_prefix("# ").filter(|bare| inside && (bare.starts_with('[') || bare.contains(" = ")));
            bare.unwrap_or(line)
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn problem(text: &str) -> String {
        let config: Config = toml::from_str(text).unwrap();
        config.check().unwrap_err().to_string()
    }

    #[test]
    fn the_example_is_a_committee_and_what_is_wrong_is_named() {
        let example = example();
        let config: Config = toml::from_str(&example).unwrap();
        config.check().unwrap();
        let sequencer = config.rollups[0].sequencer.as_ref().unwrap();
        let setup = sequencer.encrypted.as_ref().unwrap().setup().unwrap();
        assert_eq!((setup.committee.needed(), setup.members.len(), setup.patience_ms), (2, 3, 250));
        assert_eq!(sequencer.terms(config.rollups[0].chain_id).unwrap().encrypted_gas, 3_000_000);
        let committee = config.committee.unwrap();
        assert_eq!((committee.member, committee.check()), (0, Ok(setup.committee)));

        let at = "rollup[0].sequencer.encrypted";
        for (from, to, problem_is) in [
            ("gas = 3000000", "gas = 20999", format!("{at}.gas: is less than a transaction needs, 21000")),
            ("patience_ms = 250", "patience_ms = 0", format!("{at}.patience_ms: is not between 1 and 10000")),
            (
                r#", "http://10.0.0.2:8548", "http://10.0.0.3:8548"]"#,
                "]",
                format!("{at}.members: are 1: 2 open a ciphertext together, 64 are the most"),
            ),
        ] {
            assert!(example.contains(from), "{from}");
            assert_eq!(problem(&example.replacen(from, to, 1)), problem_is);
        }
        let twice = example.replacen(
            "sequencers = [",
            "sequencers = [{ chain_id = 901, sequencer = \"0x00000000000000000000000000000000000000c9\" }, ",
            1,
        );
        assert_eq!(problem(&twice), "committee.sequencers: rollup 901 is there twice");
        let broken = problem(&example.replace("committee = \"0xb1", "committee = \"0xff"));
        assert!(
            broken.starts_with("rollup[0].sequencer.encrypted.committee: not the key")
                || broken.starts_with("committee.committee"),
            "{broken}"
        );
    }

    #[test]
    fn a_member_is_told_when_its_key_is_another_ones() {
        let (committee, members) = lockstep_delivery::deal(3, 2, Default::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let key_file = folder.path().join("member.key");
        let config = |member| CommitteeConfig {
            key_file: key_file.clone(),
            member,
            committee: committee.to_bytes(),
            sequencers: vec![OrderedByConfig { chain_id: 1, sequencer: Address::ZERO }],
        };
        assert!(config(1).setup().is_err(), "there is no file");
        for text in ["not hex", "0x01"] {
            std::fs::write(&key_file, text).unwrap();
            assert!(config(1).setup().is_err());
        }
        std::fs::write(&key_file, format!("{}\n", hex::encode_prefixed(members[1].reveal()))).unwrap();
        let setup = config(1).setup().unwrap();
        assert_eq!((setup.members.len(), setup.sequencers[&1]), (1, Address::ZERO));
        let error = config(0).setup().unwrap_err().to_string();
        assert!(error.ends_with("is not the key of member 0 of this committee"), "{error}");
    }
}

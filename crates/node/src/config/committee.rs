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

//! Evidence sources: who signs that a message was sent.

use std::{collections::BTreeMap, fmt};

use alloy::signers::{SignerSync, local::PrivateKeySigner};
use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use lockstep_messaging::{Evidence, EvidenceRequest};
use lockstep_primitives::{ChainId, RollupSet};

/// Why there is no evidence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// The source does not hold a key that has to sign.
    #[error("no key of attester {0}")]
    UnknownAttester(Address),
    /// The origin's sequencer has not voted yes, and is not trusted to be about to.
    #[error("rollup {0} has not voted for the block that sends the message")]
    NotReleased(ChainId),
    /// Signing failed.
    #[error("signing failed: {0}")]
    Signing(String),
}

/// Gives evidence for messages.
#[async_trait]
pub trait EvidenceSource: Send + Sync + fmt::Debug {
    /// Evidence for a message, if its origin is among `released`: the rollups whose sequencers have voted yes, and those
    /// that the source is configured to trust. An attestation in a list is a bearer instrument, so it is never given
    /// earlier.
    ///
    /// # Errors
    /// When there is none to be had now.
    async fn evidence(&self, request: &EvidenceRequest, released: &RollupSet) -> Result<Evidence, EvidenceError>;

    /// The rollups that are trusted before they vote.
    fn trusted(&self) -> &RollupSet;
}

/// Attester keys held by this process: a deployment with attesters of its own.
pub struct LocalAttester {
    keys: BTreeMap<Address, PrivateKeySigner>,
    trusted: RollupSet,
}

impl LocalAttester {
    /// Signs with `keys`; for messages from `trusted` rollups before their sequencers have voted.
    pub fn new(keys: impl IntoIterator<Item = PrivateKeySigner>, trusted: RollupSet) -> Self {
        Self { keys: keys.into_iter().map(|key| (key.address(), key)).collect(), trusted }
    }

    fn sign(&self, attester: Address, digest: B256) -> Result<[u8; 65], EvidenceError> {
        let key = self.keys.get(&attester).ok_or(EvidenceError::UnknownAttester(attester))?;
        let signature = key.sign_hash_sync(&digest).map_err(|error| EvidenceError::Signing(error.to_string()))?;
        Ok(signature.as_bytes())
    }
}

impl fmt::Debug for LocalAttester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalAttester").field("attesters", &self.keys.keys()).field("trusted", &self.trusted).finish()
    }
}

#[async_trait]
impl EvidenceSource for LocalAttester {
    async fn evidence(&self, request: &EvidenceRequest, released: &RollupSet) -> Result<Evidence, EvidenceError> {
        let origin = request.message.origin;
        if !released.contains(&origin) && !self.trusted.contains(&origin) {
            return Err(EvidenceError::NotReleased(origin));
        }
        let signatures = request
            .signers
            .iter()
            .map(|attester| self.sign(*attester, request.digest))
            .collect::<Result<Vec<_>, EvidenceError>>()?;
        Ok(Evidence::Attestation { payload: request.payload.clone(), signatures })
    }

    fn trusted(&self) -> &RollupSet {
        &self.trusted
    }
}

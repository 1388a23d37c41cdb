//! Attester keys held by this process.

use std::{collections::BTreeMap, fmt};

use alloy::signers::{SignerSync, local::PrivateKeySigner};
use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use lockstep_messaging::{Evidence, EvidenceRequest};
use lockstep_primitives::RollupSet;

use super::{EvidenceError, EvidenceSource, LandedTx};

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

    /// The payload as it was asked for, signed by everyone who has to.
    fn attest(&self, request: &EvidenceRequest) -> Result<Evidence, EvidenceError> {
        let signatures = request
            .signers
            .iter()
            .map(|attester| self.sign(*attester, request.digest))
            .collect::<Result<Vec<_>, EvidenceError>>()?;
        Ok(Evidence::Attestation { payload: request.payload.clone(), signatures })
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
        self.attest(request)
    }

    /// The payload of the request is derived from the message alone, so the same message is never signed under two numbers.
    async fn landed(&self, request: &EvidenceRequest, _: &LandedTx) -> Result<Evidence, EvidenceError> {
        self.attest(request)
    }

    /// Nothing has to be done: what is asked for next is signed as it is asked for, with a later expiry.
    async fn renew(&self, request: &EvidenceRequest, _: &Evidence) -> Result<(), EvidenceError> {
        match request.signers.iter().find(|attester| !self.keys.contains_key(*attester)) {
            Some(unknown) => Err(EvidenceError::UnknownAttester(*unknown)),
            None => Ok(()),
        }
    }

    fn trusted(&self) -> &RollupSet {
        &self.trusted
    }
}

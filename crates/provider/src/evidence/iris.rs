//! Circle's attestation service ("Iris"), by HTTP.
//!
//! It attests a message once the block that sent it is final enough, so never in the slot that sends it. What it answers is
//! checked: that it is about the message that was sent, and that attesters of the deployment signed it. Paths, states and limits
//! are those of Circle's API reference for CCTP; 404 is what it answers until it has seen a message.

mod client;
mod gate;
mod wire;

use std::sync::Arc;

use alloy_primitives::Address;
use async_trait::async_trait;
use lockstep_messaging::{Evidence, EvidenceRequest, check_attestation};
use lockstep_primitives::{Reason, RollupSet, SignatureBytes};
use serde::de::DeserializeOwned;

pub use client::{Clock, IrisClient, IrisLimits};

use self::wire::{AttestationAnswer, Attested, MessagesAnswer};
use super::{EvidenceError, EvidenceSource, LandedTx};
use crate::remote::excerpt;

/// A version of CCTP. They have contracts, attesters and formats of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CctpVersion {
    /// The message is attested as it was emitted.
    V1,
    /// Attesters fill in nonce, executed finality, fee and expiration.
    V2,
}

impl CctpVersion {
    /// The protocol's name on every surface.
    pub const fn protocol(self) -> &'static str {
        match self {
            Self::V1 => "cctp-v1",
            Self::V2 => "cctp-v2",
        }
    }
}

/// Evidence from Circle's attestation service, for one version of CCTP.
#[derive(Debug)]
pub struct IrisSource {
    client: Arc<IrisClient>,
    version: CctpVersion,
    attesters: Vec<Address>,
    /// Nobody: nothing is attested before it is final, whatever a sequencer promises.
    trusted: RollupSet,
}

impl IrisSource {
    /// Asks `client` for attestations by `attesters`: those that are enabled on the deployment's transmitters. How many of them
    /// have to sign is taken from each request.
    pub const fn new(client: Arc<IrisClient>, version: CctpVersion, attesters: Vec<Address>) -> Self {
        Self { client, version, attesters, trusted: RollupSet::new() }
    }

    fn check_protocol(&self, request: &EvidenceRequest) -> Result<(), EvidenceError> {
        let (asked, own) = (request.message.protocol, self.version.protocol());
        if asked == own {
            return Ok(());
        }
        Err(EvidenceError::Refused(format!("the attestation service is configured for {own}, the message is one of {asked}")))
    }

    fn check(&self, request: &EvidenceRequest, payload: &[u8], signatures: &[SignatureBytes]) -> Result<(), EvidenceError> {
        check_attestation(payload, signatures, &self.attesters, request.signers.len()).map_err(|reason| {
            EvidenceError::Malformed(match reason {
                Reason::NoEvidence(cause) => cause,
                other => other.to_string(),
            })
        })
    }

    async fn attested_v1(&self, request: &EvidenceRequest) -> Result<Attested, EvidenceError> {
        let path = format!("/v1/attestations/{}", request.digest);
        let answer = self.client.get(&path, read::<AttestationAnswer>).await?.ok_or_else(not_seen)?;
        Ok(Attested { payload: request.payload.clone(), signatures: answer.signatures()? })
    }

    async fn attested_v2(&self, request: &EvidenceRequest, sent: &LandedTx) -> Result<Attested, EvidenceError> {
        let template = &request.message.payload;
        let domain = template.get(4..8).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map(u32::from_be_bytes);
        let domain = domain.ok_or_else(|| EvidenceError::Refused("the message has no source domain".to_owned()))?;
        let path = format!("/v2/messages/{domain}?transactionHash={}", sent.hash);
        let answer = self.client.get(&path, read::<MessagesAnswer>).await?.ok_or_else(not_seen)?;
        answer.attested(template, sent)
    }
}

fn not_seen() -> EvidenceError {
    EvidenceError::Pending { status: "the service has not seen it yet".to_owned(), delay_reason: None }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("{error}: {}", excerpt(&String::from_utf8_lossy(body))))
}

#[async_trait]
impl EvidenceSource for IrisSource {
    async fn evidence(&self, request: &EvidenceRequest, _: &RollupSet) -> Result<Evidence, EvidenceError> {
        self.check_protocol(request)?;
        Err(EvidenceError::SameSlot)
    }

    async fn landed(&self, request: &EvidenceRequest, sent: &LandedTx) -> Result<Evidence, EvidenceError> {
        self.check_protocol(request)?;
        if request.signers.is_empty() {
            return Err(EvidenceError::Refused("the request names nobody who has to sign".to_owned()));
        }
        let attested = match self.version {
            CctpVersion::V1 => self.attested_v1(request).await?,
            CctpVersion::V2 => self.attested_v2(request, sent).await?,
        };
        self.check(request, &attested.payload, &attested.signatures)?;
        Ok(Evidence::Attestation { payload: attested.payload, signatures: attested.signatures })
    }

    async fn renew(&self, request: &EvidenceRequest, expired: &Evidence) -> Result<(), EvidenceError> {
        self.check_protocol(request)?;
        if self.version == CctpVersion::V1 {
            return Err(EvidenceError::Refused("attestations of CCTP v1 do not expire".to_owned()));
        }
        let nonce = match expired {
            Evidence::Attestation { payload, .. } => wire::nonce(&request.message.payload, payload)?,
            Evidence::Place | Evidence::Exit(_) => None,
        };
        let nonce = nonce.filter(|nonce| !nonce.is_zero());
        let nonce = nonce.ok_or_else(|| EvidenceError::Refused("what expired is no attestation of the message".to_owned()))?;
        match self.client.post(&format!("/v2/reattest/{nonce}")).await? {
            Some(()) => Ok(()),
            None => Err(EvidenceError::Refused(format!("the attestation service knows no message with nonce {nonce}"))),
        }
    }

    fn trusted(&self) -> &RollupSet {
        &self.trusted
    }
}

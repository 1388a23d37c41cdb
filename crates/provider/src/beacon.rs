//! An L1 beacon node: who proposes the next L1 blocks.

use std::time::Duration;

use alloy_primitives::FixedBytes;
use reqwest::{Client, StatusCode};
use serde::Deserialize;

use crate::remote::{http_client, read_body, with_causes};

/// How long an answer may be.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// The public key of a validator: a compressed BLS12-381 G1 point.
pub type ValidatorKey = FixedBytes<48>;

/// Who proposes in an L1 slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProposerDuty {
    /// The L1 slot.
    pub slot: u64,
    /// Whose turn it is.
    pub validator: ValidatorKey,
}

/// The beacon API of an L1 node (ethereum/beacon-APIs).
#[derive(Clone, Debug)]
pub struct BeaconClient {
    base: String,
    client: Client,
    patience: Duration,
}

#[derive(Deserialize)]
struct Duties {
    data: Vec<Duty>,
}

#[derive(Deserialize)]
struct Duty {
    pubkey: ValidatorKey,
    slot: String,
}

impl BeaconClient {
    /// The node at an `http://` or `https://` address. No answer is waited for longer than `patience`.
    ///
    /// # Errors
    /// When the address is none, in words.
    pub fn new(url: &str, patience: Duration) -> Result<Self, String> {
        Ok(Self { base: url.trim_end_matches('/').to_owned(), client: http_client(url, patience)?, patience })
    }

    /// Who proposes in an L1 epoch (`GET /eth/v1/validator/duties/proposer/{epoch}`): certain for the current epoch and, since
    /// EIP-7917, for the next one.
    ///
    /// # Errors
    /// When the node does not answer, knows nothing of the epoch or answers something else, in words.
    pub async fn proposers(&self, epoch: u64) -> Result<Vec<ProposerDuty>, String> {
        let url = format!("{}/eth/v1/validator/duties/proposer/{epoch}", self.base);
        let answer =
            self.client.get(url).timeout(self.patience).send().await.map_err(|error| with_causes(&error.without_url()))?;
        let status = answer.status();
        let body = read_body(answer, MAX_ANSWER_BYTES).await?;
        if status != StatusCode::OK {
            return Err(format!("the beacon node answers {status} about epoch {epoch}"));
        }
        let duties: Duties = serde_json::from_slice(&body).map_err(|error| format!("the duties cannot be read: {error}"))?;
        let duty = |Duty { pubkey, slot }: Duty| {
            let slot = slot.parse().map_err(|error| format!("slot {slot:?} of a duty: {error}"))?;
            Ok(ProposerDuty { slot, validator: pubkey })
        };
        duties.data.into_iter().map(duty).collect()
    }
}

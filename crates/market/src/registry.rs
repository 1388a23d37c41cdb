//! Who sells, and on what terms.

use std::collections::BTreeMap;

use lockstep_primitives::{ChainId, Registration, recover};

use crate::MarketError;

/// How many rollups may be registered. Winner determination is exact up to this many.
pub const MAX_SELLERS: usize = 20;

/// How long the URL of a sequencer may be.
pub const MAX_URL_BYTES: usize = 2048;

/// All of a rollup's protocol fees, in basis points.
const WHOLE_SHARE_BPS: u64 = 10_000;

/// The registered rollups.
///
/// The first registration of a rollup decides which key speaks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    sellers: BTreeMap<ChainId, Registration>,
}

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a rollup, or changes its terms.
    ///
    /// # Errors
    /// When the terms make no sense, the signature is not the named sequencer's, the rollup is registered under another
    /// key, the nonce does not rise, or the registry is full. The registry is then unchanged.
    pub fn register(&mut self, registration: Registration, signature: &[u8]) -> Result<(), MarketError> {
        let chain = registration.chain;
        check_terms(&registration)?;
        let signer =
            recover(registration.digest(), signature).map_err(|_| MarketError::InvalidRegistrationSignature { chain })?;
        if signer != registration.sequencer {
            return Err(MarketError::WrongSigner { chain, sequencer: registration.sequencer, signer });
        }
        if let Some(current) = self.sellers.get(&chain) {
            if current.sequencer != signer {
                return Err(MarketError::SequencerChanged { chain, registered: current.sequencer, sequencer: signer });
            }
            if registration.nonce <= current.nonce {
                return Err(MarketError::RegistrationNonceTooLow { chain, nonce: registration.nonce, current: current.nonce });
            }
        } else if self.sellers.len() >= MAX_SELLERS {
            return Err(MarketError::TooManySellers { limit: MAX_SELLERS });
        }
        self.sellers.insert(chain, registration);
        Ok(())
    }

    /// The terms of a rollup.
    pub fn get(&self, chain: ChainId) -> Option<&Registration> {
        self.sellers.get(&chain)
    }

    /// All registrations, by chain id.
    pub fn iter(&self) -> impl Iterator<Item = &Registration> {
        self.sellers.values()
    }

    /// How many rollups are registered.
    pub fn len(&self) -> usize {
        self.sellers.len()
    }

    /// Whether no rollup is registered.
    pub fn is_empty(&self) -> bool {
        self.sellers.is_empty()
    }
}

fn check_terms(registration: &Registration) -> Result<(), MarketError> {
    let chain = registration.chain;
    if registration.block_time == 0 {
        return Err(MarketError::ZeroBlockTime { chain });
    }
    if registration.fee_share_bps > WHOLE_SHARE_BPS {
        return Err(MarketError::FeeShareTooLarge { chain, bps: registration.fee_share_bps });
    }
    let bytes = registration.sequencer_url.len();
    if bytes > MAX_URL_BYTES {
        return Err(MarketError::UrlTooLong { chain, bytes, limit: MAX_URL_BYTES });
    }
    Ok(())
}

//! What a rollup's rules demand of a transaction, whatever the state.

use alloy_consensus::Transaction;

use crate::{Reason, SignedTx};

/// Gas of every transaction.
const BASE_GAS: u64 = 21_000;
/// Gas of a creation on top (EIP-2).
const CREATION_GAS: u64 = 32_000;
/// Gas of a word of init code (EIP-3860).
const INIT_CODE_WORD_GAS: u64 = 2;
/// Gas of a token of calldata: a zero byte is one token, any other byte is four (EIP-2028).
const TOKEN_GAS: u64 = 4;
/// What a token costs at least, whatever is executed (EIP-7623).
const TOKEN_FLOOR_GAS: u64 = 10;
/// Gas of an address and of a storage key in the access list (EIP-2930).
const ACCESS_ADDRESS_GAS: u64 = 2_400;
const ACCESS_KEY_GAS: u64 = 1_900;
/// Gas of an entry of the authorization list (EIP-7702).
const AUTHORIZATION_GAS: u64 = 25_000;

/// What the rules of a rollup's block demand of a transaction by itself: no state can cure what fails here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxRules {
    /// The most gas that one transaction may ask for (EIP-7825); `None` for no cap but the block's.
    pub gas_cap: Option<u64>,
    /// Whether calldata has a floor price (EIP-7623).
    pub calldata_floor: bool,
    /// Whether blob transactions (type 3) are valid.
    pub blobs: bool,
    /// Whether set-code transactions (type 4, EIP-7702) are valid.
    pub set_code: bool,
    /// The most bytes of init code (EIP-3860).
    pub max_init_code: usize,
}

impl TxRules {
    /// The least gas limit that a transaction is valid with: its intrinsic gas, or the floor of its calldata.
    pub fn minimum_gas(&self, tx: &SignedTx) -> u64 {
        let tx = tx.envelope();
        let input = tx.input();
        let bytes = count(input.len());
        let zeros = count(input.iter().filter(|byte| **byte == 0).count());
        let tokens = zeros + 4 * (bytes - zeros);
        let creation = if tx.is_create() { CREATION_GAS + INIT_CODE_WORD_GAS * bytes.div_ceil(32) } else { 0 };
        let access: u64 = tx
            .access_list()
            .map_or(0, |list| list.iter().map(|item| ACCESS_ADDRESS_GAS + ACCESS_KEY_GAS * count(item.storage_keys.len())).sum());
        let authorizations = AUTHORIZATION_GAS * count(tx.authorization_list().map_or(0, <[_]>::len));
        let intrinsic = BASE_GAS + TOKEN_GAS * tokens + creation + access + authorizations;
        let floor = if self.calldata_floor { BASE_GAS + TOKEN_FLOOR_GAS * tokens } else { 0 };
        intrinsic.max(floor)
    }

    /// Whether a transaction can be valid in some state.
    ///
    /// # Errors
    /// What of it never can.
    pub fn check(&self, tx: &SignedTx) -> Result<(), Reason> {
        let envelope = tx.envelope();
        if envelope.blob_versioned_hashes().is_some() && !self.blobs {
            return Err(Reason::BlobTransaction);
        }
        if let Some(list) = envelope.authorization_list() {
            if !self.set_code {
                return Err(Reason::SetCodeTransaction);
            }
            if list.is_empty() {
                return Err(Reason::InvalidTransaction("its authorization list is empty".to_owned()));
            }
        }
        let gas = tx.gas_limit();
        if let Some(limit) = self.gas_cap.filter(|cap| gas > *cap) {
            return Err(Reason::GasLimitTooHigh { gas, limit });
        }
        let bytes = envelope.input().len();
        if envelope.is_create() && bytes > self.max_init_code {
            return Err(Reason::InitCodeTooLarge { bytes, limit: self.max_init_code });
        }
        let minimum = self.minimum_gas(tx);
        if gas < minimum {
            return Err(Reason::GasBelowMinimum { gas, minimum });
        }
        Ok(())
    }
}

/// A count as gas is reckoned; nothing that fits into memory is cut.
fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

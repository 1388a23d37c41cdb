//! Bids as the solver of Espresso's marketplace takes them: a view is a slot, and a namespace a rollup.
//!
//! The fields, the commitment and its signature are those of EspressoSystems/espresso-sequencer, `types/src/v0/v0_99` and
//! `marketplace-solver`, of March 2025. That solver never determined winners; here the bids go into the slot's book like any other.

mod error;

pub use error::EspressoError;

use alloy_primitives::{Address, B256, Keccak256, U256, eip191_hash_message};
use lockstep_primitives::{Bid, RollupSet, SlotNumber, recover};

use crate::AcceptedBid;

/// The tag of bids that came this way: of one bidder at most one is in a slot's book.
pub const ESPRESSO_TAG: &str = "espresso";

/// What ends a name in a commitment: it is no UTF-8, so no name contains it.
const END_OF_NAME: [u8; 2] = [0xC0, 0x7F];

/// What a bidder commits to (`BidTxBody`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EspressoBid {
    /// Who pays.
    pub account: Address,
    /// What is paid for sequencing, in the numeraire's smallest unit.
    pub gas_price: U256,
    /// What is bid beside that.
    pub bid_amount: U256,
    /// Where the bidder is reached.
    pub url: String,
    /// The slot.
    pub view: SlotNumber,
    /// The rollups.
    pub namespaces: Vec<u64>,
}

impl EspressoBid {
    /// What is signed, as a personal message (EIP-191): keccak-256 over the tag and the fields, each after its name. Integers of 64
    /// bits and amounts are little-endian.
    pub fn commitment(&self) -> B256 {
        let mut bytes = Committed::new("BID_TX_BODY");
        bytes.name("account").raw(self.account.as_slice());
        bytes.name("gas_price").raw(&self.gas_price.to_le_bytes::<32>());
        bytes.name("bid_amount").raw(&self.bid_amount.to_le_bytes::<32>());
        bytes.name("url").number(self.url.len() as u64).raw(self.url.as_bytes());
        bytes.name("view").number(self.view);
        bytes.name("namespaces").number(self.namespaces.len() as u64);
        for namespace in &self.namespaces {
            let mut one = Committed::new("namespace");
            one.number(*namespace);
            bytes.raw(one.finish().as_slice());
        }
        bytes.finish()
    }

    /// The bid for its slot's book, when the account signed it (65 bytes r || s || v).
    ///
    /// # Errors
    /// When somebody else signed it, a namespace is named twice, or its amounts are beyond 256 bits.
    pub fn accepted(&self, signature: &[u8], nonce: u64) -> Result<AcceptedBid, EspressoError> {
        let (view, account) = (self.view, self.account);
        let digest = eip191_hash_message(self.commitment());
        if recover(digest, signature).ok() != Some(account) {
            return Err(EspressoError::WrongSigner { view, account });
        }
        let rollups: RollupSet = self.namespaces.iter().copied().collect();
        if rollups.len() != self.namespaces.len() {
            return Err(EspressoError::NamespaceTwice { view });
        }
        let amount = self.bid_amount.checked_add(self.gas_price).ok_or(EspressoError::TooMuch { view })?;
        let bid = Bid { slot: view, rollups, amount, exclusive: Some(ESPRESSO_TAG.to_owned()), nonce };
        Ok(AcceptedBid { bidder: account, bid, digest })
    }
}

/// Bytes of a commitment.
struct Committed(Keccak256);

impl Committed {
    fn new(tag: &str) -> Self {
        let mut bytes = Self(Keccak256::new());
        bytes.name(tag);
        bytes
    }

    fn name(&mut self, name: &str) -> &mut Self {
        self.raw(name.as_bytes()).raw(&END_OF_NAME)
    }

    fn number(&mut self, number: u64) -> &mut Self {
        self.raw(&number.to_le_bytes())
    }

    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(bytes);
        self
    }

    fn finish(self) -> B256 {
        self.0.finalize()
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::b256;

    use super::*;

    #[test]
    fn the_commitment_is_that_of_the_committable_crate() {
        let bid = EspressoBid {
            account: Address::repeat_byte(0x11),
            gas_price: U256::from(7),
            bid_amount: U256::from(1_000_000_007),
            url: "http://localhost:3939/".to_owned(),
            view: 42,
            namespaces: vec![901, 902],
        };
        // Made by committable 0.2.4 from the same fields.
        let expected = b256!("4e978639f2cced2caf4704b2a674db3c52a1e55cedfadd5acc30b4de9869a810");
        assert_eq!(bid.commitment(), expected);
        assert_eq!(bid.accepted(&[0; 65], 1).unwrap_err().code(), "wrong_bid_signer");
    }
}

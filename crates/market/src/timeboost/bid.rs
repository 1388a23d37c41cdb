//! A Timeboost bid: its fields, what is signed, and how ties are broken.

use alloy_primitives::{Address, B256, Bytes, Keccak256, Signature, U256, b256, keccak256};
use lockstep_primitives::{Bid, ChainId, SlotNumber, recover};

use super::TimeboostError;
use crate::AcceptedBid;

/// The EIP-712 type of a Timeboost bid.
pub const TIMEBOOST_BID_TYPE: &str = "Bid(uint64 round,address expressLaneController,uint256 amount)";

/// keccak-256 of [`TIMEBOOST_BID_TYPE`].
pub const TIMEBOOST_BID_TYPEHASH: B256 = b256!("0358b2b705d5c5ef47651be44f418326852a390f3b4c933661a5f4f0d8fa1ee3");

const DOMAIN_TYPE: &str = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";
const DOMAIN_NAME: &str = "ExpressLaneAuction";
const DOMAIN_VERSION: &str = "1";

/// What `auctioneer_submitBid` takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeboostBid {
    /// The chain whose express lane is sold. As wide as on the wire.
    pub chain: U256,
    /// Who may use the express lane when the bid wins. It need not be the bidder.
    pub express_lane_controller: Address,
    /// The auction contract.
    pub auction_contract: Address,
    /// The round that is bid for.
    pub round: u64,
    /// In the bidding token's smallest unit.
    pub amount: U256,
    /// 65 bytes `r || s || v` with v 27 or 28.
    pub signature: Bytes,
}

impl TimeboostBid {
    /// The bid as an offer of this market for the chain in a slot. Its digest stays the one that was signed, so that ties are
    /// broken as Timeboost breaks them.
    pub fn offer(&self, domain: &TimeboostDomain, bidder: Address, slot: SlotNumber) -> AcceptedBid {
        let bid = Bid { slot, rollups: [domain.chain].into(), amount: self.amount, exclusive: None, nonce: self.round };
        AcceptedBid { bidder, bid, digest: domain.digest(self) }
    }
}

/// The auction that bids are signed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeboostDomain {
    /// The chain whose express lane is sold.
    pub chain: ChainId,
    /// The auction contract on it.
    pub contract: Address,
}

impl TimeboostDomain {
    /// The EIP-712 domain separator, as the contract's `domainSeparator()`.
    pub fn separator(&self) -> B256 {
        hash_words(&[
            keccak256(DOMAIN_TYPE),
            keccak256(DOMAIN_NAME),
            keccak256(DOMAIN_VERSION),
            U256::from(self.chain).into(),
            self.contract.into_word(),
        ])
    }

    /// The EIP-712 digest that the bidder signs, as the contract's `getBidHash`. It covers round, controller and amount.
    pub fn digest(&self, bid: &TimeboostBid) -> B256 {
        let message = hash_words(&[
            TIMEBOOST_BID_TYPEHASH,
            U256::from(bid.round).into(),
            bid.express_lane_controller.into_word(),
            bid.amount.into(),
        ]);
        let mut bytes = vec![0x19, 0x01];
        bytes.extend_from_slice(self.separator().as_slice());
        bytes.extend_from_slice(message.as_slice());
        keccak256(bytes)
    }

    /// Whether a bid is for this auction at all, checked in the auctioneer's order.
    ///
    /// # Errors
    /// When it is for another contract or chain, or names no controller.
    pub(crate) fn check(&self, bid: &TimeboostBid) -> Result<(), TimeboostError> {
        let round = bid.round;
        if bid.auction_contract != self.contract {
            return Err(TimeboostError::WrongContract { round, wanted: self.contract, got: bid.auction_contract });
        }
        if bid.express_lane_controller.is_zero() {
            return Err(TimeboostError::NoController { round });
        }
        if bid.chain != U256::from(self.chain) {
            return Err(TimeboostError::WrongChain { wanted: self.chain, got: bid.chain });
        }
        Ok(())
    }

    /// Who signed a bid.
    ///
    /// # Errors
    /// When the signature has not 65 bytes, v is neither 27 nor 28, s is in the upper half of its range (EIP-2), or no key signs
    /// so.
    pub fn bidder(&self, bid: &TimeboostBid) -> Result<Address, TimeboostError> {
        let round = bid.round;
        let bytes: &[u8] = &bid.signature;
        let Ok(signature) = <&[u8; 65]>::try_from(bytes) else {
            return Err(TimeboostError::SignatureLength { round, bytes: bytes.len() });
        };
        let v = signature[64];
        if !matches!(v, 27 | 28) {
            return Err(TimeboostError::SignatureParity { round, v });
        }
        if Signature::from_raw_array(signature).is_ok_and(|signature| signature.normalize_s().is_some()) {
            return Err(TimeboostError::SignatureMalleable { round });
        }
        recover(self.digest(bid), signature).map_err(|_| TimeboostError::Unrecoverable { round })
    }
}

/// What decides between offers of the same amount: the greater number wins. It is the hash of the bidder and the digest that it
/// signed, read as an integer, as in Timeboost's contract.
///
/// A bidder can try many digests until one hashes high. That wins it nothing but ties, in which its offer is what it pays.
pub fn tie_break(bidder: Address, digest: B256) -> U256 {
    let mut bytes = [0; 52];
    bytes[..20].copy_from_slice(bidder.as_slice());
    bytes[20..].copy_from_slice(digest.as_slice());
    U256::from_be_bytes(keccak256(bytes).0)
}

/// The hash of a struct's type hash and fields, a word each (EIP-712, `hashStruct`).
fn hash_words(words: &[B256]) -> B256 {
    let mut hasher = Keccak256::new();
    for word in words {
        hasher.update(word);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use alloy_primitives::address;

    use super::*;

    /// The auction on Arbitrum One.
    const DOMAIN: TimeboostDomain =
        TimeboostDomain { chain: 42_161, contract: address!("5fcb496a31b7AE91e7c9078Ec662bd7A55cd3079") };

    fn bid() -> TimeboostBid {
        TimeboostBid {
            chain: U256::from(42_161),
            express_lane_controller: Address::repeat_byte(1),
            auction_contract: DOMAIN.contract,
            round: 7,
            amount: U256::from(100),
            signature: Bytes::from(vec![1; 65]),
        }
    }

    #[test]
    fn the_published_type_hash_is_that_of_the_type() {
        assert_eq!(keccak256(TIMEBOOST_BID_TYPE), TIMEBOOST_BID_TYPEHASH);
        // The type hash of this domain is the one that most of EIP-712 uses.
        assert_eq!(keccak256(DOMAIN_TYPE), b256!("8b73c3c69bb8fe3d512ecc4cf759cc79239f7b179b0ffacaa9a75d522b39400f"));
    }

    #[test]
    fn what_is_signed_covers_round_controller_amount_and_auction() {
        let digest = DOMAIN.digest(&bid());
        let others = [
            DOMAIN.digest(&TimeboostBid { round: 8, ..bid() }),
            DOMAIN.digest(&TimeboostBid { express_lane_controller: Address::repeat_byte(2), ..bid() }),
            DOMAIN.digest(&TimeboostBid { amount: U256::from(101), ..bid() }),
            TimeboostDomain { chain: 42_170, ..DOMAIN }.digest(&bid()),
            TimeboostDomain { contract: Address::ZERO, ..DOMAIN }.digest(&bid()),
        ];
        assert!(others.iter().all(|other| *other != digest));
        assert_eq!(bid().offer(&DOMAIN, Address::ZERO, 3).digest, digest);
    }

    #[test]
    fn signatures_that_timeboost_refuses_are_refused() {
        let signed = |bytes: Vec<u8>| DOMAIN.bidder(&TimeboostBid { signature: bytes.into(), ..bid() }).unwrap_err();
        assert_eq!(signed(vec![1; 64]), TimeboostError::SignatureLength { round: 7, bytes: 64 });
        assert_eq!(signed(vec![27; 66]), TimeboostError::SignatureLength { round: 7, bytes: 66 });
        assert_eq!(signed(vec![1; 65]), TimeboostError::SignatureParity { round: 7, v: 1 });
        assert_eq!(signed([vec![1; 64], vec![0]].concat()), TimeboostError::SignatureParity { round: 7, v: 0 });
        assert_eq!(signed([vec![0; 64], vec![27]].concat()), TimeboostError::Unrecoverable { round: 7 });
        assert_eq!(signed([vec![1; 32], vec![0x80; 32], vec![28]].concat()), TimeboostError::SignatureMalleable { round: 7 });
    }
}

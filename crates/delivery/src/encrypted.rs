//! Transactions that nobody can read before their order is fixed.
//!
//! A committee has a key of which each member holds a share; so many of them as the key needs open a ciphertext together, fewer
//! learn nothing. The scheme is the threshold encryption of Baek and Zheng ("Simple and efficient threshold cryptosystem from the
//! gap Diffie-Hellman group", GLOBECOM 2003) over BLS12-381, as `blsttc` does it: no ciphertext can be changed into a valid other
//! one, and every share can be checked against the member's public part.
//!
//! What is encrypted is `keccak256(transaction)[..4] || length (4 bytes, big-endian) || transaction || zeros`, up to a multiple of
//! [`PADDING`] bytes, so that its length tells little. The first four bytes tell a wrong share from a good one without checking
//! any.

mod opening;

use std::fmt;

use alloy_primitives::{B256, Bytes, keccak256};
use blsttc::{
    PK_SIZE, PublicKey, PublicKeySet, SK_SIZE, SecretKeySet, SecretKeyShare,
    rand::{SeedableRng, rngs::StdRng},
};

pub use opening::{Opening, Unopened};

/// What the length of a plaintext is a multiple of, in bytes.
pub const PADDING: usize = 256;
/// The longest ciphertext that is taken, in bytes: a transaction of 32 KiB.
pub const MAX_CIPHERTEXT_BYTES: usize = 33_168;
/// How many ciphertexts are opened for a rollup and slot at the most: a member checks each of them, which takes a millisecond.
pub const MAX_ENCRYPTED: usize = 64;
/// How long they may be together, in bytes.
pub const MAX_ENCRYPTED_BYTES: usize = 768 << 10;
/// The most members that a committee has.
pub const MAX_MEMBERS: usize = 64;

/// What comes before the transaction in a plaintext.
const CHECK_BYTES: usize = 4;
const LENGTH_BYTES: usize = 4;
/// A point of each of the curve's groups comes before the encrypted bytes.
const HEAD_BYTES: usize = PK_SIZE + blsttc::SIG_SIZE;

/// What is wrong with a key, a share or a ciphertext.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEncryption {
    /// A committee's key.
    #[error("not the key of a committee: 1 to {MAX_MEMBERS} points of BLS12-381's first group, 48 bytes each")]
    CommitteeKey,
    /// The key that ciphertexts are made for.
    #[error("not a public key: a point of BLS12-381's first group, 48 bytes")]
    PublicKey,
    /// A member's share of the key.
    #[error("not a member's key: {SK_SIZE} bytes of a number below the group's order")]
    MemberKey,
    /// A committee that cannot be.
    #[error("a committee has 1 to {MAX_MEMBERS} members, and at least one and at most all of them open a ciphertext")]
    Committee,
    /// A ciphertext that is too long.
    #[error("a ciphertext has {bytes} bytes, and may have {MAX_CIPHERTEXT_BYTES}")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// A ciphertext that is none, or that was changed.
    #[error("not a ciphertext: its points are not on the curve, or it was not made by whoever knows what is in it")]
    Ciphertext,
}

impl InvalidEncryption {
    /// Stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::CommitteeKey | Self::PublicKey | Self::MemberKey | Self::Committee => "invalid_committee",
            Self::TooLong { .. } => "ciphertext_too_long",
            Self::Ciphertext => "invalid_ciphertext",
        }
    }
}

/// The public part of a committee's key: what is encrypted for, and what shares are checked by.
#[derive(Clone, PartialEq, Eq)]
pub struct CommitteeKey(PublicKeySet);

impl fmt::Debug for CommitteeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommitteeKey({})", Bytes::copy_from_slice(&self.public_key()))
    }
}

impl CommitteeKey {
    /// Reads what [`CommitteeKey::to_bytes`] wrote.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidEncryption> {
        let points = bytes.len() / PK_SIZE;
        if points == 0 || points > MAX_MEMBERS || !bytes.len().is_multiple_of(PK_SIZE) {
            return Err(InvalidEncryption::CommitteeKey);
        }
        PublicKeySet::from_bytes(bytes.to_vec()).map(Self).map_err(|_| InvalidEncryption::CommitteeKey)
    }

    /// The commitments to the polynomial that the shares lie on, 48 bytes each.
    pub fn to_bytes(&self) -> Bytes {
        self.0.to_bytes().into()
    }

    /// The key to encrypt for: a compressed point of the curve's first group.
    pub fn public_key(&self) -> [u8; PK_SIZE] {
        self.0.public_key().to_bytes()
    }

    /// How many members open a ciphertext together.
    pub fn needed(&self) -> usize {
        self.0.threshold() + 1
    }
}

/// A member's share of the key. It is wiped from memory when it is dropped.
#[derive(Clone)]
pub struct MemberKey(SecretKeyShare);

impl fmt::Debug for MemberKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemberKey")
    }
}

impl MemberKey {
    /// Reads a share.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidEncryption> {
        let bytes: [u8; SK_SIZE] = bytes.try_into().map_err(|_| InvalidEncryption::MemberKey)?;
        SecretKeyShare::from_bytes(bytes).map(Self).map_err(|_| InvalidEncryption::MemberKey)
    }

    /// The share itself, to be kept.
    pub fn reveal(&self) -> [u8; SK_SIZE] {
        self.0.to_bytes()
    }

    /// What this member adds to opening a ciphertext: a compressed point of the curve's first group.
    pub fn share(&self, ciphertext: &Ciphertext) -> Bytes {
        // Every ciphertext was checked when it was parsed; without that a share could be had of something made up.
        Bytes::copy_from_slice(&self.0.decrypt_share_no_verify(&ciphertext.inner).to_bytes())
    }

    /// Whether it is the share of a committee's member.
    pub fn is_of(&self, committee: &CommitteeKey, member: u32) -> bool {
        committee.0.public_key_share(u64::from(member)) == self.0.public_key_share()
    }
}

/// Makes a committee's key and deals its shares. Whoever deals knows the whole key until it is forgotten.
///
/// # Errors
/// When there are no members, too many, or fewer than are needed.
pub fn deal(members: usize, needed: usize, seed: B256) -> Result<(CommitteeKey, Vec<MemberKey>), InvalidEncryption> {
    if members == 0 || members > MAX_MEMBERS || needed == 0 || needed > members {
        return Err(InvalidEncryption::Committee);
    }
    let set = SecretKeySet::try_random(needed - 1, &mut StdRng::from_seed(seed.0)).map_err(|_| InvalidEncryption::Committee)?;
    let shares = (0..members as u64).map(|member| MemberKey(set.secret_key_share(member))).collect();
    Ok((CommitteeKey(set.public_keys()), shares))
}

/// Encrypts a transaction's EIP-2718 bytes for a committee. The seed has to be new each time and known to nobody.
///
/// # Errors
/// When the key is none, or the transaction is too long.
pub fn encrypt(public_key: &[u8], transaction: &[u8], seed: B256) -> Result<Bytes, InvalidEncryption> {
    let key: [u8; PK_SIZE] = public_key.try_into().map_err(|_| InvalidEncryption::PublicKey)?;
    let key = PublicKey::from_bytes(key).map_err(|_| InvalidEncryption::PublicKey)?;
    let plain = pad(transaction);
    let bytes = plain.len().saturating_add(HEAD_BYTES);
    if bytes > MAX_CIPHERTEXT_BYTES {
        return Err(InvalidEncryption::TooLong { bytes });
    }
    Ok(key.encrypt_with_rng(&mut StdRng::from_seed(seed.0), plain).to_bytes().into())
}

/// A ciphertext that was made by somebody who knows what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ciphertext {
    raw: Bytes,
    inner: blsttc::Ciphertext,
}

impl Ciphertext {
    /// Reads and checks it: two points and the encrypted bytes.
    ///
    /// # Errors
    /// When it is none, is too long, or was changed.
    pub fn parse(raw: Bytes) -> Result<Self, InvalidEncryption> {
        if raw.len() > MAX_CIPHERTEXT_BYTES {
            return Err(InvalidEncryption::TooLong { bytes: raw.len() });
        }
        let inner = blsttc::Ciphertext::from_bytes(&raw).map_err(|_| InvalidEncryption::Ciphertext)?;
        if inner.verify() { Ok(Self { raw, inner }) } else { Err(InvalidEncryption::Ciphertext) }
    }

    /// Its bytes.
    pub const fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// Keccak-256 of its bytes, which names it.
    pub fn hash(&self) -> B256 {
        keccak256(&self.raw)
    }
}

fn pad(transaction: &[u8]) -> Vec<u8> {
    let length = u32::try_from(transaction.len()).unwrap_or(u32::MAX);
    let mut plain = keccak256(transaction)[..CHECK_BYTES].to_vec();
    plain.extend_from_slice(&length.to_be_bytes());
    plain.extend_from_slice(transaction);
    plain.resize(plain.len().next_multiple_of(PADDING), 0);
    plain
}

/// The transaction in a plaintext; `None` when it is not what [`pad`] makes but for the number of zeros.
fn unpad(plain: &[u8]) -> Option<Bytes> {
    let (check, rest) = plain.split_at_checked(CHECK_BYTES)?;
    let (length, rest) = rest.split_at_checked(LENGTH_BYTES)?;
    let length = usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()?;
    let (transaction, zeros) = rest.split_at_checked(length)?;
    let whole = zeros.iter().all(|byte| *byte == 0) && keccak256(transaction)[..CHECK_BYTES] == *check;
    whole.then(|| Bytes::copy_from_slice(transaction))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_padded_is_found_again(transaction: Vec<u8>) {
            let plain = pad(&transaction);
            prop_assert_eq!(plain.len() % PADDING, 0);
            prop_assert_eq!(unpad(&plain), Some(transaction.into()));
        }

        #[test]
        fn what_is_no_plaintext_is_told(bytes: Vec<u8>) {
            prop_assert_eq!(unpad(&bytes), None);
        }
    }

    #[test]
    fn keys_are_read_as_they_were_written_and_nothing_else_is_one() {
        let (committee, members) = deal(3, 2, B256::ZERO).unwrap();
        assert_eq!(committee.needed(), 2);
        assert_eq!(CommitteeKey::parse(&committee.to_bytes()), Ok(committee.clone()));
        for (index, member) in (0..).zip(&members) {
            let read = MemberKey::parse(&member.reveal()).unwrap();
            assert!(read.is_of(&committee, index) && !read.is_of(&committee, index + 1));
        }
        for bytes in [&[][..], &[0; 48], &committee.to_bytes()[..95]] {
            assert_eq!(CommitteeKey::parse(bytes), Err(InvalidEncryption::CommitteeKey));
        }
        assert!(MemberKey::parse(&[0xff; 32]).is_err() && MemberKey::parse(&[1; 31]).is_err());
        for (members, needed) in [(0, 0), (1, 0), (2, 3), (MAX_MEMBERS + 1, 1)] {
            assert_eq!(deal(members, needed, B256::ZERO).err(), Some(InvalidEncryption::Committee));
        }
        assert_eq!(encrypt(&[7; 48], &[1], B256::ZERO), Err(InvalidEncryption::PublicKey));
        let long = encrypt(&committee.public_key(), &vec![1; MAX_CIPHERTEXT_BYTES], B256::ZERO);
        assert!(matches!(long, Err(InvalidEncryption::TooLong { .. })));
        assert!(encrypt(&committee.public_key(), &[1; 32_768], B256::ZERO).is_ok());
    }

    #[test]
    fn a_ciphertext_that_was_changed_anywhere_is_none() {
        let (committee, _) = deal(1, 1, B256::ZERO).unwrap();
        let raw = encrypt(&committee.public_key(), &[1, 2, 3], B256::ZERO).unwrap();
        let parsed = Ciphertext::parse(raw.clone()).unwrap();
        assert_eq!((parsed.raw(), parsed.hash()), (&raw, keccak256(&raw)));
        for at in [0, 47, 48, 143, 144, raw.len() - 1] {
            let mut changed = raw.to_vec();
            changed[at] ^= 1;
            assert_eq!(Ciphertext::parse(changed.into()), Err(InvalidEncryption::Ciphertext), "byte {at}");
        }
        assert_eq!(Ciphertext::parse(raw.slice(..raw.len() - 1)), Err(InvalidEncryption::Ciphertext));
        let long = Ciphertext::parse(vec![0; MAX_CIPHERTEXT_BYTES + 1].into());
        assert_eq!(long, Err(InvalidEncryption::TooLong { bytes: MAX_CIPHERTEXT_BYTES + 1 }));
    }
}

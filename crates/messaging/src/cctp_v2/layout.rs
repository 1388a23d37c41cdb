//! The bytes of a CCTP v2 message (evm-cctp-contracts, `MessageV2.sol` and `BurnMessageV2.sol`).
//!
//! What is emitted is a template: the attesters fill in the nonce and the executed finality of every message, and the executed
//! fee and the expiration block of a burn, before they sign.

use alloy_primitives::{Address, B256, Bytes, U256};
use lockstep_primitives::Reason;

use crate::cctp::{u32_at, u256_at, word_at};

/// The header version of all v2 messages, and the body version of burns.
pub(super) const VERSION: u32 = 1;

pub(super) const NONCE: usize = 12;
const EXECUTED_FINALITY: usize = 144;
/// Bytes of the header.
const HEADER_LENGTH: usize = 148;
const FEE: usize = HEADER_LENGTH + 164;
const EXPIRATION: usize = HEADER_LENGTH + 196;
/// Bytes of a burn message without hook data.
const BURN_LENGTH: usize = HEADER_LENGTH + 228;

/// The fields of the header that attesters leave alone: name, first byte, end.
const FIXED_HEADER: [(&str, usize, usize); 7] = [
    ("version", 0, 4),
    ("source domain", 4, 8),
    ("destination domain", 8, 12),
    ("sender", 44, 76),
    ("recipient", 76, 108),
    ("destination caller", 108, 140),
    ("least finality", 140, 144),
];
/// The same of a burn's body.
const FIXED_BURN: [(&str, usize, usize); 6] = [
    ("body version", 148, 152),
    ("burn token", 152, 184),
    ("mint recipient", 184, 216),
    ("amount", 216, 248),
    ("message sender", 248, 280),
    ("highest fee", 280, 312),
];

/// The header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) source: u32,
    pub(super) destination: u32,
    pub(super) nonce: B256,
    /// Who alone may deliver; zero is anyone.
    pub(super) caller: B256,
    pub(super) least_finality: u32,
    pub(super) executed_finality: u32,
}

impl Header {
    fn read(message: &[u8]) -> Option<Self> {
        Some(Self {
            source: u32_at(message, 4)?,
            destination: u32_at(message, 8)?,
            nonce: word_at(message, NONCE)?,
            caller: word_at(message, 108)?,
            least_finality: u32_at(message, 140)?,
            // The last field: a message in which it is whole has a whole header.
            executed_finality: u32_at(message, EXECUTED_FINALITY)?,
        })
    }

    /// The header of a message as it is emitted.
    ///
    /// # Errors
    /// [`Reason::MalformedMessage`] when it is none, or what attesters fill in is there already.
    pub(super) fn of_template(message: &[u8]) -> Result<Self, Reason> {
        let malformed = |text: String| Err(Reason::MalformedMessage(text));
        let Some(header) = Self::read(message) else {
            return malformed(format!("{} bytes are less than a header", message.len()));
        };
        match u32_at(message, 0) {
            Some(VERSION) => {}
            version => return malformed(format!("its version is {}, not {VERSION}", version.unwrap_or_default())),
        }
        if !header.nonce.is_zero() {
            return malformed(format!("its nonce is {} before it is attested", header.nonce));
        }
        if header.executed_finality != 0 {
            return malformed(format!("its executed finality is {} before it is attested", header.executed_finality));
        }
        Ok(header)
    }
}

/// A burn as a message tells of it, template or attested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BurnMessageV2<'a> {
    /// The token that was burned, on the origin.
    pub burn_token: Address,
    /// Who receives the mint.
    pub mint_recipient: B256,
    /// What was burned, in the token's smallest unit.
    pub amount: U256,
    /// Who burned.
    pub message_sender: Address,
    /// The highest fee that may be taken of it, in the token's smallest unit.
    pub max_fee: U256,
    /// The fee that is taken of it; zero before it is attested.
    pub fee_executed: U256,
    /// The destination's block from which on it is not accepted; zero for never, and before it is attested.
    pub expiration_block: U256,
    /// What a hook is to do. The contracts of CCTP do not look at it.
    pub hook_data: &'a [u8],
}

impl<'a> BurnMessageV2<'a> {
    /// Reads a message, header included. `None` when it tells of no burn: it has another body, or numbers that no
    /// `TokenMessengerV2` of an EVM chain lets pass. A message that looks like a burn in every field is one for the attesters,
    /// too, as far as the message itself tells.
    pub fn read(message: &'a [u8]) -> Option<Self> {
        let body = HEADER_LENGTH;
        let burn = Self {
            burn_token: address_at(message, body + 4)?,
            mint_recipient: word_at(message, body + 36)?,
            amount: u256_at(message, body + 68)?,
            message_sender: address_at(message, body + 100)?,
            max_fee: u256_at(message, body + 132)?,
            fee_executed: u256_at(message, FEE)?,
            expiration_block: u256_at(message, EXPIRATION)?,
            hook_data: message.get(BURN_LENGTH..)?,
        };
        let versions = u32_at(message, 0)? == VERSION && u32_at(message, body)? == VERSION;
        // `depositForBurn`: "Mint recipient must be nonzero", "Max fee must be less than amount".
        (versions && !burn.mint_recipient.is_zero() && burn.max_fee < burn.amount).then_some(burn)
    }

    /// Reads a message as it is emitted: nothing is filled in.
    pub(super) fn of_template(message: &'a [u8]) -> Option<Self> {
        Self::read(message).filter(|burn| burn.fee_executed.is_zero() && burn.expiration_block.is_zero())
    }
}

/// An address that is padded to 32 bytes; `None` when the padding is not zero.
fn address_at(message: &[u8], offset: usize) -> Option<Address> {
    let word = word_at(message, offset)?;
    let address = Address::from_word(word);
    (address.into_word() == word).then_some(address)
}

/// What attesters filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilledV2 {
    /// Names the message on its destination for ever.
    pub nonce: B256,
    /// How final the attesters saw the message: 2000 is final, less is not.
    pub finality_executed: u32,
    /// The fee, in the token's smallest unit; zero when the message is no burn.
    pub fee_executed: U256,
    /// The destination's block from which on the message is not accepted; zero for never.
    pub expiration_block: U256,
}

/// The message that attesters sign for an emitted `template`.
///
/// # Errors
/// [`Reason::MalformedMessage`] when it is no template; [`Reason::NoEvidence`] when it is no burn, and fee or expiration are not
/// zero: its body is its sender's alone.
pub fn fill(template: &[u8], nonce: B256, executed: u32, fee: U256, expiration: U256) -> Result<Bytes, Reason> {
    Header::of_template(template)?;
    let mut message = template.to_vec();
    let mut put = |offset: usize, bytes: &[u8]| message[offset..offset + bytes.len()].copy_from_slice(bytes);
    put(NONCE, nonce.as_slice());
    put(EXECUTED_FINALITY, &executed.to_be_bytes());
    if BurnMessageV2::of_template(template).is_some() {
        put(FEE, &fee.to_be_bytes::<32>());
        put(EXPIRATION, &expiration.to_be_bytes::<32>());
    } else if !fee.is_zero() || !expiration.is_zero() {
        return Err(Reason::NoEvidence("a message that tells of no burn has neither a fee nor an expiration".to_owned()));
    }
    Ok(message.into())
}

/// What attesters filled in of an emitted `template`.
///
/// # Errors
/// [`Reason::MalformedMessage`] when it is no template; [`Reason::NoEvidence`] when `attested` differs from it elsewhere, with
/// the name of the first field that does.
pub fn filled(template: &[u8], attested: &[u8]) -> Result<FilledV2, Reason> {
    Header::of_template(template)?;
    let differs = |field: &str| Reason::NoEvidence(format!("the attested message differs in its {field} from the one sent"));
    if attested.len() != template.len() {
        return Err(differs("length"));
    }
    let burns = BurnMessageV2::of_template(template).is_some();
    let fields: &[(&str, usize, usize)] = if burns { &FIXED_BURN } else { &[] };
    let (name, start) = if burns { ("hook", BURN_LENGTH) } else { ("body", HEADER_LENGTH) };
    let rest = (name, start, template.len());
    for (name, start, end) in FIXED_HEADER.iter().chain(fields).chain([&rest]) {
        if template.get(*start..*end) != attested.get(*start..*end) {
            return Err(differs(name));
        }
    }
    let short = || differs("length");
    let of_burn = |offset| if burns { u256_at(attested, offset).ok_or_else(short) } else { Ok(U256::ZERO) };
    let header = Header::read(attested).ok_or_else(short)?;
    Ok(FilledV2 {
        nonce: header.nonce,
        finality_executed: header.executed_finality,
        fee_executed: of_burn(FEE)?,
        expiration_block: of_burn(EXPIRATION)?,
    })
}

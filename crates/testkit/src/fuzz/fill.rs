//! What CCTP v2's attesters fill in.

use std::ops::Range;

use alloy_primitives::U256;
use lockstep_messaging::{
    BurnMessageV2, FilledV2,
    cctp_v2::{fill, filled},
};

use super::{logs::cctp_v2_template, source::Source};

// Bytes of a message (evm-cctp-contracts, `MessageV2.sol`, `BurnMessageV2.sol`).
const NONCE: Range<usize> = 12..44;
const EXECUTED_FINALITY: Range<usize> = 144..148;
const FEE_AND_EXPIRATION: Range<usize> = 312..376;
const BODY: usize = 148;

/// Fills in the template of a message, well-formed or not, and reads it back.
///
/// What was filled in is read, nothing else has changed, and exactly the bytes that attesters fill in may differ. A burn's
/// fields encode back to its bytes. A message that tells of no burn takes no fee and no expiration.
pub fn cctp_v2_fill(data: &[u8]) {
    let mut source = Source::new(data);
    let mut template = if source.byte() % 4 == 3 { source.bytes(600).to_vec() } else { cctp_v2_template(&mut source) };
    if source.byte() % 4 == 3 {
        source.flip(&mut template);
    }
    let (nonce, executed) = (source.word(), source.u32());
    let (fee, expiration) = if source.coin() { (source.u256(), source.u256()) } else { (U256::ZERO, U256::ZERO) };
    let message = match fill(&template, nonce, executed, fee, expiration) {
        Ok(message) => message,
        Err(reason) => {
            match reason.code() {
                "malformed_message" => {
                    let read = filled(&template, &template).map_err(|reason| reason.code());
                    assert_eq!(read, Err("malformed_message"), "what cannot be filled in is read as filled in");
                }
                "no_evidence" => assert!(!fee.is_zero() || !expiration.is_zero(), "{reason}"),
                other => panic!("refused with {other}: {reason}"),
            }
            return;
        }
    };
    let read = FilledV2 { nonce, finality_executed: executed, fee_executed: fee, expiration_block: expiration };
    assert_eq!(filled(&template, &message), Ok(read));
    let blank = |burn: &BurnMessageV2<'_>| burn.fee_executed.is_zero() && burn.expiration_block.is_zero();
    let burn = BurnMessageV2::read(&template).filter(blank);
    if let Some(burn) = burn {
        let attested = BurnMessageV2 { fee_executed: fee, expiration_block: expiration, ..burn };
        assert_eq!(BurnMessageV2::read(&message), Some(attested));
        assert_eq!(message[BODY..], body(&attested));
    }

    let attesters = |at: usize| {
        NONCE.contains(&at) || EXECUTED_FINALITY.contains(&at) || (burn.is_some() && FEE_AND_EXPIRATION.contains(&at))
    };
    assert_eq!(message.len(), template.len());
    for (at, (before, after)) in template.iter().zip(message.iter()).enumerate() {
        assert!(before == after || attesters(at), "byte {at} is not the attesters' to fill in");
    }
    let mut other = message.to_vec();
    let at = source.index(other.len());
    other[at] ^= 1_u8 << (source.byte() % 8);
    assert_eq!(filled(&template, &other).is_ok(), attesters(at), "byte {at} differs");
    let mut longer = message.to_vec();
    longer.push(source.byte());
    assert!(filled(&template, &longer).is_err(), "a message grows");
    assert!(filled(&template, &message[..at]).is_err(), "a message shrinks");
}

/// A burn's body, written field by field.
fn body(burn: &BurnMessageV2<'_>) -> Vec<u8> {
    let mut body = 1_u32.to_be_bytes().to_vec();
    body.extend_from_slice(burn.burn_token.into_word().as_slice());
    body.extend_from_slice(burn.mint_recipient.as_slice());
    body.extend(burn.amount.to_be_bytes::<32>());
    body.extend_from_slice(burn.message_sender.into_word().as_slice());
    body.extend(burn.max_fee.to_be_bytes::<32>());
    body.extend(burn.fee_executed.to_be_bytes::<32>());
    body.extend(burn.expiration_block.to_be_bytes::<32>());
    body.extend_from_slice(burn.hook_data);
    body
}

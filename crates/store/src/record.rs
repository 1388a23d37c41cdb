//! How a record lies in its table: 1 byte version, 4 bytes CRC-32 (IEEE, big-endian) of the payload, payload.
//!
//! redb's own page checksums are verified when it repairs a file, not on every read. The frame is what tells a reader
//! that the bytes in its hand are the bytes that were written.

use crate::Damage;

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 5;

/// The record of a payload.
pub(crate) fn frame(payload: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(HEADER_BYTES + payload.len());
    framed.push(VERSION);
    framed.extend_from_slice(&crc32fast::hash(payload).to_be_bytes());
    framed.extend_from_slice(payload);
    framed
}

/// The payload of a record.
pub(crate) fn payload(framed: &[u8]) -> Result<&[u8], Damage> {
    let Some((&[version, a, b, c, d], payload)) = framed.split_first_chunk::<HEADER_BYTES>() else {
        return Err(Damage::Truncated { bytes: framed.len() });
    };
    if version != VERSION {
        return Err(Damage::UnknownVersion { found: version });
    }
    let stored = u32::from_be_bytes([a, b, c, d]);
    let computed = crc32fast::hash(payload);
    if stored != computed {
        return Err(Damage::Checksum { stored, computed });
    }
    Ok(payload)
}

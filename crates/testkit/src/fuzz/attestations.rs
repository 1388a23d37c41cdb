//! Signatures of CCTP's attesters.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, U256, b256, keccak256};
use lockstep_messaging::{CctpV1, Evidence, EvidenceRequest, Message, Protocol, check_attestation};
use lockstep_primitives::SignatureBytes;

use super::{
    rollups::{DESTINATION, ORIGIN, PLACE},
    source::Source,
};
use crate::{attesters, deployer, sign_digest};

/// Order of secp256k1 (SEC 2, section 2.4.1).
const ORDER: B256 = b256!("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141");
/// One more than there are attesters.
const MOST_SIGNATURES: usize = 4;

/// Presents signatures: attesters' own, of other messages, of strangers, spoiled, of other spellings, and of arbitrary bytes.
///
/// Exactly the enabled attesters' own signatures over the message are accepted, as many as the threshold says and by rising
/// address. An attester signs a digest in one way only here, so everything else is a forgery, however it was made. Stand-ins,
/// which a simulation accepts, are never accepted.
pub fn attestation(data: &[u8]) {
    let mut source = Source::new(data);
    let disabled = source.byte();
    let threshold = source.index(MOST_SIGNATURES + 1);
    let payload = source.bytes(600);
    let digest = keccak256(&payload);
    let own: BTreeMap<SignatureBytes, Address> =
        attesters().iter().map(|key| (sign_digest(key, digest).as_bytes(), key.address())).collect();
    let addresses = attesters().iter().map(|key| key.address()).enumerate();
    let mut enabled: Vec<Address> =
        addresses.filter(|(index, _)| disabled & (1_u8 << *index) == 0).map(|(_, address)| address).collect();
    let mut signatures: Vec<SignatureBytes> =
        (0..source.index(MOST_SIGNATURES + 1)).map(|_| signature(&mut source, digest)).collect();
    if !source.coin() {
        signatures.sort_by_key(|signature| own.get(signature).copied());
    }

    let signers: Option<Vec<Address>> =
        signatures.iter().map(|signature| own.get(signature).copied().filter(|signer| enabled.contains(signer))).collect();
    let rising = signers.is_some_and(|signers| signers.is_sorted_by(|one, other| one < other));
    let accepted = threshold > 0 && signatures.len() == threshold && rising;
    let checked = check_attestation(&payload, &signatures, &enabled, threshold);
    assert_eq!(checked.is_ok(), accepted, "{signatures:?} over {payload}: {checked:?}");
    assert!(checked.is_ok() || checked.is_err_and(|reason| reason.code() == "no_evidence"));

    enabled.sort();
    let request = EvidenceRequest { message: message(payload.clone()), payload, digest, signers: enabled };
    let (stand_in, stand_ins) = CctpV1::new(BTreeMap::new()).stand_in(&request);
    let Evidence::Attestation { payload, signatures } = stand_in else { panic!("attesters are stood in for by {stand_in:?}") };
    assert_eq!((payload, signatures.len(), stand_ins.len()), (request.payload, request.signers.len(), request.signers.len()));
    let real = check_attestation(&request.message.payload, &signatures, &request.signers, signatures.len());
    assert!(real.is_err(), "a stand-in passes for a signature");
}

fn message(payload: Bytes) -> Message {
    Message {
        protocol: "cctp-v1",
        id: keccak256(&payload),
        origin: ORIGIN,
        destination: Some(DESTINATION),
        destination_name: "CCTP domain 2".to_owned(),
        restricted_to: None,
        payload,
        place: PLACE,
    }
}

fn signature(source: &mut Source<'_>, digest: B256) -> SignatureBytes {
    let key = &attesters()[source.index(attesters().len())];
    let own = sign_digest(key, digest).as_bytes();
    match source.byte() % 12 {
        0..=5 => own,
        6 => sign_digest(key, keccak256(digest)).as_bytes(),
        7 => sign_digest(deployer(), digest).as_bytes(),
        8 => {
            let mut spoiled = own;
            source.flip(&mut spoiled);
            spoiled
        }
        9 => twin(own),
        10 => {
            let mut zero_based = own;
            zero_based[64] -= 27;
            zero_based
        }
        _ => source.array(),
    }
}

/// The other signature that recovers the same key: with a high s.
fn twin(own: SignatureBytes) -> SignatureBytes {
    let mut twin = own;
    let s = U256::from_be_slice(&own[32..64]);
    twin[32..64].copy_from_slice(&(U256::from_be_bytes(ORDER.0) - s).to_be_bytes::<32>());
    twin[64] = 27 + 28 - own[64];
    twin
}

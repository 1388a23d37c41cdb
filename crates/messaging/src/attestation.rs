//! What the protocols with attesters share: whom to ask, and how a signature that is not there yet is stood in for.

use alloy_primitives::{Address, Bytes, keccak256};
use lockstep_primitives::{Reason, SignatureBytes, StandIn};

use crate::{Evidence, EvidenceRequest, Message};

/// The request to attest `payload` for a message: of the attesters that are asked, the `threshold` with the lowest addresses.
pub(crate) fn request(
    message: &Message,
    payload: Bytes,
    attesters: &[Address],
    threshold: usize,
) -> Result<EvidenceRequest, Reason> {
    let mut signers = attesters.to_vec();
    signers.sort();
    signers.dedup();
    if threshold == 0 || signers.len() < threshold {
        return Err(Reason::NoEvidence(format!("{} attesters are configured, {threshold} have to sign", signers.len())));
    }
    signers.truncate(threshold);
    Ok(EvidenceRequest { message: message.clone(), digest: keccak256(&payload), payload, signers })
}

/// Signatures that only a simulation accepts, by rising address of the signer.
pub(crate) fn stand_in(request: &EvidenceRequest) -> (Evidence, Vec<StandIn>) {
    let mut signatures = Vec::new();
    let mut stand_ins = Vec::new();
    for signer in &request.signers {
        // Any r and a low s do; hashing gives bytes as dense as a real signature's, so that calldata costs the same.
        let r = keccak256([request.digest.as_slice(), signer.as_slice(), b"r"].concat());
        let mut s = keccak256([request.digest.as_slice(), signer.as_slice(), b"s"].concat());
        s[0] = 0x3f;
        let mut signature: SignatureBytes = [0; 65];
        signature[..32].copy_from_slice(r.as_slice());
        signature[32..64].copy_from_slice(s.as_slice());
        signature[64] = 27;
        signatures.push(signature);
        stand_ins.push(StandIn { digest: request.digest, r, s, signer: *signer });
    }
    (Evidence::Attestation { payload: request.payload.clone(), signatures }, stand_ins)
}

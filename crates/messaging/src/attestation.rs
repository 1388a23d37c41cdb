//! What the protocols with attesters share: whom to ask, how a signature that is not there yet is stood in for, and what the
//! destination will accept.

use alloy_primitives::{Address, Bytes, keccak256};
use lockstep_primitives::{Reason, SignatureBytes, StandIn, recover};

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

/// Checks signatures as a transmitter of CCTP does (evm-cctp-contracts, `Attestable.sol`): exactly `threshold` of them over the
/// raw keccak-256 of `payload`, with v 27 or 28 and a low s, by strictly rising address of `attesters`.
///
/// # Errors
/// [`Reason::NoEvidence`] with the first that is wrong.
pub fn check_attestation(
    payload: &[u8],
    signatures: &[SignatureBytes],
    attesters: &[Address],
    threshold: usize,
) -> Result<(), Reason> {
    check_count(signatures, threshold)?;
    let digest = keccak256(payload);
    let mut last: Option<Address> = None;
    for (index, signature) in signatures.iter().enumerate() {
        let refuse = |text: String| Reason::NoEvidence(format!("signature {index} of the attestation {text}"));
        // Other ways to write v recover as well, but not on the chain.
        if !matches!(signature[64], 27 | 28) {
            return Err(refuse(format!("has a v of {}, not 27 or 28", signature[64])));
        }
        let signer = recover(digest, signature).map_err(|_| refuse("has a high s or recovers no key".to_owned()))?;
        if let Some(last) = last.filter(|last| signer <= *last) {
            return Err(refuse(format!("is by {signer}, which does not come after {last}")));
        }
        if !attesters.contains(&signer) {
            return Err(refuse(format!("is by {signer}, which is no attester")));
        }
        last = Some(signer);
    }
    Ok(())
}

/// A transmitter wants exactly as many signatures as its threshold: one more is as bad as one less.
pub(crate) fn check_count(signatures: &[SignatureBytes], threshold: usize) -> Result<(), Reason> {
    let count = signatures.len();
    if threshold == 0 || count != threshold {
        return Err(Reason::NoEvidence(format!("the attestation has {count} signatures, the threshold is {threshold}")));
    }
    Ok(())
}

//! CCTP v1 to the byte: what is recognised, asked of attesters, delivered and refused.

mod cctp;

use alloy_primitives::{Address, B256, Bytes, Log, U256, address, b256, keccak256, uint};
use alloy_sol_types::SolCall;
use lockstep_messaging::{CctpV1, CctpV1Deployment, Evidence, Protocol, check_attestation};
use lockstep_primitives::{Reason, SignatureBytes};
use proptest::prelude::*;

use crate::{
    abi::receiveMessageCall,
    cctp::{
        ATTESTERS, BASE, ETHEREUM, RECEIVE_MESSAGE, TRANSMITTER, attest, attester, attesters, block, message, received,
        recognise, request, sent, sign, unsigned,
    },
};

mod abi {
    alloy_sol_types::sol! {
        function receiveMessage(bytes message, bytes attestation) external returns (bool);
    }
}

/// Topic of v1's `MessageReceived(address,uint32,uint64,bytes32,bytes)`.
const MESSAGE_RECEIVED: B256 = b256!("58200b4c34ae05ee816d710053fff3fb75af4395915d3d2a771b24aa10e3cc5d");
const ORDER: U256 = uint!(0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141_U256);

fn deployment(domain: u32, threshold: usize) -> CctpV1Deployment {
    CctpV1Deployment { domain, message_transmitter: TRANSMITTER, attesters: attesters(), threshold }
}

fn protocol(threshold: usize) -> CctpV1 {
    CctpV1::new([(ETHEREUM, deployment(0, threshold)), (BASE, deployment(6, threshold))].into())
}

fn header(destination: u32, nonce: u64, caller: B256) -> Vec<u8> {
    let mut message = Vec::new();
    message.extend_from_slice(&0_u32.to_be_bytes());
    message.extend_from_slice(&0_u32.to_be_bytes());
    message.extend_from_slice(&destination.to_be_bytes());
    message.extend_from_slice(&nonce.to_be_bytes());
    message.extend_from_slice(address!("Bd3fa81B58Ba92a82136038B25aDec7066af3155").into_word().as_slice());
    message.extend_from_slice(address!("1682Ae6375C4E4A97e4B583BC394c861A46D8962").into_word().as_slice());
    message.extend_from_slice(caller.as_slice());
    message
}

/// A burn of 1 USDC from Ethereum, put together from the published layout.
fn burn(destination: u32, caller: B256) -> Vec<u8> {
    let mut message = header(destination, 1, caller);
    message.extend_from_slice(&0_u32.to_be_bytes());
    message.extend_from_slice(address!("A0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48").into_word().as_slice());
    message.extend_from_slice(Address::repeat_byte(0x22).into_word().as_slice());
    message.extend_from_slice(&U256::from(1_000_000).to_be_bytes::<32>());
    message.extend_from_slice(Address::repeat_byte(0x11).into_word().as_slice());
    message
}

fn plain_burn() -> Vec<u8> {
    burn(6, B256::ZERO)
}

#[test]
fn a_burn_is_recognised_and_asked_for_to_the_byte() {
    let payload = plain_burn();
    assert_eq!(payload.len(), 248);
    let message = message(&protocol(2), &payload);
    assert_eq!(message.payload.as_ref(), payload);
    assert_eq!((message.origin, message.destination, message.restricted_to), (ETHEREUM, Some(BASE), None));
    assert_eq!((message.place.index, message.destination_name.as_str()), (12, "CCTP domain 6"));
    let request = request(&protocol(2), &message, &block(5)).unwrap();
    assert_eq!(request.payload, message.payload, "what is attested is what was emitted");
    assert_eq!(request.digest, b256!("990ffbf15c167255539759c7233059b4e0130c8b1b4eb986fc60075ed19a35bb"));
    let mut lowest = attesters();
    lowest.sort();
    assert_eq!(request.signers, lowest[..2], "threshold many, by rising address");
}

#[test]
fn the_destination_marks_source_domain_and_nonce_as_used() {
    let payload = plain_burn();
    let key = keccak256([&payload[4..8], &payload[12..20]].concat());
    assert_eq!(key, b256!("7e7416e4b3108e1f483eecdd24b6a453455c92dd9a4900e4d91117a51c507461"));
}

#[test]
fn receive_message_carries_the_message_and_65_bytes_a_signer() {
    let protocol = protocol(3);
    let message = message(&protocol, &plain_burn());
    let request = request(&protocol, &message, &block(5)).unwrap();
    let (evidence, stand_ins) = protocol.stand_in(&request);
    let stood_in = protocol.deliver(&message, &evidence, &block(5)).unwrap();
    let attested = protocol.deliver(&message, &attest(&request), &block(5)).unwrap();
    for calls in [&stood_in, &attested] {
        assert_eq!(calls.len(), 1);
        assert_eq!((calls[0].to, &calls[0].data[..4]), (TRANSMITTER, RECEIVE_MESSAGE.as_slice()));
        let decoded = receiveMessageCall::abi_decode(&calls[0].data).unwrap();
        assert_eq!((decoded.message, decoded.attestation.len()), (message.payload.clone(), 3 * 65));
    }
    assert_eq!(stood_in[0].data.len(), attested[0].data.len(), "the real attestation takes the place of the stand-in");
    let decoded = receiveMessageCall::abi_decode(&stood_in[0].data).unwrap();
    assert_eq!(decoded.attestation[..32], stand_ins[0].r[..]);
    assert_eq!(stand_ins.iter().map(|stand_in| stand_in.signer).collect::<Vec<_>>(), request.signers);
}

#[test]
fn evidence_of_another_message_count_or_kind_is_not_delivered() {
    let protocol = protocol(2);
    let message = message(&protocol, &plain_burn());
    let refused = |evidence: &Evidence| protocol.deliver(&message, evidence, &block(5)).unwrap_err().code();
    assert_eq!(refused(&Evidence::Place), "no_evidence");
    assert_eq!(refused(&unsigned(message.payload.clone(), 1)), "no_evidence");
    assert_eq!(refused(&unsigned(message.payload.clone(), 3)), "no_evidence");
    assert_eq!(refused(&unsigned(burn(6, B256::with_last_byte(1)), 2)), "no_evidence");
}

#[test]
fn too_few_attesters_are_told_before_anything_is_built() {
    let protocol = protocol(ATTESTERS.len() + 1);
    let error = request(&protocol, &message(&protocol, &plain_burn()), &block(5)).unwrap_err();
    assert_eq!(error, Reason::NoEvidence("4 attesters are configured, 5 have to sign".into()));
    assert_eq!(request(&self::protocol(0), &message(&protocol, &plain_burn()), &block(5)).unwrap_err().code(), "no_evidence");
}

#[test]
fn a_caller_restricts_who_delivers_and_one_that_is_no_address_delivers_nowhere() {
    let protocol = protocol(1);
    let restricted = message(&protocol, &burn(6, Address::repeat_byte(7).into_word()));
    assert_eq!(restricted.restricted_to, Some(Address::repeat_byte(7)));
    let unusable = recognise(&protocol, ETHEREUM, &sent(&burn(6, B256::repeat_byte(7)))).unwrap().unwrap_err();
    assert_eq!(unusable.code(), "malformed_message");
    // On another kind of chain it may be somebody.
    let foreign = message(&protocol, &burn(5, B256::repeat_byte(7)));
    assert_eq!((foreign.destination, foreign.restricted_to), (None, None));
}

#[test]
fn a_replacement_is_the_same_message_and_needs_its_own_attestation() {
    let protocol = protocol(1);
    let first = message(&protocol, &plain_burn());
    let replaced = message(&protocol, &burn(6, Address::repeat_byte(7).into_word()));
    assert_eq!(first.id, replaced.id, "only one of them can be delivered");
    let evidence = attest(&request(&protocol, &first, &block(5)).unwrap());
    assert!(protocol.deliver(&first, &evidence, &block(5)).is_ok());
    assert_eq!(protocol.deliver(&replaced, &evidence, &block(5)).unwrap_err().code(), "no_evidence");
    let next = message(&protocol, &header(6, 2, B256::ZERO));
    assert_ne!(first.id, next.id);
}

#[test]
fn messages_that_are_no_burns_are_messages() {
    let protocol = protocol(1);
    for length in [0, 1, 131, 133, 10_000] {
        let mut bytes = header(6, 9, B256::ZERO);
        bytes.resize(bytes.len() + length, 0xab);
        let message = message(&protocol, &bytes);
        let evidence = attest(&request(&protocol, &message, &block(5)).unwrap());
        let calls = protocol.deliver(&message, &evidence, &block(5)).unwrap();
        assert_eq!(receiveMessageCall::abi_decode(&calls[0].data).unwrap().message.as_ref(), bytes);
    }
}

#[test]
fn a_message_to_elsewhere_is_told_by_its_domain() {
    let protocol = protocol(1);
    let elsewhere = message(&protocol, &burn(7, B256::ZERO));
    assert_eq!(elsewhere.destination, None);
    let wrong = Reason::WrongDestination { destination: "CCTP domain 7".into() };
    assert_eq!(request(&protocol, &elsewhere, &block(5)).unwrap_err(), wrong);
    assert_eq!(protocol.deliver(&elsewhere, &unsigned(elsewhere.payload.clone(), 1), &block(5)).unwrap_err(), wrong);
    // A configured destination, but not the one where it is delivered.
    let home = message(&protocol, &burn(0, B256::ZERO));
    assert_eq!(request(&protocol, &home, &block(5)).unwrap_err().code(), "wrong_destination");
}

#[test]
fn of_two_rollups_with_one_domain_the_lower_chain_id_is_the_destination() {
    let protocol = CctpV1::new([(ETHEREUM, deployment(0, 1)), (90, deployment(6, 1)), (80, deployment(6, 1))].into());
    assert_eq!(message(&protocol, &plain_burn()).destination, Some(80));
}

#[test]
fn what_is_not_for_us_is_not_recognised_and_what_is_broken_is_named() {
    let protocol = protocol(1);
    let mut foreign = sent(&plain_burn());
    foreign.address = Address::ZERO;
    assert!(recognise(&protocol, ETHEREUM, &foreign).is_none());
    assert!(recognise(&protocol, 10, &sent(&plain_burn())).is_none(), "nothing is deployed there");
    let mut v2 = plain_burn();
    v2[3] = 1;
    assert!(recognise(&protocol, ETHEREUM, &sent(&v2)).is_none());
    let code = |log: &Log| recognise(&protocol, ETHEREUM, log).unwrap().unwrap_err().code();
    assert_eq!(code(&sent(&plain_burn()[..115])), "malformed_message");
    assert_eq!(code(&sent(&[])), "malformed_message");
    let mut cut = sent(&plain_burn());
    cut.data.data = Bytes::copy_from_slice(&cut.data.data[..100]);
    assert_eq!(code(&cut), "malformed_message");
    let mut other_source = plain_burn();
    other_source[7] = 3;
    assert_eq!(code(&sent(&other_source)), "malformed_message");
}

#[test]
fn a_message_received_event_is_the_receipt_of_its_message() {
    let protocol = protocol(1);
    let message = message(&protocol, &plain_burn());
    let log = |nonce: u64| {
        let topics = vec![MESSAGE_RECEIVED, B256::repeat_byte(1), B256::from(U256::from(nonce))];
        received(topics, 0, &message.payload[116..])
    };
    let receipt = protocol.receipt(&message, None);
    assert!(receipt.is_some());
    assert_eq!(protocol.delivered(BASE, &log(1)), receipt);
    assert_ne!(protocol.delivered(BASE, &log(2)), receipt);
    assert_eq!(protocol.delivered(10, &log(1)), None, "nothing is deployed there");
    assert_eq!(protocol.delivered(BASE, &Log { address: Address::ZERO, ..log(1) }), None);
    assert_eq!(protocol.delivered(BASE, &sent(&message.payload)), None);
}

/// Keys by rising address of their attesters.
fn rising() -> Vec<u8> {
    let mut keys = ATTESTERS.to_vec();
    keys.sort_by_key(|key| attester(*key));
    keys
}

/// Whether signatures by these keys, changed by `twist`, are accepted by a threshold of two, and if not, why.
fn checked(keys: &[u8], twist: impl Fn(&mut Vec<SignatureBytes>)) -> Result<(), String> {
    let digest = keccak256(plain_burn());
    let mut signatures: Vec<_> = keys.iter().map(|key| sign(*key, digest)).collect();
    twist(&mut signatures);
    check_attestation(&plain_burn(), &signatures, &attesters(), 2).map_err(|reason| {
        assert_eq!(reason.code(), "no_evidence");
        reason.to_string()
    })
}

#[test]
fn an_attestation_is_checked_as_the_transmitter_checks_it() {
    let keys = rising();
    let (low, high) = (keys[0], keys[1]);
    let refused = |keys: &[u8], twist: &dyn Fn(&mut Vec<SignatureBytes>), why: &str| {
        let text = checked(keys, twist).unwrap_err();
        assert!(text.contains(why), "{text}");
    };
    let untwisted = |_: &mut Vec<SignatureBytes>| {};
    assert_eq!(checked(&[low, high], untwisted), Ok(()));
    assert_eq!(checked(&[low, keys[3]], untwisted), Ok(()), "any two of them do");
    refused(&[low], &untwisted, "has 1 signatures, the threshold is 2");
    refused(&keys, &untwisted, "has 4 signatures, the threshold is 2");
    refused(&[high, low], &untwisted, "does not come after");
    refused(&[low, low], &untwisted, "does not come after");
    refused(&[low, high], &|signatures| signatures[0][64] -= 27, "has a v of");
    refused(&[low, high], &|signatures| signatures[1][64] += 8, "has a v of");
    refused(&[low, high], &|signatures| signatures[0][..32].fill(0), "recovers no key");
    refused(
        &[low, high],
        &|signatures| {
            let malleated = ORDER - U256::from_be_slice(&signatures[0][32..64]);
            signatures[0][32..64].copy_from_slice(&malleated.to_be_bytes::<32>());
            signatures[0][64] = 55 - signatures[0][64];
        },
        "has a high s",
    );
    // One whose address may be anywhere among the others: it is no attester, or out of order.
    assert!(checked(&[low, 77], untwisted).is_err());
    let stranger = [sign(77, keccak256(plain_burn()))];
    let text = check_attestation(&plain_burn(), &stranger, &attesters(), 1).unwrap_err().to_string();
    assert!(text.contains("is no attester"), "{text}");
    let digest = keccak256(plain_burn());
    let signatures = [sign(low, digest), sign(high, digest)];
    assert!(check_attestation(b"another message", &signatures, &attesters(), 2).is_err());
    assert!(check_attestation(&plain_burn(), &[], &attesters(), 0).is_err(), "nobody is not enough");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        topics in prop::collection::vec(any::<[u8; 32]>(), 0..5),
        v1_topic in any::<bool>(),
        chain in prop::sample::select(vec![ETHEREUM, BASE, 10]),
    ) {
        let protocol = protocol(1);
        let mut topics: Vec<B256> = topics.into_iter().map(B256::from).collect();
        if v1_topic && let Some(first) = topics.first_mut() {
            *first = MESSAGE_RECEIVED;
        }
        let _ = protocol.delivered(chain, &Log::new_unchecked(TRANSMITTER, topics, bytes.clone().into()));
        let mut log = sent(&bytes);
        let of_bytes = recognise(&protocol, chain, &log);
        log.data.data = bytes.clone().into();
        let _ = recognise(&protocol, chain, &log);
        let known = message(&protocol, &plain_burn());
        prop_assert!(protocol.deliver(&known, &unsigned(bytes.clone(), 1), &block(5)).is_err());
        if let Some(Ok(message)) = of_bytes {
            let _ = protocol.deliver(&message, &unsigned(bytes, 1), &block(5));
        }
    }

    #[test]
    fn a_well_formed_message_survives_whatever_its_body(
        nonce in any::<u64>(),
        body in prop::collection::vec(any::<u8>(), 0..400),
        caller in any::<[u8; 20]>(),
    ) {
        let protocol = protocol(2);
        let mut bytes = header(6, nonce, Address::from(caller).into_word());
        bytes.extend_from_slice(&body);
        let message = message(&protocol, &bytes);
        prop_assert_eq!(message.destination, Some(BASE));
        let request = request(&protocol, &message, &block(5)).expect("a destination that is configured");
        let calls = protocol.deliver(&message, &attest(&request), &block(5)).expect("an attestation of it");
        let decoded = receiveMessageCall::abi_decode(&calls[0].data).expect("a call of the transmitter");
        prop_assert_eq!(decoded.message.as_ref(), bytes);
    }

    #[test]
    fn no_flipped_byte_passes_with_the_attestation_of_the_message(at in 0_usize..248, flip in 1_u8..=255) {
        let protocol = protocol(1);
        let known = message(&protocol, &plain_burn());
        let Evidence::Attestation { payload, signatures } = attest(&request(&protocol, &known, &block(5)).expect("configured"))
        else {
            panic!("CCTP has attestations");
        };
        let mut other = payload.to_vec();
        other[at] ^= flip;
        prop_assert!(check_attestation(&payload, &signatures, &attesters(), 1).is_ok());
        prop_assert!(check_attestation(&other, &signatures, &attesters(), 1).is_err());
        let evidence = Evidence::Attestation { payload: other.into(), signatures };
        prop_assert!(protocol.deliver(&known, &evidence, &block(5)).is_err());
    }

    #[test]
    fn no_signature_makes_the_check_panic(
        payload in prop::collection::vec(any::<u8>(), 0..100),
        halves in prop::collection::vec((any::<[u8; 32]>(), any::<[u8; 32]>(), 26_u8..30), 0..4),
        threshold in 0_usize..4,
    ) {
        let whole = |(r, s, v): &([u8; 32], [u8; 32], u8)| {
            let mut signature: SignatureBytes = [*v; 65];
            signature[..32].copy_from_slice(r);
            signature[32..64].copy_from_slice(s);
            signature
        };
        let signatures: Vec<_> = halves.iter().map(whole).collect();
        prop_assert!(check_attestation(&payload, &signatures, &attesters(), threshold).is_err());
    }
}

//! CCTP v2 to the byte: the template, what attesters fill in, what is delivered and what is refused.

mod cctp;

use alloy_primitives::{Address, B256, Bytes, Log, U256, address, b256, keccak256};
use alloy_sol_types::SolCall;
use lockstep_messaging::{
    BurnMessageV2, CctpV2, CctpV2Deployment, Emitted, Evidence, EvidenceRequest, FilledV2, LogPlace, Message, Protocol,
    cctp_v2::{fill, filled},
    check_attestation,
};
use lockstep_primitives::{Reason, TxId};
use proptest::prelude::*;

use crate::{
    abi::{receiveMessageCall, relayCall},
    cctp::{
        BASE, ETHEREUM, RECEIVE_MESSAGE, TRANSMITTER, attest, attesters, block, message, received, recognise, request, sent,
        unsigned,
    },
};

mod abi {
    alloy_sol_types::sol! {
        function receiveMessage(bytes message, bytes attestation) external returns (bool);
        function relay(bytes message, bytes attestation) external;
    }
}

/// Topic of v2's `MessageReceived(address,uint32,bytes32,bytes32,uint32,bytes)`.
const MESSAGE_RECEIVED: B256 = b256!("ff48c13eda96b1cceacc6b9edeedc9e9db9d6226afbc30146b720c19d3addb1c");
const MESSENGER: Address = address!("28b5a0e9C621a5BadaA536219b3a228C8168cf5d");
const WRAPPER: Address = Address::repeat_byte(0x77);
const NONCE: B256 = B256::repeat_byte(0x33);
/// Bytes of a burn without hook data.
const BURN_LENGTH: usize = 376;
/// Where attesters write in a burn: nonce, executed finality, fee and expiration.
const FILLED: [std::ops::Range<usize>; 3] = [12..44, 144..148, 312..376];

fn deployment(domain: u32) -> CctpV2Deployment {
    CctpV2Deployment {
        domain,
        message_transmitter: TRANSMITTER,
        attesters: attesters(),
        threshold: 2,
        hook_wrapper: Some(WRAPPER),
        fast_fee_bps: 1,
        expires_after: 10,
    }
}

fn protocol_with(base: CctpV2Deployment) -> CctpV2 {
    CctpV2::new([(ETHEREUM, deployment(0)), (BASE, base)].into())
}

fn protocol() -> CctpV2 {
    protocol_with(deployment(6))
}

fn header(destination: u32, caller: B256, least_finality: u32) -> Vec<u8> {
    let mut message = Vec::new();
    message.extend_from_slice(&1_u32.to_be_bytes());
    message.extend_from_slice(&0_u32.to_be_bytes());
    message.extend_from_slice(&destination.to_be_bytes());
    message.extend_from_slice(B256::ZERO.as_slice());
    message.extend_from_slice(MESSENGER.into_word().as_slice());
    message.extend_from_slice(MESSENGER.into_word().as_slice());
    message.extend_from_slice(caller.as_slice());
    message.extend_from_slice(&least_finality.to_be_bytes());
    message.extend_from_slice(&0_u32.to_be_bytes());
    message
}

#[derive(Clone, Copy)]
struct Burn<'a> {
    destination: u32,
    caller: B256,
    least_finality: u32,
    amount: u64,
    max_fee: u64,
    hook: &'a [u8],
}

/// 1 USDC from Ethereum to Base, fast, for at most 500.
const FAST: Burn<'static> =
    Burn { destination: 6, caller: B256::ZERO, least_finality: 1_000, amount: 1_000_000, max_fee: 500, hook: &[] };
const STANDARD: Burn<'static> = Burn { least_finality: 2_000, ..FAST };

/// The template of a burn, put together from the published layout.
fn burn(burn: Burn<'_>) -> Vec<u8> {
    let mut message = header(burn.destination, burn.caller, burn.least_finality);
    message.extend_from_slice(&1_u32.to_be_bytes());
    message.extend_from_slice(address!("A0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48").into_word().as_slice());
    message.extend_from_slice(Address::repeat_byte(0x22).into_word().as_slice());
    message.extend_from_slice(&U256::from(burn.amount).to_be_bytes::<32>());
    message.extend_from_slice(Address::repeat_byte(0x11).into_word().as_slice());
    message.extend_from_slice(&U256::from(burn.max_fee).to_be_bytes::<32>());
    message.extend_from_slice(&[0; 64]);
    message.extend_from_slice(burn.hook);
    message
}

fn number(value: u64) -> U256 {
    U256::from(value)
}

/// What is asked for so that a burn is delivered in block 100, and what attesters fill in of it.
fn asked(protocol: &CctpV2, template: &[u8]) -> (Message, EvidenceRequest, FilledV2) {
    let message = message(protocol, template);
    let request = request(protocol, &message, &block(100)).expect("a destination that is configured");
    let filled = filled(template, &request.payload).expect("only what attesters may fill in");
    (message, request, filled)
}

#[test]
fn an_emitted_template_is_recognised_to_the_byte() {
    let template = burn(FAST);
    assert_eq!(template.len(), BURN_LENGTH);
    assert_eq!(keccak256(&template), b256!("79f57a4fc6ff87e829de2fc6079651159778a9b43d7604e479b4343c15d5a857"));
    let message = message(&protocol(), &template);
    assert_eq!(message.payload.as_ref(), template);
    assert_eq!((message.origin, message.destination, message.restricted_to), (ETHEREUM, Some(BASE), None));
    assert_eq!((message.protocol, message.destination_name.as_str()), ("cctp-v2", "CCTP domain 6"));
}

#[test]
fn an_attested_message_has_the_published_hash() {
    let attested = fill(&burn(FAST), NONCE, 1_000, number(100), number(123_456)).unwrap();
    assert_eq!(keccak256(&attested), b256!("2507408647ba7e20d914fcc7ed2872fbfc8a0160b29dcdffeff95fb9222471fe"));
    let expected =
        FilledV2 { nonce: NONCE, finality_executed: 1_000, fee_executed: number(100), expiration_block: number(123_456) };
    assert_eq!(filled(&burn(FAST), &attested), Ok(expected));
}

#[test]
fn a_burn_is_read_field_by_field() {
    let template = burn(Burn { hook: b"hook", ..FAST });
    let expected = BurnMessageV2 {
        burn_token: address!("A0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"),
        mint_recipient: Address::repeat_byte(0x22).into_word(),
        amount: number(1_000_000),
        message_sender: Address::repeat_byte(0x11),
        max_fee: number(500),
        fee_executed: U256::ZERO,
        expiration_block: U256::ZERO,
        hook_data: b"hook",
    };
    assert_eq!(BurnMessageV2::read(&template), Some(expected));
    let attested = fill(&template, NONCE, 1_000, number(100), number(9)).unwrap();
    let expected = BurnMessageV2 { fee_executed: number(100), expiration_block: number(9), ..expected };
    assert_eq!(BurnMessageV2::read(&attested), Some(expected));
    assert_eq!(BurnMessageV2::read(&template[..BURN_LENGTH - 1]), None);
    for impossible in [Burn { amount: 0, max_fee: 0, ..FAST }, Burn { max_fee: 1_000_000, ..FAST }] {
        assert_eq!(BurnMessageV2::read(&burn(impossible)), None);
    }
    let unpadded = [&template[..152], &[1], &template[153..]].concat();
    assert_eq!(BurnMessageV2::read(&unpadded), None, "its token is no address");
}

#[test]
fn a_fast_burn_is_asked_for_with_fee_expiration_and_a_nonce_of_its_own() {
    let (message, request, filled) = asked(&protocol(), &burn(FAST));
    assert_eq!(filled.nonce, keccak256([b"nonce".as_slice(), message.id.as_slice()].concat()));
    assert_eq!((filled.finality_executed, filled.fee_executed, filled.expiration_block), (1_000, number(100), number(110)));
    assert_eq!(request.digest, keccak256(&request.payload));
    assert_eq!(request.signers.len(), 2);
    let forever = protocol_with(CctpV2Deployment { expires_after: 0, ..deployment(6) });
    assert_eq!(asked(&forever, &burn(FAST)).2.expiration_block, U256::ZERO);
}

#[test]
fn a_standard_burn_pays_nothing_and_does_not_expire() {
    for least_finality in [1_001, 2_000, u32::MAX] {
        let filled = asked(&protocol(), &burn(Burn { least_finality, max_fee: 0, ..FAST })).2;
        assert_eq!((filled.finality_executed, filled.fee_executed, filled.expiration_block), (2_000, U256::ZERO, U256::ZERO));
    }
    assert_eq!(asked(&protocol(), &burn(Burn { least_finality: 0, ..FAST })).2.finality_executed, 1_000);
}

#[test]
fn a_fast_fee_is_rounded_up_and_must_be_allowed() {
    let fee = |amount, max_fee, bps| {
        let protocol = protocol_with(CctpV2Deployment { fast_fee_bps: bps, ..deployment(6) });
        let message = message(&protocol, &burn(Burn { amount, max_fee, ..FAST }));
        let request = request(&protocol, &message, &block(100))?;
        Ok::<_, Reason>(filled(&message.payload, &request.payload)?.fee_executed)
    };
    assert_eq!(fee(1_000_000, 500, 1), Ok(number(100)));
    assert_eq!(fee(1_000_001, 500, 1), Ok(number(101)));
    assert_eq!(fee(2, 1, 1), Ok(number(1)));
    assert_eq!(fee(1_000_001, 101, 1), Ok(number(101)));
    assert_eq!(fee(1_000_000, 0, 0), Ok(U256::ZERO));
    for (amount, max_fee, bps) in [(1_000_001, 100, 1), (1_000_000, 500, u64::MAX), (u64::MAX, u64::MAX - 1, u64::MAX)] {
        assert_eq!(fee(amount, max_fee, bps).unwrap_err().code(), "no_evidence");
    }
    let text = fee(1_000_001, 100, 1).unwrap_err().to_string();
    assert!(text.contains("101") && text.contains("100"), "both fees are named: {text}");
}

#[test]
fn the_fee_of_the_greatest_amount_overflows_nothing() {
    let mut template = burn(FAST);
    template[216..248].fill(0xff);
    let protocol = protocol_with(CctpV2Deployment { fast_fee_bps: u64::MAX, ..deployment(6) });
    assert_eq!(request(&protocol, &message(&protocol, &template), &block(100)).unwrap_err().code(), "no_evidence");
    template[280..312].fill(0xff);
    template[311] = 0xfe;
    let protocol = self::protocol();
    assert_eq!(asked(&protocol, &template).2.fee_executed, (U256::MAX / number(10_000)) + number(1));
}

#[test]
fn of_what_is_no_burn_only_nonce_and_finality_are_filled_in() {
    let short = [header(6, B256::ZERO, 500), vec![0xab; 40]].concat();
    let long = [header(6, B256::ZERO, 500), vec![0; 400]].concat();
    // Fields that a messenger leaves empty have something in them: it is another contract's.
    let mut similar = burn(FAST);
    similar[375] = 1;
    for template in [header(6, B256::ZERO, 500), short, long, similar] {
        let (message, request, filled) = asked(&protocol(), &template);
        assert_eq!((filled.finality_executed, filled.fee_executed, filled.expiration_block), (1_000, U256::ZERO, U256::ZERO));
        assert_eq!(request.payload[148..], template[148..]);
        assert!(protocol().deliver(&message, &attest(&request), &block(100)).is_ok());
        assert_eq!(fill(&template, NONCE, 1_000, number(1), U256::ZERO).unwrap_err().code(), "no_evidence");
        assert_eq!(fill(&template, NONCE, 1_000, U256::ZERO, number(1)).unwrap_err().code(), "no_evidence");
    }
}

#[test]
fn a_message_is_named_by_the_transaction_that_sends_it() {
    let log = sent(&burn(FAST));
    let replaced = sent(&burn(STANDARD));
    let id = |log: &Log, tx: TxId, in_tx: usize, index: u64| {
        let place = LogPlace { index, ..LogPlace::default() };
        protocol().recognise(ETHEREUM, &Emitted { log, place, tx, in_tx }).unwrap().unwrap().id
    };
    let tx = TxId::Signed { signer: MESSENGER, nonce: 7 };
    let preimage = [b"cctp-v2".as_slice(), &[0; 4], tx.digest().as_slice(), &2_u64.to_be_bytes()].concat();
    assert_eq!(id(&log, tx, 2, 5), keccak256(preimage));
    assert_eq!(id(&log, tx, 2, 5), id(&log, tx, 2, 900), "wherever in its block it is");
    assert_eq!(id(&log, tx, 2, 5), id(&replaced, tx, 2, 5), "of a transaction and its replacement one can land");
    assert_ne!(id(&log, tx, 2, 5), id(&log, tx, 3, 5));
    assert_ne!(id(&log, tx, 2, 5), id(&log, TxId::Signed { signer: MESSENGER, nonce: 8 }, 2, 5));
    assert_ne!(id(&log, tx, 2, 5), id(&log, TxId::Deposit(NONCE), 2, 5));
}

#[test]
fn receive_message_takes_the_attested_bytes() {
    let protocol = protocol();
    let (message, request, _) = asked(&protocol, &burn(FAST));
    let (evidence, stand_ins) = protocol.stand_in(&request);
    assert_eq!(stand_ins.len(), 2);
    let stood_in = protocol.deliver(&message, &evidence, &block(100)).unwrap();
    let Evidence::Attestation { payload, signatures } = attest(&request) else { panic!("CCTP has attestations") };
    assert_eq!(check_attestation(&payload, &signatures, &attesters(), 2), Ok(()));
    let evidence = Evidence::Attestation { payload: payload.clone(), signatures: signatures.clone() };
    let calls = protocol.deliver(&message, &evidence, &block(100)).unwrap();
    assert_eq!((calls.len(), calls[0].to, &calls[0].data[..4]), (1, TRANSMITTER, RECEIVE_MESSAGE.as_slice()));
    let decoded = receiveMessageCall::abi_decode(&calls[0].data).unwrap();
    assert_eq!(decoded.message, payload);
    assert_ne!(decoded.message, message.payload, "the template itself is never delivered");
    assert_eq!(decoded.attestation, Bytes::from(signatures.concat()));
    assert_eq!(stood_in[0].data.len(), calls[0].data.len(), "the real attestation takes the place of the stand-in");
}

#[test]
fn a_message_for_the_hook_wrapper_is_delivered_through_it_by_anyone() {
    let protocol = protocol();
    let hook = [Address::repeat_byte(0x99).as_slice(), b"calldata".as_slice()].concat();
    let template = burn(Burn { caller: WRAPPER.into_word(), hook: &hook, ..FAST });
    let (message, request, _) = asked(&protocol, &template);
    assert_eq!(message.restricted_to, None);
    let calls = protocol.deliver(&message, &attest(&request), &block(100)).unwrap();
    assert_eq!((calls.len(), calls[0].to), (1, WRAPPER));
    assert_eq!(calls[0].data[..4], keccak256("relay(bytes,bytes)")[..4]);
    let decoded = relayCall::abi_decode(&calls[0].data).unwrap();
    assert_eq!((decoded.message, decoded.attestation.len()), (request.payload, 2 * 65));
}

#[test]
fn any_other_caller_restricts_who_delivers() {
    let restricted = burn(Burn { caller: Address::repeat_byte(7).into_word(), ..FAST });
    let message = message(&protocol(), &restricted);
    assert_eq!(message.restricted_to, Some(Address::repeat_byte(7)));
    let request = request(&protocol(), &message, &block(100)).unwrap();
    assert_eq!(protocol().deliver(&message, &attest(&request), &block(100)).unwrap()[0].to, TRANSMITTER);
    // A wrapper that is not configured is somebody else.
    let bare = protocol_with(CctpV2Deployment { hook_wrapper: None, ..deployment(6) });
    let for_wrapper = sent(&burn(Burn { caller: WRAPPER.into_word(), ..FAST }));
    assert_eq!(recognise(&bare, ETHEREUM, &for_wrapper).unwrap().unwrap().restricted_to, Some(WRAPPER));
    // The zero address is no wrapper: it stands for anyone.
    let zero = protocol_with(CctpV2Deployment { hook_wrapper: Some(Address::ZERO), ..deployment(6) });
    let (free, request, _) = asked(&zero, &burn(FAST));
    assert_eq!(zero.deliver(&free, &attest(&request), &block(100)).unwrap()[0].to, TRANSMITTER);
    let unusable = sent(&burn(Burn { caller: B256::repeat_byte(7), ..FAST }));
    assert_eq!(recognise(&protocol(), ETHEREUM, &unusable).unwrap().unwrap_err().code(), "malformed_message");
    let foreign = sent(&burn(Burn { caller: B256::repeat_byte(7), destination: 5, ..FAST }));
    assert_eq!(recognise(&protocol(), ETHEREUM, &foreign).unwrap().unwrap().restricted_to, None);
}

#[test]
fn what_an_attester_filled_in_is_checked_for_the_block() {
    let protocol = protocol();
    let template = burn(FAST);
    let message = message(&protocol, &template);
    let delivered = |nonce: B256, fee: u64, expiration: u64| {
        let payload = fill(&template, nonce, 1_000, number(fee), number(expiration)).unwrap();
        protocol.deliver(&message, &unsigned(payload, 2), &block(100)).map(|calls| calls.len())
    };
    assert_eq!(delivered(NONCE, 0, 0), Ok(1));
    assert_eq!(delivered(NONCE, 500, 101), Ok(1));
    assert_eq!(delivered(NONCE, 501, 101).unwrap_err().code(), "no_evidence");
    assert_eq!(delivered(NONCE, u64::MAX, 0).unwrap_err().code(), "no_evidence");
    assert_eq!(delivered(B256::ZERO, 0, 0).unwrap_err().code(), "no_evidence");
    for expired in [1, 99, 100] {
        let reason = delivered(NONCE, 0, expired).unwrap_err();
        assert_eq!(reason.code(), "evidence_pending", "it can be signed again");
        assert!(reason.to_string().contains(&format!("expired at block {expired} and must be re-signed")), "{reason}");
    }
}

#[test]
fn evidence_of_another_count_or_kind_is_not_delivered() {
    let protocol = protocol();
    let (message, request, _) = asked(&protocol, &burn(FAST));
    let refused = |evidence: &Evidence| protocol.deliver(&message, evidence, &block(100)).unwrap_err().code();
    assert_eq!(refused(&Evidence::Place), "no_evidence");
    assert_eq!(refused(&unsigned(request.payload.clone(), 1)), "no_evidence");
    assert_eq!(refused(&unsigned(request.payload, 3)), "no_evidence");
    assert_eq!(refused(&unsigned(message.payload.clone(), 2)), "no_evidence", "the template has no nonce");
}

#[test]
fn a_difference_is_told_by_the_name_of_its_field() {
    let template = burn(Burn { hook: b"hook", ..FAST });
    let attested = fill(&template, NONCE, 1_000, number(1), number(2)).unwrap();
    let differing = |template: &[u8], attested: &[u8], at: usize| {
        let mut attested = attested.to_vec();
        attested[at] ^= 1;
        filled(template, &attested).unwrap_err().to_string()
    };
    for (at, field) in [
        (3, "version"),
        (7, "source domain"),
        (8, "destination domain"),
        (75, "sender"),
        (76, "recipient"),
        (139, "destination caller"),
        (140, "least finality"),
        (148, "body version"),
        (152, "burn token"),
        (215, "mint recipient"),
        (247, "amount"),
        (248, "message sender"),
        (311, "highest fee"),
        (376, "hook"),
    ] {
        let text = differing(&template, &attested, at);
        assert!(text.contains(&format!("differs in its {field} from")), "byte {at}: {text}");
    }
    let longer = [&attested[..], &[0]].concat();
    assert!(filled(&template, &longer).unwrap_err().to_string().contains("its length"));
    let plain = [header(6, B256::ZERO, 500), vec![7; 300]].concat();
    let attested = fill(&plain, NONCE, 1_000, U256::ZERO, U256::ZERO).unwrap();
    assert!(differing(&plain, &attested, 320).contains("its body"), "fee and expiration are a burn's alone");
}

#[test]
fn a_message_to_elsewhere_is_told_by_its_domain() {
    let protocol = protocol();
    let elsewhere = message(&protocol, &burn(Burn { destination: 7, ..FAST }));
    let wrong = Reason::WrongDestination { destination: "CCTP domain 7".into() };
    assert_eq!(elsewhere.destination, None);
    assert_eq!(request(&protocol, &elsewhere, &block(100)).unwrap_err(), wrong);
    assert_eq!(protocol.deliver(&elsewhere, &unsigned(Bytes::new(), 2), &block(100)).unwrap_err(), wrong);
    // A configured destination, but not the one where it is delivered.
    let home = message(&protocol, &burn(Burn { destination: 0, ..FAST }));
    assert_eq!(request(&protocol, &home, &block(100)).unwrap_err().code(), "wrong_destination");
    let twins = CctpV2::new([(ETHEREUM, deployment(0)), (90, deployment(6)), (80, deployment(6))].into());
    assert_eq!(message(&twins, &burn(FAST)).destination, Some(80), "of two with one domain the lower chain id");
}

#[test]
fn what_is_not_for_us_is_not_recognised_and_what_is_broken_is_named() {
    let protocol = protocol();
    let mut foreign = sent(&burn(FAST));
    foreign.address = Address::ZERO;
    assert!(recognise(&protocol, ETHEREUM, &foreign).is_none());
    assert!(recognise(&protocol, 10, &sent(&burn(FAST))).is_none(), "nothing is deployed there");
    let mut v1 = burn(FAST);
    v1[3] = 0;
    assert!(recognise(&protocol, ETHEREUM, &sent(&v1)).is_none());
    let code = |log: &Log| recognise(&protocol, ETHEREUM, log).unwrap().unwrap_err().code();
    assert_eq!(code(&sent(&burn(FAST)[..147])), "malformed_message");
    assert_eq!(code(&sent(&[])), "malformed_message");
    // Another source domain, and what only attesters fill in: nonce and executed finality.
    for at in [7, 12, 43, 144, 147] {
        let mut broken = burn(FAST);
        broken[at] = 1;
        assert_eq!(code(&sent(&broken)), "malformed_message", "byte {at}");
    }
    assert_eq!(fill(&burn(FAST)[..147], NONCE, 1, U256::ZERO, U256::ZERO).unwrap_err().code(), "malformed_message");
    let attested = fill(&burn(FAST), NONCE, 1, U256::ZERO, U256::ZERO).unwrap();
    assert_eq!(fill(&attested, NONCE, 1, U256::ZERO, U256::ZERO).unwrap_err().code(), "malformed_message");
}

#[test]
fn a_message_received_event_is_the_receipt_of_an_attested_nonce() {
    let protocol = protocol();
    let (message, request, filled) = asked(&protocol, &burn(FAST));
    let log = |nonce: B256| {
        let finality = B256::from(U256::from(1_000));
        received(vec![MESSAGE_RECEIVED, B256::repeat_byte(1), nonce, finality], 0, &request.payload[148..])
    };
    let receipt = protocol.receipt(&message, Some(&attest(&request)));
    assert!(receipt.is_some());
    assert_eq!(protocol.delivered(BASE, &log(filled.nonce)), receipt);
    assert_ne!(protocol.delivered(BASE, &log(NONCE)), receipt);
    assert_eq!(protocol.receipt(&message, None), None, "attesters may give another nonce");
    assert_eq!(protocol.receipt(&message, Some(&Evidence::Place)), None);
    assert_eq!(protocol.receipt(&message, Some(&unsigned(vec![1_u8; 43], 2))), None);
    assert_eq!(protocol.delivered(10, &log(filled.nonce)), None, "nothing is deployed there");
    assert_eq!(protocol.delivered(BASE, &Log { address: Address::ZERO, ..log(filled.nonce) }), None);
    assert_eq!(protocol.delivered(BASE, &sent(&message.payload)), None);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..450),
        other in prop::collection::vec(any::<u8>(), 0..450),
        topics in prop::collection::vec(any::<[u8; 32]>(), 0..5),
        numbers in any::<(u32, [u8; 32], [u8; 32])>(),
        version in any::<bool>(),
        chain in prop::sample::select(vec![ETHEREUM, BASE, 10]),
    ) {
        let protocol = protocol();
        let mut bytes = bytes;
        let mut topics: Vec<B256> = topics.into_iter().map(B256::from).collect();
        if version {
            // Past the first checks, so that the later ones are met as well.
            let start = header(6, B256::ZERO, numbers.0);
            let known = start.len().min(bytes.len());
            bytes[..known].copy_from_slice(&start[..known]);
            if let Some(first) = topics.first_mut() {
                *first = MESSAGE_RECEIVED;
            }
        }
        let (executed, fee, expiration) = (numbers.0, U256::from_be_bytes(numbers.1), U256::from_be_bytes(numbers.2));
        let _ = protocol.delivered(chain, &Log::new_unchecked(TRANSMITTER, topics, bytes.clone().into()));
        let _ = BurnMessageV2::read(&bytes);
        let _ = fill(&bytes, NONCE, executed, fee, expiration);
        let _ = filled(&bytes, &other);
        let mut log = sent(&bytes);
        let of_bytes = recognise(&protocol, chain, &log);
        log.data.data = other.clone().into();
        let _ = recognise(&protocol, chain, &log);
        let known = message(&protocol, &burn(FAST));
        prop_assert!(protocol.deliver(&known, &unsigned(bytes.clone(), 2), &block(100)).is_err());
        let _ = protocol.receipt(&known, Some(&unsigned(bytes, 2)));
        if let Some(Ok(message)) = of_bytes {
            let _ = request(&protocol, &message, &block(100));
            let _ = protocol.deliver(&message, &unsigned(other, 2), &block(100));
        }
    }

    #[test]
    fn a_well_formed_burn_survives(
        amount in 2_u64..,
        fee_share in 0.0..1.0_f64,
        least_finality in prop::sample::select(vec![0_u32, 500, 1_000, 1_001, 2_000, u32::MAX]),
        hook in prop::collection::vec(any::<u8>(), 0..200),
        hooked in any::<bool>(),
        bps in 0_u64..100,
    ) {
        let protocol = protocol_with(CctpV2Deployment { fast_fee_bps: bps, ..deployment(6) });
        let max_fee = ((amount as f64 * fee_share) as u64).min(amount - 1);
        let caller = if hooked { WRAPPER.into_word() } else { B256::ZERO };
        let template = burn(Burn { caller, least_finality, amount, max_fee, hook: &hook, ..FAST });
        let known = message(&protocol, &template);
        let fee = if least_finality <= 1_000 { (u128::from(amount) * u128::from(bps)).div_ceil(10_000) } else { 0 };
        match request(&protocol, &known, &block(100)) {
            Ok(request) => {
                prop_assert!(fee <= u128::from(max_fee));
                let calls = protocol.deliver(&known, &attest(&request), &block(100)).expect("what it asked for");
                prop_assert_eq!(calls[0].to, if hooked { WRAPPER } else { TRANSMITTER });
                let read = BurnMessageV2::read(&request.payload).expect("a burn");
                prop_assert_eq!(read.fee_executed, U256::from(fee));
                prop_assert_eq!((read.amount, read.hook_data), (U256::from(amount), hook.as_slice()));
            }
            Err(reason) => {
                prop_assert_eq!(reason.code(), "no_evidence");
                prop_assert!(fee > u128::from(max_fee));
            }
        }
    }

    #[test]
    fn no_byte_is_another_than_the_one_sent_but_where_attesters_write(at in 0_usize..BURN_LENGTH + 4, flip in 1_u8..=255) {
        let protocol = protocol();
        let template = burn(Burn { hook: b"hook", ..FAST });
        let (known, request, _) = asked(&protocol, &template);
        let mut payload = request.payload.to_vec();
        payload[at] ^= flip;
        let theirs = FILLED.iter().any(|range| range.contains(&at));
        prop_assert_eq!(filled(&template, &payload).is_ok(), theirs);
        let delivered = protocol.deliver(&known, &unsigned(payload, 2), &block(100));
        if !theirs {
            prop_assert_eq!(delivered.map_err(|reason| reason.code()), Err("no_evidence"));
        }
    }
}

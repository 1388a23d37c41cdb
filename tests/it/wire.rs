//! What travels as JSON, to the letter, and the hashes that others compute for themselves.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, I256, U256, b256, bytes, keccak256};
use lockstep_delivery::{ExpectedBlock, Prepare, PreparedList, RequirementResult};
use lockstep_primitives::{
    Asset, Bid, BlockList, BlockRange, Bundle, Leg, LegTx, ListBlock, OrderingPolicy, Place, Reason, Registration, Rejection,
    Relay, Replacement, Requirement, ReserveRule, RevertMode, SignedTx,
};
use lockstep_rpc::{
    codes, from_rejection, parse,
    wire::{BidWire, BundleParams, PrepareWire, RegistrationWire, ReserveWire, SignedPrepare, SlotReport},
};
use serde_json::{Value, json};

/// The signed transaction of EIP-155's example.
fn tx() -> Bytes {
    bytes!(
        "f86c098504a817c800825208943535353535353535353535353535353535353535880de0b6b3a76400008025a028ef61340bd939bc2195fe537567866003e1a15d3c71ff63e1590620aa636276a067cbe9d8997f761aecb703304b3800ccf555c9f3dc64214b297fb1966a3b6d83"
    )
}

/// And its hash.
const TX_HASH: B256 = b256!("33469b22e9f636356c4160a87eb19df52b7412e8eac32a4a55ffe88ea8350788");
const UUID: &str = "3f2b8c1e-5d4a-4e7b-9c60-0a1b2c3d4e5f";
const ACCOUNT: Address = Address::repeat_byte(0x11);
const TOKEN: Address = Address::repeat_byte(0x22);
const SENDER: Address = Address::repeat_byte(0x33);
/// The Lockstep hash of [`bundle`], as ethers' `TypedDataEncoder.hashStruct` computes it.
const BUNDLE_HASH: B256 = b256!("4efb955e43e9359c3a1d12123c755f3df2f31d3748cae9998b872d1197b3dca3");

/// A bundle with something in every field.
fn bundle() -> Bundle {
    let tx = Arc::new(SignedTx::decode(tx()).expect("EIP-155's own example"));
    Bundle {
        legs: vec![
            Leg::Txs { chain: 1, txs: vec![LegTx { tx, mode: RevertMode::Allow }] },
            Leg::Relay { chain: 10, relay: Relay::Emitted { leg: 0, message: 2 } },
        ],
        blocks: [(1, BlockRange { min: 5, max: 9 })].into(),
        min_timestamp: Some(1_700_000_000),
        max_timestamp: Some(1_700_000_600),
        require: vec![Requirement {
            chain: 10,
            account: ACCOUNT,
            asset: Asset::Token(TOKEN),
            min_increase: U256::from(1_000_000),
        }],
        replacement: Some(Replacement { uuid: UUID.to_owned(), nonce: 7 }),
        signer: Some(SENDER),
    }
}

fn bundle_json() -> Value {
    json!({
        "legs": [
            { "chainId": "0x1", "txs": [tx()], "revertingTxHashes": [TX_HASH] },
            { "chainId": "0xa", "relay": { "leg": 0, "message": 2 } },
        ],
        "blocks": { "0x1": { "min": "0x5", "max": "0x9" } },
        "minTimestamp": 1_700_000_000,
        "maxTimestamp": 1_700_000_600,
        "require": [{
            "chainId": "0xa",
            "account": "0x1111111111111111111111111111111111111111",
            "asset": "0x2222222222222222222222222222222222222222",
            "minIncrease": "0xf4240",
        }],
        "replacementUuid": UUID,
        "replacementNonce": 7,
    })
}

#[test]
fn a_bundle_goes_there_and_back() {
    let params: BundleParams = parse(bundle_json()).expect("the shape of the documentation");
    assert_eq!(serde_json::to_value(&params).expect("it is JSON"), bundle_json());
    let decoded = params.into_bundle(Some(SENDER)).expect("a bundle");
    assert_eq!(decoded, bundle());
    assert_eq!(serde_json::to_value(BundleParams::from(&decoded)).expect("it is JSON"), bundle_json());
}

#[test]
fn a_field_that_is_not_known_is_refused_by_name() {
    fn strange(place: fn(&mut Value) -> &mut Value) {
        let mut bundle = bundle_json();
        place(&mut bundle)["refundPercent"] = json!(90);
        let error = parse::<BundleParams>(bundle).expect_err("nothing is accepted and then ignored");
        assert_eq!(error.code(), codes::INVALID_PARAMS);
        assert!(error.message().contains("refundPercent"), "{error}");
        let data: Value = serde_json::from_str(error.data().expect("it has data").get()).expect("the data is JSON");
        assert_eq!(data["reason"], "unknown_field");
    }
    strange(|bundle| bundle);
    strange(|bundle| &mut bundle["legs"][0]);
    strange(|bundle| &mut bundle["legs"][1]["relay"]);
    strange(|bundle| &mut bundle["blocks"]["0x1"]);
    strange(|bundle| &mut bundle["require"][0]);
}

#[test]
fn a_rejection_says_what_where_and_what_to_do() {
    let reason = Reason::NonceTooLow { signer: ACCOUNT, nonce: 4, account: 5 };
    let error = from_rejection(&Rejection::new(Place::tx(31_101, 2, 0), reason));
    assert_eq!(
        serde_json::to_value(&error).expect("it is JSON"),
        json!({
            "code": -32003,
            "message": "leg 2, transaction 0, rollup 31101: nonce 4 of 0x1111111111111111111111111111111111111111 is used, the account is at 5",
            "data": {
                "reason": "nonce_too_low",
                "rollup": "0x797d",
                "leg": 2,
                "index": 0,
                "hint": "sign again with the account's next nonce",
            },
        })
    );
    let error = from_rejection(&Rejection::new(Place::BUNDLE, Reason::EmptyBundle));
    assert_eq!(
        serde_json::to_value(&error).expect("it is JSON"),
        json!({
            "code": -32602,
            "message": "bundle: the bundle has no legs",
            "data": { "reason": "empty_bundle", "hint": "remove the leg or give it transactions" },
        })
    );
}

#[test]
fn a_bid_is_what_its_bidder_signed() {
    let bid = Bid { slot: 7, rollups: [10, 1].into(), amount: U256::from(1_000), exclusive: None, nonce: 3 };
    let wire = BidWire::new(&bid, Bytes::from_static(&[0xab; 65]));
    let signature = format!("0x{}", "ab".repeat(65));
    let golden = json!({ "slot": 7, "rollups": ["0x1", "0xa"], "amount": "1000", "nonce": 3, "signature": signature });
    assert_eq!(serde_json::to_value(&wire).expect("it is JSON"), golden);
    let read: BidWire = serde_json::from_value(golden).expect("a bid");
    assert_eq!(read.bid(), bid);
    assert_eq!(read.bid().digest(), bid.digest());

    let tagged = Bid { exclusive: Some("either".to_owned()), ..bid };
    let wire = serde_json::to_value(BidWire::new(&tagged, Bytes::new())).expect("it is JSON");
    assert_eq!(wire["exclusive"], "either");
    assert_eq!(serde_json::from_value::<BidWire>(wire).expect("a bid").bid().digest(), tagged.digest());
}

/// The type of a registration, and the separator of Lockstep's domain, as the documentation has them.
const REGISTRATION_TYPE: &str = "Registration(uint64 chainId,address sequencer,string sequencerUrl,address defaultProposer,\
address payout,bool active,uint64 slotsAhead,uint64[] cluster,Reserve reserve,uint64 blockTime,uint64 blockAnchor,bool holds,\
uint64 feeShareBps,string ordering,uint64 laneGas,uint64 inclusion,bool sameSlotClaims,bool followsL1,uint64 encryptedGas,\
uint64 fromSlot,uint64 nonce)\
Reserve(string rule,uint256 amount,Step[] steps,string basis,string measure,uint64 window,uint64 minSamples)\
Step(uint64 fromSlot,uint256 reserve)";
const RESERVE_TYPE: &str = "Reserve(string rule,uint256 amount,Step[] steps,string basis,string measure,uint64 window,\
uint64 minSamples)Step(uint64 fromSlot,uint256 reserve)";
const STEP_TYPE: &str = "Step(uint64 fromSlot,uint256 reserve)";
const DOMAIN: B256 = b256!("1c9a60e99a9db5ad110f4f5fe82699ab974b8cdafbd6ed0a4798f7028708ed58");

#[test]
fn a_registration_is_signed_over_the_order_that_it_sells() {
    let registration = Registration {
        chain: 901,
        sequencer: ACCOUNT,
        sequencer_url: "http://localhost:1".to_owned(),
        default_proposer: Address::repeat_byte(1),
        payout: Address::repeat_byte(2),
        active: true,
        slots_ahead: 3,
        cluster: [901, 902].into(),
        reserve: ReserveRule::Schedule([(5, U256::from(1_000))].into()),
        block_time: 2,
        block_anchor: 1,
        holds: true,
        fee_share_bps: 9_000,
        ordering: OrderingPolicy::TopOfBlock { lane_gas: 5_000_000 },
        inclusion: 4,
        same_slot_claims: true,
        follows_l1: false,
        encrypted_gas: 8,
        from_slot: 6,
        nonce: 7,
    };
    let word = |number: u64| B256::from(U256::from(number));
    let text = |text: &str| keccak256(text.as_bytes());
    let hash = |words: &[B256]| keccak256(words.concat());
    let step = hash(&[text(STEP_TYPE), word(5), word(1_000)]);
    let reserve = hash(&[text(RESERVE_TYPE), text("schedule"), word(0), hash(&[step]), text(""), text(""), word(0), word(0)]);
    let fields = hash(&[
        text(REGISTRATION_TYPE),
        word(901),
        ACCOUNT.into_word(),
        text("http://localhost:1"),
        Address::repeat_byte(1).into_word(),
        Address::repeat_byte(2).into_word(),
        word(1),
        word(3),
        hash(&[word(901), word(902)]),
        reserve,
        word(2),
        word(1),
        word(1),
        word(9_000),
        text("top-of-block"),
        word(5_000_000),
        word(4),
        word(1),
        word(0),
        word(8),
        word(6),
        word(7),
    ]);
    let digest = keccak256([&[0x19, 0x01], DOMAIN.as_slice(), fields.as_slice()].concat());
    assert_eq!(registration.digest(), digest);

    let wire = RegistrationWire::new(&registration, Bytes::new());
    let json = serde_json::to_value(&wire).expect("it is JSON");
    assert_eq!((json["ordering"].as_str(), json["laneGas"].as_u64()), (Some("top-of-block"), Some(5_000_000)));
    let read: RegistrationWire = serde_json::from_value(json).expect("a registration");
    assert_eq!(read.registration(), Ok(registration));
    let error = RegistrationWire { ordering: "lifo".to_owned(), ..wire }.registration().expect_err("there is no such order");
    assert_eq!(error.code(), "invalid_ordering");
}

#[test]
fn a_reserve_is_an_amount_or_a_rule() {
    let rule = |json: Value| serde_json::from_value::<ReserveWire>(json).map(|wire| wire.rule());
    assert_eq!(rule(json!("1000")).expect("an amount"), Ok(ReserveRule::Fixed(U256::from(1_000))));
    let steps = json!({ "schedule": [{ "fromSlot": 1, "reserve": "5" }, { "fromSlot": 9, "reserve": "0" }] });
    let schedule = ReserveRule::Schedule([(1, U256::from(5)), (9, U256::ZERO)].into());
    assert_eq!(rule(steps.clone()).expect("a schedule"), Ok(schedule.clone()));
    assert_eq!(serde_json::to_value(ReserveWire::from(&schedule)).expect("it is JSON"), steps);
    let implied = json!({ "implied": { "basis": "posted", "measure": "mean", "window": 9, "minSamples": 2, "floor": "3" } });
    let parsed = rule(implied.clone()).expect("a rule").expect("with known names");
    assert_eq!(serde_json::to_value(ReserveWire::from(&parsed)).expect("it is JSON"), implied);

    let bad = |json: Value| rule(json).expect("well formed").expect_err("without a meaning").code();
    let twice = json!({ "schedule": [{ "fromSlot": 1, "reserve": "5" }, { "fromSlot": 1, "reserve": "0" }] });
    assert_eq!(bad(twice), "invalid_reserve");
    let unnamed = |basis: &str, measure: &str| json!({ "implied": { "basis": basis, "measure": measure, "window": 9, "minSamples": 2, "floor": "3" } });
    assert_eq!((bad(unnamed("rumour", "mean")), bad(unnamed("posted", "mode"))), ("invalid_reserve", "invalid_reserve"));
    for malformed in [json!(1000), json!("0x10"), json!({ "fixed": "1" }), json!({ "schedule": [{ "reserve": "5" }] })] {
        assert!(serde_json::from_value::<ReserveWire>(malformed).is_err());
    }
}

#[test]
fn a_prepare_keeps_its_digest_on_the_way() {
    let listed = |transactions: Vec<Bytes>, must_succeed: Vec<u32>, requirements: Vec<RequirementResult>| PreparedList {
        list: BlockList { chain: 901, blocks: vec![ListBlock { number: 8, timestamp: 1_700_000_001, transactions }] },
        expected: vec![ExpectedBlock { number: 8, gas_used: 42_000, receipts_root: B256::repeat_byte(5), must_succeed }],
        requirements,
    };
    let increase = I256::try_from(-5).expect("a small number");
    let result = |asset| RequirementResult { account: ACCOUNT, asset, increase, first: (0, 0), last: (0, 1) };
    let results = vec![result(Asset::Native), result(Asset::Token(TOKEN))];
    let prepare = Prepare {
        chain: 901,
        slot: 3,
        attempt: 1,
        parent_hash: B256::repeat_byte(1),
        forced_prefix: B256::repeat_byte(2),
        with_cross: listed(vec![tx(), Bytes::from_static(&[1, 2])], vec![0, 1], results),
        without_cross: listed(Vec::new(), Vec::new(), Vec::new()),
        participants: [901, 902].into(),
        holds: true,
        beneficiary: Some(SENDER),
        t_decide_ms: 1_700_000_000_940,
        t_publish_ms: 1_700_000_001_000,
    };
    prepare.check().expect("it makes sense in itself");
    let signed = SignedPrepare { prepare: PrepareWire::from(&prepare), signature: Bytes::from_static(&[7; 65]) };
    let text = serde_json::to_string(&signed).expect("it is JSON");
    let read: SignedPrepare = serde_json::from_str(&text).expect("a signed prepare");
    assert_eq!(read, signed);
    let read = Prepare::from(read.prepare);
    assert_eq!(read, prepare);
    assert_eq!(read.digest(), prepare.digest());
}

#[test]
fn a_slot_is_one_line_of_this_shape() {
    let hash = |byte: &str| format!("0x{}", byte.repeat(32));
    let address = |byte: &str| format!("0x{}", byte.repeat(20));
    let (block, tx, bundle, bidder) = (hash("aa"), hash("bb"), hash("cc"), address("dd"));
    let rollups = format!(
        r#"[{{"chainId":"0x797d","blocks":[{{"number":"0x5","hash":"{block}","timestamp":1700000001,"transactions":["{tx}"]}}]}}]"#
    );
    let landed = format!(
        r#"{{"hash":"{bundle}","kind":"burn-mint-buy","rollups":["0x797d","0x797e"],"state":"landed","reason":null,"level":"G2"}}"#
    );
    let dropped = format!(
        r#"{{"hash":"{bundle}","kind":"single-rollup","rollups":["0x797d"],"state":"dropped","reason":"reverted","level":"G0"}}"#
    );
    let bids = format!(r#"[{{"bidder":"{bidder}","rollups":["0x797d","0x797e"],"amount":"1000000000","exclusive":null}}]"#);
    let allocation = format!(r#"[{{"proposer":"{bidder}","rollups":["0x797d","0x797e"],"price":"1000000000"}}]"#);
    let line = format!(
        r#"{{"slot":4,"start":1700000001000,"end":1700000002000,"rollups":{rollups},"bundles":[{landed},{dropped}],"bids":{bids},"allocation":{allocation},"value":"-12"}}"#
    );
    let report: SlotReport = serde_json::from_str(&line).expect("a report");
    assert_eq!((report.slot, report.start, report.end), (4, 1_700_000_001_000, 1_700_000_002_000));
    assert_eq!(serde_json::to_string(&report).expect("it is JSON"), line);
    // A builder that built for the slot tells when, and nothing of what did not happen.
    let timing = r#"{"buildBeganAtUs":550,"firstBidAtUs":700,"lastBidAtUs":701,"bidsSent":3,"bidsRefused":1}"#;
    let line = line.replace(r#""value":"-12"}"#, &format!(r#""value":"-12","timing":{timing}}}"#));
    let report: SlotReport = serde_json::from_str(&line).expect("a report");
    assert_eq!(report.timing.and_then(|timing| timing.last_bundle_at_us), None);
    assert_eq!(serde_json::to_string(&report).expect("it is JSON"), line);
}

/// A number as EIP-712 encodes it.
fn number(value: u64) -> B256 {
    B256::from(U256::from(value))
}

fn concatenated(words: &[B256]) -> Vec<u8> {
    words.iter().flat_map(|word| word.0).collect()
}

/// An EIP-712 array of structs: the hash of their hashes.
fn array(hashes: &[B256]) -> B256 {
    keccak256(concatenated(hashes))
}

/// EIP-712's hashStruct, from the type's full string and the encoded fields.
fn hash_struct(of: &str, fields: &[B256]) -> B256 {
    keccak256([keccak256(of).to_vec(), concatenated(fields)].concat())
}

#[test]
fn the_lockstep_hash_can_be_computed_by_hand() {
    const BLOCK_BOUND: &str = "BlockBound(uint256 chainId,uint64 min,uint64 max)";
    const LEG: &str = "Leg(uint256 chainId,LegTransaction[] txs,bool relay,uint64 relayLeg,uint64 relayMessage,uint256 relayChainId,bytes32 relayTx)";
    const LEG_TRANSACTION: &str = "LegTransaction(bytes32 hash,uint8 mode)";
    const REQUIREMENT: &str = "Requirement(uint256 chainId,address account,address asset,uint256 minIncrease)";
    const BUNDLE: &str = "Bundle(Leg[] legs,BlockBound[] blocks,uint64 minTimestamp,uint64 maxTimestamp,\
        Requirement[] requirements,string replacementUuid,uint64 replacementNonce,address signer)";

    let tx = hash_struct(LEG_TRANSACTION, &[TX_HASH, number(1)]);
    let leg = [LEG, LEG_TRANSACTION].concat();
    let txs = hash_struct(&leg, &[number(1), array(&[tx]), number(0), number(0), number(0), number(0), number(0)]);
    let relay = hash_struct(&leg, &[number(10), array(&[]), number(1), number(0), number(2), number(0), number(0)]);
    let bound = hash_struct(BLOCK_BOUND, &[number(1), number(5), number(9)]);
    let requirement = hash_struct(REQUIREMENT, &[number(10), ACCOUNT.into_word(), TOKEN.into_word(), number(1_000_000)]);
    let by_hand = hash_struct(
        // The types that a type names follow it in the order of their names.
        &[BUNDLE, BLOCK_BOUND, LEG, LEG_TRANSACTION, REQUIREMENT].concat(),
        &[
            array(&[txs, relay]),
            array(&[bound]),
            number(1_700_000_000),
            number(1_700_000_600),
            array(&[requirement]),
            keccak256(UUID),
            number(7),
            SENDER.into_word(),
        ],
    );
    assert_eq!(bundle().txs().next().map(|tx| tx.tx.hash()), Some(TX_HASH));
    assert_eq!(by_hand, BUNDLE_HASH);
    assert_eq!(bundle().hash(), BUNDLE_HASH);
}

//! A stand-in speaks for one signature, in one transaction.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, U256, address, keccak256};
use lockstep_primitives::{Reason, SignedTx, StandIn};
use lockstep_simulation::{BlockContext, BlockTx, EthereumFork, MemoryState, OpFork, PendingBlock, Rules, StandIns, TxOutcome};
use lockstep_testkit::{Call, GWEI, sign_digest, user};
use proptest::{prelude::*, sample::select};

use crate::support::{CHAIN, address, config, context, funded, nonce_of, open, print, word};

const PRAGUE: Rules = Rules::Ethereum(EthereumFork::Prague);
const RULES: [Rules; 3] = [PRAGUE, Rules::Ethereum(EthereumFork::Osaka), Rules::OpStack(OpFork::Jovian)];

/// Calls `ecrecover` with its calldata and all its gas; stores and returns the answer.
const RECOVERER: Address = address!("00000000000000000000000000000000000e0001");
/// The same with exactly the gas that `ecrecover` costs.
const FRUGAL: Address = address!("00000000000000000000000000000000000e0002");
/// The same with one less.
const STINGY: Address = address!("00000000000000000000000000000000000e0003");
/// Whose signature is missing.
const ABSENT: Address = Address::repeat_byte(0xab);

/// CALLDATACOPY, STATICCALL(gas, 1, calldata), SSTORE(0, answer), RETURN(answer); the answer is zero if there is none.
fn recoverer(gas: &[u8]) -> Bytes {
    let mut code = vec![0x36, 0x5f, 0x5f, 0x37, 0x60, 0x20, 0x61, 0x01, 0x00, 0x36, 0x5f, 0x60, 0x01];
    code.extend(gas);
    code.extend([0xfa, 0x50, 0x61, 0x01, 0x00, 0x51, 0x5f, 0x55, 0x60, 0x20, 0x61, 0x01, 0x00, 0xf3]);
    code.into()
}

fn state() -> MemoryState {
    let mut state = funded(2);
    state.set_account(RECOVERER, U256::ZERO, 1, recoverer(&[0x5a]));
    state.set_account(FRUGAL, U256::ZERO, 1, recoverer(&[0x61, 0x0b, 0xb8]));
    state.set_account(STINGY, U256::ZERO, 1, recoverer(&[0x61, 0x0b, 0xb7]));
    state
}

/// A signature that nobody made, of `ABSENT` over some digest.
fn absent(number: u8) -> StandIn {
    StandIn {
        digest: keccak256([number]),
        r: B256::repeat_byte(0x10 + number),
        s: B256::repeat_byte(0x20 + number),
        signer: ABSENT,
    }
}

/// What `ecrecover` is asked about it.
fn question(stand_in: &StandIn, v: u64) -> [u8; 128] {
    let words = [stand_in.digest.0, word(v), stand_in.r.0, stand_in.s.0];
    let mut input = [0; 128];
    input.copy_from_slice(&words.concat());
    input
}

fn known(stand_ins: &[StandIn]) -> StandIns {
    Arc::from(stand_ins)
}

/// User 0 asks a contract.
fn asking(block: &PendingBlock, contract: Address, input: &[u8]) -> Arc<SignedTx> {
    let call = Call::contract(contract, Bytes::copy_from_slice(input), 100_000);
    call.sign(CHAIN, user(0), nonce_of(block, address(0)), GWEI)
}

fn ask_at(block: &mut PendingBlock, contract: Address, input: &[u8], stand_ins: &StandIns) -> TxOutcome {
    let tx = BlockTx::Signed(asking(block, contract, input));
    let executed = block.execute_with(&tx, stand_ins).expect("the engine works").expect("the transaction is valid");
    assert!(executed.outcome.succeeded(), "{:?}", executed.outcome.status);
    executed.outcome.as_ref().clone()
}

/// Asks with stand-ins and returns the answer.
fn ask(block: &mut PendingBlock, input: &[u8], stand_ins: &StandIns) -> B256 {
    B256::from_slice(&ask_at(block, RECOVERER, input, stand_ins).output)
}

#[test]
fn a_stand_in_answers_its_signer_for_its_signature() {
    for rules in RULES {
        let mut block = open(rules, &state());
        let stand_in = absent(1);
        for v in [27, 28] {
            assert_eq!(ask(&mut block, &question(&stand_in, v), &known(&[stand_in])), ABSENT.into_word(), "{rules:?}");
        }
        assert_eq!(block.state().changes().expect("it can be read").accounts[&RECOVERER].storage[&U256::ZERO], stored(ABSENT));
    }
}

fn stored(signer: Address) -> U256 {
    U256::from_be_bytes(signer.into_word().0)
}

#[test]
fn without_its_stand_in_nobody_made_the_signature() {
    for rules in RULES {
        let stand_in = absent(1);
        let answer = ask(&mut open(rules, &state()), &question(&stand_in, 27), &StandIns::default());
        assert_ne!(answer, ABSENT.into_word());
        let others = known(&[absent(2), absent(3)]);
        assert_eq!(ask(&mut open(rules, &state()), &question(&stand_in, 27), &others), answer);
    }
}

#[test]
fn a_stand_in_is_gone_with_its_transaction() {
    for rules in RULES {
        let stand_in = absent(1);
        let input = question(&stand_in, 27);
        let nobody = ask(&mut open(rules, &state()), &input, &StandIns::default());
        let mut block = open(rules, &state());
        let answers = [(); 4].map(|()| {
            let drafted = ask(&mut block, &input, &known(&[stand_in]));
            (drafted, ask(&mut block, &input, &StandIns::default()))
        });
        assert_eq!(answers, [(ABSENT.into_word(), nobody); 4]);
    }
}

#[test]
fn several_stand_ins_answer_each_for_itself() {
    let other = StandIn { signer: Address::repeat_byte(0xcd), ..absent(2) };
    let both = known(&[absent(1), other]);
    let mut block = open(PRAGUE, &state());
    assert_eq!(ask(&mut block, &question(&absent(1), 27), &both), ABSENT.into_word());
    assert_eq!(ask(&mut block, &question(&other, 27), &both), other.signer.into_word());
    // Not for a mixture of the two.
    let mixed = StandIn { r: other.r, ..absent(1) };
    assert_ne!(ask(&mut block, &question(&mixed, 27), &both), ABSENT.into_word());
}

#[test]
fn signatures_that_are_there_are_recovered_beside_a_stand_in() {
    for rules in RULES {
        let digest = keccak256("signed by user 1");
        let signature = sign_digest(user(1), digest).as_bytes();
        let mut input = [0_u8; 128];
        input[..32].copy_from_slice(digest.as_slice());
        input[63] = signature[64];
        input[64..].copy_from_slice(&signature[..64]);
        let mut block = open(rules, &state());
        assert_eq!(ask(&mut block, &input, &known(&[absent(1)])), address(1).into_word());
    }
}

#[test]
fn a_stand_in_costs_what_recovery_costs() {
    for rules in RULES {
        let digest = keccak256("signed by user 1");
        let signature = sign_digest(user(1), digest);
        let stand_in = StandIn { digest, r: signature.r().into(), s: signature.s().into(), signer: ABSENT };
        let input = question(&stand_in, 27 + u64::from(signature.v()));
        for contract in [RECOVERER, FRUGAL] {
            let sealed = ask_at(&mut open(rules, &state()), contract, &input, &StandIns::default());
            let drafted = ask_at(&mut open(rules, &state()), contract, &input, &known(&[stand_in]));
            assert_eq!(B256::from_slice(&sealed.output), address(1).into_word());
            assert_eq!(B256::from_slice(&drafted.output), ABSENT.into_word());
            assert_eq!(sealed.gas_used, drafted.gas_used);
        }
        for stand_ins in [known(&[stand_in]), StandIns::default()] {
            let outcome = ask_at(&mut open(rules, &state()), STINGY, &input, &stand_ins);
            assert_eq!(B256::from_slice(&outcome.output), B256::ZERO, "there is no answer for too little gas");
        }
    }
}

#[test]
fn room_is_kept_for_evidence_until_the_draft_is_taken_back() {
    let mut block = open(PRAGUE, &state());
    let before = block.checkpoint();
    let untouched = print(&block);
    let input = question(&absent(1), 27);
    let bytes = u64::try_from(asking(&block, RECOVERER, &input).raw().len()).expect("it is small");
    ask(&mut block, &input, &known(&[absent(1)]));
    assert_eq!(block.gas_left(), block.context().gas_limit - block.gas_used() - 30 * bytes);
    block.rollback(before);
    assert_eq!(print(&block), untouched);
    ask(&mut block, &input, &StandIns::default());
    assert_eq!(block.gas_left(), block.context().gas_limit - block.gas_used());
}

#[test]
fn a_draft_needs_room_for_its_evidence() {
    let tight = BlockContext { gas_limit: 100_000, ..context(PRAGUE) };
    let mut block = PendingBlock::open(tight, Arc::new(state())).expect("the block opens");
    let tx = BlockTx::Signed(asking(&block, RECOVERER, &question(&absent(1), 27)));
    let refusal = block.execute_with(&tx, &known(&[absent(1)])).expect("the engine works").map(|_| ());
    assert_eq!(refusal, Err(Reason::NoRoom { gas: 100_000, left: 100_000 }));
    assert!(block.execute(&tx).expect("the engine works").is_ok(), "sealed it fits");
}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn a_stand_in_answers_for_no_other_digest_r_or_s(rules in select(RULES.to_vec()), part in 0_usize..3, bit in 0_usize..256) {
        let stand_in = absent(1);
        let mut input = question(&stand_in, 27);
        // Every word but that of v, which is the second.
        let offset = [0, 64, 96][part];
        input[offset + bit / 8] ^= 1 << (bit % 8);
        let sealed = ask(&mut open(rules, &state()), &input, &StandIns::default());
        let drafted = ask(&mut open(rules, &state()), &input, &known(&[stand_in]));
        prop_assert_eq!(drafted, sealed);
        prop_assert_ne!(drafted, ABSENT.into_word());
    }
}

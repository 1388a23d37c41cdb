//! What differs from one fork of the OP stack to the next: who pays what to the wei, and what a block may hold.

use std::sync::Arc;

use alloy_consensus::{SignableTransaction, TxEip4844, TxEnvelope};
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, address, hex};
use lockstep_primitives::{Reason, SignedTx};
use lockstep_simulation::{
    BlockContext, BlockTx, Deposit, EthereumFork, MemoryState, OpFork, PendingBlock, Rules, StateView, TxFees, TxOutcome,
};
use lockstep_testkit::{Call, FEE_CAP, GWEI, gwei, sign_digest, user};
use op_alloy::consensus::TxDeposit;

use crate::support::{CHAIN, address, context, delegate, funded, open, print, run};

const L1_BLOCK: Address = address!("4200000000000000000000000000000000000015");
const BASE_FEE_VAULT: Address = address!("4200000000000000000000000000000000000019");
const L1_FEE_VAULT: Address = address!("420000000000000000000000000000000000001A");
const OPERATOR_FEE_VAULT: Address = address!("420000000000000000000000000000000000001b");

/// A contract call on OP Mainnet that op-geth's tests publish: FastLZ makes 202 bytes of it.
const PUBLISHED: &[u8] = &hex!(
    "02f901550a758302df1483be21b88304743f94f80e51afb613d764fa61751affd3313c190a86bb870151bd62fd12adb8e41ef24f3f000000000000000000000000000000000000000000000000000000000000006e000000000000000000000000af88d065e77c8cc2239327c5edb3a432268e5831000000000000000000000000000000000000000000000000000000000003c1e5000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000a000000000000000000000000000000000000000000000000000000000000000148c89ed219d02f1a5be012c689b4f5b731827bebe000000000000000000000000c001a033fd89cb37c31b2cba46b6466e040c61fc9b2a3675a7f5f493ebd5ad77c497f8a07cdf65680e238392693019b4092f610222e71b7cec06449cb922b93b6a12744e"
);

fn op(fork: OpFork) -> Rules {
    Rules::OpStack(fork)
}

/// What L1 tells: base fee, blob base fee, their scalars, operator's scalar and constant.
fn with_l1(state: &mut MemoryState, fees: [u64; 2], scalars: [u32; 2], operator: (u32, u64)) {
    let mut packed = [0_u8; 32];
    packed[16..20].copy_from_slice(&scalars[0].to_be_bytes());
    packed[20..24].copy_from_slice(&scalars[1].to_be_bytes());
    let mut operator_word = [0_u8; 32];
    operator_word[18..20].copy_from_slice(&400_u16.to_be_bytes());
    operator_word[20..24].copy_from_slice(&operator.0.to_be_bytes());
    operator_word[24..32].copy_from_slice(&operator.1.to_be_bytes());
    // STOP.
    state.set_account(L1_BLOCK, U256::ZERO, 1, Bytes::from_static(&[0]));
    let slots = [
        (1_u64, U256::from(fees[0])),
        (3, U256::from_be_bytes(packed)),
        (7, U256::from(fees[1])),
        (8, U256::from_be_bytes(operator_word)),
    ];
    for (slot, value) in slots {
        state.set_storage(L1_BLOCK, U256::from(slot), value);
    }
}

fn balance(block: &PendingBlock, account: Address) -> U256 {
    block.state().account(account).expect("the state can be read").map_or(U256::ZERO, |account| account.balance)
}

/// Executes the published call on a rollup of OP Mainnet's id, where its sender has enough.
fn published(fork: OpFork, mut state: MemoryState) -> (TxOutcome, PendingBlock) {
    let tx = SignedTx::decode(Bytes::from_static(PUBLISHED)).expect("it is a transaction");
    state.set_account(tx.signer(), U256::from(10).pow(U256::from(20)), tx.nonce(), Bytes::new());
    let context = BlockContext { chain: 10, base_fee: 1, ..context(op(fork)) };
    let mut block = PendingBlock::open(context, Arc::new(state)).expect("the block opens");
    let outcome = run(&mut block, &Arc::new(tx));
    assert!(outcome.succeeded());
    (outcome, block)
}

#[test]
fn from_fjord_on_the_published_call_pays_339584364852_wei_for_its_data() {
    for fork in OpFork::ALL.into_iter().filter(|fork| *fork >= OpFork::Fjord) {
        let mut state = MemoryState::new();
        with_l1(&mut state, [20_000_000_000, 1_000_000_000], [5_227, 1_014_213], (0, 0));
        let (outcome, block) = published(fork, state);
        assert_eq!(outcome.fees.l1_data, U256::from(339_584_364_852_u64), "{fork:?}");
        assert_eq!(balance(&block, L1_FEE_VAULT), outcome.fees.l1_data);
        assert_eq!(balance(&block, OPERATOR_FEE_VAULT), U256::ZERO);
        assert_eq!(balance(&block, BASE_FEE_VAULT), outcome.fees.base);
    }
}

#[test]
fn under_ecotone_data_costs_by_its_calldata_gas() {
    let mut state = MemoryState::new();
    with_l1(&mut state, [20_000_000_000, 1_000_000_000], [5_227, 1_014_213], (0, 0));
    let (outcome, block) = published(OpFork::Ecotone, state);
    let zeros = PUBLISHED.iter().filter(|byte| **byte == 0).count();
    let gas = U256::from(zeros * 4 + (PUBLISHED.len() - zeros) * 16);
    let price = U256::from(16_u64 * 20_000_000_000 * 5_227 + 1_000_000_000 * 1_014_213);
    assert_eq!(outcome.fees.l1_data, gas * price / U256::from(16_000_000));
    assert_eq!(balance(&block, L1_FEE_VAULT), outcome.fees.l1_data);
}

#[test]
fn while_ecotones_scalars_are_empty_data_costs_as_under_bedrock() {
    let mut state = MemoryState::new();
    with_l1(&mut state, [20_000_000_000, 0], [0, 0], (0, 0));
    // Overhead and scalar of Bedrock.
    state.set_storage(L1_BLOCK, U256::from(5), U256::from(188));
    state.set_storage(L1_BLOCK, U256::from(6), U256::from(684_000));
    let (outcome, block) = published(OpFork::Ecotone, state);
    let zeros = PUBLISHED.iter().filter(|byte| **byte == 0).count();
    let gas = U256::from(zeros * 4 + (PUBLISHED.len() - zeros) * 16 + 188);
    let expected = gas * U256::from(20_000_000_000_u64) * U256::from(684_000) / U256::from(1_000_000);
    assert_eq!(outcome.fees.l1_data, expected);
    assert_eq!(balance(&block, L1_FEE_VAULT), expected);
}

#[test]
fn the_operator_fee_begins_with_isthmus_and_is_scaled_otherwise_from_jovian_on() {
    for fork in OpFork::ALL {
        let mut state = MemoryState::new();
        with_l1(&mut state, [0, 0], [1, 1], (1_439, 1_000_033));
        let (outcome, block) = published(fork, state);
        let gas = outcome.gas_used;
        let expected = match fork {
            OpFork::Isthmus => gas * 1_439 / 1_000_000 + 1_000_033,
            OpFork::Jovian | OpFork::Karst => gas * 1_439 * 100 + 1_000_033,
            _ => 0,
        };
        assert_eq!(outcome.fees.operator, U256::from(expected), "{fork:?}");
        assert_eq!(balance(&block, OPERATOR_FEE_VAULT), outcome.fees.operator, "{fork:?}");
    }
}

#[test]
fn the_operators_constant_is_charged_although_its_scalar_is_zero_and_never_to_a_deposit() {
    let mut state = funded(2);
    with_l1(&mut state, [0, 0], [1, 1], (0, 77));
    let mut block = open(op(OpFork::Isthmus), &state);
    let executed = block.execute(&deposit(address(1), 100_000)).expect("the engine works").expect("it is valid");
    assert_eq!(executed.outcome.fees, TxFees::default());
    let outcome = run(&mut block, &Call::pay(address(1), gwei(1)).sign(CHAIN, user(0), 0, GWEI));
    assert_eq!(outcome.fees.operator, U256::from(77));
    assert_eq!(balance(&block, OPERATOR_FEE_VAULT), U256::from(77));
}

fn deposit(to: Address, gas_limit: u64) -> BlockTx {
    BlockTx::Deposit(Arc::new(Deposit::new(TxDeposit {
        source_hash: B256::repeat_byte(0x50),
        from: Address::repeat_byte(0x71),
        to: TxKind::Call(to),
        mint: 0,
        value: U256::ZERO,
        gas_limit,
        is_system_transaction: false,
        input: Bytes::new(),
    })))
}

/// Tries a transaction that the block refuses.
fn refusal(block: &mut PendingBlock, tx: &BlockTx) -> Reason {
    let before = print(block);
    let refusal = block.execute(tx).expect("the engine works").map(|_| ()).expect_err("it is refused");
    assert_eq!(print(block), before, "what is refused leaves no trace");
    refusal
}

#[test]
fn karst_caps_no_deposit() {
    const LIMIT: u64 = (1 << 24) + 1_000_000;
    // GAS into slot 0, STOP.
    let meter = Address::repeat_byte(0x70);
    let mut state = funded(1);
    state.set_account(meter, U256::ZERO, 1, Bytes::from_static(&[0x5a, 0x5f, 0x55, 0x00]));
    let mut block = open(op(OpFork::Karst), &state);
    let executed = block.execute(&deposit(meter, LIMIT)).expect("the engine works").expect("it is valid");
    assert!(executed.outcome.succeeded());
    let seen = block.state().storage(meter, U256::ZERO).expect("the state can be read");
    assert_eq!(seen, U256::from(LIMIT - 21_000 - 2), "all of its gas is there");
}

#[test]
fn karst_has_osakas_evm() {
    // CLZ of 1 (EIP-7939) into slot 0, STOP.
    let clz = Address::repeat_byte(0x70);
    for (fork, known) in [(OpFork::Jovian, false), (OpFork::Karst, true)] {
        let mut state = funded(1);
        state.set_account(clz, U256::ZERO, 1, Bytes::from_static(&[0x60, 0x01, 0x1e, 0x5f, 0x55, 0x00]));
        let mut block = open(op(fork), &state);
        let outcome = run(&mut block, &Call::contract(clz, Bytes::new(), 100_000).sign(CHAIN, user(0), 0, GWEI));
        assert_eq!(outcome.succeeded(), known, "{fork:?}");
        let stored = block.state().storage(clz, U256::ZERO).expect("the state can be read");
        assert_eq!(stored, U256::from(if known { 255 } else { 0 }));
    }
}

#[test]
fn signatures_over_p256_are_checked_from_fjord_on() {
    // P256VERIFY (RIP-7212) at 0x100: a call with nothing to verify succeeds there, and costs what the precompile costs.
    let target = address!("0000000000000000000000000000000000000100");
    let gas_used = |fork| {
        let mut block = open(op(fork), &funded(1));
        run(&mut block, &Call::contract(target, Bytes::new(), 100_000).sign(CHAIN, user(0), 0, GWEI)).gas_used
    };
    assert_eq!(OpFork::ALL.map(gas_used), [21_000, 24_450, 24_450, 24_450, 24_450, 24_450, 27_900]);
}

/// A signed transaction with blobs, in its block form.
fn blobs(count: u8) -> BlockTx {
    let tx = TxEip4844 {
        chain_id: CHAIN,
        gas_limit: 21_000,
        max_fee_per_gas: FEE_CAP,
        to: address(1),
        blob_versioned_hashes: (0..count)
            .map(|number| {
                let mut hash = B256::repeat_byte(number);
                hash[0] = 1;
                hash
            })
            .collect(),
        max_fee_per_blob_gas: GWEI,
        ..TxEip4844::default()
    };
    let signature = sign_digest(user(0), tx.signature_hash());
    BlockTx::Signed(Arc::new(SignedTx::from_parts(TxEnvelope::from(tx.into_signed(signature)), address(0))))
}

#[test]
fn the_op_stack_refuses_blobs_by_name() {
    for fork in OpFork::ALL {
        assert_eq!(refusal(&mut open(op(fork), &funded(2)), &blobs(1)), Reason::BlobTransaction, "{fork:?}");
    }
    let shanghai = Rules::Ethereum(EthereumFork::Shanghai);
    assert_eq!(refusal(&mut open(shanghai, &funded(2)), &blobs(1)), Reason::BlobTransaction);
}

#[test]
fn blobs_are_bounded_by_transaction_and_by_block() {
    for (fork, by_tx, by_block) in [(EthereumFork::Cancun, 6, 6), (EthereumFork::Prague, 9, 9), (EthereumFork::Osaka, 6, 9)] {
        let rules = Rules::Ethereum(fork);
        let mut block = open(rules, &funded(2));
        let refused = refusal(&mut block, &blobs(by_tx + 1));
        assert!(matches!(refused.code(), "invalid_transaction" | "no_room"), "{fork:?}: {refused}");
        block.execute(&blobs(by_tx)).expect("the engine works").expect("as many as the limit are valid");
        assert_eq!(block.summary(Vec::new()).blob_gas_used, Some(u64::from(by_tx) * 131_072));
        if by_block > by_tx {
            // Three more fit beside six, four do not: it is the block that is full, whatever the nonce.
            let left = u64::from(by_block - by_tx) * 131_072;
            let refused = refusal(&mut block, &blobs(by_block - by_tx + 1));
            assert_eq!(refused, Reason::NoRoom { gas: left + 131_072, left });
        }
    }
}

#[test]
fn an_activation_block_holds_deposits_only() {
    let activating = BlockContext { deposits_only: true, ..context(op(OpFork::Jovian)) };
    let mut block = PendingBlock::open(activating, Arc::new(funded(2))).expect("the block opens");
    block.execute(&deposit(address(1), 100_000)).expect("the engine works").expect("a deposit is what it is for");
    let pay = Call::pay(address(1), gwei(1)).sign(CHAIN, user(0), 0, GWEI);
    let refused = refusal(&mut block, &BlockTx::Signed(pay));
    assert_eq!((refused.code(), refused), ("only_deposits", Reason::OnlyDeposits));
    block.execute(&deposit(address(1), 100_000)).expect("the engine works").expect("another deposit is");
}

#[test]
fn a_deposit_behind_other_transactions_is_refused() {
    let mut block = open(op(OpFork::Jovian), &funded(2));
    run(&mut block, &Call::pay(address(1), gwei(1)).sign(CHAIN, user(0), 0, GWEI));
    assert_eq!(refusal(&mut block, &deposit(address(1), 100_000)), Reason::DepositTransaction);
}

#[test]
fn the_footprint_is_in_the_header_from_jovian_on() {
    for fork in OpFork::ALL {
        let mut state = funded(2);
        with_l1(&mut state, [0, 0], [1, 1], (0, 0));
        let mut block = open(op(fork), &state);
        run(&mut block, &Call::pay(address(1), gwei(1)).sign(CHAIN, user(0), 0, GWEI));
        // A small transaction counts as 100 bytes of 400 gas.
        let expected = if fork >= OpFork::Jovian { 40_000 } else { 0 };
        assert_eq!((block.footprint(), block.summary(Vec::new()).blob_gas_used), (expected, Some(expected)), "{fork:?}");
    }
}

#[test]
fn set_code_transactions_are_valid_from_isthmus_on() {
    for fork in OpFork::ALL {
        let mut block = open(op(fork), &funded(2));
        let tx = BlockTx::Signed(delegate(CHAIN, (0, 0), (1, 0), L1_BLOCK));
        assert_eq!(tx.authorities(CHAIN).collect::<Vec<_>>(), [(address(1), 0)]);
        let valid = block.execute(&tx).expect("the engine works").is_ok();
        assert_eq!(valid, fork >= OpFork::Isthmus, "{fork:?}");
        let nonce = block.state().account(address(1)).expect("the state can be read").map_or(0, |account| account.nonce);
        assert_eq!(nonce, u64::from(valid), "the authorization uses up a nonce of whoever signed it");
    }
}

#[test]
fn the_least_gas_that_admission_lets_in_is_the_least_that_is_valid() {
    let data = [0_u8, 0, 0, 7, 8, 9, 0, 1].repeat(40);
    for rules in [EthereumFork::Cancun, EthereumFork::Prague, EthereumFork::Osaka]
        .map(Rules::Ethereum)
        .into_iter()
        .chain(OpFork::ALL.map(Rules::OpStack))
    {
        let calling = |gas| Call::contract(address(1), data.clone().into(), gas).sign(CHAIN, user(0), 0, GWEI);
        let least = rules.tx_rules().minimum_gas(&calling(0));
        assert_eq!(rules.tx_rules().check(&calling(least)), Ok(()));
        let below = Reason::GasBelowMinimum { gas: least - 1, minimum: least };
        assert_eq!(rules.tx_rules().check(&calling(least - 1)), Err(below));
        refusal(&mut open(rules, &funded(2)), &BlockTx::Signed(calling(least - 1)));
        assert!(run(&mut open(rules, &funded(2)), &calling(least)).succeeded(), "{rules:?}");
    }
}

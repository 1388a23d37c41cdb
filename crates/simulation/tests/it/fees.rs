//! No wei comes from nowhere: fees go where the rules send them, and what a transaction may ask for is bounded.

use std::sync::Arc;

use alloy_consensus::TxEip1559;
use alloy_primitives::{Address, B256, Bytes, I256, TxKind, U256, address};
use lockstep_primitives::{Reason, SignedTx};
use lockstep_simulation::{
    BlockContext, BlockTx, Deposit, EthereumFork, MemoryState, NextBlock, OpFork, ParentBlock, PendingBlock, Rules, StateView,
};
use lockstep_testkit::{Call, FEE_CAP, GWEI, OSAKA, gwei, sign, user};
use op_alloy::consensus::TxDeposit;
use proptest::{collection::vec, prelude::*};

use crate::support::{
    BASE_FEE, BENEFICIARY, CHAIN, Checked, address, config, context, first_context, funded, nonce_of, open, print, rollup, run,
    word, world,
};

const PRAGUE: Rules = Rules::Ethereum(EthereumFork::Prague);
const ISTHMUS: Rules = Rules::OpStack(OpFork::Isthmus);
const JOVIAN: Rules = Rules::OpStack(OpFork::Jovian);

pub(crate) const PEOPLE: usize = 4;

/// Writes the second word of its calldata into the slot that the first one names.
pub(crate) const STORE: Address = address!("00000000000000000000000000000000000e0001");
/// Reverts.
const REVERT: Address = address!("00000000000000000000000000000000000e0002");
/// Halts.
const HALT: Address = address!("00000000000000000000000000000000000e0003");

const L1_BLOCK: Address = address!("4200000000000000000000000000000000000015");
const BASE_FEE_VAULT: Address = address!("4200000000000000000000000000000000000019");
const L1_FEE_VAULT: Address = address!("420000000000000000000000000000000000001A");
const OPERATOR_FEE_VAULT: Address = address!("420000000000000000000000000000000000001b");

const L1_BASE_FEE: u64 = 9_000_000_007;
const L1_BASE_FEE_SCALAR: u32 = 5_227;
const BLOB_BASE_FEE: u64 = 1_000_003;
const BLOB_BASE_FEE_SCALAR: u32 = 1_014_213;
const OPERATOR_SCALAR: u32 = 1_439;
const OPERATOR_CONSTANT: u64 = 1_000_033;

/// Everybody has something, and on the OP stack the fees are configured.
pub(crate) fn genesis(rules: Rules) -> MemoryState {
    let mut state = funded(PEOPLE);
    state.set_account(STORE, U256::ZERO, 1, Bytes::from_static(&[0x60, 0x20, 0x35, 0x5f, 0x35, 0x55, 0x00]));
    state.set_storage(STORE, U256::ZERO, U256::from(7));
    state.set_account(REVERT, U256::ZERO, 1, Bytes::from_static(&[0x5f, 0x5f, 0xfd]));
    state.set_account(HALT, U256::ZERO, 1, Bytes::from_static(&[0xfe]));
    if rules.is_op_stack() {
        let mut scalars = [0_u8; 32];
        scalars[16..20].copy_from_slice(&L1_BASE_FEE_SCALAR.to_be_bytes());
        scalars[20..24].copy_from_slice(&BLOB_BASE_FEE_SCALAR.to_be_bytes());
        let mut operator = [0_u8; 32];
        operator[18..20].copy_from_slice(&400_u16.to_be_bytes());
        operator[20..24].copy_from_slice(&OPERATOR_SCALAR.to_be_bytes());
        operator[24..32].copy_from_slice(&OPERATOR_CONSTANT.to_be_bytes());
        // STOP.
        state.set_account(L1_BLOCK, U256::ZERO, 1, Bytes::from_static(&[0x00]));
        let slots = [
            (1_u64, U256::from(L1_BASE_FEE)),
            (3, U256::from_be_bytes(scalars)),
            (7, U256::from(BLOB_BASE_FEE)),
            (8, U256::from_be_bytes(operator)),
        ];
        for (slot, value) in slots {
            state.set_storage(L1_BLOCK, U256::from(slot), value);
        }
    }
    state
}

fn supply(state: &MemoryState) -> U256 {
    state.iter().fold(U256::ZERO, |sum, (_, account)| sum + account.balance)
}

fn after(state: &MemoryState, block: &PendingBlock) -> MemoryState {
    let mut after = state.clone();
    after.apply(&block.state().changes().expect("the state can be read"));
    after
}

fn balance(state: &MemoryState, address: Address) -> U256 {
    state.account(address).expect("the state can be read").map_or(U256::ZERO, |account| account.balance)
}

/// A transaction that moves something, and may fail.
#[derive(Clone, Debug)]
struct Transfer {
    sender: usize,
    target: Target,
    /// In gwei.
    value: u64,
    /// In gwei.
    tip: u64,
    /// Gas beyond what it takes.
    spare: u64,
}

#[derive(Clone, Debug)]
enum Target {
    /// A user, with some calldata.
    User(usize, Vec<u8>),
    /// Somebody unheard of.
    Stranger(u8),
    /// Writes a slot, or clears it, which is refunded.
    Store {
        slot: u64,
        value: u64,
    },
    Revert,
    Halt,
}

fn transfer() -> impl Strategy<Value = Transfer> {
    let data = prop_oneof![2 => Just(Vec::new()), 1 => vec(any::<u8>(), 0..300), 1 => vec(Just(0_u8), 0..300)];
    let target = prop_oneof![
        4 => (0..PEOPLE, data).prop_map(|(number, data)| Target::User(number, data)),
        2 => (0x70_u8..0x74).prop_map(Target::Stranger),
        3 => (0_u64..2, 0_u64..2).prop_map(|(slot, value)| Target::Store { slot, value }),
        1 => Just(Target::Revert),
        1 => Just(Target::Halt),
    ];
    (0..PEOPLE, target, 0_u64..1_000, 0_u64..3, 0_u64..40_000).prop_map(|(sender, target, value, tip, spare)| Transfer {
        sender,
        target,
        value,
        tip,
        spare,
    })
}

impl Transfer {
    fn sign(&self, block: &PendingBlock) -> Arc<SignedTx> {
        let (to, data) = match &self.target {
            Target::User(number, data) => (address(*number), data.clone()),
            Target::Stranger(byte) => (Address::repeat_byte(*byte), Vec::new()),
            Target::Store { slot, value } => (STORE, [word(*slot), word(*value)].concat()),
            Target::Revert => (REVERT, Vec::new()),
            Target::Halt => (HALT, Vec::new()),
        };
        // The floor of calldata is 40 gas a byte (EIP-7623).
        let gas = 50_000 + 40 * u64::try_from(data.len()).expect("it is small") + self.spare;
        let call = Call::contract(to, data.into(), gas).with_value(gwei(self.value));
        call.sign(CHAIN, user(self.sender), nonce_of(block, address(self.sender)), u128::from(self.tip) * GWEI)
    }
}

fn op_fork(rules: Rules) -> OpFork {
    let Rules::OpStack(fork) = rules else { panic!("{rules:?} has no such fee") };
    fork
}

/// What the OP stack takes for a transaction's data: its estimated compressed size (in millionths of a byte) times the price;
/// under Ecotone a sixteenth of its calldata gas times the price.
fn l1_fee(rules: Rules, tx: &SignedTx) -> U256 {
    let price = U256::from(16) * U256::from(L1_BASE_FEE) * U256::from(L1_BASE_FEE_SCALAR)
        + U256::from(BLOB_BASE_FEE) * U256::from(BLOB_BASE_FEE_SCALAR);
    if op_fork(rules) == OpFork::Ecotone {
        return U256::from(calldata_gas(tx.raw())) * price / U256::from(16_000_000);
    }
    U256::from(op_revm::estimate_tx_compressed_size(tx.raw())) * price / U256::from(1_000_000_000_000_u64)
}

fn calldata_gas(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| if *byte == 0 { 4 } else { 16 }).sum()
}

/// What the OP stack takes for a transaction's execution.
fn operator_fee(rules: Rules, gas_used: u64) -> U256 {
    let fork = op_fork(rules);
    if fork < OpFork::Isthmus {
        return U256::ZERO;
    }
    let product = U256::from(gas_used) * U256::from(OPERATOR_SCALAR);
    let scaled = if fork >= OpFork::Jovian { product * U256::from(100) } else { product / U256::from(1_000_000) };
    scaled + U256::from(OPERATOR_CONSTANT)
}

fn fees_go_where_the_rules_send_them(rules: Rules, transfers: &[Transfer]) -> Checked {
    let before = genesis(rules);
    let mut block = open(rules, &before);
    let start = block.checkpoint();
    let [mut base, mut priority, mut l1, mut operator] = [U256::ZERO; 4];
    for transfer in transfers {
        let tx = transfer.sign(&block);
        let outcome = run(&mut block, &tx);
        let gas_used = U256::from(outcome.gas_used);
        prop_assert_eq!(outcome.fees.base, gas_used * U256::from(BASE_FEE));
        prop_assert_eq!(outcome.fees.priority, gas_used * gwei(transfer.tip));
        if rules.is_op_stack() {
            prop_assert_eq!(outcome.fees.l1_data, l1_fee(rules, &tx));
            prop_assert_eq!(outcome.fees.operator, operator_fee(rules, outcome.gas_used));
        }
        base += outcome.fees.base;
        priority += outcome.fees.priority;
        l1 += outcome.fees.l1_data;
        operator += outcome.fees.operator;
    }
    let after = after(&before, &block);
    prop_assert_eq!(balance(&after, BENEFICIARY), priority);
    let burned = if rules.is_op_stack() {
        prop_assert_eq!(balance(&after, BASE_FEE_VAULT), base);
        prop_assert_eq!(balance(&after, L1_FEE_VAULT), l1);
        prop_assert_eq!(balance(&after, OPERATOR_FEE_VAULT), operator);
        U256::ZERO
    } else {
        prop_assert_eq!((l1, operator), (U256::ZERO, U256::ZERO));
        base
    };
    prop_assert_eq!(supply(&after) + burned, supply(&before));
    let changes = block.balance_changes(start).expect("the engine works");
    let net = changes.into_iter().fold(I256::ZERO, |sum, (_, change)| sum + change);
    prop_assert_eq!(net, -I256::from_raw(burned));
    Ok(())
}

proptest! {
    #![proptest_config(config(150))]

    #[test]
    fn ethereum_burns_the_base_fee_and_nothing_else(transfers in vec(transfer(), 1..16)) {
        fees_go_where_the_rules_send_them(PRAGUE, &transfers)?;
        fees_go_where_the_rules_send_them(Rules::Ethereum(EthereumFork::Osaka), &transfers)?;
    }

    #[test]
    fn the_op_stack_burns_nothing_under_isthmus_rules(transfers in vec(transfer(), 1..16)) {
        fees_go_where_the_rules_send_them(ISTHMUS, &transfers)?;
    }

    #[test]
    fn the_op_stack_burns_nothing_under_older_and_newer_rules(fork in 0..OpFork::ALL.len(), transfers in vec(transfer(), 1..16)) {
        fees_go_where_the_rules_send_them(Rules::OpStack(OpFork::ALL[fork]), &transfers)?;
    }

    #[test]
    fn the_op_stack_burns_nothing_under_jovian_rules(transfers in vec(transfer(), 1..16)) {
        fees_go_where_the_rules_send_them(JOVIAN, &transfers)?;
    }
}

#[test]
fn a_deposit_creates_what_it_mints_whether_it_succeeds_or_not() {
    for (to, succeeds) in [(address(1), true), (REVERT, false), (HALT, false)] {
        let from = Address::repeat_byte(0x71);
        let tx = TxDeposit {
            source_hash: B256::repeat_byte(0x50),
            from,
            to: TxKind::Call(to),
            mint: 5 * GWEI,
            value: gwei(2),
            gas_limit: 100_000,
            is_system_transaction: false,
            input: Bytes::new(),
        };
        let before = genesis(JOVIAN);
        let mut block = open(JOVIAN, &before);
        let deposit = BlockTx::Deposit(Arc::new(Deposit::new(tx)));
        let executed = block.execute(&deposit).expect("the engine works").expect("a deposit is always valid");
        assert_eq!(executed.outcome.succeeded(), succeeds);
        assert_eq!((executed.receipt().tx_type, executed.deposit_nonce), (0x7e, Some(0)));
        let after = after(&before, &block);
        assert_eq!(supply(&after), supply(&before) + gwei(5));
        assert_eq!(balance(&after, from), gwei(if succeeds { 3 } else { 5 }));
        assert_eq!(nonce_of(&block, from), 1);
        assert_eq!(balance(&after, BASE_FEE_VAULT) + balance(&after, L1_FEE_VAULT), U256::ZERO, "L1 has paid for it");
    }
}

/// The verdict on a transaction, which leaves no trace when it is refused.
fn verdict(block: &mut PendingBlock, tx: Arc<SignedTx>) -> Result<(), Reason> {
    let before = print(block);
    let verdict = block.execute(&BlockTx::Signed(tx)).expect("the engine works").map(|_| ());
    assert_eq!(verdict.is_err(), print(block) == before, "what is refused leaves no trace");
    verdict
}

fn capped(fee_cap: u128) -> Arc<SignedTx> {
    let tx = TxEip1559 {
        chain_id: CHAIN,
        nonce: 0,
        gas_limit: 21_000,
        max_fee_per_gas: fee_cap,
        max_priority_fee_per_gas: 0,
        to: TxKind::Call(address(1)),
        value: gwei(1),
        access_list: Default::default(),
        input: Bytes::new(),
    };
    sign(user(0), tx)
}

#[test]
fn a_fee_cap_below_the_base_fee_is_refused() {
    for rules in [PRAGUE, ISTHMUS, JOVIAN] {
        let cap = u128::from(BASE_FEE);
        let refusal = verdict(&mut open(rules, &genesis(rules)), capped(cap - 1));
        assert_eq!(refusal, Err(Reason::FeeCapTooLow { cap: cap - 1, base_fee: BASE_FEE }));
        assert_eq!(verdict(&mut open(rules, &genesis(rules)), capped(cap)), Ok(()));
    }
}

#[test]
fn a_balance_that_does_not_cover_gas_and_value_is_refused() {
    let mut state = genesis(PRAGUE);
    let cost = U256::from(21_000) * U256::from(FEE_CAP) + gwei(1);
    for (balance, enough) in [(cost - U256::from(1), false), (cost, true)] {
        state.set_account(address(0), balance, 0, Bytes::new());
        let expected = if enough { Ok(()) } else { Err(Reason::InsufficientFunds { signer: address(0), balance, cost }) };
        assert_eq!(verdict(&mut open(PRAGUE, &state), capped(FEE_CAP)), expected);
    }
}

#[test]
fn the_l1_and_operator_fees_have_to_be_there_too() {
    let tx = capped(FEE_CAP);
    let execution = U256::from(21_000) * U256::from(FEE_CAP) + gwei(1);
    for rules in [ISTHMUS, JOVIAN] {
        let cost = execution + l1_fee(rules, &tx) + operator_fee(rules, 21_000);
        let mut state = genesis(rules);
        state.set_account(address(0), cost - U256::from(1), 0, Bytes::new());
        let refusal = verdict(&mut open(rules, &state), Arc::clone(&tx)).expect_err("one wei is missing");
        assert_eq!(refusal.code(), "insufficient_funds");
        state.set_account(address(0), cost, 0, Bytes::new());
        assert_eq!(verdict(&mut open(rules, &state), Arc::clone(&tx)), Ok(()));
    }
}

#[test]
fn only_osaka_and_karst_cap_the_gas_of_one_transaction() {
    const CAP: u64 = 1 << 24;
    let karst = Rules::OpStack(OpFork::Karst);
    let osaka = [EthereumFork::Osaka, EthereumFork::Bpo1, EthereumFork::Bpo2].map(Rules::Ethereum).into_iter().chain([karst]);
    let asking = |gas| Call::pay(address(1), gwei(1)).with_gas(gas).sign(CHAIN, user(0), 0, GWEI);
    for rules in osaka {
        let refusal = verdict(&mut open(rules, &genesis(rules)), asking(CAP + 1));
        assert_eq!(refusal, Err(Reason::GasLimitTooHigh { gas: CAP + 1, limit: CAP }));
        assert_eq!(verdict(&mut open(rules, &genesis(rules)), asking(CAP)), Ok(()));
    }
    for rules in [Rules::Ethereum(EthereumFork::Cancun), PRAGUE, ISTHMUS, JOVIAN] {
        assert_eq!(verdict(&mut open(rules, &genesis(rules)), asking(CAP + 1)), Ok(()));
    }
}

#[test]
fn a_block_has_room_for_its_gas_limit() {
    let tight = BlockContext { gas_limit: 50_000, ..context(PRAGUE) };
    let mut block = PendingBlock::open(tight, Arc::new(genesis(PRAGUE))).expect("the block opens");
    let pay = |nonce, gas| Call::pay(address(1), gwei(1)).with_gas(gas).sign(CHAIN, user(0), nonce, GWEI);
    assert_eq!(verdict(&mut block, pay(0, 50_001)), Err(Reason::NoRoom { gas: 50_001, left: 50_000 }));
    assert_eq!(verdict(&mut block, pay(0, 50_000)), Ok(()));
    // What was not used is there for the next one.
    assert_eq!((block.gas_used(), block.gas_left()), (21_000, 29_000));
    assert_eq!(verdict(&mut block, pay(1, 29_001)), Err(Reason::NoRoom { gas: 29_001, left: 29_000 }));
    assert_eq!(verdict(&mut block, pay(1, 29_000)), Ok(()));
}

#[test]
fn a_jovian_block_has_room_for_its_footprint() {
    // A small transaction counts as 100 bytes, and 400 gas a byte are configured.
    let tight = BlockContext { gas_limit: 100_000, ..context(JOVIAN) };
    let mut block = PendingBlock::open(tight, Arc::new(genesis(JOVIAN))).expect("the block opens");
    let pay = |nonce| Call::pay(address(1), gwei(1)).sign(CHAIN, user(0), nonce, GWEI);
    assert_eq!(verdict(&mut block, pay(0)), Ok(()));
    assert_eq!(verdict(&mut block, pay(1)), Ok(()));
    assert_eq!(block.footprint(), 80_000);
    assert_eq!(block.summary(Vec::new()).blob_gas_used, Some(80_000));
    assert_eq!(verdict(&mut block, pay(2)), Err(Reason::NoDataRoom { footprint: 40_000, left: 20_000 }));
}

#[test]
fn the_base_fee_follows_the_gas_of_the_parent() {
    let world = world(OSAKA);
    let rollup = rollup(&world, OSAKA);
    let parent = &rollup.parent;
    assert_eq!(first_context(&rollup).base_fee, parent.base_fee, "the parent is on target");
    let after = |gas_used| {
        let parent = ParentBlock { gas_used, ..parent.clone() };
        let next: &NextBlock = &rollup.blocks[0].next;
        BlockContext::next(OSAKA, &rollup.forks, &parent, next).expect("the rules hold").base_fee
    };
    assert_eq!(after(parent.gas_limit), parent.base_fee + parent.base_fee / 8);
    assert_eq!(after(0), parent.base_fee - parent.base_fee / 8);
    assert_eq!(after(parent.gas_limit / 4), parent.base_fee - parent.base_fee / 16);
}

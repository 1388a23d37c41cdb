//! Plain transfers, and what looks like one, on every fork. Where debug assertions are on, each that runs without the EVM is
//! run by the EVM as well, which has to do the same.

use std::sync::Arc;

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope, TxLegacy};
use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_primitives::{Address, Bytes, TxKind, U256};
use lockstep_primitives::SignedTx;
use lockstep_simulation::{BlockTx, EthereumFork, OpFork, PendingBlock, Rules, StateView};
use lockstep_testkit::{ether, gwei, sign, sign_digest, user};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::{
    fees::{PEOPLE, STORE, genesis},
    support::{BASE_FEE, BENEFICIARY, CHAIN, Checked, address, config, nonce_of, open},
};

fn all_rules() -> impl Iterator<Item = Rules> {
    EthereumFork::ALL.into_iter().map(Rules::Ethereum).chain(OpFork::ALL.into_iter().map(Rules::OpStack))
}

/// A transfer, of which most are valid.
#[derive(Clone, Debug)]
struct Sent {
    sender: usize,
    to: TxKind,
    value: U256,
    nonce: i64,
    gas_limit: u64,
    fee_cap: u128,
    tip: u128,
    shape: Shape,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Plain,
    Legacy,
    LegacyWithoutChain,
    AccessList,
    Data,
}

fn sent() -> impl Strategy<Value = Sent> {
    let precompiles = [1, 4, 9, 0x0a, 0x0b].map(Address::with_last_byte);
    let to = prop_oneof![
        6 => (0..PEOPLE).prop_map(|number| TxKind::Call(address(number))),
        3 => (0x70_u8..0x74).prop_map(|byte| TxKind::Call(Address::repeat_byte(byte))),
        1 => Just(TxKind::Call(STORE)),
        1 => Just(TxKind::Call(BENEFICIARY)),
        1 => select(precompiles.to_vec()).prop_map(TxKind::Call),
        1 => Just(TxKind::Create),
    ];
    // Everybody has ten ether, so that the largest ones leave too little for fees.
    let value = prop_oneof![
        6 => (0_u64..1_000).prop_map(gwei),
        1 => Just(U256::ZERO),
        2 => (0_u64..30).prop_map(|step| ether(10) - gwei(5_000 * step)),
        1 => Just(U256::MAX),
    ];
    let gas_limit = prop_oneof![
        6 => Just(21_000_u64), 3 => 21_001..60_000_u64, 1 => Just(20_999), 1 => Just((1 << 24) + 1), 1 => Just(60_000_001)
    ];
    let shape = prop_oneof![
        8 => Just(Shape::Plain), 2 => Just(Shape::Legacy), 1 => Just(Shape::LegacyWithoutChain), 1 => Just(Shape::AccessList),
        1 => Just(Shape::Data)
    ];
    let base = u128::from(BASE_FEE);
    let fees = prop_oneof![
        8 => (base..3 * base, 0..base),
        1 => (base - 1..base + 1, 0..2_u128),
        1 => (base..base + 1, base..base + 2),
        1 => (u128::MAX - 1..u128::MAX, 0..1_u128),
    ];
    let nonce = prop_oneof![8 => Just(0_i64), 1 => Just(1_i64), 1 => Just(-1_i64)];
    (0..PEOPLE, to, value, nonce, gas_limit, fees, shape).prop_map(|(sender, to, value, nonce, gas_limit, fees, shape)| Sent {
        sender,
        to,
        value,
        nonce,
        gas_limit,
        fee_cap: fees.0,
        tip: fees.1,
        shape,
    })
}

impl Sent {
    fn sign(&self, block: &PendingBlock) -> Arc<SignedTx> {
        let nonce = nonce_of(block, address(self.sender)).saturating_add_signed(self.nonce);
        let Self { to, value, gas_limit, .. } = *self;
        let chain = (!matches!(self.shape, Shape::LegacyWithoutChain)).then_some(CHAIN);
        if matches!(self.shape, Shape::Legacy | Shape::LegacyWithoutChain) {
            let tx = TxLegacy { chain_id: chain, nonce, gas_price: self.fee_cap, gas_limit, to, value, input: Bytes::new() };
            let signature = sign_digest(user(self.sender), tx.signature_hash());
            return Arc::new(SignedTx::from_parts(TxEnvelope::from(tx.into_signed(signature)), address(self.sender)));
        }
        let item = AccessListItem { address: Address::repeat_byte(0x70), storage_keys: Vec::new() };
        let listed = matches!(self.shape, Shape::AccessList);
        let input = if matches!(self.shape, Shape::Data) { Bytes::from_static(&[0, 1]) } else { Bytes::new() };
        let tx = TxEip1559 {
            chain_id: CHAIN,
            nonce,
            gas_limit,
            max_fee_per_gas: self.fee_cap,
            max_priority_fee_per_gas: self.tip,
            to,
            value,
            access_list: if listed { AccessList(vec![item]) } else { AccessList::default() },
            input,
        };
        sign(user(self.sender), tx)
    }
}

/// Sends one after the other, and counts those that the block took.
fn transfers_move_what_they_say(rules: Rules, all: &[Sent]) -> Result<usize, TestCaseError> {
    let before = genesis(rules);
    let mut block = open(rules, &before);
    for sent in all {
        let tx = sent.sign(&block);
        let balance = |block: &PendingBlock, who: Address| {
            block.state().account(who).expect("the state can be read").map_or(U256::ZERO, |account| account.balance)
        };
        let (sender, receiver) = (address(sent.sender), sent.to.to().copied());
        let had = (balance(&block, sender), receiver.map(|to| balance(&block, to)));
        let nonce = nonce_of(&block, sender);
        let executed =
            block.execute(&BlockTx::Signed(tx)).expect("the state is whole").map(|executed| (*executed.outcome).clone());
        let has = (balance(&block, sender), receiver.map(|to| balance(&block, to)));
        let Ok(outcome) = executed else {
            prop_assert_eq!((has, nonce_of(&block, sender)), (had, nonce), "what was refused changes nothing");
            continue;
        };
        prop_assert_eq!(nonce_of(&block, sender), nonce + 1);
        let fees = outcome.fees.priority + outcome.fees.base + outcome.fees.l1_data + outcome.fees.operator;
        let moved = if outcome.succeeded() && receiver != Some(sender) { sent.value } else { U256::ZERO };
        prop_assert_eq!(had.0 - has.0, fees + moved);
        if receiver.is_some_and(|to| to != sender && to != BENEFICIARY) {
            prop_assert_eq!(has.1, had.1.map(|had| had + moved));
        }
    }
    Ok(block.executed().len())
}

#[test]
fn transfers_do_on_every_fork_what_the_evm_does() {
    let mut runner = proptest::test_runner::TestRunner::new(config(128));
    let taken = std::cell::Cell::new(0);
    let tested = runner.run(&vec(sent(), 1..24), |all| -> Checked {
        for rules in all_rules() {
            taken.set(taken.get() + transfers_move_what_they_say(rules, &all)?);
        }
        Ok(())
    });
    tested.unwrap();
    assert!(taken.get() > 5_000, "{} transactions were taken", taken.get());
}

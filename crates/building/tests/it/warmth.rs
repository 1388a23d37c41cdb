//! A message of OP interop is executed because a storage slot is warm. Warmth that leaked from one transaction into the next,
//! through a journal that they share, would let pass what every other node refuses.

use alloy_primitives::{B256, Bytes, U256, hex, keccak256};
use lockstep_messaging::op_interop::{INBOX, Identifier};
use lockstep_primitives::ChainId;
use lockstep_simulation::{BlockTx, CallRequest, Lane, TxStatus, call};
use lockstep_testkit::{ISTHMUS, PROBE, Wallet, World};
use std::sync::Arc;

/// `NotInAccessList()`.
const NOT_IN_ACCESS_LIST: [u8; 4] = hex!("e3c00816");
const OP: ChainId = ISTHMUS;

/// Some message; the inbox itself does not ask whether it is there.
fn message(world: &World) -> (Identifier, B256) {
    let id = Identifier {
        origin: PROBE,
        block_number: 3,
        log_index: 1,
        timestamp: 1_700_000_000,
        chain_id: U256::from(world.chain(0)),
    };
    (id, keccak256(b"some message"))
}

fn run(lane: &mut Lane, tx: BlockTx) -> (TxStatus, Bytes) {
    let executed = lane.block_mut().execute(&tx).expect("the engine works").expect("the transaction is valid");
    (executed.outcome.status.clone(), executed.outcome.output.clone())
}

#[test]
fn a_slot_that_one_transaction_warmed_is_cold_for_the_next() {
    let world = World::pair();
    let (id, hash) = message(&world);
    let mut alice = Wallet::user(0);
    let mut lane = Lane::open(Arc::clone(&world.view.rollups[&OP].slot)).expect("a block of a world opens");
    let declared = world.execute_message(&id, hash).declaring(world.declare_message(&id, hash));
    let (status, _) = run(&mut lane, BlockTx::Signed(alice.send(OP, declared)));
    assert_eq!(status, TxStatus::Succeeded, "what is declared is executed");

    let undeclared = world.execute_message(&id, hash);
    let (status, output) = run(&mut lane, BlockTx::Signed(alice.send(OP, undeclared)));
    assert_eq!((status, output.as_ref()), (TxStatus::Reverted, &NOT_IN_ACCESS_LIST[..]));

    let other = Identifier { log_index: 2, ..id };
    let misdeclared = world.execute_message(&id, hash).declaring(world.declare_message(&other, hash));
    let (status, output) = run(&mut lane, BlockTx::Signed(alice.send(OP, misdeclared)));
    assert_eq!((status, output.as_ref()), (TxStatus::Reverted, &NOT_IN_ACCESS_LIST[..]));
}

#[test]
fn a_call_without_an_access_list_executes_nothing() {
    let world = World::pair();
    let (id, hash) = message(&world);
    let lane = Lane::open(Arc::clone(&world.view.rollups[&OP].slot)).expect("a block of a world opens");
    let request = CallRequest::read(INBOX, world.execute_message(&id, hash).data, 1_000_000);
    let outcome =
        call(lane.block().context(), lane.block().state(), &request).expect("the engine works").expect("a call is valid");
    assert_eq!((outcome.succeeded(), outcome.output.as_ref()), (false, &NOT_IN_ACCESS_LIST[..]));
}

//! A block has room for so much data and so many bytes, drafts keep room for what they may come to weigh, and what is taken back
//! is free again.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes};
use lockstep_primitives::{Reason, SignedTx, StandIn};
use lockstep_simulation::{BlockContext, BlockTx, DataLimits, EthereumFork, OpFork, PendingBlock, Rules, StandIns};
use lockstep_testkit::{Call, GWEI, gwei, user};

use crate::support::{CHAIN, address, context, funded, run};

const ISTHMUS: Rules = Rules::OpStack(OpFork::Isthmus);

fn limited(rules: Rules, data: DataLimits) -> PendingBlock {
    let context = BlockContext { data, ..context(rules) };
    PendingBlock::open(context, Arc::new(funded(3))).expect("the block opens")
}

fn refused(block: &mut PendingBlock, tx: &Arc<SignedTx>) -> Option<Reason> {
    block.execute(&BlockTx::Signed(Arc::clone(tx))).expect("the engine works").map(|_| ()).err()
}

/// A payment: 100 bytes, the least that the estimate says.
fn pay(nonce: u64) -> Arc<SignedTx> {
    Call::pay(address(1), gwei(1)).sign(CHAIN, user(0), nonce, GWEI)
}

/// A call with bytes that do not compress.
fn heavy(nonce: u64, bytes: usize) -> Arc<SignedTx> {
    let mut data = Vec::new();
    let mut word = B256::repeat_byte(7);
    while data.len() < bytes {
        word = alloy_primitives::keccak256(word);
        data.extend_from_slice(word.as_slice());
    }
    Call::contract(address(1), data.into(), 500_000).sign(CHAIN, user(0), nonce, GWEI)
}

#[test]
fn a_block_takes_no_more_data_than_its_sequencer_says() {
    let mut block = limited(ISTHMUS, DataLimits { tx: None, block: Some(250) });
    assert_eq!(refused(&mut block, &pay(0)), None);
    assert_eq!(refused(&mut block, &pay(1)), None);
    assert_eq!(block.data(), 200);
    assert_eq!(refused(&mut block, &pay(2)), Some(Reason::NoDataRoom { footprint: 100, left: 50 }));
    assert_eq!(block.data(), 200);
}

#[test]
fn what_is_taken_back_is_free_again() {
    let mut block = limited(ISTHMUS, DataLimits { tx: None, block: Some(100) });
    let start = block.checkpoint();
    assert_eq!(refused(&mut block, &pay(0)), None);
    assert!(refused(&mut block, &pay(1)).is_some());
    block.rollback(start);
    assert_eq!(block.data(), 0);
    assert_eq!(refused(&mut block, &pay(0)), None);
}

#[test]
fn a_transaction_has_no_more_data_than_the_sequencer_says() {
    let mut block = limited(ISTHMUS, DataLimits { tx: Some(300), block: None });
    let tx = heavy(0, 640);
    let bytes = op_revm::estimate_tx_compressed_size(tx.raw()) / 1_000_000;
    assert!(bytes > 300);
    assert_eq!(refused(&mut block, &tx), Some(Reason::TxDataTooLarge { bytes, limit: 300 }));
    assert_eq!(refused(&mut block, &pay(0)), None);
    let mut unlimited = limited(ISTHMUS, DataLimits::default());
    assert_eq!(refused(&mut unlimited, &tx), None);
    assert_eq!(unlimited.data(), bytes);
}

#[test]
fn before_fjord_data_is_counted_as_it_is() {
    let mut block = limited(Rules::OpStack(OpFork::Ecotone), DataLimits { tx: None, block: Some(1_000) });
    let tx = heavy(0, 640);
    assert_eq!(refused(&mut block, &tx), None);
    assert_eq!(block.data(), tx.raw().len() as u64);
}

#[test]
fn a_draft_keeps_data_room_for_its_evidence() {
    let stand_in = StandIn { digest: B256::ZERO, r: B256::ZERO, s: B256::ZERO, signer: Address::ZERO };
    let stand_ins: StandIns = [stand_in].into();
    let draft = |block: &mut PendingBlock| {
        let tx = BlockTx::Signed(pay(0));
        block.execute_with(&tx, &stand_ins).expect("the engine works").map(|_| ()).err()
    };
    // 100 bytes, and a quarter more once it is sealed.
    let mut tight = limited(ISTHMUS, DataLimits { tx: None, block: Some(124) });
    assert_eq!(draft(&mut tight), Some(Reason::NoDataRoom { footprint: 100, left: 124 }));
    let mut tight = limited(ISTHMUS, DataLimits { tx: Some(124), block: None });
    assert_eq!(draft(&mut tight), Some(Reason::TxDataTooLarge { bytes: 125, limit: 124 }));
    let mut roomy = limited(ISTHMUS, DataLimits { tx: Some(125), block: Some(224) });
    let start = roomy.checkpoint();
    assert_eq!(draft(&mut roomy), None);
    assert_eq!(refused(&mut roomy, &pay(1)), Some(Reason::NoDataRoom { footprint: 100, left: 99 }));
    roomy.rollback(start);
    assert_eq!(refused(&mut roomy, &pay(0)), None, "what was kept for the draft is free again");
}

#[test]
fn an_osaka_block_has_room_for_8_mib_of_transactions() {
    // Zeros cost 10 gas a byte at least, so one transaction below the gas cap has 1.6 MB of them.
    const BYTES: usize = 1_600_000;
    let large = |nonce| {
        let data = Bytes::from(vec![0; BYTES]);
        Call::contract(address(1), data, 16_100_000).sign(CHAIN, user(0), nonce, GWEI)
    };
    for (fork, bounded) in [(EthereumFork::Prague, false), (EthereumFork::Osaka, true)] {
        let roomy = BlockContext { gas_limit: 200_000_000, ..context(Rules::Ethereum(fork)) };
        let mut block = PendingBlock::open(roomy, Arc::new(funded(2))).expect("the block opens");
        for nonce in 0..5 {
            run(&mut block, &large(nonce));
        }
        let before = block.gas_used();
        let answer = refused(&mut block, &large(5));
        let code = answer.as_ref().map(Reason::code);
        assert_eq!(code, bounded.then_some("no_byte_room"), "{fork:?}");
        if let Some(Reason::NoByteRoom { bytes, left }) = answer {
            assert!(bytes > BYTES as u64 && left < bytes && left > 8_388_608 - 5 * bytes - 10_000, "{bytes} {left}");
            assert_eq!(block.gas_used(), before);
            assert_eq!(refused(&mut block, &pay(5)), None, "a small one fits still");
        }
    }
}

//! The smallest steps of simulation: what each costs alone.

use std::{hint::black_box, sync::Arc};

use alloy_primitives::{Address, U256};
use criterion::{BatchSize, Criterion};
use lockstep_benches::{
    Failed, WorldSpec,
    workload::{Kind, Mix, Workload},
};
use lockstep_building::open_lanes;
use lockstep_simulation::{BlockTx, PendingBlock};

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bundles to take transactions from.
const BUNDLES: usize = 256;

fn main() -> Result<(), Failed> {
    let mut criterion = Criterion::default().configure_from_args();
    for kind in [Kind::Transfer, Kind::Erc20, Kind::ColdSwap] {
        let (block, txs) = prepare(kind)?;
        transaction(&mut criterion, kind, &block, &txs);
    }
    checkpoints(&mut criterion, &prepare(Kind::Transfer)?.0);
    criterion.final_summary();
    Ok(())
}

/// An open block, and transactions that it takes in any order.
fn prepare(kind: Kind) -> Result<(PendingBlock, Vec<BlockTx>), Failed> {
    let spec = WorldSpec { rollups: 1, pools: 8, gas_limit: 1_000_000_000, ..WorldSpec::default() };
    let workload = Workload::draw(&spec, &Mix::only(kind), BUNDLES, 1)?;
    let lanes = open_lanes(&workload.view, &workload.view.rollups.keys().copied().collect())?;
    let block = lanes.into_values().next().ok_or("a world without rollups")?.block().clone();
    let txs = workload.candidates.iter().flat_map(|candidate| candidate.bundle.txs());
    let txs = txs.map(|tx| BlockTx::Signed(Arc::clone(&tx.tx))).collect();
    Ok((block, txs))
}

/// One transaction in an open block, taken back afterwards.
fn transaction(criterion: &mut Criterion, kind: Kind, block: &PendingBlock, txs: &[BlockTx]) {
    let mut block = block.clone();
    let mut next = txs.iter().cycle();
    criterion.bench_function(&format!("one of {}, executed and taken back", kind.name()), |bencher| {
        bencher.iter(|| {
            let Some(tx) = next.next() else { return };
            let checkpoint = block.checkpoint();
            let executed = block.execute(black_box(tx)).is_ok_and(|executed| executed.is_ok());
            assert!(executed, "the transaction is valid");
            block.rollback(checkpoint);
        });
    });
}

/// What a bundle costs beside its transactions: a checkpoint, a few writes, and back.
fn checkpoints(criterion: &mut Criterion, block: &PendingBlock) {
    let accounts: Vec<(Address, U256)> = (1..=8_u8).map(|byte| (Address::repeat_byte(byte), U256::from(byte))).collect();
    let mut written = block.clone();
    criterion.bench_function("overlay: eight balances written and rolled back", |bencher| {
        bencher.iter(|| {
            let checkpoint = written.checkpoint();
            let credited = written.credit(black_box(&accounts).iter().copied());
            assert!(credited.is_ok(), "a state in memory can be read");
            written.rollback(checkpoint);
        });
    });
    criterion.bench_function("overlay: eight balances written and kept", |bencher| {
        bencher.iter_batched(
            || block.clone(),
            |mut block| {
                let credited = block.credit(black_box(&accounts).iter().copied());
                assert!(credited.is_ok(), "a state in memory can be read");
                block
            },
            BatchSize::SmallInput,
        );
    });
}

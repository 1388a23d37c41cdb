//! A block that was taken back and forth is the block of the transactions that stayed in it.

use lockstep_primitives::ChainId;
use lockstep_simulation::{BlockTx, PendingBlock};
use lockstep_testkit::{Call, JOVIAN, OSAKA, PRAGUE, SHANGHAI, Wallet, calls, gwei};
use proptest::prelude::*;

use crate::{
    plans::{Step, play, steps},
    support::{Checked, address, config, first_block, print, rollup, run, world},
};

fn only_survivors_count(chain: ChainId, steps: &[Step]) -> Checked {
    let world = world(chain);
    let rollup = rollup(&world, chain);
    let mut block = first_block(&rollup);
    let untouched = print(&block);
    let start = block.checkpoint();
    let survivors = play(&world, &mut block, steps, true)?;

    let mut fresh = first_block(&rollup);
    let fresh_start = fresh.checkpoint();
    for (tx, stand_ins) in &survivors {
        let valid = fresh.execute_with(tx, stand_ins).expect("the engine works").is_ok();
        prop_assert!(valid, "a survivor is valid without those that did not survive");
    }
    prop_assert_eq!(print(&block), print(&fresh));
    let changes = |block: &PendingBlock, since| block.balance_changes(since).expect("the engine works");
    prop_assert_eq!(changes(&block, start), changes(&fresh, fresh_start));
    let ended = |block: &PendingBlock| block.clone().finish().expect("the block ends");
    prop_assert_eq!(ended(&block), ended(&fresh));

    block.rollback(start);
    prop_assert_eq!(print(&block), untouched, "everything can be undone");
    Ok(())
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn only_survivors_count_under_shanghai_rules(drawn in steps(30)) {
        only_survivors_count(SHANGHAI, &drawn)?;
    }

    #[test]
    fn only_survivors_count_under_prague_rules(drawn in steps(30)) {
        only_survivors_count(PRAGUE, &drawn)?;
    }

    #[test]
    fn only_survivors_count_under_osaka_rules(drawn in steps(30)) {
        only_survivors_count(OSAKA, &drawn)?;
    }

    #[test]
    fn only_survivors_count_under_jovian_rules(drawn in steps(30)) {
        only_survivors_count(JOVIAN, &drawn)?;
    }
}

#[test]
fn the_plans_do_not_all_fail() {
    // What the properties are worth: of a few hundred random transactions most are valid, and many succeed.
    use proptest::{strategy::ValueTree, test_runner::TestRunner};

    let world = world(PRAGUE);
    let rollup = rollup(&world, PRAGUE);
    let mut runner = TestRunner::new(config(1));
    let (mut planned, mut valid, mut succeeded) = (0, 0, 0);
    for _ in 0..20 {
        let steps = steps(30).new_tree(&mut runner).expect("steps can be drawn").current();
        let runs: Vec<Step> = steps.into_iter().filter(|step| matches!(step, Step::Run(_))).collect();
        let mut block = first_block(&rollup);
        planned += runs.len();
        valid += play(&world, &mut block, &runs, false).expect("nothing is wrong").len();
        succeeded += block.executed().iter().filter(|executed| executed.outcome.succeeded()).count();
    }
    assert!(planned > 100, "{planned} transactions are planned");
    assert!(valid * 4 > planned * 3, "{valid} of {planned} are valid");
    assert!(succeeded * 2 > planned, "{succeeded} of {planned} succeed");
}

#[test]
fn a_checkpoint_can_be_returned_to_again_and_again() {
    let world = world(PRAGUE);
    let rollup = rollup(&world, PRAGUE);
    let mut block = first_block(&rollup);
    let mut who = Wallet::user(0);
    run(&mut block, &who.send(PRAGUE, world.probe(calls::increment(1))));
    let once = print(&block);
    let checkpoint = block.checkpoint();
    for key in 0..3 {
        run(&mut block, &who.send_at(PRAGUE, 1, world.probe(calls::increment(key))));
        run(&mut block, &who.send_at(PRAGUE, 2, Call::pay(address(1), gwei(key))));
        assert_ne!(print(&block), once);
        block.rollback(checkpoint);
        assert_eq!(print(&block), once);
    }
}

#[test]
fn balances_change_by_what_stayed() {
    let world = world(PRAGUE);
    let rollup = rollup(&world, PRAGUE);
    let mut block = first_block(&rollup);
    let who = Wallet::user(0);
    let start = block.checkpoint();
    run(&mut block, &who.send_at(PRAGUE, 0, Call::pay(address(1), gwei(5))));
    let kept = block.checkpoint();
    run(&mut block, &who.send_at(PRAGUE, 1, Call::pay(address(2), gwei(7))));
    let of = |block: &PendingBlock, since, number| {
        let changes = block.balance_changes(since).expect("the engine works");
        changes.iter().find(|(of, _)| *of == address(number)).map(|(_, change)| *change).unwrap_or_default()
    };
    assert_eq!(of(&block, start, 2).into_raw(), gwei(7));
    assert!(of(&block, start, 0).is_negative());
    assert_eq!(of(&block, kept, 1).into_raw(), gwei(0), "user 1 was paid before");
    block.rollback(kept);
    assert_eq!(of(&block, start, 1).into_raw(), gwei(5));
    assert!(block.balance_changes(start).expect("the engine works").iter().all(|(of, _)| *of != address(2)));
    assert!(block.balance_changes(kept).expect("the engine works").is_empty());
}

#[test]
fn an_invalid_transaction_leaves_no_trace() {
    let world = world(JOVIAN);
    let rollup = rollup(&world, JOVIAN);
    let mut block = first_block(&rollup);
    let before = print(&block);
    let early = Wallet::user(0).send_at(JOVIAN, 1, Call::pay(address(1), gwei(1)));
    let reason = block.execute(&BlockTx::Signed(early)).expect("the engine works").expect_err("the nonce is ahead");
    assert_eq!(reason.code(), "nonce_too_high");
    assert_eq!(print(&block), before);
}

#[test]
fn a_write_that_stayed_is_told_though_another_was_undone_that_led_back() {
    let world = world(PRAGUE);
    let rollup = rollup(&world, PRAGUE);
    let mut block = first_block(&rollup);
    let who = Wallet::user(0);
    run(&mut block, &who.send_at(PRAGUE, 0, world.probe(calls::store(1, 1))));
    let since = block.checkpoint();
    block.begin_trace();
    run(&mut block, &who.send_at(PRAGUE, 1, world.probe(calls::store(1, 2))));
    let kept = block.checkpoint();
    run(&mut block, &who.send_at(PRAGUE, 2, world.probe(calls::store(1, 1))));
    block.rollback(kept);
    let stretch = block.end_trace(since).expect("the engine works");
    let written: Vec<_> = stretch.footprint.slots_written.iter().map(|(_, _, after)| after.to::<u64>()).collect();
    assert_eq!(written, [2]);
}

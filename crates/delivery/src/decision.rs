//! The rule of the write-once record, and how its keys are shared out.

use std::collections::BTreeSet;

use alloy_primitives::Address;
use lockstep_primitives::Allocation;

use crate::{Decision, Verdict};

/// What the keeper of the record does with a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// Record it, by compare-and-set against "nothing".
    Write,
    /// The first record wins for ever; it may be the very same one.
    AlreadyDecided(Decision),
    /// A commit at or after `t_decide`.
    TooLate,
}

/// Judges a write to the record of `new.key()`, which holds `existing`.
///
/// A commit is written only strictly before `t_decide_ms`, an abort at any time. Who may write is decided by
/// [`Decision::must_be_signed`] and the signature. The same write again changes nothing and yields the record.
pub fn judge_write(existing: Option<&Decision>, new: &Decision, now_ms: u64, t_decide_ms: u64) -> WriteOutcome {
    match existing {
        Some(first) => WriteOutcome::AlreadyDecided(first.clone()),
        None if new.verdict == Verdict::Commit && now_ms >= t_decide_ms => WriteOutcome::TooLate,
        None => WriteOutcome::Write,
    }
}

/// The number of a proposer's attempt in a slot; `retry` counts its own attempts from zero.
///
/// Several proposers can win disjoint sets of rollups in one slot, while the record is one per slot and attempt. So the
/// attempts are dealt out in turn among the slot's proposers, ordered by address, and nobody can occupy the record of
/// another. `None` for somebody without a grant.
pub fn attempt_number(allocation: &Allocation, proposer: Address, retry: u32) -> Option<u32> {
    let proposers = proposers(allocation);
    let turn = u32::try_from(proposers.iter().position(|candidate| *candidate == proposer)?).ok()?;
    retry.checked_mul(u32::try_from(proposers.len()).ok()?)?.checked_add(turn)
}

/// Whose attempt it is, by [`attempt_number`]; `None` when the slot has no proposer.
pub fn proposer_of_attempt(allocation: &Allocation, attempt: u32) -> Option<Address> {
    let proposers = proposers(allocation);
    let turn = (attempt as usize).checked_rem(proposers.len())?;
    proposers.into_iter().nth(turn)
}

fn proposers(allocation: &Allocation) -> BTreeSet<Address> {
    allocation.grants.iter().map(|grant| grant.proposer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DecisionKey;
    use alloy_primitives::U256;
    use lockstep_primitives::Grant;

    fn decision(verdict: Verdict) -> Decision {
        Decision { verdict, ..Decision::timed_out(DecisionKey { slot: 7, attempt: 0 }) }
    }

    #[test]
    fn a_commit_is_written_only_before_t_decide_and_an_abort_always() {
        let (commit, abort) = (decision(Verdict::Commit), decision(Verdict::Abort));
        assert_eq!(judge_write(None, &commit, 999, 1000), WriteOutcome::Write);
        assert_eq!(judge_write(None, &commit, 1000, 1000), WriteOutcome::TooLate);
        assert_eq!(judge_write(None, &abort, 0, 1000), WriteOutcome::Write);
        assert_eq!(judge_write(None, &abort, 1000, 1000), WriteOutcome::Write);
    }

    #[test]
    fn the_first_record_wins_for_ever() {
        let (commit, abort) = (decision(Verdict::Commit), decision(Verdict::Abort));
        for new in [&commit, &abort] {
            assert_eq!(judge_write(Some(&commit), new, 5000, 1000), WriteOutcome::AlreadyDecided(commit.clone()));
            assert_eq!(judge_write(Some(&abort), new, 0, 1000), WriteOutcome::AlreadyDecided(abort.clone()));
        }
    }

    #[test]
    fn only_an_abort_after_t_decide_needs_no_signature() {
        assert!(decision(Verdict::Commit).must_be_signed(2000, 1000));
        assert!(decision(Verdict::Abort).must_be_signed(999, 1000));
        assert!(!decision(Verdict::Abort).must_be_signed(1000, 1000));
    }

    #[test]
    fn proposers_of_one_slot_never_share_an_attempt() {
        let grant = |byte, chain| Grant { proposer: Address::repeat_byte(byte), rollups: [chain].into(), price: U256::ZERO };
        let allocation = Allocation { slot: 7, grants: vec![grant(2, 1), grant(1, 2), grant(2, 3)] };
        let mut numbers = Vec::new();
        for retry in 0..3 {
            for byte in [1, 2] {
                let number = attempt_number(&allocation, Address::repeat_byte(byte), retry).unwrap();
                assert_eq!(proposer_of_attempt(&allocation, number), Some(Address::repeat_byte(byte)));
                numbers.push(number);
            }
        }
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
        assert_eq!(attempt_number(&allocation, Address::repeat_byte(3), 0), None);
        assert_eq!(proposer_of_attempt(&Allocation { slot: 7, grants: Vec::new() }, 0), None);
    }
}

//! Digests cover every field, and a prepare that contradicts itself is refused.

use alloy_primitives::{Address, B256, I256};
use lockstep_delivery::{Decision, DecisionKey, Prepare, RequirementResult, Verdict, Vote, VoteRefusal};
use lockstep_primitives::Asset;

use crate::fixtures::prepare;

fn all_differ(mut digests: Vec<B256>) {
    let count = digests.len();
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), count);
}

#[test]
fn every_field_of_a_prepare_changes_its_digest() {
    let plain = prepare(1, &[1, 2], 0);
    let mut variants = vec![plain.clone(); 12];
    variants[0].chain = 2;
    variants[1].slot += 1;
    variants[2].attempt += 1;
    variants[3].parent_hash = B256::repeat_byte(9);
    variants[4].forced_prefix = B256::repeat_byte(9);
    variants[5].with_cross.expected[0].must_succeed.clear();
    variants[6].without_cross.expected[0].gas_used += 1;
    variants[7].participants.insert(3);
    variants[8].holds = !plain.holds;
    variants[9].beneficiary = Some(Address::ZERO);
    variants[10].t_decide_ms += 1;
    variants[11].t_publish_ms += 1;
    variants.push(plain);
    all_differ(variants.iter().map(Prepare::digest).collect());
}

#[test]
fn every_field_of_a_vote_changes_its_digest() {
    let reason = VoteRefusal { code: "reverted".into(), block: None, position: None, text: "it reverts".into() };
    let plain = Vote { chain: 1, slot: 7, attempt: 0, digest: B256::repeat_byte(1), yes: false, reason: Some(reason.clone()) };
    all_differ(
        [
            Vote { chain: 2, ..plain.clone() },
            Vote { slot: 8, ..plain.clone() },
            Vote { attempt: 1, ..plain.clone() },
            Vote { digest: B256::repeat_byte(2), ..plain.clone() },
            Vote { yes: true, ..plain.clone() },
            Vote { reason: None, ..plain.clone() },
            Vote { reason: Some(VoteRefusal { block: Some(0), ..reason.clone() }), ..plain.clone() },
            Vote { reason: Some(VoteRefusal { position: Some(0), ..reason.clone() }), ..plain.clone() },
            Vote { reason: Some(VoteRefusal { text: String::new(), ..reason }), ..plain.clone() },
            plain,
        ]
        .iter()
        .map(Vote::digest)
        .collect(),
    );
}

#[test]
fn every_field_of_a_decision_changes_its_digest() {
    let plain = Decision::timed_out(DecisionKey { slot: 7, attempt: 0 });
    all_differ(
        [
            Decision { slot: 8, ..plain.clone() },
            Decision { attempt: 1, ..plain.clone() },
            Decision { proposer: Address::repeat_byte(1), ..plain.clone() },
            Decision { verdict: Verdict::Commit, ..plain.clone() },
            Decision { prepares: [(1, B256::ZERO)].into(), ..plain.clone() },
            Decision { reason: String::new(), ..plain.clone() },
            plain,
        ]
        .iter()
        .map(Decision::digest)
        .collect(),
    );
}

#[test]
fn a_prepare_that_contradicts_itself_is_refused_by_name() {
    fn refused(change: impl Fn(&mut Prepare)) -> String {
        let mut changed = prepare(1, &[1, 2], 0);
        assert_eq!(changed.check(), Ok(()));
        change(&mut changed);
        let refusal = changed.check().unwrap_err();
        assert_eq!(refusal.code(), "malformed");
        VoteRefusal::from(refusal).to_string()
    }
    assert!(refused(|prepare| prepare.chain = 2).contains("of another rollup"));
    assert!(refused(|prepare| prepare.with_cross.expected.clear()).contains("one promised result"));
    assert!(refused(|prepare| prepare.with_cross.expected[0].number = 99).contains("number, block 0"));
    let no_such = refused(|prepare| prepare.with_cross.expected[0].must_succeed.push(5));
    assert!(no_such.contains("no such transaction, block 0 of the list, transaction 5"), "{no_such}");
    assert!(refused(|prepare| prepare.without_cross.list.blocks[0].timestamp += 1).contains("the same blocks"));
    assert!(refused(|prepare| prepare.participants = [2].into()).contains("participants"));
    assert!(refused(|prepare| prepare.t_decide_ms = prepare.t_publish_ms + 1).contains("t_publish"));
    let reversed = refused(|prepare| {
        let (account, asset, increase) = (Address::ZERO, Asset::Native, I256::ONE);
        prepare.with_cross.requirements.push(RequirementResult { account, asset, increase, first: (0, 1), last: (0, 0) });
    });
    assert!(reversed.contains("ends before it begins"), "{reversed}");
}

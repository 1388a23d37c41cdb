//! Messages of one timestamp that wait for each other.
//!
//! Blocks of equal timestamps may execute each other's messages, in both directions; single messages may not wait for each other
//! in a circle (OP specs, interop/messaging; the check is that of op-supernode). The graph is over executing messages: each
//! comes after the one before it on its own chain, and after the newest one at or before its initiating log.

use std::collections::BTreeMap;

use lockstep_primitives::ChainId;

/// An executing message whose initiating log has the timestamp of its own block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Executing {
    /// Index of the executing log in its block.
    pub index: u64,
    /// The chain of the initiating log.
    pub origin: ChainId,
    /// Index of the initiating log in its block.
    pub init: u64,
}

/// The executing messages that wait for each other in a circle, or for one that does, by chain and index of the log. Empty when
/// there are none. `blocks` has the executing messages of one timestamp by chain, by rising index: of one block a chain.
pub fn unresolved(blocks: &BTreeMap<ChainId, Vec<Executing>>) -> Vec<(ChainId, u64)> {
    let mut nodes: Vec<(ChainId, Executing)> = Vec::new();
    let mut first: BTreeMap<ChainId, usize> = BTreeMap::new();
    for (chain, messages) in blocks {
        first.insert(*chain, nodes.len());
        nodes.extend(messages.iter().map(|message| (*chain, *message)));
    }
    // One transaction can execute thousands of messages, so each is looked at once (Kahn).
    let mut waits_for = vec![0_usize; nodes.len()];
    let mut waiters: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (number, (chain, message)) in nodes.iter().enumerate() {
        let before = number.checked_sub(1).filter(|before| nodes[*before].0 == *chain);
        let newest = blocks.get(&message.origin).zip(first.get(&message.origin)).and_then(|(on_origin, first)| {
            let position = on_origin.partition_point(|other| other.index <= message.init).checked_sub(1)?;
            Some(*first + position)
        });
        for other in before.into_iter().chain(newest) {
            waiters[other].push(number);
            waits_for[number] += 1;
        }
    }
    let mut ready: Vec<usize> = (0..nodes.len()).filter(|number| waits_for[*number] == 0).collect();
    while let Some(number) = ready.pop() {
        for waiter in &waiters[number] {
            waits_for[*waiter] -= 1;
            if waits_for[*waiter] == 0 {
                ready.push(*waiter);
            }
        }
    }
    let open = nodes.iter().zip(&waits_for).filter(|(_, waits_for)| **waits_for > 0);
    open.map(|((chain, message), _)| (*chain, message.index)).collect()
}

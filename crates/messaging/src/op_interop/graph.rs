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
/// there are none. `blocks` has the executing messages of one timestamp by chain, by rising index.
pub fn unresolved(blocks: &BTreeMap<ChainId, Vec<Executing>>) -> Vec<(ChainId, u64)> {
    let nodes: Vec<(ChainId, usize)> =
        blocks.iter().flat_map(|(chain, messages)| (0..messages.len()).map(|position| (*chain, position))).collect();
    let waits_for = |chain: ChainId, position: usize| -> Vec<(ChainId, usize)> {
        let Some(message) = blocks.get(&chain).and_then(|messages| messages.get(position)) else { return Vec::new() };
        let before = position.checked_sub(1).map(|before| (chain, before));
        let on_origin = blocks.get(&message.origin).map_or(&[][..], Vec::as_slice);
        let newest = on_origin.partition_point(|other| other.index <= message.init).checked_sub(1);
        before.into_iter().chain(newest.map(|newest| (message.origin, newest))).collect()
    };
    let mut open: Vec<(ChainId, usize)> = nodes;
    loop {
        let count = open.len();
        let rest: Vec<(ChainId, usize)> = open
            .iter()
            .copied()
            .filter(|(chain, position)| waits_for(*chain, *position).iter().any(|other| open.contains(other)))
            .collect();
        if rest.len() == count {
            let index = |chain: ChainId, position: usize| {
                blocks.get(&chain).and_then(|messages| messages.get(position)).map(|message| (chain, message.index))
            };
            return rest.into_iter().filter_map(|(chain, position)| index(chain, position)).collect();
        }
        open = rest;
    }
}

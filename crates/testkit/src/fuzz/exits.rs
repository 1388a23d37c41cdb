//! Proofs of AggLayer's exits.

use std::array;

use alloy_primitives::{B256, Log, U256, keccak256};
use alloy_sol_types::SolEvent;
use lockstep_messaging::{
    Evidence, ExitFacts, ExitProof, ExitTree, LandedExit, Protocol,
    agglayer::{Exit, LeafType, root_over, verify},
};

use super::{
    logs::bridge_event,
    rollups::{BRIDGE, DESTINATION, ORIGIN, PLACE, bridges, emitted, number, open_block},
    source::Source,
};

/// Most exits of one input.
const MOST_EXITS: usize = 9;

/// Lets exits land on a tree of any size, and proves one of them against the newest root.
///
/// Exits land exactly while the tree has room, and change nothing when it has not. Whichever is chosen, its proof follows all
/// later ones to the tree's root, holds, and delivers. With one bit changed in the exit or in any part of the proof it does not
/// hold, and neither does it for another index or another network.
pub fn exit_proof(data: &[u8]) {
    let mut source = Source::new(data);
    let count = if source.coin() { source.u32() } else { u32::from(source.byte()) };
    // Full subtrees of an unknown past: any 32 nodes are such.
    let past = source.word();
    let frontier = array::from_fn(|height| keccak256([past.as_slice(), &height.to_be_bytes()].concat()));
    let mut facts = ExitFacts {
        trees: [(ORIGIN, ExitTree::from_frontier(frontier, count)), (DESTINATION, ExitTree::default())].into(),
        mainnet_exit_root: B256::repeat_byte(0xee),
        ..ExitFacts::default()
    };
    let exits = 1 + source.index(MOST_EXITS);
    let chosen = source.index(exits);
    let mut logs: Vec<Log> = Vec::new();
    let mut next = count;
    while logs.len() < exits {
        let mut event = bridge_event(&mut source, next);
        // None goes to where it comes from, which no bridge lets out.
        event.destinationNetwork = number(DESTINATION);
        logs.push(Log { address: BRIDGE, data: event.encode_log_data() });
        next = next.wrapping_add(1);
    }
    let before = facts.clone();
    let room = u32::MAX - count;
    let applied = match facts.apply(&bridges(), ORIGIN, &logs) {
        Ok(applied) => applied.exits,
        Err(reason) => {
            assert!((room as usize) < exits, "{exits} exits do not land on a tree of {count}: {reason}");
            assert_eq!((reason.code(), &facts), ("no_evidence", &before));
            return;
        }
    };
    assert!(room as usize >= exits, "{exits} exits land on a tree of {count}");
    assert_eq!(applied.len(), exits);
    let mut landed = applied[chosen].clone();
    for later in &applied[chosen + 1..] {
        landed.follow(later).expect("the next one");
    }
    assert_eq!(Some(landed.root), facts.trees.get(&ORIGIN).map(ExitTree::root));
    let proof = facts.prove(&bridges(), &landed).expect("all trees are known");
    let exit = Exit::decode(&logs[chosen].data.data).expect("the exit that landed");
    assert_eq!(exit.leaf(), landed.leaf);
    assert_eq!(proof.verify(number(ORIGIN), &exit), Ok(()));
    check_delivery(&logs[chosen], &proof);
    check_other_exits(&mut source, &exit, &proof);
    check_other_proofs(&mut source, &exit, &proof);
    check_other_indices(&landed);
}

fn check_delivery(log: &Log, proof: &ExitProof) {
    let message = bridges().recognise(ORIGIN, &emitted(log, PLACE)).expect("a log of the bridge").expect("an exit");
    let evidence = Evidence::Exit(Box::new(proof.clone()));
    let calls = bridges().deliver(&message, &evidence, &open_block(DESTINATION)).expect("a proof that holds");
    assert_eq!(calls.last().map(|call| call.to), Some(BRIDGE));
    assert!(bridges().deliver(&message, &evidence, &open_block(ORIGIN)).is_err(), "an exit comes back to where it left");
}

/// Another exit than the one that landed, in one field each, is not proven.
fn check_other_exits(source: &mut Source<'_>, exit: &Exit, proof: &ExitProof) {
    let fails = |other: Exit| assert!(proof.verify(number(ORIGIN), &other).is_err(), "the proof of {exit:?} holds for {other:?}");
    let leaf_type = match exit.leaf_type {
        LeafType::Asset => LeafType::Message,
        LeafType::Message => LeafType::Asset,
    };
    fails(Exit { leaf_type, ..exit.clone() });
    let number_bit = 1_u32 << (source.byte() % 32);
    fails(Exit { origin_network: exit.origin_network ^ number_bit, ..exit.clone() });
    fails(Exit { destination_network: exit.destination_network ^ number_bit, ..exit.clone() });
    let (mut from, mut to) = (exit.origin_address, exit.destination_address);
    source.flip(from.as_mut_slice());
    source.flip(to.as_mut_slice());
    fails(Exit { origin_address: from, ..exit.clone() });
    fails(Exit { destination_address: to, ..exit.clone() });
    let mut amount = B256::from(exit.amount);
    source.flip(amount.as_mut_slice());
    fails(Exit { amount: U256::from_be_bytes(amount.0), ..exit.clone() });
    let mut metadata = exit.metadata.to_vec();
    metadata.push(source.byte());
    fails(Exit { metadata: metadata.into(), ..exit.clone() });
}

/// A bit of any part of a proof matters; Ethereum's root does to the global exit root alone.
fn check_other_proofs(source: &mut Source<'_>, exit: &Exit, proof: &ExitProof) {
    let fails = |other: &ExitProof| assert!(other.verify(number(ORIGIN), exit).is_err(), "a proof holds that was changed");
    for part in 0..4 {
        let mut other = proof.clone();
        let level = source.index(proof.local.len());
        let word = match part {
            0 => &mut other.local[level],
            1 => &mut other.rollup[level],
            2 => &mut other.local_exit_root,
            _ => &mut other.rollup_exit_root,
        };
        source.flip(word.as_mut_slice());
        fails(&other);
    }
    let mut other = proof.clone();
    source.flip(other.mainnet_exit_root.as_mut_slice());
    assert_ne!(other.global_exit_root(), proof.global_exit_root());
    let network = source.u32();
    assert_eq!(proof.verify(network, exit).is_ok(), network == number(ORIGIN), "a proof holds for network {network}");
}

/// A leaf is proven at its own index alone, unless what stands beside its path is the path itself.
fn check_other_indices(landed: &LandedExit) {
    let index = landed.index.leaf_index;
    for (height, sibling) in landed.siblings.iter().enumerate() {
        let node = root_over(landed.leaf, &landed.siblings[..height], index);
        let moved = verify(landed.leaf, &landed.siblings, index ^ (1 << height), landed.root);
        assert_eq!(moved, node == *sibling, "exit {index} is proven with bit {height} of its index changed");
    }
}

//! Trees and balances that no log tells, read from the fixture contract.

use std::sync::Arc;

use alloy_primitives::{Address, Log, U256, keccak256};
use alloy_sol_types::{SolEvent, sol};
use lockstep_messaging::{
    Evidence, ExitFacts, ExitTree, Protocol,
    agglayer::{ETHER, GlobalIndex, Token},
};
use lockstep_primitives::{ChainId, Place, Reason, Rejection, RollupSet};
use lockstep_simulation::MemoryState;

use super::{bridges, code, exit, told};
use crate::messages::{
    MessagesSettings,
    fixture::{A, B, BRANCH_SLOT, BRIDGE, Office, bridge_state, only},
};

sol! {
    event ClaimEvent(
        uint256 globalIndex, uint32 originNetwork, address originAddress, address destinationAddress, uint256 amount
    );
}

/// A token of rollup B's network.
const TOKEN: Token = (2, Address::repeat_byte(0x77));
/// Tokens of networks that are none of both rollups'.
const ELSEWHERE: [Token; 2] = [(3, Address::repeat_byte(0x33)), (4, Address::repeat_byte(0x44))];

/// Two bridges. Rollup A is read from its head on, and its tree begins at `slot`.
fn office(slot: u64) -> Office {
    over(|settings| {
        settings.start.remove(&A);
        settings.branch_slots.insert(A, slot);
    })
}

fn over(change: impl FnOnce(&mut MessagesSettings)) -> Office {
    let agglayer: Arc<dyn Protocol> = Arc::new(bridges());
    Office::over(vec![agglayer], Some(bridges()), |settings| {
        settings.grace_blocks = 0;
        change(settings);
    })
}

fn tree(leaves: u64) -> ExitTree {
    let mut tree = ExitTree::default();
    for leaf in 0..leaves {
        tree.append(keccak256(leaf.to_be_bytes())).unwrap();
    }
    tree
}

/// The log of a claim of what left rollup B.
fn claim((network, token): Token, amount: u64) -> Log {
    let event = ClaimEvent {
        globalIndex: GlobalIndex { network: 2, leaf_index: amount as u32 }.encode(),
        originNetwork: network,
        originAddress: token,
        destinationAddress: Address::ZERO,
        amount: U256::from(amount),
    };
    Log::new_unchecked(BRIDGE, vec![ClaimEvent::SIGNATURE_HASH], event.encode_data().into())
}

async fn exits(office: &Office) -> ExitFacts {
    office.messages.facts(&office.view(), &[], &RollupSet::new()).await.exits.clone()
}

/// How much of a token rollup A is known to have.
fn balance(exits: &ExitFacts, (network, token): Token) -> Option<u64> {
    exits.balances.get(&(A, network, token)).map(|amount| amount.to())
}

fn lacking(chain: ChainId, (network, token): Token) -> Rejection {
    let reason = Reason::TokenUnderflow { network, token, available: U256::ZERO, exports: U256::from(9) };
    Rejection::new(Place::rollup(chain), reason)
}

#[tokio::test]
async fn a_tree_that_is_not_followed_from_its_beginning_is_read_from_its_bridge() {
    let mut office = office(BRANCH_SLOT);
    let before = tree(3);
    office.a.put_state(0, bridge_state(&before, &[(ETHER, U256::from(5_000))]));
    assert!(!exits(&office).await.trees.contains_key(&A));
    office.messages.ask_bridge(A).await;
    let known = exits(&office).await;
    assert_eq!(known.trees[&A], before);
    assert_eq!(balance(&known, ETHER), Some(5_000));

    // What happens from then on is followed. The exit is one of 1,003 wei.
    office.a.push(&[vec![exit(3)]]);
    let next = only(A, exit(3));
    let proof = told(&office, next).await;
    assert!(matches!(&proof, Some(Ok(Evidence::Exit(_)))), "{proof:?}");
    let known = exits(&office).await;
    assert_eq!((known.trees[&A].count(), balance(&known, ETHER)), (4, Some(3_997)));
    office.messages.ask_bridge(A).await;
    office.restart();
    assert_eq!(exits(&office).await, known);
    assert_eq!(told(&office, next).await, proof);
    office.messages.ask_bridge(A).await;
    assert_eq!(*office.a.looked.lock(), [0], "there is nothing more to ask");
}

#[tokio::test]
async fn a_tree_that_does_not_make_its_bridges_root_is_not_believed_and_not_looked_for_again() {
    let office = office(BRANCH_SLOT + 1);
    office.a.put_state(0, bridge_state(&tree(3), &[]));
    office.read().await;
    office.messages.ask_bridge(A).await;
    office.messages.ask_bridge(A).await;
    assert!(!exits(&office).await.trees.contains_key(&A));
    assert_eq!(*office.a.looked.lock(), [0]);
    office.a.push(&[vec![exit(3)]]);
    assert_eq!(code(&office, only(A, exit(3))).await, Some("no_evidence"));
}

#[tokio::test]
async fn a_bridge_without_the_calls_of_a_tree_is_not_believed() {
    let office = office(BRANCH_SLOT);
    office.a.put_state(0, MemoryState::new());
    office.read().await;
    office.messages.ask_bridge(A).await;
    assert!(!exits(&office).await.trees.contains_key(&A), "nothing there would make an empty tree");
}

#[tokio::test]
async fn a_bridge_whose_state_is_not_to_be_had_is_asked_at_a_later_block() {
    let office = office(BRANCH_SLOT);
    office.read().await;
    office.messages.ask_bridge(A).await;
    assert!(!exits(&office).await.trees.contains_key(&A));
    office.a.idle(1);
    office.a.put_state(1, bridge_state(&tree(2), &[]));
    office.read().await;
    office.messages.ask_bridge(A).await;
    assert_eq!(exits(&office).await.trees[&A], tree(2));
    // A reorg takes it away with its block, and it is asked for anew.
    office.a.back_to(0);
    office.a.idle(2);
    office.a.put_state(2, bridge_state(&tree(5), &[]));
    assert!(!exits(&office).await.trees.contains_key(&A));
    office.messages.ask_bridge(A).await;
    assert_eq!(exits(&office).await.trees[&A], tree(5));
}

#[tokio::test]
async fn balances_that_the_logs_do_not_tell_are_read_so_many_at_a_time() {
    let mut office = over(|settings| settings.limits.token_reads = 1);
    // The event does not say whether it is the token, or a message with ether of somebody at that address.
    office.a.push(&[vec![claim(TOKEN, 77)]]);
    office.a.put_state(1, bridge_state(&ExitTree::default(), &[(TOKEN, U256::from(77))]));
    assert!(exits(&office).await.balances.is_empty(), "too little rather than too much");
    office.messages.ask_bridge(A).await;
    assert!(exits(&office).await.balances.is_empty(), "there is no ether, the token was not asked for yet");
    office.restart();
    office.messages.ask_bridge(A).await;
    assert_eq!(balance(&exits(&office).await, TOKEN), Some(77));
    office.restart();
    office.messages.ask_bridge(A).await;
    assert_eq!(*office.a.looked.lock(), [1, 1]);
    assert_eq!(balance(&exits(&office).await, TOKEN), Some(77));
}

#[tokio::test]
async fn what_was_there_before_anything_was_read_is_looked_up_when_it_moves_or_is_lacking() {
    let office = office(BRANCH_SLOT);
    let [moves, rests] = ELSEWHERE;
    office.a.put_state(0, bridge_state(&tree(1), &[(moves, U256::from(20)), (rests, U256::from(9))]));
    office.read().await;
    office.messages.ask_bridge(A).await;
    office.a.push(&[vec![claim(moves, 5)]]);
    office.a.put_state(1, bridge_state(&tree(1), &[(moves, U256::from(25)), (rests, U256::from(9))]));
    let known = exits(&office).await;
    assert_eq!((balance(&known, moves), balance(&known, rests)), (Some(5), None));
    office.messages.ask_bridge(A).await;
    assert_eq!(balance(&exits(&office).await, moves), Some(25));

    office.messages.heed(&lacking(A, rests));
    office.messages.ask_bridge(A).await;
    assert_eq!(balance(&exits(&office).await, rests), Some(9));
    // What is certain is not looked up: what was read, and everything of B, which was read from its first block on.
    office.messages.heed(&lacking(A, rests));
    office.messages.heed(&lacking(B, rests));
    office.messages.ask_bridge(A).await;
    office.messages.ask_bridge(B).await;
    assert_eq!(*office.a.looked.lock(), [0, 1, 1]);
    assert!(office.b.looked.lock().is_empty());
}

#[tokio::test]
async fn a_bridge_that_does_not_tell_balances_is_not_asked_again() {
    let office = over(|_| {});
    office.a.push(&[vec![claim(TOKEN, 77)]]);
    office.a.put_state(1, MemoryState::new());
    office.read().await;
    office.messages.ask_bridge(A).await;
    office.a.push(&[vec![claim(TOKEN, 78)]]);
    office.read().await;
    office.messages.ask_bridge(A).await;
    assert_eq!(*office.a.looked.lock(), [1]);
    assert!(exits(&office).await.balances.is_empty());
}

#[tokio::test]
async fn so_many_balances_are_noted_and_no_more() {
    let office = over(|settings| settings.limits.tokens = 1);
    let [first, second] = ELSEWHERE;
    office.a.push(&[vec![claim(first, 5)], vec![claim(second, 6)]]);
    let known = exits(&office).await;
    assert_eq!((balance(&known, first), balance(&known, second)), (Some(5), None));
}

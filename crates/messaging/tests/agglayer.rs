//! What the AggLayer module promises: published leaves, roots and indices to the byte; proofs that a naive tree gives too;
//! claims that hold on their destination or are refused by name; and no rollup from which more leaves than came.

use std::collections::{BTreeMap, BTreeSet};

use abi::{BridgeEvent, ClaimEvent, claimAssetCall, claimMessageCall, globalExitRootMapCall, insertGlobalExitRootCall};
use alloy_primitives::{Address, B256, Bytes, Log, LogData, U256, address, b256, hex, keccak256};
use alloy_sol_types::{SolCall, SolEvent};
use lockstep_messaging::{
    AggLayer, BridgeDeployment, Demand, Destination, Emitted, Evidence, ExitFacts, ExitProof, ExitTree, Facts, LandedMessage,
    LogPlace, Message, Protocol, Slot, SlotLogs,
    agglayer::{
        ETHER, Exit, GlobalIndex, LeafType, MerkleTreeFull, Siblings, global_exit_root, rollup_exit_root, rollup_proof, verify,
    },
};
use lockstep_primitives::{ChainId, LandedRef, Place, Reason, TxId};
use proptest::prelude::*;

mod abi {
    use alloy_sol_types::sol;

    sol! {
        event BridgeEvent(uint8 leafType, uint32 originNetwork, address originAddress, uint32 destinationNetwork, address destinationAddress, uint256 amount, bytes metadata, uint32 depositCount);
        event ClaimEvent(uint256 globalIndex, uint32 originNetwork, address originAddress, address destinationAddress, uint256 amount);
        function claimAsset(bytes32[32] local, bytes32[32] rollup, uint256 globalIndex, bytes32 mainnetExitRoot, bytes32 rollupExitRoot, uint32 originNetwork, address originToken, uint32 destinationNetwork, address destinationAddress, uint256 amount, bytes metadata) external;
        function claimMessage(bytes32[32] local, bytes32[32] rollup, uint256 globalIndex, bytes32 mainnetExitRoot, bytes32 rollupExitRoot, uint32 originNetwork, address originAddress, uint32 destinationNetwork, address destinationAddress, uint256 amount, bytes metadata) external;
        function insertGlobalExitRoot(bytes32 root) external;
        function globalExitRootMap(bytes32 root) external view returns (uint256);
    }
}

/// Ethereum, network 0, where a test deploys it.
const L1: ChainId = 1;
/// Network 1.
const ORIGIN: ChainId = 10;
/// Network 2.
const DESTINATION: ChainId = 20;

const BRIDGE: Address = address!("2a3DD3EB832aF982ec71669E178424b10Dca2EDe");
const MANAGER: Address = address!("a40D5f56745a118D0906a34E69aeC8C0Db1cB8fA");
const BUILDER: Address = Address::repeat_byte(0xbb);
const TOKEN: Address = Address::repeat_byte(0x70);
const RECEIVER: Address = Address::repeat_byte(0x11);
const EMPTY_ROOT: B256 = b256!("27ae5ba08d7291c96c8cbddcc148bf48a6d68c7974b94356f53754ef6171d757");

fn deployment(network: u32) -> BridgeDeployment {
    BridgeDeployment { network, bridge: BRIDGE, exit_root_manager: MANAGER, updater: Some(BUILDER) }
}

fn bridges() -> AggLayer {
    AggLayer::new([(ORIGIN, deployment(1)), (DESTINATION, deployment(2))].into())
}

fn with_ethereum() -> AggLayer {
    AggLayer::new([(L1, deployment(0)), (ORIGIN, deployment(1)), (DESTINATION, deployment(2))].into())
}

fn at(chain: ChainId) -> Destination {
    Destination { chain, number: 9, timestamp: 100, beneficiary: Address::repeat_byte(0xfe), builder: BUILDER }
}

/// The leaves that the origin's tree has before the slot.
fn earlier() -> Vec<B256> {
    (1..=3).map(B256::repeat_byte).collect()
}

fn tree(leaves: &[B256]) -> ExitTree {
    let mut tree = ExitTree::default();
    for leaf in leaves {
        tree.append(*leaf).expect("there is room");
    }
    tree
}

/// Three exits of the origin, none of the destination, one other rollup, claims of the same slot allowed on the destination.
fn facts() -> Facts {
    let exits = ExitFacts {
        trees: [(ORIGIN, tree(&earlier())), (DESTINATION, ExitTree::default())].into(),
        mainnet_exit_root: B256::repeat_byte(0xee),
        exit_roots: [(5, B256::repeat_byte(0x55))].into(),
        same_slot_claims: [DESTINATION].into(),
        ..ExitFacts::default()
    };
    Facts { exits, ..Facts::default() }
}

fn asset(leaf_index: u32) -> Exit {
    Exit {
        leaf_type: LeafType::Asset,
        origin_network: 1,
        origin_address: TOKEN,
        destination_network: 2,
        destination_address: RECEIVER,
        amount: U256::from(1_000),
        metadata: Bytes::from_static(b"meta"),
        leaf_index,
    }
}

fn call(leaf_index: u32) -> Exit {
    Exit { leaf_type: LeafType::Message, origin_address: Address::repeat_byte(0x5e), ..asset(leaf_index) }
}

fn exit_log(exit: &Exit) -> Log {
    let event = BridgeEvent {
        leafType: u8::from(exit.leaf_type == LeafType::Message),
        originNetwork: exit.origin_network,
        originAddress: exit.origin_address,
        destinationNetwork: exit.destination_network,
        destinationAddress: exit.destination_address,
        amount: exit.amount,
        metadata: exit.metadata.clone(),
        depositCount: exit.leaf_index,
    };
    Log { address: BRIDGE, data: event.encode_log_data() }
}

/// The claim of an exit that left `network`.
fn claim_log(network: u32, exit: &Exit) -> Log {
    let event = ClaimEvent {
        globalIndex: GlobalIndex { network, leaf_index: exit.leaf_index }.encode(),
        originNetwork: exit.origin_network,
        originAddress: exit.origin_address,
        destinationAddress: exit.destination_address,
        amount: exit.amount,
    };
    Log { address: BRIDGE, data: event.encode_log_data() }
}

fn emitted(log: &Log, index: usize) -> Emitted<'_> {
    let place = LogPlace { block: 7, timestamp: 100, index: index as u64 };
    Emitted { log, place, tx: TxId::Signed { signer: Address::ZERO, nonce: index as u64 }, in_tx: index }
}

#[derive(Debug, Default)]
struct Logs(BTreeMap<ChainId, Vec<Log>>);

impl SlotLogs for Logs {
    fn logs(&self, chain: ChainId) -> Option<Vec<Emitted<'_>>> {
        Some(self.0.get(&chain)?.iter().enumerate().map(|(index, log)| emitted(log, index)).collect())
    }

    fn chains(&self) -> Vec<ChainId> {
        self.0.keys().copied().collect()
    }
}

/// Exits of the origin in this slot, nothing on the destination.
fn exits(exits: &[Exit]) -> Logs {
    Logs([(ORIGIN, exits.iter().map(exit_log).collect()), (DESTINATION, Vec::new())].into())
}

fn message(bridges: &AggLayer, chain: ChainId, logs: &Logs, index: usize) -> Message {
    let emitted = emitted(&logs.0[&chain][index], index);
    bridges.recognise(chain, &emitted).expect("it is an exit").expect("it is well-formed")
}

fn proof(demand: Demand) -> ExitProof {
    match demand {
        Demand::Derived(Evidence::Exit(proof)) => *proof,
        other => panic!("{other:?} is no proof"),
    }
}

/// The second of two exits of this slot, and the proof of it.
fn claimable(exit: fn(u32) -> Exit) -> (Message, ExitProof) {
    let (bridges, facts, logs) = (bridges(), facts(), exits(&[asset(3), exit(4)]));
    let message = message(&bridges, ORIGIN, &logs, 1);
    let slot = Slot { facts: &facts, logs: &logs };
    let demand = bridges.demand(&message, &at(DESTINATION), &slot).expect("it can be claimed");
    (message, proof(demand))
}

fn evidence(proof: ExitProof) -> Evidence {
    Evidence::Exit(Box::new(proof))
}

fn join(left: B256, right: B256) -> B256 {
    keccak256([left.as_slice(), right.as_slice()].concat())
}

/// The root of a full tree, written down as it is defined.
fn naive_root(leaves: &[B256], height: u32) -> B256 {
    if leaves.is_empty() {
        return (0..height).fold(B256::ZERO, |node, _| join(node, node));
    }
    if height == 0 {
        return leaves[0];
    }
    let (left, right) = leaves.split_at(leaves.len().min(1 << (height - 1)));
    join(naive_root(left, height - 1), naive_root(right, height - 1))
}

fn naive_siblings(leaves: &[B256], index: usize) -> Siblings {
    std::array::from_fn(|height| {
        let start = (((index >> height) ^ 1) << height).min(leaves.len());
        let end = (start + (1 << height)).min(leaves.len());
        naive_root(&leaves[start..end], height as u32)
    })
}

#[test]
fn the_published_leaf_is_made() {
    let exit = Exit {
        leaf_type: LeafType::Asset,
        origin_network: 0,
        origin_address: Address::ZERO,
        destination_network: 1,
        destination_address: RECEIVER,
        amount: U256::from(10).pow(U256::from(18)),
        metadata: Bytes::new(),
        leaf_index: 0,
    };
    assert_eq!(exit.leaf(), b256!("757bf7a6989937e4222f35d5b854a2585095214889126ce4ed59a598457b6e9a"));
}

#[test]
fn an_empty_tree_has_the_published_root() {
    assert_eq!(ExitTree::default().root(), EMPTY_ROOT);
    assert_eq!(rollup_exit_root(&BTreeMap::new()), Some(EMPTY_ROOT));
    assert_eq!(naive_root(&[], 32), EMPTY_ROOT);
}

#[test]
fn events_and_calls_are_the_published_ones() {
    assert_eq!(BridgeEvent::SIGNATURE_HASH, b256!("501781209a1f8899323b96b4ef08b168df93e0a90c673d1e4cce39366cb62f9b"));
    assert_eq!(ClaimEvent::SIGNATURE_HASH, b256!("1df3f2a973a00d6635911755c260704e95e8a5876997546798770f76396fda4d"));
    let (message, proof) = claimable(asset);
    let calls = bridges().deliver(&message, &evidence(proof), &at(DESTINATION)).unwrap();
    assert_eq!(calls[0].data[..4], hex!("12da06b2"));
    assert_eq!(calls[0].unless.as_ref().unwrap().data[..4], hex!("257b3632"));
    assert_eq!(calls[1].data[..4], hex!("ccaa2d11"));
    let (message, proof) = claimable(call);
    let calls = bridges().deliver(&message, &evidence(proof), &at(DESTINATION)).unwrap();
    assert_eq!(calls[1].data[..4], hex!("f5efcd79"));
}

#[test]
fn a_global_index_has_the_mainnet_flag_in_bit_64_and_else_the_network_less_1() {
    let mainnet = GlobalIndex { network: 0, leaf_index: 7 };
    assert_eq!(mainnet.encode(), (U256::from(1) << 64) + U256::from(7));
    let rollup = GlobalIndex { network: 3, leaf_index: 7 };
    assert_eq!(rollup.encode(), (U256::from(2) << 32) + U256::from(7));
    let last = GlobalIndex { network: u32::MAX, leaf_index: u32::MAX };
    for index in [mainnet, rollup, last] {
        assert_eq!(GlobalIndex::decode(index.encode()), Some(index));
    }
    for high in 64..256 {
        assert_eq!(GlobalIndex::decode(rollup.encode() | (U256::from(1) << high)), None, "bit {high} of a rollup's");
    }
    for high in (32..64).chain(65..256) {
        assert_eq!(GlobalIndex::decode(mainnet.encode() | (U256::from(1) << high)), None, "bit {high} of Ethereum's");
    }
    assert_eq!(GlobalIndex::decode(U256::from(u64::MAX)), None, "no network has the number 2^32");
}

#[test]
fn a_full_tree_takes_no_leaf() {
    let mut tree = ExitTree::from_frontier([B256::repeat_byte(1); 32], u32::MAX - 1);
    assert_eq!(tree.append(B256::repeat_byte(2)), Ok(()));
    let before = tree.clone();
    assert_eq!(tree.append(B256::repeat_byte(3)), Err(MerkleTreeFull));
    assert_eq!(tree.append_with_proof(B256::repeat_byte(3)), Err(MerkleTreeFull));
    assert_eq!((tree.count(), &tree), (u32::MAX, &before));
}

#[test]
fn a_tree_can_be_taken_up_from_what_its_bridge_stores() {
    let mut stored = *tree(&earlier()).frontier();
    // A bridge leaves nodes behind that its count no longer reaches.
    stored[7] = B256::repeat_byte(9);
    assert_eq!(ExitTree::from_frontier(stored, 3), tree(&earlier()));
}

#[test]
fn the_highest_network_has_its_place_among_the_rollups_roots_and_network_0_has_none() {
    let roots: BTreeMap<u32, B256> = [(1, B256::repeat_byte(1)), (u32::MAX, B256::repeat_byte(2))].into();
    let (root, siblings) = rollup_proof(&roots, u32::MAX).unwrap();
    assert!(verify(B256::repeat_byte(2), &siblings, u32::MAX - 1, root));
    assert_eq!(rollup_proof(&roots, 0), None);
    assert_eq!(rollup_exit_root(&[(0, B256::ZERO)].into()), None);
}

#[test]
fn an_exit_is_recognised_and_its_claim_is_its_delivery() {
    let bridges = bridges();
    let logs = exits(&[asset(3)]);
    let message = message(&bridges, ORIGIN, &logs, 0);
    assert_eq!((message.origin, message.destination, message.restricted_to), (ORIGIN, Some(DESTINATION), None));
    assert_eq!(message.payload, logs.0[&ORIGIN][0].data.data);
    let claim = claim_log(1, &asset(3));
    assert_eq!(bridges.delivered(DESTINATION, &claim), bridges.receipt(&message, None));
    assert_eq!(bridges.receipt(&message, None), Some(message.id));
    // The same index of another network is another exit.
    assert_ne!(bridges.delivered(DESTINATION, &claim_log(3, &asset(3))), Some(message.id));
    assert_eq!(bridges.delivered(99, &claim), None);
    let elsewhere = Exit { destination_network: 9, ..asset(3) };
    let elsewhere = self::message(&bridges, ORIGIN, &exits(&[elsewhere]), 0);
    assert_eq!((elsewhere.destination, elsewhere.destination_name.as_str()), (None, "AggLayer network 9"));
}

#[test]
fn what_no_bridge_emits_is_refused_and_what_is_not_the_bridges_is_not_seen() {
    let bridges = bridges();
    let recognise = |log: &Log| bridges.recognise(ORIGIN, &emitted(log, 0));
    let mut foreign = exit_log(&asset(3));
    foreign.address = Address::ZERO;
    assert!(recognise(&foreign).is_none());
    assert!(recognise(&claim_log(2, &asset(3))).is_none());
    let circle = exit_log(&Exit { destination_network: 1, ..asset(3) });
    let posing = exit_log(&Exit { origin_network: 7, ..call(3) });
    let mut short = exit_log(&asset(3));
    short.data = LogData::new_unchecked(short.topics().to_vec(), short.data.data.slice(..200));
    let mut third_type = exit_log(&asset(3));
    let mut bytes = third_type.data.data.to_vec();
    bytes[31] = 2;
    third_type.data = LogData::new_unchecked(third_type.topics().to_vec(), bytes.into());
    for log in [circle, posing, short, third_type] {
        assert_eq!(recognise(&log).unwrap().unwrap_err().code(), "malformed_message");
    }
}

#[test]
fn an_exit_of_the_slot_is_proven_against_the_tree_with_all_exits_before_it() {
    let (message, proof) = claimable(asset);
    let mut leaves = earlier();
    leaves.extend([asset(3).leaf(), asset(4).leaf()]);
    let rollups = [naive_root(&leaves, 32), EMPTY_ROOT, B256::ZERO, B256::ZERO, B256::repeat_byte(0x55)];
    assert_eq!(proof.local_exit_root, rollups[0]);
    assert_eq!(proof.local, naive_siblings(&leaves, 4));
    assert_eq!(proof.rollup, naive_siblings(&rollups, 0));
    assert_eq!(proof.rollup_exit_root, naive_root(&rollups, 32));
    assert_eq!(proof.mainnet_exit_root, B256::repeat_byte(0xee));

    let calls = bridges().deliver(&message, &evidence(proof.clone()), &at(DESTINATION)).unwrap();
    let root = join(proof.mainnet_exit_root, proof.rollup_exit_root);
    assert_eq!(global_exit_root(proof.mainnet_exit_root, proof.rollup_exit_root), root);
    let [insert, claim] = &calls[..] else { panic!("an insertion and a claim, not {calls:?}") };
    assert_eq!((insert.to, claim.to), (MANAGER, BRIDGE));
    assert_eq!(insertGlobalExitRootCall::abi_decode(&insert.data).unwrap().root, root);
    let unless = insert.unless.as_ref().unwrap();
    assert_eq!(unless.to, MANAGER);
    assert_eq!(globalExitRootMapCall::abi_decode(&unless.data).unwrap().root, root);
    assert!(claim.unless.is_none());
    let decoded = claimAssetCall::abi_decode(&claim.data).unwrap();
    assert_eq!((decoded.local, decoded.rollup), (proof.local, proof.rollup));
    assert_eq!(decoded.globalIndex, U256::from(4));
    assert_eq!((decoded.mainnetExitRoot, decoded.rollupExitRoot), (proof.mainnet_exit_root, proof.rollup_exit_root));
    assert_eq!((decoded.originNetwork, decoded.originToken, decoded.destinationNetwork), (1, TOKEN, 2));
    assert_eq!((decoded.destinationAddress, decoded.amount), (RECEIVER, U256::from(1_000)));
    assert_eq!(decoded.metadata.as_ref(), b"meta");
    // Both proofs are 2,048 bytes: the gas limit has to leave room for what the claim does beside them.
    assert!(claim.gas >= 1_500_000 && insert.gas > 0);
}

#[test]
fn a_message_is_claimed_as_a_message() {
    let (message, proof) = claimable(call);
    let calls = bridges().deliver(&message, &evidence(proof), &at(DESTINATION)).unwrap();
    let decoded = claimMessageCall::abi_decode(&calls[1].data).unwrap();
    assert_eq!((decoded.originNetwork, decoded.originAddress), (1, Address::repeat_byte(0x5e)));
    assert_eq!(decoded.globalIndex, U256::from(4));
}

#[test]
fn an_exit_of_ethereum_is_proven_against_its_own_root_alone() {
    let bridges = with_ethereum();
    let mut facts = facts();
    facts.exits.trees.insert(L1, ExitTree::default());
    let exit = Exit { origin_network: 0, ..asset(0) };
    let logs = Logs([(L1, vec![exit_log(&exit)]), (ORIGIN, vec![exit_log(&asset(3))])].into());
    let message = message(&bridges, L1, &logs, 0);
    let slot = Slot { facts: &facts, logs: &logs };
    let found = proof(bridges.demand(&message, &at(DESTINATION), &slot).unwrap());
    assert_eq!(found.mainnet_exit_root, naive_root(&[exit.leaf()], 32));
    assert_eq!(found.rollup, Siblings::default());
    // Other rollups count as they were before the slot.
    let rollups = [naive_root(&earlier(), 32), EMPTY_ROOT, B256::ZERO, B256::ZERO, B256::repeat_byte(0x55)];
    assert_eq!(found.rollup_exit_root, naive_root(&rollups, 32));
    let calls = bridges.deliver(&message, &evidence(found.clone()), &at(DESTINATION)).unwrap();
    let decoded = claimAssetCall::abi_decode(&calls[1].data).unwrap();
    assert_eq!(decoded.globalIndex, U256::from(1) << 64);
    let other_root = ExitProof { mainnet_exit_root: B256::ZERO, ..found };
    let refused = bridges.deliver(&message, &evidence(other_root), &at(DESTINATION)).unwrap_err();
    assert_eq!(refused.code(), "no_evidence");
}

#[test]
fn what_cannot_be_claimed_in_the_slot_of_its_exit_is_refused_by_name() {
    let logs = exits(&[asset(3)]);
    let message = message(&bridges(), ORIGIN, &logs, 0);
    let refused = |bridges: &AggLayer, facts: &Facts, logs: &Logs, to: Destination| {
        bridges.demand(&message, &to, &Slot { facts, logs }).unwrap_err()
    };
    let to = at(DESTINATION);

    assert_eq!(refused(&bridges(), &facts(), &logs, at(ORIGIN)).code(), "wrong_destination");

    let mut terms = facts();
    terms.exits.same_slot_claims.clear();
    assert_eq!(refused(&bridges(), &terms, &logs, to), Reason::SameSlotClaim(DESTINATION));

    let updater = Address::repeat_byte(0xcc);
    let named = AggLayer::new(
        [(ORIGIN, deployment(1)), (DESTINATION, BridgeDeployment { updater: Some(updater), ..deployment(2) })].into(),
    );
    assert_eq!(refused(&named, &facts(), &logs, to), Reason::ExitRootUpdater { updater, builder: BUILDER });

    let mut unknown = facts();
    unknown.exits.trees.remove(&ORIGIN);
    assert_eq!(refused(&bridges(), &unknown, &logs, to).code(), "no_evidence");

    let mut other_rollup_unknown = facts();
    other_rollup_unknown.exits.trees.remove(&DESTINATION);
    assert_eq!(refused(&bridges(), &other_rollup_unknown, &logs, to).code(), "no_evidence");
    other_rollup_unknown.exits.exit_roots.insert(2, EMPTY_ROOT);
    let slot = Slot { facts: &other_rollup_unknown, logs: &logs };
    assert!(bridges().demand(&message, &to, &slot).is_ok(), "a root does where the tree is not known");

    let mut behind = facts();
    behind.exits.trees.insert(ORIGIN, tree(&earlier()[..2]));
    let text = refused(&bridges(), &behind, &logs, to).to_string();
    assert!(text.contains("number 3") && text.contains("2 leaves"), "{text}");

    assert_eq!(refused(&bridges(), &facts(), &exits(&[]), to).code(), "no_evidence");
    assert_eq!(refused(&bridges(), &facts(), &exits(&[call(3)]), to).code(), "no_evidence");
    assert_eq!(refused(&bridges(), &facts(), &Logs::default(), to).code(), "no_evidence");
}

#[test]
fn without_a_named_updater_the_fee_recipient_inserts() {
    let none = BridgeDeployment { updater: None, ..deployment(2) };
    let zero = BridgeDeployment { updater: Some(Address::ZERO), ..deployment(2) };
    for destination in [none, zero] {
        let bridges = AggLayer::new([(ORIGIN, deployment(1)), (DESTINATION, destination)].into());
        let (facts, logs) = (facts(), exits(&[asset(3)]));
        let message = message(&bridges, ORIGIN, &logs, 0);
        let slot = Slot { facts: &facts, logs: &logs };
        let others = at(DESTINATION);
        let own = Destination { beneficiary: BUILDER, ..others };
        let refused = bridges.demand(&message, &others, &slot).unwrap_err();
        assert_eq!(refused, Reason::ExitRootUpdater { updater: others.beneficiary, builder: BUILDER });
        let found = evidence(proof(bridges.demand(&message, &own, &slot).unwrap()));
        assert_eq!(bridges.deliver(&message, &found, &own).unwrap().len(), 2);
        // What is proven against a root that others inserted can be claimed all the same.
        assert_eq!(bridges.deliver(&message, &found, &others).unwrap().len(), 1);
    }
}

#[test]
fn on_ethereum_nobody_inserts_roots() {
    let bridges = with_ethereum();
    let mut facts = facts();
    facts.exits.trees.insert(L1, ExitTree::default());
    facts.exits.same_slot_claims.insert(L1);
    let logs = Logs([(ORIGIN, vec![exit_log(&Exit { destination_network: 0, ..asset(3) })])].into());
    let message = message(&bridges, ORIGIN, &logs, 0);
    let slot = Slot { facts: &facts, logs: &logs };
    assert_eq!(bridges.demand(&message, &at(L1), &slot).unwrap_err(), Reason::SameSlotClaim(L1));
    let landed = facts.exits.apply(&bridges, ORIGIN, &logs.0[&ORIGIN]).unwrap().exits.remove(0);
    let found = facts.exits.prove(&bridges, &landed).unwrap();
    let calls = bridges.deliver(&message, &evidence(found), &at(L1)).unwrap();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].to, BRIDGE);
}

#[test]
fn evidence_of_another_kind_or_for_another_rollup_is_refused() {
    let (message, proof) = claimable(asset);
    let place = bridges().deliver(&message, &Evidence::Place, &at(DESTINATION)).unwrap_err();
    assert_eq!(place.code(), "no_evidence");
    let elsewhere = bridges().deliver(&message, &evidence(proof.clone()), &at(ORIGIN)).unwrap_err();
    assert_eq!(elsewhere.code(), "wrong_destination");
    // The proof says which of the two does not hold.
    let mut local = proof.clone();
    local.local[5] = B256::ZERO;
    let text = bridges().deliver(&message, &evidence(local), &at(DESTINATION)).unwrap_err().to_string();
    assert!(text.contains("exit 4 in the exit tree of network 1"), "{text}");
    let mut rollup = proof;
    rollup.rollup[5] = B256::ZERO;
    let text = bridges().deliver(&message, &evidence(rollup), &at(DESTINATION)).unwrap_err().to_string();
    assert!(text.contains("the tree of the rollups' exit roots"), "{text}");
}

/// Checks a slot in which these logs are the destination's, with `balance` of the token there before.
fn check(balance: u64, others: Vec<Log>, own: Vec<Log>) -> Result<(), Reason> {
    let mut facts = facts();
    facts.exits.balances.insert((DESTINATION, 1, TOKEN), U256::from(balance));
    let logs = Logs([(ORIGIN, others), (DESTINATION, own)].into());
    bridges().check_slot(&Slot { facts: &facts, logs: &logs }).map_err(|rejection| {
        assert_eq!(rejection.place, Place::rollup(DESTINATION));
        rejection.reason
    })
}

/// The origin's token leaves the destination again.
fn back(leaf_index: u32, amount: u64) -> Log {
    exit_log(&Exit { destination_network: 1, amount: U256::from(amount), ..asset(leaf_index) })
}

#[test]
fn no_more_of_a_token_leaves_than_came() {
    assert_eq!(check(10, vec![], vec![back(0, 4), back(1, 6)]), Ok(()));
    let refused = check(10, vec![], vec![back(0, 4), back(1, 7)]).unwrap_err();
    let (available, exports) = (U256::from(10), U256::from(11));
    assert_eq!(refused, Reason::TokenUnderflow { network: 1, token: TOKEN, available, exports });
    // A rollup's own tokens leave as they like: the origin has no balance of its token.
    assert_eq!(check(0, vec![exit_log(&asset(3))], vec![]), Ok(()));
}

/// The first logs of the destination are those of a transaction that its derivation forces.
#[derive(Debug)]
struct Forced(Logs, usize);

impl SlotLogs for Forced {
    fn logs(&self, chain: ChainId) -> Option<Vec<Emitted<'_>>> {
        let mut logs = self.0.logs(chain)?;
        if chain == DESTINATION {
            logs.iter_mut().take(self.1).for_each(|emitted| emitted.tx = TxId::Deposit(B256::ZERO));
        }
        Some(logs)
    }

    fn chains(&self) -> Vec<ChainId> {
        self.0.chains()
    }
}

#[test]
fn what_is_forced_to_leave_is_no_bundles_doing_but_nothing_leaves_beside_it() {
    let facts = facts();
    let check = |own: Vec<Log>| {
        let logs = Forced(Logs([(DESTINATION, own)].into()), 1);
        bridges().check_slot(&Slot { facts: &facts, logs: &logs }).map_err(|rejection| rejection.reason.code())
    };
    assert_eq!(check(vec![back(0, 7)]), Ok(()));
    assert_eq!(check(vec![back(0, 7), back(1, 1)]), Err("token_underflow"));
}

#[test]
fn an_export_may_spend_an_import_of_the_same_slot_whatever_their_order_but_no_more() {
    let (sent, came) = (exit_log(&asset(3)), claim_log(1, &asset(3)));
    assert_eq!(check(10, vec![sent.clone()], vec![came.clone(), back(0, 1_010)]), Ok(()));
    assert_eq!(check(10, vec![sent.clone()], vec![back(0, 1_010), came.clone()]), Ok(()));
    let refused = check(10, vec![sent], vec![came, back(0, 1_011)]).unwrap_err();
    assert_eq!(refused.code(), "token_underflow");
}

#[test]
fn a_claim_that_may_be_of_a_message_counts_for_no_token_until_its_exit_is_known() {
    // The event of a claim names a token or a sender, and does not say which.
    let came = claim_log(1, &asset(3));
    assert_eq!(check(0, vec![], vec![came.clone(), back(0, 1)]).unwrap_err().code(), "token_underflow");
    // A token of a third network can only be a token.
    let third = Exit { origin_network: 9, ..asset(3) };
    let back_again = exit_log(&Exit { destination_network: 1, origin_network: 9, ..asset(0) });
    assert_eq!(check(0, vec![], vec![claim_log(1, &third), back_again]), Ok(()));
    // Another exit than the claimed one tells nothing.
    let other = exit_log(&Exit { amount: U256::from(999), ..asset(3) });
    assert_eq!(check(0, vec![other], vec![came.clone(), back(0, 1)]).unwrap_err().code(), "token_underflow");

    let bridges = bridges();
    let mut facts = facts();
    let earlier = exits(&[asset(3)]);
    let known = message(&bridges, ORIGIN, &earlier, 0);
    let reference = LandedRef { chain: ORIGIN, tx: B256::ZERO, message: 0 };
    facts.landed.insert(reference, Ok(LandedMessage { message: known, evidence: Evidence::Place }));
    let logs = Logs([(DESTINATION, vec![came, back(0, 1_000)])].into());
    assert_eq!(bridges.check_slot(&Slot { facts: &facts, logs: &logs }), Ok(()));
}

#[test]
fn what_a_message_carries_is_ether() {
    let leaves = |amount: u64| {
        let exit = Exit { origin_network: 2, destination_network: 1, amount: U256::from(amount), ..call(0) };
        exit_log(&exit)
    };
    let (sent, came) = (exit_log(&call(3)), claim_log(1, &call(3)));
    assert_eq!(check(0, vec![], vec![leaves(0)]), Ok(()));
    let refused = check(0, vec![], vec![leaves(1)]).unwrap_err();
    let (available, exports) = (U256::ZERO, U256::from(1));
    assert_eq!(refused, Reason::TokenUnderflow { network: ETHER.0, token: ETHER.1, available, exports });
    // The origin sends ether too, which has to have come there.
    let mut facts = facts();
    facts.exits.balances.insert((ORIGIN, 0, Address::ZERO), U256::from(1_000));
    let logs = Logs([(ORIGIN, vec![sent]), (DESTINATION, vec![came, leaves(1_000)])].into());
    assert_eq!(bridges().check_slot(&Slot { facts: &facts, logs: &logs }), Ok(()));
    facts.exits.balances.clear();
    let rejection = bridges().check_slot(&Slot { facts: &facts, logs: &logs }).unwrap_err();
    assert_eq!((rejection.place, rejection.reason.code()), (Place::rollup(ORIGIN), "token_underflow"));
}

#[test]
fn sums_beyond_256_bits_are_refused_not_wrapped() {
    let all = |network, leaf_index| Exit { origin_network: network, amount: U256::MAX, leaf_index, ..asset(0) };
    let exports =
        vec![exit_log(&Exit { destination_network: 1, ..all(9, 0) }), exit_log(&Exit { destination_network: 1, ..all(9, 1) })];
    assert_eq!(check(0, vec![], exports.clone()).unwrap_err().code(), "token_underflow");
    let imports = [claim_log(1, &all(9, 0)), claim_log(1, &all(9, 1))];
    assert_eq!(check(0, vec![], imports.to_vec()).unwrap_err().code(), "invalid_transaction");
    assert_eq!(check(0, vec![], [exports, imports.to_vec()].concat()), Ok(()), "512 bits in between are enough");
}

#[test]
fn landed_logs_move_trees_and_balances() {
    let bridges = bridges();
    let mut exits = facts().exits;
    exits.balances.insert((DESTINATION, 1, TOKEN), U256::from(50));
    let third = Exit { origin_network: 9, ..asset(8) };
    let noise = Log { address: TOKEN, data: LogData::new_unchecked(vec![B256::ZERO], Bytes::new()) };
    let logs = [noise, back(0, 20), claim_log(1, &third)];
    let applied = exits.apply(&bridges, DESTINATION, &logs).unwrap();
    assert_eq!(applied.unsure, BTreeSet::new());
    assert_eq!(exits.balances[&(DESTINATION, 1, TOKEN)], U256::from(30));
    assert_eq!(exits.balances[&(DESTINATION, 9, TOKEN)], U256::from(1_000));
    assert_eq!(exits.trees[&DESTINATION].count(), 1);
    assert_eq!(applied.exits[0].root, exits.trees[&DESTINATION].root());
    assert_eq!(applied.exits[0].index, GlobalIndex { network: 2, leaf_index: 0 });

    // What is spent is forgotten, what is more than was known is told, and so is a claim of either a token or a message.
    let applied = exits.apply(&bridges, DESTINATION, &[back(1, 30)]).unwrap();
    assert_eq!((applied.unsure.len(), exits.balances.contains_key(&(DESTINATION, 1, TOKEN))), (0, false));
    let applied = exits.apply(&bridges, DESTINATION, &[back(2, 1)]).unwrap();
    assert_eq!(applied.unsure, BTreeSet::from([(1, TOKEN)]));
    let applied = exits.apply(&bridges, DESTINATION, &[claim_log(1, &asset(4))]).unwrap();
    assert_eq!(applied.unsure, BTreeSet::from([ETHER, (1, TOKEN)]));
    let read = bridges.balance_call(DESTINATION, (1, TOKEN)).unwrap();
    let key = keccak256([1_u32.to_be_bytes().as_slice(), TOKEN.as_slice()].concat());
    assert_eq!((read.to, &read.data[4..]), (BRIDGE, key.as_slice()));
    assert_eq!(bridges.balance_call(99, (1, TOKEN)), None);
}

#[test]
fn a_bridge_is_asked_for_its_tree() {
    let bridges = bridges();
    let (count, root) = (bridges.count_call(ORIGIN).unwrap(), bridges.root_call(ORIGIN).unwrap());
    assert_eq!((count.to, root.to), (BRIDGE, BRIDGE));
    assert_eq!(count.data, keccak256("depositCount()")[..4]);
    assert_eq!(root.data, keccak256("getRoot()")[..4]);
    assert!(bridges.count_call(99).is_none() && bridges.root_call(99).is_none());
}

#[test]
fn logs_that_do_not_fit_change_nothing() {
    let bridges = bridges();
    let mut exits = facts().exits;
    let before = exits.clone();
    let gap = exits.apply(&bridges, ORIGIN, &[exit_log(&asset(3)), exit_log(&asset(5))]).unwrap_err();
    assert!(gap.to_string().contains("number 5") && gap.to_string().contains("4 leaves"), "{gap}");
    assert_eq!(exits.apply(&bridges, 99, &[]).unwrap_err().code(), "no_evidence");
    assert_eq!(exits, before);
}

#[test]
fn an_exit_that_landed_is_claimed_later_against_any_later_root_of_its_network() {
    let bridges = bridges();
    let mut facts = facts();
    let logs = exits(&[asset(3), call(4), asset(5), asset(6), asset(7), asset(8)]);
    let message = message(&bridges, ORIGIN, &logs, 0);
    let mut applied = facts.exits.apply(&bridges, ORIGIN, &logs.0[&ORIGIN]).unwrap().exits;
    let mut landed = applied.remove(0);
    assert_eq!(landed.index.message_id(), message.id);
    let mut roots = BTreeSet::new();
    for next in &applied {
        let found = facts.exits.prove(&bridges, &landed).unwrap();
        assert!(roots.insert(found.local_exit_root));
        assert_eq!(bridges.deliver(&message, &evidence(found), &at(DESTINATION)).unwrap().len(), 2);
        landed.follow(next).unwrap();
    }
    assert_eq!(landed.root, facts.exits.trees[&ORIGIN].root());
    let unchanged = landed.clone();
    assert!(landed.follow(&applied[0]).is_err(), "an earlier one does not follow");
    assert!(landed.follow(&unchanged).is_err(), "nothing follows itself");
    assert_eq!(landed, unchanged);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_growing_tree_has_the_roots_and_proofs_of_a_full_one(leaves in proptest::collection::vec(any::<[u8; 32]>(), 1..40)) {
        let leaves: Vec<B256> = leaves.into_iter().map(B256::new).collect();
        let mut tree = ExitTree::default();
        for (index, leaf) in leaves.iter().enumerate() {
            let siblings = tree.append_with_proof(*leaf).unwrap();
            let so_far = &leaves[..=index];
            prop_assert_eq!(tree.root(), naive_root(so_far, 32));
            prop_assert_eq!(siblings, naive_siblings(so_far, index));
            prop_assert!(verify(*leaf, &siblings, index as u32, tree.root()));
            prop_assert!(!verify(*leaf, &siblings, index as u32 + 1, tree.root()));
        }
    }

    #[test]
    fn the_tree_of_rollups_is_that_of_a_full_one(roots in proptest::collection::btree_map(1_u32..24, any::<[u8; 32]>(), 0..12), network in 1_u32..30) {
        let roots: BTreeMap<u32, B256> = roots.into_iter().map(|(network, root)| (network, B256::new(root))).collect();
        let dense: Vec<B256> = (1..30).map(|network| roots.get(&network).copied().unwrap_or_default()).collect();
        let (root, siblings) = rollup_proof(&roots, network).unwrap();
        prop_assert_eq!(root, naive_root(&dense, 32));
        prop_assert_eq!(siblings, naive_siblings(&dense, network as usize - 1));
        prop_assert_eq!(rollup_exit_root(&roots), Some(root));
    }

    #[test]
    fn a_flipped_bit_in_a_proof_is_refused(part in 0..4, level in 0..32_usize, byte in 0..32_usize, bit in 0..8) {
        let (message, mut proof) = claimable(asset);
        let word = match part {
            0 => &mut proof.local[level],
            1 => &mut proof.rollup[level],
            2 => &mut proof.local_exit_root,
            _ => &mut proof.rollup_exit_root,
        };
        word[byte] ^= 1_u8 << bit;
        let refused = bridges().deliver(&message, &evidence(proof), &at(DESTINATION)).unwrap_err();
        prop_assert_eq!(refused.code(), "no_evidence");
    }

    #[test]
    fn a_flipped_bit_in_an_exit_is_refused(byte in 0..256_usize, bit in 0..8) {
        let (mut message, proof) = claimable(asset);
        let mut payload = message.payload.to_vec();
        payload[byte] ^= 1_u8 << bit;
        message.payload = payload.into();
        prop_assert!(bridges().deliver(&message, &evidence(proof), &at(DESTINATION)).is_err());
    }

    #[test]
    fn a_global_index_is_read_as_it_is_written_and_nothing_else_is(network: u32, leaf_index: u32, word: [u8; 32]) {
        let index = GlobalIndex { network, leaf_index };
        prop_assert_eq!(GlobalIndex::decode(index.encode()), Some(index));
        let word = U256::from_be_bytes(word);
        if let Some(index) = GlobalIndex::decode(word) {
            prop_assert_eq!(index.encode(), word);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(data in proptest::collection::vec(any::<u8>(), 0..700), kind in 0..4, cut in 0..400_usize) {
        // Arbitrary bytes, and well-formed ones that are cut off.
        let data: Bytes = match kind {
            0 | 1 => data.into(),
            _ => exit_log(&asset(3)).data.data.slice(..cut.min(320)),
        };
        let topic = if kind % 2 == 0 { BridgeEvent::SIGNATURE_HASH } else { ClaimEvent::SIGNATURE_HASH };
        let log = Log { address: BRIDGE, data: LogData::new_unchecked(vec![topic], data.clone()) };
        let bridges = bridges();
        let _ = bridges.recognise(ORIGIN, &emitted(&log, 0));
        let _ = bridges.delivered(ORIGIN, &log);
        let (mut message, proof) = claimable(asset);
        message.payload = data;
        let changed = bridges.deliver(&message, &evidence(proof), &at(DESTINATION));
        prop_assert!(changed.is_err() || message.payload == exit_log(&asset(4)).data.data);
        let mut exits = facts().exits;
        let _ = exits.apply(&bridges, ORIGIN, [&log]);
        let facts = facts();
        let logs = Logs([(ORIGIN, vec![log.clone()]), (DESTINATION, vec![log])].into());
        let _ = bridges.check_slot(&Slot { facts: &facts, logs: &logs });
    }
}

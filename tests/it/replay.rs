//! What was recorded, executed and built again: blocks give exactly what their headers say, slots the lists that were built in
//! them, and a lie about their state is found out.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use alloy_primitives::{Address, B256, U256};
use lockstep_node::{
    dev::{DevOptions, FIRST_CHAIN, NETWORK_BASE, builder, rules, user},
    record::{BlockChoice, RecordOptions, SlotRecords, record},
    replay::{recordings, replay},
};
use lockstep_rpc::wire::BundleParams;
use serde_json::{Value, json};

use crate::{
    lockstep::{Placed, places},
    transactions::{Tx, relay_leg, txs_leg},
    wait::until,
    world::{NFT_PRICE, World, options},
};

/// Blocks of this repository, small ones.
const OWN_BLOCKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/blocks");

/// The folders that hold a recording.
fn recorded(root: &Path) -> Vec<PathBuf> {
    recordings(root).unwrap_or_default()
}

/// In what a block differs from its header.
fn differences(folder: &Path) -> Vec<String> {
    match replay(folder, None, None) {
        Ok(replayed) => replayed.differences,
        Err(error) => panic!("{}: {error}", folder.display()),
    }
}

fn all_match(root: &Path) -> usize {
    let folders = recorded(root);
    for folder in &folders {
        assert_eq!(differences(folder), Vec::<String>::new(), "{}", folder.display());
    }
    folders.len()
}

#[test]
fn recorded_blocks_give_what_their_headers_say() {
    let Some(root) = env::var_os("LOCKSTEP_BLOCKS_DIR") else {
        eprintln!("skipped: recorded_blocks_give_what_their_headers_say, because LOCKSTEP_BLOCKS_DIR names no folder of blocks");
        return;
    };
    assert_ne!(all_match(Path::new(&root)), 0, "LOCKSTEP_BLOCKS_DIR has no folder with a block.json");
}

#[test]
fn our_own_blocks_give_what_their_headers_say() {
    if all_match(Path::new(OWN_BLOCKS)) == 0 {
        eprintln!("skipped: our_own_blocks_give_what_their_headers_say, because {OWN_BLOCKS} has no blocks");
    }
}

fn prestate(folder: &Path) -> Value {
    let text = fs::read(folder.join("prestate.json")).expect("the prestate is read");
    serde_json::from_slice(&text).expect("the prestate is JSON")
}

/// Every (account, slot, value) of a prestate.
fn slots(prestate: &Value) -> Vec<(String, String, U256)> {
    let mut slots = Vec::new();
    for (account, state) in prestate.as_object().into_iter().flatten() {
        for (slot, value) in state["storage"].as_object().into_iter().flatten() {
            let value = serde_json::from_value(value.clone()).expect("a storage value is a number");
            slots.push((account.clone(), slot.clone(), value));
        }
    }
    slots
}

/// Writes a copy of a block into a folder of its name in `copies`, in which one storage value is another by one, such that only
/// logs can tell: the receipts are others and gas is the same. Whether there is such a value.
fn lie_about_a_log(folder: &Path, copies: &Path) -> bool {
    let copy = copies.join(folder.file_name().expect("a folder has a name"));
    fs::create_dir_all(&copy).expect("the copy has a folder");
    fs::copy(folder.join("block.json"), copy.join("block.json")).expect("the block is copied");
    let prestate = prestate(folder);
    slots(&prestate).into_iter().any(|(account, slot, value)| {
        let mut changed = prestate.clone();
        changed[&account]["storage"][&slot] = json!(B256::from(value ^ U256::from(1)));
        fs::write(copy.join("prestate.json"), changed.to_string()).expect("the copy is written");
        // A change can also make a transaction invalid, which is another way to be found out.
        let Ok(replayed) = replay(&copy, None, None) else { return false };
        let about = |what: &str| replayed.differences.iter().any(|difference| difference.starts_with(what));
        about("receipts root") && !about("gas used")
    })
}

#[test]
fn a_storage_value_that_shows_in_a_log_is_not_changed_unnoticed() {
    let mut folders = recorded(Path::new(OWN_BLOCKS));
    folders.extend(env::var_os("LOCKSTEP_BLOCKS_DIR").map(|root| recorded(Path::new(&root))).unwrap_or_default());
    if folders.is_empty() {
        eprintln!("skipped: a_storage_value_that_shows_in_a_log_is_not_changed_unnoticed, because there are no blocks");
        return;
    }
    let copies = tempfile::tempdir().expect("a folder");
    let found = folders.iter().any(|folder| lie_about_a_log(folder, copies.path()));
    assert!(found, "no block of these logs what is in its storage: {folders:?}");
}

/// A world that records its slots in a folder, with a story that has landed in it, and where.
async fn told(folder: &Path) -> (World, Vec<Placed>) {
    let record = Some(SlotRecords { folder: folder.to_owned(), slots: 100 });
    let world = World::start(DevOptions { record, ..options() }).await;
    let hash = world.lockstep.send(&world.story(&user(0), 1).await).await;
    let placed = places(&world.lockstep.landed(hash).await);
    (world, placed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorded_slot_is_built_again_to_the_last_bit_and_a_changed_balance_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let (world, placed) = told(folder.path()).await;
    let burn = placed.first().expect("the story has transactions");
    let slot = world.slot_of(burn.chain, burn.block).await;
    let recording = folder.path().join(format!("slot-{slot}"));
    until("the slot is recorded", async || recording.is_dir().then_some(())).await;
    drop(world);

    let replayed = replay(&recording, None, None).expect("the slot is replayed");
    assert_eq!(replayed.differences, Vec::<String>::new());
    assert_eq!(replayed.chains, [FIRST_CHAIN, FIRST_CHAIN + 1]);
    assert!(replayed.transactions >= placed.len(), "{replayed:?}");
    assert!(recorded(folder.path()).contains(&recording), "it is found among the recordings of its folder");

    let decisions = recording.join("decisions.json");
    let told = fs::read(&decisions).expect("the decisions are read");
    let mut lie: Value = serde_json::from_slice(&told).expect("the decisions are JSON");
    let mut values = lie["values"].as_array_mut().expect("values are recorded").iter_mut().map(|entry| &mut entry["value"]);
    let value = values.find(|value| **value != json!("0")).expect("a set was bid on");
    let bid_on = value.as_str().expect("an amount is a string").to_owned();
    *value = json!(format!("{bid_on}0"));
    fs::write(&decisions, lie.to_string()).expect("the lie is written");
    let differences = replay(&recording, None, None).expect("the slot is replayed").differences;
    let named = format!("built {bid_on}, recorded {bid_on}0");
    assert_eq!(differences.len(), 1, "{differences:?}");
    assert!(differences[0].starts_with("value that was bid on for ") && differences[0].ends_with(&named), "{differences:?}");
    fs::write(&decisions, told).expect("the truth is written again");

    let state = recording.join(burn.chain.to_string());
    let mut changed = prestate(&state);
    let accounts = changed.as_object_mut().expect("a prestate is an object");
    let buyer =
        accounts.iter_mut().find(|(address, _)| address.parse::<Address>().is_ok_and(|address| address == user(0).address()));
    let (_, account) = buyer.expect("the buyer's account was read");
    let balance: U256 = serde_json::from_value(account["balance"].clone()).expect("a balance is a number");
    account["balance"] = json!(balance + U256::from(1));
    fs::write(state.join("prestate.json"), changed.to_string()).expect("the lie is written");
    let differences = replay(&recording, None, None).expect("the slot is replayed").differences;
    let named = format!("rollup {}: state afterwards", burn.chain);
    assert!(differences.iter().any(|difference| difference.contains(&named)), "{differences:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorded_slot_is_built_again_on_what_was_known_of_messages_and_not_without_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let record = Some(SlotRecords { folder: folder.path().to_owned(), slots: 100 });
    let world = World::start(DevOptions { record, ..options() }).await;
    let (origin, destination, sender) = (world.chain(0), world.chain(1), user(0));
    let contracts = world.contracts();
    let nonce = origin.nonce(sender.address()).await;
    let send = contracts.agglayer.send_asset(NETWORK_BASE + 1, sender.address(), contracts.usdc, NFT_PRICE);
    let exit = Tx::call(origin.id, nonce, contracts.agglayer.bridge, send).sign(&sender);
    // The first claim of a token creates it there, which costs more than a tip.
    let fee = U256::from(100_000_000_000_000_000_u64);
    let fee = Tx::pay(origin.id, nonce + 1, builder().address(), fee).sign(&sender);
    let legs = vec![txs_leg(origin.id, &[&exit, &fee]), relay_leg(destination.id, 0, 0)];
    let hash = world.lockstep.send(&BundleParams { legs, ..BundleParams::default() }).await;
    let placed = places(&world.lockstep.landed(hash).await);
    let first = placed.first().expect("the bundle has transactions");
    let slot = world.slot_of(first.chain, first.block).await;
    let recording = folder.path().join(format!("slot-{slot}"));
    until("the slot is recorded", async || recording.is_dir().then_some(())).await;
    drop(world);
    assert_eq!(differences(&recording), Vec::<String>::new());

    // The claim is proven by the exit trees as they were before the slot.
    let path = recording.join("slot.json");
    let mut file: Value = serde_json::from_slice(&fs::read(&path).expect("the slot is read")).expect("the slot is JSON");
    let trees = file["facts"]["exits"]["trees"].as_array_mut().expect("exit trees are recorded");
    assert_eq!(trees.len(), 2);
    trees.clear();
    fs::write(&path, file.to_string()).expect("the slot is written");
    assert_ne!(differences(&recording), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_of_a_node_is_recorded_with_what_it_reads_and_gives_its_header() {
    let folder = tempfile::tempdir().expect("a folder");
    let world = World::start(options()).await;
    let hash = world.lockstep.send(&world.story(&user(0), 1).await).await;
    let placed = places(&world.lockstep.landed(hash).await);
    for place in &placed {
        let index = usize::try_from(place.chain - FIRST_CHAIN).expect("an index");
        let options = RecordOptions {
            url: format!("{}/rollup/{}", world.url(), place.chain),
            block: BlockChoice::Number(place.block),
            out: folder.path().to_owned(),
            chain: Some(place.chain),
            rules: Some(rules(index)),
            // Two of the three are in one block.
            force: true,
        };
        let recorded = record(&options).await.expect("the block is recorded");
        let replayed = recorded.replayed.expect("the recording is replayed");
        assert_eq!(replayed.differences, Vec::<String>::new(), "{}", recorded.source);
        // Named after its rules, chain and number, so that it needs no more to be replayed.
        assert_eq!(differences(&recorded.folder), Vec::<String>::new());

        let refused = |options: RecordOptions| async move { record(&options).await.expect_err("it is refused").code() };
        assert_eq!(refused(RecordOptions { force: false, ..options.clone() }).await, "folder_exists");
        assert_eq!(refused(RecordOptions { chain: Some(1), ..options.clone() }).await, "wrong_chain");
        assert_eq!(refused(RecordOptions { rules: None, ..options.clone() }).await, "unknown_chain");
        let far = BlockChoice::Number(place.block + 1_000_000);
        assert_eq!(refused(RecordOptions { block: far, ..options }).await, "unknown_block");
    }
}

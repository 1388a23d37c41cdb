//! Recorded blocks, executed again: each gives exactly what its header says, and a lie about its state is found out.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use alloy_primitives::{B256, U256};
use lockstep_node::replay::replay;
use lockstep_simulation::{EthereumFork, ForkSchedule, OpFork, Rules};
use serde_json::{Value, json};

/// Blocks of this repository, small ones.
const OWN_BLOCKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/blocks");

/// The folders that hold a block.
fn recorded(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).map(|entries| entries.flatten().map(|entry| entry.path()).collect::<Vec<_>>());
    let mut folders = entries.unwrap_or_default();
    folders.retain(|folder| folder.join("block.json").is_file());
    folders.sort();
    folders
}

/// The rules of a chain that is not known by its id are the first part of the folder's name.
fn forks(folder: &Path) -> Option<ForkSchedule> {
    let name = folder.file_name()?.to_str()?;
    let rules = match name.split('-').next()? {
        "prague" => Rules::Ethereum(EthereumFork::Prague),
        "osaka" => Rules::Ethereum(EthereumFork::Osaka),
        "isthmus" => Rules::OpStack(OpFork::Isthmus),
        "jovian" => Rules::OpStack(OpFork::Jovian),
        _ => return None,
    };
    Some(ForkSchedule::always(rules))
}

/// In what a block differs from its header.
fn differences(folder: &Path) -> Vec<String> {
    match replay(folder, None, forks(folder).as_ref()) {
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

/// Writes a copy of a block into `copy` in which one storage value is another by one, such that only logs can tell: the
/// receipts are others and gas is the same. Whether there is such a value.
fn lie_about_a_log(folder: &Path, copy: &Path) -> bool {
    fs::copy(folder.join("block.json"), copy.join("block.json")).expect("the block is copied");
    let text = fs::read(folder.join("prestate.json")).expect("the prestate is read");
    let prestate: Value = serde_json::from_slice(&text).expect("the prestate is JSON");
    slots(&prestate).into_iter().any(|(account, slot, value)| {
        let mut changed = prestate.clone();
        changed[&account]["storage"][&slot] = json!(B256::from(value ^ U256::from(1)));
        fs::write(copy.join("prestate.json"), changed.to_string()).expect("the copy is written");
        // A change can also make a transaction invalid, which is another way to be found out.
        let Ok(replayed) = replay(copy, None, forks(folder).as_ref()) else { return false };
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
    let copy = tempfile::tempdir().expect("a folder");
    let found = folders.iter().any(|folder| lie_about_a_log(folder, copy.path()));
    assert!(found, "no block of these logs what is in its storage: {folders:?}");
}

//! The rules that this repository keeps, read from its own files.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

/// Which crates of ours a crate may know: the layers of the design. A new crate has to be put in its place here.
const MAY_KNOW: [(&str, &[&str]); 12] = [
    ("primitives", &[]),
    ("simulation", &["primitives"]),
    ("messaging", &["primitives"]),
    ("pool", &["primitives"]),
    ("market", &["primitives"]),
    ("delivery", &["primitives"]),
    ("building", &["primitives", "simulation", "messaging", "pool"]),
    ("store", &[]),
    ("provider", &["primitives", "simulation", "messaging"]),
    ("rpc", &["primitives", "delivery"]),
    ("node", &["primitives", "simulation", "messaging", "pool", "market", "delivery", "building", "store", "provider", "rpc"]),
    ("testkit", &["primitives", "simulation", "messaging", "pool", "market", "delivery", "building", "provider"]),
];

/// Crates without sockets, files, environment, clocks and random numbers of their own.
const PURE: [&str; 7] = ["primitives", "simulation", "messaging", "pool", "market", "delivery", "building"];

/// What pure crates do without: runtimes, sockets, wire formats, disks.
const IMPURE: [&str; 9] = ["tokio", "serde_json", "reqwest", "jsonrpsee", "hyper", "redb", "rand", "tempfile", "mimalloc"];

/// What a pure crate's clippy.toml forbids at least.
const FORBIDDEN: [&str; 6] = [
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "std::thread::sleep",
    "std::env::var",
    "std::fs::read",
    "std::fs::File::open",
];

const PREFIX: &str = "lockstep-";

/// What strategies share.
const STRATEGY_KIT: &str = "strategy-kit";

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// None for a normal one.
    kind: Option<String>,
}

impl Package {
    /// The name without the prefix that all of them have.
    fn short(&self) -> &str {
        self.name.strip_prefix(PREFIX).unwrap_or(&self.name)
    }

    fn folder(&self) -> &Path {
        self.manifest_path.parent().expect("a manifest is in a folder")
    }

    /// Whether it makes bundles of its own, or helps with that.
    fn is_strategy(&self) -> bool {
        self.folder().parent().is_some_and(|parent| parent.ends_with("strategies"))
    }

    /// Whether it is a crate that others build on, not tests or benches.
    fn is_product(&self) -> bool {
        let parent = self.folder().parent().and_then(Path::file_name).and_then(|name| name.to_str());
        matches!(parent, Some("crates" | "strategies"))
    }

    /// What it needs to be built and used, its tests aside.
    fn needs(&self) -> impl Iterator<Item = &str> {
        let used = self.dependencies.iter().filter(|dependency| dependency.kind.as_deref() != Some("dev"));
        used.map(|dependency| dependency.name.as_str())
    }
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata = serde_json::from_slice(&output.stdout).expect("cargo's metadata");
    metadata.packages
}

#[test]
fn crates_know_only_what_lies_below_them() {
    let may_know: BTreeMap<&str, &[&str]> = MAY_KNOW.into_iter().collect();
    let building = may_know["building"];
    let packages = packages();
    let strategies: Vec<&str> = packages.iter().filter(|package| package.is_strategy()).map(Package::short).collect();
    for package in packages.iter().filter(|package| package.is_product()) {
        for known in package.needs().filter_map(|name| name.strip_prefix(PREFIX)) {
            let allowed = if package.is_strategy() {
                // Strategies do not know each other, but for what they share.
                known == "building" || building.contains(&known) || known == STRATEGY_KIT
            } else {
                let Some(below) = may_know.get(package.short()) else { panic!("{} has no layer: give it one", package.name) };
                // The binary carries strategies; nothing else knows them.
                below.contains(&known) || (package.short() == "node" && strategies.contains(&known))
            };
            assert!(allowed, "{} must not know {PREFIX}{known}", package.name);
        }
    }
}

#[test]
fn every_layer_is_there() {
    let packages = packages();
    for (name, _) in MAY_KNOW {
        assert!(packages.iter().any(|package| package.short() == name), "{PREFIX}{name} is gone: take it off the list");
    }
}

#[test]
fn pure_crates_do_no_input_and_no_output() {
    for package in packages().iter().filter(|package| PURE.contains(&package.short()) || package.is_strategy()) {
        for needed in package.needs() {
            assert!(!IMPURE.contains(&needed), "{} is pure and must not need {needed}", package.name);
        }
        let settings = fs::read_to_string(package.folder().join("clippy.toml")).unwrap_or_default();
        assert!(settings.contains("disallowed-methods"), "{} has a clippy.toml of its own", package.name);
        for method in FORBIDDEN {
            assert!(settings.contains(&format!("\"{method}\"")), "the clippy.toml of {} forbids {method}", package.name);
        }
    }
}

#[test]
fn every_package_keeps_the_lints_of_the_workspace() {
    for package in packages() {
        let manifest = fs::read_to_string(&package.manifest_path).expect("the manifest is read");
        assert!(manifest.contains("[lints]\nworkspace = true\n"), "{} has lints of its own, or none", package.name);
    }
}

/// The files that are kept in git; none where this is no checkout.
fn tracked() -> Vec<PathBuf> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let listed = listed.ok().filter(|output| output.status.success()).map(|output| output.stdout).unwrap_or_default();
    let names = listed.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| root().join(String::from_utf8_lossy(name).as_ref())).collect()
}

#[test]
fn no_file_names_a_folder_of_the_machine_it_was_written_on() {
    let files = tracked();
    if files.is_empty() {
        eprintln!("skipped: no_file_names_a_folder_of_the_machine_it_was_written_on, because this is no git checkout");
        return;
    }
    // In two pieces, or this file would be the first to be found.
    let folders = [["/wo", "rk/"].concat(), ["/ro", "ot/"].concat()];
    for file in files {
        // What was deleted and is still listed is no matter.
        let Ok(bytes) = fs::read(&file) else { continue };
        let text = String::from_utf8_lossy(&bytes);
        for folder in &folders {
            assert!(!text.contains(folder.as_str()), "{} names {folder}", file.display());
        }
    }
}

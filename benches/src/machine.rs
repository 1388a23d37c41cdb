//! What ran, and on what.

use std::{collections::BTreeMap, fmt, fs, thread};

use serde::{Deserialize, Serialize};

/// The lock file that the binary was built with: it says which crates are in it.
const LOCK: &str = include_str!("../../Cargo.lock");
/// Crates whose versions decide the figures.
const CRATES: [&str; 5] = ["revm", "op-revm", "alloy", "alloy-primitives", "secp256k1"];

/// What it ran on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Processors that the process may use.
    pub cpus: usize,
    /// What the first of them calls itself; empty where the system does not say.
    pub model: String,
    /// Memory in bytes; `None` where the system does not say.
    pub memory_bytes: Option<u64>,
    /// Operating system and architecture.
    pub system: String,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let model = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| Some(field(&text, "model name")?.to_owned()));
        Self {
            cpus: thread::available_parallelism().map_or(1, usize::from),
            model: model.unwrap_or_default(),
            memory_bytes: kilobytes("/proc/meminfo", "MemTotal"),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}, {}", self.cpus, if self.model.is_empty() { "unnamed" } else { &self.model }, self.system)?;
        self.memory_bytes.map_or(Ok(()), |bytes| write!(f, ", {:.1} GiB", bytes as f64 / f64::from(1 << 30)))
    }
}

/// Versions by name: Lockstep, the compiler, and the crates that decide the figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Versions(pub BTreeMap<String, String>);

impl Versions {
    /// What this binary was built with.
    pub fn built_with() -> Self {
        let mut versions = BTreeMap::from([
            ("lockstep".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("rustc".to_owned(), env!("LOCKSTEP_RUSTC").to_owned()),
            ("profile".to_owned(), if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned()),
        ]);
        for (name, locked) in locked() {
            // Of some crates there are several in one tree.
            let all = versions.entry(name).or_default();
            *all = if all.is_empty() { locked } else { format!("{all}, {locked}") };
        }
        Self(versions)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(|(name, version)| format!("{name} {version}")).collect();
        f.write_str(&all.join("; "))
    }
}

/// Name and version of the crates that decide the figures, in the order of the lock file.
fn locked() -> Vec<(String, String)> {
    #[derive(Deserialize)]
    struct Lock {
        package: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        version: String,
    }
    let packages = toml::from_str::<Lock>(LOCK).map(|lock| lock.package).unwrap_or_default();
    let packages = packages.into_iter().filter(|package| CRATES.contains(&package.name.as_str()));
    packages.map(|package| (package.name, package.version)).collect()
}

/// The most memory that the process has held so far, in bytes; `None` where the system does not say.
pub fn peak_memory_bytes() -> Option<u64> {
    kilobytes("/proc/self/status", "VmHWM")
}

/// The memory that the process holds now, in bytes; `None` where the system does not say.
pub fn memory_bytes() -> Option<u64> {
    kilobytes("/proc/self/status", "VmRSS")
}

/// A line `name: 123 kB` of a file of `/proc`, in bytes.
fn kilobytes(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    field(&text, name)?.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

/// What stands behind the colon in the first line that begins with the name.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim_start().strip_prefix(':')?.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_name_what_decides_the_figures() {
        let Versions(versions) = Versions::built_with();
        for name in CRATES.iter().chain(&["lockstep", "rustc"]) {
            assert!(versions.get(*name).is_some_and(|version| !version.is_empty()), "{name} has no version");
        }
        assert!(versions["revm"].starts_with("38."), "{}", versions["revm"]);
        assert!(versions["rustc"].starts_with("rustc "), "{}", versions["rustc"]);
    }

    #[test]
    fn fields_are_found_by_their_whole_names() {
        let text = "model\t\t: 85\nmodel name\t: A processor: fast\nMemTotal:  123 kB";
        assert_eq!(field(text, "model name"), Some("A processor: fast"));
        assert_eq!(field(text, "model"), Some("85"));
        assert_eq!(field(text, "absent"), None);
    }
}

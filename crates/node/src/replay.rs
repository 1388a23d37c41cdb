//! `lockstep replay`: executes what was recorded and compares: blocks with their headers, slots with what was built in them.

mod slot;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use alloy_primitives::ChainId;
use lockstep_provider::{BLOCK_FILE, RecordedBlock, RecordedError};
use lockstep_simulation::{ForkSchedule, Rules};
use serde_json::{Value, json};

use crate::record::{
    rules_name,
    slot::{SLOT_FILE, SlotFileError},
};

/// What a replay found.
#[derive(Debug)]
pub struct Replayed {
    /// Number of the block, or `slot` and the number of the slot.
    pub block: String,
    /// The chain ids.
    pub chains: Vec<ChainId>,
    /// The rules, one a chain.
    pub rules: Vec<String>,
    /// Transactions that were executed.
    pub transactions: usize,
    /// Gas that they used.
    pub gas: u64,
    /// How long executing took; reading and comparing do not count.
    pub took: Duration,
    /// What differs from the recording; empty when everything matches.
    pub differences: Vec<String>,
}

impl Replayed {
    /// Millions of gas a second.
    pub fn mgas_per_s(&self) -> f64 {
        self.gas as f64 / 1e6 / self.took.as_secs_f64().max(1e-9)
    }

    /// Milliseconds that executing took.
    pub fn ms(&self) -> f64 {
        self.took.as_secs_f64() * 1e3
    }
}

/// Why a recording cannot be replayed at all.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A folder holds no recording.
    #[error("{} holds no recording: neither {} nor {}, nor folders that do", .0.display(), BLOCK_FILE, SLOT_FILE)]
    NoRecording(PathBuf),
    /// A block.
    #[error(transparent)]
    Block(#[from] RecordedError),
    /// A slot.
    #[error(transparent)]
    Slot(#[from] SlotFileError),
}

/// The recordings of a folder: itself, or those right in it, by name.
///
/// # Errors
/// When there are none.
pub fn recordings(folder: &Path) -> Result<Vec<PathBuf>, ReplayError> {
    if is_recording(folder) {
        return Ok(vec![folder.to_owned()]);
    }
    let entries = fs::read_dir(folder).map(|entries| entries.flatten().map(|entry| entry.path()).collect::<Vec<_>>());
    let mut found = entries.unwrap_or_default();
    found.retain(|folder| is_recording(folder) && !is_hidden(folder));
    found.sort();
    if found.is_empty() { Err(ReplayError::NoRecording(folder.to_owned())) } else { Ok(found) }
}

fn is_recording(folder: &Path) -> bool {
    folder.join(BLOCK_FILE).is_file() || folder.join(SLOT_FILE).is_file()
}

/// A recording that is being written has a hidden name.
fn is_hidden(folder: &Path) -> bool {
    folder.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with('.'))
}

/// Replays the block or the slot in a folder. A block's chain and rules are the given ones; else its chain is that of its
/// transactions, and its rules are those that the folder's name begins with, or those of the chain's known schedule.
///
/// # Errors
/// When the folder cannot be read, or a transaction of the block is invalid.
pub fn replay(folder: &Path, chain: Option<ChainId>, forks: Option<&ForkSchedule>) -> Result<Replayed, ReplayError> {
    if folder.join(SLOT_FILE).is_file() {
        return Ok(slot::replay(folder)?);
    }
    if !folder.join(BLOCK_FILE).is_file() {
        return Err(ReplayError::NoRecording(folder.to_owned()));
    }
    let recorded = RecordedBlock::read(folder)?;
    let named = named_rules(folder).map(ForkSchedule::always);
    let context = recorded.context(chain, forks.or(named.as_ref()))?;
    let (block, chain, rules) = (context.number, context.chain, rules_name(context.rules));
    let started = Instant::now();
    let mut pending = recorded.execute(context)?;
    let summary = pending.finish().map_err(RecordedError::from)?;
    let took = started.elapsed();
    Ok(Replayed {
        block: block.to_string(),
        chains: vec![chain],
        rules: vec![rules],
        transactions: recorded.transactions.len(),
        gas: summary.gas_used,
        took,
        differences: recorded.differences(&summary),
    })
}

/// The rules that a recorded block's folder begins its name with, as `lockstep record` names folders; `None` when it does not.
pub fn named_rules(folder: &Path) -> Option<Rules> {
    Rules::named(folder.file_name()?.to_str()?.split('-').next()?)
}

/// A recording and what its replay found.
#[derive(Debug)]
pub struct Row {
    /// Where it is.
    pub folder: PathBuf,
    /// What was found.
    pub replayed: Result<Replayed, ReplayError>,
}

impl Row {
    /// Whether everything is as it was recorded.
    pub fn matches(&self) -> bool {
        self.replayed.as_ref().is_ok_and(|replayed| replayed.differences.is_empty())
    }

    /// What differs, in words; or why nothing could be executed.
    fn differences(&self) -> Vec<String> {
        match &self.replayed {
            Ok(replayed) => replayed.differences.clone(),
            Err(error) => vec![error.to_string()],
        }
    }

    /// The row as JSON.
    pub fn json(&self) -> Value {
        let folder = self.folder.display().to_string();
        match &self.replayed {
            Ok(replayed) => json!({
                "folder": folder,
                "block": replayed.block,
                "chainIds": replayed.chains,
                "rules": replayed.rules,
                "transactions": replayed.transactions,
                "gas": replayed.gas,
                "ms": replayed.ms(),
                "mgasPerSecond": replayed.mgas_per_s(),
                "matches": self.matches(),
                "differences": replayed.differences,
            }),
            Err(error) => json!({ "folder": folder, "matches": false, "error": error.to_string() }),
        }
    }

    fn cells(&self) -> [String; COLUMNS] {
        let matches = if self.matches() { "yes" } else { "NO" }.to_owned();
        match &self.replayed {
            Ok(replayed) => [
                replayed.block.clone(),
                replayed.chains.iter().map(ToString::to_string).collect::<Vec<_>>().join("+"),
                replayed.rules.join("+"),
                replayed.transactions.to_string(),
                replayed.gas.to_string(),
                format!("{:.2}", replayed.ms()),
                format!("{:.1}", replayed.mgas_per_s()),
                matches,
            ],
            Err(_) => {
                let name = self.folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                let none = || "-".to_owned();
                [name, none(), none(), none(), none(), none(), none(), matches]
            }
        }
    }
}

const COLUMNS: usize = 8;
const HEADS: [&str; COLUMNS] = ["block", "chain", "rules", "transactions", "gas", "ms", "Mgas/s", "matches"];

/// The rows as a table, with what differs below it.
pub fn table(rows: &[Row]) -> String {
    let mut lines = vec![HEADS.map(str::to_owned)];
    lines.extend(rows.iter().map(Row::cells));
    let mut widths = [0; COLUMNS];
    for cells in &lines {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.len());
        }
    }
    let mut text = Vec::new();
    for cells in &lines {
        let padded: Vec<String> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
        text.push(padded.join("  "));
    }
    for row in rows {
        for difference in row.differences() {
            text.push(format!("{} differs: {difference}", row.folder.display()));
        }
    }
    text.join("\n")
}

/// How many rows match, in one line.
pub fn summary(rows: &[Row]) -> String {
    let matching = rows.iter().filter(|row| row.matches()).count();
    format!("{matching} of {} match what was recorded", rows.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_what_differs_below_it() {
        let replayed = Replayed {
            block: "7".to_owned(),
            chains: vec![1],
            rules: vec!["osaka".to_owned()],
            transactions: 3,
            gas: 2_000_000,
            took: Duration::from_millis(4),
            differences: vec!["gas used: executed 1, header 2".to_owned()],
        };
        let missing = ReplayError::NoRecording(PathBuf::from("gone"));
        let rows = [
            Row { folder: PathBuf::from("osaka-1-7"), replayed: Ok(replayed) },
            Row { folder: PathBuf::from("gone"), replayed: Err(missing) },
        ];
        let text = table(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with("matches"), "{text}");
        assert!(lines[1].contains("500.0") && lines[1].ends_with("NO"), "{text}");
        assert_eq!(lines[3], "osaka-1-7 differs: gas used: executed 1, header 2");
        assert!(lines[4].starts_with("gone differs: gone holds no recording"), "{text}");
        assert_eq!(summary(&rows), "0 of 2 match what was recorded");
        assert_eq!(rows[0].json()["matches"], json!(false));
    }

    #[test]
    fn a_folder_without_recordings_is_named() {
        assert!(matches!(recordings(Path::new("/nowhere")), Err(ReplayError::NoRecording(_))));
    }
}

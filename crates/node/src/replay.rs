//! `lockstep replay`: executes recorded blocks and compares them with their headers.

use std::path::Path;

use alloy_primitives::ChainId;
use lockstep_provider::{RecordedBlock, RecordedError, short};
use lockstep_simulation::ForkSchedule;

/// What a replay found.
#[derive(Debug)]
pub struct Replayed {
    /// For people: what was executed and what it gave.
    pub text: String,
    /// What differs from the header; empty when everything matches.
    pub differences: Vec<String>,
}

/// Replays the block in a folder. Chain and rules are those of its transactions and of the chain's known schedule, unless
/// they are given.
///
/// # Errors
/// When the folder cannot be read, or a transaction of the block is invalid.
pub fn replay(folder: &Path, chain: Option<ChainId>, forks: Option<&ForkSchedule>) -> Result<Replayed, RecordedError> {
    let recorded = RecordedBlock::read(folder)?;
    let context = recorded.context(chain, forks)?;
    let mut text = format!(
        "chain {} block {} {:?}: {} transactions\n",
        context.chain,
        context.number,
        context.rules,
        recorded.transactions.len()
    );
    let mut block = recorded.execute(context)?;
    let summary = block.finish()?;
    let differences = recorded.differences(&summary);
    text.push_str(&format!("  gas used      {}\n", summary.gas_used));
    text.push_str(&format!("  receipts root {}\n", summary.receipts_root));
    text.push_str(&format!("  logs bloom    {}\n", short(&summary.logs_bloom)));
    Ok(Replayed { text, differences })
}

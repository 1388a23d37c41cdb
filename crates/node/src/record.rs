//! `lockstep record`: takes a block and the state that it reads from a node, for [`replay`](crate::replay).

pub(crate) mod decisions;
mod facts;
pub mod slot;
pub(crate) mod steps;

use std::{path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use alloy_primitives::{ChainId, U64};
use jsonrpsee::{
    core::{ClientError, client::ClientT, params::ArrayParams},
    http_client::{HttpClient, HttpClientBuilder},
};
use lockstep_provider::{
    BLOCK_FILE, DeliverySettings, NodeError, Prestate, RecordedBlock, RecordedError, RemoteLimits, RemoteNode, RemoteSettings,
    gather, write_folder,
};
use lockstep_simulation::{BlockContext, ForkSchedule, Rules, known_forks};
use serde_json::{Value, json};

use crate::replay::{ReplayError, Replayed, replay};

/// The largest answer that is read: a full block's traces weigh some tens of megabytes.
const MAX_ANSWER_BYTES: u32 = 1 << 30;
/// How long the node may take for one answer: it executes a whole block for its tracer's.
const ANSWER_MS: u64 = 120_000;

/// Recorded slots that a builder keeps when its configuration does not say how many.
pub const DEFAULT_RECORD_SLOTS: usize = 100;

/// Where a builder records its slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotRecords {
    /// The folder; each slot is a folder `slot-<number>` in it.
    pub folder: PathBuf,
    /// Slots that are kept, at least one; the oldest goes first.
    pub slots: usize,
}

/// Which block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockChoice {
    /// The newest.
    Latest,
    /// By its number.
    Number(u64),
}

impl FromStr for BlockChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = match text.strip_prefix("0x") {
            _ if text == "latest" => return Ok(Self::Latest),
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        number.map(Self::Number).map_err(|_| format!("{text:?} is no block: give a number, or latest"))
    }
}

impl BlockChoice {
    /// As JSON-RPC takes it.
    fn tag(self) -> String {
        match self {
            Self::Latest => "latest".to_owned(),
            Self::Number(number) => format!("{number:#x}"),
        }
    }
}

/// What to record, and where to.
#[derive(Clone, Debug)]
pub struct RecordOptions {
    /// The node's JSON-RPC.
    pub url: String,
    /// The block.
    pub block: BlockChoice,
    /// The folder that the recording's folder is put into.
    pub out: PathBuf,
    /// The chain that the node has to serve; whatever it serves when absent.
    pub chain: Option<ChainId>,
    /// The block's rules; those of the chain's known schedule when absent.
    pub rules: Option<Rules>,
    /// Whether a recording that is there already is replaced.
    pub force: bool,
}

/// A recording that was written, and what its replay found.
#[derive(Debug)]
pub struct Recorded {
    /// Where it is.
    pub folder: PathBuf,
    /// Where the state came from, in words.
    pub source: String,
    /// The replay of what was written; an error when the block cannot be executed on it.
    pub replayed: Result<Replayed, ReplayError>,
}

/// Why a block was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The URL is none.
    #[error("the node's URL cannot be used: {0}")]
    Url(String),
    /// The node does not answer.
    #[error("the node does not answer {method}: {cause}")]
    NoAnswer {
        /// The JSON-RPC method.
        method: &'static str,
        /// Why.
        cause: String,
    },
    /// The node serves another chain than was named.
    #[error("the node serves chain {served}, not {wanted}: give its own --chain-id, or none")]
    WrongChain {
        /// What the node serves.
        served: ChainId,
        /// What was named.
        wanted: ChainId,
    },
    /// The node does not have the block.
    #[error("the node has no block {0}")]
    NoSuchBlock(String),
    /// Nothing comes before the first block.
    #[error("block 0 has no parent whose state it could be executed on")]
    Genesis,
    /// The block, its state or its folder.
    #[error(transparent)]
    Recorded(#[from] RecordedError),
}

impl RecordError {
    /// A stable name of the error.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Url(_) => "invalid_url",
            Self::NoAnswer { .. } => "node_unreachable",
            Self::WrongChain { .. } => "wrong_chain",
            Self::NoSuchBlock(_) => "unknown_block",
            Self::Genesis => "genesis_block",
            Self::Recorded(error) => error.code(),
        }
    }
}

impl From<NodeError> for RecordError {
    fn from(error: NodeError) -> Self {
        Self::Recorded(error.into())
    }
}

/// Fetches a block with exactly the state that it reads, writes both, and replays what was written.
///
/// The state comes from the node's own prestate tracer where it has one, and else from executing the block here on what the
/// node tells of the parent's state. A tracer's state that does not give the block's header is not kept: contracts that are
/// created in the block are told wrongly by some.
///
/// # Errors
/// When the node cannot be used, does not have the block or its parent's state, or the folder cannot be written.
pub async fn record(options: &RecordOptions) -> Result<Recorded, RecordError> {
    let client = client(&options.url)?;
    let served = ask(&client, "eth_chainId", vec![]).await?;
    let chain = serde_json::from_value::<U64>(served)
        .map_err(|error| RecordError::NoAnswer { method: "eth_chainId", cause: error.to_string() })?
        .to::<ChainId>();
    if let Some(wanted) = options.chain.filter(|wanted| *wanted != chain) {
        return Err(RecordError::WrongChain { served: chain, wanted });
    }
    let forks = match options.rules {
        Some(rules) => ForkSchedule::always(rules),
        None => known_forks(chain).ok_or(RecordedError::UnknownChain(chain))?,
    };
    let block = ask(&client, "eth_getBlockByNumber", vec![json!(options.block.tag()), json!(true)]).await?;
    if block.is_null() {
        return Err(RecordError::NoSuchBlock(options.block.tag()));
    }
    let bare = Arc::new(RecordedBlock::parse(block.clone(), &Prestate::default())?);
    let context = bare.context(Some(chain), Some(&forks))?;
    if context.number == 0 {
        return Err(RecordError::Genesis);
    }
    // A chain that stands still is as good as any.
    let limits = RemoteLimits { timeout_ms: ANSWER_MS, max_lag_s: u64::MAX, ..RemoteLimits::default() };
    // Nothing is delivered: this way asks nothing of the node.
    let delivery = DeliverySettings::Raw;
    let settings = RemoteSettings { chain, forks: forks.clone(), urls: vec![options.url.clone()], limits, delivery };
    let node = RemoteNode::open(settings).await?;
    let work = Work { block, bare, context, node };
    let (prestate, source) = work.prestate(&client).await?;
    let name = format!("{}-{chain}-{}", rules_name(work.context.rules), work.context.number);
    let mut files = prestate.files()?;
    let mut text = serde_json::to_vec_pretty(&work.block)
        .map_err(|error| RecordedError::Unreadable { file: BLOCK_FILE, cause: error.to_string() })?;
    text.push(b'\n');
    files.push((BLOCK_FILE.to_owned(), text));
    let folder = write_folder(&options.out, &name, &files, options.force)?;
    let replayed = replay(&folder, Some(chain), Some(&forks));
    Ok(Recorded { folder, source, replayed })
}

/// The name of rules, as [`Rules::named`] reads it.
pub(crate) fn rules_name(rules: Rules) -> String {
    match rules {
        Rules::Ethereum(fork) => format!("{fork:?}"),
        Rules::OpStack(fork) => format!("{fork:?}"),
    }
    .to_ascii_lowercase()
}

/// A block whose state is looked for.
struct Work {
    block: Value,
    bare: Arc<RecordedBlock>,
    context: BlockContext,
    node: RemoteNode,
}

impl Work {
    /// What the block reads, and where that was found.
    async fn prestate(&self, client: &HttpClient) -> Result<(Prestate, String), RecordError> {
        let own = "from executing it here on the node's state";
        let (traced, why) = match self.traced(client).await {
            Ok(prestate) => match self.differences(&prestate)? {
                None => return Ok((prestate, "from the node's prestate tracer".to_owned())),
                Some(difference) => (Some(prestate), format!("the tracer's does not give the block: {difference}")),
            },
            Err(why) => (None, why),
        };
        tracing::info!(block = self.context.number, %why, "the block is executed on the node's state");
        match (gather(&self.bare, &self.context, &self.node, None).await, traced) {
            (Ok(prestate), _) => Ok((prestate, format!("{own} ({why})"))),
            // Better than nothing; the replay says what is wrong with it.
            (Err(error), Some(traced)) => {
                Ok((traced, format!("from the node's prestate tracer, which is not right, and not {own}: {error}")))
            }
            (Err(error), None) => Err(error.into()),
        }
    }

    /// What the block reads by the node's tracer, completed by what no tracer tells: system contracts, vaults, withdrawals.
    async fn traced(&self, client: &HttpClient) -> Result<Prestate, String> {
        let method = "debug_traceBlockByHash";
        let params = vec![json!(self.bare.header.hash), json!({ "tracer": "prestateTracer" })];
        let traces = ask(client, method, params).await.map_err(|error| error.to_string())?;
        let told = Prestate::from_traces(traces).map_err(|error| error.to_string())?;
        gather(&self.bare, &self.context, &self.node, Some(&told)).await.map_err(|error| error.to_string())
    }

    /// What differs from the header when the block is executed on a state; `None` when nothing does.
    fn differences(&self, prestate: &Prestate) -> Result<Option<String>, RecordError> {
        let recorded = RecordedBlock::parse(self.block.clone(), prestate)?;
        let mut executed = match recorded.execute(self.context.clone()) {
            Ok(executed) => executed,
            Err(error) => return Ok(Some(error.to_string())),
        };
        let summary = executed.finish().map_err(RecordedError::from)?;
        let differences = recorded.differences(&summary);
        Ok((!differences.is_empty()).then(|| differences.join("; ")))
    }
}

fn client(url: &str) -> Result<HttpClient, RecordError> {
    HttpClientBuilder::default()
        .request_timeout(Duration::from_millis(ANSWER_MS))
        .max_response_size(MAX_ANSWER_BYTES)
        .build(url)
        .map_err(|error| RecordError::Url(error.to_string()))
}

async fn ask(client: &HttpClient, method: &'static str, params: Vec<Value>) -> Result<Value, RecordError> {
    let failed = |cause: String| RecordError::NoAnswer { method, cause };
    let mut array = ArrayParams::new();
    for param in params {
        array.insert(param).map_err(|error| failed(error.to_string()))?;
    }
    let answer: Result<Value, ClientError> = client.request(method, array).await;
    answer.map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_simulation::{EthereumFork, OpFork};

    #[test]
    fn blocks_are_chosen_by_number_or_as_the_latest() {
        assert_eq!("latest".parse(), Ok(BlockChoice::Latest));
        assert_eq!("17".parse(), Ok(BlockChoice::Number(17)));
        assert_eq!("0x11".parse(), Ok(BlockChoice::Number(17)));
        assert!("pending".parse::<BlockChoice>().is_err(), "it has no hash yet");
    }

    #[test]
    fn names_of_rules_are_read_again() {
        let ethereum = EthereumFork::ALL.into_iter().map(Rules::Ethereum);
        for rules in ethereum.chain(OpFork::ALL.into_iter().map(Rules::OpStack)) {
            assert_eq!(Rules::named(&rules_name(rules)), Some(rules));
        }
    }
}

//! The escrow contract, over its chain's JSON-RPC.

use std::time::Duration;

use alloy::{
    network::{EthereumWallet, TransactionBuilder},
    providers::{DynProvider, Provider, ProviderBuilder},
    rpc::types::{BlockId, Filter, Log, TransactionRequest},
    signers::local::PrivateKeySigner,
    transports::TransportError,
};
use alloy_primitives::{Address, B256, Bytes, ChainId, U256};
use alloy_sol_types::{SolCall, SolEvent, sol};
use lockstep_primitives::EscrowBatch;
use lockstep_provider::http_client;

use super::BatchSignature;

use crate::process::EscrowPlan;

/// How long its node may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);

sol! {
    event Deposited(uint256 indexed number, address indexed account, uint256 amount);
    event ExitRequested(address indexed account, address to, uint256 amount, uint256 readyAt);
    event ExitCancelled(address indexed account);
    event Exited(address indexed account, address indexed to, uint256 amount);

    function market() external view returns (address);
    function exitDelay() external view returns (uint64);
    function batches() external view returns (uint64);
}

/// Why the escrow could not be followed or told something.
#[derive(Debug, thiserror::Error)]
pub(in crate::roles::market) enum EscrowFault {
    /// Its node.
    #[error("its node: {0}")]
    Node(#[from] TransportError),
    /// No answer in time.
    #[error("its node did not answer within {0:?}")]
    Slow(Duration),
    /// What its node answers.
    #[error("its node answers nonsense: {0}")]
    Answer(String),
    /// It is not this market's.
    #[error("{0}")]
    NotOurs(String),
    /// The market's own books.
    #[error("the market's books: {0}")]
    Market(String),
}

/// What happened on the escrow's chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EscrowEvent {
    Deposited { number: u64, account: Address, amount: U256 },
    ExitRequested { account: Address },
    ExitCancelled { account: Address },
    Exited { account: Address, amount: U256 },
}

/// An event, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlacedEvent {
    pub(super) block: u64,
    pub(super) log: u64,
    pub(super) event: EscrowEvent,
}

/// What does not change of an escrow.
#[derive(Clone, Copy, Debug)]
pub(in crate::roles::market) struct EscrowFacts {
    pub(super) chain: ChainId,
    pub(super) contract: Address,
    pub(super) exit_delay_s: u64,
    market: Address,
}

/// The contract.
#[derive(Debug)]
pub(super) struct EscrowContract {
    provider: DynProvider,
    facts: EscrowFacts,
}

impl EscrowContract {
    /// Asks the contract what it is. The market's key pays for what is sent.
    pub(super) async fn open(plan: &EscrowPlan, key: &PrivateKeySigner) -> Result<Self, EscrowFault> {
        let url = plan.url.parse().map_err(|error| EscrowFault::Answer(format!("{}: {error}", plan.url)))?;
        let client = http_client(&plan.url, CONNECT).map_err(EscrowFault::Answer)?;
        let provider = ProviderBuilder::new().wallet(EthereumWallet::from(key.clone())).connect_reqwest(client, url).erased();
        let chain = provider.get_chain_id().await?;
        let facts = EscrowFacts { chain, contract: plan.contract, exit_delay_s: 0, market: Address::ZERO };
        let mut opened = Self { provider, facts };
        opened.facts.market = opened.read(marketCall {}, BlockId::latest()).await?;
        opened.facts.exit_delay_s = opened.read(exitDelayCall {}, BlockId::latest()).await?;
        Ok(opened)
    }

    /// Whether it is this market's, and its exits wait for at least so long.
    pub(super) fn check(&self, market: Address, window_ms: u64) -> Result<(), EscrowFault> {
        let EscrowFacts { market: its, exit_delay_s, .. } = self.facts;
        if its != market {
            return Err(EscrowFault::NotOurs(format!("it is settled by {its}, and this market is {market}")));
        }
        if exit_delay_s.saturating_mul(1_000) < window_ms {
            let text = format!(
                "its exits wait {exit_delay_s} s, less than the {window_ms} ms from a bid to the last report on its slot"
            );
            return Err(EscrowFault::NotOurs(text));
        }
        Ok(())
    }

    pub(super) const fn facts(&self) -> EscrowFacts {
        self.facts
    }

    /// The newest block.
    pub(super) async fn head(&self) -> Result<u64, EscrowFault> {
        Ok(self.provider.get_block_number().await?)
    }

    /// What happened in these blocks, in its order.
    pub(super) async fn events(&self, from: u64, to: u64) -> Result<Vec<PlacedEvent>, EscrowFault> {
        let topics =
            vec![Deposited::SIGNATURE_HASH, ExitRequested::SIGNATURE_HASH, ExitCancelled::SIGNATURE_HASH, Exited::SIGNATURE_HASH];
        let filter = Filter::new().address(self.facts.contract).event_signature(topics).from_block(from).to_block(to);
        let logs = self.provider.get_logs(&filter).await?;
        let placed = |log: &Log| {
            let place = log.block_number.zip(log.log_index).filter(|_| !log.removed);
            let (block, index) = place.ok_or_else(|| EscrowFault::Answer("a log that is in no block".to_owned()))?;
            Ok(PlacedEvent { block, log: index, event: event(log)? })
        };
        let mut events = logs.iter().map(placed).collect::<Result<Vec<PlacedEvent>, EscrowFault>>()?;
        events.sort_by_key(|placed| (placed.block, placed.log));
        Ok(events)
    }

    /// How many batches it had settled by the end of a block.
    pub(super) async fn batches(&self, block: u64) -> Result<u64, EscrowFault> {
        self.read(batchesCall {}, BlockId::number(block)).await
    }

    /// What the market signs for a batch.
    pub(super) fn digest(&self, batch: &EscrowBatch) -> B256 {
        batch.digest(self.facts.chain, self.facts.contract)
    }

    /// Hands in a batch. Whether it was settled is told by [`EscrowContract::batches`] later.
    pub(super) async fn settle(&self, batch: &EscrowBatch, signature: BatchSignature) -> Result<(), EscrowFault> {
        let request = TransactionRequest::default().with_to(self.facts.contract).with_input(batch.settle_input(signature));
        let _seen_later = self.provider.send_transaction(request).await?;
        Ok(())
    }

    async fn read<C: SolCall>(&self, call: C, block: BlockId) -> Result<C::Return, EscrowFault> {
        let request = TransactionRequest::default().with_to(self.facts.contract).with_input(call.abi_encode());
        let answer: Bytes = self.provider.call(request).block(block).await?;
        C::abi_decode_returns(&answer).map_err(|error| EscrowFault::Answer(error.to_string()))
    }
}

fn event(log: &Log) -> Result<EscrowEvent, EscrowFault> {
    let nonsense = |error: alloy_sol_types::Error| EscrowFault::Answer(error.to_string());
    let log = &log.inner;
    Ok(match log.topics().first().copied().unwrap_or_default() {
        Deposited::SIGNATURE_HASH => {
            let Deposited { number, account, amount } = Deposited::decode_log(log).map_err(nonsense)?.data;
            let number = u64::try_from(number).map_err(|error| EscrowFault::Answer(error.to_string()))?;
            EscrowEvent::Deposited { number, account, amount }
        }
        ExitRequested::SIGNATURE_HASH => {
            EscrowEvent::ExitRequested { account: ExitRequested::decode_log(log).map_err(nonsense)?.data.account }
        }
        ExitCancelled::SIGNATURE_HASH => {
            EscrowEvent::ExitCancelled { account: ExitCancelled::decode_log(log).map_err(nonsense)?.data.account }
        }
        Exited::SIGNATURE_HASH => {
            let Exited { account, amount, .. } = Exited::decode_log(log).map_err(nonsense)?.data;
            EscrowEvent::Exited { account, amount }
        }
        other => return Err(EscrowFault::Answer(format!("a log of {other} that was not asked for"))),
    })
}

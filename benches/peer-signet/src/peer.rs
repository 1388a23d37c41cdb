//! Builds a block as signet-sim's own builder does.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::{Future, ready},
    sync::Arc,
    time::{Duration, Instant},
};

use alloy::{
    consensus::{
        TxEnvelope,
        transaction::{Recovered, SignerRecoverable},
    },
    eips::eip2718::Decodable2718,
    rpc::types::mev::EthSendBundle,
};
use alloy_primitives::{Address, B256, Bytes, U256};
use signet_bundle::{RecoveredBundle, SignetEthBundle};
use signet_constants::{HostConstants, RollupConstants, SignetSystemConstants, test_utils};
use signet_sim::{AcctInfo, BuiltBlock, HostEnv, RollupEnv, SharedSimEnv, SimCache, StateSource};
use tokio::runtime::{Builder, Runtime};
use trevm::revm::{
    DatabaseRef,
    context::{BlockEnv, CfgEnv},
    database::{CacheDB, EmptyDB},
    primitives::hardfork::SpecId,
    state::{AccountInfo, Bytecode},
};

use crate::{
    Failed,
    wire::{Account, Answer, Chain, Item, Workload},
};

/// Far enough away that every item has its turn: it is not the deadline that is measured.
const DEADLINE: Duration = Duration::from_secs(3_600);
/// Threads of the runtime that waits for simulations; signet-sim starts threads of its own for these.
const WORKERS: usize = 2;

/// A state that all runs read and none changes.
type State = Arc<CacheDB<EmptyDB>>;

/// Builds blocks of one workload.
pub(crate) struct Peer {
    runtime: Runtime,
    concurrency: usize,
    constants: SignetSystemConstants,
    host: Site,
    rollup: Site,
    transactions: Vec<Recovered<TxEnvelope>>,
    bundles: Vec<RecoveredBundle>,
}

/// A chain as the environments take it.
struct Site {
    state: State,
    cfg: CfgEnv,
    block: BlockEnv,
}

/// What one run gave.
struct Built {
    block: BuiltBlock,
    value: U256,
    host_value: U256,
    time: Duration,
}

impl Peer {
    /// Decodes what is pending and recovers its signers, as a node does when it takes it in.
    ///
    /// # Errors
    /// When anything in the workload is malformed.
    pub(crate) fn new(workload: &Workload) -> Result<Self, Failed> {
        if workload.concurrency == 0 {
            return Err("`concurrency` has to be at least 1".into());
        }
        let (mut transactions, mut bundles) = (Vec::new(), Vec::new());
        for (index, item) in workload.items.iter().enumerate() {
            let malformed = |error: Failed| Failed::from(format!("item {index}: {error}"));
            match item {
                Item::Transaction(raw) => transactions.push(transaction(raw).map_err(malformed)?),
                Item::Bundle { host, rollup } => {
                    bundles.push(bundle(index, workload.rollup.number, host, rollup).map_err(malformed)?);
                }
            }
        }
        Ok(Self {
            runtime: Builder::new_multi_thread().worker_threads(WORKERS).enable_time().build()?,
            concurrency: workload.concurrency,
            constants: constants(workload.host.chain_id, workload.rollup.chain_id),
            host: Site::new(&workload.host)?,
            rollup: Site::new(&workload.rollup)?,
            transactions,
            bundles,
        })
    }

    /// Builds that often and tells of it.
    ///
    /// # Errors
    /// When it is not to be built at all.
    pub(crate) fn answer(&self, runs: u32) -> Result<Answer, Failed> {
        let mut times_ns = Vec::new();
        let mut last = None;
        for _ in 0..runs {
            let built = self.build();
            times_ns.push(u64::try_from(built.time.as_nanos())?);
            last = Some(built);
        }
        let last = last.ok_or("`runs` has to be at least 1")?;
        let hashes = |txs: &[Recovered<TxEnvelope>]| -> Vec<B256> { txs.iter().map(|tx| *tx.inner().hash()).collect() };
        Ok(Answer {
            times_ns,
            value: last.value,
            host_value: last.host_value,
            included: hashes(last.block.transactions()),
            host_included: hashes(last.block.host_transactions()),
        })
    }

    /// What is pending, as it is after admission: that is no part of building.
    fn pending(&self) -> SimCache {
        let pending = SimCache::with_capacity(self.transactions.len() + self.bundles.len());
        pending.add_txs(self.transactions.iter().cloned(), self.rollup.block.basefee);
        pending.add_bundles(self.bundles.iter().cloned(), self.rollup.block.basefee);
        pending
    }

    /// One block.
    fn build(&self) -> Built {
        let Self { constants, host, rollup, .. } = self;
        let pending = self.pending();
        let finish_by = tokio::time::Instant::now() + DEADLINE;
        let rollup_env = RollupEnv::new(Arc::clone(&rollup.state), constants.clone(), &rollup.cfg, &rollup.block);
        let host_env = HostEnv::new(Arc::clone(&host.state), constants.clone(), &host.cfg, &host.block);
        let mut env: SharedSimEnv<State, State> = SharedSimEnv::new(rollup_env, host_env, finish_by, self.concurrency, pending);

        let started = Instant::now();
        let (block, value) = self.runtime.block_on(self.rounds(&mut env));
        let time = started.elapsed();

        let before = balance(&host.state, host.block.beneficiary);
        let after = balance(env.host_env().db(), host.block.beneficiary);
        Built { block, value, host_value: after.saturating_sub(before), time }
    }

    /// Round after round until nothing is left. It is what `BlockBuild::run_build` does, round for round, but ends where that
    /// would sleep until its deadline.
    async fn rounds(&self, env: &mut SharedSimEnv<State, State>) -> (BuiltBlock, U256) {
        let (rollup, host) = (Preflight(Arc::clone(&self.rollup.state)), Preflight(Arc::clone(&self.host.state)));
        let mut block = BuiltBlock::new(self.rollup.block.number.to());
        let mut value = U256::ZERO;
        while !env.sim_items().is_empty() {
            let pending = env.sim_items().len();
            let gas = self.rollup.block.gas_limit - block.gas_used();
            let host_gas = self.host.block.gas_limit - block.host_gas_used();
            match env.sim_round(gas, host_gas, &rollup, &host).await {
                Some(simulated) => {
                    value = value.saturating_add(simulated.score);
                    block.ingest(simulated);
                }
                // Nothing was taken and nothing thrown out: what is left can only wait for another block.
                None if env.sim_items().len() == pending => break,
                None => {}
            }
        }
        (block, value)
    }
}

impl Site {
    fn new(chain: &Chain) -> Result<Self, Failed> {
        let block = BlockEnv {
            number: U256::from(chain.number),
            beneficiary: chain.beneficiary,
            timestamp: U256::from(chain.timestamp),
            gas_limit: chain.gas_limit,
            basefee: chain.base_fee,
            prevrandao: Some(chain.prev_randao),
            ..BlockEnv::default()
        };
        let cfg = CfgEnv::new().with_chain_id(chain.chain_id).with_spec_and_mainnet_gas_params(SpecId::PRAGUE);
        Ok(Self { state: Arc::new(state(&chain.accounts)?), cfg, block })
    }
}

/// Answers what is checked before a simulation, at once: a node would ask its database.
struct Preflight(State);

impl StateSource for Preflight {
    type Error = Infallible;

    fn account_details(&self, address: &Address) -> impl Future<Output = Result<AcctInfo, Infallible>> + Send {
        let Ok(found) = self.0.basic_ref(*address);
        let account = found.unwrap_or_default();
        ready(Ok(AcctInfo { nonce: account.nonce, balance: account.balance, has_code: !account.is_empty_code_hash() }))
    }
}

fn state(accounts: &BTreeMap<Address, Account>) -> Result<CacheDB<EmptyDB>, Failed> {
    let mut state = CacheDB::new(EmptyDB::new());
    for (address, account) in accounts {
        let mut info = AccountInfo::default().with_balance(account.balance).with_nonce(account.nonce);
        if !account.code.is_empty() {
            let code = Bytecode::new_raw_checked(account.code.clone())
                .map_err(|error| format!("the code of {address} is malformed: {error:?}"))?;
            info = info.with_code(code);
        }
        state.insert_account_info(*address, info);
        for (slot, value) in &account.storage {
            state.insert_account_storage(*address, U256::from_be_bytes(slot.0), U256::from_be_bytes(value.0))?;
        }
    }
    Ok(state)
}

fn balance<Db: DatabaseRef<Error = Infallible>>(state: &Db, account: Address) -> U256 {
    let Ok(found) = state.basic_ref(account);
    found.map(|account| account.balance).unwrap_or_default()
}

fn transaction(raw: &Bytes) -> Result<Recovered<TxEnvelope>, Failed> {
    let mut rest = raw.as_ref();
    let transaction = TxEnvelope::decode_2718(&mut rest).map_err(|error| format!("a transaction is malformed: {error}"))?;
    if !rest.is_empty() {
        return Err(format!("a transaction has {} bytes too many", rest.len()).into());
    }
    transaction.try_into_recovered().map_err(|error| error.to_string().into())
}

fn bundle(index: usize, block_number: u64, host: &[Bytes], rollup: &[Bytes]) -> Result<RecoveredBundle, Failed> {
    let bundle = EthSendBundle {
        txs: rollup.to_vec(),
        block_number,
        // Bundles are told apart by it.
        replacement_uuid: Some(format!("00000000-0000-4000-8000-{index:012}")),
        ..EthSendBundle::default()
    };
    SignetEthBundle::new(bundle, host.to_vec()).try_into_recovered().map_err(|error| error.to_string().into())
}

/// Signet's contracts and tokens are where its own tests have them; no transfer touches them.
fn constants(host: u64, rollup: u64) -> SignetSystemConstants {
    let host = HostConstants::new(
        host,
        test_utils::DEPLOY_HEIGHT,
        test_utils::HOST_ZENITH,
        test_utils::HOST_ORDERS,
        test_utils::HOST_PASSAGE,
        test_utils::HOST_TRANSACTOR,
        test_utils::HOST_TOKENS,
        test_utils::HOST_START_TIMESTAMP,
        test_utils::HOST_SLOT_OFFSET,
        test_utils::HOST_SLOT_DURATION,
    );
    let rollup = RollupConstants::new(
        rollup,
        test_utils::RU_ORDERS,
        test_utils::RU_PASSAGE,
        test_utils::BASE_FEE_RECIPIENT,
        test_utils::RU_TOKENS,
    );
    SignetSystemConstants::new(host, rollup)
}

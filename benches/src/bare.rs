//! The floor of everything that executes: a plain revm loop over the same transactions.
//!
//! It is what one would write with revm and op-revm and nothing else: one EVM a thread and rollup, used again for every
//! transaction, over a read-only state that all threads share, with revm's own journal as the overlay. A bundle runs
//! transaction by transaction until one fails, and is then thrown away. Nothing is traced, kept, valued or checked.
//!
//! Relays are taken from a simulation of the same bundles, with the signatures of real attesters in place of stand-ins.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use alloy_consensus::TxEnvelope;
use alloy_evm::FromRecoveredTx;
use alloy_primitives::{Address, B256, Bytes, ChainId, U256, address};
use lockstep_building::{RelayDraft, Simulated, SlotView, open_lanes};
use lockstep_messaging::{Destination, Evidence};
use lockstep_primitives::{Leg, RevertMode, SignedTx};
use lockstep_simulation::{BlockContext, Code, EthereumFork, OpFork, Rules, StateError, StateView};
use lockstep_testkit::{attest, builder, sign};
use op_revm::{DefaultOp, L1BlockInfo, OpBuilder, OpEvm, OpSpecId, OpTransaction, precompiles::OpPrecompiles};
use rayon::ThreadPool;
use revm::{
    Database, ExecuteEvm, MainBuilder, MainContext,
    context::{BlockEnv, CfgEnv, Context, Evm, Journal, TxEnv},
    context_interface::{
        Cfg, ContextTr,
        block::BlobExcessGasAndPrice,
        result::{EVMError, ExecutionResult},
    },
    handler::{
        EthFrame, EthPrecompiles, PrecompileProvider, instructions::EthInstructions, precompile_output_to_interpreter_result,
    },
    interpreter::{CallInputs, InterpreterResult, interpreter::EthInterpreter},
    precompile::PrecompileOutput,
    primitives::hardfork::SpecId,
    state::AccountInfo,
};

use crate::Failed;

const ECRECOVER: Address = address!("0000000000000000000000000000000000000001");
const ECRECOVER_GAS: u64 = 3_000;
/// How many bundles a thread takes at a time.
const SHARE: usize = 16;

/// A transaction as revm takes it.
#[derive(Clone, Debug)]
pub struct BareTx {
    chain: ChainId,
    env: TxEnv,
    raw: Bytes,
    /// Whether its bundle goes on when it reverts.
    may_revert: bool,
}

impl BareTx {
    /// A signed transaction on a rollup, whose bundle ends when it reverts.
    pub fn new(chain: ChainId, tx: &SignedTx) -> Self {
        let signer = tx.signer();
        let env = match tx.envelope() {
            TxEnvelope::Legacy(tx) => TxEnv::from_recovered_tx(tx.tx(), signer),
            TxEnvelope::Eip2930(tx) => TxEnv::from_recovered_tx(tx.tx(), signer),
            TxEnvelope::Eip1559(tx) => TxEnv::from_recovered_tx(tx.tx(), signer),
            TxEnvelope::Eip4844(tx) => TxEnv::from_recovered_tx(tx.tx().tx(), signer),
            TxEnvelope::Eip7702(tx) => TxEnv::from_recovered_tx(tx.tx(), signer),
        };
        Self { chain, env, raw: tx.raw().clone(), may_revert: false }
    }
}

/// What a loop did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// Bundles all of whose transactions succeeded; transactions, where there are no bundles.
    pub succeeded: usize,
    /// Gas that all transactions used, those of failed bundles included.
    pub gas: u64,
}

impl Ran {
    const fn and(self, other: Self) -> Self {
        Self { succeeded: self.succeeded + other.succeeded, gas: self.gas + other.gas }
    }
}

/// The environment of every rollup's block, and the state that its transactions begin on.
type Blocks = BTreeMap<ChainId, (BlockContext, Arc<dyn StateView>)>;

/// Bundles, ready to be executed by plain revm.
#[derive(Clone, Debug)]
pub struct Bare {
    blocks: Blocks,
    bundles: Vec<Vec<BareTx>>,
    /// Whose signature is the one over this digest with this r. The signatures of the attesters, which are what relays carry.
    known: Arc<HashMap<(B256, B256), Address>>,
    told: bool,
}

impl Bare {
    /// The transactions of these bundles. Of a bundle that was blocked before a relay was written, the relay is absent here.
    ///
    /// # Errors
    /// When a rollup's block cannot be opened, or a relay cannot be written.
    pub fn new(view: &SlotView, simulated: &[Simulated]) -> Result<Self, Failed> {
        let mut blocks = Blocks::new();
        for (chain, lane) in open_lanes(view, &view.rollups.keys().copied().collect())? {
            let block = lane.block();
            let rollup = view.rollups.get(&chain).ok_or("a lane without a rollup")?;
            // Without anything before the transactions the state is the shared base itself.
            let base: Arc<dyn StateView> = if block.state().changes()?.accounts.is_empty() {
                Arc::clone(&rollup.slot.state)
            } else {
                Arc::new(block.state().clone())
            };
            blocks.insert(chain, (block.context().clone(), base));
        }
        let mut known = HashMap::new();
        let mut bundles = Vec::with_capacity(simulated.len());
        for entry in simulated {
            let mut txs = Vec::new();
            for (index, leg) in entry.candidate.bundle.legs.iter().enumerate() {
                match leg {
                    Leg::Txs { chain, txs: signed } => txs.extend(
                        signed.iter().map(|tx| BareTx { may_revert: tx.mode != RevertMode::Fail, ..BareTx::new(*chain, &tx.tx) }),
                    ),
                    Leg::Relay { .. } => {
                        for relay in entry.attempt.run.relays.iter().filter(|relay| relay.leg == index) {
                            txs.push(relayed(view, &blocks, relay, &mut known)?);
                        }
                    }
                }
            }
            bundles.push(txs);
        }
        Ok(Self { blocks, bundles, known: Arc::new(known), told: false })
    }

    /// The same loop, whose `ecrecover` is told whose the attesters' signatures are instead of recovering them: what a
    /// simulation with stand-ins is spared is then spared to both sides.
    pub fn told(&self) -> Self {
        Self { told: true, ..self.clone() }
    }

    /// Executes every bundle alone, on all threads of a pool.
    ///
    /// # Errors
    /// When the state cannot be read or revm fails.
    pub fn each(&self, pool: &ThreadPool) -> Result<Ran, Failed> {
        let next = AtomicUsize::new(0);
        let all: Vec<Result<Ran, Failed>> = pool.broadcast(|_| {
            let mut machines = Machines { bare: self, evms: BTreeMap::new() };
            let mut ran = Ran::default();
            loop {
                let from = next.fetch_add(SHARE, Ordering::Relaxed);
                let Some(share) =
                    self.bundles.get(from..(from + SHARE).min(self.bundles.len())).filter(|share| !share.is_empty())
                else {
                    return Ok(ran);
                };
                for bundle in share {
                    ran = ran.and(machines.bundle(bundle)?);
                }
            }
        });
        all.into_iter().try_fold(Ran::default(), |sum, ran| Ok(sum.and(ran?)))
    }

    /// Executes lists, each on top of its rollup's block: transactions one after the other, rollups in parallel.
    ///
    /// # Errors
    /// As [`Bare::each`].
    pub fn lists(&self, pool: &ThreadPool, lists: &[Vec<BareTx>]) -> Result<Ran, Failed> {
        let next = AtomicUsize::new(0);
        let all: Vec<Result<Ran, Failed>> = pool.broadcast(|_| {
            let mut machines = Machines { bare: self, evms: BTreeMap::new() };
            let mut ran = Ran::default();
            while let Some(list) = lists.get(next.fetch_add(1, Ordering::Relaxed)) {
                for tx in list {
                    let (succeeded, gas) = machines.transact(tx)?;
                    ran = ran.and(Ran { succeeded: usize::from(succeeded), gas });
                }
            }
            Ok(ran)
        });
        all.into_iter().try_fold(Ran::default(), |sum, ran| Ok(sum.and(ran?)))
    }

    fn machine(&self, chain: ChainId) -> Result<Machine, Failed> {
        let (context, base) = self.blocks.get(&chain).ok_or_else(|| format!("rollup {chain} is not in the slot"))?;
        let base = Base(Arc::clone(base));
        let known = &self.known;
        Ok(match context.rules {
            Rules::Ethereum(fork) => {
                let spec = ethereum_spec(fork);
                let evm =
                    Context::mainnet().with_block(block_env(context)).with_cfg(cfg(context, spec)).with_db(base).build_mainnet();
                if self.told {
                    let of_rules = EthPrecompiles::new(spec);
                    Machine::EthereumTold(Box::new(evm.with_precompiles(Told { of_rules, known: Arc::clone(known) })))
                } else {
                    Machine::Ethereum(Box::new(evm))
                }
            }
            Rules::OpStack(fork) => {
                let spec = op_spec(fork);
                let evm = Context::op().with_block(block_env(context)).with_cfg(cfg(context, spec)).with_db(base).build_op();
                if self.told {
                    let of_rules = OpPrecompiles::new_with_spec(spec);
                    Machine::OpStackTold(Box::new(evm.with_precompiles(Told { of_rules, known: Arc::clone(known) })))
                } else {
                    Machine::OpStack(Box::new(evm))
                }
            }
        })
    }
}

/// The relay as it is once it is sealed.
fn relayed(
    view: &SlotView,
    blocks: &Blocks,
    relay: &RelayDraft,
    known: &mut HashMap<(B256, B256), Address>,
) -> Result<BareTx, Failed> {
    let mut tx = relay.tx.clone();
    if let Some(request) = &relay.request {
        let (context, _) = blocks.get(&relay.chain).ok_or("a relay to a rollup that is not in the slot")?;
        let evidence = attest(request);
        if let Evidence::Attestation { signatures, .. } = &evidence {
            for (signature, signer) in signatures.iter().zip(&request.signers) {
                known.insert((request.digest, B256::from_slice(&signature[..32])), *signer);
            }
        }
        let to = Destination {
            chain: relay.chain,
            number: context.number,
            timestamp: context.timestamp,
            beneficiary: context.beneficiary,
            builder: view.proposer,
        };
        let protocol = view.policy.protocols.of(&relay.message).map_err(|reason| reason.to_string())?;
        let calls = protocol.deliver(&relay.message, &evidence, &to).map_err(|reason| reason.to_string())?;
        let call = calls.into_iter().nth(relay.call).ok_or("the delivery has fewer calls than it was simulated with")?;
        tx.input = call.data;
        tx.access_list = call.access_list;
    }
    Ok(BareTx::new(relay.chain, &sign(builder(), tx)))
}

/// One thread's EVMs.
struct Machines<'a> {
    bare: &'a Bare,
    evms: BTreeMap<ChainId, Machine>,
}

impl Machines<'_> {
    /// Runs a bundle until a transaction fails, and throws away what it did.
    fn bundle(&mut self, txs: &[BareTx]) -> Result<Ran, Failed> {
        let mut ran = Ran { succeeded: 1, gas: 0 };
        let mut used = 0;
        for tx in txs {
            let (succeeded, gas) = self.transact(tx)?;
            used += 1;
            ran.gas += gas;
            // What used no gas was invalid.
            if !(succeeded || tx.may_revert && gas > 0) {
                ran.succeeded = 0;
                break;
            }
        }
        for tx in &txs[..used] {
            if let Some(evm) = self.evms.get_mut(&tx.chain) {
                evm.finalize();
            }
        }
        Ok(ran)
    }

    fn transact(&mut self, tx: &BareTx) -> Result<(bool, u64), Failed> {
        let evm = match self.evms.entry(tx.chain) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(self.bare.machine(tx.chain)?),
        };
        evm.transact(tx)
    }
}

type EthereumContext = Context<BlockEnv, TxEnv, CfgEnv, Base, Journal<Base>, ()>;
type EthereumEvm<P> = Evm<EthereumContext, (), EthInstructions<EthInterpreter, EthereumContext>, P, EthFrame<EthInterpreter>>;
type OpStackContext = Context<BlockEnv, OpTransaction<TxEnv>, CfgEnv<OpSpecId>, Base, Journal<Base>, L1BlockInfo>;
type OpStackEvm<P> = OpEvm<OpStackContext, (), EthInstructions<EthInterpreter, OpStackContext>, P>;

enum Machine {
    Ethereum(Box<EthereumEvm<EthPrecompiles>>),
    EthereumTold(Box<EthereumEvm<Told<EthPrecompiles>>>),
    OpStack(Box<OpStackEvm<OpPrecompiles>>),
    OpStackTold(Box<OpStackEvm<Told<OpPrecompiles>>>),
}

impl Machine {
    fn transact(&mut self, tx: &BareTx) -> Result<(bool, u64), Failed> {
        let op =
            |tx: &BareTx| OpTransaction { base: tx.env.clone(), enveloped_tx: Some(tx.raw.clone()), deposit: Default::default() };
        match self {
            Self::Ethereum(evm) => outcome(evm.transact_one(tx.env.clone())),
            Self::EthereumTold(evm) => outcome(evm.transact_one(tx.env.clone())),
            Self::OpStack(evm) => outcome(evm.transact_one(op(tx))),
            Self::OpStackTold(evm) => outcome(evm.transact_one(op(tx))),
        }
    }

    fn finalize(&mut self) {
        drop(match self {
            Self::Ethereum(evm) => evm.finalize(),
            Self::EthereumTold(evm) => evm.finalize(),
            Self::OpStack(evm) => evm.finalize(),
            Self::OpStackTold(evm) => evm.finalize(),
        });
    }
}

/// Whether a transaction succeeded, and its gas; one that is invalid used none.
fn outcome<H, E: std::fmt::Debug>(result: Result<ExecutionResult<H>, EVMError<StateError, E>>) -> Result<(bool, u64), Failed> {
    match result {
        Ok(result) => Ok((matches!(result, ExecutionResult::Success { .. }), result.tx_gas_used())),
        Err(EVMError::Transaction(_)) => Ok((false, 0)),
        Err(error) => Err(format!("revm failed: {error:?}").into()),
    }
}

/// The precompiled contracts of the rules, with an `ecrecover` that knows some answers.
#[derive(Debug)]
struct Told<P> {
    of_rules: P,
    known: Arc<HashMap<(B256, B256), Address>>,
}

impl<C: ContextTr, P: PrecompileProvider<C, Output = InterpreterResult>> PrecompileProvider<C> for Told<P> {
    type Output = InterpreterResult;

    fn set_spec(&mut self, spec: <C::Cfg as Cfg>::Spec) -> bool {
        self.of_rules.set_spec(spec)
    }

    fn run(&mut self, context: &mut C, inputs: &CallInputs) -> Result<Option<InterpreterResult>, String> {
        if inputs.bytecode_address == ECRECOVER && inputs.gas_limit >= ECRECOVER_GAS {
            let input = inputs.input.bytes(context);
            let word = |index: usize| input.get(index * 32..(index + 1) * 32).map(B256::from_slice);
            if let Some(signer) = word(0).zip(word(2)).and_then(|key| self.known.get(&key)) {
                let bytes = Bytes::copy_from_slice(signer.into_word().as_slice());
                let output = PrecompileOutput::new(ECRECOVER_GAS, bytes, inputs.reservoir);
                return Ok(Some(precompile_output_to_interpreter_result(output, inputs.gas_limit)));
            }
        }
        self.of_rules.run(context, inputs)
    }

    fn warm_addresses(&self) -> Box<impl Iterator<Item = Address>> {
        self.of_rules.warm_addresses()
    }

    fn contains(&self, address: &Address) -> bool {
        self.of_rules.contains(address)
    }
}

/// The shared read-only state.
#[derive(Clone, Debug)]
struct Base(Arc<dyn StateView>);

impl Database for Base {
    type Error = StateError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        let Some(account) = self.0.account(address)? else { return Ok(None) };
        let code = if account.has_code() { self.0.code(account.code_hash)? } else { Code::default() };
        Ok(Some(AccountInfo {
            balance: account.balance,
            nonce: account.nonce,
            code_hash: account.code_hash,
            code: Some(code),
            ..AccountInfo::default()
        }))
    }

    fn code_by_hash(&mut self, hash: B256) -> Result<Code, StateError> {
        self.0.code(hash)
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, StateError> {
        self.0.storage(address, slot)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, StateError> {
        self.0.block_hash(number)
    }
}

fn cfg<S: Into<SpecId> + Copy>(context: &BlockContext, spec: S) -> CfgEnv<S> {
    let mut cfg = CfgEnv::new_with_spec(spec).with_chain_id(context.chain);
    cfg.tx_gas_limit_cap = Some(context.rules.tx_gas_cap().unwrap_or(u64::MAX));
    if let Some(blobs) = context.rules.blobs() {
        cfg.blob_base_fee_update_fraction = u64::try_from(blobs.update_fraction).ok();
        cfg.max_blobs_per_tx = Some(blobs.max_blobs_per_tx);
    }
    cfg
}

fn block_env(context: &BlockContext) -> BlockEnv {
    let fraction = context.rules.blobs().and_then(|blobs| u64::try_from(blobs.update_fraction).ok());
    BlockEnv {
        number: U256::from(context.number),
        beneficiary: context.beneficiary,
        timestamp: U256::from(context.timestamp),
        gas_limit: context.gas_limit,
        basefee: context.base_fee,
        difficulty: U256::ZERO,
        prevrandao: Some(context.prev_randao),
        blob_excess_gas_and_price: fraction
            .map(|fraction| BlobExcessGasAndPrice::new(context.excess_blob_gas.unwrap_or_default(), fraction)),
        ..BlockEnv::default()
    }
}

const fn ethereum_spec(fork: EthereumFork) -> SpecId {
    match fork {
        EthereumFork::Shanghai => SpecId::SHANGHAI,
        EthereumFork::Cancun => SpecId::CANCUN,
        EthereumFork::Prague => SpecId::PRAGUE,
        EthereumFork::Osaka | EthereumFork::Bpo1 | EthereumFork::Bpo2 => SpecId::OSAKA,
    }
}

const fn op_spec(fork: OpFork) -> OpSpecId {
    match fork {
        OpFork::Ecotone => OpSpecId::ECOTONE,
        OpFork::Fjord => OpSpecId::FJORD,
        OpFork::Granite => OpSpecId::GRANITE,
        OpFork::Holocene => OpSpecId::HOLOCENE,
        OpFork::Isthmus => OpSpecId::ISTHMUS,
        OpFork::Jovian => OpSpecId::JOVIAN,
        OpFork::Karst => OpSpecId::KARST,
    }
}

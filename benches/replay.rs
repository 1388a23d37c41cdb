//! What does executing a block here cost beside a plain revm loop?
//!
//! Ours is the way that `lockstep replay` goes: `RecordedBlock::execute`, and `PendingBlock::finish` for the receipts root. The
//! plain loop is what one would write with alloy-evm and nothing else: one EVM for the block over a `CacheDB` over the same
//! prestate, committed after each transaction, with the same system calls and withdrawals. Both begin with the prestate parsed
//! and the signers recovered, and both are checked against the header before they are timed.
//!
//! Runs go in pairs, whose order alternates; a run is repeated until it takes long enough to be told from noise. The ratio is
//! the median over the pairs.

use std::{
    env,
    error::Error,
    hint::black_box,
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use alloy_consensus::{Eip658Value, Receipt, ReceiptEnvelope, ReceiptWithBloom, TxEnvelope};
use alloy_eips::{
    eip2718::Encodable2718,
    eip2935::HISTORY_STORAGE_ADDRESS,
    eip4788::{BEACON_ROOTS_ADDRESS, SYSTEM_ADDRESS},
    eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
    eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
};
use alloy_evm::{Evm, EvmEnv, EvmFactory, FromRecoveredTx, FromTxWithEncoded, eth::EthEvmFactory};
use alloy_op_evm::{OpEvmFactory, OpTx};
use alloy_primitives::{Address, B256, Bloom, Bytes, U256, logs_bloom};
use alloy_trie::root::ordered_trie_root_with_encoder;
use lockstep_node::replay::{named_rules, recordings};
use lockstep_primitives::SignedTx;
use lockstep_provider::{BLOCK_FILE, RecordedBlock};
use lockstep_simulation::{BlockContext, BlockTx, EthereumFork, ForkSchedule, MemoryState, OpFork, Rules, StateError, StateView};
use op_alloy::consensus::{OpDepositReceipt, OpReceiptEnvelope};
use op_revm::{OpSpecId, OpTransaction};
use revm::{
    Database, DatabaseCommit, DatabaseRef,
    context::{BlockEnv, CfgEnv, TxEnv},
    context_interface::{block::BlobExcessGasAndPrice, result::ResultAndState},
    database::CacheDB,
    primitives::hardfork::SpecId,
    state::{AccountInfo, Bytecode},
};

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Pairs of runs that are measured.
const PAIRS: usize = 15;
/// Pairs of runs before those.
const WARM_UP: usize = 3;
/// How long one run of a pair takes at least.
const RUN: Duration = Duration::from_millis(20);
/// How much slower than the plain loop is still good.
const GOOD: f64 = 1.10;
/// Blocks of this repository.
const OWN_BLOCKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/blocks");

type Failed = Box<dyn Error>;

fn main() -> Result<(), Failed> {
    // `cargo test --all-targets` runs benches too, without this argument.
    if !env::args().any(|argument| argument == "--bench") {
        return line("skipped: cargo bench runs it");
    }
    let mut folders: Vec<PathBuf> = recordings(Path::new(OWN_BLOCKS)).unwrap_or_default();
    match env::var_os("LOCKSTEP_BLOCKS_DIR") {
        Some(root) => folders.extend(recordings(Path::new(&root))?),
        None => line("LOCKSTEP_BLOCKS_DIR names no further recorded blocks")?,
    }
    line(&format!(
        "{:<20} {:>4} {:>10} {:<9} {:>9} {:>9} {:>9} {:>9} {:>7}",
        "block", "txs", "gas", "what", "our min", "median", "plain min", "median", "ratio"
    ))?;
    let mut lost = Vec::new();
    for folder in folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !folder.join(BLOCK_FILE).is_file() {
            continue;
        }
        let recorded = RecordedBlock::read(&folder)?;
        let forks = named_rules(&folder).map(ForkSchedule::always);
        let subject = Subject { context: recorded.context(None, forks.as_ref())?, recorded };
        subject.check()?;
        for part in [Part::Whole, Part::Transactions] {
            let measured = subject.measure(part)?;
            let ratio = measured.ratio();
            let (ours, plain) = (Spread::of(&measured.ours), Spread::of(&measured.plain));
            line(&format!(
                "{name:<20} {:>4} {:>10} {:<9} {:>9.3} {:>9.3} {:>9.3} {:>9.3} {ratio:>7.3}",
                subject.recorded.transactions.len(),
                subject.recorded.header.inner.gas_used,
                part.name(),
                ours.min,
                ours.median,
                plain.min,
                plain.median,
            ))?;
            if ratio > 1.0 {
                lost.push(format!(
                    "{name} ({}): {ratio:.3}{}",
                    part.name(),
                    if ratio > GOOD { ", which is too much" } else { "" }
                ));
            }
        }
    }
    line("milliseconds; ratio: median over the pairs of ours by the plain loop's")?;
    match lost.as_slice() {
        [] => line("nowhere slower than the plain loop"),
        lost => line(&format!("slower than the plain loop:\n  {}", lost.join("\n  "))),
    }
}

fn line(text: &str) -> Result<(), Failed> {
    Ok(writeln!(io::stdout().lock(), "{text}")?)
}

/// What of a block is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// All of it: transactions, system calls, receipts root.
    Whole,
    /// Up to the last transaction and the withdrawals.
    Transactions,
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Transactions => "no root",
        }
    }
}

/// What a run gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outcome {
    gas_used: u64,
    /// Receipts root and logs bloom, when the whole block is done.
    roots: Option<(B256, Bloom)>,
}

/// Times of every pair, in milliseconds for one block.
#[derive(Debug, Default)]
struct Measured {
    ours: Vec<f64>,
    plain: Vec<f64>,
}

impl Measured {
    fn ratio(&self) -> f64 {
        let ratios: Vec<f64> = self.ours.iter().zip(&self.plain).map(|(ours, plain)| ours / plain).collect();
        Spread::of(&ratios).median
    }
}

#[derive(Clone, Copy, Debug)]
struct Spread {
    min: f64,
    median: f64,
}

impl Spread {
    fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        Self { min: at(0), median: at(sorted.len() / 2) }
    }
}

/// A block and its environment.
#[derive(Debug)]
struct Subject {
    recorded: RecordedBlock,
    context: BlockContext,
}

impl Subject {
    /// Both ways give what the header says, or nothing is compared.
    fn check(&self) -> Result<(), Failed> {
        let header = &self.recorded.header.inner;
        let said = Outcome { gas_used: header.gas_used, roots: Some((header.receipts_root, header.logs_bloom)) };
        for (way, given) in [("ours", self.ours(Part::Whole)?), ("the plain loop", self.plain(Part::Whole)?)] {
            if given != said {
                return Err(format!("block {}: {way} gives {given:?}, the header says {said:?}", header.number).into());
            }
        }
        Ok(())
    }

    fn measure(&self, part: Part) -> Result<Measured, Failed> {
        let once = time(1, || self.plain(part))?.max(time(1, || self.ours(part))?);
        let times = (RUN.as_secs_f64() / once.max(1e-9)).ceil().max(1.0) as u32;
        let mut measured = Measured::default();
        for pair in 0..WARM_UP + PAIRS {
            let ours_first = pair % 2 == 0;
            let first = if ours_first { time(times, || self.ours(part))? } else { time(times, || self.plain(part))? };
            let second = if ours_first { time(times, || self.plain(part))? } else { time(times, || self.ours(part))? };
            if pair >= WARM_UP {
                let (ours, plain) = if ours_first { (first, second) } else { (second, first) };
                measured.ours.push(ours * 1e3);
                measured.plain.push(plain * 1e3);
            }
        }
        Ok(measured)
    }

    fn ours(&self, part: Part) -> Result<Outcome, Failed> {
        let mut block = self.recorded.execute(self.context.clone())?;
        let roots = match part {
            Part::Whole => {
                let summary = block.finish()?;
                Some((summary.receipts_root, summary.logs_bloom))
            }
            Part::Transactions => None,
        };
        Ok(Outcome { gas_used: block.gas_used(), roots })
    }

    fn plain(&self, part: Part) -> Result<Outcome, Failed> {
        let db = CacheDB::new(Plain(&self.recorded.prestate));
        match self.context.rules {
            Rules::Ethereum(fork) => {
                let mut evm = EthEvmFactory::default().create_evm(db, self.env(ethereum_spec(fork)));
                self.run(&mut evm, part, |tx| match tx {
                    BlockTx::Signed(tx) => Ok(tx_env(tx)),
                    BlockTx::Deposit(_) => Err("a deposit under Ethereum rules".into()),
                })
            }
            Rules::OpStack(fork) => {
                let mut evm = OpEvmFactory::<OpTx>::default().create_evm(db, self.env(op_spec(fork)));
                self.run(&mut evm, part, |tx| {
                    Ok(match tx {
                        BlockTx::Signed(tx) => OpTx(OpTransaction {
                            base: tx_env(tx),
                            enveloped_tx: Some(tx.raw().clone()),
                            deposit: Default::default(),
                        }),
                        BlockTx::Deposit(deposit) => OpTx::from_encoded_tx(deposit.tx(), deposit.tx().from, tx.raw().clone()),
                    })
                })
            }
        }
    }

    /// The plain loop.
    fn run<'a, E>(&self, evm: &mut E, part: Part, env: impl Fn(&BlockTx) -> Result<E::Tx, Failed>) -> Result<Outcome, Failed>
    where
        E: Evm<DB = CacheDB<Plain<'a>>>,
    {
        let rules = self.context.rules;
        if has_hash_history(rules) {
            system_call(evm, HISTORY_STORAGE_ADDRESS, self.context.parent_hash.0.into())?;
        }
        if let Some(root) = self.context.parent_beacon_block_root {
            system_call(evm, BEACON_ROOTS_ADDRESS, root.0.into())?;
        }
        let mut gas_used = 0;
        let mut receipts = Vec::with_capacity(self.recorded.transactions.len());
        let mut bloom = Bloom::ZERO;
        for tx in &self.recorded.transactions {
            let deposit_nonce =
                if tx.is_deposit() { Some(evm.db_mut().basic(tx.sender())?.map_or(0, |account| account.nonce)) } else { None };
            let ResultAndState { result, state } = evm.transact_raw(env(tx)?).map_err(|error| error.to_string())?;
            evm.db_mut().commit(state);
            gas_used += result.tx_gas_used();
            if part == Part::Transactions {
                continue;
            }
            let status = Eip658Value::Eip658(result.is_success());
            let receipt = Receipt { status, cumulative_gas_used: gas_used, logs: result.into_logs() };
            let receipt = PlainReceipt::new(tx.tx_type(), receipt, deposit_nonce);
            bloom.accrue_bloom(receipt.bloom());
            receipts.push(receipt);
        }
        for (address, amount) in &self.recorded.withdrawals {
            let mut account = evm.db_mut().basic(*address)?.unwrap_or_default();
            account.balance = account.balance.saturating_add(*amount);
            evm.db_mut().insert_account_info(*address, account);
        }
        let roots = match part {
            Part::Whole => {
                if rules.has_requests() {
                    system_call(evm, WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, Bytes::new())?;
                    system_call(evm, CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS, Bytes::new())?;
                }
                let root = ordered_trie_root_with_encoder(&receipts, |receipt: &PlainReceipt, out| receipt.encode(out));
                Some((root, bloom))
            }
            Part::Transactions => None,
        };
        Ok(Outcome { gas_used, roots })
    }

    fn env<S: Into<SpecId> + Copy>(&self, spec: S) -> EvmEnv<S> {
        let context = &self.context;
        let mut cfg = CfgEnv::new_with_spec(spec).with_chain_id(context.chain);
        cfg.tx_gas_limit_cap = Some(context.rules.tx_gas_cap().unwrap_or(u64::MAX));
        let fraction = context.rules.blobs().and_then(|blobs| u64::try_from(blobs.update_fraction).ok());
        if let Some(blobs) = context.rules.blobs() {
            cfg.blob_base_fee_update_fraction = fraction;
            cfg.max_blobs_per_tx = Some(blobs.max_blobs_per_tx);
        }
        let block = BlockEnv {
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
        };
        EvmEnv::new(cfg, block)
    }
}

/// Seconds for one of `times` runs.
fn time(times: u32, mut run: impl FnMut() -> Result<Outcome, Failed>) -> Result<f64, Failed> {
    let started = Instant::now();
    for _ in 0..times {
        black_box(run()?);
    }
    Ok(started.elapsed().as_secs_f64() / f64::from(times))
}

/// The same prestate that ours reads.
#[derive(Clone, Copy, Debug)]
struct Plain<'a>(&'a MemoryState);

impl DatabaseRef for Plain<'_> {
    type Error = StateError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        let Some(account) = self.0.account(address)? else { return Ok(None) };
        let code = if account.has_code() { self.0.code(account.code_hash)? } else { Bytecode::default() };
        Ok(Some(AccountInfo {
            balance: account.balance,
            nonce: account.nonce,
            code_hash: account.code_hash,
            code: Some(code),
            ..AccountInfo::default()
        }))
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, StateError> {
        self.0.code(hash)
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        self.0.storage(address, slot)
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, StateError> {
        self.0.block_hash(number)
    }
}

/// A system call changes its contract only; where that has no code nothing happens.
fn system_call<'a, E: Evm<DB = CacheDB<Plain<'a>>>>(evm: &mut E, contract: Address, data: Bytes) -> Result<(), Failed> {
    let account = evm.db_mut().basic(contract)?;
    if account.is_none_or(|account| account.is_empty_code_hash()) {
        return Ok(());
    }
    let called = evm.transact_system_call(SYSTEM_ADDRESS, contract, data);
    let ResultAndState { mut state, .. } = called.map_err(|error| error.to_string())?;
    state.retain(|address, _| *address == contract);
    evm.db_mut().commit(state);
    Ok(())
}

enum PlainReceipt {
    Ethereum(ReceiptEnvelope),
    OpStack(OpReceiptEnvelope),
}

impl PlainReceipt {
    fn new(tx_type: u8, receipt: Receipt, deposit_nonce: Option<u64>) -> Self {
        let bloom = logs_bloom(&receipt.logs);
        let with_bloom = |receipt| ReceiptWithBloom { receipt, logs_bloom: bloom };
        Self::Ethereum(match tx_type {
            0x7e => {
                let receipt =
                    OpDepositReceipt { inner: receipt, deposit_nonce, deposit_receipt_version: deposit_nonce.map(|_| 1) };
                return Self::OpStack(OpReceiptEnvelope::Deposit(ReceiptWithBloom { receipt, logs_bloom: bloom }));
            }
            1 => ReceiptEnvelope::Eip2930(with_bloom(receipt)),
            2 => ReceiptEnvelope::Eip1559(with_bloom(receipt)),
            3 => ReceiptEnvelope::Eip4844(with_bloom(receipt)),
            4 => ReceiptEnvelope::Eip7702(with_bloom(receipt)),
            _ => ReceiptEnvelope::Legacy(with_bloom(receipt)),
        })
    }

    fn bloom(&self) -> &Bloom {
        match self {
            Self::Ethereum(receipt) => receipt.logs_bloom(),
            Self::OpStack(receipt) => receipt.logs_bloom(),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ethereum(receipt) => receipt.encode_2718(out),
            Self::OpStack(receipt) => receipt.encode_2718(out),
        }
    }
}

fn tx_env(tx: &SignedTx) -> TxEnv {
    let signer = tx.signer();
    match tx.envelope() {
        TxEnvelope::Legacy(tx) => TxEnv::from_recovered_tx(tx.tx(), signer),
        TxEnvelope::Eip2930(tx) => TxEnv::from_recovered_tx(tx.tx(), signer),
        TxEnvelope::Eip1559(tx) => TxEnv::from_recovered_tx(tx.tx(), signer),
        TxEnvelope::Eip4844(tx) => TxEnv::from_recovered_tx(tx.tx().tx(), signer),
        TxEnvelope::Eip7702(tx) => TxEnv::from_recovered_tx(tx.tx(), signer),
    }
}

/// EIP-2935: Prague, and Isthmus on the OP stack.
const fn has_hash_history(rules: Rules) -> bool {
    match rules {
        Rules::Ethereum(fork) => fork as u8 >= EthereumFork::Prague as u8,
        Rules::OpStack(fork) => fork as u8 >= OpFork::Isthmus as u8,
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

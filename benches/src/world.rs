//! Rollups to measure on: any number, with the fixture contracts in the state of each, and users who have what they need.
//!
//! Contracts are deployed by executing their constructors, so that they are as they would be on a chain. Users are many: what
//! they own is written into the state where the token keeps it, and tests ask the token whether it agrees.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_primitives::{Address, B256, Bytes, ChainId, Signature, TxKind, U256, address, keccak256};
use alloy_sol_types::{SolCall, SolValue, sol};
use lockstep_building::{Policy, RollupView, SlotView};
use lockstep_messaging::{CctpV1Deployment, Deployments, Facts, RollupDeployments};
use lockstep_primitives::{Price, SignedTx};
use lockstep_simulation::{
    BlockContext, BlockPlan, BlockTx, EthereumFork, ForkSchedule, MemoryState, NextBlock, OpFork, ParentBlock, PendingBlock,
    Rules, SlotRollup, StateView, TxOutcome,
};
use lockstep_testkit::{attesters, builder, calls, deployer, ether, init_code};

use crate::Failed;

/// The most rollups of a world.
pub const MAX_ROLLUPS: usize = 64;
/// The chain id of the first rollup; the others follow.
pub const FIRST_CHAIN: ChainId = 20_001;
/// The CCTP domain of the first rollup; the others follow.
const FIRST_DOMAIN: u32 = 8_001;
/// What a token's pool holds of each of its two tokens, in the smallest unit: a million dollars of six decimals.
pub const POOL_RESERVE: u64 = 1_000_000_000_000;
/// The timestamp of every head, in seconds.
const HEAD_TIME: u64 = 1_800_000_000;
/// Seconds between blocks.
const BLOCK_TIME: u64 = 2;
/// In wei, under Ethereum's rules and on the OP stack.
const BASE_FEE: u64 = 100_000_000;
const OP_BASE_FEE: u64 = 10_000_000;
/// More than any setup takes: the block that the contracts are made in is no block of a chain.
const SETUP_GAS: u64 = 1 << 50;
/// Below the cap that Osaka puts on one transaction (EIP-7825).
const SETUP_TX_GAS: u64 = 8_000_000;
/// How many attesters have to sign.
const THRESHOLD: usize = 2;

const L1_BLOCK: Address = address!("4200000000000000000000000000000000000015");
const SEQUENCER_FEE_VAULT: Address = address!("4200000000000000000000000000000000000011");

/// Where `fixtures/contracts/src/Usdc.sol` keeps balances, allowances and the supply, as the original does.
const BALANCES: u64 = 9;
const ALLOWANCES: u64 = 10;
const SUPPLY: u64 = 11;

mod abi {
    use super::sol;

    sol! {
        function createPair(address a, address b) external returns (address);
        function addLiquidity(address tokenA, address tokenB, uint256 amountA, uint256 amountB, uint256 minA, uint256 minB, address to, uint256 deadline) external returns (uint256, uint256, uint256);
        function swapExactTokensForTokens(uint256 amountIn, uint256 amountOutMin, address[] path, address to, uint256 deadline) external returns (uint256[]);
    }
}

/// Of which kinds the rollups are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kinds {
    /// Ethereum's rules (Prague) and the OP stack's (Isthmus) by turns.
    #[default]
    Mixed,
    /// Ethereum's rules (Prague) only.
    Ethereum,
}

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct WorldSpec {
    /// How many rollups, up to [`MAX_ROLLUPS`].
    pub rollups: usize,
    /// Of which kinds.
    pub kinds: Kinds,
    /// Pools of each rollup, every one of two tokens of its own choice.
    pub pools: usize,
    /// The gas limit of every block of the slot.
    pub gas_limit: u64,
    /// The folder of the real Uniswap v2; our own contracts otherwise.
    pub artifacts: Option<PathBuf>,
}

impl Default for WorldSpec {
    fn default() -> Self {
        Self { rollups: 4, kinds: Kinds::Mixed, pools: 64, gas_limit: 30_000_000, artifacts: None }
    }
}

/// The contracts: the same addresses on every rollup, because one account deploys them in one order.
#[derive(Clone, Debug)]
pub struct Contracts {
    /// The dollar token, the first of the tokens.
    pub usdc: Address,
    /// CCTP: sends and receives messages.
    pub transmitter: Address,
    /// CCTP: users burn here.
    pub messenger: Address,
    /// CCTP: mints and burns.
    pub minter: Address,
    /// Stands for the native asset in pools.
    pub weth: Address,
    /// Creates pools.
    pub factory: Address,
    /// Swaps over pools.
    pub router: Address,
    /// Small effects on demand.
    pub probe: Address,
    /// The tokens of the pools.
    pub tokens: Vec<Address>,
    /// The pools, each as the two tokens that it holds.
    pub pools: Vec<[Address; 2]>,
}

/// One rollup of a world.
#[derive(Clone, Debug)]
struct Site {
    chain: ChainId,
    domain: u32,
    rules: Rules,
    state: MemoryState,
}

/// Rollups with contracts, while users are given what they need.
#[derive(Clone, Debug)]
pub struct World {
    spec: WorldSpec,
    contracts: Contracts,
    sites: Vec<Site>,
}

impl World {
    /// Makes the rollups and their contracts.
    ///
    /// # Errors
    /// When the specification is out of bounds, the artifacts cannot be read, or a contract cannot be deployed.
    pub fn found(spec: WorldSpec) -> Result<Self, Failed> {
        if !(1..=MAX_ROLLUPS).contains(&spec.rollups) {
            return Err(format!("a world has 1 to {MAX_ROLLUPS} rollups, not {}", spec.rollups).into());
        }
        let exchange = Exchange::load(spec.artifacts.as_deref())?;
        let contracts = Contracts::planned(spec.pools);
        let domains: Vec<u32> = (0..spec.rollups as u32).map(|index| FIRST_DOMAIN + index).collect();
        let mut sites = Vec::with_capacity(spec.rollups);
        for (index, domain) in domains.iter().enumerate() {
            let rules = match spec.kinds {
                Kinds::Mixed if index % 2 == 1 => Rules::OpStack(OpFork::Isthmus),
                Kinds::Mixed | Kinds::Ethereum => Rules::Ethereum(EthereumFork::Prague),
            };
            let chain = FIRST_CHAIN + index as u64;
            let others: Vec<u32> = domains.iter().filter(|other| *other != domain).copied().collect();
            let state = genesis(chain, rules, *domain, &others, &contracts, &exchange)
                .map_err(|error| format!("rollup {chain} cannot be founded: {error}"))?;
            sites.push(Site { chain, domain: *domain, rules, state });
        }
        Ok(Self { spec, contracts, sites })
    }

    /// The contracts.
    pub const fn contracts(&self) -> &Contracts {
        &self.contracts
    }

    /// How many rollups there are.
    pub const fn rollups(&self) -> usize {
        self.sites.len()
    }

    /// The rollup at an index, counted in a circle.
    pub fn chain(&self, index: usize) -> ChainId {
        self.sites[index % self.sites.len()].chain
    }

    /// The CCTP domain of the rollup at an index, counted in a circle.
    pub fn domain(&self, index: usize) -> u32 {
        self.sites[index % self.sites.len()].domain
    }

    /// Whom bundles pay.
    pub fn proposer(&self) -> Address {
        builder().address()
    }

    /// Gives an account native funds on the rollup at an index: a thousand units, with its nonce at zero.
    pub fn fund(&mut self, rollup: usize, account: Address) {
        let index = rollup % self.sites.len();
        self.sites[index].state.set_account(account, ether(1_000), 0, Bytes::new());
    }

    /// Gives an account tokens on the rollup at an index, in the token's smallest unit.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn give(&mut self, rollup: usize, token: Address, account: Address, amount: u64) -> Result<(), Failed> {
        let index = rollup % self.sites.len();
        let state = &mut self.sites[index].state;
        for slot in [balance_slot(account), U256::from(SUPPLY)] {
            let before = state.storage(token, slot)?;
            state.set_storage(token, slot, before + U256::from(amount));
        }
        Ok(())
    }

    /// Lets a spender take any amount of an account's tokens on the rollup at an index.
    pub fn allow(&mut self, rollup: usize, token: Address, account: Address, spender: Address) {
        let index = rollup % self.sites.len();
        self.sites[index].state.set_storage(token, allowance_slot(account, spender), U256::MAX);
    }

    /// The slot that is built on these rollups: one block each, everything that attesters sign signed in time.
    pub fn into_view(self) -> SlotView {
        let proposer = self.proposer();
        let attester_addresses: Vec<Address> = attesters().iter().map(|attester| attester.address()).collect();
        let mut rollups = BTreeMap::new();
        let mut deployments = BTreeMap::new();
        for site in self.sites {
            let cctp = CctpV1Deployment {
                domain: site.domain,
                message_transmitter: self.contracts.transmitter,
                attesters: attester_addresses.clone(),
                threshold: THRESHOLD,
            };
            deployments.insert(site.chain, RollupDeployments { cctp_v1: Some(cctp), ..RollupDeployments::default() });
            // On Ethereum tips go to the proposer at once; on the OP stack fees go to vaults, and the terms share all of them.
            let share = if site.rules.is_op_stack() { 10_000 } else { 0 };
            let slot = slot_rollup(site, self.spec.gas_limit, proposer);
            rollups.insert(slot.chain, RollupView::free(Arc::new(slot), Price::PAR, share));
        }
        let policy = Policy {
            protocols: Deployments(deployments).protocols(),
            attesters: attester_addresses.into_iter().collect(),
            // Messages go in all directions between these rollups.
            trusted: rollups.keys().copied().collect(),
            ..Policy::default()
        };
        SlotView { slot: 1, rollups, proposer, policy, facts: Arc::new(Facts::default()) }
    }
}

/// The same slot with another gas limit in every block.
pub fn with_gas_limit(view: &SlotView, gas_limit: u64) -> SlotView {
    let mut view = view.clone();
    for rollup in view.rollups.values_mut() {
        for plan in &mut Arc::make_mut(&mut rollup.slot).blocks {
            plan.next.gas_limit = gas_limit;
        }
    }
    view
}

fn slot_rollup(site: Site, gas_limit: u64, proposer: Address) -> SlotRollup {
    let op_stack = site.rules.is_op_stack();
    // EIP-1559 parameters of Holocene: denominator 250, elasticity 6.
    let extra_data = if op_stack { Bytes::from_static(&[0, 0, 0, 0, 250, 0, 0, 0, 6]) } else { Bytes::new() };
    let parent = ParentBlock {
        hash: keccak256(site.chain.to_be_bytes()),
        number: 100,
        timestamp: HEAD_TIME,
        gas_limit,
        // On target, so that the base fee stays.
        gas_used: if op_stack { gas_limit / 6 } else { gas_limit / 2 },
        base_fee: if op_stack { OP_BASE_FEE } else { BASE_FEE },
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        extra_data: extra_data.clone(),
    };
    let next = NextBlock {
        timestamp: HEAD_TIME + BLOCK_TIME,
        gas_limit,
        beneficiary: if op_stack { SEQUENCER_FEE_VAULT } else { proposer },
        prev_randao: B256::repeat_byte(0x5a),
        parent_beacon_block_root: Some(B256::repeat_byte(0xbe)),
        extra_data,
        ..NextBlock::default()
    };
    SlotRollup {
        chain: site.chain,
        forks: ForkSchedule::always(site.rules),
        parent,
        state: Arc::new(site.state),
        blocks: vec![BlockPlan { next, forced: Vec::new() }],
    }
}

impl Contracts {
    fn planned(pools: usize) -> Self {
        let at = |nonce: u64| deployer().address().create(nonce);
        // As few tokens as have that many pairs.
        let count = (2_usize..).find(|count| count * (count - 1) / 2 >= pools).unwrap_or(2);
        let tokens: Vec<Address> = (0..count as u64).map(|index| if index == 0 { at(0) } else { at(7 + index) }).collect();
        let pairs = (1..count).flat_map(|second| (0..second).map(move |first| (first, second)));
        let pools = pairs.take(pools).map(|(first, second)| [tokens[first], tokens[second]]).collect();
        Self {
            usdc: at(0),
            transmitter: at(1),
            messenger: at(2),
            minter: at(3),
            weth: at(4),
            factory: at(5),
            router: at(6),
            probe: at(7),
            tokens,
            pools,
        }
    }
}

/// The calldata of a swap of tokens along one pool, for the caller and without a deadline.
pub fn swap(path: [Address; 2], amount_in: u64, least_out: u64, to: Address) -> Bytes {
    abi::swapExactTokensForTokensCall {
        amountIn: U256::from(amount_in),
        amountOutMin: U256::from(least_out),
        path: path.to_vec(),
        to,
        deadline: U256::MAX,
    }
    .abi_encode()
    .into()
}

/// What a pool with untouched reserves gives for an amount (Uniswap v2: constant product, fee of 0.3 %).
pub fn quote(amount_in: u64) -> u64 {
    let after_fee = u128::from(amount_in) * 997;
    let reserve = u128::from(POOL_RESERVE);
    // Less than the reserve, which fits.
    u64::try_from(after_fee * reserve / (reserve * 1_000 + after_fee)).unwrap_or(POOL_RESERVE)
}

fn mapping_slot(key: Address, slot: U256) -> U256 {
    keccak256((key, slot).abi_encode()).into()
}

fn balance_slot(account: Address) -> U256 {
    mapping_slot(account, U256::from(BALANCES))
}

fn allowance_slot(account: Address, spender: Address) -> U256 {
    mapping_slot(spender, mapping_slot(account, U256::from(ALLOWANCES)))
}

/// The creation code of an exchange: ours, or the real Uniswap v2.
struct Exchange {
    factory: Bytes,
    router: Bytes,
}

impl Exchange {
    fn load(folder: Option<&Path>) -> Result<Self, Failed> {
        let Some(folder) = folder else {
            return Ok(Self {
                factory: bytecode(include_str!("../../fixtures/contracts/artifacts/PairFactory.json"))?,
                router: bytecode(include_str!("../../fixtures/contracts/artifacts/Router.json"))?,
            });
        };
        let read = |path: &str| {
            let path = folder.join(path);
            let text = fs::read_to_string(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
            bytecode(&text).map_err(|error| Failed::from(format!("{}: {error}", path.display())))
        };
        let factory = read("v2-core/build/UniswapV2Factory.json")?;
        Ok(Self { factory, router: read("v2-periphery/build/UniswapV2Router02.json")? })
    }
}

/// The creation code in an artifact.
fn bytecode(artifact: &str) -> Result<Bytes, Failed> {
    let artifact: serde_json::Value = serde_json::from_str(artifact)?;
    let text = artifact.get("bytecode").and_then(serde_json::Value::as_str).ok_or("the artifact has no bytecode")?;
    Ok(text.parse()?)
}

fn with_arguments(code: &Bytes, arguments: Vec<u8>) -> Bytes {
    let mut code = code.to_vec();
    code.extend(arguments);
    code.into()
}

/// The state of a rollup's head, with contracts and without users.
fn genesis(
    chain: ChainId,
    rules: Rules,
    domain: u32,
    others: &[u32],
    contracts: &Contracts,
    exchange: &Exchange,
) -> Result<MemoryState, Failed> {
    let mut state = MemoryState::new();
    let owner = deployer().address();
    state.set_account(owner, ether(1_000_000), 0, Bytes::new());
    if rules.is_op_stack() {
        put_l1_block(&mut state);
    }
    let mut setup = Setup::open(chain, rules, &state)?;
    let first_attester = attesters().first().map(|attester| attester.address()).unwrap_or_default();
    let created = [
        (contracts.usdc, init_code::usdc(owner)),
        (contracts.transmitter, init_code::transmitter(domain, first_attester)),
        (contracts.messenger, init_code::messenger(contracts.transmitter)),
        (contracts.minter, init_code::minter(owner)),
        (contracts.weth, bytecode(include_str!("../../fixtures/contracts/artifacts/WrappedEther.json"))?),
        (contracts.factory, with_arguments(&exchange.factory, owner.abi_encode())),
        (contracts.router, with_arguments(&exchange.router, (contracts.factory, contracts.weth).abi_encode_params())),
        (contracts.probe, bytecode(include_str!("../../fixtures/contracts/artifacts/Probe.json"))?),
    ];
    let tokens = contracts.tokens.iter().skip(1).map(|token| (*token, init_code::usdc(owner)));
    for (planned, code) in created.into_iter().chain(tokens) {
        let found = setup.create(code)?;
        if found != Some(planned) {
            return Err(format!("a contract was created at {found:?} instead of {planned}").into());
        }
    }
    bridge(&mut setup, others, contracts)?;
    exchange_tokens(&mut setup, contracts)?;
    state.apply(&setup.block.state().changes()?);
    state.set_account(builder().address(), ether(1_000_000), 0, Bytes::new());
    Ok(state)
}

/// Wires CCTP to all other rollups.
fn bridge(setup: &mut Setup, others: &[u32], contracts: &Contracts) -> Result<(), Failed> {
    let Contracts { usdc, transmitter, messenger, minter, .. } = *contracts;
    for attester in attesters().iter().skip(1) {
        setup.call(transmitter, calls::enable_attester(attester.address()))?;
    }
    setup.call(transmitter, calls::set_signature_threshold(THRESHOLD as u64))?;
    setup.call(messenger, calls::add_local_minter(minter))?;
    setup.call(minter, calls::add_local_token_messenger(messenger))?;
    setup.call(minter, calls::set_max_burn_amount(usdc, u64::MAX))?;
    setup.call(usdc, calls::configure_minter(minter, u64::MAX))?;
    for domain in others {
        setup.call(messenger, calls::add_remote_token_messenger(*domain, messenger))?;
        setup.call(minter, calls::link_token_pair(usdc, *domain, usdc))?;
    }
    Ok(())
}

/// Creates the pools and fills them.
fn exchange_tokens(setup: &mut Setup, contracts: &Contracts) -> Result<(), Failed> {
    let owner = deployer().address();
    for token in &contracts.tokens {
        let pools = contracts.pools.iter().filter(|pool| pool.contains(token)).count() as u64;
        if pools > 0 {
            setup.call(*token, calls::configure_minter(owner, pools * POOL_RESERVE))?;
            setup.call(*token, calls::mint(owner, pools * POOL_RESERVE))?;
            setup.call(*token, calls::approve_all(contracts.router))?;
        }
    }
    for [token_a, token_b] in &contracts.pools {
        setup.call(contracts.factory, abi::createPairCall { a: *token_a, b: *token_b }.abi_encode().into())?;
        let amount = U256::from(POOL_RESERVE);
        let fill = abi::addLiquidityCall {
            tokenA: *token_a,
            tokenB: *token_b,
            amountA: amount,
            amountB: amount,
            minA: amount,
            minB: amount,
            to: owner,
            deadline: U256::MAX,
        };
        setup.call(contracts.router, fill.abi_encode().into())?;
    }
    Ok(())
}

/// The L1Block predeploy: what L1 data costs, in the storage layout of Ecotone and later.
fn put_l1_block(state: &mut MemoryState) {
    let mut fee_scalars = [0_u8; 32];
    fee_scalars[16..20].copy_from_slice(&5_227_u32.to_be_bytes());
    fee_scalars[20..24].copy_from_slice(&1_014_213_u32.to_be_bytes());
    // STOP.
    state.set_account(L1_BLOCK, U256::ZERO, 1, Bytes::from_static(&[0]));
    for (slot, value) in
        [(1_u64, U256::from(1_000_000_000_u64)), (3, U256::from_be_bytes(fee_scalars)), (7, U256::from(1_000_000_u64))]
    {
        state.set_storage(L1_BLOCK, U256::from(slot), value);
    }
}

/// Runs the deployer's transactions in a block in which gas is free.
#[derive(Debug)]
struct Setup {
    chain: ChainId,
    nonce: u64,
    block: PendingBlock,
}

impl Setup {
    fn open(chain: ChainId, rules: Rules, state: &MemoryState) -> Result<Self, Failed> {
        let context = BlockContext {
            chain,
            rules,
            parent_hash: B256::ZERO,
            number: 1,
            timestamp: 1,
            gas_limit: SETUP_GAS,
            base_fee: 0,
            beneficiary: Address::ZERO,
            prev_randao: B256::ZERO,
            parent_beacon_block_root: None,
            excess_blob_gas: Some(0),
            extra_data: Bytes::new(),
            data: Default::default(),
            encrypted_gas: 0,
            deposits_only: false,
        };
        Ok(Self { chain, nonce: 0, block: PendingBlock::open(context, Arc::new(state.clone()))? })
    }

    fn create(&mut self, code: Bytes) -> Result<Option<Address>, Failed> {
        Ok(self.run(TxKind::Create, code)?.created)
    }

    fn call(&mut self, to: Address, data: Bytes) -> Result<(), Failed> {
        self.run(TxKind::Call(to), data).map(|_| ())
    }

    fn run(&mut self, to: TxKind, input: Bytes) -> Result<TxOutcome, Failed> {
        let tx = TxEip1559 {
            chain_id: self.chain,
            nonce: self.nonce,
            gas_limit: SETUP_TX_GAS,
            max_fee_per_gas: 0,
            max_priority_fee_per_gas: 0,
            to,
            value: U256::ZERO,
            access_list: Default::default(),
            input,
        };
        let index = self.nonce;
        self.nonce += 1;
        // Nobody looks at the signature: the signer is given.
        let signature = Signature::new(U256::from(1), U256::from(1), false);
        let tx = SignedTx::from_parts(TxEnvelope::from(tx.into_signed(signature)), deployer().address());
        let executed = self.block.execute(&BlockTx::Signed(Arc::new(tx)))?;
        let outcome =
            executed.map_err(|reason| format!("setup transaction {index} is invalid: {reason}"))?.outcome.as_ref().clone();
        if outcome.succeeded() {
            Ok(outcome)
        } else {
            Err(format!("setup transaction {index} to {to:?} failed: {:?} {}", outcome.status, outcome.output).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use lockstep_building::open_lanes;
    use lockstep_simulation::{CallRequest, call};

    use super::*;

    sol! {
        function allowance(address owner, address spender) external view returns (uint256);
        function totalSupply() external view returns (uint256);
        function getAmountsOut(uint256 amountIn, address[] path) external view returns (uint256[]);
    }

    /// What a call of a contract answers on the rollup at an index.
    fn read(view: &SlotView, rollup: usize, to: Address, data: Bytes) -> Bytes {
        let chain = FIRST_CHAIN + rollup as u64;
        let lanes = open_lanes(view, &[chain].into()).unwrap();
        let block = lanes[&chain].block();
        let outcome = call(block.context(), block.state(), &CallRequest::read(to, data, 500_000)).unwrap().unwrap();
        assert!(outcome.succeeded(), "{:?} {}", outcome.status, outcome.output);
        outcome.output
    }

    fn number(output: &Bytes) -> U256 {
        U256::from_be_slice(output)
    }

    #[test]
    fn tokens_agree_with_what_was_written_into_their_storage() {
        let mut world = World::found(WorldSpec { rollups: 2, pools: 1, ..WorldSpec::default() }).unwrap();
        let contracts = world.contracts().clone();
        let (account, spender) = (Address::repeat_byte(1), Address::repeat_byte(2));
        for rollup in 0..2 {
            world.give(rollup, contracts.usdc, account, 1_234).unwrap();
            world.allow(rollup, contracts.usdc, account, spender);
        }
        let view = world.into_view();
        for rollup in 0..2 {
            let ask = |data: Bytes| number(&read(&view, rollup, contracts.usdc, data));
            assert_eq!(ask(calls::balance_of(account)), U256::from(1_234));
            assert_eq!(ask(allowanceCall { owner: account, spender }.abi_encode().into()), U256::MAX);
            assert_eq!(ask(totalSupplyCall {}.abi_encode().into()), U256::from(POOL_RESERVE + 1_234));
        }
    }

    #[test]
    fn pools_are_full_and_quote_what_is_expected_of_them() {
        let world = World::found(WorldSpec { rollups: 2, pools: 4, ..WorldSpec::default() }).unwrap();
        let contracts = world.contracts().clone();
        assert_eq!((contracts.pools.len(), contracts.tokens.len()), (4, 4));
        let view = world.into_view();
        for rollup in 0..2 {
            for pool in &contracts.pools {
                let data = getAmountsOutCall { amountIn: U256::from(5_000_000), path: pool.to_vec() }.abi_encode();
                let output = read(&view, rollup, contracts.router, data.into());
                let amounts = getAmountsOutCall::abi_decode_returns(&output).unwrap();
                assert_eq!(amounts.last().copied(), Some(U256::from(quote(5_000_000))));
            }
        }
    }

    #[test]
    fn a_world_of_no_rollups_or_too_many_is_refused() {
        for rollups in [0, MAX_ROLLUPS + 1] {
            let error = World::found(WorldSpec { rollups, pools: 0, ..WorldSpec::default() }).unwrap_err().to_string();
            assert!(error.contains(&rollups.to_string()), "{error}");
        }
    }

    #[test]
    fn artifacts_that_are_not_there_are_named() {
        let artifacts = Some(PathBuf::from("/nowhere"));
        let error = World::found(WorldSpec { artifacts, ..WorldSpec::default() }).unwrap_err().to_string();
        assert!(error.contains("UniswapV2Factory.json"), "{error}");
    }
}

//! Worlds: a few rollups of different kinds, ready to build a slot on.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use alloy_primitives::{Address, B256, Bytes, TxKind, U256, address, keccak256};
use lockstep_building::{Policy, RollupView, SlotView};
use lockstep_messaging::{CctpV1Deployment, Deployments, Facts, RollupDeployments};
use lockstep_primitives::{ChainId, OrderingPolicy, Price, RollupSet, SignedTx};
use lockstep_simulation::{
    BlockPlan, BlockTx, Deposit, EthereumFork, ForkSchedule, MemoryState, NextBlock, OpFork, ParentBlock, Rules, SlotRollup,
};
use op_alloy::consensus::TxDeposit;

use crate::{
    accounts::{Call, GWEI, USERS, attesters, builder, deployer, ether, user},
    contracts::{Contracts, calls, init_code, probe_code},
    protocols,
    setup::Deployer,
};

/// The rollup with Ethereum's Shanghai rules. Its proposer is the fee recipient already, and the terms share nothing else.
pub const SHANGHAI: ChainId = 7_001;
/// The rollup with Ethereum's Cancun rules. Fees go to somebody else, who shares half of them.
pub const CANCUN: ChainId = 7_002;
/// The rollup with Ethereum's Prague rules. Its proposer is the fee recipient.
pub const PRAGUE: ChainId = 7_003;
/// The rollup with Ethereum's Osaka rules. Fees go to somebody else, who passes all of them on.
pub const OSAKA: ChainId = 7_004;
/// The OP-stack rollup with Isthmus rules. Each block begins with an L1-attributes deposit; all fees are shared.
pub const ISTHMUS: ChainId = 7_005;
/// The OP-stack rollup with Jovian rules. Nothing is forced, data is dear, and a quarter of the fees is shared.
pub const JOVIAN: ChainId = 7_006;

/// The probe, on every rollup.
pub const PROBE: Address = address!("000000000000000000000000000000000000b0be");
/// One dollar in the smallest unit of USDC.
pub const USD: u64 = 1_000_000;
/// What the shop asks for a token, in the smallest unit of USDC.
pub const NFT_PRICE: u64 = 15 * USD;
/// What a traveller has on the first rollup of a world, and nowhere else, in the smallest unit of USDC.
pub const TRAVELLER_USDC: u64 = 100 * USD;
/// The timestamp of every head, in seconds.
pub const GENESIS_TIME: u64 = 1_800_000_000;
/// The time between the blocks of a slot, in seconds.
pub const BLOCK_TIME: u64 = 2;

/// What the other users have on every rollup.
const RESIDENT_USDC: u64 = 1_000 * USD;
/// Users from this number on are travellers.
const FIRST_TRAVELLER: usize = 4;
/// The user who can pay for the gas of one plain transfer and no more.
const PAUPER: usize = 6;
const GAS_LIMIT: u64 = 30_000_000;
const CALL_GAS: u64 = 300_000;
/// CCTP's domains are not chain ids, and not in the order of chain ids.
const DOMAINS: [u32; 4] = [0, 6, 3, 11];

const L1_BLOCK: Address = address!("4200000000000000000000000000000000000015");
const SEQUENCER_FEE_VAULT: Address = address!("4200000000000000000000000000000000000011");
const DEPOSITOR: Address = address!("DeaDDEaDDeAdDeAdDEAdDEaddeAddEAdDEAd0001");
const SOMEBODY_ELSE: Address = Address::repeat_byte(0xfe);

/// What makes a rollup what it is.
#[derive(Clone, Copy, Debug)]
struct Kind {
    chain: ChainId,
    rules: Rules,
    beneficiary: Beneficiary,
    /// Whether each block begins with a deposit.
    forced: bool,
    /// In wei.
    base_fee: u64,
    fee_share_bps: u64,
    /// The price of the native asset, in percent of one to one.
    price_percent: u64,
}

#[derive(Clone, Copy, Debug)]
enum Beneficiary {
    Proposer,
    SomebodyElse,
    Vault,
}

const KINDS: [Kind; 6] = [
    Kind {
        chain: SHANGHAI,
        rules: Rules::Ethereum(EthereumFork::Shanghai),
        beneficiary: Beneficiary::Proposer,
        forced: false,
        base_fee: 1_000_000_000,
        fee_share_bps: 0,
        price_percent: 300,
    },
    Kind {
        chain: CANCUN,
        rules: Rules::Ethereum(EthereumFork::Cancun),
        beneficiary: Beneficiary::SomebodyElse,
        forced: false,
        base_fee: 1_000_000_000,
        fee_share_bps: 5_000,
        price_percent: 100,
    },
    Kind {
        chain: PRAGUE,
        rules: Rules::Ethereum(EthereumFork::Prague),
        beneficiary: Beneficiary::Proposer,
        forced: false,
        base_fee: 1_000_000_000,
        fee_share_bps: 10_000,
        price_percent: 100,
    },
    Kind {
        chain: OSAKA,
        rules: Rules::Ethereum(EthereumFork::Osaka),
        beneficiary: Beneficiary::SomebodyElse,
        forced: false,
        base_fee: 700_000_000,
        fee_share_bps: 10_000,
        price_percent: 100,
    },
    Kind {
        chain: ISTHMUS,
        rules: Rules::OpStack(OpFork::Isthmus),
        beneficiary: Beneficiary::Vault,
        forced: true,
        base_fee: 100_000_000,
        fee_share_bps: 10_000,
        price_percent: 100,
    },
    Kind {
        chain: JOVIAN,
        rules: Rules::OpStack(OpFork::Jovian),
        beneficiary: Beneficiary::Vault,
        forced: false,
        base_fee: 250_000_000,
        fee_share_bps: 2_500,
        price_percent: 50,
    },
];

static PAIR: LazyLock<World> = LazyLock::new(|| World::found(&[PRAGUE, ISTHMUS]));
static TRIO: LazyLock<World> = LazyLock::new(|| World::found(&[CANCUN, ISTHMUS, JOVIAN]));
static QUARTET: LazyLock<World> = LazyLock::new(|| World::found(&[SHANGHAI, OSAKA, ISTHMUS, JOVIAN]));

/// A few rollups with funded accounts and contracts, and a slot with one block on each.
///
/// Cloning is cheap: the states are shared.
#[derive(Clone, Debug)]
pub struct World {
    kinds: Vec<Kind>,
    /// The slot, ready to build on.
    pub view: SlotView,
    /// The contracts by rollup.
    pub contracts: BTreeMap<ChainId, Contracts>,
    /// Where the message protocols are.
    pub deployments: Deployments,
}

impl World {
    /// [`PRAGUE`] and [`ISTHMUS`].
    pub fn pair() -> Self {
        PAIR.clone()
    }

    /// [`CANCUN`], [`ISTHMUS`] and [`JOVIAN`].
    pub fn trio() -> Self {
        TRIO.clone()
    }

    /// [`SHANGHAI`], [`OSAKA`], [`ISTHMUS`] and [`JOVIAN`].
    pub fn quartet() -> Self {
        QUARTET.clone()
    }

    /// A world of that many rollups: two, three or four.
    ///
    /// # Panics
    /// With any other number.
    pub fn of(rollups: usize) -> Self {
        match rollups {
            2 => Self::pair(),
            3 => Self::trio(),
            4 => Self::quartet(),
            other => panic!("there is no world of {other} rollups"),
        }
    }

    /// Makes the genesis states, which takes a while.
    fn found(chains: &[ChainId]) -> Self {
        let kinds: Vec<Kind> = KINDS.iter().filter(|kind| chains.contains(&kind.chain)).copied().collect();
        let planned: Vec<Contracts> =
            (0..kinds.len()).map(|index| Contracts::planned(DOMAINS[index], first_nonce(index))).collect();
        let mut rollups = BTreeMap::new();
        let mut contracts = BTreeMap::new();
        let mut deployments = BTreeMap::new();
        for (index, kind) in kinds.iter().enumerate() {
            let slot = SlotRollup {
                chain: kind.chain,
                forks: ForkSchedule::always(kind.rules),
                parent: kind.head(index),
                state: Arc::new(genesis(kind, index, chains, &planned)),
                blocks: kind.plans(1, GAS_LIMIT),
            };
            let price = Price(U256::from(10_u64).pow(U256::from(16_u64)) * U256::from(kind.price_percent));
            let view = RollupView::free(Arc::new(slot), price, kind.fee_share_bps);
            rollups.insert(kind.chain, view);
            contracts.insert(kind.chain, planned[index]);
            let deployment = CctpV1Deployment {
                domain: planned[index].domain,
                message_transmitter: planned[index].transmitter,
                attesters: attesters().iter().map(|attester| attester.address()).collect(),
                threshold: 2,
            };
            let others = kinds.iter().map(|kind| kind.chain).filter(|chain| *chain != kind.chain);
            let rollup = RollupDeployments { cctp_v1: Some(deployment), ..planned[index].protocols.deployments(others) };
            deployments.insert(kind.chain, rollup);
        }
        let deployments = Deployments(deployments);
        let attesters = attesters().iter().map(|attester| attester.address()).collect();
        let policy = Policy { protocols: deployments.protocols(), attesters, max_passes: 64, ..Policy::default() };
        let facts = Facts { exits: protocols::exits(kinds.iter().map(|kind| kind.chain)), ..Facts::default() };
        let view = SlotView { slot: 1, rollups, proposer: builder().address(), policy, facts: Arc::new(facts) };
        Self { kinds, view, contracts, deployments }
    }

    /// The same world where the slot has that many blocks of `chain`.
    pub fn with_blocks(mut self, chain: ChainId, count: usize) -> Self {
        let kind = self.kinds.iter().find(|kind| kind.chain == chain).copied();
        if let Some((kind, rollup)) = kind.zip(self.view.rollups.get_mut(&chain)) {
            let slot = Arc::make_mut(&mut rollup.slot);
            let gas_limit = slot.blocks.first().map_or(GAS_LIMIT, |plan| plan.next.gas_limit);
            slot.blocks = kind.plans(count, gas_limit);
        }
        self
    }

    /// The same world with another gas limit in every block of the slot.
    pub fn with_gas_limit(mut self, gas_limit: u64) -> Self {
        for rollup in self.view.rollups.values_mut() {
            for plan in &mut Arc::make_mut(&mut rollup.slot).blocks {
                plan.next.gas_limit = gas_limit;
            }
        }
        self
    }

    /// The same world where every rollup keeps gas of the slot's last block for encrypted transactions.
    pub fn with_encrypted_gas(mut self, encrypted_gas: u64) -> Self {
        for rollup in self.view.rollups.values_mut() {
            if let Some(last) = Arc::make_mut(&mut rollup.slot).blocks.last_mut() {
                last.next.encrypted_gas = encrypted_gas;
            }
        }
        self
    }

    /// The same world where the attester trusts these sequencers to vote before evidence is held back.
    pub fn trusting(mut self, chains: impl IntoIterator<Item = ChainId>) -> Self {
        self.view.policy.trusted = chains.into_iter().collect();
        self
    }

    /// The same world where the blocks of `chain` may hold transactions in this order only.
    pub fn ordered(mut self, chain: ChainId, policy: OrderingPolicy) -> Self {
        if let Some(rollup) = self.view.rollups.get_mut(&chain) {
            rollup.ordering = policy;
        }
        self
    }

    /// The same world where the sequencer of `chain` saw a transaction at that time, in Unix milliseconds.
    pub fn saw(mut self, chain: ChainId, tx: &SignedTx, at_ms: u64) -> Self {
        if let Some(rollup) = self.view.rollups.get_mut(&chain) {
            rollup.arrivals.insert(tx.hash(), at_ms);
        }
        self
    }

    /// The same world where the sequencer of `chain` does not let its lists leave these out.
    pub fn demanding(mut self, chain: ChainId, txs: impl IntoIterator<Item = Arc<SignedTx>>) -> Self {
        if let Some(rollup) = self.view.rollups.get_mut(&chain) {
            rollup.inclusion.extend(txs);
        }
        self
    }

    /// The rollups.
    pub fn rollups(&self) -> RollupSet {
        self.view.rollups.keys().copied().collect()
    }

    /// The rollup at an index in the order of chain ids, counted in a circle.
    pub fn chain(&self, index: usize) -> ChainId {
        self.kinds[index % self.kinds.len()].chain
    }

    /// The number of the head of a rollup.
    ///
    /// # Panics
    /// When the world has no such rollup.
    pub fn head(&self, chain: ChainId) -> u64 {
        self.view.rollups[&chain].slot.parent.number
    }

    /// Whom bundles pay.
    pub const fn proposer(&self) -> Address {
        self.view.proposer
    }

    /// A call of the probe.
    pub fn probe(&self, data: Bytes) -> Call {
        Call::contract(PROBE, data, 100_000)
    }

    /// Pays the proposer.
    pub fn pay_proposer(&self, value: U256) -> Call {
        Call::pay(self.proposer(), value)
    }

    /// Burns USDC on `from`, to be minted for `recipient` on `to`. Anyone may deliver the message.
    ///
    /// # Panics
    /// When the world has no such rollup.
    pub fn burn(&self, from: ChainId, amount: u64, to: ChainId, recipient: Address) -> Call {
        let origin = &self.contracts[&from];
        let data = calls::deposit_for_burn(amount, self.contracts[&to].domain, recipient, origin.usdc);
        Call::contract(origin.messenger, data, CALL_GAS)
    }

    /// As [`World::burn`], but only `caller` may deliver the message.
    ///
    /// # Panics
    /// When the world has no such rollup.
    pub fn burn_for_caller(&self, from: ChainId, amount: u64, to: ChainId, recipient: Address, caller: Address) -> Call {
        let origin = &self.contracts[&from];
        let domain = self.contracts[&to].domain;
        let data = calls::deposit_for_burn_with_caller(amount, domain, recipient, origin.usdc, caller);
        Call::contract(origin.messenger, data, CALL_GAS)
    }

    /// Moves USDC.
    ///
    /// # Panics
    /// When the world has no such rollup.
    pub fn send_usdc(&self, chain: ChainId, to: Address, amount: u64) -> Call {
        Call::contract(self.contracts[&chain].usdc, calls::token_transfer(to, amount), CALL_GAS)
    }

    /// Buys a token in the shop, for [`NFT_PRICE`].
    ///
    /// # Panics
    /// When the world has no such rollup.
    pub fn buy(&self, chain: ChainId, token_id: u64) -> Call {
        Call::contract(self.contracts[&chain].shop, calls::buy(token_id), CALL_GAS)
    }
}

impl Kind {
    /// The head: its gas is on target, so that the next block has the same base fee.
    fn head(&self, index: usize) -> ParentBlock {
        ParentBlock {
            hash: keccak256(self.chain.to_be_bytes()),
            number: 100 * (index as u64 + 1),
            timestamp: GENESIS_TIME,
            gas_limit: GAS_LIMIT,
            gas_used: if self.rules.is_op_stack() { GAS_LIMIT / 6 } else { GAS_LIMIT / 2 },
            base_fee: self.base_fee,
            blob_gas_used: Some(0),
            excess_blob_gas: Some(0),
            extra_data: self.extra_data(),
        }
    }

    fn plans(&self, count: usize, gas_limit: u64) -> Vec<BlockPlan> {
        (1..=count as u64).map(|number| self.plan(number, gas_limit)).collect()
    }

    fn plan(&self, number: u64, gas_limit: u64) -> BlockPlan {
        let forced = if self.forced { vec![attributes_deposit(self.chain, number)] } else { Vec::new() };
        let next = NextBlock {
            timestamp: GENESIS_TIME + BLOCK_TIME * number,
            gas_limit,
            beneficiary: match self.beneficiary {
                Beneficiary::Proposer => builder().address(),
                Beneficiary::SomebodyElse => SOMEBODY_ELSE,
                Beneficiary::Vault => SEQUENCER_FEE_VAULT,
            },
            prev_randao: B256::from(U256::from(number)),
            parent_beacon_block_root: Some(B256::repeat_byte(0xbe)),
            extra_data: self.extra_data(),
            ..NextBlock::default()
        };
        BlockPlan { next, forced }
    }

    /// EIP-1559 parameters of the OP stack: denominator 250, elasticity 6, and from Jovian on a minimum base fee of zero.
    fn extra_data(&self) -> Bytes {
        match self.rules {
            Rules::Ethereum(_) => Bytes::new(),
            Rules::OpStack(fork) if fork < OpFork::Holocene => Bytes::new(),
            Rules::OpStack(fork) if fork < OpFork::Jovian => Bytes::from_static(&[0, 0, 0, 0, 250, 0, 0, 0, 6]),
            Rules::OpStack(_) => Bytes::from_static(&[1, 0, 0, 0, 250, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0]),
        }
    }
}

/// Deployers begin at different nonces, so that no contract has the same address on two rollups.
const fn first_nonce(index: usize) -> u64 {
    100 * (index as u64 + 1)
}

/// What the rollup's derivation forces to the front of a block. The predeploy's code does nothing: the fee scalars are in
/// genesis.
fn attributes_deposit(chain: ChainId, number: u64) -> BlockTx {
    let deposit = TxDeposit {
        source_hash: keccak256([chain.to_be_bytes(), number.to_be_bytes()].concat()),
        from: DEPOSITOR,
        to: TxKind::Call(L1_BLOCK),
        mint: 0,
        value: U256::ZERO,
        gas_limit: 100_000,
        is_system_transaction: false,
        input: Bytes::from_static(&[0x09, 0x89, 0x99, 0xbe]),
    };
    BlockTx::Deposit(Arc::new(Deposit::new(deposit)))
}

/// The L1Block predeploy with its packed fee scalars.
fn put_l1_block(state: &mut MemoryState) {
    let mut fee_scalars = [0_u8; 32];
    fee_scalars[16..20].copy_from_slice(&5_227_u32.to_be_bytes());
    fee_scalars[20..24].copy_from_slice(&1_014_213_u32.to_be_bytes());
    let mut operator = [0_u8; 32];
    // A footprint far above the usual 400 a byte, so that small blocks are short of data room before they are short of gas.
    operator[18..20].copy_from_slice(&2_000_u16.to_be_bytes());
    operator[20..24].copy_from_slice(&20_u32.to_be_bytes());
    operator[24..32].copy_from_slice(&1_000_u64.to_be_bytes());
    // STOP.
    state.set_account(L1_BLOCK, U256::ZERO, 1, Bytes::from_static(&[0]));
    let slots = [
        (1_u64, U256::from(10 * GWEI)),
        (3, U256::from_be_bytes(fee_scalars)),
        (7, U256::from(1_000_000_u64)),
        (8, U256::from_be_bytes(operator)),
    ];
    for (slot, value) in slots {
        state.set_storage(L1_BLOCK, U256::from(slot), value);
    }
}

/// The state of a rollup's head: contracts deployed and linked with those of all other rollups, users funded and their
/// allowances given, with all their nonces still at zero.
fn genesis(kind: &Kind, index: usize, chains: &[ChainId], contracts: &[Contracts]) -> MemoryState {
    let mut state = MemoryState::new();
    state.set_account(deployer().address(), ether(1_000), first_nonce(index), Bytes::new());
    state.set_account(PROBE, U256::ZERO, 1, probe_code());
    contracts[index].protocols.put(&mut state);
    for number in 0..USERS {
        state.set_account(user(number).address(), ether(1_000), 0, Bytes::new());
    }
    if kind.rules.is_op_stack() {
        put_l1_block(&mut state);
    }
    let mut setup = Deployer::open(kind.chain, kind.rules, &state);
    deploy(&mut setup, index, contracts);
    for (chain, far) in chains.iter().zip(contracts).filter(|(chain, _)| **chain != kind.chain) {
        contracts[index].protocols.peer(&mut setup, *chain, &far.protocols);
    }
    fund(&mut setup, index, &contracts[index]);
    state.apply(&setup.finish());
    for number in 0..USERS {
        let balance = if number == PAUPER { U256::from(500_000 * GWEI) } else { ether(1_000) };
        state.set_account(user(number).address(), balance, 0, Bytes::new());
    }
    state.set_account(builder().address(), ether(1_000), index as u64, Bytes::new());
    state
}

fn deploy(setup: &mut Deployer, index: usize, contracts: &[Contracts]) {
    let owner = deployer();
    let here = &contracts[index];
    let first_attester = attesters()[0].address();
    let created = [
        (here.usdc, init_code::usdc(owner.address())),
        (here.transmitter, init_code::transmitter(here.domain, first_attester)),
        (here.messenger, init_code::messenger(here.transmitter)),
        (here.minter, init_code::minter(owner.address())),
        (here.shop, init_code::shop(here.usdc, NFT_PRICE)),
    ];
    for (planned, code) in created {
        assert_eq!(setup.create(owner, code), planned, "contracts are created in the order of their planned addresses");
    }
    let others: Vec<&Contracts> = contracts.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, it)| it).collect();
    here.protocols.deploy(setup, here, &others);
    for attester in &attesters()[1..] {
        setup.call(owner, here.transmitter, calls::enable_attester(attester.address()));
    }
    setup.call(owner, here.transmitter, calls::set_signature_threshold(2));
    setup.call(owner, here.messenger, calls::add_local_minter(here.minter));
    setup.call(owner, here.minter, calls::add_local_token_messenger(here.messenger));
    setup.call(owner, here.minter, calls::set_max_burn_amount(here.usdc, 1_000_000 * USD));
    setup.call(owner, here.usdc, calls::configure_minter(here.minter, 1_000_000 * USD));
    setup.call(owner, here.usdc, calls::configure_minter(owner.address(), 1_000_000 * USD));
    for (other, there) in contracts.iter().enumerate() {
        if other != index {
            setup.call(owner, here.messenger, calls::add_remote_token_messenger(there.domain, there.messenger));
            setup.call(owner, here.minter, calls::link_token_pair(here.usdc, there.domain, there.usdc));
        }
    }
}

fn fund(setup: &mut Deployer, index: usize, here: &Contracts) {
    for number in 0..USERS {
        let key = user(number);
        let dollars = match number {
            resident if resident < FIRST_TRAVELLER => RESIDENT_USDC,
            _ if index == 0 => TRAVELLER_USDC,
            _ => 0,
        };
        if dollars > 0 {
            setup.call(deployer(), here.usdc, calls::mint(key.address(), dollars));
        }
        here.protocols.fund(setup, key);
        for spender in [here.messenger, here.shop, here.protocols.v2_messenger, here.protocols.bridge] {
            setup.call(key, here.usdc, calls::approve_all(spender));
        }
    }
}

//! The same order flow for both sides: transfers, alone and in bundles, on a host and a rollup.

use std::{collections::BTreeMap, sync::Arc};

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_primitives::{Address, B256, Bytes, ChainId, TxKind, U256, keccak256};
use lockstep_building::{Candidate, Policy, RollupView, SlotView, open_lanes};
use lockstep_messaging::Facts;
use lockstep_primitives::{Bundle, Leg, LegTx, Price, RevertMode, RollupSet, SignedTx};
use lockstep_simulation::{
    BlockPlan, EthereumFork, ForkSchedule, MemoryState, NextBlock, ParentBlock, Rules, SlotRollup, StateView,
};
use lockstep_testkit::{builder, ether};
use rayon::prelude::*;

use crate::{
    Failed,
    rng::Rng,
    workload::users::{User, derive},
};

use super::wire::{Account, Chain, Item, Workload};

/// The chain that the rollup belongs to.
pub(super) const HOST: ChainId = 30_001;
/// The rollup.
pub(super) const ROLLUP: ChainId = 30_002;

/// A transfer uses all of it.
const TRANSFER_GAS: u64 = 21_000;
/// The least gas limit of a block, for a chain on which nothing happens.
const LEAST_GAS: u64 = 100_000;
/// In wei for a unit of gas.
const BASE_FEE: u64 = 100_000_000;
const GWEI: u64 = 1_000_000_000;
/// What everyone pays for a unit of gas before the tip, in wei: far above the base fee.
const FEE_CAP: u128 = 20_000_000_000;
/// The timestamp of both heads, in seconds.
const HEAD_TIME: u64 = 1_800_000_000;
/// Seconds between blocks.
const BLOCK_TIME: u64 = 12;

/// What is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Transfers, one by one.
    Transfers,
    /// Bundles of three transfers of one sender on the rollup.
    Bundles,
    /// Bundles of three transfers of one sender: one on the host and two on the rollup.
    HostAndRollup,
}

impl Shape {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Transfers, Self::Bundles, Self::HostAndRollup];

    /// In words.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Transfers => "transfers",
            Self::Bundles => "bundles of 3 transfers on one chain",
            Self::HostAndRollup => "bundles of 1 transfer on the host and 2 on the rollup",
        }
    }

    /// The transactions of an item, chain by chain.
    const fn transactions(self) -> [(ChainId, u64); 2] {
        match self {
            Self::Transfers => [(HOST, 0), (ROLLUP, 1)],
            Self::Bundles => [(HOST, 0), (ROLLUP, 3)],
            Self::HostAndRollup => [(HOST, 1), (ROLLUP, 2)],
        }
    }
}

/// Bundles, the slot that they are for, and the state that it is built on.
#[derive(Debug)]
pub(super) struct OrderFlow {
    shape: Shape,
    /// Of both chains.
    state: MemoryState,
    pub(super) view: Arc<SlotView>,
    /// In the order of arrival.
    pub(super) candidates: Vec<Candidate>,
}

impl OrderFlow {
    /// Draws items of one shape. There is room for `room` thousandths of the gas that they take.
    ///
    /// # Errors
    /// When they cannot be signed.
    pub(super) fn draw(shape: Shape, items: usize, room: u64, seed: u64) -> Result<Self, Failed> {
        let users = derive(items)?;
        let mut rng = Rng::new(seed);
        let planned: Vec<Vec<TxEip1559>> = (0..items).map(|item| plan(shape, item, &mut rng)).collect();
        let candidates: Vec<Candidate> = planned
            .par_iter()
            .zip(&users)
            .enumerate()
            .map(|(index, (planned, user))| {
                let bundle = sign(shape, planned, user)?;
                Ok(Candidate { hash: bundle.hash(), bundle: Arc::new(bundle), sequence: index as u64 })
            })
            .collect::<Result<_, Failed>>()?;

        let state = genesis(&users);
        let shared: Arc<dyn StateView> = Arc::new(state.clone());
        let rollups = shape.transactions().into_iter().map(|(chain, transactions)| {
            let gas = items as u64 * transactions * TRANSFER_GAS * room / 1_000;
            let slot = slot_rollup(chain, gas.max(LEAST_GAS), Arc::clone(&shared));
            // Tips go to the proposer at once, and base fees are burnt.
            (chain, RollupView::free(Arc::new(slot), Price::PAR, 0))
        });
        let view = SlotView {
            slot: 1,
            rollups: rollups.collect(),
            proposer: builder().address(),
            policy: Policy::default(),
            facts: Arc::new(Facts::default()),
        };
        Ok(Self { shape, state, view: Arc::new(view), candidates })
    }

    /// Both chains.
    pub(super) fn rollups(&self) -> RollupSet {
        self.view.rollups.keys().copied().collect()
    }

    /// How many transactions there are on a chain.
    pub(super) fn transactions(&self, chain: ChainId) -> usize {
        self.candidates.iter().map(|candidate| on(candidate, chain).count()).sum()
    }

    /// All of it as the peer takes it.
    ///
    /// # Errors
    /// When the blocks cannot be opened.
    pub(super) fn for_peer(&self, concurrency: usize) -> Result<Workload, Failed> {
        let lanes = open_lanes(&self.view, &self.rollups())?;
        let accounts = self.accounts();
        let chain = |id: ChainId| -> Result<Chain, Failed> {
            let context = lanes.get(&id).ok_or("a rollup has no block")?.block().context();
            Ok(Chain {
                chain_id: id,
                number: context.number,
                timestamp: context.timestamp,
                gas_limit: context.gas_limit,
                base_fee: context.base_fee,
                beneficiary: context.beneficiary,
                prev_randao: context.prev_randao,
                accounts: accounts.clone(),
            })
        };
        let items = self.candidates.iter().flat_map(|candidate| {
            let raw = |chain| -> Vec<Bytes> { on(candidate, chain).map(|tx| tx.tx.raw().clone()).collect() };
            match self.shape {
                Shape::Transfers => raw(ROLLUP).into_iter().map(Item::Transaction).collect(),
                Shape::Bundles | Shape::HostAndRollup => vec![Item::Bundle { host: raw(HOST), rollup: raw(ROLLUP) }],
            }
        });
        Ok(Workload { concurrency, host: chain(HOST)?, rollup: chain(ROLLUP)?, items: items.collect() })
    }

    fn accounts(&self) -> BTreeMap<Address, Account> {
        let account = |address: Address, nonce, balance| Account {
            balance,
            nonce,
            code: self.state.code_of(address).map(|code| code.original_bytes()).unwrap_or_default(),
            storage: self.state.slots_of(address).map(|(slot, value)| (B256::from(slot), B256::from(value))).collect(),
        };
        self.state.iter().map(|(address, found)| (address, account(address, found.nonce, found.balance))).collect()
    }
}

/// The transactions of a bundle on a chain.
fn on(candidate: &Candidate, chain: ChainId) -> impl Iterator<Item = &LegTx> {
    candidate.bundle.legs.iter().filter(move |leg| leg.chain() == chain).flat_map(Leg::txs)
}

/// The transfers of one item.
fn plan(shape: Shape, item: usize, rng: &mut Rng) -> Vec<TxEip1559> {
    let payee = Address::from_word(keccak256(format!("lockstep benches payee {item}")));
    let mut planned = Vec::new();
    for (chain_id, transactions) in shape.transactions() {
        for nonce in 0..transactions {
            let tip = u128::from(GWEI + rng.below(9 * GWEI));
            planned.push(TxEip1559 {
                chain_id,
                nonce,
                gas_limit: TRANSFER_GAS,
                max_fee_per_gas: FEE_CAP + tip,
                max_priority_fee_per_gas: tip,
                to: TxKind::Call(payee),
                value: U256::from(1 + rng.below(GWEI)),
                access_list: Default::default(),
                input: Bytes::new(),
            });
        }
    }
    planned
}

fn sign(shape: Shape, planned: &[TxEip1559], user: &User) -> Result<Bundle, Failed> {
    let mut bundle = Bundle::default();
    for (chain, _) in shape.transactions() {
        let mut txs = Vec::new();
        for tx in planned.iter().filter(|tx| tx.chain_id == chain) {
            let signature = user.sign(tx.signature_hash())?;
            let signed = SignedTx::from_parts(TxEnvelope::from(tx.clone().into_signed(signature)), user.address);
            txs.push(LegTx { tx: Arc::new(signed), mode: RevertMode::Fail });
        }
        if !txs.is_empty() {
            bundle.legs.push(Leg::Txs { chain, txs });
        }
    }
    Ok(bundle)
}

/// Users have a thousand units each, and the proposer has some, too.
fn genesis(users: &[User]) -> MemoryState {
    let mut state = MemoryState::new();
    for user in users {
        state.set_account(user.address, ether(1_000), 0, Bytes::new());
    }
    state.set_account(builder().address(), ether(1_000_000), 0, Bytes::new());
    state
}

fn slot_rollup(chain: ChainId, gas_limit: u64, state: Arc<dyn StateView>) -> SlotRollup {
    let parent = ParentBlock {
        hash: keccak256(chain.to_be_bytes()),
        number: 100,
        timestamp: HEAD_TIME,
        gas_limit,
        // On target, so that the base fee stays.
        gas_used: gas_limit / 2,
        base_fee: BASE_FEE,
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        extra_data: Bytes::new(),
    };
    let next = NextBlock {
        timestamp: HEAD_TIME + BLOCK_TIME,
        gas_limit,
        beneficiary: builder().address(),
        prev_randao: B256::repeat_byte(0x5a),
        parent_beacon_block_root: Some(B256::repeat_byte(0xbe)),
        ..NextBlock::default()
    };
    SlotRollup {
        chain,
        forks: ForkSchedule::always(Rules::Ethereum(EthereumFork::Prague)),
        parent,
        state,
        blocks: vec![BlockPlan { next, forced: Vec::new() }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_items_every_time_and_another_seed_gives_others() {
        for shape in Shape::ALL {
            let hashes = |seed| -> Vec<B256> {
                let flow = OrderFlow::draw(shape, 4, 2_000, seed).unwrap();
                flow.candidates.iter().map(|candidate| candidate.hash).collect()
            };
            assert_eq!(hashes(1), hashes(1), "{shape:?}");
            assert_ne!(hashes(1), hashes(2), "{shape:?}");
        }
    }

    #[test]
    fn the_peer_is_told_of_the_same_transactions_on_the_same_state() {
        for (shape, host, rollup) in [(Shape::Transfers, 0, 5), (Shape::Bundles, 0, 15), (Shape::HostAndRollup, 5, 10)] {
            let flow = OrderFlow::draw(shape, 5, 2_000, 1).unwrap();
            assert_eq!((flow.transactions(HOST), flow.transactions(ROLLUP)), (host, rollup), "{shape:?}");
            let told = flow.for_peer(2).unwrap();
            let told: Workload = serde_json::from_slice(&serde_json::to_vec(&told).unwrap()).unwrap();
            assert_eq!(told.items.len(), 5, "{shape:?}");
            assert_eq!((told.host.base_fee, told.rollup.base_fee), (BASE_FEE, BASE_FEE));
            assert_eq!((told.host.chain_id, told.rollup.chain_id, told.rollup.number), (HOST, ROLLUP, 101));
            for (item, candidate) in told.items.iter().zip(&flow.candidates) {
                let raw: Vec<&Bytes> = match item {
                    Item::Transaction(raw) => vec![raw],
                    Item::Bundle { host, rollup } => host.iter().chain(rollup).collect(),
                };
                let pending: Vec<&Bytes> = candidate.bundle.txs().map(|tx| tx.tx.raw()).collect();
                assert_eq!(raw, pending, "{shape:?}");
                for raw in raw {
                    let sender = SignedTx::decode(raw.clone()).unwrap().signer();
                    assert_eq!(told.rollup.accounts[&sender].balance, ether(1_000), "{shape:?}");
                }
            }
        }
    }

    #[test]
    fn room_is_a_share_of_the_gas_that_the_items_take() {
        let flow = OrderFlow::draw(Shape::Transfers, 1_000, 500, 1).unwrap();
        let told = flow.for_peer(2).unwrap();
        assert_eq!((told.rollup.gas_limit, told.host.gas_limit), (500 * TRANSFER_GAS, LEAST_GAS));
    }
}

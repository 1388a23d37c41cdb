//! The state that a `dev` rollup begins with: made by executing real transactions, so that every contract is as its
//! constructor leaves it.

use std::sync::Arc;

use alloy_eips::{eip2935, eip4788, eip7002, eip7251};
use alloy_primitives::{Address, Bytes, ChainId, U256, address};
use lockstep_simulation::{BlockContext, BlockTx, MemoryState, PendingBlock, Rules};

use super::{
    USERS, attesters, builder,
    contracts::{
        Contracts, Draft, addLiquidityCall, approveCall, createPairCall, deployer, depositCall, encode, l1_block_code, mintCall,
        usdc,
    },
    user,
};
use crate::keys::Key;

const L1_BLOCK: Address = address!("4200000000000000000000000000000000000015");
/// Native funds of every account, in whole units.
const FUNDS: u64 = 10_000;
/// What every user has of the token and of wrapped native asset.
const USER_USDC: u64 = 100_000;
const USER_WETH: u64 = 100;
/// The pool of every rollup, at prices that differ between them.
const POOL_WETH: u64 = 1_000;
const POOL_PRICE: u64 = 2_000;
/// By how much the price differs from one rollup to the next.
const PRICE_STEP: u64 = 100;

/// The first transaction that failed.
#[derive(Debug, thiserror::Error)]
#[error("genesis transaction {index}: {cause}")]
pub(super) struct GenesisError {
    index: usize,
    cause: String,
}

fn ether(whole: u64) -> U256 {
    U256::from(whole) * U256::from(1_000_000_000_000_000_000_u64)
}

/// The state of block 0.
pub(super) fn state(
    chain: ChainId,
    rules: Rules,
    domain: u32,
    remotes: &[u32],
    contracts: &Contracts,
    timestamp: u64,
) -> Result<MemoryState, GenesisError> {
    let mut state = MemoryState::new();
    let rich = (0..USERS).map(user).chain([deployer(), builder()]);
    for key in rich {
        state.set_account(key.address(), ether(FUNDS), 0, Bytes::new());
    }
    state.set_account(eip4788::BEACON_ROOTS_ADDRESS, U256::ZERO, 1, eip4788::BEACON_ROOTS_CODE.clone());
    state.set_account(eip2935::HISTORY_STORAGE_ADDRESS, U256::ZERO, 1, eip2935::HISTORY_STORAGE_CODE.clone());
    if rules.is_op_stack() {
        state.set_account(L1_BLOCK, U256::ZERO, 1, l1_block_code());
    } else {
        let withdrawals = eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS;
        state.set_account(withdrawals, U256::ZERO, 1, eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_CODE.clone());
        let consolidations = eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS;
        state.set_account(consolidations, U256::ZERO, 1, eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_CODE.clone());
    }
    let context = BlockContext {
        chain,
        rules,
        parent_hash: Default::default(),
        number: 0,
        timestamp,
        gas_limit: 1_000_000_000,
        base_fee: 0,
        beneficiary: Address::ZERO,
        prev_randao: Default::default(),
        parent_beacon_block_root: None,
        excess_blob_gas: rules.blobs().map(|_| 0),
        extra_data: Bytes::new(),
        data: Default::default(),
        deposits_only: false,
    };
    let broken = |index: usize, cause: String| GenesisError { index, cause };
    let mut block = PendingBlock::open(context, Arc::new(state.clone())).map_err(|error| broken(0, error.to_string()))?;
    for (index, tx) in transactions(chain, domain, remotes, contracts).into_iter().enumerate() {
        let executed = block.execute(&tx).map_err(|error| broken(index, error.to_string()))?;
        let executed = executed.map_err(|reason| broken(index, reason.to_string()))?;
        if !executed.outcome.succeeded() {
            return Err(broken(index, format!("{:?} {}", executed.outcome.status, executed.outcome.output)));
        }
    }
    let changes = block.state().changes().map_err(|error| broken(0, error.to_string()))?;
    state.apply(&changes);
    Ok(state)
}

fn transactions(chain: ChainId, domain: u32, remotes: &[u32], contracts: &Contracts) -> Vec<BlockTx> {
    let mut script = Script { chain, nonces: Vec::new(), txs: Vec::new() };
    let owner = deployer();
    let attesters: Vec<Address> = attesters().iter().map(Key::address).collect();
    for code in contracts.creations(domain, attesters.first().copied().unwrap_or_default()) {
        script.push(&owner, None, U256::ZERO, code);
    }
    for (to, data) in contracts.wiring(remotes, &attesters) {
        script.push(&owner, Some(to), U256::ZERO, data);
    }
    // The pool.
    let index = u64::from(domain - super::DOMAIN_BASE);
    let pool_usdc = usdc(POOL_WETH * (POOL_PRICE + PRICE_STEP * index));
    let owner_address = owner.address();
    let calls = [
        (contracts.usdc, U256::ZERO, encode(&mintCall { to: owner_address, amount: pool_usdc })),
        (contracts.weth, ether(POOL_WETH), encode(&depositCall {})),
        (contracts.factory, U256::ZERO, encode(&createPairCall { a: contracts.usdc, b: contracts.weth })),
        (contracts.usdc, U256::ZERO, encode(&approveCall { spender: contracts.router, amount: U256::MAX })),
        (contracts.weth, U256::ZERO, encode(&approveCall { spender: contracts.router, amount: U256::MAX })),
        (
            contracts.router,
            U256::ZERO,
            encode(&addLiquidityCall {
                tokenA: contracts.usdc,
                tokenB: contracts.weth,
                amountA: pool_usdc,
                amountB: ether(POOL_WETH),
                minA: U256::ZERO,
                minB: U256::ZERO,
                to: owner_address,
                deadline: U256::MAX,
            }),
        ),
    ];
    for (to, value, data) in calls {
        script.push(&owner, Some(to), value, data);
    }
    for index in 0..USERS {
        let key = user(index);
        let funds = encode(&mintCall { to: key.address(), amount: usdc(USER_USDC) });
        script.push(&owner, Some(contracts.usdc), U256::ZERO, funds);
        script.push(&key, Some(contracts.weth), ether(USER_WETH), encode(&depositCall {}));
        for (token, spender) in [
            (contracts.usdc, contracts.token_messenger),
            (contracts.usdc, contracts.nft_shop),
            (contracts.usdc, contracts.router),
            (contracts.weth, contracts.router),
        ] {
            script.push(&key, Some(token), U256::ZERO, encode(&approveCall { spender, amount: U256::MAX }));
        }
    }
    script.txs
}

/// Transactions in order, each with its sender's next nonce.
struct Script {
    chain: ChainId,
    nonces: Vec<(Address, u64)>,
    txs: Vec<BlockTx>,
}

impl Script {
    fn push(&mut self, key: &Key, to: Option<Address>, value: U256, data: Bytes) {
        let address = key.address();
        let nonce = match self.nonces.iter_mut().find(|(account, _)| *account == address) {
            Some((_, next)) => {
                *next += 1;
                *next - 1
            }
            None => {
                self.nonces.push((address, 1));
                0
            }
        };
        let draft = Draft { chain: self.chain, nonce, to, value, data, gas: 8_000_000, tip: 0 };
        self.txs.push(BlockTx::Signed(Arc::new(draft.sign(key))));
    }
}

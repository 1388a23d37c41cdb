//! The state that a `dev` rollup begins with: made by executing real transactions, so that every contract is as its
//! constructor leaves it.

use std::sync::Arc;

use alloy_eips::{eip2935, eip4788, eip7002, eip7251};
use alloy_primitives::{Address, Bytes, ChainId, U256, address};
use lockstep_simulation::{BlockContext, BlockTx, MemoryState, PendingBlock, Rules};

use super::{
    USERS, attesters, builder,
    contracts::{
        Contracts, Draft, Site, addLiquidityCall, approveCall, createPairCall, deployer, depositCall, encode, l1_block_code,
        mintCall, predeploys, usdc,
    },
    rules, user,
};
use crate::keys::Key;

const L1_BLOCK: Address = address!("4200000000000000000000000000000000000015");
/// Native funds of every account, in whole units.
const FUNDS: u64 = 10_000;
/// What every user has of the token, of wrapped native asset, and of each token that bridges mint (ERC-7802).
const USER_USDC: u64 = 100_000;
const USER_WETH: u64 = 100;
const USER_BRIDGED: u64 = 1_000;
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

/// The state of block 0 of the rollup at an index, one of `count`.
pub(super) fn state(index: usize, count: usize, contracts: &Contracts, timestamp: u64) -> Result<MemoryState, GenesisError> {
    let (here, rules) = (Site::of(index), rules(index));
    let mut state = MemoryState::new();
    let rich = (0..USERS).map(user).chain([deployer(), builder()]);
    for key in rich {
        state.set_account(key.address(), ether(FUNDS), 0, Bytes::new());
    }
    // Claims of ether are paid out of the bridge's own.
    state.set_account(contracts.agglayer.bridge, ether(FUNDS), 0, Bytes::new());
    for (address, code) in predeploys() {
        state.set_account(address, U256::ZERO, 1, code);
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
    let others: Vec<Site> = (0..count).filter(|other| *other != index).map(Site::of).collect();
    let broken = |index: usize, cause: String| GenesisError { index, cause };
    let mut block = PendingBlock::open(context(&here, rules, timestamp), Arc::new(state.clone()))
        .map_err(|error| broken(0, error.to_string()))?;
    for (index, tx) in transactions(&here, &others, contracts).into_iter().enumerate() {
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

/// Block 0, in which everything is free.
fn context(here: &Site, rules: Rules, timestamp: u64) -> BlockContext {
    BlockContext {
        chain: here.chain,
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
        encrypted_gas: 0,
        deposits_only: false,
    }
}

fn transactions(here: &Site, others: &[Site], contracts: &Contracts) -> Vec<BlockTx> {
    let mut script = Script { chain: here.chain, nonces: Vec::new(), txs: Vec::new() };
    let owner = deployer();
    let attesters: Vec<Address> = attesters().iter().map(Key::address).collect();
    for code in contracts.creations(here, attesters.first().copied().unwrap_or_default()) {
        script.push(&owner, None, U256::ZERO, code);
    }
    for (to, data) in contracts.wiring(others, &attesters) {
        script.push(&owner, Some(to), U256::ZERO, data);
    }
    // The pool.
    let index = u64::from(here.domain - super::DOMAIN_BASE);
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
        for token in [contracts.interop.token, contracts.mailbox.token] {
            let funds = encode(&mintCall { to: key.address(), amount: ether(USER_BRIDGED) });
            script.push(&owner, Some(token), U256::ZERO, funds);
        }
        script.push(&key, Some(contracts.weth), ether(USER_WETH), encode(&depositCall {}));
        for (token, spender) in [
            (contracts.usdc, contracts.token_messenger),
            (contracts.usdc, contracts.cctp_v2.token_messenger),
            (contracts.usdc, contracts.agglayer.bridge),
            (contracts.usdc, contracts.settlers.origin),
            (contracts.usdc, contracts.settlers.destination),
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

#[cfg(test)]
mod tests {
    use alloy_sol_types::{SolCall, sol};
    use lockstep_simulation::{CallRequest, StateView, call};

    use super::*;

    sol! {
        function balanceOf(address account) external view returns (uint256);
        function destinationSettlers(uint256 chain) external view returns (bytes32);
        function globalExitRootUpdater() external view returns (address);
        function getRoot() external view returns (bytes32);
        function coordinator() external view returns (address);
        function bridge() external view returns (address);
    }

    /// What a call of a contract returns in a state.
    fn read<C: SolCall>(state: &MemoryState, index: usize, to: Address, wanted: &C) -> C::Return {
        let request = CallRequest::read(to, encode(wanted), 200_000);
        let outcome = call(&context(&Site::of(index), rules(index), 1), state, &request).unwrap().unwrap();
        assert!(outcome.succeeded(), "{to}: {}", outcome.output);
        C::abi_decode_returns(&outcome.output).unwrap()
    }

    #[test]
    fn every_contract_is_where_it_is_said_to_be_and_wired_on_rollups_of_both_kinds() {
        let contracts = Contracts::new();
        for index in 0..2 {
            let state = state(index, 2, &contracts, 1).unwrap();
            let Contracts { cctp_v2, interop, mailbox, agglayer, settlers, .. } = contracts;
            let all = [
                contracts.usdc,
                contracts.probe,
                cctp_v2.message_transmitter,
                cctp_v2.token_messenger,
                cctp_v2.token_minter,
                cctp_v2.hook_wrapper,
                interop.inbox,
                interop.messenger,
                interop.token_bridge,
                interop.token,
                mailbox.mailbox,
                mailbox.token_bridge,
                mailbox.token,
                agglayer.bridge,
                agglayer.exit_root_manager,
                settlers.origin,
                settlers.destination,
            ];
            for address in all {
                let account = state.account(address).unwrap().unwrap();
                assert_ne!(account.code_hash, alloy_primitives::KECCAK256_EMPTY, "{address} has no code on rollup {index}");
            }
            // That a contract of the right kind is at each of these, and knows the others.
            assert_eq!(read(&state, index, interop.token, &bridgeCall {}), interop.token_bridge);
            assert_eq!(read(&state, index, mailbox.token, &bridgeCall {}), mailbox.token_bridge);
            assert_eq!(read(&state, index, mailbox.mailbox, &coordinatorCall {}), builder().address());
            assert_eq!(read(&state, index, agglayer.exit_root_manager, &globalExitRootUpdaterCall {}), builder().address());
            // The keeper of messages begins with an empty tree.
            let root = read(&state, index, agglayer.bridge, &getRootCall {});
            assert_eq!(root, lockstep_messaging::ExitTree::default().root());
            let other = Site::of(1 - index).chain;
            let trusted = read(&state, index, settlers.origin, &destinationSettlersCall { chain: U256::from(other) });
            assert_eq!(trusted, settlers.destination.into_word());
            for token in [interop.token, mailbox.token] {
                let balance = read(&state, index, token, &balanceOfCall { account: user(0).address() });
                assert_eq!(balance, ether(USER_BRIDGED));
            }
        }
    }
}

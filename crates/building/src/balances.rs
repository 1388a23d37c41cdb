//! Balances: what a requirement measures and what a simulation shows.

use alloy_primitives::{Address, B256, I256, Log, U256, b256};
use alloy_sol_types::{SolCall, sol};
use lockstep_primitives::{Asset, Reason};
use lockstep_simulation::{CallRequest, PendingBlock, SimulationError, StateView, TxOutcome, call};
use smallvec::SmallVec;

sol! {
    function balanceOf(address account) external view returns (uint256);
}

/// keccak256("Transfer(address,address,uint256)").
const TRANSFER: B256 = b256!("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef");
/// A token that needs more to tell a balance is not read.
const BALANCE_GAS: u64 = 1_000_000;

/// A change of a balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalanceChange {
    /// Whose.
    pub account: Address,
    /// Of what.
    pub asset: Asset,
    /// By how much, in the smallest unit; never zero.
    pub change: I256,
}

/// The balance of `account` in the block's state.
///
/// # Errors
/// Outer: the state or the EVM is broken. Inner: the asset is no token that answers `balanceOf`.
pub fn balance_of(block: &PendingBlock, account: Address, asset: Asset) -> Result<Result<U256, Reason>, SimulationError> {
    match asset {
        Asset::Native => Ok(Ok(native(block, account)?)),
        Asset::Token(token) => Ok(told(call(block.context(), block.state(), &balance_request(token, account))?, account, token)),
    }
}

/// The same, taken down as something that what comes next depends on.
pub(crate) fn watched_balance_of(
    block: &mut PendingBlock,
    account: Address,
    asset: Asset,
) -> Result<Result<U256, Reason>, SimulationError> {
    match asset {
        Asset::Native => {
            block.watch_balance(account)?;
            Ok(Ok(native(block, account)?))
        }
        Asset::Token(token) => Ok(told(block.watched_call(&balance_request(token, account))?, account, token)),
    }
}

fn native(block: &PendingBlock, account: Address) -> Result<U256, SimulationError> {
    Ok(block.state().account(account)?.map_or(U256::ZERO, |account| account.balance))
}

/// What a token told of a balance.
fn told(outcome: Result<TxOutcome, Reason>, account: Address, token: Address) -> Result<U256, Reason> {
    outcome
        .ok()
        .filter(TxOutcome::succeeded)
        .and_then(|outcome| balanceOfCall::abi_decode_returns(&outcome.output).ok())
        .ok_or(Reason::UnreadableBalance { account, token })
}

fn balance_request(token: Address, account: Address) -> CallRequest {
    CallRequest::read(token, balanceOfCall { account }.abi_encode().into(), BALANCE_GAS)
}

/// How token balances moved, as `Transfer` logs (ERC-20) tell it. An NFT's transfer has four topics and is not counted.
pub(crate) fn token_changes<'a>(logs: impl IntoIterator<Item = &'a Log>) -> Vec<BalanceChange> {
    let mut moved: SmallVec<[((Address, Address), I256); 8]> = SmallVec::new();
    for log in logs {
        let [topic, from, to] = log.topics() else { continue };
        if *topic != TRANSFER || log.data.data.len() != 32 {
            continue;
        }
        let amount = I256::from_raw(U256::from_be_slice(&log.data.data));
        for (account, change) in [(from, amount.wrapping_neg()), (to, amount)] {
            moved.push(((log.address, Address::from_word(*account)), change));
        }
    }
    moved.sort_unstable_by_key(|(key, _)| *key);
    moved.dedup_by(|(key, change), (before, sum)| {
        let same = key == before;
        if same {
            *sum = sum.wrapping_add(*change);
        }
        same
    });
    moved
        .into_iter()
        // Mints and burns move from and to the zero address, which is nobody's balance.
        .filter(|((_, account), change)| !change.is_zero() && !account.is_zero())
        .map(|((token, account), change)| BalanceChange { account, asset: Asset::Token(token), change })
        .collect()
}

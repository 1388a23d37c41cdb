//! `eth_call` and `eth_estimateGas`.

use std::{collections::BTreeMap, sync::Arc};

use alloy::rpc::types::{TransactionRequest, state::AccountOverride};
use alloy_primitives::{Address, Bytes, TxKind, U64, U256};
use jsonrpsee::core::RpcResult;
use lockstep_primitives::Reason;
use lockstep_provider::EmbeddedBlock;
use lockstep_simulation::{CallRequest, TxOutcome, TxStatus};

use super::{
    Eth,
    errors::{self, invalid_params},
    overrides::Overridden,
    params::Args,
    state::account,
};

/// The gas of a call that names none, and the most that a call may have.
const CALL_GAS: u64 = 50_000_000;
/// The gas of the cheapest transaction. A request that names less means nothing by it.
const TX_GAS: u64 = 21_000;
/// What a callee is given on top when it is sent value.
const CALL_STIPEND: u64 = 2_300;
/// An estimate is too high by at most one part in so many.
const ESTIMATE_TOLERANCE: u64 = 64;

/// `eth_call`.
pub(crate) fn call(eth: &Eth, args: &mut Args<'_>) -> RpcResult<Bytes> {
    let attempt = Attempt::prepare(eth, args)?;
    let gas = attempt.gas.unwrap_or(CALL_GAS).min(CALL_GAS);
    match attempt.run(gas)? {
        Ok(outcome) => output(outcome),
        Err(reason) => Err(errors::refused(&reason)),
    }
}

/// `eth_estimateGas`.
pub(crate) fn estimate_gas(eth: &Eth, args: &mut Args<'_>) -> RpcResult<U64> {
    let attempt = Attempt::prepare(eth, args)?;
    let context = &attempt.block.context;
    let allowed = attempt
        .gas
        .filter(|gas| *gas >= TX_GAS)
        .unwrap_or(u64::MAX)
        .min(context.gas_limit)
        .min(context.rules.tx_gas_cap().unwrap_or(u64::MAX));
    let affordable = attempt.affordable_gas();
    let poor = affordable < allowed;
    let most = allowed.min(affordable);
    let outcome = match attempt.run(most)? {
        Ok(TxOutcome { status: TxStatus::Halted(_), .. }) | Err(_) if poor => return Err(errors::no_funds_for_gas(most)),
        Ok(TxOutcome { status: TxStatus::Halted(cause), .. }) if cause.starts_with("OutOfGas") => {
            return Err(errors::gas_exceeded(most));
        }
        Ok(outcome) => outcome,
        Err(reason) => return Err(errors::refused(&reason)),
    };
    let used = outcome.gas_used;
    output(outcome)?;
    least_gas(used, most, |gas| Ok(attempt.run(gas)?.is_ok_and(|outcome| outcome.succeeded()))).map(U64::from)
}

fn output(outcome: TxOutcome) -> RpcResult<Bytes> {
    match outcome.status {
        TxStatus::Succeeded => Ok(outcome.output),
        TxStatus::Reverted => Err(errors::reverted(&outcome.output)),
        TxStatus::Halted(cause) => Err(errors::halted(&cause)),
    }
}

/// A gas limit that is `enough`, at most one part in [`ESTIMATE_TOLERANCE`] above the least one. With `most`, which was
/// enough, `used` was used.
///
/// Less than what was used is never enough. More is needed only where gas was refunded at the end, or where a callee got
/// all but a 64th of what was left and wanted more than that; both bounds are tried before anything in between.
fn least_gas(used: u64, most: u64, mut enough: impl FnMut(u64) -> RpcResult<bool>) -> RpcResult<u64> {
    let (mut low, mut high) = (used.saturating_sub(1), most);
    let with_callee = used.saturating_add(CALL_STIPEND).saturating_mul(64) / 63;
    for guess in [used, with_callee] {
        if low < guess && guess < high {
            if enough(guess)? {
                high = guess;
            } else {
                low = guess;
            }
        }
    }
    while high.saturating_sub(low) > 1 + high / ESTIMATE_TOLERANCE {
        // The answer is nearer to what was used than to the block's gas limit, so no step more than doubles.
        let middle = (low + (high - low) / 2).min(low.saturating_mul(2)).max(low + 1);
        if enough(middle)? {
            high = middle;
        } else {
            low = middle;
        }
    }
    Ok(high)
}

/// A call that is ready to run with any amount of gas.
#[derive(Debug)]
struct Attempt {
    block: Arc<EmbeddedBlock>,
    state: Overridden,
    request: CallRequest,
    /// The gas that the request names.
    gas: Option<u64>,
    /// The fee per gas that the request names, in wei.
    fee_cap: Option<u128>,
    /// The caller's balance beyond the value that it sends, in wei.
    left: U256,
}

impl Attempt {
    fn prepare(eth: &Eth, args: &mut Args<'_>) -> RpcResult<Self> {
        let request: TransactionRequest = args.required()?;
        let (block, state) = eth.state(args.optional()?)?;
        let overrides: BTreeMap<Address, AccountOverride> = args.optional()?.unwrap_or_default();
        args.unsupported()?;
        check_supported(eth, &request)?;
        check_fees(&request, block.context.base_fee)?;

        let state = Overridden::new(state, overrides)?;
        let (gas, fee_cap) = (request.gas, request.fee_cap());
        let from = request.from.unwrap_or_default();
        let value = request.value.unwrap_or_default();
        let balance = account(&state, from)?.balance;
        let left = balance.checked_sub(value).ok_or_else(|| errors::no_funds_for_value(from, balance, value))?;
        let data = request
            .input
            .try_into_unique_input()
            .map_err(|error| invalid_params(format!("transaction: {error}")))?
            .unwrap_or_default();
        let access_list = request.access_list.unwrap_or_default();
        let request = CallRequest {
            from,
            to: request.to.and_then(TxKind::into_to),
            data,
            value,
            gas: gas.unwrap_or_default(),
            access_list: access_list.0.into_iter().map(|item| (item.address, item.storage_keys)).collect(),
        };
        Ok(Self { block, state, request, gas, fee_cap, left })
    }

    fn run(&self, gas: u64) -> RpcResult<Result<TxOutcome, Reason>> {
        let request = CallRequest { gas, ..self.request.clone() };
        lockstep_simulation::call(&self.block.context, &self.state, &request).map_err(errors::internal)
    }

    /// The gas that the caller can pay for; any amount when the request names no fee.
    fn affordable_gas(&self) -> u64 {
        match self.fee_cap {
            Some(cap) if cap > 0 => (self.left / U256::from(cap)).saturating_to(),
            _ => u64::MAX,
        }
    }
}

/// Refuses what would change the result and is not there.
fn check_supported(eth: &Eth, request: &TransactionRequest) -> RpcResult<()> {
    if request.authorization_list.as_ref().is_some_and(|list| !list.is_empty()) {
        return Err(invalid_params("transaction: authorizationList is not supported; use stateOverrides to set code"));
    }
    if request.has_eip4844_fields() {
        return Err(invalid_params("transaction: blobs are not supported"));
    }
    match request.chain_id {
        Some(chain) if chain != eth.chain() => {
            Err(invalid_params(format!("transaction: chainId is {chain}, the rollup's is {}", eth.chain())))
        }
        _ => Ok(()),
    }
}

/// Nobody pays for a call, but fees that no transaction could have are a mistake to be told of.
fn check_fees(request: &TransactionRequest, base_fee: u64) -> RpcResult<()> {
    if request.gas_price.is_some() && request.has_eip1559_fields() {
        return Err(invalid_params("transaction: both gasPrice and maxFeePerGas or maxPriorityFeePerGas are given"));
    }
    if let (Some(cap), Some(tip)) = (request.max_fee_per_gas, request.max_priority_fee_per_gas)
        && tip > cap
    {
        return Err(errors::fees(format!("max priority fee per gas higher than max fee per gas: {tip} is above {cap}")));
    }
    match request.fee_cap() {
        Some(cap) if cap > 0 && cap < u128::from(base_fee) => {
            Err(errors::fees(format!("max fee per gas less than block base fee: the cap is {cap}, the base fee {base_fee}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The estimate of a call that needs `need` and uses `used`, and how often the call was run for it.
    fn estimate(used: u64, need: u64, most: u64) -> (u64, u32) {
        let mut runs = 0;
        let gas = least_gas(used, most, |gas| {
            runs += 1;
            Ok(gas >= need)
        });
        (gas.unwrap(), runs)
    }

    #[test]
    fn what_was_used_is_enough_as_a_rule() {
        assert_eq!(estimate(21_000, 21_000, 30_000_000), (21_000, 1));
        assert_eq!(estimate(21_000, 21_000, 21_000), (21_000, 0), "nothing is left to try");
    }

    #[test]
    fn estimates_are_enough_and_not_much_more() {
        for (used, need) in [(100_000, 103_000), (100_000, 130_000), (21_000, 29_999_999), (50_000, 62_500), (1, 2)] {
            let (gas, runs) = estimate(used, need, 30_000_000);
            assert!(gas >= need, "{gas} is not enough for {need}");
            assert!(gas - need <= 1 + gas / ESTIMATE_TOLERANCE, "{gas} is too much for {need}");
            assert!(runs < 40, "{runs} runs");
        }
    }

    #[test]
    fn impossible_fees_are_refused() {
        let request = |cap: Option<u128>, tip: Option<u128>| TransactionRequest {
            max_fee_per_gas: cap,
            max_priority_fee_per_gas: tip,
            ..TransactionRequest::default()
        };
        assert!(check_fees(&request(None, None), 100).is_ok());
        assert!(check_fees(&request(Some(0), None), 100).is_ok(), "zero means that nobody pays");
        assert!(check_fees(&request(Some(100), Some(1)), 100).is_ok());
        assert!(check_fees(&request(Some(99), None), 100).is_err());
        assert!(check_fees(&request(Some(200), Some(201)), 100).is_err());
        assert!(check_fees(&TransactionRequest { gas_price: Some(200), ..request(Some(200), None) }, 100).is_err());
    }
}

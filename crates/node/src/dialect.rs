//! A rollup's own bundle dialect: `eth_sendBundle` and its like at `/rollup/<chainId>`.

use std::sync::Arc;

use alloy_consensus::Transaction;
use alloy_primitives::{B256, Bytes, I256, U256};
use jsonrpsee::{
    Extensions, RpcModule,
    core::RegisterMethodError,
    types::{ErrorObjectOwned, Params},
};
use lockstep_building::{Attempt, TxRun, revert_message};
use lockstep_pool::Kind;
use lockstep_primitives::{
    BlockRange, Bundle, ChainId, Leg, LegTx, Place, Reason, Rejection, RevertMode, dialect_bundle_hash, to_signed,
};
use lockstep_rpc::{
    from_rejection, invalid_params, parse,
    wire::{
        CallBundleParams, CallBundleResult, CallTxResult, Decimal, EthBundleParams, EthCancelParams, EthSentBundle,
        PrivateTxParams, SignedDecimal, decode_tx,
    },
};
use lockstep_simulation::TxStatus;
use serde_json::Value;

use crate::api::{LockstepRpc, signer};

/// How many blocks a private transaction is tried for, as Flashbots does.
const PRIVATE_BLOCKS: u64 = 25;

struct Dialect {
    chain: ChainId,
    rpc: LockstepRpc,
}

/// The methods that go into the pool of one rollup.
///
/// # Errors
/// When a name is registered twice, which is a fault of ours.
pub(crate) fn bundle_methods(chain: ChainId, rpc: LockstepRpc) -> Result<RpcModule<()>, RegisterMethodError> {
    let mut module = RpcModule::new(Dialect { chain, rpc });
    module.register_async_method("eth_sendBundle", |params, dialect, ext| async move {
        dialect.send_bundle(one(&params)?, &ext).await
    })?;
    module.register_async_method("eth_cancelBundle", |params, dialect, ext| async move {
        let params: EthCancelParams = parse(one(&params)?)?;
        dialect.cancel(&params.replacement_uuid, &ext).await
    })?;
    module.register_async_method("eth_callBundle", |params, dialect, _| async move {
        dialect.call_bundle(parse(one(&params)?)?).await
    })?;
    module.register_async_method("eth_sendRawTransaction", |params, dialect, _| async move {
        let raw: Bytes = parse(one(&params)?)?;
        dialect.send_transaction(raw, Kind::Transaction, None).await
    })?;
    module.register_async_method("eth_sendPrivateTransaction", |params, dialect, _| async move {
        dialect.send_private(parse(one(&params)?)?).await
    })?;
    Ok(module.remove_context())
}

/// The first parameter, as JSON.
fn one(params: &Params<'_>) -> Result<Value, ErrorObjectOwned> {
    let mut sequence = params.sequence();
    let value: Value = sequence
        .next()
        .map_err(|error| invalid_params("missing_parameter", error.message(), "give one parameter in an array"))?;
    if sequence.optional_next::<Value>().ok().flatten().is_some() {
        return Err(invalid_params("too_many_parameters", "one parameter is expected", "remove the others"));
    }
    Ok(value)
}

impl Dialect {
    fn refuse(&self, reason: Reason) -> ErrorObjectOwned {
        from_rejection(&Rejection::new(Place::rollup(self.chain), reason))
    }

    async fn send_bundle(&self, params: Value, ext: &Extensions) -> Result<Value, ErrorObjectOwned> {
        let params: EthBundleParams = parse(params)?;
        if let Some(field) = params.unsupported() {
            let text = format!("{field} is not supported");
            return Err(invalid_params("unsupported_field", text, "remove the field: nothing is accepted and then ignored"));
        }
        if let Some(text) = params.contradiction() {
            return Err(invalid_params("contradicting_fields", text, "give one of the two"));
        }
        if let Some(uuid) = params.cancels() {
            return self.cancel(uuid, ext).await.map(Value::Bool);
        }
        let (chain, signer) = (self.chain, signer(ext));
        let decoded = self.rpc.recovery.run(move || params.into_bundle(chain, signer)).await?;
        let bundle = decoded.map_err(|rejection| from_rejection(&rejection))?;
        let bundle_hash = dialect_bundle_hash(bundle.txs().map(|tx| tx.tx.hash()));
        let lockstep_hash = self.rpc.builder.intake().admit(bundle, Kind::Bundle).await?;
        let sent = EthSentBundle { bundle_hash, lockstep_hash };
        serde_json::to_value(sent).map_err(|error| invalid_params("internal", error.to_string(), "report this"))
    }

    async fn cancel(&self, uuid: &str, ext: &Extensions) -> Result<bool, ErrorObjectOwned> {
        let signer = signer(ext).ok_or_else(|| self.refuse(Reason::ReplacementNeedsSigner))?;
        self.rpc.builder.intake().cancel(signer, None, Some(uuid)).await
    }

    async fn send_transaction(&self, raw: Bytes, kind: Kind, last: Option<u64>) -> Result<B256, ErrorObjectOwned> {
        let at = |reason| from_rejection(&Rejection::new(Place::tx(self.chain, 0, 0), reason));
        let tx = Arc::new(self.rpc.recovery.run(move || decode_tx(raw)).await?.map_err(at)?);
        let hash = tx.hash();
        // A public transaction may revert and pays for it, as on any chain.
        let mode = if kind == Kind::Transaction { RevertMode::Allow } else { RevertMode::Fail };
        let bundle = Bundle {
            legs: vec![Leg::Txs { chain: self.chain, txs: vec![LegTx { tx, mode }] }],
            blocks: last.map(|max| (self.chain, BlockRange { min: 0, max })).into_iter().collect(),
            ..Bundle::default()
        };
        self.rpc.builder.intake().admit(bundle, kind).await?;
        Ok(hash)
    }

    async fn send_private(&self, params: PrivateTxParams) -> Result<B256, ErrorObjectOwned> {
        if params.preferences.is_some() {
            let hint = "remove the field: private transactions are shared with nobody";
            return Err(invalid_params("unsupported_field", "preferences is not supported", hint));
        }
        let head = self.rpc.builder.intake().heads().get(&self.chain).map_or(0, |head| head.number);
        let last = params.max_block_number.map_or(head + PRIVATE_BLOCKS, |number| number.to());
        self.send_transaction(params.tx, Kind::PrivateTransaction, Some(last)).await
    }

    async fn call_bundle(&self, params: CallBundleParams) -> Result<CallBundleResult, ErrorObjectOwned> {
        let head = self.rpc.builder.intake().heads().get(&self.chain).map_or(0, |head| head.number);
        let unsupported = |field: &str, text: String| {
            invalid_params(
                "unsupported_field",
                format!("{field}: {text}"),
                "bundles are simulated in the next block, on the newest state",
            )
        };
        if params.block_number.is_some_and(|number| number.to::<u64>() != head + 1) {
            return Err(unsupported("blockNumber", format!("the next block is {}", head + 1)));
        }
        let newest = match &params.state_block_number {
            None => true,
            Some(Value::String(tag)) => {
                matches!(tag.as_str(), "latest" | "pending")
                    || tag.strip_prefix("0x").and_then(|hex| u64::from_str_radix(hex, 16).ok()) == Some(head)
            }
            Some(other) => other.as_u64() == Some(head),
        };
        if !newest {
            return Err(unsupported("stateBlockNumber", format!("the newest block is {head}")));
        }
        if params.timestamp.is_some() {
            return Err(unsupported("timestamp", "the next block's own is used".to_owned()));
        }
        let (chain, raw) = (self.chain, params.txs);
        let decoded = self.rpc.recovery.run(move || decode_all(chain, raw)).await?;
        let txs = decoded.map_err(|rejection| from_rejection(&rejection))?;
        if txs.is_empty() {
            return Err(self.refuse(Reason::EmptyBundle));
        }
        let bundle = Arc::new(Bundle { legs: vec![Leg::Txs { chain: self.chain, txs }], ..Bundle::default() });
        let attempt = self.rpc.simulate(Arc::clone(&bundle)).await?;
        if let Some(rejection) = &attempt.blocked {
            return Err(from_rejection(rejection));
        }
        Ok(call_result(&bundle, &attempt, head))
    }
}

/// Decodes the transactions of a call. Every one of them may revert, so that the answer shows all of them; what reverts carries
/// its error.
fn decode_all(chain: ChainId, raw: Vec<Bytes>) -> Result<Vec<LegTx>, Rejection> {
    raw.into_iter()
        .enumerate()
        .map(|(index, raw)| {
            let tx = decode_tx(raw).map_err(|reason| Rejection::new(Place::tx(chain, 0, index), reason))?;
            Ok(LegTx { tx: Arc::new(tx), mode: RevertMode::Allow })
        })
        .collect()
}

fn call_result(bundle: &Bundle, attempt: &Attempt, head: u64) -> CallBundleResult {
    let runs: Vec<&TxRun> = attempt.run.legs.iter().flat_map(|leg| &leg.txs).collect();
    let mut results = Vec::with_capacity(runs.len());
    let (mut gas, mut tips) = (0_u64, U256::ZERO);
    for (tx, run) in bundle.txs().zip(&runs) {
        let Some(outcome) = &run.outcome else { continue };
        gas += outcome.gas_used;
        tips = tips.saturating_add(outcome.fees.priority);
        let fees = to_signed(outcome.fees.priority).unwrap_or(I256::MAX);
        let succeeded = outcome.status == TxStatus::Succeeded;
        results.push(CallTxResult {
            coinbase_diff: SignedDecimal(fees),
            eth_sent_to_coinbase: SignedDecimal(I256::ZERO),
            from_address: tx.tx.signer(),
            gas_fees: Decimal(outcome.fees.priority),
            gas_price: SignedDecimal(per_gas(fees, outcome.gas_used)),
            gas_used: outcome.gas_used,
            to_address: tx.tx.envelope().to(),
            tx_hash: run.hash,
            value: succeeded.then(|| outcome.output.clone()),
            error: match &outcome.status {
                TxStatus::Succeeded => None,
                TxStatus::Reverted => Some("execution reverted".into()),
                TxStatus::Halted(cause) => Some(cause.clone()),
            },
            revert: (outcome.status == TxStatus::Reverted).then(|| revert_message(&outcome.output)).flatten(),
        });
    }
    // What the beneficiary gained over the whole bundle; payments are what is left when tips are taken off. Which transaction
    // paid is told only where a bundle has one.
    let gained = attempt.run.gains.values().fold(I256::ZERO, |sum, gain| sum.saturating_add(*gain));
    let tips_signed = to_signed(tips).unwrap_or(I256::MAX);
    let paid = gained.saturating_sub(tips_signed).max(I256::ZERO);
    let total = tips_signed.saturating_add(paid);
    if let [only] = results.as_mut_slice() {
        only.eth_sent_to_coinbase = SignedDecimal(paid);
        only.coinbase_diff = SignedDecimal(total);
        only.gas_price = SignedDecimal(per_gas(total, only.gas_used));
    }
    CallBundleResult {
        bundle_gas_price: SignedDecimal(per_gas(total, gas)),
        bundle_hash: dialect_bundle_hash(bundle.txs().map(|tx| tx.tx.hash())),
        coinbase_diff: SignedDecimal(total),
        eth_sent_to_coinbase: SignedDecimal(paid),
        gas_fees: Decimal(tips),
        results,
        state_block_number: head,
        total_gas_used: gas,
    }
}

fn per_gas(amount: I256, gas: u64) -> I256 {
    I256::try_from(gas).ok().and_then(|gas| amount.checked_div(gas)).unwrap_or_default()
}

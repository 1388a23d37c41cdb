//! From an order to a bundle that fills it and is repaid.

use std::{collections::BTreeSet, sync::Arc};

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_primitives::{Address, Bytes, I256, TxKind, U256, uint};
use alloy_sol_types::{SolCall, SolValue};
use lockstep_building::{BuildError, BundleRun, Lanes, StrategyView, run_bundle};
use lockstep_primitives::{Asset, Bundle, ChainId, Leg, LegTx, Rejection, Relay, Requirement, RevertMode, SignedTx};
use lockstep_simulation::{CallRequest, Checkpoint, PendingBlock, SimulationError, StateView, call};

use crate::{
    InvalidOrder, Order, Rules,
    abi::{allowanceCall, approveCall, balanceOfCall, fillCall, filledCall, nonceUsedCall, openForCall},
    order::Checked,
};

/// Gas of a call that only reads.
const READ_GAS: u64 = 1_000_000;
/// The most gas that opening or filling may take. What it does not take costs nothing.
const CALL_GAS_LIMIT: u64 = 500_000;
const APPROVE_GAS_LIMIT: u64 = 100_000;
const PAYMENT_GAS: u64 = 21_000;
/// What is paid beyond what the relay takes, in percent of that.
const MARGIN_PERCENT: u64 = 25;
const WEI_PER_UNIT: U256 = uint!(1_000_000_000_000_000_000_U256);

/// Why an order is not filled now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is none.
    #[error(transparent)]
    Invalid(#[from] InvalidOrder),
    /// Settlers that are not trusted, or a rollup without a block in the slot.
    #[error("its settlers are not those of the rules, or a rollup of it has no block in the slot")]
    UnknownSettler,
    /// A deadline is over.
    #[error("a deadline of it is over")]
    TooLate,
    /// Opened or filled before.
    #[error("it was opened or filled before")]
    Done,
    /// A token without a price.
    #[error("token {token} of rollup {chain} has no price")]
    NoPrice {
        /// The rollup.
        chain: ChainId,
        /// The token.
        token: Address,
    },
    /// Less in the account than it takes.
    #[error("it takes {needed} with what has to stay, the account has {balance}")]
    Inventory {
        /// What the account has, in the token's smallest unit.
        balance: U256,
        /// What it takes, and what has to stay.
        needed: U256,
    },
    /// The bundle does not go through.
    #[error("the bundle is blocked: {0}")]
    Blocked(Rejection),
    /// The builder has to be paid for the relay, and the destination's native asset has no price.
    #[error("the native asset of rollup {0} has no price to pay the relay by")]
    Unpayable(ChainId),
    /// The builder would not take it, whatever it is paid: what an account pays to itself is worth nothing to it.
    #[error("it is worth {value} to the proposer, with relays it has to be worth {min_relay_value}")]
    Worthless {
        /// In the numeraire's smallest unit.
        value: I256,
        /// In the numeraire's smallest unit.
        min_relay_value: I256,
    },
    /// It gains too little.
    #[error("it gains {gain}, at least {min_profit} are wanted")]
    Profit {
        /// In the numeraire's smallest unit.
        gain: I256,
        /// In the numeraire's smallest unit.
        min_profit: U256,
    },
}

impl Refusal {
    /// Whether it took a simulation to find out.
    pub(crate) const fn simulated(&self) -> bool {
        matches!(self, Self::Blocked(_) | Self::Unpayable(_) | Self::Worthless { .. } | Self::Profit { .. })
    }
}

/// An order that is filled on the open blocks.
#[derive(Clone, Debug)]
pub struct Filled {
    /// What fills it.
    pub bundle: Bundle,
    /// What the account gains, gas and payments included, in the numeraire's smallest unit.
    pub gain: I256,
    /// Which way the message goes that repays: from the order's destination to its origin.
    pub report: (ChainId, ChainId),
}

/// Makes the bundle that fills an order on the open blocks, and leaves it there. Inner: why not, with the blocks as they were.
///
/// # Errors
/// When the engine fails, or a state has to be fetched first.
pub fn fill(
    view: &StrategyView<'_>,
    rules: &Rules,
    order: &Order,
    lanes: &mut Lanes,
) -> Result<Result<Filled, Refusal>, BuildError> {
    let checked = match order.check() {
        Ok(checked) => checked,
        Err(invalid) => return Ok(Err(invalid.into())),
    };
    if let Some(refusal) = refuse(view, rules, order, &checked, lanes)? {
        return Ok(Err(refusal));
    }
    let marks = marks(lanes);
    let mut payment = U256::ZERO;
    // Once to see what the relay takes, and once with what pays for it.
    loop {
        let bundle = bundle(view, order, &checked, lanes, payment)?;
        let attempt = run_bundle(view.slot, lanes, &bundle, &BTreeSet::new())?;
        if let Some(rejection) = attempt.blocked {
            return Ok(Err(Refusal::Blocked(rejection)));
        }
        let (value, min_relay_value) = (attempt.run.value, view.slot.policy.min_relay_value);
        if value < min_relay_value {
            rewind(lanes, &marks);
            // Bundles behind one that building leaves out would miss its nonces.
            if !payment.is_zero() || view.signer.address() == view.slot.proposer {
                return Ok(Err(Refusal::Worthless { value, min_relay_value }));
            }
            payment = in_wei(view, checked.destination, min_relay_value.saturating_sub(value).into_raw())?;
            if payment.is_zero() {
                return Ok(Err(Refusal::Unpayable(checked.destination)));
            }
            continue;
        }
        let gain = gain(view, rules, &attempt.run)?;
        if gain.is_negative() || gain.into_raw() < rules.min_profit {
            rewind(lanes, &marks);
            return Ok(Err(Refusal::Profit { gain, min_profit: rules.min_profit }));
        }
        return Ok(Ok(Filled { bundle, gain, report: (checked.destination, checked.origin) }));
    }
}

/// Where the open blocks are.
pub(crate) fn marks(lanes: &Lanes) -> Vec<(ChainId, Checkpoint)> {
    lanes.iter().map(|(chain, lane)| (*chain, lane.block().checkpoint())).collect()
}

/// Takes the open blocks back to where they were.
pub(crate) fn rewind(lanes: &mut Lanes, marks: &[(ChainId, Checkpoint)]) {
    for (chain, mark) in marks {
        if let Some(lane) = lanes.get_mut(chain) {
            lane.block_mut().rollback(*mark);
        }
    }
}

/// Why an order is not worth trying.
fn refuse(
    view: &StrategyView<'_>,
    rules: &Rules,
    order: &Order,
    checked: &Checked,
    lanes: &Lanes,
) -> Result<Option<Refusal>, BuildError> {
    let trusted = rules.settlers.get(&checked.origin).is_some_and(|settlers| settlers.origin == order.order.originSettler)
        && rules.settlers.get(&checked.destination).is_some_and(|settlers| settlers.destination == checked.destination_settler)
        && checked.origin != checked.destination;
    let (Some(origin), Some(destination)) = (lanes.get(&checked.origin), lanes.get(&checked.destination)) else {
        return Ok(Some(Refusal::UnknownSettler));
    };
    if !trusted {
        return Ok(Some(Refusal::UnknownSettler));
    }
    let (origin, destination) = (origin.block(), destination.block());
    let (open, fill) = (u64::from(order.order.openDeadline), u64::from(order.order.fillDeadline));
    if origin.context().timestamp > open.min(fill) || destination.context().timestamp > fill {
        return Ok(Some(Refusal::TooLate));
    }
    let opened = read(origin, order.order.originSettler, &nonceUsedCall { user: order.order.user, nonce: order.order.nonce })?;
    let filled = read(destination, checked.destination_settler, &filledCall { orderId: checked.id })?;
    if opened != Some(false) || filled != Some(false) {
        return Ok(Some(Refusal::Done));
    }
    for (chain, token) in [(checked.origin, checked.input), (checked.destination, checked.output)] {
        if !rules.prices.contains_key(&(chain, token)) {
            return Ok(Some(Refusal::NoPrice { chain, token }));
        }
    }
    let floor = rules.floors.get(&(checked.destination, checked.output)).copied().unwrap_or_default();
    // Anybody can sign an order for more than there is: that is no failure of the engine, and stops no other order.
    let needed = checked.output_amount.saturating_add(floor);
    let own = view.signer.address();
    let balance = read(destination, checked.output, &balanceOfCall { account: own })?.unwrap_or_default();
    Ok((balance < needed).then_some(Refusal::Inventory { balance, needed }))
}

fn bundle(view: &StrategyView<'_>, order: &Order, checked: &Checked, lanes: &Lanes, payment: U256) -> Result<Bundle, BuildError> {
    let own = view.signer.address();
    let block = |chain: ChainId| lanes.get(&chain).map(|lane| lane.block()).ok_or(BuildError::UnknownRollup(chain));
    let (origin, destination) = (block(checked.origin)?, block(checked.destination)?);
    let open = openForCall { order: order.order.clone(), signature: order.signature.clone(), originFillerData: Bytes::new() };
    let open = tx(view, origin, 0, order.order.originSettler, U256::ZERO, open.abi_encode().into(), CALL_GAS_LIMIT)?;
    let mut txs = Vec::new();
    let settler = checked.destination_settler;
    let allowed = read(destination, checked.output, &allowanceCall { owner: own, spender: settler })?.unwrap_or_default();
    if allowed < checked.output_amount {
        let approve = approveCall { spender: settler, amount: checked.output_amount }.abi_encode();
        txs.push(tx(view, destination, 0, checked.output, U256::ZERO, approve.into(), APPROVE_GAS_LIMIT)?);
    }
    let fill = fillCall {
        orderId: checked.id,
        originData: checked.origin_data.clone(),
        fillerData: own.into_word().abi_encode().into(),
    };
    txs.push(tx(view, destination, txs.len() as u64, settler, U256::ZERO, fill.abi_encode().into(), CALL_GAS_LIMIT)?);
    if !payment.is_zero() {
        txs.push(tx(view, destination, txs.len() as u64, view.slot.proposer, payment, Bytes::new(), PAYMENT_GAS)?);
    }
    let leg = |chain: ChainId, txs: Vec<Arc<SignedTx>>| {
        let txs = txs.into_iter().map(|tx| LegTx { tx, mode: RevertMode::Fail }).collect();
        Leg::Txs { chain, txs }
    };
    let repaid = Requirement {
        chain: checked.origin,
        account: own,
        asset: Asset::Token(checked.input),
        min_increase: checked.input_amount,
    };
    Ok(Bundle {
        legs: vec![
            leg(checked.origin, vec![open]),
            leg(checked.destination, txs),
            // The report of the fill is the only message of that leg.
            Leg::Relay { chain: checked.origin, relay: Relay::Emitted { leg: 1, message: 0 } },
        ],
        require: vec![repaid],
        ..Bundle::default()
    })
}

/// A signed transaction of the account, that many after its next one.
fn tx(
    view: &StrategyView<'_>,
    block: &PendingBlock,
    after: u64,
    to: Address,
    value: U256,
    input: Bytes,
    gas_limit: u64,
) -> Result<Arc<SignedTx>, BuildError> {
    let (own, context) = (view.signer.address(), block.context());
    let account = block.state().account(own).map_err(|error| failed(context.chain, error.into()))?;
    let tx = TxEip1559 {
        chain_id: context.chain,
        nonce: account.map_or(0, |account| account.nonce) + after,
        gas_limit,
        // The base fee of a slot's later block may be higher.
        max_fee_per_gas: u128::from(context.base_fee).saturating_mul(2),
        max_priority_fee_per_gas: 0,
        to: TxKind::Call(to),
        value,
        access_list: Default::default(),
        input,
    };
    let signature = view.signer.sign(tx.signature_hash());
    Ok(Arc::new(SignedTx::from_parts(TxEnvelope::from(tx.into_signed(signature)), own)))
}

/// What the account gains, in the numeraire: native assets at their rollups' prices, tokens at those of the rules.
fn gain(view: &StrategyView<'_>, rules: &Rules, run: &BundleRun) -> Result<I256, BuildError> {
    let own = view.signer.address();
    let mut gain = I256::ZERO;
    for (chain, changes) in &run.balances {
        let native = view.slot.rollups.get(chain).ok_or(BuildError::UnknownRollup(*chain))?.price;
        for change in changes.iter().filter(|change| change.account == own) {
            let price = match change.asset {
                Asset::Native => Some(native),
                Asset::Token(token) => rules.prices.get(&(*chain, token)).copied(),
            };
            let Some(price) = price else { continue };
            let worth = price.weigh(change.change).ok_or(BuildError::Overflow)?;
            gain = gain.checked_add(worth).ok_or(BuildError::Overflow)?;
        }
    }
    Ok(gain)
}

/// An amount in the numeraire and a margin, in wei of a rollup. Zero where its native asset is worth nothing.
fn in_wei(view: &StrategyView<'_>, chain: ChainId, amount: U256) -> Result<U256, BuildError> {
    let price = view.slot.rollups.get(&chain).ok_or(BuildError::UnknownRollup(chain))?.price.0;
    if price.is_zero() {
        return Ok(U256::ZERO);
    }
    let wanted = amount.checked_mul(U256::from(100 + MARGIN_PERCENT)).ok_or(BuildError::Overflow)? / U256::from(100);
    Ok(wanted.checked_mul(WEI_PER_UNIT).ok_or(BuildError::Overflow)?.div_ceil(price))
}

fn read<C: SolCall>(block: &PendingBlock, to: Address, read: &C) -> Result<Option<C::Return>, BuildError> {
    let request = CallRequest::read(to, read.abi_encode().into(), READ_GAS);
    let answer = call(block.context(), block.state(), &request).map_err(|error| failed(block.context().chain, error))?;
    Ok(answer.ok().filter(|outcome| outcome.succeeded()).and_then(|outcome| C::abi_decode_returns(&outcome.output).ok()))
}

fn failed(chain: ChainId, error: SimulationError) -> BuildError {
    BuildError::Lane { chain, cause: error.into() }
}

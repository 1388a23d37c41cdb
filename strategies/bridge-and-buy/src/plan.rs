//! Plans: bundles that wait for their buyer's signature.

use std::collections::BTreeSet;

use alloy_consensus::TxEip1559;
use alloy_primitives::{Address, I256, U256, uint};
use lockstep_building::{Attempt, BuildError, Lanes, Signer, SlotView, open_lanes, run_bundle};
use lockstep_primitives::{Asset, Bundle, ChainId, Leg, LegTx, Relay, Requirement, RevertMode, RollupSet, SignedTx};
use lockstep_simulation::PendingBlock;
use std::sync::Arc;

use crate::{
    Crossing, Intent, PlanError, Want,
    abi::{
        allowanceCall, approveCall, balanceOfCall, buyCall, depositForBurnCall, getAmountsInCall, ownerOfCall, paymentTokenCall,
        priceCall, swapTokensForExactTokensCall, v2,
    },
    draft::{Draft, digest, read, signed, unsigned},
};

/// How final a fast burn of CCTP v2 has to be, and any other.
const CONFIRMED: u32 = 1_000;
const FINALIZED: u32 = 2_000;
const WEI_PER_UNIT: U256 = uint!(1_000_000_000_000_000_000_U256);
/// What is paid beyond what the relay takes, in percent of that: base fees move until the bundle lands.
const MARGIN_PERCENT: u64 = 25;

/// A bundle that nobody has signed yet.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Who has to sign.
    pub buyer: Address,
    /// What is burned on the origin, in the token's smallest unit.
    pub pays: U256,
    /// What the builder is paid on the destination, in wei.
    pub payment: U256,
    /// On the origin.
    before: (ChainId, Vec<TxEip1559>),
    /// On the destination, behind the delivery.
    after: (ChainId, Vec<TxEip1559>),
    require: Vec<Requirement>,
    deadline: Option<u64>,
}

impl Plan {
    /// The bundle, signed by the buyer; `None` when that is not whom `signer` signs for.
    pub fn sign(&self, signer: &dyn Signer) -> Option<Bundle> {
        (signer.address() == self.buyer).then(|| self.bundle(|tx| signed(tx, self.buyer, signer.sign(digest(tx)))))
    }

    fn bundle(&self, sign: impl Fn(&TxEip1559) -> Arc<SignedTx>) -> Bundle {
        let leg = |(chain, txs): &(ChainId, Vec<TxEip1559>)| Leg::Txs {
            chain: *chain,
            txs: txs.iter().map(|tx| LegTx { tx: sign(tx), mode: RevertMode::Fail }).collect(),
        };
        let relay = Leg::Relay { chain: self.after.0, relay: Relay::Emitted { leg: 0, message: 0 } };
        Bundle {
            legs: vec![leg(&self.before), relay, leg(&self.after)],
            max_timestamp: self.deadline,
            require: self.require.clone(),
            ..Bundle::default()
        }
    }
}

/// Plans how an intent is met in a slot. Inner: why it cannot be now.
///
/// # Errors
/// When the engine fails, or a state has to be fetched first.
pub fn plan(slot: &SlotView, intent: &Intent) -> Result<Result<Plan, PlanError>, BuildError> {
    let (origin, destination) = (intent.origin, intent.destination);
    if let Some(absent) = [origin, destination].into_iter().find(|chain| !slot.rollups.contains_key(chain)) {
        return Ok(Err(PlanError::NoBlock(absent)));
    }
    let mut lanes = open_lanes(slot, &RollupSet::from([origin, destination]))?;
    for chain in [origin, destination] {
        let timestamp = block(&lanes, chain)?.context().timestamp;
        if let Some(deadline) = intent.deadline.filter(|deadline| timestamp > *deadline) {
            return Ok(Err(PlanError::TooLate { chain, timestamp, deadline }));
        }
    }
    let price = match price(block(&lanes, destination)?, intent)? {
        Ok(price) => price,
        Err(error) => return Ok(Err(error)),
    };
    // What the attesters may take has to be burned too.
    let pays = price.checked_add(intent.crossing.max_fee()).ok_or(BuildError::Overflow)?;
    if pays > intent.max_pay {
        return Ok(Err(PlanError::TooDear { price: pays, max_pay: intent.max_pay }));
    }
    let balance = read(block(&lanes, origin)?, intent.pay, &balanceOfCall { account: intent.buyer })?.unwrap_or_default();
    if balance < pays {
        return Ok(Err(PlanError::TooPoor { balance, needed: pays }));
    }
    let mut plan = draft(&lanes, intent, price, pays)?;
    // Once to see what it takes, once more to see that it goes through like that.
    let attempt = attempt(slot, &mut lanes, &plan)?;
    if let Some(rejection) = attempt.blocked {
        return Ok(Err(PlanError::Blocked(rejection)));
    }
    let short = slot.policy.min_relay_value.saturating_sub(attempt.run.value);
    if short > I256::ZERO {
        let native = slot.rollups.get(&destination).ok_or(BuildError::UnknownRollup(destination))?.price.0;
        if native.is_zero() {
            return Ok(Err(PlanError::NoNativePrice(destination)));
        }
        let wanted =
            short.into_raw().checked_mul(U256::from(100 + MARGIN_PERCENT)).ok_or(BuildError::Overflow)? / U256::from(100);
        plan.payment = wanted.checked_mul(WEI_PER_UNIT).ok_or(BuildError::Overflow)?.div_ceil(native);
        if plan.payment > intent.max_payment {
            return Ok(Err(PlanError::PaymentTooHigh { payment: plan.payment, max_payment: intent.max_payment }));
        }
        let mut payment = Draft::new(block(&lanes, destination)?, intent.buyer)?;
        payment.pay(slot.proposer, plan.payment);
        let next = plan.after.1.last().map_or(0, |last| last.nonce + 1);
        plan.after.1.extend(payment.txs.into_iter().map(|tx| TxEip1559 { nonce: next, ..tx }));
    }
    let measured = self::attempt(slot, &mut lanes, &plan)?;
    if let Some(rejection) = measured.blocked {
        return Ok(Err(PlanError::Blocked(rejection)));
    }
    let used: Vec<Vec<u64>> = measured
        .run
        .legs
        .iter()
        .map(|leg| leg.txs.iter().map(|tx| tx.outcome.as_ref().map_or(0, |outcome| outcome.gas_used)).collect())
        .collect();
    for (txs, used) in [(&mut plan.before.1, used.first()), (&mut plan.after.1, used.get(2))] {
        for (tx, used) in txs.iter_mut().zip(used.into_iter().flatten()) {
            // A third for refunds, which are given back only at the end.
            tx.gas_limit = used.saturating_add(used / 3).saturating_add(5_000);
        }
    }
    Ok(match self::attempt(slot, &mut lanes, &plan)?.blocked {
        Some(rejection) => Err(PlanError::Blocked(rejection)),
        None => Ok(plan),
    })
}

/// Whether the account has the wanted tokens already. Of a collection a token that is sold says so itself.
pub(crate) fn met(slot: &SlotView, intent: &Intent) -> Result<bool, BuildError> {
    let Want::Token { path, at_least, .. } = &intent.want else { return Ok(false) };
    let Some(token) = path.last().filter(|_| slot.rollups.contains_key(&intent.destination)) else { return Ok(false) };
    let lanes = open_lanes(slot, &RollupSet::from([intent.destination]))?;
    let has = read(block(&lanes, intent.destination)?, *token, &balanceOfCall { account: intent.buyer })?;
    Ok(has.is_some_and(|has| has >= *at_least))
}

/// What the outcome costs on the destination now, in the smallest unit of its dollars.
fn price(block: &PendingBlock, intent: &Intent) -> Result<Result<U256, PlanError>, BuildError> {
    match &intent.want {
        Want::Nft { shop, token_id } => {
            if read(block, *shop, &ownerOfCall { tokenId: *token_id })?.is_some() {
                return Ok(Err(PlanError::Sold(*token_id)));
            }
            Ok(read(block, *shop, &priceCall {})?.ok_or(PlanError::NoPrice(*shop)))
        }
        Want::Token { router, path, at_least } => {
            let amounts = read(block, *router, &getAmountsInCall { amountOut: *at_least, path: path.clone() })?;
            Ok(amounts.and_then(|amounts| amounts.first().copied()).ok_or(PlanError::NoPrice(*router)))
        }
    }
}

fn draft(lanes: &Lanes, intent: &Intent, price: U256, pays: U256) -> Result<Plan, BuildError> {
    let (origin, destination) = (block(lanes, intent.origin)?, block(lanes, intent.destination)?);
    let mut before = Draft::new(origin, intent.buyer)?;
    allow(&mut before, origin, intent.buyer, intent.pay, intent.crossing.messenger(), pays)?;
    let recipient = intent.buyer.into_word();
    match &intent.crossing {
        Crossing::CctpV1 { messenger, domain } => {
            before.call(*messenger, &depositForBurnCall { amount: pays, domain: *domain, recipient, token: intent.pay });
        }
        Crossing::CctpV2 { messenger, domain, max_fee, fast } => before.call(
            *messenger,
            &v2::depositForBurnCall {
                amount: pays,
                domain: *domain,
                recipient,
                token: intent.pay,
                caller: Default::default(),
                maxFee: *max_fee,
                finality: if *fast { CONFIRMED } else { FINALIZED },
            },
        ),
    }
    let mut after = Draft::new(destination, intent.buyer)?;
    let (asset, min_increase, dollars) = match &intent.want {
        Want::Nft { shop, token_id } => {
            let dollars = read(destination, *shop, &paymentTokenCall {})?.unwrap_or_default();
            allow(&mut after, destination, intent.buyer, dollars, *shop, price)?;
            after.call(*shop, &buyCall { tokenId: *token_id });
            // A collection answers `balanceOf` with how many of its tokens somebody has (ERC-721).
            (*shop, U256::ONE, dollars)
        }
        Want::Token { router, path, at_least } => {
            let dollars = path.first().copied().unwrap_or_default();
            allow(&mut after, destination, intent.buyer, dollars, *router, price)?;
            let swap = swapTokensForExactTokensCall {
                amountOut: *at_least,
                amountInMax: price,
                path: path.clone(),
                to: intent.buyer,
                deadline: intent.deadline.map_or(U256::MAX, U256::from),
            };
            after.call(*router, &swap);
            (path.last().copied().unwrap_or_default(), *at_least, dollars)
        }
    };
    let rises = |asset, min_increase| {
        let (chain, account) = (intent.destination, intent.buyer);
        Requirement { chain, account, asset: Asset::Token(asset), min_increase }
    };
    Ok(Plan {
        buyer: intent.buyer,
        pays,
        payment: U256::ZERO,
        before: (intent.origin, before.txs),
        after: (intent.destination, after.txs),
        // It is paid with what crosses and nothing else: where the seller takes another token than the one that is minted, the
        // buyer would pay twice, once of what it has there.
        require: vec![rises(asset, min_increase), rises(dollars, U256::ZERO)],
        deadline: intent.deadline,
    })
}

/// Lets `spender` take `amount` of the buyer's tokens, if it may not yet.
fn allow(
    draft: &mut Draft,
    block: &PendingBlock,
    buyer: Address,
    token: Address,
    spender: Address,
    amount: U256,
) -> Result<(), BuildError> {
    let allowed = read(block, token, &allowanceCall { owner: buyer, spender })?.unwrap_or_default();
    if allowed < amount {
        draft.call(token, &approveCall { spender, amount });
    }
    Ok(())
}

/// Runs the plan on the open blocks, which are afterwards as they were.
fn attempt(slot: &SlotView, lanes: &mut Lanes, plan: &Plan) -> Result<Attempt, BuildError> {
    let marks: Vec<_> = lanes.iter().map(|(chain, lane)| (*chain, lane.block().checkpoint())).collect();
    let attempt = run_bundle(slot, lanes, &plan.bundle(|tx| unsigned(tx, plan.buyer)), &BTreeSet::new())?;
    for (chain, mark) in marks {
        if let Some(lane) = lanes.get_mut(&chain) {
            lane.block_mut().rollback(mark);
        }
    }
    Ok(attempt)
}

fn block(lanes: &Lanes, chain: ChainId) -> Result<&PendingBlock, BuildError> {
    lanes.get(&chain).map(|lane| lane.block()).ok_or(BuildError::UnknownRollup(chain))
}

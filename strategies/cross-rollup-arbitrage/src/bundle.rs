//! From what to trade to a bundle that does it.

use std::sync::Arc;

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_primitives::{Address, Bytes, I256, TxKind, U256, uint};
use alloy_sol_types::{SolCall, sol};
use lockstep_building::{BuildError, BundleRun, Lanes, run_bundle};
use lockstep_primitives::{Asset, Bundle, ChainId, Leg, LegTx, Price, Requirement, RevertMode, SignedTx};
use lockstep_simulation::{PendingBlock, SimulationError, StateView};

use crate::{Desk, Plan, Trade, Venue, best, market, marks, rewind};

sol! {
    function swapExactTokensForTokens(
        uint256 amountIn,
        uint256 amountOutMin,
        address[] path,
        address to,
        uint256 deadline
    ) external returns (uint256[] amounts);
}

/// The most gas that a swap may take. What it does not take costs nothing.
const SWAP_GAS_LIMIT: u64 = 300_000;
/// Gas of a plain payment.
const PAYMENT_GAS: u64 = 21_000;
const BPS: u64 = 10_000;
const WEI_PER_UNIT: U256 = uint!(1_000_000_000_000_000_000_U256);

/// A bundle that was tried.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) bundle: Bundle,
    /// What the account gains, net of everything, in the numeraire's smallest unit.
    pub(crate) gain: I256,
}

/// A payment to the builder.
#[derive(Clone, Copy, Debug)]
struct Payment {
    chain: ChainId,
    wei: U256,
}

impl Desk<'_> {
    /// The most profitable bundle on the open blocks, which are afterwards as they were; `None` when none gains enough.
    pub(crate) fn trade(&self, lanes: &mut Lanes) -> Result<Option<Found>, BuildError> {
        let mut venues = Vec::new();
        let mut pools = Vec::new();
        for venue in &self.venues {
            let block = block(lanes, venue.chain)?;
            let native = self.price(venue.chain)?;
            let account = self.view.signer.address();
            if let Some(pool) = market::read(block, venue, account, native, self.rules.quote_price)? {
                venues.push(*venue);
                pools.push(pool);
            }
        }
        let Some(plan) = best(&pools) else { return Ok(None) };
        let Some(unpaid) = self.measured(lanes, &venues, &plan, None)? else { return Ok(None) };
        let Some(payment) = self.payment(lanes, &venues, &plan, unpaid.gain)? else {
            return Ok(Some(unpaid).filter(|found| self.suffices(found)));
        };
        // The payment costs gas of its own, and may be more than the account has left.
        let paid = self.measured(lanes, &venues, &plan, Some(payment))?;
        Ok(paid.filter(|found| self.suffices(found)))
    }

    fn suffices(&self, found: &Found) -> bool {
        found.gain.is_positive() && found.gain.into_raw() >= self.rules.min_profit
    }

    fn price(&self, chain: ChainId) -> Result<Price, BuildError> {
        Ok(self.view.slot.rollups.get(&chain).ok_or(BuildError::UnknownRollup(chain))?.price)
    }

    /// What the builder is paid of a gain, on the traded rollup where the account has the most of the native asset.
    fn payment(&self, lanes: &Lanes, venues: &[Venue], plan: &Plan, gain: I256) -> Result<Option<Payment>, BuildError> {
        let share = U256::from(self.rules.builder_share_bps.min(BPS));
        let slot = self.view.slot;
        if share.is_zero() || !gain.is_positive() || self.view.signer.address() == slot.proposer {
            return Ok(None);
        }
        let mut richest: Option<(U256, ChainId, Price)> = None;
        for (venue, _) in venues.iter().zip(&plan.trades).filter(|(_, trade)| trade.is_some()) {
            let (_, wei) = account(block(lanes, venue.chain)?, self.view.signer.address())?;
            let price = self.price(venue.chain)?;
            let worth = wei.saturating_mul(price.0) / WEI_PER_UNIT;
            if !price.0.is_zero() && richest.is_none_or(|(most, ..)| worth > most) {
                richest = Some((worth, venue.chain, price));
            }
        }
        let Some((_, chain, price)) = richest else { return Ok(None) };
        let amount = gain.into_raw().checked_mul(share).ok_or(BuildError::Overflow)? / U256::from(BPS);
        let wei = amount.checked_mul(WEI_PER_UNIT).ok_or(BuildError::Overflow)? / price.0;
        Ok(Some(Payment { chain, wei }).filter(|payment| !payment.wei.is_zero()))
    }

    /// Writes the bundle and runs it; `None` when it does not go through.
    fn measured(
        &self,
        lanes: &mut Lanes,
        venues: &[Venue],
        plan: &Plan,
        payment: Option<Payment>,
    ) -> Result<Option<Found>, BuildError> {
        let bundle = self.bundle(lanes, venues, plan, payment)?;
        let marks = marks(lanes);
        let attempt = run_bundle(self.view.slot, lanes, &bundle, &Default::default())?;
        rewind(lanes, &marks);
        if attempt.blocked.is_some() {
            return Ok(None);
        }
        let gain = self.gain(&attempt.run, plan)?;
        Ok(Some(Found { bundle, gain }))
    }

    /// What the account gains: what is left of the trades, and what became of its native assets.
    fn gain(&self, run: &BundleRun, plan: &Plan) -> Result<I256, BuildError> {
        let profit = I256::try_from(plan.profit).map_err(|_| BuildError::Overflow)?;
        let mut gain = self.rules.quote_price.weigh(profit).ok_or(BuildError::Overflow)?;
        let own = self.view.signer.address();
        for (chain, changes) in &run.balances {
            let native = changes.iter().filter(|change| change.account == own && change.asset == Asset::Native);
            for change in native {
                let worth = self.price(*chain)?.weigh(change.change).ok_or(BuildError::Overflow)?;
                gain = gain.checked_add(worth).ok_or(BuildError::Overflow)?;
            }
        }
        Ok(gain)
    }

    fn bundle(&self, lanes: &Lanes, venues: &[Venue], plan: &Plan, payment: Option<Payment>) -> Result<Bundle, BuildError> {
        let own = self.view.signer.address();
        let mut bundle = Bundle::default();
        for (venue, trade) in venues.iter().zip(&plan.trades) {
            let Some(trade) = trade else { continue };
            let (sold, amount_in, bought, amount_out) = match *trade {
                Trade::Buy { base, quote } => (venue.quote, quote, venue.base, base),
                Trade::Sell { base, quote } => (venue.base, base, venue.quote, quote),
            };
            let chain = venue.chain;
            let block = block(lanes, chain)?;
            let (nonce, _) = account(block, own)?;
            let swap = swapExactTokensForTokensCall {
                amountIn: amount_in,
                amountOutMin: amount_out,
                path: vec![sold, bought],
                to: own,
                deadline: U256::MAX,
            };
            let mut txs = vec![self.sign(block, nonce, venue.router, U256::ZERO, swap.abi_encode().into(), SWAP_GAS_LIMIT)];
            if let Some(payment) = payment.filter(|payment| payment.chain == chain) {
                let to = self.view.slot.proposer;
                txs.push(self.sign(block, nonce + 1, to, payment.wei, Bytes::new(), PAYMENT_GAS));
            }
            let txs = txs.into_iter().map(|tx| LegTx { tx, mode: RevertMode::Fail }).collect();
            bundle.legs.push(Leg::Txs { chain, txs });
            bundle.require.push(Requirement { chain, account: own, asset: Asset::Token(bought), min_increase: amount_out });
        }
        Ok(bundle)
    }

    fn sign(&self, block: &PendingBlock, nonce: u64, to: Address, value: U256, input: Bytes, gas_limit: u64) -> Arc<SignedTx> {
        let signer = self.view.signer;
        let context = block.context();
        let tx = TxEip1559 {
            chain_id: context.chain,
            nonce,
            gas_limit,
            // The base fee of a slot's later block may be higher.
            max_fee_per_gas: u128::from(context.base_fee).saturating_mul(2),
            max_priority_fee_per_gas: 0,
            to: TxKind::Call(to),
            value,
            access_list: Default::default(),
            input,
        };
        let signature = signer.sign(tx.signature_hash());
        Arc::new(SignedTx::from_parts(TxEnvelope::from(tx.into_signed(signature)), signer.address()))
    }
}

fn block(lanes: &Lanes, chain: ChainId) -> Result<&PendingBlock, BuildError> {
    lanes.get(&chain).map(|lane| lane.block()).ok_or(BuildError::UnknownRollup(chain))
}

/// An account's next nonce, and its balance in wei.
fn account(block: &PendingBlock, address: Address) -> Result<(u64, U256), BuildError> {
    let chain = block.context().chain;
    let account = block.state().account(address);
    let account = account.map_err(|error| BuildError::Lane { chain, cause: SimulationError::from(error).into() })?;
    Ok(account.map_or((0, U256::ZERO), |account| (account.nonce, account.balance)))
}

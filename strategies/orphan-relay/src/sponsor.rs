//! Payments that make deliveries worth their gas.

use std::sync::Arc;

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_primitives::{Address, I256, TxKind, U256, uint};
use lockstep_building::{BuildError, BundleRun};
use lockstep_primitives::{Asset, Bundle, ChainId, Leg, LegTx, Price, RevertMode, SignedTx};
use lockstep_simulation::{SimulationError, StateView};

use crate::{Orphan, Sponsor, Work};

/// Price and payment are rounded, and a payment has fees of its own in which the proposer has a share: it is measured, and what
/// is still short is added, so often.
const ROUNDS: usize = 4;
/// Gas of a plain payment. A proposer's address with code that needs more is not paid.
const PAYMENT_GAS: u64 = 21_000;
const WEI_PER_UNIT: U256 = uint!(1_000_000_000_000_000_000_U256);

impl Work<'_> {
    /// The bundle with a payment in front of the delivery, which without one is worth `value`; `None` when the budget does not
    /// cover that.
    pub(crate) fn sponsor(&mut self, orphan: &Orphan, sponsor: Sponsor, value: I256) -> Result<Option<Bundle>, BuildError> {
        let slot = self.view.slot;
        // A payment to oneself makes nobody richer.
        if self.view.signer.address() == slot.proposer {
            return Ok(None);
        }
        let chain = orphan.destination;
        let price = slot.rollups.get(&chain).ok_or(BuildError::UnknownRollup(chain))?.price;
        // No bid is made for less than nothing, whatever the policy says.
        let floor = slot.policy.min_relay_value.max(I256::ZERO);
        let budget = I256::try_from(sponsor.budget).unwrap_or(I256::MAX);
        let mut wei = U256::ZERO;
        let mut short = floor.saturating_sub(value);
        // Who would pay for less does not let it lie because it is worth a little.
        if !short.is_positive() {
            let plain = orphan.plain();
            return Ok(self.run(orphan, &plain, |_, _| true)?.map(|_| plain));
        }
        for _ in 0..ROUNDS {
            let Some(paid) = wei_for(short, price).and_then(|more| wei.checked_add(more)) else { return Ok(None) };
            wei = paid;
            let least = I256::try_from(wei).ok().and_then(|wei| price.weigh(wei));
            if least.is_none_or(|least| least > budget) {
                return Ok(None);
            }
            let txs = vec![LegTx { tx: self.payment(chain, wei)?, mode: RevertMode::Fail }];
            let bundle = Bundle { legs: vec![Leg::Txs { chain, txs }, orphan.leg()], ..Bundle::default() };
            let Some(worth) = self.run(orphan, &bundle, |value, cost| value >= floor && cost <= budget)? else {
                return Ok(None);
            };
            if worth.kept {
                self.sponsored += 1;
                return Ok(Some(bundle));
            }
            if worth.cost > budget {
                return Ok(None);
            }
            short = floor.saturating_sub(worth.value);
        }
        Ok(None)
    }

    /// A payment to the proposer from the strategy's account, with the nonce that comes next.
    fn payment(&self, chain: ChainId, wei: U256) -> Result<Arc<SignedTx>, BuildError> {
        let lane = self.lanes.get(&chain).ok_or(BuildError::UnknownRollup(chain))?;
        let (block, signer) = (lane.block(), self.view.signer);
        let account = block.state().account(signer.address());
        let account = account.map_err(|error| BuildError::Lane { chain, cause: SimulationError::from(error).into() })?;
        let tx = TxEip1559 {
            chain_id: chain,
            nonce: account.map_or(0, |account| account.nonce),
            gas_limit: PAYMENT_GAS,
            // The base fee of a slot's later block may be higher.
            max_fee_per_gas: u128::from(block.context().base_fee).saturating_mul(2),
            max_priority_fee_per_gas: 0,
            to: TxKind::Call(self.view.slot.proposer),
            value: wei,
            access_list: Default::default(),
            input: Default::default(),
        };
        let signature = signer.sign(tx.signature_hash());
        Ok(Arc::new(SignedTx::from_parts(TxEnvelope::from(tx.into_signed(signature)), signer.address())))
    }
}

/// The wei that are worth at least `amount` of the numeraire's smallest unit; none for what is not positive. `None` when no
/// amount is.
fn wei_for(amount: I256, price: Price) -> Option<U256> {
    if !amount.is_positive() {
        return Some(U256::ZERO);
    }
    if price.0.is_zero() {
        return None;
    }
    let scaled = amount.into_raw().checked_mul(WEI_PER_UNIT)?;
    Some(scaled.div_ceil(price.0))
}

/// What a bundle took of an account's native asset on a rollup, in the numeraire's smallest unit; `None` on overflow.
pub(crate) fn cost(run: &BundleRun, chain: ChainId, account: Address, price: Price) -> Option<I256> {
    let changes = run.balances.get(&chain).into_iter().flatten();
    let own = changes.filter(|change| change.account == account && change.asset == Asset::Native).map(|change| change.change);
    price.weigh(own.fold(I256::ZERO, I256::saturating_add))?.checked_neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_paid_is_worth_no_less_than_what_is_short() {
        let third = Price(WEI_PER_UNIT / U256::from(3));
        for short in [1_i64, 2, 3, 1_000_001] {
            let short = I256::try_from(short).unwrap();
            let wei = I256::try_from(wei_for(short, third).unwrap()).unwrap();
            assert!(third.weigh(wei).unwrap() >= short);
            assert!(third.weigh(wei - I256::ONE).unwrap() < short, "and no wei more");
        }
        assert_eq!(wei_for(I256::MINUS_ONE, third), Some(U256::ZERO));
        assert_eq!(wei_for(I256::ONE, Price(U256::ZERO)), None);
    }
}

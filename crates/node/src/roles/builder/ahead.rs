//! Epochs: a builder bids for those that are sold, what their slots will be worth as far as the past tells.

use std::{collections::BTreeMap, sync::Arc};

use alloy_primitives::{I256, U256};
use lockstep_building::Standing;
use lockstep_market::{Forecast, MAX_AMOUNT, MAX_BIDS_PER_BIDDER, Valued};
use lockstep_primitives::{EpochBid, RollupSet, SlotNumber};
use lockstep_rpc::{
    api::MarketApiClient,
    wire::{EpochBidWire, EpochView},
};

use super::BuilderRole;
use crate::clock::now_ms;

impl BuilderRole {
    /// Bids for the epoch that is being sold, once.
    pub(super) async fn bid_ahead(self: Arc<Self>, slot: SlotNumber) {
        if !self.settings.bids_ahead {
            return;
        }
        let view = match self.market.get_epoch(None).await {
            Ok(Some(view)) => view,
            Ok(None) => return,
            Err(error) => return tracing::warn!(slot, %error, "the market does not tell which epoch it sells"),
        };
        if self.bid_epoch.lock().is_some_and(|last| last >= view.epoch) {
            return;
        }
        let bids = bids(&view, &self.forecast.lock(), now_ms());
        if bids.is_empty() {
            return;
        }
        *self.bid_epoch.lock() = Some(view.epoch);
        for bid in bids {
            let wire = EpochBidWire::new(&bid, self.settings.key.sign_bytes(bid.digest()));
            let result = match self.market.submit_epoch_bid(wire).await {
                Ok(_) => "taken",
                Err(error) => {
                    tracing::warn!(epoch = bid.epoch, rollups = ?bid.rollups, amount = %bid.amount, %error, "the bid was refused");
                    "refused"
                }
            };
            metrics::counter!("lockstep_epoch_bids_total", "result" => result).increment(1);
        }
    }
}

/// For every package of which the past tells something: what one slot is worth, for each slot in which all of it is sold.
fn bids(view: &EpochView, forecast: &Forecast, nonce: u64) -> Vec<EpochBid> {
    let lots: BTreeMap<u64, _> = view.on_sale.iter().map(|lot| (lot.chain_id.to::<u64>(), lot)).collect();
    let bid = |rollups: &RollupSet| {
        let sold = rollups.iter().map(|chain| lots.get(chain).copied()).collect::<Option<Vec<_>>>()?;
        if sold.iter().any(|lot| lot.unit.iter().any(|member| !rollups.contains(&member.to::<u64>()))) {
            return None;
        }
        let (first, others) = sold.split_first()?;
        let slots = first.slots.iter().filter(|slot| others.iter().all(|lot| lot.slots.contains(slot))).count();
        let amount = forecast.worth(rollups)?.saturating_mul(U256::from(slots)).min(MAX_AMOUNT);
        let reserve = sold.iter().fold(U256::ZERO, |sum, lot| sum.saturating_add(lot.reserve.0));
        let bid = EpochBid { epoch: view.epoch, rollups: rollups.clone(), amount, exclusive: None, nonce };
        (!amount.is_zero() && amount >= reserve).then_some(bid)
    };
    forecast.sets().filter_map(bid).take(MAX_BIDS_PER_BIDDER).collect()
}

/// What packages are worth to somebody who holds `held` already: what they add to it.
pub(super) fn beside_held(packages: Vec<(RollupSet, I256, Valued)>, held: &RollupSet) -> Vec<Valued> {
    let base = packages.iter().find(|(rollups, ..)| rollups == held).map_or(I256::ZERO, |(_, value, _)| *value);
    let mut best: BTreeMap<RollupSet, Valued> = BTreeMap::new();
    for (rollups, value, package) in packages {
        let added = if held.is_subset(&rollups) { value.saturating_sub(base) } else { value };
        let apart = held.is_subset(&rollups) || held.is_disjoint(&rollups);
        if !apart || package.rollups.is_empty() || added.is_negative() {
            continue;
        }
        let worth = Valued { value: added.into_raw(), ..package };
        let known = best.entry(worth.rollups.clone()).or_insert_with(|| worth.clone());
        if worth.value > known.value {
            *known = worth;
        }
    }
    best.into_values().collect()
}

/// What slots were worth, for forecasts.
pub(super) fn observed(standings: &[(RollupSet, Standing)]) -> impl Iterator<Item = (RollupSet, U256)> {
    let worth = standings.iter().filter(|(_, standing)| standing.value > I256::ZERO);
    worth.map(|(rollups, standing)| (rollups.clone(), standing.value.into_raw()))
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{B256, U64};
    use lockstep_rpc::wire::{Decimal, EpochLot};

    use super::*;

    fn set(rollups: &[u64]) -> RollupSet {
        rollups.iter().copied().collect()
    }

    #[test]
    fn an_epoch_is_bid_for_by_what_its_slots_were_worth() {
        let lot = |chain: u64, unit: &[u64], slots: &[u64]| EpochLot {
            chain_id: U64::from(chain),
            unit: unit.iter().map(|member| U64::from(*member)).collect(),
            reserve: Decimal(U256::from(10 * slots.len())),
            slots: slots.to_vec(),
        };
        let view = EpochView {
            epoch: 3,
            first_slot: 12,
            slots: 4,
            close_ms: 0,
            state: "open".to_owned(),
            on_sale: vec![
                lot(1, &[1], &[12, 13, 14, 15]),
                lot(2, &[2], &[12, 14]),
                lot(3, &[3, 4], &[12]),
                lot(4, &[3, 4], &[12]),
            ],
            seed_commitment: B256::ZERO,
            seed: None,
            bids: Vec::new(),
        };
        let mut forecast = Forecast::new(8, 5_000, 0);
        for _ in 0..3 {
            let worth = [(set(&[1]), 20), (set(&[2]), 9), (set(&[1, 2]), 40), (set(&[3]), 50), (set(&[5]), 50)];
            forecast.observe(worth.map(|(rollups, value)| (rollups, U256::from(value))));
        }
        let amounts: Vec<(RollupSet, u64)> =
            bids(&view, &forecast, 1).into_iter().map(|bid| (bid.rollups, bid.amount.to())).collect();
        // 2 is worth less than its reserve, 3 goes with 4 only, and 5 is not sold.
        assert_eq!(amounts, [(set(&[1]), 80), (set(&[1, 2]), 80)]);
    }

    #[test]
    fn what_is_held_already_is_not_paid_for_again() {
        let package = |rollups: &[u64], value: i64| {
            let on_sale = rollups.iter().copied().filter(|chain| *chain != 1).collect();
            let package = Valued { rollups: on_sale, value: U256::ZERO, reserve: U256::ZERO };
            (set(rollups), I256::try_from(value).unwrap(), package)
        };
        let packages = vec![package(&[1], 30), package(&[2], 10), package(&[1, 2], 70), package(&[2, 3], 15), package(&[3], 5)];
        let worth = beside_held(packages, &set(&[1]));
        let worth: Vec<(RollupSet, u64)> = worth.into_iter().map(|valued| (valued.rollups, valued.value.to())).collect();
        assert_eq!(worth, [(set(&[2]), 40), (set(&[2, 3]), 15), (set(&[3]), 5)]);
    }
}

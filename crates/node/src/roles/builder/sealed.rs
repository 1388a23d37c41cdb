//! Bids for a market that takes them sealed.

use std::sync::Arc;

use alloy_primitives::{B256, U256, keccak256};
use lockstep_market::{AcceptedBid, most_payable};
use lockstep_primitives::{Bid, Opening, SealedBids, SlotNumber};
use lockstep_rpc::{
    api::MarketApiClient,
    wire::{OpeningWire, SealedBidsWire, SealingView},
};

use super::{BuilderRole, POLL_MS};
use crate::clock::{now_ms, sleep_until};

impl BuilderRole {
    /// Seals bids, and has them opened when it is time. Whether the market took them.
    pub(super) async fn seal(self: &Arc<Self>, slot: SlotNumber, bids: Vec<Bid>, sealing: SealingView, close_ms: u64) -> bool {
        let bidder = self.address();
        let nonce = now_ms();
        // Nobody else can make it, and it is another one each time.
        let purpose = [b"lockstep salt of sealed bids ".as_slice(), &slot.to_be_bytes(), &nonce.to_be_bytes()].concat();
        let salt = keccak256(self.settings.key.sign_bytes(keccak256(purpose)));
        let cover = cover(&bids, bidder);
        let opening = Opening { slot, bidder, salt, bids };
        let sealed = SealedBids { slot, commitment: opening.commitment(), bids: opening.bids.len() as u64, cover, nonce };
        let wire = SealedBidsWire::new(&sealed, self.settings.key.sign_bytes(sealed.digest()));
        if let Err(error) = self.market.submit_sealed_bids(wire).await {
            tracing::warn!(slot, %cover, %error, "the sealed bids were refused");
            return false;
        }
        tokio::spawn(Arc::clone(self).open(opening, sealing.seal_ms, close_ms));
        true
    }

    /// Opens sealed bids, and tries again as long as it is time: not to open them costs a part of their cover.
    async fn open(self: Arc<Self>, opening: Opening, seal_ms: u64, close_ms: u64) {
        let wire = OpeningWire::new(&opening);
        sleep_until(seal_ms).await;
        loop {
            match self.market.open_bids(wire.clone()).await {
                Ok(_) => return,
                // The market's clock may be behind ours.
                Err(error) if now_ms() + POLL_MS < close_ms => tracing::debug!(slot = opening.slot, %error, "not opened yet"),
                Err(error) => {
                    metrics::counter!("lockstep_sealed_bids_lost_total").increment(1);
                    tracing::error!(slot = opening.slot, %error, "sealed bids could not be opened: a part of their cover is forfeited");
                    return;
                }
            }
            sleep_until(now_ms() + POLL_MS).await;
        }
    }
}

/// What bids may cost together, rounded up to a power of two: everybody sees it, and it is not to say what is bid.
fn cover(bids: &[Bid], bidder: alloy_primitives::Address) -> U256 {
    let bids: Vec<AcceptedBid> = bids.iter().map(|bid| AcceptedBid { bidder, bid: bid.clone(), digest: B256::ZERO }).collect();
    let payable = most_payable(&bids);
    payable.checked_next_power_of_two().unwrap_or(payable).min(lockstep_market::MAX_AMOUNT)
}

#[cfg(test)]
mod tests {
    use alloy_primitives::Address;

    use super::*;

    #[test]
    fn a_cover_is_enough_and_does_not_tell_the_bid() {
        let bid = |amount: u64| Bid { slot: 1, rollups: [1].into(), amount: U256::from(amount), exclusive: None, nonce: 1 };
        let covered = |amount| cover(&[bid(amount)], Address::ZERO).to::<u64>();
        assert_eq!([covered(1_000), covered(1_024), covered(1_025)], [1_024, 1_024, 2_048]);
        let most = Bid { amount: lockstep_market::MAX_AMOUNT, ..bid(0) };
        assert_eq!(cover(&[most], Address::ZERO), lockstep_market::MAX_AMOUNT);
    }
}

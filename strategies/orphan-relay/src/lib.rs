//! Delivers messages that nobody else delivers.
//!
//! A message that landed on its rollup and is not delivered after a while is an orphan: its sender's funds have left one rollup
//! and reached no other. For each orphan of a slot this strategy makes a bundle of one relay. The builder signs and pays the
//! delivery, so it is worth something where the delivery itself pays the builder, say because the message's target pays
//! whoever delivers it.
//!
//! Where it does not, a [`Sponsor`] may pay: then the bundle begins with a payment from the strategy's account to the proposer
//! that makes the delivery worth what the builder's policy demands of it, and nothing is paid unless the message is
//! delivered. That is how an operator completes at its own cost what its own breach left open.

mod sponsor;

use std::collections::BTreeSet;

use alloy_primitives::{B256, I256, U256};
use lockstep_building::{BuildError, Lanes, SlotView, Strategy, StrategyView, open_lanes, run_bundle};
use lockstep_primitives::{Bundle, ChainId, LandedRef, Leg, Relay, RollupSet};

/// What the strategy delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The least that a delivery has to be worth to the proposer without a sponsor, in the numeraire's smallest unit. What the
    /// builder's policy demands of every relay holds too.
    pub min_value: I256,
    /// Who pays for what is worth less.
    pub sponsor: Option<Sponsor>,
    /// The most messages that are delivered in one slot.
    pub max_relays: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self { min_value: I256::ZERO, sponsor: None, max_relays: 16 }
    }
}

/// Pays for deliveries, from the strategy's account on their destination. That has to be another account than the proposer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sponsor {
    /// The most that one message may cost, gas of the payment included, in the numeraire's smallest unit.
    pub budget: U256,
    /// The most messages that are paid for in one slot.
    pub max_per_slot: usize,
}

/// The strategy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrphanRelay(pub Rules);

/// A message that nobody delivers, and whose destination has a block in the slot.
#[derive(Clone, Copy, Debug)]
struct Orphan {
    at: LandedRef,
    id: B256,
    destination: ChainId,
}

impl Orphan {
    fn leg(&self) -> Leg {
        Leg::Relay { chain: self.destination, relay: Relay::Landed(self.at) }
    }

    /// The delivery alone.
    fn plain(&self) -> Bundle {
        Bundle { legs: vec![self.leg()], ..Bundle::default() }
    }
}

impl Strategy for OrphanRelay {
    fn name(&self) -> &'static str {
        "orphan-relay"
    }

    fn bundles(&self, view: &StrategyView<'_>) -> Result<Vec<Bundle>, BuildError> {
        let orphans = orphans(view.slot);
        if orphans.is_empty() {
            return Ok(Vec::new());
        }
        let destinations: RollupSet = orphans.iter().map(|orphan| orphan.destination).collect();
        let mut work = Work {
            rules: &self.0,
            view,
            lanes: open_lanes(view.slot, &destinations)?,
            delivered: BTreeSet::new(),
            // What somebody asked for, and is worth it, needs nobody to pay for it.
            asked_for: asked_for(view),
            sponsored: 0,
        };
        let mut bundles = Vec::new();
        for orphan in orphans {
            if bundles.len() >= self.0.max_relays {
                break;
            }
            if !work.delivered.contains(&orphan.id) {
                bundles.extend(work.deliver(&orphan)?);
            }
        }
        Ok(bundles)
    }
}

/// The orphans that can be delivered in the slot, in the order in which they were found.
fn orphans(slot: &SlotView) -> Vec<Orphan> {
    let known = slot.facts.orphans.iter().filter_map(|at| {
        let message = &slot.facts.landed.get(at)?.as_ref().ok()?.message;
        let destination = message.destination.filter(|chain| slot.rollups.contains_key(chain))?;
        Some(Orphan { at: *at, id: message.id, destination })
    });
    known.collect()
}

/// The messages that pending bundles deliver, where those are worth what the builder's policy demands.
fn asked_for(view: &StrategyView<'_>) -> BTreeSet<B256> {
    let worth = view.pending.iter().filter(|entry| {
        let floor = view.slot.policy.min_relay_value;
        entry.attempt.blocked.is_none() && entry.attempt.run.value >= floor
    });
    worth.flat_map(|entry| entry.attempt.run.delivered.iter().copied()).collect()
}

/// A slot while its orphans are delivered one after the other, each on what the ones before it left.
struct Work<'a> {
    rules: &'a Rules,
    view: &'a StrategyView<'a>,
    lanes: Lanes,
    delivered: BTreeSet<B256>,
    asked_for: BTreeSet<B256>,
    sponsored: usize,
}

impl Work<'_> {
    /// The bundle that delivers a message, when it is worth it or paid for.
    fn deliver(&mut self, orphan: &Orphan) -> Result<Option<Bundle>, BuildError> {
        // Whoever asked for it wants it in a bundle with more, which would be void without it.
        if self.asked_for.contains(&orphan.id) {
            return Ok(None);
        }
        let floor = self.rules.min_value.max(self.view.slot.policy.min_relay_value);
        let plain = orphan.plain();
        let Some(worth) = self.run(orphan, &plain, |value, _| value >= floor)? else { return Ok(None) };
        if worth.kept {
            return Ok(Some(plain));
        }
        match self.rules.sponsor {
            Some(sponsor) if self.sponsored < sponsor.max_per_slot => self.sponsor(orphan, sponsor, worth.value),
            _ => Ok(None),
        }
    }

    /// Runs a bundle on the open blocks. It stays there when `keep` says so of its value and of what it costs the strategy's
    /// account, both in the numeraire. `None` when it does not run at all.
    fn run(&mut self, orphan: &Orphan, bundle: &Bundle, keep: impl Fn(I256, I256) -> bool) -> Result<Option<Worth>, BuildError> {
        let (slot, chain) = (self.view.slot, orphan.destination);
        let unknown = || BuildError::UnknownRollup(chain);
        let mark = self.lanes.get(&chain).ok_or_else(unknown)?.block().checkpoint();
        let attempt = run_bundle(slot, &mut self.lanes, bundle, &self.delivered)?;
        if attempt.blocked.is_some() {
            return Ok(None);
        }
        let price = slot.rollups.get(&chain).ok_or_else(unknown)?.price;
        let cost = sponsor::cost(&attempt.run, chain, self.view.signer.address(), price).ok_or(BuildError::Overflow)?;
        let value = attempt.run.value;
        let kept = keep(value, cost);
        if kept {
            self.delivered.extend(attempt.run.delivered);
        } else if let Some(lane) = self.lanes.get_mut(&chain) {
            lane.block_mut().rollback(mark);
        }
        Ok(Some(Worth { value, cost, kept }))
    }
}

/// What a delivery came to.
#[derive(Clone, Copy, Debug)]
struct Worth {
    /// To the proposer, in the numeraire's smallest unit.
    value: I256,
    /// What the strategy's account paid, in the same.
    cost: I256,
    /// Whether it stays in the open blocks.
    kept: bool,
}

//! Greedy building: bundles by value for gas, each all-or-nothing over all its rollups.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{B256, I256};
use lockstep_primitives::{Bundle, ChainId, Leg, Place, Reason, Rejection, RollupSet};

use crate::{
    BuildError, Draft, LaneDraft, Lanes, Placed, Simulated, SlotView, inclusion, open_lanes,
    order::{arrange, check_open},
    run_bundle,
    simulate::advance,
};

/// Builds a draft for a set of rollups from the bundles whose rollups all lie in it, and from the rollups' inclusion lists.
///
/// The slot's first blocks are filled first. Within a block the bundle of the greatest value for its gas goes first, as far as
/// the rollups' ordering lets it; among equals the one admitted earlier. What another bundle may yet cure (a nonce gap, a
/// missing balance) is tried again after every pass that placed something. A bundle that would break the order of a block is
/// left out. Transactions of inclusion lists come after everything that is worth something, or where the ordering wants them.
///
/// # Errors
/// When the engine fails.
pub fn build(view: &SlotView, simulated: &[Simulated], rollups: &RollupSet) -> Result<Draft, BuildError> {
    let (draft, crowded) = attempt(view, simulated, rollups, &RollupSet::new())?;
    if crowded.is_empty() {
        return Ok(draft);
    }
    // Room that is kept for evidence is free again once the list is sealed, and then nothing excuses that an inclusion list's
    // transaction is not in it.
    attempt(view, simulated, rollups, &crowded).map(|(draft, _)| draft)
}

/// Builds without relays to the rollups in `unrelayed`. Also tells on which rollups room that is kept for evidence keeps a
/// transaction of the inclusion list out.
fn attempt(
    view: &SlotView,
    simulated: &[Simulated],
    rollups: &RollupSet,
    unrelayed: &RollupSet,
) -> Result<(Draft, RollupSet), BuildError> {
    let mut lanes = open_lanes(view, rollups)?;
    let inside = simulated.iter().filter(|entry| entry.candidate.bundle.rollups().is_subset(rollups));
    let (mut waiting, relaying): (Vec<&Simulated>, Vec<&Simulated>) =
        inside.partition(|entry| relay_to(&entry.candidate.bundle, unrelayed).is_none());
    let demanded: Vec<Simulated> = rollups
        .iter()
        .filter_map(|chain| Some(inclusion::candidates(*chain, &view.rollups.get(chain)?.inclusion)))
        .flatten()
        .collect();
    // What users sent as a single transaction is there already.
    let known: BTreeSet<B256> = waiting.iter().map(|entry| entry.candidate.hash).collect();
    let added: Vec<&Simulated> = demanded.iter().filter(|entry| !known.contains(&entry.candidate.hash)).collect();
    let added_hashes: BTreeSet<B256> = added.iter().map(|entry| entry.candidate.hash).collect();
    waiting.extend(added);
    let mut builder = Builder {
        view,
        demanded: demanded.iter().map(|entry| entry.candidate.hash).collect(),
        crowded: BTreeMap::new(),
        placed: Vec::new(),
        delivered: BTreeSet::new(),
        edges: BTreeSet::new(),
        reasons: BTreeMap::new(),
    };
    loop {
        // Every block has a base fee and a lane of its own.
        waiting = arrange(view, &lanes, waiting);
        builder.fill(&mut lanes, &mut waiting)?;
        builder.note_crowded(&lanes, &waiting);
        if !advance(&mut lanes)? {
            break;
        }
    }
    let mut lane_drafts = BTreeMap::new();
    for (chain, lane) in lanes {
        let blocks = lane.finish().map_err(|cause| BuildError::Lane { chain, cause })?;
        lane_drafts.insert(chain, LaneDraft { chain, blocks });
    }
    let value = builder
        .placed
        .iter()
        .try_fold(I256::ZERO, |sum, placed| sum.checked_add(placed.run.value))
        .ok_or(BuildError::Overflow)?;
    let mut left_out: Vec<(B256, Rejection)> = waiting
        .iter()
        .map(|entry| entry.candidate.hash)
        .filter(|hash| !added_hashes.contains(hash))
        .filter_map(|hash| builder.reasons.remove(&hash).map(|rejection| (hash, rejection)))
        .collect();
    left_out.extend(relaying.into_iter().filter_map(|entry| {
        let chain = relay_to(&entry.candidate.bundle, unrelayed)?;
        let reason = Reason::NoRoom { gas: view.policy.relay_gas_limit, left: 0 };
        Some((entry.candidate.hash, Rejection::new(Place::rollup(chain), reason)))
    }));
    let placed: BTreeSet<B256> = builder.placed.iter().map(|placed| placed.hash).collect();
    let crowded = builder.crowded.into_iter().filter(|(hash, _)| !placed.contains(hash)).map(|(_, chain)| chain).collect();
    let draft = Draft { slot: view.slot, rollups: rollups.clone(), lanes: lane_drafts, placed: builder.placed, left_out, value };
    Ok((draft, crowded))
}

/// The first of these rollups that the bundle has a relay to.
fn relay_to(bundle: &Bundle, rollups: &RollupSet) -> Option<ChainId> {
    bundle.legs.iter().find_map(|leg| match leg {
        Leg::Relay { chain, .. } => rollups.get(chain).copied(),
        Leg::Txs { .. } => None,
    })
}

struct Builder<'a> {
    view: &'a SlotView,
    /// The bundles that inclusion lists demand.
    demanded: BTreeSet<B256>,
    /// Those of them that would have room if none were kept for evidence, by the rollup of the block.
    crowded: BTreeMap<B256, ChainId>,
    placed: Vec<Placed>,
    delivered: BTreeSet<B256>,
    edges: BTreeSet<(ChainId, ChainId)>,
    reasons: BTreeMap<B256, Rejection>,
}

impl Builder<'_> {
    fn fill(&mut self, lanes: &mut Lanes, waiting: &mut Vec<&Simulated>) -> Result<(), BuildError> {
        for _ in 0..self.view.policy.max_passes {
            let before = self.placed.len();
            let mut rest = Vec::with_capacity(waiting.len());
            for entry in waiting.drain(..) {
                match self.try_place(lanes, entry)? {
                    None => {}
                    Some(rejection) => {
                        self.reasons.insert(entry.candidate.hash, rejection);
                        rest.push(entry);
                    }
                }
            }
            *waiting = rest;
            if self.placed.len() == before || waiting.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Places the bundle, or says why not and leaves no trace of it.
    fn try_place(&mut self, lanes: &mut Lanes, entry: &Simulated) -> Result<Option<Rejection>, BuildError> {
        let bundle = &entry.candidate.bundle;
        let marks: Vec<_> =
            bundle.rollups().into_iter().filter_map(|chain| Some((chain, lanes.get(&chain)?.block().checkpoint()))).collect();
        let attempt = run_bundle(self.view, lanes, bundle, &self.delivered)?;
        // What the sequencer demands is in, whatever it is worth.
        let demanded = self.demanded.contains(&entry.candidate.hash);
        let rejection = match attempt.blocked {
            Some(rejection) => Some(rejection),
            None if attempt.run.value < I256::ZERO && !demanded => {
                Some(Rejection::new(Place::BUNDLE, Reason::Unprofitable { value: attempt.run.value }))
            }
            None if self.closes_untrusted_cycle(&attempt.run.edges) => {
                Some(Rejection::new(Place::BUNDLE, Reason::MutualMessages))
            }
            None => self.out_of_order(lanes, bundle),
        };
        if let Some(rejection) = rejection {
            for (chain, mark) in marks {
                if let Some(lane) = lanes.get_mut(&chain) {
                    lane.block_mut().rollback(mark);
                }
            }
            return Ok(Some(rejection));
        }
        self.reasons.remove(&entry.candidate.hash);
        self.delivered.extend(attempt.run.delivered.iter().copied());
        self.edges.extend(attempt.run.edges.iter().copied());
        self.placed.push(Placed { hash: entry.candidate.hash, bundle: entry.candidate.bundle.clone(), run: attempt.run });
        Ok(None)
    }

    /// Whether one of the bundle's rollups does not allow its open block to go on like this.
    fn out_of_order(&self, lanes: &Lanes, bundle: &Bundle) -> Option<Rejection> {
        bundle.rollups().into_iter().find_map(|chain| {
            let error = check_open(self.view.rollups.get(&chain)?, lanes.get(&chain)?).err()?;
            let (position, earlier_position) = (error.position, error.earlier_position);
            Some(Rejection::new(Place::rollup(chain), Reason::OutOfOrder { position, earlier_position, text: error.text }))
        })
    }

    /// Notes which transactions of inclusion lists have no room in the open blocks only because it is kept for evidence.
    fn note_crowded(&mut self, lanes: &Lanes, waiting: &[&Simulated]) {
        for hash in waiting.iter().map(|entry| entry.candidate.hash).filter(|hash| self.demanded.contains(hash)) {
            let Some(rejection) = self.reasons.get(&hash) else { continue };
            let Some((chain, lane)) = rejection.place.chain.and_then(|chain| Some((chain, lanes.get(&chain)?))) else { continue };
            let block = lane.block();
            let (needed, used) = match rejection.reason {
                Reason::NoRoom { gas, .. } => (gas, block.gas_used()),
                Reason::NoDataRoom { footprint, .. } => (footprint, block.footprint()),
                _ => continue,
            };
            let relayed = self.placed.iter().flat_map(|placed| &placed.run.relays).any(|relay| relay.chain == chain);
            if relayed && used.saturating_add(needed) <= block.context().gas_limit {
                self.crowded.insert(hash, chain);
            }
        }
    }

    /// Whether messages would go in a circle over a rollup that is not trusted: then no order of preparing them exists.
    fn closes_untrusted_cycle(&self, new: &BTreeSet<(ChainId, ChainId)>) -> bool {
        let edges: BTreeSet<_> = self.edges.union(new).copied().collect();
        edges.iter().any(|(origin, destination)| {
            let circular = reaches(&edges, *destination, *origin);
            let trusted = &self.view.policy.trusted;
            circular && !(trusted.contains(origin) && trusted.contains(destination))
        })
    }
}

fn reaches(edges: &BTreeSet<(ChainId, ChainId)>, from: ChainId, to: ChainId) -> bool {
    let mut seen = BTreeSet::from([from]);
    let mut open = vec![from];
    while let Some(chain) = open.pop() {
        if chain == to {
            return true;
        }
        for (_, next) in edges.range((chain, ChainId::MIN)..=(chain, ChainId::MAX)) {
            if seen.insert(*next) {
                open.push(*next);
            }
        }
    }
    false
}

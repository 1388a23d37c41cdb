//! Greedy building: bundles by value for gas, each all-or-nothing over all its rollups.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy_primitives::{Address, B256, I256};
use lockstep_primitives::{Bundle, ChainId, Leg, OrderingPolicy, Place, Reason, Rejection, RollupSet};

use crate::{
    BuildError, Draft, LaneDraft, Lanes, LegRun, Placed, Simulated, SlotView, inclusion, open_lanes,
    order::{arrange, check_open},
    run_bundle,
    simulate::advance,
};

/// How often what closes a block to something demanded is left out bundle by bundle. Then its rollup holds nothing else.
const MAX_REBUILDS: usize = 3;

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
    let mut aside = Aside::default();
    let mut rebuilds = 0;
    loop {
        let (draft, found) = attempt(view, simulated, rollups, &aside)?;
        if !aside.grow(found, rebuilds >= MAX_REBUILDS) {
            return Ok(draft);
        }
        rebuilds += 1;
    }
}

/// What is left out, because it keeps something out that a sequencer demands: without that no list is voted for.
#[derive(Debug, Default)]
struct Aside {
    /// Relays to these rollups. Room that is kept for evidence is free again once the list is sealed, and then nothing excuses
    /// that what is demanded is not in it.
    unrelayed: RollupSet,
    /// Bundles behind which the order of a block lets nothing come that is demanded, and what it says.
    closing: BTreeMap<B256, Rejection>,
    /// Everything that is not demanded on these rollups, for the same reason.
    cleared: BTreeMap<ChainId, Rejection>,
}

impl Aside {
    /// Takes in what was found; of bundles, when there are too many, their rollups. Whether anything is new.
    fn grow(&mut self, found: Self, clear: bool) -> bool {
        let before = (self.unrelayed.len(), self.closing.len(), self.cleared.len());
        self.unrelayed.extend(found.unrelayed);
        if clear {
            let chains = found.closing.into_values().filter_map(|why| Some((why.place.chain?, why)));
            self.cleared.extend(chains);
        } else {
            self.closing.extend(found.closing);
        }
        before != (self.unrelayed.len(), self.closing.len(), self.cleared.len())
    }

    /// Why a bundle that nobody demands is left out; `None` when it is not.
    fn why(&self, view: &SlotView, entry: &Simulated) -> Option<Rejection> {
        let bundle = &entry.candidate.bundle;
        if let Some(chain) = relay_to(bundle, &self.unrelayed) {
            let reason = Reason::NoRoom { gas: view.policy.relay_gas_limit, left: 0 };
            return Some(Rejection::new(Place::rollup(chain), reason));
        }
        let closing = self.closing.get(&entry.candidate.hash);
        closing.or_else(|| bundle.legs.iter().find_map(|leg| self.cleared.get(&leg.chain()))).cloned()
    }
}

/// Builds without what is left aside. Also tells what has to be, so that everything that is demanded finds its place.
fn attempt(view: &SlotView, simulated: &[Simulated], rollups: &RollupSet, aside: &Aside) -> Result<(Draft, Aside), BuildError> {
    let mut lanes = open_lanes(view, rollups)?;
    let demanded: Vec<Simulated> = rollups
        .iter()
        .filter_map(|chain| Some(inclusion::candidates(*chain, &view.rollups.get(chain)?.inclusion)))
        .flatten()
        .collect();
    let demanded_hashes: BTreeSet<B256> = demanded.iter().map(|entry| entry.candidate.hash).collect();
    let mut waiting: Vec<&Simulated> = Vec::new();
    let mut left_aside: Vec<(B256, Rejection)> = Vec::new();
    for entry in simulated.iter().filter(|entry| entry.candidate.bundle.rollups().is_subset(rollups)) {
        let hash = entry.candidate.hash;
        match aside.why(view, entry).filter(|_| !demanded_hashes.contains(&hash)) {
            Some(why) => left_aside.push((hash, why)),
            None => waiting.push(entry),
        }
    }
    // What users sent as a single transaction is there already.
    let known: BTreeSet<B256> = waiting.iter().map(|entry| entry.candidate.hash).collect();
    let added: Vec<&Simulated> = demanded.iter().filter(|entry| !known.contains(&entry.candidate.hash)).collect();
    let added_hashes: BTreeSet<B256> = added.iter().map(|entry| entry.candidate.hash).collect();
    waiting.extend(added);
    let mut builder = Builder {
        view,
        demanded: demanded_hashes,
        crowded: BTreeMap::new(),
        closed: BTreeMap::new(),
        gaps: BTreeMap::new(),
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
    left_out.extend(left_aside);
    let placed: BTreeSet<B256> = builder.placed.iter().map(|placed| placed.hash).collect();
    let crowded = builder.crowded.into_iter().filter(|(hash, _)| !placed.contains(hash)).map(|(_, chain)| chain);
    let closing = builder.closed.into_iter().filter(|(hash, _)| !placed.contains(hash)).map(|(_, closing)| closing);
    let found = Aside { unrelayed: crowded.collect(), closing: closing.collect(), cleared: BTreeMap::new() };
    let draft = Draft { slot: view.slot, rollups: rollups.clone(), lanes: lane_drafts, placed: builder.placed, left_out, value };
    Ok((draft, found))
}

/// The first of these rollups that the bundle has a relay to.
fn relay_to(bundle: &Bundle, rollups: &RollupSet) -> Option<ChainId> {
    bundle.legs.iter().find_map(|leg| match leg {
        Leg::Relay { chain, .. } => rollups.get(chain).copied(),
        Leg::Txs { .. } => None,
    })
}

/// The nonces that come after those of a bundle's transactions.
fn next_nonces(bundle: &Bundle) -> Vec<(ChainId, Address, u64)> {
    let txs = bundle.legs.iter().flat_map(|leg| leg.txs().iter().map(|tx| (leg.chain(), &tx.tx)));
    txs.map(|(chain, tx)| (chain, tx.signer(), tx.nonce().saturating_add(1))).collect()
}

struct Builder<'a> {
    view: &'a SlotView,
    /// The bundles that inclusion lists demand.
    demanded: BTreeSet<B256>,
    /// Those of them that would have room if none were kept for evidence, by the rollup of the block.
    crowded: BTreeMap<B256, ChainId>,
    /// Those of them that came too late when it was their turn, with the bundle that they should have come before.
    closed: BTreeMap<B256, (B256, Rejection)>,
    /// Those of them that wait in the open blocks for the nonce before theirs, where the rollup sells an order.
    gaps: BTreeMap<(ChainId, Address, u64), B256>,
    placed: Vec<Placed>,
    delivered: BTreeSet<B256>,
    edges: BTreeSet<(ChainId, ChainId)>,
    reasons: BTreeMap<B256, Rejection>,
}

impl Builder<'_> {
    fn fill(&mut self, lanes: &mut Lanes, waiting: &mut Vec<&Simulated>) -> Result<(), BuildError> {
        self.gaps.clear();
        for pass in 0..self.view.policy.max_passes {
            let before = self.placed.len();
            let mut rest = Vec::with_capacity(waiting.len());
            for entry in waiting.drain(..) {
                match self.try_place(lanes, entry)? {
                    None => self.follow(lanes, &mut rest, entry)?,
                    Some(rejection) => {
                        self.note_demanded(lanes, entry, &rejection, pass == 0);
                        self.reasons.insert(entry.candidate.hash, rejection);
                        rest.push(entry);
                    }
                }
            }
            *waiting = rest;
            if self.placed.len() == before || waiting.is_empty() {
                return Ok(());
            }
        }
        self.insist(lanes, waiting)
    }

    /// After the last pass: what is demanded is tried until none of it fits at the end of the open blocks, because that is where
    /// it is looked for. Every time adds one at least.
    fn insist(&mut self, lanes: &mut Lanes, waiting: &mut Vec<&Simulated>) -> Result<(), BuildError> {
        loop {
            let before = self.placed.len();
            let mut rest = Vec::with_capacity(waiting.len());
            for entry in waiting.drain(..) {
                let hash = entry.candidate.hash;
                if self.demanded.contains(&hash) {
                    let Some(rejection) = self.try_place(lanes, entry)? else { continue };
                    self.reasons.insert(hash, rejection);
                }
                rest.push(entry);
            }
            *waiting = rest;
            if self.placed.len() == before {
                return Ok(());
            }
        }
    }

    /// Tries what is demanded and waited for a nonce that a bundle has just used: whatever comes next may close the block to it.
    fn follow(&mut self, lanes: &mut Lanes, rest: &mut Vec<&Simulated>, placed: &Simulated) -> Result<(), BuildError> {
        if self.gaps.is_empty() {
            return Ok(());
        }
        let mut next = next_nonces(&placed.candidate.bundle);
        while let Some(nonce) = next.pop() {
            let Some(hash) = self.gaps.remove(&nonce) else { continue };
            let Some(index) = rest.iter().position(|entry| entry.candidate.hash == hash) else { continue };
            let entry = rest.remove(index);
            match self.try_place(lanes, entry)? {
                None => next.extend(next_nonces(&entry.candidate.bundle)),
                Some(rejection) => {
                    self.note_demanded(lanes, entry, &rejection, true);
                    self.reasons.insert(entry.candidate.hash, rejection);
                    rest.insert(index, entry);
                }
            }
        }
        Ok(())
    }

    /// Notes what keeps something demanded out where the order of the block matters: that its turn has not come, or, when it has,
    /// a bundle that is there already.
    fn note_demanded(&mut self, lanes: &Lanes, entry: &Simulated, rejection: &Rejection, in_turn: bool) {
        let hash = entry.candidate.hash;
        let Some(chain) = rejection.place.chain.filter(|_| self.demanded.contains(&hash)) else { return };
        let in_order = self.view.rollups.get(&chain).is_some_and(|rollup| rollup.ordering != OrderingPolicy::Free);
        match &rejection.reason {
            Reason::NonceTooHigh { signer, nonce, .. } if in_order => {
                self.gaps.insert((chain, *signer, *nonce), hash);
            }
            Reason::OutOfOrder { earlier_position, .. } if in_turn => {
                let closing = self.holder(lanes, chain, *earlier_position);
                if let Some(closing) = closing.filter(|closing| !self.demanded.contains(closing)) {
                    self.closed.entry(hash).or_insert((closing, rejection.clone()));
                }
            }
            _ => {}
        }
    }

    /// The bundle that has the transaction at a position of a rollup's open block, counted behind what is forced.
    fn holder(&self, lanes: &Lanes, chain: ChainId, listed: u32) -> Option<B256> {
        let lane = lanes.get(&chain)?;
        let position = lane.forced().saturating_add(listed as usize);
        let holds = |leg: &LegRun| {
            let here = leg.chain == chain && leg.block == lane.index();
            here && leg.txs.iter().any(|tx| tx.position == Some(position))
        };
        self.placed.iter().find(|placed| placed.run.legs.iter().any(&holds)).map(|placed| placed.hash)
    }

    /// Places the bundle, or says why not and leaves no trace of it.
    fn try_place(&mut self, lanes: &mut Lanes, entry: &Simulated) -> Result<Option<Rejection>, BuildError> {
        let bundle = &entry.candidate.bundle;
        let marks: Vec<_> =
            bundle.rollups().into_iter().filter_map(|chain| Some((chain, lanes.get(&chain)?.block().checkpoint()))).collect();
        let remembered = match &entry.variant {
            Some(variant) => variant.recall(lanes, &entry.candidate, &self.delivered)?,
            None => None,
        };
        let attempt = match remembered {
            Some(taken) => Arc::unwrap_or_clone(taken.told()),
            None => run_bundle(self.view, lanes, bundle, &self.delivered)?,
        };
        // What the sequencer demands is in, whatever it is worth.
        let demanded = self.demanded.contains(&entry.candidate.hash);
        let floor = if attempt.run.relays.is_empty() { I256::ZERO } else { self.view.policy.min_relay_value };
        let rejection = match attempt.blocked {
            Some(rejection) => Some(rejection),
            None if attempt.run.value < floor && !demanded => {
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
            let (block, context) = (lane.block(), lane.block().context());
            let (needed, used, limit) = match rejection.reason {
                Reason::NoRoom { gas, .. } => (gas, block.gas_used(), context.listed_gas()),
                // Where blocks have no footprint it is the sequencer's own limit that leaves no room.
                Reason::NoDataRoom { footprint, .. } => match context.data.block.filter(|_| !context.rules.has_footprint()) {
                    Some(limit) => (footprint, block.data(), limit),
                    None => (footprint, block.footprint(), context.listed_gas()),
                },
                _ => continue,
            };
            let relayed = self.placed.iter().flat_map(|placed| &placed.run.relays).any(|relay| relay.chain == chain);
            if relayed && used.saturating_add(needed) <= limit {
                self.crowded.insert(hash, chain);
            }
        }
    }

    fn closes_untrusted_cycle(&self, new: &BTreeSet<(ChainId, ChainId)>) -> bool {
        closes_untrusted_cycle(self.view, &self.edges.union(new).copied().collect())
    }
}

/// Whether messages would go in a circle over a rollup that is not trusted: then no order of preparing them exists.
pub(crate) fn closes_untrusted_cycle(view: &SlotView, edges: &BTreeSet<(ChainId, ChainId)>) -> bool {
    edges.iter().any(|(origin, destination)| {
        let circular = reaches(edges, *destination, *origin);
        let trusted = &view.policy.trusted;
        circular && !(trusted.contains(origin) && trusted.contains(destination))
    })
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

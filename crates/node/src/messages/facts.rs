//! What a slot may count on: messages that landed with their evidence, orphans, logs that transactions refer to, exits.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use lockstep_building::SlotView;
use lockstep_messaging::{Destination, Evidence, EvidenceKind, ExitFacts, Facts, LandedMessage, Protocols};
use lockstep_primitives::{Bundle, ChainId, LandedRef, Leg, Reason, Relay, RollupSet};

use super::{
    book::{Attested, Block, Book},
    keeper::Messages,
    known::referred,
};

/// How many orphans are looked at for each one that a slot is offered: those whose evidence is not there, or does not hold, must
/// not hide the others, nor be looked at without end.
const LOOKS_PER_ORPHAN: usize = 16;

/// Earlier blocks that the transactions of one bundle may refer to, the newest first.
const BLOCKS_PER_BUNDLE: usize = 4;

/// Transactions that are looked for in one slot because a bundle names a message of theirs that is not known.
const MAX_LOOKS: usize = 64;

/// The landed messages that bundles name, at most so many.
pub(super) fn references(bundles: &[Arc<Bundle>], most: usize) -> BTreeSet<LandedRef> {
    let mut named = BTreeSet::new();
    for leg in bundles.iter().flat_map(|bundle| &bundle.legs) {
        if let Leg::Relay { relay: Relay::Landed(at), .. } = leg
            && !named.contains(at)
        {
            if named.len() >= most {
                metrics::counter!("lockstep_messages_references_skipped_total").increment(1);
                continue;
            }
            named.insert(*at);
        }
    }
    named
}

/// What a slot builds on, as far as messages are concerned.
#[derive(Debug)]
pub(super) struct Ground<'a> {
    protocols: &'a Protocols,
    /// The first block of each rollup of the slot.
    blocks: BTreeMap<ChainId, Destination>,
    /// The rollups of which everything up to the slot's parent was read; of one that has no block in the slot, anything.
    in_step: RollupSet,
    exits: ExitFacts,
}

impl Messages {
    /// What is known as of the blocks that a slot builds on: of the messages that `bundles` relay, of orphans, of the logs that
    /// transactions refer to, and of exits. `same_slot_claims` are the rollups whose terms of sale allow claims of exits of the
    /// same slot. What is not read in time, or cannot be, is not there.
    pub(crate) async fn facts(&self, view: &SlotView, bundles: &[Arc<Bundle>], same_slot_claims: &RollupSet) -> Arc<Facts> {
        self.gather(view, bundles, same_slot_claims, self.settings.limits.orphans).await
    }

    /// The same for one bundle that is only looked at: without orphans, which are for strategies.
    pub(crate) async fn facts_of(&self, view: &SlotView, bundle: &Arc<Bundle>, same_slot_claims: &RollupSet) -> Arc<Facts> {
        self.gather(view, std::slice::from_ref(bundle), same_slot_claims, 0).await
    }

    async fn gather(&self, view: &SlotView, bundles: &[Arc<Bundle>], same_slot_claims: &RollupSet, orphans: usize) -> Arc<Facts> {
        let named = references(bundles, self.settings.limits.references);
        let origins = named.iter().map(|at| at.chain);
        let chains: RollupSet = view.rollups.keys().copied().chain(origins).collect();
        let patience = Duration::from_millis(self.settings.limits.patience_ms);
        let reads = chains.iter().filter(|chain| self.rollups.contains_key(*chain)).map(|chain| async move {
            match tokio::time::timeout(patience, self.read(*chain)).await {
                Ok(Ok(())) => {}
                Ok(Err(cause)) => tracing::warn!(chain, %cause, "messages of the rollup are not known up to the slot"),
                Err(_) => tracing::warn!(chain, "messages of the rollup were not read in time for the slot"),
            }
        });
        futures_util::future::join_all(reads).await;
        let (mut facts, in_step) = {
            let mut book = self.book.lock();
            let ground = self.ground(&book, view, same_slot_claims);
            let mut facts = offer(&mut book, &ground, &named, orphans, view.slot);
            facts.exits = ground.exits;
            (facts, ground.in_step)
        };
        let unread = named.iter().filter(|at| !facts.landed.contains_key(*at)).take(MAX_LOOKS).copied();
        let looks: Vec<_> = unread.map(|at| self.why_unknown(at)).collect();
        let inclusion = view.rollups.values().flat_map(|rollup| &rollup.inclusion).map(|tx| &**tx);
        // Each bundle has a share, so that none takes everybody's places.
        let own =
            bundles.iter().flat_map(|bundle| referred(bundle.txs().map(|tx| &*tx.tx)).into_iter().rev().take(BLOCKS_PER_BUNDLE));
        let referred: BTreeSet<_> = own.chain(referred(inclusion)).collect();
        let (unknown, known) = tokio::join!(
            tokio::time::timeout(patience, futures_util::future::join_all(looks)),
            self.known_logs(referred, &in_step),
        );
        for (at, reason) in unknown.into_iter().flatten().flatten() {
            facts.landed.insert(at, Err(reason));
        }
        facts.logs.extend(known);
        metrics::gauge!("lockstep_messages_known").set(self.book.lock().len() as f64);
        Arc::new(facts)
    }

    fn ground(&self, book: &Book, view: &SlotView, same_slot_claims: &RollupSet) -> Ground<'_> {
        let mut in_step = RollupSet::new();
        let mut parents = BTreeMap::new();
        for chain in self.rollups.keys() {
            let Some(newest) = book.newest(*chain) else { continue };
            match view.rollups.get(chain) {
                // Something else was read than what the slot builds on.
                Some(rollup) if rollup.slot.parent.hash != newest.hash => {}
                _ => {
                    in_step.insert(*chain);
                    parents.insert(*chain, newest.number);
                }
            }
        }
        let blocks = view.rollups.iter().filter_map(|(chain, rollup)| {
            let next = &rollup.slot.blocks.first()?.next;
            let number = rollup.slot.parent.number + 1;
            let (timestamp, beneficiary) = (next.timestamp, next.beneficiary);
            Some((*chain, Destination { chain: *chain, number, timestamp, beneficiary, builder: view.proposer }))
        });
        Ground {
            protocols: &self.protocols,
            blocks: blocks.collect(),
            exits: book.exits.as_of(&parents, same_slot_claims),
            in_step,
        }
    }

    /// What the next block of every rollup builds on, as far as it was read: the ground of no slot in particular.
    pub(super) fn ground_ahead(&self, book: &Book, now_ms: u64) -> Ground<'_> {
        let newest: BTreeMap<ChainId, Block> =
            self.rollups.keys().filter_map(|chain| Some((*chain, book.newest(*chain)?))).collect();
        let parents = newest.iter().map(|(chain, block)| (*chain, block.number)).collect();
        Ground {
            protocols: &self.protocols,
            blocks: newest.iter().map(|(chain, block)| (*chain, self.block_after(*chain, *block, now_ms))).collect(),
            in_step: newest.keys().copied().collect(),
            exits: book.exits.as_of(&parents, &RollupSet::new()),
        }
    }

    /// Why a message that a bundle names is not known: `None` while its transaction may still land, or be read.
    async fn why_unknown(&self, at: LandedRef) -> Option<(LandedRef, Reason)> {
        let Some(node) = self.rollups.get(&at.chain) else {
            return Some((at, Reason::UnknownMessage(format!("rollup {} is not served here", at.chain))));
        };
        let landed = node.landed(at.tx).await.ok().flatten()?;
        let (newest, oldest) = {
            let book = self.book.lock();
            (book.newest(at.chain)?, book.window(at.chain).first().copied()?)
        };
        if landed.number > newest.number {
            return None;
        }
        let text = if landed.number < oldest.number {
            format!("{at}: its block {} is older than what was read", landed.number)
        } else {
            format!("{at}: its transaction sent no such message to a rollup that is served here")
        };
        Some((at, Reason::UnknownMessage(text)))
    }
}

/// What a slot is told of the messages that its bundles name, and of orphans.
fn offer(book: &mut Book, ground: &Ground<'_>, named: &BTreeSet<LandedRef>, most_orphans: usize, slot: u64) -> Facts {
    let mut facts = Facts::default();
    for at in named {
        if let Some(standing) = standing(book, ground, at) {
            put(&mut facts, book, *at, standing);
        }
    }
    if most_orphans == 0 {
        return facts;
    }
    let mut orphans = book.orphans();
    // Where there are more than a slot is offered every slot begins elsewhere: those that nobody can deliver hide none for ever.
    if orphans.len() > most_orphans {
        let turn = usize::try_from(slot).unwrap_or_default().wrapping_mul(most_orphans);
        let by = turn % orphans.len();
        orphans.rotate_left(by);
    }
    for at in orphans.into_iter().take(most_orphans.saturating_mul(LOOKS_PER_ORPHAN)) {
        if facts.orphans.len() >= most_orphans {
            break;
        }
        let found = match facts.landed.get(&at) {
            Some(found) => Some(found.clone()),
            None => standing(book, ground, &at),
        };
        if let Some(Ok(found)) = found {
            facts.orphans.push(at);
            put(&mut facts, book, at, Ok(found));
        }
    }
    facts
}

fn put(facts: &mut Facts, book: &Book, at: LandedRef, standing: Result<LandedMessage, Reason>) {
    if let (Ok(_), Some(entry)) = (&standing, book.get(&at)) {
        // Its delivery refers to its log as any other transaction would.
        let (key, log) = entry.known_log();
        facts.logs.insert(key, log);
    }
    facts.landed.insert(at, standing);
}

/// Whether a message can be delivered in the slot; `None` when it is not known.
fn standing(book: &mut Book, ground: &Ground<'_>, at: &LandedRef) -> Option<Result<LandedMessage, Reason>> {
    let judged = judge(book, ground, at)?;
    // Evidence that came, and does not hold in the slot's block: its attesters are asked once more.
    if let Err(reason @ Reason::EvidencePending(_)) = &judged {
        book.lapsed(at, reason.clone());
    }
    Some(judged)
}

/// Whether a message can be delivered on this ground; `None` when it is not known.
pub(super) fn judge(book: &Book, ground: &Ground<'_>, at: &LandedRef) -> Option<Result<LandedMessage, Reason>> {
    let entry = book.get(at)?;
    let message = &entry.message;
    let evidence = || {
        let wrong = || Reason::WrongDestination { destination: message.destination_name.clone() };
        let destination = message.destination.ok_or_else(wrong)?;
        for chain in [message.origin, destination] {
            if !ground.in_step.contains(&chain) {
                return Err(Reason::NoEvidence(format!("rollup {chain} was not read up to the block that the slot builds on")));
            }
        }
        if let Some(block) = book.delivered_in(entry) {
            tracing::trace!(message = %at, block, "it is delivered already");
            return Err(Reason::MessageDelivered(message.id));
        }
        let no_block = || Reason::NoEvidence(format!("rollup {destination} has no block in the slot"));
        let to = ground.blocks.get(&destination).ok_or_else(no_block)?;
        let evidence = match (entry.kind, &entry.attested) {
            (EvidenceKind::Place, _) => Evidence::Place,
            (EvidenceKind::Exit, _) => book.exits.prove(entry.exit.as_ref(), &ground.exits)?,
            (EvidenceKind::Attested, Attested::Ready(evidence)) => evidence.clone(),
            (EvidenceKind::Attested, Attested::Pending(reason)) => return Err(reason.clone()),
        };
        ground.protocols.of(message)?.deliver(message, &evidence, to)?;
        Ok(evidence)
    };
    Some(evidence().map(|evidence| LandedMessage { message: message.clone(), evidence }))
}

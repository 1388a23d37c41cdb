//! Delivery: carries out the effects of the coordinator.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use alloy_primitives::{B256, I256, U64};
use jsonrpsee::http_client::HttpClient;
use lockstep_building::{Draft, EvidenceMap, SealError, SealedList, Simulated, SlotView, seal};
use lockstep_delivery::{
    Coordinator, CoordinatorEffect, CoordinatorEvent, CoordinatorPlan, Decision, DecisionKey, DeliveryStage, ExpectedBlock,
    Prepare, PreparedList, RequirementResult, Verdict, attempt_number, level, prepare_stages,
};
use lockstep_messaging::EvidenceRequest;
use lockstep_primitives::{
    Allocation, BundleState, ChainId, Guarantee, Place, Reason, Rejection, RollupSet, SlotNumber, recover,
};
use lockstep_rpc::{
    api::{DecisionApiClient, SequencerApiClient},
    wire::{DecisionWire, MarketSlot, PrepareWire, Sale, SignedPrepare},
};

use super::{BuilderRole, Built, blocking_with_state, engine::SlotEngine, outsource::Bought, view::DeliveryTerms};
use crate::{
    clock::{now_ms, sleep_until},
    roles::client,
};

/// How often the record is asked for again while it cannot be read.
const TICK_MS: u64 = 20;
/// How many messages of a rollup evidence is asked for at a time.
const EVIDENCE_AT_ONCE: usize = 64;
/// How often drafts are put together before it is given up that nobody takes back what is in them.
const MAX_DRAFTS: usize = 3;

/// What was delivered, and what the record says about it.
pub(super) struct Delivered {
    pub(super) draft: Draft,
    pub(super) sealed: BTreeMap<ChainId, SealedList>,
    pub(super) without: BTreeMap<ChainId, Draft>,
    pub(super) without_sealed: BTreeMap<ChainId, SealedList>,
    pub(super) decision: Decision,
}

struct Work<'a> {
    view: Arc<SlotView>,
    engine: &'a SlotEngine,
    market: &'a MarketSlot,
    deliveries: &'a BTreeMap<ChainId, DeliveryTerms>,
    rollups: &'a RollupSet,
    key: DecisionKey,
    /// Another builder's lists, which are proposed instead of its own.
    bought: Option<Bought>,
    draft: Arc<Draft>,
    without: BTreeMap<ChainId, Arc<Draft>>,
    clients: BTreeMap<ChainId, HttpClient>,
    sealed: BTreeMap<ChainId, SealedList>,
    without_sealed: BTreeMap<ChainId, SealedList>,
    prepares: BTreeMap<ChainId, Prepare>,
}

/// A rollup's two lists, and what is sent of them to its sequencer.
struct SealedRollup {
    /// Nothing when they were bought.
    sealed: Option<(SealedList, SealedList)>,
    prepare: Prepare,
    client: HttpClient,
}

/// Why a rollup's lists are not sealed.
pub(super) struct Unsealed {
    pub(super) reason: String,
    /// Whether the draft itself is wrong: then none of it is handed out.
    corrupt: bool,
}

impl From<String> for Unsealed {
    fn from(reason: String) -> Self {
        Self { reason, corrupt: false }
    }
}

impl From<&str> for Unsealed {
    fn from(reason: &str) -> Self {
        Self::from(reason.to_owned())
    }
}

impl BuilderRole {
    /// Prepares, decides and announces. The bundles in the lists are frozen from here on; who calls sets them free again. Nothing of
    /// its own is handed out where another builder's lists were bought.
    pub(super) async fn deliver(
        &self,
        built: &Built,
        allocation: &Allocation,
        rollups: &RollupSet,
        bought: Option<Bought>,
    ) -> Result<Delivered, String> {
        let slot = allocation.slot;
        let (draft, without) = match &bought {
            Some(_) => (Arc::new(nothing(slot, rollups)), BTreeMap::new()),
            None => self.frozen_drafts(built, rollups).await?,
        };
        self.note_proposed(&draft, &built.deliveries, slot);
        let attempt = attempt_number(allocation, self.address(), 0).ok_or("the allocation has no attempt for this builder")?;
        let key = DecisionKey { slot, attempt };
        let trusted = self.settings.policy.trusted.clone();
        let edges: Vec<(ChainId, ChainId)> = draft.edges().into_iter().collect();
        let stages = prepare_stages(rollups, &edges, &trusted).map_err(|error| error.to_string())?;
        let plan = CoordinatorPlan { key, proposer: self.address(), t_decide_ms: built.market.decide_ms, stages, trusted };
        let mut work = Work {
            view: Arc::clone(&built.view),
            engine: &built.engine,
            market: &built.market,
            deliveries: &built.deliveries,
            rollups,
            key,
            bought,
            draft,
            without,
            clients: BTreeMap::new(),
            sealed: BTreeMap::new(),
            without_sealed: BTreeMap::new(),
            prepares: BTreeMap::new(),
        };
        let decision = self.coordinate(&mut work, Coordinator::new(plan)).await?;
        self.note_decision(&work, &decision);
        Ok(Delivered {
            draft: Draft::clone(&work.draft),
            without: work.without.iter().map(|(chain, draft)| (*chain, Draft::clone(draft))).collect(),
            sealed: work.sealed,
            without_sealed: work.without_sealed,
            decision,
        })
    }

    /// The drafts that are handed out: of everything that was won, and of each rollup alone. What is in them is frozen.
    ///
    /// Bundles can be taken back and replaced until then, and who was told so must not find them on a chain: drafts that hold
    /// such a bundle are built once more, without it.
    pub(super) async fn frozen_drafts(
        &self,
        built: &Built,
        rollups: &RollupSet,
    ) -> Result<(Arc<Draft>, BTreeMap<ChainId, Arc<Draft>>), String> {
        for _ in 0..MAX_DRAFTS {
            let draft = built.engine.draft(&self.intake, rollups).await?;
            let mut without = BTreeMap::new();
            for chain in rollups {
                without.insert(*chain, built.engine.draft(&self.intake, &RollupSet::from([*chain])).await?);
            }
            let gone = self.freeze(&built.simulated, &draft, &without);
            if gone.is_empty() {
                return Ok((draft, without));
            }
            tracing::info!(gone = gone.len(), "bundles were taken back since the lists were built: they are built without them");
            built.engine.remove(gone.into_iter().collect()).await?;
        }
        Err("bundles are taken back faster than lists are built without them".to_owned())
    }

    /// Freezes everything in the drafts. When some of it has left the pool meanwhile, nothing is frozen, and everything that
    /// has left is named.
    fn freeze(&self, simulated: &[Simulated], draft: &Draft, without: &BTreeMap<ChainId, Arc<Draft>>) -> BTreeSet<B256> {
        let placed = draft.placed.iter().chain(without.values().flat_map(|draft| &draft.placed));
        let placed: Vec<B256> = placed.map(|placed| placed.hash).collect();
        let mut pool = self.intake.pool().write();
        // Only of what came out of the pool: what inclusion lists demand need not have been there.
        let hashes = simulated.iter().map(|entry| entry.candidate.hash);
        let gone: BTreeSet<B256> = hashes.filter(|hash| pool.get(*hash).is_none()).collect();
        if placed.iter().any(|hash| gone.contains(hash)) {
            return gone;
        }
        pool.set_frozen(placed, true);
        BTreeSet::new()
    }

    /// Tells of everything that is in a list that is handed out, and why the rest is not.
    pub(super) fn note_proposed(&self, draft: &Draft, deliveries: &BTreeMap<ChainId, DeliveryTerms>, slot: u64) {
        for placed in &draft.placed {
            let tracker = self.intake.tracker();
            tracker.set_obstacle(placed.hash, None);
            tracker.step(placed.hash, BundleState::Proposed, Some(slot), None, now_ms());
            let rollups = placed.bundle.rollups();
            let level = level(&rollups, DeliveryStage::Proposed, |_| false, |chain| carried(deliveries, chain), false);
            tracker.set_level(placed.hash, level);
        }
        for (hash, why) in &draft.left_out {
            self.intake.tracker().set_obstacle(*hash, Some(why));
        }
    }

    async fn coordinate(&self, work: &mut Work<'_>, mut coordinator: Coordinator) -> Result<Decision, String> {
        let mut events = VecDeque::from([CoordinatorEvent::Start]);
        loop {
            let Some(event) = events.pop_front() else {
                if let Some(decision) = coordinator.decision() {
                    return Ok(decision.clone());
                }
                if now_ms() > work.market.end_ms {
                    return Err("the slot is over and its decision is not known".to_owned());
                }
                sleep_until(now_ms() + TICK_MS).await;
                events.push_back(CoordinatorEvent::Tick);
                continue;
            };
            let effects = coordinator.apply(event, now_ms());
            // The rollups of a stage are sealed at the same time, and then asked.
            let mut sealing = Vec::new();
            for effect in effects {
                match effect {
                    CoordinatorEffect::Seal { chain, release_evidence_from } => sealing.push((chain, release_evidence_from)),
                    CoordinatorEffect::RecordDecision(decision) => events.extend(self.record(&decision).await),
                    CoordinatorEffect::Announce(_) => self.announce(work).await,
                    CoordinatorEffect::Report(report) => {
                        metrics::counter!("lockstep_delivery_reports_total", "code" => report.code()).increment(1);
                        tracing::warn!(slot = work.key.slot, code = report.code(), "{report}");
                    }
                }
            }
            let asked = self.seal_stage(work, sealing, &mut events).await;
            // At the same time: one that does not answer costs the others nothing.
            let (on, patience) = (&*work, Duration::from_millis(work.market.decide_ms.saturating_sub(now_ms())));
            let votes = asked.into_iter().map(|chain| async move {
                let vote = tokio::time::timeout(patience, self.ask(on, chain)).await;
                vote.unwrap_or_else(|_| CoordinatorEvent::Unreachable { chain, reason: "no vote came in time".to_owned() })
            });
            events.extend(futures_util::future::join_all(votes).await);
        }
    }

    /// Seals the rollups of a stage, all at the same time, and tells how that went. Returns whom to ask for a vote: whose lists
    /// are sealed, but nobody when a draft was found to be wrong, because then the proposal is withdrawn.
    async fn seal_stage(
        &self,
        work: &mut Work<'_>,
        stage: Vec<(ChainId, RollupSet)>,
        events: &mut VecDeque<CoordinatorEvent>,
    ) -> Vec<ChainId> {
        let on = &*work;
        let sealing = stage.into_iter().map(|(chain, released)| async move {
            let sealed = self.seal_rollup(on, chain, &released).await;
            (chain, sealed)
        });
        let sealed = futures_util::future::join_all(sealing).await;
        let mut asked = Vec::new();
        let mut withdrawn = false;
        for (chain, sealed) in sealed {
            match sealed {
                Ok(SealedRollup { sealed, prepare, client }) => {
                    events.push_back(CoordinatorEvent::Sealed { chain, digest: prepare.digest() });
                    if let Some((with, without)) = sealed {
                        work.sealed.insert(chain, with);
                        work.without_sealed.insert(chain, without);
                    }
                    work.prepares.insert(chain, prepare);
                    work.clients.insert(chain, client);
                    asked.push(chain);
                }
                Err(Unsealed { reason, corrupt }) => {
                    events.push_back(CoordinatorEvent::SealFailed { chain, reason });
                    withdrawn |= corrupt;
                    if corrupt {
                        work.engine.distrust();
                    }
                }
            }
        }
        if withdrawn { Vec::new() } else { asked }
    }

    /// Seals a rollup's two lists: with what depends on other rollups, and without.
    pub(super) async fn seal_pair(
        &self,
        view: &Arc<SlotView>,
        draft: &Arc<Draft>,
        single: Arc<Draft>,
        chain: ChainId,
        evidence: EvidenceMap,
    ) -> Result<(SealedList, SealedList), Unsealed> {
        let sealed = futures_util::future::join(
            self.seal_list(view, Arc::clone(draft), chain, evidence),
            self.seal_list(view, single, chain, EvidenceMap::new()),
        );
        match sealed.await {
            (Ok(with), Ok(without)) => Ok((with, without)),
            // That a draft is wrong counts for more than that evidence does not fit it.
            (Err(Unsealed { corrupt: false, .. }), Err(error)) => Err(error),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    /// Seals a rollup's two lists, or takes those that were bought, and puts the prepare together.
    async fn seal_rollup(&self, work: &Work<'_>, chain: ChainId, released: &RollupSet) -> Result<SealedRollup, Unsealed> {
        let (lists, beneficiary, sealed) = match &work.bought {
            Some(bought) => {
                let lists = bought.lists.get(&chain).cloned().ok_or("the bought proposal has no list for it")?;
                (lists, bought.builder, None)
            }
            None => {
                let evidence = self.evidence_for(&work.draft, chain, released).await?;
                let single = work.without.get(&chain).cloned().ok_or("no list without cross-rollup bundles")?;
                let (with, without) = self.seal_pair(&work.view, &work.draft, single, chain, evidence).await?;
                ((prepared(&with), prepared(&without)), self.address(), Some((with, without)))
            }
        };
        let (with_cross, without_cross) = lists;
        let rollup = work.view.rollups.get(&chain).ok_or("the rollup is not in the slot's view")?;
        let sale = sale_of(work.market, chain)?;
        let delivery = work.deliveries.get(&chain).ok_or("the rollup's sequencer made no offer")?;
        let prepare = Prepare {
            chain,
            slot: work.key.slot,
            attempt: work.key.attempt,
            parent_hash: rollup.slot.parent.hash,
            forced_prefix: rollup.slot.forced_prefix(),
            with_cross,
            without_cross,
            participants: work.rollups.clone(),
            holds: sale.holds,
            beneficiary: Some(beneficiary),
            t_decide_ms: work.market.decide_ms,
            t_publish_ms: delivery.publish_ms,
        };
        let client = client(&sale.sequencer_url).map_err(|error| error.to_string())?;
        Ok(SealedRollup { sealed, prepare, client })
    }

    /// The evidence that a rollup's relays need, each message's asked for once.
    pub(super) async fn evidence_for(&self, draft: &Draft, chain: ChainId, released: &RollupSet) -> Result<EvidenceMap, String> {
        let relays = draft.relays(chain);
        let requests = relays.iter().filter_map(|relay| relay.request.as_ref());
        let requests: BTreeMap<B256, &EvidenceRequest> = requests.map(|request| (request.message.id, request)).collect();
        let requests: Vec<(B256, &EvidenceRequest)> = requests.into_iter().collect();
        let mut evidence = EvidenceMap::new();
        for some in requests.chunks(EVIDENCE_AT_ONCE) {
            let mut asked = Vec::with_capacity(some.len());
            for (_, request) in some {
                asked.push(self.evidence.evidence(request, released));
            }
            for ((message, _), given) in some.iter().zip(futures_util::future::join_all(asked).await) {
                evidence.insert(*message, given.map_err(|error| error.to_string())?);
            }
        }
        Ok(evidence)
    }

    async fn seal_list(
        &self,
        view: &Arc<SlotView>,
        draft: Arc<Draft>,
        chain: ChainId,
        evidence: EvidenceMap,
    ) -> Result<SealedList, Unsealed> {
        let key = self.settings.key.clone();
        let sealed = blocking_with_state(&self.intake, Arc::clone(view), move |view| {
            // What the engine is to blame for is the outer error: a missing value is fetched and sealing is run again.
            match seal(view, &draft, chain, &evidence, &|digest| key.sign(digest)) {
                Err(SealError::Engine(error)) => Err(error),
                Ok(sealed) => {
                    // Roots take a while to work out: not on the event loop.
                    for block in &sealed.blocks {
                        block.receipts_root();
                    }
                    Ok(Ok(sealed))
                }
                Err(error) => Ok(Err(error)),
            }
        })
        .await?;
        let error = match sealed {
            Ok(sealed) => return Ok(sealed),
            Err(error) => error,
        };
        metrics::counter!("lockstep_seal_failures_total", "chain" => chain.to_string()).increment(1);
        let corrupt = matches!(error, SealError::Corrupt { .. });
        if corrupt {
            metrics::counter!("lockstep_verification_faults_total", "chain" => chain.to_string()).increment(1);
            let slot = view.slot;
            tracing::error!(chain, slot, %error, "verification found a fault of the builder's own: the proposal is withdrawn");
        } else {
            tracing::error!(chain, %error, "a list could not be sealed");
        }
        // They would do the same in every slot, and cost everybody theirs.
        if let SealError::Unsteady { text, bundles } = &error {
            let why = Rejection::new(
                Place::rollup(chain),
                Reason::NoEvidence(format!("with real evidence it does not do the same: {text}")),
            );
            let ends = bundles.iter().map(|hash| (*hash, BundleState::Dropped, Some(why.clone()))).collect();
            self.intake.finish_all(ends, view.slot).await;
        }
        Err(Unsealed { reason: error.to_string(), corrupt })
    }

    /// Sends a prepare and takes the vote.
    async fn ask(&self, work: &Work<'_>, chain: ChainId) -> CoordinatorEvent {
        let unreachable = |reason: String| CoordinatorEvent::Unreachable { chain, reason };
        let (Some(prepare), Some(sequencer)) = (work.prepares.get(&chain), work.clients.get(&chain)) else {
            return unreachable("it was not sealed".to_owned());
        };
        let signed =
            SignedPrepare { prepare: PrepareWire::from(prepare), signature: self.settings.key.sign_bytes(prepare.digest()) };
        let started = now_ms();
        let answer = sequencer.prepare(signed).await;
        metrics::histogram!("lockstep_prepare_seconds").record(now_ms().saturating_sub(started) as f64 / 1000.0);
        match answer {
            Ok(wire) => {
                let vote = wire.vote();
                let signer = recover(vote.digest(), &wire.signature).ok();
                let expected = sale_of(work.market, chain).ok().map(|sale| sale.sequencer);
                if signer.is_none() || signer != expected {
                    return unreachable("the vote is not signed by the rollup's sequencer".to_owned());
                }
                CoordinatorEvent::VoteReceived(vote)
            }
            Err(error) => unreachable(error.to_string()),
        }
    }

    async fn record(&self, decision: &Decision) -> Option<CoordinatorEvent> {
        let wire = DecisionWire::new(decision, self.settings.key.sign_bytes(decision.digest()));
        match self.market.record(wire).await {
            Ok(Some(recorded)) => Some(CoordinatorEvent::DecisionRecorded(recorded.decision())),
            // A commit that came too late: the next tick asks for an abort.
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(slot = decision.slot, %error, "the decision could not be recorded");
                Some(CoordinatorEvent::DecisionUnreadable)
            }
        }
    }

    async fn announce(&self, work: &Work<'_>) {
        let told = work.clients.iter().map(|(chain, sequencer)| async move {
            if let Err(error) = sequencer.decided(U64::from(*chain), work.key.slot, work.key.attempt).await {
                // It reads the record by itself.
                tracing::debug!(chain, %error, "a sequencer was not told");
            }
        });
        futures_util::future::join_all(told).await;
    }

    /// Raises the level of what was decided, or sets it free.
    fn note_decision(&self, work: &Work<'_>, decision: &Decision) {
        let slot = Some(work.key.slot);
        let holds = |chain: ChainId| sale_of(work.market, chain).is_ok_and(|sale| sale.holds);
        // A record over other prepares commits something else.
        let ours = work.prepares.iter().all(|(chain, prepare)| decision.prepares.get(chain) == Some(&prepare.digest()));
        let commit = decision.verdict == Verdict::Commit && ours;
        let tracker = self.intake.tracker();
        for placed in &work.draft.placed {
            let rollups = placed.bundle.rollups();
            if commit {
                let durable = work.market.durable_record;
                let carries = |chain| carried(work.deliveries, chain);
                tracker.set_level(placed.hash, level(&rollups, DeliveryStage::Committed, holds, carries, durable));
                tracker.step(placed.hash, BundleState::Committed, slot, None, now_ms());
            } else {
                let why = Rejection::new(Place::BUNDLE, Reason::DecisionAbort(decision.reason.clone()));
                tracker.set_obstacle(placed.hash, Some(&why));
                tracker.step(placed.hash, BundleState::Pending, slot, Some(&why), now_ms());
            }
        }
        let verdict = if commit { "commit" } else { "abort" };
        metrics::counter!("lockstep_delivery_total", "verdict" => verdict).increment(1);
    }
}

/// A draft of nothing.
fn nothing(slot: SlotNumber, rollups: &RollupSet) -> Draft {
    let (lanes, placed, left_out) = Default::default();
    Draft { slot, rollups: rollups.clone(), lanes, placed, left_out, value: I256::ZERO }
}

/// What a rollup's delivery carries. A rollup that is not known of carries no more than a proposal does.
fn carried(deliveries: &BTreeMap<ChainId, DeliveryTerms>, chain: ChainId) -> Guarantee {
    deliveries.get(&chain).map_or(Guarantee::G1, |delivery| delivery.carries)
}

fn sale_of(market: &MarketSlot, chain: ChainId) -> Result<&Sale, String> {
    let held = market.held.iter().map(|held| &held.sale);
    market
        .on_sale
        .iter()
        .chain(held)
        .find(|sale| sale.chain_id.to::<ChainId>() == chain)
        .ok_or_else(|| format!("rollup {chain} is not on sale"))
}

pub(super) fn prepared(sealed: &SealedList) -> PreparedList {
    PreparedList {
        list: sealed.list.clone(),
        expected: sealed
            .blocks
            .iter()
            .map(|block| ExpectedBlock {
                number: block.number,
                gas_used: block.gas_used,
                receipts_root: block.receipts_root(),
                must_succeed: block.must_succeed.clone(),
            })
            .collect(),
        requirements: sealed
            .requirements
            .iter()
            .map(|promise| RequirementResult {
                account: promise.requirement.requirement.account,
                asset: promise.requirement.requirement.asset,
                increase: promise.requirement.increase,
                first: promise.first,
                last: promise.last,
            })
            .collect(),
    }
}

//! The naive reference builder: the oracle that every other builder is compared with, kept for ever.
//!
//! It tries bundles one after the other, each on a copy of everything, and keeps the copy if all went well. It has no
//! checkpoints and no undo log, searches nothing and remembers nothing, and it knows the meaning of a bundle on its own: modes,
//! bounds, requirements, relays and value are written down here a second time, from the design.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy_consensus::{SignableTransaction, Transaction, TxEip1559, TxEnvelope};
use alloy_primitives::{Address, B256, Bytes, I256, Signature, TxKind, U256, uint};
use lockstep_building::{Candidate, SlotView, relay_gas_limit};
use lockstep_messaging::{Demand, Destination, Emitted, Evidence, LogPlace, Message, Ran, RelayCall, SlotLogs};
use lockstep_primitives::{Asset, Bundle, ChainId, Leg, LegTx, Place, Reason, Rejection, Relay, RevertMode, RollupSet, SignedTx};
use lockstep_simulation::{BlockTx, CallRequest, Lane, LaneBlock, StandIns, StateView, TxOutcome, TxStatus};

use crate::{
    accounts::{attest, builder, sign_digest},
    contracts::calls,
};

const WEI_PER_UNIT: U256 = uint!(1_000_000_000_000_000_000_U256);

/// How the naive builder writes relays.
#[derive(Clone, Copy, Debug)]
pub enum Relays {
    /// As a draft has them: stand-in evidence, and this signature where the proposer's will be.
    Drafted(Signature),
    /// As a sealed list has them: attested, and signed by the testkit's builder.
    Sealed,
}

/// What the naive builder built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NaiveDraft {
    /// By rollup and block: the hashes of the transactions after the forced prefix.
    pub lists: BTreeMap<ChainId, Vec<Vec<B256>>>,
    /// By rollup and block: the digest of what the slot's blocks up to this one change.
    pub states: BTreeMap<ChainId, Vec<B256>>,
    /// The bundles that are in, in the order in which they went in.
    pub placed: Vec<B256>,
    /// Why each other bundle is not, as of the last time it was tried.
    pub refused: BTreeMap<B256, Rejection>,
    /// What it is worth to the proposer.
    pub value: I256,
}

/// Builds a slot on a set of rollups by trying the bundles in the given order, and then, on each next block of the slot, those
/// that are left.
///
/// # Panics
/// When the engine is broken: the states of a world can always be read.
pub fn naive(view: &SlotView, rollups: &RollupSet, order: &[Candidate], relays: Relays) -> NaiveDraft {
    let open = |chain: &ChainId| Lane::open(Arc::clone(&view.rollups[chain].slot)).expect("a block of a world opens");
    let mut slot = Slot {
        view,
        relays,
        lanes: rollups.iter().map(|chain| (*chain, open(chain))).collect(),
        delivered: BTreeSet::new(),
        edges: BTreeSet::new(),
        value: I256::ZERO,
    };
    let mut placed = Vec::new();
    let mut refused = BTreeMap::new();
    loop {
        for candidate in order {
            if placed.contains(&candidate.hash) {
                continue;
            }
            let mut copy = slot.clone();
            match copy.place(&candidate.bundle) {
                Ok(()) => {
                    slot = copy;
                    placed.push(candidate.hash);
                    refused.remove(&candidate.hash);
                }
                Err(rejection) => {
                    refused.insert(candidate.hash, rejection);
                }
            }
        }
        if !slot.next_blocks() {
            break;
        }
    }
    let value = slot.value;
    let mut lists = BTreeMap::new();
    let mut states = BTreeMap::new();
    for (chain, lane) in slot.lanes {
        let blocks = lane.finish().expect("a block of a world ends");
        lists.insert(chain, blocks.iter().map(hashes).collect());
        states.insert(chain, blocks.iter().map(digest).collect());
    }
    NaiveDraft { lists, states, placed, refused, value }
}

fn hashes(block: &LaneBlock) -> Vec<B256> {
    block.listed().iter().map(|executed| executed.tx.hash()).collect()
}

fn digest(block: &LaneBlock) -> B256 {
    block.block.state().changes().expect("a state in memory can be read").digest()
}

/// Everything that a bundle may change.
#[derive(Clone, Debug)]
struct Slot<'a> {
    view: &'a SlotView,
    relays: Relays,
    lanes: BTreeMap<ChainId, Lane>,
    /// Ids of the messages that were delivered.
    delivered: BTreeSet<B256>,
    /// (origin, destination) of the messages that were delivered.
    edges: BTreeSet<(ChainId, ChainId)>,
    value: I256,
}

/// A leg that ran.
struct Done {
    chain: ChainId,
    /// Of its transactions that stayed.
    outcomes: Vec<TxOutcome>,
    /// What it sent.
    messages: Vec<Result<Message, Reason>>,
}

impl SlotLogs for Slot<'_> {
    fn logs(&self, chain: ChainId) -> Option<Vec<Emitted<'_>>> {
        let lane = self.lanes.get(&chain)?;
        let mut logs = Vec::new();
        for block in lane.closed().iter().map(|closed| &closed.block).chain([lane.block()]) {
            let mut index = 0;
            for executed in block.executed() {
                for (in_tx, log) in executed.outcome.logs.iter().enumerate() {
                    let place = LogPlace { block: block.context().number, timestamp: block.context().timestamp, index };
                    logs.push(Emitted { log, place, tx: executed.tx.id(), in_tx });
                    index += 1;
                }
            }
        }
        Some(logs)
    }

    fn chains(&self) -> Vec<ChainId> {
        self.lanes.keys().copied().collect()
    }
}

impl Slot<'_> {
    /// Puts a bundle into the open blocks. After a refusal this copy is of no use any more.
    fn place(&mut self, bundle: &Bundle) -> Result<(), Rejection> {
        for chain in bundle.rollups() {
            self.check_bounds(bundle, chain).map_err(|reason| Rejection::new(Place::rollup(chain), reason))?;
        }
        let before = self.required_balances(bundle)?;
        let purse: BTreeMap<ChainId, U256> =
            bundle.rollups().into_iter().map(|chain| (chain, self.native(chain, self.view.proposer))).collect();
        let mut done: Vec<Done> = Vec::new();
        for (index, leg) in bundle.legs.iter().enumerate() {
            let chain = leg.chain();
            let logs_before = self.logs(chain).map_or(0, |logs| logs.len());
            let outcomes = match leg {
                Leg::Txs { chain, txs } => self.run_signed(index, *chain, txs)?,
                Leg::Relay { chain, relay } => {
                    self.run_relay(*chain, *relay, &done).map_err(|reason| Rejection::new(Place::leg(*chain, index), reason))?
                }
            };
            let logs = self.logs(chain).unwrap_or_default().split_off(logs_before);
            let messages = self.view.policy.protocols.recognise(chain, logs);
            done.push(Done { chain, outcomes, messages });
        }
        let protocols = &self.view.policy.protocols;
        protocols.check_slot(&lockstep_messaging::Slot { facts: &self.view.facts, logs: &*self })?;
        if done.iter().all(|leg| leg.outcomes.is_empty()) {
            return Err(Rejection::new(Place::BUNDLE, Reason::NothingLeft));
        }
        let after = self.required_balances(bundle)?;
        for (requirement, (before, after)) in bundle.require.iter().zip(before.into_iter().zip(after)) {
            let required = requirement.min_increase;
            if after < before || after - before < required {
                let increase = I256::from_raw(after) - I256::from_raw(before);
                let reason = Reason::RequirementNotMet { account: requirement.account, increase, required };
                return Err(Rejection::new(Place::rollup(requirement.chain), reason));
            }
        }
        let value: I256 = purse.iter().map(|(chain, before)| self.worth(*chain, *before, &done)).fold(I256::ZERO, |a, b| a + b);
        let relays = bundle.legs.iter().any(|leg| matches!(leg, Leg::Relay { .. }));
        if value < if relays { self.view.policy.min_relay_value } else { I256::ZERO } {
            return Err(Rejection::new(Place::BUNDLE, Reason::Unprofitable { value }));
        }
        if self.messages_go_in_an_untrusted_circle() {
            return Err(Rejection::new(Place::BUNDLE, Reason::MutualMessages));
        }
        self.value += value;
        Ok(())
    }

    fn check_bounds(&self, bundle: &Bundle, chain: ChainId) -> Result<(), Reason> {
        let context = self.lanes.get(&chain).ok_or(Reason::RollupNotWon)?.block().context();
        let range = bundle.block_range(chain);
        if context.number > range.max {
            return Err(Reason::PastBlock { max: range.max, head: context.number - 1 });
        }
        if context.number < range.min {
            return Err(Reason::NotYet(range.min.to_string()));
        }
        if let Some(max) = bundle.max_timestamp
            && context.timestamp > max
        {
            return Err(Reason::PastTimestamp { max, now: context.timestamp });
        }
        if let Some(min) = bundle.min_timestamp
            && context.timestamp < min
        {
            return Err(Reason::NotYet(min.to_string()));
        }
        Ok(())
    }

    fn required_balances(&self, bundle: &Bundle) -> Result<Vec<U256>, Rejection> {
        let balances = bundle.require.iter().map(|requirement| {
            self.balance(requirement.chain, requirement.account, requirement.asset)
                .map_err(|reason| Rejection::new(Place::rollup(requirement.chain), reason))
        });
        balances.collect()
    }

    fn balance(&self, chain: ChainId, account: Address, asset: Asset) -> Result<U256, Reason> {
        let block = self.lanes.get(&chain).ok_or(Reason::RollupNotWon)?.block();
        let Asset::Token(token) = asset else { return Ok(self.native(chain, account)) };
        let request = CallRequest::read(token, calls::balance_of(account), 1_000_000);
        match lockstep_simulation::call(block.context(), block.state(), &request).expect("the engine works") {
            Ok(outcome) if outcome.succeeded() && outcome.output.len() == 32 => Ok(U256::from_be_slice(&outcome.output)),
            _ => Err(Reason::UnreadableBalance { account, token }),
        }
    }

    fn native(&self, chain: ChainId, account: Address) -> U256 {
        let state = self.lanes[&chain].block().state();
        state.account(account).expect("a state in memory can be read").map_or(U256::ZERO, |account| account.balance)
    }

    fn run_signed(&mut self, index: usize, chain: ChainId, txs: &[LegTx]) -> Result<Vec<TxOutcome>, Rejection> {
        let mut outcomes = Vec::new();
        for (position, LegTx { tx, mode }) in txs.iter().enumerate() {
            let kept = self
                .run_tx(chain, &BlockTx::Signed(Arc::clone(tx)), *mode, &StandIns::default())
                .map_err(|reason| Rejection::new(Place::tx(chain, index, position), reason))?;
            outcomes.extend(kept);
        }
        Ok(outcomes)
    }

    /// Executes a transaction as its mode says. `None` when it was left out.
    fn run_tx(
        &mut self,
        chain: ChainId,
        tx: &BlockTx,
        mode: RevertMode,
        stand_ins: &StandIns,
    ) -> Result<Option<TxOutcome>, Reason> {
        let mut copy = self.lanes[&chain].clone();
        let outcome = match copy.block_mut().execute_with(tx, stand_ins).expect("the engine works") {
            Ok(executed) => executed.outcome.as_ref().clone(),
            Err(_) if mode == RevertMode::Drop => return Ok(None),
            Err(invalid) => return Err(invalid),
        };
        if outcome.succeeded() || mode == RevertMode::Allow {
            let before = self.lanes.insert(chain, copy);
            let origins = match self.check_newest(chain, tx, outcome.logs.len()) {
                Err(_) if mode == RevertMode::Drop => {
                    self.lanes.extend(before.map(|lane| (chain, lane)));
                    return Ok(None);
                }
                checked => checked?,
            };
            self.edges.extend(origins.into_iter().filter(|origin| *origin != chain).map(|origin| (origin, chain)));
            return Ok(Some(outcome));
        }
        if mode == RevertMode::Drop {
            return Ok(None);
        }
        Err(match outcome.status {
            TxStatus::Halted(cause) => Reason::Halted(cause),
            _ => Reason::Reverted { message: None, data: outcome.output },
        })
    }

    /// What the newest transaction of a rollup consumes has to be certain. Returns the rollups on which it depends.
    fn check_newest(&self, chain: ChainId, tx: &BlockTx, count: usize) -> Result<RollupSet, Reason> {
        let mut logs = self.logs(chain).unwrap_or_default();
        let logs = logs.split_off(logs.len() - count);
        let access_list = match tx {
            BlockTx::Signed(tx) => tx.envelope().access_list(),
            BlockTx::Deposit(_) => None,
        };
        let ran = Ran { access_list, logs: &logs, timestamp: self.lanes[&chain].block().context().timestamp };
        let slot = lockstep_messaging::Slot { facts: &self.view.facts, logs: self };
        self.view.policy.protocols.check_transaction(chain, &ran, &slot)
    }

    fn run_relay(&mut self, chain: ChainId, relay: Relay, done: &[Done]) -> Result<Vec<TxOutcome>, Reason> {
        let view = self.view;
        let (message, known) = self.message(relay, done)?;
        if !self.delivered.insert(message.id) {
            return Err(Reason::MessageDelivered(message.id));
        }
        if message.destination != Some(chain) {
            return Err(Reason::WrongDestination { destination: message.destination_name });
        }
        if let Some(caller) = message.restricted_to
            && caller != view.proposer
        {
            return Err(Reason::RestrictedCaller { caller, builder: view.proposer });
        }
        let context = self.lanes[&chain].block().context();
        let to = Destination {
            chain,
            number: context.number,
            timestamp: context.timestamp,
            beneficiary: context.beneficiary,
            builder: view.proposer,
        };
        let protocol = view.policy.protocols.of(&message)?;
        let landed = known.is_some();
        let mut stand_ins = Vec::new();
        let slot = lockstep_messaging::Slot { facts: &view.facts, logs: &*self };
        let evidence = match known {
            Some(evidence) => evidence,
            None => match protocol.demand(&message, &to, &slot)? {
                Demand::Derived(evidence) => evidence,
                Demand::Attestation(request) if !request.signers.iter().all(|signer| view.policy.attesters.contains(signer)) => {
                    return Err(Reason::NoEvidence("an attester does not sign in this slot".to_owned()));
                }
                Demand::Attestation(request) => match self.relays {
                    Relays::Drafted(_) => {
                        let (evidence, placeholders) = protocol.stand_in(&request);
                        stand_ins = placeholders;
                        evidence
                    }
                    Relays::Sealed => attest(&request),
                },
            },
        };
        let stand_ins = StandIns::from(stand_ins);
        let mut outcomes = Vec::new();
        for call in protocol.deliver(&message, &evidence, &to)? {
            if call.unless.as_ref().is_some_and(|read| self.answers(chain, read.to, &read.data)) {
                continue;
            }
            let tx = self.relay_tx(chain, call);
            outcomes.extend(self.run_tx(chain, &tx, RevertMode::Fail, &stand_ins)?);
        }
        if !landed {
            self.edges.insert((message.origin, chain));
        }
        Ok(outcomes)
    }

    /// Whether a reading call answers with anything but zeros.
    fn answers(&self, chain: ChainId, to: Address, data: &Bytes) -> bool {
        let block = self.lanes[&chain].block();
        let request = CallRequest::read(to, data.clone(), 1_000_000);
        let outcome = lockstep_simulation::call(block.context(), block.state(), &request).expect("the engine works");
        outcome.is_ok_and(|outcome| outcome.succeeded() && outcome.output.iter().any(|byte| *byte != 0))
    }

    /// The message that a relay names: of the leg that it names, or one that landed before, with evidence.
    fn message(&self, relay: Relay, done: &[Done]) -> Result<(Message, Option<Evidence>), Reason> {
        match relay {
            Relay::Emitted { leg, message } => {
                let messages = done.get(leg).map_or(&[][..], |leg| &leg.messages);
                let count = messages.len();
                let found = messages.get(message).cloned().ok_or(Reason::NoSuchMessage { leg, message, count })??;
                Ok((found, None))
            }
            Relay::Landed(landed) => {
                let unknown = || Reason::EvidencePending(landed.to_string());
                let known = self.view.facts.landed.get(&landed).cloned().ok_or_else(unknown)??;
                Ok((known.message, Some(known.evidence)))
            }
        }
    }

    /// The proposer pays the base fee and tips nobody.
    fn relay_tx(&self, chain: ChainId, call: RelayCall) -> BlockTx {
        let block = self.lanes[&chain].block();
        let account = block.state().account(self.view.proposer).expect("a state in memory can be read");
        let tx = TxEip1559 {
            chain_id: chain,
            nonce: account.map_or(0, |account| account.nonce),
            gas_limit: relay_gas_limit(&self.view.policy, &call),
            max_fee_per_gas: u128::from(block.context().base_fee) * 2,
            max_priority_fee_per_gas: 0,
            to: TxKind::Call(call.to),
            value: U256::ZERO,
            access_list: call.access_list,
            input: call.data,
        };
        let signature = match self.relays {
            Relays::Drafted(signature) => signature,
            Relays::Sealed => sign_digest(builder(), tx.signature_hash()),
        };
        let envelope = TxEnvelope::from(tx.into_signed(signature));
        BlockTx::Signed(Arc::new(SignedTx::from_parts(envelope, self.view.proposer)))
    }

    /// What the bundle is worth to the proposer on one rollup: what its purse gained there, and its share of the fees that went
    /// to others. Rounded down.
    fn worth(&self, chain: ChainId, before: U256, done: &[Done]) -> I256 {
        let rollup = &self.view.rollups[&chain];
        let context = self.lanes[&chain].block().context();
        let mut fees = U256::ZERO;
        for outcome in done.iter().filter(|leg| leg.chain == chain).flat_map(|leg| &leg.outcomes) {
            if context.beneficiary != self.view.proposer {
                fees += outcome.fees.priority;
            }
            // Elsewhere the base fee is burned.
            if context.rules.is_op_stack() {
                fees += outcome.fees.base;
            }
        }
        let share = fees * U256::from(rollup.fee_share_bps) / U256::from(10_000_u64);
        let after = self.native(chain, self.view.proposer);
        let gain = I256::from_raw(after) - I256::from_raw(before) + I256::from_raw(share);
        (gain * I256::from_raw(rollup.price.0)).div_euclid(I256::from_raw(WEI_PER_UNIT))
    }

    /// Whether some message goes from a to b while others lead from b back to a, unless all sequencers on the way are trusted.
    fn messages_go_in_an_untrusted_circle(&self) -> bool {
        let mut reachable = self.edges.clone();
        loop {
            let mut longer = reachable.clone();
            for (from, middle) in &reachable {
                for (_, to) in reachable.iter().filter(|(start, _)| start == middle) {
                    longer.insert((*from, *to));
                }
            }
            if longer == reachable {
                break;
            }
            reachable = longer;
        }
        let trusted = &self.view.policy.trusted;
        self.edges.iter().any(|(from, to)| reachable.contains(&(*to, *from)) && !(trusted.contains(from) && trusted.contains(to)))
    }

    /// Goes on to the next blocks of the slot, wherever there are any.
    fn next_blocks(&mut self) -> bool {
        let mut moved = false;
        for lane in self.lanes.values_mut() {
            moved |= lane.advance().expect("a block of a world opens");
        }
        moved
    }
}

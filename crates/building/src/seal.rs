//! Sealing: evidence and signatures fix the bytes, and the bytes are executed once more.

use std::{collections::BTreeMap, sync::Arc};

use alloy_primitives::{B256, I256, Signature, U256};
use lockstep_messaging::Evidence;
use lockstep_primitives::{BlockList, ChainId, ListBlock, Place, Reason, Rejection};
use lockstep_simulation::{BlockTx, Executed, Lane, LaneBlock, LaneError, PendingBlock, SlotRollup, execute_list};

use crate::{BuildError, Draft, Placed, RequirementRun, SlotView, balance_of, check_order, relay};

/// Evidence by message id.
pub type EvidenceMap = BTreeMap<B256, Evidence>;

/// What is promised of one block of a sealed list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBlock {
    /// Block number.
    pub number: u64,
    /// Gas used by the whole block.
    pub gas_used: u64,
    /// Root of the receipts of the whole block.
    pub receipts_root: B256,
    /// Digest of what the slot's blocks up to this one change in the state.
    pub state: B256,
    /// Positions in the list that must not revert.
    pub must_succeed: Vec<u32>,
}

/// A requirement and where in the list it is measured, as (block, position), both ends inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// What was required and measured.
    pub requirement: RequirementRun,
    /// The bundle's first transaction on the rollup.
    pub first: (u32, u32),
    /// The bundle's last transaction on the rollup.
    pub last: (u32, u32),
}

/// Where a transaction is in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedTx {
    /// Index of its block in the list.
    pub block: u32,
    /// Position in the block's listed transactions.
    pub position: u32,
    /// Its hash.
    pub hash: B256,
}

/// A list whose bytes are fixed, with what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedList {
    /// The list.
    pub list: BlockList,
    /// What is promised of each block.
    pub blocks: Vec<SealedBlock>,
    /// Balance conditions that it keeps.
    pub requirements: Vec<Promise>,
    /// Where the transactions of each leg are, by bundle and index of the leg.
    pub legs: BTreeMap<(B256, usize), Vec<ListedTx>>,
}

/// Why a list cannot be sealed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Evidence for a relay is not there.
    #[error("{0}")]
    Evidence(Rejection),
    /// The sealed list does not do what the draft did.
    #[error("the sealed list differs from its draft: {0}")]
    Differs(String),
    /// The same, because of these bundles: what they do depends on what evidence or signatures weigh.
    #[error("the sealed list differs from its draft: {text}")]
    Unsteady {
        /// How.
        text: String,
        /// Lockstep hashes.
        bundles: Vec<B256>,
    },
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] BuildError),
}

/// Seals one rollup's list of a draft: puts evidence into its relays, signs them, and executes the result on a fresh EVM.
///
/// # Errors
/// When evidence is absent, or the sealed list does not keep what the draft promised.
pub fn seal(
    view: &SlotView,
    draft: &Draft,
    chain: ChainId,
    evidence: &EvidenceMap,
    sign: &dyn Fn(B256) -> Signature,
) -> Result<SealedList, SealError> {
    let rollup = view.rollups.get(&chain).ok_or(BuildError::UnknownRollup(chain))?;
    let lane = draft.lanes.get(&chain).ok_or(BuildError::UnknownRollup(chain))?;
    let signed = sign_relays(view, draft, chain, evidence, sign)?;
    let list = BlockList {
        chain,
        blocks: lane.blocks.iter().enumerate().map(|(index, block)| list_block(index, block, &signed)).collect(),
    };
    let executed = match execute_list(&rollup.slot, &list) {
        Err(LaneError::Invalid { block, index, reason }) => {
            let forced = lane.blocks.get(block).map_or(0, |block| block.forced);
            let text = format!("transaction {index} of block {block} is invalid: {reason}");
            return Err(unsteady(draft, chain, (block, forced + index), text));
        }
        executed => executed.map_err(|cause| BuildError::Lane { chain, cause })?,
    };
    compare(draft, chain, &lane.blocks, &executed)?;
    // Evidence moves the base fee of a slot's later block, and with it what transactions pay beyond it.
    check_order(rollup.ordering, &rollup.arrivals, &executed).map_err(|error| SealError::Differs(error.to_string()))?;
    let mut sealed = SealedList { list, blocks: Vec::new(), requirements: Vec::new(), legs: BTreeMap::new() };
    place(draft, chain, &lane.blocks, &mut sealed);
    for (index, block) in executed.iter().enumerate() {
        let state = block.block.state().changes().map_err(|error| BuildError::simulation(chain, error.into()))?.digest();
        sealed.blocks.push(SealedBlock {
            number: block.block.context().number,
            gas_used: block.summary.gas_used,
            receipts_root: block.summary.receipts_root,
            state,
            must_succeed: must_succeed(draft, chain, index, block.forced),
        });
    }
    sealed.requirements = requirements(draft, chain, &lane.blocks, &rollup.slot, &sealed.list)?;
    Ok(sealed)
}

/// Executes a list on a fresh EVM from the parent state.
///
/// # Errors
/// As [`execute_list`].
pub fn verify(rollup: &Arc<SlotRollup>, list: &BlockList) -> Result<Vec<LaneBlock>, SealError> {
    execute_list(rollup, list).map_err(|cause| match cause {
        LaneError::Invalid { block, index, reason } => {
            SealError::Differs(format!("transaction {index} of block {block} is invalid: {reason}"))
        }
        cause => SealError::Engine(BuildError::Lane { chain: rollup.chain, cause }),
    })
}

type SignedRelays = BTreeMap<(usize, usize), BlockTx>;

fn sign_relays(
    view: &SlotView,
    draft: &Draft,
    chain: ChainId,
    evidence: &EvidenceMap,
    sign: &dyn Fn(B256) -> Signature,
) -> Result<SignedRelays, SealError> {
    let mut signed = SignedRelays::new();
    for relay in draft.relays(chain) {
        let reject = |reason| SealError::Evidence(Rejection::new(Place::leg(chain, relay.leg), reason));
        let message = &relay.message;
        let mut tx = relay.tx.clone();
        if relay.request.is_some() {
            let evidence = evidence.get(&message.id);
            let evidence = evidence.ok_or_else(|| reject(Reason::NoEvidence(format!("message {} has none", message.id))))?;
            let block = draft.lanes.get(&chain).and_then(|lane| lane.blocks.get(relay.block));
            let block = block.ok_or_else(|| SealError::Differs("the relay's block is not in the draft".into()))?;
            let to = relay::destination(block.block.context(), view.proposer);
            let protocol = view.policy.protocols.of(message).map_err(reject)?;
            let calls = protocol.deliver(message, evidence, &to).map_err(reject)?;
            let call = calls.get(relay.call).ok_or_else(|| SealError::Differs("the delivery has fewer calls".into()))?;
            tx.input = call.data.clone();
            tx.access_list = call.access_list.clone();
        }
        let signed_tx = relay::sign(tx, view.proposer, sign);
        signed.insert((relay.block, relay.position), BlockTx::Signed(signed_tx));
    }
    Ok(signed)
}

fn list_block(index: usize, block: &LaneBlock, signed: &SignedRelays) -> ListBlock {
    let context = block.block.context();
    let transactions = block
        .listed()
        .iter()
        .enumerate()
        .map(|(position, executed)| signed.get(&(index, block.forced + position)).unwrap_or(&executed.tx).raw().clone())
        .collect();
    ListBlock { number: context.number, timestamp: context.timestamp, transactions }
}

/// Every transaction has to end as it did in the draft, with the same logs: only gas may move, because evidence and
/// signatures weigh differently.
fn compare(draft: &Draft, chain: ChainId, drafted: &[LaneBlock], sealed: &[LaneBlock]) -> Result<(), SealError> {
    for (number, (drafted, sealed)) in drafted.iter().zip(sealed).enumerate() {
        for (index, (before, after)) in drafted.block.executed().iter().zip(sealed.block.executed()).enumerate() {
            if before.outcome.status != after.outcome.status {
                let statuses = (&before.outcome.status, &after.outcome.status);
                let text = format!("transaction {index} of block {number}: {statuses:?}");
                return Err(unsteady(draft, chain, (number, index), text));
            }
            if !same_logs(before, after) {
                let text = format!("transaction {index} of block {number} has other logs");
                return Err(unsteady(draft, chain, (number, index), text));
            }
        }
    }
    Ok(())
}

/// Whose doing it is that the transaction at a place (block, position) of the sealed list does something else: of the bundle that
/// it belongs to, if an attested relay of that is there or before it, else of the last such bundle.
fn unsteady(draft: &Draft, chain: ChainId, at: (usize, usize), text: String) -> SealError {
    let attested = |placed: &&Placed| {
        let mut relays = placed.run.relays.iter();
        relays.any(|relay| relay.chain == chain && relay.request.is_some() && (relay.block, relay.position) <= at)
    };
    let owns = |placed: &&Placed| {
        let mut legs = placed.run.legs.iter().filter(|leg| leg.chain == chain && leg.block == at.0);
        legs.any(|leg| leg.txs.iter().any(|tx| tx.position == Some(at.1)))
    };
    let culprit = draft.placed.iter().filter(attested).find(owns).or_else(|| draft.placed.iter().rfind(attested));
    match culprit {
        Some(placed) => SealError::Unsteady { text, bundles: vec![placed.hash] },
        None => SealError::Differs(text),
    }
}

fn same_logs(before: &Executed, after: &Executed) -> bool {
    before.outcome.logs == after.outcome.logs
}

fn must_succeed(draft: &Draft, chain: ChainId, block: usize, forced: usize) -> Vec<u32> {
    let mut positions: Vec<u32> = draft
        .placed
        .iter()
        .flat_map(|placed| &placed.run.legs)
        .filter(|leg| leg.chain == chain && leg.block == block)
        .flat_map(|leg| &leg.txs)
        .filter(|tx| tx.must_succeed)
        .filter_map(|tx| tx.position)
        .map(|position| listed_position(position, forced))
        .collect();
    positions.sort_unstable();
    positions
}

/// The position in the list of a position in the block.
fn listed_position(position: usize, forced: usize) -> u32 {
    u32::try_from(position.saturating_sub(forced)).unwrap_or(u32::MAX)
}

fn place(draft: &Draft, chain: ChainId, lane: &[LaneBlock], sealed: &mut SealedList) {
    for placed in &draft.placed {
        for (index, leg) in placed.run.legs.iter().enumerate().filter(|(_, leg)| leg.chain == chain) {
            let forced = lane.get(leg.block).map_or(0, |block| block.forced);
            let places = leg
                .txs
                .iter()
                .filter_map(|tx| tx.position)
                .map(|position| {
                    let listed = listed_position(position, forced);
                    let raw = sealed.list.blocks.get(leg.block).and_then(|block| block.transactions.get(listed as usize));
                    let hash = raw.map(alloy_primitives::keccak256).unwrap_or_default();
                    ListedTx { block: u32::try_from(leg.block).unwrap_or(u32::MAX), position: listed, hash }
                })
                .collect();
            sealed.legs.insert((placed.hash, index), places);
        }
    }
}

/// Measures every requirement on the sealed list: a bundle's span on a rollup is contiguous, so the balances just before
/// its first and just after its last transaction are those of prefixes of the list.
fn requirements(
    draft: &Draft,
    chain: ChainId,
    lane: &[LaneBlock],
    rollup: &Arc<SlotRollup>,
    list: &BlockList,
) -> Result<Vec<Promise>, SealError> {
    let mut spans: Vec<(B256, Promise)> = Vec::new();
    for placed in &draft.placed {
        for required in placed.run.requirements.iter().filter(|run| run.requirement.chain == chain) {
            let legs = placed.run.legs.iter().filter(|leg| leg.chain == chain);
            let positions: Vec<(usize, usize)> =
                legs.flat_map(|leg| leg.txs.iter().filter_map(|tx| Some((leg.block, tx.position?)))).collect();
            let (Some(first), Some(last)) = (positions.iter().min().copied(), positions.iter().max().copied()) else { continue };
            let forced = lane.get(first.0).map_or(0, |block| block.forced);
            let listed =
                |(block, position): (usize, usize)| (u32::try_from(block).unwrap_or(u32::MAX), listed_position(position, forced));
            spans.push((placed.hash, Promise { requirement: *required, first: listed(first), last: listed(last) }));
        }
    }
    let drafted: Vec<Promise> = spans.iter().map(|(_, promise)| *promise).collect();
    let mut promises = Vec::with_capacity(drafted.len());
    for ((bundle, promise), increase) in spans.into_iter().zip(measure_all(rollup, list, &drafted)?) {
        let increase = increase.map_err(SealError::Differs)?;
        let required = promise.requirement.requirement;
        let met = !increase.is_negative() && increase.into_raw() >= required.min_increase;
        if !met {
            let text = format!("a requirement of bundle {bundle} is not met any more");
            return Err(SealError::Unsteady { text, bundles: vec![bundle] });
        }
        let requirement = RequirementRun { requirement: required, increase };
        promises.push(Promise { requirement, ..promise });
    }
    Ok(promises)
}

/// By how much the balances rise over the promises' spans of a list, which is executed once for all of them. What keeps one of
/// them from being measured is in its place.
///
/// # Errors
/// When the list cannot be executed.
pub fn measure_all(
    rollup: &Arc<SlotRollup>,
    list: &BlockList,
    promises: &[Promise],
) -> Result<Vec<Result<I256, String>>, SealError> {
    let absent = |promise: &Promise| {
        Err(format!("the span of a requirement on {} is not in the list", promise.requirement.requirement.account))
    };
    let mut measured: Vec<Result<I256, String>> = promises.iter().map(absent).collect();
    let mut before: Vec<Option<Result<U256, String>>> = vec![None; promises.len()];
    let mut begins: BTreeMap<(u32, u32), Vec<usize>> = BTreeMap::new();
    let mut ends: BTreeMap<(u32, u32), Vec<usize>> = BTreeMap::new();
    for (index, promise) in promises.iter().enumerate() {
        begins.entry(promise.first).or_default().push(index);
        ends.entry(promise.last).or_default().push(index);
    }
    let Some(end) = ends.last_key_value().map(|(end, _)| *end) else { return Ok(measured) };
    let mut lane = Lane::open(Arc::clone(rollup)).map_err(|cause| BuildError::Lane { chain: rollup.chain, cause })?;
    for (index, listed) in list.blocks.iter().enumerate() {
        if index > 0 {
            lane.advance().map_err(|cause| BuildError::Lane { chain: rollup.chain, cause })?;
        }
        for (position, raw) in listed.transactions.iter().enumerate() {
            let at = (u32::try_from(index).unwrap_or(u32::MAX), u32::try_from(position).unwrap_or(u32::MAX));
            for promise in begins.get(&at).into_iter().flatten() {
                before[*promise] = Some(read(lane.block(), &promises[*promise].requirement)?);
            }
            let tx = BlockTx::decode(raw.clone()).map_err(|error| SealError::Differs(error.to_string()))?;
            lane.block_mut()
                .execute(&tx)
                .map_err(|error| BuildError::simulation(rollup.chain, error))?
                .map_err(|reason| SealError::Differs(reason.to_string()))?;
            for promise in ends.get(&at).into_iter().flatten() {
                let after = read(lane.block(), &promises[*promise].requirement)?;
                measured[*promise] = match before[*promise].take() {
                    Some(before) => before.and_then(|before| Ok(I256::from_raw(after?.wrapping_sub(before)))),
                    None => Err("a span ends before it begins".to_owned()),
                };
            }
            if at >= end {
                return Ok(measured);
            }
        }
    }
    Ok(measured)
}

/// A balance, or why it cannot be read.
fn read(block: &PendingBlock, required: &RequirementRun) -> Result<Result<U256, String>, SealError> {
    let chain = block.context().chain;
    let balance = balance_of(block, required.requirement.account, required.requirement.asset);
    let balance = balance.map_err(|error| BuildError::simulation(chain, error))?;
    Ok(balance.map_err(|reason| reason.to_string()))
}

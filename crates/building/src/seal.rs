//! Sealing: evidence and signatures fix the bytes, and what they fix is executed once more, on a fresh EVM. This is the pass
//! that verifies a draft, whose parts may be remembered and put together rather than executed.

mod compare;
mod measure;
mod promised;

use std::{collections::BTreeMap, sync::Arc};

use alloy_consensus::TxEip1559;
use alloy_primitives::{B256, I256, Signature};
use lockstep_messaging::Evidence;
use lockstep_primitives::{BlockList, ChainId, ListBlock, Place, Reason, Rejection};
use lockstep_simulation::{BlockTx, DecodedBlock, LaneBlock, LaneError, SlotRollup, execute_decoded, execute_list};
use rayon::prelude::*;

use crate::{BuildError, Draft, RelayDraft, RequirementRun, RollupView, SlotView, check_order, parallel::for_each_index, relay};

use compare::{At, Comparison};
use measure::Meter;

pub use measure::{Measured, execute_measured};
pub use promised::SealedBlock;

/// Evidence by message id.
pub type EvidenceMap = BTreeMap<B256, Evidence>;

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
    /// The draft was wrong: its list does something else, and no evidence nor signature can be why. It is the engine's fault, and
    /// no bundle's.
    #[error("the draft of rollup {chain} is wrong, block {block}{}: {text}", in_block(.index))]
    Corrupt {
        /// The rollup.
        chain: ChainId,
        /// Index of the block in the slot.
        block: usize,
        /// Position of the transaction in the block, forced prefix included; `None` where it is about the block as a whole.
        index: Option<usize>,
        /// What is not the same.
        text: String,
    },
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] BuildError),
}

fn in_block(index: &Option<usize>) -> String {
    index.map_or_else(String::new, |index| format!(", transaction {index}"))
}

/// Seals all lists of a draft, rollups in parallel: see [`seal`](seal()).
///
/// # Errors
/// When any rollup's list cannot be sealed; the first by chain id counts.
pub fn seal_all(
    view: &SlotView,
    draft: &Draft,
    evidence: &EvidenceMap,
    sign: &(dyn Fn(B256) -> Signature + Sync),
) -> Result<BTreeMap<ChainId, SealedList>, SealError> {
    let chains: Vec<ChainId> = draft.lanes.keys().copied().collect();
    // All answers are kept until the last is there, so that which error comes first does not depend on the threads.
    let sealed: Vec<Result<SealedList, SealError>> =
        chains.par_iter().map(|chain| seal(view, draft, *chain, evidence, sign)).collect();
    chains.into_iter().zip(sealed).map(|(chain, sealed)| Ok((chain, sealed?))).collect()
}

/// Seals one rollup's list of a draft: puts evidence into its relays, signs them, executes the result on a fresh EVM, and holds
/// it against the draft. What no relay can have changed has to be the same to the last bit.
///
/// Relays are signed in parallel: a signature takes as long as a swap does to execute. Equal digests have to get equal
/// signatures (RFC 6979), else sealing the same draft twice would yield two lists.
///
/// # Errors
/// When evidence is absent, or the sealed list does not do what the draft promised.
pub fn seal(
    view: &SlotView,
    draft: &Draft,
    chain: ChainId,
    evidence: &EvidenceMap,
    sign: &(dyn Fn(B256) -> Signature + Sync),
) -> Result<SealedList, SealError> {
    let rollup = view.rollups.get(&chain).ok_or(BuildError::UnknownRollup(chain))?;
    let drafted = &draft.lanes.get(&chain).ok_or(BuildError::UnknownRollup(chain))?.blocks;
    let comparison = Comparison::new(draft, chain, drafted);
    let signed = sign_relays(view, draft, evidence, sign, &comparison)?;
    let list = decoded(drafted, signed, &comparison)?;
    let spans = spans(draft, chain, drafted);
    let promises: Vec<Promise> = spans.iter().map(|span| span.promise).collect();
    let mut meter = Meter::new(&promises, &list);
    let executed = match execute_decoded(&rollup.slot, &list, |block, gap, open| meter.look(block, gap, open)) {
        Err(LaneError::Invalid { block, index, reason }) => {
            let at = (block, forced(drafted, block) + index);
            return Err(comparison.fault(at, format!("it is invalid: {reason}")));
        }
        executed => executed.map_err(|cause| BuildError::Lane { chain, cause })?,
    };
    comparison.blocks(&executed)?;
    comparison.runs(&executed)?;
    in_order(rollup, &executed, &comparison)?;
    let requirements = kept(spans, meter.finish(), &comparison)?;
    let blocks = executed.into_iter().enumerate().map(|(index, block)| {
        let must_succeed = must_succeed(draft, chain, index, block.forced);
        SealedBlock::new(block, must_succeed)
    });
    let (legs, list) = (places(draft, chain, drafted, &list), encoded(chain, &list));
    Ok(SealedList { list, blocks: blocks.collect(), requirements, legs })
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

type SignedRelays = BTreeMap<At, BlockTx>;

/// Signs the rollup's relays, each apart from the others: their nonces were fixed when they were drafted.
fn sign_relays(
    view: &SlotView,
    draft: &Draft,
    evidence: &EvidenceMap,
    sign: &(dyn Fn(B256) -> Signature + Sync),
    comparison: &Comparison<'_>,
) -> Result<SignedRelays, SealError> {
    let relays = draft.relays(comparison.chain());
    let written = for_each_index(relays.len(), &(), |(), index| {
        let tx = with_evidence(view, draft, relays[index], evidence, comparison)?;
        Ok::<_, SealError>(BlockTx::Signed(relay::sign(tx, view.proposer, sign)))
    });
    // In the order of the list, so that which error comes first does not depend on the threads.
    relays.iter().zip(written).map(|(relay, signed)| Ok(((relay.block, relay.position), signed?))).collect()
}

/// A relay's transaction, with its evidence instead of what stood in for it.
fn with_evidence(
    view: &SlotView,
    draft: &Draft,
    relay: &RelayDraft,
    evidence: &EvidenceMap,
    comparison: &Comparison<'_>,
) -> Result<TxEip1559, SealError> {
    let chain = comparison.chain();
    let mut tx = relay.tx.clone();
    if relay.request.is_none() {
        return Ok(tx);
    }
    let reject = |reason| SealError::Evidence(Rejection::new(Place::leg(chain, relay.leg), reason));
    let message = &relay.message;
    let evidence = evidence.get(&message.id);
    let evidence = evidence.ok_or_else(|| reject(Reason::NoEvidence(format!("message {} has none", message.id))))?;
    let block = draft.lanes.get(&chain).and_then(|lane| lane.blocks.get(relay.block));
    let absent = || comparison.corrupt(relay.block, Some(relay.position), "a relay's block is not there".to_owned());
    let block = block.ok_or_else(absent)?;
    let to = relay::destination(block.block.context(), view.proposer);
    let protocol = view.policy.protocols.of(message).map_err(reject)?;
    let calls = protocol.deliver(message, evidence, &to).map_err(reject)?;
    let call = calls.into_iter().nth(relay.call);
    let call = call.ok_or_else(|| SealError::Differs("the delivery has fewer calls".into()))?;
    (tx.input, tx.access_list) = (call.data, call.access_list);
    Ok(tx)
}

/// The list with the signed relays in it, decoded as it was drafted: what users signed was decoded when it came in.
fn decoded(drafted: &[LaneBlock], mut signed: SignedRelays, comparison: &Comparison<'_>) -> Result<Vec<DecodedBlock>, SealError> {
    let mut blocks = Vec::with_capacity(drafted.len());
    for (index, block) in drafted.iter().enumerate() {
        let mut transactions = Vec::with_capacity(block.listed().len());
        for (executed, position) in block.listed().iter().zip(block.forced..) {
            transactions.push(signed.remove(&(index, position)).unwrap_or_else(|| executed.tx.clone()));
        }
        let context = block.block.context();
        blocks.push(DecodedBlock { number: context.number, timestamp: context.timestamp, transactions });
    }
    match signed.first_key_value() {
        Some(((block, position), _)) => {
            Err(comparison.corrupt(*block, Some(*position), "a relay is not among the listed transactions".to_owned()))
        }
        None => Ok(blocks),
    }
}

fn encoded(chain: ChainId, list: &[DecodedBlock]) -> BlockList {
    let blocks = list.iter().map(|block| ListBlock {
        number: block.number,
        timestamp: block.timestamp,
        transactions: block.transactions.iter().map(|tx| tx.raw().clone()).collect(),
    });
    BlockList { chain, blocks: blocks.collect() }
}

/// Checks the order of the sealed blocks. Evidence moves the base fee of a slot's later block, and with it what transactions pay
/// beyond it.
fn in_order(rollup: &RollupView, sealed: &[LaneBlock], comparison: &Comparison<'_>) -> Result<(), SealError> {
    let Err(error) = check_order(rollup.ordering, &rollup.arrivals, sealed) else { return Ok(()) };
    let block = error.block as usize;
    if !comparison.opens_alike(block) {
        return Err(SealError::Differs(error.to_string()));
    }
    let index = forced(sealed, block) + error.position as usize;
    Err(comparison.corrupt(block, Some(index), error.text))
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

/// How many transactions of a block are forced.
fn forced(blocks: &[LaneBlock], block: usize) -> usize {
    blocks.get(block).map_or(0, |block| block.forced)
}

/// The position in the list of a position in the block.
fn listed_position(position: usize, forced: usize) -> u32 {
    u32::try_from(position.saturating_sub(forced)).unwrap_or(u32::MAX)
}

/// A place in the block as a place in the list.
fn listed(drafted: &[LaneBlock], (block, position): At) -> (u32, u32) {
    (u32::try_from(block).unwrap_or(u32::MAX), listed_position(position, forced(drafted, block)))
}

/// Where the transactions of each leg on the rollup are.
fn places(draft: &Draft, chain: ChainId, drafted: &[LaneBlock], list: &[DecodedBlock]) -> BTreeMap<(B256, usize), Vec<ListedTx>> {
    let mut legs = BTreeMap::new();
    for placed in &draft.placed {
        for (index, leg) in placed.run.legs.iter().enumerate().filter(|(_, leg)| leg.chain == chain) {
            let places = leg.txs.iter().filter_map(|tx| tx.position).filter_map(|at| {
                let (block, position) = listed(drafted, (leg.block, at));
                let tx = list.get(leg.block)?.transactions.get(position as usize)?;
                Some(ListedTx { block, position, hash: tx.hash() })
            });
            legs.insert((placed.hash, index), places.collect());
        }
    }
    legs
}

/// What a bundle was promised of a balance, and where the last of its transactions is.
struct Span {
    bundle: B256,
    last: At,
    promise: Promise,
}

/// The spans of all requirements on the rollup, as drafted. A bundle's transactions on a rollup are contiguous, so the balances
/// just before the first and just after the last of them are those of prefixes of the list.
fn spans(draft: &Draft, chain: ChainId, drafted: &[LaneBlock]) -> Vec<Span> {
    let mut spans = Vec::new();
    for placed in &draft.placed {
        let legs = placed.run.legs.iter().filter(|leg| leg.chain == chain);
        let places: Vec<At> = legs.flat_map(|leg| leg.txs.iter().filter_map(|tx| Some((leg.block, tx.position?)))).collect();
        let (Some(first), Some(last)) = (places.iter().min().copied(), places.iter().max().copied()) else { continue };
        for requirement in placed.run.requirements.iter().filter(|run| run.requirement.chain == chain) {
            let promise = Promise { requirement: *requirement, first: listed(drafted, first), last: listed(drafted, last) };
            spans.push(Span { bundle: placed.hash, last, promise });
        }
    }
    spans
}

/// The promises with what was measured, if they are kept.
fn kept(spans: Vec<Span>, measured: Vec<Result<I256, String>>, comparison: &Comparison<'_>) -> Result<Vec<Promise>, SealError> {
    let mut promises = Vec::with_capacity(spans.len());
    for (Span { bundle, last, promise }, increase) in spans.into_iter().zip(measured) {
        let increase = increase.map_err(|text| comparison.broken(bundle, last, &text))?;
        let RequirementRun { requirement: required, increase: drafted } = promise.requirement;
        let met = !increase.is_negative() && increase.into_raw() >= required.min_increase;
        if !met {
            let (account, demanded) = (required.account, required.min_increase);
            let text = format!("the balance of {account} rises by {increase}, and has to by {demanded}");
            return Err(comparison.broken(bundle, last, &text));
        }
        if increase != drafted && !comparison.is_explained(last) {
            let text = format!("the balance of {} rises by {increase}, not by {drafted}", required.account);
            return Err(comparison.broken(bundle, last, &text));
        }
        promises.push(Promise { requirement: RequirementRun { requirement: required, increase }, ..promise });
    }
    Ok(promises)
}

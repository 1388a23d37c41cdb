//! Whether a sealed list does what its draft promised, and whose doing it is when it does not.

use std::collections::BTreeSet;

use alloy_primitives::B256;
use lockstep_primitives::ChainId;
use lockstep_simulation::{Executed, LaneBlock};

use super::SealError;
use crate::{BuildError, Draft, LegRun, Placed, RelayDraft, TxRun};

/// A transaction's place in the slot: the index of its block, and its position in it with the forced prefix.
pub(super) type At = (usize, usize);

/// Compares one rollup's blocks of a draft with what executing the sealed list gave.
///
/// Up to the first relay whose sealed bytes do something else than its drafted ones everything has to be the same to the last
/// bit. From there on gas and fees may move, but how transactions end and what they log may not.
#[derive(Debug)]
pub(super) struct Comparison<'a> {
    draft: &'a Draft,
    chain: ChainId,
    drafted: &'a [LaneBlock],
    /// Whether the bytes of a transaction cost something by themselves (OP stack: data fees), so that a signature does too.
    bytes_cost: bool,
    /// The first relay that differs in more than its signature, or in a signature that costs something.
    first_loose: Option<At>,
}

impl<'a> Comparison<'a> {
    pub(super) fn new(draft: &'a Draft, chain: ChainId, drafted: &'a [LaneBlock]) -> Self {
        let bytes_cost = drafted.first().is_some_and(|block| block.block.context().rules.is_op_stack());
        let mut comparison = Self { draft, chain, drafted, bytes_cost, first_loose: None };
        let relays = draft.placed.iter().flat_map(|placed| &placed.run.relays);
        let loose = relays.filter(|relay| comparison.is_loose(relay)).map(|relay| (relay.block, relay.position));
        comparison.first_loose = loose.min();
        comparison
    }

    /// The rollup.
    pub(super) const fn chain(&self) -> ChainId {
        self.chain
    }

    /// Compares everything, block by block.
    pub(super) fn blocks(&self, sealed: &[LaneBlock]) -> Result<(), SealError> {
        for (index, (before, after)) in self.drafted.iter().zip(sealed).enumerate() {
            // What evidence weighs moves the base fee of the blocks behind it.
            if self.opens_alike(index) && before.block.context() != after.block.context() {
                return Err(self.corrupt(index, None, "the block has another environment".to_owned()));
            }
            let (drafted, done) = (before.block.executed(), after.block.executed());
            if (before.forced, drafted.len()) != (after.forced, done.len()) {
                let text = format!(
                    "it has {} transactions, {} of them forced, not {} and {}",
                    done.len(),
                    after.forced,
                    drafted.len(),
                    before.forced
                );
                return Err(self.corrupt(index, None, text));
            }
            for (position, (before, after)) in drafted.iter().zip(done).enumerate() {
                self.transaction((index, position), before, after)?;
            }
            self.state(index, before, after)?;
        }
        Ok(())
    }

    fn transaction(&self, at: At, before: &Executed, after: &Executed) -> Result<(), SealError> {
        let (was, is) = (&before.outcome, &after.outcome);
        if was.status != is.status {
            return Err(self.fault(at, format!("it ends as {:?}, not as {:?}", is.status, was.status)));
        }
        if was.logs != is.logs {
            return Err(self.fault(at, "it has other logs".to_owned()));
        }
        if self.is_explained(at) {
            return Ok(());
        }
        if was.gas_used != is.gas_used {
            return Err(self.fault(at, format!("it uses {} gas, not {}", is.gas_used, was.gas_used)));
        }
        let (was_cumulative, is_cumulative) = (before.cumulative_gas_used, after.cumulative_gas_used);
        if was_cumulative != is_cumulative {
            return Err(self.fault(at, format!("the block has used {is_cumulative} gas after it, not {was_cumulative}")));
        }
        if was != is {
            return Err(self.fault(at, "it answers otherwise or pays other fees".to_owned()));
        }
        Ok(())
    }

    /// Compares the state after a block, where nothing explains a difference.
    fn state(&self, index: usize, before: &LaneBlock, after: &LaneBlock) -> Result<(), SealError> {
        if self.first_loose.is_some_and(|(block, _)| block <= index) {
            return Ok(());
        }
        let other = before.block.state().first_difference(after.block.state());
        match other.map_err(|error| BuildError::simulation(self.chain, error.into()))? {
            Some(account) => Err(self.corrupt(index, None, format!("account {account} is another one after the block"))),
            None => Ok(()),
        }
    }

    /// Checks that every transaction of the bundles on the rollup is where its run says, and did what it says. To be asked when
    /// the blocks are alike.
    pub(super) fn runs(&self, sealed: &[LaneBlock]) -> Result<(), SealError> {
        let relays: BTreeSet<At> = self.draft.relays(self.chain).into_iter().map(|relay| (relay.block, relay.position)).collect();
        for placed in &self.draft.placed {
            for leg in placed.run.legs.iter().filter(|leg| leg.chain == self.chain) {
                for tx in &leg.txs {
                    self.run(placed, leg, tx, sealed, &relays)?;
                }
            }
        }
        Ok(())
    }

    fn run(
        &self,
        placed: &Placed,
        leg: &LegRun,
        tx: &TxRun,
        sealed: &[LaneBlock],
        relays: &BTreeSet<At>,
    ) -> Result<(), SealError> {
        let Some(position) = tx.position else { return Ok(()) };
        let at = (leg.block, position);
        let wrong = |text: &str| Err(self.corrupt(at.0, Some(at.1), format!("bundle {}: {text}", placed.hash)));
        let (Some(before), Some(after)) = (executed(self.drafted, at), executed(sealed, at)) else {
            return wrong("there is nothing in the place of its transaction");
        };
        // A relay has another hash once it is signed; that it was is told by its being among the relays.
        if before.tx.hash() != tx.hash || leg.relay != relays.contains(&at) || (!leg.relay && after.tx.hash() != tx.hash) {
            return wrong("another transaction is in the place of its own");
        }
        if tx.must_succeed && !after.outcome.succeeded() {
            return wrong("its transaction must succeed and does not");
        }
        if !self.is_explained(at) && tx.outcome.as_ref() != Some(&after.outcome) {
            return wrong("its transaction does something else than it did there");
        }
        Ok(())
    }

    /// Whether the sealed bytes of a relay may do something else than its drafted ones. Real evidence weighs something else than
    /// what stands in for it, and so do real signatures where bytes cost something.
    fn is_loose(&self, relay: &RelayDraft) -> bool {
        relay.chain == self.chain && (relay.request.is_some() || self.bytes_cost)
    }

    /// Whether a relay there or before it may be why something is not the same.
    pub(super) fn is_explained(&self, at: At) -> bool {
        self.first_loose.is_some_and(|first| first <= at)
    }

    /// Whether the environment of a block has to be the same, because everything before it was.
    pub(super) fn opens_alike(&self, block: usize) -> bool {
        self.first_loose.is_none_or(|(first, _)| block <= first)
    }

    /// Whose doing it is that the transaction at a place does something else: of the bundle that it belongs to, if a loose relay
    /// of that is there or before it, else of the last such bundle. Without any the draft is wrong.
    pub(super) fn fault(&self, at: At, text: String) -> SealError {
        let loose = |placed: &&Placed| {
            let mut relays = placed.run.relays.iter();
            relays.any(|relay| self.is_loose(relay) && (relay.block, relay.position) <= at)
        };
        let owns = |placed: &&Placed| {
            let mut legs = placed.run.legs.iter().filter(|leg| leg.chain == self.chain && leg.block == at.0);
            legs.any(|leg| leg.txs.iter().any(|tx| tx.position == Some(at.1)))
        };
        let placed = &self.draft.placed;
        match placed.iter().filter(loose).find(owns).or_else(|| placed.iter().rfind(loose)) {
            Some(culprit) => self.unsteady(culprit.hash, at, &text),
            None => self.corrupt(at.0, Some(at.1), text),
        }
    }

    /// The same of something that a bundle was promised at a place.
    pub(super) fn broken(&self, bundle: B256, at: At, text: &str) -> SealError {
        let text = format!("bundle {bundle}: {text}");
        if self.is_explained(at) { self.unsteady(bundle, at, &text) } else { self.corrupt(at.0, Some(at.1), text) }
    }

    fn unsteady(&self, bundle: B256, (block, index): At, text: &str) -> SealError {
        SealError::Unsteady { text: format!("transaction {index} of block {block}: {text}"), bundles: vec![bundle] }
    }

    /// Nothing explains it: the draft was wrong.
    pub(super) fn corrupt(&self, block: usize, index: Option<usize>, text: String) -> SealError {
        SealError::Corrupt { chain: self.chain, block, index, text }
    }
}

fn executed(blocks: &[LaneBlock], (block, position): At) -> Option<&Executed> {
    blocks.get(block)?.block.executed().get(position)
}

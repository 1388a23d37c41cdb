//! What a protocol may look at: the logs of the slot's blocks, and what is known of the chains before the slot.

use std::{collections::BTreeMap, fmt};

use alloy_eips::eip2930::AccessList;
use alloy_primitives::{Address, B256, ChainId};
use lockstep_primitives::{LandedRef, Reason};

use crate::{Emitted, Evidence, LogPlace, Message, agglayer::ExitFacts};

/// The logs of the slot's blocks as far as they are built.
pub trait SlotLogs: fmt::Debug {
    /// All logs of a rollup's blocks of the slot, closed ones and the open one, forced transactions included, in order.
    /// `None` when the rollup is not built for: then nothing is certain about its blocks of this slot.
    fn logs(&self, chain: ChainId) -> Option<Vec<Emitted<'_>>>;

    /// The rollups that are built for.
    fn chains(&self) -> Vec<ChainId>;
}

/// What a protocol may look at.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'a> {
    /// What was known before the slot.
    pub facts: &'a Facts,
    /// What happens in it.
    pub logs: &'a dyn SlotLogs,
}

/// A transaction that ran, as protocols check it.
#[derive(Clone, Copy, Debug)]
pub struct Ran<'a> {
    /// Its access list; `None` when its type has none.
    pub access_list: Option<&'a AccessList>,
    /// Its logs.
    pub logs: &'a [Emitted<'a>],
    /// The timestamp of its block, in seconds.
    pub timestamp: u64,
}

/// What the edge knows of the chains as of the blocks that a slot builds on. What is not here is not certain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Messages that landed before, with what it takes to deliver them now, or why that cannot be had.
    pub landed: BTreeMap<LandedRef, Result<LandedMessage, Reason>>,
    /// Those of them that nobody seems to deliver, in the order in which they were found.
    pub orphans: Vec<LandedRef>,
    /// Logs of earlier blocks that transactions of the pool refer to, by rollup, block number and index in the block.
    pub logs: BTreeMap<(ChainId, u64, u64), KnownLog>,
    /// AggLayer's trees and balances.
    pub exits: ExitFacts,
}

/// A message that is on its chain, with what its destination demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LandedMessage {
    /// The message.
    pub message: Message,
    /// The evidence.
    pub evidence: Evidence,
}

/// A log of an earlier block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownLog {
    /// Who emitted it.
    pub address: Address,
    /// keccak-256 of its topics and data, one after the other.
    pub payload_hash: B256,
    /// Where it is.
    pub place: LogPlace,
}

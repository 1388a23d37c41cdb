//! What the harness and the peer tell each other: a workload in a file, and then lines of JSON, an answer for every question.
//!
//! Both sides compile this file.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, U256};
use serde::{Deserialize, Serialize};

/// What a block is to be built of.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Workload {
    /// How many items are simulated at a time.
    pub(crate) concurrency: usize,
    /// The chain that the rollup belongs to.
    pub(crate) host: Chain,
    /// The rollup.
    pub(crate) rollup: Chain,
    /// What is pending, in the order of arrival.
    pub(crate) items: Vec<Item>,
}

/// A chain and its next block, under Prague's rules.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Chain {
    /// Its id.
    pub(crate) chain_id: u64,
    /// Of the next block.
    pub(crate) number: u64,
    /// Of the next block, in seconds.
    pub(crate) timestamp: u64,
    /// Of the next block.
    pub(crate) gas_limit: u64,
    /// Of the next block, in wei for a unit of gas.
    pub(crate) base_fee: u64,
    /// Who receives the tips.
    pub(crate) beneficiary: Address,
    /// Of the next block.
    pub(crate) prev_randao: B256,
    /// The state that it is built on.
    pub(crate) accounts: BTreeMap<Address, Account>,
}

/// An account.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Account {
    /// In wei.
    pub(crate) balance: U256,
    /// Transactions sent.
    pub(crate) nonce: u64,
    /// Empty where there is none.
    pub(crate) code: Bytes,
    /// The slots that are not zero.
    pub(crate) storage: BTreeMap<B256, B256>,
}

/// What is in a block as a whole or not at all. Transactions are signed, as they go over the wire.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(crate) enum Item {
    /// One transaction on the rollup.
    Transaction(Bytes),
    /// Transactions in order, those on the host before those on the rollup.
    Bundle {
        /// On the host; there may be none.
        host: Vec<Bytes>,
        /// On the rollup.
        rollup: Vec<Bytes>,
    },
}

/// A line that the peer reads: build that often, every time from nothing.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    /// How often; at least once.
    pub(crate) runs: u32,
}

/// The line that it writes then.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Answer {
    /// How long every run took, in nanoseconds.
    pub(crate) times_ns: Vec<u64>,
    /// What the block of the last run is worth to the rollup's beneficiary in wei, as the peer counts it.
    pub(crate) value: U256,
    /// What the host's beneficiary gains by it in wei. The peer does not count that.
    pub(crate) host_value: U256,
    /// The transactions in the block of the last run, in order.
    pub(crate) included: Vec<B256>,
    /// The transactions on the host that go with it, in order.
    pub(crate) host_included: Vec<B256>,
}

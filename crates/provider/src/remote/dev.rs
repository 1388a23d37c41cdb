//! What anvil does on its own, so that a plan can promise it.
//!
//! All of it was found by experiment with anvil 1.7.1 and is checked by the tests of `fixtures/nodes`.

use alloy_primitives::{Address, B256, Bytes, address, keccak256};
use lockstep_simulation::{ForkSchedule, Rules};
use serde::Deserialize;
use serde_json::json;

use super::wire::Rpc;
use crate::NodeError;

/// Where the priority fees of an OP-stack rollup go.
pub(super) const SEQUENCER_FEE_VAULT: Address = address!("4200000000000000000000000000000000000011");

/// The EIP-1559 parameters that anvil's OP network computes base fees with, in every fork.
const OP_DENOMINATOR: u32 = 50;
const OP_ELASTICITY: u32 = 6;
/// Jovian's minimum base fee, which anvil does not have.
const OP_MIN_BASE_FEE: u64 = 0;

/// The prevRandao that anvil gives block `number` after `parent`: keccak-256 of the parent's hash and the number as eight
/// little-endian bytes.
pub(super) fn prev_randao(parent: B256, number: u64) -> B256 {
    let mut bytes = parent.to_vec();
    bytes.extend_from_slice(&number.to_le_bytes());
    keccak256(bytes)
}

/// The extra data that an OP-stack header should hold and anvil's do not. Empty under Ethereum rules.
pub(super) fn extra_data(rules: Rules) -> Bytes {
    if !rules.is_op_stack() {
        return Bytes::new();
    }
    let jovian = rules.has_footprint();
    let mut bytes = vec![u8::from(jovian)];
    bytes.extend_from_slice(&OP_DENOMINATOR.to_be_bytes());
    bytes.extend_from_slice(&OP_ELASTICITY.to_be_bytes());
    if jovian {
        bytes.extend_from_slice(&OP_MIN_BASE_FEE.to_be_bytes());
    }
    bytes.into()
}

/// An anvil, as it describes itself.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DevNode {
    hard_fork: String,
    transaction_order: String,
}

impl DevNode {
    /// Whether a client that calls itself so can be told which block to make.
    pub(super) fn is_one(client: &str) -> bool {
        client.starts_with("anvil/")
    }

    /// Asks the node, and checks that it executes the rules that hold at `timestamp`: with others every gas count would be
    /// found out only when a block differs from its list.
    pub(super) async fn ask(rpc: &Rpc, forks: &ForkSchedule, timestamp: u64) -> Result<Self, NodeError> {
        let node: Self = rpc.ask("anvil_nodeInfo", json!([])).await?;
        if let Ok(rules) = forks.rules_at(timestamp) {
            let expected = match rules {
                Rules::Ethereum(fork) => format!("{fork:?}"),
                Rules::OpStack(fork) => format!("{fork:?}"),
            };
            if !expected.eq_ignore_ascii_case(&node.hard_fork) {
                let executed = &node.hard_fork;
                return Err(rpc.unusable(format!(
                    "it executes {executed}, the rollup's rules are {expected}: start anvil with --hardfork {}",
                    expected.to_lowercase()
                )));
            }
        }
        Ok(node)
    }

    /// Checks that the pool keeps transactions in the order in which they come.
    pub(super) fn check_order(&self, rpc: &Rpc) -> Result<(), NodeError> {
        if self.transaction_order.eq_ignore_ascii_case("fifo") {
            return Ok(());
        }
        let order = &self.transaction_order;
        Err(rpc.unusable(format!("its pool is ordered by {order}: start anvil with --no-mining --order fifo")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::b256;
    use lockstep_simulation::{BlockContext, NextBlock, OpFork, ParentBlock};

    #[test]
    fn prev_randao_is_what_anvil_answered() {
        let genesis = b256!("c56b8342e33b57477139f45874ae699b6fe1ca1a65d089b78c34dabc3206e07b");
        assert_eq!(prev_randao(genesis, 1), b256!("55ce77dc0460a118625d9fbee965f35f970b3fd90de56c18e3e57c006b3dec94"));
        let first = b256!("19e43f8a3ff037976c7e5b9238598ba2e04d1a214ed2cf861ab524837c149dee");
        assert_eq!(prev_randao(first, 2), b256!("38553c18dc2e86c63caa9c2a7c9f987ed6c847413ffcbbb2243f843bad06ecab"));
    }

    #[test]
    fn the_extra_data_yields_the_base_fee_that_anvil_computed() {
        for fork in [OpFork::Isthmus, OpFork::Jovian] {
            let rules = Rules::OpStack(fork);
            let parent = ParentBlock {
                number: 1,
                gas_limit: 30_000_000,
                gas_used: 105_000,
                base_fee: 875_000_000,
                blob_gas_used: Some(0),
                extra_data: extra_data(rules),
                ..ParentBlock::default()
            };
            let next = NextBlock { timestamp: 1, parent_beacon_block_root: Some(B256::ZERO), ..NextBlock::default() };
            let context = BlockContext::next(901, &ForkSchedule::always(rules), &parent, &next).unwrap();
            assert_eq!(context.base_fee, 857_867_500);
        }
    }
}

//! The sequencer's side of an engine proxy: what the next blocks will be, and getting lists into them.

use std::{sync::Arc, time::Duration};

use alloy_primitives::{Address, B64, B256, Bytes, U64, address, keccak256};
use async_trait::async_trait;
use lockstep_primitives::{BlockList, Guarantee};
use lockstep_simulation::{BlockPlan, BlockTx, LaneError, NextBlock, OpFork, ParentBlock, Rules, SlotRollup};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{
    CommitList, ControlError, EngineControl, LastAttributes, PlannedAttributes,
    attributes::{Attributes, extra_data},
    l1::L1Attributes,
    now_ms,
};
use crate::{DeliveryAdapter, NodeError, PublishedBlock, remote::RemoteChain};

/// Who receives priority fees on the OP stack.
const SEQUENCER_FEE_VAULT: Address = address!("4200000000000000000000000000000000000011");

/// Delivers lists through an engine proxy.
#[derive(Debug)]
pub(crate) struct EngineAdapter {
    chain: RemoteChain,
    control: EngineControl,
}

/// What the proxy does not know and the parent's header tells.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeaderAnswer {
    hash: B256,
    mix_hash: B256,
    parent_beacon_block_root: Option<B256>,
}

/// The parent's first transaction.
#[derive(Clone, Debug, Deserialize)]
struct FirstTransaction {
    hash: B256,
    input: Bytes,
}

/// A block that was made.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MadeBlock {
    hash: B256,
    parent_hash: B256,
    number: U64,
    timestamp: U64,
    gas_used: U64,
    receipts_root: B256,
    transactions: Vec<B256>,
}

/// What a plan goes out from: the block before it, or what the driver said of the block itself.
#[derive(Clone, Debug)]
struct Basis {
    next: NextBlock,
    forced: Vec<BlockTx>,
    l1: L1Attributes,
}

impl EngineAdapter {
    /// An adapter for a chain whose execution client stands behind the proxy.
    pub(crate) const fn new(chain: RemoteChain, control: EngineControl) -> Self {
        Self { chain, control }
    }

    fn unusable(&self, cause: String) -> NodeError {
        NodeError::Unreachable { chain: self.chain.chain, cause }
    }

    /// The OP-stack rules of a block, which have to be those of the block before it: in the first block of a fork the L1
    /// attributes still have the layout of the fork before, upgrade transactions follow, and nothing else may.
    fn fork(&self, before: u64, timestamp: u64) -> Result<OpFork, NodeError> {
        let rules = |timestamp| {
            let rules = self.chain.forks.rules_at(timestamp);
            rules.map_err(|error| NodeError::List { chain: self.chain.chain, cause: LaneError::Rules(error) })
        };
        let (old, new) = (rules(before)?, rules(timestamp)?);
        if old != new {
            return Err(self.unusable(format!("fork_activation: block {timestamp} s begins {new:?} and is not planned")));
        }
        match new {
            Rules::OpStack(fork) => Ok(fork),
            Rules::Ethereum(_) => Err(self.unusable("not_op_stack: the engine adapter is for OP-stack rollups".to_owned())),
        }
    }

    /// The first block of a slot: as the driver asked for it, if it has, else as it will while the L1 origin stays the same.
    async fn first(&self, parent: &ParentBlock, timestamp: u64) -> Result<Basis, NodeError> {
        let fork = self.fork(parent.timestamp, timestamp)?;
        let last = self.control.last_attributes().await.map_err(|error| self.unusable(error.to_string()))?;
        let said = last.filter(|last| last.parent_hash == parent.hash && last.timestamp == U64::from(timestamp));
        match said {
            Some(said) => said_by_driver(said, parent, fork).map_err(|cause| self.unusable(cause)),
            None => self.predict(parent, timestamp, fork).await,
        }
    }

    async fn predict(&self, parent: &ParentBlock, timestamp: u64, fork: OpFork) -> Result<Basis, NodeError> {
        let unknown = NodeError::UnknownBlock { chain: self.chain.chain, hash: parent.hash };
        let header: Option<HeaderAnswer> = self.chain.rpc.ask("eth_getBlockByHash", json!([parent.hash, false])).await?;
        let header = header.filter(|header| header.hash == parent.hash).ok_or(unknown)?;
        let first: Option<FirstTransaction> =
            self.chain.rpc.ask("eth_getTransactionByBlockHashAndIndex", json!([parent.hash, "0x0"])).await?;
        // The genesis has none.
        let first = first.ok_or_else(|| self.unusable(format!("l1_attributes: block {} holds no transaction", parent.number)))?;
        predicted(&header, &first, parent, timestamp, fork).map_err(|cause| self.unusable(cause))
    }

    /// Checks that the list fits the slot and the head, and writes what the proxy is told.
    fn commitment(
        &self,
        rollup: &SlotRollup,
        list: &BlockList,
        index: usize,
        head: &ParentBlock,
    ) -> Result<CommitList, NodeError> {
        let unfit = |cause| NodeError::List { chain: self.chain.chain, cause };
        if rollup.chain != self.chain.chain || list.chain != self.chain.chain {
            return Err(unfit(LaneError::NoBlocks(self.chain.chain)));
        }
        let number = rollup.parent.number.saturating_add(1).saturating_add(index as u64);
        let (plan, block) = (rollup.blocks.get(index), list.blocks.get(index));
        let planned = plan.map(|plan| (number, plan.next.timestamp));
        let listed = block.map(|block| (block.number, block.timestamp));
        let (Some(plan), Some(block), true) = (plan, block, planned == listed) else {
            return Err(unfit(LaneError::OtherBlocks { listed, planned }));
        };
        let fits = match index.checked_sub(1).and_then(|before| rollup.blocks.get(before)) {
            None => head.hash == rollup.parent.hash,
            Some(before) => head.number.checked_add(1) == Some(number) && head.timestamp == before.next.timestamp,
        };
        if !fits {
            return Err(NodeError::OtherParent { chain: self.chain.chain, head: head.hash, parent: rollup.parent.hash });
        }
        let (eip_1559_params, min_base_fee) = params(&plan.next.extra_data);
        Ok(CommitList {
            parent_hash: head.hash,
            timestamp: U64::from(plan.next.timestamp),
            number: U64::from(number),
            forced_prefix: plan.forced.iter().map(|tx| tx.raw().clone()).collect(),
            attributes: PlannedAttributes {
                gas_limit: U64::from(plan.next.gas_limit),
                prev_randao: plan.next.prev_randao,
                suggested_fee_recipient: plan.next.beneficiary,
                parent_beacon_block_root: plan.next.parent_beacon_block_root,
                eip_1559_params,
                min_base_fee,
            },
            transactions: block.transactions.clone(),
            expires_ms: now_ms().saturating_add(self.chain.limits.publish_timeout_ms),
        })
    }

    /// Waits for the block with that number.
    async fn made(&self, number: u64) -> Result<MadeBlock, NodeError> {
        let limit_ms = self.chain.limits.publish_timeout_ms;
        let made = timeout(Duration::from_millis(limit_ms), self.block(number)).await;
        made.unwrap_or_else(|_| Err(self.unusable(format!("it had no block {number} within {limit_ms} ms"))))
    }

    async fn block(&self, number: u64) -> Result<MadeBlock, NodeError> {
        let poll = Duration::from_millis(self.chain.limits.poll_ms.max(1));
        let mut heads = self.chain.watch();
        loop {
            // Marked before asking, so that a head that comes meanwhile ends the wait below.
            heads.mark_unchanged();
            let params = json!([format!("{number:#x}"), false]);
            let block: Option<MadeBlock> = self.chain.rpc.ask("eth_getBlockByNumber", params).await?;
            if let Some(block) = block {
                return Ok(block);
            }
            // Whoever follows the head may be behind, or gone: the block is looked for all the same.
            if let Ok(Err(_)) = timeout(poll, heads.changed()).await {
                sleep(poll).await;
            }
        }
    }

    /// Why a block is not its list's, as the proxy tells it.
    async fn reason(&self, commitment: &CommitList) -> String {
        match self.control.outcome(commitment.parent_hash, commitment.timestamp.to()).await {
            Ok(outcome) => match (outcome.reason, outcome.message) {
                (Some(reason), Some(message)) => format!("{reason}: {message}"),
                _ => format!("the proxy says {:?}", outcome.state),
            },
            Err(error) => error.to_string(),
        }
    }
}

#[async_trait]
impl DeliveryAdapter for EngineAdapter {
    fn name(&self) -> &'static str {
        "engine"
    }

    fn carries(&self) -> Guarantee {
        Guarantee::G3
    }

    fn hands_in_early(&self) -> bool {
        true
    }

    /// The first block as the driver asked for it, or else as it will ask while its L1 origin stays the same: the next
    /// sequence number, everything else as in the parent. Should the origin move, the proxy finds another forced prefix than
    /// the list was built on and the operator's own payload is used. Later blocks follow in the same way.
    async fn plan(&self, parent: &ParentBlock, timestamps: &[u64], _proposer: Address) -> Result<Vec<BlockPlan>, NodeError> {
        let Some((first, later)) = timestamps.split_first() else { return Ok(Vec::new()) };
        let mut basis = self.first(parent, *first).await?;
        let mut plans = vec![BlockPlan { next: basis.next.clone(), forced: basis.forced.clone() }];
        for timestamp in later {
            self.fork(basis.next.timestamp, *timestamp)?;
            basis = basis.after(*timestamp).map_err(|cause| self.unusable(cause))?;
            plans.push(BlockPlan { next: basis.next.clone(), forced: basis.forced.clone() });
        }
        Ok(plans)
    }

    async fn publish(&self, rollup: &Arc<SlotRollup>, list: &BlockList, index: usize) -> Result<PublishedBlock, NodeError> {
        let head = self.chain.refresh().await?;
        let commitment = self.commitment(rollup, list, index, &head)?;
        let other = |cause| NodeError::OtherBlock { chain: self.chain.chain, cause };
        self.control.commit_list(&commitment).await.map_err(|error| match error {
            ControlError::Refused { reason, message } => other(format!("the list is refused: {reason}: {message}")),
            error @ ControlError::Unusable(_) => self.unusable(error.to_string()),
        })?;
        let made = self.made(commitment.number.to()).await?;
        let wanted: Vec<B256> = commitment.forced_prefix.iter().chain(&commitment.transactions).map(keccak256).collect();
        let same = made.parent_hash == commitment.parent_hash
            && made.number == commitment.number
            && made.timestamp == commitment.timestamp
            && made.transactions == wanted;
        if !same {
            let reason = self.reason(&commitment).await;
            return Err(other(format!("block {} {} is not the list's: {reason}", made.number, made.hash)));
        }
        Ok(PublishedBlock {
            number: made.number.to(),
            hash: made.hash,
            timestamp: made.timestamp.to(),
            transactions: made.transactions,
            gas_used: made.gas_used.to(),
            receipts_root: made.receipts_root,
        })
    }
}

impl Basis {
    /// The block after it, `timestamp` in seconds.
    fn after(&self, timestamp: u64) -> Result<Self, String> {
        let l1 = self.l1.next().ok_or("sequence_number: there is no next one")?;
        let next = NextBlock { timestamp, ..self.next.clone() };
        Ok(Self { next, forced: vec![l1.deposit()], l1 })
    }
}

/// What the driver asked for.
fn said_by_driver(said: LastAttributes, parent: &ParentBlock, fork: OpFork) -> Result<Basis, String> {
    let malformed = |what: &str| format!("driver_attributes: {what}");
    let attributes = Attributes::read(said.attributes).ok_or_else(|| malformed("they cannot be read"))?;
    if attributes.only_deposits() {
        return Err("only_deposits: the driver wants nothing but deposits in the block".to_owned());
    }
    let mut planned = attributes.planned().ok_or_else(|| malformed("they hold no gas limit"))?;
    if planned.eip_1559_params.is_some_and(|params| params.is_zero()) {
        // They stand for the chain's constants, which the parent's header spells out. The minimum base fee is the driver's.
        planned.eip_1559_params = params(&parent.extra_data).0;
    }
    let mut forced = Vec::with_capacity(attributes.forced().len());
    for raw in attributes.forced() {
        forced.push(BlockTx::decode(raw.clone()).map_err(|error| malformed(&error.to_string()))?);
    }
    let Some(BlockTx::Deposit(deposit)) = forced.first() else {
        return Err(malformed("their first transaction is no deposit"));
    };
    let l1 = L1Attributes::read(&deposit.tx().input, fork).map_err(|cause| malformed(&cause))?;
    let next = NextBlock {
        timestamp: attributes.timestamp(),
        gas_limit: planned.gas_limit.to(),
        beneficiary: planned.suggested_fee_recipient,
        prev_randao: planned.prev_randao,
        parent_beacon_block_root: planned.parent_beacon_block_root,
        extra_data: extra_data(&planned).unwrap_or_else(|| parent.extra_data.clone()),
        ..NextBlock::default()
    };
    Ok(Basis { next, forced, l1 })
}

/// What the driver will ask for while its L1 origin stays the same: randomness and beacon root are the origin's.
fn predicted(
    header: &HeaderAnswer,
    first: &FirstTransaction,
    parent: &ParentBlock,
    timestamp: u64,
    fork: OpFork,
) -> Result<Basis, String> {
    let l1 = L1Attributes::read(&first.input, fork).map_err(|cause| format!("l1_attributes: {cause}"))?;
    // Whatever is not as it is expected in the parent's deposit would not be in the next one either.
    if l1.deposit().hash() != first.hash {
        return Err(format!("l1_attributes: the parent's first transaction {} is made in a way that is not known", first.hash));
    }
    let next = NextBlock {
        timestamp: parent.timestamp,
        gas_limit: parent.gas_limit,
        beneficiary: SEQUENCER_FEE_VAULT,
        prev_randao: header.mix_hash,
        parent_beacon_block_root: header.parent_beacon_block_root,
        extra_data: parent.extra_data.clone(),
        ..NextBlock::default()
    };
    Basis { next, forced: Vec::new(), l1 }.after(timestamp)
}

/// EIP-1559 parameters and minimum base fee out of an extraData (Holocene: 0, parameters; Jovian: 1, parameters, fee).
fn params(extra_data: &[u8]) -> (Option<B64>, Option<U64>) {
    let params = extra_data.get(1..9).map(B64::from_slice);
    let fee = extra_data.get(9..17).map(U64::from_be_slice);
    (params, fee)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const PARENT: B256 = B256::repeat_byte(7);

    fn extra() -> Bytes {
        [&[1, 0, 0, 0, 250, 0, 0, 0, 6][..], &1_000_u64.to_be_bytes()].concat().into()
    }

    fn parent() -> ParentBlock {
        ParentBlock {
            hash: PARENT,
            number: 9,
            timestamp: 100,
            gas_limit: 30_000_000,
            extra_data: extra(),
            ..ParentBlock::default()
        }
    }

    fn header() -> HeaderAnswer {
        HeaderAnswer { hash: PARENT, mix_hash: B256::repeat_byte(1), parent_beacon_block_root: Some(B256::repeat_byte(2)) }
    }

    fn l1() -> L1Attributes {
        let mut data = vec![0x3d, 0xb6, 0xbe, 0x2b];
        data.resize(178, 0);
        L1Attributes::read(&data, OpFork::Jovian).unwrap()
    }

    fn first(l1: &L1Attributes) -> FirstTransaction {
        let BlockTx::Deposit(deposit) = l1.deposit() else { panic!("a deposit") };
        FirstTransaction { hash: l1.deposit().hash(), input: deposit.tx().input.clone() }
    }

    #[test]
    fn while_the_origin_stays_only_the_sequence_number_moves() {
        let basis = predicted(&header(), &first(&l1()), &parent(), 102, OpFork::Jovian).unwrap();
        let expected = NextBlock {
            timestamp: 102,
            gas_limit: 30_000_000,
            beneficiary: SEQUENCER_FEE_VAULT,
            prev_randao: B256::repeat_byte(1),
            parent_beacon_block_root: Some(B256::repeat_byte(2)),
            extra_data: extra(),
            ..NextBlock::default()
        };
        assert_eq!(basis.next, expected);
        assert_eq!(basis.forced, [l1().next().unwrap().deposit()]);
        let later = basis.after(104).unwrap();
        assert_eq!(later.next, NextBlock { timestamp: 104, ..expected });
        assert_eq!(later.forced, [l1().next().unwrap().next().unwrap().deposit()]);
    }

    #[test]
    fn a_parent_whose_deposit_is_made_otherwise_is_not_planned_on() {
        let strange = FirstTransaction { hash: B256::ZERO, ..first(&l1()) };
        let error = predicted(&header(), &strange, &parent(), 102, OpFork::Jovian).unwrap_err();
        assert!(error.starts_with("l1_attributes: "), "{error}");
        let error = predicted(&header(), &first(&l1()), &parent(), 102, OpFork::Isthmus).unwrap_err();
        assert!(error.contains("are not those of Isthmus"), "{error}");
    }

    fn said(change: impl FnOnce(&mut Value)) -> Result<Basis, String> {
        let forced = [l1().deposit().raw().clone(), l1().next().unwrap().deposit().raw().clone()];
        let mut attributes = json!({
            "timestamp": "0x66",
            "prevRandao": B256::repeat_byte(3),
            "suggestedFeeRecipient": SEQUENCER_FEE_VAULT,
            "withdrawals": [],
            "parentBeaconBlockRoot": B256::repeat_byte(4),
            "transactions": forced,
            "gasLimit": "0x2faf080",
            "eip1559Params": "0x0000006400000002",
            "minBaseFee": 7,
        });
        change(&mut attributes);
        let said = LastAttributes { parent_hash: PARENT, timestamp: U64::from(102), payload_id: B64::ZERO, attributes };
        said_by_driver(said, &parent(), OpFork::Jovian)
    }

    #[test]
    fn what_the_driver_said_counts_before_any_prediction() {
        let basis = said(|_| {}).unwrap();
        assert_eq!(basis.next.gas_limit, 50_000_000);
        assert_eq!(basis.next.prev_randao, B256::repeat_byte(3));
        assert_eq!(basis.next.parent_beacon_block_root, Some(B256::repeat_byte(4)));
        assert_eq!(params(&basis.next.extra_data), (Some(B64::from([0, 0, 0, 100, 0, 0, 0, 2])), Some(U64::from(7))));
        assert_eq!(basis.forced.len(), 2, "deposits of users are forced too");
        assert_eq!(basis.after(104).unwrap().forced, [l1().next().unwrap().deposit()]);

        let constants = said(|attributes| attributes["eip1559Params"] = json!(B64::ZERO)).unwrap();
        assert_eq!(params(&constants.next.extra_data), (params(&extra()).0, Some(U64::from(7))), "the fee is still the driver's");
        let error = said(|attributes| attributes["noTxPool"] = json!(true)).unwrap_err();
        assert!(error.starts_with("only_deposits"), "{error}");
        let error = said(|attributes| attributes["transactions"] = json!([])).unwrap_err();
        assert!(error.starts_with("driver_attributes"), "{error}");
    }
}

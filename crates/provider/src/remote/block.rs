//! A whole block as a node answers it, and whether it is what it says it is.

use alloy_consensus::{Header, TxEnvelope, proofs::calculate_withdrawals_root};
use alloy_eips::{eip2718::Encodable2718, eip4895::Withdrawal};
use alloy_primitives::{Address, B256, Bytes, ChainId, TxKind, U64, U128, U256, keccak256};
use alloy_trie::root::ordered_trie_root_with_encoder;
use lockstep_simulation::{BlockContext, BlockTx, ForkSchedule, NextBlock, ParentBlock};
use op_alloy::consensus::TxDeposit;
use serde::Deserialize;
use serde_json::Value as Json;

use super::answers::BlockAnswer;

/// The type of OP-stack deposits.
const DEPOSIT: &str = "0x7e";

/// Why a block cannot be executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// It contradicts itself: the node lies.
    Contradicts(String),
    /// It holds something that is not known here.
    Unknown(String),
}

/// A block with its transactions.
#[derive(Clone, Debug)]
pub(super) struct FullBlock {
    pub(super) answer: BlockAnswer,
    /// The whole header; `None` when the node leaves fields of it out, so that its hash cannot be computed.
    header: Option<Header>,
    /// As the node tells them.
    transactions: Vec<Json>,
    withdrawals: Vec<Withdrawal>,
}

impl FullBlock {
    /// Reads what `eth_getBlockByHash` answers when it is asked for whole transactions.
    ///
    /// # Errors
    /// With what is wrong with it.
    pub(super) fn read(mut answer: Json) -> Result<Self, String> {
        let Some(Json::Array(transactions)) = answer.get_mut("transactions").map(Json::take) else {
            return Err("a block without a list of transactions".into());
        };
        let hashes = transactions.iter().map(|tx| match tx {
            Json::String(_) => tx.clone(),
            whole => whole.get("hash").cloned().unwrap_or_default(),
        });
        let hashes = Json::Array(hashes.collect());
        if let Some(place) = answer.get_mut("transactions") {
            *place = hashes;
        }
        let withdrawals = match answer.get_mut("withdrawals").map(Json::take) {
            None | Some(Json::Null) => Vec::new(),
            Some(list) => serde_json::from_value(list).map_err(|error| format!("its withdrawals cannot be read: {error}"))?,
        };
        let header = serde_json::from_value::<Header>(answer.clone()).ok();
        let answer = serde_json::from_value(answer).map_err(|error| format!("a block that cannot be read: {error}"))?;
        Ok(Self { answer, header, transactions, withdrawals })
    }

    /// Checks that this is the block with that hash, as far as its header is whole.
    ///
    /// # Errors
    /// With what contradicts it.
    pub(super) fn check(&self, hash: B256) -> Result<(), String> {
        let (number, told) = (self.answer.number(), self.answer.hash);
        if told != hash {
            return Err(format!("asked for block {hash}, it answers {told}"));
        }
        match self.header.as_ref().map(Header::hash_slow) {
            Some(computed) if computed != hash => {
                Err(format!("the header of block {number} has the hash {computed}, and is said to have {hash}"))
            }
            _ => Ok(()),
        }
    }

    /// The header, when it is whole.
    pub(super) const fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// The environment that the block was executed in: what its header says, whatever the rules would have made of its parent.
    ///
    /// # Errors
    /// When no known rules hold, or the header is not whole.
    pub(super) fn context(&self, chain: ChainId, forks: &ForkSchedule, parent: &ParentBlock) -> Result<BlockContext, Unusable> {
        let header = self.header.as_ref().ok_or_else(|| Unusable::Unknown("its header is not whole".into()))?;
        let next = NextBlock {
            timestamp: header.timestamp,
            gas_limit: header.gas_limit,
            beneficiary: header.beneficiary,
            prev_randao: header.mix_hash,
            parent_beacon_block_root: header.parent_beacon_block_root,
            extra_data: header.extra_data.clone(),
            ..NextBlock::default()
        };
        let mut context =
            BlockContext::next(chain, forks, parent, &next).map_err(|error| Unusable::Unknown(error.to_string()))?;
        context.base_fee = header.base_fee_per_gas.ok_or_else(|| Unusable::Unknown("it has no base fee".into()))?;
        if context.excess_blob_gas.is_some() {
            context.excess_blob_gas = header.excess_blob_gas;
        }
        // What is in the block was let in.
        context.deposits_only = false;
        Ok(context)
    }

    /// Its transactions, checked against the root in the header. Recovers their signers, so it takes a while.
    ///
    /// # Errors
    /// When they are not those of the header, or of a kind that is not known.
    pub(super) fn transactions(&self) -> Result<Vec<BlockTx>, Unusable> {
        let header = self.header.as_ref().ok_or_else(|| Unusable::Unknown("its header is not whole".into()))?;
        let mut raws = Vec::with_capacity(self.transactions.len());
        let mut understood = true;
        for (index, (tx, told)) in self.transactions.iter().zip(&self.answer.transactions).enumerate() {
            let raw = encode(tx).map_err(|cause| Unusable::Unknown(format!("transaction {index}: {cause}")))?;
            understood &= keccak256(&raw) == *told;
            raws.push(raw);
        }
        let root = ordered_trie_root_with_encoder(&raws, |raw: &Bytes, out| out.extend_from_slice(raw));
        if root != header.transactions_root {
            let cause = format!("the transactions of block {} have another root than its header says", header.number);
            // When a transaction's own hash cannot be reproduced, it is more likely that its kind is not known here.
            return Err(if understood { Unusable::Contradicts(cause) } else { Unusable::Unknown(cause) });
        }
        let decoded = raws
            .into_iter()
            .enumerate()
            .map(|(index, raw)| BlockTx::decode(raw).map_err(|error| Unusable::Unknown(format!("transaction {index}: {error}"))));
        decoded.collect()
    }

    /// What its withdrawals credit, in wei, checked against the root in the header where that is theirs.
    ///
    /// # Errors
    /// When they are not those of the header.
    pub(super) fn withdrawals(&self, op_stack: bool) -> Result<Vec<(Address, U256)>, Unusable> {
        // The OP stack has no withdrawals of this kind, and commits to something else in their place from Isthmus on.
        let root = self.header.as_ref().and_then(|header| header.withdrawals_root).filter(|_| !op_stack);
        if root.is_some_and(|root| root != calculate_withdrawals_root(&self.withdrawals)) {
            let number = self.answer.number();
            return Err(Unusable::Contradicts(format!(
                "the withdrawals of block {number} have another root than its header says"
            )));
        }
        Ok(self.withdrawals.iter().map(|withdrawal| (withdrawal.address, withdrawal.amount_wei())).collect())
    }
}

/// A deposit as nodes tell it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DepositAnswer {
    source_hash: B256,
    from: Address,
    to: Option<Address>,
    mint: Option<U128>,
    value: U256,
    gas: U64,
    /// A boolean, or a number where it is left to a library; absent for false.
    #[serde(default)]
    is_system_tx: Json,
    input: Bytes,
}

/// The EIP-2718 bytes of a transaction that is told as an object.
pub(crate) fn encode(tx: &Json) -> Result<Bytes, String> {
    let unreadable = |error: serde_json::Error| error.to_string();
    if tx.get("type").and_then(Json::as_str) != Some(DEPOSIT) {
        let tx: TxEnvelope = serde_json::from_value(tx.clone()).map_err(unreadable)?;
        return Ok(tx.encoded_2718().into());
    }
    let told: DepositAnswer = serde_json::from_value(tx.clone()).map_err(unreadable)?;
    let deposit = TxDeposit {
        source_hash: told.source_hash,
        from: told.from,
        to: told.to.map_or(TxKind::Create, TxKind::Call),
        mint: told.mint.unwrap_or_default().to(),
        value: told.value,
        gas_limit: told.gas.to(),
        is_system_transaction: matches!(&told.is_system_tx, Json::Bool(true)) || told.is_system_tx == "0x1",
        input: told.input,
    };
    Ok(deposit.encoded_2718().into())
}

#[cfg(test)]
mod tests {
    use alloy_consensus::{SignableTransaction, TxEip1559};
    use alloy_primitives::Signature;
    use lockstep_simulation::{OpFork, Rules};
    use serde_json::json;

    use super::*;
    use crate::remote::dev;

    fn payment() -> TxEnvelope {
        let tx = TxEip1559 { chain_id: 901, gas_limit: 21_000, max_fee_per_gas: 7, value: U256::from(5), ..TxEip1559::default() };
        TxEnvelope::Eip1559(tx.into_signed(Signature::new(U256::from(1), U256::from(2), false)))
    }

    fn deposit() -> TxDeposit {
        TxDeposit { source_hash: B256::repeat_byte(1), gas_limit: 1_000_000, mint: 9, ..TxDeposit::default() }
    }

    fn told(change: impl FnOnce(&mut Json)) -> (Json, B256) {
        let (payment, deposit) = (payment(), deposit());
        let raws = [deposit.encoded_2718(), payment.encoded_2718()];
        let header = Header {
            number: 7,
            base_fee_per_gas: Some(7),
            transactions_root: ordered_trie_root_with_encoder(&raws, |raw: &Vec<u8>, out| out.extend_from_slice(raw)),
            ..Header::default()
        };
        let hash = header.hash_slow();
        let mut payment = serde_json::to_value(&payment).unwrap();
        payment["hash"] = json!(keccak256(&raws[1]));
        let deposit = json!({
            "type": "0x7e", "hash": keccak256(&raws[0]), "sourceHash": deposit.source_hash, "from": deposit.from,
            "to": null, "mint": "0x9", "value": "0x0", "gas": "0xf4240", "isSystemTx": false, "input": "0x",
        });
        let mut answer = serde_json::to_value(&header).unwrap();
        answer["hash"] = json!(hash);
        answer["transactions"] = json!([deposit, payment]);
        change(&mut answer);
        (answer, hash)
    }

    #[test]
    fn a_block_is_what_its_header_says() {
        let (answer, hash) = told(|_| {});
        let block = FullBlock::read(answer).unwrap();
        assert_eq!(block.check(hash), Ok(()));
        assert!(block.check(B256::ZERO).unwrap_err().contains("it answers"));
        let raws: Vec<Bytes> = block.transactions.iter().map(|tx| encode(tx).unwrap()).collect();
        assert_eq!(raws, [Bytes::from(deposit().encoded_2718()), Bytes::from(payment().encoded_2718())]);
        assert_eq!(block.answer.transactions, raws.iter().map(keccak256).collect::<Vec<_>>());
    }

    #[test]
    fn a_changed_header_is_found_out() {
        let (answer, hash) = told(|answer| answer["receiptsRoot"] = json!(B256::repeat_byte(7)));
        let error = FullBlock::read(answer).unwrap().check(hash).unwrap_err();
        assert!(error.contains("is said to have"), "{error}");
    }

    #[test]
    fn a_list_of_other_transactions_is_found_out() {
        let (answer, hash) = told(|answer| drop(answer["transactions"].as_array_mut().unwrap().remove(0)));
        let block = FullBlock::read(answer).unwrap();
        assert_eq!(block.check(hash), Ok(()), "the header alone is right");
        assert!(matches!(block.transactions(), Err(Unusable::Contradicts(_))));
    }

    #[test]
    fn an_unknown_kind_of_transaction_is_no_lie() {
        let (answer, _) = told(|answer| answer["transactions"][0]["type"] = json!("0x64"));
        assert!(matches!(FullBlock::read(answer).unwrap().transactions(), Err(Unusable::Unknown(_))));
    }

    #[test]
    fn a_header_with_fields_left_out_cannot_be_checked() {
        let (answer, hash) = told(|answer| drop(answer.as_object_mut().unwrap().remove("stateRoot")));
        let block = FullBlock::read(answer).unwrap();
        assert_eq!(block.check(hash), Ok(()));
        assert!(block.header().is_none());
        assert!(matches!(block.transactions(), Err(Unusable::Unknown(_))));
    }

    #[test]
    fn a_block_that_activates_a_fork_may_hold_what_it_holds() {
        let (answer, _) = told(|answer| {
            answer["timestamp"] = json!("0x64");
            answer["parentBeaconBlockRoot"] = json!(B256::ZERO);
        });
        let forks = ForkSchedule::OpStack(vec![(0, OpFork::Isthmus), (100, OpFork::Jovian)]);
        let extra_data = dev::extra_data(Rules::OpStack(OpFork::Isthmus));
        let parent = ParentBlock { number: 6, timestamp: 98, gas_limit: 30_000_000, extra_data, ..ParentBlock::default() };
        let context = FullBlock::read(answer).unwrap().context(901, &forks, &parent).unwrap();
        assert_eq!((context.rules, context.deposits_only), (Rules::OpStack(OpFork::Jovian), false));
    }

    #[test]
    fn withdrawals_are_checked_where_the_header_commits_to_them() {
        let (answer, _) = told(|answer| {
            answer["withdrawalsRoot"] = json!(alloy_trie::EMPTY_ROOT_HASH);
            answer["withdrawals"] =
                json!([{ "index": "0x1", "validatorIndex": "0x2", "address": Address::ZERO, "amount": "0x3" }]);
        });
        let block = FullBlock::read(answer).unwrap();
        assert!(matches!(block.withdrawals(false), Err(Unusable::Contradicts(_))));
        let three_gwei = U256::from(3_000_000_000_u64);
        assert_eq!(block.withdrawals(true), Ok(vec![(Address::ZERO, three_gwei)]));
    }
}

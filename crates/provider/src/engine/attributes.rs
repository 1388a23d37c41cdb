//! Payload attributes as an OP-stack driver sends them.
//!
//! Source: OP-stack specification, "L2 Execution Engine", extended PayloadAttributesV1 to V3.

use alloy_primitives::{Address, B64, B256, Bytes, U64};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    error::Refusal,
    wire::{CommitList, PlannedAttributes},
};

/// Everything that is known to be in attributes. What else a later fork brings could change the block, so no list is put into
/// attributes that hold more.
const KNOWN: [&str; 10] = [
    "timestamp",
    "prevRandao",
    "suggestedFeeRecipient",
    "withdrawals",
    "parentBeaconBlockRoot",
    "transactions",
    "noTxPool",
    "gasLimit",
    "eip1559Params",
    "minBaseFee",
];

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    /// Numbers are quantities, but drivers send `minBaseFee` as a plain number: both are read.
    timestamp: U64,
    prev_randao: B256,
    suggested_fee_recipient: Address,
    withdrawals: Option<Vec<Value>>,
    parent_beacon_block_root: Option<B256>,
    transactions: Option<Vec<Bytes>>,
    no_tx_pool: Option<bool>,
    gas_limit: Option<U64>,
    #[serde(rename = "eip1559Params")]
    eip_1559_params: Option<B64>,
    min_base_fee: Option<U64>,
}

/// Payload attributes: what was sent, and what it means.
#[derive(Clone, Debug)]
pub(super) struct Attributes {
    sent: Map<String, Value>,
    fields: Fields,
}

impl Attributes {
    /// Reads attributes; `None` when they are none that this version could do anything with.
    pub(super) fn read(value: Value) -> Option<Self> {
        let Value::Object(sent) = value else { return None };
        let fields = Fields::deserialize(&Value::Object(sent.clone())).ok()?;
        Some(Self { sent, fields })
    }

    /// As the driver sent them.
    pub(super) fn sent(&self) -> Value {
        Value::Object(self.sent.clone())
    }

    /// In seconds.
    pub(super) fn timestamp(&self) -> u64 {
        self.fields.timestamp.to()
    }

    /// The forced transactions.
    pub(super) fn forced(&self) -> &[Bytes] {
        self.fields.transactions.as_deref().unwrap_or_default()
    }

    /// Whether the driver leaves the block to its transactions.
    pub(super) fn only_deposits(&self) -> bool {
        self.fields.no_tx_pool == Some(true)
    }

    /// What the driver fixes; `None` without a gas limit, which every rollup has to send.
    pub(super) fn planned(&self) -> Option<PlannedAttributes> {
        let fields = &self.fields;
        Some(PlannedAttributes {
            gas_limit: fields.gas_limit?,
            prev_randao: fields.prev_randao,
            suggested_fee_recipient: fields.suggested_fee_recipient,
            parent_beacon_block_root: fields.parent_beacon_block_root,
            eip_1559_params: fields.eip_1559_params,
            min_base_fee: fields.min_base_fee,
        })
    }

    /// Checks that a list was built on these attributes.
    pub(super) fn fits(&self, list: &CommitList) -> Result<(), Refusal> {
        if let Some(name) = self.sent.keys().find(|name| !KNOWN.contains(&name.as_str())) {
            return Err(Refusal::UnknownAttribute(name.clone()));
        }
        if self.only_deposits() {
            return Err(Refusal::OnlyDeposits);
        }
        if self.fields.withdrawals.as_ref().is_some_and(|withdrawals| !withdrawals.is_empty()) {
            return Err(Refusal::Attribute("withdrawals"));
        }
        let driver = self.planned().ok_or(Refusal::Attribute("gasLimit"))?;
        let listed = &list.attributes;
        let differences = [
            ("gasLimit", driver.gas_limit != listed.gas_limit),
            ("prevRandao", driver.prev_randao != listed.prev_randao),
            ("suggestedFeeRecipient", driver.suggested_fee_recipient != listed.suggested_fee_recipient),
            ("parentBeaconBlockRoot", driver.parent_beacon_block_root != listed.parent_beacon_block_root),
            ("eip1559Params", !same_params(driver.eip_1559_params, listed.eip_1559_params)),
            ("minBaseFee", driver.min_base_fee != listed.min_base_fee),
        ];
        if let Some((name, _)) = differences.into_iter().find(|(_, differs)| *differs) {
            return Err(Refusal::Attribute(name));
        }
        let (driver, listed) = (self.forced(), list.forced_prefix.as_slice());
        if driver != listed {
            let index = driver.iter().zip(listed).take_while(|(driver, listed)| driver == listed).count();
            return Err(Refusal::ForcedPrefix { driver: driver.len(), listed: listed.len(), index });
        }
        Ok(())
    }

    /// The same attributes for a block of the forced transactions, the list, and nothing else.
    pub(super) fn with_list(&self, transactions: &[Bytes]) -> Value {
        let mut attributes = self.sent.clone();
        let all: Vec<&Bytes> = self.forced().iter().chain(transactions).collect();
        attributes.insert("transactions".into(), json!(all));
        attributes.insert("noTxPool".into(), Value::Bool(true));
        Value::Object(attributes)
    }
}

/// Eight zero bytes stand for the chain's constants, which only the execution client knows. Whether they are those that the
/// list was built on is seen in the payload's extraData.
fn same_params(driver: Option<B64>, listed: Option<B64>) -> bool {
    driver == listed || (driver == Some(B64::ZERO) && listed.is_some())
}

/// The extraData that a block with those attributes has; `None` when they leave it to the execution client.
pub(super) fn extra_data(planned: &PlannedAttributes) -> Option<Bytes> {
    let params = planned.eip_1559_params.filter(|params| !params.is_zero())?;
    let mut bytes = vec![u8::from(planned.min_base_fee.is_some())];
    bytes.extend_from_slice(params.as_slice());
    if let Some(fee) = planned.min_base_fee {
        bytes.extend_from_slice(&fee.to::<u64>().to_be_bytes());
    }
    Some(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent() -> Value {
        json!({
            "timestamp": "0x64",
            "prevRandao": B256::repeat_byte(1),
            "suggestedFeeRecipient": Address::repeat_byte(2),
            "withdrawals": [],
            "parentBeaconBlockRoot": B256::repeat_byte(3),
            "transactions": ["0x7e01"],
            "noTxPool": false,
            "gasLimit": "0x1c9c380",
            "eip1559Params": "0x000000fa00000006",
            "minBaseFee": 1000,
        })
    }

    fn list(attributes: &Attributes) -> CommitList {
        CommitList {
            parent_hash: B256::ZERO,
            timestamp: U64::from(100),
            number: U64::from(7),
            forced_prefix: attributes.forced().to_vec(),
            attributes: attributes.planned().unwrap(),
            transactions: vec![Bytes::from_static(&[2, 9])],
            expires_ms: 0,
        }
    }

    #[test]
    fn every_attribute_that_differs_is_named() {
        let list = list(&Attributes::read(sent()).unwrap());
        let fits = |name: &str, value: Value| {
            let mut sent = sent();
            sent[name] = value;
            Attributes::read(sent).unwrap().fits(&list)
        };
        assert_eq!(fits("noTxPool", json!(false)), Ok(()));
        assert_eq!(fits("noTxPool", json!(true)), Err(Refusal::OnlyDeposits));
        assert_eq!(fits("slotNumber", json!("0x1")), Err(Refusal::UnknownAttribute("slotNumber".into())));
        for (name, value) in [
            ("gasLimit", json!("0x1")),
            ("gasLimit", Value::Null),
            ("prevRandao", json!(B256::ZERO)),
            ("suggestedFeeRecipient", json!(Address::ZERO)),
            ("parentBeaconBlockRoot", Value::Null),
            ("eip1559Params", json!("0x000000fa00000007")),
            ("minBaseFee", json!("0x3e9")),
            ("withdrawals", json!([{}])),
        ] {
            let Err(Refusal::Attribute(named)) = fits(name, value) else { panic!("{name} was not noticed") };
            assert_eq!(named, name);
        }
        let prefix = |driver, index| Err(Refusal::ForcedPrefix { driver, listed: 1, index });
        assert_eq!(fits("transactions", json!(["0x7e02"])), prefix(1, 0));
        assert_eq!(fits("transactions", json!(["0x7e01", "0x7e02"])), prefix(2, 1));
        assert_eq!(fits("transactions", json!([])), prefix(0, 0));
    }

    #[test]
    fn the_chains_own_parameters_are_left_to_the_payload() {
        let mut sent = sent();
        let list = list(&Attributes::read(sent.clone()).unwrap());
        sent["eip1559Params"] = json!(B64::ZERO);
        assert_eq!(Attributes::read(sent).unwrap().fits(&list), Ok(()));
        let expected: Bytes = [&[1, 0, 0, 0, 250, 0, 0, 0, 6][..], &1_000_u64.to_be_bytes()].concat().into();
        assert_eq!(extra_data(&list.attributes), Some(expected));
    }

    #[test]
    fn a_list_changes_two_attributes_and_no_other() {
        let attributes = Attributes::read(sent()).unwrap();
        let mut expected = sent();
        expected["transactions"] = json!(["0x7e01", "0x0209"]);
        expected["noTxPool"] = json!(true);
        assert_eq!(attributes.with_list(&[Bytes::from_static(&[2, 9])]), expected);
    }
}

//! Bids and results as the solver of Espresso's marketplace has them in JSON.

use alloy_primitives::{Address, B256, Bytes, U256};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// An amount as a decimal string. Integers and hexadecimal strings are taken, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeeAmount(pub U256);

impl Serialize for FeeAmount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for FeeAmount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Integer(u64),
            Text(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Integer(amount) => Ok(Self(U256::from(amount))),
            Form::Text(text) => {
                let (digits, radix) = text.strip_prefix("0x").map_or((text.as_str(), 10), |digits| (digits, 16));
                // Anything but digits, as a sign or a unit, is not guessed at.
                let plain = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
                let amount = plain.then(|| U256::from_str_radix(digits, u64::from(radix)).ok()).flatten();
                amount.map(Self).ok_or_else(|| D::Error::custom(format!("{text:?} is no amount in wei")))
            }
        }
    }
}

/// An ECDSA signature by its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EcdsaParts {
    /// The first half.
    pub r: U256,
    /// The second half.
    pub s: U256,
    /// 27 or 28, or 0 or 1, as a number or hexadecimal.
    #[serde(deserialize_with = "parity")]
    pub v: u8,
}

fn parity<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    let FeeAmount(v) = FeeAmount::deserialize(deserializer)?;
    match u8::try_from(v) {
        Ok(v @ (0 | 1)) => Ok(v + 27),
        Ok(v @ (27 | 28)) => Ok(v),
        _ => Err(D::Error::custom("v is 27 or 28, or 0 or 1")),
    }
}

impl EcdsaParts {
    /// 65 bytes r || s || v.
    pub fn bytes(&self) -> Bytes {
        [self.r.to_be_bytes::<32>().as_slice(), &self.s.to_be_bytes::<32>(), &[self.v]].concat().into()
    }

    /// Of 65 bytes r || s || v; `None` for others.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let (r, rest) = bytes.split_at_checked(32)?;
        let (s, v) = rest.split_at_checked(32)?;
        let [v] = v else { return None };
        Some(Self { r: U256::from_be_slice(r), s: U256::from_be_slice(s), v: *v })
    }
}

/// What is bid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BidTxBodyWire {
    /// Who pays.
    pub account: Address,
    /// What is paid for sequencing.
    pub gas_price: FeeAmount,
    /// What is bid beside that.
    pub bid_amount: FeeAmount,
    /// Where the bidder is reached.
    pub url: String,
    /// The slot.
    pub view: u64,
    /// The rollups.
    pub namespaces: Vec<u64>,
}

/// A signed bid (`BidTx`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BidTxWire {
    /// What is bid.
    pub body: BidTxBodyWire,
    /// The account's.
    pub signature: EcdsaParts,
}

/// What became of a view (`SolverAuctionResults`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SolverAuctionResultsWire {
    /// The slot.
    pub view_number: u64,
    /// The bids of this kind that won.
    pub winning_bids: Vec<BidTxWire>,
    /// Rollups that nobody bought, and where their default proposers are reached.
    pub reserve_bids: Vec<(u64, String)>,
}

/// A rollup, as `rollup_registrations` tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollupRegistrationWire {
    /// What is registered.
    pub body: RollupRegistrationBodyWire,
    /// EIP-712 digest of the terms of sale that it stands for, and whose signature they carry.
    pub signature: B256,
}

/// The body of a [`RollupRegistrationWire`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollupRegistrationBodyWire {
    /// The rollup.
    pub namespace_id: u64,
    /// Where its sequencer is reached.
    pub reserve_url: Option<String>,
    /// Its reserve in the slot that is open.
    pub reserve_price: FeeAmount,
    /// Whether it sells.
    pub active: bool,
    /// The keys that speak for it.
    pub signature_keys: Vec<Address>,
    /// The key that signed.
    pub signature_key: Address,
    /// For people.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_signatures_come_in_the_forms_that_there_are() {
        let amount = |json: &str| serde_json::from_str::<FeeAmount>(json).ok().map(|amount| amount.0.to::<u64>());
        assert_eq!([amount("7"), amount("\"7\""), amount("\"0x1f\"")], [Some(7), Some(7), Some(31)]);
        assert_eq!([amount("\"\""), amount("\"0x\""), amount("\"1 gwei\""), amount("-1"), amount("\"+1\"")], [None; 5]);
        let parts = |v: &str| serde_json::from_str::<EcdsaParts>(&format!(r#"{{"r":"0x1","s":"0x2","v":{v}}}"#)).ok();
        assert_eq!([parts("27"), parts("0"), parts("\"0x1b\"")].map(|parts| parts.map(|parts| parts.v)), [Some(27); 3]);
        assert_eq!((parts("2"), parts("\"x\"")), (None, None));
        let whole = parts("28").unwrap();
        assert_eq!(EcdsaParts::new(&whole.bytes()), Some(whole));
        assert_eq!(EcdsaParts::new(&[0; 64]), None);
    }
}

//! What leaves a network, what comes in, and how both are named.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_sol_types::SolEvent;
use lockstep_primitives::Reason;

use super::{
    NAME,
    abi::{BridgeEvent, ClaimEvent},
};

/// Ethereum's network.
pub const MAINNET: u32 = 0;

/// A token: its own network, and its address there.
pub type Token = (u32, Address);

/// Ether. Whatever is worth something in a message is ether, wherever it comes from.
pub const ETHER: Token = (MAINNET, Address::ZERO);

/// Bit 64 of a global index.
const MAINNET_FLAG: U256 = U256::from_limbs([0, 1, 0, 0]);

/// What a leaf of an exit tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeafType {
    /// A token that moves.
    Asset,
    /// A call, with ether.
    Message,
}

/// What left a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// What it is.
    pub leaf_type: LeafType,
    /// The network of the token, or of who sent the message.
    pub origin_network: u32,
    /// The token on its own network, or who sent the message.
    pub origin_address: Address,
    /// Where it goes.
    pub destination_network: u32,
    /// Whom it goes to.
    pub destination_address: Address,
    /// In the token's smallest unit; wei of a message.
    pub amount: U256,
    /// What a wrapped token is called, or what the message says.
    pub metadata: Bytes,
    /// Index in the exit tree of the network that it leaves: that bridge's deposit count before it.
    pub leaf_index: u32,
}

impl Exit {
    /// Reads the data of a `BridgeEvent`; it has no indexed arguments.
    ///
    /// # Errors
    /// When it is none, or the leaf is neither an asset nor a message.
    pub fn decode(data: &[u8]) -> Result<Self, Reason> {
        let event = BridgeEvent::decode_raw_log_validate([BridgeEvent::SIGNATURE_HASH], data)
            .map_err(|error| Reason::MalformedMessage(error.to_string()))?;
        let leaf_type = match event.leafType {
            0 => LeafType::Asset,
            1 => LeafType::Message,
            other => return Err(Reason::MalformedMessage(format!("leaf type {other} is neither asset (0) nor message (1)"))),
        };
        Ok(Self {
            leaf_type,
            origin_network: event.originNetwork,
            origin_address: event.originAddress,
            destination_network: event.destinationNetwork,
            destination_address: event.destinationAddress,
            amount: event.amount,
            metadata: event.metadata,
            leaf_index: event.depositCount,
        })
    }

    /// The leaf: keccak-256 of 113 packed bytes, in which the metadata is hashed already.
    pub fn leaf(&self) -> B256 {
        let leaf_type = match self.leaf_type {
            LeafType::Asset => 0_u8,
            LeafType::Message => 1,
        };
        let mut bytes = vec![leaf_type];
        bytes.extend_from_slice(&self.origin_network.to_be_bytes());
        bytes.extend_from_slice(self.origin_address.as_slice());
        bytes.extend_from_slice(&self.destination_network.to_be_bytes());
        bytes.extend_from_slice(self.destination_address.as_slice());
        bytes.extend_from_slice(&self.amount.to_be_bytes::<32>());
        bytes.extend_from_slice(keccak256(&self.metadata).as_slice());
        keccak256(bytes)
    }

    /// What it takes with it.
    pub const fn token(&self) -> Token {
        match self.leaf_type {
            LeafType::Asset => (self.origin_network, self.origin_address),
            LeafType::Message => ETHER,
        }
    }
}

/// The name of a leaf on every network: which network it leaves, and its index there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GlobalIndex {
    /// The network that it leaves.
    pub network: u32,
    /// Its index in that network's exit tree.
    pub leaf_index: u32,
}

impl GlobalIndex {
    /// As claims carry it: the leaf's index in bits 0 to 31; the network less 1 in bits 32 to 63, or for Ethereum bit 64.
    pub fn encode(self) -> U256 {
        match self.network.checked_sub(1) {
            None => MAINNET_FLAG | U256::from(self.leaf_index),
            Some(rollup) => U256::from((u64::from(rollup) << 32) | u64::from(self.leaf_index)),
        }
    }

    /// Reads what [`GlobalIndex::encode`] writes; `None` for everything else, which bridges refuse too.
    pub fn decode(index: U256) -> Option<Self> {
        let [low, ..] = *index.as_limbs();
        let network = if index.bit(64) { MAINNET } else { u32::try_from(low >> 32).ok()?.checked_add(1)? };
        let decoded = Self { network, leaf_index: u32::try_from(low & u64::from(u32::MAX)).ok()? };
        (decoded.encode() == index).then_some(decoded)
    }

    /// The message's id: no bridge takes a leaf twice.
    pub fn message_id(self) -> B256 {
        keccak256([NAME.as_bytes(), &self.network.to_be_bytes(), &self.leaf_index.to_be_bytes()].concat())
    }
}

/// What came to a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) index: GlobalIndex,
    pub(crate) origin_network: u32,
    pub(crate) origin_address: Address,
    pub(crate) amount: U256,
}

impl Claim {
    /// Reads the data of a `ClaimEvent`; it has no indexed arguments either.
    pub(crate) fn decode(data: &[u8]) -> Result<Self, Reason> {
        let event = ClaimEvent::decode_raw_log_validate([ClaimEvent::SIGNATURE_HASH], data)
            .map_err(|error| Reason::MalformedMessage(error.to_string()))?;
        let index = GlobalIndex::decode(event.globalIndex)
            .ok_or_else(|| Reason::MalformedMessage(format!("{:#x} is no global index", event.globalIndex)))?;
        Ok(Self { index, origin_network: event.originNetwork, origin_address: event.originAddress, amount: event.amount })
    }

    /// Whether it may be of that exit.
    pub(crate) fn is_of(&self, exit: &Exit) -> bool {
        self.index.leaf_index == exit.leaf_index
            && self.origin_network == exit.origin_network
            && self.origin_address == exit.origin_address
            && self.amount == exit.amount
    }

    /// What it brought, as far as the event alone tells; `None` when it may be one token or ether. The event has no leaf type,
    /// and names a token or the sender of a message. But who sends a message does so from the network that the leaf is of, so
    /// that anything else is a token; and nothing is sent from the zero address.
    pub(crate) fn token(&self) -> Option<Token> {
        let named = self.named();
        (named == ETHER || self.origin_network != self.index.network).then_some(named)
    }

    /// What it brought if it is an asset.
    pub(crate) const fn named(&self) -> Token {
        (self.origin_network, self.origin_address)
    }
}
